"""The models of the view protocol: clean within small bounds, and every planted bug is found. What the models found stays here as a story.

Larger bounds: `python scripts/model_check.py`; what they came to: docs/model.md.
"""

from __future__ import annotations

import unittest
from typing import Any

from batches import NO_HASH
from events import Linked, Received
from packets import Member, Recovery
from tests.cores import World
from tests.model.explore import Found, breadth_first, walk
from tests.model.majority import MAJORITY_BOUNDS, MAJORITY_BUGS, MAJORITY_FIRST, MAJORITY_SMALL, NORMAL, MajorityModel, opening_of
from tests.model.survivor import BUGS, SurvivorModel
from tests.model.walk import WALK_BOUNDS, WALK_BUGS, WALK_SPOILED, WalkModel

SECONDS = 60.0  # a search that takes longer has failed; all of them together take a few
STEPS = 16_000  # of a walk


class Searches(unittest.TestCase):
    def assert_clean(self, found: Found) -> None:
        self.assertFalse(found.violation, "\n".join([found.violation, *found.story]))
        self.assertLessEqual(found.open, 0, str(found))

    def assert_found(self, bug: str, found: Found) -> None:
        self.assertTrue(found.violation, f"{bug}: {found}")
        self.assertTrue(found.story)


class SurvivorModelTest(Searches):
    def test_nothing_is_lost_within_small_bounds(self) -> None:
        for bounds in ((1, 1, 1, 2), (2, 1, 0, 2), (1, 0, 0, 3), (1, 1, 1, 2, 1)):
            with self.subTest(bounds):
                self.assert_clean(breadth_first(SurvivorModel(*bounds), SECONDS))

    def test_a_batch_is_committed_at_all(self) -> None:
        class Model(SurvivorModel):
            def check(self, state: object) -> None:
                assert getattr(state, "acked", "") != "xy"

        with self.assertRaises(AssertionError):
            breadth_first(Model(2, 0, 0, 1), SECONDS)

    def test_every_planted_bug_is_found(self) -> None:
        for bug, (bounds, _) in BUGS.items():
            with self.subTest(bug):
                self.assert_found(bug, breadth_first(SurvivorModel(*bounds, bug=bug), SECONDS))

    def test_a_find_comes_as_a_story(self) -> None:
        found = breadth_first(SurvivorModel(1, 0, 0, 2, bug="majority_commits"), SECONDS)
        self.assertEqual(found.story[0], "primary 0 sends batch x")
        self.assertEqual(found.story[-1], "primary 0 commits and acknowledges 'x'")


class WalkModelTest(Searches):
    def test_walks_find_nothing(self) -> None:
        for bounds in (WALK_BOUNDS, WALK_SPOILED):
            self.assert_clean(walk(WalkModel(*bounds), 1, STEPS, SECONDS))

    def test_every_planted_bug_is_found(self) -> None:
        for bug, (bounds, seed, _) in WALK_BUGS.items():
            with self.subTest(bug):
                self.assert_found(bug, walk(WalkModel(*bounds, bug=bug), seed, STEPS, SECONDS))

    def test_a_seed_walks_the_same_way_twice(self) -> None:
        found = [walk(WalkModel(*WALK_BOUNDS, bug="older_state"), 1, STEPS, SECONDS) for _ in range(2)]
        self.assertEqual(found[0].story, found[1].story)


class MajorityModelTest(Searches):
    def test_nothing_is_lost_within_small_bounds(self) -> None:
        for bounds in MAJORITY_SMALL:
            with self.subTest(bounds):
                self.assert_clean(breadth_first(MajorityModel(*bounds), SECONDS))

    def test_walks_find_nothing(self) -> None:
        for bounds in (MAJORITY_BOUNDS, MAJORITY_FIRST):
            with self.subTest(bounds):
                self.assert_clean(walk(MajorityModel(*bounds), 1, STEPS, SECONDS))

    def test_what_is_modelled_happens(self) -> None:
        """A lost disk votes again, and a batch that waited for it is committed."""

        class Happened(Exception):
            pass

        class Model(MajorityModel):
            def check(self, state: Any) -> None:
                super().check(state)
                spoiled = state.replicas[2]
                was_lost = spoiled.inc == 2 and state.left[1:] == (0, 0)  # the one crash there was
                if was_lost and spoiled.up and spoiled.status == NORMAL and state.acked == spoiled.log == "xy" and spoiled.taken_view:
                    raise Happened

        with self.assertRaises(Happened):
            walk(Model(2, 1, 4, 1), 1, 1_000_000, SECONDS)

    def test_every_planted_bug_is_found(self) -> None:
        for bug, (bounds, _, _) in MAJORITY_BUGS.items():
            with self.subTest(bug):
                self.assert_found(bug, walk(MajorityModel(*bounds, bug=bug), 1, STEPS, SECONDS, None, opening_of(bug)))

    def test_an_opening_breaks_nothing_by_itself(self) -> None:
        for bug, (bounds, opening, _) in MAJORITY_BUGS.items():
            if opening and bug != "reads_early":  # its first action is the bug
                with self.subTest(bug):
                    self.assert_clean(walk(MajorityModel(*bounds), 1, 500, SECONDS, None, opening_of(bug)))


class FoundByTheModel(unittest.TestCase):
    """Stories of real cores."""

    def test_word_of_a_replica_that_has_not_read_the_newest_view_does_not_restart_the_cluster(self) -> None:
        """stale_eligible: it stood in view 1, calls itself eligible by that, and lacks what view 2 acknowledged."""
        world = World()
        world.start()
        world.run(0.5)
        world.kill(2)
        world.run(0.1)
        self.assertEqual(world.members(), (0, 1))
        world.say(0, b"x")
        world.run(0.1)
        world.kill(0, 1)
        world.start(1)
        stale = Member(2, 9999)
        world.feed(1, Linked(stale))
        for _ in range(10):
            view = world.register[-1].number
            if view == 2:
                world.feed(1, Received(stale, Recovery(1, stale.inc, 1, 0, NO_HASH, True, False)))
            world.run(0.3)
        self.assertEqual(world.register[2].members, (Member(1, world.incs[1]),))


if __name__ == "__main__":
    unittest.main()
