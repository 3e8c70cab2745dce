"""The client among replicas that die, hang, swallow answers and forget: each request once, each message once, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import unittest
from typing import Any
from unittest import mock

from client import PAUSES, RIVALS_MAX, SETTLED_AFTER, ChatClient, NoAnswer
from guest import Guest, Message
from ports import Address, Moved
from tests.fake_replicas import Account, FakeReplicas
from wire import Wire

LIMIT = 60.0  # seconds; thirty times what the slowest story needs on a machine that nobody else uses


class ClientTest(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self) -> None:
        self.moves: list[Moved] = []
        self.troubles: list[str] = []
        self.saved: list[dict[str, Any]] = []
        self.replicas = await self.enterAsyncContext(FakeReplicas())
        asyncio.get_running_loop().call_later(LIMIT, lambda: [task.cancel() for task in asyncio.all_tasks()])

    def client(self, **options: Any) -> ChatClient:
        words = {"on_move": self.moves.append, "on_trouble": self.troubles.append, **options}
        return ChatClient(words.pop("ports", self.replicas.ports), **words)

    async def entered(self, name: str, **options: Any) -> ChatClient:
        client = self.client(**options)
        client.start()
        self.addCleanup(client.stop, "the test is over")
        await client.request(f"1|{name}")
        return client

    async def until(self, is_true: Any) -> None:
        while not is_true():
            await asyncio.sleep(0.005)

    def log(self) -> list[str]:
        return [line for _, _, line in self.replicas.executed]


class Requests(ClientTest):
    async def test_a_conversation(self) -> None:
        mason = await self.enterAsyncContext(self.client())
        wayne = await self.entered("wayne", ports=self.replicas.ports[1:])
        await mason.request("1|mason")
        self.assertEqual(mason.account, "mason")
        self.assertIn("to wayne", await mason.request("3|wayne|hello | there"))
        async for message in wayne.messages():
            self.assertEqual((message.seq, message.sender, message.text, message.again), (1, "mason", "hello | there", False))
            break
        self.assertIn(await mason.request("who"), ("here now: mason,wayne\n", "here now: wayne,mason\n"))
        self.assertEqual(self.moves, [])

    async def test_many_requests_at_once_are_answered_in_order(self) -> None:
        client = await self.entered("mason")
        texts = [f"3|mason|{n}" for n in range(2000)]
        replies = await asyncio.gather(*map(client.request, texts))
        self.assertEqual(len(replies), 2000)
        self.assertEqual(self.log()[1:], texts)

    async def test_ports_that_were_not_given_are_learned_from_the_server(self) -> None:
        client = await self.entered("mason", ports=[self.replicas.ports[2]])
        about = await client.about()
        self.assertEqual((about["cluster"], about["survives"]), ("fake", 2))
        await self.replicas[2].die()
        await client.request("3|mason|a")
        self.assertEqual([m.old[1] for m in self.moves], [self.replicas.ports[2]])

    async def test_replicas_that_are_cut_off_are_passed_over(self) -> None:
        self.replicas[0].reaches = self.replicas[1].reaches = 1
        await self.entered("mason")
        self.assertEqual(self.troubles, [])

    async def test_a_person_on_the_wrong_side_of_the_network_is_told_so(self) -> None:
        client = await self.entered("mason")
        for dead in (1, 2):
            await self.replicas[dead].die()
        self.replicas[0].reaches = 1
        for connection in list(self.replicas[0].connections):
            connection.cut()
        asked = client.ask("3|mason|hello")
        await self.until(lambda: self.troubles)
        self.assertEqual(self.troubles, ["this side of the network is cut off; 1 of 3 replicas reachable; trying on"])
        self.replicas[0].reaches = 0
        self.assertIn("to mason", await asked)
        self.assertEqual((len(self.troubles), self.log().count("3|mason|hello")), (1, 1))

    async def test_one_that_met_silence_first_is_told_as_well(self) -> None:
        with mock.patch("client.WORRY_AFTER", 0.05):
            client = await self.entered("mason")
            for replica in range(3):
                await self.replicas[replica].die()
            asked = client.ask("3|mason|hello")
            await self.until(lambda: self.troubles)
            self.assertIn("nobody answers", self.troubles[0])
            self.replicas[0].reaches = 1
            await self.replicas[0].revive()
            await self.until(lambda: len(self.troubles) > 1)
            self.assertEqual(self.troubles[1:], ["this side of the network is cut off; 1 of 3 replicas reachable; trying on"])
            self.replicas[0].reaches = 0
            self.assertIn("to mason", await asked)

    async def test_a_script_gives_up_with_the_same_words(self) -> None:
        self.replicas[0].reaches = 2
        client = self.client(ports=self.replicas.ports[:1], give_up_after=0.3)
        client.start()
        with self.assertRaisesRegex(NoAnswer, "cut off; 2 of 3 replicas reachable"):
            await client.request("1|mason")

    async def test_a_port_nobody_listens_on_is_passed_over(self) -> None:
        await self.replicas[0].die()
        client = await self.entered("mason")
        self.assertEqual(client.address, ("127.0.0.1", self.replicas.ports[1]))

    async def test_a_line_too_long_is_refused_at_once(self) -> None:
        client = await self.entered("mason")
        with self.assertRaises(ValueError):
            await client.request("3|mason|" + "x" * 100_000)
        self.assertIn("mason", await client.request("3|mason|short"))


class Deaths(ClientTest):
    async def test_what_was_executed_but_not_answered_is_not_executed_again(self) -> None:
        client = await self.entered("mason")
        for replica in (0, 1, 2, 0):
            self.replicas[replica].swallow = 1
            reply = await client.request(f"3|mason|at {replica}")
            self.assertIn(f"at {replica}", reply)
        self.assertEqual(self.log()[1:], [f"3|mason|at {n}" for n in (0, 1, 2, 0)])
        self.assertEqual(len(self.moves), 4)

    async def test_a_pipeline_cut_in_the_middle_is_executed_once_and_in_order(self) -> None:
        client = await self.entered("mason")
        self.replicas[0].swallow = 40
        texts = [f"3|mason|{n}" for n in range(100)]
        await asyncio.gather(*map(client.request, texts))
        self.assertEqual(self.log()[1:], texts)

    async def test_the_move_is_told_with_its_milliseconds(self) -> None:
        client = await self.entered("mason")
        await self.replicas[0].die()
        await client.request("3|mason|a")
        (move,) = self.moves
        self.assertEqual((move.old[1], move.new[1], move.is_silent), (*self.replicas.ports[:2], False))
        self.assertLess(move.gap_ms, 250)

    async def test_a_death_nobody_asked_anything_during_is_noticed_too(self) -> None:
        await self.entered("mason")
        await self.replicas[0].die()
        await self.until(lambda: self.moves)

    async def test_queries_answered_before_a_death_leave_no_gap_behind(self) -> None:
        client = await self.entered("mason")
        for _ in range(3):
            await client.request("who")
        await self.replicas[0].die()
        self.assertIn("a to mason", await client.request("3|mason|a"))
        await client.request("who")
        await self.replicas[1].die()
        await self.until(lambda: len(self.moves) == 2)
        self.assertIn("b to mason", await client.request("3|mason|b"))
        self.assertEqual(self.log()[1:], ["3|mason|a", "3|mason|b"])

    async def test_a_server_that_hangs_is_left(self) -> None:
        client = await self.entered("mason")
        self.replicas[0].hang()
        await client.request("3|mason|a")
        (move,) = self.moves
        self.assertTrue(move.is_silent)
        self.assertGreater(move.gap_ms, 350)
        self.replicas[0].wake()
        self.assertEqual(self.log()[1:], ["3|mason|a"])

    async def test_two_that_hang_are_passed_over(self) -> None:
        client = await self.entered("mason")
        self.replicas[0].hang()
        self.replicas[1].hang()
        await client.request("3|mason|a")
        self.assertEqual(client.address, ("127.0.0.1", self.replicas.ports[2]))

    async def test_a_replica_that_waits_for_a_view_change_is_waited_for(self) -> None:
        client = await self.entered("mason")
        self.replicas[1].is_waiting = True
        await self.replicas[0].die()
        future = client.ask("3|mason|a")
        await asyncio.sleep(0.6)
        self.assertFalse(future.done())
        self.replicas[1].is_waiting = False
        for connection in self.replicas[1].connections:
            connection.open(0)
        await asyncio.sleep(0.05)
        self.assertEqual((await client.about())["self"], 1)

    async def test_all_die_and_one_comes_back(self) -> None:
        client = await self.entered("mason")
        for replica in self.replicas.replicas:
            await replica.die()
        future = client.ask("3|mason|a")
        await self.until(lambda: self.troubles)
        self.assertIn("scripts/start.sh", self.troubles[0])
        self.assertEqual(client.pending, ["3|mason|a"])
        await self.replicas[2].revive()
        self.assertIn("a to mason", await future)
        self.assertEqual(len(self.troubles), 1, "told once, not each second")

    async def test_one_that_dies_as_soon_as_it_was_found_costs_no_pause(self) -> None:
        """However long the search was before."""
        client = await self.entered("mason")
        tried, connect = [0], client._connect

        async def counted(address: Address) -> Wire:
            tried[0] += 1
            return await connect(address)

        pauses = [0.001] * len(PAUSES)
        with mock.patch.object(client, "_connect", counted), mock.patch("client.PAUSES", pauses):
            for replica in self.replicas.replicas:
                await replica.die()
            anew_at = asyncio.get_running_loop().time() + 2 * SETTLED_AFTER
            await self.until(lambda: tried[0] > 20 and asyncio.get_running_loop().time() > anew_at)
            await self.replicas[1].revive()
            await self.until(lambda: client.guest.is_open)
            await self.replicas[2].revive()
            pauses[:] = [10 * LIMIT] * len(pauses)
            await self.replicas[1].die()
            self.assertIn("a to mason", await client.request("3|mason|a"))

    async def test_one_that_takes_the_session_up_and_lets_go_again_and_again_is_asked_with_pauses(self) -> None:
        client = await self.entered("mason")

        class Asked(list[float]):
            def __getitem__(self, index: Any) -> Any:
                asked.append(index)
                return 0.0

        asked = list[int]()
        with mock.patch("client.PAUSES", Asked(PAUSES)), mock.patch("client.SETTLED_AFTER", 10 * LIMIT):
            cut: set[Any] = set()
            while len(asked) < 5:
                await self.until(lambda: client.guest.is_open and client._wire not in cut)
                cut.add(client._wire)
                for replica in self.replicas.replicas:
                    for connection in list(replica.connections):
                        connection.cut()
        self.assertEqual(asked[:5], list(range(5)), "longer each time")

    async def test_who_gives_up_says_so_to_everybody_who_waits(self) -> None:
        client = await self.entered("mason", give_up_after=0.3)
        for replica in self.replicas.replicas:
            await replica.die()
        with self.assertRaisesRegex(NoAnswer, "nobody answers on"):
            await asyncio.gather(client.request("who"), client.about())
        for late in (client.request("who"), client.about()):
            with self.assertRaises(NoAnswer):
                await late

    async def test_a_replica_that_never_serves_is_named_as_such(self) -> None:
        for replica in self.replicas.replicas:
            replica.is_waiting = True
        client = self.client(give_up_after=0.3)
        client.start()
        with self.assertRaisesRegex(NoAnswer, "waits for others"):
            await client.request("who")


class Refused(ClientTest):
    async def test_a_forgotten_session_is_not_resent_but_begun_anew(self) -> None:
        client = await self.entered("mason")
        for replica in self.replicas.replicas:
            await replica.die()
        future, question = client.ask("3|mason|a"), asyncio.ensure_future(client.about())
        await asyncio.sleep(0)
        self.replicas.sessions.clear()
        await self.replicas[1].revive()
        for waiting in (future, question):
            with self.assertRaisesRegex(NoAnswer, "log in again"):
                await waiting
        self.assertIn("3|mason|a", self.troubles[-1])
        self.assertIn("logged in", await client.request("0|mason123"))
        self.assertNotIn("3|mason|a", self.log())

    async def test_messages_of_before_a_forgotten_session_come_again_and_are_marked(self) -> None:
        client = await self.entered("mason")
        self.replicas.send("wayne", "mason", "a")
        await self.until(lambda: client._queue)
        self.replicas.sessions.clear()
        client._queue.clear()
        await self.replicas[0].die()
        await self.until(lambda: self.troubles)
        await client.request("0|mason123")
        self.replicas.send("wayne", "mason", "b")
        await self.until(lambda: len(client._queue) == 2)
        self.assertEqual([(m.text, m.again) for m in client._queue], [("a", True), ("b", False)])

    async def test_a_gap_is_filled(self) -> None:
        client = await self.entered("mason")
        key = client.guest.session
        self.replicas.sessions[key].last = 0
        await self.replicas[0].die()
        self.assertIn("a to mason", await client.request("3|mason|a"))

    async def test_another_client_with_the_same_session_ends_this_one(self) -> None:
        ours = await self.entered("mason")
        await ours.request("3|mason|a")
        theirs = self.client(guest=Guest.recall(ours.guest.remember()))
        theirs.start()
        await self.until(lambda: ours.ended or theirs.ended)
        self.assertIn("another client", ours.ended or theirs.ended)
        theirs.stop("")
        self.assertEqual(self.moves, [], "nobody died")

    async def test_an_echo_of_our_own_connection_ends_nothing(self) -> None:
        client = await self.entered("mason")
        for connection in list(self.replicas[0].connections):
            connection.write(b"! newer\n")
        self.assertIn("a to mason", await client.request("3|mason|a"))

    async def test_an_echo_now_and_then_ends_nothing(self) -> None:
        """Each failover may bring one; what was served in between is no contest with anybody."""
        client = await self.entered("mason")
        session = self.replicas.sessions[client.guest.session]
        for _ in range(RIVALS_MAX + 3):
            for settled_after, echo in ((60.0, b"! newer\n"), (0.0, b"")):
                await self.until(lambda: client.ended or session.home)
                with mock.patch("client.SETTLED_AFTER", settled_after):
                    home = session.home
                    assert home, client.ended
                    home.write(echo) if echo else home.cut()
                    await self.until(lambda old=home: client.ended or session.home not in (None, old))
        self.assertIn("a to mason", await client.request("3|mason|a"))

    async def test_late_echoes_of_connections_that_were_never_taken_up_end_nothing(self) -> None:
        """All replicas stood still while the client knocked at each; when they wake, they take the session up as often as it knocked."""
        self.enterContext(mock.patch("client.SETTLED_AFTER", 60.0))
        client = await self.entered("mason")
        for replica in self.replicas.replicas:
            replica.is_waiting = True
        for _ in range(RIVALS_MAX + 3):
            connections = [c for replica in self.replicas.replicas for c in replica.connections]
            for connection in connections:
                connection.cut()
            await self.until(lambda old=connections: any(c not in old for replica in self.replicas.replicas for c in replica.connections))
        for replica in self.replicas.replicas:
            replica.is_waiting = False
            await replica.die()
            await replica.revive()
        session = self.replicas.sessions[client.guest.session]
        for _ in range(RIVALS_MAX + 3):
            await self.until(lambda: session.home)
            home = session.home
            assert home
            home.write(b"! newer\n")
            await self.until(lambda old=home: client.ended or session.home not in (None, old))
        self.assertIn("a to mason", await client.request("3|mason|a"))

    async def test_what_is_no_replica_is_named_once_and_passed_over(self) -> None:
        self.replicas[0].greeting = b"220 mail.example ESMTP\r\n"
        client = await self.entered("mason")
        await self.replicas[1].die()
        await self.replicas[2].die()
        await asyncio.sleep(0.1)
        await self.replicas[1].revive()
        await client.request("3|mason|a")
        self.assertEqual(len([t for t in self.troubles if "220 mail" in t]), 1)


class Deliveries(ClientTest):
    async def test_messages_across_deaths_come_once_and_in_order(self) -> None:
        client, shown = await self.entered("mason"), list[str]()

        async def read() -> None:
            async for message in client.messages():
                shown.append(message.text)

        reading = asyncio.create_task(read())
        for n in range(60):
            self.replicas.send("wayne", "mason", str(n))
            if n % 10 == 5:
                replica = self.replicas[n // 10 % 3]
                await replica.die()
                await replica.revive()
            await asyncio.sleep(0.002)
        await self.until(lambda: len(shown) >= 60)
        self.assertEqual(shown, [str(n) for n in range(60)])
        await self.until(lambda: not self.replicas.accounts["mason"].mailbox)
        await client.leave()
        await reading

    async def test_what_is_handed_on_but_not_displayed_stays_in_the_mailbox(self) -> None:
        batches: list[list[Message]] = []
        client = await self.entered("mason", on_messages=batches.append, save=self.saved.append)
        for text in "ab":
            self.replicas.send("wayne", "mason", text)
        await self.until(lambda: sum(map(len, batches)) == 2)
        client.displayed(batches[0][0])
        await self.until(lambda: self.replicas.acks)
        self.assertEqual([m[4] for m in self.replicas.accounts["mason"].mailbox], ["b"])
        self.assertEqual(self.saved[-1]["mail"]["mason"][:3], [1, 1, 2])

    async def test_a_reply_is_told_before_the_messages_behind_it(self) -> None:
        await self.entered("mason")
        self.replicas.accounts["wayne"] = Account()
        self.replicas.send("mason", "wayne", "early")
        told: list[str] = []
        client = self.client(on_messages=lambda batch: told.extend(m.text for m in batch))
        async with client:
            await client.request("2")
            told.append(await client.request("0|wayne123"))
            await client.about()
        self.assertEqual(told, ["user : wayne is now logged in\n", "early"])

    async def test_a_client_that_leaves_has_its_displayed_messages_acknowledged(self) -> None:
        client = await self.entered("mason")
        self.replicas.send("wayne", "mason", "a")
        async for message in client.messages():
            client.displayed(message)
            break
        self.replicas[0].swallow = 1
        self.assertTrue(await client.leave())
        self.assertEqual(self.replicas.accounts["mason"].mailbox, [])
        self.assertEqual(self.log().count("bye"), 1)

    async def test_a_client_that_cannot_say_good_bye_says_that(self) -> None:
        client = await self.entered("mason")
        for replica in self.replicas.replicas:
            await replica.die()
        self.assertFalse(await client.leave(within=0.05))
        self.assertFalse(await client.leave())

    async def test_a_later_client_takes_the_session_up_and_gets_the_answer(self) -> None:
        client = await self.entered("mason", save=self.saved.append)
        self.replicas[0].swallow, self.replicas[0].is_waiting = 1, True
        for replica in self.replicas.replicas[1:]:
            await replica.die()
        client.ask("3|mason|a")
        await self.until(lambda: len(self.log()) == 2)
        client.stop("crash")
        await self.replicas[2].revive()
        later = await self.enterAsyncContext(self.client(guest=Guest.recall(self.saved[-1])))
        self.assertIn("a to mason", await later.recalled[2])
        self.assertEqual(self.log().count("3|mason|a"), 1)
        self.assertEqual(later.account, "mason")


if __name__ == "__main__":
    unittest.main()
