"""People at the ledger who pay in and take out without pause, and know after each answer what they must have.

What it is not: it starts no server (`cluster.py`). Each has an account of their own, so that every balance they are told is either right or
a payment was lost, doubled or invented.

Read next: `test_ledger.py`, `campaign.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets

from client import ChatClient
from dialects import LEDGER
from guest import Guest
from tests.system.cluster import PLAINTEXT, Proof


class Teller:
    """Pays in and takes out at random, one payment at a time; `balance` is what was acknowledged."""

    def __init__(self, name: str, ports: list[int], seed: int, *, pace: float = 0.0, proof: Proof = PLAINTEXT) -> None:
        self.name, self.balance, self.payments, self.pace, self.password = name, 0, 0, pace, proof.password
        self.dice = random.Random(seed)
        self.client = ChatClient(ports, guest=Guest(secrets.token_hex(16), dialect=LEDGER), tls=proof.tls)

    async def work(self, ending: asyncio.Event) -> None:
        """Until told to end."""
        self.client.start()
        reply = await self.client.request(f"1|{self.name}{self.password}")
        assert reply == f"{self.name}123\n", reply
        while not ending.is_set():
            amount, op = self.dice.randrange(1, 1000), self.dice.choice("23")
            reply = await self.client.request(f"{op}|{self.name}123|{amount}")
            if op == "3" and amount > self.balance:
                assert reply == f"insufficient funds: {self.balance}\n", (self.name, reply, self.balance)
            else:
                self.balance += amount if op == "2" else -amount
                assert reply == f"{self.balance}\n", (self.name, reply, self.balance)
            self.payments += 1
            if self.payments % 7 == 0:
                reply = await self.client.request(f"4|{self.name}123")
                assert reply == f"{self.balance}\n", (self.name, reply, self.balance)
            if self.pace:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(ending.wait(), self.pace)
