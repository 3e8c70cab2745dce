"""A desk with a state behind it and nothing between: what leaves the desk is applied when the test says so.

What it is not: there is no socket (`Paper` is a shell that writes into memory), no replication and no clock.

Read next: `tests/test_desk.py`, `tests/doors/test_pipe.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from batches import BATCH_MAX
from commands import count_ops, system_run
from connection import Connection
from desk import Desk
from doors import Shell
from history import Archive
from listening import Listener
from passwords import Hasher
from people import Outcome
from state import ChatState
from tests.ram_disk import RamDisk

QUICK = Hasher(time_cost=1, memory_kib=8)
NOW = 1_700_000_000_000_000


def _nothing() -> None:
    """What is there to be done before a callback that only waits."""


class Paper(Shell):
    """A shell that writes into memory."""

    def __init__(self) -> None:
        self.words = b""
        self.closed: str | None = None
        self.paused = False
        self.drained = True
        self.address, self.peer = "127.0.0.1", "127.0.0.1 : 49032"

    def write(self, words: bytes) -> None:
        if self.closed is None:
            self.words += words

    def close(self, why: str) -> None:
        if self.closed is None:
            self.closed = why

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def is_drained(self) -> bool:
        return self.drained


class Log:
    """What all desks of a cluster send runs to; every state applies it."""

    def __init__(self) -> None:
        self.desks: list[FrontDesk] = []
        self.op, self.time = 0, NOW

    def commit(self, body: bytes) -> None:
        count = count_ops(body)
        self.time += 1000
        for desk in self.desks:
            outcome: Outcome = desk.state.apply(self.op + 1, count, self.time, body)
            desk.desk.applied(outcome)
        self.op += count


class FrontDesk:
    """One replica's desk. `turn` is one turn of the server's loop at a primary."""

    def __init__(self, log: Log | None = None, place: str = "0.7", *, watched: bool = True, is_strict: bool = False) -> None:
        self.log = log or Log()
        self.state = ChatState()
        self.state.history = []
        self.console: list[str] = []
        self.complaints: list[str] = []
        self.pokes = 0
        self.sessions = 0
        self.time = 1000.0
        self.works: list[tuple[float, Callable[[], Any], Callable[[Any], None]]] = []  # done in the next turn
        self.archive = Archive(
            RamDisk(),
            "snapshots",
            "dormitory",
            read=lambda *work: self.works.append(work),
            want=lambda: self.complaints.append("a snapshot is wanted"),
            report=self.complaints.append,
        )
        self.desk = Desk(
            place,
            self.state,
            poke=self._poke,
            hasten=_nothing,
            now=lambda: self.time,
            dice=self._dice,
            work=lambda *work: self.works.append(work),
            soon=lambda callback: self.later(0.0, callback),
            later=self.later,
            archive=self.archive,
            hasher=QUICK,
            describe_cluster=lambda door: b'{"cluster":"dormitory"}',
            console=self.console.append if watched else None,
            is_strict=is_strict,
        )
        self.log.desks.append(self)

    def _poke(self) -> None:
        self.pokes += 1

    def later(self, after: float, callback: Callable[[], None]) -> None:
        """In a turn to come."""
        self.works.append((after, _nothing, lambda _: callback()))

    def pass_by(self) -> None:
        """Nothing comes from anywhere: what was put off is done, and no password hashed."""
        due = [(after, done) for after, job, done in self.works if job is _nothing]
        self.works = [work for work in self.works if work[1] is not _nothing]
        for after, done in due:
            self.time += after
            done(None)

    def _dice(self, size: int) -> bytes:
        assert size == 16, "a session or a salt"
        self.sessions += 1
        return self.desk.place.encode().ljust(8, b".") + self.sessions.to_bytes(8, "big")

    def connect(self, door: str = "pipe") -> Person:
        return Person(self, door)

    def turn(self, *, limit: int = BATCH_MAX) -> int:
        """Commit what is open and answer the queries; again until nothing is left. How many batches it took."""
        batches = 0
        desk = self.desk
        while desk.open_runs or desk.queries or self.works:
            works, self.works = self.works, []
            for after, job, done in works:
                self.time += after
                done(job())
            if desk.open_runs:
                self.log.commit(desk.take(limit))
                batches += 1
            for ticket, (connection, query) in list(desk.queries.items()):
                desk.answer(ticket, desk.evaluate(connection.session, query.command))
        self._assert_all_is_shown()
        return batches

    def _assert_all_is_shown(self) -> None:
        """Whoever has the answers to all that the log has done for it has been shown all that waits for it."""
        for name, watchers in self.desk.watching.items():
            for one in watchers:
                session = self.state.sessions.get(one.session)
                if session is not None and session.last <= one.told and not isinstance(one, Listener):
                    left = tuple(self.state.undelivered(name, one.account_number, one.shown))
                    assert not left, f"{one.account} at the {one.door} door is not shown {left}"

    def new_view(self, members: str) -> None:
        self.desk.renew(system_run(f"members|{members}"))


class Person:
    """A guest at a door."""

    def __init__(self, front: FrontDesk, door: str = "pipe") -> None:
        self.front, self.paper = front, Paper()
        self.connection: Connection = front.desk.welcome(self.paper, door)

    def send(self, words: bytes) -> bool:
        """Bytes, and no turn of the loop."""
        return self.connection.feed(words)

    def say(self, words: bytes | str) -> bytes:
        """Bytes, a turn of the loop, silence, another turn: all that this person has read since it was last asked."""
        self.send(words.encode() if isinstance(words, str) else words)
        self.front.turn()
        self.connection.quiet()
        self.front.turn()
        if self.paper.closed is not None:
            self.leave()
        return self.read()

    def read(self) -> bytes:
        words, self.paper.words = self.paper.words, b""
        return words

    def leave(self) -> None:
        self.connection.lost()
        self.front.turn()

    def sent_runs(self) -> Iterable[bytes]:
        return [item.image for item in self.connection.line if hasattr(item, "image")]
