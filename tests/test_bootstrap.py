"""`bootstrap.py`: the program goes on where its packages are, or says what to do; never in a circle."""

from __future__ import annotations

import ast
import io
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest
from collections.abc import Iterator
from typing import TypeGuard
from unittest import mock

import bootstrap
from tests.test_house_rules import ONLY_IN

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PROGRAM = "import sys, bootstrap\nbootstrap.ensure(sys.argv[1].split(','))\nprint('went on', *sys.argv[2:])\n"
LACKING = "import sys\nsys.modules.update(dict.fromkeys(sys.argv[2:]))\n__import__(sys.argv[1])\nprint(sys.argv[1], 'begins')\n"
ELSEWHERE = '#!/bin/sh\nprintf "elsewhere:"\nprintf " %s" "$@"\necho\n'


ALONE = "model_check.py"  # needs nothing but Python (docs/model.md)


class Scripts(unittest.TestCase):
    """They are printed as commands, in the documents and by themselves: `python scripts/simulate.py …` has to work with any Python."""

    def test_each_begins_where_its_packages_are(self) -> None:
        scripts = sorted({*pathlib.Path(ROOT, "scripts").glob("*.py")} - {pathlib.Path(ROOT, "scripts", ALONE)})
        self.assertGreater(len(scripts), 8)
        for path in scripts:
            with self.subTest(path.name):
                modules = [alias.name for step in ast.parse(path.read_bytes()).body for alias in imported(step)]
                self.assertEqual([name for name in modules if name not in sys.stdlib_module_names][:1], ["bootstrap"])


def imported(step: ast.stmt) -> Iterator[ast.alias]:
    """Modules that a statement of a file, or of the branch for whoever runs it, imports first."""
    if isinstance(step, ast.Import):
        yield from step.names
    elif isinstance(step, ast.ImportFrom):
        yield ast.alias((step.module or "").partition(".")[0])
    elif isinstance(step, ast.If):
        yield from (alias for inner in step.body for alias in imported(inner))


class Programs(unittest.TestCase):
    """A Python that has just what a program asks for, and nothing else of what some part of it may import."""

    def test_what_they_ask_for_is_all_that_they_cannot_begin_without(self) -> None:
        for program in ("client", "server"):
            tree = ast.parse(pathlib.Path(ROOT, f"{program}.py").read_bytes())
            (asked,) = [ast.unparse(step.args[0]) for step in ast.walk(tree) if is_ensure(step)]
            wanted = bootstrap.PACKAGES if asked == "bootstrap.PACKAGES" else ast.literal_eval(asked)
            lacking = sorted({"msgspec", *ONLY_IN} - {*wanted})
            self.assertGreater(len(lacking), 3)
            done = subprocess.run(
                [sys.executable, "-c", LACKING, program, *lacking], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
            )
            self.assertEqual((done.returncode, done.stdout), (0, f"{program} begins\n"), done.stderr)


def is_ensure(step: ast.AST) -> TypeGuard[ast.Call]:
    return isinstance(step, ast.Call) and ast.unparse(step.func) == "bootstrap.ensure"


class Ensure(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory(prefix="with a blank ")
        self.addCleanup(directory.cleanup)
        self.home = directory.name
        shutil.copy(os.path.join(ROOT, "bootstrap.py"), self.home)
        with open(os.path.join(self.home, "program.py"), "w", encoding="utf-8") as file:
            file.write(PROGRAM)

    def run_program(self, *arguments: str, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
        command = [python, "-W", "ignore", os.path.join(self.home, "program.py"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=os.path.dirname(self.home))

    def place(self, target: str | None) -> str:
        """`.venv/bin/python`: a link to `target`, or a program that tells its arguments."""
        path = os.path.join(self.home, ".venv", "bin", "python")
        os.makedirs(os.path.dirname(path))
        if target is not None:
            os.symlink(target, path)
            return path
        with open(path, "w", encoding="utf-8") as file:
            file.write(ELSEWHERE)
        os.chmod(path, 0o700)
        return path

    def test_nothing_happens_where_nothing_is_missing(self) -> None:
        self.place(None)
        self.assertEqual(self.run_program("json,csv", "a b").stdout, "went on a b\n")

    def test_the_same_command_line_begins_again_in_the_environment(self) -> None:
        self.place(None)
        done = self.run_program("json,not_there", "a b", "--c")
        self.assertEqual(done.stdout, f"elsewhere: -W ignore {self.home}/program.py json,not_there a b --c\n")

    def test_without_an_environment_one_sentence_says_what_to_do(self) -> None:
        done = self.run_program("not_there")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (2, "", "run: bash scripts/start.sh\n"))

    def test_an_environment_whose_python_is_gone_counts_as_none(self) -> None:
        self.place(os.path.join(self.home, "gone"))
        self.assertEqual(self.run_program("not_there").returncode, 2)

    def test_an_environment_that_lacks_it_too_does_not_begin_again_for_ever(self) -> None:
        python = self.place(os.path.realpath(sys.executable))
        with open(os.path.join(self.home, ".venv", "pyvenv.cfg"), "w", encoding="utf-8") as file:
            file.write(f"home = {os.path.dirname(os.path.realpath(sys.executable))}\n")
        for first in (sys.executable, python):
            done = self.run_program("not_there", python=first)
            self.assertEqual((done.returncode, done.stderr), (2, "run: bash scripts/start.sh\n"))


class Here(unittest.TestCase):
    """The same in this process, where coverage looks."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.home = os.path.join(directory.name, ".venv")
        self.python = os.path.join(self.home, "bin", "python")
        os.makedirs(os.path.dirname(self.python))
        os.symlink(sys.executable, self.python)
        started = mock.patch("os.execv", side_effect=SystemExit(0))
        for patch in (mock.patch("bootstrap.HOME", directory.name), mock.patch("sys.stderr", io.StringIO())):
            patch.start()
            self.addCleanup(patch.stop)
        self.execv = started.start()
        self.addCleanup(started.stop)

    def ensure(self, package: str) -> int:
        """The exit code; -1: it went on."""
        try:
            bootstrap.ensure([package])
        except SystemExit as end:
            return int(str(end.code))
        return -1

    def test_it_goes_on(self) -> None:
        self.assertEqual(self.ensure("json"), -1)

    def test_it_begins_again(self) -> None:
        self.assertEqual(self.ensure("not_there"), 0)
        self.execv.assert_called_once_with(self.python, [self.python, *sys.orig_argv[1:]])

    def test_it_begins_again_under_a_newer_python(self) -> None:
        with mock.patch("sys.version_info", (3, 10, 9)):
            self.assertEqual(self.ensure("json"), 0)

    def test_it_gives_up(self) -> None:
        with mock.patch("sys.prefix", self.home):
            self.assertEqual(self.ensure("not_there"), 2)
        os.unlink(self.python)
        self.assertEqual(self.ensure("not_there"), 2)
        self.execv.assert_not_called()


if __name__ == "__main__":
    unittest.main()
