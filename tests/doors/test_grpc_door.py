"""The gRPC door's limits that no real cluster should have to reach: on a loop of its own, with small ones. The rest is in tests/system."""

from __future__ import annotations

import asyncio
import struct
import unittest
from typing import Any
from unittest import mock

import grpc
import grpc.aio

from doors import grpc_door
from doors.gen.chat_pb2 import ChatClient, ChatMessage, LogInRequest, LogInResponse
from tests.front_desk import FrontDesk
from tests.system.cluster import free_ports

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"  # with empty settings
FIELDS = {
    ":method": "POST",
    ":scheme": "http",
    ":path": "/ChatService/SendMessage",
    ":authority": "x",
    "te": "trailers",
    "content-type": "application/grpc",
}
WITHIN_S = 20.0  # seconds for any answer


def begun(number: int) -> bytes:
    """The headers of a call that is this stream of its connection, as HTTP/2 has them; its request never comes."""
    fields = b"".join(b"\0%c%b%c%b" % (len(name), name.encode(), len(field), field.encode()) for name, field in FIELDS.items())
    return struct.pack(">I", len(fields))[1:] + struct.pack(">BBI", 1, 4, number) + fields  # HEADERS, END_HEADERS


class Limits(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self) -> None:
        self.front = front = FrontDesk()

        async def turns() -> None:
            while True:
                front.turn()
                await asyncio.sleep(0.002)

        turning = asyncio.create_task(turns())
        self.addCleanup(turning.cancel)
        (self.port,) = free_ports(1)
        self.door = grpc_door.GrpcDoor([f"127.0.0.1:{self.port}"], lambda: front.desk, lambda: True, lambda text: None)
        self.addAsyncCleanup(self.door.close)
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{self.port}")
        self.addAsyncCleanup(self.channel.close)

    async def log_in(self) -> grpc.StatusCode:
        stub: Any = self.channel.unary_unary("/ChatService/LogIn", LogInRequest.SerializeToString, LogInResponse.FromString)
        status: grpc.StatusCode = await stub(LogInRequest(client_id="wayne"), timeout=WITHIN_S).code()
        return status

    async def until(self, status: grpc.StatusCode) -> None:
        async with asyncio.timeout(WITHIN_S):
            while await self.log_in() != status:
                await asyncio.sleep(0.01)

    async def test_calls_of_which_only_the_beginning_comes(self) -> None:
        """They count, whatever they never ask for; when they are gone there is room again."""
        with mock.patch.object(grpc_door, "BEGUN_MAX", 20):
            await self.door.open()
        self.assertEqual(await self.log_in(), grpc.StatusCode.OK)
        _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(PREFACE + b"".join(map(begun, range(1, 19, 2))))
        self.assertEqual(await self.log_in(), grpc.StatusCode.OK, "nine of them: there is room")
        writer.write(b"".join(map(begun, range(19, 61, 2))))
        await self.until(grpc.StatusCode.RESOURCE_EXHAUSTED)
        writer.close()
        await self.until(grpc.StatusCode.OK)

    async def test_a_stream_that_comes_where_nobody_is_served_is_sent_to_the_next_port(self) -> None:
        await self.door.open()
        self.assertEqual(await self.log_in(), grpc.StatusCode.OK)
        self.front.desk.cut_off((1, 3))
        read: Any = self.channel.unary_stream("/ChatService/ReceiveMessages", ChatClient.SerializeToString, ChatMessage.FromString)
        async with asyncio.timeout(WITHIN_S):
            for told in (read(ChatClient(recipient_id="wayne")), read(ChatClient(recipient_id="nobody", after=1))):
                self.assertEqual((await told.code(), await told.details()), (grpc.StatusCode.UNAVAILABLE, grpc_door.CUT_OFF))
        self.assertEqual(await self.log_in(), grpc.StatusCode.UNAVAILABLE)
        self.assertEqual(self.door.streams, set())


if __name__ == "__main__":
    unittest.main()
