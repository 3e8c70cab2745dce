"""The supervisor: starts the replicas of this host, each in a process of its own, says who leads, and stays until they have ended.

What it is not: it restarts nobody: a dead replica is for people to see; and it serves nobody (`server.py --replica N`).

    at its start                                        then
    a replica of this host answers                      it is told who, exit code 2
    another supervisor starts them at this moment       the same, as soon as one answers; or that it is so, after some seconds
    none of that                                        all are started; when its own serve, it says so

Invariants:
- It says that the cluster is up only of processes that it has started; until then it stops no other ones either.

Read next: `operators.py`, `admin.py`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

from bootstrap import HOME
from disk import OsDisk
from host import VERSION
from operators import STOP_S, ask, gather_status, here, holder_of, show_status, stop_replicas, survives
from settings import MAJORITY, SURVIVOR, Address, Settings

START_S = 30.0  # seconds until the supervisor says that no primary was found
TURN_S = 5.0  # seconds it waits for another one that is starting them, or just ending
TURN_LOOK_S = 0.05  # seconds between two looks
SURVIVAL = {
    SURVIVOR: "The last living replica serves alone; all of them share this machine, and nothing survives its loss.",
    MAJORITY: "Most of the replicas must live and reach each other; a part that is cut off serves nothing until it is whole again.",
}
HELP = "`python server.py status` shows it, `python server.py stop` stops all"


class Supervisor:
    """See the module's page."""

    def __init__(self, settings: Settings, base: str, arguments: Iterable[str]) -> None:
        self.settings, self.base, self.mine = settings, base, here(settings)
        self.command = [sys.executable, os.path.join(HOME, "server.py"), *arguments]
        self.children: dict[int, subprocess.Popen[bytes]] = {}
        self.is_stopping = False

    def run(self) -> int:
        """Start, say who leads, wait. Ctrl-C and SIGTERM stop all cleanly."""
        if not self.mine:
            print(f"no replica of cluster {self.settings.name} lives here: this host has none of the addresses of their peers")
            return 2
        for word in (signal.SIGINT, signal.SIGTERM):
            signal.signal(word, self._on_signal)
        with contextlib.ExitStack() as turn:
            if not self._may_start(turn):
                return 2
            for i in self.mine:
                # A session of its own: Ctrl-C reaches the supervisor alone, which then stops all in the right order.
                self.children[i] = subprocess.Popen([*self.command, "--replica", str(i)], start_new_session=True)
            code = self._wait_for_primary()
        return code if code else self._wait_for_end()

    def _may_start(self, turn: contextlib.ExitStack) -> bool:
        """Whether nobody else has started them, or does so now; `turn` is closed when they answer."""
        deadline = time.monotonic() + TURN_S
        while not self.is_stopping:
            is_first = self._take_turn(turn)  # before the look: who had it until now may have started them
            if running := [i for i in self.mine if ask(self.base, i, {"verb": "status"})]:
                print(f"replica {', '.join(map(str, running))} runs already: {HELP}")
                return False
            if is_first:
                return True
            if time.monotonic() > deadline:
                print(f"somebody else starts cluster {self.settings.name} at this moment: {HELP}")
                return False
            time.sleep(TURN_LOOK_S)
        return False

    def _take_turn(self, turn: contextlib.ExitStack) -> bool:
        disk, directory = OsDisk(), os.path.join(self.base, "cluster")
        try:
            disk.mkdir(directory)
            # Named after one of them: other hosts, which start others, may share this directory.
            fd = disk.try_lock(os.path.join(directory, f"supervisor-{self.mine[0]}.lock"), shared=False)
        except OSError:
            return True  # a full disk, for one: the replicas have locks of their own, and say what is wrong
        if fd is None:
            return False
        turn.callback(disk.unlock, fd)
        return True

    def _on_signal(self, number: int, frame: object) -> None:
        self.is_stopping = True

    def _wait_for_primary(self) -> int:
        deadline = time.monotonic() + START_S
        while not self.is_stopping:
            failed = {i: c.returncode for i, c in self.children.items() if c.poll() is not None}
            if failed:
                print(self._why(failed), flush=True)
                self._stop(self._own())
                return 2
            report = gather_status(self.settings, self.base)
            pids = {row["id"]: row.get("pid") for row in report["replicas"]}
            if report["serving"] and all(pids[i] == child.pid for i, child in self.children.items()):
                self._banner(report)
                return 0
            if time.monotonic() > deadline:
                show_status(self.settings, self.base, as_json=False)
                deadline = float("inf")
            time.sleep(0.02)
        self._stop(self._own())
        return 0

    def _why(self, failed: Iterable[int]) -> str:
        """What became of these, whose processes have ended."""
        if taken := [i for i in failed if holder_of(self.base, i)]:
            return f"replica {', '.join(map(str, taken))} is run by another process: {HELP}"
        return f"replica {', '.join(map(str, failed))} did not start: see the line above"

    def _own(self) -> list[int]:
        """Replicas in whose name nobody but a process of this one's answers."""
        rows = {i: ask(self.base, i, {"verb": "status"}) for i in self.mine}
        return [i for i, row in rows.items() if row is None or row.get("pid") == self.children[i].pid]

    def _banner(self, report: dict[str, Any]) -> None:
        settings = self.settings
        primary = next((row["id"] for row in report["replicas"] if row["role"] == "primary"), None)
        print()
        print(
            f"Understudy {VERSION}: cluster {settings.name} is up. Policy {settings.policy}: "
            f"{len(settings.replicas)} replicas, survives {survives(settings)}."
        )
        print(f"  {SURVIVAL[settings.policy]}")
        for r, row in zip(settings.replicas, report["replicas"], strict=True):
            ports = "; ".join(f"{door} {' '.join(map(str, ports))}" for door, ports in r.doors.items())
            where = f"{r.reached_at or r.peer.host}  " if len(self.mine) < len(settings.replicas) else ""
            print(f"  replica {r.id}  {row['role']:9}  {where}{ports}")
        for warning in report["warnings"]:
            print(f"warning: {warning}")
        first = settings.replica(primary if primary is not None else self.mine[0])
        if first.doors.get("pipe"):
            at = first.doors["pipe"][0] if len(self.mine) == len(settings.replicas) else Address(first.reached_at, first.doors["pipe"][0])
            print(f"Open a client in another terminal:  .venv/bin/python client.py {at}")
        print("Ctrl-C stops all replicas cleanly.", flush=True)

    def _wait_for_end(self) -> int:
        while not self.is_stopping:
            for i, child in list(self.children.items()):
                if child.poll() is not None:
                    del self.children[i]
                    how = f"was killed by signal {-child.returncode}" if child.returncode < 0 else f"ended with code {child.returncode}"
                    print(f"-- replica {i} {how}; to start it again: .venv/bin/python server.py --replica {i}", flush=True)
            if not self.children and not any(ask(self.base, i, {"verb": "status"}) for i in self.mine):
                print("no replica is left", flush=True)
                return 1
            time.sleep(0.2)
        self._stop(self.mine)
        return 0

    def _stop(self, replicas: Sequence[int]) -> None:
        if replicas:
            print("\nstopping all replicas ...", flush=True)
        stop_replicas(self.settings, self.base, replicas)
        for i, child in self.children.items():
            if i not in replicas:
                child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(STOP_S)
            if child.poll() is None:
                child.kill()
