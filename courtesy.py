"""Courtesy: when a replica lets other processes have its processor first. Replicas of one host, and who talks to them, share a few.

What it is not: it makes nobody wait for anything but the processor, and knows neither batches nor views (`server.py` and `upkeep.py`, which
ask for it).

    give way      a member with little to do, for the sake of one who is waited for    never for a second after it took WAY_S
    stand back    who is no member yet, and has much to do                             a fourth of the time is kept, whoever else is there

Where other programs are busy those would keep what is given, so both have a bound.

Read next: `host.py`.
"""

from __future__ import annotations

from os import sched_yield
from time import monotonic

GIVEN = 3  # times as long as it works somebody who catches up may be kept waiting
WAY_S, KEEP_S, WAYS = 0.001, 1.0, 8  # seconds: more than any replica needs; for so long no way is given then; one in so many is measured


class Courtesy:
    """One process's."""

    def __init__(self) -> None:
        self.ways, self.keeps_until = 0, 0.0  # how often it gave way; before that moment it does to nobody, 0: it does
        self.back_at = 0.0  # when it stands back again

    def give_way(self) -> None:
        """Seldom measured, since it is done several times a message."""
        self.ways += 1
        if self.ways % WAYS:
            return None if self.keeps_until else sched_yield()
        before = monotonic()
        if before >= self.keeps_until:
            sched_yield()
            after = monotonic()  # not again to somebody who has other work: every lone message would wait for all of them
            self.keeps_until = after + KEEP_S if after - before > WAY_S else 0.0
        return None

    def stand_back(self) -> None:
        """Not again before it has worked for a third of the time it was kept waiting."""
        before = monotonic()
        if before >= self.back_at:
            sched_yield()
            after = monotonic()
            self.back_at = after + (after - before) / GIVEN
