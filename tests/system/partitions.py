"""What can happen to hosts that share nothing, one method a kind: cables that are dead both ways or one, hosts that vanish, bad weather.

What it is not: it waits for no recovery and judges nothing but one thing, which nobody could see afterwards: what a minority says.

    round           what is done                                                                    meanwhile
    primary off     no packet to or from the host of the primary; clients reach it, or do not       it is asked to store something
    backup off      the same, of a backup                                                           the same
    split           nobody reaches anybody                                                          all are asked
    one way         a host is not heard, or hears nothing: the primary, or a backup
    one wire        two hosts do not reach each other, one way or both
    flap            a host is cut off and whole again, four times in a row
    host gone       a host vanishes without a word: first its cable, then its processes             what clients noticed is measured
    kill            kill -9 of a replica: its kernel says so to everybody                           the same
    weather         packets are 5 to 30 ms under way, and 1 to 5 of a hundred get lost

Read next: `apart.py`, `campaign.py`.
"""

from __future__ import annotations

import asyncio
import itertools

from tests.system.apart import ApartCluster, Prober
from tests.system.campaign import Campaign, Fault
from tests.system.figures import MINORITY

SHARES = {
    "primary off": 14,
    "backup off": 8,
    "split": 5,
    "one way": 12,
    "one wire": 10,
    "flap": 10,
    "host gone": 12,
    "kill": 6,
    "weather": 4,
}
HALF_RTT_S = 0.0005  # each way, when the weather is good
SHORT_S, LONG_S = 0.1, 2.0  # seconds a cut lasts: from less than anybody notices to well after everybody has moved
GONE, GONE_BACKUP = "the host of the primary vanishes", "the host of a backup vanishes"
KILLED = "kill -9 of the primary, on a host of its own"
PARTITIONS = "partitions"


class Partitions:
    """All kinds, for one campaign."""

    def __init__(self, campaign: Campaign, cluster: ApartCluster) -> None:
        self.campaign, self.cluster, self.dice, self.spaces = campaign, cluster, campaign.dice, cluster.spaces
        self.figures = campaign.figures
        self.spaces.weather(HALF_RTT_S)
        self.kinds: dict[str, Fault] = {
            "primary off": lambda: self.off(self.campaign.primary),
            "backup off": lambda: self.off(self.backup()),
            "split": self.split,
            "one way": self.one_way,
            "one wire": self.one_wire,
            "flap": self.flap,
            "host gone": self.host_gone,
            "kill": self.kill,
            "weather": self.weather,
        }

    def backup(self) -> int:
        return self.dice.choice(self.cluster.others(self.campaign.primary))

    def pick(self) -> int:
        """The primary as often as a backup."""
        return self.dice.choice([self.campaign.primary, self.backup()])

    # --- cables ---------------------------------------------------------------------------------------------------------------------------

    async def hold(self, *minority: int) -> None:
        """A cut lasts; these are asked all the while, and must not store anything."""
        self.figures.injected[PARTITIONS] += 1
        probers = [Prober(self.cluster, i) for i in minority]
        asking = [asyncio.create_task(prober.run()) for prober in probers]
        try:
            await asyncio.sleep(self.dice.uniform(SHORT_S, LONG_S))
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
            accepted = [name for prober in probers for name in prober.accepted]
            self.spaces.heal()
        self.figures.injected["requests to a minority"] += sum(prober.asked for prober in probers)
        self.figures.audit[MINORITY] += len(accepted)
        self.figures.failed += [f"accepted by a minority: {', '.join(accepted)}"] if accepted else []

    async def off(self, replica: int) -> None:
        is_reached = self.dice.random() < 0.6
        self.spaces.isolate(replica, but=[self.spaces.here] if is_reached else [])
        await self.hold(*([replica] if is_reached else []))

    async def split(self) -> None:
        self.spaces.cut(*itertools.permutations(self.cluster.ids, 2))
        await self.hold(*self.cluster.ids)

    async def one_way(self) -> None:
        replica = self.pick()
        is_deaf = self.dice.random() < 0.5
        self.spaces.cut(*((o, replica) if is_deaf else (replica, o) for o in self.cluster.others(replica)))
        await self.hold()

    async def one_wire(self) -> None:
        one, other = self.dice.sample(self.cluster.ids, 2)
        self.spaces.cut((one, other), *([(other, one)] if self.dice.random() < 0.5 else []))
        await self.hold()

    async def flap(self) -> None:
        replica = self.pick()
        for _ in range(4):
            self.figures.injected[PARTITIONS] += 1
            self.spaces.isolate(replica, but=[self.spaces.here] if self.dice.random() < 0.5 else [])
            await self.campaign.rest(0.6)
            self.spaces.heal()
            await self.campaign.rest(0.2)

    # --- hosts ----------------------------------------------------------------------------------------------------------------------------

    async def host_gone(self) -> None:
        replica, primary = self.pick(), self.campaign.primary
        self.figures.injected[PARTITIONS] += 1
        self.spaces.isolate(replica)
        moment = self.campaign.strike(replica, during="of a host that vanished without a word")
        await self.campaign.note_gaps(GONE if replica == primary else GONE_BACKUP, moment)
        await self.campaign.buried()
        self.spaces.heal()

    async def kill(self) -> None:
        replica, primary = self.pick(), self.campaign.primary
        moment = self.campaign.strike(replica)
        if replica == primary:
            await self.campaign.note_gaps(KILLED, moment)
        await self.campaign.buried()

    async def weather(self) -> None:
        self.figures.injected["bad weather"] += 1
        self.spaces.weather(self.dice.uniform(0.005, 0.03), self.dice.uniform(0.01, 0.05))
        await asyncio.sleep(LONG_S)
        self.spaces.weather(HALF_RTT_S)
