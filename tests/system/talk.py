"""People who talk without pause, and the audit of what they were told and shown.

What it is not: it starts no server (`cluster.py`) and decides nothing about right or wrong ports: the client moves by itself.

    Talker ── `3|WHOM|NAME N` ──▶ ChatClient ──▶ cluster ──▶ the other's ChatClient ──▶ shown
             attempted: 1 … n     acked: those that were answered

    audit      lost       acknowledged, and not shown to its recipient
               doubled    shown more than once, or twice in the history
               misplaced  shown in another order than it was sent
               invented   shown, and never sent

Read next: `test_failover.py`, `scripts/campaign.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from client import ChatClient, Moved
from guest import Message
from tests.system.cluster import SERVES_S, TooLate

PADDING = " " + "x" * 40  # a line is about as long as people's are

UNDER_WAY_S = 0.02  # seconds after a death in which answers from before may still arrive


class Talker:
    """One account at one client: sends to the others in turn and notes everything."""

    def __init__(self, name: str, ports: Sequence[int], *, pace: float = 0.0) -> None:
        self.name, self.pace = name, pace
        self.attempted: dict[str, int] = {}  # newest number sent to each
        self.acked: dict[str, list[int]] = {}
        self.shown: dict[str, list[int]] = {}
        self.again: list[str] = []
        self.acked_at: list[float] = []
        self.moves: list[tuple[float, Moved]] = []
        self.troubles: list[str] = []
        self.client = ChatClient(ports, on_messages=self._on_messages, on_move=self._on_move, on_trouble=self.troubles.append)

    def _on_move(self, moved: Moved) -> None:
        self.moves.append((time.monotonic(), moved))

    def _on_messages(self, messages: list[Message]) -> None:
        for message in messages:
            sender, _, number = message.text.partition(" ")
            assert sender == message.sender, f"{self.name} was shown {message}"
            self.shown.setdefault(sender, []).append(int(number.split()[0]))
            if message.again:
                self.again.append(message.text)
        self.client.displayed(messages[-1])

    async def enter(self) -> None:
        """Connect, make the account."""
        self.client.start()
        reply = await self.client.request(f"1|{self.name}")
        assert reply.startswith("Success"), reply

    async def send(self, whom: str) -> None:
        """One message, until it is acknowledged."""
        number = self.attempted[whom] = self.attempted.get(whom, 0) + 1
        reply = await self.client.request(f"3|{whom}|{self.name} {number}{PADDING}")
        assert reply.startswith((f"Sender {self.name} sends", f"message from {self.name} has been delivered")), reply
        self.acked.setdefault(whom, []).append(number)
        self.acked_at.append(time.monotonic())

    async def talk(self, others: Sequence[str], ending: asyncio.Event) -> None:
        """Send to the others in turn, each message after the acknowledgement of the one before, until told to end."""
        at = 0
        while not ending.is_set():
            await self.send(others[at % len(others)])
            at += 1
            if self.pace:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(ending.wait(), self.pace)

    def gap_after(self, death: float, until: float) -> float | None:
        """Seconds from the primary's death to the next acknowledgement in which it had no part; None: there was none."""
        moved = next((at for at, _ in self.moves if death < at < until), None)
        times = [t for t in self.acked_at if death - 1 < t < until]
        if moved is not None:
            return next((t - death for t in times if t > moved), None)
        # A guest of a backup does not move. Answers that were under way still come, then there is silence.
        silences = [(b - a, b) for a, b in pairwise([death, *(t for t in times if t > death)]) if a < death + UNDER_WAY_S]
        return max(silences)[1] - death if silences else None


class Verdict(NamedTuple):
    """What an audit counted; all but the first two must be nothing."""

    acknowledged: int
    delivered: int
    lost: list[str]
    doubled: list[str]
    misplaced: list[str]
    invented: list[str]

    @property
    def is_clean(self) -> bool:
        """Whether the promise was kept."""
        return not (self.lost or self.doubled or self.misplaced or self.invented)

    def __str__(self) -> str:
        words = (
            f"acknowledged {self.acknowledged}, delivered {self.delivered}, lost {len(self.lost)}, doubled {len(self.doubled)}, "
            f"misplaced {len(self.misplaced)}, invented {len(self.invented)}"
        )
        wrong = [*self.lost[:5], *self.doubled[:5], *self.misplaced[:5], *self.invented[:5]]
        return words + ("" if self.is_clean else "\n  " + "\n  ".join(wrong))


def audit(talkers: Sequence[Talker], histories: Iterable[list[tuple[str, str, str]]] = ()) -> Verdict:
    """Compare what was acknowledged with what was shown, and with each replica's history."""
    lost, doubled, misplaced, invented = list[str](), list[str](), list[str](), list[str]()
    by_name = {t.name: t for t in talkers}
    for receiver in talkers:
        for sender in talkers:
            seen, what = receiver.shown.get(sender.name, []), f"{sender.name} to {receiver.name}"
            counts = Counter(seen)
            lost += [f"{what}: {n} acknowledged, never shown" for n in sender.acked.get(receiver.name, []) if n not in counts]
            doubled += [f"{what}: {n} shown {times} times" for n, times in counts.items() if times > 1]
            misplaced += [f"{what}: {b} shown after {a}" for a, b in pairwise(seen) if b < a]
            invented += [f"{what}: {n} was never sent" for n in counts if n > sender.attempted.get(receiver.name, 0)]
        doubled += [f"{receiver.name} was shown again: {text}" for text in receiver.again]
    for replica, history in enumerate(histories):
        rows = Counter(row for row in history if row[0] in by_name)
        doubled += [f"history {replica}: {row} stands there {times} times" for row, times in rows.items() if times > 1]
        for sender in talkers:
            for whom, numbers in sender.acked.items():
                lost += [f"history {replica}: {row} is missing" for n in numbers if (row := sender_row(sender, whom, n)) not in rows]
    acknowledged = sum(len(n) for t in talkers for n in t.acked.values())
    delivered = sum(len(set(n)) for t in talkers for n in t.shown.values())
    return Verdict(acknowledged, delivered, lost, doubled, misplaced, invented)


def sender_row(sender: Talker, whom: str, number: int) -> tuple[str, str, str]:
    """How this message stands in the history."""
    return sender.name, whom, f"{sender.name} {number}{PADDING}"


def all_shown(talkers: Sequence[Talker]) -> bool:
    """Whether everything acknowledged has reached its recipient."""
    by_name = {t.name: t for t in talkers}
    return all(
        not numbers or numbers[-1] in by_name[whom].shown.get(t.name, [])[-2000:] for t in talkers for whom, numbers in t.acked.items()
    )


async def soon(what: str, condition: Callable[[], Any], seconds: float = SERVES_S, about: Callable[[], str] = str) -> Any:
    """`until`, while the loop goes on."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TooLate(f"not within {seconds:.0f} s: {what}\n{about()}")
        await asyncio.sleep(0.005)
    return found


async def finish(
    talkers: Sequence[Talker], talking: Sequence[asyncio.Task[None]], ending: asyncio.Event, seconds: float = SERVES_S
) -> None:
    """Let everybody end the sentence, and wait until all that was acknowledged was shown."""
    ending.set()
    done, late = await asyncio.wait(talking, timeout=seconds)
    for task in done:
        task.result()
    if late:
        raise TooLate(f"requests are unanswered: {[(t.name, t.client.pending, t.troubles[-1:]) for t in talkers if t.client.pending]}")
    with contextlib.suppress(TooLate):  # what is missing is the audit's to say
        await soon("all that was acknowledged is shown", lambda: all_shown(talkers), seconds)


def leave(talkers: Iterable[Talker]) -> None:
    """Close the connections."""
    for talker in talkers:
        talker.client.stop("the test is over")
