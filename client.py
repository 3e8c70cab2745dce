"""Room 4, the guest's house: it finds a replica that serves, and when that one dies it asks the same things of the next.

What it is not: it parses no protocol (`guest.py`) and draws nothing (`terminal.py`).

    p0 ── connected ── greeted ── open (`=`) ──── EOF, or nothing heard for SILENCE ───┐
    p1 ◀── at once; after a whole round in vain 2, 5, 10 … 250 ms, with jitter ◀───────┘

As a library: `async with ChatClient([6666, 6667]) as client: await client.request("1|mason")`, `async for message in client.messages()`.

Read next: `guest.py`, `terminal.py`.
"""

from __future__ import annotations

if __name__ == "__main__":
    import bootstrap

    bootstrap.ensure(("msgspec", "mypy_extensions", "prompt_toolkit", "yaml"))

import asyncio
import contextlib
import random
import secrets
import ssl
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Self

from commands import WINDOW
from guest import About, Event, Guest, Message, Opened, Reply, Trouble
from ports import Address, Cuts, Moved, address_of, label, learned
from wire import Wire, dial

TICK = 0.05  # seconds between looks at the clock
PAUSES = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25)  # seconds between tries, once each port was tried
UNANSWERED_MAX = WINDOW // 2  # requests under way; half of what a session may have, so that the server never stops reading
WORRY_AFTER = 2.0  # seconds without a server after which the person is told; a view change takes up to 1.5
LEAVE_WITHIN = 2.0  # seconds for a good-bye; a failover fits in
SETTLED_AFTER = 0.25  # seconds from one server found to the next that counts as found
RIVALS_MAX = 5  # times in a row that the session was taken over: our own late echoes do it once each, another client again and again


class NoAnswer(Exception):
    """The request may have been executed or not; the text says why nobody knows."""


class ChatClient:
    """A guest on asyncio. Callbacks: `on_messages(batch)` must lead to `displayed(message)`, `on_move(moved)`, `on_trouble(sentence)`.

    Without `on_messages`, messages wait for `messages()`. `save(memory)` keeps what a later process needs. `give_up_after`: seconds
    without any server after which all requests fail; None: never. `tls`: for doors that speak it.
    """

    def __init__(
        self,
        ports: Sequence[Address | int | str],
        *,
        guest: Guest | None = None,
        on_messages: Callable[[list[Message]], None] | None = None,
        on_move: Callable[[Moved], None] | None = None,
        on_trouble: Callable[[str], None] | None = None,
        save: Callable[[dict[str, Any]], None] | None = None,
        give_up_after: float | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.addresses = list(dict.fromkeys(map(address_of, ports)))
        self.guest = guest or Guest(secrets.token_hex(16))
        self.on_messages, self.save = on_messages, save
        self.on_move, self.on_trouble = on_move or bool, on_trouble or bool  # bool: does nothing
        self.give_up_after, self.tls = give_up_after, tls
        self.cluster: dict[str, Any] = {}  # as the server last described it
        self.address: Address | None = None  # of the server that serves us, or last did
        self.ended = ""  # why it has ended
        self._at = 0
        self._wire: Wire | None = None
        self._lost_at, self._lost_silent, self._worries = 0.0, False, set[str]()
        self._cuts, self._is_mute = Cuts(), False  # mute: the last connection ended without a word
        self._rivals, self._strangers, self._echoes = 0, set[Address](), 0  # echoes: connections that a server may yet take for ours
        self._answers: dict[int, asyncio.Future[str]] = {}
        self.recalled: dict[int, asyncio.Future[str]] = {}  # requests of an earlier process that are sent again
        self._waiting: list[asyncio.Future[dict[str, Any]]] = []
        self._room, self._queue, self._arrived = asyncio.Event(), deque[Message](), asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_flushing = self._is_dirty = False

    # --- for its owner --------------------------------------------------------------------------------------------------------------------

    @property
    def account(self) -> str:
        """Who is logged in; empty: nobody."""
        return self.guest.account

    @property
    def pending(self) -> list[str]:
        """Requests that are not answered, oldest first."""
        return list(self.guest.pending.values())

    def start(self) -> None:
        """Begin to connect, for good."""
        loop = asyncio.get_running_loop()
        self._lost_at = loop.time()
        self.recalled = {number: loop.create_future() for number in self.guest.pending}
        self._answers.update(self.recalled)
        self._task = asyncio.create_task(self._stay_connected())
        self._tick()

    def ask(self, line: str) -> asyncio.Future[str]:
        """Send a request now. The future fails with NoAnswer. Raises ValueError for what cannot be one line."""
        if self.ended:
            raise NoAnswer(self.ended)
        number = self.guest.request(line)
        future = self._answers[number] = asyncio.get_running_loop().create_future()
        self._remember()  # before it is said
        self._flush_soon()
        return future

    async def request(self, line: str) -> str:
        """The reply to a request; waits as long as it takes, over any number of deaths."""
        while len(self.guest.pending) >= UNANSWERED_MAX and not self.ended:
            self._room.clear()
            await self._room.wait()
        return await self.ask(line)

    async def about(self) -> dict[str, Any]:
        """The cluster as the server sees it. All messages that it had pushed before are handed on before."""
        if self.ended:
            raise NoAnswer(self.ended)
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self.guest.ask_cluster()
        self._flush_soon()
        return await future

    async def messages(self) -> AsyncIterator[Message]:
        """Messages, once each, in order; asking for the next one says that this one was displayed. Ends with the client."""
        while not self.ended or self._queue:
            while self._queue:
                message = self._queue.popleft()
                yield message
                self.displayed(message)
            self._arrived.clear()
            if not self.ended:
                await self._arrived.wait()

    def displayed(self, message: Message) -> None:
        """The message, and all before it, is on the screen."""
        self.guest.displayed(message, asyncio.get_running_loop().time())
        self._is_dirty = True
        self._flush_soon()

    async def leave(self, within: float = LEAVE_WITHIN) -> bool:
        """Log out and end. Returns whether the cluster has confirmed it, and with it all that was displayed and asked."""
        is_confirmed = not self.ended
        if not self.ended and (self.guest.account or self.guest.pending):
            future = self.ask(self.guest.dialect.leave)
            await asyncio.wait([future], timeout=within)
            is_confirmed = future.done() and future.exception() is None
        self.stop("the client was left")
        return is_confirmed

    def stop(self, why: str) -> None:
        """End now. What is unanswered stays unknown."""
        if self.ended:
            return
        self.ended = why
        for running in (self._task, self._timer):
            if running:
                running.cancel()
        if self._is_dirty:
            self._remember()
        if self._wire and self._wire.transport:
            self._flush()
            self._wire.transport.close()
        self._fail(why)
        self._room.set()
        self._arrived.set()

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.leave()

    # --- the connection -------------------------------------------------------------------------------------------------------------------

    async def _stay_connected(self) -> None:
        loop, tries, anew_at = asyncio.get_running_loop(), 0, 0.0
        while True:
            wire = await self._connect(self.addresses[self._at])
            if wire.opened_at and loop.time() - wire.opened_at > SETTLED_AFTER:
                self._rivals = self._echoes = 0
            self._echoes += not wire.opened_at and wire.transport is not None
            # Who lets go of us again and again is asked with pauses.
            tries, anew_at = (1, loop.time()) if wire.opened_at and loop.time() - anew_at > SETTLED_AFTER else (tries + 1, anew_at)
            self._at = (self._at + 1) % len(self.addresses)
            if (beyond := tries - len(self.addresses)) > 0:
                await asyncio.sleep(random.uniform(0.5, 1.0) * PAUSES[min(beyond, len(PAUSES)) - 1])

    async def _connect(self, address: Address) -> Wire:
        """Returns when the connection is over, or there was none."""
        wire = Wire(self, address)
        with contextlib.suppress(OSError, TimeoutError):
            await dial(wire, self.tls)
            await wire.over
        return wire

    def on_connected(self, wire: Wire) -> None:
        """A connection is made."""
        self._wire = wire
        self.guest.connect(asyncio.get_running_loop().time())
        self._flush()

    def on_chunk(self, wire: Wire, chunk: bytes) -> None:
        """Bytes from the server."""
        if wire is not self._wire:
            return
        batch = list[Message]()
        for event in self.guest.receive(chunk, asyncio.get_running_loop().time()):
            if isinstance(event, Message):
                batch.append(event)
            else:
                batch = self._hand_on(batch)
                self._on_event(wire, event)
        self._hand_on(batch)
        self._flush_soon()

    def on_lost(self, wire: Wire) -> None:
        """The connection has ended."""
        if wire is not self._wire:
            return
        self._wire = None
        self.guest.lose()
        self._is_mute = wire.transport is not None and not wire.has_spoken
        if wire.opened_at:
            self._lost_at, self._lost_silent = wire.silent_since or asyncio.get_running_loop().time(), bool(wire.silent_since)

    def _on_event(self, wire: Wire, event: Event) -> None:
        if isinstance(event, Reply):
            future = self._answers.pop(event.number, None)
            if future and not future.done():
                future.set_result(event.text)
            self._is_dirty = True
            self._room.set()
        elif isinstance(event, Opened):
            self._on_opened(wire)
        elif isinstance(event, About):
            self._on_about(event.cluster)
        elif isinstance(event, Trouble):
            self._on_refused(wire, event)

    def _on_opened(self, wire: Wire) -> None:
        old, self.address = self.address, wire.address
        wire.opened_at = asyncio.get_running_loop().time()
        self._worries.clear()
        if old and self._lost_at:
            self.on_move(Moved(old, wire.address, (wire.opened_at - self._lost_at) * 1000, self._lost_silent))
        self._lost_at, self._is_dirty, self._cuts = 0.0, True, Cuts()

    def _on_about(self, cluster: dict[str, Any]) -> None:
        self.cluster = cluster
        with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
            self.addresses = learned(self.addresses, cluster, self.address)
        if not self.guest.asked:
            waiting, self._waiting = self._waiting, []
            for future in waiting:
                if not future.done():
                    future.set_result(cluster)

    def _on_refused(self, wire: Wire, trouble: Trouble) -> None:
        """The server does not go on with this session; for `gap` the next connection says what is missing."""
        assert wire.transport
        wire.transport.close()
        if trouble.word == "cut":
            return self._worry() if self._cuts.note(wire.address, trouble.words) else None
        self.address = None  # a server that stays where it is was not left
        if trouble.word == "session":
            self._begin_anew()
        elif trouble.word == "newer":
            self._rivals = self._rivals + 1 if asyncio.get_running_loop().time() - wire.opened_at < SETTLED_AFTER else 1
            if self._rivals > RIVALS_MAX + self._echoes:
                self.stop("another client goes on with this session: end one of the two")
                self.on_trouble(self.ended)
        elif trouble.word == "stranger":
            self.distrust(wire.address, f"is no replica of ours: it says {trouble.words!r}")

    def distrust(self, address: Address, why: str) -> None:
        """Tell the person once what is wrong with whoever listens there."""
        if address not in self._strangers:
            self._strangers.add(address)
            self.on_trouble(f"what listens on {label(address)} {why}")

    def _begin_anew(self) -> None:
        """The cluster has forgotten the session. What is unanswered may have happened: it is not sent again."""
        lost, mail = list(map(self.guest.dialect.hide, self.pending)), self.guest.mail
        for one in mail.values():
            one.forget()
        self.guest.lose()
        self.guest = Guest(secrets.token_hex(16), mail, self.guest.dialect)
        self._is_dirty = True
        unknown = f"; nobody knows whether {'this was' if len(lost) == 1 else 'these were'} done: {', '.join(lost)[:200]}" if lost else ""
        why = f"the cluster does not know this session any more (a week has passed, or its data was reset): log in again{unknown}"
        self._fail(why)
        self.on_trouble(why)

    def _hand_on(self, batch: list[Message]) -> list[Message]:
        if batch:
            self._remember()
        if batch and self.on_messages:
            # behind whoever waits for a reply that stood before these messages
            asyncio.get_running_loop().call_soon(self.on_messages, batch)
        elif batch:
            self._queue.extend(batch)
            self._arrived.set()
        return []

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(TICK, self._tick)
        now, wire = loop.time(), self._wire
        if self.guest.tick(now) and wire and wire.transport:
            wire.silent_since = self.guest.heard
            wire.transport.abort()
        self._flush()
        if self._is_dirty:
            self._remember()
        lost_for = now - self._lost_at if self._lost_at else 0.0
        if self.give_up_after is not None and lost_for > self.give_up_after:
            self.stop(self._nobody())
            self.on_trouble(self.ended)
        elif lost_for > WORRY_AFTER:
            self._worry()

    def _worry(self) -> None:
        if (why := self._nobody()) not in self._worries:  # the first to answer may know more than silence said
            self._worries.add(why)
            self.on_trouble(f"{why}; trying on")

    def _nobody(self) -> str:
        """Why nothing happens."""
        if self._cuts.words:
            return self._cuts.words
        if self.guest.is_connected and self.guest.is_greeted:
            return "a replica answers, but waits for others before it can serve (python server.py status)"
        if self._is_mute and self.tls is None:
            return f"{label(self.addresses[self._at])} takes connections and ends them: if it speaks TLS, name its cluster's CA (--ca FILE)"
        return f"nobody answers on {', '.join(map(label, self.addresses))} (to start the replicas: bash scripts/start.sh)"

    def _flush(self) -> None:
        self._is_flushing = False
        words = self.guest.take()
        if words and self._wire and self._wire.transport:
            self._wire.transport.write(words)

    def _flush_soon(self) -> None:
        if not self._is_flushing:
            self._is_flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _remember(self) -> None:
        self._is_dirty = False
        if self.save:
            self.save({**self.guest.remember(), "ports": [label(a) for a in self.addresses]})

    def _fail(self, why: str) -> None:
        answers, self._answers = self._answers, {}
        for future in list[asyncio.Future[Any]]([*answers.values(), *self._waiting]):
            if not future.done():
                future.set_exception(NoAnswer(why))
                future.exception()  # it may have no owner any more
        self._waiting = []
        self._room.set()


def main() -> int:
    """The command `python client.py`."""
    import terminal

    return terminal.main()


if __name__ == "__main__":
    sys.exit(main())
