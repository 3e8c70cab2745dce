"""Snapshots: the state after one op as a folder of CSV files that people can open, and the worker process that makes it.

What it is not: it decides nothing. The server says up to which op, and puts the finished folder in its place; the worker is another
process, so that neither pandas nor the disk ever holds the serving one up. Nothing else imports pandas, and this only inside the worker.

    data/replica-N/
      csv -> snapshots/0000000000004711        the newest complete snapshot
      snapshots/
        0000000000004711/                      everything after op 4711; nothing in it is ever changed again
          MANIFEST.json                        what belongs here: op and hash of its batch, digest of the replies, and of each
          │                                    file bytes, rows, SHA-256; last its own SHA-256. Written last, read first
          accounts.csv mailboxes.csv sessions.csv    the tables of `state.py`, written anew each time
          messages-000001.csv                  messages 1 … 50,000: full, never written again, one file for all snapshots (hard links)
          messages-000002.csv                  messages 50,001 …: a copy of the older one, and what is new
        0000000000004200/                      the one before, and the journal down to it: what a damaged newest one is made from
        tmp-0000000000004790-812/              being written, here or by a transfer; means nothing
        gone-0000000000003000/                 set aside by `prune`; the worker removes it when it has nothing better to do

    the worker   tmp folder, every file synced, the folder synced        ──►  {"made": 4790, "path": …}
    the server   generation still the same? rename, sync snapshots/, turn the link, sync replica-N/, then its superblock

A crash at any moment leaves the older snapshot as it was; a folder with a number for a name is complete and synced.

CSV: UTF-8, every field quoted, a quote doubled, lines end in one line feed: so any text is kept byte for byte, and pandas and `csv` write
the same bytes. All fields are text; no field is ever missing. At equal op two replicas' folders are equal byte for byte.

Orders and answers of the worker are lines of JSON: see `Order` and `Made`; a failure is {"failed": sentence}. It keeps its state between
orders, so the next costs what is new. It leaves after `IDLE_S`, and at once when its standard input closes.

Invariants:
- A snapshot is made from one that was verified, and from journal batches that chain from its hash to the hash in the order.
- `load` believes nothing before its length and SHA-256 are right.

Read next: `state.py` (whose tables these are), `journal.py` (from which they are made anew).
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import itertools
import os
import re
import select
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from disk import Disk, OsDisk
from journal import JournalDamaged, read_segments
from packets import NO_HASH
from state import MESSAGE_COLUMNS, TABLES, ChatState

FORMAT = 1
MESSAGES_PER_FILE = 50_000  # a file that opens quickly in an editor; a snapshot copies at most one of them
KEEP = 2  # snapshots; the older one and the journal above it stand in for a newest one that is damaged
MANIFEST_MAX = 3 << 20  # bytes; it must fit a packet. Enough for 900 million messages
ROWS_AT_ONCE = 5_000  # rows of a table that are text in memory together
REPLAY_AT_ONCE = 1 << 20  # bytes of batches whose messages are written together
PIECE = 1 << 20  # bytes read together
SYNC_EVERY = 4 << 20  # bytes; one sync of everything at the end would make the server's own syncs wait behind it
FIELD_MAX = (1 << 31) - 1  # bytes of a field: a session's replies can be long
IDLE_S = 60.0  # seconds the worker stays without an order: pandas takes half a second to come back
REST_S = 1.0  # seconds without an order after which it removes what was set aside
TURN_WAIT_S = 20.0  # seconds it waits for its turn; a worker that was stopped while it had its turn may not stop the others for ever
TURN_LOOK_MS = 50  # milliseconds between two looks
NICE = 10

MANIFEST = "MANIFEST.json"
NAME = re.compile(r"[0-9]{16}")
UNFINISHED, GONE = "tmp-", "gone-"

Rows = Sequence[Sequence[object]]
RowsWriter = Callable[[Sequence[str], Rows, bool], bytes]  # columns, rows, whether with the line of column names


class SnapshotDamaged(Exception):
    """The folder is not what was written; the text says what is wrong with which file."""


class ServerGone(Exception):
    """Nobody waits for the answer any more."""


# --- the manifest -------------------------------------------------------------------------------------------------------------------------


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"size": "bytes"}):
    """What a file must be."""

    size: int
    rows: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a snapshot is; holds nothing that differs between replicas. `messages`: how many there ever were."""

    format: int
    cluster: str
    op: int
    hash: str
    digest: int
    messages: int
    files: dict[str, Part]
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
        if manifest.format != FORMAT:
            raise SnapshotDamaged(f"{MANIFEST} has format {manifest.format}; this version reads format {FORMAT}")
        if manifest.encode() != image:
            raise SnapshotDamaged(f"{MANIFEST} is damaged: its SHA-256 is not right")
        rows = {name: part.rows for name, part in manifest.files.items() if name.startswith("messages-")}
        expected = dict(_message_files(manifest.messages))
        if rows != expected or manifest.files.keys() != expected.keys() | {f"{table}.csv" for table in TABLES}:
            raise SnapshotDamaged(f"{MANIFEST} names other files than {manifest.messages} messages fill")
        if manifest.op < 1 or not re.fullmatch(r"[0-9a-f]{32}", manifest.hash):
            raise SnapshotDamaged(f"{MANIFEST} names no batch")
        return manifest


def _json(manifest: Manifest) -> bytes:
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"


def _message_file(number: int) -> str:
    return f"messages-{number:06d}.csv"


def _message_files(count: int) -> Iterator[tuple[str, int]]:
    """Names and rows of the files that hold this many messages; the first is there from the beginning."""
    full, rest = divmod(count, MESSAGES_PER_FILE)
    for number in range(1, full + 1):
        yield _message_file(number), MESSAGES_PER_FILE
    if rest or not full:
        yield _message_file(full + 1), rest


# --- loading, at the start of a server ----------------------------------------------------------------------------------------------------


def load(disk: Disk, path: str, cluster: str, *, verify_history: bool = False) -> tuple[ChatState, Manifest]:
    """The state that the snapshot in this folder holds. Raises SnapshotDamaged.

    Of message files that are full, which are large and many, only the length is checked unless `verify_history`.
    """
    manifest = read_manifest(disk, path, cluster)
    for name, part in manifest.files.items():
        if name.startswith("messages-"):
            for _ in _verified(disk, path, name, part, content=verify_history or part.rows < MESSAGES_PER_FILE):
                pass
    tables: dict[str, Iterable[Sequence[str]]] = {table: _read_table(disk, path, table, manifest.files[f"{table}.csv"]) for table in TABLES}
    try:
        state = ChatState.load(manifest.op, manifest.digest, manifest.messages, tables)
    except (ValueError, csv.Error) as error:
        raise SnapshotDamaged(f"the tables do not fit together: {error}") from error
    return state, manifest


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


def _verified(disk: Disk, path: str, name: str, part: Part, *, content: bool = True) -> Iterator[bytes]:
    """The file's bytes, piece by piece; SnapshotDamaged at the end unless all of them are right."""
    with _opened(disk, path, name) as fd:
        size = disk.size(fd)
        if size != part.size:
            raise SnapshotDamaged(f"{name} has {size} bytes instead of {part.size}")
        if content:
            sha = hashlib.sha256()
            for at in range(0, size, PIECE):
                piece = disk.pread(fd, min(PIECE, size - at), at)
                sha.update(piece)
                yield piece
            if sha.hexdigest() != part.sha256:
                raise SnapshotDamaged(f"{name} is damaged: its SHA-256 is not right")


def _read_table(disk: Disk, path: str, table: str, part: Part) -> Iterator[Sequence[str]]:
    """Its rows. Nothing is parsed before all of it is verified."""
    name, columns = f"{table}.csv", list(TABLES[table])
    text = b"".join(_verified(disk, path, name, part)).decode()
    csv.field_size_limit(FIELD_MAX)
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    if next(rows, None) != columns:
        raise SnapshotDamaged(f"{name} has other columns than {', '.join(columns)}")
    count, width = 0, len(columns)
    for count, row in enumerate(rows, 1):
        if len(row) != width:
            raise SnapshotDamaged(f"{name}: row {count} has {len(row)} fields instead of {width}")
        yield row
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
    _remove(disk, directory, (UNFINISHED, GONE))
    names = listed(disk, directory)
    if names:
        _turn_link(disk, replica_path, names[0])


def _set_aside(disk: Disk, directory: str, name: str) -> None:
    """Take the name away at once, so that a half-removed folder never looks complete."""
    free = (f"{GONE}{name}" + (f"-{i}" if i else "") for i in itertools.count())
    aside = next(path for path in (os.path.join(directory, word) for word in free) if not disk.exists(path))
    disk.rename(os.path.join(directory, name), aside)


def _remove(disk: Disk, directory: str, prefixes: tuple[str, ...]) -> None:
    """Remove folders that mean nothing any more."""
    names = [name for name in disk.listdir(directory) if name.startswith(prefixes)]
    if names:
        disk.sync_dir(directory)  # the new name must be on the disk before what is in it goes
    for name in names:
        disk.remove_tree(os.path.join(directory, name))


# --- rows to bytes ------------------------------------------------------------------------------------------------------------------------


def rows_through_pandas(columns: Sequence[str], rows: Rows, header: bool) -> bytes:
    """Rows as CSV, written by pandas; every setting is there for a text that would not come back without it."""
    import pandas

    frame = pandas.DataFrame(list(rows), columns=list(columns), dtype=object)
    text = frame.to_csv(
        None,
        index=False,
        header=header,
        sep=",",
        quoting=csv.QUOTE_ALL,
        quotechar='"',
        doublequote=True,
        escapechar=None,
        lineterminator="\n",
    )
    return text.encode("utf-8", "strict")


def rows_through_csv(columns: Sequence[str], rows: Rows, header: bool) -> bytes:
    """The same bytes without pandas: for the simulator, which makes thousands of snapshots in its own process."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
    if header:
        writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue().encode("utf-8", "strict")


# --- making one ---------------------------------------------------------------------------------------------------------------------------


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


class Made(msgspec.Struct, frozen=True):
    """The finished folder lies at `path`. `bytes`: how many were written; `digest`: to compare with the server's own at that op."""

    made: int
    path: str
    bytes: int
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


class Sheet:
    """One file being written: counted and hashed on its way to the disk."""

    __slots__ = ("at", "disk", "fd", "name", "rows", "sha", "unsynced")

    def __init__(self, disk: Disk, path: str, name: str) -> None:
        self.disk, self.name = disk, name
        self.fd = disk.open(os.path.join(path, name), create=True)
        self.sha = hashlib.sha256()
        self.at = self.rows = self.unsynced = 0

    def write(self, words: bytes, rows: int) -> None:
        self.disk.pwrite(self.fd, words, self.at)
        self.sha.update(words)
        self.at += len(words)
        self.rows += rows
        self.unsynced += len(words)
        if self.unsynced >= SYNC_EVERY:
            self.disk.sync(self.fd)
            self.unsynced = 0

    def finish(self) -> Part:
        self.disk.sync(self.fd)
        fd, self.fd = self.fd, -1
        self.disk.close(fd)
        return Part(self.at, self.rows, self.sha.hexdigest())

    def abandon(self) -> None:
        if self.fd >= 0:
            self.disk.close(self.fd)


class Folder:
    """A snapshot being written beside the others. `base` is the older one in `base_path`, whose messages it goes on from."""

    def __init__(
        self, disk: Disk, path: str, write_rows: RowsWriter, breathe: Callable[[], None], base_path: str, base: Manifest | None
    ) -> None:
        self.disk, self.path, self.write_rows, self.breathe = disk, path, write_rows, breathe
        self.base_path, self.base = base_path, base
        self.parts: dict[str, Part] = {}
        self.sheet: Sheet | None = None
        self.bytes = 0
        self.messages = base.messages if base else 0
        if disk.exists(path):
            disk.remove_tree(path)
        disk.mkdir(path)

    def begin(self, name: str, columns: Sequence[str] = ()) -> Sheet:
        """A new file, with the line of column names if there are any."""
        assert self.sheet is None, f"{self.sheet} is not finished"
        sheet = self.sheet = Sheet(self.disk, self.path, name)
        if columns:
            sheet.write(self.write_rows(columns, (), True), 0)
        return sheet

    def end(self, sheet: Sheet) -> None:
        self.parts[sheet.name] = sheet.finish()
        self.bytes += sheet.at
        self.sheet = None

    def abandon(self) -> None:
        """It failed: leave nothing behind."""
        with contextlib.suppress(OSError):
            if self.sheet is not None:
                self.sheet.abandon()
            self.disk.remove_tree(self.path)

    def add_table(self, name: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        sheet, rest = self.begin(f"{name}.csv", columns), iter(rows)
        while chunk := list(itertools.islice(rest, ROWS_AT_ONCE)):
            sheet.write(self.write_rows(columns, chunk, False), len(chunk))
            self.breathe()
        self.end(sheet)

    def add_messages(self, rows: list[Any]) -> None:
        """Append to the history, which is cut by message number alone."""
        at = 0
        while at < len(rows):
            assert rows[at][0] == self.messages + 1, f"message {rows[at][0]} would follow message {self.messages}"
            sheet = self.sheet or self._open_history()
            chunk = rows[at : at + MESSAGES_PER_FILE - sheet.rows]
            sheet.write(self.write_rows(MESSAGE_COLUMNS, chunk, False), len(chunk))
            at += len(chunk)
            self.messages += len(chunk)
            if sheet.rows == MESSAGES_PER_FILE:
                self.end(sheet)

    def _open_history(self) -> Sheet:
        """The file that the next message belongs to: a verified copy of the older snapshot's, or a new one."""
        name = _message_file(self.messages // MESSAGES_PER_FILE + 1)
        part = self.base.files.get(name) if self.base else None
        if part is None:
            return self.begin(name, MESSAGE_COLUMNS)
        sheet = self.begin(name)
        for piece in _verified(self.disk, self.base_path, name, part):
            sheet.write(piece, 0)
            self.breathe()
        sheet.rows = part.rows
        return sheet

    def end_messages(self) -> None:
        """Close the last file, and link those of the older snapshot to which nothing was added."""
        if self.sheet is not None:
            self.end(self.sheet)
        for name, _ in _message_files(self.messages):
            if name in self.parts:
                continue
            if self.base is None:
                self.end(self.begin(name, MESSAGE_COLUMNS))
            else:
                self.disk.link(os.path.join(self.base_path, name), os.path.join(self.path, name))
                self.parts[name] = self.base.files[name]

    def seal(self, state: ChatState, order: Order) -> Manifest:
        """Write the manifest, and make all of it durable."""
        files = dict(sorted(self.parts.items()))
        manifest = Manifest(FORMAT, order.cluster, state.op, order.hash, state.digest, state.message_count, files)
        sheet = self.begin(MANIFEST)
        sheet.write(manifest.encode(), 0)
        self.end(sheet)
        self.disk.sync_dir(self.path)
        return manifest


class Kept:
    """What the maker knows after a snapshot: the state, the hash of its last batch, the manifest, and the order it was made for."""

    __slots__ = ("hash", "manifest", "order", "state")

    def __init__(self, state: ChatState, last_hash: bytes, manifest: Manifest | None, order: Order) -> None:
        self.state, self.hash, self.manifest, self.order = state, last_hash, manifest, order

    def is_base_of(self, order: Order, newest: str) -> bool:
        """Whether that snapshot is in place, the newest up to the order's op, and its journal goes on."""
        mine = self.order
        same = (mine.snapshots, mine.journal, mine.generation, mine.cluster) == (
            order.snapshots,
            order.journal,
            order.generation,
            order.cluster,
        )
        return same and self.manifest is not None and newest == name_of(self.manifest.op)


class Maker:
    """Makes one snapshot after the other. `breathe` is called often and may raise ServerGone; `tag` tells processes apart."""

    def __init__(self, disk: Disk, write_rows: RowsWriter, *, tag: str = "0", breathe: Callable[[], None] = lambda: None) -> None:
        self.disk, self.write_rows, self.tag, self.breathe = disk, write_rows, tag, breathe
        self.kept: Kept | None = None
        self.made_path = ""

    def answer(self, order: dict[str, Any]) -> dict[str, Any]:
        """Carry out an order; what went wrong is a sentence, and the next order begins with what is on the disk."""
        try:
            made: dict[str, Any] = msgspec.to_builtins(self.make(msgspec.convert(order, Order)))
            return made
        except (OSError, SnapshotDamaged, JournalDamaged, msgspec.ValidationError) as error:
            return {"failed": str(error)}

    def make(self, order: Order) -> Made:
        """Write the snapshot aside. Raises OSError, SnapshotDamaged, JournalDamaged, ServerGone; nothing is left behind then."""
        began = time.monotonic()
        if self.made_path and self.disk.exists(self.made_path):
            self.disk.remove_tree(self.made_path)  # the server had no use for it any more
        kept, self.kept = self._base_of(order), None
        manifest = kept.manifest
        path = os.path.join(order.snapshots, f"{UNFINISHED}{name_of(order.make)}-{self.tag}")
        base_path = os.path.join(order.snapshots, name_of(manifest.op)) if manifest else ""
        folder = Folder(self.disk, path, self.write_rows, self.breathe, base_path, manifest)
        try:
            last_hash = self._replay(kept, order, folder)
            folder.end_messages()
            for name, (columns, rows) in kept.state.tables().items():
                folder.add_table(name, columns, rows)
            made = folder.seal(kept.state, order)
        except (OSError, SnapshotDamaged, JournalDamaged, ServerGone):
            folder.abandon()
            raise
        self.kept, self.made_path = Kept(kept.state, last_hash, made, order), path
        return Made(order.make, path, folder.bytes, round(time.monotonic() - began, 3), made.digest)

    def _base_of(self, order: Order) -> Kept:
        """Where to begin: what is kept, else the newest snapshot that is whole, else nothing at all."""
        names = [name for name in listed(self.disk, order.snapshots) if int(name) <= order.make]
        if self.kept is not None and names and self.kept.is_base_of(order, names[0]):
            return self.kept
        self.kept = None
        for name in names:
            with contextlib.suppress(SnapshotDamaged):
                state, manifest = load(self.disk, os.path.join(order.snapshots, name), order.cluster)
                return Kept(state, bytes.fromhex(manifest.hash), manifest, order)
        return Kept(ChatState(), NO_HASH, None, order)

    def _replay(self, kept: Kept, order: Order, folder: Folder) -> bytes:
        """Bring the state to the ordered op. Returns the hash of the batch that ends there."""
        state, last_hash, waiting = kept.state, kept.hash, 0
        history = state.history = list[tuple[int, int, str, str, str]]()
        for batch in read_segments(self.disk, order.journal, state.op, last_hash, order.make, order.generation):
            state.apply(batch.first_op, batch.count, batch.time, batch.body)
            last_hash = batch.hash
            waiting += len(batch.body)
            if waiting >= REPLAY_AT_ONCE:
                folder.add_messages(history)
                history.clear()
                waiting = 0
            self.breathe()
        folder.add_messages(history)
        history.clear()
        if state.op != order.make or last_hash.hex() != order.hash:
            raise SnapshotDamaged(f"the journal leads to op {state.op} ({last_hash.hex()}), not to op {order.make} ({order.hash})")
        return last_hash

    def rest(self, directory: str) -> None:
        """Remove what the server has set aside."""
        with contextlib.suppress(OSError):
            _remove(self.disk, directory, (GONE,))


# --- the worker process -------------------------------------------------------------------------------------------------------------------


class Worker:
    """Orders in, answers out, over two descriptors."""

    def __init__(self, orders: int, answers: int, disk: Disk, write_rows: RowsWriter) -> None:
        self.orders, self.answers = orders, answers
        self.unread = bytearray()
        self.directory = ""
        self.maker = Maker(disk, write_rows, tag=str(os.getpid()), breathe=self.breathe)
        self.hang_up = select.poll()
        self.hang_up.register(orders, 0)  # POLLHUP is reported without being asked for
        self.more = select.poll()
        self.more.register(orders, select.POLLIN)

    def breathe(self, wait_ms: int = 0) -> None:
        """Raises ServerGone when there is nobody left to answer."""
        if self.hang_up.poll(wait_ms):
            raise ServerGone

    def run(self) -> None:
        """Until there was no order for a while, or nobody is there."""
        with contextlib.suppress(ServerGone, BrokenPipeError):
            while line := self._next_line():
                order = msgspec.json.decode(line)
                self.directory = order["snapshots"]
                with contextlib.nullcontext() if order["quiet"] else self._turn(order["turn"]):
                    answer = self.maker.answer(order)
                os.write(self.answers, msgspec.json.encode(answer) + b"\n")

    def _next_line(self) -> bytes:
        """The next order; empty when none came."""
        while b"\n" not in self.unread:
            if self.directory and not self.more.poll(REST_S * 1000):
                self.maker.rest(self.directory)
            if not self.more.poll(IDLE_S * 1000):
                return b""
            piece = os.read(self.orders, 1 << 16)
            if not piece:
                return b""
            self.unread += piece
        line, _, rest = bytes(self.unread).partition(b"\n")
        self.unread[:] = rest
        return line

    @contextlib.contextmanager
    def _turn(self, path: str) -> Iterator[None]:
        """Under load the replicas of a host make their snapshots one after the other: three at once would take the processors."""
        disk, late = self.maker.disk, time.monotonic() + TURN_WAIT_S
        while (lock := disk.try_lock(path, shared=False)) is None and time.monotonic() < late:
            self.breathe(TURN_LOOK_MS)
        try:
            yield
        finally:
            if lock is not None:
                disk.unlock(lock)


def main() -> None:
    """Be the worker: behind everybody else in the queue for processor and disk."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which then closes our input
    os.nice(max(0, NICE - os.nice(0)))
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy would start threads that nothing here uses
    answers = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # a stray word must not look like an answer
    rows_through_pandas(("op",), (), True)  # imports it now: the first order may still be on its way
    Worker(sys.stdin.fileno(), answers, OsDisk(), rows_through_pandas).run()


if __name__ == "__main__":
    main()
