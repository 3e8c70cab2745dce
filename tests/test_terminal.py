"""The person's side: scripts as processes of their own, and the line editor fed with keys."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import re
import signal
import sys
import tempfile
import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from prompt_toolkit.application import create_app_session
from prompt_toolkit.data_structures import Size
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output.vt100 import Vt100_Output

import memory
import screen
import terminal
from client import ChatClient
from guest import Guest
from modes import Pipe
from options import parse
from ports import ports_to_use
from tests.fake_replicas import Account, FakeReplicas
from tests.test_phrases import ATTACKS

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 30.0  # seconds; ten times what the slowest story needs
CONTROLS = re.compile(r"\x1b(\[[0-9;?]*[a-zA-Z]|\][^\x07]*\x07)|[\r\x07]")


class Place(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self) -> None:
        self.place = self.enterContext(tempfile.TemporaryDirectory())
        self.enterContext(mock.patch.dict(os.environ, {"XDG_STATE_HOME": self.place, "TERM": "xterm", "PYTHONUTF8": "1"}))
        self.replicas = await self.enterAsyncContext(FakeReplicas())
        asyncio.get_running_loop().call_later(LIMIT, lambda: [task.cancel() for task in asyncio.all_tasks()])

    async def until(self, is_true: Callable[[], object]) -> None:
        while not is_true():
            await asyncio.sleep(0.005)

    def files(self) -> list[str]:
        with contextlib.suppress(FileNotFoundError):
            return sorted(os.listdir(memory.directory()))
        return []


class Scripts(Place):
    async def begin(self, *options: str) -> asyncio.subprocess.Process:
        words = [sys.executable, "client.py", *(options or (str(self.replicas.ports[0]),))]
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(*words, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe)

    async def run_script(self, text: str | bytes, *options: str) -> tuple[list[str], str, int]:
        """Lines of standard output, standard error, exit code."""
        process = await self.begin(*options)
        said, told = await process.communicate(text if isinstance(text, bytes) else text.encode())
        self.assertNotIn(b"Traceback", told)
        assert process.returncode is not None
        return said.decode().splitlines(), told.decode(), process.returncode

    async def test_lines_in_lines_out(self) -> None:
        said, told, code = await self.run_script("1|mason\ncreate wayne\n\n@mason hello | you\nlogin mason\nwho\nnonsense\n9|x\nlist")
        self.assertEqual(
            said,
            [
                "Success New Account Creation! Your new Account ID: mason123",
                "Success New Account Creation! Your new Account ID: wayne123",
                "message from wayne has been delivered to mason's mailbox",
                "user : mason is now logged in",
                "wayne: hello | you",
                "here now: mason",
                "'nonsense' is no command: @NAME TEXT writes to somebody, help shows the rest",
                "Please give a valid input as instructed in the documentation",
                "Showing all accounts: mason,wayne",
            ],
        )
        self.assertEqual((told, code, self.files()), ("", 0, []))
        self.assertEqual(self.replicas.accounts["mason"].mailbox, [], "what was displayed is acknowledged before the end")

    async def test_bye_ends_a_script_before_its_last_line(self) -> None:
        said, _, code = await self.run_script("create mason\nbye\ncreate wayne\n")
        self.assertEqual((len(said), code), (1, 0))

    async def test_an_empty_script_needs_nobody(self) -> None:
        for replica in self.replicas.replicas:
            await replica.die()
        self.assertEqual(await self.run_script(""), ([], "", 0))

    async def test_a_script_survives_a_death_and_says_so_apart(self) -> None:
        self.replicas[0].swallow = 2
        said, told, code = await self.run_script("create mason\n@mason a\n@mason b\n")
        self.assertEqual([line for line in said if line.startswith("mason: ")], ["mason: a", "mason: b"])
        self.assertRegex(told, rf"^-- {self.replicas.ports[0]} is gone, now on {self.replicas.ports[1]} \(\d+ ms\)\n$")
        self.assertEqual(code, 0)
        self.assertEqual([line for _, _, line in self.replicas.executed].count("3|mason|a"), 1)

    async def test_messages_come_while_a_script_waits_for_its_next_line(self) -> None:
        process = await self.begin(str(self.replicas.ports[0]), "--times")
        assert process.stdin and process.stdout
        process.stdin.write(b"create mason\n")
        await process.stdout.readline()
        self.replicas.send("wayne", "mason", "".join(ATTACKS[:-1]))
        line = await process.stdout.readline()
        self.assertRegex(line, rb"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d wayne: \\x1b\]0;title")
        self.assertTrue(line[:-1].decode().isprintable(), "nothing of it reaches a terminal as a control")
        process.stdin.close()
        self.assertEqual(await process.wait(), 0)

    async def test_strange_bytes_and_a_line_without_end_harm_nobody(self) -> None:
        script = b"create mason\n@mason \xff\xfe\r\n" + b"@mason " + b"x" * 900_000 + b"\nwho\n"
        said, _, code = await self.run_script(script)
        self.assertEqual(code, 0)
        self.assertEqual(said[-2:], ["a request is one line of at most 66560 bytes", "here now: mason"])

    async def test_nobody_there_is_a_sentence_and_exit_code_1(self) -> None:
        for replica in self.replicas.replicas:
            await replica.die()
        said, told, code = await self.run_script("who\n", str(self.replicas.ports[0]), "--wait", "0.3")
        self.assertEqual((said, code), ([], 1))
        self.assertIn("scripts/start.sh", told)

    async def test_wrong_options_are_a_sentence_and_exit_code_2(self) -> None:
        for options in (("99999",), ("6666", "--config", "missing.yaml"), ("--resume", "--fresh"), ("--nonsense",)):
            said, told, code = await self.run_script("", *options)
            self.assertEqual((said, code), ([], 2), told)
            self.assertTrue(told)

    async def test_help_names_every_option(self) -> None:
        said, _, code = await self.run_script("", "--help")
        self.assertEqual(code, 0)
        for option in (
            "PORT",
            "--menu",
            "localhost",
            "host name without a port means the room",
            "--config",
            "--resume",
            "--fresh",
            "--wait",
            "--times",
            "--plain",
        ):
            self.assertIn(option, "\n".join(said))

    async def test_an_interrupt_says_good_bye(self) -> None:
        process = await self.begin()
        assert process.stdin and process.stdout
        process.stdin.write(b"create mason\n")
        await process.stdout.readline()
        self.replicas.send("wayne", "mason", "a")
        await process.stdout.readline()
        process.send_signal(signal.SIGINT)
        self.assertEqual(await process.wait(), 130)
        self.assertEqual((self.replicas.accounts["mason"].mailbox, self.files()), ([], []))

    async def test_a_reader_that_goes_away_ends_it_quietly(self) -> None:
        process = await asyncio.create_subprocess_shell(
            f"yes who | {sys.executable} client.py {self.replicas.ports[0]} | head -2",
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        said, told = await process.communicate()
        self.assertEqual((said, told), (b"here now: \n" * 2, b""))

    async def test_after_a_crash_messages_come_again_marked_and_a_session_can_be_taken_up(self) -> None:
        process = await self.begin()
        assert process.stdin and process.stdout
        process.stdin.write(b"create mason\n")
        await process.stdout.readline()
        for replica in self.replicas.replicas:
            for connection in replica.connections:
                connection.on_ack = lambda upto: None  # type: ignore[method-assign]
        self.replicas.send("wayne", "mason", "shown")
        await process.stdout.readline()
        file = Path(memory.directory(), "session-00")
        await self.until(lambda: str(self.replicas.ports[1]) in file.read_text())  # where else to go, it asks its replica
        process.kill()
        await process.wait()
        self.assertEqual(self.files(), ["session-00"])
        said, _, _ = await self.run_script("login mason\n")
        self.assertEqual(said, ["user : mason is now logged in", "wayne: shown (again)"])
        self.replicas.send("wayne", "mason", "missed")
        said, _, code = await self.run_script("who\n", str(self.replicas.ports[1]), "--resume")
        self.assertEqual((code, self.files()), (0, []))
        self.assertIn("wayne: missed", said)

    async def test_a_script_can_take_up_a_line_that_was_not_answered(self) -> None:
        process = await self.begin(*map(str, self.replicas.ports))
        assert process.stdin and process.stdout
        process.stdin.write(b"create mason\n")
        await process.stdout.readline()
        self.replicas[0].hang()
        process.stdin.write(b"@mason once\n")
        await asyncio.sleep(0.2)
        process.kill()
        await process.wait()
        said, told, code = await self.run_script("", str(self.replicas.ports[1]), "--resume")
        self.assertIn("sent again: 3|mason|once", told)
        self.assertEqual((len(said), code), (2, 0), said)
        self.assertEqual([line for _, _, line in self.replicas.executed].count("3|mason|once"), 1)


class LineEditor(Place):
    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        self.keys: PipeInput = self.enterContext(create_pipe_input())
        self.paper = io.StringIO()
        output = Vt100_Output(self.paper, lambda: Size(rows=40, columns=120), term="xterm", enable_cpr=False)
        self.enterContext(create_app_session(input=self.keys, output=output))

    def begin(self, *, guest: Guest | None = None, is_kept: bool = False) -> ChatClient:
        client = ChatClient(self.replicas.ports, guest=guest)
        mode = Pipe(is_script=False)
        self.screen = screen.Screen(client, screen.line_editor(mode, is_kept=is_kept), mode)
        self.talk = asyncio.create_task(self.screen.run())
        self.addAsyncCleanup(self.end, client, self.talk)
        return client

    async def end(self, client: ChatClient, talk: asyncio.Task[int]) -> None:
        client.stop("the test is over")
        client.on_trouble("the test is over")
        await talk
        await asyncio.sleep(2 * screen.DRAW_EVERY)

    def shown(self) -> str:
        return CONTROLS.sub("", self.paper.getvalue())

    async def type(self, *lines: str, sees: str = "") -> None:
        for line in lines:
            self.keys.send_text(line + "\r")
        await self.until(lambda: sees in self.shown())

    async def test_who_has_just_come_in_is_not_greeted_as_back(self) -> None:
        """The banner comes late, and the person is quick."""
        real, late = ChatClient.about, asyncio.Event()

        async def about(client: ChatClient) -> Any:
            await late.wait()
            return await real(client)

        with mock.patch.object(ChatClient, "about", about):
            self.begin()
            await self.type("create mason", sees="Your new Account ID: mason123")
            late.set()
            await self.until(lambda: "survives 2 deaths" in self.shown())
        self.assertNotIn("you are mason again", self.shown())

    async def test_a_sheet(self) -> None:
        """Where there is no screen: a half-typed line stays below what comes, and what is secret is not shown."""
        sheet, lines = screen.Sheet(), list[str]()

        async def read() -> None:
            async for line in sheet.lines():
                lines.append(line)
                if line == "0|mason":
                    lines.append(await sheet.secret("password for mason: "))
                    sheet.name = "mason"

        reading = asyncio.create_task(read())
        await sheet.say("Welcome!")
        self.keys.send_text("0|mason\r")
        await self.until(lambda: "password for mason:" in self.shown())
        self.keys.send_text("open sesame\r")
        await self.until(lambda: "mason>" in self.shown())
        self.keys.send_text("3|way")
        await self.until(lambda: "3|way" in self.shown())
        await sheet.tell("-- 1 is gone, now on 2 (3 ms)")
        await self.until(lambda: self.shown().rstrip().endswith("mason> 3|way"))
        self.keys.send_text("ne|hello\r\x04")
        await reading
        self.assertEqual(lines, ["0|mason", "open sesame", "3|wayne|hello"])
        self.assertNotIn("sesame", self.shown())
        self.assertLess(self.shown().index("Welcome!"), self.shown().index("-- 1 is gone"))

    async def test_a_conversation(self) -> None:
        client = self.begin()
        await self.until(lambda: "survives 2 deaths" in self.shown())
        await self.type("create mason", sees="Your new Account ID: mason123")
        self.replicas.accounts["wayne"] = Account()
        await self.type("@wayne hello", sees="wayne is away: it waits in the mailbox")
        await self.until(lambda: "mason> " in self.shown())
        self.replicas.send("wayne", "mason", "hi mason")
        await self.until(lambda: ": hi mason" in self.shown())
        await self.until(lambda: self.replicas.acks)
        await self.type("@nobody hi", sees="list shows who has an account")
        await self.type("help", sees="make an account, and log in")
        await self.type("@mason", sees="write something behind the name")
        with mock.patch("guest.LINE_MAX", 50):
            await self.type("3|mason|" + "x" * 50, sees="a request is one line")
        await self.type("bye")
        self.assertEqual(await self.talk, 0)
        self.assertTrue(await client.leave())

    async def test_other_peoples_text_steers_nothing(self) -> None:
        self.begin()
        await self.type("create mason", sees="mason123")
        before = self.paper.getvalue()
        for attack in ATTACKS[:-1]:
            self.replicas.send("wayne", "mason", f"<{attack}>")
        await self.until(lambda: len(self.replicas.acks) and not self.replicas.accounts["mason"].mailbox)
        fresh = self.paper.getvalue()[len(before) :]
        for attack in ATTACKS[:-1]:
            self.assertNotIn(attack, fresh)
        self.assertIn("\\x1b]52;c;aGk=\\x07", fresh)

    async def test_an_unanswered_line_is_pending_and_a_death_is_one_quiet_line(self) -> None:
        self.begin()
        await self.type("create mason", sees="mason123")
        for replica in self.replicas.replicas:
            await replica.die()
        await self.type("@mason where are you", "who", sees="@mason where are you: pending, and 1 more")
        self.assertIn("no replica", self.shown())
        self.assertNotIn("mason has it", self.shown())
        await self.until(lambda: "scripts/start.sh" in self.shown())
        await self.replicas[1].revive()
        await self.until(lambda: "@mason where are you : mason has it" in self.shown())
        # on a slow machine it may have begun at the second one
        await self.until(lambda: re.search(r"-- \d+ (is gone, now on \d+|was gone, and is back) \(\d+ ms\)", self.shown()))

    async def test_a_half_typed_line_survives_a_message_and_ctrl_c_drops_only_it(self) -> None:
        self.begin()
        await self.type("create mason", sees="mason123")
        self.keys.send_text("@mason half")
        await self.until(lambda: "half" in self.shown())
        self.replicas.send("wayne", "mason", "in between")
        await self.until(lambda: ": in between" in self.shown())
        self.assertEqual(self.screen.session.default_buffer.text, "@mason half")
        self.keys.send_text("\x03")
        await self.until(lambda: not self.screen.session.default_buffer.text)
        self.assertFalse(self.talk.done())
        self.keys.send_text("\x03")
        self.assertEqual(await self.talk, 0)

    async def test_the_end_of_input_ends_it(self) -> None:
        self.begin()
        await self.until(lambda: "survives" in self.shown())
        self.keys.send_text("\x04")
        self.assertEqual(await self.talk, 0)

    async def test_history_is_kept_without_passwords(self) -> None:
        os.makedirs(memory.directory())
        self.begin(is_kept=True)
        await self.type("create mason secret", "login mason123 secret", "1|mason|secret", "who am", sees="no command")
        self.keys.send_text("\x1b[A\r")
        await self.until(lambda: self.shown().count("no command") == 2)
        history = Path(memory.history()).read_text()
        self.assertIn("who am", history)
        self.assertNotIn("secret", history)

    async def test_passwords_are_asked_for_and_neither_shown_nor_kept(self) -> None:
        """Whoever logs in without one is asked; who changes one types it twice."""
        os.makedirs(memory.directory())
        self.begin(is_kept=True)
        await self.type("create mason", sees="mason123")
        self.replicas.passwords["mason"] = "open sesame"
        await self.type("logout", "login mason", sees="password for mason123:")
        await self.type("open sesame", sees="user : mason is now logged in")
        await self.until(lambda: "mason>" in self.shown().rpartition("now logged in")[2])
        await self.type("passwd", sees="old password")
        await self.type("open sesame", sees="new password:")
        await self.type("other words", sees="again:")
        await self.type("other word", sees="the two are not the same")
        await self.type("passwd", "open sesame", "other words", "other words", sees="the password is changed")
        self.keys.send_text("\x1b[A")
        await self.until(lambda: self.screen.session.default_buffer.text)
        self.assertEqual(self.screen.session.default_buffer.text, "passwd", "the line before, not the one before that")
        self.keys.send_text("\x03")
        self.assertEqual(self.replicas.passwords["mason"], "other words")
        for place in (self.paper.getvalue(), Path(memory.history()).read_text(), *map(str, self.screen.session.history.get_strings())):
            self.assertNotRegex(place, "sesame|other word")

    async def test_a_question_can_be_left_unanswered(self) -> None:
        self.begin()
        await self.type("create mason", sees="mason123")
        await self.type("passwd", sees="old password")
        self.keys.send_text("\x03")
        await self.type("who", sees="here now: mason")
        self.assertFalse(self.talk.done())

    async def test_what_was_unanswered_when_the_last_client_ended_is_told(self) -> None:
        async with ChatClient(self.replicas.ports) as earlier:
            await earlier.request("1|mason")
            self.replicas[0].hang()
            earlier.ask("3|mason|once")
            left = earlier.guest.remember()
            earlier.stop("crash")
        self.begin(guest=Guest.recall(left))
        await self.until(lambda: "sent again: 3|mason|once" in self.shown())
        await self.until(lambda: "Sender mason sends a new message once to mason" in self.shown())
        await self.until(lambda: "you are mason again" in self.shown())

    async def test_a_client_that_is_ended_by_another_leaves_the_prompt(self) -> None:
        client = self.begin()
        await self.type("create mason", sees="mason123")
        client.stop("another client goes on with this session")
        client.on_trouble(client.ended)
        self.assertEqual(await self.talk, 1)
        self.assertIn("another client", self.shown())

    async def test_a_whole_run_from_options_to_good_bye(self) -> None:
        options = parse([str(self.replicas.ports[0])])
        addresses = ports_to_use(options.ports, options.config)
        run = asyncio.create_task(terminal.converse(addresses, options, Pipe(is_script=False)))
        await self.type("create mason", sees="mason123")
        self.assertEqual(self.files(), ["history", "session-00"])
        await self.type("who", "bye", sees="here now: mason")
        self.assertEqual(await run, 0)
        self.assertEqual(self.files(), ["history"])


if __name__ == "__main__":
    unittest.main()
