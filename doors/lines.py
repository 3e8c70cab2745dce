"""Line doors: one command a line, plain or numbered; what the pipe door and the ledger door share.

What it is not: it knows no command. A door says what a line means (`understand`), why it means nothing (`complaint`), and what replies are
called (`words`).

    a connection        ends a command by                                  replies
    plain, unframed     falling silent for QUIET_AFTER, or half-closing    the words alone
    plain, framed       a newline (for good, once it has sent one)         the words alone
    numbered            a newline; begins with `understudy 1 SESSION-HEX`  `N BYTES⏎` and the words

Read next: `doors/pipe.py`, `doors/ledger.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from commands import CHANGE_PASSWORD, CREATE, ID_MAX, LOG_IN, LOG_OUT, Passwords, is_name, is_password
from doors.contract import COMMANDS_AT_ONCE, Translator

if TYPE_CHECKING:
    from doors import Guest, Message

    Words = Callable[[Guest, str, str], str]  # command and reply to what the guest reads

LINE_MAX = 80 * 1024  # bytes of one command: the longest text and its envelope
QUIET_AFTER = 0.04  # seconds after which unframed bytes are a command; clients of old wait 100 ms between two
CONTROLS = bytes((*range(9), *range(10, 32), 127))  # all but TAB
CHANGED = "the password is changed\n"  # the answer to `passwd`, at every door of lines
NUMBERED = {b"bye": LOG_OUT}  # what every numbered mode knows
HELLO = re.compile(rb"understudy 1 ([0-9a-f]{32})")


class LineTranslator(Translator):
    """One connection's bytes ⇄ commands and replies."""

    greeting = b""
    listens = True
    log_in = LOG_IN  # the letter for `0|NAME|PASSWORD`
    words: Mapping[str, Words]  # by the letter of the command

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self.rest = b""
        self.framed = self.numbered = self.fresh = False
        self.has_asked = False  # without a newline: it has a session, and is numbered no more
        self.session = b""

    # --- what a door says ----------------------------------------------------------------------------------------------------------------

    def understand(self, line: bytes) -> str | None:
        """The command that this line asks for; None: it is none."""
        raise NotImplementedError

    def understand_numbered(self, line: bytes) -> str | None:
        """A command that only the numbered mode has."""
        return NUMBERED.get(line)

    def with_password(self, line: bytes) -> tuple[str, Passwords]:
        """A command that needs passwords, and those; no command: it is none."""
        return with_password(line, self.log_in) if self.numbered or not line.startswith(b"passwd|") else ("", Passwords())

    def complaint(self, line: bytes) -> bytes:
        """The answer to a line that is no command."""
        raise NotImplementedError

    def show(self, line: bytes) -> None:
        """What the server's console shows of a command: never a password."""
        words = masked(line.decode("utf-8", "replace"))
        self.guest.watch(words)
        self.guest.watch(f"Opcode:{words.partition('|')[0]}")

    def take_all(self, whole: bytes) -> bool:
        """Whether these lines could be asked together; else they are looked at one by one."""
        return False

    # --- bytes in ------------------------------------------------------------------------------------------------------------------------

    def feed(self, chunk: bytes) -> bool:
        whole, newline, self.rest = (self.rest + chunk if self.rest else chunk).rpartition(b"\n")
        if newline and not (self.framed and not self.fresh and self.take_all(whole)):
            lines = whole.split(b"\n")
            if b"\r" in whole:
                lines = [line.removesuffix(b"\r") for line in lines]
            if not self.framed:
                self.framed = True
                if not self.has_asked and HELLO.fullmatch(lines[0]):
                    self.numbered = self.fresh = True
                    self.session = bytes.fromhex(lines.pop(0).split()[2].decode())
            (self._numbered_lines if self.numbered else self._plain_lines)(lines)
        if len(self.rest) > LINE_MAX:
            self.guest.hang_up(f"a command is longer than {LINE_MAX} bytes")
            self.rest = b""
        return bool(self.rest and not self.framed) or self.fresh

    def share(self, chunk: bytes) -> int:
        if chunk.count(b"\n") <= COMMANDS_AT_ONCE:
            return len(chunk)
        return len(chunk) - len(chunk.split(b"\n", COMMANDS_AT_ONCE)[-1])

    def quiet(self) -> None:
        if self.fresh:
            self._open("numbered", 0)
        elif not self.framed and self.rest:
            line, self.rest, self.has_asked = self.rest, b"", True
            self._plain_lines([line])

    def end(self) -> None:
        self.fresh = False  # it said who it is and nothing more: no session for that
        line, self.rest = self.rest, b""
        if line and not self.numbered:
            self._plain_lines([line])

    def _plain_lines(self, lines: list[bytes]) -> None:
        guest = self.guest
        for raw in lines:
            line = raw if self.framed else raw.removesuffix(b"\r")
            if not line and self.framed:
                continue
            command = self.understand(line)
            if guest.is_watched:
                self.show(line)
            if command is None:
                self._unusual(line)
            else:
                guest.ask(command)

    def _numbered_lines(self, lines: list[bytes]) -> None:
        guest = self.guest
        for line in lines:
            word, _, rest = line.partition(b" ")
            if word.isdigit():
                if self.fresh:
                    self._open("numbered", 0)
                low, _, asked = rest.partition(b" ")
                if not low.isdigit() or len(word) > 18 or len(low) > 18:
                    return guest.hang_up("a numbered request without its numbers")
                command = self.understand(asked) or self.understand_numbered(asked)
                if command is None:
                    self._unusual(asked, int(word), int(low))
                else:
                    guest.ask(command, int(word), int(low))
            elif not self._other_line(word, rest):
                return

    def _unusual(self, line: bytes, number: int = 0, low: int = 0) -> None:
        command, passwords = self.with_password(line)
        if command:
            self.guest.ask(command, number, low, passwords)
        else:
            self.guest.say(self.complaint(line), number)

    def _other_line(self, word: bytes, rest: bytes) -> bool:
        guest = self.guest
        numbers = [int(n) for n in rest.split() if n.isdigit() and len(n) <= 18]
        number, owed = [*numbers, 0, 0][:2]
        if word == b"resume" and self.fresh:
            self._open("resumed", number, owed)
        elif word == b"ack":
            guest.acknowledge(number)
        elif word == b"cluster":
            about = guest.describe_cluster()
            guest.tell(b"@ %d\n%s" % (len(about), about))
        elif word.strip():
            guest.hang_up("a line that the numbered mode does not know")
            return False
        return True

    def _open(self, kind: str, seen: int, owed: int = 0) -> None:
        self.fresh = False
        self.guest.open(self.session, kind, seen, owed)

    # --- bytes out -----------------------------------------------------------------------------------------------------------------------

    def is_resumable(self) -> bool:
        return self.numbered

    def shows_waiting(self) -> bool:
        return self.numbered

    def farewell(self) -> str:
        return f"{self.guest.account} has logged out of the system"

    def opened(self, last: int, seq: int) -> bytes:
        return f"= {self.guest.account or '-'} {last} {seq}\n".encode() if self.numbered else b""

    def trouble(self, word: str) -> bytes:
        return f"! {word}\n".encode() if self.numbered else b""

    def beat(self) -> bytes:
        return b".\n" if self.numbered else b""

    def render(self, number: int, command: str, reply: str) -> bytes:
        words = self.words[command[0]](self.guest, command, reply).encode()
        return b"%d %d\n%s" % (number, len(words), words) if self.numbered else words

    def frame(self, number: int, words: bytes) -> bytes:
        return b"%d %d\n%s" % (number, len(words), words) if self.numbered else words

    def push(self, messages: tuple[Message, ...]) -> bytes:
        if self.numbered:
            return b"".join([numbered(message) for message in messages])
        end = "\n" if self.framed else ""
        return "".join([f"{sender}: {text}{end}" for _, _, _, sender, text in messages]).encode()


def numbered(message: Message) -> bytes:
    """A delivery in the numbered mode."""
    seq, number, time, sender, text = message
    words = f"{sender}|{time}|{number}|{text}".encode()
    return b"* %d %d\n%s" % (seq, len(words), words)


def has_controls(words: bytes, controls: bytes = CONTROLS) -> bool:
    """Whether one of these control characters (otherwise: any but TAB) stands in the words."""
    return len(words.translate(None, controls)) != len(words)


def text_of(line: bytes) -> str | None:
    """The line as text; None: it holds control characters or is no UTF-8."""
    if has_controls(line):
        return None
    try:
        return str(line, "utf-8")
    except UnicodeDecodeError:
        return None


def with_password(line: bytes, log_in: str) -> tuple[str, Passwords]:
    """`0|ID|PASSWORD`, `1|NAME|PASSWORD`, and of the numbered mode `passwd|ID|OLD⇥NEW`: a tab stands in no password."""
    op, name, secret = [*(text_of(line) or "").split("|", 2), "", ""][:3]
    if op == "1" and is_name(name) and is_password(secret):
        return f"{CREATE}|{name}", Passwords(new=secret)
    if op == "0" and 0 < len(name) <= ID_MAX and is_password(secret):
        return f"{log_in}|{name}", Passwords(old=secret)
    old, _, new = secret.partition("\t")
    if op == "passwd" and 0 < len(name) <= ID_MAX and is_password(new) and (not old or is_password(old)):
        return f"{CHANGE_PASSWORD}|{name}{'' if old else '|'}", Passwords(old, new)
    return "", Passwords()


def masked(line: str) -> str:
    """The line as anybody may see it: a password is three stars."""
    op, *fields = line.split("|")
    return "|".join([op, fields[0], "***"]) if op in ("0", "1", "passwd") and len(fields) > 1 else line
