"""One seed from beginning to end: a phase in which things go wrong, then one in which they must come right again.

What it is not: the command line is `scripts/simulate.py`.

Read next: `scripts/simulate.py`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

from replication import NORMAL
from settings import SURVIVOR
from snapshot_worker import RowsWriter, rows_through_csv
from tests.simulator import host_stories, hosts, stories, witness
from tests.simulator import mix as mixes
from tests.simulator.checks import LogChecks
from tests.simulator.faults import Faults
from tests.simulator.guests import BareGuest
from tests.simulator.known import remembered
from tests.simulator.stage import Stage
from tests.simulator.tenants import TENANTS, move_in
from tests.simulator.world import Violation, World

SAFETY_S = 60.0  # simulated seconds at most in which things go wrong
FAULTS_MIN = 10  # of a seed that counts
FAULTS_S = 60.0  # simulated seconds more for one that drew faults which seldom can strike, one disk after the other
ANSWER_S = 5.0  # simulated seconds in which a healed cluster answers
CONVERGE_S = 130.0  # simulated seconds in which all replicas are members again: joins that failed often wait up to a minute
BEFORE_FAULTS = 20  # requests that may be asked before the first fault
PLAYS = {**stories.STORIES, **host_stories.STORIES, **host_stories.ASKED_FOR}
CALM_S = 3.0  # simulated seconds between the end of the faults and the first request that must be answered in time


class Report(NamedTuple):
    """What a seed did."""

    seed: int
    violation: str
    crc: int
    simulated: float
    faults: int
    steps: int
    counted: dict[str, int]
    struck: dict[str, int]  # faults by kind
    looked: dict[int, int]  # invariants by number: how often each was looked at
    story: list[str]
    mix: mixes.Mix


def simulate(
    seed: int,
    *,
    policy: str = SURVIVOR,
    trace: bool = False,
    seconds: float = SAFETY_S,
    state: str = "chat",
    write_rows: RowsWriter = rows_through_csv,
    story: str = "",
) -> Report:
    """Run one seed; `state`: who takes the place of the chat (`tenants.py`); `write_rows`: what makes rows into CSV; `story`: not drawn."""
    dice = random.Random(seed)
    is_one_host = policy == SURVIVOR
    tenant = TENANTS[state]
    mix = mixes.crowded(seed, mixes.draw(dice)) if is_one_host else hosts.draw(dice, story)
    if not story and tenant.rushes:
        mix = mixes.rushed(seed, mix)
    mixes.shrink(mix.sizes)
    move_in(tenant)
    world = (World if is_one_host else hosts.Hosts)(seed, mix, dice, trace=trace)
    world.write_rows = write_rows
    world.say(f"seed {seed}: {mix.guests} guests ask {mix.requests} requests of the {state}; what may happen: {', '.join(mix.faults)}")
    world.say(f"{mix}")
    checks = world.checks = (tenant.checks if is_one_host else hosts.checks_of(tenant))(world)
    faults = (Faults if is_one_host else hosts.HostsFaults)(world, checks)
    violation = ""
    try:
        with remembered():
            _run(world, checks, faults, tenant.guest, seconds)
    except Violation as error:
        violation = str(error)
        world.say(f"VIOLATION: {violation}")
        if trace and error.__cause__ is not None:
            import traceback

            world.story += traceback.format_exception(error.__cause__)
    finally:
        move_in(TENANTS["chat"])
        mixes.restore()
    struck = {**faults.struck, **{f"packet {kind}": count for kind, count in world.wires.items()}, **world.files.lost}
    struck |= {"restart": len(checks.incs), "join": sum("joined" in view.reason for view in checks.views)}
    return Report(
        seed, violation, world.crc, world.now, faults.count, world.steps, checks.counted, struck, dict(checks.looked), world.story, mix
    )


def _run(world: World, checks: LogChecks, faults: Faults, make_guest: Callable[..., BareGuest], seconds: float) -> None:
    mix = world.mix
    for replica in range(world.count):
        world.push(world.dice.random() * 0.2, None, world.start, replica)
    checks.guests = guests = [make_guest(world, checks, f"g{i}", 0) for i in range(mix.guests)]
    load = Load(world, checks, faults, guests)
    play = PLAYS.get(mix.story)
    faults.begin(play and (lambda: Stage(faults, play, load.feed)), at_once=mix.story == host_stories.FIRST)
    if not world.run(seconds, load.is_over) and seconds == SAFETY_S and faults.count < FAULTS_MIN:
        world.run(seconds + FAULTS_S, lambda: load.is_over() or faults.count >= FAULTS_MIN)
    faults.heal()
    load.rest()
    _answer_all(world, guests)
    checks.looked[19] += len(guests)
    faults.heal_all()
    if not world.run(world.now + CONVERGE_S, lambda: _converged(world, checks)):
        raise Violation(f"the replicas do not come together\n{_states(world)}")
    _last_requests(world, checks, guests)
    for guest in guests:
        guest.closing = False
    world.run(world.now + 1.0)
    world.run(world.now + CONVERGE_S, lambda: _converged(world, checks))
    checks.at_end()
    witness.at_end(world)


def _answer_all(world: World, guests: list[BareGuest]) -> None:
    """Somebody who still has much to ask asks one after the other: each must be answered in time, not all of them together."""
    until = world.now + CALM_S + ANSWER_S
    before = [guest.number for guest in guests]
    while not world.run(until, lambda: all(g.is_done for g in guests)):
        left = [(g, n) for g, n in zip(guests, before, strict=True) if not g.is_done]
        if late := [g for g, n in left if g.number == n or any(a.called <= until - ANSWER_S for a in g.under_way.values())]:
            waits = "; ".join(f"{g.name} waits for {list(g.under_way.values())[:2]}" for g in late)
            raise Violation(f"healed for {CALM_S:g} s and not answered within {ANSWER_S:g}: {waits}\n{_states(world)}")
        until, before = world.now + ANSWER_S, [guest.number for guest in guests]


class Load:
    """How much the guests may ask: a share with each fault, so that no fault strikes an idle cluster."""

    def __init__(self, world: World, checks: LogChecks, faults: Faults, guests: list[BareGuest]) -> None:
        self.world, self.checks, self.faults, self.guests = world, checks, faults, guests
        self.granted = self.seen = 0
        self._grant(BEFORE_FAULTS)

    def feed(self, requests: int) -> None:
        """A story needs them."""
        self._grant(max(0, min(requests, self.world.mix.ahead - sum(g.todo for g in self.guests))))

    def _grant(self, requests: int) -> None:
        for _ in range(requests):
            self.guests[self.granted % len(self.guests)].grant(1)
            self.granted += 1

    def is_over(self) -> bool:
        """Whether enough went wrong and enough was answered. Looks at the faults, too."""
        mix, faults = self.world.mix, self.faults
        faults.look()
        is_enough = faults.count >= mix.fault_count and self.granted >= mix.requests
        if faults.count != self.seen and not is_enough:
            share = -(-mix.requests // mix.fault_count)
            self._grant(max(0, min(share * (faults.count - self.seen), mix.ahead - sum(g.todo for g in self.guests))))
            self.seen = faults.count
        return is_enough and all(g.todo <= 0 for g in self.guests)

    def rest(self) -> None:
        """No more faults: what is missing is asked now."""
        for guest in self.guests:
            guest.todo = 0
        self._grant(max(0, self.world.mix.requests - self.checks.counted["acknowledged"] - sum(len(g.under_way) for g in self.guests)))


def _last_requests(world: World, checks: LogChecks, guests: list[BareGuest]) -> None:
    """Each guest asks once more; a whole cluster answers fast."""
    for guest in guests:
        guest.ask(guest.last_line())
    if not world.run(world.now + ANSWER_S, lambda: all(g.is_done for g in guests)):
        raise Violation(f"a whole cluster did not answer within {ANSWER_S} s\n{_states(world)}")


def _converged(world: World, checks: LogChecks) -> bool:
    living = world.living()
    if len(living) < world.count or not checks.is_whole():
        return False
    op = checks.spec.op
    for process in living:
        r = process.server.replica
        if r.status != NORMAL or r.applied != op or r.head_op != op or process.server.desk.open_runs:
            return False
    return True


def _states(world: World) -> str:
    lines = []
    for replica, process in sorted(world.processes.items()):
        r = getattr(process.server, "replica", None)
        waiting = process.server.policy.waiting if r is not None else ""
        lines.append(f"  {replica} {'lives' if process.alive else 'is dead'}: {r}; waiting {waiting}; linked {sorted(process.linked)}")
    return "\n".join(lines)
