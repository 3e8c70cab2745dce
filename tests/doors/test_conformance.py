"""One list of behaviours, through every door: what a guest may rely on, whichever door it came in by, also while the view changes.

Each behaviour is tried at every door, quietly and with a view change in the middle of every exchange; messages go from every door to every
door. `DOORS` in `controllers.py` is the list of doors.
"""

from __future__ import annotations

import itertools
import unittest
from collections.abc import Callable
from typing import Any
from unittest import mock

import settings
import state
from commands import NAME_MAX, TEXT_MAX
from doors import TRANSLATORS
from tests.doors.controllers import DOORS, TOY, Controller, House

ONLINE = {"here", "sent"}
OFFLINE = {"waits", "sent"}


def at_every_door(behaviour: Callable[[Any, Any], None]) -> Callable[[unittest.TestCase], None]:
    """A test of one guest's door. `enter(replica)`: another guest of the same house, at the same door."""

    def test(self: unittest.TestCase) -> None:
        for (door, make), is_troubled in itertools.product(DOORS.items(), (False, True)):
            with self.subTest(door=door, is_troubled=is_troubled):
                house = House(is_troubled=is_troubled)
                behaviour(self, lambda replica=0, make=make, house=house: make(house, replica))

    return test


def between_any_two(behaviour: Callable[[Any, Any, Any], None]) -> Callable[[unittest.TestCase], None]:
    """A test of mason at one door and wayne at another, at different replicas; their accounts are made."""

    def test(self: unittest.TestCase) -> None:
        for one, two, is_troubled in itertools.product(DOORS, DOORS, (False, True)):
            with self.subTest(sender=one, recipient=two, is_troubled=is_troubled):
                house = House(is_troubled=is_troubled)
                mason, wayne = DOORS[one](house, 0), DOORS[two](house, 1)
                self.assertEqual((mason.create("mason"), wayne.create("wayne")), ("done", "done"))
                behaviour(self, mason, wayne)

    return test


class Conformance(unittest.TestCase):
    def setUp(self) -> None:
        TOY.start()
        self.addCleanup(TOY.stop)

    @at_every_door
    def test_create(self, enter: Any) -> None:
        self.assertEqual(enter().create("mason"), "done")
        for name in ("mason", "Mason", "ｍason", "mason123", "Server"):
            self.assertEqual(enter(1).create(name), "taken", name)
        for name in ("a b", "a,b", "x" * (NAME_MAX + 1), "a\u202eb"):
            self.assertEqual(enter(2).create(name), "no", name)
        self.assertEqual(enter(2).create("x" * NAME_MAX), "done")
        self.assertEqual(enter(2).create("größe-日本語-🦊"), "done")

    @at_every_door
    def test_log_in(self, enter: Any) -> None:
        enter().create("mason")
        guest = enter(1)
        vague = None if guest.counts_all else "no"
        self.assertEqual(guest.log_in("mason", "guess"), vague or "wrong")
        self.assertEqual(guest.log_in("nobody"), vague or "unknown")
        self.assertEqual(guest.log_in("mason"), "done")
        self.assertEqual(guest.names(), ["mason"])

    @at_every_door
    def test_lists(self, enter: Any) -> None:
        guest = enter()
        names = ["zoe", "wayne", "mason", "wiyne"]
        for name in names:
            enter(1).create(name)
        self.assertEqual(guest.log_in("zoe"), "done")
        self.assertEqual(guest.names(), names, "in order of creation")
        self.assertEqual(guest.matching("w.yne"), ["wayne", "wiyne"])
        self.assertEqual(guest.matching("ayn"), [], "the whole name")
        self.assertEqual(guest.matching(".+"), names)

    @between_any_two
    def test_send_to_somebody_who_is_here(self, mason: Any, wayne: Any) -> None:
        for n in range(3):
            self.assertIn(mason.send("wayne", f"text {n}"), ONLINE)
            self.assertEqual(wayne.heard(), [("mason", f"text {n}")])
        self.assertEqual(wayne.read(), [], "shown is delivered")
        self.assertIn(wayne.send("mason", "and back"), ONLINE)
        self.assertEqual(mason.heard(), [("wayne", "and back")])

    @between_any_two
    def test_send_to_somebody_who_is_away(self, mason: Any, wayne: Any) -> None:
        wayne.leave()
        zoe = type(mason)(mason.house, 2)
        zoe.create("zoe")
        sent = []
        for n in range(4):
            sender = (mason, zoe)[n % 2]
            self.assertIn(sender.send("wayne", f"text {n}"), OFFLINE)
            sent.append((sender.name, f"text {n}"))
        again = type(wayne)(wayne.house, 2)
        self.assertEqual(again.log_in("wayne"), "done")
        self.assertEqual(again.read(), sent, "oldest first")
        self.assertEqual(again.read(), [])

    @at_every_door
    def test_send_to_nobody(self, enter: Any) -> None:
        guest = enter()
        guest.create("mason")
        self.assertEqual(guest.send("nobody", "hello"), "nobody")
        enter(1).create("wayne")
        self.assertEqual(guest.send("wayne", "hello"), "here" if guest.has_receipts else "sent")

    @at_every_door
    def test_delete(self, enter: Any) -> None:
        guest, other = enter(), enter(1)
        guest.create("mason")
        other.create("zoe")
        self.assertEqual(guest.delete(), "done")
        self.assertEqual((other.send("mason", "hello"), other.names()), ("nobody", ["zoe"]))
        again = enter(2)
        self.assertEqual(again.create("mason"), "done", "the name is free")
        self.assertEqual(again.read(), [])

    @at_every_door
    def test_delete_with_mail(self, enter: Any) -> None:
        guest, other = enter(), enter(1)
        guest.create("mason")
        other.create("zoe")
        guest.leave()
        other.send("mason", "unread")
        again = enter(2)
        words = again.house.is_troubled
        again.house.is_troubled = False  # what is pushed at the log-in may be shown before the deletion, or not
        with mock.patch.object(type(again), "open_relay", lambda self: None, create=True):
            again.log_in("mason")
        again.house.is_troubled = words
        self.assertEqual(again.delete(), "done" if again.deletes_mail else "mail first")
        if not again.deletes_mail:
            self.assertEqual(again.read(), [("zoe", "unread")])
            self.assertEqual(again.delete(), "done")

    @between_any_two
    def test_texts(self, mason: Any, wayne: Any) -> None:
        """Any text arrives as it was sent; what no text may hold is refused, and the guest goes on."""
        texts = ("größe 日本語", "👩‍🚀 👍🏽", "שלום", "a | b || c", "1|mason", "tab\there", " blanks ", "'\"\\", "=1+1", "x" * TEXT_MAX)
        for text in texts:
            self.assertIn(mason.send("wayne", text), ONLINE, text[:20])
            self.assertEqual(wayne.heard(), [("mason", text)])
        for text in ("bell\x07", "esc\x1b[2J", "del\x7f", "nul\0", "x" * (TEXT_MAX + 1), "é" * (TEXT_MAX // 2 + 1)):
            self.assertIn(mason.send("wayne", text), ("no", "nobody"), text[:20])
        self.assertEqual(wayne.heard(), [])
        self.assertIn(mason.send("wayne", "still here"), ONLINE)
        self.assertEqual(wayne.heard(), [("mason", "still here")])

    @between_any_two
    def test_history(self, mason: Any, wayne: Any) -> None:
        """Where a door shows conversations: one's own, all of it and in order, a page at a time; nothing of an earlier account."""
        zoe = type(wayne)(wayne.house, 2)
        zoe.create("zoe")
        said: list[tuple[str, str]] = []
        for n in range(3):
            for one, whom in ((mason, wayne), (wayne, mason)):
                self.assertIn(one.send(whom.name, f"text {n} | ü"), ONLINE)
                self.assertEqual(whom.heard(), [(one.name, f"text {n} | ü")])
                said.append((one.name, f"text {n} | ü"))
            self.assertIn(zoe.send("wayne", "between"), ONLINE)
            wayne.heard()
        for one, whom in ((mason, "wayne"), (wayne, "mason")):
            if one.looks_back:
                newest, older = one.history(whom, 4)
                rest, end = one.history(whom, 4, older)
                self.assertEqual((rest + newest, end), (said, 0))
                self.assertEqual(one.history("nobody", 4), ([], 0))
        self.assertEqual(wayne.delete(), "done")
        self.assertEqual(wayne.create("wayne"), "done")
        if wayne.looks_back:
            self.assertEqual(wayne.history("mason", 9), ([], 0))
        if mason.looks_back:
            self.assertEqual(mason.history("wayne", 9), (said, 0))

    @at_every_door
    def test_a_full_mailbox(self, enter: Any) -> None:
        with mock.patch.object(state, "MAILBOX_MAX", 2):
            guest, other = enter(), enter(1)
            guest.create("mason")
            other.create("zoe")
            other.leave()
            self.assertEqual([guest.send("zoe", "x") in OFFLINE for _ in range(2)], [True, True])
            self.assertIn(guest.send("zoe", "one too many"), ("full", "no"))

    @between_any_two
    def test_nobody_gets_anothers_mail(self, mason: Any, wayne: Any) -> None:
        wayne.leave()
        mason.send("wayne", "for wayne")
        stranger = type(wayne)(wayne.house, 2)
        stranger.create("stranger")
        self.assertIn(stranger.log_in("wayne", "guess"), ("wrong", "no"))
        self.assertEqual((stranger.read(), stranger.heard()), ([], []))

    @between_any_two
    def test_several_connections_of_one_account(self, mason: Any, wayne: Any) -> None:
        second = type(wayne)(wayne.house, 2)
        self.assertEqual(second.log_in("wayne"), "done")
        self.assertIn(mason.send("wayne", "to both"), ONLINE)
        self.assertEqual((wayne.heard(), second.heard()), ([("mason", "to both")],) * 2)

    @at_every_door
    def test_here_is_who_is_shown_messages(self, enter: Any) -> None:
        """At the ledger, or with commands alone at the framed door, nothing is shown: it waits, and comes in the end."""
        guest, other = enter(), enter(1)
        guest.create("mason")
        other.create("zoe")
        other.leave()
        for door, log_in in (("ledger", b"0|zoe|secret\n"), ("framed", b"%-10d1\nzoe\nsecret" % 12)):
            person = guest.house.desks[2].connect(door)
            self.assertRegex(guest.house.exchange(person, log_in), b"zoe123|Successful Login")
        self.assertIn(guest.send("zoe", "hello"), OFFLINE)
        again = enter(1)
        self.assertEqual(again.log_in("zoe"), "done")
        self.assertEqual(again.read(), [("mason", "hello")])

    def test_trouble_is_trouble(self) -> None:
        """The suite would notice: a request that is not sent again after a view change has no answer."""
        house = House(is_troubled=True)
        guest: Controller = DOORS["pipe"](house, 0)
        with mock.patch("connection.Connection.resend"), self.assertRaises(AssertionError):
            guest.create("mason")  # type: ignore[attr-defined]


class NewDoorTest(unittest.TestCase):
    """What a new door touches: its file, its test, one line of the registry, and `cluster.yaml`."""

    def test_the_toy_is_known_by_one_line(self) -> None:
        yaml = b"cluster: {name: a}\nreplicas: [{id: 0, peer: '127.0.0.1:1', doors: {json: 7777}}]\n"
        with self.assertRaises(settings.SettingsError):
            settings.parse(yaml, "c.yaml", TRANSLATORS)
        with TOY:
            self.assertEqual(settings.parse(yaml, "c.yaml", TRANSLATORS).addresses_of("json"), (("127.0.0.1", 7777),))


if __name__ == "__main__":
    unittest.main()
