"""Room 2, agreement: the core run by hand, and stories of three cores over a wire that loses what it is told to lose.

Numbers in names of stories are the rows of the adversarial table (docs/replication.md).
"""

from __future__ import annotations

import random
import re
import unittest
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec

import majority
import replication
import survivor
from batches import NO_HASH, Batch
from events import (
    Applied,
    Apply,
    Cut,
    DiskFailed,
    Fetched,
    Idled,
    InstallSnapshot,
    LogRead,
    Persist,
    Persisted,
    Received,
    Saved,
    Send,
    SnapshotDiffered,
    Submitted,
    Ticked,
    Trace,
)
from packets import (
    Commit,
    CommitOk,
    GetState,
    Leave,
    Member,
    NewState,
    Packet,
    Prepare,
    PrepareOk,
    Recovery,
    RecoveryResponse,
    SnapshotOffer,
    StartView,
)
from replication import (
    HALTED,
    HANDLERS,
    LEARNER,
    NORMAL,
    READ_ONLY,
    STALLED,
    STATUS_CHANGES,
    VIEW_CHANGE,
    Replica,
)
from tests.cores import CARRY_OUT, Core, World


def chain(*bodies: bytes, after: Batch | None = None, view: int = 1) -> list[Batch]:
    """Batches that follow each other."""
    batches = []
    for body in bodies:
        op, tip = (after.op, after.hash) if after else (0, NO_HASH)
        after = Batch(first_op=op + 1, count=1, view=view, time=1, prev_hash=tip, body=body)
        batches.append(after)
    return batches


class Story(unittest.TestCase):
    def setUp(self) -> None:
        self.world = World()

    def begin(self, *bodies: bytes) -> World:
        """Three cores in view 1, with these batches committed everywhere."""
        self.world.start()
        self.world.run(1.0)
        for body in bodies:
            self.world.say(0, body)
        self.world.run(0.1)
        return self.world

    def core(self, i: int) -> Core:
        return self.world.cores[i]

    def replica(self, i: int) -> Replica:
        return self.world.cores[i].replica

    def feed(self, i: int, sender: int, packet: Packet) -> list[Any]:
        """A packet comes to a core; the effects are given back, not carried out."""
        return self.replica(i).step(self.world.now, Received(self.core(sender).me, packet))

    def tell(self, i: int, sender: int, packet: Packet) -> None:
        self.world.feed(i, Received(self.core(sender).me, packet))

    def bodies(self, i: int) -> list[bytes]:
        return [batch.body for batch in self.world.stores[i].log]

    def said(self, effects: list[Any]) -> str:
        return "; ".join(effect.text for effect in effects if isinstance(effect, Trace))

    def assert_level(self, *ids: int) -> None:
        """These have the same log, and have applied all of it."""
        tips = {self.world.stores[i].tip() for i in ids}
        self.assertEqual(len(tips), 1, [self.core(i) for i in ids])
        for i in ids:
            r = self.replica(i)
            self.assertEqual((r.status, r.head_op, r.commit, r.applied), (NORMAL, r.head_op, r.head_op, r.head_op))
        self.assertEqual(len({self.core(i).digest for i in ids}), 1)


class NormalTest(Story):
    def test_a_batch_is_stored_everywhere_before_it_is_applied_anywhere(self) -> None:
        world = self.begin()
        world.hold(0, 1, 2)
        op = world.submit(0, b"hello", 3)
        self.assertEqual(op, 3)
        for i in (0, 2):
            world.settle()
            self.assertEqual([self.replica(k).applied for k in range(3)], [0, 0, 0])
            world.release(i)
        self.assertEqual([self.replica(k).applied for k in range(3)], [0, 0, 0])
        world.release(1)
        self.assertEqual(self.replica(0).applied, 3)
        world.feed(0, Idled())
        self.assert_level(0, 1, 2)

    def test_one_batch_is_in_flight(self) -> None:
        world = self.begin()
        world.hold(1)
        world.submit(0)
        self.assertFalse(self.replica(0).can_prepare)
        with self.assertRaises(AssertionError):
            self.replica(0).step(world.now, Submitted(1, b"second", 0))
        for i in (1, 2):
            with self.assertRaises(AssertionError):
                self.replica(i).step(world.now, Submitted(1, b"not the primary", 0))
        world.release(1)
        self.assertTrue(self.replica(0).can_prepare)

    def test_commits_travel_with_the_next_batch_or_alone(self) -> None:
        world = self.begin()
        world.say(0, b"a")
        self.assertEqual(self.replica(1).applied, 0)
        world.say(0, b"b")
        self.assertEqual(self.replica(1).applied, 1)
        world.feed(0, Idled())
        self.assertEqual(self.replica(1).applied, 2)
        sent = len(world.packets)
        world.feed(0, Idled())
        world.feed(1, Idled())
        self.assertEqual(len(world.packets), sent, "told once is enough")

    def test_time_goes_forward_whatever_the_clock_does(self) -> None:
        world = self.begin()
        times = []
        for wall in (5000, 4000, 0, 9000):
            world.feed(0, Submitted(10, b"x", wall))
            times.append(world.stores[0].log[-1].time)
        self.assertEqual(times, [5000, 5010, 5020, 9000])

    def test_time_goes_forward_from_a_snapshot_too(self) -> None:
        """Nothing of the log is left but the snapshot; the wall clock was set back."""
        world = self.begin()
        world.feed(0, Submitted(10, b"x", 5000))
        world.run(0.1)
        world.snapshot(1)
        world.kill(0, 1, 2)
        world.start(1)
        world.run(2)
        world.feed(1, Submitted(1, b"y", 4000))
        self.assertEqual([batch.time for batch in world.stores[1].log], [5010])

    def test_time_goes_forward_from_a_fetched_snapshot_too(self) -> None:
        world = self.begin()
        world.feed(0, Submitted(10, b"x", 5000))
        world.kill(1)
        world.stores[1].__init__()  # type: ignore[misc]
        world.run(0.2)
        world.snapshot(0)
        world.start(1)
        world.run(2)
        world.kill(0, 2)
        world.run(0.2)
        world.feed(1, Submitted(1, b"y", 4000))
        self.assertEqual([batch.time for batch in world.stores[1].log], [5010])

    def test_a_lost_prepare_is_repeated(self) -> None:
        world = self.begin()
        world.lose = {Prepare}
        world.say(0, b"a")
        world.lose = set()
        world.run(0.3)
        self.assert_level(0, 1, 2)

    def test_a_lost_ack_is_repeated_but_nothing_is_stored_twice(self) -> None:
        world = self.begin()
        world.lose = {PrepareOk}
        world.say(0, b"a")
        self.assertEqual(self.replica(0).commit, 0)
        world.lose = set()
        world.run(0.3)
        self.assert_level(0, 1, 2)
        self.assertEqual(self.bodies(1), [b"a"])

    def test_a_lost_commit_is_learnt_from_the_heartbeat(self) -> None:
        world = self.begin()
        world.lose = {Commit}
        world.say(0, b"a")
        world.feed(0, Idled())
        self.assertEqual(self.replica(2).applied, 0)
        world.lose = set()
        world.run(0.1)
        self.assert_level(0, 1, 2)

    def test_the_primary_hears_how_far_a_backup_is(self) -> None:
        self.begin(b"a", b"b")
        self.assertEqual(self.replica(0).heard_applied, {1: 2, 2: 2})

    def test_a_backup_that_missed_batches_asks_for_them(self) -> None:
        """It cannot happen on one link, but a packet may be lost with the link (42)."""
        world = self.begin(b"a")
        core = self.core(2)
        far = chain(b"x", b"y", after=world.stores[0].log[-1])
        effects = self.feed(2, 0, Prepare(1, 1, 1, 0, far[1].image))
        self.assertIsInstance(effects[-1].packet, GetState)
        self.assertEqual(effects[-1].packet.op, 1)
        self.assertEqual(self.feed(2, 0, Commit(1, 9, b"h" * 16, 0, 0)), [], "an answer is on its way")
        core.replica.transfer_at -= STALLED + 0.1
        effects = self.feed(2, 0, Commit(1, 9, b"h" * 16, 0, 0))
        self.assertIsInstance(effects[-1].packet, GetState)
        core.replica.transfer_at = 0.0

    def test_what_a_backup_does_not_take(self) -> None:
        world = self.begin(b"a", b"b")
        log = world.stores[0].log
        (other,) = chain(b"other", after=log[0])
        for packet, why in (
            (Prepare(1, 0, 0, 0, b"garbage"), "header cut short"),
            (Prepare(1, 0, 0, 0, other.image), "does not follow my log"),
            (Prepare(1, 0, 0, 0, log[0].image), "does not follow my log"),
            (NewState(1, 2, log[1].hash, b"", False), "nothing was asked for"),
            (SnapshotOffer(1, 9, b"h" * 16, b""), "nothing was asked for"),
            (StartView(1, 1, log[0].hash, 0, NO_HASH, b""), "I am normal"),
            (PrepareOk(1, 2, log[1].hash), ""),
            (GetState(1, 2, log[1].hash, 1, log[0].hash), "I do not lead this view"),
        ):
            with self.subTest(packet=packet):
                before = repr(self.replica(2))
                self.assertIn(why, self.said(self.feed(2, 0, packet)))
                self.assertEqual(repr(self.replica(2)), before)
        begins = StartView(1, 2, log[1].hash, 1, log[0].hash, b"")
        for foreign in (Prepare(1, 0, 0, 0, other.image), Commit(1, 2, log[1].hash, 0, 0), begins):
            effects = self.feed(2, 1, foreign)
            self.assertFalse([e for e in effects if isinstance(e, Send)], "not from my primary")

    def test_a_prepare_that_comes_while_the_disk_writes_waits_for_its_repetition(self) -> None:
        world = self.begin(b"a")
        world.hold(2)
        one, two = chain(b"x", b"y", after=world.stores[0].log[-1])
        self.feed(2, 0, Prepare(1, 1, 1, 0, one.image))
        self.assertEqual(self.said(self.feed(2, 0, Prepare(1, 1, 1, 0, one.image))), "", "the same again: it is being written")
        self.assertIn("does not follow", self.said(self.feed(2, 0, Prepare(1, 1, 1, 0, two.image))))
        self.assertEqual(self.replica(2).writing, 1)

    def test_batches_that_came_together_are_stored_with_one_sync(self) -> None:
        """All but the last are committed, since another follows; the last only when that is told."""
        world = self.begin(b"a")
        world.hold(2)
        r, log = self.replica(2), chain(b"x", b"y", b"z", after=world.stores[0].log[-1])
        effects = self.feed(2, 0, Prepare(1, 3, 1, 0, b"".join(batch.image for batch in log)))
        self.assertEqual([[b.op for b in e.batches] for e in effects if isinstance(e, Persist)], [[2, 3, 4]])
        self.assertEqual([e.batch.op for e in effects if isinstance(e, Apply)], [2, 3])
        self.assertEqual((r.head_op, r.commit, r.applied, r.synced), (4, 3, 3, 1))
        self.assertFalse([e for e in effects if isinstance(e, Send)], "nothing is acknowledged before it is synced")
        effects = r.step(world.now, Persisted(r.generation, log[-1].op, log[-1].hash))
        self.assertEqual([e.packet for e in effects if isinstance(e, Send)], [PrepareOk(1, 4, log[-1].hash)])

    def test_a_batch_that_was_sent_again_does_not_hide_the_next_which_came_with_it(self) -> None:
        world = self.begin(b"a")
        world.hold(2)
        r, log = self.replica(2), [world.stores[0].log[-1], *chain(b"x", b"y", after=world.stores[0].log[-1])]
        effects = self.feed(2, 0, Prepare(1, 1, 1, 0, log[0].image + log[1].image))
        self.assertEqual([[b.op for b in e.batches] for e in effects if isinstance(e, Persist)], [[2]])
        r.step(world.now, Persisted(r.generation, log[1].op, log[1].hash))
        effects = self.feed(2, 0, Prepare(1, 2, 1, 0, log[0].image + log[1].image))
        self.assertEqual([e.packet for e in effects if isinstance(e, Send)], [PrepareOk(1, 2, log[1].hash)], "all of it was there")
        effects = self.feed(2, 0, Prepare(1, 3, 1, 0, b"".join(batch.image for batch in log)))
        self.assertEqual([[b.op for b in e.batches] for e in effects if isinstance(e, Persist)], [[3]])

    def test_batches_that_came_together_and_do_not_follow_each_other_are_not_stored(self) -> None:
        world = self.begin(b"a")
        one, two, three = chain(b"x", b"y", b"z", after=world.stores[0].log[-1])
        for images, why in ((one.image + three.image, "does not follow op 2"), (one.image + two.image[:-1], "cut short")):
            self.assertIn(why, self.said(self.feed(2, 0, Prepare(1, 1, 1, 0, images))))
        self.assertEqual(self.replica(2).head_op, 1)

    def test_an_ack_is_counted_only_with_my_own_hash(self) -> None:
        world = self.begin(b"a")
        world.hold(0, 1, 2)
        op = world.submit(0, b"b")
        effects = self.feed(0, 1, PrepareOk(1, op, b"another log 1234"))
        self.assertIsInstance(effects[0].packet, StartView)
        self.feed(0, 1, PrepareOk(1, op - 1, world.stores[0].log[0].hash))
        self.assertEqual(self.replica(0).acks, set())
        self.feed(0, 1, PrepareOk(1, op, self.replica(0).head_hash))
        self.assertEqual(self.replica(0).acks, {1})
        stranger = Received(Member(2, 77), PrepareOk(1, op, self.replica(0).head_hash))
        self.replica(0).step(world.now, stranger)
        self.assertEqual(self.replica(0).acks, {1}, "another incarnation is nobody")

    def test_committed_batches_that_differ_stop_everything(self) -> None:
        world = self.begin(b"a")
        effects = self.feed(2, 0, Commit(1, 1, b"another batch 12", 0, 0))
        self.assertRegex(effects[-1].reason, "^COMMITTED DATA DIFFERS")
        self.assertEqual(self.replica(2).status, HALTED)
        self.assertEqual(self.replica(2).step(world.now, Ticked()), [], "for ever")

    def test_states_that_differ_are_noticed(self) -> None:
        """Either side may have applied first."""
        for first in ("mine", "theirs"):
            with self.subTest(first=first):
                self.setUp()
                world = self.begin(b"a")
                r = self.replica(2)
                if first == "mine":
                    effects = self.feed(2, 0, Commit(1, 1, r.head_hash, r.digest ^ 1, 0))
                else:
                    (batch,) = chain(b"b", after=world.stores[0].log[-1])
                    self.feed(2, 0, Prepare(1, 1, 1, 0, batch.image))
                    r.step(world.now, Persisted(r.generation, batch.op, batch.hash))
                    self.feed(2, 0, Commit(1, 2, batch.hash, 77, 0))
                    effects = r.step(world.now, Applied(2, 78))
                self.assertRegex(effects[-1].reason, "my state differs from the primary's after op")
                self.assertFalse(effects[-1].suspect)

    def test_states_that_differ_are_noticed_although_the_primary_is_a_batch_behind_its_commit(self) -> None:
        """It lets the next batch leave before it has applied the one that was committed just now."""
        world = self.begin(b"a")
        r = self.replica(2)
        second, third = chain(b"b", b"c", after=world.stores[0].log[-1])
        self.feed(2, 0, Prepare(1, 1, 1, r.digest, second.image))
        r.step(world.now, Persisted(r.generation, second.op, second.hash))
        effects = self.feed(2, 0, Prepare(1, 2, 1, r.digest ^ 1, third.image))
        self.assertRegex(effects[-1].reason, "my state differs from the primary's after op 1")

    def test_a_state_that_the_log_does_not_lead_to_is_built_anew(self) -> None:
        world = self.begin(b"a")
        world.feed(0, SnapshotDiffered(1))
        self.assertRegex(world.exits[0][1], "my state differs from what the log leads to at op 1")
        world.run(0.2)
        self.assertEqual((world.primary(), world.members()), (1, (1, 2)))

    def test_every_packet_of_an_older_view_is_answered_with_where_we_are(self) -> None:
        world = self.begin(b"a")
        world.kill(0)
        world.run(0.1)
        effects = self.feed(1, 2, PrepareOk(1, 1, b"h" * 16))
        self.assertIsInstance(effects[0].packet, RecoveryResponse)
        self.assertEqual((effects[0].packet.view, effects[0].packet.status), (2, NORMAL))

    def test_effects_of_a_step_are_given_once(self) -> None:
        world = self.begin()
        effects = self.replica(0).step(world.now, Submitted(1, b"x", 0))
        self.assertEqual([type(e) for e in effects], [Send, Persist], "the packet leaves before the disk is asked: in parallel")
        self.assertEqual(self.replica(0).step(world.now, Idled()), [])

    def test_catching_up_asks_nobody_when_there_is_nobody(self) -> None:
        self.begin()
        r = self.replica(0)
        r.effects = []
        r.ask_state()
        self.assertEqual(r.effects, [], "the primary asks nobody")


class ViewTest(Story):
    def test_1_the_primary_dies_between_its_own_sync_and_forwarding(self) -> None:
        world = self.begin(b"a")
        world.lose = {Prepare}
        world.say(0, b"lost")
        world.kill(0)
        world.lose = set()
        world.run(0.2)
        self.assertEqual(world.primary(), 1)
        world.say(1, b"b")
        world.start(0)
        world.run(3)
        self.assertEqual(self.bodies(0), [b"a", b"b"], "its last batch is cut")
        world.say(1, b"c")
        world.run(0.1)
        self.assert_level(0, 1, 2)

    def test_2_one_of_two_backups_has_the_batch(self) -> None:
        for has, kept in ((1, True), (2, False)):
            with self.subTest(has=has):
                self.setUp()
                world = self.begin(b"a")
                world.part(0, 3 - has)
                world.say(0, b"b")
                world.heal()
                world.kill(0)
                world.run(0.2)
                self.assertEqual(world.primary(), 1)
                self.assert_level(1, 2)
                self.assertEqual(self.bodies(2), [b"a", b"b"] if kept else [b"a"])
                world.say(1, b"c")
                world.run(0.1)
                self.assert_level(1, 2)

    def test_nothing_is_served_before_all_of_the_old_views_is_applied(self) -> None:
        world = self.begin(b"a")
        world.part(0, 2)
        world.say(0, b"b")
        world.heal()
        world.hold(2)
        world.kill(0)
        world.run(0.05)
        r = self.replica(1)
        self.assertEqual((r.status, r.start_op, r.commit, r.serving, r.can_prepare), (NORMAL, 2, 1, False, False))
        world.release(2)
        self.assertEqual((r.commit, r.serving, r.can_prepare), (2, True, True))

    def test_the_others_store_the_view_while_the_new_primary_does(self) -> None:
        """What they answer before its own disk has the view is counted, and commits nothing until then."""
        world = self.begin(b"a")
        world.part(0, 2)
        world.say(0, b"b")
        world.heal()
        world.hold(1)
        world.kill(0)
        world.run(0.02)
        r = self.replica(1)
        self.assertEqual((r.status, self.replica(2).status, r.acks, r.commit), (VIEW_CHANGE, NORMAL, {2}, 1))
        self.assertEqual(len(world.sent(StartView, by=1)), 1)
        world.release(1)
        self.assertEqual((r.status, r.commit, r.serving), (NORMAL, 2, True), "nobody needs to answer again")
        self.assertEqual(len(world.sent(StartView, by=1)), 1)

    def test_a_batch_is_applied_after_the_next_is_stored(self) -> None:
        """Everybody waits for the acknowledgement of the next, only guests of this replica for the replies to this one."""
        world = self.begin(b"a")
        world.lose = {Commit}
        world.say(0, b"b")
        (batch,) = chain(b"c", after=world.stores[0].log[-1])
        effects = self.feed(2, 0, Prepare(1, batch.first_op - 1, batch.first_op - 1, 0, batch.image))
        self.assertEqual([type(e) for e in effects if isinstance(e, (Apply, Persist))], [Persist, Apply])

    def test_2b_the_other_backup_has_another_batch(self) -> None:
        """Two primaries die one after the other, each with a batch only one other has."""
        world = self.begin(b"a")
        world.part(0, 1)
        world.say(0, b"only at 2")
        world.heal()
        world.lose = {StartView}
        world.kill(0)
        world.run(0.05)
        self.assertEqual(self.replica(2).status, VIEW_CHANGE)
        world.hold(2)
        world.lose = set()
        world.run(0.2)
        world.release(2)
        world.run(0.2)
        world.say(1, b"b")
        world.run(0.1)
        self.assert_level(1, 2)
        self.assertEqual(self.bodies(2), [b"a", b"b"])

    def test_3_the_primary_dies_after_commit_before_the_reply(self) -> None:
        world = self.begin(b"a")
        world.lose = {Commit}
        world.say(0, b"b")
        self.assertEqual(self.replica(0).commit, 2)
        world.kill(0)
        world.lose = set()
        world.run(0.2)
        self.assert_level(1, 2)
        self.assertEqual(self.replica(1).applied, 2)

    def test_4_a_backup_dies(self) -> None:
        world = self.begin(b"a")
        world.hold(2)
        world.submit(0, b"b")
        world.settle()
        world.kill(2)
        world.run(0.05)
        self.assertEqual((world.primary(), world.members()), (0, (0, 1)))
        self.assertEqual(world.register[-1].reason, "2 died")
        world.run(0.1)
        self.assert_level(0, 1)

    def test_6_the_new_primary_dies_too(self) -> None:
        for wait in (0.0, 0.0005, 0.003, 0.02):
            with self.subTest(wait=wait):
                self.setUp()
                world = self.begin(b"a")
                world.part(0, 1)
                world.say(0, b"b")
                world.heal()
                world.lose = {StartView}
                world.kill(0)
                world.run(wait)
                world.lose = set()
                world.kill(1)
                world.run(0.2)
                self.assertEqual((world.primary(), world.members()), (2, (2,)))
                world.say(2, b"c")
                self.assertEqual(self.replica(2).applied, self.replica(2).head_op)
                self.assertEqual(self.bodies(2)[-1], b"c")

    def test_7_two_at_once(self) -> None:
        world = self.begin(b"a")
        world.kill(0, 1)
        world.run(0.2)
        self.assertEqual((world.primary(), world.members()), (2, (2,)))
        world.say(2, b"alone")
        self.assertEqual(self.replica(2).applied, 2)

    def test_8_one_after_the_other(self) -> None:
        world = self.begin(b"a")
        world.kill(0)
        world.kill(1)
        world.run(0.3)
        self.assertEqual(world.primary(), 2)

    def test_no_ack_of_an_older_view_leaves_after_a_view_is_adopted(self) -> None:
        world = self.begin(b"a")
        world.hold(2)
        world.submit(0, b"b")
        world.settle()
        world.kill(1)
        world.run(0.02)
        acks = len(world.sent(PrepareOk, by=2))
        self.assertEqual(self.replica(2).view, 2)
        world.run(0.1)
        self.assertEqual(len(world.sent(PrepareOk, by=2)), acks, "the disk of the old view has not answered yet")
        world.release(2)
        world.run(0.2)
        self.assertEqual({p.view for p in world.sent(PrepareOk, by=2)[acks:]}, {2})
        self.assert_level(0, 2)

    def test_a_start_view_is_repeated_until_it_is_answered(self) -> None:
        world = self.begin(b"a")
        world.lose = {StartView}
        world.kill(0)
        world.run(0.15)
        self.assertEqual(self.replica(2).status, VIEW_CHANGE)
        world.lose = set()
        world.run(0.2)
        self.assert_level(1, 2)
        count = len(world.sent(StartView))
        world.run(1.0)
        self.assertEqual(len(world.sent(StartView)), count)

    def test_a_lost_answer_to_start_view_is_given_again(self) -> None:
        world = self.begin(b"a")
        world.lose = {PrepareOk}
        world.kill(0)
        world.run(0.15)
        self.assertEqual((self.replica(2).status, self.replica(1).installed), (NORMAL, set()))
        world.lose = set()
        world.run(0.2)
        self.assertEqual(self.replica(1).installed, {2})
        self.assert_level(1, 2)

    def test_a_batch_that_is_stored_but_not_my_head_any_more(self) -> None:
        world = self.begin(b"a")
        r = self.replica(1)
        r.writing += 1
        self.assertEqual(r.step(world.now, Persisted(r.generation - 1, 7, b"h" * 16)), [])
        self.assertEqual((r.synced, r.writing), (1, 0))

    def test_what_comes_before_its_view_is_read_does_not_get_lost(self) -> None:
        world = self.begin(b"a")
        r = self.replica(2)
        start = StartView(2, 1, r.head_hash, 0, NO_HASH, b"")
        for packet, kept in ((Commit(2, 1, r.head_hash, 0, 0), Commit), (start, StartView), (Commit(2, 1, r.head_hash, 0, 0), StartView)):
            self.feed(2, 1, packet)
            assert r.early is not None
            self.assertIs(type(r.early.packet), kept, "nothing overwrites a StartView but a packet of a newer view")
        self.feed(2, 1, Commit(3, 1, r.head_hash, 0, 0))
        assert r.early is not None
        self.assertEqual(r.early.packet.view, 3)
        world.kill(0)
        world.run(0.2)
        self.assertEqual(r.view, 2)
        self.assertIsNone(r.early)

    def test_an_early_start_view_is_answered_at_once(self) -> None:
        world = self.begin(b"a")
        r = self.replica(2)
        member = self.core(1).me
        self.feed(2, 1, StartView(2, 1, r.head_hash, 0, NO_HASH, world.stores[1].log[0].image))
        world.part(1, 2)
        world.kill(0)
        world.run(0.05)
        self.assertEqual((r.view, r.status, r.primary), (2, NORMAL, member))

    def test_a_primary_that_lacks_committed_batches_stops_everybody(self) -> None:
        world = self.begin(b"a", b"b", b"c")
        world.lose = {StartView}
        world.kill(0)
        world.run(0.05)
        self.assertEqual(self.replica(2).status, VIEW_CHANGE)
        first = world.stores[2].log[0]
        effects = self.feed(2, 1, StartView(2, 1, first.hash, 0, NO_HASH, first.image))
        self.assertRegex(effects[-1].reason, "^COMMITTED DATA LOST AT PRIMARY")

    def test_what_is_committed_is_never_cut(self) -> None:
        self.begin(b"a")
        with self.assertRaises(AssertionError):
            self.replica(1).cut_last("a try")

    def test_a_view_never_goes_back(self) -> None:
        self.begin()
        with self.assertRaises(AssertionError):
            self.replica(1).adopt(1, self.core(0).me, member=True, why="again")

    def test_answers_of_the_disk_from_an_older_generation_count_for_nothing(self) -> None:
        world = self.begin(b"a")
        r = self.replica(0)
        world.hold(0)
        world.submit(0, b"b")
        world.settle()
        world.kill(2)
        world.run(0.05)
        self.assertEqual((r.view, r.status, r.writing), (2, VIEW_CHANGE, 1))
        world.release(0)
        world.run(0.1)
        self.assert_level(0, 1)

    def test_an_old_saved_answer_does_not_move_log_view(self) -> None:
        world = self.begin(b"a")
        r = self.replica(1)
        r.writing += 1
        r.step(world.now, Saved(r.generation - 1, 9))
        self.assertEqual((r.log_view, r.writing), (1, 0))

    def test_a_member_without_the_last_batch_gets_it_with_start_view(self) -> None:
        world = self.begin(b"a")
        world.part(0, 2)
        world.say(0, b"b")
        world.heal()
        world.kill(0)
        world.run(0.2)
        self.assertEqual(len(world.sent(GetState)), 0)
        self.assert_level(1, 2)
        self.assertEqual(self.bodies(2), [b"a", b"b"])

    def test_a_start_view_that_does_not_hold_together_is_ignored(self) -> None:
        world = self.begin(b"a")
        world.part(0, 2)
        world.say(0, b"b")
        world.heal()
        world.lose = {StartView}
        world.kill(0)
        world.run(0.05)
        r, sound = self.replica(2), world.sent(StartView, by=1, to=2)[0]
        self.assertEqual((r.status, r.head_op), (VIEW_CHANGE, 1))
        a, b = world.stores[1].log
        stranger = Batch(first_op=2, count=1, view=1, time=1, prev_hash=a.hash, body=b"x")
        for image in (b.image[:-3], b.image.replace(b"b", b"x"), b.image + b"rest", a.image, stranger.image, b""):
            effects = self.feed(2, 1, StartView(sound.view, sound.op, sound.hash, sound.parent_op, sound.parent_hash, image))
            self.assertRegex(self.said(effects), "ignores StartView: ")
            self.assertEqual((len(effects), r.head_op, r.start_view), (1, 1, None))
        self.tell(2, 1, sound)
        self.assertEqual((r.status, self.bodies(2)), (NORMAL, [b"a", b"b"]))

    def test_a_primary_without_what_i_know_to_be_committed_stops_me(self) -> None:
        world = self.begin(b"a", b"b")
        world.lose = {StartView}
        world.kill(0)
        world.run(0.05)
        a, _ = world.stores[1].log
        effects = self.feed(2, 1, StartView(2, 1, a.hash, 0, NO_HASH, a.image))
        self.assertRegex(effects[-1].reason, "COMMITTED DATA LOST AT PRIMARY")


class RottenWorld(World):
    """Batches rot on the wire, one in three."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.dice, self.rotten = random.Random(seed), 0

    def deliver(self, core: Core, effect: Send) -> None:
        packet = effect.packet
        name = {Prepare: "image", StartView: "image", NewState: "images"}.get(type(packet), "")
        if name and (image := bytearray(getattr(packet, name))) and self.dice.random() < 0.33:
            image[self.dice.randrange(len(image))] ^= 1 << self.dice.randrange(8)
            del image[self.dice.choice((len(image), self.dice.randrange(len(image)))) :]
            packet = msgspec.structs.replace(packet, **{name: bytes(image)})
            self.rotten += 1
        self._send(core, Send(effect.replicas, packet))


class RotOnTheWireTest(unittest.TestCase):
    def test_a_batch_that_rots_on_the_way_ends_nobody(self) -> None:
        patch = mock.patch.dict(CARRY_OUT, {Send: RottenWorld.deliver})
        with patch:
            rotten = sum(self.story(seed) for seed in range(12))
        self.assertGreater(rotten, 100)

    def story(self, seed: int) -> int:
        world = RottenWorld(seed)
        world.start()
        world.run(1)
        for turn in range(12):
            for i in sorted(set(world.ids) - set(world.cores)):
                world.start(i)
            world.run(0.3)
            leading = [core for core in world.cores.values() if core.replica.can_prepare]
            for core in leading:
                world.submit(core.me.replica, b"batch %d" % turn)
            if turn % 3 == 2:
                world.kill(world.dice.choice(sorted(world.cores)))
        world.run(8)
        self.assertEqual(world.exits, [])
        self.assertEqual(world.members(), (0, 1, 2) if len(world.cores) == 3 else tuple(sorted(world.cores)))
        return world.rotten


class CatchUpTest(Story):
    def rejoin(self, i: int = 2, seconds: float = 3.0) -> None:
        self.world.start(i)
        self.world.run(seconds)

    def test_a_learner_gets_what_it_lacks(self) -> None:
        world = self.begin(b"a")
        world.kill(2)
        world.run(0.1)
        for i in range(20):
            world.say(0, b"%d" % i)
        self.rejoin()
        world.run(0.1)
        self.assert_level(0, 1, 2)
        self.assertEqual(world.members(), (0, 1, 2))

    def test_in_pieces(self) -> None:
        world = self.begin(b"a")
        world.kill(2)
        world.run(0.1)
        for _ in range(5):
            world.say(0, b"x" * 400_000)
        self.rejoin()
        self.assertEqual(world.members(), (0, 1, 2))
        pieces = world.sent(NewState, to=2)
        self.assertEqual([piece.joint for piece in pieces], [False, False, True])

    def test_commits_wait_for_the_learner_before_it_is_registered(self) -> None:
        world = self.begin(b"a")
        world.kill(2)
        world.run(0.1)
        world.hold(2)
        world.start(2)
        world.run(0.15)
        self.assertEqual(self.core(0).policy.joint, self.core(2).me)
        op = world.submit(0, b"b")
        world.settle()
        self.assertLess(self.replica(0).commit, op, "joint mode")
        world.release(2)
        world.run(0.3)
        self.assertEqual(world.members(), (0, 1, 2))
        world.run(0.1)
        self.assert_level(0, 1, 2)

    def test_38_joint_mode_ends_when_the_learner_does_not_answer(self) -> None:
        world = self.begin(b"a")
        world.kill(2)
        world.run(0.1)
        world.hold(2)
        world.start(2)
        world.run(0.15)
        op = world.submit(0, b"b")
        world.settle()
        world.run(0.7)
        self.assertEqual(self.replica(0).commit, op)
        self.assertTrue(world.traced(0, "joint mode with 2 closed"))
        world.release(2)
        world.run(3)
        self.assertEqual(world.members(), (0, 1, 2))
        world.run(0.1)
        self.assert_level(0, 1, 2)

    def test_38_a_learner_that_dies_in_joint_mode(self) -> None:
        world = self.begin(b"a")
        world.kill(2)
        world.run(0.1)
        world.hold(2)
        world.start(2)
        world.run(0.15)
        world.submit(0, b"b")
        world.kill(2)
        world.run(0.1)
        self.assert_level(0, 1)

    def test_a_learner_whose_last_batch_the_primary_does_not_have(self) -> None:
        world = self.begin(b"a")
        world.part(0, 1)
        world.say(0, b"only at 0 and 2")
        world.heal()
        world.kill(0, 2)
        world.run(0.2)
        self.assertEqual((world.primary(), self.bodies(1)), (1, [b"a"]))
        world.say(1, b"b")
        world.start(0, 2)
        world.run(8)
        self.assertEqual(world.members(), (0, 1, 2))
        world.say(1, b"c")
        world.run(0.1)
        self.assert_level(0, 1, 2)
        self.assertEqual(self.bodies(0), [b"a", b"b", b"c"])

    def test_by_snapshot(self) -> None:
        world = self.begin(b"a")
        world.kill(2)
        world.run(0.1)
        for i in range(5):
            world.say(0, b"%d" % i)
        world.snapshot(0)
        world.say(0, b"above it")
        self.rejoin()
        world.run(0.1)
        self.assertTrue(world.traced(2, "installed the snapshot of op 6"))
        self.assertEqual((world.stores[2].base_op, self.bodies(2)), (6, [b"above it"]))
        self.assertEqual([batch.body for batch in self.core(2).applied], [b"above it"])
        self.assert_level(0, 1, 2)

    def test_by_snapshot_onto_an_empty_disk(self) -> None:
        world = self.begin(b"a", b"b")
        world.kill(2)
        world.stores[2].__init__()  # type: ignore[misc]
        world.snapshot(0)
        self.rejoin()
        self.assertEqual(world.members(), (0, 1, 2))
        world.say(0, b"c")
        world.run(0.1)
        self.assert_level(0, 1, 2)

    def test_a_snapshot_that_does_not_come_is_asked_for_again(self) -> None:
        world = self.begin(b"a", b"b")
        world.kill(2)
        world.stores[2].__init__()  # type: ignore[misc]
        world.snapshot(0)
        world.fetch_fails = True
        self.rejoin(seconds=2.5)
        self.assertEqual(world.members(), (0, 1))
        self.assertGreater(len(world.sent(SnapshotOffer, to=2)), 1)
        world.fetch_fails = False
        world.run(3)
        self.assertEqual(world.members(), (0, 1, 2))

    def test_an_installed_snapshot_of_an_older_view(self) -> None:
        world = self.begin(b"a", b"b")
        world.kill(2)
        world.stores[2].__init__()  # type: ignore[misc]
        world.snapshot(0)
        world.snapshot(1)
        world.hold(2)
        world.start(2)
        world.run(0.15)
        self.assertEqual([type(e) for e in self.core(2).answers], [Fetched])
        core = self.core(2)
        fetched = core.answers.popleft()
        world.step(core, fetched)
        self.assertEqual(self.replica(2).writing, 1)
        self.assertEqual(self.replica(2).step(world.now, fetched), [], "while it is being installed")
        world.kill(0)
        world.run(0.1)
        world.release(2)
        world.run(3)
        self.assertEqual(world.members(), (1, 2))
        world.say(1, b"c")
        world.run(0.1)
        self.assert_level(1, 2)

    def test_a_fetched_snapshot_of_an_older_view_is_not_installed(self) -> None:
        world = self.begin(b"a")
        r = self.replica(2)
        for generation, status in ((r.generation - 1, LEARNER), (r.generation, NORMAL)):
            r.status = status
            self.assertEqual(r.step(world.now, Fetched(generation, 1, b"h" * 16)), [])
        r.status, r.acked_view = LEARNER, 0
        self.assertEqual(r.step(world.now, Fetched(r.generation, 1, b"h" * 16)), [InstallSnapshot(r.generation, 1, b"h" * 16)])

    def test_the_transfer_begins_again_when_the_view_moves(self) -> None:
        world = self.begin(b"a")
        world.kill(2)
        world.run(0.1)
        for _ in range(5):
            world.say(0, b"x" * 400_000)
        world.hold(2)
        world.start(2)
        world.run(0.12)
        world.kill(0)
        world.run(0.1)
        world.release(2)
        world.run(3)
        self.assertEqual(world.members(), (1, 2))
        world.say(1, b"y")
        world.run(0.1)
        self.assert_level(1, 2)

    def learner(self) -> Replica:
        """Replica 2 came back, and waits for the first answer."""
        world = self.begin(b"a", b"b")
        world.kill(2)
        world.run(0.1)
        world.say(0, b"c")
        world.lose = {NewState}
        world.start(2)
        world.run(0.15)
        r = self.replica(2)
        self.assertEqual((r.status, r.head_op, bool(r.transfer_at)), (LEARNER, 2, True))
        return r

    def test_pieces_that_do_not_fit(self) -> None:
        r = self.learner()
        log = self.world.stores[0].log
        effects = self.feed(2, 0, NewState(2, 1, log[0].hash, b"", False))
        self.assertIsInstance(effects[-1], Cut, "the primary's log goes on before my last batch, which nobody committed as far as I know")
        r = self.setUp() or self.learner()  # type: ignore[func-returns-value]
        self.assertIn("does not follow", self.said(self.feed(2, 0, NewState(2, 7, b"h" * 16, b"", False))))
        self.assertEqual(r.transfer_at, 0.0, "asked for again")

    def test_a_piece_that_is_here_already(self) -> None:
        r = self.learner()
        log = self.world.stores[0].log
        r.acked_view = 2
        effects = self.feed(2, 0, NewState(2, 1, log[0].hash, log[1].image + log[2].image, False))
        self.assertIn("my log holds it already", self.said(effects))
        self.assertEqual((r.new_state, r.head_op), (None, 2))

    def test_a_second_piece_while_the_first_is_being_stored(self) -> None:
        r = self.learner()
        log = self.world.stores[0].log
        r.writing = 1
        self.feed(2, 0, NewState(2, 2, log[1].hash, b"", False))
        self.assertIn("one piece at a time", self.said(self.feed(2, 0, NewState(2, 2, log[1].hash, b"", False))))

    def test_a_broken_piece_is_ignored(self) -> None:
        for wrong in ("an older batch", "another parent", "a gap", "wrong hash", "header cut short"):
            with self.subTest(wrong=wrong):
                self.setUp()
                r = self.learner()
                log = self.world.stores[0].log
                image = {
                    "an older batch": log[0].image,
                    "another parent": Batch(first_op=3, count=1, view=1, time=1, prev_hash=b"h" * 16, body=b"x").image,
                    "a gap": Batch(first_op=4, count=1, view=1, time=1, prev_hash=log[1].hash, body=b"x").image,
                    "wrong hash": log[2].image.replace(b"c", b"x"),
                    "header cut short": log[2].image + b"rest",
                }[wrong]
                effects = self.feed(2, 0, NewState(2, 2, log[1].hash, image, False))
                self.assertEqual([type(e) for e in effects], [Trace])
                self.assertRegex(self.said(effects), "ignores NewState: (wrong hash|header cut short|batch .* does not follow op 2)")
                self.assertEqual((r.status, r.head_op, r.new_state), (LEARNER, 2, None))

    def test_a_log_that_was_acknowledged_is_never_shortened_in_that_view(self) -> None:
        r = self.learner()
        log = self.world.stores[0].log
        r.acked_view = 2
        effects = self.feed(2, 0, NewState(2, 1, log[0].hash, b"", False))
        self.assertRegex(effects[-1].reason, "would shorten a log that it has acknowledged")

    def test_an_empty_piece_that_is_no_end(self) -> None:
        r = self.learner()
        tip = self.world.stores[0].log[1].hash
        self.assertEqual(self.feed(2, 0, NewState(2, 2, tip, b"", False)), [], "nothing more for now: its next announcement goes on")
        r.transfer_at = self.world.now
        effects = self.feed(2, 0, NewState(2, 2, tip, b"", True))
        self.assertEqual([type(e).__name__ for e in effects], ["SaveLogView"])

    def test_level_again_in_the_same_view(self) -> None:
        """Joint mode was closed and opened again: log_view is there already."""
        r = self.learner()
        tip = self.world.stores[0].log[1].hash
        r.log_view = r.view
        self.world.stores[2].log_view = r.view
        effects = self.feed(2, 0, NewState(2, 2, tip, b"", True))
        self.assertIsInstance(effects[-1].packet, PrepareOk)

    def test_snapshots_that_are_no_use(self) -> None:
        r = self.learner()
        self.assertIn("older than my log", self.said(self.feed(2, 0, SnapshotOffer(2, 1, b"h" * 16, b""))))
        r.acked_view = 2
        self.assertIn("older than my log", self.said(self.feed(2, 0, SnapshotOffer(2, 2, b"h" * 16, b""))))

    def test_a_learner_whose_joint_mode_was_closed_and_that_lags_too_far_begins_anew(self) -> None:
        """It may not replace a log that it has acknowledged in this view; its next incarnation has acknowledged nothing."""
        r = self.learner()
        r.acked_view = 2
        effects = self.feed(2, 0, SnapshotOffer(2, 9, b"h" * 16, b""))
        self.assertRegex(effects[-1].reason, "may not replace a log that it has acknowledged")
        self.assertFalse(effects[-1].suspect)

    def test_37_a_primary_without_what_the_learner_holds_stops(self) -> None:
        world = self.begin(b"a", b"b", b"c")
        world.kill(2)
        world.run(0.1)
        for store in world.stores[:2]:
            del store.log[1:]  # a lying disk
        world.answered.clear()
        core = self.core(0)
        core.replica.head_op, core.replica.head_hash, core.replica.commit, core.replica.applied = 1, world.stores[0].tip()[1], 1, 1
        core.replica.parent_op, core.replica.parent_hash, core.replica.last = 0, NO_HASH, world.stores[0].log[0]
        world.start(2)
        world.run(0.2)
        self.assertIn((0, "COMMITTED DATA LOST AT PRIMARY: replica 2 holds op 2, which this log does not have"), world.exits)


class DiskTest(Story):
    def test_28_a_backup_whose_disk_fails_leaves(self) -> None:
        world = self.begin(b"a")
        world.failing[2] = ("EIO", False)
        world.say(0, b"b")
        world.run(0.3)
        self.assertEqual(world.members(), (0, 1))
        self.assertEqual(world.exits, [(2, "EIO")])
        self.assertEqual(world.stores[2].damage, "an earlier sync failed on this disk")
        self.assert_level(0, 1)

    def test_27_a_primary_whose_disk_is_full_hands_over(self) -> None:
        world = self.begin(b"a")
        world.failing[0] = ("full", True)
        world.submit(0, b"b")
        world.settle()
        world.run(0.2)
        self.assertEqual((world.primary(), world.members(), world.stores[0].damage), (1, (1, 2), ""))
        self.assert_level(1, 2)
        world.say(1, b"c")
        self.assertEqual((world.exits, self.replica(0).status, len(world.stores[0].log)), ([], LEARNER, 1), "it waits for room")
        world.make_room(0)
        world.run(1)
        self.assertEqual(world.members(), (0, 1, 2))
        self.assert_level(0, 1, 2)

    def test_27_the_last_one_goes_on_reading(self) -> None:
        for full in (True, False):
            with self.subTest(full=full):
                self.setUp()
                world = self.begin(b"a")
                world.kill(0, 1)
                world.run(0.2)
                world.failing[2] = ("no room", full)
                world.submit(2, b"b")
                world.settle()
                r = self.replica(2)
                self.assertEqual((r.status, r.serving, r.can_prepare, r.commit), (READ_ONLY, True, False, 1))
                world.run(11)
                self.assertEqual(r.status, READ_ONLY, "still no room")
                self.assertFalse(world.traced(2, "read_only ends"))
                world.make_room(2)
                world.run(1)
                self.assertEqual((r.status, r.commit), (NORMAL, 2) if full else (READ_ONLY, 1), "a failed sync is never tried again")

    def test_an_ack_to_a_read_only_primary_of_a_learner(self) -> None:
        """2.6.7: the last member whose disk fails gives itself up to a learner that holds all of its commits."""
        world = self.begin(b"a", b"b")
        world.kill(0, 1)
        world.run(0.2)
        world.failing[2] = ("EIO", False)
        world.submit(2, b"lost")
        world.settle()
        world.start(1)
        world.run(3)
        self.assertEqual((world.primary(), world.members()), (1, (1,)))
        self.assertIn((2, "handed over to a replica whose disk works"), world.exits)
        world.say(1, b"c")
        self.assertEqual(self.bodies(1), [b"a", b"b", b"c"])

    def test_disk_failure_is_an_answer_too(self) -> None:
        world = self.begin(b"a")
        r = self.replica(1)
        r.writing = 1
        effects = r.step(world.now, DiskFailed(r.generation, "EIO", False))
        self.assertEqual([type(e) for e in effects], [Send], "it stays until a view shows it out: there may be nobody else")
        self.assertIsInstance(effects[0].packet, Leave)
        self.assertEqual(r.writing, 1, "and nothing more is written")


class TableTest(unittest.TestCase):
    def test_the_page_and_the_table_say_the_same(self) -> None:
        page = replication.__doc__ or ""
        for (before, what), (after, by) in STATUS_CHANGES.items():
            row = f"{before:<14}{what:<37}{after:<14}{by}"
            self.assertIn(" ".join(row.split()), [" ".join(line.split()) for line in page.splitlines()])
            self.assertTrue(hasattr(Replica, by))

    def test_statuses_change_only_as_the_table_says(self) -> None:
        world = World()
        seen: set[tuple[str, str]] = set()
        original = World.step

        def step(self: World, core: Core, event: Any) -> None:
            before = core.replica.status
            original(self, core, event)
            if core.replica.status not in (before, HALTED):
                seen.add((before, core.replica.status))

        World.step = step  # type: ignore[method-assign]
        self.addCleanup(setattr, World, "step", original)
        world.start()
        world.run(1)
        world.say(0)
        world.freeze(0)
        world.run(1.5)
        world.thaw(0)
        world.run(2)
        world.kill(world.primary())
        world.run(0.2)
        world.kill(world.primary())
        world.run(0.2)
        last = world.primary()
        world.failing[last] = ("full", True)
        world.submit(last)
        world.settle()
        world.start(*{0, 1, 2} - {last})
        world.run(3)
        world.make_room(last)
        world.run(3)
        full = world.members()
        world.failing.update(dict.fromkeys(full, ("full", True)))
        world.submit(world.primary())
        world.run(1)
        world.make_room(*full)
        world.run(3)
        allowed = {(before, after) for (before, _), (after, _) in STATUS_CHANGES.items()}
        self.assertLessEqual(seen, allowed)
        self.assertLessEqual(
            {
                (LEARNER, VIEW_CHANGE),
                (VIEW_CHANGE, NORMAL),
                (NORMAL, VIEW_CHANGE),
                (NORMAL, LEARNER),
                (NORMAL, READ_ONLY),
                (READ_ONLY, LEARNER),
                (READ_ONLY, VIEW_CHANGE),
            },
            seen,
        )

    def test_every_event_has_a_handler(self) -> None:
        import events
        import steps
        from tests.cores import CARRY_OUT

        halves = [Path(str(module.__file__)).read_text("utf-8").split("# --- effects") for module in (events, steps)]
        for half, table in zip(zip(*halves, strict=True), (HANDLERS, CARRY_OUT), strict=True):
            names = {name for text in half for name in re.findall(r"^class (\w+)", text, re.M)} - {"Step"}
            self.assertEqual(names, {kind.__name__ for kind in table})

    def test_every_packet_has_a_handler_or_is_the_desks_affair(self) -> None:
        import typing

        import packets

        desk = {packets.Forward, packets.ForwardQuery, packets.Forwarded, packets.GetChunk, packets.Chunk}
        of_policies = {*survivor.PACKET_HANDLERS, *majority.PACKET_HANDLERS}
        self.assertEqual(set(replication.PACKET_HANDLERS) | of_policies | desk, set(typing.get_args(packets.AnyPacket)))


class SmallTest(Story):
    def test_it_says_what_it_is(self) -> None:
        self.begin(b"a")
        self.assertEqual(repr(self.replica(0)), "replica 0 normal view 1/1 head 1 commit 1 applied 1")

    def test_a_log_read_that_nobody_waits_for(self) -> None:
        world = self.begin(b"a")
        event = LogRead(self.core(2).me, GetState(1, 0, NO_HASH, 0, NO_HASH), 0, NO_HASH, b"", True, 1)
        self.assertEqual(self.replica(1).step(world.now, event), [])

    def test_apply_is_ordered_once_and_in_order(self) -> None:
        world = self.begin(b"a", b"b", b"c")
        for i in range(3):
            self.assertEqual([batch.body for batch in self.core(i).applied], [b"a", b"b", b"c"])
        effects = self.feed(1, 0, Commit(1, 3, self.replica(1).head_hash, 0, 0))
        self.assertFalse([e for e in effects if isinstance(e, Apply)])
        self.assertEqual(world.answered.keys(), {1, 2, 3})

    def test_commit_of_more_than_i_have_does_not_run_ahead(self) -> None:
        self.begin(b"a")
        r = self.replica(1)
        self.feed(1, 0, Commit(1, 9, b"h" * 16, 0, 7))
        self.assertEqual((r.commit, r.applied), (1, 1))
        self.assertEqual(self.feed(1, 0, Commit(1, 1, r.head_hash, 0, 0)), [])

    def test_a_heartbeat_is_answered_with_its_round(self) -> None:
        self.begin(b"a")
        effects = self.feed(1, 0, Commit(1, 1, self.replica(1).head_hash, 0, 77))
        (answer,) = effects
        self.assertEqual((answer.replicas, answer.packet), ((0,), CommitOk(1, 77, 1)))

    def test_heartbeats_come_at_their_pace(self) -> None:
        world = self.begin(b"a")
        before = len(world.sent(Commit, to=1))
        world.run(1.0)
        self.assertIn(len(world.sent(Commit, to=1)) - before, range(13, 22), "50 ms, on a tick of 25 ms")

    def test_a_demoted_primary_has_nothing_in_flight(self) -> None:
        world = self.begin(b"a")
        world.lose = {Prepare}
        world.say(0, b"nobody hears it")
        world.freeze(0)
        world.run(1.3)
        self.assertNotIn(0, world.members())
        world.lose = {NewState}
        world.thaw(0)
        world.run(0.3)
        r = self.replica(0)
        self.assertEqual((r.status, r.in_flight, r.new_state, r.goal), (LEARNER, None, None, ""))

    def test_a_learner_announces_itself(self) -> None:
        world = self.world
        world.start(1)
        world.run(0.3)
        self.assertFalse(world.sent(Recovery), "to nobody, if nobody is linked")
        world.start(2)
        world.run(0.3)
        self.assertTrue(all(p.empty and p.eligible is False for p in world.sent(Recovery)))


if __name__ == "__main__":
    unittest.main()
