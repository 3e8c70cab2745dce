"""The real disk, the simulated one beside it, replica locks and the ballast."""

from __future__ import annotations

import errno
import os
import random
import stat
import subprocess
import sys
import tempfile
import unittest
from collections.abc import Callable
from unittest import mock

from disk import NETWORKED, SECTOR, Ballast, Disk, LockContent, OsDisk, ReplicaLock, file_system
from tests.simulator.disk import SimDisk, SimFiles, Stopped


class BothDisks(unittest.TestCase):
    """Whatever the program relies on must be the same on both."""

    def run_on_both(self, name: str) -> None:
        with tempfile.TemporaryDirectory() as root, self.subTest(disk="real"):
            getattr(self, name)(OsDisk(), root)
        with self.subTest(disk="simulated"):
            disk = SimDisk(random.Random(1))
            disk.mkdir("top")
            getattr(self, name)(disk, "top")

    def assert_error(self, number: int, call: object, *arguments: object) -> None:
        with self.assertRaises(OSError) as caught:
            call(*arguments)  # type: ignore[operator]
        self.assertEqual(caught.exception.errno, number)

    def test_files(self) -> None:
        self.run_on_both("files")

    def files(self, disk: Disk, root: str) -> None:
        path = f"{root}/a"
        self.assert_error(errno.ENOENT, disk.open, path)
        fd = disk.open(path, create=True)
        disk.pwrite(fd, b"hello", 3)
        self.assertEqual((disk.pread(fd, 100, 0), disk.size(fd)), (b"\0\0\0hello", 8))
        self.assertEqual((disk.pread(fd, 2, 4), disk.pread(fd, 5, 8)), (b"el", b""))
        disk.sync(fd)
        disk.truncate(fd, 4)
        disk.truncate(fd, 6)
        self.assertEqual(disk.pread(fd, 100, 0), b"\0\0\0h\0\0")
        disk.allocate(fd, 5000)
        self.assertEqual(disk.size(fd), 5000)
        disk.allocate(fd, 10)
        self.assertEqual(disk.size(fd), 5000)
        disk.close(fd)
        again = disk.open(path, create=True)
        self.assertEqual(disk.pread(again, 4, 0), b"\0\0\0h")
        disk.close(again)

    def test_names(self) -> None:
        self.run_on_both("names")

    def names(self, disk: Disk, root: str) -> None:
        disk.mkdir(f"{root}/d/e")
        disk.mkdir(f"{root}/d/e")
        disk.close(disk.open(f"{root}/d/one", create=True))
        disk.link(f"{root}/d/one", f"{root}/d/two")
        self.assert_error(errno.EEXIST, disk.link, f"{root}/d/one", f"{root}/d/two")
        self.assert_error(errno.ENOENT, disk.link, f"{root}/d/none", f"{root}/d/three")
        self.assertEqual(disk.listdir(f"{root}/d"), ["e", "one", "two"])
        disk.unlink(f"{root}/d/one")
        self.assert_error(errno.ENOENT, disk.unlink, f"{root}/d/one")
        disk.rename(f"{root}/d/two", f"{root}/d/three")
        self.assert_error(errno.ENOENT, disk.rename, f"{root}/d/two", f"{root}/d/x")
        self.assertEqual((disk.exists(f"{root}/d/three"), disk.exists(f"{root}/d/two"), disk.exists(f"{root}/no/x")), (True, False, False))
        disk.sync_dir(f"{root}/d")
        fd = disk.open_dir(f"{root}/d")
        disk.sync_dir(fd)
        self.assertEqual(disk.identity(f"{root}/d"), disk.identity(fd))
        disk.rename(f"{root}/d", f"{root}/moved")
        self.assert_error(errno.ENOENT, disk.identity, f"{root}/d")
        disk.mkdir(f"{root}/d")
        self.assertNotEqual(disk.identity(f"{root}/d"), disk.identity(fd))
        disk.close(fd)
        self.assertEqual(disk.listdir(f"{root}/moved"), ["e", "three"])
        disk.remove_tree(f"{root}/moved")
        self.assertEqual(disk.listdir(root), ["d"])
        self.assert_error(errno.ENOENT, disk.listdir, f"{root}/moved")
        disk.close(disk.open(f"{root}/f", create=True))
        with self.assertRaises(OSError):
            disk.mkdir(f"{root}/f")

    def test_links(self) -> None:
        self.run_on_both("links")

    def links(self, disk: Disk, root: str) -> None:
        for name in ("one", "two"):
            disk.mkdir(f"{root}/{name}")
            disk.close(disk.open(f"{root}/{name}/{name}.csv", create=True))
            disk.symlink(name, f"{root}/newest")
            self.assertEqual(disk.listdir(f"{root}/newest"), [f"{name}.csv"])
            self.assertTrue(disk.exists(f"{root}/newest/{name}.csv"))
            self.assertTrue(disk.exists(f"{root}/newest"))
        disk.symlink("two/two.csv", f"{root}/trap")
        self.assert_error(errno.ELOOP, disk.open, f"{root}/trap")
        disk.symlink("nowhere", f"{root}/newest")
        self.assertFalse(disk.exists(f"{root}/newest"))
        self.assert_error(errno.EISDIR, disk.symlink, "two", f"{root}/one")
        self.assertEqual(disk.listdir(f"{root}/one"), ["one.csv"])
        self.assertFalse(disk.exists(f"{root}/one.new"))

    def test_locks(self) -> None:
        self.run_on_both("locks")

    def locks(self, disk: Disk, root: str) -> None:
        path = f"{root}/lock"
        self.assert_error(errno.ENOENT, lambda: disk.try_lock(path, shared=True))
        held = disk.try_lock(path, shared=False)
        assert held is not None
        self.assertIsNone(disk.try_lock(path, shared=False))
        self.assertIsNone(disk.try_lock(path, shared=True))
        disk.unlock(held)
        first, second = disk.try_lock(path, shared=True), disk.try_lock(path, shared=True)
        assert first is not None and second is not None
        self.assertIsNone(disk.try_lock(path, shared=False))
        disk.unlock(first)
        disk.unlock(second)
        again = disk.try_lock(path, shared=False)
        assert again is not None
        disk.unlock(again)

    def test_replica_lock(self) -> None:
        self.run_on_both("replica_lock")

    def replica_lock(self, disk: Disk, root: str) -> None:
        self.assertIsNone(ReplicaLock.probe(disk, root, 1))
        lock = ReplicaLock.acquire(disk, root, 1, pid=77)
        assert lock is not None
        self.assertIsNone(lock.before)
        self.assertEqual(ReplicaLock.probe(disk, root, 1), 0)
        lock.write(5, 40)
        lock.write(6, 41, sync=True)
        self.assertEqual(ReplicaLock.read(disk, root, 1), LockContent(6, 77, 41))
        self.assertEqual((ReplicaLock.probe(disk, root, 1), ReplicaLock.probe(disk, root, 0)), (6, None))
        self.assertIsNone(ReplicaLock.acquire(disk, root, 1))
        lock.release()
        self.assertIsNone(ReplicaLock.probe(disk, root, 1))
        again = ReplicaLock.acquire(disk, root, 1)
        assert again is not None
        self.assertEqual(again.before, LockContent(6, 77, 41))
        self.assertEqual(ReplicaLock.probe(disk, root, 1), 6)
        fd = disk.open(ReplicaLock.path(root, 1))
        for bit in range(0, SECTOR * 8, 7):
            byte = disk.pread(fd, 1, bit // 8)
            disk.pwrite(fd, bytes([byte[0] ^ 1 << bit % 8]), bit // 8)
            self.assertEqual(ReplicaLock.probe(disk, root, 1), 0)
            disk.pwrite(fd, byte, bit // 8)
        self.assertEqual(ReplicaLock.probe(disk, root, 1), 6)
        again.release()
        for content, rotten in ((b"\0", False), (b"?", True)):
            disk.pwrite(fd, content * SECTOR, 0)
            lock = ReplicaLock.acquire(disk, root, 1)
            assert lock is not None
            self.assertEqual((lock.before, lock.rotten), (None, rotten))
            lock.release()
        disk.close(fd)

    def test_ballast(self) -> None:
        self.run_on_both("ballast")

    def ballast(self, disk: Disk, root: str) -> None:
        ballast = Ballast(disk, f"{root}/ballast", 1 << 20)
        self.assertFalse(ballast.release())
        self.assertTrue(ballast.take_in() and ballast.take_in())
        self.assertTrue(disk.exists(f"{root}/ballast"))
        self.assertTrue(ballast.release())
        self.assertFalse(disk.exists(f"{root}/ballast"))


class RealDisk(unittest.TestCase):
    """What only the real one can show."""

    def setUp(self) -> None:
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.root = holder.name
        self.disk = OsDisk()

    def test_files_belong_to_their_owner_alone_and_are_not_inherited(self) -> None:
        self.disk.mkdir(f"{self.root}/d")
        fd = self.disk.open(f"{self.root}/d/f", create=True)
        lock = self.disk.try_lock(f"{self.root}/d/l", shared=False)
        assert lock is not None
        self.assertEqual(stat.S_IMODE(os.stat(f"{self.root}/d").st_mode), 0o700)
        self.assertEqual(stat.S_IMODE(os.fstat(fd).st_mode), 0o600)
        self.assertFalse(os.get_inheritable(fd) or os.get_inheritable(lock))
        self.disk.close(fd)
        self.disk.unlock(lock)

    def test_short_writes_and_reads_are_continued(self) -> None:
        fd = self.disk.open(f"{self.root}/f", create=True)
        pwrite, pread = os.pwrite, os.pread
        with mock.patch("os.pwrite", lambda fd, content, at: pwrite(fd, content[:3], at)):
            self.disk.pwrite(fd, b"0123456789", 0)
        with mock.patch("os.pread", lambda fd, count, at: pread(fd, min(count, 4), at)):
            self.assertEqual(self.disk.pread(fd, 100, 0), b"0123456789")
            self.assertEqual(self.disk.pread(fd, 9, 0), b"012345678")
        with mock.patch("os.pwrite", lambda fd, content, at: 0), self.assertRaises(OSError):
            self.disk.pwrite(fd, b"x", 0)
        self.disk.close(fd)

    def test_a_file_behind_a_device_that_is_full(self) -> None:
        with self.assertRaises(OSError) as caught:
            self.disk.pwrite(os.open("/dev/full", os.O_RDWR), b"x", 0)
        self.assertEqual(caught.exception.errno, errno.ENOSPC)

    def test_a_lock_ends_with_its_process_and_not_before(self) -> None:
        program = (
            "import sys, disk\n"
            "lock = disk.ReplicaLock.acquire(disk.OsDisk(), sys.argv[1], 2)\n"
            "lock.write(99, 7)\nprint('held', flush=True)\nsys.stdin.read()\n"
        )
        child = subprocess.Popen([sys.executable, "-c", program, self.root], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert child.stdout is not None and child.stdin is not None
        self.assertEqual(child.stdout.readline(), b"held\n")
        self.assertEqual(ReplicaLock.read(self.disk, self.root, 2), LockContent(99, child.pid, 7))
        child.kill()
        child.wait()
        self.assertIsNone(ReplicaLock.probe(self.disk, self.root, 2))
        child.stdout.close()
        child.stdin.close()

    def test_ballast_is_optional(self) -> None:
        self.assertFalse(Ballast(self.disk, f"{self.root}/none/ballast", 1 << 20).take_in())
        with mock.patch("os.posix_fallocate", side_effect=OSError(errno.ENOSPC, "full")):
            self.assertFalse(Ballast(self.disk, f"{self.root}/ballast", 1 << 20).take_in())
        self.assertEqual(self.disk.listdir(self.root), [])

    def test_a_failing_lock_call_leaves_no_descriptor(self) -> None:
        before = len(os.listdir("/proc/self/fd"))
        with mock.patch("fcntl.flock", side_effect=OSError(errno.ENOLCK, "no locks")), self.assertRaises(OSError):
            self.disk.try_lock(f"{self.root}/l", shared=False)
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)


class FileSystems(unittest.TestCase):
    """On which of the mounts a path lies."""

    MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / /srv rw - nfs4 10.0.0.9:/export rw
31 30 8:3 / /srv/local\\040disk rw shared:5 master:2 - xfs /dev/sdb1 rw
32 22 8:4 / /mnt rw - btrfs /dev/sdc1 rw
33 22 0:41 / /mnt rw - cifs //box/share rw
"""

    def test_the_deepest_mount_counts_and_the_last_one_at_a_point(self) -> None:
        with tempfile.TemporaryDirectory() as root:
            mounts = f"{root}/mountinfo"
            with open(mounts, "w", encoding="ascii") as file:
                file.write(self.MOUNTS)
            for path, kind in (
                *(("/home/x/data", "ext4"), ("/srv", "nfs4"), ("/srv/data", "nfs4"), ("/srvant", "ext4")),
                *(("/srv/local disk/data", "xfs"), ("/mnt/data", "cifs"), ("/", "ext4")),
            ):
                self.assertEqual(file_system(path, mounts), kind, path)

    def test_this_machine_says_something_and_tests_run_on_a_local_disk(self) -> None:
        self.assertNotIn(file_system(tempfile.gettempdir()), {"", *NETWORKED})


class SimulatedDisk(unittest.TestCase):
    """It must lose what may be lost, and only that."""

    def setUp(self) -> None:
        self.files = SimFiles(random.Random(5))
        self.disk = SimDisk(random.Random(6), self.files)
        self.fd = self.disk.open("f", create=True)
        self.disk.pwrite(self.fd, b"a" * 4 * SECTOR, 0)
        self.disk.sync(self.fd)
        self.disk.sync_dir("/")

    def content(self) -> bytes:
        return bytes(self.files.file("f").content)

    def test_a_power_cut_leaves_each_sector_old_or_new(self) -> None:
        seen: set[bytes] = set()
        for _ in range(200):
            fd = self.disk.open("f")
            self.disk.pwrite(fd, b"a" * 4 * SECTOR, 0)
            self.disk.sync(fd)
            self.disk.pwrite(fd, b"b" * 3 * SECTOR, SECTOR // 2)
            self.disk.pwrite(fd, b"c" * SECTOR, SECTOR)
            self.disk.crash()
            content = self.content()
            self.assertEqual(len(content), 4 * SECTOR)
            half = SECTOR // 2
            self.assertIn(content[:SECTOR], (b"a" * SECTOR, b"a" * half + b"b" * half))
            self.assertIn(content[SECTOR : 2 * SECTOR], (b"a" * SECTOR, b"b" * SECTOR, b"c" * SECTOR))
            seen.add(content)
        self.assertGreater(len(seen), 8)

    def test_a_killed_process_loses_nothing_but_its_descriptors(self) -> None:
        self.disk.pwrite(self.fd, b"b", 0)
        self.disk.kill()
        self.assertEqual(self.content()[:2], b"ba")
        with self.assertRaises(OSError):
            self.disk.pread(self.fd, 1, 0)

    def test_names_that_were_not_synced_may_come_and_go(self) -> None:
        seen = set()
        for seed in range(60):
            files = SimFiles(random.Random(seed))
            disk = SimDisk(random.Random(seed), files)
            disk.close(disk.open("old", create=True))
            disk.close(disk.open("gone", create=True))
            disk.sync_dir("/")
            disk.rename("old", "new")
            disk.unlink("gone")
            disk.mkdir("d/e")
            disk.crash()
            names = tuple(disk.listdir("/"))
            self.assertEqual("old" in names, "new" not in names)
            seen.add(names)
        self.assertGreaterEqual(len(seen), 6)
        self.disk.crash()
        self.assertEqual(self.disk.listdir("/"), ["f"])

    def test_sizes_that_were_not_synced_may_be_lost(self) -> None:
        sizes = set()
        for _ in range(40):
            fd = self.disk.open("f")
            self.disk.truncate(fd, 4 * SECTOR)
            self.disk.sync(fd)
            self.disk.pwrite(fd, b"b" * SECTOR, 8 * SECTOR)
            self.disk.crash()
            sizes.add(len(self.content()))
        self.assertEqual(sizes, {4 * SECTOR, 9 * SECTOR})
        for _ in range(40):
            fd = self.disk.open("f")
            self.disk.pwrite(fd, b"a" * 9 * SECTOR, 0)
            self.disk.sync(fd)
            self.disk.truncate(fd, SECTOR)
            self.disk.crash()
            self.assertIn(len(self.content()), (SECTOR, 9 * SECTOR))
            self.assertEqual(self.content()[:SECTOR], b"a" * SECTOR)

    def test_after_a_failed_sync_another_one_lies(self) -> None:
        lost = 0
        for _ in range(30):
            fd = self.disk.open("f")
            self.disk.pwrite(fd, b"a" * SECTOR, 0)
            self.disk.sync(fd)
            self.disk.pwrite(fd, b"b" * SECTOR, 0)
            self.disk.sync_error = 1.0
            with self.assertRaises(OSError):
                self.disk.sync(fd)
            with self.assertRaises(OSError):
                self.disk.sync_dir("/")
            self.disk.sync_error = 0.0
            self.disk.sync(fd)
            self.assertEqual(self.content()[:1], b"b")
            self.disk.crash()
            lost += self.content()[:1] == b"a"
        self.assertGreater(lost, 5)

    def test_what_is_written_again_after_a_failed_sync_is_kept(self) -> None:
        self.disk.pwrite(self.fd, b"b" * SECTOR, 0)
        self.disk.sync_error = 1.0
        with self.assertRaises(OSError):
            self.disk.sync(self.fd)
        self.disk.sync_error = 0.0
        self.disk.pwrite(self.fd, b"c" * SECTOR, 0)
        self.disk.sync(self.fd)
        self.disk.crash()
        self.assertEqual(self.content()[:1], b"c")

    def test_knobs(self) -> None:
        self.disk.write_error = 1.0
        with self.assertRaises(OSError):
            self.disk.pwrite(self.fd, b"x", 0)
        self.disk.write_error, self.disk.room = 0.0, SECTOR
        self.disk.pwrite(self.fd, b"x" * SECTOR, 4 * SECTOR)
        calls: tuple[Callable[[], None], ...] = (
            lambda: self.disk.pwrite(self.fd, b"x", 5 * SECTOR),
            lambda: self.disk.allocate(self.fd, 6 * SECTOR),
        )
        for call in calls:
            with self.assertRaises(OSError) as caught:
                call()
            self.assertEqual(caught.exception.errno, errno.ENOSPC)
        with self.assertRaises(OSError):
            self.disk.truncate(self.fd, 9 * SECTOR)
        with self.assertRaises(OSError):
            self.disk.open("other", create=True)
        self.disk.unlink("f")
        self.assertEqual(self.disk.room, 5 * SECTOR)
        self.disk.slow_sync = 1.0
        self.disk.sync(self.fd)
        self.assertGreater(self.disk.take_wait(), 0)
        self.assertEqual(self.disk.take_wait(), 0)

    def test_every_call_is_counted_and_can_be_the_last(self) -> None:
        self.assertEqual(self.disk.counts["pwrite", "SimulatedDisk.setUp"], 1)
        for after in (False, True):
            self.disk.stop_at, self.disk.stop_after = self.disk.effects + 1, after
            with self.assertRaises(Stopped):
                self.disk.pwrite(self.fd, b"z", 0)
            self.assertEqual(self.content()[:1], b"z" if after else b"a")

    def test_damage(self) -> None:
        self.disk.pwrite(self.fd, b"b" * SECTOR, SECTOR)
        self.files.misdirect("f", 1, 3)
        self.files.flip("f", 0)
        self.assertEqual((self.content()[0], self.content()[3 * SECTOR :]), (ord("a") ^ 1, b"b" * SECTOR))

    def test_paths_that_lead_nowhere(self) -> None:
        self.disk.symlink("loop", "loop")
        for number, path in ((errno.ENOENT, "x/y"), (errno.ENOTDIR, "f/y"), (errno.ELOOP, "loop/y")):
            with self.assertRaises(OSError) as caught:
                self.disk.open(path, create=True)
            self.assertEqual(caught.exception.errno, number)
        self.disk.mkdir("d/e")
        calls: tuple[Callable[[], object], ...] = (
            lambda: self.disk.open("d"),
            lambda: self.disk.unlink("d"),
            lambda: self.disk.listdir("f"),
        )
        for call in calls:
            with self.assertRaises(OSError):
                call()
        self.disk.mkdir("g")
        with self.assertRaises(OSError):
            self.disk.rename("g", "d")
        with self.assertRaises(OSError):
            self.disk.remove_tree("f")
        with self.assertRaises(OSError):
            self.disk.sync(self.disk.open_dir("d"))


if __name__ == "__main__":
    unittest.main()
