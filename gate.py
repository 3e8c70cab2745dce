"""The gate of a port where nothing may be said before TLS: so many newcomers at a time, each with little time.

What it is not: it knows no packet, no guest and no replica. Who has passed is given to `links.py` or to a door as an ordinary connection.

    newcomers       who is in its handshake, perhaps at several gates together. Beyond their number the oldest is turned away, so that who
                    says nothing keeps nobody out for long; where it has not had its moment yet, the next one waits in the kernel
    TLS, and how    as the context says (`credentials.py`)

Read next: `links.py`, `doorways.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import ssl
from collections.abc import Callable

GONE_S = 3  # seconds without a sign of the other host's kernel after which a connection counts as broken
RETRY_S = 0.1  # seconds until the next try when a connection cannot be accepted


class Newcomers:
    """Oldest first. `most`: at a time; `moment`: seconds that each has in any case, `seconds`: at most."""

    def __init__(self, most: int, seconds: float, *, moment: float = 0.0) -> None:
        self.most, self.seconds, self.moment = most, seconds, moment
        self.since: dict[asyncio.Task[None], float] = {}

    def make_room(self, now: float) -> bool | None:
        """Whether somebody had to go so that another one may come; None: nobody may come yet."""
        if len(self.since) < self.most:
            return False
        oldest = next(iter(self.since))
        if now - self.since[oldest] < self.moment:
            return None
        del self.since[oldest]
        oldest.cancel()
        return True


class Gate:
    """Accepts at this listening socket from when it is made until `close`. `refuse` hears why somebody was turned away."""

    def __init__(
        self,
        listener: socket.socket,
        context: ssl.SSLContext,
        make: Callable[[], asyncio.Protocol],
        refuse: Callable[[str], None],
        newcomers: Newcomers,
    ) -> None:
        self.listener, self.context, self.make, self.refuse, self.newcomers = listener, context, make, refuse, newcomers
        self.listener.setblocking(False)
        self.entering: set[asyncio.Task[None]] = set()
        self.accepting = asyncio.create_task(self._accept())

    def close(self) -> asyncio.Future[list[BaseException | None]]:
        """Nobody enters any more; done when all have gone."""
        tasks = [self.accepting, *self.entering]
        for task in tasks:
            task.cancel()
        self.listener.close()
        return asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(self.listener)
            except OSError:  # no descriptor is free, or whoever it was has gone
                await asyncio.sleep(RETRY_S)
                continue
            try:
                while (room := self.newcomers.make_room(loop.time())) is None:
                    await asyncio.sleep(RETRY_S)
            except asyncio.CancelledError:
                connection.close()
                raise
            if room:
                self.refuse("too many others have said nothing yet")
            newcomer = asyncio.create_task(self._secure(connection))
            self.entering.add(newcomer)
            self.newcomers.since[newcomer] = loop.time()
            newcomer.add_done_callback(self._on_over)

    def _on_over(self, newcomer: asyncio.Task[None]) -> None:
        self.entering.discard(newcomer)
        self.newcomers.since.pop(newcomer, None)

    async def _secure(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(self.make, connection, ssl=self.context, ssl_handshake_timeout=self.newcomers.seconds)
        except OSError as error:  # of TLS, or a timeout
            self.refuse(tls_words(error))


def tls_words(error: OSError) -> str:
    """What went wrong before anything could be said."""
    words = getattr(error, "verify_message", "") or getattr(error, "reason", "") or error.strerror or "nothing was said for too long"
    return f"no TLS connection came about ({words})"


def notice_loss(transport: asyncio.BaseTransport) -> None:
    """A host that is cut off closes nothing; without this a mended cable would wait for an old connection's next try, minutes perhaps."""
    line = transport.get_extra_info("socket")
    with contextlib.suppress(OSError):
        if line is None or line.family == socket.AF_UNIX or ipaddress.ip_address(line.getpeername()[0].partition("%")[0]).is_loopback:
            return  # one kernel knows
        line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in (
            *((socket.TCP_KEEPIDLE, 1), (socket.TCP_KEEPINTVL, 1), (socket.TCP_KEEPCNT, GONE_S)),
            (socket.TCP_USER_TIMEOUT, GONE_S * 1000),
        ):
            line.setsockopt(socket.IPPROTO_TCP, option, value)
