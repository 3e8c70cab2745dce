"""What a guest hears at a replica that takes nothing new: the last member, whose disk is full or has failed.

What it is not: it knows no disk, and it does not decide when a replica is read_only (`survivor.py`) nor who must wait (`server.py`).

    a new connection               its session is taken up from the state; the log hears of it when the disk takes batches again
    a request that was executed    its stored reply
    any other change               the refusal; its number never enters the log
    a read                         is answered as ever (`desk.py`)

Invariants:
- A number that was refused is never executed; one that may have been is not refused.

Read next: `connection.py`.
"""

from __future__ import annotations

from commands import Refusal
from connection import Connection
from noting import note
from people import Opened, Session
from waiting import Proof, Run, Said


def refuse(connection: Connection, open_images: set[int]) -> None:
    """Answer what waits in the open batch, and what stands behind it. Only behind the guard, where all that is committed is applied."""
    session, line = _take_up(connection), connection.line
    refusing = False
    for _ in range(len(line)):
        item = line.popleft()
        if isinstance(item, Run) and (refusing or id(item.image) in open_images):
            refusing = True  # the next ones, too, where a query holds them up: they would not follow what the log knows
            line.append(_settled(connection, session, item))
        elif isinstance(item, Proof) and refusing:
            line.append(_refused(connection, item))
        else:
            line.append(item)
    if line:
        connection.advance()
    connection.ease()


def _take_up(connection: Connection) -> Session | None:
    """The session as the state knows it."""
    session = connection.desk.state.sessions.get(connection.session)
    if connection.opening and not connection.is_open:
        connection.provisional = True
        if session is None and connection.kind != "resumed":
            session = Session(connection.session, connection.kind)
        connection.opened(Opened(connection.session, connection.home, session))
    return session


def _refused(connection: Connection, item: Proof) -> Said:
    """What becomes of its password is nobody's affair any more."""
    connection.skip += item.skip + 1
    connection.blocked -= 1
    return Said(connection.translator.render(item.number, item.wanted, Refusal.READ_ONLY))


def _settled(connection: Connection, session: Session | None, item: Run) -> Said:
    """The answer to a run: stored replies as far as it was executed by the connection before this one, then refusals."""
    translator, words, upto = connection.translator, [], 0
    for number, command in enumerate(item.commands, item.first):
        if not command:
            continue  # it was answered already
        reply: str = Refusal.READ_ONLY
        if session is not None and number <= session.last:
            reply = connection.desk.state.stored(session, number)
            reply = reply if command[0] == "S" else note(connection, command, reply)
            upto = number
        words.append(translator.render(number, command, reply))
    connection.skip += item.skip + len(item.commands)
    connection.bytes_unanswered -= len(item.image)
    connection.desk.unanswered_bytes -= len(item.image)
    connection.unanswered -= len(words) - 1
    return Said(b"".join(words), upto)
