"""The letters between replicas.

What it is not: it sends nothing and decides nothing.

All packets carry the sender's view number; who sent them (replica and incarnation) is settled once a link, by Hello. The table of packets
is in `docs/replication.md`; the words are those of VSR Revisited.

Read next: `batches.py` (what most of them carry), `replication.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from batches import HASH_SIZE, NO_HASH

PACKET_MAX = 4 << 20  # bytes of an encoded packet: a catch-up answer of several batches


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

# As they come from msgspec: a function around each would be the only Python between a batch and its socket.
encode: Callable[[Packet], bytes] = msgspec.msgpack.Encoder().encode  # a packet without framing
decode: Callable[[bytes | bytearray | memoryview], AnyPacket] = msgspec.msgpack.Decoder(AnyPacket).decode  # raises one of BAD_PACKET
BAD_PACKET = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
