"""Stories under policy `majority`: scenes in which a rule is all that stands between a majority and what another one has committed.

What it is not: as `stories.py`; "asked while it stood still" is told under both policies. All but the last are made for three hosts.

    a lost memory          a replica that acknowledged loses its disk, and comes back where nobody is who has what it acknowledged
    a lost memory and an outdated primary    the same, and whom it finds is a primary of long ago
    a lost lock            data/cluster of one host or of two is removed, or one lock file cannot be read
    longer and older       a primary that was cut off holds a long batch, the others have committed a short one since
    an operator goes on from one disk    the others are lost; one that was away comes back later, with what it has
    the first view half way    all but its primary have promised the very first view, and die before they have a log
    begun twice            a primary dies before its own disk has what it has sent, and comes back while nobody could move on
    far behind             a backup stood behind a cut cable, and its disk is slow; guests ask on, and it becomes level all the same
    told before its own sync    a backup hears that its last batch is committed before its own disk has it; the primary dies, and it leads
    two of five            two of five hosts die, one of the others is behind; when the two are back, and perhaps not level, two others die

Read next: `stage.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from last_resort import LastResort
from packets import Prepare, StartView
from replication import NORMAL
from superblock import load
from tests.simulator.disk import Entry, SimDirectory, SimDisk, SimFile
from tests.simulator.hosts import OnHosts
from tests.simulator.stage import Part, Sent, Stage, Story
from tests.simulator.world import BASE, WALL_AT_START


def _three(s: Stage) -> Part:
    cast = yield from s.cast()
    return [process.id for process in cast] if cast is not None and s.world.count == 3 else None


def _lose_memory(s: Stage, replica: int) -> None:
    """Its directory is gone, or its host with everything on it and the right time, or its superblock is rotten."""
    roll = s.dice.random()
    if roll < 0.6:
        s.spoil(replica, rots=False)
        base = s.world.files_of(replica).find(BASE)
        assert isinstance(base, SimDirectory)
        s.world.say(f"** the {'directory' if roll < 0.4 else 'host'} of {replica} is emptied")
        base.entries.pop(f"replica-{replica}", None)
        if roll >= 0.4:
            base.entries.clear()
            s.world.wall_offset -= 3600 * 1_000_000
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


def a_lost_lock(s: Stage) -> Story:
    """Of one host or of two. Their logs are whole, and count: only one that cannot be read says that something may be missing."""
    cast = yield from _three(s)
    if cast is None or s.checks.spoiled or s.checks.rotten:
        return
    victims = s.dice.sample(cast, s.dice.choice((1, 2)))
    s.feed(40)
    yield s.dice.random()
    is_dead = s.dice.random() < 0.7
    if is_dead:
        s.down(*s.dice.choice((victims, cast)))
        yield 0.01
    if is_dead and s.dice.random() < 0.3 and s.may_spoil(victims[0]):
        s.spoil(victims[0])
        s.world.say(f"** the lock file of {victims[0]} cannot be read")
        s.world.files_of(victims[0]).file(f"{BASE}/cluster/replica-{victims[0]}.lock").content[5] ^= 1
    else:
        _cluster_goes(s, victims)
    s.up(*cast)
    # Twice: in pieces of 600 bytes, over wires that lose a tenth of them, what one lacks is long under way.
    if not (yield s.whole) and not (yield s.whole):
        s.checks.fail(f"{victims} had no lock file that could be read, and the replicas do not come together")


def _cluster_goes(s: Stage, victims: list[int]) -> None:
    for victim in victims:
        s.world.say(f"** data/cluster of {victim} is removed")
        base = s.world.files_of(victim).find(BASE)
        assert isinstance(base, SimDirectory)
        del base.entries["cluster"]
    s.faults.struck["locks lost"] += 1


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


def told_before_its_own_sync(s: Stage) -> Story:
    """Nothing follows that batch, and nobody tells a primary what is committed."""
    cast = yield from _three(s)
    guest = (yield from s.guest_at(cast[0])) if cast is not None else None
    if guest is None or not s.runs(cast[0]):
        return
    primary = cast[0]
    for one in s.checks.guests:
        one.hold()
    desk = s.world.processes[primary].server.desk
    if not (yield lambda: s.core(primary).in_flight is None and not desk.open_runs and not any(one.under_way for one in s.checks.guests)):
        return
    heir = (s.core(primary).view + 1) % s.world.count
    disk, there = s.world.processes[heir].disk, s.head(heir)
    disk.slow_sync, disk.slowest = 1.0, 0.4
    guest.ask(f"3|{guest.name}|{guest.name}=0")
    is_told = yield lambda: s.runs(heir) and s.core(heir).synced <= there < s.core(heir).commit == s.core(heir).head_op
    disk.slow_sync = 0.0
    if not is_told:
        return
    s.down(primary)
    before = s.checks.commit
    s.feed(20)
    if not (yield lambda: s.checks.commit > before):
        s.checks.fail(f"nobody goes on without {primary}")


def two_of_five(s: Stage) -> Story:
    """In the end perhaps one alone of those who run has what was committed last, and the new view has to begin with its log."""
    cast = (yield from s.cast()) if s.world.count == 5 else None
    if cast is None:
        return
    ids = [process.id for process in cast]
    dead = [ids[0], s.dice.choice(ids[1:])] if s.dice.random() < 0.7 else s.dice.sample(ids[1:], 2)
    rest = [i for i in ids if i not in dead]
    behind = s.dice.choice(rest)
    s.block(*((i, behind) for i in dead))
    s.feed(30)
    yield s.dice.random() * 0.4
    yield from _go_on_without(s, dead)
    s.release(*((i, behind) for i in dead))
    s.up(*dead)
    if s.dice.random() < 0.5:
        yield lambda: all(s.runs(i) and s.core(i).status == NORMAL and s.head(i) >= s.checks.acked_op for i in dead)
    else:
        yield s.dice.random() * 0.3
    others = s.dice.sample(rest, 2)
    yield from _go_on_without(s, others)
    s.up(*others)
    s.faults.struck["two of five"] += 1


def _go_on_without(s: Stage, dead: list[int]) -> Part:
    s.down(*dead)
    s.feed(30)
    before = s.checks.commit
    if not (yield lambda: s.checks.commit > before):
        s.checks.fail(f"nobody goes on without {dead}")


def _goes_on_from(s: Stage, chosen: int, copied: int) -> int:
    """`server.py force-new-view --replica CHOSEN --copy COPIED`, and the copy is brought to its host. The view that was forced."""
    disk = SimDisk(s.dice, s.world.files_of(chosen))
    command = LastResort(
        disk,
        s.world.mix.settings,
        BASE,
        chosen,
        confirm=lambda: s.world.mix.settings.name,
        say=lambda line: s.world.say(f"** {line}"),
        wall=lambda: WALL_AT_START + int(s.world.now * 1e6),
        reaches=lambda address: False,
    )
    command.force_new_view((copied,))
    command.release()
    lost, made = s.world.files_of(copied).find(BASE), s.world.files_of(chosen).find(BASE)
    assert isinstance(lost, SimDirectory) and isinstance(made, SimDirectory)
    lost.entries.clear()  # that host has nothing but the copy
    other = SimDisk(s.dice, s.world.files_of(copied))
    _carry(other, made.entries.pop(f"replica-{copied}"), f"{BASE}/replica-{copied}")
    other.sync_dir(BASE)
    for one in (disk, other):
        one.kill()
        one.files.disks = [d for d in one.files.disks if d is not one]
    found = s.checks.eyes[copied]
    superblock = load(found, f"{BASE}/replica-{copied}/superblock")
    assert superblock is not None and superblock.forced
    return superblock.forced


def _carry(disk: SimDisk, entry: Entry, path: str) -> None:
    """A copy of it on this disk, synced."""
    if isinstance(entry, SimFile):
        fd = disk.open(path, create=True)
        disk.pwrite(fd, bytes(entry.content), 0)
        disk.sync(fd)
        return disk.close(fd)
    assert isinstance(entry, SimDirectory)
    disk.mkdir(path)
    for name, inner in entry.entries.items():
        _carry(disk, inner, f"{path}/{name}")
    return disk.sync_dir(path)


def an_operator_goes_on_from_one_disk(s: Stage) -> Story:
    """One is cut off, two go on, all die, one of these two disks is lost. The one that was cut off comes back when the forced view runs."""
    cast = yield from _three(s)
    if cast is None or s.checks.spoiled or s.checks.rotten:
        return
    old, *others = s.dice.sample(cast, 3)
    s.part(old, *others)
    s.feed(40)
    there = max(s.head(old), s.checks.acked_op)
    if not (yield lambda: s.checks.acked_op > there + 3):
        return
    s.all_down()
    yield 0.01
    chosen, copied = sorted(others, key=s.head, reverse=True)
    if s.head(chosen) < s.checks.commit:
        return
    for replica in (old, copied):
        s.spoil(replica, rots=False)
    view = _goes_on_from(s, chosen, copied)
    assert isinstance(s.checks, OnHosts)
    s.checks.forced(view, chosen, copied)
    s.rejoin(old, *others)
    s.up(chosen, copied)
    s.feed(20)
    before = s.checks.acked_op
    if not (yield lambda: s.checks.acked_op > before):
        s.checks.fail("nobody goes on from the disk that an operator has chosen")
    s.up(old)
    yield lambda: s.runs(old) and s.core(old).status == NORMAL and s.core(old).view >= view  # if not by then, by the end of the seed
    s.faults.struck["forced view"] += 1


def the_first_view_half_way(s: Stage) -> Story:
    """Told from the first moment on. What was promised stands on the disks, and nothing else does; the primary has a batch of its own."""
    lead, *others = range(s.world.count)
    if (yield Sent(StartView, lead, others[0])) is None:
        return
    s.block(*((lead, other) for other in others))
    if not (yield lambda: s.runs(lead) and s.head(lead) > 0 and all(s.runs(i) and s.core(i).view == s.core(lead).view for i in others)):
        return
    s.down(*others, *([lead] if s.dice.random() < 0.3 else []))
    yield 0.01
    s.release(*((lead, other) for other in others))
    s.up(lead, *others)
    s.feed(20)
    if not (yield lambda: s.checks.commit > 0):
        s.checks.fail("nobody goes on where the first view had begun half-way")
    s.faults.struck["first view"] += 1


def far_behind(s: Stage) -> Story:
    """One sync for each batch would take it longer than the story lasts."""
    cast = yield from _three(s)
    if cast is None:
        return
    primary, behind, _ = cast
    s.block((primary, behind))
    s.feed(120)
    there = s.head(behind)
    if not (yield lambda: s.checks.commit > there + FAR):
        return
    disk = s.world.processes[behind].disk
    disk.slow_sync, disk.slowest = 1.0, SLOW_S
    s.feed(120)
    lacks = len(s.world.links[min(primary, behind), max(primary, behind)].held[behind])
    s.release((primary, behind))
    for _ in range(3):  # it follows, a sync of its own behind
        if not (yield partial(_has, s, behind, s.checks.commit)):
            s.checks.fail(f"{behind} lacked what {lacks} packets brought, and does not catch up")
    disk.slow_sync = 0.0
    s.faults.struck["caught up"] += 1


def _has(s: Stage, replica: int, op: int) -> bool:
    return s.runs(replica) and s.head(replica) >= op


FAR, SLOW_S = 60, 0.5  # ops; seconds of a sync at most
BEHIND = far_behind.__name__.replace("_", " ")  # told when it is asked for, and drawn by no seed
FORCED = an_operator_goes_on_from_one_disk.__name__.replace("_", " ")  # likewise
STORIES: dict[str, Callable[[Stage], Story]] = {
    play.__name__.replace("_", " "): play
    for play in (
        *(a_lost_memory, a_lost_memory_and_an_outdated_primary, a_lost_lock, longer_and_older, begun_twice, told_before_its_own_sync),
        two_of_five,
    )
}
FIRST = the_first_view_half_way.__name__.replace("_", " ")  # likewise
ASKED_FOR = {FORCED: an_operator_goes_on_from_one_disk, FIRST: the_first_view_half_way, BEHIND: far_behind}
