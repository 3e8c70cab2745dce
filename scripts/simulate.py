"""Run seeds of the simulator: `python scripts/simulate.py --seeds N [--seed S] [--policy P] [--trace]`.

A seed that breaks a promise prints one command that replays it, character for character on the same minor version of Python. So does one
that breaks the simulator itself, and one that hangs: neither may pass for a seed in which every promise was kept.

Read next: `tests/simulator/simulation.py`.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import gc
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Generator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from types import FrameType
from typing import NamedTuple

ANSWERS_MIN = 200  # of a seed that counts, as FAULTS_MIN; one with less is "short", and a run with a short seed has failed
STUCK_S = 120  # seconds of one seed after which it says where it hangs; what hangs outside of Python ends its process a little later
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

if __name__ == "__main__":
    import bootstrap

    bootstrap.ensure(bootstrap.PACKAGES)

    import compiled

    if "--compiled" in sys.argv[1:] and not compiled.use():  # before anything is imported that it would take the place of
        sys.exit("there is no compiled form of these sources: python scripts/compile.py")

from tests.simulator.mix import FAULTS  # noqa: E402
from tests.simulator.simulation import FAULTS_MIN, SAFETY_S, Report, simulate  # noqa: E402
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
    parser.add_argument("--compiled", action="store_true", help="run the compiled form (scripts/compile.py); of the chat alone")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="seeds that run at the same time")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first seed that fails")
    asked = parser.parse_args()
    if asked.compiled and asked.state != "chat":
        parser.error("--compiled: nobody takes the place of a compiled chat")
    sys.exit(_run(asked))


class Stuck(BaseException):
    """Nothing in the program catches it."""


class Broken(NamedTuple):
    """A seed without a report."""

    seed: int
    story: str


def _give_up(signum: int, frame: FrameType | None) -> None:
    raise Stuck(f"not over after {STUCK_S} s")


def _one(work: tuple[int, str, float, bool, str]) -> Report | Broken:
    seed, policy, seconds, trace, state = work
    signal.signal(signal.SIGALRM, _give_up)
    signal.alarm(STUCK_S)
    faulthandler.dump_traceback_later(STUCK_S * 1.25, exit=True)
    gc.disable()
    try:
        return simulate(seed, policy=policy, trace=trace, seconds=seconds, state=state)
    except (Exception, Stuck):
        return Broken(seed, traceback.format_exc())
    finally:
        signal.alarm(0)
        faulthandler.cancel_dump_traceback_later()
        gc.enable()
        gc.collect(0)


def _reports(todo: list[tuple[int, str, float, bool, str]], jobs: int) -> Generator[Report | Broken]:
    """Of all seeds, as they come."""
    if jobs < 2:
        yield from map(_one, todo)
        return
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("fork")) as pool:
        under_way = {pool.submit(_one, work): work[0] for work in todo}
        try:
            for done in as_completed(list(under_way)):
                report = done.result()
                del under_way[done]
                yield report
        except BrokenProcessPool:
            first, count = min(under_way.values()), len(under_way)
            yield Broken(first, f"a process that ran seeds has died: {count} have no report, and seed {first} or a later one has killed it")
        finally:
            # Waited for: who leaves it to the interpreter's end may find the pool's pipe closed between a look at it and a write to it.
            pool.shutdown(cancel_futures=True)


class Totals:
    """What all seeds together did."""

    def __init__(self) -> None:
        self.counted: Counter[str] = Counter()
        self.struck: Counter[str] = Counter(dict.fromkeys(FAULTS, 0))
        self.looked: Counter[int] = Counter(dict.fromkeys(range(1, 24), 0))
        self.began = time.monotonic()

    def add(self, report: Report | Broken) -> None:
        if isinstance(report, Broken):
            self.counted["failed"] += 1
            return
        self.counted.update(report.counted)
        self.counted.update({"seeds": 1, "faults": report.faults, "steps": report.steps, "ms": int(report.simulated * 1000)})
        self.counted["failed"] += bool(report.violation)
        self.counted["short"] += _is_short(report)
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
            f" {counted['windows']} windows of {counted['in windows']} operations judged without the log"
            f" ({counted['undecided']} too wide to be decided), {counted['steps']} steps in {spent:.1f} s"
        )


def _is_short(report: Report) -> bool:
    return report.faults < FAULTS_MIN or report.counted["acknowledged"] < ANSWERS_MIN


def _told(report: Report | Broken, command: str) -> str:
    """What is wrong with this seed, and how to see it again."""
    python = f"Python {sys.version_info[0]}.{sys.version_info[1]}"
    if isinstance(report, Broken):
        return f"seed {report.seed} BROKE: {report.story}\n  replay: {command} --seed {report.seed} --trace  ({python})"
    replay = f"{command} --seed {report.seed} --trace  (trace {report.crc:08x}, {python})"
    wrong = f"FAILED: {report.violation}"
    if not report.violation:
        wrong = (
            f"is SHORT: {report.faults} faults and {report.counted['acknowledged']} answers, at least {FAULTS_MIN} and {ANSWERS_MIN} count"
        )
    return f"seed {report.seed} {wrong}\n  replay: {replay}"


def _run(asked: argparse.Namespace) -> int:
    seeds = [int(word) for word in asked.list.split(",")] if asked.list else range(asked.seed, asked.seed + asked.seeds)
    todo = [(seed, asked.policy, asked.seconds, asked.trace, asked.state) for seed in seeds]
    totals = Totals()
    command = f"python scripts/simulate.py --policy {asked.policy} --state {asked.state}"
    if asked.seconds != SAFETY_S:  # another length is another story
        command += f" --seconds {asked.seconds:g}"
    if asked.compiled:
        command += " --compiled"
    with contextlib.closing(_reports(todo, min(asked.jobs, len(todo)))) as reports:
        for report in reports:
            totals.add(report)
            if asked.trace and isinstance(report, Report):
                print("\n".join(report.story))
            if isinstance(report, Broken) or report.violation:
                print(_told(report, command), flush=True)
                if not asked.keep_going:
                    break
            elif _is_short(report):
                print(_told(report, command), flush=True)
            elif len(todo) == 1:
                print(f"seed {report.seed} is clean (trace {report.crc:08x})")
    totals.tell(tables=len(todo) > 1)
    return 1 if totals.counted["failed"] or totals.counted["short"] else 0


if __name__ == "__main__":
    main()
