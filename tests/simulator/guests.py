"""Guests: programs that speak the numbered mode, retry with the same numbers, and write down what they saw.

What it is not: it shares no code with `client.py`, so that a mistake there cannot hide one in the server.

A guest asks for one thing after the other, up to `window` at a time. When its connection breaks it goes to the next port, takes its session
up again and sends all that is unanswered. It displays message `seq` of its account only when that is newer than what it has displayed.

Read next: `checks.py`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import doors.contract
from tests.simulator.world import Process, Violation, World

QUIET_AFTER = 0.04
SILENCE_CHECK = 0.1
LOST = 0.3  # of the connections that break, with all that is on the wire
HASTY = 0.05  # of the times that a guest sends again, it begins with the newest, and the log must not take that
PATIENT_S = 3.0  # how long a guest that mostly reads waits for a sign of life


class Shell(doors.contract.Shell):
    """The server's end of one connection (what `doors/stream.py` is in production)."""

    def __init__(self, world: World, process: Process, guest: BareGuest) -> None:
        self.world, self.process, self.guest = world, process, guest
        self.address = self.peer = "127.0.0.1"
        self.is_closing = False
        self.is_reading = True
        self.unread: list[bytes] = []
        self.broken = False
        self.to_server_at = self.to_guest_at = 0.0
        self.silence = 0
        process.shells[self] = None
        self.connection = process.server.desk.welcome(self, "pipe")
        self.write(self.connection.translator.greeting)

    # --- desk.Shell -------------------------------------------------------------------------------------------------------------------

    def write(self, words: bytes) -> None:
        if words and not self.is_closing:
            self._to_guest(self.guest.receive, words)

    def close(self, why: str) -> None:
        if not self.is_closing:
            self.is_closing = True
            self.world.say(f"{self.process.id}: closes {self.connection.home} of {self.guest.name}: {why}")
            self._to_guest(self.guest.ended)
            self.world.push(self.world.now, self.process, self._lost)

    def pause(self) -> None:
        self.is_reading = False

    def resume(self) -> None:
        if not self.is_reading:
            self.is_reading = True
            self.world.push(self.world.now, self.process, self._read)

    def is_drained(self) -> bool:
        return self.world.dice.random() >= self.world.mix.undrained

    # --- the wire -----------------------------------------------------------------------------------------------------------------------

    def _to_guest(self, callback: Callable[..., None], *args: Any) -> None:
        mix = self.world.mix
        when = self.world.now + self.process.stall + mix.net_delay + self.world.dice.random() * mix.net_jitter
        self.to_guest_at = max(self.to_guest_at, when)
        self.world.push(self.to_guest_at, None, callback, self, *args)

    def send(self, chunk: bytes) -> None:
        """The guest's bytes, cut anywhere."""
        dice = self.world.dice
        if len(chunk) > 4 and dice.random() < 0.1:
            at = dice.randrange(1, len(chunk))
            self._to_server(self._arrived, chunk[:at])
            chunk = chunk[at:]
        if self.world.watches == self.guest.name:
            self.world.say(f"{self.guest.name} -> {self.process.id} {chunk!r}")
        self._to_server(self._arrived, chunk)

    def _to_server(self, callback: Callable[..., None], *args: Any) -> None:
        mix = self.world.mix
        when = self.world.now + mix.net_delay + self.world.dice.random() * mix.net_jitter
        self.to_server_at = max(self.to_server_at, when)
        self.world.push(self.to_server_at, self.process, callback, *args)

    def _arrived(self, chunk: bytes) -> None:
        self.unread.append(chunk)
        if self.is_reading:
            self._read()

    def _read(self) -> None:
        while self.unread and self.is_reading and not self.is_closing and not self.connection.gone:
            self.silence += 1
            self.process.server.desk.hears = True
            if self.connection.feed(self.unread.pop(0)):
                self.world.push(self.world.now + QUIET_AFTER, self.process, self._quiet, self.silence)
            self.process.server.desk.hasten()

    def _quiet(self, silence: int) -> None:
        if silence == self.silence and not self.connection.gone:
            self.connection.quiet()

    def hang_up(self) -> None:
        """The guest closes or loses its end."""
        self.broken = True
        self._to_server(self._lost)

    def break_off(self) -> None:
        """The process died, or the connection was cut half-way."""
        self.is_closing = True
        if self.world.dice.random() < LOST:
            self.world.push(self.world.now, None, self.guest.ended, self)
        else:
            self._to_guest(self.guest.ended)
        if self.process.alive:
            self._lost()

    def _lost(self) -> None:
        self.process.shells.pop(self, None)
        self.is_closing = True
        self.connection.lost()


class Asked(NamedTuple):
    """A request of a guest, and what it knew when it asked first."""

    number: int
    line: str
    called: float
    acked_op: int  # newest op that anybody had heard of by then


class BareGuest:
    """A guest of whatever state: its session, its connection, its numbers. What it asks and what it makes of answers, a subclass says."""

    def __init__(self, world: World, history: Any, name: str, todo: int) -> None:
        self.world, self.history, self.name, self.todo = world, history, name, todo
        self.session = world.dice.randbytes(16)
        self.number = 0
        self.used = False
        self.firm = self.sent = 0  # newest request known to be in the log; newest said on this connection
        self.under_way: dict[int, Asked] = {}
        self.shell: Shell | None = None
        self.buffer = b""
        self.heard_at = 0.0
        self.confirmed = self.was_confirmed = False
        self.port = world.dice.randrange(world.count)
        self.backoff = 0.0
        self.closing = False
        self.reads = world.dice.random() < 0.12  # mostly asks queries, at leisure: those of the others stand behind writes
        self.patience = self.usual_patience = PATIENT_S if self.reads else world.mix.patience
        self.stays = world.dice.random() < 0.3  # waits for the session before it sends
        self.failures = 0
        self.held = False  # asks nothing of its own accord, but for its errands, one after the other
        self.errands: deque[str] = deque()
        self.is_hasty = False  # has left out on this connection what it must ask first
        self.is_thinking = True
        world.push(world.dice.random() * 0.3, None, self.connect)
        world.push(world.dice.random() * 0.3, None, self.think)

    @property
    def low(self) -> int:
        return min(self.under_way, default=self.number + 1) - 1

    @property
    def is_done(self) -> bool:
        return not self.todo and not self.under_way

    # --- connecting ---------------------------------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """The next port."""
        if self.shell is not None or self.closing:
            return
        world = self.world
        self.port = (self.port + 1) % world.count
        process = world.processes.get(self.port)
        if process is None or not process.alive or not process.doors_open or process.server.ending:
            self.failures += 1
            rounds, rest = divmod(self.failures, world.count)
            wait = 0.0 if rest else min(0.25, 0.002 * 2**rounds) * world.dice.uniform(0.5, 1)
            world.push(world.now + wait + 0.0002, None, self.connect)
            return
        self.failures += 1
        self.heard_at = world.now
        self.confirmed = False
        self.buffer = b""
        self.is_hasty = False
        self.shell = shell = Shell.__new__(Shell)
        world.push(world.now + world.mix.net_delay, process, self._welcomed, shell, process)
        world.push(world.now + SILENCE_CHECK, None, self.check_silence, shell)

    def _welcomed(self, shell: Shell, process: Process) -> None:
        """Runs in the server's turn: its loop accepts."""
        if self.shell is not shell:
            return
        if process.server.ending or not process.doors_open:
            self.world.push(self.world.now, None, self.ended, shell)
            return
        Shell.__init__(shell, self.world, process, self)
        self.world.push(self.world.now, None, self._greet, shell)

    def _greet(self, shell: Shell) -> None:
        if self.shell is not shell:
            return
        words = f"understudy 1 {self.session.hex()}\n"
        self.sent = 0
        if self.was_confirmed:
            words += f"resume {self.newest_displayed()} {min(self.under_way, default=0)}\n"
        self.used = True
        if self.under_way:
            first, last = min(self.under_way), max(self.under_way)
            again = f"request {first}" if first == last else f"requests {first} to {last}"
            self.world.say(f"{self.name} is at {shell.process.id} now and asks for {again}{' again' if self.was_confirmed else ''}")
        shell.send(words.encode())
        if not self.stays:
            self._resend()

    def _resend(self) -> None:
        assert self.shell is not None
        newest = next(reversed(self.under_way.values()), None)
        if newest is not None and len(self.under_way) > 1 and newest.line[0] not in "2w" and self.world.dice.random() < HASTY:
            self.is_hasty, self.sent = True, newest.number
            return self.shell.send(f"{newest.number} {self.low} {newest.line}\n".encode())
        for asked in self.under_way.values():
            self._write(asked)

    def _write(self, asked: Asked) -> None:
        """The log takes no number above its next one, and queries that were answered never stood in it: blanks take their place."""
        assert self.shell is not None
        lines = [f"{n} {n - 1} blank\n" for n in range(self.firm + 1, asked.number)] if not self.sent else []
        self.sent = asked.number
        lines.append(f"{asked.number} {self.low} {asked.line}\n")
        self.shell.send("".join(lines).encode())

    def check_silence(self, shell: Shell) -> None:
        """Nothing heard for too long: perhaps another replica serves."""
        if self.shell is not shell:
            return
        if self.world.now - self.heard_at > self.patience:
            self.leave()
            return
        self.world.push(self.world.now + SILENCE_CHECK, None, self.check_silence, shell)

    def leave(self) -> None:
        """Drop the connection and go to the next port."""
        shell, self.shell = self.shell, None
        if shell is not None and hasattr(shell, "connection"):
            shell.hang_up()
        self.world.push(self.world.now + 0.0002, None, self.connect)

    def ended(self, shell: Shell) -> None:
        """The connection broke."""
        if self.shell is shell:
            self.shell = None
            wait = min(0.25, 0.002 * self.failures) * self.world.dice.random()
            self.world.push(self.world.now + wait, None, self.connect)

    # --- asking -------------------------------------------------------------------------------------------------------------------------

    def grant(self, requests: int) -> None:
        """It may ask so much more."""
        self.todo += requests
        self.think_soon()

    def hold(self) -> None:
        """From here on it only does what it is sent for."""
        self.held = True

    def let_go(self) -> None:
        """It lives its own life again."""
        self.held = False
        self.errands.clear()
        self.think_soon()

    def go(self, lines: Iterable[str]) -> None:
        """Ask these, each when all before it is answered."""
        self.errands += lines
        self._next_errand()

    def _next_errand(self) -> None:
        if self.errands and not self.under_way:
            self.ask(self.errands.popleft())

    def think_soon(self) -> None:
        """Think of the next request, unless that is under way already, or nothing more may be asked now."""
        if self.todo > 0 and not self.held and not self.is_thinking and len(self.under_way) < self.world.mix.window:
            self.is_thinking = True
            mix = self.world.mix
            pause = mix.think + (mix.leisure if self.reads else 0.0005)
            self.world.push(self.world.now + pause * self.world.dice.uniform(0.5, 1.5), None, self.think)

    def think(self) -> None:
        """What next? A guest that has to wait for an answer first thinks again when it comes."""
        self.is_thinking = False
        if self.todo > 0 and not self.held and len(self.under_way) < self.world.mix.window:
            line = self.choose()
            if line:
                self.todo -= 1
                self.ask(line)
                self.think_soon()

    def ask(self, line: str) -> None:
        """A new intent, a new number."""
        self.number += 1
        asked = Asked(self.number, line, self.world.now, self.history.acked_op)
        self.under_way[self.number] = asked
        if self.shell is not None and hasattr(self.shell, "connection") and self.used and (self.confirmed or not self.stays):
            self._write(asked)

    # --- hearing ------------------------------------------------------------------------------------------------------------------------

    def receive(self, shell: Shell, words: bytes) -> None:
        """Bytes from the server."""
        if self.shell is not shell:
            return
        self.heard_at = self.world.now
        if self.world.watches == self.name and words != b".\n":
            self.world.say(f"{self.name} <- {shell.process.id} {words!r}")
        self.buffer += words
        while b"\n" in self.buffer and self.shell is shell:
            line, _, rest = self.buffer.partition(b"\n")
            parts = line.split(b" ")
            if parts[0] in (b"*", b"@") or (parts[0].isdigit() and len(parts) == 2):
                size = int(parts[-1])
                if len(rest) < size:
                    return
                payload, self.buffer = rest[:size], rest[size:]
                self._framed(parts, payload.decode())
            else:
                self.buffer = rest
                self._line(parts)

    def _framed(self, parts: list[bytes], payload: str) -> None:
        if parts[0] == b"*":
            sender, _, _, text = payload.split("|", 3)
            self.push(int(parts[1]), sender, text)
        elif parts[0] != b"@":
            self._reply(int(parts[0]), payload)

    def _line(self, parts: list[bytes]) -> None:
        if parts[0] == b"=":
            self.confirmed = self.was_confirmed = True
            self.failures = 0
            self.firm = int(parts[2])
            if self.stays:
                self._resend()
        elif parts[0] == b"!":
            self.world.say(f"{self.name} hears {b' '.join(parts)!r}")
            if parts[1] == b"session":
                self._begin_anew()
            if parts[1] == b"gap":
                self.history.gaps += 1
                if not self.is_hasty:
                    raise Violation(f"{self.name} hears of a gap below {parts[2].decode()} and has left nothing out")
                self.firm = min(self.firm, int(parts[2]) - 1)

    def _begin_anew(self) -> None:
        """The session never got as far as the log (a read_only replica confirms what it cannot write): what was asked in it may be lost."""
        if self.session in self.history.spec.sessions:
            raise Violation(f"{self.name}'s session is forgotten")
        self.history.abandoned += [(self.name, asked) for asked in self.under_way.values()]
        self.todo += len(self.under_way)
        self.under_way.clear()
        self.number, self.used, self.confirmed, self.was_confirmed = 0, False, False, False
        self.firm = self.sent = 0
        self.session = self.world.dice.randbytes(16)
        self.think_soon()

    def _reply(self, number: int, words: str) -> None:
        asked = self.under_way.get(number)
        if asked is None:
            if number > self.number:
                raise Violation(f"{self.name} got a reply to request {number}, which it never made")
            if "valid input" in words or words == "!READ_ONLY":
                return
            raise Violation(f"{self.name} got a second reply to request {number}: {words!r}")
        if self.is_hasty:
            return self.leave()  # what comes first was done long ago, and its answer is due first
        if number != min(self.under_way):
            raise Violation(f"{self.name}: reply {number} before {min(self.under_way)}")
        del self.under_way[number]
        outcome = self.history.answered(self, asked, words)
        if asked.line[0] not in "2wh" and outcome != ("invalid",):
            self.firm = max(self.firm, number)
        self.heard(asked, outcome)
        self._next_errand()
        self.think_soon()

    # --- what a subclass says -----------------------------------------------------------------------------------------------------------

    def choose(self) -> str:
        """The next line; empty: an answer has to come first."""
        raise NotImplementedError

    def last_line(self) -> str:
        """What it asks when all is over and everybody must be answered."""
        return "2"

    def heard(self, asked: Asked, outcome: tuple[str, ...]) -> None:
        """An answer has come."""

    def newest_displayed(self) -> int:
        """The newest message of its account that it has displayed."""
        return 0

    def push(self, seq: int, sender: str, text: str) -> None:
        """A delivery."""
        raise Violation(f"{self.name} gets a delivery it did not ask for")


class SimGuest(BareGuest):
    """A guest of the chat; each has an account of its own name."""

    def __init__(self, world: World, history: Any, name: str, todo: int) -> None:
        super().__init__(world, history, name, todo)
        self.account = ""  # as far as answered; empty while it may be changing
        self.births = 0
        self.says_when_shown = True  # or lets the others wait for its acknowledgements
        self.displayed = 0  # newest seq displayed of the account
        self.texts = 0

    def newest_displayed(self) -> int:
        return self.displayed if self.account else 0

    def last_line(self) -> str:
        return f"1|{self.name}" if not self.births else f"0|{self.name}123" if not self.account else "2"

    def ask(self, line: str) -> None:
        if line[0] in "015b":
            self.account = ""
        super().ask(line)

    def choose(self) -> str:
        dice, world = self.world.dice, self.world
        if not self.account:
            if self.under_way:
                return ""
            return f"1|{self.name}" if not self.births or dice.random() < 0.5 else f"0|{self.name}123"
        roll = dice.uniform(0.7, 0.86) if self.reads and dice.random() < 0.8 else dice.random()
        other = dice.choice(self.history.guests).name
        if roll < 0.70:
            self.texts += 1
            return f"3|{other}|{self.name}-{self.texts}" + "x" * (dice.randrange(700) if dice.random() < 0.25 else 0)
        if roll < 0.78:
            return "2"
        if roll < 0.82:
            return f"2|{self.name[:1]}.*"
        if roll < 0.84:
            return "who"
        if roll < 0.86:
            return f"history|{other}|4"
        if roll < 0.93 or self.under_way or world.healed:
            return f"4|{self.name}123"
        if roll < 0.95:
            return "bye"
        return f"5|{self.name}123" if roll < 0.98 else f"0|{self.name}123"

    def heard(self, asked: Asked, outcome: tuple[str, ...]) -> None:
        kind = asked.line[0]
        if kind == "1" and outcome == ("ok",):
            self.births += 1
        if kind == "5" and outcome == ("ok",):
            self.displayed = 0
        if kind in "01":
            self.account = self.name if outcome == ("ok",) else ""
        elif kind == "5" and outcome == ("not empty",):
            self.account = self.name

    def push(self, seq: int, sender: str, text: str) -> None:
        self.history.pushed(self, seq, sender, text)
        if seq <= self.displayed:
            return
        self.displayed = seq
        self.history.displays(self, seq, sender, text)
        if self.says_when_shown and self.world.dice.random() < 0.5:
            self.world.push(self.world.now + self.world.dice.random() * 0.2, None, self.acknowledge, self.shell, seq)

    def acknowledge(self, shell: Shell, seq: int) -> None:
        """Messages up to `seq` are displayed."""
        if self.shell is shell and self.account and seq <= self.displayed:
            shell.send(f"ack {seq}\n".encode())
