"""`server.py make-certs`: a small CA for one cluster, and a certificate for each replica in `cluster.yaml`.

What it is not: it is no PKI. There is no list of revoked certificates: who has lost a key makes a new CA. Nothing here runs in a replica.

    ca.pem          the CA's certificate                       to every replica and every client
    ca.key          its key: whoever has it is the cluster     stays where it was made, away from the hosts if possible
    replica-N.pem   certificate of replica N                   to the host of replica N
    replica-N.key   its key, mode 0600                         to the host of replica N, and nowhere else

Made again, the CA stays and the replicas' certificates are new: so they are renewed, one host at a time.

Read next: `credentials.py`.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Iterable, Iterator

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from credentials import CA, CA_KEY, CredentialsRefused, certificate_path, key_path, replica_name
from settings import Settings

CA_DAYS = 3650  # a new CA means that all certificates change at once
DAYS = 730  # until the next make-certs
SKEW = datetime.timedelta(hours=1)  # clocks of hosts differ; a new certificate counts at once

Key = ec.EllipticCurvePrivateKey


def make(settings: Settings, directory: str, now: datetime.datetime, days: int = DAYS) -> Iterator[str]:
    """Make what is missing, renew the rest; yields what was done and what there is to do. Raises CredentialsRefused, OSError."""
    os.makedirs(directory, mode=0o700, exist_ok=True)
    ca, ca_key = _load_ca(directory) or (None, None)
    if ca is None or ca_key is None:
        ca, ca_key = make_ca(settings.name, now)
        _write(os.path.join(directory, CA_KEY), _private(ca_key), 0o600)
        _write(os.path.join(directory, CA), ca.public_bytes(serialization.Encoding.PEM), 0o644)
        yield f"made the CA of cluster {settings.name}: {os.path.join(directory, CA)}, good until {ca.not_valid_after_utc:%Y-%m-%d}"
    for replica in settings.replicas:
        key = ec.generate_private_key(ec.SECP256R1())
        hosts = dict.fromkeys((replica.peer.host, *replica.listen, "127.0.0.1", "::1"))
        names = [*_addresses(hosts), x509.DNSName("localhost"), x509.UniformResourceIdentifier(replica_name(settings.name, replica.id))]
        issued = issue(f"{settings.name} replica {replica.id}", names, key, ca, ca_key, now, days)
        _write(key_path(directory, replica.id), _private(key), 0o600)
        _write(certificate_path(directory, replica.id), issued.public_bytes(serialization.Encoding.PEM), 0o644)
        yield f"made a certificate for replica {replica.id} ({replica.peer.host}), good until {issued.not_valid_after_utc:%Y-%m-%d}"
    yield "copy, with their modes:"
    for replica in settings.replicas:
        yield f"  to the host of replica {replica.id}, {replica.peer.host}:  {CA} replica-{replica.id}.pem replica-{replica.id}.key"
    yield f"  to whoever uses client.py --ca:  {CA}"
    yield f"{CA_KEY} stays here, better on no host of the cluster: whoever has it can be any replica"


def make_ca(cluster: str, now: datetime.datetime) -> tuple[x509.Certificate, Key]:
    """A CA that signs for this cluster only by being the only one it believes."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Understudy cluster {cluster}")])
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        _begun(name, name, key, now, CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return builder.sign(key, hashes.SHA256()), key


def issue(
    title: str, names: Iterable[x509.GeneralName], key: Key, ca: x509.Certificate, ca_key: Key, now: datetime.datetime, days: int
) -> x509.Certificate:
    """A certificate with these alternative names, for both ends of a connection."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, title)])
    builder = (
        _begun(subject, ca.subject, key, now, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
    )
    return builder.sign(ca_key, hashes.SHA256())


def _begun(subject: x509.Name, issuer: x509.Name, key: Key, now: datetime.datetime, days: int) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _addresses(hosts: Iterable[str]) -> Iterator[x509.GeneralName]:
    addresses = [ipaddress.ip_address(host) for host in hosts]
    return (x509.IPAddress(address) for address in addresses if not address.is_unspecified)


def _load_ca(directory: str) -> tuple[x509.Certificate, Key] | None:
    paths = [os.path.join(directory, CA), os.path.join(directory, CA_KEY)]
    there = [os.path.exists(path) for path in paths]
    if not any(there):
        return None
    if not all(there):
        missing = paths[there.index(False)]
        raise CredentialsRefused(
            f"{missing} is missing: bring it back, or move {directory} aside to begin with a new CA (then all change at once)"
        )
    with open(paths[0], "rb") as certificate, open(paths[1], "rb") as key:
        try:
            found, secret = x509.load_pem_x509_certificate(certificate.read()), serialization.load_pem_private_key(key.read(), None)
        except (ValueError, TypeError) as error:
            raise CredentialsRefused(f"{directory}: the CA cannot be read: {error}") from None
    if not isinstance(secret, ec.EllipticCurvePrivateKey) or secret.public_key() != found.public_key():
        raise CredentialsRefused(f"{paths[1]} is not the key of {paths[0]}")
    return found, secret


def _private(key: Key) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _write(path: str, content: bytes, mode: int) -> None:
    """Whole or not at all; a key is never readable by others, not even for a moment."""
    draft = f"{path}.new"
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with os.fdopen(fd, "wb") as file:
        os.fchmod(fd, mode)
        file.write(content)
        file.flush()
        os.fsync(fd)
    os.rename(draft, path)
