"""Where replicas listen: how a person writes and reads it, and which ports a client moves along.

What it is not: it opens none of them (`client.py`).

    written            means              read as
    6667  :6667        127.0.0.1, 6667    6667
    [::1]:6667         ::1, 6667          6667
    host.lan:6667      host.lan, 6667     host.lan:6667

Read next: `client.py`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

DEFAULT_CONFIG = "cluster.yaml"

Address = tuple[str, int]


def address_of(port: Address | int | str) -> Address:
    """`6666`, `HOST:6666`, `[::1]:6666`. Raises ValueError with a sentence."""
    if isinstance(port, tuple):
        host, number = str(port[0]), str(port[1])
    else:
        host, _, number = str(port).rpartition(":")
        host = host.removeprefix("[").removesuffix("]") or "127.0.0.1"
    if not number.isascii() or not number.isdigit() or not 0 < int(number) < 65536:
        raise ValueError(f"{port!r} is no port: write a number from 1 to 65535, or HOST:PORT")
    return host, int(number)


def label(address: Address) -> str:
    """How people call it: the port alone where the host goes without saying."""
    host, port = address
    return str(port) if host in ("127.0.0.1", "::1", "localhost") else f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def ports_to_use(given: Sequence[str], config: str | None) -> list[Address]:
    """The ports given, and those of the configuration when they belong to it. Raises ValueError with a sentence."""
    wanted, configured = [address_of(port) for port in given], list[Address]()
    if config or os.path.exists(DEFAULT_CONFIG):
        import settings

        try:
            configured = [address_of(port) for port in map(str, settings.load(config or DEFAULT_CONFIG).addresses_of("pipe"))]
        except (settings.SettingsError, OSError) as error:
            if config or not given:
                raise ValueError(str(error)) from None
    if not wanted and not configured:
        raise ValueError("no port to try: name one (python client.py 6666), or a configuration (--config PATH)")
    # the guest of a scratch cluster must not stray into the one that happens to be configured here
    return list(dict.fromkeys(wanted + configured)) if set(wanted) <= set(configured) else wanted
