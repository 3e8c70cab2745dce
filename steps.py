"""The steps of every batch: what the core hears and orders so often that a compiled form should know what they are made of.

What it is not: all other events and effects are structs (`events.py`, which hands these on); a compiler of Python cannot look into those.

    Submitted ──▶ Send, Persist        at the primary
    Received  ──▶ Persist, Apply       at a backup
    Persisted ──▶ Send                 its acknowledgement
    Received  ──▶ Apply                at the primary, which has heard of enough
    Applied                            at each

Read next: `events.py`.
"""

from __future__ import annotations

from batches import Batch
from packets import Member, Packet

# --- events: what happened ----------------------------------------------------------------------------------------------------------------


class Received:
    """A packet came over the authenticated link of this member."""

    __slots__ = ("packet", "sender")

    def __init__(self, sender: Member, packet: Packet) -> None:
        self.sender, self.packet = sender, packet


class Submitted:
    """Guests' commands for the next batch, `ops` of them; `time` is wall-clock microseconds. Only while `can_prepare`."""

    __slots__ = ("body", "ops", "time")

    def __init__(self, ops: int, body: bytes, time: int) -> None:
        self.ops, self.body, self.time = ops, body, time


class Persisted:
    """The log up to this batch is synced here."""

    __slots__ = ("generation", "hash", "op")

    def __init__(self, generation: int, op: int, hash: bytes) -> None:
        self.generation, self.op, self.hash = generation, op, hash


class Applied:
    """The state has executed the batch that ends at `op`."""

    __slots__ = ("digest", "op")

    def __init__(self, op: int, digest: int) -> None:
        self.op, self.digest = op, digest


# --- effects: what must be done -----------------------------------------------------------------------------------------------------------


class Send:
    """Give the packet to these replicas; it may be lost."""

    __slots__ = ("packet", "replicas")

    def __init__(self, replicas: tuple[int, ...], packet: Packet) -> None:
        self.replicas, self.packet = replicas, packet


class Persist:
    """Append these batches and sync; then Persisted for the last."""

    __slots__ = ("batches", "generation")

    def __init__(self, generation: int, batches: tuple[Batch, ...]) -> None:
        self.generation, self.batches = generation, batches


class Apply:
    """Execute the batch; then Applied."""

    __slots__ = ("batch",)

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
