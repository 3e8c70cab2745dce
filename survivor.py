"""How a view is decided when all replicas share one host: policy `survivor`. Three replicas survive two deaths.

What it is not: it sends no batch and counts no ack of one; it decides who is in the view, and `replication.py` runs it.

A view exists exactly when the register holds its record (one file a view, created by link(): whoever creates it decides). So no proof of
anybody's death is needed for safety: any member may be voted out on suspicion. What safety rests on:

- Every member of the view, and the learner that is being taken in (joint mode), must have a batch synced before it is committed.
- Whoever has adopted a view acknowledges nothing of an older one.
- The primary of a new view goes on from its own log, since every member's log holds every acknowledged batch.
- Only replicas that stand in the register's last view (or, if it is closed, hold exactly its log) may begin a view after a total failure.
- A learner changes nothing on its disk while its id stands in the register's last view.

    evidence about a member   from                                                       the others wait
    dead                      its link broke and its lock is free, or a newer inc holds it   rank × 5 ms
    leave                     it asks to go                                              rank × 5 ms
    suspect                   silent for `suspect`, or a batch unacknowledged for `ack`  rank × 150 ms, after proving their own health

The primary votes backups out at once and stays primary; a backup acts only when the primary is among the accused.

Sources: PacificA (MSR-TR-2008-25) for all-ack replication with a configuration register; Vertical Paxos (MSR-TR-2009-63) for why that is
Paxos; Skeen, "Determining the last process to fail" (1985) for who may restart.

Read next: `register.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from batches import NO_HASH
from events import (
    CheckGuard,
    CheckHealth,
    Evaluated,
    Event,
    HealthChecked,
    Linked,
    LockProbed,
    ProbeLock,
    Propose,
    Proposed,
    ReadRegister,
    RegisterRead,
    Send,
    SnapshotRead,
    StopAsked,
    Unlinked,
)
from packets import Leave, Member, Packet, PrepareOk, Recovery, RecoveryResponse, StartView, View
from peers import PROBE_FIRST, Peer
from policy import Policy
from replication import (
    CATCH_UP_BYTES,
    CATCH_UP_MOST,
    LEARNER,
    LIVE,
    NORMAL,
    READ_ONLY,
    STALLED,
    VIEW_CHANGE,
    Replica,
)

RANK_DEAD = 0.005  # seconds between two backups that saw the primary die
RANK_SUSPECT = 0.15  # seconds between two backups that suspect it, or two replicas that restart the cluster
PROBE_MOST, PROBE_GROWTH = 0.05, 1.25  # seconds until a lock is probed again, at most; who dies slowly is missed by a quarter
ANNOUNCE = 0.1  # seconds between two Recovery packets
BACK_OFF_FIRST, BACK_OFF_MOST = 1.0, 60.0  # seconds after a failed join
TRIES_BEFORE_MOST = 3  # failed joins after which a learner is taken in from further behind


class Survivor(Policy):
    """The policy of one replica; `last` is the register's newest view that it has read, `waiting` what it waits for, in words."""

    def __init__(self, replica: Replica, register: View | None) -> None:
        self.replica = replica
        now = replica.now
        self.peers = {r: Peer(now) for r in replica.replicas if r != replica.me.replica}
        self.last: View | None = None
        self.proposing = self.checking = False
        self.retry_at = 0.0
        self._set_joint(None)
        self.joint_since = 0.0
        self.began = self.since = now  # since: when there was last a sign that a member of the view lives
        self.accused_since = 0.0
        self.announce_at = self.read_at = 0.0
        self.waiting = self.reason = ""
        self.changed = self.forced = 0
        self.rot = ""  # what is damaged in this replica's snapshot
        self.first_view = register

    # --- what replication asks ------------------------------------------------------------------------------------------------------------

    def is_eligible(self) -> bool:
        """Whether this disk may begin a view: intact, and all that was acknowledged in the last view is on it."""
        r, last = self.replica, self.last
        if r.damage or last is None:
            return last is None and not r.damage and not r.empty
        at_close = last.closed and not r.empty and (r.head_op, r.head_hash) == (last.op, last.hash)
        # A disk that is younger than the view is not the one that stood in it: its directory was emptied. An empty log is no such sign:
        # who stands in the view without having written it acknowledged nothing of it, and without everybody nothing was committed.
        stood = any(m.replica == r.me.replica and m.inc >= r.born for m in last.members)
        return (at_close or stood) and r.head_op >= last.op and r.log_view <= last.number

    def counts(self, sender: Member) -> bool:
        return self.last is not None and (sender in self.last.members or sender == self.joint)

    def has_enough(self, acks: set[int]) -> bool:
        assert self.last is not None
        return acks >= self._needed

    def receivers(self) -> tuple[int, ...]:
        return self._receivers

    def is_joining(self) -> bool:
        r = self.replica
        return r.status == LEARNER and r.acked_view == r.view == r.log_view

    def members(self) -> tuple[Member, ...]:
        return self.last.members if self.last else ()

    def on_behind(self, packet: StartView) -> None:
        r = self.replica
        r.halt(f"COMMITTED DATA LOST AT PRIMARY: its log ends at op {packet.op}, mine at {r.head_op}, and they part before the last batch")

    def on_evaluated(self, event: Evaluated) -> None:
        self.replica.emit(CheckGuard(event.number))

    def _set_joint(self, joint: Member | None) -> None:
        self.joint = joint
        all_of_them = [*self.members(), joint] if joint else self.members()  # whose acks make a commit
        self._receivers = tuple(m.replica for m in all_of_them if m != self.replica.me)
        self._needed = {m.replica for m in all_of_them}

    # --- the register ---------------------------------------------------------------------------------------------------------------------

    def on_newer_view(self, sender: Member, packet: Packet) -> None:
        if type(packet) is Leave:
            self.on_leave(sender, packet)
        self.replica.emit(ReadRegister(packet.view))

    def on_packet(self, sender: Member, packet: Packet) -> None:
        handler = PACKET_HANDLERS.get(type(packet))
        if handler is None:
            return self.replica.ignore(packet, "no packet of this policy")
        handler(self, sender, packet)

    def on_event(self, event: Event) -> None:
        EVENT_HANDLERS[type(event)](self, event)

    def on_proposed(self, event: Proposed) -> None:
        """Whoever created the next view decided it; what counts is what stands there now."""
        self.proposing = False
        if event.view is None:
            self.retry_at = self.replica.now + 1.0
            return self.replica.trace(f"no view can be decided, tries again in 1 s: {event.why}")
        self._take(event.view)

    def _take(self, view: View | None) -> None:
        r = self.replica
        if view is None or (self.last is not None and view.number <= self.last.number):
            return
        if view.number < r.view:
            return r.halt(
                f"the register ends at view {view.number}, but this replica has worked in view {r.view}:"
                " data/cluster is older than its replicas"
            )
        was = r.status
        self.last, self.reason, self.changed, self.forced = view, view.reason, view.time, view.forced
        self._set_joint(None)
        self.accused_since = 0.0
        self.since = r.now
        for replica, peer in self.peers.items():
            peer.heard, peer.eligible = r.now, False  # eligible by the view before
            if Member(replica, peer.leaving) not in view.members or peer.leaves_view < view.number:
                peer.leaving = 0  # it has gone, or says so again; if it comes back, then as a sound one
        if view.closed and r.stopping and (view.primary == r.me or (r.head_op, r.synced) == (view.op, view.op)):
            if view.primary == r.me:  # the others need not wait until they miss me
                r.emit(Send(self._receivers, Leave(view.number, "stopped")))
            return r.leave_process("stopped")
        member = r.me in view.members
        if was == READ_ONLY and not member and not r.is_full:
            return r.leave_process("handed over to a replica whose disk works", suspect=True)
        r.adopt(view.number, view.primary, member=member, why=view.reason)
        if r.stopping and r.status == LEARNER:
            return r.leave_process("stopped")
        self._give_disk_up()

    def _propose(self, members: list[Member], primary: Member, reason: str, *, closed: bool = False) -> None:
        r, last = self.replica, self.last
        tip = (r.head_op, r.head_hash) if r.commit == r.head_op else (r.parent_op, r.parent_hash)
        number, prev_hash = (last.number + 1, last.chain_hash()) if last else (r.view + 1, NO_HASH)
        self.proposing = True
        r.emit(Propose(View(r.cluster, number, primary, tuple(sorted(members)), *tip, reason, 0, closed, prev_hash, self.forced)))

    # --- evidence -------------------------------------------------------------------------------------------------------------------------

    def on_linked(self, event: Linked) -> None:
        peer = self.peers[event.member.replica]
        if event.member.inc > peer.inc:
            peer.failed_joins, peer.back_off_until, peer.eligible, peer.empty, peer.status = 0, 0.0, False, False, ""
        peer.inc, peer.linked, peer.lock, peer.heard = event.member.inc, True, event.member.inc, self.replica.now
        peer.dead_inc = max(peer.dead_inc, event.member.inc - 1)
        self.announce_at = 0.0
        if self.last is not None and self.replica.me == self.last.primary:
            self.replica.beat_at = 0.0
            self.replica.sent_at = self.replica.view_sent_at = -math.inf  # what was lost with the old link is repeated at once
            self._wake(self.replica.now)
        self.consider()

    def on_unlinked(self, event: Unlinked) -> None:
        peer = self.peers[event.member.replica]
        if event.member.inc == peer.inc:
            peer.linked, peer.probe_wait = False, PROBE_FIRST
            peer.probe_at = self.replica.now + PROBE_FIRST
            self._wake(peer.probe_at)
            self.replica.emit(ProbeLock(event.member.replica))

    def on_lock_probed(self, event: LockProbed) -> None:
        """A free lock, or one that a newer incarnation holds, means that the older one is dead (its kernel says so)."""
        peer = self.peers[event.replica]
        peer.lock = event.inc
        if event.inc is not None:
            peer.dead_inc = max(peer.dead_inc, event.inc - 1)
        elif self.last is not None:
            peer.dead_inc = max([peer.dead_inc, peer.inc, *(m.inc for m in self.last.members if m.replica == event.replica)])
        self.consider()

    def on_leave(self, sender: Member, packet: Leave) -> None:
        peer = self.peers[sender.replica]
        if self.last is not None and (sender not in self.last.members or packet.view < self.last.number):
            # It is out already, or meant a view that has passed, and does not know yet.
            return self.replica.emit(Send((sender.replica,), self.replica.response(0)))
        if peer.leaving != sender.inc:
            self.replica.trace(f"{sender.replica} leaves: {packet.reason}")
        peer.leaving, peer.leaves_view = sender.inc, packet.view
        self.consider()

    def on_sign_of_life(self, sender: Member) -> None:
        peer = self.peers[sender.replica]
        if peer.inc == sender.inc:
            peer.heard = self.replica.now

    def _accusation(self, member: Member) -> str:
        """Why this member should be voted out; empty: nothing speaks against it."""
        peer, r = self.peers[member.replica], self.replica
        if peer.dead_inc >= member.inc:
            return "died"
        if peer.leaving == member.inc:
            return "left"
        silent = r.now - peer.heard if r.is_primary or member == r.primary else 0.0  # backups do not talk to each other
        if silent > r.timers.suspect:
            return f"was silent for {silent * 1000:.0f} ms"
        flies = r.now - r.flying_since if r.in_flight is not None and member.replica not in r.acks else 0.0
        if r.is_primary and r.status == NORMAL and flies > r.timers.ack:
            return f"did not store a batch for {flies * 1000:.0f} ms"
        if member == r.primary and r.acked_at and r.now - r.acked_at > 2 * r.timers.ack:
            return f"did not commit a batch for {(r.now - r.acked_at) * 1000:.0f} ms"
        return ""

    def _accused(self) -> dict[Member, str]:
        """Whom this replica would vote out. One whose own disk is in trouble leaves that to those whose disks work, while there are any."""
        r, last = self.replica, self.last
        if last is None or r.stopping or self.proposing or r.view != last.number or r.me not in last.members or r.status == READ_ONLY:
            return {}
        accused = {m: why for m in last.members if m != r.me and (why := self._accusation(m))}
        if not (r.is_primary or last.primary in accused) or (r.trouble and len(accused) < len(last.members) - 1):
            return {}
        return accused

    def consider(self) -> None:
        """Vote out whom the evidence accuses, if it is this replica's turn."""
        r = self.replica
        if self.checking or r.now < self.retry_at:
            return
        accused = self._accused()
        if not accused:
            self.accused_since = 0.0
            return
        suspected = any(why not in ("died", "left") for why in accused.values())
        if not r.is_primary and not self._is_my_turn(accused, suspected=suspected):
            return
        if suspected:
            self.checking = True
            return r.emit(CheckHealth())
        self._vote_out(accused)

    def _is_my_turn(self, accused: dict[Member, str], *, suspected: bool) -> bool:
        r, last = self.replica, self.last
        assert last is not None
        if not self.accused_since:
            self.accused_since = r.now
        # Whose own disk is in trouble accuses everybody, and so do the others: the primary goes on, if it lives, or else the lowest.
        rank = 1 + last.members.index(r.me) if r.trouble else [m for m in last.members if m not in accused].index(r.me)
        turn = self.accused_since + rank * (RANK_SUSPECT if suspected or r.trouble else RANK_DEAD)
        if r.now < turn:
            self._wake(turn)
        return r.now >= turn

    def on_health_checked(self, event: HealthChecked) -> None:
        """Who is unwell itself accuses nobody on suspicion."""
        self.checking = False
        r = self.replica
        if not event.healthy:
            self.retry_at = r.now + RANK_SUSPECT
            return r.trace("my own disk is slow: I vote nobody out on suspicion")
        accused = self._accused()
        if accused:
            self._vote_out(accused)

    def _vote_out(self, accused: dict[Member, str]) -> None:
        last = self.last
        assert last is not None
        staying = [m for m in last.members if m not in accused]
        primary = last.primary if last.primary in staying else min(staying)
        self._propose(staying, primary, ", ".join(f"{m.replica} {why}" for m, why in accused.items()))

    # --- time -----------------------------------------------------------------------------------------------------------------------------

    def _wake(self, when: float) -> None:
        self.replica.wake_at = min(self.replica.wake_at, when)

    def on_tick(self) -> None:
        r = self.replica
        if self.first_view is not None:
            first, self.first_view = self.first_view, None
            self._take(first)
        if r.now >= self.read_at:
            self.read_at = r.now + 1.0
            r.emit(ReadRegister())
        self._probe_locks()
        if r.stopping:
            return self._go_on_stopping()
        self._give_disk_up()
        if r.status == LEARNER:
            return self._wait_to_join()
        self._watch_joint()
        if r.status == READ_ONLY:
            return
        if r.is_primary and r.in_flight is not None and r.me.replica not in r.acks and r.now - r.flying_since > r.timers.ack:
            r.emit(Send(self._receivers, Leave(r.view, "my disk does not answer")))
        self.consider()

    def on_paused(self) -> None:
        """This process stood still: what it did not hear meanwhile proves nothing."""
        r = self.replica
        r.trace("stood still: forgets its suspicions and reads the register")
        for peer in self.peers.values():
            peer.heard = r.now
        self.since = self.began = r.now
        r.acked_at, r.flying_since = (r.now if r.acked_at else 0.0), r.now
        r.emit(ReadRegister())

    def _probe_locks(self) -> None:
        for replica, peer in self.peers.items():
            if peer.linked:
                continue
            if self.replica.now >= peer.probe_at:
                peer.probe_at = self.replica.now + peer.probe_wait
                peer.probe_wait = min(PROBE_GROWTH * peer.probe_wait, PROBE_MOST)
                self.replica.emit(ProbeLock(replica))
            self._wake(peer.probe_at)

    # --- learner: joining, or restarting the cluster --------------------------------------------------------------------------------------

    def _wait_to_join(self) -> None:
        r, last = self.replica, self.last
        if r.transfer_at and r.now - r.transfer_at > STALLED and not r.writing:
            r.transfer_at = 0.0
        if r.now >= self.announce_at:
            self.announce_at = r.now + ANNOUNCE
            linked = tuple(i for i, p in self.peers.items() if p.linked)
            if linked:
                r.emit(Send(linked, Recovery(r.view, r.me.inc, r.log_view, r.head_op, r.head_hash, self.is_eligible(), r.empty)))
        if not self.proposing and r.now >= self.retry_at and not r.writing:
            self._consider_first_view() if last is None else self._consider_restart(last)

    def on_recovery(self, sender: Member, packet: Recovery) -> None:
        """A learner says where it is. The old incarnation of it is voted out before anything is given to the new one."""
        r, peer = self.replica, self.peers[sender.replica]
        peer.status = LEARNER
        self._judge_log(peer, packet)
        if r.is_primary and self.last is not None and sender.replica in self.last.replicas and sender not in self.last.members:
            return self.consider()
        if not r.stopping:
            r.emit(Send((sender.replica,), r.response(packet.nonce)))

    def on_response(self, sender: Member, packet: RecoveryResponse) -> None:
        """The primary lives and leads: ask it for what this log lacks, unless this replica's old incarnation is still in the view."""
        r, peer = self.replica, self.peers[sender.replica]
        peer.status = packet.status
        self._judge_log(peer, packet)
        if r.status != LEARNER or r.transfer_at or r.writing or sender != r.primary or packet.view != r.view or self.last is None:
            return
        # Who has no room either takes nothing over from a read_only one.
        if (packet.status == NORMAL or (packet.status == READ_ONLY and not r.lacks_room)) and r.me.replica not in self.last.replicas:
            self.waiting = f"catching up from {sender.replica}"
            r.ask_state()

    def _judge_log(self, peer: Peer, packet: Recovery | RecoveryResponse) -> None:
        """Who has not read the newest view yet may call itself eligible by one in which it still stood."""
        peer.eligible = packet.eligible and (self.last is None or packet.view == self.last.number)
        peer.empty, peer.log = packet.empty, (packet.view, packet.op)

    def _is_gone(self, member: Member) -> bool:
        """For somebody who wants to restart the cluster: this member will not answer."""
        if member.replica == self.replica.me.replica:
            return True
        peer, r = self.peers[member.replica], self.replica
        is_silent = r.now - max(self.began, peer.heard) > r.timers.suspect
        if peer.linked and peer.inc == member.inc:  # a link to a process that was stopped stays up
            return peer.status == LEARNER or is_silent or (peer.status not in LIVE and r.now - self.began > r.timers.suspect)
        return peer.dead_inc >= member.inc or (peer.lock == member.inc and is_silent)

    def _consider_restart(self, last: View) -> None:
        r = self.replica
        if not all(self._is_gone(m) for m in last.members):
            self.since = r.now
            return
        could = set(r.replicas) if last.closed else set(last.replicas)
        if not self.is_eligible():
            names = ", ".join(str(i) for i in sorted(could - {r.me.replica}))
            why = r.damage or ("it is empty" if r.empty else f"it was not in view {last.number}")
            self.waiting = f"for replica {names or 'nobody: see docs/operations'}: this one cannot restart the cluster ({why})"
            return
        ready = {
            i: p.inc
            for i, p in self.peers.items()
            if p.linked and p.eligible and p.status == LEARNER and r.now - p.heard < r.timers.suspect
        }
        self.waiting = "for the other members of the last view, 1 s at most"
        everybody = could <= {r.me.replica, *ready}
        rank = sorted([r.me.replica, *ready]).index(r.me.replica)
        turn = self.since + (0.0 if everybody else r.timers.restart) + rank * RANK_SUSPECT
        if r.now < turn:
            return self._wake(turn)
        members = [r.me, *(Member(i, inc) for i, inc in ready.items())]
        self._propose(members, r.me, f"restart by {r.me.replica}")

    def _consider_first_view(self) -> None:
        """No register yet: all replicas must be here, all of them empty, or all of them intact when it was lost."""
        r = self.replica
        missing = [i for i, p in self.peers.items() if not (p.linked and p.status == LEARNER)]
        strangers = [i for i, p in self.peers.items() if i not in missing and not (p.empty if r.empty else p.eligible)]
        if missing or strangers or not (r.empty or self.is_eligible()):
            self.since = r.now
            names = ", ".join(str(i) for i in missing or strangers or [r.me.replica])
            self.waiting = (
                f"for replica {names} to start"
                if missing
                else f"replica {names} holds no or damaged state while the register is missing: see docs"
            )
            return
        longer = [i for i, p in self.peers.items() if p.log > (r.view, r.head_op)]
        if longer:  # one that was voted out, or was not taken in, may be whole and lack what the others acknowledged
            self.waiting = f"for replica {', '.join(str(i) for i in longer)}, which has the longer log, to begin the register again"
            return
        turn = self.since + r.me.replica * RANK_SUSPECT
        if r.now < turn:
            return self._wake(turn)
        # Who lacks even the last batch joins afterwards: it may have been acknowledged without that one. At a first start all are level.
        members = [r.me, *(Member(i, p.inc) for i, p in self.peers.items() if p.log == (r.view, r.head_op))]
        self._propose(members, min(members) if r.empty else r.me, "first start" if r.empty else "the register was lost and is begun again")

    # --- primary: taking a learner in -----------------------------------------------------------------------------------------------------

    def refuses(self, asker: Member) -> str:
        r = self.replica
        if not r.is_primary or r.status not in (NORMAL, READ_ONLY):
            return "I do not lead this view"
        if self.last is None or asker.replica in self.last.replicas:
            return "the sender stands in the view"
        return "not now" if r.stopping or r.now < self.peers[asker.replica].back_off_until else ""

    def piece_bytes(self, asker: Member) -> int:
        return CATCH_UP_MOST if self.peers[asker.replica].failed_joins >= TRIES_BEFORE_MOST else CATCH_UP_BYTES

    def takes_in(self, asker: Member) -> bool:
        """The piece that reaches the head opens joint mode, so that from here on nothing is committed without the learner."""
        if self.proposing or self.joint not in (None, asker):
            return False
        if self.joint is None:
            self._set_joint(asker)
            self.replica.acks.discard(asker.replica)  # of an earlier incarnation, or of a log that it has shortened since
            self.joint_since = self.replica.now
            self.replica.trace(f"joint mode with {asker.replica} from op {self.replica.head_op}")
        return True

    def on_ack(self, sender: Member, packet: PrepareOk) -> None:
        """The learner has all of my log: register it."""
        r, last = self.replica, self.last
        if sender != self.joint or self.proposing or last is None:
            return
        if r.status == READ_ONLY:
            if packet.op == r.commit:
                self._propose([sender], sender, f"{r.me.replica} cannot write and gives way to {sender.replica}")
            return
        if not r.stopping:
            self._propose([*last.members, sender], last.primary, f"{sender.replica} joined")

    def _watch_joint(self) -> None:
        joint, r = self.joint, self.replica
        if joint is None or self.proposing:
            return
        peer = self.peers[joint.replica]
        if peer.linked and peer.inc == joint.inc and r.now - self.joint_since <= r.timers.join:
            return
        peer.failed_joins += 1
        peer.back_off_until = r.now + min(BACK_OFF_FIRST * 2 ** (peer.failed_joins - 1), BACK_OFF_MOST)
        r.trace(f"joint mode with {joint.replica} closed: no ack in time (failed {peer.failed_joins}×)")
        self._set_joint(None)
        r.commit_if_safe()

    # --- stopping and disk trouble --------------------------------------------------------------------------------------------------------

    def on_quiet(self) -> None:
        """A batch was committed: a stopping primary may be able to go now."""
        if self.replica.stopping:
            self._go_on_stopping()

    def _go_on_stopping(self) -> None:
        """A stopping replica votes nobody out. The primary closes the view; a backup that stops alone asks to be voted out."""
        r, last = self.replica, self.last
        if self.proposing:
            return
        if r.status in (LEARNER, READ_ONLY) or last is None or r.is_full:
            return r.leave_process("stopped")
        if r.is_primary:
            if r.status == NORMAL and r.in_flight is None and r.commit == r.head_op and not r.writing:
                self._propose(list(last.members), r.me, f"{r.me.replica} stopped", closed=True)
        elif last.closed and (r.head_op, r.synced) == (last.op, last.op):
            r.leave_process("stopped")
        elif not r.stops_everybody and r.now >= self.announce_at:
            self.announce_at = r.now + ANNOUNCE
            r.emit(Send((last.primary.replica,), Leave(r.view, "planned stop")))

    def on_disk_trouble(self) -> None:
        self.announce_at = 0.0
        self._give_disk_up()

    def on_snapshot_read(self, event: SnapshotRead) -> None:
        self.rot = event.damage
        self._give_disk_up()

    def _give_disk_up(self) -> None:
        """A disk that is full, has failed or has rotted. A member asks the others to vote it out first; if they do the same, one stays.

        Out of the view a full disk waits for room. Of another nothing is believed: the next incarnation fetches all from the others.
        """
        r, last, why = self.replica, self.last, self.rot or self.replica.trouble
        if not why or last is None:
            return
        if r.status == LEARNER:
            is_needed = r.me.replica in last.replicas or (self.is_joining() and not r.trouble)
            if not is_needed and (self.rot or not r.is_full):
                r.leave_process(why, suspect=True)
        elif r.trouble and last.members == (r.me,):
            self._stay_alone()
        elif r.status in (NORMAL, VIEW_CHANGE) and self._receivers and r.now >= self.announce_at:
            self.announce_at = r.now + ANNOUNCE
            r.emit(Send(self._receivers, Leave(r.view, why)))

    def _stay_alone(self) -> None:
        """Nobody else is in the view: what is known can still be answered, unless it is the view itself that finds no place."""
        r = self.replica
        if r.status == NORMAL or (r.status == VIEW_CHANGE and r.synced < r.head_op):
            r.lose_disk()
        elif r.status == VIEW_CHANGE and not r.is_full:
            r.leave_process(r.trouble, suspect=True)


EVENT_HANDLERS: dict[type, Callable[[Survivor, Any], None]] = {
    Linked: Survivor.on_linked,
    Unlinked: Survivor.on_unlinked,
    LockProbed: Survivor.on_lock_probed,
    RegisterRead: lambda policy, event: policy._take(event.view),
    Proposed: Survivor.on_proposed,
    HealthChecked: Survivor.on_health_checked,
    SnapshotRead: Survivor.on_snapshot_read,
    StopAsked: lambda policy, event: policy._go_on_stopping(),
    Evaluated: Survivor.on_evaluated,
}

PACKET_HANDLERS: dict[type, Callable[[Survivor, Member, Any], None]] = {
    Recovery: Survivor.on_recovery,
    RecoveryResponse: Survivor.on_response,
    Leave: Survivor.on_leave,
}
