"""Cores whose replicas have hosts of their own: the world of `cores.py` without register and locks, under policy `majority`.

What it is not: it adds no event; it says who may lead, cuts wires one way, and asserts what must never happen there.

    World.block, unblock      packets from one replica to another get lost, one way
    World.isolate             no packet to or from a replica; its links stay, as they do when a cable is cut
    World.wipe                the disk of a replica that does not run is a new one
"""

from __future__ import annotations

from typing import Any

from events import Confirm, Evaluated, Event, Send
from majority import Majority
from policy import Timers
from replication import NORMAL
from tests.cores import Core, Store, World

TIMERS = Timers(heartbeat=0.1, suspect=0.5)


class Hosts(World):
    """See the module's page."""

    def __init__(self, replicas: int = 3, timers: Timers = TIMERS) -> None:
        super().__init__(replicas, timers)
        self.blocked: set[tuple[int, int]] = set()
        self.wiped: set[int] = set()
        self.enough = replicas // 2 + 1
        self.stale: dict[int, bool] = {}  # by number: whether it was evaluated without something answered before

    def make_policy(self, core: Core) -> Any:
        return Majority(core.replica, dict(core.store.met))

    def block(self, sender: int, to: int) -> None:
        self.blocked.add((sender, to))

    def isolate(self, *ids: int) -> None:
        """These on one side of the cut, all others on the other."""
        for i in ids:
            for other in self.ids:
                if other not in ids:
                    self.blocked |= {(i, other), (other, i)}

    def heal(self) -> None:
        super().heal()
        self.blocked.clear()

    def wipe(self, i: int) -> None:
        assert i not in self.cores
        self.stores[i] = Store()
        self.wiped.add(i)

    def primary(self) -> int:
        """Who serves in the newest view that runs; older ones may believe that they do, until they ask."""
        serving = [c.replica for c in self.cores.values() if c.replica.serving]
        assert serving, f"nobody serves: {list(self.cores.values())}"
        return max(serving, key=lambda r: r.view).me.replica

    def view(self) -> int:
        return max(c.replica.view for c in self.cores.values())

    def ask(self, i: int, number: int) -> bool:
        """Evaluate a query, and let everybody act; whether its answer may be given."""
        self.feed(i, Evaluated(number))
        return self.cores[i].confirmed >= number

    # --- what must never happen -----------------------------------------------------------------------------------------------------------

    def check(self) -> None:
        for core in self.cores.values():
            r = core.replica
            assert r.applied <= r.commit <= r.head_op and r.log_view <= r.view, f"ladder: {r}"
            assert core.store.view >= r.view or not r.view, f"{r} says something in a view that is not on its disk"
        for op, tip in self.answered.items():
            holders = {i for i in self.ids if self.stores[i].holds(op, tip)}
            assert len(holders | self.wiped) >= self.enough, f"op {op} was answered and is held by {holders} alone"
        leading = [c.replica.view for c in self.cores.values() if c.replica.is_primary and c.replica.status == NORMAL]
        assert len(set(leading)) == len(leading), f"two lead one view: {list(self.cores.values())}"

    def step(self, core: Core, event: Event) -> None:
        if type(event) is Evaluated:
            newest = max(self.answered, default=0)
            self.stale[event.number] = core.replica.applied < newest
        super().step(core, event)

    def _confirm(self, core: Core, effect: Confirm) -> None:
        assert not self.stale[effect.number], f"{core} answers a query that was evaluated without what had been answered before"
        super()._confirm(core, effect)

    def _send(self, core: Core, effect: Send) -> None:
        me = core.me.replica
        reached = tuple(i for i in effect.replicas if (me, i) not in self.blocked)
        assert effect.packet.view <= core.store.view or not effect.packet.view, f"{core} speaks of a view that is not on its disk"
        super()._send(core, Send(reached, effect.packet))
