"""`client.py --grpc` as a process: its lines, and what a person sees when the primary is killed in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import unittest

from tests.system.cluster import ROOT, Cluster, free_ports, until

ENDS_S = 30.0  # seconds in which a client must have begun and ended on a busy machine


# Where a password takes longer than a call waits, its guest has gone to the next port before the first one dies, and is told of no death.
PATIENT = f"import sys, grpc_mode, terminal; grpc_mode.ANSWER_S, grpc_mode.OPTIONS = {ENDS_S}, []; sys.exit(terminal.main(sys.argv[1:]))"


class Person:
    """Somebody at `client.py --grpc`. `is_patient`: leaves no replica that lives, however busy the machine is."""

    def __init__(self, cluster: Cluster, *ports: int, options: tuple[str, ...] = (), is_patient: bool = False) -> None:
        program = ["-c", PATIENT] if is_patient else [os.path.join(ROOT, "client.py")]
        command = [sys.executable, *program, "--grpc", *map(str, ports), *options]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        self.process = subprocess.Popen(command, cwd=cluster.where, text=True, errors="surrogateescape", env=env, **pipes)  # type: ignore[call-overload]
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
        wayne, mason = (Person(cluster, *ordered, is_patient=True) for _ in range(2))
        self.addCleanup(wayne.end)
        self.addCleanup(mason.end)
        wayne.sees("Welcome to the chatroom! Please log into your account by 0 or create a new account by 1.")
        wayne.say("hello", sees="Invalid request, please try again!")
        wayne.say("0|\udcff", sees="Invalid request, please try again!")
        wayne.say("0|wayne", sees="Account wayne is not found!")
        wayne.say("1|wayne", sees="Account wayne has been created!")
        mason.say("1 mason|open sesame", sees="Account mason has been created!")
        wayne.say("3|mason|before", sees="Your message has been sent!")
        mason.sees("wayne: before")
        wayne.say("2|m.*", sees="Account matched: mason")
        cluster.kill(primary)
        wayne.say("3|mason|after", sees="Your message has been sent!")
        mason.sees("wayne: after")
        quiet = tuple(f"-- {ports[primary]} is gone, now on {port} (" for port in ordered[1:])  # the last, where the next one was slow
        for one in (wayne, mason):
            until("told, quietly", lambda one=one: any(line.startswith(quiet) for line in one.lines), about=lambda one=one: repr(one.lines))  # type: ignore[misc]
        mason.say("3|wayne|back", sees="Your message has been sent!")
        wayne.sees("mason: back")
        wayne.say("3|nobody", sees="Invalid request, please try again!")
        wayne.say("5|", sees="Your account has been deleted!")
        late = Person(cluster, ordered[1])
        self.addCleanup(late.end)
        late.say("0|mason", sees="wrong password for mason")
        late.say("0|mason|open sesame", sees="You have been successfully logged in!")
        late.process.send_signal(signal.SIGINT)
        self.assertEqual(late.process.wait(ENDS_S), 128 + signal.SIGINT, "it does not wait for a line")
        mason.say("X", sees="You have been successfully logged out!")
        for person in (wayne, mason):
            person.sees("Quitting!")
            self.assertEqual(person.process.wait(ENDS_S), 0)
        self.assertEqual([line for line in mason.lines if line.startswith("wayne")], ["wayne: before\n", "wayne: after\n"])
        self.assertEqual([line for line in wayne.lines if line.startswith("mason")], ["mason: back\n"])
        self.assertEqual(wayne.lines.count("Your message has been sent!\n"), 2)

    def test_nobody_is_there(self) -> None:
        """A script does not wait for ever; and what cannot be is said in a sentence."""
        with Cluster() as cluster:
            port = free_ports(1)[0]
            person = Person(cluster, port, options=("--wait", "0.1"))
            self.addCleanup(person.end)
            person.say("0|wayne", sees=f"-- nobody answers on {port}; giving up")
            self.assertEqual(person.process.wait(ENDS_S), 1)
            for options, words in ((("--ca", "none.pem"), "client.py: none.pem"), (("--menu",), "not allowed with argument")):
                person = Person(cluster, port, options=options)
                self.addCleanup(person.end)
                self.assertEqual(person.process.wait(ENDS_S), 2)
                until(words, lambda person=person, words=words: words in "".join(person.lines))  # type: ignore[misc]
            blocked = "import sys; sys.modules['grpc'] = None; import terminal; sys.exit(terminal.main(['--grpc', '1']))"
            done = subprocess.run(
                [sys.executable, "-c", blocked],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
            self.assertIn("client.py: --grpc needs a package that this Python lacks (import of grpc", done.stderr)


if __name__ == "__main__":
    unittest.main()
