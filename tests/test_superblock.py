"""The superblock: the newest content survives whatever happens to one slot."""

from __future__ import annotations

import random
import unittest
from collections.abc import Callable
from unittest import mock

import msgspec

from superblock import SLOT_BYTES, SLOTS, Superblock, SuperblockDamaged, load, save
from tests.simulator.disk import SimDisk, Stopped

PATH = "r0/superblock"
FIRST = Superblock(cluster="dormitory", replica=0, replicas=3, config_hash="c" * 64, format_nonce=b"n" * 16, inc=1)


def numbered(view: int) -> Superblock:
    return msgspec.structs.replace(FIRST, view=view, snapshot_op=view * 10, snapshot_name=f"{view:016d}")


class Slots(unittest.TestCase):
    def setUp(self) -> None:
        self.disk = SimDisk(random.Random(2))
        self.disk.mkdir("r0")
        self.disk.sync_dir("/")

    def saved(self, count: int) -> None:
        for view in range(count):
            save(self.disk, PATH, numbered(view))

    def test_none_before_the_first_save(self) -> None:
        self.assertIsNone(load(self.disk, PATH))

    def test_the_newest_content_is_loaded_and_survives_a_power_cut(self) -> None:
        for view in range(7):
            save(self.disk, PATH, numbered(view))
            self.assertEqual(load(self.disk, PATH), numbered(view))
            self.disk.crash()
            self.assertEqual(load(self.disk, PATH), numbered(view))
        self.assertEqual(self.disk.open_files, {})

    def test_a_sector_is_enough(self) -> None:
        """So a power cut leaves a slot old or new even where the hardware is whole only by sectors."""
        self.saved(1)
        self.assertLess(len(bytes(self.disk.files.file(PATH).content[:SLOT_BYTES]).rstrip(b"\0")), 512)

    def test_one_slot_may_rot(self) -> None:
        self.saved(4)
        for slot in range(SLOTS):
            for at in range(0, SLOT_BYTES, 13):
                bit = (slot * SLOT_BYTES + at) * 8 + at % 8
                self.disk.files.flip(PATH, bit)
                complaints: list[str] = []
                self.assertEqual(load(self.disk, PATH, complaints.append), numbered(3))
                self.assertEqual(len(complaints), 1)
                self.assertIn(f"slot {slot}", complaints[0])
                self.disk.files.flip(PATH, bit)

    def test_a_rotten_slot_is_mended_by_the_next_save(self) -> None:
        for slot in range(SLOTS):
            for count in (3, 4):
                self.setUp()
                self.saved(count)
                self.disk.files.flip(PATH, slot * SLOT_BYTES * 8 + 100)
                save(self.disk, PATH, numbered(9))
                complaints: list[str] = []
                self.assertEqual(load(self.disk, PATH, complaints.append), numbered(9))
                self.assertEqual(complaints, [])

    def test_a_mark_outlives_a_power_cut_and_one_slot(self) -> None:
        """What else is newer than the copy may be forgotten then; that this disk is not to be trusted may not."""
        for slot in range(SLOTS):
            for count in (3, 4):
                self.setUp()
                self.saved(count)
                save(self.disk, PATH, msgspec.structs.replace(numbered(9), suspect=True))
                self.disk.files.file(PATH).crash(self.disk.dice, 0.0)
                self.disk.files.flip(PATH, slot * SLOT_BYTES * 8 + 100)
                found = load(self.disk, PATH)
                self.assertTrue(found is not None and found.suspect, f"slot {slot} has rotted, after {count} saves")

    def test_both_slots_bad_is_said(self) -> None:
        self.saved(3)
        for slot in range(SLOTS):
            self.disk.files.flip(PATH, slot * SLOT_BYTES * 8 + 300)
        acts: tuple[Callable[[], object], ...] = (lambda: load(self.disk, PATH), lambda: save(self.disk, PATH, FIRST))
        for act in acts:
            with self.assertRaises(SuperblockDamaged) as caught:
                act()
            self.assertIn("slot 0", str(caught.exception))
            self.assertIn("slot 1", str(caught.exception))

    def test_every_truncation_is_found(self) -> None:
        self.saved(2)
        content = self.disk.files.file(PATH).content
        whole = bytes(content)
        for length in [*range(0, len(whole), 37), len(whole) - 1, len(whole) + 1]:
            content[:] = whole[:length].ljust(length, b"\0")
            complaints: list[str] = []
            try:
                self.assertEqual(load(self.disk, PATH, complaints.append), numbered(1))
                self.assertTrue(complaints)
                self.assertGreaterEqual(length, SLOT_BYTES)
            except SuperblockDamaged:
                self.assertLess(length, SLOT_BYTES)

    def test_content_of_another_shape_is_damage(self) -> None:
        self.saved(1)
        with mock.patch("msgspec.msgpack.encode", return_value=b"\x93\1\2\3"):
            save(self.disk, PATH, FIRST)
        with self.assertRaises(SuperblockDamaged):
            load(self.disk, PATH)

    def test_a_crash_at_every_effect_leaves_old_or_new(self) -> None:
        probe = SimDisk(random.Random(0))
        probe.mkdir("r0")
        probe.effects = 0
        for view in range(3):
            save(probe, PATH, numbered(view))
        for stop_at in range(1, probe.effects + 1):
            for after in (False, True):
                for power in (False, True):
                    self.setUp()
                    disk = self.disk
                    disk.effects, disk.stop_at, disk.stop_after = 0, stop_at, after
                    view = 0
                    with self.assertRaises(Stopped):
                        for view in range(3):
                            save(disk, PATH, numbered(view))
                    disk.kill()
                    if power:
                        disk.crash()
                    found = load(SimDisk(disk.dice, disk.files), PATH)
                    self.assertIn(found, [numbered(view - 1) if view else None, numbered(view)])
                    save(SimDisk(disk.dice, disk.files), PATH, numbered(50))
                    disk.crash()
                    self.assertEqual(load(SimDisk(disk.dice, disk.files), PATH), numbered(50))


if __name__ == "__main__":
    unittest.main()
