"""The person's side of the client: its options, plain lines for scripts, and the line editor of a terminal.

What it is not: it knows no socket (`client.py`), no protocol (`guest.py`), and not what the words mean (`phrases.py`).

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
import re
import secrets
import signal
import sys
import threading
import time
import zlib
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any

import memory
from client import ChatClient, NoAnswer
from doors.lines import masked
from guest import LINE_MAX, Guest, Message
from phrases import SIMPLE, WITH_ARGUMENT, banner, hint, moved_words, outcome, scripted, stamp, understand, visible
from ports import DEFAULT_CONFIG, Address, label, ports_to_use
from wire import context_for

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.key_binding import KeyPressEvent

WAIT = 30.0  # seconds a script waits for a replica
READ_SIZE = 1 << 16  # bytes read from standard input at once
DRAW_EVERY = 0.03  # seconds between two redraws of the prompt: a burst of messages is one
PENDING_AFTER = 0.3  # seconds after which an unanswered request is shown as such
SECRET = re.compile(r"\s*(?:[01]\|[^|]*\||(?:create|login)\s+\S+\s+|passwd[\s|])\S", re.IGNORECASE)

ABOUT = """\
The chat in a terminal, or for scripts: lines in, lines out.

When its server dies it goes on with the next one: what was typed is sent exactly once, every message is shown exactly once."""

EPILOG = """\
Ports that are not given come from the configuration, if the given ones are in it, and from the server.
    python client.py                 the ports of cluster.yaml, in order
    python client.py 6667            begin at this replica; any will do
    python client.py 6666 <<EOF      a script; each line waits for the reply to the line before
    create mason
    @wayne hello
    EOF
Type help for the commands. What is kept for the next client is in $XDG_STATE_HOME/understudy (~/.local/state/understudy)."""


class Plain:
    """Lines in, lines out."""

    def __init__(self, *, times: bool) -> None:
        self.times, self.is_broken = times, False

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
            self.say(f"{moment}{m.sender}: {m.text}{' (again)' if m.again else ''}")
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
                word = understand(typed, client.account)
                if word.ends or self.is_broken:
                    break
                if word.say:
                    self.say(word.say)
                if word.ask:
                    has_asked = True
                    try:
                        self.say(scripted(typed, word.ask, await client.request(word.ask)))
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


# --- a terminal ---------------------------------------------------------------------------------------------------------------------------

Fragment = tuple[str, str]
COLOURS = ("ansigreen", "ansiblue", "ansimagenta", "ansicyan", "ansiyellow", "ansibrightgreen", "ansibrightblue", "ansibrightmagenta")


class Screen:
    """The line editor with the conversation above it."""

    def __init__(self, client: ChatClient, session: PromptSession[str]) -> None:
        self.client, self.session = client, session
        self.waiting: list[tuple[list[Fragment], Message | None]] = []
        self.drawing: asyncio.Future[None] | None = None
        self.drawn = 0.0
        self.unanswered: dict[asyncio.Future[str], tuple[float, str]] = {}  # when it was typed, and what
        client.on_messages = self.show
        client.on_move = lambda moved: self.tell(moved_words(moved))
        client.on_trouble = self.trouble
        session.message, session.rprompt = self.prompt, self.pending  # type: ignore[assignment]

    async def run(self) -> int:
        """Until the person leaves. Returns the exit code."""
        self.client.start()
        greeting = asyncio.create_task(self.greet())
        for line, future in zip(self.client.pending, list(self.client.recalled.values()), strict=False):
            self.tell(f"-- unanswered when your last client ended, sent again: {line}")
            self.watch(line, line, future)
        while not self.client.ended:
            try:
                typed = await self.session.prompt_async()
            except (EOFError, KeyboardInterrupt):
                break
            if any(self.enter(line) for line in typed.splitlines()):
                break
        greeting.cancel()
        await self.draw()
        return 1 if self.client.ended else 0

    def enter(self, typed: str) -> bool:
        """A line was typed. Returns whether it was the last."""
        word = understand(typed, self.client.account)
        if word.say:
            self.tell(word.say)
        if word.ask:
            try:
                self.watch(typed, word.ask, self.client.ask(word.ask))
            except (ValueError, NoAnswer) as error:
                self.tell(f"-- {error}")
        return word.ends

    def watch(self, typed: str, asked: str, future: asyncio.Future[str]) -> None:
        """Show the reply when it comes, and until then that there is none."""
        loop = asyncio.get_running_loop()
        shown = typed if masked(asked) == asked else masked(asked)
        self.unanswered[future] = loop.time(), shown
        future.add_done_callback(functools.partial(self.answered, shown, asked))
        loop.call_later(PENDING_AFTER, self.session.app.invalidate)

    def answered(self, typed: str, asked: str, future: asyncio.Future[str]) -> None:
        """A reply."""
        asked_at, _ = self.unanswered.pop(future)
        self.session.app.invalidate()
        if future.cancelled() or future.exception():
            return  # the trouble was told once, for all
        reply = future.result()
        # by now other lines may stand between it and what was typed
        was_late = asyncio.get_running_loop().time() - asked_at > PENDING_AFTER
        self.put([("", f"{visible(typed)} : " if was_late else ""), ("", outcome(typed, asked, reply) + "\n")])
        if words := hint(asked, reply, self.client.account):
            self.tell(f"   {words}")

    async def greet(self) -> None:
        """The banner, as soon as a server says what it is."""
        with contextlib.suppress(NoAnswer):
            cluster = await self.client.about()
            at = label(self.client.address) if self.client.address else "?"
            for line in banner(cluster, at, self.client.account):
                self.tell(line)

    def show(self, batch: list[Message]) -> None:
        """Messages, above the input line."""
        for m in batch:
            colour = "bold " + COLOURS[zlib.crc32(m.sender.encode()) % len(COLOURS)]
            mark = [("ansibrightblack", " (again)")] if m.again else []
            name = ("ansibrightblack", f"{stamp(m.time)} "), (colour, visible(m.sender)), ("", f": {visible(m.text)}")
            self.put([*name, *mark, ("", "\n")], m)

    def tell(self, sentence: str) -> None:
        """A quiet line."""
        self.put([("ansibrightblack", "".join(f"{visible(line)}\n" for line in sentence.split("\n")))])

    def trouble(self, sentence: str) -> None:
        """Something the person should know."""
        self.put([("ansiyellow", f"-- {visible(sentence)}\n")])
        if self.client.ended and self.session.app.is_running:
            self.session.app.exit(exception=EOFError())

    def prompt(self) -> list[Fragment]:
        """Who is speaking."""
        return [("bold", visible(self.client.account)), ("", "> ")]

    def pending(self) -> list[Fragment]:
        """What is not answered yet, and whether there is anybody to answer."""
        words = "" if self.client.guest.is_open else "no replica  "
        since, typed = next(iter(self.unanswered.values()), (0.0, ""))
        if typed and asyncio.get_running_loop().time() - since > PENDING_AFTER * 0.9:
            others = len(self.unanswered) - 1
            words += f"… {visible(typed)[:30]}: pending{f', and {others} more' * (others > 0)}"
        return [("ansiyellow", words)] if words else []

    def put(self, fragments: list[Fragment], message: Message | None = None) -> None:
        """Print above the input line, soon: several things at once."""
        self.waiting.append((fragments, message))
        if not self.drawing or self.drawing.done():
            self.drawing = asyncio.ensure_future(self.draw())

    async def draw(self) -> None:
        """Print all that waits; what is printed counts as displayed."""
        from prompt_toolkit.application import run_in_terminal

        loop = asyncio.get_running_loop()
        await asyncio.sleep(self.drawn + DRAW_EVERY - loop.time())
        while self.waiting:
            batch, self.waiting = self.waiting, []
            await run_in_terminal(functools.partial(self.write, [part for fragments, _ in batch for part in fragments]))
            for _, message in batch:
                if message:
                    self.client.displayed(message)
        self.drawn = loop.time()
        self.session.app.invalidate()

    def write(self, parts: list[Fragment]) -> None:
        """Colours only where the terminal has them; nothing in `parts` is taken as a control."""
        from prompt_toolkit import print_formatted_text
        from prompt_toolkit.formatted_text import FormattedText

        print_formatted_text(FormattedText(parts), end="", output=self.session.output, color_depth=self.session.app.color_depth)


def line_editor(*, is_kept: bool, **terminal: Any) -> PromptSession[str]:
    """A prompt with history, which is kept for later clients or not; `terminal`: input and output of prompt_toolkit, for tests."""
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import WordCompleter
    from prompt_toolkit.history import FileHistory, InMemoryHistory
    from prompt_toolkit.key_binding import KeyBindings

    class History(FileHistory):
        """Without passwords."""

        def store_string(self, string: str) -> None:
            if not SECRET.match(string):
                super().store_string(string)

    history: FileHistory | InMemoryHistory = InMemoryHistory()
    if is_kept:
        with contextlib.suppress(OSError):
            history = History(memory.history())
    keys = KeyBindings()

    @keys.add("c-c")
    def _interrupt(event: KeyPressEvent) -> None:
        if event.current_buffer.text:
            event.current_buffer.reset()  # as in a shell: the line is dropped, not the conversation
        else:
            event.app.exit(exception=EOFError())

    words = WordCompleter([*WITH_ARGUMENT, *SIMPLE], sentence=True)
    return PromptSession(history=history, key_bindings=keys, completer=words, complete_while_typing=False, **terminal)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="client.py", description=ABOUT, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("ports", nargs="*", metavar="PORT", help="PORT or HOST:PORT of a replica; the client moves along them when one dies")
    add("--ca", metavar="FILE", help="the cluster's CA: speak TLS, and believe only servers that it has certified (default: of --config)")
    add("--config", metavar="PATH", help=f"where the other ports are looked up (default: {DEFAULT_CONFIG}, if it is there)")
    either = parser.add_mutually_exclusive_group().add_argument
    either("--resume", action="store_true", help="take up the session that the last client left without bye, with its unanswered lines")
    either("--fresh", action="store_true", help="begin a new session, on a terminal too")
    add("--wait", type=float, metavar="SECONDS", help=f"give up when no replica serves for so long (default: {WAIT:g}; a terminal: never)")
    add("--times", action="store_true", help="show the time of each message in scripts too")
    add("--plain", action="store_true", help="plain lines, as for a script, on a terminal too")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command `python client.py`."""
    options = parse(arguments)
    is_plain = options.plain or not (sys.stdin and sys.stdout and sys.stdin.isatty() and sys.stdout.isatty())
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal without UTF-8 gets what it can show
    try:
        return asyncio.run(converse(ports_to_use(options.ports, options.config), options, is_plain=is_plain))
    except ValueError as error:
        print(f"client.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


async def converse(addresses: list[Address], options: argparse.Namespace, *, is_plain: bool) -> int:
    """One run of the client, from its session to its good-bye. Returns the exit code. Raises ValueError with a sentence."""
    file, guest, marks = None, None, dict[str, Any]()
    resume_within = memory.LIFE if options.resume else -1.0 if options.fresh or is_plain else memory.RECENT
    with contextlib.suppress(OSError):  # without a place to remember, the conversation still goes on
        file, guest, marks = memory.claim(memory.directory(), [label(a) for a in addresses], resume_within=resume_within)
    client = ChatClient(
        addresses,
        guest=guest or Guest(secrets.token_hex(16), marks),
        save=file.save if file else None,
        give_up_after=WAIT if options.wait is None and is_plain else options.wait,
        tls=context_for(options.ca, addresses, options.config),
    )
    plain = Plain(times=options.times)
    if is_plain:
        talk, tell = asyncio.create_task(plain.run(client, stdin_lines())), plain.tell
    else:
        screen = Screen(client, line_editor(is_kept=file is not None))
        talk, tell = asyncio.create_task(screen.run()), plain.tell
    code = await until_signal(talk)
    unanswered = list(map(masked, client.pending))
    is_confirmed = await client.leave()
    if not is_plain:
        await screen.draw()  # replies to the last lines
    if file:
        (file.remove if is_confirmed else file.close)()
    if unanswered and not is_confirmed and client.guest.is_known:
        tell(f"left without an answer to: {', '.join(unanswered)[:200]} (python client.py --resume asks again)")
    if is_plain and plain.is_broken:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what Python still has for the closed pipe goes there
    return code


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
