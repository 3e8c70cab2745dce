"""Room 3, hands: one process, one replica. It carries out what the core orders and tells the core what happened.

What it is not: it decides nothing about views or commits (`replication.py`, `survivor.py`), understands no door (`doors/`) and keeps no
guest (`desk.py`). `Server` receives clock, network, disk and worker as one object, its host; the simulator gives it another one.

    event comes from                            effect is carried out by
    a link      Received, Linked, Unlinked      links      Send
    the desk    Submitted, Idled                journal    Persist, Cut, ReadLog
    the disk    Persisted, CutDone, Saved, …    superblock SaveLogView, InstallSnapshot, CheckHealth (`errands.py`)
    the clock   Ticked                          register   ReadRegister, Propose
    the state   Applied                         state      Apply, then the desk gives replies and deliveries
    operators   StopAsked                       locks      ProbeLock

One turn of the loop: what came in was fed; if nothing is in flight, the open batch leaves; queries share one look at the guard.

Invariants:
- Effects are carried out in the order of the core, each completion fed back at once (in the simulator: later).
- A query is answered only if the register still ended at this replica's view after it was evaluated.
- Nothing of a guest leaves while this replica is not in the view.

Read next: `replication.py`, then `desk.py`. Command line and operators: `admin.py`.
"""

from __future__ import annotations

if __name__ == "__main__":
    import bootstrap

    bootstrap.ensure(bootstrap.PACKAGES)

    import compiled

    compiled.use()

import itertools
import json
from collections.abc import Callable
from typing import Any

from mypy_extensions import mypyc_attr

import reports
import snapshots
from batches import BATCH_MAX, Batch
from commands import count_ops, sessions_of, system_run
from desk import Desk
from disk import FULL
from errands import Errands
from events import (
    Applied,
    Apply,
    CheckGuard,
    CheckHealth,
    Confirm,
    Cut,
    Effect,
    Evaluated,
    Event,
    Exit,
    FetchSnapshot,
    HealthChecked,
    Idled,
    Installed,
    InstallSnapshot,
    Linked,
    OfferSnapshot,
    Persist,
    ProbeLock,
    Propose,
    ReadLog,
    ReadRegister,
    Received,
    Remember,
    RoomLooked,
    SaveLogView,
    SaveView,
    Send,
    StopAsked,
    Submitted,
    Ticked,
    Trace,
    Unlinked,
)
from host import Host, Timer
from majority import Majority
from packets import AnyPacket, Chunk, Forward, Forwarded, ForwardQuery, GetChunk, Member, View
from passwords import SALT_SIZE
from people import Outcome
from policy import Policy, Start, Timers
from queries import Queries
from register import RegisterDamaged
from registrar import Registrar
from replication import LEARNER, LIVE, NORMAL, READ_ONLY, VIEW_CHANGE, Replica
from settings import SURVIVOR, Settings
from state import ChatState
from storage import BootFailed, Storage
from superblock import Superblock
from survivor import Survivor
from upkeep import Upkeep

HEALTHY_S = 0.1  # seconds a sync of the superblock may take for this process to accuse another
FORWARD_MAX = 512 * 1024  # bytes of one Forward packet
ENOUGH = 64  # commands that leave at once: their work is more than what a batch costs by itself
FEW = 4  # commands of a batch for whose sake a replica lets the others on its processor go first
SOME = 4  # so does a fourth of what the batch before has held
LISTEN_S = 0.001  # seconds in which sockets are read once more: twice what a batch costs. A gRPC call alone takes a fifth of it
TIDY_S = 0.1  # seconds between two looks at deliveries to acknowledge and at signs of life
CALM_S = 0.25  # seconds after a change of view in which the disk serves those who wait for their first answer, and nothing else
HINT_S = 1.0  # seconds between two writes of the durable op into the lock file
TROUBLE_S = 120.0  # seconds after which status does not repeat what nobody has complained of again
STOP_S = 3.0  # seconds a stop may take before the process ends without the others
EXIT_STOPPED, EXIT_TROUBLE = 0, 3


@mypyc_attr(allow_interpreted_subclasses=True)
class Server:
    """One replica's hands."""

    def __init__(self, host: Host, settings: Settings, replica: int, base: str, console: Callable[[str], None] | None = None) -> None:
        self.host, self.settings, self.id = host, settings, replica
        self.storage = Storage(host.disk, base, replica, settings.name, host.log)
        self.console, self.began = console, host.now()
        self.depth, self.ending = 0, False
        self.poked = self.is_coming = False  # whether something is to be done in a turn; whether the loop was asked for one
        self.timer: Timer | None = None
        self.seen_role: tuple[int, str, Member | None, bool, bool] = (0, "", None, False, False)
        self.answered = self.heard = 0  # commands of the batch answered last, while its guests are listened to; those that wait since
        self.timer_when = self.listens_until = self.tidy_at = self.hint_at = 0.0
        self.state: ChatState
        self.upkeep: Upkeep
        self.registrar: Registrar
        self.errands: Errands
        self.linked: dict[int, Member] = {}
        self.early: list[tuple[int, AnyPacket]] = []  # what backups have asked before this primary's disk had the view
        self.last_trouble, self.trouble_at = "", 0.0
        self.unapplied: Apply | None = None  # put off until the batch behind it has left
        self.told_members: tuple[Member, ...] = ()  # whom the log was told of last

    # --- boot ---------------------------------------------------------------------------------------------------------------------------

    def boot(self) -> None:
        """Read this replica's disk, and begin as a learner (2.7 of docs/replication.md). Raises BootFailed."""
        nonce, remembered = self.host.random(8), self.settings.remembered()
        blank = Superblock(cluster="", replica=self.id, format_nonce=nonce, inc=0, **remembered)
        try:
            self.state = self.storage.open(blank, self.host.wall())
            view = self.storage.register.last()
        except (RegisterDamaged, OSError) as error:
            raise BootFailed(str(error)) from error
        self._make_core(view)
        is_shared = self.settings.policy == SURVIVOR
        self.registrar = Registrar(self.host, self.storage, is_shared=is_shared, feed=self.feed, report=self._trouble, leave=self._exit)
        self.holds_lock = self.registrar.holds_lock
        self.errands = Errands(self.host, self.storage, self.id, feed=self.feed)
        self.upkeep = Upkeep(self.host, self.settings, self.storage, self.replica, feed=self.feed, report=self._trouble)
        self.desk = Desk(
            f"{self.id}.{self.storage.inc}",
            self.state,
            poke=self.poke,
            hasten=self.hasten,
            now=self.host.now,
            dice=self.host.random,
            work=self.host.work,
            soon=self.host.soon,
            later=lambda after, callback: self.host.at(self.host.now() + after, callback),
            archive=self.upkeep.archive,
            hasher=self.host.hasher,
            describe_cluster=lambda door: json.dumps(reports.describe(self.settings, self.replica, door)).encode(),
            console=self.console,
            backlog_max=self.settings.doors_backlog_bytes,
            is_strict=self.settings.accounts.require_password,
        )
        self.queries = Queries(self.id, self.desk)

    def _make_core(self, view: View | None) -> None:
        sb, journal = self.storage.superblock, self.storage.journal
        start = Start(
            inc=self.storage.inc,
            view=sb.view,
            log_view=sb.log_view,
            head_op=journal.head_op,
            head_hash=journal.head_hash,
            parent_op=journal.parent_op,
            parent_hash=journal.parent_hash,
            last=journal.last,
            digest=self.state.digest,
            time=self.state.time,
            damage=self.storage.damage,
            born=sb.born,
            began=sb.began,
        )
        c = self.settings
        wait = (c.heartbeat_ms, c.suspect_after_ms, c.ack_after_ms, c.restart_wait_ms, c.join_wait_ms)
        self.replica = Replica(self.id, tuple(range(len(c.replicas))), c.name, Timers(*(ms / 1e3 for ms in wait)), start, self.host.now())
        self.policy: Policy = Survivor(self.replica, view) if c.policy == SURVIVOR else Majority(self.replica, dict(sb.met))
        self.replica.policy = self.policy

    def run(self) -> None:
        """Begin to tick."""
        self.feed(RoomLooked(self.storage.has_room()))
        self.feed(Ticked())

    # --- the loop -----------------------------------------------------------------------------------------------------------------------

    def feed(self, event: Event) -> None:
        """Give the core an event and carry its effects out."""
        if self.ending:
            return
        self.depth += 1
        replica = self.replica
        effects = self.step(event)
        if replica.status == NORMAL and not replica.is_primary and self.seen_role[:2] != (replica.view, NORMAL):
            # What a backup's guests ask travels before its PrepareOk, so that the first batch of the view holds it.
            self._notice_role()
            self.turn()
        for effect in effects:
            if isinstance(effect, Send):  # of every batch: a table is dearer than a look
                self.host.send(effect.replicas, effect.packet)
            elif isinstance(effect, Persist):
                self._persist(effect)
            elif isinstance(effect, Apply):
                self._apply(effect)
            else:
                CARRY_OUT[type(effect)](self, effect)
        self.depth -= 1
        if not self.depth:
            self._settled()

    def step(self, event: Event) -> list[Effect]:
        """What the core makes of it."""
        return self.replica.step(self.host.now(), event)

    def _settled(self) -> None:
        """The core has nothing more to say for now."""
        replica = self.replica
        if self._has_new_role():
            self._notice_role()
        if replica.is_primary:
            is_due = self.desk.open_runs and replica.can_prepare
            if is_due and not self.answered:
                return self._submit()
            if is_due or (replica.has_news and self.desk.others_wait):
                self.poke()
        if self.timer is None or replica.wake_at < self.timer_when - 0.0005:
            self._set_timer(replica.wake_at)

    def _has_new_role(self) -> bool:
        replica, (view, status, primary, serving, is_cut_off) = self.replica, self.seen_role  # several times a batch: no tuple for it
        is_same = replica.view == view and replica.status == status and (replica.primary is primary or replica.primary == primary)
        return not is_same or replica.serving != serving or self.policy.is_cut_off() != is_cut_off

    def _notice_role(self) -> None:
        before, replica = self.seen_role, self.replica
        self.seen_role = (replica.view, replica.status, replica.primary, replica.serving, self.policy.is_cut_off())
        self._role_changed(before)
        early, self.early = self.early, []
        for sender, packet in early:
            if sender in self.linked:
                self.on_packet(sender, packet)

    def _submit(self) -> None:
        ops, body = self.desk.take_batch(BATCH_MAX)
        self.feed(Submitted(ops, body, self.host.wall()))

    def poke(self) -> None:
        """There is something to do in the next turn of the loop."""
        self.poked = True
        if not self.is_coming and not self.desk.hears:
            self.is_coming = True
            self.host.soon(self._come)

    def hasten(self) -> None:
        """A guest has spoken: if it alone was answered last, others are not waited for, where they gather behind its batch."""
        self.desk.hears = False
        if self.poked:
            if self.answered == 1 and not self.depth and self.policy.receivers():
                self.turn()
            else:
                self.poke()

    def _come(self) -> None:
        self.is_coming = False
        if self.poked:
            self.turn()

    def turn(self) -> None:
        """All that came in was fed: let the open batch leave, or the runs for the primary; evaluate queries."""
        self.poked = False
        replica, desk = self.replica, self.desk
        if self.ending:
            return
        if replica.is_primary:
            if self.heard < desk.open_ops < self.answered and self.host.now() < self.listens_until:
                self.heard = desk.open_ops
                return self.poke()  # those who were answered speak again: nobody waits, the sockets are only read once more
            self.answered = 0
            if desk.open_runs and replica.can_prepare:
                self._submit()
            elif desk.open_runs and replica.status == READ_ONLY and self.registrar.is_there and self.storage.register.is_last(replica.view):
                desk.refuse_open(sessions_of(replica.in_flight.body) if replica.in_flight else frozenset())
            elif replica.has_news:
                self.feed(Idled())
            if self.queries.wait and replica.serving and self.registrar.is_there:
                self._answer_queries()
        elif replica.status == NORMAL and replica.primary is not None:
            self._forward(replica.primary.replica)

    def _forward(self, primary: int) -> None:
        """A backup passes its own guests' runs and queries on."""
        desk, view = self.desk, self.replica.view
        while desk.open_runs:
            self.host.send((primary,), Forward(view, desk.take(FORWARD_MAX)))
        for ticket, session, command in desk.unasked():
            self.host.send((primary,), ForwardQuery(view, ticket, session, command))

    def _answer_queries(self) -> None:
        """One look at the guard, after all were evaluated, lets all their answers go."""
        self.feed(Evaluated(self.queries.evaluate()))

    def _confirm(self, effect: Confirm | CheckGuard) -> None:
        """This replica still led its view after these were evaluated."""
        for replica, ticket, words in self.queries.take(effect.number):
            if replica == self.id:
                self.desk.answer(ticket, words)
            else:
                self.host.send((replica,), Forwarded(self.replica.view, ticket, words))

    def _role_changed(self, before: tuple[Any, ...]) -> None:
        """Doors open and close with the view; every view begins with the list of its members and with what is unanswered."""
        replica = self.replica
        self.upkeep.calm_at = self.host.now() + CALM_S
        in_view = replica.status in LIVE
        if in_view or (replica.status == LEARNER and not self.policy.members() and not replica.damage):
            self.host.open_doors()
        else:
            self.host.close_doors()
            self.desk.close_all("this replica is not in the view: try the next port")
        self.desk.cut_off(reports.reached(replica))
        # Who becomes read_only in a view of its own asks again, too: what waits is refused then, unless it stands in the batch in flight.
        begins_alone = replica.status == READ_ONLY and before[0] != replica.view
        if (replica.status == NORMAL and before[:3] != self.seen_role[:3]) or begins_alone:
            self.queries.clear()
            first = self._members_run() if replica.is_primary and not begins_alone else b""
            if first and not replica.head_op:
                first += self._first_accounts()
            self.desk.renew(first)
        if replica.is_primary:
            self.poke()

    def _members_run(self) -> bytes:
        self.told_members = members = self.policy.members()
        return system_run("members|" + ",".join(f"{m.replica}.{m.inc}" for m in members))

    def _tell_members(self) -> None:
        if self.replica.is_primary and self.replica.can_prepare and self.policy.members() != self.told_members:
            self.desk.submit(self._members_run())

    def _first_accounts(self) -> bytes:
        """The log is empty: what `cluster.yaml` says that it begins with. Slow, once."""
        hashed = [(one.name, self.host.hasher.hash(one.password, self.host.random(SALT_SIZE))) for one in self.settings.accounts.initial]
        return system_run("|".join(["begin", *itertools.chain.from_iterable(hashed)])) if hashed else b""

    # --- time -----------------------------------------------------------------------------------------------------------------------------

    def _set_timer(self, when: float) -> None:
        if self.timer is not None:
            self.timer.cancel()
        self.timer_when = when
        self.timer = self.host.at(when, self._on_timer)

    def _on_timer(self) -> None:
        self.timer = None
        if self.ending:
            return
        now = self.host.now()
        self.feed(Ticked())
        if now >= self.tidy_at and not self.ending:
            self.tidy_at = now + TIDY_S
            self.desk.tidy()
            self.desk.beat()
            self._tell_members()
            self.upkeep.fetch_more()
            self.upkeep.make_ready()
            self.upkeep.consider_snapshot()
            self.upkeep.look_again()
        if now >= self.hint_at and not self.ending:
            self.hint_at = now + HINT_S
            self._each_second()

    def _each_second(self) -> None:
        if self.storage.spent and self.policy.receivers():
            return self._exit(Exit(self.storage.spent, suspect=False))
        if self.replica.serving and self.state.has_stale(self.host.wall()):
            self.desk.submit(system_run("expire|"))
        if self.replica.status == LEARNER:
            self.feed(RoomLooked(self.storage.has_room()))
        if len(self.policy.members()) == len(self.settings.replicas):
            self.storage.ballast.take_in_again()  # not before: those who are out need the room more
        try:
            self.storage.note_durable(self.replica.synced)
            if self.registrar.look():
                self.poke()  # who asked meanwhile waits for nothing else
        except OSError as error:
            self._trouble(f"data/cluster: {error}")

    def _trouble(self, text: str) -> None:
        if text != self._trouble_now():
            self.last_trouble = text
            self.host.log(text)
        self.trouble_at = self.host.now()

    def _trouble_now(self) -> str:
        return self.last_trouble if self.host.now() - self.trouble_at < TROUBLE_S else ""

    # --- packets --------------------------------------------------------------------------------------------------------------------------

    def on_linked(self, replica: int, inc: int) -> None:
        """A link is up."""
        member = self.linked[replica] = Member(replica, inc)
        self.feed(Linked(member))
        if self.replica.primary == member and self.replica.status == NORMAL:
            self.desk.renew()

    def on_unlinked(self, replica: int, reason: str) -> None:
        """A link is gone."""
        self.queries.forget(replica)
        self.early = [(sender, packet) for sender, packet in self.early if sender != replica]
        self.upkeep.note_ended(replica)
        self.feed(Unlinked(self.linked.pop(replica)))

    def on_packet(self, replica: int, packet: AnyPacket) -> None:
        """What is not the core's affair stays here."""
        sender, mine = self.linked[replica], self.replica
        handler = DESK_PACKETS.get(type(packet))
        if handler is None:
            self.feed(Received(sender, packet))
        elif mine.status == VIEW_CHANGE and mine.is_primary and packet.view == mine.view:
            self.early.append((replica, packet))  # a backup was faster, and says it only once
        else:
            handler(self, sender, packet)

    def _on_forward(self, sender: Member, packet: Forward) -> None:
        if self._leads(packet.view) and self.policy.counts(sender):
            try:
                ops = count_ops(packet.runs)
            except ValueError as error:
                return self.host.log(f"replica {sender.replica} forwarded garbage: {error}")
            self.desk.submit(packet.runs, ops)

    def _on_forward_query(self, sender: Member, packet: ForwardQuery) -> None:
        if self._leads(packet.view):
            self.queries.asked.append((sender.replica, packet))
            self.poke()

    def _on_forwarded(self, sender: Member, packet: Forwarded) -> None:
        if packet.view == self.replica.view and sender == self.replica.primary:
            self.desk.answer(packet.ticket, packet.answer)

    def _leads(self, view: int) -> bool:
        return self.replica.is_primary and self.replica.status in (NORMAL, READ_ONLY) and view == self.replica.view

    # --- effects: network, log, register --------------------------------------------------------------------------------------------------

    def _persist(self, effect: Persist) -> None:
        if self.unapplied is not None:
            ahead, self.unapplied = self.unapplied, None
            self._execute(ahead.batch)
        elif self.replica.is_primary and effect.batches[-1].count <= FEW and self.policy.receivers():
            self.host.give_way()  # to a backup on this processor, which has more to do before it can say that it is synced
        self.errands.run(effect)

    def _remember(self, effect: Remember) -> None:
        try:
            self.storage.remember(effect.member)
        except OSError as error:
            self._trouble(f"the superblock cannot be written: {error}")

    def _check_health(self, effect: CheckHealth) -> None:
        before = self.host.now()
        try:
            self.storage.save()
        except OSError:
            return self.feed(HealthChecked(healthy=False))
        self.feed(HealthChecked(healthy=self.host.now() - before < HEALTHY_S))

    # --- effects: state and catching up ---------------------------------------------------------------------------------------------------

    def _apply(self, effect: Apply) -> None:
        # A batch may leave before this one is answered, so that the others store it meanwhile; not in a view of which the desk has not
        # heard: its first batch names the members, and what was asked last would overtake what is asked again.
        # Nor if little waits: those who are answered now speak again in a moment, and a batch costs as much for 3 commands as for 60.
        waiting, count = self.desk.open_ops, effect.batch.count
        if count <= FEW and not self.replica.is_primary:
            self.host.give_way()  # to the primary, which has guests to answer once it has read what was just acknowledged
        is_enough = waiting >= ENOUGH or SOME * waiting >= count
        if is_enough and self.policy.receivers() and self.replica.can_prepare and not self._has_new_role():
            self.unapplied = effect
            return self._submit()
        self.answered, self.heard = min(count, ENOUGH), -1
        self._execute(effect.batch)
        self.listens_until = self.host.now() + LISTEN_S

    def _execute(self, batch: Batch) -> None:
        outcome = self.apply(batch)
        if self.replica.status in LIVE:
            self.desk.applied(outcome)
        if batch.count <= FEW and self.replica.is_primary:
            self.host.give_way()  # to whoever was answered, who speaks again
        self.upkeep.note_applied(len(batch.body))
        self.feed(Applied(batch.op, self.state.digest))

    def apply(self, batch: Batch) -> Outcome:
        """What the state makes of it."""
        return self.state.apply(batch.first_op, batch.count, batch.time, batch.body)

    def _read_log(self, effect: ReadLog) -> None:
        found = self.upkeep.read_log(effect)
        self._exit(found) if isinstance(found, Exit) else self.feed(found)

    def _install_snapshot(self, effect: InstallSnapshot) -> None:
        """One write of the superblock makes the fetched snapshot the beginning of state and log."""
        try:
            with self.host.undisturbed():
                self.state = state = self.storage.install(self.upkeep.take_fetched(effect.op), effect.op, effect.hash, self.host.stand_back)
        except (OSError, snapshots.SnapshotDamaged) as error:
            is_full = isinstance(error, OSError) and error.errno in FULL  # then all that was believed before still stands there
            return self._exit(Exit(f"the snapshot of the primary could not be installed: {error}", suspect=not is_full))
        self.desk.replace_state(state)
        if self.replica.status == NORMAL:
            self.desk.renew()  # what the snapshot did for its guests, it did not tell them
        self.host.settle(self.feed, Installed(effect.generation, effect.op, effect.hash, state.digest, state.time))

    # --- the end, and people --------------------------------------------------------------------------------------------------------------

    def _exit(self, effect: Exit) -> None:
        """End this incarnation. What was promised is on the disk already."""
        if self.ending:
            return
        self.ending = self.upkeep.is_over = self.errands.is_over = True
        self.host.log(effect.reason)
        try:
            if effect.suspect:
                forced = max(self.storage.superblock.forced, effect.forced)
                self.storage.save(suspect=True, inc=max(self.storage.inc, effect.inc), forced=forced)
            else:
                self.storage.note_durable(self.replica.synced, sync=True)
        except OSError as error:
            self.host.log(f"could not write its last words: {error}")
        self.desk.close_all("this replica stops: try the next port")
        self.host.exit(EXIT_STOPPED if effect.reason == "stopped" else EXIT_TROUBLE)

    def stop(self, *, everybody: bool) -> None:
        """A clean stop, asked for by the operator or by SIGTERM."""
        if not self.replica.stopping:
            self.host.log("stops" if everybody else "stops alone")
            self.host.at(self.host.now() + STOP_S, lambda: self._exit(Exit("stopped without the others", suspect=False)))
            self.feed(StopAsked(everybody))

    def on_operator(self, request: dict[str, Any]) -> dict[str, Any]:
        """A request from the operator's door."""
        verb = request.get("verb")
        if verb == "status":
            uptime, guests = self.host.now() - self.began, len(self.desk.connections)
            return reports.status(self.settings, self.replica, self.storage, uptime=uptime, connections=guests, trouble=self._trouble_now())
        if verb == "stop":
            self.host.soon(lambda: self.stop(everybody=bool(request.get("everybody"))))
            return {"stopping": True}
        return {"error": f"unknown verb {verb!r}"}


CARRY_OUT: dict[type, Callable[[Server, Any], None]] = {
    **dict.fromkeys((Cut, SaveLogView, SaveView), lambda server, effect: server.errands.run(effect)),
    Remember: Server._remember,
    ReadLog: Server._read_log,
    OfferSnapshot: lambda server, effect: server.upkeep.offer(effect.replica),
    FetchSnapshot: lambda server, effect: server.upkeep.fetch(effect),
    InstallSnapshot: Server._install_snapshot,
    ProbeLock: lambda server, effect: server.registrar.probe_lock(effect),
    ReadRegister: lambda server, effect: server.registrar.read(effect),
    Propose: lambda server, effect: server.registrar.propose(effect),
    CheckHealth: Server._check_health,
    CheckGuard: lambda server, effect: server.registrar.check_guard(effect, server.replica.view, server._confirm),
    Confirm: Server._confirm,
    Exit: Server._exit,
    Trace: lambda server, effect: server.host.log(effect.text),
}

DESK_PACKETS: dict[type, Callable[[Server, Member, Any], None]] = {
    Forward: Server._on_forward,
    ForwardQuery: Server._on_forward_query,
    Forwarded: Server._on_forwarded,
    GetChunk: lambda server, sender, packet: server.upkeep.on_get_chunk(sender, packet),
    Chunk: lambda server, sender, packet: server.upkeep.on_chunk(sender, packet),
}


if __name__ == "__main__":
    from admin import main

    main()
