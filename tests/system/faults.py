"""What can happen to a cluster of processes, one method a kind; each leaves the clearing up to `Campaign.whole`.

What it is not: it waits for no recovery, and it judges nothing.

    round           what is done
    one             kill -9 of the primary or of a backup
    two             of two at once, the primary among them more often than not
    three           of all, at once or one after the other; then one member of the last view starts alone and serves, or all start; some
                    of them are killed again while they start
    view change     the primary is killed, and its heir or the other one before the next view runs; sometimes the third as well
    join            a replica that is being taken in is killed, or the primary that takes it in, or both
    start           a replica is killed while it starts, three times
    snapshot        a replica is killed while its snapshot is being written
    worker          the process that writes a snapshot is killed, its replica is not
    pause           SIGSTOP, then SIGCONT: shorter and longer than it takes to be voted out; of one, two or all; another is killed meanwhile
    cut             connections of a replica are shut down under its feet: guests', those to other replicas, or both
    empty           a backup loses its data directory and comes back with nothing
    stop            a clean stop of one replica while everybody talks
    failing disk    every write of a replica fails for a while (its file size limit is 0): it must leave, not answer
    full disk       the disk under a replica is full, for one that runs and needs room, or for one that starts; then there is room again

A moment is aimed at by what can be seen from outside (the register's next file, a line in a log, a folder that begins to exist), and
whether it was hit is looked up afterwards: only hits are counted as kills in that moment.

Read next: `campaign.py`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import re
import resource
import signal
import socket
import time

from tests.system.campaign import ALONE, HUNG, HUNG_BACKUP, KILLED, KILLED_TWO, STOPPED, WHOLE_S, Campaign, Fault, Tail
from tests.system.small_disk import SmallDisk

PIDFD_GETFD = 438  # number of the system call; Python has no name for it
VOTED_OUT_S = 1.3  # seconds after which a replica that stands still must have been voted out
SHORT_PAUSE_S, LONG_PAUSE_S = 0.4, 2.5  # seconds: nobody notices; longer than it takes to be voted out
STARTING_S = 0.35  # seconds in which a start is under way
LOOK_FOR_S = 3.0  # seconds until a moment that is waited for is given up
FILL_MESSAGES = 400  # of 60 KB: more than what a journal has prepared
# How often each kind is drawn, relative to the others. Kills are to be the most, and every moment is to be met often.
LINK = re.compile(r"replica-\d+\.sock")  # the UNIX address by which replicas of one host reach each other
SHARES = {
    "one": 16,
    "two": 8,
    "three": 6,
    "view change": 10,
    "join": 9,
    "start": 8,
    "snapshot": 6,
    "worker": 2,
    "pause": 34,
    "cut": 6,
    "empty": 2,
    "stop": 3,
    "failing disk": 2,
    "full disk": 2,
}


class Faults:
    """All kinds, for one campaign. Without `small` no disk can be full."""

    def __init__(self, campaign: Campaign, small: SmallDisk | None, small_at: int) -> None:
        self.campaign, self.cluster, self.dice = campaign, campaign.cluster, campaign.dice
        self.small, self.small_at = small, small_at
        self.kinds: dict[str, Fault] = {
            "one": self.one,
            "two": self.two,
            "three": self.three,
            "view change": self.view_change,
            "join": self.join,
            "start": self.start,
            "snapshot": self.snapshot,
            "worker": self.worker,
            "pause": self.pause,
            "cut": self.cut,
            "empty": self.empty,
            "stop": self.stop,
            "failing disk": self.failing_disk,
        }
        if small is not None:
            self.kinds["full disk"] = self.full_disk

    def pick(self) -> int:
        """The primary as often as a backup."""
        return self.dice.choice([self.campaign.primary, self.dice.choice(self.backups())])

    def backups(self) -> list[int]:
        """The lowest is the heir."""
        return [i for i in self.cluster.ids if i != self.campaign.primary]

    def is_likely(self, share: float) -> bool:
        """Throw the dice."""
        return self.dice.random() < share

    # --- deaths ---------------------------------------------------------------------------------------------------------------------------

    async def one(self) -> None:
        await self.kill_alone(self.pick())

    async def kill_alone(self, victim: int, during: str = "") -> None:
        """A kill that all others of the view survive."""
        moment = self.campaign.strike(victim, during=during)
        if victim == self.campaign.primary:
            await self.campaign.note_gaps(KILLED, moment)
        await self.campaign.buried()

    async def two(self) -> None:
        first = self.pick()
        second = self.dice.choice([i for i in self.cluster.ids if i != first])
        moment = self.campaign.strike(first, second)
        if self.campaign.primary in (first, second):
            await self.campaign.note_gaps(KILLED_TWO, moment)
        await self.campaign.buried()

    async def three(self) -> None:
        campaign, cluster = self.campaign, self.cluster
        if self.is_likely(0.5):
            for i in cluster.ids:  # stopped first, so that none sees another die and votes it out
                cluster.processes[i].send_signal(signal.SIGSTOP)
            campaign.strike(*cluster.ids)
        else:
            for i in self.dice.sample(cluster.ids, len(cluster.ids)):  # the last to die may have seen the others go
                campaign.strike(i)
                await campaign.rest(0.02)
        await campaign.buried()
        campaign.figures.injected["deaths of all"] += 1
        alone = self.dice.choice(campaign.last_view().replicas)
        moment = time.monotonic()
        cluster.start(*([alone] if self.is_likely(0.6) else cluster.ids))
        if self.is_likely(0.3):  # not even the restart is left in peace
            await campaign.rest(1.2)
            campaign.strike(alone, during="" if await self._serves() else "while all were dead and this one started")
        elif cluster.running() == [alone]:
            await campaign.serving()
            campaign.figures.took(ALONE, [time.monotonic() - moment])
            await campaign.rest(0.2)

    async def _serves(self) -> bool:
        return any(s["serving"] for s in (await self.campaign.statuses()).values())

    async def view_change(self) -> None:
        campaign = self.campaign
        heir, other = self.backups()
        path = os.path.join(self.cluster.base, "cluster", f"view-{campaign.last_view().number + 1:010d}")
        second = self.dice.choice([heir, heir, other])
        tail = Tail(self.cluster, second)
        moment = campaign.strike(campaign.primary)
        if self.is_likely(0.3):
            await campaign.rest(0.012)  # before anybody has decided
        else:
            await campaign.watch(lambda: os.path.exists(path), LOOK_FOR_S)
        campaign.strike(second)
        third = self.is_likely(0.15)
        if third:
            await campaign.rest(0.01)
            campaign.strike(heir + other - second)
            campaign.figures.injected["deaths of all"] += 1
        else:
            await campaign.note_gaps(KILLED_TWO, moment)
        await campaign.buried()
        if not tail.has(" runs here "):
            campaign.count_during("of a member before it had completed a view change", 1)

    async def join(self) -> None:
        campaign, cluster = self.campaign, self.cluster
        joiner = self.pick()
        await self.kill_alone(joiner)
        await campaign.rest(0.3)
        primary = await campaign.serving()
        campaign.primary, campaign.is_led = primary, True
        tails = {i: Tail(cluster, i) for i in cluster.ids}
        cluster.start(joiner)
        if self.is_likely(0.5):
            await campaign.watch(lambda: tails[primary].has(f"joint mode with {joiner} "), LOOK_FOR_S)
        else:
            await campaign.watch(lambda: tails[joiner].has(f"linked with replica {primary},"), LOOK_FOR_S)
            await campaign.rest(0.02)
        victims = self.dice.choice([(joiner,), (joiner,), (primary,), (primary,), (joiner, primary)])
        is_in = joiner in campaign.last_view().replicas
        moment = campaign.strike(*victims, during="" if is_in else "during a join")
        if primary in victims:
            await campaign.note_gaps(KILLED_TWO if joiner in victims else KILLED, moment)

    async def start(self) -> None:
        campaign = self.campaign
        victim = self.pick()
        await self.kill_alone(victim)
        for _ in range(3):
            self.cluster.start(victim)
            await campaign.rest(STARTING_S)
            is_in = victim in campaign.last_view().replicas
            campaign.strike(victim, during="" if is_in else "during a start")
            await campaign.buried()

    async def snapshot(self) -> None:
        campaign = self.campaign
        victim = await campaign.watch(self._who_writes_one, LOOK_FOR_S)
        if victim is None:
            return await self.one()
        await campaign.rest(0.05)
        moment = campaign.strike(victim)
        if self._writes_one(victim):
            campaign.count_during("while its snapshot was written", 1)
        if victim == campaign.primary:
            await campaign.note_gaps(KILLED, moment)

    def _who_writes_one(self) -> int | None:
        writers = [i for i in self.cluster.ids if self._writes_one(i)]
        return self.dice.choice(writers) if writers else None

    def _writes_one(self, replica: int) -> bool:
        with contextlib.suppress(OSError):
            return any(name.startswith("tmp") for name in os.listdir(os.path.join(self.cluster.base, f"replica-{replica}", "snapshots")))
        return False

    async def worker(self) -> None:
        if (writer := await self.campaign.watch(self._who_writes_one, LOOK_FOR_S)) is not None:
            pid = self.cluster.processes[writer].pid
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
                for child in file.read().split():
                    os.kill(int(child), signal.SIGKILL)
                    self.campaign.figures.injected["snapshot workers killed"] += 1

    # --- pauses ---------------------------------------------------------------------------------------------------------------------------

    async def pause(self) -> None:
        kind = self.dice.choices(["short", "primary", "backup", "several", "and a kill"], [50, 14, 8, 12, 16])[0]
        if kind == "short":
            self.stop_short(self.pick())
            await self.campaign.rest(SHORT_PAUSE_S)
        elif kind in ("primary", "backup"):
            victim, what = (self.campaign.primary, HUNG) if kind == "primary" else (self.dice.choice(self.backups()), HUNG_BACKUP)
            moment = self.stop_short(victim)
            await self.campaign.note_gaps(what, moment)
            await self.campaign.rest(LONG_PAUSE_S - VOTED_OUT_S)
            self.campaign.figures.injected["pauses after which the replica had been voted out"] += 1
        elif kind == "several":
            for victim in self.dice.sample(self.cluster.ids, self.dice.choice([2, 2, 3])):
                self.stop_short(victim)
                await self.campaign.rest(0.05)
            await self.campaign.rest(self.dice.choice([SHORT_PAUSE_S, LONG_PAUSE_S]))
        else:
            victim = self.pick()
            self.stop_short(victim)
            await self.campaign.rest(LONG_PAUSE_S)
            others = [i for i in self.cluster.ids if i != victim]
            self.campaign.strike(self.dice.choice(others), during="while another replica stood still")
            await self.campaign.rest(0.3)

    def stop_short(self, victim: int) -> float:
        """SIGSTOP; `Campaign.whole` lets it go on."""
        self.campaign.tell(f"  SIGSTOP {victim}")
        self.campaign.figures.injected["pauses"] += 1
        self.campaign.figures.injected["pauses of the primary"] += victim == self.campaign.primary
        moment = time.monotonic()
        self.cluster.pause(victim)
        return moment

    # --- connections ----------------------------------------------------------------------------------------------------------------------

    async def cut(self) -> None:
        for _ in range(self.dice.choice([1, 1, 2, 4])):
            victim = self.dice.choice(self.cluster.ids)
            doors = [*self.cluster.pipes, *self.cluster.doors["ledger"]]
            links = [0, *self.cluster.peers]
            ports = self.dice.choice([links, doors, [*links, *doors]])
            for port in shut_connections(self.cluster.processes[victim].pid, ports, self.dice):
                is_link = port in links
                self.campaign.figures.injected["links between replicas cut" if is_link else "guests' connections cut"] += 1
            await self.campaign.rest(0.1)

    # --- everything else ------------------------------------------------------------------------------------------------------------------

    async def empty(self) -> None:
        campaign = self.campaign
        victim = self.dice.choice(self.backups())
        await self.kill_alone(victim)
        # Only when it is out of the view its data are nobody's hope any more.
        await campaign.members_are(*(i for i in self.cluster.ids if i != victim))
        self.cluster.empty(victim)
        campaign.figures.injected["data directories lost"] += 1

    async def stop(self) -> None:
        campaign, victim, moment = self.campaign, self.pick(), time.monotonic()
        self.cluster.processes[victim].terminate()
        if victim == campaign.primary:
            await campaign.note_gaps(STOPPED, moment)
        process = self.cluster.processes[victim]
        await campaign.watch(lambda: process.poll() is not None, WHOLE_S)
        assert process.returncode in (0, 3), f"replica {victim} ended with {process.returncode} when it was stopped\n{campaign.tell_all()}"
        campaign.figures.injected["clean stops"] += 1
        campaign.figures.injected["clean stops that ended without the others' word"] += process.returncode == 3

    async def failing_disk(self) -> None:
        victim = self.pick()
        pid = self.cluster.processes[victim].pid
        _, most = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, most))
        self.campaign.figures.injected["disks failing"] += 1
        await self.campaign.rest(0.5)
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, most))

    async def full_disk(self) -> None:
        assert self.small is not None
        campaign, victim = self.campaign, self.small_at
        self.small.fill()
        campaign.figures.injected["disks full"] += 1
        if self.is_likely(0.6):
            await self.kill_alone(victim)
            campaign.may_refuse.add(victim)
            self.cluster.start(victim)
            await campaign.rest(1.5)
        else:
            for _ in range(FILL_MESSAGES):
                row = await campaign.status(victim)
                if row is not None and row["waiting"].startswith("for room"):
                    campaign.figures.injected["disks full until the replica had to leave"] += 1
                    break
                await campaign.bulk.send(campaign.talkers[0].name)
                self.small.fill()
        self.small.free()


def shut_connections(pid: int, ports: list[int], dice: random.Random) -> list[int]:
    """Shut down about half of a process's connections from or to these ports, from outside, with its descriptors. The ports; 0: a link."""
    system = ctypes.CDLL(None, use_errno=True)
    cut = []
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
                    if connection.family == socket.AF_UNIX:
                        if 0 in ports and LINK.search(f"{connection.getsockname()} {connection.getpeername()}"):
                            connection.shutdown(socket.SHUT_RDWR)
                            cut.append(0)
                        continue
                    ends = {connection.getsockname()[1], connection.getpeername()[1]} & set(ports)
                    if ends:
                        connection.shutdown(socket.SHUT_RDWR)
                        cut.append(ends.pop())
    finally:
        os.close(handle)
    return cut
