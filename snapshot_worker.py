"""The snapshot worker: a process of its own that replays the journal and writes the state as a folder of CSV files.

What it is not: it serves nobody and puts nothing in place; the server gives orders and gives the finished folder its name. This is the only
file that knows pandas, and nothing that serves imports it.

    the server            {"make": 4790, "hash": …}     one line of JSON, `snapshots.Order`   ──►
    the worker            the newest snapshot that is whole, else the state it kept from its last order
                          + batches of the journal, chained from its hash to that of the order
                          = a folder beside the others, every file synced, then the folder
                    ◄──   {"made": 4790, "path": …}     `snapshots.Made`; or {"failed": sentence}
    the server            {"snapshots": …}              `snapshots.Look`: is the newest one still what was written?   ──►

pandas and `csv` write the same bytes: the simulator, which makes thousands of snapshots in its own process, uses `csv`. The worker keeps
its state between orders, so the next costs what is new. It leaves after `IDLE_S`, and at once when its server is gone (`leash.py`).

Invariants:
- A snapshot is made from one that was verified, and from batches that chain from its hash to the hash in the order.
- What fails leaves nothing behind, and the next order begins with what is on the disk.

Read next: `snapshots.py` (the folder and its manifest), `journal.py` (what is replayed).
"""

from __future__ import annotations

if __name__ == "__main__":
    import compiled

    compiled.use()

import contextlib
import csv
import hashlib
import io
import itertools
import os
import select
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

import snapshots
from batches import NO_HASH
from disk import Disk, OsDisk
from journal import JournalDamaged, read_segments
from leash import end_with_parent
from snapshots import Made, Manifest, Order, Part, SnapshotDamaged, listed, load, message_file, message_files, name_of, remove, verified
from state import ChatState
from tables import MESSAGE_COLUMNS

ROWS_AT_ONCE = 5_000  # rows of a table that are text in memory together
REPLAY_AT_ONCE = 1 << 20  # bytes of batches whose messages are written together
SYNC_EVERY = 1 << 20  # bytes: a millisecond of the disk, in which the server's own syncs wait; 4 MiB were felt by one request in a hundred
IDLE_S = 60.0  # seconds the worker stays without an order: pandas takes half a second to come back
REST_S = 1.0  # seconds without an order after which it removes what was set aside
TURN_WAIT_S = 20.0  # seconds it waits for its turn; a worker that was stopped while it had its turn may not stop the others for ever
TURN_LOOK_MS = 50  # milliseconds between two looks
NICE = 10

Rows = Sequence[Sequence[object]]
RowsWriter = Callable[[Sequence[str], Rows, bool], bytes]  # columns, rows, whether with the line of column names


class ServerGone(Exception):
    """Nobody waits for the answer any more."""


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
        self.at, self.rows, self.unsynced = self.at + len(words), self.rows + rows, self.unsynced + len(words)
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
            chunk = rows[at : at + snapshots.MESSAGES_PER_FILE - sheet.rows]
            sheet.write(self.write_rows(MESSAGE_COLUMNS, chunk, False), len(chunk))
            at += len(chunk)
            self.messages += len(chunk)
            if sheet.rows == snapshots.MESSAGES_PER_FILE:
                self.end(sheet)

    def _open_history(self) -> Sheet:
        """The file that the next message belongs to: a verified copy of the older snapshot's, or a new one."""
        name = message_file(self.messages // snapshots.MESSAGES_PER_FILE + 1)
        part = self.base.files.get(name) if self.base else None
        if part is None:
            return self.begin(name, MESSAGE_COLUMNS)
        sheet = self.begin(name)
        for piece in verified(self.disk, self.base_path, name, part):
            sheet.write(piece, 0)
            self.breathe()
        sheet.rows = part.rows
        return sheet

    def end_messages(self) -> None:
        """Close the last file, and link those of the older snapshot to which nothing was added."""
        if self.sheet is not None:
            self.end(self.sheet)
        for name, _ in message_files(self.messages):
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
        manifest = Manifest(snapshots.FORMAT, order.cluster, state.op, order.hash, state.digest, state.message_count, files, state.time)
        sheet = self.begin(snapshots.MANIFEST)
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
        return self.order.source == order.source and self.manifest is not None and newest == name_of(self.manifest.op)


class Maker:
    """Makes one snapshot after the other. `breathe` is called often and may raise ServerGone; `tag` tells processes apart."""

    def __init__(self, disk: Disk, write_rows: RowsWriter, *, tag: str = "0", breathe: Callable[[], None] = lambda: None) -> None:
        self.disk, self.write_rows, self.tag, self.breathe = disk, write_rows, tag, breathe
        self.kept: Kept | None = None
        self.made_path = ""

    def answer(self, order: dict[str, Any]) -> dict[str, Any]:
        """Carry out an order; what went wrong is a sentence, and the next order begins with what is on the disk."""
        try:
            if "make" not in order:
                return snapshots.look_again(self.disk, msgspec.convert(order, snapshots.Look), self.breathe)
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
        path = os.path.join(order.snapshots, f"{snapshots.UNFINISHED}{name_of(order.make)}-{self.tag}")
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
        return Made(order.make, path, folder.bytes, made.messages, round(time.monotonic() - began, 3), made.digest)

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
        history = state.history = list[Any]()
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
            remove(self.disk, directory, (snapshots.GONE,))


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
            if not (piece := os.read(self.orders, 1 << 16)):
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
    os.nice(max(0, NICE - os.nice(0)))
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy would start threads that nothing here uses
    end_with_parent(sys.stdin.fileno())  # before pandas is imported, which takes long enough for a server to be killed
    answers = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # a stray word must not look like an answer
    rows_through_pandas(("op",), (), True)  # imports it now: the first order may still be on its way
    Worker(sys.stdin.fileno(), answers, OsDisk(), rows_through_pandas).run()
    os._exit(0)  # nothing is left to do, and what pandas has loaded was seen to crash while it was taken apart


if __name__ == "__main__":
    main()
