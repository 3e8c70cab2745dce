"""Guests who misbehave: each gets a clear answer or a closed connection with a line in the log, and nobody else notices."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
from itertools import pairwise

from tests.system.cluster import Cluster, rss_of
from tests.system.guests import Plain
from tests.system.stage import SystemTest

CROWD = 1000
NOTICED_S = 5.0  # longest time between two acknowledgements of somebody else; alone it is a few ms
MEMORY_BYTES = 120 << 20  # of a server while the worst guests are there


class Guests(SystemTest):
    """Somebody talks all the while. One cluster for all: whoever misbehaved in one test must not have hurt the next."""

    shared: Cluster
    primary: int
    half: Plain

    @classmethod
    def setUpClass(cls) -> None:
        cls.shared = Cluster()
        cls.addClassCleanup(cls.shared.end)
        cls.shared.start()
        cls.primary = cls.shared.wait_members()
        cls.half = Plain(cls.shared.pipes[cls.primary])
        cls.addClassCleanup(cls.half.socket.close)
        cls.half.ask("2")  # who has sent a newline must end its commands with one
        cls.half.say("1|half")

    def setUp(self) -> None:
        self.begin(self.shared)

    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        mark = self.id().rpartition("_")[2]
        await self.begin_talk(f"ann-{mark}", f"bob-{mark}")

    async def nobody_noticed(self) -> None:
        """The others were answered all the time, nothing is lost, and the server is small."""
        await self.more_talk()
        for talker in self.talkers:
            longest = max(b - a for a, b in pairwise(talker.acked_at))
            self.assertLess(longest, NOTICED_S, talker.name)
        self.assertLess(rss_of(self.cluster.processes[self.primary].pid), MEMORY_BYTES)
        self.assertEqual(self.cluster.running(), list(self.cluster.ids))
        row = await self.soon("an operator is answered", lambda: self.cluster.status(self.primary))
        self.assertEqual(row and row["view"], 1)
        await self.end_talk()

    async def test_a_thousand_at_once(self) -> None:
        """All are greeted and answered."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < CROWD + 200:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, CROWD + 1000), hard))
            self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        port = self.cluster.pipes[self.primary]
        opened = await asyncio.gather(*(asyncio.open_connection("127.0.0.1", port) for _ in range(CROWD)))
        greetings = await asyncio.wait_for(asyncio.gather(*(reader.readline() for reader, _ in opened)), 60)
        self.assertEqual({greeting[:14] for greeting in greetings}, {b"To get started"})
        for number, (_, writer) in enumerate(opened):
            writer.write(b"1|guest%d\n" % number)
        replies = await asyncio.wait_for(asyncio.gather(*(reader.readline() for reader, _ in opened)), 60)
        self.assertEqual([r for r in replies if not r.startswith(b"Success")], [])
        for _, writer in opened:
            writer.close()
        await self.nobody_noticed()

    async def test_lines_without_an_end(self) -> None:
        """A gigabyte without a newline; half a line, then a close."""
        closing = self.plain(self.primary)
        closing.say("3|ann|cut o")
        closing.socket.close()
        sent = await self.aside(lambda: _pour(self.plain(self.primary).socket, 1 << 30))
        self.assertLess(sent, 64 << 20)
        log = await self.soon("the log says why", lambda: self._log_with("longer than"))
        self.assertIn("closes 127.0.0.1", log)
        self.assertNotIn("xxxx", log)
        await self.nobody_noticed()

    async def test_zz_a_line_that_is_never_ended(self) -> None:
        """Begun before the other tests, so that this one, the last, need not wait: silence closes it."""
        await self.aside(self.half.to_end)
        self.assertIn("did not end a command", self._log_with("did not end"))
        await self.nobody_noticed()

    async def test_one_that_never_reads(self) -> None:
        """What it does not read waits in its mailbox; its connection is closed, and the memory is free again."""
        deaf = Plain(self.cluster.pipes[self.primary], receive_buffer=4096)
        self.addCleanup(deaf.socket.close)
        self.assertIn("Success", deaf.ask("1|deaf"))
        sender = self.plain(self.primary)
        sender.ask("1|loud")
        count, last = 0, ""
        while "mailbox" not in last:
            self.assertLess(count, 1000, "it is never given up")
            last = await self.aside(lambda: sender.ask(f"3|deaf|{'y' * 60_000}"))
            count += 1
        self.assertTrue(self._log_with("unread") or self._log_with("did not read"))
        again = self.plain(self.primary)
        self.assertIn("logged in", again.ask("0|deaf123"))
        waiting = await self.aside(lambda: again.ask("4|deaf123", "\n\n"))
        self.assertIn("loud sends: yyy", waiting)
        await self.nobody_noticed()

    async def test_bytes_that_are_no_commands(self) -> None:
        """Each gets the line for what cannot be understood, on the same connection, which goes on."""
        guest = self.plain(self.primary)
        for line in (
            b"9|x",
            b"1",
            b"1|",
            b"3|ann",
            b"1|a,b",
            b"1|a b",
            b"1|" + b"n" * 33,
            b"\xff\xfe",
            b"1|nul\0",
            b"1|\x1b[2J",
            b"0|\xc3",
        ):
            guest.say(line + b"\n")
            self.assertEqual(guest.until("documentation"), b"Please give a valid input as instructed in the documentation", line)
        self.assertIn("Success", guest.ask("1|fine"))
        guest.say(b"3|fine|" + b"z" * (64 * 1024 + 1) + b"\n")
        self.assertIn(b"valid input", guest.until("documentation"))
        old = self.plain(self.primary)  # a client of old: no newline, then silence
        old.say("0|fine123")
        self.assertIn(b"now logged in", old.until("\n"))
        await self.nobody_noticed()

    def _log_with(self, words: str) -> str:
        return next((line for line in self.cluster.log(self.primary).splitlines() if words in line), "")


def _pour(connection: socket.socket, most: int) -> int:
    """Send until the other side has had enough; how many bytes went out."""
    block, sent = b"x" * (1 << 20), 0
    with contextlib.suppress(OSError):
        while sent < most:
            connection.sendall(block)
            sent += len(block)
    return sent
