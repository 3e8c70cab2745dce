"""The simulation's part of every change: a thousand fresh seeds, and for ever those that once failed.

The long one is `python scripts/simulate.py --seeds N`; fifty seeds under coverage and with pandas are `test_simulation.py`. Read next:
`tests/simulator/simulation.py`.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import re
import subprocess
import sys
import unittest
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn
from unittest import mock

from tests.simulator import host_stories

SCRIPT: Any = importlib.import_module("scripts.simulate")  # nothing imports scripts: it is the script that is tried here
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# What each found stands in docs/testing.md; the story of a seed changes with the code, so old seeds are only as good as new ones.
ONCE_FAILED = (
    "1,2,3,5,13,14,39,51,55,86,102,124,125,129,141,493,2016,2027,2033,2034,2035,3086,3087,5241,7262,9101,"
    "20289,20466,20584,20624,20834,21012,40045,100360,2290,60158,7314094,100974"
)
FRESH, COUNT = 100_000, 1000  # chat: from, how many
OTHERS = 40  # of a bank, and of a counter
ON_HOSTS = "118,139,147,246,334,357,1001,1033,9006,100050,8311020,8312022,8312566,400276"  # under majority: seeds that once failed
HOSTS = 150  # fresh ones
FORCED = 6  # in which an operator forces a view
HALF_WAY = 4  # in which the first view begins half-way
BEHIND = 4  # in which a backup with a slow disk is far behind
LIMIT_S = 2000


def run(*arguments: str, hash_seed: str = "") -> subprocess.CompletedProcess[str]:
    """The script, to its end."""
    command = [sys.executable, os.path.join(ROOT, "scripts", "simulate.py"), *arguments]
    environment = {**os.environ, **({"PYTHONHASHSEED": hash_seed} if hash_seed else {})}
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False, env=environment)


class Seeds(unittest.TestCase):
    """Each seed is a world of three production servers with its own mix of faults; its checkers stop at the first broken promise."""

    def simulate(self, *arguments: str) -> str:
        done = run(*arguments, "--keep-going")
        self.assertEqual(done.returncode, 0, done.stdout[-4000:] + done.stderr[-2000:])
        return done.stdout

    def test_seeds_that_once_failed(self) -> None:
        self.simulate("--list", ONCE_FAILED)

    def test_a_thousand_fresh_seeds(self) -> None:
        """Each with at least 200 answers and 10 faults, or the script fails; no kind of fault and no invariant may have been left out."""
        told = self.simulate("--seed", str(FRESH), "--seeds", str(COUNT))
        print(told)
        self.assertIn(f"{COUNT} seeds, 0 failed, 0 short", told)
        counts = {name.strip(): int(count) for line in told.splitlines()[:2] for name, count in re.findall(r"([a-z0-9 -]+): (\d+)", line)}
        self.assertGreater(len(counts), 50)
        self.assertEqual([name for name, count in counts.items() if not count], [])

    def test_replication_carries_a_bank_and_a_counter(self) -> None:
        for state in ("ledger", "counter"):
            with self.subTest(state=state):
                self.simulate("--seed", str(FRESH), "--seeds", str(OTHERS), "--state", state)

    def test_hosts_that_are_cut_off(self) -> None:
        """Policy majority: three hosts or five."""
        self.simulate("--policy", "majority", "--list", ON_HOSTS)
        told = self.simulate("--policy", "majority", "--seed", str(FRESH), "--seeds", str(HOSTS))
        print(told)
        self.assertIn(f"{HOSTS} seeds, 0 failed, 0 short", told)

    def assert_clean(self, story: str, kind: str, count: int) -> None:
        """The first seeds under majority, each with this story, which more than half of them come to (`kind` in what struck them)."""
        struck = 0
        for seed in range(count):
            report = SCRIPT.simulate(seed, policy="majority", story=story)
            self.assertEqual(report.violation, "", f"seed {seed}")
            struck += report.struck.get(kind, 0)
        self.assertGreater(struck, count // 2)

    def test_an_operator_goes_on_from_one_disk(self) -> None:
        """With the program's own command; who was away follows later, and nothing is lost that the chosen disk held."""
        self.assert_clean(host_stories.FORCED, "forced view", FORCED)

    def test_the_first_view_begins_half_way(self) -> None:
        """All but its primary have promised it and die before they have a log: nobody has to wait for the operator."""
        self.assert_clean(host_stories.FIRST, "first view", HALF_WAY)

    def test_a_backup_far_behind_becomes_level_under_load(self) -> None:
        self.assert_clean(host_stories.BEHIND, "caught up", BEHIND)

    def test_the_same_seed_tells_the_same_story_in_another_process(self) -> None:
        """To the last character, whatever order sets have there."""

        def told(state: str, hash_seed: str) -> str:
            return run("--seed", "7", "--state", state, "--trace", hash_seed=hash_seed).stdout.rpartition("\nseed 7 is clean")[0]

        with ThreadPoolExecutor() as pool:
            for state in ("chat", "ledger"):
                stories = list(pool.map(told, [state] * 2, "18"))
                self.assertEqual(*stories)
                self.assertIn("view 1", stories[0])


def hang(seed: int, **_: object) -> NoReturn:
    while True:
        pass


def die(seed: int, **_: object) -> NoReturn:
    os._exit(9)


def stumble(seed: int, **_: object) -> NoReturn:
    raise KeyError(f"of seed {seed}")


class Told(unittest.TestCase):
    """No seed gets lost: not one that hangs, not one whose process dies, not one in which the simulator itself is wrong."""

    def run_script(self, simulate: Callable[..., Any], *arguments: str, stuck_s: int = 60) -> tuple[int, str]:
        words = io.StringIO()
        with (
            mock.patch.object(SCRIPT, "simulate", simulate),
            mock.patch.object(SCRIPT, "STUCK_S", stuck_s),
            mock.patch.object(sys, "argv", ["simulate.py", *arguments]),
            contextlib.redirect_stdout(words),
            self.assertRaises(SystemExit) as ended,
        ):
            SCRIPT.main()
        return int(str(ended.exception.code)), words.getvalue()

    def test_what_gives_no_report_has_failed_and_is_named(self) -> None:
        for simulate, said in ((hang, "Stuck: not over after 1 s"), (stumble, "KeyError: 'of seed "), (die, "has died: ")):
            for jobs in "12" if simulate is not die else "2":
                with self.subTest(said, jobs=jobs):
                    code, words = self.run_script(simulate, "--seed", "70", "--seeds", "2", "--jobs", jobs, "--keep-going", stuck_s=1)
                    self.assertEqual(code, 1)
                    self.assertIn("seed 70 BROKE", words)
                    self.assertIn(said, words)
                    self.assertIn("--state chat --seed 70 --trace", words)
                    self.assertRegex(words, r"0 seeds, [12] failed")

    def test_a_replay_is_as_long_as_the_run(self) -> None:
        """With other seconds the same seed tells another story."""
        failed = SCRIPT.simulate(7, seconds=4.0, trace=True)._replace(violation="planted")
        for seconds, told in ((["--seconds", "4"], "--state chat --seconds 4 --seed 7"), ([], "--state chat --seed 7")):
            code, words = self.run_script(lambda seed, **_: failed, "--seed", "7", *seconds)
            self.assertEqual(code, 1)
            self.assertIn(f"seed 7 FAILED: planted\n  replay: python scripts/simulate.py --policy survivor {told} --trace", words)

    def test_a_seed_in_which_too_little_happened_is_named(self) -> None:
        short = SCRIPT.simulate(7, seconds=0.5)._replace(faults=9, violation="")
        for count in "12":
            code, words = self.run_script(lambda seed, **_: short, "--seed", "7", "--seeds", count, "--jobs", "1")
            self.assertEqual(code, 1)
            self.assertRegex(words, r"seed 7 is SHORT: 9 faults and \d+ answers, at least 10 and 200 count\n  replay: .* --seed 7 --trace")
            self.assertIn(f"0 failed, {count} short", words)
            self.assertNotIn("clean", words)


if __name__ == "__main__":
    unittest.main()
