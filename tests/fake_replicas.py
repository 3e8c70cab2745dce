"""Replicas without replication, for tests of the client: servers in this process with one table of sessions; they speak the numbered mode.

What it is not: it knows no view, log or disk; what is executed is executed everywhere at once.

    knob of a replica    from then on
    die()                connections cut, port closed              (`revive()` opens the same port again)
    swallow = n          executes n requests and cuts the connection instead of answering the last of them
    hang()               accepts and reads, but says nothing at all (`wake()`)
    is_waiting           greets, but takes up no session
    refuse = "session"   says so to the next session that is taken up
    reaches = 1          serves nobody: it is cut off from most of the others
"""

from __future__ import annotations

import asyncio
import json
import ssl
from typing import Any

from doors.pipe_words import GREETING, INVALID

BEGAN_US = 1_700_000_000_000_000


class Session:
    """The row of one guest."""

    def __init__(self) -> None:
        self.last, self.replies, self.account = 0, dict[int, bytes](), ""
        self.home: Connection | None = None


class Account:
    """A name and its mailbox: (mseq, sender, time, id, text)."""

    def __init__(self) -> None:
        self.seq, self.mailbox = 0, list[tuple[int, str, int, int, str]]()


class FakeReplicas:
    """The set, and what it agrees on."""

    def __init__(self, count: int = 3, tls: ssl.SSLContext | None = None) -> None:
        self.tls = tls
        self.sessions: dict[str, Session] = {}
        self.accounts: dict[str, Account] = {}
        self.passwords: dict[str, str] = {}
        self.executed: list[tuple[str, int, str]] = []  # session, number, line: each entry of the log
        self.acks: list[tuple[str, int]] = []
        self.ids = 0
        self.replicas = [FakeReplica(self, i) for i in range(count)]

    async def __aenter__(self) -> FakeReplicas:
        for replica in self.replicas:
            await replica.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for replica in self.replicas:
            await replica.die()

    @property
    def ports(self) -> list[int]:
        """Where they listen."""
        return [replica.port for replica in self.replicas]

    def __getitem__(self, index: int) -> FakeReplica:
        return self.replicas[index]

    def send(self, sender: str, whom: str, text: str) -> int:
        """A message into a mailbox, and to who is here. Returns how many are here."""
        account = self.accounts[whom]
        account.seq += 1
        self.ids += 1
        message = (account.seq, sender, BEGAN_US + self.ids, self.ids, text)
        account.mailbox.append(message)
        here = [c for s in self.sessions.values() if s.account == whom and (c := s.home)]
        for connection in here:
            connection.push([message])
        return len(here)

    def execute(self, key: str, number: int, line: str) -> bytes:
        """What a request of the log does, once."""
        session = self.sessions[key]
        if number <= session.last:
            return session.replies.get(number, b"")
        self.executed.append((key, number, line))
        session.last = number
        reply = session.replies[number] = self._execute(session, line)
        return reply

    def _execute(self, session: Session, line: str) -> bytes:
        op, _, rest = line.partition("|")
        if op == "passwd":
            self.passwords[session.account] = rest.partition("\t")[2]
            return b"the password is changed\n"
        if op == "0":
            rest, _, password = rest.partition("|")
            if password != self.passwords.get(rest[:-3], password):
                return f"wrong password for {rest}\n".encode()
        if op == "1" and rest not in self.accounts:
            self.accounts[rest], session.account = Account(), rest
            return f"Success New Account Creation! Your new Account ID: {rest}123\n".encode()
        if op == "1":
            return f"Username {rest} already exists. Please try a different username.".encode()
        if op == "0" and rest[:-3] in self.accounts:
            session.account = rest[:-3]
            return f"user : {rest[:-3]} is now logged in\n".encode()
        if op == "0":
            return f"user with ID : {rest} is not recognized in the system, please try a different name or create a new one\n".encode()
        if op == "3" and session.account:
            whom, _, text = rest.partition("|")
            if whom not in self.accounts:
                return f"Receiver: {whom} doesn't exist \n".encode()
            if self.send(session.account, whom, text):
                return f"Sender {session.account} sends a new message {text} to {whom}\n".encode()
            return f"message from {session.account} has been delivered to {whom}'s mailbox\n".encode()
        if op == "4":
            mail, self.accounts[rest[:-3]].mailbox = self.accounts[rest[:-3]].mailbox, []
            return b"".join(f"{sender} sends: {text}\n\n".encode() for _, sender, _, _, text in mail) or b"No new messages\n"
        if op == "5":
            if self.accounts[rest[:-3]].mailbox:
                return b"Please check your mailbox before deleting your account! \n"
            del self.accounts[rest[:-3]]
            session.account = ""
            return b"Your account has been deleted\n"
        if op == "bye" and session.account:
            session.account = ""
            return b"logged out\n"
        return INVALID


class FakeReplica:
    """One server."""

    def __init__(self, table: FakeReplicas, index: int) -> None:
        self.table, self.index, self.port = table, index, 0
        self.server: asyncio.Server | None = None
        self.connections: set[Connection] = set()
        self.swallow, self.refuse, self.reaches = 0, "", 0
        self.is_hung = self.is_waiting = False
        self.greeting = GREETING
        self.beating: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen, on the same port as before."""
        self.server = await asyncio.get_running_loop().create_server(lambda: Connection(self), "127.0.0.1", self.port, ssl=self.table.tls)
        self.port = self.server.sockets[0].getsockname()[1]
        self.beating = asyncio.create_task(self._beat())

    revive = start

    async def die(self) -> None:
        """As by kill -9."""
        if self.server and self.beating:
            self.server.close()
            self.beating.cancel()
            self.server = self.beating = None
        for connection in list(self.connections):
            connection.cut()

    def hang(self) -> None:
        """As by SIGSTOP."""
        self.is_hung = True

    def wake(self) -> None:
        """As by SIGCONT; what was said meanwhile is not answered."""
        self.is_hung = False

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(0.1)
            for connection in self.connections:
                if connection.is_open:
                    connection.write(b".\n")

    def describe(self) -> bytes:
        """The answer to `cluster`."""
        replicas = [{"id": r.index, "role": "backup", "ports": [f"127.0.0.1:{r.port}"]} for r in self.table.replicas]
        about: dict[str, Any] = {"cluster": "fake", "policy": "survivor", "view": 1, "primary": 0, "self": self.index, "survives": 2}
        return json.dumps({**about, "replicas": replicas}).encode()


class Connection(asyncio.Protocol):
    """One guest at one replica."""

    def __init__(self, replica: FakeReplica) -> None:
        self.replica, self.table = replica, replica.table
        self.rest, self.key, self.is_open, self.count = b"", "", False, 0
        self.opening: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.replica.connections.add(self)
        self.write(self.replica.greeting)

    def connection_lost(self, error: Exception | None) -> None:
        self.replica.connections.discard(self)
        session = self.table.sessions.get(self.key)
        if session and session.home is self:
            session.home = None

    def data_received(self, chunk: bytes) -> None:
        if self.replica.is_hung:
            return
        *lines, self.rest = (self.rest + chunk).split(b"\n")
        for line in lines:
            if not self.transport.is_closing():
                self.on_line(line.decode(errors="surrogateescape"))

    def cut(self) -> None:
        """The connection is gone."""
        self.transport.abort()
        self.connection_lost(None)

    def write(self, words: bytes) -> None:
        """To the guest, unless the replica hangs."""
        if not self.replica.is_hung and not self.transport.is_closing():
            self.transport.write(words)

    def push(self, messages: list[tuple[int, str, int, int, str]]) -> None:
        """Messages."""
        for seq, sender, moment, number, text in messages:
            body = f"{sender}|{moment}|{number}|{text}".encode()
            self.write(b"* %d %d\n%s" % (seq, len(body), body))

    def on_line(self, line: str) -> None:
        """One line of the numbered mode."""
        word, _, rest = line.partition(" ")
        if word == "understudy":
            self.key = rest.split()[1]
            self.opening = asyncio.get_running_loop().call_later(0.04, self.open, -1)
        elif word == "resume":
            self.open(int(rest.split()[0]))
        elif self.opening and not self.is_open and word.isdigit():
            self.open(-1)
            self.on_request(int(word), rest)
        elif word.isdigit():
            self.on_request(int(word), rest)
        elif word == "cluster":
            about = self.replica.describe()
            self.write(b"@ %d\n%s" % (len(about), about))
        elif word == "ack":
            self.on_ack(int(rest))

    def open(self, seen: int) -> None:
        """The session is taken up; `seen` below 0: it is new, or the guest does not know better."""
        if self.opening:
            self.opening.cancel()
        table, refuse = self.table, self.replica.refuse
        if self.replica.is_waiting or self.is_open:
            return
        if self.replica.reaches:
            self.write(f"! cut {self.replica.reaches} {len(table.replicas)}\n".encode())
            return self.transport.close()
        if refuse or (seen >= 0 and self.key not in table.sessions):
            self.replica.refuse = ""
            self.write(f"! {refuse or 'session'}\n".encode())
            self.transport.close()
            return
        session = table.sessions.setdefault(self.key, Session())
        if session.home:
            session.home.write(b"! newer\n")
            session.home.transport.close()
        session.home, self.is_open = self, True
        newest = table.accounts[session.account].seq if session.account else 0
        self.write(f"= {session.account or '-'} {session.last} {newest}\n".encode())
        if session.account:
            self.push([m for m in table.accounts[session.account].mailbox if m[0] > seen])

    def on_request(self, number: int, rest: str) -> None:
        """A request; queries and nonsense never enter the log."""
        if not self.is_open:
            return
        _, _, line = rest.partition(" ")
        session, table = self.table.sessions[self.key], self.table
        if (self.count and number != self.count + 1) or (not self.count and number > session.last + 1):
            self.write(f"! gap {(self.count or session.last) + 1}\n".encode())
            return self.transport.close()
        self.count = number
        is_text = not any("\udc80" <= c <= "\udcff" for c in line)  # else it was no UTF-8
        is_logged = is_text and (line[:2] in ("0|", "1|", "3|", "4|", "5|", "pa") or line == "bye")
        if is_logged and number > session.last:
            session.last = number - 1  # queries before it are skipped
        account = session.account
        reply = table.execute(self.key, number, line) if is_logged else self.answer(line)
        if self.replica.swallow:
            self.replica.swallow -= 1
            if not self.replica.swallow:
                return self.cut()
        self.write(b"%d %d\n%s" % (number, len(reply), reply))
        if session.account and (line[:2] in ("0|", "1|") or account != session.account):
            self.push(table.accounts[session.account].mailbox)

    def answer(self, line: str) -> bytes:
        """A query."""
        if line == "who":
            return f"here now: {','.join(s.account for s in self.table.sessions.values() if s.home and s.account)}\n".encode()
        return f"Showing all accounts: {','.join(self.table.accounts)}\n".encode() if line == "2" else INVALID

    def on_ack(self, upto: int) -> None:
        """Displayed: out of the mailbox."""
        session = self.table.sessions[self.key]
        if session.account:
            self.table.acks.append((session.account, upto))
            account = self.table.accounts[session.account]
            account.mailbox = [m for m in account.mailbox if m[0] > upto]
