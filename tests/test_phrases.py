"""The words between a person and the client; and nobody's text may steer a terminal."""

from __future__ import annotations

import time
import unicodedata
import unittest
from unittest import mock

from doors.pipe_words import INVALID, UNREADABLE
from phrases import HELP, Word, banner, hint, moved_words, outcome, scripted, stamp, understand, visible
from ports import Moved

ATTACKS = (
    "\x1b]0;title\x07",
    "\x1b]8;;http://example\x1b\\",
    "\x1b]52;c;aGk=\x07",
    "\x1b[2J\x1b[H",
    "\x1bP+q\x1b\\",
    "\x1b[21t",
    "\x9b31m",
    "\x9d0;title\x9c",
    "a\rb",
    "a\x08b",
    "\x7f",
    "\x00",
    "\u202eevil\u202c",
    "\u2066x\u2069",
    "\u200e\u200f\u061c",
    "\u2028\u2029",
    "\ufeff\u200b\u00ad",
    "\U000e0041",
    "\udcff",
)


class Visible(unittest.TestCase):
    def test_nothing_that_steers_a_terminal_gets_through(self) -> None:
        for attack in ATTACKS:
            shown = visible(f"<{attack}>")
            self.assertTrue(shown.startswith("<") and shown.endswith(">"))
            for c in shown:
                self.assertNotIn(unicodedata.category(c), ("Cc", "Cf", "Cs", "Zl", "Zp"), repr(attack))
            self.assertIn("\\", shown)

    def test_what_is_hidden_is_shown(self) -> None:
        self.assertEqual(visible("\x1b[2J \u202e \U000e0041"), "\\x1b[2J \\u202e \\U000e0041")

    def test_all_else_stays_as_it_is(self) -> None:
        for text in ("hello | there", "größe", "日本語", "👩‍🚀 👍🏽", "نمی‌خواهم", "שָׁלוֹם", "e\u0301"):
            self.assertEqual(visible(text), text)
        self.assertEqual(visible("a\tb"), "a    b")

    def test_a_tower_of_marks_is_cut(self) -> None:
        shown = visible("a" + "\u0301" * 500)
        self.assertLessEqual(sum(map(unicodedata.combining, shown)), 230 * 10)
        self.assertIn("\\u0301", shown)


class Understand(unittest.TestCase):
    def test_words_become_the_protocol(self) -> None:
        for typed, asked in {
            "create mason": "1|mason",
            "create mason secret": "1|mason|secret",
            "login mason": "0|mason123",
            "login mason123": "0|mason123",
            "LOGIN mason123 secret": "0|mason123|secret",
            "@wayne hello | there ": "3|wayne|hello | there ",
            "  @wayne  two spaces": "3|wayne| two spaces",
            "send wayne hello you": "3|wayne|hello you",
            "inbox": "4|mason123",
            "inbox wayne": "4|wayne123",
            "list": "2",
            "list w.*": "2|w.*",
            "who": "who",
            "logout": "bye",
            "delete mason123": "5|mason123",
            "passwd old new": "passwd|mason123|old\tnew",
            "passwd new": "passwd|mason123|\tnew",
            "history wayne": "history|wayne|20|0",
            "history wayne 5": "history|wayne|5|0",
            "history wayne 5 before 77": "history|wayne|5|77",
            "history wayne before 77": "history|wayne|20|77",
        }.items():
            self.assertEqual(understand(typed, "mason"), Word(asked), typed)

    def test_the_protocol_goes_through_as_it_is(self) -> None:
        for typed in ("1|mason", "0|mason123", "2", "2|", "3|wayne| a |b ", "4|x", "5|x", "9|x", "7", "x|y"):
            self.assertEqual(understand(typed, ""), Word(typed))

    def test_what_is_not_understood_says_what_to_do(self) -> None:
        for typed in (
            "create",
            "login",
            "send wayne",
            "send",
            "@wayne",
            "@wayne  ",
            "@ wayne",
            "delete",
            "passwd",
            "history",
            "history wayne five",
            "history wayne 5 6",
            "history wayne before",
            "history wayne before 5 6",
            "hello there",
            "who am I",
            "bye now",
        ):
            word = understand(typed, "mason")
            self.assertTrue(word.say and not word.ask and not word.ends, typed)
        self.assertIn("login", understand("inbox", "").say)
        self.assertIn("log in first", understand("history wayne", "").say)
        self.assertIn("delete mason123", understand("delete", "mason").say)

    def test_nothing_is_nothing(self) -> None:
        self.assertEqual(understand("", ""), Word())
        self.assertEqual(understand(" \r\n", ""), Word())

    def test_the_end(self) -> None:
        for typed in ("bye", "quit", " QUIT ", "exit"):
            self.assertTrue(understand(typed, "").ends)

    def test_help_fits_a_small_terminal(self) -> None:
        self.assertEqual(understand("help", "").say, HELP)
        self.assertLess(max(map(len, HELP.split("\n"))), 80)


class Shown(unittest.TestCase):
    def test_who_types_words_gets_words(self) -> None:
        self.assertEqual(outcome("@wayne hi", "3|wayne|hi", "Sender mason sends a new message hi to wayne\n"), "wayne has it")
        self.assertIn("away", outcome("@wayne hi", "3|wayne|hi", "message from mason has been delivered to wayne's mailbox\n"))
        self.assertEqual(outcome("@wayne hi", "3|wayne|hi", "Receiver: wayne doesn't exist \n"), "Receiver: wayne doesn't exist")
        self.assertEqual(outcome("list", "2", "Showing all accounts: a,b\n"), "accounts: a,b")

    def test_who_types_the_protocol_gets_the_protocol(self) -> None:
        reply = "Sender mason sends a new message hi to wayne\n"
        self.assertEqual(outcome("3|wayne|hi", "3|wayne|hi", reply), reply.rstrip())

    def test_texts_within_replies_are_made_visible(self) -> None:
        self.assertEqual(
            outcome("inbox", "4|a123", "wayne sends: \x1b[2J\n\nwayne sends: b\n\n"), "wayne sends: \\x1b[2J\n\nwayne sends: b"
        )

    def test_a_conversation_is_shown_with_time_and_direction(self) -> None:
        with mock.patch("phrases.time.localtime", side_effect=lambda at=0: time.gmtime(at)):
            head = "conversation with wayne: 3 messages, older before 4, an earlier wayne up to 4\n"
            rows = "4|60000000|wayne|old\n5|120000000|mason|\x1b[2J|x\n6|180000000|wayne|\u202ehi\n"
            self.assertEqual(
                outcome("history wayne 3", "history|wayne|3|0", head + rows).split("\n"),
                [
                    "00:01 wayne (an earlier one) to you: old",
                    "00:02 you to wayne: \\x1b[2J|x",
                    "00:03 wayne to you: \\u202ehi",
                    "older ones: history wayne 3 before 4",
                ],
            )
            self.assertIn("00:02 you to wayne", scripted("history wayne 3", "history|wayne|3|0", head + rows))
        self.assertEqual(scripted("who", "who", "here now: a\n"), "here now: a\n")
        nothing = "you and wayne have written nothing to each other"
        self.assertEqual(outcome("history wayne", "history|wayne|20|0", "conversation with wayne: 0 messages\n"), nothing)
        more = outcome("history wayne", "history|wayne|20|0", "conversation with wayne: 0 messages, older before 9\n")
        self.assertEqual(more, f"{nothing}, as far as was looked\nolder ones: history wayne 20 before 9")
        self.assertEqual(outcome("history wayne", "history|wayne|20|0", UNREADABLE), UNREADABLE.rstrip())
        self.assertEqual(outcome("history|wayne|20|0", "history|wayne|20|0", head + rows)[:70], head[:70], "the protocol's own words")

    def test_refusals_come_with_a_hint(self) -> None:
        self.assertIn("log in", hint("3|wayne|hi", INVALID.decode(), ""))
        self.assertIn("32 letters", hint("1|a,b", INVALID.decode(), ""))
        self.assertIn("32 letters", hint("1|\udcff", INVALID.decode(), ""))  # typed in no UTF-8
        self.assertIn("32 letters", hint("3|wayne|\x01", INVALID.decode(), "mason"))
        self.assertIn("32 letters", hint(f"3|{'w' * 200}|hi", INVALID.decode(), "mason"))
        for asked in ("3|wayne|hi", "1|wayne"):  # what is understood is refused by a replica whose disk takes nothing
            self.assertIn("the disk of the last replica is full", hint(asked, INVALID.decode(), "mason"))
        self.assertIn("list", hint("3|x|y", "Receiver: x doesn't exist \n", "mason"))
        self.assertEqual(hint("who", "here now: \n", ""), "")

    def test_the_quiet_line(self) -> None:
        here, there = ("127.0.0.1", 6666), ("127.0.0.1", 6667)
        self.assertEqual(moved_words(Moved(here, there, 11.2, False)), "-- 6666 is gone, now on 6667 (11 ms)")
        self.assertEqual(moved_words(Moved(here, there, 411, True)), "-- 6666 is silent, now on 6667 (411 ms)")
        self.assertEqual(moved_words(Moved(here, here, 300, False)), "-- 6666 was gone, and is back (300 ms)")

    def test_the_banner_says_what_the_cluster_survives(self) -> None:
        about = {"cluster": "dormitory", "policy": "survivor", "survives": 2, "replicas": [{}, {}, {}]}
        self.assertIn("3 replicas, survives 2 deaths", banner(about, "6666", "")[0])
        self.assertIn("mason again", banner(about, "6666", "mason")[1])
        self.assertIn("1 replica, survives 0 deaths", banner({"replicas": [{}]}, "6666", "")[0])

    def test_times_are_short_today_and_whole_on_other_days(self) -> None:
        noon = time.mktime((2026, 11, 21, 12, 5, 0, 0, 0, -1))
        with mock.patch("phrases.time.localtime", side_effect=lambda at=noon: time.gmtime(at - time.timezone)):
            self.assertEqual(stamp(int(noon * 1e6)), "12:05")
            self.assertEqual(stamp(int((noon - 86400) * 1e6)), "Nov 20 12:05")


if __name__ == "__main__":
    unittest.main()
