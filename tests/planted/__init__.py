"""Planted bugs: the program with one rule of the protocol removed, to see that the simulator notices.

What it is not: it runs no seed (`hunt.py`) and reports nothing (`scripts/planted_bugs.py`). Nothing on the disk is ever changed: a mutated
module exists only in the memory of the process that imports it.

A mutation is words: its name, the rule it removes, and edits, each the exact text that stands in a file once, and what is there instead.

    agreement.py   batches, acks, commits, views as they are run          replication.py, survivor.py
    views.py       who decides a view, who joins, who restarts            survivor.py, register.py
    disks.py       what is on a disk, and what is believed of it          journal.py, segments.py, superblock.py, storage.py, snapshots.py
    guests.py      sessions, answers, deliveries, presence                state.py, desk.py, connection.py, server.py
    voters.py      what only policy `majority` has: votes, best logs      majority.py

Numbers of rules: H, L, A and S are those of the protocol's review (holes, standing still, ambiguities, simplifications), the others the
sections of its first description; docs/replication.md says the same in words.

Read next: `hunt.py`.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Sequence
from types import CodeType, ModuleType
from typing import NamedTuple

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class Edit(NamedTuple):
    """In this file this text, which stands there once, becomes another one."""

    file: str
    old: str
    new: str


class Mutation(NamedTuple):
    """See the module's page. `redundant`: why no seed can tell, because another rule covers it; empty: it must be found.

    `policy`: of the seeds that look for it.
    """

    name: str
    rule: str
    edits: tuple[Edit, ...]
    redundant: str = ""
    policy: str = "survivor"


class DoesNotApply(Exception):
    """The text that a mutation would change is not there, or not only once: the program has changed, and the mutation must follow it."""


def planted(name: str, rule: str, *edits: Edit, redundant: str = "", policy: str = "survivor") -> Mutation:
    """A mutation with its edits one after the other."""
    return Mutation(name, rule, edits, redundant, policy)


def changed(mutation: Mutation) -> dict[str, str]:
    """The text of each file that the mutation changes. Raises DoesNotApply."""
    texts: dict[str, str] = {}
    for file, old, new in mutation.edits:
        if file not in texts:
            with open(os.path.join(ROOT, file), encoding="utf-8") as source:
                texts[file] = source.read()
        count = texts[file].count(old)
        if count != 1:
            raise DoesNotApply(
                f"{mutation.name} no longer applies: its text stands {count} times in {file}: {old.strip().splitlines()[0]!r}"
            )
        assert old != new, f"{mutation.name} changes nothing"
        texts[file] = texts[file].replace(old, new)
    return texts


class _Loader(importlib.machinery.SourceFileLoader):
    """Gives another text than the file's; leaves no byte code behind."""

    def __init__(self, name: str, path: str, text: str) -> None:
        super().__init__(name, path)
        self.text = text

    def get_code(self, fullname: str) -> CodeType:
        return compile(self.text, self.path, "exec", dont_inherit=True)


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, texts: dict[str, str]) -> None:
        self.texts = {file.removesuffix(".py").replace("/", "."): (file, text) for file, text in texts.items()}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in self.texts:
            return None
        file, text = self.texts[fullname]
        place = os.path.join(ROOT, file)
        return importlib.util.spec_from_file_location(fullname, place, loader=_Loader(fullname, place, text))


def plant(mutation: Mutation) -> None:
    """From here on this process imports the mutated modules. Raises DoesNotApply."""
    texts = changed(mutation)
    finder = _Finder(texts)
    assert not finder.texts.keys() & sys.modules.keys(), f"too late to plant {mutation.name}: the program is imported already"
    sys.meta_path.insert(0, finder)
