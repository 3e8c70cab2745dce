"""The host: every order to its snapshot worker is answered, on asyncio's loop and on uvloop's; whom a replica gives way to."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import tempfile
import unittest
from typing import Any
from unittest import mock

from doors import DOORS
from host import LoopHost
from settings import load

try:
    import uvloop
except ImportError:
    uvloop = None  # type: ignore[assignment]

CONFIG = """cluster:
  name: scratch
replicas:
  - {id: 0, peer: "127.0.0.1:7661", doors: {pipe: 7662}}
"""
# In place of the worker, which takes half a second to come: it says who it is, or dies in the middle of a word.
WORKER = """import json, os, sys
for line in sys.stdin:
    order = json.loads(line)
    os.write(1, b'{"ma' if order["dies"] else json.dumps({"made": order["number"], "pid": os.getpid()}).encode() + b"\\n")
    if order["dies"]:
        os._exit(1)
"""


class Orders(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        for name, words in (("cluster.yaml", CONFIG), ("snapshot_worker.py", WORKER)):
            with open(os.path.join(directory.name, name), "w", encoding="utf-8") as file:
                file.write(words)
        home = mock.patch("host.HOME", directory.name)
        home.start()
        self.addCleanup(home.stop)
        self.host = LoopHost(load(os.path.join(directory.name, "cluster.yaml"), DOORS), 0, directory.name)
        self.addAsyncCleanup(self.host.stop)

    async def order(self, number: int, *, dies: bool = False) -> dict[str, Any]:
        answered: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.host.order_snapshot({"number": number, "dies": dies}, answered.set_result)
        return await asyncio.wait_for(answered, 30)

    async def test_a_pipe_that_closed_before_the_worker_was_known_to_be_dead(self) -> None:
        """uvloop refuses to write into it with an error of its own; the order goes to another worker."""
        first = await self.order(1)
        assert self.host.worker is not None and self.host.worker.stdin is not None
        self.assertEqual((first["made"], first["pid"]), (1, self.host.worker.pid))
        self.host.worker.stdin.transport.abort()
        self.assertIsNone(self.host.worker.returncode)
        second = await self.order(2)
        self.assertEqual(second["made"], 2)
        self.assertNotEqual(second["pid"], first["pid"])

    async def test_a_machine_that_has_no_room_for_a_worker(self) -> None:
        """The order is answered with a sentence, and nothing else is said."""
        with mock.patch("asyncio.create_subprocess_exec", side_effect=OSError(errno.ENOMEM, "no room")):
            self.host.ready_worker()
            (ready,) = self.host.tasks
            await asyncio.wait([ready])
            self.assertIsNone(ready.exception())
            self.assertEqual(await self.order(1), {"failed": "[Errno 12] no room"})
        self.assertEqual((await self.order(2))["made"], 2)

    async def test_a_worker_that_dies_in_the_middle_of_its_answer(self) -> None:
        self.assertEqual(await self.order(1, dies=True), {"failed": "the snapshot worker ended without an answer"})
        self.assertEqual((await self.order(2))["made"], 2)

    async def stop_worker(self) -> int:
        """One that has had an order stands still; which process."""
        pid: int = (await self.order(1))["pid"]
        os.kill(pid, signal.SIGSTOP)
        os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)
        return pid

    async def test_a_worker_that_stands_still_is_replaced(self) -> None:
        pid = await self.stop_worker()
        with mock.patch("host.ANSWER_S", 0.1):
            self.assertEqual(await self.order(2), {"failed": "the snapshot worker did not answer within 0.1 s"})
        third = await self.order(3)
        self.assertEqual(third["made"], 3)
        self.assertNotEqual(third["pid"], pid)

    async def test_a_worker_that_stands_still_keeps_nobody_from_ending(self) -> None:
        pid = await self.stop_worker()
        try:
            await asyncio.wait_for(self.host.stop(), 30)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@unittest.skipIf(uvloop is None, "uvloop is not here")
class OrdersOnUvloop(Orders):
    """The same once more."""

    def _setupAsyncioRunner(self) -> None:  # loop_factory came with 3.13
        self._asyncioRunner = asyncio.Runner(debug=True, loop_factory=uvloop.new_event_loop)

    async def test_that_it_is_uvloop(self) -> None:
        self.assertIsInstance(asyncio.get_running_loop(), uvloop.Loop)


if __name__ == "__main__":
    unittest.main()
