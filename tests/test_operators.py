"""What operators are shown of a cluster whose other replicas live on other hosts, where nobody can ask them; and who is stopped."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import tempfile
import unittest
from collections.abc import Iterator
from typing import Any
from unittest import mock

import operators
from disk import OsDisk, ReplicaLock
from doorways import is_here
from settings import parse
from tests.test_settings import APART, GOOD

SETTINGS = parse(APART.encode(), "c.yaml")
BACKUP = {
    "id": 0,
    "role": "backup",
    "status": "normal",
    "view": 4,
    "commit": 9,
    "applied": 9,
    "pid": 7,
    "serving": False,
    "is_served": True,
    "primary": 1,
    "members": [0, 1],
    "reason": "2 was silent",
    "changed": 5,
}


class OneOfThree(unittest.TestCase):
    def setUp(self) -> None:
        self.row: dict[str, Any] | None = dict(BACKUP)
        self.asked = list[tuple[int, dict[str, Any]]]()

    def ask(self, base: str, replica: int, request: dict[str, Any], seconds: float = 0.0) -> dict[str, Any] | None:
        self.asked.append((replica, request))
        return dict(self.row) if self.row else None

    @contextlib.contextmanager
    def on_host(self, address: str = "10.0.0.1") -> Iterator[io.StringIO]:
        with (
            mock.patch.object(operators, "ask", self.ask),
            mock.patch.object(operators, "is_here", lambda host: host == address),
            contextlib.redirect_stdout(io.StringIO()) as said,
        ):
            yield said

    def test_the_rows_of_others_are_what_is_known_here(self) -> None:
        with self.on_host():
            report = operators.gather_status(SETTINGS, "data")
        self.assertEqual([row["role"] for row in report["replicas"]], ["backup", "primary", "not heard"])
        self.assertEqual((report["serving"], report["here"], report["missing"]), (True, [0], [2]))

    def test_a_backup_that_reaches_no_primary_serves_nothing(self) -> None:
        self.row = {**BACKUP, "is_served": False, "members": [0]}
        with self.on_host() as said:
            self.assertEqual(operators.show_status(SETTINGS, "data", as_json=False), 1)
        self.assertIn("no commands are served now; not running: 1, 2", said.getvalue())

    def test_status_says_what_survives_and_what_is_open(self) -> None:
        with self.on_host() as said:
            self.assertEqual(operators.show_status(SETTINGS, "data", as_json=False), 0)
        self.assertIn("policy majority: 3 replicas, survives 1 fault\n", said.getvalue())
        self.assertIn("warning: whoever is on the way between", said.getvalue())

    def test_a_host_whose_replica_does_not_run_says_so_of_itself(self) -> None:
        self.row = None
        with self.on_host() as said:
            self.assertEqual(operators.show_status(SETTINGS, "data", as_json=False), 1)
        self.assertIn("does not run on this host", said.getvalue())

    def test_who_stops_the_replicas_of_one_host_stops_not_everybody(self) -> None:
        self.row = {**BACKUP, "pid": 0}  # nobody's
        with self.on_host():
            self.assertEqual(operators.stop_replicas(SETTINGS, "data", None), 0)
        self.assertEqual(self.asked[-1], (0, {"verb": "stop", "everybody": False}))

    def hold(self, replica: int) -> str:
        """A directory in which this replica runs, as far as its lock tells."""
        base = tempfile.TemporaryDirectory()
        self.addCleanup(base.cleanup)
        os.mkdir(cluster := os.path.join(base.name, "cluster"))
        lock = ReplicaLock.acquire(OsDisk(), cluster, replica)
        assert lock is not None
        self.addCleanup(lock.release)
        lock.write(1, 0)
        return base.name

    def test_who_stands_still_is_not_said_to_be_down(self) -> None:
        """Somebody might copy its directory, and it goes on under the copy."""
        base, self.row = self.hold(0), None
        with self.on_host() as said, mock.patch.object(operators, "STOP_S", 0.1):
            self.assertEqual(operators.stop_replicas(SETTINGS, base, None), 1)
        words = "replica 0 runs and does not answer: it may be reading its disk; let it go on if it stands still, or end it\n"
        self.assertIn(words, said.getvalue())

    def test_only_a_process_of_ours_is_named(self) -> None:
        """The lock names the one before until its disk is read, and nobody at first."""
        process = subprocess.Popen(["/bin/sh", "-c", "echo; read line", "server.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.addCleanup(process.communicate)
        assert process.stdout is not None
        process.stdout.readline()
        self.assertEqual([operators._is_ours(pid) for pid in (process.pid, os.getpid(), 0)], [True, False, False])

    def test_who_is_starting_is_stopped_when_it_hears(self) -> None:
        base, self.row = self.hold(0), None

        def ask(*asked: Any) -> dict[str, Any] | None:
            answer = self.ask(*asked)
            self.row = {**BACKUP, "pid": 0} if len(self.asked) > 2 else None
            return answer

        with self.on_host() as said, mock.patch.object(operators, "ask", ask):
            self.assertEqual(operators.stop_replicas(SETTINGS, base, None), 0)
        self.assertEqual([request["verb"] for _, request in self.asked], ["status"] * 4 + ["stop"])
        self.assertEqual(said.getvalue(), "replica 0 stopped\n")

    def test_on_one_host_all_are_asked(self) -> None:
        settings = parse(GOOD.encode(), "c.yaml")
        with mock.patch.object(operators, "ask", self.ask), mock.patch.object(operators, "is_here", lambda host: True):
            self.assertFalse(operators.gather_status(settings, "data")["serving"], "under survivor only the primary can say so")
        self.assertEqual([replica for replica, _ in self.asked], [0, 1, 2])

    def test_an_address_is_here_if_it_can_be_bound(self) -> None:
        self.assertTrue(is_here("127.0.0.1"))
        self.assertFalse(is_here("192.0.2.1"))  # reserved for documents


if __name__ == "__main__":
    unittest.main()
