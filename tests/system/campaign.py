"""What a campaign works with: a cluster, people who talk and pay in it without pause, and a way to be sure that all is whole again.

What it is not: it knows no fault (`faults.py`) and prints no report (`figures.py`).

    Draw                which kind of fault is next
    strike, buried      kill -9 now; wait until the kernel has let go of them
    whole               start whoever has ended, until all are members of one view and everybody is answered
    note_gaps           what each client noticed: from the signal to the first answer in which the dead replica had no part
    watch, Tail         wait for a moment that can be seen from outside: a file, a line in a replica's log

Everything happens in one loop, the people's own, and nothing here blocks it: a thread would take their processor from them at the very
moment that is measured. When this process itself stood still during a measurement, that is counted beside the figure, and the figure
stays. So that a slow disk can be told from a slow cluster, one sector is synced now and then beside it: a failover needs four such syncs,
one after the other, and an answer one more.

Read next: `faults.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from disk import SECTOR, OsDisk
from packets import View
from register import Register
from tests.system.cluster import ASK_S, Cluster, TooLate, settled_primary
from tests.system.figures import Figures
from tests.system.talk import Talker, audit, finish, soon
from tests.system.tellers import Teller

TELLERS = 2  # people at the ledger
WHOLE_S = 60.0  # seconds after a fault until all replicas must be members again; on a busy machine joins fail and back off
LEVEL_S = 300.0  # seconds in the end until all have their last snapshot: its makers stand behind everybody else in the queue
LOOK_S = 0.01  # seconds between two questions to the replicas: each costs them a little
CLOSE_LOOK_S = 0.0005  # seconds between two looks at a file, when a moment of a few milliseconds is waited for
STOOD_STILL_S = 0.01  # seconds by which this process's own loop may be late before a measurement is marked
SYNC_EVERY_S = 0.1  # seconds between two syncs beside the cluster
CALM_EVERY_S, CALM_S = (
    40.0,
    8.0,
)  # seconds of faults after which all may make a snapshot, or no journal would ever get shorter; how long at most
REST_S = 0.1  # seconds at most between two faults
WORTH_A_LOOK_S = 0.1  # seconds of a gap from which on the replicas' logs become part of the story
STORY_LINES = 60  # what was done last, told when something is found
KILLED = "kill -9 of the primary alone, to the next answer at each client"
KILLED_TWO = "kill -9 of the primary and of another within moments, to the same"
HUNG = "SIGSTOP of the primary, to the same"
HUNG_BACKUP = "SIGSTOP of a backup, to the same"
STOPPED = "clean stop of the primary, to the same"
ALONE = "start of one member alone after the death of all, to the moment it serves"
WHOLE = "a fault to the moment all are members again"
BESIDE = "one sector synced beside the cluster, on the same disk"
MARKED = "measured failovers in which the campaign's own process was late by more than 10 ms"

T = TypeVar("T")
Fault = Callable[[], Awaitable[None]]


class Draw:
    """What is done next: each kind once, in an order of the dice, so that a short campaign misses none; then each by its share."""

    def __init__(self, dice: random.Random, kinds: dict[str, Fault], shares: dict[str, int]) -> None:
        self.dice, self.kinds, self.shares = dice, kinds, shares
        self.first = dice.sample(list(kinds), len(kinds))  # those that are still to come once

    def __call__(self) -> tuple[str, Fault]:
        kind = self.first.pop() if self.first else self.dice.choices(list(self.kinds), [self.shares[kind] for kind in self.kinds])[0]
        return kind, self.kinds[kind]


class Tail:
    """What a replica writes into its log from now on."""

    def __init__(self, cluster: Cluster, replica: int) -> None:
        self.path = os.path.join(cluster.base, f"replica-{replica}", "log", "replica.log")
        self.at = os.path.getsize(self.path) if os.path.exists(self.path) else 0
        self.heard = b""

    def has(self, words: str) -> bool:
        """Whether it has said so."""
        with contextlib.suppress(OSError), open(self.path, "rb") as file:
            file.seek(self.at + len(self.heard))
            self.heard += file.read()
        return words.encode() in self.heard


class Campaign:
    """One run on one scratch cluster. `primary` and `view`: as they were when all was whole last."""

    def __init__(self, cluster: Cluster, dice: random.Random, *, people: int, pace: float) -> None:
        self.cluster, self.dice = cluster, dice
        # Each knows the ports in another order, so that every replica has guests of its own.
        self.talkers = [Talker(f"p{i}", cluster.rotated("pipe", i), pace=pace, proof=cluster.proof) for i in range(people)]
        seeds = [dice.randrange(1 << 32) for _ in range(TELLERS)]
        self.tellers = [
            Teller(f"t{i}", cluster.rotated("ledger", i), seed, pace=2 * pace, proof=cluster.proof) for i, seed in enumerate(seeds)
        ]
        # speaks only where a disk is to be filled
        self.bulk = Talker("bulk", cluster.rotated("pipe", 0), padding=" " + "x" * 60_000, proof=cluster.proof)
        self.figures = Figures()
        self.primary, self.view = -1, 0
        self.is_led = False  # nobody has killed that primary since
        self.struck = set[int]()
        self.may_refuse: set[int] = set()  # replicas that were started on a full disk, and may have said so
        self.began = time.monotonic()
        self.is_told_aloud = False
        self.story: deque[str] = deque(maxlen=STORY_LINES)
        self.late_at: deque[float] = deque(maxlen=1000)
        self.register: Register

    @property
    def everybody(self) -> list[Talker]:
        """All accounts."""
        return [*self.talkers, self.bulk]

    async def run(self, seconds: float, draw: Draw) -> None:
        """Faults until the time is over and each kind was met; everybody talks. Raises TooLate or AssertionError for what must not be."""
        self.cluster.start()
        await self._until_whole()
        self.register = Register(OsDisk(), os.path.join(self.cluster.base, "cluster"), "scratch")
        for talker in self.everybody:
            await talker.enter()
        gc.freeze()  # what is there stays there: no collection walks over it while a failover is measured
        ending, names = asyncio.Event(), [t.name for t in self.talkers]
        talking = [asyncio.create_task(t.talk(self._shuffled(n for n in names if n != t.name), ending)) for t in self.talkers]
        talking += [asyncio.create_task(t.work(ending)) for t in self.tellers]
        clocks = [asyncio.create_task(self._feel_own_pulse()), asyncio.create_task(self._feel_the_disk())]
        await self.whole()
        calm_at = time.monotonic() + CALM_EVERY_S
        while draw.first or time.monotonic() - self.began < seconds:
            if time.monotonic() > calm_at:
                await self._calm()
                calm_at = time.monotonic() + CALM_EVERY_S
            kind, fault = draw()
            before = time.monotonic()
            self.tell(kind)
            await fault()
            await self.whole()
            self.figures.rounds[kind] += 1
            self.figures.took(WHOLE, [time.monotonic() - before])
            await self.rest(REST_S)
            for task in talking:
                if task.done():
                    task.result()
        self.figures.seconds = time.monotonic() - self.began
        await finish(self.everybody, talking, ending, WHOLE_S)
        for clock in clocks:
            clock.cancel()

    def judge(self) -> None:
        """The audit, with everybody silent."""
        cluster = self.cluster
        cluster.wait_level(seconds=LEVEL_S)
        histories, different = [cluster.history(i) for i in cluster.ids], cluster.differences()
        verdict, alarms = audit(self.everybody, histories, are_all=True), cluster.alarms()
        self.figures.judged(verdict, different)
        self.figures.audit["payments"] += sum(t.payments for t in self.tellers)
        for i in cluster.ids:
            kept = {row["name"]: int(row["balance"]) for row in cluster.table(i, "accounts")}
            wrong = [
                f"{t.name} has {kept.get(t.name)} at replica {i}, and was told {t.balance}"
                for t in self.tellers
                if kept.get(t.name) != t.balance
            ]
            self.figures.audit["balances that differ"] += len(wrong)
            self.figures.failed += wrong
        if not verdict.is_clean or different or alarms:
            self.figures.failed.append("; ".join([str(verdict), *different, *alarms[:5]]))

    def _shuffled(self, names: Any) -> list[str]:
        order = list(names)
        self.dice.shuffle(order)
        return order

    # --- killing --------------------------------------------------------------------------------------------------------------------------

    def strike(self, *replicas: int, during: str = "") -> float:
        """`kill -9`, all in one moment, which is returned."""
        victims = [i for i in replicas if i in self.cluster.running()]
        moment = time.monotonic()
        for i in victims:
            self.cluster.processes[i].kill()
        self.struck.update(victims)
        self.cluster.paused.difference_update(victims)
        self.tell(f"  kill -9 {', '.join(map(str, victims))}{during and ', ' + during}")
        self.figures.injected["kill -9"] += len(victims)
        self.figures.injected["kill -9 of the primary"] += self.is_led and self.primary in victims
        self.is_led = self.is_led and self.primary not in victims
        if during:
            self.count_during(during, len(victims))
        return moment

    def count_during(self, what: str, kills: int) -> None:
        """Kills that are known to have hit the moment they were aimed at."""
        self.figures.injected[f"kill -9 {what}"] += kills

    async def buried(self) -> None:
        """Nobody who was struck still holds a port or a lock."""
        for i in self.struck:
            process = self.cluster.processes[i]
            await self.watch(lambda p=process: p.poll() is not None, WHOLE_S)  # type: ignore[misc]
        self.struck.clear()

    async def note_gaps(self, what: str, moment: float) -> None:
        """What each client noticed of what was done at this moment; waits until each of them was answered again."""
        await soon("everybody is answered", lambda: all(t.has_noticed(moment) for t in self.talkers), WHOLE_S, self.tell_all)
        now = time.monotonic()
        gaps = [gap if (gap := t.gap_after(moment, now)) is not None else now - moment for t in self.talkers]
        self.tell(f"  {what}: {', '.join(f'{gap * 1000:.1f}' for gap in gaps)} ms")
        self.figures.took(what, gaps)
        self.figures.injected[MARKED] += any(at > moment for at in self.late_at)
        if max(gaps) > WORTH_A_LOOK_S and what in (KILLED, KILLED_TWO):
            for i in self.cluster.ids:
                self.tell(f"    log of replica {i}: " + " | ".join(self.cluster.log(i)[-2000:].splitlines()[-7:]))

    async def _calm(self) -> None:
        """Nothing is done to anybody until each has made a snapshot of what there is now."""
        op = min(row["applied"] for row in (await self.statuses()).values())
        await self.watch(lambda: all(self.cluster.csv_op(i) >= op for i in self.cluster.ids), CALM_S)

    async def _feel_the_disk(self) -> None:
        handle = os.open(os.path.join(self.cluster.where, "beside"), os.O_RDWR | os.O_CREAT)
        try:
            os.pwrite(handle, bytes(SECTOR), 0)
            os.fsync(handle)
            while True:
                await asyncio.sleep(SYNC_EVERY_S)
                before = time.monotonic()
                os.pwrite(handle, bytes(SECTOR), 0)
                await asyncio.get_running_loop().run_in_executor(None, os.fdatasync, handle)
                self.figures.took(BESIDE, [time.monotonic() - before])
        finally:
            os.close(handle)

    async def _feel_own_pulse(self) -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(STOOD_STILL_S / 2)
            if (now := time.monotonic()) - before > 1.5 * STOOD_STILL_S:
                self.late_at.append(now)

    # --- waiting --------------------------------------------------------------------------------------------------------------------------

    async def rest(self, most: float) -> None:
        """Let a random time pass."""
        await asyncio.sleep(self.dice.uniform(0, most))

    async def watch(self, condition: Callable[[], T], seconds: float) -> T:
        """Look closely until it holds, or the time is over; what the condition said last."""
        deadline = time.monotonic() + seconds
        while not (found := condition()) and time.monotonic() < deadline:
            await asyncio.sleep(CLOSE_LOOK_S)
        return found

    async def whole(self) -> None:
        """Start whoever does not run; wait until all are members and everybody is answered."""
        await self._until_whole()
        moment = time.monotonic()
        waiting = [t for t in self.talkers if t.client.pending]
        paying = {t: t.payments for t in self.tellers if t.client.pending}

        def is_answered() -> bool:
            talked = all(not t.acked_at or t.acked_at[-1] > moment for t in waiting)
            return talked and all(t.payments > before or not t.client.pending for t, before in paying.items())

        await soon("everybody is answered", is_answered, WHOLE_S, self.tell_all)

    async def _until_whole(self) -> None:
        cluster, deadline = self.cluster, time.monotonic() + WHOLE_S
        for i in list(cluster.paused):
            cluster.resume(i)
        while True:
            await self.buried()
            self.start_who_ended()
            rows = await self.statuses()
            primary = settled_primary(rows, list(cluster.ids))
            if primary is not None:
                self.primary, self.view, self.is_led = primary, rows[primary]["view"], True
                return self.may_refuse.clear()
            if time.monotonic() > deadline:
                raise TooLate(f"not within {WHOLE_S:.0f} s: all are members again\n{self.tell_all()}")
            await asyncio.sleep(LOOK_S)

    def start_who_ended(self) -> None:
        """As a supervisor would. Who ended with anything but a kill, a stop or a known trouble has a bug."""
        cluster = self.cluster
        for i in cluster.ids:
            if i in cluster.processes and i not in cluster.running():
                code, allowed = cluster.processes[i].returncode, (-9, 0, 3, 2) if i in self.may_refuse else (-9, 0, 3)
                assert code in allowed, f"replica {i} ended with {code}\n{cluster.tell()}"
                cluster.start(i)

    async def members_are(self, *replicas: int) -> None:
        """Wait for a view of just these."""
        deadline = time.monotonic() + WHOLE_S
        while settled_primary(await self.statuses(), sorted(replicas)) is None:
            if time.monotonic() > deadline:
                raise TooLate(f"not within {WHOLE_S:.0f} s: the view is {replicas}\n{self.tell_all()}")
            await asyncio.sleep(LOOK_S)

    # --- looking --------------------------------------------------------------------------------------------------------------------------

    async def status(self, replica: int) -> dict[str, Any] | None:
        """What an operator would see; None: it does not answer."""
        if replica in self.cluster.paused or replica not in self.cluster.running():
            return None
        try:
            async with asyncio.timeout(ASK_S):
                path = os.path.join(self.cluster.base, f"replica-{replica}", "admin.sock")
                reader, writer = await asyncio.open_unix_connection(path)
                writer.write(b'{"verb": "status"}\n')
                answer: dict[str, Any] = json.loads(await reader.readline())
                writer.close()
                return answer
        except (OSError, ValueError, TimeoutError):
            return None

    async def statuses(self) -> dict[int, dict[str, Any]]:
        """Of all that answer."""
        rows = await asyncio.gather(*(self.status(i) for i in self.cluster.ids))
        return {i: row for i, row in zip(self.cluster.ids, rows, strict=True) if row}

    async def serving(self, seconds: float = WHOLE_S) -> int:
        """The primary, once one serves."""
        deadline = time.monotonic() + seconds
        while (found := next((i for i, s in (await self.statuses()).items() if s["serving"]), None)) is None:
            if time.monotonic() > deadline:
                raise TooLate(f"not within {seconds:.0f} s: a primary serves\n{self.tell_all()}")
            await asyncio.sleep(LOOK_S)
        return found

    def last_view(self) -> View:
        """What the register says now."""
        view = self.register.last()
        assert view is not None, "the register is empty"
        return view

    # --- telling --------------------------------------------------------------------------------------------------------------------------

    def tell(self, words: str) -> None:
        """A line of the story."""
        self.story.append(f"{time.monotonic() - self.began:9.3f} s  {words}")
        if self.is_told_aloud:
            print(self.story[-1], flush=True)

    def tell_all(self) -> str:
        """For a find: what was done, what each client waits for, what each replica says."""
        clients = [
            f"{t.name}: on {t.client.address}, open: {t.client.guest.is_open}, waits for {[p[:60] for p in t.client.pending[:2]]},"
            f" {t.troubles[-1:]}"
            for t in self.everybody
        ]
        clients += [f"{t.name}: {t.balance} after {t.payments} payments, waits for {t.client.pending}" for t in self.tellers]
        return "\n".join([*self.story, *clients, self.cluster.tell()])
