"""The guest's protocol, without a socket: what it says, what it makes of every answer, and what nobody may make it believe."""

from __future__ import annotations

import random
import unittest

from doors.pipe_words import BUSY, GREETING, INVALID
from guest import ACK_AFTER, ACK_EVERY, HEAD_MAX, LATE, LINE_MAX, PATIENCE, SILENCE, About, Event, Guest, Message, Opened, Reply, Trouble

KEY = "00112233445566778899aabbccddeeff"
CREATED = b"Success New Account Creation! Your new Account ID: mason123\n"


def reply(number: int, body: bytes) -> bytes:
    return b"%d %d\n%s" % (number, len(body), body)


def push(seq: int, number: int, text: str = "hi", *, sender: str = "wayne", time: int = 0) -> bytes:
    body = f"{sender}|{time or number}|{number}|{text}".encode()
    return b"* %d %d\n%s" % (seq, len(body), body)


class GuestTest(unittest.TestCase):
    def setUp(self) -> None:
        self.guest = Guest(KEY)

    def opened(self, account: str = "-", last: int = 0) -> list[Event]:
        """Connected, greeted, taken up; what was said so far is forgotten."""
        self.guest.connect(0.0)
        events = self.guest.receive(GREETING + f"= {account} {last} 0\n".encode(), 0.0)
        return events

    def enter(self) -> None:
        """Logged in as mason, everything said."""
        self.opened()
        number = self.guest.request("1|mason")
        self.guest.receive(reply(number, CREATED), 0.0)
        self.guest.take()

    def said(self) -> list[str]:
        return self.guest.take().decode(errors="surrogateescape").splitlines()


class Connecting(GuestTest):
    def test_a_new_session_does_not_resume(self) -> None:
        self.guest.connect(0.0)
        self.assertEqual(self.said(), [f"understudy 1 {KEY}"])
        self.assertEqual(self.guest.receive(GREETING + b"= - 0 0\n.\n", 0.0), [Opened("")])
        self.assertEqual(self.said(), ["cluster"])

    def test_a_session_that_was_never_confirmed_is_not_resumed_so_that_it_cannot_be_unknown(self) -> None:
        self.guest.connect(0.0)
        self.guest.request("1|mason")
        self.guest.lose()
        self.guest.connect(1.0)
        self.assertEqual(self.said(), [f"understudy 1 {KEY}", "1 0 1|mason"])

    def test_requests_before_the_session_is_confirmed_are_said_at_once(self) -> None:
        self.guest.request("1|mason")
        self.guest.connect(0.0)
        self.guest.request("who")
        self.assertEqual(self.said(), [f"understudy 1 {KEY}", "1 0 1|mason", "2 0 who"])

    def test_what_is_unanswered_is_said_again_with_its_number(self) -> None:
        self.enter()
        self.guest.request("3|wayne|a")
        self.guest.request("3|wayne|b")
        self.guest.lose()
        self.guest.connect(1.0)
        self.assertEqual(self.said(), [f"understudy 1 {KEY}", "resume 0 2", "2 1 3|wayne|a", "3 1 3|wayne|b"])

    def test_low_says_which_answers_have_come(self) -> None:
        self.enter()
        for text in "abc":
            self.guest.request(f"3|wayne|{text}")
        self.guest.receive(reply(2, b"x"), 0.0)
        self.guest.take()
        self.guest.request("3|wayne|d")
        self.assertEqual(self.said(), ["5 2 3|wayne|d"])

    def test_numbers_of_answered_queries_are_filled_with_blanks_on_a_new_connection(self) -> None:
        self.enter()
        for _ in range(2):
            number = self.guest.request("who")
            self.guest.receive(reply(number, b"here now: mason\n"), 0.0)
        self.guest.request("3|wayne|a")
        self.guest.lose()
        self.guest.connect(1.0)
        self.assertEqual(self.said()[2:], ["2 1 -", "3 2 -", "4 3 3|wayne|a"])
        self.assertEqual(
            self.guest.receive(reply(2, INVALID) + reply(3, INVALID) + reply(4, b"sent"), 1.0), [Reply(4, "3|wayne|a", "sent")]
        )

    def test_of_log_ins_that_were_not_tried_the_log_has_not_heard(self) -> None:
        self.enter()
        for words in ("too many attempts for mason123: try again in 15 s\n", BUSY):
            number = self.guest.request("0|nora123|guess")
            self.guest.receive(reply(number, words.encode()), 0.0)
        self.guest.request("3|wayne|a")
        self.guest.lose()
        self.guest.connect(1.0)
        self.assertEqual(self.said()[2:], ["2 1 -", "3 2 -", "4 3 3|wayne|a"])

    def test_a_gap_is_filled_from_where_the_server_says(self) -> None:
        self.enter()
        self.guest.request("3|wayne|a")
        self.assertEqual(self.guest.receive(b"! gap 1\n", 0.0), [Trouble("gap")])
        self.guest.lose()
        self.guest.connect(1.0)
        self.assertEqual(self.said()[2:], ["1 0 -", "2 1 3|wayne|a"])

    def test_a_line_that_cannot_be_one_request_is_refused_here(self) -> None:
        for line in ("a\nb", "3|wayne|" + "x" * LINE_MAX):
            with self.assertRaises(ValueError):
                self.guest.request(line)
        self.assertFalse(self.guest.pending)

    def test_invalid_utf8_goes_through_as_it_is(self) -> None:
        self.enter()
        self.guest.request(b"3|wayne|\xff".decode(errors="surrogateescape"))
        self.assertEqual(self.guest.take(), b"2 1 3|wayne|\xff\n")

    def test_cluster_is_asked_only_of_a_server_that_serves(self) -> None:
        self.guest.ask_cluster()
        self.assertEqual(self.said(), [])
        self.opened()
        self.guest.ask_cluster()
        self.assertEqual(self.said()[1:], ["cluster", "cluster"])
        self.assertEqual(self.guest.receive(b'@ 11\n{"view": 3}', 0.0), [About({"view": 3})])
        self.assertEqual(self.guest.asked, 1)


class Answers(GuestTest):
    def test_bytes_may_be_cut_anywhere(self) -> None:
        words = GREETING + b"= - 0 0\n" + reply(1, CREATED) + push(1, 7, "größe|x") + b".\n" + reply(2, b"") + b"! newer\n"
        expected = [
            Opened(""),
            Reply(1, "1|mason", CREATED.decode()),
            Message(1, "wayne", 7, 7, "größe|x", "mason"),
            Reply(2, "who", ""),
            Trouble("newer"),
        ]
        for size in (1, 2, 3, 7, len(words)):
            guest = Guest(KEY)
            guest.request("1|mason")
            guest.request("who")
            guest.connect(0.0)
            events: list[Event] = []
            for at in range(0, len(words), size):
                events += guest.receive(words[at : at + size], 0.0)
            self.assertEqual(events, expected)

    def test_the_account_follows_the_replies(self) -> None:
        self.opened()
        for line, body, account in (
            ("1|mason", CREATED, "mason"),
            (
                "0|nobody123",
                b"user with ID : nobody123 is not recognized in the system, please try a different name or create a new one\n",
                "mason",
            ),
            ("5|wayne123", b"Your account has been deleted\n", "mason"),
            ("5|mason123", b"Please check your mailbox before deleting your account! \n", "mason"),
            ("bye", INVALID, "mason"),
            ("bye", b"logged out\n", ""),
            ("0|bob123123|secret", b"user : bob123 is now logged in\n", "bob123"),
            ("5|bob123123", b"Your account has been deleted\n", ""),
            ("1|mason", b"Username mason already exists. Please try a different username.", ""),
        ):
            number = self.guest.request(line)
            self.guest.receive(reply(number, body), 0.0)
            self.assertEqual(self.guest.account, account, line)

    def test_a_second_answer_to_one_request_is_dropped(self) -> None:
        self.enter()
        number = self.guest.request("who")
        self.assertEqual(len(self.guest.receive(reply(number, b"x") + reply(number, b"x"), 0.0)), 1)

    def test_nothing_is_heard_after_the_connection_was_given_up(self) -> None:
        self.enter()
        self.guest.lose()
        self.assertEqual(self.guest.receive(push(1, 1), 0.0), [])

    def test_who_is_no_replica_of_ours_is_a_stranger(self) -> None:
        for words in (
            b"HTTP/1.1 400 Bad Request\r\n",
            b"x" * HEAD_MAX,
            GREETING + GREETING,
            GREETING + b"7\n",
            GREETING + b"1 x\n",
            GREETING + b"1 999999999999\n",
            GREETING + b"1 -1\n",
            GREETING + b"* 1\n",
            GREETING + b"* x 3\n1|2",
            GREETING + b"* 1 3\n1|2",
            GREETING + b"= a b\n",
            GREETING + b"= \xff 1 1\n",
            GREETING + b"@ 2\n[]",
            GREETING + b"@ 9000\n" + b"[" * 9000,
            GREETING + b"! gap\n",
            GREETING + b"! gap x\n",
            GREETING + b"! what\n",
            GREETING + b"1 2 3\nabc",
        ):
            guest = Guest(KEY)
            guest.connect(0.0)
            events = guest.receive(words, 0.0)
            self.assertEqual([e.word for e in events if isinstance(e, Trouble)], ["stranger"], words)
            self.assertFalse(guest.is_connected)

    def test_random_bytes_never_raise_and_never_pile_up(self) -> None:
        dice = random.Random(2)
        pieces = [
            GREETING,
            b"= mason 3 4\n",
            b".\n",
            b"! gap 2\n",
            b"@ 2\n{}",
            reply(1, CREATED),
            push(1, 1),
            b"* ",
            b"1 ",
            b"\n",
            b"\xff\x00",
        ]
        for _ in range(3000):
            guest = Guest(KEY)
            guest.request("1|mason")
            guest.connect(0.0)
            for _ in range(dice.randrange(1, 8)):
                words = bytearray(dice.choice(pieces))
                if words and not dice.randrange(3):
                    words[dice.randrange(len(words))] = dice.randrange(256)
                guest.receive(bytes(words), 0.0)


class Deliveries(GuestTest):
    def handed(self, words: bytes) -> list[str]:
        return [e.text for e in self.guest.receive(words, 0.0) if isinstance(e, Message)]

    def show(self, words: bytes, now: float = 0.0) -> list[Event]:
        events = self.guest.receive(words, now)
        for event in events:
            if isinstance(event, Message):
                self.guest.displayed(event, now)
        return events

    def test_what_was_handed_on_is_not_handed_on_again(self) -> None:
        self.enter()
        self.assertEqual(self.handed(push(1, 5, "a") + push(2, 9, "b")), ["a", "b"])
        self.assertEqual(self.handed(push(1, 5, "a") + push(2, 9, "b") + push(3, 10, "c")), ["c"])

    def test_nothing_is_acknowledged_before_it_was_displayed(self) -> None:
        self.enter()
        (message,) = self.guest.receive(push(1, 5), 0.0)
        self.guest.tick(9.0)
        self.assertEqual(self.said(), [])
        assert isinstance(message, Message)
        self.guest.displayed(message, 10.0)
        self.guest.tick(10.0 + ACK_AFTER / 2)
        self.assertEqual(self.said(), [])
        self.guest.tick(10.0 + ACK_AFTER)
        self.assertEqual(self.said(), ["ack 1"])
        self.guest.tick(11.0)
        self.assertEqual(self.said(), [])

    def test_many_displayed_messages_are_acknowledged_at_once(self) -> None:
        self.enter()
        self.show(b"".join(push(n, n) for n in range(1, ACK_EVERY + 2)))
        self.assertEqual(self.said(), [f"ack {ACK_EVERY}"])

    def test_a_new_server_hears_what_was_seen_and_the_acknowledgement_again(self) -> None:
        self.enter()
        self.show(push(1, 5) + push(2, 6))
        self.guest.tick(1.0)
        self.guest.take()
        self.guest.lose()
        self.guest.connect(2.0)
        self.assertEqual(self.said()[1:], ["resume 2 0"])
        self.guest.receive(GREETING + b"= mason 1 2\n", 2.0)
        self.assertEqual(self.said(), ["ack 2", "cluster"])

    def test_a_log_out_waits_for_the_acknowledgement_of_what_was_displayed(self) -> None:
        self.enter()
        self.show(push(1, 5))
        self.guest.request("bye")
        self.assertEqual(self.said(), ["ack 1", "2 1 bye"])
        self.guest.lose()
        self.guest.connect(1.0)
        self.guest.request("who")
        self.assertEqual(self.said(), [f"understudy 1 {KEY}", "resume 0 2"])
        self.guest.receive(GREETING + b"= mason 1 1\n", 1.0)
        self.assertEqual(self.said(), ["ack 1", "cluster", "2 1 bye", "3 1 who"])

    def test_a_log_out_asked_while_the_session_is_being_taken_up_waits_too(self) -> None:
        self.enter()
        self.show(push(1, 5))
        self.guest.lose()
        self.guest.request("3|wayne|a")
        self.guest.connect(1.0)
        self.guest.request("bye")
        self.assertEqual(self.said(), [f"understudy 1 {KEY}", "resume 1 2", "2 1 3|wayne|a"])
        self.guest.receive(GREETING + b"= mason 1 1\n", 1.0)
        self.assertEqual(self.said(), ["ack 1", "cluster", "3 1 bye"])

    def test_nothing_is_acknowledged_while_the_account_may_change(self) -> None:
        self.enter()
        self.guest.request("0|wayne123")
        self.show(push(1, 5))
        self.guest.tick(5.0)
        self.assertEqual(self.said(), ["2 1 0|wayne123"])
        self.guest.receive(reply(2, b"user : wayne is now logged in\n"), 5.0)
        self.guest.tick(6.0)
        self.assertEqual(self.said(), [], "it would trim wayne's mailbox by mason's numbers")

    def test_an_account_made_anew_counts_from_one_and_is_heard(self) -> None:
        self.enter()
        self.show(push(50, 60, "old"))
        number = self.guest.request("0|mason123")
        self.guest.receive(reply(number, b"user : mason is now logged in\n"), 0.0)
        self.guest.lose()
        self.guest.connect(1.0)
        self.assertEqual(self.said()[-1], "resume 0 0", "the new account's first messages must not be skipped")
        self.assertEqual(self.handed(GREETING + b"= mason 2 1\n" + push(1, 61, "new")), ["new"])

    def test_a_repetition_of_what_was_displayed_is_acknowledged_again(self) -> None:
        self.enter()
        self.show(push(1, 5))
        number = self.guest.request("0|mason123")
        self.guest.receive(reply(number, b"user : mason is now logged in\n"), 0.0)
        self.guest.take()
        self.assertEqual(self.show(push(1, 5)), [])
        self.guest.tick(1.0)
        self.assertEqual(self.said(), ["ack 1"])

    def test_a_repetition_of_what_is_not_displayed_yet_is_not(self) -> None:
        self.enter()
        self.assertEqual(self.handed(push(1, 5) + push(1, 5)), ["hi"])
        self.guest.tick(1.0)
        self.assertEqual(self.said(), [])

    def test_a_late_display_for_another_account_acknowledges_nothing(self) -> None:
        self.enter()
        (message,) = self.guest.receive(push(9, 5), 0.0)
        number = self.guest.request("1|wayne")
        self.guest.receive(reply(number, CREATED), 0.0)
        self.guest.take()
        assert isinstance(message, Message)
        self.guest.displayed(message, 0.0)
        self.guest.tick(1.0)
        self.assertEqual(self.said(), [])


class Silence(GuestTest):
    def test_a_server_that_falls_silent_is_given_up(self) -> None:
        self.opened()
        self.guest.tick(0.0)
        self.guest.tick(0.2)
        self.assertFalse(self.guest.tick(SILENCE))
        self.assertTrue(self.guest.tick(SILENCE + 0.01))

    def test_who_does_not_even_greet_is_given_up_as_soon(self) -> None:
        self.guest.connect(0.0)
        self.guest.tick(0.0)
        self.guest.tick(0.2)
        self.assertTrue(self.guest.tick(SILENCE + 0.01))

    def test_who_greets_may_take_longer_to_serve(self) -> None:
        self.guest.connect(0.0)
        self.guest.receive(GREETING, 0.0)
        for step in range(int(PATIENCE * 10) + 1):
            self.assertFalse(self.guest.tick(step / 10))
        self.assertTrue(self.guest.tick(PATIENCE + 0.05))

    def test_a_client_that_slept_does_not_blame_the_server(self) -> None:
        self.opened()
        self.guest.tick(0.0)
        self.assertFalse(self.guest.tick(60.0))
        self.assertFalse(self.guest.tick(60.0 + LATE))


class Remembering(GuestTest):
    def test_a_later_process_goes_on_where_this_one_stopped(self) -> None:
        self.enter()
        events = self.guest.receive(push(1, 5, time=50) + push(2, 6, time=60), 0.0)
        assert isinstance(events[0], Message)
        self.guest.displayed(events[0], 0.0)
        self.guest.request("3|wayne|a")
        self.guest = Guest.recall(self.guest.remember())
        self.guest.connect(1.0)
        self.assertEqual(self.said(), [f"understudy 1 {KEY}", "resume 1 2", "1 0 -", "2 1 3|wayne|a"])
        again, new = self.guest.receive(GREETING + b"= mason 1 3\n" + push(2, 6, time=60) + push(3, 7, time=70), 1.0)[1:]
        self.assertEqual((again.again, new.again), (True, False))  # type: ignore[union-attr]

    def test_marks_do_not_hold_for_a_cluster_that_began_anew(self) -> None:
        self.enter()
        self.guest.receive(push(1, 5, time=50), 0.0)
        mail = self.guest.mail
        mail["mason"].forget()
        self.guest = Guest(KEY, mail)
        self.opened("mason")
        first, later = self.guest.receive(push(1, 4, time=40) + push(2, 5, time=90), 0.0)
        self.assertEqual((first.again, later.again), (True, False))  # type: ignore[union-attr]

    def test_a_password_is_never_remembered(self) -> None:
        self.enter()
        self.guest.request("0|wayne123|secret")
        memory = self.guest.remember()
        self.assertNotIn("secret", repr(memory))
        self.assertEqual(memory["session"], "")

    def test_what_is_not_sound_is_not_recalled(self) -> None:
        self.enter()
        sound = self.guest.remember()
        for broken in (
            {},
            {**sound, "session": "x"},
            {**sound, "pending": {"x": ""}},
            {**sound, "mail": {"a": [1]}},
            {**sound, "count": None},
        ):
            with self.assertRaises((ValueError, TypeError, KeyError)):
                Guest.recall(broken)


if __name__ == "__main__":
    unittest.main()
