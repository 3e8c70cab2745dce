"""Does the simulator notice? `python scripts/planted_bugs.py [--only NAME] [--seeds N] [--jobs J] [--first K] [--list]`.

Each planted bug (`tests/planted/`) is the program with one rule of the protocol removed, in the memory of a process of its own; seeds of
the simulator run over it until one finds something. A find counts only if it is a checker's violation or an assertion of the program, and
if the same seed is clean without the bug. The report is a table. Ends with 0 when every bug was found within --seeds.

    --redundant     try those that no seed can tell, because another rule covers them (docs/testing.md); one that is found fails

Read next: `tests/planted/__init__.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import NamedTuple

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

from tests.planted import DoesNotApply, Mutation, changed  # noqa: E402
from tests.planted.catalogue import MUTATIONS  # noqa: E402
from tests.planted.hunt import CLEAN, CRASH, FOUND, STUCK, Said  # noqa: E402

SEEDS = 2000  # within so many every bug must be found


class Hunt(NamedTuple):
    """What came of one mutation. `seed`: of the find, 0: none; `seeds`: run until then; `passed_over`: finds that did not count."""

    mutation: Mutation
    seed: int
    seeds: int
    sentence: str
    passed_over: int
    seconds: float


def listen(name: str, first: int, count: int, draws: Iterable[str] = ()) -> Iterator[Said]:
    """What a child says of these seeds; one that ends without a word has crashed."""
    command = [sys.executable, "-m", "tests.planted.hunt", name, str(first), str(count), *draws]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        last = None
        for line in child.stdout:
            yield (last := Said(*json.loads(line)))
    if last is None or last.what not in (FOUND, CLEAN):
        raise RuntimeError(f"the child for {name or 'the control'} ended with status {child.returncode}")


def hunt(mutation: Mutation, first: int, seeds: int, draws: Iterable[str] = ()) -> Hunt:
    """Run seeds over the mutation until a find that counts."""
    began, seed, passed_over = time.monotonic(), first, 0
    while seed < first + seeds:
        for said in listen(mutation.name, seed, first + seeds - seed, draws):
            if said.what in (CRASH, STUCK):
                passed_over += 1
                print(f"{mutation.name}: seed {said.seed} does not count: {said.sentence}", file=sys.stderr, flush=True)
        if said.what == CLEAN:
            break
        control = [heard.what for heard in listen("", said.seed, 1)]
        if control == [CLEAN]:
            sentence = said.sentence.splitlines()[0]
            return Hunt(mutation, said.seed, said.seed - first + 1, sentence, passed_over, time.monotonic() - began)
        passed_over += 1
        print(f"{mutation.name}: seed {said.seed} fails without the bug too", file=sys.stderr, flush=True)
        seed = said.seed + 1
    return Hunt(mutation, 0, seeds, "", passed_over, time.monotonic() - began)


def chosen(asked: argparse.Namespace) -> list[Mutation]:
    """Those that are to be tried."""
    if asked.only:
        return [MUTATIONS[name] for name in asked.only]
    found = [m for m in MUTATIONS.values() if bool(m.redundant) == asked.redundant]
    return found[: asked.first] if asked.first else found


def row(found: Hunt) -> str:
    """A line of the report's table."""
    name, rule = found.mutation.name, found.mutation.rule
    where = f"seed {found.seed}, the {found.seeds}." if found.seed else f"NOT FOUND in {found.seeds}"
    return f"| `{name}` | {rule} | {where} | {found.sentence.replace('|', '¦')[:160]} |"


def main() -> int:
    """Read the command line, hunt, report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", action="append", default=[], metavar="NAME", choices=tuple(MUTATIONS), help="this bug; may be repeated")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="how many each may need")
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--with", action="append", default=[], metavar="FAULT", dest="draws", help="only seeds that draw this; a shortcut")
    parser.add_argument("--first", type=int, default=0, metavar="K", help="only the first K bugs")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="bugs that are looked for at the same time")
    parser.add_argument("--redundant", action="store_true", help="those that another rule covers")
    parser.add_argument("--list", action="store_true", help="names and rules, nothing is run")
    asked = parser.parse_args()
    mutations = chosen(asked)
    try:
        for mutation in mutations:
            changed(mutation)
    except DoesNotApply as error:
        print(error, file=sys.stderr)
        return 1
    if asked.list:
        for m in mutations:
            print(f"{m.name:32} {', '.join(sorted({e.file for e in m.edits})):34} {m.rule}")
        return 0
    return report(mutations, asked)


def report(mutations: list[Mutation], asked: argparse.Namespace) -> int:
    """Hunt them all, and say what came of it."""
    began, found = time.monotonic(), []
    print("| bug | rule that is missing | found at | what was said |\n| --- | --- | --- | --- |", flush=True)
    with ThreadPoolExecutor(asked.jobs) as pool:
        for done in as_completed([pool.submit(hunt, m, asked.seed, asked.seeds, asked.draws) for m in mutations]):
            found.append(result := done.result())
            print(row(result), flush=True)
    missed = [h.mutation.name for h in found if bool(h.seed) == bool(h.mutation.redundant)]
    total = sum(h.seeds for h in found)
    print(f"\n{len(found)} bugs, {sum(bool(h.seed) for h in found)} found, {total} seeds in {time.monotonic() - began:.0f} s")
    if missed:
        print(f"{'found, though called redundant' if asked.redundant else 'NOT FOUND'}: {', '.join(missed)}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
