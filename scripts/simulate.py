"""Run seeds of the simulator: `python scripts/simulate.py --seeds N [--seed S] [--seconds T] [--trace]`.

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

STUCK_S = 120  # seconds of one seed after which it says where it hangs
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

from tests.simulator.simulation import SAFETY_S, Report, simulate  # noqa: E402
from tests.simulator.tenants import TENANTS  # noqa: E402


def main() -> None:
    """Read the command line, run the seeds on all processors, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds, from --seed on")
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--seconds", type=float, default=SAFETY_S, help="simulated seconds at most in which things go wrong")
    parser.add_argument("--trace", action="store_true", help="print the story of every seed")
    parser.add_argument("--state", choices=sorted(TENANTS), default="chat", help="what is replicated")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first seed that fails")
    asked = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.environ["PYTHONHASHSEED"] = "0"  # the order of sets is part of a trace
        os.execv(sys.executable, [sys.executable, *sys.argv])
    sys.exit(_run(asked))


def _one(work: tuple[int, float, bool, str]) -> Report:
    seed, seconds, trace, state = work
    faulthandler.dump_traceback_later(STUCK_S, exit=True)
    gc.disable()
    report = simulate(seed, trace=trace, seconds=seconds, state=state)
    gc.enable()
    faulthandler.cancel_dump_traceback_later()
    gc.collect(0)
    return report


def _run(asked: argparse.Namespace) -> int:
    began = time.monotonic()
    todo = [(seed, asked.seconds, asked.trace, asked.state) for seed in range(asked.seed, asked.seed + asked.seeds)]
    totals: Counter[str] = Counter()
    failed = 0
    jobs = min(asked.jobs, len(todo))
    with multiprocessing.Pool(jobs) if jobs > 1 else contextlib.nullcontext() as pool:
        for report in pool.imap_unordered(_one, todo) if pool else map(_one, todo):
            totals.update(report.counted)
            totals.update({"seeds": 1, "faults": report.faults, "steps": report.steps, "ms": int(report.simulated * 1000)})
            totals["short"] += report.faults < 10 or report.counted["acknowledged"] < 200
            if asked.trace:
                print("\n".join(report.story))
            if report.violation:
                failed += 1
                print(
                    f"seed {report.seed} FAILED: {report.violation}\n  replay: python scripts/simulate.py --seed {report.seed} --trace"
                    f"  (trace {report.crc:08x}, Python {sys.version_info[0]}.{sys.version_info[1]})",
                    flush=True,
                )
                if not asked.keep_going:
                    break
            elif asked.seeds == 1:
                print(f"seed {report.seed} is clean (trace {report.crc:08x})")
    spent = time.monotonic() - began
    print(
        f"{totals['seeds']} seeds, {failed} failed, {totals['short']} short, {totals['ms'] / 3600_000:.2f} simulated hours,"
        f" {totals['faults']} faults, {totals['acknowledged']} answers, {totals['displayed']} displays, {totals['views']} views,"
        f" {totals['steps']} steps in {spent:.1f} s\n"
        f"{totals['windows']} windows of {totals['in windows']} operations judged without the log, 0 undecided"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    main()
