"""What the disks of replicas that do not run say, for an operator who has to decide something that the replicas may not decide.

What it is not: it writes nothing, makes nothing and decides nothing; `last_resort.py` does. What is believed at a start is the affair of
`storage.py`, which is stricter where it has others to ask.

    Evidence    of one replica: superblock, what its lock file said last, newest sound snapshot, how far its log can be read
    whole       nothing speaks against it: a start would believe this disk
    sound       its log can be read to its end, whatever else speaks against the disk

Read next: `last_resort.py`.
"""

from __future__ import annotations

import os
import time
from typing import NamedTuple

import snapshots
import superblock
from batches import NO_HASH, Batch
from disk import Disk, LockContent
from journal import Journal
from packets import View
from policy import ERA, Start, Timers
from replication import Replica
from segments import SUFFIX
from superblock import Superblock
from survivor import Survivor


class Evidence(NamedTuple):
    """See the module's table."""

    replica: int
    superblock: Superblock | None
    lock: LockContent | None  # what its last process has left there
    doubt: str  # why a start would not believe this disk, the tail included; empty: it is whole
    is_there: bool = True
    tail: str = ""  # what is wrong behind the head; empty: it is sound
    snapshot: tuple[int, bytes, str] = (0, NO_HASH, "")  # op, hash and name; where the log begins
    generation: int = 0
    op: int = 0
    hash: bytes = NO_HASH
    parent_op: int = 0
    parent_hash: bytes = NO_HASH
    last: Batch | None = None

    @property
    def view(self) -> int:
        """The highest that anything here speaks of."""
        sb = self.superblock
        return max(sb.view if sb else 0, sb.log_view if sb else 0, self.last.view if self.last else 0)

    @property
    def log_view(self) -> int:
        """The view whose log this is; where the superblock has forgotten it, that of its last batch."""
        sb = self.superblock
        return max(sb.log_view if sb else 0, self.last.view if self.last else 0)

    @property
    def durable_op(self) -> int:
        """How far it was synced once, as its lock file says."""
        return self.lock.durable_op if self.lock else 0

    @property
    def rank(self) -> tuple[int, int]:
        """Of two sound logs, the one of the higher rank holds more."""
        return self.log_view, self.op

    def tell(self) -> str:
        """One line for people."""
        if not self.is_there:
            return f"replica {self.replica}: nothing of it is here"
        word = self.doubt or "whole"
        log = f"its log is that of view {shown(self.log_view)} and ends at op {self.op}{self.when()}, op {self.durable_op} was synced"
        return f"replica {self.replica}: view {shown(self.view)}; {log}; {word}"

    def when(self) -> str:
        """When its last batch was formed."""
        return f" ({stamp(self.last.time)})" if self.last else ""


def stamp(microseconds: int) -> str:
    """A time of this host, for people."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(microseconds / 1e6))


def shown(view: int) -> str:
    """A view's number for people; one of an era that an operator has begun, with the second in which that was."""
    return f"{view % ERA} of {stamp(view // ERA * 10**6)}" if view >= ERA else str(view)


def examine(disk: Disk, base: str, replica: int, cluster: str, lock: LockContent | None) -> Evidence:
    """Read one replica's disk. `lock`: what its last process has left in the lock file. Raises OSError."""
    path = os.path.join(base, f"replica-{replica}")
    sb, doubt = _read_superblock(disk, os.path.join(path, "superblock"))
    journal_path, snapshots_path = os.path.join(path, "journal"), os.path.join(path, "snapshots")
    names = [n for n in disk.listdir(journal_path) if n.endswith(SUFFIX)] if disk.exists(journal_path) else []
    found = snapshots.listed(disk, snapshots_path) if disk.exists(snapshots_path) else []
    if sb is None and not names and not found:
        return Evidence(replica, None, lock, doubt or "it is empty", is_there=bool(doubt))
    is_known = sb is not None and not (sb.suspect and not sb.view)  # one that was made for a lost one knows nothing
    snapshot, rot = _sound_snapshot(disk, snapshots_path, found, cluster, sb.snapshot_op if sb and is_known else None)
    own = [sb.journal_generation] if sb and is_known else sorted({int(n[:8], 16) for n in names}) or [0]
    journals = [Journal.examine(disk, journal_path, g, *snapshot[:2]) for g in own if disk.exists(journal_path)]
    try:
        best = max(journals, key=lambda j: (j.head_op, j.generation), default=None)
        if best is None:
            return Evidence(replica, sb, lock, "its log is missing", tail="its log is missing", snapshot=snapshot)
        doubts = (doubt, _doubt_of(sb, lock, best), rot, best.damage)
        log = (best.generation, best.head_op, best.head_hash, best.parent_op, best.parent_hash, best.last)
        return Evidence(replica, sb, lock, next(filter(None, doubts), ""), True, best.damage, snapshot, *log)
    finally:
        for journal in journals:
            journal.close()


def _read_superblock(disk: Disk, path: str) -> tuple[Superblock | None, str]:
    try:
        found = superblock.load(disk, path) if disk.exists(path) else None
    except superblock.SuperblockDamaged as error:
        return None, str(error)
    return found, ""


def _doubt_of(sb: Superblock | None, lock: LockContent | None, journal: Journal) -> str:
    if sb is None:
        return "its superblock is missing"
    if sb.suspect:
        return "an earlier write failed on this disk, or its log was never made whole again"
    if lock and sb.inc < lock.inc:
        return f"it is an older state of itself, of incarnation {sb.inc}: the lock file knows of {lock.inc}"
    if lock and journal.head_op < lock.durable_op:
        return f"its log ends at op {journal.head_op}, and was synced up to op {lock.durable_op}"
    return "" if sb.log_view else "it is empty"


def _sound_snapshot(disk: Disk, path: str, names: list[str], cluster: str, newest: int | None) -> tuple[tuple[int, bytes, str], str]:
    """The newest that can be read, none above `newest`; and what is wrong with those that cannot."""
    trouble = ""
    for name in names:
        if newest is not None and int(name) > newest:
            continue  # no superblock names it
        try:
            _, manifest = snapshots.load(disk, os.path.join(path, name), cluster)
        except snapshots.SnapshotDamaged as error:
            trouble = f"snapshot {name}: {error}"
            continue
        return (manifest.op, bytes.fromhex(manifest.hash), name), ""
    return (0, NO_HASH, ""), trouble or (f"the snapshot of op {newest} is missing" if newest else "")


def may_restart(found: Evidence, view: View | None, cluster: str, replicas: tuple[int, ...]) -> bool:
    """Whether this replica, started, would go on by itself under `survivor`: the policy is asked, not imitated."""
    sb = found.superblock
    if sb is None:
        return False
    ends = (found.op, found.hash, found.parent_op, found.parent_hash, found.last)
    start = Start(sb.inc + 1, sb.view, sb.log_view, *ends, digest=0, damage=found.doubt, time=0, born=sb.born, began=sb.began)
    policy = Survivor(Replica(found.replica, replicas, cluster, Timers(), start, 0.0), None)
    policy.last = view
    return policy.is_eligible()
