"""The contract between a guest's socket, its connection and its door's translator: what each may ask of the others.

What it is not: nothing is done here. Base classes, not protocols: a compiled form calls these without looking for them.

    Guest        what a translator may ask of its connection      `connection.Connection` keeps this promise
    Translator   what a connection asks of its translator         every file in `doors/` with a translator keeps this one
    Shell        what a connection asks of its socket's side      `stream.StreamShell`, and whoever has no socket
    Silent       a translator that says nothing                   for those who have something to say of a few questions only

Read next: `doors/lines.py`, `connection.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from mypy_extensions import mypyc_attr

from commands import Passwords

Message = tuple[int, int, int, str, str]  # seq, id, time, sender, text; as `people.Message`
COMMANDS_AT_ONCE = 512  # of one guest, in one turn of the loop: some 5 ms of it at the most
Render = Callable[[int, list[str], list[str]], bytes]  # first number, commands and their replies to the door's words


@mypyc_attr(allow_interpreted_subclasses=True)
class Shell(ABC):
    """What a connection asks of its socket's side (`stream.StreamShell`)."""

    address: str  # of the guest, without its port
    peer: str  # the same with it

    @abstractmethod
    def write(self, words: bytes) -> None: ...
    @abstractmethod
    def close(self, why: str) -> None: ...
    @abstractmethod
    def pause(self) -> None: ...
    @abstractmethod
    def resume(self) -> None: ...
    @abstractmethod
    def is_drained(self) -> bool:
        """Whether all that was written has gone into the socket."""


class Guest(ABC):
    """What a translator may ask of its connection (`connection.Connection`)."""

    __slots__ = ()

    account: str
    peer: str  # address and port
    is_watched: bool  # whether anybody sees what `watch` is given

    @abstractmethod
    def open(self, session: bytes, kind: str, seen: int, owed: int = 0) -> None:
        """Take up this session: kind is `numbered` or `resumed`; `seen`: newest message the guest has displayed.

        `owed`: oldest request whose answer it lacks; what was read by it comes before what waits now.
        """

    @abstractmethod
    def ask(self, command: str, number: int = 0, low: int = 0, passwords: Passwords | None = None) -> None:
        """An encoded command; number 0: the connection counts by itself.

        With passwords it lacks, at its end, the proof of the old one or the hash of the new one, or both in this order; whatever comes
        behind it waits while they are worked out.
        """

    @abstractmethod
    def ask_all(self, commands: list[str], render: Render, first: int = 0, low: int = 0) -> None:
        """All that a chunk asks: encoded commands, none of them a query, none that changes who the guest is; `first` as in `ask`."""

    @abstractmethod
    def say(self, reply: bytes, number: int = 0) -> None:
        """An answer that needs nobody, given in its turn."""

    @abstractmethod
    def acknowledge(self, upto: int) -> None:
        """The guest has displayed messages up to this seq."""

    @abstractmethod
    def tell(self, words: bytes) -> None:
        """Bytes for now, whatever else is waiting."""

    @abstractmethod
    def hang_up(self, why: str) -> None:
        """Close the connection; `why` goes to the log."""

    @abstractmethod
    def pair(self, account: str) -> bool:
        """Be the relay of a command connection that is logged in to this account; False: none waits for one."""

    @abstractmethod
    def become(self, translator: Translator) -> None:
        """From here on this one translates: nothing was asked yet."""

    @abstractmethod
    def describe_cluster(self) -> bytes:
        """The replicas and this door's ports, as JSON."""

    @abstractmethod
    def watch(self, line: str) -> None:
        """A line for people who watch the server's console."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Translator(ABC):
    """The pure half of a door."""

    greeting: bytes
    rest: bytes  # unfinished bytes
    listens: bool  # whether the door shows messages; whoever is logged in at another one is not online for that

    @abstractmethod
    def feed(self, chunk: bytes) -> bool:
        """Bytes from the guest, cut anywhere. Returns whether unfinished bytes wait for `quiet`."""

    @abstractmethod
    def share(self, chunk: bytes) -> int:
        """So many bytes of it hold no more than about COMMANDS_AT_ONCE commands; the rest is fed in later turns of the loop."""

    @abstractmethod
    def quiet(self) -> None:
        """Nothing came for `QUIET_AFTER` seconds."""

    @abstractmethod
    def end(self) -> None:
        """The guest has closed its sending side."""

    @abstractmethod
    def opened(self, last: int, seq: int) -> bytes:
        """The session is there: newest request executed, newest message of its account."""

    @abstractmethod
    def trouble(self, word: str) -> bytes:
        """Why this replica does not go on with it: `session`, `newer`, `gap N` or `cut REACHED OF`; a relay: `parted`."""

    @abstractmethod
    def render(self, number: int, command: str, reply: str) -> bytes:
        """The reply to this command in the door's words."""

    @abstractmethod
    def frame(self, number: int, words: bytes) -> bytes:
        """An answer of `say` in its frame."""

    @abstractmethod
    def push(self, messages: tuple[Message, ...]) -> bytes:
        """Deliveries, in their order."""

    @abstractmethod
    def is_resumable(self) -> bool:
        """Whether the guest comes back with the same session after a broken connection, and acknowledges deliveries itself."""

    @abstractmethod
    def shows_waiting(self) -> bool:
        """Whether what waited in the mailbox is pushed after a log-in, too."""

    @abstractmethod
    def farewell(self) -> str:
        """What people at the console see when a guest that was logged in is gone."""

    @abstractmethod
    def beat(self) -> bytes:
        """A sign of life, if the protocol has one."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Silent(Translator):
    """Nothing comes as bytes, nothing is said: answers for those to whom only some of these questions mean anything."""

    greeting = b""
    rest = b""
    listens = False

    def __init__(self, guest: Guest) -> None:
        self.guest = guest

    def feed(self, chunk: bytes) -> bool:
        """Nothing comes as bytes."""
        return False

    def share(self, chunk: bytes) -> int:
        return len(chunk)

    def quiet(self) -> None:
        """Silence means nothing here."""

    def end(self) -> None:
        """Nothing is unfinished."""

    def opened(self, last: int, seq: int) -> bytes:
        return b""

    def trouble(self, word: str) -> bytes:
        return b""

    def render(self, number: int, command: str, reply: str) -> bytes:
        raise NotImplementedError

    def frame(self, number: int, words: bytes) -> bytes:
        return words

    def push(self, messages: tuple[Message, ...]) -> bytes:
        return b""

    def is_resumable(self) -> bool:
        return False

    def shows_waiting(self) -> bool:
        return False

    def farewell(self) -> str:
        return ""

    def beat(self) -> bytes:
        return b""
