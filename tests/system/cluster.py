"""A scratch cluster of real server processes on free ports, to be killed, stopped, paused and asked.

What it is not: it talks to no door (`talk.py` does) and knows nothing that an operator could not see: exit codes, status, files.

    Cluster ── start, kill, pause, resume ──▶ processes   server.py --replica N --config … --data …
            ── status ─────────────────────▶ admin.sock   as `server.py status` asks it
            ── differences ─────────────────▶ data/replica-N/csv

Nothing here sleeps for a fixed time: `until` looks again and again until a deadline, which is ten times what is promised.

Read next: `talk.py`, `test_failover.py`.
"""

from __future__ import annotations

import contextlib
import csv
import glob
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Self

from disk import OsDisk
from doors import DOORS
from operators import ask
from register import Register
from snapshots import MANIFEST

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LOOK_S = 0.005  # seconds between two looks
SERVES_S = 20.0  # seconds in which a view change that is designed for 1.5 must have happened, on a busy machine
ASK_S = 0.5  # seconds a replica may take to answer an operator; one that is paused never does
# What no replica may ever have to say where nobody touched a file: it ends with 3 after that, as for a known trouble, and begins anew.
ALARMS = ("COMMITTED DATA", "my state differs from", "broke a promise to itself", "SHA-256 is not right")
BUG = "Traceback (most recent call last)"  # nor this: an error that nobody expected, of which a replica need not die
PORTS_FROM = 10_000  # below the ports that the kernel gives to outgoing connections: a dead replica's port must stay free


class TooLate(AssertionError):
    """What was waited for did not happen; the text holds what the replicas say."""


class Proof(NamedTuple):
    """What people need at the doors of a cluster."""

    tls: ssl.SSLContext | None = None
    password: str = ""  # as it follows a name in a line


PLAINTEXT = Proof()


def until(what: str, condition: Callable[[], Any], seconds: float = SERVES_S, about: Callable[[], str] = str) -> Any:
    """Wait until the condition holds and return what it returned. Raises TooLate, with what `about` tells."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise TooLate(f"not within {seconds:.0f} s: {what}\n{about()}")
        time.sleep(LOOK_S)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, on either loopback address, and that no outgoing connection will take."""
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as file:
        end = max(int(file.read().split()[0]), PORTS_FROM + 1000)
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(PORTS_FROM, end)
        if port not in found and is_free(port):
            found.append(port)
    return found


def is_free(port: int) -> bool:
    """Whether a replica could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class Cluster:
    """Three replicas (or another number) in a directory of their own. As a context it ends and removes everything."""

    is_apart = False  # each replica has a host of its own
    proof = PLAINTEXT

    def __init__(
        self, *, replicas: int = 3, where: str | None = None, keep: bool = False, accounts: str = "{}", grpc: bool = False, **knobs: object
    ) -> None:
        self.where = where or tempfile.mkdtemp(prefix="understudy-")
        self.base, self.config = os.path.join(self.where, "data"), os.path.join(self.where, "cluster.yaml")
        self.keep = keep
        self.ids = tuple(range(replicas))
        doors = [door for door in DOORS if door != "grpc" or grpc]  # that one costs memory and time at the start
        ports = free_ports((len(doors) + 1) * replicas)
        *of_doors, self.peers = [ports[at : at + replicas] for at in range(0, len(ports), replicas)]
        self.doors = dict(zip(doors, of_doors, strict=True))  # port of each replica, by door
        self.pipes = self.doors["pipe"]
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self.paused: set[int] = set()
        self._write_config(knobs, accounts)

    def _write_config(self, knobs: dict[str, object], accounts: str) -> None:
        lines = [
            "cluster:",
            "  name: scratch",
            *(f"  {key}: {value}" for key, value in knobs.items()),
            f"accounts: {accounts}",
            "replicas:",
        ]
        for i in self.ids:
            doors = ", ".join(f"{door}: {ports[i]}" for door, ports in self.doors.items())
            lines.append(f'  - {{id: {i}, peer: "127.0.0.1:{self.peers[i]}", doors: {{{doors}}}}}')
        with open(self.config, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Kill what runs and remove the directory, unless somebody wants to look at it."""
        self.kill(*self.running())
        if not self.keep:
            shutil.rmtree(self.where, ignore_errors=True)

    def rotated(self, door: str, by: int) -> list[Any]:
        """Where this door is, beginning at another replica."""
        return rotated(self.doors[door], by)

    # --- processes ------------------------------------------------------------------------------------------------------------------------

    def command(self, *arguments: str) -> list[str]:
        """A command line of `server.py` for this cluster."""
        return [sys.executable, os.path.join(ROOT, "server.py"), *arguments, "--config", self.config, "--data", self.base]

    def run(self, *arguments: str, seconds: float = 30.0) -> subprocess.CompletedProcess[str]:
        """An operator's command, to its end."""
        return subprocess.run(self.command(*arguments), cwd=self.where, capture_output=True, text=True, timeout=seconds, check=False)

    def start(self, *replicas: int) -> None:
        """Start these replicas (without any: all). What they print goes to `out-N.log`."""
        for i in replicas or self.ids:
            with open(self.output(i), "ab") as output:
                self.processes[i] = subprocess.Popen(
                    self.command("--replica", str(i)), cwd=self.where, stdin=subprocess.DEVNULL, stdout=output, stderr=output
                )

    def kill(self, *replicas: int) -> None:
        """`kill -9`, and wait until the kernel has let go of them."""
        for i in replicas:
            self.processes[i].kill()
        for i in replicas:
            self.processes[i].wait()
        self.paused.difference_update(replicas)

    def kill_all(self) -> None:
        """All in one moment: they are stopped first, so that none sees another die and votes it out."""
        for i in self.running():
            self.processes[i].send_signal(signal.SIGSTOP)
        self.kill(*self.running())

    def pause(self, replica: int) -> None:
        """SIGSTOP: it lives, holds its sockets and does nothing."""
        self.processes[replica].send_signal(signal.SIGSTOP)
        self.paused.add(replica)

    def resume(self, replica: int) -> None:
        """SIGCONT."""
        self.processes[replica].send_signal(signal.SIGCONT)
        self.paused.discard(replica)

    def running(self) -> list[int]:
        """Replicas whose process has not ended."""
        return [i for i, process in self.processes.items() if process.poll() is None]

    def wait_ended(self, replica: int, seconds: float = SERVES_S) -> int:
        """The exit code of a replica that is ending by itself."""
        until(f"replica {replica} ends", lambda: self.processes[replica].poll() is not None, seconds, self.tell)
        return self.processes[replica].returncode

    # --- what they say --------------------------------------------------------------------------------------------------------------------

    def output(self, replica: int) -> str:
        """Where its standard output goes."""
        return os.path.join(self.where, f"out-{replica}.log")

    def log(self, replica: int) -> str:
        """Its log file, all of it."""
        try:
            with open(os.path.join(self.base, f"replica-{replica}", "log", "replica.log"), encoding="utf-8") as file:
                return file.read()
        except OSError:
            return ""

    def alarms(self) -> list[str]:
        """Lines of all logs that tell of a contradiction; and where a replica printed an error of Python's, which its log is part of."""
        found = []
        for i in self.ids:
            with contextlib.suppress(FileNotFoundError), open(self.output(i), encoding="utf-8", errors="replace") as file:
                lines = file.read().splitlines()
                found += [f"replica {i}: {' | '.join(lines[max(at - 1, 0) : at + 20])}" for at, line in enumerate(lines) if BUG in line]
            for name in sorted(glob.glob(os.path.join(glob.escape(self.base), f"replica-{i}", "log", "replica.log*"))):
                with open(name, encoding="utf-8") as file:
                    found += [f"replica {i}: {line.strip()}" for line in file if any(word in line for word in ALARMS)]
        return found

    def status(self, replica: int) -> dict[str, Any] | None:
        """What it says of itself; None: it does not run or does not answer."""
        if replica in self.paused or replica not in self.running():
            return None
        return ask(self.base, replica, {"verb": "status"}, ASK_S)

    def statuses(self) -> dict[int, dict[str, Any]]:
        """Of all that answer."""
        return {i: status for i in self.ids if (status := self.status(i))}

    def primary(self, *, but: Iterable[int] = ()) -> int | None:
        """The replica that serves; not one of `but`."""
        return next((i for i, s in self.statuses().items() if s["serving"] and i not in but), None)

    def tell(self) -> str:
        """All replicas' words, for a test that failed."""
        words = [f"data in {self.where}"]
        for i in self.ids:
            words.append(f"replica {i}: {self.status(i) or 'does not answer'}")
            words += self.log(i).splitlines()[-25:]
            with open(self.output(i), encoding="utf-8", errors="replace") if os.path.exists(self.output(i)) else open(os.devnull) as file:
                words += [f"out-{i}: {line.rstrip()}" for line in file.readlines()[-5:]]
        return "\n".join(words)

    # --- waits ----------------------------------------------------------------------------------------------------------------------------

    def wait(self, what: str, condition: Callable[[], Any], seconds: float = SERVES_S) -> Any:
        """`until`, with all replicas' words in the complaint."""
        return until(what, condition, seconds, self.tell)

    def wait_serving(self, seconds: float = SERVES_S, *, but: Iterable[int] = ()) -> int:
        """The primary, once it serves; one that is not among `but`."""
        return int(self.wait("a primary serves", lambda: None if (p := self.primary(but=but)) is None else str(p), seconds))

    def wait_members(self, *replicas: int, seconds: float = SERVES_S) -> int:
        """Wait until the view consists of these replicas (without any: all), each says so, and its primary serves; returns the primary."""
        wanted = sorted(replicas or self.ids)

        def settled() -> str | None:
            return None if (primary := settled_primary(self.statuses(), wanted)) is None else str(primary)

        return int(self.wait(f"the view is {wanted}", settled, seconds))

    def wait_level(self, *replicas: int, seconds: float = SERVES_S) -> int:
        """Wait until these replicas (without any: all) have applied the same op and have it as CSV; returns the op."""

        def level() -> int | None:
            ops = {self.csv_op(i) for i in replicas or self.ids}
            rows = self.statuses()
            ops |= {rows[i]["applied"] if i in rows else -1 for i in replicas or self.ids}
            return ops.pop() if len(ops) == 1 else None

        return int(self.wait("all replicas' CSV stand at the same op", level, seconds))

    # --- files ----------------------------------------------------------------------------------------------------------------------------

    def csv(self, replica: int) -> str:
        """The link to its newest snapshot."""
        return os.path.join(self.base, f"replica-{replica}", "csv")

    def csv_op(self, replica: int) -> int:
        """The op of its newest snapshot; 0: none yet."""
        try:
            return int(os.path.basename(os.readlink(self.csv(replica))))
        except (OSError, ValueError):
            return 0

    def history(self, replica: int) -> list[tuple[str, str, str]]:
        """Sender, recipient and text of every message in its CSV files, in the order of their ids."""
        path = self.csv(replica)
        rows: list[dict[str, str]] = []
        for name in sorted(os.listdir(path)):
            if name.startswith("messages-"):
                with open(os.path.join(path, name), encoding="utf-8", newline="") as file:
                    rows += csv.DictReader(file)
        ids = [int(row["id"]) for row in rows]
        assert ids == list(range(1, len(ids) + 1)), f"message ids of replica {replica} are not 1 … {len(ids)}"
        return [(row["sender"], row["recipient"], row["text"]) for row in rows]

    def table(self, replica: int, name: str) -> list[dict[str, str]]:
        """The rows of one of its tables, as its newest snapshot has them."""
        with open(os.path.join(self.csv(replica), f"{name}.csv"), encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    def differences(self, *replicas: int) -> list[str]:
        """Where the CSV folders of these replicas (without any: all) at the same op are not byte for byte the same."""
        folders = {i: read_folder(self.csv(i)) for i in replicas or self.ids}
        first, *others = folders
        found = []
        for i in others:
            for name in sorted(folders[first].keys() | folders[i].keys()):
                if folders[first].get(name) != folders[i].get(name):
                    found.append(f"{name} of replica {i} differs from that of replica {first}")
        return found

    def last_members(self) -> tuple[int, ...]:
        """Who stands in the register's last view: after the death of all, each of these may begin alone."""
        register = Register(OsDisk(), os.path.join(self.base, "cluster"), "scratch")
        try:
            view = register.last()
        finally:
            register.close()
        return view.replicas if view else ()

    def empty(self, replica: int) -> None:
        """What is in its data directory is lost; the directory itself may be a disk of its own."""
        for entry in os.scandir(os.path.join(self.base, f"replica-{replica}")):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)


def rotated(places: Sequence[Any], by: int) -> list[Any]:
    """The same, beginning elsewhere."""
    by %= len(places)
    return [*places[by:], *places[:by]]


def settled_primary(rows: dict[int, dict[str, Any]], wanted: list[int]) -> int | None:
    """Who serves a view of just these replicas, in which each of them works; None: there is no such view yet."""
    served = [i for i, s in rows.items() if s["serving"]]
    if len(served) != 1 or sorted(rows[served[0]]["members"]) != wanted:
        return None  # its word counts: under majority backups do not hear each other
    view = rows[served[0]]["view"]
    same = [i for i, s in rows.items() if s["role"] != "learner" and s["status"] == "normal" and s["view"] == view]
    return served[0] if sorted(same) == wanted else None


def read_folder(path: str) -> dict[str, bytes]:
    """Every file of a snapshot folder, byte for byte."""
    real = os.path.realpath(path)
    assert os.path.exists(os.path.join(real, MANIFEST)), f"{path} leads to no complete snapshot"
    found = {}
    for name in os.listdir(real):
        with open(os.path.join(real, name), "rb") as file:
            found[name] = file.read()
    return found


def rss_of(pid: int) -> int:
    """Bytes of memory that a process holds."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmRSS"))
