"""A short part of the simulation: some seeds, and for ever those that once failed.

The long one is `python scripts/simulate.py --seeds N`. Read next: `tests/simulator/simulation.py`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# What each found stands in docs/testing.md; the story of a seed changes with the code, so old seeds are only as good as new ones.
ONCE_FAILED = (*(1, 2, 3, 5, 13, 14, 39, 51, 55, 86, 102, 124, 125, 129, 141, 5241, 7262, 20289, 20466, 20584, 20624, 20834, 21012, 40045),)
FRESH = (1000, 25)  # from, how many


class Seeds(unittest.TestCase):
    """Each seed is a world of three production servers with its own mix of faults; its checkers stop at the first broken promise."""

    def simulate(self, *arguments: str) -> None:
        command = [sys.executable, os.path.join(ROOT, "scripts", "simulate.py"), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False, env={**os.environ, "PYTHONHASHSEED": "0"})
        self.assertEqual(done.returncode, 0, done.stdout[-2000:] + done.stderr[-2000:])

    def test_seeds_that_once_failed(self) -> None:
        for seed in ONCE_FAILED:
            with self.subTest(seed=seed):
                self.simulate("--seed", str(seed))

    def test_fresh_seeds(self) -> None:
        self.simulate("--seed", str(FRESH[0]), "--seeds", str(FRESH[1]), "--jobs", "1")

    def test_the_same_seed_tells_the_same_story(self) -> None:
        command = [sys.executable, os.path.join(ROOT, "scripts", "simulate.py"), "--seed", "7", "--trace"]
        stories = [
            subprocess.run(command, capture_output=True, text=True, timeout=100, check=False).stdout.split("\n1 seeds")[0] for _ in range(2)
        ]
        self.assertEqual(*stories)
        self.assertIn("view 1", stories[0])
