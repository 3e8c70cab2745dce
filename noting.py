"""What a reply changes at the connection that hears it: who it is logged in as, what it has been shown, whether it goes on.

What it is not: it gives no reply its words (the door does) and keeps no order (`connection.py` does).

    reply                       then
    created, logged in          the account; from here on its messages are pushed
    in the room                 a name there; from here on its lines are pushed
    logged out, deleted, out    no account
    the messages that wait      those that were pushed are not shown again
    a gap, no such session      the connection is told so, and closed
    expelled by somebody else   no account, and closed

Read next: `connection.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from commands import account_id
from room import ROOM

if TYPE_CHECKING:
    from connection import Connection


def note(connection: Connection, command: str, reply: str) -> str:
    """The reply as this connection is to hear it."""
    letter = reply[0]
    if letter in "cl":
        _, name, seq, number = reply.split("|")
        connection.desk.unwatch(connection)
        connection.account, connection.account_number = name, int(number)
        connection.base = connection.shown = connection.acked = 0 if connection.translator.shows_waiting() else int(seq)
        connection.holes.clear()
        connection.desk.newcomers.append(connection)
        connection.desk.relays.moved(connection)
    elif letter == "g":
        _, name, seq = reply.split("|")
        connection.account, connection.account_number = name, 0
        connection.base = connection.shown = connection.acked = int(seq)
        connection.desk.newcomers.append(connection)
    elif letter in "ou" or (letter == "d" and command.split("|")[1] == account_id(connection.account)):
        connection.desk.unwatch(connection)
        connection.account, connection.account_number = "", 0
        connection.desk.relays.moved(connection)
    elif letter == "r":
        return _unshown(connection, reply)
    return reply


def _unshown(connection: Connection, reply: str) -> str:
    """Messages of this connection's own account that were pushed to it are not shown again."""
    _, name, rows = reply.split("|", 2)
    if name != connection.account or not rows:
        return reply
    base, shown, holes = connection.base, connection.shown, connection.holes
    numbered = [(int(row[: row.index("|")]), row) for row in rows.split("\n")]
    fresh = [row for seq, row in numbered if not base < seq <= shown or any(low <= seq <= high for low, high in holes)]
    last = numbered[-1][0]
    connection.shown, connection.acked = max(shown, last), max(connection.acked, last)
    return f"r|{name}|" + "\n".join(fresh)


def out_of_step(connection: Connection, reply: str) -> None:
    """The session is forgotten, or an earlier request never arrived."""
    expected = reply.partition("|")[2]
    connection.tell(connection.translator.trouble(f"gap {expected}" if expected else "session"))
    connection.hang_up("the session is out of step" if expected else "the session is not known any more")


def expelled(connection: Connection) -> None:
    """Somebody else has logged this guest out: it comes back, or not, as nobody."""
    connection.desk.unwatch(connection)
    connection.account, connection.account_number = "", 0
    connection.hang_up("its account is closed to it")


def channel_of(connection: Connection) -> str:
    """Whose messages it is to be told: its account's, or the room's."""
    return connection.account if connection.account_number or not connection.account else ROOM
