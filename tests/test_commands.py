"""The language: runs, names, and what the page of `commands.py` claims about them."""

from __future__ import annotations

import struct
import unicodedata
import unittest

import commands
from commands import (
    COMMANDS,
    NAME_MAX,
    NO_SESSION,
    QUERIES,
    RUN,
    SYSTEM,
    Refusal,
    account_id,
    count_ops,
    fold,
    is_name,
    run,
    sessions_of,
    system_run,
)

SESSION = bytes(range(16))


class RunsTest(unittest.TestCase):
    def test_a_run_is_laid_out_as_the_drawing_says(self) -> None:
        image = run(SESSION, 7, 5, 70_000, b"L|mason123\nO", 2)
        self.assertEqual(RUN.size, 45)
        self.assertEqual(image[0:1], COMMANDS)
        self.assertEqual(struct.unpack_from("<I", image, 1)[0], len(b"L|mason123\nO"))
        self.assertEqual(struct.unpack_from("<I", image, 5)[0], 2)
        self.assertEqual(image[9:25], SESSION)
        self.assertEqual(struct.unpack_from("<Q", image, 25)[0], 7)
        self.assertEqual(struct.unpack_from("<Q", image, 33)[0], 5)
        self.assertEqual(struct.unpack_from("<I", image, 41)[0], 70_000)
        self.assertEqual(image[45:], b"L|mason123\nO")

    def test_the_drawing_names_every_field_at_its_offset(self) -> None:
        drawing = commands.__doc__ or ""
        at, told = 0, []
        for name, width in (("kind", 1), ("length", 4), ("count", 4), ("session", 16), ("first", 8), ("low", 8), ("skip", 4)):
            told.append([str(at), str(width), name])
            at += width
        self.assertEqual(at, RUN.size)
        rows = [line.split()[:3] for line in drawing.splitlines()]
        for row in told:
            self.assertIn(row, rows)
        self.assertIn([str(at), "lines", "UTF-8,"], rows)

    def test_a_system_run_is_one_op_without_session(self) -> None:
        image = system_run("ack|mäson|5|9")
        kind, length, count, session, first, low, skip = RUN.unpack_from(image)
        self.assertEqual((kind, count, session, first, low, skip), (SYSTEM, 1, NO_SESSION, 0, 0, 0))
        self.assertEqual(image[RUN.size :].decode(), "ack|mäson|5|9")
        self.assertEqual(length, len("ack|mäson|5|9".encode()))

    def test_ops_of_a_chain_are_the_sum_of_its_runs(self) -> None:
        self.assertEqual(count_ops(b""), 0)
        self.assertEqual(count_ops(system_run("expire|") + run(SESSION, 1, 0, 0, b"O\nO\nO", 3) + system_run("expire|")), 5)

    def test_whose_commands_stand_in_a_chain(self) -> None:
        other = bytes(16)
        body = run(SESSION, 1, 0, 0, b"O", 1) + system_run("expire|") + run(b"x" * 16, 1, 0, 0, b"O", 1) + run(SESSION, 2, 0, 0, b"O", 1)
        self.assertEqual(sessions_of(body), {SESSION, b"x" * 16})
        self.assertNotIn(other, sessions_of(system_run("expire|")), "a system command is nobody's")
        self.assertEqual(sessions_of(b""), frozenset())

    def test_a_broken_chain_is_told(self) -> None:
        whole = run(SESSION, 1, 0, 0, b"O\nO", 2)
        for cut in range(1, len(whole)):
            with self.subTest(cut=cut), self.assertRaises(ValueError):
                count_ops(whole[:cut])
        for body in (
            b"X" + whole[1:],  # a kind nobody knows
            run(SESSION, 1, 0, 0, b"O", 0),  # no line
            run(SESSION, 1, 0, 0, b"O", 3),  # more lines than one byte can hold
            run(SESSION, 1, 0, 0, b"", 2**32 - 1),
            whole + b"R",
        ):
            with self.subTest(body=body), self.assertRaises(ValueError):
                count_ops(body)
        self.assertEqual(count_ops(run(SESSION, 1, 0, 0, b"\n", 2)), 2, "two empty lines are two lines")


class NamesTest(unittest.TestCase):
    def test_what_may_be_a_name(self) -> None:
        for name in (
            "a",
            "mason",
            "NA",
            "null",
            "007",
            "ÅsA",
            "渡辺",
            "x" * NAME_MAX,
            "🦊" * NAME_MAX,
            "o'neil",
            '"quoted"',
            "a.b*c",
            "-",
            "\\",
        ):
            with self.subTest(name=name):
                self.assertTrue(is_name(name))

    def test_what_may_not(self) -> None:
        refused = [
            "",
            "x" * (NAME_MAX + 1),
            "a|b",
            "a,b",
            "a b",
            " a",
            "a\t",
            "a\n",
            "a\r",
            "a\0",
            "a\x1b[0m",
            "a\x7f",
            "a\x85b",
            "a\u00a0b",
            "a\u2028b",
        ]
        refused += ["a\u2029b", "a\u200bb", "a\u202eb", "a\u3000b", "\ud800", "a\u00adb", "\ufeffa"]
        for name in refused:
            with self.subTest(name=name):
                self.assertFalse(is_name(name))

    def test_every_white_or_control_character_is_refused(self) -> None:
        for code in range(0x3000):
            char = chr(code)
            if char.isspace() or unicodedata.category(char) == "Cc":
                self.assertFalse(is_name(f"a{char}b"), hex(code))

    def test_names_that_look_the_same_fold_to_the_same(self) -> None:
        for one, other in (
            ("Mason", "mason"),
            ("ＭＡＳＯＮ", "mason"),
            ("ﬁne", "fine"),
            ("Straße", "STRASSE"),
            ("e\u0301", "é"),
            ("ſerver", "Server"),
        ):
            with self.subTest(one=one):
                self.assertEqual(fold(one), fold(other))
        self.assertNotEqual(fold("mason"), fold("masón"))

    def test_plain_names_fold_as_all_others_do(self) -> None:
        for code in range(0x80):
            char = f"x{chr(code)}"
            self.assertEqual(fold(char), fold(f"{char}é").removesuffix("é"), hex(code))

    def test_folding_twice_changes_nothing(self) -> None:
        for code in range(0x21, 0x3000):
            once = fold(chr(code))
            self.assertEqual(fold(once), once, hex(code))

    def test_reserved_names_are_folded(self) -> None:
        self.assertEqual({fold(name) for name in commands.RESERVED}, commands.RESERVED)
        self.assertIn(fold("Server"), commands.RESERVED)

    def test_the_id_is_known_for_years(self) -> None:
        self.assertEqual(account_id("mason"), "mason123")


class WordsTest(unittest.TestCase):
    def test_letters_are_those_of_the_table(self) -> None:
        rows = [line.split() for line in (commands.__doc__ or "").splitlines()]
        letters = {row[0] for row in rows if len(row) > 1 and len(row[0]) == 1 and row[0].isupper()}
        self.assertEqual(letters, set("CLOSRDAWNPXBHZKEJYIGVUFTM"))
        self.assertEqual(QUERIES, {"A", "W", "B", "K", "Y", "I", "T"})

    def test_refusals_are_told_from_replies_by_their_first_character(self) -> None:
        refusals = {value for name, value in vars(Refusal).items() if not name.startswith("_")}
        self.assertEqual(len(refusals), 21)
        for value in refusals:
            self.assertTrue(value.startswith("!") and value[1:].replace("_", "").isupper(), value)

    def test_a_longest_text_fits_a_batch_with_room(self) -> None:
        from batches import BATCH_MAX

        self.assertLess(4 * (RUN.size + commands.TEXT_MAX + commands.NAME_MAX * 4 + 8), BATCH_MAX)


if __name__ == "__main__":
    unittest.main()
