"""The room door: a name, then lines; everybody in the room reads them.

What it is not: it keeps no list of who is in the room (`room.py` does).

    plain      the first thing sent is the name, raw: it ends with silence or a newline. Then lines, each ended by a newline; `tata` ends it
    numbered   `join NAME`, `say TEXT`, `tata` as requests of the numbered mode; who is gone stays in the room for half a minute

    a line from another     `albert: world⏎`
    somebody comes, goes    `albert joined the conversation␠⏎`, `albert left the conversation⏎`

Nobody is told what they said themselves.

Read next: `room.py`, `doors/lines.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

from commands import COME_IN, GO_OUT, SPEAK, TEXT_MAX, Passwords, Refusal
from doors.lines import LineTranslator, numbered, text_of

if TYPE_CHECKING:
    from doors import Guest, Message
    from doors.lines import Words

WELCOME = "Welcome to chat room. Enter 'tata' anytime to exit\n"
TAKEN = "Username already taken!\n"
NO_NAME = "A name has 1 to 32 letters, no space and no , or |\n"
FULL = "The room is full!\n"
NOT_SENT = "Not sent!\n"
HOST = "Server"  # who says that somebody came or went
KEPT_MAX = 1 << 20  # characters of lines that are kept as they were shown, as in a batch; a guest that comes back may miss more


def _words(guest: Guest, command: str, reply: str) -> str:
    if command[0] == COME_IN:
        return {"g": WELCOME, Refusal.INVALID: NO_NAME, Refusal.ROOM_FULL: FULL}.get(reply.partition("|")[0], TAKEN)
    return "" if reply in ("v", "u") else NOT_SENT


class RoomTranslator(LineTranslator):
    """One connection at the room door."""

    words: Mapping[str, Words] = dict.fromkeys((COME_IN, SPEAK, GO_OUT), _words)

    def __init__(self, guest: Guest) -> None:
        super().__init__(guest)
        self.has_said_its_name = False
        self.name = ""

    def understand(self, line: bytes) -> str | None:
        verb, _, rest = line.partition(b" ") if self.numbered else self._meant(line)
        text = text_of(rest)
        if verb == b"tata":
            return GO_OUT
        if verb == b"join":
            return f"{COME_IN}|{text or ''}"
        return f"{SPEAK}|{text}" if verb == b"say" and text and len(rest) <= TEXT_MAX else None

    def _meant(self, line: bytes) -> tuple[bytes, bytes, bytes]:
        """What a plain line would be in the numbered mode."""
        if self.has_said_its_name:
            return (line, b"", b"") if line == b"tata" else (b"say", b" ", line)
        self.has_said_its_name = self.framed = True
        return b"join", b" ", line

    def with_password(self, line: bytes) -> tuple[str, Passwords]:
        return "", Passwords()

    def complaint(self, line: bytes) -> bytes:
        return NOT_SENT.encode()

    def show(self, line: bytes) -> None:
        """What is said in the room is not for the console."""

    def render(self, number: int, command: str, reply: str) -> bytes:
        if reply[0] == "g":
            self.name = self.guest.account
            self.guest.watch(f"Client {self._where()} connected  [ {self.name} ]")
        elif reply == "u":
            self.guest.watch(self.farewell())
        words = super().render(number, command, reply)
        if not self.numbered and (reply == "u" or (command[0] == COME_IN and reply[0] != "g")):
            self.guest.tell(words)
            self.guest.hang_up("")
            return b""
        return words

    def farewell(self) -> str:
        return f"Client {self._where()} is offline  [ {self.name} ]"

    def _where(self) -> str:
        return f"({self.guest.peer.replace(' : ', ', ')})"

    def push(self, messages: tuple[Message, ...]) -> bytes:
        account, size = self.guest.account, sum([len(text) for _, _, _, _, text in messages])
        shown = said(messages, self.numbered) if size <= KEPT_MAX else said.__wrapped__(messages, self.numbered)
        return b"".join([words for sender, words in shown if sender != account])


@lru_cache(maxsize=2)  # of one batch, plain and numbered: all in the room are shown the same
def said(messages: tuple[Message, ...], is_numbered: bool) -> list[tuple[str, bytes]]:
    """Who has said each of these, and how it is shown."""
    if is_numbered:
        return [(message[3], numbered(message)) for message in messages]
    return [(sender, f"{text}\n".encode() if sender == HOST else f"{sender}: {text}\n".encode()) for _, _, _, sender, text in messages]
