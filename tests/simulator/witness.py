"""Witnesses beside the production code: what the bytes that a guest gets cannot show.

What it is not: it changes nothing that the code does.

    a query      was evaluated at an op not older than what anybody had heard of when it was asked: names alone would rarely show it
    a new view   of a healed cluster sends nobody away who lives, works, and does not want to go
    a new view   begins, at its primary, with the list of its members and what is asked again
    a restart    of the cluster is not begun by who has heard that a member lives
    presence     as the primary of a view knows it is at members of this view
    a guest      is not kept by a replica that is not in the view; its newest connection is the one that hears of its session
    a start      of a replica, one bit of whose disk turned over in something that stands there twice, trusts its disk
    the end      every session is at home in a connection that is there; no replica goes on with a memory that was found wrong

Read next: `simulation.py`.
"""

from __future__ import annotations

import functools
from typing import Any

import compiled
from commands import RUN
from events import Effect, Event, Submitted
from packets import Packet, StartView, View
from replication import LEARNER, LIVE, NORMAL
from tests.simulator.world import Process, Violation, World

UNJUST = ("was silent", "did not", "died", "restart by")  # reasons that are wrong about a member that lives and works
SETTLED_S = 3.0  # seconds after the healing in which old evidence may still act
MEMBERS = b"members|"  # how the first batch of a view begins, behind the header of its run
TOLD_S = 0.02  # seconds between a new link and what was lost with the old one; less than between two repetitions


class Seen(str):
    """Words that remember the op at which they were true."""

    __slots__ = ("op",)
    op: int


def attach(process: Process) -> None:
    """Look over the shoulder of a process that has just started."""
    _watch_queries(process)
    _watch_views(process)
    _watch_links(process)
    _watch_batches(process)
    checks, damage = process.world.checks, process.server.storage.damage
    at = checks.unharmed.pop(process.id, None)
    if damage and at is not None and checks.spoiled.get(process.id) == at:
        raise Violation(f"replica {process.id} distrusts its disk, of which all is sound but one copy: {damage}")


def look(process: Process) -> None:
    """After a step: who is not in the view serves nobody, since its state may be old; whoever leads knows who is here, and who is not."""
    server = process.server
    r, last = server.replica, getattr(server.policy, "last", None)  # only a register says who is in a view
    if last is None:
        return
    if r.is_primary and r.in_flight is None and r.last is not None and r.last.view == r.view and r.applied == r.head_op:
        at = getattr(server.state, "_at", {})  # a state without presence has none
        if not at.keys() <= _homes(last):
            strangers = sorted(at.keys() - _homes(last))
            raise Violation(f"replica {process.id} leads view {r.view} and has guests at {strangers}, which is not in it")
    if r.status == LEARNER and server.desk.connections:
        raise Violation(f"replica {process.id} is not in view {server.replica.view} and keeps {len(server.desk.connections)} guests")


@functools.lru_cache(64)
def _homes(view: View) -> frozenset[str]:
    """As the state names the places of a view's members."""
    return frozenset(f"{m.replica}.{m.inc}" for m in view.members)


def look_at_sessions(process: Process) -> None:
    """Now and then: what a session is answered goes to the connection that its guest holds."""
    desk = process.server.desk
    for guest in process.world.checks.guests:
        connection = getattr(guest.shell, "connection", None)
        if connection is None or guest.shell.process is not process or guest.shell.is_closing:
            continue
        if connection.is_open and not connection.gone and desk.by_session.get(guest.session) is not connection:
            raise Violation(f"replica {process.id} gives the answers of {guest.name}'s session to another connection than its newest")


def _watch_queries(process: Process) -> None:
    if compiled.is_in_use():
        return  # nothing of a compiled desk can be replaced, and what it does is what its source does, where this looks on
    desk = process.server.desk
    evaluate, answer = desk.evaluate, desk.answer

    def evaluated(*args: Any) -> str:
        words = Seen(evaluate(*args))
        words.op = desk.state.op
        return words

    def answered(ticket: int, words: str) -> None:
        if ticket in desk.queries:
            connection, query = desk.queries[ticket]
            guest = connection.shell.guest  # type: ignore[attr-defined]
            asked = guest.under_way.get(query.number)
            assert isinstance(words, Seen)
            if guest.shell is connection.shell and asked is not None and words.op < asked.acked_op:
                raise Violation(
                    f"replica {process.id} answers {guest.name}'s query {query.number} from op {words.op}: before it was asked,"
                    f" somebody had heard of op {asked.acked_op}"
                )
        answer(ticket, words)

    desk.evaluate, desk.answer = evaluated, answered  # type: ignore[method-assign, assignment]


def _watch_batches(process: Process) -> None:
    """What is asked again in a new view, members first, is not overtaken by what was asked last."""
    server, begun = process.server, [0]
    step = server.step

    def watched(event: Event) -> list[Effect]:
        if type(event) is Submitted:
            view = server.replica.view
            if view != begun[0] and not event.body.startswith(MEMBERS, RUN.size):
                raise Violation(f"replica {process.id} begins view {view} with something else than the list of its members")
            begun[0] = view
        return step(event)

    server.step = watched  # type: ignore[method-assign]


def _watch_links(process: Process) -> None:
    """Guests wait while a member does not know that its view has begun: its primary says so as soon as there is a link."""
    server, told = process.server, set[int]()
    linked, send = server.on_linked, process.send

    def on_linked(replica: int, inc: int) -> None:
        told.discard(replica)
        linked(replica, inc)
        if _owes_start_view(process, replica):
            process.world.push(process.world.now + TOLD_S, process, _was_told, process, replica, told, process.world.now)

    def sent(replicas: tuple[int, ...], packet: Packet) -> None:
        if type(packet) is StartView:
            told.update(replicas)
        send(replicas, packet)

    server.on_linked, process.send = on_linked, sent  # type: ignore[method-assign]


def _owes_start_view(process: Process, replica: int) -> bool:
    r, last = process.server.replica, getattr(process.server.policy, "last", None)
    if last is None or not r.is_primary or r.status != NORMAL or process.server.ending:
        return False
    return replica in last.replicas and replica in process.linked and replica not in r.installed


def _was_told(process: Process, replica: int, told: set[int], since: float) -> None:
    world = process.world
    if replica in told or not _owes_start_view(process, replica):
        return
    if process.paused_until > since:  # it stood still, or waited for its disk
        return world.push(world.now + TOLD_S, process, _was_told, process, replica, told, world.now)
    raise Violation(f"replica {process.id} leads view {process.server.replica.view}, and does not tell {replica}, whose link is new")


def _watch_views(process: Process) -> None:
    register, world = process.server.storage.register, process.world
    propose = register.propose

    def proposed(view: View) -> View:
        before = register.last()
        made = propose(view)
        if before is not None and (made.number, made.members) == (view.number, view.members):
            _judge(world, before, made)
            _judge_restart(process, before, made)
        return made

    register.propose = proposed  # type: ignore[method-assign]


def _judge(world: World, before: View, made: View) -> None:
    if not world.healed or world.now < world.healed_at + SETTLED_S or not any(word in made.reason for word in UNJUST):
        return
    for member in set(before.members) - set(made.members):
        process = world.processes[member.replica]
        is_well = process.alive and process.paused_until <= world.now and not process.server.ending and member.replica not in world.down
        if is_well and process.server.replica.me == member and f"{member.replica} left" not in made.reason:
            raise Violation(f"view {made.number} of a healed cluster is without {member.replica}, which lives and works: {made.reason}")


def _judge_restart(process: Process, before: View, made: View) -> None:
    """Nobody restarts the cluster who has heard from a member that it lives in the view."""
    if not made.reason.startswith("restart by") or before.closed:
        return
    policy: Any = process.server.policy
    for member in before.members:
        peer = policy.peers.get(member.replica)
        if peer is not None and peer.linked and peer.inc == member.inc and peer.status in LIVE and peer.heard > process.world.now - 0.5:
            raise Violation(f"view {made.number}: {made.reason}, which knows that {member.replica} lives in view {before.number}")


def at_end(world: World) -> None:
    """All is healed and quiet."""
    for process in world.living():
        if process.was_wrong:
            raise Violation(f"replica {process.id} goes on with a state that is not the others'")
    homes = {home: key for p in world.living() for home, c in p.server.desk.connections.items() for key in [c.session] if c.is_open}
    for process in world.living():
        for session in process.server.state.sessions.values():
            if session.home and homes.get(session.home) != session.key:
                raise Violation(
                    f"replica {process.id} believes that a guest is at home at {session.home}, where no connection has its session"
                )
