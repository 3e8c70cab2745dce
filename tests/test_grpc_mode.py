"""The terminal's gRPC mode where its channel is closed under it: a call is made again on the next one. Real servers: tests/system."""

from __future__ import annotations

import asyncio
import importlib.util
import unittest
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest import mock

if importlib.util.find_spec("grpc") is None:
    raise unittest.SkipTest("grpcio is not installed")

import grpc_mode
from doors.gen import chat_pb2


class Channel:
    """Answers every call with what `answer` returns, after `before`."""

    def __init__(self, answer: Any, before: Callable[[], None] = lambda: None) -> None:
        self.answer, self.before, self.calls = answer, before, 0

    def unary_unary(self, *_: Any) -> Any:
        async def stub(request: Any, timeout: float) -> Any:
            self.calls += 1
            self.before()
            if isinstance(self.answer, BaseException):
                raise self.answer
            return self.answer

        return stub

    async def close(self) -> None:
        """Nothing is open."""


class ClosedUnderIt(unittest.IsolatedAsyncioTestCase):
    guest: Any

    async def asyncSetUp(self) -> None:
        self.enterContext(mock.patch("grpc_mode.PAUSE_S", 0.0))
        person: Any = SimpleNamespace(tell=mock.AsyncMock(), say=mock.AsyncMock())
        with mock.patch("grpc_mode.GrpcGuest._channel", return_value=None):
            self.guest = grpc_mode.GrpcGuest([("127.0.0.1", 1), ("127.0.0.1", 2)], b"", person, None)
        self.later: Any = Channel(SimpleNamespace(id=7))
        self.closed: Any = Channel(asyncio.CancelledError(), self._move)
        self.guest.channel = self.closed

    def _move(self) -> None:
        """The stream has noticed it first."""
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

    async def test_who_is_cancelled_for_another_reason_is_cancelled(self) -> None:
        self.closed.before = lambda: None
        self.guest.shown = 5
        for asked in (self.guest.call("LogIn", chat_pb2.LogInRequest(client_id="wayne")), self.guest.acknowledge()):
            with self.assertRaises(asyncio.CancelledError):
                await asked


if __name__ == "__main__":
    unittest.main()
