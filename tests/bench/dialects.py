"""How each system is talked to under load: its request for one stored message, and how its acknowledgements are counted.

What it is not: it opens no socket and measures nothing (`load.py` does).

    dialect     one request                                        done when
    pipe        `3|RECIPIENT|TEXT⏎`, the plain mode                 its sentence has come
    numbered    the same with request number and LOW                its sentence has come
    framed      `2⏎RECIPIENT⏎TEXT`, its length before it             its frame has come
    ledger      `2|SENDER|1⏎`, plain: a payment, without any text   the balance has come
    room        `say TEXT` with number and LOW: plain lines are     its empty reply has come; what the others say is read beside
                not answered at this door
    bare        `3|RECIPIENT|TEXT⏎`                                 its line has come
    redis       RPUSH RECIPIENT TEXT, WAIT 2 0                      WAIT has answered 2
    onewait     RPUSH for each of all that leave together, and      that WAIT has answered 2
                one WAIT 2 0 behind them
    nats        a publish to the stream, with a reply subject       the stream's acknowledgement has come
    grpc        SendMessage over HTTP/2 (`frames.py`)              the answer and its trailer have come
    etcd        gRPC Put over HTTP/2 (`frames.py`)                  the answer and its trailer have come

A new door is one more class, and its line in `DIALECTS`: `enter` (whatever comes before the load), `request`, and `mark` or `count`.

Read next: `load.py`.
"""

from __future__ import annotations

import collections
import json
import time
from typing import Protocol

RECIPIENTS = 1000  # names `u0000` … `u0999`
POOL = 4000  # requests made beforehand, taken in turn
POOL_BYTES = 4 << 20  # of them; large texts get a smaller pool


class BadReply(Exception):
    """The system said something that is no acknowledgement."""


class Wire(Protocol):
    """What a dialect may do before the load begins."""

    def write(self, words: bytes) -> None: ...
    async def until(self, mark: bytes) -> bytes:
        """Read until `mark` has come; what was read, with it."""


def recipient(number: int) -> str:
    """A name to send to."""
    return f"u{number % RECIPIENTS:04d}"


class Dialect:
    """One connection's. `number`: which of the connections it is; `shows`: what it sends goes to one who is online and notes when."""

    mark = b"\n"  # ends every acknowledgement, and stands nowhere else in what the system says

    def __init__(self, number: int, text_bytes: int, *, shows: bool = False) -> None:
        self.number, self.text, self.shows = number, b"m" * text_bytes, shows
        self.tail = b""
        self.at = 0
        size = max(16, min(POOL, POOL_BYTES // text_bytes))
        self.pool = [self.request(recipient(number * 61 + i * 7).encode(), self.text) for i in range(size)]

    async def enter(self, wire: Wire) -> None:
        """Log in, or whatever comes first."""

    def request(self, whom: bytes, text: bytes) -> bytes:
        """One request to this recipient."""
        raise NotImplementedError

    def requests(self, count: int) -> bytes:
        """The next `count` requests."""
        return self.one() if count == 1 and not self.shows else b"".join(self.lines(count))

    def one(self) -> bytes:
        """The next request. It shares two processors with the system it asks, so a microsecond here is one less there."""
        at = self.at
        self.at = (at + 1) % len(self.pool)
        return self.pool[at]

    def lines(self, count: int) -> list[bytes]:
        """The next `count` requests, apart."""
        if self.shows:
            stamped = b"T%.6f " % time.perf_counter() + self.text
            return [self.request(b"r%d" % self.number, stamped[: len(self.text)])] * count
        at, end = self.at, self.at + count
        self.at = end % len(self.pool)
        return self.pool[at:end] if end <= len(self.pool) else self.pool[at:] + self.pool[: self.at]

    def count(self, chunk: bytes) -> int:
        """How many acknowledgements ended in these bytes."""
        seen = self.tail + chunk
        keep = len(self.mark) - 1
        self.tail = seen[-keep:] if keep else b""
        return seen.count(self.mark)


class Bare(Dialect):
    """The bare pipeline."""

    mark = b"'s mailbox\n"

    def request(self, whom: bytes, text: bytes) -> bytes:
        return b"3|%s|%s\n" % (whom, text)


class Pipe(Dialect):
    """The pipe door, plain lines."""

    def __init__(self, number: int, text_bytes: int, *, shows: bool = False) -> None:
        self.name = b"s%d" % number
        self.mark = b" to r%d\n" % number if shows else b"'s mailbox\n"
        super().__init__(number, text_bytes, shows=shows)

    async def enter(self, wire: Wire) -> None:
        await wire.until(b"documentation \n")
        wire.write(b"0|%s123\n" % self.name)
        if b"now logged in" not in await wire.until(b"\n"):
            wire.write(b"1|%s\n" % self.name)
            await wire.until(b"Account ID: %s123\n" % self.name)

    def request(self, whom: bytes, text: bytes) -> bytes:
        return b"3|%s|%s\n" % (whom, text)


class Counted(Dialect):
    """The numbered mode of any door of lines, with which a retry is applied once."""

    asked = answered = 0

    def hello(self, command: bytes) -> bytes:
        """A new session, and its first request."""
        return f"understudy 1 {self.number:08x}{time.time_ns():024x}\n".encode() + b"1 0 %s\n" % command

    def one(self) -> bytes:
        self.asked += 1
        return b"%d %d %s" % (self.asked, self.answered, Dialect.one(self))

    def lines(self, count: int) -> list[bytes]:
        first, low = self.asked + 1, self.answered
        self.asked += count
        return [b"%d %d %s" % (n, low, line) for n, line in enumerate(super().lines(count), first)]

    def count(self, chunk: bytes) -> int:
        done = super().count(chunk)
        self.answered += done
        return done


class Numbered(Counted, Pipe):
    """The pipe door, numbered mode: what `client.py` speaks."""

    async def enter(self, wire: Wire) -> None:
        await wire.until(b"documentation \n")
        wire.write(self.hello(b"0|%s123" % self.name))
        await wire.until(b"\n1 ")
        self.asked = self.answered = 1
        if b"now logged in" not in await wire.until(b"\n") + await wire.until(b"\n"):
            wire.write(b"2 1 1|%s\n" % self.name)
            await wire.until(b"Account ID: %s123\n" % self.name)
            self.asked = self.answered = 2


class Framed(Dialect):
    """The framed door: length and body."""

    mark = b"Sent to recipient"

    async def enter(self, wire: Wire) -> None:
        wire.write(self._frame(b"1\ns%d\n" % self.number))  # `make_accounts` has made it, without a password
        await wire.until(b"Successful Login")

    def request(self, whom: bytes, text: bytes) -> bytes:
        return self._frame(b"2\n%s\n%s" % (whom, text))

    def _frame(self, body: bytes) -> bytes:
        return b"%-10d%s" % (len(body), body)


class Ledger(Dialect):
    """The ledger door, plain lines: everybody pays into an account of their own."""

    async def enter(self, wire: Wire) -> None:
        wire.write(b"0|s%d\n" % self.number)
        await wire.until(b"s%d123\n" % self.number)

    def request(self, whom: bytes, text: bytes) -> bytes:
        return b"2|s%d123|1\n" % self.number

    def count(self, chunk: bytes) -> int:
        whole, end, self.tail = (self.tail + chunk).rpartition(b"\n")
        if b"error" in whole:
            raise BadReply(f"the ledger says {whole[:200]!r}")
        return whole.count(b"\n") + len(end)


class Room(Counted):
    """The room door, numbered: everybody is in it, and is shown what all others say."""

    mark = b" 0\n"  # the end of `N 0⏎`: a line that is shown is longer

    async def enter(self, wire: Wire) -> None:
        wire.write(self.hello(b"join s%dx%x" % (self.number, time.time_ns())))  # who was here before stays for half a minute
        await wire.until(b"anytime to exit\n")
        self.asked = self.answered = 1

    def request(self, whom: bytes, text: bytes) -> bytes:
        return b"say %s\n" % text


class Redis(Dialect):
    """RESP."""

    wait = b"*3\r\n$4\r\nWAIT\r\n$1\r\n2\r\n$1\r\n0\r\n"

    def push(self, whom: bytes, text: bytes) -> bytes:
        """At the end of a list."""
        return b"*3\r\n$5\r\nRPUSH\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n" % (len(whom), whom, len(text), text)

    def request(self, whom: bytes, text: bytes) -> bytes:
        return self.push(whom, text) + self.wait

    def count(self, chunk: bytes) -> int:
        *words, self.tail = (self.tail + chunk).split(b"\r\n")
        if len(words) % 2:  # RPUSH has answered and WAIT has not
            self.tail = words.pop() + b"\r\n" + self.tail
        if words[1::2] != [b":2"] * (len(words) // 2) or not all(word.startswith(b":") for word in words[::2]):
            raise BadReply(f"redis says {words[:4]}")
        return len(words) // 2


class OneWait(Redis):
    """As a client would that has many to send: none of them counts before the one WAIT has answered."""

    def __init__(self, number: int, text_bytes: int, *, shows: bool = False) -> None:
        self.together: collections.deque[int] = collections.deque()
        self.words: list[bytes] = []
        super().__init__(number, text_bytes, shows=shows)

    def request(self, whom: bytes, text: bytes) -> bytes:
        return self.push(whom, text)

    def requests(self, count: int) -> bytes:
        self.together.append(count)
        return super().requests(count) + self.wait

    def count(self, chunk: bytes) -> int:
        *words, self.tail = (self.tail + chunk).split(b"\r\n")
        self.words += words
        done = 0
        while self.together and len(self.words) > self.together[0]:
            size = self.together.popleft()
            *pushed, waited = self.words[: size + 1]
            del self.words[: size + 1]
            if waited != b":2" or not all(word.startswith(b":") for word in pushed):
                raise BadReply(f"redis says {[*pushed[-3:], waited]}")
            done += size
        return done


class Nats(Dialect):
    """The text protocol of NATS; the stream's acknowledgement is JSON."""

    mark = b'"seq":'
    hello = b'CONNECT {"verbose":false,"pedantic":false}\r\n'

    async def enter(self, wire: Wire) -> None:
        await wire.until(b"\r\n")
        wire.write(self.hello + b"SUB _INBOX.%d 1\r\nPING\r\n" % self.number)
        await wire.until(b"PONG\r\n")

    def request(self, whom: bytes, text: bytes) -> bytes:
        return b"PUB box.%s _INBOX.%d %d\r\n%s\r\n" % (whom, self.number, len(text), text)

    def count(self, chunk: bytes) -> int:
        whole, _, self.tail = (self.tail + chunk).rpartition(b"\r\n")
        if b'"error"' in whole or b"-ERR" in whole:  # a refusal has a "seq" too
            raise BadReply(f"nats says {whole[:200]!r}")
        return whole.count(self.mark)


async def make_stream(wire: Wire) -> str:
    """Create the stream of three replicas in files. Returns the name of the server that leads it: others would only hand messages on."""
    await wire.until(b"\r\n")
    config = {"name": "BOX", "subjects": ["box.*"], "storage": "file", "num_replicas": 3, "retention": "limits"}
    words = json.dumps(config).encode()
    wire.write(Nats.hello + b"SUB made 1\r\nPUB $JS.API.STREAM.CREATE.BOX made %d\r\n%s\r\n" % (len(words), words))
    answer = await wire.until(b"}\r\n")
    if b'"error"' in answer:
        raise BadReply(f"nats says {answer[-300:]!r}")
    return str(json.loads(answer[answer.index(b"{") :])["cluster"]["leader"])
