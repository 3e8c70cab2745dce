"""The committed stubs are what the compiler makes of the messages today, and what runs is new enough for them."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from tests.test_house_rules import ROOT

STUBS = ("chat_pb2.py", "chat_pb2.pyi", "chat_pb2_grpc.py")
CALLS = ("DeleteAccount", "CreateAccount", "LogIn", "LogOut", "WildCard")
NEW = 11  # the first number of a field that clients of old do not know


class Stubs(unittest.TestCase):
    def test_made_anew_they_are_the_same(self) -> None:
        with tempfile.TemporaryDirectory() as where:
            flags = [f"--{kind}_out={where}" for kind in ("python", "pyi", "grpc_python")]
            compiler = [sys.executable, "-m", "grpc_tools.protoc", "--proto_path=.", *flags, "doors/gen/chat.proto"]
            done = subprocess.run(compiler, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
            self.assertEqual(done.returncode, 0, done.stderr)
            for name in STUBS:
                made = Path(where, "doors/gen", name).read_bytes()
                self.assertEqual((ROOT / "doors/gen" / name).read_bytes(), made, f"{name}: run bash scripts/stubs.sh")

    def test_what_is_required_is_new_enough(self) -> None:
        wanted = (ROOT / "requirements.txt").read_text("utf-8")
        messages = (ROOT / "doors/gen/chat_pb2.py").read_text("utf-8")
        service = (ROOT / "doors/gen/chat_pb2_grpc.py").read_text("utf-8")
        least = re.search(r"Protobuf Python Version: ([0-9.]+)", messages), re.search(r"GRPC_GENERATED_VERSION = '([0-9.]+)'", service)
        for package, floor in zip(("protobuf", "grpcio"), least, strict=True):
            pinned = re.search(rf"^{package}==([0-9.]+)$", wanted, re.MULTILINE)
            assert pinned and floor
            self.assertGreaterEqual(_version(pinned[1]), _version(floor[1]), package)
            self.assertEqual(_version(pinned[1])[0], _version(floor[1])[0], f"{package}: stubs live as long as a major version")

    def test_fields_of_old(self) -> None:
        """Numbers and types that clients have in them for good; whatever is newer leaves them alone."""
        old = {
            "ChatMessageRequest": "uint64 thread_id = 1; string message = 2; string sender_id = 3; string recipient_id = 4;",
            "ChatMessage": "uint64 id = 1; uint64 thread_id = 2; string message = 3; string sender_id = 4; string recipient_id = 5;",
            "ChatClient": "string recipient_id = 1;",
            "WildCardRequest": "string client_id = 1; string pattern = 2;",
            **{f"{call}Request": "string client_id = 1;" for call in CALLS if call != "WildCard"},
            **{
                f"{call}Response": "uint64 id = 1;"
                for call in ("DeleteAccount", "CreateAccount", "LogIn", "LogOut", "WildCard", "ChatMessage")
            },
        }
        text = (ROOT / "doors/gen/chat.proto").read_text("utf-8")
        self.assertNotRegex(text, "(?m)^package")
        found = dict(re.findall(r"(?ms)^message (\w+) \{(.*?)^\}", text))
        for name, fields in old.items():
            numbered = re.findall(r"(\w+ \w+ = (\d+);)", found[name])
            self.assertEqual(" ".join(line for line, number in numbered if int(number) < NEW), fields, name)


def _version(words: str) -> tuple[int, ...]:
    return tuple(map(int, words.split(".")))


if __name__ == "__main__":
    unittest.main()
