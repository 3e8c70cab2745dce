"""A journal's files as bytes: their layout, what counts as the end of the log, and how batches are read out of them.

What it is not: it knows no log that goes on. `journal.py` appends, and remembers where its log ends; here everything is read from the
files, and all that is written is a new segment.

    journal/GGGGGGGG-OOOOOOOOOOOOOOOO.seg      G: journal generation, O: first op, both hexadecimal
    journal/spare.tmp                          the next segment, not yet or not wholly filled with zeros

    segment   sector 0: header  b"USJ1" | size u32 | generation u64 | first_op u64 | prev_hash 16 | crc32 | zeros
              then batches (their bytes: batches.py), each from a sector boundary on, zeros up to the next one
              then zeros up to `size`

A segment is written full of zeros and synced before it gets its name, so it is never short, and every sector of it is either zeros or what
was written there. A batch is appended after the one before it was synced. Hence the **tail rule**, for what stands behind the last whole
batch:

    zeros to the end                                       the log ends here
    one batch, some sector of it still all zeros           torn: it was never synced, so nobody was told of it; dropped
    anything else                                          damage: it may have been acknowledged

Only who is behind writes several batches under one sync; a power cut in the middle of it may look like damage. Nobody counts on the replica
then (it is no member, or under `majority` has acknowledged none of them), and it takes what it lost from the others again.

Read next: `journal.py`.
"""

from __future__ import annotations

import contextlib
import struct
import zlib
from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from batches import BATCH_MAX, HEADER, HEADER_SIZE, TRAILER_SIZE, Batch, DamagedBatch, sound_header
from disk import SECTOR, Disk

MARK_BYTES = 64 << 10  # of journal between two remembered positions
WINDOW_BYTES = 256 << 10  # read at once
IMAGE_MAX = HEADER_SIZE + BATCH_MAX + TRAILER_SIZE
SUFFIX = ".seg"
ZEROS = bytes(1 << 20)
ENDS, TORN = "", "torn"  # what may stand behind the last whole batch without being damage

_LAYOUT = struct.Struct("<4sIQQ16s")
_CRC = struct.Struct("<I")
_MAGIC = b"USJ1"


class JournalDamaged(Exception):
    """The journal is not what was written, in words for the operator; `offsets`: (file, byte) pairs."""

    def __init__(self, sentence: str, *offsets: tuple[str, int]) -> None:
        where = ", ".join(f"{path} at byte {at}" for path, at in offsets)
        super().__init__(f"{where}: {sentence}" if where else sentence)
        self.sentence, self.offsets = sentence, offsets


class Segment:
    """One file, open. `ops` and `offsets` are marks: where some of its batches begin, as far as somebody has walked through it."""

    __slots__ = ("fd", "first_op", "generation", "offsets", "ops", "path", "prev_hash", "size")

    def __init__(self, path: str, fd: int, size: int, generation: int, first_op: int, prev_hash: bytes) -> None:
        self.path, self.fd, self.size = path, fd, size
        self.generation, self.first_op, self.prev_hash = generation, first_op, prev_hash
        self.ops: list[int] = []
        self.offsets: list[int] = []

    def mark(self, first_op: int, at: int) -> None:
        """Remember this batch if the mark before it is far enough."""
        if not self.offsets or at - self.offsets[-1] >= MARK_BYTES:
            self.ops.append(first_op)
            self.offsets.append(at)

    def nearest(self, op: int) -> int:
        """Offset of a batch's beginning that is not behind the batch that holds `op`."""
        at = bisect_right(self.ops, op) - 1
        return self.offsets[at] if at >= 0 else SECTOR

    def forget(self, at: int) -> None:
        """No batch stands at `at` or behind it any more."""
        while self.offsets and self.offsets[-1] >= at:
            self.offsets.pop()
            self.ops.pop()


class Place(NamedTuple):
    """Just behind the batch that ends in (op, hash): the next one stands at `at` in the nth segment, or begins the one after."""

    nth: int
    at: int
    op: int
    hash: bytes


class Spare:
    """The next segment, `spare.tmp`. Nothing stands in it, so a failed sync of it costs no more than another spare."""

    def __init__(self, disk: Disk, directory: str) -> None:
        self._disk, self._directory, self._path = disk, directory, f"{directory}/spare.tmp"
        self._fd, self._filled, self._size = -1, 0, 0

    def is_ready(self, size: int) -> bool:
        """Whether it is full of durable zeros."""
        return self._filled == self._size == size

    def fill(self, size: int, count: int) -> None:
        """Some more zeros, synced. Real ones: reserved blocks would cost the hot path a second write each."""
        if self._size != size:
            self.forget()
            if self._disk.exists(self._path):
                self._disk.unlink(self._path)
            self._fd, self._size = self._disk.open(self._path, create=True), size
        count = min(count, size - self._filled)
        self._disk.pwrite(self._fd, ZEROS[:count], self._filled)
        self._sync()
        self._filled += count

    def become(self, generation: int, first_op: int, prev_hash: bytes) -> Segment:
        """Header and name; the caller syncs the directory before it writes a batch."""
        path = f"{self._directory}/{file_name(generation, first_op)}"
        self._disk.pwrite(self._fd, header(self._size, generation, first_op, prev_hash), 0)
        self._sync()
        self._disk.rename(self._path, path)
        segment = Segment(path, self._fd, self._size, generation, first_op, prev_hash)
        self._fd, self._filled, self._size = -1, 0, 0
        return segment

    def forget(self) -> None:
        """Give the descriptor back; the next `fill` begins anew."""
        if self._fd >= 0:
            self._disk.close(self._fd)
        self._fd, self._filled, self._size = -1, 0, 0

    def _sync(self) -> None:
        try:
            self._disk.sync(self._fd)
        except OSError:
            self.forget()
            raise


def read_segments(disk: Disk, path: str, after_op: int, after_hash: bytes, until_op: int, generation: int | None = None) -> Iterator[Batch]:
    """Batches behind (after_op, after_hash) up to `until_op`, verified: for another process, while the owner appends.

    `generation`: None means the newest. Raises JournalDamaged when they are not all here. Writes nothing.
    """
    names = [name for name in disk.listdir(path) if name.endswith(SUFFIX)]
    prefix = f"{generation:08x}-" if generation is not None else names[-1][:9] if names else ""
    segments, damage = open_segments(disk, [f"{path}/{name}" for name in names if name.startswith(prefix)])
    try:
        index = bisect_right(segments, after_op + 1, key=first_op_of) - 1
        if index < 0:
            raise damage or JournalDamaged(f"{path} holds nothing that follows op {after_op}")
        start = segments[index]
        op = start.first_op - 1
        for place, batch in walk(disk, segments, Place(index, SECTOR, op, start.prev_hash), until_op):
            if batch.first_op <= after_op + 1 <= batch.op and (batch.first_op, batch.prev_hash) != (after_op + 1, after_hash):
                raise JournalDamaged(f"{path} goes on from another op {after_op}")
            op = place.op
            if op > after_op:
                yield batch
        if op != until_op:
            raise JournalDamaged(f"{path} has no batch that ends at op {until_op}")
    finally:
        for segment in segments:
            disk.close(segment.fd)


def header(size: int, generation: int, first_op: int, prev_hash: bytes) -> bytes:
    """Sector 0 of a segment."""
    fields = _LAYOUT.pack(_MAGIC, size, generation, first_op, prev_hash)
    return (fields + _CRC.pack(zlib.crc32(fields))).ljust(SECTOR, b"\0")


def file_name(generation: int, first_op: int) -> str:
    """Names sort in the order of the log."""
    return f"{generation:08x}-{first_op:016x}{SUFFIX}"


def judge(disk: Disk, segment: Segment, at: int, op: int, hash: bytes) -> str:
    """What stands at `at`, where no whole batch that follows (op, hash) does: ENDS, TORN, or the damage in words."""
    if _is_zero(disk, segment, at):
        return ENDS
    rest = disk.pread(segment.fd, segment.size - at, at)
    written = len(rest.rstrip(b"\0"))
    try:
        length = HEADER_SIZE + body_length(rest) + TRAILER_SIZE
    except DamagedBatch:
        return _judge_headless(rest, written)
    _, first_op, _, _, _, _, prev_hash = HEADER.unpack_from(rest)
    if (first_op, prev_hash) != (op + 1, hash):
        return f"a batch that does not follow op {op}"
    if length > len(rest) or written > padded(length):
        return f"the batch behind op {op} is damaged, and something stands behind it"
    if any(not rest[s : min(s + SECTOR, length)].strip(b"\0") for s in range(0, length, SECTOR)):
        return TORN
    return f"the batch behind op {op} is damaged, though all of it was written"


def _judge_headless(rest: bytes, written: int) -> str:
    """The same where the first sector is no header: the rest of one torn batch may stand there if that sector is zero."""
    if rest[:SECTOR].strip(b"\0"):
        return "neither a batch nor zeros"
    if written > padded(IMAGE_MAX):
        return "a hole, and more behind it than one batch"
    for at in range(SECTOR, written, SECTOR):
        with contextlib.suppress(DamagedBatch):
            body_length(rest, at)
            return "a hole, and a batch behind it"
    return TORN


def _is_zero(disk: Disk, segment: Segment, at: int) -> bool:
    while at < segment.size:
        got = disk.pread(segment.fd, min(len(ZEROS), segment.size - at), at)
        if not got or got != (ZEROS if len(got) == len(ZEROS) else bytes(len(got))):
            return False
        at += len(got)
    return True


def open_segments(disk: Disk, paths: list[str]) -> tuple[list[Segment], JournalDamaged | None]:
    """The segments, oldest first, up to the first that is none, and what is wrong with that."""
    segments: list[Segment] = []
    for path in paths:
        try:
            fd = disk.open(path)
        except FileNotFoundError:
            continue  # another process reads, and its owner has just dropped the oldest
        try:
            sector, size = disk.pread(fd, SECTOR, 0), disk.size(fd)
        except OSError:
            for opened in (*(s.fd for s in segments), fd):
                disk.close(opened)
            raise
        end = _LAYOUT.size
        if len(sector) < SECTOR or _CRC.unpack_from(sector, end)[0] != zlib.crc32(sector[:end]) or sector[end + _CRC.size :].strip(b"\0"):
            disk.close(fd)
            return segments, JournalDamaged("no journal segment begins here", (path, 0))
        magic, length, generation, first_op, prev_hash = _LAYOUT.unpack_from(sector)
        segments.append(Segment(path, fd, length, generation, first_op, prev_hash))
        if magic != _MAGIC or not path.endswith(f"/{file_name(generation, first_op)}"):
            disk.close(segments.pop().fd)
            return segments, JournalDamaged("a segment of another name or version", (path, 0))
        if size != length:
            disk.close(segments.pop().fd)
            return segments, JournalDamaged(f"the segment has {size} bytes and was made with {length}", (path, min(size, length)))
    return segments, None


def walk(disk: Disk, segments: list[Segment], place: Place, until_op: int) -> Iterator[tuple[Place, Batch]]:
    """Batches behind `place`, with the place behind each, none that ends above `until_op`."""
    nth, at, op, hash = place
    while op < until_op:
        if nth + 1 < len(segments) and segments[nth + 1].first_op == op + 1:
            nth, at = nth + 1, SECTOR
        before = op
        for after, batch in read_batches(disk, segments[nth], at, op, hash):
            if batch.op > until_op:
                return
            segments[nth].mark(batch.first_op, at)
            op, hash, at = batch.op, batch.hash, after
            yield Place(nth, at, op, hash), batch
            if op == until_op:
                return
        if op == before:
            raise JournalDamaged(f"the batch behind op {op} cannot be read", (segments[nth].path, at))


def read_batches(disk: Disk, segment: Segment, at: int, op: int, hash: bytes) -> Iterator[tuple[int, Batch]]:
    """Whole batches from `at` on, each following the one before it, with the offset behind each; ends at the first thing that is none."""
    for _, after, block, offset in images(disk, segment, at):
        try:
            batch = Batch.decode(block, offset)
        except DamagedBatch:
            return
        if batch.first_op != op + 1 or batch.prev_hash != hash:
            return
        end = offset + len(batch.image)
        if block[end : end + -len(batch.image) % SECTOR].strip(b"\0"):
            return
        op, hash = batch.op, batch.hash
        yield after, batch


def images(disk: Disk, segment: Segment, at: int) -> Iterator[tuple[int, int, bytes, int]]:
    """What the headers from `at` on say: (at, offset behind the image, a block of bytes, where in it the image begins)."""
    block, base = b"", at
    while at < segment.size:
        if at + SECTOR > base + len(block):
            block, base = disk.pread(segment.fd, min(WINDOW_BYTES, segment.size - at), at), at
        try:
            after = at + padded(HEADER_SIZE + body_length(block, at - base) + TRAILER_SIZE)
        except DamagedBatch:
            return
        if after > segment.size:
            return
        if after > base + len(block):
            block, base = disk.pread(segment.fd, max(after - at, min(WINDOW_BYTES, segment.size - at)), at), at
        yield at, after, block, at - base
        at = after


def body_length(image: bytes | memoryview, at: int = 0) -> int:
    """Bytes of the body of the batch whose header stands at `at`. Raises DamagedBatch when the header is not sound."""
    return int(HEADER.unpack(sound_header(image, at))[3])


def padded(count: int) -> int:
    """Up to the next sector boundary."""
    return (count + SECTOR - 1) // SECTOR * SECTOR


def first_op_of(segment: Segment) -> int:
    return segment.first_op


class Remark(NamedTuple):
    """What `survey` has to say about a place; `wrong`: it is damage."""

    path: str
    at: int
    text: str
    wrong: bool


def survey(disk: Disk, path: str) -> Iterator[Batch | Remark]:
    """Everything in the directory in order, and remarks: for people who look at a journal. Writes nothing."""
    for name in [n for n in disk.listdir(path) if n.endswith(SUFFIX)]:
        segments, damage = open_segments(disk, [f"{path}/{name}"])
        if damage is not None:
            yield Remark(f"{path}/{name}", damage.offsets[0][1], damage.sentence, True)
        for segment in segments:
            try:
                yield from _survey_segment(disk, segment)
            finally:
                disk.close(segment.fd)


def _survey_segment(disk: Disk, segment: Segment) -> Iterator[Batch | Remark]:
    at, op, hash = SECTOR, segment.first_op - 1, segment.prev_hash
    yield Remark(segment.path, 0, f"generation {segment.generation} from op {segment.first_op}, {segment.size} bytes", False)
    for after, batch in read_batches(disk, segment, at, op, hash):
        yield batch
        at, op, hash = after, batch.op, batch.hash
    found = judge(disk, segment, at, op, hash)
    yield Remark(segment.path, at, found or "the segment ends", found not in (ENDS, TORN))
