"""Policy `majority` as it is built: three replicas of which two decide, each with a disk that may be lost.

What it is not: it knows no time, so everybody may move to any higher view at any moment: what is wished decides nothing that safety rests
on. It knows no bytes, no snapshots, no stop, and no older copies of a directory (`LastMet` is a net, not a proof).

    replica v mod 3 leads view v            a log is a word; each letter is one batch, so that equal words are equal hash chains
    packets         a set that only grows: any may be late, overtaken, repeated, and outlive its sender. A link belongs to two
                    incarnations: who starts again receives nothing that was sent before, and who has met an incarnation takes nothing
                    of an earlier one. What nobody can use any more is left out
    LOG             StartView and Prepare are one: both say where the primary's log ends, and bring its last batch
    a new primary   hears the logs of two, fetches the best unless it has it, sends StartView, and only then writes log_view
    an install      is cut, append or fetch, log_view, acknowledge, with a crash between any two
    spoiling        a crash empties the directory, or what is left of the log is not trusted, one disk at a time: then the replica asks
                    both others

    promise                                                                     checked
    who would answer a query knows exactly what was acknowledged                in every state
    in every log all but the last batch is committed                            in every state
    two logs hold what was acknowledged, but for disks that may not vote        in every state
    an acknowledged batch is never another, and is never cut                    at every commit, at every cut
    logs part before their last batch nowhere                                   at every answer to GetState

Each name in MAJORITY_BUGS is one rule removed.

Read next: `majority.py` at the root, docs/model.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from tests.model.explore import Action, Violation

LEARNER, VIEW_CHANGE, NORMAL = 0, 1, 2
# Kinds of packets, each with receiver, view, sender and its incarnation, and then:
# LOG log · ACK log · LAST log_view log (DoViewChange) · GET log · STATE base batches level, and how long the giver's log was
LOG, ACK, LAST, GET, STATE = range(5)
N = 3
BATCHES = "xyzuvw"

Packet = tuple[Any, ...]
Answer = tuple[int, bool, bool, bool, bool]  # view, whether normal, whether there is a log, eligible, empty

MAJORITY_SMALL: tuple[tuple[int, ...], ...] = ((0, 0, 4),)  # breadth-first
MAJORITY_BOUNDS = (3, 4, 8, 2)  # walks: batches, crashes, highest view, spoilings among the crashes
MAJORITY_FIRST = (2, 3, 6, 1, 1)  # and with 1 at the end: three empty disks at the beginning
BEGUN = "move 1, move 2, tell 2 1, choose 1"  # view 4 begins at replica 1, and 0 goes on in view 3
COMMITTED = "prepare 0, announce 0 1, store 1, sync 0, commit 0"  # by 0 and 1
# Of two batches that nobody has committed 2 holds the first, and 1, which leads view 4, the second.
PARTED = "prepare 0, announce 0 2, store 2, crash 0, restart 0, move 1, move 0, tell 0 1, choose 1, started 1, prepare 1, sync 1, move 2"
# Rule removed: bounds, the opening of the walks that find soon what it breaks, and the rule.
MAJORITY_BUGS: dict[str, tuple[tuple[int, ...], str, str]] = {
    "volatile_view": ((1, 1, 4), f"{BEGUN}, crash 2, restart 2", "the view is on the disk before anything is said in it"),
    "acks_older_view": ((1, 0, 4), BEGUN, "who has adopted a view acknowledges nothing of an older one"),
    "commit_alone": (MAJORITY_BOUNDS, "", "a batch commits when two of three have it"),
    "commit_unsynced": (MAJORITY_BOUNDS, "", "the primary's own sync is one of them"),
    "any_log": (MAJORITY_BOUNDS, "", "the new primary goes on from the best log of two"),
    "longest_log": (
        (2, 0, 6),
        f"prepare 0, sync 0, {BEGUN}, started 1, announce 1 2, level 2, join 2, prepare 1, announce 1 2, store 2, sync 1, commit 1",
        "the best log is that of the highest log_view, and only among those the longest",
    ),
    "resumes": (
        (2, 2, 6),
        f"{PARTED}, move 2, move 0, tell 0 2, choose 2, announce 2 0, append 0, level 0, join 0, crash 2, restart 2, move 1, tell 1 2",
        "a restarted primary never goes on in its old view: it does not know what it has sent",
    ),
    "log_view_first": (
        (1, 1, 5),
        f"{COMMITTED}, move 1, move 0, tell 0 1, choose 1, move 2, announce 1 2",
        "log_view is written after the log",
    ),
    "level_too_soon": (
        (2, 0, 5),
        f"{COMMITTED}, {COMMITTED}, move 1, move 0, tell 0 1, choose 1, started 1, move 2, ask 2 1, give 1 2",
        "who fetches acknowledges when all of the primary's log has come",
    ),
    "late_answers": (MAJORITY_BOUNDS, "", "what was asked for before a view began here is no answer of the view"),
    "serves_early": (MAJORITY_BOUNDS, "", "a new primary serves when everything of earlier views is committed"),
    "reads_alone": (MAJORITY_BOUNDS, "", "a query is answered when another replica has said that it is in the same view"),
    "reads_early": ((1, 0, 4), "echo 0, move 1, move 2", "what another replica said before the query was evaluated does not count"),
    "forgets_nothing_lost": ((1, 1, 4, 1), COMMITTED, "a disk that is empty or not trusted votes for nothing"),
    "asks_one": ((1, 1, 4, 1), f"{BEGUN}, lose 2, restart 2, answer 0", "who has lost its disk waits for the answers of all others"),
    "follows_anybody": (
        (1, 1, 4, 1),
        f"{BEGUN}, lose 2, restart 2, answer 0, answer 1",
        "it follows the primary of the highest view that any of them knows",
    ),
    "old_words": (
        (1, 1, 4, 1),
        "move 2, tell 2 1, lose 2, restart 2, answer 0, answer 1, recover 2",
        "what an earlier incarnation said is forgotten when a later one is met",
    ),
    "new_below": (
        (1, 1, 4, 1),
        f"{BEGUN}, lose 2, restart 2, answer 0, answer 1",
        "where nobody ever stored anything, an empty disk begins in the highest view that any of them knows",
    ),
}


def opening_of(bug: str) -> list[Action]:
    """The beginnings of its actions."""
    words = MAJORITY_BUGS[bug][1] if bug else ""
    return [tuple(int(word) if word.isdigit() else word for word in action.split()) for action in words.split(", ") if action]


class Replica(NamedTuple):
    """One replica; a crash leaves what stands above `status`."""

    up: bool
    inc: int
    log: str
    view: int
    log_view: int
    bad: bool  # not trusted
    lost: bool  # its disk was lost, or is not trusted, and it may not vote again yet
    status: int
    commit: int  # how much of the log it knows to be committed: all, or all but the last batch
    start: int  # length of the log when the view that it leads began
    pending: str  # the batch a primary has sent, but not on its disk yet
    again: bool  # it found this view on its disk
    level: bool  # its log is the view's, log_view remains to be written
    source: int  # whose log it fetches to lead the view; -1: nobody's
    asked: bool  # an answer to GetState is expected
    acked_view: int
    taken_view: int
    heard: int  # how long the log was of which it was told last: a link keeps its order
    new: bool  # it has heard that nobody ever stored anything
    recovered: bool  # it has heard whom to follow
    echo: bool  # bug reads_early: somebody was in the view
    known: tuple[int, ...]  # incarnations met
    answers: tuple[Answer | None, ...]


class State(NamedTuple):
    """Everything there is. `left`: batches, crashes and spoilings that may still come."""

    replicas: tuple[Replica, ...]
    packets: frozenset[Packet]
    acked: str
    left: tuple[int, int, int]


Step = tuple[Action, State]
NOBODY: tuple[Answer | None, ...] = (None,) * N
FRESH = Replica(
    up=True,
    inc=1,
    log="",
    view=N,
    log_view=N,
    bad=False,
    lost=False,
    status=NORMAL,
    commit=0,
    start=0,
    pending="",
    again=False,
    level=False,
    source=-1,
    asked=False,
    acked_view=0,
    taken_view=0,
    heard=0,
    new=False,
    recovered=False,
    echo=False,
    known=(0,) * N,
    answers=NOBODY,
)
EMPTY = FRESH._replace(view=0, log_view=0, status=LEARNER)


class MajorityModel:
    """See the module's page."""

    def __init__(self, batches: int, crashes: int, views: int, spoilings: int = 0, first: int = 0, *, bug: str = "") -> None:
        assert not bug or bug in MAJORITY_BUGS, f"no such bug: {bug}"
        self.batches, self.views, self.bug = batches, views, bug
        self.first = State(((EMPTY if first else FRESH),) * N, frozenset(), "", (batches, crashes, spoilings))

    def initial(self) -> State:
        return self.first

    def tell(self, action: Action) -> str:
        return SENTENCES[action[0]].format(*action[1:])

    def weight(self, action: Action) -> float:
        return WEIGHTS.get(action[0], 2.0)

    def check(self, state: State) -> None:
        acked = state.acked
        for i, r in enumerate(state.replicas):
            if not acked.startswith(r.log[:-1]):
                raise Violation(f"{i} has {r.log!r}, of which {r.log[:-1]!r} should be committed, and {acked!r} is")
            if r.up and r.status == NORMAL and r.view % N == i and (r.commit >= r.start or self.bug == "serves_early"):
                is_confirmed = r.echo or self.bug == "reads_alone" or self.is_followed(state, i, r)
                if is_confirmed and r.log[: r.commit] != acked:
                    raise Violation(f"{i} would answer a query from {r.log[: r.commit]!r}, acknowledged is {acked!r}")
        if sum(r.log.startswith(acked) or r.bad or not r.log_view for r in state.replicas) < 2:
            raise Violation(f"acknowledged is {acked!r}, and not two disks have it")

    def is_followed(self, state: State, i: int, r: Replica) -> bool:
        """Whether somebody else is in the view of this primary, and would say so."""
        return any(q.up and q.status == NORMAL and q.view == r.view for j, q in enumerate(state.replicas) if j != i)

    def may_vote(self, r: Replica) -> bool:
        """Whether its disk remembers all it ever promised, or nobody ever promised anything."""
        return r.new or not (r.bad or not r.log_view) or self.bug == "forgets_nothing_lost"

    def successors(self, state: State) -> Iterator[Step]:
        """Everything that can happen next, without packets that nobody can use any more."""
        for action, after in self.steps(state):
            old, new = state.replicas, after.replicas
            changed = [new[i] is not old[i] for i in range(N)]
            useless = [p for p in after.packets if (changed[p[1]] or p[0] == ACK) and not self.is_of_use(new[p[1]], p)]
            yield action, after._replace(packets=after.packets.difference(useless)) if useless else after

    def is_of_use(self, r: Replica, p: Packet) -> bool:
        """Whether its receiver may still make something of it."""
        kind, _, view, sender, inc = p[:5]
        size: int = p[8] if kind == STATE else len(p[-1]) if kind in (LOG, ACK) else 0
        if not r.up or view < r.view - (self.bug == "acks_older_view"):
            return False
        if inc < r.known[sender] and self.bug != "old_words":
            return False
        if view != r.view:
            return True
        if kind == LOG:
            return size >= (len(r.log) if r.status == NORMAL else r.heard)
        if kind == STATE:
            return size >= r.heard
        if kind == ACK:
            return size >= len(r.log) + len(r.pending)
        if kind == LAST:
            return r.status == VIEW_CHANGE and not r.level
        return True

    def steps(self, state: State) -> Iterator[Step]:
        for i, r in enumerate(state.replicas):
            if not r.up:
                yield self.restart(state, i, r)
                continue
            if state.left[1]:
                yield from self.crash(state, i, r)
            yield from self.change_view(state, i, r)
            if r.status == LEARNER:
                yield from self.recover(state, i, r)
                continue
            if r.view % N == i:
                yield from self.begin(state, i, r) if r.status == VIEW_CHANGE else self.lead(state, i, r)
            else:
                yield from self.follow(state, i, r)
            yield from self.fetch(state, i, r)

    # --- crashes and starts ---------------------------------------------------------------------------------------------------------------

    def crash(self, state: State, i: int, r: Replica) -> Iterator[Step]:
        """It leaves the disk; or less of it."""
        batches, crashes, spoilings = state.left
        view = r.log_view if self.bug == "volatile_view" else r.view
        dead = EMPTY._replace(up=False, inc=r.inc, log=r.log, view=view, log_view=r.log_view, bad=r.bad, lost=r.lost)
        # That it promised its first view when nobody had stored anything is written down with the view, and counts until there is a log.
        dead = dead._replace(new=r.new and view > 0 and not r.log_view)
        yield ("crash", i), put(state, i, dead)._replace(left=(batches, crashes - 1, spoilings))
        if spoilings and not any(q.lost for j, q in enumerate(state.replicas) if j != i):
            left = batches, crashes - 1, spoilings - 1
            yield ("lose", i), put(state, i, EMPTY._replace(up=False, inc=r.inc, lost=True))._replace(left=left)
            yield ("rot", i, r.log[:-1]), put(state, i, dead._replace(log=r.log[:-1], bad=True, lost=True, new=False))._replace(left=left)

    def restart(self, state: State, i: int, r: Replica) -> Step:
        """What is on the disk decides how to go on. A primary that finds its view on it does not know what it has sent there."""
        may_vote = self.may_vote(r)
        new = r._replace(
            up=True,
            inc=r.inc + 1,
            status=VIEW_CHANGE if may_vote else LEARNER,
            commit=max(len(r.log) - 1, 0),
            again=may_vote and self.bug != "resumes",
        )
        return ("restart", i, r.view), put(state, i, new)

    def recover(self, state: State, i: int, r: Replica) -> Iterator[Step]:
        """Ask both others, who forget what earlier incarnations have said; then follow who leads the highest view they know."""
        if r.new:
            return
        for j, other in enumerate(state.replicas):
            if j == i or not other.up:
                continue
            is_normal, has_log = other.status == NORMAL, bool(other.log or other.pending)
            is_empty = not other.log_view and not other.bad
            answer: Answer = (other.view, is_normal, has_log, self.may_vote(other), is_empty)
            if r.answers[j] != answer or other.known[i] < r.inc:
                met = put(state, j, other._replace(known=(*other.known[:i], r.inc, *other.known[i + 1 :])))
                asker = r._replace(
                    answers=(*r.answers[:j], answer, *r.answers[j + 1 :]), known=(*r.known[:j], other.inc, *r.known[j + 1 :])
                )
                yield ("answer", j, other.view, i), put(met, i, asker)
        answers = [a for a in r.answers if a is not None]
        if len(answers) < (1 if self.bug == "asks_one" else N - 1):
            return
        highest = max(r.view, *(a[0] for a in answers))
        views = {a[0] for a in answers} if self.bug == "follows_anybody" else {highest}
        for view in sorted(views):
            chosen = r.answers[view % N]
            if all(a[3] for a in answers) and view >= r.view and chosen is not None and chosen[:2] == (view, True):
                yield ("recover", i, view), put(state, i, self.adopted(r._replace(recovered=True), i, view))
        if not r.bad and not r.log and not any(a[2] or not (a[3] or a[4]) for a in answers):
            new = r._replace(new=True)
            if highest > r.view and self.bug != "new_below":
                new = self.adopted(new, i, highest)._replace(again=True)
            yield ("new", i, new.view), put(state, i, new)

    # --- views ----------------------------------------------------------------------------------------------------------------------------

    def adopted(self, r: Replica, i: int, view: int) -> Replica:
        """From here on nothing of an older view is acknowledged. Who may not vote cannot lead."""
        status = VIEW_CHANGE if view % N != i or self.may_vote(r) else LEARNER
        answers = r.answers if status == LEARNER else NOBODY
        return r._replace(
            view=view, status=status, again=False, level=False, source=-1, asked=False, start=0, heard=0, echo=False, answers=answers
        )

    def change_view(self, state: State, i: int, r: Replica) -> Iterator[Step]:
        """Move to a higher view, and tell its primary what log there is."""
        if self.may_vote(r) or r.recovered:
            view = max(r.view + 1, N)  # whoever moves further goes through those between
            if view <= self.views:
                yield ("move", i, view), put(state, i, self.adopted(r, i, view))
        is_asked = r.status == VIEW_CHANGE and r.view % N != i and r.log_view < r.view
        if is_asked and not (r.level or r.pending) and self.may_vote(r):
            yield from self.send(state, i, r, "tell", r.view % N, LAST, r.log_view, r.log)
        if r.pending:
            yield ("sync", i, r.pending), put(state, i, r._replace(log=r.log + r.pending, pending=""))

    def begin(self, state: State, i: int, r: Replica) -> Iterator[Step]:
        """Two logs, its own included, are enough to choose the best. StartView leaves before log_view is on the disk."""
        if r.level:
            yield from self.announce(state, i, r)
            started = r._replace(status=NORMAL, log_view=r.view, lost=False, level=False, start=len(r.log))
            yield ("started", i, r.view, r.log), put(state, i, started)
            return
        if r.again or r.pending or not self.may_vote(r):
            return
        for p in state.packets:
            if p[0] == LAST and p[1] == i and p[2] == r.view:
                _, _, _, j, inc, log_view, log = p
                mine, theirs = (r.log_view, len(r.log)), (log_view, len(log))
                if self.bug == "longest_log":
                    mine, theirs = (0, mine[1]), (0, theirs[1])
                met = r._replace(known=(*r.known[:j], max(inc, r.known[j]), *r.known[j + 1 :]))
                if mine >= theirs or r.log == log or self.bug == "any_log":
                    after = put(state, i, met._replace(level=True, source=-1, asked=self.bug == "late_answers" and r.asked))
                    yield ("choose", i, r.view, r.log, j, inc), after
                elif r.source != j:
                    yield ("prefer", i, r.view, log, j, inc), put(state, i, met._replace(source=j, asked=False))

    def announce(self, state: State, i: int, r: Replica) -> Iterator[Step]:
        """StartView or Prepare, to whoever is there."""
        for j in range(N):
            if j != i:
                yield from self.send(state, i, r, "announce", j, LOG, r.log + r.pending)

    def lead(self, state: State, i: int, r: Replica) -> Iterator[Step]:
        """Send batches, sync them, commit them."""
        batches, crashes, spoilings = state.left
        yield from self.announce(state, i, r)
        if self.bug == "reads_early" and not r.echo and self.is_followed(state, i, r):
            yield ("echo", i), put(state, i, r._replace(echo=True))
        if batches and not r.pending and len(r.log) == r.commit:
            batch = BATCHES[self.batches - batches]
            yield ("prepare", i, batch), put(state, i, r._replace(pending=batch))._replace(left=(batches - 1, crashes, spoilings))
        log = r.log + (r.pending if self.bug == "commit_unsynced" else "")
        if r.commit < len(log):
            size = len(log)
            acks = [p for p in state.packets if p[0] == ACK and p[1] == i and p[2] == r.view]
            who = {p[3] for p in acks if p[5] == log} | {i}
            if len(who) * 2 > N or self.bug == "commit_alone":
                acked = state.acked
                if acked[:size] != log[: len(acked)]:
                    raise Violation(f"{i} commits {log!r}, acknowledged was {acked!r}")
                after = put(state, i, r._replace(commit=len(r.log)))
                yield ("commit", i, log), after._replace(acked=max(acked, log, key=len))

    # --- taking a view's log --------------------------------------------------------------------------------------------------------------

    def follow(self, state: State, i: int, r: Replica) -> Iterator[Step]:
        """Make the primary's log its own, then store what follows."""
        if r.level:
            joined = r._replace(
                status=NORMAL, log_view=r.view, bad=False, lost=False, level=False, asked=False, acked_view=r.view, answers=NOBODY
            )
            yield ("join", i, r.view, r.log), acknowledge(state, i, joined)
            return
        if r.status == NORMAL and r.commit < len(r.log) and state.acked.startswith(r.log):
            yield ("learn", i, r.log), put(state, i, r._replace(commit=len(r.log)))
        if r.pending:
            return
        for p in state.packets:
            if p[:2] != (LOG, i):
                continue
            log = p[5]
            if r.status == NORMAL:
                is_mine = p[2] == r.view or (self.bug == "acks_older_view" and p[2] == r.view - 1)
                if is_mine and log in (r.log, r.log + log[-1:]):
                    yield from self.store(state, i, r, p)
            elif p[2] == r.view:
                yield from self.install(state, i, r, log)
            elif self.bug == "acks_older_view" and log[:-1] == r.log and r.log_view == p[2]:
                yield from self.store(state, i, r, p)

    def store(self, state: State, i: int, r: Replica, p: Packet) -> Iterator[Step]:
        """What the primary has sent, or has sent again."""
        view, log = p[2], p[5]
        after = acknowledge(state, i, r._replace(log=log, commit=max(r.commit, len(log) - 1), acked_view=r.view), view)
        again = (ACK, view % N, view, i, r.inc, log)
        if log != r.log or (again not in state.packets and self.is_of_use(state.replicas[view % N], again)):
            yield ("store", i, log, view), after

    def install(self, state: State, i: int, r: Replica, log: str) -> Iterator[Step]:
        """StartView brings the last batch; what lacks more is fetched."""
        r = r._replace(heard=len(log))
        if self.bug == "log_view_first" and r.log_view < r.view:
            yield ("log_view", i, r.view, r.heard), put(state, i, r._replace(log_view=r.view))
        elif r.log == log:
            yield ("level", i, r.view, log), put(state, i, r._replace(level=True))
        elif r.log == log[:-1]:
            yield ("append", i, log[-1]), put(state, i, r._replace(log=log, commit=max(r.commit, len(r.log))))
        elif r.commit < len(r.log) and r.log[:-1] in (log, log[:-1]) and r.taken_view != r.view:
            yield ("cut", i, r.log, log, r.heard), put(state, i, self.without_last(state, i, r))

    def without_last(self, state: State, i: int, r: Replica) -> Replica:
        """Its last batch, which is not committed, is cut."""
        if state.acked.startswith(r.log):
            raise Violation(f"{i} cuts {r.log[-1]!r} of {r.log!r}, acknowledged is {state.acked!r}")
        return r._replace(log=r.log[:-1])

    def fetch(self, state: State, i: int, r: Replica) -> Iterator[Step]:
        """Ask for what follows; give it to whoever asks; take what comes."""
        view, lead = r.view, r.view % N
        source = r.source if lead == i else lead
        primary = state.replicas[lead]
        is_behind = r.status == VIEW_CHANGE or (
            lead != i and primary.up and primary.view == view and len(primary.log + primary.pending) > len(r.log)
        )
        if source >= 0 and is_behind and not r.level and not r.pending:
            yield from self.send(state, i, r._replace(asked=True), "ask", source, GET, r.log)
        for p in state.packets:
            kind, to, _, other = p[:4]
            if to != i or p[2] != view:
                continue
            if kind == GET:
                is_source = lead == other and r.status == VIEW_CHANGE
                if (lead == i and r.status == NORMAL) or is_source:
                    yield from self.give(state, i, r, other, p[5])
            elif kind == STATE and r.asked and not (r.pending or r.level) and (other in (source, lead) or self.bug == "late_answers"):
                yield from self.take(state, i, r._replace(heard=p[8]), *p[5:8])

    def give(self, state: State, i: int, r: Replica, asker: int, theirs: str) -> Iterator[Step]:
        """What follows the asker's log, or that without its last batch: all of it, or a piece."""
        log = r.log + r.pending
        base = theirs if log.startswith(theirs) else theirs[:-1]
        if not log.startswith(base):
            raise Violation(f"{asker} has {theirs!r}, and {i}, of which it fetches, {log!r}: they part before the last batch")
        rest = log[len(base) :]
        for piece in {rest, rest[:1]}:
            yield from self.send(state, i, r, "give", asker, STATE, base, piece, piece == rest, len(log))

    def take(self, state: State, i: int, r: Replica, base: str, batches: str, level: bool) -> Iterator[Step]:
        """A piece of log that follows its own; for the sake of one that does not, its last batch may be cut."""
        if base == r.log:
            is_level = level or self.bug == "level_too_soon"
            log, leads = r.log + batches, r.view % N == i
            commit = max(r.commit, len(log) - 1) if batches else r.commit
            after = r._replace(log=log, commit=commit, taken_view=r.view if batches else r.taken_view)
            if is_level:
                after = after._replace(asked=False, level=r.status == VIEW_CHANGE and not leads)
            if leads and r.status == NORMAL:
                raise Violation(f"{i} leads view {r.view} and takes {batches!r} of another")
            if r.status == NORMAL:
                yield ("take", i, base, batches, is_level, r.heard), acknowledge(state, i, after._replace(acked_view=r.view))
            else:
                yield ("take", i, base, batches, is_level, r.heard), put(state, i, after)
        elif r.log and base == r.log[:-1] and r.commit < len(r.log):
            is_held = batches.startswith(r.log[-1])
            is_older = r.taken_view == r.view or (r.status == NORMAL and not batches)
            if not is_held and r.acked_view != r.view and (not is_older or self.bug == "late_answers"):
                yield ("cut", i, r.log, base, r.heard), put(state, i, self.without_last(state, i, r))

    def send(self, state: State, i: int, r: Replica, name: str, to: int, kind: int, *content: Any) -> Iterator[Step]:
        """One packet to one that is there; what changes at the sender goes with it."""
        packet = (kind, to, r.view, i, r.inc, *content)
        receiver = state.replicas[to]
        if not receiver.up or not self.is_of_use(receiver, packet):
            return
        if packet not in state.packets or r != state.replicas[i]:
            after = put(state, i, r)
            yield (name, i, to, r.view, *content), after._replace(packets=state.packets | {packet})


def put(state: State, i: int, r: Replica) -> State:
    """The state with replica i changed."""
    replicas = state.replicas
    return state._replace(replicas=(*replicas[:i], r, *replicas[i + 1 :]))


def acknowledge(state: State, i: int, r: Replica, view: int = 0) -> State:
    """The same, and it acknowledges its log to the primary of its view."""
    view = view or r.view
    return put(state, i, r)._replace(packets=state.packets | {(ACK, view % N, view, i, r.inc, r.log)})


# What a walk should choose more seldom, or more often, than the rest.
WEIGHTS = {"crash": 0.3, "lose": 0.3, "rot": 0.15, "move": 0.25, "restart": 1.0, "ask": 0.7, "give": 0.7, "answer": 1.5}

SENTENCES = {
    "crash": "replica {0} crashes",
    "lose": "replica {0} crashes and loses its disk",
    "rot": "replica {0} crashes, its disk is not trusted any more, and {1!r} is left of its log",
    "restart": "replica {0} restarts with view {1} on its disk",
    "answer": "replica {0} answers from view {1} what replica {2} asks, and forgets what that one said before",
    "recover": "replica {0} follows the primary of view {1}",
    "new": "replica {0} hears that nobody ever stored anything, and begins in view {1}",
    "move": "replica {0} moves to view {1}",
    "tell": "replica {0} tells {1}, who leads view {2}, that its log of view {3} is {4!r}",
    "choose": "primary {0} of view {1} goes on from its own log {2!r}, having heard {3}",
    "prefer": "primary {0} of view {1} wants the log {2!r} of {3}",
    "announce": "primary {0} tells {1} that the log of view {2} is {3!r}",
    "started": "primary {0} has log_view {1} on its disk, and leads with the log {2!r}",
    "echo": "primary {0} hears that another one is in its view",
    "prepare": "primary {0} forms batch {1}",
    "sync": "replica {0} has batch {1} on its disk",
    "commit": "primary {0} commits and acknowledges {1!r}",
    "learn": "replica {0} hears that {1!r} is committed",
    "join": "replica {0} has log_view {1} on its disk, and acknowledges {2!r}",
    "store": "replica {0} stores and acknowledges {1!r}",
    "log_view": "replica {0} has log_view {1} on its disk",
    "level": "replica {0} has the log of view {1}, {2!r}",
    "append": "replica {0} appends {1}",
    "cut": "replica {0} cuts the last batch of {1!r}: the primary has {2!r}",
    "ask": "replica {0} asks {1} in view {2} what follows {3!r}",
    "give": "replica {0} gives {1} in view {2} what follows {3!r}: {4!r}, which is all of it: {5}",
    "take": "replica {0} takes what follows {1!r}: {2!r}, which is all of it: {3}",
}
