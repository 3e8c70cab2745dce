"""The shell of every byte door: one socket, its limits, and nothing of any protocol.

What it is not: it understands no byte. It feeds what comes to a `connection.Connection` and writes what that gives back.

    limit           beyond it
    UNSENT_MAX      bytes a guest has not read: closed; its messages wait in the mailbox
    UNSENT_S        seconds in which a guest read nothing although something waits: closed
    UNFINISHED_S    seconds in which a command that was begun was not ended: closed

Whoever says more than COMMANDS_AT_ONCE in one breath waits with the rest, in the order of `turns.py`.

Read next: `doors/turns.py`, `doors/lines.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from doors.contract import Shell
from doors.lines import QUIET_AFTER
from doors.turns import Turns

if TYPE_CHECKING:
    from connection import Connection
    from desk import Desk

UNSENT_MAX = 4 << 20
UNSENT_S = 10.0
UNFINISHED_S = 10.0


class StreamShell(Shell):
    """One guest's socket: an `asyncio.Protocol` in all but its base class, with which a compiled form would be slow."""

    def __init__(
        self,
        desk: Desk,
        door: str,
        shells: set[StreamShell],
        turns: Turns,
        *,
        log: Callable[[str], None],
        announce: Callable[[str], None],
        clients_max: int,
    ) -> None:
        self.desk, self.door, self.shells, self.turns = desk, door, shells, turns
        self.log, self.announce, self.clients_max = log, announce, clients_max
        self.loop = asyncio.get_running_loop()
        self.peer = self.address = ""
        self.stuck_since = self.unfinished_since = 0.0
        self.written = self.taken = 0  # bytes given to the transport; those of them that were gone at the last look
        self.is_slow = self.is_paused = self.is_waiting = False
        self.later = b""  # what was said beyond its share; nothing is read meanwhile
        self.silence: asyncio.TimerHandle | None = None
        self.connection: Connection | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but its base class
        address = transport.get_extra_info("peername") or ("?", 0)
        self.address, self.peer = str(address[0]), f"{address[0]} : {address[1]}"
        if len(self.shells) >= self.clients_max:
            self.log(f"refused {self.peer}: {self.clients_max} guests are connected already")
            transport.abort()
            return
        self.shells.add(self)
        transport.set_write_buffer_limits(high=64 * 1024)
        self.connection = self.desk.welcome(self, self.door)
        self.announce(f"Connected to : {self.peer}")
        transport.write(self.connection.translator.greeting)

    def data_received(self, chunk: bytes) -> None:
        connection = self.connection
        if connection is None or connection.gone:
            return
        if self.silence is not None:
            self.silence.cancel()
            self.silence = None
        if self.later:
            self.later += chunk  # TLS has read ahead
        else:
            self.desk.hears = True
            try:
                self._take(connection, chunk)
            finally:
                self.desk.hasten()  # whatever comes of it, nothing is done with this guest behind it

    def _take(self, connection: Connection, chunk: bytes) -> None:
        """Its share; the rest waits for the next turn."""
        share = connection.translator.share(chunk)
        if share < len(chunk):
            chunk, self.later = chunk[:share], chunk[share:]
            self.transport.pause_reading()
            self._wait()
        if connection.feed(chunk):
            self.silence = self.loop.call_later(QUIET_AFTER, self._on_silence)
        elif not connection.translator.rest:
            self.unfinished_since = 0.0
        elif not self.unfinished_since or len(connection.translator.rest) <= len(chunk):  # it began in this chunk
            self.unfinished_since = self.loop.time()

    def _wait(self) -> None:
        if not self.is_waiting:
            self.is_waiting = True
            self.turns.wait(self._go_on)

    def _go_on(self) -> None:
        """The next share of what was said, unless that waits for answers."""
        self.is_waiting = False
        if self.is_paused or self.connection is None:
            return
        chunk, self.later = self.later, b""
        if chunk:
            self._take(self.connection, chunk)
        if not self.later and not self.is_paused:
            self.resume()

    def _on_silence(self) -> None:
        self.silence = None
        if self.connection is not None and not self.connection.gone:
            self.connection.quiet()

    def eof_received(self) -> bool:
        """The guest may still read the answers to what it has sent."""
        if self.silence is not None:
            self.silence.cancel()
        if self.connection is not None and not self.later:  # where there is more, it is TLS that ends: as a whole
            self.connection.end()
        return not self.transport.is_closing() and self.transport.get_extra_info("ssl_object") is None  # TLS ends as a whole

    def connection_lost(self, error: Exception | None) -> None:
        self.shells.discard(self)
        self.later = b""
        if self.silence is not None:
            self.silence.cancel()
        if self.connection is not None:
            self.connection.lost()
            self.connection = None  # they hold each other, and would wait for the garbage collector

    def pause_writing(self) -> None:
        self.is_slow = True

    def resume_writing(self) -> None:
        self.is_slow = False

    # --- what the desk asks for -------------------------------------------------------------------------------------------------------

    def write(self, words: bytes) -> None:
        if self.transport.is_closing():
            return
        self.transport.write(words)
        self.written += len(words)
        if self.is_slow and self.transport.get_write_buffer_size() > UNSENT_MAX:
            self.abort(f"has {UNSENT_MAX} bytes unread")

    def close(self, why: str) -> None:
        self.later = b""
        if self.transport.is_closing():
            return
        if why:
            self.log(f"closes {self.peer}: {why}")
        self.transport.close()

    def abort(self, why: str) -> None:
        """Close without waiting for what was not read."""
        self.log(f"closes {self.peer}: {why}")
        self.transport.abort()

    def pause(self) -> None:
        self.is_paused = True
        if not self.transport.is_closing():
            self.transport.pause_reading()
            self.unfinished_since = 0.0  # what is not read cannot be ended

    def resume(self) -> None:
        self.is_paused = False
        if self.later:
            self._wait()
        elif not self.transport.is_closing():
            self.transport.resume_reading()
            if self.connection is not None and self.connection.translator.rest:
                self.unfinished_since = self.loop.time()

    def is_drained(self) -> bool:
        return self.transport.get_write_buffer_size() == 0

    def look(self, now: float) -> None:
        """Once a second: is the guest stuck?"""
        waiting = self.transport.get_write_buffer_size()
        taken = self.written - waiting
        if not waiting or taken != self.taken:
            self.taken, self.stuck_since = taken, now
        elif now - self.stuck_since > UNSENT_S:
            self.abort(f"did not read for {UNSENT_S:.0f} s")
            return
        if self.unfinished_since and now - self.unfinished_since > UNFINISHED_S:
            self.abort(f"did not end a command within {UNFINISHED_S:.0f} s")
