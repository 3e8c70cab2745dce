"""Links between hosts: TLS with a certificate for each replica, and everybody who must not get in."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import unittest
from typing import Any
from unittest import mock

import gate
import links
from handshake import ANY, Handshake
from packets import encode
from tests import certified
from tests.test_links import DEADLINE_S, Site, Stranger, frame, free_ports, handshake, identity, ok


class SecureLinks(unittest.IsolatedAsyncioTestCase):
    """Replica 0 listens; whoever comes says what it likes."""

    async def asyncSetUp(self) -> None:
        asyncio.get_running_loop().slow_callback_duration = DEADLINE_S
        self.addresses = {i: ("127.0.0.1", port) for i, port in enumerate(free_ports(2))}
        self.us = await self.start(0)

    async def start(self, replica: int, where: str | None = None, **changes: Any) -> Site:
        proof = certified.of_links(replica, where)
        me = identity(replica, policy="majority", **changes.pop("said", {}))
        site = Site(me, self.addresses, secret=proof.common, credentials=proof, **changes)
        await site.links.start()
        self.addAsyncCleanup(site.links.stop)
        return site

    async def stranger(self, context: ssl.SSLContext) -> Stranger:
        reader, writer = await asyncio.open_connection(*self.addresses[0], ssl=context)
        return Stranger(reader, writer)

    def side(self, replica: int) -> Handshake:
        return handshake(identity(replica, policy="majority"), 0, certified.of_links(0).common)

    async def assert_turned_away(self, context: ssl.SSLContext, why: str, *, claims: int = 1) -> None:
        """Whoever shows this and says all the right words is refused, and nothing of it is applied."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            stranger = await self.stranger(context)
            side = self.side(claims)
            stranger.say(side.hello)
            stranger.say(side.take(await stranger.hear()))
            stranger.say(side.take(await stranger.hear()))
            stranger.say(encode(ok(1)))
            await stranger.is_closed()
        await self.us.until_logged(why)
        self.assertEqual((self.us.links.linked(), self.us.told), ({}, []))

    async def test_two_replicas_link_and_packets_flow(self) -> None:
        for loop_says in range(2):  # again after a break
            them = await self.start(1)
            await self.us.until_linked(1)
            await them.until_linked(0)
            them.links.send((0,), ok(loop_says))
            await self.us.until_packets(loop_says + 1)
            await them.links.stop()
            await self.us.until_linked()
        self.assertEqual(self.us.packets(), [ok(0), ok(1)])

    async def test_what_a_replica_shows_passes_when_a_test_says_all_the_words(self) -> None:
        """Else the refusals below would prove nothing."""
        stranger = await self.stranger(certified.presenting(certified.directory(), 1))
        await stranger.link(self.side(1))
        stranger.say(encode(ok(7)))
        await self.us.until_packets(1)
        stranger.writer.close()

    async def test_a_certificate_of_another_ca(self) -> None:
        await self.assert_turned_away(certified.presenting(certified.directory("theirs"), 1), "no TLS connection came about")

    async def test_another_replicas_certificate(self) -> None:
        context = certified.presenting(certified.directory(), 2)
        await self.assert_turned_away(context, "it says that it is replica 1, and its certificate is that of replica 2")

    async def test_a_guests_certificate(self) -> None:
        context = certified.presenting(certified.guest(), 1)
        await self.assert_turned_away(context, "its certificate is that of no replica of this cluster")

    async def test_a_certificate_that_has_ended(self) -> None:
        await self.assert_turned_away(certified.presenting(certified.directory("old"), 1), "certificate has expired")

    async def test_a_certificate_that_is_not_good_yet(self) -> None:
        await self.assert_turned_away(certified.presenting(certified.directory("early"), 1), "certificate is not yet valid")

    async def test_one_that_dials_believes_none_that_is_not_good_at_its_own_time(self) -> None:
        await self.us.links.stop()
        self.us = await self.start(0, certified.directory("early"))
        them = await self.start(1)
        await them.until_logged("was refused: no TLS connection came about (certificate is not yet valid)")
        self.assertEqual((self.us.links.linked(), them.links.linked()), ({}, {}))

    async def test_no_certificate(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        await self.assert_turned_away(context, "no TLS connection came about")

    async def test_an_older_tls(self) -> None:
        context = certified.presenting(certified.directory(), 1)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        await self.assert_turned_away(context, "no TLS connection came about")

    async def test_the_words_of_a_link_without_tls(self) -> None:
        stranger = await Stranger.dial(self.addresses[0][1])
        stranger.say(self.side(1).hello)
        await stranger.is_closed()
        await self.us.until_logged("no TLS connection came about")
        self.assertEqual((self.us.links.linked(), self.us.told), ({}, []))

    async def test_one_that_dials_believes_no_other_ca(self) -> None:
        liar = await self.start(1, certified.directory("theirs"))
        await liar.until_logged("no link with replica 0")
        self.assertEqual((self.us.links.linked(), liar.links.linked()), ({}, {}))

    async def test_one_that_dials_finds_another_replica_there(self) -> None:
        await self.us.links.stop()
        liar = Site(identity(0, policy="majority"), self.addresses, secret=certified.of_links(2).common, credentials=certified.of_links(2))
        await liar.links.start()
        self.addAsyncCleanup(liar.links.stop)
        them = await self.start(1)
        await them.until_logged("it says that it is replica 0, and its certificate is that of replica 2")
        self.assertEqual(them.told, [])

    async def test_a_link_that_was_recorded_opens_no_other(self) -> None:
        recorded, reply = bytearray(), asyncio.Event()

        async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there, back = await asyncio.open_connection(*self.addresses[0])
            answering = asyncio.create_task(self._pass_on(there, writer))
            while chunk := await reader.read(65536):
                recorded.extend(chunk)
                back.write(chunk)
                reply.set()
            answering.cancel()
            back.close()

        between = await asyncio.start_server(carry, "127.0.0.1", 0)
        address = between.sockets[0].getsockname()[:2]
        them = Site(
            identity(1, policy="majority"),
            {**self.addresses, 0: address},
            secret=certified.of_links(1).common,
            credentials=certified.of_links(1),
        )
        await them.links.start()
        await self.us.until_linked(1)
        them.links.send((0,), ok(3))
        await self.us.until_packets(1)
        await them.links.stop()
        await self.us.until_linked()
        before = list(self.us.told)
        reader, writer = await asyncio.open_connection(*self.addresses[0])
        writer.write(recorded)
        await Stranger(reader, writer).is_closed()
        await self.us.until_logged("no TLS connection came about")
        self.assertEqual(self.us.told, before)
        between.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(65536):
            writer.write(chunk)
        writer.close()

    async def test_many_that_say_nothing_keep_nobody_out(self) -> None:
        with mock.patch.object(links, "STRANGERS_MAX", 4):
            await self.us.links.stop()
            self.us = await self.start(0)
        silent = [await Stranger.dial(self.addresses[0][1]) for _ in range(7)]
        await self.us.until_logged("too many others have said nothing yet")
        for stranger in silent[:3]:
            self.assertTrue(await stranger.is_closed())
        await self.start(1)
        await self.us.until_linked(1)
        for stranger in silent:
            stranger.writer.close()

    async def test_one_that_says_nothing_has_little_time(self) -> None:
        await self.us.links.stop()
        self.us = await self.start(0, handshake_s=0.2)
        stranger = await Stranger.dial(self.addresses[0][1])
        self.assertTrue(await stranger.is_closed())
        await self.us.until_logged("no TLS connection came about")

    async def test_a_stop_ends_who_has_not_passed_yet(self) -> None:
        stranger = await Stranger.dial(self.addresses[0][1])
        await self.us.until(lambda: bool(self.us.links._gate and self.us.links._gate.newcomers) or self._yields(), "a newcomer")
        await self.us.links.stop()
        self.assertTrue(await stranger.is_closed())
        self.assertEqual(self.us.log, [])

    def _yields(self) -> bool:
        asyncio.get_running_loop().call_later(0.01, self.us._changed.set)
        return False


class Words(unittest.TestCase):
    def test_a_handshake_without_certificates_asks_for_none(self) -> None:
        self.assertEqual(handshake(identity(1), 0).certified, ANY)

    def test_what_went_wrong(self) -> None:
        self.assertIn("(nothing was said for too long)", gate.tls_words(TimeoutError()))
        self.assertIn("(Connection reset by peer)", gate.tls_words(ConnectionResetError(104, "Connection reset by peer")))

    def test_frames_are_as_in_the_other_tests(self) -> None:
        self.assertEqual(frame(b"abc")[:4], b"\0\0\0\3")


if __name__ == "__main__":
    unittest.main()
