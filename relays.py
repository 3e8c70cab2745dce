"""Relays: which command connection of the framed door has which second connection for its messages.

What it is not: it reads no frame (`doors/framed.py`) and opens no session.

    a command connection    logged in ── waits here, by account and address ── has its relay ── another account, or gone: both end
    a relay                 names an account ── the command connection of it that has waited for longest ── none: it is closed
                            its account is deleted, blocked or has another password, elsewhere ── it is told so, and closed

Naming somebody is no proof of being them: a relay gets the account of the command connection that it is paired with, by a command of
the log, and nothing of anybody else's.

Read next: `connection.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from commands import JOIN

if TYPE_CHECKING:
    from connection import Connection

Seat = tuple[str, str]  # account, address


class Relays:
    """Of one replica."""

    def __init__(self) -> None:
        self.seats: dict[Seat, dict[Connection, None]] = {}  # of those that wait for a relay, oldest first
        self.seat_of: dict[Connection, Seat] = {}
        self.relay_of: dict[Connection, Connection] = {}
        self.command_of: dict[Connection, Connection] = {}

    def pair(self, relay: Connection, account: str) -> bool:
        """The relay belongs to the command connection that has waited for longest; False: none waits."""
        waiting = self.seats.get((account, relay.shell.address))
        if not waiting:
            return False
        command = next(iter(waiting))
        self._leave_seat(command)
        self.relay_of[command], self.command_of[relay] = relay, command
        relay.ask(f"{JOIN}|{command.session.hex()}")
        return True

    def moved(self, connection: Connection) -> None:
        """Its account has changed, or it is gone."""
        if connection.door == "framed":
            self._leave_seat(connection)
            relay = self.relay_of.get(connection)
            if relay is not None and (connection.gone or relay.account != connection.account):
                del self.relay_of[connection], self.command_of[relay]
                relay.hang_up("its command connection is gone, or somebody else's")
            if connection.account and not connection.gone and connection not in self.relay_of:
                self._take_seat(connection)
        elif connection.door == "relay" and connection.gone:
            command = self.command_of.pop(connection, None)
            if command is not None:
                del self.relay_of[command]
                self._take_seat(command)

    def part(self, connection: Connection) -> None:
        """Somebody else has put an end to its account, or to its being logged in."""
        command = self.command_of.get(connection, connection)
        relay = self.relay_of.pop(command, None)
        if relay is not None:
            del self.command_of[relay]
            relay.tell(relay.translator.trouble("parted"))
            relay.hang_up("its account was deleted, or is closed to it")

    def clear(self) -> None:
        """All connections are closed."""
        for table in (self.seats, self.seat_of, self.relay_of, self.command_of):
            table.clear()

    def _take_seat(self, command: Connection) -> None:
        seat = self.seat_of[command] = (command.account, command.shell.address)
        self.seats.setdefault(seat, {})[command] = None

    def _leave_seat(self, command: Connection) -> None:
        seat = self.seat_of.pop(command, None)
        if seat is not None:
            del self.seats[seat][command]
            if not self.seats[seat]:
                del self.seats[seat]
