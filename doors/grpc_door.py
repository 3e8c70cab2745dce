"""The gRPC door: the service of `doors/gen/chat.proto`, health and reflection, on grpc.aio in the server's own loop.

What it is not: it decides nothing; calls go to `exchange.py`, streams are `listening.Listener`s. No other file of the server knows grpc,
and it is loaded only where cluster.yaml gives a replica such a port.

    open      a server on all its addresses; while the replica is not in the view there is none, and connecting is refused
    health    SERVING while what a guest asks here is done; asked each time, and by watchers each WATCH_S

    limit              beyond it
    REQUEST_MAX        bytes of a request: RESOURCE_EXHAUSTED
    CALLS_MAX          calls under way: RESOURCE_EXHAUSTED
    HELD_MAX           bytes of calls that wait because the replica is full: RESOURCE_EXHAUSTED
    STREAMS_MAX        streams, of chat and of health: RESOURCE_EXHAUSTED
    BEGUN_MAX          all of these, and calls of which only the beginning has come: RESOURCE_EXHAUSTED
    ONE_CONNECTION     calls and streams of one connection: HTTP/2 makes the guest wait
    UNWRITTEN_S        seconds in which a stream took nothing although something waits: cancelled; what it was not shown stays
    IDLE_S             seconds in which a connection had no call and no stream: closed
    ALIVE_S, DEAD_S    a connection is asked whether it lives, and closed when it does not answer

Read next: `doors/messages.py`, `exchange.py`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, cast

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # read at import: our children are started by exec alone

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection

from doors import Shell, calls
from doors.calls import HEARS, RESOURCE_EXHAUSTED, UNAVAILABLE, Refused
from doors.gen.chat_pb2 import DESCRIPTOR
from doors.messages import CALLS, REQUEST_MAX, answer, listening, looking_back, message, page
from exchange import Exchange
from listening import Listener
from told import position

if TYPE_CHECKING:
    from desk import Desk

CALLS_MAX = 4_096
HELD_MAX = 32 << 20
STREAMS_MAX = 20_000
BEGUN_MAX = STREAMS_MAX + CALLS_MAX  # 20 KiB each: some 500 MiB when hostile guests begin so many
ONE_CONNECTION = 1_024
UNWRITTEN_S = 10.0
IDLE_S, ALIVE_S, DEAD_S, SHAKE_S = 600, 10, 5, 10
FULL_S = 0.005  # seconds between looks whether the replica is still full
WATCH_S = 0.1
SERVICE = DESCRIPTOR.services_by_name["ChatService"].full_name
HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
LEFT = "this replica is not in the view: try the next port"
CUT_OFF = "this side of the network is cut off: try the next port"

OPTIONS = [
    ("grpc.so_reuseport", 0),  # two servers would share the port, and nobody would hear of it
    ("grpc.max_receive_message_length", REQUEST_MAX),
    ("grpc.max_concurrent_streams", ONE_CONNECTION),
    ("grpc.server.max_pending_requests", CALLS_MAX),  # else it cancels what has not reached us; we refuse with a sentence
    ("grpc.server.max_pending_requests_hard_limit", CALLS_MAX),
    ("grpc.max_connection_idle_ms", IDLE_S * 1000),
    ("grpc.keepalive_time_ms", ALIVE_S * 1000),
    ("grpc.keepalive_timeout_ms", DEAD_S * 1000),
    ("grpc.http2.min_ping_interval_without_data_ms", 1000),
    ("grpc.server_handshake_timeout_ms", SHAKE_S * 1000),
]

Ask = Callable[[Exchange, calls.Asked, str, Callable[[str], None], str], None]
Context = grpc.aio.ServicerContext[Any, Any]


class Stream(Shell):
    """One ReceiveMessages: the shell of its `Listener`."""

    def __init__(self, door: GrpcDoor, peer: str) -> None:
        self.door, self.peer, self.address = door, peer, address_of(peer)
        self.news = asyncio.Event()
        self.end: Refused | None = None
        self.writing_since = 0.0
        self.task = asyncio.current_task()

    def write(self, words: bytes) -> None:
        """What it shows, it takes."""

    def close(self, why: str) -> None:
        """The desk lets go of it."""
        self.end = self.end or Refused(UNAVAILABLE, why or LEFT)
        self.news.set()

    def turn_away(self, reply: str) -> None:
        """It may not hear."""
        self.end = calls.refused(reply, self.listener.name)
        self.news.set()

    def pause(self) -> None:
        """It says nothing but what it has shown."""

    def resume(self) -> None:
        """The same."""

    def is_drained(self) -> bool:
        return not self.writing_since

    async def run(self, raw: bytes, context: Context) -> None:
        """To its end. Raises Refused."""
        name, password, after, acknowledges = listening(raw)
        asked = calls.listen(name, password)
        desk = self.door.desk
        self.listener = listener = cast(Listener, desk.welcome(self, "stream", Listener))
        try:
            listener.listen(name, asked, after=after, acknowledges=acknowledges, wake=self.news.set, turn_away=self.turn_away)
            await self._show(listener, context)
        finally:
            if listener.is_over and not self.writing_since:
                listener.leave()
            else:
                listener.lost()

    async def _show(self, listener: Listener, context: Context) -> None:
        now, name, write, news = self.door.loop.time, listener.name, context.write, self.news
        has_come_in = False
        while True:
            news.clear()
            told = listener.take()
            if self.end is not None:
                raise self.end
            if listener.is_tuned and not has_come_in:
                has_come_in = True
                await context.send_initial_metadata((HEARS,))
            if told:
                for one in told:
                    self.writing_since = now()
                    await write(message(name, *one))
                self.writing_since = 0.0
                listener.written_to(told[-1].id)
            elif listener.is_over:
                return
            else:
                await news.wait()


class GrpcDoor:
    """The door of one replica. `is_serving()`: whether what is asked here is done. `chain`: key and certificates, for TLS."""

    def __init__(
        self,
        addresses: list[str],
        desk: Callable[[], Desk],
        is_serving: Callable[[], bool],
        log: Callable[[str], None],
        chain: tuple[bytes, bytes] | None = None,
        connections_max: int = CALLS_MAX,
    ) -> None:
        self.connections_max = connections_max
        self.addresses, self._desk, self.is_serving, self.log = addresses, desk, is_serving, log
        self.credentials = grpc.ssl_server_credentials([chain]) if chain is not None else None
        self.loop = asyncio.get_running_loop()
        self.server: grpc.aio.Server | None = None
        self.exchange: Exchange | None = None
        self.streams: set[Stream] = set()
        self.calls = self.held = self.watchers = 0
        self.turns = asyncio.Lock()

    @property
    def desk(self) -> Desk:
        return self._desk()

    # --- open and closed ------------------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Serve. Raises OSError when a port is taken."""
        async with self.turns:
            if self.server is not None:
                return
            self.exchange = Exchange(self.desk, self.loop.call_later)
            options = [*OPTIONS, ("grpc.max_allowed_incoming_connections", self.connections_max)]
            server = grpc.aio.server(options=options, maximum_concurrent_rpcs=BEGUN_MAX)
            server.add_generic_rpc_handlers((self._handlers(), self._health_handlers()))
            reflection.enable_server_reflection((SERVICE, HEALTH, reflection.SERVICE_NAME), server)  # type: ignore[no-untyped-call]
            for address in self.addresses:
                try:
                    if self.credentials is None:
                        server.add_insecure_port(address)
                    else:
                        server.add_secure_port(address, self.credentials)
                except RuntimeError as error:
                    raise OSError(f"cannot listen on {address} (gRPC): {error}") from None
                self.log(f"Starting server on {address}")
            await server.start()
            self.server = server

    async def close(self) -> None:
        """Refuse connections, end those that are there."""
        async with self.turns:
            server, self.server, self.exchange = self.server, None, None
            if server is not None:
                await server.stop(None)

    def look(self, now: float) -> None:
        """Once a second: streams that are stuck."""
        if self.exchange is not None:
            self.exchange.sweep()
        for stream in self.streams:
            if stream.writing_since and now - stream.writing_since > UNWRITTEN_S and stream.task is not None:
                self.log(f"ends a stream of {stream.peer}: it did not read for {UNWRITTEN_S:.0f} s")
                stream.task.cancel()

    # --- calls ----------------------------------------------------------------------------------------------------------------------------

    def _handlers(self) -> grpc.GenericRpcHandler:
        """Bytes in, bytes out: what cannot be read gets a sentence, too."""
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            name: grpc.unary_unary_rpc_method_handler(self._call(read, Exchange.ask, told)) for name, read in CALLS.items()
        }
        handlers["History"] = grpc.unary_unary_rpc_method_handler(self._call(looking_back, Exchange.look_back, page))
        handlers["ReceiveMessages"] = grpc.unary_stream_rpc_method_handler(self._receive)
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    def _call(self, read: Callable[[bytes], calls.Asked], ask: Ask, write: Callable[[str], bytes]) -> Callable[..., Awaitable[bytes]]:
        """The handler of a call: what its bytes ask for, who is asked, what the reply's bytes are."""

        async def call(raw: bytes, context: Context) -> bytes:
            if self.calls >= CALLS_MAX:
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{CALLS_MAX} calls are under way at this replica")
            self.calls += 1
            try:
                asked = read(raw)
                if self.desk.is_full:
                    await self._wait(len(raw))
                reply = await self._ask(ask, asked, context)
                if reply[:1] in ("y", "t"):
                    return write(reply)
                raise calls.refused(reply, asked.name)
            except Refused as no:
                await context.abort(grpc.StatusCode[no.status], no.why)
                raise AssertionError("abort has returned") from no
            finally:
                self.calls -= 1

        return call

    async def _ask(self, ask: Ask, asked: calls.Asked, context: Context) -> str:
        future: asyncio.Future[str] = self.loop.create_future()

        def answered(reply: str) -> None:
            if not future.done():  # the guest may have cancelled the call; it is done all the same
                future.set_result(reply)

        caller, exchange = context.peer(), self._serving()
        ask(exchange, asked, address_of(caller) if any(asked.passwords) else "", answered, caller)
        reply = await future
        exchange.given(caller)
        return reply

    def _serving(self) -> Exchange:
        """Who carries calls out. Raises Refused where nobody is served."""
        if self.exchange is None or self.desk.reached[1]:
            raise Refused(UNAVAILABLE, LEFT if self.exchange is None else CUT_OFF)
        return self.exchange

    async def _wait(self, size: int) -> None:
        """As other doors do not read, calls wait here. Raises Refused."""
        if self.held + size > HELD_MAX:
            raise Refused(RESOURCE_EXHAUSTED, f"{HELD_MAX} bytes of calls wait at this replica already")
        self.held += size
        try:
            while self.desk.is_full:
                await asyncio.sleep(FULL_S)
        finally:
            self.held -= size

    async def _receive(self, raw: bytes, context: Context) -> None:
        if len(self.streams) >= STREAMS_MAX:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{STREAMS_MAX} streams are open at this replica")
        stream = Stream(self, context.peer())
        self.streams.add(stream)
        try:
            self._serving()  # who comes in now would hear nothing for as long as that lasts
            await stream.run(raw, context)
        except Refused as no:
            await context.abort(grpc.StatusCode[no.status], no.why)
        finally:
            self.streams.discard(stream)

    # --- health ---------------------------------------------------------------------------------------------------------------------------

    def _health_handlers(self) -> grpc.GenericRpcHandler:
        read, write = health_pb2.HealthCheckRequest.FromString, health_pb2.HealthCheckResponse.SerializeToString
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "Check": grpc.unary_unary_rpc_method_handler(self._check, read, write),
            "Watch": grpc.unary_stream_rpc_method_handler(self._watch, read, write),
        }
        return grpc.method_handlers_generic_handler(HEALTH, handlers)

    def _status(self, service: str) -> Any:
        if service not in ("", SERVICE):
            return UNKNOWN
        return SERVING if self.is_serving() else NOT_SERVING

    async def _check(self, request: Any, context: Context) -> Any:
        status = self._status(request.service)
        if status == UNKNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, "there is no such service here")
        return health_pb2.HealthCheckResponse(status=status)

    async def _watch(self, request: Any, context: Context) -> None:
        if self.watchers >= STREAMS_MAX:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{STREAMS_MAX} watch the health of this replica")
        self.watchers += 1
        try:
            told = None
            while True:
                status = self._status(request.service)
                if status != told:
                    told = status
                    await context.write(health_pb2.HealthCheckResponse(status=status))
                await asyncio.sleep(WATCH_S)
        finally:
            self.watchers -= 1


def told(reply: str) -> bytes:
    """The response of a call: the id of the word that tells what came of it."""
    return answer(position(int(reply[2:]), is_word=True))


def address_of(peer: str) -> str:
    """`ipv4:127.0.0.1:49032`, `ipv6:%5B::1%5D:49032` → the address alone."""
    return peer.partition(":")[2].rpartition(":")[0].replace("%5B", "").replace("%5D", "") or peer
