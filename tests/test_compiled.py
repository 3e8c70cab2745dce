"""`compiled.py` and `scripts/compile.py` without a compiler: when a compiled form is served, and what is said where none can be made.

That it does the same as its sources is shown by `tests/prove_compiled.py`.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import importlib
import io
import os
import shutil
import sys
import tempfile
import unittest
from typing import Any
from unittest import mock

import compiled
from doors.stream import StreamShell
from link import Link
from tests.test_house_rules import PRODUCT

SCRIPT: Any = importlib.import_module("scripts.compile")  # nothing imports scripts: it is the script that is tried here


def write(path: str, words: str = "") -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(words)


class Place(unittest.TestCase):
    def setUp(self) -> None:
        self.home = self.enterContext(tempfile.TemporaryDirectory())
        self.enterContext(mock.patch.multiple(compiled, HOME=self.home, MODULES=("rooms",)))
        self.enterContext(mock.patch.object(sys, "meta_path", list(sys.meta_path)))
        self.enterContext(mock.patch.dict(os.environ))
        os.environ.pop(compiled.SWITCH, None)
        write(os.path.join(self.home, "rooms.py"), "ROOMS = 3\n")
        write(os.path.join(self.home, "doors", "front.py"), "OPEN = True\n")

    def make(self, base: str = ".compiled") -> str:
        """A form, which holds nothing that could be imported."""
        form = os.path.join(self.home, base, compiled.name_of(self.home))
        write(os.path.join(form, f"rooms{compiled.SUFFIX}"))
        write(os.path.join(form, "doors", f"front{compiled.SUFFIX}"))
        return form

    def test_without_a_form_nothing_changes(self) -> None:
        before = list(sys.meta_path)
        self.assertFalse(compiled.use())
        self.assertEqual((sys.meta_path, compiled.form()), (before, "the sources"))

    def test_a_form_of_these_sources_comes_first_and_serves_its_modules_alone(self) -> None:
        form = self.make()
        self.assertTrue(compiled.use())
        self.assertEqual(compiled.form(), "compiled")
        finder: Any = sys.meta_path[0]
        for name, path in {"rooms": "rooms", "doors.front": "doors/front"}.items():
            self.assertEqual(finder.find_spec(name).origin, os.path.join(form, path + compiled.SUFFIX))
        self.assertIsNone(finder.find_spec("doors"))
        self.assertIsNone(finder.find_spec("json"))

    def test_any_source_that_changes_comes_or_goes_ends_it(self) -> None:
        self.make()
        for path, words in {"rooms.py": "ROOMS = 4\n", "doors/front.py": "OPEN = not True\n", "other.py": ""}.items():
            whole = os.path.join(self.home, path)
            before = None
            if os.path.exists(whole):
                with open(whole, encoding="utf-8") as file:
                    before = file.read()
            write(whole, words)
            self.assertFalse(compiled.use(), path)
            os.unlink(whole)
            if before is not None:
                self.assertFalse(compiled.use(), path)
                write(whole, before)
        self.assertTrue(compiled.use())

    def test_it_can_be_elsewhere_or_unwanted(self) -> None:
        self.make("elsewhere")
        self.assertFalse(compiled.use())
        os.environ[compiled.SWITCH] = "no"
        self.assertFalse(compiled.use())
        os.environ[compiled.SWITCH] = os.path.join(self.home, "elsewhere")
        self.assertTrue(compiled.use())

    def test_nobody_gets_half_of_each(self) -> None:
        self.make()
        with mock.patch.dict(sys.modules, {"rooms": compiled}), self.assertRaisesRegex(AssertionError, "half of the program"):
            compiled.use()


class Heirs(unittest.TestCase):
    def test_who_inherits_from_what_is_compiled_is_compiled_too(self) -> None:
        """Else making its class is a TypeError, which nobody sees before a guest comes to that door. Some allow it."""
        checked = 0
        trees = {module: ast.parse(path.read_bytes()) for module, path in PRODUCT.items()}
        open_ones = {
            (module, made.name)
            for module, tree in trees.items()
            for made in ast.walk(tree)
            if isinstance(made, ast.ClassDef) and any("allow_interpreted_subclasses=True" in ast.unparse(d) for d in made.decorator_list)
        }
        for module, tree in trees.items():
            imports = [step for step in ast.walk(tree) if isinstance(step, ast.ImportFrom)]
            of = {alias.asname or alias.name: step.module for step in imports for alias in step.names}
            for made in ast.walk(tree):
                bases = [ast.unparse(base).split("[")[0] for base in made.bases] if isinstance(made, ast.ClassDef) else []
                for base in bases:
                    home = of.get(base, base.rpartition(".")[0])
                    # What `doors` hands on stands in its contract.
                    if home in compiled.MODULES and (home, base) not in open_ones:
                        self.assertIn(module, compiled.MODULES, f"{module}: a class inherits from {base}")
                        checked += 1
        self.assertGreater(checked, 5)


class Protocols(unittest.TestCase):
    def test_who_is_a_protocol_in_all_but_its_base_class_has_all_that_a_loop_calls(self) -> None:
        called = [name for name in dir(asyncio.Protocol) if not name.startswith("_")]
        self.assertIn("resume_writing", called)
        for kind in (Link, StreamShell):
            self.assertEqual([name for name in called if not hasattr(kind, name)], [], kind)


class Script(unittest.TestCase):
    def run_main(self, *arguments: str) -> tuple[object, str]:
        said = io.StringIO()
        with mock.patch.object(sys, "argv", ["compile.py", *arguments]), contextlib.redirect_stdout(said):
            try:
                SCRIPT.main()
            except SystemExit as end:
                return end.code, said.getvalue()
        return 0, said.getvalue()

    def test_what_is_missing_is_named_with_what_to_do(self) -> None:
        with mock.patch.object(SCRIPT, "TOOLS", ("no_such_tool", "mypyc")):
            code, _ = self.run_main()
        self.assertIn("no_such_tool not found: bash scripts/environment.sh requirements-dev.txt", str(code))
        self.assertIn("Servers run without", str(code))
        with mock.patch.dict(os.environ, {"CC": "no-such-compiler -g"}):
            self.assertIn("no C compiler (no-such-compiler)", SCRIPT.what_is_missing())
        with mock.patch.dict(os.environ, {"CC": sys.executable}), mock.patch("sysconfig.get_path", return_value="/nowhere"):
            self.assertIn("/nowhere lacks Python.h", SCRIPT.what_is_missing())

    def test_remove_leaves_no_form_and_removes_nothing_else(self) -> None:
        """The directory may be anybody's."""
        with tempfile.TemporaryDirectory() as where:
            into = os.path.join(where, "forms")
            for other in (["letters"], []):
                for name in (compiled.name_of(where), ".new-k3jx9a2b", *other):
                    write(os.path.join(into, name, "one.so"))
                self.assertEqual(self.run_main("--into", into, "--remove"), (0, self.removed(into)))
                self.assertEqual(os.listdir(into) if other else os.listdir(where), other)
                shutil.rmtree(into, ignore_errors=True)
            self.assertEqual(self.run_main("--into", into, "--remove"), (0, self.removed(into)))

    def removed(self, into: str) -> str:
        return f"no form is left in {into}: servers that are started now run the sources\n"

    def test_a_compiler_that_fails_is_quoted_and_leaves_what_was_there(self) -> None:
        failing = "import sys\nprint('what the compiler says')\nsys.exit(3)\n"
        with tempfile.TemporaryDirectory() as into, mock.patch.object(SCRIPT, "BUILD", failing):
            write(os.path.join(into, "some-form", "rooms.so"))
            with mock.patch.object(SCRIPT, "what_is_missing", return_value=""):
                code, _ = self.run_main("--into", into)
            self.assertRegex(str(code), r"what the compiler says\n[^/]*status 3")
            self.assertEqual(os.listdir(into), ["some-form"])


if __name__ == "__main__":
    unittest.main()
