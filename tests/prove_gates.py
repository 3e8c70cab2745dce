"""Each rule of handshake and TLS, taken away: a test must fail (`tests/planted/gates.py`).

All of them: `GATES=all python -m unittest tests.prove_gates`. Read next: `tests/test_secure_links.py`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import unittest

from tests.planted import ROOT, changed
from tests.planted.gates import BUGS

SAMPLE = ("keys_for_all_to_read", "reflected_proof")
SECONDS = 120.0
# Who waits in vain for what a test expects need not wait for as long as a slow machine may need.
CODE = """
import sys, unittest
from tests.planted import plant
from tests.planted.gates import BUGS
for row in BUGS:
    if row.bug.name == sys.argv[1]:
        plant(row.bug)
import tests.test_links, tests.test_gate, tests.test_wire
if sys.argv[1]:
    tests.test_links.DEADLINE_S = tests.test_gate.LIMIT_S = tests.test_wire.LIMIT_S = 5.0
unittest.main(module=None, argv=["", *sys.argv[2:]])
"""


def run(bug: str, *tests: str) -> tuple[int, str]:
    """These tests, in a program with this bug; exit code and words."""
    command = [sys.executable, "-c", CODE, bug, *tests]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False)
    return done.returncode, done.stderr


class Gates(unittest.TestCase):
    def test_all_still_apply(self) -> None:
        self.assertEqual(len({row.bug.name for row in BUGS}), len(BUGS))
        for row in BUGS:
            with self.subTest(row.bug.name):
                self.assertTrue(changed(row.bug))

    def test_each_is_noticed_by_every_test_that_is_named(self) -> None:
        for row in BUGS:
            if row.bug.name not in SAMPLE and os.environ.get("GATES") != "all":
                continue
            with self.subTest(row.bug.name):
                self.assertEqual(run("", *row.tests)[0], 0, "without the bug all is well")
                for test in row.tests:
                    code, words = run(row.bug.name, test)
                    self.assertEqual((code, "FAILED (" in words), (1, True), f"{test}: {words[-2000:]}")


if __name__ == "__main__":
    unittest.main()
