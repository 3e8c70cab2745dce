"""The room: one conversation of everybody who is in it. Part of `apply`, so joins, lines and leaves have one order on every replica.

What it is not: it knows no door and no connection; a guest in the room is a session, and it has no account by that.

    letter   does                       says                or
    G        comes in under a name      g | name | seq      !NAME_TAKEN, by somebody in the room or by an account with a password
    V        says a line                v                   !NOT_LOGGED_IN: not in the room
    U        goes out                   u

    a session that is gone    plain: goes out at once · numbered: after STAY_US, so that a failover is no farewell

What happens in the room is a message to `ROOM`, which is nobody's name: it stands in the history, and the last LINES_MAX are kept for
guests that come back. Joins and leaves are said by `Server`, which is nobody's name either.

Read next: `doors/room.py`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from commands import ID_SUFFIX, RESERVED, TEXT_MAX, Refusal, fold, is_name
from people import Message, Outcome, Session

if TYPE_CHECKING:
    from state import ChatState

ROOM = "the room"  # the recipient in the history; a name holds no blank
HOST = "Server"  # who says that somebody came or went
MEMBERS_MAX = 10_000  # each line is written to every one of them
LINES_MAX = 1_000  # lines kept for guests that come back; within STAY_US they miss hardly more
STAY_US = 30 * 1_000_000  # microseconds a numbered guest may be gone


class Room:
    """`names`: of those in it, folded, and their sessions. `lines`: the last ones, as messages; their seq counts 1, 2, 3 …"""

    def __init__(self) -> None:
        self.names: dict[str, bytes] = {}
        self.lines: deque[Message] = deque(maxlen=LINES_MAX)

    @property
    def seq(self) -> int:
        """Of the newest line."""
        return self.lines[-1][0] if self.lines else 0

    def after(self, seq: int) -> Iterator[Message]:
        """Lines above this one, as far as they are kept."""
        for back in range(min(self.seq - seq, len(self.lines)), 0, -1):  # as mostly few are: who begins at the left walks past all others
            yield self.lines[-back]

    def late(self, state: ChatState, time: int) -> list[bytes]:
        """Sessions in it that have been gone for too long, in an order that is the same everywhere."""
        gone = (key for key in self.names.values() if not state.sessions[key].home)
        return sorted(key for key in gone if time - state.sessions[key].gone_time >= STAY_US)


# --- commands -----------------------------------------------------------------------------------------------------------------------------


def come_in(state: ChatState, session: Session, line: str, op: int, time: int, out: Outcome) -> str:
    _, name = line.split("|", 1)
    if not is_name(name):
        return Refusal.INVALID
    folded = fold(name)
    if session.room or folded in RESERVED or folded in state.room.names or _is_closed(state, folded):
        return Refusal.NAME_TAKEN
    if len(state.room.names) >= MEMBERS_MAX:
        return Refusal.ROOM_FULL
    reply = f"g|{name}|{state.room.seq + 1}"
    _enter(state, session, name, time, out)
    return reply


def speak(state: ChatState, session: Session, line: str, op: int, time: int, out: Outcome) -> str:
    _, text = line.split("|", 1)
    if not session.room:
        return Refusal.NOT_LOGGED_IN
    if not text or len(text.encode()) > TEXT_MAX:
        return Refusal.INVALID
    _tell(state, session.room, text, time, out)
    return "v"


def go_out(state: ChatState, session: Session, line: str, op: int, time: int, out: Outcome) -> str:
    if not session.room:
        return Refusal.NOT_LOGGED_IN
    leave(state, session, time, out)
    return "u"


def _is_closed(state: ChatState, folded: str) -> bool:
    """Whether an account with a password has this name or this id."""
    accounts = state.folded.get(folded), state.folded.get(folded.removesuffix(ID_SUFFIX))
    return any(account is not None and account.secret for account in accounts)


# --- small changes ------------------------------------------------------------------------------------------------------------------------


def _enter(state: ChatState, session: Session, name: str, time: int, out: Outcome) -> None:
    _tell(state, HOST, f"{name} joined the conversation ", time, out)
    session.room, session.since = name, state.room.seq
    state.room.names[fold(name)] = session.key


def leave(state: ChatState, session: Session, time: int, out: Outcome) -> None:
    """It goes out, if it is in."""
    if session.room:
        name, session.room, session.since = session.room, "", 0
        del state.room.names[fold(name)]
        _tell(state, HOST, f"{name} left the conversation", time, out)


def _tell(state: ChatState, sender: str, text: str, time: int, out: Outcome) -> None:
    state.message_count = number = state.message_count + 1
    state.room.lines.append((state.room.seq + 1, number, time, sender, text))
    out.filled.add(ROOM)
    state.history.append((number, time, sender, ROOM, text))
