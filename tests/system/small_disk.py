"""A small disk under one replica's directory, which can be full from one moment to the next, and have room again.

What it is not: it fails no other way (that is a file size limit's task, `faults.py`), and it needs to be root on Linux.

    room     as many bytes as were asked for
    fill     not one more than is used now
    free     room again

It is a tmpfs whose limit is moved: nothing has to be written to fill it.

Read next: `faults.py`.
"""

from __future__ import annotations

import os
import subprocess

FILLS = 50  # looks at a disk that others are writing to


class NoSmallDisk(Exception):
    """It cannot be had here; the text says why."""


class SmallDisk:
    """Mounted at `path` from its making to `end`. Raises NoSmallDisk."""

    def __init__(self, path: str, room: int) -> None:
        self.path, self.room = path, room
        os.makedirs(path, exist_ok=True)
        self._run("mount", "-t", "tmpfs", "-o", f"size={room},mode=700", "understudy-campaign", path)

    def fill(self) -> None:
        """No room any more, also none for what was removed meanwhile. Who writes between the look and the mount is looked at again."""
        for attempt in range(FILLS):
            space = os.statvfs(self.path)
            try:
                return self._resize((space.f_blocks - space.f_bfree) * space.f_frsize)
            except NoSmallDisk:
                if attempt == FILLS - 1:
                    raise

    def free(self) -> None:
        """Room again."""
        self._resize(self.room)

    def end(self) -> None:
        """Away with it, and with what is on it."""
        self._run("umount", "--lazy", self.path)

    def _resize(self, size: int) -> None:
        self._run("mount", "-o", f"remount,size={max(size, 4096)}", self.path)  # 0 would mean: without a limit

    def _run(self, *command: str) -> None:
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
        except FileNotFoundError as error:
            raise NoSmallDisk(str(error)) from error
        if done.returncode:
            raise NoSmallDisk(f"{command[0]}: {done.stderr.strip()}")
