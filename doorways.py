"""Doorways: the sockets on which a replica's doors listen, open while it is in the view.

What it is not: it knows no door's protocol (`doors/`), no guest (`desk.py`), and does not decide when to open (`server.py`).

    bound    from the start, so that nobody else takes a port; does not listen: connecting is refused
    open     listens; each connection gets a shell of its own (`doors/stream.py`)
    closed   bound anew: what listened once would let guests queue instead of refusing them

A port that is bound and does not listen is not quite taken: another program may bind it, too, and whoever listens first keeps it. So one
can be lost while the doors are closed. That is said; the others open without it, and it is asked for again when they open next.

Where doors speak TLS a guest passes a gate before (`gate.py`); all doors share the number of those who stand there.

At the ports of the gRPC door it is gRPC's own server that listens; the sockets here only keep them.

Read next: `doors/stream.py`, `host.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import credentials
import descriptors
from desk import Desk
from doors.stream import StreamShell
from doors.turns import Turns
from gate import Gate, Newcomers
from settings import Settings

if TYPE_CHECKING:
    from doors.grpc_door import GrpcDoor

BACKLOG = 4096  # connections that wait to be accepted
GRPC = "grpc"
MOMENT_S = 1.0  # seconds in which a newcomer is not turned away for the next: guests who all come back at once are no attack
REPEAT_S = 10.0  # seconds in which no other refusal is logged


class Doorways:
    """Those of one replica. `desk()`: who is given the guests. `is_serving()`: whether what they ask here is done."""

    def __init__(
        self,
        settings: Settings,
        replica: int,
        *,
        desk: Callable[[], Desk],
        is_serving: Callable[[], bool],
        log: Callable[[str], None],
        announce: Callable[[str], None],
    ) -> None:
        self.settings, self.replica, self.desk, self.is_serving = settings, replica, desk, is_serving
        self.log, self.announce = log, announce
        self.shells: set[StreamShell] = set()
        self.turns = Turns(asyncio.get_running_loop().call_soon)
        self.sockets: list[tuple[str, socket.socket]] = []
        self.lost: list[tuple[str, str, int]] = []  # door, address and port, where somebody else listens
        self.servers: list[asyncio.Server | Gate] = []
        self.room = descriptors.room(settings, replica)
        self.newcomers = Newcomers(self.room.newcomers, credentials.HANDSHAKE_S, moment=MOMENT_S)
        self.refused_until = 0.0
        self.is_open = False
        self.grpc: GrpcDoor | None = None
        self.context: ssl.SSLContext | None = None  # of doors that speak TLS

    def bind(self) -> None:
        """Take the ports. Raises OSError, with the address in its text, when one is taken, and CredentialsRefused."""
        chain = None
        if self.settings.secures_doors and self.settings.tls is not None:
            self.context = credentials.of_doors(self.settings.tls, self.replica)
            chain = credentials.chain(self.settings.tls, self.replica)
        row = self.settings.replica(self.replica)
        for door, ports in row.doors.items():
            for port in ports:
                for address in row.listen:
                    bound = bind(address, port)
                    if bound is not None:
                        self.sockets.append((door, bound))
                print(f"socket binded to port {port}", flush=True)
        addresses = [written(*bound.getsockname()[:2]) for door, bound in self.sockets if door == GRPC]
        if addresses:
            self.grpc = _load_grpc()(addresses, self.desk, self.is_serving, self.log, chain, self.room.calls)

    async def open(self) -> None:
        """Listen, unless they are to be closed again meanwhile: `is_open` is set by whoever has this done."""
        lost, self.lost = self.lost, []
        for place in lost:
            self._take(*place)
        for door, bound in tuple(self.sockets):
            if self.is_open and door != GRPC and (door, bound) in self.sockets:
                try:
                    bound.listen(BACKLOG)
                    listener = bound.dup()
                except OSError as error:
                    address, port = bound.getsockname()[:2]
                    self._lose(door, address, port, error)
                    self.sockets.remove((door, bound))
                    bound.close()
                else:
                    server = await self._serve(door, listener)
                    if self.is_open:
                        self.servers.append(server)
                    else:
                        server.close()
        if self.is_open and self.grpc is not None:
            await self.grpc.open()
        if self.is_open:
            self.log("doors are open")
            print("socket is listening", flush=True)

    async def _serve(self, door: str, listener: socket.socket) -> asyncio.Server | Gate:
        maker = self._shell_maker(door)
        if self.context is None:
            return await asyncio.get_running_loop().create_server(maker, sock=listener, backlog=BACKLOG)
        return Gate(listener, self.context, maker, self._refuse, self.newcomers)

    def _take(self, door: str, address: str, port: int) -> None:
        try:
            bound = bind(address, port)
        except OSError as error:
            return self._lose(door, address, port, error)
        if bound is not None:
            self.sockets.append((door, bound))

    def _lose(self, door: str, address: str, port: int, error: OSError) -> None:
        self.lost.append((door, address, port))
        self.log(f"nobody comes in at {written(address, port)}, door {door}: {error.strerror}; somebody else took the port meanwhile")

    def _shell_maker(self, door: str) -> Callable[[], asyncio.Protocol]:
        most = self.room.guests

        def made() -> asyncio.Protocol:
            shell = StreamShell(self.desk(), door, self.shells, self.turns, log=self.log, announce=self.announce, clients_max=most)
            return cast(asyncio.Protocol, shell)

        return made

    def _refuse(self, why: str) -> None:
        """Once in a while: whoever dials can make it happen."""
        now = asyncio.get_running_loop().time()
        if now >= self.refused_until:
            self.refused_until = now + REPEAT_S
            self.log(f"a connection to a door was refused: {why}")

    def close(self) -> None:
        """Refuse new guests. Those who are in are the desk's affair."""
        self.is_open = False
        for server in self.servers:
            server.close()
        self.servers.clear()
        # A closed listener must refuse, not queue: the next listen() needs fresh sockets.
        ports = {bound.getsockname()[:2]: (door, bound) for door, bound in self.sockets}
        self.sockets.clear()
        for (address, port), (door, bound) in ports.items():
            if door == GRPC:
                self.sockets.append((door, bound))
            else:
                bound.close()
                self._take(door, address, port)

    async def close_grpc(self) -> None:
        """The same at the door that listens by itself, which takes a moment."""
        if self.grpc is not None and not self.is_open:
            await self.grpc.close()

    def look(self, now: float) -> None:
        """Once a second: guests that are stuck."""
        for shell in tuple(self.shells):
            shell.look(now)
        if self.grpc is not None:
            self.grpc.look(now)

    def send_away(self) -> None:
        """The end of this process."""
        for shell in tuple(self.shells):
            shell.close("")


def _load_grpc() -> type[GrpcDoor]:
    """Only where a replica has such a door: it costs a tenth of a second and 20 MiB. Raises OSError."""
    try:
        from doors.grpc_door import GrpcDoor
    except ImportError as error:
        raise OSError(f"the door {GRPC} lacks a package ({error}): run bash scripts/start.sh, or take it out of cluster.yaml") from None
    return GrpcDoor


def written(host: str, port: int) -> str:
    """An address as people and gRPC write it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def bind(address: str, port: int) -> socket.socket | None:
    """A bound socket that does not listen yet; None where this machine has no such address family."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        bound = socket.socket(family, socket.SOCK_STREAM)
    except OSError:
        return None
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind((address, port))
    except OSError as error:
        bound.close()
        if error.errno in (97, 99) and family == socket.AF_INET6:  # EAFNOSUPPORT, EADDRNOTAVAIL: a machine without IPv6
            return None
        raise OSError(error.errno, f"port {port} on {address} cannot be used: {error.strerror}") from None
    bound.setblocking(False)
    return bound


def is_here(address: str) -> bool:
    """Whether this host has the address: nobody else can bind it."""
    bound = None
    with contextlib.suppress(OSError):
        bound = bind(address, 0)
    if bound is not None:
        bound.close()
    return bound is not None
