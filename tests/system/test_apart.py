"""Hosts in namespaces: killed, cut off, deaf, slow and lossy, healed; five of them with TLS. Needs root and TUN devices, or is skipped."""

from __future__ import annotations

import asyncio
import itertools
import time
import unittest

from tests.system.apart import ApartCluster, Prober
from tests.system.spaces import NotPermitted
from tests.system.stage import SystemTest
from tests.system.talk import Talker

GAP_S = 1.5  # promised at 1 ms round trip: 99 of 100 clients wait no longer after a host has disappeared without a word
TENFOLD = 10  # tests run on busy machines
RTT_S = 0.001


class Hosts(SystemTest):
    cluster: ApartCluster
    count, is_secured = 3, False

    def setUp(self) -> None:
        try:
            cluster = ApartCluster(replicas=self.count, is_secured=self.is_secured)
        except NotPermitted as error:
            self.skipTest(f"no network namespaces here: {error}")
        self.addCleanup(cluster.end)
        self.begin(cluster)
        self.spaces = cluster.spaces

    async def begin_talk(self, *names: str, pace: float = 0.002) -> None:
        """These people talk from now on, each at another host first."""
        for i, name in enumerate(names):
            talker = Talker(name, self.cluster.rotated("pipe", i), pace=pace, proof=self.cluster.proof)
            self.talkers.append(talker)
            await talker.enter()
        for name, talker in zip(names, self.talkers, strict=True):
            self.talking.append(asyncio.create_task(talker.talk([other for other in names if other != name], self.ending)))
        await self.more_talk()

    async def refused(self, *replicas: int, seconds: float = 2.0) -> int:
        """These are asked to store something for a while, and must not; how often they were."""
        probers = [Prober(self.cluster, i) for i in replicas]
        asking = [asyncio.create_task(prober.run()) for prober in probers]
        until = time.monotonic() + seconds
        await self.soon("probes had their time", lambda: time.monotonic() > until and all(p.asked + p.unheard for p in probers))
        for task in asking:
            task.cancel()
        self.assertEqual([p.accepted for p in probers if p.accepted], [])
        return sum(p.asked + p.unheard for p in probers)

    async def whole(self) -> int:
        """Everybody reaches everybody, and all are in the view."""
        self.spaces.heal()
        return await self.aside(self.cluster.wait_members)


class Three(Hosts):
    async def test_hosts_that_cannot_hear_each_other(self) -> None:
        """One story: the primary's host vanishes, it is cut off, it is deaf, it is mute, nobody reaches anybody, the weather is bad."""
        self.spaces.weather(delay=RTT_S / 2)
        await self.start()
        await self.begin_talk("ann", "bob", "cid")
        await self.vanishes()
        await self.cut_off()
        for is_deaf in (True, False):
            primary = await self.whole()
            self.spaces.cut(*((o, primary) if is_deaf else (primary, o) for o in self.cluster.others(primary)))
            await self.more_talk(20)
        await self.whole()
        self.spaces.cut(*itertools.permutations(self.cluster.ids, 2))
        await self.refused(*self.cluster.ids)
        await self.whole()
        self.spaces.weather(delay=0.02, share_lost=0.05)
        await self.more_talk(10)
        self.spaces.weather()
        await self.end_talk()

    async def vanishes(self) -> None:
        """Nothing ends a connection: the cable is dead before the processes are."""
        primary, moment = await self.whole(), time.monotonic()
        self.spaces.isolate(primary)
        await self.aside(self.cluster.kill, primary)
        await self.soon("everybody is answered", lambda: all(t.has_noticed(moment) for t in self.talkers))
        gaps = [t.gap_after(moment, time.monotonic()) for t in self.talkers]
        self.assertLess(max(gap for gap in gaps if gap is not None), GAP_S * TENFOLD)
        self.spaces.heal()
        self.cluster.start(primary)

    async def cut_off(self) -> None:
        """The primary's guests still reach it, and it stores nothing; the others go on."""
        primary = await self.whole()
        self.spaces.isolate(primary, but=[self.spaces.here])
        self.assertGreater(await self.refused(primary), 0)
        await self.more_talk()


class Five(Hosts):
    """Replicas prove with certificates who they are, and doors speak TLS."""

    count, is_secured = 5, True

    async def test_two_may_be_lost_and_not_three(self) -> None:
        self.spaces.weather(delay=RTT_S / 2)
        primary = await self.start()
        await self.begin_talk("ann", "bob")
        near = [primary, self.cluster.others(primary)[0]]
        self.spaces.isolate(*near, but=[self.spaces.here])
        self.assertGreater(await self.refused(*near, seconds=0.3), 0)
        await self.more_talk()
        for far in self.cluster.others(*near):
            self.spaces.isolate(far)
        words = "this side of the network is cut off; 2 of 5 replicas reachable"
        await self.soon("they read why", lambda: all(any(words in trouble for trouble in t.troubles) for t in self.talkers))
        self.assertGreater(await self.refused(*near, seconds=0.3), 0)
        lost = await self.whole()
        dead = (lost, self.cluster.others(lost)[0])
        await self.aside(self.cluster.kill, *dead)
        await self.more_talk()
        self.cluster.start(*dead)
        await self.end_talk()


if __name__ == "__main__":
    unittest.main()
