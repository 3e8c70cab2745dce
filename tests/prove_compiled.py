"""The compiled form does what its sources do: both tell the same story of a seed, letter for letter, and processes of either serve.

It is made once, for all of these tests, and quickly: what the C compiler makes of it does not matter here. What a lie in a type would do to
compiled code, a `TypeError`, the simulator takes for a bug like any other. Read next: `scripts/compile.py`, `compiled.py`.
"""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from typing import Any, ClassVar
from unittest import mock

import compiled
from tests.system.cluster import Cluster

SCRIPT: Any = importlib.import_module("scripts.compile")  # nothing imports scripts: it is the script that is tried here
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SEEDS = {"survivor": "2,5,10,86", "majority": "118,1001"}  # 10 is a rush
SYSTEM = ("tests.system.test_conformance", "tests.system.test_failover.Failover.test_two_deaths_and_two_returns")
LIMIT_S = 700
# Where each module came from, in a process that has asked for the compiled form as a server does.
ORIGINS = """
import compiled
print(compiled.use())
import importlib
for name in compiled.MODULES:
    print(importlib.import_module(name).__file__)
"""


class Compiled(unittest.TestCase):
    into: ClassVar[str]

    @classmethod
    def setUpClass(cls) -> None:
        if lacking := SCRIPT.what_the_machine_lacks():
            raise unittest.SkipTest(f"nothing can be compiled here: {lacking}")
        cls.into = cls.enterClassContext(tempfile.TemporaryDirectory(prefix="understudy-compiled-"))
        os.mkdir(os.path.join(cls.into, f"{compiled.name_of(ROOT).rpartition('-')[0]}-ofbefore"))
        done = cls.run_python(os.path.join(ROOT, "scripts", "compile.py"), "--into", cls.into, "-O0")
        assert done.returncode == 0, done.stdout + done.stderr

    @classmethod
    def run_python(cls, *arguments: str, form: str = "", home: str = ROOT) -> subprocess.CompletedProcess[str]:
        """A process that finds this compiled form, or what `form` says."""
        environment = {**os.environ, compiled.SWITCH: form or cls.into}
        return subprocess.run(
            [sys.executable, *arguments], cwd=home, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )

    def origins(self, home: str, form: str = "") -> list[str]:
        """Whether the form was found, then a file for each of its modules."""
        done = self.run_python("-c", ORIGINS, form=form, home=home)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.splitlines()

    def test_only_what_was_made_last_is_kept(self) -> None:
        self.assertEqual(os.listdir(self.into), [compiled.name_of(ROOT)])

    def test_it_is_served_for_just_these_sources(self) -> None:
        """One word more in one of them, compiled or not: the sources run."""
        with tempfile.TemporaryDirectory() as home:
            SCRIPT.copy_sources(home)
            found, *paths = self.origins(home)
            self.assertEqual((found, [path for path in paths if not path.startswith(self.into)]), ("True", []))
            self.assertEqual(self.origins(home, "no")[0], "False")
            for changed in ("state.py", "packets.py"):
                with open(os.path.join(home, changed), "a", encoding="utf-8") as file:
                    file.write("\n# another word\n")
                found, *paths = self.origins(home)
                self.assertEqual((found, [path for path in paths if not path.startswith(home)]), ("False", []))
                shutil.copyfile(os.path.join(ROOT, changed), os.path.join(home, changed))
            self.assertEqual(self.origins(home)[0], "True")

    def test_the_same_seed_tells_the_same_story(self) -> None:
        script = os.path.join(ROOT, "scripts", "simulate.py")
        for policy, seeds in SEEDS.items():
            told = []
            for extra in ([], ["--compiled"]):
                done = self.run_python(script, "--policy", policy, "--list", seeds, "--jobs", "1", "--trace", *extra)
                self.assertEqual(done.returncode, 0, done.stdout[-4000:] + done.stderr[-2000:])
                told.append(re.sub(r" in [\d.]+ s$", "", done.stdout.rstrip()).splitlines())  # the last line ends with how long it took
            sources, form = told
            self.assertRegex(sources[-1], r"^\d seeds, 0 failed, .* \d{4,} steps$")
            differs = next((at for at, (one, other) in enumerate(zip(sources, form, strict=False)) if one != other), None)
            self.assertIsNone(differs, f"{policy}, line {differs}: {sources[differs or 0]!r} became {form[differs or 0]!r}")
            self.assertEqual(len(sources), len(form))

    def test_servers_and_their_workers_run_it_and_say_so(self) -> None:
        with mock.patch.dict(os.environ, {compiled.SWITCH: self.into}), Cluster() as cluster:
            cluster.start()
            cluster.wait_members()
            self.assertEqual([status["form"] for status in cluster.statuses().values()], ["compiled"] * 3)
            self.assertIn("runs compiled", cluster.log(0))

    def test_processes_that_die_and_come_back(self) -> None:
        done = self.run_python("-m", "unittest", *SYSTEM)
        self.assertEqual(done.returncode, 0, done.stderr[-4000:])
        self.assertIn("OK", done.stderr)


if __name__ == "__main__":
    unittest.main()
