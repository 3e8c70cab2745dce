"""What goes wrong, and how it is put right again.

What it is not: it judges nothing. It keeps to one bound: of the members of the register's last view one disk at least stays untouched,
since nothing could help a cluster that lost every copy.

Read next: `simulation.py`.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from disk import SECTOR, ReplicaLock
from replication import NORMAL, READ_ONLY
from tests.simulator.checks import LogChecks
from tests.simulator.disk import SimDirectory, SimFile, Stopped
from tests.simulator.world import BASE, Process, World

if TYPE_CHECKING:
    from tests.simulator.stage import Stage

RARE = (("rename", "/snapshots/"), ("unlink", ".seg"), ("rename", ".seg"), ("pwrite", "/superblock"), ("link", "/cluster/view-"))  # calls
PACE = (4, 40)  # answers between two faults
LATER_GAP = 1.5  # mean seconds between two faults once there were enough, so that the load comes to its end


class Damaged(NamedTuple):
    """A file that goes bad; `is_first`: nothing else was ever wrong with its disk; `was_alive`: until now."""

    replica: int
    name: str
    file: SimFile
    is_first: bool
    was_alive: bool


class Faults:
    """Draws one fault after the other until the world heals."""

    def __init__(self, world: World, checks: LogChecks) -> None:
        self.world, self.checks = world, checks
        self.count = 0
        self.struck: Counter[str] = Counter()  # by kind; one that found nothing to strike does not count
        self.turn = 0  # of the fault that comes next
        self.due_at_answers: int | None = None
        self.full: set[int] = set()
        self.in_place = False  # whether what has room already can be written over on a full disk
        self.register_full = False
        self.flipped: set[int] = set()  # replicas in whose files a bit has turned over
        self.turned_over: dict[int, SimFile] = {}  # the file in which one did
        self.fuse: Process | None = None  # the power fails when this one stops at its effect
        self.fuse_syncs = 0  # … or before so many more syncs of its log
        self.fuse_pending = 0  # … or when so many bytes of it wait for their sync
        self.doomed: dict[int, int] = {}  # replicas whose log's next sync of at least so many writes fails, come what may
        self.aims: dict[int, tuple[str, str, int]] = {}  # replica -> it dies at such a call, or so many effects later
        self.cut_short: Process | None = None  # dies before the next sync of its log
        self.story: Stage | None = None
        self.failing: dict[int, tuple[str, float]] = {}  # replica -> which call of its disk fails, until when
        self.copies: dict[int, tuple[SimDirectory, int]] = {}
        self.healed = False
        self.frozen: list[Process] = []
        world.disk_fault = self.disk_fault
        world.after_death = self._after_death

    # --- the schedule ---------------------------------------------------------------------------------------------------------------------

    def begin(self, story: Callable[[], Stage] | None, *, at_once: bool = False) -> None:
        """The story of this seed first, if it has one."""
        if story is not None:
            self.world.push(0.0 if at_once else self.world.dice.uniform(0.5, 2.0), None, self._tell, story)
        else:
            self._next()
        if "old directory" in self.world.mix.faults:
            self.world.push(1.0, None, self._copy_now)

    def _tell(self, story: Callable[[], Stage]) -> None:
        if not self.healed:
            self.story = story()

    def story_is_over(self) -> None:
        if not self.healed:
            self._next()

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
        kind, before = self.world.dice.choice(self.world.mix.faults), self.count
        getattr(self, "_" + kind.replace(" ", "_").replace("-", "_"))()
        self.struck[kind] += self.count - before
        self._next()

    def say(self, text: str) -> None:
        self.count += 1
        self.world.say(f"** {text}")

    def heal(self) -> None:
        """No more faults, and all that went wrong is put right, but for what `rest` keeps down."""
        world = self.world
        self.healed = world.healed = True
        world.healed_at = world.now
        if self.story is not None:
            self.story.end()
        self.aims.clear()
        world.say("** no more faults")
        self.full.clear()
        self.failing.clear()
        self.register_full = False
        for process in world.living():
            world.wake(process)
            process.disk.slow_sync = 0.0
            process.disk.stop_at = process.stop_after = 0
            process.misremembers = False
            process.set_clock(1.0)
        world.extra_delay = 0.0
        for pair in sorted(world.blocked):
            world.release(*pair)
        self._rest()
        self.tend()

    def _rest(self) -> None:
        """Some replicas stay dead or stand still, never the last intact member: the others have to manage without them."""
        world, dice, view = self.world, self.world.dice, self.checks.view
        intact = [m.replica for m in view.members if m.replica not in self.checks.spoiled] if view else []
        if not intact or any(self._is_last_hope(p) for p in world.living()) or dice.random() < 0.3:
            return
        core = dice.choice(intact)
        for replica in range(world.count):
            if replica != core and dice.random() >= 0.4:
                self._keep_away(replica)

    def _keep_away(self, replica: int) -> None:
        """It stands still, or stays dead, until all is healed."""
        world = self.world
        process = world.processes.get(replica)
        if process is not None and process.alive and world.dice.random() < 0.3:
            world.say(f"** {replica} stands still for now")
            process.paused_until = world.now + 1e6
            self.frozen.append(process)
        else:
            world.say(f"** {replica} stays down for now")
            world.down.add(replica)
            if process is not None:
                process.die("kill -9")

    def heal_all(self) -> None:
        """Whoever was kept down or still comes back."""
        world = self.world
        world.say("** all is healed")
        world.down.clear()
        for process in self.frozen:
            process.paused_until = world.now
        world.thaw()

    def tend(self) -> None:
        """Whatever died is started again."""
        for replica in range(self.world.count):
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
        if dice.random() < 0.3:
            self.aim(process.id)
        elif dice.random() < 0.7:
            process.disk.stop_at = process.disk.effects + dice.randint(1, 60)
            process.disk.stop_after = dice.random() < 0.5
        else:
            process.stop_after = dice.randint(1, 60)

    def aim(self, replica: int) -> None:
        """It dies at something that its disk seldom does, or soon after."""
        dice = self.world.dice
        self.aims[replica] = (*dice.choice(RARE), dice.randint(1, 9))

    def _take_aim(self, process: Process, call: str, path: str) -> None:
        what, where, later = self.aims[process.id]
        if call == what and where in path and not self._is_last_hope(process):
            del self.aims[process.id]
            process.disk.stop_at, process.disk.stop_after = process.disk.effects + later, self.world.dice.random() < 0.5

    def _power_cut_at_an_effect(self) -> None:
        """The power fails in the middle of what a process does to its disk, often between a write into its log and the sync."""
        process = self._any()
        if process is not None and not self._is_last_hope(process):
            self.say(f"power cut at an effect of {process.id} to come")
            self.fuse, self.fuse_syncs, self.fuse_pending = process, 0, 0
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
        self.checks.dark.update(i for i in range(self.world.count) if any(len(file.pending) > 1 for file in self._segments(i)))
        for replica in range(self.world.count):
            self.forget_copy(replica)
        self.world.files.crash()
        self.checks.on_power_cut()

    def forget_copy(self, replica: int) -> None:
        """Before its power fails: of a superblock with one slot damaged, the other may be lost, if it was not synced."""
        base = self._directory(replica)
        own = base.entries.get(f"replica-{replica}") if base is not None else None
        superblock = own.entries.get("superblock") if isinstance(own, SimDirectory) else None
        if isinstance(superblock, SimFile) and superblock.pending and self.turned_over.get(replica) is superblock:
            self.checks.unharmed.pop(replica, None)

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
        """The next batch leads a member to another state than the others have; one that was wrong already might be right again."""
        running = [p for p in self.world.living() if hasattr(p.server, "replica") and p.server.replica.status == NORMAL]
        members = [p for p in running if not p.was_wrong]
        if members:
            process = self.world.dice.choice(members)
            self.say(f"the memory of {process.id} will be wrong")
            process.misremembers = True

    def _clock_jump(self) -> None:
        seconds = self.world.dice.choice((-3600, -1, 1, 3600))
        self.say(f"the wall clock jumps by {seconds} s")
        self.world.wall_offset += seconds * 1_000_000

    def _slow_clock(self) -> None:
        """Its clock goes slow, or fast: what it believes about silence and lateness is wrong."""
        process = self._any()
        if process:
            rate = self.world.dice.choice((0.4, 0.7, 1.5))
            self.say(f"the clock of {process.id} runs at {rate} of its speed")
            process.set_clock(rate)
            self.world.push(self.world.now + self.world.dice.random() * 4, None, process.set_clock, 1.0)

    def _second_start(self) -> None:
        """Somebody starts a replica that runs: it must see that, and end."""
        process = self._any()
        if process and hasattr(process.server, "replica"):
            self.say(f"{process.id} is started a second time")
            self.world.start_again(process)

    # --- wires ----------------------------------------------------------------------------------------------------------------------------

    def _cut_link(self) -> None:
        links = sorted(self.world.links)
        if links:
            pair = self.world.dice.choice(links)
            self.say(f"the link {pair} is cut")
            self.world.cut(self.world.links[pair], flushes=self.world.dice.random() < 0.5)

    def _cut_guest(self) -> None:
        """A guest's connection breaks in the middle of a line; or only the guest hears of it, and the server keeps a dead one."""
        guests = [g for g in self.checks.guests if g.shell is not None and hasattr(g.shell, "connection")]
        if not guests:
            return
        dice = self.world.dice
        guest = dice.choice(guests)
        shell = guest.shell
        if dice.random() < 0.5:
            self.say(f"the connection of {guest.name} to {shell.process.id} breaks")
            shell.break_off()
        else:
            self.say(f"{guest.name} loses its connection to {shell.process.id}, which does not hear of it")
            guest.shell = None
            if dice.random() < 0.4:
                guest.port = (shell.process.id - 1) % self.world.count  # it comes back to where the dead one is
            self.world.push(self.world.now + dice.random() * 0.05, None, guest.connect)
            self.world.push(self.world.now + dice.random() * 6, None, shell.hang_up)

    def _slow_network(self) -> None:
        dice = self.world.dice
        seconds, delay = dice.random() * 2, dice.choice((0.05, 0.3, 0.8))
        self.say(f"every packet takes up to {delay} s longer, for {seconds:.2f} s")
        self.world.extra_delay = delay
        self.world.push(self.world.now + seconds, None, setattr, self.world, "extra_delay", 0.0)

    def _partition(self, *, both: bool = True) -> None:
        dice = self.world.dice
        a, b = dice.sample(range(self.world.count), 2)
        pairs = [(a, b), (b, a)] if both else [(a, b)]
        seconds = dice.choice((0.1, 0.7, 2.5)) * dice.uniform(0.5, 1.5)
        self.say(f"nothing gets from {a} to {b}{' or back' if both else ''} for {seconds:.2f} s")
        self._block(pairs, seconds)

    def _block(self, pairs: list[tuple[int, int]], seconds: float) -> None:
        for pair in pairs:
            self.world.blocked.add(pair)
            self.world.push(self.world.now + seconds, None, self.world.release, *pair)

    def _isolation(self) -> None:
        """A replica is cut off from the others, and not from its guests."""
        dice = self.world.dice
        a = dice.randrange(3)
        seconds = dice.choice((0.7, 2.5)) * dice.uniform(0.5, 1.5)
        ways = dice.choice(((0, 1), (0,), (1,)))
        self.say(f"nothing gets {' or '.join(('from', 'to')[way] for way in ways)} {a} for {seconds:.2f} s")
        self._block([((a, b), (b, a))[way] for b in range(3) if b != a for way in ways], seconds)

    def _one_way_partition(self) -> None:
        self._partition(both=False)

    # --- disks ----------------------------------------------------------------------------------------------------------------------------

    def disk_fault(self, process: Process, call: str, path: str) -> OSError | None:
        """What this call to the disk shall raise."""
        is_busy = self.full or self.failing or self.doomed or self.aims or self.fuse or self.cut_short or self.register_full
        if not is_busy and not process.failed_files and call not in ("link", "rename"):
            return None
        if process is self.fuse and call == "sync" and path.endswith(".seg"):
            self.fuse_syncs -= 1
            pending = sum(len(old) for _, old in process.disk.syncing.pending)
            if not self.fuse_syncs or 0 < self.fuse_pending <= pending:
                raise Stopped
        if process is self.cut_short and call == "sync" and path.endswith(".seg"):
            self.cut_short = None
            raise Stopped
        if process.id in self.aims:
            self._take_aim(process, call, path)
        if call in ("link", "rename") and path.startswith(f"{BASE}/cluster/view-") and self.world.dice.random() < 0.5:
            self.world.meanwhile(process, self.world.dice.choice((0.002, 0.02, 0.2)))
            if not process.alive:
                raise Stopped  # the power failed meanwhile
        needs_room = call in ("link", "pwrite") or (call == "open" and "proposal" in path)
        if self.register_full and needs_room and path.startswith(f"{BASE}/cluster/") and "lock" not in path:
            return OSError(errno.ENOSPC, "ENOSPC", path)
        if process.failed_files and call == "sync":
            self.checks.on_sync(process)
        if not path.startswith(f"{BASE}/replica-{process.id}/"):
            return None
        if process.id in self.full and call in ("pwrite", "allocate", "symlink") and not (self.in_place and path.endswith("/superblock")):
            self.checks.touched.add(process.id)
            return OSError(errno.ENOSPC, "ENOSPC", path)
        what, until = self.failing.get(process.id, ("", 0.0))
        file = process.disk.syncing
        is_doomed = call == "sync" and self._is_doomed(process.id, file)
        if is_doomed or (call == what and until > self.world.now and self.may_spoil(process.id)):
            self.checks.spoiled[process.id] = self.world.now
            self.failing.pop(process.id, None)
            self.doomed.pop(process.id, None)
            if call == "sync" and file is not None:
                file.fail_sync(self.world.dice)
                if self._is_segment(process.id, file):
                    process.sync_failed = True
                    process.failed_files.append(file)
            self.world.say(f"** EIO of {call} {path}")
            return OSError(errno.EIO, "EIO", path)
        return None

    def _is_doomed(self, replica: int, file: SimFile | None) -> bool:
        """Whether this sync of its log fails because a story wants it so."""
        least = self.doomed.get(replica)
        return least is not None and file is not None and len(file.pending) >= least and self._is_segment(replica, file)

    def _is_segment(self, replica: int, file: SimFile) -> bool:
        """Whether the file belongs to the log. By itself, not by the path it was opened with: a segment was `spare.tmp` once."""
        return any(segment is file for segment in self._segments(replica))

    def _segments(self, replica: int) -> list[SimFile]:
        directory = self._directory(replica)
        own = directory.entries.get(f"replica-{replica}") if directory is not None else None
        journal = own.entries.get("journal") if isinstance(own, SimDirectory) else None
        entries = journal.entries.items() if isinstance(journal, SimDirectory) else ()
        return [entry for name, entry in entries if name.endswith(".seg") and isinstance(entry, SimFile)]

    def may_spoil(self, replica: int) -> bool:
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

    def _fail_soon(self, call: str, words: str) -> None:
        """The next such call of this disk fails; what it was for is not on the disk, or cannot be read."""
        process = self._any()
        if process and self.may_spoil(process.id):
            self.say(f"the next {words} of the disk of {process.id} fails")
            self.failing[process.id] = (call, self.world.now + 1.0)
            self.world.push(self.world.now + 3.0, None, self.restart, process.id)

    def blow_at(self, process: Process, pending: int = 0, *, syncs: int = 0) -> None:
        """The power fails when so many bytes of its log wait for their sync, or before so many more syncs of it."""
        self.fuse, self.fuse_syncs, self.fuse_pending = process, syncs, pending

    def kill_before_sync(self, process: Process) -> None:
        """It dies before the next sync of its log."""
        self.cut_short = process

    def fail_next_batch(self, replica: int, *, least: int = 0) -> None:
        """Whoever it is: also the last member. `least`: the sync that fails is one of so many batches."""
        self.doomed[replica] = least

    def _failing_sync(self) -> None:
        self._fail_soon("sync", "sync")

    def _failing_write(self) -> None:
        self._fail_soon("pwrite", "write")

    def _failing_read(self) -> None:
        self._fail_soon("pread", "reading")

    def _full_disk(self) -> None:
        dice, process = self.world.dice, self._any()
        if process is None:
            return
        self.in_place = dice.random() < 0.7
        if dice.random() < 0.5:
            return self.fill([process.id], 3 * dice.random())
        if dice.random() < 0.3:
            self._register_full()
        self.fill(list(range(self.world.count)), 6 * dice.random())

    def fill(self, replicas: list[int], seconds: float) -> None:
        """They may share one file system, which is full now; when there is room again one notices it before the other."""
        self.say(f"the disk of {', '.join(map(str, replicas))} is full")
        self.full.update(replicas)
        for replica in replicas:
            self.world.push(self.world.now + seconds, None, self._empty_disk, replica)

    def _empty_disk(self, replica: int) -> None:
        self.full.discard(replica)
        self.restart(replica)

    def _register_full(self) -> None:
        self.say("there is no room in the register's directory")
        self.register_full = True
        self.world.push(self.world.now + self.world.dice.random() * 1.5, None, setattr, self, "register_full", False)

    def _directory(self, replica: int) -> SimDirectory | None:
        entry = self.world.files_of(replica).find(BASE)
        return entry if isinstance(entry, SimDirectory) else None

    def _dead_or_killed(self) -> int | None:
        """A replica whose files may be damaged; it is dead afterwards."""
        replica = self.world.dice.randrange(self.world.count)
        process = self.world.processes.get(replica)
        if not self.may_spoil(replica) or (process and process.alive and self._is_last_hope(process)):
            return None
        if any(self._is_last_hope(p) for p in self.world.living()):
            return None
        if process and process.alive:
            process.die("kill -9")
        return replica

    def _empty_directory(self) -> None:
        replica = self._dead_or_killed()
        base = self._directory(replica) if replica is not None else None
        if replica is None or base is None:
            return
        self.say(f"the directory of {replica} is emptied")
        self.checks.spoiled[replica] = self.world.now
        base.entries.pop(f"replica-{replica}", None)
        self.restart(replica)

    def _copy_now(self) -> None:
        """Somebody makes a backup of a replica's directory."""
        replica = self.world.dice.randrange(self.world.count)
        base = self._directory(replica)
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
        replica = dice.randrange(self.world.count)
        base = self._directory(replica)
        content = None
        if base is not None and replica in self.copies:
            content = self.hint(replica)
        if content is None or content <= self.copies[replica][1] or not self.may_spoil(replica):
            return
        process = self.world.processes.get(replica)
        if any(self._is_last_hope(p) for p in self.world.living()):
            return
        if process is not None and process.alive:
            process.die("kill -9")
            content = self.hint(replica)  # its death may have been the moment at which the power fails
            if content is None or content <= self.copies[replica][1]:
                return self.restart(replica)
        self.count += 1
        self.put_back(replica, *self.copies[replica])
        self.restart(replica)

    def put_back(self, replica: int, copy: SimDirectory, op: int) -> None:
        """Its directory is an old copy now, of this op."""
        self.world.say(f"** replica {replica} gets an old directory back: op {op}")
        self.checks.spoiled[replica] = self.world.now
        base = self._directory(replica)
        assert base is not None
        base.entries[f"replica-{replica}"] = clone(copy)
        self.world.files_of(replica).changes.clear()
        # Whoever puts a backup back takes longer than the kernel, which writes the lock file out within half a minute.
        lock = self._lock(replica)
        if lock is not None:
            lock.sync()

    def _lock(self, replica: int) -> SimFile | None:
        base = self._directory(replica)
        cluster = base.entries.get("cluster") if base is not None else None
        lock = cluster.entries.get(f"replica-{replica}.lock") if isinstance(cluster, SimDirectory) else None
        return lock if isinstance(lock, SimFile) else None

    def hint(self, replica: int) -> int | None:
        lock = self._lock(replica)
        found = ReplicaLock._parse(bytes(lock.content[:SECTOR])) if lock is not None else None
        return found.durable_op if found else None

    def _is_written_twice(self, name: str, file: SimFile, *, was_alive: bool) -> bool:
        """Whether the replica has the same again: the other slot of its superblock, or an older snapshot and the journal from there."""
        directory = self.world.files_of(int(name.partition("/")[0][-1])).find(f"{BASE}/{name.partition('/')[0]}")
        folders = _folders(directory) if isinstance(directory, SimDirectory) else []
        if name.endswith("/superblock"):
            return was_alive  # its start was over, which writes both slots, and it was not in the middle of another save
        return len(folders) > 1 and f"/snapshots/{folders[-1]}/" in name and file.names == 1

    def _damaged_file(self) -> Damaged | None:
        """A file of a dead replica that may be damaged now: as often of one kind as of another, however many there are."""
        started, fuse = {p.id for p in self.world.living() if hasattr(p.server, "replica")}, self.fuse
        replica = self._dead_or_killed()
        if replica is None:
            return None
        if self.fuse is not fuse:
            started.clear()  # its death was the moment at which the power failed, which may have taken the second copy
        self.restart(replica)
        files_of_it = self.world.files_of(replica)
        entry = files_of_it.find(f"{BASE}/replica-{replica}")
        files = sorted(_all_files(entry, f"replica-{replica}")) if isinstance(entry, SimDirectory) else []
        files = [name for name in files if "ballast" not in name]
        if not files:
            return None
        kind = self.world.dice.choice(sorted({name.split("/")[1] for name in files}))
        name = self.world.dice.choice([name for name in files if name.split("/")[1] == kind])
        file = files_of_it.find(f"{BASE}/{name}")
        if not isinstance(file, SimFile) or not file.content:
            return None
        is_first = replica not in self.checks.spoiled and replica not in self.checks.touched and replica not in self.flipped
        self.flipped.add(replica)
        self.checks.spoiled[replica] = self.world.now
        self.checks.rotten.add(replica)
        return Damaged(replica, name, file, is_first, replica in started)

    def _bit_flip(self) -> None:
        found = self._damaged_file()
        if found is not None:
            used = len(bytes(found.file.content).rstrip(b"\0")) or 1
            bit = self.world.dice.randrange(used * 8)
            found.file.content[bit // 8] ^= 1 << bit % 8
            self.say(f"bit {bit} of {found.name} turns over")
            if found.is_first and self._is_written_twice(found.name, found.file, was_alive=found.was_alive):
                self.checks.unharmed[found.replica] = self.world.now
                self.turned_over[found.replica] = found.file

    def _wrong_sector(self) -> None:
        """What belongs to one sector was written over another."""
        found = self._damaged_file()
        if found is not None:
            name = found.name
            used = len(bytes(found.file.content).rstrip(b"\0")) // SECTOR + 1
            source, target = self.world.dice.randrange(used), self.world.dice.randrange(used)
            self.world.files_of(found.replica).misdirect(f"{BASE}/{name}", source, target)
            self.say(f"sector {source} of {name} stands in sector {target} too")


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
