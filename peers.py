"""What a replica knows of each other one, under either policy.

What it is not: it draws no conclusion; `survivor.py` and `majority.py` do.

    Peer     survivor   its link, its lock, whether it lives, could begin a view, wants to leave
    Voter    majority   its link, what it wished, said of its log, answered, acknowledged

Read next: `survivor.py`, `majority.py`.
"""

from __future__ import annotations

from packets import DoViewChange, RecoveryResponse

PROBE_FIRST = 0.002  # seconds until a lock is probed again for the first time
UNKNOWN = -1  # nobody has looked at the lock yet


class Peer:
    """What a replica under `survivor` knows of another."""

    __slots__ = (
        "back_off_until",
        "dead_inc",
        "eligible",
        "empty",
        "failed_joins",
        "heard",
        "inc",
        "leaves_view",
        "leaving",
        "linked",
        "lock",
        "log",
        "probe_at",
        "probe_wait",
        "status",
    )

    def __init__(self, now: float) -> None:
        self.inc = self.dead_inc = self.leaving = self.leaves_view = self.failed_joins = 0
        self.linked = self.eligible = self.empty = False
        self.heard = now
        self.lock: int | None = UNKNOWN
        self.log = (0, 0)  # view and op in which its log ends, as it said last
        self.probe_at, self.probe_wait = now, PROBE_FIRST
        self.back_off_until = 0.0
        self.status = ""


class Voter:
    """What a replica under `majority` knows of another."""

    __slots__ = ("acked", "answer", "heard", "inc", "linked", "log", "met", "rotten_at", "round", "wish", "wished_at")

    def __init__(self, met: int) -> None:
        self.inc = 0  # the incarnation that is linked, or was last
        self.met = met  # the newest that was ever met, also by earlier incarnations of this replica
        self.linked = False
        self.heard = 0.0
        self.acked = 0  # committed op that it has acknowledged
        self.rotten_at = float("-inf")  # when it said last that part of its snapshot has rotted
        self.forget()

    def forget(self) -> None:
        """What an earlier incarnation said counts no more."""
        self.wish, self.wished_at, self.round = 0, 0.0, 0
        self.log: DoViewChange | None = None
        self.answer: RecoveryResponse | None = None
