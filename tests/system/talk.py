"""People who talk without pause, and the audit of what they were told and shown.

What it is not: it starts no server (`cluster.py`) and decides nothing about right or wrong ports: the client moves by itself.

    Talker ── `3|WHOM|NAME N` ──▶ ChatClient ──▶ cluster ──▶ the other's ChatClient ──▶ shown
             attempted: 1 … n     acked: those that were answered

    audit      lost       acknowledged, and not shown to its recipient, or not in a replica's history
               doubled    shown more than once, or twice in a history
               reordered  shown in another order than it was sent; or before what was acknowledged before it was sent, in a history
               invented   shown or in a history, and never sent, or not so
               unknown    sent, and never answered: it may have happened or not

Read next: `test_audit.py`, `test_failover.py`, `scripts/campaign.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from client import ChatClient
from guest import Message
from ports import Moved
from tests.system.cluster import PLAINTEXT, SERVES_S, Proof, TooLate

PADDING = " " + "x" * 40  # a line is about as long as people's are

UNDER_WAY_S = 0.02  # seconds after a death in which answers from before may still arrive


class Talker:
    """One account at one client: sends to the others in turn and notes everything."""

    def __init__(self, name: str, ports: Sequence[int], *, pace: float = 0.0, padding: str = PADDING, proof: Proof = PLAINTEXT) -> None:
        self.name, self.pace, self.padding, self.password = name, pace, padding, proof.password
        self.attempted: dict[str, int] = {}  # newest number sent to each
        self.sent_at: dict[str, list[float]] = {}  # moments: the Nth is that of number N
        self.acked: dict[str, list[int]] = {}
        self.shown: dict[str, list[int]] = {}
        self.endings: dict[str, set[str]] = {}  # what stood behind the numbers that each sent
        self.again: list[str] = []
        self.acked_at: list[float] = []
        self.told_at: dict[tuple[str, int], float] = {}  # whom and number: when it was acknowledged
        self.moves: list[tuple[float, Moved]] = []
        self.troubles: list[str] = []
        self.client = ChatClient(
            ports, on_messages=self._on_messages, on_move=self._on_move, on_trouble=self.troubles.append, tls=proof.tls
        )

    def _on_move(self, moved: Moved) -> None:
        self.moves.append((time.monotonic(), moved))

    def _on_messages(self, messages: list[Message]) -> None:
        for message in messages:
            sender, _, rest = message.text.partition(" ")
            number, blank, ending = rest.partition(" ")
            assert sender == message.sender, f"{self.name} was shown {message}"
            self.shown.setdefault(sender, []).append(int(number))
            self.endings.setdefault(sender, set()).add(blank + ending)
            if message.again:
                self.again.append(message.text)
        self.client.displayed(messages[-1])

    async def enter(self) -> None:
        """Connect, make the account."""
        self.client.start()
        reply = await self.client.request(f"1|{self.name}{self.password}")
        assert reply.startswith("Success"), reply

    async def send(self, whom: str) -> None:
        """One message, until it is acknowledged."""
        number = self.attempted[whom] = self.attempted.get(whom, 0) + 1
        self.sent_at.setdefault(whom, []).append(time.monotonic())
        reply = await self.client.request(f"3|{whom}|{self.name} {number}{self.padding}")
        assert reply.startswith((f"Sender {self.name} sends", f"message from {self.name} has been delivered")), reply
        self.acked.setdefault(whom, []).append(number)
        self.acked_at.append(now := time.monotonic())
        self.told_at[whom, number] = now

    async def talk(self, others: Sequence[str], ending: asyncio.Event) -> None:
        """Send to the others in turn, each message after the acknowledgement of the one before, until told to end."""
        at = 0
        while not ending.is_set():
            await self.send(others[at % len(others)])
            at += 1
            if self.pace:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(ending.wait(), self.pace)

    def has_noticed(self, death: float) -> bool:
        """Whether it was answered since; what was under way when it happened does not count."""
        return bool(self.acked_at) and self.acked_at[-1] > death + UNDER_WAY_S

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
    reordered: list[str]
    invented: list[str]
    unknown: list[str]

    @property
    def is_clean(self) -> bool:
        """Whether the promise was kept. What is unknown was never promised."""
        return not (self.lost or self.doubled or self.reordered or self.invented)

    def __str__(self) -> str:
        words = (
            f"acknowledged {self.acknowledged}, delivered {self.delivered}, lost {len(self.lost)}, doubled {len(self.doubled)}, "
            f"reordered {len(self.reordered)}, invented {len(self.invented)}, unknown {len(self.unknown)}"
        )
        wrong = [*self.lost[:5], *self.doubled[:5], *self.reordered[:5], *self.invented[:5]]
        return words + ("" if self.is_clean else "\n  " + "\n  ".join(wrong))


History = list[tuple[str, str, str]]  # sender, recipient, text, in the order of the log


def audit(talkers: Sequence[Talker], histories: Iterable[History] = (), *, are_all: bool = False) -> Verdict:
    """Compare what was acknowledged with what was shown, and with each replica's history. `are_all`: nobody else has written anything."""
    verdict = Verdict(
        acknowledged=sum(len(n) for t in talkers for n in t.acked.values()),
        delivered=sum(len(set(n)) for t in talkers for n in t.shown.values()),
        lost=[],
        doubled=[f"{t.name} was shown again: {text}" for t in talkers for text in t.again],
        reordered=[],
        invented=[],
        unknown=[
            f"{t.name} to {whom}: {n}"
            for t in talkers
            for whom, last in t.attempted.items()
            for n in {*range(1, last + 1)} - {*t.acked.get(whom, ())}
        ],
    )
    for receiver in talkers:
        for sender in talkers:
            _audit_shown(verdict, sender, receiver)
    for replica, history in enumerate(histories):
        _audit_history(verdict, talkers, history, f"history {replica}")
        if are_all:
            strangers = {row[0] for row in history} - {t.name for t in talkers}
            verdict.invented.extend(f"history {replica}: {name} never said anything" for name in sorted(strangers))
    return verdict


def _audit_shown(verdict: Verdict, sender: Talker, receiver: Talker) -> None:
    seen, what = receiver.shown.get(sender.name, []), f"{sender.name} to {receiver.name}"
    counts = Counter(seen)
    verdict.lost.extend(f"{what}: {n} acknowledged, never shown" for n in sender.acked.get(receiver.name, []) if n not in counts)
    verdict.doubled.extend(f"{what}: {n} shown {times} times" for n, times in counts.items() if times > 1)
    verdict.reordered.extend(f"{what}: {b} shown after {a}" for a, b in pairwise(seen) if b < a)
    verdict.invented.extend(f"{what}: {n} was never sent" for n in counts if n > sender.attempted.get(receiver.name, 0))
    spoilt = receiver.endings.get(sender.name, set()) - {sender.padding}
    verdict.invented.extend(f"{what}: a text that ended in {ending[-20:]!r} was never sent" for ending in sorted(spoilt))


def _audit_history(verdict: Verdict, talkers: Sequence[Talker], history: History, what: str) -> None:
    """One replica's messages against what everybody was told, and against the moments at which they were told."""
    by_name = {t.name: t for t in talkers}
    ours = {sender_row(t, whom, n): (t, whom, n) for t in talkers for whom, last in t.attempted.items() for n in range(1, last + 1)}
    rows = Counter(row for row in history if row[0] in by_name)
    verdict.doubled.extend(f"{what}: {_short(row)} stands there {times} times" for row, times in rows.items() if times > 1)
    verdict.invented.extend(f"{what}: {_short(row)} was never sent" for row in rows if row not in ours)
    verdict.lost.extend(
        f"{what}: {_short(row)} is missing" for row, (t, whom, n) in ours.items() if (whom, n) in t.told_at and row not in rows
    )
    newest, sent_last = 0.0, ""
    for row in history:
        if row in ours:
            sender, whom, number = ours[row]
            # Who was told that a message is taken may count on it: nothing that is sent later comes before it.
            if newest > sender.told_at.get((whom, number), newest):
                verdict.reordered.append(f"{what}: {sent_last} stands before {_short(row)}, and was sent after that was acknowledged")
            if (sent := sender.sent_at[whom][number - 1]) > newest:
                newest, sent_last = sent, _short(row)


def _short(row: tuple[str, str, str]) -> str:
    return f"{row[0]} to {row[1]}: {row[2][:20]}"


def sender_row(sender: Talker, whom: str, number: int) -> tuple[str, str, str]:
    """How this message stands in the history."""
    return sender.name, whom, f"{sender.name} {number}{sender.padding}"


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
