"""`client.py --grpc` as a process: its lines, and what a person sees when the primary is killed in the middle."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import unittest

from tests.system.cluster import ROOT, Cluster, until


class Person:
    """Somebody at `client.py --grpc`."""

    def __init__(self, cluster: Cluster, *ports: int) -> None:
        command = [sys.executable, os.path.join(ROOT, "client.py"), "--grpc", *map(str, ports)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        self.process = subprocess.Popen(command, cwd=cluster.where, text=True, **pipes)  # type: ignore[call-overload]
        self.lines: list[str] = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        self.lines += iter(self._line, "")

    def _line(self) -> str:
        return str(self.process.stdout.readline())

    def say(self, line: str, *, sees: str = "") -> None:
        before = self.lines.count(sees + "\n")
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        if sees:
            until(f"{line!r} → {sees!r}", lambda: self.lines.count(sees + "\n") > before, about=lambda: repr(self.lines))

    def sees(self, line: str) -> None:
        until(f"sees {line!r}", lambda: line + "\n" in self.lines, about=lambda: repr(self.lines))

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.reader.join(10)
        self.process.stdout.close()


class GrpcModeTest(unittest.TestCase):
    maxDiff = None

    def test_two_people_and_a_death(self) -> None:
        cluster = Cluster(grpc=True)
        self.addCleanup(cluster.end)
        cluster.start()
        primary = cluster.wait_members()
        ports = cluster.doors["grpc"]
        ordered = [ports[primary], *(port for port in ports if port != ports[primary])]
        wayne, mason = Person(cluster, *ordered), Person(cluster, *ordered)
        self.addCleanup(wayne.end)
        self.addCleanup(mason.end)
        wayne.sees("Welcome to the chatroom! Please log into your account by 0 or create a new account by 1.")
        wayne.say("hello", sees="Invalid request, please try again!")
        wayne.say("0|wayne", sees="Account wayne is not found!")
        wayne.say("1|wayne", sees="Account wayne has been created!")
        mason.say("1 mason|secret", sees="Account mason has been created!")
        wayne.say("3|mason|before", sees="Your message has been sent!")
        mason.sees("wayne: before")
        wayne.say("2|m.*", sees="Account matched: mason")
        cluster.kill(primary)
        wayne.say("3|mason|after", sees="Your message has been sent!")
        mason.sees("wayne: after")
        mason.say("3|wayne|back", sees="Your message has been sent!")
        wayne.sees("mason: back")
        wayne.say("3|nobody", sees="Invalid request, please try again!")
        wayne.say("5|", sees="Your account has been deleted!")
        mason.say("X", sees="You have been successfully logged out!")
        for person in (wayne, mason):
            person.sees("Quitting!")
            self.assertEqual(person.process.wait(10), 0)
        self.assertEqual([line for line in mason.lines if line.startswith("wayne")], ["wayne: before\n", "wayne: after\n"])
        self.assertEqual([line for line in wayne.lines if line.startswith("mason")], ["mason: back\n"])
        self.assertEqual(wayne.lines.count("Your message has been sent!\n"), 2)


if __name__ == "__main__":
    unittest.main()
