"""What stands in a connection's line: runs under way, reads, answers that need nobody, and requests with a password.

What it is not: it keeps no order (`connection.py` does), hashes nothing itself (`passwords.py`) and knows no door.

    Run     commands under way through the log       answered when this replica applies them
    Query   a read; asked once all before it is answered, and nothing after it is sent meanwhile
    Said    an answer that needs nobody              given when it is at the front
    Proof   a request with a password: like a read until it has become a run of one command

    a Proof, at the front of the line
        has a password to check    asks the primary for the account's hash (behind the guard, where attempts are counted)
                                   waits if it must, checks aside: the command gets the hash that was right, or WRONG
        has a password to set      hashes it aside, with salt: the command gets the hash
        then                       the command leaves as any other; `apply` compares hashes, and decides
        may not be tried now       told so. The log hears of it only if it may know another answer: `_refuse`

Invariants:
- A password is in no command, no packet and no log; it is forgotten as soon as it was hashed.
- Right, wrong and unknown cost the same work.
- While one connection waits for a hash, no other does; and no more than HASHES_MAX wait at a replica: whoever comes then is told so.

Read next: `connection.py`.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from attempts import WAIT_MAX
from commands import CHANGE_PASSWORD, CREATE, LOG_IN, LOG_IN_BY_EITHER, OPERATE, SECRET, WRONG, Passwords, Refusal, run
from passwords import SALT_SIZE

HASHES_MAX = 128  # passwords that wait or are worked on, each 20 to 40 ms of a thread: nobody waits for long to hear yes or no
REFUSED_S = 0.25  # seconds from then to its being told: nobody minds, and whoever guesses without a pause has one
GUESSES = (LOG_IN, LOG_IN_BY_EITHER, CREATE)  # `apply` looks at no account before it refuses these for want of an attempt

if TYPE_CHECKING:
    from connection import Connection
    from doors import Render


class Run:
    """Commands of one connection that travel together."""

    __slots__ = ("commands", "first", "image", "render", "sent", "skip")

    def __init__(self, first: int, skip: int, commands: list[str]) -> None:
        self.first, self.skip, self.commands = first, skip, commands
        self.image = b""  # set when it is complete
        self.render: Render | None = None  # gives all replies their words at once; None: they are given theirs one by one
        self.sent = False

    def complete(self, connection: Connection) -> None:
        """Nothing is added any more. Once more when `skip` has changed: it is as long as before."""
        before, commands = len(self.image), self.commands
        lines = "\n".join(commands).encode()
        self.image = run(connection.session, self.first, connection.low, self.skip, lines, len(commands))
        more = len(self.image) - before
        connection.bytes_unanswered += more
        connection.desk.unanswered_bytes += more


class Query:
    """A read under way; `ticket` is 0 until it was asked."""

    __slots__ = ("command", "number", "ticket")

    def __init__(self, number: int, command: str) -> None:
        self.number, self.command, self.ticket = number, command, 0

    def begin(self, connection: Connection) -> None:
        """It stands at the front of the line."""
        connection.acknowledge_written()
        self.ticket = connection.desk.query(connection, self)

    def answered(self, connection: Connection, words: str) -> None:
        """The primary has looked."""
        connection.take_answer(self, words)


class Said:
    """An answer that waits for its turn, framed. `upto`: newest request of the log that it answers, 0: none."""

    __slots__ = ("upto", "words")

    def __init__(self, words: bytes, upto: int = 0) -> None:
        self.words, self.upto = words, upto


class Proof(Query):
    """A request with a password to check (`old`), one to set (`new`), or both."""

    __slots__ = ("is_working", "new", "old", "skip", "wanted")

    def __init__(self, number: int, skip: int, wanted: str, passwords: Passwords) -> None:
        super().__init__(number, "")
        self.skip, self.wanted = skip, wanted
        self.old, self.new = passwords
        self.is_working = False

    def begin(self, connection: Connection) -> None:
        """Look the hash up; again when the answer was lost with a view. Once the work has begun, it is what counts."""
        if self.is_working:
            return
        if self._is_refused(connection):
            return
        if not self.old:
            return self._hash(connection)
        name = self.wanted.split("|")[1]
        self.command = f"{SECRET}|{name}|{connection.shell.address}"
        super().begin(connection)

    def answered(self, connection: Connection, words: str) -> None:
        """The account's hash (empty: there is none to be right about), and how long an attempt must wait."""
        _, wait, secret = words.split("|", 2)
        seconds = int(wait) / 1000
        if seconds > WAIT_MAX:
            return self._refuse(connection, f"{Refusal.TOO_MANY}:{round(seconds)}")
        self._check(connection, seconds, secret)

    def _is_refused(self, connection: Connection) -> bool:
        """Too many others are waiting. An operator is never refused."""
        is_busy = connection.desk.hashing >= HASHES_MAX and self.wanted[0] != OPERATE
        if is_busy:
            self._refuse(connection, Refusal.BUSY)
        return is_busy

    def _refuse(self, connection: Connection, why: str) -> None:
        """A moment later, so that guesses without a pause make little work; and of most refusals, which change nothing, no log hears.

        Of a session that was taken up again the request may have been done by the connection before this one, or be under way still: then
        the answer is what the log says it is. So it is where `apply` looks at something else first.
        """
        wanted, self.is_working, self.old, self.new = self.wanted, True, "", ""
        if wanted[0] == CHANGE_PASSWORD:
            wanted = wanted.removesuffix("|")
        self.command = f"{wanted}|{why}"
        is_for_the_log = connection.kind == "resumed" or wanted[0] not in GUESSES

        def answer() -> None:
            if is_for_the_log:
                connection.settle(self, self.command)
            else:
                self._decline(connection, why.replace(":", "|"))

        connection.desk.later(REFUSED_S, answer)

    def _decline(self, connection: Connection, reply: str) -> None:
        """Its number never enters the log: what is next to enter it says so, as behind a read."""
        skipped = self.skip + 1
        for item in itertools.islice(connection.line, 1, None):
            if isinstance(item, (Run, Proof)):
                item.skip += skipped
                if isinstance(item, Run):
                    item.complete(connection)
                break
        else:
            connection.skip += skipped
        connection.take_answer(self, reply)

    def _check(self, connection: Connection, wait: float, secret: str) -> None:
        if self._is_refused(connection):
            return
        desk, password = connection.desk, self.old
        hasher, self.is_working, self.old = desk.hasher, True, ""

        def done(is_right: bool) -> None:
            # an account without a password is open to everybody, who says one too, unless this cluster has no open accounts
            proof = secret if is_right else WRONG if secret or desk.is_strict else ""
            self.wanted = f"{self.wanted}|{proof}"
            if is_right and self.wanted[0] in (LOG_IN, LOG_IN_BY_EITHER) and hasher.is_outdated(secret):
                self.new = password
            if self.new and proof != WRONG:
                self._hash(connection)
            else:
                connection.settle(self, self.wanted)

        desk.hash_aside(wait, lambda: hasher.matches(secret, password), done)

    def _hash(self, connection: Connection) -> None:
        desk, password = connection.desk, self.new
        salt, self.is_working, self.new = desk.dice(SALT_SIZE), True, ""
        desk.hash_aside(0.0, lambda: desk.hasher.hash(password, salt), lambda secret: connection.settle(self, f"{self.wanted}|{secret}"))
