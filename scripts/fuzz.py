"""Feed every parser with nearly valid bytes: `python scripts/fuzz.py [--target NAME …] [--inputs N] [--seconds T] [--seed S]`.

What breaks something is kept in tests/corpus/ under its target, where the tests feed it for ever. Memory is limited to 192 MiB.

Read next: `tests/fuzzing/run.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
from collections import Counter
from typing import Any

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

if __name__ == "__main__":
    import bootstrap

    bootstrap.ensure(bootstrap.PACKAGES)


from tests.fuzzing import TARGETS  # noqa: E402
from tests.fuzzing.run import CORPUS, Report, Target, feed, fuzz, timed, write_seeds  # noqa: E402

MEMORY_MAX = 192 << 20  # bytes; the process needs 60 MiB for itself
FINDS_MAX = 10  # of one target; then it is somebody's turn to look
PIECE = 20_000  # inputs between two lines of the log


def main() -> int:
    """Read the command line, fuzz, report."""
    parser = argparse.ArgumentParser(description="Feed every parser with nearly valid bytes.")
    parser.add_argument(
        "--target",
        choices=sorted(TARGETS),
        nargs="+",
        default=list(TARGETS),
        metavar="NAME",
        help=f"of {', '.join(sorted(TARGETS))} (default: all)",
    )
    parser.add_argument("--inputs", type=int, default=20_000, metavar="N", help="of each target (default: 20,000)")
    parser.add_argument("--seconds", type=float, default=float("inf"), metavar="T", help="of each target, at most; not with --log")
    parser.add_argument("--seed", type=int, default=1, help="of the inputs (default: 1)")
    parser.add_argument(
        "--log", metavar="FILE", help="a long run in pieces: each is noted in FILE, and a run that was ended goes on where FILE ends"
    )
    parser.add_argument("--table", action="store_true", help="nothing but the table of what FILE says")
    parser.add_argument("--replay", metavar="INPUT", help="feed this one file to --target and print what happens")
    parser.add_argument("--seeds", action="store_true", help="write the corpus of valid inputs anew")
    asked = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_MAX, MEMORY_MAX))
    targets = [TARGETS[name] for name in asked.target]
    if asked.seeds:
        for target in targets:
            write_seeds(target)
        return 0
    if asked.table:
        return table(pieces_of(asked.log))
    if asked.replay:
        with open(asked.replay, "rb") as file, timed():
            outcome, find = feed(targets[0], file.read())
        print(find.story if find else outcome)
        return 1 if find else 0
    finds = 0
    for target in targets:
        finds += long_run(target, asked) if asked.log else show(fuzz(target, seed=asked.seed, inputs=asked.inputs, seconds=asked.seconds))
    print(f"{finds} finds; at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB of memory")
    return 1 if finds else 0


def long_run(target: Target, asked: argparse.Namespace) -> int:
    """Piece by piece, from where the log ends. Returns the number of finds, those of earlier pieces included."""
    before = [piece for piece in pieces_of(asked.log) if piece["target"] == target.name and piece["seed"] == asked.seed]
    first = sum(piece["inputs"] for piece in before)
    finds: int = sum(piece["finds"] for piece in before)
    while first < asked.inputs and finds < FINDS_MAX:
        report = fuzz(target, seed=asked.seed, first=first, inputs=min(PIECE, asked.inputs - first))
        finds += show(report)
        first += report.inputs
        piece = {**report._asdict(), "finds": len(report.finds), "seed": asked.seed}
        with open(asked.log, "a", encoding="utf-8") as file:
            file.write(json.dumps(piece) + "\n")
    return finds


def pieces_of(log: str) -> list[dict[str, Any]]:
    """What a long run has noted so far."""
    if not log or not os.path.exists(log):
        return []
    with open(log, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def show(report: Report) -> int:
    """One line a target, and where the finds are, whose number is returned."""
    outcomes = ", ".join(f"{outcome} {count}" for outcome, count in sorted(report.outcomes.items()))
    rate = report.inputs / max(report.busy, 1e-9)
    print(
        f"{report.target:<11}{report.inputs:>9} inputs {rate:>8.0f} a second of processor time, slowest {report.slowest * 1000:.0f} ms,"
        f" {report.resident} MiB: {outcomes}",
        flush=True,
    )
    for find in report.finds:
        path = CORPUS / report.target / find.file_name
        path.write_bytes(find.image)
        print(f"  {path.relative_to(ROOT)}: {find.story.strip().splitlines()[-1][:200]}", flush=True)
    return len(report.finds)


def table(pieces: list[dict[str, Any]]) -> int:
    """What a long run came to, for docs/testing.md."""
    print("| target | inputs | a second | slowest | memory at most | finds | fates |\n| --- | --- | --- | --- | --- | --- | --- |")
    for name in TARGETS:
        own = [piece for piece in pieces if piece["target"] == name]
        if own:
            fates: Counter[str] = Counter()
            for piece in own:
                fates.update(piece["outcomes"])
            inputs, busy = (sum(piece[key] for piece in own) for key in ("inputs", "busy"))
            slowest, memory = (max(piece[key] for piece in own) for key in ("slowest", "resident"))
            print(
                f"| {name} | {inputs:,} | {inputs / busy:,.0f} | {slowest * 1000:.0f} ms | {memory} MiB"
                f" | {sum(piece['finds'] for piece in own)} | {', '.join(f'{fate} {n:,}' for fate, n in fates.most_common(4))} |"
            )
    return 1 if any(piece["finds"] for piece in pieces) else 0


if __name__ == "__main__":
    sys.exit(main())
