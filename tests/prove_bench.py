"""The benchmark works: a moment of everything, without a threshold; how acknowledgements are counted; and what it refuses to say.

What it is not: a measurement. `python scripts/bench.py` is. Read next: `tests/bench/report.py`.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import glob
import importlib
import io
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import unittest
from collections.abc import Callable
from typing import Any
from unittest import mock

import msgspec

from disk import OsDisk
from doors.gen.chat_pb2 import ChatMessageRequest
from doors.room import WELCOME
from tests.bench import load
from tests.bench.dialects import BadReply, Bare, Dialect, Framed, Ledger, Nats, Numbered, OneWait, Pipe, Redis, Room
from tests.bench.frames import CONTENT, END_HEADERS, END_STREAM, HEADERS, RESET, Etcd, Grpc, frame
from tests.bench.load import Order, Result, Times, measure, more_than, processor_of
from tests.bench.makings import Making, Watch, sort_out
from tests.bench.report import OWN, Figures, show, write_json
from tests.bench.systems import PEERS, Broken, System, Understudy
from tests.system.cluster import ROOT, Cluster, until

SCRIPT: Any = importlib.import_module("scripts.bench")  # nothing imports scripts: it is the script that is tried here


class Counting(unittest.TestCase):
    """A reply counts once, wherever the network cuts it."""

    def assert_counts(self, make: type[Dialect], words: bytes, wanted: int) -> None:
        for size in (1, 2, 3, 7, 20, len(words)):
            dialect = make(0, 100)
            got = sum(dialect.count(words[at : at + size]) for at in range(0, len(words), size))
            self.assertEqual(got, wanted, f"{make.__name__} in pieces of {size}")

    def test_pipe(self) -> None:
        words = b"message from s0 has been delivered to u0001's mailbox\n" * 3
        self.assert_counts(Pipe, words, 3)
        self.assert_counts(Bare, words, 3)

    def test_numbered_replies_among_signs_of_life(self) -> None:
        sentence = b"message from s0 has been delivered to u0001's mailbox\n"
        self.assert_counts(Numbered, b"".join(b".\n%d %d\n%s" % (n, len(sentence), sentence) for n in (2, 3)), 2)

    def test_framed(self) -> None:
        self.assert_counts(Framed, b"19        0\nSent to recipient" * 2, 2)

    def assert_refused(self, make: type[Dialect], *answers: bytes, asked: int = 1) -> None:
        """Such an answer is no acknowledgement, wherever the network cuts it."""
        for words in answers:
            for size in (1, 2, 5, 30, len(words)):
                dialect, counted = make(0, 100), 0
                dialect.requests(asked)
                with self.assertRaises(BadReply, msg=f"{words!r} in pieces of {size}"):
                    for at in range(0, len(words), size):
                        counted += dialect.count(words[at : at + size])
                self.assertEqual(counted, 0, f"{words!r} in pieces of {size}")

    def test_ledger_takes_no_error(self) -> None:
        self.assert_counts(Ledger, b"7\n8\n", 2)
        self.assert_refused(Ledger, b"error: there is no account s0123\n")

    def test_room_counts_its_own_lines_and_no_line_that_it_is_shown(self) -> None:
        shown = b"s1x1a|1795252513502654|40|" + b"m" * 100
        self.assert_counts(Room, b"2 0\n* 17 %d\n%s.\n3 0\n" % (len(shown), shown), 2)
        self.assert_counts(Room, b"1 %d\n%s" % (len(WELCOME), WELCOME.encode()), 0)

    def test_redis_counts_a_wait_that_reached_two_replicas(self) -> None:
        self.assert_counts(Redis, b":17\r\n:2\r\n:18\r\n:2\r\n", 2)
        refused = b"-MISCONF Errors writing to the AOF file\r\n:2\r\n"  # what was before it has reached both
        self.assert_refused(Redis, b":17\r\n:1\r\n", refused)

    def test_one_wait_counts_for_all_before_it(self) -> None:
        for size in (1, 3, 4, 30):
            dialect, counted = OneWait(0, 100), []
            words = dialect.requests(3) + dialect.requests(1)
            self.assertEqual((words.count(b"RPUSH"), words.count(b"WAIT"), words.count(b"m" * 100)), (4, 2, 4))
            answers = b":7\r\n:8\r\n:9\r\n:2\r\n:10\r\n:2\r\n"
            counted = [dialect.count(answers[at : at + size]) for at in range(0, len(answers), size)]
            self.assertEqual([count for count in counted if count], [4] if size == 30 else [3, 1], f"in pieces of {size}")
        self.assert_refused(OneWait, b":7\r\n:8\r\n:1\r\n", b":7\r\n-OOM command not allowed\r\n:2\r\n", asked=2)

    def test_nats_counts_acknowledgements_and_takes_no_error(self) -> None:
        self.assert_counts(Nats, b'MSG _INBOX.0 1 27\r\n{"stream":"BOX", "seq":1}\r\n' * 2, 2)
        refused = b'MSG _INBOX.0 1 60\r\n{"error":{"code":503,"description":"no space"},"stream":"BOX","seq":0}\r\n'
        self.assert_refused(Nats, refused, b"-ERR 'Authorization Violation'\r\n")

    def test_etcd_counts_calls_that_ended_with_an_answer(self) -> None:
        answer = frame(HEADERS, END_HEADERS, 1, b"\x88") + frame(CONTENT, 0, 1, b"\0\0\0\0\2ok")
        trailer = frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\xbe")
        self.assert_counts(Etcd, answer + trailer, 1)
        self.assert_counts(Etcd, answer, 0)
        for failed in (trailer, frame(RESET, 0, 1, bytes(4))):
            with self.assertRaises(BadReply):
                Etcd(0, 100).count(failed)

    def test_requests_are_as_many_as_asked(self) -> None:
        for make in (Pipe, Bare, Redis, Nats, Numbered, Framed, Room, Etcd, Grpc):
            dialect = make(3, 100)
            dialect.at = len(dialect.pool) - 2
            five = dialect.requests(5)
            self.assertEqual(five.count(b"m" * 100), 5, make.__name__)
            single = make(3, 100)
            single.at = len(single.pool) - 2
            self.assertEqual(b"".join(single.requests(1) for _ in range(5)), five, f"{make.__name__}, one by one")
            self.assertEqual(single.requests(2), dialect.requests(2), make.__name__)


class Owed(unittest.TestCase):
    """There is a figure only where every request that was sent is answered as it should be: else why there is none."""

    SENTENCE = b"message from s0 has been delivered to u0001's mailbox\n"

    def measured(self, answer: Callable[[int, int], bytes], dialect: str = "bare", patience: float = 15.0, **knobs: Any) -> Result:
        """Two connections to a system that answers the Nth request of each with `answer(connection, N)`; empty: it ends it."""
        guests = itertools.count()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            guest = next(guests)
            for number in itertools.count():
                try:
                    await reader.readuntil(b"m" * 100)
                    words = answer(guest, number)
                    writer.write(words)
                except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                    return
                if not words:
                    return writer.close()

        async def talk() -> Result:
            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            order = Order(dialect, server.sockets[0].getsockname()[1], connections=2, warm=0.01, seconds=0.05)
            return await measure(msgspec.structs.replace(order, **knobs))

        with mock.patch.object(load, "PATIENCE_S", patience):
            return asyncio.run(talk())

    def test_a_good_one_gives_a_figure(self) -> None:
        result = self.measured(lambda guest, number: self.SENTENCE)
        self.assertEqual(result.trouble, "")
        self.assertGreater(result.times.count, 2)

    def test_a_connection_that_ends(self) -> None:
        result = self.measured(lambda guest, number: b"" if (guest, number) == (1, 5) else self.SENTENCE)
        self.assertRegex(result.trouble, "^a connection ended")

    def test_a_connection_that_is_refused_while_others_are_served(self) -> None:
        full = b"u0001's mailbox is full\n"
        result = self.measured(lambda guest, number: full if (guest, number) == (1, 5) else self.SENTENCE, patience=0.3)
        self.assertRegex(result.trouble, "^[12] connections were not answered any more; .*mailbox is full")

    def test_a_wrong_answer(self) -> None:
        result = self.measured(lambda guest, number: b":1\r\n:1\r\n" if guest else b":1\r\n:2\r\n", "redis")
        self.assertRegex(result.trouble, "^redis says .*:1")

    def test_nothing_at_all(self) -> None:
        result = self.measured(lambda guest, number: b"later\n", patience=0.3)
        self.assertRegex(result.trouble, "^2 connections were not answered any more; .*later")

    def test_readers_that_read_nothing(self) -> None:
        """W1 goes on, and would be taken for what it is beside reads."""
        result = self.measured(lambda guest, number: self.SENTENCE, patience=0.3, reads=True)
        self.assertEqual((result.trouble, result.per_second), ("what was to be read or shown beside it was not", 0.0))

    def test_time_of_processes_that_come_and_go(self) -> None:
        self.assertEqual(more_than({1: 5.0, 2: 7.0}, {1: 6.0, 3: 0.5}), 1.5)
        if not os.path.exists(f"/proc/self/task/{os.getpid()}/children"):
            self.skipTest("this kernel does not tell who has started whom")
        with subprocess.Popen(["sleep", "60"]) as child:
            self.assertIn(child.pid, processor_of(os.getpid()))
            child.kill()


class Ratios(unittest.TestCase):
    """No ratio without both sides, and a ratio is of one round."""

    def test_what_was_not_run_is_not_compared(self) -> None:
        figures = Figures()
        figures.note(0, OWN, "numbered", "W1", Result(per_second=100.0))
        figures.note(0, "redis", "redis", "W1", "it did not start")
        self.assertEqual({met for _, _, met in figures.targets()}, {None})
        self.assertIn("not measured in this run", show(figures))

    def test_rounds_are_compared_with_themselves(self) -> None:
        figures = Figures()
        for number, (ours, theirs) in enumerate(((100.0, 50.0), (10.0, 5.0), (1.0, 10.0))):
            figures.note(number, OWN, "numbered", "W1", Result(per_second=ours))
            figures.note(number, "redis", "redis", "W1", Result(per_second=theirs))
        found = {words: (value, met) for words, value, met in figures.targets() if met is not None}
        self.assertEqual(found, {"W1 messages a second, at least 1 × redis": ("2.00", True)})

    def test_a_time_over_its_bound_is_missed(self) -> None:
        figures = Figures()
        for system, dialect, p50 in ((OWN, "numbered", 2.0), ("bare", "bare", 1.0)):
            figures.note(0, system, dialect, "W2", Result(times=Times(1, p50)))
        self.assertIn(("W2 p50, at most 1.25 × bare", "2.00", False), list(figures.targets()))

    def known(self, *rows: tuple[str, str, str, float]) -> dict[str, str]:
        """The ratios that are told where these were measured, in one round; a figure of 0: it failed."""
        figures = Figures()
        for system, dialect, workload, figure in rows:
            figures.note(0, system, dialect, workload, Result(per_second=figure, shown=Times(1, figure)) if figure else "it failed")
        return {words: value for words, value, _ in figures.targets() if value != "not measured in this run"}

    def test_another_door_does_not_stand_in_for_one_that_failed(self) -> None:
        self.assertEqual(self.known((OWN, "numbered", "W1", 0.0), (OWN, "pipe", "W1", 9.0), ("redis", "redis", "W1", 3.0)), {})

    def test_a_payment_is_not_compared_with_a_message(self) -> None:
        self.assertEqual(self.known((OWN, "ledger", "W1", 9.0), (OWN, "room", "W1", 9.0), ("redis", "redis", "W1", 3.0)), {})

    def test_which_door_is_compared_is_said(self) -> None:
        found = self.known((OWN, "pipe", "W1", 9.0), (OWN, "pipe", "w1", 3.0), ("redis", "redis", "W1", 3.0), ("echo", "grpc", "W1", 3.0))
        wanted = {
            "pipe W1 messages a second, at least 1 × redis": "3.00",
            "pipe w1 messages a second, at least 0.6 × W1 on the primary": "0.33",
        }
        self.assertEqual(found, wanted)

    def test_redis_is_told_of_both_ways(self) -> None:
        found = self.known((OWN, "numbered", "W3", 6.0), ("redis", "redis", "W3", 1.0), ("redis", "onewait", "W3", 8.0))
        self.assertEqual(found, {"W3 messages a second, of redis's": "6.00", "W3 messages a second, of onewait's": "0.75"})

    def test_nobody_is_always_behind_the_same_one(self) -> None:
        systems: Any = ["a", "b", "c", "d"]
        turns = [SCRIPT.turn_of(systems, number) for number in range(8)]
        self.assertEqual({tuple(sorted(turn)) for turn in turns}, {("a", "b", "c", "d")})
        for one in systems:
            self.assertEqual({turn.index(one) for turn in turns}, {0, 1, 2, 3})
            before = {turn[turn.index(one) - 1] for turn in turns if turn[0] != one}
            self.assertGreater(len(before), 1, f"{one} is always behind {before}")


class Absent(Understudy):
    """Says that it is there."""

    breaks = ""

    def start(self) -> None:
        self.primary, self.rested = 0, False

    def pids(self) -> list[int]:
        return []

    def settings(self) -> str:
        return "none"

    def rest(self) -> None:
        if self.breaks == "rest" and self.rested:
            raise Broken("rest")
        self.rested = True

    def check(self) -> None:
        if self.breaks == "check":
            raise Broken("check")


class Systems(unittest.TestCase):
    def test_a_process_that_ended_makes_a_measurement_void(self) -> None:
        with tempfile.TemporaryDirectory() as where:
            system = System(where)
            for _ in range(2):
                system.spawn("sleep", "60")
            self.addCleanup(system.end)
            system.check()
            system.processes[1].kill()
            until("it has ended", lambda: system.processes[1].poll() is not None)
            with self.assertRaisesRegex(Broken, "1 of 2 processes have ended"):
                system.check()

    def run_as(self, kind: type[System], *workloads: str) -> Figures:
        """A round in which every load would give a figure; with rests. Nobody is really there."""
        asked = SCRIPT.Asked(1, 0.1, 0.1, 100, 1, workloads, ("numbered",))
        with (
            tempfile.TemporaryDirectory() as where,
            mock.patch.object(SCRIPT, "run_load", return_value=Result(per_second=5.0, times=Times(1, 1.0))),
            mock.patch.object(SCRIPT, "measure_failover", side_effect=AssertionError("a message was lost")),
            mock.patch.object(os, "sync"),
            mock.patch.object(sys, "stderr", io.StringIO()),
        ):
            figures: Figures = SCRIPT.run(asked, [kind], where)
        return figures

    def test_what_breaks_costs_its_own_figures_and_is_told(self) -> None:
        for breaks in ("check", "rest", ""):
            figures = self.run_as(type("Own", (Absent,), {"breaks": breaks}), "W1", "W2", "F")
            lost = [("W1", breaks), ("W2", breaks)] if breaks else []
            wanted = [f"{(OWN, 'numbered', workload)}: {words}" for workload, words in [*lost, ("F", "a message was lost")]]
            self.assertEqual(figures.troubles(), wanted)
            words = show(figures)
            self.assertEqual([line in words for line in wanted], [True] * len(wanted))
            self.assertEqual({met for _, _, met in figures.targets()}, {None})

    def test_what_was_asked_stands_beside_the_figures(self) -> None:
        file = io.StringIO()
        write_json(self.run_as(type("Own", (Absent,), {}), "W1"), file)
        found = msgspec.json.decode(file.getvalue())
        self.assertEqual({*found}, {"asked", "settings", "rounds", "targets"})
        self.assertEqual((found["asked"]["text_bytes"], found["asked"]["warm"], found["asked"]["doors"]), (100, 0.1, ["numbered"]))
        self.assertEqual({*found["settings"]}, {"machine", OWN})
        self.assertEqual([row["result"]["per_second"] for row in found["rounds"]], [5.0])

    def test_what_is_not_there_is_not_measured(self) -> None:
        """Nor is anything else instead."""
        with mock.patch.object(SCRIPT.KINDS["redis"], "programs", ("no-such-program",)):
            for words, complaint in (("redis", "not installed: redis"), ("understudy,reddis", "unknown: reddis")):
                with mock.patch.object(sys, "argv", ["bench.py", "--only", words]), self.assertRaises(SystemExit) as ended:
                    SCRIPT.main()
                self.assertEqual(ended.exception.code, complaint)


class Snapshots(unittest.TestCase):
    """What `scripts/growth.py` says of them."""

    def test_a_request_is_beside_a_snapshot_if_any_moment_of_it_is(self) -> None:
        requests = [(0.9, 0.2), (1.05, 0.1), (1.5, 0.001), (2.3, 0.6), (3.0, 0.2), (7.0, 4.5), (7.1, 0.1)]  # answered at, waited for
        waits = sort_out(
            array.array("d", [at for at, _ in requests]),
            array.array("d", [took for _, took in requests]),
            [Making(1.0, 2.0), Making(2.45, 2.6), Making(9.0, 9.5)],
        )
        self.assertEqual((waits.without.count, waits.beside.count), (3, 4))
        self.assertEqual((waits.without.worst, waits.beside.worst), (200.0, 4500.0))
        self.assertEqual(waits.worst, [(4500.0, 7.0), (600.0, 2.3), (100.0, 1.05), (1.0, 1.5)])

    def test_making_one_is_seen_from_outside(self) -> None:
        """Somebody's turn, an unfinished folder, a link that is turned: one stretch; afterwards there is none."""
        with tempfile.TemporaryDirectory() as where:
            cluster = Cluster(replicas=1, where=where)
            home = os.path.join(cluster.base, "replica-0")
            unfinished, final = (os.path.join(home, "snapshots", name) for name in ("tmp-7", "0000000000000007"))
            for path in (os.path.join(cluster.base, "cluster"), os.path.join(home, "snapshots")):
                os.makedirs(path)
            disk = OsDisk()
            with Watch(cluster) as watch:
                turn = disk.try_lock(os.path.join(cluster.base, "cluster", "snapshot.turn"), shared=False)
                until("the turn is seen", lambda: watch.began)
                os.mkdir(unfinished)
                assert turn is not None
                disk.unlock(turn)
                os.rename(unfinished, final)
                os.symlink(final, cluster.csv(0))
                until("its end is seen", lambda: watch.makings)
            self.assertEqual([replica for replica, _ in watch.made], [0])
            (making,) = watch.makings
            self.assertTrue(making.began < watch.made[0][1] < making.ended)


class Calls(unittest.TestCase):
    def test_a_call_is_the_message_of_the_door(self) -> None:
        """What the bench sends by hand is what a client's library would send."""
        message = Grpc(7, 100).message(b"u0001", b"m" * 300)
        self.assertEqual(message, ChatMessageRequest(sender_id="s7", recipient_id="u0001", message="m" * 300).SerializeToString())


def processes_about(path: str) -> list[str]:
    """Command lines in which it is named."""
    found = []
    for name in glob.glob("/proc/[0-9]*/cmdline"):
        with contextlib.suppress(OSError), open(name, "rb") as file:
            found.append(file.read().replace(b"\0", b" ").decode(errors="replace"))
    return [line for line in found if path in line]


class Smoke(unittest.TestCase):
    def test_every_workload_gives_a_figure(self) -> None:
        workloads = "W1,W2,W3,R,D,w1,F"
        command = [sys.executable, os.path.join(ROOT, "scripts", "bench.py"), "--smoke", "--doors", "all", "--workloads", workloads]
        done = subprocess.run([*command, "--json", "-"], capture_output=True, text=True, timeout=150, check=False)
        self.assertEqual(done.returncode, 0, done.stderr[-2000:])
        found = msgspec.json.decode(done.stdout)
        measured = {(row["system"], row["workload"]) for row in found["rounds"] if row["result"]["per_second"] > 0}
        wanted = {(name, w) for name in (OWN, "bare", "echo") for w in ("W1", "W2", "W3")} | {(OWN, w) for w in ("R", "D", "w1")}
        self.assertEqual(measured, wanted)
        self.assertEqual({row["dialect"] for row in found["rounds"] if row["system"] == OWN}, set(Understudy.dialects))
        self.assertTrue(found["failover_ms"])
        shown = [row["result"]["shown"]["count"] for row in found["rounds"] if row["workload"] == "D"]
        self.assertTrue(all(shown), "nothing was displayed")

    def test_others_give_a_figure_where_they_are_installed(self) -> None:
        names = [kind.name for kind in PEERS if kind.is_installed()]
        if not names:
            self.skipTest("none of them is installed here")
        command = [sys.executable, os.path.join(ROOT, "scripts", "bench.py"), "--smoke", "--only", ",".join(names), "--workloads", "W3"]
        done = subprocess.run([*command, "--json", "-"], capture_output=True, text=True, timeout=150, check=False)
        self.assertEqual(done.returncode, 0, done.stderr[-2000:])
        measured = {row["dialect"] for row in msgspec.json.decode(done.stdout)["rounds"] if row["result"]["per_second"] > 0}
        self.assertEqual(measured, {dialect for kind in PEERS if kind.name in names for dialect in kind.dialects})

    def test_whoever_is_told_to_end_leaves_nothing_behind(self) -> None:
        with tempfile.TemporaryDirectory() as where:
            command = [sys.executable, os.path.join(ROOT, "scripts", "bench.py"), "--only", "bare", "--seconds", "60"]
            environment = {**os.environ, "TMPDIR": where}
            with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as bench:
                until("the pipeline is there", lambda: len(glob.glob(os.path.join(where, "*", "bare", "*.journal"))) == 3)
                self.assertTrue(processes_about(where))
                bench.terminate()
                self.assertEqual(bench.wait(20), 128 + signal.SIGTERM)
            self.assertEqual((os.listdir(where), processes_about(where)), ([], []))

    def grow(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, os.path.join(ROOT, "scripts", "growth.py"), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)

    def test_what_much_stored_costs_is_measured_and_told(self) -> None:
        """Clusters of one replica, filled with little: those parts of `scripts/growth.py` that are over in a moment."""
        done = self.grow("--smoke")
        self.assertEqual(done.returncode, 0, done.stderr[-2000:])
        for line in (
            "20 accounts made in ",
            "1000 messages stored and delivered in ",
            "500 more wait; ",
            r"memory    full: each replica [1-9]\d* MB .* worker [1-9]\d*,",
            r"memory    empty: each replica [1-9]\d* MB ",
            r"idle      \d+ connections: ",
            r"idle      \d+ guests with sessions: ",
            r"guesses   \d+ a second answered; W1 of 8 beside them p50, p99, worst( [\d.]+ → [\d.]+,?){3} ms ",
        ):
            self.assertRegex(done.stdout, rf"(?m)^{line}")

    def test_a_part_that_does_not_exist_is_refused_before_anything_starts(self) -> None:
        done = self.grow("--only", "load,lead")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (1, "", "unknown: lead\n"))


if __name__ == "__main__":
    unittest.main()
