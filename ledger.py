"""The ledger's half of memory: what an account has, in whole numbers of the smallest unit.

What it is not: it knows no door. It is part of `apply` (`state.py` has its handlers in the table), so what holds there holds here: same in,
same out; a command that is refused has touched nothing.

    letter   does                      says                  or
    P        pays an amount in         b | new balance       !BALANCE_FULL, beyond BALANCE_MAX
    X        takes an amount out       b | new balance       !INSUFFICIENT | balance, never below 0
    B        reads (a query)           b | balance

Invariant: the sum of all balances is what was paid in, less what was taken out, less what accounts held when they were deleted.

Read next: `doors/ledger.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from commands import AMOUNT_MAX, Refusal
from people import Account, Outcome, Session
from rights import owned

if TYPE_CHECKING:
    from state import ChatState

BALANCE_MAX = AMOUNT_MAX


def pay_in(state: ChatState, session: Session, line: str, op: int, time: int, out: Outcome) -> str:
    account, amount = _read(state, session, line)
    if not isinstance(account, Account):
        return account
    balance = account.balance + amount
    if balance > BALANCE_MAX:
        return Refusal.BALANCE_FULL
    reply = f"b|{balance}"
    account.balance = balance
    return reply


def take_out(state: ChatState, session: Session, line: str, op: int, time: int, out: Outcome) -> str:
    account, amount = _read(state, session, line)
    if not isinstance(account, Account):
        return account
    balance = account.balance - amount
    if balance < 0:
        return f"{Refusal.INSUFFICIENT}|{account.balance}"
    reply = f"b|{balance}"
    account.balance = balance
    return reply


def balance_of(state: ChatState, key: bytes, name: str, proof: str = "") -> str:
    """The answer to a query of this session."""
    account = owned(state, state.sessions.get(key), name, proof)
    return f"b|{account.balance}" if isinstance(account, Account) else account


def _read(state: ChatState, session: Session, line: str) -> tuple[Account | str, int]:
    """The account, or why not; and the amount."""
    _, name, words, *proof = line.split("|")
    amount = int(words) if words.isascii() and words.isdigit() and len(words) <= len(str(AMOUNT_MAX)) else 0
    if not 0 < amount <= AMOUNT_MAX:
        return Refusal.INVALID, 0
    return owned(state, session, name, *proof), amount
