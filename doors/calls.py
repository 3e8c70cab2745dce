"""The calls of the gRPC door: what a call asks for, and what its guest is told of it. Both translators of the door.

What it is not: it parses no bytes (`doors/messages.py`), knows no stream's order (`listening.py`) and no line of calls (`exchange.py`).

    call             command (`told.py`)           the stream says, as `Server`
    SendMessage      M … s, recipient and text     Your message has been sent! · Recipient is not found! · wayne's mailbox is full
    CreateAccount    M … c                         Account wayne has been created! · Account wayne already exists!
    LogIn            M … i                         You have been successfully logged in!
    LogOut           M … o                         You have been successfully logged out!, and ends
    DeleteAccount    M … d                         Your account has been deleted!, and ends
    WildCard         M … w, pattern                Account matched: wayne,mason · Account matched to: w.* doesn't exist
    Acknowledge      M … k, id                     nothing
    History          L, then T (a query), then O   nothing: the response holds it
                     any in the name of nobody     Account wayne is not found!

What can never be done is refused at once, by a status and a sentence: a name that cannot be one, a text with control characters. So is
what needs a password and lacks it: whoever does not know it hears nothing of that account's stream.

Read next: `told.py`, `doors/messages.py`.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

from commands import (
    ACT,
    HISTORY,
    HISTORY_MAX,
    LIST,
    LOG_IN,
    NAME_MAX,
    PATTERN_MAX,
    TEXT_MAX,
    Passwords,
    Refusal,
    account_id,
    is_name,
    is_password,
)
from doors.contract import Silent
from doors.lines import has_controls

if TYPE_CHECKING:
    from doors.contract import Guest

REQUEST = re.compile(r"[!-{}~]{0,64}")  # printable, no bar
NOBODY = "-"  # a name that no account can have, for recipients that no account can be
SERVER = "Server"  # who says the words
HEARS = ("understudy", "hears")  # metadata in front of a stream, sent as soon as it misses nothing any more
ENDS = frozenset("od")  # words behind which a stream ends
MATCH = "w"  # the word whose sentence must be asked for

# Statuses, as gRPC calls them.
INVALID_ARGUMENT, RESOURCE_EXHAUSTED, UNAUTHENTICATED, UNAVAILABLE = (
    "INVALID_ARGUMENT",
    "RESOURCE_EXHAUSTED",
    "UNAUTHENTICATED",
    "UNAVAILABLE",
)


class Refused(Exception):
    """A call that is not done: its status, and why, for people."""

    def __init__(self, status: str, why: str) -> None:
        super().__init__(why)
        self.status, self.why = status, why


class Asked(NamedTuple):
    """What a call asks for: a command that lacks the proof at its end."""

    command: str
    name: str
    passwords: Passwords = Passwords()


HISTORY_COUNT = 20  # messages of a page whose asker does not say how many: a screen
ID_MAX = (1 << 63) - 1  # of a message: no cluster writes so many
BAD_PAGE = f"a page has up to {HISTORY_MAX} messages, and begins before an id below 2**63"
BAD_NAME = f"a name has 1 to {NAME_MAX} characters, none of them white space, a control character, | or ,"
BAD_TEXT = f"a text has 1 to {TEXT_MAX} bytes, no line breaks and no control characters but TAB"
BAD_PATTERN = f"a pattern has up to {PATTERN_MAX} characters, and no control characters"
BAD_REQUEST_ID = "a request_id has up to 64 printable ASCII characters, and no |"
BAD_PASSWORD = "a password has 1 to 1024 bytes and no control characters"


# --- in -----------------------------------------------------------------------------------------------------------------------------------


def call(verb: str, name: str, rest: str = "", *, thread: int = 0, request: str = "", password: str = "") -> Asked:
    """This verb in this name. Raises Refused."""
    if not is_name(name):
        raise Refused(INVALID_ARGUMENT, BAD_NAME)
    if request and not REQUEST.fullmatch(request):
        raise Refused(INVALID_ARGUMENT, BAD_REQUEST_ID)
    command = f"{ACT}|{name}|{verb}|{thread or ''}|{request}|{rest}"
    if not password:
        return Asked(command, name)
    if not is_password(password):
        raise Refused(INVALID_ARGUMENT, BAD_PASSWORD)
    return Asked(command, name, Passwords(new=password) if verb == "c" else Passwords(old=password))


def send(name: str, whom: str, text: str, thread: int, request: str, password: str) -> Asked:
    """A text. Raises Refused."""
    raw = text.encode()
    if not raw or len(raw) > TEXT_MAX or has_controls(raw):
        raise Refused(INVALID_ARGUMENT, BAD_TEXT)
    if not _may_be_somebody(whom):
        whom = NOBODY
    return call("s", name, f"{whom}|{text}", thread=thread, request=request, password=password)


def _may_be_somebody(whom: str) -> bool:
    return is_name(whom) or is_name(whom.removesuffix(account_id("")))


def match(name: str, pattern: str, request: str, password: str) -> Asked:
    """Which accounts there are. Raises Refused."""
    if len(pattern) > PATTERN_MAX or has_controls(pattern.encode()):
        raise Refused(INVALID_ARGUMENT, BAD_PATTERN)
    return call(MATCH, name, pattern, request=request, password=password)


def listen(name: str, password: str) -> tuple[str, Passwords | None]:
    """A stream for this name: the command by which it comes in. Raises Refused."""
    if not is_name(name):
        raise Refused(INVALID_ARGUMENT, BAD_NAME)
    if password and not is_password(password):
        raise Refused(INVALID_ARGUMENT, BAD_PASSWORD)
    return f"{LOG_IN}|{account_id(name)}", Passwords(old=password) if password else None


def look_back(name: str, whom: str, before: int, count: int, password: str) -> Asked:
    """A page of a conversation: the query, and the password for coming in before. Raises Refused."""
    if not is_name(name) or not _may_be_somebody(whom):
        raise Refused(INVALID_ARGUMENT, BAD_NAME)
    if password and not is_password(password):
        raise Refused(INVALID_ARGUMENT, BAD_PASSWORD)
    if count > HISTORY_MAX or before > ID_MAX:
        raise Refused(INVALID_ARGUMENT, BAD_PAGE)
    return Asked(f"{HISTORY}|{whom}|{before}|{count or HISTORY_COUNT}", name, Passwords(old=password))


def listing(word: str) -> str:
    """The query for the sentence of a `w`."""
    return f"{LIST}|{word[1:]}" if len(word) > 1 else LIST


# --- out ----------------------------------------------------------------------------------------------------------------------------------


def sentence(word: str, name: str, matched: str = "") -> str:
    """A word as the stream says it; `matched`: the answer to its query."""
    if word[0] == MATCH:
        names = matched.partition("|")[2]
        return f"Account matched: {names}" if names else f"Account matched to: {word[1:]} doesn't exist"
    return SENTENCES[word[0]].format(word[1:] or name)


SENTENCES = {
    "c": "Account {} has been created!",
    "t": "Account {} already exists!",
    "i": "You have been successfully logged in!",
    "o": "You have been successfully logged out!",
    "d": "Your account has been deleted!",
    "s": "Your message has been sent!",
    "n": "Recipient is not found!",
    "f": "{}'s mailbox is full",
    "u": "Account {} is not found!",
}


def refused(reply: str, name: str) -> Refused:
    """The status of a reply that is a refusal."""
    kind, _, rest = reply.partition("|")
    if kind == Refusal.NAME_TAKEN:
        return Refused("ALREADY_EXISTS", sentence("t", name))
    if kind == Refusal.TOO_MANY:
        return Refused(RESOURCE_EXHAUSTED, f"too many attempts for {name}: try again in {rest} s")
    status, why = STATUSES.get(kind, (UNAVAILABLE, "nobody knows whether this was done; with a request_id it can be asked again"))
    return Refused(status, why.format(name))


STATUSES = {
    Refusal.WRONG_PASSWORD: (UNAUTHENTICATED, "wrong password for {}"),
    Refusal.NOT_LOGGED_IN: (UNAUTHENTICATED, "wrong password for {}"),
    Refusal.NEEDS_PASSWORD: (INVALID_ARGUMENT, "an account needs a password here"),
    Refusal.BUSY: (RESOURCE_EXHAUSTED, "too many passwords are being checked: try again in a moment"),
    Refusal.BLOCKED: ("PERMISSION_DENIED", "{} is blocked"),
    Refusal.READ_ONLY: (UNAVAILABLE, "the disk of the last replica takes nothing new: this was not done"),
    Refusal.NO_SUCH_ACCOUNT: ("NOT_FOUND", "there is no such account"),
    Refusal.NO_HISTORY: ("NOT_FOUND", "there is no history of accounts that an earlier version has made"),
    Refusal.UNREADABLE: (UNAVAILABLE, "the history cannot be read here and now"),
    Refusal.INVALID: (INVALID_ARGUMENT, "this id has not been given to anything yet"),
}


# --- the two translators ------------------------------------------------------------------------------------------------------------------

Done = Callable[[str, str], None]  # command as it was done, and its reply; a reply of "": nobody knows


class CallTranslator(Silent):
    """A line of calls of any guests: each is answered in its turn."""

    def __init__(self, guest: Guest) -> None:
        super().__init__(guest)
        self.waiting: deque[Done] = deque()

    def ask(self, command: str, passwords: Passwords | None, done: Done) -> None:
        """A call whose proof is at its end, or is to be made of these."""
        self.waiting.append(done)
        self.guest.ask(command, passwords=passwords)

    def render(self, number: int, command: str, reply: str) -> bytes:
        self.waiting.popleft()(command, reply)
        return b""

    def cut(self) -> None:
        """Nobody will be answered any more."""
        waiting, self.waiting = self.waiting, deque()
        for done in waiting:
            done("", "")


class Hearing(Protocol):
    """What a stream's translator asks of its connection (`listening.Listener`)."""

    def take_reply(self, command: str, reply: str) -> None: ...


class StreamTranslator(Silent):
    """A stream: what it asks is its connection's own affair."""

    listens = True

    def render(self, number: int, command: str, reply: str) -> bytes:
        cast("Hearing", self.guest).take_reply(command, reply)
        return b""

    def shows_waiting(self) -> bool:
        return True

    def farewell(self) -> str:
        return f"{self.guest.account} has logged out of the system"
