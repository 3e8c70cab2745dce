"""Who is in the cluster: `cluster.yaml`, read strictly into frozen `Settings`.

What it is not: it opens no port and no file but that one. What a key is for, its unit, default and danger stand in `cluster.yaml`.

Whatever is wrong there is one sentence that begins with file, line and column: `SettingsError`. In this order:

    read    `MarkedYaml`   bytes → plain values with their places
    type    msgspec        plain values → structs: unknown keys, wrong types, limits
    sense   `_check_…`     what no type can say: ports used twice, ids with holes, timers that contradict each other

Read next: `cluster.yaml`.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Collection
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta

from account_settings import Accounts, complaints
from marked_yaml import MarkedYaml, Place, name, read_file
from marked_yaml import SettingsError as SettingsError

REPLICAS_MAX = 9  # one process sends each batch to all the others
SURVIVOR = "survivor"

Port = Annotated[int, Meta(ge=1, le=65535)]
Ports = Annotated[tuple[Port, ...], Meta(min_length=1, max_length=8)]
Timer = Annotated[int, Meta(ge=1, le=600_000)]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}\Z")]

RULES = {
    "name": "1 to 32 letters, digits, _ or -, a letter or digit first",
    "policy": "survivor or majority",
    "log_format": "text or json",
}


class Address(NamedTuple):
    """Where something listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Cluster(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The section `cluster`, key by key as in the file."""

    name: Name
    policy: Literal["survivor", "majority"] = "survivor"
    listen: Annotated[tuple[str, ...], Meta(min_length=1, max_length=8)] = ("127.0.0.1", "::1")
    heartbeat_ms: Timer = 50
    suspect_after_ms: Timer = 1000
    ack_after_ms: Timer = 2000
    restart_wait_ms: Timer = 1000
    join_wait_ms: Timer = 500
    snapshot_quiet_ms: Timer = 300
    snapshot_every_s: Annotated[int, Meta(ge=1, le=86_400)] = 60
    snapshot_every_bytes: Annotated[int, Meta(ge=1 << 20, le=1 << 40)] = 64 << 20
    log_format: Literal["text", "json"] = "text"
    log_bytes: Annotated[int, Meta(ge=64 << 10, le=1 << 40)] = 16 << 20
    log_files: Annotated[int, Meta(ge=1, le=1000)] = 4
    clients_max: Annotated[int, Meta(ge=1, le=1_000_000)] = 20_000
    doors_backlog_bytes: Annotated[int, Meta(ge=2 << 20, le=1 << 30)] = 8 << 20  # from 2 MiB: the longest text and a full batch fit


class Replica(msgspec.Struct, frozen=True):
    """One line of `replicas`. `doors` maps a door's name to its ports."""

    id: int
    peer: Address
    doors: dict[str, tuple[int, ...]]


class Settings(Cluster, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file; `replicas` are in order of their ids, 0 … n-1."""

    replicas: tuple[Replica, ...]
    accounts: Accounts = Accounts()

    def replica(self, number: int) -> Replica:
        """The replica with this id."""
        return self.replicas[number]

    def ports_of(self, door: str) -> tuple[int, ...]:
        """Ports of this door, each replica's first one before anybody's second, which is the order in which a client tries them."""
        ports = [replica.doors.get(door, ()) for replica in self.replicas]
        return tuple(own[rank] for rank in range(max(map(len, ports))) for own in ports if rank < len(own))

    def peers(self) -> dict[int, Address]:
        """Where each replica listens for the others."""
        return {replica.id: replica.peer for replica in self.replicas}

    def local_replicas(self) -> tuple[Replica, ...]:
        """The replicas that live on this host: all, since other addresses are refused."""
        return self.replicas

    def survives(self) -> int:
        """How many deaths, one after the other, the cluster outlives; under `majority` at once or not, and hangs and cuts count as well."""
        return len(self.replicas) - 1 if self.policy == SURVIVOR else (len(self.replicas) - 1) // 2

    def config_hash(self) -> str:
        """Equal on replicas that may talk to each other: name, policy, ids and peer addresses."""
        what = [self.name, self.policy, [[replica.id, str(replica.peer)] for replica in self.replicas]]
        return hashlib.sha256(msgspec.json.encode(what)).hexdigest()[:32]


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    id: Annotated[int, Meta(ge=0, lt=REPLICAS_MAX)]
    peer: str
    doors: dict[str, Any]


class _File(msgspec.Struct, forbid_unknown_fields=True):
    cluster: Cluster
    replicas: Annotated[tuple[_Line, ...], Meta(min_length=1, max_length=REPLICAS_MAX)]
    accounts: Accounts = Accounts()


def load(path: str, doors: Collection[str] | None = None) -> Settings:
    """The settings in this file; `doors` are the names a replica may open (None: any). Raises SettingsError."""
    return parse(read_file(path), path, doors)


def parse(raw: bytes, path: str, doors: Collection[str] | None = None) -> Settings:
    """As `load`, of these bytes; complaints begin with `path`. Raises SettingsError."""
    source = MarkedYaml(raw, path)
    file = source.typed(source.value, _File, (), RULES)
    replicas = tuple(_replica(source, at, line, doors) for at, line in enumerate(file.replicas))
    _check_sense(source, file.cluster, replicas)
    for at, key, sentence in complaints(file.accounts):
        source.refuse(("accounts", "initial", at, key), sentence)
    return Settings(**msgspec.structs.asdict(file.cluster), replicas=tuple(sorted(replicas, key=lambda r: r.id)), accounts=file.accounts)


def _replica(source: MarkedYaml, at: int, line: _Line, doors: Collection[str] | None) -> Replica:
    place: Place = ("replicas", at)
    opened: dict[str, tuple[int, ...]] = {}
    for door, ports in line.doors.items():
        if doors is not None and door not in doors:
            source.refuse((*place, "doors", door), f"there is no such door; the doors are {', '.join(doors)}", key=True)
        where = (*place, "doors", door)
        opened[door] = source.typed(ports, Ports, where) if isinstance(ports, list) else (source.typed(ports, Port, where),)
    host, colon, port = line.peer.rpartition(":")
    if not colon or not re.fullmatch("[1-9][0-9]{0,4}", port) or int(port) > 65535:
        source.refuse((*place, "peer"), f'expected an address and a port, such as "127.0.0.1:7661", but this is {line.peer[:60]!r}')
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    _check_address(source, bare, (*place, "peer"))
    return Replica(line.id, Address(bare, int(port)), opened)


def _check_address(source: MarkedYaml, host: str, place: Place) -> None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        source.refuse(place, f"expected a numeric address, such as 127.0.0.1, but this is {host[:60]!r}")
    if not address.is_loopback or str(address) != host:  # one spelling only: `config_hash` and duplicates go by it
        source.refuse(place, f"{host} is no address of this host alone, and a cluster across hosts is not there yet: use 127.0.0.1 or ::1")


def _check_sense(source: MarkedYaml, cluster: Cluster, replicas: tuple[Replica, ...]) -> None:
    ids = [replica.id for replica in replicas]
    for at, number in enumerate(ids):
        if number in ids[:at] or number >= len(ids):
            source.refuse(("replicas", at, "id"), f"{len(ids)} replicas have the ids 0 to {len(ids) - 1}, each once; this is {number}")
    for at, host in enumerate(cluster.listen):
        _check_address(source, host, ("cluster", "listen", at))
        if host in cluster.listen[:at]:
            source.refuse(("cluster", "listen", at), f"{host} stands here twice")
    _check_ports(source, replicas)
    _check_timers(source, cluster)


def _check_ports(source: MarkedYaml, replicas: tuple[Replica, ...]) -> None:
    """All replicas are on this host, so a port can be used once."""
    used: dict[int, str] = {}
    for at, replica in enumerate(replicas):
        uses: list[tuple[Place, int]] = [(("replicas", at, "peer"), replica.peer.port)]
        uses += [(("replicas", at, "doors", door), port) for door, ports in replica.doors.items() for port in ports]
        for where, port in uses:
            if port in used:
                source.refuse(where, f"port {port} is taken already by {used[port]}")
            used[port] = name(where)


def _check_timers(source: MarkedYaml, cluster: Cluster) -> None:
    """Complains about a key that is in the file: two defaults never contradict each other."""
    least, given = 4 * cluster.heartbeat_ms, cluster.suspect_after_ms  # fewer, and one slow sync looks like a death
    if given < least:
        key = "suspect_after_ms" if source.has(("cluster", "suspect_after_ms")) else "heartbeat_ms"
        source.refuse(("cluster", key), f"suspect_after_ms ({given}) must be at least 4 x heartbeat_ms, which is {least}")
