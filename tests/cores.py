"""Three cores and the smallest world that can carry their effects out: a wire, three disks, three locks and one register, all in memory.

What it is not: it knows no server, socket, file or chat; the simulator (`tests/simulator/`) drives the whole house. Here a test says what
happens and when, and reads the cores' own attributes.

    World.kill, start         a process dies (its link breaks, its lock is free), another incarnation of it begins
    World.freeze, thaw        SIGSTOP and SIGCONT: nothing of it runs, its lock and links stay
    World.part, heal          packets between two replicas get lost; the links stay
    World.hold, release       a disk does not answer; it answers
    World.run                 time passes, everybody acts when due

After every step it asserts what must never happen (2.12 of the protocol): an answer for two different batches of one op, an ack for what
is not stored, a member of the register's last view that lacks what was answered.
"""

from __future__ import annotations

import math
import zlib
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from batches import NO_HASH, Batch
from events import (
    Applied,
    Apply,
    CheckGuard,
    CheckHealth,
    Confirm,
    Cut,
    CutDone,
    DiskFailed,
    Event,
    Exit,
    Fetched,
    FetchSnapshot,
    HealthChecked,
    Installed,
    InstallSnapshot,
    Linked,
    LockProbed,
    LogRead,
    OfferSnapshot,
    Persist,
    Persisted,
    ProbeLock,
    Propose,
    Proposed,
    ReadLog,
    ReadRegister,
    Received,
    RegisterRead,
    Remember,
    Saved,
    SaveLogView,
    SaveView,
    Send,
    Submitted,
    Ticked,
    Trace,
    Unlinked,
    ViewSaved,
)
from packets import Member, Packet, PrepareOk, SnapshotOffer, View, decode, encode
from policy import Start, Timers
from replication import LIVE, Replica
from survivor import Survivor

SECOND = 1_000_000  # microseconds
STEPS_MOST = 200_000  # events of one `run`; more is a quarrel without end


@dataclass
class Store:
    """What a replica has on its disk; everything in it is synced."""

    base_op: int = 0
    base_hash: bytes = NO_HASH
    base_digest: int = 0
    base_time: int = 0
    log: list[Batch] = field(default_factory=list)
    view: int = 0
    log_view: int = 0
    damage: str = ""
    born: int = 0
    began: bool = False
    met: dict[int, int] = field(default_factory=dict)

    def tip(self) -> tuple[int, bytes]:
        return (self.log[-1].op, self.log[-1].hash) if self.log else (self.base_op, self.base_hash)

    def parent(self) -> tuple[int, bytes]:
        return (self.log[-2].op, self.log[-2].hash) if len(self.log) > 1 else (self.base_op, self.base_hash)

    def holds(self, op: int, tip: bytes) -> bool:
        return op <= self.base_op or any((b.op, b.hash) == (op, tip) for b in self.log)

    def after(self, op: int, tip: bytes) -> list[Batch] | None:
        """The batches that follow (op, hash); None where that is not here."""
        if (op, tip) == (self.base_op, self.base_hash):
            return self.log
        for i, batch in enumerate(self.log):
            if (batch.op, batch.hash) == (op, tip):
                return self.log[i + 1 :]
        return None


class Core:
    """One process: core and policy, and what the world must remember of it."""

    def __init__(self, world: World, me: int, inc: int, timers: Timers) -> None:
        self.world, self.me, self.store = world, Member(me, inc), world.stores[me]
        store = self.store
        store.born = store.born or inc
        done = store.log[:-1]
        self.digest = store.base_digest
        for batch in done:
            self.digest = zlib.crc32(batch.body, self.digest)
        start = Start(
            inc=inc,
            view=store.view,
            log_view=store.log_view,
            head_op=store.tip()[0],
            head_hash=store.tip()[1],
            parent_op=store.parent()[0] if store.log else store.base_op,
            parent_hash=store.parent()[1] if store.log else store.base_hash,
            last=store.log[-1] if store.log else None,
            digest=self.digest,
            time=store.base_time,
            damage=store.damage,
            born=store.born,
            began=store.began,
        )
        self.replica = Replica(me, world.ids, "dormitory", timers, start, world.now)
        self.policy = world.make_policy(self)
        self.replica.policy = self.policy
        self.applied: list[Batch] = []
        self.kept: list[Any] = []  # orders that found no room
        self.exit: Exit | None = None
        self.frozen = False
        self.inbox: deque[Event] = deque()  # what waits while it is frozen
        self.answers: deque[Event] = deque()  # what its disk holds back
        self.traces: list[str] = []
        self.confirmed = 0  # newest number whose answers may be given

    def __repr__(self) -> str:
        return repr(self.replica)


class World:
    """See the module's page."""

    def make_policy(self, core: Core) -> Any:
        return Survivor(core.replica, self.register[-1] if self.register else None)

    def __init__(self, replicas: int = 3, timers: Timers | None = None) -> None:
        self.ids = tuple(range(replicas))
        self.timers = timers or Timers()
        self.now = 100.0
        self.stores = [Store() for _ in self.ids]
        self.incs = [1000 * (i + 1) for i in self.ids]
        self.register: list[View] = []
        self.cores: dict[int, Core] = {}
        self.queue: deque[tuple[Core, Event]] = deque()
        self.parted: set[frozenset[int]] = set()
        self.held: set[int] = set()  # disks that do not answer
        self.failing: dict[int, tuple[str, bool]] = {}  # disks that fail: reason, full
        self.unwell: set[int] = set()
        self.register_full = False
        self.fetch_fails = False
        self.answered: dict[int, bytes] = {}  # op -> hash of what a guest may have seen
        self.packets: list[tuple[int, int, Packet]] = []  # all that was sent: from, to, packet
        self.lose: set[type | tuple[int, type]] = set()  # kinds of packets that get lost, of anybody or of one sender
        self.exits: list[tuple[int, str]] = []
        self.forced: list[int] = []  # of each exit: the view that an operator has forced meanwhile

    # --- what a test does -----------------------------------------------------------------------------------------------------------------

    def start(self, *ids: int) -> None:
        for i in ids or self.ids:
            assert i not in self.cores, f"{i} runs"
            self.incs[i] += 1
            self.cores[i] = Core(self, i, self.incs[i], self.timers)
        for i in ids or self.ids:
            for other in self.cores.values():
                if other.me.replica != i:
                    self.link(self.cores[i], other)
        for i in ids or self.ids:
            self.push(self.cores[i], Ticked())
        self.settle()

    def link(self, one: Core, other: Core) -> None:
        self.push(one, Linked(other.me))
        self.push(other, Linked(one.me))

    def unlink(self, one: Core, other: Core) -> None:
        self.push(one, Unlinked(other.me))
        self.push(other, Unlinked(one.me))

    def kill(self, *ids: int) -> None:
        dead = [self.cores.pop(i) for i in ids]
        self._bury(dead)
        self.settle()

    def _bury(self, dead: list[Core]) -> None:
        self.queue = deque((core, event) for core, event in self.queue if core not in dead)
        for core in dead:
            for other in self.cores.values():
                self.push(other, Unlinked(core.me))

    def freeze(self, i: int) -> None:
        self.cores[i].frozen = True

    def thaw(self, i: int) -> None:
        core = self.cores[i]
        core.frozen = False
        self.push(core, Ticked())
        while core.inbox:
            self.push(core, core.inbox.popleft())
        self.settle()

    def part(self, i: int, j: int) -> None:
        self.parted.add(frozenset((i, j)))

    def heal(self) -> None:
        self.parted.clear()

    def hold(self, *ids: int) -> None:
        self.held.update(ids)

    def release(self, i: int) -> None:
        self.held.discard(i)
        if i in self.cores:
            answers = self.cores[i].answers
            while answers:
                self.push(self.cores[i], answers.popleft())
        self.settle()

    def submit(self, i: int, body: bytes = b"hello", ops: int = 1) -> int:
        """Give a batch to a core that can prepare; the op by which it is named."""
        core = self.cores[i]
        assert core.replica.can_prepare, f"{core} cannot prepare"
        self.step(core, Submitted(ops, body, int(self.now * SECOND)))
        return core.replica.head_op

    def say(self, i: int, body: bytes = b"hello", ops: int = 1) -> int:
        """Submit, and let everybody act."""
        op = self.submit(i, body, ops)
        self.settle()
        return op

    def feed(self, i: int, event: Event) -> None:
        self.step(self.cores[i], event)
        self.settle()

    def run(self, seconds: float) -> None:
        """Time passes."""
        end, steps = self.now + seconds, 0
        self.settle()
        while True:
            awake = [c for c in self.cores.values() if not c.frozen]
            due = min((c.replica.wake_at for c in awake), default=math.inf)
            if due > end:
                break
            self.now = max(self.now, due)
            for core in awake:
                if core.replica.wake_at <= self.now and core.exit is None:
                    self.push(core, Ticked())
            self.settle()
            steps += 1
            assert steps < STEPS_MOST, "no end of ticks"
        self.now = end

    def primary(self) -> int:
        """Who serves now; exactly one may pass the guard."""
        serving = [c.me.replica for c in self.cores.values() if c.replica.serving and c.replica.view == self.register[-1].number]
        assert len(serving) == 1, f"{len(serving)} serve: {list(self.cores.values())}"
        return serving[0]

    def members(self) -> tuple[int, ...]:
        return self.register[-1].replicas

    def sent(self, kind: type, *, by: int | None = None, to: int | None = None) -> list[Any]:
        """Packets of this kind that were sent so far, lost or not."""
        return [p for a, b, p in self.packets if type(p) is kind and by in (None, a) and to in (None, b)]

    def traced(self, i: int, words: str) -> bool:
        return any(words in text for text in self.cores[i].traces)

    # --- how it goes on -------------------------------------------------------------------------------------------------------------------

    def push(self, core: Core, event: Event) -> None:
        self.queue.append((core, event))

    def settle(self) -> None:
        """Everything that is under way arrives."""
        steps = 0
        while self.queue:
            core, event = self.queue.popleft()
            if core.frozen:
                core.inbox.append(event)
            elif core.exit is None:
                self.step(core, event)
            steps += 1
            assert steps < STEPS_MOST, "no end of packets"
        self.check()

    def step(self, core: Core, event: Event) -> None:
        for effect in core.replica.step(self.now, event):
            getattr(self, CARRY_OUT[type(effect)].__name__)(core, effect)

    def answer(self, core: Core, event: Event) -> None:
        """The disk has done it."""
        if core.me.replica in self.held:
            core.answers.append(event)
        else:
            self.push(core, event)

    def fails(self, core: Core, effect: Any) -> bool:
        """Whether the disk does not do it. What it has no room for it keeps until `make_room`."""
        if core.me.replica not in self.failing:
            return False
        failed = DiskFailed(effect.generation, *self.failing[core.me.replica])
        if failed.full:
            core.kept.append(effect)
        self.answer(core, failed)
        return True

    def make_room(self, *full: int) -> None:
        """These disks are full no longer, and what they had no room for is tried again."""
        for i in full:
            del self.failing[i]
            core = self.cores.get(i)
            if core is not None:
                kept, core.kept = core.kept, []
                for effect in kept:
                    getattr(self, CARRY_OUT[type(effect)].__name__)(core, effect)
        self.settle()

    def check(self) -> None:
        """What must never happen, at any moment."""
        for core in self.cores.values():
            r = core.replica
            assert r.applied <= r.commit <= max(r.head_op, r.commit) and r.log_view <= r.view
            assert not self.register or core.store.log_view <= self.register[-1].number
        if self.register and not self.register[-1].closed:
            for i in self.members():
                for op, tip in self.answered.items():
                    assert self.stores[i].holds(op, tip), f"replica {i} stands in the view without op {op}"

    # --- effects --------------------------------------------------------------------------------------------------------------------------

    def _send(self, core: Core, effect: Send) -> None:
        packet = effect.packet
        if isinstance(packet, PrepareOk):
            assert core.store.holds(packet.op, packet.hash) and core.store.tip() == (packet.op, packet.hash), "acks what is not stored"
            assert core.store.log_view == packet.view, "acks before log_view is stored"
        packet = decode(encode(packet))
        for i in effect.replicas:
            assert i != core.me.replica, "sends to itself"
            self.packets.append((core.me.replica, i, packet))
            if (
                i in self.cores
                and frozenset((i, core.me.replica)) not in self.parted
                and not {type(packet), (core.me.replica, type(packet))} & self.lose
            ):
                self.push(self.cores[i], Received(core.me, packet))

    def _persist(self, core: Core, effect: Persist) -> None:
        if self.fails(core, effect):
            return
        for batch in effect.batches:
            if core.store.tip()[1] != batch.hash:
                assert core.store.tip() == (batch.first_op - 1, batch.prev_hash), f"{batch} does not follow {core.store.tip()}"
                core.store.log.append(batch)
        self.answer(core, Persisted(effect.generation, *core.store.tip()))

    def _cut(self, core: Core, effect: Cut) -> None:
        batch = core.store.log.pop()
        assert self.answered.get(batch.op) != batch.hash, "cuts what a guest has seen"
        self.answer(core, CutDone(effect.generation))

    def _save(self, core: Core, effect: SaveLogView) -> None:
        if self.fails(core, effect):
            return
        core.store.view, core.store.log_view, core.store.damage = effect.view, effect.log_view, ""
        self.answer(core, Saved(effect.generation, effect.log_view))

    def _save_view(self, core: Core, effect: SaveView) -> None:
        if self.fails(core, effect):
            return
        core.store.view, core.store.began = effect.view, effect.began
        self.answer(core, ViewSaved(effect.generation, effect.view))

    def _remember(self, core: Core, effect: Remember) -> None:
        core.store.met[effect.member.replica] = effect.member.inc

    def _apply(self, core: Core, effect: Apply) -> None:
        batch = effect.batch
        core.applied.append(batch)
        core.digest = zlib.crc32(batch.body, core.digest)
        if core.replica.status in LIVE:
            assert self.answered.setdefault(batch.op, batch.hash) == batch.hash, f"two batches of op {batch.op}"
        self.push(core, Applied(batch.op, core.digest))

    def _read_log(self, core: Core, effect: ReadLog) -> None:
        request, store = effect.request, core.store
        base = (request.op, request.hash)
        found = store.after(*base)
        if found is None and request.parent_op < request.op:
            base = (request.parent_op, request.parent_hash)
            found = store.after(*base)
        images = None
        if found is not None:
            images, size = b"", 0
            for batch in found:
                if batch.op > effect.until or (size and size + len(batch.image) > effect.limit):
                    break
                images += batch.image
                size, base_tip = len(images), batch.hash
        tip = base_tip if images else base[1]
        oldest = store.log[0].first_op if store.log else store.base_op + 1
        self.push(core, LogRead(effect.asker, request, *base, images, tip == effect.tip, oldest))

    def _offer(self, core: Core, effect: OfferSnapshot) -> None:
        store = core.store
        self._send(core, Send((effect.replica,), SnapshotOffer(core.replica.view, store.base_op, store.base_hash, b"manifest")))

    def _fetch(self, core: Core, effect: FetchSnapshot) -> None:
        if not self.fetch_fails:
            self.answer(core, Fetched(effect.generation, effect.offer.op, effect.offer.hash))

    def _install(self, core: Core, effect: InstallSnapshot) -> None:
        source = next(s for s in self.stores if (s.base_op, s.base_hash) == (effect.op, effect.hash))
        core.store.base_op, core.store.base_hash, core.store.base_digest = source.base_op, source.base_hash, source.base_digest
        core.store.base_time = source.base_time
        core.store.log.clear()
        core.digest = source.base_digest
        self.answer(core, Installed(effect.generation, effect.op, effect.hash, source.base_digest, source.base_time))

    def snapshot(self, i: int) -> None:
        """A replica's log begins anew at what it has applied; the journal below is dropped."""
        store, replica = self.stores[i], self.cores[i].replica
        while store.log and store.log[0].op <= replica.applied:
            batch = store.log.pop(0)
            store.base_op, store.base_hash, store.base_time = batch.op, batch.hash, batch.time + batch.count
            store.base_digest = zlib.crc32(batch.body, store.base_digest)

    def _probe(self, core: Core, effect: ProbeLock) -> None:
        owner = self.cores.get(effect.replica)
        self.push(core, LockProbed(effect.replica, owner.me.inc if owner else None))

    def _read_register(self, core: Core, effect: ReadRegister) -> None:
        self.push(core, RegisterRead(self.register[-1] if self.register else None))

    def _propose(self, core: Core, effect: Propose) -> None:
        if self.register_full:
            return self.push(core, Proposed(None, "full"))
        number = self.register[-1].number if self.register else 0
        if effect.view.number == number + 1 or not self.register:
            if self.register:
                assert effect.view.prev_hash == self.register[-1].chain_hash(), "the chain of views is broken"
            assert len({m.replica for m in effect.view.members}) == len(effect.view.members) and effect.view.primary in effect.view.members
            self.register.append(effect.view)
        self.push(core, Proposed(self.register[-1]))

    def _check_guard(self, core: Core, effect: CheckGuard) -> None:
        if self.register[-1].number == core.replica.view:
            self._confirm(core, Confirm(effect.number))

    def _confirm(self, core: Core, effect: Confirm) -> None:
        core.confirmed = effect.number

    def _check_health(self, core: Core, effect: CheckHealth) -> None:
        self.push(core, HealthChecked(core.me.replica not in self.unwell))

    def _exit(self, core: Core, effect: Exit) -> None:
        core.exit = effect
        self.incs[core.me.replica] = max(self.incs[core.me.replica], effect.inc)
        if effect.suspect:
            core.store.damage = "an earlier sync failed on this disk"
        if self.cores.get(core.me.replica) is core:
            del self.cores[core.me.replica]
            self._bury([core])
        self.exits.append((core.me.replica, effect.reason))
        self.forced.append(effect.forced)

    def _trace(self, core: Core, effect: Trace) -> None:
        core.traces.append(effect.text)


CARRY_OUT: dict[type, Any] = {
    Send: World._send,
    Persist: World._persist,
    Cut: World._cut,
    SaveLogView: World._save,
    SaveView: World._save_view,
    Remember: World._remember,
    Apply: World._apply,
    ReadLog: World._read_log,
    OfferSnapshot: World._offer,
    FetchSnapshot: World._fetch,
    InstallSnapshot: World._install,
    ProbeLock: World._probe,
    ReadRegister: World._read_register,
    Propose: World._propose,
    CheckHealth: World._check_health,
    CheckGuard: World._check_guard,
    Confirm: World._confirm,
    Exit: World._exit,
    Trace: World._trace,
}
