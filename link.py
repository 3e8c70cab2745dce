"""One connection between two replicas: its frames, its handshake, and what makes it end.

What it is not: it accepts and dials nobody, and does not know the others (`links.py`, which it tells of what happens to it).

    the first frames    the handshake, up to HANDSHAKE_MAX bytes each     `Links.on_greeted`
    later ones          packets, up to PACKET_MAX                         given to whom `Links` was told
    anything else       cuts it                                           `Links.on_parted`

Read next: `links.py`, `handshake.py`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from gate import notice_loss
from handshake import LENGTH, Handshake, Identity, LinkRefused
from packets import BAD_PACKET, PACKET_MAX, AnyPacket, decode
from together import gather

if TYPE_CHECKING:
    from links import Links

HANDSHAKE_MAX = 4096  # bytes of a frame before the link is up
STRIKES = 4  # looks at an unfinished frame before it is late; counted, so that a pause of this process is nobody's fault
UNSENT_MAX = 64 << 20  # bytes
SHORT = 4096  # bytes of a frame that is sooner copied than looked at where it lies


class Link:
    """One connection, an `asyncio.Protocol` in all but its base class, with which a compiled form would be slow.

    It is a stranger's until the handshake has ended; from then on `replica` is set.
    """

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
        size = len(chunk)
        if self.replica is not None and LENGTH.size < size <= SHORT and LENGTH.unpack_from(chunk)[0] == size - LENGTH.size:
            return self._take_one(chunk[LENGTH.size :])
        at, view, wrong = 0, memoryview(chunk), ""
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
                except BAD_PACKET as error:
                    wrong = f"a frame is no packet: {error}"
                    break
            at = end
        if at < size and not self.is_over and not wrong:
            self._pending = bytearray(view[at:])
        self._give(packets)
        if wrong:
            self.cut(wrong)
        return None

    def _take_one(self, frame: bytes | bytearray) -> None:
        """The same for a chunk that is one short frame, as nearly all are."""
        try:
            packet = decode(frame)
        except BAD_PACKET as error:
            return self.cut(f"a frame is no packet: {error}")
        if self.replica is not None and not self.is_over:
            self._on_packet(self.replica, packet)
        return None

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

    def resume_writing(self) -> None:
        """It has drained after all, in the turn in which it is cut."""

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
