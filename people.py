"""Who the state remembers: accounts, the sessions of their guests, and what one batch did to both.

What it is not: it changes nothing by itself; `state.py` and the rooms beside it (`ledger.py`) do, inside `apply`.

    Account   a name, its mailbox, its balance, since which message, and how many of its guests listen now
    Session   one guest: newest request executed, the replies it may ask for again, whom it is logged in as, where it is at home
    Opened    an `open` was executed           what a batch tells
    Outcome   all that a batch did             the doors of this replica

Who listens counts as here. A session of a door that shows no messages does not listen: its kind ends in `DEAF`.

Read next: `state.py`.
"""

from __future__ import annotations

from collections import deque

DEAF = "-deaf"  # the end of the kind of a session to which nothing is pushed

Message = tuple[int, int, int, str, str]  # seq, id, time, sender, text
Written = tuple[int, int, str, str, str]  # id, time, sender, recipient, text: a message as the history has it


class Account:
    """A name, its mailbox, and how many of its guests are here. `since`: id of the newest message when it was made; -1: not known."""

    __slots__ = ("balance", "is_blocked", "last_seq", "mailbox", "name", "number", "online", "secret", "sessions", "since")

    def __init__(self, name: str, number: int, secret: str = "", last_seq: int = 0, balance: int = 0, since: int = 0) -> None:
        self.name, self.number, self.secret, self.last_seq, self.balance = name, number, secret, last_seq, balance
        self.since = since
        self.mailbox: deque[Message] | tuple[()] = ()  # most never have mail, and an empty deque takes 760 bytes
        self.sessions: dict[bytes, None] = {}
        self.online = 0
        self.is_blocked = False

    def put(self, message: Message) -> None:
        """A message comes into the mailbox, behind all others."""
        mailbox = self.mailbox
        if isinstance(mailbox, tuple):
            self.mailbox = mailbox = deque()
        mailbox.append(message)


class Session:
    """The cluster's memory of one guest (a row of the client table of VSR Revisited, section 4.1, with a window of replies)."""

    __slots__ = ("account", "gone_op", "gone_time", "home", "key", "kind", "last", "low", "replies", "room", "since")

    def __init__(self, key: bytes, kind: str) -> None:
        self.key, self.kind = key, kind
        self.last = self.low = self.gone_op = self.gone_time = 0
        self.replies: list[str] = []  # of requests low + 1 … last; empty text: the request was a query
        self.account: Account | None = None
        self.home = ""
        self.room = ""  # its name in the room, if it is in
        self.since = 0  # the room's line that said so

    @property
    def listens(self) -> bool:
        """Whether a message can be pushed to it now."""
        return bool(self.home) and not self.kind.endswith(DEAF)

    @property
    def place(self) -> str:
        """REPLICA.INC of its home."""
        return self.home.rpartition(".")[0]

    @property
    def is_plain(self) -> bool:
        """Whether nobody can come back to it."""
        return self.kind.startswith("plain")


class Opened:
    """An `open` was executed. `known` is False when a guest wanted to resume a session that is forgotten.

    `number` 0: `account` is a name in the room.
    """

    __slots__ = ("account", "home", "key", "known", "last", "number", "seq", "since")

    def __init__(self, key: bytes, home: str, session: Session | None) -> None:
        account = session.account if session else None
        self.key, self.home, self.known = key, home, session is not None
        self.last = session.last if session else 0
        self.since = 0  # what is not above it is not shown
        self.account, self.number, self.seq = "", 0, 0
        if account is not None:
            self.account, self.number, self.seq = account.name, account.number, account.last_seq
        elif session is not None and session.room:
            self.account, self.seq, self.since = session.room, session.since, session.since


class Outcome:
    """What one batch did, for the doors of this replica: replies in order, sessions opened, homes that lost theirs, mailboxes filled."""

    __slots__ = ("closed", "displaced", "expelled", "filled", "left", "opened", "orphaned", "proved", "replies")

    def __init__(self) -> None:
        self.replies: list[tuple[bytes, int, list[str]]] = []  # session, first request number, replies
        self.opened: list[Opened] = []
        self.displaced: list[str] = []
        self.closed: list[str] = []  # homes whose `close` was executed
        self.filled: set[str] = set()
        self.expelled: list[bytes] = []  # sessions that somebody else has logged out
        self.orphaned: list[bytes] = []  # sessions whose account was deleted, by whomever
        self.proved: list[str] = []  # accounts whose password somebody knows, or has set, or which are no more: no guess counts any longer
        self.left: set[str] = set()  # places whose sessions have no home any more
