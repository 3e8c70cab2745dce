"""One host in one thread: a clock that jumps from event to event, three processes with the production `Server`, wires between them.

What it is not: it knows no guest (`guests.py`), decides no fault (`faults.py`) and judges nothing (`checks.py`).

    World       heap of (time, number, process, callback), dice, files, wires, trace
    Process     one incarnation of one replica: the `Host` of its server
    Link        the connection between two processes: ordered, cut, held up by a partition

A process that blocks (a slow sync while orders to the disk are answered at once) or is paused handles its events later, in their order.
Nothing depends on anything but the seed and the minor version of Python.

Read next: `guests.py`.
"""

from __future__ import annotations

import os
import random
import zlib
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from heapq import heapify, heappop, heappush
from typing import Any

from batches import Batch
from events import Effect, Event, Persisted
from host import Host
from packets import AnyPacket, Packet, Prepare
from passwords import Hasher
from people import Outcome
from replication import NORMAL
from server import DESK_PACKETS, Server
from snapshot_worker import Maker, RowsWriter, rows_through_csv
from storage import BootFailed
from tests.simulator.disk import SimDisk, SimFile, SimFiles, Stopped
from tests.simulator.mix import Mix
from together import gather

BASE = "data"
HASHER = Hasher(time_cost=1, memory_kib=8)
WALL_AT_START = 1_700_000_000_000_000
BEHIND = 1 << 60  # added to the number of an event that comes after all others of its time
LATE_S = 3.0  # how late a repeated packet may come
HASHING = 0.05  # seconds at most that a password takes
DIAL = (0.02, 0.1)  # seconds between two attempts to link
PAUSE_MAX = 1e5  # seconds; what is put off for longer waits until somebody ends the pause
LOOK_EVERY = 8  # events between two looks at whether a phase is over


class Violation(AssertionError):
    """A promise is broken."""


class SimTimer:
    """A callback to come."""

    __slots__ = ("callback", "is_cancelled")

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback, self.is_cancelled = callback, False

    def cancel(self) -> None:
        self.is_cancelled = True

    def __call__(self) -> None:
        self.callback()


class WatchedServer(Server):
    """The production server, with somebody looking over its shoulder."""

    process: Process

    def apply(self, batch: Batch) -> Outcome:
        process, state = self.process, self.state
        outcome = state.apply(batch.first_op, batch.count, batch.time, batch.body)
        if process.misremembers:
            process.misremembers, process.wrong_state = False, state
            state.digest ^= 1
        process.world.on_apply(process, batch.first_op, batch.count, batch.time, batch.body, state.digest, outcome)
        return outcome

    def step(self, event: Event) -> list[Effect]:
        process, replica = self.process, self.replica
        if type(event) is not Persisted or process.world.checks is None:
            return replica.step(self.host.now(), event)
        generation, acks = replica.generation, frozenset(replica.acks)
        effects = replica.step(self.host.now(), event)
        process.world.checks.on_core_step(process, event, generation, acks)
        return effects

    def _answer_queries(self) -> None:
        if self.process.world.checks is not None:
            self.process.world.checks.on_answering(self.process)
        super()._answer_queries()

    def feed(self, event: Event) -> None:
        Server.feed(self, event)  # the busiest line of all
        if not self.depth and not self.ending:
            process = self.process
            if process.world.checks is not None:
                process.world.checks.after_step(process)


class Process(Host):
    """One incarnation: clock, disk and wires as its server sees them."""

    def __init__(self, world: World, replica: int) -> None:
        self.world, self.id, self.mix, self.hasher = world, replica, world.mix, HASHER
        self.files = world.files_of(replica)
        self.disk: Any = SimDisk(world.dice, self.files)
        self.worker = SimDisk(world.dice, self.files)
        self.disk.fault = lambda call, site, path: world.disk_fault(self, call, path)
        self.disk.knows_sites = False
        self.alive = True
        self.paused_until = 0.0
        self.parked: set[float] = set()  # when events are handled that came while it stood still
        self.timers_first = True  # whether a loop that stood still looks at its clock before its sockets
        self.clock = self.clock_set_at = world.now  # what its clock showed when its rate was set, and when that was
        self.clock_rate = 1.0
        self.is_clock_true = True  # shows the world's time, to the last bit
        self.stall = 0.0
        self.settled_at = 0.0
        self.orders: list[int] = []  # generations of the orders that its disk has not answered yet
        self.doors_open = False
        self.shells: dict[Any, None] = {}  # in order: a set of objects would follow their addresses
        self.linked: set[int] = set()  # replicas whose `on_linked` was called
        self.link_to: dict[int, Link] = {}
        self.dialling: set[int] = set()  # replicas that it tries to reach
        self.stop_after = 0  # host calls after which it stops; 0: never
        self.maker = Maker(self.worker, world.write_rows)
        self.server = WatchedServer.__new__(WatchedServer)
        self.server.process = self
        WatchedServer.__init__(self.server, self, world.mix.settings, replica, BASE)
        self.marks: tuple[int, ...] = ()  # what must never go back
        self.seen: tuple[Any, ...] = ()  # what the checkers saw last
        self.tip: tuple[tuple[int, bytes], tuple[int, bytes]] | None = None  # how its log ended, and what was below its last batch
        self.sync_failed = False
        self.misremembers = False  # whether its memory will fail at the next batch
        self.wrong_state: Any = None  # in which it has failed
        self.failed_files: list[SimFile] = []  # of its log, of which a sync failed

    @property
    def was_wrong(self) -> bool:
        """Whether its state is not what the log leads to; one that it has fetched since is right again."""
        return self.wrong_state is not None and self.wrong_state is self.server.state

    # --- Host -------------------------------------------------------------------------------------------------------------------------

    def now(self) -> float:
        if self.disk.waited:
            self.stall += self.disk.take_wait()
        if self.is_clock_true:
            return self.world.now + self.stall
        return self.clock + (self.world.now - self.clock_set_at) * self.clock_rate + self.stall

    def set_clock(self, rate: float) -> None:
        """From here on its clock runs at this rate; it never jumps."""
        self.clock += (self.world.now - self.clock_set_at) * self.clock_rate
        self.clock_set_at, self.clock_rate, self.is_clock_true = self.world.now, rate, False

    def give_way(self) -> None:
        pass

    def wall(self) -> int:
        return WALL_AT_START + int(self.world.now * 1e6) + self.world.wall_offset

    def at(self, when: float, callback: Callable[[], None]) -> SimTimer:
        timer = SimTimer(callback)
        if not self.is_clock_true:
            when = self.clock_set_at + (when - self.clock) / self.clock_rate + 1e-9  # not before its own clock says so
        self.world.push(when, self, timer)
        return timer

    def soon(self, callback: Callable[[], None]) -> None:
        self.world.push(self.world.now, self, callback)

    def random(self, size: int) -> bytes:
        return self.world.dice.randbytes(size)

    def stand_back(self) -> None:
        """Nobody else is on this processor."""

    def undisturbed(self) -> AbstractContextManager[None]:
        return nullcontext()

    def settle(self, feed: Callable[[Event], None], answer: Event) -> None:
        self._boundary()
        self.stall += self.disk.take_wait()
        if self.mix.settles_at_once:
            self.stall += self.mix.sync_time
            feed(answer)
        else:
            delay = self.world.dice.random() * 2 * self.mix.sync_time + self.stall
            self.stall = 0.0
            self.settled_at = max(self.settled_at, self.world.now + delay)
            self.orders.append(answer.generation)
            self.world.push(self.settled_at, self, self._settled, feed, answer)

    def _settled(self, callback: Callable[..., None], *args: Any) -> None:
        self.orders.pop(0)  # they are answered in their order
        callback(*args)

    def send(self, replicas: tuple[int, ...], packet: Packet) -> None:
        self._boundary()
        if self.world.checks is not None:
            self.world.checks.on_packet(self, packet)
        for replica in replicas:
            self.world.send(self, replica, packet, self.stall)

    def log(self, text: str) -> None:
        if self.world.checks is not None:
            self.world.checks.on_line(text)
        self.world.say(f"{self.id}: {text}")

    def open_doors(self) -> None:
        self.doors_open = True

    def close_doors(self) -> None:
        self.doors_open = False

    def work(self, after: float, job: Callable[[], Any], done: Callable[[Any], None]) -> None:
        self.world.push(self.world.now + after + self.world.dice.random() * HASHING, self, lambda: done(job()))

    def read(self, after: float, job: Callable[[], Any], done: Callable[[Any], None]) -> None:
        self.world.push(self.world.now + after, self, lambda: done(job()))

    def ready_worker(self) -> None:
        """It is."""

    def order_snapshot(self, order: dict[str, Any], done: Callable[[dict[str, Any]], None]) -> None:
        wait = self.world.dice.random() * 2 * self.mix.snapshot_time
        self.world.push(self.world.now + wait, self, self._make_snapshot, order, done)

    def _make_snapshot(self, order: dict[str, Any], done: Callable[[dict[str, Any]], None]) -> None:
        dice = self.world.dice
        if dice.random() < 0.1:
            self.worker.stop_at = self.worker.effects + dice.randint(1, 40)
        try:
            answer = self.maker.answer(order)
            if "path" in answer and self.world.checks is not None:
                self.world.checks.on_snapshot(self.id, order["make"], answer["path"])
            if dice.random() < 0.3:
                self.maker.rest(order["snapshots"])
        except Stopped:
            answer = {"failed": "the snapshot worker ended without an answer"}
            self.worker.kill()
            self.worker.stop_at = 0
            self.maker = Maker(self.worker, self.world.write_rows, tag=str(dice.randrange(1000)))
        self.world.push(self.world.now + dice.random() * self.mix.snapshot_time, self, done, answer)

    def exit(self, code: int) -> None:
        self.world.push(self.world.now, None, self.die, f"exit {code}")

    # --- life and death -----------------------------------------------------------------------------------------------------------------

    def _boundary(self) -> None:
        if self.stop_after:
            self.stop_after -= 1
            if not self.stop_after:
                raise Stopped

    def start(self) -> None:
        """Boot and begin to tick."""
        self.server.boot()
        self.world.say(f"{self.id}: starts as incarnation {self.server.replica.me.inc}: {self.server.replica}")
        self.world.on_start(self)
        self.server.run()

    def die(self, why: str) -> None:
        """The kernel takes all back."""
        if not self.alive:
            return
        self.alive = False
        self.world.say(f"{self.id}: dies: {why}{self._last_words()}")
        self.disk.kill()
        self.worker.kill()
        self.files.disks = [d for d in self.files.disks if d is not self.disk and d is not self.worker]
        self.world.on_death(self)

    def _last_words(self) -> str:
        """What it was, and what it leaves behind."""
        r = getattr(self.server, "replica", None)
        if r is None:
            return ""
        role = "primary" if r.is_primary else "backup" if r.status == NORMAL else r.status
        rest = "all committed" if r.commit == r.head_op else f"committed, as far as it knew, up to op {r.commit}"
        return f"; it was {role} in view {r.view}, its log ends at op {r.head_op}, {rest}"


class Link:
    """One connection. `free_at` and `held` are kept for each receiving end."""

    def __init__(self, ends: tuple[Process, Process]) -> None:
        self.ends = ends
        self.open = True
        self.flushes = True  # what is on the wire when it is cut still arrives
        self.free_at = {p.id: 0.0 for p in ends}
        self.held: dict[int, list[tuple[Callable[..., None], tuple[Any, ...]]]] = {p.id: [] for p in ends}

    def other(self, process: Process) -> Process:
        return self.ends[1] if process is self.ends[0] else self.ends[0]


class World:
    """See the module's page."""

    def __init__(self, seed: int, mix: Mix, dice: random.Random, *, trace: bool = False) -> None:
        self.seed, self.mix, self.dice, self.keeps_trace = seed, mix, dice, trace
        self.now = 0.0
        self.wall_offset = 0
        self.extra_delay = 0.0  # seconds at most that a packet takes longer now
        self.wires: Counter[str] = Counter()  # packets lost, repeated, overtaken
        self.heap: list[tuple[float, int, Process | None, Callable[..., None], tuple[Any, ...]]] = []
        self.numbers = 0
        self.count = len(mix.settings.replicas)
        self.files = SimFiles(dice)
        self.processes: dict[int, Process] = {}
        self.write_rows: RowsWriter = rows_through_csv  # what the snapshot workers use
        self.down: set[int] = set()  # replicas that nobody starts now
        self.links: dict[tuple[int, int], Link] = {}
        self.blocked: set[tuple[int, int]] = set()  # (from, to)
        self.held_links: list[Link] = []  # on which something waits, also broken ones
        self.story: list[str] = []
        self.watches = os.environ.get("SIM_WATCH", "")
        self.crc = 0
        self.steps = 0
        self.healed = False
        self.healed_at = 0.0
        self.is_meanwhile = False
        self.checks: Any = None
        self.listener: Callable[[int, int, Packet], None] | None = None  # hears of packets before they leave
        self.disk_fault: Callable[[Process, str, str], OSError | None] = lambda *_: None
        self.after_death: Callable[[Process], None] = lambda process: None

    def files_of(self, replica: int) -> SimFiles:
        """The file system of this replica's host: there is one."""
        return self.files

    # --- time -----------------------------------------------------------------------------------------------------------------------------

    def push(self, when: float, process: Process | None, callback: Callable[..., None], *args: Any) -> None:
        """Call it then; not if the process is dead by then."""
        self.numbers = number = self.numbers + 1
        heappush(self.heap, (when, number, process, callback, args))

    def run(self, until: float, is_done: Callable[[], bool] = lambda: False) -> bool:
        """Handle events until that time; False: nothing ended it before."""
        heap, handled = self.heap, 0
        while heap and heap[0][0] <= until:
            when, number, process, callback, args = heappop(heap)
            is_timer = type(callback) is SimTimer
            if is_timer and callback.is_cancelled:  # type: ignore[attr-defined]
                continue
            if when > self.now:
                self.now = when
            if process is None:
                callback(*args)
            elif process.alive:
                if process.paused_until > when:  # not the world's time, which may be ahead: what was put off before would be overtaken
                    process.parked.add(process.paused_until)
                    is_behind = is_timer and number < BEHIND and not process.timers_first
                    heappush(heap, (process.paused_until, number + BEHIND * is_behind, process, callback, args))
                    continue
                self.turn(process, callback.callback if is_timer else callback, args)  # type: ignore[attr-defined]
            handled += 1
            if not handled % LOOK_EVERY and is_done():
                return True
        self.now = max(self.now, until)
        return is_done()

    def wake(self, process: Process) -> None:
        """It stands still no longer; what has waited for it keeps its order before what comes now."""
        process.paused_until = min(process.paused_until, self.now)
        parked, process.parked = process.parked, set()
        if parked:
            self.heap[:] = [(self.now if p is process and when in parked else when, n, p, c, args) for when, n, p, c, args in self.heap]
            heapify(self.heap)

    def meanwhile(self, process: Process, seconds: float) -> None:
        """The others go on while this process is in the middle of an effect that takes so long."""
        if self.is_meanwhile:
            return
        self.is_meanwhile, until, later = True, self.now + seconds, []
        waits = {process}  # for whom something was put off: what comes behind that must not overtake it
        while self.heap and self.heap[0][0] <= until:
            event = heappop(self.heap)
            other = event[2]
            if other is None or other in waits or other.paused_until > event[0]:
                later.append(event)
                if other is not None:
                    waits.add(other)
            elif other.alive:
                self.now = max(self.now, event[0])
                self.turn(other, event[3], event[4])
        for event in later:
            heappush(self.heap, event)
        self.is_meanwhile = False

    def thaw(self) -> None:
        """Pauses were shortened: what was put off until their end is due now, in its order."""
        self.heap = [
            (self.now, number, process, callback, args) if process is not None and when > self.now + PAUSE_MAX else entry
            for entry in self.heap
            for when, number, process, callback, args in (entry,)
        ]
        heapify(self.heap)

    def turn(self, process: Process, callback: Callable[..., None], args: tuple[Any, ...]) -> None:
        """One event of one process."""
        self.steps += 1
        try:
            callback(*args)
        except Stopped:
            process.die("stopped at an effect")
        except Violation:
            raise
        except BootFailed as error:
            self.boot_failed(process, error)
        except Exception as error:
            raise Violation(f"replica {process.id}: {type(error).__name__}: {error}") from error
        if process.stall:
            process.paused_until = max(process.paused_until, self.now + process.stall)
            process.stall = 0.0

    def say(self, text: str) -> None:
        """A line of the story."""
        line = f"{self.now:9.4f} {text}"
        self.crc = zlib.crc32(line.encode("utf-8", "replace"), self.crc)
        if self.keeps_trace:
            self.story.append(line)

    # --- processes ------------------------------------------------------------------------------------------------------------------------

    def start(self, replica: int) -> None:
        """Start the replica unless it runs, or is to stay down."""
        if replica in self.down or (replica in self.processes and self.processes[replica].alive):
            return
        process = self.processes[replica] = Process(self, replica)
        self.turn(process, process.start, ())
        for other in range(len(self.mix.settings.replicas)):
            if other != replica:
                self.dial_soon(process, other)

    def start_again(self, process: Process) -> None:
        """A second process of a replica that runs. It must not get as far as to speak."""
        second = Process(self, process.id)
        try:
            second.server.boot()
        except BootFailed as error:
            self.say(f"{process.id}: the second one ends: {error}")
        else:
            raise Violation(f"replica {process.id} runs twice")
        second.alive = False
        second.disk.kill()
        self.files.disks = [d for d in self.files.disks if d is not second.disk and d is not second.worker]

    def boot_failed(self, process: Process, error: BootFailed) -> None:
        """It tries again in a moment, as its supervisor or its operator would."""
        process.die(f"cannot start: {error}")

    def on_death(self, process: Process) -> None:
        """Wires break; somebody starts it again some time."""
        for link in [link for link in self.links.values() if process in link.ends]:
            self.cut(link, flushes=self.dice.random() < 0.7)
        for shell in list(process.shells):
            shell.break_off()
        if self.checks is not None:
            self.checks.on_death(process)
        self.after_death(process)

    def living(self) -> list[Process]:
        return [p for p in self.processes.values() if p.alive]

    # --- wires ----------------------------------------------------------------------------------------------------------------------------

    def dial_soon(self, process: Process, other: int) -> None:
        """Try until there is a link."""
        if other not in process.dialling:
            process.dialling.add(other)
            self.push(self.now + self.dice.uniform(*DIAL), None, self.dial, process, other)

    def dial(self, process: Process, other: int) -> None:
        """One attempt of this process to be linked with that replica."""
        process.dialling.discard(other)
        peer = self.processes.get(other)
        pair = (process.id, other) if process.id < other else (other, process.id)
        if not process.alive or pair in self.links:
            return
        if peer is not None and self._may_link(process, peer):
            link = self.links[pair] = Link((process, peer))
            dialler, acceptor = (process, peer) if process.id > other else (peer, process)
            self._post(link, dialler, self.linked, link, dialler)
            self._post(link, acceptor, self.linked, link, acceptor)
        else:
            self.dial_soon(process, other)

    def _may_link(self, a: Process, b: Process) -> bool:
        if not (a.alive and b.alive) or {(a.id, b.id), (b.id, a.id)} & self.blocked or a.server.ending or b.server.ending:
            return False
        if a.paused_until > self.now or b.paused_until > self.now or a.id in b.linked or b.id in a.linked:
            return False
        for one, other in ((a, b), (b, a)):
            holds = [False]
            self.turn(
                one, lambda one=one, other=other, holds=holds: holds.append(one.server.holds_lock(other.id, other.server.storage.inc)), ()
            )
            if not holds[-1] or not a.alive or not b.alive:
                return False
        return True

    def linked(self, link: Link, process: Process) -> None:
        if link.open:
            other = link.other(process)
            process.linked.add(other.id)
            process.link_to[other.id] = link
            process.server.on_linked(other.id, other.server.replica.me.inc)

    def unlinked(self, link: Link, process: Process) -> None:
        other = link.other(process)
        if process.link_to.get(other.id) is link:  # it may never have heard of this one, and have a newer one by now
            del process.link_to[other.id]
            process.linked.discard(other.id)
            process.server.on_unlinked(other.id, "gone")

    def cut(self, link: Link, *, flushes: bool) -> None:
        """Break the connection; both ends hear of it, after what is on the wire or instead of it."""
        if not link.open:
            return
        link.open, link.flushes = False, flushes
        del self.links[link.ends[0].id if link.ends[0].id < link.ends[1].id else link.ends[1].id, max(p.id for p in link.ends)]
        for process in link.ends:
            if process.alive:
                held = link.held[process.id]
                if held and not flushes:
                    held.clear()
                self._post(link, process, self.unlinked, link, process)
                self.dial_soon(process, link.other(process).id)

    def _post(self, link: Link, to: Process, callback: Callable[..., None], *args: Any, extra: float = 0.0) -> None:
        """In order behind all that is on its way to this end."""
        if self.blocked and (link.other(to).id, to.id) in self.blocked:
            link.held[to.id].append((callback, args))
            if link not in self.held_links:
                self.held_links.append(link)
            return
        mix = self.mix
        when = self.now + extra + mix.net_delay + (self.dice.random() * mix.net_jitter if mix.net_jitter else 0.0)
        if self.extra_delay:
            when += self.dice.random() * self.extra_delay
        if when < link.free_at[to.id]:
            when = link.free_at[to.id]
        link.free_at[to.id] = when
        self.push(when, to, callback, *args)

    def send(self, process: Process, replica: int, packet: Packet, extra: float) -> None:
        """A packet; nothing happens to it where there is no link."""
        link = self.links.get((process.id, replica) if process.id < replica else (replica, process.id))
        if link is None or replica not in process.linked or process not in link.ends:
            return
        if self.listener is not None:
            self.listener(process.id, replica, packet)
        to, mix, dice = link.other(process), self.mix, self.dice
        if (mix.loss or mix.repeat or mix.overtake) and type(packet) not in DESK_PACKETS:
            if dice.random() < mix.loss:
                self.wires["lost"] += 1
                return
            twice = dice.random() < mix.repeat
            self.wires["repeated"] += twice
            for again in range(1 + twice):
                if again and dice.random() < 0.5:
                    self.push(self.now + extra + dice.random() * LATE_S, to, self.straggled, link, process.id, to, packet)
                elif dice.random() < mix.overtake:
                    self.wires["overtaken"] += 1
                    when = self.now + extra + mix.net_delay + dice.random() * 0.05
                    self.push(max(when, self.now), to, self.straggled, link, process.id, to, packet)
                else:
                    self._post(link, to, self.arrived, link, process.id, to, packet, extra=extra)
            return
        self._post(link, to, self.arrived, link, process.id, to, packet, extra=extra)

    def straggled(self, link: Link, sender: int, to: Process, packet: AnyPacket) -> None:
        """It went its own way, and does not get through a partition either."""
        if (sender, to.id) not in self.blocked:
            self.arrived(link, sender, to, packet)

    def arrived(self, link: Link, sender: int, to: Process, packet: AnyPacket) -> None:
        if (link.open or link.flushes) and sender in to.linked and not to.server.ending:
            if to.server.linked[sender].inc != link.other(to).server.replica.me.inc:
                return
            stood_still = type(packet) is Prepare and to.paused_until == self.now
            for one in self._read_at_once(link, sender, to, packet) if stood_still else (packet,):
                to.server.on_packet(sender, one)

    def _read_at_once(self, link: Link, sender: int, to: Process, packet: AnyPacket) -> list[AnyPacket]:
        """This batch and all behind it that this link has brought while the process stood still, if there is another batch."""
        heap, came, rest = self.heap, list[Any](), list[Any]()
        while heap and heap[0][0] <= self.now:
            entry = heappop(heap)
            (came if entry[3] == self.arrived and entry[4][:3] == (link, sender, to) else rest).append(entry)
        packets = [packet, *(entry[4][3] for entry in came)]
        is_behind = sum(type(one) is Prepare for one in packets) > 1
        for entry in rest if is_behind else (*came, *rest):
            heappush(heap, entry)
        return gather(packets) if is_behind else [packet]

    def release(self, sender: int, to: int) -> None:
        """A partition is over: what was held up arrives."""
        self.blocked.discard((sender, to))
        for process in self.living():
            if process.id == to:
                for link in [x for x in self.held_links if process in x.ends and x.other(process).id == sender]:
                    held, link.held[to] = link.held[to], []
                    for callback, args in held:
                        self._post(link, process, callback, *args)

    # --- what the checkers hear -----------------------------------------------------------------------------------------------------------

    def on_start(self, process: Process) -> None:
        if self.checks is not None:
            self.checks.on_start(process)

    def on_apply(self, process: Process, first_op: int, count: int, time: int, body: bytes, digest: int, outcome: Any) -> None:
        if self.checks is not None:
            self.checks.on_apply(process, first_op, count, time, body, digest, outcome)
