"""The room door: its lines byte for byte, plain and numbered; comings and goings, failovers, the console."""

from __future__ import annotations

import unittest

from commands import TEXT_MAX, system_run
from doors.lines import LINE_MAX
from doors.room import KEPT_MAX, said
from tests.front_desk import FrontDesk, Log, Person

HEX = "00112233445566778899aabbccddeeff"
WELCOME = b"Welcome to chat room. Enter 'tata' anytime to exit\n"


class PlainTest(unittest.TestCase):
    def setUp(self) -> None:
        self.front = FrontDesk()
        self.albert, self.tesla = self.enter("albert"), self.enter("tesla")
        self.albert.read()

    def enter(self, name: str, front: FrontDesk | None = None) -> Person:
        person = (front or self.front).connect("room")
        self.assertEqual(person.say(name), WELCOME)
        return person

    def test_a_conversation(self) -> None:
        self.assertEqual(self.tesla.say("world\n"), b"", "nobody is told what they said")
        self.assertEqual(self.albert.read(), b"tesla: world\n")
        third = self.enter("nora")
        self.assertEqual((self.albert.read(), self.tesla.read()), (b"nora joined the conversation \n",) * 2)
        self.assertEqual(third.read(), b"", "not what was said before")
        self.albert.say("one\ntwo | three\n")
        self.assertEqual(self.tesla.read(), b"albert: one\nalbert: two | three\n")
        third.say("tata\n")
        self.assertEqual((third.paper.closed, self.albert.read()), ("", b"albert: nora\n"[:0] + b"nora left the conversation\n"))

    def test_lines_that_meet_in_one_batch_are_heard_by_who_said_the_others(self) -> None:
        """Nobody is answered here: a line is shown as soon as what its hearer said itself is done, whatever comes later."""
        nora = self.enter("nora")
        people = {"albert": self.albert, "tesla": self.tesla, "nora": nora}
        for person in people.values():
            person.read()
        for name, person in people.items():
            person.send(f"from {name}\n".encode())
        self.front.turn()
        for name, person in people.items():
            self.assertEqual(person.read().decode(), "".join(f"{other}: from {other}\n" for other in people if other != name))

    def test_who_hangs_up_is_gone(self) -> None:
        self.albert.leave()
        self.assertEqual(self.tesla.read(), b"albert left the conversation\n")
        self.tesla.send(b"last words")
        self.tesla.connection.end()
        self.front.turn()
        self.assertEqual([m[4] for m in self.front.state.room.lines][-2:], ["last words", "tesla left the conversation"])

    def test_names(self) -> None:
        self.front.connect().say("1|closed|secret\n1|open\n")
        for name, words in (
            ("albert", b"Username already taken!\n"),
            ("ALBERT", b"Username already taken!\n"),
            ("closed", b"Username already taken!\n"),
            ("Server", b"Username already taken!\n"),
            ("a b", b"A name has 1 to 32 letters, no space and no , or |\n"),
            ("a\x07", b"A name has 1 to 32 letters, no space and no , or |\n"),
        ):
            with self.subTest(name):
                person = self.front.connect("room")
                self.assertEqual((person.say(name), person.paper.closed), (words, ""))
        self.enter("open")
        self.assertEqual(self.front.connect().say("3|albert|x\n"), b"Please give a valid input as instructed in the documentation")
        self.assertEqual(list(self.front.state.accounts), ["closed", "open"], "guests have no accounts")

    def test_a_name_with_a_newline_and_lines_at_once(self) -> None:
        person = self.front.connect("room")
        self.assertEqual(person.say("nora\nhello\n"), WELCOME)
        self.assertEqual(self.albert.read(), b"nora joined the conversation \nnora: hello\n")

    def test_silence_ends_the_name_and_nothing_else(self) -> None:
        self.assertFalse(self.albert.send(b"half a "))
        self.albert.connection.quiet()
        self.front.turn()
        self.assertEqual(self.tesla.read(), b"")
        self.albert.say("line\r\n\n")
        self.assertEqual(self.tesla.read(), b"albert: half a line\n")

    def test_what_cannot_be_said(self) -> None:
        self.assertEqual(self.albert.say("bell\x07\n"), b"Not sent!\n")
        self.assertEqual(self.albert.say(b"\xff\n"), b"Not sent!\n")
        self.assertEqual(self.albert.say("x" * (64 * 1024 + 1) + "\n"), b"Not sent!\n")
        self.albert.send(b"x" * (LINE_MAX + 1))
        self.assertIn("longer than", self.albert.paper.closed or "")

    def test_after_a_refused_name_nothing_is_said(self) -> None:
        person = self.front.connect("room")
        person.say("albert\nhello\ntata\n")
        self.assertEqual(self.tesla.read(), b"")

    def test_in_a_view_change(self) -> None:
        """Sent, and lost with the primary: said once, and nobody leaves."""
        self.albert.send(b"hello\n")
        self.front.desk.take(1 << 20)
        self.front.desk.renew(system_run("members|0.7"))
        self.front.turn()
        self.assertEqual(self.tesla.read(), b"albert: hello\n")

    def test_two_replicas_one_order(self) -> None:
        log = Log()
        here, there = FrontDesk(log, "0.7"), FrontDesk(log, "1.8")
        one, two = self.enter("one", here), self.enter("two", there)
        one.read()
        for n in range(5):
            one.send(f"{n}\n".encode())
            two.send(f"{n}\n".encode())
            (there if n % 2 else here).turn()
            (here if n % 2 else there).turn()
        self.assertEqual(one.read(), b"".join(b"two: %d\n" % n for n in range(5)))
        self.assertEqual(two.read(), b"".join(b"one: %d\n" % n for n in range(5)))
        self.assertEqual(list(here.state.room.lines), list(there.state.room.lines))
        there.desk.renew(system_run("members|1.8"))
        there.turn()
        self.assertEqual(two.read(), b"one left the conversation\n", "its replica died")
        self.assertIsNone(two.paper.closed)

    def test_the_console(self) -> None:
        self.front.console.clear()
        nora = self.enter("nora")
        nora.say("hello\n")
        nora.say("tata\n")
        self.albert.leave()
        where = "Client (127.0.0.1, 49032)"
        self.assertEqual(
            self.front.console,
            [f"{where} connected  [ nora ]", f"{where} is offline  [ nora ]", f"{where} is offline  [ albert ]"],
        )

    def test_nothing_is_acknowledged_in_anybodys_name(self) -> None:
        """The room's guest albert is not the account albert."""
        pipe = self.front.connect()
        pipe.say("1|albert\n3|tesla|x\n")
        pipe.leave()
        other = self.front.connect()
        other.say("1|nora\n3|albert|wait for it\n")
        for _ in range(3):
            self.tesla.say("line\n")
        self.albert.read()
        self.albert.say("more\n")
        self.front.desk.tidy()
        self.front.turn()
        self.assertEqual([m[4] for m in self.front.state.accounts["albert"].mailbox], ["wait for it"])

    def test_the_disk_is_full(self) -> None:
        self.albert.send(b"hello\n")
        self.front.desk.refuse_open()
        self.assertEqual(self.albert.read(), b"Not sent!\n")


class NumberedTest(unittest.TestCase):
    """As our own client speaks: it stays in the room when its replica dies, and misses nothing."""

    def test_a_guest_that_moves(self) -> None:
        front = FrontDesk()
        other = front.connect("room")
        other.say("tesla")
        guest = front.connect("room")
        guest.say(f"understudy 1 {HEX}\n")
        self.assertEqual(guest.say("1 0 join albert\n"), b"1 51\n" + WELCOME)
        self.assertEqual(guest.say("2 1 say hello\n3 1 say \n4 1 dance\n"), b"2 0\n3 10\nNot sent!\n4 10\nNot sent!\n")
        self.assertEqual(other.read(), b"albert joined the conversation \nalbert: hello\n")
        other.say("one\n")
        pushed = guest.read()
        self.assertRegex(pushed, rb"^\* 4 \d+\ntesla\|\d+\|4\|one$")
        guest.connection.lost()
        front.turn()
        other.say("two\n")
        self.assertEqual(other.read(), b"", "it has not left")
        again = front.connect("room")
        words = again.say(f"understudy 1 {HEX}\nresume 4 0\n")
        self.assertRegex(words, rb"^= albert 2 2\n\* 5 \d+\ntesla\|\d+\|5\|two$")
        self.assertEqual(again.say("3 2 say back\n"), b"3 0\n")
        self.assertEqual(other.read(), b"albert: back\n")
        self.assertEqual(again.say("4 3 tata\n"), b"4 0\n")
        self.assertEqual(other.read(), b"albert left the conversation\n")

    def test_one_that_has_shown_nothing_yet_sees_all_since_it_came(self) -> None:
        front = FrontDesk()
        other = front.connect("room")
        other.say("tesla")
        other.say("before\n")
        guest = front.connect("room")
        guest.say(f"understudy 1 {HEX}\n1 0 join albert\n")
        other.say("after\n")
        guest.connection.lost()
        again = front.connect("room")
        words = again.say(f"understudy 1 {HEX}\nresume 0 0\n")
        self.assertIn(b"|after", words)
        self.assertNotIn(b"|before", words)

    def test_what_all_are_shown_is_made_once_and_what_one_has_missed_is_not_kept(self) -> None:
        front = FrontDesk()
        said.cache_clear()
        people = [front.connect("room") for _ in range(3)]
        for number, person in enumerate(people):
            person.say(f"guest{number}\n")
        before = said.cache_info()
        people[0].say("hello\n")
        self.assertEqual((said.cache_info().misses - before.misses, said.cache_info().hits - before.hits), (1, 2))
        text = "x" * TEXT_MAX
        missed = tuple((seq, seq, seq, "guest0", text) for seq in range(1, KEPT_MAX // TEXT_MAX + 2))
        translator = people[1].connection.translator
        before = said.cache_info()
        self.assertEqual(translator.push(missed), f"guest0: {text}\n".encode() * len(missed))
        self.assertEqual(said.cache_info(), before)
        self.assertEqual(translator.push(missed[1:]), f"guest0: {text}\n".encode() * (len(missed) - 1))
        self.assertEqual(said.cache_info().misses, before.misses + 1)


if __name__ == "__main__":
    unittest.main()
