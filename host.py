"""The host: clock, dice, sockets and other processes, as one object that the simulator replaces.

What it is not: it knows no rule of the protocol and no word of any door; `server.py` decides, this carries.

Read next: `server.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import secrets
import socket
import struct
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic, time_ns
from typing import Any, Protocol

from mypy_extensions import mypyc_attr

import collector
import credentials
from bootstrap import HOME
from courtesy import Courtesy
from desk import Desk
from disk import Disk, OsDisk
from doors.operator import Slip
from doorways import Doorways
from events import Event
from handshake import Identity, boot_id, load_secret, wire_version
from links import Links
from packets import AnyPacket, Packet
from passwords import Hasher
from settings import SURVIVOR, Settings

VERSION = "0.1.0"
CONSOLE_LINES_S = 100  # lines a second of guests' doings on the console; more help nobody
ADMIN_LINE_MAX = 4096  # bytes of an operator's request
HASHES_AT_ONCE = max(1, min(4, (os.cpu_count() or 2) // 2))  # threads of 19 MiB: more attack memory and loop
HASH_NICE = 10  # how far those threads stand back behind the loop
ACCOUNT_S = 8.0  # seconds a change of an account may take: a failover fits in
LOOK_S = 1.0  # seconds between two looks at stuck guests
ANSWER_S = 900.0  # seconds the snapshot worker may take for an order: one has all of the history read, and 50 GB are much
SO_PEERCRED = struct.Struct("3i")


class Timer(Protocol):
    """A callback to come."""

    def cancel(self) -> None: ...


class Hands(Protocol):
    """What the host asks of the server."""

    desk: Desk

    def on_linked(self, replica: int, inc: int) -> None: ...
    def on_unlinked(self, replica: int, reason: str) -> None: ...
    def on_packet(self, replica: int, packet: AnyPacket) -> None: ...
    def holds_lock(self, replica: int, inc: int) -> bool: ...
    def on_operator(self, request: dict[str, Any]) -> dict[str, Any]: ...


@mypyc_attr(allow_interpreted_subclasses=True)
class Host(ABC):
    """See `LoopHost` (production) and `tests/simulator/world.py`."""

    disk: Disk
    hasher: Hasher

    @abstractmethod
    def now(self) -> float:
        """Monotonic seconds."""

    @abstractmethod
    def wall(self) -> int:
        """Microseconds since 1970, for people and for the order of messages only."""

    @abstractmethod
    def give_way(self) -> None:
        """Let another process have this processor first, if one waits for it."""

    @abstractmethod
    def stand_back(self) -> None:
        """The same for a replica that nobody waits for: a piece of much work is done."""

    @abstractmethod
    def at(self, when: float, callback: Callable[[], None]) -> Timer: ...
    @abstractmethod
    def soon(self, callback: Callable[[], None]) -> None: ...
    @abstractmethod
    def random(self, size: int) -> bytes: ...
    @abstractmethod
    def settle(self, feed: Callable[[Event], None], answer: Event) -> None:
        """Report an order to the disk as done: here at once, in the simulator after a while."""

    @abstractmethod
    def send(self, replicas: tuple[int, ...], packet: Packet) -> None: ...
    @abstractmethod
    def log(self, text: str) -> None: ...
    @abstractmethod
    def open_doors(self) -> None: ...
    @abstractmethod
    def close_doors(self) -> None: ...
    @abstractmethod
    def work(self, after: float, job: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Do this aside, so many seconds from now, and tell the result here."""

    @abstractmethod
    def read(self, after: float, job: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """The same for what reads large files: no password waits for it, nor it for one."""

    @abstractmethod
    def undisturbed(self) -> contextlib.AbstractContextManager[None]:
        """While a whole state is made, which stays."""

    @abstractmethod
    def ready_worker(self) -> None:
        """A snapshot will be ordered soon."""

    @abstractmethod
    def order_snapshot(self, order: dict[str, Any], done: Callable[[dict[str, Any]], None]) -> None: ...
    @abstractmethod
    def exit(self, code: int) -> None: ...


class LoopHost(Host):
    """The production host: one asyncio loop."""

    def __init__(self, settings: Settings, replica: int, base: str) -> None:
        self.settings, self.replica, self.base = settings, replica, base
        self.loop = asyncio.get_running_loop()
        self.disk: Disk = OsDisk()
        self.hasher = Hasher()
        self.aside = ThreadPoolExecutor(HASHES_AT_ONCE, "aside", _stand_back)
        self.reader = ThreadPoolExecutor(1, "reader")
        self.hands: Hands
        self.links: Links | None = None
        self.finished: asyncio.Future[int] = self.loop.create_future()
        self.doorways = Doorways(
            settings, replica, desk=lambda: self.hands.desk, is_serving=self._is_serving, log=self.log, announce=self.console
        )
        self.worker: asyncio.subprocess.Process | None = None
        self.worker_starts = False
        self.admin: asyncio.Server | None = None
        self.logger = logging.getLogger("understudy")
        self.console_second, self.console_lines = 0, 0
        self.tasks: set[asyncio.Task[None]] = set()
        self.courtesy = Courtesy()

    # --- clock, dice, words -------------------------------------------------------------------------------------------------------------

    def random(self, size: int) -> bytes:
        return secrets.token_bytes(size)

    def now(self) -> float:
        return monotonic()  # what the loop's own clock shows, without its turn

    def wall(self) -> int:
        return time_ns() // 1000

    def give_way(self) -> None:
        self.courtesy.give_way()

    def stand_back(self) -> None:
        self.courtesy.stand_back()

    def at(self, when: float, callback: Callable[[], None]) -> Timer:
        return self.loop.call_at(when, callback)

    def soon(self, callback: Callable[[], None]) -> None:
        self.loop.call_soon(callback)

    def settle(self, feed: Callable[[Event], None], answer: Event) -> None:
        feed(answer)

    def log(self, text: str) -> None:
        self.logger.info(text)

    def console(self, line: str) -> None:
        """A guest's doing, for people who watch: never more than CONSOLE_LINES_S a second, control characters made visible."""
        second = int(self.now())
        if second != self.console_second:
            self.console_second, self.console_lines = second, 0
        self.console_lines += 1
        if self.console_lines <= CONSOLE_LINES_S:
            print("".join(c if c.isprintable() else repr(c)[1:-1] for c in line[:200]), flush=True)

    def exit(self, code: int) -> None:
        if not self.finished.done():
            self.finished.set_result(code)

    # --- links to the other replicas ------------------------------------------------------------------------------------------------------

    def send(self, replicas: tuple[int, ...], packet: Packet) -> None:
        if self.links is not None:
            self.links.send(replicas, packet)

    async def start_links(self, inc: int, directory: tuple[int, int]) -> None:
        """Listen for and dial the other replicas. Raises OSError when the port is taken."""
        settings, hands = self.settings, self.hands
        me = Identity(
            cluster=settings.name,
            replica=self.replica,
            inc=inc,
            config_hash=settings.config_hash(),
            policy=settings.policy,
            version=wire_version(VERSION),
            pid=os.getpid(),
            boot_id=boot_id(),
            directory=directory,
        )
        proof = None
        if settings.tls is not None and settings.policy != SURVIVOR:  # those of one host share a secret file
            proof = credentials.of_links(settings.tls, settings.name, self.replica)
        self.links = Links(
            me,
            settings.peers(),
            proof.common if proof is not None else load_secret(os.path.join(self.base, "cluster", "secret")),
            on_linked=hands.on_linked,
            on_unlinked=hands.on_unlinked,
            on_packet=hands.on_packet,
            holds_lock=hands.holds_lock,
            log=self.log,
            credentials=proof,
            sockets=self._sockets() if settings.policy == SURVIVOR else None,
        )
        await self.links.start()

    def _sockets(self) -> dict[int, str]:
        """Where replicas of one host reach each other."""
        place = os.path.dirname(short_path(os.path.join(self.base, "cluster", "replica-00.sock")))
        return {row.id: f"{place}/replica-{row.id}.sock" for row in self.settings.replicas}

    # --- doors ----------------------------------------------------------------------------------------------------------------------------

    def open_doors(self) -> None:
        if not self.doorways.is_open:
            self.doorways.is_open = True
            self._spawn(self.doorways.open())

    def close_doors(self) -> None:
        if self.doorways.is_open:
            self.doorways.close()
            self._spawn(self.doorways.close_grpc())

    def _is_serving(self) -> bool:
        """Whether what a guest asks of this replica is done: one that takes nothing new, or has no primary, does not serve."""
        report = self.hands.on_operator({"verb": "status"})
        is_in_view = report["status"] == "normal" and (report["serving"] or report["role"] == "backup")
        return bool(is_in_view and not self.hands.desk.reached[1])

    # --- what takes long ------------------------------------------------------------------------------------------------------------------

    def work(self, after: float, job: Callable[[], Any], done: Callable[[Any], None]) -> None:
        self._spawn(self._work(self.aside, after, job, done))

    def read(self, after: float, job: Callable[[], Any], done: Callable[[Any], None]) -> None:
        self._spawn(self._work(self.reader, after, job, done))

    async def _work(self, threads: ThreadPoolExecutor, after: float, job: Callable[[], Any], done: Callable[[Any], None]) -> None:
        await asyncio.sleep(after)
        done(await self.loop.run_in_executor(threads, job))

    def undisturbed(self) -> contextlib.AbstractContextManager[None]:
        return collector.spared()

    # --- the snapshot worker --------------------------------------------------------------------------------------------------------------

    def ready_worker(self) -> None:
        if not self.worker_starts and (self.worker is None or self.worker.returncode is not None):
            self.worker_starts = True
            self._spawn(self._have_worker())

    def order_snapshot(self, order: dict[str, Any], done: Callable[[dict[str, Any]], None]) -> None:
        self._spawn(self._ask_worker(order, done))

    async def _ask_worker(self, order: dict[str, Any], done: Callable[[dict[str, Any]], None]) -> None:
        try:
            for _ in range(2):  # one that was about to leave for want of work is replaced once
                while self.worker_starts:
                    await asyncio.sleep(0.01)
                if self.worker is None or self.worker.returncode is not None:
                    await self._start_worker()
                worker = self.worker
                assert worker is not None and worker.stdin is not None and worker.stdout is not None
                # RuntimeError is uvloop's word for a pipe that was found closed before it was heard that the worker has died.
                with contextlib.suppress(ConnectionError, RuntimeError):
                    worker.stdin.write(json.dumps(order).encode() + b"\n")
                    await worker.stdin.drain()
                try:
                    line = await asyncio.wait_for(worker.stdout.readline(), ANSWER_S)
                except TimeoutError:  # it stands still: the next order is for another one
                    worker.kill()
                    await worker.wait()
                    return done({"failed": f"the snapshot worker did not answer within {ANSWER_S:g} s"})
                if line.endswith(b"\n"):  # a part of an answer is what was left of one that was killed
                    return done(json.loads(line))
                await worker.wait()
            done({"failed": "the snapshot worker ended without an answer"})
        except OSError as error:
            done({"failed": str(error)})

    async def _have_worker(self) -> None:
        with contextlib.suppress(OSError):  # no memory, for one: the order that comes soon meets it, too, and says so
            await self._start_worker()

    async def _start_worker(self) -> None:
        try:
            self.worker = await asyncio.create_subprocess_exec(
                sys.executable,
                os.path.join(HOME, "snapshot_worker.py"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                close_fds=True,
            )
        finally:
            self.worker_starts = False

    # --- the operator's door --------------------------------------------------------------------------------------------------------------

    async def start_admin(self, path: str) -> None:
        """A UNIX socket for status, stop and accounts; only the same user gets in (SO_PEERCRED)."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        self.admin = await asyncio.start_unix_server(self._serve_operator, short_path(path), limit=ADMIN_LINE_MAX)
        os.chmod(path, 0o600)

    async def _serve_operator(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            credentials = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, SO_PEERCRED.size)
            if SO_PEERCRED.unpack(credentials)[1] != os.getuid():
                return
            asked = json.loads(await asyncio.wait_for(reader.readline(), 5))
            request = asked if isinstance(asked, dict) else {}
            is_slow = request.get("verb") == "account"
            answer = await self._change_account(request) if is_slow else json.dumps(self.hands.on_operator(request)).encode() + b"\n"
            writer.write(answer)
            await writer.drain()
        except (ValueError, RecursionError, OSError, TimeoutError) as error:
            self.log(f"operator's door: {error}")
        finally:
            writer.close()

    async def _change_account(self, request: dict[str, Any]) -> bytes:
        """The operator is a guest for one request."""
        slip = Slip(self.loop.create_future())
        if not self.doorways.is_open:
            return json.dumps({"error": "this replica is not in the view"}).encode() + b"\n"
        connection = self.hands.desk.welcome(slip, "operator")
        connection.feed(json.dumps(request).encode())
        try:
            return await asyncio.wait_for(slip.answer, ACCOUNT_S)
        finally:
            connection.lost()

    # --- the end --------------------------------------------------------------------------------------------------------------------------

    def _spawn(self, work: Any) -> None:
        task = self.loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def stop(self) -> None:
        """Close everything that is open."""
        self.close_doors()
        await self.doorways.close_grpc()
        self.doorways.send_away()
        for threads in (self.aside, self.reader):
            threads.shutdown(wait=False, cancel_futures=True)
        if self.links is not None:
            await self.links.stop()
        if self.worker is not None and self.worker.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.worker.kill()  # one that stands still hears nothing else, and none has anything to tidy up (`leash.py`)
                await self.worker.wait()


def _stand_back() -> None:
    """A thread that hashes must not take the processor from the loop."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), HASH_NICE)


def short_path(path: str) -> str:
    """A name of this socket that fits the 108 bytes of a UNIX address, whatever the directory is called."""
    if len(os.fsencode(path)) < 100:
        return path
    directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    return f"/proc/self/fd/{directory}/{os.path.basename(path)}"
