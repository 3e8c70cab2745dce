"""The room on real processes: one order everywhere, and who stays when a replica dies."""

from __future__ import annotations

import time

from tests.system.guests import Numbered, Plain
from tests.system.stage import SystemTest

WELCOME = "Welcome to chat room. Enter 'tata' anytime to exit"


class Room(SystemTest):
    """Clients of old, and one in numbered mode."""

    def enter(self, replica: int, name: str) -> Plain:
        guest = Plain(self.cluster.doors["room"][replica], greets=False)
        self.addCleanup(guest.socket.close)
        guest.say(name)
        self.assertEqual(guest.line(), WELCOME)
        return guest

    async def test_it_goes_on_when_a_primary_dies(self) -> None:
        primary = await self.start()
        one, two = (i for i in self.cluster.ids if i != primary)
        albert = await self.aside(self.enter, primary, "albert")
        tesla = await self.aside(self.enter, one, "tesla")
        nora = Numbered(self.cluster.doors["room"][primary], greets=False)
        self.addCleanup(nora.socket.close)
        self.assertEqual(nora.request(1, "join nora"), WELCOME + "\n")
        self.assertEqual(tesla.line(), "nora joined the conversation ")
        albert.say("hello\n")
        self.assertEqual(tesla.line(), "albert: hello")
        await self.aside(self.cluster.kill, primary)
        self.assertEqual(await self.aside(tesla.line), "albert left the conversation", "nora has time to come back")
        tesla.say("are you there?\n")
        again = Numbered(self.cluster.doors["room"][two], nora.session, seen=0, greets=False)
        self.addCleanup(again.socket.close)
        self.assertEqual(again.opened()[0], "nora")
        self.assertEqual(await self.aside(again.request, 2, "say yes"), "")
        self.assertEqual(await self.aside(tesla.line), "nora: yes")
        albert = await self.aside(self.enter, one, "albert")
        albert.say("me too\n")
        self.assertEqual([tesla.line(), tesla.line()], ["albert joined the conversation ", "albert: me too"])
        albert.say("tata\n")
        self.assertEqual(tesla.line(), "albert left the conversation")
        self.assertEqual(again.request(3, "tata"), "")
        self.assertEqual(tesla.line(), "nora left the conversation")
        shown = [words.split("|", 3)[3] for _, words in again.pushed]
        self.assertEqual(shown[:3], ["hello", "albert left the conversation", "are you there?"])
        self.cluster.start(primary)
        await self.aside(self.cluster.wait_members)
        await self.aside(self.cluster.wait_level)
        self.assertEqual(self.cluster.differences(), [])
        said = [(sender, text) for sender, recipient, text in self.cluster.history(one) if recipient == "the room" and sender != "Server"]
        self.assertEqual(said, [("albert", "hello"), ("tesla", "are you there?"), ("nora", "yes"), ("albert", "me too")])

    async def test_a_busy_room_is_one_conversation(self) -> None:
        """Everybody talks at once, at three replicas: everybody reads the same order, less what they said themselves."""
        await self.start()
        people = {name: await self.aside(self.enter, n % 3, name) for n, name in enumerate(("ann", "bob", "cid", "dan"))}
        for n in range(20):
            for person in people.values():
                person.say(f"{n}\n")
        await self.aside(self.cluster.wait_level)
        order = [f"{sender}: {text}" for sender, _, text in self.cluster.history(0) if sender != "Server"]
        deadline = time.monotonic() + 20
        while len(order) < 80 and time.monotonic() < deadline:
            await self.aside(self.cluster.wait_level)
            order = [f"{sender}: {text}" for sender, _, text in self.cluster.history(0) if sender != "Server"]
        self.assertEqual(len(order), 80)
        for name, person in people.items():
            heard = [line for line in [person.line() for _ in range(60 + self.came_later(name))] if "joined" not in line]
            self.assertEqual(heard, [line for line in order if not line.startswith(f"{name}: ")])

    def came_later(self, name: str) -> int:
        return 3 - ("ann", "bob", "cid", "dan").index(name)
