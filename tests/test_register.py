"""The register: whoever creates the next number decides the view, and nobody acts on what a power cut may take back."""

from __future__ import annotations

import errno
import hashlib
import random
import tempfile
import unittest
import zlib
from multiprocessing import get_context
from unittest import mock

import msgspec

import register
from batches import NO_HASH
from disk import SECTOR, OsDisk
from packets import Member, View
from register import Register, RegisterDamaged, RegisterFull
from tests.simulator.disk import SimDisk, SimFiles, Stopped

DIRECTORY = "data/cluster"


def following(last: View | None, primary: int = 0, op: int = 0) -> View:
    """A view that may follow `last`."""
    number, prev_hash = (last.number + 1, last.chain_hash()) if last else (1, NO_HASH)
    members = (Member(0, 5), Member(1, 6), Member(2, 7))
    return View("dormitory", number, members[primary], members, op, NO_HASH, "because", 123, False, prev_hash)


def of_old(view: View) -> bytes:
    """The array of a record as it was before views could be forced."""
    return msgspec.msgpack.encode(msgspec.structs.astuple(view)[:10])


def race(directory: str, me: int, rounds: int) -> list[int]:
    """Propose views one after the other; the numbers of those that became ours."""
    mine = Register(OsDisk(), directory, "dormitory", f"proposal-{me}")
    won = []
    for _ in range(rounds):
        view = following(mine.last(), me)
        mine.propose(view)
        if view in mine.recent(1000):  # which the next may follow by now
            won.append(view.number)
    mine.close()
    return won


class Case(unittest.TestCase):
    def setUp(self) -> None:
        self.files = SimFiles(random.Random(4))
        self.disk = SimDisk(random.Random(4), self.files)
        self.disk.mkdir(DIRECTORY)
        for path in ("/", "data"):
            self.disk.sync_dir(path)

    def process(self, replica: int = 0) -> Register:
        """The register as another process sees it."""
        return Register(SimDisk(self.disk.dice, self.files), DIRECTORY, "dormitory", f"proposal-{replica}")

    def filled(self, count: int) -> tuple[Register, list[View]]:
        mine = self.process()
        views: list[View] = []
        for _ in range(count):
            views.append(mine.propose(following(views[-1] if views else None)))
        return mine, views


class Formats(Case):
    def test_a_chain_of_early_records_is_read_and_goes_on(self) -> None:
        first = following(None)
        self.assertEqual(first.chain_hash(), hashlib.sha256(of_old(first)).digest()[:16])
        fd = self.disk.open(f"{DIRECTORY}/view-0000000001", create=True)
        self.disk.pwrite(fd, b"USV1" + zlib.crc32(of_old(first)).to_bytes(4, "little") + of_old(first), 0)
        self.disk.close(fd)
        mine = self.process()
        self.assertEqual(mine.last(), first)
        forced = msgspec.structs.replace(following(first), forced=2)
        self.assertEqual(mine.propose(forced), forced)
        self.assertNotEqual(forced.chain_hash(), msgspec.structs.replace(forced, forced=0).chain_hash())
        self.assertEqual(self.process().last(), forced)


class Deciding(Case):
    def test_nothing_is_there_at_first(self) -> None:
        mine = self.process()
        self.assertIsNone(mine.last())
        self.assertEqual((mine.recent(5), mine.is_last(0)), ([], True))
        mine.close()

    def test_what_is_proposed_is_the_last_view_for_everybody(self) -> None:
        mine, views = self.filled(3)
        other = self.process(1)
        self.assertEqual((mine.last(), other.last()), (views[2], views[2]))
        self.assertEqual(other.recent(2), views[1:])
        self.assertEqual(other.recent(100), views)
        self.assertEqual([mine.is_last(n) for n in (1, 2, 3, 3)], [False, False, True, True])

    def test_the_first_to_create_the_number_decides(self) -> None:
        _, views = self.filled(1)
        one, two = self.process(1), self.process(2)
        mine, theirs = following(views[0], 1), following(views[0], 2)
        one.last()
        two.last()
        self.assertEqual(one.propose(mine), mine)
        self.assertFalse(two.is_last(1))
        self.assertEqual(two.propose(theirs), mine)
        self.assertEqual(two.last(), mine)

    def test_losing_the_race_at_the_link_is_losing(self) -> None:
        """The other creates the name after we have looked."""
        one, two = self.process(1), self.process(2)
        disk = one._disk
        assert isinstance(disk, SimDisk)
        first = following(None, 2)

        def rush(call: str, site: str, path: str) -> None:
            if call == "link":
                disk.fault = None
                two.propose(first)

        disk.fault = rush
        self.assertEqual(one.propose(following(None, 1)), first)

    def test_a_view_that_does_not_follow_is_refused(self) -> None:
        mine, views = self.filled(2)
        with self.assertRaises(AssertionError):
            mine.propose(following(following(views[1])))
        with self.assertRaises(AssertionError):
            self.process().propose(
                following(views[0]).__class__("other", 3, *(getattr(views[1], f) for f in views[1].__struct_fields__[2:]))
            )

    def test_a_reader_syncs_before_it_acts(self) -> None:
        self.filled(2)
        reader = self.process(1)
        disk = reader._disk
        assert isinstance(disk, SimDisk)
        reader.last()
        self.assertEqual(disk.counts["sync_dir", "Register.last"], 1)
        reader.last()
        self.assertEqual(disk.counts["sync_dir", "Register.last"], 1)

    def test_who_was_told_of_a_view_syncs_only_for_what_comes_after_it(self) -> None:
        self.filled(3)
        for told, syncs in ((3, 0), (2, 1)):
            reader = self.process(1)
            disk = reader._disk
            assert isinstance(disk, SimDisk)
            view = reader.last(told)
            self.assertEqual((view.number if view else 0, disk.counts["sync_dir", "Register.last"]), (3, syncs))

    def test_what_a_reader_has_acted_on_survives(self) -> None:
        for seed in range(30):
            self.setUp()
            self.files.dice = random.Random(seed)
            writer = self.process()
            disk = writer._disk
            assert isinstance(disk, SimDisk)
            disk.fault = lambda call, site, path: OSError(errno.EIO, "dies here") if call == "sync_dir" else None
            view = following(None)
            with self.assertRaises(OSError):
                writer.propose(view)
            self.assertEqual(self.process(1).last(), view)
            self.disk.crash()
            self.assertEqual(self.process(2).last(), view)

    def test_processes_race_on_a_real_disk(self) -> None:
        with tempfile.TemporaryDirectory() as directory, get_context("spawn").Pool(3) as pool:
            won = pool.starmap(race, [(directory, me, 40) for me in range(3)])
            pool.close()  # a worker that is killed in the moment in which it begins to wait may not hear of it, and is waited for
            pool.join()
            reader = Register(OsDisk(), directory, "dormitory")
            last = reader.last()
            assert last is not None
            self.assertEqual(sorted(number for numbers in won for number in numbers), list(range(1, last.number + 1)))
            for me, numbers in enumerate(won):
                self.assertTrue(all(v.primary.replica == me for v in reader.recent(1000) if v.number in numbers))
            others = [n for n in OsDisk().listdir(directory) if not n.startswith("view-")]
            self.assertLessEqual(set(others), {f"proposal-{me}" for me in range(3)})
            reader.close()


class Trouble(Case):
    def test_a_full_disk_is_a_plain_no(self) -> None:
        mine, views = self.filled(1)
        disk = mine._disk
        assert isinstance(disk, SimDisk)
        for call in ("open", "pwrite", "sync", "link"):
            disk.fault = lambda c, s, path, call=call: OSError(errno.ENOSPC, "full") if c == call and "last" not in s else None
            with self.assertRaises(RegisterFull):
                mine.propose(following(views[0]))
            disk.fault = None
            self.assertEqual(self.process(1).last(), views[0])
        self.assertEqual(mine.propose(following(views[0])).number, 2)

    def test_any_other_error_is_not_hidden(self) -> None:
        for call in ("open", "pwrite", "sync", "link", "unlink", "sync_dir", "pread"):
            self.setUp()
            mine, views = self.filled(1)
            disk = mine._disk
            assert isinstance(disk, SimDisk)
            disk.fault = lambda c, s, path, call=call: OSError(errno.EIO, "bad") if c == call else None
            with self.assertRaises(OSError):
                mine.propose(following(views[0]))

    def test_a_left_over_proposal_is_never_written_through(self) -> None:
        """What was proposed bears two names, the private one and the view's; so does what a crash left behind."""
        mine, views = self.filled(1)
        self.assertIn("proposal-0", self.disk.listdir(DIRECTORY))
        for proposer, is_made_ready in ((mine, False), (mine, True), (self.process(), False), (self.process(), True)):
            if is_made_ready:
                proposer.make_ready()
            views.append(proposer.propose(following(views[-1])))
        self.assertEqual(self.process(1).recent(10), views)

    def test_a_file_that_was_made_ready_is_written_over(self) -> None:
        """Nothing is made or removed while guests wait; a lost race leaves the file for the next."""
        mine, views = self.filled(1)
        self.assertEqual((mine.make_ready(), mine.make_ready()), (True, False))
        disk, ready = mine._disk, self.files.file(f"{DIRECTORY}/proposal-0")
        assert isinstance(disk, SimDisk)
        views.append(self.process(1).propose(following(views[0], 1)))
        mine._last = views[0]
        disk.fault = lambda call, site, path: OSError(errno.EIO, "not now") if call == "unlink" else None
        with mock.patch.object(mine, "last", side_effect=[views[0], views[1]]):  # it looks a moment too early
            self.assertEqual(mine.propose(following(views[0])), views[1])
        mine.last()
        self.assertEqual(mine.propose(following(views[1])).number, 3)
        self.assertIs(self.files.file(f"{DIRECTORY}/view-{3:010d}"), ready)
        disk.fault = None
        self.assertTrue(mine.make_ready())
        self.assertIsNot(self.files.file(f"{DIRECTORY}/proposal-0"), ready)

    def test_a_reason_of_any_length_comes_back(self) -> None:
        mine, views = self.filled(1)
        for size in (0, 1, 20, 30, 31, 32, 33, 200, 250, 255, 256, 257, 258, *range(330, 400), 600, 5000):
            mine.make_ready()
            view = msgspec.structs.replace(following(views[-1]), reason="r" * size)
            self.assertEqual(mine.propose(view), view)
            views.append(view)
        self.assertEqual(self.process(1).recent(1000), views)
        sizes = [len(self.files.file(f"{DIRECTORY}/view-{view.number:010d}").content) for view in views]
        self.assertEqual(set(sizes[:13]), {SECTOR})
        self.assertGreater(sizes[-1], 5000)

    def test_every_flip_and_every_truncation_of_the_last_record_is_found(self) -> None:
        _, views = self.filled(3)
        path = f"{DIRECTORY}/view-0000000003"
        content = self.files.file(path).content
        whole = bytes(content)
        for bit in range(len(whole) * 8):
            self.files.flip(path, bit)
            with self.assertRaises(RegisterDamaged) as caught:
                self.process(1).last()
            self.assertIn(path, str(caught.exception))
            self.files.flip(path, bit)
        for length in range(len(whole)):
            content[:] = whole[:length]
            with self.assertRaises(RegisterDamaged):
                self.process(1).last()
        content[:] = whole
        self.assertEqual(self.process(1).last(), views[2])

    def test_a_record_before_the_last_that_rots_is_complained_of_and_stops_nobody(self) -> None:
        """Thousands of them are kept: each bit of each would keep all replicas from starting."""
        _, views = self.filled(4)
        for number in (1, 2, 3):
            path = f"{DIRECTORY}/view-{number:010d}"
            for bit in range(0, len(self.files.file(path).content) * 8, 61):
                self.files.flip(path, bit)
                reader = self.process(1)
                self.assertEqual(reader.last(), views[3])
                self.assertEqual(len(reader.complaints), 1)
                self.assertIn(path, reader.complaints[0])
                self.assertEqual(reader.recent(9), [view for view in views if view.number != number])
                self.assertEqual(reader.last(), views[3])
                self.files.flip(path, bit)
        self.files.flip(f"{DIRECTORY}/view-0000000002", 99)
        following_view = following(views[3])
        self.assertEqual(self.process(1).propose(following_view), following_view)

    def test_records_in_the_wrong_place_are_found(self) -> None:
        mine, views = self.filled(3)
        path = f"{DIRECTORY}/view-0000000002"
        spare = self.files.file(path).content[:]
        self.disk.unlink(path)
        with self.assertRaises(RegisterDamaged):
            self.process().last()
        self.disk.link(f"{DIRECTORY}/view-0000000003", path)
        reader = self.process()
        self.assertEqual(reader.last(), views[2])
        self.assertIn("holds view 3", reader.complaints[0])
        self.disk.unlink(path)
        fd = self.disk.open(path, create=True)
        self.disk.pwrite(fd, register._encode(following(views[0], 2)), 0)
        with self.assertRaises(RegisterDamaged):
            self.process().last()
        self.files.file(path).content[:] = spare
        self.assertEqual(self.process().last(), views[2])
        with self.assertRaises(RegisterDamaged) as caught:
            Register(self.disk, DIRECTORY, "kitchen").last()
        self.assertIn("belongs to the cluster 'dormitory'", str(caught.exception))
        self.files.file(f"{DIRECTORY}/view-0000000003").content[:] = register.MAGIC + b"\0\0\0\0"
        with self.assertRaises(RegisterDamaged):
            self.process().last()
        self.assertEqual(mine.last(), views[2])

    def test_a_record_of_another_shape_is_damage(self) -> None:
        fd = self.disk.open(f"{DIRECTORY}/view-0000000001", create=True)
        content = b"\x91\1"
        self.disk.pwrite(fd, register.MAGIC + register._CRC.pack(zlib.crc32(content)) + content, 0)
        with self.assertRaises(RegisterDamaged):
            self.process().last()

    def test_a_directory_that_was_moved_away_is_noticed(self) -> None:
        mine, _ = self.filled(1)
        self.assertTrue(mine.is_path_same())
        self.disk.rename(DIRECTORY, "data/elsewhere")
        self.assertFalse(mine.is_path_same())
        self.disk.mkdir(DIRECTORY)
        self.assertFalse(mine.is_path_same())

    def test_only_the_oldest_are_trimmed(self) -> None:
        kept, register.KEPT = register.KEPT, 5
        try:
            mine, views = self.filled(12)
            self.assertEqual(mine.recent(50), views[-5:])
            other = self.process(1)
            self.assertEqual(other.last(), views[-1])
            next_view = other.propose(following(views[-1]))
            last = mine.propose(following(next_view))
            self.assertEqual(self.process(2).last(), last)
            self.assertEqual(len(self.process(2).recent(50)), 5)
            for seed in range(20):
                self.files.dice = random.Random(seed)
                self.process(2).propose(following(self.process(2).last()))
                self.disk.crash()
                self.assertIsNotNone(self.process(2).last())
        finally:
            register.KEPT = kept

    def test_a_record_that_is_trimmed_while_it_is_read(self) -> None:
        self.filled(3)
        reader = self.process(1)
        disk = reader._disk
        assert isinstance(disk, SimDisk)

        def trim(call: str, site: str, path: str) -> None:
            if call == "open" and path.endswith("view-0000000001"):
                disk.fault = None
                self.disk.unlink(path)

        disk.fault = trim
        last = reader.last()
        assert last is not None
        self.assertEqual(last.number, 3)

        def lose(call: str, site: str, path: str) -> None:
            if call == "open" and path.endswith("view-0000000003"):
                disk.fault = None
                self.disk.unlink(path)

        disk.fault = lose
        again = Register(disk, DIRECTORY, "dormitory")
        with self.assertRaises(RegisterDamaged):
            again.last()

    def test_a_crash_at_every_effect_of_a_proposal(self) -> None:
        """Afterwards the view is there for everybody or for nobody, and stays so; the next proposal works."""
        self.setUp()
        mine, views = self.filled(2)
        disk = mine._disk
        assert isinstance(disk, SimDisk)
        before = disk.effects
        mine.propose(following(views[1]))
        effects = disk.effects - before
        for stop_at in range(1, effects + 1):
            for after in (False, True):
                for power in (False, True):
                    self.setUp()
                    self.files.dice = random.Random(stop_at)
                    mine, views = self.filled(2)
                    disk = mine._disk
                    assert isinstance(disk, SimDisk)
                    disk.stop_at, disk.stop_after = disk.effects + stop_at, after
                    ours = following(views[1], 1)
                    with self.assertRaises(Stopped):
                        mine.propose(ours)
                    disk.kill()
                    if power:
                        self.disk.crash()
                    seen = self.process(1).last()
                    self.assertIn(seen, (views[1], ours))
                    self.disk.crash()
                    self.assertEqual(self.process(2).last(), seen)
                    again = following(seen, 2)
                    self.assertEqual(self.process(0).propose(again), again)


if __name__ == "__main__":
    unittest.main()
