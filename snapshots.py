"""Snapshots: the state after one op as a folder of CSV files that people can open. Loading them, putting them in place and away.

What it is not: it makes none. That is the worker's, another process (`snapshot_worker.py`), so that neither pandas nor the disk ever holds
the serving one up. It decides nothing either: the server says up to which op, and when.

    data/replica-N/
      csv -> snapshots/0000000000004711        the newest complete snapshot
      snapshots/
        0000000000004711/                      everything after op 4711; nothing in it is ever changed again
          MANIFEST.json                        what belongs here: op and hash of its batch, digest of the replies, and of each
          │                                    file bytes, rows, SHA-256; last its own SHA-256. Written last, read first
          accounts.csv mailboxes.csv sessions.csv room.csv told.csv    the tables of `tables.py`, written anew each time
          messages-000001.csv                  messages 1 … 50,000: full, never written again, one file for all snapshots (hard links)
          messages-000002.csv                  messages 50,001 …: a copy of the older one, and what is new
        0000000000004200/                      the one before, and the journal down to it: what a damaged newest one is made from
        tmp-0000000000004790-812/              being written, here or by a transfer; means nothing
        gone-0000000000003000/                 set aside by `prune`; the worker removes it when it has nothing better to do

    the worker   tmp folder, every file synced, the folder synced        ──►  {"made": 4790, "path": …}
    the server   generation still the same? rename, sync snapshots/, turn the link, sync replica-N/, then its superblock

CSV: UTF-8, every field quoted, a quote doubled, lines end in one line feed: so any text is kept byte for byte. All fields are text; no
field is ever missing. At equal op two replicas' folders are equal byte for byte.

Invariants:
- A crash at any moment leaves the older snapshot as it was; a folder with a number for a name is complete and synced.
- `load` believes nothing before its length and SHA-256 are right.

Read next: `snapshot_worker.py` (who makes them), `tables.py` (whose tables these are).
"""

from __future__ import annotations

import contextlib
import csv
import errno
import hashlib
import io
import itertools
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from disk import Disk, if_there_is_room
from state import ChatState
from tables import TABLES

FORMAT = 5  # written; older ones are read too
OLDER: dict[int, dict[str, tuple[str, ...]]] = {  # format: what the rows of its tables lack at their ends
    1: {"accounts": ("0", "", "-1"), "mailboxes": (), "sessions": ("", "0")},
    2: {"accounts": ("-1",), "mailboxes": (), "sessions": ("", "0")},
    3: {"accounts": ("-1",), "mailboxes": (), "sessions": (), "room": ()},
    4: {"accounts": (), "mailboxes": (), "sessions": (), "room": ()},
}
MESSAGES_PER_FILE = 50_000  # a file that opens quickly in an editor; a snapshot copies at most one of them
KEEP = 2  # snapshots; the older one and the journal above it stand in for a newest one that is damaged
MANIFEST_MAX = 3 << 20  # bytes; it must fit a packet. Enough for 900 million messages
PIECE = 1 << 20  # bytes read together
ROWS_AT_ONCE = 64  # rows of a table between two pauses: a tenth of a millisecond
FIELD_MAX = (1 << 31) - 1  # bytes of a field: a session's replies can be long

MANIFEST = "MANIFEST.json"
NAME = re.compile(r"[0-9]{16}")
UNFINISHED, GONE = "tmp-", "gone-"
Pause = Callable[[], None] | None  # called between rows


class SnapshotDamaged(Exception):
    """The folder is not what was written; the text says what is wrong with which file."""


# --- the manifest -------------------------------------------------------------------------------------------------------------------------


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"size": "bytes"}):
    """What a file must be."""

    size: int
    rows: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a snapshot is, the same on all replicas. `messages`: so many there ever were; `time`: the next batch's is not below (µs)."""

    format: int
    cluster: str
    op: int
    hash: str
    digest: int
    messages: int
    files: dict[str, Part]
    time: int | msgspec.UnsetType = msgspec.UNSET  # earlier builds did not write it
    sha256: str = ""

    def encode(self) -> bytes:
        """The file's bytes; its own SHA-256 is that of the same text with an empty one."""
        words = msgspec.structs.replace(self, sha256="")
        return _json(msgspec.structs.replace(words, sha256=hashlib.sha256(_json(words)).hexdigest()))

    @classmethod
    def decode(cls, image: bytes) -> Manifest:
        """Raises SnapshotDamaged unless these are, bit for bit, the bytes of a manifest that makes sense."""
        try:
            manifest = msgspec.json.decode(image, type=cls)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise SnapshotDamaged(f"{MANIFEST} cannot be read: {error}") from None
        if manifest.format != FORMAT and manifest.format not in OLDER:
            raise SnapshotDamaged(f"{MANIFEST} has format {manifest.format}; this version reads formats up to {FORMAT}")
        if manifest.encode() != image:
            raise SnapshotDamaged(f"{MANIFEST} is damaged: its SHA-256 is not right")
        if not 0 <= manifest.messages <= MESSAGES_PER_FILE * len(manifest.files):
            raise SnapshotDamaged(f"{MANIFEST} names too few files for {manifest.messages} messages")
        rows = {name: part.rows for name, part in manifest.files.items() if name.startswith("messages-")}
        expected = dict(message_files(manifest.messages))
        if rows != expected or manifest.files.keys() != expected.keys() | {f"{table}.csv" for table in OLDER.get(manifest.format, TABLES)}:
            raise SnapshotDamaged(f"{MANIFEST} names other files than {manifest.messages} messages fill")
        if manifest.op < 1 or not re.fullmatch(r"[0-9a-f]{32}", manifest.hash):
            raise SnapshotDamaged(f"{MANIFEST} names no batch")
        return manifest


def _json(manifest: Manifest) -> bytes:
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"


def message_file(number: int) -> str:
    return f"messages-{number:06d}.csv"


def message_files(count: int) -> Iterator[tuple[str, int]]:
    """Names and rows of the files that hold this many messages; the first is there from the beginning."""
    full, rest = divmod(count, MESSAGES_PER_FILE)
    for number in range(1, full + 1):
        yield message_file(number), MESSAGES_PER_FILE
    if rest or not full:
        yield message_file(full + 1), rest


# --- loading, at the start of a server ----------------------------------------------------------------------------------------------------


def load(disk: Disk, path: str, cluster: str, *, verify_history: bool = False, pause: Pause = None) -> tuple[ChatState, Manifest]:
    """The state that the snapshot in this folder holds. Raises SnapshotDamaged.

    Of message files that are full, which are large and many, only the length is checked unless `verify_history`. Rows make a `pause`.
    """
    manifest = read_manifest(disk, path, cluster)
    for name, part in manifest.files.items():
        if name.startswith("messages-"):
            for _ in verified(disk, path, name, part, content=verify_history or part.rows < MESSAGES_PER_FILE):
                pass
    lacking = OLDER.get(manifest.format) or dict.fromkeys(TABLES, ())
    tables: dict[str, Iterable[Sequence[str]]] = {
        table: _read_table(disk, path, table, manifest.files[f"{table}.csv"], lacking[table], pause) if table in lacking else ()
        for table in TABLES
    }
    try:
        return ChatState.load(manifest.op, manifest.digest, manifest.messages, tables, manifest.time or 0), manifest
    except (ValueError, csv.Error) as error:
        raise SnapshotDamaged(f"the tables do not fit together: {error}") from error


def read_manifest(disk: Disk, path: str, cluster: str) -> Manifest:
    """The manifest of the snapshot in this folder, of this cluster. Raises SnapshotDamaged."""
    with _opened(disk, path, MANIFEST) as fd:
        size = disk.size(fd)
        if size > MANIFEST_MAX:
            raise SnapshotDamaged(f"{MANIFEST} has {size} bytes, more than any manifest")
        manifest = Manifest.decode(disk.pread(fd, size, 0))
    if manifest.cluster != cluster:
        raise SnapshotDamaged(f"{MANIFEST} is of cluster {manifest.cluster!r}, not of {cluster!r}")
    return manifest


@contextlib.contextmanager
def _opened(disk: Disk, path: str, name: str) -> Iterator[int]:
    """The open file; a disk that cannot give it back has damaged it."""
    try:
        fd = disk.open(os.path.join(path, name))
        try:
            yield fd
        finally:
            disk.close(fd)
    except OSError as error:
        raise SnapshotDamaged(f"{name} cannot be read: {error.strerror or error}") from error


def verified(disk: Disk, path: str, name: str, part: Part, *, content: bool = True, at_once: int = PIECE) -> Iterator[bytes]:
    """The file's bytes, piece by piece; SnapshotDamaged at the end unless all of them are right."""
    with _opened(disk, path, name) as fd:
        size = disk.size(fd)
        if size != part.size:
            raise SnapshotDamaged(f"{name} has {size} bytes instead of {part.size}")
        if content:
            sha = hashlib.sha256()
            for at in range(0, size, at_once):
                piece = disk.pread(fd, min(at_once, size - at), at)
                sha.update(piece)
                yield piece
            if sha.hexdigest() != part.sha256:
                raise SnapshotDamaged(f"{name} is damaged: its SHA-256 is not right")


def _read_table(disk: Disk, path: str, table: str, part: Part, lacking: tuple[str, ...], pause: Pause) -> Iterator[Sequence[str]]:
    """Its rows, with what an older format lacks at their ends. Nothing is parsed before all of it is verified."""
    name, columns = f"{table}.csv", list(TABLES[table])
    del columns[len(columns) - len(lacking) :]
    text = b"".join(verified(disk, path, name, part)).decode()
    csv.field_size_limit(FIELD_MAX)
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    if next(rows, None) != columns:
        raise SnapshotDamaged(f"{name} has other columns than {', '.join(columns)}")
    count, width = 0, len(columns)
    for count, row in enumerate(rows, 1):
        if len(row) != width:
            raise SnapshotDamaged(f"{name}: row {count} has {len(row)} fields instead of {width}")
        if pause is not None and not count % ROWS_AT_ONCE:
            pause()
        yield (*row, *lacking) if lacking else row
    if count != part.rows:
        raise SnapshotDamaged(f"{name} has {count} rows instead of {part.rows}")


# --- putting in place and away, by the server ---------------------------------------------------------------------------------------------


def name_of(op: int) -> str:
    """What the snapshot of this op is called."""
    return f"{op:016d}"


def listed(disk: Disk, directory: str) -> list[str]:
    """Names of the complete snapshots in snapshots/, newest first."""
    return [name for name in reversed(disk.listdir(directory)) if NAME.fullmatch(name)]


def install(disk: Disk, replica_path: str, made: str, op: int) -> str:
    """Give the finished, synced folder `made` its name, which is returned, and turn the link to it. Raises OSError."""
    directory, name = os.path.join(replica_path, "snapshots"), name_of(op)
    final = os.path.join(directory, name)
    if disk.exists(final):  # it was damaged, and is made anew
        _set_aside(disk, directory, name)
    disk.rename(made, final)
    disk.sync_dir(directory)
    _turn_link(disk, replica_path, name)
    return name


def _turn_link(disk: Disk, replica_path: str, name: str) -> None:
    with if_there_is_room():  # it is for people: no start and no snapshot fails for it
        disk.symlink(os.path.join("snapshots", name), os.path.join(replica_path, "csv"))
    disk.sync_dir(replica_path)


def prune(disk: Disk, directory: str, pinned: Collection[int] = (), keep: int = KEEP) -> int:
    """Set aside all but the newest `keep` and those of pinned ops. Returns the op above which the journal must be kept.

    Only renames, which are quick: removing gigabytes is the worker's.
    """
    names = listed(disk, directory)
    kept = [name for i, name in enumerate(names) if i < keep or int(name) in pinned]
    for name in names:
        if name not in kept:
            _set_aside(disk, directory, name)
    return int(kept[-1]) if len(kept) >= keep else 0


def keep_only(disk: Disk, directory: str, name: str) -> None:
    """Set aside all but this one, which was fetched: to older ones the log does not reach, newer ones a distrusted disk left behind."""
    for other in listed(disk, directory):
        if other != name:
            _set_aside(disk, directory, other)


def remove_all(disk: Disk, replica_path: str) -> None:
    """Leave no snapshot behind: this disk is not trusted, and begins anew."""
    directory = os.path.join(replica_path, "snapshots")
    with contextlib.suppress(FileNotFoundError):
        disk.unlink(os.path.join(replica_path, "csv"))
    for name in listed(disk, directory):
        _set_aside(disk, directory, name)
    disk.sync_dir(replica_path)
    disk.sync_dir(directory)


def tidy(disk: Disk, replica_path: str, op: int) -> None:
    """At start, before anything is transferred or made: remove leftovers, and turn the link to the newest snapshot.

    What is above `op` was put in place, but no superblock names it: the journal may not go on from it.
    """
    directory = os.path.join(replica_path, "snapshots")
    for name in listed(disk, directory):
        if int(name) > op:
            _set_aside(disk, directory, name)
    remove(disk, directory, (UNFINISHED, GONE))
    for newest in listed(disk, directory)[:1]:
        _turn_link(disk, replica_path, newest)


def _set_aside(disk: Disk, directory: str, name: str) -> None:
    """Take the name away at once, so that a half-removed folder never looks complete."""
    free = (f"{GONE}{name}" + (f"-{i}" if i else "") for i in itertools.count())
    aside = next(path for path in (os.path.join(directory, word) for word in free) if not disk.exists(path))
    disk.rename(os.path.join(directory, name), aside)


def remove(disk: Disk, directory: str, prefixes: tuple[str, ...]) -> None:
    """Remove folders that mean nothing any more."""
    names = [name for name in disk.listdir(directory) if name.startswith(prefixes)]
    if names:
        disk.sync_dir(directory)  # the new name must be on the disk before what is in it goes
    for name in names:
        try:
            disk.remove_tree(os.path.join(directory, name))
        except OSError as error:
            # A worker outlives its server by a moment, in which it may write on, or remove what it has begun itself.
            if error.errno not in (errno.ENOENT, errno.ENOTEMPTY):
                raise


# --- having one made ----------------------------------------------------------------------------------------------------------------------


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Make the snapshot of op `make`, which is committed and whose batch has this hash."""

    make: int
    hash: str
    cluster: str
    snapshots: str  # paths, as the server names them: the worker runs in its directory
    journal: str
    turn: str
    generation: int  # of the journal
    quiet: bool  # nothing else happens in the cluster: need not wait for the other replicas' workers

    @property
    def source(self) -> tuple[str, str, int, str]:
        """What a later order must share for the state to be kept."""
        return self.snapshots, self.journal, self.generation, self.cluster


class Look(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Read the newest snapshot again. The answer: {"damage": sentence}, empty when nothing is wrong with it."""

    snapshots: str
    cluster: str
    quiet: bool = True  # it writes nothing


def look_again(disk: Disk, look: Look, breathe: Callable[[], None]) -> dict[str, Any]:
    """Every byte of the newest snapshot; full message files are written once, linked ever after, and read at no other time."""
    for name in listed(disk, look.snapshots)[:1]:
        path = os.path.join(look.snapshots, name)
        try:
            for file, part in read_manifest(disk, path, look.cluster).files.items():
                for _ in verified(disk, path, file, part):
                    breathe()
        except SnapshotDamaged as error:
            if name in listed(disk, look.snapshots):  # else it was set aside meanwhile
                return {"damage": f"snapshot {name}: {error}"}
    return {"damage": ""}


class Made(msgspec.Struct, frozen=True):
    """The finished folder lies at `path`. `bytes`: as many were written; `messages`: there ever were; `digest`: of the state at that op."""

    made: int
    path: str
    bytes: int
    messages: int
    seconds: float
    digest: int


def make_order(
    *, op: int, hash: bytes, replica_path: str, cluster_path: str, cluster: str, generation: int, is_quiet: bool
) -> dict[str, Any]:
    """What the server gives to the worker, as one line of JSON."""
    order = Order(
        make=op,
        hash=hash.hex(),
        cluster=cluster,
        snapshots=os.path.join(replica_path, "snapshots"),
        journal=os.path.join(replica_path, "journal"),
        turn=os.path.join(cluster_path, "snapshot.turn"),
        generation=generation,
        quiet=is_quiet,
    )
    answer: dict[str, Any] = msgspec.to_builtins(order)
    return answer


def make_look(directory: str, cluster: str) -> dict[str, Any]:
    """The same for a look."""
    look: dict[str, Any] = msgspec.to_builtins(Look(directory, cluster))
    return look
