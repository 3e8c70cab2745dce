"""Who lives in the place of the state: the chat, a bank, or a counter. Core, disks, desk and faults are the same for all.

What it is not: it changes no line of the program; it puts other names into the modules that make, load and write a state, and a door
whose words are the state's own.

    tenant     state                    guests              checker
    chat       state.ChatState          guests.SimGuest     checks.Checks
    ledger     ledger.Ledger            ledger.Banker       ledger.LedgerChecks
    counter    counter.Counter          Tapper              CounterChecks

Read next: `simulation.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import doors
import snapshot_worker
import snapshots
import storage
from doors.pipe import PipeTranslator
from state import ChatState
from tables import TABLES
from tests.simulator.checks import Checks, LogChecks, Outcome
from tests.simulator.counter import Counter
from tests.simulator.guests import Asked, BareGuest, SimGuest
from tests.simulator.ledger import Banker, Ledger, LedgerChecks
from tests.simulator.spec import LogSpec, Session
from tests.simulator.world import World


def raw_translator() -> Any:
    """The numbered mode, with replies as the state gives them. Made only where it is needed: what is compiled has no such heirs."""

    class RawTranslator(PipeTranslator):
        def render(self, number: int, command: str, reply: str) -> bytes:
            return self.frame(number, reply.encode())

        def render_all(self, first: int, commands: list[str], replies: list[str]) -> bytes:
            return b"".join(self.frame(number, reply.encode()) for number, reply in enumerate(replies, first))

    return RawTranslator


class Tapper(BareGuest):
    """Counts, and looks at the count."""

    def choose(self) -> str:
        return "2" if self.world.dice.random() < 0.2 else "3|+|1"


class CounterSpec(LogSpec):
    """One more each time. `ops`: at which it was counted."""

    def __init__(self) -> None:
        super().__init__()
        self.ops: list[int] = []

    def execute(self, session: Session, text: str, op: int) -> Outcome:
        self.ops.append(op)
        return (str(len(self.ops)),)


class CounterChecks(LogChecks):
    """Every number is given out once; a look shows what was counted at some moment between call and answer."""

    spec: CounterSpec

    def __init__(self, world: World) -> None:
        super().__init__(world, CounterSpec())
        self.given: set[int] = set()
        self.refused = 0

    def answered(self, guest: Any, asked: Asked, words: str) -> Outcome:
        self.counted["acknowledged"] += 1
        if asked.line == "2":
            seen = int(words.removeprefix("a|"))
            if not sum(op <= asked.acked_op for op in self.spec.ops) <= seen <= len(self.spec.ops):
                self.fail(f"{guest.name} saw {seen}, of {len(self.spec.ops)} counted; op {asked.acked_op} was known to somebody before")
            self.acked_op = max(self.acked_op, self.spec.ops[seen - 1] if seen else 0)
            return ("ok",)
        if words == "!READ_ONLY":
            self.refused += 1
            return ("invalid",)
        if (words,) != self.logged(guest, asked, words) or int(words) in self.given:
            self.fail(f"{guest.name}'s request {asked.number} counted {words}, the log says {self.logged(guest, asked, words)}")
        self.given.add(int(words))
        return (words,)

    def compare_state(self, state: Any) -> None:
        unknown = len(self.abandoned) + sum(len(g.under_way) for g in self.guests)
        if state.value != len(self.spec.ops) or not len(self.given) <= state.value <= len(self.given) + unknown:
            self.fail(f"the count is {state.value}; {len(self.given)} were acknowledged, of {unknown} nobody knows")


class Tenant(NamedTuple):
    """See the module's page."""

    state: Any
    tables: dict[str, tuple[str, ...]]
    guest: Callable[[World, Any, str, int], BareGuest]
    checks: Callable[[World], LogChecks]
    translator: Callable[[], Any]
    rushes: bool = True  # whether its checker can judge a rush


TENANTS: dict[str, Tenant] = {
    "chat": Tenant(ChatState, TABLES, SimGuest, Checks, lambda: PipeTranslator),
    "ledger": Tenant(Ledger, Ledger.TABLES, Banker, LedgerChecks, raw_translator, rushes=False),  # payments at once have too many orders
    "counter": Tenant(Counter, Counter.TABLES, Tapper, CounterChecks, raw_translator),
}


def move_in(tenant: Tenant) -> None:
    """From here on states are made, loaded and written of this kind."""
    for module in (storage, snapshots, snapshot_worker):
        vars(module)["ChatState"] = tenant.state
    vars(snapshots)["TABLES"] = tenant.tables
    doors.TRANSLATORS["pipe"] = tenant.translator()
