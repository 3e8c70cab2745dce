"""The simulator notices: every planted bug still applies, and some are found within a few seeds. All: `python scripts/planted_bugs.py`.

Read next: `tests/planted/__init__.py`.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

from tests.planted import DoesNotApply, Edit, changed, planted
from tests.planted.catalogue import MUTATIONS
from tests.planted.hunt import CRASH, FOUND, judge

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# Each is found within a few seeds, one for each part of the program.
QUICK = ("ack_before_fsync", "majority_commits", "no_joint_mode", "sessions_not_in_snapshot", "acks_of_the_batch_before")
FEW = 12  # seeds


class PlantedBugs(unittest.TestCase):
    def test_every_mutation_applies(self) -> None:
        for mutation in MUTATIONS.values():
            with self.subTest(mutation.name):
                for file, text in changed(mutation).items():
                    compile(text, file, "exec")

    def test_every_name_in_a_mutated_file_is_known_there(self) -> None:
        """Else the bug breaks Python and not the protocol: no find of it would count."""
        with tempfile.TemporaryDirectory() as directory:
            for mutation in MUTATIONS.values():
                for file, text in changed(mutation).items():
                    path = pathlib.Path(directory, mutation.name, file)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(text, encoding="utf-8")
            command = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--select", "F821", "--output-format", "concise"]
            done = subprocess.run([*command, directory], capture_output=True, text=True, timeout=200, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_names_are_not_given_twice(self) -> None:
        from tests.planted import agreement, disks, guests, views, voters

        names = [m.name for m in (*agreement.BUGS, *views.BUGS, *disks.BUGS, *guests.BUGS, *voters.BUGS)]
        self.assertEqual(sorted(names), sorted(MUTATIONS))

    def test_the_docs_name_them_all(self) -> None:
        with open(os.path.join(ROOT, "docs", "testing.md"), encoding="utf-8") as page:
            words = page.read()
        self.assertEqual([name for name in MUTATIONS if f"`{name}`" not in words], [])

    def test_enough_rules_are_removed(self) -> None:
        self.assertGreaterEqual(sum(not m.redundant for m in MUTATIONS.values()), 40)

    def test_a_mutation_whose_text_is_gone_or_there_twice_does_not_apply(self) -> None:
        for old in ("no such text", "self"):
            with self.subTest(old), self.assertRaises(DoesNotApply):
                changed(planted("x", "x", Edit("journal.py", old, "y")))

    def test_only_checkers_and_assertions_count(self) -> None:
        self.assertEqual(judge("replica 1: NameError: name 'x' is not defined"), CRASH)
        self.assertEqual(judge("replica 1: AssertionError: would cut committed op 7"), FOUND)
        self.assertEqual(judge("two commits of op 7: replica 1 applies another batch than the others"), FOUND)

    def test_some_are_found_at_once(self) -> None:
        only = [word for name in QUICK for word in ("--only", name)]
        command = [sys.executable, os.path.join(ROOT, "scripts", "planted_bugs.py"), *only, "--seeds", str(FEW), "--jobs", "1"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn(f"{len(QUICK)} bugs, {len(QUICK)} found", done.stdout)

    def test_a_program_as_it_is_is_no_find(self) -> None:
        """The control: the same seeds are clean without a bug."""
        command = [sys.executable, "-m", "tests.planted.hunt", "", "survivor", "1", "3"]
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200, check=False)
        self.assertIn('"clean"', done.stdout, done.stderr)


if __name__ == "__main__":
    unittest.main()
