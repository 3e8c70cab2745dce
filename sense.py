"""What no type can say of `cluster.yaml`: ids with holes, ports used twice, timers that contradict each other, and who may reach what.

What it is not: it reads no file (`settings.py`) and opens no port. A complaint is one sentence, at its place in the file.

    peers                               policy, where none is named     and
    all on loopback                     survivor                        any policy may be named
    each on an address of its own       majority                        `survivor` is refused: one kernel has to see all deaths

    listen               without a password                     without encryption
    loopback             as `accounts` says                     yes
    any other address    only where `require_password: false`   only with `allow_plaintext: true`,
                         and `allow_plaintext: true` are both   otherwise it takes `tls`
                         written out; then with a warning

With `tls` links between hosts are encrypted in any case, and doors unless `allow_plaintext: true` opens them to clients of old.

Read next: `settings.py`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal

from marked_yaml import MarkedYaml, Place, name

if TYPE_CHECKING:
    from account_settings import Accounts
    from settings import Cluster, Replica

SURVIVOR: Literal["survivor"] = "survivor"
MAJORITY: Literal["majority"] = "majority"
LOOPBACK = ("127.0.0.1", "::1")
# Of `majority`, where the file says nothing: a network is slower than a kernel, and a host falls silent without a word.
HEARTBEAT_MS, SUSPECT_AFTER_MS = 100, 500
PLAINTEXT = "allow_plaintext: true"
NO_PASSWORDS = "require_password: false"
TLS = "tls: certs (a directory that `python server.py make-certs` fills)"


def is_loopback(host: str) -> bool:
    """Whether only this host can reach the address."""
    return ipaddress.ip_address(host).is_loopback


def is_wildcard(host: str) -> bool:
    """Whether it stands for every address of a host, so that nobody can dial it."""
    return ipaddress.ip_address(host).is_unspecified


def is_one_host(peers: Iterable[str]) -> bool:
    """Whether replicas at these addresses share a kernel, as far as addresses tell."""
    return all(map(is_loopback, peers))


def check_address(source: MarkedYaml, host: str, place: Place) -> None:
    """A number in its usual spelling: the identity of the cluster and duplicates go by it."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        source.refuse(place, f"expected a numeric address, such as 127.0.0.1, but this is {host[:60]!r}")
    if str(address) != host:
        source.refuse(place, f"{host} is usually written {address}")


def read_address(source: MarkedYaml, text: str, place: Place) -> tuple[str, int]:
    """`127.0.0.1:7661` or `[::1]:7661`."""
    host, colon, port = text.rpartition(":")
    if not colon or not re.fullmatch("[1-9][0-9]{0,4}", port) or int(port) > 65535:
        source.refuse(place, f'expected an address and a port, such as "127.0.0.1:7661", but this is {text[:60]!r}')
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    check_address(source, bare, place)
    return bare, int(port)


def check(source: MarkedYaml, cluster: Cluster, replicas: Sequence[Replica], accounts: Accounts) -> None:
    """Everything in the module's page. `replicas` stand in the order of the file. Raises SettingsError."""
    ids = [replica.id for replica in replicas]
    for at, number in enumerate(ids):
        if number in ids[:at] or number >= len(ids):
            source.refuse(("replicas", at, "id"), f"{len(ids)} replicas have the ids 0 to {len(ids) - 1}, each once; this is {number}")
    _check_peers(source, cluster, replicas)
    _check_ports(source, replicas)
    _check_timers(source, cluster)
    _check_doors(source, cluster, replicas, accounts)


def check_listen(source: MarkedYaml, hosts: Sequence[str], place: Place) -> None:
    """Addresses at which doors listen."""
    for at, host in enumerate(hosts):
        check_address(source, host, (*place, at))
        if host in hosts[:at]:
            source.refuse((*place, at), f"{host} stands here twice")


def _check_peers(source: MarkedYaml, cluster: Cluster, replicas: Sequence[Replica]) -> None:
    peers = [replica.peer.host for replica in replicas]
    for at in filter(lambda at: is_wildcard(peers[at]), range(len(peers))):
        source.refuse(("replicas", at, "peer"), f"the other replicas cannot dial {peers[at]}: name an address of that host")
    for at, host in enumerate(() if is_one_host(peers) else peers):
        place = ("replicas", at, "peer")
        if cluster.policy == SURVIVOR and not is_loopback(host):
            source.refuse(
                place,
                f"under policy survivor all replicas share one host and talk over 127.0.0.1; {host} is reached over a network:"
                " name loopback addresses, or policy: majority, which needs most of the replicas alive",
            )
        if is_loopback(host):
            source.refuse(place, f"{host} cannot be reached from the other hosts: name an address of the host on which this replica runs")
        if cluster.tls is None and not cluster.allow_plaintext:
            source.refuse(place, f"whoever is on the way to {host} could read and change what replicas say: use {TLS}, or {PLAINTEXT}")


def _check_ports(source: MarkedYaml, replicas: Sequence[Replica]) -> None:
    """A port is used once on a host."""
    used: dict[tuple[str, int], str] = {}
    is_shared = is_one_host(replica.peer.host for replica in replicas)
    for at, replica in enumerate(replicas):
        uses: list[tuple[Place, int]] = [(("replicas", at, "peer"), replica.peer.port)]
        uses += [(("replicas", at, "doors", door), port) for door, ports in replica.doors.items() for port in ports]
        for where, port in uses:
            key = ("" if is_shared else replica.peer.host, port)
            if key in used:
                source.refuse(where, f"port {port} is taken already by {used[key]}")
            used[key] = name(where)


def _check_timers(source: MarkedYaml, cluster: Cluster) -> None:
    """Complains about a key that is in the file: two defaults never contradict each other."""
    least, given = 4 * cluster.heartbeat_ms, cluster.suspect_after_ms  # fewer, and one slow sync looks like a death
    if given < least:
        key = "suspect_after_ms" if source.has(("cluster", "suspect_after_ms")) else "heartbeat_ms"
        source.refuse(("cluster", key), f"suspect_after_ms ({given}) must be at least 4 x heartbeat_ms, which is {least}")


def _check_doors(source: MarkedYaml, cluster: Cluster, replicas: Sequence[Replica], accounts: Accounts) -> None:
    """What others on the network could read, or do without a password."""
    is_open = not accounts.require_password
    is_meant = source.has(("accounts", "require_password")) and cluster.allow_plaintext
    for at, replica in enumerate(replicas):
        for host in beyond_loopback(replica.listen):
            place = next(p for p in _listens(at) if source.has(p))
            if cluster.tls is None and not cluster.allow_plaintext:
                source.refuse(
                    place, f"the doors at {host} are reached over a network, where others can read along: use {TLS}, or {PLAINTEXT}"
                )
            if is_open and not is_meant:
                source.refuse(
                    place,
                    f"the doors at {host} are reached over a network, where accounts need passwords: accounts: {{require_password: true}};"
                    f" or write out both accounts: {{{NO_PASSWORDS}}} and cluster: {{{PLAINTEXT}}}",
                )


def _listens(at: int) -> tuple[Place, ...]:
    """Where it may stand in the file that this replica listens somewhere; its peer's address, if nothing is said."""
    return ("replicas", at, "listen"), ("cluster", "listen"), ("replicas", at, "peer")


def beyond_loopback(hosts: Iterable[str]) -> list[str]:
    """Those of these addresses that other hosts can reach."""
    return [host for host in hosts if not is_loopback(host)]


def warnings(cluster: Cluster, replicas: Sequence[Replica], accounts: Accounts) -> Iterator[str]:
    """What the file allows and an operator should be reminded of, at each start and in `status`."""
    doors = sorted({host for replica in replicas for host in beyond_loopback(replica.listen)})
    if doors and not accounts.require_password:
        yield f"accounts without a password are open to everybody who reaches {', '.join(doors)} ({NO_PASSWORDS})"
    if doors and (cluster.tls is None or cluster.allow_plaintext):
        yield f"whoever is on the way to {', '.join(doors)} can read what guests say, passwords too ({PLAINTEXT})"
    peers = sorted(beyond_loopback(replica.peer.host for replica in replicas))
    if peers and cluster.tls is None:
        yield f"whoever is on the way between {', '.join(peers)} can read and change what replicas say ({PLAINTEXT})"
