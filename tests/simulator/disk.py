"""Disks that forget, tear and lie, in memory, from a seed.

What it is not: it never breaks a promise that `disk.py` makes, unless a fault is asked for.

`SimFiles` is one host's file system; `SimDisk` is what one process sees of it, with that process's descriptors, locks and faults.

    kill()            the process dies: descriptors and locks are gone, the page cache stays
    files.crash()     the power fails: of every write, size and name that was not synced, any part may be lost
                      (contents by sector, each back to some state it went through; names each for itself)
    a failed sync     the kernel forgets that the pages were dirty: they read well until the power fails, then any part may be lost

Every call is an effect: counted by call and call site; it may be made to fail, or to be the one at which everything stops (`stop_at`).

Read next: `tests/test_journal.py` (how it is used).
"""

from __future__ import annotations

import contextlib
import errno
import functools
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NoReturn

from disk import SECTOR, Disk


class Stopped(BaseException):
    """The process ends in the middle of what it was doing. No code of the program catches it."""


class SimFile:
    """A file: `content` is what a reader sees; `pending` are undo records (offset, old bytes) of what is not synced, oldest first."""

    __slots__ = ("content", "durable_size", "inode", "lost", "names", "pending")

    def __init__(self, inode: int) -> None:
        self.inode = inode
        self.content = bytearray()
        self.durable_size = 0
        self.names = 0
        self.pending: list[tuple[int, bytes]] = []
        self.lost: list[tuple[int, bytes]] = []  # counted clean by the kernel, but on no disk

    def write(self, content: bytes, at: int) -> None:
        end = at + len(content)
        there = self.content
        if end > len(there):
            there.extend(bytes(end - len(there)))
        self.pending.append((at, bytes(there[at:end])))
        there[at:end] = content

    def resize(self, size: int) -> None:
        if size < len(self.content):
            self.pending.append((size, bytes(self.content[size:])))
            del self.content[size:]
        else:
            self.content.extend(bytes(size - len(self.content)))

    def sync(self) -> None:
        if self.lost:
            covered = [(at, at + len(old)) for at, old in self.pending]
            self.lost = [(at, old) for at, old in self.lost if not any(a <= at and at + len(old) <= b for a, b in covered)]
        self.pending.clear()
        self.durable_size = len(self.content)

    def fail_sync(self, dice: random.Random) -> None:
        """Some sectors reach the disk, the others never will, and nobody will be told again."""
        for at, old in self.pending:
            for a, b in _sectors(at, len(old)):
                if dice.random() < 0.5:
                    self.lost.append((a, old[a - at : b - at]))
        self.pending.clear()
        self.durable_size = len(self.content)

    def crash(self, dice: random.Random, keep: float) -> int:
        """Each sector goes back to one of the states it had since the last sync, or stays. Returns how many went back."""
        size, lost = len(self.content), len(self.lost)
        settled: set[int] = set()
        for at, old in reversed(self.pending):
            for a, b in _sectors(at, len(old)):
                if a // SECTOR in settled:
                    continue
                if dice.random() < keep:
                    settled.add(a // SECTOR)
                else:
                    lost += 1
                    self._put(a, old[a - at : b - at])
        for at, old in reversed(self.lost):
            self._put(at, old)
        if size != self.durable_size:
            size = dice.choice((size, self.durable_size))
        self.content = self.content[:size].ljust(size, b"\0")
        self.pending.clear()
        self.lost.clear()
        self.durable_size = size
        return lost

    def _put(self, at: int, old: bytes) -> None:
        if at > len(self.content):
            self.content.extend(bytes(at - len(self.content)))
        self.content[at : at + len(old)] = old


class SimLink:
    """A symbolic link."""

    __slots__ = ("target",)

    def __init__(self, target: str) -> None:
        self.target = target


class SimDirectory:
    """Names and what they lead to."""

    __slots__ = ("entries", "inode")

    def __init__(self, inode: int) -> None:
        self.inode = inode
        self.entries: dict[str, Entry] = {}


Entry = SimFile | SimDirectory | SimLink
Change = list[tuple[SimDirectory, str, "Entry | None"]]  # names that changed together, and what they led to before


class SimFiles:
    """One host's file system."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.inodes = 0
        self.root = SimDirectory(self.new_inode())
        self.changes: list[Change] = []  # names that are not synced, oldest first
        self.lost: Counter[str] = Counter()  # what power cuts took
        self.version = 0  # grows with every name that is made or goes
        self.locks: dict[int, tuple[str, set[tuple[SimDisk, int]]]] = {}  # inode -> kind, holders
        self.disks: list[SimDisk] = []

    def new_inode(self) -> int:
        self.inodes += 1
        return self.inodes

    def crash(self) -> None:
        """The power fails for all processes of this host."""
        for disk in self.disks:
            disk.kill()
        dice = self.dice
        for file in self._files(self.root, set()):
            if file.pending or file.lost or file.durable_size != len(file.content):
                was_torn, kept = len(file.pending) > 1, dice.choice((0.0, 0.5, 0.9, 1.0))
                lost = file.crash(dice, kept)
                self.lost["unsynced sectors lost"] += lost
                self.lost["files torn"] += bool(lost) and was_torn and 0.0 < kept < 1.0
        keep = dice.choice((0.0, 0.5, 0.9, 1.0))
        settled: set[tuple[int, str]] = set()
        for change in reversed(self.changes):
            names = {(directory.inode, name) for directory, name, _ in change}
            if names & settled or dice.random() < keep:
                settled |= names
            else:
                self.lost["unsynced names lost"] += 1
                for directory, name, before in change:
                    if before is None:
                        directory.entries.pop(name, None)
                    else:
                        directory.entries[name] = before
        self.changes.clear()
        self.version += 1

    def _files(self, directory: SimDirectory, seen: set[int]) -> list[SimFile]:
        """All that any name leads to now or led to when last synced."""
        found: list[SimFile] = []
        todo: list[Entry | None] = list(directory.entries.values())
        todo += [before for change in self.changes for _, _, before in change]
        while todo:
            entry = todo.pop()
            if isinstance(entry, SimDirectory) and entry.inode not in seen:
                seen.add(entry.inode)
                todo += entry.entries.values()
            elif isinstance(entry, SimFile) and entry.inode not in seen:
                seen.add(entry.inode)
                found.append(entry)
        return found

    # --- damage that a test asks for ------------------------------------------------------------------------------------------------------

    def file(self, path: str) -> SimFile:
        """The file of that path, to look at or to spoil."""
        entry = self.find(path)
        assert isinstance(entry, SimFile), path
        return entry

    def flip(self, path: str, bit: int) -> None:
        """One bit of the file turns over."""
        self.file(path).content[bit // 8] ^= 1 << bit % 8

    def misdirect(self, path: str, sector: int, into: int) -> None:
        """What belongs to one sector stands in another as well."""
        content = self.file(path).content
        content[into * SECTOR : (into + 1) * SECTOR] = content[sector * SECTOR : (sector + 1) * SECTOR]

    def find(self, path: str) -> Entry | None:
        """What the path leads to; symbolic links are followed but for the last."""
        directory, name = self.parent(path)
        return directory.entries.get(name) if name else directory

    def parent(self, path: str) -> tuple[SimDirectory, str]:
        """The directory that holds the path's last name."""
        directory = self.root
        above, name = split(path)
        for part in above:
            entry = directory.entries.get(part)
            if type(entry) is not SimDirectory:
                return self._parent_by_links(path)
            directory = entry
        return directory, name

    def _parent_by_links(self, path: str) -> tuple[SimDirectory, str]:
        """The same where not every name on the way is a directory's."""
        above, name = split(path)
        at = hops = 0
        directory = self.root
        while at < len(above):
            entry = directory.entries.get(above[at])
            at += 1
            if isinstance(entry, SimDirectory):
                directory = entry
            elif isinstance(entry, SimLink):
                hops += 1
                if hops > 8:
                    fail(errno.ELOOP, path)
                target = entry.target if entry.target.startswith("/") else "/".join([*above[: at - 1], entry.target])
                above = split(f"{target}/x")[0] + above[at:]
                at, directory = 0, self.root
            else:
                fail(errno.ENOENT if entry is None else errno.ENOTDIR, path)
        return directory, name


class SimDisk(Disk):
    """What one process sees of the files; the interface is `disk.Disk`.

    Faults, each a chance in [0, 1] per call: `write_error` and `sync_error` (EIO), `short_write` (a part is written, then ENOSPC),
    `slow_sync` (adds up to `slowest` seconds to `waited`, which the owner takes). `room`: bytes by which files may still grow; None: any.
    `fault`: asked before each call, with its name, site and path; what it returns is raised.
    """

    def __init__(self, dice: random.Random, files: SimFiles | None = None) -> None:
        self.dice = dice
        self.files = files if files is not None else SimFiles(dice)
        self.files.disks.append(self)
        self.open_files: dict[int, tuple[Entry, str]] = {}
        self.next_fd = 3
        self.write_error = self.sync_error = self.short_write = self.slow_sync = 0.0
        self.slowest = 5.0
        self.waited = 0.0
        self.room: int | None = None
        self.fault: Callable[[str, str, str], OSError | None] | None = None
        self.counts: Counter[tuple[str, str]] = Counter()  # by call and call site
        self.knows_sites = True  # looking up who calls costs as much as the call
        self.syncing: SimFile | None = None  # the file of the newest sync; its path may lead elsewhere by now
        self.effects = 0
        self.stop_at = 0  # number of the effect at which the process stops; 0: never
        self.stop_after = False  # whether that effect still happens

    @contextlib.contextmanager
    def unnoticed(self) -> Iterator[None]:
        """Whoever checks looks at what is there: that is no effect of the process, and no fault strikes it."""
        before = self.fault, self.effects, self.stop_at
        self.fault, self.stop_at = None, 0
        try:
            yield
        finally:
            self.fault, self.effects, self.stop_at = before

    # --- the owner's side -----------------------------------------------------------------------------------------------------------------

    def crash(self) -> None:
        """The power fails."""
        self.files.crash()

    def kill(self) -> None:
        """This process dies."""
        for fd in list(self.open_files):
            self._drop(fd)

    def take_wait(self) -> float:
        """Seconds that syncs have taken since this was asked last."""
        waited, self.waited = self.waited, 0.0
        return waited

    # --- disk.Disk ------------------------------------------------------------------------------------------------------------------------

    def open(self, path: str, create: bool = False) -> int:
        with self._call("open", path):
            directory, name = self.files.parent(path)
            entry = directory.entries.get(name)
            if type(entry) is SimFile:
                return self._descriptor(entry, path)
            if isinstance(entry, SimLink):
                fail(errno.ELOOP, path)
            if isinstance(entry, SimDirectory):
                fail(errno.EISDIR, path)
            if not create:
                fail(errno.ENOENT, path)
            if self.room is not None and self.room <= 0:
                fail(errno.ENOSPC, path)
            entry = SimFile(self.files.new_inode())
            self._enter((directory, name, entry))
            return self._descriptor(entry, path)

    def open_dir(self, path: str) -> int:
        with self._call("open_dir", path):
            return self._descriptor(self._directory(path), path)

    def close(self, fd: int) -> None:
        with self._call("close", self.open_files[fd][1]):
            self._drop(fd)

    def pread(self, fd: int, count: int, at: int) -> bytes:
        file, path = self._opened(fd)
        with self._call("pread", path):
            return bytes(memoryview(file.content)[at : at + count])

    def pwrite(self, fd: int, content: bytes, at: int) -> None:
        file, path = self._opened(fd)
        with self._call("pwrite", path):
            if self.write_error and self.dice.random() < self.write_error:
                fail(errno.EIO, path)
            growth = max(0, at + len(content) - len(file.content))
            short = bool(self.short_write) and self.dice.random() < self.short_write
            if short or (self.room is not None and growth > self.room):
                done = self.dice.randrange(len(content) // SECTOR + 1) * SECTOR if short else 0
                file.write(bytes(content[:done]), at)
                fail(errno.ENOSPC, path)
            if growth:
                self._use(growth)
            file.write(content, at)

    def sync(self, fd: int) -> None:
        file, path = self._opened(fd)
        self.syncing = file
        with self._call("sync", path):
            if self.slow_sync and self.dice.random() < self.slow_sync:
                self.waited += self.dice.random() * self.slowest
            if self.sync_error and self.dice.random() < self.sync_error:
                file.fail_sync(self.dice)
                fail(errno.EIO, path)
            file.sync()

    def size(self, fd: int) -> int:
        return len(self._opened(fd)[0].content)

    def truncate(self, fd: int, size: int) -> None:
        file, path = self._opened(fd)
        with self._call("truncate", path):
            self._use(size - len(file.content))
            file.resize(size)

    def allocate(self, fd: int, size: int) -> None:
        file, path = self._opened(fd)
        with self._call("allocate", path):
            growth = max(0, size - len(file.content))
            if self.room is not None and growth > self.room:
                fail(errno.ENOSPC, path)
            self._use(growth)
            file.resize(max(size, len(file.content)))

    def rename(self, old: str, new: str) -> None:
        with self._call("rename", new):
            source, name = self.files.parent(old)
            target, new_name = self.files.parent(new)
            entry = source.entries.get(name)
            if entry is None:
                fail(errno.ENOENT, old)
            there = target.entries.get(new_name)
            if isinstance(there, SimDirectory) and there.entries:
                fail(errno.ENOTEMPTY, new)
            self._enter((source, name, None), (target, new_name, entry))
            for fd, (opened, _) in self.open_files.items():
                if opened is entry:
                    self.open_files[fd] = (entry, new)  # faults are told which file it is now

    def link(self, old: str, new: str) -> None:
        with self._call("link", new):
            entry = self.files.find(old)
            directory, name = self.files.parent(new)
            if entry is None:
                fail(errno.ENOENT, old)
            if name in directory.entries:
                fail(errno.EEXIST, new)
            self._enter((directory, name, entry))

    def unlink(self, path: str) -> None:
        with self._call("unlink", path):
            directory, name = self.files.parent(path)
            entry = directory.entries.get(name)
            if entry is None:
                fail(errno.ENOENT, path)
            if isinstance(entry, SimDirectory):
                fail(errno.EISDIR, path)
            self._enter((directory, name, None))

    def exists(self, path: str) -> bool:
        try:
            entry = self.files.find(path)
            if isinstance(entry, SimLink):
                directory, name = self.files.parent(f"{path}/x")
                return name == "x" and directory is not None
        except OSError:
            return False
        return entry is not None

    def listdir(self, path: str) -> list[str]:
        with self._call("listdir", path):
            return sorted(self._directory(path).entries)

    def mkdir(self, path: str) -> None:
        parts = [part for part in path.split("/") if part]
        for depth in range(1, len(parts) + 1):
            directory, name = self.files.parent("/".join(parts[:depth]))
            entry = directory.entries.get(name)
            if entry is None:
                with self._call("mkdir", path):
                    self._enter((directory, name, SimDirectory(self.files.new_inode())))
            elif isinstance(entry, SimFile):
                fail(errno.EEXIST, path)

    def sync_dir(self, path: str | int) -> None:
        directory = self._directory(path)
        with self._call("sync_dir", str(path)):
            if self.sync_error and self.dice.random() < self.sync_error:
                fail(errno.EIO, str(path))
            if self.files.changes:
                self.files.changes = [c for c in self.files.changes if all(d is not directory for d, _, _ in c)]

    def symlink(self, target: str, path: str) -> None:
        with self._call("symlink", path):
            directory, name = self.files.parent(path)
            if isinstance(directory.entries.get(name), SimDirectory):
                fail(errno.EISDIR, path)
            self._enter((directory, name, SimLink(target)))

    def remove_tree(self, path: str) -> None:
        with self._call("remove_tree", path):
            directory, name = self.files.parent(path)
            if not isinstance(directory.entries.get(name), SimDirectory):
                fail(errno.ENOENT, path)
            self._enter((directory, name, None))

    def identity(self, path: str | int) -> tuple[int, int]:
        directory = self._directory(path)
        return id(self.files), directory.inode

    def try_lock(self, path: str, *, shared: bool) -> int | None:
        fd = self.open(path, create=not shared)
        file, _ = self._opened(fd)
        kind, holders = self.files.locks.get(file.inode, ("", set()))
        if holders and not (shared and kind == "shared"):
            self._drop(fd)
            return None
        holders.add((self, fd))
        self.files.locks[file.inode] = ("shared" if shared else "exclusive", holders)
        return fd

    def unlock(self, fd: int) -> None:
        self._drop(fd)

    # --- inside ---------------------------------------------------------------------------------------------------------------------------

    def _call(self, call: str, path: str) -> _During:
        """An effect begins: counted, made to fail, or the last."""
        self.effects += 1
        site = ""
        if self.knows_sites:
            site = sys._getframe(2).f_code.co_qualname
            self.counts[call, site] += 1
        is_last = self.effects == self.stop_at
        if is_last and not self.stop_after:
            raise Stopped(f"{call} {path}")
        if self.fault is not None:
            error = self.fault(call, site, path)
            if error is not None:
                raise error
        return LAST_CALL if is_last else ANY_CALL

    def _descriptor(self, entry: Entry, path: str) -> int:
        self.next_fd += 1
        self.open_files[self.next_fd] = (entry, path)
        return self.next_fd

    def _drop(self, fd: int) -> None:
        entry, _ = self.open_files.pop(fd)
        if type(entry) is SimFile and entry.inode in self.files.locks:
            holders = self.files.locks[entry.inode][1]
            holders.discard((self, fd))
            if not holders:
                del self.files.locks[entry.inode]

    def _opened(self, fd: int) -> tuple[SimFile, str]:
        entry, path = self.open_files.get(fd) or fail(errno.EBADF, str(fd))
        if type(entry) is not SimFile:
            fail(errno.EISDIR, path)
        return entry, path

    def _directory(self, path: str | int) -> SimDirectory:
        entry = self.open_files[path][0] if isinstance(path, int) else self.files.find(path)
        for _ in range(8):
            if not isinstance(entry, SimLink):
                break
            entry = self.files.parent(f"{path}/x")[0]
        if not isinstance(entry, SimDirectory):
            fail(errno.ENOENT if entry is None else errno.ENOTDIR, str(path))
        return entry

    def _enter(self, *names: tuple[SimDirectory, str, Entry | None]) -> None:
        """Let the names lead elsewhere; in one step, and undone in one step if the power fails."""
        change: Change = []
        for directory, name, entry in names:
            before = directory.entries.get(name)
            change.append((directory, name, before))
            if isinstance(before, SimFile):
                before.names -= 1
                if not before.names:
                    self._use(-len(before.content))
            if entry is None:
                directory.entries.pop(name, None)
            else:
                directory.entries[name] = entry
                if isinstance(entry, SimFile):
                    entry.names += 1
        self.files.changes.append(change)
        self.files.version += 1

    def _use(self, growth: int) -> None:
        if self.room is not None:
            if growth > self.room:
                fail(errno.ENOSPC, "")
            self.room -= growth


class _During:
    """While a call is under way; after the last one everything stops."""

    __slots__ = ("is_last",)

    def __init__(self, *, is_last: bool) -> None:
        self.is_last = is_last

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        if self.is_last:
            raise Stopped


ANY_CALL, LAST_CALL = _During(is_last=False), _During(is_last=True)


@functools.lru_cache(4096)
def split(path: str) -> tuple[tuple[str, ...], str]:
    """The names on the way, and the last one."""
    names = tuple(part for part in path.split("/") if part not in ("", "."))
    return names[:-1], names[-1] if names else ""


def _sectors(at: int, count: int) -> list[tuple[int, int]]:
    """The range, cut at sector boundaries."""
    cuts = [at, *range((at // SECTOR + 1) * SECTOR, at + count, SECTOR), at + count]
    return list(pairwise(cuts)) if count else []


def fail(number: int, path: str) -> NoReturn:
    """Raise the OSError of this number."""
    raise OSError(number, errno.errorcode[number], path)
