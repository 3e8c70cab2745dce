"""A YAML file as plain values, and the place of each, so that a complaint can name line and column.

What it is not: it knows no key of ours; what the values mean is the affair of `settings.py`.

YAML is read with fewer meanings than usual, so that no text becomes a number or a truth unseen:

    17  1_000      whole numbers, at most 18 digits      017  1:30  1.5  no  on    texts
    true  false    truths                                anchors, aliases, tags    refused
    null  ~        nothing                               a key that stands twice   refused

Read next: `settings.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NoReturn

import yaml

FILE_MAX = 64 * 1024  # bytes; no file of ours comes near it
DEPTH_MAX = 8  # levels; bounds our recursion

Place = tuple[str | int, ...]  # keys and indexes from the top of the file

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the compiled one is not in every build
_INT = re.compile(r"-?(?:0|[1-9][0-9_]{0,17})")
_WORDS = {"true": True, "false": False, "null": None, "~": None, "": None}


class SettingsError(Exception):
    """The file cannot be used; the text is one sentence for the operator."""


class MarkedYaml:
    """`value` is what the file says; `refuse` complains about a place in it. Raises SettingsError."""

    def __init__(self, raw: bytes, path: str) -> None:
        self._path = path
        self._values: dict[Place, yaml.Mark] = {}
        self._keys: dict[Place, yaml.Mark] = {}
        if len(raw) > FILE_MAX:
            raise SettingsError(f"{path}: is longer than {FILE_MAX} bytes")
        try:
            self._events: Iterator[Any] = yaml.parse(raw.decode(), Loader=_LOADER)
            self.value: Any = self._document()
        except UnicodeDecodeError as error:
            raise SettingsError(f"{path}:{raw.count(b'\n', 0, error.start) + 1}:1: is not UTF-8 text") from None
        except yaml.MarkedYAMLError as error:
            self._stop(error.problem_mark, f"is not YAML: {error.problem}")
        except yaml.YAMLError as error:
            raise SettingsError(f"{path}: is not YAML: {' '.join(str(error).split())}") from None

    def refuse(self, place: Place, sentence: str, *, key: bool = False) -> NoReturn:
        """Complain about the value at this place, or about its `key`."""
        self._stop((self._keys if key else self._values)[place], f"{name(place)}: {sentence}" if place else sentence)

    def _stop(self, mark: yaml.Mark | None, sentence: str) -> NoReturn:
        at = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise SettingsError(f"{self._path}{at}: {sentence}") from None

    def _document(self) -> Any:
        next(self._events)  # the stream begins
        if isinstance(next(self._events), yaml.StreamEndEvent):
            raise SettingsError(f"{self._path}: is empty")
        value = self._node(next(self._events), ())
        next(self._events)  # the document ends
        after = next(self._events)
        if not isinstance(after, yaml.StreamEndEvent):
            self._stop(after.start_mark, "a second document begins here; one is enough")
        return value

    def _node(self, event: Any, place: Place) -> Any:
        if event.anchor is not None:
            self._stop(event.start_mark, "anchors and aliases are not used here")
        if event.tag is not None:
            self._stop(event.start_mark, "tags are not used here")
        if len(place) > DEPTH_MAX:
            self._stop(event.start_mark, f"is nested deeper than {DEPTH_MAX} levels")
        self._values[place] = event.start_mark
        if isinstance(event, yaml.ScalarEvent):
            return _plain(event.value) if event.implicit[0] else event.value
        return self._section(place) if isinstance(event, yaml.MappingStartEvent) else self._list(place)

    def _list(self, place: Place) -> list[Any]:
        values: list[Any] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            values.append(self._node(event, (*place, len(values))))
        return values

    def _section(self, place: Place) -> dict[str, Any]:
        section: dict[str, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent) or event.anchor is not None or event.tag is not None:
                self._stop(event.start_mark, "a key must be a plain word")
            key, where = event.value, (*place, event.value)
            if key in section:
                self._stop(event.start_mark, f"{name(where)} stands here twice, first in line {self._keys[where].line + 1}")
            self._keys[where] = event.start_mark
            section[key] = self._node(next(self._events), where)
        return section


def name(place: Place) -> str:
    """How people write a place: `replicas[0].peer`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place).removeprefix(".")


def _plain(word: str) -> Any:
    if _INT.fullmatch(word):
        return int(word.rstrip("_").replace("_", ""))
    return _WORDS.get(word, word)
