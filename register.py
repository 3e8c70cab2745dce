"""The one place where a view becomes *the* view on one host: a directory with one file for each view.

What it is not: it does not say who should be in a view (`survivor.py` does), and it has no lock and no server.

    data/cluster/
        view-0000000041      never changed once the name exists
        view-0000000042      the last one is the view in force
        proposal-1           replica 1 is writing the next; nobody reads it

    propose    write proposal, sync it, link() it to the next number (whoever creates the name decides), sync the directory
    make_ready in quiet times: a file for the next proposal. To write over what the disk has given room to costs a third of a new file
    read       the next number exists: read it, sync the directory, and only then act on it; who hears of a view from somebody who acts
               in it need not sync again
    guard      the next number does not exist: whoever is primary in the last view still is

    file       magic b"USV1" | crc32 of the rest | msgpack of packets.View; each record carries the hash of the one before it. The
               reason is followed by as many spaces as make the file a sector, if it is shorter; they do not belong to the view

Invariants:
- Numbers have no gap, and only the oldest are ever removed.
- A record is complete and synced before its name exists, so there are no torn records: one that cannot be read is damaged. Only the last
  decides anything; those before it are history.
- Nothing that was read is acted on before its name is durable.
- Nothing is written into a file that may bear a view's name as well.

Read next: `survivor.py`.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib

import msgspec

from disk import FULL, SECTOR, Disk
from packets import View

KEPT = 2048  # records; the newest would do, the rest is the cluster's history for people
MAGIC = b"USV1"
RECORD_MAX = 64 << 10  # bytes; a record of a hundred members is far below
_CRC = struct.Struct("<I")
_HEAD_SIZE = len(MAGIC) + _CRC.size
_PREFIX = "view-"


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
        self.complaints: list[str] = []  # of records that are history and cannot be read any more
        self._last: View | None = None
        self._oldest = 0
        self._is_ready = False  # the proposal file is there, as long as a sector, and has no other name
        self._guarded, self._guard_path = 0, self._path(1)

    def close(self) -> None:
        """Give the directory's descriptor back."""
        self._disk.close(self._fd)

    def last(self, told: int = 0) -> View | None:
        """The view in force; None: there is none yet. OSError means that the process must end: it cannot know what is durable.

        `told`: a view that another process acts in, so its name and those before it are durable.
        """
        known = self._last
        view = self._read_all() if known is None else known
        while view is not None and self._disk.exists(self._path(view.number + 1)):
            view = self._read(view.number + 1, view)
        if view is not None and view is not known:
            if view.number > told:
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
        self._write_proposal(record := _encode(view))
        self._is_ready = False
        try:
            self._disk.link(self._proposal, self._path(view.number))
        except FileExistsError:
            self._is_ready = len(record) == SECTOR
        except OSError as error:
            if error.errno in FULL:
                raise RegisterFull(str(error)) from error
            raise
        self._trim(view.number - KEPT)
        decided = self.last()
        assert decided is not None and decided.number >= view.number, f"view {view.number} was made and is not there"
        return decided

    def make_ready(self) -> bool:
        """Make the file for the next proposal, synced, unless it is there. True: it was made. Raises OSError: it was not."""
        if self._is_ready:
            return False
        self._write_anew(bytes(SECTOR))
        self._is_ready = True
        return True

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
        """The last `count` views at most, oldest first; without what cannot be read."""
        last, views = self.last(), list[View]()
        if last is None:
            return views
        for number in range(max(self._oldest, last.number - count + 1), last.number):
            with contextlib.suppress(RegisterDamaged):
                views.append(self._read(number, None))
        return [*views, last]

    def _path(self, number: int) -> str:
        return f"{self._directory}/{_PREFIX}{number:010d}"

    def _write_proposal(self, record: bytes) -> None:
        """Written whole and synced under the private name."""
        try:
            if self._is_ready and len(record) == SECTOR:
                self._write(record, create=False)
            else:
                self._is_ready = False
                self._write_anew(record)
        except OSError as error:
            if error.errno in FULL:
                raise RegisterFull(str(error)) from error
            raise

    def _write_anew(self, record: bytes) -> None:
        # After a proposal the private name is a second one of the view that it became: never write through it.
        if self._disk.exists(self._proposal):
            self._disk.unlink(self._proposal)
        self._write(record, create=True)

    def _write(self, record: bytes, *, create: bool) -> None:
        fd = self._disk.open(self._proposal, create=create)
        try:
            self._disk.pwrite(fd, record, 0)
            self._disk.sync(fd)
        finally:
            self._disk.close(fd)

    def _trim(self, upto: int) -> None:
        """Oldest first, and one for each proposal, so that no crash leaves a gap: the next directory sync settles it."""
        while 0 < self._oldest <= upto:
            self._oldest += 1
            try:
                return self._disk.unlink(self._path(self._oldest - 1))
            except FileNotFoundError:
                continue  # another replica trims too

    def _read_all(self) -> View | None:
        """All records there are, verified one against the other. The last decides; an older one that has rotted is complained of."""
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
            except RegisterDamaged as error:
                if number == numbers[-1]:
                    raise
                self.complaints.append(str(error))
                view = None
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
    lacking = SECTOR - _HEAD_SIZE - len(content)
    for spaces in range(lacking, max(lacking - 3, 0), -1):  # a longer text has a length of up to two bytes more
        padded = msgspec.msgpack.encode(msgspec.structs.replace(view, reason=view.reason + " " * spaces))
        if len(padded) == SECTOR - _HEAD_SIZE:
            content = padded
    return MAGIC + _CRC.pack(zlib.crc32(content)) + content


def _decode(record: bytes) -> View | None:
    content = record[_HEAD_SIZE:]
    if record[: len(MAGIC)] != MAGIC or len(record) < _HEAD_SIZE or _CRC.unpack_from(record, len(MAGIC))[0] != zlib.crc32(content):
        return None
    try:
        view = msgspec.msgpack.decode(content, type=View)
        return msgspec.structs.replace(view, reason=view.reason.rstrip(" "))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
