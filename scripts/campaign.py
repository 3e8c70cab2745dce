"""The campaign: real servers, real clients, every fault there is, for as long as wanted; then the audit.

What it is not: it replays nothing. A find is explained from the logs that it leaves behind; the simulator is where it becomes a seed.

    fault           what is done
    one             kill -9 of the primary or of a backup
    two             of two at once, the primary among them more often than not
    three           of all; one member of the last view starts alone and serves, the others follow
    view change     a second kill within 20 ms of the first
    join            a replica that is catching up is killed, or the primary that it catches up from
    start           a replica is killed within 300 ms of its start, three times
    snapshot        a kill while a snapshot is being written
    pause           SIGSTOP for up to PAUSE_S, then SIGCONT; with a kill of another meanwhile, sometimes
    cut             connections of a replica, to guests or to the others, are shut down under its feet
    empty           a backup loses its data directory and comes back with nothing
    stop            a clean stop of one replica, the primary too, while everybody talks
    disk            every write of a replica fails for a while (its file size limit is set to 0): it must leave, not answer

After each fault everybody is started again, and the cluster must be whole within a deadline. At the end: acknowledged = shown once, in
order; every replica's CSV files are equal and hold what was acknowledged, once.

Exit code 0: nothing lost, doubled, misplaced or invented, and nobody had to be waited for in vain.

Read next: `tests/system/talk.py` (the audit), `docs/testing.md` (figures).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import os
import random
import resource
import socket
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TypeVar

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from tests.system.cluster import Cluster, TooLate
from tests.system.talk import Talker, audit, finish, leave, soon

PIDFD_GETFD = 438  # number of the system call; Python has no name for it
WHOLE_S = 30.0  # seconds after a fault until all replicas must be members again; a failed join backs off for up to 8
SNAPSHOT_EVERY_S = 2  # under load as well: so that snapshots, and rejoining by them, are hit by faults
GAP_S = 1.0  # seconds after a kill in which the gap of each client is looked for
PAUSE_S = 2.5  # longest pause: long enough to be voted out, and for all to go on without
KILLED, HUNG = "kill -9 of the primary to the next acknowledgement at a client", "SIGSTOP of the primary to the same"
ALONE, WHOLE = "start of one member alone to the moment it serves", "a fault to the moment all are members again"

T = TypeVar("T")


class Campaign:
    """One run on one scratch cluster."""

    def __init__(self, cluster: Cluster, dice: random.Random, people: int, pace: float) -> None:
        self.cluster, self.dice = cluster, dice
        names = [f"p{i}" for i in range(people)]
        # Each knows the ports in another order, so that every replica has guests of its own.
        self.talkers = [Talker(name, rotated(cluster.pipes, i), pace=pace) for i, name in enumerate(names)]
        self.done: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.times: dict[str, list[float]] = {KILLED: [], HUNG: [], ALONE: [], WHOLE: []}
        self.began = time.monotonic()
        self.faults: dict[str, Callable[[], Awaitable[None]]] = {
            "one": self.one,
            "two": self.two,
            "three": self.three,
            "view change": self.view_change,
            "join": self.join,
            "start": self.start,
            "snapshot": self.snapshot,
            "pause": self.pause,
            "cut": self.cut,
            "empty": self.empty,
            "stop": self.stop,
            "disk": self.disk,
        }

    async def run(self, seconds: float, only: list[str]) -> None:
        """Faults until the time is over; everybody talks all the while. Raises TooLate or AssertionError for what must not be."""
        self.cluster.start()
        await self.whole()
        for talker in self.talkers:
            await talker.enter()
        ending = asyncio.Event()
        names = [t.name for t in self.talkers]
        talking = [
            asyncio.create_task(t.talk(self.dice.sample(others := [n for n in names if n != t.name], len(others)), ending))
            for t in self.talkers
        ]
        kinds = only or list(self.faults)
        while time.monotonic() - self.began < seconds:
            kind = self.dice.choice(kinds)
            before = time.monotonic()
            say(before - self.began, kind)
            await self.faults[kind]()
            self.done[kind] += 1
            await self.whole()
            self.times[WHOLE].append(time.monotonic() - before)
            await self.rest(0.2)
            for task in talking:
                if task.done():
                    task.result()
        await finish(self.talkers, talking, ending, WHOLE_S)

    async def rest(self, most: float) -> None:
        """Let a random time pass."""
        await asyncio.sleep(self.dice.uniform(0, most))

    async def whole(self) -> None:
        """Start whoever does not run; wait until all are members and everybody is answered."""
        cluster = self.cluster
        for i in list(cluster.paused):
            cluster.resume(i)
        for i in cluster.ids:
            if i not in cluster.running():
                code = cluster.processes[i].returncode if i in cluster.processes else -9
                assert code in (-9, 0, 3), f"replica {i} ended with {code}\n{cluster.tell()}"
                cluster.start(i)
        await in_thread(lambda: cluster.wait_members(seconds=WHOLE_S))
        moment = time.monotonic()
        waiting = [t for t in self.talkers if t.client.pending]
        await soon(
            "everybody is answered", lambda: all(not t.acked_at or t.acked_at[-1] > moment for t in waiting), WHOLE_S, self.tell_clients
        )

    def tell_clients(self) -> str:
        """For a find: what each client waits for, what each replica says."""
        clients = [
            f"{t.name}: on {t.client.address}, open: {t.client.guest.is_open}, waits for {t.client.pending[:2]}, {t.troubles[-1:]}"
            for t in self.talkers
        ]
        return "\n".join([*clients, self.cluster.tell()])

    def pick(self) -> int:
        """The primary as often as a backup."""
        primary = self.cluster.primary()
        backups = [i for i in self.cluster.ids if i != primary]
        return self.dice.choice([primary if primary is not None else backups[0], self.dice.choice(backups)])

    def note_gaps(self, what: str, moment: float) -> None:
        """What each client noticed of the primary's end; one that was not answered yet counts with the time that has passed."""
        now = time.monotonic()
        gaps = [t.gap_after(moment, now) for t in self.talkers]
        self.times[what] += [now - moment if gap is None else gap for gap in gaps]

    def kill(self, *replicas: int) -> None:
        """`kill -9`, counted."""
        self.counts["kills"] += len([i for i in replicas if i in self.cluster.running()])
        self.cluster.kill(*replicas)

    # --- faults ---------------------------------------------------------------------------------------------------------------------------

    async def one(self) -> None:
        victim, primary = self.pick(), self.cluster.primary()
        moment = time.monotonic()
        self.counts["kills"] += 1
        self.cluster.processes[victim].kill()
        await asyncio.sleep(GAP_S)
        self.cluster.kill(victim)
        if victim == primary:
            self.note_gaps(KILLED, moment)

    async def two(self) -> None:
        first = self.pick()
        second = self.dice.choice([i for i in self.cluster.ids if i != first])
        self.kill(first, second)
        await self.rest(1.0)

    async def three(self) -> None:
        if self.dice.random() < 0.5:
            self.counts["kills"] += len(self.cluster.ids)
            self.cluster.kill_all()
        else:
            self.kill(*self.cluster.ids)  # the last to die may have seen the others go
        alone = self.dice.choice(self.cluster.last_members())
        moment = time.monotonic()
        self.cluster.start(alone)
        if self.dice.random() < 0.5:
            await in_thread(self.cluster.wait_serving)
            self.times[ALONE].append(time.monotonic() - moment)
            await self.rest(0.5)

    async def view_change(self) -> None:
        first = self.pick()
        second = self.dice.choice([i for i in self.cluster.ids if i != first])
        self.counts["kills"] += 2
        self.cluster.processes[first].kill()
        await self.rest(0.02)
        self.cluster.processes[second].kill()
        self.cluster.kill(first, second)
        await self.rest(0.3)

    async def join(self) -> None:
        joiner = self.pick()
        self.kill(joiner)
        await self.rest(2.0)
        self.cluster.start(joiner)
        with contextlib.suppress(TooLate):
            await soon("it catches up", lambda: (s := self.cluster.status(joiner)) and s["role"] == "learner", 5)
        await self.rest(0.1)
        primary = self.cluster.primary()
        self.kill(joiner if primary is None or self.dice.random() < 0.5 else primary)
        await self.rest(0.3)

    async def start(self) -> None:
        victim = self.pick()
        for _ in range(3):
            self.kill(victim)
            self.cluster.start(victim)
            await self.rest(0.3)
        self.kill(victim)

    async def snapshot(self) -> None:
        victim = self.pick()
        folder = os.path.join(self.cluster.base, f"replica-{victim}", "snapshots")
        with contextlib.suppress(TooLate):
            await soon("a snapshot is being made", lambda: any(name.startswith("tmp") for name in os.listdir(folder)), 3)
            self.counts["kills in a snapshot"] += 1
        self.kill(victim, *([self.pick()] if self.dice.random() < 0.3 else []))
        await self.rest(0.2)

    async def pause(self) -> None:
        victim, primary, moment = self.pick(), self.cluster.primary(), time.monotonic()
        self.counts["pauses"] += 1
        self.cluster.pause(victim)
        if victim == primary and self.dice.random() < 0.5:
            await asyncio.sleep(PAUSE_S)
            self.note_gaps(HUNG, moment)
        else:
            await self.rest(PAUSE_S)
        if self.dice.random() < 0.3:
            self.kill(self.dice.choice([i for i in self.cluster.ids if i != victim]))
        self.cluster.resume(victim)
        await self.rest(0.3)

    async def cut(self) -> None:
        victim = self.pick()
        self.counts["connections cut"] += shut_connections(self.cluster.processes[victim].pid, self.dice)
        await self.rest(0.2)

    async def empty(self) -> None:
        primary = self.cluster.primary()
        victim = self.dice.choice([i for i in self.cluster.ids if i != primary])
        self.kill(victim)
        # Only when it is out of the view its data are nobody's hope any more.
        await in_thread(lambda: self.cluster.wait_members(*(i for i in self.cluster.ids if i != victim)))
        self.cluster.empty(victim)

    async def stop(self) -> None:
        victim = self.pick()
        moment = time.monotonic()
        await in_thread(lambda: self.cluster.run("stop", "--replica", str(victim)))
        code = await in_thread(lambda: self.cluster.wait_ended(victim))
        assert code in (0, 3), f"replica {victim} ended with {code} when it was stopped\n{self.cluster.log(victim)[-2000:]}"
        self.counts["clean stops"] += 1
        if code:
            self.counts["stops that gave up"] += 1
            say(moment - self.began, f"replica {victim} gave up stopping cleanly: {self.cluster.log(victim).splitlines()[-12:]}")

    async def disk(self) -> None:
        victim = self.pick()
        pid = self.cluster.processes[victim].pid
        _, most = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, most))
        self.counts["failing disks"] += 1
        await self.rest(1.0)
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, most))
        await self.rest(1.0)

    # --- the end --------------------------------------------------------------------------------------------------------------------------

    def judge(self) -> bool:
        """Print the report; whether the promise was kept."""
        cluster = self.cluster
        cluster.wait_level(seconds=WHOLE_S)
        different = cluster.differences()
        verdict = audit(self.talkers, [cluster.history(i) for i in cluster.ids])
        print(f"\nfaults: {', '.join(f'{kind} {count}' for kind, count in sorted(self.done.items()))}")
        print(", ".join(f"{what} {count}" for what, count in sorted(self.counts.items())))
        for what, seconds in ((what, seconds) for what, seconds in self.times.items() if seconds):
            in_order = sorted(seconds)
            p50, p99 = (in_order[min(len(in_order) - 1, len(in_order) * part // 100)] * 1000 for part in (50, 99))
            print(f"{what}: {len(in_order)} times, p50 {p50:.1f} ms, p99 {p99:.1f} ms, max {in_order[-1] * 1000:.1f} ms")
        print(f"CSV files: {'; '.join(different) or 'equal byte for byte'}")
        print(verdict, flush=True)
        return verdict.is_clean and not different


def rotated(ports: list[int], by: int) -> list[int]:
    """The same ports, beginning elsewhere."""
    by %= len(ports)
    return ports[by:] + ports[:by]


def say(seconds: float, words: str) -> None:
    """A line of the log."""
    print(f"{seconds:9.2f} s  {words}", flush=True)


async def in_thread(work: Callable[[], T]) -> T:
    """What waits for processes must not keep the clients from talking."""
    return await asyncio.get_running_loop().run_in_executor(None, work)


def shut_connections(pid: int, dice: random.Random) -> int:
    """Shut down about half of a process's TCP connections, from outside: its descriptors are borrowed. Returns how many."""
    system = ctypes.CDLL(None, use_errno=True)
    count = 0
    handle = os.pidfd_open(pid)
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                if not os.readlink(f"/proc/{pid}/fd/{name}").startswith("socket:") or dice.random() < 0.5:
                    continue
                borrowed = system.syscall(PIDFD_GETFD, handle, int(name), 0)
                if borrowed < 0:
                    continue
                with socket.socket(fileno=borrowed) as connection:
                    if connection.family != socket.AF_UNIX and connection.getpeername():
                        connection.shutdown(socket.SHUT_RDWR)
                        count += 1
    finally:
        os.close(handle)
    return count


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Real servers, real clients, real faults; ends with an audit.")
    parser.add_argument("--minutes", type=float, default=1.0, help="how long faults are injected (default: 1)")
    parser.add_argument("--seed", type=int, default=None, help="of the dice that choose faults; times are never the same")
    parser.add_argument("--people", type=int, default=6, help="talking clients (default: 6)")
    parser.add_argument("--pace-ms", type=float, default=5.0, help="pause of each between two messages (default: 5)")
    parser.add_argument("--only", action="append", default=[], metavar="FAULT", help="this kind only; may be given several times")
    parser.add_argument("--keep", action="store_true", help="leave data and logs behind also when all is well")
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else random.randrange(1 << 32)
    cluster = Cluster(keep=True, snapshot_every_s=SNAPSHOT_EVERY_S)
    print(f"seed {seed}, data and logs in {cluster.where}", flush=True)
    campaign = Campaign(cluster, random.Random(seed), arguments.people, arguments.pace_ms / 1000)

    async def work() -> None:
        try:
            await campaign.run(arguments.minutes * 60, arguments.only)
        finally:
            leave(campaign.talkers)

    kept = False
    try:
        asyncio.run(work())
        kept = campaign.judge()
    except (TooLate, AssertionError) as error:
        print(f"\nFOUND: {error}\n", audit(campaign.talkers), file=sys.stderr)
    finally:
        cluster.keep = arguments.keep or not kept
        cluster.end()
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
