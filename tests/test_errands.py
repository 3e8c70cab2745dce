"""Orders to the disk: done, failed, or kept until there is room."""

from __future__ import annotations

import errno
import unittest
from collections.abc import Callable
from typing import Any
from unittest import mock

from errands import RETRY_FULL_S, Errands
from events import Cut, CutDone, DiskFailed, Saved, SaveLogView, SaveView, ViewSaved

FULL = OSError(errno.ENOSPC, "no room")


class ErrandsTest(unittest.TestCase):
    def setUp(self) -> None:
        self.storage, self.heard, self.log = mock.Mock(), list[Any](), list[str]()
        self.timers: list[tuple[float, Callable[[], None]]] = []
        host = mock.Mock(now=lambda: 10.0, settle=lambda feed, event: feed(event), log=self.log.append)
        host.at = lambda when, callback: self.timers.append((when, callback))
        self.errands = Errands(host, self.storage, 2, feed=self.heard.append)

    def again(self) -> None:
        """The moment at which it is tried again."""
        when, callback = self.timers.pop()
        self.assertEqual((when, self.timers), (10.0 + RETRY_FULL_S, []))
        callback()

    def test_what_is_done_is_answered(self) -> None:
        self.errands.run(Cut(7))
        self.errands.run(SaveView(7, 3, False))
        self.assertEqual((self.heard, self.timers), ([CutDone(7), ViewSaved(7, 3)], []))

    def test_a_full_disk_is_told_once_and_the_order_answered_when_there_is_room(self) -> None:
        self.storage.save_log_view.side_effect = FULL
        self.errands.run(SaveLogView(7, 3, 3))
        for _ in range(3):
            self.again()
        self.assertEqual(self.heard, [DiskFailed(7, "the disk of replica 2 is full", True)])
        self.storage.save_log_view.side_effect = None
        self.again()
        self.assertEqual(self.heard[1:], [Saved(7, 3)])
        self.assertEqual(self.log, ["the disk of replica 2 is full", "the disk of replica 2 has room again"])
        self.assertEqual(self.timers, [])

    def test_orders_are_kept_in_their_order(self) -> None:
        self.storage.cut.side_effect = self.storage.save.side_effect = FULL
        self.errands.run(Cut(7))
        self.errands.run(SaveView(7, 4, True))
        self.again()
        self.storage.cut.side_effect = None
        self.again()
        self.assertEqual(self.heard[2:], [CutDone(7)])
        self.storage.save.side_effect = None
        self.again()
        self.assertEqual(self.heard[3:], [ViewSaved(7, 4)])

    def test_another_error_is_never_tried_again(self) -> None:
        self.storage.cut.side_effect = FULL
        self.errands.run(Cut(7))
        self.storage.cut.side_effect = OSError(errno.EIO, "broken")
        self.again()
        self.assertEqual([event.full for event in self.heard], [True, False])
        self.assertIn("the disk of replica 2 failed: [Errno 5] broken", self.heard[1].reason)
        self.assertEqual((self.timers, self.log[2:]), ([], []))

    def test_nothing_is_tried_after_the_end(self) -> None:
        self.storage.cut.side_effect = FULL
        self.errands.run(Cut(7))
        self.errands.is_over = True
        self.again()
        self.assertEqual((self.storage.cut.call_count, self.timers), (1, []))


if __name__ == "__main__":
    unittest.main()
