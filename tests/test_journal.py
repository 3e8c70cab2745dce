"""The journal: what it keeps through power cuts, what it calls damage, and how it is read."""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import io
import os
import random
import tempfile
import time
import unittest
from collections.abc import Callable

import journal
import segments
from batches import BATCH_MAX, END, NO_HASH, Batch
from disk import SECTOR, OsDisk
from journal import Journal, JournalDamaged, read_segments
from tests.simulator.disk import SimDisk, SimFiles, Stopped

PATH = "r0/journal"
SIZES = (1, 100, 363, 364, 365, 900, 4000)  # bodies that end before, at and behind a sector boundary, and longer ones


def make(log: Journal, size: int = 100, count: int = 2, salt: int = 1) -> Batch:
    """A batch that follows the log's head, its body without a zero byte."""
    body = random.Random(salt * 1_000_003 + log.head_op).randbytes(size).replace(b"\0", b"\1")
    return Batch(first_op=log.head_op + 1, count=count, view=1, time=1000 + log.head_op, prev_hash=log.head_hash, body=body)


def add(log: Journal, size: int = 100, count: int = 2, salt: int = 1) -> Batch:
    """Append and sync one batch."""
    batch = make(log, size, count, salt)
    log.append(batch)
    log.sync()
    return batch


def batches_of(log: Journal, after_op: int) -> list[Batch]:
    """All that stands behind the batch that ends at `after_op`."""
    images, batches, at = log.read_after(after_op, log.hash_at(after_op) or b"", 1 << 40) or b"", list[Batch](), 0
    while at < len(images):
        batches.append(Batch.decode(images, at))
        at += len(batches[-1].image)
    return batches


def new_disk(seed: int) -> SimDisk:
    """A disk with the replica's directory on it, as the server finds it."""
    disk = SimDisk(random.Random(seed))
    disk.mkdir("r0")
    disk.sync_dir("/")
    return disk


class Case(unittest.TestCase):
    """A simulated disk, and a journal on it in small segments."""

    first_bytes = 4096

    def setUp(self) -> None:
        self.disk = new_disk(7)

    def open(
        self,
        disk: SimDisk | None = None,
        *,
        generation: int = 0,
        base: int = 0,
        hash: bytes = NO_HASH,
        durable: int = 0,
        salvage: bool = False,
        replay: Callable[[Batch], object] | None = None,
    ) -> Journal:
        sizes = {"segment_bytes": 8192, "first_bytes": self.first_bytes}
        return Journal.open(disk or self.disk, PATH, generation, base, hash, durable, salvage=salvage, replay=replay, **sizes)

    def reopen(self, **arguments: object) -> Journal:
        """As a new process on the same files."""
        self.disk.kill()
        self.disk = SimDisk(self.disk.dice, self.disk.files)
        return self.open(**arguments)  # type: ignore[arg-type]

    def segments(self) -> list[str]:
        return [f"{PATH}/{name}" for name in self.disk.listdir(PATH) if name.endswith(".seg")]


class Keeping(Case):
    """Append, sync, read back."""

    def test_new_journal_is_empty(self) -> None:
        log = self.open()
        self.assertEqual((log.head_op, log.head_hash, log.parent_op, log.last, log.oldest_op), (0, NO_HASH, 0, None, 1))
        self.assertEqual((log.bytes_since(0), log.read_after(0, NO_HASH, 1000), batches_of(log, 0)), (0, b"", []))

    def test_everything_synced_is_there_after_a_restart(self) -> None:
        log = self.open()
        batches = [add(log, size) for size in SIZES * 3]
        again = self.reopen(durable=log.head_op)
        self.assertEqual([b.image for b in batches_of(again, 0)], [b.image for b in batches])
        self.assertEqual((again.head_op, again.head_hash), (batches[-1].op, batches[-1].hash))
        self.assertEqual((again.parent_op, again.parent_hash), (batches[-2].op, batches[-2].hash))
        assert again.last is not None
        self.assertEqual(again.last.image, batches[-1].image)
        self.assertGreater(len(self.segments()), 2)
        add(again)

    def test_append_refuses_what_does_not_follow(self) -> None:
        log = self.open()
        stranger = make(log)
        add(log, salt=2)
        with self.assertRaises(AssertionError):
            log.append(stranger)

    def test_a_batch_of_the_greatest_size_fits_anywhere(self) -> None:
        log = self.open()
        first = add(log, BATCH_MAX)
        second = add(log, BATCH_MAX)
        self.assertEqual([b.hash for b in batches_of(self.reopen(), 0)], [first.hash, second.hash])
        self.assertEqual(len(self.segments()), 2)

    def test_the_next_segment_is_prepared_in_slices(self) -> None:
        log = Journal.open(self.disk, PATH, 0, 0, NO_HASH, segment_bytes=3 * journal.SLICE_BYTES, first_bytes=4096)
        self.assertFalse(log.prepare_next())
        add(log, 2000)
        self.assertEqual([log.prepare_next() for _ in range(4)], [True, True, False, False])
        before = self.disk.counts["pwrite", "Spare.fill"]
        add(log, 3000)
        self.assertEqual(self.disk.counts["pwrite", "Spare.fill"], before)
        self.assertEqual(len(self.segments()), 2)

    def test_a_killed_process_leaves_its_unsynced_batch_and_open_syncs_it(self) -> None:
        log = self.open()
        add(log)
        log.append(make(log))
        again = self.reopen()
        self.assertEqual(again.head_op, 4)
        self.disk.crash()
        self.assertEqual(self.reopen().head_op, 4)

    def test_append_and_sync_cost_little_more_than_the_disk(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            log = Journal.open(OsDisk(), f"{directory}/journal", 0, 0, NO_HASH)
            batches = []
            head, op = NO_HASH, 0
            for _ in range(300):
                batches.append(Batch(first_op=op + 1, count=1, view=1, time=0, prev_hash=head, body=b"x" * 300))
                head, op = batches[-1].hash, batches[-1].op
            began = time.perf_counter()
            for batch in batches:
                log.append(batch)
            self.assertLess((time.perf_counter() - began) / 300, 200e-6)
            log.sync()
            self.assertEqual(log.head_op, 300)
            log.close()


class Cutting(Case):
    """Dropping the last batch, and only that."""

    def test_the_last_batch_is_cut_and_another_takes_its_place(self) -> None:
        log = self.open()
        kept = add(log)
        add(log, 3000)
        log.cut()
        self.assertEqual((log.head_op, log.head_hash, log.last), (kept.op, kept.hash, None))
        self.assertIsNone(log.read_after(4, NO_HASH, 100))
        other = add(log, 5, salt=9)
        self.disk.crash()
        again = self.reopen()
        self.assertEqual([b.hash for b in batches_of(again, 0)], [kept.hash, other.hash])

    def test_nothing_is_cut_twice(self) -> None:
        log = self.open()
        add(log)
        add(log)
        log.cut()
        with self.assertRaises(AssertionError):
            log.cut()
        with self.assertRaises(AssertionError):
            self.reopen(base=2, hash=log.head_hash).cut()

    def test_a_batch_of_a_closed_segment_is_not_cut(self) -> None:
        log = self.open()
        add(log, 2500)
        self.disk.fault = lambda call, site, path: OSError(errno.ENOSPC, "full") if (call, site) == ("pwrite", "Journal.append") else None
        with self.assertRaises(OSError):
            log.append(make(log, 3000))
        self.disk.fault = None
        with self.assertRaises(AssertionError):
            log.cut()
        add(log, 3000)
        log.cut()
        self.assertEqual(log.head_op, 2)

    def test_the_first_batch_of_a_segment_is_cut(self) -> None:
        log = self.open()
        kept = add(log, 2500)
        add(log, 2500)
        log.cut()
        again = self.reopen()
        self.assertEqual((again.head_op, again.head_hash), (kept.op, kept.hash))
        other = add(again, 2500, salt=3)
        self.assertEqual([b.hash for b in batches_of(self.reopen(), 0)], [kept.hash, other.hash])


class Failing(Case):
    """Disks that are full or broken."""

    def refuse(self, call: str, site: str, number: int) -> None:
        self.disk.fault = lambda c, s, path: OSError(number, "asked for") if (c, s) == (call, site) else None

    def test_a_full_disk_changes_nothing_and_the_same_batch_can_be_tried_again(self) -> None:
        log = self.open()
        add(log, 3000)
        self.disk.room = 100
        batch = make(log, 3000)
        for _ in range(2):
            with self.assertRaises(OSError) as caught:
                log.append(batch)
            self.assertEqual(caught.exception.errno, errno.ENOSPC)
            self.assertEqual(log.head_op, 2)
        self.disk.room = None
        log.append(batch)
        log.sync()
        self.assertEqual(self.reopen().head_op, 4)

    def test_a_short_write_is_overwritten_by_a_shorter_batch(self) -> None:
        log = self.open()
        add(log)
        self.disk.short_write = 1.0
        for _ in range(3):
            with self.assertRaises(OSError):
                log.append(make(log, 2000))
        self.disk.short_write = 0.0
        other = add(log, 10, salt=5)
        self.assertEqual(self.reopen().head_hash, other.hash)

    def test_nothing_is_written_after_a_failed_sync(self) -> None:
        log = self.open()
        add(log)
        log.append(make(log))
        self.disk.sync_error = 1.0
        with self.assertRaises(OSError):
            log.sync()
        self.disk.sync_error = 0.0
        writes = self.disk.counts.total()
        acts: tuple[Callable[[], None], ...] = (lambda: log.append(make(log)), log.cut, lambda: log.restart(1, 0, NO_HASH))
        for act in acts:
            with self.assertRaises(OSError) as caught:
                act()
            self.assertEqual(caught.exception.errno, errno.EIO)
        self.assertFalse(log.prepare_next())
        self.assertEqual(self.disk.counts.total(), writes)

    def test_a_sync_that_fails_for_want_of_room_is_not_tried_again_either(self) -> None:
        log = self.open()
        log.append(make(log))
        self.refuse("sync", "Journal._sync", errno.ENOSPC)
        for _ in range(2):
            with self.assertRaises(OSError) as caught:
                log.sync()
            self.assertEqual(caught.exception.errno, errno.EIO)
            self.disk.fault = None

    def test_a_directory_that_cannot_be_synced_stops_the_journal(self) -> None:
        log = self.open()
        add(log, 3000)
        self.refuse("sync_dir", "Journal._sync_dir", errno.ENOSPC)
        for _ in range(2):
            with self.assertRaises(OSError) as caught:
                log.append(make(log, 3000))
            self.assertEqual(caught.exception.errno, errno.EIO)
            self.disk.fault = None
        self.assertEqual(log.head_op, 2)

    def test_a_spare_that_cannot_be_synced_is_made_again(self) -> None:
        log = self.open()
        add(log, 3000)
        self.refuse("sync", "Spare._sync", errno.ENOSPC)
        with self.assertRaises(OSError):
            log.append(make(log, 3000))
        with self.assertRaises(OSError):
            log.prepare_next()
        self.disk.fault = None
        add(log, 3000)
        self.disk.crash()
        self.assertEqual(self.reopen().head_op, 4)

    def test_open_reports_a_failing_disk(self) -> None:
        self.open()
        for call in ("open", "pread", "sync", "sync_dir", "listdir"):
            self.disk.kill()
            self.disk.fault = lambda c, s, path, call=call: OSError(errno.EIO, "asked for") if c == call else None
            with self.assertRaises(OSError):
                self.open()
            self.assertEqual(self.disk.open_files, {})


class Damage(Case):
    """The tail rule, byte by byte."""

    first_bytes = 8192

    def written(self, *sizes: int) -> tuple[str, list[Batch], list[int]]:
        """A journal of these bodies: its newest segment, its batches, and where each begins in it."""
        log = self.open()
        batches = [add(log, size) for size in sizes]
        offsets = [SECTOR]
        for batch in batches:
            offsets.append(offsets[-1] + (len(batch.image) + SECTOR - 1) // SECTOR * SECTOR)
        log.close()
        return self.segments()[-1], batches, offsets

    def spoil(self, path: str, at: int, content: bytes) -> None:
        self.disk.files.file(path).content[at : at + len(content)] = content

    def assert_damaged(self, word: str, **arguments: int) -> JournalDamaged:
        with self.assertRaises(JournalDamaged) as caught:
            self.reopen(**arguments)
        self.assertIn(word, str(caught.exception))
        return caught.exception

    def test_any_zero_sector_of_the_last_batch_is_a_torn_tail(self) -> None:
        for sector in range(6):
            self.setUp()
            path, batches, offsets = self.written(500, 2800)
            self.assertEqual(offsets[2] - offsets[1], 6 * SECTOR)
            self.spoil(path, offsets[1] + sector * SECTOR, bytes(SECTOR))
            log = self.reopen()
            self.assertEqual((log.head_op, log.damage), (batches[0].op, ""))
            self.assertNotEqual(bytes(self.disk.files.file(path).content[offsets[1] :]).strip(b"\0"), b"", "open must not change the disk")
            other = add(log, 3, salt=4)
            self.assertEqual(self.reopen().head_hash, other.hash)

    def test_the_same_below_the_durable_op_is_damage(self) -> None:
        path, _, offsets = self.written(500, 2400)
        self.spoil(path, offsets[1], bytes(SECTOR))
        self.assert_damaged("synced up to op 4", durable=4)

    def test_rot_in_the_last_batch_is_not_cut(self) -> None:
        path, _, offsets = self.written(500, 2400)
        self.spoil(path, offsets[1] + 700, b"\1\2\3")
        damaged = self.assert_damaged("all of it was written")
        self.assertEqual(damaged.offsets, ((path, offsets[1]),))

    def test_a_bad_batch_followed_by_a_valid_one_is_always_rot(self) -> None:
        for at in (0, SECTOR, 2 * SECTOR):
            self.setUp()
            path, _, offsets = self.written(500, 1200, 700)
            self.spoil(path, offsets[1] + at, bytes(SECTOR))
            self.assert_damaged("behind it")

    def test_a_hole_larger_than_a_batch_is_damage(self) -> None:
        log = Journal.open(self.disk, PATH, 0, 0, NO_HASH, first_bytes=2 << 20, segment_bytes=2 << 20)
        add(log)
        log.close()
        self.spoil(self.segments()[0], 3 * SECTOR + segments.IMAGE_MAX + SECTOR, b"x")
        self.assert_damaged("more behind it than one batch")

    def test_a_misdirected_sector_is_damage(self) -> None:
        path, _, offsets = self.written(500, 2400, 600)
        for into in range(offsets[-1] // SECTOR + 1):
            for sector in range(1, offsets[-1] // SECTOR):
                content = self.disk.files.file(path).content
                before = bytes(content)
                self.disk.files.misdirect(path, sector, into)
                if content != before:
                    with self.subTest(sector=sector, into=into):
                        self.check_no_lie([6], path)
                content[:] = before

    def check_no_lie(self, ends: list[int], path: str) -> None:
        """Damage is reported, or what is shown is the log as it was."""
        try:
            log = self.reopen()
        except JournalDamaged:
            return
        self.assertIn(log.head_op, ends)
        log.close()

    def test_a_hole_before_the_last_segment_is_damage(self) -> None:
        _, _, offsets = self.written(1000, 5000, 3000)
        first = self.segments()[0]
        self.spoil(first, offsets[1] + SECTOR, bytes(SECTOR))
        self.assert_damaged("hole")

    def test_a_missing_segment_is_damage(self) -> None:
        self.written(7000, 7000, 7000, 7000)
        paths = self.segments()
        self.assertEqual(len(paths), 4)
        for path in paths:
            file = self.disk.files.file(path)
            self.disk.unlink(path)
            self.assert_damaged("", durable=8)
            directory, name = self.disk.files.parent(path)
            directory.entries[name] = file
        self.assertEqual(self.reopen(durable=8).head_op, 8)

    def test_a_journal_that_is_gone_is_damage(self) -> None:
        path, batches, _ = self.written(100)
        self.disk.unlink(path)
        self.assert_damaged("nothing", durable=2)
        with self.assertRaises(JournalDamaged):
            self.reopen(base=2, hash=batches[0].hash)

    def test_a_journal_must_meet_its_snapshot(self) -> None:
        _, batches, _ = self.written(500, 700, 600)
        self.assertEqual(self.reopen(base=4, hash=batches[1].hash).head_op, 6)
        self.assertIsNone(self.reopen(base=6, hash=batches[2].hash).last)
        for base, hash, word in (
            (4, batches[0].hash, "not the one"),
            (3, batches[0].hash, "not the one"),
            (8, batches[2].hash, "below the snapshot"),
            (0, batches[0].hash, "does not go on"),
        ):
            with self.assertRaises(JournalDamaged) as caught:
                self.reopen(base=base, hash=hash)
            self.assertIn(word, str(caught.exception))
            salvaged = self.reopen(base=base, hash=hash, salvage=True)
            self.assertEqual((salvaged.head_op, salvaged.head_hash, salvaged.read_after(2, NO_HASH, 9)), (base, hash, None))
            salvaged.close()

    def test_salvage_shows_the_sound_part_and_drops_the_rest_at_the_first_append(self) -> None:
        _, batches, offsets = self.written(1000, 5500, 3000, 7000)
        first = self.segments()[0]
        self.spoil(first, offsets[1] + 80, b"rot")
        log = self.reopen(salvage=True)
        self.assertIn("all of it was written", log.damage)
        self.assertEqual((log.head_op, len(self.segments())), (batches[0].op, 3))
        log.close()
        self.assert_damaged("")
        log = self.reopen(salvage=True)
        other = add(log, 50, salt=8)
        again = self.reopen()
        self.assertEqual(([b.hash for b in batches_of(again, 0)], again.damage), ([batches[0].hash, other.hash], ""))
        self.assertEqual(len(self.segments()), 1)

    def test_salvage_of_nothing_begins_at_the_snapshot(self) -> None:
        path, _, _ = self.written(1000)
        self.spoil(path, 0, b"?")
        log = self.reopen(base=2, hash=b"h" * 16, salvage=True)
        self.assertEqual((log.head_op, log.bytes_since(0), log.oldest_op), (2, 0, 3))
        add(log)
        self.assertEqual(self.reopen(base=2, hash=b"h" * 16).head_op, 4)

    def sweep_journal(self) -> tuple[str, int, int]:
        """A journal of 64 KiB, nearly full."""
        self.disk = new_disk(3)
        log = Journal.open(self.disk, PATH, 0, 0, NO_HASH, first_bytes=64 << 10)
        number = 0
        while log.bytes_since(0) < (64 << 10) - 6 * SECTOR:
            number += 1
            add(log, SIZES[number % 6])
        head, end = log.head_op, SECTOR + log.bytes_since(0)
        log.close()
        return self.segments()[0], head, end

    def test_every_flipped_bit_is_found(self) -> None:
        path, head, end = self.sweep_journal()
        bits = (64 << 10) * 8
        dice = random.Random(11)
        chosen = {*range(0, SECTOR * 8, 61), *(dice.randrange(bits) for _ in range(700)), *range(SECTOR * 8, SECTOR * 16, 37)}
        for bit in sorted(chosen):
            self.disk.files.flip(path, bit)
            try:
                log = self.open(durable=head)
            except JournalDamaged:
                pass
            else:
                # Behind the end a bit looks like the rest of a torn batch; nothing is lost, and it is overwritten.
                self.assertGreaterEqual(bit // 8, end)
                self.assertEqual(log.head_op, head)
                log.close()
            self.disk.files.flip(path, bit)
        self.assertEqual(self.open().head_op, head)

    def test_every_truncation_is_found(self) -> None:
        path, head, _ = self.sweep_journal()
        content = self.disk.files.file(path).content
        whole = bytes(content)
        for length in [*range(0, len(whole), 97), len(whole) - 1, len(whole) + 1]:
            content[:] = whole[:length].ljust(length, b"\0")
            with self.assertRaises(JournalDamaged):
                self.open()
        content[:] = whole
        self.assertEqual(self.open().head_op, head)

    def test_an_image_never_ends_in_a_zero_byte(self) -> None:
        self.assertNotEqual(END[-1:], b"\0")


class Reading(Case):
    """What others ask of the log."""

    def setUp(self) -> None:
        super().setUp()
        self.log = self.open()
        self.written = [add(self.log, SIZES[n % len(SIZES)]) for n in range(40)]

    def test_read_after_walks_the_log_in_whole_batches(self) -> None:
        for limit in (1, 3000, 1 << 20):
            op, head, images = 0, NO_HASH, b""
            while piece := self.log.read_after(op, head, limit):
                images += piece
                at = 0
                while at < len(piece):
                    batch = Batch.decode(piece, at)
                    op, head, at = batch.op, batch.hash, at + len(batch.image)
                self.assertLessEqual(len(piece), max(limit, len(batch.image)))
            self.assertEqual(images, b"".join(b.image for b in self.written))
            self.assertEqual(piece, b"")

    def test_walking_forward_does_not_begin_again(self) -> None:
        log = Journal.open(self.disk, "r1/journal", 0, 0, NO_HASH)
        for _ in range(1500):
            log.append(make(log, 300))
        log.sync()
        op, head, reads = 0, NO_HASH, self.disk.counts["pread", "_images"]
        for _ in range(1000):
            piece = log.read_after(op, head, 1)
            assert piece
            batch = Batch.decode(piece)
            op, head = batch.op, batch.hash
        self.assertLessEqual(self.disk.counts["pread", "_images"] - reads, 1100)

    def test_read_after_stops_at_until(self) -> None:
        images = self.log.read_after(0, NO_HASH, 1 << 20, until=self.written[4].op)
        self.assertEqual(images, b"".join(b.image for b in self.written[:5]))
        self.assertEqual(self.log.read_after(self.written[4].op, self.written[4].hash, 1 << 20, until=self.written[4].op), b"")

    def test_read_after_knows_other_logs_and_gaps(self) -> None:
        self.assertIsNone(self.log.read_after(2, NO_HASH, 100))
        self.assertIsNone(self.log.read_after(3, self.written[1].hash, 100))
        self.assertIsNone(self.log.read_after(1000, NO_HASH, 100))
        self.assertIsNone(self.log.read_after(self.log.head_op, NO_HASH, 100))

    def test_many_walkers_share_the_cursors(self) -> None:
        for batch in self.written[:-1]:
            self.assertTrue(self.log.read_after(batch.op, batch.hash, 1))
        self.assertLessEqual(len(self.log._cursors), journal.CURSORS)

    def test_hash_at_is_known_for_every_batch_end(self) -> None:
        for _ in range(2):
            for batch in self.written:
                self.assertEqual(self.log.hash_at(batch.op), batch.hash)
                self.assertIsNone(self.log.hash_at(batch.op - 1) if batch.op > 2 else None)
            self.assertEqual(self.log.hash_at(0), NO_HASH)
            self.log = self.reopen()

    def test_rot_is_found_when_it_is_read(self) -> None:
        path = self.segments()[1]
        self.disk.files.file(path).content[SECTOR + 70] ^= 1
        with self.assertRaises(JournalDamaged):
            self.log.read_after(0, NO_HASH, 1 << 20)
        with self.assertRaises(JournalDamaged):
            for batch in self.written:
                self.log.hash_at(batch.op)
        self.disk.files.file(path).content[SECTOR] ^= 1
        with self.assertRaises(JournalDamaged):
            for batch in self.written:
                self.log.hash_at(batch.op)

    def test_batches_begin_behind_any_batch(self) -> None:
        for nth, batch in enumerate(self.written):
            self.assertEqual([b.op for b in batches_of(self.log, batch.op)], [b.op for b in self.written[nth + 1 :]])

    def test_a_start_replays_what_stands_above_its_base_but_the_last(self) -> None:
        for nth in range(0, len(self.written), 5):
            base, replayed = self.written[nth], list[Batch]()
            log = self.reopen(base=base.op, hash=base.hash, replay=replayed.append)
            self.assertEqual([b.image for b in replayed], [b.image for b in self.written[nth + 1 : -1]])
            self.assertEqual(log.last and log.last.op, self.written[-1].op if base is not self.written[-1] else None)

    def test_a_start_replays_what_is_kept_of_a_damaged_log_and_nothing_else(self) -> None:
        for path in self.segments()[1:]:
            content = self.disk.files.file(path).content
            content[SECTOR + 70] ^= 1
            replayed: list[Batch] = []
            log = self.reopen(salvage=True, replay=replayed.append)
            self.assertTrue(log.damage)
            kept = batches_of(log, 0)
            self.assertEqual([b.image for b in replayed], [b.image for b in kept[:-1]])
            self.assertEqual(kept[-1].op, log.head_op)
            content[SECTOR + 70] ^= 1

    def test_old_segments_are_dropped_and_the_rest_stays_readable(self) -> None:
        before = self.log.bytes_since(0)
        self.log.drop_below(self.written[20].op)
        oldest = self.log.oldest_op
        self.assertTrue(1 < oldest <= self.written[20].op + 1)
        self.assertLess(self.log.bytes_since(0), before)
        self.assertIsNone(self.log.read_after(0, NO_HASH, 100))
        self.assertIsNone(self.log.hash_at(2))
        self.assertTrue(self.log.read_after(oldest - 1, self.log.hash_at(oldest - 1) or b"", 100))
        again = self.reopen(base=self.written[20].op, hash=self.written[20].hash)
        self.assertEqual((again.oldest_op, again.head_op), (oldest, self.log.head_op))
        with self.assertRaises(JournalDamaged):
            self.reopen()
        log = self.reopen(base=self.written[20].op, hash=self.written[20].hash)
        log.drop_below(log.head_op)
        self.assertEqual(len(self.segments()), 1)

    def test_bytes_since_counts_what_is_above(self) -> None:
        self.assertEqual(self.log.bytes_since(self.log.head_op), 0)
        counted = [self.log.bytes_since(b.op) for b in self.written]
        self.assertEqual(counted, sorted(counted, reverse=True))

    def test_another_process_reads_while_the_owner_appends(self) -> None:
        other = SimDisk(random.Random(1), self.disk.files)
        reader = read_segments(other, PATH, self.written[3].op, self.written[3].hash, self.written[30].op)
        got = []
        for batch in reader:
            got.append(batch.hash)
            add(self.log)
        self.assertEqual(got, [b.hash for b in self.written[4:31]])
        self.assertEqual(other.open_files, {})
        self.assertEqual(other.counts["pwrite", "read_segments"], 0)
        empty = read_segments(other, PATH, self.written[3].op, self.written[3].hash, self.written[3].op)
        self.assertEqual(list(empty), [])

    def test_another_process_is_told_when_the_log_is_not_the_one_it_knows(self) -> None:
        for after, hash, until in ((2, NO_HASH, 10), (3, self.written[0].hash, 10), (0, NO_HASH, 3), (0, NO_HASH, 10_000)):
            with self.assertRaises(JournalDamaged):
                list(read_segments(self.disk, PATH, after, hash, until, generation=0))
        with self.assertRaises(JournalDamaged):
            list(read_segments(self.disk, PATH, 0, NO_HASH, 2, generation=5))
        self.log.drop_below(self.written[20].op)
        with self.assertRaises(JournalDamaged):
            list(read_segments(self.disk, PATH, 0, NO_HASH, 2))


class Restarting(Case):
    """An installed snapshot begins a new generation."""

    def test_the_superblock_decides_which_generation_counts(self) -> None:
        log = self.open()
        batches = [add(log, 2000) for _ in range(5)]
        log.restart(1, 50, b"s" * 16)
        self.assertEqual((log.head_op, log.head_hash, log.last, log.oldest_op), (50, b"s" * 16, None, 51))
        old = self.reopen()
        self.assertEqual(old.head_hash, batches[-1].hash)
        old.restart(1, 60, b"t" * 16)
        new = add(old)
        old.drop_old()
        again = self.reopen(generation=1, base=60, hash=b"t" * 16)
        self.assertEqual([b.hash for b in batches_of(again, 60)], [new.hash])
        self.assertEqual(len(self.segments()), 1)
        again.drop_old()
        with self.assertRaises(JournalDamaged):
            self.reopen(generation=2)
        with self.assertRaises(AssertionError):
            again.restart(1, 70, NO_HASH)


class Printing(unittest.TestCase):
    """`scripts/read_journal.py`."""

    def run_script(self, *arguments: str) -> tuple[int, str]:
        script = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "scripts", "read_journal.py")
        spec = importlib.util.spec_from_file_location("read_journal", script)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            code = module.main([*arguments])
        return code, out.getvalue()

    def test_batches_torn_tails_and_damage_are_shown(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            path = f"{directory}/journal"
            log = Journal.open(OsDisk(), path, 0, 0, NO_HASH, first_bytes=8192, segment_bytes=8192)
            batches = [add(log, 700), add(log, 30, count=1), add(log, 700)]
            log.close()
            code, text = self.run_script(directory)
            self.assertEqual(code, 0)
            self.assertIn("op 1-2  view 1  1970-01-01 00:00:00.001000  700 bytes", text)
            self.assertIn(f"op 3  view 1  1970-01-01 00:00:00.001002  30 bytes  {batches[1].hash.hex()}", text)
            self.assertIn("the segment ends", text)
            self.assertIn(repr(batches[1].body), self.run_script(path, "--bodies")[1])
            name = f"{path}/{os.listdir(path)[0]}"
            with open(name, "r+b") as file:
                file.seek(2560)
                file.write(bytes(512))
            self.assertEqual((self.run_script(path)[0], "torn" in self.run_script(path)[1]), (0, True))
            with open(name, "r+b") as file:
                file.seek(600)
                file.write(b"rot")
            self.assertEqual((self.run_script(path)[0], "damaged" in self.run_script(path)[1]), (1, True))
            os.truncate(name, 100)
            self.assertEqual(self.run_script(path)[0], 1)
            self.assertEqual(self.run_script(f"{directory}/nothing")[0], 1)


class Crashing(unittest.TestCase):
    """The power fails, or the process dies, before or after each single effect: what was synced is there, and nothing is called damage."""

    def story(self, disk: SimDisk, log_of: Callable[[SimDisk], Journal], ends: set[int], chain: dict[int, bytes]) -> None:
        """Appends, rolls, a cut, another append. `ends`: ops at which the log may end now; `chain`: hash of each."""
        log = log_of(disk)
        for nth, size in enumerate((700, 1500, 2600, 30, 7000, 400, 400)):
            batch = make(log, size, salt=nth + 1)
            ends.add(batch.op)
            chain[batch.op] = batch.hash
            log.append(batch)
            log.prepare_next()
            log.sync()
            ends.intersection_update({batch.op})
        ends.add(log.parent_op)
        log.cut()
        ends.intersection_update({log.head_op})
        batch = make(log, 900, salt=99)
        ends.add(batch.op)
        chain[batch.op] = batch.hash
        log.append(batch)
        log.sync()
        ends.intersection_update({batch.op})
        log.drop_below(4)

    def open(self, disk: SimDisk) -> Journal:
        return Journal.open(disk, PATH, 0, 0, NO_HASH, segment_bytes=8192, first_bytes=4096)

    def check(self, files: SimFiles, ends: set[int], chain: dict[int, bytes], dropped: bool) -> None:
        disk = SimDisk(files.dice, files)
        base = (4, chain[4]) if dropped else (0, NO_HASH)
        log = Journal.open(disk, PATH, 0, *base, segment_bytes=8192, first_bytes=4096)
        self.assertIn(log.head_op, ends)
        if log.head_op:
            # An op that was cut has two hashes; only the newest may be on the disk when the old one is gone for certain.
            self.assertTrue(log.head_hash == chain[log.head_op] or len(ends) > 1)
        for _ in range(4):
            add(log, 2000, salt=77)
        self.assertEqual(sum(b.count for b in batches_of(log, base[0])), log.head_op - base[0])
        files.crash()
        again = Journal.open(disk, PATH, 0, *base, log.head_op, segment_bytes=8192, first_bytes=4096)
        self.assertEqual((again.head_op, again.head_hash), (log.head_op, log.head_hash))

    def test_a_crash_at_every_effect(self) -> None:
        whole = new_disk(0)
        whole.effects = 0
        self.story(whole, self.open, {0}, {})
        for stop_at in range(1, whole.effects + 1):
            for power, after, seed in ((True, False, 1), (True, True, 2), (True, False, 3), (False, True, 4)):
                with self.subTest(stop_at=stop_at, power=power, after=after, seed=seed):
                    disk = new_disk(stop_at * 10 + seed)
                    disk.effects = 0
                    disk.stop_at, disk.stop_after = stop_at, after
                    ends, chain = {0}, {0: NO_HASH}
                    with self.assertRaises(Stopped):
                        self.story(disk, self.open, ends, chain)
                    disk.kill()
                    if power:
                        disk.crash()
                    self.check(disk.files, ends, chain, dropped=disk.counts["unlink", "Journal.drop_below"] > 0)

    def test_a_power_cut_in_a_catch_up_is_a_shorter_log_or_damage_but_never_a_lie(self) -> None:
        for seed in range(60):
            disk = new_disk(seed)
            log = self.open(disk)
            kept = add(log, 600)
            hashes = {kept.op: kept.hash}
            for size in (300, 800, 500, 200):
                batch = make(log, size)
                log.append(batch)
                hashes[batch.op] = batch.hash
            disk.crash()
            again = Journal.open(SimDisk(disk.dice, disk.files), PATH, 0, 0, NO_HASH, salvage=True, segment_bytes=8192, first_bytes=4096)
            self.assertGreaterEqual(again.head_op, kept.op)
            self.assertEqual(again.head_hash, hashes[again.head_op])
            add(again)


if __name__ == "__main__":
    unittest.main()
