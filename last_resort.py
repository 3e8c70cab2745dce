"""The operator's last resorts: to go on from one disk when the replicas may not decide that, and to cut what is unreadable off a log.

What it is not: it is no way to start a cluster that can start by itself, and it refuses to be one. It runs while no replica does.

    force-new-view          whoever may hold more is gone for good: one replica's log becomes the log
        survivor            a view of this replica alone goes into the register
        majority            as many copies of its disk as a majority needs, all in the first view of a new era
    truncate-corrupt-tail   the log of a replica ends where it can be read; what stood behind it is kept beside it

    every form    read all disks here ▶ refuse, or say what may be lost ▶ the cluster's name ▶ decisions.csv ▶ do it

Invariants:
- Before the name was given nothing is written. After a refusal nothing has been.
- What was decided stands in `data/cluster/decisions.csv` before it is done. Nothing ever removes a line there.
- The replica that was chosen outranks whatever comes back: logs of views before a forced one are set aside (`storage.py`).
- To cut a tail decides nothing: the disk is not believed until others have made it whole, or a view is forced from it.

Read next: `evidence.py`, docs/operations.md.
"""

from __future__ import annotations

import csv
import errno
import getpass
import io
import os
import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from msgspec.structs import replace

from batches import NO_HASH
from disk import Disk, ReplicaLock
from evidence import Evidence, examine, may_restart, shown, stamp
from journal import Journal
from packets import Member, View
from policy import ERA
from register import Register, RegisterDamaged, RegisterFull
from segments import SUFFIX
from settings import SURVIVOR, Address, Settings
from superblock import Superblock, create

DECISIONS = "decisions.csv"
COLUMNS = ("time", "by", "command", "cluster", "replica", "view", "op", "what_may_be_lost")
COPY_BYTES = 1 << 20  # copied at a time
REACH_S = 1.0  # seconds another host may take to say that something listens there


class Refused(Exception):
    """Nothing was done; the text says why, and what to do instead."""


class LastResort:
    """One command, from the first look to the last word. `confirm` asks for the cluster's name; `say` prints; `wall`: microseconds."""

    def __init__(
        self,
        disk: Disk,
        settings: Settings,
        base: str,
        replica: int,
        *,
        confirm: Callable[[], str],
        say: Callable[[str], None],
        wall: Callable[[], int],
        reaches: Callable[[Address], bool],
    ) -> None:
        self.disk, self.settings, self.base, self.id = disk, settings, base, replica
        self.confirm, self.say, self.wall, self.reaches = confirm, say, wall, reaches
        self.ids = tuple(r.id for r in settings.replicas)
        self.enough = len(self.ids) // 2 + 1
        self.cluster_path = os.path.join(base, "cluster")
        self.locks: dict[int, ReplicaLock] = {}
        self.found: dict[int, Evidence] = {}
        self.register: Register | None = None

    @property
    def chosen(self) -> Evidence:
        """The disk that this is about."""
        return self.found[self.id]

    def release(self) -> None:
        """Let replicas start again."""
        for lock in self.locks.values():
            lock.release()
        self.locks.clear()
        if self.register is not None:
            self.register.close()

    # --- the two commands ---------------------------------------------------------------------------------------------------------------

    def force_new_view(self, copies: Sequence[int]) -> None:
        """Make the log of this replica the cluster's. Raises Refused, OSError."""
        self._look()
        self._require_choice()
        if self.settings.policy == SURVIVOR:
            last = self._last_view()
            self._require_need(last)
            if copies:
                raise Refused("copies are for policy majority: here the others fetch all from this replica when they are started")
            number = (last.number if last else max(found.view for found in self.found.values())) + 1
            lost = self._losses(f"view {number}, of replica {self.id} alone, goes on", last)
            self._decide("force-new-view", number, lost)
            self._register_view(number, last)
            return self.say(f"done: view {number} is decided. Start replica {self.id}; whoever joins it later sets its own log aside")
        self._require_copies(copies)
        era = max(self.wall() // 10**6, *(found.view // ERA + 1 for found in self.found.values()))
        number = era * ERA + self.id
        lost = self._losses(f"the era of view {shown(number)}, with copies of this disk as replica {names(copies) or '-'}, goes on", None)
        self._decide("force-new-view", number, lost, copies)
        self._begin_era(number, copies)
        places = ", ".join(os.path.join(self.base, f"replica-{i}") for i in copies)
        moved = f"Bring {places} to its host, if that is not this one, before it is started. " if copies else ""
        self.say(f"done. {moved}Start replica {names((self.id, *copies))}; whoever joins later sets its own log aside")

    def truncate_corrupt_tail(self) -> None:
        """Let the log of this replica end where it can be read. Raises Refused, OSError."""
        self._look()
        found = self.chosen
        if not found.tail:
            raise Refused(f"the log of replica {self.id} can be read to its end, op {found.op}: there is nothing to cut")
        last = self._last_view() if self.settings.policy == SURVIVOR else None
        whole = [i for i in self._able(last) if i != self.id]
        if whole:
            raise Refused(f"the disk of replica {names(whole)} is whole: start it, and this one; it makes this log whole again")
        lost = [f"  what is wrong: {found.tail}", *self._losses(f"the log of replica {self.id} is cut there and ends", last)]
        self._decide("truncate-corrupt-tail", 0, lost)
        kept = self._cut_tail()
        self.say(f"done: what was there is kept in {kept}")
        self.say(
            "This disk is not believed yet: with the other replicas it is made whole again when it is started; if they are gone for"
            f" good, the next step is: server.py force-new-view --replica {self.id}"
        )

    # --- looking and refusing -------------------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Read every disk here, while nobody can start."""
        if not self.disk.exists(self.cluster_path):
            raise Refused(f"there is no cluster in {self.base}: --data names the directory in which `cluster` and `replica-{self.id}` are")
        for i in self.ids:
            # A lock file that is not there belongs to a replica that has never run here; to make one would be a change.
            if self.disk.exists(ReplicaLock.path(self.cluster_path, i)):
                lock = ReplicaLock.acquire(self.disk, self.cluster_path, i)
                if lock is None:
                    raise Refused(f"replica {i} runs: see what `server.py status` says; if it does not help, stop all replicas first")
                self.locks[i] = lock
        for r in self.settings.replicas:
            if self.settings.policy != SURVIVOR and r.id != self.id and self.reaches(r.peer):
                raise Refused(
                    f"something listens at {r.peer}, where replica {r.id} lives: nothing may be decided here while it does. Start this"
                    " replica, and see what `server.py status` says; if they cannot go on together, stop that one first"
                )
        for i in self.ids:
            lock = self.locks.get(i)
            self.found[i] = found = examine(self.disk, self.base, i, self.settings.name, lock.before if lock else None)
            sb = found.superblock
            if sb is not None and (sb.replica != i or sb.cluster not in ("", self.settings.name)):
                raise Refused(f"what lies in the place of replica {i} belongs to replica {sb.replica} of the cluster {sb.cluster!r}")

    def _last_view(self) -> View | None:
        self.register = Register(self.disk, self.cluster_path, self.settings.name, f"proposal-{self.id}")
        try:
            last = self.register.last()
        except RegisterDamaged as error:
            raise Refused(f"{error}. Move all view-* files out of {self.cluster_path}, and try again") from error
        ahead = [found.replica for found in self.found.values() if last is not None and found.view > last.number]
        if ahead:
            raise Refused(
                f"replica {names(ahead)} has worked in a later view than the register knows: {self.cluster_path} is older than its"
                " replicas. Put the right one back, or move all view-* files out of it, and try again"
            )
        return last

    def _require_choice(self) -> None:
        found = self.chosen
        if not found.is_there or not (found.op or found.log_view):
            raise Refused(f"replica {self.id} holds nothing to go on from; to begin a new cluster, give another --data")
        if found.tail:
            raise Refused(
                f"the log of replica {self.id} cannot be read to its end: {found.tail}. To go on without what stands there, first:"
                f" server.py truncate-corrupt-tail --replica {self.id}"
            )
        if found.superblock and found.superblock.replicas != (now := len(self.ids)):
            there, word = found.superblock.replicas, f"server.py grow --replica {self.id}"
            raise Refused(f"replica {self.id} is one of {there} replicas, and cluster.yaml lists {now}: {word}, or correct the list")
        better = [o for o in self.found.values() if not o.doubt and o.rank > found.rank]
        if better:
            raise Refused(f"replica {better[0].replica} holds more than replica {self.id}. {better[0].tell()}")

    def _able(self, last: View | None) -> list[int]:
        """Whose disk the cluster could go on from by itself, as far as disks here can tell."""
        if self.settings.policy != SURVIVOR:
            return [i for i, found in self.found.items() if not found.doubt]
        able = [i for i, found in self.found.items() if may_restart(found, last, self.settings.name, self.ids)]
        return able if last is not None or len(able) == len(self.ids) else []

    def _require_need(self, last: View | None) -> None:
        level = [i for i in self._able(last) if self.found[i].rank >= self.chosen.rank]
        if level:
            which = f"all of {names(self.ids)}" if last is None else names(level)
            raise Refused(f"there is no need: the cluster goes on by itself, and loses nothing, when replica {which} is started")

    def _require_copies(self, copies: Sequence[int]) -> None:
        whole = self._able(None)
        if len(whole) >= self.enough:
            raise Refused(f"there is no need: replica {names(whole)} are whole and a majority; start them")
        wanted = self.enough - 1
        if len(set(copies)) != wanted or len(copies) != wanted or not set(copies) <= set(self.ids) - {self.id}:
            raise Refused(
                f"nothing goes on without {self.enough} of {len(self.ids)} replicas: say with --copy which {wanted} of the others"
                " shall begin with a copy of this disk"
            )
        for i in copies:
            if self.found[i].is_there:
                raise Refused(f"{os.path.join(self.base, f'replica-{i}')} is not empty: move it aside, and keep it, before it gets a copy")

    # --- saying and writing down ----------------------------------------------------------------------------------------------------------

    def _losses(self, what: str, last: View | None) -> list[str]:
        """What the disks know of what this replica's log lacks."""
        found = self.chosen
        lines = [f"  everything that was acknowledged after op {found.op}{found.when()}"]
        for o in self.found.values():
            most = max(o.op if o.is_there else 0, o.durable_op)
            if most > found.op:
                lines.append(f"  replica {o.replica} has held op {most}: ops {found.op + 1} to {most} may be lost")
        if last is not None:
            lines.append(
                f"  the register ends at view {last.number}, of replica {names(last.replicas)} ({last.reason}), decided at op {last.op}"
            )
            lines += [f"  ops {found.op + 1} to {last.op} were acknowledged before that view"] if last.op > found.op else []
        if last is None or last.forced > found.log_view:
            lines.append("  everything that was acknowledged in a view that an operator forced without this disk, if there is one")
        absent = [i for i, o in self.found.items() if not o.is_there]
        if absent:
            lines.append(f"  nothing is known here of what replica {names(absent)} acknowledged, alone or together")
        if found.last is not None:
            ops = f"{found.last.first_op} to {found.last.op}"
            lines.append(f"  its last batch, ops {ops}, may never have been acknowledged; now it counts, and no other that was")
        return [f"If {what} at op {found.op}, this may be lost:", *lines]

    def _decide(self, command: str, view: int, lost: list[str], copies: Sequence[int] = ()) -> None:
        """Show all that is known, have the name said, and write down what is going to be done."""
        self.say(f"{command} --replica {self.id}, cluster {self.settings.name}, policy {self.settings.policy}. What the disks here say:")
        for found in self.found.values():
            self.say(f"  {found.tell()}")
        for line in lost:
            self.say(line)
        if self.confirm() != self.settings.name:
            raise Refused("that is not the cluster's name: nothing was done")
        for i in (self.id, *copies):
            lock = self.locks.get(i) or ReplicaLock.acquire(self.disk, self.cluster_path, i)
            if lock is None:
                raise Refused(f"replica {i} has been started meanwhile: nothing was done")
            self.locks[i] = lock
        row = [stamp(self.wall()), getpass.getuser(), command, self.settings.name, self.id, view, self.chosen.op, "\n".join(lost)]
        path = os.path.join(self.cluster_path, DECISIONS)
        text = io.StringIO()
        writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
        if not self.disk.exists(path):
            writer.writerow(COLUMNS)
        writer.writerow(row)
        fd = self.disk.open(path, create=True)
        try:
            self.disk.pwrite(fd, text.getvalue().encode(), self.disk.size(fd))
            self.disk.sync(fd)
        finally:
            self.disk.close(fd)
        self.disk.sync_dir(self.cluster_path)

    # --- doing it -------------------------------------------------------------------------------------------------------------------------

    def _path(self, replica: int, *names: str) -> str:
        return os.path.join(self.base, f"replica-{replica}", *names)

    def _open_log(self) -> Journal:
        """As a start does: the last batch, which may be in the page cache only, is written once more and synced."""
        found = self.chosen
        return Journal.open(self.disk, self._path(self.id, "journal"), found.generation, *found.snapshot[:2], salvage=True)

    def _next_inc(self, replica: int) -> int:
        """Above every incarnation that this disk, its lock, the register or another disk has heard of."""
        sb, lock = self.found[replica].superblock, self.found[replica].lock
        met = [dict(o.superblock.met).get(replica, 0) for o in self.found.values() if o.superblock is not None]
        listed = [m.inc for v in (self.register.recent(1000) if self.register else ()) for m in v.members if m.replica == replica]
        return max(sb.inc if sb else 0, lock.inc if lock else 0, *met, *listed, 0 if sb and sb.inc else self.wall()) + 1

    def _write_superblock(self, replica: int, **changes: Any) -> None:
        """The log that was found, as this replica's; in one step."""
        found = self.chosen
        blank = Superblock(
            cluster=self.settings.name,
            replica=replica,
            replicas=len(self.ids),
            config_hash=self.settings.config_hash(),
            format_nonce=os.urandom(8),
            inc=0,
        )
        op, tip, name = found.snapshot
        log = {"snapshot_op": op, "snapshot_hash": tip, "snapshot_name": name, "journal_generation": found.generation}
        before = self.found[replica].superblock or blank
        create(self.disk, self._path(replica, "superblock"), replace(before, cluster=self.settings.name, **log, **changes))

    def _register_view(self, number: int, last: View | None) -> None:
        """The register first: until it says so, nothing is decided, and the disk stays as doubtful as it was."""
        found, me = self.chosen, Member(self.id, self._next_inc(self.id))
        assert self.register is not None
        self._open_log().close()
        reason = f"forced by an operator: it goes on from replica {self.id}"
        chain = last.chain_hash() if last else NO_HASH
        view = View(self.settings.name, number, me, (me,), found.op, found.hash, reason, self.wall(), False, chain, number)
        try:
            decided = self.register.propose(view)
        except RegisterFull as error:
            raise OSError(errno.ENOSPC, f"no view was decided: {error}") from error
        assert decided == view, f"view {number} was decided by somebody else: {decided}"
        sb = found.superblock
        born = (sb.born if sb else 0) or me.inc
        self._write_superblock(self.id, inc=me.inc, born=born, view=number, log_view=number, suspect=False, forced=number)
        self.locks[self.id].write(me.inc, found.op, sync=True)

    def _begin_era(self, number: int, copies: Sequence[int]) -> None:
        """Whole copies first: if this ends half-way, the chosen disk is what it was."""
        found = self.chosen
        self._open_log().close()
        incs = {i: self._next_inc(i) for i in (*copies, self.id)}
        for i in (*copies, self.id):
            if i != self.id:
                self._copy_log(i)
            met = {**dict(found.superblock.met if found.superblock else ()), **{o: inc for o, inc in incs.items() if o != i}}
            met.pop(i, None)
            words = {"met": tuple(sorted(met.items())), "inc": incs[i], "born": incs[i], "suspect": False}
            self._write_superblock(i, view=number, log_view=number, forced=number, **words)
            self.locks[i].write(incs[i], found.op, sync=True)

    def _copy_log(self, replica: int) -> None:
        name = self.chosen.snapshot[2]
        for inner in ("journal", "snapshots"):
            self.disk.mkdir(self._path(replica, inner))
        for segment in self._segments():
            self._copy(self._path(self.id, "journal", segment), self._path(replica, "journal", segment))
        if name:
            self.disk.mkdir(self._path(replica, "snapshots", name))
            for file in self.disk.listdir(self._path(self.id, "snapshots", name)):
                self._copy(self._path(self.id, "snapshots", name, file), self._path(replica, "snapshots", name, file))
            self.disk.sync_dir(self._path(replica, "snapshots", name))
        for path in (self._path(replica, "journal"), self._path(replica, "snapshots"), self._path(replica), self.base):
            self.disk.sync_dir(path)

    def _segments(self) -> list[str]:
        """Names of the segments of the log that was found, oldest first."""
        own = f"{self.chosen.generation:08x}-"
        return [n for n in self.disk.listdir(self._path(self.id, "journal")) if n.startswith(own) and n.endswith(SUFFIX)]

    def _copy(self, source: str, target: str) -> None:
        reading, writing = self.disk.open(source), self.disk.open(target, create=True)
        try:
            at = 0
            while piece := self.disk.pread(reading, COPY_BYTES, at):
                self.disk.pwrite(writing, piece, at)
                at += len(piece)
            self.disk.sync(writing)
        finally:
            self.disk.close(reading)
            self.disk.close(writing)

    def _cut_tail(self) -> str:
        """A copy of every segment that is changed or removed; the mark, so that nobody takes the rest for all; then the cut."""
        kept = self._path(self.id, f"cut-{self.wall()}")
        self.disk.mkdir(kept)
        names = self._segments() if self.disk.exists(self._path(self.id, "journal")) else []
        first = max((n for n in names if int(n[9:25], 16) <= self.chosen.op + 1), default="")
        for name in [n for n in names if n >= first]:
            self._copy(self._path(self.id, "journal", name), os.path.join(kept, name))
        self.disk.sync_dir(kept)
        self.disk.sync_dir(self._path(self.id))
        self._write_superblock(self.id, suspect=True)
        log = self._open_log()
        try:
            log.drop_damage()
        finally:
            log.close()
        return kept


def listens(address: Address) -> bool:
    """Whether anything takes connections there."""
    try:
        with socket.create_connection((address.host, address.port), REACH_S):
            return True
    except OSError:
        return False


def names(replicas: Iterable[int]) -> str:
    """Their ids, for people."""
    return ", ".join(str(i) for i in replicas)
