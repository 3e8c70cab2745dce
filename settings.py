"""Who is in the cluster: `cluster.yaml`, read strictly into frozen `Settings`.

What it is not: it opens no port and no file but that one. What a key is for, its unit, default and danger stand in `cluster.yaml`.

Whatever is wrong there is one sentence that begins with file, line and column: `SettingsError`. In this order:

    read    `MarkedYaml`   bytes → plain values with their places
    type    msgspec        plain values → structs: unknown keys, wrong types, limits
    decide  `_decided`     what the file leaves open and its addresses settle: the policy, and timers that fit it
    sense   `sense.py`     what no type can say: ports used twice, ids with holes, who may reach what

Read next: `sense.py`, `cluster.yaml`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta

import sense
from account_settings import Accounts, complaints
from marked_yaml import MarkedYaml, Place, read_file
from marked_yaml import SettingsError as SettingsError
from sense import LOOPBACK
from sense import MAJORITY as MAJORITY
from sense import SURVIVOR as SURVIVOR

REPLICAS_MAX = 9  # one process sends each batch to all the others

Port = Annotated[int, Meta(ge=1, le=65535)]
Ports = Annotated[tuple[Port, ...], Meta(min_length=1, max_length=8)]
Timer = Annotated[int, Meta(ge=1, le=600_000)]
Hosts = Annotated[tuple[str, ...], Meta(min_length=1, max_length=8)]
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
    listen: Hosts = LOOPBACK
    tls: Annotated[str, Meta(min_length=1)] | None = None
    allow_plaintext: bool = False
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
    """One line of `replicas`. `doors` maps a door's name to its ports, `listen` are the addresses at which they are open."""

    id: int
    peer: Address
    doors: dict[str, tuple[int, ...]]
    listen: tuple[str, ...] = LOOPBACK

    @property
    def reached_at(self) -> str:
        """The address at which guests find its doors, from other hosts too if they may; empty: at any that leads to its host."""
        beyond = sense.beyond_loopback(self.listen)
        named = [host for host in (*beyond, *sense.beyond_loopback([self.peer.host])) if not sense.is_wildcard(host)]
        return self.listen[0] if not beyond else named[0] if named else ""


class Settings(Cluster, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file; `replicas` are in order of their ids, 0 … n-1."""

    replicas: tuple[Replica, ...]
    accounts: Accounts = Accounts()

    def replica(self, number: int) -> Replica:
        """The replica with this id."""
        return self.replicas[number]

    def addresses_of(self, door: str) -> tuple[Address, ...]:
        """Where this door is, each replica's first port before anybody's second, which is the order in which a client tries them."""
        ports = [[Address(replica.reached_at, port) for port in replica.doors.get(door, ())] for replica in self.replicas]
        return tuple(own[rank] for rank in range(max(map(len, ports))) for own in ports if rank < len(own))

    def peers(self) -> dict[int, Address]:
        """Where each replica listens for the others."""
        return {replica.id: replica.peer for replica in self.replicas}

    def survives(self) -> int:
        """How many deaths the cluster outlives, at once or in turn; under `majority` hosts that hang or are cut off count too."""
        return len(self.replicas) - 1 if self.policy == SURVIVOR else (len(self.replicas) - 1) // 2

    @property
    def secures_doors(self) -> bool:
        """Whether guests speak TLS."""
        return self.tls is not None and not self.allow_plaintext

    def warnings(self) -> list[str]:
        """What the file allows and an operator should be reminded of."""
        return list(sense.warnings(self, self.replicas, self.accounts))

    def config_hash(self) -> str:
        """Equal on replicas that may talk to each other: name, policy, ids and peer addresses."""
        what = [self.name, self.policy, [[replica.id, str(replica.peer)] for replica in self.replicas]]
        return hashlib.sha256(msgspec.json.encode(what)).hexdigest()[:32]

    def remembered(self) -> dict[str, Any]:
        """What a replica's disk keeps of this file, to compare it at the next start."""
        peers = tuple(str(replica.peer) for replica in self.replicas)
        return {"replicas": len(peers), "config_hash": self.config_hash(), "policy": self.policy, "peers": peers}


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    id: Annotated[int, Meta(ge=0, lt=REPLICAS_MAX)]
    peer: str
    doors: dict[str, Any]
    listen: Hosts | None = None


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
    sense.check_listen(source, file.cluster.listen, ("cluster", "listen"))
    replicas = tuple(_replica(source, at, line, file.cluster, doors) for at, line in enumerate(file.replicas))
    cluster = _decided(source, file.cluster, replicas)
    sense.check(source, cluster, replicas, file.accounts)
    if cluster.tls is not None:  # beside the file, from wherever it is read
        cluster = msgspec.structs.replace(cluster, tls=os.path.join(os.path.dirname(path), cluster.tls))
    for at, key, sentence in complaints(file.accounts):
        source.refuse(("accounts", "initial", at, key), sentence)
    in_order = tuple(sorted(replicas, key=lambda replica: replica.id))
    return Settings(**msgspec.structs.asdict(cluster), replicas=in_order, accounts=file.accounts)


def _decided(source: MarkedYaml, cluster: Cluster, replicas: tuple[Replica, ...]) -> Cluster:
    if not source.has(("cluster", "policy")) and not sense.is_one_host(replica.peer.host for replica in replicas):
        cluster = msgspec.structs.replace(cluster, policy=MAJORITY)
    if cluster.policy == SURVIVOR:
        return cluster
    timers = {"heartbeat_ms": sense.HEARTBEAT_MS, "suspect_after_ms": sense.SUSPECT_AFTER_MS}
    return msgspec.structs.replace(cluster, **{key: ms for key, ms in timers.items() if not source.has(("cluster", key))})


def _replica(source: MarkedYaml, at: int, line: _Line, cluster: Cluster, doors: Collection[str] | None) -> Replica:
    place: Place = ("replicas", at)
    opened: dict[str, tuple[int, ...]] = {}
    for door, ports in line.doors.items():
        if doors is not None and door not in doors:
            source.refuse((*place, "doors", door), f"there is no such door; the doors are {', '.join(doors)}", key=True)
        where = (*place, "doors", door)
        opened[door] = source.typed(ports, Ports, where) if isinstance(ports, list) else (source.typed(ports, Port, where),)
    peer = Address(*sense.read_address(source, line.peer, (*place, "peer")))
    if line.listen is not None:
        sense.check_listen(source, line.listen, (*place, "listen"))
        return Replica(line.id, peer, opened, line.listen)
    # Where guests of other hosts have to find it, its doors are at its own address, too.
    own = () if source.has(("cluster", "listen")) else tuple(sense.beyond_loopback([peer.host]))
    return Replica(line.id, peer, opened, (*own, *cluster.listen))
