"""A counter in the place of the chat, in under 40 lines (`Counter`): replication knows nothing of chat, so the whole simulation passes.

What it is not: it borrows of `state.py` only the shapes in which the desk hears of sessions; no account, no mailbox, no message.

Read next: `tenants.py` (how it takes the chat's place), `ledger.py` (which counts money).
"""

from __future__ import annotations

import zlib
from typing import Any, ClassVar

from commands import COMMANDS, RUN
from people import Opened, Outcome, Session


class Seat:
    """What the desk and the loader ask of any state."""

    value: Any
    sessions: dict[bytes, Session]

    def names(self) -> list[str]:
        return [str(self.value)]

    def present(self) -> list[str]:
        return []

    def has_stale(self, time: int) -> bool:
        return False

    def session(self, word: str) -> Session:
        """The session of this key, from now on."""
        return self.sessions.setdefault(bytes.fromhex(word), Session(bytes.fromhex(word), "numbered"))

    def stored(self, session: Session, request: int) -> str:
        return session.replies[request]

    history: tuple[()] = ()  # no messages: none wait for the next snapshot
    accounts: ClassVar[dict[str, Any]] = {}  # nor are there any to whom one could be pushed

    @classmethod
    def load(cls, *given: Any) -> Any:
        return cls(*given)


class Counter(Seat):
    TABLES: ClassVar[dict[str, tuple[str, ...]]] = {"counter": ("session", "replies")}
    START: Any = 0

    def __init__(self, op: int = 0, digest: int = 0, message_count: int = 0, tables: Any = None, time: int = 0) -> None:
        self.op, self.digest, self.message_count, self.time, self.sessions = op, digest, message_count, time, dict[bytes, Session]()
        (_, value), *rows = next(iter(tables.values())) if tables else [("", self.START)]
        self.value = type(self.START)(value)
        for word, replies in rows:
            self.session(word).replies = replies.split(";")  # the first stands for request 0, which nobody makes
            self.session(word).last = replies.count(";")

    def apply(self, first_op: int, count: int, time: int, body: bytes) -> Outcome:
        out, at = Outcome(), 0
        while at < len(body):
            kind, size, _, key, first, _, skip = RUN.unpack_from(body, at)
            lines, at = body[at + RUN.size : at + RUN.size + size].decode().split("\n"), at + RUN.size + size
            word, *fields = lines[0].split("|")
            if kind == COMMANDS:
                out.replies.append((key, first, self.run(self.sessions.get(key), first, skip, lines)))
            elif word == "open":
                known = self.sessions.get(bytes.fromhex(fields[0])) if fields[2] == "resumed" else self.session(fields[0])
                out.opened.append(Opened(bytes.fromhex(fields[0]), fields[1], known))
            elif word == "close":
                out.closed.append(fields[1])
        self.op, self.time, self.digest = first_op + count - 1, time + count, zlib.crc32(repr(out.replies).encode(), self.digest)
        return out

    def run(self, session: Session | None, first: int, skip: int, lines: list[str]) -> list[str]:
        if session is None or first - skip > session.last + 1:
            return [f"!GAP|{session.last + 1}" if session else "!SESSION_UNKNOWN"] * len(lines)
        session.replies = (session.replies or [""]) + [""] * (first - 1 - session.last)
        session.replies += [self.execute(line) for line in lines[len(session.replies) - first :]]
        session.last = len(session.replies) - 1
        return session.replies[first : first + len(lines)]

    def execute(self, line: str) -> str:
        self.value += 1
        return str(self.value)

    def tables(self) -> dict[str, Any]:
        rows = [(key.hex(), ";".join(session.replies)) for key, session in sorted(self.sessions.items())]
        return {name: (columns, [("", str(self.value)), *rows]) for name, columns in self.TABLES.items()}
