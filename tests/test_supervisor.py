"""The supervisor beside others: of its own processes it says that they are up, and what others have started it leaves alone."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import unittest
from typing import Any
from unittest import mock

import supervisor
from disk import OsDisk, ReplicaLock
from settings import parse
from supervisor import Supervisor
from tests.test_settings import GOOD

SETTINGS = parse(GOOD.encode(), "c.yaml")
STRANGER = 1  # the process that answers for a replica which somebody else has started


class Child:
    """A process that was started: it runs until it is told otherwise."""

    def __init__(self, replica: int) -> None:
        self.pid, self.returncode = 100 + replica, None
        self.looks_left = -1  # until it ends by itself; negative: it does not
        self.was_told = False

    def poll(self) -> int | None:
        self.looks_left -= 1
        if self.looks_left == 0:
            self.returncode = 2  # type: ignore[assignment]
        return self.returncode

    def terminate(self) -> None:
        self.was_told = True

    def wait(self, seconds: float) -> None:
        self.returncode = self.returncode or 0  # type: ignore[assignment]


class Starts(unittest.TestCase):
    def setUp(self) -> None:
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.base = os.path.join(place.name, "data")
        self.answering: dict[int, int] = {}  # by replica, the process that answers
        self.children: dict[int, Child] = {}
        self.stopped: list[list[int]] = []
        self.looks = 0
        for name, fake in (
            ("ask", self.ask),
            ("gather_status", self.gather),
            ("here", lambda settings: [0, 1, 2]),
            ("stop_replicas", lambda settings, base, replicas: self.stopped.append(list(replicas))),
            ("subprocess.Popen", self.start),
            ("signal.signal", lambda number, handler: None),
            ("TURN_S", 0.2),
        ):
            patch = mock.patch(f"supervisor.{name}", fake)
            patch.start()
            self.addCleanup(patch.stop)
        self.supervisor = Supervisor(SETTINGS, self.base, ())
        self.end_after_the_banner()

    def ask(self, base: str, replica: int, request: dict[str, Any]) -> dict[str, Any] | None:
        self.looks += 1
        return {"pid": self.answering[replica]} if replica in self.answering else None

    def gather(self, settings: Any, base: str) -> dict[str, Any]:
        pids = [(i, {"pid": self.answering[i]} if i in self.answering else {}) for i in range(3)]
        rows = [{"id": i, "role": "primary" if i == 0 else "backup", **pid} for i, pid in pids]
        return {"serving": bool(self.answering), "replicas": rows, "warnings": []}

    def start(self, command: list[str], *, start_new_session: bool) -> Child:
        replica = int(command[-1])
        self.children[replica] = child = Child(replica)
        self.answering.setdefault(replica, child.pid)
        return child

    def run_it(self) -> tuple[int, str]:
        """Its exit code and what it said."""
        with contextlib.redirect_stdout(io.StringIO()) as said:
            return self.supervisor.run(), said.getvalue()

    def lock(self) -> int:
        """Another supervisor's."""
        OsDisk().mkdir(os.path.join(self.base, "cluster"))
        fd = OsDisk().try_lock(os.path.join(self.base, "cluster", "supervisor-0.lock"), shared=False)
        assert fd is not None
        return fd

    def end_after_the_banner(self) -> None:
        """As Ctrl-C does."""

        def wait() -> int:
            self.supervisor.is_stopping = True
            return Supervisor._wait_for_end(self.supervisor)

        self.supervisor._wait_for_end = wait  # type: ignore[method-assign]

    def test_alone_it_says_who_leads_and_stops_all(self) -> None:
        code, said = self.run_it()
        self.assertEqual((code, self.stopped), (0, [[0, 1, 2]]))
        self.assertIn("is up. Policy survivor", said)
        OsDisk().unlock(self.lock())  # nobody holds it once they answer

    def test_who_is_second_starts_nothing(self) -> None:
        """At first nobody answers: the other one's processes read their disks."""
        self.addCleanup(OsDisk().unlock, self.lock())
        code, said = self.run_it()
        self.assertEqual((code, self.children, self.stopped), (2, {}, []))
        self.assertIn("somebody else starts cluster", said)
        self.assertIn("`python server.py stop` stops all", said)

    def test_who_is_second_hears_when_the_first_has_started_them(self) -> None:
        self.addCleanup(OsDisk().unlock, self.lock())
        answers = self.ask

        def ask(*asked: Any) -> dict[str, Any] | None:
            self.answering = dict.fromkeys(range(3), STRANGER) if self.looks >= 6 else {}
            return answers(*asked)

        with mock.patch.object(supervisor, "ask", ask), mock.patch.object(supervisor, "TURN_S", 60):
            code, said = self.run_it()
        self.assertEqual((code, self.children, self.stopped), (2, {}, []))
        self.assertIn("replica 0, 1, 2 runs already: ", said)

    def test_one_that_is_just_ending_is_waited_for(self) -> None:
        held = self.lock()

        def sleep(seconds: float) -> None:
            OsDisk().unlock(held)

        with mock.patch("supervisor.time.sleep", sleep), mock.patch.object(supervisor, "TURN_S", 60):
            self.assertEqual(self.run_it()[0], 0)

    def test_a_disk_without_room_for_the_lock_keeps_nobody_from_starting(self) -> None:
        with mock.patch.object(OsDisk, "try_lock", side_effect=OSError(28, "planted")):
            self.assertEqual(self.run_it()[0], 0)

    def test_what_others_have_started_is_not_said_to_be_its_own(self) -> None:
        """Somebody starts a replica by hand at the same moment: it answers, leads and serves, and the process that was to be it ends."""
        held: list[ReplicaLock] = []

        def start(command: list[str], *, start_new_session: bool) -> Child:
            self.answering[0] = STRANGER
            child = self.start(command, start_new_session=start_new_session)
            if command[-1] == "0":
                child.looks_left = 3
                held.extend(filter(None, [ReplicaLock.acquire(OsDisk(), os.path.join(self.base, "cluster"), 0)]))
            return child

        with mock.patch("supervisor.subprocess.Popen", start):
            code, said = self.run_it()
        held[0].release()
        self.assertEqual((code, self.stopped), (2, [[1, 2]]))
        self.assertEqual([child.was_told for child in self.children.values()], [True, False, False])
        self.assertNotIn("is up", said)
        self.assertIn("replica 0 is run by another process: `python server.py status`", said)

    def test_who_fails_by_itself_has_said_why(self) -> None:
        def start(command: list[str], *, start_new_session: bool) -> Child:
            child = self.start(command, start_new_session=start_new_session)
            del self.answering[int(command[-1])]
            child.looks_left = 2 if command[-1] == "1" else -1
            return child

        with mock.patch("supervisor.subprocess.Popen", start):
            code, said = self.run_it()
        self.assertEqual((code, self.stopped), (2, [[0, 1, 2]]))
        self.assertIn("replica 1 did not start: see the line above", said)


if __name__ == "__main__":
    unittest.main()
