"""Stories under policy `majority`: scenes in which a rule is all that stands between a majority and what another one has committed.

What it is not: as `stories.py`; "asked while it stood still" is told under both policies. All are made for three hosts.

    a lost memory          a replica that acknowledged loses its disk, and comes back where nobody is who has what it acknowledged
    a lost memory and an outdated primary    the same, and whom it finds is a primary of long ago
    longer and older       a primary that was cut off holds a long batch, the others have committed a short one since
    begun twice            a primary dies before its own disk has what it has sent, and comes back while nobody could move on

Read next: `stage.py`.
"""

from __future__ import annotations

from collections.abc import Callable

from packets import Prepare
from tests.simulator.disk import SimDirectory
from tests.simulator.stage import Part, Sent, Stage, Story
from tests.simulator.world import BASE


def _three(s: Stage) -> Part:
    cast = yield from s.cast()
    return [process.id for process in cast] if cast is not None and s.world.count == 3 else None


def _lose_memory(s: Stage, replica: int) -> None:
    """Its directory is gone, or its superblock is rotten."""
    if s.dice.random() < 0.6:
        s.spoil(replica, rots=False)
        base = s.world.files_of(replica).find(BASE)
        assert isinstance(base, SimDirectory)
        s.world.say(f"** the directory of {replica} is emptied")
        base.entries.pop(f"replica-{replica}", None)
    else:
        s.spoil(replica)
        for slot in range(2):
            s.flip(f"{BASE}/replica-{replica}/superblock", slot * 4096 + s.dice.randrange(60))


def a_lost_memory(s: Stage) -> Story:
    cast = yield from _three(s)
    if cast is None:
        return
    primary, forgetful, behind = s.dice.choice(([cast[0], cast[1], cast[2]], [cast[0], cast[2], cast[1]]))
    s.part(behind, primary, forgetful)
    s.feed(30)
    there = s.head(behind)
    if not (yield lambda: s.checks.acked_op > there and s.head(forgetful) > there):
        return
    if not s.may_spoil(forgetful):
        return
    s.down(forgetful, primary)
    yield 0.01
    _lose_memory(s, forgetful)
    s.rejoin(behind, primary, forgetful)
    s.up(forgetful)
    yield 3.0


def a_lost_memory_and_an_outdated_primary(s: Stage) -> Story:
    cast = yield from _three(s)
    if cast is None:
        return
    outdated, *others = cast
    s.part(outdated, *others)
    view = s.core(outdated).view
    s.feed(40)
    there = s.head(outdated)
    if not (yield lambda: s.newest_view() > view and s.checks.acked_op > there):
        return
    forgetful = s.dice.choice(others)
    if not s.may_spoil(forgetful):
        return
    s.down(*others)
    yield 0.01
    _lose_memory(s, forgetful)
    s.rejoin(outdated, *others)
    s.up(forgetful)
    yield 3.0


def _long_batch(s: Stage, old: int, others: list[int]) -> Part:
    """A guest of its asks much while a batch waits for its acknowledgements; they come, and nothing gets out any more."""
    guest = yield from s.guest_at(old)
    if guest is None:
        return False
    for one in s.checks.guests:
        one.hold()
    if not (yield lambda: s.core(old).in_flight is None and not s.world.processes[old].server.desk.open_runs):
        return False
    s.block(*((other, old) for other in others))
    guest.ask(f"3|{guest.name}|{guest.name}=0")
    if not (yield lambda: s.core(old).in_flight is not None and all(s.head(i) == s.head(old) for i in others)):
        return False
    for n in range(1, 30):
        guest.ask(f"3|{guest.name}|{guest.name}={n}")
    answer = yield lambda: s.world.processes[old].server.desk.open_ops >= 20
    return bool(answer)


def longer_and_older(s: Stage) -> Story:
    cast = yield from _three(s)
    if cast is None:
        return
    old, *others = cast
    if not (yield from _long_batch(s, old, others)):
        return
    s.block(*((old, other) for other in others))
    s.release(*((other, old) for other in others))
    if not (yield lambda: s.core(old).in_flight is not None and s.core(old).in_flight.count >= 20):
        return
    s.part(old, *others)
    before, view = s.checks.commit, s.core(old).view
    if not (yield lambda: s.checks.commit > before and s.newest_view() > view):
        return
    leads = [i for i in others if s.runs(i) and s.core(i).is_primary]
    if leads and s.checks.commit < s.head(old):
        s.down(leads[0])
        s.rejoin(old, *others)
        yield 2.0


def begun_twice(s: Stage) -> Story:
    cast = yield from _three(s)
    if cast is None:
        return
    primary, one, other = cast
    if not (yield from _long_batch(s, primary, [one, other])):
        return
    s.part(one, other)  # so that nobody can ask for another view with a majority
    s.block((primary, other))
    s.release((one, primary), (other, primary))
    if (yield Sent(Prepare, primary, one)) is None:
        return
    s.faults.kill_before_sync(s.world.processes[primary])
    before = s.checks.commit
    if not (yield lambda: not s.runs(primary)):
        return
    s.world.files_of(primary).crash()  # the power of this host failed
    s.checks.dark.add(primary)
    s.release((primary, other))
    s.up(primary)
    if (yield lambda: s.runs(primary) and s.core(primary).is_primary and s.checks.commit > before):
        s.down(primary)
        s.rejoin(one, other)
        yield 2.0


STORIES: dict[str, Callable[[Stage], Story]] = {
    play.__name__.replace("_", " "): play for play in (a_lost_memory, a_lost_memory_and_an_outdated_primary, longer_and_older, begun_twice)
}
