"""The invariants of the protocol (docs/replication.md), looked at after every step of every replica, at every packet and at every death.

What it is not: what guests are promised is `checks.py`'s affair, and what a log means is the specification's.

    no.  invariant                                                          where it is looked at
    1    PrepareOk(n): all up to n is synced, its file's name too;           on_ack
         log_view == view, and the superblock says so; and no log gets       promises.py
         shorter in that view
    2    applied <= commit <= head; inc, view, log_view, commit, applied,    after_step, on_start
         generation never go back; log_view <= view
    3    the same (op, hash) has the same log before it                      _follow_log
    4    nothing committed is cut                                            _follow_log, hold
    5    what is committed is in the log of every member                     hold: at each commit, each new view, each start
         a disk that is trusted holds what its replica acknowledged          promises.py, at each start
    6    two commits of one op are equal                                     Checks.on_apply
    7    at most one replica passes the read guard                           _guard: it is the register's primary, or none
    8    a primary answers only with commit >= start_op                      on_answering
    9    views count up by one, chained by hash, each made from the one      on_view, _judge_members
         before; whoever is added was joint
    10   nobody shares a replica's lock                                      on_start; the fault `second start`
    11   after a failed sync of the log: no PrepareOk, no second sync of it  on_ack, on_sync
    12   a reply never changes, a request is executed once                   Checks.on_apply, the specification
    13   messages of an account are numbered without a gap, each once;       the specification against the state, message by message
         none to a deleted account
    14   equal op, equal digest                                              Checks.on_apply, on_start, and of snapshots: on_snapshot
    15   superblock.view <= the register's last                              after_step
    16   joint mode is unbroken from its beginning to the view               on_view: open since an earlier step, in that view;
                                                                             hold: no commit meanwhile without the learner
    17   a snapshot loads to its own digest, and is the same bytes at all    on_snapshot
         replicas at equal op
    18   queues, packets and lines of the log stay below their bounds        on_packet, bounds, on_line
    19   a healed core answers within 5 s, and all converge                  simulation.py
    20   in every log all but the last batch is committed, and nothing but   _follow_log, on_start
         a last batch is cut
    21   a learner's log and log_view stay while another incarnation of it   _frozen
         stands in the view; what it takes in a view is its primary's       promises.py
    22   an ack counts only with the primary's own hash, and in its view     _acks, promises.py
    23   an answer of the disk counts only in its generation, and nothing    on_core_step, promises.py
         is said in a new one before those of the old one are there

`looked` counts how often each was looked at; the report of a run shows it.

Read next: `checks.py`.
"""

from __future__ import annotations

import random
from hashlib import sha256
from operator import ge
from typing import Any

import batches
import replication
import server
import transfer
from batches import NO_HASH
from events import Event, Persisted
from packets import Chunk, Forward, Member, NewState, Packet, Prepare, PrepareOk, View
from register import _decode
from replication import LEARNER, NORMAL, READ_ONLY
from snapshots import MANIFEST, SnapshotDamaged, listed, load
from tests.simulator.disk import SimDirectory, SimDisk, SimFile, SimFiles
from tests.simulator.promises import Promises
from tests.simulator.world import BASE, Process, Violation, World

LINE_MAX = 2000  # characters of a line of a replica's log
RUN_MAX = 80 << 10  # bytes of one run: a batch takes at least one, however long
BOUNDS_EVERY = 64  # steps between two looks at queues
Tip = tuple[int, bytes]


class Invariants:
    """See the module's page. `commit` and `tips`: the committed log as `Checks` knows it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.commit = 0
        self.tips: dict[int, bytes] = {0: NO_HASH}  # last op of each committed batch -> its hash
        self.digests: dict[int, int] = {0: 0}  # op of each batch -> of the state after it, as the first sound replica has it
        self.view: View | None = None  # the register's last
        self.views: list[View] = []
        self.was_lost = False  # the register, with all its records
        self.seen_version = -1  # of the files, when the register was looked at last
        self.heads: dict[int, Tip] = {}  # how the logs of dead replicas end
        self.spoiled: dict[int, float] = {}  # replicas whose files were damaged on purpose, and when
        self.touched: set[int] = set()  # replicas whose disk was full or failed
        self.incs: dict[tuple[int, int], float] = {}
        self.newest_inc: dict[int, int] = {}
        self.acked_view: dict[int, int] = {}  # newest view in which a replica acknowledged anything
        self.acted_in: dict[int, int] = {}  # newest view that a replica took
        self.parents: dict[Tip, Tip] = {}
        self.joint: dict[int, tuple[int, Member | None]] = {}  # replica -> its view, and whom it was taking in at its last step's end
        self.frozen: dict[int, tuple[Any, ...]] = {}
        self.rotten: set[int] = set()  # replicas of whose files some bit was turned over
        self.folders: dict[int, dict[str, bytes]] = {}  # op -> SHA-256 of each file of its snapshot
        self.eyes = [self._eye(world.files_of(replica)) for replica in range(world.count)]
        self.looked = dict.fromkeys(range(1, 24), 0)  # no Counter: it counts several times a step
        self.promises = Promises()
        self.dark: set[int] = set()  # replicas whose power failed in the middle of a catch-up, until their disk is trusted again
        self.saw_wrong = False  # whether some replica's memory was made wrong
        self.steps = 0

    def fail(self, text: str) -> None:
        raise Violation(text)

    def _eye(self, files: SimFiles) -> SimDisk:
        """A disk of nobody's: no fault, no chance, and no power to lose."""
        eye = SimDisk(random.Random(0), files)
        eye.knows_sites = False
        files.disks.remove(eye)
        return eye

    # --- after a step ---------------------------------------------------------------------------------------------------------------------

    def after_step(self, process: Process) -> None:
        """All that can be seen in a replica at rest. What has not changed since is not looked at again."""
        r = process.server.replica
        self.steps += 1
        if self.seen_version != self.world.files.version:
            self.look_at_register()
        joint = getattr(process.server.policy, "joint", None)
        seen = (r.view, r.log_view, r.commit, r.applied, r.generation, r.head_op, r.head_hash, r.status, joint, len(r.acks), self.view)
        if seen != process.seen:
            self._looked(2, 3, 4, 7, 15, 16, 20, 21, 22)
            self._ladder(process, r)
            self._follow_log(process, r)
            self._frozen(process, r)
            self._guard(process, r)
            self._acks(process, r)
            self.promises.counted(process, r)
            self._reach(process)
            self._leave_dark(process)
            self.joint[process.id] = (r.view, joint)
            process.seen = seen
        if not self.steps % BOUNDS_EVERY:
            self.bounds(process)

    def _looked(self, *numbers: int) -> None:
        looked = self.looked
        for number in numbers:
            looked[number] += 1

    def _ladder(self, process: Process, r: Any) -> None:
        marks = (r.view, r.log_view, r.commit, r.applied, r.generation)
        if process.marks and not all(map(ge, marks, process.marks)):
            self.fail(f"replica {process.id} went back: view, log_view, commit, applied, generation {process.marks} -> {marks}")
        process.marks = marks
        if r.view > self.acted_in.get(process.id, 0):
            self.acted_in[process.id] = r.view
        if not r.applied <= r.commit <= r.head_op or r.log_view > r.view:
            self.fail(f"the ladder is broken: {r}")
        known = process.server.storage.superblock.view
        if self.view is not None and known > self.view.number:
            self.fail(f"superblock of replica {process.id} is at view {known}, the register at {self.view.number}")

    def _follow_log(self, process: Process, r: Any) -> None:
        """What a log may do: grow by batches that follow, lose its last one, or begin anew with a snapshot."""
        tip, parent = (r.head_op, r.head_hash), (r.parent_op, r.parent_hash)
        before = process.tip
        process.tip = (tip, parent)
        if before is not None and before[0] == tip:
            return
        if before is not None and tip[0] < before[0][0]:
            self.promises.shortened(process, r)
        elif before is not None:
            self.promises.grown(process, r)
        if tip != parent and self.parents.setdefault(tip, parent) != parent:
            self.fail(f"two logs end in op {tip[0]} with the same hash, and differ before it")
        if parent[0] > self.commit:
            self.fail(f"replica {process.id} holds op {parent[0]} below another batch, and only op {self.commit} is committed")
        if self.tips.get(parent[0], parent[1]) != parent[1]:
            self.fail(f"the log of replica {process.id} has another batch at op {parent[0]} than was committed")
        if before is not None and tip[0] < before[0][0] and tip != before[1] and tip != parent and parent[0] < before[1][0]:
            self.fail(f"replica {process.id} cuts from op {before[0][0]} to op {tip[0]}: more than its last batch")
        if before is not None and tip == before[1] and tip[0] < self.commit and self.tips.get(before[0][0]) == before[0][1]:
            self.fail(f"replica {process.id} cuts op {before[0][0]}, which is committed")

    def _frozen(self, process: Process, r: Any) -> None:
        """A learner whose id stands in the register's last view may be needed to restart the cluster as it is."""
        if r.status != LEARNER or self.view is None or process.id not in self.view.replicas or r.me in self.view.members:
            self.frozen.pop(process.id, None)
            return
        storage = process.server.storage
        now = (storage.journal.head_op, storage.journal.head_hash, storage.superblock.log_view)
        before = self.frozen.setdefault(process.id, now)
        if before != now:
            self.fail(
                f"learner {process.id} changes its disk from op {before[0]} (log_view {before[2]}) to op {now[0]} (log_view {now[2]})"
                f" while view {self.view.number} counts on it"
            )

    def _guard(self, process: Process, r: Any) -> None:
        """Who could answer a read now: it leads, and no newer view exists."""
        if not r.is_primary or r.status not in (NORMAL, READ_ONLY):
            return
        if self.view is not None and r.view == self.view.number and self.view.primary != r.me:
            self.fail(f"replica {process.id} passes the guard of view {r.view}, which {self.view.primary} leads")
        for other in self.world.processes.values():
            if other is process or not other.alive or not hasattr(other.server, "replica"):
                continue
            o = other.server.replica
            if o.is_primary and o.view == r.view and o.status in (NORMAL, READ_ONLY):
                self.fail(f"replicas {process.id} and {other.id} both lead view {r.view}")

    def _acks(self, process: Process, r: Any) -> None:
        """Whoever was counted has this very batch. (A primary of the past does not know yet that others have gone on.)"""
        if r.in_flight is None or not r.is_primary or self.view is None or r.view != self.view.number:
            return
        for replica in r.acks:
            if replica not in self.spoiled and self._tip_of(replica) != (r.head_op, r.head_hash):
                self.fail(
                    f"replica {process.id} counts an ack of {replica} for op {r.head_op}, whose log ends at {self._tip_of(replica)[0]}"
                )

    def _reach(self, process: Process) -> None:
        """The log goes on from the snapshot that its superblock names, or begins before it."""
        storage = process.server.storage
        if not storage.damage and storage.journal.oldest_op > storage.superblock.snapshot_op + 1:
            self.fail(
                f"the log of replica {process.id} begins at op {storage.journal.oldest_op}, its superblock names the snapshot"
                f" of op {storage.superblock.snapshot_op}"
            )

    def _leave_dark(self, process: Process) -> None:
        """What the power took has been made whole, however many starts that has needed."""
        if not process.server.storage.damage:
            self.dark.discard(process.id)

    def bounds(self, process: Process) -> None:
        """How much waits here."""
        desk = process.server.desk
        self._looked(18)
        slack = len(desk.connections) * (1 << 20)  # what one chunk of each connection may still bring after it was told to pause
        if max(desk.open_bytes, desk.unanswered_bytes) > desk.backlog_max + slack:
            self.fail(f"replica {process.id} keeps {desk.open_bytes} bytes of runs, {desk.unanswered_bytes} unanswered")

    # --- start and death ------------------------------------------------------------------------------------------------------------------

    def on_start(self, process: Process) -> None:
        view, state = self.view, process.server.state
        r, journal = process.server.replica, process.server.storage.journal
        self._looked(2, 5, 10, 14, 20)
        inc = r.me.inc
        if inc <= self.newest_inc.get(process.id, 0):
            self.fail(f"replica {process.id} starts as incarnation {inc}, and was {self.newest_inc[process.id]} before")
        self.newest_inc[process.id] = inc
        self.incs[process.id, inc] = self.world.now
        self._hold_lock(process)
        if self.digests.get(state.op, state.digest) != state.digest:
            self.fail(f"replica {process.id} starts with another state of op {state.op} than the others had")
        self.promises.remembers(process, self.commit, self.tips)
        was_dark = process.id in self.dark
        self._leave_dark(process)
        if process.id in self.spoiled:
            return
        if journal.parent_op > self.commit:
            self.fail(
                f"replica {process.id} starts with op {journal.parent_op} below another batch, and only op {self.commit} is committed"
            )
        if not r.damage and r.log_view < self.acked_view.get(process.id, 0):
            self.fail(f"replica {process.id} acknowledged in view {self.acked_view[process.id]} and starts at log_view {r.log_view}")
        # A learner stores many batches with one sync: what the power takes of them looks like rot, and it fetches them again.
        if r.damage and not was_dark and process.id not in self.touched | self.rotten:
            self.fail(f"replica {process.id} distrusts a disk that nothing was done to: {r.damage}")
        if view is None or process.id not in view.replicas:
            return
        if r.damage:
            self.fail(f"replica {process.id} of view {view.number} distrusts a disk that nothing was done to: {r.damage}")
        if journal.head_op < self.commit:
            self.fail(f"replica {process.id} of view {view.number} starts with op {journal.head_op}, committed was {self.commit}")

    def _hold_lock(self, process: Process) -> None:
        entry = process.files.find(f"{BASE}/cluster/replica-{process.id}.lock")
        kind, holders = process.files.locks.get(entry.inode, ("", set())) if isinstance(entry, SimFile) else ("", set())
        if kind != "exclusive" or [disk for disk, _ in holders] != [process.disk]:
            self.fail(f"replica {process.id} runs, and its lock is held by {len(holders)} ({kind or 'nobody'})")

    def on_death(self, process: Process) -> None:
        storage = process.server.storage
        if getattr(storage, "journal", None) is not None:
            self.heads[process.id] = (storage.journal.head_op, storage.journal.head_hash)
        self.look_at_register()  # its last step may have made a view
        self.frozen.pop(process.id, None)
        self.joint.pop(process.id, None)
        superblock = getattr(storage, "superblock", None)
        if superblock is not None and superblock.suspect and process.id in self.touched:
            self.spoiled.setdefault(process.id, self.world.now)

    def _tip_of(self, replica: int) -> Tip:
        """How this replica's log ends, alive or dead."""
        process = self.world.processes.get(replica)
        if process is not None and process.alive and hasattr(process.server, "replica"):
            return process.server.storage.journal.head_op, process.server.storage.journal.head_hash
        return self.heads.get(replica, (0, NO_HASH))

    def _lives(self, member: Member) -> bool:
        """Whether this very incarnation runs: a learner that has died can never be registered."""
        process = self.world.processes.get(member.replica)
        return process is not None and process.alive and hasattr(process.server, "replica") and process.server.replica.me == member

    # --- commits and views ----------------------------------------------------------------------------------------------------------------

    def on_commit(self, process: Process, op: int) -> None:
        """A batch is applied for the first time anywhere."""
        r = process.server.replica
        if r.is_primary and r.last is not None and r.last.op == op and r.last.view != r.view:
            self.world.say(f"-- op {op}, begun in view {r.last.view}, is committed in view {r.view}")
        self.commit = op
        self.promises.commits(process, self.others_needed())
        journal = process.server.storage.journal
        if journal.head_op >= op:
            with process.disk.unnoticed():
                self.tips[op] = journal.head_hash if journal.head_op == op else journal.hash_at(op) or NO_HASH
        self.hold("commit", getattr(process.server.policy, "joint", None))

    def others_needed(self) -> int:
        """How many others have to acknowledge a batch; -1: all members of the view."""
        return -1

    def hold(self, why: str, joint: Member | None = None) -> None:
        """Every member of the register's view, and the learner that is being taken in, has what is committed."""
        view, op = self.view, self.commit
        if view is None:
            return
        self._looked(4, 5)
        for member in view.members if joint is None else (*view.members, joint):
            if member.replica in self.spoiled or (member == joint and not self._lives(joint)):
                continue
            head, tip = self._tip_of(member.replica)
            if head < op or (head == op and self.tips.get(op, tip) != tip):
                role = "learner in joint mode" if member == joint else f"member of view {view.number}"
                self.fail(f"{why}: op {op} is committed, but {member.replica}, {role}, ends at op {head}")

    def is_whole(self) -> bool:
        """Whether every replica is a member."""
        return self.view is not None and len(self.view.members) == self.world.count

    def look_at_register(self) -> None:
        """What stands there, whoever has read it. Looked at again only when some name on the disk has changed."""
        self.seen_version = self.world.files.version
        while True:
            view = self._record(self.view.number + 1 if self.view else self._first_number())
            if view is None:
                return
            before, self.view = self.view, view
            self.views.append(view)
            self.on_view(before, view)

    def register_lost(self) -> None:
        """No record is left, and nobody lives who has read one: it may be begun again by any who have all that is committed."""
        self.view, self.views, self.was_lost = None, [], True

    def _first_number(self) -> int:
        """Of a register that begins: 1, or above all that the disks know of where it was lost."""
        try:
            cluster = self.world.files.find(f"{BASE}/cluster")
        except OSError:
            return 1  # a power cut took it before anybody had synced it
        names = cluster.entries if isinstance(cluster, SimDirectory) else ()
        return min((int(name[-10:]) for name in names if name.startswith("view-")), default=1)

    def _record(self, number: int) -> View | None:
        try:
            file = self.world.files.find(f"{BASE}/cluster/view-{number:010d}")
        except OSError:
            return None
        return _decode(bytes(file.content)) if isinstance(file, SimFile) else None

    def on_view(self, before: View | None, view: View) -> None:
        self._looked(9)
        if before is not None:
            if view.number != before.number + 1 or view.prev_hash != before.chain_hash():
                self.fail(f"view {view.number} does not follow view {before.number}")
            self._judge_members(before, view)
        elif len(view.members) != len(self.world.mix.settings.replicas) and not self.was_lost:
            self.fail(f"the first view has the members {[m.replica for m in view.members]}")
        for member in view.members:
            since = self.spoiled.get(member.replica)
            if since is not None and self.incs.get((member.replica, member.inc), -1.0) >= since:
                del self.spoiled[member.replica]
        self.hold(f"view {view.number}")
        self._tell_view(view)

    def _tell_view(self, view: View) -> None:
        """For the story: who leads whom, what is committed, and what becomes of batches that are not."""
        members = ", ".join(str(m.replica) for m in view.members)
        self.world.say(f"-- view {view.number}: {view.primary} leads {members} ({view.reason}); op {self.commit} is committed")
        leading = self._tip_of(view.primary.replica)
        ends: dict[Tip, list[int]] = {}
        for replica in range(len(self.world.mix.settings.replicas)):
            ends.setdefault(self._tip_of(replica), []).append(replica)
        for (op, tip), holders in sorted(ends.items()):
            if op > self.commit:
                where = f"op {op} is in the log of {', '.join(map(str, holders))} and not committed"
                fate = "kept: the primary has it, and goes on from it" if (op, tip) == leading else "lost: nobody was told that it was done"
                self.world.say(f"-- {where}; {fate}")

    def _judge_members(self, before: View, view: View) -> None:
        """Each view is made from the one before: some leave, one joins that was joint, or all begin anew that stood there."""
        old, new = set(before.members), set(view.members)
        added, name = new - old, f"view {view.number} ({view.reason})"
        if len({m.replica for m in new}) != len(new) or view.primary not in new:
            self.fail(f"{name}: a replica stands there twice, or its primary does not")
        if not added:
            rightful = before.primary if before.primary in new else min(new)
            if view.primary != rightful or (new == old and not view.closed):
                self.fail(f"{name}: led by {view.primary}, should be {rightful}; nobody left and it is not closed: {new == old}")
        elif len(added) == 1 and (new > old or new == added) and self._was_joint(before, *added):
            if view.primary != (before.primary if new > old else view.members[0]):
                self.fail(f"{name}: a join changes the primary")
        elif new & old or not (before.closed or all(m.replica in before.replicas for m in added)):
            self.fail(f"{name}: {[m.replica for m in added]} added, neither taken in by joint mode nor entitled to begin anew")
        elif any(m.inc < max((o.inc for o in old if o.replica == m.replica), default=0) for m in added):
            self.fail(f"{name}: an older incarnation comes back")

    def _was_joint(self, before: View, member: Member) -> bool:
        """Whether the primary had it in joint mode, unbroken, until the step that made this view."""
        self._looked(16)
        return self.joint.get(before.primary.replica) == (before.number, member)

    def on_power_cut(self) -> None:
        """A view whose name had not reached the disk never was; nobody may have acted on it before its directory was synced.

        Nobody is left who has seen an incarnation that no view names, and a disk may have forgotten it.
        """
        self.newest_inc = {}
        while self.views and self._record(self.views[-1].number) != self.views[-1]:
            lost = self.views.pop()
            self.world.say(f"the record of view {lost.number} is lost with the power")
            acted = [i for i, number in self.acted_in.items() if number >= lost.number]
            if acted:
                self.fail(f"view {lost.number} is lost, and replica {acted[0]} had acted on it")
        self.view = self.views[-1] if self.views else None
        for view in self.views:
            for member in view.members:
                self.newest_inc[member.replica] = max(self.newest_inc.get(member.replica, 0), member.inc)

    # --- snapshots ------------------------------------------------------------------------------------------------------------------------

    def on_snapshot(self, replica: int, op: int, path: str) -> None:
        """A worker has finished this folder: the same bytes as everybody's at this op, and the state of that op."""
        self._looked(17)
        sums = self._sums(replica, path)
        if replica in self.rotten:  # full message files are linked unread; the manifest is compared all the same
            known = self.folders.get(op)
            if known is not None and sums[MANIFEST] != known[MANIFEST]:
                self.fail(f"the snapshot of op {op} by replica {replica} has another manifest than that of the others")
            return
        known = self.folders.setdefault(op, sums)
        differ = sorted(name for name in sums.keys() | known.keys() if sums.get(name) != known.get(name))
        if differ:
            self.fail(f"the snapshot of op {op} by replica {replica} differs from that of another: {differ[:4]}")
        if known is not sums:
            return
        try:
            state, manifest = load(self.eyes[replica], path, self.world.mix.settings.name, verify_history=True)
        except (OSError, SnapshotDamaged) as error:
            raise Violation(f"the snapshot of op {op} by replica {replica} cannot be loaded: {error}") from error
        if op not in self.tips:
            self.fail(f"replica {replica} makes a snapshot of op {op}, where no committed batch ends")
        if (state.op, state.digest) != (op, self.digests.get(op, manifest.digest)) or manifest.hash != self.tips[op].hex():
            self.fail(
                f"the snapshot of op {op} by replica {replica} loads to digest {state.digest}, the replicas have {self.digests.get(op)}"
            )

    def _sums(self, replica: int, path: str) -> dict[str, bytes]:
        return {name: sha256(content).digest() for name, content in self.files_in(replica, path)}

    def files_in(self, replica: int, path: str) -> list[tuple[str, bytearray]]:
        """What lies in a folder of this replica's, in order of the names."""
        directory = self.world.files_of(replica).find(path)
        assert isinstance(directory, SimDirectory), path
        return [(name, file.content) for name, file in sorted(directory.entries.items()) if isinstance(file, SimFile)]

    def compare_folders(self) -> None:
        """At the end: what lies on the disks, made there or fetched, is the same at equal op."""
        for replica in sorted(self.world.processes):
            path = f"{BASE}/replica-{replica}/snapshots"
            eye = self.eyes[replica]
            for name in listed(eye, path) if eye.exists(path) and replica not in self.rotten else ():
                known = self.folders.get(int(name))
                if known is not None and self._sums(replica, f"{path}/{name}") != known:
                    self.fail(f"the snapshot of op {int(name)} on the disk of replica {replica} is not what was made of that op")

    # --- packets, disk, lines -------------------------------------------------------------------------------------------------------------

    def on_packet(self, process: Process, packet: Packet) -> None:
        """Before it leaves."""
        kind = type(packet)
        self.promises.speaks(process, packet)
        if kind is PrepareOk:
            self.on_ack(process, packet)  # type: ignore[arg-type]
        elif kind in SIZES:
            self._looked(18)
            size, most = SIZES[kind](packet)
            if size > most:
                self.fail(f"replica {process.id} sends a {kind.__name__} of {size} bytes, at most {most}")

    def on_ack(self, process: Process, packet: PrepareOk) -> None:
        op, durable = packet.op, process.server.storage.superblock.log_view
        r, journal = process.server.replica, process.server.storage.journal
        self._looked(1, 11)
        if packet.view != r.view or r.log_view != r.view or durable != r.view:
            self.fail(f"replica {process.id} acknowledges op {op} in view {packet.view} at log_view {durable}")
        if (journal.head_op, journal.head_hash) != (op, packet.hash):
            self.fail(f"replica {process.id} acknowledges op {op}, its journal ends at {journal.head_op}")
        paths = [segment.path for segment in journal._segments]
        files = process.files
        names = {path.rpartition("/")[2] for path in paths}
        directory = files.parent(paths[0])[0] if paths else None  # they lie in one
        if directory is not None and any(directory.entries[name].pending for name in names):  # type: ignore[union-attr]
            self.fail(f"replica {process.id} acknowledges op {op} before it is synced")
        if any(place is directory and name in names for change in files.changes for place, name, _ in change):
            self.fail(f"replica {process.id} acknowledges op {op} before the name of its segment is synced")
        if process.sync_failed:
            self.fail(f"replica {process.id} acknowledges op {op} after a failed sync of its log")
        self.acked_view[process.id] = packet.view
        self.promises.acknowledges(process, packet)

    def on_sync(self, process: Process) -> None:
        """A sync begins, after one of the log has failed."""
        if process.disk.syncing in process.failed_files:
            self.fail(f"replica {process.id} syncs its log again after a sync of it failed: what was lost is not written by that")

    def on_answering(self, process: Process) -> None:
        """It is about to evaluate queries."""
        r = process.server.replica
        self._looked(8)
        if not r.is_primary or r.status not in (NORMAL, READ_ONLY) or not r.applied == r.commit >= r.start_op:
            self.fail(f"answers before it may: {r}, start_op {r.start_op}")

    def on_core_step(self, process: Process, event: Event, generation: int, acks: frozenset[int]) -> None:
        """The core has digested an answer of the disk; `generation` and `acks` as they were before."""
        assert isinstance(event, Persisted)
        r = process.server.replica
        self._looked(23)
        if event.generation != generation and r.generation == generation and r.me.replica in r.acks - acks:
            self.fail(f"replica {process.id} counts what its disk stored in generation {event.generation} in generation {generation}")

    def on_line(self, text: str) -> None:
        if "COMMITTED DATA" in text or ("my state differs" in text and not self.saw_wrong):
            self.fail(f"a replica says of itself: {text}")
        if len(text) > LINE_MAX:
            self.fail(f"a line of {len(text)} characters goes to a log: {text[:80]!r}")


def _sizes() -> dict[type, Any]:
    """Bytes of a packet's payload, and at most how many; read each time, since every seed draws its own limits."""
    frame = batches.HEADER_SIZE + batches.TRAILER_SIZE
    return {
        Prepare: lambda packet: (len(packet.image), vars(server)["BATCH_MAX"] + RUN_MAX + frame),
        Chunk: lambda packet: (len(packet.content), transfer.CHUNK),
        Forward: lambda packet: (len(packet.runs), server.FORWARD_MAX + RUN_MAX),
        NewState: lambda packet: (len(packet.images), replication.CATCH_UP_MOST + vars(server)["BATCH_MAX"] + RUN_MAX + frame),
    }


SIZES = _sizes()
