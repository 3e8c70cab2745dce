"""What the core orders of the disk, and what becomes of an order that finds no room: it is kept, and tried again until there is some.

What it is not: it decides nothing (`survivor.py`, `majority.py`), and knows no format (`storage.py`).

    order          answer                what is written
    Persist        Persisted             batches, behind the log
    Cut            CutDone               zeros over the last batch
    SaveLogView    Saved                 the superblock
    SaveView       ViewSaved             the superblock

    the disk says        the core hears                     and then
    nothing              the answer
    it is full           DiskFailed(full=True), once        each RETRY_FULL_S again; the answer when there is room
    anything else        DiskFailed(full=False)             never again: nobody knows what is on the disk

Invariants:
- An order is answered once, by its answer or by a failure that is not for want of room.
- What is tried again had written nothing that counts.

Read next: `storage.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from disk import FULL
from events import Cut, CutDone, DiskFailed, Event, Persist, Persisted, Saved, SaveLogView, SaveView, ViewSaved
from host import Host
from storage import Storage

RETRY_FULL_S = 2.0  # seconds between two tries of an order that found no room

Order = Persist | Cut | SaveLogView | SaveView


class Errands:
    """One replica's. `feed` gives the core an event."""

    def __init__(self, host: Host, storage: Storage, replica: int, *, feed: Callable[[Event], None]) -> None:
        self.host, self.storage, self.id, self.feed = host, storage, replica, feed
        self.kept: list[Order] = []  # found no room, oldest first
        self.is_over = False

    def run(self, order: Order) -> None:
        """Carry it out, or keep it."""
        if not self._try(order):
            self.kept.append(order)
            if len(self.kept) == 1:
                self._later()

    def _try(self, order: Order, *, again: bool = False) -> bool:
        """Whether it is over and done with."""
        try:
            answer: Event = _persist(self.storage, order) if isinstance(order, Persist) else DO[type(order)](self.storage, order)
        except OSError as error:
            full = error.errno in FULL
            reason = f"the disk of replica {self.id} is full" if full else f"the disk of replica {self.id} failed: {error}"
            if not (full and again):
                self.host.log(reason)
                self.host.settle(self.feed, DiskFailed(order.generation, reason, full))
            return not full
        if again:
            self.host.log(f"the disk of replica {self.id} has room again")
        self.host.settle(self.feed, answer)
        return True

    def _later(self) -> None:
        self.host.at(self.host.now() + RETRY_FULL_S, self._again)

    def _again(self) -> None:
        if self.is_over:
            return
        while self.kept and self._try(self.kept[0], again=True):
            del self.kept[0]
        if self.kept:
            self._later()


def _persist(storage: Storage, order: Persist) -> Event:
    storage.append(order.batches)
    last = order.batches[-1]
    return Persisted(order.generation, last.op, last.hash)


def _cut(storage: Storage, order: Cut) -> Event:
    storage.cut()
    return CutDone(order.generation)


def _save_log_view(storage: Storage, order: SaveLogView) -> Event:
    storage.save_log_view(order.view, order.log_view)
    return Saved(order.generation, order.log_view)


def _save_view(storage: Storage, order: SaveView) -> Event:
    storage.save(view=order.view, began=order.began)
    return ViewSaved(order.generation, order.view)


DO: dict[type, Callable[[Storage, Any], Event]] = {
    Cut: _cut,
    SaveLogView: _save_log_view,
    SaveView: _save_view,
}
