"""The transfer of a snapshot from one replica to another, both halves.

What it is not: it sends nothing (packets are handed over by the server), knows no clock (time is an argument) and does not install what
it received. All files go through `Disk`.

    Sender (primary)                                     Receiver (learner), one for each transfer
      offer(now)        ── SnapshotOffer: manifest ──►     begin
      chunk(…, now)     ◄── GetChunk (WINDOW at a time) ── next_requests: after each chunk, and at every tick
                        ── Chunk ──────────────────────►   take: written in order, hashed on the way, each file synced at its end
      pinned(now)                                          … the last one: manifest and directory synced; the server installs `path`

A snapshot that was offered or asked for stays pinned for PIN_S after the last request, so that it is not pruned half-way. The receiver
believes nothing: names are those a snapshot has (no path leads elsewhere), sizes and SHA-256 are those of the manifest. A file that the
receiver's own newest snapshot holds too is linked instead of fetched, but hashed before, since a transfer is also how rot is repaired.

Invariants:
- At most WINDOW chunks are asked for and not yet written, so memory is bounded whatever the snapshot's size.
- They are asked for at PACE and no faster, on a host with nothing to do too: nobody knows what its guests need a moment later.
- `take` says that the snapshot is complete once, with every file of the manifest in place, whole, verified and synced.

Read next: `snapshots.py` (what the files are), `server.py` (who carries the packets).
"""

from __future__ import annotations

import hashlib
from collections import deque
from typing import NamedTuple

from batches import NO_HASH
from disk import Disk
from packets import Chunk, GetChunk, SnapshotOffer
from snapshots import MANIFEST, MANIFEST_MAX, UNFINISHED, Manifest, Part, SnapshotDamaged, listed, name_of

CHUNK = 256 * 1024  # bytes: small enough to be read, sent and written between two heartbeats
WINDOW = 4  # chunks asked for at a time: the link stays busy, the log's packets still get through
PACE = 180 << 20  # bytes a second: faster, guests would wait for the processor and the disk that a learner on their host takes
PACE_SLACK_S = 0.1  # what was not asked for in time, since both sides have other things to do, is made up for within this
KEPT_SLICE = 4 << 20  # bytes of a file of its own that the receiver hashes in one go: some 10 ms, in which only a learner is deaf
PIN_S = 10.0  # seconds a snapshot is kept after the last request for it
ASK_AGAIN_S = 1.0  # seconds after which a chunk that did not come is asked for again


class TransferFailed(Exception):
    """The transfer must begin again, or cannot succeed; the text says why."""


class Piece(NamedTuple):
    """Bytes of a file that one chunk carries."""

    name: str
    offset: int
    length: int


def read_offer(op: int, tip: bytes, image: bytes) -> Manifest:
    """The manifest of this op and hash. Raises TransferFailed."""
    try:
        manifest = Manifest.decode(image)
    except SnapshotDamaged as error:
        raise TransferFailed(f"the offered snapshot cannot be used: {error}") from None
    if (manifest.op, manifest.hash) != (op, tip.hex()):
        raise TransferFailed(f"the offer names op {op}, its manifest op {manifest.op} or another hash")
    if any(part.size < 1 for part in manifest.files.values()):
        raise TransferFailed("the offered snapshot cannot be used: no file of a snapshot is empty")
    return manifest


def read_image(disk: Disk, directory: str) -> bytes:
    """Bytes of the manifest in this folder. Raises OSError."""
    fd = disk.open(f"{directory}/{MANIFEST}")
    try:
        return disk.pread(fd, MANIFEST_MAX, 0)
    finally:
        disk.close(fd)


class Pin(NamedTuple):
    """A snapshot in use, and until when it must stay."""

    manifest: Manifest
    until: float


class Sender:
    """The half that has a snapshot. What its disk cannot read it does not have: no learner may bring a primary down."""

    def __init__(self, disk: Disk, snapshots_dir: str) -> None:
        self._disk, self._directory = disk, snapshots_dir
        self._pins: dict[int, Pin] = {}
        self._file: tuple[int, str, int] | None = None  # op, name, descriptor: the next chunk mostly is of the same file

    def offer(self, now: float) -> tuple[int, bytes, bytes] | None:
        """Op, hash and manifest of the newest sound snapshot, pinned from now on; None if there is none."""
        for name in self._complete():
            loaded = self._load(name)
            if loaded is not None:
                image, manifest = loaded
                self._pins[manifest.op] = Pin(manifest, now + PIN_S)
                return manifest.op, bytes.fromhex(manifest.hash), image
        return None

    def chunk(self, op: int, name: str, offset: int, now: float) -> bytes:
        """The bytes asked for; empty when they are not kept (any more)."""
        manifest = self._renew(op, now)
        part = manifest.files.get(name) if manifest is not None else None
        if part is None or not 0 <= offset < part.size:
            return b""
        try:
            return self._disk.pread(self._open(op, name), min(CHUNK, part.size - offset), offset)
        except OSError:
            return b""

    def pinned(self, now: float) -> frozenset[int]:
        """Ops of the snapshots that a transfer uses: they and the journal above them stay."""
        for op in [op for op, pin in self._pins.items() if pin.until <= now]:
            del self._pins[op]
            if self._file is not None and self._file[0] == op:
                self.close()
        return frozenset(self._pins)

    def close(self) -> None:
        """Let go of the open file."""
        if self._file is not None:
            self._disk.close(self._file[2])
            self._file = None

    def _complete(self) -> list[str]:
        try:
            return listed(self._disk, self._directory)
        except OSError:
            return []

    def _load(self, name: str) -> tuple[bytes, Manifest] | None:
        try:
            image = read_image(self._disk, f"{self._directory}/{name}")
            manifest = Manifest.decode(image)
        except (SnapshotDamaged, OSError):
            return None
        return (image, manifest) if name_of(manifest.op) == name else None

    def _renew(self, op: int, now: float) -> Manifest | None:
        """Pin it for longer; also one that was offered by an earlier incarnation, or whose pin has run out."""
        pin = self._pins.get(op)
        if pin is None:
            loaded = self._load(name_of(op)) if name_of(op) in self._complete() else None
            if loaded is None:
                return None
            pin = Pin(loaded[1], now)
        self._pins[op] = Pin(pin.manifest, now + PIN_S)
        return pin.manifest

    def _open(self, op: int, name: str) -> int:
        if self._file is None or self._file[:2] != (op, name):
            self.close()
            self._file = (op, name, self._disk.open(f"{self._directory}/{name_of(op)}/{name}"))
        return self._file[2]


class KeptFile:
    """A file of an own snapshot that the offered one seems to hold too: read and hashed slice by slice before it is believed."""

    def __init__(self, disk: Disk, path: str, part: Part) -> None:
        self._disk, self._path, self._part = disk, path, part
        self._fd: int | None = None
        self._at, self._hash = 0, hashlib.sha256()

    def check(self) -> bool | None:
        """Whether it is as the manifest says; None while it is not read to its end. Raises OSError."""
        if self._fd is None:
            self._fd = self._disk.open(self._path)
            if self._disk.size(self._fd) != self._part.size:
                return False
        content = self._disk.pread(self._fd, min(KEPT_SLICE, self._part.size - self._at), self._at)
        self._hash.update(content)
        self._at += len(content)
        if content and self._at < self._part.size:
            return None
        return self._hash.hexdigest() == self._part.sha256

    def link(self, path: str) -> None:
        """Make it part of the received snapshot."""
        self._disk.link(self._path, path)

    def close(self) -> None:
        """Let go of it."""
        if self._fd is not None:
            self._disk.close(self._fd)
            self._fd = None


class Receiver:
    """The half that lacks one: one transfer, from `replica`, in this `generation` (both for the server to compare; neither is used here),
    at this `pace` in bytes a second.

    It works in `path`, which it makes (and removes at `abort`), beside the snapshots. Disk errors come through as OSError. After any
    exception, `abort`.
    """

    def __init__(self, disk: Disk, snapshots_dir: str, generation: int, replica: int, pace: float = PACE) -> None:
        self.generation, self.replica, self.pace = generation, replica, pace
        self.path = f"{snapshots_dir}/{UNFINISHED}transfer"
        self.op, self.hash = 0, NO_HASH
        self._disk, self._snapshots_dir = disk, snapshots_dir
        self._image = b""  # of the manifest
        self._files: dict[str, Part] = {}
        self._to_fetch: deque[str] = deque()
        self._cut_at = 0  # offset of the next piece of the first file to fetch
        self._window: list[Piece] = []  # in the order in which they are written
        self.due_at = float("-inf")  # nothing new is asked for before that
        self._asked: dict[Piece, float] = {}  # when
        self._arrived: dict[Piece, bytes] = {}
        self._kept: deque[tuple[str, KeptFile]] = deque()
        self._fd: int | None = None  # of the file that is being written
        self._hash = hashlib.sha256()  # of what was written to it

    def begin(self, offer: SnapshotOffer) -> None:
        """Look at the offer and plan. Raises TransferFailed when it is not sound."""
        assert not self.op, "a transfer begins once"
        manifest = read_offer(offer.op, offer.hash, offer.manifest)
        self.abort()
        self._disk.mkdir(self.path)
        self.op, self.hash, self._image, self._files = offer.op, offer.hash, offer.manifest, manifest.files
        own, directory = self._own_files()
        for name, part in sorted(self._files.items()):
            if own.get(name) == part:
                self._kept.append((name, KeptFile(self._disk, f"{directory}/{name}", part)))
            else:
                self._to_fetch.append(name)
        if not self._to_fetch:  # the end of a transfer is a chunk that was taken, so there must be one
            self._to_fetch.append(self._kept.pop()[0])

    def _own_files(self) -> tuple[dict[str, Part], str]:
        try:
            for name in listed(self._disk, self._snapshots_dir)[:1]:
                directory = f"{self._snapshots_dir}/{name}"
                return Manifest.decode(read_image(self._disk, directory)).files, directory
        except (SnapshotDamaged, OSError):
            pass  # a damaged snapshot of ours is one more reason to fetch everything
        return {}, ""

    @property
    def is_checking(self) -> bool:
        """Whether files of its own are still being read."""
        return bool(self._kept)

    def is_early(self, now: float) -> bool:
        """Whether more would be asked for now, if that were not faster than the pace."""
        return now < self.due_at and bool(self._to_fetch) and len(self._window) < WINDOW

    def next_requests(self, view: int, now: float) -> list[GetChunk]:
        """What to ask the sender for now; a little of the kept files is checked on the way."""
        self._check_kept()
        while self._to_fetch and len(self._window) < WINDOW and now >= self.due_at:
            name = self._to_fetch[0]
            size = self._files[name].size
            piece = Piece(name, self._cut_at, min(CHUNK, size - self._cut_at))
            is_last = len(self._to_fetch) == 1 and piece.offset + piece.length == size
            if is_last and self._kept:
                break  # a kept file may yet prove bad
            self._window.append(piece)
            self.due_at = max(self.due_at, now - PACE_SLACK_S) + piece.length / self.pace
            self._cut_at += CHUNK
            if self._cut_at >= size:
                self._to_fetch.popleft()
                self._cut_at = 0
        due = [p for p in self._window if p not in self._arrived and self._asked.get(p, now - ASK_AGAIN_S) <= now - ASK_AGAIN_S]
        self._asked.update(dict.fromkeys(due, now))
        return [GetChunk(view, self.op, piece.name, piece.offset) for piece in due]

    def _check_kept(self) -> None:
        if not self._kept:
            return
        name, file = self._kept[0]
        try:
            is_sound = file.check()
            if is_sound:
                file.link(f"{self.path}/{name}")
        except OSError:
            is_sound = False  # whatever ails this file, the sender has it too
        if is_sound is None:
            return
        file.close()
        self._kept.popleft()
        if not is_sound:
            self._to_fetch.append(name)

    def take(self, chunk: Chunk) -> bool:
        """Write it when its turn has come; true once, with the chunk that completes the snapshot. What was not asked for is ignored.

        Raises TransferFailed."""
        piece = next((p for p in self._window if p[:2] == (chunk.name, chunk.offset)), None)
        if chunk.op != self.op or piece is None or piece not in self._asked or piece in self._arrived:
            return False
        if not chunk.content:
            raise TransferFailed(f"the sender does not keep the snapshot of op {chunk.op} any more")
        if len(chunk.content) != piece.length:
            raise TransferFailed(f"{len(chunk.content)} bytes of {chunk.name} came for {piece.length} at {chunk.offset}")
        self._arrived[piece] = chunk.content
        while self._window and self._window[0] in self._arrived:
            first = self._window.pop(0)
            del self._asked[first]
            self._write(first, self._arrived.pop(first))
        if self._window or self._to_fetch or self._kept:
            return False
        self._finish()
        return True

    def _write(self, piece: Piece, content: bytes) -> None:
        if piece.offset == 0:
            assert self._fd is None
            path = f"{self.path}/{piece.name}"
            if self._disk.exists(path):  # a link whose making was said to have failed: what it leads to is not ours to write
                self._disk.unlink(path)
            self._fd, self._hash = self._disk.open(path, create=True), hashlib.sha256()
        assert self._fd is not None
        self._disk.pwrite(self._fd, content, piece.offset)
        self._hash.update(content)
        part = self._files[piece.name]
        if piece.offset + piece.length < part.size:
            return
        if self._hash.hexdigest() != part.sha256:
            raise TransferFailed(f"{piece.name} is not what the manifest says: the sender's snapshot of op {self.op} is damaged")
        self._disk.sync(self._fd)
        self._close_file()

    def _finish(self) -> None:
        self._fd = self._disk.open(f"{self.path}/{MANIFEST}", create=True)
        self._disk.pwrite(self._fd, self._image, 0)
        self._disk.sync(self._fd)
        self._close_file()
        self._disk.sync_dir(self.path)

    def _close_file(self) -> None:
        if self._fd is not None:
            fd, self._fd = self._fd, None
            self._disk.close(fd)

    def abort(self) -> None:
        """Remove what is under way, and what an earlier process left. Nothing happens to a snapshot that was moved into its place."""
        self._close_file()
        for _, file in self._kept:
            file.close()
        for container in (self._kept, self._to_fetch, self._window, self._asked, self._arrived):
            container.clear()
        if self._disk.exists(self.path):
            self._disk.remove_tree(self.path)
