"""One file system under all replicas, full from one moment to the next: the cluster answers on, and is whole again when there is room."""

from __future__ import annotations

import os
import unittest
from typing import Any

from disk import SECTOR
from tests.system.cluster import Cluster
from tests.system.guests import Gone, Plain
from tests.system.small_disk import NoSmallDisk, SmallDisk

ROOM = 400 << 20  # bytes: what a new cluster takes, and something to write
TEXT = "x" * 60_000
MESSAGES_MAX = 200  # until the segments that are there must be full; the first has a mebibyte


class FullDisk(unittest.TestCase):
    """Nobody is started again by hand unless the story says so."""

    def setUp(self) -> None:
        self.sent = 0  # messages that were acknowledged
        self.unsure = 0  # guests that were let go while one of theirs was under way
        self.cluster = cluster = Cluster()
        self.addCleanup(cluster.end)
        try:
            self.disk = SmallDisk(cluster.base, ROOM)
        except NoSmallDisk as error:
            self.skipTest(f"no small disk can be had here: {error}")
        self.addCleanup(self.disk.end)
        cluster.start()
        cluster.wait_members()
        with Plain(cluster.pipes[0]) as guest:
            for name in ("ann", "bob"):
                self.assertIn(name, guest.ask(f"1|{name}"))

    def rows(self) -> list[dict[str, Any]]:
        rows = self.cluster.statuses()
        return [rows[i] for i in self.cluster.ids if i in rows]

    def fill(self) -> None:
        """Send until one of the replicas is alone and takes nothing new."""
        self.disk.fill()
        while self.last() is None:
            self.cluster.wait("somebody serves, or is alone", lambda: self.cluster.primary() is not None or self.last())
            serving = self.cluster.primary()
            if serving is None:
                break
            try:
                with Plain(self.cluster.pipes[serving]) as guest:
                    self.send(guest)
            except (Gone, OSError):
                self.unsure += 1  # the replica of this guest was the first without room: another one may still have some
        self.cluster.wait("one is alone, the others wait for room", self.is_settled)

    def send(self, guest: Plain) -> None:
        self.assertIn("logged in", guest.ask("0|ann123"))
        guest.socket.settimeout(0.1)
        while self.last() is None:
            self.assertLess(self.sent, MESSAGES_MAX)
            self.disk.fill()
            guest.say(f"3|bob|{self.sent} {TEXT}\n")
            self.sent += self.is_answered(guest)

    def is_answered(self, guest: Plain) -> bool:
        while True:
            try:
                return guest.until("mailbox\n") != b""
            except TimeoutError:
                if self.last() is not None:
                    return False

    def last(self) -> dict[str, Any] | None:
        return next((row for row in self.rows() if row["status"] == "read_only"), None)

    def is_ready(self) -> bool:
        paths = [os.path.join(self.cluster.base, "cluster", f"proposal-{i}") for i in self.cluster.ids]
        return all(os.path.exists(path) and os.stat(path).st_nlink == 1 and os.stat(path).st_size == SECTOR for path in paths)

    def is_settled(self) -> bool:
        return sorted(row["status"] for row in self.rows()) == ["learner", "learner", "read_only"]

    def assert_read_only(self) -> None:
        """Everything is said, reads are answered, changes are refused, and all three run."""
        last = self.last()
        assert last is not None
        self.assertEqual(self.cluster.running(), [0, 1, 2])
        shown = self.cluster.run("status").stdout
        self.assertRegex(shown, rf"replica {last['id']} reports: read_only.* nothing new is taken: the disk of replica . is full")
        with Plain(self.cluster.pipes[last["id"]]) as guest:
            self.assertIn("bob", guest.ask("2"))
            self.assertIn("valid input", guest.ask("1|cid", "documentation"), "refused, and at once")

    def test_it_is_full_under_all_and_has_room_again(self) -> None:
        self.cluster.wait("each can decide a view without more room", self.is_ready)
        self.fill()
        self.assertGreater(self.sent, 0)
        self.assert_read_only()
        waiting = [row["waiting"] for row in self.rows() if row["status"] == "learner"]
        self.assertEqual([words[:33] for words in waiting], ["for room: the disk of replica 1 i", "for room: the disk of replica 2 i"])
        self.cluster.kill_all()
        self.cluster.start()
        self.fill()
        self.assert_read_only()
        last = self.last()
        assert last is not None
        self.assertEqual({row["waiting"][:9] for row in self.rows() if row["id"] != last["id"]}, {"for room:"})
        self.disk.free()
        self.cluster.wait_members()
        with Plain(self.cluster.pipes[1]) as guest:
            self.assertIn("cid", guest.ask("1|cid"))
        self.cluster.wait_level()
        self.assertEqual(self.cluster.differences(), [])
        told = [int(text.partition(" ")[0]) for _, _, text in self.cluster.history(2)]
        self.assertEqual(sorted(set(told)), list(range(max(told) + 1)), "all that was acknowledged")
        self.assertLessEqual(self.sent, len(told))
        self.assertLessEqual(
            len(told), self.sent + 2 + self.unsure, "and what stood in flight each time, whose plain guest could not ask for it by number"
        )


if __name__ == "__main__":
    unittest.main()
