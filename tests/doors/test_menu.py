"""The framed door's numbered mode: how a connection comes to it, and what it answers to lines that are none."""

from __future__ import annotations

import unittest

from commands import TEXT_MAX
from doors.framed import BAD_DELETION, BAD_LOGIN, BAD_NAME, BAD_PASSWORD, BAD_RECIPIENT, BAD_TEXT
from doors.menu import COMPLAINTS
from tests.front_desk import FrontDesk, Person

HELLO = b"understudy 1 00112233445566778899aabbccddeeff\n"


class MenuTest(unittest.TestCase):
    def setUp(self) -> None:
        self.front = FrontDesk()

    def reply(self, person: Person, number: int, line: str) -> str:
        words = person.say(f"{number} 0 {line}\n")
        head, _, body = words.partition(b"\n")
        self.assertEqual(head, b"%d %d" % (number, len(body)), words)
        return body.decode()

    def test_cut_anywhere_it_is_the_numbered_mode(self) -> None:
        for at in range(1, len(HELLO)):
            front = FrontDesk()
            person = front.connect("framed")
            person.send(HELLO[:at])
            self.assertEqual(person.say(HELLO[at:]), b"= - 0 0\n", at)

    def test_only_at_the_beginning(self) -> None:
        person = self.front.connect("framed")
        person.say(b"2         4\n")
        person.say(HELLO)
        self.assertIn("header of a frame", person.paper.closed or "")

    def test_messages_come_on_the_same_connection_and_what_waited_first(self) -> None:
        wayne, mason = self.front.connect("framed"), self.front.connect("framed")
        wayne.say(HELLO)
        mason.say(HELLO.replace(b"00", b"ff"))
        self.assertEqual(self.reply(mason, 1, "3|mason|secret"), "0\nSuccessful Created and logged in")
        self.assertEqual(self.reply(wayne, 1, "3|wayne|secret"), "0\nSuccessful Created and logged in")
        self.assertEqual(self.reply(wayne, 2, "-1"), "0\nLogging out")
        self.assertEqual(self.reply(mason, 2, "2|wayne|one"), "0\nSent to recipient")
        words = wayne.say("3 0 1|wayne|secret\n")
        self.assertRegex(words.decode(), r"^3 18\n0\nSuccessful Login\* 1 \d+\nmason\|\d+\|1\|one$")
        self.assertEqual(self.reply(mason, 3, "2|wayne|two"), "0\nSent to recipient")
        self.assertTrue(wayne.read().endswith(b"|2|two"))
        self.assertEqual(self.reply(mason, 4, "4"), "0\nmason wayne ")

    def test_what_is_no_command_never_reaches_the_log(self) -> None:
        person = self.front.connect("framed")
        person.say(HELLO)
        for number, (line, words) in enumerate(
            (
                ("1|a b|secret", BAD_LOGIN),
                ("1|wayne|", BAD_LOGIN),
                ("3|a b|secret", BAD_NAME),
                ("3|wayne|", BAD_PASSWORD),
                ("3|wayne|a\tb", BAD_PASSWORD),
                ("2||x", BAD_RECIPIENT),
                ("2|wayne|", BAD_TEXT),
                (f"2|wayne|{'x' * (TEXT_MAX + 1)}", BAD_TEXT),
                ("5|wayne", BAD_DELETION),
                ("4|x", "-1\ninvalid command:4"),
                ("history|wayne", "-1\ninvalid command:history"),
                ("-", "-1\ninvalid command:-"),
            ),
            1,
        ):
            with self.subTest(line[:20]):
                before = self.front.log.op
                self.assertEqual(self.reply(person, number, line), words)
                self.assertTrue(words.encode().startswith(COMPLAINTS))
                self.assertLessEqual(self.front.log.op - before, 1, "its session is opened, at most")

    def test_who_is_not_logged_in_is_told_so(self) -> None:
        person = self.front.connect("framed")
        person.say(HELLO)
        for number, line in enumerate(("2|wayne|x", "4", "-1", "5|wayne|secret"), 1):
            self.assertIn("you can only choose to login or register", self.reply(person, number, line))


if __name__ == "__main__":
    unittest.main()
