"""The file that does not forget: a replica's log on its own disk, in segments of batches.

What it is not: it does not know what is committed, nor what a body means, and it never decides to drop anything by itself but what a
power cut left half-written (the tail rule, drawn in `segments.py` with the layout of the files).

    journal/00000000-0000000000000001.seg      a closed segment: read, and one day removed
    journal/00000000-00000000000012f7.seg      the newest: batches go behind its last one
    journal/spare.tmp                          the next, being filled with zeros

`open` writes nothing but the last batch once more, as it stands. What it found torn is overwritten by the first append or cut, so a replica
that may not change its disk (a learner that the register still lists) can open its journal, and evidence stays where it is.

Invariants:
- Each batch carries the hash of the one before it; each segment the hash of the batch before its first one.
- A segment is begun only when a batch follows all that is in the others, so only the newest is ever cut, by its last batch.
- Behind the end of the log stand zeros before anything is appended.
- After a failed sync nothing is written any more, and no sync is tried again.

Read next: `server.py` (who appends), `docs/disk-format.md`.
"""

from __future__ import annotations

import errno
import os
from bisect import bisect_right
from collections.abc import Callable
from typing import NoReturn

from batches import HEADER, NO_HASH, Batch, DamagedBatch
from disk import SECTOR, Disk
from segments import ENDS, SUFFIX, TORN, ZEROS, Place, Segment, Spare, first_op_of, images, judge, open_segments, padded, read_batches, walk
from segments import JournalDamaged as JournalDamaged
from segments import read_segments as read_segments

SEGMENT_BYTES = 16 << 20  # a restart reads the newest one or few; a deleted one gives this much room back
FIRST_BYTES = 1 << 20  # the first segment is made while people wait
SLICE_BYTES = 256 << 10  # zeros written and synced by one call of prepare_next: about a millisecond
CURSORS = 8  # replicas that walk through the log at the same time


class Journal:
    """See the module's drawing. Read-only outside: generation, head_op, head_hash, parent_op, parent_hash, last, oldest_op, damage.

    `last` is the batch at the head; None where the head is the base, or the last one was cut. `damage` says what `open(salvage=True)` found
    wrong; then the log is the sound part, and the first append drops the rest.
    """

    def __init__(self, disk: Disk, path: str, generation: int, *, segment_bytes: int, first_bytes: int) -> None:
        self._disk, self._path, self.generation = disk, path, generation
        self._segment_bytes, self._first_bytes = segment_bytes, first_bytes
        self.head_op = self.parent_op = 0
        self.head_hash = self.parent_hash = NO_HASH
        self.last: Batch | None = None
        self.damage = ""
        self._segments: list[Segment] = []
        self._doomed: list[str] = []  # files behind the end of the log: removed before the next write
        self._foreign: list[str] = []  # files of other generations
        self._stale = False  # behind the end of the log may stand something else than zeros
        self._fd = -1  # of the newest segment; then its size, where the log ends in it, and where its last batch begins
        self._size = self._end = self._last_at = 0
        self._dirty = False
        self._failed = ""
        self._spare = Spare(disk, path)
        self._cursors: dict[tuple[int, bytes], Place] = {}

    # --- beginning ------------------------------------------------------------------------------------------------------------------------

    @classmethod
    def open(
        cls,
        disk: Disk,
        path: str,
        generation: int,
        base_op: int,
        base_hash: bytes,
        durable_op: int = 0,
        *,
        salvage: bool = False,
        replay: Callable[[Batch], object] | None = None,
        segment_bytes: int = 0,
        first_bytes: int = 0,
    ) -> Journal:
        """The log that goes on from the snapshot (base_op, base_hash) and may reach back before it, synced. Sizes of 0: those above.

        `durable_op`: up to here it was synced once, so one that ends below has lost something. Where nothing ever was, it is made.
        `replay`: is given what stands above the snapshot, batch by batch, without the last one, which may not be committed.
        Raises JournalDamaged, or with `salvage` gives what is sound. OSError: a sync failed, the disk is suspect.
        """
        self = cls(disk, path, generation, segment_bytes=segment_bytes or SEGMENT_BYTES, first_bytes=first_bytes or FIRST_BYTES)
        self.head_op, self.head_hash = self.parent_op, self.parent_hash = base_op, base_hash
        disk.mkdir(path)
        # Even if it was there: the process that made it may have been killed before its name was durable.
        disk.sync_dir(os.path.dirname(path) or ".")
        try:
            paths = self._sort_out(path)
            if base_op == durable_op == 0 and not paths and not self._foreign:
                self._begin_segment(1, NO_HASH, self._first_bytes)
            else:
                damage = self._recover(paths, base_op, base_hash, durable_op, replay)
                if damage is not None and not salvage:
                    raise damage
                self.damage = str(damage or "")
            if self._segments:
                # A process that was killed may have left a batch that no disk holds yet. If a sync of it had failed, the kernel takes its
                # pages for clean, and the next sync lies: so it is written again before it counts.
                if self.last is not None and self._last_at:
                    disk.pwrite(self._fd, self.last.image, self._last_at)
                self._sync(self._fd)
                disk.sync_dir(path)
        except BaseException:
            self.close()
            raise
        return self

    @classmethod
    def examine(cls, disk: Disk, path: str, generation: int, base_op: int, base_hash: bytes) -> Journal:
        """What `open` would find, for people: `damage` says what is wrong behind the head. Nothing is written, synced or made."""
        self = cls(disk, path, generation, segment_bytes=SEGMENT_BYTES, first_bytes=FIRST_BYTES)
        self.head_op, self.head_hash = self.parent_op, self.parent_hash = base_op, base_hash
        self.damage = str(self._recover(self._sort_out(path), base_op, base_hash, 0) or "")
        return self

    def drop_damage(self) -> None:
        """What is wrong behind the head goes, synced: an operator wants it, who has kept a copy."""
        self._make_writable()
        self.damage = ""

    def close(self) -> None:
        """Give all descriptors back; writes nothing."""
        for segment in self._segments:
            self._disk.close(segment.fd)
        self._spare.forget()
        self._segments, self._fd = [], -1

    def _sort_out(self, path: str) -> list[str]:
        """Paths of this generation's segments, oldest first; the others are remembered for drop_old."""
        paths = [f"{path}/{name}" for name in self._disk.listdir(path) if name.endswith(SUFFIX)]
        own = [p for p in paths if p.startswith(f"{path}/{self.generation:08x}-")]
        self._foreign = [p for p in paths if p not in own]
        return own

    def _recover(
        self, paths: list[str], base_op: int, base_hash: bytes, durable_op: int, replay: Callable[[Batch], object] | None = None
    ) -> JournalDamaged | None:
        """Find the end of the log, and what is wrong with it; afterwards only sound segments are left."""
        self._segments, unreadable = open_segments(self._disk, paths)
        kept, damage = self._scan(base_op, base_hash, replay)
        for segment in self._segments[kept:]:
            self._disk.close(segment.fd)
        del self._segments[kept:]
        self._doomed = paths[kept:]  # nobody but this process removes segments, so they stand in the same order
        if kept:
            newest = self._segments[-1]
            self._fd, self._size = newest.fd, newest.size
        damage = damage or unreadable
        if damage is None and self.head_op < durable_op:
            where = (self._segments[-1].path, self._end)
            damage = JournalDamaged(f"the log ends at op {self.head_op}, but it was synced up to op {durable_op}", where)
        return damage

    def _scan(self, base_op: int, base_hash: bytes, replay: Callable[[Batch], object] | None) -> tuple[int, JournalDamaged | None]:
        """Walk through all that is above the base. Returns how many segments are sound, and what is wrong behind them."""
        segments = self._segments
        first = bisect_right([s.first_op for s in segments], base_op + 1) - 1
        if first < 0:
            return 0, JournalDamaged(f"{self._path} holds nothing of generation {self.generation} that follows op {base_op}")
        op, hash = segments[first].first_op - 1, segments[first].prev_hash
        if op == base_op and hash != base_hash:
            return 0, JournalDamaged(f"the log does not go on from the snapshot of op {base_op}", (segments[first].path, 0))
        for index in range(first, len(segments)):
            segment = segments[index]
            if (op, hash) != (segment.first_op - 1, segment.prev_hash):
                return (index if op >= base_op else 0), JournalDamaged(f"the segment does not follow op {op}", (segment.path, 0))
            at, self._last_at = SECTOR, 0
            for after, batch in read_batches(self._disk, segment, at, op, hash):
                if batch.first_op <= base_op <= batch.op and (batch.op, batch.hash) != (base_op, base_hash):
                    return 0, JournalDamaged(f"this batch is not the one that the snapshot of op {base_op} ends with", (segment.path, at))
                segment.mark(batch.first_op, at)
                if batch.op > base_op:
                    if replay is not None and self.last is not None:
                        replay(self.last)  # nothing that is found further on can send the log back behind it
                    self.parent_op, self.parent_hash = op, hash
                    self.head_op, self.head_hash, self.last, self._last_at = batch.op, batch.hash, batch, at
                op, hash, at = batch.op, batch.hash, after
            self._end = at
            found = judge(self._disk, segment, at, op, hash)
            self._stale = found != ENDS
            if found not in (ENDS, TORN):
                return (index + 1 if op >= base_op else 0), JournalDamaged(found, (segment.path, at))
            if found == TORN and index + 1 < len(segments):
                return (index + 1 if op >= base_op else 0), JournalDamaged("a hole before the end of the log", (segment.path, at))
        if op < base_op:
            return 0, JournalDamaged(f"the log ends at op {op}, below the snapshot of op {base_op}", (segments[-1].path, self._end))
        return len(segments), None

    # --- writing --------------------------------------------------------------------------------------------------------------------------

    def append(self, batch: Batch) -> None:
        """Write the batch behind the head; it counts once `sync` has returned. OSError: nothing was appended."""
        assert batch.first_op == self.head_op + 1 and batch.prev_hash == self.head_hash, f"{batch} does not follow op {self.head_op}"
        if self._stale or self._doomed or self._failed or not self._segments:
            self._make_writable()
        image = batch.image
        at = self._end
        after = at + padded(len(image))
        if after > self._size:
            self._begin_segment(batch.first_op, batch.prev_hash, max(self._segment_bytes, SECTOR + after - at))
            at, after = SECTOR, SECTOR + after - at
        self._stale = True
        self._disk.pwrite(self._fd, image, at)
        self._stale = False
        self._segments[-1].mark(batch.first_op, at)
        self.parent_op, self.parent_hash = self.head_op, self.head_hash
        self.head_op, self.head_hash, self.last = batch.op, batch.hash, batch
        self._last_at, self._end, self._dirty = at, after, True

    def sync(self) -> None:
        """What was appended survives a power cut. After an error this journal takes nothing more."""
        if self._dirty:
            self._require_sound()
            self._sync(self._fd)
            self._dirty = False

    def cut(self) -> None:
        """Drop the last batch, which no other can be behind: `last` is None afterwards, and a second cut has nothing to drop."""
        assert self.last is not None, f"nothing to cut at op {self.head_op}"
        assert self._last_at, f"op {self.head_op} stands in a closed segment: all of it is committed"
        self._make_writable()
        at, end = self._last_at, self._end
        self._stale = True
        self._disk.pwrite(self._fd, bytes(end - at), at)
        self._sync(self._fd)
        self._stale = self._dirty = False
        self._end, self._last_at, self.last = at, 0, None
        self.head_op, self.head_hash = self.parent_op, self.parent_hash
        self._segments[-1].forget(at)
        self._cursors.clear()

    def prepare_next(self) -> bool:
        """A slice of the next segment; call it off the hot path, now and then. True: there is more to do already."""
        if self._failed or self._end * 2 < self._size or self._spare.is_ready(self._segment_bytes):
            return False
        self._spare.fill(self._segment_bytes, SLICE_BYTES)
        return not self._spare.is_ready(self._segment_bytes)

    def restart(self, generation: int, base_op: int, base_hash: bytes) -> None:
        """An empty log behind this snapshot. The old files stay until `drop_old`: not before the superblock names the new generation."""
        assert generation > self.generation, f"generation {generation} after {self.generation}"
        self._require_sound()
        self._foreign += [s.path for s in self._segments] + self._doomed
        for path in [p for p in self._foreign if p.startswith(f"{self._path}/{generation:08x}-")]:
            # Left by an installation that a crash ended before the superblock named it.
            self._disk.unlink(path)
            self._foreign.remove(path)
        for segment in self._segments:
            self._disk.close(segment.fd)
        self._segments, self._doomed, self._stale, self._dirty = [], [], False, False
        self._cursors.clear()
        self.generation, self.damage, self.last = generation, "", None
        self.head_op, self.head_hash = self.parent_op, self.parent_hash = base_op, base_hash
        self._begin_segment(base_op + 1, base_hash, self._first_bytes)

    def drop_old(self) -> None:
        """Remove the files of other generations."""
        foreign, self._foreign = self._foreign, []
        for path in foreign:
            self._disk.unlink(path)
        if foreign:
            self._disk.sync_dir(self._path)

    def drop_below(self, op: int) -> None:
        """Remove whole segments that end at or below `op`."""
        while len(self._segments) > 1 and self._segments[1].first_op <= op + 1:
            segment = self._segments.pop(0)
            self._cursors.clear()
            self._disk.close(segment.fd)
            self._disk.unlink(segment.path)
            # One by one: no crash may remove a later one and leave an earlier one, which would be a gap.
            self._disk.sync_dir(self._path)

    def _make_writable(self) -> None:
        """Remove what stands behind the end of the log, so that the next batch is followed by zeros."""
        self._require_sound()
        if self._doomed:
            while self._doomed:
                self._disk.unlink(self._doomed[-1])
                self._doomed.pop()
            self._sync_dir()
        if not self._segments:
            return self._begin_segment(self.head_op + 1, self.head_hash, self._first_bytes)
        if self._stale:
            for at in range(self._end, self._size, len(ZEROS)):
                self._disk.pwrite(self._fd, ZEROS[: self._size - at], at)
            self._sync(self._fd)
            self._stale = False

    def _begin_segment(self, first_op: int, prev_hash: bytes, size: int) -> None:
        """The spare becomes the newest segment: all of it durable before the first batch is written."""
        self._require_sound()
        self.sync()
        while not self._spare.is_ready(size):
            self._spare.fill(size, len(ZEROS))
        segment = self._spare.become(self.generation, first_op, prev_hash)
        if self._segments and self._segments[-1].path == segment.path:
            # The first one was too small for the first batch: the rename has taken its name.
            self._disk.close(self._segments.pop().fd)
        self._segments.append(segment)
        self._fd, self._size, self._end, self._last_at = segment.fd, size, SECTOR, 0
        self._sync_dir()

    def _sync(self, fd: int) -> None:
        try:
            self._disk.sync(fd)
        except OSError as error:
            self._fail(error)

    def _sync_dir(self) -> None:
        try:
            self._disk.sync_dir(self._path)
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> NoReturn:
        """The kernel may count the lost page as clean now: another sync would lie. Never ENOSPC, which means that nothing has happened."""
        self._failed = str(error)
        raise OSError(errno.EIO, f"a sync of the journal failed: {error}") from error

    def _require_sound(self) -> None:
        if self._failed:
            raise OSError(errno.EIO, f"the journal takes nothing more since a sync failed: {self._failed}")

    # --- reading --------------------------------------------------------------------------------------------------------------------------

    @property
    def oldest_op(self) -> int:
        """First op that is still here."""
        return self._segments[0].first_op if self._segments else self.head_op + 1

    def read_after(self, op: int, hash: bytes, limit_bytes: int, until: int | None = None) -> bytes | None:
        """Images behind the batch that ends in (op, hash): whole ones, at least one if there is one, none that ends above `until`.

        Empty: nothing follows. None: (op, hash) is not here, because it is too old or of another log. JournalDamaged: it cannot be read.
        """
        if (op, hash) == (self.head_op, self.head_hash):
            return b""
        place = self._cursors.pop((op, hash), None) or self._locate(op)
        if place is None or place.hash != hash:
            return None
        images: list[bytes] = []
        size = 0
        for behind, batch in walk(self._disk, self._segments, place, self.head_op if until is None else min(until, self.head_op)):
            size += len(batch.image)
            if images and size > limit_bytes:
                break
            images.append(batch.image)
            place = behind
        if len(self._cursors) >= CURSORS:
            del self._cursors[next(iter(self._cursors))]
        self._cursors[place.op, place.hash] = place
        return b"".join(images)

    def hash_at(self, op: int) -> bytes | None:
        """Hash of the batch that ends at `op`, if it is here."""
        place = self._locate(op)
        return None if place is None else place.hash

    def bytes_since(self, op: int) -> int:
        """Bytes of journal above `op`, to within MARK_BYTES."""
        if op >= self.head_op or not self._segments:
            return 0
        index = max(0, bisect_right(self._segments, op + 1, key=first_op_of) - 1)
        total = -self._segments[index].nearest(op + 1)
        for segment in self._segments[index:-1]:
            total += segment.size
        return total + self._end

    def _locate(self, op: int) -> Place | None:
        """The place behind the batch that ends at `op`; None: no batch here does."""
        if op == self.head_op:
            return Place(len(self._segments) - 1, self._end, op, self.head_hash)
        index = bisect_right(self._segments, op + 1, key=first_op_of) - 1
        if index < 0 or op > self.head_op:
            return None
        segment = self._segments[index]
        if op + 1 == segment.first_op:
            return Place(index, SECTOR, op, segment.prev_hash)
        for at, after, block, offset in images(self._disk, segment, segment.nearest(op)):
            _, first_op, count, *_ = HEADER.unpack_from(block, offset)
            segment.mark(first_op, at)
            if first_op + count - 1 >= op:
                if first_op + count - 1 > op:
                    return None
                try:
                    return Place(index, after, op, Batch.decode(block, offset).hash)
                except DamagedBatch as error:
                    raise JournalDamaged(str(error), (segment.path, at)) from error
        raise JournalDamaged(f"op {op} should stand here and does not", (segment.path, segment.nearest(op)))
