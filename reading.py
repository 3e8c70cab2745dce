"""Reads that take long: they are worked out where the guest is, beside the loop or a slice at a time, so that nobody waits for them.

What it is not: it knows no door, and no file (`history.py`).

    the primary says    up to which op everything acknowledged before is applied, behind its guard as for any read
    this replica        waits until it has applied as much, looks at its own state at that moment, and works the answer out

    Search    accounts whose names a pattern matches     a slice of the names in each turn of the loop
    Look      what two accounts have written             beside the loop; who is asked for is settled before

Invariants:
- What is read was true at one op, between question and answer, at which the whole cluster agrees.
- Searches come one after the other: however many are asked for, a turn of the loop pays for one slice.

Read next: `waiting.py`, `history.py`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from commands import HISTORY_MAX, PATTERN_MAX, Refusal
from history import Found, Page
from waiting import Query

if TYPE_CHECKING:
    from connection import Connection

SLICE = 500  # names matched in one turn of the loop: about a millisecond


class Reading(Query):
    """A query whose answer the primary leaves to the guest's own replica."""

    __slots__ = ("is_working",)

    def __init__(self, number: int, command: str) -> None:
        super().__init__(number, command)
        self.is_working = False

    def begin(self, connection: Connection) -> None:
        """Ask how far the log is; again when the answer was lost with a view. Once it is known, it is what counts."""
        if not self.is_working:
            super().begin(connection)

    def answered(self, connection: Connection, words: str) -> None:
        """Everything up to this op was there when it was asked."""
        self.is_working = True
        connection.desk.when_applied(int(words[2:]), lambda: self.work(connection))

    def work(self, connection: Connection) -> None:
        """The state is as new as it must be."""
        raise NotImplementedError


class Search(Reading):
    """Which names does this pattern match?"""

    __slots__ = ()

    def work(self, connection: Connection) -> None:
        desk = connection.desk
        desk.searches.ask(desk.state.names, self.command[2:], lambda names: connection.take_answer(self, "a|" + ",".join(names)))


class Look(Reading):
    """What have the guest's account and this one written to each other?"""

    __slots__ = ()

    def work(self, connection: Connection) -> None:
        _, name, before, count = self.command.split("|")
        state = connection.desk.state
        session = state.sessions.get(connection.session)
        account = session.account if session is not None else None
        if account is None or account.since < 0:
            return connection.take_answer(self, Refusal.NO_HISTORY if account else Refusal.NOT_LOGGED_IN)
        other = state.accounts.get(name) or state.by_id(name)
        whom, anew = (other.name, other.since) if other is not None else (name, state.message_count)
        end = state.message_count + 1
        page = Page(account.name, whom, account.since, min(int(before) or end, end), min(int(count), HISTORY_MAX))

        def found(found: Found | None) -> None:
            if found is None:
                return connection.take_answer(self, Refusal.UNREADABLE)
            rows = "\n".join(f"{number}|{time}|{sender}|{text}" for number, time, sender, _, text in found.messages)
            connection.take_answer(self, f"t|{whom}|{anew}|{found.older}|{rows}")

        connection.desk.archive.ask(page, found)


class Searches:
    """Patterns in order. `soon`: call this in the loop's next turn."""

    def __init__(self, soon: Callable[[Callable[[], None]], None]) -> None:
        self.soon = soon
        self.waiting: deque[tuple[Callable[[], list[str]], str, Callable[[list[str]], None]]] = deque()
        self.unseen: list[str] = []  # of the first one's names, the last first
        self.matched: list[str] = []
        self.is_match: Callable[[str], bool] = bool

    def ask(self, names: Callable[[], list[str]], pattern: str, done: Callable[[list[str]], None]) -> None:
        """Match all names, as they are when its turn comes."""
        self.waiting.append((names, pattern, done))
        if len(self.waiting) == 1:
            self._begin()

    def _begin(self) -> None:
        names, pattern, _ = self.waiting[0]
        self.is_match, self.unseen, self.matched = matcher(pattern), names()[::-1], []
        self.soon(self._go_on)

    def _go_on(self) -> None:
        rest = self.unseen
        some = rest[-SLICE:]
        del rest[-SLICE:]
        self.matched += filter(self.is_match, reversed(some))
        if rest:
            return self.soon(self._go_on)
        _, _, done = self.waiting.popleft()
        matched = self.matched
        if self.waiting:
            self._begin()
        done(matched)


def matcher(pattern: str) -> Callable[[str], bool]:
    """Whether the pattern matches a whole name; RE2 is linear in time, whatever a guest sends. A pattern it refuses matches nothing."""
    import re2  # type: ignore[import-untyped]

    options = re2.Options()
    options.max_mem, options.log_errors = 8 << 20, False
    try:
        compiled = re2.compile(pattern, options) if len(pattern) <= PATTERN_MAX else None
    except (re2.error, UnicodeEncodeError):
        compiled = None
    return (lambda name: compiled.fullmatch(name) is not None) if compiled else lambda name: False


def query_of(number: int, command: str) -> Query:
    """What stands in the line for this query."""
    return READINGS.get(command[:2], Query)(number, command)


READINGS: dict[str, type[Query]] = {"A|": Search, "T|": Look}
