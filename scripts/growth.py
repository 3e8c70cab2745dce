"""What becomes of the speed when much is stored: `python scripts/growth.py [--only PARTS] [--built DIRECTORY] [--smoke]`.

What it is not: a comparison with others (`scripts/bench.py`), and no judge: it prints what is wanted beside each figure. Two clusters of
our own run side by side, an empty one and one that is filled; they are measured in turn. `--built`: the filled one is kept there, for the
next time. `--smoke`: shows that it works, with one replica each and next to nothing stored; no figure means anything.

    part       what is done                                                     wanted
    memory     of each replica and its snapshot worker, while 10,000 wait       at most 250 MB
    load       W1 and W3 on both                                                at most 10 % lost
    snapshot   W1 until snapshots were made meanwhile                           p99 at most doubled, nobody waits over 50 ms longer
    restart    kill -9 of all three, start; the same right after W1             serving within 3 s
    rejoin     a backup without its directory comes back while W1 runs          50 MB/s or more, W1 loses at most 25 %
    idle       10,000 connections that say nothing, then as many guests         at most 150 MB a replica
    large      messages of 4 KiB and of 64 KiB                                  (reported)
    slow       a backup that stands still for 20 ms of every 100, under either  the others stand still as long, and not longer;
               policy                                                           under majority not at all
    last       W1 at the last member, two having died                           no fewer than with three
    reads      history, lists and patterns, one after the other, and W1 beside  (reported)
    guesses    200 guests who guess passwords, and W1 of 8 beside               p99 at most doubles

Read next: `tests/bench/filled.py`, `tests/bench/load.py`, docs/performance.md.
"""

from __future__ import annotations

import argparse
import array
import contextlib
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

if __name__ == "__main__":
    import bootstrap

    bootstrap.ensure(bootstrap.PACKAGES)


from tests.bench.dialects import recipient
from tests.bench.filled import Filled
from tests.bench.load import Order, Result
from tests.bench.makings import Making, Watch, sort_out
from tests.bench.systems import Understudy, end_well, run_load
from tests.system.cluster import rss_of, until
from tests.system.guests import Numbered, Plain

PARTS = ("memory", "load", "snapshot", "restart", "rejoin", "idle", "large", "slow", "last", "reads", "guesses")
EMPTY = ("idle", "large", "slow", "last", "guesses")  # of them, those that look at the empty cluster only
SMOKE = ("memory", "idle", "guesses")  # of them, those that are over in a moment and lean on little of what the others do
WAITING = 10_000  # messages that nobody has read, in mailboxes of 500
IDLE = 10_000
SLOW_S, SLOW_EVERY_S = 0.02, 0.1
JOURNAL_S = 12.0  # seconds of W1 before all are killed: as much journal as stands above a snapshot at most, nearly
REJOIN_S, REJOIN_AT_S = 9.0, 2.0  # seconds of W1, and when the replica comes back
READS = {
    "history, newest 20": "history|u0000",
    "history, 20 in the middle": "history|u0000|20|{middle}",
    "history of nobody": "history|account0000001",
    "2|.*99, all accounts": "2|.*99",
    "2, all accounts": "2",
}
READS_S = 3.0  # seconds of each
GUESSERS, GUESSES_S = 200, 6.0  # connections, and seconds; a part of them is measured
SETTLE_S = 3.0  # seconds of W1 before any counts: workers start, and load what they need
CATCH_S = 40.0  # seconds of W1: the journal has grown by 64 MiB after half of them, and the replicas make a snapshot one after the other
CATCH_MAX = 4  # so often at most

BESIDE = ThreadPoolExecutor(1)  # what runs beside something else; whoever asks for its result hears of its trouble


class Growth:
    """One run."""

    def __init__(self, where: str, arguments: argparse.Namespace) -> None:
        self.messages, self.accounts, self.rounds, self.seconds, self.snapshots = (
            arguments.messages,
            arguments.accounts,
            arguments.rounds,
            arguments.seconds,
            arguments.snapshots,
        )
        self.replicas, self.waiting, self.idlers, self.guessers, self.guesses_s = (
            (1, 500, 20, 20, 0.5) if arguments.smoke else (3, WAITING, IDLE, GUESSERS, GUESSES_S)
        )
        self.full = Filled(
            os.path.join(where, "full"),
            replicas=self.replicas,
            accounts=self.accounts,
            messages=self.messages,
            waiting=self.waiting,
            built=arguments.built,
        )
        self.empty = Understudy(os.path.join(where, "empty"), replicas=self.replicas)

    def measure(
        self, system: Understudy, connections: int, window: int, *, text_bytes: int = 100, seconds: float = 0.0, changing: bool = False
    ) -> Result:
        """One load at the primary; `changing`: processes come and go meanwhile, and their time is not counted."""
        order = Order("numbered", system.port(), connections=connections, window=window, text_bytes=text_bytes)
        order.seconds, order.pids = seconds or self.seconds, [] if changing else system.pids()
        return run_load(order)

    # --- parts ----------------------------------------------------------------------------------------------------------------------------

    def load(self) -> None:
        """W1 and W3, in turn; not before what a start brings with it is over."""
        self.measure(self.empty, 64, 1)
        self.empty.rest()
        for name, connections, window in (("W1", 64, 1), ("W3", 8, 256)):
            ratios, used = [], []
            for _ in range(self.rounds):
                full = self.measure(self.full, connections, window)
                self.full.rest()  # its snapshot would run beside the other's measurement
                empty = self.measure(self.empty, connections, window)
                ratios.append(full.per_second / empty.per_second)
                used.append(sum(full.processor) / sum(empty.processor))
                self.empty.rest()
            share, cost = statistics.median(ratios), statistics.median(used)
            say(f"load      {name}: {share:.2f} of the empty cluster's (wanted: at least 0.90); processor a message {cost:.2f} of it")

    def snapshot(self) -> None:
        """W1 until so many snapshots were made meanwhile, and what requests beside them waited longer than all the others."""
        moments, seconds, makings, made = array.array("d"), array.array("d"), list[Making](), list[tuple[int, float]]()
        order = Order("numbered", self.full.port(), connections=64, window=1, warm=SETTLE_S, seconds=CATCH_S)
        order.noted = os.path.join(self.full.where, "noted")
        for _ in range(CATCH_MAX):
            self.full.rest()  # so that all begins with a snapshot of everything
            with Watch(self.full.cluster) as watch:
                run_load(order)
            makings, made = makings + watch.makings, made + watch.made
            add_noted(order.noted, moments, seconds)
            if len(made) >= self.snapshots:
                break
        if not made:
            return say(f"snapshot  NO snapshot was made in {CATCH_MAX} times {CATCH_S:.0f} s of W1: nothing is known")
        waits = sort_out(moments, seconds, makings)
        without, beside = waits.without, waits.beside
        say(
            f"snapshot  {len(made)} made beside W1, within {', '.join(f'{m.ended - m.began:.1f}' for m in makings)} s;"
            f" of {without.count} requests without and {beside.count} with one"
            f" p50 {without.p50:.1f} → {beside.p50:.1f} ms, p99 {without.p99:.1f} → {beside.p99:.1f} ms (wanted: at most 2.0 times),"
            f" p99.9 {without.p999:.1f} → {beside.p999:.1f} ms, worst {without.worst:.1f} → {beside.worst:.1f} ms (wanted: at most 50 more)"
        )
        for took, moment in waits.worst:
            at = moment - max(m.began for m in makings if m.began <= moment)
            replica, placed = min(made, key=lambda one: abs(one[1] - moment))
            say(f"          {took:.1f} ms, {at:.2f} s after that began, {moment - placed:+.2f} s from replica {replica}'s in place")

    def restart(self) -> None:
        """Everybody dies at once."""
        for what, seconds in (("in silence", 0.0), (f"after {JOURNAL_S:.0f} s of W1", JOURNAL_S)):
            self.full.rest()
            if seconds:
                self.measure(self.full, 64, 1, seconds=seconds)  # nobody has read any of it: it all waits
            unsaved = max(status["op"] - status["snapshot"] for status in self.full.cluster.statuses().values())
            self.full.cluster.kill_all()
            began = time.monotonic()
            serving = self.full.up()
            say(
                f"restart   killed {what}, {unsaved} commands above the snapshot: serving after {serving:.2f} s"
                f" (wanted: at most 3), all members after {time.monotonic() - began:.2f} s"
            )

    def rejoin(self) -> None:
        """A backup has lost everything."""
        cluster = self.full.cluster
        self.full.rest()
        before = self.measure(self.full, 64, 1, seconds=3)
        backup = (self.full.primary + 1) % 3
        cluster.kill(backup)
        cluster.wait_members(*(i for i in cluster.ids if i != backup))
        cluster.empty(backup)
        size = directory_bytes(os.path.join(cluster.base, f"replica-{self.full.primary}"))
        order = Order("numbered", self.full.port(), connections=64, seconds=REJOIN_S)
        order.noted = os.path.join(self.full.where, "noted")
        beside = BESIDE.submit(run_load, order)
        time.sleep(REJOIN_AT_S)
        began = time.monotonic()
        cluster.start(backup)
        until("the replica is a member again", lambda: backup in (cluster.status(self.full.primary) or {}).get("members", ()), 120)
        ended = time.monotonic()
        beside.result()
        moments, seconds = array.array("d"), array.array("d")
        add_noted(order.noted, moments, seconds)
        seen_s = min(ended, moments[-1]) - max(began, moments[0])
        waits = sort_out(moments, seconds, [Making(began, ended)])
        say(
            f"rejoin    {size / 1e6:.0f} MB in {ended - began:.2f} s, {size / 1e6 / (ended - began):.0f} MB/s with its start"
            f" (wanted: at least 50); W1 meanwhile {waits.beside.count / seen_s / before.per_second:.2f} of before"
            f" (wanted: at least 0.75), p50 {before.times.p50:.1f} → {waits.beside.p50:.1f} ms,"
            f" p99 {before.times.p99:.1f} → {waits.beside.p99:.1f} ms, worst {waits.beside.worst:.0f} ms"
        )

    def memory(self) -> None:
        """What each replica holds. First of all: the other parts read what waits."""
        for name, system in (("full", self.full), ("empty", self.empty)):
            servers = [held_by(pid) for pid in system.pids()]
            workers = [sum(map(held_by, children_of(pid))) for pid in system.pids()]
            each = ", ".join(f"{(server + worker) / 1e6:.0f}" for server, worker in zip(servers, workers, strict=True))
            say(
                f"memory    {name}: each replica {each} MB (wanted: at most 250), of which its snapshot worker"
                f" {', '.join(f'{worker / 1e6:.0f}' for worker in workers)}, which leaves after a minute without work"
            )

    def idle(self) -> None:
        """Connections that say nothing at the primary; then guests who have logged in and say nothing more."""
        with self.another("idle", grpc=False) as system:  # whose door takes half of the descriptors that there may be
            before = [rss_of(pid) for pid in system.pids()]
            for what, kind in (("connections", Plain), ("guests with sessions", Numbered)):
                guests = [kind(system.port()) for _ in range(self.idlers)]
                entering = [guest for guest in guests if isinstance(guest, Numbered)]
                for number, newcomer in enumerate(entering):
                    newcomer.say(f"1 0 0|{recipient(number)}123\n")
                for newcomer in entering:
                    newcomer.reply(1)
                after = [rss_of(pid) for pid in system.pids()]
                more = ", ".join(f"{(now - then) / 1e6:.0f}" for then, now in zip(before, after, strict=True))
                count = (system.cluster.status(system.primary) or {})["connections"]
                say(
                    f"idle      {count} {what}: {more} MB more at primary and backups,"
                    f" {', '.join(f'{now / 1e6:.0f}' for now in after)} in all (wanted: at most 150)"
                )
                for guest in guests:
                    guest.socket.close()

    @contextlib.contextmanager
    def another(self, name: str, *, grpc: bool = True, policy: str = "survivor") -> Iterator[Understudy]:
        """A cluster for one part alone."""
        system = Understudy(os.path.join(self.empty.where, name), replicas=self.replicas, grpc=grpc, policy=policy)
        try:
            system.start()
            yield system
        finally:
            system.end()

    def large(self) -> None:
        """Bandwidth."""
        for size in (4096, 65_000):
            result = self.measure(self.empty, 8, 16, text_bytes=size)
            bandwidth = result.per_second * size / 1e6
            times = result.times
            say(
                f"large     {size} bytes: {result.per_second:.0f}/s, {bandwidth:.0f} MB/s of text,"
                f" p50 {times.p50:.1f}, p99 {times.p99:.1f} ms"
            )
            self.empty.rest()

    def slow(self) -> None:
        """A backup that hangs a little, again and again: under survivor every batch waits for it, nobody votes it out."""
        self._slow(self.empty, "survivor", True)
        with self.another("several", policy="majority") as several:
            self._slow(several, "majority", False)

    def _slow(self, system: Understudy, policy: str, all_wait: bool) -> None:
        before, during, shares = list[Result](), list[Result](), list[float]()
        self.measure(system, 64, 1)
        for _ in range(self.rounds):
            before.append(self.measure(system, 64, 1))
            with hindered(system.pids()[1]) as stood:
                during.append(self.measure(system, 64, 1))
            shares.append(statistics.mean(stood))
            system.cluster.wait_members()

        def middle(of: Callable[[Result], float]) -> str:
            return " → ".join(f"{statistics.median(map(of, results)):.1f}" for results in (before, during))

        ratio = statistics.median(b.per_second / a.per_second for a, b in zip(before, during, strict=True))
        share = statistics.median(shares)
        say(
            f"slow      {policy}: a backup stands still for {share:.2f} of the time, and stays a member:"
            f" W1 {ratio:.2f} of before (its protocol says: {1 - share if all_wait else 1:.2f}), p50 {middle(lambda r: r.times.p50)} ms,"
            f" p99 {middle(lambda r: r.times.p99)} ms (medians of {self.rounds})"
        )

    def last(self) -> None:
        """Two have died: nobody has to acknowledge but the one that is left, which still commits together what comes together."""
        cluster, before, after = self.empty.cluster, list[Result](), list[Result]()
        others = [i for i in cluster.ids if i != self.empty.primary]
        for _ in range(self.rounds):
            self.measure(self.empty, 64, 1, changing=True)  # two of them have just started
            self.empty.rest()
            before.append(self.measure(self.empty, 64, 1))
            cluster.kill(*others)
            cluster.wait_members(self.empty.primary)
            after.append(self.measure(self.empty, 64, 1, changing=True))
            cluster.start(*others)
            cluster.wait_members()
        self.empty.rest()
        ratio = statistics.median(b.per_second / a.per_second for a, b in zip(before, after, strict=True))
        say(f"last      W1 {ratio:.2f} of three members' (wanted: at least 1), median of {self.rounds}")

    def guesses(self) -> None:
        """A flood of log-ins, nearly all of which are refused at once."""
        quiet = self.measure(self.empty, 8, 1)
        order = Order("pipe", self.empty.port(), "guess", connections=self.guessers, seconds=self.guesses_s)
        flood = BESIDE.submit(run_load, order)
        during = self.measure(self.empty, 8, 1)
        pairs = [(getattr(quiet.times, q), getattr(during.times, q)) for q in ("p50", "p99", "worst")]
        say(
            f"guesses   {flood.result().per_second:.0f} a second answered; W1 of 8 beside them p50, p99, worst"
            f" {', '.join(f'{before:.1f} → {after:.1f}' for before, after in pairs)} ms (wanted: p99 at most 2.0 times)"
        )

    def reads(self) -> None:
        """A guest who reads one thing after the other, and what 8 who write notice of it."""
        guest = Numbered(self.full.port())
        guest.request(1, "0|filler0123")
        quiet = self.measure(self.full, 8, 1, seconds=READS_S)
        number, middle = 1, self.messages // 2
        for what, line in READS.items():
            beside = BESIDE.submit(self.measure, self.full, 8, 1, seconds=READS_S)
            took = []
            while not beside.done():
                number, began = number + 1, time.monotonic()
                words = guest.request(number, line.format(middle=middle))
                took.append((time.monotonic() - began) * 1e3)
            during = beside.result()
            took.sort()
            pairs = [(getattr(quiet.times, q), getattr(during.times, q)) for q in ("p50", "p99", "worst")]
            say(
                f"reads     {what}: {len(took)}, of {len(words)} bytes, p50 {statistics.median(took):.1f}, worst {took[-1]:.1f} ms;"
                f" W1 of 8 beside it p50, p99, worst {', '.join(f'{before:.1f} → {after:.1f}' for before, after in pairs)} ms"
            )
        guest.socket.close()


def directory_bytes(path: str) -> int:
    """Bytes of the newest snapshot in a replica's directory: what one that is empty has to fetch."""
    newest = os.path.realpath(os.path.join(path, "csv"))
    return sum(os.path.getsize(os.path.join(newest, name)) for name in os.listdir(newest))


def add_noted(path: str, moments: array.array[float], seconds: array.array[float]) -> None:
    """What a load has noted, behind what others did."""
    count = os.path.getsize(path) // (2 * moments.itemsize)
    with open(path, "rb") as file:
        moments.fromfile(file, count)
        seconds.fromfile(file, count)


@contextlib.contextmanager
def hindered(pid: int) -> Iterator[list[float]]:
    """A process that stands still again and again meanwhile; of each time, for what share of it."""
    shares, over = list[float](), threading.Event()

    def hinder() -> None:
        since = time.monotonic()
        while not over.wait(SLOW_EVERY_S - SLOW_S):
            began = time.monotonic()
            os.kill(pid, signal.SIGSTOP)
            time.sleep(SLOW_S)
            os.kill(pid, signal.SIGCONT)
            ended = time.monotonic()
            shares.append((ended - began) / (ended - since))
            since = ended

    thread = threading.Thread(target=hinder)
    thread.start()
    try:
        yield shares
    finally:
        over.set()
        thread.join()


def held_by(pid: int) -> int:
    """Bytes of memory that a process holds, its part of what it shares with others."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:"))


def children_of(pid: int) -> list[int]:
    """Processes that this one has started: of a replica, its snapshot worker."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat", encoding="ascii", errors="replace") as file:
            if int(file.read().rpartition(")")[2].split()[1]) == pid:
                found.append(int(name))
    return found


def say(words: str) -> None:
    """A line of the report."""
    print(words, flush=True)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=1_000_000, help="stored and delivered in the filled cluster: 1,000,000")
    parser.add_argument("--accounts", type=int, default=100_000, help="in it: 100,000")
    parser.add_argument("--rounds", type=int, default=3, help="of load, in turn: 3")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each load whose length the part does not say: 2")
    parser.add_argument("--snapshots", type=int, default=3, help="how many are to be made beside W1, at least: 3")
    parser.add_argument("--built", default="", metavar="DIRECTORY", help="where the filled cluster is kept for the next time")
    parser.add_argument(
        "--only", default=",".join(PARTS), metavar="PARTS", help=f"parts, in this order; nothing is filled for {', '.join(EMPTY)} alone"
    )
    parser.add_argument(
        "--smoke", action="store_true", help=f"a moment of {', '.join(SMOKE)}: shows that it works, no figure means anything"
    )
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.only, arguments.built = ",".join(SMOKE), ""
        arguments.messages, arguments.accounts, arguments.seconds = 1000, 20, 0.1
    parts = arguments.only.split(",")
    if unknown := sorted({*parts} - {*PARTS}):
        sys.exit(f"unknown: {', '.join(unknown)}")
    end_well()
    with tempfile.TemporaryDirectory(prefix="understudy-growth-") as where:
        growth = Growth(where, arguments)
        work: dict[str, Callable[[], None]] = {part: getattr(growth, part) for part in PARTS}
        try:
            growth.empty.start()
            if set(parts) - set(EMPTY):
                growth.full.start()
                say("\n".join(growth.full.told))
            for part in parts:
                work[part]()
        finally:
            growth.full.end()
            growth.empty.end()


if __name__ == "__main__":
    main()
