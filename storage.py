"""All that one replica keeps on disk, behind one door: superblock, journal, snapshots, lock and ballast, read at start and written through.

What it is not: it decides nothing and tells nobody; `server.py` gives the orders and reports to the core what came of them.

    data/cluster/                 view-NNNNNNNNNN (register)   replica-N.lock   secret
    data/replica-N/               superblock   journal/   snapshots/   csv -> the newest   ballast   log/   admin.sock
                                  given-up-V/   a log that the view V, which an operator forced, went on without

    at start                                            what is believed
    superblock unreadable, lost, marked suspect, or     nothing: the replica begins anew once others have what it lost
    older than the incarnation in the lock file
    snapshot damaged                                    the one before it, and a longer journal; if that does not do: nothing
    journal damaged, or shorter than the lock says      its sound part, to catch up from; it may not begin a view

Invariants:
- A learner changes nothing here but its incarnation until it is told to write (files of a new journal generation do not count: nobody
  reads them until the superblock names them).
- Before a log gets shorter than it was, the superblock says `suspect` or the lock file says the lower op.
- A superblock that could not be written is left as it is: one slot holds what it said before, and no promise was made on the new one. The
  log is as good as it was; so the incarnation ends, and its disk is not suspect.
- One write of the superblock makes a fetched snapshot the beginning of the log.

Read next: `journal.py`, `snapshots.py`, docs/disk-format.md.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

import snapshots
import superblock
from batches import NO_HASH, Batch
from disk import FULL, Ballast, Disk, ReplicaLock
from journal import Journal
from packets import Member, View
from register import Register, RegisterFull
from state import ChatState
from superblock import Superblock

BALLAST_BYTES = 64 << 20  # enough to decide views in the register and to write the log lines about it, whoever else wants room
ROOM_BYTES = 1 << 20  # as the first segment of a journal


class BootFailed(Exception):
    """This replica cannot start; the text says why and what to do. `may_pass`: trying again in a moment may help."""

    def __init__(self, text: str, *, may_pass: bool = False) -> None:
        super().__init__(text)
        self.may_pass = may_pass


class Storage:
    """One replica's disk. After `open`: `damage` says why it may not speak for the cluster, empty when it may; `inc`: this incarnation."""

    def __init__(self, disk: Disk, base: str, replica: int, cluster: str, log: Callable[[str], None]) -> None:
        self.disk, self.base, self.replica, self.cluster, self.log = disk, base, replica, cluster, log
        self.path = os.path.join(base, f"replica-{replica}")
        self.cluster_path = os.path.join(base, "cluster")
        self.journal_path = os.path.join(self.path, "journal")
        self.snapshots_path = os.path.join(self.path, "snapshots")
        self.superblock_path = os.path.join(self.path, "superblock")
        self.damage = ""
        self.inc = 0
        self.snapshot_op = 0
        self.must_rewrite = False  # the first write begins anew
        self.spent = ""  # why this incarnation may not write the superblock any more
        self.lock: ReplicaLock
        self.register: Register
        self.superblock: Superblock
        self.journal: Journal
        self.ballast = Ballast(disk, os.path.join(self.path, "ballast"), BALLAST_BYTES)

    # --- start ----------------------------------------------------------------------------------------------------------------------------

    def open(self, blank: Superblock, wall: int) -> ChatState:
        """Take the lock, read everything and sync it. Returns the state up to all but the last batch. Raises BootFailed, OSError.

        `blank`: the superblock of a replica that has none; `wall`: microseconds, for its first incarnation. RegisterDamaged comes through.
        """
        self._make_directories()
        lock = ReplicaLock.acquire(self.disk, self.cluster_path, self.replica)
        if lock is None:
            raise BootFailed(
                f"replica {self.replica} runs already (its lock is held): stop it first, or start another replica", may_pass=True
            )
        self.lock = lock
        inc, hint = (lock.before.inc, lock.before.durable_op) if lock.before else (0, 0)
        self.register = Register(self.disk, self.cluster_path, self.cluster, f"proposal-{self.replica}")
        self._load_superblock(blank, inc)
        hint = 0 if self._give_up() else hint
        state = self._load_log(hint)
        # A replica that has no log yet and no view has nothing that the lock file could know of: its first start ended half-way.
        if lock.rotten and not self.damage and (self.superblock.view or self.journal.head_op):
            self.damage = "its lock file cannot be read: nobody knows how far this log once went"
        self.inc = self._new_incarnation(inc, wall)
        # One of an older format that has worked in a view began before anybody counted.
        born = self.superblock.born or (0 if self.superblock.view else self.inc)
        self.save(cluster=self.cluster, replica=self.replica, inc=self.inc, born=born)
        # While the disk is not trusted the old hint stays: it is what tells the next start so.
        lock.write(self.inc, hint if self.damage else self.journal.head_op, sync=True)
        self.ballast.take_in()
        for complaint in self.register.complaints:
            self.log(f"an old view cannot be read, which decides nothing any more: {complaint}")
        if self.damage:
            self.log(f"this disk is not trusted: {self.damage}")
        return state

    def _make_directories(self) -> None:
        for path in (self.base, self.cluster_path, self.path, self.journal_path, self.snapshots_path):
            if not self.disk.exists(path):
                self.disk.mkdir(path)
        # A name that a power cut takes away takes all beneath it along, however well that was synced.
        for path in (os.path.dirname(self.base) or ".", self.base, self.path):
            self.disk.sync_dir(path)

    def _load_superblock(self, blank: Superblock, last_inc: int) -> None:
        try:
            self.superblock = superblock.load(self.disk, self.superblock_path, self.log) or self._never_written(blank)
        except superblock.SuperblockDamaged as error:
            self.superblock = msgspec.structs.replace(blank, suspect=True)
            self.damage = str(error)
            # In one step: a crash must not leave a disk that looks new.
            superblock.create(self.disk, self.superblock_path, self.superblock)
        if self.superblock.cluster not in ("", self.cluster):
            raise BootFailed(
                f"{self.path} belongs to cluster {self.superblock.cluster!r}, cluster.yaml names {self.cluster!r}:"
                " correct the name, or give another --data"
            )
        if self.superblock.replica != self.replica:
            # Nothing that it says of itself would be true: the lock file and the others' evidence are another's.
            raise BootFailed(
                f"{self.path} holds the disk of replica {self.superblock.replica}: put each back into its own place;"
                f" if that of replica {self.replica} is lost, let it begin with an empty one"
            )
        if self.superblock.replicas != blank.replicas:
            raise BootFailed(
                f"{self.path} belongs to a cluster of {self.superblock.replicas} replicas, cluster.yaml lists {blank.replicas}:"
                f" to add replicas stop all, then `server.py grow --replica {self.replica}`; else correct the list, or give another --data"
            )
        self._compare_settings(blank)
        if self.superblock.suspect and not self.damage:
            self.damage = "an earlier write failed on this disk, or its log was never made whole again"
        if 0 < self.superblock.inc < last_inc and not self.damage:
            # The lock file hears of an incarnation after the superblock. What this one forgets is not told again: hence the mark.
            self.damage = f"it is an older state of itself, of incarnation {self.superblock.inc}: the lock file knows of {last_inc}"
            self.superblock = msgspec.structs.replace(self.superblock, suspect=True)

    def _compare_settings(self, now: Superblock) -> None:
        """What was promised under one policy is not kept by the other. Ports may move: links go by ids and proofs, not by addresses."""
        before = self.superblock
        if before.policy not in ("", now.policy):
            raise BootFailed(
                f"{self.path} was begun under policy {before.policy}, cluster.yaml leads to {now.policy}:"
                " a policy cannot be changed in place; correct cluster.yaml, or give another --data"
            )
        if before.peers not in ((), now.peers):
            pairs = enumerate(zip(before.peers, now.peers, strict=False))
            moved = ", ".join(f"{i} from {old} to {new}" for i, (old, new) in pairs if old != new)
            self.log(f"peer addresses have changed since the last start: replica {moved}; links need the same list at all replicas")
        self.superblock = msgspec.structs.replace(before, policy=now.policy, peers=now.peers, config_hash=now.config_hash)

    def _never_written(self, blank: Superblock) -> Superblock:
        """A replica's first superblock. One that was lost is no such thing: what stands beside it would count as rubbish, and go."""
        if snapshots.listed(self.disk, self.snapshots_path) or any(n.endswith(".seg") for n in self.disk.listdir(self.journal_path)):
            raise superblock.SuperblockDamaged(
                f"{self.superblock_path} is missing, a log is not: this disk counts as empty; to begin it anew move the directory aside"
            )
        # Before any log: a start that ends between the two must not look like a superblock that was lost.
        superblock.create(self.disk, self.superblock_path, blank)
        return blank

    def _give_up(self) -> bool:
        """An operator has decided a later view without this log: it is kept, for people, and counts no more."""
        sb, last = self.superblock, self.register.last()
        forced = max(sb.forced, last.forced if last else 0)
        aside = os.path.join(self.path, f"given-up-{forced}")
        has_log = (sb.view or sb.suspect) and any(name.endswith(".seg") for name in self.disk.listdir(self.journal_path))
        if sb.log_view >= forced or not has_log or (last is not None and self.replica in last.replicas):
            return False
        if self.disk.exists(os.path.join(aside, "journal")):
            return False  # it was set aside before; what stands here now was fetched since
        generation = sb.journal_generation + 1
        none = {"log_view": 0, "snapshot_op": 0, "snapshot_hash": NO_HASH, "snapshot_name": "", "journal_generation": generation}
        self.save(suspect=True, forced=forced, **none)
        self.damage = f"view {forced} was forced by an operator, and the log that this disk held is set aside in {aside}"
        self.disk.mkdir(aside)
        self.disk.sync_dir(self.path)  # what is renamed into a directory that a power cut takes away goes with it
        for path in (self.snapshots_path, self.journal_path):  # the journal last: its name there says that all is done
            if not self.disk.exists(name := os.path.join(aside, os.path.basename(path))):
                self.disk.rename(path, name)
                self.disk.mkdir(path)
        for path in (aside, self.path):
            self.disk.sync_dir(path)
        return True

    def _new_incarnation(self, hint: int, wall: int) -> int:
        """Above every incarnation of this replica that anybody may have seen, even when the disk has forgotten."""
        known = [m.inc for v in self.register.recent(1000) for m in v.members if m.replica == self.replica]
        return max([self.superblock.inc or wall, hint, *known]) + 1

    def _load_log(self, durable_op: int) -> ChatState:
        sb = self.superblock
        state, op, tip = ChatState(), 0, NO_HASH
        self.must_rewrite = bool(self.damage)
        if not self.damage:
            try:
                snapshots.tidy(self.disk, self.path, sb.snapshot_op)
                state, op, tip = self._load_snapshot()
            except snapshots.SnapshotDamaged as error:
                self.damage, self.must_rewrite = str(error), True
        generation = sb.journal_generation + self.must_rewrite
        self.journal = Journal.open(
            *(self.disk, self.journal_path, generation, op, tip, durable_op),
            salvage=True,
            replay=lambda batch: state.apply(batch.first_op, batch.count, batch.time, batch.body),
        )
        self.damage = self.damage or self.journal.damage
        self.snapshot_op = op
        if not self.damage:
            self.journal.drop_old()
        return state

    def _load_snapshot(self) -> tuple[ChatState, int, bytes]:
        """The newest snapshot that is whole; an older one when that is damaged (the journal still reaches down to it)."""
        trouble: snapshots.SnapshotDamaged | None = None
        for name in snapshots.listed(self.disk, self.snapshots_path):
            try:
                state, manifest = snapshots.load(self.disk, os.path.join(self.snapshots_path, name), self.cluster)
                return state, manifest.op, bytes.fromhex(manifest.hash)
            except snapshots.SnapshotDamaged as error:
                self.log(f"snapshot {name}: {error}")
                trouble = error
        if trouble is not None or self.superblock.snapshot_op:
            raise trouble or snapshots.SnapshotDamaged(f"the snapshot of op {self.superblock.snapshot_op} is missing")
        return ChatState(), 0, NO_HASH

    # --- writing --------------------------------------------------------------------------------------------------------------------------

    def save(self, **changes: Any) -> None:
        """Change the superblock, synced. Raises OSError; after a failure it always does, since the next save goes over the other slot."""
        if self.spent:
            raise OSError(errno.EIO, self.spent)
        changed = msgspec.structs.replace(self.superblock, **changes)
        try:
            superblock.save(self.disk, self.superblock_path, changed)
        except OSError as error:
            if error.errno not in FULL:
                self.spent = f"the superblock could not be written and is not touched any more: {error}"
            raise
        self.superblock = changed

    def append(self, batches: Iterable[Batch]) -> None:
        """Add batches to the log and sync them. Raises OSError; with ENOSPC only whole ones were added, and it may be tried again."""
        if self.must_rewrite:
            self._begin_anew()
        elif self.damage and not self.superblock.suspect:
            self.save(suspect=True)
        journal = self.journal
        for batch in batches:
            if batch.op > journal.head_op:  # if not, it was written when the one behind it found no room
                journal.append(batch)
        journal.sync()

    def _begin_anew(self) -> None:
        """The first write on a disk that is not trusted: new files, and a mark that stays until they hold all."""
        generation = self.journal.generation + 1
        self.journal.restart(generation, 0, NO_HASH)
        self.save(suspect=True, snapshot_op=0, snapshot_hash=NO_HASH, snapshot_name="", journal_generation=generation)
        snapshots.remove_all(self.disk, self.path)
        self.journal.drop_old()
        self.must_rewrite = False

    def cut(self) -> None:
        """Drop the last batch, the lower durable op written first. Raises OSError."""
        self.lock.write(self.inc, self.journal.parent_op, sync=True)
        self.journal.cut()

    def remember(self, member: Member) -> None:
        """Write down that this incarnation of another replica was met. Raises OSError."""
        met = {**dict(self.superblock.met), member.replica: member.inc}
        self.save(met=tuple(sorted(met.items())))

    def save_log_view(self, view: int, log_view: int) -> None:
        """The log is the log of this view: from here on it may speak for it. Raises OSError."""
        self.save(view=view, log_view=log_view, suspect=False)
        if self.damage:
            self.damage = ""
            # The lock file may know of more than this log holds, which nobody needs from it any more.
            self.note_durable(self.journal.head_op, sync=True)

    def note_durable(self, op: int, *, sync: bool = False) -> None:
        """Say in the lock file how far this log goes, unless it is not trusted. Raises OSError."""
        if not self.damage:
            self.lock.write(self.inc, op, sync=sync)

    def has_room(self) -> bool:
        """Whether something more would fit on this disk."""
        trial = Ballast(self.disk, os.path.join(self.path, "room.tmp"), ROOM_BYTES)
        return trial.take_in() and trial.release()

    def propose(self, view: View) -> View | None:
        """The register's last view after an attempt to make this one; None: there is no room, not even without the ballast."""
        while True:
            try:
                return self.register.propose(view)
            except RegisterFull:
                if not self.ballast.release():
                    return None

    # --- snapshots ------------------------------------------------------------------------------------------------------------------------

    def place(self, made: str, op: int, tip: bytes, pinned: frozenset[int]) -> None:
        """A snapshot of this replica's own making gets its name; what it makes superfluous goes. Raises OSError."""
        name = snapshots.install(self.disk, self.path, made, op)
        self.save(snapshot_op=op, snapshot_hash=tip, snapshot_name=name)
        self.journal.drop_below(snapshots.prune(self.disk, self.snapshots_path, pinned))
        self.snapshot_op = op

    def install(self, received: str, op: int, tip: bytes, pause: snapshots.Pause = None) -> ChatState:
        """A fetched snapshot becomes the beginning of state and log, which is empty above it. Raises OSError, SnapshotDamaged."""
        name = snapshots.install(self.disk, self.path, received, op)
        state, _ = snapshots.load(self.disk, os.path.join(self.snapshots_path, name), self.cluster, pause=pause)
        generation = self.journal.generation + 1
        self.journal.restart(generation, op, tip)
        suspect = bool(self.damage)
        self.save(suspect=suspect, snapshot_op=op, snapshot_hash=tip, snapshot_name=name, journal_generation=generation)
        self.journal.drop_old()
        snapshots.keep_only(self.disk, self.snapshots_path, name)
        self.must_rewrite, self.snapshot_op = False, op
        return state
