"""Damaged files, sampled: what a replica alone makes of them, and that healthy ones repair it.

Every bit and every length: `python scripts/corruption_sweep.py --full`. Read next: `tests/sweep.py`, `tests/wreck.py`.
"""

from __future__ import annotations

import importlib
import os
import random
import tempfile
import unittest
from collections import Counter
from typing import Any
from unittest import mock

from disk import LockContent
from tests.simulator.checks import Checks
from tests.simulator.guests import SimGuest
from tests.simulator.world import BASE, World
from tests.sweep import Sweep
from tests.wreck import (
    CUT,
    DETECTED,
    FLIP,
    GONE,
    HARMLESS,
    KINDS,
    MENDED,
    OUTCOMES,
    TAIL,
    UNREAD,
    WIPE,
    WIPE_BUSY,
    Damage,
    Wreck,
    make_mix,
    small_sizes,
)

SCRIPT: Any = importlib.import_module("scripts.corruption_sweep")  # nothing imports scripts: it is the script that is tried here
PLACES = 9  # of each file and kind of damage
# What may come of a damage; everything else is a mistake.
ALLOWED = {
    FLIP: {DETECTED, MENDED, UNREAD, HARMLESS},
    CUT: {DETECTED, MENDED, UNREAD, HARMLESS},
    GONE: {DETECTED, MENDED, UNREAD, HARMLESS},
    WIPE: {DETECTED},
    WIPE_BUSY: {DETECTED, TAIL},
}


class Case(unittest.TestCase):
    wreck: Wreck

    @classmethod
    def setUpClass(cls) -> None:
        sizes = small_sizes()
        sizes.__enter__()
        cls.addClassCleanup(sizes.__exit__, None, None, None)
        cls.wreck = Wreck()


class Alone(Case):
    def test_no_damage_is_believed(self) -> None:
        dice = random.Random(7)
        sweep = Sweep(self.wreck)
        seen: Counter[tuple[str, str]] = Counter()
        for kind, path, places in self.wreck.damages():
            some = {0, places - 1, *(dice.randrange(places) for _ in range(PLACES))}
            row = sweep.row(kind, path, sorted(some), trial=1, repair=False)
            self.assertEqual(row.wrong, [])
            self.assertLessEqual(set(row.outcomes), ALLOWED[kind], f"{kind} of {path}: {row.examples}")
            self.assertTrue(all(row.examples.values()))
            seen.update({(kind, outcome): count for outcome, count in row.outcomes.items()})
        # A sample that misses a whole outcome says nothing about it.
        self.assertEqual({kind for kind, _ in seen}, set(KINDS))
        self.assertEqual({outcome for _, outcome in seen}, set(OUTCOMES))

    def test_a_refusal_says_what_is_wrong_where_and_for_whom_it_waits(self) -> None:
        segment = next(path for _, path, _ in self.wreck.damages() if path.endswith("2d.seg"))
        verdict = self.wreck.alone(Damage(FLIP, segment, 512 * 8 + 7), thorough=True)
        assert verdict is not None
        self.assertIn(f"{segment} at byte 512", verdict.words)
        self.assertIn("for replica 1, 2: this one cannot restart the cluster", verdict.words)
        record = max(path for _, path, _ in self.wreck.damages() if "/view-" in path)
        verdict = self.wreck.alone(Damage(CUT, record, 50))
        assert verdict is not None
        self.assertIn(record, verdict.words)
        self.assertIn("docs/disk-format.md", verdict.words)

    def test_every_cut_between_two_batches_of_a_quiet_journal_is_noticed(self) -> None:
        """The only cuts that leave nothing torn behind: only the lock file knows."""
        sweep = Sweep(self.wreck)
        for kind, path, places in self.wreck.damages():
            if kind == WIPE:
                row = sweep.row(kind, path, range(512, places, 512), trial=7, repair=False)
                self.assertEqual((row.wrong, set(row.outcomes)), ([], {DETECTED}), path)


class TwoSeconds(Case):
    def test_a_journal_that_was_quiet_for_two_seconds_says_how_long_it_was(self) -> None:
        """What `WIPE` relies on, at three replicas that run: each lock file names the head, and no request hurries it."""
        world = World(1, make_mix(), random.Random(1))
        world.checks = Checks(world)
        guest = SimGuest(world, world.checks, "ann", 0)
        world.checks.guests = [guest]
        for replica in range(3):
            world.start(replica)
        for line in ("1|ann", "3|ann|one", "3|ann|two"):
            guest.ask(line)
            self.assertTrue(world.run(world.now + 5, lambda: guest.is_done))
        world.run(world.now + 2)
        for replica, process in world.processes.items():
            lock = world.files.file(f"{BASE}/cluster/replica-{replica}.lock")
            said = int.from_bytes(lock.content[20:28], "little")
            self.assertEqual(said, process.server.storage.journal.head_op)
            self.assertGreater(said, 3)


class Together(Case):
    def test_healthy_replicas_repair_it(self) -> None:
        dice = random.Random(8)
        words = set()
        for kind, path, places in self.wreck.damages():
            if "/view-" not in path:  # nobody repairs the register: it is the one copy of who is in the view
                words.add(self.wreck.together(Damage(kind, path, dice.randrange(places))))
        self.assertGreater(len(words), 5)

    def test_a_superblock_that_cannot_be_read_at_all_is_repaired(self) -> None:
        path = next(path for _, path, _ in self.wreck.damages() if path.endswith("superblock"))
        for damage in (Damage(CUT, path, 0), Damage(GONE, path, 0)):
            self.assertIn("this disk counts as empty", self.wreck.together(damage))


class Same(bytes):
    """A hash that is like every other."""

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = bytes.__hash__


class Planted(Case):
    """The sweep itself: a reader that believes too much is found."""

    def wrong(self, kind: str, places: range) -> list[str]:
        path = next(path for _, path, _ in self.wreck.damages() if path.endswith("6e.seg"))
        return Sweep(self.wreck).row(kind, path, places, trial=1, repair=False).wrong

    def test_a_hash_that_nobody_looks_at(self) -> None:
        body = range((512 + 80) * 8, (512 + 84) * 8)
        self.assertEqual(self.wrong(FLIP, body), [])
        with mock.patch("batches.digest", lambda head, body: Same(16)):
            self.assertEqual(len(self.wrong(FLIP, body)), len(body))

    def test_a_lock_file_that_nobody_looks_at(self) -> None:
        self.assertEqual(self.wrong(WIPE, range(512, 513)), [])
        with mock.patch.object(LockContent, "durable_op", 0):
            self.assertIn("serves op 109, held op 196", self.wrong(WIPE, range(512, 513))[0])


class Log(unittest.TestCase):
    def test_a_sample_does_not_pass_for_every_place(self) -> None:
        """A log goes on behind an ended run; what an earlier run has only sampled is tried again."""
        with tempfile.TemporaryDirectory() as place:
            log = os.path.join(place, "log")
            for every in (97, 1):
                SCRIPT.note(log, {"kind": FLIP, "path": "superblock", "every": every})
            for asked, kept in ((1, [1]), (50, [1]), (97, [97, 1])):
                self.assertEqual([row["every"] for row in SCRIPT.noted(log, asked)], kept)
            self.assertEqual(SCRIPT.noted(os.path.join(place, "none"), 1), [])


if __name__ == "__main__":
    unittest.main()
