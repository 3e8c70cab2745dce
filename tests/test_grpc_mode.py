"""The terminal's gRPC mode where its channel is closed under it: a call is made again on the next one. Real servers: tests/system."""

from __future__ import annotations

import asyncio
import importlib.util
import unittest
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any
from unittest import mock

if importlib.util.find_spec("grpc") is None:
    raise unittest.SkipTest("grpcio is not installed")

import grpc
import grpc.aio

import grpc_mode
from doors.calls import HEARS
from doors.gen import chat_pb2


class Channel:
    """Answers every call with what `answer` returns, after `before`; a stream opens, and ends."""

    def __init__(self, answer: Any, before: Callable[[], Awaitable[None]]) -> None:
        self.answer, self.before, self.calls = answer, before, 0

    def unary_unary(self, *_: Any) -> Any:
        async def stub(request: Any, timeout: float) -> Any:
            self.calls += 1
            await self.before()
            if isinstance(self.answer, BaseException):
                raise self.answer
            return self.answer

        return stub

    def unary_stream(self, *_: Any) -> Any:
        async def initial_metadata() -> list[tuple[str, str]]:
            await stub(None, 0.0)
            return [HEARS]

        stub, told = self.unary_unary(), mock.MagicMock(initial_metadata=initial_metadata)
        told.__aiter__.return_value = []
        return lambda request: told

    async def close(self) -> None:
        """Nothing is open."""


class Unavailable(grpc.aio.AioRpcError):
    """Nobody listens there."""

    def __init__(self) -> None:
        super().__init__(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), "nobody")


class ClosedUnderIt(unittest.IsolatedAsyncioTestCase):
    guest: Any

    async def asyncSetUp(self) -> None:
        self.enterContext(mock.patch("grpc_mode.PAUSE_S", 0.0))
        person: Any = SimpleNamespace(tell=mock.AsyncMock(), say=mock.AsyncMock())
        with mock.patch("grpc_mode.GrpcGuest._channel", return_value=None):
            self.guest = grpc_mode.GrpcGuest([("127.0.0.1", 1), ("127.0.0.1", 2)], b"", person, None)
        self.later: Any = Channel(SimpleNamespace(id=7), mock.AsyncMock())
        self.closed: Any = Channel(asyncio.CancelledError(), self._move)
        self.guest.channel = self.closed

    async def _move(self) -> None:
        """Somebody else has noticed it first."""
        self.guest.channel = self.later

    async def test_a_call_is_made_again_on_the_channel_of_the_stream(self) -> None:
        self.assertEqual(await self.guest.call("LogIn", chat_pb2.LogInRequest(client_id="wayne", request_id="once")), "7")
        self.assertEqual((self.closed.calls, self.later.calls), (1, 1))

    async def test_what_was_shown_is_said_again(self) -> None:
        self.guest.shown = 5
        await self.guest.acknowledge()
        self.assertEqual(self.guest.acknowledged, 0)
        await self.guest.acknowledge()
        self.assertEqual((self.guest.acknowledged, self.later.calls), (5, 1))

    async def test_a_stream_goes_on_where_the_call_has_gone(self) -> None:
        await self.guest.listen()
        self.assertEqual((self.closed.calls, self.later.calls), (1, 1))

    async def test_who_is_cancelled_ends_also_when_somebody_has_moved_on(self) -> None:
        self.guest.shown = 5
        self.closed.before = asyncio.Event().wait
        for what in (
            lambda: self.guest.call("LogIn", chat_pb2.LogInRequest(client_id="wayne")),
            self.guest.acknowledge,
            self.guest._listen,
        ):
            self.guest.channel, calls = self.closed, self.closed.calls
            task = asyncio.create_task(what())
            while self.closed.calls == calls:
                await asyncio.sleep(0)
            await self._move()
            task.cancel()
            await asyncio.wait([task])
            self.assertTrue(task.cancelled(), task)
            self.assertEqual(self.later.calls, 0)

    async def test_who_is_cancelled_ends_also_when_the_word_comes_just_then(self) -> None:
        task = asyncio.create_task(self.guest.word(7))
        await asyncio.sleep(0)
        self.guest.words[7].set_result("said")
        task.cancel()
        await asyncio.wait([task])
        self.assertTrue(task.cancelled(), task)

    async def test_a_stream_that_was_open_goes_on_after_any_silence(self) -> None:
        """It is for the next call to give up; if somebody answers before that, its word must be heard."""
        nobody = Channel(Unavailable(), mock.AsyncMock())
        self.guest.give_up_after = 0.0
        self.guest.opened.set_result(None)
        with mock.patch.object(self.guest, "_channel", side_effect=[nobody, nobody, self.later]):
            self.guest.channel = Channel(Unavailable(), mock.AsyncMock())
            await self.guest._listen()
        self.assertEqual((nobody.calls, self.later.calls), (2, 1))

    async def test_a_move_is_told_though_the_first_answer_comes_from_where_nobody_is_any_more(self) -> None:
        self.guest.left, self.guest.silent_since = ("127.0.0.1", 3), asyncio.get_running_loop().time()
        await self._move()
        await self.guest.met(self.closed)
        self.guest.person.tell.assert_not_awaited()
        await self.guest.met(self.later)
        await self.guest.met(self.later)
        (told,) = (call.args[0] for call in self.guest.person.tell.await_args_list)
        self.assertRegex(told, r"^-- 3 is gone, now on 1 \(\d{1,4} ms\)$")

    async def test_who_comes_in_gives_up_in_the_end(self) -> None:
        self.guest.give_up_after = 0.0
        nobody = Channel(Unavailable(), mock.AsyncMock())
        self.guest.channel = nobody
        with mock.patch.object(self.guest, "_channel", return_value=nobody), self.assertRaises(grpc_mode.Silence):
            await self.guest.listen()

    async def test_a_stream_that_cannot_be_asked_for_keeps_nobody_waiting(self) -> None:
        self.guest.name = "\udcff"
        with self.assertRaises(UnicodeEncodeError):
            await asyncio.wait_for(self.guest.listen(), 10)


if __name__ == "__main__":
    unittest.main()
