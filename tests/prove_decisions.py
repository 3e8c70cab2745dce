"""Walks as in `prove_majority.py`, in which an operator decides something while processes die and cables are cut.

    Grown     a cluster of three becomes one of five, one disk at a time, in any order, among everything else; one may be forgotten long.
              No two logs come of it, and nobody leads in both
    Forced    all have died, and an operator goes on from one disk and copies of it. What was acknowledged up to the end of that log, its
              last batch excepted, stays; what was beyond may be lost, as the command says. The disks that were given up come back
              whenever they like, one after the other, and bring nothing back

More: `MAJORITY_WALKS=2000 python -m unittest tests.prove_decisions`. Read next: `growing.py`, `last_resort.py`.
"""

from __future__ import annotations

import copy
import random
import unittest

from events import Event, Linked, Received, Ticked, Unlinked
from policy import ERA
from replication import NORMAL
from tests.cores import Core, Store
from tests.prove_majority import WALKS, Diced

OLD, ALL = (0, 1, 2), (0, 1, 2, 3, 4)
DECIDES, FORCES = 0.3, 0.08  # how often an operator acts where a fault could strike
LATEST = 4


class Grown(Diced):
    """`sizes`: of how many replicas each disk's cluster is."""

    def __init__(self, dice: random.Random) -> None:
        super().__init__(dice, len(ALL))
        self.ids, self.sizes = OLD, {**dict.fromkeys(OLD, len(OLD)), 3: 5, 4: 5}
        self.loses_disks = False
        self.grown_at = 0

    def fault(self) -> None:
        dead = [i for i in OLD if i not in self.cores and self.sizes[i] == len(OLD)]
        if dead and self.dice.random() < DECIDES:
            self.sizes[self.dice.choice(dead)] = len(ALL)  # server.py grow
            self.ids = ALL
        super().fault()

    def revive(self, i: int) -> None:
        """It links with those that have the same list."""
        was, self.ids = self.ids, tuple(range(self.sizes[i]))
        self.incs[i] += 1
        core = self.cores[i] = Core(self, i, self.incs[i], self.timers)
        self.ids = was
        for other in self.cores.values():
            if other is not core:
                self.link(core, other)
        self.push(core, Ticked())

    def push(self, core: Core, event: Event) -> None:
        """Nothing comes from one that has another list."""
        member = event.sender if isinstance(event, Received) else event.member if isinstance(event, (Linked, Unlinked)) else core.me
        if self.sizes[member.replica] == self.sizes[core.me.replica]:
            super().push(core, event)

    def check(self) -> None:
        """No majority of either cluster lacks what was answered: disks that may vote, since they have had a log or were there before."""
        sizes = {len(core.replica.replicas) for core in self.cores.values() if core.replica.status == NORMAL and core.replica.is_primary}
        for size in (len(OLD), len(ALL)):
            may_vote = [i for i in self.ids if self.sizes[i] == size and (i in OLD or self.stores[i].log_view)]
            for op, tip in list(self.answered.items())[-LATEST:]:  # what was before is below it in the same logs
                lacking = [i for i in may_vote if not self.stores[i].holds(op, tip)]
                assert len(lacking) <= size // 2, f"op {op} was answered, and {lacking}, a majority of {size}, lack it"
        if len(ALL) in sizes and not self.grown_at:
            self.grown_at = max(self.answered, default=0)
            assert all(self.sizes[i] == len(ALL) for i in OLD), f"five lead, and {self.sizes}"

    def walk(self) -> None:
        """In the end all are changed."""
        super().walk()
        for i in OLD:
            if self.sizes[i] != len(ALL):
                if i in self.cores:
                    self._bury([self.cores.pop(i)])
                self.sizes[i] = len(ALL)
        self.ids = ALL
        for _ in range(4):
            for i in self.ids:
                if i not in self.cores:
                    self.revive(i)
            self.run(3.0)


class Forced(Diced):
    """`aside`: disks that were given up, by replica; they may come back where nothing or what has begun since is thrown away for them."""

    def __init__(self, dice: random.Random, replicas: int) -> None:
        super().__init__(dice, replicas)
        self.loses_disks = False
        self.eras = self.lost = self.came_back = 0
        self.aside: list[tuple[int, Store]] = []

    def fault(self) -> None:
        if self.dice.random() < FORCES:
            return self.force()
        if self.aside and self.dice.random() < FORCES:
            return self.come_back()
        return super().fault()

    def force(self) -> None:
        """Everybody dies, and all disks but one are away; the command makes copies of that one."""
        self._bury([self.cores.pop(i) for i in list(self.cores)])
        self.held.clear()
        chosen, *others = self.dice.sample(self.ids, len(self.ids))
        if self.dice.random() < 0.5:  # the one that lacks most
            others = sorted((chosen, *others), key=lambda i: (self.stores[i].log_view, self.stores[i].tip()[0]))
            chosen = others.pop(0)
        store = self.stores[chosen]
        if not store.log_view or store.damage:
            return
        self.eras += 1
        is_given_up = store.log_view // ERA < max(s.log_view // ERA for s in (*self.stores, *(s for _, s in self.aside)))
        number = max([self.eras, *(s.view // ERA + 1 for s in self.stores)]) * ERA + chosen
        copies = others[: self.enough - 1]
        for i in others:
            if not store.holds(*self.stores[i].tip()) or self.dice.random() < 0.1:
                self.aside.append((i, self.stores[i]))
            self.stores[i] = copy.deepcopy(store) if i in copies else Store()
        for i in (chosen, *copies):
            self.incs[i] += 1
            kept = self.stores[i]
            kept.view = kept.log_view = number
            kept.born, kept.met = self.incs[i], {}
        self.wiped = {i for i in self.ids if i not in (chosen, *copies)}
        self.forget(store, is_given_up)

    def forget(self, store: Store, is_given_up: bool) -> None:
        """What the command says: all beyond the end, another last batch than this, and all of a view that was forced without this disk."""
        end, last = store.tip()[0], store.log[-1] if store.log else None
        for op, tip in list(self.answered.items()):
            if store.holds(op, tip):
                continue
            is_said = op > end or is_given_up or (last is not None and op >= last.first_op)
            assert is_said, f"op {op} was answered, is lost, and the command did not say so"
            del self.answered[op]
            self.lost += 1

    def come_back(self) -> None:
        """A disk of before is put back in the place of one that has begun since, while a majority can do without."""
        i, store = self.aside.pop(self.dice.randrange(len(self.aside)))
        if len(self.wiped | {i}) > len(self.ids) - self.enough:
            return
        if i in self.cores:
            self._bury([self.cores.pop(i)])
        self.stores[i] = store
        self.wiped.add(i)
        self.came_back += 1

    def revive(self, i: int) -> None:
        """A disk whose log a forced view went on without is set aside at the start, once it was learnt (`storage.py`)."""
        forced = [forced for (who, _), forced in zip(self.exits, self.forced, strict=True) if who == i and forced]
        store = self.stores[i]
        if forced and store.log_view < forced[-1] and (store.log or store.base_op):
            self.stores[i] = Store(view=store.view, met=store.met, damage="given up")
        super().revive(i)


class Decisions(unittest.TestCase):
    def ends_with_one_log(self, world: Diced) -> None:
        world.walk()
        op = world.say(world.primary(), b"the end")
        world.run(1.0)
        self.assertEqual([words for _, words in world.exits if "COMMITTED" in words], [])
        self.assertEqual({world.stores[i].tip() for i in world.ids}, {(op, world.stores[0].tip()[1])}, list(world.cores.values()))

    def test_three_become_five(self) -> None:
        early = 0
        for seed in range(WALKS // 5):
            with self.subTest(seed=seed):
                world = Grown(random.Random(seed))
                self.ends_with_one_log(world)
                early += 0 < world.grown_at < max(world.answered) - 3
        self.assertGreater(early, WALKS // 20, "otherwise the larger cluster went through nothing")

    def test_an_operator_goes_on_from_one_disk(self) -> None:
        eras = lost = came_back = 0
        for seed in range(WALKS):
            replicas = 5 if seed % 3 == 2 else 3
            with self.subTest(seed=seed, replicas=replicas):
                world = Forced(random.Random(seed), replicas)
                self.ends_with_one_log(world)
                eras, lost, came_back = eras + world.eras, lost + world.lost, came_back + world.came_back
        self.assertGreater(min(eras, lost, came_back), WALKS // 5, "otherwise nothing was decided")


if __name__ == "__main__":
    unittest.main()
