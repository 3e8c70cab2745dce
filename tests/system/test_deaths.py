"""Total failures, lost disks, and who may begin again."""

from __future__ import annotations

import os
import time

from tests.system.guests import Plain
from tests.system.stage import SystemTest

SERVES_ALONE_S = 2.0  # promised for one member of the last view
TENFOLD = 10  # tests run on busy machines


class Deaths(SystemTest):
    """Whatever dies, what was acknowledged is there."""

    async def test_first_start_waits_for_all_and_says_for_whom(self) -> None:
        """An empty replica that faces nobody may not begin: the others may hold everything."""
        self.cluster.start(0, 2)
        await self.soon("both wait for 1", lambda: all("for replica 1" in str(s["waiting"]) for s in self.pair(0, 2)))
        done = await self.aside(self.cluster.run, "status")
        self.assertEqual(done.returncode, 1)
        self.assertIn("not running: 1", done.stdout)
        self.assertIn("waits for replica 1 to start", done.stdout)
        self.cluster.start(1)
        await self.aside(self.cluster.wait_members)

    def pair(self, *replicas: int) -> list[dict[str, object]]:
        """What they say; an empty word for who does not answer."""
        return [self.cluster.status(i) or {"waiting": ""} for i in replicas]

    async def test_two_at_once(self) -> None:
        """The primary and a backup die in the same moment."""
        primary = await self.start()
        await self.begin_talk("ann", "bob", "cid")
        other = next(i for i in self.cluster.ids if i != primary)
        await self.aside(self.cluster.kill, primary, other)
        await self.more_talk()
        self.cluster.start(primary, other)
        await self.end_talk()

    async def test_after_the_death_of_all_anyone_of_the_last_view_serves_alone(self) -> None:
        """Each of the three in turn: started alone it has everything that was acknowledged."""
        await self.start()
        await self.begin_talk("ann", "bob")
        for alone in self.cluster.ids:
            with self.subTest(alone=alone):
                await self.aside(self.cluster.kill_all)
                told = {t.name: sum(len(n) for n in t.acked.values()) for t in self.talkers}
                began = time.monotonic()
                self.cluster.start(alone)
                self.assertEqual(await self.aside(self.cluster.wait_serving, SERVES_ALONE_S * TENFOLD), alone)
                self.assertLess(time.monotonic() - began, SERVES_ALONE_S * TENFOLD)
                await self.more_talk()
                self.assertTrue(all(sum(len(n) for n in t.acked.values()) > told[t.name] for t in self.talkers))
                self.cluster.start(*(i for i in self.cluster.ids if i != alone))
                await self.aside(self.cluster.wait_members)
        await self.end_talk()

    async def test_all_killed_and_all_started(self) -> None:
        """The usual case of a power cut."""
        await self.start()
        await self.begin_talk("ann", "bob", "cid")
        await self.aside(self.cluster.kill_all)
        await self.start()
        await self.more_talk()
        await self.end_talk()

    async def test_who_was_not_in_the_last_view_waits(self) -> None:
        """It would serve without what the others acknowledged after it died."""
        primary = await self.start()
        await self.begin_talk("ann", "bob")
        late = next(i for i in self.cluster.ids if i != primary)
        rest = [i for i in self.cluster.ids if i != late]
        await self.aside(self.cluster.kill, late)
        await self.aside(self.cluster.wait_members, *rest)
        await self.more_talk()
        await self.aside(self.cluster.kill, *rest)
        self.cluster.start(late)
        wanted = f"for replica {rest[0]}, {rest[1]}"
        await self.soon("it says whom it needs", lambda: wanted in str(self.pair(late)[0]["waiting"]))
        # Longer than it would wait for others if it were allowed to begin.
        began = time.monotonic()
        await self.soon("it goes on waiting", lambda: self.cluster.primary() is not None or time.monotonic() - began > 2.5)
        self.assertIsNone(self.cluster.primary())
        done = await self.aside(self.cluster.run, "status")
        self.assertEqual(done.returncode, 1)
        self.assertIn(wanted, done.stdout)
        self.cluster.start(rest[1])
        await self.more_talk()
        self.cluster.start(rest[0])
        await self.end_talk()

    async def test_an_emptied_replica_comes_back_as_a_learner(self) -> None:
        """Its id still stands in the view when it comes back with nothing: it may not speak for what it has lost."""
        primary = await self.start()
        await self.begin_talk("ann", "bob")
        lost = next(i for i in self.cluster.ids if i != primary)
        await self.aside(self.cluster.kill, lost)
        self.cluster.empty(lost)
        self.cluster.start(lost)
        await self.aside(self.cluster.wait_members)
        await self.end_talk()

    async def test_an_emptied_replica_does_not_begin_alone(self) -> None:
        """Even though its id stands in the last view."""
        await self.start()
        await self.begin_talk("ann", "bob")
        await self.aside(self.cluster.kill_all)
        self.cluster.empty(0)
        self.cluster.start(0)
        await self.soon("it says whom it needs", lambda: "for replica 1, 2" in str(self.pair(0)[0]["waiting"]))
        self.assertIn("it is empty", str(self.pair(0)[0]["waiting"]))
        self.cluster.start(1)
        await self.more_talk()
        self.cluster.start(2)
        await self.end_talk()

    async def test_rejoins_by_snapshot_where_the_log_is_gone(self) -> None:
        """The others have dropped the beginning of their logs: an emptied replica gets a snapshot, byte for byte the same."""
        primary = await self.start()
        guest = self.plain(primary)
        guest.ask("1|writer")
        segments = os.path.join(self.cluster.base, f"replica-{primary}", "journal")
        first = min(os.listdir(segments))
        sent = 0
        while first in os.listdir(segments):  # until two snapshots have been made above the first segment
            self.assertLess(sent, 200, "the journal is never cut")
            for _ in range(10):
                await self.aside(lambda: guest.ask(f"3|writer|{'x' * 60_000}", " to writer\n"))
            sent += 10
            await self.aside(self.cluster.wait_level)
        lost = next(i for i in self.cluster.ids if i != primary)
        await self.aside(self.cluster.kill, lost)
        self.cluster.empty(lost)
        self.cluster.start(lost)
        await self.aside(self.cluster.wait_members)
        self.assertIn("installed the snapshot", self.cluster.log(lost))
        await self.aside(self.cluster.wait_level)
        self.assertEqual(self.cluster.differences(), [])
        self.assertEqual(len(self.cluster.history(lost)), sent)
        await self.aside(self.cluster.kill, *(i for i in self.cluster.ids if i != lost))
        self.assertEqual(await self.aside(self.cluster.wait_serving), lost)
        with Plain(self.cluster.pipes[lost]) as other:
            self.assertIn("writer", await self.aside(lambda: other.ask("2")))
