"""The page on which a replica's disk says who it is and what belongs together: identity, view, snapshot and journal generation.

What it is not: it decides nothing, and it is no log: only the newest content counts.

    superblock   two slots of 4 KiB; save number `seq` goes to slot seq % 2 and is synced; then the other slot gets a copy, not synced
    slot         magic b"USP1" | crc32 of all that follows | seq u64 | length u32 | content (msgpack) | zeros

The synced slot is never touched by the save that follows it, so one of the two is whole whatever happens. The copy means that after a while
both hold the same, and one of them may rot without anything being forgotten. Where the content says `suspect`, the copy is synced at once.

Snapshot and journal generation stand in one content: whoever installs a snapshot changes both in one step.

Read next: `register.py`.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable

import msgspec

from batches import NO_HASH
from disk import Disk

SLOT_BYTES = 4096
SLOTS = 2
SEQ_MAX = (1 << 64) - 1  # no disk lives so long; a slot that says so has a right checksum all the same
MAGIC = b"USP1"
_HEAD = struct.Struct("<4sIQI")
_CRC_FROM = 8  # the checksum covers everything behind itself


class SuperblockDamaged(Exception):
    """No slot can be read: this disk no longer knows who it is."""


class Superblock(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """What one replica's disk knows of itself. `suspect`: a sync failed here, or its log was found damaged; it may not begin a view.

    `born`: the incarnation that made this superblock. What older incarnations promised, another disk promised.
    `met`: the newest incarnation of each other replica that was linked with this one (policy `majority`).
    `forced`: the newest view known here that an operator has decided; a log of an older view counts for nothing.
    `began`: it takes part in the first view: until it has a log, it remembers all that it ever promised (policy `majority`).
    `policy`, `peers`: what cluster.yaml said when this replica started last, replica by replica; empty: an earlier build wrote it.
    """

    cluster: str
    replica: int
    replicas: int
    config_hash: str
    format_nonce: bytes
    inc: int
    view: int = 0
    log_view: int = 0
    snapshot_op: int = 0
    snapshot_hash: bytes = NO_HASH
    snapshot_name: str = ""
    journal_generation: int = 0
    suspect: bool = False
    born: int = 0
    met: tuple[tuple[int, int], ...] = ()
    forced: int = 0
    policy: str = ""
    peers: tuple[str, ...] = ()
    began: bool = False


def load(disk: Disk, path: str, report: Callable[[str], None] | None = None) -> Superblock | None:
    """The newest content, made durable; None when there is no file. `report` is told of a slot that cannot be read while the other can."""
    if not disk.exists(path):
        return None
    fd = disk.open(path)
    try:
        # A process that was killed may have got as far as the page cache; whoever acts on what it wrote must not lose it.
        disk.sync(fd)
        disk.sync_dir(os.path.dirname(path) or ".")
        slots, complaints = _read(disk, fd)
    finally:
        disk.close(fd)
    if not slots:
        raise SuperblockDamaged(f"{path}: {'; '.join(complaints)}: this disk counts as empty; move the directory aside to begin it anew")
    for complaint in complaints:
        if report is not None:
            report(f"{path}: {complaint}; the other slot is used")
    return slots[max(slots)]


def save(disk: Disk, path: str, superblock: Superblock) -> None:
    """Make it the newest content, synced when this returns."""
    if not disk.exists(path):
        return create(disk, path, superblock)
    fd = disk.open(path)
    try:
        slots, complaints = _read(disk, fd)
        if not slots:
            raise SuperblockDamaged(f"{path}: {'; '.join(complaints)}")
        seq = max(slots) + 1
        if seq > SEQ_MAX:
            return create(disk, path, superblock)
        slot = _encode(superblock, seq)
        disk.pwrite(fd, slot, seq % SLOTS * SLOT_BYTES)
        disk.sync(fd)
        disk.pwrite(fd, slot, (seq + 1) % SLOTS * SLOT_BYTES)
        if superblock.suspect:
            # The next write takes away what spoke against the disk. A power cut and one rotten slot must not take this mark, too.
            disk.sync(fd)
    finally:
        disk.close(fd)


def create(disk: Disk, path: str, superblock: Superblock) -> None:
    """Written aside and renamed: a superblock file is whole from the first moment it can be seen. Replaces one that cannot be read."""
    aside = f"{path}.tmp"
    fd = disk.open(aside, create=True)
    try:
        disk.pwrite(fd, _encode(superblock, 1) * SLOTS, 0)
        disk.truncate(fd, SLOTS * SLOT_BYTES)
        disk.sync(fd)
    finally:
        disk.close(fd)
    disk.rename(aside, path)
    disk.sync_dir(os.path.dirname(path) or ".")


def _encode(superblock: Superblock, seq: int) -> bytes:
    content = msgspec.msgpack.encode(superblock)
    tail = struct.pack("<QI", seq, len(content)) + content
    assert len(tail) + _CRC_FROM <= SLOT_BYTES, "superblock content outgrew its slot"
    tail = tail.ljust(SLOT_BYTES - _CRC_FROM, b"\0")
    return MAGIC + struct.pack("<I", zlib.crc32(tail)) + tail


def _read(disk: Disk, fd: int) -> tuple[dict[int, Superblock], list[str]]:
    """Content by seq, and a complaint for every slot that holds none."""
    content = disk.pread(fd, SLOTS * SLOT_BYTES + 1, 0)
    slots: dict[int, Superblock] = {}
    complaints = []
    if len(content) != SLOTS * SLOT_BYTES:
        complaints.append(f"the file is {len(content)} bytes or more, not {SLOTS * SLOT_BYTES}")
    for number in range(SLOTS):
        slot = content[number * SLOT_BYTES : (number + 1) * SLOT_BYTES]
        decoded = _decode(slot)
        if decoded is None:
            complaints.append(f"slot {number} (offset {number * SLOT_BYTES}) is damaged")
        else:
            slots.setdefault(*decoded)
    return slots, complaints


def _decode(slot: bytes) -> tuple[int, Superblock] | None:
    if len(slot) != SLOT_BYTES:
        return None
    magic, crc, seq, length = _HEAD.unpack_from(slot)
    if magic != MAGIC or crc != zlib.crc32(memoryview(slot)[_CRC_FROM:]):
        return None
    try:
        return seq, msgspec.msgpack.decode(slot[_HEAD.size : _HEAD.size + length], type=Superblock)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
