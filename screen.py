"""The line editor of a terminal, with the conversation above it.

What it is not: it knows no protocol, and not what the words mean (`modes.py`).

    09:16 mason: hello!                          messages and replies come above the input line; a half-typed line stays
    -- 6666 is gone, now on 6667 (12 ms)         what the client does, in grey; trouble in yellow
    wayne> @mason h_        … who: pending       the question of the mode; at the right what has no answer yet

Read next: `modes.py`, `terminal.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import re
import zlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import memory
from client import ChatClient, NoAnswer
from guest import Message
from modes import Mode
from phrases import moved_words, stamp, visible
from ports import label

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.key_binding import KeyPressEvent

DRAW_EVERY = 0.03  # seconds between two redraws of the prompt: a burst of messages is one
PENDING_AFTER = 0.3  # seconds after which an unanswered request is shown as such
SECRET = re.compile(r"\s*(?:[01]\|[^|]*\||(?:create|login)\s+\S+\s+|passwd[\s|])\S", re.IGNORECASE)

Fragment = tuple[str, str]
COLOURS = ("ansigreen", "ansiblue", "ansimagenta", "ansicyan", "ansiyellow", "ansibrightgreen", "ansibrightblue", "ansibrightmagenta")


class Screen:
    """The line editor with the conversation above it."""

    def __init__(self, client: ChatClient, session: PromptSession[str], mode: Mode) -> None:
        self.client, self.session, self.mode = client, session, mode
        self.active = session  # who reads now: what is secret is read by another one, which keeps nothing
        self.waiting: list[tuple[list[Fragment], Message | None]] = []
        self.drawing: asyncio.Future[None] | None = None
        self.drawn = 0.0
        self.has_typed = False
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
        is_over = False
        while not (is_over or self.client.ended):
            try:
                typed = await self.read()
            except (EOFError, KeyboardInterrupt):
                if not self.mode.dialog:
                    break
                self.mode.drop()
                continue
            for line in typed.splitlines() or [""]:
                is_over = is_over or await self.enter(line)
        greeting.cancel()
        await self.draw()
        return 1 if self.client.ended else 0

    async def read(self) -> str:
        """The next line."""
        if not self.mode.question(self.client.account).is_secret:
            return await self.session.prompt_async()
        self.active = secret_editor(self.session)
        self.active.message = self.prompt  # type: ignore[assignment]
        try:
            return await self.active.prompt_async()
        finally:
            self.active = self.session

    async def enter(self, typed: str) -> bool:
        """A line was typed. Returns whether it was the last."""
        self.has_typed = True
        word = self.mode.typed(typed, self.client.account)
        if word.say:
            self.tell(word.say)
        if word.ask:
            try:
                future = self.client.ask(word.ask)
                self.watch(typed, word.ask, future)
                if word.waits:
                    await asyncio.wait([future])
                    await self.draw()
            except (ValueError, NoAnswer) as error:
                self.tell(f"-- {error}")
        return word.ends

    def watch(self, typed: str, asked: str, future: asyncio.Future[str]) -> None:
        """Show the reply when it comes, and until then that there is none."""
        loop, hidden = asyncio.get_running_loop(), self.client.guest.dialect.hide(asked)
        shown = typed if hidden == asked else hidden
        self.unanswered[future] = loop.time(), shown
        future.add_done_callback(functools.partial(self.answered, shown, asked))
        loop.call_later(PENDING_AFTER, self.active.app.invalidate)

    def answered(self, typed: str, asked: str, future: asyncio.Future[str]) -> None:
        """A reply."""
        asked_at, _ = self.unanswered.pop(future)
        self.active.app.invalidate()
        if future.cancelled() or future.exception():
            return  # the trouble was told once, for all
        reply = future.result()
        # by now other lines may stand between it and what was typed
        was_late = asyncio.get_running_loop().time() - asked_at > PENDING_AFTER
        words, advice = self.mode.replied(typed, asked, reply, self.client.account)
        if words:
            self.put([("", f"{visible(typed)} : " if was_late else ""), ("", "\n".join(map(visible, words.split("\n"))) + "\n")])
        if advice:
            self.tell(f"   {advice}")

    async def greet(self) -> None:
        """The banner, as soon as a server says what it is."""
        with contextlib.suppress(NoAnswer):
            cluster = await self.client.about()
            at = label(self.client.address) if self.client.address else "?"
            again = "" if self.has_typed else self.client.account
            for line in self.mode.banner(cluster, at, again):
                self.tell(line)

    def show(self, batch: list[Message]) -> None:
        """Messages, above the input line."""
        for m in batch:
            sender, text = self.mode.message(m)
            colour = "bold " + COLOURS[zlib.crc32(sender.encode()) % len(COLOURS)]
            mark = [("ansibrightblack", " (again)")] if m.again else []
            said = [(colour, visible(sender)), ("", f": {visible(text)}")] if sender else [("ansibrightblack", visible(text))]
            self.put([("ansibrightblack", f"{stamp(m.time)} "), *said, *mark, ("", "\n")], m)

    def tell(self, sentence: str) -> None:
        """A quiet line."""
        self.put([("ansibrightblack", "".join(f"{visible(line)}\n" for line in sentence.split("\n")))])

    def trouble(self, sentence: str) -> None:
        """Something the person should know."""
        self.put([("ansiyellow", f"-- {visible(sentence)}\n")])
        if self.client.ended and self.active.app.is_running:
            self.active.app.exit(exception=EOFError())

    def prompt(self) -> list[Fragment]:
        """Who is speaking."""
        return [("bold", "\n".join(map(visible, self.mode.question(self.client.account).text.split("\n"))))]

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
        self.active.app.invalidate()

    def write(self, parts: list[Fragment]) -> None:
        """Colours only where the terminal has them; nothing in `parts` is taken as a control."""
        from prompt_toolkit import print_formatted_text
        from prompt_toolkit.formatted_text import FormattedText

        print_formatted_text(FormattedText(parts), end="", output=self.session.output, color_depth=self.session.app.color_depth)


class Sheet:
    """A line editor without anything else, for who talks at the gRPC door: what comes is printed above the line."""

    name = ""

    def __init__(self, session: PromptSession[str] | None = None) -> None:
        from prompt_toolkit import PromptSession

        self.session: PromptSession[str] = session or PromptSession()

    async def lines(self) -> AsyncIterator[str]:
        while True:
            try:
                yield await self.session.prompt_async(lambda: f"{visible(self.name)}> ")
            except (EOFError, KeyboardInterrupt):
                return

    async def say(self, line: str) -> None:
        await self._put("", line)

    async def tell(self, line: str) -> None:
        await self._put("ansibrightblack", line)

    async def _put(self, style: str, line: str) -> None:
        from prompt_toolkit import print_formatted_text
        from prompt_toolkit.application import run_in_terminal
        from prompt_toolkit.formatted_text import FormattedText

        words = FormattedText([(style, f"{line}\n")])
        await run_in_terminal(functools.partial(print_formatted_text, words, end="", output=self.session.output))

    async def secret(self, question: str) -> str:
        try:
            return await secret_editor(self.session).prompt_async(question)
        except (EOFError, KeyboardInterrupt):
            return ""


def secret_editor(session: PromptSession[str]) -> PromptSession[str]:
    """A prompt for the same terminal that shows stars and keeps nothing."""
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import DummyHistory

    return PromptSession(history=DummyHistory(), is_password=True, input=session.input, output=session.output)


def line_editor(mode: Mode, *, is_kept: bool, **terminal: Any) -> PromptSession[str]:
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
    if is_kept and mode.is_kept:
        with contextlib.suppress(OSError):
            history = History(memory.history())
    keys = KeyBindings()

    @keys.add("c-c")
    def _interrupt(event: KeyPressEvent) -> None:
        if event.current_buffer.text:
            event.current_buffer.reset()  # as in a shell: the line is dropped, not the conversation
        else:
            event.app.exit(exception=EOFError())

    words = WordCompleter(list(mode.completions), sentence=True)
    return PromptSession(history=history, key_bindings=keys, completer=words, complete_while_typing=False, **terminal)
