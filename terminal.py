"""One run of the client, from its session to its good-bye: at a terminal (`screen.py`), or plain lines for scripts.

What it is not: it knows no socket (`client.py`), no protocol (`guest.py`), and not what the words mean (`modes.py`).

    standard input    typed lines                            shown
    a terminal        sent at once; the prompt goes on       messages above the input line, with times; unanswered ones at its right
    a script          each waits for the reply before it     replies and `NAME: TEXT`; what the client does goes to standard error

Which session: a terminal takes up the one that its last client left without `bye` within the last hour (`--fresh`: it does not); a script
begins a new one (`--resume`: it takes one up). Messages that a crashed client may have shown are shown once more, marked, in either case.

Exit codes: 0 all was answered · 1 something was not, or nobody serves · 2 wrong options · 128 + n ended by signal n.

Read next: `memory.py`, which says what is kept for the next client.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import CancelledError
from typing import Any

import memory
from client import ChatClient, NoAnswer
from guest import LINE_MAX, Guest, Message
from modes import Mode
from options import WAIT, mode_of, parse
from phrases import moved_words, visible
from ports import Address, label, ports_to_use
from screen import Screen, Sheet, line_editor
from wire import ca_for, context_for

READ_SIZE = 1 << 16  # bytes read from standard input at once


class Plain:
    """Lines in, lines out."""

    def __init__(self, mode: Mode, *, times: bool) -> None:
        self.mode, self.times, self.is_broken = mode, times, False

    def say(self, text: str) -> None:
        """To standard output. Nobody may be reading it any more."""
        try:
            print("\n".join(map(visible, text.rstrip("\n").split("\n"))), flush=True)
        except OSError:
            self.is_broken = True

    def tell(self, sentence: str) -> None:
        """To standard error, apart from what was asked for."""
        with contextlib.suppress(OSError):
            print(visible(sentence if sentence.startswith("--") else f"-- {sentence}"), file=sys.stderr, flush=True)

    def show(self, client: ChatClient, batch: list[Message]) -> None:
        """Messages as they come."""
        for m in batch:
            moment = time.strftime("%Y-%m-%d %H:%M:%S ", time.localtime(m.time / 1e6)) if self.times else ""
            sender, text = self.mode.message(m)
            self.say(f"{moment}{sender}{': ' * bool(sender)}{text}{' (again)' if m.again else ''}")
            if not self.is_broken:
                client.displayed(m)

    async def run(self, client: ChatClient, lines: AsyncIterator[str]) -> int:
        """Ask line after line. Returns the exit code."""
        client.on_messages = functools.partial(self.show, client)
        client.on_move = lambda moved: self.tell(moved_words(moved))
        client.on_trouble = self.tell
        client.start()
        has_asked = False
        try:
            for line, future in zip(client.pending, list(client.recalled.values()), strict=False):
                self.tell(f"sent again: {line}")
                self.say(await future)
            async for typed in lines:
                word = self.mode.typed(typed, client.account)
                if word.ends or self.is_broken:
                    break
                if word.say:
                    self.say(word.say)
                if word.ask:
                    has_asked = True
                    try:
                        words, _ = self.mode.replied(typed, word.ask, await client.request(word.ask), client.account)
                        if words:
                            self.say(words)
                    except ValueError as error:
                        self.say(str(error))
            if has_asked:
                await client.about()  # what the server had pushed before is shown before the end
        except NoAnswer:
            return 1  # the trouble was told
        return 1 if self.is_broken else 0


async def stdin_lines(fd: int = 0) -> AsyncIterator[str]:
    """Lines of standard input, whatever it is. Read by a thread that nobody waits for: a read of a file cannot be cancelled."""
    loop, lines = asyncio.get_running_loop(), asyncio.Queue[str | None](maxsize=16)

    def give(line: bytes | None) -> None:
        putting = lines.put(line if line is None else line.decode(errors="surrogateescape"))
        with contextlib.closing(putting):  # where the loop was gone before it began
            asyncio.run_coroutine_threadsafe(putting, loop).result()

    def read() -> None:
        rest = b""
        with contextlib.suppress(RuntimeError, OSError, CancelledError):  # the loop is gone: so are we
            while chunk := os.read(fd, READ_SIZE):
                *whole, rest = (rest + chunk).split(b"\n")
                rest = rest[: 2 * LINE_MAX]  # too long for a request anyway; the end of it is not needed to say so
                for line in whole:
                    give(line)
            for last in [rest, None] if rest else [None]:
                give(last)

    threading.Thread(target=read, daemon=True).start()
    while (line := await lines.get()) is not None:
        yield line


def main(arguments: Sequence[str] | None = None) -> int:
    """The command `python client.py`."""
    options = parse(arguments)
    is_plain = options.plain or not (sys.stdin and sys.stdout and sys.stdin.isatty() and sys.stdout.isatty())
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal without UTF-8 gets what it can show
    try:
        if options.grpc:
            return asyncio.run(converse_by_grpc(options, is_script=is_plain))
        mode = mode_of(options)(is_script=is_plain)
        return asyncio.run(converse(ports_to_use(options.ports, options.config, mode.door), options, mode))
    except ValueError as error:
        print(f"client.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


async def converse_by_grpc(options: argparse.Namespace, *, is_script: bool) -> int:
    """The same at the gRPC door. Raises ValueError with a sentence."""
    try:
        import grpc_mode  # loads gRPC, which nobody else needs
    except ImportError as error:
        raise ValueError(f"--grpc needs a package that this Python lacks ({error}); run: bash scripts/start.sh") from None
    addresses = ports_to_use(options.ports, options.config, grpc_mode.DOOR)
    ca = ca_for(options.ca, addresses, options.config, grpc_mode.DOOR)
    give_up_after = WAIT if options.wait is None and is_script else options.wait
    person = Script() if is_script else Sheet()
    code = await until_signal(asyncio.create_task(grpc_mode.converse(addresses, ca, person, give_up_after)))
    if isinstance(person, Script) and person.is_broken:
        hush()
        return 1
    return code


class Script:
    """Who talks at the gRPC door without a terminal."""

    name = ""
    is_broken = False

    async def lines(self) -> AsyncIterator[str]:
        async for line in stdin_lines():
            if self.is_broken:
                return
            yield line.rstrip("\r")

    async def say(self, line: str) -> None:
        try:
            print(line, flush=True)
        except OSError:
            self.is_broken = True  # nobody reads any more

    async def tell(self, line: str) -> None:
        with contextlib.suppress(OSError):
            print(line, file=sys.stderr, flush=True)

    async def secret(self, question: str) -> str:
        return ""


async def converse(addresses: list[Address], options: argparse.Namespace, mode: Mode) -> int:
    """One run of the client, from its session to its good-bye. Returns the exit code. Raises ValueError with a sentence."""
    file, guest, marks, is_plain = None, None, dict[str, Any](), mode.is_script
    resume_within = memory.LIFE if options.resume else -1.0 if options.fresh or is_plain else memory.RECENT
    with contextlib.suppress(OSError):  # without a place to remember, the conversation still goes on
        file, guest, marks = memory.claim(
            memory.directory(), [label(a) for a in addresses], resume_within=resume_within, dialect=mode.dialect
        )
    client = ChatClient(
        addresses,
        guest=guest or Guest(secrets.token_hex(16), marks, mode.dialect),
        save=file.save if file else None,
        give_up_after=WAIT if options.wait is None and is_plain else options.wait,
        tls=context_for(options.ca, addresses, options.config, mode.door),
    )
    plain = Plain(mode, times=options.times)
    if is_plain:
        talk, tell = asyncio.create_task(plain.run(client, stdin_lines())), plain.tell
    else:
        screen = Screen(client, line_editor(mode, is_kept=file is not None), mode)
        talk, tell = asyncio.create_task(screen.run()), plain.tell
    code = await until_signal(talk)
    unanswered = list(map(mode.dialect.hide, client.pending))
    is_confirmed = await client.leave()
    if not is_plain:
        await screen.draw()  # replies to the last lines
    if mode.farewell():
        plain.say(mode.farewell())
    if file:
        (file.remove if is_confirmed else file.close)()
    if unanswered and not is_confirmed and client.guest.is_known:
        tell(f"left without an answer to: {', '.join(unanswered)[:200]} (python client.py --resume asks again)")
    if is_plain and plain.is_broken:
        hush()
    return code


def hush() -> None:
    """What Python still has for the closed pipe goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


async def until_signal(talk: asyncio.Task[int]) -> int:
    """The task's exit code, or that of the signal which ended it. The signals stay caught: what follows is short."""
    caught = list[int]()

    def end(number: int) -> None:
        caught.append(number)
        talk.cancel()

    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(one, end, one)
    try:
        return await talk
    except asyncio.CancelledError:
        return 128 + caught[0] if caught else 1
