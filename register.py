"""The one place where a view becomes *the* view on one host: a directory with one file for each view.

What it is not: it does not say who should be in a view (`survivor.py` does), and it has no lock and no server.

    data/cluster/
        view-0000000041      never changed once the name exists
        view-0000000042      the last one is the view in force
        proposal-1           replica 1 is writing the next; nobody reads it

    propose    write proposal, sync it, link() it to the next number (whoever creates the name decides), sync the directory
    read       the next number exists: read it, sync the directory, and only then act on it
    guard      the next number does not exist: whoever is primary in the last view still is

    file       magic b"USV1" | crc32 of the rest | msgpack of packets.View; each record carries the hash of the one before it

Invariants:
- Numbers have no gap, and only the oldest are ever removed.
- A record is complete and synced before its name exists, so there are no torn records: one that cannot be read is damaged.
- Nothing that was read is acted on before its name is durable.

Read next: `survivor.py`.
"""

from __future__ import annotations

import errno
import os
import struct
import zlib

import msgspec

from disk import Disk
from packets import View

KEPT = 2048  # records; the newest would do, the rest is the cluster's history for people
MAGIC = b"USV1"
RECORD_MAX = 64 << 10  # bytes; a record of a hundred members is far below
_CRC = struct.Struct("<I")
_HEAD_SIZE = len(MAGIC) + _CRC.size
_PREFIX = "view-"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class RegisterDamaged(Exception):
    """A record cannot be what was written: no view can be decided until the operator has looked."""


class RegisterFull(Exception):
    """No room for the proposal: nothing happened, and nobody will ever see it."""


class Register:
    """See the module's drawing. `private` names the proposer's own file; only one process may use it (its replica's lock sees to that)."""

    def __init__(self, disk: Disk, directory: str, cluster: str, private: str = "") -> None:
        self._disk, self._directory, self._cluster = disk, directory, cluster
        self._proposal = f"{directory}/{private or f'proposal-{os.getpid()}'}"
        # Kept open for life and synced through: only an open descriptor hears of every error of the directory.
        self._fd = disk.open_dir(directory)
        self._last: View | None = None
        self._oldest = 0
        self._guarded, self._guard_path = 0, self._path(1)

    def close(self) -> None:
        """Give the directory's descriptor back."""
        self._disk.close(self._fd)

    def last(self) -> View | None:
        """The view in force; None: there is none yet. OSError means that the process must end: it cannot know what is durable."""
        known = self._last
        view = self._read_all() if known is None else known
        while view is not None and self._disk.exists(self._path(view.number + 1)):
            view = self._read(view.number + 1, view)
        if view is not known:
            self._disk.sync_dir(self._fd)
            self._last = view
        return view

    def propose(self, view: View) -> View:
        """Try to make this the next view; returns the view in force then: ours or, if somebody was faster, another.

        RegisterFull: it was not made. OSError: nobody knows whether it was made; the process must end.
        """
        last = self.last()
        if last is not None and last.number >= view.number:
            return last
        assert view.cluster == self._cluster and view.number > 0, f"foreign view {view}"
        assert last is None or (view.number == last.number + 1 and view.prev_hash == last.chain_hash()), f"{view} does not follow {last}"
        self._write_proposal(_encode(view))
        try:
            self._disk.link(self._proposal, self._path(view.number))
        except FileExistsError:
            pass
        except OSError as error:
            if error.errno in _FULL:
                raise RegisterFull(str(error)) from error
            raise
        self._disk.unlink(self._proposal)
        self._trim(view.number - KEPT)
        decided = self.last()
        assert decided is not None and decided.number >= view.number, f"view {view.number} was made and is not there"
        return decided

    def is_last(self, number: int) -> bool:
        """The guard: no view after this one exists."""
        if number != self._guarded:
            self._guarded, self._guard_path = number, self._path(number + 1)
        return not self._disk.exists(self._guard_path)

    def is_path_same(self) -> bool:
        """Whether the path still names the directory that was opened: one that was moved or removed stays readable for ever."""
        try:
            return self._disk.identity(self._directory) == self._disk.identity(self._fd)
        except OSError:
            return False

    def recent(self, count: int) -> list[View]:
        """The last `count` views at most, oldest first, for people."""
        last = self.last()
        if last is None:
            return []
        return [self._read(n, None) for n in range(max(self._oldest, last.number - count + 1), last.number)] + [last]

    def _path(self, number: int) -> str:
        return f"{self._directory}/{_PREFIX}{number:010d}"

    def _write_proposal(self, record: bytes) -> None:
        """Written whole and synced under the private name."""
        disk = self._disk
        try:
            # A crash between link and unlink leaves the private name on a view that is in force: never write through it.
            if disk.exists(self._proposal):
                disk.unlink(self._proposal)
            fd = disk.open(self._proposal, create=True)
            try:
                disk.pwrite(fd, record, 0)
                disk.sync(fd)
            finally:
                disk.close(fd)
        except OSError as error:
            if error.errno in _FULL:
                raise RegisterFull(str(error)) from error
            raise

    def _trim(self, upto: int) -> None:
        """Oldest first, and one for each proposal, so that no crash leaves a gap: the next directory sync settles it."""
        while 0 < self._oldest <= upto:
            self._oldest += 1
            try:
                return self._disk.unlink(self._path(self._oldest - 1))
            except FileNotFoundError:
                continue  # another replica trims too

    def _read_all(self) -> View | None:
        """All records there are, verified one against the other."""
        numbers = [
            int(n[len(_PREFIX) :]) for n in self._disk.listdir(self._directory) if n.startswith(_PREFIX) and n[len(_PREFIX) :].isdecimal()
        ]
        view: View | None = None
        for number in numbers:
            try:
                view = self._read(number, view)
            except FileNotFoundError:
                if view is not None:
                    raise RegisterDamaged(f"{self._path(number)} has disappeared") from None
                continue  # trimmed by another replica since the directory was read
            self._oldest = self._oldest or number
        return view

    def _read(self, number: int, before: View | None) -> View:
        path = self._path(number)
        fd = self._disk.open(path)
        try:
            record = self._disk.pread(fd, RECORD_MAX, 0)
        finally:
            self._disk.close(fd)
        view = _decode(record)
        if view is None:
            raise RegisterDamaged(f"{path} is damaged: no view can be decided; see 'register' in docs/disk-format.md")
        if view.cluster != self._cluster:
            raise RegisterDamaged(f"{path} belongs to the cluster {view.cluster!r}, this one is {self._cluster!r}")
        if view.number != number:
            raise RegisterDamaged(f"{path} holds view {view.number}")
        if before is not None and before.number + 1 != number:
            raise RegisterDamaged(f"{path}: view {before.number + 1} before it is missing")
        if before is not None and view.prev_hash != before.chain_hash():
            raise RegisterDamaged(f"{path} does not follow view {before.number}: one of the two is not what was written")
        return view


def _encode(view: View) -> bytes:
    content = msgspec.msgpack.encode(view)
    return MAGIC + _CRC.pack(zlib.crc32(content)) + content


def _decode(record: bytes) -> View | None:
    content = record[_HEAD_SIZE:]
    if record[: len(MAGIC)] != MAGIC or len(record) < _HEAD_SIZE or _CRC.unpack_from(record, len(MAGIC))[0] != zlib.crc32(content):
        return None
    try:
        return msgspec.msgpack.decode(content, type=View)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
