"""What an operator sees: starting, asking, stopping, exit codes, files."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import time
import unittest

from operators import ask
from tests.system.cluster import Cluster, rss_of, until
from tests.system.guests import Plain
from tests.system.stage import SystemTest

TENFOLD = 10  # tests run on busy machines
ACCEPTS_S = 1.0  # promised from start to an open door
FRESH_S = 2.0  # promised age of the CSV files in a quiet cluster
IDLE_BYTES = 60 << 20  # promised memory of a process that does nothing


class Operator(SystemTest):
    """One cluster a test."""

    async def test_status_and_stop(self) -> None:
        """The verbs' words, JSON and exit codes, from three that run to none."""
        before = await self.aside(self.cluster.run, "status")
        self.assertEqual(before.returncode, 1)
        self.assertIn("does not run", before.stdout)
        primary = await self.start()
        words = await self.aside(self.cluster.run, "status")
        self.assertEqual((words.returncode, words.stderr), (0, ""))
        self.assertIn("survives 2 deaths", words.stdout)
        self.assertIn("first start", words.stdout)
        done = await self.aside(self.cluster.run, "status", "--json")
        report = json.loads(done.stdout)
        self.assertEqual((done.returncode, report["policy"], report["view"]), (0, "survivor", 1))
        self.assertEqual([r["port"] for r in report["replicas"]], self.cluster.pipes)
        self.assertEqual([r["role"] for r in report["replicas"]].count("primary"), 1)
        self.assertEqual(report["replicas"][primary]["role"], "primary")
        self.assertEqual([r["pid"] for r in report["replicas"]], [self.cluster.processes[i].pid for i in self.cluster.ids])
        await self.aside(self.cluster.kill, 2)
        await self.aside(self.cluster.wait_members, 0, 1)
        one_dead = json.loads((await self.aside(self.cluster.run, "status", "--json")).stdout)
        self.assertEqual((one_dead["replicas"][2]["role"], one_dead["members"], one_dead["reason"]), ("down", [0, 1], "2 died"))
        stopped = await self.aside(self.cluster.run, "stop")
        self.assertEqual(stopped.returncode, 0, stopped.stdout)
        self.assertIn("replica 2 did not run", stopped.stdout)
        self.assertEqual([self.cluster.wait_ended(i) for i in (0, 1)], [0, 0])
        again = await self.aside(self.cluster.run, "stop")
        self.assertEqual(again.returncode, 1)

    async def test_a_second_start_goes_on_and_each_may_begin_alone(self) -> None:
        """Who stops last registers that nothing follows: anybody with the whole log may then go on, replica 0 first or any other."""
        await self.start()
        await self.begin_talk("ann", "bob")
        for alone in (0, 2):
            stopped = await self.aside(self.cluster.run, "stop")
            self.assertEqual(stopped.returncode, 0, stopped.stdout)
            for i in self.cluster.ids:
                self.assertEqual(self.cluster.wait_ended(i), 0, self.cluster.log(i)[-1000:])
            self.cluster.start(alone)
            self.assertEqual(await self.aside(self.cluster.wait_serving), alone)
            await self.more_talk()
            self.cluster.start(*(i for i in self.cluster.ids if i != alone))
            await self.aside(self.cluster.wait_members)
        await self.end_talk()

    async def test_stopping_one_hands_over_without_a_failed_request(self) -> None:
        """Also the primary, also by SIGTERM; its guests move, nobody is refused."""
        await self.start()
        await self.begin_talk("ann", "bob", "cid")
        for how in ("verb", "signal"):
            primary = await self.aside(self.cluster.wait_serving)
            if how == "verb":
                done = await self.aside(self.cluster.run, "stop", "--replica", str(primary))
                self.assertEqual(done.returncode, 0, done.stdout)
            else:
                self.cluster.processes[primary].terminate()
            self.assertEqual(await self.aside(self.cluster.wait_ended, primary), 0)
            await self.more_talk()
            self.cluster.start(primary)
            await self.aside(self.cluster.wait_members)
        await self.end_talk()

    async def test_csv_files_are_fresh(self) -> None:
        """In a quiet cluster they hold what was just acknowledged, on every replica."""
        primary = await self.start()
        guest = self.plain(primary)
        guest.ask("1|kay")
        for text in ("first", 'NA, "null" 007 | 😀'):
            guest.ask(f"3|kay|{text}", "to kay\n")
            acknowledged = time.monotonic()
            await self.aside(self._wait_for_row, ("kay", "kay", text))
            self.assertLess(time.monotonic() - acknowledged, FRESH_S * TENFOLD)
        await self.aside(self.cluster.wait_level)
        self.assertEqual(self.cluster.differences(), [])

    def _wait_for_row(self, row: tuple[str, str, str]) -> None:
        self.cluster.wait(
            f"all have {row}", lambda: all(self.cluster.csv_op(i) and row in self.cluster.history(i) for i in self.cluster.ids)
        )


class Starting(unittest.TestCase):
    """Processes that are watched from their first moment, or do not get far."""

    def setUp(self) -> None:
        self.cluster = Cluster()
        self.addCleanup(self.cluster.end)

    def test_accepts_soon_and_stays_small(self) -> None:
        """From an empty directory to an open door; memory of one that does nothing; files for the owner only."""
        began = time.monotonic()
        self.cluster.start()
        for port in self.cluster.pipes:
            until("the door is open", lambda p=port: _connects(p), about=self.cluster.tell)  # type: ignore[misc]
        self.assertLess(time.monotonic() - began, ACCEPTS_S * TENFOLD)
        self.cluster.wait_members()
        for i in self.cluster.ids:
            self.assertLess(rss_of(self.cluster.processes[i].pid), IDLE_BYTES)
            for name in ("admin.sock", "superblock", "log/replica.log"):
                self.assertEqual(stat.S_IMODE(os.stat(os.path.join(self.cluster.base, f"replica-{i}", name)).st_mode) & 0o077, 0, name)
        self.assertEqual(stat.S_IMODE(os.stat(os.path.join(self.cluster.base, "cluster", "secret")).st_mode), 0o600)

    def test_a_taken_port_is_named_with_its_owner(self) -> None:
        """A guests' port and a peer port; the replica ends with code 2."""
        for port in (self.cluster.pipes[0], self.cluster.peers[0]):
            with self.subTest(port=port), socket.socket() as other:
                other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                other.bind(("127.0.0.1", port))
                other.listen()
                done = self.cluster.run("--replica", "0")
                self.assertEqual(done.returncode, 2, done.stdout)
                self.assertRegex(done.stderr, rf"replica 0 cannot start: .*{port}.*; it is taken by process {os.getpid()} \(")
                self.assertNotIn("Traceback", done.stderr)

    def test_whoever_reads_what_is_printed_may_go(self) -> None:
        """`… | head`: no complaint, the verb's own exit code; what a supervisor has begun it ends, though nobody hears of it."""
        for verb in ("status", "stop"):
            gone = self._unheard(verb)
            self.assertEqual((gone.wait(30), self._complaint(gone)), (1, b""))  # nothing runs
        supervisor = self._unheard()
        self.cluster.wait("all are started", lambda: len(self._answer()) == len(self.cluster.ids))
        supervisor.terminate()
        self.assertEqual((supervisor.wait(30), self._complaint(supervisor)), (0, b""))
        self.assertEqual(self._answer(), [])

    def test_the_disk_of_what_is_printed_may_be_full(self) -> None:
        """The same, and it is said where there is somebody to hear it; a replica's own end stays its own."""
        for verb, code in ((), 0), (("status",), 1):
            with self.subTest(verb=verb), open("/dev/full", "wb") as full:
                process = subprocess.Popen(self.cluster.command(*verb), stdout=full, stderr=subprocess.PIPE)
                if not verb:
                    self.cluster.wait("all are started", lambda: len(self._answer()) == len(self.cluster.ids))
                    process.terminate()
                self.assertEqual(process.wait(30), code)
                complaint = self._complaint(process)
                self.assertIn(b"what is printed from here on is lost: [Errno 28]", complaint)
                self.assertNotIn(b"Traceback", complaint)

    def test_there_may_be_nobody_from_the_start(self) -> None:
        """Standard descriptors that are closed: no file of ours takes their numbers, and exit codes stay."""
        closed = ("bash", "-c", 'exec "$@" <&- >&- 2>&-', "-")
        self.assertEqual(subprocess.run([*closed, *self.cluster.command("status")], timeout=30, check=False).returncode, 1)
        replica = subprocess.Popen([*closed, *self.cluster.command("--replica", "0")])
        self.addCleanup(replica.wait)
        self.addCleanup(replica.kill)
        self.cluster.wait("it answers", self._answer)
        self.assertEqual([os.readlink(f"/proc/{replica.pid}/fd/{number}") for number in range(3)], ["/dev/null"] * 3)

    def test_a_log_that_cannot_be_written_is_named(self) -> None:
        """One sentence and code 2, also where the sentence cannot be said."""
        os.makedirs(os.path.join(self.cluster.base, "replica-0"))
        with open(log := os.path.join(self.cluster.base, "replica-0", "log"), "wb"):
            pass
        done = self.cluster.run("--replica", "0")
        self.assertEqual((done.returncode, len(done.stderr.splitlines())), (2, 1), done.stderr)
        self.assertIn(f"replica 0 cannot start: [Errno 17] File exists: '{log}'", done.stderr)
        with open("/dev/full", "wb") as full:
            self.assertEqual(subprocess.run(self.cluster.command("--replica", "0"), stderr=full, timeout=30, check=False).returncode, 2)

    def _supervise(self, path: str) -> subprocess.Popen[bytes]:
        """All replicas; what is said goes there."""
        with open(path, "wb") as output:
            process = subprocess.Popen(self.cluster.command(), cwd=self.cluster.where, stdout=output, stderr=output)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def _unheard(self, *verb: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(self.cluster.command(*verb), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.close()
        return process

    def _complaint(self, process: subprocess.Popen[bytes]) -> bytes:
        assert process.stderr is not None
        with process.stderr:
            return process.stderr.read()

    def _answer(self) -> list[int]:
        return [i for i in self.cluster.ids if ask(self.cluster.base, i, {"verb": "status"})]

    def test_the_same_replica_twice(self) -> None:
        """The second one goes; the first one does not notice."""
        self.cluster.start()
        self.cluster.wait_members()
        second = self.cluster.run("--replica", "1")
        self.assertEqual(second.returncode, 2)
        self.assertIn("cannot start", second.stderr)
        everybody = self.cluster.run()
        self.assertEqual(everybody.returncode, 2)
        self.assertIn("replica 0, 1, 2 runs already", everybody.stdout)
        self.cluster.wait_members()

    def test_words_that_do_not_fit(self) -> None:
        """A wrong configuration, a replica that is not there."""
        unknown = self.cluster.run("--replica", "7")
        self.assertNotEqual(unknown.returncode, 0)
        self.assertIn("there is no replica 7", unknown.stderr)
        with open(self.cluster.config, "a", encoding="utf-8") as file:
            file.write("colour: red\n")
        for verb in (("status",), ("--replica", "0")):
            done = self.cluster.run(*verb)
            self.assertEqual(done.returncode, 2)
            self.assertRegex(done.stderr, r"^\S*cluster\.yaml:\d+:\d+: .*colour")
            self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)

    def test_one_command_starts_and_ctrl_c_stops_all(self) -> None:
        """`server.py` without arguments; of two at once one goes on; the second start goes on with the data of the first."""
        for session, count in (("first", 2), ("second", 1)):
            paths = [os.path.join(self.cluster.where, f"{session}-{nth}.log") for nth in range(count)]
            starts = [self._supervise(path) for path in paths]
            if count == 2:
                until("one gives up", lambda s=starts: any(p.poll() is not None for p in s), about=lambda p=paths: "".join(map(_text, p)))  # type: ignore[misc]
                loser = next(nth for nth, process in enumerate(starts) if process.poll() is not None)
                self.assertEqual(starts.pop(loser).wait(), 2)
                self.assertRegex(_text(paths.pop(loser)), r"\Areplica \d.* runs already: .*`python server.py stop` stops all\n\Z")
            (supervisor,), (path,) = starts, paths
            until("it says how to open a client", lambda p=path: "client.py" in _text(p), about=lambda p=path: _text(p))  # type: ignore[misc]
            self.assertIn("3 replicas, survives 2 deaths", _text(path))
            with Plain(self.cluster.pipes[0]) as guest:
                greeted = guest.ask("1|lou") if session == "first" else guest.ask("0|lou123")
                self.assertIn("lou", greeted)
                self.assertNotIn("not recognized", greeted)
            supervisor.send_signal(signal.SIGINT)
            self.assertEqual(supervisor.wait(30), 0, _text(path))
            self.assertNotIn("Traceback", _text(path))
            self.assertFalse([port for port in self.cluster.pipes if _connects(port)])


def _connects(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as guest:
            guest.settimeout(5)
            return guest.recv(1) == b"T"
    except OSError:
        return False


def _text(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()
