"""The systems that are measured: how each is started, with which settings, and how it is told apart from a broken one.

What it is not: it measures nothing (`load.py` does) and compares nothing (`scripts/bench.py`).

    system        what is acknowledged                                            door
    Understudy    synced on all three replicas                                    any of its doors, at the primary or a backup
    bare          synced on all three processes, and nothing else                 lines
    echo          answered, and nothing else                                      gRPC
    redis         synced at the primary (appendfsync always); two replicas have it (WAIT 2 0), each with appendfsync always
                  `onewait`: the same, but that many that are sent together share one WAIT
    etcd          synced on a majority of three members
    nats          held by a majority of three servers; not synced (its default)

Everything lies in one scratch directory on one disk and listens on free ports of loopback only. What starts here ends here. All are there
during the whole run; who is not measured is idle. Understudy's replicas reach each other by UNIX sockets, all others by loopback TCP.

Read next: `scripts/bench.py`.
"""

from __future__ import annotations

import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import time
import timeit
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

import msgspec

from tests.bench.load import Order, Result
from tests.system.cluster import ROOT, Cluster, TooLate, free_ports, rotated, until

START_S = 30.0  # seconds in which a system must be up on a busy machine
UP_S = 90.0  # the same for three Pythons that import everything at once
LOAD_S = 60.0  # seconds a load may take besides its own warm-up and time
PATHS = ("/usr/sbin", "/usr/local/sbin")  # where Debian puts some servers


class Broken(Exception):
    """A system did not start or did not answer; there is no figure."""


def run_load(order: Order, seconds: float = LOAD_S) -> Result:
    """One order at a load generator of its own; `seconds`: besides its warm-up and time."""
    command = [sys.executable, "-m", "tests.bench.load", msgspec.json.encode(order).decode()]
    limit = order.warm + order.seconds + seconds
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        raise Broken(f"the load generator did not end within {limit:.0f} s") from None
    if done.returncode:
        raise Broken(f"the load generator ended with {done.returncode}: {done.stderr[-1000:]}")
    result = msgspec.json.decode(done.stdout, type=Result)
    if result.trouble:
        raise Broken(f"{order.dialect} at port {order.port}: {result.trouble}")
    return result


def end_well() -> None:
    """Whoever is told to end, by whichever signal, stops what it has started and removes its directory."""
    told = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def end(number: int, _: object) -> None:
        for each in told:
            signal.signal(each, signal.SIG_IGN)  # once is enough: a second one would stop the stopping
        sys.exit(128 + number)

    for each in told:
        signal.signal(each, end)


def machine_words() -> str:
    """Where this is measured, and what else was going on."""
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
        model = next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), platform.machine())
    busy = os.getloadavg()[0]
    return f"{os.cpu_count()} × {model}, {platform.system()} {platform.release()}; {busy:.1f} processes wanted to run in the minute before"


class System:
    """One system under test."""

    name = ""
    dialects: tuple[str, ...] = ()  # by which it can be spoken to
    programs: tuple[str, ...] = ()  # that must be installed

    def __init__(self, where: str) -> None:
        self.where = os.path.join(where, self.name)
        os.makedirs(self.where, exist_ok=True)
        self.processes: list[subprocess.Popen[bytes]] = []

    @classmethod
    def is_installed(cls) -> bool:
        """Whether its programs are there."""
        return all(find_program(program) for program in cls.programs)

    def start(self) -> None:
        """Up and ready when this returns. Raises Broken."""
        raise NotImplementedError

    def port(self, *, backup: bool = False, dialect: str = "") -> int:
        """Where the load goes."""
        raise NotImplementedError

    def pids(self) -> list[int]:
        """Its processes, the one that is talked to first."""
        return [process.pid for process in self.processes]

    def settings(self) -> str:
        """Version and settings, for people who want to do better."""
        raise NotImplementedError

    def takes(self, dialect: str, workload: str) -> bool:
        """Whether this workload is another by this dialect than by the first."""
        return True

    def rest(self) -> None:
        """After a measurement: back to a state in which nothing goes on."""

    def check(self) -> None:
        """After a measurement: it was one of the whole system. Raises Broken."""
        if gone := [process.pid for process in self.processes if process.poll() is not None]:
            raise Broken(f"{self.name}: {len(gone)} of {len(self.processes)} processes have ended\n{self.words()}")

    def end(self) -> None:
        """Stop what was started."""
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()

    def spawn(self, *command: str) -> None:
        """Start one of its processes."""
        with open(os.path.join(self.where, "output.log"), "ab") as output:
            program = find_program(command[0]) or command[0]
            self.processes.append(
                subprocess.Popen([program, *command[1:]], cwd=self.where, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
            )

    def wait(self, what: str, condition: Callable[[], Any]) -> Any:
        """Until it holds, or Broken with what the system printed."""
        try:
            return until(f"{self.name}: {what}", condition, START_S, self.words)
        except AssertionError as error:
            raise Broken(str(error)) from None

    def words(self) -> str:
        """The end of what it printed."""
        with open(os.path.join(self.where, "output.log"), encoding="utf-8", errors="replace") as file:
            return file.read()[-2000:]

    def wait_port(self, port: int) -> None:
        """Until somebody listens there."""

        def listens() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        self.wait(f"port {port} is open", listens)


def find_program(name: str) -> str | None:
    """Its path."""
    return shutil.which(name) or shutil.which(name, path=":".join(PATHS))


def first_line(*command: str) -> str:
    """What a program says of its version."""
    done = subprocess.run([find_program(command[0]) or command[0], *command[1:]], capture_output=True, text=True, timeout=10, check=False)
    return (done.stdout + done.stderr).strip().splitlines()[0]


def python_words() -> str:
    """Which Python, and how fast: the same version may be built with profile-guided optimisation or without."""
    seconds = min(timeit.repeat("'3|u0001|m'.split('|', 2)", number=100_000, repeat=5))
    return f"CPython {platform.python_version()}, which splits a line in {seconds * 10:.2f} µs"


class Understudy(System):
    """The product: three replicas, everything switched on."""

    name = "understudy"
    dialects = ("numbered", "pipe", "framed", "room", "ledger", "grpc")

    def __init__(self, where: str, *, replicas: int = 3, grpc: bool = True, policy: str = "survivor") -> None:
        super().__init__(where)
        self.cluster = Cluster(replicas=replicas, where=self.where, grpc=grpc, policy=policy)

    def start(self) -> None:
        self.cluster.start()
        try:
            self.primary = self.cluster.wait_members(seconds=UP_S)
        except TooLate as error:
            raise Broken(str(error)) from None
        run_load(Order("pipe", self.port(), "accounts"))
        self.view = self._view()

    def _view(self) -> Any:
        return (self.cluster.status(self.primary) or {}).get("view")

    def port(self, *, backup: bool = False, dialect: str = "") -> int:
        replica = (self.primary + 1) % len(self.cluster.ids) if backup else self.primary
        return self.cluster.doors[dialect if dialect in self.cluster.doors else "pipe"][replica]

    def pids(self) -> list[int]:
        ids = sorted(self.cluster.ids, key=lambda i: i != self.primary)
        return [self.cluster.processes[i].pid for i in ids]

    def settings(self) -> str:
        forms = {status["form"] for status in self.cluster.statuses().values()}
        return f"three replicas, policy survivor, all settings at their defaults; they run {' and '.join(sorted(forms))}; {python_words()}"

    def rest(self) -> None:
        """Empty mailboxes, and the snapshot that follows every silence is made: it would run beside another's measurement."""
        self._check_processes()
        try:
            run_load(Order("pipe", self.port(), "drain"))
            self.cluster.wait_level(seconds=60)
            primary = self.cluster.wait_members()
        except TooLate as error:
            raise Broken(str(error)) from None
        if primary != self.primary:
            raise Broken(f"the primary changed during the measurement\n{self.cluster.tell()}")

    def _check_processes(self) -> None:
        if gone := sorted({*self.cluster.ids} - {*self.cluster.running()}):
            raise Broken(f"replica {', '.join(map(str, gone))} has ended\n{self.cluster.tell()}")

    def check(self) -> None:
        self._check_processes()
        try:
            self.primary, before = self.cluster.wait_members(), self.view
        except TooLate as error:
            raise Broken(str(error)) from None
        self.view = self._view()
        if self.view != before:
            raise Broken(f"view {before} became {self.view} meanwhile: it was not a measurement of three members\n{self.cluster.tell()}")

    def end(self) -> None:
        self.cluster.end()


class Bare(System):
    """`scripts/reference/bare_pipeline.py`."""

    name = "bare"
    dialects = ("bare",)

    def start(self) -> None:
        script = os.path.join(ROOT, "scripts", "reference", "bare_pipeline.py")
        self.ports = free_ports(3)
        for port in self.ports[1:]:
            self.spawn(sys.executable, script, "backup", self.where, str(port))
        for port in self.ports[1:]:
            self.wait_port(port)
        self.spawn(sys.executable, script, "primary", self.where, *map(str, self.ports))
        self.wait_port(self.ports[0])
        self.processes.reverse()

    def port(self, *, backup: bool = False, dialect: str = "") -> int:
        return self.ports[0]

    def settings(self) -> str:
        return "one primary, two backups, fdatasync on all three before each answer"


class Echo(System):
    """`scripts/reference/grpc_echo.py`."""

    name = "echo"
    dialects = ("grpc",)

    def start(self) -> None:
        (self.at,) = free_ports(1)
        self.spawn(sys.executable, os.path.join(ROOT, "scripts", "reference", "grpc_echo.py"), str(self.at))
        self.wait_port(self.at)

    def port(self, *, backup: bool = False, dialect: str = "") -> int:
        return self.at

    def settings(self) -> str:
        return f"grpc.aio {version('grpcio')}, one process, uvloop"


class Redis(System):
    """redis-server, one primary and two replicas."""

    name = "redis"
    dialects = ("redis", "onewait")
    programs = ("redis-server",)
    options = (
        *("--appendonly", "yes", "--appendfsync", "always", "--save", "", "--auto-aof-rewrite-percentage", "0"),
        *("--repl-diskless-sync-delay", "0"),  # how soon its replicas are there
    )

    def start(self) -> None:
        self.ports = free_ports(3)
        for place, port in enumerate(self.ports):
            path = os.path.join(self.where, str(place))
            os.makedirs(path)
            follows = ("--replicaof", "127.0.0.1", str(self.ports[0])) if place else ()
            self.spawn("redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", path, *self.options, *follows)
            self.wait_port(port)
        self.wait("two replicas are in step", lambda: self.ask(b"INFO replication\r\n").count(b"state=online") == 2)

    def takes(self, dialect: str, workload: str) -> bool:
        return dialect == "redis" or workload == "W3"  # with one outstanding there is one WAIT in any case

    def ask(self, words: bytes) -> bytes:
        """One command at the primary."""
        with socket.create_connection(("127.0.0.1", self.ports[0]), 5) as connection:
            connection.sendall(words)
            return connection.recv(65536)

    def port(self, *, backup: bool = False, dialect: str = "") -> int:
        return self.ports[0]

    def settings(self) -> str:
        waits = "each RPUSH followed by WAIT 2 0; onewait: one WAIT 2 0 behind all that are sent together"
        options = " ".join(w or repr(w) for w in self.options)
        return f"{first_line('redis-server', '--version')}; one primary, two replicas, each with {options}; {waits}"


class Etcd(System):
    """etcd, three members."""

    name = "etcd"
    dialects = ("etcd",)
    programs = ("etcd", "etcdctl")

    def start(self) -> None:
        ports = free_ports(6)
        self.guests, peers = ports[:3], ports[3:]
        everybody = ",".join(f"m{i}=http://127.0.0.1:{port}" for i, port in enumerate(peers))
        for i in range(3):
            guests, peer = f"http://127.0.0.1:{self.guests[i]}", f"http://127.0.0.1:{peers[i]}"
            self.spawn(
                *("etcd", "--name", f"m{i}", "--data-dir", os.path.join(self.where, f"m{i}"), "--log-level", "error"),
                *("--listen-client-urls", guests, "--advertise-client-urls", guests),
                *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", everybody),
            )
        self.leads = self.wait("a member leads", self._find)

    def pids(self) -> list[int]:
        return rotated(super().pids(), self.guests.index(self.leads))

    def _find(self) -> int | None:
        command = ["etcdctl", "--endpoints", ",".join(f"127.0.0.1:{p}" for p in self.guests), "endpoint", "status", "-w", "json"]
        env = {**os.environ, "ETCDCTL_API": "3"}
        done = subprocess.run(command, capture_output=True, timeout=10, check=False, env=env)
        rows = msgspec.json.decode(done.stdout) if done.stdout.startswith(b"[") else []
        if len(rows) < 3:
            return None
        for row in rows:
            status = row["Status"]
            if status.get("leader") == status["header"]["member_id"]:
                return int(row["Endpoint"].rpartition(":")[2])
        return None

    def port(self, *, backup: bool = False, dialect: str = "") -> int:
        return int(self.leads)

    def settings(self) -> str:
        words = "three members, all settings at their defaults but --log-level error; clients at the member that leads"
        return f"{first_line('etcd', '--version')}; {words}"


class Nats(System):
    """nats-server, three servers, a stream of three replicas in files."""

    name = "nats"
    dialects = ("nats",)
    programs = ("nats-server",)

    def start(self) -> None:
        ports = free_ports(6)
        self.ports, routes = ports[:3], ports[3:]
        everybody = ", ".join(f'"nats://127.0.0.1:{port}"' for port in routes)
        for i in range(3):
            path = os.path.join(self.where, f"{i}.conf")
            with open(path, "w", encoding="ascii") as file:
                file.write(
                    f'server_name: s{i}\nlisten: "127.0.0.1:{self.ports[i]}"\n'
                    f'jetstream {{ store_dir: "{self.where}/s{i}" }}\n'
                    f'cluster {{ name: bench, listen: "127.0.0.1:{routes[i]}", routes: [{everybody}] }}\n'
                )
            self.spawn("nats-server", "-c", path)
        for port in self.ports:
            self.wait_port(port)
        self.leads = self.wait("the stream is made", self._make)

    def _make(self) -> int | None:
        try:
            leads = run_load(Order("nats", self.ports[0], "stream")).leads
        except Broken:
            time.sleep(0.2)  # its servers elect who leads, and refuse until they have
            return None
        return self.ports[int(leads.removeprefix("s"))]

    def pids(self) -> list[int]:
        return rotated(super().pids(), self.ports.index(self.leads))

    def port(self, *, backup: bool = False, dialect: str = "") -> int:
        return int(self.leads)

    def settings(self) -> str:
        words = "stream of 3 replicas in files, not synced before it acknowledges; all settings at their defaults"
        return f"{first_line('nats-server', '--version')}; {words}; clients at the server that leads the stream"


PEERS: Sequence[type[System]] = (Redis, Etcd, Nats)
