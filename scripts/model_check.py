"""Search a model of the view protocol: `python scripts/model_check.py [--model NAME] [--bounds …] [--seconds T] [--bug NAME]`.

    --model survivor    breadth-first, the default; --bounds OPS,CRASHES,RESTARTS,VIEWS[,SPOILINGS]
    --model walk        random walks in finer steps; the same bounds
    --model majority    random walks; --bounds OPS,CRASHES,VIEWS[,SPOILINGS[,1]]: whoever crashes may restart, the first view is 3,
                        and with 1 at the end the replicas begin with empty disks; --all searches it breadth-first
    --bug NAME          with this rule removed: what it breaks must be found. `all`: each in turn

A find is printed as the story that leads to it. Ends with 0 when the protocol is clean, or when every planted bug is found.

Read next: docs/model.md.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

from tests.model.explore import Found, Model, breadth_first, walk  # noqa: E402
from tests.model.majority import MAJORITY_BOUNDS, MAJORITY_BUGS, MajorityModel, opening_of  # noqa: E402
from tests.model.survivor import BUGS, SMALL, SurvivorModel  # noqa: E402
from tests.model.walk import WALK_BOUNDS, WALK_BUGS, WalkModel  # noqa: E402

Bounds = tuple[int, ...]
BUGS_OF = {"survivor": tuple(BUGS), "walk": tuple(WALK_BUGS), "majority": tuple(MAJORITY_BUGS)}
BOUNDS_OF = dict.fromkeys(BUGS_OF, "OPS,CRASHES,RESTARTS,VIEWS[,SPOILINGS]") | {"majority": "OPS,CRASHES,VIEWS[,SPOILINGS[,1]]"}


def bounds_for(model: str, bug: str) -> Bounds:
    """Where a search begins when nothing else is asked for."""
    if model == "survivor":
        return BUGS[bug][0] if bug else SMALL
    if model == "walk":
        return WALK_BUGS[bug][0] if bug else WALK_BOUNDS
    return MAJORITY_BUGS[bug][0] if bug else MAJORITY_BOUNDS


def seed_for(model: str, bug: str) -> int:
    """A seed that finds the bug soon."""
    seeds = {name: seed for name, (_, seed, _) in WALK_BUGS.items()} if model == "walk" else {}
    return seeds.get(bug, 1)


def model_for(name: str, bounds: Bounds, bug: str) -> Model:
    """The model, with one rule removed."""
    kinds: dict[str, Callable[..., Model]] = {"survivor": SurvivorModel, "walk": WalkModel, "majority": MajorityModel}
    return kinds[name](*bounds, bug=bug)


def search(name: str, bounds: Bounds, bug: str, seconds: float, seed: int, *, everything: bool) -> Found:
    """One search, with a line on stderr that says how far it is."""
    model = model_for(name, bounds, bug)
    if name == "survivor" or everything:
        return breadth_first(model, seconds, show)
    return walk(model, seed, sys.maxsize, seconds, show, opening_of(bug) if name == "majority" else ())


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
    parser.add_argument("--all", action="store_true", help="breadth-first, whatever the model")
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
            found = search(asked.model, bounds, bug, asked.seconds, seed, everything=asked.all)
        except (ValueError, TypeError):
            parser.error(f"--bounds: {BOUNDS_OF[asked.model]}")
        end = "\r" if sys.stderr.isatty() else ""
        print(f"{end}{asked.model} {','.join(map(str, bounds))} {bug or 'as it is'}: {found}")
        if found.story and asked.bug != "all":
            print("\n".join(f"  {step:3} {sentence}" for step, sentence in enumerate(found.story, 1)))
        wrong += bool(found.violation) != bool(bug)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
