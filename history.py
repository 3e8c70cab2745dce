"""The history: what two accounts have written to each other, found in the message files, and in memory for what these lack.

What it is not: it keeps no index. A guest asks for it now and then, and a million messages are read through in less than a second, aside;
an index of them would cost memory and start-up always. It does not decide who may read what (`reading.py`).

    1 ─────────────────────────── written ──────────────────── count        ids of all messages
      message files of the newest          `state.history`                  where they stand
      snapshot, each verified whole        the newest, in memory

    a page      messages above `since` and below `before`, the newest first
    a gap       memory holds HISTORY_KEPT messages at most, and of long ones what MARKS times MARK_BYTES of batches have said: what is
                older and not in the files yet is waited for, a snapshot is asked for
    in turn     one page after the other: the reader is one thread, and the files are large

Invariants:
- A page depends on the log alone: whichever replica, before, during and after a snapshot, it is the same.
- No row counts before the SHA-256 of its whole file is right.
- One page reads FILES_AT_ONCE files at most, and says where the next one goes on.

Read next: `reading.py`, `snapshots.py`.
"""

from __future__ import annotations

import csv
import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import snapshots
from commands import READ_MAX
from disk import Disk
from people import Written
from snapshots import SnapshotDamaged, listed, message_file, read_manifest, verified
from state import ChatState

FILES_AT_ONCE = 40  # files of one page: two million messages, a second or two of the reader's time
MARK_BYTES, MARKS = 1 << 20, 16  # bytes of batches between two marks; marks behind which messages are kept, however long they are
PIECE = 128 << 10  # bytes searched while the loop waits for the interpreter: a fraction of a millisecond
TRIES = 3  # times that a snapshot may be set aside while it is read
WAIT_S, WAITS_MAX = 0.1, 300  # seconds between two looks whether a gap is closed; looks. A snapshot of a large cluster takes many seconds


class Page(NamedTuple):
    """What is asked for: messages between `me` and `whom` with ids above `since` and below `before`, `limit` at most."""

    me: str
    whom: str
    since: int
    before: int
    limit: int

    def has(self, message: Written) -> bool:
        """Whether the message belongs here."""
        number, _, sender, recipient, _ = message
        return self.since < number < self.before and (sender, recipient) in ((self.me, self.whom), (self.whom, self.me))


class Found(NamedTuple):
    """Messages, oldest first; `older`: ids below it were not looked at, or are not shown; 0: there is nothing more."""

    messages: list[Written]
    older: int


class Gap(Exception):
    """Some of it is neither in memory any more nor in a snapshot yet."""


def find(disk: Disk, directory: str, cluster: str, page: Page, recent: Sequence[Written]) -> Found:
    """The page. `recent`: the newest messages of all, oldest first. Raises Gap, SnapshotDamaged, OSError."""
    for _ in range(TRIES):
        newest = listed(disk, directory)[:1]
        try:
            return _find_in(disk, os.path.join(directory, newest[0]) if newest else "", cluster, page, recent)
        except SnapshotDamaged:
            if newest == listed(disk, directory)[:1]:
                raise
    raise Gap


def _find_in(disk: Disk, path: str, cluster: str, page: Page, recent: Sequence[Written]) -> Found:
    manifest = read_manifest(disk, path, cluster) if path else None
    below = min(recent[0][0] if recent else page.before, page.before)  # from here on it stands in memory
    numbers = _files(page.since, below)
    if manifest is None or below - 1 > manifest.messages:
        if numbers:
            raise Gap
        rows: Iterator[Written] = iter(())
    else:
        parts, old = manifest.files, page._replace(before=below)
        names = map(message_file, numbers[:FILES_AT_ONCE])
        pages = (rows_of(verified(disk, path, name, parts[name], at_once=PIECE), old) for name in names)
        rows = itertools.chain.from_iterable(map(reversed, pages))
    found, size = list[Written](), 0
    for message in itertools.chain(filter(page.has, reversed(recent)), rows):
        size += len(message[4].encode())
        if len(found) == page.limit or (found and size > READ_MAX):
            return Found(found[::-1], found[-1][0])
        found.append(message)
    left = numbers[FILES_AT_ONCE:]
    return Found(found[::-1], left[0] * snapshots.MESSAGES_PER_FILE + 1 if left else 0)


def _files(since: int, before: int) -> range:
    """The numbers of the files that hold messages above `since` and below `before`, newest first."""
    size = snapshots.MESSAGES_PER_FILE
    return range((before - 2) // size + 1, since // size, -1) if before - 1 > since else range(0)


def rows_of(pieces: Iterable[bytes], page: Page) -> list[Written]:
    """The newest rows of a message file that belong to the page, oldest first: one more than it takes, so that it is known to go on.

    Raises SnapshotDamaged for a row that is none, though every byte of it is what was written.
    """
    try:
        return _rows_of(pieces, page)
    except (ValueError, csv.Error) as error:
        raise SnapshotDamaged(f"a row of the messages is none: {error}") from error


def _rows_of(pieces: Iterable[bytes], page: Page) -> list[Written]:
    pairs = {(page.me, page.whom), (page.whom, page.me)}
    signs = [f'","{_quoted(sender)}","{_quoted(recipient)}","'.encode() for sender, recipient in sorted(pairs)]
    lines, rest = deque[tuple[int, bytes]](maxlen=page.limit + 1), b""
    for piece in pieces:
        block = rest + piece
        end = block.rfind(b"\n") + 1
        here = sorted(line for sign in signs for line in _lines_with(sign, block, end))
        lines += ((number, line) for number, line in here if page.since < number < page.before)
        rest = block[end:]
    rows = csv.reader(line.decode() for _, line in lines)
    messages = [(int(number), int(time), sender, recipient, text) for number, time, sender, recipient, text in rows]
    return [message for message in messages if page.has(message)]


def _lines_with(sign: bytes, block: bytes, end: int) -> Iterator[tuple[int, bytes]]:
    """Ids and lines: a text holds no line feed, so a row is a line. What only looks like a row is sorted out when it is parsed."""
    at = block.find(sign, 0, end)
    while at >= 0:
        start, stop = block.rfind(b"\n", 0, at) + 1, block.find(b"\n", at) + 1
        word = block[start + 1 : block.find(b'"', start + 1)]
        if word.isdigit():
            yield int(word), block[start:stop]
        at = block.find(sign, stop, end)


def _quoted(name: str) -> str:
    """As it stands between the quotes of a field."""
    return name.replace('"', '""')


# --- one page after the other -------------------------------------------------------------------------------------------------------------


class Archive:
    """The history of one replica. The desk says which `state` is the current one."""

    def __init__(
        self,
        disk: Disk,
        directory: str,
        cluster: str,
        *,
        read: Callable[[float, Callable[[], Any], Callable[[Any], None]], None],
        want: Callable[[], None],
        report: Callable[[str], None],
    ) -> None:
        """`read`: do this aside after so many seconds; `want`: have a snapshot made; `report`: tell the operator."""
        self.disk, self.directory, self.cluster = disk, directory, cluster
        self.read, self.want, self.report = read, want, report
        self.state: ChatState
        self.waiting: deque[tuple[Page, Callable[[Found | None], None]]] = deque()
        self.waits = 0  # of the first one, for a gap to be closed
        self.unmarked, self.marks = 0, deque[int]()  # bytes applied since the last mark; messages there were at each

    def ask(self, page: Page, done: Callable[[Found | None], None]) -> None:
        """Find a page of what is applied by now; None: it cannot be read here."""
        self.waiting.append((page, done))
        if len(self.waiting) == 1:
            self._begin()

    def note_applied(self, size: int) -> None:
        """A batch of so many bytes was applied."""
        self.unmarked += size
        if self.unmarked >= MARK_BYTES:
            self.unmarked = 0
            self.marks.append(self.state.message_count)
            if len(self.marks) > MARKS:
                self.let_go(self.marks.popleft())

    def let_go(self, count: int) -> None:
        """The messages up to this one are not needed in memory: they stand in the newest snapshot, or were many bytes ago."""
        history = self.state.history
        while history and history[0][0] <= count:
            del history[0]

    def _begin(self, after: float = 0.0) -> None:
        page, recent = self.waiting[0][0], list(self.state.history)
        self.read(after, lambda: self._find(page, recent), self._found)

    def _find(self, page: Page, recent: list[Written]) -> Found | str | None:
        """Aside."""
        try:
            return find(self.disk, self.directory, self.cluster, page, recent)
        except Gap:
            return None
        except (SnapshotDamaged, OSError) as error:
            return f"the history cannot be read: {error}"

    def _found(self, found: Found | str | None) -> None:
        if found is None and self.waits < WAITS_MAX:
            self.waits += 1
            self.want()
            return self._begin(WAIT_S)
        if not isinstance(found, Found):
            self.report(found or "the history has a gap: no snapshot is made")
        _, done = self.waiting.popleft()
        self.waits = 0
        if self.waiting:
            self._begin()
        done(found if isinstance(found, Found) else None)
