"""What the client says and asks at each door, without a terminal and without a server."""

from __future__ import annotations

import os
import unittest

from dialects import LEDGER, MENU, PIPE, ROOM
from doors.room import TAKEN, WELCOME
from guest import Message
from menu_mode import COMMANDS, Menu
from modes import Mode, Pipe
from options import mode_of, parse
from phrases import Word
from ports import is_host, ports_to_use
from room_mode import Room

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def said(mode: Mode, *lines: str, account: str = "") -> list[tuple[str, Word]]:
    """The question before each line, and what the line means."""
    return [(mode.question(account).text, mode.typed(line, account)) for line in lines]


class Options(unittest.TestCase):
    def test_which_mode_is_meant(self) -> None:
        for arguments, mode in (
            ([], Pipe),
            (["6666"], Pipe),
            (["host.lan:6666"], Pipe),
            (["localhost"], Room),
            (["[::1]"], Room),
            (["--menu"], Menu),
            (["--menu", "8084"], Menu),
        ):
            self.assertIs(mode_of(parse(arguments)), mode, arguments)

    def test_each_mode_has_ports_of_its_own(self) -> None:
        config = os.path.join(ROOT, "cluster.yaml")
        for given, door, ports in (
            (["localhost"], "room", [5001, 5002, 5003]),
            ([], "framed", [8084, 8184, 8284]),
            (["8184"], "framed", [8184, 8084, 8284]),
        ):
            self.assertEqual([port for _, port in ports_to_use(given, config, door)], ports)
        self.assertEqual(ports_to_use(["chat.example"], config, "room"), [("chat.example", port) for port in (5001, 5002, 5003)])

    def test_a_host_is_no_port(self) -> None:
        for word in ("localhost", "[::1]"):
            self.assertTrue(is_host(word), word)
        for word in ("6666", "a:6666", ":6666", "[::1]:6666", "host:"):
            self.assertFalse(is_host(word), word)
        with self.assertRaisesRegex(ValueError, "no port"):
            ports_to_use(["localhost"], None, "toy")


class Pipes(unittest.TestCase):
    def test_a_log_in_is_asked_for_its_password(self) -> None:
        mode = Pipe(is_script=False)
        self.assertEqual(said(mode, "login mason"), [("> ", Word("0|mason123", waits=True))])
        self.assertEqual(mode.replied("login mason", "0|mason123", "wrong password for mason123\n", ""), ("", ""))
        self.assertTrue(mode.question("").is_secret)
        self.assertEqual(said(mode, "secret"), [("password for mason123: ", Word("0|mason123|secret", waits=True))])
        words = mode.replied("secret", "0|mason123|secret", "wrong password for mason123\n", "")
        self.assertEqual((words[0], mode.dialog), ("wrong password for mason123", None), "once")

    def test_an_account_that_needs_a_password_gets_one(self) -> None:
        mode = Pipe(is_script=False)
        mode.replied("create mason", "1|mason", "an account needs a password here: 1|mason|PASSWORD\n", "")
        self.assertEqual(
            said(mode, "secret", "secret"), [("a password for mason: ", Word()), ("again: ", Word("1|mason|secret", waits=True))]
        )

    def test_a_new_password_is_typed_twice(self) -> None:
        mode = Pipe(is_script=False)
        for lines, asked in ((("", "new", "new"), "passwd|mason123|\tnew"), (("old", "new", "new"), "passwd|mason123|old\tnew")):
            *_, (_, word) = said(mode, "passwd", *lines, account="mason")
            self.assertEqual(word, Word(asked, waits=True))
        for lines in (("", "new", "now"), ("old", "", "")):
            *_, (_, word) = said(mode, "passwd", *lines, account="mason")
            self.assertIn("nothing", word.say)
            self.assertFalse(word.ask)
        self.assertIn("log in first", mode.typed("passwd", "").say)

    def test_a_script_is_asked_nothing(self) -> None:
        mode = Pipe(is_script=True)
        self.assertIn("which one", mode.typed("passwd", "mason").say)
        self.assertEqual(mode.replied("login a", "0|a123", "wrong password for a123\n", ""), ("wrong password for a123\n", ""))
        self.assertIsNone(mode.dialog)


class Rooms(unittest.TestCase):
    def test_a_visit(self) -> None:
        mode = Room(is_script=False)
        self.assertEqual(
            said(mode, " ", "albert "),
            [("CREATING NEW ID:\nEnter username: ", Word()), ("CREATING NEW ID:\nEnter username: ", Word("join albert", waits=True))],
        )
        self.assertEqual(mode.replied("albert", "join albert", TAKEN, ""), ("Username already taken!", ""))
        self.assertEqual(
            said(mode, "hello | you", "", "tata", account="albert"),
            [("You: ", Word("say hello | you")), ("You: ", Word()), ("You: ", Word(ends=True))],
        )
        self.assertEqual(mode.replied("hello", "say hello", "", "albert"), ("", ""))
        self.assertEqual(mode.message(Message(1, "tesla", 5, 6, "hi", "albert")), ("tesla", "hi"))
        self.assertEqual(mode.message(Message(1, "Server", 5, 6, "tesla left the conversation", "albert"))[0], "")
        self.assertEqual((mode.farewell(), mode.banner({}, "5001", "")), ("DISCONNECTED!!", []))
        self.assertEqual(mode.banner({}, "5001", "albert"), ["you are albert again"])


class Menus(unittest.TestCase):
    def test_each_command_asks_for_what_it_needs(self) -> None:
        mode = Menu(is_script=False)
        for lines, asked in (
            (("1", "wayne ", "secret"), "1|wayne|secret"),
            (("2", "mason", "hello | you"), "2|mason|hello | you"),
            (("3", "wayne", "secret", "secret"), "3|wayne|secret"),
            (("4",), "4"),
            (("5.", "wayne", "secret"), "5|wayne|secret"),
            ((" -1 ",), "-1"),
        ):
            *_, (_, word) = said(mode, *lines)
            self.assertEqual((word, mode.dialog), (Word(asked, waits=True), None), lines)
        self.assertEqual([text for text, _ in said(mode, "1", "wayne", "x")], ["Command code: ", "Username: ", "Password: "])
        mode.typed("1", "")
        mode.typed("wayne", "")
        self.assertTrue(mode.question("").is_secret)

    def test_what_cannot_be(self) -> None:
        mode = Menu(is_script=False)
        self.assertIn("is no command code", mode.typed("9", "").say)
        self.assertEqual(mode.typed("", ""), Word())
        *_, (_, word) = said(mode, "3", "wayne", "secret", "sacred")
        self.assertIn("not the same", word.say)
        *_, (_, word) = said(mode, "1", "a|b", "secret")
        self.assertIn("a username has", word.say)
        *_, (_, word) = said(mode, "3", "a|b", "secret", "secret")
        self.assertIn("a username has", word.say)

    def test_its_words(self) -> None:
        mode = Menu(is_script=True)
        self.assertEqual(mode.banner({}, "8084", "")[0], "Welcome! Connected to the server.")
        self.assertEqual(mode.typed("0", "").say.split("\n")[: len(COMMANDS)], list(COMMANDS))
        self.assertEqual(mode.replied("4", "4", "0\nwayne mason ", "wayne"), ("wayne mason ", ""))
        self.assertEqual(mode.question("wayne").text, "wayne, command code: ")
        *_, (_, word) = said(mode, "3", "wayne", "secret")
        self.assertEqual(word.ask, "3|wayne|secret", "a script types it once")
        self.assertTrue(mode.typed("bye", "").ends)


class Dialects(unittest.TestCase):
    def test_whose_session_it_is_after_an_answer(self) -> None:
        for dialect, line, answer, account in (
            (PIPE, "1|mason", "Success New Account Creation! Your new Account ID: mason123\n", "mason"),
            (PIPE, "0|mason123|secret", "user : mason is now logged in\n", "mason"),
            (PIPE, "0|mason123|secret", "wrong password for mason123\n", None),
            (PIPE, "5|nora123", "Your account has been deleted\n", ""),
            (PIPE, "5|mason123", "Your account has been deleted\n", None),
            (PIPE, "bye", "logged out\n", ""),
            (ROOM, "join albert", WELCOME, "albert"),
            (ROOM, "join albert", TAKEN, None),
            (ROOM, "tata", "", ""),
            (MENU, "1|wayne|secret", "0\nSuccessful Login", "wayne"),
            (MENU, "3|wayne|secret", "-1\nThis username has been used", None),
            (MENU, "5|wayne|secret", "0\naccount deleted", ""),
            (MENU, "-1", "0\nLogging out", ""),
        ):
            with self.subTest(line=line, answer=answer):
                self.assertTrue(line.startswith(dialect.entering))
                self.assertEqual(dialect.entered(line, answer, "nora"), account)

    def test_passwords_are_hidden_at_each_door(self) -> None:
        for dialect, line, shown in (
            (PIPE, "0|mason123|secret", "0|mason123|***"),
            (PIPE, "3|mason|no secret", "3|mason|no secret"),
            (MENU, "3|mason|secret", "3|mason|***"),
            (MENU, "2|mason|no secret", "2|mason|no secret"),
            (ROOM, "say 0|a|b", "say 0|a|b"),
            (LEDGER, "0|mason|secret", "0|mason|***"),
        ):
            self.assertEqual(dialect.hide(line), shown)


if __name__ == "__main__":
    unittest.main()
