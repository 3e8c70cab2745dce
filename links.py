"""Links between replicas: one authenticated connection per pair, over which packets go in order.

What it is not: it decides nothing about views and keeps no packet for later. A packet to a replica that is not linked is dropped, as a
network would drop it; who needs an answer asks again. Batches that came together are given as one packet (`together.py`).

The replica with the higher id dials the lower one, again and again: on one host by its UNIX socket, which costs less, and by its peer
address where nobody answers there. A frame is a 4-byte big-endian length and that many bytes; the length is checked before anything is
kept for it. The first frames are the handshake, later ones are packets:

    dialler                                      acceptor
       │ Hello (who I am, fresh nonce)   ──────►    │
       │    ◄──────   Hello (who I am, fresh nonce) │    each checks the other's identity
       │ Proof (mac, role dialler)       ──────►    │    … the mac, and that the peer's lock file names this incarnation
       │    ◄──────      Proof (mac, role acceptor) │
       │ Ready                           ──────►    │    the dialler is linked when it sends Ready, the acceptor when it reads it

Ready comes last so that neither side counts a link which the other is about to refuse. What the mac covers stands in `handshake.py`.
Whatever goes wrong closes the connection and is logged; nothing of it is applied. Between hosts TLS comes before all that, both sides
with a certificate that names its replica (`gate.py`, `credentials.py`).

    limit             why
    HANDSHAKE_MAX     a stranger may not make us keep more than this
    PACKET_MAX        nor a peer more than that
    HANDSHAKE_S       a handshake, or the rest of a frame that has begun, must come within it
    STRANGERS_MAX     connections that have not ended their handshake; the oldest makes room
    UNSENT_MAX        bytes a peer has not drained: it is cut rather than remembered

Invariants:
- `on_linked(r)` and `on_unlinked(r)` alternate for each replica; `on_packet(r)` comes only between them.
- No callback is called inside `send`: the caller may be in the middle of carrying out effects.

Read next: `link.py` (one of them), `packets.py` (what is sent).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import ssl
from collections.abc import Callable, Mapping
from typing import NamedTuple, cast

from credentials import Credentials
from gate import Gate, Newcomers, tls_words
from handshake import ANY, LENGTH, NONCE_SIZE, Handshake, Identity
from link import STRIKES, Link
from packets import PACKET_MAX, AnyPacket, Packet, encode

HANDSHAKE_S = 10.0  # seconds
STRANGERS_MAX = 64
DIAL_S = 3.0  # seconds until a host that does not answer is dialled again: a cable that is mended is noticed within as many
RETRY_S = (0.02, 0.05, 0.1)  # seconds between attempts to dial; the last one goes on for ever
REPEAT_S = 10.0  # seconds in which the same complaint about the same replica is not logged again
FLUSH_S = 1.0  # seconds a stop waits for what was already sent

Address = tuple[str, int]


class Complaint(NamedTuple):
    """What was last logged about a replica, and when it may be logged again."""

    reason: str
    until: float


class Links:
    """All links of this replica. `addresses` names every replica of the cluster, this one too: there it listens. So does `sockets`, if any.

    `on_linked(replica, inc)`, `on_unlinked(replica, reason)`, `on_packet(replica, packet)` are called from the loop, never inside `send`,
    and not after `stop` was called.
    """

    def __init__(
        self,
        me: Identity,
        addresses: Mapping[int, Address],
        secret: bytes,
        *,
        on_linked: Callable[[int, int], None],
        on_unlinked: Callable[[int, str], None],
        on_packet: Callable[[int, AnyPacket], None],
        holds_lock: Callable[[int, int], bool],
        log: Callable[[str], None],
        handshake_s: float = HANDSHAKE_S,
        credentials: Credentials | None = None,
        sockets: Mapping[int, str] | None = None,
    ) -> None:
        assert me.replica in addresses
        self.on_packet = on_packet
        self._me, self._addresses, self._secret, self._holds_lock = me, dict(addresses), secret, holds_lock
        self._on_linked, self._on_unlinked, self._log, self._handshake_s = on_linked, on_unlinked, log, handshake_s
        self._credentials, self._sockets = credentials, sockets or {}
        self._gate: Gate | None = None
        self._links: dict[int, Link] = {}
        self._strangers: dict[Link, None] = {}  # oldest first
        self._open: set[Link] = set()  # all whose transport is still there, cut ones too
        self._complaints: dict[int | None, Complaint] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._servers: list[asyncio.Server] = []
        self._is_stopped = False

    async def start(self) -> None:
        """Listen, and dial every lower id until `stop`. Raises OSError when the port is taken."""
        loop = asyncio.get_running_loop()
        host, port = self._addresses[self._me.replica]
        if self._credentials is None:
            self._servers.append(await loop.create_server(self._answer, host, port))
            if path := self._sockets.get(self._me.replica):
                with contextlib.suppress(OSError):  # no room, perhaps: then the others dial the port
                    self._servers.append(await loop.create_unix_server(self._answer, path))
                    os.chmod(path, 0o600)
        else:
            listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
            newcomers = Newcomers(STRANGERS_MAX, self._handshake_s)
            self._gate = Gate(listener, self._credentials.accepts, self._answer, self._refuse, newcomers)
        self._tasks = [asyncio.create_task(self._dial(replica)) for replica in sorted(self._addresses) if replica < self._me.replica]
        self._tasks.append(asyncio.create_task(self._look()))

    async def stop(self) -> None:
        """Close every link after what was sent has left, within FLUSH_S."""
        self._is_stopped = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._gate is not None:
            await self._gate.close()
        for server in self._servers:
            server.close()
        self._links.clear()
        self._strangers.clear()
        for link in self._open:
            link.close()
        if self._open:
            await asyncio.wait([link.gone for link in self._open], timeout=FLUSH_S)
        for link in self._open:
            link.abort()
        for server in self._servers:
            await server.wait_closed()

    def linked(self) -> dict[int, int]:
        """Incarnation of each replica that is linked now."""
        return {replica: link.peer.inc for replica, link in self._links.items()}

    def send(self, replicas: tuple[int, ...], packet: Packet) -> None:
        """Hand the packet to the kernel for each of these that is linked; it is encoded once."""
        frame = b""
        for replica in replicas:
            link = self._links.get(replica)
            if link is None:
                continue
            if not frame:
                body = encode(packet)
                assert len(body) <= PACKET_MAX, f"{type(packet).__name__} of {len(body)} bytes"
                frame = LENGTH.pack(len(body)) + body
            link.write(frame)

    def certified(self, transport: asyncio.BaseTransport) -> int | None:
        """The replica that the other side's certificate names; ANY where there are none."""
        if self._credentials is None:
            return ANY
        return self._credentials.replica_of(transport.get_extra_info("peercert"))

    def on_arrived(self, link: Link) -> None:
        """A connection is there; nobody knows whose."""
        self._open.add(link)
        if self._is_stopped:
            return link.cut("this replica stops")
        self._strangers[link] = None
        if len(self._strangers) > STRANGERS_MAX:
            next(iter(self._strangers)).cut("too many connections have not ended their handshake")
        return None

    def on_greeted(self, link: Link) -> None:
        """The link is up; it takes the place of an older one of the same replica, whose other end must have given it up."""
        peer = link.peer
        older = self._links.get(peer.replica)
        if older is not None and older.peer.inc > peer.inc:
            return link.cut(f"replica {peer.replica} is linked with a newer incarnation, {older.peer.inc}")
        if older is not None:
            older.cut("a newer link took its place")
        del self._strangers[link]
        link.replica = peer.replica
        self._links[peer.replica] = link
        self._complaints.pop(peer.replica, None)
        self._log(f"linked with replica {peer.replica}, incarnation {peer.inc}, process {peer.pid}")
        self._on_linked(peer.replica, peer.inc)
        return None

    def on_parted(self, link: Link, reason: str) -> None:
        """A link or a stranger's connection has ended."""
        self._strangers.pop(link, None)
        if self._is_stopped:
            return
        if link.replica is not None:
            assert self._links.pop(link.replica) is link
            self._log(f"link with replica {link.replica} lost: {reason}")
            self._on_unlinked(link.replica, reason)
        elif link.dialled is not None:
            self._complain(link.dialled, f"no link with replica {link.dialled}: {reason}")
        else:
            claimed = link.handshake.peer
            # An unproven id only chooses where the complaint is remembered; unknown ones share a place, so that places are few.
            about = claimed.replica if claimed is not None and claimed.replica in self._addresses else None
            whose = "a connection" if claimed is None else f"a connection as replica {claimed.replica}"
            self._complain(about, f"{whose} to the peer port was refused: {reason}")

    def on_gone(self, link: Link) -> None:
        """Nothing is left of the connection."""
        self._open.discard(link)

    def _refuse(self, why: str) -> None:
        self._complain(None, f"a connection to the peer port was refused: {why}")

    def _complain(self, about: int | None, reason: str) -> None:
        now = asyncio.get_running_loop().time()
        last = self._complaints.get(about)
        if last is None or last.reason != reason or now >= last.until:
            self._complaints[about] = Complaint(reason, now + REPEAT_S)
            self._log(reason)

    def _answer(self) -> asyncio.Protocol:
        return cast(asyncio.Protocol, self._new_link(None))

    def _new_link(self, dialled: int | None) -> Link:
        handshake = Handshake(
            self._me,
            self._secret,
            dialled=dialled,
            replicas=self._addresses,
            nonce=secrets.token_bytes(NONCE_SIZE),
            holds_lock=self._holds_lock,
        )
        return Link(self, handshake, dialled, asyncio.get_running_loop().create_future())

    async def _dial(self, replica: int) -> None:
        tries = 0
        while True:
            tries = 0 if await self._dial_once(replica) else tries + 1
            await asyncio.sleep(RETRY_S[min(tries, len(RETRY_S) - 1)])

    async def _dial_once(self, replica: int) -> bool:
        """One connection from its first to its last moment; whether it ever was a link."""
        host, port = self._addresses[replica]
        link = self._new_link(replica)
        protocol = cast(asyncio.Protocol, link)
        try:
            async with asyncio.timeout(min(DIAL_S, self._handshake_s)):
                if not await self._reach(protocol, self._sockets.get(replica)):
                    context = self._credentials.dials if self._credentials is not None else None
                    await asyncio.get_running_loop().create_connection(lambda: protocol, host, port, ssl=context)
        except ssl.SSLError as error:
            self._complain(replica, f"no link with replica {replica}: {host}:{port} was refused: {tls_words(error)}")
            return False
        except OSError as error:  # a timeout is one too
            self._complain(replica, f"no link with replica {replica}: {host}:{port} does not answer ({error.strerror or 'timed out'})")
            return False
        await asyncio.shield(link.gone)  # a stop cancels this task, and still waits for the connection
        return link.replica is not None

    async def _reach(self, protocol: asyncio.Protocol, path: str | None) -> bool:
        """Whether somebody answers at this socket."""
        if path is not None:
            with contextlib.suppress(OSError):
                return bool(await asyncio.get_running_loop().create_unix_connection(lambda: protocol, path))
        return False

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(self._handshake_s / STRIKES)
            for link in [*self._strangers, *self._links.values()]:
                link.look()
