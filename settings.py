"""Who is in the cluster: `cluster.yaml`, read strictly into frozen `Settings`.

What it is not: it opens no port and no file but that one. What a key is for, its unit, default and danger stand in `cluster.yaml`.

Whatever is wrong there is one sentence, `SettingsError`, that begins with file, line and column, as in
`cluster.yaml:9:21: cluster.suspect_after_ms: expected a whole number, but this is '1s'`. In this order:

    read    `MarkedYaml`   bytes → plain values with their places
    type    msgspec        plain values → structs: unknown keys, wrong types, limits
    sense   `_check_…`     what no type can say: ports used twice, ids with holes, timers that contradict each other

Read next: `cluster.yaml`.
"""

from __future__ import annotations

import difflib
import hashlib
import ipaddress
import os
import re
from collections.abc import Collection
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta

from marked_yaml import MarkedYaml, Place
from marked_yaml import SettingsError as SettingsError

REPLICAS_MAX = 9  # one process sends each batch to all the others
DOORS = ("pipe",)

Port = Annotated[int, Meta(ge=1, le=65535)]
Timer = Annotated[int, Meta(ge=1, le=600_000)]
Seconds = Annotated[int, Meta(ge=1, le=86_400)]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}\Z")]


class Address(NamedTuple):
    """Where something listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Cluster(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The section `cluster`, key by key as in the file."""

    name: Name
    policy: Literal["survivor", "majority"] = "survivor"  # all replicas are on one host, see `_check_local`
    listen: Annotated[tuple[str, ...], Meta(min_length=1, max_length=8)] = ("127.0.0.1", "::1")
    heartbeat_ms: Timer = 50
    suspect_after_ms: Timer = 1000
    probe_after_ms: Timer = 300
    ack_after_ms: Timer = 2000
    restart_wait_ms: Timer = 1000
    join_wait_ms: Timer = 500
    snapshot_quiet_ms: Timer = 300
    snapshot_every_s: Seconds = 60
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

    def replica(self, number: int) -> Replica:
        """The replica with this id. Raises SettingsError."""
        if not 0 <= number < len(self.replicas):
            raise SettingsError(f"there is no replica {number}: the ids are 0 to {len(self.replicas) - 1}")
        return self.replicas[number]

    def pipe_ports(self) -> tuple[int, ...]:
        """Ports of the pipe door, each replica's first one before anybody's second, which is the order in which a client tries them."""
        ports = [replica.doors.get("pipe", ()) for replica in self.replicas]
        return tuple(own[rank] for rank in range(max(map(len, ports))) for own in ports if rank < len(own))

    def peers(self) -> dict[int, Address]:
        """Where each replica listens for the others."""
        return {replica.id: replica.peer for replica in self.replicas}

    def local_replicas(self) -> tuple[Replica, ...]:
        """The replicas that live on this host."""
        return tuple(replica for replica in self.replicas if _is_loopback(replica.peer.host))

    def survives(self) -> int:
        """How many deaths, one after the other, the cluster outlives."""
        return len(self.replicas) - 1 if self.policy == "survivor" else (len(self.replicas) - 1) // 2

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


_Ports = Annotated[tuple[Port, ...], Meta(min_length=1, max_length=8)]


def load(path: str, doors: Collection[str] = DOORS) -> Settings:
    """The settings in this file; `doors` are the names a replica may open. Raises SettingsError."""
    try:
        with open(path, "rb") as file:
            raw = file.read(FILE_MAX + 1)
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from None
    return parse(raw, path, doors)


def parse(raw: bytes, path: str, doors: Collection[str] = DOORS) -> Settings:
    """As `load`, of these bytes; complaints begin with `path`. Raises SettingsError."""
    source = MarkedYaml(raw, path)
    file = _typed(source, source.value, _File, ())
    replicas = tuple(_replica(source, at, line, doors) for at, line in enumerate(file.replicas))
    _check_sense(source, file.cluster, replicas)
    in_order = tuple(sorted(replicas, key=lambda replica: replica.id))
    return Settings(**msgspec.structs.asdict(file.cluster), replicas=in_order)
