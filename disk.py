"""The disk as the rest of the program sees it, and what stands beside the logs: replica locks and the ballast.

What it is not: it knows no format. Journal, superblock, register and snapshots do, and all of them reach files only through `Disk`, so that
the simulator can put a disk that forgets, tears and lies in its place.

    call                 promises
    pwrite               all bytes are in the page cache, or OSError (then any part of them may be)
    sync(fd)             the file's bytes and size survive a power cut; after an error nobody may write that file again
    sync_dir             names made, renamed or removed in the directory survive a power cut; the fate of others is open
    link                 fails when the name exists: the one step that decides something between processes
    try_lock             a lock that the kernel releases when the process dies, however it dies

A sector (512 bytes) that was synced is never half old and half new; nothing else is assumed of the hardware.

Read next: `journal.py`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
import struct
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Final, NamedTuple

from mypy_extensions import mypyc_attr

SECTOR = 512  # bytes; the unit that a power cut leaves whole
FULL = (errno.ENOSPC, errno.EDQUOT)  # what the kernel says where room or a quota ends
# Where a lock, or a name that exists, may look different on two hosts.
NETWORKED = frozenset(("nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "lustre", "gfs2", "ocfs2", "fuse.glusterfs", "fuse.sshfs"))


@mypyc_attr(allow_interpreted_subclasses=True)
class Disk(ABC):
    """See the module's table. Synchronous; paths are absolute or relative to the process; every failure is an OSError."""

    @abstractmethod
    def open(self, path: str, create: bool = False) -> int: ...
    @abstractmethod
    def open_dir(self, path: str) -> int: ...
    @abstractmethod
    def close(self, fd: int) -> None: ...
    @abstractmethod
    def pread(self, fd: int, count: int, at: int) -> bytes: ...
    @abstractmethod
    def pwrite(self, fd: int, content: bytes, at: int) -> None: ...
    @abstractmethod
    def sync(self, fd: int) -> None: ...
    @abstractmethod
    def size(self, fd: int) -> int: ...
    @abstractmethod
    def truncate(self, fd: int, size: int) -> None: ...
    @abstractmethod
    def allocate(self, fd: int, size: int) -> None: ...
    @abstractmethod
    def rename(self, old: str, new: str) -> None: ...
    @abstractmethod
    def link(self, old: str, new: str) -> None: ...
    @abstractmethod
    def unlink(self, path: str) -> None: ...
    @abstractmethod
    def exists(self, path: str) -> bool: ...
    @abstractmethod
    def listdir(self, path: str) -> list[str]: ...
    @abstractmethod
    def mkdir(self, path: str) -> None: ...
    @abstractmethod
    def sync_dir(self, path: str | int) -> None: ...
    @abstractmethod
    def symlink(self, target: str, path: str) -> None: ...
    @abstractmethod
    def remove_tree(self, path: str) -> None: ...
    @abstractmethod
    def identity(self, path: str | int) -> tuple[int, int]: ...
    @abstractmethod
    def try_lock(self, path: str, *, shared: bool) -> int | None: ...
    @abstractmethod
    def unlock(self, fd: int) -> None: ...


@mypyc_attr(allow_interpreted_subclasses=True)
class OsDisk(Disk):
    """The real one. Files are readable by their owner only, are not inherited by other programs, and are never reached through a link."""

    def open(self, path: str, create: bool = False) -> int:
        """A descriptor for reading and writing; `create`: an absent file is made, empty."""
        return os.open(path, os.O_RDWR | os.O_NOFOLLOW | (os.O_CREAT if create else 0), 0o600)

    def open_dir(self, path: str) -> int:
        """A descriptor for `sync_dir` and `identity` that stays on this directory whatever happens to its path."""
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY)

    def close(self, fd: int) -> None:
        os.close(fd)

    def pread(self, fd: int, count: int, at: int) -> bytes:
        """Fewer bytes only at the end of the file."""
        got = os.pread(fd, count, at)
        if len(got) == count or not got:
            return got
        parts, have = [got], len(got)
        while have < count and (got := os.pread(fd, count - have, at + have)):
            parts.append(got)
            have += len(got)
        return b"".join(parts)

    def pwrite(self, fd: int, content: bytes, at: int) -> None:
        """Whole or OSError."""
        done = os.pwrite(fd, content, at)
        while done < len(content):
            # The kernel stops short where room or a quota ends; the next call says which, unless room came back.
            more = os.pwrite(fd, memoryview(content)[done:], at + done)
            if not more:
                raise OSError(errno.EIO, "write stopped short")
            done += more

    def sync(self, fd: int) -> None:
        os.fdatasync(fd)

    def size(self, fd: int) -> int:
        return os.fstat(fd).st_size

    def truncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def allocate(self, fd: int, size: int) -> None:
        """Reserve room without writing it."""
        os.posix_fallocate(fd, 0, size)

    def rename(self, old: str, new: str) -> None:
        """Replaces a file of the new name in one step."""
        os.rename(old, new)

    def link(self, old: str, new: str) -> None:
        """A second name for the file; FileExistsError when somebody has taken it."""
        os.link(old, new, follow_symlinks=False)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def exists(self, path: str) -> bool:
        """One system call of 0.3 µs: the read guard asks it for every batch of reads."""
        return os.access(path, os.F_OK)

    def listdir(self, path: str) -> list[str]:
        """Names, sorted."""
        return sorted(os.listdir(path))

    def mkdir(self, path: str) -> None:
        """With its parents; no complaint when it is there."""
        if os.path.isdir(path):
            return
        parent = os.path.dirname(path.rstrip("/"))
        if parent:
            self.mkdir(parent)
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            if not os.path.isdir(path):
                raise

    def sync_dir(self, path: str | int) -> None:
        """By path, or by a descriptor of open_dir, which also hears of errors that happened meanwhile."""
        if isinstance(path, int):
            return os.fsync(path)
        fd = self.open_dir(path)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def symlink(self, target: str, path: str) -> None:
        """Replaces an older link of that name in one step."""
        aside = f"{path}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(aside)
        os.symlink(target, aside)
        try:
            os.rename(aside, path)
        except IsADirectoryError:
            os.unlink(aside)
            words = "a link belongs here and a directory stands here, as where links are followed in copying: move it aside"
            raise IsADirectoryError(errno.EISDIR, words, path) from None

    def remove_tree(self, path: str) -> None:
        shutil.rmtree(path)

    def identity(self, path: str | int) -> tuple[int, int]:
        """Device and inode: whether two names lead to the same thing."""
        status = os.stat(path)
        return status.st_dev, status.st_ino

    def try_lock(self, path: str, *, shared: bool) -> int | None:
        """A descriptor that holds the lock; None when somebody's lock is in the way. A shared lock does not make the file."""
        fd = self.open(path, create=not shared)
        try:
            fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        except BaseException:
            os.close(fd)
            raise
        return fd

    def unlock(self, fd: int) -> None:
        """Closing is what releases: no other descriptor shares this lock."""
        os.close(fd)


@contextlib.contextmanager
def if_there_is_room() -> Iterator[None]:
    """For what may be left out on a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise


def file_system(path: str, mounts: str = "/proc/self/mountinfo") -> str:
    """The kind of file system on which a path lies, or will once it is made; `mounts`: the kernel's table. Raises OSError."""
    real, deepest, kind = os.path.realpath(path), "", ""
    with open(mounts, encoding="utf-8", errors="surrogateescape") as table:
        for line in table:
            mount, _, rest = line.partition(" - ")
            point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), mount.split()[4])
            # Of two mounts at one point the later one hides the other.
            if len(point) >= len(deepest) and f"{real}/".startswith(f"{point.rstrip('/')}/"):
                deepest, kind = point, rest.split()[0]
    return kind


class LockContent(NamedTuple):
    """What a replica writes into its lock: who holds it, and how far its journal is known to be synced."""

    inc: int
    pid: int
    durable_op: int


class ReplicaLock:
    """`replica-<i>.lock` in the cluster directory, held exclusively for the life of the process.

    `before`: what it said when it was taken; None when nothing was durable in it, or (`rotten`) it cannot be read any more.

        offset  size  field
        0       4     magic       b"USL1"
        4       8     inc
        12      8     pid
        20      8     durable_op
        28      4     CRC-32 of the 28 bytes before

    The kernel frees it with the process, so a free lock is proof of death and a held one none of life.
    """

    _LAYOUT: Final = struct.Struct("<4sQQQ")
    _CRC: Final = struct.Struct("<I")
    _MAGIC: Final = b"USL1"
    _READS: Final = 4  # of a held lock whose content is being rewritten at this moment

    def __init__(self, disk: Disk, fd: int, pid: int) -> None:
        self._disk, self._fd, self._pid = disk, fd, pid
        sector = disk.pread(fd, SECTOR, 0)
        self.before = self._parse(sector)
        self.rotten = self.before is None and bool(sector.strip(b"\0"))

    @classmethod
    def acquire(cls, disk: Disk, directory: str, replica: int, *, pid: int | None = None) -> ReplicaLock | None:
        """The lock; None while another process holds or probes it (try again for a while: a probe is over at once)."""
        fd = disk.try_lock(cls.path(directory, replica), shared=False)
        return None if fd is None else cls(disk, fd, os.getpid() if pid is None else pid)

    @classmethod
    def probe(cls, disk: Disk, directory: str, replica: int) -> int | None:
        """The incarnation that holds the lock, 0 when it has not said so yet; None: nobody holds it."""
        content = cls.read(disk, directory, replica)
        return None if content is None else content.inc

    @classmethod
    def read(cls, disk: Disk, directory: str, replica: int) -> LockContent | None:
        """What the holder wrote; None: nobody holds it."""
        path = cls.path(directory, replica)
        try:
            # Shared: two probes at the same time must not take each other for the holder.
            fd = disk.try_lock(path, shared=True)
            if fd is not None:
                disk.unlock(fd)
                return None
            fd = disk.open(path)
        except FileNotFoundError:
            return None
        try:
            for _ in range(cls._READS):
                content = cls._parse(disk.pread(fd, SECTOR, 0))
                if content is not None:
                    return content
        finally:
            disk.close(fd)
        return LockContent(0, 0, 0)

    @staticmethod
    def path(directory: str, replica: int) -> str:
        return f"{directory}/replica-{replica}.lock"

    def write(self, inc: int, durable_op: int, sync: bool = False) -> None:
        """`durable_op`: all up to it is synced in the journal. Before a cut it is lowered, with `sync`."""
        content = self._LAYOUT.pack(self._MAGIC, inc, self._pid, durable_op)
        self._disk.pwrite(self._fd, (content + self._CRC.pack(zlib.crc32(content))).ljust(SECTOR, b"\0"), 0)
        if sync:
            self._disk.sync(self._fd)

    def release(self) -> None:
        """At the end of the process the kernel does the same."""
        self._disk.unlock(self._fd)

    @classmethod
    def _parse(cls, sector: bytes) -> LockContent | None:
        size = cls._LAYOUT.size
        if len(sector) < size + cls._CRC.size or sector[:4] != cls._MAGIC:
            return None
        if cls._CRC.unpack_from(sector, size)[0] != zlib.crc32(sector[:size]) or sector[size + cls._CRC.size :].strip(b"\0"):
            return None
        return LockContent(*cls._LAYOUT.unpack_from(sector)[1:])


class Ballast:
    """A file that is there to be removed: the room it gives back lets the replicas of a full disk decide who goes on."""

    def __init__(self, disk: Disk, path: str, size: int) -> None:
        self._disk, self._path, self._size = disk, path, size
        self._was_released = False

    def take_in(self) -> bool:
        """Reserve it if that has not been done; under a millisecond, nothing is written. False: there is no room for it."""
        try:
            fd = self._disk.open(self._path, create=True)
            try:
                if self._disk.size(fd) < self._size:
                    self._disk.allocate(fd, self._size)
            finally:
                self._disk.close(fd)
        except OSError:
            # It is a convenience: without it a view may have to wait for room.
            self._remove()
            return False
        return True

    def take_in_again(self) -> None:
        """Reserve it once more if its room was given back and there is some now."""
        if self._was_released:
            self._was_released = not self.take_in()

    def release(self) -> bool:
        """Give the room back; False when there was none."""
        is_given = self._remove()
        self._was_released = self._was_released or is_given
        return is_given

    def _remove(self) -> bool:
        try:
            self._disk.unlink(self._path)
        except OSError:
            return False
        return True
