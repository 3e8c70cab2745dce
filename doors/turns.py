"""Turns: guests of a replica who have said more at once than their share, and wait with the rest.

What it is not: it knows no guest and no byte; how much a share is says the door (`Translator.share`).

    a turn of the loop    one of them goes on, and all whose few commands come meanwhile are heard

Read next: `doors/stream.py`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable


class Turns:
    """Guests who have said more than their share. `soon`: call this in the loop's next turn."""

    def __init__(self, soon: Callable[[Callable[[], None]], object]) -> None:
        self.soon = soon
        self.waiting: deque[Callable[[], None]] = deque()

    def wait(self, go_on: Callable[[], None]) -> None:
        """Another share, once all who wait already have had theirs."""
        self.waiting.append(go_on)
        if len(self.waiting) == 1:
            self.soon(self._next)

    def _next(self) -> None:
        self.waiting[0]()
        self.waiting.popleft()
        if self.waiting:
            self.soon(self._next)
