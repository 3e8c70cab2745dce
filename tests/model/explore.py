"""Searches a model: breadth-first until nothing is left, or by walks that throw dice. A find comes as the shortest story that leads to it.

What it is not: it knows no protocol; a model gives states, what can happen in each, and what must hold.

Breadth-first keeps 64 bits of each state it has seen and the number of its parent, not the state: ten million states take about 1 GB. Two
states that share their 64 bits would count as one; at ten million states the odds of any such pair are about 1 in 370,000. A find is never
false: its story is replayed from the first state.

Read next: `survivor.py`.
"""

from __future__ import annotations

import random
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

Action = tuple[Any, ...]  # its name, and what its sentence is filled with
State = Any
LOOK = 2000  # states between two looks at the clock
LONGEST = 300  # steps of a walk


class Violation(Exception):
    """What must never happen."""


class Model(Protocol):
    """What can be searched."""

    def initial(self) -> State:
        """Where it begins."""

    def successors(self, state: State) -> Iterator[tuple[Action, State]]:
        """Everything that can happen next. Raises Violation where a replica would do what must never happen."""

    def check(self, state: State) -> None:
        """Raises Violation when this state must not be."""

    def tell(self, action: Action) -> str:
        """The action as a sentence."""

    def weight(self, action: Action) -> float:
        """How often a walk should choose it."""


class Found(NamedTuple):
    """What a search came to. `open`: states not looked at; 0: the model is exhausted; -1: walked. `depth`: the longest story."""

    states: int
    open: int
    depth: int
    seconds: float
    violation: str
    story: list[str]

    def __str__(self) -> str:
        if self.violation:
            counted = "steps" if self.open < 0 else "states"
            return f"VIOLATION after {self.states:,} {counted}, {self.seconds:.1f} s: {self.violation}"
        if self.open < 0:
            return f"clean: {self.states:,} steps, walks of up to {self.depth}, {self.seconds:.1f} s"
        end = f"stopped, {self.open:,} states open" if self.open else "exhausted"
        return f"clean, {end}: {self.states:,} states, stories of up to {self.depth} steps, {self.seconds:.1f} s"


Progress = Callable[[int, int, int, float], None]  # states, open, depth, seconds


def breadth_first(model: Model, seconds: float, progress: Progress | None = None) -> Found:
    """Every state that can be reached, nearest first, until `seconds` are over."""
    first = model.initial()
    hashes, parents = array("q", [hash(first)]), array("q", [-1])
    seen = {hash(first)}
    todo = deque([(0, 0, first)])
    began = time.monotonic()

    def found(violation: str, at: int) -> Found:
        story = _replay(model, hashes, parents, at) if violation else []
        return Found(len(hashes), len(todo), depth, time.monotonic() - began, violation, story)

    depth = looked = 0
    while todo:
        number, depth, state = todo.popleft()
        try:
            for _, after in model.successors(state):
                key = hash(after)
                if key in seen:
                    continue
                seen.add(key)
                hashes.append(key)
                parents.append(number)
                todo.append((len(hashes) - 1, depth + 1, after))
                if (broken := _broken(model, after)) is not None:
                    return found(broken, len(hashes) - 1)
        except Violation as violation:
            return found(str(violation), number)
        looked += 1
        if looked % LOOK == 0:
            spent = time.monotonic() - began
            if progress is not None:
                progress(len(hashes), len(todo), depth, spent)
            if spent > seconds:
                break
    return found("", 0)


def _broken(model: Model, state: State) -> str | None:
    try:
        model.check(state)
    except Violation as violation:
        return str(violation)
    return None


def _replay(model: Model, hashes: array[int], parents: array[int], at: int) -> list[str]:
    """The story that leads to state number `at`."""
    path = []
    while at > 0:
        path.append(hashes[at])
        at = parents[at]
    state, story = model.initial(), []
    for key in reversed(path):
        for action, after in model.successors(state):
            if hash(after) == key:
                story.append(model.tell(action))
                state = after
                break
        else:
            raise AssertionError("a state cannot be reached again: the model is not a function of its state")
    return story


def walk(model: Model, seed: int, steps: int, seconds: float, progress: Progress | None = None, opening: Sequence[Action] = ()) -> Found:
    """Walks from the end of the opening until `steps` are taken or `seconds` are over. `states` counts steps, without the opening's."""
    dice = random.Random(seed)
    began = time.monotonic()
    first, before = opened(model, opening)
    taken = walks = most = 0
    while taken < steps and time.monotonic() - began < seconds:
        state, actions = first, list(before)
        walks += 1
        try:
            for _ in range(LONGEST):
                ways = [(action, after) for action, after in model.successors(state) if after != state]
                ways.sort(key=lambda way: way[0])  # sets have no order of their own, and it changes with PYTHONHASHSEED
                for (one, to), (other, elsewhere) in pairwise(ways):
                    assert one != other or to == elsewhere, f"{one} leads to two states: a seed would not walk the same way again"
                if not ways:
                    break
                action, state = dice.choices(ways, [model.weight(action) for action, _ in ways])[0]
                actions.append(action)
                taken += 1
                model.check(state)
        except Violation as violation:
            spent = time.monotonic() - began
            actions, why = shortened(model, actions, str(violation))
            return Found(taken, -1, len(actions), spent, why, [model.tell(a) for a in actions])
        most = max(most, len(actions))
        if progress is not None and walks % 100 == 0:
            progress(taken, -1, most, time.monotonic() - began)
    return Found(taken, -1, most, time.monotonic() - began, "", [])


def opened(model: Model, opening: Sequence[Action]) -> tuple[State, list[Action]]:
    """Where these actions lead, each given by its beginning: of several the first in order is taken."""
    state, actions = model.initial(), list[Action]()
    for given in opening:
        action, state = min((way for way in model.successors(state) if way[0][: len(given)] == given), key=lambda way: way[0])
        actions.append(action)
        model.check(state)
    return state, actions


def shortened(model: Model, actions: list[Action], why: str) -> tuple[list[Action], str]:
    """The same kind of find without the actions it does not need: runs of them are left out as long as something is still found."""
    size = len(actions) // 2
    while size:
        at = 0
        while at < len(actions):
            fewer = _played(model, actions[:at] + actions[at + size :])
            if fewer is None:
                at += size
            else:
                actions, why = fewer
        size //= 2
    return actions, why


def _played(model: Model, actions: list[Action]) -> tuple[list[Action], str] | None:
    """What comes of these actions, those that are not possible left out; None: nothing bad."""
    state, done = model.initial(), list[Action]()
    for action in actions:
        try:
            for possible, after in model.successors(state):
                if possible == action:
                    done.append(action)
                    state = after
                    model.check(after)
                    break
        except Violation as violation:
            return done, str(violation)
    return None
