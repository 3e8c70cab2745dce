"""The section `accounts` of `cluster.yaml`: whether accounts need a password.

What it is not: it is no rule of the state: what a replica's file says travels in the commands of its guests (`commands.py`, STRICT), so
that replicas with different files still compute the same.

Read next: `settings.py`, `cluster.yaml`.
"""

from __future__ import annotations

import msgspec


class Accounts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Key by key as in the file."""

    require_password: bool = False
