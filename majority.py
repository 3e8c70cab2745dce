"""How a view is decided when each replica has a host of its own: policy `majority`. Three replicas survive one fault, five survive two.

What it is not: it sends no batch and counts no ack of one; it decides who leads, and `replication.py` runs it.

Nobody can tell a dead host from a cut cable, so nothing is decided by fewer than a majority of all N replicas. Replica v mod N leads
view v.

    normal       the primary is silent, or the link with it broke   asks: StartViewChange(v + 1), and stays as it is
    normal       a primary that reaches no majority, or stops       asks too; what a primary asks for is echoed at once
    any          a majority asks for v', or somebody is in v'       v' into the superblock, then adopt it: DoViewChange to its primary
    view_change  its primary has the logs of a majority             fetches the best of them unless it has it, then StartView
    view_change  the view does not begin                            asks for the next
    learner      the disk is empty or not trusted                   asks all others; votes and acknowledges nothing until it has the log
                                                                    of a primary that leads the highest view any of them knows

What safety rests on:
- view is on the disk before anything is said in it; log_view, before the first ack in it, and after its log.
- A batch is committed when a majority, its primary among them, has it synced in one view. The best log, by (log_view, op), of any
  majority therefore holds all that was ever committed.
- Whoever has adopted a view acknowledges nothing of an older one. Nobody adopts one that a majority has not asked for.
- A primary that starts again never goes on in its old view: it does not know what it has sent.
- Who promises a view before anybody has stored anything writes that down with it: so a disk without a log is told from one that lost it.
- What an incarnation said is forgotten when a later one is met: it may have lost its disk. A directory that is older than what others
  remember of it (its incarnation, an op it has acknowledged) is not trusted.
- A view that an operator has forced (`last_resort.py`) begins an era: it is above every view that anybody can come to by asking, and a
  log of an earlier era counts for nothing.
- A query is answered after a majority has said, asked after it was evaluated, that it knows no newer view. No clock is trusted.

Sources: Viewstamped Replication Revisited (MIT-CSAIL-TR-2012-021); Michael et al., "Recovering shared objects without stable storage"
(DISC 2017) for why recovery must not trust what an earlier incarnation said. The model of it is in tests/model/majority.py.

Read next: `survivor.py` (the other policy), docs/replication.md.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from events import Confirm, Evaluated, Event, Linked, Remember, SaveView, Send, SnapshotRead, StopAsked, Unlinked, ViewSaved
from packets import (
    CommitOk,
    DoViewChange,
    LastMet,
    Leave,
    Member,
    Packet,
    PrepareOk,
    Recovery,
    RecoveryResponse,
    StartView,
    StartViewChange,
)
from peers import Voter
from policy import ERA, Policy
from replication import CATCH_UP_BYTES, LEARNER, NORMAL, STALLED, VIEW_CHANGE, Replica

ANNOUNCE = 0.1  # seconds between two packets that ask for something: a view, a recovery, to be told where a view begins
VOTE_LIFE = 0.5  # seconds a wish for a view counts; whoever means it repeats it
ABDICATE = 1.0  # seconds without a majority after which a primary takes nothing new
CONFESSED = 0.4  # seconds after which a primary with rot has heard from all who have some, too; for so long it believes each
GREET = 0.3  # seconds between two signs of life of one who has nothing else to say
CUT_OFF = 0.5  # seconds beyond that after which guests are told to look elsewhere: links that break together are soon made again


class Majority(Policy):
    """The policy of one replica. `reason`: why its view was taken; `waiting`: what a learner waits for, in words."""

    def __init__(self, replica: Replica, met: dict[int, int]) -> None:
        self.replica = replica
        self.others = tuple(r for r in replica.replicas if r != replica.me.replica)
        self.enough = len(replica.replicas) // 2 + 1
        self.peers = {r: Voter(met.get(r, 0)) for r in self.others}
        self.has_begun = self.is_recovered = False
        self.is_new = replica.began and replica.empty  # what it promised before it had a log stands in its superblock
        self.since = replica.now  # when this view was taken
        self.found = replica.view  # the view that this process found on its disk
        self.moving, self.reason = 0, ""  # the view that is being written down, and why
        self.starting = 0  # the view that this replica leads by the log it holds
        self.wish, self.wished_at, self.wish_again = 0, 0.0, 0.0
        self.announce_at = 0.0
        self.rounds: list[tuple[int, int]] = []  # round that confirms, number of what was evaluated before it
        self.waiting, self.changed, self.forced = "", 0, replica.view - replica.view % ERA
        self.rot, self.rot_since = "", 0.0  # what is damaged in this replica's snapshot, and since when it knows
        self.excused: Member | None = None  # whom this primary has allowed to begin its disk anew
        self.in_touch = self.enough == 1
        self.touched_at, self.greet_at = replica.now, 0.0  # when it was in touch last; when it says again that it is there
        self.was_cut_off = False

    # --- what replication asks ------------------------------------------------------------------------------------------------------------

    def is_eligible(self) -> bool:
        """Whether it may vote and acknowledge: its disk remembers all it ever promised, or nobody ever promised anything."""
        r = self.replica
        return not (r.damage or r.empty) or self.is_new

    def counts(self, sender: Member) -> bool:
        peer = self.peers[sender.replica]
        return peer.linked and peer.inc == sender.inc

    def has_enough(self, acks: set[int]) -> bool:
        return self.replica.me.replica in acks and len(acks) >= self.enough

    def receivers(self) -> tuple[int, ...]:
        return self.others

    def members(self) -> tuple[Member, ...]:
        """Whom this replica has heard within ABDICATE, and itself; nobody where there never was a view."""
        r = self.replica
        if r.status == LEARNER and not any(p.answer is not None and not p.answer.empty for p in self.peers.values()):
            return ()
        there = [Member(i, p.inc) for i, p in self.peers.items() if p.inc and r.now - p.heard < ABDICATE]
        return tuple(sorted([r.me, *there]))

    def reachable(self) -> int:
        """How many replicas this one can talk to, itself included."""
        now = self.replica.now
        return 1 + sum(p.linked and now - p.heard < ABDICATE for p in self.peers.values())

    def is_in_touch(self) -> bool:
        """As of the last event: it must not change between a question and what is done upon the answer."""
        return self.in_touch

    def is_cut_off(self) -> bool:
        """One that has never seen a view waits for the others to begin, which is another matter."""
        return not self.in_touch and self.replica.view > 0 and self.replica.now - self.touched_at > CUT_OFF

    def refuses(self, asker: Member) -> str:
        r = self.replica
        if r.is_primary and r.status == NORMAL:
            return ""
        return "" if r.status == VIEW_CHANGE and asker == r.primary else "I do not lead this view"

    def piece_bytes(self, asker: Member) -> int:
        return CATCH_UP_BYTES

    def has_log(self) -> bool:
        """Whether this log is the best of a majority; while it is not, the best is fetched."""
        r = self.replica
        if self.starting == r.view:
            return True
        if not self.is_eligible() or r.view == self.found:  # an earlier incarnation may have begun it: who knows what it has sent
            return False
        logs = {i: p.log for i, p in self.peers.items() if p.linked and p.log is not None and p.log.view == r.view}
        if 1 + len(logs) < self.enough:
            return False
        best = max(logs, key=lambda i: (logs[i].log_view, logs[i].op), default=r.me.replica)
        theirs = logs.get(best)
        if theirs is None or (r.log_view, r.head_op) >= (theirs.log_view, theirs.op) or r.head_hash == theirs.hash:
            self.starting = r.view
            return True
        source = Member(best, self.peers[best].inc)
        if r.source != source:
            r.source, r.transfer_at, r.taken_view = source, 0.0, 0
            r.trace(f"fetches the log of {best}: op {theirs.op} of view {theirs.log_view}; mine is op {r.head_op} of view {r.log_view}")
        r.catch_up()
        return False

    def on_behind(self, packet: StartView) -> None:
        self.replica.catch_up()

    # --- moving to a view -----------------------------------------------------------------------------------------------------------------

    def _lead(self, view: int) -> int:
        return view % len(self.replica.replicas)

    def _move(self, view: int, why: str) -> None:
        """A majority wants it: write it down, then adopt it."""
        r = self.replica
        if view // ERA > r.view // ERA and r.head_op:
            why = "an operator has forced a view without this log, which is set aside"
            return r.leave_process(f"{why}: all is fetched anew", suspect=True, forced=view - view % ERA)
        if view > max(r.view, self.moving):
            self.moving, self.reason = view, why
            r.order(SaveView(r.generation, view, self.is_new))

    def on_view_saved(self, event: ViewSaved) -> None:
        if event.view == self.moving:
            self.moving = 0
            self._adopt(event.view, self.reason)

    def _adopt(self, view: int, why: str) -> None:
        r, lead = self.replica, self._lead(view)
        self.since, self.starting, self.waiting, self.changed, self.forced = r.now, 0, "", 0, view - view % ERA
        self.rounds.clear()
        for peer in self.peers.values():
            peer.round = 0
        if lead != r.me.replica:
            r.adopt(view, Member(lead, self.peers[lead].inc), member=True, why=why)
            self._tell_log()
        else:  # one that may not vote cannot lead either: the others will miss it, and take the next view
            r.adopt(view, r.me, member=self.is_eligible(), why=why)

    def _tell_log(self) -> None:
        """Tell the primary of a view that has not begun what log I have. Nothing changes it until that view begins, or a later one."""
        r = self.replica
        is_asked = r.status == VIEW_CHANGE and not r.is_primary and r.log_view < r.view and r.start_view is None
        if is_asked and not r.writing and self.is_eligible():
            r.emit(Send((self._lead(r.view),), DoViewChange(r.view, r.log_view, r.head_op, r.head_hash)))

    def on_do_view_change(self, sender: Member, packet: DoViewChange) -> None:
        """A log to choose from; a view that has begun is told of."""
        r = self.replica
        if not r.is_primary:
            return r.ignore(packet, "I do not lead this view")
        self.peers[sender.replica].log = packet
        if r.status == NORMAL:
            return r.emit(Send((sender.replica,), r.make_start_view()))
        r.proceed()

    # --- asking for a view ----------------------------------------------------------------------------------------------------------------

    def _grievance(self) -> str:
        """Why there should be another view; empty: nothing speaks against this one."""
        r = self.replica
        if r.stopping or not self.is_eligible() or self.moving:
            return ""
        if r.status == LEARNER:
            return "first start"
        if r.is_primary:
            return self._grievance_of_primary()
        lead = self._lead(r.view)
        if r.status == NORMAL and not self.peers[lead].linked:
            return f"the link with {lead} broke"
        silent = r.now - r.led_at
        if silent > r.timers.suspect:
            return f"{lead} was silent for {silent * 1000:.0f} ms"
        if r.acked_at and r.now - r.acked_at > 2 * r.timers.ack:
            return f"{lead} did not commit a batch for {(r.now - r.acked_at) * 1000:.0f} ms"
        return ""

    def _grievance_of_primary(self) -> str:
        r = self.replica
        if r.status == VIEW_CHANGE:
            if r.view == self.found:
                return f"{r.me.replica} leads view {r.view} and starts again"
            waits = r.now - max(self.since, r.transfer_at)
            return f"view {r.view} did not begin within {waits * 1000:.0f} ms" if waits > r.timers.suspect else ""
        if not self.in_touch:
            return f"{r.me.replica} reaches {self.reachable()} of {len(r.replicas)} replicas"
        if r.in_flight is not None and r.me.replica not in r.acks and r.now - r.flying_since > r.timers.ack:
            return f"the disk of {r.me.replica} does not answer"
        return ""

    def _complain(self) -> None:
        """Ask for the next view while something speaks against this one."""
        r, why = self.replica, self._grievance()
        if why and r.now >= self.wish_again:
            self._ask(r.view + 1 if r.view else len(r.replicas), why)  # the first view is one that replica 0 leads

    def _ask(self, view: int, why: str) -> None:
        """A wish, and no more: nothing of mine changes until a majority has the same."""
        r = self.replica
        if self.wish != view:
            r.trace(f"asks for view {view}: {why}")
        self.wish, self.wished_at, self.wish_again = view, r.now, r.now + ANNOUNCE
        r.emit(Send(self.others, StartViewChange(r.view, view)))
        self._count(view, why)

    def _count(self, view: int, why: str) -> None:
        now = self.replica.now
        wishes = [(self.wish, self.wished_at), *((p.wish, p.wished_at) for p in self.peers.values() if p.linked)]
        if sum(wish == view and now - at < VOTE_LIFE for wish, at in wishes) >= self.enough:
            self._move(view, why)

    def on_start_view_change(self, sender: Member, packet: StartViewChange) -> None:
        """Join in, if it is the primary who asks or I have a grievance too; else say where I stand, so that I am known to be reachable."""
        r, peer, view = self.replica, self.peers[sender.replica], packet.new_view
        peer.wish, peer.wished_at = view, r.now
        if view > r.view and self.is_eligible():
            is_due = self.wish != view or r.now >= self.wish_again
            if is_due and (sender.replica == self._lead(r.view) or self._grievance()):
                return self._ask(view, f"{sender.replica} asks")
            self._count(view, f"{sender.replica} asks")
        r.emit(Send((sender.replica,), r.response(0)))

    # --- links and other packets ----------------------------------------------------------------------------------------------------------

    def on_event(self, event: Event) -> None:
        EVENT_HANDLERS[type(event)](self, event)

    def on_packet(self, sender: Member, packet: Packet) -> None:
        handler = PACKET_HANDLERS.get(type(packet))
        if handler is None:
            return self.replica.ignore(packet, "no packet of this policy")
        if not self.counts(sender):
            return self.replica.ignore(packet, "its incarnation is not the newest")
        handler(self, sender, packet)

    def on_newer_view(self, sender: Member, packet: Packet) -> None:
        """Its sender is there, so a majority has asked for that view."""
        self.on_sign_of_life(sender)
        if not self.counts(sender):
            return self.replica.ignore(packet, "its incarnation is not the newest")
        if type(packet) in (Recovery, RecoveryResponse, LastMet):
            PACKET_HANDLERS[type(packet)](self, sender, packet)
        elif type(packet) is DoViewChange:
            self.peers[sender.replica].log = packet
        if self.is_eligible() or self.is_recovered:
            self._move(packet.view, f"{sender.replica} is in it")

    def on_linked(self, event: Linked) -> None:
        """A later incarnation may have lost its disk: what the earlier one said is forgotten. An earlier one is told so."""
        r, member = self.replica, event.member
        peer = self.peers[member.replica]
        if member.inc < peer.met:
            return r.emit(Send((member.replica,), LastMet(r.view, peer.met, peer.acked)))
        if member.inc > peer.inc:
            peer.forget()
            r.acks.discard(member.replica)
            r.installed.discard(member.replica)
        if member.inc > peer.met:
            peer.met = member.inc
            r.emit(Remember(member))
        peer.inc, peer.linked, peer.heard = member.inc, True, r.now
        if peer.acked:
            r.emit(Send((member.replica,), LastMet(r.view, member.inc, peer.acked)))
        self.announce_at = self.wish_again = 0.0
        if r.is_primary:
            r.beat_at = 0.0  # what was lost with the old link is repeated at the next tick
            if r.status == NORMAL:
                r.emit(Send((member.replica,), r.make_start_view()))
        elif r.primary is not None and r.primary.replica == member.replica:
            r.primary = member
            self._tell_log()

    def on_unlinked(self, event: Unlinked) -> None:
        peer = self.peers[event.member.replica]
        if event.member.inc == peer.inc:
            peer.linked, peer.log, peer.answer = False, None, None
            self.in_touch = self.reachable() >= self.enough
            self._complain()

    def on_last_met(self, sender: Member, packet: LastMet) -> None:
        """What others remember of this replica shows whether its directory is the one it had last."""
        r = self.replica
        if packet.inc > r.me.inc:
            told = f"replica {sender.replica} has met a later incarnation of this one"
        elif packet.op > r.head_op and self.is_eligible():
            told = f"replica {sender.replica} knows that op {packet.op} was acknowledged here, and this log ends at op {r.head_op}"
        else:
            return r.ignore(packet, "as it should be")
        r.leave_process(f"{told}: its directory is an old one, and all is fetched anew", suspect=True, inc=packet.inc)

    def on_sign_of_life(self, sender: Member) -> None:
        if self.counts(sender):
            self.peers[sender.replica].heard = self.replica.now
            self.in_touch = self.in_touch or self.reachable() >= self.enough

    # --- a disk that may not vote ---------------------------------------------------------------------------------------------------------

    def on_recovery(self, sender: Member, packet: Recovery) -> None:
        self.replica.emit(Send((sender.replica,), self.replica.response(packet.nonce)))

    def on_response(self, sender: Member, packet: RecoveryResponse) -> None:
        if packet.nonce == self.replica.me.inc:
            self.peers[sender.replica].answer = packet

    def _recover(self) -> None:
        """Ask all others; when every one has answered, take the log of who leads the highest view they know."""
        r = self.replica
        if r.now >= self.announce_at:
            self.announce_at = r.now + ANNOUNCE
            r.emit(Send(self.others, Recovery(r.view, r.me.inc, r.log_view, r.head_op, r.head_hash, self.is_eligible(), r.empty)))
        answers = {i: p.answer for i, p in self.peers.items() if p.answer is not None}
        missing = [i for i in self.others if i not in answers]
        ours = r.damage or "this disk is empty"
        if missing:
            self.waiting = f"for replica {', '.join(map(str, missing))} to answer: {ours}"
            return
        view = max(r.view, *(a.view for a in answers.values())) if answers else r.view
        lead = self._lead(view)
        chosen = answers.get(lead)
        is_enough = sum(a.eligible for a in answers.values()) > len(r.replicas) - self.enough
        if is_enough and chosen is not None and chosen.view == view and chosen.status == NORMAL:
            self.is_recovered, why = True, f"{lead} gives what this disk lost"
            if view > r.view:
                self._move(view, why)
            else:  # written down by an incarnation that came no further
                self._adopt(view, why)
        elif r.empty and not r.head_op and all(self._knows_nothing(a) for a in answers.values()):
            self.is_new, self.waiting = True, "for the others to begin the first view"
            # A view is a promise even where nothing was stored, and the disk that was here before may have given it.
            self.found = view
            self._move(view, "nobody ever stored anything")
        elif is_enough:
            self.waiting = f"for replica {lead} to lead view {view}: {ours}"
        else:
            self.waiting = f"for the operator: too many replicas hold nothing that may be trusted ({ours}); see docs/operations.md"

    def _knows_nothing(self, answer: RecoveryResponse) -> bool:
        """If this is true of everybody, no majority has ever stored anything: the first view began half-way, or not at all."""
        return not answer.op and (answer.empty or answer.eligible)

    # --- time -----------------------------------------------------------------------------------------------------------------------------

    def on_tick(self) -> None:
        r = self.replica
        if not self.has_begun:
            self.has_begun = True
            if self.is_eligible():
                self._adopt(r.view, "starts again")
        if r.transfer_at and r.now - r.transfer_at > STALLED and r.status != LEARNER:
            r.catch_up()
        if r.status == LEARNER:
            self._recover()
        elif r.status == VIEW_CHANGE and r.now >= self.announce_at:
            self.announce_at = r.now + ANNOUNCE
            self._tell_log()
            r.proceed()
        self.in_touch = self.reachable() >= self.enough
        if self.in_touch:
            self.touched_at = r.now
        if self.is_cut_off() and not self.was_cut_off:
            r.trace(f"this side of the network is cut off: {self.reachable()} of {len(r.replicas)} replicas reachable")
        self.was_cut_off = self.is_cut_off()
        self._greet()
        if not self.changed and r.last is not None and r.last.view == r.view:
            self.changed = r.last.time  # a view begins with a batch of its own
        if r.stopping:
            return self._go_on_stopping()
        self._give_disk_up()
        self._complain()

    def _greet(self) -> None:
        """Backups have little to say to each other, and all must know whether they are of a majority."""
        r = self.replica
        if r.now >= self.greet_at:
            self.greet_at = r.now + GREET
            if r.status != LEARNER and not (r.is_primary and r.status == NORMAL):
                r.emit(Send(self.others, r.response(0)))

    def on_paused(self) -> None:
        """This process stood still: what it did not hear meanwhile proves nothing."""
        r = self.replica
        r.trace("stood still: forgets its grievances")
        for peer in self.peers.values():
            peer.heard = max(peer.heard, r.now) if peer.linked else peer.heard
        self.since = self.touched_at = r.led_at = r.now
        r.acked_at, r.flying_since = (r.now if r.acked_at else 0.0), r.now

    # --- queries --------------------------------------------------------------------------------------------------------------------------

    def on_evaluated(self, event: Evaluated) -> None:
        """Ask everybody whether this view is still the newest: after the evaluation, never before."""
        r = self.replica
        r.round += 1
        self.rounds.append((r.round, event.number))
        r.tell_commit(r.round)
        self._confirm()

    def on_commit_ok(self, sender: Member, packet: CommitOk) -> None:
        peer = self.peers[sender.replica]
        peer.round = max(peer.round, packet.round)
        if self.rounds:
            self._confirm()

    def _confirm(self) -> None:
        r = self.replica
        confirmed = sorted([r.round, *(p.round for p in self.peers.values())])[-self.enough]
        done = [number for round, number in self.rounds if round <= confirmed]
        if done and r.is_primary and r.status == NORMAL:
            self.rounds = self.rounds[len(done) :]
            r.emit(Confirm(done[-1]))

    # --- acknowledgements, stopping, disk trouble -----------------------------------------------------------------------------------------

    def on_ack(self, sender: Member, packet: PrepareOk) -> None:
        """What it must hold when it comes back."""
        if packet.op <= self.replica.commit:
            self.peers[sender.replica].acked = packet.op

    def on_stop_asked(self, event: StopAsked) -> None:
        self._go_on_stopping()

    def on_quiet(self) -> None:
        """A batch was committed: a primary that stops, or that has rotted, may be able to go now. Under load no tick finds it so."""
        if self.replica.stopping:
            self._go_on_stopping()
        elif self.rot:
            self._give_disk_up()

    def _go_on_stopping(self) -> None:
        """A primary hands over first, to one that has all it has; if all stop, or nobody is there, it just ends."""
        r = self.replica
        if r.status == LEARNER:
            return r.leave_process("stopped")
        if r.status != NORMAL or r.commit < r.head_op or r.writing:
            return
        if not r.is_primary:
            return r.leave_process("stopped")
        if r.stops_everybody or self.enough == 1 or not self.in_touch:
            r.tell_commit(0)
            return r.leave_process("stopped")
        self._hand_over(f"{r.me.replica} stops", [i for i in r.installed if r.heard_applied.get(i) == r.applied])

    def _hand_over(self, why: str, among: Collection[int]) -> None:
        """Ask for the next view whose primary is one of these, who have all that this one has."""
        r = self.replica
        heirs = [i for i in among if self.peers[i].linked]
        if heirs and r.now >= self.wish_again:
            self._ask(r.view + min((i - r.view) % len(r.replicas) for i in heirs), why)

    def on_snapshot_read(self, event: SnapshotRead) -> None:
        if event.damage and not self.rot:
            self.rot_since = self.replica.now
        self.rot = event.damage

    def _give_disk_up(self) -> None:
        """Part of this disk has rotted. It may be begun anew when all others are whole, by one at a time: the primary sees to that.

        A primary hands over in any case: whoever lacks what has rotted would ask it in vain, and would never be whole.
        """
        r = self.replica
        if not self.rot or r.status != NORMAL or r.stopping:
            return
        if r.is_primary:
            if r.in_flight is None and r.now - max(self.since, self.rot_since) > CONFESSED:
                self._hand_over(self.rot, [i for i, p in self.peers.items() if i in r.acks and r.now - p.rotten_at > CONFESSED])
        elif r.now >= self.announce_at:
            self.announce_at = r.now + ANNOUNCE
            r.emit(Send((self._lead(r.view),), Leave(r.view, self.rot)))

    def _all_are_whole(self) -> bool:
        """One that hangs behind its link does not answer whoever asks all others for what its disk lost."""
        return self.enough > 1 and self.replica.installed.issuperset(self.others) and self.reachable() == len(self.replica.replicas)

    def on_leave(self, sender: Member, packet: Leave) -> None:
        """Of a backup: it asks to begin its disk anew. Of the primary: it may."""
        r = self.replica
        if packet.view != r.view or r.status != NORMAL:
            return r.ignore(packet, "not in my view")
        if not r.is_primary:
            if self.rot and sender == r.primary:
                r.leave_process(self.rot, suspect=True)
            return
        self.peers[sender.replica].rotten_at = r.now
        if self._all_are_whole() and (self.excused in (None, sender) or not self.counts(self.excused)):
            self.excused = sender
            r.emit(Send((sender.replica,), Leave(r.view, packet.reason)))

    def on_disk_trouble(self) -> None:
        """There are others: they go on when this one is gone."""
        self.replica.leave_process(self.replica.trouble, suspect=not self.replica.is_full)


EVENT_HANDLERS: dict[type, Callable[[Majority, Any], None]] = {
    Linked: Majority.on_linked,
    Unlinked: Majority.on_unlinked,
    ViewSaved: Majority.on_view_saved,
    Evaluated: Majority.on_evaluated,
    SnapshotRead: Majority.on_snapshot_read,
    StopAsked: Majority.on_stop_asked,
}

PACKET_HANDLERS: dict[type, Callable[[Majority, Member, Any], None]] = {
    StartViewChange: Majority.on_start_view_change,
    DoViewChange: Majority.on_do_view_change,
    Recovery: Majority.on_recovery,
    RecoveryResponse: Majority.on_response,
    LastMet: Majority.on_last_met,
    Leave: Majority.on_leave,
}
