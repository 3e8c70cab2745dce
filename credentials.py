"""Who a certificate says its holder is, and what TLS must be like: between replicas, at the doors, at a client.

What it is not: it makes no certificate (`certificates.py`) and opens no connection.

    where                 TLS           who shows a certificate    what is checked
    link, either end      1.3           both                       the cluster's CA; it names the replica of the handshake
    door                  1.2 or 1.3    the replica                nothing: guests prove who they are with passwords
    client                1.2 or 1.3    the replica                the cluster's CA (`--ca`); the address that was dialled stands in it

A replica's certificate carries the name `understudy://CLUSTER/replica/N` (a URI among its alternative names). Whoever has none, a guest
say, is no replica, whoever has signed it. Only the CA of the cluster counts; what the system trusts does not.

Invariants:
- No context here skips a check that the table names; a file that cannot be used is refused before anything listens.

Read next: `links.py`, `certificates.py`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import ssl
import stat
import time
from typing import Any, NamedTuple

CA, CA_KEY = "ca.pem", "ca.key"
HANDSHAKE_S = 10.0  # seconds a TLS handshake may take at a door; who is slower is closed
LATE_S = 30 * 86400.0  # seconds before its end from which on a certificate's owner is reminded to renew it


class CredentialsRefused(Exception):
    """A certificate or key cannot be used; the text tells the operator what to do."""


class Credentials(NamedTuple):
    """What one replica shows and believes on its links. `common` is equal at all that believe the same CA, and no secret."""

    accepts: ssl.SSLContext
    dials: ssl.SSLContext
    common: bytes
    cluster: str

    def replica_of(self, certificate: Any) -> int | None:
        """The replica whose certificate this is, as `getpeercert` gives it; None: of none."""
        return named_replica(certificate, self.cluster)


def replica_name(cluster: str, replica: int) -> str:
    """The name in its certificate."""
    return f"understudy://{cluster}/replica/{replica}"


def named_replica(certificate: Any, cluster: str) -> int | None:
    """As `Credentials.replica_of`. One that has two names is nobody's."""
    names = [value for kind, value in (certificate or {}).get("subjectAltName", ()) if kind == "URI"]
    prefix = replica_name(cluster, 0)[:-1]
    number = names[0].removeprefix(prefix) if len(names) == 1 and names[0].startswith(prefix) else ""
    return int(number) if number.isascii() and number.isdigit() and number == str(int(number)) else None


def of_links(directory: str, cluster: str, replica: int) -> Credentials:
    """For the links of this replica. Raises CredentialsRefused."""
    ca = os.path.join(directory, CA)
    accepts, dials = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    dials.check_hostname = False  # its name says which replica it is; addresses stand in cluster.yaml
    for context in (accepts, dials):
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        _load_chain(context, directory, replica)
        _load_ca(context, ca)
    accepts.num_tickets = 0  # nobody comes back with one
    return Credentials(accepts, dials, hashlib.sha256(_read(ca)).digest(), cluster)


def of_doors(directory: str, replica: int) -> ssl.SSLContext:
    """For the doors of this replica. Raises CredentialsRefused."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load_chain(context, directory, replica)
    return context


def chain(directory: str, replica: int) -> tuple[bytes, bytes]:
    """Key and certificate of a replica, for what has a TLS of its own. Raises CredentialsRefused."""
    _check_key(key_path(directory, replica))
    return _read(key_path(directory, replica)), _read(certificate_path(directory, replica))


def of_client(ca: str) -> ssl.SSLContext:
    """For a client that believes this CA alone. Raises CredentialsRefused."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # it asks for a certificate, and checks the address in it
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load_ca(context, ca)
    return context


def reminders(directory: str, replica: int, now: float) -> list[str]:
    """That this replica's certificate ends soon, or has ended, at `now` (seconds since 1970). Raises CredentialsRefused."""
    path = certificate_path(directory, replica)
    try:
        ends = ssl.cert_time_to_seconds(str(_shown(directory, replica)["notAfter"]))
    except ssl.SSLCertVerificationError as error:
        return [f"{path} is worth nothing ({error.verify_message}): renew it (`python server.py make-certs`)"]
    when = time.strftime("%Y-%m-%d", time.gmtime(ends))
    return [f"{path} is good until {when} only: renew it (`python server.py make-certs`)"] if ends - now < LATE_S else []


def _shown(directory: str, replica: int) -> dict[str, Any]:
    """What a client is shown of this replica's certificate: nothing else in the standard library reads one."""
    client, server = of_client(os.path.join(directory, CA)), of_doors(directory, replica)
    client.check_hostname = False
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    one, other = client.wrap_bio(back, there), server.wrap_bio(there, back, server_side=True)
    for end in (one, other, one, other):
        with contextlib.suppress(ssl.SSLWantReadError):
            end.do_handshake()
    return one.getpeercert() or {"notAfter": "Jan  1 00:00:00 1970 GMT"}


def certificate_path(directory: str, replica: int) -> str:
    """Where its certificate is; its key is beside it."""
    return os.path.join(directory, f"replica-{replica}.pem")


def key_path(directory: str, replica: int) -> str:
    """Where its key is."""
    return os.path.join(directory, f"replica-{replica}.key")


def _load_chain(context: ssl.SSLContext, directory: str, replica: int) -> None:
    certificate, key = certificate_path(directory, replica), key_path(directory, replica)
    _read(certificate)
    _check_key(key)
    try:
        context.load_cert_chain(certificate, key)
    except (ssl.SSLError, OSError) as error:
        raise CredentialsRefused(f"{certificate} and {key} do not belong together, or are damaged ({_reason(error)})") from None


def _load_ca(context: ssl.SSLContext, path: str) -> None:
    _read(path)
    try:
        context.load_verify_locations(path)
    except (ssl.SSLError, OSError) as error:
        raise CredentialsRefused(f"{path} holds no certificate ({_reason(error)})") from None


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(1 << 20)
    except OSError as error:
        raise CredentialsRefused(f"{path} cannot be read ({error.strerror}): `python server.py make-certs` makes it") from None


def _check_key(path: str) -> None:
    _read(path)
    mode = os.stat(path).st_mode
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise CredentialsRefused(f"{path} may be read by others: chmod 600 it; if somebody may have read it, make-certs a new one")


def _reason(error: OSError) -> str:
    return str(getattr(error, "reason", None) or error.strerror or error)
