"""How often a password may be tried: few at once, slower and slower, never shut for good, in bounded memory."""

from __future__ import annotations

import unittest
from unittest import mock

import attempts
from attempts import FORGET_S, OF_ACCOUNT, OF_ADDRESS, WAIT_MAX, Attempts, is_local

FAR, HERE = "192.0.2.1", "127.0.0.1"


class AttemptsTest(unittest.TestCase):
    def setUp(self) -> None:
        self.attempts = Attempts()
        self.now = 1000.0

    def ask(self, name: str = "mason", address: str = HERE) -> float:
        return self.attempts.ask(name, address, self.now)

    def test_the_sixth_waits_and_each_one_more_waits_longer(self) -> None:
        self.assertEqual([self.ask() for _ in range(OF_ACCOUNT)], [0.0] * 5)
        waits = []
        for _ in range(6):
            waits.append(self.ask())
            self.now += min(waits[-1], WAIT_MAX)
        self.assertEqual(waits, [1.0, 2.0, 4.0, 8.0, 16.0, 6.0], "the last two were told to come again, and counted once")

    def test_a_thousand_at_once_are_no_thousand_guesses(self) -> None:
        waits = [self.ask() for _ in range(1000)]
        self.assertEqual(sum(wait <= WAIT_MAX for wait in waits), OF_ACCOUNT + 3, "1, 3 and 7 seconds from now")
        self.assertLess(max(waits), 20, "and nobody is sent away for long")

    def test_others_are_not_touched(self) -> None:
        for _ in range(50):
            self.ask()
        self.assertEqual(self.ask("wayne"), 0.0)

    def test_steps_do_not_grow_for_ever(self) -> None:
        count = 0
        for _ in range(200):
            wait = self.ask()
            count += wait <= WAIT_MAX
            self.assertLessEqual(wait, 60.0)
            self.now += max(wait, 1.0)
        self.assertGreater(count, 10, "an owner gets a turn")

    def test_after_a_quiet_minute_all_is_forgotten(self) -> None:
        for _ in range(9):
            self.ask()
        self.now += 7 + FORGET_S + 1
        self.assertEqual(self.ask(), 0.0)

    def test_who_gets_in_is_forgiven(self) -> None:
        for _ in range(OF_ACCOUNT):
            self.ask(address=FAR)
        self.attempts.forgive("mason")
        self.assertEqual([self.ask(address=FAR) for _ in range(OF_ACCOUNT)], [0.0] * OF_ACCOUNT)
        self.attempts.forgive("nobody")

    def test_an_address_may_try_many_names_but_not_any_number(self) -> None:
        waits = [self.ask(f"name{n}", FAR) for n in range(OF_ADDRESS + 1)]
        self.assertEqual(waits, [0.0] * OF_ADDRESS + [1.0])
        self.assertEqual(self.ask("wayne", "192.0.2.2"), 0.0)
        self.assertEqual(self.ask("wayne", HERE), 0.0)

    def test_one_right_password_does_not_pay_for_an_address_wrong_ones(self) -> None:
        """Between guesses the guesser logs in to an account of its own."""
        free = 0
        for n in range(60):
            free += self.ask(f"victim{n}", FAR) == 0.0
            if self.ask("own", FAR) <= WAIT_MAX:
                self.attempts.forgive("own")
        self.assertLessEqual(free, OF_ADDRESS)

    def test_people_of_this_host_share_an_address(self) -> None:
        self.assertEqual({self.ask(f"name{n}") for n in range(500)}, {0.0})
        self.assertEqual([is_local(a) for a in ("127.0.0.1", "127.9.9.9", "::1", FAR, "fe80::1%eth0", "?")], [True] * 3 + [False] * 3)

    def test_a_million_names_need_no_more_room(self) -> None:
        with mock.patch.object(attempts, "KEYS_MAX", 100):
            for n in range(10_000):
                self.ask(f"name{n}")
            self.assertEqual(len(self.attempts.counts), 100)
        self.assertEqual(attempts.KEYS_MAX, 100_000)


if __name__ == "__main__":
    unittest.main()
