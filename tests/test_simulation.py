"""Fifty seeds of the simulator under coverage, with snapshots written by pandas; and what its checkers must notice.

What it is not: the thousand seeds of every change are `prove_simulation.py`. That pandas writes the same bytes as `csv` is proved in
`test_snapshot_worker.py`, and here once more: the same seed tells the same story with either.
"""

from __future__ import annotations

import inspect
import random
import re
import unittest
from collections.abc import Callable
from typing import Any
from unittest import mock

import noting
from connection import Connection
from packets import PrepareOk
from snapshot_worker import rows_through_csv, rows_through_pandas
from state import ChatState
from tests.simulator import mix as mixes
from tests.simulator.checks import Checks
from tests.simulator.counter import Counter
from tests.simulator.ledger import Ledger
from tests.simulator.simulation import simulate
from tests.simulator.world import Process, Violation, World

FIFTY = range(5000, 5050)
MONEY = "the log says|at no moment|the balances are|another state of op|is answered|explains the sums"


class Seeds(unittest.TestCase):
    def test_fifty_seeds_with_pandas(self) -> None:
        counts = set[int]()
        for seed in FIFTY:
            with self.subTest(seed=seed):
                report = simulate(seed, write_rows=rows_through_pandas)
                counts.add(len(report.mix.settings.replicas))
                self.assertEqual(report.violation, "")
                self.assertGreaterEqual(report.counted["acknowledged"], 200)
                self.assertGreaterEqual(report.faults, 10)
        self.assertEqual(counts, {3, 5}, "replicas")

    def test_pandas_and_csv_tell_the_same_story(self) -> None:
        stories = [simulate(FIFTY[0], trace=True, write_rows=write).story for write in (rows_through_csv, rows_through_pandas)]
        self.assertEqual(*stories)

    def test_some_of_them_are_rushes(self) -> None:
        rushes = [seed for seed in FIFTY if mixes.rushed(seed, mixes.draw(random.Random(seed))).rushes]
        self.assertEqual(len(rushes), len(FIFTY) // mixes.RUSH_EVERY)
        report = simulate(rushes[0])
        self.assertGreater(report.counted["acknowledged"], 1000)
        self.assertLess(report.steps, 10 * report.counted["acknowledged"], "answers come one by one")

    def test_the_counter_has_under_forty_lines(self) -> None:
        self.assertLess(sum(bool(line.strip()) for line in inspect.getsource(Counter).splitlines()), 40)


class Noticed(unittest.TestCase):
    """A state, a disk or a replica that is wrong on purpose: some seed must fail, and say what is wrong."""

    def assert_noticed(self, words: str, *, state: str = "chat", seeds: range = range(1, 5)) -> None:
        """`words`: a pattern. The story changes with the program, so one seed of several must end so, and no seed by a crash."""
        found = [simulate(seed, state=state).violation for seed in seeds]
        self.assertTrue(any(re.search(words, violation) for violation in found), found)
        self.assertFalse([violation for violation in found if "Error" in violation])

    def broken(self, owner: Any, name: str, instead: Callable[..., Any]) -> None:
        patch = mock.patch.object(owner, name, instead)
        patch.start()
        self.addCleanup(patch.stop)

    def test_a_bank_that_pays_in_twice(self) -> None:
        real = Ledger.execute
        self.broken(Ledger, "execute", lambda bank, line: real(bank, line) and real(bank, line))
        self.assert_noticed(MONEY, state="ledger")

    def test_a_counter_that_skips(self) -> None:
        def execute(counter: Counter, line: str) -> str:
            counter.value += 2
            return str(counter.value)

        self.broken(Counter, "execute", execute)
        self.assert_noticed("counted 2, the log says", state="counter")

    def test_a_bank_that_answers_a_repetition_anew(self) -> None:
        def run(bank: Ledger, session: Any, first: int, skip: int, lines: list[str]) -> list[str]:
            if session is None or first - skip > session.last + 1:
                return ["!SESSION_UNKNOWN"] * len(lines)
            session.replies = (session.replies or [""]) + [""] * (first - 1 - session.last) + [bank.execute(line) for line in lines]
            session.last = max(session.last, first + len(lines) - 1)
            given: list[str] = session.replies[-len(lines) :]
            return given

        self.broken(Ledger, "run", run)
        self.assert_noticed(MONEY, state="ledger")

    def test_a_snapshot_that_differs_between_replicas(self) -> None:
        real = ChatState.tables

        def tables(state: ChatState) -> Any:
            found = real(state)
            columns, rows = found["accounts"]
            return {**found, "accounts": (columns, [row for row in rows if dice.random() < 0.9])}

        dice = random.Random(1)
        self.broken(ChatState, "tables", tables)
        self.assert_noticed("the snapshot of op")

    def test_a_message_that_is_never_shown(self) -> None:
        real, dice = Connection.push, random.Random(1)

        def push(connection: Connection, messages: Any) -> None:
            real(connection, [m for m in messages if dice.random() < 0.9])

        self.broken(Connection, "push", push)
        self.assert_noticed("never shown|there waited", seeds=range(1, 9))

    def test_a_message_that_is_shown_twice(self) -> None:
        """What was pushed is read once more; a guest cannot know that."""
        self.broken(noting, "_unshown", lambda connection, reply: reply)
        self.assert_noticed("twice")

    def test_a_message_that_overtakes_another(self) -> None:
        real = Connection.push
        self.broken(Connection, "push", lambda connection, messages: real(connection, list(messages)[::-1]))
        self.assert_noticed("out of order|no order explains|never shown|shown .* twice|the log says")

    def test_an_ack_before_the_sync(self) -> None:
        world = World(1, mixes.draw(random.Random(1)), random.Random(1))
        checks = world.checks = Checks(world)
        for replica in range(3):
            world.start(replica)
        world.run(1.0)
        process = world.processes[1]
        journal = process.server.storage.journal
        checks.on_packet(process, PrepareOk(process.server.replica.view, journal.head_op, journal.head_hash))
        world.files.file(journal._segments[-1].path).write(b"x", 4096)
        with self.assertRaisesRegex(Violation, "before it is synced"):
            checks.on_packet(process, PrepareOk(process.server.replica.view, journal.head_op, journal.head_hash))

    def test_a_second_process_of_one_replica(self) -> None:
        self.broken(Process, "start", lambda process: None)
        world = World(1, mixes.draw(random.Random(1)), random.Random(1))
        world.start(0)
        with self.assertRaisesRegex(Violation, "runs twice"):  # the first never took its lock
            world.start_again(world.processes[0])


if __name__ == "__main__":
    unittest.main()
