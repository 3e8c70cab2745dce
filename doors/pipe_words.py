"""The words of the pipe door: what each reply is called in the sentences that clients have known for years (docs/doors.md).

What it is not: it parses nothing and decides nothing; every trailing blank and missing line feed below is somebody's protocol.

    reply   from `state.py`, such as `c|wayne|0|2` or a Refusal       in
    text    what the guest reads, without any frame                   out
    watch   what people at the server's console see of it             on the way

Read next: `doors/pipe.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from commands import (
    CHANGE_PASSWORD,
    CREATE,
    DELETE,
    HISTORY,
    ID_SUFFIX,
    LIST,
    LOG_IN,
    LOG_OUT,
    ONLINE,
    PRESENT,
    READ,
    SEND,
    WAITING,
    Refusal,
)
from doors.lines import CHANGED

if TYPE_CHECKING:
    from doors import Guest

GREETING = (
    b"To get started on this chat room, please create or login your account first and type command as instructed in the documentation \n"
)
WAITS = "message from %s has been delivered to %s's mailbox\n"
TOLD = "Sender %s sends a new message %s to %s\n"
BUSY = "too many passwords are being checked: try again in a moment\n"
NO_HISTORY = "there is no history of accounts that an earlier version has made\n"
UNREADABLE = "the history cannot be read at this replica now: ask another one\n"
TOO_MANY = b"too many "  # how answers begin to attempts that are refused before a password is looked at
INVALID = b"Please give a valid input as instructed in the documentation"


def _name_in(command: str) -> str:
    """The first field; behind it may stand a proof or a hash."""
    return command[2:].partition("|")[0]


def _refused(command: str, reply: str) -> str:
    """What every command about an account may be answered."""
    kind, _, more = reply.partition("|")
    words = {
        Refusal.WRONG_PASSWORD: f"wrong password for {_name_in(command)}\n",
        Refusal.TOO_MANY: f"too many attempts for {_name_in(command)}: try again in {more} s\n",
        Refusal.BUSY: BUSY,
        Refusal.BLOCKED: f"{_name_in(command)} is blocked\n",
        Refusal.NEEDS_PASSWORD: f"an account needs a password here: 1|{_name_in(command)}|PASSWORD\n",
    }
    return words.get(kind) or INVALID.decode()


def _created(guest: Guest, command: str, reply: str) -> str:
    name = _name_in(command)
    if reply[0] == "c":
        guest.watch(f"New User created. key: {name}{ID_SUFFIX}")
        return f"Success New Account Creation! Your new Account ID: {name}{ID_SUFFIX}\n"
    if reply == Refusal.NAME_TAKEN:
        return f"Username {name} already exists. Please try a different username."
    return _refused(command, reply)


def _logged_in(guest: Guest, command: str, reply: str) -> str:
    if reply[0] == "l":
        return f"user : {reply.split('|')[1]} is now logged in\n"
    if reply == Refusal.NO_SUCH_ACCOUNT:
        return f"user with ID : {_name_in(command)} is not recognized in the system, please try a different name or create a new one\n"
    return _refused(command, reply)


def _listed(guest: Guest, command: str, reply: str) -> str:
    names = reply[2:]
    if command == LIST:
        return f"Showing all accounts: {names}\n"
    guest.watch(f"key: {command[2:]}")
    if names:
        guest.watch(f"Account matched: {names}")
        return f"Account matched: {names}\n"
    return f"Account matched to: {command[2:]} doesn't exist \n"


def _sent(guest: Guest, command: str, reply: str) -> str:
    if reply == WAITING:
        return WAITS % (guest.account, command[2 : command.index("|", 2)])
    kind, _, name = reply.partition("|")
    whom, _, text = command[2:].partition("|")
    if kind == WAITING:
        return WAITS % (guest.account, name)
    if kind == ONLINE:
        guest.watch(f"Sender {guest.account} sends a new message {text}")
        return TOLD % (guest.account, text, name or whom)
    if kind == Refusal.NO_SUCH_ACCOUNT:
        guest.watch(f"Receiver doesnt exist: {whom}")
        return f"Receiver: {whom} doesn't exist \n"
    return f"{whom}'s mailbox is full" if kind == Refusal.MAILBOX_FULL else INVALID.decode()


def _read(guest: Guest, command: str, reply: str) -> str:
    if reply[0] == "r":
        rows = [row.split("|", 2) for row in reply.split("|", 2)[2].split("\n") if row]
        if not rows:
            return "No new messages\n"
        texts = "".join(f"{sender} sends: {text}\n\n" for _, sender, text in rows)
        return f"undelivered message for user ID {_name_in(command)}: \n{texts}"
    if reply == Refusal.NO_SUCH_ACCOUNT:
        return "User not Found "
    return _refused(command, reply)


def _deleted(guest: Guest, command: str, reply: str) -> str:
    if reply == "d":
        guest.watch(f"Account ID: {_name_in(command)} has been deleted")
        return "Your account has been deleted\n"
    if reply == Refusal.MAILBOX_NOT_EMPTY:
        return "Please check your mailbox before deleting your account! \n"
    if reply == Refusal.NO_SUCH_ACCOUNT:
        return "User Not Found! "
    return _refused(command, reply)


def _present(guest: Guest, command: str, reply: str) -> str:
    return f"here now: {reply[2:]}\n"


def _looked_back(guest: Guest, command: str, reply: str) -> str:
    """`ID|TIME|SENDER|TEXT` a line, behind one that says how to go on."""
    kind, _, rest = reply.partition("|")
    if kind != "t":
        return {Refusal.NO_HISTORY: NO_HISTORY, Refusal.UNREADABLE: UNREADABLE}.get(kind, INVALID.decode())
    whom, anew, older, rows = rest.split("|", 3)
    messages = rows.split("\n") if rows else []
    words = f"conversation with {whom}: {len(messages)} message{'s' * (len(messages) != 1)}"
    words += f", older before {older}" if older != "0" else ""
    words += f", an earlier {whom} up to {anew}" if messages and int(messages[0].partition("|")[0]) <= int(anew) else ""
    return "".join(f"{line}\n" for line in (words, *messages))


def _password_changed(guest: Guest, command: str, reply: str) -> str:
    return CHANGED if reply == "h" else _refused(command, reply)


def _logged_out(guest: Guest, command: str, reply: str) -> str:
    return "logged out\n" if reply == "o" else INVALID.decode()


WORDS = {
    CREATE: _created,
    LOG_IN: _logged_in,
    LIST: _listed,
    SEND: _sent,
    READ: _read,
    DELETE: _deleted,
    PRESENT: _present,
    LOG_OUT: _logged_out,
    CHANGE_PASSWORD: _password_changed,
    HISTORY: _looked_back,
}
