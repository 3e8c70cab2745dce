"""The desk: what the server gives to doors. It keeps the guests of this replica: who is connected, what is asked, who is to be told.

What it is not: it knows no socket and no view; the server tells it when there is a primary, and takes runs from `open_runs` for the batch
or for the primary. What one guest waits for is its connection's affair (`connection.py`).

    towards the primary    open_runs   runs and system runs, until the server takes them    queries   reads, by ticket
    after apply            replies     to the connection of the session                     filled    mailboxes, to who watches them
    one of a session       a newer connection takes the older one's place; one that ended is closed in the log, too

Invariants:
- Runs are taken in the order in which they were submitted.
- Of a connection that is gone the log is told, again in each view until it has happened.
- A replica that leaves the view shows nothing of its state any more: all connections are closed.

Read next: `connection.py`, `server.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import read_only
from answers import EVALUATE
from attempts import Attempts
from commands import count_ops, system_run
from connection import Connection
from doors import Shell
from history import Archive
from noting import channel_of, expelled
from passwords import Hasher
from people import Outcome
from reading import Searches
from relays import Relays
from state import ChatState
from told import channel, is_channel
from waiting import Query

Work = Callable[[float, Callable[[], Any], Callable[[Any], None]], None]  # after so many seconds do this aside, and tell the result

BACKLOG_MAX = 8 << 20  # bytes of unanswered runs; beyond it the doors stop reading


class Desk:
    """All guests of this replica. `poke` tells the server that there is something to do, `hasten` that a guest has said all it had."""

    def __init__(
        self,
        place: str,
        state: ChatState,
        *,
        poke: Callable[[], None],
        hasten: Callable[[], None],
        now: Callable[[], float],
        dice: Callable[[int], bytes],
        work: Work,
        soon: Callable[[Callable[[], None]], None],
        later: Callable[[float, Callable[[], None]], object],
        archive: Archive,
        hasher: Hasher,
        describe_cluster: Callable[[str], bytes],
        console: Callable[[str], None] | None,
        backlog_max: int = BACKLOG_MAX,
        is_strict: bool = False,
    ) -> None:
        self.place, self.poke, self.hasten, self.backlog_max = place, poke, hasten, backlog_max
        self.hears = False  # while a guest is read, who then says `hasten`: until then nobody has to be told anything
        self.state: ChatState = state
        self.describe_cluster, self.console = describe_cluster, console
        self.now, self.dice, self.work, self.hasher = now, dice, work, hasher
        self.is_strict = is_strict  # no open accounts
        self.soon, self.later, self.searches = soon, later, Searches(soon)
        self.archive = archive
        self.archive.state = state
        self.behind: list[tuple[int, Callable[[], None]]] = []  # what waits for the state to have applied this op
        self.hashing = 0  # passwords that wait to be hashed, or are
        self.attempts = Attempts()  # counts while this replica is the primary
        self.open_runs: list[bytes] = []
        self.open_bytes = self.open_ops = 0
        self.unanswered_bytes = 0
        self.queries: dict[int, tuple[Connection, Query]] = {}
        self.tickets = self.sent_ticket = 0
        self.connections: dict[str, Connection] = {}  # by home
        self.by_session: dict[bytes, Connection] = {}
        self.watching: dict[str, list[Connection]] = {}
        self.newcomers: list[Connection] = []  # watched once all replies of the batch are given: what was read comes before what waits
        self.reopening: dict[str, bytes] = {}  # homes that the log forgot while this replica was out of reach
        self.closing: dict[str, bytes] = {}  # homes whose `close` is not executed yet
        self.relays = Relays()
        self.reached = (0, 0)  # how many of how many replicas, while those are too few for anybody to be served here
        self.last_outcome = Outcome()
        self.before = self.last_op = 0  # ops up to which the state had applied, before the last batch and with it
        self.is_full = False
        self.numbers = 0

    # --- guests come and go ---------------------------------------------------------------------------------------------------------------

    def welcome(self, shell: Shell, door: str, kind: type[Connection] = Connection) -> Connection:
        """A new connection at this door."""
        self.numbers += 1
        connection = kind(self, shell, door, self.numbers)
        self.connections[connection.home] = connection
        if self.is_full:
            shell.pause()
        return connection

    def register(self, connection: Connection) -> None:
        """The connection has a session now; an older one of the same session gives way."""
        older = self.by_session.get(connection.session)
        self.by_session[connection.session] = connection
        if older is not None and older is not connection:
            older.give_way()

    def dismiss(self, connection: Connection) -> None:
        """The connection is gone and owes nothing any more."""
        if self.connections.pop(connection.home, None) is None:
            return
        self.relays.moved(connection)
        del connection.translator  # they hold each other, and would wait for the garbage collector
        if not connection.opening:
            return
        if self.by_session.get(connection.session) is connection:
            del self.by_session[connection.session]
        self.reopening.pop(connection.home, None)
        image = system_run(f"close|{connection.session.hex()}|{connection.home}")
        self.closing[connection.home] = image
        self.submit(image)

    def watch(self, connection: Connection) -> None:
        """Its account's messages are pushed to it from now on; those it was not shown, at once."""
        if connection.gone or connection.ended or not connection.account or not connection.translator.listens:
            return
        watchers = self.watching.setdefault(channel_of(connection), [])
        if connection not in watchers:
            watchers.append(connection)
        self._show(channel_of(connection), connection)

    def unwatch(self, connection: Connection) -> None:
        watchers = self.watching.get(channel_of(connection))
        if watchers and connection in watchers:
            watchers.remove(connection)
            if not watchers:
                del self.watching[channel_of(connection)]

    # --- towards the primary --------------------------------------------------------------------------------------------------------------

    def submit(self, image: bytes, ops: int = 1) -> None:
        """A run of so many commands (or a chain of runs) for the open batch."""
        self.open_runs.append(image)
        self.open_bytes += len(image)
        self.open_ops += ops
        self.poke()
        if (self.open_bytes > self.backlog_max or self.unanswered_bytes > self.backlog_max) and not self.is_full:
            self.is_full = True
            for connection in self.connections.values():
                connection.shell.pause()

    def take(self, limit: int) -> bytes:
        """The oldest runs, at most `limit` bytes of them and at least one."""
        runs = self.open_runs
        if self.open_bytes <= limit:
            body = b"".join(runs)
            self.open_runs, self.open_bytes, self.open_ops = [], 0, 0
        else:
            size = index = 0
            while index < len(runs) and (not index or size + len(runs[index]) <= limit):
                size += len(runs[index])
                index += 1
            body = b"".join(runs[:index])
            del runs[:index]
            self.open_bytes -= size
            self.open_ops -= count_ops(body)
        self.ease()
        return body

    def take_batch(self, limit: int) -> tuple[int, bytes]:
        """The same with the number of ops in it."""
        before = self.open_ops
        body = self.take(limit)
        return before - self.open_ops, body

    def ease(self) -> None:
        """Read again when the backlog has halved."""
        if self.is_full and max(self.open_bytes, self.unanswered_bytes) < self.backlog_max // 2:
            self.is_full = False
            for connection in self.connections.values():
                if not connection.paused:
                    connection.shell.resume()

    def renew(self, first: bytes = b"") -> None:
        """The view or the way to the primary has changed. `first`: a system run that must lead the next batch."""
        self.open_runs, self.open_bytes, self.open_ops = [], 0, 0
        self.queries.clear()
        if first:
            self.submit(first)
        for image in (*self.closing.values(), *self.reopening.values()):
            self.submit(image)
        for connection in list(self.connections.values()):
            connection.resend()

    def query(self, connection: Connection, query: Query) -> int:
        """Ask a query; its answer comes by `answer`."""
        self.tickets += 1
        self.queries[self.tickets] = (connection, query)
        self.poke()
        return self.tickets

    def hash_aside(self, after: float, job: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """A password's work, so many seconds from now."""

        def finish(outcome: Any) -> None:
            self.hashing -= 1
            done(outcome)

        self.hashing += 1
        self.work(after, job, finish)

    @property
    def has_unasked(self) -> bool:
        """Whether a query waits that was not given to anybody yet."""
        return self.tickets > self.sent_ticket

    def unasked(self) -> list[tuple[int, bytes, str]]:
        """Tickets, sessions and commands of the queries that have not been given to anybody yet."""
        asked = self.queries.items()
        fresh = [(ticket, connection.session, query.command) for ticket, (connection, query) in asked if ticket > self.sent_ticket]
        self.sent_ticket = self.tickets
        return fresh

    def answer(self, ticket: int, words: str) -> None:
        """The answer to a query of this replica's guests, given behind the primary's guard."""
        asked = self.queries.pop(ticket, None)
        if asked is not None:
            connection, query = asked
            query.answered(connection, words)

    def evaluate(self, session: bytes, command: str) -> str:
        """The answer to a query of this session, from the state as it is now. Only at a serving primary, and behind its guard."""
        return EVALUATE[command[0]](self, session, command[2:])

    # --- after apply ----------------------------------------------------------------------------------------------------------------------

    def applied(self, outcome: Outcome) -> None:
        """Give this replica's guests what a batch did."""
        self.last_outcome, self.before, self.last_op = outcome, self.last_op, self.state.op
        if self.place in outcome.left:
            self._reopen()
        for event in outcome.opened:
            self.reopening.pop(event.home, None)
            connection = self.connections.get(event.home)
            if connection is not None and connection.session == event.key:
                connection.opened(event)
        # Who is answered and who hears of it take turns; not where somebody lost a session, who hears of that before anything else.
        is_usual = not (outcome.opened or outcome.displaced or outcome.expelled or outcome.orphaned)
        hearers = self._hearers(outcome.filled) if is_usual else []
        by_session = self.by_session
        for session, first, replies in outcome.replies:
            connection = by_session.get(session)
            if connection is not None:
                connection.answered(first, replies)
            if hearers:
                self._show(*hearers.pop())
        self._watch_newcomers()
        for home in outcome.displaced:
            connection = self.connections.get(home)
            if connection is not None:
                connection.give_way()
        for home in outcome.closed:
            self.closing.pop(home, None)
        for session in outcome.orphaned:
            connection = by_session.get(session)
            if connection is not None:
                self.relays.part(connection)
        for session in outcome.expelled:
            connection = by_session.get(session)
            if connection is not None:
                self.relays.part(connection)
                expelled(connection)
        for name in outcome.proved:
            self.attempts.forgive(name)
        for name, connection in hearers if is_usual else self._hearers(outcome.filled):
            self._show(name, connection)
        if self.behind:
            self._catch_up()
        if self.is_full:
            self.ease()

    def when_applied(self, op: int, callback: Callable[[], None]) -> None:
        """Call it as soon as the state has applied this op: perhaps now."""
        self.behind.append((op, callback))
        self._catch_up()

    def _catch_up(self) -> None:
        behind, self.behind = self.behind, []
        self.behind += [item for item in behind if item[0] > self.state.op]
        for op, callback in behind:
            if op <= self.state.op:
                callback()

    @property
    def others_wait(self) -> bool:
        """Whether guests of other replicas hear of the last batch. If not, these need not know at once that it is committed."""
        out, here = self.last_outcome, self.by_session
        if out.opened or out.displaced or out.expelled or out.orphaned or any(session not in here for session, _, _ in out.replies):
            return True
        return any(self._has_listeners(name) for name in out.filled)

    def _has_listeners(self, name: str) -> bool:
        """Whether somebody may be shown what this mailbox, this name's words or the room was told."""
        account = self.state.accounts.get(name.removeprefix(channel("")))
        if account is None:
            return is_channel(name)  # a stream may have begun before its account
        return account.online > 0 or account.number > self.before

    def _reopen(self) -> None:
        """The others had given this replica up, and its guests are all still here."""
        for home, connection in self.connections.items():
            if connection.is_open and not connection.gone:
                self.reopening[home] = connection.open_run()
                self.submit(self.reopening[home])

    def _watch_newcomers(self) -> None:
        newcomers, self.newcomers = self.newcomers, []
        for connection in newcomers:
            self.watch(connection)

    def state_changed(self, names: set[str]) -> None:
        """Push what these accounts' guests were not shown yet."""
        for name, connection in self._hearers(names):
            self._show(name, connection)

    def _hearers(self, names: set[str]) -> list[tuple[str, Connection]]:
        """Whom something new to these accounts is pushed to."""
        watching = self.watching
        some = [name for name in names if name in watching] if len(names) < len(watching) else [name for name in watching if name in names]
        return [(name, one) for name in sorted(some) for one in watching[name]]  # a replayed day is the same day: the order of a set is not

    def _show(self, name: str, connection: Connection) -> None:
        if channel_of(connection) == name or name.startswith(channel("")):  # if not, it has left meanwhile; from a stream nobody does
            connection.push(self.state.undelivered(name, connection.account_number, connection.shown))

    def refuse_open(self, uncertain: frozenset[bytes] = frozenset()) -> None:
        """The replica is read_only. Sessions of the batch in flight wait: what they send again may yet turn out to have been done."""
        images = {id(image) for image in self.open_runs}
        self.open_runs, self.open_bytes, self.open_ops = [], 0, 0
        for connection in list(self.connections.values()):
            if connection.session not in uncertain:
                read_only.refuse(connection, images)
        self._watch_newcomers()
        self.ease()

    def replace_state(self, state: ChatState) -> None:
        """A snapshot was installed."""
        self.state = self.archive.state = state
        self.state_changed(set(self.watching))
        self._catch_up()

    def tidy(self) -> None:
        """Now and then: written deliveries of plain connections count as delivered."""
        for watchers in tuple(self.watching.values()):
            for connection in watchers:
                if connection.acked < connection.shown:
                    connection.acknowledge_written()

    def beat(self) -> None:
        """A sign of life for the guests whose protocol has one."""
        for connection in self.connections.values():
            words = connection.translator.beat()
            if words and connection.is_open:
                connection.tell(words)

    def cut_off(self, reached: tuple[int, int]) -> None:
        """Too few replicas can be reached, so many of so many; zeros: enough."""
        self.reached = reached
        for connection in list(self.connections.values()) if any(reached) else ():
            self.turn_away(connection)

    def turn_away(self, connection: Connection) -> None:
        """Nobody can be served here: it has to look elsewhere, and is told why where its protocol has a word for it."""
        connection.tell(connection.translator.trouble("cut {} {}".format(*self.reached)))
        connection.drop_line()
        connection.hang_up("")

    def close_all(self, why: str) -> None:
        """This replica is not in the view any more: nothing may be shown from its state."""
        for connection in list(self.connections.values()):
            connection.drop_line()
            connection.shell.close(why)
            connection.lost()
        self.connections.clear()
        self.relays.clear()
        self.by_session.clear()
        self.watching.clear()
        self.closing.clear()
        self.reopening.clear()
        self.queries.clear()
        self.behind.clear()
        self.unanswered_bytes = 0
        self.open_runs, self.open_bytes, self.open_ops = [], 0, 0
