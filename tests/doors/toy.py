"""A toy door, JSON lines: how little a new protocol needs. It is in no cluster; the conformance suite opens it.

{"do": "create", "name": …, "password": …}   {"do": "log in", …}   {"do": "send", "to": …, "text": …}   {"do": "list", "pattern": …}
{"do": "read"}   {"do": "delete"}            ──▶ {"reply": …}, and {"from": …, "text": …} for each message while one is logged in
"""

from __future__ import annotations

import json
from typing import Any

from commands import CREATE, DELETE, LIST, LOG_IN, READ, SEND, TEXT_MAX, Passwords, account_id, is_name, is_password
from doors.contract import Guest, Message
from doors.lines import LineTranslator, has_controls


def _line(**words: Any) -> str:
    return json.dumps(words) + "\n"


def _words(guest: Guest, command: str, reply: str) -> str:
    return _line(reply=reply)


class JsonTranslator(LineTranslator):
    """One line, one object, both ways."""

    words = dict.fromkeys((CREATE, DELETE, LIST, LOG_IN, READ, SEND), _words)

    def understand(self, line: bytes) -> str | None:
        match self.asked(line):
            case {"do": "send", "to": str(whom), "text": str(text)} if is_name(whom) and 0 < len(text.encode()) <= TEXT_MAX:
                return None if has_controls(text.encode()) else f"{SEND}|{whom}|{text}"
            case {"do": "list", "pattern": str(pattern)} if not has_controls(pattern.encode()):
                return f"{LIST}|{pattern}" if pattern else LIST
            case {"do": "read" | "delete" as verb}:
                return f"{READ if verb == 'read' else DELETE}|{account_id(self.guest.account)}"
        return None

    def with_password(self, line: bytes) -> tuple[str, Passwords]:
        match self.asked(line):
            case {"do": "create", "name": str(name), "password": str(word)} if is_name(name) and is_password(word):
                return f"{CREATE}|{name}", Passwords(new=word)
            case {"do": "log in", "name": str(name), "password": str(word)} if is_name(name) and is_password(word):
                return f"{LOG_IN}|{account_id(name)}", Passwords(old=word)
        return "", Passwords()

    def asked(self, line: bytes) -> Any:
        try:
            return json.loads(line)
        except ValueError:
            return None

    def complaint(self, line: bytes) -> bytes:
        return _line(reply="!INVALID").encode()

    def push(self, messages: tuple[Message, ...]) -> bytes:
        return "".join([_line(**{"from": sender, "text": text}) for _, _, _, sender, text in messages]).encode()
