"""Passwords: how they are hashed.

What it is not: it knows no account, no door and no thread; who waits for a hash, and where it runs, is `waiting.py` and `host.py`. This is
the only file that knows argon2.

    password   ── hash, with 16 random bytes of salt ──▶  $argon2id$v=19$m=19456,t=2,p=1$SALT$HASH     what the log and the tables hold

Two strings of one look (composed or not) are one password: NFC. A hash of an earlier version's parameters is still checked, and replaced
when its owner logs in.

Read next: `waiting.py`.
"""

from __future__ import annotations

import unicodedata

import argon2

SALT_SIZE = 16
TIME_COST, MEMORY_KIB = 2, 19_456  # 20 to 40 ms of one core, and 19 MiB: what OWASP asks for. p = 1: no threads of argon2's own
NOBODYS = f"{'A' * 22}${'A' * 43}"  # salt and hash of zeros: nobody will find a password with it


class Hasher:
    """Slow on purpose. Called aside, never in a server's loop."""

    def __init__(self, *, time_cost: int = TIME_COST, memory_kib: int = MEMORY_KIB) -> None:
        self._argon = argon2.PasswordHasher(time_cost=time_cost, memory_cost=memory_kib, parallelism=1, salt_len=SALT_SIZE)
        self._nobodys = f"$argon2id$v=19$m={memory_kib},t={time_cost},p=1${NOBODYS}"  # the same work as any other

    def hash(self, password: str, salt: bytes) -> str:
        """What may be written down instead of the password."""
        return self._argon.hash(_normal(password), salt=salt)

    def matches(self, secret: str, password: str) -> bool:
        """Whether this is the hash of that password. Without a hash (there is no such account) the work is the same, and the answer no."""
        try:
            return self._argon.verify(secret or self._nobodys, _normal(password)) and bool(secret)
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
            return False

    def is_outdated(self, secret: str) -> bool:
        """Whether it was made with other parameters than ours."""
        return self._argon.check_needs_rehash(secret)


def _normal(password: str) -> bytes:
    return unicodedata.normalize("NFC", password).encode()
