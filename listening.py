"""A stream of the gRPC door: all that a name is told, its account's messages and the words about its calls, in one order.

What it is not: it knows no stream of HTTP/2 (`doors/grpc_door.py`): whoever writes takes what is next, and says how far it has written.

    come in                      as the account of that name, if there is one; whoever may not is turned away
    take ──▶ written_to ──▶ F    what was written counts as shown, unless the guest acknowledges by itself
    a wake                       there may be something to take

    the account is made, removed or made anew meanwhile    the stream comes in again, before it shows anything

Everything has a position (`told.py`). A stream takes what is above its position as soon as it is there, but no more than TAKE_MAX before it
has shown that, so that whoever reads slowly costs nothing; what another stream of the same name has shown meanwhile, a slow one misses.

Read next: `told.py`, `connection.py`.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from commands import HEARD, LIST, LOG_IN, Passwords, Refusal
from connection import Connection
from doors import Shell
from doors.calls import ENDS, MATCH, SERVER, listing, sentence
from people import Message
from told import channel, position

if TYPE_CHECKING:
    from desk import Desk

TAKE_MAX = 64  # taken and not shown yet; the rest waits in the state
BEGINS = frozenset("ci")  # words behind which a stream goes on although it was to end

Item = tuple[int, int, int, str, str]  # position, seq (0: a word), thread, sender (empty: a word), text or word


class Told(NamedTuple):
    """One message of the stream."""

    id: int
    thread: int
    sender: str
    text: str


class Listener(Connection):
    """One stream. `wake()`: there may be something to take. `turn_away(reply)`: it may not hear, and why."""

    __slots__ = (
        *("acknowledges", "after", "asked", "at", "heard_upto", "is_over", "is_refused", "is_saying", "is_tuned", "is_tuning", "matched"),
        *("name", "seq", "tuned_to", "turn_away", "waiting", "wake", "written"),
    )

    def __init__(self, desk: Desk, shell: Shell, door: str, number: int) -> None:
        super().__init__(desk, shell, door, number)
        self.name = ""
        self.asked: tuple[str, Passwords | None] = ("", None)
        self.at = self.seq = self.after = 0  # newest position taken; seq of the newest message taken; position to begin at
        self.tuned_to = 0  # number of the account that it came in as; 0: there is none of this name
        self.written = self.heard_upto = 0
        self.is_tuned = self.is_tuning = self.is_saying = self.acknowledges = self.is_over = self.is_refused = False
        self.waiting: deque[Item] = deque()  # taken, and not shown yet
        self.matched: tuple[int, str] | None = None  # position of a word, and the answer to its query

    def listen(
        self,
        name: str,
        asked: tuple[str, Passwords | None],
        *,
        after: int,
        acknowledges: bool,
        wake: Callable[[], None],
        turn_away: Callable[[str], None],
    ) -> None:
        """Begin; `asked`: how it comes in."""
        self.name, self.asked, self.after, self.at = name, asked, after, after
        self.acknowledges, self.wake, self.turn_away = acknowledges, wake, turn_away
        self.desk.watching.setdefault(channel(name), []).append(self)
        self._tune()

    def push(self, messages: Iterable[Message]) -> None:
        """There is news; what it is stands in the state."""
        self._fill()
        self.wake()

    def lost(self) -> None:
        """The stream is gone."""
        self._unwatch()
        super().lost()

    def leave(self) -> None:
        """The stream has ended, all of it written; what it was shown is still said."""
        self._unwatch()
        self.end()

    def _unwatch(self) -> None:
        watchers = self.desk.watching.get(channel(self.name), [])
        if self in watchers:
            watchers.remove(self)
            if not watchers:
                del self.desk.watching[channel(self.name)]

    # --- what it asks ---------------------------------------------------------------------------------------------------------------------

    def _tune(self) -> None:
        if not self.is_tuning:
            self.is_tuned, self.is_tuning = False, True
            command, passwords = self.asked
            self.ask(command, passwords=passwords)
            self.flush()

    def take_reply(self, command: str, reply: str) -> None:
        """For its translator."""
        if command[0] == LOG_IN:
            self._tuned(reply)
        elif command[0] == LIST and self.matched is not None:
            self.matched = (self.matched[0], reply)
        elif command[0] == HEARD:
            self.heard_upto, self.is_saying = int(command.rpartition("|")[2]), False
            self._say_heard()
        self.wake()

    def _tuned(self, reply: str) -> None:
        self.is_tuning = False
        if self.after > position(self.desk.state.time, is_word=True):
            reply = Refusal.INVALID
        if reply.startswith("!") and reply != Refusal.NO_SUCH_ACCOUNT:
            self.is_refused = True  # for good: it came in all the same, which is news for it, too
            return self.turn_away(reply)
        self.is_tuned = True
        number = int(reply.rpartition("|")[2]) if reply[0] == "l" else 0
        if number != self.tuned_to:
            self.tuned_to, self.seq = number, 0

    def written_to(self, position: int) -> None:
        """All up to there is written."""
        self.written = position
        if not self.acknowledges:
            self._say_heard()

    def _say_heard(self) -> None:
        """One at a time: the next one says all that was written meanwhile."""
        if self.written > self.heard_upto and not self.is_saying:
            self.is_saying = True
            self.ask(f"{HEARD}|{self.name}|{self.written}")
            self.flush()

    # --- what it shows --------------------------------------------------------------------------------------------------------------------

    def take(self) -> list[Told]:
        """What is next. Nothing: wait to be woken, unless it `is_over`."""
        out, waiting = list[Told](), self.waiting
        self._fill()
        while waiting and not self.is_over:
            place, _, thread, sender, text = waiting[0]
            if not sender and not (text := self._sentence(place, text)):
                break
            waiting.popleft()
            out.append(Told(place, thread, sender or SERVER, text))
        return out

    def _fill(self) -> None:
        """What waits in the state is taken, as far as there is room: another stream may have shown it in a moment."""
        account, room = self.desk.state.accounts.get(self.name), TAKE_MAX - len(self.waiting)
        if self.is_refused:
            return
        if account is not None and account.number != self.tuned_to:
            return self._tune()
        if self.is_tuned and room > 0:
            for item in islice(heapq.merge(self._messages(), self._words()), room):
                self.waiting.append(item)
                self.at, self.seq = item[0], item[1] or self.seq

    def _messages(self) -> Iterator[Item]:
        thread_of, before = self.desk.state.told.thread, self.at
        for seq, _, time, sender, text in self.desk.state.undelivered(self.name, self.tuned_to, self.seq):
            if (place := position(time, is_word=False)) > before:
                yield place, seq, thread_of(self.name, seq), sender, text

    def _words(self) -> Iterator[Item]:
        words = self.desk.state.told.after(self.name, self.at)
        return ((position(time, is_word=True), 0, thread, "", word) for time, thread, word in words)

    def _sentence(self, place: int, word: str) -> str:
        """What it says; empty: that must be asked for."""
        if word[0] == MATCH:
            if self.matched is None or self.matched[0] != place:
                self.matched = place, ""
                self.ask(listing(word))
                self.flush()
            matched = self.matched[1]
            return sentence(word, self.name, matched) if matched else ""
        self.is_over = word[0] in ENDS and not any(later[0] in BEGINS for later in self._later())
        return sentence(word, self.name)

    def _later(self) -> Iterator[str]:
        """Words behind the one that is next."""
        yield from (item[4] for item in islice(self.waiting, 1, None) if not item[3])
        yield from (item[4] for item in self._words())
