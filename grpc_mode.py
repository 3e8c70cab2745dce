"""The client at the gRPC door: `client.py --grpc`, with the lines its people have known for years, along all replicas.

What it is not: it parses no protocol of ours; calls and streams are those of `doors/gen/chat.proto`, and any other client may do the same.

    typed                      call                     typed                call
    0|NAME or 0 NAME           LogIn                    2|PATTERN or 2       WildCard
    1|NAME or 1 NAME           CreateAccount            3|NAME|TEXT          SendMessage
    X                          LogOut, and the end      5|                   DeleteAccount, and the end

A password stands behind the name: `0|NAME|PASSWORD`.

    a call       with a request_id of its own, at the next port when this one fails, until it is answered: done once
    the stream   opened again above the last id that was shown, and what was shown is acknowledged: shown once

Read next: `doors/grpc_door.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # a port that nobody listens on is not the person's affair

import grpc
import grpc.aio

from doors.gen import chat_pb2
from doors.gen.chat_pb2 import ChatClient, ChatMessage
from phrases import visible
from ports import Address, label

GREETING = "Welcome to the chatroom! Please log into your account by 0 or create a new account by 1."
WRONG, END = "Invalid request, please try again!", "Quitting!"
DOOR, SERVER = "grpc", "Server"
ANSWER_S = 2.0  # seconds for an answer; then the next port is asked
WORD_S = 10.0  # seconds for the word behind an answer
PAUSE_S = 0.05  # seconds before the next port is tried
WORRY_S = 2.0  # seconds without a server after which the person is told
ACK_S = 0.2  # seconds from one acknowledgement to the next
OPTIONS = [("grpc.keepalive_time_ms", 1000), ("grpc.keepalive_timeout_ms", 500), ("grpc.http2.max_pings_without_data", 0)]
ELSEWHERE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN)
ENTERED = ("has been created!", "successfully logged in!")


class GrpcGuest:
    """A person's calls and stream."""

    def __init__(self, addresses: Sequence[Address], ca: bytes) -> None:
        self.addresses, self.ca, self.at = addresses, ca, 0
        self.channel = self._channel()
        self.name = self.password = ""
        self.shown = self.acknowledged = 0
        self.words: dict[int, asyncio.Future[str]] = {}
        self.told: dict[int, str] = {}  # words that came before the answer to their call
        self.stream: asyncio.Task[None] | None = None

    def _channel(self) -> grpc.aio.Channel:
        host, port = self.addresses[self.at]
        written = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if self.ca:
            return grpc.aio.secure_channel(written, grpc.ssl_channel_credentials(self.ca), options=OPTIONS)
        return grpc.aio.insecure_channel(written, options=OPTIONS)

    async def move(self, channel: grpc.aio.Channel) -> None:
        """This one does not answer: to the next port, unless somebody has gone there already."""
        if channel is self.channel:
            self.at = (self.at + 1) % len(self.addresses)
            self.channel = self._channel()
            await channel.close()
        await asyncio.sleep(PAUSE_S)

    async def call(self, call: str, request: Any) -> str:
        """What came of it, in words. Done once, however often it must be asked. Raises grpc.RpcError when it is refused."""
        request.password = self.password
        loop, worried = asyncio.get_running_loop(), False
        began = loop.time()
        while True:
            channel = self.channel
            stub: Any = channel.unary_unary(f"/ChatService/{call}", type(request).SerializeToString, chat_pb2.LogInResponse.FromString)
            try:
                answer = await stub(request, timeout=ANSWER_S)
                return await self._word(answer.id) if self.stream is not None else str(answer.id)
            except grpc.aio.AioRpcError as error:
                if error.code() not in ELSEWHERE:
                    raise
            if loop.time() - began > WORRY_S and not worried:
                worried = True
                say(f"nobody answers on {', '.join(map(label, self.addresses))}; trying on")
            await self.move(channel)

    async def _word(self, number: int) -> str:
        """The word with this id; it may have come before."""
        if number in self.told:
            return self.told.pop(number)
        future = self.words[number] = asyncio.get_running_loop().create_future()
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(future, WORD_S)
        return ""

    def listen(self) -> None:
        """Show what this name is told, from now on."""
        self.stream = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        while True:
            channel = self.channel
            read: Any = channel.unary_stream("/ChatService/ReceiveMessages", ChatClient.SerializeToString, ChatMessage.FromString)
            asked = ChatClient(recipient_id=self.name, password=self.password, after=self.shown, acknowledges=True)
            try:
                async for message in read(asked):
                    self._show(message)
                return  # logged out, or deleted
            except grpc.aio.AioRpcError as error:
                if error.code() not in ELSEWHERE:
                    return say(f"{error.details()}")
            except asyncio.CancelledError:
                if channel is self.channel:
                    raise  # else it is the channel that was closed under it
            await self.move(channel)

    def _show(self, message: ChatMessage) -> None:
        is_word = message.sender_id == SERVER
        say(visible(message.message) if is_word else f"{visible(message.sender_id)}: {visible(message.message)}")
        self.shown = message.id
        future = self.words.pop(message.id, None)
        if future is not None and not future.done():
            future.set_result(message.message)
        elif is_word:
            self.told[message.id] = message.message

    async def keep_acknowledging(self) -> None:
        """What was shown is said now and then; a stream that is opened again passes over it anyway."""
        while True:
            await asyncio.sleep(ACK_S)
            await self.acknowledge()

    async def acknowledge(self) -> None:
        """All up to here was shown."""
        shown = self.shown
        if shown > self.acknowledged:
            request = chat_pb2.AcknowledgeRequest(client_id=self.name, password=self.password, upto=shown)
            write, read = type(request).SerializeToString, chat_pb2.AcknowledgeResponse.FromString
            stub: Any = self.channel.unary_unary("/ChatService/Acknowledge", write, read)
            with contextlib.suppress(grpc.aio.AioRpcError):
                await stub(request, timeout=ANSWER_S)
                self.acknowledged = shown

    async def close(self) -> None:
        await self.acknowledge()
        if self.stream is not None:
            self.stream.cancel()
        await self.channel.close()


def say(line: str) -> None:
    """To the person."""
    print(line, flush=True)


async def typed() -> AsyncIterator[str]:
    """Lines, until the input ends."""
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        yield line.rstrip("\r\n")


async def enter(guest: GrpcGuest, line: str) -> bool:
    """`0|NAME` or `1|NAME`; whether the person is in."""
    op, name, password = [*line.replace(" ", "|", 1).split("|", 2), "", ""][:3]
    if op not in ("0", "1") or not name:
        say(WRONG)
        return False
    guest.name, guest.password = name, password
    kind: Any = chat_pb2.LogInRequest if op == "0" else chat_pb2.CreateAccountRequest
    number = await guest.call("LogIn" if op == "0" else "CreateAccount", kind(client_id=name, request_id=secrets.token_hex(16)))
    guest.listen()
    if (await guest._word(int(number))).endswith(ENTERED):
        return True
    if guest.stream is not None:
        guest.stream.cancel()
        guest.stream = None
    return False


async def ask(guest: GrpcGuest, line: str) -> bool:
    """A line of somebody who is in; whether that was the last one."""
    op, _, rest = line.partition("|")
    once = secrets.token_hex(16)
    if op == "2":
        await guest.call("WildCard", chat_pb2.WildCardRequest(client_id=guest.name, pattern=rest, request_id=once))
    elif op == "3" and "|" in rest:
        whom, text = rest.split("|", 1)
        message = chat_pb2.ChatMessageRequest(sender_id=guest.name, recipient_id=whom, message=text, request_id=once)
        await guest.call("SendMessage", message)
    elif op == "5" and "|" in line:
        return (await guest.call("DeleteAccount", chat_pb2.DeleteAccountRequest(client_id=guest.name, request_id=once))) != ""
    elif op in ("X", "x"):
        return (await guest.call("LogOut", chat_pb2.LogOutRequest(client_id=guest.name, request_id=once))) != ""
    else:
        say(WRONG)
    return False


async def converse(addresses: Sequence[Address], ca: str | None = None) -> int:
    """From the greeting to the last word; with TLS where a CA is named. Returns the exit code. Raises ValueError with a sentence."""
    try:
        guest = GrpcGuest(addresses, Path(ca).read_bytes() if ca else b"")
    except OSError as error:
        raise ValueError(f"the CA cannot be read: {error}") from None
    acknowledging = asyncio.create_task(guest.keep_acknowledging())
    say(GREETING)
    is_in = False
    try:
        async for line in typed():
            try:
                if is_in and await ask(guest, line):
                    break
                is_in = is_in or await enter(guest, line)
            except grpc.aio.AioRpcError as error:
                say(f"{error.details()}")
    finally:
        acknowledging.cancel()
        await guest.close()
    say(END)
    return 0
