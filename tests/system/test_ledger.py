"""The ledger on real processes: whatever dies, the sum of all balances is what was acknowledged."""

from __future__ import annotations

import asyncio
import random
import secrets

from client import ChatClient
from guest import LEDGER, Guest
from tests.system.stage import SystemTest

TELLERS = 4


class Teller:
    """Pays in and takes out at random, one payment at a time; `balance` is what was acknowledged."""

    def __init__(self, name: str, ports: list[int], seed: int) -> None:
        self.name, self.balance, self.payments = name, 0, 0
        self.dice = random.Random(seed)
        self.client = ChatClient(ports, guest=Guest(secrets.token_hex(16), dialect=LEDGER))

    async def work(self, ending: asyncio.Event) -> None:
        """Until told to end."""
        self.client.start()
        assert await self.client.request(f"1|{self.name}") == f"{self.name}123\n"
        while not ending.is_set():
            amount, op = self.dice.randrange(1, 1000), self.dice.choice("23")
            reply = await self.client.request(f"{op}|{self.name}123|{amount}")
            if op == "3" and amount > self.balance:
                assert reply == f"insufficient funds: {self.balance}\n", reply
            else:
                self.balance += amount if op == "2" else -amount
                assert reply == f"{self.balance}\n", (reply, self.balance)
            self.payments += 1
            if self.payments % 7 == 0:
                reply = await self.client.request(f"4|{self.name}123")
                assert reply == f"{self.balance}\n", (reply, self.balance)


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
