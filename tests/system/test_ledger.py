"""The ledger on real processes: whatever dies, the sum of all balances is what was acknowledged."""

from __future__ import annotations

import asyncio

from tests.system.stage import SystemTest
from tests.system.tellers import Teller

TELLERS = 4


class Ledger(SystemTest):
    """Payments through two deaths of primaries."""

    async def test_every_payment_counts_once(self) -> None:
        await self.start()
        ports = self.cluster.doors["ledger"]
        tellers = [Teller(f"teller{i}", ports[i % 3 :] + ports[: i % 3], i) for i in range(TELLERS)]
        working = [asyncio.create_task(teller.work(self.ending)) for teller in tellers]

        async def more() -> None:
            wanted = [t.payments + 20 for t in tellers]
            await self.soon(
                "all go on", lambda: all(t.payments >= w for t, w in zip(tellers, wanted, strict=True)) or any(w.done() for w in working)
            )

        await more()
        for _ in range(2):
            primary = await self.aside(self.cluster.wait_serving)
            await self.aside(self.cluster.kill, primary)
            await more()
            self.cluster.start(primary)
            await self.aside(self.cluster.wait_members)
        self.ending.set()
        await asyncio.wait_for(asyncio.gather(*working), 20)
        for teller in tellers:
            teller.client.stop("the test is over")
        await self.aside(self.cluster.wait_level)
        self.assertEqual(self.cluster.differences(), [])
        rows = {row["name"]: int(row["balance"]) for row in self.cluster.table(0, "accounts")}
        self.assertEqual(rows, {t.name: t.balance for t in tellers})
