"""The files in `deploy/` against the program: what they start is there, and understood."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

import yaml

from admin import make_parser
from doors import DOORS
from settings import load
from tests.test_house_rules import ROOT

UNIT = ROOT / "deploy/understudy@.service"
COMPOSE = ROOT / "deploy/compose.yaml"
INSTALLED = "/opt/understudy"


class Units(unittest.TestCase):
    def test_what_it_starts_is_there_and_understands_its_words(self) -> None:
        (line,) = re.findall(r"^ExecStart=(.*)$", UNIT.read_text("utf-8"), re.MULTILINE)
        python, server, *words = shlex.split(line.replace("%i", "2"))
        self.assertEqual(python, f"{INSTALLED}/.venv/bin/python")
        self.assertTrue((ROOT / Path(server).relative_to(INSTALLED)).is_file(), server)
        told = make_parser().parse_args(words)
        self.assertEqual((told.replica, told.config, told.data), (2, "/etc/understudy/cluster.yaml", "/var/lib/understudy"))

    def test_systemd_understands_it(self) -> None:
        if not shutil.which("systemd-analyze"):
            self.skipTest("there is no systemd-analyze here")
        text = UNIT.read_text("utf-8").replace(f"{INSTALLED}/.venv/bin/python", "/bin/sh")
        text = text.replace("User=understudy\nGroup=understudy\n", "User=root\n")  # whoever reads this has no such user
        with tempfile.TemporaryDirectory() as where:
            path = Path(where) / "understudy@0.service"
            path.write_text(text, "utf-8")
            done = subprocess.run(["systemd-analyze", "verify", str(path)], capture_output=True, text=True, timeout=60, check=False)
        complaints = [line for line in done.stderr.splitlines() if "understudy" in line]
        self.assertEqual(complaints, [])
        self.assertTrue(done.returncode == 0 or "understudy" not in done.stderr, done.stderr)


class Containers(unittest.TestCase):
    def test_a_service_for_each_replica(self) -> None:
        file = yaml.SafeLoader(COMPOSE.read_text("utf-8")).get_single_data()
        replicas = load(str(ROOT / "cluster.yaml"), DOORS).replicas
        self.assertEqual(len(file["services"]), len(replicas))
        for replica, service in zip(replicas, file["services"].values(), strict=True):
            python, server, *words = service["command"]
            told = make_parser().parse_args(words)
            self.assertEqual((python, told.replica), ("python", replica.id))
            self.assertTrue((ROOT / server).is_file())
            self.assertEqual(service["volumes"], [f"understudy:{told.data}"])
            self.assertEqual((service["network_mode"], service["restart"]), ("host", "unless-stopped"))
            for copied in re.findall(r"COPY (.*) \S+$", service["build"]["dockerfile_inline"], re.MULTILINE):
                self.assertTrue(all(list(ROOT.glob(name)) for name in copied.split()), copied)


if __name__ == "__main__":
    unittest.main()
