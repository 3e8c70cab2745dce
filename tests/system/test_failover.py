"""The primary dies, hangs or goes, while people talk: nobody loses a word."""

from __future__ import annotations

import time

from tests.system.stage import SystemTest

TAKES_OVER_S = 1.5  # promised for a primary that hangs
TENFOLD = 10  # tests run on busy machines


class Failover(SystemTest):
    """`kill -9` and SIGSTOP of primaries."""

    async def test_two_deaths_and_two_returns(self) -> None:
        """The primary dies, then its successor; the last one serves alone; both rejoin, and one of them can then be the last."""
        await self.start()
        await self.begin_talk("ann", "bob", "cid")
        deaths = []
        for _ in range(2):
            primary = await self.aside(self.cluster.wait_serving)
            await self.aside(self.cluster.kill, primary)
            deaths.append(primary)
            await self.more_talk()
        (last,) = set(self.cluster.ids) - set(deaths)
        row = await self.soon("it answers an operator", lambda: self.cluster.status(last))
        self.assertEqual(row and row["members"], [last])
        self.cluster.start(*deaths)
        await self.aside(self.cluster.wait_members)
        await self.more_talk()
        for dead in (last, deaths[0]):
            await self.aside(self.cluster.kill, dead)
            await self.more_talk()
        self.cluster.start(last, deaths[0])
        verdict = await self.end_talk()
        self.assertGreater(verdict.acknowledged, 60)

    async def test_guests_of_a_backup_keep_their_connection(self) -> None:
        """The primary's guests move to another replica; those of a backup do not."""
        primary = await self.start()
        await self.begin_talk("ann", "bob", "cid")
        at = {t.name: t.client.address for t in self.talkers}
        await self.aside(self.cluster.kill, primary)
        await self.more_talk(20)
        for talker in self.talkers:
            was_there = at[talker.name] == ("127.0.0.1", self.cluster.pipes[primary])
            self.assertEqual(len(talker.moves), int(was_there), f"{talker.name}: {talker.moves}")
        self.cluster.start(primary)
        await self.end_talk()

    async def test_a_hung_primary_is_replaced_and_wakes_as_nobody(self) -> None:
        """SIGSTOP: others take over; on waking it does not answer as primary, and comes back into the view."""
        primary = await self.start()
        await self.begin_talk("ann", "bob", "cid")
        guest = self.plain(primary)
        self.assertIn("Success", guest.ask("1|dora"))
        began = time.monotonic()
        self.cluster.pause(primary)
        heir = await self.aside(lambda: self.cluster.wait_serving(TAKES_OVER_S * TENFOLD, but=[primary]))
        await self.more_talk()
        self.assertLess(time.monotonic() - began, TAKES_OVER_S * TENFOLD)
        self.assertNotEqual(heir, primary)
        guest.say("2\n")  # a read that only a primary may answer
        self.cluster.resume(primary)
        heard = await self.aside(guest.to_end)
        self.assertNotIn(b"Showing all", heard)
        self.assertEqual(await self.aside(self.cluster.wait_members), heir)
        await self.end_talk()

    async def test_a_hung_backup_costs_a_moment(self) -> None:
        """Commits wait for it until it is voted out; it comes back when it wakes."""
        primary = await self.start()
        await self.begin_talk("ann", "bob")
        backup = next(i for i in self.cluster.ids if i != primary)
        others = [i for i in self.cluster.ids if i != backup]
        self.cluster.pause(backup)
        self.assertEqual(await self.aside(self.cluster.wait_members, *others), primary)
        await self.more_talk()
        self.cluster.resume(backup)
        await self.end_talk()

    async def test_messages_reach_somebody_who_is_between_two_servers(self) -> None:
        """The recipient's server dies; what is written to them before they are back is shown once, in order."""
        primary = await self.start()
        backup = next(i for i in self.cluster.ids if i != primary)
        session = self.numbered(primary)
        self.assertIn("Success", session.request(1, "1|rosa"))
        sender = self.numbered(backup)
        self.assertIn("Success", sender.request(1, "1|sam"))
        self.assertIn("new message one to rosa", sender.request(2, "3|rosa|one"))
        await self.aside(self.cluster.kill, primary)
        for number, word in enumerate(("two", "three", "four"), 3):
            self.assertIn("rosa", sender.request(number, f"3|rosa|{word}"))
        session.to_end()
        again = self.numbered(backup, session.session, seen=0)
        self.assertEqual(again.opened()[0], "rosa")
        self.assertIn("here now", again.request(2, "who"))
        self.assertEqual(
            [(seq, words.split("|", 3)[3]) for seq, words in again.pushed], list(enumerate(("one", "two", "three", "four"), 1))
        )

    async def test_a_request_that_is_sent_again_is_done_once(self) -> None:
        """The reply was lost with the primary: the successor gives the same one and does not do it again."""
        primary = await self.start()
        guest = self.numbered(primary)
        guest.request(1, "1|ida")
        guest.request(2, "1|ida")
        first = guest.request(3, "3|ida|only once")
        await self.aside(self.cluster.kill, primary)
        heir = await self.aside(self.cluster.wait_serving)
        again = self.numbered(heir, guest.session, seen=0)
        self.assertEqual(again.request(3, "3|ida|only once"), first)
        self.assertIn("here now", again.request(4, "who"))  # what is pushed follows the replies
        self.assertEqual([words.rpartition("|")[2] for _, words in again.pushed], ["only once"])
        self.cluster.start(primary)
        await self.aside(self.cluster.wait_members)
        op = await self.aside(self.cluster.wait_level)
        self.assertGreater(op, 0)
        self.assertEqual(self.cluster.history(heir), [("ida", "ida", "only once")])
