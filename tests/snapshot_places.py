"""Replicas' directories with logs that grow, as a server would have written them, and what guests do: for the tests of snapshots."""

from __future__ import annotations

import csv
import os
import random
import shutil
import tempfile
import unittest
from typing import Any
from unittest import mock

import snapshots
from batches import NO_HASH, Batch
from commands import count_ops, run, system_run
from disk import Disk, OsDisk
from journal import Journal
from snapshot_worker import Maker
from snapshots import install, make_order, prune
from state import ChatState

CLUSTER = "dormitory"

HOSTILE = [
    *("", " ", "  ", "NA", "N/A", "null", "NULL", "None", "nan", "NaN", "<NA>", "#N/A", "True", "false"),
    *("007", "1e5", "-0", "0x1f", "1_000", "1,5", "2026-11-21"),
    *('"', '""', '"a"', 'a"b', "'", ",", ",,", "a,b", ";", "\t", "\\", "\\n", '\\"'),
    *("a\nb", "\n", "a\rb", "\r", "\r\n", "\n\r", "a\r", "\0", "a\0b", "\x01\x1b[2J\x7f", "\x80\x85\x9f"),
    *("\u2028\u2029", "\ufeff", "\ufeffa", "\ufffe\uffff", "\U0010ffff", "😀\U0001f469\u200d\U0001f469", "e\u0301", "שלום\u202e"),
    *("=1+1", "+1", "-1", "@SUM(A1)", "|cmd", "# comment", "x" * 200_000, "é" * 70_000),
]


def session(number: int) -> bytes:
    return number.to_bytes(16, "big")


class Place:
    """One replica's directory, and a log that grows: what a server would have written."""

    def __init__(self, base: str, disk: Disk | None = None) -> None:
        self.disk: Disk = disk or OsDisk()
        self.path, self.cluster_path = os.path.join(base, "replica-0"), os.path.join(base, "cluster")
        self.snapshots, self.journal_path = os.path.join(self.path, "snapshots"), os.path.join(self.path, "journal")
        for path in (self.cluster_path, self.snapshots, self.journal_path):
            self.disk.mkdir(path)
        self.journal = Journal.open(self.disk, self.journal_path, 1, 0, NO_HASH, 0, first_bytes=1 << 18)
        self.op, self.hash, self.time = 0, NO_HASH, 1_700_000_000_000_000
        self.requests: dict[int, int] = {}

    def close(self) -> None:
        self.journal.close()

    def put(self, body: bytes) -> None:
        """One committed batch."""
        batch = Batch(first_op=self.op + 1, count=count_ops(body), view=1, time=self.time, prev_hash=self.hash, body=body)
        self.journal.append(batch)
        self.journal.sync()
        self.op, self.hash = batch.op, batch.hash
        self.time += batch.count + 1_000

    def open(self, guest: int) -> None:
        self.put(system_run(f"open|{session(guest).hex()}|0.1.{guest}|numbered"))

    def say(self, guest: int, *lines: str) -> None:
        first = self.requests.get(guest, 0) + 1
        self.requests[guest] = first + len(lines) - 1
        self.put(run(session(guest), first, max(0, first - 3), 0, "\n".join(lines).encode(), len(lines)))

    def order(self, **changes: Any) -> dict[str, Any]:
        """For a snapshot of all there is."""
        order = make_order(
            op=self.op, hash=self.hash, replica_path=self.path, cluster_path=self.cluster_path, cluster=CLUSTER, generation=1, is_quiet=True
        )
        return {**order, **changes}

    def make(self, maker: Maker) -> str:
        """Make it, put it in its place, and return its path."""
        answer = maker.answer(self.order())
        assert "made" in answer, answer
        return self.put_in_place(answer)

    def put_in_place(self, answer: dict[str, Any]) -> str:
        name = install(self.disk, self.path, answer["path"], answer["made"])
        prune(self.disk, self.snapshots)
        return os.path.join(self.snapshots, name)


def two_people(place: Place) -> None:
    """mason and wayne, and something in a mailbox."""
    place.open(1)
    place.open(2)
    place.say(1, "C|mason")
    place.say(2, "C|wayne")
    place.say(1, "S|wayne|hello", 'S|wayne|a "quoted", text | with =everything', "S|nobody|lost")


def some_doings(place: Place, dice: random.Random, count: int) -> None:
    """What guests do, at random; some of it is refused."""
    names = ["NA", "null", "007", "naïve", "emoji😀", "o'brien", '"q"', "=1+1", "x;y"]
    for guest in range(4):
        if guest not in place.requests:
            place.requests[guest] = 0
            place.open(guest)
    for _ in range(count):
        guest, name, text = dice.randrange(4), dice.choice(names), dice.choice([h for h in HOSTILE if len(h) < 100 and "\n" not in h])
        lines = [
            f"C|{name}",
            f"L|{name}123",
            f"S|{name}|{text}",
            f"S|{name}|{text}!",
            f"S|{name}|again",
            f"R|{name}123",
            f"D|{name}123",
            "O",
        ]
        place.say(guest, *dice.choices(lines, weights=[3, 3, 6, 6, 6, 1, 1, 1], k=dice.randrange(1, 5)))
        if dice.random() < 0.1:
            place.put(system_run(f"close|{session(guest).hex()}|0.1.{guest}"))
            place.open(guest)


def folder_bytes(path: str, disk: Disk | None = None) -> dict[str, bytes]:
    """All of a snapshot."""
    disk, found = disk or OsDisk(), {}
    for name in disk.listdir(path):
        fd = disk.open(f"{path}/{name}")
        found[name] = disk.pread(fd, disk.size(fd), 0)
        disk.close(fd)
    return found


def rows_of(path: str, name: str) -> list[list[str]]:
    """What a strict reader finds in a file, the column names first."""
    csv.field_size_limit((1 << 31) - 1)
    with open(os.path.join(path, name), encoding="utf-8", newline="") as file:
        return list(csv.reader(file, strict=True))


def table_rows(state: ChatState) -> dict[str, list[tuple[str, ...]]]:
    return {name: [tuple(row) for row in rows] for name, (_, rows) in state.tables().items()}


def damage(path: str, at: int, bit: int = 0) -> None:
    """Flip a bit; a new file, because the old one may be linked from elsewhere."""
    with open(path, "rb") as file:
        image = bytearray(file.read())
    image[at] ^= 1 << bit
    os.unlink(path)
    with open(path, "wb") as file:
        file.write(image)


class Case(unittest.TestCase):
    """A scratch directory for each test."""

    def setUp(self) -> None:
        self.base = tempfile.mkdtemp(prefix="snapshots-")
        self.addCleanup(shutil.rmtree, self.base)
        self.places = 0

    def place(self) -> Place:
        self.places += 1
        place = Place(os.path.join(self.base, f"host-{self.places}"))
        self.addCleanup(place.close)
        return place

    def with_small_files(self, rows: int = 5) -> None:
        patch = mock.patch.object(snapshots, "MESSAGES_PER_FILE", rows)
        patch.start()
        self.addCleanup(patch.stop)
