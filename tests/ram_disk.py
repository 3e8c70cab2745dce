"""A disk in memory that never fails, forgets or counts: for parsers that must read a million files in a row.

What it is not: `tests/simulator/disk.py` is the one that misbehaves, and it takes twenty times as long for a call.

Read next: `tests/fuzzing/disks.py`, `tests/sweep.py`.
"""

from __future__ import annotations

import errno

from disk import Disk


class RamDisk(Disk):
    """The interface is `disk.Disk`. Paths are compared letter by letter; a directory is whatever stands before a slash."""

    def __init__(self, files: dict[str, bytes] | None = None) -> None:
        self.files: dict[str, bytearray] = {path: bytearray(content) for path, content in (files or {}).items()}
        self.directories = {"."}
        self.open_files: dict[int, bytearray] = {}
        self.locks: dict[str, tuple[int, bool]] = {}  # path: descriptor, shared
        self.next_fd = 3

    def _new(self, content: bytearray) -> int:
        self.next_fd += 1
        self.open_files[self.next_fd] = content
        return self.next_fd

    def open(self, path: str, create: bool = False) -> int:
        content = self.files.get(path)
        if content is None:
            if not create:
                raise FileNotFoundError(errno.ENOENT, "no such file", path)
            content = self.files[path] = bytearray()
        return self._new(content)

    def open_dir(self, path: str) -> int:
        return self._new(bytearray())

    def close(self, fd: int) -> None:
        del self.open_files[fd]

    def pread(self, fd: int, count: int, at: int) -> bytes:
        return bytes(self.open_files[fd][at : at + count])

    def pwrite(self, fd: int, content: bytes, at: int) -> None:
        made = self.open_files[fd]
        if at > len(made):
            made.extend(bytes(at - len(made)))
        made[at : at + len(content)] = content

    def sync(self, fd: int) -> None: ...
    def sync_dir(self, path: str | int) -> None: ...
    def size(self, fd: int) -> int:
        return len(self.open_files[fd])

    def truncate(self, fd: int, size: int) -> None:
        made = self.open_files[fd]
        del made[size:]
        made.extend(bytes(size - len(made)))

    def allocate(self, fd: int, size: int) -> None:
        self.truncate(fd, max(size, self.size(fd)))

    def rename(self, old: str, new: str) -> None:
        if old in self.files:
            self.files[new] = self.files.pop(old)
            return
        for path in [p for p in self.files if p.startswith(f"{old}/")]:
            self.files[new + path[len(old) :]] = self.files.pop(path)
        self.directories = {new + p[len(old) :] if f"{p}/".startswith(f"{old}/") else p for p in self.directories}

    def link(self, old: str, new: str) -> None:
        if new in self.files:
            raise FileExistsError(errno.EEXIST, "somebody has the name", new)
        if old not in self.files:
            raise FileNotFoundError(errno.ENOENT, "no such file", old)
        self.files[new] = self.files[old]

    def unlink(self, path: str) -> None:
        if self.files.pop(path, None) is None:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)

    def exists(self, path: str) -> bool:
        return path in self.files or path in self.directories or any(p.startswith(f"{path}/") for p in self.files)

    def listdir(self, path: str) -> list[str]:
        start = len(path) + 1
        inside = (p[start:] for p in (*self.files, *self.directories) if p.startswith(f"{path}/"))
        return sorted({name.partition("/")[0] for name in inside})

    def mkdir(self, path: str) -> None:
        self.directories.add(path)

    def symlink(self, target: str, path: str) -> None:
        self.files[path] = bytearray(target.encode())

    def remove_tree(self, path: str) -> None:
        for inside in [p for p in self.files if p.startswith(f"{path}/")]:
            del self.files[inside]
        self.directories = {p for p in self.directories if not f"{p}/".startswith(f"{path}/")}

    def identity(self, path: str | int) -> tuple[int, int]:
        return 0, 0

    def try_lock(self, path: str, *, shared: bool) -> int | None:
        if path in self.locks and not (shared and self.locks[path][1]):
            return None
        fd = self.open(path, create=not shared)
        self.locks[path] = fd, shared
        return fd

    def unlock(self, fd: int) -> None:
        self.close(fd)
        self.locks = {path: held for path, held in self.locks.items() if held[0] != fd}
