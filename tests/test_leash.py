"""A worker never outlives its server: not while it imports, not while it stands still."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEADLINE_S = 30.0
# Stands in for pandas: the import says that it has begun, and never ends.
ENDLESS = "import os, time\nos.write(2, b'importing')\ntime.sleep(3600)\n"
SERVER = """
import subprocess, sys, time
worker = subprocess.Popen([sys.executable, sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
print(worker.pid, flush=True)
time.sleep(3600)
"""


class LeashTest(unittest.TestCase):
    def setUp(self) -> None:
        """A process that has started a worker, which is in the middle of an import without end. `said` closes when the worker is gone."""
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        Path(place.name, "pandas.py").write_text(ENDLESS)
        self.said, say = os.pipe()
        self.addCleanup(os.close, self.said)
        self.server = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(ROOT / "snapshot_worker.py")],
            env={**os.environ, "PYTHONPATH": place.name},
            stdout=subprocess.PIPE,
            stderr=say,
        )
        os.close(say)
        self.addCleanup(self.server.wait)
        self.addCleanup(self.server.kill)
        assert self.server.stdout is not None
        self.addCleanup(self.server.stdout.close)
        self.worker = int(self.server.stdout.readline())
        self.addCleanup(self.end_worker)
        self.assertEqual(self.hear(), b"importing")

    def end_worker(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.worker, signal.SIGKILL)

    def hear(self) -> bytes:
        """What the worker says next; nothing when nobody is left who could."""
        self.assertTrue(select.select([self.said], [], [], DEADLINE_S)[0], "the worker outlived its server")
        return os.read(self.said, 100)

    def test_a_worker_ends_in_the_middle_of_its_imports(self) -> None:
        self.server.kill()
        self.assertEqual(self.hear(), b"")

    @unittest.skipUnless(sys.platform == "linux", "only Linux ends a process that stands still")
    def test_a_worker_that_stands_still_ends(self) -> None:
        os.kill(self.worker, signal.SIGSTOP)
        self.server.kill()
        self.assertEqual(self.hear(), b"")


if __name__ == "__main__":
    unittest.main()
