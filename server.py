"""Room 3, hands: one process, one replica. It carries out what the core orders and tells the core what happened.

What it is not: it decides nothing about views or commits (`replication.py`, `survivor.py`), understands no door (`doors/`) and keeps no
guest (`desk.py`). `Server` receives clock, network, disk and worker as one object, its host; the simulator gives it another one.

    event comes from                            effect is carried out by
    a link      Received, Linked, Unlinked      links      Send
    the desk    Submitted, Idled                journal    Persist, Cut, ReadLog
    the disk    Persisted, CutDone, Saved, …    superblock SaveLogView, InstallSnapshot, CheckHealth
    the clock   Ticked                          register   ReadRegister, Propose
    the state   Applied                         state      Apply, then the desk gives replies and deliveries
    operators   StopAsked                       locks      ProbeLock

One turn of the loop: everything that came in was fed; if nothing is in flight, the open batch leaves; queries are evaluated together
behind one look at the guard.

Invariants:
- Effects are carried out in the order of the core, each completion fed back at once (in the simulator: later).
- A query is answered only if the register still ended at this replica's view after it was evaluated.
- Nothing of a guest leaves while this replica is not in the view.

Read next: `replication.py`, then `desk.py`. Command line and operators: `admin.py`.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from typing import Any

import msgspec

import snapshots
import superblock
from commands import NO_SESSION, count_ops, system_run
from desk import Desk
from disk import Ballast, ReplicaLock
from events import (
    Applied,
    Apply,
    CheckHealth,
    Cut,
    CutDone,
    DiskFailed,
    Event,
    Exit,
    Fetched,
    FetchSnapshot,
    HealthChecked,
    Idled,
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
    Saved,
    SaveLogView,
    Send,
    StopAsked,
    Submitted,
    Ticked,
    Trace,
    Unlinked,
)
from host import VERSION, Host, Timer
from journal import Journal, JournalDamaged
from packets import (
    BATCH_MAX,
    NO_HASH,
    AnyPacket,
    Chunk,
    Forward,
    Forwarded,
    ForwardQuery,
    GetChunk,
    Member,
    SnapshotOffer,
    View,
    image_hash,
)
from register import Register, RegisterDamaged, RegisterFull
from replication import HALTED, LEARNER, LIVE, NORMAL, READ_ONLY, Replica, Start, Timers
from settings import Settings
from state import ChatState
from superblock import Superblock
from survivor import Survivor
from transfer import Receiver, Sender, TransferFailed

HEALTHY_S = 0.1  # seconds a sync of the superblock may take for this process to accuse another
FORWARD_MAX = 512 * 1024  # bytes of one Forward packet
TIDY_S = 0.1  # seconds between two looks at deliveries to acknowledge and at signs of life
HINT_S = 1.0  # seconds between two writes of the durable op into the lock file
STOP_S = 3.0  # seconds a stop may take before the process ends without the others
EXIT_STOPPED, EXIT_TROUBLE = 0, 3


class BootFailed(Exception):
    """This replica cannot start; the text says why and what to do. `may_pass`: trying again in a moment may help."""

    may_pass = False


class Server:
    """One replica's hands."""

    def __init__(self, host: Host, settings: Settings, replica: int, base: str, console: Callable[[str], None] | None = None) -> None:
        self.host, self.settings, self.id = host, settings, replica
        self.disk = host.disk
        self.base = base
        self.path = os.path.join(base, f"replica-{replica}")
        self.cluster_path = os.path.join(base, "cluster")
        self.journal_path = os.path.join(self.path, "journal")
        self.snapshots_path = os.path.join(self.path, "snapshots")
        self.console = console
        self.began = host.now()
        self.depth = 0
        self.poked = False
        self.timer: Timer | None = None
        self.timer_when = 0.0
        self.seen_role: tuple[Any, ...] = ()
        self.tidy_at = self.hint_at = 0.0
        self.queries: list[tuple[int, int, str]] = []  # of other replicas' guests: replica, ticket, command
        self.receiver: Receiver | None = None
        self.superblock: Superblock
        self.journal: Journal
        self.linked: dict[int, Member] = {}
        self.last_trouble = ""
        self.ending = False
        self.has_register = True

    # --- boot ---------------------------------------------------------------------------------------------------------------------------

    def boot(self) -> None:
        """Read this replica's disk, sync it, and begin as a learner (2.7 of docs/replication.md). Raises BootFailed."""
        self._make_directories()
        lock = ReplicaLock.acquire(self.disk, self.cluster_path, self.id)
        if lock is None:
            failed = BootFailed(f"replica {self.id} runs already (its lock is held): stop it first, or start another replica")
            failed.may_pass = True
            raise failed
        self.lock = lock
        hint = lock.before.durable_op if lock.before else 0
        try:
            self.register = Register(self.disk, self.cluster_path, self.settings.name, f"proposal-{self.id}")
            view = self.register.last()
            damage = self._load_superblock() or ("the lock file cannot be read" if lock.rotten else "")
            if self.superblock.cluster not in ("", self.settings.name):
                raise BootFailed(
                    f"{self.path} belongs to cluster {self.superblock.cluster!r}, cluster.yaml names {self.settings.name!r}:"
                    " correct the name, or give another --data"
                )
            damage = self._load_log(damage, hint)
        except (RegisterDamaged, OSError) as error:
            raise BootFailed(f"{error}") from error
        inc = self._new_incarnation(lock.before.inc if lock.before else 0)
        self.superblock = msgspec.structs.replace(self.superblock, cluster=self.settings.name, replica=self.id, inc=inc)
        superblock.save(self.disk, self._superblock_path(), self.superblock)
        # While the disk is not trusted the old hint stays: it is what tells the next start so.
        lock.write(inc, hint if damage else self.journal.head_op)
        self.ballast = Ballast(self.disk, os.path.join(self.path, "ballast"))
        self.ballast.take_in()
        self._make_core(inc, damage, view)
        if damage:
            self.host.log(f"this disk is not trusted: {damage}")

    def _make_directories(self) -> None:
        for path in (self.base, self.cluster_path, self.path, self.journal_path, self.snapshots_path):
            if not self.disk.exists(path):
                self.disk.mkdir(path)
                self.disk.sync_dir(os.path.dirname(path))
        # A name that a power cut takes away takes all beneath it along, however well that was synced.
        for path in (os.path.dirname(self.base) or ".", self.base, self.path):
            self.disk.sync_dir(path)

    def _superblock_path(self) -> str:
        return os.path.join(self.path, "superblock")

    def _load_superblock(self) -> str:
        blank = Superblock(
            cluster="",
            replica=self.id,
            replicas=len(self.settings.replicas),
            config_hash=self.settings.config_hash(),
            format_nonce=self.host.random(8),
            inc=0,
        )
        try:
            found = superblock.load(self.disk, self._superblock_path(), self.host.log)
        except superblock.SuperblockDamaged as error:
            self.superblock = msgspec.structs.replace(blank, suspect=True)
            return str(error)
        self.superblock = found or blank
        return "an earlier sync failed on this disk" if self.superblock.suspect else ""

    def _new_incarnation(self, hint: int) -> int:
        """Above every incarnation of this replica that anybody may have seen (H1, L5 of the decisions)."""
        known = [m.inc for v in self.register.recent(1000) for m in v.members if m.replica == self.id]
        first = self.superblock.inc or self.host.wall()
        return max([first, hint, *known]) + 1

    def _load_log(self, damage: str, durable_op: int) -> str:
        """Snapshot and journal. What is sound of a damaged journal is kept; a disk that failed altogether begins with nothing."""
        sb = self.superblock
        self.must_rewrite = bool(damage)
        try:
            if not damage:
                snapshots.tidy(self.disk, self.path, sb.snapshot_op)
            self.state, op, tip = (ChatState(), 0, NO_HASH) if damage else self._load_snapshot()
        except snapshots.SnapshotDamaged as error:
            damage, self.must_rewrite = str(error), True
            self.state, op, tip = ChatState(), 0, NO_HASH
        generation = sb.journal_generation + self.must_rewrite
        self.journal = Journal.open(self.disk, self.journal_path, generation, op, tip, durable_op, salvage=True)
        self.snapshot_op = op
        self._replay()
        if not self.journal.damage and not damage:
            self.journal.drop_old()
        return damage or self.journal.damage

    def _load_snapshot(self) -> tuple[ChatState, int, bytes]:
        """The newest snapshot that is whole; an older one when that is damaged (the journal still reaches down to it)."""
        trouble: snapshots.SnapshotDamaged | None = None
        for name in snapshots.listed(self.disk, self.snapshots_path):
            try:
                state, manifest = snapshots.load(self.disk, os.path.join(self.snapshots_path, name), self.settings.name)
                return state, manifest.op, bytes.fromhex(manifest.hash)
            except snapshots.SnapshotDamaged as error:
                self.host.log(f"snapshot {name}: {error}")
                trouble = error
        if trouble is not None or self.superblock.snapshot_op:
            raise trouble or snapshots.SnapshotDamaged(f"the snapshot of op {self.superblock.snapshot_op} is missing")
        return ChatState(), 0, NO_HASH

    def _replay(self) -> None:
        """Apply what stands in the journal above the snapshot; the last batch waits, since it may not be committed."""
        last = self.journal.last
        for batch in self.journal.batches(self.state.op):
            if last is None or batch.op < last.op:
                self.state.apply(batch.first_op, batch.count, batch.time, batch.body)

    def _make_core(self, inc: int, damage: str, view: View | None) -> None:
        sb, journal = self.superblock, self.journal
        start = Start(
            inc=inc,
            view=sb.view,
            log_view=sb.log_view,
            head_op=journal.head_op,
            head_hash=journal.head_hash,
            parent_op=journal.parent_op,
            parent_hash=journal.parent_hash,
            last=journal.last,
            digest=self.state.digest,
            damage=damage,
            register=view,
        )
        c = self.settings
        timers = Timers(c.heartbeat_ms / 1e3, c.suspect_after_ms / 1e3, c.ack_after_ms / 1e3, c.restart_wait_ms / 1e3, c.join_wait_ms / 1e3)
        ids = tuple(r.id for r in self.settings.replicas)
        self.replica = Replica(self.id, ids, c.name, timers, start, self.host.now())
        self.policy = Survivor(self.replica, view)
        self.replica.policy = self.policy
        self.sender = Sender(self.disk, self.snapshots_path)
        self.snapshot_busy = False
        self.snapshot_at = self.op_at = self.host.now()
        self.quiet_op = 0
        self.desk = Desk(
            f"{self.id}.{inc}",
            self.state,
            poke=self.poke,
            new_session=lambda: self.host.random(len(NO_SESSION)),
            describe_cluster=lambda: json.dumps(self.describe()).encode(),
            console=self.console,
        )

    def directory_identity(self) -> tuple[int, int]:
        """(st_dev, st_ino) of the cluster's directory: replicas of one host must share it."""
        found = os.stat(self.cluster_path)
        return found.st_dev, found.st_ino

    def run(self) -> None:
        """Begin to tick."""
        self.feed(Ticked())

    # --- the loop -----------------------------------------------------------------------------------------------------------------------

    def feed(self, event: Event) -> None:
        """Give the core an event and carry its effects out."""
        if self.ending:
            return
        self.depth += 1
        for effect in self.replica.step(self.host.now(), event):
            CARRY_OUT[type(effect)](self, effect)
        self.depth -= 1
        if not self.depth:
            self._settled()

    def _settled(self) -> None:
        """The core has nothing more to say for now."""
        replica = self.replica
        role = (replica.view, replica.status, replica.primary, replica.serving)
        if role != self.seen_role:
            before, self.seen_role = self.seen_role, role
            self._role_changed(before)
        if replica.is_primary:
            if self.desk.open_runs and replica.can_prepare:
                return self._submit()
            if replica.told_commit < replica.commit:
                self.poke()
        if self.timer is None or replica.wake_at < self.timer_when - 0.0005:
            self._set_timer(replica.wake_at)

    def _submit(self) -> None:
        body = self.desk.take(BATCH_MAX)
        self.feed(Submitted(count_ops(body), body, self.host.wall()))

    def poke(self) -> None:
        """There is something to do in the next turn of the loop."""
        if not self.poked:
            self.poked = True
            self.host.soon(self.turn)

    def turn(self) -> None:
        """All that came in was fed: let the open batch leave, or the runs for the primary; evaluate queries."""
        self.poked = False
        replica, desk = self.replica, self.desk
        if self.ending:
            return
        if replica.is_primary:
            if desk.open_runs and replica.can_prepare:
                self._submit()
            elif desk.open_runs and replica.status == READ_ONLY:
                desk.refuse_open()
            elif replica.told_commit < replica.commit:
                self.feed(Idled())
            if (self.queries or desk.queries) and replica.serving and self.has_register:
                self._answer_queries()
        elif replica.status == NORMAL and replica.primary is not None:
            self._forward(replica.primary.replica)

    def _forward(self, primary: int) -> None:
        """A backup passes its own guests' runs and queries on."""
        desk, view = self.desk, self.replica.view
        while desk.open_runs:
            self.host.send((primary,), Forward(view, desk.take(FORWARD_MAX)))
        for ticket, command in desk.unasked():
            self.host.send((primary,), ForwardQuery(view, ticket, command))

    def _answer_queries(self) -> None:
        """One look at the guard for all queries that were evaluated before it."""
        asked, self.queries = self.queries, []
        own = [(ticket, self.desk.evaluate(query.command)) for ticket, (_, query) in self.desk.queries.items()]
        others = [(replica, ticket, self.desk.evaluate(command)) for replica, ticket, command in asked]
        if not self.register.is_last(self.replica.view):
            self.queries = asked + self.queries
            return self.feed(RegisterRead(self.register.last()))
        for ticket, words in own:
            self.desk.answer(ticket, words)
        for replica, ticket, words in others:
            self.host.send((replica,), Forwarded(self.replica.view, ticket, words))

    def _role_changed(self, before: tuple[Any, ...]) -> None:
        """Doors open and close with the view; every view begins with the list of its members and with what is unanswered."""
        replica = self.replica
        in_view = replica.status in LIVE
        if in_view or (replica.status == LEARNER and self.policy.last is None and not replica.damage):
            self.host.open_doors()
        else:
            self.host.close_doors()
            self.desk.close_all("this replica is not in the view: try the next port")
        if replica.status == NORMAL and before[:3] != self.seen_role[:3]:
            self.queries.clear()
            members = self.policy.last.members if self.policy.last else ()
            first = system_run("members|" + ",".join(f"{m.replica}.{m.inc}" for m in members)) if replica.is_primary else b""
            self.desk.renew(first)
        if replica.is_primary:
            self.poke()

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
            self._fetch_more()
            self._keep_journal()
            self._consider_snapshot()
        if now >= self.hint_at and not self.ending:
            self.hint_at = now + HINT_S
            self._each_second()

    def _each_second(self) -> None:
        try:
            if not self.replica.damage:
                self.lock.write(self.replica.me.inc, self.replica.synced)
            # A moved directory stays readable through its descriptor for ever, and its guard would pass for ever.
            self.has_register = self.register.is_path_same()
            if not self.has_register:
                self._trouble(
                    "data/cluster was moved or deleted: this replica answers nothing that needs it; put it back, or stop the cluster"
                )
        except OSError as error:
            self._trouble(f"data/cluster: {error}")

    def _trouble(self, text: str) -> None:
        if text != self.last_trouble:
            self.last_trouble = text
            self.host.log(text)

    # --- packets --------------------------------------------------------------------------------------------------------------------------

    def on_linked(self, replica: int, inc: int) -> None:
        """A link is up."""
        member = self.linked[replica] = Member(replica, inc)
        self.feed(Linked(member))
        if self.replica.primary == member and self.replica.status == NORMAL:
            self.desk.renew()

    def on_unlinked(self, replica: int, reason: str) -> None:
        """A link is gone."""
        self.feed(Unlinked(self.linked.pop(replica)))

    def on_packet(self, replica: int, packet: AnyPacket) -> None:
        """What is not the core's affair stays here."""
        sender = self.linked[replica]
        handler = DESK_PACKETS.get(type(packet))
        if handler is None:
            self.feed(Received(sender, packet))
        else:
            handler(self, sender, packet)

    def _on_forward(self, sender: Member, packet: Forward) -> None:
        if self._leads(packet.view) and self.policy.counts(sender):
            try:
                count_ops(packet.runs)
            except ValueError as error:
                return self.host.log(f"replica {sender.replica} forwarded garbage: {error}")
            self.desk.submit(packet.runs)

    def _on_forward_query(self, sender: Member, packet: ForwardQuery) -> None:
        if self._leads(packet.view):
            self.queries.append((sender.replica, packet.ticket, packet.command))
            self.poke()

    def _on_forwarded(self, sender: Member, packet: Forwarded) -> None:
        if packet.view == self.replica.view and sender == self.replica.primary:
            self.desk.answer(packet.ticket, packet.answer)

    def _leads(self, view: int) -> bool:
        return self.replica.is_primary and self.replica.status in (NORMAL, READ_ONLY) and view == self.replica.view

    # --- effects: network, log, register ----------------------------------------------------------------------------------------------------

    def _send(self, effect: Send) -> None:
        self.host.send(effect.replicas, effect.packet)

    def _persist(self, effect: Persist) -> None:
        try:
            if self.must_rewrite:
                self._begin_anew()
            elif self.replica.damage and not self.superblock.suspect:
                self._save_superblock(suspect=True)
            self._append(effect)
        except OSError as error:
            return self._disk_failed(effect.generation, error)
        last = effect.batches[-1]
        self.host.settle(self.feed, Persisted(effect.generation, last.op, last.hash))

    def _append(self, effect: Persist) -> None:
        journal = self.journal
        for batch in effect.batches:
            if journal.head_hash == batch.hash:
                continue  # tried again after the disk was full
            try:
                journal.append(batch)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not self.ballast.release():
                    raise
                journal.append(batch)
        journal.sync()

    def _disk_failed(self, generation: int, error: OSError) -> None:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = f"the disk of replica {self.id} is full" if full else f"the disk of replica {self.id} failed: {error}"
        self.host.log(reason)
        self.host.settle(self.feed, DiskFailed(generation, reason, full))

    def _begin_anew(self) -> None:
        """The first write on a disk that is not trusted: new files, and a mark that stays until they hold all."""
        generation = self.journal.generation + 1
        self.journal.restart(generation, 0, NO_HASH)
        self._save_superblock(suspect=True, snapshot_op=0, snapshot_hash=NO_HASH, snapshot_name="", journal_generation=generation)
        snapshots.remove_all(self.disk, self.path)
        self.journal.drop_old()
        self.must_rewrite = False

    def _cut(self, effect: Cut) -> None:
        try:
            self.lock.write(self.replica.me.inc, self.journal.parent_op, sync=True)
            self.journal.cut()
        except OSError as error:
            return self._disk_failed(effect.generation, error)
        self.host.settle(self.feed, CutDone(effect.generation))

    def _save_log_view(self, effect: SaveLogView) -> None:
        try:
            self._save_superblock(view=effect.view, log_view=effect.log_view, suspect=False)
        except OSError as error:
            return self._disk_failed(effect.generation, error)
        self.host.settle(self.feed, Saved(effect.generation, effect.log_view))

    def _save_superblock(self, **changes: Any) -> None:
        changed = msgspec.structs.replace(self.superblock, **changes)
        superblock.save(self.disk, self._superblock_path(), changed)
        self.superblock = changed

    def _read_register(self, effect: ReadRegister) -> None:
        try:
            view = self.register.last()
        except RegisterDamaged as error:
            return self._trouble(f"the register cannot be read: {error}")
        except OSError as error:
            return self._exit(Exit(f"the register failed: {error}", suspect=False))
        if view is not None and (self.policy.last is None or view.number > self.policy.last.number):
            self.feed(RegisterRead(view))

    def _propose(self, effect: Propose) -> None:
        proposed = msgspec.structs.replace(effect.view, time=self.host.wall())
        try:
            view = self._register(proposed)
        except (RegisterDamaged, OSError) as error:
            return self._exit(Exit(f"the register failed: {error}", suspect=False))
        self.feed(Proposed(view))

    def _register(self, proposed: View) -> View | None:
        """The view in force then; None: there is no room, not even without the ballast."""
        while True:
            try:
                return self.register.propose(proposed)
            except RegisterFull:
                if not self.ballast.release():
                    return None

    def _check_health(self, effect: CheckHealth) -> None:
        before = self.host.now()
        try:
            self._save_superblock()
        except OSError:
            return self.feed(HealthChecked(healthy=False))
        self.feed(HealthChecked(healthy=self.host.now() - before < HEALTHY_S))

    def _probe_lock(self, effect: ProbeLock) -> None:
        self.feed(LockProbed(effect.replica, ReplicaLock.probe(self.disk, self.cluster_path, effect.replica)))

    def holds_lock(self, replica: int, inc: int) -> bool:
        """Whether this incarnation holds its replica's lock: without that, no link."""
        return ReplicaLock.probe(self.disk, self.cluster_path, replica) == inc

    # --- effects: state and catching up -----------------------------------------------------------------------------------------------------

    def _apply(self, effect: Apply) -> None:
        batch = effect.batch
        outcome = self.state.apply(batch.first_op, batch.count, batch.time, batch.body)
        self.op_at = self.host.now()
        if self.replica.status in LIVE:
            self.desk.applied(outcome)
        self.feed(Applied(batch.op, self.state.digest))

    def _read_log(self, effect: ReadLog) -> None:
        request, journal = effect.request, self.journal
        base, images = (request.op, request.hash), None
        try:
            images = journal.read_after(*base, effect.limit, effect.until)
            if images is None and request.parent_op < request.op:
                base = (request.parent_op, request.parent_hash)
                images = journal.read_after(*base, effect.limit, effect.until)
        except (JournalDamaged, OSError) as error:
            return self._exit(Exit(f"this log cannot be read: {error}", suspect=True))
        tip = image_hash(images) if images else base[1]
        self.feed(LogRead(effect.asker, request, *base, images, tip == effect.tip, journal.oldest_op))

    def _offer_snapshot(self, effect: OfferSnapshot) -> None:
        offer = self.sender.offer(self.host.now())
        if offer is None:
            return self._consider_snapshot(wanted=True)
        op, tip, manifest = offer
        self.host.send((effect.replica,), SnapshotOffer(self.replica.view, op, tip, manifest))

    def _on_get_chunk(self, sender: Member, packet: GetChunk) -> None:
        if packet.view == self.replica.view:
            content = self.sender.chunk(packet.op, packet.name, packet.offset, self.host.now())
            self.host.send((sender.replica,), Chunk(packet.view, packet.op, packet.name, packet.offset, content))

    def _fetch_snapshot(self, effect: FetchSnapshot) -> None:
        under_way = self.receiver
        if under_way is not None:
            if (under_way.generation, under_way.op) == (effect.generation, effect.offer.op):
                return self._fetch_more()
            under_way.abort()
        self.receiver = receiver = Receiver(self.disk, self.snapshots_path, effect.generation, effect.replica)
        self._fetch(lambda: receiver.begin(effect.offer))

    def _on_chunk(self, sender: Member, packet: Chunk) -> None:
        receiver = self.receiver
        if receiver is not None and sender == self.replica.primary:
            self.replica.transfer_at = self.host.now()
            self._fetch(lambda: receiver.take(packet))

    def _fetch_more(self) -> None:
        """Ask for what is due, also for what got lost."""
        self._fetch(lambda: False)

    def _fetch(self, step: Callable[[], bool | None]) -> None:
        """One step of the transfer under way, then what is to be asked for next. What it breaks on begins again."""
        receiver = self.receiver
        if receiver is None:
            return
        try:
            if receiver.generation != self.replica.generation:
                raise TransferFailed("the view changed")
            is_whole = step()
            if not is_whole:
                for request in receiver.next_requests(self.replica.view, self.host.now()):
                    self.host.send((receiver.replica,), request)
                return
        except (TransferFailed, OSError) as error:
            self.host.log(f"drops the snapshot under way: {error}")
            self.receiver = None
            return receiver.abort()
        self.feed(Fetched(receiver.generation, receiver.op, receiver.hash))

    def _install_snapshot(self, effect: InstallSnapshot) -> None:
        """One write of the superblock makes the fetched snapshot the beginning of state and log."""
        receiver, self.receiver = self.receiver, None
        assert receiver is not None and receiver.op == effect.op
        try:
            name = snapshots.install(self.disk, self.path, receiver.path, effect.op)
            state, _ = snapshots.load(self.disk, os.path.join(self.snapshots_path, name), self.settings.name)
            generation = self.journal.generation + 1
            self.journal.restart(generation, effect.op, effect.hash)
            self._save_superblock(
                suspect=bool(self.replica.damage),
                snapshot_op=effect.op,
                snapshot_hash=effect.hash,
                snapshot_name=name,
                journal_generation=generation,
            )
            self.journal.drop_old()
            snapshots.prune(self.disk, self.snapshots_path, keep=1)  # this log does not reach down to the older ones
        except (OSError, snapshots.SnapshotDamaged) as error:
            return self._exit(Exit(f"the snapshot of the primary could not be installed: {error}", suspect=True))
        self.must_rewrite = False
        self.state, self.snapshot_op = state, effect.op
        self.desk.replace_state(state)
        self.host.settle(self.feed, Installed(effect.generation, effect.op, effect.hash, state.digest))

    # --- snapshots of its own -----------------------------------------------------------------------------------------------------------------

    def _keep_journal(self) -> None:
        """Make the next segment ready, a slice at a time."""
        try:
            self.journal.prepare_next()
        except OSError as error:
            self._trouble(f"no room for the next journal segment: {error}")

    def _consider_snapshot(self, *, wanted: bool = False) -> None:
        """In a quiet cluster soon after the last op; under load once a minute or when the journal has grown."""
        c, now, replica = self.settings, self.host.now(), self.replica
        op = replica.applied
        if self.snapshot_busy or op <= self.snapshot_op or replica.status == HALTED or self.must_rewrite or op < replica.parent_op:
            return
        quiet = now - self.op_at >= c.snapshot_quiet_ms / 1e3 and op == replica.head_op
        due = now - self.snapshot_at >= c.snapshot_every_s
        self.host.ready_worker()
        if not (
            quiet or due or wanted or self.journal.bytes_since(self.snapshot_op) >= c.snapshot_every_bytes and now - self.snapshot_at >= 1
        ):
            return
        self.snapshot_busy, self.snapshot_at = True, now
        tip = replica.head_hash if op == replica.head_op else replica.parent_hash
        order = snapshots.make_order(
            op=op,
            hash=tip,
            replica_path=self.path,
            cluster_path=self.cluster_path,
            cluster=self.settings.name,
            generation=self.superblock.journal_generation,
            is_quiet=quiet,
        )
        self.host.order_snapshot(order, lambda answer: self._on_snapshot(op, tip, order["generation"], answer))

    def _on_snapshot(self, op: int, tip: bytes, generation: int, answer: dict[str, Any]) -> None:
        self.snapshot_busy = False
        if self.ending or "failed" in answer or generation != self.superblock.journal_generation or op <= self.snapshot_op:
            if "failed" in answer and not self.ending:
                self._trouble(f"no snapshot: {answer['failed']}")
            return
        try:
            name = snapshots.install(self.disk, self.path, answer["path"], op)
            self._save_superblock(snapshot_op=op, snapshot_hash=tip, snapshot_name=name)
            older = snapshots.prune(self.disk, self.snapshots_path, self.sender.pinned(self.host.now()))
            self.journal.drop_below(older)
        except OSError as error:
            return self._trouble(f"the snapshot of op {op} could not be put in place: {error}")
        self.snapshot_op = op

    # --- the end, and people -----------------------------------------------------------------------------------------------------------------

    def _trace(self, effect: Trace) -> None:
        self.host.log(effect.text)

    def _exit(self, effect: Exit) -> None:
        """End this incarnation. What was promised is on the disk already."""
        if self.ending:
            return
        self.ending = True
        self.host.log(effect.reason)
        try:
            if effect.suspect:
                self._save_superblock(suspect=True)
            elif not self.replica.damage:
                self.lock.write(self.replica.me.inc, self.replica.synced, sync=True)
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
            return self.status()
        if verb == "stop":
            self.host.soon(lambda: self.stop(everybody=bool(request.get("everybody"))))
            return {"stopping": True}
        return {"error": f"unknown verb {verb!r}"}

    def describe(self) -> dict[str, Any]:
        """What a guest may know of the cluster."""
        replica, last = self.replica, self.policy.last
        listen = self.settings.listen[0]
        members = last.replicas if last else ()
        primary = replica.primary.replica if replica.primary else None
        return {
            "cluster": self.settings.name,
            "policy": self.settings.policy,
            "survives": self.settings.survives(),
            "view": replica.view,
            "primary": primary,
            "self": self.id,
            "replicas": [
                {
                    "id": r.id,
                    "role": "primary" if r.id == primary else "backup" if r.id in members else "down",
                    "ports": [f"{listen}:{port}" for port in r.doors.get("pipe", ())],
                }
                for r in self.settings.replicas
            ],
        }

    def status(self) -> dict[str, Any]:
        """What an operator wants to know of this replica; no names, no texts."""
        replica, last = self.replica, self.policy.last
        role = ("primary" if replica.is_primary else "backup") if replica.status in LIVE else LEARNER
        return {
            "id": self.id,
            "role": role,
            "status": replica.status,
            "view": replica.view,
            "op": replica.head_op,
            "commit": replica.commit,
            "applied": replica.applied,
            "snapshot": self.snapshot_op,
            "pid": os.getpid(),
            "uptime": round(self.host.now() - self.began, 1),
            "connections": len(self.desk.connections),
            "serving": replica.serving,
            "policy": self.settings.policy,
            "members": list(last.replicas) if last else [],
            "reason": last.reason if last else "",
            "changed": last.time if last else 0,
            "waiting": self.policy.waiting if replica.status == LEARNER else "",
            "trouble": self.last_trouble or replica.damage,
            "version": VERSION,
        }


CARRY_OUT: dict[type, Callable[[Server, Any], None]] = {
    Send: Server._send,
    Persist: Server._persist,
    Cut: Server._cut,
    SaveLogView: Server._save_log_view,
    Apply: Server._apply,
    ReadLog: Server._read_log,
    OfferSnapshot: Server._offer_snapshot,
    FetchSnapshot: Server._fetch_snapshot,
    InstallSnapshot: Server._install_snapshot,
    ProbeLock: Server._probe_lock,
    ReadRegister: Server._read_register,
    Propose: Server._propose,
    CheckHealth: Server._check_health,
    Exit: Server._exit,
    Trace: Server._trace,
}

DESK_PACKETS: dict[type, Callable[[Server, Member, Any], None]] = {
    Forward: Server._on_forward,
    ForwardQuery: Server._on_forward_query,
    Forwarded: Server._on_forwarded,
    GetChunk: Server._on_get_chunk,
    Chunk: Server._on_chunk,
}


if __name__ == "__main__":
    from admin import main

    main()
