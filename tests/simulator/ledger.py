"""A bank in the place of the chat: money that is lost, doubled or seen too early does not add up.

What it is not: a door for people. It is a state of three commands on the sessions of `counter.py`, its guests and its checker.

    line of a guest    command         does
    3|+|B X            S|+|B X         pays X in to account B
    3|A|- X            S|A|- X         pays X out of account A; refused when A holds less
    3|A|B X            S|A|B X         moves X; refused when A holds less
    2                  A               all balances, at one moment

What is checked of it: each reply is the log's; a reading is the balances after some op between call and answer; no balance is below zero;
without the log: some order of what was paid in and out explains every sum that was read, and at the end the balances are those of
exactly the acknowledged, and of some of those that nobody knows of.

Read next: `tenants.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from tests.simulator.checks import LogChecks, Outcome
from tests.simulator.counter import Counter
from tests.simulator.guests import Asked, BareGuest
from tests.simulator.linearizability import ILLEGAL, UNDECIDED, Operation, check
from tests.simulator.spec import LogSpec, Session
from tests.simulator.world import World

ACCOUNTS, AT_FIRST = 4, 100
REFUSED = "refused"


class Ledger(Counter):
    """The balances, as a text."""

    TABLES: ClassVar[dict[str, tuple[str, ...]]] = {"ledger": ("session", "replies")}
    START = ",".join([str(AT_FIRST)] * ACCOUNTS)

    def execute(self, line: str) -> str:
        _, source, rest = line.split("|")
        target, amount = rest.split(" ")
        balances = [int(n) for n in self.value.split(",")]
        if source != "+":
            if balances[int(source)] < int(amount):
                return REFUSED
            balances[int(source)] -= int(amount)
        if target != "-":
            balances[int(target)] += int(amount)
        self.value = ",".join(map(str, balances))
        return "done"


class LedgerSpec(LogSpec):
    """The same, said a second time. `after`: balances after each op."""

    def __init__(self) -> None:
        super().__init__()
        self.after: list[tuple[int, tuple[int, ...]]] = [(0, (AT_FIRST,) * ACCOUNTS)]

    def execute(self, session: Session, text: str, op: int) -> Outcome:
        changed = paid(self.after[-1][1], text.partition("|")[2])
        if changed is None:
            return (REFUSED,)
        self.after.append((op, changed))
        return ("done",)


def paid(balances: tuple[int, ...], order: str) -> tuple[int, ...] | None:
    """The balances after this order; None: there is not enough."""
    source, _, rest = order.partition("|")
    target, _, amount = rest.partition(" ")
    change = [0] * ACCOUNTS
    if source != "+":
        change[int(source)] -= int(amount)
    if target != "-":
        change[int(target)] += int(amount)
    result = tuple(a + b for a, b in zip(balances, change, strict=True))
    return None if min(result) < 0 else result


class Banker(BareGuest):
    """Moves money about, now and then more than there is."""

    def choose(self) -> str:
        dice = self.world.dice
        roll, amount = dice.random(), dice.choice((1, 7, 40, 150))
        a, b = dice.sample(range(ACCOUNTS), 2)
        if roll < 0.2:
            return "2"
        if roll < 0.3:
            return f"3|+|{a} {amount}"
        return f"3|{a}|- {amount}" if roll < 0.4 else f"3|{a}|{b} {amount}"


class LedgerChecks(LogChecks):
    """See the module's page."""

    spec: LedgerSpec

    def __init__(self, world: World) -> None:
        super().__init__(world, LedgerSpec())
        self.operations: list[Operation] = []  # what changes the sum of all balances, and readings of it
        self.done: list[str] = []  # orders that were acknowledged as done
        self.refused: list[tuple[bytes, int]] = []

    def answered(self, guest: Any, asked: Asked, words: str) -> Outcome:
        self.counted["acknowledged"] += 1
        order, now = asked.line.partition("|")[2], self.world.now
        if asked.line == "2":
            balances = tuple(int(n) for n in words.removeprefix("a|").split(","))
            self._check_reading(guest, asked, balances)
            self.operations.append(Operation(asked.called, now, "", sum(balances)))
            return ("ok",)
        if words == "!READ_ONLY":
            self.refused.append((guest.session, asked.number))
            return ("invalid",)
        expected = self.logged(guest, asked, words)
        if (words,) != expected:
            self.fail(f"{guest.name}'s order {asked.number} {asked.line!r} was answered {words!r}, the log says {expected}")
        if words == "done":
            self.done.append(order)
            if moves_sum(order):
                self.operations.append(Operation(asked.called, now, order, "done"))
        return expected

    def _check_reading(self, guest: Any, asked: Asked, balances: tuple[int, ...]) -> None:
        after = self.spec.after
        for index in range(len(after) - 1, -1, -1):
            if after[index][1] == balances:
                self.acked_op = max(self.acked_op, after[index][0])
                return
            if after[index][0] <= asked.acked_op:
                break
        self.fail(f"{guest.name} read {balances}, at no moment since op {asked.acked_op} was it so")

    def at_end(self) -> None:
        for key in self.refused:
            if key in self.spec.results:
                self.fail(f"order {key[1]} was refused and executed")
        super().at_end()
        unknown = [a for g in self.guests for a in g.under_way.values()] + [a for _, a in self.abandoned]
        orders = [(a, a.line.partition("|")[2]) for a in unknown if a.line != "2"]
        self.operations += [Operation(a.called, None, order, None) for a, order in orders if moves_sum(order)]
        verdict = check(self.operations, AT_FIRST * ACCOUNTS, sum_step, is_look=lambda operation: not operation.asked)
        self.counted["windows"] += 1
        self.counted["in windows"] += len(self.operations)
        if verdict.result == ILLEGAL:
            self.fail("no order of what was paid in and out explains the sums that were read")
        self.counted["undecided"] += verdict.result == UNDECIDED  # many payments at once may be a sum in more ways than can be tried

    def compare_state(self, state: Any) -> None:
        """Balances: the log's, and without it: those of all that was acknowledged and of some that nobody knows of."""
        final = tuple(int(n) for n in state.value.split(","))
        if final != self.spec.after[-1][1]:
            self.fail(f"the balances are {final}, the log says {self.spec.after[-1][1]}")
        reachable = {settled((AT_FIRST,) * ACCOUNTS, self.done)}
        for _, asked in [*self.abandoned, *(("", a) for g in self.guests for a in g.under_way.values())]:
            if asked.line != "2":
                reachable |= {settled(balances, [asked.line.partition("|")[2]]) for balances in reachable}
        if final not in reachable:
            self.fail(f"the balances are {final}, what was acknowledged makes {sorted(reachable)[:3]}")


def settled(balances: tuple[int, ...], orders: list[str]) -> tuple[int, ...]:
    """All of them done, in whatever order: sums do not care."""
    high = tuple(n + (1 << 40) for n in balances)
    for order in orders:
        high = paid(high, order) or high
    return tuple(n - (1 << 40) for n in high)


def moves_sum(order: str) -> bool:
    return order.startswith("+|") or "|- " in order


def sum_step(total: int, order: str, outcome: Any) -> Iterator[int]:
    """The sum of all balances."""
    if order:
        yield total + int(order.rpartition(" ")[2]) * (1 if order.startswith("+") else -1)
    elif outcome is None or outcome == total:
        yield total
