"""What goes wrong, and how it is put right again.

What it is not: it judges nothing. It keeps to one bound: of the members of the register's last view one disk at least stays untouched,
since nothing could help a cluster that lost every copy.

Read next: `simulation.py`.
"""

from __future__ import annotations

import errno
from typing import Any

from replication import NORMAL, READ_ONLY
from tests.simulator.checks import Checks
from tests.simulator.disk import SimDirectory, SimFile, Stopped
from tests.simulator.world import BASE, Process, World

PACE = (4, 40)  # answers between two faults
LATER_GAP = 1.5  # mean seconds between two faults once there were enough, so that the load comes to its end


class Faults:
    """Draws one fault after the other until the world heals."""

    def __init__(self, world: World, checks: Checks) -> None:
        self.world, self.checks = world, checks
        self.count = 0
        self.turn = 0  # of the fault that comes next
        self.due_at_answers: int | None = None
        self.full: set[int] = set()
        self.register_full = False
        self.failing: dict[int, tuple[float, str]] = {}  # until when, and which call fails
        self.flipped: set[int] = set()  # replicas in whose files a bit has turned over
        self.fuse: Process | None = None  # the power fails when this one stops at its effect
        self.fuse_syncs = 0  # … or before so many more syncs of its log
        self.copies: dict[int, tuple[SimDirectory, int]] = {}
        self.healed = False
        world.disk_fault = self.disk_fault
        world.after_death = self._after_death

    # --- the schedule ---------------------------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        self._next()
        if "old directory" in self.world.mix.faults:
            self.world.push(1.0, None, self._copy_now)

    def _next(self) -> None:
        """The next fault comes after some time, or in the middle of the load, after so many answers, whatever is first."""
        world = self.world
        self.turn += 1
        self.due_at_answers = self.checks.counted["acknowledged"] + world.dice.randint(*PACE) if world.mix.paced else None
        gap = world.mix.fault_gap if self.count < world.mix.fault_count else max(world.mix.fault_gap, LATER_GAP)
        world.push(world.now + world.dice.expovariate(1 / gap), None, self._strike, self.turn)

    def look(self) -> None:
        """Is it time by the number of answers?"""
        if self.due_at_answers is not None and self.checks.counted["acknowledged"] >= self.due_at_answers:
            self._strike(self.turn)

    def _strike(self, turn: int) -> None:
        if self.healed or turn != self.turn:
            return
        kind = self.world.dice.choice(self.world.mix.faults)
        getattr(self, "_" + kind.replace(" ", "_").replace("-", "_"))()
        self._next()

    def say(self, text: str) -> None:
        self.count += 1
        self.world.say(f"** {text}")

    def heal(self, until: float) -> None:
        """Everything is put right, but sometimes for one replica that hangs or stays dead until then: requests must be answered now."""
        world = self.world
        world.kept_down = self._choose_broken()
        self.healed = world.healed = True
        world.healed_at = world.now
        world.say("** all is healed")
        self.full.clear()
        self.failing.clear()
        self.register_full = False
        for process in world.living():
            process.paused_until = min(process.paused_until, world.now)
            process.disk.slow_sync = 0.0
            process.disk.stop_at = process.stop_after = 0
            process.misremembers = False
            if process.id == world.kept_down:
                world.say(f"** but {process.id} hangs")
                process.paused_until = until
        for pair in sorted(world.blocked):
            world.release(*pair)
        self.tend()

    def _choose_broken(self) -> int | None:
        """Sometimes one; among the others is a member of the last view whose disk is sound, so that they can do without it."""
        dice, view = self.world.dice, self.checks.view
        broken = dice.randrange(3)
        sound = [m for m in view.members if m.replica != broken and m.replica not in self.checks.spoiled] if view is not None else []
        return broken if sound and dice.random() < 0.4 else None

    def tend(self) -> None:
        """Whatever died is started again."""
        for replica in range(3):
            process = self.world.processes.get(replica)
            if process is None or not process.alive:
                self.world.push(self.world.now + self.world.dice.random() * 0.5, None, self.world.start, replica)
        self.world.push(self.world.now + 1.0, None, self.tend)

    def _after_death(self, process: Process) -> None:
        self.restart(process.id)
        if process is self.fuse:
            self.fuse = None
            self._power_cut()

    def restart(self, replica: int) -> None:
        wait = self.world.dice.choice((0.05, 0.3, 1.0, 3.0)) * self.world.dice.uniform(0.5, 1.5)
        self.world.push(self.world.now + wait, None, self.world.start, replica)

    def _any(self) -> Process | None:
        living = self.world.living()
        return self.world.dice.choice(living) if living else None

    def _is_last_hope(self, process: Process) -> bool:
        """A read_only replica holds what no disk may hold."""
        r = getattr(process.server, "replica", None)
        return r is not None and r.status == READ_ONLY

    # --- processes ------------------------------------------------------------------------------------------------------------------------

    def _kill_one(self, process: Process) -> None:
        if not self._is_last_hope(process):
            process.die("kill -9")

    def _kill(self) -> None:
        process = self._any()
        if process:
            self.say(f"kill -9 of {process.id}")
            self._kill_one(process)

    def _kill_two(self) -> None:
        living = self.world.living()
        if len(living) > 1:
            pair = self.world.dice.sample(living, 2)
            self.say(f"kill -9 of {pair[0].id} and {pair[1].id}")
            for process in pair:
                self._kill_one(process)

    def _kill_all(self) -> None:
        self.say("kill -9 of all")
        for process in self.world.living():
            self._kill_one(process)

    def _kill_at_an_effect(self) -> None:
        process = self._any()
        if process is None or self._is_last_hope(process):
            return
        dice = self.world.dice
        self.say(f"kill -9 of {process.id} at an effect to come")
        if dice.random() < 0.7:
            process.disk.stop_at = process.disk.effects + dice.randint(1, 60)
            process.disk.stop_after = dice.random() < 0.5
        else:
            process.stop_after = dice.randint(1, 60)

    def _power_cut_at_an_effect(self) -> None:
        """The power fails in the middle of what a process does to its disk, often between a write into its log and the sync."""
        process = self._any()
        if process is not None and not self._is_last_hope(process):
            self.say(f"power cut at an effect of {process.id} to come")
            self.fuse, self.fuse_syncs = process, 0
            if self.world.dice.random() < 0.5:
                self.fuse_syncs = self.world.dice.randint(1, 6)
            else:
                process.disk.stop_at = process.disk.effects + self.world.dice.randint(1, 60)

    def _power_cut(self) -> None:
        if any(self._is_last_hope(p) for p in self.world.living()):
            return
        self.say("power cut")
        for process in self.world.living():
            process.die("power cut")
        self.world.files.crash()
        self.checks.on_power_cut()

    def _pause(self) -> None:
        process = self._any()
        if process:
            seconds = self.world.dice.choice((0.1, 0.6, 1.5, 4.0)) * self.world.dice.uniform(0.5, 1.5)
            self.say(f"{process.id} stands still for {seconds:.2f} s")
            process.paused_until = max(process.paused_until, self.world.now + seconds)
            process.timers_first = self.world.dice.random() < 0.5

    def _stop(self) -> None:
        process = self._any()
        if process and not process.server.ending and hasattr(process.server, "replica"):
            self.say(f"stop of {process.id}")
            self.world.push(self.world.now, process, lambda: process.server.stop(everybody=False))
            self.world.push(self.world.now + 4.0, None, self.world.start, process.id)

    def _stop_all(self) -> None:
        self.say("stop of all")
        for process in self.world.living():
            if hasattr(process.server, "replica"):
                self.world.push(self.world.now + self.world.dice.random() * 0.02, process, lambda p=process: p.server.stop(everybody=True))
            self.world.push(self.world.now + 3.5 + self.world.dice.random(), None, self.world.start, process.id)

    def _wrong_memory(self) -> None:
        """The next batch leads a backup to another state than the others have."""
        backups = [p for p in self.world.living() if hasattr(p.server, "replica") and p.server.replica.status == NORMAL]
        backups = [p for p in backups if not p.server.replica.is_primary]
        if backups:
            process = self.world.dice.choice(backups)
            self.say(f"the memory of {process.id} will be wrong")
            process.misremembers = True

    def _clock_jump(self) -> None:
        seconds = self.world.dice.choice((-3600, -1, 1, 3600))
        self.say(f"the wall clock jumps by {seconds} s")
        self.world.wall_offset += seconds * 1_000_000

    # --- wires ----------------------------------------------------------------------------------------------------------------------------

    def _cut_link(self) -> None:
        links = sorted(self.world.links)
        if links:
            pair = self.world.dice.choice(links)
            self.say(f"the link {pair} is cut")
            self.world.cut(self.world.links[pair], flushes=self.world.dice.random() < 0.5)

    def _partition(self, *, both: bool = True) -> None:
        dice = self.world.dice
        a, b = dice.sample(range(3), 2)
        pairs = [(a, b), (b, a)] if both else [(a, b)]
        seconds = dice.choice((0.1, 0.7, 2.5)) * dice.uniform(0.5, 1.5)
        self.say(f"nothing gets from {a} to {b}{' or back' if both else ''} for {seconds:.2f} s")
        for pair in pairs:
            self.world.blocked.add(pair)
            self.world.push(self.world.now + seconds, None, self.world.release, *pair)

    def _one_way_partition(self) -> None:
        self._partition(both=False)

    # --- disks ----------------------------------------------------------------------------------------------------------------------------

    def disk_fault(self, process: Process, call: str, path: str) -> OSError | None:
        """What this call to the disk shall raise."""
        if process is self.fuse and call == "sync" and path.endswith(".seg"):
            self.fuse_syncs -= 1
            if not self.fuse_syncs:
                raise Stopped
        if call in ("link", "rename") and path.startswith(f"{BASE}/cluster/view-") and self.world.dice.random() < 0.5:
            self.world.meanwhile(process, self.world.dice.choice((0.002, 0.02, 0.2)))
            if not process.alive:
                raise Stopped  # the power failed meanwhile
        needs_room = call in ("link", "pwrite") or (call == "open" and "proposal" in path)
        if self.register_full and needs_room and path.startswith(f"{BASE}/cluster/") and "lock" not in path:
            return OSError(errno.ENOSPC, "ENOSPC", path)
        if process.failed_files and call == "sync":
            self.checks.on_sync(process, path)
        if not path.startswith(f"{BASE}/replica-{process.id}/"):
            return None
        if process.id in self.full and call in ("pwrite", "allocate", "symlink"):
            self.checks.touched.add(process.id)
            return OSError(errno.ENOSPC, "ENOSPC", path)
        until, failing = self.failing.get(process.id, (0.0, ""))
        if until > self.world.now and call == failing and self._may_spoil(process.id):
            self.checks.spoiled[process.id] = self.world.now
            del self.failing[process.id]
            if call == "sync" and path.endswith(".seg"):
                process.sync_failed = True
                process.failed_files.add(path)
                entry = self.world.files.find(path)
                if isinstance(entry, SimFile):
                    entry.fail_sync(self.world.dice)
            self.world.say(f"** EIO of {call} {path}")
            return OSError(errno.EIO, "EIO", path)
        return None

    def _may_spoil(self, replica: int) -> bool:
        """One disk at a time, and never the only one that could go on."""
        self.checks.look_at_register()
        view = self.checks.view
        if view is None or set(self.checks.spoiled) - {replica}:
            return False
        return any(m.replica != replica for m in view.members) if replica in view.replicas else True

    def _slow_disk(self) -> None:
        process = self._any()
        if process:
            dice = self.world.dice
            process.disk.slow_sync = dice.choice((0.05, 0.5))
            process.disk.slowest = dice.choice((0.05, 0.5, 3.0))
            self.say(f"the disk of {process.id} is slow")
            self.world.push(self.world.now + dice.random() * 2, None, setattr, process.disk, "slow_sync", 0.0)

    def _disk_error(self) -> None:
        process = self._any()
        if process and self._may_spoil(process.id):
            self.say(f"the disk of {process.id} fails soon")
            self.failing[process.id] = (self.world.now + 1.0, self.world.dice.choice(("sync", "pwrite")))
            self.world.push(self.world.now + 3.0, None, self.restart, process.id)

    def _full_disk(self) -> None:
        process = self._any()
        if process:
            replica = process.id
            self.say(f"the disk of {replica} is full")
            self.full.add(replica)
            self.world.push(self.world.now + self.world.dice.random() * 3, None, self._empty_disk, replica)

    def _empty_disk(self, replica: int) -> None:
        self.full.discard(replica)
        self.restart(replica)

    def _register_full(self) -> None:
        self.say("there is no room in the register's directory")
        self.register_full = True
        self.world.push(self.world.now + self.world.dice.random() * 1.5, None, setattr, self, "register_full", False)

    def _directory(self) -> SimDirectory | None:
        entry = self.world.files.find(BASE)
        return entry if isinstance(entry, SimDirectory) else None

    def _dead_or_killed(self) -> int | None:
        """A replica whose files may be damaged; it is dead afterwards."""
        replica = self.world.dice.randrange(3)
        process = self.world.processes.get(replica)
        if not self._may_spoil(replica) or (process and process.alive and self._is_last_hope(process)):
            return None
        if any(self._is_last_hope(p) for p in self.world.living()):
            return None
        if process and process.alive:
            process.die("kill -9")
        return replica

    def _empty_directory(self) -> None:
        replica = self._dead_or_killed()
        base = self._directory()
        if replica is None or base is None:
            return
        self.say(f"the directory of {replica} is emptied")
        self.checks.spoiled[replica] = self.world.now
        base.entries.pop(f"replica-{replica}", None)
        self.restart(replica)

    def _copy_now(self) -> None:
        """Somebody makes a backup of a replica's directory."""
        base = self._directory()
        replica = self.world.dice.randrange(3)
        if base is not None and f"replica-{replica}" in base.entries and replica not in self.checks.spoiled:
            journal = self._head(replica)
            self.copies[replica] = (clone(base.entries[f"replica-{replica}"]), journal)
        self.world.push(self.world.now + self.world.dice.uniform(0.5, 4.0), None, self._copy_now)

    def _head(self, replica: int) -> int:
        process = self.world.processes.get(replica)
        journal = getattr(process.server.storage, "journal", None) if process is not None else None
        return journal.head_op if journal is not None else 0

    def _old_directory(self) -> None:
        """A backup that is put back; old enough that the lock file, refreshed each second, knows of more."""
        dice = self.world.dice
        replica = dice.randrange(3)
        base = self._directory()
        content = None
        if base is not None and replica in self.copies:
            content = self._hint(replica)
        if content is None or content <= self.copies[replica][1] or not self._may_spoil(replica):
            return
        process = self.world.processes.get(replica)
        if any(self._is_last_hope(p) for p in self.world.living()):
            return
        if process is not None and process.alive:
            process.die("kill -9")
        self.say(f"replica {replica} gets an old directory back: op {self.copies[replica][1]}")
        self.checks.spoiled[replica] = self.world.now
        assert base is not None
        base.entries[f"replica-{replica}"] = clone(self.copies[replica][0])
        self.world.files.changes.clear()
        # Whoever puts a backup back takes longer than the kernel, which writes the lock file out within half a minute.
        lock = self.world.files.find(f"{BASE}/cluster/replica-{replica}.lock")
        if isinstance(lock, SimFile):
            lock.sync()
        self.restart(replica)

    def _hint(self, replica: int) -> int | None:
        from disk import ReplicaLock

        entry = self.world.files.find(f"{BASE}/cluster/replica-{replica}.lock")
        if not isinstance(entry, SimFile):
            return None
        found = ReplicaLock._parse(bytes(entry.content[:512]))
        return found.durable_op if found else None

    def _is_written_twice(self, name: str, file: SimFile) -> bool:
        """Whether the replica has the same again: the other slot of its superblock, or an older snapshot and the journal from there."""
        directory = self.world.files.find(f"{BASE}/{name.partition('/')[0]}")
        folders = _folders(directory) if isinstance(directory, SimDirectory) else []
        if name.endswith("/superblock"):
            half = len(file.content) // 2
            return sum(a != b for a, b in zip(file.content[:half], file.content[half:], strict=True)) == 1
        return len(folders) > 1 and f"/snapshots/{folders[-1]}/" in name and file.names == 1

    def _bit_flip(self) -> None:
        replica = self._dead_or_killed()
        if replica is None:
            return
        dice = self.world.dice
        entry = self.world.files.find(f"{BASE}/replica-{replica}")
        files = sorted(_all_files(entry, f"replica-{replica}")) if isinstance(entry, SimDirectory) else []
        files = [name for name in files if "ballast" not in name]
        if files:
            name = dice.choice(files)
            file = self.world.files.find(f"{BASE}/{name}")
            if isinstance(file, SimFile) and file.content:
                is_first = replica not in self.checks.spoiled and replica not in self.checks.touched and replica not in self.flipped
                self.flipped.add(replica)
                self.checks.spoiled[replica] = self.world.now
                self.checks.rotten.add(replica)
                used = len(bytes(file.content).rstrip(b"\0")) or 1
                bit = dice.randrange(used * 8)
                file.content[bit // 8] ^= 1 << bit % 8
                self.say(f"bit {bit} of {name} turns over")
                if is_first and self._is_written_twice(name, file):
                    self.checks.unharmed[replica] = self.world.now
        self.restart(replica)


def _folders(directory: SimDirectory) -> list[str]:
    snapshots = directory.entries.get("snapshots")
    return sorted(name for name in snapshots.entries if name.isdecimal()) if isinstance(snapshots, SimDirectory) else []


def _all_files(directory: SimDirectory, path: str) -> list[str]:
    found = []
    for name, entry in directory.entries.items():
        if isinstance(entry, SimDirectory):
            found += _all_files(entry, f"{path}/{name}")
        elif isinstance(entry, SimFile):
            found.append(f"{path}/{name}")
    return found


def clone(entry: Any) -> Any:
    """Another file tree with the same contents, all of it synced. Files with two names stay one."""
    made: dict[int, Any] = {}

    def copy_of(one: Any) -> Any:
        if isinstance(one, SimDirectory):
            directory = SimDirectory(one.inode)
            directory.entries = {name: copy_of(inner) for name, inner in one.entries.items()}
            return directory
        if isinstance(one, SimFile) and one.inode not in made:
            file = made[one.inode] = SimFile(one.inode)
            file.content, file.durable_size, file.names = bytearray(one.content), len(one.content), one.names
        return made[one.inode] if isinstance(one, SimFile) else one

    return copy_of(entry)
