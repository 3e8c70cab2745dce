"""Three hosts in namespaces: killed, cut off, cut one way, slow and lossy, healed. Needs root and TUN devices, or is skipped."""

from __future__ import annotations

import asyncio
import time
import unittest

from tests.system.apart import ApartCluster, Prober
from tests.system.spaces import NotPermitted
from tests.system.stage import SystemTest
from tests.system.talk import Talker

GAP_S = 1.5  # promised at 1 ms round trip: 99 of 100 clients wait no longer after a host has disappeared without a word
TENFOLD = 10  # tests run on busy machines
RTT_S = 0.001


class Apart(SystemTest):
    cluster: ApartCluster

    def setUp(self) -> None:
        try:
            cluster = ApartCluster()
        except NotPermitted as error:
            self.skipTest(f"no network namespaces here: {error}")
        self.addCleanup(cluster.end)
        self.begin(cluster)
        self.spaces = cluster.spaces

    async def begin_talk(self, *names: str, pace: float = 0.002) -> None:
        """These people talk from now on, each at another host first."""
        for i, name in enumerate(names):
            talker = Talker(name, self.cluster.rotated("pipe", i), pace=pace)
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

    async def test_a_host_disappears_without_a_word(self) -> None:
        """Nothing ends a connection: its cable is dead before its processes are."""
        self.spaces.weather(delay=RTT_S / 2)
        primary = await self.start()
        await self.begin_talk("ann", "bob", "cid")
        moment = time.monotonic()
        self.spaces.isolate(primary)
        await self.aside(self.cluster.kill, primary)
        await self.soon("everybody is answered", lambda: all(t.has_noticed(moment) for t in self.talkers))
        gaps = [t.gap_after(moment, time.monotonic()) for t in self.talkers]
        self.assertLess(max(gap for gap in gaps if gap is not None), GAP_S * TENFOLD)
        self.spaces.heal()
        self.cluster.start(primary)
        await self.end_talk()

    async def test_a_primary_that_is_cut_off_stores_nothing(self) -> None:
        """Its own guests still reach it; they are told nothing, until it is whole again."""
        primary = await self.start()
        await self.begin_talk("ann", "bob", "cid")
        self.spaces.isolate(primary, but=[self.spaces.here])
        self.assertGreater(await self.refused(primary), 0)
        await self.more_talk()
        self.spaces.heal()
        await self.more_talk()
        await self.end_talk()

    async def test_one_direction(self) -> None:
        """The primary is heard and hears nobody; then it hears everybody and nobody hears it; then one wire is dead."""
        await self.start()
        await self.begin_talk("ann", "bob")
        for way in ("deaf", "mute", "one wire"):
            with self.subTest(way=way):
                primary = await self.aside(self.cluster.wait_members)
                others = self.cluster.others(primary)
                ways = {
                    "deaf": [(o, primary) for o in others],
                    "mute": [(primary, o) for o in others],
                    "one wire": [(primary, others[0]), (others[0], primary)],
                }
                self.spaces.cut(*ways[way])
                await self.more_talk(30)
                self.spaces.heal()
        await self.end_talk()

    async def test_nobody_reaches_anybody(self) -> None:
        """Three minorities: none stores anything; whole again, they go on."""
        await self.start()
        await self.begin_talk("ann", "bob")
        self.spaces.cut(*((a, b) for a in self.cluster.ids for b in self.cluster.ids if a != b))
        await self.refused(*self.cluster.ids)
        self.spaces.heal()
        await self.more_talk()
        await self.end_talk()

    async def test_slow_and_lossy(self) -> None:
        """20 ms each way, and one packet of twenty lost: slower, and nothing else."""
        await self.start()
        self.spaces.weather(delay=0.02, share_lost=0.05)
        await self.begin_talk("ann", "bob")
        await self.more_talk(20)
        self.spaces.weather()
        await self.end_talk()


if __name__ == "__main__":
    unittest.main()
