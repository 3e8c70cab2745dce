"""The compiled form of the busiest modules, where there is one: made of the very same sources, and imported in their place.

What it is not: it compiles nothing (`scripts/compile.py` does), and nobody needs it: where there is no such form, the sources run as ever.

    .compiled/PYTHON-DIGEST/    holds a form for this kind of Python, made of sources with this digest   →  its modules are imported
    there is none               nobody has made one, or a source has changed since                       →  the sources are

The digest is that of all the program's sources, not only of those that are compiled: types and constants of the others are built into them.
`UNDERSTUDY_COMPILED` is the path of another directory than `.compiled`, or `no`.

Read next: docs/decisions/0015-compiled-if-you-like.md, `scripts/compile.py`.
"""

from __future__ import annotations

import glob
import hashlib
import os
import sys
from collections.abc import Sequence
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec
from importlib.util import spec_from_file_location
from types import ModuleType

from bootstrap import HOME

SUFFIX = EXTENSION_SUFFIXES[0]  # .cpython-311-x86_64-linux-gnu.so
SWITCH = "UNDERSTUDY_COMPILED"
# Not among them: structs of msgspec (`packets`, `events`, `settings`), which a compiler of Python cannot take; what is rarely run; and
# `register`, into which the simulator looks.
MODULES = (
    *("people", "policy", "peers", "replication", "survivor", "majority", "state", "rights", "ledger", "room", "told", "waiting"),
    *("reading", "noting", "connection", "desk", "queries", "journal", "segments", "storage", "errands", "link", "links", "host"),
    *("listening", "exchange", "server", "registrar", "upkeep", "batches", "steps", "commands", "disk", "together", "attempts", "answers"),
    *("doors.contract", "doors.calls", "doors.lines", "doors.pipe", "doors.pipe_words", "doors.sends", "doors.stream", "doors.ledger"),
    *("doors.menu", "doors.room", "doors.framed", "doors.turns", "tables", "courtesy"),
)


def sources(home: str) -> list[str]:
    """All that the program is made of, relative to its home."""
    return sorted(glob.glob("*.py", root_dir=home) + glob.glob("doors/*.py", root_dir=home))


def name_of(home: str) -> str:
    """Of the directory that holds the compiled form of these sources for this Python."""
    whole = hashlib.sha256()
    for path in sources(home):
        with open(os.path.join(home, path), "rb") as file:
            whole.update(f"{path}\0".encode() + hashlib.sha256(file.read()).digest())
    return f"{SUFFIX.split('.')[1]}-{whole.hexdigest()[:16]}"


def base() -> str:
    """Where compiled forms are; empty: they are not wanted."""
    wanted = os.environ.get(SWITCH, "")
    return "" if wanted == "no" else wanted or os.path.join(HOME, ".compiled")


class Finder:
    """Comes before all other finders, and knows the modules in one directory alone."""

    def __init__(self, where: str) -> None:
        found = glob.glob(f"**/*{SUFFIX}", root_dir=where, recursive=True)
        self.paths = {path.removesuffix(SUFFIX).replace(os.sep, "."): os.path.join(where, path) for path in found}

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """As Python asks it."""
        return spec_from_file_location(name, self.paths[name]) if name in self.paths else None


def use() -> bool:
    """From here on these modules are imported in their compiled form, if there is one; says whether. None may have been imported before."""
    where = base() and os.path.join(base(), name_of(HOME))
    if where and os.path.isdir(where):
        assert not sys.modules.keys() & {*MODULES}, "half of the program would be of the one form, half of the other"
        sys.meta_path.insert(0, Finder(where))
    return is_in_use()


def form() -> str:
    """The same in words."""
    return "compiled" if is_in_use() else "the sources"


def is_in_use() -> bool:
    """Whether this process runs the compiled form."""
    return any(isinstance(finder, Finder) for finder in sys.meta_path)
