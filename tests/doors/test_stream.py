"""The shell of every byte door: silence, half-closing, and guests that do not read, do not end or are too many."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import unittest
from collections.abc import Callable
from typing import Any
from unittest import mock

from doors.lines import QUIET_AFTER
from doors.pipe_words import GREETING, INVALID
from doors.stream import UNFINISHED_S, UNSENT_MAX, UNSENT_S, StreamShell
from doors.turns import Turns
from tests.front_desk import FrontDesk


class Clock:
    """A loop whose time is told by the test."""

    def __init__(self) -> None:
        self.now = 50.0
        self.timers: list[tuple[float, Callable[[], None], mock.Mock]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], None]) -> mock.Mock:
        handle = mock.Mock(cancelled=False)
        handle.cancel = lambda: setattr(handle, "cancelled", True)
        self.timers.append((self.now + delay, callback, handle))
        return handle

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        due = [timer for timer in self.timers if timer[0] <= self.now]
        self.timers = [timer for timer in self.timers if timer[0] > self.now]
        for _, callback, handle in due:
            if not handle.cancelled:
                callback()


class Wire:
    """A transport whose other end reads what the test lets it read."""

    def __init__(self, peer: Any = ("127.0.0.1", 49032)) -> None:
        self.__dict__["get_extra_info"] = {"peername": peer}.get  # asyncio's word, not ours
        self.words = b""
        self.unread = 0
        self.state = "open"
        self.reading = True

    def set_write_buffer_limits(self, high: int) -> None:
        self.high = high

    def write(self, words: bytes) -> None:
        assert self.state == "open"
        self.words += words

    def get_write_buffer_size(self) -> int:
        return self.unread

    def is_closing(self) -> bool:
        return self.state != "open"

    def close(self) -> None:
        self.state = "closed"

    def abort(self) -> None:
        self.state = "aborted"

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Shells(unittest.TestCase):
    def setUp(self) -> None:
        self.front = FrontDesk()
        self.clock = Clock()
        self.shells: set[StreamShell] = set()
        self.soon: list[Callable[[], None]] = []  # for the loop's next turn
        self.turns = Turns(self.soon.append)
        self.logged: list[str] = []
        self.announced: list[str] = []

    def connect(self, *, door: str = "pipe", clients_max: int = 10, peer: Any = ("127.0.0.1", 49032)) -> tuple[StreamShell, Wire]:
        with mock.patch("asyncio.get_running_loop", return_value=self.clock):
            shell = StreamShell(
                self.front.desk,
                door,
                self.shells,
                self.turns,
                log=self.logged.append,
                announce=self.announced.append,
                clients_max=clients_max,
            )
        wire = Wire(peer)
        shell.connection_made(wire)  # type: ignore[arg-type]
        return shell, wire

    def heard(self, wire: Wire) -> bytes:
        self.front.turn()
        words, wire.words = wire.words, b""
        return words


class ShellTest(Shells):
    def test_the_greeting_comes_at_once(self) -> None:
        _, wire = self.connect()
        self.assertEqual(wire.words, GREETING)
        self.assertEqual(self.announced, ["Connected to : 127.0.0.1 : 49032"])
        self.connect(peer=None)
        self.assertEqual(self.announced[1], "Connected to : ? : 0")

    def test_a_guest_may_be_sent_away_by_what_its_own_command_sets_off(self) -> None:
        """The disk fails while the batch of a lone guest is written."""
        shell, wire = self.connect()
        self.front.desk.hasten = lambda: self.front.desk.close_all("this replica stops: try the next port")
        shell.data_received(b"1|mason\n2")
        self.assertEqual((wire.state, shell.silence), ("closed", None))

    def test_the_desk_is_told_when_a_guest_was_heard_whatever_came_of_it(self) -> None:
        shell, _ = self.connect()
        told: list[str] = []
        self.front.desk.hasten = lambda: told.append(f"heard: {self.front.desk.hears}")
        for fault in (None, MemoryError):
            assert shell.connection is not None
            feed = mock.Mock(side_effect=fault, return_value=False)
            with mock.patch.object(type(shell.connection), "feed", feed), contextlib.suppress(MemoryError):
                shell.data_received(b"2")
        self.assertEqual(told, ["heard: True", "heard: True"])

    def test_silence_ends_an_unframed_command(self) -> None:
        shell, wire = self.connect()
        self.heard(wire)
        shell.data_received(b"1|ma")
        self.clock.pass_time(QUIET_AFTER / 2)
        shell.data_received(b"son")
        self.clock.pass_time(QUIET_AFTER * 0.9)
        self.assertEqual(self.heard(wire), b"", "each piece begins the silence anew")
        self.clock.pass_time(QUIET_AFTER * 0.2)
        self.assertEqual(self.heard(wire), b"Success New Account Creation! Your new Account ID: mason123\n")
        shell.data_received(b"2")
        self.clock.pass_time(0.1)
        self.assertEqual(self.heard(wire), b"Showing all accounts: mason\n")

    def test_silence_means_nothing_to_a_framed_one(self) -> None:
        shell, wire = self.connect()
        shell.data_received(b"2\n2")
        self.clock.pass_time(5)
        self.assertEqual(self.heard(wire), GREETING + b"Showing all accounts: \n")

    def test_a_guest_that_is_gone_leaves_nothing_to_the_garbage_collector(self) -> None:
        for how in (b"", b"1|mason\n", b"2\n", b"understudy 1 " + b"0" * 32 + b"\n1 0 1|wayne\n"):
            shell, wire = self.connect()
            connection = shell.connection
            assert connection is not None
            shell.data_received(how)
            self.heard(wire)
            shell.connection_lost(None)
            self.front.turn()
            gc.disable()
            try:
                wire.__dict__.clear()
                del shell
                left = [type(other).__name__ for other in gc.get_referrers(connection)]
            finally:
                gc.enable()
            self.assertEqual([name for name in left if name != "frame"], [], how)

    def test_silence_after_the_end(self) -> None:
        shell, _ = self.connect()
        shell.data_received(b"2")
        shell.connection_lost(None)
        self.clock.pass_time(1)
        self.assertEqual((self.shells, self.front.desk.queries), (set(), {}))
        shell.data_received(b"2\n")
        self.assertEqual(self.front.desk.queries, {}, "and nothing is read any more")
        other, _ = self.connect()
        other.data_received(b"1|x")
        assert other.connection is not None
        other.connection.gone = True
        self.clock.pass_time(1)
        self.assertEqual(self.front.desk.open_runs, [])

    def test_half_closing_ends_a_command_and_answers_still_come(self) -> None:
        shell, wire = self.connect()
        shell.data_received(b"2")
        self.assertTrue(shell.eof_received(), "the socket stays for the answer")
        self.assertEqual(self.heard(wire), GREETING + b"Showing all accounts: \n")
        self.assertEqual((wire.state, self.logged), ("closed", []))

    def test_half_closing_when_nothing_is_owed(self) -> None:
        shell, wire = self.connect()
        self.assertFalse(shell.eof_received())
        self.assertEqual(wire.state, "closed")
        shell.connection_lost(None)
        self.assertEqual((self.shells, self.front.desk.connections), (set(), {}))

    def test_too_many(self) -> None:
        self.connect(clients_max=1)
        shell, wire = self.connect(clients_max=1)
        self.assertEqual((wire.state, wire.words), ("aborted", b""))
        self.assertEqual(self.logged, ["refused 127.0.0.1 : 49032: 1 guests are connected already"])
        shell.data_received(b"2\n")
        self.assertFalse(shell.eof_received())
        shell.connection_lost(None)
        self.assertEqual(len(self.shells), 1)

    def test_who_does_not_read(self) -> None:
        shell, wire = self.connect()
        wire.unread = 10
        for _ in range(int(UNSENT_S) + 1):
            shell.look(self.clock.now)
            self.assertEqual(wire.state, "open")
            self.clock.pass_time(1)
        shell.look(self.clock.now)
        self.assertEqual((wire.state, self.logged), ("aborted", ["closes 127.0.0.1 : 49032: did not read for 10 s"]))

    def test_who_reads_slowly_is_let_be(self) -> None:
        shell, wire = self.connect()
        for _ in range(60):
            shell.write(b"x" * 100)
            wire.unread += 99
            shell.look(self.clock.now)
            self.clock.pass_time(1)
        self.assertEqual(wire.state, "open")

    def test_who_read_all_and_then_nothing_has_its_whole_time(self) -> None:
        shell, wire = self.connect()
        for _ in range(100):
            shell.look(self.clock.now)
            self.clock.pass_time(1)
        wire.unread = 5
        shell.look(self.clock.now)
        self.clock.pass_time(UNSENT_S - 1)
        shell.look(self.clock.now)
        self.assertEqual(wire.state, "open")

    def test_too_much_unread(self) -> None:
        shell, wire = self.connect()
        wire.unread = UNSENT_MAX + 1
        shell.write(b"x")
        self.assertEqual(wire.state, "open", "the transport has not said that it is too much")
        shell.pause_writing()
        wire.unread = UNSENT_MAX
        shell.write(b"x")
        self.assertEqual(wire.state, "open")
        wire.unread += 1
        shell.write(b"x")
        self.assertEqual((wire.state, self.logged), ("aborted", [f"closes 127.0.0.1 : 49032: has {UNSENT_MAX} bytes unread"]))
        shell.write(b"more")
        shell.close("twice")
        shell.pause()
        shell.resume()
        self.assertEqual((len(self.logged), wire.reading), (1, True), "what is closing is let be")
        other, wire = self.connect()
        other.pause_writing()
        other.resume_writing()
        wire.unread = UNSENT_MAX + 1
        other.write(b"x")
        self.assertEqual(wire.state, "open")

    def test_who_does_not_end_a_command(self) -> None:
        for begin in (b"2\n3|x|", b"2\n"):
            shell, wire = self.connect()
            shell.data_received(begin)
            for _ in range(int(UNFINISHED_S) + 2):
                shell.look(self.clock.now)
                self.clock.pass_time(1)
                shell.data_received(b"y" if begin[-1:] == b"|" else b"")
            self.assertEqual(wire.state, "aborted" if begin[-1:] == b"|" else "open")
        self.assertEqual(self.logged, ["closes 127.0.0.1 : 49032: did not end a command within 10 s"])

    def test_who_pipelines_without_pause_ends_its_commands(self) -> None:
        shell, wire = self.connect()
        for _ in range(30):
            shell.data_received(b"2\n2")
            shell.data_received(b"\n2")
            self.front.turn()
            shell.look(self.clock.now)
            self.clock.pass_time(1)
        self.assertEqual((wire.state, self.logged), ("open", []))

    def test_what_is_not_read_cannot_be_ended(self) -> None:
        shell, wire = self.connect()
        shell.data_received(b"2\n3|x")
        shell.pause()
        self.assertFalse(wire.reading)
        self.clock.pass_time(100)
        shell.look(self.clock.now)
        shell.resume()
        self.assertTrue(wire.reading)
        shell.look(self.clock.now)
        self.assertEqual(wire.state, "open")
        other, _ = self.connect()
        other.pause()
        other.resume()
        self.assertEqual(other.unfinished_since, 0.0, "nothing was begun")
        self.clock.pass_time(UNFINISHED_S + 1)
        shell.look(self.clock.now)
        self.assertEqual(wire.state, "aborted")

    def test_closing(self) -> None:
        shell, wire = self.connect()
        shell.close("a reason")
        self.assertEqual((wire.state, self.logged), ("closed", ["closes 127.0.0.1 : 49032: a reason"]))

    def test_drained(self) -> None:
        shell, wire = self.connect()
        self.assertTrue(shell.is_drained())
        wire.unread = 1
        self.assertFalse(shell.is_drained())

    def test_a_line_without_end_is_cut_off(self) -> None:
        shell, wire = self.connect()
        for _ in range(3):
            shell.data_received(b"x" * 65536)
        self.assertEqual(wire.state, "closed")
        self.assertRegex(self.logged[0], "a command is longer than")


class ShareTest(Shells):
    """Whoever says much at once: the rest waits, a share a turn, in order; what others say meanwhile does not."""

    def setUp(self) -> None:
        super().setUp()
        for module in ("lines", "framed"):
            patch = mock.patch(f"doors.{module}.COMMANDS_AT_ONCE", 4)
            patch.start()
            self.addCleanup(patch.stop)

    def go_on(self) -> None:
        """One turn of the loop."""
        soon, self.soon[:] = list(self.soon), []
        for callback in soon:
            callback()

    def names(self) -> list[str]:
        self.front.turn()
        return list(self.front.state.accounts)

    def test_a_share_in_each_turn(self) -> None:
        shell, wire = self.connect()
        shell.data_received(b"".join(b"1|n%d\n" % n for n in range(10)) + b"1|n1")
        self.assertEqual((self.names(), wire.reading), ([f"n{n}" for n in range(4)], False))
        self.go_on()
        self.assertEqual((self.names(), wire.reading), ([f"n{n}" for n in range(8)], False))
        self.go_on()
        self.assertEqual((self.names(), wire.reading, self.soon), ([f"n{n}" for n in range(10)], True, []))
        shell.data_received(b"0\n")
        self.assertEqual(self.names()[10:], ["n10"], "a command was cut in two by the end of the chunk")

    def test_turns_go_round(self) -> None:
        one, _ = self.connect()
        two, _ = self.connect()
        one.data_received(b"".join(b"1|a%d\n" % n for n in range(12)))
        two.data_received(b"".join(b"1|b%d\n" % n for n in range(12)))
        self.names()
        other, wire = self.connect()
        self.heard(wire)
        for turn in range(4):
            before = len(self.names())
            self.go_on()
            other.data_received(b"2|c\n")
            self.assertEqual(self.heard(wire), b"Account matched to: c doesn't exist \n", turn)
            self.assertEqual(len(self.names()) - before, 4, "one of them has had its share")
        self.assertEqual([name for name in self.names() if name[0] == "a"], [f"a{n}" for n in range(12)])
        self.assertEqual(self.soon, [])

    def test_frames_have_shares_too(self) -> None:
        shell, wire = self.connect(door="framed")
        frame = b"%-10d" % 0
        shell.data_received(frame * 10)
        stranger = b"Invalid Command, you can only choose to login or register"
        self.assertEqual(self.heard(wire).count(stranger), 4)
        self.go_on()
        self.assertEqual(self.heard(wire).count(stranger), 4)
        self.go_on()
        self.assertEqual((self.heard(wire).count(stranger), wire.reading), (2, True))

    def test_what_waits_for_answers_takes_no_turns(self) -> None:
        """Too much is unanswered: its share comes when that is answered."""
        shell, wire = self.connect()
        with mock.patch("connection.WINDOW", 4):
            shell.data_received(b"2\n" * 10)
            self.assertTrue(shell.is_paused)
            self.go_on()
            self.assertEqual(self.soon, [])
            self.assertEqual(self.heard(wire).count(b"Showing"), 4)
            self.assertEqual((len(self.soon), wire.reading), (1, False))
            self.go_on()
            self.assertEqual(self.heard(wire).count(b"Showing"), 4)
            self.go_on()
        self.assertEqual((self.heard(wire).count(b"Showing"), wire.reading, self.soon), (2, True, []))

    def test_the_rest_of_who_is_gone_means_nothing(self) -> None:
        for how in ("close", "connection_lost", "hang up"):
            shell, wire = self.connect()
            self.heard(wire)
            shell.data_received(
                b"".join(b"1|%s%d\n" % (how[:2].encode(), n) for n in range(5)) + (b"x" * 90_000 if how == "hang up" else b"")
            )
            if how != "hang up":
                getattr(shell, how)("" if how == "close" else None)
            made = len(self.names())
            self.go_on()
            self.assertEqual((len(self.names()) - made, self.soon), (how == "hang up", []), how)

    def test_what_tls_has_read_ahead_keeps_its_place(self) -> None:
        shell, wire = self.connect()
        shell.data_received(b"".join(b"1|n%d\n" % n for n in range(6)))
        shell.data_received(b"1|n6\n")
        shell.eof_received()
        self.assertEqual((self.names(), wire.state), ([f"n{n}" for n in range(4)], "open"))
        self.go_on()
        self.assertEqual(self.names(), [f"n{n}" for n in range(7)])


class SocketTest(unittest.IsolatedAsyncioTestCase):
    """A few real sockets on asyncio's loop; the many are in tests/system."""

    async def asyncSetUp(self) -> None:
        self.front = FrontDesk()
        self.shells: set[StreamShell] = set()
        loop = asyncio.get_running_loop()
        self.turns = Turns(loop.call_soon)
        poked = False

        def turn() -> None:
            nonlocal poked
            poked = False
            self.front.turn()

        def poke() -> None:
            nonlocal poked
            if not poked:
                poked = True
                loop.call_soon(turn)

        self.front.desk.poke = poke
        silent = {"log": lambda text: None, "announce": lambda text: None}
        made: Any = lambda: StreamShell(self.front.desk, "pipe", self.shells, self.turns, **silent, clients_max=50)  # noqa: E731
        self.server = await loop.create_server(made, "127.0.0.1", 0)
        self.addAsyncCleanup(self.server.wait_closed)
        self.addCleanup(self.server.close)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(*self.server.sockets[0].getsockname()[:2])
        self.addCleanup(writer.close)
        self.assertEqual(await self.read(reader, len(GREETING)), GREETING)
        return reader, writer

    async def read(self, reader: asyncio.StreamReader, size: int) -> bytes:
        return await asyncio.wait_for(reader.readexactly(size), 10)

    async def test_the_client_of_old(self) -> None:
        """Raw sends without any newline, one after the answer to the other."""
        reader, writer = await self.connect()
        for words, answer in (
            (b"1|mason", b"Success New Account Creation! Your new Account ID: mason123\n"),
            (b"2", b"Showing all accounts: mason\n"),
            (b"3|mason|hi", b"Sender mason sends a new message hi to mason\nmason: hi"),
            (b"nonsense", INVALID),
        ):
            writer.write(words)
            self.assertEqual(await self.read(reader, len(answer)), answer)

    async def test_half_closed(self) -> None:
        reader, writer = await self.connect()
        writer.write(b"1|mason\n2\n4|mason123")
        writer.write_eof()
        answer = b"Success New Account Creation! Your new Account ID: mason123\nShowing all accounts: mason\nNo new messages\n"
        self.assertEqual(await asyncio.wait_for(reader.read(), 10), answer)
        self.assertEqual(self.front.state.present(), [])

    async def test_two_people(self) -> None:
        (one, to_one), (two, to_two) = await self.connect(), await self.connect()
        to_one.write(b"1|mason\n")
        await one.readline()
        to_two.write(b"1|wayne\n3|mason|hello\n")
        self.assertEqual(await self.read(one, 13), b"wayne: hello\n")
        await two.readline()
        self.assertEqual(await asyncio.wait_for(two.readline(), 10), b"Sender wayne sends a new message hello to mason\n")


if __name__ == "__main__":
    unittest.main()
