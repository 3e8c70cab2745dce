"""The load generator: a process of its own, which keeps requests outstanding and notes when each was acknowledged.

What it is not: it starts no system and compares nothing (`systems.py`, `scripts/bench.py`). One order in, as JSON on the command line; one
result out, as JSON on standard output.

    python -m tests.bench.load '{"dialect": "pipe", "port": 6666, "connections": 64, "window": 1, …}'

    connection ── window requests ──▶ system
               ◀── acknowledgements ──   each is followed by the next request at once (a closed loop)

    with `receivers` (D)   as many guests are online, each shown what one connection sends; time from send to display
    with `reads` (R)       one more connection lists accounts and one reads a mailbox, each as fast as it is answered

Read next: `dialects.py`, `systems.py`.
"""

from __future__ import annotations

import array
import asyncio
import collections
import contextlib
import gc
import os
import re
import sys
import time
from collections.abc import Callable
from typing import cast

import msgspec
import uvloop

from doors.pipe_words import INVALID
from tests.bench.dialects import (
    RECIPIENTS,
    BadReply,
    Bare,
    Dialect,
    Framed,
    Ledger,
    Nats,
    Numbered,
    Pipe,
    Redis,
    Room,
    make_stream,
    recipient,
)
from tests.bench.frames import Etcd, Grpc

KINDS = (Bare, Etcd, Framed, Grpc, Ledger, Nats, Numbered, Pipe, Redis, Room)
DIALECTS: dict[str, type[Dialect]] = {kind.__name__.lower(): kind for kind in KINDS}
STREAM_S = 2.0  # seconds in which the stream must be made
ENTER_S = 20.0  # seconds in which everybody must be ready
ACK_AFTER_S, ACK_EVERY = 0.2, 64  # receivers acknowledge what they display as `client.py` does
PATIENCE_S = 15.0  # seconds until nothing acknowledged means that nothing will be
DRAIN = 10  # mailboxes read at a time, of up to 256 KiB each: a guest that leaves 4 MiB unread is cut
SENDERS = 64  # connections, at most
FILL, FILLERS = 500, 4  # requests together, and guests that make them: below the window of a session
GUESSED = 20  # accounts that guests try to get into
STAMP = re.compile(rb"T(\d+\.\d{6}) ")
STAMP_MAX = 31  # bytes of one that may have come in part


class Order(msgspec.Struct):
    """What to do. `job`: `measure`, or one of `JOBS`; `count`: how many of what it makes."""

    dialect: str
    port: int
    job: str = "measure"
    connections: int = 1
    window: int = 1
    text_bytes: int = 100
    warm: float = 0.5
    seconds: float = 2.0
    receivers: bool = False
    reads: bool = False
    count: int = 0
    pids: list[int] = []  # processes of the system, whose processor time is counted
    noted: str = ""  # a file to be filled with doubles: when each was acknowledged (`time.monotonic`), then how long each took


class Times(msgspec.Struct):
    """A distribution, in milliseconds."""

    count: int = 0
    p50: float = 0.0
    p99: float = 0.0
    p999: float = 0.0
    worst: float = 0.0


class Result(msgspec.Struct):
    """What was measured. Bytes are those of one message, request and reply."""

    per_second: float = 0.0
    times: Times = msgspec.field(default_factory=Times)
    bytes_out: float = 0.0
    bytes_in: float = 0.0
    processor: list[float] = []  # microseconds a message, of each of `pids`
    own_processor: float = 0.0  # the load generator's
    shown: Times = msgspec.field(default_factory=Times)
    lists: Times = msgspec.field(default_factory=Times)
    mailboxes: Times = msgspec.field(default_factory=Times)
    trouble: str = ""


def times_of(seconds: array.array[float]) -> Times:
    """The distribution of these."""
    if not seconds:
        return Times()
    ordered = sorted(seconds)
    p50, p99, p999 = (round(ordered[int(len(ordered) * share)] * 1e3, 4) for share in (0.5, 0.99, 0.999))
    return Times(len(ordered), p50, p99, p999, round(ordered[-1] * 1e3, 4))


class Wire(asyncio.Protocol):
    """A connection before and while it is measured."""

    transport: asyncio.WriteTransport

    def __init__(self) -> None:
        self.seen = b""
        self.news: asyncio.Future[None] | None = None
        self.sink: Callable[[bytes], None] | None = None
        self.came = self.went = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.WriteTransport, transport)
        transport.set_write_buffer_limits(high=1 << 30)  # type: ignore[attr-defined]

    def data_received(self, chunk: bytes) -> None:
        self.came += len(chunk)
        if self.sink is not None:
            return self.sink(chunk)
        self.seen += chunk
        if self.news is not None and not self.news.done():
            self.news.set_result(None)
        return None

    def connection_lost(self, error: Exception | None) -> None:
        if self.news is not None and not self.news.done():
            self.news.set_exception(BadReply(f"the connection ended after {self.seen[-200:]!r}"))

    def write(self, words: bytes) -> None:
        self.went += len(words)
        self.transport.write(words)

    async def until(self, mark: bytes) -> bytes:
        """Read until `mark` has come; what was read, with it."""
        while mark not in self.seen:
            self.news = asyncio.get_running_loop().create_future()
            await self.news
        at = self.seen.index(mark) + len(mark)
        found, self.seen = self.seen[:at], self.seen[at:]
        return found


async def connect(port: int) -> Wire:
    """A connection to this port of this host."""
    _, wire = await asyncio.get_running_loop().create_connection(Wire, "127.0.0.1", port)
    return wire


class Sender:
    """A connection that keeps `window` requests outstanding."""

    def __init__(self, wire: Wire, dialect: Dialect, window: int, tally: array.array[float], moments: array.array[float] | None) -> None:
        self.wire, self.dialect, self.window, self.tally, self.moments = wire, dialect, window, tally, moments
        self.sent: collections.deque[float] = collections.deque()
        self.last = b""

    def begin(self) -> None:
        """Send the first window."""
        self.wire.sink = self.on_chunk
        early, self.wire.seen = self.wire.seen, b""
        if early:
            self.dialect.count(early)
        self.send(self.window)

    def send(self, count: int) -> None:
        """As many more."""
        self.wire.write(self.dialect.requests(count))
        self.sent.extend([time.perf_counter()] * count)

    def on_chunk(self, chunk: bytes) -> None:
        """Acknowledgements, perhaps."""
        self.last = chunk
        count, now = self.dialect.count(chunk), time.perf_counter()
        sent, tally = self.sent, self.tally
        for _ in range(count):
            tally.append(now - sent.popleft())
        if self.moments is not None:
            self.moments.extend([now] * count)
        if count:
            self.send(count)


class Receiver:
    """A guest that is online: notes when what was sent to it is displayed, and acknowledges it as `client.py` does."""

    def __init__(self, wire: Wire, number: int, tally: array.array[float]) -> None:
        self.wire, self.name, self.tally = wire, b"r%d" % number, tally
        self.rest = b""
        self.seq = self.acked = 0
        self.acked_at = 0.0

    async def enter(self) -> None:
        """Log in, numbered."""
        wire = self.wire
        await wire.until(b"documentation \n")
        wire.write(b"understudy 1 %032x\n1 0 1|%s\n2 1 0|%s123\n" % (time.time_ns(), self.name, self.name))
        await wire.until(b"now logged in\n")
        wire.sink, early = self.on_chunk, wire.seen
        self.on_chunk(early)

    def on_chunk(self, chunk: bytes) -> None:
        """Messages, or parts of them."""
        seen, now, end = self.rest + chunk, time.perf_counter(), 0
        for stamp in STAMP.finditer(seen):
            self.tally.append(now - float(stamp[1]))
            self.seq += 1
            end = stamp.end()
        self.rest = seen[max(end, len(seen) - STAMP_MAX) :]
        if self.seq - self.acked >= ACK_EVERY or (self.seq > self.acked and now - self.acked_at >= ACK_AFTER_S):
            self.acked, self.acked_at = self.seq, now
            self.wire.write(b"ack %d\n" % self.seq)


class Reader:
    """A connection that asks the same read over and over."""

    def __init__(self, wire: Wire, line: bytes, mark: bytes, tally: array.array[float]) -> None:
        self.wire, self.line, self.mark, self.tally = wire, line, mark, tally

    async def run(self) -> None:
        """Until it is cancelled."""
        await self.wire.until(b"documentation \n")
        while True:
            began = time.perf_counter()
            self.wire.write(self.line)
            await self.wire.until(self.mark)
            self.tally.append(time.perf_counter() - began)


async def measure(order: Order) -> Result:
    """Everybody enters, the load runs, the clock looks."""
    tally, shown, lists, mailboxes, moments = (array.array("d") for _ in range(5))
    wires: list[Wire] = []
    senders: list[Sender] = []
    async with asyncio.timeout(ENTER_S):
        if order.receivers:
            for number in range(order.connections):
                await Receiver(await connect(order.port), number, shown).enter()
        for number in range(order.connections):
            wire = await connect(order.port)
            dialect = DIALECTS[order.dialect](number, order.text_bytes, shows=order.receivers)
            await dialect.enter(wire)
            wires.append(wire)
            senders.append(Sender(wire, dialect, order.window, tally, moments if order.noted else None))
    tasks = []
    if order.reads:
        read = b"4|%s123\n-\n" % recipient(7).encode()  # of any number of lines; what is no command is answered after it
        for line, mark, times in ((b"2|u00.*\n", b"\n", lists), (read, INVALID, mailboxes)):
            tasks.append(asyncio.create_task(Reader(await connect(order.port), line, mark, times).run()))
    for sender in senders:
        sender.begin()
    gc.collect()
    gc.freeze()
    await asyncio.sleep(order.warm)
    for times in (tally, shown, lists, mailboxes, moments):
        del times[:]
    used, own = [processor_of(pid) for pid in order.pids], time.process_time()
    before = sum(w.went for w in wires), sum(w.came for w in wires)
    began = time.perf_counter()
    await asyncio.sleep(order.seconds)
    while not tally and time.perf_counter() - began < PATIENCE_S:
        await asyncio.sleep(0.05)
    seconds, count = time.perf_counter() - began, len(tally)
    went, came = sum(w.went for w in wires) - before[0], sum(w.came for w in wires) - before[1]
    own = time.process_time() - own
    used = [processor_of(pid) - before for pid, before in zip(order.pids, used, strict=True)]
    for task in tasks:
        task.cancel()
    if order.noted:
        with open(order.noted, "wb") as file:
            file.write(moments[:count].tobytes() + tally[:count].tobytes())
    if not count:
        return Result(trouble=f"nothing was acknowledged; last words: {[s.last[-200:] for s in senders if s.last][:2]}")
    return Result(
        per_second=count / seconds,
        times=times_of(tally),
        bytes_out=went / count,
        bytes_in=came / count,
        processor=[each / count * 1e6 for each in used],
        own_processor=own / count * 1e6,
        shown=times_of(shown),
        lists=times_of(lists),
        mailboxes=times_of(mailboxes),
    )


def processor_of(pid: int) -> float:
    """Seconds of processor that all threads of this process have had."""
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(FileNotFoundError), open(f"/proc/{pid}/task/{thread}/schedstat", encoding="ascii") as file:
            total += int(file.read().split()[0])
    return total / 1e9


async def make_accounts(order: Order) -> Result:
    """The recipients, and the senders who do not come in first (gRPC)."""
    wire = await connect(order.port)
    await wire.until(b"documentation \n")
    names = [recipient(number).encode() for number in range(RECIPIENTS)] + [b"s%d" % number for number in range(SENDERS)]
    for start in range(0, len(names), FILL):
        some = names[start : start + FILL]
        wire.write(b"".join(b"1|%s\n" % name for name in some))
        await wire.until(b"Account ID: %s123\n" % some[-1])
    wire.transport.close()
    return Result()


async def drain(order: Order) -> Result:
    """Everything that waits is read, so that one measurement does not make the next one's snapshots larger."""
    wire = await connect(order.port)
    await wire.until(b"documentation \n")
    for start in range(0, RECIPIENTS, DRAIN):
        asked = b"".join(b"4|%s123\n" % recipient(number).encode() for number in range(start, start + DRAIN))
        full = True
        while full:
            wire.write(asked + b"-\n")  # no command: says so after all that was asked before it
            full = b"undelivered message" in await wire.until(INVALID)
    wire.transport.close()
    return Result()


async def fill_accounts(order: Order) -> Result:
    """So many more accounts, by a few guests at a time."""

    async def make(first: int) -> None:
        wire = await connect(order.port)
        await wire.until(b"documentation \n")
        for start in range(first, order.count, FILLERS * FILL):
            numbers = range(start, min(start + FILL, order.count))
            wire.write(b"".join(b"1|account%07d\n" % number for number in numbers))
            await wire.until(b"Account ID: account%07d123\n" % numbers[-1])
        wire.transport.close()

    await asyncio.gather(*(make(i * FILL) for i in range(FILLERS)))
    return Result()


async def fill_messages(order: Order, *, are_read: bool = True) -> Result:
    """So many messages, each read soon after it was stored, so that few wait at any time; or none of them."""

    async def talk(filler: int) -> None:
        wire = await connect(order.port)
        await wire.until(b"documentation \n")
        wire.write(b"1|%s%d\n" % (b"filler" if are_read else b"leaver", filler))
        await wire.until(b"123\n")
        text = b"m" * order.text_bytes
        for turn in range(filler, order.count // FILL, FILLERS):
            whom = recipient(turn).encode()
            wire.write(b"3|%s|%s\n" % (whom, text) * FILL + (b"4|%s123\n" % whom if are_read else b"") + b"-\n")
            await wire.until(INVALID)
        wire.transport.close()

    await asyncio.gather(*(talk(filler) for filler in range(FILLERS)))
    return Result()


async def fill_mailboxes(order: Order) -> Result:
    """So many messages, which wait for their readers."""
    return await fill_messages(order, are_read=False)


async def guess(order: Order) -> Result:
    """Log-ins to accounts that do not exist, by guests who do not tire. How many were answered, not for how long they run."""
    answered = 0

    async def try_on(number: int) -> None:
        nonlocal answered
        wire = await connect(order.port)
        await wire.until(b"documentation \n")
        while True:
            wire.write(b"0|nobody%d123|guess\n" % (number % GUESSED))
            await wire.until(b"\n")
            answered += 1

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(order.seconds):
            await asyncio.gather(*(try_on(number) for number in range(order.connections)))
    return Result(per_second=answered / order.seconds)


async def stream(order: Order) -> Result:
    """The stream that NATS stores messages in."""
    async with asyncio.timeout(STREAM_S):  # servers that have not elected a leader yet say nothing
        await make_stream(await connect(order.port))
    return Result()


JOBS = {
    "measure": measure,
    "accounts": make_accounts,
    "drain": drain,
    "fill_accounts": fill_accounts,
    "fill_messages": fill_messages,
    "fill_mailboxes": fill_mailboxes,
    "guess": guess,
    "stream": stream,
}


def main() -> None:
    """Entry point."""
    order = msgspec.json.decode(sys.argv[1], type=Order)
    gc.set_threshold(100_000, 50, 50)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            result = runner.run(JOBS[order.job](order))
        except (BadReply, OSError) as error:  # TimeoutError is one
            result = Result(trouble=f"{type(error).__name__}: {error}")
    print(msgspec.json.encode(result).decode(), flush=True)


if __name__ == "__main__":
    main()
