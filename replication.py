"""Room 2, agreement: one replica's part in keeping the same log on every member of the view.

What it is not: it knows no clock, socket, file, thread or dice; what happens arrives as an event, what must be done leaves as effects, and
the payload of a batch is opaque bytes. Who decides a view is the policy's affair (`survivor.py`); this room runs it once it is decided.

    status now    what happened                      next status   done by
    learner       a view has me as a member          view_change   adopt
    normal        a newer view has me                view_change   adopt
    view_change   a newer view has me                view_change   adopt
    view_change   my log is the primary's log        normal        enter_view
    normal        a view without me                  learner       adopt
    view_change   a view without me                  learner       adopt
    normal        the last member's disk fails       read_only     lose_disk
    view_change   the only member's disk has failed  read_only     lose_disk
    read_only     the disk takes the batch again     normal        on_persisted
    read_only     and it is of an earlier view       view_change   on_persisted
    read_only     a view without me                  learner       adopt
    any           committed ops are missing          halted        halt

Normal operation (VSR Revisited 4.1, with every member in the place of the quorum and a batch in the place of the request):

    guest ── Submitted ──▶ primary ── Prepare ──▶ backups
                             │ Persist              │ Persist
                             ◀────── PrepareOk ─────┘        every member has it synced: commit, Apply, answer
                             ── Commit or the next Prepare ──▶ backups apply

Invariants, asserted where they could break:
- One batch is in flight: in every log all but the last batch is committed, so nothing but a last batch is ever cut.
- A PrepareOk leaves only after its batch and log_view are synced, and counts only in its own view and with the primary's own hash.
- applied ≤ commit ≤ head at a primary; view, log_view and commit never go back; log_view ≤ view.
- An answer of the disk counts only in the generation in which it was asked; a packet of a new view waits for all answers of the old one.

Read next: `survivor.py` (who decides a view), `server.py` (who carries the effects out).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from batches import Batch, DamagedBatch, decode_all
from events import (
    Applied,
    Apply,
    Cut,
    CutDone,
    DiskFailed,
    Effect,
    Evaluated,
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
    Proposed,
    ReadLog,
    Received,
    RegisterRead,
    RoomLooked,
    Saved,
    SaveLogView,
    Send,
    SnapshotDiffered,
    SnapshotRead,
    StopAsked,
    Submitted,
    Ticked,
    Trace,
    Unlinked,
    ViewSaved,
)
from packets import (
    Commit,
    CommitOk,
    GetState,
    LastMet,
    Leave,
    Member,
    NewState,
    Packet,
    Prepare,
    PrepareOk,
    Recovery,
    RecoveryResponse,
    SnapshotOffer,
    StartView,
)
from policy import Policy, Start, Timers

LEARNER, VIEW_CHANGE, NORMAL, READ_ONLY, HALTED = "learner", "view_change", "normal", "read_only", "halted"
LIVE = (NORMAL, VIEW_CHANGE, READ_ONLY)

STATUS_CHANGES: dict[tuple[str, str], tuple[str, str]] = {
    (LEARNER, "a view has me as a member"): (VIEW_CHANGE, "adopt"),
    (NORMAL, "a newer view has me"): (VIEW_CHANGE, "adopt"),
    (VIEW_CHANGE, "a newer view has me"): (VIEW_CHANGE, "adopt"),
    (VIEW_CHANGE, "my log is the primary's log"): (NORMAL, "enter_view"),
    (NORMAL, "a view without me"): (LEARNER, "adopt"),
    (VIEW_CHANGE, "a view without me"): (LEARNER, "adopt"),
    (NORMAL, "the last member's disk fails"): (READ_ONLY, "lose_disk"),
    (VIEW_CHANGE, "the only member's disk has failed"): (READ_ONLY, "lose_disk"),
    (READ_ONLY, "the disk takes the batch again"): (NORMAL, "on_persisted"),
    (READ_ONLY, "and it is of an earlier view"): (VIEW_CHANGE, "on_persisted"),
    (READ_ONLY, "a view without me"): (LEARNER, "adopt"),
}

ASK_MORE, LEVEL = "ask more", "level"  # what a learner does next
CATCH_UP_BYTES = 1 << 20  # bytes of one catch-up answer, and the lag at which a learner is taken in
CATCH_UP_MOST = 3 << 20  # the same for a learner that failed three times: joint mode itself then slows the others down
PAUSED = 0.25  # seconds; a tick this late means that this process stood still
STALLED = 1.0  # seconds without an answer after which a transfer begins again


class Replica:
    """One replica. `step` is the only way to change it.

    Public and read-only outside: status, view, log_view, primary (None: nobody), head_op, commit, applied, serving, can_prepare, wake_at.
    """

    def __init__(self, me: int, replicas: tuple[int, ...], cluster: str, timers: Timers, start: Start, now: float) -> None:
        self.me, self.replicas, self.cluster, self.timers = Member(me, start.inc), replicas, cluster, timers
        self.status, self.generation = LEARNER, 0
        self.view, self.log_view = start.view, 0 if start.damage else start.log_view  # what is not trusted is no view's log
        self.primary: Member | None = None
        self.is_primary = False  # whether this replica leads the view it has adopted
        self.head_op, self.head_hash = start.head_op, start.head_hash
        self.parent_op, self.parent_hash = start.parent_op, start.parent_hash
        self.last = start.last
        self.commit = self.applied = start.parent_op if start.last else start.head_op
        self.digest, self.synced = start.digest, start.head_op
        self.time = start.last.time + start.last.count if start.last else start.time
        self.damage, self.born, self.began = start.damage, start.born, start.began
        self.empty = not start.log_view and not start.damage  # its log never was a view's, whatever it has fetched
        self.start_op = 0
        self.in_flight: Batch | None = None
        self.sent_at = self.view_sent_at = 0.0  # when the batch in flight, and StartView, was sent last
        self.flying_since = 0.0
        self.acked_at = 0.0  # when this backup acknowledged a batch that is not known committed yet
        self.acks: set[int] = set()
        self.acked_view = 0  # view of the last PrepareOk of this process
        self.taken_view = 0  # view in which a piece of its primary's log was taken last
        self.writing = 0  # disk orders under way; one that failed is under way for ever
        self.trouble, self.is_full = "", False  # why the disk does not answer; whether it will as soon as there is room
        self.lacks_room = False  # whether nothing more would fit on it
        self.start_view: StartView | None = None
        self.installed: set[int] = set()  # members that have answered StartView
        self.told_commit = 0
        self.heard_applied: dict[int, int] = {}  # op each backup said it has applied
        self.stopping = self.stops_everybody = False
        self.transfer_at = 0.0  # when the last piece of a catch-up was asked for or came; 0: none under way
        self.source: Member | None = None  # whose log is asked for, where that is not the primary
        self.led_at = now  # when my primary was last heard as such
        self.new_state: NewState | None = None
        self.new_batches: list[Batch] = []  # of new_state
        self.goal = ""
        self.early: Received | None = None  # came before its view was read from the register
        self.digest_op = self.applied  # op that `digest` belongs to
        self.expected = (0, 0)  # op and digest as the primary told them
        self.round = 0
        self.beat_at = 0.0
        self.last_tick = now
        self.now = now
        self.wake_at = now
        self.effects: list[Effect] = []
        self.policy: Policy

    # --- for the server -------------------------------------------------------------------------------------------------------------------

    @property
    def serving(self) -> bool:
        """Whether commands and queries of guests can be served here: every batch of earlier views is applied."""
        is_ready = self.is_primary and self.status in (NORMAL, READ_ONLY) and self.applied == self.commit >= self.start_op
        return is_ready and self.policy.is_in_touch()

    @property
    def can_prepare(self) -> bool:
        """Whether the next batch may be formed: nothing is in flight, and nothing of the old view is left."""
        return self.in_flight is None and self.status == NORMAL and self.serving and not self.stopping and not self.writing

    @property
    def has_news(self) -> bool:
        """Whether the others do not know yet what is committed, and no batch on its way tells them."""
        return self.is_primary and self.status == NORMAL and self.told_commit < self.commit == self.head_op

    def step(self, now: float, event: Event) -> list[Effect]:
        """One event in, effects out, to be carried out in order. `now`: monotonic seconds."""
        self.now = now
        effects: list[Effect] = []
        self.effects = effects
        if self.status != HALTED:
            if isinstance(event, Received):  # of every batch: a table is dearer than a look
                self.on_received(event)
            elif isinstance(event, Persisted):
                self.on_persisted(event)
            else:
                HANDLERS[type(event)](self, event)
            assert self.applied <= self.commit and self.log_view <= self.view, f"ladder: {self}"
        return effects

    def __repr__(self) -> str:
        log = f"head {self.head_op} commit {self.commit} applied {self.applied}"
        return f"replica {self.me.replica} {self.status} view {self.view}/{self.log_view} {log}"

    def emit(self, effect: Effect) -> None:
        """Order the effect."""
        self.effects.append(effect)

    def trace(self, text: str) -> None:
        """Say what was done and why."""
        self.emit(Trace(text))

    def halt(self, reason: str) -> None:
        """Stop for ever: going on could lose what was acknowledged."""
        self.status = HALTED
        self.emit(Exit(reason, suspect=False))

    def leave_process(self, reason: str, *, suspect: bool = False, inc: int = 0, forced: int = 0) -> None:
        """End this incarnation; the next one begins as a learner."""
        self.status = HALTED
        self.emit(Exit(reason, suspect, inc, forced))

    # --- normal operation -----------------------------------------------------------------------------------------------------------------

    def on_submitted(self, event: Submitted) -> None:
        """Form the next batch, send it and sync it here at the same time."""
        assert self.can_prepare, f"a batch was submitted to {self}"
        time = max(self.time, event.time)
        batch = Batch(first_op=self.head_op + 1, count=event.ops, view=self.view, time=time, prev_hash=self.head_hash, body=event.body)
        self._extend(batch)
        self.in_flight, self.flying_since = batch, self.now
        self.acks.clear()
        self.send_in_flight()
        self.order(Persist(self.generation, (batch,)))

    def send_in_flight(self) -> None:
        """Prepare for every member but this one, and for the learner that is being taken in."""
        batch = self.in_flight
        assert batch is not None and self.status == NORMAL
        self.sent_at, self.told_commit = self.now, self.commit
        self.emit(Send(self.policy.receivers(), Prepare(self.view, self.commit, self.digest_op, self.digest, batch.image)))

    def on_prepare(self, sender: Member, packet: Prepare) -> None:
        """Append what follows my log, in my view, from my primary, several batches where I am behind; else ask for it, or ignore it."""
        if self.log_view != self.view or not (self.status == NORMAL or self.policy.is_joining()):
            return self.ignore(packet, "my log is not the view's log yet")
        try:
            batch = Batch.decode(packet.image)
            batches = decode_all(packet.image, batch.first_op - 1, batch.prev_hash) if len(packet.image) > len(batch.image) else [batch]
        except DamagedBatch as error:
            return self.ignore(packet, str(error))
        while len(batches) > 1 and batch.op <= self.head_op:  # it was sent again, and the next came with it
            del batches[0]
            batch = batches[0]
        if batch.op == self.head_op and batch.hash == self.head_hash:
            if self.synced == self.head_op:
                self.send_ok()
        elif batch.prev_hash == self.head_hash and batch.first_op == self.head_op + 1 and not self.writing:
            self.acked_at = 0.0
            if len(batches) > 1:
                self._take(batches)
            else:
                before = self.last
                self._extend(batch)
                self.order(Persist(self.generation, (batch,)))
                self._apply_followed(before)  # behind the ack, for which everybody waits
        elif batch.first_op > self.head_op + 1:
            self.catch_up()
        else:
            self.ignore(packet, "does not follow my log")
        self.learn_commit(packet.commit, packet.applied, packet.digest)

    def _extend(self, batch: Batch) -> None:
        assert batch.first_op == self.head_op + 1 and batch.prev_hash == self.head_hash, f"{batch} does not follow {self}"
        self.parent_op, self.parent_hash = self.head_op, self.head_hash
        self.head_op, self.head_hash = batch.op, batch.hash
        self.last, self.time = batch, batch.time + batch.count

    def on_persisted(self, event: Persisted) -> None:
        """My own disk has it: an ack of mine."""
        self._answered()
        if (event.op, event.hash) == (self.head_op, self.head_hash):
            self.synced = event.op
        if self.status == READ_ONLY:
            self.trace("the disk takes batches again: read_only ends")
            self.status = NORMAL if self.log_view == self.view else VIEW_CHANGE
        if event.generation != self.generation:
            return self.proceed()
        assert self.synced == self.head_op, f"persisted {event.op} at {self}"
        if self.is_primary and self.status == NORMAL:
            self.acks.add(self.me.replica)
            self.commit_if_safe()
        elif self.log_view == self.view and (self.status == NORMAL or self.policy.is_joining()):
            self.send_ok()
        self.proceed()

    def send_ok(self) -> None:
        """The one place where a PrepareOk is born."""
        assert self.synced == self.head_op and self.log_view == self.view and self.primary is not None, f"would ack early: {self}"
        self.acked_view = self.view
        if self.head_op > self.commit and not self.acked_at:
            self.acked_at = self.now
        self.emit(Send((self.primary.replica,), PrepareOk(self.view, self.head_op, self.head_hash)))

    def on_prepare_ok(self, sender: Member, packet: PrepareOk) -> None:
        """Count an ack of this view for the newest batch, with my own hash."""
        if not self.is_primary or self.status not in LIVE or not self.policy.counts(sender):
            return self.ignore(packet, "I do not lead this view, or the sender is not in it")
        if self.status == READ_ONLY:
            return self.policy.on_ack(sender, packet)
        if packet.op == self.head_op and packet.hash != self.head_hash:
            self.emit(Send((sender.replica,), self.make_start_view()))
            return self.ignore(packet, "another log: answered with StartView")
        self.installed.add(sender.replica)
        if packet.op != self.head_op:
            return self.ignore(packet, "an older op")
        self.acks.add(sender.replica)
        self.commit_if_safe()
        self.policy.on_ack(sender, packet)

    def commit_if_safe(self) -> None:
        """Commit the batch in flight once all that the policy requires have it synced."""
        batch = self.in_flight
        if batch is None or not self.policy.has_enough(self.acks):
            return
        assert self.me.replica in self.acks and self.synced == batch.op
        self.in_flight = None
        self.commit = batch.op
        self.apply_ready()
        self.policy.on_quiet()

    def on_idled(self, event: Idled) -> None:
        """Nothing follows at once, so the commit must travel alone."""
        if self.has_news:
            self.tell_commit(0)

    def tell_commit(self, round: int) -> None:
        """How far the log is committed; a round is answered by CommitOk."""
        self.told_commit = self.commit
        at_head = self.commit == self.head_op
        tip = self.head_hash if at_head else self.parent_hash
        digest = self.digest if self.digest_op == self.commit else 0
        self.emit(Send(self.policy.receivers(), Commit(self.view, self.commit, tip, digest, round)))

    def on_commit(self, sender: Member, packet: Commit) -> None:
        """The primary lives, and may have committed more."""
        if packet.round:
            is_normal = self.status == NORMAL  # only then does it vouch that there is no newer view
            self.emit(Send((sender.replica,), CommitOk(self.view, packet.round if is_normal else 0, self.applied)))
        if self.log_view != self.view or not (self.status == NORMAL or self.policy.is_joining()):
            return self.ignore(packet, "my log is not the view's log yet")
        if packet.op > self.head_op:
            self.catch_up()
        elif packet.op == self.head_op and packet.hash != self.head_hash:
            return self.halt(f"COMMITTED DATA DIFFERS: op {packet.op} is another batch at the primary")
        self.learn_commit(packet.op, packet.op, packet.digest)

    def learn_commit(self, op: int, applied: int, digest: int) -> None:
        """Commit moves forward only; what is in the view's log is applied."""
        # Packets overtake each other on the wire, and a commit may be ahead of this log.
        known = min(op, self.head_op)
        if known > self.commit:  # then it is the head: all before the last batch is committed already
            self.commit, self.acked_at = known, 0.0
        self.apply_ready()
        if digest:
            self.expected = (applied, digest)
            self._compare_digest()

    def apply_ready(self) -> None:
        """Apply the last batch once it is committed in the view's log; all before it are applied as soon as another follows."""
        last = self.last
        if last is not None and self.applied < last.op <= self.commit and self.log_view == self.view and self.synced >= last.op:
            assert self.applied == last.first_op - 1, f"would skip ops: {last} at {self}"
            self.applied = last.op
            self.emit(Apply(last))

    def on_applied(self, event: Applied) -> None:
        """Keep the digest, which the next Prepare or Commit carries."""
        self.digest_op, self.digest = event.op, event.digest
        self._compare_digest()

    def _compare_digest(self) -> None:
        op, digest = self.expected
        if op == self.digest_op and digest != self.digest and not self.is_primary:
            self.leave_process(f"my state differs from the primary's after op {op}: it must be rebuilt from snapshot and journal")

    def on_room_looked(self, event: RoomLooked) -> None:
        self.lacks_room = not event.has_room

    def on_snapshot_differed(self, event: SnapshotDiffered) -> None:
        """A primary has nobody to be compared with: it would send one backup after the other away."""
        self.leave_process(f"my state differs from what the log leads to at op {event.op}: it must be rebuilt from snapshot and journal")

    # --- starting and installing a view ---------------------------------------------------------------------------------------------------

    def adopt(self, number: int, primary: Member, *, member: bool, why: str) -> None:
        """Take the view: from here on nothing of an older one is acknowledged."""
        assert number > self.view or (number == self.view and self.status == LEARNER), f"view {number} at {self}"
        was = self.status
        self.view, self.primary, self.is_primary = number, primary, primary == self.me
        self.generation += 1
        self.in_flight, self.start_view, self.new_state, self.goal = None, None, None, ""
        self.acks.clear()
        self.installed.clear()
        self.transfer_at = self.acked_at = 0.0
        self.source, self.led_at = None, self.now
        self.status = VIEW_CHANGE if member else LEARNER
        role = ("primary" if primary == self.me else "backup") if member else "learner"
        self.trace(f"view {number}: {why}; primary is {primary.replica}, I am {role} (was {was})")
        self.proceed()
        early, self.early = self.early, None
        if early is not None and early.packet.view == number:
            self.on_received(early)

    def proceed(self) -> None:
        """Do the next thing that had to wait for the disk. Every answer of the disk leads here."""
        if self.writing or self.status == HALTED:
            return
        if self.goal:
            self._reach_goal()
        elif self.new_state is not None:
            self._take_state(self.new_state)
        elif self.status == VIEW_CHANGE and self.is_primary:
            if self.policy.has_log():
                self._start_own_view()
        elif self.status == VIEW_CHANGE and self.start_view is not None:
            self._install(self.start_view)

    def _start_own_view(self) -> None:
        """The new primary goes on from its own log: every acknowledged batch is in it, the policy sees to that."""
        self._end_transfer()
        if self.log_view < self.view:
            # The others store the view while this disk does; what they answer before it has is counted, and commits nothing.
            self.view_sent_at = self.now
            self.emit(Send(self.policy.receivers(), self.make_start_view()))
            return self.order(SaveLogView(self.generation, self.view, self.view))
        self.start_op = self.head_op
        if self.last is not None and self.commit < self.head_op:
            self.in_flight, self.flying_since = self.last, self.now
        self.enter_view()
        self.acks.add(self.me.replica)
        self.apply_ready()  # what it was told of before its own disk had it: nobody tells a primary
        self.commit_if_safe()
        self.policy.on_quiet()

    def make_start_view(self) -> StartView:
        """My log's end; the last batch travels with it, since a member may lack just that one."""
        image = self.last.image if self.last is not None else b""
        return StartView(self.view, self.head_op, self.head_hash, self.parent_op, self.parent_hash, image)

    def on_start_view(self, sender: Member, packet: StartView) -> None:
        """My primary tells its log's end; mine has to become it."""
        if self.status == NORMAL and (packet.op, packet.hash) == (self.head_op, self.head_hash) and self.synced == self.head_op:
            return self.send_ok()
        if self.status != VIEW_CHANGE or self.is_primary:
            return self.ignore(packet, f"I am {self.status}")
        try:
            parent = (packet.parent_op, packet.parent_hash)
            if (packet.op, packet.hash) != (decode_all(packet.image, *parent)[-1].tip if packet.image else parent):
                raise DamagedBatch("not the batch that its log ends in")
        except DamagedBatch as error:
            return self.ignore(packet, str(error))
        self.start_view = packet
        self.proceed()

    def _install(self, packet: StartView) -> None:
        """Cut at most my last batch, add at most the primary's last, then make log_view durable, then acknowledge."""
        if (self.head_op, self.head_hash) == (packet.op, packet.hash):
            if self.log_view < self.view:
                return self.order(SaveLogView(self.generation, self.view, self.view))
            return self._join_view()
        if self.head_hash == packet.parent_hash and self.head_op == packet.parent_op and packet.image:
            batch, before = Batch.decode(packet.image), self.last
            self._extend(batch)
            self._apply_followed(before)
            return self.order(Persist(self.generation, (batch,)))
        # What was taken from this primary in this view is newer than what it says here.
        may_cut = self.last is not None and self.commit < self.head_op and self.taken_view != self.view
        if may_cut and self.parent_hash in (packet.hash, packet.parent_hash):
            return self.cut_last("the new primary does not have it")
        self.policy.on_behind(packet)

    def cut_last(self, why: str) -> None:
        """Drop my last batch, which was never acknowledged."""
        assert self.last is not None and self.commit < self.head_op and self.applied < self.head_op, f"would cut committed op {self.commit}"
        self.trace(f"cuts op {self.last.first_op}-{self.head_op}: {why}")
        self.head_op, self.head_hash, self.last = self.parent_op, self.parent_hash, None
        self.synced = min(self.synced, self.head_op)
        self.order(Cut(self.generation))

    def on_saved(self, event: Saved) -> None:
        self._answered()
        if event.generation == self.generation:
            self.log_view = max(self.log_view, event.log_view)
            self.empty, self.damage = False, ""
            if self.status == LEARNER:
                self.send_ok()
            elif not self.is_primary:
                self._join_view()
        self.proceed()

    def on_written(self, event: CutDone | ViewSaved) -> None:
        self._answered()
        if type(event) is ViewSaved:
            self.policy.on_event(event)
        self.proceed()

    def _join_view(self) -> None:
        """A backup's log is its primary's log."""
        self.start_view = None
        self._end_transfer()
        self.enter_view()
        self.send_ok()

    def enter_view(self) -> None:
        """My log is the view's log."""
        assert self.log_view == self.view and self.synced == self.head_op, f"enters a view unprepared: {self}"
        self.status = NORMAL
        self.trace(f"view {self.view} runs here from op {self.head_op}")

    def _end_transfer(self) -> None:
        """What was asked for before this log became the view's may still come, and would be taken for an answer of the view."""
        self.source, self.new_state, self.goal, self.transfer_at = None, None, "", 0.0

    # --- catching up ----------------------------------------------------------------------------------------------------------------------

    def ask_state(self) -> None:
        """Ask the primary, or who has the log that this one needs to become it, for what follows my log."""
        source = self.source or self.primary
        if source is None or source == self.me or self.writing:
            return
        self.transfer_at = self.now
        request = GetState(self.view, self.head_op, self.head_hash, self.parent_op, self.parent_hash)
        self.emit(Send((source.replica,), request))

    def catch_up(self) -> None:
        """Ask, unless an answer is on its way."""
        if not self.transfer_at or self.now - self.transfer_at > STALLED:
            self.ask_state()

    def on_get_state(self, sender: Member, packet: GetState) -> None:
        """Answered from the journal; what may be given to whom is the policy's affair."""
        refusal = self.policy.refuses(sender)
        if refusal:
            return self.ignore(packet, refusal)
        at_head = self.status != READ_ONLY or self.commit == self.head_op
        tip = (self.head_op, self.head_hash) if at_head else (self.parent_op, self.parent_hash)
        self.emit(ReadLog(sender, packet, self.policy.piece_bytes(sender), *tip))

    def on_new_state(self, sender: Member, packet: NewState) -> None:
        """A piece of the primary's log."""
        if not self.transfer_at:
            return self.ignore(packet, "nothing was asked for")
        if self.new_state is not None or self.writing:
            # Asked for twice: one that is kept until the other is synced would never be looked at.
            return self.ignore(packet, "one piece at a time")
        try:
            self.new_batches = decode_all(packet.images, packet.base_op, packet.base_hash)
        except DamagedBatch as error:
            return self.ignore(packet, str(error))
        self.new_state = packet
        self.proceed()

    def _take_state(self, packet: NewState) -> None:
        base = (packet.base_op, packet.base_hash)
        if base != (self.head_op, self.head_hash):
            if base == (self.parent_op, self.parent_hash) and self.last is not None and self.commit < self.head_op:
                if packet.images.startswith(self.last.image):
                    self.new_state = None
                    return self.ignore(packet, "my log holds it already")
                if self.taken_view == self.view or (self.status == NORMAL and not packet.images):
                    self.new_state = None
                    return self.ignore(packet, "it was asked for before my last batch came")
                if self.acked_view == self.view:
                    return self.leave_process("would shorten a log that it has acknowledged in this view")
                return self.cut_last("the primary's log goes on differently")
            self.new_state, self.transfer_at = None, 0.0
            return self.ignore(packet, "does not follow my log")
        self.new_state, self.transfer_at = None, self.now
        batches, self.new_batches = self.new_batches, []
        self.goal = LEVEL if packet.joint else ASK_MORE if batches else ""
        if batches:
            self.taken_view = self.view
            return self._take(batches)
        self._reach_goal()

    def _take(self, batches: list[Batch]) -> None:
        """Store what follows my log with one sync."""
        for batch in batches:
            before = self.last
            self._extend(batch)
            self._apply_followed(before)
        self.order(Persist(self.generation, tuple(batches)))

    def _apply_followed(self, batch: Batch | None) -> None:
        """Another batch follows this one in the primary's log, so it is committed."""
        if batch is not None and self.applied < batch.op:
            assert self.applied == batch.first_op - 1, f"would skip ops: {batch} at {self}"
            self.commit = max(self.commit, batch.op)
            self.applied = batch.op
            self.emit(Apply(batch))

    def _reach_goal(self) -> None:
        """What follows when the piece that was taken is synced: ask for the next, or declare that my log is the primary's."""
        goal, self.goal = self.goal, ""
        if goal == ASK_MORE:
            return self.ask_state()
        if goal != LEVEL:
            return
        if self.status != LEARNER:
            self.transfer_at = 0.0
        if self.is_primary:
            self.proceed()
        elif self.log_view < self.view:
            self.order(SaveLogView(self.generation, self.view, self.view))
        elif self.status == VIEW_CHANGE:
            self._join_view()
        else:
            self.send_ok()

    def on_log_read(self, event: LogRead) -> None:
        """Give what follows in my journal; where that no longer reaches back, a snapshot."""
        asker, request = event.asker.replica, event.request
        if request.view != self.view or self.policy.refuses(event.asker):
            return
        if event.images is None:
            if request.parent_op > self.head_op or request.parent_op >= event.oldest_op:
                held = f"replica {asker} holds op {request.parent_op}, which this log does not have"
                return self.halt(f"COMMITTED DATA LOST AT PRIMARY: {held}")
            return self.emit(OfferSnapshot(asker))
        is_level = event.reaches_head and self.policy.takes_in(event.asker)
        self.emit(Send((asker,), NewState(self.view, event.base_op, event.base_hash, event.images, is_level)))

    def on_snapshot_offer(self, sender: Member, packet: SnapshotOffer) -> None:
        """The primary no longer keeps the log that I lack."""
        if not self.transfer_at or self.writing:
            return self.ignore(packet, "nothing was asked for")
        if self._is_below(packet.op):
            return self.ignore(packet, "older than my log")
        if self.acked_view == self.view and self.status == LEARNER:
            return self.leave_process("lacks what the primary has only as a snapshot, and may not replace a log that it has acknowledged")
        self.transfer_at = self.now
        self.emit(FetchSnapshot(self.generation, sender.replica, packet))

    def _is_below(self, op: int) -> bool:
        """Whether a snapshot of this op is no gain; what was acknowledged in this view must not even be shortened by one batch."""
        return op <= (self.head_op if self.acked_view == self.view else self.parent_op)

    def on_fetched(self, event: Fetched) -> None:
        """Install it if the view, and with it the right to change this disk, is still the one in which it was offered."""
        if event.generation != self.generation or self.writing or self._is_below(event.op):
            return
        self.transfer_at = self.now
        self.order(InstallSnapshot(self.generation, event.op, event.hash))

    def on_installed(self, event: Installed) -> None:
        self._answered()
        self.head_op = self.parent_op = self.synced = self.commit = self.applied = event.op
        self.head_hash = self.parent_hash = event.hash
        self.last, self.digest, self.digest_op, self.time = None, event.digest, event.op, event.time
        self.trace(f"installed the snapshot of op {event.op}")
        if event.generation == self.generation:
            self.ask_state()
        self.proceed()

    # --- everything else ------------------------------------------------------------------------------------------------------------------

    def order(self, effect: Effect) -> None:
        """An order to the disk, whose answer is awaited."""
        self.writing += 1
        self.emit(effect)

    def _answered(self) -> None:
        """The disk has done what was ordered, perhaps after it had no room for a while."""
        self.writing -= 1
        if not self.writing:
            self.trouble, self.is_full = "", False

    def ignore(self, packet: Packet, why: str) -> None:
        """The other side of every if; traced where it is rare."""
        if type(packet) not in (Commit, CommitOk, Recovery, PrepareOk):
            self.trace(f"ignores {type(packet).__name__}: {why}")

    def on_received(self, event: Received) -> None:
        """Settle the view first: newer ones are looked up, older ones are told."""
        sender, packet = event.sender, event.packet
        if packet.view > self.view:
            # The view is looked up first; what came early must not wait for its repetition.
            if self.early is None or type(self.early.packet) is not StartView or packet.view > self.early.packet.view:
                self.early = event
            return self.policy.on_newer_view(sender, packet)
        kind = type(packet)
        if packet.view < self.view and kind not in OF_ANY_VIEW:
            self.emit(Send((sender.replica,), self.response(0)))
            return self.ignore(packet, "older view")
        self.policy.on_sign_of_life(sender)
        if kind in FROM_PRIMARY:
            if sender == self.primary:
                self.led_at = self.now
            elif sender != self.source:
                return self.ignore(packet, "not from my primary")
        handler = PACKET_HANDLERS.get(kind)
        self.policy.on_packet(sender, packet) if handler is None else handler(self, sender, packet)

    def response(self, nonce: int) -> RecoveryResponse:
        """Where I stand."""
        return RecoveryResponse(self.view, nonce, self.status, self.head_op, self.commit, self.policy.is_eligible(), self.empty)

    def on_commit_ok(self, sender: Member, packet: CommitOk) -> None:
        """A sign of life, and how far the backup is."""
        self.heard_applied[sender.replica] = packet.op
        self.policy.on_commit_ok(sender, packet)

    def on_disk_failed(self, event: DiskFailed) -> None:
        """The order stays under way: a full disk answers it when there is room, and what failed otherwise is never tried again."""
        self.trouble, self.is_full = event.reason, event.full
        self.policy.on_disk_trouble()

    def lose_disk(self) -> None:
        """The last member cannot store any more: it answers what it knows and takes nothing new."""
        if self.status == VIEW_CHANGE:
            # The batch that it does not have on its disk it never acknowledged. So all before that, and nothing else, is committed.
            assert self.synced < self.head_op and self.commit == self.applied == self.parent_op, f"knows not what is committed: {self}"
            self.in_flight, self.flying_since, self.start_op = self.last, self.now, self.commit
        self.status = READ_ONLY
        self.trace(f"read_only: {self.trouble}")

    def on_stop_asked(self, event: StopAsked) -> None:
        self.stopping, self.stops_everybody = True, event.everybody
        self.policy.on_event(event)

    def on_ticked(self, event: Ticked) -> None:
        """Heartbeats, repetitions, and whatever the policy waits for."""
        if self.now - self.last_tick > PAUSED:
            self.policy.on_paused()
        self.last_tick = self.now
        if self.is_primary and self.status in (NORMAL, VIEW_CHANGE, READ_ONLY) and self.now >= self.beat_at:
            self.beat_at = self.now + self.timers.heartbeat
            self.round += 1
            self.tell_commit(self.round)
            self._repeat()
        self.wake_at = self.now + self.timers.heartbeat / 2
        self.policy.on_tick()

    def _repeat(self) -> None:
        """Packets may be lost with a link: StartView until it is answered, Prepare while it flies."""
        if self.status != NORMAL:
            return
        due, late = self.now - 2 * self.timers.heartbeat, tuple(r for r in self.policy.receivers() if r not in self.installed)
        if late and self.view_sent_at <= due:  # however busy this view is: who begins anew hears of it in no other way
            self.view_sent_at = self.now
            self.emit(Send(late, self.make_start_view()))
        if self.in_flight is not None and self.sent_at <= due:
            self.send_in_flight()


FROM_PRIMARY = frozenset({Prepare, Commit, StartView, NewState, SnapshotOffer})
OF_ANY_VIEW = frozenset({Recovery, RecoveryResponse, Leave, LastMet})

PACKET_HANDLERS: dict[type, Callable[[Replica, Member, Any], None]] = {
    Prepare: Replica.on_prepare,
    PrepareOk: Replica.on_prepare_ok,
    Commit: Replica.on_commit,
    CommitOk: Replica.on_commit_ok,
    StartView: Replica.on_start_view,
    GetState: Replica.on_get_state,
    NewState: Replica.on_new_state,
    SnapshotOffer: Replica.on_snapshot_offer,
}

TO_POLICY = (Linked, Unlinked, LockProbed, RegisterRead, Proposed, HealthChecked, SnapshotRead, Evaluated)

HANDLERS: dict[type, Callable[[Replica, Any], None]] = {
    Received: Replica.on_received,
    Submitted: Replica.on_submitted,
    Idled: Replica.on_idled,
    Persisted: Replica.on_persisted,
    CutDone: Replica.on_written,
    Saved: Replica.on_saved,
    ViewSaved: Replica.on_written,
    Applied: Replica.on_applied,
    LogRead: Replica.on_log_read,
    Fetched: Replica.on_fetched,
    Installed: Replica.on_installed,
    DiskFailed: Replica.on_disk_failed,
    StopAsked: Replica.on_stop_asked,
    Ticked: Replica.on_ticked,
    SnapshotDiffered: Replica.on_snapshot_differed,
    RoomLooked: Replica.on_room_looked,
    **dict.fromkeys(TO_POLICY, lambda replica, event: replica.policy.on_event(event)),
}
