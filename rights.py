"""Who may: passwords, blocked accounts, and what operators do to an account. Part of `apply`.

What it is not: it hashes nothing, since `apply` must be quick and the same everywhere: a proof is compared with the hash that stands here
(`commands.py` says what a proof is). It knows no door.

    an account           to log in                     to read, empty, delete it and move its money
    open                 its id                        its id; its own session where there are no open accounts (proof `own`)
    with a password      the proof                     its own session, or the proof
    blocked              nobody                        nobody

Whoever was logged in loses the account when it is blocked, removed, or its password becomes another one, but for the session that
changed it.

Read next: `state.py`, `waiting.py` (where proofs come from).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from commands import OWN, Refusal
from people import Account, Outcome, Session

if TYPE_CHECKING:
    from state import ChatState


def refusal(account: Account | None, proof: str) -> str:
    """Why this account cannot be entered with that proof; empty: it can."""
    if proof.startswith("!"):
        return proof.replace(":", "|")
    if account is None:
        return Refusal.NO_SUCH_ACCOUNT
    if proof != account.secret:
        return Refusal.WRONG_PASSWORD
    return Refusal.BLOCKED if account.is_blocked else ""


def owned(state: ChatState, session: Session | None, name: str, proof: str = "") -> Account | str:
    """The account with this id, for a guest who may do with it as its owner does; or the refusal."""
    account = state.by_id(name)
    if proof not in ("", OWN) or account is None:
        return refusal(account, proof) or account or Refusal.NO_SUCH_ACCOUNT
    if account.is_blocked:
        return Refusal.BLOCKED
    is_in = session is not None and session.account is account
    return account if is_in or not (account.secret or proof) else Refusal.WRONG_PASSWORD


def change_password(state: ChatState, session: Session, line: str, op: int, time: int, out: Outcome) -> str:
    """Of the account that this session is logged in to."""
    _, name, proof, *rest = line.split("|")
    account = session.account
    if account is None or state.by_id(name) is not account:
        return Refusal.NOT_LOGGED_IN
    refused = refusal(account, proof)
    if refused:
        return refused
    (secret,) = rest
    state.lock(account, secret, session, out)
    return "h"


def erase(state: ChatState, session: Session, line: str, op: int, time: int, out: Outcome) -> str:
    """The session's own account, with what waits for it."""
    _, name, *proof = line.split("|")
    if session.account is None:
        return Refusal.NOT_LOGGED_IN
    account = owned(state, session, name, *proof)
    if not isinstance(account, Account):
        return account
    if account is not session.account:
        return Refusal.WRONG_PASSWORD
    state.remove(account, out)
    return "d"


def join(state: ChatState, session: Session, line: str, op: int, time: int, out: Outcome) -> str:
    """A guest's second connection: it is whoever the first one is."""
    _, word = line.split("|")
    first = state.sessions.get(bytes.fromhex(word))
    account = first.account if first is not None and first.place == session.place else None
    if account is None:
        return Refusal.NOT_LOGGED_IN
    reply = f"l|{account.name}|{account.last_seq}|{account.number}"
    state.enter(session, account)
    return reply


def operate(state: ChatState, session: Session, line: str, op: int, time: int, out: Outcome) -> str:
    """An operator's command about an account, by its name or its id."""
    _, what, name, *rest = line.split("|")
    account = state.accounts.get(name) or state.by_id(name)
    if account is None:
        return Refusal.NO_SUCH_ACCOUNT
    reply, act = f"z|{account.name}", OPERATIONS[what]
    act(state, account, rest, out)
    return reply


def _block(state: ChatState, account: Account, rest: list[str], out: Outcome) -> None:
    state.expel(account, None, out)
    account.is_blocked = True


def _unblock(state: ChatState, account: Account, rest: list[str], out: Outcome) -> None:
    account.is_blocked = False


def _remove(state: ChatState, account: Account, rest: list[str], out: Outcome) -> None:
    state.expel(account, None, out)
    state.remove(account, out)


def _reset(state: ChatState, account: Account, rest: list[str], out: Outcome) -> None:
    (secret,) = rest
    state.lock(account, secret, None, out)


OPERATIONS: dict[str, Callable[[ChatState, Account, list[str], Outcome], None]] = {
    "block": _block,
    "unblock": _unblock,
    "remove": _remove,
    "reset": _reset,
}
