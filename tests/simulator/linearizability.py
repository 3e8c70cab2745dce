"""Is there an order in which these operations could have happened one by one? Wing & Gong's search with Lowe's memo.

What it is not: it knows no chat. The sequential specification is a function `step`; whoever calls (`blind.py`) brings it.

    event list      call and return of every operation, by time, as a list from which both can be taken out and put back
    a step          take the first operation that was called and has not returned, if `step` allows it in the present state;
                    begin again at the front
    a dead end      a return is reached whose operation was not taken yet: put the last one back, try what comes after it
    memo            (set of operations taken, state): a second way to the same place leads nowhere new
    at once         what only looks at the state may as well be taken now as later, if it is allowed now: nothing else is tried instead

An operation whose outcome nobody knows (`returned` is None) may be taken at any time after its call, or never.

Sources: Wing & Gong, "Testing and Verifying Concurrent Objects" (1993); Lowe, "Testing for linearizability" (2016), for the memo.

Read next: `blind.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, NamedTuple

OK, ILLEGAL, UNDECIDED = "ok", "illegal", "undecided"
TRIES_MAX = 2_000_000  # looks at an event; a history that needs more is not judged, and whoever asked must not count it as good

Step = Callable[[Any, Any, Any], Iterable[Any]]  # state, asked, outcome (None: unknown) -> the states that may follow; none: not allowed


class Operation(NamedTuple):
    """What somebody did, as seen from outside."""

    called: float
    returned: float | None
    asked: Any
    outcome: Any


class Verdict(NamedTuple):
    """`order`: indices of the operations in the order found, or the longest that was."""

    result: str
    order: list[int]


class _Events:
    """Calls and returns by time; what is taken out is put back in reverse order."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        marks = [(o.called, 0, i) for i, o in enumerate(operations)]
        marks += [(math.inf if o.returned is None else o.returned, 1, i) for i, o in enumerate(operations)]
        marks.sort()
        self.kinds = [0, *(kind for _, kind, _ in marks), 1]  # the end is passed by as little as a return
        self.operations = [0, *(i for _, _, i in marks)]
        self.after = list(range(1, len(marks) + 2))
        self.before = list(range(-1, len(marks) + 1))
        self.call_at, self.return_at = [0] * len(operations), [0] * len(operations)
        for place, (_, kind, i) in enumerate(marks, 1):
            (self.return_at if kind else self.call_at)[i] = place

    def take(self, operation: int) -> None:
        for place in (self.call_at[operation], self.return_at[operation]):
            self.after[self.before[place]] = self.after[place]
            self.before[self.after[place]] = self.before[place]

    def put_back(self, operation: int) -> None:
        for place in (self.return_at[operation], self.call_at[operation]):
            self.after[self.before[place]] = place
            self.before[self.after[place]] = place


def check(
    operations: Sequence[Operation],
    first: Hashable,
    step: Step,
    tries: int = TRIES_MAX,
    *,
    is_look: Callable[[Operation], bool] = lambda operation: False,
) -> Verdict:
    """Search for an order. States must be hashable. `is_look`: where this leaves the state as it is, it helps nobody to take it later."""
    events = _Events(operations)
    left = sum(o.returned is not None for o in operations)
    taken, state = 0, first
    seen: set[tuple[int, Hashable]] = {(0, first)}
    path: list[tuple[int, Hashable, int]] = []  # operation, the state before it, which of its next states was tried; -1: taken at once
    longest: list[int] = []
    kinds, after, of = events.kinds, events.after, events.operations
    looks = [is_look(o) for o in operations]
    place, branch = after[0], 0
    for _ in range(tries):
        if not left:
            return Verdict(OK, [i for i, _, _ in path])
        is_dead = bool(kinds[place])  # a return whose operation should have been taken before, or the end
        if not is_dead:
            i = of[place]
            _, _, asked, outcome = operations[i]
            states = tuple(step(state, asked, outcome))
            found = _first_new(states, branch, taken | 1 << i, seen) if states else None
            is_dead = found is None and looks[i] and states == (state,)
        if is_dead:
            if len(path) > len(longest):
                longest = [i for i, _, _ in path]
            branch = -1
            while branch < 0:
                if not path:
                    return Verdict(ILLEGAL, longest)
                i, state, branch = path.pop()
                taken &= ~(1 << i)
                left += operations[i].returned is not None
                events.put_back(i)
            place, branch = events.call_at[i], branch + 1
        elif found is None:
            place, branch = after[place], 0
        else:
            path.append((i, state, -1 if looks[i] and found[1] == state else found[0]))
            taken, state = taken | 1 << i, found[1]
            left -= operations[i].returned is not None
            events.take(i)
            place, branch = after[0], 0
    return Verdict(UNDECIDED, max(longest, [i for i, _, _ in path], key=len))


def _first_new(states: tuple[Any, ...], branch: int, taken: int, seen: set[tuple[int, Hashable]]) -> tuple[int, Any] | None:
    """The first of these states, from `branch` on, in which nobody has been with the same operations taken."""
    for index in range(branch, len(states)):
        key = (taken, states[index])
        if key not in seen:
            seen.add(key)
            return index, states[index]
    return None
