"""Guests without manners or memory: raw sockets at the pipe door, for what `client.py` would never do.

What it is not: it retries nothing and moves nowhere; a test says each byte.

Read next: `test_guests.py`.
"""

from __future__ import annotations

import secrets
import socket
from typing import Self

DEADLINE_S = 20.0  # seconds for any answer


class Gone(Exception):
    """The server has closed the connection."""


class Plain:
    """A connection to the pipe door that ends its commands with a newline."""

    def __init__(self, port: int, *, host: str = "127.0.0.1", receive_buffer: int = 0, greets: bool = True) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(DEADLINE_S)
        self.socket.connect((host, port))
        self.heard = b""
        self.greeting = self.until(b"\n") if greets else b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def say(self, words: bytes | str) -> None:
        """Send bytes as they are."""
        self.socket.sendall(words.encode() if isinstance(words, str) else words)

    def until(self, mark: bytes | str) -> bytes:
        """Everything up to this mark, and with it. Raises Gone, TimeoutError."""
        mark = mark.encode() if isinstance(mark, str) else mark
        while mark not in self.heard:
            self.heard += self._receive()
        found, self.heard = self.heard[: (end := self.heard.index(mark) + len(mark))], self.heard[end:]
        return found

    def ask(self, line: str, mark: str = "\n") -> str:
        """A command and its reply, which ends with this mark."""
        self.say(line + "\n")
        return self.until(mark).decode()

    def line(self) -> str:
        """The next line that comes, without its end."""
        return self.until(b"\n").decode().removesuffix("\n")

    def to_end(self) -> bytes:
        """All that still comes until the server closes."""
        try:
            while True:
                self.heard += self._receive()
        except Gone:
            return self.heard

    def _receive(self) -> bytes:
        try:
            chunk = self.socket.recv(1 << 16)
        except ConnectionError:
            raise Gone from None
        if not chunk:
            raise Gone
        return chunk


class Numbered(Plain):
    """A connection in numbered mode whose numbers the test gives."""

    def __init__(self, port: int, session: str = "", *, seen: int | None = None, greets: bool = True) -> None:
        super().__init__(port, greets=greets)
        self.session = session or secrets.token_hex(16)
        self.say(f"understudy 1 {self.session}\n" + (f"resume {seen}\n" if seen is not None else ""))
        self.pushed: list[tuple[int, str]] = []

    def opened(self) -> list[str]:
        """The words of the line that takes the session up: account, last request, newest message."""
        while True:
            line = self.until(b"\n").decode()
            if line.startswith("="):
                return line.split()[1:]
            self._skip(line)

    def reply(self, number: int) -> str:
        """The reply to this request; other replies before it are dropped, messages are kept."""
        while True:
            line = self.until(b"\n").decode()
            word, _, size = line.partition(" ")
            if word.isdigit():
                while len(self.heard) < int(size):
                    self.heard += self._receive()
                body, self.heard = self.heard[: int(size)], self.heard[int(size) :]
                if int(word) == number:
                    return body.decode()
            else:
                self._skip(line)

    def request(self, number: int, line: str) -> str:
        """Send a request and wait for its reply."""
        self.say(f"{number} 0 {line}\n")
        return self.reply(number)

    def _skip(self, line: str) -> None:
        if line.startswith(("*", "@")):
            size = int(line.split()[-1])
            while len(self.heard) < size:
                self.heard += self._receive()
            body, self.heard = self.heard[:size], self.heard[size:]
            if line.startswith("*"):
                self.pushed.append((int(line.split()[1]), body.decode()))
