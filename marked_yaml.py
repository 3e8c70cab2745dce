"""A YAML file as plain values, and the place of each, so that a complaint can name line and column.

What it is not: it knows no key of ours; what the values mean is the affair of `settings.py`.

YAML is read with fewer meanings than usual, so that no text becomes a number or a truth unseen:

    17  1_000      whole numbers, at most 18 digits      017  1:30  1.5  no  on    texts
    true  false    truths                                anchors, aliases, tags    refused
    null  ~        nothing                               a key that stands twice   refused

Read next: `settings.py`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NoReturn

import msgspec
import yaml
from msgspec import inspect

FILE_MAX = 64 * 1024  # bytes; no file of ours comes near it
DEPTH_MAX = 8  # levels; bounds our recursion

Place = tuple[str | int, ...]  # keys and indexes from the top of the file

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the compiled one is not in every build
_INT = re.compile(r"-?(?:0|[1-9][0-9_]{0,17})")
NO_RULES: Mapping[str, str] = MappingProxyType({})
_WORDS = {"true": True, "false": False, "null": None, "~": None, "": None}


class SettingsError(Exception):
    """The file cannot be used; the text is one sentence for the operator."""


def read_file(path: str) -> bytes:
    """What is in it, as far as that is of use to `MarkedYaml`. Raises SettingsError."""
    try:
        with open(path, "rb") as file:
            return file.read(FILE_MAX + 1)
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from None


class MarkedYaml:
    """`value` is what the file says; `refuse` complains about a place in it. Raises SettingsError."""

    def __init__(self, raw: bytes, path: str) -> None:
        self._path = path
        self._values: dict[Place, Any] = {}
        self._keys: dict[Place, Any] = {}
        if len(raw) > FILE_MAX:
            raise SettingsError(f"{path}: is longer than {FILE_MAX} bytes")
        try:
            self._events: Iterator[Any] = yaml.parse(raw.decode(), Loader=_LOADER)
            self.value: Any = self._document()
        except UnicodeDecodeError as error:
            line = raw.count(b"\n", 0, error.start) + 1
            raise SettingsError(f"{path}:{line}:1: is not UTF-8 text") from None
        except yaml.MarkedYAMLError as error:
            self._stop(error.problem_mark, f"is not YAML: {error.problem}")
        except yaml.YAMLError as error:
            raise SettingsError(f"{path}: is not YAML: {' '.join(str(error).split())}") from None

    def refuse(self, place: Place, sentence: str, *, key: bool = False) -> NoReturn:
        """Complain about the value at this place, or about its `key`."""
        self._stop((self._keys if key else self._values)[place], f"{name(place)}: {sentence}" if place else sentence)

    def has(self, place: Place) -> bool:
        """Whether the file says something there."""
        return place in self._values

    def typed(self, value: Any, kind: Any, top: Place, rules: Mapping[str, str] = NO_RULES) -> Any:
        """`value`, which stands at `top`, as this msgspec type. `rules` say in words what the type of a key demands."""
        try:
            return msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            what, _, path = str(error).partition(" - at `$")
        inside: Place = tuple(word or int(number) for word, number in re.findall(r"\.(\w+)|\[(\d+)\]", path))
        for step in inside:
            value = value[step]
        place = top + inside
        if unknown := re.fullmatch("Object contains unknown field `(.*)`", what, re.DOTALL):
            self.refuse((*place, unknown[1]), f"there is no such key; {_meant(unknown[1], kind, inside)}", key=True)
        if missing := re.fullmatch("Object missing required field `(.*)`", what):
            self.refuse(place, f"the key {missing[1]} is missing")
        expected = rules.get(str(place[-1])) if place else None
        self.refuse(place, f"expected {expected or _in_words(what)}, but this is {_found(value)}")

    def _stop(self, mark: Any, sentence: str) -> NoReturn:
        at = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise SettingsError(f"{self._path}{at}: {sentence}") from None

    def _document(self) -> Any:
        next(self._events)  # the stream begins
        if isinstance(next(self._events), yaml.StreamEndEvent):
            raise SettingsError(f"{self._path}: is empty")
        value = self._value(next(self._events), ())
        next(self._events)  # the document ends
        after = next(self._events)
        if not isinstance(after, yaml.StreamEndEvent):
            self._stop(after.start_mark, "a second document begins here; one is enough")
        return value

    def _value(self, event: Any, place: Place) -> Any:
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
            values.append(self._value(event, (*place, len(values))))
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
            section[key] = self._value(next(self._events), where)
        return section


def name(place: Place) -> str:
    """How people write a place: `replicas[0].peer`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{_word(step)}" for step in place).removeprefix(".")


def _word(key: str) -> str:
    """A key as it stands in the file, unless it would break the line or the terminal that shows it."""
    return key if key.isprintable() else ascii(key)[:60]


def _plain(word: str) -> Any:
    if _INT.fullmatch(word):
        return int(word.rstrip("_").replace("_", ""))
    return _WORDS.get(word, word)


def _found(value: Any) -> str:
    if isinstance(value, (str, int)):
        return repr(value)[:60]
    return "nothing" if value is None else "a list" if isinstance(value, list) else "a section"


def _in_words(what: str) -> str:
    what = what.removeprefix("Expected ").partition(", got")[0]
    for theirs, ours in (("`int`", "a whole number"), ("`str`", "a text"), ("`object`", "a section"), ("`array`", "a list")):
        what = what.replace(theirs, ours)
    return what


def _meant(word: str, kind: Any, inside: Place) -> str:
    shape: Any = inspect.type_info(kind)
    for step in inside:
        is_section = isinstance(shape, inspect.StructType)
        shape = next(field.type for field in shape.fields if field.name == step) if is_section else shape.item_type
    known = [field.name for field in shape.fields]
    close = difflib.get_close_matches(word, known, 1)
    return f"is {close[0]} meant?" if close else f"the keys are {', '.join(known)}"
