"""The operator's door: one request, one answer, whatever is asked."""

from __future__ import annotations

import json
import unittest
from typing import Any

from commands import system_run
from doors import DOORS
from tests.front_desk import FrontDesk


class OperatorTest(unittest.TestCase):
    def setUp(self) -> None:
        self.front = FrontDesk()
        self.mason = self.front.connect()
        self.mason.say("1|mason\n")

    def ask(self, **request: Any) -> Any:
        return json.loads(self.front.connect("operator").say(json.dumps(request)))

    def test_what_can_be_done(self) -> None:
        self.assertEqual(self.ask(what="reset", name="mason", password="given"), {"done": "mason"})
        self.assertEqual(self.mason.paper.closed, "its account is closed to it")
        self.assertEqual(self.front.connect().say("0|mason123|given\n"), b"user : mason is now logged in\n")
        self.assertEqual(self.ask(what="block", name="mason123"), {"done": "mason"})
        self.assertEqual(self.front.connect().say("0|mason123|given\n4|mason123\n"), b"mason123 is blocked\n" * 2)
        self.assertEqual(self.ask(what="unblock", name="mason"), {"done": "mason"})
        self.assertEqual(self.front.connect().say("0|mason123|given\n"), b"user : mason is now logged in\n")
        self.front.connect().say("1|wayne\n3|mason|unread\n")
        self.assertEqual(self.ask(what="remove", name="mason"), {"done": "mason"})
        self.assertEqual(self.ask(what="remove", name="mason"), {"error": "there is no such account"})

    def test_what_is_no_request(self) -> None:
        for request in (
            {},
            {"what": "melt", "name": "mason"},
            {"what": "block"},
            {"what": "block", "name": "a|b"},
            {"what": "block", "name": "a\nb"},
            {"what": "block", "name": "x" * 36},
            {"what": "block", "name": 5},
            {"what": "reset", "name": "mason"},
            {"what": "reset", "name": "mason", "password": ""},
        ):
            with self.subTest(request):
                self.assertEqual(self.ask(**request), {"error": "reset, block, unblock or remove, and a name"})

    def test_through_a_view_change(self) -> None:
        operator = self.front.connect("operator")
        operator.send(json.dumps({"what": "block", "name": "mason"}).encode())
        self.front.desk.take(1 << 20)
        self.front.desk.renew(system_run("members|0.7"))
        self.front.turn()
        self.assertEqual(json.loads(operator.read()), {"done": "mason"})

    def test_nobody_comes_in_from_outside(self) -> None:
        self.assertNotIn("operator", DOORS)


if __name__ == "__main__":
    unittest.main()
