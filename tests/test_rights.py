"""Who may: proofs, blocked accounts, operators; and who is logged out by it."""

from __future__ import annotations

import unittest
from typing import Any

from commands import Refusal
from tests.test_state import A, B, C, Chat, check

WRONG = Refusal.WRONG_PASSWORD


class FirstTest(unittest.TestCase):
    """Accounts that a cluster begins with."""

    def test_hidden_until_they_are_used_and_made_once(self) -> None:
        chat = Chat()
        chat.system("members|0.7")
        chat.system("begin|tester|hash|abc|hash2|zoe|hash3")
        chat.open(A)
        self.assertEqual((chat.state.names(), list(chat.state.accounts)), ([], ["tester", "abc", "zoe"]))
        self.assertEqual(chat.do(A, "C|abc", "L|abc123|hash2", "S|tester|x")[0::2], [Refusal.NAME_TAKEN, "m"])
        self.assertEqual(chat.state.names(), ["tester", "abc"])
        check(chat.state)
        chat.do(A, "Z|block|zoe")
        check(chat.state)
        chat.do(A, "Z|remove|zoe", "Z|remove|tester")
        chat.system("begin|tester|hash")
        self.assertEqual(list(chat.state.accounts), ["abc"])
        check(chat.state)


class EraseTest(unittest.TestCase):
    """Its own account, with its mail."""

    def test_erased(self) -> None:
        chat = Chat().people()
        chat.open(C, "2.7.1")
        chat.do(C, "C|rich|hash", "S|rich|unread")
        for key, line, reply in (
            (A, "E|wayne123|", Refusal.WRONG_PASSWORD),
            (A, "E|rich123|hash", Refusal.WRONG_PASSWORD),
            (C, "E|rich123|-", Refusal.WRONG_PASSWORD),
            (A, "E|nobody123|", Refusal.NO_SUCH_ACCOUNT),
            (C, "E|rich123|hash", "d"),
            (C, "E|rich123|hash", Refusal.NOT_LOGGED_IN),
            (A, "E|mason123|", "d"),
        ):
            with self.subTest(line):
                self.assertEqual(chat.do(key, line), reply)
        check(chat.state)

    def test_a_second_connection_is_who_the_first_one_is(self) -> None:
        chat = Chat().people()
        chat.open(C, "0.7.5")
        self.assertEqual(chat.do(C, f"J|{A.hex()}"), f"l|mason|0|{chat.state.accounts['mason'].number}")
        self.assertEqual(chat.do(C, f"J|{B.hex()}"), Refusal.NOT_LOGGED_IN, "at another replica")
        self.assertEqual(chat.do(C, f"J|{(b'n' * 16).hex()}"), Refusal.NOT_LOGGED_IN)
        chat.do(A, "O")
        self.assertEqual(chat.do(C, f"J|{A.hex()}"), Refusal.NOT_LOGGED_IN)
        check(chat.state)


class RightsTest(unittest.TestCase):
    """rich has the hash `hash`, and is logged in at C; mason and wayne are open."""

    def setUp(self) -> None:
        self.chat = Chat().people()
        self.chat.open(C, "2.7.1")
        self.chat.do(C, "C|rich|hash")
        self.rich = self.chat.state.accounts["rich"]

    def tearDown(self) -> None:
        check(self.chat.state)

    def one(self, key: bytes, line: str) -> tuple[Any, Any]:
        """The reply to a fresh request, and what the batch did."""
        from commands import run

        out = self.chat.apply(run(key, self.chat.state.sessions[key].last + 1, 0, 0, line.encode(), 1))
        return out.replies[0][2][0], out

    def test_to_log_in(self) -> None:
        opened = f"l|rich|0|{self.rich.number}"
        for line, reply in (
            ("L|rich123", WRONG),
            ("L|rich123|", WRONG),
            ("L|rich123|-", WRONG),
            ("L|rich123|own", WRONG),
            ("L|rich123|another", WRONG),
            ("L|rich123|hash", opened),
            ("N|rich|hash", opened),
            ("N|rich|-", WRONG),
            ("L|nobody123|-", Refusal.NO_SUCH_ACCOUNT),
            ("L|rich123|!TOO_MANY:7", "!TOO_MANY|7"),
            ("L|wayne123|-", WRONG),
            ("L|wayne123|", f"l|wayne|0|{self.chat.state.accounts['wayne'].number}"),
        ):
            with self.subTest(line):
                self.assertEqual(self.chat.do(A, line), reply)

    def test_a_log_in_that_brings_a_newer_hash_and_one_that_was_proved(self) -> None:
        reply, out = self.one(A, "L|rich123|hash|newer")
        self.assertEqual((reply[0], self.rich.secret, out.proved, out.expelled), ("l", "newer", ["rich"], []))
        _, out = self.one(A, "L|wayne123|")
        self.assertEqual(out.proved, [])
        self.assertEqual(self.chat.do(A, "L|rich123|hash"), WRONG)

    def test_to_do_as_its_owner(self) -> None:
        self.chat.do(C, "P|rich123|9", "S|rich|hello")
        for key, line, reply in (
            (A, "R|rich123", WRONG),
            (A, "R|rich123|own", WRONG),
            (A, "R|mason123|own", "r|mason|"),
            (A, "R|wayne123", "r|wayne|"),
            (A, "R|wayne123|own", WRONG),
            (A, "P|wayne123|5|own", WRONG),
            (B, "P|wayne123|5|own", "b|5"),
            (A, "D|rich123", WRONG),
            (A, "D|rich123|-", WRONG),
            (C, "D|rich123|-", WRONG),
            (A, "D|wayne123|", "d"),
            (A, "D|rich123|!TOO_MANY:3", "!TOO_MANY|3"),
            (C, "D|rich123", Refusal.MAILBOX_NOT_EMPTY),
            (C, "R|rich123", "r|rich|1|rich|hello"),
            (A, "D|nobody123|hash", Refusal.NO_SUCH_ACCOUNT),
            (A, "D|rich123|hash", "d"),
        ):
            with self.subTest(line):
                self.assertEqual(self.chat.do(key, line), reply)

    def test_no_account_without_a_password_where_each_must_have_one(self) -> None:
        self.assertEqual(self.chat.do(A, "C|new|-"), Refusal.NEEDS_PASSWORD)
        self.assertEqual(self.chat.do(A, "C|a b|-"), Refusal.INVALID)

    def test_to_change_the_password(self) -> None:
        self.chat.do(A, "L|rich123|hash")
        for line, reply in (
            ("H|mason123||new", Refusal.NOT_LOGGED_IN),
            ("H|rich123|-|", WRONG),
            ("H|rich123|-", WRONG),
            ("H|rich123|!TOO_MANY:4", "!TOO_MANY|4"),
            ("H|rich123|hash", Refusal.INTERNAL),
        ):
            self.assertEqual(self.chat.do(A, line), reply)
        self.assertEqual(self.rich.secret, "hash")
        reply, out = self.one(A, "H|rich123|hash|new")
        self.assertEqual((reply, self.rich.secret, out.expelled, out.proved), ("h", "new", [C], ["rich"]))
        self.assertEqual(self.chat.do(C, "S|mason|x"), Refusal.NOT_LOGGED_IN)
        self.assertEqual(self.chat.do(A, "S|mason|x"), "m")
        self.chat.do(A, "O")
        self.assertEqual(self.chat.do(A, "H|rich123|new|newer"), Refusal.NOT_LOGGED_IN)

    def test_an_open_account_can_get_one(self) -> None:
        self.assertEqual(self.chat.do(A, "H|mason123||new", "O", "L|mason123", "L|mason123|new")[2:3], [WRONG])
        self.assertEqual(self.chat.state.accounts["mason"].secret, "new")

    def test_blocked_and_unblocked(self) -> None:
        reply, out = self.one(A, "Z|block|rich")
        self.assertEqual((reply, out.expelled), ("z|rich", [C]))
        for line, words in (
            ("L|rich123|hash", Refusal.BLOCKED),
            ("L|rich123|-", WRONG),
            ("R|rich123", Refusal.BLOCKED),
            ("D|rich123|hash", Refusal.BLOCKED),
            ("S|rich|it waits", "m"),
            ("Z|unblock|rich123", "z|rich"),
            ("L|rich123|hash", f"l|rich|1|{self.rich.number}"),
        ):
            with self.subTest(line):
                self.assertEqual(self.chat.do(C if line[0] in "LRD" else A, *["O"] * 0, line), words)

    def test_removed_with_all_it_has(self) -> None:
        self.chat.do(A, "S|rich|x")
        reply, out = self.one(A, "Z|remove|rich")
        self.assertEqual((reply, out.expelled), ("z|rich", [C]))
        self.assertNotIn("rich", self.chat.state.accounts)
        self.assertEqual(self.chat.do(A, "Z|remove|rich", "C|rich")[:1], [Refusal.NO_SUCH_ACCOUNT])

    def test_reset(self) -> None:
        reply, out = self.one(A, "Z|reset|wayne|given")
        self.assertEqual((reply, out.expelled, self.chat.state.accounts["wayne"].secret), ("z|wayne", [B], "given"))
        for line in ("Z|reset|wayne", "Z|melt|wayne", "Z|block"):
            self.assertEqual(self.chat.do(A, line), Refusal.INTERNAL, "which no door sends")


if __name__ == "__main__":
    unittest.main()
