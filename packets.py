"""The letters between replicas, and the batch, which is the unit of all of them.

What it is not: it sends nothing and decides nothing.

A **batch** is appended, synced, sent, acknowledged and hashed as a whole; it is never split, merged or stamped again. Its image is the same
bytes in the journal and on the wire:

    offset  size  field
    0       4     magic       b"USB1"
    4       8     first_op    op of its first command
    12      4     count       number of commands: its op, by which everybody names it, is first_op + count - 1
    16      4     length      bytes of the body
    20      8     view        number of the view in which it was formed
    28      8     time        microseconds since 1970; command i has time + i
    36      16    prev_hash   hash of the batch before it (16 zero bytes before op 1)
    52      4     header_crc  CRC-32 of the 52 bytes before
    56            body        opaque to replication
            16    hash        first half of the SHA-256 of header (without CRC) and body
            4     end         b"\\xf1END": no image ends in a zero byte, which the tail rule of the journal relies on

Two equal (op, hash) therefore mean two equal logs up to there. All packets carry the sender's view number; who sent them (replica and
incarnation) is settled once a link, by Hello. The table of packets is in `docs/replication.md`; the words are those of VSR Revisited.

Read next: `replication.py`.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from typing import Any, NamedTuple

import msgspec

HEADER, CRC, SEALED = struct.Struct("<4sQIIQQ16s"), struct.Struct("<I"), struct.Struct("<4sQIIQQ16sI")
MAGIC, END, HASH_SIZE, NO_HASH = b"USB1", b"\xf1END", 16, bytes(16)
HEADER_SIZE, TRAILER_SIZE = HEADER.size + CRC.size, HASH_SIZE + len(END)
BATCH_MAX = 1 << 20  # bytes of a body; a longer one would keep a member's disk from answering in time
PACKET_MAX = 4 << 20  # bytes of an encoded packet: a catch-up answer of several batches


class DamagedBatch(ValueError):
    """The bytes are no whole batch."""


class Batch:
    """See the module's drawing. `op` is the op of its last command; `image` its bytes."""

    __slots__ = ("body", "count", "first_op", "hash", "image", "op", "prev_hash", "time", "view")

    def __init__(self, *, first_op: int, count: int, view: int, time: int, prev_hash: bytes, body: bytes) -> None:
        assert first_op > 0 and count > 0 and len(prev_hash) == HASH_SIZE and body
        self.first_op, self.count, self.view, self.time = first_op, count, view, time
        self.prev_hash, self.body = prev_hash, body
        self.op = first_op + count - 1
        header = HEADER.pack(MAGIC, first_op, count, len(body), view, time, prev_hash)
        self.hash = digest(header, body)
        self.image = b"".join((header, CRC.pack(zlib.crc32(header)), body, self.hash, END))

    def __repr__(self) -> str:
        return f"batch {self.op}:{self.hash.hex()[:6]}"

    @property
    def tip(self) -> tuple[int, bytes]:
        """How a log ends whose last batch this is."""
        return self.op, self.hash

    @classmethod
    def decode(cls, image: bytes | memoryview, at: int = 0) -> Batch:
        """The batch whose image starts at `at`. Raises DamagedBatch when any bit of it is not as it was written."""
        header, (_, first_op, count, length, view, time, prev_hash, _) = header_of(image, at)
        end = at + HEADER_SIZE + length + TRAILER_SIZE
        if end > len(image):
            raise DamagedBatch("cut short")
        body = bytes(image[at + HEADER_SIZE : end - TRAILER_SIZE])
        trailer = bytes(image[end - TRAILER_SIZE : end])
        if trailer[HASH_SIZE:] != END:
            raise DamagedBatch("no end mark")
        hash = trailer[:HASH_SIZE]
        if digest(header, body) != hash:
            raise DamagedBatch("wrong hash")
        if first_op < 1 or count < 1 or not length:
            raise DamagedBatch("impossible numbers")
        batch = cls.__new__(cls)
        batch.first_op, batch.count, batch.view, batch.time, batch.prev_hash = first_op, count, view, time, prev_hash
        batch.body, batch.op, batch.hash, batch.image = body, first_op + count - 1, hash, bytes(image[at:end])
        return batch


def digest(header: bytes, body: bytes) -> bytes:
    """The hash of a batch: 16 bytes."""
    return hashlib.sha256(header + body).digest()[:HASH_SIZE]


def header_of(image: bytes | memoryview, at: int = 0) -> tuple[bytes, tuple[Any, ...]]:
    """The header that stands at `at`, as bytes without its CRC and as fields. Raises DamagedBatch when it is not sound."""
    if len(image) - at < HEADER_SIZE:
        raise DamagedBatch("header cut short")
    header, fields = bytes(image[at : at + HEADER.size]), SEALED.unpack_from(image, at)
    if fields[0] != MAGIC or fields[-1] != zlib.crc32(header):
        raise DamagedBatch("wrong header")
    return header, fields


def decode_all(images: bytes, op: int, hash: bytes) -> list[Batch]:
    """The batches in these images, which follow (op, hash) and each other. Raises DamagedBatch."""
    batches, at = list[Batch](), 0
    while at < len(images):
        batch = Batch.decode(images, at)
        if (batch.first_op, batch.prev_hash) != (op + 1, hash):
            raise DamagedBatch(f"{batch} does not follow op {op}")
        batches.append(batch)
        op, hash, at = batch.op, batch.hash, at + len(batch.image)
    return batches


def image_hash(images: bytes) -> bytes:
    """The hash of the last batch of these images."""
    return images[-TRAILER_SIZE : -len(END)]


class Member(NamedTuple):
    """One incarnation of one replica: a process that starts again is another member."""

    replica: int
    inc: int

    def __str__(self) -> str:
        return f"{self.replica}"


class View(msgspec.Struct, frozen=True, array_like=True):
    """A view record: who is in the view, and why. Under `survivor` it is one file of the register.

    `op` and `hash` are the proposer's last committed batch; `closed` says that nothing was committed after (op, hash);
    `time` is wall-clock microseconds, for people; `prev_hash` chains the records; `forced`: the newest view that an operator has decided.
    """

    cluster: str
    number: int
    primary: Member
    members: tuple[Member, ...]
    op: int
    hash: bytes
    reason: str
    time: int
    closed: bool = False
    prev_hash: bytes = NO_HASH
    forced: int = 0

    @property
    def replicas(self) -> tuple[int, ...]:
        """Ids of the members."""
        return tuple(m.replica for m in self.members)

    def chain_hash(self) -> bytes:
        """What the next record carries as `prev_hash`."""
        content = msgspec.structs.astuple(self)  # records of early builds end before `forced`
        return hashlib.sha256(msgspec.msgpack.encode(content if self.forced else content[:-1])).digest()[:HASH_SIZE]


class Packet(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Anything replica → replica; `view` is the sender's."""

    view: int


class Prepare(Packet, frozen=True, tag="P"):
    """Append this batch. `commit` is the sender's; `digest`: running CRC of the replies up to `applied`, which may be a batch behind."""

    commit: int
    applied: int
    digest: int
    image: bytes


class PrepareOk(Packet, frozen=True, tag="O"):
    """The log up to `op` is synced here and ends in `hash`; log_view == view."""

    op: int
    hash: bytes


class Commit(Packet, frozen=True, tag="C"):
    """Committed up to `op`; of an idle primary this is the heartbeat. `digest`: running CRC of the replies up to `op`."""

    op: int
    hash: bytes
    digest: int
    round: int


class CommitOk(Packet, frozen=True, tag="c"):
    """Heard; `op` is applied here."""

    round: int
    op: int


class StartView(Packet, frozen=True, tag="V"):
    """The primary of `view` goes on from this log: it ends in (op, hash); `image` is its last batch, empty if that is in a snapshot."""

    op: int
    hash: bytes
    parent_op: int
    parent_hash: bytes
    image: bytes


class StartViewChange(Packet, frozen=True, tag="A"):
    """The sender asks everybody to move to this view; it stays in its own until a majority asks."""

    new_view: int


class DoViewChange(Packet, frozen=True, tag="D"):
    """The sender has moved to `view`, whose primary is told what log it has: that of `log_view`, ending in (op, hash)."""

    log_view: int
    op: int
    hash: bytes


class LastMet(Packet, frozen=True, tag="M"):
    """The newest incarnation of the receiver that the sender has met, and the op that it knows to be committed there."""

    inc: int
    op: int


class GetState(Packet, frozen=True, tag="G"):
    """A learner's or a behind backup's log ends in (op, hash) above (parent_op, parent_hash): what follows?"""

    op: int
    hash: bytes
    parent_op: int
    parent_hash: bytes


class NewState(Packet, frozen=True, tag="N"):
    """Batches that follow (base_op, base_hash), images one after the other; `joint`: with them your log is mine: commits wait for you."""

    base_op: int
    base_hash: bytes
    images: bytes
    joint: bool


class SnapshotOffer(Packet, frozen=True, tag="S"):
    """The log asked for is no longer kept; take this snapshot: its manifest, byte for byte."""

    op: int
    hash: bytes
    manifest: bytes


class GetChunk(Packet, frozen=True, tag="g"):
    """Ask for bytes of one file of the offered snapshot."""

    op: int
    name: str
    offset: int


class Chunk(Packet, frozen=True, tag="k"):
    """Bytes of one file of a snapshot; an empty answer: it is no longer kept, begin again."""

    op: int
    name: str
    offset: int
    content: bytes


class Recovery(Packet, frozen=True, tag="R"):
    """A learner announces itself; sent until a primary has taken it in."""

    nonce: int
    log_view: int
    op: int
    hash: bytes
    eligible: bool
    empty: bool


class RecoveryResponse(Packet, frozen=True, tag="r"):
    """Where the sender stands. `status` is its status word."""

    nonce: int
    status: str
    op: int
    commit: int
    eligible: bool
    empty: bool


class Leave(Packet, frozen=True, tag="L"):
    """The sender asks to be voted out (planned stop, disk trouble); it keeps its duties until a view shows it out."""

    reason: str


class Forward(Packet, frozen=True, tag="F"):
    """Runs of the sender's own guests, for the primary's open batch."""

    runs: bytes


class ForwardQuery(Packet, frozen=True, tag="Q"):
    """A query of one of the sender's guests."""

    ticket: int
    session: bytes
    command: str


class Forwarded(Packet, frozen=True, tag="q"):
    """The answer to a ForwardQuery, given behind the primary's guard."""

    ticket: int
    answer: str


_OfViews = StartView | StartViewChange | DoViewChange | LastMet | Recovery | RecoveryResponse | Leave
_OfLogs = Prepare | PrepareOk | Commit | CommitOk | GetState | NewState | SnapshotOffer | GetChunk | Chunk
AnyPacket = _OfViews | _OfLogs | Forward | ForwardQuery | Forwarded

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[AnyPacket] = msgspec.msgpack.Decoder(AnyPacket)


class BadPacket(ValueError):
    """The bytes are no packet."""


def encode(packet: Packet) -> bytes:
    """The packet as bytes, without framing."""
    return _encoder.encode(packet)


def decode(frame: bytes | memoryview) -> AnyPacket:
    """The packet in these bytes. Raises BadPacket."""
    try:
        return _decoder.decode(frame)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadPacket(str(error)) from None
