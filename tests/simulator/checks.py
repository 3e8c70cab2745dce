"""What is promised to guests: every answer they get, everything that is displayed to them, and the end of the story.

What it is not: it changes nothing. What replicas owe each other is `invariants.py`.

    canon        the one committed log: the first replica that applies a batch writes it here, all others must apply the same
    spec         what the log means (`spec.py`)
    files        each new snapshot's messages equal the log's
    guests       replies equal the log's results and come after the commit; queries equal one moment between call and return;
                 messages are displayed once, in order, none left out

Read next: `faults.py`.
"""

from __future__ import annotations

import csv
import io
import itertools
from typing import Any

from doors.pipe_words import UNREADABLE
from tests.simulator import witness
from tests.simulator.blind import Displayed, Seen, judge
from tests.simulator.guests import Asked, SimGuest
from tests.simulator.invariants import Invariants
from tests.simulator.spec import Account, LogSpec, Spec
from tests.simulator.world import Process, Violation, World

Outcome = tuple[str, ...]
MessageRow = tuple[int, int, str, str, str]  # number, time, sender, recipient, text
PASSING = ("!GAP", "!SESSION", "!DONE")  # what a repetition may be told instead of its reply


class LogChecks(Invariants):
    """What every state owes, whatever it is: one log, one digest at each op, one reply to each request. `spec` says what the log means."""

    def __init__(self, world: World, spec: LogSpec) -> None:
        super().__init__(world)
        self.spec: Any = spec
        self.canon: dict[int, tuple[int, int, bytes]] = {}  # first op -> count, time, body
        self.replies: dict[tuple[bytes, int], str] = {}
        self.next_time = 0  # what the time of the next batch may not be below
        self.unharmed: dict[int, float] = {}  # replicas of whose damaged file there is another copy, and when it was damaged
        self.guests: list[Any] = []
        self.acked_op = 0
        self.gaps = 0
        self.abandoned: list[tuple[str, Asked]] = []  # of sessions that never were
        self.counted = {
            "acknowledged": 0,
            "displayed": 0,
            "views": 0,
            "windows": 0,
            "in windows": 0,
            "undecided": 0,
            "looked back": 0,
            "rows": 0,
        }

    # --- the log --------------------------------------------------------------------------------------------------------------------------

    def on_apply(self, process: Process, first_op: int, count: int, time: int, body: bytes, digest: int, outcome: Any) -> None:
        """A replica executes a batch."""
        if self.seen_version != self.world.files.version:
            self.look_at_register()
        self.looked[6] += 1
        self.looked[14] += 1
        known = self.canon.get(first_op)
        what = (count, time, body)
        if known is not None and known != what:
            self.fail(f"two commits of op {first_op}: replica {process.id} applies another batch than the others")
        self.saw_wrong |= process.was_wrong
        # One whose memory is wrong may lead, alone, before anybody is there to be compared with it.
        if not process.was_wrong and self.digests.setdefault(first_op + count - 1, digest) != digest:
            self.fail(f"state of replica {process.id} differs after op {first_op + count - 1}")
        if known is not None:
            return
        if first_op != self.spec.op + 1:
            self.fail(f"replica {process.id} commits op {first_op} while op {self.spec.op + 1} is missing: acknowledged batches are lost")
        self.canon[first_op] = what
        if time < self.next_time:
            self.fail(f"the time of op {first_op} is {time}, and that of the op before was {self.next_time - 1}")
        self.next_time = time + count
        try:
            self.spec.apply(first_op, count, body)
        except AssertionError as error:
            self.fail(f"op {first_op}: {error}")
        self._keep_replies(outcome)
        self.on_commit(process, self.spec.op)

    def _keep_replies(self, outcome: Any) -> None:
        """The reply to a request never changes, however often it is sent again."""
        self.looked[12] += 1
        for key, first, replies in outcome.replies:
            for number, reply in enumerate(replies, first):
                if not reply.startswith(PASSING) and self.replies.setdefault((key, number), reply) != reply:
                    self.fail(f"request {number} of {key.hex()} is answered {reply!r}, and was {self.replies[key, number]!r}")

    def after_step(self, process: Process) -> None:
        super().after_step(process)
        witness.look(process)

    def on_start(self, process: Process) -> None:
        witness.attach(process)
        super().on_start(process)

    def bounds(self, process: Process) -> None:
        super().bounds(process)
        witness.look_at_sessions(process)

    def on_view(self, before: Any, view: Any) -> None:
        self.counted["views"] += 1
        super().on_view(before, view)

    # --- guests ---------------------------------------------------------------------------------------------------------------------------

    def answered(self, guest: Any, asked: Asked, words: str) -> Outcome:
        """A reply has come."""
        raise NotImplementedError

    def logged(self, guest: Any, asked: Asked, words: str) -> Outcome:
        """What the log says the answer to this request is. Nobody may have it before."""
        found: tuple[int, Outcome] | None = self.spec.results.get((guest.session, asked.number))
        if found is None:
            raise Violation(f"{guest.name}'s request {asked.number} {asked.line!r} was answered {words!r} before it was committed")
        self.acked_op = max(self.acked_op, found[0])
        return found[1]

    # --- the end --------------------------------------------------------------------------------------------------------------------------

    def at_end(self) -> None:
        """All is healed and quiet."""
        world = self.world
        tables = {}
        for process in world.living():
            state = process.server.state
            if state.op != self.spec.op:
                self.fail(f"replica {process.id} ends at op {state.op}, committed is {self.spec.op}")
            tables[process.id] = {name: list(rows) for name, (_, rows) in state.tables().items()}
        first = next(iter(tables.values()))
        if any(t != first for t in tables.values()):
            self.fail("tables differ at equal op")
        self.compare_folders()
        self.compare_state(world.living()[0].server.state)

    def compare_state(self, state: Any) -> None:
        """The program's state against the specification's."""
        raise NotImplementedError


class Checks(LogChecks):
    """The chat's."""

    spec: Spec

    def __init__(self, world: World) -> None:
        super().__init__(world, Spec())
        self.shown: dict[tuple[str, int], list[str]] = {}
        self.history: list[Seen] = []  # for the blind opinion
        self.displays_seen: list[Displayed] = []
        self.refused: list[tuple[bytes, int]] = []
        self.written: list[tuple[int, MessageRow]] = []  # op -> what has to stand in the message files
        self.rows: dict[bytes, list[MessageRow]] = {}  # by SHA-256: what stands in a message file that was read

    def on_apply(self, process: Process, first_op: int, count: int, time: int, body: bytes, digest: int, outcome: Any) -> None:
        before = self.spec.op
        super().on_apply(process, first_op, count, time, body, digest, outcome)
        if self.spec.op > before:
            for at, sender, whom, words in self.spec.said[len(self.written) :]:
                self.written.append((at, (len(self.written) + 1, time + at - first_op, sender.name, whom.name, words)))
            accounts = process.server.state.accounts
            for name, account in self.spec.accounts.items():
                if len(accounts[name].mailbox) != len(account.box):
                    self.fail(
                        f"after op {self.spec.op} {len(accounts[name].mailbox)} messages wait for {name}, the log says {len(account.box)}"
                    )

    def bounds(self, process: Process) -> None:
        super().bounds(process)
        for key, session in process.server.state.sessions.items():
            if len(session.replies) > self.world.mix.sizes["window"]:
                self.fail(f"replica {process.id} keeps {len(session.replies)} replies of session {key.hex()}")

    # --- guests ---------------------------------------------------------------------------------------------------------------------------

    def answered(self, guest: SimGuest, asked: Asked, words: str) -> Outcome:
        """A reply has come."""
        self.counted["acknowledged"] += 1
        if asked.line[0] == "h":
            self._check_history(guest, asked, words)
            return ("ok",)
        if asked.line[0] in "2w":
            names = self._check_query(guest, asked, words)
            if asked.line[0] == "2":
                self.history.append(Seen(guest.name, asked.called, self.world.now, asked.line, ("list", *names)))
            return ("ok",)
        outcome = read_words(asked.line, words)
        if outcome == ("invalid",):
            self.refused.append((guest.session, asked.number))
            return outcome
        self.history.append(Seen(guest.name, asked.called, self.world.now, asked.line, outcome))
        expected = self.logged(guest, asked, words)
        if outcome[0] == "read":
            self._check_read(guest, asked, outcome[1:], expected)
        elif outcome != expected:
            self.fail(f"{guest.name}'s request {asked.number} {asked.line!r} was answered {outcome}, the log says {expected}")
        return outcome

    def _check_query(self, guest: SimGuest, asked: Asked, words: str) -> Outcome:
        """The names at one moment between call and return."""
        if asked.line == "who":
            return ()
        prefix = "Showing all accounts: " if asked.line == "2" else "Account matched: "
        got = tuple(n for n in words.removeprefix(prefix).strip().split(",") if n) if words.startswith(prefix) else ()
        start = asked.line[2:3]
        names = self.spec.names
        for index in range(len(names) - 1, -1, -1):
            op, live = names[index]
            until = names[index + 1][0] - 1 if index + 1 < len(names) else self.spec.op
            if until < asked.acked_op:
                break
            if tuple(n for n in live if n.startswith(start)) == got:
                self.acked_op = max(self.acked_op, min(op, until)) if index == len(names) - 1 else self.acked_op
                return got
        raise Violation(
            f"{guest.name}'s request {asked.number} {asked.line!r} shows {got}, at no moment since op {asked.acked_op} was it so"
        )

    def _check_history(self, guest: SimGuest, asked: Asked, words: str) -> None:
        """The newest messages of one moment between call and return, none of an earlier account of the asker's name."""
        if words == UNREADABLE:
            return  # its disk fails, and may say so
        _, whom, count = asked.line.split("|")
        me, got = self._accounts(guest)[-1], [tuple(row.split("|", 3)[2:]) for row in words.splitlines()[1:]]
        said = [one for one in self.spec.said if (one[1] is me and one[2].name == whom) or (one[2] is me and one[1].name == whom)]
        ours, least = [(sender.name, text) for _, sender, _, text in said], sum(op <= asked.acked_op for op, *_ in said)
        if not any(ours[:end][-int(count) :] == got for end in range(least, len(ours) + 1)):
            self.fail(f"{guest.name}'s request {asked.number} {asked.line!r} shows {got}, the log says {ours[-int(count) :]}")
        self.counted["looked back"] += len(got)

    def _check_read(self, guest: SimGuest, asked: Asked, texts: Outcome, expected: Outcome) -> None:
        """What a read shows is what waited, without what this guest was shown already."""
        if expected[0] != "read":
            self.fail(f"{guest.name} read {texts}, the log says {expected}")
        op, _ = self.spec.results[guest.session, asked.number]
        account = max((a for a in self._accounts(guest) if a.number < op), key=lambda a: a.number)
        shown = self.shown.setdefault((guest.name, account.number), [])
        waited = expected[1:]
        rest = waited[len(waited) - len(texts) :]
        if texts != rest:
            self.fail(f"{guest.name} read {texts}, there waited {waited}")
        for text in waited[: len(waited) - len(texts)]:
            if text not in shown:
                self.fail(f"{guest.name} was never shown {text!r}, and a read left it out")
        for text in texts:
            if text in shown:
                self.fail(f"{guest.name} was shown {text!r} twice (read)")
        shown += texts
        self.displays_seen += [Displayed(guest.name, self.world.now, text, pushed=False) for text in texts]

    def _accounts(self, guest: SimGuest) -> list[Account]:
        """All that this guest ever had, the newest last: nobody else makes or deletes them."""
        return sorted((a for (name, _), a in self.spec.ever.items() if name == guest.name), key=lambda a: a.number)

    def _owner(self, guest: SimGuest, seq: int, sender: str, text: str) -> Account | None:
        """Whose message that is: the newest account's, or while the guest has not heard that it has this one, the one's before."""
        *before, newest = self._accounts(guest)
        made = [self.spec.results.get((guest.session, number), (0, ()))[0] for number in guest.under_way]
        may_own = (newest, *before[-1:]) if newest.number in made else (newest,)
        return next((a for a in may_own if a.log.get(seq) == (sender, text)), None)

    def pushed(self, guest: SimGuest, seq: int, sender: str, text: str) -> None:
        """A delivery has come, perhaps once more."""
        if self._owner(guest, seq, sender, text) is None:
            self.fail(f"{guest.name} got message {seq} {sender}: {text!r}, the log says {self._accounts(guest)[-1].log.get(seq)}")

    def displays(self, guest: SimGuest, seq: int, sender: str, text: str) -> None:
        """It is newer than all that was displayed."""
        self.counted["displayed"] += 1
        account = self._owner(guest, seq, sender, text)
        assert account is not None
        shown = self.shown.setdefault((guest.name, account.number), [])
        if text in shown:
            self.fail(f"{guest.name} was shown {text!r} twice")
        shown.append(text)
        self.displays_seen.append(Displayed(guest.name, self.world.now, text, pushed=True))

    # --- the end --------------------------------------------------------------------------------------------------------------------------

    def at_end(self) -> None:
        for key in self.refused:
            if key in self.spec.results:
                self.fail(f"request {key[1]} was refused and executed")
        super().at_end()
        self._check_displays()
        self._ask_blind()

    def _ask_blind(self) -> None:
        """Whether what was seen from outside could have happened at all; who was never answered may have been heard or not."""
        unanswered = [(g.name, a) for g in self.guests for a in g.under_way.values()] + self.abandoned
        unknown = [Seen(name, asked.called, None, asked.line, ()) for name, asked in unanswered if asked.line[0] not in "2wh"]
        windows, count, wrong = judge([*self.history, *unknown], self.displays_seen)
        self.counted["windows"] += windows
        self.counted["in windows"] += count
        if wrong:
            self.fail(wrong)

    def on_snapshot(self, replica: int, op: int, path: str) -> None:
        """The message files hold what the log says, to the last column: equal bytes everywhere may be wrong everywhere."""
        is_new = op not in self.folders
        super().on_snapshot(replica, op, path)
        if not is_new or op not in self.folders:
            return
        said = [row for at, row in self.written if at <= op]
        rows = list[MessageRow]()
        for name, content in self.files_in(replica, path):
            if name.startswith("messages-"):
                rows += self._rows_of(self.folders[op][name], content)
        if rows != said:
            number, (row, told) = next((i, pair) for i, pair in enumerate(itertools.zip_longest(rows, said), 1) if pair[0] != pair[1])
            self.fail(f"message {number} of {len(said)} stands as {row} in the snapshot of op {op}, the log says {told}")
        self.counted["rows"] += len(rows)

    def _rows_of(self, digest: bytes, content: bytearray) -> list[MessageRow]:
        """Full files come again in every later snapshot; this sum of their bytes was just made."""
        if digest not in self.rows:
            self.rows[digest] = _message_rows(content)
        return self.rows[digest]

    def compare_state(self, state: Any) -> None:
        if list(state.accounts) != list(self.spec.accounts):
            self.fail(f"accounts {list(state.accounts)}, the log says {list(self.spec.accounts)}")
        for name, account in self.spec.accounts.items():
            self.looked[13] += 1
            box = [(m[0], m[3], m[4]) for m in state.accounts[name].mailbox]
            if box != account.box:
                self.fail(f"mailbox of {name}: {box}, the log says {account.box}")

    def _check_displays(self) -> None:
        for guest in self.guests:
            for (name, _), account in self.spec.ever.items():
                if name != guest.name:
                    continue
                shown = self.shown.get((name, account.number), [])
                texts = [text for _, text in account.log.values()]
                waiting = {m[2] for m in account.box}
                missing = [t for t in texts if t not in shown and t not in waiting]
                if missing and account is self._accounts(guest)[-1] and guest.account:
                    self.fail(f"{name} was never shown {missing[:5]}, and nothing waits")
                order = [t for t in texts if t in set(shown)]
                if order != [t for t in shown if t in set(texts)]:
                    self.fail(f"{name} was shown messages out of order")


def _message_rows(content: bytearray) -> list[MessageRow]:
    header, *rows = csv.reader(io.StringIO(content.decode(), newline=""))
    at = [header.index(name) for name in ("id", "time", "sender", "recipient", "text")]
    return [(int(row[at[0]]), int(row[at[1]]), row[at[2]], row[at[3]], row[at[4]]) for row in rows]


def read_words(line: str, words: str) -> Outcome:
    """The outcome that the door's words stand for."""
    kind = line[0]
    if kind == "4" and words.startswith("undelivered message"):
        rows = words.split("\n", 1)[1].split("\n\n")
        return ("read", *[row.split(" sends: ", 1)[1] for row in rows if row])
    for start, outcome in WORDS[kind]:
        if start in words:
            return outcome
    if "Please give a valid input" in words:
        return ("invalid",)
    raise Violation(f"{line!r} was answered {words!r}")


WORDS: dict[str, tuple[tuple[str, Outcome], ...]] = {
    "0": (("is now logged in", ("ok",)), ("is not recognized", ("absent",))),
    "1": (("Success", ("ok",)), ("already exists", ("taken",))),
    "3": (("has been delivered", ("ok",)), ("sends a new message", ("ok",)), ("doesn't exist", ("absent",))),
    "4": (("No new messages", ("read",)), ("User not Found", ("absent",))),
    "5": (("has been deleted", ("ok",)), ("check your mailbox", ("not empty",)), ("Not Found", ("absent",))),
    "b": (("logged out", ("ok",)),),
}
