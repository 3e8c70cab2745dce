"""Policy `majority`: who leads. Stories of cores on hosts of their own; numbers are rows of the adversarial table."""

from __future__ import annotations

from typing import Any

from batches import NO_HASH
from events import (
    Confirm,
    DiskFailed,
    Evaluated,
    Exit,
    Linked,
    Received,
    Remember,
    SaveView,
    Send,
    SnapshotRead,
    StopAsked,
    Ticked,
    Unlinked,
    ViewSaved,
)
from majority import ABDICATE, CUT_OFF, Majority
from packets import (
    Commit,
    CommitOk,
    DoViewChange,
    Forward,
    GetState,
    LastMet,
    Leave,
    Member,
    NewState,
    Prepare,
    PrepareOk,
    RecoveryResponse,
    StartView,
    StartViewChange,
)
from policy import ERA, Timers
from replication import LEARNER, NORMAL, VIEW_CHANGE
from tests.cores import Store
from tests.separate import TIMERS, Hosts
from tests.test_replication import Story


class HostsStory(Story):
    world: Hosts

    def setUp(self) -> None:
        self.world = Hosts()

    def begin(self, *bodies: bytes) -> Hosts:
        """Three cores in view 3, which replica 0 leads, with these batches committed everywhere."""
        super().begin(*bodies)
        return self.world

    def policy(self, i: int) -> Majority:
        policy = self.world.cores[i].policy
        assert isinstance(policy, Majority)
        return policy

    def five(self, *bodies: bytes) -> Hosts:
        self.world = Hosts(5)
        return self.begin(*bodies)

    def sent_by(self, effects: list[Any], kind: type) -> list[Any]:
        return [e.packet for e in effects if type(e) is Send and type(e.packet) is kind]


class FirstStartTest(HostsStory):
    def test_all_must_be_there(self) -> None:
        world = self.world
        world.start(0, 1)
        world.run(3)
        self.assertEqual(world.view(), 0)
        self.assertEqual(self.policy(0).waiting, "for replica 2 to answer: this disk is empty")
        self.assertEqual(self.policy(0).members(), ())
        world.start(2)
        world.run(0.5)
        self.assertEqual((world.primary(), world.view()), (0, 3))
        world.say(0, b"a")
        world.run(0.1)
        self.assert_level(0, 1, 2)

    def test_a_first_start_that_ended_half_way(self) -> None:
        """One had written the first view down; the others had not, and nobody can have acknowledged anything."""
        world = self.world
        world.stores[1].view = 3
        world.start()
        world.run(1)
        world.say(world.primary(), b"a")
        world.run(0.1)
        self.assert_level(0, 1, 2)

    def test_where_nothing_was_stored_a_promise_may_have_been_given(self) -> None:
        """It had promised view 4 to replica 1, which begins it: what 0 committed with it in view 3 would be cut there."""
        world = self.begin()
        before = len(world.sent(PrepareOk, by=2))
        world.kill(2)
        world.wipe(2)
        world.lose = {RecoveryResponse}
        world.start(2)
        world.block(1, 2)
        inc = self.core(2).me.inc
        self.tell(2, 1, RecoveryResponse(4, inc, VIEW_CHANGE, 0, 0, True, False))
        self.tell(2, 0, RecoveryResponse(3, inc, NORMAL, 0, 0, True, False))
        world.run(1)
        self.assertGreaterEqual(self.replica(2).view, 4)
        self.assertEqual([ack for ack in world.sent(PrepareOk, by=2)[before:] if ack.view < 4], [])

    def test_one_alone_is_a_majority(self) -> None:
        self.world = world = Hosts(1)
        world.start()
        world.run(1)
        world.say(0, b"a")
        self.assertTrue(world.ask(0, 1))
        world.kill(0)
        world.start(0)
        world.run(1)
        self.assertEqual((self.replica(0).commit, world.primary()), (1, 0))
        self.assertEqual(world.view(), 2, "it never goes on in its old view")
        self.assertEqual(self.policy(0).members(), (self.core(0).me,))

    def test_one_alone_whose_disk_is_not_trusted_waits_for_the_operator(self) -> None:
        self.world = world = Hosts(1)
        world.stores[0].damage = "a bad sector"
        world.start()
        world.run(1)
        self.assertRegex(self.policy(0).waiting, "for the operator: .*a bad sector")


class FailoverTest(HostsStory):
    def test_a_killed_primary_is_missed_at_once(self) -> None:
        world = self.begin(b"a")
        world.kill(0)
        world.run(0.1)
        self.assertEqual((world.primary(), world.view()), (1, 4))
        world.say(1, b"b")
        world.start(0)
        world.run(1)
        self.assert_level(0, 1, 2)

    def test_a_silent_primary_is_missed_after_a_while(self) -> None:
        world = self.begin(b"a")
        world.isolate(0)
        world.run(0.4)
        self.assertEqual(world.view(), 3)
        world.run(0.4)
        self.assertEqual(world.primary(), 1)
        self.assertTrue(world.traced(1, "asks for view 4: 0 was silent for 5"))
        world.heal()
        world.run(1)
        self.assertEqual(self.replica(0).view, 4)
        world.say(1, b"b")
        world.run(0.2)
        self.assert_level(0, 1, 2)

    def test_one_cut_wire_moves_nobody(self) -> None:
        """41: the backup that does not hear the primary asks in vain, since the other hears it well."""
        world = self.begin(b"a")
        world.block(0, 2)
        world.run(3)
        self.assertEqual(world.view(), 3)
        self.assertGreater(len(world.sent(StartViewChange, by=2)), 10)
        self.assertEqual(self.policy(2).reachable(), 2, "the other one answers")
        world.say(0, b"b")
        world.heal()
        world.run(2)
        self.assert_level(0, 1, 2)

    def test_a_broken_link_alone_moves_nobody(self) -> None:
        world = self.begin(b"a")
        world.unlink(self.core(0), self.core(2))
        world.settle()
        world.run(1)
        self.assertEqual(world.view(), 3)
        world.link(self.core(0), self.core(2))
        world.say(0, b"b")
        world.run(0.5)
        self.assert_level(0, 1, 2)

    def test_24_a_primary_without_a_majority_stops_serving(self) -> None:
        world = self.begin(b"a")
        world.isolate(0)
        world.run(ABDICATE + 0.2)
        self.assertFalse(self.replica(0).serving)
        self.assertEqual(self.policy(0).reachable(), 1)
        self.assertTrue(world.traced(0, "asks for view 4: 0 reaches 1 of 3 replicas"))

    def test_24_it_takes_nothing_and_answers_nothing_in_between(self) -> None:
        world = self.begin(b"a")
        world.isolate(0)
        world.run(0.8)
        self.assertTrue(self.replica(0).serving, "it has not noticed yet")
        world.submit(0, b"lost")
        world.settle()
        world.say(1, b"b")
        self.assertFalse(world.ask(0, 1), "nobody confirms the round")
        self.assertEqual(self.replica(0).commit, 1)
        world.heal()
        world.run(1)
        self.assert_level(0, 1, 2)
        self.assertEqual(self.bodies(0), [b"a", b"b"])

    def test_a_primary_that_hears_nobody_but_is_heard_gives_way(self) -> None:
        world = self.begin(b"a")
        world.block(1, 0)
        world.block(2, 0)
        world.run(2)
        self.assertEqual(world.primary(), 1)

    def test_a_batch_that_one_backup_has_survives(self) -> None:
        """2: the primary died after one of two had stored it: the best log of a majority has it."""
        world = self.begin(b"a")
        world.block(0, 1)
        op = world.submit(0, b"b")
        world.settle()
        self.assertEqual(self.replica(0).commit, op, "it and replica 2 are a majority")
        world.kill(0)
        world.heal()
        world.run(1)
        self.assertEqual(world.primary(), 1)
        self.assertTrue(world.traced(1, "fetches the log of 2: op 2 of view 3; mine is op 1 of view 3"))
        world.run(0.2)
        self.assert_level(1, 2)
        self.assertEqual(self.bodies(1), [b"a", b"b"])

    def test_a_log_of_a_later_view_beats_a_longer_one(self) -> None:
        world = self.begin(b"a")
        world.isolate(0)
        world.submit(0, b"never acknowledged", 3)
        world.settle()
        world.run(1)
        self.assertEqual(world.primary(), 1)
        world.say(1, b"b")
        world.kill(1)
        world.heal()
        world.run(2)
        self.assertEqual(world.primary(), 2)
        world.run(0.5)
        self.assert_level(0, 2)
        self.assertEqual(self.bodies(0), [b"a", b"b"])

    def test_the_primary_of_the_next_view_is_dead_too(self) -> None:
        world = self.five(b"a")
        first = world.primary()
        world.kill(0, 1)
        world.run(2)
        self.assertEqual((first, world.primary()), (0, 2))
        self.assertTrue(any(world.traced(i, "asks for view 7") for i in (2, 3, 4)))
        world.say(2, b"b")
        world.run(0.1)
        self.assert_level(2, 3, 4)

    def test_a_minority_of_five_serves_nothing(self) -> None:
        world = self.five(b"a")
        world.kill(1, 2, 3)
        world.run(2)
        self.assertFalse(any(c.replica.serving for c in world.cores.values()))
        world.start(3)
        world.run(2)
        world.say(world.primary(), b"b")

    def test_backups_know_whether_they_are_of_a_majority(self) -> None:
        """In a quiet cluster too, where nobody but the primary has anything to say to them."""
        world = self.five(b"a")
        for _ in range(3):
            world.run(2 * ABDICATE)
            self.assertEqual({(self.policy(i).reachable(), self.policy(i).is_cut_off()) for i in world.ids}, {(5, False)})
        primary = world.primary()
        minority = [primary, (primary + 1) % 5]
        world.isolate(*minority)
        world.run(ABDICATE + 2 * CUT_OFF)
        for i in world.ids:
            self.assertEqual((self.policy(i).reachable(), self.policy(i).is_cut_off()), (2, True) if i in minority else (3, False), i)
        world.heal()
        world.run(1.0)
        self.assertEqual([i for i in world.ids if self.policy(i).is_cut_off()], [])
        world.say(world.primary(), b"b")

    def test_who_has_never_seen_a_view_is_not_cut_off(self) -> None:
        """It waits for the first one, which is another matter."""
        self.world.start(0)
        self.world.run(5.0)
        self.assertFalse(self.policy(0).is_cut_off())

    def test_links_that_break_together_cut_nobody_off_at_once(self) -> None:
        world = self.begin()
        world.kill(1, 2)
        world.run(CUT_OFF / 2)
        self.assertFalse(self.policy(0).is_cut_off())
        world.run(CUT_OFF)
        self.assertEqual((self.policy(0).reachable(), self.policy(0).is_cut_off()), (1, True))

    def test_a_primary_of_a_view_that_does_not_begin_asks_for_the_next(self) -> None:
        world = self.begin(b"a")
        world.lose = {DoViewChange}
        world.kill(0)
        world.run(1.0)
        self.assertTrue(world.traced(1, "asks for view 5: view 4 did not begin within"))
        world.lose = set()
        world.run(2)
        world.say(world.primary(), b"b")

    def test_the_best_log_dies_while_it_is_fetched(self) -> None:
        world = self.begin(b"a")
        world.block(0, 1)
        world.say(0, b"b")
        world.lose = {GetState}
        world.kill(0)
        world.run(0.1)
        self.assertEqual(self.replica(1).source, self.core(2).me)
        world.kill(2)
        world.lose = set()
        world.heal()
        world.run(1)
        world.start(0, 2)
        world.run(2)
        self.assertIn(world.primary(), (0, 1, 2))
        world.run(0.5)
        self.assert_level(0, 1, 2)
        self.assertEqual(self.bodies(1), [b"a", b"b"])

    def test_a_hung_disk_of_the_primary(self) -> None:
        world = self.begin(b"a")
        world.hold(0)
        world.submit(0, b"b")
        world.settle()
        world.run(2.5)
        self.assertTrue(world.traced(0, "asks for view 4: the disk of 0 does not answer"))
        self.assertEqual(world.primary(), 1)
        self.assertEqual(self.replica(1).commit, 2, "both backups had it")

    def test_the_next_primary_applies_what_was_committed_before_its_disk_had_it(self) -> None:
        """It was told of the commit when it could not apply the batch yet, and nobody tells a primary."""
        world = self.begin(b"a")
        world.hold(1)
        world.say(0, b"b")
        world.run(0.2)
        self.assertEqual((self.replica(1).commit, self.replica(1).applied), (2, 1))
        world.kill(0)
        world.release(1)
        world.run(1)
        self.assertEqual((world.primary(), self.replica(1).applied), (1, 2))
        world.say(1)
        self.assertEqual(self.replica(1).applied, 3)

    def test_a_primary_that_never_commits_is_not_believed(self) -> None:
        world = self.begin(b"a")
        world.lose = {PrepareOk}
        world.submit(0, b"b")
        world.settle()
        world.run(4.5)
        self.assertTrue(world.traced(1, "asks for view 4: 0 did not commit a batch for 4"))
        world.lose = set()
        world.run(1)
        self.assertEqual(self.replica(world.primary()).commit, 2)

    def test_all_killed_at_once(self) -> None:
        world = self.begin(b"a", b"b")
        world.kill(0, 1, 2)
        world.start(1, 2)
        world.run(2)
        world.say(world.primary(), b"c")
        world.start(0)
        world.run(1)
        self.assert_level(0, 1, 2)
        self.assertEqual(self.bodies(0), [b"a", b"b", b"c"])

    def test_a_view_that_was_written_down_and_not_begun(self) -> None:
        world = self.begin(b"a")
        world.lose = {StartView}
        world.kill(0)
        world.run(0.3)
        self.assertEqual([world.stores[i].view for i in (1, 2)], [4, 4])
        world.kill(1, 2)
        world.lose = set()
        world.start(1, 2)
        world.run(1)
        world.say(world.primary(), b"b")

    def test_13_a_frozen_primary_steps_back(self) -> None:
        world = self.begin(b"a")
        world.freeze(0)
        world.run(1.0)
        self.assertEqual(world.primary(), 1)
        world.say(1, b"b")
        world.thaw(0)
        self.assertTrue(world.traced(0, "stood still: forgets its grievances"))
        world.run(1)
        self.assert_level(0, 1, 2)

    def test_a_frozen_backup_has_its_ack_timer_put_back(self) -> None:
        world = self.begin(b"a")
        world.lose = {PrepareOk}
        world.submit(0, b"b")
        world.settle()
        world.freeze(2)
        world.run(1)
        world.thaw(2)
        self.assertEqual(self.replica(2).acked_at, world.now)
        world.unlink(self.core(1), self.core(2))
        world.settle()
        world.freeze(2)
        world.run(1)
        world.thaw(2)
        self.assertLess(self.policy(2).peers[1].heard, world.now, "who is not linked stays unheard")


class BehindTest(HostsStory):
    def test_a_backup_far_behind_catches_up_without_a_new_view(self) -> None:
        world = self.begin(b"a")
        world.isolate(2)
        for i in range(20):
            world.say(0, b"%d" % i)
        world.heal()
        world.run(2)
        self.assertEqual(world.view(), 3)
        self.assert_level(0, 1, 2)

    def test_a_new_view_finds_a_backup_far_behind(self) -> None:
        world = self.begin(b"a")
        world.isolate(2)
        for i in range(20):
            world.say(0, b"%d" % i)
        world.kill(0)
        world.heal()
        world.run(2)
        world.say(world.primary(), b"end")
        world.run(0.5)
        self.assert_level(1, 2)

    def test_a_new_primary_far_behind(self) -> None:
        world = self.begin(b"a")
        world.isolate(1)
        for i in range(20):
            world.say(0, b"%d" % i)
        world.kill(0)
        world.heal()
        world.run(2)
        self.assertEqual(len(self.bodies(world.primary())), 21)
        world.run(0.5)
        self.assert_level(1, 2)

    def test_by_snapshot(self) -> None:
        for behind in (1, 2):
            with self.subTest(behind=behind):
                self.setUp()
                world = self.begin(b"a")
                world.isolate(behind)
                for i in range(5):
                    world.say(0, b"%d" % i)
                for i in range(3):
                    if i != behind:
                        world.snapshot(i)
                world.kill(0)
                world.heal()
                world.run(2)
                world.say(world.primary(), b"end")
                world.run(0.5)
                self.assert_level(1, 2)
                self.assertEqual(world.stores[behind].base_op, 5)

    def test_a_backup_behind_by_snapshot_in_a_running_view(self) -> None:
        world = self.begin(b"a")
        world.isolate(2)
        for i in range(5):
            world.say(0, b"%d" % i)
        world.snapshot(0)
        world.heal()
        world.run(2)
        self.assertEqual((world.view(), world.stores[2].base_op), (3, 6))
        self.assert_level(0, 1, 2)

    def test_a_backup_that_starts_again_far_behind(self) -> None:
        world = self.begin(b"a")
        world.kill(2)
        for i in range(5):
            world.say(0, b"%d" % i)
        world.start(2)
        world.run(1)
        self.assertEqual(world.view(), 3)
        self.assert_level(0, 1, 2)

    def test_a_piece_that_gets_lost_is_asked_for_again(self) -> None:
        world = self.begin(b"a")
        world.isolate(2)
        for i in range(5):
            world.say(0, b"%d" % i)
        world.heal()
        world.lose = {GetState}
        world.run(0.3)
        asked = len(world.sent(GetState, by=2))
        world.run(2.5)
        self.assertGreater(len(world.sent(GetState, by=2)), asked)
        world.lose = set()
        world.run(2)
        self.assert_level(0, 1, 2)

    def test_a_primary_takes_nothing_that_it_asked_for_before(self) -> None:
        """The answer to its last question comes when it leads already: it would cut its own log."""
        world = self.begin(b"a")
        world.isolate(1)
        for body in (b"b", b"c", b"d"):
            world.say(0, body)
        world.kill(0)
        world.heal()
        world.run(1)
        self.assertEqual(world.primary(), 1)
        late = NewState(4, self.replica(1).head_op, self.replica(1).head_hash, b"", True)
        world.say(1, b"e")
        self.assertIn("not from my primary", self.said(self.feed(1, 2, late)))
        self.assertEqual((self.replica(1).source, self.replica(1).transfer_at), (None, 0.0))

    def test_a_start_view_that_is_older_than_what_was_fetched_cuts_nothing(self) -> None:
        """It has the view's log in part, beyond where the view began, and is told again where it began."""
        world = self.begin(b"a")
        world.isolate(2)
        for body in (b"b", b"c", b"d"):
            world.say(0, body)
        world.heal()
        world.lose = {StartView, NewState}
        world.kill(0)
        world.run(0.2)
        r = self.replica(2)
        start = self.replica(1).make_start_view()
        world.lose = {StartView}
        self.tell(2, 1, start)
        world.run(1.5)
        r.taken_view, r.status, head = r.view, VIEW_CHANGE, r.head_op
        older = StartView(r.view, r.parent_op, r.parent_hash, 0, NO_HASH, b"")
        r.on_start_view(self.core(1).me, older)
        self.assertEqual(r.head_op, head)

    def test_an_empty_answer_that_is_late_is_no_reason_to_go(self) -> None:
        world = self.begin(b"a")
        r = self.replica(2)
        r.transfer_at = world.now
        base = (r.head_op, r.head_hash)
        world.say(0, b"b")
        r.transfer_at, r.commit = world.now, 1
        self.assertIn("before my last batch came", self.said(self.feed(2, 0, NewState(3, *base, b"", True))))
        self.assertEqual(world.exits, [])

    def test_who_may_have_a_log(self) -> None:
        self.begin(b"a")
        two = self.core(2).me
        self.assertEqual(self.policy(0).refuses(two), "")
        self.assertEqual(self.policy(1).refuses(two), "I do not lead this view")
        self.replica(1).status = VIEW_CHANGE
        self.assertEqual(self.policy(1).refuses(self.core(0).me), "")


class ReadTest(HostsStory):
    def test_a_round_that_was_sent_before_confirms_nothing(self) -> None:
        world = self.begin(b"a")
        r = self.replica(0)
        before = r.round
        effects = r.step(world.now, Evaluated(1))
        self.assertEqual([p.round for p in self.sent_by(effects, Commit)], [before + 1])
        early = r.step(world.now, Received(self.core(1).me, CommitOk(3, before, 1)))
        self.assertEqual(early, [])
        self.assertEqual(r.step(world.now, Received(self.core(1).me, CommitOk(3, before + 1, 1))), [Confirm(1)])
        self.assertEqual(r.step(world.now, Received(self.core(2).me, CommitOk(3, before + 1, 1))), [], "once")

    def test_one_round_confirms_all_that_was_evaluated_before(self) -> None:
        world = self.begin(b"a")
        r = self.replica(0)
        for number in (1, 2, 3):
            r.step(world.now, Evaluated(number))
        last = r.round
        self.assertEqual(r.step(world.now, Received(self.core(1).me, CommitOk(3, last - 1, 1))), [Confirm(2)])
        self.assertEqual(r.step(world.now, Received(self.core(1).me, CommitOk(3, last, 1))), [Confirm(3)])

    def test_five_need_two_others(self) -> None:
        world = self.five(b"a")
        r = self.replica(0)
        r.step(world.now, Evaluated(1))
        self.assertEqual(r.step(world.now, Received(self.core(1).me, CommitOk(5, r.round, 1))), [])
        self.assertEqual(r.step(world.now, Received(self.core(2).me, CommitOk(5, r.round, 1))), [Confirm(1)])

    def test_a_replica_that_changes_view_confirms_nothing(self) -> None:
        world = self.begin(b"a")
        self.replica(1).status = self.replica(2).status = VIEW_CHANGE
        self.assertFalse(world.ask(0, 1))

    def test_a_new_view_forgets_what_was_evaluated(self) -> None:
        world = self.begin(b"a")
        world.isolate(0)
        world.step(self.core(0), Evaluated(1))
        world.run(1.0)
        world.heal()
        world.run(1.0)
        self.assertEqual((self.core(0).confirmed, self.policy(0).rounds), (0, []))


class VoteTest(HostsStory):
    def test_the_view_is_on_the_disk_before_anything_is_said_in_it(self) -> None:
        world = self.begin(b"a")
        world.hold(1, 2)
        world.kill(0)
        world.run(0.3)
        self.assertEqual([self.replica(i).view for i in (1, 2)], [3, 3])
        self.assertEqual([p for p in world.sent(DoViewChange) if p.view > 3], [])
        self.assertEqual([type(a) for a in self.core(1).answers], [ViewSaved])
        world.release(1)
        world.release(2)
        world.run(0.3)
        self.assertEqual(world.primary(), 1)

    def test_a_wish_does_not_last(self) -> None:
        world = self.five(b"a")
        self.tell(3, 1, StartViewChange(5, 6))
        world.run(1)
        self.tell(3, 2, StartViewChange(5, 6))
        self.tell(3, 4, StartViewChange(5, 6))
        self.assertEqual(self.replica(3).view, 5, "two of five ask at the same time")
        self.tell(3, 1, StartViewChange(5, 6))
        self.assertEqual(self.replica(3).view, 6)

    def test_wishes_for_different_views_do_not_add_up(self) -> None:
        world = self.five(b"a")
        before = len(world.sent(RecoveryResponse, by=3))
        for sender, view in ((1, 6), (2, 7), (4, 8)):
            self.tell(3, sender, StartViewChange(5, view))
        self.assertEqual(self.replica(3).view, 5)
        self.assertEqual(len(world.sent(RecoveryResponse, by=3)), before + 3, "each hears that it is heard")

    def test_what_the_primary_asks_for_is_echoed_at_once(self) -> None:
        world = self.five(b"a")
        effects = self.feed(3, 0, StartViewChange(5, 7))
        self.assertEqual([p.new_view for p in self.sent_by(effects, StartViewChange)], [7])
        again = self.feed(3, 0, StartViewChange(5, 7))
        self.assertEqual(self.sent_by(again, StartViewChange), [], "not twice in a row")
        world.now += 0.2
        again = self.feed(3, 0, StartViewChange(5, 7))
        self.assertEqual(len(self.sent_by(again, StartViewChange)), 1)

    def test_a_view_that_is_over_is_not_moved_to(self) -> None:
        self.begin(b"a")
        effects = self.feed(1, 2, StartViewChange(3, 3))
        self.assertEqual(self.sent_by(effects, RecoveryResponse)[0].view, 3)
        self.policy(1)._move(3, "an old wish")
        self.assertEqual(self.policy(1).moving, 0)

    def test_a_later_view_overtakes_one_that_is_being_written(self) -> None:
        self.begin(b"a")
        r, policy = self.replica(1), self.policy(1)
        first = self.feed(1, 2, DoViewChange(4, 3, 1, NO_HASH))
        second = self.feed(1, 2, DoViewChange(5, 3, 1, NO_HASH))
        saves = [e for e in first + second if type(e) is SaveView]
        self.assertEqual([e.view for e in saves], [4, 5])
        r.step(self.world.now, ViewSaved(r.generation, 4))
        self.assertEqual((r.view, policy.moving), (3, 5))
        r.step(self.world.now, ViewSaved(r.generation, 5))
        self.assertEqual((r.view, policy.moving), (5, 0))

    def test_a_log_that_comes_before_its_view_is_kept(self) -> None:
        world = self.begin(b"a")
        world.hold(1)
        world.kill(0)
        self.assertIsNotNone(self.policy(1).peers[2].log)
        world.release(1)
        self.assertEqual((self.replica(1).status, self.replica(1).view), (NORMAL, 4))

    def test_who_leads_nothing_takes_no_logs(self) -> None:
        world = self.begin(b"a")
        self.assertIn("I do not lead this view", self.said(self.feed(1, 2, DoViewChange(3, 3, 1, NO_HASH))))
        effects = self.feed(0, 2, DoViewChange(3, 0, 0, NO_HASH))
        self.assertEqual(self.sent_by(effects, StartView)[0].op, 1, "the view has begun: it is told so")
        del world

    def test_what_belongs_to_the_other_policy(self) -> None:
        self.begin(b"a")
        self.assertIn("no packet of this policy", self.said(self.feed(0, 1, Forward(3, b""))))


class IncarnationTest(HostsStory):
    def test_what_an_earlier_incarnation_acknowledged_is_forgotten(self) -> None:
        world = self.five(b"a")
        world.hold(2, 3, 4)
        world.submit(0, b"b")
        world.settle()
        self.assertEqual(self.replica(0).acks, {0, 1})
        later = Member(1, self.core(1).me.inc + 1)
        effects = self.replica(0).step(world.now, Linked(later))
        self.assertEqual(self.replica(0).acks, {0})
        self.assertIn(Remember(later), effects)
        self.assertFalse(self.policy(0).counts(self.core(1).me))

    def test_what_an_earlier_incarnation_asked_is_forgotten(self) -> None:
        world = self.five(b"a")
        self.tell(3, 1, StartViewChange(5, 6))
        self.tell(3, 2, StartViewChange(5, 6))
        self.replica(3).step(world.now, Linked(Member(1, self.core(1).me.inc + 1)))
        self.tell(3, 4, StartViewChange(5, 6))
        self.assertEqual(self.replica(3).view, 5)

    def test_35_an_old_directory_is_recognised_by_its_incarnation(self) -> None:
        world = self.begin(b"a")
        world.kill(2)
        world.incs[2] -= 10
        world.stores[2].log.clear()
        world.start(2)
        self.assertIn("a later incarnation of this one", world.exits[-1][1])
        self.assertEqual(world.stores[2].damage, "an earlier sync failed on this disk")
        world.start(2)
        world.run(2)
        self.assert_level(0, 1, 2)
        self.assertEqual(world.stores[2].damage, "")

    def test_35_and_by_what_it_has_acknowledged(self) -> None:
        world = self.begin(b"a", b"b", b"c")
        world.kill(2)
        world.stores[2].log = world.stores[2].log[:1]
        world.start(2)
        self.assertIn("knows that op 3 was acknowledged here, and this log ends at op 1", world.exits[-1][1])
        world.start(2)
        world.run(2)
        self.assert_level(0, 1, 2)

    def test_an_old_incarnation_is_not_listened_to(self) -> None:
        world = self.begin(b"a")
        old = Member(2, self.core(2).me.inc - 1)
        for packet in (StartViewChange(3, 4), DoViewChange(9, 9, 9, NO_HASH)):
            effects = self.replica(0).step(world.now, Received(old, packet))
            self.assertIn("its incarnation is not the newest", self.said(effects))
        effects = self.replica(0).step(world.now, Linked(old))
        self.assertEqual(self.sent_by(effects, LastMet)[0].inc, old.inc + 1)
        self.replica(0).step(world.now, Unlinked(old))
        self.assertTrue(self.policy(0).peers[2].linked)

    def test_what_is_remembered_outlives_who_remembers(self) -> None:
        world = self.begin(b"a")
        self.assertEqual(world.stores[0].met, {1: 2001, 2: 3001})
        world.kill(0, 2)
        world.incs[2] -= 2
        world.start(0)
        world.run(0.3)
        world.start(2)
        self.assertIn("a later incarnation", world.exits[-1][1])

    def test_one_that_knows_nothing_is_not_told_what_it_lacks(self) -> None:
        world = self.begin(b"a")
        world.kill(2)
        world.wipe(2)
        world.start(2)
        world.run(2)
        self.assertEqual(world.exits, [])
        self.assert_level(0, 1, 2)


class ForcedTest(HostsStory):
    """An operator has made replica 0's log, and a copy of it, the beginning of an era; replica 2 was away, and holds something else."""

    def begin_era(self, *more: bytes) -> Hosts:
        world = self.begin(b"a")
        world.kill(1)
        for body in more:
            world.say(0, body)
        world.kill(0, 2)
        world.answered.clear()  # the operator knows that this may be lost
        one, copy = world.stores[0], world.stores[1]
        del one.log[1:]
        one.view = one.log_view = copy.view = copy.log_view = 5 * ERA
        copy.log = list(one.log)
        world.start(0, 1)
        world.run(1)
        return world

    def test_an_old_log_is_set_aside_and_brings_nothing_back(self) -> None:
        world = self.begin_era(b"given", b"up", b"for good")
        world.say(world.primary(), b"b")
        world.start(2)
        world.run(1)
        (ended,) = [reason for i, reason in world.exits if i == 2]
        self.assertIn("an operator has forced a view without this log", ended)
        self.assertEqual(self.forced, [5 * ERA])
        world.say(world.primary(), b"c")
        world.stores[2].log.clear()
        world.stores[2].log_view = 0
        world.start(2)
        world.run(1)
        world.say(world.primary(), b"d")
        world.run(0.1)
        self.assert_level(0, 1, 2)
        self.assertEqual([body for body in self.bodies(2) if len(body) > 1], [])
        self.assertEqual({self.policy(i).forced for i in range(3)}, {5 * ERA})

    def test_one_that_meets_the_era_while_it_runs(self) -> None:
        """Alone it is a minority, and waits; then it hears of what was decided."""
        world = self.begin_era()
        world.isolate(2)
        world.start(2)
        world.run(1)
        self.assertEqual((world.exits, self.policy(2).forced), ([], 0))
        world.heal()
        world.run(1)
        self.assertEqual([i for i, _ in world.exits], [2])

    def test_an_empty_one_has_nothing_to_set_aside(self) -> None:
        world = self.begin_era()
        world.wipe(2)
        world.start(2)
        world.run(1)
        world.say(world.primary(), b"b")
        world.run(0.1)
        self.assert_level(0, 1, 2)
        self.assertEqual(world.exits, [])

    @property
    def forced(self) -> list[int]:
        return [forced for forced in self.world.forced if forced]


class LyingDisksTest(HostsStory):
    def test_36_all_directories_are_empty(self) -> None:
        """Nobody is left who has promised anything: it is another cluster, and its log begins at the beginning."""
        world = self.begin(b"a", b"b")
        world.kill(0, 1, 2)
        for i in range(3):
            world.wipe(i)
        world.answered.clear()
        world.start()
        world.run(1)
        world.say(world.primary(), b"c")
        world.run(0.1)
        self.assert_level(0, 1, 2)
        self.assertEqual((self.bodies(0), world.view()), ([b"c"], 3))

    def test_37_a_majority_that_has_lost_what_it_acknowledged_is_stopped(self) -> None:
        """Two disks have lost the same committed batches and look whole. The third one knows better: nobody serves what it has."""
        world = self.begin(b"a", b"b", b"c")
        world.kill(0, 1, 2)
        world.answered.clear()
        for i in (0, 1):
            del world.stores[i].log[1:]
        world.start(0, 1)
        world.run(1)
        world.say(primary := world.primary(), b"d")
        world.start(2)
        world.run(0.3)
        self.assertIn(
            (primary, "COMMITTED DATA LOST AT PRIMARY: replica 2 holds op 2, which this log does not have"),
            world.exits,
        )
        self.assertEqual([b.body for b in world.stores[2].log], [b"a", b"b", b"c"])


class AmnesiaTest(HostsStory):
    def begin_half_way(self, replicas: int) -> Hosts:
        """All but 0 have promised the first view, and have nothing of it; 0 leads it, and has stored a batch that nobody else has."""
        self.world = world = Hosts(replicas)
        world.lose = {(0, StartView), (0, Prepare)}
        world.start()
        world.run(0.3)
        self.assertEqual({(r.replica.view, r.replica.log_view) for i, r in world.cores.items() if i}, {(replicas, 0)})
        world.submit(0, b"a")
        world.settle()
        world.kill(*range(1, replicas))
        world.lose = set()
        return world

    def test_who_dies_before_it_has_the_first_views_log_knows_what_it_has_promised(self) -> None:
        for replicas in (3, 5):
            with self.subTest(replicas=replicas):
                world = self.begin_half_way(replicas)
                world.start(*range(1, replicas))
                world.run(3)
                self.assertEqual({core.replica.commit for core in world.cores.values()}, {1})
                world.kill(*range(replicas // 2 + 1, replicas))
                world.say(world.primary(), b"b")

    def test_the_same_after_a_power_cut_of_all(self) -> None:
        world = self.begin_half_way(5)
        world.kill(0)
        world.start()
        world.run(3)
        world.say(world.primary(), b"b")
        self.assertEqual(self.bodies(1)[-1], b"b")

    def test_an_emptied_disk_promises_nothing_for_the_one_before(self) -> None:
        world = self.begin_half_way(3)
        world.stores[1] = Store()
        world.start(1)
        world.run(3)
        self.assertFalse(self.policy(1).is_eligible())
        world.start(2)
        world.run(3)
        self.assertEqual({core.replica.commit for core in world.cores.values()}, {1})

    def test_a_mark_of_the_first_view_does_not_speak_for_a_disk_that_is_not_trusted(self) -> None:
        world = self.begin_half_way(3)
        world.stores[1].damage = "it is damaged"
        world.start(1)
        self.assertFalse(self.policy(1).is_eligible())

    def test_34_an_empty_disk_votes_nothing_away(self) -> None:
        """It acknowledged b with the primary; without the primary it must not go on with the one that never had b."""
        world = self.begin(b"a")
        world.block(0, 2)
        world.say(0, b"b")
        world.kill(0, 1)
        world.wipe(1)
        world.heal()
        world.start(1)
        world.run(3)
        self.assertFalse(any(c.replica.serving for c in world.cores.values()))
        self.assertEqual(self.policy(1).waiting, "for replica 0 to answer: this disk is empty")
        world.start(0)
        world.run(3)
        world.run(0.2)
        self.assert_level(0, 1, 2)
        self.assertEqual(self.bodies(1), [b"a", b"b"])

    def test_34_half_fetched_is_still_empty(self) -> None:
        world = self.begin(b"a", b"b", b"c")
        world.kill(2)
        world.wipe(2)
        world.stores[2].log = world.stores[0].log[:1]
        world.stores[2].view = 3
        world.start(2)
        self.assertEqual((self.replica(2).status, self.policy(2).is_eligible()), (LEARNER, False))
        world.run(1)
        self.assert_level(0, 1, 2)

    def test_a_disk_that_is_not_trusted_is_fetched_anew(self) -> None:
        world = self.begin(b"a", b"b")
        world.kill(2)
        world.stores[2].damage = "a bad sector"
        world.start(2)
        self.assertFalse(self.policy(2).is_eligible())
        world.run(1)
        self.assert_level(0, 1, 2)
        self.assertEqual((self.policy(2).is_eligible(), world.stores[2].damage), (True, ""))

    def test_the_empty_one_would_lead(self) -> None:
        """It leads the highest view anybody knows; it waits until the others have moved on."""
        world = self.begin(b"a")
        world.kill(0)
        world.run(0.1)
        world.kill(1)
        world.wipe(1)
        world.start(0)
        world.start(1)
        world.run(3)
        world.say(world.primary(), b"b")
        world.run(1)
        self.assert_level(0, 1, 2)

    def test_it_recovers_into_a_view_that_it_then_leads(self) -> None:
        world = self.begin(b"a")
        world.kill(1)
        world.wipe(1)
        world.lose = {StartView, (0, GetState)}
        world.start(1)
        world.run(0.2)
        self.assertTrue(self.policy(1).is_recovered)
        self.assertEqual((self.replica(1).status, self.policy(1).is_eligible()), (VIEW_CHANGE, False))
        world.freeze(0)
        world.run(0.2)
        self.tell(1, 2, DoViewChange(4, 3, 1, world.stores[2].tip()[1]))
        self.assertEqual((self.replica(1).view, self.replica(1).status), (4, LEARNER), "it cannot lead, and says nothing")
        world.thaw(0)
        world.lose = set()
        world.run(4)
        world.say(world.primary(), b"b")
        world.run(1)
        self.assert_level(0, 1, 2)

    def test_two_of_three_disks_are_lost(self) -> None:
        world = self.begin(b"a")
        world.kill(0, 1, 2)
        world.wipe(1)
        world.wipe(2)
        world.start()
        world.run(3)
        self.assertFalse(any(c.replica.serving for c in world.cores.values()))
        self.assertRegex(self.policy(1).waiting, "for the operator: too many replicas")

    def test_an_answer_to_another_question_does_not_count(self) -> None:
        world = self.begin(b"a")
        world.kill(2)
        world.wipe(2)
        world.lose = {RecoveryResponse}
        world.start(2)
        self.tell(2, 0, RecoveryResponse(3, 0, NORMAL, 1, 1, True, False))
        self.assertIsNone(self.policy(2).peers[0].answer)
        self.assertIn("as it should be", self.said(self.feed(2, 0, LastMet(3, 1, 1))))
        self.assertEqual(self.policy(2).members(), ())

    def test_the_disk_of_five(self) -> None:
        world = self.five(b"a")
        world.kill(1, 2)
        world.wipe(1)
        world.wipe(2)
        world.start(1, 2)
        world.run(2)
        world.say(world.primary(), b"b")
        world.run(1)
        self.assert_level(0, 1, 2, 3, 4)

    def test_others_are_asked_in_vain(self) -> None:
        """A learner does not ask for views, whatever it hears."""
        world = self.begin(b"a")
        world.kill(2)
        world.wipe(2)
        world.lose = {RecoveryResponse}
        world.start(2)
        world.run(0.3)
        before = len(world.sent(StartViewChange, by=2))
        self.tell(2, 0, StartViewChange(0, 4))
        self.assertEqual(len(world.sent(StartViewChange, by=2)), before)
        self.assertEqual(self.replica(2).view, 0)


class StopTest(HostsStory):
    def test_a_primary_hands_over(self) -> None:
        world = self.begin(b"a")
        world.feed(0, StopAsked(False))
        world.run(0.5)
        self.assertEqual(world.exits, [(0, "stopped")])
        self.assertEqual((world.primary(), world.view()), (1, 4))
        self.assertTrue(world.traced(1, "asks for view 4: 0 asks"))

    def test_it_hands_over_to_one_that_has_everything(self) -> None:
        world = self.begin(b"a")
        world.lose = {(1, CommitOk)}
        world.say(0, b"b")
        world.run(0.2)
        world.feed(0, StopAsked(False))
        world.run(0.5)
        self.assertEqual((world.primary(), world.view()), (2, 5))

    def test_it_waits_for_what_is_in_flight(self) -> None:
        world = self.begin(b"a")
        world.hold(1, 2)
        world.submit(0, b"b")
        world.settle()
        world.feed(0, StopAsked(False))
        self.assertEqual(world.exits, [])
        world.release(1)
        world.release(2)
        world.run(0.5)
        self.assertEqual((world.exits, self.replica(1).commit), ([(0, "stopped")], 2))

    def test_a_backup_just_ends(self) -> None:
        world = self.begin(b"a")
        world.feed(2, StopAsked(False))
        self.assertEqual((world.exits, world.view()), ([(2, "stopped")], 3))
        world.say(0, b"b")

    def test_all_stop(self) -> None:
        world = self.begin(b"a")
        for i in (1, 2, 0):
            world.feed(i, StopAsked(True))
        world.run(0.5)
        self.assertEqual(world.cores, {})
        world.start()
        world.run(1)
        world.say(world.primary(), b"b")
        world.run(0.1)
        self.assert_level(0, 1, 2)

    def test_one_alone_just_ends(self) -> None:
        self.world = world = Hosts(1)
        world.start()
        world.run(1)
        world.feed(0, StopAsked(False))
        self.assertEqual(world.exits, [(0, "stopped")])

    def test_a_learner_just_ends(self) -> None:
        world = self.world
        world.start(0)
        world.feed(0, StopAsked(False))
        self.assertEqual(world.exits, [(0, "stopped")])

    def test_one_that_changes_view_waits(self) -> None:
        world = self.begin(b"a")
        self.replica(2).status = VIEW_CHANGE
        world.feed(2, StopAsked(False))
        self.assertEqual(world.exits, [])

    def test_a_failing_disk_ends_the_process(self) -> None:
        world = self.begin(b"a")
        world.failing[0] = ("EIO", False)
        world.submit(0, b"b")
        world.settle()
        self.assertEqual(world.exits, [(0, "EIO")])
        world.failing.clear()
        world.run(1)
        self.assertEqual(world.primary(), 1)
        self.assertEqual(self.replica(1).commit, 2)

    def test_a_disk_that_cannot_write_the_view_down(self) -> None:
        world = self.begin(b"a")
        world.failing[2] = ("EIO", False)
        world.kill(0)
        self.assertEqual(world.exits, [(2, "EIO")])

    def test_a_full_disk_is_still_to_be_trusted(self) -> None:
        self.begin(b"a")
        effects = self.replica(1).step(self.world.now, DiskFailed(1, "full", True))
        self.assertEqual(effects, [Exit("full", False)])


class BusyTest(HostsStory):
    """Batch follows batch, and nobody rests."""

    def test_one_that_lost_its_disk_comes_back(self) -> None:
        world = self.begin(b"a", b"b", b"c")
        world.kill(2)
        world.wipe(2)
        world.lose = {(0, StartView)}  # what comes with the link comes too early: it does not know yet who leads
        world.start(2)
        world.run(0.3)
        self.assertEqual((self.replica(2).status, self.replica(2).view), (VIEW_CHANGE, 3))
        world.lose.clear()
        for _ in range(30):
            world.say(0, b"d")
            world.run(TIMERS.heartbeat / 2)
        world.run(0.1)
        self.assert_level(0, 1, 2)


class RotTest(HostsStory):
    """Part of a snapshot has rotted: its replica begins anew, when the others can do without it."""

    def test_a_backup_asks_the_primary(self) -> None:
        world = self.begin(b"a")
        world.feed(2, SnapshotRead("rot"))
        world.run(0.3)
        self.assertEqual((world.exits, world.stores[2].damage != ""), ([(2, "rot")], True))
        world.start(2)
        world.run(1)
        self.assert_level(0, 1, 2)

    def test_one_at_a_time(self) -> None:
        world = self.begin(b"a")
        world.feed(1, SnapshotRead("rot"))
        world.feed(2, SnapshotRead("rot"))
        world.run(1)
        self.assertEqual(len(world.exits), 1)
        lost = world.exits[0][0]
        world.start(lost)
        world.run(2)
        self.assertEqual(sorted(i for i, _ in world.exits), [1, 2])
        world.start(3 - lost)
        world.run(2)
        self.assert_level(0, 1, 2)

    def test_whom_it_has_excused_it_waits_for(self) -> None:
        world = self.begin(b"a")
        world.lose = {(0, Leave)}
        world.feed(1, SnapshotRead("rot"))
        world.run(0.3)
        self.assertEqual(self.policy(0).excused, self.core(1).me)
        effects = self.feed(0, 2, Leave(3, "rot"))
        self.assertEqual(self.sent_by(effects, Leave), [])
        self.assertIn("not in my view", self.said(self.feed(0, 2, Leave(2, "rot"))))

    def test_while_another_is_away_it_keeps_what_it_has(self) -> None:
        world = self.begin(b"a")
        world.kill(1)
        world.feed(2, SnapshotRead("rot"))
        world.feed(0, SnapshotRead("rot"))
        world.run(1)
        self.assertEqual((world.exits, world.view()), ([], 3))
        world.start(1)
        world.run(2)
        self.assertEqual(len(world.exits), 1)

    def test_while_another_hangs_behind_its_link_it_keeps_what_it_has(self) -> None:
        world = self.begin(b"a")
        world.isolate(1)
        world.run(ABDICATE + 0.1)
        self.assertTrue(self.policy(0).peers[1].linked)
        world.feed(2, SnapshotRead("rot"))
        world.run(1)
        self.assertEqual((world.exits, world.view()), ([], 3))
        world.heal()
        world.run(1)
        self.assertEqual(world.exits, [(2, "rot")])

    def test_a_primary_hands_over_first(self) -> None:
        world = self.begin(b"a")
        world.run(0.3)
        world.feed(0, SnapshotRead("rot"))
        world.run(1)
        self.assertEqual((world.primary(), world.exits), (1, [(0, "rot")]))

    def test_a_primary_hands_over_for_the_sake_of_one_who_asks_it_in_vain(self) -> None:
        world = self.begin(b"a", b"b", b"c")
        world.kill(2)
        world.wipe(2)
        world.start(2)
        world.lose = {(0, NewState)}  # it stands for a snapshot that is not what its manifest says
        world.run(0.5)
        world.feed(0, SnapshotRead("rot"))
        world.run(2)
        self.assertEqual((world.primary(), world.exits), (1, [(0, "rot")]))
        world.start(0)
        world.run(1)
        self.assert_level(0, 1, 2)

    def test_a_primary_hands_over_to_nobody_who_is_not_whole(self) -> None:
        world = self.begin(b"a", b"b", b"c")
        world.run(0.3)
        world.kill(2)
        world.wipe(2)
        world.start(2)
        world.lose = {(0, NewState)}
        world.feed(1, SnapshotRead("rot"))
        world.run(0.2)
        world.feed(0, SnapshotRead("rot"))
        world.run(2)
        self.assertEqual((world.exits, world.view()), ([], 3))

    def test_a_primary_whose_snapshot_was_made_anew_leads_on(self) -> None:
        world = self.begin(b"a", b"b", b"c")
        world.run(0.3)
        world.feed(0, SnapshotRead("rot"))
        world.feed(0, SnapshotRead(""))
        world.run(2)
        self.assertEqual((world.exits, world.view()), ([], 3))

    def test_who_finds_rot_again_has_known_of_it_since_the_first_time(self) -> None:
        world = self.begin(b"a", b"b", b"c")
        world.kill(2)
        for _ in range(4):
            world.feed(0, SnapshotRead("rot"))
            world.run(0.15)
        self.assertEqual(world.view(), 4)

    def test_two_primaries_that_have_rotted_do_not_hand_over_to_each_other_for_ever(self) -> None:
        world = self.begin(b"a", b"b", b"c")
        world.run(0.5)
        world.kill(2)
        world.feed(0, SnapshotRead("rot"))
        world.feed(1, SnapshotRead("rot"))
        world.run(5)
        self.assertEqual((world.exits, world.view()), ([], 3))

    def test_a_primary_hands_over_between_two_batches(self) -> None:
        world = self.begin(b"a")
        world.kill(2)
        self.policy(0).on_tick = lambda: None  # type: ignore[method-assign]
        world.feed(0, SnapshotRead("rot"))
        world.run(0.5)
        self.assertEqual(world.view(), 3)
        world.submit(0, b"b")
        world.run(0.2)
        self.assertEqual((world.primary(), world.view()), (1, 4))

    def test_a_primary_that_is_busy_waits(self) -> None:
        world = self.begin(b"a")
        world.hold(1, 2)
        world.submit(0, b"b")
        world.feed(0, SnapshotRead("rot"))
        world.run(0.4)
        self.assertEqual(world.view(), 3)

    def test_nobody_says_it_may(self) -> None:
        self.begin(b"a")
        self.assertEqual(self.feed(1, 0, Leave(3, "x")), [], "this disk is sound")
        self.core(1).policy.rot = "rot"
        self.assertEqual(self.feed(1, 2, Leave(3, "x")), [], "not from my primary")

    def test_one_that_stops_does_not_ask(self) -> None:
        world = self.begin(b"a")
        self.replica(2).stopping = True
        self.policy(2).rot = "rot"
        self.policy(2)._give_disk_up()
        self.assertEqual(world.sent(Leave), [])

    def test_one_alone_keeps_its_disk(self) -> None:
        self.world = world = Hosts(1)
        world.start()
        world.run(1)
        world.feed(0, SnapshotRead("rot"))
        world.run(1)
        self.assertEqual(world.exits, [])


class SmallTest(HostsStory):
    def test_members_are_those_that_were_heard(self) -> None:
        world = self.begin(b"a")
        everybody = tuple(c.me for c in world.cores.values())
        self.assertEqual(self.policy(0).members(), everybody)
        world.kill(2)
        world.run(ABDICATE + 0.1)
        self.assertEqual(self.policy(0).members(), everybody[:2])

    def test_a_restarted_one_waits_for_the_link_to_say_what_it_has(self) -> None:
        world = self.begin(b"a")
        world.kill(0, 1, 2)
        world.stores[2].view = 4
        world.start(2)
        alone = len(world.sent(DoViewChange, by=2, to=1))
        world.start(1)
        self.assertGreater(len(world.sent(DoViewChange, by=2, to=1)), alone)
        world.run(1)
        world.say(world.primary(), b"b")

    def test_timers(self) -> None:
        self.assertLess(TIMERS.suspect, Timers().suspect)
        world = self.begin(b"a")
        world.feed(0, Ticked())
        self.assertEqual(world.view(), 3)
