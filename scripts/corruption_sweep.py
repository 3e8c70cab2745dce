"""Spoil a replica's files in every place, one at a time, and see what it makes of them: `python scripts/corruption_sweep.py --full`.

Exit code 1 when a replica believed what it should not have believed, or was not repaired by healthy ones.

Read next: `tests/sweep.py` (how), `tests/wreck.py` (what the outcomes mean).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from typing import Any

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

if __name__ == "__main__":
    import bootstrap

    bootstrap.ensure(bootstrap.PACKAGES)


from tests.sweep import TRIAL, Sweep  # noqa: E402
from tests.wreck import OUTCOMES, Wreck, small_sizes  # noqa: E402

Row = dict[str, Any]


def main() -> int:
    """Sweep, and print the table."""
    parser = argparse.ArgumentParser(description="Spoil a replica's files in every place, one at a time.")
    parser.add_argument("--every", type=int, default=97, metavar="N", help="only every Nth place of each file (default: 97)")
    parser.add_argument("--full", action="store_true", help="every place")
    parser.add_argument("--only", default="", metavar="WORD", help="only files with this in their path, such as .seg or superblock")
    parser.add_argument(
        "--trial",
        type=int,
        default=TRIAL,
        metavar="N",
        help=f"of damages with the same finding every Nth is tried in a whole start (default: {TRIAL})",
    )
    parser.add_argument("--log", default="", metavar="FILE", help="note what is done; a run that was ended goes on behind it")
    parser.add_argument("--seconds", type=float, default=float("inf"), metavar="T", help="stop after so long; what was not tried is said")
    asked = parser.parse_args()
    began, every = time.monotonic(), 1 if asked.full else asked.every
    rows = noted(asked.log, every)
    done = {(row["kind"], row["path"]) for row in rows}
    left = 0
    with small_sizes():
        sweep = Sweep(Wreck())
        for kind, path, places in sweep.wreck.damages():
            if asked.only not in path or (kind, path) in done:
                continue
            if time.monotonic() - began > asked.seconds:
                left += 1
                continue
            busy = time.process_time()
            row: Row = sweep.row(kind, path, range(0, places, every), asked.trial)._asdict()
            row = {**row, "findings": len(row["findings"]), "seconds": round(time.process_time() - busy, 1), "every": every}
            rows.append(row)
            note(asked.log, row)
            print(f"{path}: {kind}: {row['tried']} tried in {row['seconds']} s, {dict(row['outcomes'])}", file=sys.stderr, flush=True)
    wrong = show(rows)
    print(f"{time.monotonic() - began:.0f} s, {sum(row['seconds'] for row in rows):.0f} s of processor time")
    if left:
        print(f"stopped by --seconds: {left} files and kinds of damage were not tried")
    return 1 if wrong else 0


def noted(log: str, every: int) -> list[Row]:
    """What an earlier run has done, of so many places at least: a sample does not pass for all of them."""
    if not log or not os.path.exists(log):
        return []
    with open(log, encoding="utf-8") as file:
        return [row for line in file if (row := json.loads(line))["every"] <= every]


def note(log: str, row: Row) -> None:
    """This much is done."""
    if log:
        with open(log, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def group(path: str) -> str:
    """What kind of file it is."""
    name = path.rpartition("/")[2]
    for word, kind in ((".seg", "journal"), ("view-", "register"), (".lock", "lock"), ("MANIFEST", "manifest"), (".csv", "tables")):
        if word in name:
            return kind
    return name


def show(rows: list[Row]) -> int:
    """For people, and for docs/testing.md. How many were wrong."""
    table: dict[tuple[str, str], Counter[str]] = {}
    examples: dict[tuple[str, str, str], str] = {}
    for row in rows:
        key = group(row["path"]), row["kind"]
        counts = table.setdefault(key, Counter())
        counts.update(row["outcomes"])
        counts.update({name: row[name] for name in ("tried", "findings", "started", "repaired")})
        for outcome, words in row["examples"].items():
            examples.setdefault((*key, outcome), words)
    columns = ("tried", *OUTCOMES, "WRONG", "findings", "started", "repaired")
    print("| file | damage | " + " | ".join(columns) + " |\n" + "| --- " * (len(columns) + 2) + "|")
    for (file, kind), counts in table.items():
        print(f"| {file} | {kind} | " + " | ".join(f"{counts[column]:,}" for column in columns) + " |")
    total = sum(table.values(), Counter[str]())
    print("| all | | " + " | ".join(f"{total[column]:,}" for column in columns) + " |\n")
    for (file, kind, outcome), words in examples.items():
        print(f"{file}, {kind}, {outcome}: {' '.join(words.split())[:200]}")
    wrong = [sentence for row in rows for sentence in row["wrong"]]
    print("\n".join(["", *wrong[:20]]))
    return len(wrong)


if __name__ == "__main__":
    sys.exit(main())
