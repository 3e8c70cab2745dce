"""Search a model of the view protocol: `python scripts/model_check.py [--model NAME] [--bounds …] [--seconds T] [--bug NAME]`.

    --model survivor    breadth-first, the default; --bounds OPS,CRASHES,RESTARTS,VIEWS[,SPOILINGS]
    --model walk        random walks in finer steps; the same bounds
    --model majority    random walks; --bounds OPS,CRASHES,VIEWS (whoever crashes may restart)
    --bug NAME          with this rule removed: what it breaks must be found. `all`: each in turn

A find is printed as the story that leads to it. Ends with 0 when the protocol is clean, or when every planted bug is found.

Read next: docs/model.md.
"""

from __future__ import annotations

import argparse
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

from tests.model.explore import Found, Model, breadth_first, walk  # noqa: E402
from tests.model.majority import MAJORITY_BOUNDS, MAJORITY_BUGS, MajorityModel  # noqa: E402
from tests.model.survivor import BUGS, SMALL, SurvivorModel  # noqa: E402
from tests.model.walk import WALK_BOUNDS, WALK_BUGS, WalkModel  # noqa: E402

Bounds = tuple[int, ...]
BUGS_OF = {"survivor": tuple(BUGS), "walk": tuple(WALK_BUGS), "majority": tuple(MAJORITY_BUGS)}


def bounds_for(model: str, bug: str) -> Bounds:
    """Where a search begins when nothing else is asked for."""
    if model == "survivor":
        return BUGS[bug][0] if bug else SMALL
    if model == "walk":
        return WALK_BUGS[bug][0] if bug else WALK_BOUNDS
    return MAJORITY_BOUNDS


def seed_for(model: str, bug: str) -> int:
    """A seed that finds the bug soon."""
    seeds = {name: seed for name, (_, seed, _) in WALK_BUGS.items()} if model == "walk" else {}
    seeds |= {name: seed for name, (seed, _) in MAJORITY_BUGS.items()} if model == "majority" else {}
    return seeds.get(bug, 1)


def model_for(name: str, bounds: Bounds, bug: str) -> Model:
    """The model, with one rule removed."""
    if name == "majority":
        batches, crashes, views = bounds
        return MajorityModel(batches, crashes, views, bug)
    kind = WalkModel if name == "walk" else SurvivorModel
    return kind(*bounds, bug=bug)


def search(name: str, bounds: Bounds, bug: str, seconds: float, seed: int) -> Found:
    """One search, with a line on stderr that says how far it is."""
    model = model_for(name, bounds, bug)
    if name == "survivor":
        return breadth_first(model, seconds, show)
    return walk(model, seed, sys.maxsize, seconds, show)


def show(states: int, waiting: int, depth: int, seconds: float) -> None:
    """Progress, where somebody looks at it."""
    if sys.stderr.isatty():
        rest = f", {waiting:,} open" if waiting >= 0 else ""
        print(
            f"\r{states:,}{rest}, {depth} deep, {seconds:.0f} s, {states / max(seconds, 0.001):,.0f}/s ",
            end="",
            file=sys.stderr,
            flush=True,
        )


def main() -> int:
    """Read the command line, search, report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", choices=tuple(BUGS_OF), default="survivor")
    parser.add_argument("--bounds", type=lambda text: tuple(int(n) for n in text.split(",")), help="numbers with commas between them")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each search")
    parser.add_argument("--bug", default="", help="rule to remove, or `all`")
    parser.add_argument("--seed", type=int, help="of the walks")
    asked = parser.parse_args()
    known = BUGS_OF[asked.model]
    if asked.bug not in ("", "all", *known):
        parser.error(f"model {asked.model} knows the bugs {', '.join(known)}")
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.environ["PYTHONHASHSEED"] = "0"  # the order of sets is part of how soon something is found
        os.execv(sys.executable, [sys.executable, *sys.argv])
    wrong = 0
    for bug in known if asked.bug == "all" else (asked.bug,):
        bounds = asked.bounds or bounds_for(asked.model, bug)
        seed = asked.seed if asked.seed is not None else seed_for(asked.model, bug)
        try:
            found = search(asked.model, bounds, bug, asked.seconds, seed)
        except (ValueError, TypeError):
            parser.error("--bounds: " + ("OPS,CRASHES,VIEWS" if asked.model == "majority" else "OPS,CRASHES,RESTARTS,VIEWS[,SPOILINGS]"))
        end = "\r" if sys.stderr.isatty() else ""
        print(f"{end}{asked.model} {','.join(map(str, bounds))} {bug or 'as it is'}: {found}")
        if found.story and asked.bug != "all":
            print("\n".join(f"  {step:3} {sentence}" for step, sentence in enumerate(found.story, 1)))
        wrong += bool(found.violation) != bool(bug)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
