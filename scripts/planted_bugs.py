"""Does the simulator notice? `python scripts/planted_bugs.py [--only NAME] [--seeds N] [--jobs J] [--results FILE] [--list]`.

Each planted bug (`tests/planted/`) is the program with one rule of the protocol removed, in the memory of a process of its own; seeds of
the simulator run over it until one finds something. A find counts only if it is a checker's violation or an assertion of the program, and
if the same seed is clean without the bug. The report is a table. Ends with 0 when every bug was found within --seeds.

    --redundant     try those that no seed can tell, because another rule covers them (docs/testing.md); one that is found fails
    --results FILE  keep what came of each and go on from there: after an interruption, or with more seeds. It counts for the simulator and
                    the bugs that it was found with; when either changes, everything is hunted anew
    --minutes M     begin with none that is not begun after so long, and stop the others: with --results a later run goes on
    --table         hunt nothing, print the table of docs/testing.md from --results

Read next: `tests/planted/__init__.py`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import NamedTuple

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

if __name__ == "__main__":
    import bootstrap

    bootstrap.ensure(bootstrap.PACKAGES)


from tests.planted import DoesNotApply, Mutation, changed  # noqa: E402
from tests.planted.catalogue import MUTATIONS  # noqa: E402
from tests.planted.hunt import CLEAN, CRASH, FOUND, STUCK, Said  # noqa: E402

SEEDS = 2000  # within so many every bug must be found
STEPS = (1, 3, 10, 30, 100, 300, SEEDS)  # seeds: a row of the table in docs/testing.md each


class Hunt(NamedTuple):
    """What came of one mutation. `seed`: of the find, 0: none; `seeds`: run so far; `passed_over`: finds that did not count.

    `draws`: of some of these seeds only those were run that draw this.
    """

    name: str
    seed: int = 0
    seeds: int = 0
    sentence: str = ""
    passed_over: int = 0
    draws: str = ""

    @property
    def mutation(self) -> Mutation:
        return MUTATIONS[self.name]


class Results:
    """What came of each, in memory and, if there is a path, in a file that is whole at any time."""

    def __init__(self, path: str) -> None:
        self.path, self.lock = path, threading.Lock()
        self.version = version()
        self.hunts: dict[str, Hunt] = {}
        if path and os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                kept = json.load(file)
            if kept["version"] == self.version:
                self.hunts = {h[0]: Hunt(*h) for h in kept["hunts"]}

    def of(self, name: str) -> Hunt:
        return self.hunts.get(name, Hunt(name))

    def keep(self, hunt: Hunt) -> None:
        with self.lock:
            self.hunts[hunt.name] = hunt
            if self.path:
                with open(f"{self.path}.new", "w", encoding="utf-8") as file:
                    json.dump({"version": self.version, "hunts": sorted(self.hunts.values())}, file, indent=1)
                os.replace(f"{self.path}.new", self.path)


def version() -> str:
    """Of the simulator and the bugs: another one finds other seeds."""
    digest = hashlib.sha256()
    for directory in ("tests/simulator", "tests/planted"):
        for name in sorted(os.listdir(os.path.join(ROOT, directory))):
            if name.endswith(".py"):
                with open(os.path.join(ROOT, directory, name), "rb") as file:
                    digest.update(file.read())
    return digest.hexdigest()[:16]


def listen(name: str, policy: str, first: int, count: int, draws: Iterable[str] = ()) -> Iterator[Said]:
    """What a child says of these seeds; one that ends without a word has crashed."""
    command = [sys.executable, "-m", "tests.planted.hunt", name, policy, str(first), str(count), *draws]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        last = None
        try:
            for line in child.stdout:
                yield (last := Said(*json.loads(line)))
        except GeneratorExit:  # what it would say is not awaited
            child.kill()
            raise
    if last is None or last.what not in (FOUND, CLEAN):
        raise RuntimeError(f"the child for {name or 'the control'} ended with status {child.returncode}")


def hunt(known: Hunt, asked: argparse.Namespace, results: Results, until: float) -> Hunt:
    """Run seeds over the mutation until a find that counts, or until it is time to stop."""
    mutation, last = known.mutation, asked.seed + asked.seeds
    if not known.seed and asked.draws:
        known = known._replace(draws=", ".join(asked.draws))
    while not known.seed and asked.seed + known.seeds < last and time.monotonic() < until:
        for said in listen(mutation.name, mutation.policy, asked.seed + known.seeds, last - asked.seed - known.seeds, asked.draws):
            known = known._replace(seeds=said.seed - asked.seed + 1)
            if said.what in (CRASH, STUCK):
                known = known._replace(passed_over=known.passed_over + 1)
                print(f"{mutation.name}: seed {said.seed} does not count: {said.sentence}", file=sys.stderr, flush=True)
            if said.what == FOUND:
                control = [heard.what for heard in listen("", mutation.policy, said.seed, 1)]
                if control == [CLEAN]:
                    known = known._replace(seed=said.seed, sentence=said.sentence.splitlines()[0])
                else:
                    known = known._replace(passed_over=known.passed_over + 1)
                    print(f"{mutation.name}: seed {said.seed} fails without the bug too", file=sys.stderr, flush=True)
            results.keep(known)
            if time.monotonic() > until:
                break
    return known


def chosen(asked: argparse.Namespace) -> list[Mutation]:
    """Those that are to be tried."""
    if asked.only:
        return [MUTATIONS[name] for name in asked.only]
    found = [m for m in MUTATIONS.values() if bool(m.redundant) == asked.redundant]
    return found[: asked.first] if asked.first else found


def row(found: Hunt) -> str:
    """A line of the report's table."""
    where = f"seed {found.seed}, the {found.seeds}." if found.seed else f"NOT FOUND in {found.seeds}"
    return f"| `{found.name}` | {found.mutation.rule} | {where} | {found.sentence.replace('|', '¦')[:160]} |"


def tables(results: Results) -> Iterator[str]:
    """What stands in docs/testing.md: how many seeds each needed, policy by policy."""
    found = [results.of(m.name) for m in MUTATIONS.values() if not m.redundant]
    for policy in sorted({h.mutation.policy for h in found}, reverse=True):
        own = [h for h in found if h.mutation.policy == policy]
        yield f"\n**{policy}**: {sum(bool(h.seed) for h in own)} of {len(own)} are found.\n"
        yield "| within | bugs (the seed) |\n| --- | --- |"
        for before, most in zip((0, *STEPS), STEPS, strict=False):
            names = [
                f"`{h.name}` {'≤ ' * bool(h.draws)}{h.seeds}"
                for h in sorted(own, key=lambda h: (h.seeds, h.name))
                if h.seed and before < h.seeds <= most
            ]
            if names:
                yield f"| {most} | {', '.join(names)} |"
    missed = [f"`{h.name}` ({'at most ' * bool(h.draws)}{h.seeds} seeds)" for h in found if not h.seed]
    seeds = sum(h.seeds for h in found)
    about, none = "at most " * any(h.draws for h in found), ", ".join(missed) or "none"
    yield f"\n{len(found) - len(missed)} of {len(found)} found, in {about}{seeds} seeds all together. Not found: {none}."
    yield "\n| redundant | what covers it |\n| --- | --- |"
    yield from (f"| `{m.name}` | {m.redundant} |" for m in MUTATIONS.values() if m.redundant)


def main() -> int:
    """Read the command line, hunt, report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", action="append", default=[], metavar="NAME", choices=tuple(MUTATIONS), help="this bug; may be repeated")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="how many each may need")
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--with", action="append", default=[], metavar="FAULT", dest="draws", help="only seeds that draw this; a shortcut")
    parser.add_argument("--first", type=int, default=0, metavar="K", help="only the first K bugs")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="bugs that are looked for at the same time")
    parser.add_argument("--results", default="", metavar="FILE", help="keep what came of each here, and go on from there")
    parser.add_argument("--minutes", type=float, default=1e6, metavar="M", help="stop after so long")
    parser.add_argument("--table", action="store_true", help="print the table of docs/testing.md from --results")
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
    results = Results(asked.results)
    if asked.table:
        print("\n".join(tables(results)))
        return 0
    return report(mutations, asked, results)


def report(mutations: list[Mutation], asked: argparse.Namespace, results: Results) -> int:
    """Hunt them all, those first that have had the fewest seeds, and say what came of it."""
    began, found = time.monotonic(), []
    until = began + asked.minutes * 60
    todo = sorted((results.of(m.name) for m in mutations), key=lambda h: h.seeds)
    print("| bug | rule that is missing | found at | what was said |\n| --- | --- | --- | --- |", flush=True)
    with ThreadPoolExecutor(asked.jobs) as pool:
        for done in as_completed([pool.submit(hunt, known, asked, results, until) for known in todo]):
            found.append(result := done.result())
            print(row(result), flush=True)
    missed = [h.name for h in found if bool(h.seed) == bool(h.mutation.redundant)]
    total = sum(h.seeds for h in found)
    print(f"\n{len(found)} bugs, {sum(bool(h.seed) for h in found)} found, {total} seeds in {time.monotonic() - began:.0f} s")
    if missed:
        print(f"{'found, though called redundant' if asked.redundant else 'NOT FOUND'}: {', '.join(missed)}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
