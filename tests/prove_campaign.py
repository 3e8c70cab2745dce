"""A short campaign on real processes: half a minute of kills, pauses, cuts and bad disks, each kind at least once, and the audit.

The long one is `python scripts/campaign.py --minutes 9`, its figures stand in docs/testing.md. Read next: `tests/system/faults.py`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import unittest

from tests.system.faults import SHARES
from tests.system.figures import Figures

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MINUTES = 0.5
SECONDS_MAX = 240  # for the whole, on a busy machine
# Each seed is another mix; what matters is that there is one that tests are repeated with.
SEED = 20


class Campaign(unittest.TestCase):
    """The script, as it is run for long."""

    def run_script(self, *arguments: str) -> str:
        """What it printed. When it fails, what was found stands before the story, of which only the end is shown."""
        command = [sys.executable, os.path.join(ROOT, "scripts", "campaign.py"), *arguments]
        script = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            words, complaints = script.communicate(timeout=SECONDS_MAX)
        except subprocess.TimeoutExpired:
            script.send_signal(signal.SIGINT)  # it tells what it waits for, and ends its servers
            words, complaints = script.communicate(timeout=SECONDS_MAX)
        found = [line for line in words.splitlines() if line.startswith("FOUND: ")]
        self.assertEqual(script.returncode, 0, "\n".join([*found, words[-4000:], complaints[-4000:]]))
        return words

    def test_half_a_minute(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            report = os.path.join(directory, "report.json")
            words = self.run_script("--minutes", str(MINUTES), "--seed", str(SEED), "--json", report)
            figures = Figures.read(report)
            self.assertIn(" acknowledged, gap p50 ", words)  # progress
            missed = SHARES.keys() - figures.rounds.keys()
            self.assertLessEqual(missed, {"full disk"} if "no disk can be filled here" in words else set(), words)
            self.assertGreater(figures.injected["kill -9"], 3, words)
            self.assertGreater(figures.audit["acknowledged"], 100, words)
            self.assertEqual(figures.audit["acknowledged"], figures.audit["delivered"], words)
            self.assertIn("lost 0, doubled 0, reordered 0, invented 0", words)
            added = self.run_script("--add", report, report)
            self.assertIn(f"acknowledged {2 * figures.audit['acknowledged']},", added)

    def test_a_find_stands_before_its_story(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            figures = Figures()
            figures.failed.append("replica 1 ended with 120\n" + "a line of the story\n" * 1000)
            figures.write(report := os.path.join(directory, "report.json"))
            with self.assertRaisesRegex(AssertionError, "1 != 0 : FOUND: replica 1 ended with 120\n"):
                self.run_script("--add", report)
