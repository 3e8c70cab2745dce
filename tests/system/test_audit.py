"""The audit finds what was put in on purpose, and reports of campaigns add up. No server runs here."""

from __future__ import annotations

import os
import tempfile
import unittest
from collections.abc import Callable

from guest import Message
from tests.system.cluster import ALARMS, Cluster
from tests.system.figures import Figures, share
from tests.system.talk import History, Talker, audit, sender_row
from tests.test_house_rules import PRODUCT

Spoil = Callable[[Talker, Talker, History], object]


def never_answered(ann: Talker, bob: Talker, history: History) -> None:
    """Ann's fourth message is on its way, and stays so."""
    ann.attempted["bob"] = 4
    ann.sent_at["bob"].append(9.0)


class Audit(unittest.TestCase):
    """Ann sends three messages to Bob, one after the other, and Bob one to Ann; then one thing is spoiled."""

    def setUp(self) -> None:
        self.ann, self.bob = Talker("ann", [1]), Talker("bob", [1])
        self.history: History = []
        for moment, (sender, whom, number) in enumerate(
            [(self.ann, "bob", 1), (self.bob, "ann", 1), (self.ann, "bob", 2), (self.ann, "bob", 3)]
        ):
            sender.attempted[whom] = number
            sender.sent_at.setdefault(whom, []).append(moment)
            sender.acked.setdefault(whom, []).append(number)
            sender.told_at[whom, number] = moment + 0.5
            receiver = self.bob if whom == "bob" else self.ann
            receiver.shown.setdefault(sender.name, []).append(number)
            receiver.endings.setdefault(sender.name, set()).add(sender.padding)
            self.history.append(sender_row(sender, whom, number))

    def found(self, spoil: Spoil) -> dict[str, int]:
        """What an audit says after that, where it says anything."""
        self.setUp()
        spoil(self.ann, self.bob, self.history)
        verdict = audit([self.ann, self.bob], [self.history], are_all=True)
        counts = {name: len(getattr(verdict, name)) for name in ("lost", "doubled", "reordered", "invented", "unknown")}
        self.assertEqual(verdict.is_clean, not any(counts[name] for name in counts if name != "unknown"))
        return {name: count for name, count in counts.items() if count}

    def test_nothing_is_found_where_nothing_is_wrong(self) -> None:
        self.assertEqual(self.found(lambda ann, bob, history: None), {})
        verdict = audit([self.ann, self.bob], [self.history])
        self.assertEqual((verdict.acknowledged, verdict.delivered), (4, 4))

    def test_each_thing_that_is_spoiled_is_found(self) -> None:
        cases: list[tuple[str, Spoil, dict[str, int]]] = [
            ("not shown", lambda ann, bob, history: bob.shown["ann"].remove(2), {"lost": 1}),
            ("not in the history", lambda ann, bob, history: history.pop(2), {"lost": 1}),
            ("shown twice", lambda ann, bob, history: bob.shown["ann"].append(3), {"doubled": 1}),
            ("marked as a repetition", lambda ann, bob, history: bob.again.append("ann 2"), {"doubled": 1}),
            ("twice in the history", lambda ann, bob, history: history.append(history[3]), {"doubled": 1}),
            ("shown in another order", lambda ann, bob, history: bob.shown["ann"].sort(key=[1, 3, 2].index), {"reordered": 1}),
            ("kept in another order", lambda ann, bob, history: history.insert(0, history.pop()), {"reordered": 3}),
            ("kept behind what was sent later", lambda ann, bob, history: history.insert(2, history.pop(1)), {"reordered": 1}),
            ("shown, never sent", lambda ann, bob, history: bob.shown["ann"].append(4), {"invented": 1}),
            ("kept, never sent", lambda ann, bob, history: history.append(("ann", "bob", "ann 4")), {"invented": 1}),
            ("kept, by somebody who never spoke", lambda ann, bob, history: history.append(("eve", "bob", "eve 1")), {"invented": 1}),
            ("shown, but cut short", lambda ann, bob, history: bob.endings["ann"].add(" xx"), {"invented": 1}),
            ("not answered", never_answered, {"unknown": 1}),
        ]
        for what, spoil, found in cases:
            with self.subTest(what):
                self.assertEqual(self.found(spoil), found)

    def test_what_nobody_was_told_of_may_stand_anywhere(self) -> None:
        """Two messages on their way at the same time have no order that anybody could count on."""

        def spoil(ann: Talker, bob: Talker, history: History) -> None:
            bob.told_at["ann", 1] = 2.7  # it was on its way while Ann sent her second
            history.insert(2, history.pop(1))

        self.assertEqual(self.found(spoil), {})

    def test_what_is_shown_is_noted_to_its_last_letter(self) -> None:
        """As the client hands it on."""
        self.bob.client.displayed = lambda message: None  # type: ignore[method-assign]
        texts = [f"ann 4{self.ann.padding}", f"ann 5{self.ann.padding[:-1]}"]
        self.bob._on_messages([Message(number, "ann", 0, number, text, "bob") for number, text in enumerate(texts, 4)])
        self.assertEqual(self.bob.shown["ann"], [1, 2, 3, 4, 5])
        self.assertEqual(self.bob.endings["ann"] - {self.ann.padding}, {self.ann.padding[:-1]})

    def test_the_silence_at_a_failover(self) -> None:
        """Answers from before do not count; a guest that moved counts from its move."""
        self.ann.acked_at = [9.9, 10.001, 10.004, 10.040, 10.045]
        self.assertFalse(self.ann.has_noticed(10.03))
        self.assertTrue(self.ann.has_noticed(10.0))
        gap = self.ann.gap_after(10.0, 11.0)
        self.assertAlmostEqual(gap or 0.0, 0.040)


class Alarms(unittest.TestCase):
    """A replica that ends because of a contradiction begins anew, and nothing in the files need tell of it."""

    def test_what_must_never_be_said_is_found_in_every_log(self) -> None:
        with tempfile.TemporaryDirectory() as where:
            cluster = Cluster(where=where, keep=True)
            for i, name in ((0, "replica.log"), (1, "replica.log.2"), (2, "replica.log")):
                os.makedirs(log := os.path.join(cluster.base, f"replica-{i}", "log"))
                with open(os.path.join(log, name), "w", encoding="utf-8") as file:
                    file.write("09:13:17.133 view 2 runs here from op 27\n")
            self.assertEqual(cluster.alarms(), [])
            for word in ALARMS:
                with open(os.path.join(cluster.base, "replica-1", "log", "replica.log.2"), "a", encoding="utf-8") as file:
                    file.write(f"09:13:17.134 {word} after op 27\n")
            self.assertEqual(cluster.alarms(), [f"replica 1: 09:13:17.134 {word} after op 27" for word in ALARMS])

    def test_an_error_of_python_is_told_with_what_follows(self) -> None:
        """A task that died of it leaves a replica that runs, and does less."""
        with Cluster() as cluster:
            words = ["Task exception was never retrieved", "Traceback (most recent call last):", "  here", "RuntimeError: closed"]
            with open(cluster.output(2), "w", encoding="utf-8") as file:
                file.write("\n".join(["all is well", *words]) + "\n")
            self.assertEqual(cluster.alarms(), [f"replica 2: {' | '.join(words)}"])

    def test_they_are_what_the_program_says(self) -> None:
        """Words that it no longer has would never be found."""
        program = "".join(path.read_text(encoding="utf-8") for path in PRODUCT.values())
        self.assertEqual([word for word in ALARMS if word not in program], [])


class Adding(unittest.TestCase):
    """Reports of several campaigns."""

    def one(self, seed: int, times: list[float]) -> Figures:
        figures = Figures()
        figures.seeds, figures.seconds = [seed], 60.0
        figures.injected["kill -9"], figures.rounds["one"] = 3, 2
        figures.took("gap", times)
        figures.judged(audit([]), [])
        figures.audit["acknowledged"] = 10
        return figures

    def test_sums_and_distributions(self) -> None:
        """Every time is kept, so the distribution of all is that of one long campaign."""
        total = Figures()
        with tempfile.TemporaryDirectory() as directory:
            for seed, times in ((1, [0.001, 0.002]), (2, [0.003, 0.1])):
                path = os.path.join(directory, f"{seed}.json")
                self.one(seed, times).write(path)
                total.add(Figures.read(path))
        self.assertEqual((total.seeds, total.seconds, total.injected["kill -9"], total.audit["acknowledged"]), ([1, 2], 120.0, 6, 20))
        self.assertEqual(sorted(total.times["gap"]), [1.0, 2.0, 3.0, 100.0])
        self.assertTrue(total.is_clean)
        self.assertIn("100.0", str(total))

    def test_one_find_spoils_the_sum(self) -> None:
        for what in ("lost", "doubled", "reordered", "invented", "files that differ", "balances that differ"):
            total, bad = self.one(1, []), self.one(2, [])
            bad.audit[what] = 1
            total.add(bad)
            self.assertFalse(total.is_clean, what)
        ended_early, bad = self.one(1, []), self.one(2, [])
        bad.failed.append("not within 30 s")
        ended_early.add(bad)
        self.assertFalse(ended_early.is_clean)
        self.assertFalse(Figures().is_clean, "nothing was audited")

    def test_shares(self) -> None:
        times = [float(n) for n in range(1, 201)]
        self.assertEqual([share(times, part) for part in (50, 99, 100)], [100.0, 198.0, 200.0])
        self.assertEqual(share([7.0], 50), 7.0)
