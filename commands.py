"""The language: what a guest may ask of the chat, and what the chat may answer.

What it is not: it knows no wire protocol (doors translate into it), no replica and no file.

A **command** is one line of text: a letter, then its fields behind `|`. A name never holds `|`; a text may, and stands last.

    letter  fields                  asks for
    C       name [| hash]           CreateAccount
    L       account id [| proof [| hash]]   LogIn; a hash: of the same password, made anew
    N       name or account id, and as L    LogIn
    O                               LogOut
    S       recipient | text        SendMessage
    R       account id [| own]      ReadMailbox
    D       account id [| proof]    DeleteAccount
    H       account id | proof | hash       ChangePassword
    P       account id | amount [| own]     PayIn
    X       account id | amount [| own]     TakeOut
    E       account id | proof      EraseAccount: of the session's own account, with its mail
    J       session                 log in as the account of that session, which is at home at the same replica; only doors ask so
    Z       what | name [| hash]    operators: `block`, `unblock`, `remove`, `reset` (to the password with this hash)
    G       name                    come into the room
    V       text                    speak in the room
    U                               go out of the room
    M       name | verb | thread | request | rest | proof   a call in the name of an account, and the words it is told of it (`told.py`)
    F       name | position         all that this name was told, and all its messages, up to this position have been shown
    A       [pattern]               ListAccounts   a query: read, never logged
    W                               ListPresent    a query: read, never logged
    B       account id [| own]      Balance        a query: read, never logged
    Y                               ListAccounts, hidden ones too; only who is logged in   a query
    I       anything                whether the session is logged in   a query
    T       name or id | before | count     History: what the session's own account and that name have written to each other, the newest
                                    `count` messages below the id `before` (0: below none)   a query
    K       name or id | address    an account's hash, and how long an attempt must wait   a query of doors, never of a guest

A **hash** is what `passwords.py` makes of a password; no password stands in a command. A **proof** is the hash that the password was right
for, when it was checked at a door; `-`: it was wrong, or there was none where there must be one; `own`: only who is logged in to the
account may (in a cluster without open accounts); empty: nothing was to be proved.

A **reply** is one short text: a lower-case letter and fields, or `!` and the name of a refusal (see `Refusal`).

    c | name                created          l | name | seq | number   logged in; seq: its newest message, number: op of its creation
    o                       logged out       d                   deleted
    p [| recipient]         sent; the recipient is online now    (recipient: only when it was addressed by its account id)
    m [| recipient]         sent; it waits in the mailbox
    g | name | seq          in the room; seq: its newest line          v                   said          u         out
    b | balance             in the smallest unit, after the command
    i                       the session is logged in
    h                       the password is changed          z | name            done, for an operator
    y | time                a call is done and told, or was before: when, in microseconds; for `F`: the position
    r | name | seq|sender|text ⏎ …           the undelivered messages, oldest first; nothing behind name| when there are none
    t | name | anew | older | id|time|sender|text ⏎ …      a conversation, oldest first; up to the id `anew` it was with an earlier account
                            of that name; `older`: ask on before this id; 0: there is nothing older

A **run** is what a door puts into the open batch: commands of one session with consecutive request numbers, or one system command.
A batch's body is a chain of runs; no object exists per command between the door and `apply`.

    offset  size  field     meaning
    0       1     kind      b"R" commands of a session · b"S" system commands (session is all zero)
    1       4     length    bytes of the lines that follow the header
    5       4     count     number of lines, one op each
    9       16    session   session id
    25      8     first     request number of the first line
    33      8     low       no older reply is needed any more
    41      4     skip      request numbers directly before `first` that were queries and never entered the log
    45            lines     UTF-8, joined by ⏎

System commands are lines too, one of

    open|SESSION|HOME|KIND      the guest's connection HOME now holds this session; KIND is `numbered`, `resumed` or `plain`;
                                with `-deaf` behind it nothing is pushed to it, and its account is not here because of it
    close|SESSION|HOME          that connection is gone
    ack|NAME|NUMBER|ABOVE|UPTO  messages above ABOVE up to UPTO of the account NAME that was created at op NUMBER have reached their guest
    members|REPLICA.INC,…       first command of each view: connections of all other replicas are gone
    begin|NAME|HASH|…           the first accounts, hidden until they are used; only as op 2, behind the first `members`
    expire|                     sessions that nobody used for `SESSION_LIFE_US` are forgotten; who was gone for too long leaves the room

Read next: `doors/pipe.py` (who makes runs), `state.py` (who obeys them).
"""

from __future__ import annotations

import struct
import unicodedata
from typing import Final, NamedTuple

NAME_MAX = 32  # code points; a name must fit one line of any client
TEXT_MAX = 64 * 1024  # bytes of UTF-8; a batch of one such text still is far below BATCH_MAX
PATTERN_MAX = 256  # characters; RE2 compiles it within its memory limit
MAILBOX_MAX = 100_000  # undelivered messages of one account; beyond it the sender is told
READ_MAX = 256 * 1024  # bytes of texts one ReadMailbox returns: its reply is kept in the session table; the rest waits for the next
HISTORY_MAX = 1_000  # messages one History returns, and at most READ_MAX bytes of texts
WINDOW = 1024  # unanswered requests of one session; then its socket is not read
AMOUNT_MAX = (1 << 63) - 1  # of one payment, and of a balance: what other languages' whole numbers hold
SESSION_MAX = 100_000  # sessions kept; beyond it the one that has been gone longest is forgotten
SESSION_LIFE_US = 7 * 24 * 3600 * 1_000_000  # microseconds a session is kept after its last request
ID_SUFFIX = "123"  # account id = name + this, known to clients for years
ID_MAX = NAME_MAX + len(ID_SUFFIX)  # code points
PASSWORD_MAX = 1024  # bytes; more is work for us and no help for anybody
RESERVED = frozenset({"server", "-"})  # folded names nobody may take: one door speaks as `Server`, and `-` says that nobody is logged in

RUN = struct.Struct("<cII16sQQI")
COMMANDS, SYSTEM = b"R", b"S"
NO_SESSION = bytes(16)

CREATE, LOG_IN, LOG_OUT, SEND, READ, DELETE, LIST, PRESENT = "CLOSRDAW"
LOG_IN_BY_EITHER, PAY_IN, TAKE_OUT, BALANCE = "NPXB"
SECRET, CHANGE_PASSWORD, OPERATE = "KHZ"
ERASE, JOIN, LIST_ALL, WHO_AM_I = "EJYI"
HISTORY = "T"
COME_IN, SPEAK, GO_OUT = "GVU"
ACT, HEARD = "MF"
QUERIES = frozenset({LIST, LIST_ALL, PRESENT, BALANCE, SECRET, WHO_AM_I, HISTORY})
WRONG, OWN = "-", "own"  # proofs, see above
STRICT = {CREATE: WRONG, LOG_IN: WRONG, LOG_IN_BY_EITHER: WRONG, READ: OWN, DELETE: OWN, PAY_IN: OWN, TAKE_OUT: OWN, BALANCE: OWN}
NOT_AS_IT_IS = frozenset({*QUERIES, *STRICT, CHANGE_PASSWORD, ERASE, OPERATE, ACT})  # letters that a connection must look at twice

ONLINE, WAITING = "p", "m"


class Refusal:
    """Named noes, the same on every replica: values, not exceptions."""

    NAME_TAKEN: Final = "!NAME_TAKEN"
    NO_SUCH_ACCOUNT: Final = "!NO_SUCH_ACCOUNT"
    NOT_LOGGED_IN: Final = "!NOT_LOGGED_IN"
    WRONG_PASSWORD: Final = "!WRONG_PASSWORD"
    TOO_MANY: Final = "!TOO_MANY"  # attempts, and the seconds to wait
    BUSY: Final = "!BUSY"  # so many passwords wait to be hashed that another one would wait for long
    NEEDS_PASSWORD: Final = "!NEEDS_PASSWORD"
    BLOCKED: Final = "!BLOCKED"
    MAILBOX_FULL: Final = "!MAILBOX_FULL"
    MAILBOX_NOT_EMPTY: Final = "!MAILBOX_NOT_EMPTY"
    INSUFFICIENT: Final = "!INSUFFICIENT"  # and the balance
    BALANCE_FULL: Final = "!BALANCE_FULL"
    ROOM_FULL: Final = "!ROOM_FULL"
    INVALID: Final = "!INVALID"
    INTERNAL: Final = "!INTERNAL"
    GAP: Final = "!GAP"  # an earlier request of the session is missing
    DONE: Final = "!DONE"  # the guest said that it no longer needs this reply
    SESSION_UNKNOWN: Final = "!SESSION_UNKNOWN"
    NO_HISTORY: Final = "!NO_HISTORY"  # the account was made by a version that did not note when
    UNREADABLE: Final = "!UNREADABLE"  # the history, here and now
    READ_ONLY: Final = "!READ_ONLY"  # the last replica's disk takes no more; never enters the log


class Passwords(NamedTuple):
    """What stands beside a command until it has a proof of `old` and a hash of `new`; in no command, packet or file."""

    old: str = ""
    new: str = ""


def run(session: bytes, first: int, low: int, skip: int, lines: bytes, count: int) -> bytes:
    """Commands of one session, ready for the open batch; `lines` are encoded commands joined by a newline."""
    return RUN.pack(COMMANDS, len(lines), count, session, first, low, skip) + lines


def system_run(line: str) -> bytes:
    """One system command, ready for the open batch."""
    lines = line.encode()
    return RUN.pack(SYSTEM, len(lines), 1, NO_SESSION, 0, 0, 0) + lines


def count_ops(body: bytes) -> int:
    """How many ops a chain of runs takes. Raises ValueError where the chain is broken."""
    at = ops = 0
    while at < len(body):
        if len(body) - at < RUN.size:
            raise ValueError("a run header is cut short")
        kind, length, count, *_ = RUN.unpack_from(body, at)
        at += RUN.size + length
        if kind not in (COMMANDS, SYSTEM) or not 1 <= count <= length + 1 or at > len(body):
            raise ValueError("a run is malformed")
        ops += count
    return ops


def sessions_of(body: bytes) -> frozenset[bytes]:
    """The sessions that have commands in this chain of runs."""
    at, found = 0, set[bytes]()
    while at < len(body):
        kind, length, _, session, *_ = RUN.unpack_from(body, at)
        at += RUN.size + length
        if kind == COMMANDS:
            found.add(session)
    return frozenset(found)


def is_name(name: str) -> bool:
    """Whether an account may be called this: 1 to `NAME_MAX` code points, no `|`, `,`, white space or control character."""
    return (
        0 < len(name) <= NAME_MAX
        and "|" not in name
        and "," not in name
        and all(not c.isspace() and unicodedata.category(c) not in ("Cc", "Cs", "Cf", "Zl", "Zp") for c in name)
    )


def is_password(words: str) -> bool:
    """1 to PASSWORD_MAX bytes without control characters (or halves of characters, which have no bytes)."""
    return all(unicodedata.category(c) not in ("Cc", "Cs") for c in words) and 0 < len(words.encode()) <= PASSWORD_MAX


def fold(name: str) -> str:
    """The form in which two names count as the same (NFKC, then case folding), so that nobody can look like somebody else."""
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def account_id(name: str) -> str:
    """What a guest logs in with."""
    return name + ID_SUFFIX
