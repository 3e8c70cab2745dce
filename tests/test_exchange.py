"""Calls on their way to the log: which of them travel together."""

from __future__ import annotations

import unittest

from commands import count_ops
from doors import calls
from exchange import GATHER_MOST_S, GATHER_S, TOGETHER_MAX, Exchange
from tests.front_desk import FrontDesk


class Together(unittest.TestCase):
    def setUp(self) -> None:
        self.front = FrontDesk(watched=False)
        self.exchange = Exchange(self.front.desk, self.front.later)
        self.answers: list[str] = []
        self.ask("mason")
        self.front.turn()  # the line is open
        self.answers.clear()

    def ask(self, name: str, text: str = "", caller: str = "") -> None:
        asked = calls.send("mason", name, text, 0, "", "") if text else calls.call("c", name)

        def answered(reply: str) -> None:
            self.answers.append(reply)
            self.exchange.given(caller)

        self.exchange.ask(asked, "127.0.0.1", answered, caller)

    def turn(self) -> list[int]:
        """Commands in each run that left in this turn of the loop."""
        works, self.front.works = self.front.works, []
        for _, job, done in works:
            done(job())
        return [count_ops(run) for run in self.front.desk.open_runs]

    def test_calls_of_one_turn_are_one_run(self) -> None:
        for name in ("wayne", "alice", "bob"):
            self.ask(name)
        self.assertEqual(self.front.desk.open_runs, [])
        self.assertEqual(self.turn(), [3])
        self.front.turn()
        self.assertEqual([answer[:2] for answer in self.answers], ["y|"] * 3)

    def test_a_long_run_leaves_at_once(self) -> None:
        """A run is never split, and a batch has room for one of this size."""
        for _ in range(3):
            self.ask("mason", "x" * (TOGETHER_MAX * 2 // 5))
        self.assertEqual([count_ops(run) for run in self.front.desk.open_runs], [3])
        self.ask("mason", "x")
        self.assertEqual(self.turn(), [3, 1])

    def answer_three(self) -> None:
        for caller in "abc":
            self.ask(f"first-{caller}", caller=caller)
        self.front.turn()

    def test_calls_wait_for_callers_who_were_answered_just_now(self) -> None:
        """They come back one after the other, and others meanwhile."""
        self.answer_three()
        for caller in "adb":
            self.ask(f"next-{caller}", caller=caller)
            self.assertEqual(self.turn(), [], "c will call again")
        self.ask("next-c", caller="c")
        self.assertEqual([count_ops(run) for run in self.front.desk.open_runs], [4], "at once, they are all here")

    def test_nobody_waits_for_long(self) -> None:
        self.answer_three()
        self.ask("wayne", caller="a")
        self.turn()
        self.assertEqual(self.turn(), [1], "nobody else came in time")
        self.front.turn()
        self.ask("bob", caller="d")
        self.turn()
        for number in range(20):  # one who never comes, and somebody always does
            self.ask(f"more{number}", caller="e")
            self.front.time += GATHER_S
            if self.turn():
                break
        self.assertLess(number, 10)

    def until_it_leaves(self) -> float:
        """Somebody calls again and again; after how long does a run leave?"""
        before, began = len(self.front.desk.open_runs), self.front.time
        for number in range(20):
            self.ask(f"more-{began}-{number}", caller="e")
            if len(self.turn()) > before:
                break
            self.front.time += GATHER_S
        return self.front.time - began

    def test_who_comes_late_is_waited_for_twice(self) -> None:
        """The next run takes along those for whom one could not wait any longer; who has gone for good holds up nobody else."""
        self.answer_three()
        self.ask("wayne", caller="a")
        self.turn()
        self.assertAlmostEqual(self.until_it_leaves(), GATHER_MOST_S, delta=1.5 * GATHER_S)
        self.ask("bob", caller="e")
        self.assertEqual(len(self.turn()), 1, "b and c will call again")
        self.assertAlmostEqual(self.until_it_leaves(), GATHER_MOST_S, delta=1.5 * GATHER_S)
        self.assertEqual(self.until_it_leaves(), 0.0)

    def test_nobody_is_away_before_the_answer_is_out(self) -> None:
        """gRPC takes a while for each of many answers: whoever has just got the last one is as good as here."""
        for caller in "abc":
            self.exchange.ask(calls.call("c", f"first-{caller}"), "127.0.0.1", self.answers.append, caller)
        self.front.turn()
        for caller in "abc":
            self.front.time += 2 * GATHER_S
            self.exchange.given(caller)
        for caller in "ab":
            self.ask(f"next-{caller}", caller=caller)
            self.assertEqual(self.turn(), [])
        self.ask("next-c", caller="c")
        self.assertEqual([count_ops(run) for run in self.front.desk.open_runs], [3])

    def test_a_caller_who_is_alone_does_not_wait(self) -> None:
        self.answer_three()
        self.front.time += 2 * GATHER_S
        for number in range(3):
            self.ask(f"alone{number}", caller="a")
            self.assertEqual(self.turn(), [1])
            self.front.turn()

    def test_what_was_not_sent_is_not_done(self) -> None:
        """Who waits on a line that is given up hears that nobody knows; so it must not be done later."""
        self.ask("wayne")
        (line,) = self.exchange.lines
        self.exchange.drop(line)
        self.assertEqual((self.turn(), self.answers), ([], [""]))
        self.exchange.sweep()
        self.front.turn()
        self.assertNotIn("wayne", self.front.state.accounts)


if __name__ == "__main__":
    unittest.main()
