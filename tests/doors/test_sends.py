"""Sends in bulk come to the same as line by line, or frame by frame: commands, numbers, words."""

from __future__ import annotations

import random
import unittest

from commands import ID_SUFFIX, NAME_MAX, ONLINE, WAITING, Refusal
from doors.framed import BODY_MAX, STRANGER_MAX, FramedTranslator, Frames
from doors.pipe import PipeTranslator
from doors.sends import SHORT, WHOM_MAX, framed_sends_of, numbered_sends_of, sends_of
from tests.doors.test_pipe import HEX, Book

GOOD = ("3|wayne|hello", "3|wayne123|a|b", "3|bob|\tétoile", "3|żółw|x", f"3|{'n' * (NAME_MAX + len(ID_SUFFIX))}|x")
ODD = (
    *(
        "3|wayne|",
        "3||x",
        "3|wayne",
        "3",
        "",
        "4|wayne123",
        "2",
        "2|w.*",
        "1|new",
        "0|wayne123",
        "who",
        "-",
        "3|w|\x07",
        "3|w|\x7f",
        "33|w|x",
    ),
    *("3|w|x\r", f"3|{'n' * (NAME_MAX + len(ID_SUFFIX) + 1)}|x", f"3|w|{'x' * (SHORT + 1)}", "3|w|\u2028", "3|w|\u00a0x", " 3|w|x"),
)


class LineByLine(PipeTranslator):
    """The same door without the bulk way."""

    def take_all(self, whole: bytes) -> bool:
        return False


class Alike(unittest.TestCase):
    def both(self, chunk: bytes, *, numbered: bool, watched: bool = False) -> int:
        """Compare; returns how many commands were asked."""
        books = []
        for make in (PipeTranslator, LineByLine):
            book = Book()
            book.is_watched = watched
            translator = make(book)
            translator.feed(b"understudy 1 %s\nresume 0 0\n" % HEX.encode() if numbered else b"2\n")
            translator.feed(chunk)
            books.append(book)
        fast, slow = books
        self.assertEqual((fast.asked, fast.closed, fast.watched), (slow.asked, slow.closed, slow.watched), chunk)
        return len(fast.asked)

    def test_any_mixture_of_lines(self) -> None:
        dice = random.Random(6)
        for _ in range(3000):
            lines = [dice.choice(GOOD if dice.random() < 0.9 else ODD) for _ in range(dice.choice((1, 1, 2, 3, 8)))]
            numbered, number = dice.random() < 0.6, dice.randrange(1, 12)
            if numbered:
                lines = [f"{number + i} {number // 2} {line}" for i, line in enumerate(lines)]
            self.both("".join(line + "\n" for line in lines).encode(), numbered=numbered, watched=dice.random() < 0.1)

    def test_numbers_that_do_not_follow_one_another(self) -> None:
        for first, second in (("1", "3"), ("2", "1"), ("1", "02"), ("0", "1"), ("1", "1"), ("1" * 19, "2"), ("1", "２")):
            self.both(f"{first} 0 3|w|x\n{second} 0 3|w|y\n".encode(), numbered=True)
            self.both(f"{second} 0 3|w|x\n".encode(), numbered=True)

    def test_broken_utf8_and_every_control_character(self) -> None:
        for byte in [*range(32), 127, 0x80, 0xC3, 0xFF]:
            chunk = b"3|w|a%cb\n" % byte
            self.both(chunk, numbered=False)
            self.both(b"1 0 " + chunk + b"2 0 3|w|x\n", numbered=True)

    def test_the_bulk_way_is_taken(self) -> None:
        self.assertEqual(sends_of(b"3|a|x\n3|b|y"), ["S|a|x", "S|b|y"])
        self.assertEqual(numbered_sends_of(b"7 5 3|a|x\n8 6 3|b|y"), (7, 6, ["S|a|x", "S|b|y"]))
        self.assertEqual(numbered_sends_of(b"7 5 3|a|x"), (7, 5, ["S|a|x"]))

    def test_so_are_the_longest_lines_that_it_knows(self) -> None:
        rest, last = f"|{'n' * WHOM_MAX}|{'x' * SHORT}", 10**18 - 1
        self.assertEqual(numbered_sends_of(f"{last} {last} 3{rest}".encode()), (last, last, ["S" + rest]))
        pair = f"{last - 1} {last} 3{rest}\n{last} {last} 3{rest}".encode()
        self.assertEqual(numbered_sends_of(pair), (last - 1, last, ["S" + rest] * 2))
        self.assertEqual(sends_of(f"3{rest}\n3{rest}".encode()), ["S" + rest] * 2)

    def test_words(self) -> None:
        commands = ["S|wayne|hello", "S|żółw|x", "S|bob123|a|b", "S|wayne|ça"]
        dice = random.Random(7)
        for numbered in (False, True):
            for _ in range(300):
                book = Book()
                book.is_watched = dice.random() < 0.3
                translator = PipeTranslator(book)
                translator.numbered = numbered
                asked = [dice.choice(commands) for _ in range(dice.randrange(1, 5))]
                most = 2 if dice.random() < 0.7 else 6
                said = (WAITING, ONLINE, "p|bob", "m|bob", Refusal.NO_SUCH_ACCOUNT, Refusal.MAILBOX_FULL)
                replies = [dice.choice(said[:most]) for _ in asked]
                whole, watched = translator.render_all(5, asked, replies), book.watched[:]
                book.watched.clear()
                singly = [translator.render(n, c, r) for n, (c, r) in enumerate(zip(asked, replies, strict=True), 5)]
                self.assertEqual(whole, b"".join(singly))
                if book.is_watched:  # else nobody sees it
                    self.assertEqual(watched, book.watched)


class FrameByFrame(FramedTranslator):
    """The framed door without the bulk way."""

    def on_frames(self, bodies: list[bytes]) -> None:
        Frames.on_frames(self, bodies)


FRAMES_GOOD = ("2\nwayne\nhello", "2\nwayne123\na|b", "2\nbob\n\tétoile", "2\nżółw\nx", f"2\n{'n' * (NAME_MAX + len(ID_SUFFIX))}\nx")
FRAMES_ODD = (
    *("2\nwayne\n", "2\n\nx", "2\nwayne", "2", "", "4\n", "-1\n", "1\nwayne\nsecret", "3\nnew\nsecret", "5\nw\nx", "77\n", "2\nw\n\x07"),
    *(
        "2\nw\n\x7f",
        "22\nw\nx",
        "2\nw\nx\r",
        "2\nw\nx\n",
        "2\n2\ny\nz",
        "2\nw\n\0",
        "2\nw\0\nx",
        "\x002\nw\nx",
        "2\nw|v\nx",
        "2\nw\n2\nw\nx",
    ),
    *(f"2\n{'n' * (NAME_MAX + len(ID_SUFFIX) + 1)}\nx", f"2\nw\n{'x' * (SHORT + 1)}", "2\nw\n\u2028", " 2\nw\nx"),
)


class Frame(unittest.TestCase):
    def both(self, chunk: bytes, *, is_known: bool = True) -> int:
        """Compare; returns how many commands were asked."""
        books = []
        for make in (FramedTranslator, FrameByFrame):
            book = Book()
            translator = make(book)
            translator.most = BODY_MAX if is_known else translator.most
            translator.feed(chunk)
            books.append((book, translator))
        (fast, one), (slow, other) = books
        self.assertEqual((fast.asked, fast.closed, one.rest), (slow.asked, slow.closed, other.rest), chunk)
        return len(fast.asked)

    def test_any_mixture_of_frames(self) -> None:
        dice = random.Random(8)
        asked = 0
        for _ in range(3000):
            bodies = [dice.choice(FRAMES_GOOD if dice.random() < 0.9 else FRAMES_ODD) for _ in range(dice.choice((1, 2, 3, 8)))]
            chunk = b"".join(b"%-10d%s" % (len(raw), raw) for raw in (body.encode() for body in bodies))
            chunk += dice.choice((b"", b"", b"12 ", b"3         2\n", b"1_0       2\nw\nx", b"+5        ", b"         5", b"99999     "))
            asked += self.both(chunk, is_known=dice.random() < 0.8)
        self.assertGreater(asked, 3000)

    def test_all_before_a_header_that_is_none_is_asked(self) -> None:
        book = Book()
        translator = FramedTranslator(book)
        translator.most = BODY_MAX
        translator.feed(b"5         2\na\nx5         2\nb\nyno number!")
        self.assertEqual([command for _, command, *_ in book.asked], ["S|a|x", "S|b|y"])
        self.assertIn("no number!", book.closed)

    def test_behind_a_log_in_a_frame_may_be_long(self) -> None:
        book = Book()
        FramedTranslator(book).feed(b"7         1\nwayne%-10d2\nwayne\n%s" % (STRANGER_MAX + 8, b"x" * STRANGER_MAX))
        self.assertEqual((len(book.asked), book.closed), (2, ""))

    def test_broken_utf8_and_every_control_character(self) -> None:
        for byte in [*range(32), 127, 0x80, 0xC3, 0xFF]:
            for body in (b"2\nw\na%cb" % byte, b"2\na%cb\nx" % byte):
                self.both(b"%-10d%s7         2\nw\nxyz" % (len(body), body))

    def test_the_bulk_way_is_taken(self) -> None:
        self.assertEqual(framed_sends_of([b"2\na\nx", b"2\nb\ny|z"]), ["S|a|x", "S|b|y|z"])
        self.assertEqual(framed_sends_of([b"2\na\nx"]), ["S|a|x"])
        self.assertIsNone(framed_sends_of([b"2\na", b"2\n2\ny\nz"]))

    def test_words(self) -> None:
        dice = random.Random(9)
        for _ in range(300):
            asked = [dice.choice(("S|wayne|hello", "S|bob123|a|b")) for _ in range(dice.randrange(1, 5))]
            replies = [dice.choice((WAITING, ONLINE, "p|bob", Refusal.MAILBOX_FULL)[: 2 if dice.random() < 0.7 else 4]) for _ in asked]
            translator = FramedTranslator(Book())
            singly = [translator.render(n, c, r) for n, (c, r) in enumerate(zip(asked, replies, strict=True), 5)]
            self.assertEqual(translator.render_all(5, asked, replies), b"".join(singly))


if __name__ == "__main__":
    unittest.main()
