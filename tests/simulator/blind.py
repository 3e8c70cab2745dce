"""The second opinion: could what guests saw have happened in some order at all? No op number, no log, no session is looked at.

What it is not: it does not say which order was right (`checks.py` compares with the log); so a mistake in numbering cannot hide here.

A window is the whole history of one account (everything partitions by account but the list of names), or, for the list, all that changes
or shows names. Its operations are what guests asked and heard, with the times of the call and of the answer; who never heard an answer
may have succeeded at any time since, or never. A display is an operation, too: at some time before it, the message was the oldest
that this guest had not seen.

    account       create · log in · send to it · display · read · delete
    state         lives, messages sent to it and not shown yet, whether something shown may still wait for its acknowledgement
    names         create · delete · list

To find the order of many messages sent at once the search would have to guess; but the order in which they were shown is known, and no
other can be right. So a message that was shown may be taken only in that order (`rank`).

Read next: `linearizability.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tests.simulator.linearizability import OK, Operation, check

Names = tuple[str, ...]


class Seen(NamedTuple):
    """Something a guest did or saw. `outcome` () : nobody knows."""

    guest: str
    called: float
    returned: float | None
    line: str
    outcome: tuple[str, ...]


class Displayed(NamedTuple):
    """A message was shown to the guest of this account, pushed or read."""

    account: str
    when: float
    text: str
    pushed: bool


class Box(NamedTuple):
    """What is known of one account. `shown`: how many of those that were ever shown have been sent."""

    lives: bool
    waiting: tuple[str, ...]
    unsure: bool
    sent: int


NOBODY = Box(lives=False, waiting=(), unsure=False, sent=0)


def judge(history: Iterable[Seen], displays: list[Displayed]) -> tuple[int, int, str]:
    """Windows, operations, and what is wrong with which; empty: nothing."""
    history = list(history)
    accounts = sorted({seen.guest for seen in history})
    windows = count = 0
    for name in accounts:
        operations = account_window(name, history, displays)
        verdict = check(operations, NOBODY, account_step if _shows_unsure(operations) else _sure_step, is_look=_looks_at_account)
        windows, count = windows + 1, count + len(operations)
        if verdict.result != OK:
            return windows, count, describe(f"account {name}", verdict.result, operations, verdict.order)
    operations = names_window(history)
    names = check(operations, (), names_step, is_look=lambda operation: operation.asked[0] == "2")
    if names.result != OK:
        return windows + 1, count, describe("the list of names", names.result, operations, names.order)
    return windows + 1, count + len(operations), ""


def describe(what: str, result: str, operations: list[Operation], order: list[int]) -> str:
    """Where the search came to an end."""
    left = sorted(set(range(len(operations))) - set(order), key=lambda i: operations[i].called)
    some = "; ".join(f"{o.asked} -> {o.outcome} [{o.called:.4f}, {o.returned}]" for o in (operations[i] for i in left[:4]))
    return f"no order explains {what} ({result}): {len(order)} of {len(operations)} operations, then one of: {some}"


# --- one account --------------------------------------------------------------------------------------------------------------------------


def account_window(name: str, history: list[Seen], displays: list[Displayed]) -> list[Operation]:
    """All operations on this account."""
    mine = [d for d in displays if d.account == name]
    rank = {d.text: i for i, d in enumerate(mine)}
    found = list(_asked_of(name, history, rank))
    # It may have happened as early as the message was sent; that it must have been sent first, the state knows.
    found += [Operation(0.0, d.when, ("display", d.text, -1), ("ok",)) for d in mine if d.pushed]
    return found


def _asked_of(name: str, history: list[Seen], rank: dict[str, int]) -> Iterator[Operation]:
    for seen in history:
        kind, _, rest = seen.line.partition("|")
        if kind == "3":
            whom, _, text = rest.partition("|")
            if whom == name:
                yield Operation(seen.called, seen.returned, ("send", text, rank.get(text, -1)), seen.outcome)
        elif kind in ("0", "1", "4", "5") and rest.removesuffix("123") == name:
            yield Operation(seen.called, seen.returned, (kind, "", -1), seen.outcome)


def account_step(box: Box, asked: tuple[str, str, int], outcome: tuple[str, ...]) -> Iterator[Box]:
    """The states that may follow."""
    kind, text, rank = asked
    said = outcome[0] if outcome else ""
    if kind == "send":
        if box.lives and said in ("ok", "") and (rank < 0 or rank == box.sent):
            yield Box(box.lives, (*box.waiting, text), box.unsure, box.sent + (rank >= 0))
        if not box.lives and said in ("absent", ""):
            yield box
    elif kind == "display":
        if box.lives and box.waiting[:1] == (text,):
            yield Box(box.lives, box.waiting[1:], True, box.sent)
    elif kind == "1":
        if not box.lives and said in ("ok", ""):
            yield Box(lives=True, waiting=(), unsure=False, sent=box.sent)
        if box.lives and said in ("taken", ""):
            yield box
    elif not box.lives:
        if said in ("absent", ""):
            yield box
    elif kind == "0":
        if said in ("ok", ""):
            yield box
    elif kind == "4":
        if said == "" or (said == "read" and outcome[1:] == box.waiting):
            yield Box(box.lives, (), False, box.sent)
    elif kind == "5":
        if said in ("ok", "") and not box.waiting:  # what was shown may have been acknowledged meanwhile
            yield NOBODY._replace(sent=box.sent)
        if said in ("not empty", "") and (box.waiting or box.unsure):
            yield box


def _sure_step(box: Box, asked: tuple[str, str, int], outcome: tuple[str, ...]) -> Iterator[Box]:
    return (Box(lives, waiting, False, sent) for lives, waiting, _, sent in account_step(box, asked, outcome))


def _shows_unsure(operations: list[Operation]) -> bool:
    """Whether anybody could have noticed that something shown still waits: otherwise all states in which it may are one."""
    return any(o.asked[0] == "5" and o.outcome != ("ok",) for o in operations)


def _looks_at_account(operation: Operation) -> bool:
    """A log-in, a refusal, and a read of nothing, which at most makes sure that nothing waits: that allows nothing new."""
    return operation.asked[0] == "0" or operation.outcome in (("absent",), ("taken",), ("read",))


# --- the list of names --------------------------------------------------------------------------------------------------------------------


def names_window(history: list[Seen]) -> list[Operation]:
    """All that changes or shows names."""
    return [
        Operation(seen.called, seen.returned, tuple(seen.line.split("|", 1)), seen.outcome) for seen in history if seen.line[0] in "125"
    ]


def names_step(names: Names, asked: tuple[str, ...], outcome: tuple[str, ...]) -> Iterator[Names]:
    """Names in order of creation."""
    kind, name = asked[0], asked[1].removesuffix("123") if len(asked) > 1 else ""
    said = outcome[0] if outcome else ""
    if kind == "1":
        if name not in names and said in ("ok", ""):
            yield (*names, name)
        if name in names and said in ("taken", ""):
            yield names
    elif kind == "5":
        if name in names and said in ("ok", ""):
            yield tuple(n for n in names if n != name)
        if said == "" or said == ("not empty" if name in names else "absent"):
            yield names
    elif not outcome or outcome[1:] == tuple(n for n in names if n.startswith(name.removesuffix(".*"))):
        yield names
