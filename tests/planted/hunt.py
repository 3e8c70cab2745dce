"""One process that looks for one planted bug: `python -m tests.planted.hunt NAME POLICY FIRST COUNT [DRAW …]`; no NAME plants nothing.

What it is not: it does not judge the mutation; `scripts/planted_bugs.py` starts it, reads what it says and runs the control.

It runs seeds from FIRST on until the first find, of these only the ones that draw every DRAW: a fault, a theme of faults, a story, or
`repeats`, a network that repeats packets. It says each thing in a line of JSON (`Said`):

    found     a checker's violation, or an assertion of the program: that counts
    crash     another exception of the program: a mutation that breaks Python and not the protocol; the next seed follows
    stuck     a seed took more than CPU_S seconds of this processor; the next seed follows
    going on  all seeds up to this one passed
    clean     all seeds passed

Read next: `scripts/planted_bugs.py`.
"""

from __future__ import annotations

import gc
import json
import random
import re
import signal
import sys
from types import FrameType
from typing import NamedTuple

from tests.planted import plant
from tests.planted.catalogue import MUTATIONS

CPU_S = 40.0  # seconds of processor time; a seed takes half of one
SURVIVOR = "survivor"  # not from the program, which is not imported yet
FOUND, CRASH, STUCK, GOING_ON, CLEAN = "found", "crash", "stuck", "going on", "clean"
TOLD_EVERY = 10  # seeds
EXCEPTION = re.compile(r"replica \d+: (\w+): ")


class Said(NamedTuple):
    """What a seed came to."""

    what: str
    seed: int
    sentence: str


class Stuck(BaseException):
    """Nothing in the program catches it."""


def judge(violation: str) -> str:
    """Whether this is about the protocol: an exception that is no assertion is not."""
    raised = EXCEPTION.match(violation)
    return CRASH if raised and raised[1] != "AssertionError" else FOUND


def _give_up(signum: int, frame: FrameType | None) -> None:
    raise Stuck


def _one(seed: int, policy: str) -> Said | None:
    from tests.simulator.simulation import simulate  # imports the program: not before the bug is planted

    signal.setitimer(signal.ITIMER_VIRTUAL, CPU_S)
    try:
        violation = simulate(seed, policy=policy).violation
    except Stuck:
        return Said(STUCK, seed, f"took more than {CPU_S:.0f} s")
    except Exception as error:
        return Said(CRASH, seed, f"{type(error).__name__}: {error}")
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        gc.collect()
    return Said(judge(violation), seed, violation) if violation else None


def _draws(seed: int, policy: str, draws: list[str]) -> bool:
    from tests.simulator import hosts
    from tests.simulator import mix as mixes

    mix = (mixes if policy == SURVIVOR else hosts).draw(random.Random(seed))
    return {*mix.faults, mix.theme, mix.story, *(["repeats"] if mix.repeat else [])}.issuperset(draws)


def main(name: str, policy: str, first: int, count: int, draws: list[str]) -> None:
    """Plant and look."""
    if name:
        plant(MUTATIONS[name])
    signal.signal(signal.SIGVTALRM, _give_up)
    gc.disable()
    for seed in (seed for seed in range(first, first + count) if _draws(seed, policy, draws)):
        said = _one(seed, policy)
        if said is not None:
            print(json.dumps(said), flush=True)
            if said.what == FOUND:
                return
        elif not (seed - first + 1) % TOLD_EVERY:
            print(json.dumps(Said(GOING_ON, seed, "")), flush=True)
    print(json.dumps(Said(CLEAN, first + count - 1, "")), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5:])
