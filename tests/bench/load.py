"""The load generator: a process of its own, which keeps requests outstanding and notes when each was acknowledged.

What it is not: it starts no system and compares nothing (`systems.py`, `scripts/bench.py`). One order in, as JSON on the command line; one
result out, as JSON on standard output.

    python -m tests.bench.load '{"dialect": "pipe", "port": 6666, "connections": 64, "window": 1, …}'

    connection ── window requests ──▶ system
               ◀── acknowledgements ──   each is followed by the next request at once (a closed loop)

    with `receivers` (D)   as many guests are online, each shown what one connection sends; time from send to display
    with `reads` (R)       one more connection lists accounts and one reads a mailbox, each as fast as it is answered

There is no figure where one connection ended, was told anything but an acknowledgement, or was still owed one long after the last request.
Times are of requests that were answered while the clock ran, from when they were handed to the socket. A loop that is closed sends nothing
while it waits, so a pause of the system counts once for each request that was outstanding, not for those that would have come meanwhile.

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
    OneWait,
    Pipe,
    Redis,
    Room,
    make_stream,
    recipient,
)
from tests.bench.frames import Etcd, Grpc

KINDS = (Bare, Etcd, Framed, Grpc, Ledger, Nats, Numbered, OneWait, Pipe, Redis, Room)
DIALECTS: dict[str, type[Dialect]] = {kind.__name__.lower(): kind for kind in KINDS}
STREAM_S = 2.0  # seconds in which the stream must be made
ENTER_S = 20.0  # seconds in which everybody must be ready
ACK_AFTER_S, ACK_EVERY = 0.2, 64  # receivers acknowledge what they display as `client.py` does
PATIENCE_S = 15.0  # seconds after which what has not been answered never will be
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
    leads: str = ""  # of `stream`: the server that does
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
        self.trouble = ""
        self.news: asyncio.Future[None] | None = None
        self.sink: Callable[[bytes], None] | None = None
        self.came = self.went = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.WriteTransport, transport)
        transport.set_write_buffer_limits(high=1 << 30)  # type: ignore[attr-defined]

    def data_received(self, chunk: bytes) -> None:
        self.came += len(chunk)
        if self.sink is not None:
            try:
                return self.sink(chunk)
            except BadReply as error:
                self.trouble, self.sink = str(error), None
        self.seen += chunk
        if self.news is not None and not self.news.done():
            self.news.set_result(None)
        return None

    def connection_lost(self, error: Exception | None) -> None:
        self.trouble = self.trouble or f"a connection ended: {error!r}"
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
        self.is_over = False

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
        if count and not self.is_over:
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


class Load:
    """Everybody who takes part in one measurement, and what they have noted."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.tally, self.shown, self.lists, self.mailboxes, self.moments = (array.array("d") for _ in range(5))
        self.senders: list[Sender] = []
        self.wires: list[Wire] = []  # the senders' come first
        self.readers: list[asyncio.Task[None]] = []

    async def enter(self) -> None:
        """Everybody is there, and nobody has begun."""
        order, receivers = self.order, []
        for number in range(order.connections if order.receivers else 0):
            receivers.append(await connect(order.port))
            await Receiver(receivers[-1], number, self.shown).enter()
        for number in range(order.connections):
            wire = await connect(order.port)
            dialect = DIALECTS[order.dialect](number, order.text_bytes, shows=order.receivers)
            await dialect.enter(wire)
            self.senders.append(Sender(wire, dialect, order.window, self.tally, self.moments if order.noted else None))
        self.wires = [sender.wire for sender in self.senders] + receivers

    async def begin(self) -> None:
        """Everybody does what it is there for."""
        if self.order.reads:
            read = b"4|%s123\n-\n" % recipient(7).encode()  # of any number of lines; what is no command is answered after it
            for line, mark, times in ((b"2|u00.*\n", b"\n", self.lists), (read, INVALID, self.mailboxes)):
                reader = Reader(await connect(self.order.port), line, mark, times)
                self.readers.append(asyncio.create_task(reader.run()))
        for sender in self.senders:
            sender.begin()

    def forget(self) -> None:
        """What was noted until now was the warm-up."""
        for times in (self.tally, self.shown, self.lists, self.mailboxes, self.moments):
            del times[:]

    def moved(self) -> tuple[int, int]:
        """Bytes that the senders have sent and received."""
        wires = [sender.wire for sender in self.senders]
        return sum(w.went for w in wires), sum(w.came for w in wires)

    def is_empty(self) -> bool:
        """Whether something that was to be measured has not happened once."""
        order = self.order
        return not self.tally or (order.receivers and not self.shown) or (order.reads and not (self.lists and self.mailboxes))

    def trouble(self) -> str:
        """Why there is no figure, so far."""
        found = [f"{wire.trouble}; last words: {wire.seen[-200:]!r}" for wire in self.wires if wire.trouble]
        found += [f"a reader ended: {reader.exception()!r}" for reader in self.readers if reader.done()]
        return found[0] if found else ""

    async def hear(self, is_awaited: Callable[[], object]) -> bool:
        """Wait for what is still to come. Whether it has come, and nothing is wrong."""
        deadline = time.perf_counter() + PATIENCE_S
        while is_awaited() and not self.trouble() and time.perf_counter() < deadline:
            await asyncio.sleep(0.01)
        return not is_awaited() and not self.trouble()

    async def end(self) -> str:
        """Nothing more is sent, and all that was is answered; else why not."""
        for sender in self.senders:
            sender.is_over = True
        if not await self.hear(lambda: any(sender.sent for sender in self.senders)):
            owed = [sender for sender in self.senders if sender.sent]
            return self.trouble() or f"{len(owed)} connections were not answered any more; last words: {[s.last[-200:] for s in owed][:2]}"
        for reader in self.readers:
            reader.cancel()
        return ""


async def measure(order: Order) -> Result:
    """Everybody enters, the load runs, the clock looks."""
    load = Load(order)
    async with asyncio.timeout(ENTER_S):
        await load.enter()
    await load.begin()
    gc.collect()
    gc.freeze()
    await asyncio.sleep(order.warm)
    load.forget()
    before, own, went_before = [processor_of(pid) for pid in order.pids], time.process_time(), load.moved()
    began = time.perf_counter()
    await asyncio.sleep(order.seconds)
    await load.hear(load.is_empty)
    seconds, count, own = time.perf_counter() - began, len(load.tally), time.process_time() - own
    went, came = (now - then for now, then in zip(load.moved(), went_before, strict=True))
    used = [more_than(then, processor_of(pid)) for pid, then in zip(order.pids, before, strict=True)]
    tally, shown, lists, mailboxes = (times_of(times) for times in (load.tally, load.shown, load.lists, load.mailboxes))
    if order.noted:
        with open(order.noted, "wb") as file:
            file.write(load.moments[:count].tobytes() + load.tally[:count].tobytes())
    is_empty = load.is_empty()  # what comes later comes too late
    if trouble := await load.end():
        return Result(trouble=trouble)
    if is_empty:
        return Result(trouble="what was to be read or shown beside it was not" if count else "nothing was acknowledged")
    return Result(
        per_second=count / seconds,
        times=tally,
        bytes_out=went / count,
        bytes_in=came / count,
        processor=[each / count * 1e6 for each in used],
        own_processor=own / count * 1e6,
        shown=shown,
        lists=lists,
        mailboxes=mailboxes,
    )


def processor_of(pid: int) -> dict[int, float]:
    """Seconds of processor that all threads of this process have had, and of those it has started: of a replica, its snapshot worker."""
    total, found = 0, dict[int, float]()
    for thread in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            with open(f"/proc/{pid}/task/{thread}/schedstat", encoding="ascii") as file:
                total += int(file.read().split()[0])
            with open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as file:
                for child in map(int, file.read().split()):
                    found |= processor_of(child)
    return {pid: total / 1e9, **found}


def more_than(before: dict[int, float], now: dict[int, float]) -> float:
    """Seconds that these processes have had since. Who began meanwhile had none before; who has ended is not told of."""
    return sum(seconds - before.get(pid, 0.0) for pid, seconds in now.items())


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
        return Result(leads=await make_stream(await connect(order.port)))


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
