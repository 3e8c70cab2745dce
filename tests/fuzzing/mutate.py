"""Mutations: what they do to bytes depends on the dice alone.

What it is not: it knows no format; a target repairs lengths and checksums itself (`Target.seal`), so that damage gets behind them.

Read next: `outside.py`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

LENGTH_MAX = 96 << 10  # bytes of an input: above every limit that is not in megabytes
NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 1 << 20, 0x7FFFFFFF, 0xFFFFFFFF, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
DIGITS = (b"0", b"-1", b"1", b"18446744073709551616", b"9" * 40, b"1e9", b"007", "٣".encode())
RUN_OF_DIGITS = re.compile(rb"[0-9]+")

Change = Callable[[bytearray, random.Random, Sequence[bytes]], None]


def mutate(corpus: Sequence[bytes], tokens: Sequence[bytes], dice: random.Random) -> bytes:
    """One input: an entry of the corpus with a few changes."""
    made = bytearray(dice.choice(corpus))
    for _ in range(dice.choice((1, 1, 1, 2, 2, 3, 5, 9))):
        change = dice.choice(CHANGES)
        if change is _splice:
            _mix(made, dice.choice(corpus), dice)
        else:
            change(made, dice, tokens)
    return bytes(made[:LENGTH_MAX])


def _flip(made: bytearray, dice: random.Random, tokens: Sequence[bytes]) -> None:
    if made:
        made[dice.randrange(len(made))] ^= 1 << dice.randrange(8)


def _set(made: bytearray, dice: random.Random, tokens: Sequence[bytes]) -> None:
    if made:
        made[dice.randrange(len(made))] = dice.choice((0, 0x0A, 0x7C, 0x7F, 0x80, 0xC1, 0xFF, dice.randrange(256)))


def _number(made: bytearray, dice: random.Random, tokens: Sequence[bytes]) -> None:
    size = dice.choice((1, 2, 4, 8))
    word = (dice.choice(NUMBERS) & ((1 << 8 * size) - 1)).to_bytes(size, dice.choice(("little", "big")))
    at = dice.randrange(len(made) + 1)
    made[at : at + size] = word


def _digits(made: bytearray, dice: random.Random, tokens: Sequence[bytes]) -> None:
    """A run of digits becomes another number."""
    found = RUN_OF_DIGITS.search(made, dice.randrange(len(made) + 1))
    at, end = found.span() if found else (len(made), len(made))
    made[at:end] = dice.choice(DIGITS)


def _insert(made: bytearray, dice: random.Random, tokens: Sequence[bytes]) -> None:
    at = dice.randrange(len(made) + 1)
    made[at:at] = dice.randbytes(dice.choice((1, 1, 2, 4, 16, 64)))


def _token(made: bytearray, dice: random.Random, tokens: Sequence[bytes]) -> None:
    if tokens:
        at = dice.randrange(len(made) + 1)
        made[at : at + dice.choice((0, 0, 1, 4))] = dice.choice(tokens)


def _delete(made: bytearray, dice: random.Random, tokens: Sequence[bytes]) -> None:
    at = dice.randrange(len(made) + 1)
    del made[at : at + dice.choice((1, 1, 2, 4, 16, 512))]


def _repeat(made: bytearray, dice: random.Random, tokens: Sequence[bytes]) -> None:
    at = dice.randrange(len(made) + 1)
    piece = made[at : at + dice.choice((1, 4, 16, 64, 512))]
    made[at:at] = piece * dice.choice((1, 1, 2, 8, 64))


def _truncate(made: bytearray, dice: random.Random, tokens: Sequence[bytes]) -> None:
    del made[dice.randrange(len(made) + 1) :]


def _zero(made: bytearray, dice: random.Random, tokens: Sequence[bytes]) -> None:
    at = dice.randrange(len(made) + 1)
    end = min(len(made), at + dice.choice((1, 8, 512)))
    made[at:end] = bytes(end - at)


def _lines(made: bytearray, dice: random.Random, tokens: Sequence[bytes]) -> None:
    """Lines change places, or one goes, or comes twice."""
    lines = bytes(made).split(b"\n")
    at = dice.randrange(len(lines))
    line = lines.pop(at) if dice.random() < 0.7 else lines[at]
    if dice.random() < 0.7:
        lines.insert(dice.randrange(len(lines) + 1), line)
    made[:] = b"\n".join(lines)


def _splice(made: bytearray, dice: random.Random, tokens: Sequence[bytes]) -> None:
    """Stands for `_mix`, which needs another entry."""


def _mix(made: bytearray, other: bytes, dice: random.Random) -> None:
    at, start = dice.randrange(len(made) + 1), dice.randrange(len(other) + 1)
    made[at : at + dice.choice((0, 64, 1 << 20))] = other[start : start + dice.choice((16, 64, 1 << 20))]


CHANGES: tuple[Change, ...] = (
    _flip,
    _flip,
    _set,
    _number,
    _digits,
    _insert,
    _token,
    _token,
    _delete,
    _repeat,
    _truncate,
    _zero,
    _lines,
    _splice,
)
