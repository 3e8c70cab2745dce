"""The batch: the unit that is appended, synced, sent, acknowledged and hashed.

What it is not: it knows no command (its body is opaque), no log and no packet.

A **batch** is appended, synced, sent, acknowledged and hashed as a whole; it is never split, merged or stamped again. Its image is the same
bytes in the journal and on the wire:

    offset  size  field
    0       4     magic       b"USB1"
    4       8     first_op    op of its first command
    12      4     count       number of commands: its op, by which everybody names it, is first_op + count - 1
    16      4     length      bytes of the body
    20      8     view        number of the view in which it was formed
    28      8     time        microseconds since 1970; command i has time + i
    36      16    prev_hash   hash of the batch before it (16 zero bytes before op 1)
    52      4     header_crc  CRC-32 of the 52 bytes before
    56            body        opaque to replication
            16    hash        first half of the SHA-256 of header (without CRC) and body
            4     end         b"\\xf1END": no image ends in a zero byte, which the tail rule of the journal relies on

Two equal (op, hash) therefore mean two equal logs up to there.

Read next: `packets.py`, `journal.py`.
"""

from __future__ import annotations

import hashlib
import struct
import zlib

HEADER, CRC = struct.Struct("<4sQIIQQ16s"), struct.Struct("<I")
MAGIC, END, HASH_SIZE, NO_HASH = b"USB1", b"\xf1END", 16, bytes(16)
HEADER_SIZE, TRAILER_SIZE = HEADER.size + CRC.size, HASH_SIZE + len(END)
SHA_256 = hashlib.sha256()
BATCH_MAX = 1 << 20  # bytes of a body; a longer one would keep a member's disk from answering in time


class DamagedBatch(ValueError):
    """The bytes are no whole batch."""


class Batch:
    """See the module's drawing. `op` is the op of its last command; `image` its bytes."""

    __slots__ = ("body", "count", "first_op", "hash", "image", "op", "prev_hash", "time", "view")

    def __init__(
        self, first_op: int, count: int, view: int, time: int, prev_hash: bytes, body: bytes, hash: bytes = b"", image: bytes = b""
    ) -> None:
        """Without an image: a new one."""
        assert first_op > 0 and count > 0 and len(prev_hash) == HASH_SIZE and body
        self.first_op, self.count, self.view, self.time = first_op, count, view, time
        self.prev_hash, self.body = prev_hash, body
        self.op = first_op + count - 1
        if not image:
            header = HEADER.pack(MAGIC, first_op, count, len(body), view, time, prev_hash)
            hash = digest(header, body)
            image = b"".join((header, CRC.pack(zlib.crc32(header)), body, hash, END))
        self.hash, self.image = hash, image

    def __repr__(self) -> str:
        return f"batch {self.op}:{self.hash.hex()[:6]}"

    @property
    def tip(self) -> tuple[int, bytes]:
        """How a log ends whose last batch this is."""
        return self.op, self.hash

    @staticmethod
    def decode(image: bytes | memoryview, at: int = 0) -> Batch:
        """The batch whose image starts at `at`. Raises DamagedBatch when any bit of it is not as it was written."""
        header = sound_header(image, at)
        _, first_op, count, length, view, time, prev_hash = HEADER.unpack(header)
        end = at + HEADER_SIZE + length + TRAILER_SIZE
        if end > len(image):
            raise DamagedBatch("cut short")
        body = bytes(image[at + HEADER_SIZE : end - TRAILER_SIZE])
        trailer = bytes(image[end - TRAILER_SIZE : end])
        if trailer[HASH_SIZE:] != END:
            raise DamagedBatch("no end mark")
        hash = trailer[:HASH_SIZE]
        if digest(header, body) != hash:
            raise DamagedBatch("wrong hash")
        if first_op < 1 or count < 1 or not length:
            raise DamagedBatch("impossible numbers")
        return Batch(first_op, count, view, time, prev_hash, body, hash, bytes(image[at:end]))


def digest(header: bytes, body: bytes) -> bytes:
    """The hash of a batch: 16 bytes."""
    hash = SHA_256.copy()  # half of the time of a new one, if it is little that is hashed
    hash.update(header + body)
    return hash.digest()[:HASH_SIZE]


def sound_header(image: bytes | memoryview, at: int = 0) -> bytes:
    """The header that stands at `at`, without its CRC. Raises DamagedBatch when it is not sound."""
    if len(image) - at < HEADER_SIZE:
        raise DamagedBatch("header cut short")
    end = at + HEADER.size
    header = bytes(image[at:end])
    if not header.startswith(MAGIC) or image[end : end + CRC.size] != CRC.pack(zlib.crc32(header)):
        raise DamagedBatch("wrong header")
    return header


def decode_all(images: bytes, op: int, hash: bytes) -> list[Batch]:
    """The batches in these images, which follow (op, hash) and each other. Raises DamagedBatch."""
    batches, at = list[Batch](), 0
    while at < len(images):
        batch = Batch.decode(images, at)
        if (batch.first_op, batch.prev_hash) != (op + 1, hash):
            raise DamagedBatch(f"{batch} does not follow op {op}")
        batches.append(batch)
        op, hash, at = batch.op, batch.hash, at + len(batch.image)
    return batches


def image_hash(images: bytes) -> bytes:
    """The hash of the last batch of these images."""
    return images[-TRAILER_SIZE : -len(END)]
