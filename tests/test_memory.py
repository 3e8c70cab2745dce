"""What one client leaves for the next: who may take it, and what becomes of damage."""

from __future__ import annotations

import json
import os
import stat
import tempfile
import time
import unittest
from typing import Any
from unittest import mock

import memory
from guest import Guest

KEY = "00112233445566778899aabbccddeeff"
LEFT: dict[str, Any] = {
    "session": KEY,
    "account": "mason",
    "count": 3,
    "pending": {"3": "3|wayne|hi"},
    "mail": {"mason": [4, 14, 15, 1500]},
    "ports": ["6666", "6667"],
}


class MemoryTest(unittest.TestCase):
    def setUp(self) -> None:
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.path = os.path.join(place.name, "state", "understudy")
        self.held: list[memory.Memory] = []

    def tearDown(self) -> None:
        for one in self.held:
            if one.fd >= 0:
                one.close()

    def claim(self, *ports: str, within: float = memory.LIFE) -> tuple[memory.Memory, Guest | None, dict[str, Any]]:
        file, guest, marks = memory.claim(self.path, ports or ("6667",), resume_within=within)
        assert file
        self.held.append(file)
        return file, guest, marks

    def leave(self, left: object = LEFT, *, age: float = 0.0) -> str:
        """As a client that crashed does."""
        file, _, _ = self.claim(within=-1)
        file.save(left)  # type: ignore[arg-type]
        os.utime(file.path, (time.time() - age,) * 2)
        file.close()
        return file.path

    def files(self) -> list[str]:
        return sorted(os.listdir(self.path))

    def test_only_the_owner_may_read(self) -> None:
        file, _, _ = self.claim()
        self.assertEqual(stat.S_IMODE(os.stat(file.path).st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o700)

    def test_a_client_that_ends_in_good_order_leaves_nothing(self) -> None:
        file, _, _ = self.claim()
        file.save(LEFT)
        file.remove()
        self.assertEqual(self.files(), [])

    def test_what_a_crash_left_is_taken_up(self) -> None:
        path = self.leave()
        file, guest, marks = self.claim()
        assert guest
        self.assertEqual((file.path, guest.session, guest.account, guest.pending), (path, KEY, "mason", {3: "3|wayne|hi"}))
        self.assertEqual((marks["mason"].again_id, marks["mason"].again_time), (15, 1500))
        self.assertEqual(self.files(), ["session-00"])

    def test_two_clients_never_share_a_session(self) -> None:
        self.leave()
        first, guest, _ = self.claim()
        second, other, marks = self.claim()
        self.assertIsNotNone(guest)
        self.assertIsNone(other)
        self.assertNotEqual(first.path, second.path)
        self.assertEqual(marks, {})

    def test_a_new_session_leaves_the_old_one_to_others_but_knows_its_marks(self) -> None:
        self.leave()
        _, guest, marks = self.claim(within=-1)
        self.assertIsNone(guest)
        self.assertEqual(marks["mason"].again_id, 15)
        self.assertIsNotNone(self.claim()[1])

    def test_an_old_session_is_not_taken_up_unasked(self) -> None:
        self.leave(age=2 * memory.RECENT)
        self.assertIsNone(self.claim(within=memory.RECENT)[1])
        self.assertIsNotNone(self.claim()[1])

    def test_the_newest_is_taken_first(self) -> None:
        self.leave({**LEFT, "account": "old"}, age=50)
        held = self.claim(within=-1)[0]
        held.save({**LEFT, "account": "new"})
        held.close()
        guest = self.claim()[1]
        assert guest
        self.assertEqual(guest.account, "new")

    def test_a_session_of_another_cluster_is_left_alone(self) -> None:
        self.leave()
        _, guest, marks = self.claim("7777")
        self.assertEqual((guest, marks), (None, {}))

    def test_what_cannot_be_read_is_nothing(self) -> None:
        damage: tuple[object, ...] = (
            [],
            {},
            {**LEFT, "ports": 7},
            {**LEFT, "session": ""},
            {**LEFT, "session": 7},
            {**LEFT, "pending": []},
            {**LEFT, "mail": {"a": 1}},
            {**LEFT, "mail": None},
        )
        for broken in damage:
            self.leave(broken)
            file, guest, _ = self.claim()
            self.assertIsNone(guest, broken)
            file.remove()
            for name in self.files():
                os.unlink(os.path.join(self.path, name))
        path = self.leave()
        for words in (b"\x00\xff", b'{"session"', b"[" * 100_000, b'{"session": 1}\x00'):
            with open(path, "wb") as file_:
                file_.write(words)
            file, guest, _ = self.claim()
            self.assertIsNone(guest, words[:20])
            file.close()

    def test_a_line_that_was_longer_before_leaves_no_trace(self) -> None:
        file, _, _ = self.claim()
        file.save({**LEFT, "account": "x" * 1000})
        os.pwrite(file.fd, json.dumps(LEFT).encode() + b"\n", 0)  # killed before the rest was cut off
        file.close()
        guest = self.claim()[1]
        assert guest
        self.assertEqual(guest.account, "mason")

    def test_after_a_week_it_is_forgotten(self) -> None:
        self.leave(age=memory.LIFE + 60)
        self.assertIsNone(self.claim()[1])

    def test_more_clients_than_files_go_without(self) -> None:
        for _ in range(memory.SLOTS):
            self.claim(within=-1)
        self.assertEqual(memory.claim(self.path, ["6667"], resume_within=memory.LIFE), (None, None, {}))

    def test_when_all_files_are_left_the_oldest_is_used_again(self) -> None:
        held = [self.claim(within=-1)[0] for _ in range(memory.SLOTS)]
        for age, file in enumerate(held):
            file.save(LEFT)
            os.utime(file.path, (time.time() - age,) * 2)
            file.close()
        self.assertEqual(self.claim(within=-1)[0].path, held[-1].path)

    def test_a_link_planted_in_the_way_is_not_followed(self) -> None:
        self.claim()[0].remove()
        os.symlink("victim", os.path.join(self.path, "session-00"))
        file, _, _ = self.claim()
        self.assertTrue(file.path.endswith("session-01"))
        self.assertFalse(os.path.exists(os.path.join(self.path, "victim")))

    def test_a_full_disk_costs_the_memory_only(self) -> None:
        file, _, _ = self.claim()
        with mock.patch("os.pwrite", side_effect=OSError(28, "No space left on device")):
            file.save(LEFT)

    def test_what_is_saved_after_the_end_goes_nowhere(self) -> None:
        file, _, _ = self.claim()
        file.remove()
        file.save(LEFT)
        self.assertEqual(self.files(), [])

    def test_the_history_is_private_and_bounded(self) -> None:
        with mock.patch.dict(os.environ, {"XDG_STATE_HOME": os.path.dirname(self.path)}):
            os.makedirs(self.path)
            path = memory.history()
            self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)
            with open(path, "wb") as file:
                file.write(b"x" * (memory.HISTORY_MAX + 1))
            self.assertEqual(os.stat(memory.history()).st_size, 0)

    def test_the_place_is_that_of_the_system(self) -> None:
        with mock.patch.dict(os.environ, {"XDG_STATE_HOME": "", "HOME": "/home/mason"}):
            self.assertEqual(memory.directory(), "/home/mason/.local/state/understudy")


if __name__ == "__main__":
    unittest.main()
