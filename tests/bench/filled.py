"""A cluster in which much is stored: made once, and taken up again from a copy of its directory.

What it is not: a measurement (`scripts/growth.py`).

    no `built`                    started, filled
    `built`, nothing there yet    started, filled, stopped; its directory goes there
    `built`, made before          from there, started

    accounts ─▶ messages, each read soon after it was stored ─▶ as many again as wait for their readers ─▶ all replicas' snapshots are level

Read next: `scripts/growth.py`, `systems.py`.
"""

from __future__ import annotations

import os
import subprocess
import time

from disk import OsDisk
from snapshots import read_manifest
from tests.bench.load import FILL, Order
from tests.bench.systems import UP_S, Broken, Understudy, run_load

FILLED_S = 900.0  # seconds that each step of filling may take
LEVEL_S = 300.0  # seconds until the last snapshot stands


class Filled(Understudy):
    """Replicas with so many accounts and messages, and so many of those that wait. `told`: sentences on how that went."""

    def __init__(self, where: str, *, replicas: int, accounts: int, messages: int, waiting: int, built: str = "") -> None:
        super().__init__(where, replicas=replicas)
        self.accounts, self.told = accounts, list[str]()
        self.messages, self.waiting = messages // FILL * FILL, waiting // FILL * FILL  # they are sent so many together
        self.kept = os.path.join(built, f"{accounts}-{self.messages}") if built else ""

    def start(self) -> None:
        if self.kept and os.path.exists(self.kept):
            return self._take_up()
        super().start()
        self._fill()
        if self.kept:
            self._keep()
        return None

    def up(self) -> float:
        """All of them start and are members; seconds until one of them served."""
        began = time.monotonic()
        self.cluster.start()
        self.cluster.wait_serving(seconds=UP_S)
        serving = time.monotonic() - began
        self.primary = self.cluster.wait_members(seconds=UP_S)
        return serving

    def _take_up(self) -> None:
        copy(self.kept, self.cluster.base)
        self.told.append(f"{self.messages} messages and {self.accounts} accounts taken up: serving after {self.up():.2f} s")
        self.cluster.wait_level(seconds=LEVEL_S)  # a new view is an op, so each start is followed by a snapshot

    def _fill(self) -> None:
        began = time.monotonic()
        if self.accounts:
            run_load(Order("pipe", self.port(), "fill_accounts", count=self.accounts), seconds=FILLED_S)
        self.told.append(f"{self.accounts} accounts made in {time.monotonic() - began:.1f} s")
        began = time.monotonic()
        if self.messages:
            run_load(Order("pipe", self.port(), "fill_messages", count=self.messages), seconds=FILLED_S)
        self.told.append(f"{self.messages} messages stored and delivered in {time.monotonic() - began:.1f} s")
        began = time.monotonic()
        run_load(Order("pipe", self.port(), "fill_mailboxes", count=self.waiting), seconds=FILLED_S)
        self.cluster.wait_level(seconds=LEVEL_S)
        stored = read_manifest(OsDisk(), self.cluster.csv(self.primary), "scratch").messages
        if stored != self.messages + self.waiting:
            raise Broken(f"{stored} messages are stored, {self.messages} and {self.waiting} were wanted")
        self.told.append(f"{self.waiting} more wait; all replicas' snapshots are level {time.monotonic() - began:.1f} s later")

    def _keep(self) -> None:
        stopped = self.cluster.run("stop")
        assert stopped.returncode == 0, stopped.stdout + stopped.stderr
        for i in self.cluster.ids:
            self.cluster.wait_ended(i)
        os.makedirs(os.path.dirname(self.kept), exist_ok=True)
        copy(self.cluster.base, self.kept)
        self.up()
        self.cluster.wait_level(seconds=LEVEL_S)


def copy(directory: str, other: str) -> None:
    """A whole directory; its hard links stay, which is how snapshots share history."""
    subprocess.run(["cp", "-a", directory, other], check=True)
    os.sync()  # else it is written back beside what is measured
