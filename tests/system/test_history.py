"""Conversations on real processes: the same pages at every replica, in files and in memory, while snapshots are made and after deaths."""

from __future__ import annotations

from tests.system.guests import Numbered
from tests.system.stage import SystemTest


class History(SystemTest):
    """Mason writes and Wayne answers; the pages are asked for in Mason's name, at each replica."""

    def page(self, replica: int, line: str = "history|wayne|500") -> tuple[str, list[str]]:
        """The first line of an answer, and who said what."""
        guest = self.numbered(replica)
        self.assertIn("logged in", guest.request(1, "0|mason123|secret"))
        head, *rows = guest.request(2, line).splitlines()
        guest.request(3, "bye")
        guest.socket.close()
        return head, [row.split("|", 2)[2] for row in rows]

    def talk(self, mason: Numbered, wayne: Numbered, count: int) -> None:
        for _ in range(count):
            self.number += 1
            mason.request(self.number, f"3|wayne|question {self.number}")
            wayne.request(self.number, f"3|mason|answer {self.number}")
            self.said += [f"mason|question {self.number}", f"wayne|answer {self.number}"]

    async def test_the_same_at_every_replica_whatever_dies(self) -> None:
        primary = await self.start()
        backup, other = (i for i in self.cluster.ids if i != primary)
        self.number, self.said = 1, list[str]()
        mason, wayne = self.numbered(backup), self.numbered(other)
        mason.request(1, "1|mason|secret")
        wayne.request(1, "1|wayne|secret")
        await self.aside(self.talk, mason, wayne, 20)
        await self.aside(self.cluster.wait_level)
        await self.aside(self.talk, mason, wayne, 20)

        for replica in self.cluster.ids:  # partly in files, partly in memory; a snapshot may be under way
            self.assertEqual(await self.aside(self.page, replica), ("conversation with wayne: 80 messages", self.said))
        self.number += 1
        mason.request(self.number, "3|wayne|the last one")
        self.said.append("mason|the last one")
        self.cluster.kill(primary)
        for replica in (backup, other):
            self.assertEqual((await self.aside(self.page, replica))[1], self.said, "what was acknowledged just before the death")

        self.cluster.start(primary)
        await self.aside(self.cluster.wait_members)
        self.cluster.kill_all()
        self.cluster.start()
        await self.aside(self.cluster.wait_members)
        for replica in self.cluster.ids:  # from the files, and from what the start has replayed
            self.assertEqual((await self.aside(self.page, replica))[1], self.said)
        head, rows = await self.aside(self.page, other, "history|wayne|3")
        older = int(head.rpartition(" ")[2])
        self.assertEqual(rows, self.said[-3:])
        self.assertEqual((await self.aside(self.page, primary, f"history|wayne|4|{older}"))[1], self.said[-7:-3])
