"""When snapshots are made, seen from outside, and what requests waited meanwhile.

What it is not: it makes none and sends nothing. It looks, again and again, at what anybody could see in the directories of a cluster:

    a snapshot is being made    somebody has the turn (`data/cluster/snapshot.turn` is locked), a folder in some `snapshots/` is unfinished
                                or set aside, or a link `csv` was turned a moment ago
    one was made                a link `csv` leads elsewhere than before

    requests    ─┬──────┬───┬────┬──      each from when it was sent to its answer; of those that lie in no Making and touch none
    makings     ────███████───███────     is said how long one waits without a snapshot, of all others how long with one

Read next: `load.py`, `scripts/growth.py`.
"""

from __future__ import annotations

import array
import os
import threading
import time
from typing import NamedTuple, Self

from disk import OsDisk
from snapshots import GONE, UNFINISHED
from tests.bench.load import Times, times_of
from tests.system.cluster import Cluster

LOOK_S = 0.01  # seconds between two looks
PLACING_S = 0.1  # seconds in which the server does what comes after the link: superblock, segments that are needed no more
WORST = 5  # requests that are told one by one


class Making(NamedTuple):
    """A stretch of time in which some replica made a snapshot: `time.monotonic` of its ends."""

    began: float
    ended: float


class Watch:
    """Looks while it is a context; `makings` and `made` tell what was seen."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.disk = cluster, OsDisk()
        self.makings: list[Making] = []
        self.made: list[tuple[int, float]] = []  # which replica's, when
        self.began = 0.0  # of what is under way; 0: nothing is
        self._ops = {i: cluster.csv_op(i) for i in cluster.ids}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(LOOK_S):
            now = time.monotonic()
            if self._is_making(now):
                self.began = self.began or now - LOOK_S
            elif self.began:
                self.makings.append(Making(self.began, now))
                self.began = 0.0
        if self.began:
            self.makings.append(Making(self.began, time.monotonic()))

    def _is_making(self, now: float) -> bool:
        for i in self.cluster.ids:
            op = self.cluster.csv_op(i)
            if op != self._ops[i]:
                self._ops[i] = op
                self.made.append((i, now))
        if self.made and now - self.made[-1][1] < PLACING_S:
            return True
        return self._is_someones_turn() or any(
            name.startswith((UNFINISHED, GONE))
            for i in self.cluster.ids
            for name in os.listdir(os.path.join(self.cluster.base, f"replica-{i}", "snapshots"))
        )

    def _is_someones_turn(self) -> bool:
        path = os.path.join(self.cluster.base, "cluster", "snapshot.turn")
        try:
            lock = self.disk.try_lock(path, shared=True)
        except FileNotFoundError:
            return False
        if lock is not None:
            self.disk.unlock(lock)
        return lock is None


class Waits(NamedTuple):
    """Of the requests without a snapshot and of those with one; `worst`: the longest of these, as (milliseconds, when it was answered)."""

    without: Times
    beside: Times
    worst: list[tuple[float, float]]


def sort_out(moments: array.array[float], seconds: array.array[float], makings: list[Making]) -> Waits:
    """Requests by when they were answered and how long that took, in the order of their answers."""
    without, beside, worst, nth = array.array("d"), array.array("d"), dict[int, tuple[float, float]](), 0
    longest = max(seconds, default=0.0)
    for moment, took in zip(moments, seconds, strict=True):
        while nth < len(makings) and makings[nth].ended < moment - longest:
            nth += 1  # nobody who is answered later was waiting then
        if any(making.began <= moment and moment - took <= making.ended for making in makings[nth:]):
            beside.append(took)
            tenth = int(moment * 10)  # whoever waited with others is told once
            worst[tenth] = max(worst.get(tenth, (0.0, 0.0)), (took * 1e3, moment))
        else:
            without.append(took)
    return Waits(times_of(without), times_of(beside), sorted(worst.values(), reverse=True)[:WORST])
