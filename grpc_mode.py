"""The client at the gRPC door: `client.py --grpc`, with the lines its people have known for years, along all replicas.

What it is not: it parses no protocol of ours; calls and streams are those of `doors/gen/chat.proto`, and any other client may do the same.
It reads and prints nothing itself: that is the affair of who talks, a script or somebody at a terminal.

    typed                      call                     typed                call
    0|NAME or 0 NAME           LogIn                    2|PATTERN or 2       WildCard
    1|NAME or 1 NAME           CreateAccount            3|NAME|TEXT          SendMessage
    X                          LogOut, and the end      5|                   DeleteAccount, and the end

A password stands behind the name, `0|NAME|PASSWORD`; at a terminal it is better asked for.

    a call       with a request_id of its own, at the next port when this one fails, until it is answered: done once
    the stream   opened again above the last id that was shown, and what was shown is acknowledged: shown once

Read next: `doors/grpc_door.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import re
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Protocol

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # a port that nobody listens on is not the person's affair

import grpc
import grpc.aio

from doors.calls import HEARS, SERVER
from doors.gen import chat_pb2
from doors.gen.chat_pb2 import ChatClient, ChatMessage
from phrases import moved_words, visible
from ports import Address, Moved, label

GREETING = "Welcome to the chatroom! Please log into your account by 0 or create a new account by 1."
WRONG, END = "Invalid request, please try again!", "Quitting!"
DOOR = "grpc"
ANSWER_S = 2.0  # seconds for an answer; then the next port is asked
WORD_S = 10.0  # seconds for the word behind an answer
PAUSE_S = 0.05  # seconds before the next port is tried
WORRY_S = 2.0  # seconds without a server after which the person is told
ACK_S = 0.2  # seconds from one acknowledgement to the next
OPTIONS = [("grpc.keepalive_time_ms", 1000), ("grpc.keepalive_timeout_ms", 500), ("grpc.http2.max_pings_without_data", 0)]
ELSEWHERE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN)
ENTERED = ("has been created!", "successfully logged in!")
UNBELIEVED = "CERTIFICATE_VERIFY_FAILED"  # in gRPC's words
COME_IN = re.compile(r"([01])[ |]\s*([^|]*[^|\s])\s*(?:\|(.*))?")


class Person(Protocol):
    """Who talks."""

    name: str  # who they are logged in as

    def lines(self) -> AsyncIterator[str]:
        """What they type, until they end it."""

    async def say(self, line: str) -> None:
        """Show them this."""

    async def tell(self, line: str) -> None:
        """Show them what the client does, apart from what they are told."""

    async def secret(self, question: str) -> str:
        """What they type unseen; empty: there is nobody to ask."""


class Silence(Exception):
    """Nobody has answered for too long."""


@contextlib.contextmanager
def on_a_channel() -> Iterator[None]:
    """What is asked within is given up, and no more, when somebody closes its channel: that looks as if this task were to end."""
    try:
        yield
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise


class GrpcGuest:
    """A person's calls and stream. `give_up_after`: seconds without an answer; None: never."""

    def __init__(self, addresses: Sequence[Address], ca: bytes, person: Person, give_up_after: float | None) -> None:
        self.addresses, self.ca, self.at = addresses, ca, 0
        self.person, self.give_up_after = person, give_up_after
        self.channel = self._channel()
        self.left: Address | None = None  # who has served before, and does not any more
        self.silent_since = 0.0  # when that was noticed, or that nobody serves; 0: somebody does
        self.is_worried = self.has_met = False
        self.trouble = ""  # why nobody is believed
        self.name = self.password = ""
        self.shown = self.acknowledged = 0
        self.words: dict[int, asyncio.Future[str]] = {}
        self.told: dict[int, str] = {}  # words that came before the answer to their call
        self.stream: asyncio.Task[None] | None = None
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()  # or why it was not

    def _channel(self) -> grpc.aio.Channel:
        host, port = self.addresses[self.at]
        written = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if self.ca:
            return grpc.aio.secure_channel(written, grpc.ssl_channel_credentials(self.ca), options=OPTIONS)
        return grpc.aio.insecure_channel(written, options=OPTIONS)

    async def move(self, channel: grpc.aio.Channel, *, may_give_up: bool = True) -> None:
        """This one does not answer: to the next port, unless somebody has gone there already. Raises Silence."""
        await self._worry(may_give_up)
        if channel is self.channel:
            if self.has_met and self.left is None:
                self.left = self.addresses[self.at]
            self.at = (self.at + 1) % len(self.addresses)
            self.channel = self._channel()
            await channel.close()
        await asyncio.sleep(PAUSE_S)

    def _look_at(self, error: grpc.aio.AioRpcError) -> None:
        if UNBELIEVED in (error.details() or ""):
            self.trouble = f" ({label(self.addresses[self.at])} shows a certificate that does not count)"

    async def _worry(self, may_give_up: bool) -> None:
        now = asyncio.get_running_loop().time()
        self.silent_since = self.silent_since or now
        nobody = f"nobody answers on {', '.join(map(label, self.addresses))}{self.trouble}"
        if may_give_up and self.give_up_after is not None and now - self.silent_since > self.give_up_after:
            raise Silence(f"{nobody}; giving up")
        if now - self.silent_since > WORRY_S and not self.is_worried:
            self.is_worried = True
            await self.person.tell(f"-- {nobody}; trying on")

    async def met(self, channel: grpc.aio.Channel) -> None:
        """Somebody has answered on it. If that is not where the others are by now, it is for the next answer to tell of the move."""
        if channel is not self.channel:
            return
        old, self.left = self.left, None
        if old is not None:
            gap = asyncio.get_running_loop().time() - self.silent_since
            await self.person.tell(moved_words(Moved(old, self.addresses[self.at], gap * 1000, is_silent=False)))
        self.has_met, self.is_worried, self.silent_since, self.trouble = True, False, 0.0, ""

    async def call(self, call: str, request: Any) -> str:
        """What came of it, in words. Done once, however often it must be asked. Raises grpc.RpcError when it is refused, and Silence."""
        request.password = self.password
        while True:
            channel = self.channel
            stub: Any = channel.unary_unary(f"/ChatService/{call}", type(request).SerializeToString, chat_pb2.LogInResponse.FromString)
            try:
                with on_a_channel():
                    answer = await stub(request, timeout=ANSWER_S)
                    await self.met(channel)
                    return await self.word(answer.id) if self.stream is not None else str(answer.id)
            except grpc.aio.AioRpcError as error:
                if error.code() not in ELSEWHERE:
                    raise
                self._look_at(error)
            await self.move(channel)

    async def word(self, number: int) -> str:
        """The word with this id; it may have come before."""
        if number in self.told:
            return self.told.pop(number)
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.words[number] = future
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WORD_S):
                return await future
        return ""

    def listen(self) -> asyncio.Future[None]:
        """Show what this name is told. Done when nothing is missed any more; its error is a refusal."""
        self.opened = asyncio.get_running_loop().create_future()
        self.stream = asyncio.create_task(self._listen())
        self.stream.add_done_callback(functools.partial(_pass_on, self.opened))
        return self.opened

    def hang_up(self) -> None:
        """Nothing more is shown of this name."""
        if self.stream is not None:
            self.stream.cancel()
            self.stream = None

    async def _listen(self) -> None:
        while True:
            channel = self.channel
            read: Any = channel.unary_stream("/ChatService/ReceiveMessages", ChatClient.SerializeToString, ChatMessage.FromString)
            asked = ChatClient(recipient_id=self.name, password=self.password, after=self.shown, acknowledges=True)
            try:
                with on_a_channel():
                    told = read(asked)
                    if HEARS in [tuple(pair) for pair in await told.initial_metadata()]:  # none where nobody is
                        await self.met(channel)
                        if not self.opened.done():
                            self.opened.set_result(None)
                    async for message in told:
                        await self._show(message)
                    return  # logged out, or deleted
            except grpc.aio.AioRpcError as error:
                if error.code() not in ELSEWHERE:
                    if self.opened.done():
                        await self.person.say(visible(f"{error.details()}"))
                    else:
                        self.opened.set_exception(error)
                    return
                self._look_at(error)
            await self.move(channel, may_give_up=not self.opened.done())  # once it was open, the next call finds out

    async def _show(self, message: ChatMessage) -> None:
        is_word = message.sender_id == SERVER
        await self.person.say(visible(message.message) if is_word else f"{visible(message.sender_id)}: {visible(message.message)}")
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
            with contextlib.suppress(grpc.aio.AioRpcError), on_a_channel():  # it is said again
                await stub(request, timeout=ANSWER_S)
                self.acknowledged = shown

    async def close(self) -> None:
        await self.acknowledge()
        self.hang_up()
        await self.channel.close()


def _pass_on(opened: asyncio.Future[None], stream: asyncio.Task[None]) -> None:
    """What ended the stream before it was open is an error of whoever waits for that: else they would wait for ever."""
    if not opened.done() and not stream.cancelled() and (error := stream.exception()) is not None:
        opened.set_exception(error)


def is_whole(typed: str) -> bool:
    """Whether it can be sent: what was no UTF-8 has halves of characters."""
    try:
        typed.encode()
    except UnicodeEncodeError:
        return False
    return True


async def enter(guest: GrpcGuest, line: str) -> bool:
    """`0|NAME` or `1|NAME`; whether the person is in."""
    found = COME_IN.fullmatch(line.strip())
    if found is None:
        await guest.person.say(WRONG)
        return False
    op, guest.name, guest.password = found[1], found[2], found[3] or ""
    try:
        word = await knock(guest, op)
    except grpc.aio.AioRpcError as error:
        if error.code() != grpc.StatusCode.UNAUTHENTICATED or guest.password:
            raise
        guest.password = await guest.person.secret(f"password for {guest.name}: ")
        if not guest.password or not is_whole(guest.password):
            raise
        word = await knock(guest, op)
    if word.endswith(ENTERED):
        guest.person.name = guest.name
        return True
    if not word:
        await guest.person.tell(f"-- nothing was heard of it: somebody else of this name may have; 0|{guest.name} logs in")
    guest.hang_up()
    return False


async def knock(guest: GrpcGuest, op: str) -> str:
    """Come in; what was said to that. Who logs in listens first: others of this name may be here, and words are told once."""
    once = secrets.token_hex(16)
    try:
        if op == "0":
            await guest.listen()
            return await guest.call("LogIn", chat_pb2.LogInRequest(client_id=guest.name, request_id=once))
        number = await guest.call("CreateAccount", chat_pb2.CreateAccountRequest(client_id=guest.name, request_id=once))
        await guest.listen()
        return await guest.word(int(number))
    except grpc.aio.AioRpcError:
        guest.hang_up()
        raise


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
        await guest.person.say(WRONG)
    return False


async def converse(addresses: Sequence[Address], ca: bytes, person: Person, give_up_after: float | None = None) -> int:
    """From the greeting to the last word; with TLS where there is a CA. Returns the exit code."""
    guest = GrpcGuest(addresses, ca, person, give_up_after)
    acknowledging = asyncio.create_task(guest.keep_acknowledging())
    await person.say(GREETING)
    is_in = False
    try:
        async for line in person.lines():
            if not is_whole(line):
                await person.say(WRONG)
                continue
            try:
                if is_in and await ask(guest, line):
                    break
                is_in = is_in or await enter(guest, line)
            except grpc.aio.AioRpcError as error:
                await person.say(visible(f"{error.details()}"))
    except Silence as silence:
        await person.tell(f"-- {silence}")
        return 1
    finally:
        acknowledging.cancel()
        await guest.close()
    await person.say(END)
    return 0
