"""What must hold: after every step of every replica, at every answer a guest gets, and at the end.

What it is not: it changes nothing.

    canon        the one committed log: the first replica that applies a batch writes it here, all others must apply the same
    spec         what the log means (`spec.py`)
    invariants   replication.md 2.12
    guests       replies equal the log's results and come after the commit; queries equal one moment between call and return;
                 messages are displayed once, in order, none left out

Read next: `faults.py`.
"""

from __future__ import annotations

from typing import Any

from packets import NO_HASH, Packet, PrepareOk, View
from register import _decode
from replication import NORMAL, READ_ONLY
from tests.simulator import witness
from tests.simulator.disk import SimFile
from tests.simulator.guests import Asked, SimGuest
from tests.simulator.spec import Account, Spec
from tests.simulator.world import BASE, Process, Violation, World

Outcome = tuple[str, ...]


class Checks:
    """See the module's page."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.spec = Spec()
        self.canon: dict[int, tuple[int, int, bytes, int]] = {}  # first op -> count, time, body, digest after it
        self.digests: dict[int, int] = {0: 0}
        self.tips: dict[int, bytes] = {0: NO_HASH}
        self.view: View | None = None  # the register's last
        self.views: list[View] = []
        self.acted_in: dict[int, int] = {}  # replica -> newest view it ever took
        self.seen_version = -1  # of the files, when the register was looked at last
        self.heads: dict[int, tuple[int, bytes]] = {}
        self.spoiled: dict[int, float] = {}  # replicas whose files were damaged on purpose, and when
        self.touched: set[int] = set()  # replicas whose disk was full or failed
        self.incs: dict[tuple[int, int], float] = {}
        self.unharmed: dict[int, float] = {}  # replicas of whose damaged file there is another copy, and when it was damaged
        self.guests: list[SimGuest] = []
        self.acked_op = 0
        self.gaps = 0
        self.abandoned: list[Asked] = []  # of sessions that never were
        self.shown: dict[tuple[str, int], list[str]] = {}
        self.answers: list[tuple[SimGuest, Asked, Outcome, float]] = []
        self.refused: list[tuple[bytes, int]] = []
        self.counted = {"acknowledged": 0, "displayed": 0, "views": 0, "snapshots": 0}

    def fail(self, text: str) -> None:
        raise Violation(text)

    # --- the log --------------------------------------------------------------------------------------------------------------------------

    def on_apply(self, process: Process, first_op: int, count: int, time: int, body: bytes, digest: int) -> None:
        """A replica, or its worker, executes a batch."""
        if self.seen_version != self.world.files.version:
            self.look_at_register()
        known = self.canon.get(first_op)
        what = (count, time, body, digest)
        if known is not None:
            if known[:3] != what[:3]:
                self.fail(f"two commits of op {first_op}: replica {process.id} applies another batch than the others")
            if known[3] != digest and not process.was_wrong:
                self.fail(f"state of replica {process.id} differs after op {first_op + count - 1}")
            return
        if first_op != self.spec.op + 1:
            self.fail(f"replica {process.id} commits op {first_op} while op {self.spec.op + 1} is missing: acknowledged batches are lost")
        self.canon[first_op] = what
        try:
            self.spec.apply(first_op, count, body)
        except AssertionError as error:
            self.fail(f"op {first_op}: {error}")
        self.digests[self.spec.op] = digest
        journal = getattr(process.server.storage, "journal", None)
        if journal is not None and journal.head_op >= self.spec.op:
            self.tips[self.spec.op] = journal.head_hash if journal.head_op == self.spec.op else journal.hash_at(self.spec.op) or NO_HASH
        self._all_members_hold("commit")

    def _all_members_hold(self, why: str) -> None:
        """An acknowledged op is in the log of every member of the registered view (invariant 5)."""
        view, op = self.view, self.spec.op
        if view is None:
            return
        for member in view.members:
            if member.replica in self.spoiled:
                continue
            process = self.world.processes.get(member.replica)
            if process is not None and process.alive and hasattr(process.server, "replica"):
                head, tip = process.server.storage.journal.head_op, process.server.storage.journal.head_hash
            else:
                head, tip = self.heads.get(member.replica, (0, NO_HASH))
            if head < op or (head == op and self.tips.get(op, tip) != tip):
                self.fail(f"{why}: op {op} is committed, but member {member.replica} of view {view.number} ends at op {head}")

    # --- replicas -------------------------------------------------------------------------------------------------------------------------

    def on_start(self, process: Process) -> None:
        witness.attach(process)
        server = process.server
        self.incs[process.id, server.replica.me.inc] = self.world.now
        view, state = self.view, server.state
        if self.digests.get(state.op, state.digest) != state.digest:
            self.fail(f"replica {process.id} starts with another state of op {state.op} than the others had")
        spoiled = process.id in self.spoiled
        if server.replica.damage and not spoiled and view is not None and process.id in view.replicas:
            self.fail(f"replica {process.id} distrusts a disk that nothing was done to: {server.replica.damage}")
        if view is not None and process.id in view.replicas and not spoiled and server.storage.journal.head_op < self.spec.op:
            self.fail(
                f"replica {process.id} of view {view.number} starts with op {server.storage.journal.head_op}, committed was {self.spec.op}"
            )

    def on_death(self, process: Process) -> None:
        journal = getattr(process.server.storage, "journal", None)
        if journal is not None:
            self.heads[process.id] = (journal.head_op, journal.head_hash)
        superblock = getattr(process.server.storage, "superblock", None)
        if superblock is not None and superblock.suspect and process.id in self.touched:
            self.spoiled.setdefault(process.id, self.world.now)

    def after_step(self, process: Process) -> None:
        """The invariants that cost little."""
        server = process.server
        r = server.replica
        marks = (r.view, r.log_view, r.commit, r.applied, r.generation)
        if marks != process.marks:
            if process.marks and any(new < old for new, old in zip(marks, process.marks, strict=True)):
                self.fail(f"replica {process.id} went back: view, log_view, commit, applied, generation {process.marks} -> {marks}")
            process.marks = marks
            if r.view > self.acted_in.get(process.id, 0):
                self.acted_in[process.id] = r.view
        if not r.applied <= r.commit <= r.head_op or r.log_view > r.view:
            self.fail(f"the ladder is broken: {r}")
        if self.seen_version != self.world.files.version:
            self.look_at_register()
        if self.view is not None and server.storage.superblock.view > self.view.number:
            self.fail(f"superblock of replica {process.id} is at view {server.storage.superblock.view}, the register at {self.view.number}")
        if r.is_primary and r.status in (NORMAL, READ_ONLY):
            for other in self.world.processes.values():
                if other is process or not other.alive:
                    continue
                o = other.server.replica if hasattr(other.server, "replica") else None
                if o is not None and o.is_primary and o.view == r.view and o.status in (NORMAL, READ_ONLY):
                    self.fail(f"replicas {process.id} and {other.id} both lead view {r.view}")

    def look_at_register(self) -> None:
        """What stands there, whoever has read it. Looked at again only when some name on the disk has changed."""
        self.seen_version = self.world.files.version
        while True:
            number = self.view.number + 1 if self.view else 1
            try:
                file = self.world.files.find(f"{BASE}/cluster/view-{number:010d}")
            except OSError:
                return
            view = _decode(bytes(file.content)) if isinstance(file, SimFile) else None
            if view is None:
                return
            self._new_view(view)

    def on_power_cut(self) -> None:
        """A view whose name had not reached the disk never was; nobody may have acted on it before its directory was synced."""
        while self.views:
            file = self.world.files.find(f"{BASE}/cluster/view-{self.views[-1].number:010d}")
            if isinstance(file, SimFile) and _decode(bytes(file.content)) == self.views[-1]:
                break
            lost = self.views.pop()
            self.world.say(f"the record of view {lost.number} is lost with the power")
            acted = [i for i, number in self.acted_in.items() if number >= lost.number]
            if acted:
                self.fail(f"view {lost.number} is lost, and replica {acted[0]} had acted on it")
        self.view = self.views[-1] if self.views else None

    def _new_view(self, view: View) -> None:
        before, self.view = self.view, view
        self.views.append(view)
        self.counted["views"] += 1
        if before is not None and view.number == before.number + 1 and view.prev_hash != before.chain_hash():
            self.fail(f"view {view.number} does not follow view {before.number}")
        for member in view.members:
            since = self.spoiled.get(member.replica)
            if since is not None and self.incs.get((member.replica, member.inc), -1.0) >= since:
                del self.spoiled[member.replica]
        self._all_members_hold(f"view {view.number}")

    def on_send(self, process: Process, packet: Packet) -> None:
        if type(packet) is not PrepareOk:
            return
        server = process.server
        r, journal = server.replica, server.storage.journal
        if packet.view != r.view or r.log_view != r.view or server.storage.superblock.log_view != r.view:
            self.fail(
                f"replica {process.id} acknowledges op {packet.op} in view {packet.view} at log_view {server.storage.superblock.log_view}"
            )
        if (journal.head_op, journal.head_hash) != (packet.op, packet.hash):
            self.fail(f"replica {process.id} acknowledges op {packet.op}, its journal ends at {journal.head_op}")
        if journal._segments and self.world.files.find(journal._segments[-1].path).pending:  # type: ignore[union-attr]
            self.fail(f"replica {process.id} acknowledges op {packet.op} before it is synced")
        if process.sync_failed:
            self.fail(f"replica {process.id} acknowledges op {packet.op} after a failed sync of its log")

    # --- guests ---------------------------------------------------------------------------------------------------------------------------

    def answered(self, guest: SimGuest, asked: Asked, words: str) -> Outcome:
        """A reply has come."""
        self.counted["acknowledged"] += 1
        if asked.line[0] in "2w":
            self._check_query(guest, asked, words)
            self.answers.append((guest, asked, ("ok",), self.world.now))
            return ("ok",)
        outcome = read_words(asked.line, words)
        if outcome == ("invalid",):
            self.refused.append((guest.session, asked.number))
            return outcome
        found = self.spec.results.get((guest.session, asked.number))
        if found is None:
            self.fail(f"{guest.name}'s request {asked.number} {asked.line!r} was answered {words!r} before it was committed")
        assert found is not None
        op, expected = found
        self.acked_op = max(self.acked_op, op)
        if outcome[0] == "read":
            self._check_read(guest, outcome[1:], expected)
        elif outcome != expected:
            self.fail(f"{guest.name}'s request {asked.number} {asked.line!r} was answered {outcome}, the log says {expected}")
        self.answers.append((guest, asked, outcome, self.world.now))
        return outcome

    def _check_query(self, guest: SimGuest, asked: Asked, words: str) -> None:
        """The names at one moment between call and return."""
        if asked.line == "who":
            return
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
                return
        self.fail(f"{guest.name}'s request {asked.number} {asked.line!r} shows {got}, at no moment since op {asked.acked_op} was it so")

    def _check_read(self, guest: SimGuest, texts: Outcome, expected: Outcome) -> None:
        """What a read shows is what waited, without what this guest was shown already."""
        if expected[0] != "read":
            self.fail(f"{guest.name} read {texts}, the log says {expected}")
        account = self._account(guest)
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

    def _account(self, guest: SimGuest) -> Account:
        """The newest account of this guest's name: nobody else makes or deletes it."""
        return max((a for (name, _), a in self.spec.ever.items() if name == guest.name), key=lambda a: a.number)

    def pushed(self, guest: SimGuest, seq: int, sender: str, text: str) -> None:
        """A delivery has come, perhaps once more."""
        account = self._account(guest)
        if account.log.get(seq) != (sender, text):
            self.fail(f"{guest.name} got message {seq} {sender}: {text!r}, the log says {account.log.get(seq)}")

    def displays(self, guest: SimGuest, seq: int, sender: str, text: str) -> None:
        """It is newer than all that was displayed."""
        self.counted["displayed"] += 1
        account = self._account(guest)
        shown = self.shown.setdefault((guest.name, account.number), [])
        if text in shown:
            self.fail(f"{guest.name} was shown {text!r} twice")
        shown.append(text)

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
        for key in self.refused:
            if key in self.spec.results:
                self.fail(f"request {key[1]} was refused and executed")
        self._compare_state(world.living()[0].server.state)
        self._check_displays()

    def _compare_state(self, state: Any) -> None:
        """The program's state against the specification's."""
        if list(state.accounts) != list(self.spec.accounts):
            self.fail(f"accounts {list(state.accounts)}, the log says {list(self.spec.accounts)}")
        for name, account in self.spec.accounts.items():
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
                if missing and account is self._account(guest) and guest.account:
                    self.fail(f"{name} was never shown {missing[:5]}, and nothing waits")
                order = [t for t in texts if t in set(shown)]
                if order != [t for t in shown if t in set(texts)]:
                    self.fail(f"{name} was shown messages out of order")


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
