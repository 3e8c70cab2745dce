"""Damaged files, sampled: what a replica alone makes of them, and that healthy ones repair it.

Every bit and every length: `python scripts/corruption_sweep.py --full`. Read next: `tests/wreck.py`.
"""

from __future__ import annotations

import random
import unittest
from collections import Counter

from tests.wreck import CUT, DETECTED, FLIP, HARMLESS, KINDS, MENDED, OUTCOMES, TAIL, UNREAD, WIPE, WIPE_BUSY, Damage, Wreck, small_sizes

PLACES = 9  # of each file and kind of damage
# What may come of a damage; everything else is a mistake.
ALLOWED = {
    FLIP: {DETECTED, MENDED, UNREAD, HARMLESS},
    CUT: {DETECTED, MENDED, UNREAD, HARMLESS},
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
        seen: Counter[tuple[str, str]] = Counter()
        for kind, path, places in self.wreck.damages():
            for at in {0, places - 1, *(dice.randrange(places) for _ in range(PLACES))}:
                verdict = self.wreck.alone(Damage(kind, path, at), thorough=at % 5 == 0)
                if verdict is not None:
                    self.assertIn(verdict.outcome, ALLOWED[kind], f"{kind} of {path} at {at}: {verdict}")
                    self.assertTrue(verdict.words)
                    seen[kind, verdict.outcome] += 1
        # A sample that misses a whole outcome says nothing about it.
        self.assertEqual({kind for kind, _ in seen}, set(KINDS))
        self.assertEqual({outcome for _, outcome in seen}, set(OUTCOMES))

    def test_a_refusal_says_what_is_wrong_where_and_for_whom_it_waits(self) -> None:
        segment = next(path for _, path, _ in self.wreck.damages() if path.endswith("2d.seg"))
        verdict = self.wreck.alone(Damage(FLIP, segment, 512 * 8 + 7), thorough=True)
        assert verdict is not None
        self.assertIn(f"{segment} at byte 512", verdict.words)
        self.assertIn("for replica 1, 2: this one cannot restart the cluster", verdict.words)
        record = next(path for _, path, _ in self.wreck.damages() if "/view-" in path)
        verdict = self.wreck.alone(Damage(CUT, record, 50))
        assert verdict is not None
        self.assertIn(record, verdict.words)
        self.assertIn("docs/disk-format.md", verdict.words)

    def test_every_cut_between_two_batches_of_a_quiet_journal_is_noticed(self) -> None:
        """The only cuts that leave nothing torn behind: only the lock file knows."""
        for kind, path, places in self.wreck.damages():
            if kind == WIPE:
                for at in range(512, places, 512):
                    verdict = self.wreck.alone(Damage(WIPE, path, at))
                    self.assertTrue(verdict is None or verdict.outcome == DETECTED, f"{path} at {at}: {verdict}")


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
        self.assertIn("this disk counts as empty", self.wreck.together(Damage(CUT, path, 0)))


if __name__ == "__main__":
    unittest.main()
