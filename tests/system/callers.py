"""Guests of the gRPC door, as their generated clients are: calls that block, and a stream that is read beside.

What it is not: it goes to no other port by itself, and calls nothing again.

Read next: `test_grpc.py`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # these tests start their servers by exec

import grpc

from doors.gen import chat_pb2
from doors.gen.chat_pb2 import ChatClient, ChatMessage

DEADLINE_S = 20.0  # seconds for any answer
RESPONSES: dict[str, Any] = {"SendMessage": chat_pb2.ChatMessageResponse}
REQUESTS: dict[str, Any] = {"SendMessage": chat_pb2.ChatMessageRequest}


class Ear:
    """One stream, read by a thread until it ends."""

    def __init__(self, channel: grpc.Channel, request: ChatClient) -> None:
        self.told: list[ChatMessage] = []
        self.status: grpc.StatusCode | None = None
        self.why = ""
        self.news = threading.Condition()
        read = channel.unary_stream("/ChatService/ReceiveMessages", ChatClient.SerializeToString, ChatMessage.FromString)
        self.stream: Any = read(request)
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        status, why = grpc.StatusCode.OK, ""
        try:
            for one in self.stream:
                with self.news:
                    self.told.append(one)
                    self.news.notify_all()
        except grpc.RpcError as error:
            status, why = error.code(), error.details() or ""
        with self.news:
            self.status, self.why = status, why
            self.news.notify_all()

    def wait(self, condition: Callable[[], bool], seconds: float = DEADLINE_S) -> None:
        """Until it holds, for whoever listens. Raises TimeoutError."""
        with self.news:
            if not self.news.wait_for(condition, seconds):
                raise TimeoutError(f"heard {self.lines()}, {self.status} {self.why}")

    def lines(self) -> list[tuple[str, str]]:
        """Who has said what."""
        return [(one.sender_id, one.message) for one in self.told]

    def until(self, *line: str) -> list[tuple[str, str]]:
        """All lines, once this one is among them."""
        self.wait(lambda: line in self.lines())
        return self.lines()

    def ended(self) -> tuple[grpc.StatusCode | None, str]:
        """How it ended."""
        self.wait(lambda: self.status is not None)
        return self.status, self.why


class Caller:
    """A channel to one replica."""

    def __init__(self, port: int, **options: Any) -> None:
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=list(options.items()))
        self.ears: list[Ear] = []

    def close(self) -> None:
        for ear in self.ears:
            ear.stream.cancel()
        self.channel.close()
        for ear in self.ears:
            ear.thread.join(DEADLINE_S)

    def start(self, call: str, **fields: Any) -> Any:
        """A call under way; `result()` waits for it."""
        request = getattr(chat_pb2, REQUESTS[call].DESCRIPTOR.name if call in REQUESTS else f"{call}Request")(**fields)
        response = RESPONSES.get(call) or getattr(chat_pb2, f"{call}Response")
        stub = self.channel.unary_unary(f"/ChatService/{call}", type(request).SerializeToString, response.FromString)
        return stub.future(request, timeout=DEADLINE_S, wait_for_ready=True)

    def call(self, call: str, **fields: Any) -> int:
        """The id of the response. Raises grpc.RpcError."""
        return int(self.start(call, **fields).result().id)

    def refusal(self, call: str, **fields: Any) -> tuple[grpc.StatusCode, str]:
        """The status of a call that is refused."""
        error = self.start(call, **fields).exception()
        assert error is not None, f"{call} was not refused"
        return error.code(), error.details()

    def listen(self, name: str, **more: Any) -> Ear:
        ear = Ear(self.channel, ChatClient(recipient_id=name, **more))
        self.ears.append(ear)
        return ear
