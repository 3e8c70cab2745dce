"""The simulator under policy `majority`: every replica has a host, a disk and a clock of its own, and cables between hosts get cut.

What it is not: it drives the same production code with the same guests and the same checkers as the other policy; here is what differs.

    Hosts         a file system for each replica: the power of one host fails alone
    OnHosts       there is no register: what is committed must survive every majority
    HostsFaults   hosts that are cut off, in both directions or in one; a disk is lost only while the others can still tell what it promised

Read next: `simulation.py`.
"""

from __future__ import annotations

import random
from typing import Any

import msgspec

from batches import NO_HASH
from packets import Member, Packet, StartViewChange
from replication import NORMAL
from settings import Address, Settings
from settings import Replica as ReplicaSettings
from tests.simulator import mix as mixes
from tests.simulator.checks import LogChecks
from tests.simulator.disk import SimFiles
from tests.simulator.faults import Faults
from tests.simulator.mix import Mix
from tests.simulator.world import Process, World

WIRES = ("cut link", "cut guest", "slow network", "partition", "one-way partition", "isolate", "isolate one way", "split")
PROCESSES = ("kill", "kill two", "kill all", "kill at an effect", "pause", "slow clock", "stop", "stop all", "clock jump", "wrong memory")
DISKS = (
    *("power cut", "power cut at an effect", "slow disk", "failing sync", "failing write", "failing read", "full disk"),
    *("empty directory", "old directory", "bit flip", "wrong sector"),
)
THEMES = {
    "anything": (*WIRES, *PROCESSES, *DISKS),
    "wires": (*WIRES, "kill", "pause", "power cut"),
    "disks": (*DISKS, "kill all", "isolate"),
}
STORIES: dict[str, dict[str, Any]] = {
    "asked while it stood still": {},
    "a lost memory": {},
    "a lost memory and an outdated primary": {},
    "a lost lock": {},
    "longer and older": {"window": 64},
    "begun twice": {},
    "told before its own sync": {"answers_late": True},
}

OF_FIVE = "two of five"  # drawn by those alone who are five
ASKED_FOR: dict[str, dict[str, Any]] = {
    "far behind": {"settles_at_once": True, "loss": 0.0, "repeat": 0.0, "overtake": 0.0, "think": 0.0},  # as in production
}


def draw(dice: random.Random, story: str = "") -> Mix:
    """The mix of one seed: three hosts or five; stories are made for three, the one that is asked for as well, but for OF_FIVE."""
    count = max(dice.choice((3, 3, 5)), 5 * (story == OF_FIVE))
    replicas = tuple(ReplicaSettings(i, Address(f"10.0.0.{i + 1}", 7661), {"pipe": (6666,)}) for i in range(count))
    settings = Settings(
        name="simulated",
        policy="majority",
        replicas=replicas,
        heartbeat_ms=100,
        suspect_after_ms=500,
        snapshot_quiet_ms=dice.choice((100, 300, 2000)),
        snapshot_every_s=dice.choice((1, 3, 60)),
        snapshot_every_bytes=dice.choice((8 << 10, 64 << 10, 1 << 26)),
    )
    mix = mixes.draw_from(dice, THEMES, STORIES, settings)
    mix = mix._replace(story=story, **ASKED_FOR.get(story, {})) if story else mix
    if mix.story and mix.story != OF_FIVE:
        return mix._replace(settings=msgspec.structs.replace(mix.settings, replicas=replicas[:3]))
    is_told = count == 5 and not story and dice.random() < mixes.TOLD
    return mix._replace(story=OF_FIVE) if is_told else mix


FAR_BEHIND = 100  # ops; pieces of 600 bytes hold a few, and each that is lost costs a second


class Hosts(World):
    """As many hosts as replicas."""

    def __init__(self, seed: int, mix: Mix, dice: random.Random, *, trace: bool = False) -> None:
        super().__init__(seed, mix, dice, trace=trace)
        self.hosts = [SimFiles(dice) for _ in range(self.count)]

    def files_of(self, replica: int) -> SimFiles:
        return self.hosts[replica]


class OnHosts(LogChecks):
    """What is different where there is no register; whatever the state is, its own checks come on top (`checks_of`)."""

    def __init__(self, world: World, *rest: Any) -> None:
        super().__init__(world, *rest)
        self.enough = world.count // 2 + 1
        self.newest_view = 0
        self.wishes: dict[int, set[int]] = {}  # view -> who has asked for it
        self.has_log: set[int] = set()  # replicas that have had the log of a view
        self.halved: set[int] = set()  # replicas that stored several batches with one sync when their power failed

    def look_at_register(self) -> None:
        """There is none."""
        self.seen_version = self.world.files.version

    def is_whole(self) -> bool:
        """Whether all run in one view."""
        replicas = [process.server.replica for process in self.world.living()]
        return len({r.view for r in replicas}) == 1 and all(r.policy.is_eligible() for r in replicas)

    def after_step(self, process: Process) -> None:
        super().after_step(process)
        r, superblock = process.server.replica, process.server.storage.superblock
        if r.view > superblock.view:
            self.fail(f"replica {process.id} is in view {r.view}, and its superblock says {superblock.view}")
        if superblock.log_view:
            self.has_log.add(process.id)
        if r.view > self.newest_view:
            self.newest_view = r.view
            self.counted["views"] += 1
            wishes = self.wishes.get(r.view, set())
            if len(wishes) < self.enough:
                self.fail(f"replica {process.id} takes view {r.view}, which only {sorted(wishes)} have asked for")
        since = self.spoiled.get(process.id)
        is_whole = r.status == NORMAL and not superblock.suspect and not r.damage and superblock.log_view == r.view
        if since is not None and is_whole and self.incs.get((process.id, r.me.inc), -1.0) >= since:
            del self.spoiled[process.id]  # it has the log of a view again

    def on_packet(self, process: Process, packet: Packet) -> None:
        if type(packet) is StartViewChange:
            self.wishes.setdefault(packet.new_view, set()).add(process.id)
        super().on_packet(process, packet)

    def on_start(self, process: Process) -> None:
        if process.id in self.spoiled:
            # An empty disk takes its incarnation from the clock; others tell it when that is not enough.
            self.newest_inc[process.id] = 0
        super().on_start(process)
        damage = process.server.replica.damage
        if not damage:
            self.halved.discard(process.id)
        elif process.id not in self.spoiled and process.id not in self.rotten and process.id not in self.halved:
            self.fail(f"replica {process.id} distrusts a disk that nothing was done to: {damage}")

    def others_needed(self) -> int:
        return self.enough - 1

    def forced(self, view: int, chosen: int, copied: int) -> None:
        """An operator has asked for this view, and one disk holds what another held."""
        self.wishes[view] = set(range(self.world.count))
        self.heads[copied] = self._tip_of(chosen)

    def hold(self, why: str, joint: Member | None = None) -> None:
        """What is committed is in so many logs that every majority has one of them. A disk that was lost counts until it is whole."""
        op, tip = self.commit, self.tips.get(self.commit)
        self._looked(4, 5)
        holders = set(self.spoiled)
        for replica in range(self.world.count):
            head, hash = self._tip_of(replica)
            if head > op or (head == op and hash in (tip or hash, NO_HASH)):
                holders.add(replica)
        if len(holders) < self.enough:
            ends = {replica: self._tip_of(replica)[0] for replica in range(self.world.count)}
            self.fail(f"{why}: op {op} is committed, and only {sorted(holders)} have it; logs end at {ends}")

    def _acks(self, process: Process, r: Any) -> None:
        """Whoever was counted has this very batch, unless it has gone on to a later view."""
        if r.in_flight is None or not r.is_primary:
            return
        for replica in r.acks:
            other = self.world.processes[replica]
            if replica in self.spoiled or not other.alive or getattr(other.server, "replica", r).view != r.view:
                continue
            if self._tip_of(replica)[0] < r.head_op:
                self.fail(f"replica {process.id} counts an ack of {replica} for op {r.head_op}, whose log ends before it")

    def on_power_cut(self) -> None:
        """An incarnation that only its own disk knew of may be forgotten."""
        self.newest_inc = {}


def checks_of(tenant: Any) -> Any:
    """The checks of this state, on hosts."""
    return type("HostsChecks", (OnHosts, tenant.checks), {})


class HostsFaults(Faults):
    """See the module's page."""

    checks: OnHosts

    def may_spoil(self, replica: int) -> bool:
        """As many as a majority can do without, and only where all others would know what the lost disk had promised."""
        checks = self.checks
        unsure = {
            i for i in range(self.world.count) if i in checks.spoiled or i in checks.rotten or i in checks.halved or i not in checks.has_log
        }
        return len(unsure - {replica}) < self.world.count - checks.enough

    def _rest(self) -> None:
        """Some replicas stay away, as many as a majority can do without, if nobody needs them to tell what a lost disk had promised.

        Who finds that a part of its snapshot has rotted gives its disk up, and is as good as away until all others are there.
        """
        checks, dice = self.checks, self.world.dice
        if checks.spoiled or checks.halved or len(checks.has_log) < self.world.count or self._is_far_behind() or dice.random() < 0.4:
            return
        away = dice.sample(range(self.world.count), dice.randint(1, self.world.count - checks.enough))
        if len(checks.rotten.union(away)) <= self.world.count - checks.enough:
            for replica in away:
                self._keep_away(replica)

    def _is_far_behind(self) -> bool:
        """Whether somebody has so much to fetch, over wires that lose packets, that those who wait for it could not be answered in time."""
        heads = [self.checks._tip_of(replica)[0] for replica in range(self.world.count)]
        return bool(self.world.mix.loss) and max(heads) - min(heads) > FAR_BEHIND

    def _power_cut(self) -> None:
        """Of one host, or of all."""
        dice, world = self.world.dice, self.world
        hit = [dice.randrange(world.count)] if dice.random() < 0.6 else list(range(world.count))
        self.say(f"power cut at {', '.join(map(str, hit))}")
        for replica in hit:
            process = world.processes.get(replica)
            if process is not None:
                process.die("power cut")
                if any(len(file.pending) > 1 for file in self._segments(replica)):
                    self.checks.halved.add(replica)
            self.forget_copy(replica)
            world.files_of(replica).crash()
            self.checks.newest_inc.pop(replica, None)
            self.checks.dark.add(replica)

    def _part(self, pairs: list[tuple[int, int]], what: str) -> None:
        """Nothing gets through for a while; what was sent waits in the kernels, or is lost with its connection."""
        dice, world = self.world.dice, self.world
        seconds = dice.choice((0.1, 0.7, 1.5, 4.0)) * dice.uniform(0.5, 1.5)
        self.say(f"{what} for {seconds:.2f} s")
        for pair in pairs:
            world.blocked.add(pair)
            world.push(world.now + seconds, None, world.release, *pair)
            key = (min(pair), max(pair))
            if key in world.links and dice.random() < 0.3:
                world.cut(world.links[key], flushes=False)

    def _isolate(self) -> None:
        """One host is cut off; often it is the primary's."""
        world = self.world
        leading = [p.id for p in world.living() if hasattr(p.server, "replica") and p.server.replica.serving]
        lone = leading[0] if leading and world.dice.random() < 0.6 else world.dice.randrange(world.count)
        others = [i for i in range(world.count) if i != lone]
        self._part([(lone, i) for i in others] + [(i, lone) for i in others], f"{lone} is cut off")

    def _isolate_one_way(self) -> None:
        world = self.world
        lone = world.dice.randrange(world.count)
        others = [i for i in range(world.count) if i != lone]
        if world.dice.random() < 0.5:
            self._part([(lone, i) for i in others], f"nobody hears {lone}")
        else:
            self._part([(i, lone) for i in others], f"{lone} hears nobody")

    def _split(self) -> None:
        """Two halves that do not hear each other; the smaller one must do nothing."""
        world = self.world
        half = world.dice.sample(range(world.count), world.dice.randint(1, world.count - 1))
        rest = [i for i in range(world.count) if i not in half]
        self._part([(i, j) for i in half for j in rest] + [(j, i) for i in half for j in rest], f"{sorted(half)} and {rest} are apart")
