"""What the guests of the gRPC door are told: each call names an account, and what came of it is told to that name. Part of `apply`.

What it is not: it knows no stream and no protocol. A word is a letter and its field; the door gives it its sentence (`doors/calls.py`).

    M | name | verb | thread | request | rest | proof

    verb   rest               does                        tells name               or refuses
    c                         makes the account           c · t, taken             taken, by an account with a password
    i                         nothing; it may come in     i · u, unknown           the proof is not right, blocked
    o                         nothing                     o · u                    as i
    d                         removes it, with its mail   d · u                    as i
    w      pattern            nothing                     w and the pattern · u    as i
    s      recipient | text   sends                       s · n, nobody · u        as i
                                                          · f and the name, whose mailbox is full
    k      position           as `F`                      nothing                  as i; a position that has not been

    thread    a number of the guest's own, given back with the word and with the message
    request   empty, or the guest's name for this call: when it comes again, it is not done again, and not told again

A name need not be an account's: who logs in to nobody is told so. What nobody may hear without a password is told to nobody: calls that
have not proved what they must are refused, and an account that is made with a password hears nothing that was told to its name before.

    words      wait until `F` says that they were shown: WORDS_MAX a name (WORDS_HERE_MAX while one of its guests is here), a minute
    requests   the newest REQUESTS_MAX of all

Messages and words of a name have one order, their positions: twice the time of the command, which is never the same for two, and for a word
one more, since a message and the word about it may be told to the same name. `F` and `k` speak of positions.

Read next: `listening.py`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from commands import Refusal
from people import Account, Outcome, Session
from rights import refusal
from room import ROOM

if TYPE_CHECKING:
    from state import ChatState

WORDS_MAX = 100  # that wait for a name of which nobody is here
WORDS_HERE_MAX = 10_000  # for one that somebody is here of: they are on their way
WORDS_LIFE_US = 60 * 1_000_000  # microseconds a word waits
ALL_WORDS_MAX = 100_000  # that wait for anybody: anybody can be made to be told something
REQUESTS_MAX = 100_000  # remembered; a guest that asks again does so within seconds, and at 5,000 calls a second this is twenty
THREADS_SPARE = 16  # numbers of threads an account keeps beyond twice its mailbox

Word = tuple[int, int, str]  # time, thread, letter and field


def position(time: int, *, is_word: bool) -> int:
    """Of what is told, among all that one name is told."""
    return 2 * time + is_word


def channel(name: str) -> str:
    """Where news of this name's words are told; no name holds a bar."""
    return f"|{name}"


def is_channel(name: str) -> bool:
    """Whether it is where words are told, or the room, and no name."""
    return name[0] == "|" or name == ROOM


class Told:
    """`words`: by name and time. `order`: all of them by time. `threads`: by account and seq of the message.

    Where the oldest goes again and again, a plain dict would look for it through all the places of those that have gone.
    """

    def __init__(self) -> None:
        self.words: dict[str, dict[int, Word]] = {}
        self.order: OrderedDict[int, str] = OrderedDict()
        self.requests: OrderedDict[tuple[str, str, str], str] = OrderedDict()  # name, verb, request -> reply
        self.threads: dict[str, dict[int, int]] = {}

    def after(self, name: str, place: int) -> Iterator[Word]:
        """Words of this name above this position, oldest first."""
        return (word for word in self.words.get(name, {}).values() if position(word[0], is_word=True) > place)

    def thread(self, name: str, seq: int) -> int:
        """The thread of this account's message."""
        threads = self.threads.get(name)
        return threads.get(seq, 0) if threads else 0

    def is_stale(self, time: int) -> bool:
        """Whether some word has waited for too long."""
        return bool(self.order) and time - next(iter(self.order)) >= WORDS_LIFE_US

    def expire(self, time: int) -> None:
        """What has waited for too long is forgotten."""
        while self.is_stale(time):
            self._forget(next(iter(self.order)))

    def tell(self, name: str, word: Word, most: int) -> None:
        """This is told to this name, of which at most so many words may wait."""
        time = word[0]
        self.expire(time)
        words = self.words.setdefault(name, {})
        words[time] = word
        self.order[time] = name
        if len(words) > most:
            self._forget(next(iter(words)))
        if len(self.order) > ALL_WORDS_MAX:
            self._forget(next(iter(self.order)))

    def trim(self, name: str, upto: int) -> None:
        """Words of this name up to this position have been shown."""
        words = self.words.get(name)
        while words and position(time := next(iter(words)), is_word=True) <= upto:
            self._forget(time)

    def remember(self, name: str, verb: str, request: str, reply: str) -> None:
        """This call was done."""
        self.requests[name, verb, request] = reply
        if len(self.requests) > REQUESTS_MAX:
            del self.requests[next(iter(self.requests))]

    def keep_thread(self, account: Account, thread: int) -> None:
        """The newest message of this account belongs to this thread."""
        threads = self.threads.setdefault(account.name, {})
        threads[account.last_seq] = thread
        if account.mailbox and len(threads) > 2 * len(account.mailbox) + THREADS_SPARE:
            oldest = account.mailbox[0][0]
            self.threads[account.name] = {seq: number for seq, number in threads.items() if seq >= oldest}

    def put(self, name: str, word: Word) -> None:
        """A word as a table has it."""
        self.words.setdefault(name, {})[word[0]] = word
        self.order[word[0]] = name

    def _forget(self, time: int) -> None:
        name = self.order.pop(time)
        words = self.words[name]
        del words[time]
        if not words:
            del self.words[name]


# --- commands -----------------------------------------------------------------------------------------------------------------------------


class Call(NamedTuple):
    """One call, as it stands in the log."""

    name: str
    verb: str
    thread: int
    rest: str
    proof: str
    op: int
    time: int


def act(state: ChatState, session: Session, line: str, op: int, time: int, out: Outcome) -> str:
    """A call; see the module's page."""
    _, name, verb, thread, request, rest = line.split("|", 5)
    rest, _, proof = rest.rpartition("|")
    call = Call(name, verb, int(thread or 0), rest, proof, op, time)
    known = state.told.requests.get((name, verb, request)) if request else None
    if known is not None:
        return known
    return _carry_out(state, call, request, out)


def _carry_out(state: ChatState, call: Call, request: str, out: Outcome) -> str:
    """A verb changes something only in its last steps, and nothing behind those can fail."""
    told, name = state.told, call.name
    word = VERBS[call.verb](state, call, out)
    if word.startswith("!"):
        return word
    reply = f"y|{call.time}"
    if request:
        told.remember(name, call.verb, request, reply)
    if word:
        account = state.accounts.get(name)
        told.tell(name, (call.time, call.thread, word), WORDS_HERE_MAX if account is not None and account.online else WORDS_MAX)
        out.filled.add(channel(name))
    return reply


def heard(state: ChatState, session: Session, line: str, op: int, time: int, out: Outcome) -> str:
    """By a stream, which has come in itself where that takes a password."""
    _, name, upto = line.split("|")
    account = state.accounts.get(name)
    if account is not None and account.secret and session.account is not account:
        return Refusal.NOT_LOGGED_IN
    shown, reply = int(upto), f"y|{upto}"
    _trim(state, name, shown)
    return reply


def _trim(state: ChatState, name: str, upto: int) -> None:
    state.told.trim(name, upto)
    account = state.accounts.get(name)
    mailbox = account.mailbox if account is not None else None
    while mailbox and position(mailbox[0][2], is_word=False) <= upto:
        mailbox.popleft()


# --- verbs: the word that is told, or a refusal -------------------------------------------------------------------------------------------


def _create(state: ChatState, call: Call, out: Outcome) -> str:
    refused = state.why_not(call.name, call.proof)
    if refused == Refusal.NAME_TAKEN:
        account = state.accounts.get(call.name)
        return refused if account is not None and account.secret else "t"
    if refused:
        return refused
    state.add(Account(call.name, call.op, call.proof, since=state.message_count))
    if call.proof:
        state.told.trim(call.name, position(call.time, is_word=True))
    return "c"


def _acknowledge(state: ChatState, call: Call, out: Outcome) -> str:
    refused, upto = refusal(state.accounts.get(call.name), call.proof), int(call.rest)
    if refused not in ("", Refusal.NO_SUCH_ACCOUNT):
        return refused
    if upto > position(call.time, is_word=True):
        return Refusal.INVALID
    _trim(state, call.name, upto)
    return ""


def _as_member(verb: Verb) -> Verb:
    """The verb, for those who may act in this name; it is not the name of a hidden account any more."""

    def entered(state: ChatState, call: Call, out: Outcome) -> str:
        refused = refusal(state.accounts.get(call.name), call.proof)
        if refused:
            return "u" if refused == Refusal.NO_SUCH_ACCOUNT else refused
        word = verb(state, call, out)
        state.hidden.pop(call.name, None)
        return word

    return entered


def _log_in(state: ChatState, call: Call, out: Outcome) -> str:
    if call.proof:
        out.proved.append(call.name)
    return "i"


def _log_out(state: ChatState, call: Call, out: Outcome) -> str:
    return "o"


def _match(state: ChatState, call: Call, out: Outcome) -> str:
    return f"w{call.rest}"


def _delete(state: ChatState, call: Call, out: Outcome) -> str:
    state.remove(state.accounts[call.name], out)
    return "d"


def _send(state: ChatState, call: Call, out: Outcome) -> str:
    whom, text = call.rest.split("|", 1)
    account = state.accounts.get(whom) or state.by_id(whom)
    if account is None:
        return "n"
    reply = state.send(state.accounts[call.name], account.name, text, call.time, out)
    if reply == Refusal.MAILBOX_FULL:
        return f"f{account.name}"
    if reply.startswith("!"):
        return reply
    if call.thread:
        state.told.keep_thread(account, call.thread)
    return "s"


Verb = Callable[["ChatState", Call, Outcome], str]
VERBS: dict[str, Verb] = {
    "c": _create,
    "i": _as_member(_log_in),
    "o": _as_member(_log_out),
    "d": _as_member(_delete),
    "w": _as_member(_match),
    "s": _as_member(_send),
    "k": _acknowledge,
}
