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

Read next: `packets.py` (what is sent), `server.py` (who sends it).
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
from gate import Gate, Newcomers, notice_loss, tls_words
from handshake import ANY, LENGTH, NONCE_SIZE, Handshake, Identity, LinkRefused
from packets import PACKET_MAX, AnyPacket, Packet, decode, encode
from together import gather

HANDSHAKE_MAX = 4096  # bytes of a frame before the link is up
HANDSHAKE_S = 10.0  # seconds
STRIKES = 4  # looks at an unfinished frame before it is late; counted, so that a pause of this process is nobody's fault
STRANGERS_MAX = 64
UNSENT_MAX = 64 << 20  # bytes
DIAL_S = 3.0  # seconds until a host that does not answer is dialled again: a cable that is mended is noticed within as many
RETRY_S = (0.02, 0.05, 0.1)  # seconds between attempts to dial; the last one goes on for ever
REPEAT_S = 10.0  # seconds in which the same complaint about the same replica is not logged again
FLUSH_S = 1.0  # seconds a stop waits for what was already sent

Address = tuple[str, int]


class Link(asyncio.Protocol):
    """One connection. It is a stranger's until the handshake has ended; from then on `replica` is set."""

    def __init__(self, owner: Links, handshake: Handshake, dialled: int | None, gone: asyncio.Future[None]) -> None:
        self.replica: int | None = None
        self.dialled, self.gone, self.handshake = dialled, gone, handshake
        self.is_over = False
        self._owner, self._on_packet = owner, owner.on_packet
        self._frame_max = HANDSHAKE_MAX
        self._pending = bytearray()  # a frame that has begun; a new object for each, which is how `look` tells them apart
        self._wanted = 0  # bytes `_pending` must hold before it is worth reading
        self._strikes = 0
        self._seen: bytearray | None = None

    @property
    def peer(self) -> Identity:
        """Who is at the other end; only asked of a link that is up."""
        assert self.handshake.peer is not None
        return self.handshake.peer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet. (Both loops switch TCP_NODELAY on by themselves.)"""
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's is one, but does not derive from it
        self.write = self._transport.write
        self._transport.set_write_buffer_limits(high=UNSENT_MAX)
        notice_loss(transport)
        self.handshake.certified = self._owner.certified(transport)
        self._owner.on_arrived(self)
        self._write_frame(self.handshake.hello)

    def data_received(self, chunk: bytes | bytearray) -> None:
        """Whole frames are read where they lie; only a frame that comes in pieces is put together first."""
        if self._pending:
            self._pending += chunk
            if len(self._pending) < self._wanted:
                return
            chunk, self._pending = self._pending, bytearray()
        at, size, view, wrong = 0, len(chunk), memoryview(chunk), ""
        packets: list[AnyPacket] = []
        self._wanted = LENGTH.size
        while size - at >= LENGTH.size and not self.is_over:
            (length,) = LENGTH.unpack_from(chunk, at)
            if length > self._frame_max:
                wrong = f"a frame of {length} bytes is over the limit of {self._frame_max}"
                break
            end = at + LENGTH.size + length
            if end > size:
                self._wanted = end - at
                break
            frame = view[at + LENGTH.size : end]
            if self.replica is None:
                self._greet(bytes(frame))
            else:
                try:
                    packets.append(decode(frame))  # where it lies: a copy of a large batch is dear
                except ValueError as error:  # BadPacket, or a text that is no UTF-8
                    wrong = f"a frame is no packet: {error}"
                    break
            at = end
        if at < size and not self.is_over and not wrong:
            self._pending = bytearray(view[at:])
        self._give(packets)
        if wrong:
            self.cut(wrong)

    def _give(self, packets: list[AnyPacket]) -> None:
        for packet in packets if len(packets) < 2 else gather(packets):
            if self.is_over or self.replica is None:
                return
            self._on_packet(self.replica, packet)

    def _greet(self, frame: bytes) -> None:
        try:
            answer = self.handshake.take(frame)
        except LinkRefused as refusal:
            return self.cut(str(refusal))
        if answer:
            self._write_frame(answer)
        if self.handshake.is_done:
            self._frame_max = PACKET_MAX
            self._owner.on_greeted(self)
        return None

    def _write_frame(self, body: bytes) -> None:
        self.write(LENGTH.pack(len(body)) + body)

    def eof_received(self) -> None:
        """Nothing more will come; a peer never closes half of a link."""
        self.cut("it closed the connection")

    def connection_lost(self, error: Exception | None) -> None:
        """The transport is gone, whoever ended it."""
        self.cut(f"the connection broke: {error}" if error else "it closed the connection")
        self.gone.set_result(None)
        self._owner.on_gone(self)

    def pause_writing(self) -> None:
        """More than UNSENT_MAX waits for this peer. Called inside `send`, so the cut comes in the loop's next turn."""
        self.gone.get_loop().call_soon(self.cut, f"it leaves more than {UNSENT_MAX} bytes unread")

    def look(self) -> None:
        """Called STRIKES times in HANDSHAKE_S: cut what has begun and does not go on."""
        if self.replica is None or (self._pending and self._pending is self._seen):
            self._strikes += 1
        else:
            self._strikes, self._seen = 0, self._pending
        if self._strikes >= STRIKES:
            self.cut("its handshake takes too long" if self.replica is None else "the rest of a frame does not come")

    def cut(self, reason: str) -> None:
        """End it now; what was not sent yet is lost."""
        if self.is_over:
            return
        self.is_over = True
        self._transport.abort()
        self._owner.on_parted(self, reason)

    def close(self) -> None:
        """End it after what was sent has left; nothing that still comes is read."""
        self.is_over = True
        self._transport.close()

    def abort(self) -> None:
        """End what `close` could not."""
        self._transport.abort()


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
            self._servers.append(await loop.create_server(lambda: self._new_link(None), host, port))
            if path := self._sockets.get(self._me.replica):
                with contextlib.suppress(OSError):  # no room, perhaps: then the others dial the port
                    self._servers.append(await loop.create_unix_server(lambda: self._new_link(None), path))
                    os.chmod(path, 0o600)
        else:
            listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
            newcomers = Newcomers(STRANGERS_MAX, self._handshake_s)
            self._gate = Gate(listener, self._credentials.accepts, lambda: self._new_link(None), self._refuse, newcomers)
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
        try:
            async with asyncio.timeout(min(DIAL_S, self._handshake_s)):
                if not await self._reach(link, self._sockets.get(replica)):
                    context = self._credentials.dials if self._credentials is not None else None
                    await asyncio.get_running_loop().create_connection(lambda: link, host, port, ssl=context)
        except ssl.SSLError as error:
            self._complain(replica, f"no link with replica {replica}: {host}:{port} was refused: {tls_words(error)}")
            return False
        except OSError as error:  # a timeout is one too
            self._complain(replica, f"no link with replica {replica}: {host}:{port} does not answer ({error.strerror or 'timed out'})")
            return False
        await asyncio.shield(link.gone)  # a stop cancels this task, and still waits for the connection
        return link.replica is not None

    async def _reach(self, link: Link, path: str | None) -> bool:
        """Whether somebody answers at this socket."""
        if path is not None:
            with contextlib.suppress(OSError):
                return bool(await asyncio.get_running_loop().create_unix_connection(lambda: link, path))
        return False

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(self._handshake_s / STRIKES)
            for link in [*self._strangers, *self._links.values()]:
                link.look()
