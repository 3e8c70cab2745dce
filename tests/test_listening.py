"""Whom a primary listens to before its next batch leaves: those whom the last one has answered.

What it is not: whether anything is lost by it; the simulator sees to that.
"""

from __future__ import annotations

import unittest
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from batches import NO_HASH, Batch
from events import Apply, Persist
from replication import NORMAL
from server import FEW, Server


def a_batch(count: int) -> Batch:
    """Of so many commands."""
    return Batch(first_op=1, count=count, view=1, time=1, prev_hash=NO_HASH, body=b"body")


class Listening(unittest.TestCase):
    def setUp(self) -> None:
        self.now = 0.0
        self.soon: list[Callable[[], None]] = []
        self.left: list[int] = []  # commands of each batch that left
        self.server = server = Server.__new__(Server)
        every: Any = server
        self.ways_given = 0
        every.host = SimpleNamespace(soon=self.soon.append, now=lambda: self.now, give_way=self._way_given)
        every.replica = SimpleNamespace(is_primary=True, can_prepare=True, status=NORMAL, has_news=False, wake_at=1.0)
        every.desk = self.desk = SimpleNamespace(open_ops=0, open_runs=[], others_wait=False, hears=False)
        every.queries = SimpleNamespace(wait=False)
        self.receivers: tuple[int, ...] = (1, 2)
        every.policy = SimpleNamespace(receivers=lambda: self.receivers)
        every.errands = SimpleNamespace(run=lambda order: self.left.append(-self.ways_given))
        every.state = SimpleNamespace(apply=lambda *_: None, digest=0)
        every.upkeep = SimpleNamespace(note_applied=lambda size: None)
        every.desk.applied = lambda outcome: None
        every.poked = every.is_coming = every.ending = False
        every.depth = 0
        every.answered = every.heard = 0
        every.listens_until = 0.0
        every.timer, every.timer_when, every.unapplied = object(), 0.0, None
        every._submit, every._has_new_role = self._leave, lambda: False
        every.feed = lambda event: server._settled()

    def _leave(self) -> None:
        self.left.append(self.desk.open_ops)
        self.desk.open_ops, self.desk.open_runs = 0, []

    def _way_given(self) -> None:
        self.ways_given += 1

    def say(self, count: int) -> None:
        """So many guests have said something, and their sockets are read."""
        self.desk.open_ops += count
        self.desk.open_runs = [b"run"]
        self.server.poke()

    def committed(self, count: int) -> None:
        """A batch of so many is committed: its guests are told."""
        self.server._apply(Apply(a_batch(count)))

    def turn(self) -> None:
        """What is due in the next turn of the loop."""
        due, self.soon[:] = self.soon[:], []
        for callback in due:
            callback()

    def test_those_who_were_answered_travel_with_the_few_who_wait(self) -> None:
        self.say(3)
        self.committed(61)
        self.turn()  # nothing was read yet
        self.assertEqual(self.left, [])
        self.say(50)
        self.turn()
        self.say(7)
        self.turn()
        self.assertEqual(self.left, [], "more came in each turn")
        self.turn()
        self.assertEqual(self.left, [60])

    def test_nobody_waits_for_who_says_nothing(self) -> None:
        self.say(3)
        self.committed(61)
        self.turn()
        self.turn()
        self.assertEqual(self.left, [3])
        self.say(1)
        self.turn()
        self.assertEqual(self.left, [3, 1], "nobody is listened to any more")

    def test_no_more_is_waited_for_than_were_answered(self) -> None:
        self.say(3)
        self.committed(61)
        self.turn()
        self.say(58)
        self.turn()
        self.assertEqual(self.left, [61])

    def test_who_speaks_slowly_is_not_waited_for(self) -> None:
        self.say(3)
        self.committed(61)
        for count in (1, 1):
            self.turn()
            self.say(count)
        self.now = 0.002
        self.turn()
        self.assertEqual(self.left, [5])

    def test_a_lone_command_waits_for_nobody(self) -> None:
        self.committed(1)
        self.say(1)
        self.turn()
        self.assertEqual(self.left, [1])

    def test_a_guest_who_alone_was_answered_leaves_while_its_socket_is_read(self) -> None:
        self.committed(1)
        self.say(1)
        self.server.hasten()
        self.assertEqual(self.left, [1])
        self.turn()
        self.assertEqual(self.left, [1], "the turn that was due had nothing left to do")
        self.committed(2)
        self.say(1)
        self.server.hasten()
        self.assertEqual(self.left, [1], "another one was answered, and may speak in this turn")

    def test_the_last_member_commits_together_what_comes_in_one_turn(self) -> None:
        self.receivers = ()  # nobody's acknowledgement is waited for, so nothing gathers behind a batch that is under way
        for count in (1, 3):
            self.left.clear()
            self.committed(1)
            for _ in range(count):
                self.desk.hears = True
                self.say(1)
                self.server.hasten()
            self.assertEqual(self.left, [])
            self.turn()
            self.assertEqual(self.left, [count])

    def test_the_last_member_answers_before_its_next_batch_leaves(self) -> None:
        self.receivers = ()  # whose disk would answer within the call, one batch within the other
        self.say(20)
        self.committed(61)
        self.assertEqual(self.left, [])
        self.turn()
        self.turn()
        self.assertEqual(self.left, [20])

    def test_the_last_member_gives_way_to_nobody_before_its_disk(self) -> None:
        self.receivers = ()
        self.server._persist(Persist(1, (a_batch(1),)))
        self.assertEqual(self.left, [0])

    def test_who_asked_while_the_cluster_directory_was_away_is_not_forgotten(self) -> None:
        every: Any = self.server
        every.storage = SimpleNamespace(spent="", note_durable=lambda op: None)
        every.policy.members, every.settings = tuple, SimpleNamespace(replicas=(0, 1, 2))
        every.replica.serving, every.replica.synced = False, 0
        for is_back in (False, True):
            every.registrar = SimpleNamespace(look=lambda is_back=is_back: is_back)
            self.server._each_second()
            self.assertEqual(len(self.soon), is_back)

    def test_while_a_guest_is_heard_the_loop_is_asked_for_nothing(self) -> None:
        self.committed(1)
        self.desk.hears = True
        self.say(1)
        self.assertEqual(self.soon, [])
        self.server.hasten()
        self.assertEqual((self.left, self.soon), ([1], []), "it left, and no turn is due")

    def test_what_a_guest_said_beside_others_leaves_in_the_next_turn(self) -> None:
        self.committed(2)
        for _ in range(2):
            self.desk.hears = True
            self.say(1)
            self.server.hasten()
        self.assertEqual((self.left, len(self.soon)), ([], 1), "one turn for both")
        self.turn()
        self.assertEqual(self.left, [2])

    def test_who_said_nothing_new_asks_for_no_turn(self) -> None:
        self.desk.hears = True
        self.server.hasten()
        self.assertEqual(self.soon, [])

    def test_for_a_few_commands_a_primary_lets_backups_and_guests_go_first_and_a_backup_its_primary(self) -> None:
        for count, ways in ((FEW, 1), (FEW + 1, 0)):
            for is_primary in (True, False):
                with self.subTest(count=count, is_primary=is_primary):
                    self.ways_given, self.left[:] = 0, []
                    self.server.replica.is_primary = is_primary
                    if is_primary:
                        self.server._persist(Persist(1, (a_batch(count),)))
                        self.assertEqual(self.left, [-ways], "before its own disk")
                        self.ways_given = 0
                    self.committed(count)
                    self.assertEqual(self.ways_given, ways, "to whom it has answered, or to who has to answer")

    def test_many_who_wait_leave_before_anybody_is_answered(self) -> None:
        self.say(20)
        self.committed(61)
        self.assertEqual(self.left, [20])

    def test_as_much_as_a_batch_costs_leaves_at_once_whatever_the_batch_before_was(self) -> None:
        self.say(64)
        self.committed(2048)
        self.assertEqual(self.left, [64])

    def test_of_many_who_were_answered_only_so_many_are_listened_to(self) -> None:
        self.committed(2048)
        self.say(40)
        self.turn()
        self.assertEqual(self.left, [])
        self.say(40)
        self.turn()
        self.assertEqual(self.left, [80])
