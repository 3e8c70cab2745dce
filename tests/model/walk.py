"""Policy `survivor` in finer steps, too many to search through: walks that throw dice.

What it is not: it proves nothing; it goes where `survivor.py` cannot, with more batches, crashes, restarts and views.

    finer                  how
    a primary's start      adopt · StartView · sync log_view · lead
    an install             cut · add and sync · sync log_view · acknowledge, with a crash or a newer view between any two
    a learner's catch-up   in pieces, some of them without joint mode, and old pieces arrive late; batch by batch on the disk
    a snapshot             offered at any committed batch; fetched; takes the place of the whole log at once

Read next: `majority.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.model.explore import Action
from tests.model.survivor import (
    ACK,
    LOG,
    NORMAL,
    SENTENCES,
    STATE,
    WEIGHTS,
    Packet,
    Replica,
    State,
    Step,
    SurvivorModel,
    View,
    put,
)

OFFER = 4  # one more kind of packet: OFFER view member "" log; and STATE ends with whether it opens joint mode

WALK_BOUNDS = (3, 4, 4, 9)  # batches, crashes, restarts, views
WALK_SPOILED = (3, 4, 4, 9, 1)  # and spoilings
# Rule removed: bounds and a seed whose walks find soon what it breaks, and the rule.
WALK_BUGS: dict[str, tuple[tuple[int, ...], int, str]] = {
    "writes_while_listed": (
        (3, 2, 2, 3),
        21,
        "a learner changes nothing while its id stands in the last view, and installs no snapshot below its log",
    ),
    "older_state": (WALK_BOUNDS, 1, "a learner takes log only from the primary of the view it has read last"),
    "shortens_after_ack": (WALK_BOUNDS, 1, "after its first ack in a view a learner never shortens its log in that view"),
    "snapshot_of_uncommitted": (WALK_BOUNDS, 31, "a snapshot holds only what is committed"),
}
SAID = {
    "announce": "primary {0} of view {1} says that its log is {2!r}",
    "log_view": "replica {0} has log_view {1} on its disk",
    "append": "replica {0} stores batch {1}",
    "enter": "replica {0} has the log of view {1}, {2!r}, and acknowledges",
    "begin_piece": "learner {0} takes the piece of view {1} from {2!r} to {3!r}{4}",
    "piece": "primary {0} gives learner {1} its log up to {2!r} without joint mode",
    "offer": "primary {0} offers learner {1} the snapshot {2!r}",
    "fetch": "learner {0} fetches the snapshot {1!r}",
    "place": "learner {0} installs the snapshot {1!r} in place of its log {2!r}",
}


class WalkModel(SurvivorModel):
    """See the module's page."""

    starts_at_once = False
    one_piece = False
    mark = (True,)

    def more_bugs(self) -> tuple[str, ...]:
        return tuple(WALK_BUGS)

    def tell(self, action: Action) -> str:
        return SAID[action[0]].format(*action[1:]) if action[0] in SAID else SENTENCES[action[0]].format(*action[1:])

    def weight(self, action: Action) -> float:
        return 0.5 if action[0] in ("piece", "offer", "fetch") else WEIGHTS.get(action[0], 2.0)

    # --- views ----------------------------------------------------------------------------------------------------------------------------

    def begin_view(self, state: State, i: int, r: Replica) -> Iterator[Step]:
        """StartView, so that the others write while this disk does; then log_view; only then it leads."""
        packet: Packet = (LOG, r.view, r.log)
        if packet not in state.packets:
            yield ("announce", i, r.view, r.log), put(state, i, r, packet)
        elif r.log_view < r.view:
            yield ("log_view", i, r.view), put(state, i, r._replace(log_view=r.view))
        else:
            yield ("start", i, r.view, r.log), self.started(state, i, r)

    def install(self, state: State, i: int, r: Replica, log: str) -> Iterator[Step]:
        """One thing at a time."""
        if r.log != log:
            for action, after in super().install(state, i, r, log):
                if action[0] == "install":
                    yield ("append", i, log[-1]), put(state, i, r._replace(log=log, commit=max(r.commit, len(r.log))))
                else:
                    yield action, after
        elif r.log_view < r.view:
            yield ("log_view", i, r.view), put(state, i, r._replace(log_view=r.view))
        else:
            yield ("enter", i, r.view, log), put(state, i, r._replace(status=NORMAL), (ACK, r.view, (i, r.inc), log))

    # --- catching up ----------------------------------------------------------------------------------------------------------------------

    def give(self, state: State, i: int, j: int, view: View) -> Iterator[Step]:
        """Also pieces that reach less far than the head, and snapshots."""
        r, q = state.replicas[i], state.replicas[j]
        if any(m[0] == j for m in view.members) and self.bug != "writes_while_listed":
            return
        yield from super().give(state, i, j, view)
        member = (j, q.inc)
        base = q.log if r.log.startswith(q.log) else q.log[:-1]
        for end in range(len(base), len(r.log)):
            packet: Packet = (STATE, r.view, member, base, r.log[:end], False)
            if packet not in state.packets:
                yield ("piece", i, j, r.log[:end]), put(state, i, r, packet)
        committed = len(r.log) if self.bug == "snapshot_of_uncommitted" else r.commit
        for end in range(1, committed + 1):
            packet = (OFFER, r.view, member, "", r.log[:end])
            if packet not in state.packets:
                yield ("offer", i, j, r.log[:end]), put(state, i, r, packet)

    def learn(self, state: State, i: int, r: Replica, view: View) -> Iterator[Step]:
        """Go on with what is under way; a snapshot that was offered may be fetched."""
        if r.plan is not None:
            yield from self.go_on(state, i, r)
            return
        yield from super().learn(state, i, r, view)
        if any(m[0] == i for m in view.members) and self.bug != "writes_while_listed":
            return
        for packet in state.packets:
            if packet[0] != OFFER or packet[2] != (i, r.inc) or packet[1] != r.view:
                continue
            if self.bug in ("shortens_after_ack", "writes_while_listed") or (len(packet[4]) >= len(r.log) and not r.joining):
                yield ("fetch", i, packet[4]), put(state, i, r._replace(plan=(OFFER, r.view, packet[4], False)))

    def take(self, state: State, i: int, r: Replica, packet: Packet) -> Iterator[Step]:
        """Begin with a piece that follows my log; cut my last batch where it does not."""
        _, v, _, base, log, is_joint = packet
        if base == r.log and not (r.joining and base == log):
            if is_joint or base != log:
                yield (
                    ("begin_piece", i, v, base, log, ", into joint mode" * is_joint),
                    put(state, i, r._replace(plan=(STATE, v, log, is_joint))),
                )
        else:
            yield from super().take(state, i, r, packet)

    def go_on(self, state: State, i: int, r: Replica) -> Iterator[Step]:
        """The next step of what is under way."""
        assert r.plan is not None
        kind, v, log, is_joint = r.plan
        if kind == OFFER:
            placed = r._replace(log=log, commit=len(log), plan=None)
            yield ("place", i, log, r.log), put(state, i, placed)
        elif len(r.log) < len(log):
            is_last = len(r.log) + 1 == len(log) and not is_joint
            stored = r._replace(log=log[: len(r.log) + 1], commit=max(r.commit, len(r.log)), plan=None if is_last else r.plan)
            yield ("append", i, log[len(r.log)]), put(state, i, stored)
        elif r.log_view < v:
            yield ("log_view", i, v), put(state, i, r._replace(log_view=v))
        else:
            level = r._replace(plan=None, joining=v == r.view)
            yield ("level", i, v, log), put(state, i, level, (ACK, v, (i, r.inc), log))
