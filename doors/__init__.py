"""Doors: the ways in. A door translates between one wire protocol and the language of `commands.py`; the desk decides.

What it is not: a door sees no replica, view or file.

    shell (`stream.py`)   the socket: bytes in, bytes out, limits, quiet and slow guests
    translator            the pure half of a door: bytes ⇄ commands and replies; one object a connection
    contract.py           what translator and connection promise each other
    desk (`desk.py`)      order, sessions, retries, deliveries

A new door is one file with a translator, one line in `TRANSLATORS`, its ports in `cluster.yaml` and its tests.

Read next: `doors/contract.py`, `doors/pipe.py`.
"""

from __future__ import annotations

from collections.abc import Callable

from doors.calls import CallTranslator, StreamTranslator
from doors.contract import Guest as Guest
from doors.contract import Message as Message
from doors.contract import Render as Render
from doors.contract import Shell as Shell
from doors.contract import Translator as Translator
from doors.framed import FramedTranslator, RelayTranslator
from doors.ledger import LedgerTranslator
from doors.operator import OperatorTranslator
from doors.pipe import PipeTranslator
from doors.room import RoomTranslator

TRANSLATORS: dict[str, Callable[[Guest], Translator]] = {
    "pipe": PipeTranslator,
    "ledger": LedgerTranslator,
    "framed": FramedTranslator,
    "relay": RelayTranslator,
    "room": RoomTranslator,
    "grpc": CallTranslator,
    "stream": StreamTranslator,
    "operator": OperatorTranslator,
}
DOORS = tuple(door for door in TRANSLATORS if door not in ("stream", "operator"))  # those that have ports
