"""The handshake of a link: two processes prove to each other that they are replicas of this cluster, before any packet flows.

What it is not: it has no socket and no clock; `links.py` carries the frames and ends what takes too long.

The mac is an HMAC-SHA256 with the cluster's secret over the role and both Hellos byte for byte: it covers ids, incarnations, cluster and
both nonces, cannot be replayed (the nonces) and cannot be reflected (the role). The drawing stands in `links.py`.

Read next: `links.py`.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
import struct
import unicodedata
from collections.abc import Callable, Container
from typing import Annotated

import msgspec

WIRE_FORMAT = 3  # grows with any change of a packet or of the handshake
LENGTH = struct.Struct(">I")
NONCE_SIZE = 16
MAC_SIZE = 32
SECRET_SIZE = 32
ANY = -1  # instead of the replica that a certificate names: there are no certificates here
SURVIVOR = "survivor"  # the policy under which all replicas must share host and directory


class Identity(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """Who a process is. `directory` is (st_dev, st_ino) of the cluster's directory."""

    cluster: str
    replica: int
    inc: int
    config_hash: str
    policy: str
    version: str
    pid: int
    boot_id: str
    directory: tuple[int, int]


class Hello(msgspec.Struct, frozen=True, array_like=True, tag="understudy-hello"):
    """The first frame of both sides."""

    who: Identity
    nonce: Annotated[bytes, msgspec.Meta(min_length=NONCE_SIZE, max_length=NONCE_SIZE)]


class Proof(msgspec.Struct, frozen=True, array_like=True, tag="understudy-proof"):
    """The sender knows the secret, and saw these two Hellos."""

    mac: Annotated[bytes, msgspec.Meta(min_length=MAC_SIZE, max_length=MAC_SIZE)]


class Ready(msgspec.Struct, frozen=True, array_like=True, tag="understudy-ready"):
    """The dialler has accepted the acceptor; packets follow."""


_letters = msgspec.msgpack.Decoder(Hello | Proof | Ready)


class LinkRefused(Exception):
    """The other side is not who it should be; the text says why."""


class SecretRefused(Exception):
    """The cluster's secret cannot be used; the text tells the operator what to do."""


def wire_version(project: str) -> str:
    """What must be equal at both ends: names are compared by Unicode's tables, so their version counts too."""
    return f"{project}/unicode-{unicodedata.unidata_version}/wire-{WIRE_FORMAT}"


def boot_id() -> str:
    """Which boot of which kernel this is."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def load_secret(path: str) -> bytes:
    """The secret all replicas of this directory share; whoever comes first makes it. Raises SecretRefused or OSError."""
    try:
        return _read_secret(path)
    except FileNotFoundError:
        pass
    directory = os.path.dirname(path) or "."
    draft = f"{path}.{secrets.token_hex(8)}"
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(secrets.token_hex(SECRET_SIZE).encode() + b"\n")
            file.flush()
            os.fsync(fd)
        os.link(draft, path)
    except FileExistsError:
        pass  # another replica was first: its secret is the one
    finally:
        os.unlink(draft)
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    return _read_secret(path)


def _read_secret(path: str) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise SecretRefused(f"{path} cannot be read as a plain file of this user: {error.strerror}") from error
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise SecretRefused(f"{path} is not a plain file; remove it while all replicas are down")
        if status.st_uid != os.geteuid():
            raise SecretRefused(f"{path} belongs to another user (uid {status.st_uid}); run as that user or restore the directory")
        if status.st_mode & 0o077:
            raise SecretRefused(
                f"{path} may be read by others: chmod 600 it, or, if somebody may have read it, remove it while all replicas are down"
            )
        text = os.read(fd, 4 * SECRET_SIZE)
    finally:
        os.close(fd)
    secret = secret_in(text)
    if not secret:
        raise SecretRefused(f"{path} does not hold {2 * SECRET_SIZE} hexadecimal digits; remove it while all replicas are down")
    return secret


def secret_in(text: bytes) -> bytes:
    """The secret that stands in such a file; empty: none does."""
    try:
        secret = bytes.fromhex(text.decode("ascii").strip())
    except ValueError:
        return b""
    return secret if len(secret) == SECRET_SIZE else b""


class Handshake:
    """One side of the handshake: frames in, frames out, no socket.

    `dialled` is the replica that this side dialled; None at the acceptor. `certified` is the replica that the other side's certificate
    names, None for one that names none. Where there are certificates, `secret` is known to all who believe the same CA; what the proof then
    says is that both have heard the same two Hellos. `peer` is what the other side says; it is to be believed only
    once `is_done`. `holds_lock(replica, inc)` asks whether that replica's lock file is held and names this incarnation.
    """

    def __init__(
        self,
        me: Identity,
        secret: bytes,
        *,
        dialled: int | None,
        replicas: Container[int],
        nonce: bytes,
        holds_lock: Callable[[int, int], bool],
    ) -> None:
        assert len(secret) == SECRET_SIZE
        assert len(nonce) == NONCE_SIZE
        self.hello = msgspec.msgpack.encode(Hello(me, nonce))
        self.peer: Identity | None = None
        self.certified: int | None = ANY
        self._me, self._secret, self._dialled, self._replicas, self._holds_lock = me, secret, dialled, replicas, holds_lock
        self._heard = b""
        self._awaited: list[type[Hello | Proof | Ready]] = [Hello, Proof] if dialled is not None else [Hello, Proof, Ready]

    @property
    def is_done(self) -> bool:
        """Whether both sides have accepted each other."""
        return not self._awaited

    def take(self, frame: bytes) -> bytes:
        """The frame to send in answer, empty if there is none. Raises LinkRefused."""
        assert self._awaited
        try:
            letter = _letters.decode(frame)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise LinkRefused("it speaks something else than this handshake") from None
        if type(letter) is not self._awaited[0]:
            raise LinkRefused(f"{type(letter).__name__} came out of turn")
        answer = b""
        if isinstance(letter, Hello):
            self.peer, self._heard = letter.who, frame
            self._check(letter.who)
            if self._dialled is not None:
                answer = self._proof(is_mine=True)
        elif isinstance(letter, Proof):
            answer = self._take_proof(letter.mac)
        del self._awaited[0]  # only now: a refused letter leaves the handshake where it was
        return answer

    def _take_proof(self, mac: bytes) -> bytes:
        assert self.peer is not None
        wanted = _letters.decode(self._proof(is_mine=False))
        assert isinstance(wanted, Proof)
        if not hmac.compare_digest(wanted.mac, mac):
            raise LinkRefused(
                "its proof is wrong: it does not know this cluster's secret (data/cluster/secret, which must be the same on all hosts)"
            )
        # After the proof, so that no stranger makes us touch lock files.
        if not self._holds_lock(self.peer.replica, self.peer.inc):
            raise LinkRefused(f"replica {self.peer.replica}'s lock is not held by incarnation {self.peer.inc} here")
        return msgspec.msgpack.encode(Ready()) if self._dialled is not None else self._proof(is_mine=True)

    def _proof(self, *, is_mine: bool) -> bytes:
        is_dialler = (self._dialled is not None) == is_mine
        hellos = (self.hello, self._heard) if self._dialled is not None else (self._heard, self.hello)
        covered = [b"understudy link, dialler:" if is_dialler else b"understudy link, acceptor:"]
        covered += [LENGTH.pack(len(hello)) + hello for hello in hellos]
        return msgspec.msgpack.encode(Proof(hmac.digest(self._secret, b"".join(covered), hashlib.sha256)))

    def _check(self, peer: Identity) -> None:
        me = self._me
        if peer.cluster != me.cluster:
            raise LinkRefused(f"it belongs to another cluster, {peer.cluster!r}")
        if peer.replica == me.replica:
            raise LinkRefused("it uses this replica's own id")
        if self.certified not in (ANY, peer.replica):
            whose = "no replica of this cluster" if self.certified is None else f"replica {self.certified}"
            raise LinkRefused(f"it says that it is replica {peer.replica}, and its certificate is that of {whose}")
        if peer.replica not in self._replicas:
            raise LinkRefused(f"replica {peer.replica} is not configured here")
        if self._dialled is None and peer.replica < me.replica:
            raise LinkRefused(f"replica {peer.replica} dialled, but the higher id dials")
        if self._dialled is not None and peer.replica != self._dialled:
            raise LinkRefused(f"replica {peer.replica} answers in its place")
        if peer.version != me.version:
            raise LinkRefused(f"it runs version {peer.version}, this replica {me.version}")
        if (peer.policy, peer.config_hash) != (me.policy, me.config_hash):
            raise LinkRefused(f"its configuration differs in name, ids, peer addresses or policy (its policy is {peer.policy})")
        if me.policy == SURVIVOR and (peer.boot_id, peer.directory) != (me.boot_id, me.directory):
            where = "on another host" if peer.boot_id != me.boot_id else "with another --data directory"
            raise LinkRefused(
                f"it runs {where}, and under policy survivor all replicas share one host and one directory:"
                " start them there with the same --data, or use policy: majority"
            )
