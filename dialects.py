"""Dialects: what the client's half of the numbered mode must know of the door it speaks to.

What it is not: it knows no numbers and no connection (`guest.py`), and nothing that a person sees.

    dialect   door      a log-in looks like                 it has worked when the answer is
    PIPE      pipe      0|ID, 1|NAME, 5|ID, bye             Success …, … is now logged in, …
    ROOM      room      join NAME, tata                     the welcome
    MENU      framed    1|USER|PASSWORD, 3|…, 5|…, -1       0⏎Successful …, 0⏎account deleted, 0⏎Logging out
    LEDGER    ledger    nobody listens there: whoever is logged in is not told messages

Read next: `guest.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from commands import ID_SUFFIX
from doors.ledger import ERROR
from doors.lines import masked
from doors.menu import COMPLAINTS
from doors.pipe_words import GREETING, INVALID, TOO_MANY
from doors.room import NOT_SENT, WELCOME


class Dialect(NamedTuple):
    """A door's, for a client."""

    greeting: bytes  # how the door begins; empty: it waits for us
    reads: tuple[str, ...]  # beginnings of lines that only read: the log never sees them
    refused: tuple[bytes, ...]  # beginnings of answers to lines that were no command, or of which the log did not hear
    entering: tuple[str, ...]  # beginnings of lines after which the session may be somebody else's
    entered: Callable[[str, str, str], str | None]  # line, answer, account: whose it is then; None: as before
    hide: Callable[[str], str] = str  # the line without its passwords
    leave: str = "bye"  # the last line


def _at_the_pipe(line: str, text: str, account: str) -> str | None:
    named = line[2:].partition("|")[0]
    if line == "bye":
        return "" if text.startswith("logged out") else None
    if line[0] == "5":
        return "" if named == account + ID_SUFFIX and text.startswith("Your account has been deleted") else None
    is_in = text.startswith("Success ") or text.endswith(" is now logged in\n")
    return (named if line[0] == "1" else named.removesuffix(ID_SUFFIX)) if is_in else None


def _in_the_room(line: str, text: str, account: str) -> str | None:
    if line == "tata":
        return ""
    return line.removeprefix("join ") if text == WELCOME else None


def _at_the_menu(line: str, text: str, account: str) -> str | None:
    if not text.startswith("0\n"):
        return None
    return line.split("|")[1] if line[0] in "13" else ""


def _without_password(line: str) -> str:
    code, *fields = line.split("|")
    return "|".join([code, fields[0], "***"]) if code in ("1", "3", "5") and len(fields) > 1 else line


PIPE = Dialect(GREETING, ("2", "who", "history|"), (INVALID, TOO_MANY), ("0|", "1|", "5|", "bye"), _at_the_pipe, masked)
LEDGER = Dialect(b"", ("4",), (ERROR,), (), _at_the_pipe, masked)
ROOM = Dialect(b"", (), (NOT_SENT.encode(),), ("join ", "tata"), _in_the_room, leave="tata")
MENU = Dialect(b"", ("4",), COMPLAINTS, ("1|", "3|", "5|", "-1"), _at_the_menu, _without_password, "-1")
