"""The pipe door: every transcript of its page, byte for byte, framed and unframed, in any chunks; bad input; the numbered mode."""

from __future__ import annotations

import importlib
import pathlib
import random
import unittest
from typing import Any

from commands import NAME_MAX, PATTERN_MAX, TEXT_MAX, Passwords, Refusal
from doors import Guest, Render, Translator
from doors.lines import LINE_MAX, QUIET_AFTER
from doors.pipe import PipeTranslator, encode
from doors.pipe_words import GREETING, INVALID, WORDS
from tests.front_desk import FrontDesk, Person

try:
    from hypothesis import given, settings
    from hypothesis import strategies as st
except ImportError:  # pragma: no cover
    given = None  # type: ignore[assignment]

SORRY = b"Please give a valid input as instructed in the documentation"
HEX = "00112233445566778899aabbccddeeff"


class Book(Guest):
    """A guest that writes down what a translator asks of it."""

    def __init__(self) -> None:
        self.account, self.peer = "mason", "127.0.0.1 : 49032"
        self.is_watched = False
        self.asked: list[Any] = []
        self.closed = ""
        self.watched: list[str] = []

    def open(self, session: bytes, kind: str, seen: int, owed: int = 0) -> None:
        self.asked.append(("open", session.hex(), kind, seen, owed) if owed else ("open", session.hex(), kind, seen))

    def ask(self, command: str, number: int = 0, low: int = 0, passwords: Passwords | None = None) -> None:
        self.asked.append(("ask", command, number, low, *(passwords or ())))

    def ask_all(self, commands: list[str], render: Render, first: int = 0, low: int = 0) -> None:
        self.asked += [("ask", command, first and first + i, low) for i, command in enumerate(commands)]

    def say(self, reply: bytes, number: int = 0) -> None:
        self.asked.append(("say", reply, number))

    def acknowledge(self, upto: int) -> None:
        self.asked.append(("acknowledge", upto))

    def tell(self, words: bytes) -> None:
        self.asked.append(("tell", words))

    def hang_up(self, why: str) -> None:
        self.closed = self.closed or why

    def pair(self, account: str) -> bool:
        return False

    def become(self, translator: Translator) -> None:
        raise AssertionError("this door has no other translator")

    def describe_cluster(self) -> bytes:
        return b"{}"

    def watch(self, line: str) -> None:
        self.watched.append(line)


def heard(*chunks: bytes, quiet: bool = False, end: bool = False) -> Book:
    book = Book()
    translator = PipeTranslator(book)
    for chunk in chunks:
        translator.feed(chunk)
        if quiet:
            translator.quiet()
    if end:
        translator.end()
    return book


# who, what is sent, what everybody has read then
STORY: list[tuple[str, str, dict[str, str]]] = [
    ("mason", "1|mason", {"mason": "Success New Account Creation! Your new Account ID: mason123\n"}),
    ("wayne", "1|mason", {"wayne": "Username mason already exists. Please try a different username."}),
    ("wayne", "1|MASON", {"wayne": "Username MASON already exists. Please try a different username."}),
    ("wayne", "1|mason123", {"wayne": "Username mason123 already exists. Please try a different username."}),
    ("wayne", "1|Server", {"wayne": "Username Server already exists. Please try a different username."}),
    ("wayne", "3|mason|hello", {"wayne": SORRY.decode()}),
    ("wayne", "1|wayne", {"wayne": "Success New Account Creation! Your new Account ID: wayne123\n"}),
    (
        "zed",
        "0|nobody123",
        {"zed": "user with ID : nobody123 is not recognized in the system, please try a different name or create a new one\n"},
    ),
    ("zed", "0|mason", {"zed": "user with ID : mason is not recognized in the system, please try a different name or create a new one\n"}),
    ("mason", "2", {"mason": "Showing all accounts: mason,wayne\n"}),
    ("mason", "2|", {"mason": "Showing all accounts: mason,wayne\n"}),
    ("zed", "2|w.yne", {"zed": "Account matched: wayne\n"}),
    ("zed", "2|.+?", {"zed": "Account matched: mason,wayne\n"}),
    ("zed", "2|[a-z]*", {"zed": "Account matched: mason,wayne\n"}),
    ("zed", "2|mason|wayne", {"zed": "Account matched: mason,wayne\n"}),
    ("zed", "2|w.yn", {"zed": "Account matched to: w.yn doesn't exist \n"}),
    ("zed", "2|(", {"zed": "Account matched to: ( doesn't exist \n"}),
    ("zed", "2|(?=w)wayne", {"zed": "Account matched to: (?=w)wayne doesn't exist \n"}),
    ("mason", "3|wayne|hello", {"mason": "Sender mason sends a new message hello to wayne\n", "wayne": "mason: hello"}),
    ("mason", "3|wayne123|hello", {"mason": "Sender mason sends a new message hello to wayne\n", "wayne": "mason: hello"}),
    ("mason", "3|wayne|a | b || c", {"mason": "Sender mason sends a new message a | b || c to wayne\n", "wayne": "mason: a | b || c"}),
    (
        "mason",
        "3|wayne| tabs\tand  blanks ",
        {"mason": "Sender mason sends a new message  tabs\tand  blanks  to wayne\n", "wayne": "mason:  tabs\tand  blanks "},
    ),
    ("mason", "3|nobody|hello", {"mason": "Receiver: nobody doesn't exist \n"}),
    ("wayne", "4|wayne123", {"wayne": "No new messages\n"}),
    ("wayne", "bye", {"wayne": SORRY.decode()}),
    ("wayne", "#leaves", {}),
    ("mason", "3|wayne|hi", {"mason": "message from mason has been delivered to wayne's mailbox\n"}),
    ("mason", "3|wayne123|there", {"mason": "message from mason has been delivered to wayne's mailbox\n"}),
    ("zed", "5|wayne123", {"zed": "Please check your mailbox before deleting your account! \n"}),
    ("wayne", "0|wayne123", {"wayne": "user : wayne is now logged in\n"}),
    ("mason", "3|wayne|now", {"mason": "Sender mason sends a new message now to wayne\n", "wayne": "mason: now"}),
    ("wayne", "4|wayne123", {"wayne": "undelivered message for user ID wayne123: \nmason sends: hi\n\nmason sends: there\n\n"}),
    ("zed", "4|wayne123", {"zed": "No new messages\n"}),
    ("zed", "4|nobody123", {"zed": "User not Found "}),
    ("zed", "5|nobody123", {"zed": "User Not Found! "}),
    ("wayne", "5|wayne123", {"wayne": "Your account has been deleted\n"}),
    ("wayne", "3|mason|hello", {"wayne": SORRY.decode()}),
    ("zed", "1|wayne", {"zed": "Success New Account Creation! Your new Account ID: wayne123\n"}),
    ("zed", "4|wayne123", {"zed": "No new messages\n"}),
    ("mason", "2", {"mason": "Showing all accounts: mason,wayne\n"}),
    ("mason", "3|wäyne|x", {"mason": "Receiver: wäyne doesn't exist \n"}),
    ("mason", "3|wayne|grüße 🦊", {"mason": "Sender mason sends a new message grüße 🦊 to wayne\n", "zed": "mason: grüße 🦊"}),
]


UNKNOWN = "user with ID : {} is not recognized in the system, please try a different name or create a new one\n"


class PasswordTest(unittest.TestCase):
    """An account with a password, line by line."""

    def test_a_story(self) -> None:
        front = FrontDesk()
        mason, other = front.connect(), front.connect()
        for who, line, words in (
            (mason, "1|mason|se|cret", "Success New Account Creation! Your new Account ID: mason123\n"),
            (other, "1|mason|other", "Username mason already exists. Please try a different username."),
            (other, "0|mason123", "wrong password for mason123\n"),
            (other, "0|mason123|secret", "wrong password for mason123\n"),
            (other, "4|mason123", "wrong password for mason123\n"),
            (other, "5|mason123", "wrong password for mason123\n"),
            (
                other,
                "0|nobody123|x",
                "user with ID : nobody123 is not recognized in the system, please try a different name or create a new one\n",
            ),
            (mason, "4|mason123", "No new messages\n"),
            (other, "1|wayne", "Success New Account Creation! Your new Account ID: wayne123\n"),
            (mason, "0|wayne123|whatever", "user : wayne is now logged in\n"),
            (mason, "4|mason123", "wrong password for mason123\n"),
            (mason, "0|mason123|se|cret", "user : mason is now logged in\n"),
            (mason, "5|mason123", "Your account has been deleted\n"),
        ):
            with self.subTest(line):
                self.assertEqual(who.say(line + "\n").decode(), words)

    def test_the_password_is_changed_in_the_numbered_mode(self) -> None:
        front = FrontDesk()
        mason, other = front.connect(), front.connect()
        mason.say(f"understudy 1 {HEX}\n1 0 1|mason|old\n")
        other.say("0|mason123|old\n")
        for number, (line, words) in enumerate(
            (
                ("passwd|mason123|wrong\tnew", "wrong password for mason123\n"),
                ("passwd|mason123|\tnew", "wrong password for mason123\n"),
                ("passwd|nobody123|old\tnew", "Please give a valid input as instructed in the documentation"),
                ("passwd|mason123|old\t", "Please give a valid input as instructed in the documentation"),
                ("passwd|mason123|old\tnew", "the password is changed\n"),
                ("0|mason123|new", "user : mason is now logged in\n"),
            ),
            2,
        ):
            with self.subTest(line):
                self.assertEqual(mason.say(f"{number} 0 {line}\n"), b"%d %d\n%s" % (number, len(words), words.encode()))
        self.assertEqual(other.paper.closed, "its account is closed to it", "who knew the old one only is out")
        self.assertEqual(front.connect().say("0|mason123|old\n"), b"wrong password for mason123\n")

    def test_an_open_account_gets_one(self) -> None:
        front = FrontDesk()
        mason = front.connect()
        mason.say(f"understudy 1 {HEX}\n1 0 1|mason\n")
        self.assertEqual(mason.say("2 0 passwd|mason123|\tnew\n"), b"2 24\nthe password is changed\n")
        self.assertEqual(front.connect().say("0|mason123\n"), b"wrong password for mason123\n")


class StoryTest(unittest.TestCase):
    """The table of the page, top to bottom; the same words whatever ends a command."""

    def play(self, ending: str, cut: Any) -> None:
        front = FrontDesk()
        people: dict[str, Person] = {}
        framed = ending != ""
        for name, words, expected in STORY:
            person = people.setdefault(name, front.connect())
            for other in people.values():
                other.read()
            if words == "#leaves":
                people.pop(name).connection.end()
                front.turn()
                continue
            for chunk in cut((words + ending).encode()):
                person.send(chunk)
            front.turn()
            person.connection.quiet()
            front.turn()
            for whom, heard in expected.items():
                push = framed and whom != name
                self.assertEqual(people[whom].read().decode(), heard + ("\n" if push else ""), (name, words))
            for whom, other in people.items():
                self.assertEqual(other.paper.words, b"", f"{whom} heard of {words}")
        for person in people.values():
            self.assertIsNone(person.paper.closed)

    def test_commands_that_end_with_a_newline(self) -> None:
        self.play("\n", lambda words: [words])

    def test_commands_that_end_as_on_other_systems(self) -> None:
        self.play("\r\n", lambda words: [words])

    def test_commands_that_end_with_nothing(self) -> None:
        self.play("", lambda words: [words])

    def test_commands_a_byte_at_a_time(self) -> None:
        for ending in ("", "\n", "\r\n"):
            with self.subTest(ending=ending):
                self.play(ending, lambda words: [words[i : i + 1] for i in range(len(words))])

    def test_commands_cut_anywhere(self) -> None:
        dice = random.Random(7)

        def cut(words: bytes) -> list[bytes]:
            places = sorted(dice.sample(range(1, len(words)), min(3, len(words) - 1))) if len(words) > 1 else []
            return [words[a:b] for a, b in zip([0, *places], [*places, len(words)], strict=True)]

        for _ in range(5):
            self.play("\n", cut)

    def test_the_greeting(self) -> None:
        self.assertEqual(
            GREETING,
            b"To get started on this chat room, please create or login your account first"
            b" and type command as instructed in the documentation \n",
        )
        self.assertEqual(PipeTranslator(Book()).greeting, GREETING)

    def test_many_commands_in_one_piece_are_answered_in_order(self) -> None:
        person = FrontDesk().connect()
        self.assertEqual(
            person.say(b"1|mason\n2\n9\n3|mason|me\n\n2|m.*\r\n4|mason123\n5|mason123"),
            b"Success New Account Creation! Your new Account ID: mason123\n"
            b"Showing all accounts: mason\n" + SORRY + b"Sender mason sends a new message me to mason\n"
            b"mason: me\n"
            b"Account matched: mason\n"
            b"No new messages\n",
        )

    def test_several_connections_of_one_account_all_receive(self) -> None:
        front = FrontDesk()
        sender, one, two, plain = (front.connect() for _ in range(4))
        sender.say("1|mason\n")
        one.say("1|wayne\n")
        two.say("0|wayne123\n")
        plain.say("0|wayne123")
        sender.say("3|wayne|hi\n")
        self.assertEqual([p.read() for p in (one, two, plain)], [b"mason: hi\n", b"mason: hi\n", b"mason: hi"])

    def test_at_a_plain_log_in_nothing_is_pushed(self) -> None:
        front = FrontDesk()
        mason, wayne = front.connect(), front.connect()
        mason.say("1|mason\n1|wayne\n0|mason123\n3|wayne|early\n")
        self.assertEqual(wayne.say("0|wayne123\n"), b"user : wayne is now logged in\n")

    def test_the_console_shows_what_its_users_know(self) -> None:
        front = FrontDesk()
        mason, wayne = front.connect(), front.connect()
        mason.say("1|x|pass|word\n0|x123|pass|word\n1|mason\n0|mason123|secret\n")
        wayne.say("1|wayne\n2|w.yne\n3|mason|hello\n3|mason123x|hello\n5|wayne123\n1|zoe\n")
        wayne.connection.end()
        self.assertEqual(
            front.console,
            [
                *("1|x|***", "Opcode:1", "0|x123|***", "Opcode:0", "1|mason", "Opcode:1", "0|mason123|***", "Opcode:0"),
                *("New User created. key: x123", "New User created. key: mason123"),
                *("1|wayne", "Opcode:1", "2|w.yne", "Opcode:2", "3|mason|hello", "Opcode:3", "3|mason123x|hello", "Opcode:3"),
                *("5|wayne123", "Opcode:5", "1|zoe", "Opcode:1", "New User created. key: wayne123", "key: w.yne"),
                *("Account matched: wayne", "Sender wayne sends a new message hello", "Receiver doesnt exist: mason123x"),
                *("Account ID: wayne123 has been deleted", "New User created. key: zoe123", "zoe has logged out of the system"),
            ],
        )

    def test_nobody_watches(self) -> None:
        front = FrontDesk(watched=False)
        self.assertTrue(front.connect().say("1|mason\n3|mason|x\n").startswith(b"Success"))
        self.assertEqual(front.console, [])


class FramingTest(unittest.TestCase):
    def test_a_newline_ends_a_command_for_good(self) -> None:
        book = heard(b"2\n2", quiet=True)
        self.assertEqual(book.asked, [("ask", "A", 0, 0)], "once framed, silence ends nothing")
        self.assertEqual(heard(b"2\n2", quiet=True, end=True).asked, [("ask", "A", 0, 0)] * 2, "but half-closing does")

    def test_silence_ends_an_unframed_command(self) -> None:
        self.assertEqual(heard(b"1|ma", b"son", end=True).asked, [("ask", "C|mason", 0, 0)])
        self.assertEqual(heard(b"2", b"2|x", quiet=True).asked, [("ask", "A", 0, 0), ("ask", "A|x", 0, 0)])
        self.assertEqual(heard(b"2\r", quiet=True).asked, [("ask", "A", 0, 0)])

    def test_feed_says_whether_silence_matters(self) -> None:
        translator = PipeTranslator(Book())
        self.assertTrue(translator.feed(b"2"))
        translator.quiet()
        self.assertFalse(translator.feed(b""))
        self.assertFalse(translator.feed(b"2\n2"))
        numbered = PipeTranslator(Book())
        self.assertTrue(numbered.feed(f"understudy 1 {HEX}\n".encode()), "a session that is not said to be resumed is a new one")
        numbered.quiet()
        self.assertFalse(numbered.feed(b"1 0 2"))

    def test_two_unframed_commands_at_once_are_one(self) -> None:
        self.assertEqual(heard(b"2|a", b"2|b", end=True).asked, [("ask", "A|a2|b", 0, 0)])

    def test_clients_of_old_pause_longer_than_we_wait(self) -> None:
        self.assertTrue(0.01 < QUIET_AFTER < 0.1)

    def test_empty_lines(self) -> None:
        self.assertEqual(heard(b"\n\r\n\n2\n").asked, [("ask", "A", 0, 0)])
        self.assertEqual(heard(b"\r", quiet=True).asked, [("say", INVALID, 0)])
        self.assertEqual(heard(b"", quiet=True, end=True).asked, [])

    def test_a_character_cut_in_the_middle(self) -> None:
        words = "3|wäyne|🦊\n".encode()
        for at in range(1, len(words)):
            self.assertEqual(heard(words[:at], words[at:]).asked, [("ask", "S|wäyne|🦊", 0, 0)])


class BadInputTest(unittest.TestCase):
    """Every bad input gets a clear answer or a closed connection; nobody else notices."""

    def test_lines_that_are_no_command(self) -> None:
        lines = [
            b"9|x",
            b"x",
            b"|",
            b"||",
            b"-1",
            b"33|a|b",
            b"3",
            b"3|",
            b"3||",
            b"3|a",
            b"3|a|",
            b"3||text",
            b"1",
            b"1|",
            b"0",
            b"0|",
            b"4",
            b"4|",
        ]
        lines += [
            b"5",
            b"5|",
            b"1|a|",
            b"1|a b|secret",
            b"0||secret",
            b"0|" + b"a" * 36 + b"|secret",
            b"0|a|" + b"x" * 1025,
            b"passwd|a123|\tnew",
            b"4|a|b",
            b"6|mason",
            b" 2",
            b"2 ",
            b"22",
            b"bye",
            b"who",
            b"resume 3",
            "２".encode(),
            b"1 0 2",
        ]
        for line in lines:
            with self.subTest(line=line):
                self.assertIsNone(encode(line))
                self.assertEqual(heard(line + b"\n").asked, [("say", SORRY, 0)])

    def test_names_that_cannot_be(self) -> None:
        for name in ("a b", "a,b", "a|b", "a\tb", "a\x7f", "x" * (NAME_MAX + 1), " ", "a\u200b", "a\u2028"):
            self.assertIsNone(encode(f"1|{name}".encode()), repr(name))
        self.assertEqual(encode(b"1|" + b"x" * NAME_MAX), "C|" + "x" * NAME_MAX)

    def test_ids_longer_than_any_are_refused_at_the_door(self) -> None:
        for op in "0345":
            words = "|x" if op == "3" else ""
            self.assertIsNotNone(encode(f"{op}|{'n' * (NAME_MAX + 3)}{words}".encode()))
            self.assertIsNone(encode(f"{op}|{'n' * (NAME_MAX + 4)}{words}".encode()))

    def test_texts(self) -> None:
        for char in "aä🦊":
            size = len(char.encode())
            self.assertIsNotNone(encode(f"3|w|{char * (TEXT_MAX // size)}".encode()))
            self.assertIsNone(encode(f"3|w|{char * (TEXT_MAX // size)}x".encode()))

    def test_bytes_that_are_no_text(self) -> None:
        for raw in (b"\xff", b"3|wayne|\xff", b"3|wayne|\xc3", b"3|wayne|\xed\xa0\x80", b"1|\xc0\xaf", b"3|wayne|\xf5\x80\x80\x80"):
            self.assertIsNone(encode(raw), raw)

    def test_control_characters(self) -> None:
        for code in [*range(32), 127]:
            line = b"3|wayne|a" + bytes([code]) + b"b"
            if code != 10:
                self.assertEqual(encode(line), "S|wayne|a\tb" if code == 9 else None, code)

    def test_patterns(self) -> None:
        front = FrontDesk()
        person = front.connect()
        person.say("1|mason\n")
        longest = "(" + "m" * (PATTERN_MAX - 5) + ")?.*"
        self.assertEqual(len(longest), PATTERN_MAX)
        self.assertEqual(person.say(f"2|{longest}\n"), b"Account matched: mason\n")
        self.assertEqual(person.say(f"2|{longest}*\n"), f"Account matched to: {longest}* doesn't exist \n".encode())
        for pattern in ("(?P<x", "[", "*", "(a{1000}){1000}", "\\1", "(?!x)", "a{2,1}", "\\C", "\\pX"):
            with self.subTest(pattern=pattern):
                self.assertEqual(person.say(f"2|{pattern}\n"), f"Account matched to: {pattern} doesn't exist \n".encode())
        self.assertEqual(person.say("2|(m|a|s|o|n)*(m|a|s|o|n)*(m|a|s|o|n)*x\n")[:19], b"Account matched to:", "linear, whatever it is")

    def test_a_line_without_end(self) -> None:
        for begin in (b"", b"2\n", f"understudy 1 {HEX}\n".encode()):
            book = Book()
            translator = PipeTranslator(book)
            translator.feed(begin)
            for _ in range(2000):
                translator.feed(b"x" * 65536)
                if book.closed:
                    break
            self.assertEqual(book.closed, f"a command is longer than {LINE_MAX} bytes")
            self.assertEqual(translator.rest, b"", "nothing of it is kept")

    def test_the_longest_command_fits(self) -> None:
        self.assertGreater(LINE_MAX, TEXT_MAX + 4 * (NAME_MAX + 3) + 2 + 2 * 20)
        book = heard(b"3|wayne|" + b"x" * TEXT_MAX, b"\n")
        self.assertEqual((book.closed, book.asked[0][0]), ("", "ask"))

    def test_half_a_command_then_the_end(self) -> None:
        self.assertEqual(heard(b"1|mas", end=True).asked, [("ask", "C|mas", 0, 0)], "half-closing ends a command")
        asked = heard(f"understudy 1 {HEX}\n1 0 1|mas".encode(), end=True).asked
        self.assertEqual([what for what in asked if what[0] != "open"], [], "but never a numbered one")

    def test_one_bad_guest_is_nobody_elses_trouble(self) -> None:
        front = FrontDesk()
        mason, bad = front.connect(), front.connect()
        mason.say("1|mason\n")
        for words in (b"\0\n", b"\xff\xff\n", b"3|mason\n", b"x" * 200_000):
            bad.say(words)
        self.assertEqual(mason.say("3|mason|still here\n"), b"Sender mason sends a new message still here to mason\nmason: still here\n")


class NumberedTest(unittest.TestCase):
    def setUp(self) -> None:
        self.front = FrontDesk()

    def guest(self, session: str = HEX, resume: int | None = None) -> Person:
        person = self.front.connect()
        person.send(f"understudy 1 {session}\n".encode() + (b"" if resume is None else f"resume {resume}\n".encode()))
        return person

    def test_a_session_begins(self) -> None:
        person = self.guest()
        self.assertEqual(person.read(), b"", "nothing is known of the session yet")
        self.assertEqual(person.say(b""), b"= - 0 0\n")
        self.assertEqual(person.say("1 0 1|mason\n"), b"1 60\nSuccess New Account Creation! Your new Account ID: mason123\n")
        self.assertEqual(person.say("2 1 2\n3 1 who\n"), b"2 28\nShowing all accounts: mason\n3 16\nhere now: mason\n")
        self.assertEqual(person.say("4 1 bye\n5 1 bye\n"), b"4 11\nlogged out\n5 %d\n%s" % (len(SORRY), SORRY))

    def test_requests_may_come_with_the_first_line(self) -> None:
        person = self.front.connect()
        self.assertEqual(
            person.say(f"understudy 1 {HEX}\n1 0 1|mason\n2 0 3|mason|hi\n"),
            b"= - 0 0\n1 60\nSuccess New Account Creation! Your new Account ID: mason123\n"
            b"2 45\nSender mason sends a new message hi to mason\n" + b"* 1 27\nmason|%d|1|hi" % (self.front.log.time + 2),
        )

    def test_a_push_carries_all_of_the_message(self) -> None:
        person = self.guest()
        person.say("1 0 1|mason\n")
        other = self.front.connect()
        other.say("1|wäyne\n3|mason|grüße | 🦊\n")
        words = "wäyne|{}|1|grüße | 🦊".format(next(iter(self.front.state.accounts["mason"].mailbox))[2]).encode()
        self.assertEqual(person.read(), b"* 1 %d\n%s" % (len(words), words))

    def test_what_waited_is_pushed_after_the_log_in(self) -> None:
        plain = self.front.connect()
        plain.say("1|mason\n3|mason|one\n5|zed123\n1|wayne\n3|mason|two\n")
        person = self.guest()
        heard = person.say("1 0 0|mason123\n")
        self.assertIn(b"1 30\nuser : mason is now logged in\n* 1 ", heard)
        self.assertIn(b"|one* 2 ", heard)

    def test_a_resumed_session_sees_what_it_has_not_seen(self) -> None:
        person = self.guest()
        person.say("1 0 1|mason\n2 0 3|mason|one\n3 0 3|mason|two\n")
        again = self.guest(resume=1)
        self.assertIsNotNone(person.paper.closed)
        self.assertTrue(person.read().endswith(b"! newer\n"))
        heard = again.say(b"")
        self.assertEqual(heard.split(b"\n")[0], b"= mason 3 2")
        self.assertEqual(heard.count(b"* "), 1)
        self.assertIn(b"* 2 ", heard)

    def test_requests_said_again_are_answered_again_and_done_once(self) -> None:
        person = self.guest()
        first = person.say("1 0 1|mason\n2 0 3|mason|one\n")
        again = self.guest(resume=1)
        replies = again.say("1 0 1|mason\n2 0 3|mason|one\n3 0 4|mason123\n")
        self.assertTrue(first.startswith(b"= - 0 0\n"))
        self.assertIn(
            b"1 60\nSuccess New Account Creation! Your new Account ID: mason123\n2 46\nSender mason sends a new message one to mason\n",
            replies,
        )
        self.assertEqual(self.front.state.message_count, 1)

    def test_what_a_resumed_guest_tells(self) -> None:
        hello = f"understudy 1 {HEX}\n".encode()
        for line, seen, owed in (
            (b"resume 7 9", 7, 9),
            (b"resume 7", 7, 0),
            (b"resume", 0, 0),
            (b"resume 7 9 5", 7, 9),
            (b"resume x", 0, 0),
        ):
            expected = ("open", HEX, "resumed", seen, owed) if owed else ("open", HEX, "resumed", seen)
            self.assertEqual(heard(hello + line + b"\n").asked, [expected], line)

    def test_an_unknown_session_is_told(self) -> None:
        person = self.guest(resume=7)
        self.assertEqual(person.say(b""), b"! session\n")
        self.assertIsNotNone(person.paper.closed)

    def test_ack_trims(self) -> None:
        person = self.guest()
        person.say("1 0 1|mason\n2 0 3|mason|1\n3 0 3|mason|2\n4 0 3|mason|3\n")
        person.say("ack 2\n")
        self.assertEqual([m[4] for m in self.front.state.accounts["mason"].mailbox], ["3"])
        person.say("ack 99\nack\nack x\nack -1\n")
        self.assertEqual(list(self.front.state.accounts["mason"].mailbox), [], "no more than was pushed")

    def test_heartbeat(self) -> None:
        person, plain = self.guest(), self.front.connect()
        plain.say("2\n")
        plain.read()
        self.front.desk.beat()
        self.assertEqual(person.read(), b"", "not before the session is there")
        person.say(b"")
        self.front.desk.beat()
        self.assertEqual((person.read(), plain.read()), (b".\n", b""))

    def test_cluster(self) -> None:
        person = self.guest()
        self.assertEqual(person.say("cluster\n"), b'@ 23\n{"cluster":"dormitory"}= - 0 0\n')

    def test_numbers_that_do_not_follow(self) -> None:
        for words, expected in ((b"1 0 2\n3 0 2\n", b"! gap 2\n"), (b"1 0 2\n1 0 2\n", b"! gap 2\n"), (b"1 0 2\n5 0 x\n", b"! gap 2\n")):
            with self.subTest(words=words):
                person = self.guest()
                self.assertIn(expected, person.say(words))
                self.assertIn("does not follow 1", person.paper.closed or "")

    def test_a_gap_in_the_session(self) -> None:
        person = self.guest()
        self.assertEqual(person.say("5 0 1|mason\n"), b"= - 0 0\n! gap 1\n")
        self.assertIn("out of step", person.paper.closed or "")

    def test_an_invalid_request_is_answered_with_its_number(self) -> None:
        person = self.guest()
        person.say(b"")
        heard = person.say("1 0 9|x\n2 0 1|mason\n3 0 \n4 0 who\n")
        self.assertEqual(
            heard,
            b"1 60\n%s2 60\nSuccess New Account Creation! Your new Account ID: mason123\n3 60\n%s4 16\nhere now: mason\n" % (SORRY, SORRY),
        )

    def test_lines_the_mode_does_not_know(self) -> None:
        for line in (
            b"hello\n",
            b"2\n",
            b"1 x 2\n",
            b"1\n",
            b"resume 4\n1 0 2\nresume 4\n",
            b"1" * 19 + b" 0 2\n",
            b"1 " + b"0" * 19 + b" 2\n",
            b"\xff\n",
        ):
            with self.subTest(line=line):
                person = self.guest()
                person.say(line)
                self.assertIsNotNone(person.paper.closed)

    def test_blank_lines_are_nothing(self) -> None:
        person = self.guest()
        self.assertEqual(person.say("\n  \n\r\n"), b"= - 0 0\n")
        self.assertIsNone(person.paper.closed)

    def test_first_lines_that_are_not_quite_it_are_plain(self) -> None:
        for line in (
            f"understudy 2 {HEX}",
            f"understudy 1 {HEX[:-1]}",
            f"understudy 1 {HEX}0",
            f"understudy 1 {HEX.upper()}",
            f" understudy 1 {HEX}",
        ):
            self.assertEqual(heard(line.encode() + b"\n").asked, [("say", SORRY, 0)], line)
        self.assertEqual(heard(b"2\n" + f"understudy 1 {HEX}\n".encode()).asked[1:], [("say", SORRY, 0)], "not as the second line")

    def test_no_plain_command_is_a_line_of_the_mode(self) -> None:
        for line in (f"understudy 1 {HEX}", "1 0 2", "resume 3", "ack 3", "cluster", "who"):
            self.assertIsNone(encode(line.encode()))
        door: Any = PipeTranslator(Book())
        self.assertEqual([door.understand_numbered(line) for line in (b"who", b"bye", b"ack")], ["W", "O", None])


class WordsTest(unittest.TestCase):
    def test_every_command_has_words_for_every_refusal(self) -> None:
        refusals = [value for name, value in vars(Refusal).items() if not name.startswith("_")]
        commands = {"C": "C|mason", "L": "L|mason123", "O": "O", "S": "S|wayne|hi", "R": "R|mason123", "D": "D|mason123"}
        for letter, command in commands.items():
            for refusal in [*refusals, f"{Refusal.GAP}|7"]:
                words = WORDS[letter](Book(), command, refusal)
                self.assertTrue(words and "!" not in words[:1], (command, refusal, words))

    def test_words_of_refusals(self) -> None:
        book: Any = Book()
        book.watch = lambda line: None
        for command, refusal, words in (
            ("L|mason123", Refusal.WRONG_PASSWORD, "wrong password for mason123\n"),
            ("R|mason123", Refusal.WRONG_PASSWORD, "wrong password for mason123\n"),
            ("D|mason123", Refusal.WRONG_PASSWORD, "wrong password for mason123\n"),
            ("S|wayne|x", Refusal.MAILBOX_FULL, "wayne's mailbox is full"),
            ("S|wayne|x", Refusal.READ_ONLY, INVALID.decode()),
        ):
            self.assertEqual(WORDS[command[0]](book, command, refusal), words)

    def test_this_is_the_only_file_that_knows_the_digits(self) -> None:
        for name in ("desk", "state", "commands", "replication"):
            text = pathlib.Path(importlib.import_module(name).__file__ or "").read_text(encoding="utf-8")
            for word in ('"3|', "understudy 1", "logged in\\n"):
                self.assertNotIn(word, text, name)


@unittest.skipIf(given is None, "hypothesis is not installed")
class FuzzTest(unittest.TestCase):
    """Arbitrary bytes in arbitrary chunks: nothing raises, and where they are cut makes no difference."""

    def test_chunks_make_no_difference(self) -> None:
        line = st.sampled_from(
            [
                b"1|mason",
                b"3|w|x",
                "3|wäyne|🦊".encode(),
                b"2",
                b"2|a|b",
                b"",
                b"\r",
                b"9",
                b"1 0 2",
                b"2 1 who",
                b"ack 3",
                b"cluster",
                b"resume 1",
                b"\xff",
            ]
        )
        begin = st.sampled_from([b"", f"understudy 1 {HEX}\n".encode(), f"understudy 1 {HEX}\nresume 3\n".encode()])
        noise = st.lists(st.one_of(line, st.binary(max_size=12)), max_size=8).map(b"\n".join)

        @settings(max_examples=400, deadline=None, database=None)
        @given(begin, noise, st.booleans(), st.lists(st.integers(0, 120), max_size=8))
        def look(start: bytes, words: bytes, ends: bool, cuts: list[int]) -> None:
            whole = start + words + (b"\n" if ends else b"")
            places = sorted({min(cut, len(whole)) for cut in cuts})
            pieces = [whole[a:b] for a, b in zip([0, *places], [*places, len(whole)], strict=True)]
            one, many = heard(whole, end=True), heard(*pieces, end=True)
            if not one.closed and not many.closed:
                self.assertEqual(many.asked, one.asked)
            self.assertEqual(bool(one.closed), bool(many.closed))

        look()

    def test_who_has_asked_without_a_newline_does_not_begin_a_second_session(self) -> None:
        front = FrontDesk()
        person = front.connect()
        person.send(b"2")
        person.connection.quiet()
        front.turn()
        self.assertEqual(person.read(), b"Showing all accounts: \n")
        self.assertEqual(person.say(f"understudy 1 {HEX}\nresume 0\n".encode()), INVALID + INVALID)
        person.connection.lost()
        front.turn()
        self.assertEqual((front.desk.by_session, front.desk.connections), ({}, {}), "it would be kept for ever")

    def test_nothing_raises_behind_a_desk(self) -> None:
        word = st.sampled_from(
            [
                *(b"1|a\n", b"0|a123\n", b"2\n", b"2|.*\n", b"3|a|hi\n", b"3|b|hi\n", b"4|a123\n", b"5|a123\n", b"1|b\n", b"0|b123\n"),
                *(b"1 0 1|a\n", b"1 0 2\n", b"2 0 1|a\n", b"2 0 3|a|x\n", b"3 2 who\n", b"3 1 4|a123\n", b"4 3 bye\n", b"ack 1\n"),
                *(b"ack 9\n", b"resume 1\n", b"cluster\n", b"\n", b"2", b"\xff"),
                *(f"understudy 1 {HEX}\n{line}".encode() for line in ("", "resume 0\n")),
                f"understudy 1 {HEX[::-1]}\n".encode(),
            ]
        )
        step = st.tuples(
            st.integers(0, 3),
            st.one_of(word, word, word, st.binary(max_size=20)),
            st.sampled_from(["", "", "turn", "quiet", "end", "lost", "view", "full"]),
        )

        @settings(max_examples=300, deadline=None, database=None)
        @given(st.lists(step, max_size=30))
        def look(steps: list[tuple[int, bytes, str]]) -> None:
            front = FrontDesk()
            people: list[Person | None] = [None] * 4
            for who, words, then in steps:
                person = people[who]
                if person is None or person.paper.closed is not None:
                    if person is not None:
                        person.connection.lost()
                    person = people[who] = front.connect()
                person.paper.drained = then != "full"
                person.send(words)
                if then == "turn":
                    front.turn(limit=60)
                elif then == "quiet":
                    person.connection.quiet()
                elif then == "end":
                    person.connection.end()
                    front.turn()
                    person.connection.lost()
                    people[who] = None
                elif then == "lost":
                    person.connection.lost()
                    people[who] = None
                elif then == "view":
                    front.new_view("0.7")
                front.desk.tidy()
                front.desk.beat()
            for person in people:
                if person is not None:
                    person.connection.lost()
            front.turn()
            self.assertEqual(front.desk.connections, {}, "everybody went, nothing is left")
            self.assertEqual(
                (front.desk.unanswered_bytes, front.desk.open_bytes, front.desk.closing, front.desk.by_session), (0, 0, {}, {})
            )
            self.assertEqual(front.state.present(), [])

        look()


if __name__ == "__main__":
    unittest.main()
