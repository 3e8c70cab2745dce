"""The guest's half of the numbered mode, without a socket: bytes and times go in, events and bytes come out.

What it is not: it knows no port and has no clock (`client.py` has both); what a person sees is `terminal.py`.

    guest says                          server says
    understudy 1 SESSION                = ACCOUNT LAST MSEQ     the session is taken up; LAST: newest request executed
    resume SEEN OWED (session was up)    ! session | gap N | newer | cut REACHED OF
    N LOW COMMAND                       N BYTES, bytes          the reply; replies come in the order of N
    ack UPTO        (64 or 200 ms)      * MSEQ BYTES, bytes     a message: SENDER|TIME|ID|TEXT
    cluster                             @ BYTES, bytes          the replicas, JSON
                                        .                       heartbeat

    a message    pushed ── handed on (`Message`) ── `displayed` ── acknowledged
                    └ its id is not above the last one handed on: a repetition, dropped

Invariants:
- A request keeps its number until it is answered, whatever dies; a number never means two things.
- A message is handed on once. It goes by its id, which only grows: `seq` begins again when an account is deleted and made anew.
- Only what was displayed is acknowledged, and before a request after which the account may be another one.

Read next: `dialects.py`, `client.py`; `doors/lines.py` (the other end).
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from commands import TEXT_MAX
from dialects import PIPE, Dialect

SILENCE = 0.4  # seconds; a server beats every 0.15, so two beats are missing
PATIENCE = 2.0  # seconds from greeting to `=`: a replica that greets may have to wait for a view change, which takes up to 1.5
LATE = 0.25  # seconds; if the clock's turn comes later than that, this process slept, not the server
ACK_EVERY, ACK_AFTER = 64, 0.2  # messages, seconds
LINE_MAX = TEXT_MAX + 1024  # bytes of a request; the door hangs up on longer ones
HEAD_MAX, BODY_MAX = 256, 64 << 20  # bytes of a line that announces a body; of the body: a million names
RECALL_MAX = 1 << 20  # requests of a session that another process takes up: it may say a blank for each
BLANK = "-"  # a request that means nothing, for a number whose answered query the log never saw


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
    """The server refuses the session (`session`, `gap`, `newer`), serves nobody (`cut`) or is none of ours (`stranger`, with its words)."""

    word: str
    words: str = ""


Event = Opened | Reply | Message | About | Trouble


class Mail:
    """One account's messages: what was handed on, what was displayed, and up to where an earlier process may have shown them."""

    __slots__ = ("again_id", "again_time", "displayed_id", "displayed_seq", "handed_id", "handed_seq", "handed_time")

    def __init__(self) -> None:
        self.handed_seq = self.handed_id = self.handed_time = 0
        self.displayed_seq = self.displayed_id = 0
        self.again_id = self.again_time = 0

    def entered(self) -> None:
        """A log-in: seqs known from before may be those of another account of that name."""
        self.handed_seq = self.displayed_seq = 0

    def forget(self) -> None:
        """A new session, maybe of another cluster: nothing may be held back, but what was shown before is marked."""
        self.mark(self.handed_id, self.handed_time)
        self.handed_seq = self.handed_id = self.displayed_seq = self.displayed_id = 0

    def mark(self, number: int, time: int) -> None:
        """Messages up to this id and time may have been shown."""
        self.again_id, self.again_time = max(self.again_id, number), max(self.again_time, time)


class Guest:
    """One session and its connection. See the module's page."""

    def __init__(self, session: str, mail: dict[str, Mail] | None = None, dialect: Dialect = PIPE) -> None:
        self.session, self.dialect = session, dialect
        self.account = ""
        self.count = 0  # newest request number
        self.firm = 0  # newest request known to be in the log
        self.pending: dict[int, str] = {}
        self.mail = mail or {}
        self.is_known = False  # the cluster has confirmed the session once
        self.is_connected = self.is_greeted = self.is_open = False
        self.heard = self.ticked = 0.0
        self.ack_due = 0.0
        self.acked = 0  # on this connection, of this account
        self.asked = 0  # `cluster` lines unanswered
        self._sent = 0  # newest request said on this connection
        self._held = False  # requests wait for `=`
        self._rest, self._out = bytearray(), list[str]()

    # --- out ------------------------------------------------------------------------------------------------------------------------------

    def connect(self, now: float) -> None:
        """There is a connection: say who we are, and again what is unanswered."""
        self.is_connected, self.is_greeted, self.is_open = True, not self.dialect.greeting, False
        self.heard, self.acked, self.asked, self._sent = now, 0, 0, 0
        self._rest, self._out = bytearray(), [f"understudy 1 {self.session}\n"]
        entering, mail = self._is_entering(), self.mail.get(self.account)
        if self.is_known:
            # while a log-in is unanswered nobody knows whose messages they are: let all of them come again
            owed = min(self.pending, default=0)
            self._out.append(f"resume {mail.handed_seq if mail and not entering else 0} {owed}\n")
        self._held = entering and self._owes()
        if not self._held:
            self._resend()

    def lose(self) -> None:
        """The connection is gone."""
        self.is_connected = self.is_open = self._held = False
        self._out = []

    def request(self, line: str) -> int:
        """Ask; the number comes back with the reply. Raises ValueError when it cannot be one request."""
        if "\n" in line or len(line.encode(errors="surrogateescape")) > LINE_MAX:
            raise ValueError(f"a request is one line of at most {LINE_MAX} bytes")
        if line.startswith(self.dialect.entering):
            self._acknowledge()
            self._held = self._held or (not self.is_open and self._owes())
        self.count += 1
        self.pending[self.count] = line
        if self.is_connected and not self._held:
            self._write(self.count, line)
        return self.count

    def ask_cluster(self) -> None:
        """Ask for the list of replicas."""
        if self.is_open:
            self.asked += 1
            self._out.append("cluster\n")

    def displayed(self, message: Message, now: float) -> None:
        """The message is on the screen, and all that were handed on before it."""
        mail = self.mail[message.account]
        mail.displayed_id = max(mail.displayed_id, message.id)
        if message.account == self.account and message.seq <= mail.handed_seq:
            self._shown(mail, message.seq, now)

    def tick(self, now: float) -> bool:
        """The clock's turn. Returns whether the server has been silent for too long."""
        if now - self.ticked > LATE:
            self.heard = max(self.heard, now)
        self.ticked = now
        if self.ack_due and now >= self.ack_due:
            self._acknowledge()
        return self.is_connected and now - self.heard > (SILENCE if self.is_open or not self.is_greeted else PATIENCE)

    def take(self) -> bytes:
        """The bytes to send."""
        out, self._out = self._out, []
        return "".join(out).encode(errors="surrogateescape")

    def _write(self, number: int, line: str) -> None:
        if not self._sent:
            # the log takes no number above its next one, and answered queries never stood in it
            self._out += [f"{n} {n - 1} {BLANK}\n" for n in range(self.firm + 1, number)]
        self._sent = number
        self._out.append(f"{number} {next(iter(self.pending)) - 1} {line}\n")

    def _resend(self) -> None:
        for number, line in self.pending.items():
            if number > self._sent:
                self._write(number, line)

    def _owes(self) -> bool:
        """Whether something displayed may be unacknowledged. A log-out that overtakes that leaves displayed messages in the mailbox."""
        mail = self.mail.get(self.account)
        return mail is not None and mail.displayed_seq > self.acked

    def _shown(self, mail: Mail, seq: int, now: float) -> None:
        mail.displayed_seq = max(mail.displayed_seq, seq)
        self.ack_due = self.ack_due or now + ACK_AFTER
        if mail.displayed_seq - self.acked >= ACK_EVERY:
            self._acknowledge()

    def _acknowledge(self) -> None:
        mail = self.mail.get(self.account)
        # behind a log-in it might count for another account
        if mail and self.is_open and mail.displayed_seq > self.acked and not self._is_entering():
            self._acknowledge_to(mail.displayed_seq)

    def _acknowledge_to(self, seq: int) -> None:
        self.acked, self.ack_due = seq, 0.0
        self._out.append(f"ack {seq}\n")

    def _is_entering(self) -> bool:
        return any(line.startswith(self.dialect.entering) for line in self.pending.values())

    # --- in -------------------------------------------------------------------------------------------------------------------------------

    def receive(self, chunk: bytes, now: float) -> list[Event]:
        """Bytes from the server, cut anywhere."""
        self.heard = now
        rest, at, events = self._rest, 0, list[Event]()
        rest += chunk
        while self.is_connected:
            end = rest.find(b"\n", at, at + HEAD_MAX)
            if end < 0 and len(rest) - at < HEAD_MAX:
                break
            start = stop = end + 1
            words = bytes(rest[at : end if end >= 0 else at + HEAD_MAX]).split(b" ")
            try:
                if end < 0:
                    raise ValueError("a line without an end")
                stop += _size(words)
                if len(rest) < stop:
                    break
                event = self._on_words(words, bytes(rest[start:stop]), now)
            except (ValueError, RecursionError):
                self.lose()
                event = Trouble("stranger", b" ".join(words)[:40].decode("utf-8", "replace"))
            if event:
                events.append(event)
            at = stop
        del rest[:at]
        return events

    def _on_words(self, words: list[bytes], body: bytes, now: float) -> Event | None:
        """One line and the body it announced. Raises ValueError when no server of ours says so."""
        match words:
            case [b"."]:
                return None
            case [number, _] if number.isdigit():
                return self._on_reply(int(number), body)
            case [b"*", seq, _]:
                return self._on_push(int(seq), body.decode("utf-8", "replace"), now)
            case [b"=", account, last, _] if last.isdigit():
                return self._on_opened(account.decode() if account != b"-" else "", int(last))
            case [b"@", _]:
                self.asked = max(0, self.asked - 1)
                return About(_cluster(body))
            case [b"!", b"gap", expected] if expected.isdigit() and int(expected):
                self.firm = min(self.firm, int(expected) - 1)
                return Trouble("gap")
            case [b"!", b"cut", reached, of] if reached.isdigit() and of.isdigit():
                return Trouble("cut", f"{int(reached)} of {int(of)}")
            case [b"!", (b"session" | b"newer") as word]:
                return Trouble(word.decode())
        if not self.is_greeted and b" ".join(words).startswith(self.dialect.greeting[:14]):
            self.is_greeted = True
            return None
        raise ValueError("no line of ours")

    def _on_opened(self, account: str, last: int) -> Opened:
        self.is_known = self.is_greeted = self.is_open = True
        self.account, self.firm = account, last
        mail = self.mail.get(account)
        if mail and mail.displayed_seq:
            # the last acknowledgement may have died with the server it was said to
            self._acknowledge_to(mail.displayed_seq)
        self.ask_cluster()
        if self._held:
            self._held = False
            self._resend()
        return Opened(account)

    def _on_reply(self, number: int, body: bytes) -> Reply | None:
        line = self.pending.pop(number, None)
        if line is None:
            return None  # of a blank, or the second one to a request that was sent twice
        if not body.startswith(self.dialect.refused) and not line.startswith(self.dialect.reads):
            self.firm = max(self.firm, number)
        text = body.decode("utf-8", "replace")
        account = self.dialect.entered(line, text, self.account) if line.startswith(self.dialect.entering) else None
        if account is not None:
            self._on_entered(account)
        return Reply(number, line, text)

    def _on_entered(self, account: str) -> None:
        self.account = account
        if account:
            self.mail.setdefault(account, Mail()).entered()
            self.acked, self.ack_due = 0, 0.0

    def _on_push(self, seq: int, body: str, now: float) -> Message | None:
        sender, stamp, number, text = body.split("|", 3)
        message = Message(seq, sender, int(stamp), int(number), text, self.account)
        mail = self.mail.setdefault(self.account, Mail())
        mail.handed_seq = seq
        if message.id <= mail.handed_id:
            if message.id <= mail.displayed_id:
                self._shown(mail, seq, now)
            return None
        mail.handed_id, mail.handed_time = message.id, message.time
        return message._replace(again=message.id <= mail.again_id and message.time <= mail.again_time)

    # --- memory ---------------------------------------------------------------------------------------------------------------------------

    def remember(self) -> dict[str, Any]:
        """What a later process needs to go on, or at least to mark what it shows again."""
        # a password is never written down: a session that waits for one cannot be taken up
        secret = any(self.dialect.hide(line) != line for line in self.pending.values())
        mail = {
            name: [m.displayed_seq, m.displayed_id, max(m.handed_id, m.again_id), max(m.handed_time, m.again_time)]
            for name, m in self.mail.items()
        }
        return {
            "session": "" if secret or not self.is_known else self.session,
            "account": self.account,
            "count": self.count,
            "pending": {} if secret else {str(n): line for n, line in self.pending.items()},
            "mail": mail,
        }

    @classmethod
    def recall(cls, memory: dict[str, Any], dialect: Dialect = PIPE) -> Guest:
        """The guest whose `remember` this is. Raises ValueError, TypeError, KeyError or OverflowError when it is not sound."""
        guest = cls(bytes.fromhex(memory["session"]).hex(), dialect=dialect)
        guest.is_known = True
        guest.account, guest.count = str(memory["account"]), int(memory["count"])
        guest.pending = {int(n): str(line) for n, line in memory["pending"].items()}
        if guest.count > RECALL_MAX or not all(0 < n <= guest.count for n in guest.pending):
            raise ValueError("impossible numbers")
        "".join([guest.account, *guest.pending.values()]).encode(errors="surrogateescape")  # what cannot be said is not sound
        for name, (seq, number, again_id, again_time) in memory["mail"].items():
            mail = guest.mail[name] = Mail()
            mail.handed_seq = mail.displayed_seq = int(seq)
            mail.handed_id = mail.displayed_id = int(number)
            mail.mark(int(again_id), int(again_time))
        return guest


def _size(words: list[bytes]) -> int:
    """Bytes of the body that a line announces."""
    if len(words) != (3 if words[0] == b"*" else 2) or not (words[0] in (b"*", b"@") or words[0].isdigit()):
        return 0
    size = int(words[-1])
    if not 0 <= size <= BODY_MAX:
        raise ValueError("a body of an impossible size")
    return size


def _cluster(body: bytes) -> dict[str, Any]:
    match json.loads(body):
        case dict(cluster):
            return cluster
    raise ValueError("no description of a cluster")
