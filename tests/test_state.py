"""Room 1, memory: what each command does, that a request is executed once, and that nothing makes `apply` raise or half-change anything."""

from __future__ import annotations

import ast
import copy
import inspect
import sys
import textwrap
import types
import unittest
import zlib
from collections.abc import Callable
from typing import Any
from unittest import mock

import room
import state as module
import tables
from commands import (
    MAILBOX_MAX,
    READ_MAX,
    RUN,
    SESSION_LIFE_US,
    SESSION_MAX,
    SYSTEM,
    TEXT_MAX,
    WINDOW,
    Refusal,
    run,
    system_run,
)
from people import Account, Outcome, Session
from state import HANDLERS, HISTORY_KEPT, SYSTEM_HANDLERS, ChatState
from tables import TABLES

try:
    from hypothesis import given, settings
    from hypothesis import strategies as st
except ImportError:  # pragma: no cover
    given = None  # type: ignore[assignment]

A, B, C = b"a" * 16, b"b" * 16, b"c" * 16
NOW = 1_700_000_000_000_000


class Chat:
    """A state and its guests, by the letters of their sessions."""

    def __init__(self) -> None:
        self.state = ChatState()
        self.state.history = []
        self.last: dict[bytes, int] = {}
        self.time = NOW

    def apply(self, body: bytes, count: int = 1) -> Outcome:
        self.time += 1000
        return self.state.apply(self.state.op + 1, count, self.time, body)

    def system(self, line: str) -> Outcome:
        return self.apply(system_run(line))

    def open(self, key: bytes, home: str = "0.7.1", kind: str = "numbered") -> Outcome:
        return self.system(f"open|{key.hex()}|{home}|{kind}")

    def run(self, key: bytes, first: int, *lines: str, low: int = 0, skip: int = 0) -> list[str]:
        out = self.apply(run(key, first, low, skip, "\n".join(lines).encode(), len(lines)), len(lines))
        ((session, number, replies),) = out.replies
        assert (session, number) == (key, first)
        return replies

    def do(self, key: bytes, *lines: str) -> Any:
        """Fresh requests; the reply, or the replies when there are several lines."""
        first = self.state.sessions[key].last + 1
        replies = self.run(key, first, *lines)
        return replies if len(lines) > 1 else replies[0]

    def people(self) -> Chat:
        """mason at A and wayne at B, both here."""
        for number, (key, name) in enumerate(((A, "mason"), (B, "wayne"))):
            self.open(key, f"{number}.7.{number}")
            self.do(key, f"C|{name}")
        return self

    def waiting(self, name: str) -> list[str]:
        return [m[4] for m in self.state.accounts[name].mailbox]


def fingerprint(state: ChatState, *, requests: bool = True) -> Any:
    """All of it that later commands can see, order included."""
    accounts = [
        (n, a.number, a.secret, a.last_seq, a.balance, a.is_blocked, list(a.mailbox), sorted(a.sessions), a.online)
        for n, a in state.accounts.items()
    ]
    sessions = {
        k: (
            s.kind,
            s.account.name if s.account else "",
            s.home,
            s.gone_op,
            s.gone_time,
            (s.room, s.since),
            (s.last, s.low, list(s.replies)) if requests else 0,
        )
        for k, s in state.sessions.items()
    }
    places = {place: sorted(keys) for place, keys in state._at.items()}
    return (
        accounts,
        sessions,
        places,
        list(state._gone),
        sorted(state.folded),
        list(state.hidden),
        (sorted(state.room.names.items()), list(state.room.lines)),
        state.message_count,
        list(state.history),
        (list(state.told.order.items()), {n: dict(w) for n, w in state.told.words.items()}, list(state.told.requests.items())),
        {n: list(threads.items()) for n, threads in state.told.threads.items()},
    )


def check(state: ChatState) -> None:
    """The invariants of the module's page, and that the tables hold everything."""
    for account in state.accounts.values():
        assert account.online == sum(1 for key in account.sessions if state.sessions[key].listens), account.name
        seqs = [0, *(message[0] for message in account.mailbox)]
        assert seqs == sorted(set(seqs)) and seqs[-1] <= account.last_seq, account.name
    for key, session in state.sessions.items():
        assert session.key == key and bool(session.home) != (key in state._gone)
        assert session.low + len(session.replies) == session.last and len(session.replies) <= WINDOW
        assert session.account is None or state.accounts[session.account.name] is session.account
    loaded = reload(state)
    loaded.history = state.history
    assert fingerprint(loaded) == fingerprint(state)
    assert (loaded.op, loaded.digest) == (state.op, state.digest)


def reload(state: ChatState) -> ChatState:
    tables = {name: [tuple(row) for row in rows] for name, (_, rows) in state.tables().items()}
    return ChatState.load(state.op, state.digest, state.message_count, tables)  # type: ignore[arg-type]


class AccountsTest(unittest.TestCase):
    def setUp(self) -> None:
        self.chat = Chat()
        self.chat.open(A, "0.7.1")
        self.chat.open(B, "1.8.1")

    def tearDown(self) -> None:
        check(self.chat.state)

    def test_create(self) -> None:
        chat = self.chat
        op = chat.state.op + 1
        self.assertEqual(chat.do(A, "C|mason"), f"c|mason|0|{op}")
        self.assertEqual(chat.state.names(), ["mason"])
        self.assertEqual(chat.state.present(), ["mason"], "the connection is now logged in")
        self.assertEqual(chat.do(B, "C|wayne|hash"), f"c|wayne|0|{op + 1}")
        self.assertEqual(chat.state.accounts["wayne"].secret, "hash")
        self.assertEqual(chat.do(A, "C|zed"), f"c|zed|0|{op + 2}")
        self.assertEqual(chat.state.names(), ["mason", "wayne", "zed"], "in order of creation")
        self.assertEqual(chat.state.present(), ["wayne", "zed"], "a session is logged in to one account")

    def test_names_that_are_taken(self) -> None:
        self.chat.do(A, "C|mason", "C|bob123")
        for name in ("mason", "MASON", "ｍason", "mason123", "Mason123", "bob", "BOB", "Server", "sErVeR"):
            with self.subTest(name=name):
                self.assertEqual(self.chat.do(B, f"C|{name}"), Refusal.NAME_TAKEN)

    def test_names_that_cannot_be(self) -> None:
        for line in ("C|", "C|a b", "C|a,b", "C|" + "x" * 33, "C|a\tb", "C|a|b|c", "C|a\0"):
            with self.subTest(line=line):
                self.assertEqual(self.chat.do(A, line), Refusal.INVALID)
        self.assertEqual(self.chat.state.names(), [])

    def test_log_in_and_out(self) -> None:
        chat = self.chat
        number = chat.state.op + 1
        chat.do(A, "C|mason", "S|mason|one")
        self.assertEqual(chat.do(B, "L|mason123"), f"l|mason|1|{number}")
        self.assertEqual(chat.state.accounts["mason"].online, 2)
        for name in ("mason", "nobody123", "", "123", "mason1234", "Mason123"):
            self.assertEqual(chat.do(B, f"L|{name}"), Refusal.NO_SUCH_ACCOUNT, name)
        self.assertEqual(chat.do(A, "O"), "o")
        self.assertEqual(chat.do(A, "O"), Refusal.NOT_LOGGED_IN)
        self.assertEqual(chat.state.accounts["mason"].online, 1)

    def test_a_password_closes_the_account(self) -> None:
        chat = self.chat
        chat.do(A, "C|mason|hash", "S|mason|mine")
        for line in ("L|mason123", "R|mason123", "D|mason123"):
            self.assertEqual(chat.do(B, line), Refusal.WRONG_PASSWORD)
        self.assertTrue(chat.do(A, "R|mason123").endswith("mine"))
        self.assertEqual(chat.do(A, "D|mason123"), "d")

    def test_delete(self) -> None:
        chat = self.chat
        chat.do(A, "C|mason", "S|mason|x")
        chat.do(B, "L|mason123")
        self.assertEqual(chat.do(B, "D|nobody123"), Refusal.NO_SUCH_ACCOUNT)
        self.assertEqual(chat.do(B, "D|mason123"), Refusal.MAILBOX_NOT_EMPTY)
        chat.do(B, "R|mason123")
        self.assertEqual(chat.do(B, "D|mason123"), "d")
        self.assertEqual(chat.do(A, "S|mason|hi"), Refusal.NOT_LOGGED_IN, "every session of it is logged out")
        self.assertEqual(chat.do(B, "S|mason|hi"), Refusal.NOT_LOGGED_IN)
        self.assertEqual(chat.state.names(), [])

    def test_a_name_may_be_used_again_and_inherits_nothing(self) -> None:
        chat = self.chat
        chat.do(A, "C|mason", "S|mason|x", "R|mason123")
        old = chat.state.accounts["mason"].number
        chat.do(A, "D|mason123")
        self.assertRegex(chat.do(B, "C|Mason"), r"^c\|Mason\|0\|\d+$")
        chat.do(A, "L|Mason123", "S|Mason|new")
        account = chat.state.accounts["Mason"]
        self.assertEqual(account.last_seq, 1, "seq begins anew")
        chat.system(f"ack|Mason|{old}|0|9")
        self.assertEqual(chat.waiting("Mason"), ["new"], "an ack of the old account trims nothing")
        self.assertEqual(list(chat.state.undelivered("Mason", old, 0)), [])


class MessagesTest(unittest.TestCase):
    def setUp(self) -> None:
        self.chat = Chat().people()

    def tearDown(self) -> None:
        check(self.chat.state)

    def test_send_to_somebody_here_and_to_somebody_away(self) -> None:
        chat = self.chat
        self.assertEqual(chat.do(A, "S|wayne|hello"), "p")
        chat.system(f"close|{B.hex()}|1.7.1")
        self.assertEqual(chat.do(A, "S|wayne|are you | there?"), "m")
        self.assertEqual(chat.waiting("wayne"), ["hello", "are you | there?"])

    def test_addressed_by_id_the_reply_names_the_account(self) -> None:
        self.assertEqual(self.chat.do(A, "S|wayne123|hello"), "p|wayne")
        self.chat.do(B, "O")
        self.assertEqual(self.chat.do(A, "S|wayne123|hello"), "m|wayne")

    def test_a_username_wins_over_an_id(self) -> None:
        # such a pair cannot be created, but it may stand in an old snapshot
        other = Account("wayne123", 99)
        self.chat.state.add(other)
        self.assertEqual(self.chat.do(A, "S|wayne123|for the name"), "m")
        self.assertEqual([m[4] for m in other.mailbox], ["for the name"])
        self.chat.state.remove(other, Outcome())

    def test_what_a_message_is(self) -> None:
        chat = self.chat
        chat.do(A, "S|wayne|one")
        time = chat.time
        chat.do(B, "S|mason|two", "S|wayne|to myself")
        self.assertEqual(
            list(chat.state.accounts["wayne"].mailbox), [(1, 1, time, "mason", "one"), (2, 3, chat.time + 1, "wayne", "to myself")]
        )
        self.assertEqual(
            chat.state.history,
            [
                (1, time, "mason", "wayne", "one"),
                (2, chat.time, "wayne", "mason", "two"),
                (3, chat.time + 1, "wayne", "wayne", "to myself"),
            ],
        )
        self.assertEqual(chat.state.message_count, 3)

    def test_of_the_history_the_newest_is_kept(self) -> None:
        self.chat.state.history = ChatState().history
        for n in range(0, HISTORY_KEPT + 5, 500):
            self.chat.do(A, *[f"S|nobody|{n}", *["S|wayne|x"] * 500])
            self.chat.do(A, "R|wayne123")
        kept = [number for number, *_ in self.chat.state.history]
        self.assertEqual((len(kept), kept[-1]), (HISTORY_KEPT, self.chat.state.message_count))

    def test_sends_that_are_refused(self) -> None:
        chat = self.chat
        chat.open(C)
        before = fingerprint(chat.state, requests=False)
        self.assertEqual(chat.do(C, "S|wayne|hi"), Refusal.NOT_LOGGED_IN)
        self.assertEqual(chat.do(A, "S|nobody|hi"), Refusal.NO_SUCH_ACCOUNT)
        self.assertEqual(chat.do(A, "S|wayne|"), Refusal.INVALID)
        self.assertEqual(chat.do(A, "S|wayne"), Refusal.INTERNAL)
        self.assertEqual(fingerprint(chat.state, requests=False), before)

    def test_the_longest_text(self) -> None:
        for char in "aä€🦊":
            size = len(char.encode())
            self.assertEqual(self.chat.do(A, "S|wayne|" + char * (TEXT_MAX // size)), "p", char)
            self.assertEqual(
                self.chat.do(A, "S|wayne|" + char * (TEXT_MAX // size) + "x"), Refusal.INVALID if TEXT_MAX % size == 0 else "p", char
            )
        self.assertEqual(self.chat.do(A, "S|wayne|" + "€" * (TEXT_MAX // 3 + 1)), Refusal.INVALID)

    def test_a_full_mailbox(self) -> None:
        self.assertEqual(MAILBOX_MAX, 100_000)
        with mock.patch.object(module, "MAILBOX_MAX", 2):
            self.assertEqual(self.chat.do(A, *["S|wayne|hi"] * 3), ["p", "p", Refusal.MAILBOX_FULL])
        self.assertEqual(self.chat.state.accounts["wayne"].last_seq, 2)

    def test_read_gives_all_oldest_first_and_empties(self) -> None:
        chat = self.chat
        chat.do(A, "S|mason|another", "S|wayne|one", "S|wayne|two|three")
        self.assertEqual(chat.do(A, "R|wayne123"), "r|wayne|1|mason|one\n2|mason|two|three", "whoever names the id may read")
        self.assertEqual(chat.do(A, "R|wayne123"), "r|wayne|")
        self.assertEqual(chat.do(A, "R|nobody123"), Refusal.NO_SUCH_ACCOUNT)
        chat.do(A, "S|wayne|four")
        self.assertEqual(chat.do(B, "R|wayne123"), "r|wayne|3|mason|four")

    def test_one_read_returns_no_more_than_its_limit_in_bytes(self) -> None:
        for char in "xß🦊":
            with self.subTest(char=char):
                text = char * (TEXT_MAX // len(char.encode()))
                self.chat.do(A, *["S|mason|another"] * 9, *[f"S|wayne|{text}"] * 6)
                rows = self.chat.do(B, "R|wayne123").split("\n")
                self.assertEqual(len(rows), READ_MAX // TEXT_MAX)
                self.assertEqual(len(self.chat.waiting("wayne")), 6 - READ_MAX // TEXT_MAX, "the rest waits for the next")
                self.assertEqual(len(self.chat.do(B, "R|wayne123").split("\n")), 2)

    def test_ack_trims_up_to_its_number(self) -> None:
        chat = self.chat
        chat.do(A, *[f"S|wayne|{i}" for i in range(1, 6)])
        number = chat.state.accounts["wayne"].number
        for upto, left in ((0, "12345"), (2, "345"), (1, "345"), (4, "5"), (99, ""), (99, "")):
            chat.system(f"ack|wayne|{number}|0|{upto}")
            self.assertEqual("".join(chat.waiting("wayne")), left, upto)
        chat.system(f"ack|nobody|{number}|0|2")
        chat.do(A, "S|wayne|6")
        self.assertEqual(next(iter(chat.state.accounts["wayne"].mailbox))[0], 6, "seq goes on")

    def test_ack_leaves_what_waited_before_a_log_in(self) -> None:
        chat = self.chat
        number = chat.state.accounts["wayne"].number
        for above, upto, left in (
            (2, 4, "1256"),
            (2, 2, "123456"),
            (5, 9, "12345"),
            (6, 9, "123456"),
            (1, 5, "16"),
            (0, 3, "456"),
            (3, 3, "123456"),
        ):
            with self.subTest(above=above, upto=upto):
                twin = copy.deepcopy(chat)
                twin.do(A, *[f"S|wayne|{i}" for i in range(1, 7)])
                twin.system(f"ack|wayne|{number}|{above}|{upto}")
                self.assertEqual("".join(twin.waiting("wayne")), left)
                check(twin.state)

    def test_undelivered_above(self) -> None:
        chat, state = self.chat, self.chat.state
        chat.do(A, *["S|mason|ids are not seqs"] * 20, *[f"S|wayne|{i}" for i in range(1, 25)])
        number = state.accounts["wayne"].number
        chat.system(f"ack|wayne|{number}|0|2")
        chat.system(f"ack|wayne|{number}|15|18")
        for above in range(27):
            with self.subTest(above=above):
                left = [seq for seq in range(above + 1, 25) if seq not in (1, 2, 16, 17, 18)]
                self.assertEqual([m[0] for m in state.undelivered("wayne", number, above)], left)
        self.assertEqual(list(state.undelivered("nobody", number, 0)), [])
        self.assertEqual(list(state.undelivered("wayne", number + 1, 0)), [])

    def test_filled_names_the_mailboxes(self) -> None:
        out = self.chat.apply(run(A, 2, 0, 0, b"S|wayne|x\nS|mason|y\nS|wayne|z\nS|nobody|z", 4), 4)
        self.assertEqual(out.filled, {"wayne", "mason"})


class SessionsTest(unittest.TestCase):
    def setUp(self) -> None:
        self.chat = Chat()

    def tearDown(self) -> None:
        check(self.chat.state)

    def test_a_request_is_executed_once_and_its_reply_stays(self) -> None:
        chat = self.chat.people()
        first = chat.run(A, 2, "S|wayne|one", "S|wayne|two")
        self.assertEqual(chat.run(A, 2, "S|wayne|one", "S|wayne|two"), first)
        self.assertEqual(chat.run(A, 3, "S|wayne|another text, the same number"), first[1:])
        self.assertEqual(chat.run(A, 1, "C|mason"), [chat.state.sessions[A].replies[0]])
        self.assertEqual(chat.waiting("wayne"), ["one", "two"])

    def test_a_run_that_overlaps_is_executed_from_where_it_is_new(self) -> None:
        chat = self.chat.people()
        chat.run(A, 2, "S|wayne|2")
        op = chat.state.op
        self.assertEqual(
            chat.run(A, 1, "C|mason", "S|wayne|2", "S|wayne|3", "S|wayne|4"), [chat.state.sessions[A].replies[0], "p", "p", "p"]
        )
        self.assertEqual(chat.waiting("wayne"), ["2", "3", "4"])
        self.assertEqual(chat.state.op, op + 4, "a run takes its ops, executed or not")
        self.assertEqual([m[2] - chat.time for m in chat.state.accounts["wayne"].mailbox][1:], [2, 3], "each command has its own time")

    def test_a_reply_no_longer_needed_is_done(self) -> None:
        chat = self.chat.people()
        chat.do(A, "S|wayne|2", "S|wayne|3")
        self.assertEqual(chat.run(A, 4, "S|wayne|4", low=2), ["p"])
        self.assertEqual((chat.state.sessions[A].low, len(chat.state.sessions[A].replies)), (2, 2))
        self.assertEqual(chat.run(A, 1, "C|mason", "S|wayne|2", "S|wayne|3"), [Refusal.DONE, Refusal.DONE, "p"])
        chat.run(A, 5, "S|wayne|5", low=10**15)
        self.assertEqual(chat.state.sessions[A].low, 4, "nothing above the newest request can be dropped")
        self.assertEqual(chat.waiting("wayne"), ["2", "3", "4", "5"])

    def test_a_missing_request_is_a_gap(self) -> None:
        chat = self.chat.people()
        self.assertEqual(chat.run(A, 4, "S|wayne|4", "S|wayne|5"), [f"{Refusal.GAP}|2"] * 2)
        self.assertEqual(chat.run(A, 4, "S|wayne|4", skip=1), [f"{Refusal.GAP}|2"])
        self.assertEqual(chat.waiting("wayne"), [])
        self.assertEqual(chat.state.sessions[A].last, 1)

    def test_queries_take_numbers_but_never_enter_the_log(self) -> None:
        chat = self.chat.people()
        self.assertEqual(chat.run(A, 4, "S|wayne|4", skip=2), ["p"])
        self.assertEqual(chat.run(A, 4, "S|wayne|4", skip=2), ["p"], "again: the stored reply")
        self.assertEqual(chat.run(A, 2, "S|wayne|as if it were no query"), [Refusal.DONE], "a query's number has no reply to give")
        self.assertEqual(chat.waiting("wayne"), ["4"])

    def test_any_number_of_queries_in_a_row(self) -> None:
        chat = self.chat.people()
        for missing in (WINDOW - 2, WINDOW - 1, WINDOW, WINDOW + 1, 100_000, 2**32 - 1):
            with self.subTest(missing=missing):
                number = chat.state.sessions[A].last + missing + 1
                self.assertEqual(chat.run(A, number, f"S|wayne|{missing}", skip=missing), ["p"])
                self.assertEqual(chat.run(A, number, "again"), ["p"])
                self.assertEqual(chat.run(A, number - 1, "a query"), [Refusal.DONE])
                check(chat.state)
        self.assertEqual(len(chat.waiting("wayne")), 6)

    def test_the_window_keeps_the_newest_replies(self) -> None:
        chat = self.chat.people()
        lines = [f"S|wayne|{i}" for i in range(2, WINDOW + 12)]
        self.assertEqual(chat.run(A, 2, *lines), ["p"] * len(lines), "more than a window at once is all executed")
        session = chat.state.sessions[A]
        self.assertEqual((session.last, session.low, len(session.replies)), (WINDOW + 11, 11, WINDOW))
        self.assertEqual(chat.run(A, 11, "x", "x"), [Refusal.DONE, "p"])

    def test_a_session_nobody_opened(self) -> None:
        out = self.chat.apply(run(C, 1, 0, 0, b"C|x\nC|y", 2), 2)
        self.assertEqual(out.replies, [(C, 1, [Refusal.SESSION_UNKNOWN] * 2)])
        self.assertEqual(self.chat.state.names(), [])

    def test_open_tells_what_is_known(self) -> None:
        chat = self.chat.people()
        chat.do(B, "S|mason|1", "S|mason|2")
        chat.system(f"ack|mason|{chat.state.accounts['mason'].number}|0|1")
        (opened,) = chat.open(A, "2.9.4", "resumed").opened
        account = chat.state.accounts["mason"]
        self.assertEqual((opened.key, opened.home, opened.known, opened.last), (A, "2.9.4", True, 1))
        self.assertEqual((opened.account, opened.number, opened.seq), ("mason", account.number, 2))
        (fresh,) = chat.open(C).opened
        self.assertEqual((fresh.known, fresh.last, fresh.account, fresh.number, fresh.seq), (True, 0, "", 0, 0))

    def test_a_forgotten_session_cannot_be_resumed(self) -> None:
        (opened,) = self.chat.open(C, kind="resumed").opened
        self.assertEqual((opened.known, opened.last, opened.account), (False, 0, ""))
        self.assertEqual(self.chat.state.sessions, {})

    def test_the_newest_connection_of_a_session_has_it(self) -> None:
        chat = self.chat.people()
        out = chat.open(A, "2.9.4", "resumed")
        self.assertEqual(out.displaced, ["0.7.0"])
        self.assertEqual(chat.open(A, "2.9.4", "resumed").displaced, [], "said twice, done once")
        out = chat.system(f"close|{A.hex()}|0.7.0")
        self.assertEqual(out.closed, ["0.7.0"])
        self.assertEqual(chat.state.present(), ["mason", "wayne"], "the older one's good-bye comes late")
        chat.system(f"close|{A.hex()}|2.9.4")
        self.assertEqual(chat.state.present(), ["wayne"])

    def test_a_numbered_guest_may_come_back_and_a_plain_one_not(self) -> None:
        chat = self.chat.people()
        chat.open(C, "0.7.9", "plain")
        chat.do(C, "L|mason123")
        chat.system(f"close|{C.hex()}|0.7.9")
        chat.system(f"close|{A.hex()}|0.7.0")
        self.assertNotIn(C, chat.state.sessions)
        session = chat.state.sessions[A]
        self.assertEqual((session.home, session.gone_op, session.gone_time), ("", chat.state.op, chat.time))
        self.assertEqual(chat.state.present(), ["wayne"])
        chat.open(A, "1.7.5", "resumed")
        self.assertEqual((session.gone_op, session.gone_time), (0, 0))
        self.assertEqual(chat.state.present(), ["mason", "wayne"])

    def test_close_of_what_is_not_there(self) -> None:
        self.assertEqual(self.chat.system(f"close|{C.hex()}|0.7.9").closed, ["0.7.9"])

    def test_a_new_view_clears_the_homes_of_all_others(self) -> None:
        chat = self.chat.people()
        chat.open(C, "2.5.1", "plain")
        chat.system("members|1.7,2.6")
        self.assertEqual(chat.state.present(), ["wayne"])
        self.assertEqual({k: s.home for k, s in chat.state.sessions.items()}, {A: "", B: "1.7.1"}, "2.5 is another incarnation than 2.6")
        chat.system("members|1.7")
        self.assertEqual(chat.state.present(), ["wayne"])

    def test_those_who_went_at_once_are_gone_in_the_order_a_snapshot_gives_them(self) -> None:
        chat = self.chat
        chat.open(C, "0.7.1")
        chat.open(A, "1.7.1")
        chat.system("members|2.7")
        self.assertEqual(list(chat.state._gone), [A, C])

    def test_sessions_are_forgotten_after_a_week(self) -> None:
        chat = self.chat.people()
        chat.open(C, "0.7.3")
        chat.system(f"close|{A.hex()}|0.7.0")
        since = chat.time
        chat.time += 10**6
        chat.system(f"close|{B.hex()}|1.7.1")
        for later, left, stale in (
            (SESSION_LIFE_US - 1, {A, B, C}, False),
            (SESSION_LIFE_US, {B, C}, True),
            (SESSION_LIFE_US, {B, C}, False),
            (2 * SESSION_LIFE_US, {C}, True),
            (9 * SESSION_LIFE_US, {C}, False),
        ):
            chat.time = since + later - 1000
            self.assertEqual(chat.state.has_stale(since + later), stale)
            chat.system("expire|")
            self.assertEqual(set(chat.state.sessions), left)
        self.assertEqual(chat.state.names(), ["mason", "wayne"], "accounts stay")
        self.assertEqual(SESSION_LIFE_US, 7 * 24 * 3600 * 10**6)

    def test_beyond_the_limit_the_longest_gone_is_forgotten(self) -> None:
        chat = self.chat.people()
        self.assertEqual(SESSION_MAX, 100_000)
        with mock.patch.object(module, "SESSION_MAX", 2):
            chat.open(C, "0.7.5")
            self.assertEqual(set(chat.state.sessions), {A, B, C}, "nobody who is here is forgotten")
            chat.system(f"close|{B.hex()}|1.7.1")
            chat.system(f"close|{A.hex()}|0.7.0")
            chat.open(b"d" * 16, "0.7.6")
            self.assertNotIn(B, chat.state.sessions)
            chat.open(A, "0.7.7", "resumed")
            self.assertIn(A, chat.state.sessions, "to come back takes no room")

    def test_online_counts_the_connections(self) -> None:
        chat = self.chat.people()
        chat.open(C, "0.7.5")
        chat.do(C, "L|mason123")
        self.assertEqual(chat.state.accounts["mason"].online, 2)
        chat.system(f"close|{A.hex()}|0.7.0")
        self.assertEqual((chat.state.accounts["mason"].online, chat.state.present()), (1, ["mason", "wayne"]))
        chat.do(C, "L|mason123")
        self.assertEqual(chat.state.accounts["mason"].online, 1, "logged in twice is there once")

    def test_a_session_that_is_away_logs_in_without_being_there(self) -> None:
        chat = self.chat.people()
        chat.system(f"close|{A.hex()}|0.7.0")
        chat.do(A, "L|wayne123")
        self.assertEqual(chat.state.accounts["wayne"].online, 1)


class BatchTest(unittest.TestCase):
    def test_runs_of_several_sessions_in_one_batch(self) -> None:
        chat = Chat().people()
        body = run(A, 2, 0, 0, b"S|wayne|1\nO", 2) + system_run(f"open|{C.hex()}|0.7.3|plain") + run(C, 1, 0, 0, b"L|mason123", 1)
        before, time = chat.state.op, chat.time + 1000
        out = chat.apply(body, 4)
        self.assertEqual([(key, first) for key, first, _ in out.replies], [(A, 2), (C, 1)])
        self.assertEqual(chat.state.op, before + 4)
        self.assertEqual(next(iter(chat.state.accounts["wayne"].mailbox))[2], time)
        check(chat.state)

    def test_the_digest_is_a_running_sum_over_the_replies(self) -> None:
        chat = Chat().people()
        before = chat.state.digest
        chat.apply(run(A, 2, 0, 0, b"O\nO", 2) + run(C, 1, 0, 0, b"O", 1), 3)
        said = "\n".join(["o", Refusal.NOT_LOGGED_IN, Refusal.SESSION_UNKNOWN])
        self.assertEqual(chat.state.digest, zlib.crc32(said.encode(), before))

    def test_batches_are_applied_in_order(self) -> None:
        chat = Chat()
        with self.assertRaises(AssertionError):
            chat.state.apply(2, 1, NOW, system_run("expire|"))

    def test_op_moves_by_what_the_batch_says(self) -> None:
        chat = Chat()
        chat.apply(b"short", 3)
        self.assertEqual(chat.state.op, 3)


class TablesTest(unittest.TestCase):
    def test_the_page_and_the_tables_name_the_same_columns(self) -> None:
        page = " ".join((tables.__doc__ or "").split())
        for name, columns in TABLES.items():
            self.assertIn(name, page)
            for column in columns:
                self.assertIn(column, page)
        for name, (columns, rows) in Chat().people().state.tables().items():
            self.assertEqual(columns, TABLES[name])
            for row in rows:
                self.assertEqual(len(row), len(columns))
                self.assertTrue(all(type(cell) is str for cell in row))

    def test_what_is_loaded_goes_on_like_what_was_written(self) -> None:
        chat = Chat().people()
        chat.do(A, 'S|wayne|quotes " and , and é', "S|nobody|x", "O")
        chat.open(C, "2.9.3", "plain")
        chat.system(f"close|{A.hex()}|0.7.0")
        twin = Chat()
        twin.state, twin.time = reload(chat.state), chat.time
        twin.state.history = chat.state.history = []
        check(chat.state)
        for line in ("members|1.7,0.8", f"open|{A.hex()}|0.8.1|resumed", f"ack|wayne|{chat.state.accounts['wayne'].number}|0|1", "expire|"):
            chat.system(line)
            twin.system(line)
        for c in (chat, twin):
            c.do(A, "L|mason123", "S|wayne|again", "C|Wayne")
        self.assertEqual(fingerprint(twin.state), fingerprint(chat.state))
        self.assertEqual(twin.state.digest, chat.state.digest)

    def test_tables_that_contradict_themselves(self) -> None:
        account = ("mason", "1", "", "2", "0", "", "0")
        letters = [("mason", "1", "1", "5", "mason", "x"), ("mason", "2", "2", "6", "mason", "y")]
        session = (A.hex(), "plain", "mason", "0.7.1", "1", "0", "0", "0", '["o"]', "albert", "1")
        said = ("1", "3", "5", "Server", "albert joined the conversation ")
        told = [("word", "anybody", "5", "0", "uanybody"), ("request", "mason", "", "s7", "y|5"), ("thread", "mason", "2", "9", "")]
        good: dict[str, Any] = {"accounts": [account], "mailboxes": letters, "sessions": [session], "room": [said], "told": told}
        self.assertEqual(ChatState.load(3, 4, 2, good).present(), ["mason"])
        for table, rows in (
            ("accounts", [account, account]),
            ("accounts", []),
            ("accounts", [("mason", "one", *account[2:])]),
            ("accounts", [account[:5]]),
            ("accounts", [(*account[:3], "1", *account[4:])]),
            ("accounts", [(*account[:4], "-1", *account[5:])]),
            ("accounts", [(*account[:4], str(1 << 63), *account[5:])]),
            ("accounts", [(*account[:5], "holy", "0")]),
            ("accounts", [(*account[:6], "-2")]),
            ("accounts", [(*account[:6], "3")]),
            ("mailboxes", [("wayne", *letters[0][1:])]),
            ("mailboxes", letters[::-1]),
            ("mailboxes", [("mason", "0", *letters[0][2:])]),
            ("mailboxes", [letters[0], letters[0]]),
            ("sessions", [("zz", *session[1:])]),
            ("sessions", [(*session[:2], "nobody", *session[3:])]),
            ("sessions", [(*session[:8], "[]", *session[9:])]),
            ("sessions", [(*session[:8], '"o"', *session[9:])]),
            ("sessions", [(*session[:8], "5", *session[9:])]),
            ("sessions", [(*session[:8], "[", *session[9:])]),
            ("sessions", [(*session[:4], "2", *session[5:])]),
            ("sessions", [session, (B.hex(), *session[1:9], "ALBERT", "1")]),
            ("room", [said, said]),
            ("room", [said[:4]]),
            ("room", [("one", *said[1:])]),
            ("told", [told[0], told[0]]),
            ("told", [("request", "mason", "", "", "y|5")]),
            ("told", [("thread", "nobody", "2", "9", "")]),
            ("told", [("rumour", "mason", "5", "0", "x")]),
        ):
            with self.subTest(table=table, rows=rows), self.assertRaises(ValueError):
                ChatState.load(3, 4, 2, {**good, table: rows})


# --- apply is total -----------------------------------------------------------------------------------------------------------------------


class Planted(Exception):
    """What a handler was made to raise."""


class Tracer:
    """Runs something with an exception at one line of one function (or none), and notes the lines of that function it came by."""

    def __init__(self, code: types.CodeType, line: int = 0) -> None:
        self.code, self.line, self.lines = code, line, set[int]()
        self.raised = False

    def __call__(self, work: Callable[[], Any]) -> Any:
        before = sys.gettrace()
        sys.settrace(self._on_call)
        try:
            return work()
        finally:
            sys.settrace(before)

    def _on_call(self, frame: types.FrameType, event: str, argument: Any) -> Any:
        return self._on_line if frame.f_code is self.code else None

    def _on_line(self, frame: types.FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            self.lines.add(frame.f_lineno)
            if frame.f_lineno == self.line and not self.raised:
                self.raised = True
                raise Planted
        return self._on_line


def lines_of(function: Callable[..., Any]) -> tuple[set[int], set[int]]:
    """All lines of its body that run, and among them those that only hand back what is finished, which cannot fail."""
    code = function.__code__
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    offset = code.co_firstlineno - 1
    finished = {
        part.lineno + offset
        for part in ast.walk(tree)
        if isinstance(part, ast.Return) and (part.value is None or isinstance(part.value, ast.Name | ast.Constant))
    }
    lines = {line for _, _, line in code.co_lines() if line is not None and line > code.co_firstlineno}
    for nested in code.co_consts:
        if isinstance(nested, types.CodeType):
            lines |= {line for _, _, line in nested.co_lines() if line is not None}
    return lines, finished


def crowd() -> Chat:
    """Something for every branch: guests here and gone, a password, mail waiting, an old session."""
    chat = Chat().people()
    chat.open(C, "2.7.1", "plain")
    chat.do(C, "C|secret|hash")
    chat.do(A, "C|shut|hash", "Z|block|shut", "C|mine|hash", "L|mason123")
    chat.do(A, "S|wayne|one", "S|wayne|" + "x" * TEXT_MAX, *["S|wayne|" + "y" * TEXT_MAX] * 4)
    chat.do(B, "S|mason|hi")
    chat.open(b"d" * 16, "2.7.2")
    chat.do(b"d" * 16, "C|empty", "P|empty123|5")
    chat.open(b"f" * 16, "0.7.11")
    chat.do(b"f" * 16, "L|empty123")
    chat.open(b"g" * 16, "0.7.12")
    chat.do(b"g" * 16, "G|albert")
    chat.open(b"e" * 16, "0.7.9")
    chat.system(f"close|{(b'e' * 16).hex()}|0.7.9")
    return chat


COMMAND_LINES = [
    "S|wayne|hello",
    "S|wayne123|hello",
    "S|nobody|x",
    "S|wayne|",
    "S|full|x",
    "C|zoë|hash",
    "C|plain",
    "C|mason",
    "C|a b",
    "L|wayne123",
    "L|nobody123",
    "L|secret123",
    "L|secret123|hash",
    "L|secret123|hash|newer",
    "L|shut123|hash",
    "L|secret123|!TOO_MANY:7",
    "C|plain2|-",
    "O",
    "R|wayne123",
    "R|empty123",
    "R|nobody123",
    "R|secret123",
    "D|empty123",
    "D|wayne123",
    "D|nobody123",
    "D|secret123",
    "D|secret123|hash",
    "E|mason123|",
    "E|wayne123",
    "E|secret123|-",
    f"J|{(b'd' * 16).hex()}",
    f"J|{(b'f' * 16).hex()}",
    "H|secret123|hash|newer",
    "H|mason123||new",
    "H|mason123|-",
    "Z|block|mason",
    "Z|unblock|shut123",
    "Z|remove|wayne",
    "Z|reset|mason|new",
    "Z|reset|nobody|new",
    "G|tesla",
    "G|Albert",
    "G|secret",
    "G|a b",
    "G|full",
    "V|hello",
    "V|",
    "U",
    "N|nobody",
    "N|wayne",
    "N|secret",
    "P|empty123|5",
    "P|empty123|05",
    "P|empty123|-5",
    "P|nobody123|5",
    "P|secret123|5",
    f"P|empty123|{(1 << 63) - 1}",
    "X|empty123|5",
    "X|empty123|6",
    "X|empty123|x",
    "X|secret123|5",
    "M|newcomer|c||r||",
    "M|wayne|i||r1||",
    "M|wayne|s|7|r2|mason|hello|",
    "M|wayne|s|x||mason|hello|",
    "M|secret|d||||",
    "F|wayne|1700000000000000",
    "F|secret|1",
]
SYSTEM_LINES = [
    f"open|{A.hex()}|2.7.77|resumed",
    f"open|{(b'n' * 16).hex()}|2.7.78|plain",
    f"open|{(b'n' * 16).hex()}|2.7.78|resumed",
    f"open|{A.hex()}||resumed",
    f"close|{A.hex()}|0.7.0",
    f"close|{A.hex()}|9.9.9",
    "ack|wayne|4|0|1",
    "ack|wayne|4|1|2",
    "ack|nobody|4|0|1",
    "members|1.7",
    "expire|",
    "begin|tester|hash|abc|hash2",
]


LETTERS = [*HANDLERS, "A", "W", "?"]
SOME_WORDS = [
    *("mason", "wayne", "mason123", "wayne123", "zoë", "zoë123", "", "a b", "1", "2", "99", str(1 << 62)),
    *("0.7.1", "1.7.1", "0.7,1.7", "plain", "-", "own", "hash", "!TOO_MANY:5", "block", "unblock", "remove", "reset"),
]


class TotalTest(unittest.TestCase):
    """2.5.5: a command that raises is one refusal, the same everywhere, and has changed nothing."""

    def prepared(self) -> tuple[Chat, dict[str, bytes]]:
        chat = crowd()
        full = Account("full", 999)
        for seq in (1, 2, 3):
            full.put((seq, seq, 1, "x", "y"))
        chat.state.add(full)
        chat.state.sessions[b"z" * 16] = Session(b"z" * 16, "numbered")
        chat.state.told.remember("wayne", "i", "r1", "y|5")
        return chat, {"in": A, "out": b"z" * 16}

    def one(self, function: Callable[..., Any], bodies: list[bytes], reply: str | None) -> None:
        """Raise at every line of the function that these batches come by; together they must come by all of it."""
        whole, finished = lines_of(function)
        code = function.__code__
        seen: set[int] = set()
        origin, _ = self.prepared()
        for body in bodies:
            limits = mock.patch.object(module, "MAILBOX_MAX", 3 + 10**6 * (b"|full|" not in body))
            with limits, mock.patch.object(room, "MEMBERS_MAX", 1 + 10**6 * (b"G|full" not in body)):
                tracer = Tracer(code)
                chat = copy.deepcopy(origin)
                chat.time += 2 * SESSION_LIFE_US
                tracer(lambda chat=chat, body=body: chat.apply(body))  # type: ignore[misc]
                seen |= tracer.lines
                for line in sorted(tracer.lines - finished):
                    chat = copy.deepcopy(origin)
                    chat.time += 2 * SESSION_LIFE_US
                    before = fingerprint(chat.state, requests=False)
                    tracer = Tracer(code, line)
                    out = tracer(lambda chat=chat, body=body: chat.apply(body))  # type: ignore[misc]
                    where = f"{function.__name__}, line {line}, {body[RUN.size :][:40]!r}"
                    self.assertTrue(tracer.raised, where)
                    self.assertEqual(fingerprint(chat.state, requests=False), before, where)
                    self.assertEqual([replies for _, _, replies in out.replies], [[reply]] if reply else [], where)
        nested = {line for c in code.co_consts if isinstance(c, types.CodeType) for _, _, line in c.co_lines() if line}
        self.assertEqual(whole - seen - nested, set(), f"lines of {function.__name__} that no command here comes by")

    def test_every_line_of_every_command(self) -> None:
        self.assertEqual(Chat().people().do(A, "?x", "", "|"), [Refusal.INVALID] * 3)
        for letter, handler in HANDLERS.items():
            with self.subTest(letter=letter):
                bodies = []
                for line in COMMAND_LINES:
                    if line[0] == letter:
                        bodies.append(run(A, 12, 0, 0, line.encode(), 1))
                        bodies.append(run(b"z" * 16, 1, 0, 0, line.encode(), 1))
                        bodies.append(run(b"g" * 16, 2, 0, 0, line.encode(), 1))
                self.one(handler, bodies, Refusal.INTERNAL)

    def test_every_line_of_every_system_command(self) -> None:
        for word, handler in SYSTEM_HANDLERS.items():
            with self.subTest(word=word):
                self.one(handler, [system_run(line) for line in SYSTEM_LINES if line.startswith(word + "|")], None)

    def test_the_bench_itself_notices_a_handler_that_changes_first(self) -> None:
        def rash(self: ChatState, session: Session, line: str, op: int, time: int, out: Outcome) -> str:
            self.message_count += 1
            reply = line[2:]
            return reply

        with mock.patch.dict(HANDLERS, {"O": rash}), self.assertRaises(AssertionError):
            self.one(rash, [run(A, 12, 0, 0, b"O", 1)], Refusal.INTERNAL)

    def test_a_poison_command_is_one_refusal(self) -> None:
        def poison(*_: Any) -> str:
            raise KeyError("poison")

        chat = Chat().people()
        with mock.patch.dict(HANDLERS, {"O": poison}):
            self.assertEqual(chat.do(A, "S|wayne|before", "O", "S|wayne|after"), ["p", Refusal.INTERNAL, "p"])
        self.assertEqual(chat.state.sessions[A].replies[2], Refusal.INTERNAL, "and stays its reply")
        with mock.patch.dict(SYSTEM_HANDLERS, {"expire": poison}):
            chat.system("expire|")
        check(chat.state)

    def test_only_what_is_not_the_commands_fault_passes(self) -> None:
        for fault in (MemoryError, RecursionError):
            with mock.patch.dict(HANDLERS, {"O": mock.Mock(side_effect=fault)}), self.assertRaises(fault):
                Chat().people().do(A, "O")
            with mock.patch.dict(SYSTEM_HANDLERS, {"expire": mock.Mock(side_effect=fault)}), self.assertRaises(fault):
                Chat().system("expire|")

    def test_system_commands_that_make_no_sense_do_nothing(self) -> None:
        chat = crowd()
        before = fingerprint(chat.state)
        for line in (
            *("", "|", "expire|"[:3], "fly|away", "members|1|2", "close|xyz|1.7.1"),
            *("open", "open|xyz|0.1.1|plain", "open|61|0.1.1|plain", f"open|{A.hex()}|a|b|c", f"open|{C.hex()}"),
            *("ack|wayne|x|0|1", "ack|wayne|4|0|x", "ack|wayne|4|x|1", "ack|wayne|4|1"),
        ):
            chat.system(line)
            self.assertEqual(fingerprint(chat.state), before, line)

    def test_runs_whose_header_lies(self) -> None:
        chat = crowd()
        for lines, count in ((b"O\nO", 1), (b"O", 2), (b"\xff\xfe", 1), (b"", 2**32 - 1), (b"\xff", 2**32 - 1)):
            with self.subTest(lines=lines, count=count):
                out = chat.apply(run(A, chat.state.sessions[A].last + 1, 0, 0, lines, count))
                replies = out.replies[0][2]
                self.assertEqual(set(replies), {Refusal.INVALID})
                self.assertLessEqual(len(replies), len(lines) + 1, "a header cannot make it fill the memory")
                chat.apply(RUN.pack(SYSTEM, len(lines), count, A, 0, 0, 0) + lines)
        self.assertIsNotNone(chat.state.sessions[A].account, "no `O` was executed")
        check(chat.state)

    @unittest.skipIf(given is None, "hypothesis is not installed")
    def test_arbitrary_bytes(self) -> None:
        @settings(max_examples=300, deadline=None, database=None)
        @given(st.lists(st.tuples(st.binary(max_size=120), st.integers(1, 2**32)), max_size=5))
        def look(batches: list[tuple[bytes, int]]) -> None:
            state = ChatState()
            for body, count in batches:
                state.apply(state.op + 1, count, NOW, body)
                check(state)

        look()

    @unittest.skipIf(given is None, "hypothesis is not installed")
    def test_arbitrary_commands_of_guests_that_are_there(self) -> None:
        names = ["mason", "wayne", "Mason", "zoë", "x" * 33, ""]
        keys = [A, B, C, b"d" * 16]
        word = st.sampled_from(SOME_WORDS)
        line = st.one_of(
            st.builds(lambda letter, words: "|".join([letter, *words]), st.sampled_from(LETTERS), st.lists(word, max_size=3)),
            st.text(max_size=20).filter(lambda t: "\n" not in t),
        )
        number = st.one_of(st.integers(0, 12), st.integers(0, 2**64 - 1))
        skip = st.one_of(st.integers(0, 3), st.integers(0, 2**32 - 1))
        one_run = st.builds(
            lambda key, first, low, skip, lines: run(key, first, low, skip, "\n".join(lines).encode(), len(lines)),
            st.sampled_from(keys), number, number, skip, st.lists(line, min_size=1, max_size=5),
        )  # fmt: skip
        key_word = st.sampled_from([key.hex() for key in keys])
        system = st.one_of(
            st.builds(
                lambda k, h, kind: f"open|{k}|{h}|{kind}",
                key_word,
                st.sampled_from(["0.7.1", "1.7.2", "2.7.3", ""]),
                st.sampled_from(["plain", "numbered", "resumed", "plain-deaf", "numbered-deaf"]),
            ),
            st.builds(lambda k, h: f"close|{k}|{h}", key_word, st.sampled_from(["0.7.1", "1.7.2", "2.7.3"])),
            st.builds(
                lambda n, i, a, u: f"ack|{n}|{i}|{a}|{u}",
                st.sampled_from(names),
                st.sampled_from([2, 4]),
                st.integers(-1, 6),
                st.integers(-3, 9),
            ),
            st.sampled_from(["members|0.7", "members|1.7,2.7", "members|", "expire|", "begin|zoë|hash"]),
            st.builds("|".join, st.lists(word, max_size=4)),
        ).map(system_run)
        noise = st.binary(max_size=60)

        @settings(max_examples=300, deadline=None, database=None)
        @given(st.lists(st.one_of(one_run, one_run, system, system, noise), max_size=25))
        def look(bodies: list[bytes]) -> None:
            chat = Chat()
            for key, home in ((A, "0.7.1"), (B, "1.7.2")):
                chat.open(key, home)
                chat.run(key, 1, f"C|{names[home == '1.7.2']}")
            with mock.patch.object(module, "SESSION_MAX", 3), mock.patch.object(module, "MAILBOX_MAX", 4):
                for body in bodies:
                    chat.time += SESSION_LIFE_US // 4
                    chat.apply(body, 5)
                    check(chat.state)

        look()


if __name__ == "__main__":
    unittest.main()
