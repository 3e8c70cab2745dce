"""The loop: one input after the other, each under a limit of processor time, each named by target, seed and number.

What it is not: the command line is `scripts/fuzz.py`. Memory is limited there, for the whole process.

Read next: `mutate.py`.
"""

from __future__ import annotations

import contextlib
import random
import resource
import signal
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from tests.fuzzing.mutate import mutate

CORPUS = Path(__file__).resolve().parent.parent / "corpus"
FOUND = "found-"
STEP_S = 0.5  # seconds of processor time for one input: what takes longer hangs, as far as a guest can tell
BYTE_S = 50e-6  # the same for each byte of it: six thousand commands in one input are six thousand commands
SEALED = 0.6  # share of the inputs whose lengths and checksums are repaired


class Target:
    """A parser. `run` gives it one input; whatever it raises is a find, but the exceptions that the parser names, which `run` swallows."""

    name = ""
    tokens: tuple[bytes, ...] = ()

    def seeds(self) -> dict[str, bytes]:
        """Valid inputs, by name: they are written to the corpus once."""
        raise NotImplementedError

    def run(self, image: bytes) -> str:
        """Feed it. Returns in a word what became of it, for the statistics."""
        raise NotImplementedError

    def seal(self, image: bytes, dice: random.Random) -> bytes:
        """Repair lengths and checksums."""
        return image

    def corpus(self, *, with_finds: bool = True) -> list[bytes]:
        """What is kept, in order. New inputs are not made from what nobody has looked at yet: it would be found again and again."""
        paths = sorted((CORPUS / self.name).iterdir())
        return [path.read_bytes() for path in paths if with_finds or not path.name.startswith(FOUND)]


class Find(NamedTuple):
    """An input that broke something."""

    target: str
    image: bytes
    story: str

    @property
    def file_name(self) -> str:
        return f"{FOUND}{zlib.crc32(self.image):08x}"


class Report(NamedTuple):
    """What a target went through. `busy`: seconds of processor time; `slowest`: of them, for one input; `resident`: MiB at the end."""

    target: str
    inputs: int
    seconds: float
    busy: float
    slowest: float
    resident: int
    outcomes: Counter[str]
    finds: list[Find]


def resident() -> int:
    """MiB of memory that this process holds now."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize() >> 20


class TooSlow(BaseException):
    """One input took more processor time than all of them may."""


@contextlib.contextmanager
def timed() -> Iterator[None]:
    """Within it, `TooSlow` is raised where an input takes too long."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGVTALRM, ring)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def make(target: Target, corpus: list[bytes], seed: int, number: int) -> bytes:
    """The input of this number."""
    dice = random.Random(seed << 32 | number)
    image = mutate(corpus, target.tokens, dice)
    return target.seal(image, dice) if dice.random() < SEALED else image


def feed(target: Target, image: bytes) -> tuple[str, Find | None]:
    """One input."""
    signal.setitimer(signal.ITIMER_VIRTUAL, STEP_S + len(image) * BYTE_S)
    try:
        return target.run(image), None
    except (Exception, TooSlow):
        return "BROKEN", Find(target.name, image, traceback.format_exc())
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def fuzz(target: Target, *, seed: int, inputs: int, first: int = 0, seconds: float = float("inf"), finds_max: int = 10) -> Report:
    """Feed so many inputs from number `first` on, or until the time is over or enough was found."""
    corpus = target.corpus(with_finds=False)
    outcomes: Counter[str] = Counter()
    finds: list[Find] = []
    began, busy, slowest, number = time.monotonic(), time.process_time(), 0.0, first
    with timed():
        while number < first + inputs and len(finds) < finds_max and time.monotonic() - began < seconds:
            image = make(target, corpus, seed, number)
            before = time.process_time()
            outcome, find = feed(target, image)
            slowest = max(slowest, time.process_time() - before)
            outcomes[outcome] += 1
            if find is not None:
                finds.append(find)
            number += 1
    spent = time.monotonic() - began, time.process_time() - busy
    return Report(target.name, number - first, *spent, slowest, resident(), outcomes, finds)


def replay(target: Target) -> list[Find]:
    """Every entry of the corpus as it is."""
    with timed():
        return [find for image in target.corpus() if (find := feed(target, image)[1]) is not None]


def write_seeds(target: Target) -> None:
    """Make the corpus from what is valid today; what was found stays."""
    directory = CORPUS / target.name
    directory.mkdir(parents=True, exist_ok=True)
    for name, image in target.seeds().items():
        (directory / name).write_bytes(image)
