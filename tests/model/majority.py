"""Policy `majority` as it is designed (VSR Revisited with durable views), in random walks: three replicas, of which two decide.

What it is not: it is not built (the settings refuse it). The model keeps the design checked until it is.

    replica v mod 3 leads view v          a batch commits when two of three have it synced in the view
    asks for a view without leaving       two that ask make everybody move; view and log_view are on the disk
    DoViewChange                          the new primary takes the log with the best (log_view, length) of two
    start and install                     cut · append · log_view · say so, with a crash between any two
    a restarted primary                   never goes on in its old view
    a query                               answered when another replica is in the same view, asked after the query came

Each name in MAJORITY_BUGS is one rule removed.

Read next: docs/model.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from tests.model.explore import Action, Violation

VIEW_CHANGE, NORMAL, RESTARTED = 0, 1, 2
PREPARE, OK, ASK, DO, START = range(5)  # kinds of packets
N = 3
BATCHES = "xyzuvw"

Packet = tuple[Any, ...]  # PREPARE view log · OK view replica log · ASK view replica · DO view replica inc log_view log · START view log

MAJORITY_BOUNDS = (3, 4, 8)  # batches, crashes, views
# Rule removed: a seed whose walks find soon what it breaks, and the rule.
MAJORITY_BUGS: dict[str, tuple[int, str]] = {
    "volatile_view": (7, "the view is on the disk before anything is said in it"),
    "resume_primary": (1, "a restarted primary never goes on in its old view"),
    "log_view_first": (1, "log_view is written after the log"),
    "commit_alone": (1, "a batch commits when two of three have it"),
    "any_log": (1, "the new primary takes the log with the best (log_view, length)"),
    "reads_alone": (38, "a query is answered when another replica has said that it is in the same view"),
    "serves_early": (1, "a new primary serves when everything of earlier views is committed"),
}


class Replica(NamedTuple):
    """One replica; a crash leaves `inc`, `log`, `view` and `log_view`."""

    up: bool
    inc: int
    log: str
    view: int
    log_view: int
    status: int
    commit: int
    start: int  # length of the log when its view began
    pending: str  # the batch a primary has sent, but not on its disk yet
    plan: tuple[bool, int, str] | None  # whether it will lead, the view, the log to be


class State(NamedTuple):
    """Everything there is. `left`: batches and crashes that may still come."""

    replicas: tuple[Replica, ...]
    packets: frozenset[Packet]
    acked: str
    left: tuple[int, int]


Step = tuple[Action, State]


class MajorityModel:
    """See the module's page."""

    def __init__(self, batches: int, crashes: int, views: int, bug: str = "") -> None:
        assert not bug or bug in MAJORITY_BUGS, f"no such bug: {bug}"
        self.bounds, self.views, self.bug = (batches, crashes), views, bug

    def initial(self) -> State:
        return State((Replica(True, 1, "", 0, 0, NORMAL, 0, 0, "", None),) * N, frozenset(), "", self.bounds)

    def tell(self, action: Action) -> str:
        return SENTENCES[action[0]].format(*action[1:])

    def weight(self, action: Action) -> float:
        return {"crash": 0.3, "ask": 0.25, "move": 0.6, "restart": 1.0}.get(action[0], 2.0)

    def check(self, state: State) -> None:
        """A query would be answered from exactly what was acknowledged."""
        for i, r in enumerate(state.replicas):
            if r.up and r.status == NORMAL and r.view % N == i and (r.commit >= r.start or self.bug == "serves_early"):
                others = (q for j, q in enumerate(state.replicas) if j != i)
                asked = any(q.up and q.status == NORMAL and q.view == r.view for q in others) or self.bug == "reads_alone"
                if asked and r.log[: r.commit] != state.acked:
                    raise Violation(f"{i} would answer a query from {r.log[: r.commit]!r}, acknowledged is {state.acked!r}")

    def successors(self, state: State) -> Iterator[Step]:
        """Everything that can happen next, without packets that nobody can use any more."""
        for action, after in self.steps(state):
            lowest = min(r.log_view for r in after.replicas)
            yield action, after._replace(packets=frozenset(p for p in after.packets if p[1] >= lowest))

    def steps(self, state: State) -> Iterator[Step]:
        for i, r in enumerate(state.replicas):
            if not r.up:
                yield self.restart(state, i, r)
                continue
            batches, crashes = state.left
            if crashes:
                view = r.log_view if self.bug == "volatile_view" else r.view
                yield ("crash", i), put(state, i, r._replace(up=False, view=view, pending="", plan=None), left=(batches, crashes - 1))
            if r.status == NORMAL and r.view % N == i:
                yield from self.lead(state, i, r)
            if r.plan is not None:
                yield self.go_on(state, i, r, r.plan)
            yield from self.listen(state, i, r)
            yield from self.change_view(state, i, r)

    def restart(self, state: State, i: int, r: Replica) -> Step:
        """What is on the disk decides how to go on."""
        status = VIEW_CHANGE if r.log_view < r.view else NORMAL
        packet = (DO, r.view, i, r.inc + 1, r.log_view, r.log) if status == VIEW_CHANGE else None
        if r.view % N == i and status == NORMAL and self.bug != "resume_primary":
            status = RESTARTED  # it asks for the next view
        new = r._replace(up=True, inc=r.inc + 1, status=status, commit=0, start=len(r.log), plan=None)
        return ("restart", i, r.view), put(state, i, new, packet)

    def lead(self, state: State, i: int, r: Replica) -> Iterator[Step]:
        """Send batches, sync them, commit them."""
        batches, crashes = state.left
        if r.pending:
            yield ("sync", i, r.pending), put(state, i, r._replace(log=r.log + r.pending, pending=""))
        elif batches:
            batch = BATCHES[self.bounds[0] - batches]
            yield ("prepare", i, batch), put(state, i, r._replace(pending=batch), (PREPARE, r.view, r.log + batch), (batches - 1, crashes))
        if r.commit < len(r.log):
            log = r.log[: r.commit + 1]
            who = {p[2] for p in state.packets if p[0] == OK and p[1] == r.view and p[3].startswith(log)} | {i}
            if len(who) * 2 > N or self.bug == "commit_alone":
                acked = state.acked
                if acked[: len(log)] != log[: len(acked)]:
                    raise Violation(f"{i} commits {log!r}, acknowledged was {acked!r}")
                after = put(state, i, r._replace(commit=len(log)))
                yield ("commit", i, log), after._replace(acked=max(acked, log, key=len))

    def go_on(self, state: State, i: int, r: Replica, plan: tuple[bool, int, str]) -> Step:
        """The next step of a start or an install."""
        leads, view, log = plan
        common = common_length(r.log, log)
        if self.bug == "log_view_first" and r.log_view < view:
            return ("log_view", i, view), put(state, i, r._replace(log_view=view))
        if common < len(r.log):
            return ("cut", i, r.log[common:]), put(state, i, r._replace(log=r.log[:common]))
        if common < len(log):
            return ("append", i, log[common]), put(state, i, r._replace(log=log[: common + 1]))
        if r.log_view < view:
            return ("log_view", i, view), put(state, i, r._replace(log_view=view))
        new = r._replace(status=NORMAL, plan=None, commit=0, start=len(log) if leads else r.start)
        packet: Packet = (START, view, log) if leads else (OK, view, i, log)
        return ("started" if leads else "installed", i, view, log), put(state, i, new, packet)

    def listen(self, state: State, i: int, r: Replica) -> Iterator[Step]:
        """A batch of my view, or word of a newer one."""
        for packet in state.packets:
            kind, view, log = packet[0], packet[1], packet[-1]
            if kind == PREPARE and r.status == NORMAL and r.view % N != i and view == r.view == r.log_view and log[:-1] == r.log:
                yield ("store", i, log[-1]), put(state, i, r._replace(log=log), (OK, view, i, log))
            if (
                kind == START
                and r.plan is None
                and not r.pending
                and view % N != i
                and (view > r.view or (view == r.view and r.status == VIEW_CHANGE))
            ):
                yield ("install", i, view), put(state, i, r._replace(view=view, status=VIEW_CHANGE, plan=(False, view, log)))

    def change_view(self, state: State, i: int, r: Replica) -> Iterator[Step]:
        """Ask for the next view, move to it when two ask, lead it with the best log of two."""
        packets = state.packets
        if r.pending:
            return  # the disk answers first
        if r.view < self.views and (ASK, r.view + 1, i) not in packets:
            yield ("ask", i, r.view + 1), put(state, i, r, (ASK, r.view + 1, i))
        for view in range(r.view + 1, self.views + 1):
            asking = sum(p[0] == ASK and p[1] == view for p in packets)
            if asking * 2 > N or any(p[0] == DO and p[1] == view for p in packets):
                moved = r._replace(view=view, status=VIEW_CHANGE, plan=None)
                yield ("move", i, view), put(state, i, moved, (DO, view, i, r.inc, r.log_view, r.log))
        if r.status == VIEW_CHANGE and r.plan is None and r.view % N == i and r.log_view < r.view:
            newest: dict[int, Packet] = {}
            for p in packets:
                if p[0] == DO and p[1] == r.view and (p[2] not in newest or p[3] > newest[p[2]][3]):
                    newest[p[2]] = p
            for j in newest:
                if j != i and i in newest:
                    best = max(newest[i], newest[j], key=lambda p: (p[4], len(p[5])))
                    log = r.log if self.bug == "any_log" else best[5]
                    yield ("begin", i, r.view, j), put(state, i, r._replace(plan=(True, r.view, log)))


def put(state: State, i: int, r: Replica, packet: Packet | None = None, left: tuple[int, int] | None = None) -> State:
    """The state with replica i changed, and what it sends."""
    replicas = state.replicas
    packets = state.packets if packet is None else state.packets | {packet}
    return State((*replicas[:i], r, *replicas[i + 1 :]), packets, state.acked, left or state.left)


def common_length(one: str, other: str) -> int:
    """How far two logs are the same."""
    for at, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return at
    return min(len(one), len(other))


SENTENCES = {
    "crash": "replica {0} crashes",
    "restart": "replica {0} restarts with view {1} on its disk",
    "prepare": "primary {0} sends batch {1}",
    "sync": "primary {0} has batch {1} on its disk",
    "commit": "primary {0} commits and acknowledges {1!r}",
    "log_view": "replica {0} has log_view {1} on its disk",
    "cut": "replica {0} cuts {1!r}",
    "append": "replica {0} appends {1!r}",
    "started": "primary {0} starts view {1} with the log {2!r}",
    "installed": "replica {0} has the log of view {1}, {2!r}, and acknowledges",
    "store": "replica {0} stores and acknowledges batch {1}",
    "install": "replica {0} hears that view {1} began",
    "ask": "replica {0} asks for view {1}",
    "move": "replica {0} moves to view {1} and says what log it has",
    "begin": "primary {0} of view {1} has heard from itself and from {2}",
}
