"""The framed door: length and body both ways, passwords, and a second connection on which messages arrive.

What it is not: it pairs nobody (`relays.py`) and checks no password; the text of a message goes out as it came in.

    a frame     ten bytes: the body's length in decimal, blanks behind it; then the body, UTF-8: CODE⏎FIELD⏎FIELD

    code                    command                            code                    command
    1⏎USER⏎PASSWORD         LogIn                              4⏎                      ListAccounts, hidden ones too
    3⏎USER⏎PASSWORD         CreateAccount                      5⏎USER⏎PASSWORD         EraseAccount, with its mail
    2⏎RECIPIENT⏎TEXT        SendMessage                        -1⏎                     LogOut

    the relay's one frame   its user's name, no code; then only `0⏎sender:text` frames to the guest

Whether a guest is logged in is known to the log alone: what it may not do before is refused there, in its turn.

Read next: `relays.py`, `doors/__init__.py`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from commands import (
    CREATE,
    ERASE,
    ID_MAX,
    LIST_ALL,
    LOG_IN,
    LOG_OUT,
    NAME_MAX,
    ONLINE,
    SEND,
    TEXT_MAX,
    WAITING,
    WHO_AM_I,
    Passwords,
    Refusal,
    account_id,
    is_name,
    is_password,
)
from doors.contract import COMMANDS_AT_ONCE, Silent
from doors.lines import has_controls
from doors.sends import framed_sends_of

if TYPE_CHECKING:
    from doors import Guest, Message

HEADER = 10  # bytes
LENGTH = re.compile(rb"([0-9]{1,10}) *")
BODY_MAX = 80 * 1024  # bytes: the longest text and its envelope
STRANGER_MAX = 4 * 1024  # bytes of a frame before the first log-in or registration: names and passwords are not longer
CODE_SHOWN = 100  # characters of a code that is none

LF, BLANK = "\n", " "  # a command is one line: an answer that waits in it has a blank for its first line break
BAD_LOGIN = "-1\nInvalid Login, credential doesn't exist or password invalid"
NAME_USED = "-1\nThis username has been used"
BAD_NAME = f"-1\na username has 1 to {NAME_MAX} letters, no space and no , or |"
BAD_PASSWORD = "-1\na password has 1 to 1024 bytes and no control characters"
BAD_RECIPIENT = "-1\ninvalid recipient"
BAD_TEXT = "-1\na text has up to 64 KiB, and no line breaks or control characters"
BAD_DELETION = "-1\nInvalid credential, deletion failed"
NO_TEXT = "-1\na command is UTF-8"
NO_DELETION = "-1\nInvalid deletion detected"
PARTED = "-1\n{} is not logged in any more: the account was deleted or blocked, or has another password"
BUSY = "-1\ntoo many passwords are being checked: try again in a moment"
UNKNOWN = "-1\ninvalid command:"
STRANGER = "-1\nInvalid Command, you can only choose to login or register"


@lru_cache(maxsize=1024)  # lengths that are usual; any other costs a microsecond
def length_of(header: bytes) -> int:
    """Of the body behind this header; if it is no number, more than any has."""
    found = LENGTH.fullmatch(header)
    return int(found[1]) if found else BODY_MAX + 1


class Frames(Silent):
    """What both halves share: frames in, frames out; no numbers, no session of the guest's own."""

    most = BODY_MAX

    def __init__(self, guest: Guest) -> None:
        super().__init__(guest)
        self.is_fresh = True  # fewer bytes than a header have come

    def feed(self, chunk: bytes) -> bool:
        """Bytes, cut anywhere. A length is looked at before there is a byte of what it promises."""
        rest, at, bodies = self.rest + chunk, 0, list[bytes]()
        size, self.rest = len(rest), b""
        while size - at >= HEADER:
            start = at + HEADER
            end = start + length_of(rest[at:start])
            if end > start + self.most:
                self.on_frames(bodies)
                self.guest.hang_up(f"the header of a frame is {rest[at:start]!r}: no number up to {self.most}")
                return False
            if size < end:
                break
            bodies.append(rest[start:end])
            at = end
            if self.most < BODY_MAX:  # this one may say who is here, and the next one be longer
                self.on_frames(bodies)
                bodies = []
        self.rest = rest[at:]
        self.on_frames(bodies)
        return False

    def on_frames(self, bodies: list[bytes]) -> None:
        """Whole frames, or none."""
        for body in bodies:
            self.on_frame(body)

    def on_frame(self, body: bytes) -> None:
        """A whole frame."""
        raise NotImplementedError

    def share(self, chunk: bytes) -> int:
        return COMMANDS_AT_ONCE * HEADER

    def end(self) -> None:
        self.rest = b""

    def frame(self, number: int, words: bytes) -> bytes:
        return b"%-10d%s" % (len(words), words)

    def farewell(self) -> str:
        return f"{self.guest.account} has logged out of the system"


class FramedTranslator(Frames):
    """The connection for commands."""

    most = STRANGER_MAX
    hello = b"understudy"  # as long as a header

    def feed(self, chunk: bytes) -> bool:
        if self.is_fresh and (self.rest + chunk).startswith(self.hello):
            from doors.menu import MenuTranslator

            numbered = MenuTranslator(self.guest)
            self.guest.become(numbered)
            return numbered.feed(self.rest + chunk)
        self.is_fresh = self.is_fresh and len(self.rest) + len(chunk) < HEADER
        return super().feed(chunk)

    def on_frames(self, bodies: list[bytes]) -> None:
        sends = framed_sends_of(bodies) if bodies else None
        if sends is None:
            super().on_frames(bodies)
        else:
            self.guest.ask_all(sends, self.render_all)

    def on_frame(self, body: bytes) -> None:
        try:
            code, *fields = str(body, "utf-8").split("\n", 2)
        except UnicodeDecodeError:
            return self.to_a_member(NO_TEXT)
        CODES.get(code, FramedTranslator._unknown)(self, code, fields)

    def say(self, words: str) -> None:
        """An answer that needs nobody."""
        self.guest.say(words.encode())

    def to_a_member(self, words: str) -> None:
        """An answer for who is logged in; others are told to log in."""
        self.guest.ask(f"{WHO_AM_I}|{words.replace(LF, BLANK, 1)}")

    def _unknown(self, code: str, fields: list[str]) -> None:
        self.to_a_member(f"{UNKNOWN}{visible(code)}")

    def _log_in(self, code: str, fields: list[str]) -> None:
        user, password = [*fields, "", ""][:2]
        self.most = BODY_MAX
        if not is_name(user) or (password and not is_password(password)):
            self.say(BAD_LOGIN)
        else:
            self.guest.ask(f"{LOG_IN}|{account_id(user)}", passwords=Passwords(old=password) if password else None)

    def _register(self, code: str, fields: list[str]) -> None:
        user, password = [*fields, "", ""][:2]
        self.most = BODY_MAX
        if not is_name(user):
            self.say(BAD_NAME)
        elif not is_password(password):
            self.say(BAD_PASSWORD)
        else:
            self.guest.ask(f"{CREATE}|{user}", passwords=Passwords(new=password))

    def _send(self, code: str, fields: list[str]) -> None:
        whom, text = [*fields, "", ""][:2]
        if not whom or len(whom) > ID_MAX or "|" in whom or has_controls(whom.encode()):
            self.to_a_member(BAD_RECIPIENT)
        elif not text or len(text.encode()) > TEXT_MAX or has_controls(text.encode()):
            self.to_a_member(BAD_TEXT)
        else:
            self.guest.ask(f"{SEND}|{whom}|{text}")

    def _list(self, code: str, fields: list[str]) -> None:
        self.guest.ask(LIST_ALL)

    def _delete(self, code: str, fields: list[str]) -> None:
        if len(fields) < 2:
            return self.to_a_member(NO_DELETION)
        user, password = fields
        if is_name(user) and is_password(password):
            self.guest.ask(f"{ERASE}|{account_id(user)}", passwords=Passwords(old=password))
        else:
            self.to_a_member(BAD_DELETION)

    def _log_out(self, code: str, fields: list[str]) -> None:
        self.guest.ask(LOG_OUT)

    # --- words out ------------------------------------------------------------------------------------------------------------------------

    def render(self, number: int, command: str, reply: str) -> bytes:
        return self.frame(number, words_of(command, reply).encode())

    def render_all(self, first: int, commands: list[str], replies: list[str]) -> bytes:
        """The replies to sends that came together."""
        if SENT.issuperset(replies):
            return self.frame(first, DONE[WAITING].encode()) * len(replies)
        return b"".join([self.render(n, c, r) for n, (c, r) in enumerate(zip(commands, replies, strict=True), first)])


CODES = {
    "1": FramedTranslator._log_in,
    "2": FramedTranslator._send,
    "3": FramedTranslator._register,
    "4": FramedTranslator._list,
    "5": FramedTranslator._delete,
    "-1": FramedTranslator._log_out,
}
DONE = {
    "l": "0\nSuccessful Login",
    "c": "0\nSuccessful Created and logged in",
    ONLINE: "0\nSent to recipient",
    WAITING: "0\nSent to recipient",
    "d": "0\naccount deleted",
    "o": "0\nLogging out",
}
SENT = frozenset((ONLINE, WAITING))
REFUSED = {LOG_IN: BAD_LOGIN, CREATE: NAME_USED, SEND: BAD_RECIPIENT, ERASE: BAD_DELETION}


def words_of(command: str, reply: str) -> str:
    """The body that answers this command."""
    kind, _, rest = reply.partition("|")
    if kind == Refusal.NOT_LOGGED_IN:
        return STRANGER
    if kind == Refusal.BUSY:
        return BUSY
    if kind == "i":
        return command[2:].replace(BLANK, LF, 1)
    if kind == "a":
        return "0\n" + "".join(f"{name} " for name in rest.split(",") if name)
    if kind == Refusal.MAILBOX_FULL:
        return f"-1\n{command.split('|', 2)[1]}'s mailbox is full"
    return DONE.get(kind) or REFUSED.get(command[0], STRANGER)


class RelayTranslator(Frames):
    """The connection on which messages arrive."""

    listens = True
    most = STRANGER_MAX

    def __init__(self, guest: Guest) -> None:
        super().__init__(guest)
        self.is_named = False

    def on_frame(self, body: bytes) -> None:
        name = body.decode("utf-8", "replace")
        if self.is_named:
            self.guest.hang_up("a relay says more than its name")
        elif not self.guest.pair(name):
            self.guest.hang_up(f"no command connection of {visible(name)!r} from this address waits for a relay")
        self.is_named = True

    def render(self, number: int, command: str, reply: str) -> bytes:
        if reply[0] != "l":
            self.guest.hang_up("its command connection is not logged in any more")
        return b""

    def trouble(self, word: str) -> bytes:
        return self.frame(0, PARTED.format(self.guest.account).encode()) if word == "parted" else b""

    def push(self, messages: tuple[Message, ...]) -> bytes:
        return b"".join([self.frame(0, f"0\n{sender}:{text}".encode()) for _, _, _, sender, text in messages])

    def shows_waiting(self) -> bool:
        return True


def visible(words: str) -> str:
    """As much of it as anybody wants to read, without line breaks."""
    return "".join(c if c.isprintable() else "?" for c in words[:CODE_SHOWN])
