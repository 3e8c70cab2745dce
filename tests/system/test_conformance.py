"""The doors on real processes: a request that is under way when the primary dies is answered once, and done once, at every door.

The whole list of behaviours is tried in memory (`tests/doors/test_conformance.py`); here a few of them, each with `kill -9` in its middle.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from tests.system.callers import Caller, Ear
from tests.system.cluster import Cluster
from tests.system.guests import Numbered, Plain
from tests.system.stage import SystemTest
from tests.system.test_framed import Line

NAMES = {"pipe": "mason", "framed": "wayne", "ledger": "teller", "grpc": "zoe"}


class Doors(SystemTest):
    """Guests of a backup; the primary is frozen, they ask, it is killed, they are answered. Then it comes back, and the next one dies."""

    def setUp(self) -> None:
        cluster = Cluster(grpc=True)
        self.addCleanup(cluster.end)
        self.begin(cluster)

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

    def grpc(self, replica: int) -> Callable[..., Any]:
        """A guest of the gRPC door: calls under way."""
        caller = Caller(self.cluster.doors["grpc"][replica])
        self.addCleanup(caller.close)
        self.caller = caller

        def ask(call: str, **fields: Any) -> Any:
            name = "sender_id" if call == "SendMessage" else "client_id"
            return caller.start(call, **{name: "zoe", "password": "secret", **fields})

        return ask

    def ear(self, calls: list[Any], words: int) -> list[str]:
        """What zoe is told, once these calls are answered and so much was said."""
        self.assertEqual(len({call.result().id for call in calls}), len(calls), "each has a word of its own")
        ear: Ear = self.caller.listen("zoe", password="secret")
        ear.wait(lambda: len(ear.told) >= words)
        return [": ".join(line) for line in ear.lines()]

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
        grpc = self.grpc(replica)
        self.freeze()
        calls = [grpc("CreateAccount", request_id="once") for _ in range(2)]
        pipe.say("1 0 1|mason|secret\n2 0 1|mason|secret\n")
        framed.say("3\nwayne\nsecret")
        framed.say("3\nwayne\nsecret")
        ledger.say("1|teller\n1|teller\n2|teller123|5\n")
        return {
            "pipe": lambda: (pipe.reply(1), pipe.reply(2)),
            "framed": lambda: (framed.hear(), framed.hear()),
            "ledger": lambda: (ledger.line(), ledger.line(), ledger.line()),
            "grpc": lambda: (len({call.result().id for call in calls}), self.ear(calls[:1], 1)),
        }

    def send(self, replica: int) -> dict[str, Callable[[], Any]]:
        pipe, framed, ledger = self.guests(replica)
        self.assertIn("logged in", pipe.request(1, "0|mason123|secret"))
        self.assertEqual(framed.ask("1\nwayne\nsecret"), "0\nSuccessful Login")
        grpc = self.grpc(replica)
        self.freeze()
        calls = [grpc("SendMessage", recipient_id=whom, message="from gRPC") for whom in ("zoe", "nobody")]
        pipe.say("2 0 3|wayne|from the pipe\n3 0 3|nobody|x\n4 0 2\n")
        framed.say("2\nmason\nfrom the frame")
        framed.say("4\n")
        ledger.say("3|teller123|6\n3|teller123|2\n4|teller123\n")
        return {
            "pipe": lambda: (pipe.reply(2), pipe.reply(3), sorted(pipe.reply(4)[22:-1].split(","))),
            "framed": lambda: (framed.hear(), sorted(framed.hear().split())),
            "ledger": lambda: (ledger.line(), ledger.line(), ledger.line()),
            "grpc": lambda: sorted(self.ear(calls, 3)),
        }

    def delete(self, replica: int) -> dict[str, Callable[[], Any]]:
        pipe, framed, ledger = self.guests(replica)
        self.assertIn("logged in", pipe.request(1, "0|mason123|secret"))
        self.assertEqual(framed.ask("1\nwayne\nsecret"), "0\nSuccessful Login")
        relay = Line(self.cluster.doors["relay"][replica])
        self.addCleanup(relay.socket.close)
        relay.say("wayne")
        shown = relay.hear()
        grpc = self.grpc(replica)
        self.freeze()
        page = grpc("History", client_id="wayne", partner_id="mason")
        calls = [grpc("DeleteAccount", request_id="once") for _ in range(2)]
        pipe.say("2 0 history|wayne\n")
        pipe.say("3 0 4|mason123\n4 0 5|mason123\n")
        framed.say("5\nwayne\nwrong")
        framed.say("5\nwayne\nsecret")
        ledger.say("4|teller123\n")
        return {
            "pipe": lambda: (
                sorted(re.findall(r"^\d+\|\d+\|(.*)", pipe.reply(2), re.MULTILINE)),
                pipe.reply(4),
                [words.split("|", 3)[3] for _, words in pipe.pushed],
            ),
            "framed": lambda: (shown, framed.hear(), framed.hear()),
            "ledger": lambda: (ledger.line(),),
            "grpc": lambda: (
                sorted(m.message for m in page.result().messages),
                len({call.result().id for call in calls}),
                self.ear(calls[:1], 1),
            ),
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
                "grpc": (1, ["Server: Account zoe has been created!"]),
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
                "grpc": ["Server: Recipient is not found!", "Server: Your message has been sent!", "zoe: from gRPC"],
            },
        )

        answers = await self.one_death(self.delete)
        self.assertEqual(
            answers,
            {
                "pipe": (
                    ["mason|from the pipe", "wayne|from the frame"],
                    "Your account has been deleted\n",
                    ["from the frame"],
                ),
                "framed": ("0\nmason:from the pipe", "-1\nInvalid credential, deletion failed", "0\naccount deleted"),
                "ledger": ("3",),
                "grpc": (["from the frame", "from the pipe"], 1, ["Server: Your account has been deleted!"]),
            },
        )
        await self.aside(self.cluster.wait_members)
        await self.aside(self.cluster.wait_level)
        self.assertEqual(self.cluster.differences(), [])
        self.assertEqual([row["name"] for row in self.cluster.table(0, "accounts")], ["teller"])
        texts = sorted(text for _, _, text in self.cluster.history(0))
        self.assertEqual(texts, ["from gRPC", "from the frame", "from the pipe"], "each once")
