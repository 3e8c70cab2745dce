"""Policy `survivor`: who is in the view. Stories of three cores that share one register; numbers are rows of the adversarial table."""

from __future__ import annotations

import msgspec

from batches import NO_HASH
from events import (
    DiskFailed,
    Evaluated,
    HealthChecked,
    Linked,
    LockProbed,
    LogRead,
    OfferSnapshot,
    Propose,
    Proposed,
    Received,
    RegisterRead,
    RoomLooked,
    Send,
    SnapshotRead,
    StopAsked,
    Ticked,
    Unlinked,
)
from packets import Commit, GetState, Leave, Member, NewState, PrepareOk, Recovery, RecoveryResponse, StartViewChange, View
from policy import Timers
from replication import CATCH_UP_MOST, LEARNER, NORMAL, READ_ONLY, VIEW_CHANGE
from survivor import BACK_OFF_FIRST, RANK_SUSPECT, TRIES_BEFORE_MOST, Survivor
from tests.cores import World
from tests.test_replication import Story


class ForcedTest(Story):
    def test_every_view_after_a_forced_one_names_it(self) -> None:
        """Whoever comes back later, however late, must learn that its log counts for nothing."""
        world = self.begin(b"a")
        world.kill(0, 1, 2)
        last, me = world.register[-1], Member(2, world.incs[2])
        number = last.number + 1
        world.register.append(View("dormitory", number, me, (me,), *world.stores[2].tip(), "forced", 0, False, last.chain_hash(), number))
        world.start(2)
        world.run(1)
        self.assertEqual((world.primary(), world.members(), world.register[-1].forced), (2, (2,), number))
        world.start(0, 1)
        world.run(1)
        self.assertEqual(world.members(), (0, 1, 2))
        self.assertEqual([v.forced for v in world.register if v.number >= number], [number] * (world.register[-1].number - number + 1))
        self.assertEqual({self.core(i).policy.forced for i in range(3)}, {number})


class FirstStartTest(Story):
    def test_all_must_be_there(self) -> None:
        world = self.world
        world.start(0, 1)
        world.run(3)
        self.assertEqual(world.register, [])
        self.assertEqual(self.core(0).policy.waiting, "for replica 2 to start")
        world.start(2)
        world.run(0.3)
        self.assertEqual((world.primary(), world.members(), world.register[-1].reason), (0, (0, 1, 2), "first start"))

    def test_to_be_linked_is_not_to_be_there(self) -> None:
        world = self.world
        world.lose = {Recovery, RecoveryResponse}
        world.start()
        world.run(2)
        self.assertEqual((world.register, self.core(0).policy.waiting), ([], "for replica 1, 2 to start"))

    def test_only_one_proposes_when_nothing_goes_wrong(self) -> None:
        self.begin()
        self.assertEqual(len(self.world.register), 1)
        for i in range(3):
            self.assertLessEqual(sum("view 1:" in text for text in self.core(i).traces), 1)

    def test_an_empty_one_among_strangers_waits(self) -> None:
        world = self.begin(b"a")
        world.kill(0, 1, 2)
        world.register.clear()
        world.answered.clear()
        world.stores[2].__init__()  # type: ignore[misc]
        world.start()
        world.run(3)
        self.assertEqual(world.register, [])
        self.assertRegex(self.core(0).policy.waiting, "replica 2 holds no or damaged state while the register is missing")

    def test_33_the_register_is_lost_and_all_are_intact(self) -> None:
        world = self.begin(b"a")
        world.kill(0, 1, 2)
        world.register.clear()
        world.start()
        world.run(3)
        self.assertEqual((world.members(), world.register[-1].number), ((0, 1, 2), 2))
        self.assertEqual(world.register[-1].reason, "the register was lost and is begun again")
        world.say(world.primary(), b"b")
        world.run(0.1)
        self.assert_level(0, 1, 2)

    def test_33_the_register_is_lost_and_one_was_not_in_the_last_view(self) -> None:
        """The lowest id was voted out: it is intact and lacks what the others acknowledged."""
        world = self.begin(b"a")
        world.kill(0)
        world.run(0.2)
        for body in (b"b", b"c", b"d"):
            world.say(1, body)
        world.kill(1, 2)
        world.register.clear()
        world.start()
        world.run(4)
        self.assertEqual((world.primary(), world.members(), world.register[-1].number), (1, (0, 1, 2), 4))
        world.say(1, b"e")
        world.run(0.1)
        self.assert_level(0, 1, 2)
        self.assertEqual(self.bodies(0), [b"a", b"b", b"c", b"d", b"e"])

    def test_33_the_register_is_lost_and_one_was_nearly_taken_in(self) -> None:
        """It has written the view into its superblock, and then joint mode ended without it."""
        world = self.begin(b"a")
        world.kill(0)
        world.run(0.2)
        world.say(1, b"b")
        world.lose = {(0, PrepareOk)}
        world.start(0)
        world.run(0.3)
        self.assertEqual((world.stores[0].log_view, world.members()), (2, (1, 2)))
        world.run(0.5)
        self.assertTrue(world.traced(1, "joint mode with 0 closed"))
        world.lose = {(0, Recovery)}
        world.say(1, b"c")
        world.kill(0, 1, 2)
        world.lose = set()
        world.register.clear()
        world.start()
        world.run(4)
        begun = next(view for view in world.register if view.reason.startswith("the register was lost"))
        self.assertEqual(begun.replicas, (1, 2), "the others have acknowledged the batch that 0 lacks")
        self.assertEqual((world.primary(), world.members()), (1, (0, 1, 2)))
        self.assertEqual(self.bodies(0), [b"a", b"b", b"c"])

    def test_the_register_is_lost_and_one_disk_is_not_trusted(self) -> None:
        world = self.begin(b"a")
        world.kill(0, 1, 2)
        world.register.clear()
        world.answered.clear()
        world.stores[0].damage = "a bad sector"
        world.start()
        world.run(2)
        self.assertEqual(world.register, [])
        self.assertIn("replica 0", self.core(0).policy.waiting)
        self.assertIn("replica 0", self.core(1).policy.waiting)

    def test_18_a_register_that_is_full_decides_nothing(self) -> None:
        world = self.world
        world.register_full = True
        world.start()
        world.run(1)
        self.assertEqual(world.register, [])
        self.assertTrue(any(world.traced(i, "no view can be decided, tries again in 1 s: full") for i in range(3)))
        world.register_full = False
        world.run(2)
        self.assertEqual(world.members(), (0, 1, 2))


class QueryTest(Story):
    def test_a_query_waits_for_a_look_at_the_register(self) -> None:
        world = self.begin(b"a")
        world.feed(0, Evaluated(1))
        self.assertEqual(self.core(0).confirmed, 1)
        world.register.append(msgspec.structs.replace(world.register[-1], number=2, prev_hash=world.register[-1].chain_hash()))
        world.step(self.core(0), Evaluated(2))
        self.assertEqual(self.core(0).confirmed, 1)

    def test_what_belongs_to_the_other_policy(self) -> None:
        self.begin(b"a")
        self.assertIn("no packet of this policy", self.said(self.feed(0, 1, StartViewChange(1, 2))))

    def test_nobody_is_a_member_before_there_is_a_view(self) -> None:
        self.world.start(0)
        self.assertEqual(self.core(0).policy.members(), ())
        self.world.start(1, 2)
        self.world.run(1)
        self.assertEqual([m.replica for m in self.core(0).policy.members()], [0, 1, 2])


class AccusationTest(Story):
    def test_13_a_frozen_primary_is_voted_out_and_becomes_a_learner(self) -> None:
        world = self.begin(b"a")
        world.freeze(0)
        world.run(1.3)
        self.assertEqual((world.primary(), world.members()), (1, (1, 2)))
        self.assertRegex(world.register[-1].reason, r"^0 was silent for 1\d\d\d ms$")
        world.say(1, b"b")
        world.thaw(0)
        self.assertTrue(world.traced(0, "stood still"))
        self.assertTrue(world.traced(0, "I am learner (was normal)"))
        world.run(2)
        self.assertEqual((world.primary(), world.members()), (1, (0, 1, 2)))
        world.say(1, b"c")
        world.run(0.1)
        self.assert_level(0, 1, 2)

    def test_13_a_batch_in_flight_when_the_primary_froze(self) -> None:
        world = self.begin(b"a")
        world.part(0, 1)
        world.submit(0, b"in flight")
        world.settle()
        world.freeze(0)
        world.heal()
        world.run(1.3)
        world.say(1, b"b")
        world.thaw(0)
        world.run(3)
        self.assert_level(0, 1, 2)
        self.assertEqual(self.bodies(0), [b"a", b"b"])

    def test_14_a_frozen_backup_is_voted_out(self) -> None:
        world = self.begin(b"a")
        world.freeze(2)
        world.submit(0, b"b")
        world.settle()
        world.run(1.2)
        self.assertEqual((world.primary(), world.members()), (0, (0, 1)))
        self.assertEqual(self.replica(0).commit, 2)
        world.thaw(2)
        world.run(2)
        self.assertEqual(world.members(), (0, 1, 2))

    def test_15_all_stand_still_together_and_nobody_is_accused(self) -> None:
        world = self.begin(b"a")
        for i in range(3):
            world.freeze(i)
        world.run(30)
        for i in range(3):
            world.thaw(i)
        world.run(2)
        self.assertEqual((len(world.register), world.members()), (1, (0, 1, 2)))

    def test_16_who_is_unwell_accuses_nobody_on_suspicion(self) -> None:
        world = self.begin(b"a")
        world.unwell = {1}
        world.freeze(0)
        world.run(1.1)
        self.assertEqual(len(world.register), 1)
        self.assertTrue(world.traced(1, "my own disk is slow"))
        world.run(1.3)
        self.assertEqual((world.primary(), world.members()), (1, (1, 2)), "the other one does it, and does not take the lead")
        self.assertEqual(len(world.register), 2)

    def test_16_an_unwell_primary_keeps_quiet_too(self) -> None:
        world = self.begin(b"a")
        world.unwell = {0}
        world.freeze(2)
        world.run(1.5)
        self.assertEqual(len(world.register), 1)
        world.unwell = set()
        world.run(0.5)
        self.assertEqual(world.members(), (0, 1))

    def test_17_two_that_accuse_each_other(self) -> None:
        world = self.begin(b"a")
        world.kill(2)
        world.run(0.1)
        world.part(0, 1)
        world.run(1.5)
        self.assertEqual(len(world.members()), 1, "the register decides who goes on")
        world.say(world.primary(), b"b")
        world.heal()
        world.run(3)
        self.assertEqual(world.members(), (0, 1))
        world.say(world.primary(), b"c")
        world.run(0.1)
        self.assert_level(0, 1)

    def test_start_view_that_was_lost_is_repeated_as_soon_as_there_is_a_link(self) -> None:
        """The primary dies just after a join: the other two have no link with each other yet."""
        world = self.begin(b"a")
        world.part(1, 2)
        world.unlink(world.cores[1], world.cores[2])
        world.kill(0)
        world.run(0.02)
        self.assertEqual((world.members(), world.cores[2].replica.status), ((1, 2), VIEW_CHANGE))
        world.heal()
        world.link(world.cores[1], world.cores[2])
        world.run(0.001)
        self.assertEqual(world.cores[2].replica.status, NORMAL)
        world.say(1)

    def test_a_broken_link_alone_proves_no_death(self) -> None:
        world = self.begin(b"a")
        world.unlink(self.core(0), self.core(2))
        world.run(0.2)
        self.assertEqual(len(world.register), 1, "its lock is held")
        world.link(self.core(0), self.core(2))
        world.run(2)
        self.assertEqual(len(world.register), 1)
        world.say(0, b"b")
        world.run(0.1)
        self.assert_level(0, 1, 2)

    def test_a_death_is_noticed_by_the_lock_soon_after_the_link(self) -> None:
        world = self.begin(b"a")
        for late in (0.0, 0.003, 0.011):
            with self.subTest(late=late):
                self.setUp()
                world = self.begin(b"a")
                world.run(late)
                core = world.cores[0]
                for i in (1, 2):
                    world.push(world.cores[i], Unlinked(core.me))
                world.settle()  # its lock is still held
                self.assertEqual(len(world.register), 1)
                del world.cores[0]
                world.run(0.003)
                self.assertEqual((world.primary(), world.register[-1].reason), (1, "0 died"))

    def test_a_process_that_dies_slowly_is_missed_by_a_quarter_of_that_at_most(self) -> None:
        """Its connections are closed, and its lock is held while the kernel takes it apart."""
        for held in (0.01, 0.03, 0.065, 0.1, 0.15):
            with self.subTest(held=held):
                self.setUp()
                world = self.begin(b"a")
                core = world.cores[0]
                world.freeze(0)
                for i in (1, 2):
                    world.push(world.cores[i], Unlinked(core.me))
                world.run(held)
                self.assertEqual(len(world.register), 1)
                del world.cores[0]
                world.run(held / 4 + 0.005)
                self.assertEqual((world.primary(), world.register[-1].reason), (1, "0 died"))

    def test_a_newer_incarnation_is_proof_that_the_older_one_is_dead(self) -> None:
        world = self.begin(b"a")
        member = self.core(2).me
        world.step(self.core(0), LockProbed(2, member.inc + 1))
        world.settle()
        self.assertEqual(world.register[-1].reason, "2 died")

    def test_news_of_an_older_link_changes_nothing(self) -> None:
        world = self.begin(b"a")
        world.feed(0, Unlinked(Member(2, 1)))
        self.assertTrue(self.core(0).policy.peers[2].linked)

    def test_26_the_old_incarnation_is_voted_out_before_the_new_one_is_answered(self) -> None:
        world = self.begin(b"a")
        old = world.cores.pop(2)
        world.incs[2] += 1
        world.start(2)
        self.assertEqual((world.members(), old.me in world.register[-1].members), ((0, 1), False))
        world.run(2)
        self.assertEqual(world.members(), (0, 1, 2))

    def test_a_backup_that_does_not_store_is_voted_out(self) -> None:
        world = self.begin(b"a")
        world.hold(2)
        world.submit(0, b"b")
        world.settle()
        world.run(1.9)
        self.assertEqual(len(world.register), 1, "it lives, it says so")
        world.run(0.3)
        self.assertRegex(world.register[-1].reason, r"^2 did not store a batch for 2\d\d\d ms$")
        self.assertEqual(self.replica(0).commit, 2)

    def test_a_primary_whose_own_disk_does_not_answer_hands_over(self) -> None:
        world = self.begin(b"a")
        world.hold(0)
        world.submit(0, b"b")
        world.settle()
        world.run(2.2)
        self.assertEqual((world.primary(), world.members(), world.register[-1].reason), (1, (1, 2), "0 left"))
        self.assert_level(1, 2)

    def test_a_primary_that_lives_but_does_not_commit_is_voted_out(self) -> None:
        world = self.begin(b"a")
        world.hold(0)
        world.submit(0, b"b")
        world.settle()
        world.lose = {Leave}
        world.run(4.3)
        self.assertRegex(world.register[-1].reason, r"^0 did not commit a batch for 4\d\d\d ms$")

    def test_backups_do_not_accuse_each_other(self) -> None:
        world = self.begin(b"a")
        world.part(1, 2)
        world.run(3)
        self.assertEqual(len(world.register), 1)

    def test_a_second_look_after_the_health_check(self) -> None:
        world = self.begin(b"a")
        policy, r = self.core(1).policy, self.replica(1)
        self.assertEqual((policy.reachable(), policy.is_cut_off()), (0, False), "nothing depends on how many answer")
        self.assertEqual(r.step(world.now, HealthChecked(True)), [], "nobody is accused any more")
        for change in ("stopping", "proposing", "view"):
            world.freeze(0)
            policy.peers[0].heard = 0.0
            r.stopping, policy.proposing = change == "stopping", change == "proposing"
            r.view += change == "view"
            self.assertEqual(r.step(world.now, HealthChecked(True)), [], change)
            r.stopping = policy.proposing = False
            r.view -= change == "view"
        effects = r.step(world.now, HealthChecked(True))
        self.assertIsInstance(effects[0], Propose)

    def test_ranks_wait_for_each_other(self) -> None:
        world = self.begin(b"a")
        world.freeze(1)
        world.kill(0)
        self.assertEqual(len(world.register), 1, "it is 1's turn")
        world.run(0.02)
        self.assertEqual((world.register[-1].number, world.primary() if self.replica(2).serving else -1), (2, -1))
        self.assertEqual(world.members(), (1, 2), "1 is not known dead")
        world.run(1.5)
        self.assertEqual((world.primary(), world.members()), (2, (2,)))

    def test_an_accusation_that_passes_starts_afresh(self) -> None:
        world = self.begin(b"a")
        policy, r = self.core(2).policy, self.replica(2)
        policy.peers[0].heard = world.now - 2
        r.step(world.now, Ticked())
        self.assertEqual(policy.accused_since, world.now)
        policy.peers[0].heard = world.now
        r.step(world.now, Ticked())
        self.assertEqual(policy.accused_since, 0.0)


class RestartTest(Story):
    def test_9_all_die_and_all_come_back(self) -> None:
        world = self.begin(b"a", b"b")
        world.kill(0, 1, 2)
        world.start()
        world.run(0.5)
        self.assertEqual((world.members(), world.primary()), ((0, 1, 2), 0))
        world.say(0, b"c")
        world.run(0.1)
        self.assert_level(0, 1, 2)
        self.assertEqual(self.bodies(1), [b"a", b"b", b"c"])

    def test_12_a_member_that_hangs_behind_its_link(self) -> None:
        """It answered once, so it counts as alive; a link to a process that was stopped stays up."""
        world = self.begin(b"a")
        world.kill(2)
        world.run(0.2)
        self.assertEqual(world.members(), (0, 1))
        world.freeze(1)
        world.kill(0)
        world.start(0)
        self.tell(0, 1, RecoveryResponse(2, 0, NORMAL, 1, 1, True, False))
        world.run(0.9)
        self.assertEqual(len(world.register), 2, "it may be slow")
        world.run(2)
        self.assertEqual((world.primary(), world.members(), world.register[-1].reason), (0, (0,), "restart by 0"))
        world.thaw(1)
        world.run(2)
        self.assertEqual(world.members(), (0, 1))

    def test_10_any_one_member_begins_alone(self) -> None:
        for i in range(3):
            with self.subTest(i=i):
                self.setUp()
                world = self.begin(b"a", b"b")
                world.kill(0, 1, 2)
                world.start(i)
                world.run(1.6)
                self.assertEqual((world.primary(), world.members(), world.register[-1].reason), (i, (i,), f"restart by {i}"))
                self.assertEqual(self.replica(i).applied, 2)
                world.start(*[k for k in range(3) if k != i])
                world.run(3)
                self.assertEqual(world.members(), (0, 1, 2))
                world.say(i, b"c")
                world.run(0.1)
                self.assert_level(0, 1, 2)

    def test_all_die_before_anybody_has_worked_in_the_first_view(self) -> None:
        """Their logs are empty, but so was all that the view committed."""
        world = self.world
        world.hold(0, 1, 2)
        world.start()
        world.run(1)
        self.assertEqual(len(world.register), 1)
        world.kill(0, 1, 2)
        for store in world.stores:
            store.view = store.log_view = 0  # the power went before they had written that
        world.held.clear()
        world.start(1)
        world.run(2)
        self.assertEqual((world.primary(), world.members(), world.register[-1].reason), (1, (1,), "restart by 1"))
        world.start(0, 2)
        world.run(2)
        world.say(1, b"a")
        world.run(0.1)
        self.assert_level(0, 1, 2)

    def test_34_an_emptied_disk_among_empty_logs(self) -> None:
        """The log it had may have held all there was: an empty one is believed only on the disk that stood in the view."""
        world = self.world
        world.hold(0, 1, 2)
        world.start()
        world.run(1)
        world.kill(0, 1, 2)
        world.held.clear()
        world.stores[0].__init__()  # type: ignore[misc]
        world.start(0)
        world.run(4)
        self.assertEqual(len(world.register), 1)
        self.assertRegex(self.core(0).policy.waiting, r"^for replica 1, 2: .*\(it is empty\)")
        world.start(1)
        world.run(3)
        self.assertEqual((world.primary(), world.members()), (1, (0, 1)))

    def test_10_with_a_last_batch_that_only_it_has(self) -> None:
        world = self.begin(b"a")
        world.lose = {Commit}
        world.say(0, b"answered")
        world.lose = set()
        world.kill(0, 1, 2)
        world.start(2)
        world.run(2)
        self.assertEqual((self.replica(2).applied, self.bodies(2)), (2, [b"a", b"answered"]))

    def test_11_a_replica_that_was_not_in_the_view_waits_and_says_for_whom(self) -> None:
        world = self.begin(b"a")
        world.kill(2)
        world.run(0.1)
        world.say(0, b"b")
        world.kill(0, 1)
        world.start(2)
        world.run(5)
        self.assertEqual((self.replica(2).status, len(world.register)), (LEARNER, 2))
        self.assertEqual(self.core(2).policy.waiting, "for replica 0, 1: this one cannot restart the cluster (it was not in view 2)")
        world.start(1)
        world.run(3)
        self.assertEqual(world.members(), (1, 2))
        world.say(1, b"c")
        world.run(0.1)
        self.assertEqual(self.bodies(2), [b"a", b"b", b"c"])

    def test_12_a_member_restarts_while_the_other_hangs(self) -> None:
        world = self.begin(b"a")
        world.kill(2)
        world.run(0.1)
        world.freeze(0)
        world.kill(1)
        world.start(1)
        world.run(4)
        self.assertEqual((world.primary(), world.members()), (1, (1,)))
        world.say(1, b"b")
        world.thaw(0)
        world.run(3)
        self.assertEqual(world.members(), (0, 1))
        world.say(1, b"c")
        world.run(0.1)
        self.assert_level(0, 1)

    def test_34_an_emptied_disk_of_the_only_member(self) -> None:
        world = self.begin(b"a")
        world.kill(0, 1)
        world.run(0.2)
        world.kill(2)
        world.answered.clear()
        world.stores[2].__init__()  # type: ignore[misc]
        world.start()
        world.run(4)
        self.assertEqual(len(world.register), 2)
        self.assertRegex(self.core(2).policy.waiting, r"for replica nobody: see docs/operations: .*\(it is empty\)")
        self.assertRegex(self.core(0).policy.waiting, r"for replica 2: ")

    def test_35_a_damaged_disk_begins_nothing(self) -> None:
        world = self.begin(b"a")
        world.kill(0, 1, 2)
        world.stores[0].damage = "the journal ends too early"
        world.start(0)
        world.run(4)
        self.assertEqual(len(world.register), 1)
        self.assertIn("the journal ends too early", self.core(0).policy.waiting)
        world.start(1)
        world.run(3)
        self.assertEqual(world.primary(), 1)
        self.assertEqual(world.members(), (0, 1))
        self.assertEqual(world.stores[0].damage, "")

    def test_35_a_register_older_than_the_replicas_stops_them(self) -> None:
        world = self.begin(b"a")
        world.kill(1)
        world.run(0.1)
        world.kill(0, 2)
        world.register.pop()
        world.start(0)
        self.assertRegex(world.exits[-1][1], "the register ends at view 1, but this replica has worked in view 2")

    def test_who_has_not_read_the_newest_view_does_not_know_whether_it_may_begin(self) -> None:
        world = self.begin(b"a")
        world.kill(0, 1, 2)
        world.start(0)
        policy, member = self.core(0).policy, Member(2, 9999)
        world.feed(0, Linked(member))
        for view, eligible in ((1, True), (0, False), (1, True)):
            self.replica(0).step(world.now, Received(member, Recovery(view, 9999, 1, 1, b"h" * 16, True, False)))
            self.assertEqual(policy.peers[2].eligible, eligible)

    def test_a_read_of_the_register_that_is_late_changes_nothing(self) -> None:
        world = self.begin(b"a")
        world.kill(2)
        world.run(0.1)
        before = repr(self.replica(0))
        world.feed(0, RegisterRead(world.register[0]))
        world.feed(0, RegisterRead(None))
        self.assertEqual(repr(self.replica(0)), before)

    def test_39_who_does_not_know_that_it_joined_reads_it(self) -> None:
        world = self.begin(b"a")
        world.kill(2)
        world.run(0.1)
        world.hold(2)
        world.start(2)
        world.run(0.1)
        core = self.core(2)
        world.held.clear()
        while core.answers:
            world.push(core, core.answers.popleft())
        world.lose = {Commit}
        world.settle()
        self.assertEqual(world.members(), (0, 1, 2))
        self.assertEqual(self.replica(2).view, 3 if world.sent(NewState) else 2)
        world.kill(0, 1)
        world.lose = set()
        world.run(3)
        self.assertEqual((world.primary(), world.members()), (2, (2,)))


class StopTest(Story):
    def stop(self, *ids: int, everybody: bool) -> None:
        for i in ids:
            self.world.push(self.core(i), StopAsked(everybody))
        self.world.settle()

    def test_all_stop_and_any_of_them_begins_again(self) -> None:
        for first in range(3):
            with self.subTest(first=first):
                self.setUp()
                world = self.begin(b"a", b"b")
                self.stop(0, 1, 2, everybody=True)
                world.run(3)
                self.assertEqual(world.cores, {})
                self.assertEqual([reason for _, reason in world.exits], ["stopped"] * 3)
                self.assertTrue(world.register[-1].closed)
                self.assertEqual(world.members(), (0, 1, 2))
                world.start(first)
                world.run(2)
                self.assertEqual((world.primary(), self.replica(first).applied), (first, 2))

    def test_after_a_clean_stop_one_that_was_out_but_has_the_same_log_may_begin(self) -> None:
        world = self.begin(b"a", b"b")
        world.kill(2)
        world.run(0.1)
        self.stop(0, 1, everybody=True)
        world.run(3)
        self.assertEqual((world.cores, world.members()), ({}, (0, 1)))
        world.start(2)
        world.run(2)
        self.assertEqual((world.primary(), world.members()), (2, (2,)))

    def test_and_one_whose_log_is_older_may_not(self) -> None:
        world = self.begin(b"a")
        world.kill(2)
        world.run(0.1)
        world.say(0, b"b")
        self.stop(0, 1, everybody=True)
        world.run(3)
        world.start(2)
        world.run(3)
        self.assertEqual(self.replica(2).status, LEARNER)

    def test_one_backup_stops(self) -> None:
        world = self.begin(b"a")
        self.stop(2, everybody=False)
        world.run(0.2)
        self.assertEqual((world.primary(), world.members(), world.register[-1].reason), (0, (0, 1), "2 left"))
        self.assertEqual(world.exits, [(2, "stopped")])
        self.assertTrue(world.traced(0, "2 leaves: planned stop"))

    def test_the_primary_stops_alone_and_another_goes_on(self) -> None:
        world = self.begin(b"a")
        world.hold(1)
        op = world.submit(0, b"b")
        world.settle()
        self.stop(0, everybody=False)
        world.run(0.1)
        self.assertIn(0, world.cores, "its last batch is under way")
        world.release(1)
        self.assertNotIn(0, world.cores, "it goes as soon as that is committed")
        world.run(0.6)
        self.assertEqual(world.primary(), 1)
        self.assertGreaterEqual(self.replica(1).applied, op)
        self.assert_level(1, 2)

    def test_asked_when_the_view_is_closed_already(self) -> None:
        world = self.begin(b"a")
        world.lose = {Leave}
        self.stop(0, everybody=True)
        world.feed(1, RegisterRead(world.register[-1]))
        self.stop(1, everybody=True)
        self.assertEqual(world.exits, [(0, "stopped"), (1, "stopped")])

    def test_asked_twice(self) -> None:
        world = self.begin(b"a")
        r = self.replica(0)
        effects = r.step(world.now, StopAsked(True))
        self.assertEqual([type(e) for e in effects], [Propose])
        self.assertTrue(effects[0].view.closed)
        self.assertEqual(r.step(world.now, StopAsked(True)), [], "the register has not answered yet")

    def test_a_learner_and_the_last_one_stop_at_once(self) -> None:
        world = self.world
        world.start(0)
        self.stop(0, everybody=True)
        self.assertEqual(world.exits, [(0, "stopped")])

    def test_the_last_one_stops(self) -> None:
        world = self.begin(b"a")
        world.kill(0, 1)
        world.run(0.2)
        self.stop(2, everybody=False)
        self.assertEqual((world.exits, world.register[-1].closed), ([(2, "stopped")], True))

    def test_who_stops_votes_nobody_out(self) -> None:
        world = self.begin(b"a")
        world.lose = {Leave}
        self.stop(1, everybody=True)
        world.freeze(0)
        world.kill(2)
        world.run(3)
        self.assertEqual(len(world.register), 1)

    def test_a_primary_that_stops_takes_nobody_in(self) -> None:
        self.begin(b"a")
        policy, r = self.core(0).policy, self.replica(0)
        r.stopping = True
        policy.last = View("dormitory", 1, self.core(0).me, (self.core(0).me, self.core(1).me), 0, NO_HASH, "", 0)
        request = GetState(1, 1, r.head_hash, 0, NO_HASH)
        effects = self.feed(0, 2, request)
        self.assertIn("not now", self.said(effects))
        self.assertEqual(self.feed(0, 2, Recovery(1, 5, 1, 1, r.head_hash, True, False)), [])

    def test_a_closed_view_that_another_made_first(self) -> None:
        """A stopping backup that lacks the last batch does not leave on the closed view: its log does not end there."""
        world = self.begin(b"a")
        r = self.replica(2)
        r.stopping = True
        view = world.register[-1]
        closed = View("dormitory", 2, view.primary, view.members, 9, b"h" * 16, "0 stopped", 0, True, view.chain_hash())
        effects = r.step(world.now, RegisterRead(closed))
        self.assertNotIn("stopped", [getattr(e, "reason", "") for e in effects])
        self.assertEqual(r.status, VIEW_CHANGE)


class JoinTest(Story):
    def test_a_failed_join_backs_off_and_the_third_is_taken_in_from_further_behind(self) -> None:
        world = self.begin(b"a")
        world.kill(2)
        world.run(0.1)
        world.lose = {(2, PrepareOk)}
        world.start(2)
        policy = self.core(0).policy
        for failed in range(1, TRIES_BEFORE_MOST + 1):
            while policy.peers[2].failed_joins < failed:
                world.run(0.01)
                self.assertLess(world.now, 200, "it is not tried again")
            self.assertAlmostEqual(policy.peers[2].back_off_until - world.now, BACK_OFF_FIRST * 2 ** (failed - 1), delta=0.02)
            given = len(world.sent(NewState, to=2))
            effects = self.feed(0, 2, GetState(2, 1, self.replica(0).head_hash, 0, NO_HASH))
            self.assertIn("not now", self.said(effects))
            world.run(policy.peers[2].back_off_until - world.now - 0.01)
            self.assertEqual(len(world.sent(NewState, to=2)), given)
        world.run(0.02)
        effects = self.feed(0, 2, GetState(2, 1, self.replica(0).head_hash, 0, NO_HASH))
        self.assertEqual(effects[-1].limit, CATCH_UP_MOST)
        world.lose = set()
        world.run(3)
        self.assertEqual(world.members(), (0, 1, 2))
        world.kill(2)
        world.run(0.1)
        world.start(2)
        self.assertEqual(policy.peers[2].failed_joins, 0, "a new incarnation begins afresh")

    def test_a_member_is_given_no_log(self) -> None:
        self.begin(b"a")
        effects = self.feed(0, 2, GetState(1, 1, self.replica(0).head_hash, 0, NO_HASH))
        self.assertIn("the sender stands in the view", self.said(effects))

    def test_only_one_learner_at_a_time(self) -> None:
        world = self.begin(b"a")
        world.kill(1, 2)
        world.run(0.2)
        world.hold(1, 2)
        world.start(1, 2)
        world.run(0.2)
        policy = self.core(0).policy
        self.assertIsNotNone(policy.joint)
        self.assertLessEqual({p.joint for p in world.sent(NewState)}, {True, False})
        world.release(1)
        world.release(2)
        world.run(3)
        self.assertEqual(world.members(), (0, 1, 2))

    def test_answers_that_come_too_late(self) -> None:
        world = self.begin(b"a")
        world.kill(2)
        world.run(0.1)
        world.lose = {NewState}
        world.start(2)
        world.run(0.1)
        asker, r = self.core(2).me, self.replica(0)
        for request, images in ((GetState(1, 1, r.head_hash, 0, NO_HASH), b""),):
            self.assertEqual(r.step(world.now, LogRead(asker, request, 1, r.head_hash, images, True, 1)), [], "asked in an older view")
        request = GetState(2, 1, r.head_hash, 0, NO_HASH)
        self.assertEqual(r.step(world.now, LogRead(asker, request, 1, r.head_hash, None, False, 9)), [OfferSnapshot(2)])
        self.core(0).policy._set_joint(None)
        effects = r.step(world.now, LogRead(asker, request, 1, r.head_hash, b"", False, 1))
        self.assertFalse(effects[-1].packet.joint)
        self.core(0).policy._set_joint(self.core(2).me)
        self.assertTrue(self.core(0).policy.takes_in(self.core(2).me), "who is being taken in already may ask again")
        self.core(0).policy._set_joint(None)
        self.assertIsNone(self.core(0).policy.joint, "only the piece that reaches the head opens it")

    def test_a_read_only_primary_whose_learner_dies_takes_the_next_incarnation_in(self) -> None:
        world = self.begin(b"a", b"b")
        world.kill(0, 1)
        world.run(0.2)
        world.failing[2] = ("full", True)
        world.submit(2, b"lost")
        world.settle()
        world.lose = {PrepareOk}
        world.start(1)
        world.run(0.3)
        self.assertEqual(self.core(2).policy.joint, self.core(1).me)
        self.assertEqual(self.replica(2).status, READ_ONLY)
        world.kill(1)
        world.lose = set()
        world.start(1)
        world.run(5)
        self.assertEqual(self.replica(1).primary, self.core(1).me, "whose disk works")

    def test_a_read_only_primary_that_is_not_level_yet(self) -> None:
        world = self.begin(b"a", b"b")
        world.kill(0, 1)
        world.run(0.2)
        r, policy = self.replica(2), self.core(2).policy
        world.failing[2] = ("EIO", False)
        world.submit(2, b"lost")
        world.settle()
        world.lose = {NewState}
        world.start(1)
        world.run(0.2)
        policy._set_joint(self.core(1).me)
        self.assertEqual(self.feed(2, 1, PrepareOk(r.view, r.commit - 1, b"h" * 16)), [], "it lacks a committed batch")
        effects = self.feed(2, 1, PrepareOk(r.view, r.commit, r.parent_hash))
        self.assertIsInstance(effects[-1], Propose)
        self.assertEqual(self.feed(2, 1, PrepareOk(r.view, r.commit, r.parent_hash)), [], "it is being registered")

    def test_30_a_member_whose_snapshot_has_rotted_is_voted_out_before_it_gives_up_its_disk(self) -> None:
        for i in (0, 2):
            with self.subTest(i=i):
                self.setUp()
                world = self.begin(b"a")
                core = self.core(i)
                world.lose = {(i, Leave)}
                world.feed(i, SnapshotRead("messages-000007.csv is damaged"))
                world.run(0.3)
                self.assertEqual((core.exit, world.stores[i].damage), (None, ""), "somebody may still count on it")
                world.lose = set()
                world.run(0.3)
                self.assertNotIn(i, world.members())
                assert core.exit is not None
                self.assertEqual((core.exit.reason, core.exit.suspect), ("messages-000007.csv is damaged", True))

    def test_31_the_last_member_keeps_its_disk_until_another_has_all(self) -> None:
        world = self.begin(b"a")
        world.kill(0, 1)
        world.run(0.2)
        core = self.core(2)
        world.feed(2, SnapshotRead("messages-000007.csv is damaged"))
        world.run(1)
        self.assertEqual((world.primary(), core.exit), (2, None))
        world.start(1)
        world.run(2)
        self.assertEqual((world.primary(), world.members()), (1, (1,)))
        assert core.exit is not None
        self.assertTrue(core.exit.suspect)

    def test_31_what_was_made_anew_meanwhile_is_no_reason_to_leave(self) -> None:
        world = self.begin(b"a")
        world.kill(0, 1)
        world.run(0.2)
        world.feed(2, SnapshotRead("accounts.csv is damaged"))
        world.feed(2, SnapshotRead(""))
        world.start(0, 1)
        world.run(3)
        self.assertEqual(world.members(), (0, 1, 2))

    def test_31_a_learner_whose_snapshot_has_rotted(self) -> None:
        world = self.begin(b"a")
        world.lose = {NewState}
        world.freeze(0)
        world.kill(2)
        world.start(2)
        self.assertIn(2, world.members())
        core = self.core(2)
        world.feed(2, SnapshotRead("messages-000007.csv is damaged"))
        self.assertIsNone(core.exit, "its old incarnation stands in the view: its disk may be the one that is needed")
        world.thaw(0)
        world.run(0.5)
        assert core.exit is not None
        self.assertTrue(core.exit.suspect)

    def test_an_ack_of_somebody_who_is_not_joining(self) -> None:
        self.begin(b"a")
        r = self.replica(0)
        self.assertEqual(self.feed(0, 1, PrepareOk(1, 1, r.head_hash)), [])

    def test_a_joiner_is_not_registered_by_a_primary_that_stops(self) -> None:
        world = self.begin(b"a")
        world.kill(2)
        world.run(0.1)
        world.lose = {NewState}
        world.start(2)
        world.run(0.1)
        r, policy = self.replica(0), self.core(0).policy
        policy._set_joint(self.core(2).me)
        r.stopping = True
        self.assertEqual([e for e in self.feed(0, 2, PrepareOk(2, 1, r.head_hash)) if isinstance(e, Propose)], [])

    def test_a_response_is_followed_only_from_the_primary_of_my_view(self) -> None:
        world = self.begin(b"a")
        world.kill(2)
        world.run(0.1)
        world.lose = {NewState, RecoveryResponse}
        world.start(2)
        world.run(0.2)
        self.replica(2)
        for sender, packet in (
            (1, RecoveryResponse(2, 0, NORMAL, 1, 1, True, False)),
            (0, RecoveryResponse(1, 0, NORMAL, 1, 1, True, False)),
            (0, RecoveryResponse(2, 0, VIEW_CHANGE, 1, 1, True, False)),
        ):
            self.assertFalse([e for e in self.feed(2, sender, packet) if isinstance(e, Send)], packet)
        effects = self.feed(2, 0, RecoveryResponse(2, 0, NORMAL, 1, 1, True, False))
        self.assertIsInstance(effects[-1].packet, GetState)
        self.assertEqual(self.core(2).policy.waiting, "catching up from 0")
        self.assertEqual(self.feed(2, 0, RecoveryResponse(2, 0, NORMAL, 1, 1, True, False)), [], "once")


class DiskTroubleTest(Story):
    def test_a_learner_whose_disk_fails(self) -> None:
        world = self.begin(b"a")
        world.kill(2)
        world.run(0.2)
        world.lose = {NewState}
        world.start(2)
        r = self.replica(2)
        r.writing = 1
        effects = r.step(world.now, DiskFailed(0, "EIO", False))
        self.assertEqual([(type(e).__name__, getattr(e, "suspect", None)) for e in effects], [("Exit", True)])

    def fill(self, *ids: int, body: bytes = b"no room", full: bool = True) -> World:
        """Three replicas hold a batch, and the next finds no room at these."""
        self.setUp()
        world = self.begin(b"a")
        world.failing.update(dict.fromkeys(ids, ("the disk is full" if full else "EIO", full)))
        world.submit(0, body)
        world.settle()
        world.run(1)
        return world

    def test_all_disks_are_full_at_once(self) -> None:
        world = self.fill(0, 1, 2)
        self.assertEqual((world.exits, world.members(), world.primary()), ([], (0,), 0), "the primary stays")
        r = self.replica(0)
        self.assertEqual((r.status, r.serving, r.can_prepare, r.commit), (READ_ONLY, True, False, 1))
        self.assertEqual([self.replica(i).status for i in (1, 2)], [LEARNER, LEARNER])
        self.assertEqual([view.number for view in world.register], [1, 2], "one view decides it")
        world.run(20)
        self.assertEqual((world.exits, len(world.register)), ([], 2), "and nothing goes on behind that")
        world.make_room(0, 1, 2)
        world.run(2)
        self.assertEqual((world.members(), r.commit), ((0, 1, 2), 2))
        world.say(0, b"b")
        self.assertEqual(self.bodies(2), [b"a", b"no room", b"b"])

    def test_whose_disk_has_room_goes_on(self) -> None:
        for room in (0, 1, 2):
            with self.subTest(room=room):
                world = self.fill(*{0, 1, 2} - {room})
                self.assertEqual((world.exits, world.members(), world.primary()), ([], (room,), room))
                world.say(room, b"b")
                world.make_room(*{0, 1, 2} - {room})
                world.run(3)
                self.assertEqual(world.members(), (0, 1, 2))
                self.assertEqual(self.bodies(room)[::2], [b"a", b"b"] if len(self.bodies(room)) == 3 else [b"a"])
                world.check()

    def test_room_at_a_backup_first(self) -> None:
        """The read_only one gives way, and comes back when its own disk has room: what stood in flight there was never acknowledged."""
        world = self.fill(0, 1, 2)
        world.make_room(1)
        world.run(2)
        self.assertEqual((world.exits, world.members(), world.primary()), ([], (1,), 1))
        self.assertEqual(self.replica(0).status, LEARNER)
        world.say(1, b"b")
        world.make_room(0, 2)
        world.run(3)
        self.assertEqual((world.exits, world.members()), ([], (0, 1, 2)))
        self.assertIn(b"b", self.bodies(0))
        self.assertNotIn(b"no room", self.bodies(0))

    def test_who_comes_back_on_a_full_disk_takes_nothing_over(self) -> None:
        world = self.fill(0, 1, 2)
        world.kill(1)
        del world.failing[1]
        world.lose = {NewState}
        world.start(1)
        world.feed(1, RoomLooked(has_room=False))
        world.lose = set()
        world.run(5)
        self.assertEqual((world.primary(), world.members(), self.replica(1).status), (0, (0,), LEARNER))
        world.feed(1, RoomLooked(has_room=True))
        world.run(3)
        self.assertEqual((world.primary(), world.members()), (1, (1,)))

    def test_all_disks_are_full_and_the_primary_is_dead(self) -> None:
        world = self.begin(b"a")
        world.failing.update(dict.fromkeys((0, 1, 2), ("the disk is full", True)))
        world.submit(0, b"no room")
        world.kill(0)
        world.settle()
        world.run(1)
        self.assertEqual((world.exits, world.members()), ([], (1,)), "the lowest of those that live")
        r = self.replica(1)
        self.assertEqual((r.status, r.serving, r.commit), (READ_ONLY, True, 1))
        world.make_room(1, 2)
        world.run(3)
        self.assertEqual(world.members(), (1, 2))

    def test_all_disks_fail_at_once(self) -> None:
        """One answers on; those whose disks nobody trusts any more are not marked before a view without them is there."""
        world = self.fill(0, 1, 2, full=False)
        self.assertEqual((world.members(), self.replica(0).status), ((0,), READ_ONLY))
        self.assertEqual(sorted(world.exits), [(1, "EIO"), (2, "EIO")])
        self.assertEqual(world.stores[0].damage, "")

    def test_a_view_that_finds_no_room_waits_for_it(self) -> None:
        """It is the superblock that cannot be written: who was never told that it leads does not know what is committed."""
        for others in (True, False):
            with self.subTest(others=others):
                self.setUp()
                world = self.begin(b"a")
                world.failing[1] = ("the disk is full", True)
                world.kill(0) if others else world.kill(0, 2)
                world.run(1)
                self.assertEqual((world.exits, world.members()), ([], (2,) if others else (1,)))
                self.assertEqual(self.replica(1).status, LEARNER if others else VIEW_CHANGE)
                world.make_room(1)
                world.run(2)
                self.assertEqual(world.members(), (1, 2) if others else (1,))
                world.say(world.primary(), b"b")

    def test_a_sole_member_whose_superblock_fails_ends(self) -> None:
        world = self.begin(b"a")
        world.failing[1] = ("EIO", False)
        world.kill(0, 2)
        world.run(1)
        self.assertEqual((world.exits, world.members()), ([(1, "EIO")], (1,)))

    def test_the_disk_answers_late_that_it_is_full(self) -> None:
        """The view with nobody else is there before the disk has said anything."""
        world = self.begin(b"a")
        world.held.add(1)
        world.failing[1] = ("the disk is full", True)
        world.submit(0, b"no room")
        world.kill(0, 2)
        world.run(1)
        r = self.replica(1)
        self.assertEqual((world.members(), r.status), ((1,), VIEW_CHANGE))
        world.release(1)
        self.assertEqual((r.status, r.serving, r.commit), (READ_ONLY, True, 1))
        world.make_room(1)
        self.assertEqual((r.status, r.commit), (NORMAL, 2))

    def test_room_before_anybody_was_voted_out(self) -> None:
        world = self.begin(b"a")
        world.failing[0] = ("the disk is full", True)
        world.lose = {Leave}
        world.submit(0, b"b")
        world.settle()
        world.make_room(0)
        world.run(0.1)
        self.assertEqual((world.members(), self.replica(2).commit, self.replica(0).trouble), ((0, 1, 2), 2, ""))

    def test_no_view_can_be_decided_on_a_full_disk(self) -> None:
        world = self.begin(b"a")
        world.register_full = True
        world.failing.update(dict.fromkeys((0, 1, 2), ("the disk is full", True)))
        world.submit(0, b"no room")
        world.settle()
        world.run(5)
        self.assertEqual((world.exits, len(world.register)), ([], 1))
        world.register_full = False
        world.make_room(0, 1, 2)
        world.run(5)
        self.assertEqual((world.exits, world.members(), self.replica(0).commit), ([], (0, 1, 2), 2))

    def test_a_stop_while_the_disk_is_full(self) -> None:
        world = self.begin(b"a")
        world.lose = {Leave}
        world.failing[0] = ("the disk is full", True)
        world.submit(0, b"no room")
        world.settle()
        world.push(self.core(0), StopAsked(True))
        world.settle()
        self.assertEqual(world.exits, [(0, "stopped")])

    def test_a_read_only_one_that_fails_again_stays(self) -> None:
        world = self.begin(b"a")
        world.kill(0, 1)
        world.run(0.2)
        world.failing[2] = ("full", True)
        world.submit(2)
        world.settle()
        r = self.replica(2)
        traces = len(self.core(2).traces)
        world.run(25)
        self.assertEqual((r.status, len(self.core(2).traces)), (READ_ONLY, traces), "it says so once")
        world.push(self.core(2), StopAsked(True))
        world.settle()
        self.assertEqual(world.exits, [(2, "stopped")])


class ShapeTest(Story):
    def test_evidence_table(self) -> None:
        self.assertEqual(RANK_SUSPECT, 0.15)
        self.assertEqual(Timers(), Timers(heartbeat=0.05, suspect=1.0, ack=2.0, restart=1.0, join=0.5))

    def test_a_lost_proposal_is_made_by_who_finds_it(self) -> None:
        """Whoever created the view decided it: the loser takes the winner's."""
        world = self.begin(b"a")
        policy, r = self.core(1).policy, self.replica(1)
        view = world.register[-1]
        policy.proposing = True
        winner = View("dormitory", 2, self.core(2).me, (self.core(2).me,), 1, r.head_hash, "0 died, 1 died", 0, False, view.chain_hash())
        world.register.append(winner)
        world.feed(1, Proposed(winner))
        self.assertEqual((r.status, r.view, policy.proposing), (LEARNER, 2, False))

    def test_before_any_view_everything_is_open(self) -> None:
        world = World()
        world.start(0)
        core = world.cores[0]
        policy: Survivor = core.policy
        self.assertFalse(policy.is_eligible(), "an empty disk begins nothing")
        self.assertFalse(policy.counts(Member(1, 1)))
        policy._set_joint(None)
        self.assertEqual(policy.receivers(), ())
        core.replica.step(world.now, Linked(Member(1, 5)))
        core.replica.step(world.now, LockProbed(1, None))
        self.assertEqual(policy.peers[1].dead_inc, 4)


if __name__ == "__main__":
    import unittest

    unittest.main()
