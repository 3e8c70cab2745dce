"""The operator's door: what an operator asks about an account, as one guest's one request, so that it is done once and survives a failover.

What it is not: it has no port and cannot be opened by `cluster.yaml`; `host.py` lets in who may use admin.sock.

    {"what": "reset", "name": "mason", "password": …}     ──▶  Z|reset|mason and the password's hash
    {"what": "block" | "unblock" | "remove", "name": …}   ──▶  Z|…
                                                          ◀──  {"done": "mason"} or {"error": sentence}

Read next: `rights.py` (what is done), `operators.py` (who asks).
"""

from __future__ import annotations

import asyncio
import json
import re

from commands import ID_MAX, OPERATE, Passwords, Refusal, is_password
from doors.contract import Shell, Silent

REFUSED = {
    Refusal.NO_SUCH_ACCOUNT: "there is no such account",
    Refusal.READ_ONLY: "the disk is full: nothing can be changed now",
}
UNSPEAKABLE = re.compile("[|\n\ud800-\udfff]")  # what no name holds, and half a character, which JSON can carry and UTF-8 cannot


class OperatorTranslator(Silent):
    """One request."""

    def feed(self, chunk: bytes) -> bool:
        """The whole request, checked by whoever made it; JSON has no way to break out of a field but `|`."""
        match json.loads(chunk):
            case {"what": "reset", "name": str(name), "password": str(password)} if is_password(password) and _is_field(name):
                self.guest.ask(f"{OPERATE}|reset|{name}", passwords=Passwords(new=password))
            case {"what": "block" | "unblock" | "remove" as what, "name": str(name)} if _is_field(name):
                self.guest.ask(f"{OPERATE}|{what}|{name}")
            case _:
                self.guest.say(_answer(error="reset, block, unblock or remove, and a name"))
        return False

    def trouble(self, word: str) -> bytes:
        return _answer(error="the request was lost; ask again")

    def render(self, number: int, command: str, reply: str) -> bytes:
        kind, _, name = reply.partition("|")
        return _answer(done=name) if kind == "z" else _answer(error=REFUSED.get(kind, "this cannot be done"))


class Slip(Shell):
    """The shell of an operator's one request: it ends with the first answer."""

    def __init__(self, answer: asyncio.Future[bytes]) -> None:
        self.answer, self.address, self.peer = answer, "127.0.0.1", "127.0.0.1"

    def write(self, words: bytes) -> None:
        if words and not self.answer.done():
            self.answer.set_result(words)

    def close(self, why: str) -> None:
        self.write(_answer(error=why))

    def pause(self) -> None:
        """Nothing more comes."""

    def resume(self) -> None:
        """Nothing more comes."""

    def is_drained(self) -> bool:
        return True


def _is_field(name: str) -> bool:
    return 0 < len(name) <= ID_MAX and not UNSPEAKABLE.search(name)


def _answer(**words: str) -> bytes:
    return json.dumps(words).encode() + b"\n"
