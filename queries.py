"""Queries: what guests ask that the log need not know. They are evaluated together, and their answers wait for one look at the guard.

What it is not: it looks at no guard and sends nothing; `server.py` evaluates in its turn and gives the answers when its core says so.

    asked by guests of this replica    desk         unasked ──▶ evaluated ──▶ guarded under a number ──▶ given
    asked by guests of others          ForwardQuery ─┘                                  a new view ──▶ dropped, and asked again

Invariants:
- A query is evaluated once in a view, on a state that holds everything acknowledged before it was asked.
- Answers leave in the order of their numbers, and only if the guard held after they were evaluated.

Read next: `server.py`.
"""

from __future__ import annotations

from desk import Desk
from packets import ForwardQuery

Answer = tuple[int, int, str]  # replica whose guest asked, its ticket, words


class Queries:
    """Those of one replica while it leads."""

    def __init__(self, me: int, desk: Desk) -> None:
        self.me, self.desk = me, desk
        self.asked: list[tuple[int, ForwardQuery]] = []  # by other replicas' guests
        self.guarded: dict[int, list[Answer]] = {}
        self.number = 0

    @property
    def wait(self) -> bool:
        """Whether there is anything to evaluate."""
        return bool(self.asked) or self.desk.has_unasked

    def evaluate(self) -> int:
        """Evaluate all that wait; the number under which their answers wait for the guard."""
        evaluate = self.desk.evaluate
        answers = [(self.me, ticket, evaluate(session, command)) for ticket, session, command in self.desk.unasked()]
        answers += [(replica, query.ticket, evaluate(query.session, query.command)) for replica, query in self.asked]
        self.asked.clear()
        self.number += 1
        self.guarded[self.number] = answers
        return self.number

    def take(self, number: int) -> list[Answer]:
        """The answers under this number and all below it."""
        return [answer for n in sorted(self.guarded) if n <= number for answer in self.guarded.pop(n)]

    def forget(self, asker: int) -> None:
        """Its link is gone. It asks again when there is one; another incarnation counts its tickets anew."""
        self.asked = [(replica, query) for replica, query in self.asked if replica != asker]
        self.guarded = {n: [a for a in answers if a[0] != asker] for n, answers in self.guarded.items()}

    def clear(self) -> None:
        """The view has changed: whoever asked asks again."""
        self.asked.clear()
        self.guarded.clear()
