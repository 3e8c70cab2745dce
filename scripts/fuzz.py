"""Feed every parser with nearly valid bytes: `python scripts/fuzz.py [--target NAME] [--inputs N] [--seconds T] [--seed S]`.

    --inputs N     of each target (default 20,000); --seconds T: of each target, at most
    --replay FILE  feed one input to --target and print what happens
    --seeds        write the corpus of valid inputs anew

What breaks something is kept in tests/corpus/ under its target, where the tests feed it for ever. Memory is limited to 512 MiB.

Read next: `tests/fuzzing/run.py`.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

from tests.fuzzing import disks, outside  # noqa: E402
from tests.fuzzing.run import CORPUS, Report, Target, feed, fuzz, timed, write_seeds  # noqa: E402

MEMORY_MAX = 512 << 20  # bytes; the process needs 60 MiB for itself
TARGETS: dict[str, Target] = {target.name: target for target in (*outside.TARGETS, *disks.TARGETS)}


def main() -> int:
    """Read the command line, fuzz, report."""
    parser = argparse.ArgumentParser(description="Feed every parser with nearly valid bytes.")
    parser.add_argument("--target", choices=sorted(TARGETS))
    parser.add_argument("--inputs", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--replay")
    parser.add_argument("--seeds", action="store_true")
    asked = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_MAX, MEMORY_MAX))
    targets = [TARGETS[asked.target]] if asked.target else list(TARGETS.values())
    if asked.seeds:
        for target in targets:
            write_seeds(target)
        return 0
    if asked.replay:
        with open(asked.replay, "rb") as file, timed():
            outcome, find = feed(targets[0], file.read())
        print(find.story if find else outcome)
        return 1 if find else 0
    finds = 0
    for target in targets:
        report = fuzz(target, seed=asked.seed, inputs=asked.inputs, seconds=asked.seconds)
        show(report)
        finds += len(report.finds)
    print(f"{finds} finds; at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB of memory")
    return 1 if finds else 0


def show(report: Report) -> None:
    """One line a target, and where the finds are."""
    outcomes = ", ".join(f"{outcome} {count}" for outcome, count in sorted(report.outcomes.items()))
    rate = report.inputs / max(report.seconds, 1e-9)
    print(f"{report.target:<11}{report.inputs:>9} inputs {rate:>8.0f}/s, slowest {report.slowest * 1000:.1f} ms: {outcomes}", flush=True)
    for find in report.finds:
        path = CORPUS / report.target / find.file_name
        path.write_bytes(find.image)
        print(f"  {path.relative_to(ROOT)}: {find.story.strip().splitlines()[-1][:200]}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
