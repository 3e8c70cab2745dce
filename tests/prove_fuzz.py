"""Nearly valid bytes for every parser: all that once broke something, and a few hundred new inputs each.

More: `python scripts/fuzz.py --inputs 1000000`. Read next: `tests/fuzzing/run.py`.
"""

from __future__ import annotations

import tracemalloc
import unittest

from tests.fuzzing import disks, outside
from tests.fuzzing.mutate import LENGTH_MAX
from tests.fuzzing.run import Target, fuzz, make, replay, timed

TARGETS: tuple[Target, ...] = (*outside.TARGETS, *disks.TARGETS)
INPUTS = 2000
SECONDS = 0.5  # of each target: a slow machine tries fewer
MEMORY_MAX = 24 << 20  # bytes that one input may cost: a frame of a linked replica is 4 MiB, and is copied


class Fuzz(unittest.TestCase):
    def test_the_corpus_breaks_nothing(self) -> None:
        for target in TARGETS:
            with self.subTest(target.name):
                self.assertGreaterEqual(len(target.corpus()), 2)
                self.assertEqual([find.story for find in replay(target)], [])

    def test_seeds_are_valid_and_kept(self) -> None:
        for target in TARGETS:
            kept = set(target.corpus())
            for name, image in target.seeds().items():
                with self.subTest(target.name, seed=name):
                    self.assertIn(image, kept, "the format has changed: python scripts/fuzz.py --seeds")

    def test_nearly_valid_bytes_break_nothing(self) -> None:
        for target in TARGETS:
            with self.subTest(target.name):
                report = fuzz(target, seed=11, inputs=INPUTS, seconds=SECONDS)
                self.assertEqual([(find.image, find.story) for find in report.finds], [])
                self.assertGreater(len(report.outcomes), 1, f"all inputs had the same fate: {report.outcomes}")

    def test_no_input_costs_much_memory(self) -> None:
        with timed():
            for target in TARGETS:
                corpus = target.corpus()
                images = [make(target, corpus, 3, number) for number in range(12)]
                target.run(images[0])
                tracemalloc.start()
                for image in images:
                    tracemalloc.reset_peak()
                    before, _ = tracemalloc.get_traced_memory()
                    target.run(image)
                    _, peak = tracemalloc.get_traced_memory()
                    self.assertLess(peak - before, MEMORY_MAX, f"{target.name}: {image[:200]!r}")
                tracemalloc.stop()

    def test_inputs_are_named_by_their_seed(self) -> None:
        target = TARGETS[0]
        corpus = target.corpus()
        images = [make(target, corpus, 5, number) for number in range(200)]
        self.assertEqual(images, [make(target, corpus, 5, number) for number in range(200)])
        self.assertGreater(len(set(images)), 180)
        self.assertLessEqual(max(map(len, images)), LENGTH_MAX)


if __name__ == "__main__":
    unittest.main()
