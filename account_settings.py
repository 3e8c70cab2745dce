"""The section `accounts` of `cluster.yaml`: whether accounts need a password, and which there are from the beginning.

What it is not: it is no rule of the state: what a replica's file says travels in the commands of its guests (`commands.py`, STRICT), so
that replicas with different files still compute the same.

Read next: `settings.py`, `cluster.yaml`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import msgspec
from msgspec import Meta

from commands import PASSWORD_MAX, RESERVED, account_id, fold, is_name, is_password

INITIAL_MAX = 100  # each costs a slow hash at the very first start


class Initial(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An account that the cluster begins with."""

    name: str
    password: str


class Accounts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Key by key as in the file."""

    require_password: bool = False
    initial: Annotated[tuple[Initial, ...], Meta(max_length=INITIAL_MAX)] = ()


def complaints(accounts: Accounts) -> Iterator[tuple[int, str, str]]:
    """What no type can say of the initial accounts: index, key, sentence."""
    seen = set[str]()
    for at, account in enumerate(accounts.initial):
        if not is_name(account.name) or fold(account.name) in RESERVED:
            yield at, "name", f"no account can be called {account.name[:60]!r}"
        if account_id(fold(account.name)) in seen or fold(account.name) in seen:
            yield at, "name", f"{account.name} is taken already"
        seen |= {fold(account.name), account_id(fold(account.name))}
        if not is_password(account.password):
            yield at, "password", f"a password has 1 to {PASSWORD_MAX} bytes and no control characters"
