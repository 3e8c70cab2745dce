"""Room 1, memory: who has an account, what waits in whose mailbox, who is here, and which request was answered how.

What it is not: it knows no replica, socket, file, clock or dice. It sees (op, time, commands) and answers, so that every replica which
applied the same ops holds the same state, down to the byte.

    accounts    name -> Account      in order of creation; with mailbox and balance     `people.py`, `ledger.py`, `rights.py`
    sessions    key -> Session       what guests asked and were answered, who they are  `people.py`
    room        Room                 who is in it, and its last lines                   `room.py`
    told        Told                 what the guests of the gRPC door are to be told    `told.py`

The history is not kept in memory: `history` receives every message, and whoever owns it takes out what is written down
(`snapshot_worker.py` does that; a server keeps what its newest snapshot lacks, see `history.py`).

Invariants:
- `apply` never raises and touches nothing when a command is refused: handlers decide first and change last.
- The reply for (session, request) never changes while it is kept; a request is executed once.
- `seq` is given out without gaps within an account; a message is in its mailbox from apply until it is acknowledged or read.
- `online` of an account is the number of its sessions that have a home.

Read next: `desk.py` (who feeds it and turns replies into bytes), `tables.py` (what it looks like as text).
"""

from __future__ import annotations

import itertools
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator

import ledger
import rights
import room
import tables
import told
from commands import (
    ACT,
    CHANGE_PASSWORD,
    COME_IN,
    COMMANDS,
    CREATE,
    DELETE,
    ERASE,
    GO_OUT,
    HEARD,
    ID_SUFFIX,
    JOIN,
    LOG_IN,
    LOG_IN_BY_EITHER,
    LOG_OUT,
    MAILBOX_MAX,
    NO_SESSION,
    ONLINE,
    OPERATE,
    PAY_IN,
    READ,
    READ_MAX,
    RESERVED,
    RUN,
    SEND,
    SESSION_LIFE_US,
    SESSION_MAX,
    SPEAK,
    TAKE_OUT,
    TEXT_MAX,
    WAITING,
    WINDOW,
    WRONG,
    Refusal,
    fold,
    is_name,
)
from people import Account, Message, Opened, Outcome, Session, Written
from rights import owned, refusal
from room import ROOM, Room
from tables import Row
from told import Told

HISTORY_KEPT = 20_000  # messages newer than the newest snapshot that a server has at hand: 8 MB of short ones
BEGIN_OP = 2  # the first view's second op; a later `begin` is of nobody


class ChatState:
    """See the module's page. `op` is the last applied op, `digest` a running CRC-32 over all replies."""

    def __init__(self) -> None:
        self.op = self.digest = self.message_count = 0
        self.time = 0  # microseconds; the next batch's is not below it
        self.accounts: dict[str, Account] = {}  # in order of creation
        self.sessions: dict[bytes, Session] = {}
        self.history: deque[Written] | list[Written] = deque(maxlen=HISTORY_KEPT)
        self.room = Room()
        self.told = Told()
        self.hidden: dict[str, Account] = {}  # accounts that nobody has used yet
        self.folded: dict[str, Account] = {}  # by folded name
        self._at: dict[str, dict[bytes, None]] = {}  # REPLICA.INC -> sessions at home there
        self._gone: dict[bytes, None] = {}  # sessions without a home, longest gone first

    # --- apply ----------------------------------------------------------------------------------------------------------------------------

    def apply(self, first_op: int, count: int, time: int, body: bytes) -> Outcome:
        """Execute a committed batch: `count` commands, the i-th at op first_op + i and time + i (microseconds). Never raises."""
        assert first_op == self.op + 1, f"batch {first_op} applied after op {self.op}"
        self.time = time + count
        out, at, op, size = Outcome(), 0, first_op, len(body)
        said: list[str] = []
        head, unpack = RUN.size, RUN.unpack_from
        while size - at >= head:
            kind, length, lines, key, first, low, skip = unpack(body, at)
            start = at + head
            at = start + length
            texts = _lines_of(body[start:at], lines)
            if kind == COMMANDS:
                replies = self._apply_run(key, first, low, skip, texts, op, time, out)
                out.replies.append((key, first, replies))
                said += replies
            else:
                for line in texts:
                    self._guarded_system(line, op, time, out)
            op += lines
            time += lines
        self.op = first_op + count - 1
        self.digest = zlib.crc32("\n".join(said).encode(), self.digest)
        return out

    def _apply_run(self, key: bytes, first: int, low: int, skip: int, lines: list[str], op: int, time: int, out: Outcome) -> list[str]:
        session = self.sessions.get(key)
        if session is None:
            return [Refusal.SESSION_UNKNOWN] * len(lines)
        last, kept = session.last, session.replies
        if low > session.low:
            if low > last:
                low = last
            del kept[: low - session.low]
            session.low = low
        replies: list[str] = []
        if first > last + 1:
            if first - skip > last + 1:
                return [f"{Refusal.GAP}|{last + 1}"] * len(lines)
            kept += [""] * min(first - 1 - last, WINDOW)
            last = first - 1
            session.low = last - len(kept)
        elif first <= last:  # lines that were executed before
            done = min(last + 1 - first, len(lines))
            replies = [self.stored(session, first + i) for i in range(done)]
            lines, op, time = lines[done:], op + done, time + done
        fresh: list[str] = []
        for line in lines:
            # Nothing else catches everything, so that a poison command is one refusal instead of three dead replicas.
            try:
                letter = line[0]  # of a SEND, mostly: the way through the table is dear
                reply = self._send(session, line, op, time, out) if letter == SEND else HANDLERS[letter](self, session, line, op, time, out)
            except (MemoryError, RecursionError):
                raise
            except Exception:
                reply = Refusal.INTERNAL if line and line[0] in HANDLERS else Refusal.INVALID
            fresh.append(reply)
            op += 1
            time += 1
        kept += fresh
        session.last = last + len(fresh)
        if len(kept) > WINDOW:
            session.low += len(kept) - WINDOW
            del kept[: len(kept) - WINDOW]
        return replies + fresh if replies else fresh

    def stored(self, session: Session, request: int) -> str:
        """The reply to a request that was executed."""
        return session.replies[request - session.low - 1] or Refusal.DONE if request > session.low else Refusal.DONE

    def _guarded_system(self, line: str, op: int, time: int, out: Outcome) -> None:
        try:
            word, *fields = line.split("|")
            SYSTEM_HANDLERS[word](self, fields, op, time, out)
        except (MemoryError, RecursionError):
            raise
        except Exception:
            return

    # --- commands -------------------------------------------------------------------------------------------------------------------------

    def _send(self, session: Session, line: str, op: int, time: int, out: Outcome) -> str:
        _, name, text = line.split("|", 2)
        sender = session.account
        if sender is None:
            return Refusal.NOT_LOGGED_IN
        return self.send(sender, name, text, time, out)

    def send(self, sender: Account, name: str, text: str, time: int, out: Outcome) -> str:
        """A text to whoever has this name or this id."""
        account = self.accounts.get(name) or self.by_id(name)
        if account is None:
            return Refusal.NO_SUCH_ACCOUNT
        mailbox = account.mailbox
        if len(mailbox) >= MAILBOX_MAX:
            return Refusal.MAILBOX_FULL
        if not text or (len(text) * 4 > TEXT_MAX and len(text.encode()) > TEXT_MAX):
            return Refusal.INVALID
        reply = ONLINE if account.online else WAITING
        if account.name != name:
            reply = f"{reply}|{account.name}"
        self._deliver(account, sender.name, text, time, out)
        return reply

    def _create(self, session: Session, line: str, op: int, time: int, out: Outcome) -> str:
        _, name, *rest = line.split("|")
        secret = rest[0] if rest else ""
        refused = Refusal.INVALID if len(rest) > 1 else self.why_not(name, secret)
        if refused:
            return refused
        account, reply = Account(name, op, secret, since=self.message_count), f"c|{name}|0|{op}"
        self.enter(session, self.add(account))
        return reply

    def why_not(self, name: str, secret: str) -> str:
        """The refusal of a new account of this name; empty: there can be one."""
        if not is_name(name):
            return Refusal.INVALID
        if secret == WRONG or secret.startswith("!"):
            return Refusal.NEEDS_PASSWORD if secret == WRONG else secret
        folded = fold(name)
        is_taken = folded in RESERVED or folded in self.folded or folded + ID_SUFFIX in self.folded or self._is_folded_id(folded)
        return Refusal.NAME_TAKEN if is_taken else ""

    def _log_in(self, session: Session, line: str, op: int, time: int, out: Outcome) -> str:
        letter, name, proof, secret = [*line.split("|"), "", ""][:4]
        account = self.by_id(name) or (self.accounts.get(name) if letter == LOG_IN_BY_EITHER else None)
        refused = refusal(account, proof)
        if account is None or refused:
            return refused
        reply = f"l|{account.name}|{account.last_seq}|{account.number}"
        self._log_in_to(account, session, proof, secret, out)
        return reply

    def _log_out(self, session: Session, line: str, op: int, time: int, out: Outcome) -> str:
        if session.account is None:
            return Refusal.NOT_LOGGED_IN
        self.enter(session, None)
        return "o"

    def _read(self, session: Session, line: str, op: int, time: int, out: Outcome) -> str:
        _, name, *proof = line.split("|")
        account = owned(self, session, name, *proof)
        if not isinstance(account, Account):
            return account
        size, rows = 0, list[str]()
        for seq, _, _, sender, text in account.mailbox:
            size += len(text.encode())
            if rows and size > READ_MAX:
                break
            rows.append(f"{seq}|{sender}|{text}")
        reply = f"r|{account.name}|" + "\n".join(rows)
        self._trim(account, 0, account.mailbox[len(rows) - 1][0] if rows else 0)
        return reply

    def _delete(self, session: Session, line: str, op: int, time: int, out: Outcome) -> str:
        _, name, *proof = line.split("|")
        account = owned(self, session, name, *proof)
        if not isinstance(account, Account):
            return account
        if account.mailbox:
            return Refusal.MAILBOX_NOT_EMPTY
        self.remove(account, out)
        return "d"

    # --- system commands ------------------------------------------------------------------------------------------------------------------

    def _open(self, fields: list[str], op: int, time: int, out: Outcome) -> None:
        word, home, kind = fields
        key = bytes.fromhex(word)
        if len(key) != len(NO_SESSION) or not home:
            return
        session = self.sessions.get(key)
        if session is None and kind != "resumed":
            session = Session(key, kind)
        out.opened.append(Opened(key, home, session))
        if session is not None and session.home != home:
            if session.home:
                out.displaced.append(session.home)
            self._take_in(session, home, op, time, out)

    def _close(self, fields: list[str], op: int, time: int, out: Outcome) -> None:
        word, home = fields
        session = self.sessions.get(bytes.fromhex(word))
        out.closed.append(home)
        if session is not None and session.home == home:
            self._leave(session, op, time, out)

    def _ack(self, fields: list[str], op: int, time: int, out: Outcome) -> None:
        name, number, above, upto = fields
        account = self.accounts.get(name)
        if account is None or account.number != int(number):
            return
        self._trim(account, int(above), int(upto))

    def _members(self, fields: list[str], op: int, time: int, out: Outcome) -> None:
        (members,) = fields
        staying = set(members.split(","))
        out.left = self._at.keys() - staying
        leaving = sorted(key for place in out.left for key in self._at[place])
        self._leave_all(leaving, op, time, out)

    def _begin(self, fields: list[str], op: int, time: int, out: Outcome) -> None:
        people = list(zip(fields[::2], fields[1::2], strict=True)) if op <= BEGIN_OP else []
        self._add_hidden(people, op)

    def _expire(self, fields: list[str], op: int, time: int, out: Outcome) -> None:
        old = [key for key in self._gone if time - self.sessions[key].gone_time >= SESSION_LIFE_US]
        late = self.room.late(self, time)
        self._forget_all(old, late, time, out)

    # --- small changes: what handlers end with; nothing in them can fail ------------------------------------------------------------------

    def by_id(self, name: str) -> Account | None:
        """The account whose id this is."""
        return self.accounts.get(name[: -len(ID_SUFFIX)]) if name.endswith(ID_SUFFIX) else None

    def _is_folded_id(self, folded: str) -> bool:
        return folded.endswith(ID_SUFFIX) and folded[: -len(ID_SUFFIX)] in self.folded

    def add(self, account: Account) -> Account:
        """A new account, whose name is free."""
        self.accounts[account.name] = account
        self.folded[fold(account.name)] = account
        return account

    def _add_hidden(self, people: list[tuple[str, str]], op: int) -> None:
        for name, secret in people:
            self.hidden[name] = self.add(Account(name, op, secret, since=self.message_count))

    def remove(self, account: Account, out: Outcome) -> None:
        """The account is gone, and its name is free; who takes it next does not pay for guesses at this one's password."""
        out.proved.append(account.name)
        folded = fold(account.name)
        self.hidden.pop(account.name, None)
        self.told.threads.pop(account.name, None)
        for key in list(account.sessions):
            self.enter(self.sessions[key], None)
            out.orphaned.append(key)
        del self.accounts[account.name]
        self.folded.pop(folded, None)

    def _log_in_to(self, account: Account, session: Session, proof: str, secret: str, out: Outcome) -> None:
        self.enter(session, account)
        if proof:
            out.proved.append(account.name)
        if secret:
            account.secret = secret

    def lock(self, account: Account, secret: str, session: Session | None, out: Outcome) -> None:
        """The account has this password now; only this session of it stays."""
        out.proved.append(account.name)
        account.secret = secret
        self.expel(account, session, out)

    def expel(self, account: Account, staying: Session | None, out: Outcome) -> None:
        """All sessions but this one lose the account."""
        for key in list(account.sessions):
            session = self.sessions[key]
            if session is not staying:
                self.enter(session, None)
                out.expelled.append(key)

    def _deliver(self, account: Account, sender: str, text: str, time: int, out: Outcome) -> None:
        self.message_count = number = self.message_count + 1
        account.last_seq = seq = account.last_seq + 1
        if account.mailbox:  # as mostly: a call would cost a tenth of it all
            account.mailbox.append((seq, number, time, sender, text))
        else:
            account.put((seq, number, time, sender, text))
        out.filled.add(account.name)
        self.history.append((number, time, sender, account.name, text))

    def _trim(self, account: Account, above: int, upto: int) -> None:
        """These messages are delivered. What waited before a log-in stays below them."""
        mailbox = account.mailbox
        if mailbox and mailbox[0][0] <= above:
            later = list[Message]()
            while mailbox[-1][0] > above:
                message = mailbox.pop()
                if message[0] > upto:
                    later.append(message)
            mailbox.extend(reversed(later))
        else:
            while mailbox and mailbox[0][0] <= upto:
                mailbox.popleft()

    def enter(self, session: Session, account: Account | None) -> None:
        """The session is logged in to this account from now on (None: to no account)."""
        here = 1 if session.listens else 0
        if session.account is not None:
            session.account.online -= here
            del session.account.sessions[session.key]
        session.account = account
        if account is not None:
            self.hidden.pop(account.name, None)
            account.online += here
            account.sessions[session.key] = None

    def _take_in(self, session: Session, home: str, op: int, time: int, out: Outcome) -> None:
        """The session, perhaps a new one, is at home here."""
        if session.key not in self.sessions and len(self.sessions) >= SESSION_MAX and self._gone:
            self._forget(self.sessions[next(iter(self._gone))], time, out)
        self.sessions[session.key] = session
        self._move(session, home, op, time)

    def _move(self, session: Session, home: str, op: int, time: int) -> None:
        """The session is at home here from now on (empty: nowhere)."""
        account, before = session.account, session.home
        if account is not None:
            account.online -= session.listens
        if before:
            place = self._at[_place(before)]
            del place[session.key]
            if not place:
                del self._at[_place(before)]
        session.home = home
        if account is not None:
            account.online += session.listens
        if home:
            self._gone.pop(session.key, None)
            self._at.setdefault(_place(home), {})[session.key] = None
            session.gone_op = session.gone_time = 0
        else:
            self._gone[session.key] = None
            session.gone_op, session.gone_time = op, time

    def _leave(self, session: Session, op: int, time: int, out: Outcome) -> None:
        """Its connection is gone; a plain guest cannot come back, so nothing of it is kept."""
        self._move(session, "", op, time)
        if session.is_plain:
            self._forget(session, time, out)

    def _leave_all(self, keys: list[bytes], op: int, time: int, out: Outcome) -> None:
        for key in keys:
            self._leave(self.sessions[key], op, time, out)

    def _forget_all(self, keys: list[bytes], late: list[bytes], time: int, out: Outcome) -> None:
        for key in late:
            room.leave(self, self.sessions[key], time, out)
        for key in keys:
            self._forget(self.sessions[key], time, out)
        self.told.expire(time)

    def _forget(self, session: Session, time: int, out: Outcome) -> None:
        room.leave(self, session, time, out)
        self.enter(session, None)
        self._gone.pop(session.key, None)
        del self.sessions[session.key]

    # --- questions ------------------------------------------------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """All account names in order of creation, but for those that nobody has used yet."""
        if not self.hidden:
            return list(self.accounts)
        unused = {name for name, account in self.hidden.items() if not account.last_seq}
        return [name for name in self.accounts if name not in unused]

    def present(self) -> list[str]:
        """Names of the accounts that have a connection now, in order of creation."""
        return [a.name for a in self.accounts.values() if a.online]

    def has_stale(self, time: int) -> bool:
        """Whether a session has been gone for longer than sessions are kept, or may be in the room, or words are too old (microseconds)."""
        is_old = any(time - self.sessions[key].gone_time >= SESSION_LIFE_US for key in itertools.islice(self._gone, 1))
        return is_old or bool(self.room.late(self, time)) or self.told.is_stale(time)

    def undelivered(self, name: str, number: int, above: int) -> Iterator[Message]:
        """Messages of the account (if it still is the one made at op `number`) with a seq above `above`, oldest first."""
        account = self.accounts.get(name)
        if name == ROOM:
            yield from self.room.after(above)
        if account is None or account.number != number or account.last_seq <= above:
            return
        mailbox = account.mailbox
        start = max(0, len(mailbox) - (account.last_seq - above))  # no more than so many are above
        if start * 2 < len(mailbox):
            yield from (message for message in mailbox if message[0] > above)
        else:
            for back in range(len(mailbox) - start, 0, -1):
                if mailbox[-back][0] > above:
                    yield mailbox[-back]

    # --- tables ---------------------------------------------------------------------------------------------------------------------------

    def tables(self) -> dict[str, tuple[tuple[str, ...], Iterable[Row]]]:
        """Columns and rows of each table, all text, in an order that is the same on every replica."""
        return tables.tables_of(self)

    @classmethod
    def load(cls, op: int, digest: int, message_count: int, rows: dict[str, Iterable[Row]], time: int = 0) -> ChatState:
        """The state whose `tables()` these are. Raises ValueError when they contradict themselves."""
        state = cls()
        state.op, state.digest, state.message_count, state.time = op, digest, message_count, time
        tables.fill(state, rows)
        return state

    def put_session(self, session: Session, account: Account | None, home: str) -> None:
        """A session as a table has it."""
        self.sessions[session.key] = session
        if session.room:
            self.room.names[fold(session.room)] = session.key
        if account is not None:
            self.enter(session, account)
        if home:
            self._move(session, home, 0, 0)

    def remember_gone(self) -> None:
        """All sessions are there: who has been gone for longest is forgotten first."""
        gone = [s for s in self.sessions.values() if not s.home]
        self._gone = dict.fromkeys(s.key for s in sorted(gone, key=lambda s: (s.gone_op, s.key)))


def _place(home: str) -> str:
    return home.rpartition(".")[0]


def _lines_of(text: bytes, count: int) -> list[str]:
    """The lines of a run; lines that are not what the header says become as many invalid ones (so many bytes hold no more lines)."""
    try:
        lines = str(text, "utf-8").split("\n")
        if len(lines) == count:
            return lines
    except UnicodeDecodeError:
        pass
    return [""] * min(count, len(text) + 1)


Handler = Callable[[ChatState, Session, str, int, int, Outcome], str]
SystemHandler = Callable[[ChatState, list[str], int, int, Outcome], None]

HANDLERS: dict[str, Handler] = {
    CREATE: ChatState._create,
    LOG_IN: ChatState._log_in,
    LOG_IN_BY_EITHER: ChatState._log_in,
    LOG_OUT: ChatState._log_out,
    SEND: ChatState._send,
    READ: ChatState._read,
    DELETE: ChatState._delete,
    CHANGE_PASSWORD: rights.change_password,
    OPERATE: rights.operate,
    ERASE: rights.erase,
    COME_IN: room.come_in,
    SPEAK: room.speak,
    GO_OUT: room.go_out,
    JOIN: rights.join,
    PAY_IN: ledger.pay_in,
    TAKE_OUT: ledger.take_out,
    ACT: told.act,
    HEARD: told.heard,
}
SYSTEM_HANDLERS: dict[str, SystemHandler] = {
    "open": ChatState._open,
    "close": ChatState._close,
    "ack": ChatState._ack,
    "members": ChatState._members,
    "expire": ChatState._expire,
    "begin": ChatState._begin,
}
