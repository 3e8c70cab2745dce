"""The room's half of memory: one order of joins, lines and leaves; names; who stays and who goes."""

from __future__ import annotations

import unittest
from unittest import mock

import room
from commands import SESSION_LIFE_US, TEXT_MAX, Refusal
from room import LINES_MAX, ROOM, STAY_US
from tests.test_state import A, B, C, Chat, check


class RoomTest(unittest.TestCase):
    def setUp(self) -> None:
        self.chat = Chat()
        for key, home in ((A, "0.7.1"), (B, "1.8.1")):
            self.chat.open(key, home)
        self.chat.open(C, "2.9.1", "plain")

    def tearDown(self) -> None:
        check(self.chat.state)

    def said(self) -> list[tuple[str, str]]:
        return [(sender, text) for _, _, _, sender, text in self.chat.state.room.lines]

    def test_a_conversation(self) -> None:
        chat = self.chat
        self.assertEqual(chat.do(A, "G|albert"), "g|albert|1")
        self.assertEqual(chat.do(B, "G|tesla", "V|hello | there", "U"), ["g|tesla|2", "v", "u"])
        self.assertEqual(
            self.said(),
            [
                ("Server", "albert joined the conversation "),
                ("Server", "tesla joined the conversation "),
                ("tesla", "hello | there"),
                ("Server", "tesla left the conversation"),
            ],
        )
        history = [(number, sender, recipient) for number, _, sender, recipient, _ in chat.state.history]
        self.assertEqual(history, [(1, "Server", ROOM), (2, "Server", ROOM), (3, "tesla", ROOM), (4, "Server", ROOM)])
        self.assertEqual([seq for seq, *_ in chat.state.undelivered(ROOM, 0, 1)], [2, 3, 4])
        self.assertEqual([list(chat.state.undelivered(ROOM, 0, n)) for n in (4, 9)], [[], []])

    def test_names(self) -> None:
        chat = self.chat
        chat.do(B, "C|open")
        chat.do(C, "C|Closed|hash")
        for name in ("closed", "Closed123", "server", "Server"):
            self.assertEqual(chat.do(A, f"G|{name}"), Refusal.NAME_TAKEN, name)
        for name in ("", "a b", "a|b", "a,b", "x" * 33, "a\u202eb"):
            self.assertEqual(chat.do(A, f"G|{name}"), Refusal.INVALID, name)
        self.assertEqual(chat.do(A, "G|open"), "g|open|1", "an open account keeps nobody out")
        self.assertEqual(chat.do(A, "G|other"), Refusal.NAME_TAKEN, "one name a guest")
        self.assertEqual(chat.do(C, "G|OPEN"), Refusal.NAME_TAKEN, "two that look alike")
        self.assertEqual(chat.do(B, "S|open|to the account")[0], "p", "not to the guest of the room")
        self.assertNotIn("albert", chat.state.accounts)

    def test_who_is_not_in_it_says_nothing(self) -> None:
        self.assertEqual(self.chat.do(A, "V|hello", "U"), [Refusal.NOT_LOGGED_IN] * 2)
        self.chat.do(A, "G|albert")
        self.assertEqual(self.chat.do(A, "V|", "V|" + "x" * TEXT_MAX, "V|" + "é" * TEXT_MAX), [Refusal.INVALID, "v", Refusal.INVALID])

    def test_it_is_full(self) -> None:
        self.chat.do(A, "G|albert")
        with mock.patch.object(room, "MEMBERS_MAX", 1):
            self.assertEqual(self.chat.do(B, "G|tesla"), Refusal.ROOM_FULL)

    def test_a_plain_guest_goes_with_its_connection(self) -> None:
        self.chat.do(C, "G|plain")
        out = self.chat.system(f"close|{C.hex()}|2.9.1")
        self.assertEqual(self.said()[-1], ("Server", "plain left the conversation"))
        self.assertIn(ROOM, out.filled)

    def test_guests_of_living_replicas_stay_in_a_failover(self) -> None:
        """The plain guest of the dead one is out before anything else happens in the view, so that its name is free for it."""
        chat = self.chat
        chat.do(A, "G|a")
        chat.do(B, "G|b")
        chat.do(C, "G|c")
        chat.system("members|1.8,0.7")
        self.assertEqual(self.said()[-1], ("Server", "c left the conversation"))
        self.assertEqual(sorted(chat.state.room.names), ["a", "b"])
        chat.open(b"d" * 16, "1.8.2", "plain")
        self.assertEqual(chat.do(b"d" * 16, "G|c")[:4], "g|c|")

    def test_a_numbered_guest_of_a_dead_one_has_time_to_come_back(self) -> None:
        chat = self.chat
        chat.do(A, "G|a")
        chat.do(B, "G|b")
        chat.system("members|1.8")
        self.assertFalse(chat.state.has_stale(chat.time))
        chat.system("expire|")
        self.assertEqual(len(self.said()), 2)
        out = chat.open(A, "1.8.5", "resumed")
        (opened,) = out.opened
        self.assertEqual((opened.account, opened.number, opened.seq, opened.since), ("a", 0, 1, 1))
        self.assertEqual(chat.do(A, "V|back"), "v")
        chat.system(f"close|{A.hex()}|1.8.5")
        chat.time += STAY_US
        self.assertTrue(chat.state.has_stale(chat.time))
        chat.system("expire|")
        self.assertEqual(self.said()[-1], ("Server", "a left the conversation"))
        self.assertIn(A, chat.state.sessions, "only the room is over")

    def test_who_is_forgotten_is_out(self) -> None:
        chat = self.chat
        chat.do(A, "G|a")
        chat.system(f"close|{A.hex()}|0.7.1")
        chat.time += SESSION_LIFE_US
        chat.system("expire|")
        self.assertEqual((self.said()[-1], A in chat.state.sessions), (("Server", "a left the conversation"), False))

    def test_old_lines_are_only_in_the_history(self) -> None:
        chat = self.chat
        chat.do(A, "G|a")
        for _ in range(2):
            chat.do(A, *[f"V|{n}" for n in range(LINES_MAX - 1)])
        self.assertEqual(len(chat.state.room.lines), LINES_MAX)
        self.assertEqual(chat.state.room.seq, 2 * LINES_MAX - 1)
        self.assertEqual(len(list(chat.state.undelivered(ROOM, 0, 0))), LINES_MAX)
        self.assertEqual(len(chat.state.history), 2 * LINES_MAX - 1)


if __name__ == "__main__":
    unittest.main()
