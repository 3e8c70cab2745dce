"""One guest's connection: its line of unanswered requests, what it was shown of its mailbox, its retries when the primary changes.

What it is not: it knows no socket (its shell is an object with `write` and `close`), no byte of a protocol (its translator does), no other
guest (`desk.py` does), and it applies nothing: replies come from the state, by way of the desk.

    a connection's line of unanswered things, oldest first: `Run`, `Query`, `Said`, `Proof` of `waiting.py`

Invariants:
- Replies leave a connection in the order of its requests, each once.
- What is unanswered is sent again, in order and with the same numbers, whenever the view or the link to the primary changes.
- A delivery is read from the state, above what this connection was shown, so nothing can be skipped or shown twice.

Read next: `waiting.py`, `desk.py`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

from commands import NO_SESSION, NOT_AS_IT_IS, QUERIES, STRICT, WINDOW, Passwords, system_run
from doors import TRANSLATORS, Guest, Render, Shell, Translator
from noting import note, out_of_step
from people import DEAF, Message, Opened
from reading import query_of
from waiting import Proof, Query, Run, Said

if TYPE_CHECKING:
    from desk import Desk


class Connection(Guest):
    """One guest's connection; what `doors.Guest` promises to translators."""

    __slots__ = (
        *("account", "account_number", "acked", "base", "blocked", "bytes_unanswered", "count", "desk", "door", "ended", "filling", "gone"),
        *("holes", "home", "is_open", "is_plain", "is_watched", "kind", "line", "low", "opening", "owed", "paused", "peer", "provisional"),
        *("seen", "session", "shell", "shown", "skip", "told", "translator", "unanswered", "withheld"),
    )
    __deletable__ = ("translator",)  # for a compiled form: the desk does, when all is over

    def __init__(self, desk: Desk, shell: Shell, door: str, number: int) -> None:
        self.desk, self.shell, self.door, self.peer = desk, shell, door, shell.peer
        self.session, self.kind, self.is_plain = b"", "", False
        self.is_watched = desk.console is not None
        self.home = f"{desk.place}.{number}"
        self.opening = self.is_open = self.ended = self.gone = self.paused = False
        self.account, self.account_number, self.seen = "", 0, 0  # number 0: it is a name in the room
        self.base = 0  # what is not above it was waiting when a plain guest logged in, and waits on until it is read
        self.shown = self.acked = 0
        self.owed = 0  # oldest request whose answer the resumed guest lacks; 0: none
        self.told = 0  # newest request of the log that the guest has the answer to
        self.provisional = False  # taken up without the log, by a replica that is read_only
        self.withheld = False  # something waits to be pushed until `told` has come level with the log
        self.holes: list[tuple[int, int]] = []  # of the seqs up to `shown`, those that were not pushed to this connection
        self.line: deque[Run | Query | Said] = deque()
        self.filling: Run | None = None  # takes the commands of the chunk that is being read
        self.count = 0  # newest request number
        self.low = 0
        self.skip = 0  # numbers directly before the next run that never enter the log
        self.blocked = 0  # queries in the line: nothing behind the first is sent
        self.unanswered = self.bytes_unanswered = 0
        self.translator: Translator = TRANSLATORS[door](self)

    # --- for the shell -----------------------------------------------------------------------------------------------------------------

    def feed(self, chunk: bytes) -> bool:
        """Bytes from the guest. Returns whether unfinished bytes wait for silence."""
        waits = self.translator.feed(chunk)
        self.flush()
        if self.desk.reached[1]:
            self.desk.turn_away(self)
            return False
        return waits

    def quiet(self) -> None:
        """Silence."""
        self.translator.quiet()
        self.flush()

    def end(self) -> None:
        """The guest sends nothing more; what it has sent is still done and answered."""
        if not self.gone:
            self.translator.end()
            self.flush()
            self.ended = True
            self.desk.unwatch(self)
            if not self.line:
                self._emptied()

    def lost(self) -> None:
        """The socket is gone. A guest that resumes sends again by itself; for a plain one the rest of its line is still done."""
        if self.gone:
            return
        self.gone = True
        self.desk.unwatch(self)
        if self.translator.is_resumable():
            self.drop_line()
        if not self.line:
            self._emptied()

    def drop_line(self) -> None:
        """Nothing of it will be answered here any more."""
        self.line.clear()
        self.desk.unanswered_bytes -= self.bytes_unanswered
        self.bytes_unanswered = self.unanswered = self.blocked = 0

    # --- for the translator ---------------------------------------------------------------------------------------------------------------

    def open(self, session: bytes, kind: str, seen: int, owed: int = 0) -> None:
        self.session, self.seen, self.owed, self.is_plain = session, seen, owed, kind == "plain"
        self.kind = kind if self.translator.listens or kind == "resumed" else kind + DEAF
        self.opening = True
        self.desk.register(self)
        self.desk.submit(self.open_run())

    def open_run(self) -> bytes:
        """The system command by which this connection takes up its session."""
        return system_run(f"open|{self.session.hex()}|{self.home}|{self.kind}")

    def ask(self, command: str, number: int = 0, low: int = 0, passwords: Passwords | None = None) -> None:
        number = self._count(number, 1, low)
        if not number:
            return
        if command[0] in NOT_AS_IT_IS:
            if passwords:
                return self._hold_back(Proof(number, self.skip, command, passwords), 0)
            if self.desk.is_strict and command[0] in STRICT:
                command = f"{command}|{STRICT[command[0]]}"
            if command[0] in QUERIES:
                return self._hold_back(query_of(number, command), self.skip + 1)
        filling = self.filling
        if filling is None:
            filling = self.filling = Run(number, self.skip, [])
            self.skip = 0
        filling.commands.append(command)

    def _hold_back(self, item: Query, skip: int) -> None:
        """Nothing behind it is sent until it is through."""
        self._seal()
        self.line.append(item)
        self.blocked += 1
        self.skip = skip

    def ask_all(self, commands: list[str], render: Render, first: int = 0, low: int = 0) -> None:
        self._seal()  # what was asked one by one stands ahead
        first = self._count(first, len(commands), low)
        if first:
            item = Run(first, self.skip, commands)
            item.render, self.skip = render, 0
            self._place(item)

    def _count(self, first: int, count: int, low: int) -> int:
        """The number of the first of so many requests, which follow the last one; 0: it does not."""
        if not self.opening:
            self.open(self.desk.dice(len(NO_SESSION)), "plain", 0)
        if not first:
            first = self.count + 1
        elif first != self.count + 1 and self.count:
            self._misnumbered(first)
            return 0
        self.count = first + count - 1
        if low > self.low:
            self.low = low
        self.unanswered += count
        return first

    def say(self, reply: bytes, number: int = 0) -> None:
        if number:
            if self.count and number != self.count + 1:
                return self._misnumbered(number)
            self.count = number
            self.skip += 1
        self._seal()
        self.unanswered += 1
        self.line.append(Said(self.translator.frame(number, reply)))

    def _misnumbered(self, number: int) -> None:
        self.tell(self.translator.trouble(f"gap {self.count + 1}"))
        self.hang_up(f"request {number} does not follow {self.count}")

    def acknowledge(self, upto: int) -> None:
        self.flush()
        if self.account_number and upto > self.acked:
            self.acked = min(upto, self.shown)
            self.desk.submit(self.ack_run())

    def ack_run(self) -> bytes:
        """The system command that trims the account's mailbox."""
        return system_run(f"ack|{self.account}|{self.account_number}|{self.base}|{self.acked}")

    def tell(self, words: bytes) -> None:
        if words and not self.gone:
            self.shell.write(words)

    def hang_up(self, why: str) -> None:
        self.shell.close(why)

    def give_way(self) -> None:
        """A newer connection has this one's session."""
        self.tell(self.translator.trouble("newer"))
        self.hang_up("another connection took its session over")

    def pair(self, account: str) -> bool:
        return self.desk.relays.pair(self, account)

    def become(self, translator: Translator) -> None:
        self.translator = translator

    def describe_cluster(self) -> bytes:
        return self.desk.describe_cluster(self.door)

    def watch(self, line: str) -> None:
        if self.desk.console is not None:
            self.desk.console(line)

    # --- the line of unanswered things ----------------------------------------------------------------------------------------------

    def _seal(self) -> None:
        """The run that was being filled is complete: send it, unless a query stands before it."""
        filling, self.filling = self.filling, None
        if filling is not None:
            self._place(filling)

    def _place(self, item: Run) -> None:
        item.complete(self)
        self.line.append(item)
        if not self.blocked:
            self._send(item)

    def flush(self) -> None:
        """A chunk is read."""
        if self.filling is not None:
            self._seal()
        if self.line and type(self.line[0]) is not Run:
            self.advance()
        if self.unanswered >= WINDOW and not self.paused:
            self.paused = True
            self.shell.pause()

    def advance(self) -> None:
        """Give what is due at the front; ask the query that stands there."""
        line = self.line
        while line:
            front = line[0]
            if self.opening and not self.is_open:
                return  # the guest hears first that its session is there; its account and earlier requests are not known here before
            if isinstance(front, Said):
                line.popleft()
                self.unanswered -= 1
                self.tell(front.words)
                if front.upto > self.told:
                    self.told = front.upto
                    self.desk.watch(self)  # what was withheld for this answer
            else:
                if isinstance(front, Query) and not front.ticket:
                    front.begin(self)
                return
        self._emptied()

    def _send(self, item: Run) -> None:
        item.sent = True
        if self.acked < self.shown:
            self.acknowledge_written()
        self.desk.submit(item.image, len(item.commands))

    def _emptied(self) -> None:
        """All is answered: a guest that has said good-bye may go."""
        if self.account and (self.ended or self.gone):
            self.watch(self.translator.farewell())
        if self.ended and not self.gone:
            self.gone = True
            self.shell.close("")
        if self.gone:
            self.desk.dismiss(self)

    def acknowledge_written(self) -> None:
        """A guest that cannot acknowledge does so by its socket: what is written counts, before any later command of it runs."""
        if self.account_number and self.acked < self.shown and not self.translator.is_resumable() and self.shell.is_drained():
            self.acked = self.shown
            self.desk.submit(self.ack_run())

    def answered(self, first: int, replies: list[str]) -> None:
        """This replica has applied a run of this session."""
        if not self.is_open:
            return  # by the connection before this one, in the batch that the last primary left; this one's copy follows its `open`
        line = self.line
        front = line[0] if line else None
        if type(front) is not Run:
            return
        count = len(replies)
        if front.render is None or front.first != first or len(front.commands) != count or not front.commands[0]:
            words = self._answered_singly(first, replies)
        elif replies[0].startswith(("!GAP", "!SESSION")):
            return out_of_step(self, replies[0])
        else:
            words = front.render(first, front.commands, replies)
            self.told = first + count - 1
            if self.is_plain:
                self.low = self.told
            self.unanswered -= count
            self._pop_run(front)
        self.tell(words)
        if self.withheld:
            self.withheld = False
            self.desk.newcomers.append(self)
        if not line:
            self._emptied()
        elif type(line[0]) is not Run:
            self.advance()
        if self.paused:
            self.ease()

    def _answered_singly(self, first: int, replies: list[str]) -> bytes:
        """The same for commands of any kind, perhaps of an older copy of the run that holds only some of them."""
        line, out = self.line, []
        render = self.translator.render
        for number, reply in enumerate(replies, first):
            front = line[0] if line else None
            if not isinstance(front, Run):
                break
            index = number - front.first
            if index < 0 or index >= len(front.commands) or not front.commands[index]:
                continue  # an older copy of the run
            if reply.startswith(("!GAP", "!SESSION")):
                out_of_step(self, reply)
                break
            command, front.commands[index] = front.commands[index], ""
            out.append(render(number, command, reply if command[0] == "S" else note(self, command, reply)))
            self.told = number
            if self.is_plain:
                self.low = number
            self.unanswered -= 1
            if index == len(front.commands) - 1:
                self._pop_run(front)
        return b"".join(out)

    def _pop_run(self, front: Run) -> None:
        self.line.popleft()
        size = len(front.image)
        self.bytes_unanswered -= size
        self.desk.unanswered_bytes -= size

    def ease(self) -> None:
        """Read again when half of what was asked is answered."""
        if self.paused and self.unanswered < WINDOW // 2:
            self.paused = False
            if not self.desk.is_full:
                self.shell.resume()

    def take_answer(self, query: Query, words: str) -> None:
        """The answer to the query at the front."""
        line = self.line
        if line and line[0] is query:
            line.popleft()
            self.unanswered -= 1
            self.blocked -= 1
            self.tell(self.translator.render(query.number, query.command, words))
            self._send_on()
            self.advance()
            self.ease()

    def settle(self, proof: Proof, command: str) -> None:
        """What stood at the front for the sake of a password is an ordinary command now."""
        line = self.line
        if line and line[0] is proof:
            line[0] = settled = Run(proof.number, proof.skip, [command])
            settled.complete(self)
            self.blocked -= 1
            self._send_on()

    def _send_on(self) -> None:
        """Nothing stands any more before what was held back."""
        for item in self.line:
            if isinstance(item, Query):
                break
            if isinstance(item, Run) and not item.sent:
                self._send(item)

    def resend(self) -> None:
        """The view or the way to the primary has changed: send again, in order, all that is unanswered."""
        if self.opening and (self.provisional or not self.is_open):
            self.desk.submit(self.open_run())
        if self.is_open and self.account and self.acked > self.base:
            self.desk.submit(self.ack_run())
        for item in self.line:
            if isinstance(item, Query):
                item.ticket = 0
                break
            if isinstance(item, Run):
                item.sent = True
                self.desk.submit(item.image, len(item.commands))
        if self.line:
            self.advance()

    # --- deliveries -----------------------------------------------------------------------------------------------------------------------

    def opened(self, event: Opened) -> None:
        """The session is taken up; a resumed guest is logged in again."""
        if self.is_open:
            self.provisional = False
            return
        self.is_open = True
        if not event.known:
            self.tell(self.translator.trouble("session"))
            return self.hang_up("the session is not known any more")
        if event.account and not self.account:
            self.account, self.account_number = event.account, event.number
            self.shown, self.acked, self.base = max(self.seen, event.since), 0, 0
        self.tell(self.translator.opened(event.last, event.seq))
        self.told = max(self.told, self.owed - 1 if self.owed else event.last)
        self.desk.newcomers.append(self)
        if self.line:
            self.advance()

    def push(self, messages: Iterable[Message]) -> None:
        """New messages of the account; not before the answers to all that the log has done for this guest: they may show older ones."""
        session = self.desk.state.sessions.get(self.session)
        if session is not None and session.last > self.told:
            self.withheld = True
            return
        fresh = tuple(messages)
        if not fresh:
            return
        if fresh[-1][0] > self.shown + len(fresh):
            for message in fresh:
                if message[0] > self.shown + 1:  # read meanwhile, maybe by this guest, by a request that it did not say it lacks (OWED)
                    self.holes.append((self.shown + 1, message[0] - 1))
                self.shown = message[0]
        self.shown = fresh[-1][0]
        self.tell(self.translator.push(fresh))
