"""Runs the program with the packages it needs, whichever Python it was started with.

What it is not: it installs nothing; `scripts/start.sh` does. It imports nothing but the standard library, because it comes first.

    a package is missing, or this Python is too old   →  the same command line again under `.venv`'s Python
    that is not there, or lacks it too                →  one sentence, exit code 2

Read next: `scripts/environment.sh`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from importlib.util import find_spec

LEAST = (3, 11)
PACKAGES = ("argon2", "msgspec", "mypy_extensions", "pandas", "re2", "yaml")  # of a server, and of scripts that run one or a part of it
HOME = os.path.dirname(os.path.abspath(__file__))


def ensure(packages: Iterable[str]) -> None:
    """Return where these can be imported; else this process begins again elsewhere, or ends."""
    missing = [package for package in packages if find_spec(package) is None]
    if not missing and sys.version_info[:2] >= LEAST:
        return
    home = os.path.join(HOME, ".venv")
    python = os.path.join(home, "bin", "python")
    is_ours = os.path.realpath(sys.prefix) == os.path.realpath(home)  # then it would only begin again for ever
    if os.access(python, os.X_OK) and not is_ours:
        sys.stdout.flush()
        sys.stderr.flush()
        os.execv(python, [python, *sys.orig_argv[1:]])
    print("run: bash scripts/start.sh", file=sys.stderr)
    sys.exit(2)
