"""Newcomers at ports that speak TLS: how many at a time, how long, and who has to go."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
import types
import unittest
from collections.abc import Callable
from typing import Any
from unittest import mock

import msgspec

import credentials
from descriptors import NEWCOMERS_MAX
from doorways import Doorways
from gate import Gate, Newcomers
from settings import parse
from tests import certified
from tests.test_links import free_ports

LIMIT_S = 20.0
Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Knocking(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self) -> None:
        asyncio.get_running_loop().slow_callback_duration = LIMIT_S
        self.refusals: list[str] = []
        self.ours = credentials.of_client(os.path.join(certified.directory(), credentials.CA))

    async def until(self, what: str, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(LIMIT_S):
            while not condition():
                await asyncio.sleep(0.005)

    async def silent(self, port: int) -> Pair:
        """One that connects and says nothing."""
        pair = await asyncio.open_connection("127.0.0.1", port)
        self.addCleanup(pair[1].close)
        return pair

    async def is_gone(self, pair: Pair) -> bool:
        async with asyncio.timeout(LIMIT_S):
            try:
                return await pair[0].read() == b""
            except ConnectionError:
                return True


class Greeter(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(b"come in\n")
        transport.close()


class GateTest(Knocking):
    def gate(self, newcomers: Newcomers) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        self.made = Gate(listener, credentials.of_doors(certified.directory(), 1), Greeter, self.refusals.append, newcomers)
        self.addAsyncCleanup(self.end, self.made)
        return int(listener.getsockname()[1])

    async def end(self, gate: Gate) -> None:
        await gate.close()

    async def enters(self, port: int) -> bool:
        async with asyncio.timeout(LIMIT_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=self.ours)
            said = await reader.read()
            writer.close()
            return said == b"come in\n"

    async def test_beyond_their_number_the_oldest_goes(self) -> None:
        """Whichever of the gates that share the number it stands at."""
        newcomers = Newcomers(3, LIMIT_S)
        one, other = self.gate(newcomers), self.gate(newcomers)
        first = await self.silent(one)
        await self.until("it is there", lambda: len(newcomers.since) == 1)
        rest = [await self.silent(other) for _ in range(2)]
        await self.until("all are there", lambda: len(newcomers.since) == 3)
        self.assertEqual(self.refusals, [])
        self.assertTrue(await self.enters(other))
        self.assertEqual(self.refusals, ["too many others have said nothing yet"])
        self.assertTrue(await self.is_gone(first))
        self.assertFalse(any(pair[0].at_eof() for pair in rest))

    async def test_who_has_just_come_is_not_turned_away_for_the_next(self) -> None:
        newcomers = Newcomers(1, LIMIT_S, moment=LIMIT_S)
        port = self.gate(newcomers)
        silent = await self.silent(port)
        await self.until("it is there", lambda: newcomers.since)
        entering = asyncio.create_task(self.enters(port))
        with self.assertRaises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(entering), 0.3)
        self.assertEqual((len(newcomers.since), self.refusals), (1, []))
        silent[1].close()
        self.assertTrue(await entering)

    async def test_a_gate_that_is_closed_lets_go_of_who_waits(self) -> None:
        newcomers = Newcomers(1, LIMIT_S, moment=LIMIT_S)
        port = self.gate(newcomers)
        pairs = [await self.silent(port) for _ in range(2)]
        await self.until("one is there", lambda: newcomers.since)
        await self.made.close()
        self.assertTrue(all([await self.is_gone(pair) for pair in pairs]))
        self.assertEqual((newcomers.since, self.refusals), ({}, []))

    async def test_each_has_its_time(self) -> None:
        silent = await self.silent(self.gate(Newcomers(9, 0.1)))
        self.assertTrue(await self.is_gone(silent))
        self.assertEqual(self.refusals, ["no TLS connection came about (nothing was said for too long)"])


class DoorsTest(Knocking):
    """The pipe door of replica 1."""

    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        (self.port,) = free_ports(1)
        rows = "".join(f'  - {{id: {i}, peer: "127.0.0.1:{7661 + i}", doors: {{pipe: {self.port + i - 1}}}}}\n' for i in range(3))
        raw = f"cluster: {{name: dormitory, policy: majority, tls: certs, listen: [127.0.0.1]}}\nreplicas:\n{rows}"
        settings = msgspec.structs.replace(parse(raw.encode(), "c.yaml"), tls=certified.directory())
        guest: Any = mock.Mock(gone=False, feed=lambda chunk: False)
        guest.translator = types.SimpleNamespace(greeting=b"hello\n", rest=b"", share=len)
        desk: Any = types.SimpleNamespace(welcome=lambda shell, door: guest, hasten=lambda: None)
        self.doors = Doorways(
            settings, 1, desk=lambda: desk, is_serving=lambda: True, log=self.refusals.append, announce=lambda words: None
        )
        self.doors.is_open = True
        with mock.patch("builtins.print"):
            self.doors.bind()
            await self.doors.open()
        self.addCleanup(self.end)

    def end(self) -> None:
        self.doors.close()
        for _, bound in self.doors.sockets:
            bound.close()

    async def greeted(self, context: ssl.SSLContext | None) -> bytes:
        async with asyncio.timeout(LIMIT_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context)
            self.addCleanup(writer.close)
            writer.write(b"2|*\n2|*\n")  # as long as the head of a record
            try:
                return await reader.readline()
            except ConnectionError:
                return b""

    async def test_guests_with_tls_and_without(self) -> None:
        self.assertEqual(await self.greeted(self.ours), b"hello\n")
        self.assertNotIn(b"hello", await self.greeted(None))
        await self.until("it is said", self.told)
        self.assertNotIn(b"hello", await self.greeted(None))
        self.assertEqual(len(self.told()), 1, f"once in a while: {self.refusals}")

    def told(self) -> list[str]:
        return [line for line in self.refusals if "a connection to a door was refused: no TLS connection came about" in line]

    async def reopen(self) -> None:
        self.refusals.clear()
        self.doors.is_open = True
        with mock.patch("builtins.print"):
            await self.doors.open()

    def words(self) -> str:
        return f"nobody comes in at 127.0.0.1:{self.port}, door pipe: Address already in use; somebody else took the port meanwhile"

    async def test_a_port_where_another_program_listened_first(self) -> None:
        """Bound is not taken. The doors open without it, and with it the next time."""
        self.doors.close()
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind(("127.0.0.1", self.port))
            other.listen()
            await self.reopen()
            self.assertEqual(self.refusals, [self.words(), "doors are open"])
            self.doors.close()
        await self.reopen()
        self.assertEqual(await self.greeted(self.ours), b"hello\n")

    async def test_doors_that_are_closed_while_they_open_stay_closed(self) -> None:
        self.doors.close()
        serve = self.doors._serve

        async def slowly(door: str, listener: socket.socket) -> Any:
            server = await serve(door, listener)
            self.doors.close()
            return server

        with mock.patch.object(self.doors, "_serve", slowly):
            await self.reopen()
        self.assertEqual(self.doors.servers, [])
        self.assertNotIn("doors are open", self.refusals)
        await self.reopen()
        self.assertEqual(await self.greeted(self.ours), b"hello\n")

    async def test_a_port_that_cannot_be_bound_anew(self) -> None:
        with mock.patch("doorways.bind", side_effect=OSError(errno.EADDRINUSE, "Address already in use")):
            self.doors.close()
        self.assertEqual((self.refusals[-1], self.doors.sockets), (self.words(), []))
        await self.reopen()
        self.assertEqual(await self.greeted(self.ours), b"hello\n")

    async def test_many_who_say_nothing_keep_no_guest_out(self) -> None:
        self.doors.newcomers.most, self.doors.newcomers.moment = 4, 0.0
        for _ in range(9):
            await self.silent(self.port)
        self.assertEqual(await self.greeted(self.ours), b"hello\n")
        self.assertLessEqual(len(self.doors.newcomers.since), 4)
        self.assertLess(NEWCOMERS_MAX, 1 << 12, "descriptors are few")


if __name__ == "__main__":
    unittest.main()
