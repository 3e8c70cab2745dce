"""Run seeds of the simulator: `python scripts/simulate.py --seeds N [--seed S] [--policy P] [--trace]`.

A seed that breaks a promise prints one command that replays it, character for character on the same minor version of Python.

Read next: `tests/simulator/simulation.py`.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import gc
import multiprocessing
import os
import sys
import time
from collections import Counter

FAULTS_MIN, ANSWERS_MIN = 10, 200  # of a seed that counts; one with less is "short", and a run with a short seed has failed
STUCK_S = 120  # seconds of one seed after which it says where it hangs
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

from tests.simulator.mix import FAULTS  # noqa: E402
from tests.simulator.simulation import SAFETY_S, Report, simulate  # noqa: E402
from tests.simulator.tenants import TENANTS  # noqa: E402


def main() -> None:
    """Read the command line, run the seeds on all processors, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds, from --seed on")
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--list", default="", help="these seeds, separated by commas, instead")
    parser.add_argument("--seconds", type=float, default=SAFETY_S, help="simulated seconds at most in which things go wrong")
    parser.add_argument("--policy", choices=("survivor", "majority"), default="survivor", help="majority: 3 or 5 hosts, which get cut off")
    parser.add_argument("--trace", action="store_true", help="print the story of every seed")
    parser.add_argument("--state", choices=sorted(TENANTS), default="chat", help="what is replicated")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first seed that fails")
    asked = parser.parse_args()
    sys.exit(_run(asked))


def _one(work: tuple[int, str, float, bool, str]) -> Report:
    seed, policy, seconds, trace, state = work
    faulthandler.dump_traceback_later(STUCK_S, exit=True)
    gc.disable()
    report = simulate(seed, policy=policy, trace=trace, seconds=seconds, state=state)
    gc.enable()
    faulthandler.cancel_dump_traceback_later()
    gc.collect(0)
    return report


class Totals:
    """What all seeds together did."""

    def __init__(self) -> None:
        self.counted: Counter[str] = Counter()
        self.struck: Counter[str] = Counter(dict.fromkeys(FAULTS, 0))
        self.looked: Counter[int] = Counter(dict.fromkeys(range(1, 24), 0))
        self.began = time.monotonic()

    def add(self, report: Report) -> None:
        self.counted.update(report.counted)
        self.counted.update({"seeds": 1, "faults": report.faults, "steps": report.steps, "ms": int(report.simulated * 1000)})
        self.counted["failed"] += bool(report.violation)
        self.counted["short"] += report.faults < FAULTS_MIN or report.counted["acknowledged"] < ANSWERS_MIN
        self.struck.update(report.struck)
        self.looked.update(report.looked)

    def tell(self, *, tables: bool) -> None:
        counted, spent = self.counted, time.monotonic() - self.began
        if tables:
            print("faults         " + "   ".join(f"{kind}: {count}" for kind, count in sorted(self.struck.items())))
            print("invariants     " + "   ".join(f"{number}: {count}" for number, count in sorted(self.looked.items())))
        print(
            f"{counted['seeds']} seeds, {counted['failed']} failed, {counted['short']} short,"
            f" {counted['ms'] / 3600_000:.2f} simulated hours,"
            f" {counted['faults']} faults, {counted['acknowledged']} answers, {counted['displayed']} displays, {counted['views']} views,"
            f" {counted['windows']} windows of {counted['in windows']} operations judged without the log, {counted['steps']} steps"
            f" in {spent:.1f} s"
        )


def _run(asked: argparse.Namespace) -> int:
    seeds = [int(word) for word in asked.list.split(",")] if asked.list else range(asked.seed, asked.seed + asked.seeds)
    todo = [(seed, asked.policy, asked.seconds, asked.trace, asked.state) for seed in seeds]
    totals = Totals()
    jobs = min(asked.jobs, len(todo))
    with multiprocessing.Pool(jobs) if jobs > 1 else contextlib.nullcontext() as pool:
        for report in pool.imap_unordered(_one, todo) if pool else map(_one, todo):
            totals.add(report)
            if asked.trace:
                print("\n".join(report.story))
            if report.violation:
                print(
                    f"seed {report.seed} FAILED: {report.violation}\n"
                    f"  replay: python scripts/simulate.py --policy {asked.policy} --seed {report.seed} --state {asked.state} --trace"
                    f"  (trace {report.crc:08x}, Python {sys.version_info[0]}.{sys.version_info[1]})",
                    flush=True,
                )
                if not asked.keep_going:
                    break
            elif len(todo) == 1:
                print(f"seed {report.seed} is clean (trace {report.crc:08x})")
    totals.tell(tables=len(todo) > 1)
    return 1 if totals.counted["failed"] or totals.counted["short"] else 0


if __name__ == "__main__":
    main()
