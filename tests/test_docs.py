"""The documents against the code: tables in step, numbers right, every file that is named is there."""

from __future__ import annotations

import importlib
import re
import unittest
from pathlib import Path

import msgspec

import packets
import replication
from replication import STATUS_CHANGES, Replica
from tests.test_house_rules import PRODUCT, ROOT, files

DRAWN = importlib.import_module("scripts.draw_states")  # nothing imports scripts: it is the script that is tried here
PAGES = {path: path.read_text("utf-8") for path in files(".md")}
PROTOCOL = (ROOT / "docs/replication.md").read_text("utf-8")
UNITS = {"s": 1.0, "ms": 1e-3, "KiB": 1024.0, "MiB": 1024.0**2}

NAMED = re.compile(r"(?<![\w./-])((?:[\w.-]+/)*[\w.-]+\.(?:py|md|sh|yaml|svg|toml|txt)|scripts/check|\.ci/run)(?![\w/])")
MADE_LATER = {"42.md"}  # examples


def section(title: str, page: str) -> str:
    """What stands under a heading of the second level."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE)
    assert found, f"no section {title!r}"
    return found[1]


def first_cells(text: str) -> list[str]:
    """What stands between backticks in the first column of the tables."""
    return re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)


class Drawings(unittest.TestCase):
    maxDiff = None

    def test_what_is_drawn_is_what_the_code_says(self) -> None:
        for name, place in DRAWN.PLACES.items():
            page = (ROOT / place).read_text("utf-8")
            self.assertRegex(page, DRAWN.between_marks(name))
            self.assertEqual(page, DRAWN.redrawn(name, page), f"{place}: run `python scripts/draw_states.py --write`")

    def test_the_page_of_words_of_replication_has_the_same_table(self) -> None:
        page = " ".join((replication.__doc__ or "").split())
        for (before, happened), (after, method) in STATUS_CHANGES.items():
            self.assertTrue(f"{before} {happened} {after} {method}" in page, happened)

    def test_whoever_changes_a_status_exists(self) -> None:
        for _, method in STATUS_CHANGES.values():
            self.assertTrue(callable(getattr(Replica, method, None)), method)


class Protocol(unittest.TestCase):
    def test_every_packet_has_a_row_and_every_row_a_packet(self) -> None:
        classes = [c.__name__ for c in packets.Packet.__subclasses__()]
        self.assertEqual(sorted(first_cells(section("Packets", PROTOCOL))), sorted(classes))

    def test_every_class_of_packets_is_told_of(self) -> None:
        for name, thing in vars(packets).items():
            if isinstance(thing, type) and thing.__module__ == "packets" and not issubclass(thing, Exception):
                self.assertTrue(f"`{name}`" in PROTOCOL, f"docs/replication.md does not tell of {name}")

    def test_numbers_are_those_of_the_code(self) -> None:
        rows = re.findall(r"^\| `([\w.]+)` \| (\d+) (\w+) \|", section("Numbers", PROTOCOL), re.MULTILINE)
        self.assertGreater(len(rows), 20)
        for where, count, unit in rows:
            module, *path = where.split(".")
            if path[0] == "Cluster":
                default = {f.name: f.default for f in msgspec.structs.fields(importlib.import_module(module).Cluster)}[path[1]]
                said = default / 1000
            else:
                said = getattr(importlib.import_module(module), path[0]) / (1000 if path[0].endswith("_MS") else 1)
            self.assertAlmostEqual(said, int(count) * UNITS[unit], msg=where)


class Operations(unittest.TestCase):
    def test_every_line_of_the_log_that_is_explained_is_in_the_code(self) -> None:
        code = "\n".join(path.read_text("utf-8") for path in PRODUCT.values())
        lines = first_cells(section("What the log says, and what to do", PAGES[ROOT / "docs/operations.md"]))
        self.assertGreater(len(lines), 15)
        for line in lines:
            for part in line.split(" … "):
                self.assertTrue(part in code, f"no module says {part!r}")


class Pages(unittest.TestCase):
    def test_every_file_that_is_named_is_there(self) -> None:
        complaints = []
        for page, text in PAGES.items():
            for name in set(NAMED.findall(re.sub(r"https?://\S+", "", text))):
                around = (ROOT / name, page.parent / name, ROOT / "tests" / name, ROOT / "doors" / name)
                if name not in MADE_LATER and not any(place.exists() for place in around):
                    complaints.append(f"{page.relative_to(ROOT)}: {name} is not there")
        self.assertFalse(complaints, "\n".join(sorted(complaints)))

    def test_links_lead_somewhere(self) -> None:
        complaints = []
        for page, text in PAGES.items():
            for target in re.findall(r"\]\(([^)#\s]+)", text):
                if "://" not in target and not (page.parent / target).exists():
                    complaints.append(f"{page.relative_to(ROOT)}: {target} is not there")
        self.assertFalse(complaints, "\n".join(sorted(complaints)))

    def test_every_decision_is_listed_and_has_four_parts(self) -> None:
        listed = PAGES[ROOT / "docs/decisions/README.md"]
        for path in sorted(Path(ROOT / "docs/decisions").glob("[0-9]*.md")):
            self.assertIn(f"]({path.name})", listed)
            for title in ("Situation", "Choice", "Price", "What would change our mind"):
                section(title, PAGES[path])

    def test_every_module_stands_in_the_reading_order(self) -> None:
        order = section("Reading order", PAGES[ROOT / "ARCHITECTURE.md"])
        for path in PRODUCT.values():
            self.assertTrue(f"`{path.relative_to(ROOT)}`" in order, f"{path.name} is not in ARCHITECTURE.md")


if __name__ == "__main__":
    unittest.main()
