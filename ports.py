"""Where replicas listen: how a person writes and reads it, which ports a client moves along, and what it hears of those that serve nobody.

What it is not: it opens none of them (`client.py`).

    written            means              read as
    6667  :6667        127.0.0.1, 6667    6667
    [::1]:6667         ::1, 6667          6667
    host.lan:6667      host.lan, 6667     host.lan:6667
    A:6667,B:6667      both, one after the other
    host.lan           the room there     host.lan:5001

Read next: `client.py`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

DEFAULT_CONFIG = "cluster.yaml"
USUAL = {"room": (5001, 5002, 5003)}  # ports of a host that is named alone, where no configuration says better

ADDRESSES_MAX = 64  # that a client learns

Address = tuple[str, int]


class Moved(NamedTuple):
    """The client has another server; `gap_ms`: between noticing (or the last sign of life) and being served again."""

    old: Address
    new: Address
    gap_ms: float
    is_silent: bool  # the old one hung; otherwise its connection ended


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


def learned(known: list[Address], cluster: dict[str, Any], found_at: Address | None) -> list[Address]:
    """And where a server says the replicas are. Raises ValueError, TypeError, KeyError or AttributeError when that is not sound."""
    ports = [port for replica in cluster["replicas"] for port in replica["ports"]]
    # One that cannot tell its own address (`:6667`) is where this server was found.
    told = [address_of((found_at[0], port[1:]) if found_at and port.startswith(":") else port) for port in ports]
    return list(dict.fromkeys(known + told))[:ADDRESSES_MAX]


class Cuts:
    """What replicas say that serve nobody, because they reach too few of the others."""

    def __init__(self) -> None:
        self.words = ""  # for a person
        self._said_by = set[Address]()

    def note(self, address: Address, reached: str) -> bool:
        """This one does. Returns whether it says so again: then all others were tried in vain."""
        self.words = f"this side of the network is cut off; {reached} replicas reachable"
        is_again = address in self._said_by
        self._said_by.add(address)
        return is_again


def is_host(word: str) -> bool:
    """Whether it names a host and no port."""
    return not word.isdigit() and (":" not in word or (word.startswith("[") and word.endswith("]")))


def ports_to_use(given: Sequence[str], config: str | None, door: str = "pipe") -> list[Address]:
    """The ports given, and those of the configuration when they belong to it. Raises ValueError with a sentence.

    A host alone stands for all ports of its door that are configured, or usual.
    """
    configured = list[Address]()
    if config or os.path.exists(DEFAULT_CONFIG):
        import settings

        try:
            configured = [address_of(port) for port in map(str, settings.load(config or DEFAULT_CONFIG).addresses_of(door))]
        except (settings.SettingsError, OSError) as error:
            if config or not given:
                raise ValueError(str(error)) from None
    usual = [port for _, port in configured] or list(USUAL.get(door, ()))
    words = [word for some in given for word in some.split(",")]
    wanted = [address for word in words for address in (_at_host(word, usual) if is_host(word) else [address_of(word)])]
    if not wanted and not configured:
        raise ValueError("no port to try: name one (python client.py 6666, or HOST:PORT), or a configuration (--config PATH)")
    # the guest of a scratch cluster must not stray into the one that happens to be configured here
    return list(dict.fromkeys(wanted + configured)) if set(wanted) <= set(configured) else wanted


def _at_host(host: str, ports: Sequence[int]) -> list[Address]:
    name = host.removeprefix("[").removesuffix("]")
    if not name or not ports:
        raise ValueError(f"{host!r} is no port: write a number from 1 to 65535, or HOST:PORT")
    return [("127.0.0.1" if name == "localhost" else name, port) for port in dict.fromkeys(ports)]
