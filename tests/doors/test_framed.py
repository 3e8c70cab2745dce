"""The framed door: its table byte for byte, its relay, and who is not let in."""

from __future__ import annotations

import json
import unittest

from commands import TEXT_MAX, system_run
from doors.framed import BODY_MAX, STRANGER_MAX
from tests.front_desk import FrontDesk, Paper, Person

STRANGER = "-1\nInvalid Command, you can only choose to login or register"
BAD_LOGIN = "-1\nInvalid Login, credential doesn't exist or password invalid"


def framed(body: str | bytes) -> bytes:
    words = body if isinstance(body, bytes) else body.encode()
    return str(len(words)).ljust(10).encode() + words


class Case(unittest.TestCase):
    def setUp(self) -> None:
        self.front = FrontDesk()

    def ask(self, person: Person, body: str | bytes) -> str:
        """A frame, and the one frame that comes back."""
        words = person.say(framed(body))
        self.assertEqual(words[:10], str(len(words) - 10).ljust(10).encode(), words)
        return words[10:].decode()

    def member(self, name: str, password: str = "secret") -> Person:
        person = self.front.connect("framed")
        self.assertEqual(self.ask(person, f"3\n{name}\n{password}"), "0\nSuccessful Created and logged in")
        return person

    def relay(self, name: str, address: str = "127.0.0.1") -> Person:
        person = Person.__new__(Person)
        person.front, person.paper = self.front, Paper()
        person.paper.address = address
        person.connection = self.front.desk.welcome(person.paper, "relay")
        person.send(framed(name))
        self.front.turn()
        return person


class CommandsTest(Case):
    def test_the_table(self) -> None:
        """Top to bottom, byte for byte."""
        wayne, mason = self.member("wayne"), self.front.connect("framed")
        for person, body, words in (
            (mason, "2\nwayne\nhello", STRANGER),
            (mason, "4\n", STRANGER),
            (mason, "5\nwayne\nsecret", STRANGER),
            (mason, "5\nwayne", STRANGER),
            (mason, "-1\n", STRANGER),
            (mason, "77\n", STRANGER),
            (mason, "1\nmason\nsecret", BAD_LOGIN),
            (mason, "1\nwayne\nwrong", BAD_LOGIN),
            (mason, "1\nwayne", BAD_LOGIN),
            (mason, "1\na b\nx", BAD_LOGIN),
            (mason, "3\nwayne\nsecret", "-1\nThis username has been used"),
            (mason, "3\nmason\npass|word", "0\nSuccessful Created and logged in"),
            (mason, "2\nwayne\nhello", "0\nSent to recipient"),
            (mason, "2\nnobody\nhello", "-1\ninvalid recipient"),
            (mason, "2\nwayne", "-1\na text has up to 64 KiB, and no line breaks or control characters"),
            (mason, "2\na|b\nhello", "-1\ninvalid recipient"),
            (mason, "2\n", "-1\ninvalid recipient"),
            (mason, "4\n", "0\nwayne mason "),
            (mason, "4", "0\nwayne mason "),
            (mason, "0\n", "-1\ninvalid command:0"),
            (mason, "9\n", "-1\ninvalid command:9"),
            (mason, "hello\n", "-1\ninvalid command:hello"),
            (mason, "", "-1\ninvalid command:"),
            (mason, "5\nmason", "-1\nInvalid deletion detected"),
            (mason, "5\nmason\nwrong", "-1\nInvalid credential, deletion failed"),
            (mason, "5\nwayne\nsecret", "-1\nInvalid credential, deletion failed"),
            (mason, "5\na b\nsecret", "-1\nInvalid credential, deletion failed"),
            (mason, "-1\n", "0\nLogging out"),
            (mason, "4\n", STRANGER),
            (mason, "1\nmason\npass|word", "0\nSuccessful Login"),
            (mason, "5\nmason\npass|word", "0\naccount deleted"),
            (mason, "4\n", STRANGER),
            (wayne, "4\n", "0\nwayne "),
        ):
            with self.subTest(body):
                self.assertEqual(self.ask(person, body), words)

    def test_an_account_is_deleted_with_its_mail(self) -> None:
        wayne, mason = self.member("wayne"), self.member("mason")
        self.ask(mason, "2\nwayne\nunread")
        self.assertEqual(self.ask(wayne, "5\nwayne\nsecret"), "0\naccount deleted")
        self.assertEqual(self.ask(mason, "2\nwayne\nhello"), "-1\ninvalid recipient")

    def test_a_name_that_is_made_and_deleted_again_and_again(self) -> None:
        """Each deletion checks the password; what is right is no guess, and the next owner does not pay for guesses at the last one's."""
        for n in range(12):
            wayne = self.member("wayne")
            self.assertEqual(self.ask(wayne, "5\nwayne\nsecret"), "0\naccount deleted", n)

    def test_an_open_account_of_another_door(self) -> None:
        self.front.connect().say("1|open\n")
        person = self.front.connect("framed")
        self.assertEqual(self.ask(person, "1\nopen\n"), "0\nSuccessful Login")
        self.assertEqual(self.ask(person, "1\nopen\nwhatever"), "0\nSuccessful Login")
        self.assertEqual(self.ask(person, "5\nopen\nwhatever"), "0\naccount deleted")

    def test_the_text_is_all_behind_the_second_line_break(self) -> None:
        mason = self.member("mason")
        self.assertEqual(self.ask(mason, "2\nmason\n1|2\tthree 😀"), "0\nSent to recipient")
        self.assertEqual(next(iter(self.front.state.accounts["mason"].mailbox))[4], "1|2\tthree 😀")
        for text in ("two\nlines", "bell\x07", "x" * (TEXT_MAX + 1)):
            self.assertTrue(self.ask(mason, f"2\nmason\n{text}").startswith("-1\na text has"))
        self.assertEqual(self.ask(mason, "2\nmason\n" + "x" * TEXT_MAX), "0\nSent to recipient")

    def test_names_and_passwords_that_cannot_be(self) -> None:
        person = self.front.connect("framed")
        self.assertTrue(self.ask(person, "3\na b\nsecret").startswith("-1\na username has"))
        self.assertTrue(self.ask(person, "3\nmason").startswith("-1\na password has"))
        self.assertTrue(self.ask(person, "3\nmason\nx\ny").startswith("-1\na password has"))
        self.assertEqual(self.ask(self.member("nora"), b"2\nnora\n\xff"), "-1\na command is UTF-8")

    def test_frames_cut_anywhere_and_together(self) -> None:
        words = framed("3\nmason\nsecret") + framed("2\nmason\nhé") + framed("4\n")
        whole = self.front.connect("framed").say(words)
        self.assertEqual(whole.count(b"0\n"), 3)
        front = FrontDesk()
        person = front.connect("framed")
        for at in range(len(words)):
            self.assertFalse(person.send(words[at : at + 1]))
        front.turn()
        self.assertEqual(person.read(), whole)

    def test_a_send_stays_behind_what_came_before_it(self) -> None:
        """Sends are understood together, and all else one by one: both in one chunk come in the order of the chunk."""
        person = self.front.connect("framed")
        words = person.say(framed("-1\n") + framed("2\nmason\nhello") + framed("77\n"))
        self.assertEqual(words, framed(STRANGER) * 3)
        self.assertFalse(person.connection.line)

    def test_headers_that_are_none(self) -> None:
        for header in (
            b"abc       ",
            b" 5        ",
            b"-1        ",
            b"5 5       ",
            b"9999999999",
            b"%-10d" % (STRANGER_MAX + 1),
            b"4294967295",
            b"5\n        ",
        ):
            with self.subTest(header):
                person = self.front.connect("framed")
                person.send(header)
                self.assertIn("the header of a frame", person.paper.closed or "")
        member = self.member("mason")
        member.send(b"%-10d" % (BODY_MAX + 1))
        self.assertIn("the header of a frame", member.paper.closed or "")

    def test_half_a_frame_then_the_end(self) -> None:
        person = self.front.connect("framed")
        person.send(framed("3\nmason\nsecret")[:-1])
        person.connection.end()
        self.front.turn()
        self.assertEqual((person.read(), person.paper.closed), (b"", ""))

    def test_no_password_is_in_the_log(self) -> None:
        bodies = list[bytes]()
        commit = self.front.log.commit
        self.front.log.commit = lambda body: (bodies.append(body), commit(body))  # type: ignore[assignment,func-returns-value]
        mason = self.member("mason", "hidden-word")
        self.ask(mason, "1\nmason\nhidden-word")
        self.ask(mason, "5\nmason\nhidden-word")
        self.assertNotIn(b"hidden", b"".join(bodies))

    def test_a_view_change_in_the_middle(self) -> None:
        mason = self.member("mason")
        mason.send(framed("2\nmason\nhello") + framed("4\n") + framed("77\n"))
        self.front.desk.take(1 << 20)
        self.front.desk.renew(system_run("members|0.7"))
        self.front.turn()
        self.assertEqual(mason.read(), framed("0\nSent to recipient") + framed("0\nmason ") + framed("-1\ninvalid command:77"))
        self.assertEqual(self.front.state.message_count, 1)

    def test_the_disk_is_full(self) -> None:
        mason = self.member("mason")
        mason.send(framed("2\nmason\nhello"))
        self.front.desk.refuse_open()
        self.assertEqual(mason.read(), framed("-1\ninvalid recipient"))

    def test_too_many_attempts_look_like_wrong_ones(self) -> None:
        self.member("mason")
        people = [self.front.connect("framed") for _ in range(20)]
        for person in people:
            person.send(framed("1\nmason\nguess"))
        self.front.turn()
        self.assertEqual({person.read() for person in people}, {framed(BAD_LOGIN)})


class RelayTest(Case):
    def test_what_waited_comes_first_then_what_is_sent(self) -> None:
        wayne, mason = self.member("wayne"), self.member("mason")
        self.ask(mason, "2\nwayne\none")
        self.ask(mason, "2\nwayne\ntwo")
        relay = self.relay("wayne")
        self.assertEqual(relay.read(), framed("0\nmason:one") + framed("0\nmason:two"))
        self.front.connect().say("1|zoe\n3|wayne|three\n")
        self.assertEqual(relay.read(), framed("0\nzoe:three"))
        self.assertEqual(wayne.read(), b"", "nothing on the connection for commands")
        self.front.desk.tidy()
        self.front.turn()
        self.assertEqual(list(self.front.state.accounts["wayne"].mailbox), [], "what was written counts as delivered")

    def test_here_is_who_has_a_relay(self) -> None:
        wayne = self.member("wayne")
        pipe = self.front.connect()
        self.assertIn(b"delivered to wayne's mailbox", pipe.say("1|mason\n3|wayne|a\n"))
        relay = self.relay("wayne")
        self.assertEqual(relay.read(), framed("0\nmason:a"))
        self.assertIn(b"Sender mason sends", pipe.say("3|wayne|b\n"))
        self.front.desk.tidy()
        relay.leave()
        self.assertIn(b"mailbox", pipe.say("3|wayne|c\n"))
        again = self.relay("wayne")
        self.assertEqual(again.read(), framed("0\nmason:c"))
        self.assertIsNone(wayne.paper.closed)

    def test_naming_somebody_is_no_proof(self) -> None:
        wayne = self.member("wayne")
        for name, address in (
            ("mason", "127.0.0.1"),
            ("wayne", "192.0.2.9"),
            ("wayne123", "127.0.0.1"),
            ("", "127.0.0.1"),
            ("1\nwayne", "127.0.0.1"),
        ):
            with self.subTest(name, address=address):
                relay = self.relay(name, address)
                self.assertIn("waits for a relay", relay.paper.closed or "")
                self.assertEqual(relay.read(), b"")
        first = self.relay("wayne")
        second = self.relay("wayne")
        self.assertIsNone(first.paper.closed)
        self.assertIn("waits for a relay", second.paper.closed or "", "it has one")
        self.front.connect().say("1|mason\n3|wayne|secret\n")
        self.assertEqual((first.read(), second.read()), (framed("0\nmason:secret"), b""))
        self.ask(wayne, "-1\n")
        self.assertIn("gone, or somebody else's", first.paper.closed or "")
        third = self.relay("wayne")
        self.assertIn("waits for a relay", third.paper.closed or "", "nobody is logged in")

    def test_the_oldest_that_waits_gets_it(self) -> None:
        first, second = self.member("wayne"), self.front.connect("framed")
        self.ask(second, "1\nwayne\nsecret")
        one, two = self.relay("wayne"), self.relay("wayne")
        first.leave()
        self.assertIsNotNone(one.paper.closed)
        self.assertIsNone(two.paper.closed)
        second.connection.end()
        self.front.turn()
        self.assertIsNotNone(two.paper.closed)
        self.assertEqual((self.front.desk.relays.seats, self.front.desk.relays.relay_of, self.front.desk.relays.command_of), ({}, {}, {}))

    def test_another_account_another_relay(self) -> None:
        person = self.member("wayne")
        relay = self.relay("wayne")
        self.assertEqual(self.ask(person, "1\nwayne\nsecret"), "0\nSuccessful Login")
        self.assertIsNone(relay.paper.closed, "the same")
        self.ask(person, "3\nmason\nsecret")
        self.assertIsNotNone(relay.paper.closed)
        self.assertIsNone(self.relay("mason").paper.closed)
        self.ask(person, "5\nmason\nsecret")
        self.assertEqual(self.front.desk.relays.seats, {})

    def test_the_account_goes_before_the_relay_is_in(self) -> None:
        person = self.member("wayne")
        person.send(framed("-1\n"))
        relay = self.front.connect("relay")
        relay.send(framed("wayne"))
        self.front.turn()
        self.assertIsNotNone(relay.paper.closed)

    def test_who_is_deleted_blocked_or_locked_out_elsewhere_is_told_so(self) -> None:
        """Each way at a relay of its own; the deleter's relay, and those of others, end as ever, or not at all."""
        zoe = self.member("zoe")
        other = self.relay("zoe")
        for nth, do in enumerate(("delete", "remove", "block", "reset", "passwd")):
            with self.subTest(do):
                name = f"wayne{nth}"
                self.member(name)
                relay = self.relay(name)
                self.assertEqual(relay.read(), b"")
                pipe = self.front.connect()
                operator = self.front.connect("operator")
                pipe.say(f"0|{name}123|secret\n")
                if do == "delete":
                    self.assertIn(b"deleted", pipe.say(f"5|{name}123\n"))
                elif do == "passwd":
                    pipe = self.front.connect()
                    pipe.say(f"understudy 1 {nth:032x}\n1 0 0|{name}123|secret\n2 1 passwd|{name}123|secret\tother\n")
                else:
                    password = {"password": "other"} if do == "reset" else {}
                    operator.say(json.dumps({"what": do, "name": name, **password}))
                words = f"-1\n{name} is not logged in any more: the account was deleted or blocked, or has another password"
                self.assertEqual(relay.read(), framed(words))
                self.assertIsNotNone(relay.paper.closed)
        self.assertEqual(self.ask(zoe, "5\nzoe\nsecret"), "0\naccount deleted")
        self.assertEqual((other.read(), other.paper.closed is None), (b"", False), "it was its own doing")
        self.assertEqual((self.front.desk.relays.relay_of, self.front.desk.relays.command_of), ({}, {}))

    def test_it_says_its_name_and_no_more(self) -> None:
        self.member("wayne")
        relay = self.relay("wayne")
        relay.send(framed("hello"))
        self.assertIn("more than its name", relay.paper.closed or "")

    def test_the_replica_leaves_the_view(self) -> None:
        self.member("wayne")
        self.relay("wayne")
        self.front.desk.close_all("not in the view")
        self.assertEqual((self.front.desk.relays.seats, self.front.desk.relays.relay_of), ({}, {}))


class FirstAccountsTest(Case):
    def setUp(self) -> None:
        super().setUp()
        from passwords import SALT_SIZE
        from tests.front_desk import QUICK

        hashed = [QUICK.hash(word, bytes(SALT_SIZE)) for word in ("abc123", "abc")]
        self.first = system_run("members|0.7") + system_run(f"begin|tester|{hashed[0]}|abc|{hashed[1]}")
        self.front.log.commit(self.first)

    def test_hidden_until_somebody_uses_them(self) -> None:
        pipe = self.front.connect()
        self.assertTrue(pipe.say("1|mason\n2\n2|.*\n").endswith(b"\nShowing all accounts: mason\nAccount matched: mason\n"))
        self.assertIn(b"already exists", pipe.say("1|abc\n"))
        person = self.front.connect("framed")
        self.assertEqual(self.ask(person, "1\ntester\nabc123"), "0\nSuccessful Login")
        self.assertEqual(self.ask(person, "4\n"), "0\ntester abc mason ")
        self.assertEqual(pipe.say("2\n"), b"Showing all accounts: tester,mason\n")
        pipe.say("3|abc|hello\n")
        self.assertEqual(pipe.say("2\n"), b"Showing all accounts: tester,abc,mason\n")

    def test_made_once(self) -> None:
        person = self.front.connect("framed")
        self.ask(person, "1\nabc\nabc")
        self.ask(person, "5\nabc\nabc")
        self.front.log.commit(self.first)
        self.assertEqual(list(self.front.state.accounts), ["tester"])


if __name__ == "__main__":
    unittest.main()
