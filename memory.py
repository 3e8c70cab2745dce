"""What a client remembers for the next one: the files of sessions.

What it is not: it does not know what is in them (`guest.Guest.remember` does).

    $XDG_STATE_HOME/understudy/      0700; by default ~/.local/state/understudy
        session-00 … session-31      0600, one a running client, locked (flock) while it lives: two clients never share a session
        history                      what was typed in terminals, 0600

    written   before a request is sent; before messages are handed on ("may be shown"); after they were displayed
    removed   when the client ends in good order: the cluster has confirmed that everything displayed is acknowledged
    left      by a client that crashed: it can be taken up, and what it may have shown is marked when it is shown again

A file is one JSON line, written by one call: a client that is killed leaves the old line or the new one. What cannot be read is nothing.
Nothing is synced: these files guard against the death of a client, not of the machine.

Read next: `terminal.py`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from commands import SESSION_LIFE_US
from dialects import PIPE, Dialect
from guest import Guest, Mail

SLOTS = 32  # more clients at once run without a file
FILE_MAX = 64 << 20  # bytes; all unanswered requests of a session fit in
HISTORY_MAX = 1 << 20  # bytes; a longer history begins anew
LIFE = SESSION_LIFE_US / 1e6  # seconds; then the cluster has forgotten the session
RECENT = 3600.0  # seconds; a terminal does not take up by itself what is older: its unanswered lines may not be meant any more

Left = dict[str, Any]


def directory() -> str:
    """Where the files are."""
    base = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(base, "understudy")


def history() -> str:
    """The file of what was typed, made where it is missing. Raises OSError."""
    path = os.path.join(directory(), "history")
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    if os.fstat(fd).st_size > HISTORY_MAX:
        os.ftruncate(fd, 0)
    os.close(fd)
    return path


class Memory:
    """The file of one session, locked."""

    def __init__(self, fd: int, path: str) -> None:
        self.fd, self.path = fd, path

    def save(self, memory: Mapping[str, Any]) -> None:
        """Replace what is remembered. A full disk costs memory, not the conversation."""
        line = json.dumps(memory, ensure_ascii=True).encode() + b"\n"
        with contextlib.suppress(OSError):
            os.pwrite(self.fd, line, 0)
            os.ftruncate(self.fd, len(line))

    def read(self) -> Left | None:
        """What an earlier client left here; None: nothing, or nothing sound."""
        found = os.fstat(self.fd)
        if not 0 < found.st_size <= FILE_MAX or time.time() - found.st_mtime > LIFE:
            return None
        try:
            left = json.loads(os.pread(self.fd, found.st_size, 0).split(b"\n", 1)[0])
            return {**left, "age": time.time() - found.st_mtime}
        except (ValueError, TypeError, RecursionError):
            return None

    def is_empty(self) -> bool:
        """Whether nobody has written here."""
        return os.fstat(self.fd).st_size == 0

    def remove(self) -> None:
        """The client has ended in good order."""
        with contextlib.suppress(OSError):
            os.unlink(self.path)
        self.close()

    def close(self) -> None:
        """Leave it to the next client."""
        os.close(self.fd)
        self.fd = -1  # what is saved too late goes nowhere


def claim(
    path: str, ports: Sequence[str], *, resume_within: float, dialect: Dialect = PIPE
) -> tuple[Memory | None, Guest | None, dict[str, Mail]]:
    """A file for a client of the cluster at `ports`.

    Returns the file (None: there is none to have), the guest of a session left there at most `resume_within` seconds ago, and marks:
    what earlier clients may have shown. Raises OSError when the directory cannot be used.
    """
    os.makedirs(path, mode=0o700, exist_ok=True)
    place = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(place, fcntl.LOCK_EX)  # two clients that start together must not both look at the same files
        free = list(_free_files(path))
        left = {memory: found for memory in free if (found := memory.read()) and set(ports) & set(_texts(found.get("ports")))}
        chosen, guest = None, None
        for memory in sorted(left, key=lambda m: float(left[m]["age"])):
            if left[memory]["age"] <= resume_within and (guest := _recall(left[memory], dialect)):
                chosen = memory
                break
        chosen = chosen or next((m for m in free if m not in left), None) or min(left, key=lambda m: -left[m]["age"], default=None)
        for memory in free:
            if memory is not chosen and memory.is_empty():
                memory.remove()
            elif memory is not chosen:
                memory.close()
    finally:
        os.close(place)
    return chosen, guest, _marks(left.values())


def _free_files(path: str) -> Iterator[Memory]:
    """Every file that no living client holds, and one more that is new."""
    has_new = False
    for slot in range(SLOTS):
        name = os.path.join(path, f"session-{slot:02}")
        is_new = not os.path.lexists(name)
        if is_new and has_new:
            continue
        try:
            fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            continue
        has_new = has_new or is_new
        yield Memory(fd, name)


def _recall(left: Left, dialect: Dialect = PIPE) -> Guest | None:
    try:
        return Guest.recall(left, dialect) if left["session"] else None
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return None


def _marks(left: Any) -> dict[str, Mail]:
    marks: dict[str, Mail] = {}
    for one in left:
        with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError, OverflowError):
            for name, (_, _, number, stamp) in one["mail"].items():
                marks.setdefault(str(name), Mail()).mark(int(number), int(stamp))
    return marks


def _texts(value: Any) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []
