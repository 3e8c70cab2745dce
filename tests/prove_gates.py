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

SAMPLE = ("name_not_looked_at", "reflected_proof")
SECONDS = 120.0
CODE = """
import sys, unittest
from tests.planted import plant
from tests.planted.gates import BUGS
plant(next(row.bug for row in BUGS if row.bug.name == sys.argv[1]))
unittest.main(module=None, argv=["", *sys.argv[2:]])
"""


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
                for test in row.tests:
                    command = [sys.executable, "-c", CODE, row.bug.name, test]
                    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False)
                    self.assertRegex(done.stderr, r"FAILED \((failures|errors)=", test)
                    self.assertNotIn("Error: module", done.stderr, test)  # no such test


if __name__ == "__main__":
    unittest.main()
