"""Cores under policy `majority`, and dice: processes die, cables are cut in one or both directions, disks answer late or are new ones.

After every event the world asserts what must never happen (`separate.py`); then all is healed, and one log must come out of it.

More: `MAJORITY_WALKS=2000 python -m unittest tests.prove_majority`. Read next: `tests/separate.py`.
"""

from __future__ import annotations

import os
import random
import unittest
from collections.abc import Callable

from events import Evaluated, Submitted, Ticked
from tests.cores import STEPS_MOST, Core
from tests.separate import Hosts

WALKS = int(os.environ.get("MAJORITY_WALKS", "25"))
TURNS = 150  # of a walk


class Diced(Hosts):
    """A world in which everybody's events come in order, but nobody knows whose come first."""

    def __init__(self, dice: random.Random, replicas: int) -> None:
        super().__init__(replicas)
        self.dice, self.is_calm, self.number = dice, True, 0
        self.loses_disks = dice.random() < 0.5

    def settle(self) -> None:
        steps = 0
        while self.queue:
            core = self.dice.choice(list({core.me: core for core, _ in self.queue}.values()))
            at = next(i for i, (whose, _) in enumerate(self.queue) if whose is core)
            event = self.queue[at][1]
            del self.queue[at]
            if core.frozen:
                core.inbox.append(event)
            elif core.exit is None:
                self.step(core, event)
            if not self.is_calm and self.dice.random() < 0.02:
                self.fault()
            steps += 1
            assert steps < STEPS_MOST, "no end of packets"
        self.check()

    # --- what goes wrong ------------------------------------------------------------------------------------------------------------------

    def fault(self) -> None:
        """One of them; none while it happens."""
        was, self.is_calm = self.is_calm, True
        self.dice.choices(list(FAULTS), list(FAULTS.values()))[0](self)
        self.is_calm = was

    def one(self) -> Core | None:
        return self.dice.choice(list(self.cores.values())) if self.cores else None

    def die(self) -> None:
        core = self.one()
        if core is not None:
            self._bury([self.cores.pop(core.me.replica)])

    def begin_again(self) -> None:
        dead = [i for i in self.ids if i not in self.cores]
        if dead:
            i = self.dice.choice(dead)
            if self.loses_disks and not self.wiped and self.dice.random() < 0.15:
                self.wipe(i)
            self.revive(i)

    def revive(self, i: int) -> None:
        self.incs[i] += 1
        core = self.cores[i] = Core(self, i, self.incs[i], self.timers)
        for other in self.cores.values():
            if other is not core:
                self.link(core, other)
        self.push(core, Ticked())

    def cut_off(self) -> None:
        self.isolate(*self.dice.sample(self.ids, self.dice.randint(1, len(self.ids) // 2)))

    def cut_one_way(self) -> None:
        self.block(*self.dice.sample(self.ids, 2))

    def stand_still(self) -> None:
        core = self.one()
        if core is not None:
            core.frozen = True

    def wake(self) -> None:
        for core in list(self.cores.values()):
            if core.frozen:
                core.frozen = False
                self.push(core, Ticked())
                while core.inbox:
                    self.push(core, core.inbox.popleft())

    def slow_disk(self) -> None:
        core = self.one()
        if core is not None:
            self.hold(core.me.replica)

    def disks_answer(self) -> None:
        for i in sorted(self.held):
            self.held.discard(i)
            if i in self.cores:
                answers = self.cores[i].answers
                while answers:
                    self.push(self.cores[i], answers.popleft())

    def link_again(self) -> None:
        if len(self.cores) > 1:
            one, other = self.dice.sample(list(self.cores.values()), 2)
            self.unlink(one, other)
            self.link(one, other)

    def shorten_journal(self) -> None:
        core = self.one()
        if core is not None:
            self.snapshot(core.me.replica)

    # --- a walk ---------------------------------------------------------------------------------------------------------------------------

    def walk(self) -> None:
        self.start()
        self.run(1.0)
        self.is_calm = False
        for _ in range(TURNS):
            if self.dice.random() < 0.5:
                self.fault()
            self.run(self.dice.choice((0.0, 0.01, 0.1, 0.3, 0.7)))
            for core in list(self.cores.values()):
                self.let_ask(core)
        self.is_calm = True
        self.heal()
        self.wake()
        self.disks_answer()
        for _ in range(4):
            for i in self.ids:
                if i not in self.cores:
                    self.revive(i)
            self.run(3.0)

    def let_ask(self, core: Core) -> None:
        r, dice = core.replica, self.dice
        if core.frozen or core.exit is not None:
            return
        self.number += 1
        if r.can_prepare and dice.random() < 0.7:
            self.step(core, Submitted(dice.randint(1, 3), b"%d" % self.number, 0))
        if r.serving and dice.random() < 0.3:
            self.step(core, Evaluated(self.number))


FAULTS: dict[Callable[[Diced], None], int] = {
    Diced.die: 15,
    Diced.begin_again: 20,
    Diced.cut_off: 10,
    Diced.cut_one_way: 5,
    Diced.heal: 15,
    Diced.stand_still: 5,
    Diced.wake: 8,
    Diced.slow_disk: 5,
    Diced.disks_answer: 7,
    Diced.link_again: 4,
    Diced.shorten_journal: 3,
}


class Walks(unittest.TestCase):
    def test_one_log_comes_out(self) -> None:
        committed = views = 0
        for seed in range(WALKS):
            replicas = 5 if seed % 3 == 2 else 3
            with self.subTest(seed=seed, replicas=replicas):
                world = Diced(random.Random(seed), replicas)
                world.walk()
                op = world.say(world.primary(), b"the end")
                world.run(1.0)
                self.assertEqual({store.tip()[0] for store in world.stores}, {op}, list(world.cores.values()))
                self.assertEqual(len({store.tip() for store in world.stores}), 1)
                committed, views = committed + op, views + world.view()
        self.assertGreater(committed, 10 * WALKS, "otherwise nothing was put to the test")
        self.assertGreater(views, 4 * WALKS)


if __name__ == "__main__":
    unittest.main()
