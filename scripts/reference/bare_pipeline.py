"""The cheapest honest pipeline: what this machine allows a Python primary with two backups to do with the same work.

What it is not: a server. No sessions, no checks, no views, no recovery: a yardstick for `scripts/bench.py`.

    guest ── `3|recipient|text` ──▶ primary ── frame ──▶ backup: append, sync, `k`, then into the mailboxes
                                      │ append, sync     (two of them)
                                      ◀── k, k ──
             ◀── one line a message ──┘ into the mailboxes

What arrives while a batch is being made safe is the next batch.

    python scripts/reference/bare_pipeline.py backup DIRECTORY PORT
    python scripts/reference/bare_pipeline.py primary DIRECTORY PORT BACKUP-PORT BACKUP-PORT

Read next: `tests/bench/systems.py`, which starts it.
"""

from __future__ import annotations

import asyncio
import collections
import gc
import os
import struct
import sys
import zlib
from collections.abc import Callable
from typing import cast

import uvloop

HEADER = struct.Struct("<IIQQ")  # length, crc32, first op, count
SENDER = b"alice"

mailboxes: dict[bytes, list[tuple[int, bytes, bytes]]] = collections.defaultdict(list)


def open_journal(directory: str, port: int) -> int:
    """An empty file to append to."""
    os.makedirs(directory, exist_ok=True)
    return os.open(os.path.join(directory, f"{port}.journal"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)


class Primary:
    """Groups lines into batches and has them made safe, one batch at a time."""

    def __init__(self, directory: str, port: int, backups: list[int]) -> None:
        self.journal, self.port, self.backups = open_journal(directory, port), port, backups
        self.links: list[asyncio.WriteTransport] = []
        self.waiting: list[tuple[GuestLine, list[bytes]]] = []
        self.in_flight: tuple[list[tuple[GuestLine, list[bytes]]], int] | None = None
        self.acks = self.op = 0
        self.woken = False

    async def run(self) -> None:
        """Until the process is killed."""
        loop = self.loop = asyncio.get_running_loop()
        for port in self.backups:
            transport, _ = await loop.create_connection(lambda: BackupLine(self), "127.0.0.1", port)
            self.links.append(transport)
        await loop.create_server(lambda: GuestLine(self), "127.0.0.1", self.port)
        await asyncio.Event().wait()

    def submit(self, guest: GuestLine, lines: list[bytes]) -> None:
        """Lines of one guest for the next batch."""
        self.waiting.append((guest, lines))
        if not self.woken and self.in_flight is None:
            self.woken = True
            self.loop.call_soon(self.prepare)

    def prepare(self) -> None:
        """Send and sync what has gathered."""
        self.woken = False
        if self.in_flight is not None or not self.waiting:
            return
        batch, self.waiting = self.waiting, []
        lines = [SENDER + b"|" + line for _, lines in batch for line in lines]
        body = b"\n".join(lines)
        frame = HEADER.pack(len(body), zlib.crc32(body), self.op, len(lines)) + body
        self.in_flight, self.acks = (batch, self.op), 0
        self.op += len(lines)
        for link in self.links:
            link.write(frame)
        os.write(self.journal, frame)
        os.fdatasync(self.journal)
        self.acked()

    def acked(self) -> None:
        """One more of the three has it; with the third it is done and answered."""
        self.acks += 1
        if self.acks <= len(self.links):
            return
        assert self.in_flight is not None
        (batch, op), self.in_flight = self.in_flight, None
        for guest, lines in batch:
            out = []
            for line in lines:
                recipient, _, text = line.partition(b"|")
                mailboxes[recipient].append((op, SENDER, text))
                op += 1
                out.append(b"message from " + SENDER + b" has been delivered to " + recipient + b"'s mailbox\n")
            if not guest.transport.is_closing():
                guest.transport.write(b"".join(out))
        self.prepare()


class BackupLine(asyncio.Protocol):
    """The primary's connection to one backup: every byte of it is an acknowledgement."""

    def __init__(self, primary: Primary) -> None:
        self.primary = primary

    def data_received(self, chunk: bytes) -> None:
        for _ in chunk:
            self.primary.acked()


class GuestLine(asyncio.Protocol):
    """A guest's connection."""

    transport: asyncio.WriteTransport

    def __init__(self, primary: Primary) -> None:
        self.primary, self.rest = primary, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, chunk: bytes) -> None:
        whole, _, self.rest = (self.rest + chunk).rpartition(b"\n")
        lines = [line[2:] for line in whole.split(b"\n") if line[:2] == b"3|"]
        if lines:
            self.primary.submit(self, lines)


class Backup(asyncio.Protocol):
    """A backup's end: append, sync, acknowledge; apply afterwards."""

    transport: asyncio.WriteTransport

    def __init__(self, journal: int) -> None:
        self.journal, self.rest = journal, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, chunk: bytes) -> None:
        self.rest += chunk
        while len(self.rest) >= HEADER.size:
            length, crc, op, _ = HEADER.unpack_from(self.rest)
            end = HEADER.size + length
            if len(self.rest) < end:
                break
            frame, self.rest = self.rest[:end], self.rest[end:]
            assert zlib.crc32(frame[HEADER.size :]) == crc
            os.write(self.journal, frame)
            os.fdatasync(self.journal)
            self.transport.write(b"k")
            asyncio.get_running_loop().call_soon(self.apply, frame[HEADER.size :], op)

    def apply(self, body: bytes, op: int) -> None:
        """Into the mailboxes."""
        for number, line in enumerate(body.split(b"\n"), op):
            sender, recipient, text = line.split(b"|", 2)
            mailboxes[recipient].append((number, sender, text))


async def backup(directory: str, port: int) -> None:
    """Until the process is killed."""
    journal = open_journal(directory, port)
    await asyncio.get_running_loop().create_server(lambda: Backup(journal), "127.0.0.1", port)
    await asyncio.Event().wait()


def main(role: str, directory: str, *ports: str) -> None:
    """Entry point."""
    numbers = [int(port) for port in ports]
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
    work: dict[str, Callable[[], asyncio.Future[None] | object]] = {
        "primary": lambda: Primary(directory, numbers[0], numbers[1:]).run(),
        "backup": lambda: backup(directory, numbers[0]),
    }
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work[role]())  # type: ignore[arg-type]


if __name__ == "__main__":
    main(*sys.argv[1:])
