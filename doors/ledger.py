"""The ledger door: balances held by accounts, in the lines of the pipe door.

What it is not: it adds nothing up (`ledger.py` does), and it shows no messages: who is logged in here is not online for that.

    line              command      reply             line              command      reply
    0|NAME-or-ID      LogIn        ID⏎               3|ID|AMOUNT       TakeOut      BALANCE⏎, or insufficient funds: BALANCE⏎
    1|NAME            Create       ID⏎               4|ID              Balance      BALANCE⏎
    2|ID|AMOUNT       PayIn        BALANCE⏎          anything else                  error: and what is wrong⏎

`0|ID|PASSWORD` and `1|NAME|PASSWORD` for accounts that have one.

Read next: `doors/lines.py`, `ledger.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from commands import (
    AMOUNT_MAX,
    BALANCE,
    CHANGE_PASSWORD,
    CREATE,
    ID_MAX,
    LOG_IN_BY_EITHER,
    LOG_OUT,
    NAME_MAX,
    PAY_IN,
    TAKE_OUT,
    Refusal,
    account_id,
    is_name,
)
from doors.lines import CHANGED, LineTranslator, text_of

if TYPE_CHECKING:
    from doors import Guest
    from doors.lines import Words

NAME = f"a name has 1 to {NAME_MAX} letters, no space and no , or |"
AMOUNT = f"an amount is a whole number from 1 to {AMOUNT_MAX}"
ERROR = b"error: "  # how the answer to a line that is no command begins
REFUSED = {
    Refusal.NAME_TAKEN: "the name {} is taken",
    Refusal.NO_SUCH_ACCOUNT: "there is no account {}",
    Refusal.WRONG_PASSWORD: "wrong password for {}",
    Refusal.NEEDS_PASSWORD: "an account needs a password here: 1|{}|PASSWORD",
    Refusal.BLOCKED: "{} is blocked",
    Refusal.BUSY: "too many passwords are being checked: try again in a moment",
    Refusal.BALANCE_FULL: f"the balance of {{}} would not stay below {AMOUNT_MAX + 1}",
    Refusal.READ_ONLY: "the disk is full: only balances can be read now",
}
FIELDS = {"0": 1, "1": 1, "2": 2, "3": 2, "4": 1}  # behind each op
LETTERS = {"0": LOG_IN_BY_EITHER, "1": CREATE, "2": PAY_IN, "3": TAKE_OUT, "4": BALANCE}


def encode(line: bytes) -> str | bytes:
    """The command that this line asks for, or what is wrong with it."""
    text = text_of(line)
    if text is None:
        return b"no control characters, and UTF-8, please"
    op, *fields = text.split("|")
    if op not in FIELDS:
        return b"the commands are 0|ID 1|NAME 2|ID|AMOUNT 3|ID|AMOUNT 4|ID"
    if len(fields) != FIELDS[op] or not all(fields):
        return f"command {op} has {FIELDS[op]} field{'s' * (FIELDS[op] > 1)} behind it".encode()
    if not is_name(fields[0]) if op == "1" else len(fields[0]) > ID_MAX:
        return NAME.encode()
    if op in "23" and not is_amount(fields[1]):
        return AMOUNT.encode()
    return "|".join([LETTERS[op], *fields])


def is_amount(words: str) -> bool:
    """Whether this is a whole number from 1 to AMOUNT_MAX, in plain digits."""
    return words.isascii() and words.isdigit() and len(words) <= len(str(AMOUNT_MAX)) and 0 < int(words) <= AMOUNT_MAX


def _words(guest: Guest, command: str, reply: str) -> str:
    match reply.split("|"):
        case ["c" | "l", name, *_]:
            return f"{account_id(name)}\n"
        case ["b", balance]:
            return f"{balance}\n"
        case ["o"]:
            return "logged out\n"
        case ["h"]:
            return CHANGED
        case [Refusal.TOO_MANY, seconds]:
            return f"error: too many attempts: try again in {seconds} s\n"
        case [Refusal.INSUFFICIENT, balance]:
            return f"insufficient funds: {balance}\n"
    return f"error: {REFUSED.get(reply, 'this cannot be done').format(command[2:].partition('|')[0])}\n"


class LedgerTranslator(LineTranslator):
    """One connection at the ledger door."""

    listens = False
    log_in = LOG_IN_BY_EITHER
    words: Mapping[str, Words] = dict.fromkeys([*LETTERS.values(), LOG_OUT, CHANGE_PASSWORD], _words)

    def understand(self, line: bytes) -> str | None:
        command = encode(line)
        return command if isinstance(command, str) else None

    def complaint(self, line: bytes) -> bytes:
        wrong = encode(line)
        assert isinstance(wrong, bytes), f"{wrong!r} is a command"
        return ERROR + wrong + b"\n"
