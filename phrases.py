"""The words between a person and the client: what typed lines mean, how replies and messages are shown.

What it is not: it prints nothing (`terminal.py`) and asks nothing (`client.py`).

    typed                       asked              typed                asked
    create NAME                 1|NAME             inbox [ID]           4|ID
    login ID                    0|ID               list [PATTERN]       2 or 2|PATTERN
    @NAME TEXT, send NAME TEXT  3|NAME|TEXT        who                  who
    logout                      bye                delete ID            5|ID
    passwd [OLD] NEW            passwd|ID|OLD⇥NEW    history NAME [N] [before ID]   history|NAME|N|ID
    bye, quit                   bye, and the end   a protocol line      as it is

Other people's text never reaches the terminal as it is: what could steer it is shown as `\\x1b` or `\\u202e` (`visible`).

Read next: `terminal.py`.
"""

from __future__ import annotations

import contextlib
import re
import time
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from commands import ID_SUFFIX
from doors.pipe import HISTORY_COUNT, encode
from doors.pipe_words import INVALID
from ports import Moved, label

COMBINING_MAX = 6  # marks on one letter; no script needs more, and a tower of them covers the lines above
JOINERS = "\u200c\u200d"  # invisible, but words of some languages and many emoji need them

HELP = """\
create NAME [PASSWORD]  make an account, and log in
login ID [PASSWORD]   log in; your ID is your name with 123
@NAME TEXT            write to somebody (also: send NAME TEXT)
who                   who is here now
list [PATTERN]        all accounts, or those the pattern matches: list w.*
inbox                 read what waits for you
history NAME [N]      what you and NAME have written, the newest N (20)
passwd                change your password, or give yourself one, unseen
logout                log out, and stay here
delete ID             delete the account for good
bye                   leave (also: quit, Ctrl-D)
Lines of the protocol work too: 1|NAME 0|ID 2 2|PATTERN 3|NAME|TEXT 4|ID 5|ID"""

HINTS = {
    "Username": "choose another name, or log in: login ID",
    "user with ID": "list shows all accounts; create NAME makes one",
    "Receiver:": "list shows who has an account",
    "Please check your mailbox": "read it first: inbox",
}
HEAD = re.compile(
    r"conversation with (?P<whom>\S+): \d+ messages?(?:, older before (?P<older>\d+))?(?:, an earlier \S+ up to (?P<earlier>\d+))?"
)
NOTHING_NEW = "nothing new is taken now: the disk of the last replica is full or fails (python server.py status); try again later"
NEED_LOGIN = "log in first: login ID, or create NAME"
PROTOCOL = re.compile(r"\d+(\||$)|[^\s|]+\|")


class Word(NamedTuple):
    """What a typed line means: a line to ask, or something to say here, or the end."""

    ask: str = ""
    say: str = ""
    ends: bool = False
    waits: bool = False  # nothing else is asked for before the reply


def visible(text: str) -> str:
    """The text with everything that could steer a terminal or reorder a line made visible."""
    if text.isascii() and text.isprintable():
        return text
    out, marks = [], 0
    for c in text:
        kind = unicodedata.category(c)
        marks = marks + 1 if kind in ("Mn", "Me") else 0
        if c == "\t":
            out.append("    ")
        elif (kind in ("Cc", "Cf", "Cs", "Zl", "Zp") and c not in JOINERS) or marks > COMBINING_MAX:
            out.append(f"\\x{ord(c):02x}" if ord(c) < 256 else f"\\u{ord(c):04x}" if ord(c) < 65536 else f"\\U{ord(c):08x}")
        else:
            out.append(c)
    return "".join(out)


def understand(typed: str, account: str) -> Word:
    """What a person, logged in to `account`, means by this line."""
    line = typed.strip("\r\n")
    words = line.split(maxsplit=2)
    if not words:
        return Word()
    verb, rest = words[0].lower(), words[1:]
    if PROTOCOL.match(line):
        return Word(line)
    if line.lstrip().startswith("@") and len(words[0]) > 1:
        whom, _, text = line.lstrip()[1:].partition(" ")
        return Word(f"3|{whom}|{text}") if text.strip() else Word(say=f"write something behind the name: @{whom} hello")
    if verb in SIMPLE and not rest:
        return SIMPLE[verb]
    if verb in WITH_ARGUMENT:
        return WITH_ARGUMENT[verb](rest, account)
    return Word(say=f"{words[0]!r} is no command: @NAME TEXT writes to somebody, help shows the rest")


def _create(rest: list[str], account: str) -> Word:
    return Word("|".join(["1", *rest])) if rest else Word(say="which name? create NAME")


def _login(rest: list[str], account: str) -> Word:
    return Word("|".join(["0", _id(rest[0]), *rest[1:]])) if rest else Word(say="which account? login ID")


def _send(rest: list[str], account: str) -> Word:
    return Word("3|" + "|".join(rest)) if len(rest) == 2 else Word(say="to whom, and what? send NAME TEXT")


def _inbox(rest: list[str], account: str) -> Word:
    return Word("4|" + (_id(rest[0]) if rest else account + ID_SUFFIX)) if rest or account else Word(say=NEED_LOGIN)


def _list(rest: list[str], account: str) -> Word:
    return Word("2|" + " ".join(rest) if rest else "2")


def _history(rest: list[str], account: str) -> Word:
    """`NAME`, `NAME N`, `NAME before ID`, `NAME N before ID`."""
    name, *more = [*" ".join(rest).split(), ""][: -1 if rest else None]
    before = ["0"] if "before" not in more else more[more.index("before") + 1 :]
    count = more[: more.index("before")] if "before" in more else more
    if not name or len(before) != 1 or len(count) > 1 or not all(word.isdigit() for word in (*before, *count)):
        return Word(say="whose, and how much? history NAME, or history NAME 50")
    return Word("|".join(["history", name, *(count or [str(HISTORY_COUNT)]), *before])) if account else Word(say=NEED_LOGIN)


def _delete(rest: list[str], account: str) -> Word:
    if rest:
        return Word("5|" + _id(rest[0]))
    return Word(say=f"this deletes the account for good; if you mean it: delete {account + ID_SUFFIX if account else 'ID'}")


def _passwd(rest: list[str], account: str) -> Word:
    if not account:
        return Word(say=NEED_LOGIN)
    if not rest:
        return Word(say="which one? passwd OLD NEW, or passwd NEW where you have none yet")
    old = rest[0] if len(rest) == 2 else ""
    return Word(f"passwd|{account}{ID_SUFFIX}|{old}\t{rest[-1]}")


def _id(word: str) -> str:
    return word if word.endswith(ID_SUFFIX) else word + ID_SUFFIX


SIMPLE = {
    **dict.fromkeys(("bye", "quit", "exit"), Word(ends=True)),
    "who": Word("who"),
    "logout": Word("bye"),
    **dict.fromkeys(("help", "?", "h"), Word(say=HELP)),
}
WITH_ARGUMENT: dict[str, Callable[[list[str], str], Word]] = {
    "create": _create,
    "login": _login,
    "send": _send,
    "inbox": _inbox,
    "list": _list,
    "delete": _delete,
    "passwd": _passwd,
    "history": _history,
}


def outcome(typed: str, asked: str, reply: str) -> str:
    """A reply in the words of a person who typed words; who typed the protocol gets the protocol's."""
    lines = "\n".join(visible(line) for line in reply.rstrip("\n").split("\n")).rstrip()
    if asked == typed.strip():
        return lines
    if asked.startswith("3|"):
        whom = visible(asked.split("|")[1])
        if reply.startswith("Sender "):
            return f"{whom} has it"
        if reply.startswith("message from "):
            return f"{whom} is away: it waits in the mailbox"
    head, *rows = reply.rstrip("\n").split("\n")
    if asked.startswith("history|") and (found := HEAD.fullmatch(head)):
        with contextlib.suppress(ValueError, OverflowError, OSError):  # what is no row, or no time, is shown as it is
            return "\n".join(map(visible, _looked_back(found, rows, asked)))
    if asked.startswith("2") and reply.startswith("Showing all accounts: "):
        return "accounts: " + lines.removeprefix("Showing all accounts: ")
    return lines


def scripted(typed: str, asked: str, reply: str) -> str:
    """The same for a script: in the protocol's words, but for a conversation."""
    return outcome(typed, asked, reply) if asked.startswith("history|") else reply


def _looked_back(found: re.Match[str], rows: list[str], asked: str) -> Iterator[str]:
    """A conversation as people read it."""
    whom, older, earlier = found["whom"], found["older"], int(found["earlier"] or 0)
    if not rows:
        yield f"you and {whom} have written nothing to each other{', as far as was looked' if older else ''}"
    for row in rows:
        number, moment, sender, text = row.split("|", 3)
        other = whom + " (an earlier one)" * (int(number) <= earlier)
        yield f"{stamp(int(moment))} {f'{other} to you' if sender == whom else f'you to {other}'}: {text}"
    if older:
        _, name, count, _ = asked.split("|")
        yield f"older ones: history {name} {count} before {older}"


def hint(asked: str, reply: str, account: str) -> str:
    """What to do about a refusal; empty: nothing to add."""
    if reply.encode() == INVALID:
        if asked.startswith("3|") and not account:
            return NEED_LOGIN
        if asked[:2] in ("1|", "3|") and encode(asked.encode(errors="surrogateescape")) is not None:
            return NOTHING_NEW  # it can be understood: the door has no other words for this
        return "a name has 1 to 32 letters, no space and no , or |; help shows the commands"
    return next((words for beginning, words in HINTS.items() if reply.startswith(beginning)), "")


def moved_words(moved: Moved) -> str:
    """The quiet line."""
    old, new = label(moved.old), label(moved.new)
    if old == new:
        return f"-- {old} was gone, and is back ({moved.gap_ms:.0f} ms)"
    return f"-- {old} is {'silent' if moved.is_silent else 'gone'}, now on {new} ({moved.gap_ms:.0f} ms)"


def banner(cluster: dict[str, Any], at: str, account: str) -> list[str]:
    """What a person sees first."""
    replicas, count = cluster.get("replicas", []), cluster.get("survives", 0)
    trouble = "fault" if cluster.get("policy") == "majority" else "death"
    survives = f"{len(replicas)} replica{'s' * (len(replicas) != 1)}, survives {count} {trouble}{'s' * (count != 1)}"
    lines = [f"{cluster.get('cluster', 'chat')}: {survives} (policy {cluster.get('policy', '?')}); you are at {at}"]
    lines.append(f"you are {account} again" if account else "create NAME makes an account, login ID goes back to yours")
    return [visible(line) for line in [*lines, "help shows all commands, bye ends"]]


def stamp(microseconds: int) -> str:
    """A time as people say it."""
    then = time.localtime(microseconds / 1e6)
    return time.strftime("%H:%M" if then[:3] == time.localtime()[:3] else "%b %d %H:%M", then)
