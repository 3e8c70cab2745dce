"""Stories: scenes of which the protocol's review says that they are dangerous, set on purpose (policy `survivor`).

What it is not: no story knows what the program should do, and none looks at whether it does; that is the checkers' affair. Each asks for
much that may not come about in this seed; then it just ends.

    asked while it stood still      a primary that was voted out wakes, and finds the question of a guest before it finds its clock
    harm and death of all           all die; one of the disks was harmed meanwhile, and comes back first
    an old directory                the same, with a directory that was a copy of its disk two seconds before
    the register is lost            all its records are removed, while all lie dead or under their feet, or the last one rots
    torn at the end                 the power fails while a long batch is on its way to the disk
    only in the page cache          a log that was never wholly synced is believed at the next start, and then the power fails
    rot in the newest snapshot      of two, between which the log has gone on into another file
    late state of an older view     a learner gets the answer of a primary that was voted out after it has asked the next one
    a learner needs a snapshot      it was away for long; offers and answers come to it twice, or it dies while it installs
    no link when it begins          the two who are left have none with each other when the new view begins
    cut and killed                  a member drops what the new primary does not have, and all die or go on; or all die with a view whose
                                    primary has more than the other member, and loses it
    an old word                     who may restart the cluster said so before a view that it does not know of
    the last disk                   of the last member is full, or fails
    rot below the snapshot          of a primary, which is asked for what stood there
    fetched by halves               a disk that was given up, or has rotted, is killed when it has fetched a part, or the power fails then
    a late acknowledgement          of messages to an account that was deleted meanwhile, and made anew
    an answer lost on its way       to a guest that has read its mailbox; it comes back when something new waits there

Read next: `stage.py`.
"""

from __future__ import annotations

from collections.abc import Callable

from packets import GetState, NewState, PrepareOk, Recovery, SnapshotOffer
from replication import LEARNER, NORMAL, READ_ONLY
from snapshots import MANIFEST, UNFINISHED
from tests.simulator.disk import SimDirectory, SimFile
from tests.simulator.stage import Part, Sent, Stage, Story
from tests.simulator.world import BASE, Process

LONG = "x" * 600


def asked_while_it_stood_still(s: Stage) -> Story:
    cast = yield from s.cast()
    if cast is None:
        return
    primary = cast[0]
    guest = yield from s.guest_at(primary.id)
    if guest is None:
        return
    s.stand_still(primary)
    s.feed(30)
    there, view = primary.server.state.op, s.newest_view()
    if not (yield lambda: s.checks.acked_op > there and guest.shell is not None):
        if s.newest_view() == view:
            s.checks.fail(f"{primary.id} stands still, and nobody goes on without it")
        return
    guest.ask("2")
    yield 0.02
    s.wake(primary)
    yield 0.3


# --- all die ------------------------------------------------------------------------------------------------------------------------------


def harm_and_death_of_all(s: Stage) -> Story:
    cast = yield from s.cast()
    victim = s.dice.randrange(s.world.count)
    s.feed(40)
    if cast is None or not (yield lambda: s.is_fresh(victim) and s.may_spoil(victim)):
        return
    process = s.world.processes[victim]
    s.all_down()
    if not s.may_spoil(victim):
        return
    yield 0.01
    if s.dice.choice(HARMS)(s, process):
        yield from _comes_back_first(s, victim)


def _comes_back_first(s: Stage, first: int) -> Part:
    s.up(first)
    yield s.dice.choice((0.0, 0.0, 2.5))
    if s.dice.random() < 0.3:  # what it has written about itself at this start is what it believes at the next
        s.down(first)
        s.up(first)
        yield s.dice.choice((0.0, 2.5))
    s.up(*range(s.world.count))
    yield 1.5


def _rot_at_the_end(s: Stage, process: Process) -> bool:
    journal = process.server.storage.journal
    if journal.last is None or not journal._last_at:
        return False
    s.spoil(process.id)
    s.flip(journal._segments[-1].path, journal._last_at + s.dice.randrange(len(journal.last.image)))
    return True


def _rot_before_the_end(s: Stage, process: Process) -> bool:
    journal = process.server.storage.journal
    if journal._last_at <= 1024:
        return False
    s.spoil(process.id)
    s.flip(journal._segments[-1].path, s.dice.randrange(512, journal._last_at))
    return True


def _emptied(s: Stage, process: Process) -> bool:
    s.spoil(process.id, rots=False)
    base = s.world.files_of(process.id).find(BASE)
    assert isinstance(base, SimDirectory)
    s.world.say(f"** the directory of {process.id} is emptied")
    base.entries.pop(f"replica-{process.id}", None)
    return True


def _superblock_rots(s: Stage, process: Process) -> bool:
    s.spoil(process.id)
    for slot in range(2):
        s.flip(f"{BASE}/replica-{process.id}/superblock", slot * 4096 + s.dice.randrange(60))
    return True


def _snapshot_rots(s: Stage, process: Process, *, names_most: int = 9) -> bool:
    """`names_most`: a file that is in so many snapshots at most; those that are full are linked from one to the next."""
    newest = max(_snapshots(s, process.id).items(), default=None)
    files = [(n, f) for n, f in sorted(newest[1].entries.items()) if isinstance(f, SimFile) and f.names <= names_most] if newest else []
    if newest is None or not files:
        return False
    name, file = s.dice.choice(files)
    if not file.content:
        return False
    s.spoil(process.id)
    s.flip(f"{BASE}/replica-{process.id}/snapshots/{newest[0]}/{name}", s.dice.randrange(len(file.content)))
    return True


def _snapshots(s: Stage, replica: int) -> dict[str, SimDirectory]:
    folders = s.directory(replica).entries.get("snapshots")
    entries = folders.entries.items() if isinstance(folders, SimDirectory) else ()
    return {name: folder for name, folder in entries if name.isdecimal() and isinstance(folder, SimDirectory)}


HARMS: tuple[Callable[[Stage, Process], bool], ...] = (
    *(_rot_at_the_end, _rot_at_the_end, _rot_before_the_end),
    *(_emptied, _superblock_rots, _snapshot_rots),
)


def an_old_directory(s: Stage) -> Story:
    cast = yield from s.cast()
    victim = s.dice.randrange(s.world.count)
    if cast is None or not (yield lambda: s.head(victim) == s.checks.commit > 0):
        return
    view, held, made = s.core(victim).view, s.head(victim), s.copy(victim)
    s.feed(40)
    if not (yield lambda: (s.faults.hint(victim) or 0) > held) or s.core(victim).view != view:
        return
    s.all_down()
    if s.may_spoil(victim):
        s.faults.put_back(victim, made, held)
        yield from _comes_back_first(s, victim)


def the_register_is_lost(s: Stage) -> Story:
    cast = yield from s.cast()
    if cast is not None and not (s.checks.spoiled or s.checks.rotten or s.checks.touched or s.checks.dark):
        yield from s.dice.choice((_while_all_are_dead, _while_they_live))(s, *(process.id for process in cast))


def _while_all_are_dead(s: Stage, *cast: int) -> Part:
    """All disks are whole, and one may lack what the others have acknowledged since; some lock files are gone as well."""
    away = s.dice.choice(cast)
    if s.dice.random() < 0.7:
        s.down(away)
        there = s.head(away)
        s.feed(30)
        if not (yield lambda: not s.is_in_view(away) and s.checks.commit > there):
            return
        if s.dice.random() < 0.5:
            yield from _nearly_taken_in(s, away)
    s.all_down()
    yield 0.01
    _records_go(s, *s.dice.sample(cast, s.dice.randrange(len(cast))))
    s.checks.register_lost()
    yield from _comes_back_first(s, away)
    if not (yield lambda: s.checks.view is not None):
        s.checks.fail("all are there and whole, and nobody begins the register again")


def _nearly_taken_in(s: Stage, learner: int) -> Part:
    """The newest view stands in its superblock, and nobody has heard of that."""
    leading = [process.id for process in s.world.living() if s.runs(process.id) and s.core(process.id).is_primary]
    s.up(learner)
    if not leading or (yield Sent(PrepareOk, learner, leading[0])) is None:
        return
    s.block((learner, leading[0]))
    there = s.checks.commit
    if (yield lambda: s.core(leading[0]).policy.joint is None):
        s.feed(30)
        yield lambda: s.checks.commit > there + 4
    s.down(learner)
    s.release((learner, leading[0]))


def _while_they_live(s: Stage, *cast: int) -> Part:
    """Those who have read the last record go on from it; who starts finds none, or one that cannot be read."""
    s.dice.choice((_records_go, _last_record_rots))(s)
    victims = s.dice.sample(cast, s.dice.choice((1, 2)))
    s.feed(30)
    yield s.dice.random()
    s.down(*victims)
    if s.dice.random() < 0.5 and not (yield lambda: not any(s.is_in_view(victim) for victim in victims)):
        s.checks.fail(f"nobody goes on without {victims}")
    s.up(*victims)
    yield 1.5


def _last_record_rots(s: Stage) -> None:
    """One that nobody needs who has read it: the next stands above it."""
    cluster, view = s.world.files.find(f"{BASE}/cluster"), s.checks.view
    assert isinstance(cluster, SimDirectory) and view is not None
    file = cluster.entries[f"view-{view.number:010d}"]
    assert isinstance(file, SimFile)
    s.world.say(f"** the record of view {view.number} rots")
    file.content[s.dice.randrange(len(file.content))] ^= 1 << s.dice.randrange(8)
    s.faults.struck["register lost"] += 1


def _records_go(s: Stage, *locks: int) -> None:
    cluster = s.world.files.find(f"{BASE}/cluster")
    assert isinstance(cluster, SimDirectory)
    s.world.say(f"** all records of views are removed{f', and the lock files of {sorted(locks)}' if locks else ''}")
    for name in [n for n in cluster.entries if n.startswith("view-") or n in {f"replica-{i}.lock" for i in locks}]:
        del cluster.entries[name]
    s.faults.struck["register lost"] += 1


def torn_at_the_end(s: Stage) -> Story:
    cast = yield from s.cast()
    guests = [guest for guest in s.checks.guests if hasattr(guest, "births")]
    for guest in guests:
        guest.hold()
    if cast is None or not guests or not (yield lambda: not any(guest.under_way for guest in guests)):
        return
    s.faults.blow_at(s.dice.choice(cast), 2048)
    for guest in guests:
        for n in range(6 if guest.account else 0):
            guest.ask(f"3|{s.dice.choice(guests).name}|{guest.name}+{n}{LONG}")
    s.world.down.update(range(s.world.count))
    if not (yield lambda: not s.world.living()):
        s.world.down.clear()
        return
    first = s.dice.randrange(s.world.count)
    s.up(first)
    if s.dice.random() < 0.5 and (yield lambda: s.runs(first) and s.core(first).serving and s.core(first).last.view == s.core(first).view):
        s.all_down()  # what was torn is behind a shorter batch now, if anywhere
        yield 0.05
    s.up(*range(s.world.count))
    yield 1.5


def only_in_the_page_cache(s: Stage) -> Story:
    cast = yield from s.cast()
    believed = (yield from s.dice.choice(UNSYNCED)(s, *cast)) if cast is not None else None
    if believed is None or not (yield lambda: s.runs(believed)):
        return
    # The next batch would sync what stands before it in the same file.
    s.faults.blow_at(s.world.processes[believed], 1)
    s.world.down.update(range(s.world.count))
    s.feed(12)
    yield lambda: not s.world.living()
    yield from _comes_back_first(s, believed)


def _died_before_its_sync(s: Stage, *cast: Process) -> Part:
    """All die, and who comes back alone goes on from what it had written."""
    process = s.dice.choice(cast)
    s.faults.kill_before_sync(process)
    s.world.down.add(process.id)
    s.feed(30)
    if not (yield lambda: not process.alive):
        return None
    s.all_down()
    s.up(process.id)
    return process.id


def _failed_as_the_last_one(s: Stage, last: Process, *others: Process) -> Part:
    """Nobody was told that the batch was stored; who starts on this disk again finds it there."""
    s.down(*(other.id for other in others))
    if not (yield lambda: not any(s.is_in_view(other.id) for other in others)):
        return None
    s.faults.fail_next_batch(last.id)
    s.feed(30)
    if not (yield lambda: s.runs(last.id) and s.core(last.id).status == READ_ONLY):
        return None
    s.down(last.id)
    s.up(last.id)
    return last.id


def _failed_while_it_fetched(s: Stage, *cast: Process) -> Part:
    """What a learner stores comes many batches at a time, and only the last of them is written again when it starts."""
    learner = cast[2].id
    s.down(learner)
    end = s.head(learner)
    s.feed(40)
    if not (yield lambda: not s.is_in_view(learner) and s.checks.commit > end + 12) or not s.may_spoil(learner):
        return None
    s.faults.fail_next_batch(learner, least=2)
    s.up(learner)
    if not (yield lambda: s.world.processes[learner].sync_failed and not s.runs(learner)):
        return None
    s.up(learner)
    joins = yield lambda: s.runs(learner) and s.is_in_view(learner) and s.core(learner).status == NORMAL
    return learner if joins else None


UNSYNCED = (_died_before_its_sync, _failed_as_the_last_one, _failed_while_it_fetched)


def rot_in_the_newest_snapshot(s: Stage) -> Story:
    cast = yield from s.cast()
    if cast is None:
        return
    process = s.dice.choice(cast)
    for _ in range(4):
        s.feed(60)
        if (yield lambda: _has_turned_over(s, process)):
            break
    if not _has_turned_over(s, process) or not s.may_spoil(process.id):
        return
    s.down(process.id)
    if _snapshot_rots(s, process, names_most=1):
        s.checks.unharmed[process.id] = s.world.now
    s.up(process.id)
    yield 0.5


def _has_turned_over(s: Stage, process: Process) -> bool:
    """Whether another file of the log begins between its two snapshots."""
    if not s.runs(process.id):
        return False
    older, newest, *_ = *sorted(int(name) for name in _snapshots(s, process.id))[-2:], 0, 0
    return any(older + 1 < segment.first_op <= newest + 1 for segment in process.server.storage.journal._segments)


# --- learners -----------------------------------------------------------------------------------------------------------------------------


def late_state_of_an_older_view(s: Stage) -> Story:
    cast = yield from s.cast()
    if cast is None:
        return
    old, new, learner = (process.id for process in cast)
    s.down(learner)
    if not (yield lambda: not s.is_in_view(learner)):
        return
    s.up(learner)
    if not (yield lambda: s.runs(learner) and old in s.world.processes[learner].linked):
        return
    s.block((old, new))
    s.feed(12)
    if (yield Sent(GetState, learner, old)) is None:
        return
    # The answer will hold a batch that the next primary has not got.
    if not (yield lambda: s.head(old) > s.head(new)):
        return
    s.block((old, learner))
    view = s.core(old).view
    if not (yield lambda: s.newest_view() > view):
        return
    if (yield Sent(GetState, learner, new)) is None:
        return
    s.block((new, learner))
    s.release((old, learner))
    yield 0.1
    s.release((new, learner))
    yield 0.3


def a_learner_needs_a_snapshot(s: Stage) -> Story:
    cast = yield from s.cast()
    if cast is None:
        return
    primary, other, learner = (process.id for process in cast)
    s.down(learner)
    end = s.head(learner)
    s.feed(60)
    for _ in range(4):
        if (yield lambda: s.world.processes[primary].server.storage.journal.oldest_op > end + 1):
            break
        s.feed(60)
    else:
        return
    yield from s.dice.choice((_asked_twice, _offered_twice, _killed_while_it_installs, _busy_with_its_own))(s, primary, other, learner)


def _asked_twice(s: Stage, primary: int, other: int, learner: int) -> Part:
    """All is quiet, so that the snapshot holds everything: the answer that nothing follows comes again when something does."""
    for guest in s.checks.guests:
        guest.hold()
    storage = s.world.processes[primary].server.storage
    if not (yield lambda: storage.snapshot_op == storage.journal.head_op == s.checks.commit):
        return
    s.up(learner)
    while True:
        packet = yield Sent(NewState, primary, learner)
        if packet is None:
            return
        if not packet.images and packet.joint:
            break
    s.block((learner, primary))
    s.stand_still(s.world.processes[other])
    for guest in s.checks.guests:
        guest.let_go()
    s.feed(6)
    if not (yield lambda: s.core(primary).in_flight is not None):
        return
    s.release((learner, primary))
    ack = packet
    while ack is not None and (ack is packet or ack.op <= packet.base_op):
        ack = yield Sent(PrepareOk, learner, primary)
    if ack is not None:
        s.block((learner, primary))
        yield 0.001
        s.repeat(primary, learner, packet)
        yield 0.01
        s.release((learner, primary))
    s.wake(s.world.processes[other])
    yield 0.3


def _offered_twice(s: Stage, primary: int, other: int, learner: int) -> Part:
    """The offer of a snapshot comes again when more than it was fetched."""
    storage = s.world.processes[primary].server.storage
    before = storage.snapshot_op
    s.feed(20)
    if not (yield lambda: storage.snapshot_op > before):
        return
    s.feed(40)
    yield 0.3
    s.up(learner)
    offer = yield Sent(SnapshotOffer, primary, learner)
    request = offer
    while request is not None and request.op <= offer.op:
        request = yield Sent(GetState, learner, primary)
    if request is None:
        return
    s.block((learner, primary))
    yield 0.001
    s.repeat(primary, learner, offer)
    yield 0.02
    s.release((learner, primary))
    yield 0.5


def _busy_with_its_own(s: Stage, primary: int, other: int, learner: int) -> Part:
    """The learner has made a snapshot of its own log, and has not heard of it yet, when it installs another one."""
    s.block((learner, primary), (learner, other))
    s.up(learner)
    if (yield lambda: s.runs(learner) and _has_made(s.directory(learner))):
        s.release((learner, primary), (learner, other))
        yield 1.0


def _has_made(directory: SimDirectory) -> bool:
    """Whether a finished snapshot waits there for its name."""
    folders = directory.entries.get("snapshots")
    made = [folder for name, folder in folders.entries.items() if name.startswith(UNFINISHED)] if isinstance(folders, SimDirectory) else []
    return any(isinstance(folder, SimDirectory) and MANIFEST in folder.entries for folder in made)


def _killed_while_it_installs(s: Stage, primary: int, other: int, learner: int) -> Part:
    s.up(learner)
    if (yield Sent(SnapshotOffer, primary, learner)) is not None:
        s.faults.aim(learner)
        yield lambda: not s.runs(learner)
        s.up(learner)
        yield 0.5


def fetched_by_halves(s: Stage) -> Story:
    cast = yield from s.cast()
    if cast is None:
        return
    victim = cast[1].id
    s.feed(60)
    if not (yield lambda: s.is_fresh(victim, 4)) or not s.may_spoil(victim):
        return
    yield from s.dice.choice((_given_up, _rotten_twice))(s, victim)
    s.up(victim)
    yield 0.5


def _given_up(s: Stage, victim: int) -> Part:
    s.faults.fail_next_batch(victim)
    s.world.down.add(victim)
    if not (yield lambda: not s.runs(victim)):
        return
    hint, acknowledged = s.faults.hint(victim) or 0, s.checks.promises.newest.get(victim, (0, b""))[0]
    s.spoil(victim, rots=False)
    s.up(victim)
    if (yield lambda: s.runs(victim) and s.core(victim).status == LEARNER and max(1, hint) <= s.head(victim) < acknowledged):
        s.down(victim)
        yield 0.01


def _rotten_twice(s: Stage, victim: int) -> Part:
    """Its log, of which it clears the rot; then the power fails, and what says so in its superblock rots."""
    process = s.world.processes[victim]
    s.down(victim)
    if process.server.storage.journal.parent_op < (s.faults.hint(victim) or 0) or not _rot_at_the_end(s, process):
        return
    s.up(victim)
    if not (yield lambda: s.runs(victim)):
        return
    s.faults.blow_at(s.world.processes[victim], syncs=2)  # of the zeros, and of what it has fetched
    s.world.down.add(victim)
    if (yield lambda: not s.runs(victim)):
        path = f"{BASE}/replica-{victim}/superblock"
        content = s.world.files_of(victim).file(path).content
        newest = max((4096, 0), key=lambda slot: content[slot + 8 : slot + 16][::-1])  # its number, behind magic and checksum
        s.flip(path, newest + s.dice.randrange(60))


def rot_below_the_snapshot(s: Stage) -> Story:
    cast = yield from s.cast()
    if cast is None:
        return
    storage, learner, other = cast[0].server.storage, cast[1].id, cast[2].id
    s.feed(60)
    if not (yield lambda: storage.snapshot_op > 20) or storage.journal.oldest_op > 1 or not s.may_spoil(learner):
        return
    oldest = storage.journal._segments[0]
    end = oldest.nearest(storage.snapshot_op)
    if end <= 2048:
        return
    s.down(learner)
    if s.dice.random() < 0.5:  # there is nobody else who could go on
        s.down(other)
        if not (yield lambda: not s.is_in_view(learner) and not s.is_in_view(other)):
            return
    yield 0.01
    file, at = s.world.files_of(cast[0].id).file(oldest.path), s.dice.randrange(2048, end)
    byte = file.content[at]
    s.spoil(cast[0].id)
    s.flip(oldest.path, at)
    _emptied(s, cast[1])
    s.up(learner)
    for _ in range(3):
        if (yield lambda: s.runs(learner) and s.core(learner).status == NORMAL):
            s.down(cast[0].id)  # it must not become the last one
            yield lambda: not s.is_in_view(cast[0].id)
            return
    file.content[at] = byte  # nor be the last one for ever


# --- who may begin a view -----------------------------------------------------------------------------------------------------------------


def no_link_when_it_begins(s: Stage) -> Story:
    cast = yield from s.cast()
    if cast is None:
        return
    primary, heir, member = (process.id for process in cast)
    link = s.world.links.get((heir, member))
    if link is None:
        return
    s.part(heir, member)
    s.world.cut(link, flushes=False)
    s.down(primary)
    if (yield lambda: s.runs(heir) and s.core(heir).is_primary and s.core(heir).status == NORMAL):
        s.rejoin(heir, member)
        yield 0.5


def cut_and_killed(s: Stage) -> Story:
    cast = yield from s.cast()
    if cast is None:
        return
    s.block((cast[0].id, cast[1].id))
    s.feed(20)
    yield from s.dice.choice((_cut_by_the_heir, _named_without_the_last_batch, _goes_on_after_the_cut))(
        s, *(process.id for process in cast)
    )


def _has_more_than_the_heir(s: Stage, primary: int, heir: int, member: int) -> Part:
    """Whether there is a next view, and the member had a batch more than who leads it."""
    if not (yield lambda: s.head(member) == s.head(primary) > s.head(heir) and (s.faults.hint(member) or 0) >= s.head(member)):
        return False
    view = s.core(primary).view
    return (yield lambda: s.newest_view() > view)


def _goes_on_after_the_cut(s: Stage, primary: int, heir: int, member: int) -> Part:
    """The heir's next batch stands where the member had another one."""
    if not (yield from _has_more_than_the_heir(s, primary, heir, member)):
        return
    there = s.checks.commit
    goes_on = yield lambda: s.checks.commit > there and s.runs(heir) and s.core(heir).is_primary
    if goes_on and s.runs(member) and not s.is_in_view(member):
        s.checks.fail(f"{heir} goes on without {member}, which lives and works")


def _cut_by_the_heir(s: Stage, primary: int, heir: int, member: int) -> Part:
    if not (yield from _has_more_than_the_heir(s, primary, heir, member)) or (yield Sent(PrepareOk, member, heir)) is None:
        return
    yield 0.0
    s.all_down()
    yield 0.05
    s.up(*range(s.world.count))
    yield 1.0


def _named_without_the_last_batch(s: Stage, primary: int, heir: int, member: int) -> Part:
    """A view is made of these two while a batch is on its way that only its primary has, and never will again."""
    if not (yield lambda: s.head(primary) > s.head(heir)):
        return
    view = s.core(primary).view
    s.down(member)
    if not (yield lambda: s.newest_view() > view) or s.head(heir) == s.head(primary) or not s.may_spoil(primary):
        return
    s.all_down()
    yield 0.01
    if s.may_spoil(primary):
        _emptied(s, s.world.processes[primary])
    s.up(heir)
    yield 2.5
    s.up(*range(s.world.count))
    yield 1.0


def an_old_word(s: Stage) -> Story:
    cast = yield from s.cast()
    if cast is None:
        return
    primary, other, outdated = (process.id for process in cast)
    s.stand_still(cast[0])  # so that the outdated one has begun again before it is voted out
    s.down(outdated)
    s.up(outdated)
    if not (yield lambda: s.runs(outdated) and s.core(outdated).policy.last is not None):
        return
    s.part(outdated, primary, other)
    s.wake(cast[0])
    s.feed(30)
    if not (yield lambda: not s.is_in_view(outdated) and s.checks.commit > s.head(outdated)):
        return
    s.down(primary, other)
    s.rejoin(outdated, primary, other)
    s.up(other)
    if not (yield lambda: s.runs(other) and outdated in s.world.processes[other].linked):
        return
    s.block((other, outdated))
    word = yield Sent(Recovery, outdated, other)
    yield 0.0
    if word is not None and word.eligible:
        s.block((outdated, other))
        yield 1.5


def the_last_disk(s: Stage) -> Story:
    cast = yield from s.cast()
    if cast is None:
        return
    last, *others = (process.id for process in cast)
    s.down(*others)
    if not (yield lambda: not any(s.is_in_view(other) for other in others)):
        return
    is_full = s.dice.random() < 0.5
    if is_full:
        s.faults.full.add(last)
    else:
        s.faults.fail_next_batch(last)
    s.feed(30)
    if not (yield lambda: s.runs(last) and s.core(last).status == READ_ONLY):
        s.faults.full.discard(last)
        return
    for guest in s.checks.guests:
        if hasattr(guest.shell, "connection"):
            guest.shell.break_off()  # what is under way is asked for again
    yield 1.5
    if s.dice.random() < 0.5:
        yield from _taken_in(s, last, others[0])
        s.down(others[0])  # before it has heard that commits wait for it
    s.faults.full.discard(last)
    for _ in range(3 if is_full else 0):
        if (yield lambda: s.core(last).status != READ_ONLY):
            break
    s.up(*others)
    yield lambda: not s.runs(last) or s.core(last).status != READ_ONLY


def _taken_in(s: Stage, primary: int, learner: int) -> Part:
    """The primary is about to send what opens joint mode; the answer: the packet, or None."""
    s.up(learner)
    packet = yield Sent(NewState, primary, learner)
    while packet is not None and not packet.joint:
        packet = yield Sent(NewState, primary, learner)
    return packet


# --- guests -------------------------------------------------------------------------------------------------------------------------------


def a_late_acknowledgement(s: Stage) -> Story:
    cast = yield from s.cast()
    if cast is None:
        return
    primary, backup, other = cast
    guest = yield from s.guest_at(backup.id)
    friend = (yield from s.guest_at(primary.id, but=guest)) if guest is not None else None
    if friend is None or not guest.account:
        return
    guest.says_when_shown = False
    before = guest.displayed
    friend.go(f"3|{guest.name}|{friend.name}+{n}" for n in range(3))
    if not (yield lambda: guest.displayed >= before + 3 and not friend.under_way):
        return
    guest.acknowledge(guest.shell, guest.displayed)
    if not (yield lambda: not s.checks.spec.accounts[guest.name].box):
        return
    s.stand_still(other)
    friend.ask(f"3|{friend.name}|{friend.name}+self")
    if not (yield lambda: s.core(primary.id).in_flight is not None):
        return
    # One batch takes the guest to another replica, its account away, and messages to the next one of that name.
    lost, guest.shell, guest.stays, guest.port = guest.shell, None, False, (primary.id - 1) % s.world.count
    for line in (f"4|{guest.name}123", f"5|{guest.name}123", f"1|{guest.name}"):
        guest.ask(line)
    guest.connect()
    desk = primary.server.desk
    if (yield lambda: desk.open_ops >= 4):
        for n in range(3):
            friend.ask(f"3|{guest.name}|{friend.name}={n}")
        yield lambda: desk.open_ops >= 7
    s.wake(other)
    yield Sent(PrepareOk, backup.id, primary.id)
    yield 0.0
    s.down(primary.id)
    yield 0.7
    lost.hang_up()


def an_answer_lost_on_its_way(s: Stage) -> Story:
    cast = yield from s.cast()
    if cast is None:
        return
    primary, backup, other = (process.id for process in cast)
    guest = yield from s.guest_at(backup)
    friend = (yield from s.guest_at(primary, but=guest)) if guest is not None else None
    if friend is None or guest.shell is None:
        return
    guest.closing = True  # it does not come back at once
    guest.shell.break_off()
    if not (yield lambda: guest.shell is None):
        return
    friend.go(f"3|{guest.name}|{friend.name}={n}" for n in range(2))
    if not (yield lambda: not friend.under_way):
        return
    guest.ask(f"4|{guest.name}123")
    guest.closing, guest.stays, guest.port = False, False, (backup - 1) % s.world.count
    guest.sent = 0
    guest.connect()
    if not (yield lambda: guest.sent > 0 and hasattr(guest.shell, "connection")):
        return
    lost, guest.shell = guest.shell, None
    if (yield lambda: not s.checks.spec.accounts[guest.name].box):
        friend.go([f"3|{guest.name}|{friend.name}=2"])
        yield lambda: not friend.under_way
    guest.stays, guest.port = True, (other - 1) % s.world.count
    guest.connect()
    yield lambda: not guest.under_way
    lost.hang_up()


STORIES: dict[str, Callable[[Stage], Story]] = {
    play.__name__.replace("_", " "): play
    for play in (
        *(asked_while_it_stood_still, harm_and_death_of_all, an_old_directory, the_register_is_lost, torn_at_the_end),
        only_in_the_page_cache,
        *(rot_in_the_newest_snapshot, late_state_of_an_older_view, a_learner_needs_a_snapshot, fetched_by_halves),
        *(rot_below_the_snapshot, no_link_when_it_begins, cut_and_killed, an_old_word, the_last_disk, a_late_acknowledgement),
        an_answer_lost_on_its_way,
    )
}
