"""Policy `survivor` as it is built, small enough to search through: three replicas, one register, packets that arrive late, twice or never.

What it is not: it knows no time, so every timer may fire at any moment and everybody may suspect anybody; it knows no bytes
(`tests/test_journal.py`), no snapshots and no half-done installs (`walk.py`).

    a log           a word; each letter is one batch, so that equal words are equal hash chains
    packets         a set that only grows: any may be lost, delayed, overtaken, repeated, and outlive its sender. What nobody can
                    use any more is left out of the state, and so are views below the lowest that anybody is in
    one step        what production does between two moments at which a crash, a packet or a view could tell the difference:
                    a primary's batch is sent first and on its disk later; a join is proposed first and registered later;
                    an install cuts in one step, adds, syncs and acknowledges in another
    a view's packet StartView and Prepare are one: both say where the primary's log ends, and bring its last batch
    spoiling        a dead replica's directory is emptied, or its log rots; the disk of a primary has no room for its batch: nothing of
                    it goes on but by a view. Without anybody else in the view it answers, takes nothing new, tries again, or gives way
                    to a learner that holds everything up to its commit; voted out it is a learner once there is room

    promise                                                              checked
    who would answer a query knows exactly what was acknowledged         in every state
    every member of the register's last view holds what was acknowledged in every state, but for members that were spoiled since
    an acknowledged batch is never another                               at every commit
    nothing but an uncommitted last batch is cut                         at every cut
    no log parts from the primary's before its last batch                at every install and catch-up

Each name in BUGS is one rule removed; the search must find what it breaks.

Read next: `walk.py`, docs/model.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any, NamedTuple

from tests.model.explore import Action, Violation

LEARNER, VIEW_CHANGE, NORMAL, READ_ONLY = 0, 1, 2, 3
LOG, ACK, COMMIT, STATE = 0, 1, 2, 3  # kinds of packets

Member = tuple[int, int]  # replica, incarnation
Left = tuple[int, int, int, int]
Packet = tuple[Any, ...]  # LOG view log · ACK view member log · COMMIT view log · STATE view member base log
BATCHES = "xyzuvw"


class Replica(NamedTuple):
    """One replica; what a crash leaves is `inc`, `log`, `log_view`, `born` and `sound`."""

    up: bool
    inc: int
    log: str
    view: int  # the last that it has read
    status: int
    commit: int  # how much of the log it knows to be committed: all, or all but the last batch
    served: bool  # whether everything of earlier views was committed in this one
    joint: Member | None  # the learner that a primary is taking in
    proposing: Member | None  # the joint learner, once it has acknowledged everything
    pending: str  # the batch a primary has sent, but not on its disk yet
    joining: bool  # a learner that has acknowledged in this view
    log_view: int = 0  # here and below: `walk.py`
    plan: tuple[Any, ...] | None = None  # here: alone in a view that has not begun
    born: int = 1  # the incarnation that found this disk new
    sound: bool = True  # nothing is known to be wrong with it
    hands_over: bool = False  # what it proposes is a view without itself
    full: bool = False  # its disk has no room for what is pending


class View(NamedTuple):
    """A record of the register. `tip`: what its proposer knew to be committed."""

    number: int
    primary: Member
    members: tuple[Member, ...]
    tip: str
    closed: bool


class State(NamedTuple):
    """Everything there is. `left`: batches, crashes, restarts and spoilings that may still come."""

    replicas: tuple[Replica, ...]
    register: tuple[View, ...]
    packets: frozenset[Packet]
    acked: str
    left: Left


Step = tuple[Action, State]

SMALL = (1, 1, 1, 3)
# Rule removed: bounds (batches, crashes, restarts, views, spoilings) at which the search finds it soon, and the rule.
BUGS: dict[str, tuple[tuple[int, ...], str]] = {
    "no_guard": ((1, 0, 0, 2), "a query is answered only while the next view does not exist"),
    "ack_old_view": ((1, 0, 0, 2), "who has adopted a view acknowledges nothing of an older one"),
    "majority_commits": ((1, 0, 0, 2), "every member must have a batch synced, not just most"),
    "commit_before_own_sync": ((1, 1, 0, 2), "the primary's own sync is needed as well"),
    "serves_early": ((1, 0, 0, 2), "a new primary serves when the last batch of the earlier view is committed"),
    "pipelines": ((2, 0, 0, 2), "one batch is in flight"),
    "no_joint": ((1, 0, 0, 3), "no batch is committed without the learner that is being taken in"),
    "joint_closed_while_proposing": ((1, 0, 0, 3), "joint mode is not closed while the learner's membership is being registered"),
    "joins_unasked": ((1, 0, 0, 3), "a learner is registered only when it has acknowledged all of the primary's log"),
    "keeps_surplus": ((2, 0, 0, 3), "a learner cuts its surplus batch, and an ack counts only with the primary's own hash"),
    "anyone_restarts": ((1, 0, 0, 3), "only members of the register's last view restart the cluster"),
    "any_log_after_close": ((1, 1, 0, 4), "a closed view may be continued by others only where the log ends exactly there"),
    "stale_eligible": ((1, 2, 2, 3), "a peer's word that it may restart the cluster counts only in the view in which it was given"),
    "young_disk": ((1, 1, 1, 3, 1), "a disk that is younger than the view, since its directory was emptied, does not restart the cluster"),
    "rotten_disk": ((1, 1, 1, 3, 1), "a disk with damage does not restart the cluster"),
    "gives_way_unasked": ((2, 0, 0, 3, 1), "a read_only member gives way only to a learner that has acknowledged all of its commit"),
}
KEEPS_OLD_PACKETS = ("ack_old_view", "older_state", "shortens_after_ack")  # all but the first: `walk.py`


def initial(batches: int, crashes: int, restarts: int, spoilings: int) -> State:
    """View 1 runs everywhere, nothing is in it."""
    members = tuple((i, 1) for i in range(3))
    replica = Replica(True, 1, "", 1, NORMAL, 0, True, None, None, "", False, 1)
    return State((replica,) * 3, (View(1, (0, 1), members, "", False),), frozenset(), "", (batches, crashes, restarts, spoilings))


class SurvivorModel:
    """See the module's page."""

    def __init__(self, batches: int, crashes: int, restarts: int, views: int, spoilings: int = 0, *, bug: str = "") -> None:
        assert not bug or bug in BUGS or bug in self.more_bugs(), f"no such bug: {bug}"
        self.bounds, self.views, self.bug = (batches, crashes, restarts, spoilings), views, bug

    def more_bugs(self) -> tuple[str, ...]:
        return ()

    def initial(self) -> State:
        return initial(*self.bounds)

    def tell(self, action: Action) -> str:
        return SENTENCES[action[0]].format(*action[1:])

    def weight(self, action: Action) -> float:
        return WEIGHTS.get(action[0], 2.0)

    # --- what must hold -------------------------------------------------------------------------------------------------------------------

    def check(self, state: State) -> None:
        """Queries and members, see the table."""
        last, acked = state.register[-1], state.acked
        for i, r in enumerate(state.replicas):
            if r.up and r.status in (NORMAL, READ_ONLY) and r.served and (r.view == last.number or self.bug == "no_guard"):
                if self.view_of(state, r).primary != (i, r.inc):
                    continue
                answer = r.log[: r.commit]
                if answer != acked:
                    raise Violation(f"{i} would answer a query from {answer or 'nothing'!r}, acknowledged is {acked!r}")
        for i, inc in last.members:
            r = state.replicas[i]
            if not r.log.startswith(acked) and r.sound and r.born <= inc:
                raise Violation(f"{i} stands in view {last.number} with the log {state.replicas[i].log!r}, acknowledged is {acked!r}")

    def view_of(self, state: State, r: Replica) -> View:
        register = state.register
        return register[r.view - register[0].number]

    # --- what can happen ------------------------------------------------------------------------------------------------------------------

    def successors(self, state: State) -> Iterator[Step]:
        """Everything that can happen, without what nobody can use any more."""
        for action, after in self.steps(state):
            yield action, self.tidied(after)

    def steps(self, state: State) -> Iterator[Step]:
        for i, r in enumerate(state.replicas):
            if not r.up:
                yield from self.restart(state, i, r)
                yield from self.spoil(state, i, r)
                continue
            yield from self.crash(state, i, r)
            if r.view < state.register[-1].number and (r.full or not r.pending):
                yield from self.adopt(state, i, r)
            view = self.view_of(state, r)
            if r.full:
                yield ("retry", i, r.pending), self.finds_room(state, i, r)
                if r.status in (LEARNER, VIEW_CHANGE):
                    continue
            if self.bug == "ack_old_view" and (i, r.inc) in view.members:
                yield from (
                    self.store(state, i, r, p[1], p[2])
                    for p in state.packets
                    if p[0] == LOG and p[1] < r.view and p[2][:-1] == r.log != p[2]
                )
            if view.primary == (i, r.inc):
                if r.status in (NORMAL, READ_ONLY):
                    yield from self.lead(state, i, r, view)
                    yield from self.take_in(state, i, r, view)
                else:
                    yield from self.begin_view(state, i, r)
            elif r.status == LEARNER:
                yield from self.learn(state, i, r, view)
            else:
                yield from self.back_up(state, i, r, view)
            if r.view == state.register[-1].number < self.views:
                yield from self.decide(state, i, r, view)

    def tidied(self, state: State) -> State:
        """The same state without packets and views that make no difference any more."""
        replicas, register, packets, acked, left = state
        last = register[-1].number
        lowest = min([r.view for r in replicas if r.up], default=last)
        if register[0].number < lowest:
            register = register[lowest - register[0].number :]
        if packets and self.bug not in KEEPS_OLD_PACKETS:
            idle = [p for p in packets if not _is_useful(p, replicas, register, lowest)]
            if idle:
                packets = packets.difference(idle)
        return State(replicas, register, packets, acked, left)

    # --- crashes and the register ---------------------------------------------------------------------------------------------------------

    def crash(self, state: State, i: int, r: Replica) -> Iterator[Step]:
        """What was sent, but not synced here, may or may not be on the disk."""
        batches, crashes, restarts, spoilings = state.left
        if crashes:
            left = (batches, crashes - 1, restarts, spoilings)
            for log in {r.log, r.log + r.pending}:
                yield ("crash", i, f" with {r.pending} on its disk" if log != r.log else ""), put(state, i, dead(r, log), left=left)

    def restart(self, state: State, i: int, r: Replica) -> Iterator[Step]:
        """A new incarnation reads the register and begins as a learner; all but its last batch is committed."""
        batches, crashes, restarts, spoilings = state.left
        if restarts:
            last = state.register[-1].number
            new = r._replace(up=True, inc=r.inc + 1, view=last, commit=max(len(r.log) - 1, 0))
            yield ("restart", i, r.inc + 1, last), put(state, i, new, left=(batches, crashes, restarts - 1, spoilings))

    def spoil(self, state: State, i: int, r: Replica) -> Iterator[Step]:
        """What happens to a disk while nobody runs on it: its directory is emptied, or the end of its log rots."""
        batches, crashes, restarts, spoilings = state.left
        if spoilings:
            left = (batches, crashes, restarts, spoilings - 1)
            yield ("empty", i), put(state, i, r._replace(log="", log_view=0, born=r.inc + 1, sound=True), left=left)
            for end in range(len(r.log)):
                yield ("rot", i, r.log[end:]), put(state, i, r._replace(log=r.log[:end], sound=False), left=left)

    def adopt(self, state: State, i: int, r: Replica) -> Iterator[Step]:
        """Read the register's last view; a primary goes on from its own log at once."""
        last = state.register[-1]
        me = (i, r.inc)
        status = VIEW_CHANGE if me in last.members else LEARNER
        new = r._replace(
            hands_over=False, view=last.number, status=status, served=False, joint=None, proposing=None, joining=False, plan=None
        )
        if r.full and last.members == (me,):
            yield ("alone", i, last.number, r.pending), put(state, i, new._replace(status=READ_ONLY, served=True, plan=("alone",)))
        elif last.primary == me and self.starts_at_once and not r.full:
            yield ("start", i, last.number, r.log), self.started(state, i, new)
        else:
            yield ("adopt", i, last.number, "a learner" if status == LEARNER else "a member"), put(state, i, new)

    starts_at_once = True

    def begin_view(self, state: State, i: int, r: Replica) -> Iterator[Step]:
        """What lies between adopting a view and leading it, where that is told apart."""
        raise AssertionError("a primary starts at once")

    def started(self, state: State, i: int, r: Replica) -> State:
        """The last batch, if it is not known committed, is in flight in the new view."""
        new = r._replace(status=NORMAL, served=r.commit == len(r.log) or self.bug == "serves_early")
        return put(state, i, new, (LOG, r.view, r.log))

    def decide(self, state: State, i: int, r: Replica, view: View) -> Iterator[Step]:
        """Create the next view: whoever does it first decides it."""
        if r.status == LEARNER:
            yield from self.restart_cluster(state, i, r, view)
            return
        if r.proposing or r.status == READ_ONLY:
            return
        me = (i, r.inc)
        tip = r.log[: r.commit]
        others = [m for m in view.members if m != me]
        for size in range(1, len(others) + 1):
            for gone in combinations(others, size):
                if view.primary != me and view.primary not in gone:
                    continue
                staying = tuple(m for m in view.members if m not in gone)
                primary = view.primary if view.primary in staying else min(staying)
                yield ("vote", i, _ids(gone), view.number + 1, _ids(staying), primary[0]), registered(state, primary, staying, tip)
        batches, crashes, restarts, spoilings = state.left
        if crashes and view.primary == me and r.status == NORMAL and r.commit == len(r.log) and not r.pending:
            closed = registered(state, me, view.members, tip, closed=True)
            yield ("close", i, view.number + 1, tip), put(closed, i, dead(r, r.log), left=(batches, crashes - 1, restarts, spoilings))

    def restart_cluster(self, state: State, i: int, r: Replica, view: View) -> Iterator[Step]:
        """Everybody in the view seems gone: who is eligible goes on, with whom it has heard to be eligible."""
        if not self.is_eligible(state, i, r):
            return
        ready = [
            (j, q.inc)
            for j, q in enumerate(state.replicas)
            if j != i
            and q.up
            and q.status == LEARNER
            and (q.view == r.view or self.bug == "stale_eligible")
            and self.is_eligible(state, j, q)
        ]
        tip = r.log[: r.commit]
        for size in range(len(ready) + 1):
            for some in combinations(ready, size):
                members = tuple(sorted([(i, r.inc), *some]))
                yield ("begin", i, view.number + 1, _ids(members)), registered(state, (i, r.inc), members, tip)

    def is_eligible(self, state: State, i: int, r: Replica) -> bool:
        """Whether this disk holds all that was acknowledged, as far as the view that it has read tells."""
        view = self.view_of(state, r)
        if not r.sound and self.bug != "rotten_disk":
            return False
        at_close = view.closed and r.log_view > 0 and (r.log == view.tip or self.bug == "any_log_after_close")
        stood = any(m[0] == i and (m[1] >= r.born or self.bug == "young_disk") for m in view.members)
        listed = stood or self.bug == "anyone_restarts"
        is_long = len(r.log) >= len(view.tip) or self.bug == "any_log_after_close"
        return (at_close or listed) and is_long and r.log_view <= view.number

    # --- primary --------------------------------------------------------------------------------------------------------------------------

    def lead(self, state: State, i: int, r: Replica, view: View) -> Iterator[Step]:
        """Form a batch, sync it, commit it."""
        batches, crashes, restarts, spoilings = state.left
        if r.full:
            return
        if r.pending and spoilings:
            status = READ_ONLY if view.members == ((i, r.inc),) else NORMAL
            left = (batches, crashes, restarts, spoilings - 1)
            yield ("full", i, r.pending), put(state, i, r._replace(status=status, full=True), left=left)
        if r.pending:
            yield ("sync", i, r.pending), put(state, i, r._replace(log=r.log + r.pending, pending=""))
        elif batches and r.served and (r.commit == len(r.log) or self.bug == "pipelines"):
            batch = BATCHES[self.bounds[0] - batches]
            packet = (LOG, r.view, r.log + batch)
            yield ("prepare", i, batch), put(state, i, r._replace(pending=batch), packet, left=(batches - 1, crashes, restarts, spoilings))
        unsynced = self.bug == "commit_before_own_sync"
        log = r.log + r.pending if unsynced else r.log
        if r.commit == len(log) or (r.pending and not unsynced) or not self.has_enough(state, i, r, view, log):
            return
        acked = state.acked
        if acked[: len(log)] != log[: len(acked)]:
            raise Violation(f"{i} commits {log!r}, acknowledged was {acked!r}")
        done = r._replace(log=log, commit=len(log), served=True) if log == r.log else r
        yield ("commit", i, log), put(state, i, done, (COMMIT, r.view, log))._replace(acked=max(acked, log, key=len))

    def finds_room(self, state: State, i: int, r: Replica) -> State:
        """What was pending is on the disk now, in whatever view; a primary that has not begun its view begins it."""
        new = r._replace(log=r.log + r.pending, pending="", full=False)
        if r.status == LEARNER or self.view_of(state, r).primary != (i, r.inc):
            return put(state, i, new)
        has_begun = r.status in (NORMAL, READ_ONLY) and r.plan is None
        return put(state, i, new._replace(status=NORMAL)) if has_begun else self.started(state, i, new._replace(plan=None))

    def has_enough(self, state: State, i: int, r: Replica, view: View, log: str) -> bool:
        """Every member but me has this log, and the joint learner: that very incarnation."""
        packets, v = state.packets, r.view
        missing = sum(m[0] != i and not self.has_acked(packets, v, m, log) for m in view.members)
        if missing and not (self.bug == "majority_commits" and (len(view.members) - missing) * 2 > len(view.members)):
            return False
        if r.joint is None or self.bug == "no_joint":
            return True
        return self.has_acked(packets, v, r.joint, log)

    def has_acked(self, packets: frozenset[Packet], view: int, member: Member, log: str) -> bool:
        if self.bug == "keeps_surplus":  # and then counts by op
            return any(p[0] == ACK and p[1] == view and p[2] == member and len(p[3]) >= len(log) for p in packets)
        return (ACK, view, member, log) in packets

    def take_in(self, state: State, i: int, r: Replica, view: View) -> Iterator[Step]:
        """Give a learner the log, wait for its ack, register it."""
        if r.proposing is not None:
            if r.view == state.register[-1].number < self.views:
                if r.hands_over:
                    over = registered(state, r.proposing, (r.proposing,), r.log[: r.commit])
                    yield ("hand_over", i, r.proposing[0], r.view + 1), over
                else:
                    members = tuple(sorted((*view.members, r.proposing)))
                    yield ("join", i, r.proposing[0], r.view + 1), registered(state, view.primary, members, r.log[: r.commit])
            if r.joint is not None and self.bug == "joint_closed_while_proposing":
                yield ("give_up", i, r.joint[0]), put(state, i, r._replace(joint=None))
            return
        if r.joint is not None:
            is_over = r.status == READ_ONLY
            asked = r.log if is_over else r.log + r.pending
            if self.has_acked(state.packets, r.view, r.joint, asked) or self.bug == ("gives_way_unasked" if is_over else "joins_unasked"):
                yield ("propose", i, r.joint[0]), put(state, i, r._replace(proposing=r.joint, hands_over=is_over))
            if r.commit < len(r.log) or any(q.up and q.status == LEARNER and (j, q.inc) != r.joint for j, q in enumerate(state.replicas)):
                # The timer may fire at any time, but nobody notices before something waits for it.
                yield ("give_up", i, r.joint[0]), put(state, i, r._replace(joint=None))
        if (r.pending and r.status != READ_ONLY) or r.view >= self.views:
            return  # the journal is read after it is written; and no view is left to take anybody in
        for j, q in enumerate(state.replicas):
            if q.up and q.status == LEARNER and q.view == r.view and r.joint in (None, (j, q.inc)):
                yield from self.give(state, i, j, view)

    def give(self, state: State, i: int, j: int, view: View) -> Iterator[Step]:
        """What follows the learner's log, or its log without the last batch. Joint mode opens."""
        r, q = state.replicas[i], state.replicas[j]
        is_listed = any(m[0] == j for m in view.members)
        if is_listed and self.bug != "writes_while_listed":
            return  # the old incarnation is voted out first
        base = q.log if r.log.startswith(q.log) else q.log[:-1]
        if not r.log.startswith(base):
            raise Violation(f"COMMITTED DATA LOST AT PRIMARY: {j} has the log {q.log!r}, primary {i} has {r.log!r}")
        packet = (STATE, r.view, (j, q.inc), base, r.log, *self.mark)
        if packet not in state.packets:
            # Links keep their order and a learner takes one piece at a time: the newer piece is what counts.
            older = [p for p in state.packets if p[:3] == packet[:3]] if self.one_piece else []
            new = r if is_listed else r._replace(joint=(j, q.inc))
            yield ("give", i, j, r.log, base), put(state._replace(packets=state.packets.difference(older)), i, new, packet)

    one_piece = True
    mark: tuple[bool, ...] = ()  # what `walk.py` adds to a piece that opens joint mode

    # --- backup and learner -------------------------------------------------------------------------------------------------------------

    def back_up(self, state: State, i: int, r: Replica, view: View) -> Iterator[Step]:
        """A member that does not lead: follow the primary's log, or make mine that."""
        for packet in state.packets:
            kind, v, log = packet[0], packet[1], packet[-1]
            if kind == LOG and v == r.view:
                if r.status == VIEW_CHANGE:
                    yield from self.install(state, i, r, log)
                elif log[:-1] == r.log != log:
                    yield self.store(state, i, r, v, log)
            elif kind == COMMIT and v == r.view and r.status == NORMAL:
                yield from self.learn_commit(state, i, r, log)

    def learn_commit(self, state: State, i: int, r: Replica, log: str) -> Iterator[Step]:
        if len(log) == len(r.log) and log != r.log:
            raise Violation(f"COMMITTED DATA DIFFERS: {i} has the log {r.log!r}, committed is {log!r}")
        if r.commit < len(log) <= len(r.log):
            yield ("know", i, log), put(state, i, r._replace(commit=len(log)))

    def store(self, state: State, i: int, r: Replica, view: int, log: str) -> Step:
        """A batch that follows my log: what it follows is committed. Sync it, acknowledge it."""
        new = r._replace(log=log, commit=max(r.commit, len(log) - 1))
        return ("store", i, log[-1], view), put(state, i, new, (ACK, view, (i, r.inc), log))

    def install(self, state: State, i: int, r: Replica, log: str) -> Iterator[Step]:
        """Cut at most my last batch, add at most the primary's last, acknowledge."""
        if r.log == log or (log and r.log == log[:-1]):
            commit = r.commit if r.log == log else max(r.commit, len(r.log))
            new = r._replace(log=log, status=NORMAL, commit=commit)
            yield ("install", i, r.view, log), put(state, i, new, (ACK, r.view, (i, r.inc), log))
        elif r.log and r.log[:-1] in (log, log[:-1]):
            yield self.cut(state, i, r, "the new primary does not have it")
        else:
            raise Violation(f"COMMITTED DATA LOST AT PRIMARY: its log is {log!r}, that of {i} {r.log!r}: they part before the last batch")

    def cut(self, state: State, i: int, r: Replica, why: str) -> Step:
        if r.commit == len(r.log):
            raise Violation(f"{i} would cut {r.log[-1]!r}, which it knows to be committed: {why}")
        return ("cut", i, r.log[-1], why), put(state, i, r._replace(log=r.log[:-1]))

    def learn(self, state: State, i: int, r: Replica, view: View) -> Iterator[Step]:
        """Take log from the primary of the view that was read, then follow it as a backup does."""
        me = (i, r.inc)
        if any(m[0] == i for m in view.members) and self.bug != "writes_while_listed":
            return  # this disk may be needed as it is
        for packet in state.packets:
            kind, v, log = packet[0], packet[1], packet[2]
            if kind == STATE and log == me and (v == r.view or self.bug == "older_state"):
                yield from self.take(state, i, r, packet)
            elif r.joining and v == r.view:
                if kind == LOG and log[:-1] == r.log != log:
                    yield self.store(state, i, r, v, log)
                elif kind == COMMIT:
                    yield from self.learn_commit(state, i, r, log)

    def take(self, state: State, i: int, r: Replica, packet: Packet) -> Iterator[Step]:
        """A piece of the primary's log. All of it stored: my log is the primary's. A crash may leave a part."""
        v, me, base, log = packet[1:5]
        if base == r.log and not (r.joining and base == log):
            for end in range(len(base) + 1, len(log)):  # what a crash may leave; all of it and no ack is an ack that got lost
                part = r._replace(log=log[:end], commit=end - 1, joining=False)
                yield ("part", i, log[len(base) : end]), put(state, i, part)
            kept = r._replace(sound=True, log_view=r.log_view or 1)
            level = kept._replace(log=log, joining=v == r.view, commit=r.commit if base == log else len(log) - 1)
            yield ("level", i, v, log), put(state, i, level, (ACK, v, me, log))
        elif r.log and base == r.log[:-1] and r.commit < len(r.log) and not (r.joining and v == r.view):
            if self.bug == "keeps_surplus" and base == log:
                yield ("level", i, v, r.log), put(state, i, r._replace(joining=True), (ACK, v, me, r.log))
            else:
                yield self.cut(state, i, r, "the primary's log goes on differently")


# --- small things -------------------------------------------------------------------------------------------------------------------------


def put(state: State, i: int, r: Replica, packet: Packet | None = None, left: Left | None = None) -> State:
    """The state with replica i changed, and what it sends."""
    replicas = state.replicas
    packets = state.packets if packet is None else state.packets | {packet}
    return State((*replicas[:i], r, *replicas[i + 1 :]), state.register, packets, state.acked, left or state.left)


def dead(r: Replica, log: str) -> Replica:
    """What is left of a process."""
    return Replica(False, r.inc, log, 0, LEARNER, 0, False, None, None, "", False, r.log_view, None, r.born, r.sound)


def registered(state: State, primary: Member, members: tuple[Member, ...], tip: str, *, closed: bool = False) -> State:
    """The next view exists."""
    view = View(state.register[-1].number + 1, primary, members, tip, closed)
    return state._replace(register=(*state.register, view))


def _ids(members: tuple[Member, ...]) -> str:
    return "{" + ", ".join(str(m[0]) for m in members) + "}"


def _is_useful(packet: Packet, replicas: tuple[Replica, ...], register: tuple[View, ...], lowest: int) -> bool:
    """Whether anybody may still act on it."""
    kind, v = packet[0], packet[1]
    if v < lowest:
        return False
    if kind >= STATE:
        i, inc = packet[2]
        r = replicas[i]
        return r.up and r.inc == inc and r.view == v and r.status == LEARNER and not (r.joining and len(r.log) >= len(packet[4]))
    view = register[v - register[0].number]
    i, inc = view.primary
    log = packet[-1]
    if kind == ACK:
        r = replicas[i]
        if not r.up or r.inc != inc or r.view != v or len(log) < len(r.log) + len(r.pending):
            return False
        return len(log) > r.commit or packet[2] not in view.members
    for j, r in enumerate(replicas):
        if j == i or not r.up or r.view > v:
            continue
        if r.status == LEARNER and (r.joining or r.view < v or v == register[-1].number):
            return True
        if (j, r.inc) in view.members and (
            r.view < v or r.status == VIEW_CHANGE or (r.commit if kind == COMMIT else len(r.log)) < len(log)
        ):
            return True
    return False


SENTENCES = {
    "crash": "replica {0} crashes{1}",
    "empty": "the directory of replica {0} is emptied",
    "rot": "the log of replica {0} rots: it has lost {1!r}",
    "full": "the disk of {0} has no room for batch {1}",
    "alone": "replica {0} reads view {1}, in which it is alone: read_only, and without room for batch {2}",
    "retry": "the disk of {0} takes batch {1} after all",
    "hand_over": "read_only replica {0} gives way to {1}: view {2}",
    "restart": "replica {0} restarts as incarnation {1} and reads view {2}",
    "adopt": "replica {0} reads view {1}: it is {2}",
    "start": "primary {0} starts view {1} from its log {2!r}",
    "vote": "replica {0} votes out {1}: view {2} = {3}, primary {4}",
    "close": "primary {0} closes the log in view {1} at {2!r} and stops",
    "begin": "replica {0} restarts the cluster: view {1} = {2}",
    "prepare": "primary {0} sends batch {1}",
    "sync": "primary {0} has batch {1} on its disk",
    "commit": "primary {0} commits and acknowledges {1!r}",
    "propose": "primary {0} has the ack of learner {1} for all of its log",
    "join": "primary {0} registers {1}: view {2}",
    "give_up": "primary {0} closes joint mode with {1}",
    "give": "primary {0} gives learner {1} its log {2!r} from {3!r} on: joint mode",
    "store": "replica {0} stores and acknowledges batch {1} in view {2}",
    "know": "replica {0} hears that {1!r} is committed",
    "install": "replica {0} has the log of view {1}, {2!r}, and acknowledges",
    "cut": "replica {0} cuts batch {1}: {2}",
    "part": "learner {0} stores {1!r}",
    "level": "learner {0} has all of the primary's log in view {1} and acknowledges {2!r}",
}
WEIGHTS = {"crash": 0.35, "restart": 1.0, "vote": 0.25, "begin": 0.25, "close": 0.1, "give": 0.7, "give_up": 0.2}
