"""The blind checker: it must find every order there is, and find none where there is none."""

from __future__ import annotations

import itertools
import random
import unittest
from collections.abc import Iterator
from typing import Any

from tests.simulator.blind import Displayed, Seen, judge
from tests.simulator.linearizability import ILLEGAL, OK, UNDECIDED, Operation, check


def register_step(state: int, asked: tuple[str, int], outcome: int | None) -> Iterator[int]:
    """One cell that can be written and read."""
    kind, value = asked
    if kind == "write":
        yield value
    elif outcome is None or outcome == state:
        yield state


def by_force(operations: list[Operation]) -> bool:
    """Every order of every choice of the unknown ones."""
    unknown = [i for i, o in enumerate(operations) if o.returned is None]
    sure = [i for i, o in enumerate(operations) if o.returned is not None]
    for count in range(len(unknown) + 1):
        for some in itertools.combinations(unknown, count):
            if any(_is_legal([operations[i] for i in order]) for order in itertools.permutations([*sure, *some])):
                return True
    return False


def _is_legal(order: list[Operation]) -> bool:
    state = 0
    for at, one in enumerate(order):
        if any(later.returned is not None and later.returned < one.called for later in order[at + 1 :]):
            return False
        following = list(register_step(state, one.asked, one.outcome))
        if not following:
            return False
        state = following[0]
    return True


class Search(unittest.TestCase):
    def test_it_agrees_with_brute_force(self) -> None:
        dice, found = random.Random(5), {OK: 0, ILLEGAL: 0}
        for _ in range(400):
            operations = []
            for _ in range(dice.randint(1, 5)):
                called = dice.randrange(10)
                is_write, is_unknown = dice.random() < 0.5, dice.random() < 0.2
                asked = ("write" if is_write else "read", dice.randrange(3))
                outcome = None if is_write or is_unknown else dice.randrange(3)
                operations.append(Operation(called, None if is_unknown else called + dice.randrange(1, 6), asked, outcome))
            result = check(operations, 0, register_step).result
            self.assertEqual(result == OK, by_force(operations), operations)
            self.assertEqual(check(operations, 0, register_step, is_look=lambda o: o.asked[0] == "read").result, result, operations)
            found[result] += 1
        self.assertGreater(min(found.values()), 50, "both kinds must have come up")

    def test_looks_at_the_same_time_cost_no_more_than_one_after_the_other(self) -> None:
        """Twenty of them have 2^20 orders, and none helps: the last look shows what was never written."""
        looks = [Operation(2, 9, ("read", 0), 1) for _ in range(20)]
        operations = [Operation(0, 1, ("write", 1), None), *looks, Operation(2, 9, ("read", 0), 2)]
        self.assertEqual(check(operations, 0, register_step, tries=1000).result, UNDECIDED)
        self.assertEqual(check(operations, 0, register_step, tries=1000, is_look=lambda o: o.asked[0] == "read").result, ILLEGAL)

    def test_what_it_cannot_decide_in_time_it_does_not_call_good(self) -> None:
        self.assertEqual(check([Operation(0, 1, ("write", 1), None)] * 3, 0, register_step, tries=2).result, UNDECIDED)


class Chat(unittest.TestCase):
    """A short day of two accounts, then one thing after the other made wrong."""

    def setUp(self) -> None:
        self.history = [
            Seen("a", 0, 1, "1|a", ("ok",)),
            Seen("b", 0, 1, "1|b", ("ok",)),
            Seen("a", 2, 3, "3|b|one", ("ok",)),
            Seen("a", 4, 5, "3|b|two", ("ok",)),
            Seen("a", 6, 7, "3|b|three", ("ok",)),
            Seen("b", 8, 9, "4|b123", ("read", "two", "three")),
            Seen("a", 10, 11, "2", ("list", "a", "b")),
            Seen("a", 12, None, "3|b|four", ()),
            Seen("b", 13, 14, "5|b123", ("ok",)),
            Seen("a", 15, 16, "2", ("list", "a")),
            Seen("a", 17, 18, "3|b|five", ("absent",)),
        ]
        self.displays = [
            Displayed("b", 5.5, "one", pushed=True),
            Displayed("b", 9, "two", pushed=False),
            Displayed("b", 9, "three", pushed=False),
        ]

    def change(self, at: int, **to: Any) -> list[Seen]:
        return [seen._replace(**to) if i == at else seen for i, seen in enumerate(self.history)]

    def assert_illegal(self, history: list[Seen], displays: list[Displayed] | None = None) -> None:
        self.assertIn("no order explains", judge(history, self.displays if displays is None else displays)[2])

    def test_the_day_as_it_was(self) -> None:
        self.assertEqual(judge(self.history, self.displays), (3, 1 + 9 + 5, ""))

    def test_a_message_that_was_acknowledged_and_never_shown(self) -> None:
        self.assert_illegal(self.change(5, outcome=("read", "three")), [self.displays[0], self.displays[2]])

    def test_a_message_that_was_never_sent(self) -> None:
        self.assert_illegal(self.history, [Displayed("b", 5.5, "zero", pushed=True), *self.displays])

    def test_a_message_shown_twice(self) -> None:
        self.assert_illegal(self.change(5, outcome=("read", "one", "two", "three")))
        self.assert_illegal(self.history, [self.displays[0], self.displays[0]._replace(when=7), *self.displays[1:]])

    def test_a_message_shown_before_it_was_sent(self) -> None:
        self.assert_illegal(self.history, [self.displays[0]._replace(when=1.5), *self.displays[1:]])

    def test_messages_shown_in_another_order_than_they_were_sent(self) -> None:
        swapped = [self.displays[0], self.displays[2], self.displays[1]]
        self.assert_illegal(self.change(5, outcome=("read", "three", "two")), swapped)

    def test_a_refusal_that_was_not_true(self) -> None:
        self.assert_illegal(self.change(3, outcome=("absent",)))

    def test_a_message_to_nobody_that_was_accepted(self) -> None:
        self.assert_illegal(self.change(10, outcome=("ok",)))

    def test_an_account_made_twice(self) -> None:
        self.assert_illegal([*self.history, Seen("a", 19, 20, "1|a", ("ok",))])

    def test_an_account_deleted_while_something_waits(self) -> None:
        self.assert_illegal([*self.history[:5], Seen("b", 8, 9, "5|b123", ("ok",))], self.displays[:1])

    def test_an_account_not_deleted_though_nothing_waits(self) -> None:
        self.assert_illegal(self.change(8, outcome=("not empty",)))

    def test_an_older_list(self) -> None:
        self.assert_illegal(self.change(9, outcome=("list", "a", "b")))
        self.assert_illegal(self.change(6, outcome=("list", "a")))

    def test_a_list_in_another_order_of_creation(self) -> None:
        late = self.change(1, called=1.5, returned=1.6)
        self.assertEqual(judge(late, self.displays)[2], "")
        self.assert_illegal([s._replace(outcome=("list", "b", "a")) if i == 6 else s for i, s in enumerate(late)])

    def test_who_was_never_answered_may_have_been_heard_or_not(self) -> None:
        heard = Displayed("b", 12.5, "four", pushed=True)
        self.assertEqual(judge(self.history, [*self.displays, heard])[2], "")
        self.assert_illegal(self.history, [*self.displays, heard._replace(when=11.5)])


if __name__ == "__main__":
    unittest.main()
