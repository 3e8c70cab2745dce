"""Spoil a replica's files in every place, one at a time, and see what it makes of them: `python scripts/corruption_sweep.py --full`.

    --every N     every Nth place of each file (default 97); --full: every one
    --only WORD   only files with this in their path, such as .seg or superblock
    --seconds T   stop after so long; what was not tried is said
    --repairs N   so many of the damages are also tried with two healthy replicas beside it

Exit code 1 when a replica believed what it should not have believed.

Read next: `tests/wreck.py` (what the outcomes mean).
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

from tests.wreck import OUTCOMES, Damage, Unsound, Wreck, small_sizes  # noqa: E402

Table = dict[tuple[str, str], Counter[str]]


def main() -> int:
    """Sweep, and print the table."""
    parser = argparse.ArgumentParser(description="Spoil a replica's files in every place, one at a time.")
    parser.add_argument("--every", type=int, default=97)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--only", default="")
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--repairs", type=int, default=60)
    asked = parser.parse_args()
    began = time.monotonic()
    with small_sizes():
        wreck = Wreck()
        table: Table = {}
        examples: dict[tuple[str, str, str], str] = {}
        wrong: list[str] = []
        every = 1 if asked.full else asked.every
        damages = [damage for damage in wreck.damages() if asked.only in damage[1]]
        whole = sweep(wreck, damages, every, began + asked.seconds, table, examples, wrong)
        show(table, examples)
        mended = repairs(wreck, asked.repairs, wrong)
    tried = sum(sum(counts.values()) for counts in table.values())
    print(f"\n{tried} damages tried, {mended} repaired beside healthy replicas, {len(wrong)} wrong, {time.monotonic() - began:.0f} s")
    if not whole:
        print("stopped by --seconds: not all places were tried")
    print("\n".join(wrong[:20]))
    return 1 if wrong else 0


def sweep(
    wreck: Wreck,
    damages: list[tuple[str, str, int]],
    every: int,
    until: float,
    table: Table,
    examples: dict[tuple[str, str, str], str],
    wrong: list[str],
) -> bool:
    """Every so-manieth place of these files, alone. False: there was no time for all."""
    for kind, path, places in damages:
        row = table.setdefault((group(path), kind), Counter())
        for at in range(0, places, every):
            try:
                verdict = wreck.alone(Damage(kind, path, at), thorough=at // every % 50 == 0)
            except Unsound as error:
                wrong.append(str(error))
                row["WRONG"] += 1
                print(f"WRONG: {error}", file=sys.stderr, flush=True)
                continue
            if verdict is not None:
                row[verdict.outcome] += 1
                examples.setdefault((group(path), kind, verdict.outcome), verdict.words)
            if time.monotonic() > until:
                return False
        print(f"{path}: {kind} done; all {kind} of {group(path)}: {dict(row)}", file=sys.stderr, flush=True)
    return True


def repairs(wreck: Wreck, count: int, wrong: list[str]) -> int:
    """Some damages with two healthy replicas beside; a damaged register is for the operator alone."""
    places = [(kind, path, size) for kind, path, size in wreck.damages() if "/view-" not in path]
    done = 0
    for n in range(count):
        kind, path, size = places[n % len(places)]
        try:
            wreck.together(Damage(kind, path, size * (2 * n + 1) // (2 * count)))
            done += 1
        except Unsound as error:
            wrong.append(str(error))
    return done


def group(path: str) -> str:
    """What kind of file it is."""
    name = path.rpartition("/")[2]
    for word, kind in ((".seg", "journal"), ("view-", "register"), (".lock", "lock"), ("MANIFEST", "manifest"), (".csv", "tables")):
        if word in name:
            return kind
    return name


def show(table: Table, examples: dict[tuple[str, str, str], str]) -> None:
    """For people."""
    columns = (*OUTCOMES, "WRONG")
    print(f"{'file':<12}{'damage':<12}" + "".join(f"{column:>10}" for column in columns))
    for (file, kind), counts in table.items():
        print(f"{file:<12}{kind:<12}" + "".join(f"{counts[column]:>10}" for column in columns))
    print()
    for (file, kind, outcome), words in examples.items():
        print(f"{file}, {kind}, {outcome}: {' '.join(words.split())[:200]}")


if __name__ == "__main__":
    sys.exit(main())
