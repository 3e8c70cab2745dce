"""`client.py` in each of its modes, against real replicas whose primary is killed: what was typed counts once, everything is shown once."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile

from tests.system.cluster import ROOT, SERVES_S
from tests.system.stage import SystemTest


class Script:
    """One run of the client, with lines in and lines out."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin and process.stdout
        self.process, self.stdin, self.stdout = process, process.stdin, process.stdout

    def type(self, *lines: str) -> None:
        self.stdin.write("".join(f"{line}\n" for line in lines).encode())

    async def line(self) -> str:
        return (await asyncio.wait_for(self.stdout.readline(), SERVES_S)).decode().removesuffix("\n")

    async def end(self) -> tuple[list[str], str, int]:
        """What it still says, what it tells apart, and its exit code."""
        self.stdin.close()
        said, told = await asyncio.wait_for(self.process.communicate(), SERVES_S)
        assert self.process.returncode is not None
        return said.decode().splitlines(), told.decode(), self.process.returncode


class Modes(SystemTest):
    async def begin_script(self, *options: str) -> Script:
        place = self.enterContext(tempfile.TemporaryDirectory())
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, os.path.join(ROOT, "client.py"), *options, "--config", self.cluster.config),
            cwd=place,
            env={**os.environ, "XDG_STATE_HOME": place},
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
        )
        return Script(process)

    async def test_the_room_and_the_menu_go_on_when_the_primary_dies(self) -> None:
        primary = await self.start()
        albert, tesla = await self.begin_script("localhost"), await self.begin_script("localhost")
        tesla.type("tesla")
        self.assertEqual(await tesla.line(), "Welcome to chat room. Enter 'tata' anytime to exit")
        albert.type("tesla", "albert")
        self.assertEqual([await albert.line(), (await albert.line())[:20]], ["Username already taken!", "Welcome to chat room"])
        self.assertEqual(await tesla.line(), "albert joined the conversation ")
        door = f"127.0.0.1:{self.cluster.doors['framed'][primary]}"
        mason, wayne = await self.begin_script("--menu", door), await self.begin_script("--menu", door)
        for one, name in ((mason, "mason"), (wayne, "wayne")):
            one.type("3", name, "a secret")
            self.assertEqual(await one.line(), "Successful Created and logged in")

        self.cluster.pause(primary)
        albert.type("hello", "are you there?")
        mason.type("2", "wayne", "hello | wayne", "4")
        self.cluster.kill(primary)
        self.assertEqual([await tesla.line(), await tesla.line()], ["albert: hello", "albert: are you there?"])
        self.assertEqual(await wayne.line(), "mason: hello | wayne")
        self.assertEqual([await mason.line(), await mason.line()], ["Sent to recipient", "mason wayne "])

        albert.type("tata")
        wayne.type("1", "wayne", "a guess", "5", "wayne", "a secret", "-1", "bye")
        self.assertEqual((await albert.end())[::2], (["DISCONNECTED!!"], 0))
        said, told, code = await wayne.end()
        self.assertEqual(said[:2], ["Invalid Login, credential doesn't exist or password invalid", "account deleted"])
        self.assertEqual((code, told.count("now on")), (0, 1), told)
        self.assertEqual(await tesla.line(), "albert left the conversation")
        tesla.process.kill()
        await tesla.end()
        self.assertEqual((await mason.end())[2], 0)
        self.cluster.start(primary)
        await self.aside(self.cluster.wait_members)
        await self.aside(self.cluster.wait_level)
        texts = [text for sender, _, text in self.cluster.history(primary) if sender != "Server"]
        self.assertEqual(sorted(texts), ["are you there?", "hello", "hello | wayne"], "each once")
