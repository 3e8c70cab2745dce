"""A cluster's files as a power cut leaves them, spoiled in one place, and what a replica makes of them.

What it is not: it is no fault of the simulator's kind: nothing runs while the damage is done. `scripts/corruption_sweep.py` tries all
places, `tests/prove_corruption.py` some.

    data/cluster      three views, locks that say how far each journal was synced
    data/replica-0    two snapshots (the newest in the second segment), a journal of six small segments: 64 KiB of it above the snapshot

    outcome     what the replica did, started alone
    detected    refuses: stays a learner that may not begin a view, or does not start; says what is wrong and for whom it waits
    mended      a copy beside it was used and the damage reported; it holds and serves what it held before
    unread      nothing at start reads that place, since a snapshot stands in for it; whoever reads it later is told
    harmless    in the zeros behind the log, where it looks like the rest of a torn batch: nothing stood there, the next write clears it;
                or zeros cut off a lock file; or all of it, which is as good as a removed one; or the oldest view's record is removed
    tail        shorter by what looks like the tail of a power cut, but not below what is known to be durable

Anything else is an `Unsound`: a replica that serves something else than it held, or says nothing.

Read next: `tests/prove_corruption.py`.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import Any, NamedTuple

import snapshots
import superblock
from batches import NO_HASH, Batch
from commands import run, system_run
from disk import ReplicaLock
from journal import Journal, JournalDamaged, read_segments
from packets import Member, View
from replication import HALTED, LEARNER, NORMAL
from segments import Remark, padded, survey
from server import Server
from snapshot_worker import Maker, rows_through_csv
from state import ChatState
from storage import Storage
from superblock import Superblock
from tests.simulator import mix as mixes
from tests.simulator.disk import SimDirectory, SimDisk, SimFile, SimFiles, SimLink
from tests.simulator.mix import Mix
from tests.simulator.world import BASE, WALL_AT_START, World
from upkeep import LOOK_FIRST_S

JOURNAL_BYTES = 64 << 10  # of batches above the newest snapshot, at least
MESSAGES_PER_FILE = 12
SIZES = {"segment": 16 << 10, "chunk": 4096, "messages": MESSAGES_PER_FILE, "catch_up": 1 << 20, "window": 64}
ALONE_S = 2.5  # simulated seconds in which an intact replica would have begun the next view by itself
REPAIR_S = 60.0

DETECTED, MENDED, UNREAD, HARMLESS, TAIL = OUTCOMES = ("detected", "mended", "unread", "harmless", "tail")
FLIP, CUT, GONE, WIPE, WIPE_BUSY = KINDS = ("flip", "cut", "gone", "wipe", "wipe, busy")


class Unsound(AssertionError):
    """A replica believed what it should not have believed."""


class Verdict(NamedTuple):
    """`outcome`: see the module's table; `words`: what the replica said about it."""

    outcome: str
    words: str


class Held(NamedTuple):
    """What replica 0 holds."""

    op: int
    tip: bytes
    tables: str


class Damage(NamedTuple):
    """What is done to a file.

    flip         bit `at` turns over; of a journal: while the lock file says little, so that nothing but the journal can tell
    cut          the file ends at byte `at`
    gone         there is no such file
    wipe         of a journal: zeros from byte `at` on, and the later segments gone: what a lost tail looks like; the journal was quiet
    wipe, busy   the same while the lock file is a second behind: `DURABLE` ops are known to be synced
    """

    kind: str
    path: str
    at: int

    def strike(self, files: SimFiles) -> bool:
        """Do it. False: nothing changed."""
        file = files.file(self.path)
        before = bytes(file.content)
        if self.kind == FLIP:
            file.content[self.at // 8] ^= 1 << self.at % 8
        elif self.kind == CUT:
            del file.content[self.at :]
        elif self.kind == GONE:
            directory, name = files.parent(self.path)
            del directory.entries[name]
            return True
        else:
            file.content[self.at :] = bytes(len(file.content) - self.at)
            directory, name = files.parent(self.path)
            later = [other for other in directory.entries if other.endswith(".seg") and other > name]
            for other in later:
                del directory.entries[other]
            return bool(later) or file.content != before
        file.durable_size = len(file.content)
        return file.content != before


@contextlib.contextmanager
def small_sizes() -> Iterator[None]:
    """The program's sizes, made small for as long as this lasts."""
    mixes.shrink(SIZES)
    try:
        yield
    finally:
        mixes.restore()


def make_mix() -> Mix:
    """No fault, no guest, no snapshot: nothing but replicas."""
    mix = mixes.draw(random.Random(1))
    settings = type(mix.settings)(
        name="simulated",
        replicas=mix.settings.replicas,
        snapshot_quiet_ms=600_000,
        snapshot_every_s=86_400,
    )
    calm: dict[str, Any] = {"loss": 0.0, "repeat": 0.0, "overtake": 0.0, "net_delay": 0.0001, "net_jitter": 0.0, "sync_time": 0.0002}
    return mix._replace(settings=settings, sizes=SIZES, settles_at_once=True, wall_skew=False, **calm)


class Wreck:
    """The files, and trials of what becomes of them. Use it inside `small_sizes`."""

    def __init__(self) -> None:
        self.mix = make_mix()
        self.batches = list(_batches())
        self.files = self._build()
        self.held = self._load(clone(self.files))
        self.after: dict[int, str] = {self.held.op: self.held.tables}

    # --- the files ------------------------------------------------------------------------------------------------------------------------

    def _build(self) -> SimFiles:
        dice = random.Random(5)
        files = SimFiles(dice)
        disks = [SimDisk(dice, files) for _ in range(3)]
        storages = [Storage(disk, BASE, i, self.mix.settings.name, lambda text: None) for i, disk in enumerate(disks)]
        for storage in storages:
            storage.open(self._blank(storage.replica), WALL_AT_START)
        members = tuple(Member(s.replica, s.inc) for s in storages)
        last: View | None = None
        for number, op in enumerate((0, FIRST, FIRST + 1), 1):
            batch = self.batches[op - 1] if op else None
            where = (batch.op, batch.hash) if batch else (0, NO_HASH)
            prev_hash = last.chain_hash() if last else NO_HASH
            last = View("simulated", number, members[0], members, *where, "test", WALL_AT_START + number, prev_hash=prev_hash)
            assert storages[0].propose(last) == last
        for storage in storages:
            self._fill(storage)
        for disk in disks:
            disk.kill()
        return clone(files)

    def _blank(self, replica: int) -> Superblock:
        config_hash = self.mix.settings.config_hash()
        return Superblock(cluster="", replica=replica, replicas=3, config_hash=config_hash, format_nonce=b"nonce678", inc=0)

    def _fill(self, storage: Storage) -> None:
        maker = Maker(storage.disk, rows_through_csv)
        for index, batch in enumerate(self.batches):
            storage.append([batch])
            if index in (FIRST, SECOND):
                order = snapshots.make_order(
                    op=batch.op,
                    hash=batch.hash,
                    replica_path=storage.path,
                    cluster_path=storage.cluster_path,
                    cluster=storage.cluster,
                    generation=storage.journal.generation,
                    is_quiet=True,
                )
                storage.place(maker.answer(order)["path"], batch.op, batch.hash, frozenset())
        storage.save_log_view(3, 3)
        storage.note_durable(self.batches[-1].op, sync=True)

    def paths(self, *, replica: int = 0) -> dict[str, int]:
        """Every file a replica reads its own life from, with its size."""
        root = self.files.find(BASE)
        assert isinstance(root, SimDirectory)
        found = dict(_all_files(root, BASE))
        wanted = (f"{BASE}/replica-{replica}/", f"{BASE}/cluster/view-", ReplicaLock.path(f"{BASE}/cluster", replica))
        return {path: size for path, size in sorted(found.items()) if path.startswith(wanted) and not path.endswith(("ballast", ".tmp"))}

    def damages(self) -> Iterator[tuple[str, str, int]]:
        """Kind, file, and how many places there are in it."""
        for path, size in self.paths().items():
            yield FLIP, path, size * 8
            yield CUT, path, size
            yield GONE, path, 1
            if path.endswith(".seg"):
                yield WIPE, path, size
                yield WIPE_BUSY, path, size

    # --- trials ---------------------------------------------------------------------------------------------------------------------------

    def _load(self, files: SimFiles) -> Held:
        """What a replica that finds these files holds."""
        world = World(1, self.mix, random.Random(1))
        world.files = files
        world.start(0)
        world.run(world.now + ALONE_S)
        server = world.processes[0].server
        assert server.replica.serving and server.replica.status == NORMAL, f"an intact replica does not serve: {server.replica}"
        return held(server)

    def alone(self, damage: Damage, *, thorough: bool = False) -> Verdict | None:
        """Start replica 0 alone on the damaged files. None: nothing was damaged. Raises Unsound."""
        files = clone(self.files)
        hint = None
        if damage.kind == WIPE_BUSY or (damage.kind == FLIP and damage.path.endswith(".seg")):
            hint = self.batches[DURABLE if damage.kind == WIPE_BUSY else SECOND].op
            set_hint(files, hint)
        if not damage.strike(files):
            return None
        world = World(1, self.mix, random.Random(1), trace=True)
        world.files = files
        world.start(0)
        process = world.processes[0]
        if not process.alive:
            said = "\n".join(world.story)
            if "cannot start: " not in said:
                raise Unsound(f"{damage}: died and said nothing: {said}")
            return Verdict(DETECTED, said.rpartition("cannot start: ")[2])
        server = process.server
        if thorough or server.policy.is_eligible():
            world.run(world.now + ALONE_S)
        if server.replica.status == HALTED:
            said = "\n".join(line for line in world.story if "the register ends at view" in line)
            if not said:
                raise Unsound(f"{damage}: ended and said nothing: {world.story[-3:]}")
            return Verdict(DETECTED, said)
        if not server.policy.is_eligible():
            return self._refused(damage, server, files, waited=thorough)
        return self._went_on(damage, world, server, hint)

    def _refused(self, damage: Damage, server: Server, files: SimFiles, *, waited: bool) -> Verdict:
        """It waits, says for whom, and has left everything where it was: this may be the only copy."""
        r = server.replica
        if r.status != LEARNER or r.serving or not r.damage:
            raise Unsound(f"{damage}: not eligible, and yet {r}; damage {r.damage!r}")
        if waited and ("cannot restart the cluster" not in server.policy.waiting or r.damage not in server.policy.waiting):
            raise Unsound(f"{damage}: does not say what it waits for: {server.policy.waiting!r}")
        root = files.find(BASE)
        assert isinstance(root, SimDirectory)
        there = dict(_all_files(root, BASE))
        struck = self.files.file(damage.path).inode  # by hard links it has other names, too
        for path in self.paths():
            if (
                self.files.file(path).inode == struck
                or damage.kind in (WIPE, WIPE_BUSY)
                or "/cluster/" in path
                or path.endswith("superblock")
            ):
                continue
            if path not in there or files.file(path).content != self.files.file(path).content:
                raise Unsound(f"{damage}: refuses, and has changed or removed {path}")
        return Verdict(DETECTED, server.policy.waiting if waited else r.damage)

    def _went_on(self, damage: Damage, world: World, server: Server, hint: int | None) -> Verdict:
        found = held(server)
        name = damage.path.rpartition("/")[2]
        said = "\n".join(line for line in world.story if name in line or "snapshot" in line)
        if not server.replica.serving:
            raise Unsound(f"{damage}: eligible and does not serve: {server.replica}, waits {server.policy.waiting}")
        if found != self.held:
            return self._tail(damage, found, hint)
        if said:
            return Verdict(MENDED, said)
        return self._told_later(damage, world.files)

    def _tail(self, damage: Damage, found: Held, hint: int | None) -> Verdict:
        """A shorter log must be a beginning of the whole one, and reach what is durable."""
        if damage.kind != WIPE_BUSY or hint is None or not hint <= found.op < self.held.op:
            raise Unsound(f"{damage}: serves op {found.op}, held op {self.held.op}; durable was {hint}")
        batch = next((b for b in self.batches if b.op == found.op), None)
        if batch is None or (batch.hash, self.state_after(found.op)) != found[1:]:
            raise Unsound(f"{damage}: serves something that never was, at op {found.op}")
        return Verdict(TAIL, f"the log ends at op {found.op}; durable was {hint}")

    def state_after(self, op: int) -> str:
        """The tables after this op."""
        if op not in self.after:
            state = ChatState()
            for batch in self.batches:
                if batch.op <= op:
                    state.apply(batch.first_op, batch.count, batch.time, batch.body)
            self.after[op] = tables(state)
        return self.after[op]

    def _told_later(self, damage: Damage, files: SimFiles) -> Verdict:
        """Nobody read it at start. Whoever reads it must be told: the snapshot's full check, a transfer, a catch-up."""
        disk = SimDisk(random.Random(1), files)
        path, held_from = damage.path, self.batches[FIRST]
        try:
            if "/snapshots/" in path:
                snapshots.load(disk, path.rpartition("/")[0], "simulated", verify_history=True)
            elif path.endswith(".seg"):
                for _ in read_segments(disk, f"{BASE}/replica-0/journal", held_from.op, held_from.hash, self.held.op, 0):
                    pass
        except (snapshots.SnapshotDamaged, JournalDamaged) as error:
            return Verdict(UNREAD, str(error))
        finally:
            disk.kill()
        return self._harmless(damage, files)

    def _harmless(self, damage: Damage, files: SimFiles) -> Verdict:
        """What means nothing. What was written since must have cleared the first."""
        path = damage.path
        if damage.kind == GONE and path.endswith((".lock", "/view-0000000001")):
            return Verdict(HARMLESS, "a lock file that is not there is a new one; of views only the oldest are ever removed")
        behind = len(self.files.file(path).content.rstrip(b"\0"))
        if damage.kind == FLIP and path.endswith(".seg") and damage.at >= behind * 8:
            disk = SimDisk(random.Random(1), files)
            wrong = [found for found in survey(disk, f"{BASE}/replica-0/journal") if isinstance(found, Remark) and found.wrong]
            if not wrong:
                return Verdict(HARMLESS, f"behind the log, which ends at byte {behind}: cleared by the next write")
        if damage.kind == CUT and path.endswith(".lock") and (not damage.at or damage.at >= behind):
            words = "all it says is there" if damage.at else "an empty one is a new one: it says nothing about what is durable"
            return Verdict(HARMLESS, f"a lock file of {damage.at} bytes: {words}")
        raise Unsound(f"{damage}: nobody noticed")

    def together(self, damage: Damage) -> str:
        """Start all three: replica 0 must hold the same as the others in the end, also when it then starts alone. Returns what ailed it."""
        files = clone(self.files)
        damage.strike(files)
        world = World(1, self.mix, random.Random(1), trace=True)
        world.files = files
        for replica in (0, 1, 2):
            world.start(replica)
        words = world.processes[0].server.storage.damage
        if "/snapshots/" in damage.path:
            world.run(world.now + LOOK_FIRST_S + 1)  # it has read again what no start reads
        if not self._run_whole(world):
            raise Unsound(f"{damage}: is not repaired: {[str(p.server.replica) for p in world.processes.values()]}: {world.story[-8:]}")
        servers = [world.processes[i].server for i in range(3)]
        first = servers[0]
        if first.replica.damage or first.storage.superblock.suspect:
            raise Unsound(f"{damage}: repaired and still not trusted: {first.replica.damage}")
        if len({tables(s.state) for s in servers}) != 1 or tables(first.state) != self.held.tables:
            raise Unsound(f"{damage}: the replicas hold different things")
        for process in world.processes.values():
            process.die("power cut")
        self._compare(damage, files, first.replica.applied)
        if self._load(clone(files)).tables != self.held.tables:
            raise Unsound(f"{damage}: what was repaired does not last")
        return words

    def _run_whole(self, world: World) -> bool:
        """Until all three are members with the same log. A process that has ended is started again, as its operator would do."""

        def is_whole() -> bool:
            servers = [process.server for process in world.processes.values() if process.alive]
            views = {s.policy.members() for s in servers if s.replica.status == NORMAL}
            if len(servers) < 3 or {len(members) for members in views} != {3}:
                return False
            ends = {(s.replica.status, s.replica.applied, s.replica.head_op, s.storage.journal.head_hash) for s in servers}
            return len(ends) == 1 and self.held.op < servers[0].replica.applied == servers[0].replica.head_op

        late = world.now + REPAIR_S
        while world.now < late:
            for replica, process in sorted(world.processes.items()):
                if not process.alive:
                    world.start(replica)
            if world.run(world.now + 1, is_whole):
                return True
        return False

    def _compare(self, damage: Damage, files: SimFiles, op: int) -> None:
        """A snapshot that each makes of what is on its disk now: the same files, byte for byte."""
        made = set()
        for replica in range(3):
            disk = SimDisk(random.Random(1), files)
            path = f"{BASE}/replica-{replica}"
            sb = superblock.load(disk, f"{path}/superblock")
            assert sb is not None
            journal = Journal.open(disk, f"{path}/journal", sb.journal_generation, sb.snapshot_op, sb.snapshot_hash)
            order = snapshots.make_order(
                op=op,
                hash=journal.hash_at(op) or NO_HASH,
                replica_path=path,
                cluster_path=f"{BASE}/cluster",
                cluster="simulated",
                generation=sb.journal_generation,
                is_quiet=True,
            )
            journal.close()
            answer = Maker(disk, rows_through_csv).answer(order)
            if "made" not in answer:
                raise Unsound(f"{damage}: replica {replica} can make no snapshot afterwards: {answer}")
            folder = files.find(answer["path"])
            assert isinstance(folder, SimDirectory)
            made.add(tuple((name, bytes(file.content)) for name, file in sorted(folder.entries.items()) if isinstance(file, SimFile)))
            disk.remove_tree(answer["path"])
            disk.kill()
        if len(made) > 1:
            raise Unsound(f"{damage}: the replicas' tables differ")


def tables(state: ChatState) -> str:
    """All of a state, in a form that can be compared; without who is connected, which a new view changes."""
    return repr([(name, [row for row in rows if name != "sessions"]) for name, (_, rows) in state.tables().items()])


def held(server: Server) -> Held:
    """What this server holds, below what it added by itself since (the list of members of a new view)."""
    journal, first = server.storage.journal, server.replica.start_op
    return Held(first, journal.hash_at(first) or NO_HASH, tables(server.state))


def set_hint(files: SimFiles, durable_op: int) -> None:
    """What the lock file of replica 0 says."""
    disk = SimDisk(random.Random(1), files)
    lock = ReplicaLock.acquire(disk, f"{BASE}/cluster", 0, pid=1)
    assert lock is not None and lock.before is not None
    lock.write(lock.before.inc, durable_op, sync=True)
    disk.kill()
    files.disks.clear()


def clone(files: SimFiles) -> SimFiles:
    """Another file system with the same contents, all of it synced; hard links stay one file."""
    made = SimFiles(random.Random(1))
    made.inodes = files.inodes
    twins: dict[int, SimFile] = {}
    _copy(files.root, made.root, twins)
    return made


def _copy(old: SimDirectory, new: SimDirectory, twins: dict[int, SimFile]) -> None:
    new.inode = old.inode
    for name, entry in old.entries.items():
        if isinstance(entry, SimFile):
            twin = twins.get(entry.inode)
            if twin is None:
                twin = twins[entry.inode] = SimFile(entry.inode)
                twin.content, twin.durable_size, twin.names = bytearray(entry.content), len(entry.content), entry.names
            new.entries[name] = twin
        elif isinstance(entry, SimLink):
            new.entries[name] = SimLink(entry.target)
        else:
            inner = new.entries[name] = SimDirectory(entry.inode)
            _copy(entry, inner, twins)


def _all_files(directory: SimDirectory, path: str) -> Iterator[tuple[str, int]]:
    for name, entry in directory.entries.items():
        if isinstance(entry, SimDirectory):
            yield from _all_files(entry, f"{path}/{name}")
        elif isinstance(entry, SimFile):
            yield f"{path}/{name}", len(entry.content)


FIRST, SECOND = 12, 34  # indexes of the batches that end in a snapshot
DURABLE = 60  # index of the batch up to which the lock file of a busy replica knows
SESSION = bytes(range(16))


def _batches() -> Iterator[Batch]:
    """A log: one guest writes to another, texts of many lengths, so that batches take one to four sectors."""
    dice = random.Random(3)
    op, tip, number, size = 0, NO_HASH, 0, 0
    index = 0
    while size < JOURNAL_BYTES:
        if index == 0:
            body = system_run(f"open|{SESSION.hex()}|0.1.1|numbered")
            count = 1
        else:
            lines = ["C|ann", "C|bob"] if index == 1 else []
            lines += [f"S|ann|{index}-{i} " + _text(dice) for i in range(dice.randint(1, 2))]
            body, count = run(SESSION, number + 1, number, 0, "\n".join(lines).encode(), len(lines)), len(lines)
            number += count
        batch = Batch(first_op=op + 1, count=count, view=1 + (index > FIRST), time=WALL_AT_START + index * 1000, prev_hash=tip, body=body)
        yield batch
        op, tip = batch.op, batch.hash
        if index > SECOND:
            size += padded(len(batch.image))
        index += 1


def _text(dice: random.Random) -> str:
    return "".join(dice.choice("abcdefghijklmnopqrstuvwxyz ,\"'äß漢") for _ in range(dice.choice((3, 40, 200, 700))))
