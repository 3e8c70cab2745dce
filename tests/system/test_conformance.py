"""The doors on real processes: a request that is under way when the primary dies is answered once, and done once, at every door.

The whole list of behaviours is tried in memory (`tests/doors/test_conformance.py`); here a few of them, each with `kill -9` in its middle.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.system.guests import Numbered, Plain
from tests.system.stage import SystemTest
from tests.system.test_framed import Line

NAMES = {"pipe": "mason", "framed": "wayne", "ledger": "teller"}


class Doors(SystemTest):
    """Guests of a backup; the primary is frozen, they ask, it is killed, they are answered. Then it comes back, and the next one dies."""

    async def one_death(self, ask: Callable[[int], dict[str, Callable[[], Any]]]) -> dict[str, Any]:
        """`ask(backup)` sends, and returns who hears the answers."""
        primary = await self.aside(self.cluster.wait_members)
        backup = next(i for i in self.cluster.ids if i != primary)
        await self.aside(self.cluster.wait_level)
        hears = await self.aside(lambda: self.frozen(primary, backup, ask))
        answers = {door: await self.aside(hear) for door, hear in hears.items()}
        self.cluster.start(primary)
        return answers

    def frozen(self, primary: int, backup: int, ask: Callable[[int], dict[str, Callable[[], Any]]]) -> dict[str, Callable[[], Any]]:
        self.primary = primary
        hears = ask(backup)
        self.cluster.kill(primary)
        return hears

    def freeze(self) -> None:
        """From here on nothing is answered until somebody else leads."""
        self.cluster.pause(self.primary)

    def guests(self, replica: int) -> tuple[Numbered, Line, Plain]:
        doors = self.cluster.doors
        pipe = Numbered(doors["pipe"][replica])
        framed = Line(doors["framed"][replica])
        ledger = Plain(doors["ledger"][replica], greets=False)
        for guest in (pipe, framed, ledger):
            self.addCleanup(guest.socket.close)
        return pipe, framed, ledger

    def create(self, replica: int) -> dict[str, Callable[[], Any]]:
        pipe, framed, ledger = self.guests(replica)
        self.freeze()
        pipe.say("1 0 1|mason|secret\n2 0 1|mason|secret\n")
        framed.say("3\nwayne\nsecret")
        framed.say("3\nwayne\nsecret")
        ledger.say("1|teller\n1|teller\n2|teller123|5\n")
        return {
            "pipe": lambda: (pipe.reply(1), pipe.reply(2)),
            "framed": lambda: (framed.hear(), framed.hear()),
            "ledger": lambda: (ledger.line(), ledger.line(), ledger.line()),
        }

    def send(self, replica: int) -> dict[str, Callable[[], Any]]:
        pipe, framed, ledger = self.guests(replica)
        self.assertIn("logged in", pipe.request(1, "0|mason123|secret"))
        self.assertEqual(framed.ask("1\nwayne\nsecret"), "0\nSuccessful Login")
        self.freeze()
        pipe.say("2 0 3|wayne|from the pipe\n3 0 3|nobody|x\n4 0 2\n")
        framed.say("2\nmason\nfrom the frame")
        framed.say("4\n")
        ledger.say("3|teller123|6\n3|teller123|2\n4|teller123\n")
        return {
            "pipe": lambda: (pipe.reply(2), pipe.reply(3), sorted(pipe.reply(4)[22:-1].split(","))),
            "framed": lambda: (framed.hear(), sorted(framed.hear().split())),
            "ledger": lambda: (ledger.line(), ledger.line(), ledger.line()),
        }

    def delete(self, replica: int) -> dict[str, Callable[[], Any]]:
        pipe, framed, ledger = self.guests(replica)
        self.assertIn("logged in", pipe.request(1, "0|mason123|secret"))
        self.assertEqual(framed.ask("1\nwayne\nsecret"), "0\nSuccessful Login")
        relay = Line(self.cluster.doors["relay"][replica])
        self.addCleanup(relay.socket.close)
        relay.say("wayne")
        shown = relay.hear()
        self.freeze()
        pipe.say("2 0 4|mason123\n3 0 5|mason123\n")
        framed.say("5\nwayne\nwrong")
        framed.say("5\nwayne\nsecret")
        ledger.say("4|teller123\n")
        return {
            "pipe": lambda: (pipe.reply(3), [words.split("|", 3)[3] for _, words in pipe.pushed]),
            "framed": lambda: (shown, framed.hear(), framed.hear()),
            "ledger": lambda: (ledger.line(),),
        }

    async def test_each_door_through_three_deaths(self) -> None:
        await self.start()
        answers = await self.one_death(self.create)
        self.assertEqual(
            answers,
            {
                "pipe": (
                    "Success New Account Creation! Your new Account ID: mason123\n",
                    "Username mason already exists. Please try a different username.",
                ),
                "framed": ("0\nSuccessful Created and logged in", "-1\nThis username has been used"),
                "ledger": ("teller123", "error: the name teller is taken", "5"),
            },
        )

        answers = await self.one_death(self.send)
        everybody = sorted(NAMES.values())
        self.assertEqual(
            answers,
            {
                "pipe": ("message from mason has been delivered to wayne's mailbox\n", "Receiver: nobody doesn't exist \n", everybody),
                "framed": ("0\nSent to recipient", ["0", *everybody]),
                "ledger": ("insufficient funds: 5", "3", "3"),
            },
        )

        answers = await self.one_death(self.delete)
        self.assertEqual(
            answers,
            {
                "pipe": ("Your account has been deleted\n", ["from the frame"]),
                "framed": ("0\nmason:from the pipe", "-1\nInvalid credential, deletion failed", "0\naccount deleted"),
                "ledger": ("3",),
            },
        )
        await self.aside(self.cluster.wait_members)
        await self.aside(self.cluster.wait_level)
        self.assertEqual(self.cluster.differences(), [])
        self.assertEqual([row["name"] for row in self.cluster.table(0, "accounts")], ["teller"])
        texts = sorted(text for _, _, text in self.cluster.history(0))
        self.assertEqual(texts, ["from the frame", "from the pipe"], "each once")
