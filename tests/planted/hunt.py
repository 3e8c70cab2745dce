"""One process that looks for one planted bug: `python -m tests.planted.hunt NAME FIRST COUNT`; an empty NAME plants nothing.

What it is not: it does not judge the mutation; `scripts/planted_bugs.py` starts it, reads what it says and runs the control.

It runs seeds from FIRST on until the first find, and says each thing in a line of JSON (`Said`):

    found     a checker's violation, or an assertion of the program: that counts
    crash     another exception of the program: a mutation that breaks Python and not the protocol; the next seed follows
    stuck     a seed took more than CPU_S seconds of this processor; the next seed follows
    clean     all seeds passed

Read next: `scripts/planted_bugs.py`.
"""

from __future__ import annotations

import gc
import json
import re
import signal
import sys
from types import FrameType
from typing import NamedTuple

from tests.planted import plant
from tests.planted.catalogue import MUTATIONS

CPU_S = 40.0  # seconds of processor time; a seed takes half of one
FOUND, CRASH, STUCK, CLEAN = "found", "crash", "stuck", "clean"
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


def _one(seed: int) -> Said | None:
    from tests.simulator.simulation import simulate  # imports the program: not before the bug is planted

    signal.setitimer(signal.ITIMER_VIRTUAL, CPU_S)
    try:
        violation = simulate(seed).violation
    except Stuck:
        return Said(STUCK, seed, f"took more than {CPU_S:.0f} s")
    except Exception as error:
        return Said(CRASH, seed, f"{type(error).__name__}: {error}")
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        gc.collect()
    return Said(judge(violation), seed, violation) if violation else None


def main(name: str, first: int, count: int) -> None:
    """Plant and look."""
    if name:
        plant(MUTATIONS[name])
    signal.signal(signal.SIGVTALRM, _give_up)
    gc.disable()
    for seed in range(first, first + count):
        said = _one(seed)
        if said is not None:
            print(json.dumps(said), flush=True)
            if said.what == FOUND:
                return
    print(json.dumps(Said(CLEAN, first + count - 1, "")), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
