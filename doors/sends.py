"""Sends in bulk: a chunk in which every line, or every frame, is a send is understood, and later answered, as a whole.

What it is not: another grammar. What it does not recognise at a glance (a long text, a stray line, a broken character) is left to
`lines.py` and `pipe.py`, or to `framed.py`, which take one by one and decide what it means; what it does recognise must come to the same.

    `3|wayne|one⏎3|bob|two`       →  commands `S|wayne|one`, `S|bob|two`          a busy chat hardly says anything else
    frames of `2⏎wayne⏎one` …     →  the same
    replies `m`, `p`              →  the sentences of `pipe_words.py`, one `write`

Read next: `pipe.py`, `framed.py`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from commands import ID_SUFFIX, NAME_MAX, ONLINE, TEXT_MAX, WAITING
from doors.lines import CONTROLS, has_controls
from doors.pipe_words import TOLD, WAITS

if TYPE_CHECKING:
    from doors import Guest

WHOM_MAX = NAME_MAX + len(ID_SUFFIX)
SHORT = TEXT_MAX // 4  # characters of a text that is short enough whatever they are made of
LONG = SHORT + WHOM_MAX + 42  # characters that the longest line which is one of these stays below, with its numbers
SEND = rf"3(\|[^|\n]{{1,{WHOM_MAX}}}\|[^\n]{{1,{SHORT}}})$"
PLAIN = re.compile(rf"^{SEND}", re.M)
NUMBERED = re.compile(rf"^([1-9][0-9]{{0,17}}) ([0-9]{{1,18}}) {SEND}", re.M)
ONE_NUMBERED = re.compile(rf"([1-9][0-9]{{0,17}}) ([0-9]{{1,18}}) 3(\|[^|]{{1,{WHOM_MAX}}}\|.{{1,{SHORT}}})", re.S)
FRAMED = re.compile(rf"(?:\A|\0)2\n([^|\n\0]{{1,{WHOM_MAX}}})\n([^\n\0]{{1,{SHORT}}})(?=\0|\Z)")
WITHIN = CONTROLS.replace(b"\n", b"")  # but for the newline between two lines


def sends_of(whole: bytes) -> list[str] | None:
    """The commands that these lines ask for; None: not all of them are sends."""
    try:
        text = str(whole, "utf-8")
    except UnicodeDecodeError:
        return None
    if not text.isprintable() and has_controls(whole, WITHIN):
        return None
    count = text.count("\n") + 1
    found = PLAIN.findall(text) if len(text) < count * LONG else ()  # along longer ones it would go back and forth
    return ["S" + rest for rest in found] if len(found) == count else None


def numbered_sends_of(whole: bytes) -> tuple[int, int, list[str]] | None:
    """The same in the numbered mode, with the first number and the last LOW; None also if the numbers do not follow one another."""
    try:
        text = str(whole, "utf-8")
    except UnicodeDecodeError:
        return None
    if text.isprintable():  # hence one line
        one = ONE_NUMBERED.fullmatch(text) if len(text) < LONG else None
        if one is None:
            return None
        number, low, rest = one.groups()
        return int(number), int(low), ["S" + rest]
    count = text.count("\n") + 1
    if len(text) >= count * LONG or has_controls(whole, WITHIN):
        return None
    found = NUMBERED.findall(text)
    first = int(found[0][0]) if found else 0
    if len(found) != count or [number for number, _, _ in found] != [str(n) for n in range(first, first + count)]:
        return None
    return first, int(found[-1][1]), ["S" + rest for _, _, rest in found]


def framed_sends_of(bodies: list[bytes]) -> list[str] | None:
    """The same of the bodies of frames."""
    whole = b"\0".join(bodies)
    try:
        text = str(whole, "utf-8")
    except UnicodeDecodeError:
        return None
    if len(whole.translate(None, WITHIN)) != len(whole) - (len(bodies) - 1):  # more than the zeros between them
        return None
    found = FRAMED.findall(text) if len(text) < len(bodies) * LONG else []
    return [f"S|{whom}|{words}" for whom, words in found] if len(found) == len(bodies) else None


def sentences(guest: Guest, commands: list[str], replies: list[str]) -> list[str]:
    """What `pipe_words.py` says to these sends; empty where it has more to say than that."""
    account = guest.account
    out: list[str] = []
    for command, reply in zip(commands, replies):  # noqa: B905, strict costs as much as a sentence: who asks has compared their lengths
        if reply == WAITING:
            out.append(WAITS % (account, command[2 : command.index("|", 2)]))
        elif reply == ONLINE and not guest.is_watched:
            _, whom, text = command.split("|", 2)
            out.append(TOLD % (account, text, whom))
        else:
            return []
    return out
