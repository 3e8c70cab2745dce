"""What the tests of real processes share: a cluster for each test, and its people.

What it is not: no test stands here.

Read next: `test_failover.py`.
"""

from __future__ import annotations

import asyncio
import unittest
from collections.abc import Callable
from typing import Any, TypeVar

from tests.system.cluster import Cluster
from tests.system.guests import Numbered, Plain
from tests.system.talk import Talker, Verdict, audit, finish, leave, soon

T = TypeVar("T")


class SystemTest(unittest.IsolatedAsyncioTestCase):
    """A scratch cluster that does not run yet, and people who talk in it."""

    maxDiff = None

    def setUp(self) -> None:
        cluster = Cluster()
        self.addCleanup(cluster.end)
        self.begin(cluster)

    def begin(self, cluster: Cluster) -> None:
        """Nobody talks in it yet."""
        self.cluster = cluster
        self.talkers: list[Talker] = []
        self.talking: list[asyncio.Task[None]] = []
        self.ending = asyncio.Event()

    async def asyncSetUp(self) -> None:
        asyncio.get_running_loop().set_debug(False)  # it makes people talk four times slower

    async def asyncTearDown(self) -> None:
        leave(self.talkers)
        for task in self.talking:
            task.cancel()

    async def aside(self, work: Callable[..., T], *arguments: Any) -> T:
        """What waits for processes must not keep the clients from talking."""
        return await asyncio.get_running_loop().run_in_executor(None, work, *arguments)

    async def start(self) -> int:
        """All replicas; the primary."""
        self.cluster.start()
        return await self.aside(self.cluster.wait_members)

    async def begin_talk(self, *names: str, pace: float = 0.002) -> None:
        """These people make accounts, each at another replica, and talk from now on."""
        ports = self.cluster.pipes
        for i, name in enumerate(names):
            talker = Talker(name, ports[i % len(ports) :] + ports[: i % len(ports)], pace=pace)
            self.talkers.append(talker)
            await talker.enter()
        for name, talker in zip(names, self.talkers, strict=True):
            others = [other for other in names if other != name]
            self.talking.append(asyncio.create_task(talker.talk(others, self.ending)))
        await self.more_talk()

    async def more_talk(self, count: int = 5) -> None:
        """Wait until everybody was acknowledged this many times more."""
        wanted = [len(t.acked_at) + count for t in self.talkers]
        await self.soon(
            "everybody is answered", lambda: all(len(t.acked_at) >= w for t, w in zip(self.talkers, wanted, strict=True)) or self._failed()
        )

    def _failed(self) -> bool:
        for task in self.talking:
            if task.done():
                task.result()
        return False

    async def soon(self, what: str, condition: Callable[[], T], seconds: float = 20.0) -> T:
        """Wait for a condition while everybody talks."""
        found: T = await soon(what, condition, seconds, self.cluster.tell)
        return found

    async def end_talk(self) -> Verdict:
        """Everybody stops; the verdict, which is clean, after a look at every replica's files."""
        await finish(self.talkers, self.talking, self.ending)
        verdict = await self.aside(self._judge)
        self.assertTrue(verdict.is_clean, f"{verdict}\n{self.cluster.tell()}")
        return verdict

    def _judge(self) -> Verdict:
        self.cluster.wait_members()
        self.cluster.wait_level()
        self.assertEqual(self.cluster.differences(), [])
        self.assertEqual(self.cluster.alarms(), [])
        return audit(self.talkers, [self.cluster.history(i) for i in self.cluster.ids])

    def plain(self, replica: int) -> Plain:
        """A raw guest at this replica's door."""
        guest = Plain(self.cluster.pipes[replica])
        self.addCleanup(guest.socket.close)
        return guest

    def numbered(self, replica: int, session: str = "", *, seen: int | None = None) -> Numbered:
        """A raw guest in numbered mode."""
        guest = Numbered(self.cluster.pipes[replica], session, seen=seen)
        self.addCleanup(guest.socket.close)
        return guest
