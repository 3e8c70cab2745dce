"""Room 4, the guest: finds a replica that serves, keeps the number of each request, and asks the same thing again when its replica dies.

What it is not: it decides nothing about the chat and draws nothing (`terminal.py`); it knows no view, only ports.

    guest says                          server says
    understudy 1 SESSION                = ACCOUNT LAST MSEQ     the session is taken up; LAST: newest request executed
    resume SEEN     (session was up)    ! session | gap N | newer
    N LOW COMMAND                       N BYTES, bytes          the reply; replies come in the order of N
    ack UPTO        (64 or 200 ms)      * MSEQ BYTES, bytes     a message SENDER|TIME|ID|TEXT
    cluster                             @ BYTES, bytes          the replicas, JSON
                                        .                       heartbeat

    ports  p0 ── connected ── greeted ── opened (=) ───────────── EOF, or nothing heard for SILENCE ─┐
           p1  ◀── at once; after a whole round in vain 2, 5, 10 … 250 ms with jitter ◀──────────────┘

Invariants:
- A request keeps its number until it is answered, whatever dies; a number never means two things.
- A message is handed on once: what has an id at or below the last one handed on is a repetition.
- Only what was displayed is acknowledged; the memory file says "about to show" before, "shown" after.
- After a crash of this process what stands between the two is shown once more, marked `again`.

As a library: `async with ChatClient([6666, 6667]) as client: await client.request("1|mason")`; `async for message in client.messages()`.
Which session: a terminal takes up the one that its last client left without `bye` (`--fresh`: does not); a script begins a new one
(`--resume`: takes up). Two running clients never share one: the file of a session is locked while its client lives.

Read next: `terminal.py`, `doors/pipe.py` (the other end).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import json
import os
import random
import secrets
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from commands import ID_SUFFIX, SESSION_LIFE_US, TEXT_MAX, WINDOW
from doors.pipe import GREETING, INVALID

SILENCE = 0.4  # seconds; a server beats every 0.15, so two beats are missing
PATIENCE = 2.0  # seconds between greeting and `=`: a replica that greets may have to wait for a view change, which takes 1.5
TICK = 0.05  # seconds between looks at the clock
LATE = 0.25  # seconds; a tick later than that means that this process slept, not the server
ACK_EVERY, ACK_AFTER = 64, 0.2  # messages, seconds
PAUSES = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25)  # seconds between tries, after each port was tried once
UNANSWERED_MAX = WINDOW // 2  # requests under way; half of what a session may have, so that the server never stops reading
LINE_MAX = TEXT_MAX + 1024  # bytes of a request; the door hangs up on longer ones
HEAD_MAX, BODY_MAX = 256, 64 << 20  # bytes of a line that announces a body; of the body: a million names
WORRY_AFTER = 1.0  # seconds without a server after which the person is told
RIVALS_MAX = 5  # take-overs in a row; a late echo of our own old connection makes one, another client makes them for ever
SLOTS = 32  # memory files kept; more clients than that at once run without
BLANK = "-"  # a request that means nothing, for a number whose answered query the log never saw
ENTERING, OTHERS = ("0|", "1|", "5|"), ("bye",)  # requests after which this session may belong to another account

Address = tuple[str, int]


class Message(NamedTuple):
    """A text for this guest; `seq` counts within the account, `id` within the cluster, `time` is microseconds since 1970."""

    seq: int
    sender: str
    time: int
    id: int
    text: str
    account: str
    again: bool = False  # this client may have shown it before it crashed


class Opened(NamedTuple):
    """The server has taken the session up."""

    account: str


class Reply(NamedTuple):
    """The answer to a request."""

    number: int
    line: str
    text: str


class About(NamedTuple):
    """What the server says about its cluster."""

    cluster: dict[str, Any]


class Trouble(NamedTuple):
    """The server refuses the session (`session`, `gap`, `newer`) or is no server of ours (`stranger`)."""

    word: str
    words: str = ""


class Moved(NamedTuple):
    """The client has changed its server; `why` is `gone` or `silent`."""

    old: Address
    new: Address
    gap_ms: float
    why: str


Event = Opened | Reply | Message | About | Trouble


class NoAnswer(Exception):
    """The request may have been executed or not; the text says why nobody knows."""


class Mail:
    """What was handed on and what was displayed of one account's messages. `seq` 0: not known in this log-in."""

    __slots__ = ("again_id", "again_time", "displayed_id", "displayed_seq", "handed_id", "handed_seq", "handed_time")

    def __init__(self) -> None:
        self.handed_seq = self.handed_id = self.handed_time = self.displayed_seq = self.displayed_id = self.again_id = self.again_time = 0

    def entered(self) -> None:
        """A log-in: an account that was deleted and made again counts from 1, while ids only grow."""
        self.handed_seq = self.displayed_seq = 0

    def forget(self) -> None:
        """A new session, maybe of another cluster: everything is new, but what was shown before is marked."""
        self.again_id, self.again_time = max(self.again_id, self.handed_id), max(self.again_time, self.handed_time)
        self.handed_seq = self.handed_id = self.displayed_seq = self.displayed_id = 0


class Guest:
    """The protocol without a socket: bytes and times in, events and bytes (`take`) out. See the module's page."""

    def __init__(self, session: str) -> None:
        self.session = session
        self.account = ""
        self.count = 0  # newest request number
        self.firm = 0  # newest request known to be in the log
        self.pending: dict[int, str] = {}
        self.mail: dict[str, Mail] = {}
        self.is_known = False  # the server has confirmed the session once
        self.asked = 0  # `cluster` lines unanswered
        self.ticked = 0.0
        self.connected = False
        self.rest, self.out = bytearray(), list[str]()
        self.heard, self.ack_due, self.acked = 0.0, 0.0, 0
        self.greeted = self.opened = self.filled = self.held = False

    # --- out ------------------------------------------------------------------------------------------------------------------------------

    def connect(self, now: float) -> None:
        """There is a connection: say who we are, and again what is unanswered."""
        self.rest, self.out, self.heard, self.acked, self.asked = bytearray(), [], now, 0, 0
        self.greeted = self.opened = self.filled = False
        self.connected = True
        self.out.append(f"understudy 1 {self.session}\n")
        changing, mail = self._is_changing(), self.mail.get(self.account)
        if self.is_known:
            # whose messages they are is not known while a log-in is unanswered: then let all come again
            self.out.append(f"resume {mail.handed_seq if mail and not changing else 0}\n")
        # a log-out that overtakes the acknowledgement would leave displayed messages in the mailbox
        self.held = changing and mail is not None and mail.displayed_seq > 0
        if not self.held:
            self._resend()

    def lose(self) -> None:
        """The connection is gone."""
        self.connected = self.opened = False
        self.out = []

    def request(self, line: str) -> int:
        """Ask; the number comes back with the reply. Raises ValueError for what is no line."""
        if "\n" in line or len(line.encode(errors="surrogateescape")) > LINE_MAX:
            raise ValueError(f"a request is one line of at most {LINE_MAX} bytes")
        if _is_entering(line):
            self.acknowledge()
        self.count += 1
        self.pending[self.count] = line
        if self.connected and not self.held:
            self._write(self.count, line)
        return self.count

    def ask_cluster(self) -> None:
        """Ask for the list of replicas."""
        if self.opened:
            self.asked += 1
            self.out.append("cluster\n")

    def displayed(self, message: Message, now: float) -> None:
        """The message is on the screen, and all handed on before it."""
        mail = self.mail[message.account]
        mail.displayed_id = max(mail.displayed_id, message.id)
        if message.account == self.account and mail.handed_seq:
            self._shown(mail, message.seq, now)

    def acknowledge(self) -> None:
        """Tell the server what was displayed."""
        mail = self.mail.get(self.account)
        if mail and self.opened and mail.displayed_seq > self.acked and not self._is_changing():
            self.acked = mail.displayed_seq
            self.out.append(f"ack {self.acked}\n")
            self.ack_due = 0.0

    def tick(self, now: float) -> bool:
        """The clock's turn. Returns whether the server has been silent for too long."""
        if now - self.ticked > LATE:
            self.heard = now
        self.ticked = now
        if self.ack_due and now >= self.ack_due:
            self.acknowledge()
        return self.connected and now - self.heard > (SILENCE if self.opened or not self.greeted else PATIENCE)

    def take(self) -> bytes:
        """The bytes to send."""
        out, self.out = self.out, []
        return "".join(out).encode(errors="surrogateescape")

    def _shown(self, mail: Mail, seq: int, now: float) -> None:
        mail.displayed_seq = max(mail.displayed_seq, seq)
        self.ack_due = self.ack_due or now + ACK_AFTER
        if mail.displayed_seq - self.acked >= ACK_EVERY:
            self.acknowledge()

    def _write(self, number: int, line: str) -> None:
        if not self.filled:
            self.filled = True
            # the server takes no request above the next number of its log, and answered queries never stood in there
            self.out += [f"{n} {n - 1} {BLANK}\n" for n in range(self.firm + 1, number)]
        self.out.append(f"{number} {next(iter(self.pending)) - 1} {line}\n")

    def _resend(self) -> None:
        for number, line in self.pending.items():
            self._write(number, line)

    def _is_changing(self) -> bool:
        return any(_is_entering(line) for line in self.pending.values())

    # --- in -------------------------------------------------------------------------------------------------------------------------------

    def receive(self, chunk: bytes, now: float) -> list[Event]:
        """Bytes from the server, cut anywhere."""
        self.heard = now
        rest, at, events = self.rest, 0, list[Event]()
        rest += chunk
        while self.connected and (end := rest.find(b"\n", at, at + HEAD_MAX)) >= 0:
            head = rest[at:end].split(b" ")
            start, size = end + 1, 0
            if head[0] in (b"*", b"@") or head[0].isdigit():
                if not (head[-1].isdigit() and len(head) == (3 if head[0] == b"*" else 2) and (size := int(head[-1])) <= BODY_MAX):
                    return [*events, self._strange(rest[at:end])]
                if len(rest) - start < size:
                    break
            try:
                event = self._on_line(head, bytes(rest[start : start + size]), now)
            except ValueError:
                return [*events, self._strange(rest[at:end])]
            if event:
                events.append(event)
            at = start + size
        del rest[:at]
        if self.connected and len(rest) > HEAD_MAX and b"\n" not in rest[:HEAD_MAX]:
            events.append(self._strange(rest[:40]))
        return events

    def _on_line(self, head: list[bytearray], body: bytes, now: float) -> Event | None:
        word = head[0]
        if word == b".":
            return None
        if word.isdigit():
            return self._on_reply(int(word), body)
        if word == b"*":
            return self._on_push(int(head[1]), body.decode("utf-8", "replace"), now)
        if word == b"=":
            account, last, _ = head[1:]
            return self._on_opened(account.decode().removeprefix("-") if account == b"-" else account.decode(), int(last), now)
        if word == b"@":
            self.asked = max(0, self.asked - 1)
            about = json.loads(body)
            return About(about) if isinstance(about, dict) else None
        if word == b"!":
            if head[1:2] == [b"gap"]:
                self.firm = min(self.firm, int(head[2]) - 1)
            return Trouble(b" ".join(head[1:2]).decode())
        if not self.greeted and b" ".join(head).startswith(GREETING[:14]):
            self.greeted = True
            return None
        raise ValueError("no line of ours")

    def _strange(self, words: bytearray) -> Trouble:
        self.lose()
        return Trouble("stranger", words[:40].decode("utf-8", "replace"))

    def _on_opened(self, account: str, last: int, now: float) -> Opened:
        self.is_known = self.opened = True
        self.account, self.firm = account, max(last, 0)
        self.heard = now
        self.acknowledge_shown()
        self.ask_cluster()
        if self.held:
            self.held = False
            self._resend()
        return Opened(account)

    def acknowledge_shown(self) -> None:
        """After a change of servers: the acknowledgement may have died with the old one, so it is said again."""
        mail = self.mail.get(self.account)
        if mail and mail.displayed_seq:
            self.acked = mail.displayed_seq
            self.out.append(f"ack {self.acked}\n")

    def _on_reply(self, number: int, body: bytes) -> Reply | None:
        line = self.pending.pop(number, None)
        if line is None:
            return None  # a blank, or the second answer to a request that was sent twice
        if body != INVALID and line != "who" and not line.startswith("2"):
            self.firm = max(self.firm, number)
        text = body.decode("utf-8", "replace")
        if _is_entering(line):
            self._on_entered(line, text)
        return Reply(number, line, text)

    def _on_entered(self, line: str, text: str) -> None:
        name = line[2:].partition("|")[0]
        if line == "bye":
            self.account, self.acked = "" if text.startswith("logged out") else self.account, 0
        elif line[0] == "5":
            if text.startswith("Your account has been deleted") and name == self.account + ID_SUFFIX:
                self.account = ""
        elif text.startswith(("Success ", "user : ")) and not text.endswith("a new one\n"):
            self.account = name if line[0] == "1" else name.removesuffix(ID_SUFFIX)
            self.mail.setdefault(self.account, Mail()).entered()
            self.acked, self.ack_due = 0, 0.0

    def _on_push(self, seq: int, body: str, now: float) -> Message | None:
        sender, stamp, number, text = body.split("|", 3)
        mail = self.mail.setdefault(self.account, Mail())
        mail.handed_seq = seq
        if int(number) <= mail.handed_id:
            if int(number) <= mail.displayed_id:
                self._shown(mail, seq, now)
            return None
        mail.handed_id, mail.handed_time = int(number), int(stamp)
        again = mail.handed_id <= mail.again_id and mail.handed_time <= mail.again_time
        return Message(seq, sender, mail.handed_time, mail.handed_id, text, self.account, again)

    # --- memory ---------------------------------------------------------------------------------------------------------------------------

    def forgotten(self, session: str) -> list[str]:
        """The cluster does not know the session any more: begin a new one. Returns what will never be answered."""
        lost, mail = list(self.pending.values()), self.mail
        self.lose()
        self.__init__(session)  # type: ignore[misc]
        self.mail = mail
        for one in mail.values():
            one.forget()
        return lost

    def remember(self) -> dict[str, Any]:
        """What a later process needs to go on, or at least to mark what it shows again."""
        mail = {name: [m.displayed_seq, m.displayed_id, m.handed_id or m.again_id, m.handed_time or m.again_time] for name, m in self.mail.items()}
        secret = any(line.startswith(("0|", "1|")) and line.count("|") > 1 for line in self.pending.values())
        # a password is never written down: a session that waits for one cannot be taken up
        is_resumable = self.is_known and not secret
        pending = {} if secret else self.pending
        return {"session": self.session if is_resumable else "", "account": self.account, "count": self.count, "pending": pending, "mail": mail}
