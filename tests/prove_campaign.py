"""A short campaign on real processes: half a minute of kills, pauses, cuts and bad disks, and the audit.

The long one is `python scripts/campaign.py --minutes 9`, its figures stand in docs/testing.md. Read next: `tests/system/faults.py`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import unittest

from tests.system.figures import Figures

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MINUTES = 0.5
SECONDS_MAX = 150  # for the whole, on a busy machine
# Each seed is another mix; what matters is that there is one that tests are repeated with.
SEED = 20


class Campaign(unittest.TestCase):
    """The script, as it is run for long."""

    def run_script(self, *arguments: str) -> str:
        command = [sys.executable, os.path.join(ROOT, "scripts", "campaign.py"), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_MAX, check=False)
        self.assertEqual(done.returncode, 0, done.stdout[-4000:] + done.stderr[-4000:])
        return done.stdout

    def test_half_a_minute(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            report = os.path.join(directory, "report.json")
            words = self.run_script("--minutes", str(MINUTES), "--seed", str(SEED), "--json", report)
            figures = Figures.read(report)
            self.assertIn(" acknowledged, gap p50 ", words)  # progress
            self.assertGreater(figures.injected["kill -9"], 3, words)
            self.assertGreater(figures.audit["acknowledged"], 100, words)
            self.assertEqual(figures.audit["acknowledged"], figures.audit["delivered"], words)
            self.assertIn("lost 0, doubled 0, reordered 0, invented 0", words)
            added = self.run_script("--add", report, report)
            self.assertIn(f"acknowledged {2 * figures.audit['acknowledged']},", added)
