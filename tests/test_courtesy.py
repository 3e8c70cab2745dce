"""Courtesy: to whom the processor is left, and for how long."""

from __future__ import annotations

import gc
import unittest
from types import SimpleNamespace
from typing import Any
from unittest import mock

import collector
from courtesy import KEEP_S, WAYS, Courtesy
from events import InstallSnapshot
from replication import LEARNER
from server import Server


class Way(unittest.TestCase):
    """What a replica gives up of its processor for the sake of another one."""

    def setUp(self) -> None:
        self.clock, self.away, self.ways = 1.0, 0.0002, 0
        self.courtesy = Courtesy()
        self.enterContext(mock.patch("courtesy.monotonic", lambda: self.clock))
        self.enterContext(mock.patch("courtesy.sched_yield", self._yield))

    def _yield(self) -> None:
        self.ways += 1
        self.clock += self.away

    def give(self, times: int) -> int:
        before = self.ways
        for _ in range(times):
            self.courtesy.give_way()
        return self.ways - before

    def test_way_is_given_to_who_needs_a_moment(self) -> None:
        self.assertEqual(self.give(100), 100)

    def test_who_keeps_the_processor_is_given_way_once_a_second(self) -> None:
        self.away = 0.003
        self.assertEqual(self.give(10 * WAYS), WAYS, "it is noticed when the clock is read")
        self.clock += KEEP_S - 0.001
        self.assertEqual(self.give(10 * WAYS), 0)
        self.clock += 0.002
        self.assertEqual(self.give(10 * WAYS), 1)
        self.away, self.clock = 0.0002, self.clock + KEEP_S
        self.assertEqual(self.give(WAYS), 1)
        self.assertEqual(self.give(10 * WAYS), 10 * WAYS, "and as before when it has gone")

    def test_who_catches_up_stands_back_after_each_piece_of_work(self) -> None:
        before = self.ways
        for _ in range(100):
            self.courtesy.stand_back()
            self.clock += 0.0001
        self.assertEqual(self.ways - before, 100)

    def test_who_catches_up_has_a_fourth_of_the_time_where_others_never_have_enough(self) -> None:
        for self.away in (0.0007, 0.0009, 0.004):
            before, began = self.ways, self.clock
            while self.clock - began < 10:
                self.courtesy.stand_back()
                self.clock += 0.0001
            self.assertLess((self.ways - before) * self.away, 7.51, self.away)
            self.assertGreater((self.ways - before) * self.away, 6.8, self.away)


class Installing(unittest.TestCase):
    """A whole state is read from the disk: nobody waits for it, and it stays."""

    def setUp(self) -> None:
        self.done: list[str] = []
        self.addCleanup(gc.unfreeze)

    def install(self, *words: Any) -> Any:
        self.assertFalse(gc.isenabled(), "what stays is looked through for nothing")
        pause = words[-1]
        pause()
        self.done.append("installed")
        return SimpleNamespace(digest=7, time=8)

    def test_others_have_the_processor_first_and_the_collector_rests(self) -> None:
        server: Any = Server.__new__(Server)
        server.host = SimpleNamespace(
            undisturbed=collector.spared, stand_back=lambda: self.done.append("stood back"), settle=lambda feed, event: feed(event)
        )
        server.storage = SimpleNamespace(install=self.install)
        server.upkeep = SimpleNamespace(take_fetched=lambda op: f"fetched-{op}")
        server.desk = SimpleNamespace(replace_state=lambda state: self.done.append("told"))
        server.replica = SimpleNamespace(status=LEARNER)
        self.addCleanup(gc.set_threshold, *gc.get_threshold())
        server.feed = lambda event: self.done.append(type(event).__name__)
        server._install_snapshot(InstallSnapshot(4, 12, b"tip"))
        self.assertEqual(self.done, ["stood back", "installed", "told", "Installed"])
        self.assertTrue(gc.isenabled())

    def test_the_collector_is_back_whatever_happens(self) -> None:
        before, frozen = gc.get_threshold(), gc.get_freeze_count()
        self.addCleanup(gc.set_threshold, *before)
        with self.assertRaises(OSError), collector.spared():
            stays = [[number] for number in range(1000)]
            raise OSError
        self.assertTrue(gc.isenabled())
        self.assertEqual(gc.get_threshold(), collector.GARBAGE)
        self.assertGreaterEqual(gc.get_freeze_count() - frozen, len(stays))


if __name__ == "__main__":
    unittest.main()
