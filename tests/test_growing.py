"""A cluster that becomes larger, on simulated disks: what `grow` refuses, and what a start makes of a disk that was not changed."""

from __future__ import annotations

import random
import unittest
from collections.abc import Callable

from growing import Growing
from last_resort import Refused
from settings import parse
from storage import BootFailed, Storage
from superblock import Superblock
from tests import test_last_resort as resorts
from tests.simulator.disk import SimDisk
from tests.test_last_resort import BASE, LINES, NAME, WALL

ROW = '  - {{id: {0}, peer: "127.0.0.1:{1}", doors: {{pipe: {2}}}}}\n'


class GrowingTest(resorts.LastResortTest):
    """All three hold the same; cluster.yaml lists five."""

    def setUp(self) -> None:
        super().setUp()
        self.log = resorts.chain(9, 3)
        for i in range(3):
            self.live(i, self.log, 3)
        self.list(5)

    def list(self, replicas: int, name: str = NAME, policy: str = "") -> None:
        """From now on cluster.yaml lists so many."""
        lines = LINES.format(policy=policy or self.policy).replace(NAME, name)
        rows = [ROW.format(i, 7661 + i, 6666 + i) for i in range(replicas)]
        self.settings = parse((lines[: lines.index("replicas:\n") + 10] + "".join(rows)).encode(), "cluster.yaml")

    def grow(self, replica: int, name: str = NAME) -> Callable[[], None]:
        return lambda: self.carry_out(replica, Growing.grow, name)

    def start(self, replica: int, replicas: int) -> Storage:
        """Its next incarnation, with a cluster.yaml that lists so many."""
        storage = Storage(SimDisk(random.Random(4), self.files), BASE, replica, NAME, self.said.append)
        blank = Superblock(cluster="", replica=replica, replicas=replicas, config_hash="c", format_nonce=b"nonce678", inc=0)
        try:
            storage.open(blank, WALL)
        except BootFailed:
            self.end(storage)
            raise
        return storage

    def test_a_disk_that_was_changed_never_goes_back_and_one_that_was_forgotten_stays_behind(self) -> None:
        self.grow(0)()
        self.shows("belongs to a cluster of 5 replicas, not of 3, and never again to a smaller one")
        self.shows("replica 3, 4 are new")
        storage = self.start(0, 5)
        self.assertEqual((storage.damage, storage.journal.head_op, storage.superblock.log_view), ("", 9, 3))
        self.end(storage)
        with self.assertRaisesRegex(BootFailed, "of 5 replicas, cluster.yaml lists 3"):
            self.start(0, 3)
        with self.assertRaisesRegex(BootFailed, "of 3 replicas, cluster.yaml lists 5: .*server.py grow --replica 1"):
            self.start(1, 5)
        self.end(self.start(1, 3))
        self.assertEqual(self.decisions()[1][2:7], ["grow", NAME, "0", "3", "9"])

    def test_what_it_refuses(self) -> None:
        self.refuses("that is not the cluster's name", self.grow(0, "kitchen"))
        self.refuses("the disk of replica 3 is not whole: it is empty", self.grow(3))
        storage = self.start(1, 3)
        self.refuses("replica 1 runs", self.grow(0))
        self.end(storage)
        self.grow(0)()
        self.refuses("of 5 replicas, and cluster.yaml lists 5: there is nothing to do", self.grow(0))
        self.list(3)
        self.refuses("it can become larger, not smaller", self.grow(0))
        self.list(5, name="kitchen")
        self.refuses("of the cluster 'dormitory'", self.grow(1))
        self.rot(2, 4)
        self.list(5)
        self.refuses("the disk of replica 2 is not whole: ", self.grow(2))

    def test_another_policy(self) -> None:
        storage = self.start(0, 3)
        storage.save(policy=self.policy)
        self.end(storage)
        self.list(5, policy="majority" if self.policy == "survivor" else "survivor")
        self.refuses(f"was begun under policy {self.policy}", self.grow(0))

    def test_a_crash_at_any_write_leaves_it_one_or_the_other(self) -> None:
        for calls in range(1, 60, 2):
            disk = SimDisk(random.Random(calls), self.files)
            disk.fault = resorts.after(calls, ("pwrite", "sync", "sync_dir", "open"))
            command = self.resort(0, disk=disk)
            try:
                command.grow()
                break
            except Refused as refused:  # it was done, all but the copy of it
                self.assertIn("there is nothing to do", str(refused))
                break
            except OSError:
                pass
            disk.kill()
            self.files.crash()
        else:
            self.fail("it was never done")
        self.assertGreater(calls, 9)
        command.release()
        storage = self.start(0, 5)
        self.assertEqual((storage.damage, storage.journal.head_op), ("", 9))


class GrowingMajority(GrowingTest):
    policy = "majority"

    def test_the_old_ones_must_be_a_majority_of_the_new_number(self) -> None:
        self.list(6)
        self.refuses("3 replicas are no majority of 6, .* at most 5 at a time", self.grow(0))
        self.list(4)
        self.grow(0)()
        self.shows("begins when all of 0, 1, 2 were changed")

    def test_a_backup_of_one_of_three_becomes_a_cluster_of_five(self) -> None:
        self.lose(1, 2)
        self.refuses("is one of 3 replicas, and cluster.yaml lists 5: server.py grow --replica 0", lambda: self.force(0, 3, 4))
        self.grow(0)()
        self.force(0, 3, 4)
        for i in (0, 3, 4):
            storage = self.start(i, 5)
            self.assertEqual((storage.damage, storage.journal.head_op, storage.superblock.replicas), ("", 9, 5))
            self.end(storage)


if __name__ == "__main__":
    unittest.main()
