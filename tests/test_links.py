"""Links between replicas: who gets one, who does not, and what comes through it. Everything runs on asyncio's loop and on uvloop's."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import struct
import sys
import tempfile
import unittest
from collections.abc import Callable, Sequence
from typing import Any, cast
from unittest import mock

import msgspec

import links
from handshake import LENGTH, Handshake, Identity, LinkRefused, Proof, Ready, SecretRefused, load_secret, wire_version
from link import HANDSHAKE_MAX, UNSENT_MAX, Link
from links import STRANGERS_MAX, Address, Links
from packets import PACKET_MAX, AnyPacket, Commit, CommitOk, Forward, Prepare, PrepareOk, encode

try:
    import uvloop
except ImportError:
    uvloop = None  # type: ignore[assignment]

SECRET, OTHER_SECRET = b"s" * 32, b"t" * 32
DEADLINE_S = 20.0


def identity(replica: int, /, **changes: Any) -> Identity:
    """A replica of the cluster of these tests."""
    base = Identity(
        cluster="dormitory",
        replica=replica,
        inc=100 + replica,
        config_hash="c0ffee",
        policy="survivor",
        version=wire_version("1.0"),
        pid=os.getpid(),
        boot_id="boot",
        directory=(1, 2),
    )
    return msgspec.structs.replace(base, **changes)


def handshake(me: Identity, dialled: int | None, secret: bytes = SECRET, holds_lock: bool = True) -> Handshake:
    """One side, in a cluster of the replicas 0, 1, 2."""
    return Handshake(me, secret, dialled=dialled, replicas={0, 1, 2}, nonce=os.urandom(16), holds_lock=lambda *_: holds_lock)


def frame(body: bytes) -> bytes:
    """As it goes over the wire."""
    return LENGTH.pack(len(body)) + body


def ok(op: int) -> PrepareOk:
    """A packet that can be told from others by its op."""
    return PrepareOk(view=1, op=op, hash=b"h" * 16)


def free_ports(count: int) -> list[int]:
    """Ports of the loopback address that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


class HandshakeTest(unittest.TestCase):
    """The handshake alone: two sides in one process, frames passed by hand."""

    def refused(self, side: Handshake, letter: bytes, why: str) -> None:
        with self.assertRaisesRegex(LinkRefused, why):
            side.take(letter)
        self.assertFalse(side.is_done)

    def test_both_sides_accept_each_other_and_know_who_it_is(self) -> None:
        dialler, acceptor = handshake(identity(1), 0), handshake(identity(0), None)
        self.assertEqual(acceptor.take(dialler.hello), b"")
        proof = dialler.take(acceptor.hello)
        answer = acceptor.take(proof)
        self.assertFalse(acceptor.is_done or dialler.is_done)
        ready = dialler.take(answer)
        self.assertTrue(dialler.is_done)
        self.assertFalse(acceptor.is_done, "the acceptor waits for Ready")
        self.assertEqual(acceptor.take(ready), b"")
        self.assertTrue(acceptor.is_done)
        self.assertEqual((acceptor.peer, dialler.peer), (identity(1), identity(0)))

    def test_a_dialler_with_another_secret_is_refused(self) -> None:
        dialler, acceptor = handshake(identity(1), 0, OTHER_SECRET), handshake(identity(0), None)
        acceptor.take(dialler.hello)
        self.refused(acceptor, dialler.take(acceptor.hello), "proof is wrong")

    def test_an_acceptor_with_another_secret_is_refused(self) -> None:
        """It may say anything in place of its proof."""
        dialler, acceptor = handshake(identity(1), 0), handshake(identity(0), None, OTHER_SECRET)
        dialler.take(acceptor.hello)
        self.refused(dialler, msgspec.msgpack.encode(Proof(b"m" * 32)), "proof is wrong")

    def test_a_recorded_handshake_replayed_is_refused(self) -> None:
        dialler, acceptor = handshake(identity(1), 0), handshake(identity(0), None)
        acceptor.take(dialler.hello)
        recorded = [dialler.hello, dialler.take(acceptor.hello)]
        acceptor.take(recorded[1])
        again = handshake(identity(0), None)
        again.take(recorded[0])
        self.refused(again, recorded[1], "proof is wrong")

    def test_a_hello_sent_back_to_its_sender_is_refused(self) -> None:
        for dialled in (0, None):
            side = handshake(identity(1), dialled)
            self.refused(side, side.hello, "own id")

    def test_a_proof_sent_back_to_its_sender_is_refused(self) -> None:
        """The secret is unknown to the man in the middle, who offers the dialler its own proof."""
        dialler, acceptor = handshake(identity(1), 0), handshake(identity(0), None)
        self.refused(dialler, dialler.take(acceptor.hello), "proof is wrong")

    def test_a_proof_of_one_dialler_does_not_serve_for_another(self) -> None:
        first, second, acceptor = handshake(identity(1), 0), handshake(identity(2), 0), handshake(identity(0), None)
        acceptor.take(first.hello)
        self.refused(acceptor, second.take(acceptor.hello), "proof is wrong")

    def test_letters_out_of_turn_are_refused(self) -> None:
        proof, ready = msgspec.msgpack.encode(Proof(b"m" * 32)), msgspec.msgpack.encode(Ready())
        for letter in (proof, ready):
            for dialled in (0, None):
                self.refused(handshake(identity(1), dialled), letter, "out of turn")
        dialler, acceptor = handshake(identity(1), 0), handshake(identity(0), None)
        acceptor.take(dialler.hello)
        self.refused(acceptor, ready, "Ready came out of turn")
        dialler.take(acceptor.hello)
        self.refused(dialler, acceptor.hello, "Hello came out of turn")

    def test_what_is_no_letter_is_refused(self) -> None:
        short_nonce = msgspec.msgpack.encode(["understudy-hello", identity(1), b"short"])
        short_mac = msgspec.msgpack.encode(["understudy-proof", b"short"])
        deep = b"\x91" * 4000
        for letter in (b"", b"garbage", b"\xc1", encode(ok(1)), short_nonce, short_mac, deep, b"GET / HTTP/1.1\r\n"):
            self.refused(handshake(identity(0), None), letter, "something else")

    def test_a_stranger_by_its_own_words_is_refused(self) -> None:
        for changes, why in (
            ({"cluster": "elsewhere"}, "another cluster, 'elsewhere'"),
            ({"replica": 0}, "own id"),
            ({"replica": 7}, "replica 7 is not configured"),
            ({"replica": -1}, "replica -1 is not configured"),
            ({"version": wire_version("0.9")}, "version 0.9/unicode"),
            ({"config_hash": "decaf"}, "configuration differs"),
            ({"policy": "majority"}, "its policy is majority"),
            ({"boot_id": "other"}, "another host"),
            (
                {"directory": (1, 3)},
                "with another --data directory, and under policy survivor all replicas share one host and one directory: start",
            ),
        ):
            with self.subTest(why):
                peer = handshake(identity(1, **changes), 0)
                self.refused(handshake(identity(0), None), peer.hello, why)

    def test_only_the_higher_id_dials_and_only_the_dialled_answers(self) -> None:
        self.refused(handshake(identity(1), None), handshake(identity(0), 1).hello, "the higher id dials")
        self.refused(handshake(identity(2), 0), handshake(identity(1), None).hello, "replica 1 answers in its place")

    def test_several_hosts_are_fine_under_another_policy(self) -> None:
        here, there = identity(0, policy="majority"), identity(1, policy="majority", boot_id="other", directory=(5, 6))
        self.assertEqual(handshake(here, None).take(handshake(there, 0).hello), b"")

    def test_a_peer_whose_lock_is_not_its_own_is_refused_on_either_side(self) -> None:
        dialler, acceptor = handshake(identity(1), 0), handshake(identity(0), None, holds_lock=False)
        acceptor.take(dialler.hello)
        self.refused(acceptor, dialler.take(acceptor.hello), "replica 1's lock is not held by incarnation 101")
        dialler, acceptor = handshake(identity(1), 0, holds_lock=False), handshake(identity(0), None)
        acceptor.take(dialler.hello)
        self.refused(dialler, acceptor.take(dialler.take(acceptor.hello)), "replica 0's lock is not held by incarnation 100")

    def test_the_lock_is_not_looked_at_for_a_stranger(self) -> None:
        asked: list[int] = []

        def holds_lock(replica: int, inc: int) -> bool:
            asked.append(replica)
            return True

        acceptor = Handshake(identity(0), SECRET, dialled=None, replicas={0, 1}, nonce=bytes(16), holds_lock=holds_lock)
        dialler = handshake(identity(1), 0, OTHER_SECRET)
        acceptor.take(dialler.hello)
        self.refused(acceptor, dialler.take(acceptor.hello), "proof")
        self.assertEqual(asked, [])

    def test_no_bit_of_a_hello_can_be_changed_on_the_way(self) -> None:
        length = len(handshake(identity(1), 0).hello)
        for bit in range(8 * length):
            dialler, acceptor = handshake(identity(1), 0), handshake(identity(0), None)
            changed = bytearray(dialler.hello)
            changed[bit // 8] ^= 1 << bit % 8
            with self.assertRaises(LinkRefused, msg=f"bit {bit}"):
                acceptor.take(bytes(changed))
                acceptor.take(dialler.take(acceptor.hello))


class FakeTransport(asyncio.Transport):
    """Remembers; nothing is connected to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.is_aborted = False

    def write(self, words: bytes | bytearray | memoryview) -> None:
        self.written += words

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.high = high

    def abort(self) -> None:
        self.is_aborted = True

    def close(self) -> None:
        self.is_aborted = True


class Site:
    """One replica's `Links`, and everything they told."""

    def __init__(self, me: Identity, addresses: dict[int, Address], **changes: Any) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.log: list[str] = []
        self.answer: AnyPacket | None = None  # to every packet
        self._changed = asyncio.Event()
        settings: dict[str, Any] = {"secret": SECRET, "holds_lock": lambda *_: True, "handshake_s": 10.0, **changes}
        self.links = Links(
            me,
            addresses,
            settings["secret"],
            on_linked=lambda replica, inc: self._tell("linked", replica, inc),
            on_unlinked=lambda replica, reason: self._tell("unlinked", replica, reason),
            on_packet=self._receive,
            holds_lock=settings["holds_lock"],
            log=self._write,
            handshake_s=settings["handshake_s"],
            credentials=settings.get("credentials"),
            sockets=settings.get("sockets"),
        )

    def _tell(self, *what: Any) -> None:
        self.told.append(what)
        self._changed.set()

    def _receive(self, replica: int, packet: AnyPacket) -> None:
        self._tell(replica, packet)
        if self.answer is not None:
            self.links.send((replica,), self.answer)

    def _write(self, line: str) -> None:
        self.log.append(line)
        self._changed.set()

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for it; the deadline is a failure that shows what was told."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"never came: {what}\ntold: {self.told[-5:]}\nlog: {self.log[-5:]}") from None

    async def until_linked(self, *replicas: int) -> None:
        await self.until(lambda: set(self.links.linked()) == set(replicas), f"links with {replicas}")

    async def until_logged(self, text: str) -> None:
        await self.until(lambda: any(text in line for line in self.log), f"a log line with {text!r}")

    async def until_packets(self, count: int) -> None:
        await self.until(lambda: len(self.packets()) >= count, f"{count} packets")

    def packets(self) -> list[AnyPacket]:
        return [what[1] for what in self.told if isinstance(what[0], int)]


class Stranger:
    """The other end of a connection, which says what a test wants it to say."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.transport = cast(asyncio.Transport, writer.transport)

    @classmethod
    async def dial(cls, port: int) -> Stranger:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    def say(self, body: bytes) -> None:
        self.writer.write(frame(body))

    async def hear(self) -> bytes:
        async with asyncio.timeout(DEADLINE_S):
            (length,) = struct.unpack(">I", await self.reader.readexactly(4))
            return await self.reader.readexactly(length)

    async def link(self, side: Handshake) -> None:
        """A whole handshake, as the dialler."""
        self.say(side.hello)
        self.say(side.take(await self.hear()))
        self.say(side.take(await self.hear()))

    async def is_closed(self) -> bool:
        """Whether the other side ends the connection; what it still says is skipped."""
        async with asyncio.timeout(DEADLINE_S):
            with contextlib.suppress(ConnectionError):
                while await self.reader.read(65536):
                    pass
        self.writer.close()
        return True

    def reset(self) -> None:
        """End it as a crash of the host would: RST, no FIN."""
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.close()


class Framing(unittest.IsolatedAsyncioTestCase):
    """Bytes into packets, on a link that is up, without a socket."""

    async def asyncSetUp(self) -> None:
        asyncio.get_running_loop().slow_callback_duration = DEADLINE_S
        self.site = Site(identity(0), {0: ("127.0.0.1", 1), 1: ("127.0.0.1", 2)})
        self.link, self.transport = self.linked()

    def linked(self) -> tuple[Link, FakeTransport]:
        side, peer = handshake(identity(0), None), handshake(identity(1), 0)
        link, transport = Link(self.site.links, side, None, asyncio.get_running_loop().create_future()), FakeTransport()
        link.connection_made(transport)
        for letter in (peer.hello, peer.take(side.hello)):
            link.data_received(frame(letter))
        answer = bytes(transport.written)[len(frame(side.hello)) + 4 :]
        link.data_received(frame(peer.take(answer)))
        self.assertEqual(link.replica, 1)
        return link, transport

    async def test_packets_of_one_chunk_come_one_by_one_in_order(self) -> None:
        self.link.data_received(b"".join(frame(encode(ok(op))) for op in range(1, 6)))
        self.assertEqual(self.site.packets(), [ok(op) for op in range(1, 6)])

    async def test_a_frame_may_be_split_anywhere(self) -> None:
        both = frame(encode(ok(1))) + frame(encode(ok(2)))
        for cut in range(1, len(both)):
            self.site.told.clear()
            self.link.data_received(both[:cut])
            self.link.data_received(both[cut:])
            self.assertEqual(self.site.packets(), [ok(1), ok(2)], f"cut at {cut}")

    async def test_bytes_may_come_one_by_one(self) -> None:
        for byte in frame(encode(ok(1))) + frame(encode(ok(2))):
            self.link.data_received(bytes([byte]))
        self.assertEqual(self.site.packets(), [ok(1), ok(2)])

    async def test_any_chunking_gives_the_same_packets(self) -> None:
        dice = random.Random(20)
        for _ in range(200):
            self.site.told.clear()
            images = [dice.randbytes(dice.choice((0, 1, 40, 5000, 70000))) for _ in range(8)]
            sent = [Forward(view=1, runs=image) for image in images]
            self.receive(dice, sent)
            self.assertEqual(self.site.packets(), sent)

    def receive(self, dice: random.Random, sent: Sequence[AnyPacket]) -> None:
        """In chunks of any size."""
        wire, at = b"".join(frame(encode(packet)) for packet in sent), 0
        while at < len(wire):
            size = dice.choice((1, 3, 4, 5, 100, 4096, 65536, 262144))
            self.link.data_received(wire[at : at + size])
            at += size

    async def test_batches_that_come_together_are_given_as_one(self) -> None:
        sent = [Prepare(view=1, commit=n, applied=0, digest=n, image=bytes([n]) * 9) for n in range(5)]
        self.link.data_received(b"".join(frame(encode(packet)) for packet in (*sent, ok(1))) + frame(encode(ok(2)))[:7])
        together = Prepare(view=1, commit=4, applied=0, digest=4, image=b"".join(p.image for p in sent))
        self.assertEqual(self.site.packets(), [together, ok(1)])
        dice = random.Random(21)
        for _ in range(50):
            self.site.told.clear()
            self.link._pending = bytearray()
            sent = [
                Prepare(view=1, commit=n, applied=0, digest=0, image=bytes([n]) + dice.randbytes(dice.choice((9, 70000)))) for n in range(9)
            ]
            self.receive(dice, sent)
            given = [p for p in self.site.packets() if isinstance(p, Prepare)]
            self.assertEqual(b"".join(p.image for p in given), b"".join(p.image for p in sent))
            self.assertEqual(given[-1].commit, 8)

    async def test_what_came_before_a_bad_frame_is_given(self) -> None:
        self.link.data_received(frame(encode(ok(1))) + frame(encode(ok(2))) + frame(b"\xc1"))
        self.assertEqual(self.site.packets(), [ok(1), ok(2)])
        self.assertIn("a frame is no packet", self.site.told[-1][2])

    async def test_nothing_more_is_given_once_the_link_is_cut(self) -> None:
        self.site.links.on_packet = self.link._on_packet = lambda *_: self.link.cut("enough")
        self.link.data_received(frame(encode(ok(1))) + frame(encode(ok(2))))
        self.assertEqual(self.site.told[-1], ("unlinked", 1, "enough"))
        self.assertEqual(self.site.packets(), [])

    async def test_the_length_is_checked_before_anything_is_kept(self) -> None:
        for length in (PACKET_MAX + 1, 2**31, 2**32 - 1):
            link, transport = self.linked()
            link.data_received(LENGTH.pack(length))
            self.assertTrue(transport.is_aborted)
            self.assertFalse(link._pending)
            self.assertIn(f"a frame of {length} bytes is over the limit", self.site.told[-1][2])

    async def test_a_packet_of_the_greatest_size_comes_through(self) -> None:
        packet = Prepare(view=1, commit=0, applied=0, digest=0, image=bytes(PACKET_MAX - 12))
        self.assertEqual(len(encode(packet)), PACKET_MAX)
        wire = frame(encode(packet))
        for at in range(0, len(wire), 250_000):
            self.link.data_received(wire[at : at + 250_000])
        self.assertEqual(self.site.packets(), [packet])

    async def test_nothing_behind_a_bad_frame_is_applied(self) -> None:
        for bad in (b"", b"garbage", encode(ok(1))[:-1], encode(ok(1)) + b"\0", msgspec.msgpack.encode(Ready())):
            link, transport = self.linked()
            self.site.told.clear()
            link.data_received(frame(bad) + frame(encode(ok(1))))
            link.data_received(frame(encode(ok(2))))
            self.assertTrue(transport.is_aborted)
            self.assertEqual([what[:2] for what in self.site.told], [("unlinked", 1)])
            self.assertRegex(self.site.told[0][2], "no packet")

    async def test_nothing_breaks_whatever_the_bytes_are(self) -> None:
        """Fuzz: frames with flipped, cut and random bytes, before and after the handshake."""
        dice = random.Random(21)
        self.link.eof_received()
        good = [frame(encode(ok(9))), frame(encode(Commit(view=1, op=2, hash=b"h" * 16, digest=3, round=4))), frame(os.urandom(20))]
        for turn in range(3000):
            if turn % 2:
                link, transport = self.linked()
            else:
                link, transport = Link(self.site.links, handshake(identity(0), None), None, asyncio.Future()), FakeTransport()
                link.connection_made(transport)
                good[2] = frame(handshake(identity(1), 0).hello)
            wire = bytearray(b"".join(dice.choices(good, k=3)))
            for _ in range(dice.randrange(4)):
                wire[dice.randrange(len(wire))] = dice.randrange(256)
            link.data_received(bytes(wire[: dice.randrange(len(wire) + 1)]))
            link.eof_received()
            self.assertTrue(transport.is_aborted)
            self.assertEqual(self.site.links.linked(), {})
            self.site.told.clear()


class OnAsyncio(unittest.IsolatedAsyncioTestCase):
    """Real sockets, on the standard library's loop."""

    async def asyncSetUp(self) -> None:
        asyncio.get_running_loop().slow_callback_duration = DEADLINE_S
        self.sites: list[Site] = []
        self.ports = free_ports(3)
        self.addresses = {replica: ("127.0.0.1", port) for replica, port in enumerate(self.ports)}

    async def asyncTearDown(self) -> None:
        for site in self.sites:
            await site.links.stop()

    async def site(self, replica: int, me: Identity | None = None, **changes: Any) -> Site:
        site = Site(me or identity(replica), self.addresses, **changes)
        self.sites.append(site)
        await site.links.start()
        return site

    async def three(self) -> list[Site]:
        sites = [await self.site(replica) for replica in (2, 1, 0)][::-1]
        for site, others in zip(sites, ((1, 2), (0, 2), (0, 1)), strict=True):
            await site.until_linked(*others)
        return sites

    # Who gets a link

    async def test_three_replicas_link_whatever_the_order_of_their_start(self) -> None:
        sites = await self.three()
        self.assertEqual(sites[0].links.linked(), {1: 101, 2: 102})
        self.assertEqual(sites[2].links._links[0].peer, identity(0))
        self.assertIn(("linked", 1, 101), sites[0].told)

    async def test_a_replica_that_starts_again_is_linked_again_as_its_new_incarnation(self) -> None:
        for restarted, watcher in ((0, 1), (1, 0)):
            self.ports = free_ports(3)
            self.addresses = {replica: ("127.0.0.1", port) for replica, port in enumerate(self.ports)}
            sites = [await self.site(replica) for replica in (0, 1)]
            await sites[watcher].until_linked(restarted)
            await sites[restarted].links.stop()
            await sites[watcher].until_linked()
            await self.site(restarted, identity(restarted, inc=500))
            await sites[watcher].until_linked(restarted)
            self.assertEqual(sites[watcher].links.linked(), {restarted: 500})
            kinds = [what[0] for what in sites[watcher].told]
            self.assertEqual(kinds, ["linked", "unlinked", "linked"])

    def families(self, *sites: Site) -> set[socket.AddressFamily]:
        """Of the connections of their links."""
        return {link._transport.get_extra_info("socket").family for site in sites for link in site.links._links.values()}

    async def test_replicas_of_one_host_reach_each_other_by_their_sockets(self) -> None:
        """One that starts again finds its own name taken, by itself; others get no further than at the port."""
        where = self.enterContext(tempfile.TemporaryDirectory())
        sockets = {replica: f"{where}/replica-{replica}.sock" for replica in range(3)}
        acceptor, dialler = await self.site(0, sockets=sockets), await self.site(1, sockets=sockets)
        for begins in range(2):
            await acceptor.until_linked(1)
            await dialler.until_linked(0)
            self.assertEqual(self.families(acceptor, dialler), {socket.AF_UNIX})
            self.assertEqual(os.stat(sockets[0]).st_mode & 0o777, 0o600)
            dialler.links.send((0,), ok(1 + begins))
            acceptor.links.send((1,), ok(3 + begins))
            await acceptor.until_packets(1)
            await dialler.until_packets(1 + begins)
            if not begins:
                await acceptor.links.stop()
                await dialler.until_linked()
                acceptor = await self.site(0, identity(0, inc=500), sockets=sockets)
        self.assertEqual(dialler.packets(), [ok(3), ok(4)])
        stranger = await self.site(2, secret=OTHER_SECRET, sockets=sockets)
        await acceptor.until_logged("a connection as replica 2 to the peer port was refused: its proof is wrong")
        self.assertEqual(stranger.told, [])

    async def test_where_nobody_answers_at_a_socket_the_peer_port_is_dialled(self) -> None:
        """No such directory; a name that is left of one who has ended, and another version that listens at its port only."""
        where = self.enterContext(tempfile.TemporaryDirectory())
        left = socket.socket(socket.AF_UNIX)
        left.bind(f"{where}/left.sock")
        left.close()
        for path in (f"{where}/none/replica-0.sock", f"{where}/left.sock"):
            self.ports = free_ports(3)
            self.addresses = {replica: ("127.0.0.1", port) for replica, port in enumerate(self.ports)}
            listens = {0: path} if "none" in path else {}  # there it cannot, and starts all the same
            acceptor, dialler = await self.site(0, sockets=listens), await self.site(1, sockets={0: path})
            await acceptor.until_linked(1)
            await dialler.until_linked(0)
            self.assertEqual(self.families(acceptor, dialler), {socket.AF_INET})

    async def test_a_replica_with_another_secret_is_never_linked(self) -> None:
        acceptor, dialler = await self.site(0), await self.site(1, secret=OTHER_SECRET)
        await acceptor.until_logged("a connection as replica 1 to the peer port was refused: its proof is wrong")
        await dialler.until_logged("no link with replica 0: it closed the connection")
        self.assertEqual(acceptor.told + dialler.told, [])

    async def test_neither_side_counts_a_link_that_the_dialler_refuses(self) -> None:
        acceptor, dialler = await self.site(0), await self.site(1, holds_lock=lambda *_: False)
        await dialler.until_logged("replica 0's lock is not held")
        await acceptor.until_logged("a connection as replica 1 to the peer port was refused")
        self.assertEqual(acceptor.told + dialler.told, [])

    async def test_neither_side_counts_a_link_that_the_acceptor_refuses(self) -> None:
        acceptor, dialler = await self.site(0, holds_lock=lambda *_: False), await self.site(1)
        await acceptor.until_logged("replica 1's lock is not held")
        await dialler.until_logged("no link with replica 0")
        self.assertEqual(acceptor.told + dialler.told, [])

    async def test_both_sides_say_what_differs(self) -> None:
        acceptor, dialler = await self.site(0), await self.site(1, identity(1, version=wire_version("9.9")))
        await acceptor.until_logged("it runs version 9.9")
        await dialler.until_logged("it runs version 1.0")

    async def test_the_same_complaint_is_not_logged_again_and_again(self) -> None:
        tries = 0

        def holds_lock(replica: int, inc: int) -> bool:
            nonlocal tries
            tries += 1
            acceptor._changed.set()
            return False

        acceptor = await self.site(0, holds_lock=holds_lock)
        await self.site(1)
        await acceptor.until(lambda: tries >= 4, "four attempts")
        self.assertEqual(len(acceptor.log), 1)

    async def test_the_dialler_tries_until_somebody_listens(self) -> None:
        dialler = await self.site(1)
        await dialler.until_logged("does not answer")
        acceptor = await self.site(0)
        await acceptor.until_linked(1)
        await dialler.until_linked(0)

    async def test_a_port_that_is_taken_stops_the_start(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", self.ports[0]))
            taken.listen()
            with self.assertRaises(OSError):
                await self.site(0)

    # Strangers at the peer port

    async def refuses(self, said: bytes, why: str, handshake_s: float = 10.0) -> None:
        site = await self.site(0, handshake_s=handshake_s)
        stranger = await Stranger.dial(self.ports[0])
        stranger.writer.write(said)
        self.assertTrue(await stranger.is_closed())
        await site.until_logged(why)
        self.assertEqual(site.told, [])

    async def test_garbage_is_hung_up_on(self) -> None:
        await self.refuses(b"GET / HTTP/1.1\r\n\r\n", "over the limit")

    async def test_a_packet_before_the_handshake_is_not_applied(self) -> None:
        await self.refuses(frame(encode(ok(1))), "something else")

    async def test_a_packet_between_two_frames_of_the_handshake_is_not_applied(self) -> None:
        await self.refuses(frame(handshake(identity(1), 0).hello) + frame(encode(ok(1))), "something else")

    async def test_a_long_frame_before_the_handshake_is_hung_up_on(self) -> None:
        await self.refuses(LENGTH.pack(HANDSHAKE_MAX + 1), f"over the limit of {HANDSHAKE_MAX}")

    async def test_ready_without_a_proof_gives_no_link(self) -> None:
        await self.refuses(frame(handshake(identity(1), 0).hello) + frame(msgspec.msgpack.encode(Ready())), "out of turn")

    async def test_our_own_hello_reflected_gives_no_link(self) -> None:
        site = await self.site(0)
        stranger = await Stranger.dial(self.ports[0])
        stranger.say(await stranger.hear())
        self.assertTrue(await stranger.is_closed())
        await site.until_logged("own id")
        self.assertEqual(site.told, [])

    async def test_a_recorded_handshake_gives_no_link_a_second_time(self) -> None:
        site = await self.site(0)
        side, first = handshake(identity(1), 0), await Stranger.dial(self.ports[0])
        first.say(side.hello)
        proof = side.take(await first.hear())
        first.say(proof)
        ready = side.take(await first.hear())
        first.say(ready)
        await site.until_linked(1)
        second = await Stranger.dial(self.ports[0])
        for letter in (side.hello, proof, ready):
            second.say(letter)
        self.assertTrue(await second.is_closed())
        await site.until_logged("proof is wrong")
        self.assertEqual(site.links.linked(), {1: 101}, "the true link is not touched")
        first.writer.close()

    async def test_silence_is_hung_up_on(self) -> None:
        await self.refuses(b"", "handshake takes too long", handshake_s=0.2)

    async def test_half_a_frame_and_silence_is_hung_up_on(self) -> None:
        await self.refuses(frame(handshake(identity(1), 0).hello)[:30], "handshake takes too long", handshake_s=0.2)

    async def test_a_stranger_that_closes_leaves_nothing_behind(self) -> None:
        site = await self.site(0)
        stranger = await Stranger.dial(self.ports[0])
        await stranger.hear()
        stranger.writer.close()
        await site.until_logged("a connection to the peer port was refused: it closed the connection")
        await site.until(lambda: not site.links._strangers, "no stranger")

    async def test_many_strangers_do_not_keep_a_replica_out(self) -> None:
        site = await self.site(0)
        crowd = [await Stranger.dial(self.ports[0]) for _ in range(3 * STRANGERS_MAX)]
        await site.until_logged("too many connections")
        self.assertTrue(await crowd[0].is_closed())
        other = await self.site(1)
        await other.until_linked(0)
        self.assertLessEqual(len(site.links._strangers), STRANGERS_MAX)
        for stranger in crowd[1:]:
            stranger.writer.close()

    async def test_a_silent_process_at_a_peers_address_is_given_up_and_dialled_again(self) -> None:
        calls = 0
        accepted: list[Stranger] = []

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal calls
            calls += 1
            accepted.append(Stranger(reader, writer))
            dialler._changed.set()

        server = await asyncio.start_server(accept, "127.0.0.1", self.ports[0])
        dialler = await self.site(1, handshake_s=0.2)
        await dialler.until(lambda: calls >= 2, "a second call")
        await dialler.until_logged("no link with replica 0: its handshake takes too long")
        for stranger in accepted:
            stranger.writer.close()
        server.close()
        await server.wait_closed()

    # A link that is up

    async def linked_stranger(self, **changes: Any) -> tuple[Site, Stranger]:
        site, stranger = await self.site(0, **changes), await Stranger.dial(self.ports[0])
        await stranger.link(handshake(identity(1), 0))
        await site.until_linked(1)
        return site, stranger

    async def test_packets_arrive_in_order_at_everyone_they_were_sent_to(self) -> None:
        sites = await self.three()
        sent: list[AnyPacket] = [Forward(view=1, runs=bytes([n]) * (n * 9000)) for n in range(100)]
        for packet in sent:
            sites[0].links.send((1, 2), packet)
        for backup in sites[1:]:
            await backup.until_packets(100)
            self.assertEqual(backup.packets(), sent)
            backup.links.send((0,), ok(7))
        await sites[0].until_packets(2)

    async def test_a_packet_is_encoded_once_and_only_if_somebody_is_there(self) -> None:
        sites = await self.three()
        with mock.patch.object(links, "encode", side_effect=encode) as counted:
            sites[0].links.send((1, 2), ok(1))
            sites[0].links.send((0, 5), ok(1))
            sites[0].links.send((), ok(1))
        self.assertEqual(counted.call_count, 1)

    async def test_a_written_packet_leaves_before_the_loop_turns(self) -> None:
        site, stranger = await self.linked_stranger()
        with socket.socket(fileno=os.dup(stranger.writer.get_extra_info("socket").fileno())) as raw:
            raw.setblocking(True)
            raw.settimeout(DEADLINE_S)
            site.links.send((1,), ok(1))
            self.assertEqual(raw.recv(4096), frame(encode(ok(1))))
        stranger.writer.close()

    async def test_nagle_is_off(self) -> None:
        site, stranger = await self.linked_stranger()
        raw = site.links._links[1]._transport.get_extra_info("socket")
        self.assertNotEqual(raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY), 0)
        stranger.writer.close()

    async def test_what_follows_ready_in_one_chunk_is_read(self) -> None:
        site, stranger = await self.site(0), await Stranger.dial(self.ports[0])
        side = handshake(identity(1), 0)
        stranger.say(side.hello)
        stranger.say(side.take(await stranger.hear()))
        stranger.writer.write(frame(side.take(await stranger.hear())) + frame(encode(ok(1))) + frame(encode(ok(2))))
        await site.until_packets(2)
        self.assertEqual(site.told, [("linked", 1, 101), (1, ok(1)), (1, ok(2))])
        stranger.writer.close()

    async def test_the_end_of_a_connection_is_told_at_once(self) -> None:
        site, stranger = await self.linked_stranger()
        stranger.say(encode(ok(1)))
        stranger.writer.close()
        await site.until_linked()
        self.assertEqual(site.told[1:], [(1, ok(1)), ("unlinked", 1, "it closed the connection")])
        site.links.send((1,), ok(2))

    async def test_a_reset_connection_is_told(self) -> None:
        site, stranger = await self.linked_stranger()
        stranger.reset()
        await site.until_linked()
        self.assertEqual([what[0] for what in site.told], ["linked", "unlinked"])

    async def test_half_a_packet_and_silence_ends_the_link(self) -> None:
        site, stranger = await self.linked_stranger(handshake_s=0.2)
        stranger.writer.write(frame(encode(ok(1)))[:-1])
        await site.until_logged("link with replica 1 lost: the rest of a frame does not come")
        self.assertEqual(site.packets(), [])
        self.assertTrue(await stranger.is_closed())

    async def test_a_quiet_link_stays(self) -> None:
        site, stranger = await self.linked_stranger(handshake_s=0.04)
        looks = 0
        link = site.links._links[1]
        look = link.look

        def counted() -> None:
            nonlocal looks
            looks += 1
            site._changed.set()
            look()

        with mock.patch.object(link, "look", side_effect=counted):
            await site.until(lambda: looks > 8, "eight looks")
        stranger.say(encode(ok(1)))
        await site.until(lambda: site.packets() == [ok(1)], "the packet")
        stranger.writer.close()

    async def test_too_long_a_frame_ends_the_link(self) -> None:
        site, stranger = await self.linked_stranger()
        stranger.writer.write(LENGTH.pack(PACKET_MAX + 1))
        await site.until_logged("over the limit of 4194304")
        self.assertTrue(await stranger.is_closed())

    async def test_a_newer_link_of_the_same_replica_takes_the_place_of_the_older(self) -> None:
        site, first = await self.linked_stranger()
        second = await Stranger.dial(self.ports[0])
        await second.link(handshake(identity(1, inc=102), 0))
        await site.until(lambda: site.links.linked() == {1: 102}, "the newer incarnation")
        self.assertTrue(await first.is_closed())
        second.say(encode(ok(2)))
        await site.until(lambda: site.packets() == [ok(2)], "the packet")
        self.assertEqual(site.told[:3], [("linked", 1, 101), ("unlinked", 1, "a newer link took its place"), ("linked", 1, 102)])
        second.writer.close()

    async def test_an_older_incarnation_does_not_take_the_place_of_a_newer(self) -> None:
        site, first = await self.linked_stranger()
        second = await Stranger.dial(self.ports[0])
        await second.link(handshake(identity(1, inc=50), 0))
        self.assertTrue(await second.is_closed())
        await site.until_logged("replica 1 is linked with a newer incarnation, 101")
        self.assertEqual(site.told, [("linked", 1, 101)])
        first.writer.close()

    async def test_a_peer_that_does_not_read_is_cut_and_never_inside_send(self) -> None:
        site, stranger = await self.linked_stranger()
        stranger.transport.pause_reading()
        packet = Prepare(view=1, commit=0, applied=0, digest=0, image=bytes(PACKET_MAX // 2))
        for _ in range(2 * UNSENT_MAX // len(packet.image)):
            site.links.send((1,), packet)
            self.assertEqual(len(site.told), 1, "send must not call back")
        await site.until_linked()
        self.assertIn("unread", site.told[-1][2])
        stranger.transport.abort()

    async def test_a_slow_peer_below_the_limit_gets_everything(self) -> None:
        site, stranger = await self.linked_stranger()
        stranger.transport.pause_reading()
        packet = Prepare(view=1, commit=0, applied=0, digest=0, image=os.urandom(1 << 20))
        for _ in range(20):
            site.links.send((1,), packet)
        stranger.transport.resume_reading()
        for _ in range(20):
            self.assertEqual(await stranger.hear(), encode(packet))
        stranger.writer.close()

    # The end

    async def test_stop_lets_out_what_was_sent_and_calls_nobody_any_more(self) -> None:
        for stopped, other in ((0, 1), (1, 0)):
            self.ports = free_ports(3)
            self.addresses = {replica: ("127.0.0.1", port) for replica, port in enumerate(self.ports)}
            sites = [await self.site(replica) for replica in (0, 1)]
            await sites[0].until_linked(1)
            await sites[1].until_linked(0)
            for n in range(10):
                sites[stopped].links.send((other,), Prepare(view=n, commit=0, applied=0, digest=0, image=bytes(500_000)))
            before = list(sites[stopped].told)
            await sites[stopped].links.stop()
            await sites[other].until_linked()
            self.assertEqual(len(sites[other].packets()), 10)
            self.assertEqual(sites[stopped].told, before)
            self.assertEqual(sites[stopped].links.linked(), {})
            sites[stopped].links.send((other,), ok(1))

    async def test_stop_does_not_wait_for_a_peer_that_does_not_read(self) -> None:
        site, stranger = await self.linked_stranger()
        stranger.transport.pause_reading()
        for _ in range(20):
            site.links.send((1,), Prepare(view=1, commit=0, applied=0, digest=0, image=bytes(1 << 20)))
        async with asyncio.timeout(DEADLINE_S):
            await site.links.stop()
        stranger.transport.abort()

    async def test_a_round_may_be_answered_from_inside_the_callback(self) -> None:
        """As the server does: a packet leads to a packet in the same turn."""
        sites = await self.three()
        for site in sites[1:]:
            site.answer = CommitOk(view=1, round=0, op=0)
        for n in range(50):
            sites[0].links.send((1, 2), Commit(view=1, op=0, hash=b"h" * 16, digest=0, round=n))
        await sites[0].until_packets(100)


@unittest.skipIf(uvloop is None, "uvloop is not here")
class OnUvloop(OnAsyncio):
    """The same on the loop that the server prefers."""

    if uvloop is not None:
        loop_factory = staticmethod(uvloop.new_event_loop)
    if sys.version_info < (3, 13):

        def _setupAsyncioRunner(self) -> None:  # loop_factory came with 3.13
            self._asyncioRunner = asyncio.Runner(debug=True, loop_factory=self.loop_factory)

    async def test_it_is_the_loop_it_says(self) -> None:
        self.assertIsInstance(asyncio.get_running_loop(), uvloop.Loop)


class SecretTest(unittest.TestCase):
    """data/cluster/secret."""

    def setUp(self) -> None:
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.directory = place.name
        self.path = os.path.join(place.name, "secret")

    def refused(self, why: str) -> None:
        with self.assertRaisesRegex(SecretRefused, why):
            load_secret(self.path)

    def test_the_first_makes_it_and_the_others_read_it(self) -> None:
        first = load_secret(self.path)
        self.assertEqual(len(first), 32)
        self.assertEqual(os.stat(self.path).st_mode & 0o777, 0o600)
        self.assertEqual(load_secret(self.path), first)
        self.assertEqual(os.listdir(self.directory), ["secret"], "no draft is left")

    def test_who_loses_the_race_takes_the_winners(self) -> None:
        true_link = os.link

        def late(draft: str, path: str) -> None:
            with open(path, "w", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
                file.write("ab" * 32)
            true_link(draft, path)

        os.link = late  # type: ignore[assignment]
        try:
            self.assertEqual(load_secret(self.path), b"\xab" * 32)
        finally:
            os.link = true_link
        self.assertEqual(os.listdir(self.directory), ["secret"])

    def test_one_that_others_may_read_is_refused(self) -> None:
        load_secret(self.path)
        for mode in (0o640, 0o604, 0o620, 0o602, 0o666):
            os.chmod(self.path, mode)
            self.refused("may be read by others: chmod 600")

    def test_one_that_is_no_plain_file_is_refused(self) -> None:
        os.symlink("/dev/null", self.path)
        self.refused("cannot be read as a plain file")
        os.unlink(self.path)
        os.mkfifo(self.path, 0o600)
        self.refused("not a plain file")
        os.unlink(self.path)
        os.mkdir(self.path, 0o700)
        self.refused("plain file")

    def test_one_that_is_no_secret_is_refused(self) -> None:
        for content in ("", "ab" * 31, "ab" * 33, "zz" * 32, "ab" * 32 + "\n\nx", "ü" * 32):
            with open(self.path, "w", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
                file.write(content)
            self.refused("does not hold 64 hexadecimal digits")

    def test_one_of_another_user_is_refused(self) -> None:
        load_secret(self.path)
        true_geteuid = os.geteuid
        os.geteuid = lambda: true_geteuid() + 1
        try:
            self.refused("belongs to another user")
        finally:
            os.geteuid = true_geteuid


if __name__ == "__main__":
    unittest.main()
