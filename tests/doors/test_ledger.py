"""The ledger door: every line of its page byte for byte, framed, unframed and numbered; what is wrong is said."""

from __future__ import annotations

import unittest

from commands import AMOUNT_MAX, system_run
from doors.ledger import encode, is_amount
from tests.front_desk import FrontDesk

HEX = "00112233445566778899aabbccddeeff"


class LedgerDoorTest(unittest.TestCase):
    def setUp(self) -> None:
        self.front = FrontDesk()
        self.teller = self.front.connect("ledger")

    def test_a_day_at_the_ledger(self) -> None:
        for line, reply in (
            ("1|John", "John123\n"),
            ("4|John123", "0\n"),
            ("2|John123|100", "100\n"),
            ("3|John123|30", "70\n"),
            ("3|John123|71", "insufficient funds: 70\n"),
            ("4|John123", "70\n"),
            ("0|John", "John123\n"),
            ("0|John123", "John123\n"),
            ("1|John", "error: the name John is taken\n"),
            ("0|nobody", "error: there is no account nobody\n"),
            ("4|nobody123", "error: there is no account nobody123\n"),
            ("2|nobody123|1", "error: there is no account nobody123\n"),
            (f"2|John123|{AMOUNT_MAX}", f"error: the balance of John123 would not stay below {2**63}\n"),
            (f"2|John123|{AMOUNT_MAX - 70}", f"{AMOUNT_MAX}\n"),
            (f"3|John123|{AMOUNT_MAX}", "0\n"),
        ):
            with self.subTest(line):
                self.assertEqual(self.teller.say(line + "\n").decode(), reply)

    def test_without_a_newline_as_clients_of_old_send(self) -> None:
        self.assertEqual(self.teller.say("1|John"), b"John123\n")
        self.assertEqual(self.teller.say("2|John123|5"), b"5\n")

    def test_a_password_is_changed_and_guessed_at_too_often(self) -> None:
        person = self.front.connect("ledger")
        person.say(f"understudy 1 {HEX}\n")
        self.assertTrue(person.say("1 0 1|rosa|a secret\n").endswith(b"rosa123\n"))
        self.assertTrue(person.say("2 1 passwd|rosa123|a secret\tanother one\n").endswith(b"the password is changed\n"))
        for _ in range(5):
            self.assertEqual(self.teller.say("0|rosa123|a guess\n"), b"error: wrong password for rosa123\n")
        people = [self.front.connect("ledger") for _ in range(6)]
        for guesser in people:
            guesser.send(b"0|rosa123|a guess\n")
        self.front.turn()
        self.assertRegex(people[-1].read(), rb"^error: too many attempts: try again in \d+ s\n$")

    def test_what_is_wrong_is_said(self) -> None:
        amount = f"error: an amount is a whole number from 1 to {AMOUNT_MAX}\n"
        commands = "error: the commands are 0|ID 1|NAME 2|ID|AMOUNT 3|ID|AMOUNT 4|ID\n"
        for line, reply in (
            ("2|a123|0", amount),
            ("2|a123|-5", amount),
            ("3|a123|1.5", amount),
            (f"3|a123|{2**63}", amount),
            ("2|a123|" + "9" * 5000, amount),
            ("2|a123", "error: command 2 has 2 fields behind it\n"),
            ("4", "error: command 4 has 1 field behind it\n"),
            ("4|", "error: command 4 has 1 field behind it\n"),
            ("4|a|b", "error: command 4 has 1 field behind it\n"),
            ("9|a", commands),
            ("hello", commands),
            ("1|a b", "error: a name has 1 to 32 letters, no space and no , or |\n"),
            ("4|" + "x" * 36, "error: a name has 1 to 32 letters, no space and no , or |\n"),
            ("4|a\x07", "error: no control characters, and UTF-8, please\n"),
        ):
            with self.subTest(line[:20]):
                self.assertEqual(self.teller.say(line + "\n").decode(), reply)
        self.assertEqual(encode(b"4|\xff"), b"no control characters, and UTF-8, please")
        self.assertTrue(is_amount(str(AMOUNT_MAX)))

    def test_it_is_one_house(self) -> None:
        """The chat account of that name, made at either door; and nothing is pushed to a ledger."""
        chat = self.front.connect()
        chat.say("1|mason\n")
        self.assertEqual(self.teller.say("0|mason\n2|mason123|5\n"), b"mason123\n5\n")
        self.assertEqual(self.teller.say("1|John\n"), b"John123\n")
        self.assertEqual(chat.say("3|John|pay me\n"), b"message from mason has been delivered to John's mailbox\n")
        self.assertEqual(self.teller.read(), b"")
        john = self.front.connect()
        self.assertEqual(john.say("4|John123\n"), b"undelivered message for user ID John123: \nmason sends: pay me\n\n")

    def test_balances_are_read_in_order(self) -> None:
        self.teller.say("1|John\n")
        lines = "".join(f"2|John123|{n}\n4|John123\n" for n in range(1, 5))
        self.assertEqual(self.teller.say(lines), b"1\n1\n3\n3\n6\n6\n10\n10\n")

    def test_numbered_and_asked_again(self) -> None:
        """The replica dies after the payment, before the reply: it counts once, at whichever replica it is asked again."""
        self.teller.say(f"understudy 1 {HEX}\n")
        self.assertEqual(self.teller.say("1 0 1|John\n"), b"1 8\nJohn123\n")
        self.assertEqual(self.teller.say("2 1 2|John123|5\n"), b"2 2\n5\n")
        other = FrontDesk(self.front.log, "1.8")
        other.desk.state = other.state = self.front.state  # as a member that has applied the same
        self.front.log.desks[:] = [other]
        again = other.connect("ledger")
        again.say(f"understudy 1 {HEX}\nresume 0 2\n")
        self.assertEqual(again.say("2 1 2|John123|5\n3 1 4|John123\n4 1 bye\n"), b"2 2\n5\n3 2\n5\n4 11\nlogged out\n")

    def test_a_payment_under_way_in_a_view_change(self) -> None:
        self.teller.say("1|John\n")
        self.teller.send(b"2|John123|5\n4|John123\n")
        self.front.desk.take(1 << 20)  # sent, and lost with the primary
        self.front.desk.renew(system_run("members|0.7"))
        self.front.turn()
        self.assertEqual(self.teller.read(), b"5\n5\n")

    def test_the_disk_is_full(self) -> None:
        self.teller.say("1|John\n")
        self.teller.send(b"2|John123|5\n")
        self.front.desk.refuse_open()
        self.assertEqual(self.teller.read(), b"error: the disk is full: only balances can be read now\n")


if __name__ == "__main__":
    unittest.main()
