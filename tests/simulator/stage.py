"""The stage: what a story may do to the world, and the clockwork that plays it.

What it is not: it knows no story (`stories.py`), and it judges nothing. A story sets the scene that chance sets once in ten thousand seeds:
a packet that is late at the one moment when that is dangerous, a disk that is put back to what it was just before all die. What follows
from it the checkers see or do not see, as ever. While a story is played no other fault strikes; when it is over they do.

A story is a generator. What it yields it waits for:

    0.3                      so many seconds
    a function               until that is true; the answer: whether it came true within `PATIENCE_S`
    Sent(kind, a, b)         until a is about to send b such a packet; the answer: the packet, or None. What the story does then, up to its
                             next yield, happens before the packet is on the wire

Read next: `stories.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, NamedTuple

from replication import NORMAL
from tests.simulator.disk import SimDirectory, SimFile
from tests.simulator.faults import Faults, clone
from tests.simulator.world import BASE, Process

POLL_S = 0.0003  # between two looks at whether something has come true
PATIENCE_S = 4.0
LONGEST_S = 25.0  # of a story


class Sent(NamedTuple):
    """See the module's page."""

    kind: type
    sender: int
    to: int


Wish = float | Callable[[], bool] | Sent
Story = Generator[Wish, Any, None]
Part = Generator[Wish, Any, Any]


class Stage:
    """One story in one world. `is_over`: nothing more comes of it."""

    def __init__(self, faults: Faults, story: Callable[[Stage], Story], ask_more: Callable[[int], None]) -> None:
        self.faults, self.world, self.checks, self.feed = faults, faults.world, faults.checks, ask_more
        self.dice = self.world.dice
        self.is_over = False
        self.wish: Wish | None = None
        self.until = 0.0
        self.blocked: set[tuple[int, int]] = set()
        self.still: list[Process] = []
        self.world.listener = self._sent
        self.name = story.__name__.replace("_", " ")
        self.playing = story(self)
        self.world.push(self.world.now, None, self._begin)

    # --- the clockwork --------------------------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        self.world.push(self.world.now + LONGEST_S, None, self.end)
        self.faults.say(f"a story begins: {self.name}")
        self._go_on(None)

    def _go_on(self, answer: Any) -> None:
        try:
            wish = self.wish = self.playing.send(answer)
        except StopIteration:
            return self.end()
        if isinstance(wish, float):
            self.wish = None
            self.world.push(self.world.now + wish, None, lambda: None if self.is_over else self._go_on(True))
            return
        self.until = self.world.now + PATIENCE_S
        self.world.push(self.world.now, None, self._look, wish)

    def _look(self, wish: Wish) -> None:
        if self.is_over or self.wish is not wish:
            return
        if callable(wish) and wish():
            self._go_on(True)
        elif self.world.now >= self.until:
            self._go_on(None if isinstance(wish, Sent) else False)
        else:
            self.world.push(self.world.now + POLL_S, None, self._look, wish)

    def _sent(self, sender: int, to: int, packet: Any) -> None:
        wish = self.wish
        if isinstance(wish, Sent) and (type(packet), sender, to) == wish:
            self.wish = None
            self._go_on(packet)

    def end(self) -> None:
        """Leave the scene as any other fault may find it."""
        if self.is_over:
            return
        self.is_over = True
        self.playing.close()
        self.world.listener = None
        self.world.say("** the story is over")
        for pair in sorted(self.blocked):
            self.world.release(*pair)
        for process in self.still:
            self.world.wake(process)
        self.faults.doomed.clear()
        for replica in range(self.world.count):
            self.up(replica)
        for guest in self.checks.guests:
            guest.patience, guest.says_when_shown = guest.usual_patience, True
            guest.let_go()
        self.faults.story_is_over()

    # --- who is there ---------------------------------------------------------------------------------------------------------------------

    def whole(self) -> bool:
        """Whether all run in one view."""
        living = self.world.living()
        if len(living) < self.world.count or not self.checks.is_whole():
            return False
        replicas = [p.server.replica for p in living if hasattr(p.server, "replica") and not p.server.ending]
        return len(replicas) == self.world.count and len({(r.view, r.status) for r in replicas}) == 1 and replicas[0].status == NORMAL

    def cast(self) -> Part:
        """The primary and then the others, lowest id first, once all run in one view; None: that does not come to pass."""
        if not (yield self.whole):
            return None
        return sorted(self.world.living(), key=lambda p: (not p.server.replica.is_primary, p.id))

    def runs(self, replica: int) -> bool:
        """Whether it lives and has begun."""
        process = self.world.processes.get(replica)
        return process is not None and process.alive and hasattr(process.server, "replica") and not process.server.ending

    def core(self, replica: int) -> Any:
        """The core of the process that runs there now."""
        return self.world.processes[replica].server.replica

    def head(self, replica: int) -> int:
        return self.checks._tip_of(replica)[0]

    def newest_view(self) -> int:
        """The newest that anybody has taken."""
        return max(self.checks.acted_in.values(), default=0)

    def is_in_view(self, replica: int) -> bool:
        """Whether the newest view names it."""
        view = self.checks.view
        return view is not None and replica in view.replicas

    def is_fresh(self, replica: int, ops: int = 1) -> bool:
        """Whether all it has is committed, and so many ops of that came since its lock file was written."""
        hint = self.faults.hint(replica)
        return hint is not None and hint + ops <= self.head(replica) == self.checks.commit

    # --- what happens to them -------------------------------------------------------------------------------------------------------------

    def down(self, *replicas: int) -> None:
        """They die at once, and nobody starts them."""
        self.world.down.update(replicas)
        for replica in replicas:
            process = self.world.processes.get(replica)
            if process is not None:
                process.die("kill -9")

    def up(self, *replicas: int) -> None:
        """Somebody starts them now."""
        for replica in replicas:
            self.world.down.discard(replica)
            self.world.push(self.world.now, None, self.world.start, replica)

    def all_down(self) -> None:
        self.down(*range(self.world.count))

    def block(self, *pairs: tuple[int, int]) -> None:
        """Nothing gets from one to the other; what was sent is held up."""
        self.blocked.update(pairs)
        self.world.blocked.update(pairs)

    def part(self, one: int, *others: int) -> None:
        """It hears nobody of these, nor they it."""
        self.block(*((one, other) for other in others), *((other, one) for other in others))

    def release(self, *pairs: tuple[int, int]) -> None:
        for pair in pairs:
            self.blocked.discard(pair)
            self.world.release(*pair)

    def rejoin(self, one: int, *others: int) -> None:
        self.release(*((one, other) for other in others), *((other, one) for other in others))

    def stand_still(self, process: Process, *, timers_first: bool = False) -> None:
        """Until it is woken; then it handles what came meanwhile, its clock first or last."""
        self.world.say(f"** {process.id} stands still")
        self.still.append(process)
        process.timers_first, process.paused_until = timers_first, self.world.now + 1e4

    def wake(self, process: Process) -> None:
        self.world.say(f"** {process.id} goes on")
        self.world.wake(process)

    def repeat(self, sender: int, to: int, packet: Any) -> None:
        """The wire delivers this once more, now."""
        link = self.world.links.get((min(sender, to), max(sender, to)))
        if link is not None:
            self.world.say(f"** {type(packet).__name__} from {sender} comes to {to} once more")
            self.world.push(self.world.now, self.world.processes[to], self.world.straggled, link, sender, self.world.processes[to], packet)

    # --- disks ----------------------------------------------------------------------------------------------------------------------------

    def may_spoil(self, replica: int) -> bool:
        return self.faults.may_spoil(replica)

    def spoil(self, replica: int, *, rots: bool = True) -> None:
        """From here on the checkers know that this disk is not what it was."""
        self.faults.flipped.add(replica)
        self.checks.spoiled[replica] = self.world.now
        if rots:
            self.checks.rotten.add(replica)

    def flip(self, path: str, at: int) -> None:
        """A random bit of this byte."""
        file = self.world.files_of(int(path[len(f"{BASE}/replica-")])).find(path)
        if isinstance(file, SimFile) and at < len(file.content):
            self.world.say(f"** a bit of byte {at} of {path} turns over")
            file.content[at] ^= 1 << self.dice.randrange(8)

    def directory(self, replica: int) -> SimDirectory:
        entry = self.world.files_of(replica).find(f"{BASE}/replica-{replica}")
        assert isinstance(entry, SimDirectory)
        return entry

    def copy(self, replica: int) -> SimDirectory:
        """A backup of its directory."""
        made: SimDirectory = clone(self.directory(replica))
        return made

    # --- guests ---------------------------------------------------------------------------------------------------------------------------

    def guest_at(self, replica: int, *, but: Any = None) -> Part:
        """A guest of the chat that is connected there with its account, has nothing under way, and does only what it is sent for."""
        guests = [g for g in self.checks.guests if hasattr(g, "births") and g is not but]
        if not guests:
            return None
        guest = self.dice.choice(guests)
        guest.hold()
        guest.patience = 60.0
        for line in (f"1|{guest.name}", f"0|{guest.name}123"):
            if not (yield lambda: not guest.under_way):
                return None
            if not guest.account:
                guest.go([line])
        if not (yield lambda: not guest.under_way) or not guest.account:
            return None
        if guest.shell is None or guest.shell.process.id != replica:
            guest.port = (replica - 1) % self.world.count
            if guest.shell is not None:
                guest.leave()
        there = self.world.processes[replica]
        is_there = yield lambda: guest.confirmed and guest.shell is not None and guest.shell.process is there and not guest.under_way
        return guest if is_there and guest.account else None
