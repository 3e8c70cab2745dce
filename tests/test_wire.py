"""A client's connection: TLS, and clear words for whoever cannot be trusted."""

from __future__ import annotations

import asyncio
import os
import re
import ssl
import tempfile
import unittest
from typing import Any
from unittest import mock

import credentials
import wire
from client import ChatClient, NoAnswer
from tests import certified
from tests.fake_replicas import FakeReplicas

LIMIT_S = 20.0


class Secured(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self) -> None:
        self.troubles: list[str] = []
        asyncio.get_running_loop().slow_callback_duration = LIMIT_S
        asyncio.get_running_loop().call_later(LIMIT_S, lambda: [task.cancel() for task in asyncio.all_tasks()])

    async def replicas(self, tls: ssl.SSLContext | None) -> FakeReplicas:
        return await self.enterAsyncContext(FakeReplicas(tls=tls))

    def client(self, replicas: FakeReplicas, tls: ssl.SSLContext | None) -> ChatClient:
        client = ChatClient(replicas.ports, tls=tls, on_trouble=self.troubles.append)
        client.start()
        self.addCleanup(client.stop, "the test is over")
        return client

    def ours(self, kind: str = "ours") -> ssl.SSLContext:
        return credentials.of_client(os.path.join(certified.directory(kind), credentials.CA))

    async def test_a_conversation_over_a_failover(self) -> None:
        replicas = await self.replicas(credentials.of_doors(certified.directory(), 1))
        client = self.client(replicas, self.ours())
        await client.request("1|mason")
        await replicas[0].die()
        self.assertIn("to mason", await client.request("3|mason|hello"))
        self.assertEqual(self.troubles, [])

    async def assert_distrusts(self, replicas: FakeReplicas, tls: ssl.SSLContext | None, why: str) -> None:
        """Each is complained of once, though all are dialled twice."""
        dials, dial = 0, wire.dial

        async def counted(*whom: Any) -> None:
            nonlocal dials
            dials += 1
            await dial(*whom)

        with mock.patch("client.dial", counted):
            client = self.client(replicas, tls)
            asked = asyncio.ensure_future(client.request("1|mason"))
            while dials < 7:
                await asyncio.sleep(0.01)
            client.stop("all were dialled twice")
        with self.assertRaises(NoAnswer):
            await asked
        told = [words for words in self.troubles if why in words]
        self.assertEqual(len(told), 3, f"once of each: {self.troubles}")
        self.assertEqual(replicas.executed, [])

    async def test_a_certificate_of_another_ca(self) -> None:
        replicas = await self.replicas(credentials.of_doors(certified.directory("theirs"), 1))
        await self.assert_distrusts(replicas, self.ours(), "shows a certificate that does not count: ")

    async def test_a_certificate_for_another_address(self) -> None:
        replicas = await self.replicas(credentials.of_doors(certified.guest(), 1))
        await self.assert_distrusts(replicas, self.ours(), "does not count: IP address mismatch")

    async def test_a_certificate_that_has_ended(self) -> None:
        replicas = await self.replicas(credentials.of_doors(certified.directory("old"), 1))
        await self.assert_distrusts(replicas, self.ours(), "does not count: certificate has expired")

    async def test_a_server_without_tls(self) -> None:
        await self.assert_distrusts(await self.replicas(None), self.ours(), "speaks no TLS that would do")

    async def test_a_client_without_tls(self) -> None:
        replicas = await self.replicas(credentials.of_doors(certified.directory(), 1))
        client = self.client(replicas, None)
        asked = asyncio.ensure_future(client.request("1|mason"))
        advice = "takes connections and ends them: if it speaks TLS, name its cluster's CA (--ca FILE)"
        while not any(advice in words for words in self.troubles):  # until it is told, or `LIMIT_S`: a busy machine ends nothing at once
            await asyncio.sleep(0.01)
        client.give_up_after = 0.0
        with self.assertRaisesRegex(NoAnswer, re.escape(advice)):
            await asked
        self.assertEqual(replicas.executed, [])


class Belief(unittest.TestCase):
    """Which CA a client believes."""

    def setUp(self) -> None:
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.config = os.path.join(place.name, "cluster.yaml")
        os.symlink(certified.directory(), os.path.join(place.name, "certs"))
        self.write("tls: certs")

    def write(self, more: str) -> None:
        rows = "".join(f'  - {{id: {i}, peer: "10.0.0.{i}:7661", doors: {{pipe: 6666}}}}\n' for i in (0, 1, 2))
        rows = rows.replace("10.0.0.0", "10.0.0.9")
        with open(self.config, "w") as file:
            file.write(f"cluster: {{name: dormitory, {more}}}\naccounts: {{require_password: true}}\nreplicas:\n{rows}")

    def test_that_of_the_configuration_for_those_who_are_in_it(self) -> None:
        for address, is_secured in ((("10.0.0.1", 6666), True), (("127.0.0.1", 6666), True), (("10.0.0.1", 7777), False)):
            self.assertEqual(wire.context_for(None, [address], self.config) is not None, is_secured, address)
        self.write("tls: certs, allow_plaintext: true")
        self.assertIsNone(wire.context_for(None, [("10.0.0.1", 6666)], self.config))
        self.assertIsNone(wire.context_for(None, [("10.0.0.1", 6666)], self.config + ".none"))

    def test_that_which_was_named_for_everybody(self) -> None:
        ca = os.path.join(certified.directory(), credentials.CA)
        self.assertIsNotNone(wire.context_for(ca, [("10.0.0.1", 7777)], None))
        with self.assertRaisesRegex(ValueError, "none.pem cannot be read"):
            wire.context_for("none.pem", [], None)


if __name__ == "__main__":
    unittest.main()
