"""The room at the client: a name, then lines, until `tata`; as its people have known it for years.

What it is not: it keeps nobody in the room when a replica dies; the session does (`guest.py`).

    CREATING NEW ID:
    Enter username: albert        asked: join albert
    You: hello                    asked: say hello
    tesla: hello albert           a message
    You: tata                     the end
    DISCONNECTED!!

Read next: `doors/room.py`.
"""

from __future__ import annotations

from typing import Any

from dialects import ROOM
from doors.room import HOST
from guest import Message
from modes import Mode, Question
from phrases import Word

NEW = "CREATING NEW ID:"
END = "DISCONNECTED!!"


class Room(Mode):
    """The one conversation."""

    door, dialect = "room", ROOM

    def banner(self, cluster: dict[str, Any], at: str, account: str) -> list[str]:
        return [f"you are {account} again"] if account else []

    def usual(self, account: str) -> Question:
        return Question("You: " if account else f"{NEW}\nEnter username: ")

    def understand(self, line: str, account: str) -> Word:
        line = line.rstrip("\r\n")
        if account:
            return Word(ends=True) if line == "tata" else Word(f"say {line}") if line else Word()
        return Word(f"join {line.strip()}", waits=True) if line.strip() else Word()

    def replied(self, typed: str, asked: str, reply: str, account: str) -> tuple[str, str]:
        return reply.rstrip("\n"), ""

    def message(self, message: Message) -> tuple[str, str]:
        return ("", message.text) if message.sender == HOST else (message.sender, message.text)

    def farewell(self) -> str:
        return END
