"""The exchange: calls of the gRPC door, which come singly and from anywhere, on lines of this replica's own.

What it is not: it knows no protocol (`doors/calls.py`) and no HTTP/2 (`doors/grpc_door.py`).

    a call without a password, or with one that was right before     a common line: many travel together
    a call with a password to check or to set                        a line of its own while that is worked out
    a look at a conversation                                         the same: it comes in as its account, and goes out again

A line is a guest of the desk that is nobody: each call names the account in whose name it is, and `told.py` asks it for its proof. So what
is under way is sent again when the view changes, and done once, as for any other guest.

Invariants:
- Every call is answered once: by its reply, or by "" where nobody knows what became of it.
- A password is remembered as a keyed digest alone, which ends with this process.

Read next: `connection.py`, `waiting.py` (what a proof is).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from typing import cast

from commands import LOG_IN, LOG_OUT, NO_SESSION, WINDOW, WRONG, Refusal, account_id
from connection import Connection
from desk import Desk
from doors.calls import Asked, CallTranslator
from doors.contract import Shell

COMMON_MAX = WINDOW // 2  # calls under way on a common line, half of what its session may have
TOGETHER_MAX = 64 << 10  # characters of calls in one run, which is never split
GATHER_S, GATHER_MOST_S = 0.002, 0.01  # seconds calls wait for one more caller who was answered just now, and in all
FREE_KEPT = 8  # lines that wait for the next calls; more are closed
PROOFS_MAX = 10_000  # passwords remembered as right

Answer = Callable[[str], None]  # a reply, or "": nobody knows


class LineShell(Shell):
    """Where a line's bytes would go, if it had any."""

    def __init__(self, exchange: Exchange, address: str = "") -> None:
        self.exchange = exchange
        self.address = self.peer = address
        self.connection: Connection

    def write(self, words: bytes) -> None:
        """All answers are given by calling who waits."""

    def close(self, why: str) -> None:
        """What the desk has given up is nobody's line any more."""
        self.exchange.drop(self.connection)

    def pause(self) -> None:
        """Who calls looks at `Desk.is_full` first."""

    def resume(self) -> None:
        """The same."""

    def is_drained(self) -> bool:
        return True


class Exchange:
    """The lines of one replica's door."""

    def __init__(self, desk: Desk, later: Callable[[float, Callable[[], None]], object]) -> None:
        self.desk, self.later = desk, later
        self.common: list[Connection] = []
        self.free: list[Connection] = []
        self.lines: dict[Connection, None] = {}
        self.filled: dict[Connection, int] = {}  # common lines with calls that are not sent yet: characters of them
        self.gathered = 0  # such calls
        self.returning: Counter[str] = Counter()  # by caller, calls that were answered: it will call again
        self.overdue: Counter[str] = Counter()  # the same of those for whom a run has waited in vain already: one more does
        self.stirred_at = 0.0  # when an answer was given or a call came
        self.is_waiting = False  # for those who return
        self.dropped: list[Connection] = []
        self.proofs: dict[tuple[str, bytes], str] = {}
        self.key = desk.dice(len(NO_SESSION))

    def ask(self, asked: Asked, address: str, answer: Answer, caller: str = "") -> None:
        """A call from this address; `caller`: one connection's name."""
        self._is_back(caller)
        old, new = asked.passwords
        if new:
            return self._ask_alone(asked, address, lambda command, reply: answer(reply))
        if not old:
            return self._ask_together(f"{asked.command}|{WRONG if self.desk.is_strict else ''}", lambda command, reply: answer(reply))
        key = asked.name, hashlib.blake2b(old.encode(), key=self.key, digest_size=16).digest()

        def proved(command: str, reply: str) -> None:
            proof = command.rpartition("|")[2]
            if reply.startswith("y") and proof:
                self.proofs[key] = proof
                if len(self.proofs) > PROOFS_MAX:
                    del self.proofs[next(iter(self.proofs))]
            answer(reply)

        def again(command: str, reply: str) -> None:
            if reply == Refusal.WRONG_PASSWORD:  # another hash of the same password, perhaps
                self.proofs.pop(key, None)
                return self._ask_alone(asked, address, proved)
            answer(reply)

        if key not in self.proofs:
            self._ask_alone(asked, address, proved)
        else:
            self._ask_together(f"{asked.command}|{self.proofs[key]}", again)

    def look_back(self, asked: Asked, address: str, answer: Answer, caller: str = "") -> None:
        """A page of a conversation: its own account's, so the line is logged in for as long."""
        self._is_back(caller)
        line = self._open()
        line.shell.address = address
        replies: list[str] = []

        def answered(command: str, reply: str) -> None:
            replies.append(reply)
            if len(replies) == 3:  # in, the page, out
                self._close_spare(line)
                answer(replies[0] if replies[0][:1] != "l" else replies[1])

        translator = cast(CallTranslator, line.translator)
        translator.ask(f"{LOG_IN}|{account_id(asked.name)}", asked.passwords if asked.passwords.old else None, answered)
        translator.ask(asked.command, None, answered)
        translator.ask(LOG_OUT, None, answered)
        line.flush()

    def given(self, caller: str) -> None:
        """One of its answers has gone out: it will call again."""
        self.returning[caller] += 1
        self.stirred_at = self.desk.now()

    def drop(self, line: Connection) -> None:
        """It is over; who waits is told."""
        if line in self.lines:
            del self.lines[line]
            self.dropped.append(line)
            for some in (self.common, self.free):
                if line in some:
                    some.remove(line)
            cast(CallTranslator, line.translator).cut()

    def sweep(self) -> None:
        """The desk lets go of a line once it has done with it."""
        dropped, self.dropped = self.dropped, []
        for line in dropped:
            line.lost()

    # --- lines ----------------------------------------------------------------------------------------------------------------------------

    def _open(self) -> Connection:
        if self.free:
            return self.free.pop()
        shell = LineShell(self)
        shell.connection = line = self.desk.welcome(shell, "grpc")
        self.lines[line] = None
        return line

    def _close_spare(self, line: Connection) -> None:
        """Nothing is under way on it."""
        if line not in self.lines:
            return
        if len(self.free) < FREE_KEPT:
            self.free.append(line)
        else:
            self.drop(line)

    def _ask_together(self, command: str, done: Callable[[str, str], None]) -> None:
        for line in self.common:
            if line.unanswered < COMMON_MAX:
                break
        else:
            line = self._open()
            self.common.append(line)

        cast(CallTranslator, line.translator).ask(command, None, done)
        self.filled[line] = self.filled.get(line, 0) + len(command)
        self.gathered += 1
        if self.filled[line] > TOGETHER_MAX or (self.is_waiting and not self._is_expecting):
            self._send()
        elif self.gathered == 1:
            self.desk.soon(self._gather)

    def _is_back(self, caller: str) -> None:
        self.sweep()
        now = self.desk.now()
        if now - self.stirred_at > GATHER_S:
            self._expect_nobody()
        else:
            expected = self.returning if caller in self.returning else self.overdue
            if expected[caller] > 1:
                expected[caller] -= 1
            else:
                del expected[caller]
        self.stirred_at = now

    def _expect_nobody(self) -> None:
        """They have something else to do."""
        self.returning.clear()
        self.overdue.clear()

    @property
    def _is_expecting(self) -> bool:
        return bool(self.returning or self.overdue)

    def _gather(self) -> None:
        """What came in the same turn is there. Who was answered together calls again, but gRPC takes a while for each."""
        if self.gathered and not self._is_expecting:
            self._send()
        elif self.gathered and not self.is_waiting:
            self.is_waiting = True
            self._wait(self.gathered, self.desk.now() + GATHER_MOST_S)

    def _wait(self, before: int, until: float) -> None:
        def look() -> None:
            if not self.is_waiting:
                return
            if self.gathered == before:
                self._expect_nobody()
                self._send()
            elif self.desk.now() >= until:
                self.overdue, self.returning = self.returning, Counter()
                self._send()
            else:
                self._wait(self.gathered, until)

        self.later(GATHER_S, look)

    def _send(self) -> None:
        """The calls that have gathered travel as one run."""
        filled, self.filled = self.filled, {}
        self.gathered, self.is_waiting = 0, False
        for line in filled:
            if line in self.lines:
                line.flush()

    def _ask_alone(self, asked: Asked, address: str, done: Callable[[str, str], None]) -> None:
        line = self._open()
        line.shell.address = address  # attempts are counted by where they come from

        def answered(command: str, reply: str) -> None:
            self._close_spare(line)
            done(command, reply)

        cast(CallTranslator, line.translator).ask(asked.command, asked.passwords, answered)
        line.flush()
