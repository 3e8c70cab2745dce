"""The gate of a port where nothing may be said before TLS: a few newcomers at a time, each with little time.

What it is not: it knows no packet and no replica. Who has passed is given to `links.py` as an ordinary connection.

    newcomers       beyond their number the oldest is turned away, so that who says nothing keeps nobody out for long
    TLS, and how    as the context says (`credentials.py`)

Read next: `links.py`.
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


class Gate:
    """Accepts from when it is made until `close`. `refuse` hears why somebody was turned away. Raises OSError when the port is taken."""

    def __init__(
        self,
        host: str,
        port: int,
        context: ssl.SSLContext,
        make: Callable[[], asyncio.Protocol],
        refuse: Callable[[str], None],
        seconds: float,
        newcomers_max: int,
    ) -> None:
        self.context, self.make, self.refuse, self.seconds, self.newcomers_max = context, make, refuse, seconds, newcomers_max
        self.newcomers: dict[asyncio.Task[None], None] = {}  # oldest first
        self.listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.listener.setblocking(False)
        self.accepting = asyncio.create_task(self._accept())

    async def close(self) -> None:
        """Nobody enters any more."""
        tasks = [self.accepting, *self.newcomers]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.listener.close()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(self.listener)
            except OSError:  # no descriptor is free, or whoever it was has gone
                await asyncio.sleep(RETRY_S)
                continue
            newcomer = asyncio.create_task(self._secure(connection))
            self.newcomers[newcomer] = None
            newcomer.add_done_callback(self.newcomers.pop)
            if len(self.newcomers) > self.newcomers_max:
                oldest = next(iter(self.newcomers))
                oldest.cancel()
                self.refuse("a connection to the peer port was refused: too many others have said nothing yet")

    async def _secure(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(self.make, connection, ssl=self.context, ssl_handshake_timeout=self.seconds)
        except OSError as error:  # of TLS, or a timeout
            self.refuse(f"a connection to the peer port was refused: {tls_words(error)}")


def tls_words(error: OSError) -> str:
    """What went wrong before anything could be said."""
    words = getattr(error, "verify_message", "") or getattr(error, "reason", "") or error.strerror or "nothing was said for too long"
    return f"no TLS connection came about ({words})"


def notice_loss(transport: asyncio.BaseTransport) -> None:
    """A host that is cut off closes nothing; without this a mended cable would wait for an old connection's next try, minutes perhaps."""
    line = transport.get_extra_info("socket")
    with contextlib.suppress(OSError):
        if line is None or ipaddress.ip_address(line.getpeername()[0].partition("%")[0]).is_loopback:
            return  # one kernel knows
        line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in (
            *((socket.TCP_KEEPIDLE, 1), (socket.TCP_KEEPINTVL, 1), (socket.TCP_KEEPCNT, GONE_S)),
            (socket.TCP_USER_TIMEOUT, GONE_S * 1000),
        ):
            line.setsockopt(socket.IPPROTO_TCP, option, value)
