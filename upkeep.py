"""Upkeep: a replica's snapshots, ordered, given to others with its log, fetched from others; and room in its journal. No guest waits.

What it is not: it writes no snapshot (`snapshot_worker.py`), knows no file of one (`snapshots.py`, `transfer.py`), and changes neither the
state nor the log: what was fetched is installed by `server.py`, on the core's order.

    when                                              then
    quiet, and the last snapshot is not of the last op    one is ordered
    load                                              one each `snapshot_every_s`, or sooner when the journal grows
    another one ends again and again where this       one at once: perhaps it is this memory that is wrong, and sends it away
    replica leads
    the newest was found damaged                      one at once, also of the same op: most of it is in memory
    a replica asks what follows its log               this log is read; what of it is no longer kept, is in a snapshot
    a replica lags behind this journal                the newest is offered, then given piece by piece
    the primary offers one                            it is fetched; the core hears `Fetched`
    soon after start, each day, and when one is       the newest is read again; the core hears `SnapshotRead`
    offered, since who fetches it cannot say that
    what it gets is damaged

Invariants:
- One order at the worker, one transfer to this replica at a time.
- A snapshot is put in place only if the log, replayed by the worker, leads to the state that this process holds.
- What belongs to another generation of the journal, or to a view that has passed, is dropped.

Read next: `snapshots.py`, `transfer.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import snapshots
from batches import image_hash
from events import Event, Exit, Fetched, FetchSnapshot, LogRead, ReadLog, SnapshotDiffered, SnapshotRead
from history import Archive
from host import Host
from journal import JournalDamaged
from packets import Chunk, GetChunk, Member, SnapshotOffer
from replication import HALTED, LIVE, Replica
from settings import Settings
from storage import Storage
from transfer import Receiver, Sender, TransferFailed

LOOK_FIRST_S = 5.0  # seconds after start or an offer: what rotted should not wait for the day that it is needed, nor guests for the look
LOOK_AGAIN_S = 10.0  # seconds after a look that found damage, and between two for the sake of a transfer
SLICE_EVERY = 96 << 10  # bytes of log for which one more slice is made: the next segment is ready when a second half of this one is full
ENDS, ENDS_S = 3, 5.0  # times within seconds: a death now and then proves nothing
DOUBT_S = 30.0  # seconds between two snapshots for that reason
LOOK_S = 86_400.0  # seconds otherwise: reading the history costs as much as writing it did


class Upkeep:
    """One replica's. `feed` gives the core an event, `report` tells the operator of trouble."""

    def __init__(
        self,
        host: Host,
        settings: Settings,
        storage: Storage,
        replica: Replica,
        *,
        feed: Callable[[Event], None],
        report: Callable[[str], None],
    ) -> None:
        self.host, self.settings, self.storage, self.replica = host, settings, storage, replica
        self.feed, self.report = feed, report
        self.sender = Sender(storage.disk, storage.snapshots_path)
        self.receiver: Receiver | None = None
        self.archive = Archive(
            storage.disk,
            storage.snapshots_path,
            settings.name,
            read=host.read,
            want=lambda: self.consider_snapshot(wanted=True),
            report=self._unreadable,
        )
        self.worker_busy = self.is_over = self.goes_on = self.is_rotten = False  # the last: its newest snapshot, by the last look
        self.calm_at = 0.0  # before that the disk is the guests' alone
        self.looked_at = host.now()
        self.look_at = self.looked_at + LOOK_FIRST_S
        self.snapshot_at = self.op_at = host.now()  # when one was ordered, when the last batch was applied
        self.ended: dict[int, list[float]] = {}  # by replica: when its link was lost, the last times
        self.doubted_at = -DOUBT_S
        self.bytes_applied = 0  # since a slice of the next segment was ordered for their sake

    # --- given to others, fetched from others ---------------------------------------------------------------------------------------------

    def offer(self, replica: int) -> None:
        """Offer the newest snapshot to a replica that lags too far behind; without any, have one made."""
        now = self.host.now()
        offer = self.sender.offer(now)
        if offer is None:
            return self.consider_snapshot(wanted=True)
        self.look_at = min(self.look_at, max(self.looked_at + LOOK_AGAIN_S, now + LOOK_FIRST_S))
        op, tip, manifest = offer
        self.host.send((replica,), SnapshotOffer(self.replica.view, op, tip, manifest))

    def read_log(self, effect: ReadLog) -> LogRead | Exit:
        """What follows the asker's log in this one; Exit: nobody can say, and whoever may be the last member has to know."""
        request, journal = effect.request, self.storage.journal
        base, images, oldest_op = (request.op, request.hash), None, journal.oldest_op
        try:
            images = journal.read_after(*base, effect.limit, effect.until)
            if images is None and request.parent_op < request.op:
                base = (request.parent_op, request.parent_hash)
                images = journal.read_after(*base, effect.limit, effect.until)
        except (JournalDamaged, OSError) as error:
            if request.op >= self.storage.snapshot_op:
                return Exit(f"this log cannot be read: {error}", suspect=True)
            # The asker can begin at the snapshot; for rot below it nobody who may be the last member has to go.
            base, images, oldest_op = (request.op, request.hash), None, self.storage.snapshot_op + 1
            self.report(f"the log below the snapshot of op {self.storage.snapshot_op} cannot be read: {error}")
        tip = image_hash(images) if images else base[1]
        return LogRead(effect.asker, request, *base, images, tip == effect.tip, oldest_op)

    def on_get_chunk(self, sender: Member, packet: GetChunk) -> None:
        """A piece of a file that was offered."""
        if packet.view == self.replica.view:
            content = self.sender.chunk(packet.op, packet.name, packet.offset, self.host.now())
            self.host.send((sender.replica,), Chunk(packet.view, packet.op, packet.name, packet.offset, content))

    def fetch(self, effect: FetchSnapshot) -> None:
        """Begin to fetch what the primary offers; go on, if that is under way."""
        under_way = self.receiver
        if under_way is not None:
            if (under_way.generation, under_way.op) == (effect.generation, effect.offer.op):
                return self.fetch_more()
            self._drop(under_way)
        self.receiver = receiver = Receiver(self.storage.disk, self.storage.snapshots_path, effect.generation, effect.replica)
        self._step(lambda: receiver.begin(effect.offer))

    def on_chunk(self, sender: Member, packet: Chunk) -> None:
        """A piece of what is fetched."""
        receiver = self.receiver
        if receiver is not None and sender in (self.replica.primary, self.replica.source):
            self.replica.transfer_at = self.host.now()
            self._step(lambda: receiver.take(packet))
            self.host.stand_back()

    def fetch_more(self) -> None:
        """Ask for what is due, also for what got lost."""
        if self.receiver is not None and self.receiver.is_checking:
            # Nothing comes meanwhile, and yet it goes on: begun again for that, with a newer snapshot each time, it would never end.
            self.replica.transfer_at = self.host.now()
        self._step(lambda: False)

    def _go_on(self) -> None:
        self.goes_on = False
        self.fetch_more()

    def _step(self, step: Callable[[], bool | None]) -> None:
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
                if receiver.is_checking and not self.goes_on:
                    self.goes_on = True  # in the loop's next turn: what is read here waits for nobody
                    self.host.soon(self._go_on)
                elif receiver.is_early(self.host.now()) and not self.goes_on:
                    self.goes_on = True
                    self.host.at(receiver.due_at, self._go_on)
                return
        except (TransferFailed, OSError) as error:
            self.host.log(f"drops the snapshot under way: {error}")
            self.receiver = None
            return self._drop(receiver)
        self.feed(Fetched(receiver.generation, receiver.op, receiver.hash))

    def _drop(self, receiver: Receiver) -> None:
        """Nothing is kept of this transfer; what cannot be removed now is when the next one begins."""
        try:
            receiver.abort()
        except OSError as error:
            self.host.log(f"what was fetched could not be removed: {error}")

    def take_fetched(self, op: int) -> str:
        """Where the snapshot lies that was fetched; it is whoever asks who puts it in place."""
        receiver, self.receiver = self.receiver, None
        assert receiver is not None and receiver.op == op, f"op {op} was not fetched"
        return receiver.path

    # --- of this replica's own ------------------------------------------------------------------------------------------------------------

    def note_applied(self, size: int) -> None:
        """A batch of so many bytes was applied. Under load a slice now and then is too little, and what is not ready keeps everybody."""
        if self.replica.status not in LIVE:
            self.host.stand_back()
        self.op_at = self.host.now()
        self.archive.note_applied(size)
        self.bytes_applied += size
        if self.bytes_applied >= SLICE_EVERY:
            self.bytes_applied = 0
            self.host.soon(self.make_ready)

    def make_ready(self) -> None:
        """What a later write should find: a file for the next proposal, the next segment of the journal a slice at a time."""
        if self.host.now() < self.calm_at:
            return
        try:
            if not self.storage.register.make_ready():
                self.storage.journal.prepare_next()
        except OSError as error:
            self.report(f"no room for the next journal segment or the next view: {error}")

    def consider_snapshot(self, *, wanted: bool = False) -> None:
        """In a quiet cluster soon after the last op; under load once a minute or when the journal has grown."""
        c, now, replica = self.settings, self.host.now(), self.replica
        op = replica.applied
        if (
            self.worker_busy
            or self._adds_nothing(op, rewrites=wanted and self.is_rotten)
            or replica.status == HALTED
            or self.storage.must_rewrite
            or self.storage.spent
            or op < replica.parent_op
        ):
            return
        quiet = now - self.op_at >= c.snapshot_quiet_ms / 1e3 and op == replica.head_op
        due = now - self.snapshot_at >= c.snapshot_every_s
        if replica.status in LIVE:
            self.host.ready_worker()  # a learner has better things to do than to import pandas
        if not (
            quiet
            or due
            or wanted
            or (self.storage.journal.bytes_since(self.storage.snapshot_op) >= c.snapshot_every_bytes and now - self.snapshot_at >= 1)
        ):
            return
        self.worker_busy, self.snapshot_at = True, now
        tip = replica.head_hash if op == replica.head_op else replica.parent_hash
        order = snapshots.make_order(
            op=op,
            hash=tip,
            replica_path=self.storage.path,
            cluster_path=self.storage.cluster_path,
            cluster=self.settings.name,
            generation=self.storage.journal.generation,
            is_quiet=quiet,
        )
        digest = replica.digest if replica.digest_op == op else None
        self.host.order_snapshot(order, lambda answer: self._on_snapshot(op, tip, order["generation"], digest, answer))

    def note_ended(self, replica: int) -> None:
        """Its link is lost. Who finds that its state differs from its primary's ends, and joins, and ends: the log decides who is right."""
        now = self.host.now()
        times = self.ended[replica] = [*self.ended.get(replica, ()), now][-ENDS:]
        is_often = len(times) == ENDS and now - times[0] < ENDS_S
        if is_often and self.replica.is_primary and not self.worker_busy and now - self.doubted_at >= DOUBT_S:
            self.doubted_at = now
            self.consider_snapshot(wanted=True)

    def look_again(self) -> None:
        """Have the newest snapshot read again when it is due: rot in what was written long ago is noticed by nothing else."""
        now = self.host.now()
        if self.worker_busy or now < self.look_at or not self.storage.snapshot_op:
            return
        self.worker_busy, self.looked_at, self.look_at = True, now, now + LOOK_S
        self.host.order_snapshot(snapshots.make_look(self.storage.snapshots_path, self.settings.name), self._on_look)

    def _on_look(self, answer: dict[str, Any]) -> None:
        self.worker_busy = False
        if self.is_over:
            return
        damage = answer.get("damage", "")
        if damage or "failed" in answer:
            self.look_at = self.host.now() + LOOK_AGAIN_S
            self.report(damage or f"the newest snapshot could not be read again: {answer['failed']}")
        if "failed" not in answer:
            is_news, self.is_rotten = bool(damage) and not self.is_rotten, bool(damage)
            self.feed(SnapshotRead(damage))
            if is_news:  # a last member stays: what it holds in memory is written again, and whoever joins can fetch that
                self.consider_snapshot(wanted=True)

    def _adds_nothing(self, op: int, *, rewrites: bool) -> bool:
        """Whether a snapshot of this op, or a newer one, is there already. One that has rotted may be made again."""
        newest = self.storage.snapshot_op
        return op < newest or (op == newest and not rewrites)

    def _on_snapshot(self, op: int, tip: bytes, generation: int, digest: int | None, answer: dict[str, Any]) -> None:
        self.worker_busy = False
        is_late = generation != self.storage.journal.generation or self._adds_nothing(op, rewrites=self.is_rotten)
        if self.is_over or "failed" in answer or is_late:
            if "failed" in answer and not self.is_over:
                self.report(f"no snapshot: {answer['failed']}")
            return
        if digest is not None and answer["digest"] != digest:
            return self.feed(SnapshotDiffered(op))
        try:
            self.storage.place(answer["path"], op, tip, self.sender.pinned(self.host.now()))
        except OSError as error:
            return self.report(f"the snapshot of op {op} could not be put in place: {error}")
        self.archive.let_go(answer["messages"])

    def _unreadable(self, sentence: str) -> None:
        """A guest has asked for what cannot be read: see what is wrong with it."""
        self.report(sentence)
        self.look_at = min(self.look_at, self.looked_at + LOOK_AGAIN_S)
