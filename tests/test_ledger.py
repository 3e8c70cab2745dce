"""The ledger's half of memory: never below 0, never above what can be said, exact whatever is asked and however often."""

from __future__ import annotations

import random
import unittest

from commands import AMOUNT_MAX, Refusal
from ledger import balance_of
from tests.test_state import A, B, C, Chat, check


class LedgerTest(unittest.TestCase):
    def setUp(self) -> None:
        self.chat = Chat().people()

    def tearDown(self) -> None:
        check(self.chat.state)

    def test_paid_in_and_taken_out(self) -> None:
        self.assertEqual(
            self.chat.do(A, "P|mason123|100", "X|mason123|30", "P|wayne123|7", "X|mason123|70"), ["b|100", "b|70", "b|7", "b|0"]
        )
        self.assertEqual(balance_of(self.chat.state, A, "wayne123"), "b|7")

    def test_never_below_nothing(self) -> None:
        self.assertEqual(self.chat.do(A, "P|mason123|5", "X|mason123|6", "X|mason123|5"), ["b|5", "!INSUFFICIENT|5", "b|0"])

    def test_never_above_what_can_be_said(self) -> None:
        most = AMOUNT_MAX
        self.assertEqual(most, 2**63 - 1)
        replies = self.chat.do(A, f"P|mason123|{most}", "P|mason123|1", f"X|mason123|{most}")
        self.assertEqual(replies, [f"b|{most}", Refusal.BALANCE_FULL, "b|0"])

    def test_what_is_no_amount(self) -> None:
        for words in ("0", "-1", "+1", " 1", "1.5", "1e3", "١", "²", "", str(2**63), "9" * 5000, "x"):
            for letter in "PX":
                self.assertEqual(self.chat.do(A, f"{letter}|mason123|{words}"), Refusal.INVALID, words)

    def test_whose_account_it_is(self) -> None:
        chat = self.chat
        chat.open(C, "2.7.1")
        chat.do(C, "C|rich|hash", "P|rich123|9")
        self.assertEqual(chat.do(A, "P|rich123|1", "X|rich123|1"), [Refusal.WRONG_PASSWORD] * 2)
        self.assertEqual(balance_of(chat.state, A, "rich123"), Refusal.WRONG_PASSWORD)
        self.assertEqual(balance_of(chat.state, b"n" * 16, "rich123"), Refusal.WRONG_PASSWORD, "a session that is not there")
        self.assertEqual(balance_of(chat.state, C, "rich123"), "b|9")
        self.assertEqual(chat.do(A, "P|mason|1", "P|nobody123|1"), [Refusal.NO_SUCH_ACCOUNT] * 2, "by its id only")
        self.assertEqual(balance_of(chat.state, A, "nobody123"), Refusal.NO_SUCH_ACCOUNT)

    def test_a_new_account_of_an_old_name_has_nothing(self) -> None:
        self.chat.do(A, "P|mason123|5", "D|mason123", "C|mason")
        self.assertEqual(balance_of(self.chat.state, A, "mason123"), "b|0")

    def test_a_payment_that_is_asked_again_counts_once(self) -> None:
        first = self.chat.state.sessions[A].last + 1
        for _ in range(3):
            self.assertEqual(self.chat.run(A, first, "P|mason123|5"), ["b|5"])
        self.assertEqual(self.chat.state.accounts["mason"].balance, 5)

    def test_the_sum_is_what_was_said(self) -> None:
        """Random payments: what `apply` said, added up, is what is there."""
        dice, chat = random.Random(7), self.chat
        said = {"mason": 0, "wayne": 0}
        for _ in range(400):
            name, letter = dice.choice(sorted(said)), dice.choice("PX")
            amount = dice.choice([1, dice.randrange(1, 1000), dice.randrange(1, 2**63)])
            reply = chat.do(dice.choice([A, B]), f"{letter}|{name}123|{amount}")
            if reply.startswith("b|"):
                said[name] += amount if letter == "P" else -amount
                self.assertEqual(reply, f"b|{said[name]}")
            self.assertEqual(chat.state.accounts[name].balance, said[name])
            self.assertTrue(0 <= said[name] < 2**63)


class DeafTest(unittest.TestCase):
    """Who is logged in where no messages are shown is not here."""

    def test_nobody_is_here_because_of_the_ledger(self) -> None:
        chat = Chat().people()
        chat.open(C, "2.7.1", "numbered-deaf")
        self.assertEqual(chat.do(C, "N|wayne"), f"l|wayne|0|{chat.state.accounts['wayne'].number}")
        self.assertEqual(chat.state.accounts["wayne"].online, 1)
        chat.system(f"close|{B.hex()}|1.7.1")
        self.assertEqual((chat.do(A, "S|wayne|hello"), chat.state.present()), ("m", ["mason"]))
        chat.system(f"close|{C.hex()}|2.7.1")
        chat.open(C, "1.7.5", "resumed")
        chat.do(C, "O", "N|wayne123")
        self.assertEqual(chat.state.present(), ["mason"])
        check(chat.state)

    def test_a_plain_one_that_leaves_is_forgotten(self) -> None:
        chat = Chat().people()
        chat.open(C, "2.7.1", "plain-deaf")
        chat.do(C, "N|wayne123")
        chat.system(f"close|{C.hex()}|2.7.1")
        self.assertNotIn(C, chat.state.sessions)
        self.assertEqual(chat.state.accounts["wayne"].online, 1)
        check(chat.state)


if __name__ == "__main__":
    unittest.main()
