"""The history: pages of conversations from message files and memory, against a plain list of all messages ever sent."""

from __future__ import annotations

import random
import unittest
from collections import deque
from collections.abc import Callable
from typing import Any
from unittest import mock

import history
import snapshots
from batches import Batch
from history import Archive, Found, Gap, Page, find
from people import Written
from snapshot_worker import Maker, rows_through_csv
from snapshots import SnapshotDamaged
from state import ChatState
from tests.snapshot_places import CLUSTER, Case, Place, damage, some_doings


class WatchedPlace(Place):
    """A replica's directory whose state is at hand, and every message ever sent."""

    def __init__(self, base: str) -> None:
        self.state = ChatState()
        self.ever: list[Written] = []
        super().__init__(base)

    def put(self, body: bytes) -> None:
        super().put(body)
        batch = self.journal.last
        assert isinstance(batch, Batch)
        kept, self.state.history = self.state.history, []
        self.state.apply(batch.first_op, batch.count, batch.time, batch.body)
        self.ever += self.state.history
        kept.extend(self.state.history)
        self.state.history = kept


def plainly(ever: list[Written], page: Page) -> list[Written]:
    """What `find` must find, but for the limit."""
    pairs = [(page.me, page.whom), (page.whom, page.me)]
    return [m for m in ever if page.since < m[0] < page.before and (m[2], m[3]) in pairs]


class PagesTest(Case):
    def setUp(self) -> None:
        super().setUp()
        self.place_ = WatchedPlace(f"{self.base}/host")
        self.addCleanup(self.place_.close)
        self.maker = Maker(self.place_.disk, rows_through_csv)

    def find(self, page: Page) -> Found:
        return find(self.place_.disk, self.place_.snapshots, CLUSTER, page, list(self.place_.state.history))

    def mail(self, *texts: str) -> None:
        """mason to wayne."""
        if not self.place_.requests:
            self.place_.open(1)
            self.place_.say(1, "C|mason", "C|wayne", "L|mason123")
        self.place_.say(1, *(f"S|wayne|{text}" for text in texts))

    def test_pages_are_what_a_plain_list_says(self) -> None:
        """Small files, little memory, snapshots now and then, names and texts full of quotes."""
        self.with_small_files()
        dice = random.Random(7)
        place, gaps, found = self.place_, 0, 0
        place.state.history = deque(maxlen=12)
        for _ in range(25):
            some_doings(place, dice, 6)
            if dice.random() < 0.5:
                place.make(self.maker)
            names = sorted({name for m in place.ever for name in m[2:4]} | {"nobody"})
            end = len(place.ever) + 1
            for _ in range(30):
                page = Page(dice.choice(names), dice.choice(names), dice.randrange(end), dice.randrange(1, end + 1), dice.randrange(1, 9))
                wanted = plainly(place.ever, page)
                try:
                    page_found = self.find(page)
                except Gap:
                    gaps += 1
                    continue
                self.assertEqual(page_found.messages, wanted[-page.limit :], page)
                self.assertEqual(page_found.older, wanted[-page.limit][0] if len(wanted) > page.limit else 0, page)
                found += len(page_found.messages)
        self.assertGreater(gaps, 10)
        self.assertGreater(found, 100)

    def test_page_by_page_to_the_beginning(self) -> None:
        """A page reads so many files at most, and says where to go on, even when it has found nothing."""
        self.with_small_files()
        self.mail(*"abc")
        self.place_.say(1, *(f"S|mason|{n}" for n in range(50)))
        self.place_.make(self.maker)
        self.place_.state.history.clear()
        with mock.patch.object(history, "FILES_AT_ONCE", 3):
            before, said, pages = 54, list[str](), 0
            while before:
                page = self.find(Page("mason", "wayne", 0, before, 2))
                said, before, pages = [m[4] for m in page.messages] + said, page.older, pages + 1
        self.assertEqual((said, pages), (list("abc"), 5))

    def test_an_account_has_no_history_before_itself(self) -> None:
        """However the messages of an earlier account of its name are spread over memory and files."""
        self.mail("one", "two", "three")
        for _ in range(2):
            self.assertEqual([m[4] for m in self.find(Page("wayne", "mason", 2, 4, 9)).messages], ["three"])
            self.place_.make(self.maker)
            self.place_.state.history.clear()

    def test_what_looks_like_a_row_is_none(self) -> None:
        self.mail('"9","9","mason","mason","x"', '","mason","mason","', '""9"",""mason"",""mason"",""', "7,mason,mason,")
        self.place_.make(self.maker)
        self.place_.state.history.clear()
        self.assertEqual(self.find(Page("mason", "mason", 0, 5, 9)), Found([], 0))
        self.assertEqual(len(self.find(Page("mason", "wayne", 0, 5, 9)).messages), 4)

    def test_large_texts_make_small_pages(self) -> None:
        self.mail(*(f"{n}" + "ä" * 30_000 for n in range(9)))
        for _ in range(2):
            page = self.find(Page("wayne", "mason", 0, 10, 100))
            self.assertEqual(([m[4][0] for m in page.messages], page.older), (list("5678"), 6))
            self.place_.make(self.maker)
            self.place_.state.history.clear()

    def test_no_row_counts_before_its_file_is_verified(self) -> None:
        self.mail("hello")
        path = self.place_.make(self.maker)
        self.place_.state.history.clear()
        damage(f"{path}/messages-000001.csv", -4)
        with self.assertRaisesRegex(SnapshotDamaged, "messages-000001.csv is damaged"):
            self.find(Page("mason", "wayne", 0, 2, 9))

    def test_a_snapshot_that_is_set_aside_while_it_is_read(self) -> None:
        self.mail("one")
        self.place_.make(self.maker)
        self.place_.state.history.clear()
        page, verified = Page("mason", "wayne", 0, 2, 9), snapshots.verified
        for times, outcome in ((1, ["one"]), (9, Gap)):
            left = iter(range(times))

            def late(disk: Any, path: str, *args: Any, left: Any = left, **more: Any) -> Any:
                if next(left, None) is not None:
                    for _ in range(2):
                        self.mail("more")
                        self.place_.make(self.maker)
                    snapshots.remove(disk, self.place_.snapshots, (snapshots.GONE,))
                return verified(disk, path, *args, **more)

            with self.subTest(times=times), mock.patch.object(history, "verified", late):
                if outcome is Gap:
                    self.assertRaises(Gap, self.find, page)
                else:
                    self.assertEqual([m[4] for m in self.find(page).messages], outcome)


class ArchiveTest(Case):
    def setUp(self) -> None:
        super().setUp()
        self.place_ = WatchedPlace(f"{self.base}/host")
        self.addCleanup(self.place_.close)
        self.aside: list[tuple[float, Callable[[], Any], Callable[[Any], None]]] = []
        self.wanted = 0
        self.reports: list[str] = []
        self.answers: list[tuple[str, list[str] | None]] = []
        self.archive = Archive(self.place_.disk, self.place_.snapshots, CLUSTER, read=self.read, want=self.want, report=self.reports.append)
        self.archive.state = self.place_.state
        self.place_.open(1)
        self.place_.say(1, "C|mason", "S|mason|one", "S|mason|two", "S|mason|three")

    def read(self, after: float, job: Callable[[], Any], done: Callable[[Any], None]) -> None:
        self.aside.append((after, job, done))

    def want(self) -> None:
        self.wanted += 1

    def ask(self, name: str, before: int = 4) -> None:
        def done(found: Found | None) -> None:
            self.answers.append((name, [m[4] for m in found.messages] if found else None))

        self.archive.ask(Page("mason", "mason", 0, before, 9), done)

    def do(self) -> float:
        """What is to be done aside; there is never more than one thing."""
        ((after, job, done),) = self.aside
        self.aside.clear()
        done(job())
        return after

    def test_in_turn(self) -> None:
        self.ask("first")
        self.ask("second", 3)
        self.do()
        self.do()
        self.assertEqual(self.answers, [("first", ["one", "two", "three"]), ("second", ["one", "two"])])
        self.assertEqual(self.aside, [])

    def test_what_is_written_leaves_memory(self) -> None:
        self.place_.make(Maker(self.place_.disk, rows_through_csv))
        self.archive.let_go(2)
        self.assertEqual([m[0] for m in self.place_.state.history], [3])
        self.ask("all")
        self.do()
        self.assertEqual(self.answers, [("all", ["one", "two", "three"])])

    def test_long_messages_leave_memory_by_their_bytes(self) -> None:
        state = self.place_.state
        kept = history.MARKS + 1  # a mark comes after each, and the oldest goes with what stands before it
        for number in range(4, 2 * history.MARKS):
            self.place_.say(1, "S|mason|long")
            self.archive.note_applied(history.MARK_BYTES - number % 2)
            self.archive.note_applied(number % 2)
        self.assertEqual(state.history[-1][0], state.message_count)
        self.assertEqual([m[0] for m in state.history], list(range(state.message_count - kept + 2, state.message_count + 1)))

    def test_a_gap_is_waited_for(self) -> None:
        del self.place_.state.history[0]
        self.ask("first")
        self.assertEqual((self.do(), self.wanted, self.answers), (0.0, 1, []))
        self.assertEqual((self.do(), self.wanted, self.answers), (history.WAIT_S, 2, []))
        self.place_.make(Maker(self.place_.disk, rows_through_csv))
        self.do()
        self.assertEqual((self.answers, self.reports), ([("first", ["one", "two", "three"])], []))

    def test_a_gap_is_not_waited_for_for_ever(self) -> None:
        del self.place_.state.history[0]
        self.ask("first")
        self.ask("second", 1)
        for _ in range(history.WAITS_MAX + 1):
            self.do()
        self.assertEqual((self.answers, self.reports), ([("first", None)], ["the history has a gap: no snapshot is made"]))
        self.assertEqual((self.do(), self.archive.waits), (0.0, 0))
        self.assertEqual(self.answers[-1], ("second", []))

    def test_damage_is_told(self) -> None:
        path = self.place_.make(Maker(self.place_.disk, rows_through_csv))
        self.place_.state.history.clear()
        damage(f"{path}/messages-000001.csv", 40)
        self.ask("first")
        self.do()
        self.assertEqual(self.answers, [("first", None)])
        self.assertRegex(self.reports[0], "the history cannot be read: messages-000001.csv is damaged")


if __name__ == "__main__":
    unittest.main()
