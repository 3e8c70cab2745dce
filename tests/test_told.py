"""What the guests of the gRPC door are told, as commands of the log."""

from __future__ import annotations

import unittest
from typing import Any
from unittest import mock

import state
import told
from commands import WRONG, Refusal, run, system_run
from people import Outcome
from state import ChatState
from told import REQUESTS_MAX, THREADS_SPARE, WORDS_HERE_MAX, WORDS_LIFE_US, WORDS_MAX

DOOR, GUEST = b"d" * 16, b"g" * 16
SECOND = 1_000_000


class Told(unittest.TestCase):
    def setUp(self) -> None:
        self.state, self.time = ChatState(), 100 * SECOND
        self.numbers = {DOOR: 0, GUEST: 0}
        for key, home, kind in ((DOOR, "0.7.1", "plain-deaf"), (GUEST, "0.7.2", "plain")):
            self.apply(system_run(f"open|{key.hex()}|{home}|{kind}"))

    def apply(self, image: bytes) -> Outcome:
        self.time = max(self.time + 1, self.state.time)
        return self.state.apply(self.state.op + 1, 1, self.time, image)

    def do(self, line: str, key: bytes = DOOR) -> str:
        self.numbers[key] += 1
        self.out = self.apply(run(key, self.numbers[key], 0, 0, line.encode(), 1))
        return self.out.replies[0][2][0]

    def call(self, verb: str, name: str, rest: str = "", *, thread: str = "", request: str = "", proof: str = "") -> str:
        """The word that was told, or the refusal."""
        before = len(self.words(name))
        reply = self.do(f"M|{name}|{verb}|{thread}|{request}|{rest}|{proof}")
        if not reply.startswith("y"):
            return reply
        words = self.words(name)
        return words[-1] if len(words) > before else ""

    def now(self) -> int:
        """The position of the newest word."""
        return 2 * self.time + 1

    def words(self, name: str, above: int = 0) -> list[str]:
        return [word for _, _, word in self.state.told.after(name, above)]

    def mail(self, name: str) -> list[tuple[str, str]]:
        return [(sender, text) for *_, sender, text in self.state.accounts[name].mailbox]

    # --- what calls do --------------------------------------------------------------------------------------------------------------------

    def test_each_verb(self) -> None:
        self.assertEqual(self.call("i", "wayne"), "u", "nobody of that name")
        self.assertEqual(self.call("c", "wayne"), "c")
        self.assertEqual(self.out.filled, {"|wayne"})
        self.assertEqual(self.call("c", "wayne"), "t")
        self.assertEqual(self.call("c", "Wayne"), "t", "looks like it")
        self.assertEqual(self.call("i", "wayne"), "i")
        self.assertEqual(self.call("w", "wayne", "a|b.*"), "wa|b.*")
        self.assertEqual(self.call("s", "wayne", "mason|hello"), "n")
        self.call("c", "mason")
        self.assertEqual(self.call("s", "wayne", "mason|he|llo"), "s")
        self.assertEqual(self.call("s", "wayne", "mason123|again"), "s", "by its id")
        self.assertEqual(self.mail("mason"), [("wayne", "he|llo"), ("wayne", "again")])
        self.assertEqual(self.call("o", "wayne"), "o")
        self.assertEqual(self.call("d", "mason"), "d", "with its mail")
        self.assertNotIn("mason", self.state.accounts)
        for verb in "iowd":
            self.assertEqual(self.call(verb, "mason"), "u")
        self.assertEqual(self.call("s", "mason", "wayne|x"), "u")
        self.assertEqual(self.words("wayne"), ["u", "c", "t", "i", "wa|b.*", "n", "s", "s", "o"])

    def test_what_cannot_be(self) -> None:
        self.call("c", "wayne")
        for line in (
            "M",
            "M|wayne",
            "M|wayne|x||||",
            "M|wayne|s|||wayne|",
            "M|wayne|s|one||wayne|x|",
            "F|wayne",
            "F|wayne|soon",
            "M|wayne|k|||x|",
        ):
            reply = self.do(line)
            self.assertIn(reply, (Refusal.INTERNAL, Refusal.INVALID), line)
        self.assertEqual(self.call("c", "a b"), Refusal.INVALID)
        self.assertEqual(self.call("s", "wayne", "wayne|"), Refusal.INVALID)
        self.assertEqual((self.words("wayne"), self.mail("wayne")), (["c"], []))

    def test_a_full_mailbox(self) -> None:
        self.call("c", "wayne")
        with mock.patch.object(state, "MAILBOX_MAX", 1):
            self.assertEqual([self.call("s", "wayne", "wayne123|x") for _ in range(2)], ["s", "fwayne"])

    def test_a_password(self) -> None:
        self.call("i", "wayne")
        self.assertEqual(self.call("c", "wayne", proof=WRONG), Refusal.NEEDS_PASSWORD)
        self.assertEqual(self.do("M|wayne|c||||HASH")[0], "y")
        self.assertEqual(self.words("wayne"), ["c"], "what was told to the name before is nobody's")
        self.call("c", "mason")
        before = self.words("wayne")
        for verb, rest in (("i", ""), ("o", ""), ("d", ""), ("w", ".*"), ("s", "mason|x"), ("k", "1")):
            for proof in ("", WRONG, "OTHER"):
                self.assertEqual(self.call(verb, "wayne", rest, proof=proof), Refusal.WRONG_PASSWORD, verb)
        self.assertEqual(self.call("i", "wayne", proof="!TOO_MANY:9"), "!TOO_MANY|9")
        self.assertEqual(self.call("c", "wayne"), Refusal.NAME_TAKEN, "and nothing is told")
        self.assertEqual((self.words("wayne"), self.mail("mason")), (before, []))
        self.assertEqual(self.call("i", "wayne", proof="HASH"), "i")
        self.assertEqual(self.out.proved, ["wayne"], "its attempts are forgiven")
        self.assertEqual(self.call("s", "wayne", "mason|x", proof="HASH"), "s")
        self.assertEqual(self.out.proved, [], "only by a log-in")
        self.assertEqual(self.call("k", "wayne", str(self.now()), proof="HASH"), "")
        self.assertEqual(self.words("wayne"), [])
        self.state.accounts["wayne"].is_blocked = True
        self.assertEqual(self.call("i", "wayne", proof="HASH"), Refusal.BLOCKED)

    def test_hidden_until_used(self) -> None:
        self.state = ChatState()
        self.apply(system_run("members|0.7"))
        self.apply(system_run("begin|abc|HASH"))
        self.apply(system_run(f"open|{DOOR.hex()}|0.7.1|plain-deaf"))
        self.assertEqual(self.state.names(), [])
        self.call("i", "abc", proof=WRONG)
        self.assertEqual(self.state.names(), [])
        self.call("i", "abc", proof="HASH")
        self.assertEqual(self.state.names(), ["abc"])

    # --- once -----------------------------------------------------------------------------------------------------------------------------

    def test_asked_again(self) -> None:
        self.call("c", "wayne")
        first = self.do("M|wayne|s|7|r1|wayne|hello|")
        words = self.words("wayne")
        self.assertEqual(self.do("M|wayne|s|7|r1|wayne|hello|"), first)
        self.assertEqual((self.words("wayne"), self.mail("wayne")), (words, [("wayne", "hello")]))
        self.assertNotEqual(self.do("M|wayne|s||r2|wayne|hello|"), first)
        gone = self.do("M|wayne|d||r1||")
        self.assertNotEqual(gone, first, "another verb is another call")
        self.assertEqual(self.do("M|wayne|d||r1||"), gone, "although there is no such account any more")
        self.assertEqual(self.words("wayne")[-1], "d")

    def test_a_refusal_is_not_remembered(self) -> None:
        self.do("M|wayne|c||||HASH")
        self.assertEqual(self.do("M|wayne|i||r1||"), Refusal.WRONG_PASSWORD)
        self.assertEqual(self.do("M|wayne|i||r1||HASH")[0], "y")

    def test_the_newest_requests_are_remembered(self) -> None:
        self.assertGreaterEqual(REQUESTS_MAX, 100_000)
        self.call("c", "wayne")
        with mock.patch.object(told, "REQUESTS_MAX", 2):
            replies = [self.do(f"M|wayne|i||r{n}||") for n in range(3)]
            self.assertEqual(self.do("M|wayne|i||r2||"), replies[2])
            self.assertNotEqual(self.do("M|wayne|i||r0||"), replies[0])

    # --- how long -------------------------------------------------------------------------------------------------------------------------

    def test_shown(self) -> None:
        self.call("c", "wayne")
        self.call("s", "wayne", "wayne|one")
        upto = self.now()
        self.call("s", "wayne", "wayne|two")
        self.assertEqual(self.do(f"F|wayne|{upto}"), f"y|{upto}")
        self.assertEqual((self.words("wayne"), self.mail("wayne")), (["s"], [("wayne", "two")]))
        self.assertEqual(self.do(f"F|nobody|{upto}"), f"y|{upto}")
        self.assertEqual(self.call("k", "wayne", str(self.now() + 1000)), Refusal.INVALID, "nothing has this time yet")
        self.assertEqual(self.call("k", "wayne", str(self.now())), "")
        self.assertEqual((self.words("wayne"), self.mail("wayne"), self.state.told.words, self.state.told.order), ([], [], {}, {}))

    def test_a_message_and_its_word_are_two(self) -> None:
        self.call("c", "wayne")
        self.call("s", "wayne", "wayne|to myself")
        self.do(f"F|wayne|{self.now() - 1}")
        self.assertEqual((self.words("wayne"), self.mail("wayne")), (["s"], []))

    def test_shown_by_a_stream_that_has_come_in(self) -> None:
        self.do("M|wayne|c||||HASH")
        self.assertEqual(self.do(f"F|wayne|{self.now()}", GUEST), Refusal.NOT_LOGGED_IN)
        self.assertEqual(self.words("wayne"), ["c"])
        self.do("L|wayne123|HASH", GUEST)
        self.assertEqual(self.do(f"F|wayne|{self.now()}", GUEST)[0], "y")
        self.assertEqual(self.words("wayne"), [])

    def test_words_are_bounded(self) -> None:
        for n in range(WORDS_MAX + 5):
            self.call("w", "ghost", str(n)) if n else self.call("c", "ghost")
        self.assertEqual(self.words("ghost")[0], "w5")
        self.assertEqual(len(self.words("ghost")), WORDS_MAX)
        self.do("L|ghost123", GUEST)
        for n in range(5):
            self.call("w", "ghost", f"more{n}")
        self.assertEqual(len(self.words("ghost")), WORDS_MAX + 5, "they are on their way")
        self.assertGreater(WORDS_HERE_MAX, WORDS_MAX)
        with mock.patch.object(told, "ALL_WORDS_MAX", WORDS_MAX + 5):
            self.call("i", "nobody")
            self.assertEqual((len(self.words("ghost")), self.words("nobody")), (WORDS_MAX + 4, ["u"]))

    def test_words_grow_old(self) -> None:
        self.call("i", "ghost")
        self.assertFalse(self.state.has_stale(self.time + WORDS_LIFE_US - 1))
        self.time += WORDS_LIFE_US // 2
        self.call("i", "nobody")
        self.time += WORDS_LIFE_US // 2
        self.assertTrue(self.state.has_stale(self.time))
        self.apply(system_run("expire|"))
        self.assertEqual((self.words("ghost"), self.words("nobody")), ([], ["u"]))
        self.time += WORDS_LIFE_US
        self.call("i", "third")
        self.assertEqual(list(self.state.told.words), ["third"])

    # --- threads --------------------------------------------------------------------------------------------------------------------------

    def test_threads(self) -> None:
        self.call("c", "wayne")
        self.call("s", "wayne", "wayne|one", thread="7")
        self.call("s", "wayne", "wayne|two")
        self.call("s", "wayne", "wayne|three", thread=str((1 << 64) - 1))
        self.assertEqual([self.state.told.thread("wayne", seq) for seq in (1, 2, 3)], [7, 0, (1 << 64) - 1])
        self.assertEqual(self.state.told.thread("nobody", 1), 0)
        self.assertEqual([thread for _, thread, _ in self.state.told.after("wayne", 0)], [0, 7, 0, (1 << 64) - 1])
        for _ in range(3 * THREADS_SPARE):
            self.call("s", "wayne", "wayne|x", thread="8")
            self.do(f"F|wayne|{self.now()}")
        self.assertLessEqual(len(self.state.told.threads["wayne"]), THREADS_SPARE + 2)
        self.call("d", "wayne")
        self.assertEqual(self.state.told.threads, {})

    def test_as_a_table(self) -> None:
        self.call("c", "wayne", request="r1")
        self.call("i", "ghost", thread="5")
        self.call("s", "wayne", "wayne|x", thread="9", request="with | a bar".replace("|", "/"))
        rows: dict[str, Any] = {name: list(rows) for name, (_, rows) in self.state.tables().items()}
        twin = ChatState.load(self.state.op, self.state.digest, self.state.message_count, rows, self.state.time)
        self.assertEqual({name: list(rows) for name, (_, rows) in twin.tables().items()}, rows)
        for name in ("words", "order", "requests", "threads"):
            mine, twins = getattr(self.state.told, name), getattr(twin.told, name)
            self.assertEqual((list(mine), mine), (list(twins), twins))


if __name__ == "__main__":
    unittest.main()
