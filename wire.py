"""One connection of a client, with TLS where its cluster has it, and words for one that cannot be trusted.

What it is not: it does not choose whom to dial, and parses nothing (`client.py`, `guest.py`).

    with a CA       TLS; the certificate must be of that CA, and name the address that was dialled
    without one     plain; a server that expects TLS takes the connection, and ends it without a word

Read next: `client.py`, `credentials.py`.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import credentials
from guest import SILENCE
from ports import DEFAULT_CONFIG, Address, address_of

if TYPE_CHECKING:
    from client import ChatClient

SECURED_S = 2.0  # seconds for a connection and its TLS handshake


class Wire(asyncio.Protocol):
    """One connection of a client."""

    def __init__(self, client: ChatClient, address: Address) -> None:
        self.client, self.address = client, address
        self.transport: asyncio.Transport | None = None
        self.has_spoken = False
        self.opened_at = self.silent_since = 0.0
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # by what it does: other loops than asyncio's have transports of their own
        self.transport = cast(asyncio.Transport, transport)
        self.client.on_connected(self)

    def data_received(self, chunk: bytes) -> None:
        self.has_spoken = True
        self.client.on_chunk(self, chunk)

    def connection_lost(self, error: Exception | None) -> None:
        self.client.on_lost(self)
        if not self.over.done():
            self.over.set_result(None)


async def dial(wire: Wire, context: ssl.SSLContext | None) -> None:
    """Connect. Raises OSError or TimeoutError when nobody is there."""
    try:
        async with asyncio.timeout(SILENCE if context is None else SECURED_S):
            await asyncio.get_running_loop().create_connection(lambda: wire, *wire.address, ssl=context)
    except ssl.SSLCertVerificationError as error:
        wire.client.distrust(wire.address, f"shows a certificate that does not count: {error.verify_message}")
        raise
    except ssl.SSLError as error:
        wire.client.distrust(wire.address, f"speaks no TLS that would do ({error.reason})")
        raise


def context_for(named: str | None, addresses: Sequence[Address], config: str | None, door: str = "pipe") -> ssl.SSLContext | None:
    """TLS with the CA that was named, or that of the configuration, if they are in it; None: plain. Raises ValueError with a sentence."""
    ca = named or _ca_of(addresses, config, door)
    try:
        return credentials.of_client(ca) if ca else None
    except credentials.CredentialsRefused as error:
        raise ValueError(str(error)) from None


def ca_for(named: str | None, addresses: Sequence[Address], config: str | None, door: str) -> bytes:
    """The same CA, for who makes a context without us; empty: plain. Raises ValueError with a sentence."""
    if context_for(named, addresses, config, door) is None:
        return b""
    return Path(named or _ca_of(addresses, config, door) or "").read_bytes()


def _ca_of(addresses: Sequence[Address], config: str | None, door: str) -> str | None:
    if not config and not os.path.exists(DEFAULT_CONFIG):
        return None
    import settings

    try:
        found = settings.load(config or DEFAULT_CONFIG)
    except (settings.SettingsError, OSError):
        return None  # `ports_to_use` has complained where it matters
    configured = {address_of(str(address)) for address in found.addresses_of(door)}
    ours = configured | {("127.0.0.1", port) for _, port in configured}  # doors listen there, too
    return os.path.join(found.tls, credentials.CA) if found.tls and found.secures_doors and set(addresses) <= ours else None
