"""The pipe door: `op|arg|arg`, one command a line, and the numbered mode for programs that retry.

What it is not: it holds no account and no order of messages; where a line ends is known to `lines.py`, what it answers stands in
`pipe_words.py`. This is the only file that knows the digits 0–5, and `who`, `bye` and `history` of the numbered mode.

    op            command              op            command
    1|NAME        CreateAccount        3|WHOM|TEXT   SendMessage
    0|ID          LogIn                4|ID          ReadMailbox
    2[|PATTERN]   ListAccounts         5|ID          DeleteAccount
    1|NAME|PASSWORD, 0|ID|PASSWORD: the same, for an account that has one
    history|NAME[|COUNT[|BEFORE]]   History, numbered only

Read next: `doors/pipe_words.py`, `doors/sends.py`, then `desk.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from commands import CREATE, DELETE, HISTORY, ID_MAX, LIST, LOG_IN, PRESENT, READ, SEND, TEXT_MAX, is_name
from doors.lines import LineTranslator, text_of
from doors.pipe_words import GREETING, INVALID, WORDS
from doors.sends import numbered_sends_of, sends_of, sentences

if TYPE_CHECKING:
    from doors.lines import Words

HISTORY_COUNT = 20  # messages of a history whose asker does not say how many: a screen


class PipeTranslator(LineTranslator):
    """One connection at the pipe door."""

    greeting = GREETING
    words: Mapping[str, Words] = WORDS

    def understand(self, line: bytes) -> str | None:
        return encode(line)

    def understand_numbered(self, line: bytes) -> str | None:
        if line.startswith(b"history|"):
            return history_of(line)
        return PRESENT if line == b"who" else super().understand_numbered(line)

    def take_all(self, whole: bytes) -> bool:
        if self.numbered:
            found = numbered_sends_of(whole)
            if found is not None:
                first, low, commands = found
                self.guest.ask_all(commands, self.render_all, first, low)
                return True
        elif not self.guest.is_watched:
            sends = sends_of(whole)
            if sends is not None:
                self.guest.ask_all(sends, self.render_all)
                return True
        return False

    def render_all(self, first: int, commands: list[str], replies: list[str]) -> bytes:
        """The replies to what `take_all` has asked."""
        if len(replies) == 1:
            return self.frame(first, WORDS[SEND](self.guest, commands[0], replies[0]).encode())
        out = sentences(self.guest, commands, replies)
        if not out:
            return b"".join([self.render(n, c, r) for n, (c, r) in enumerate(zip(commands, replies, strict=True), first)])
        if not self.numbered:
            return "".join(out).encode()
        words = "".join([f"{n} {len(sentence)}\n{sentence}" for n, sentence in enumerate(out, first)])
        if words.isascii():
            return words.encode()
        return b"".join([self.frame(n, sentence.encode()) for n, sentence in enumerate(out, first)])

    def complaint(self, line: bytes) -> bytes:
        return INVALID


def encode(line: bytes) -> str | None:
    """The command that this line of the protocol asks for; None: it is none."""
    text = text_of(line)
    if text is None:
        return None
    op, bar, rest = text.partition("|")
    if op == "3":
        whom, bar, words = rest.partition("|")
        if not words or not whom or len(whom) > ID_MAX or len(words.encode()) > TEXT_MAX:
            return None
        return f"{SEND}|{rest}"
    if op == "2":
        return f"{LIST}|{rest}" if rest else LIST
    if not bar or not rest or "|" in rest:
        return None
    if op == "1":
        return f"{CREATE}|{rest}" if is_name(rest) else None
    letter = {"0": LOG_IN, "4": READ, "5": DELETE}.get(op)
    return f"{letter}|{rest}" if letter and len(rest) <= ID_MAX else None


def history_of(line: bytes) -> str | None:
    """`history|NAME|COUNT|BEFORE`, the last one or two of which may be missing."""
    _, whom, *numbers = (text_of(line) or "|").split("|")
    if not 0 < len(whom) <= ID_MAX or len(numbers) > 2 or not all(re.fullmatch("[0-9]{1,18}", n) for n in numbers):
        return None
    numbers += (str(HISTORY_COUNT), "0")[len(numbers) :]
    count, before = numbers
    return f"{HISTORY}|{whom}|{before}|{count}" if int(count) else None
