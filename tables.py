"""The state as tables of text, for people and for the next start: rows out of a state, a state out of rows.

What it is not: it knows no file (`snapshots.py`), and no format but the newest; older ones are brought to it before.

    table       one row is            columns
    accounts    an account            name, number (op that made it), secret (password hash or empty), last_seq (newest message),
                                      balance (in the smallest unit), mark (`blocked`, `hidden`, both or none)
    mailboxes   an undelivered        account, seq (1, 2, 3 … within the account), id (1, 2, 3 … of all messages),
                message               time (microseconds since 1970), sender, text
    sessions    a guest the cluster   session, kind, account, home (REPLICA.INC.CONNECTION or empty), last (newest request executed),
                remembers             low (replies up to it are dropped), gone_op, gone_time (since when it has no home),
                                      replies (JSON list, low+1 … last), room (name in the room or empty), since (seq of its join)
    room        one of the last lines seq (1, 2, 3 … in the room), id, time, sender (`Server`: somebody came or went), text
                in the room
    told        what `told.py`        what (`word` that waits, `request` that was done, `thread` of a message), name,
                keeps                 number (time of the word in microseconds, seq of the message), key (thread, or verb and request),
                                      value (the word: a letter and its field; or the reply)

The history of delivered messages (`MESSAGE_COLUMNS`) is no table: it is not in memory.

Read next: `snapshots.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from commands import fold
from ledger import BALANCE_MAX
from people import Account, Session

if TYPE_CHECKING:
    from state import ChatState

TABLES: dict[str, tuple[str, ...]] = {
    "accounts": ("name", "number", "secret", "last_seq", "balance", "mark", "since"),
    "mailboxes": ("account", "seq", "id", "time", "sender", "text"),
    "sessions": ("session", "kind", "account", "home", "last", "low", "gone_op", "gone_time", "replies", "room", "since"),
    "room": ("seq", "id", "time", "sender", "text"),
    "told": ("what", "name", "number", "key", "value"),
}
MESSAGE_COLUMNS = ("id", "time", "sender", "recipient", "text")

MARKS = {(False, False): "", (True, False): "blocked", (False, True): "hidden", (True, True): "blocked hidden"}
MARKED = {mark: flags for flags, mark in MARKS.items()}

Row = Sequence[str]


# --- out ----------------------------------------------------------------------------------------------------------------------------------


def tables_of(state: ChatState) -> dict[str, tuple[tuple[str, ...], Iterable[Row]]]:
    """Columns and rows of each table, all text, in an order that is the same on every replica."""
    return {name: (columns, ROWS[name](state)) for name, columns in TABLES.items()}


def _account_rows(state: ChatState) -> Iterator[Row]:
    for a in state.accounts.values():
        numbers = str(a.last_seq), str(a.balance)
        yield a.name, str(a.number), a.secret, *numbers, MARKS[a.is_blocked, a.name in state.hidden], str(a.since)


def _mailbox_rows(state: ChatState) -> Iterator[Row]:
    for a in state.accounts.values():
        for seq, number, time, sender, text in a.mailbox:
            yield a.name, str(seq), str(number), str(time), sender, text


def _session_rows(state: ChatState) -> Iterator[Row]:
    for key in sorted(state.sessions):
        s = state.sessions[key]
        account = s.account.name if s.account else ""
        replies = json.dumps(s.replies, ensure_ascii=False, separators=(",", ":"))
        numbers = str(s.last), str(s.low), str(s.gone_op), str(s.gone_time)
        yield key.hex(), s.kind, account, s.home, *numbers, replies, s.room, str(s.since)


def _room_rows(state: ChatState) -> Iterator[Row]:
    for seq, number, time, sender, text in state.room.lines:
        yield str(seq), str(number), str(time), sender, text


def _told_rows(state: ChatState) -> Iterator[Row]:
    told = state.told
    for time, name in told.order.items():
        _, thread, word = told.words[name][time]
        yield "word", name, str(time), str(thread), word
    for (name, verb, request), reply in told.requests.items():
        yield "request", name, "", verb + request, reply
    for name, threads in told.threads.items():
        for seq, thread in threads.items():
            yield "thread", name, str(seq), str(thread), ""


ROWS: dict[str, Callable[[ChatState], Iterator[Row]]] = {
    "accounts": _account_rows,
    "mailboxes": _mailbox_rows,
    "sessions": _session_rows,
    "room": _room_rows,
    "told": _told_rows,
}


# --- in -----------------------------------------------------------------------------------------------------------------------------------


def fill(state: ChatState, tables: dict[str, Iterable[Row]]) -> None:
    """Put these rows into a new state. Raises ValueError when they contradict themselves."""
    for row in tables["accounts"]:
        _load_account(state, row)
    try:
        for owner, seq, number, time, sender, text in tables["mailboxes"]:
            account = state.accounts[owner]
            if not (account.mailbox[-1][0] if account.mailbox else 0) < int(seq) <= account.last_seq:
                raise ValueError(f"message {seq} of {owner!r} is out of order")
            account.put((int(seq), int(number), int(time), sender, text))
        for row in tables["sessions"]:
            _load_session(state, row)
    except KeyError as error:
        raise ValueError(f"no account {error}") from None
    for seq, number, time, sender, text in tables["room"]:
        if state.room.lines and int(seq) != state.room.seq + 1:
            raise ValueError(f"line {seq} of the room is out of order")
        state.room.lines.append((int(seq), int(number), int(time), sender, text))
    for row in tables["told"]:
        _load_told(state, row)
    state.remember_gone()


def _load_account(state: ChatState, row: Row) -> None:
    name, number, secret, last_seq, balance, mark, since = row
    if name in state.accounts:
        raise ValueError(f"account {name!r} stands there twice")
    if not 0 <= int(balance) <= BALANCE_MAX:
        raise ValueError(f"account {name!r} has an impossible balance")
    if mark not in MARKED:
        raise ValueError(f"account {name!r} has the mark {mark!r}")
    if not -1 <= int(since) <= state.message_count:
        raise ValueError(f"account {name!r} was made after messages to come")
    account = state.add(Account(name, int(number), secret, int(last_seq), int(balance), int(since)))
    account.is_blocked, is_hidden = MARKED[mark]
    if is_hidden:
        state.hidden[name] = account


def _load_session(state: ChatState, row: Row) -> None:
    word, kind, account, home, last, low, gone_op, gone_time, replies, room, since = row
    session = Session(bytes.fromhex(word), kind)
    session.last, session.low = int(last), int(low)
    kept = json.loads(replies)
    if type(kept) is not list or len(kept) != session.last - session.low:
        raise ValueError(f"session {word} has replies missing")
    session.replies = kept
    if room and fold(room) in state.room.names:
        raise ValueError(f"{room!r} is in the room twice")
    session.room, session.since = room, int(since)
    state.put_session(session, state.accounts[account] if account else None, home)
    session.gone_op, session.gone_time = int(gone_op), int(gone_time)


def _load_told(state: ChatState, row: Row) -> None:
    what, name, number, key, value = row
    told = state.told
    if what == "word" and int(number) > next(reversed(told.order), 0):
        told.put(name, (int(number), int(key), value))
    elif what == "request" and key:
        told.remember(name, key[0], key[1:], value)
    elif what == "thread" and name in state.accounts:
        told.threads.setdefault(name, {})[int(number)] = int(key)
    else:
        raise ValueError(f"the {what!r} of {name!r} is out of order")
