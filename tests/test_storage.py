"""One replica's disk behind its door: what is believed at start. What is written in which order is tried by `prove_disk_errors.py`."""

from __future__ import annotations

import errno
import random
import unittest
from typing import Any

import msgspec

from batches import NO_HASH, Batch
from registrar import LOCK_MOVED, MOVED, Registrar
from storage import BootFailed, Storage
from superblock import Superblock
from tests.simulator.disk import SimDirectory, SimDisk, SimFiles
from tests.simulator.faults import clone

BASE, WALL = "data", 1_700_000_000_000_000
BLANK = Superblock(cluster="", replica=0, replicas=3, config_hash="c", format_nonce=b"nonce678", inc=0)


class StorageTest(unittest.TestCase):
    def setUp(self) -> None:
        self.files = SimFiles(random.Random(3))

    def start(self) -> Storage:
        """The replica's next incarnation."""
        storage = Storage(SimDisk(random.Random(4), self.files), BASE, 0, "dormitory", lambda text: None)
        storage.open(BLANK, WALL)
        return storage

    def end(self, storage: Storage) -> None:
        storage.disk.kill()  # type: ignore[attr-defined]

    def directory(self) -> SimDirectory:
        entry = self.files.find(BASE)
        assert isinstance(entry, SimDirectory)
        return entry


class Beginnings(StorageTest):
    def test_a_disk_remembers_the_incarnation_in_which_it_began(self) -> None:
        first = self.start()
        self.end(first)
        second = self.start()
        self.assertEqual((first.superblock.born, second.superblock.born, second.inc), (first.inc, first.inc, first.inc + 1))

    def test_an_emptied_directory_begins_anew(self) -> None:
        first = self.start()
        self.end(first)
        del self.directory().entries["replica-0"]
        second = self.start()
        self.assertGreater(second.inc, first.inc)
        self.assertEqual((second.superblock.born, second.damage), (second.inc, ""))

    def test_an_unreadable_superblock_begins_anew_too(self) -> None:
        first = self.start()
        self.end(first)
        for bit in (0, 4096 * 8):
            self.files.flip(f"{BASE}/replica-0/superblock", bit)
        second = self.start()
        self.assertEqual(second.superblock.born, second.inc)
        self.assertIn("damaged", second.damage)

    def test_one_that_an_earlier_build_wrote_is_as_old_as_its_views(self) -> None:
        first = self.start()
        first.save(born=0)
        self.end(first)
        unused = self.start()
        self.assertEqual(unused.superblock.born, unused.inc, "it has worked in no view: it may have been made a moment ago")
        unused.save(born=0, view=3, log_view=3)
        self.end(unused)
        self.assertEqual(self.start().superblock.born, 0)


class OtherClusters(StorageTest):
    def test_22_a_list_with_another_number_of_replicas(self) -> None:
        """The register may name one that nobody knows any more."""
        self.end(self.start())
        storage = Storage(SimDisk(random.Random(4), self.files), BASE, 0, "dormitory", lambda text: None)
        with self.assertRaisesRegex(BootFailed, "a cluster of 3 replicas, cluster.yaml lists 2"):
            storage.open(msgspec.structs.replace(BLANK, replicas=2), WALL)

    def test_another_name(self) -> None:
        self.end(self.start())
        storage = Storage(SimDisk(random.Random(4), self.files), BASE, 0, "kitchen", lambda text: None)
        with self.assertRaisesRegex(BootFailed, "belongs to cluster 'dormitory', cluster.yaml names 'kitchen'"):
            storage.open(BLANK, WALL)

    def test_the_disk_of_another_replica(self) -> None:
        """It may lack what this one has acknowledged, and its marks and its incarnation are those of the other."""
        storage = self.start()
        storage.save(replica=1)
        self.end(storage)
        with self.assertRaisesRegex(BootFailed, "holds the disk of replica 1: put each back into its own place"):
            self.start()

    def begin_with(self, blank: Superblock) -> tuple[Storage, list[str]]:
        """A start with what cluster.yaml says now, and what it logged."""
        said: list[str] = []
        storage = Storage(SimDisk(random.Random(4), self.files), BASE, 0, "dormitory", said.append)
        storage.open(blank, WALL)
        return storage, said

    def test_22_another_policy_is_refused(self) -> None:
        """One survivor of three may hold what the two that would be a majority lack."""
        alone = msgspec.structs.replace(BLANK, policy="survivor", peers=("a:1", "b:2", "c:3"))
        self.end(self.begin_with(alone)[0])
        with self.assertRaisesRegex(BootFailed, "begun under policy survivor, cluster.yaml leads to majority: a policy cannot be changed"):
            self.begin_with(msgspec.structs.replace(alone, policy="majority"))

    def test_22_a_peer_address_may_change_and_is_told_once(self) -> None:
        before = msgspec.structs.replace(BLANK, policy="survivor", peers=("a:1", "b:2", "c:3"))
        self.end(self.begin_with(before)[0])
        now = msgspec.structs.replace(before, config_hash="d", peers=("a:1", "b:5", "c:6"))
        storage, said = self.begin_with(now)
        self.assertIn("replica 1 from b:2 to b:5, 2 from c:3 to c:6; links need the same list", "\n".join(said))
        self.assertEqual((storage.superblock.peers, storage.superblock.config_hash), (now.peers, "d"))
        self.end(storage)
        self.assertNotIn("peer addresses", "\n".join(self.begin_with(now)[1]))

    def test_one_that_an_earlier_build_wrote_takes_what_cluster_yaml_says(self) -> None:
        self.end(self.start())
        now = msgspec.structs.replace(BLANK, policy="majority", peers=("a:1", "b:2", "c:3"))
        storage, said = self.begin_with(now)
        self.assertEqual((storage.superblock.policy, storage.superblock.peers), ("majority", now.peers))
        self.assertNotIn("peer addresses", "\n".join(said))


class FailedSaves(StorageTest):
    def fail_save(self, storage: Storage) -> None:
        """Its superblock's next sync fails, and the kernel forgets the page."""
        disk = storage.disk
        assert isinstance(disk, SimDisk)
        disk.sync_error = 1.0
        with self.assertRaisesRegex(OSError, "superblock"):
            storage.save_log_view(1, 1)
        disk.sync_error = 0.0

    def test_what_a_failed_save_left_is_not_written_over(self) -> None:
        for power in (False, True):
            for seed in range(4):
                with self.subTest(power=power, seed=seed):
                    self.files = SimFiles(random.Random(seed))
                    storage = self.start()
                    self.fail_save(storage)
                    before = bytes(self.files.file(f"{BASE}/replica-0/superblock").content)
                    with self.assertRaisesRegex(OSError, "not touched any more"):
                        storage.save(suspect=True)
                    self.assertEqual(bytes(self.files.file(f"{BASE}/replica-0/superblock").content), before)
                    self.end(storage)
                    if power:
                        self.files.crash()
                    again = self.start()
                    self.assertEqual((again.damage, again.superblock.suspect, again.inc), ("", False, storage.inc + 1))
                    self.assertIn(again.superblock.log_view, (0, 1))

    def test_a_full_disk_is_no_such_failure(self) -> None:
        storage = self.start()
        assert isinstance(storage.disk, SimDisk)
        storage.disk.fault = lambda call, site, path: OSError(errno.ENOSPC, "full", path) if call == "pwrite" else None
        with self.assertRaises(OSError):
            storage.save(view=1)
        storage.disk.fault = None
        storage.save(view=1)


class OldCopies(StorageTest):
    def test_35_an_older_state_of_the_directory_is_not_trusted(self) -> None:
        """Not even if no op tells it from the newer one, and not at the start after that either."""
        first = self.start()
        self.end(first)
        copy = clone(self.directory().entries["replica-0"])
        second = self.start()
        self.assertEqual(second.damage, "")
        self.end(second)
        self.directory().entries["replica-0"] = copy
        third = self.start()
        self.assertIn(f"an older state of itself, of incarnation {first.inc}: the lock file knows of {second.inc}", third.damage)
        self.assertGreater(third.inc, second.inc)
        self.end(third)
        self.assertTrue(self.start().damage, "nobody has given it what it lacks meanwhile")

    def test_35_a_power_cut_does_not_make_the_lock_file_forget(self) -> None:
        for seed in range(6):
            self.files = SimFiles(random.Random(seed))
            self.end(self.start())
            copy = clone(self.directory().entries["replica-0"])
            self.end(self.start())
            self.directory().entries["replica-0"] = copy
            self.files.changes.clear()
            self.files.crash()
            self.assertIn("an older state of itself", self.start().damage)

    def test_it_is_trusted_again_when_it_has_all(self) -> None:
        self.end(self.start())
        copy = clone(self.directory().entries["replica-0"])
        self.end(self.start())
        self.directory().entries["replica-0"] = copy
        storage = self.start()
        storage.append([Batch(first_op=1, count=1, view=1, time=WALL, prev_hash=NO_HASH, body=b"all there is")])
        storage.save_log_view(1, 1)
        self.end(storage)
        self.assertEqual(self.start().damage, "")

    def test_a_log_that_was_made_whole_need_not_be_as_long_as_the_one_before(self) -> None:
        """Its last batch was cut by all others, and the lock file has known it."""
        first = self.start()
        batch = Batch(first_op=1, count=1, view=1, time=WALL, prev_hash=NO_HASH, body=b"committed")
        first.append([batch])
        first.save_log_view(1, 1)
        copy = clone(self.directory().entries["replica-0"])
        first.append([Batch(first_op=2, count=1, view=1, time=WALL, prev_hash=batch.hash, body=b"not committed")])
        first.note_durable(2)
        self.end(first)
        self.directory().entries["replica-0"] = copy
        second = self.start()
        self.assertIn("ends at op 1, but it was synced up to op 2", second.damage)
        second.save_log_view(2, 2)
        self.end(second)
        self.assertEqual(self.start().damage, "")


class MovedDirectory(StorageTest):
    def test_it_stops_only_those_whose_views_it_decides(self) -> None:
        """Under `majority` it keeps a second process away, and says nothing of who leads."""
        for is_shared, words in ((True, MOVED), (False, LOCK_MOVED)):
            with self.subTest(is_shared=is_shared):
                self.files = SimFiles(random.Random(3))
                reports: list[str] = []
                ignore: Any = None
                look = Registrar(ignore, self.start(), is_shared=is_shared, feed=ignore, report=reports.append, leave=ignore)
                self.assertFalse(look.look())
                self.assertEqual((look.is_there, reports), (True, []))
                moved = self.directory().entries.pop("cluster")
                self.assertFalse(look.look())
                self.assertEqual((look.is_there, reports), (not is_shared, [words]))
                self.directory().entries["cluster"] = moved
                self.assertEqual([look.look(), look.look()], [is_shared, False], "whoever waited for it is told of it once")


if __name__ == "__main__":
    unittest.main()
