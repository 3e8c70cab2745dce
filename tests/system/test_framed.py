"""The framed door on real processes: its two connections through failovers, and the accounts that are there from the beginning."""

from __future__ import annotations

import socket
import time

from tests.system.cluster import Cluster
from tests.system.stage import SystemTest

DEADLINE_S = 20.0  # seconds for any answer
ARRIVES_S = 1.0  # promised from a send to the relay
TENFOLD = 10  # tests run on busy machines
PEOPLE = "{initial: [{name: tester, password: abc123}, {name: abc, password: abc}]}"


class Line:
    """One connection, frame by frame."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), DEADLINE_S)
        self.heard = b""

    def say(self, body: str) -> None:
        words = body.encode()
        self.socket.sendall(str(len(words)).ljust(10).encode() + words)

    def hear(self) -> str:
        """The next frame; empty: the server has closed."""
        while len(self.heard) < 10 or len(self.heard) < 10 + int(self.heard[:10]):
            try:
                chunk = self.socket.recv(1 << 16)
            except ConnectionError:
                chunk = b""
            if not chunk:
                return ""
            self.heard += chunk
        size = int(self.heard[:10])
        body, self.heard = self.heard[10 : 10 + size], self.heard[10 + size :]
        return body.decode()

    def ask(self, body: str) -> str:
        self.say(body)
        return self.hear()


class Framed(SystemTest):
    """As clients of old use it."""

    def line(self, door: str, replica: int) -> Line:
        line = Line(self.cluster.doors[door][replica])
        self.addCleanup(line.socket.close)
        return line

    def enter(self, replica: int, name: str, password: str) -> tuple[Line, Line]:
        """Logged in, with its relay."""
        commands = self.line("framed", replica)
        self.assertEqual(commands.ask(f"1\n{name}\n{password}"), "0\nSuccessful Login")
        relay = self.line("relay", replica)
        relay.say(name)
        return commands, relay

    async def test_messages_arrive_whoever_dies(self) -> None:
        self.cluster.end()
        self.cluster = Cluster(accounts=PEOPLE)
        self.addCleanup(self.cluster.end)
        primary = await self.start()
        backups = [i for i in self.cluster.ids if i != primary]
        commands, relay = await self.aside(self.enter, backups[0], "tester", "abc123")
        self.assertEqual(await self.aside(commands.ask, "4\n"), "0\ntester abc ")
        mason = self.numbered(backups[1])
        self.assertIn("Success", mason.request(1, "1|mason"))
        self.assertEqual(mason.request(2, "2"), "Showing all accounts: tester,mason\n")
        for number in range(3, 8):
            if number == 5:
                await self.aside(self.cluster.kill, primary)
            self.assertIn("Sender mason sends", await self.aside(mason.request, number, f"3|tester|{number}"))
            began = time.monotonic()
            self.assertEqual(await self.aside(relay.hear), f"0\nmason:{number}")
            self.assertLess(time.monotonic() - began, ARRIVES_S * TENFOLD)
        self.assertEqual(await self.aside(commands.ask, "2\nmason\nthank you"), "0\nSent to recipient")
        self.cluster.start(primary)
        await self.aside(self.cluster.wait_members)
        await self.aside(self.cluster.kill, backups[0])
        self.assertEqual((await self.aside(commands.hear), await self.aside(relay.hear)), ("", ""))
        self.assertIn("mailbox", await self.aside(mason.request, 8, "3|tester|8"))
        commands, relay = await self.aside(self.enter, primary, "tester", "abc123")
        self.assertEqual(await self.aside(relay.hear), "0\nmason:8")
        self.cluster.start(backups[0])
        await self.aside(self.cluster.wait_members)
        await self.aside(self.cluster.wait_level)
        self.assertEqual(self.cluster.differences(), [])
        texts = [text for sender, _, text in self.cluster.history(primary) if sender == "mason"]
        self.assertEqual(texts, [str(n) for n in range(3, 9)])
        marks = {row["name"]: row["mark"] for row in self.cluster.table(primary, "accounts")}
        self.assertEqual(marks, {"tester": "", "abc": "hidden", "mason": ""})

    async def test_those_that_were_deleted_do_not_come_back(self) -> None:
        self.cluster.end()
        self.cluster = Cluster(accounts=PEOPLE)
        self.addCleanup(self.cluster.end)
        primary = await self.start()
        line = self.line("framed", primary)
        self.assertEqual(line.ask("1\nabc\nabc"), "0\nSuccessful Login")
        self.assertEqual(line.ask("5\nabc\nabc"), "0\naccount deleted")
        await self.aside(self.cluster.kill_all)
        self.cluster.start()
        primary = await self.aside(self.cluster.wait_members)
        line = self.line("framed", primary)
        self.assertTrue(line.ask("1\nabc\nabc").startswith("-1\nInvalid Login"))
        self.assertEqual(line.ask("1\ntester\nabc123"), "0\nSuccessful Login")
        self.assertEqual(line.ask("4\n"), "0\ntester ")

    async def test_whoever_names_somebody_hears_nothing(self) -> None:
        primary = await self.start()
        wayne = self.line("framed", primary)
        self.assertEqual(wayne.ask("3\nwayne\nsecret"), "0\nSuccessful Created and logged in")
        self.assertEqual(wayne.ask("2\nwayne\nfor me"), "0\nSent to recipient")
        own = self.line("relay", primary)
        own.say("wayne")
        self.assertEqual(own.hear(), "0\nwayne:for me")
        stranger = self.line("relay", primary)
        stranger.say("wayne")
        self.assertEqual(stranger.hear(), "")
        self.assertIn("no command connection of 'wayne' from this address waits for a relay", self.cluster.log(primary))
