"""Certificates for tests: those of a cluster on loopback, and such as an attacker might hold.

What it is not: it connects nothing. Everything is made by `certificates.py`, once for all tests of a process.

Read next: `tests/test_secure_links.py`.
"""

from __future__ import annotations

import datetime
import functools
import os
import ssl
import tempfile

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

import certificates
import credentials
from credentials import CA, CA_KEY, Credentials, certificate_path, key_path
from settings import Settings, parse

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


def settings_of(name: str = "dormitory", peers: tuple[str, ...] = ("127.0.0.1:7661", "127.0.0.1:7662", "127.0.0.1:7663")) -> Settings:
    """A cluster that has certificates."""
    rows = "".join(f'  - {{id: {i}, peer: "{peer}", doors: {{}}}}\n' for i, peer in enumerate(peers))
    return parse(f"cluster: {{name: {name}, policy: majority, tls: certs}}\nreplicas:\n{rows}".encode(), "c.yaml")


def directory(kind: str = "ours") -> str:
    """Where certificates of this kind lie.

    `ours`; `theirs` of another CA for the same names; `old` of our CA, ended yesterday; `early` of our CA, not good before tomorrow. All
    are old to a host whose clock stands at 2100, and early to one whose clock stands at 1970.
    """
    return _directory(kind)


@functools.cache
def _directory(kind: str) -> str:
    place = tempfile.TemporaryDirectory(prefix="understudy-certs-")
    _kept.append(place)
    if kind in ("old", "early"):
        for name in (CA, CA_KEY):
            with open(os.path.join(directory(), name), "rb") as file, open(os.path.join(place.name, name), "wb") as copy:
                copy.write(file.read())
    at = {"old": NOW - 10 * DAY, "early": NOW + DAY + certificates.SKEW}.get(kind, NOW)
    list(certificates.make(settings_of(), place.name, at, 9 if kind == "old" else certificates.DAYS))
    return place.name


@functools.cache
def guest() -> str:
    """A directory in which replica 1 has a certificate of our CA that names no replica, as an operator might give to a guest."""
    place = tempfile.TemporaryDirectory(prefix="understudy-certs-")
    _kept.append(place)
    with open(os.path.join(directory(), CA), "rb") as file, open(os.path.join(directory(), CA_KEY), "rb") as secret:
        raw, ca_key = file.read(), serialization.load_pem_private_key(secret.read(), None)
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    issued = certificates.issue("wayne", [x509.DNSName("wayne.lan")], key, x509.load_pem_x509_certificate(raw), ca_key, NOW, 9)
    with open(os.path.join(place.name, CA), "wb") as file:
        file.write(raw)
    with open(certificate_path(place.name, 1), "wb") as file:
        file.write(issued.public_bytes(serialization.Encoding.PEM))
    with open(os.open(key_path(place.name, 1), os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
        encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        file.write(key.private_bytes(encoding, form, serialization.NoEncryption()))
    return place.name


def of_links(replica: int, where: str | None = None) -> Credentials:
    """As a replica has them."""
    return credentials.of_links(where or directory(), "dormitory", replica)


def presenting(where: str, replica: int) -> ssl.SSLContext:
    """An attacker's: it shows what it has, and believes everybody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(certificate_path(where, replica), key_path(where, replica))
    return context


_kept: list[tempfile.TemporaryDirectory[str]] = []
