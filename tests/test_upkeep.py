"""Upkeep: what is ordered when, and what becomes of the answers. Transfers have tests of their own; the simulator tries all together."""

from __future__ import annotations

import unittest
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from events import SnapshotDiffered, SnapshotRead
from history import MARK_BYTES, MARKS, Page
from replication import LEARNER, NORMAL
from state import ChatState
from upkeep import LOOK_AGAIN_S, LOOK_FIRST_S, LOOK_S, SLICE_EVERY, Upkeep

TIP = b"t" * 16


class FakeHost:
    """A clock that a test turns, and a worker that answers when the test says so."""

    def __init__(self) -> None:
        self.time = 100.0
        self.orders: list[tuple[dict[str, Any], Callable[[dict[str, Any]], None]]] = []
        self.turns: list[Callable[[], None]] = []
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.readied = self.stood_back = 0

    def stand_back(self) -> None:
        self.stood_back += 1

    def at(self, when: float, callback: Callable[[], None]) -> None:
        self.timers.append((when, callback))

    def soon(self, callback: Callable[[], None]) -> None:
        self.turns.append(callback)

    def now(self) -> float:
        return self.time

    def ready_worker(self) -> None:
        self.readied += 1

    def order_snapshot(self, order: dict[str, Any], done: Callable[[dict[str, Any]], None]) -> None:
        self.orders.append((order, done))

    def read(self, after: float, job: Callable[[], Any], done: Callable[[Any], None]) -> None:
        done(job())

    def answer(self, **words: Any) -> None:
        _, done = self.orders.pop(0)
        done(words)


class UpkeepTest(unittest.TestCase):
    def setUp(self) -> None:
        self.host = FakeHost()
        self.placed: list[int] = []
        journal = SimpleNamespace(generation=0, bytes_since=lambda op: 0)
        self.storage = SimpleNamespace(
            disk=None,
            path="data/replica-0",
            cluster_path="data/cluster",
            snapshots_path="data/replica-0/snapshots",
            journal=journal,
            snapshot_op=0,
            must_rewrite=False,
            spent="",
            place=self.place,
        )
        self.replica = SimpleNamespace(applied=7, head_op=7, parent_op=6, head_hash=TIP, status=NORMAL, digest=55, digest_op=7)
        self.fed: list[Any] = []
        self.said: list[str] = []
        self.upkeep: Any = self.make()
        self.upkeep.archive.state = self.state = ChatState()
        self.state.history.extend((number, 5, "mason", "wayne", "x") for number in range(1, 6))

    def test_what_is_applied_brings_the_next_segment_on_a_slice_at_a_time(self) -> None:
        self.upkeep.note_applied(SLICE_EVERY - 1)
        self.assertEqual(self.host.turns, [])
        self.upkeep.note_applied(1)
        self.upkeep.note_applied(SLICE_EVERY - 1)
        self.assertEqual(self.host.turns, [self.upkeep.make_ready], "in a turn of its own: no guest waits for it")

    def test_what_is_applied_takes_long_messages_out_of_memory(self) -> None:
        self.state.message_count = 5
        for _ in range(MARKS):
            self.upkeep.note_applied(MARK_BYTES)
        self.assertTrue(self.state.history)
        self.upkeep.note_applied(MARK_BYTES)
        self.assertFalse(self.state.history)

    def make(self) -> Any:
        settings: Any = SimpleNamespace(name="dormitory", snapshot_quiet_ms=300, snapshot_every_s=60, snapshot_every_bytes=1 << 26)
        made: Any = Upkeep
        return made(self.host, settings, self.storage, self.replica, feed=self.fed.append, report=self.said.append)

    def place(self, made: str, op: int, tip: bytes, pinned: frozenset[int]) -> None:
        self.placed.append(op)
        self.storage.snapshot_op = op

    def turn(self, seconds: float) -> None:
        self.host.time += seconds
        self.upkeep.consider_snapshot()
        self.upkeep.look_again()

    # --- transfers ------------------------------------------------------------------------------------------------------------------------

    def test_one_call_at_a_time_goes_on_with_a_transfer_however_often_it_is_looked_at(self) -> None:
        self.replica.generation, self.replica.view = 4, 9
        self.upkeep.receiver = receiver = SimpleNamespace(
            generation=4, is_checking=True, due_at=100.5, is_early=lambda now: True, next_requests=lambda view, now: []
        )
        for _ in range(3):
            self.upkeep.fetch_more()
        self.assertEqual((len(self.host.turns), self.host.timers), (1, []), "its own files are read in the next turn")
        receiver.is_checking = False
        self.host.turns.pop()()
        self.upkeep.fetch_more()
        ((when, go_on),) = self.host.timers
        self.assertEqual((self.host.turns, when), ([], 100.5), "others' when that is due")
        go_on()
        self.assertEqual(len(self.host.timers), 2)

    def test_a_learner_stands_back_after_each_piece_of_its_work(self) -> None:
        self.replica.status, self.replica.primary, self.replica.source = LEARNER, 0, None
        self.replica.generation, self.replica.view = 4, 9
        self.upkeep.receiver = SimpleNamespace(
            generation=4, is_checking=False, is_early=lambda now: False, next_requests=lambda view, now: [], take=lambda chunk: False
        )
        self.upkeep.on_chunk(0, None)
        self.assertEqual(self.host.stood_back, 1)
        self.upkeep.note_applied(100)
        self.assertEqual(self.host.stood_back, 2)
        self.replica.status = NORMAL
        self.upkeep.note_applied(100)
        self.assertEqual(self.host.stood_back, 2, "guests wait for a member")

    def test_a_learner_does_not_start_a_worker_early(self) -> None:
        self.replica.status = LEARNER
        self.turn(0.1)
        self.assertEqual(self.host.readied, 0)
        self.replica.status = NORMAL
        self.turn(0.1)
        self.assertEqual((self.host.readied, self.host.orders), (1, []))

    # --- snapshots ------------------------------------------------------------------------------------------------------------------------

    def test_one_is_made_when_all_is_quiet(self) -> None:
        self.turn(0.1)
        self.assertEqual(self.host.orders, [])
        self.turn(0.3)
        self.turn(5.0)
        self.assertEqual([order["make"] for order, _ in self.host.orders], [7], "one order at a time")
        self.host.answer(path="tmp-7", digest=55, messages=3)
        self.assertEqual((self.placed, self.fed), ([7], []))
        self.assertEqual([number for number, *_ in self.state.history], [4, 5], "what it holds need not be in memory")

    def test_one_is_made_when_another_replica_ends_again_and_again(self) -> None:
        """Not when several end once each, nor where another one leads, nor each time."""
        for lost, leads, ordered in (("1212", True, 0), ("111", False, 0), ("111", True, 1), ("111111", True, 1), ("1 1 1", True, 0)):
            with self.subTest(lost=lost, leads=leads):
                self.setUp()
                self.replica.is_primary = leads
                for replica in lost:
                    self.host.time += 3.0 if replica == " " else 0.1
                    self.host.orders[1:] = []
                    if replica != " ":
                        self.upkeep.note_ended(int(replica))
                        self.upkeep.worker_busy = False
                self.assertEqual(len(self.host.orders), ordered)

    def test_no_second_one_for_that_while_the_worker_is_busy(self) -> None:
        self.replica.is_primary, self.upkeep.worker_busy = True, True
        for _ in range(3):
            self.upkeep.note_ended(1)
        self.upkeep.worker_busy = False
        self.upkeep.note_ended(1)
        self.assertEqual(len(self.host.orders), 1, "the doubt was not forgotten")

    def test_one_that_leads_elsewhere_is_not_put_in_place(self) -> None:
        """Somebody's memory is wrong; the log is what all agreed on."""
        self.turn(0.4)
        self.host.answer(path="tmp-7", digest=56)
        self.assertEqual((self.placed, self.fed), ([], [SnapshotDiffered(7)]))

    def test_one_of_an_op_whose_digest_is_not_known_yet(self) -> None:
        self.replica.digest_op = 6
        self.turn(0.4)
        self.host.answer(path="tmp-7", digest=56, messages=3)
        self.assertEqual((self.placed, self.fed), ([7], []))

    def test_one_that_failed_is_said_and_tried_again(self) -> None:
        self.turn(0.4)
        self.host.answer(failed="no memory")
        self.assertEqual(self.said, ["no snapshot: no memory"])
        self.turn(0.4)
        self.assertEqual(len(self.host.orders), 1)

    # --- a second look --------------------------------------------------------------------------------------------------------------------

    def look(self) -> bool:
        """Whether a look is under way."""
        return any("make" not in order for order, _ in self.host.orders)

    def test_the_newest_snapshot_is_read_again_soon_after_start_and_then_each_day(self) -> None:
        self.storage.snapshot_op = 7
        self.turn(LOOK_FIRST_S - 0.1)
        self.assertFalse(self.look())
        self.turn(0.2)
        self.assertTrue(self.look())
        self.host.answer(damage="")
        self.assertEqual(self.fed, [SnapshotRead("")])
        self.turn(LOOK_S - 1)
        self.assertFalse(self.look())
        self.turn(2)
        self.assertTrue(self.look())

    def test_there_is_nothing_to_read(self) -> None:
        self.replica.applied = 0
        self.turn(LOOK_FIRST_S + 1)
        self.assertFalse(self.look())

    def test_what_a_guest_could_not_read_is_looked_at_soon(self) -> None:
        self.storage.snapshot_op = 7
        self.turn(LOOK_FIRST_S + 1)
        self.host.answer(damage="")
        self.storage.disk = SimpleNamespace(listdir=self.fail_to_list)
        self.upkeep = self.make()
        self.upkeep.archive.state, found = self.state, list[Any]()
        self.upkeep.look_at = self.host.time + LOOK_S
        self.upkeep.archive.ask(Page("mason", "wayne", 0, 6, 9), found.append)
        self.assertEqual((found, self.said), ([None], ["the history cannot be read: [Errno 5] rotten"]))
        self.turn(LOOK_AGAIN_S - 1)
        self.assertFalse(self.look())
        self.turn(2)
        self.assertTrue(self.look())

    def fail_to_list(self, path: str) -> list[str]:
        raise OSError(5, "rotten")

    def test_damage_is_told_and_looked_at_again(self) -> None:
        self.storage.snapshot_op = 7
        self.turn(LOOK_FIRST_S + 1)
        self.host.answer(damage="messages-000001.csv is damaged")
        self.assertEqual((self.fed, self.said), ([SnapshotRead("messages-000001.csv is damaged")], ["messages-000001.csv is damaged"]))
        self.host.answer(failed="it was linked")
        self.turn(LOOK_AGAIN_S + 1)
        self.assertTrue(self.look())
        self.host.answer(failed="the snapshot worker ended without an answer")
        self.assertEqual(len(self.fed), 1, "who could not look knows nothing")

    def test_what_is_damaged_is_made_anew_at_once_though_nothing_was_said_since(self) -> None:
        self.storage.snapshot_op = 7
        self.turn(LOOK_FIRST_S + 1)
        self.host.answer(damage="accounts.csv is damaged")
        self.assertEqual([order.get("make") for order, _ in self.host.orders], [7])
        self.host.answer(path="made", digest=55, messages=0)
        self.assertEqual(self.placed, [7])
        self.turn(1)
        self.assertEqual(self.host.orders, [], "once, not each second until the next look")
        self.turn(LOOK_AGAIN_S)
        self.host.answer(damage="messages-000001.csv is damaged")
        self.assertEqual(self.host.orders, [], "what is damaged still is not in memory")
        self.turn(LOOK_AGAIN_S + 1)
        self.host.answer(damage="")
        self.turn(1)
        self.assertEqual((self.host.orders, self.fed[-1]), ([], SnapshotRead("")))

    def test_one_that_is_offered_is_looked_at(self) -> None:
        self.storage.snapshot_op = 7
        self.turn(LOOK_FIRST_S + 1)
        self.host.answer(damage="")
        self.upkeep.sender = SimpleNamespace(offer=lambda now: (7, TIP, b"manifest"))
        self.host.send = lambda replicas, packet: None  # type: ignore[attr-defined]
        self.replica.view = 1
        self.upkeep.offer(2)
        self.turn(LOOK_AGAIN_S - 1)
        self.assertFalse(self.look(), "a learner that asks again and again is no reason to read all the time")
        self.turn(2)
        self.assertTrue(self.look())
        self.host.answer(damage="")
        self.turn(LOOK_S / 2)
        self.upkeep.offer(2)
        self.turn(LOOK_FIRST_S - 1)
        self.assertFalse(self.look(), "it would take the processor from the transfer, and from the guests beside it")
        self.upkeep.offer(2)
        self.turn(2)
        self.assertTrue(self.look(), "an offer more puts it off no further")


if __name__ == "__main__":
    unittest.main()
