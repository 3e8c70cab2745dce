"""What operators are shown of a cluster whose other replicas live on other hosts, where nobody can ask them."""

from __future__ import annotations

import contextlib
import io
import unittest
from collections.abc import Iterator
from typing import Any
from unittest import mock

import operators
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
