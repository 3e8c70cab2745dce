"""Reads that take long: patterns a slice at a time, conversations beside the loop; both as new as when they were asked."""

from __future__ import annotations

import unittest

from commands import HISTORY_MAX, TEXT_MAX, system_run
from doors.pipe_words import INVALID, NO_HISTORY, UNREADABLE
from reading import SLICE, Searches, matcher
from tests.front_desk import FrontDesk, Log, Person

HEX = "00112233445566778899aabbccddeeff"


class PatternsTest(unittest.TestCase):
    def test_wholly(self) -> None:
        names = ["mason", "wayne", "waynes", "w.yne", "Ä"]
        for pattern, found in (
            ("w.yne", ["wayne", "w.yne"]),
            ("w", []),
            (".*", names),
            (r"w\.yne", ["w.yne"]),
            ("(?i)MASON", ["mason"]),
            (r"\pL", ["Ä"]),
            ("", []),
        ):
            with self.subTest(pattern=pattern):
                self.assertEqual(list(filter(matcher(pattern), names)), found)
        for pattern in ("(", "(?=x)", "x" * 257, "((((a{100}){100}){100}){100}", "\ud800"):
            with self.subTest(pattern=pattern):
                self.assertEqual(list(filter(matcher(pattern), names)), [])


class SearchesTest(unittest.TestCase):
    def setUp(self) -> None:
        self.turns: list[int] = []
        self.queue: list[object] = []
        self.searches = Searches(self.queue.append)
        self.found: list[tuple[str, list[str]]] = []

    def turn(self) -> None:
        callback = self.queue.pop(0)
        assert callable(callback) and not self.queue, "one slice a turn"
        callback()

    def ask(self, names: list[str], pattern: str) -> None:
        self.searches.ask(lambda: list(names), pattern, lambda found: self.found.append((pattern, found)))

    def test_a_slice_a_turn_whoever_asks(self) -> None:
        names = [f"n{i}" for i in range(3 * SLICE)]
        self.ask(names, "n.*")
        self.ask(names, "n[12]")
        names.append("n2late")
        for _ in range(3):
            self.assertEqual(self.found, [])
            self.turn()
        self.assertEqual(self.found, [("n.*", names[:-1])])
        for _ in range(4):
            self.turn()
        self.assertEqual(self.found[1:], [("n[12]", ["n1", "n2"])])
        self.assertEqual((self.queue, len(self.searches.waiting)), ([], 0))

    def test_nobody_to_match(self) -> None:
        self.ask([], ".*")
        self.turn()
        self.assertEqual(self.found, [(".*", [])])


class Numbered(unittest.TestCase):
    """Two people in the numbered mode, at two replicas."""

    def setUp(self) -> None:
        self.log = Log()
        self.front = FrontDesk(self.log)
        self.asked: dict[Person, int] = {}
        self.mason = self.enter(self.front, "mason", 1)

    def enter(self, front: FrontDesk, name: str, session: int) -> Person:
        person = front.connect()
        person.say(f"understudy 1 {session:032x}\n")
        self.asked[person] = 0
        self.assertIn(b"Success", self.ask(person, f"1|{name}"))
        return person

    def send(self, person: Person, line: str) -> int:
        self.asked[person] += 1
        person.send(f"{self.asked[person]} 0 {line}\n".encode())
        return self.asked[person]

    def ask(self, person: Person, line: str) -> bytes:
        """The words of the reply alone."""
        number = self.send(person, line)
        person.front.turn()
        return self.reply(person.read(), number)

    def reply(self, words: bytes, number: int) -> bytes:
        """Out of all that came."""
        while words:
            head, _, rest = words.partition(b"\n")
            word, *_ = numbers = head.split()
            size = int(numbers[-1]) if len(numbers) > 1 and (word.isdigit() or word == b"*") else 0
            if word == b"%d" % number:
                return rest[:size]
            words = rest[size:]
        return b""


class HistoryTest(Numbered):
    def setUp(self) -> None:
        super().setUp()
        self.wayne = self.enter(self.front, "wayne", 2)

    def history(self, person: Person, line: str) -> list[str]:
        """Head and texts, with who said them."""
        head, *rows = self.ask(person, line).decode().splitlines()
        return [head, *("{2}: {3}".format(*row.split("|", 3)) for row in rows)]

    def test_a_conversation(self) -> None:
        self.ask(self.mason, "3|wayne|hello | wayne")
        self.ask(self.wayne, "3|mason|hello yourself")
        self.ask(self.mason, "3|mason|a note")
        both = ["conversation with {}: 2 messages", "mason: hello | wayne", "wayne: hello yourself"]
        self.assertEqual(self.history(self.mason, "history|wayne"), [both[0].format("wayne"), *both[1:]])
        self.assertEqual(self.history(self.wayne, "history|mason123"), [both[0].format("mason"), *both[1:]])
        self.assertEqual(self.history(self.mason, "history|mason|5"), ["conversation with mason: 1 message", "mason: a note"])
        self.assertEqual(self.history(self.mason, "history|nobody"), ["conversation with nobody: 0 messages"])
        row = self.ask(self.mason, "history|mason").decode().splitlines()[1].split("|")
        self.assertEqual(row[0], "3", "its id")
        self.assertTrue(row[1].startswith("17000000"), "microseconds")

    def test_page_by_page(self) -> None:
        for n in range(7):
            self.ask(self.mason, f"3|wayne|{n}")
        seen, line = list[str](), "history|wayne|3"
        for left in (5, 2, 0):
            head, *texts = self.history(self.mason, line)
            self.assertEqual(head.partition(": ")[2].partition(" ")[0], str(len(texts)))
            self.assertEqual(head.endswith(f", older before {left}"), bool(left))
            seen, line = texts + seen, f"history|wayne|3|{left}"
        self.assertEqual(seen, [f"mason: {n}" for n in range(7)])

    def test_a_page_has_a_limit(self) -> None:
        text = "x" * (TEXT_MAX - 10)
        for _ in range(6):
            self.ask(self.mason, f"3|wayne|{text}")
        self.assertEqual(len(self.history(self.mason, f"history|wayne|{HISTORY_MAX + 1}")), 1 + 4)

    def test_nobody_reads_the_conversations_of_others(self) -> None:
        self.ask(self.mason, "3|wayne|between us")
        nora = self.enter(self.front, "nora", 3)
        self.assertEqual(self.history(nora, "history|wayne"), ["conversation with wayne: 0 messages"])
        self.assertEqual(self.history(nora, "history|mason"), ["conversation with mason: 0 messages"])
        self.ask(nora, "bye")
        self.assertEqual(self.ask(nora, "history|wayne"), INVALID)
        self.assertEqual(self.ask(nora, "0|mason123|wrong"), b"user : mason is now logged in\n")
        self.assertEqual(len(self.history(nora, "history|wayne")), 2, "an open account is open")

    def test_a_password_keeps_it(self) -> None:
        self.ask(self.mason, "passwd|mason123|\tsecret")
        self.ask(self.mason, "3|wayne|between us")
        nora = self.enter(self.front, "nora", 3)
        self.ask(nora, "bye")
        self.assertEqual(self.ask(nora, "0|mason123|wrong"), b"wrong password for mason123\n")
        self.assertEqual(self.ask(nora, "history|wayne"), INVALID)
        self.ask(nora, "0|mason123|secret")
        self.assertEqual(self.history(nora, "history|wayne")[1:], ["mason: between us"])

    def test_a_name_taken_anew(self) -> None:
        """A new wayne reads nothing of the old one; mason reads all, and is told whose it was."""
        self.ask(self.mason, "3|wayne|old")
        self.ask(self.wayne, "3|mason|old too")
        self.ask(self.wayne, "4|wayne123")
        self.assertEqual(self.ask(self.wayne, "5|wayne123"), b"Your account has been deleted\n")
        gone = ["conversation with wayne: 2 messages, an earlier wayne up to 2", "mason: old", "wayne: old too"]
        self.assertEqual(self.history(self.mason, "history|wayne"), gone)
        self.assertEqual(self.ask(self.wayne, "history|mason"), INVALID)
        other = self.enter(self.front, "wayne", 4)
        self.assertEqual(self.history(other, "history|mason"), ["conversation with mason: 0 messages"])
        self.ask(self.mason, "3|wayne|new")
        self.assertEqual(self.history(other, "history|mason"), ["conversation with mason: 1 message", "mason: new"])
        self.assertEqual(self.history(self.mason, "history|wayne"), [gone[0].replace("2 messages", "3 messages"), *gone[1:], "mason: new"])
        self.assertEqual(self.history(self.mason, "history|wayne|1"), ["conversation with wayne: 1 message, older before 3", "mason: new"])

    def test_an_account_that_an_earlier_version_made(self) -> None:
        self.front.state.accounts["mason"].since = -1
        self.assertEqual(self.ask(self.mason, "history|wayne"), NO_HISTORY.encode())

    def test_what_cannot_be_read(self) -> None:
        self.ask(self.mason, "3|wayne|gone")
        self.front.state.history.clear()
        self.assertEqual(self.ask(self.mason, "history|wayne"), UNREADABLE.encode())
        self.assertEqual(self.front.complaints[-1], "the history has a gap: no snapshot is made")

    def test_lines_that_ask_for_none(self) -> None:
        for rest in ("", "|", "|wayne|x", "|wayne|-1", "|wayne|0", "|wayne|1|2|3", "|wayne|1|", "|" + "x" * 40, "|\x1b"):
            with self.subTest(rest):
                self.assertEqual(self.ask(self.mason, f"history{rest}"), INVALID)

    def test_plain_clients_know_no_history(self) -> None:
        person = self.front.connect()
        self.assertTrue(person.say("0|mason123\nhistory|wayne\n").endswith(INVALID))

    def test_it_waits_for_its_turn_and_what_comes_behind_waits_for_it(self) -> None:
        number = self.send(self.mason, "3|wayne|one")
        self.send(self.mason, "history|wayne")
        self.send(self.mason, "3|wayne|two")
        self.front.turn()
        words = self.mason.read()
        self.assertTrue(self.reply(words, number + 1).endswith(b"|mason|one\n"))
        self.assertIn(b"two", self.reply(words, number + 2))


class AsNewAsAskedTest(Numbered):
    """At a backup: its own state answers, once it holds all that the primary's held."""

    def test_it_waits_for_the_op(self) -> None:
        for line, early, late in (
            ("2|.*", b"Account matched: mason\n", b"Account matched: mason,nora\n"),
            ("history|nora", b"0 messages\n", b"|nora|hello\n"),
        ):
            with self.subTest(line):
                log = Log()
                primary, backup = FrontDesk(log), FrontDesk(log, "1.7")
                mason = self.enter(backup, "mason", 5)
                self.assertTrue(self.ask(mason, line).endswith(early))
                log.desks.remove(backup)
                before = log.op
                primary.turn()
                nora = primary.connect()
                nora.say("1|nora\n3|mason|hello\n")
                number = self.send(mason, line)
                (ticket,) = backup.desk.queries
                backup.desk.answer(ticket, primary.desk.evaluate(mason.connection.session, backup_command(mason)))
                backup.turn()
                self.assertEqual(self.reply(mason.read(), number), b"", "its state is too old")
                backup.desk.renew(b"")
                self.assertEqual(backup.desk.queries, {}, "and what it needs to know is known")
                self.assertLess(before, log.op)
                backup.desk.replace_state(primary.state)
                backup.state = primary.state
                backup.turn()
                self.assertTrue(self.reply(mason.read(), number).endswith(late))

    def test_by_the_batch_that_was_missing(self) -> None:
        self.send(self.mason, "2|m.*")
        (ticket,) = self.front.desk.queries
        self.front.desk.answer(ticket, f"x|{self.front.state.op + 1}")
        self.front.turn()
        self.assertEqual(self.mason.read(), b"")
        self.front.desk.submit(system_run("expire|"))
        self.front.turn()
        self.assertIn(b"Account matched: mason\n", self.mason.read())

    def test_a_view_in_which_the_answer_was_lost(self) -> None:
        self.send(self.mason, "2|m.*")
        self.front.desk.renew(system_run("members|0.7"))
        self.front.turn()
        self.assertIn(b"Account matched: mason\n", self.mason.read())

    def test_out_of_the_view(self) -> None:
        self.send(self.mason, "2|m.*")
        (ticket,) = self.front.desk.queries
        self.front.desk.answer(ticket, f"x|{self.front.state.op + 1}")
        self.front.desk.close_all("not in the view")
        self.assertEqual(self.front.desk.behind, [])


def backup_command(person: Person) -> str:
    """What it asks the primary."""
    (asked,) = person.front.desk.queries.values()
    return asked[1].command


if __name__ == "__main__":
    unittest.main()
