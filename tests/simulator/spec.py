"""What the chat is, said a second time and as plainly as possible: the sequential specification.

What it is not: it shares no code with `state.py`. The checkers replay the committed log through it and compare.

    accounts   name -> Account: number, newest seq, un-acknowledged messages
    sessions   key -> Session: newest request, replies by request number, account

Read next: `checks.py`.
"""

from __future__ import annotations

from commands import RUN


class Account:
    """`box`: (seq, sender, text); `log`: every message it ever got, by seq; `read`: seqs that a read took away."""

    def __init__(self, name: str, number: int) -> None:
        self.name, self.number, self.seq = name, number, 0
        self.box: list[tuple[int, str, str]] = []
        self.log: dict[int, tuple[str, str]] = {}
        self.read: set[int] = set()


class Session:
    """What the cluster knows of a guest."""

    def __init__(self) -> None:
        self.last = 0
        self.account: Account | None = None


class LogSpec:
    """What every state owes the log, whatever its commands mean. `results`: (session, request) -> (op, outcome)."""

    def __init__(self) -> None:
        self.op = 0
        self.sessions: dict[bytes, Session] = {}
        self.results: dict[tuple[bytes, int], tuple[int, tuple[str, ...]]] = {}

    def apply(self, first_op: int, count: int, body: bytes) -> None:
        """Execute a batch."""
        assert first_op == self.op + 1
        at, op = 0, first_op
        while at < len(body):
            kind, length, lines, key, first, _, skip = RUN.unpack_from(body, at)
            at += RUN.size + length
            texts = body[at - length : at].decode().split("\n")
            assert len(texts) == lines
            for i, text in enumerate(texts):
                if kind == b"S":
                    self.system(text)
                else:
                    self._request(key, first + i, first if i else first - skip, text, op)
                op += 1
        assert op == first_op + count
        self.op = op - 1

    def system(self, text: str) -> None:
        """A system command."""
        word, *fields = text.split("|")
        if word == "open":
            key = bytes.fromhex(fields[0])
            if key not in self.sessions and fields[2] != "resumed":
                self.sessions[key] = Session()

    def _request(self, key: bytes, number: int, reaches: int, text: str, op: int) -> None:
        session = self.sessions.get(key)
        if session is None or number <= session.last:
            return
        if reaches > session.last + 1:
            return  # a gap
        session.last = number
        assert (key, number) not in self.results, f"request {number} of {key.hex()} executed twice"
        self.results[key, number] = (op, self.execute(session, text, op))

    def execute(self, session: Session, text: str, op: int) -> tuple[str, ...]:
        """A guest's command."""
        raise NotImplementedError


class Spec(LogSpec):
    """The chat, brought forward by each committed batch."""

    def __init__(self) -> None:
        super().__init__()
        self.accounts: dict[str, Account] = {}
        self.ever: dict[tuple[str, int], Account] = {}
        self.names: list[tuple[int, tuple[str, ...]]] = [(0, ())]  # op, live names from then on
        self.sent: dict[str, int] = {}  # text -> op of its delivery into a mailbox
        self.said: list[tuple[int, Account, Account, str]] = []  # op, sender, recipient, text

    def system(self, text: str) -> None:
        super().system(text)
        word, *fields = text.split("|")
        if word == "ack":
            account = self.accounts.get(fields[0])
            if account is not None and account.number == int(fields[1]):
                account.box = [m for m in account.box if not int(fields[2]) < m[0] <= int(fields[3])]

    def execute(self, session: Session, text: str, op: int) -> tuple[str, ...]:
        letter, _, rest = text.partition("|")
        if letter == "O":
            if session.account is None:
                return ("refused",)
            session.account = None
            return ("ok",)
        if letter == "C":
            if rest in self.accounts:
                return ("taken",)
            account = self.accounts[rest] = self.ever[rest, op] = Account(rest, op)
            self._named(op)
            session.account = account
            return ("ok",)
        if letter == "S":
            return self._send(session, rest, op)
        found = self.accounts.get(rest[:-3]) if rest.endswith("123") else None
        if found is None:
            return ("absent",)
        if letter == "L":
            session.account = found
            return ("ok",)
        if letter == "R":
            texts = tuple(m[2] for m in found.box)
            found.read |= {m[0] for m in found.box}
            found.box = []
            return ("read", *texts)
        assert letter == "D", text
        if found.box:
            return ("not empty",)
        del self.accounts[found.name]
        for one in self.sessions.values():
            if one.account is found:
                one.account = None
        self._named(op)
        return ("ok",)

    def _send(self, session: Session, rest: str, op: int) -> tuple[str, ...]:
        whom, _, words = rest.partition("|")
        if session.account is None:
            return ("refused",)
        account = self.accounts.get(whom)
        if account is None:
            return ("absent",)
        account.seq += 1
        account.box.append((account.seq, session.account.name, words))
        account.log[account.seq] = (session.account.name, words)
        assert words not in self.sent, f"text {words} delivered twice"
        self.sent[words] = op
        self.said.append((op, session.account, account, words))
        return ("ok",)

    def _named(self, op: int) -> None:
        self.names.append((op, tuple(self.accounts)))
