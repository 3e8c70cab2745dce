"""Answers: what the primary says to queries, from its state as it is now.

What it is not: it gives no answer away: they wait for one look at the guard (`queries.py`). A read that takes long is answered with how far
the log is, and worked out where the guest is (`reading.py`).

Read next: `desk.py`, `reading.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import ledger
from commands import BALANCE, HISTORY, LIST, LIST_ALL, PRESENT, SECRET, WHO_AM_I, Refusal

if TYPE_CHECKING:
    from desk import Desk


def _list(desk: Desk, session: bytes, pattern: str) -> str:
    return _how_far(desk, session, pattern) if pattern else "a|" + ",".join(desk.state.names())


def _how_far(desk: Desk, session: bytes, rest: str) -> str:
    """For what the guest's own replica reads (`reading.py`): when its state is so new, it holds everything acknowledged by now."""
    return f"x|{desk.state.op}"


def _secret(desk: Desk, session: bytes, rest: str) -> str:
    """The hash of an account's password, for the door that is to check one; and the attempt counts."""
    name, address = rest.split("|")
    account = desk.state.accounts.get(name) or desk.state.by_id(name)
    wait = desk.attempts.ask(account.name if account else name, address, desk.now())
    return f"k|{round(wait * 1000)}|{account.secret if account else ''}"


def _list_all(desk: Desk, session: bytes, rest: str) -> str:
    words = _who_am_i(desk, session, rest)
    return "a|" + ",".join(desk.state.accounts) if words == "i" else words


def _who_am_i(desk: Desk, session: bytes, rest: str) -> str:
    asking = desk.state.sessions.get(session)
    return "i" if asking is not None and asking.account is not None else Refusal.NOT_LOGGED_IN


EVALUATE: dict[str, Callable[[Desk, bytes, str], str]] = {
    LIST: _list,
    PRESENT: lambda desk, session, rest: "w|" + ",".join(desk.state.present()),
    BALANCE: lambda desk, session, rest: ledger.balance_of(desk.state, session, *rest.split("|")),
    SECRET: _secret,
    HISTORY: _how_far,
    LIST_ALL: _list_all,
    WHO_AM_I: _who_am_i,
}
