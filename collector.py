"""The garbage collector, spared what stays: most of what a server makes is an account, a message or a session.

What it is not: it frees nothing earlier. What goes holds no circles (a guest's connection lets go of its translator at its end), but for
the odd exception; a look through everything would stop all guests for that long.

Read next: `admin.py`, `host.py` (where it is spared).
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

GARBAGE = (10_000, 20, 500)  # new objects until a look at the young: a millisecond; so many looks until one at the older, and at all


@contextlib.contextmanager
def spared() -> Iterator[None]:
    """While a state is read from the disk nothing is looked through; afterwards all there is counts as what stays."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.set_threshold(*GARBAGE)
        gc.enable()
