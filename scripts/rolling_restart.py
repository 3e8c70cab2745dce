"""Restart a cluster one replica at a time, the primary last, while it serves: for a new version, a new setting, a new kernel.

What it is not: it changes no file and votes for nothing; each replica leaves as `server.py stop --replica N` lets it, and joins by itself.

    python scripts/rolling_restart.py --config cluster.yaml --data data

    for each backup, then for the primary      others hold everything?  ──no──▶ refuse, touch nothing more
        stop it: it hands over                 start it                 wait until it has all that was committed when it came back

On one host that is all. On several, say how a replica is restarted there and how it is asked; `{id}` and `{host}` are filled in:

    RESTART='ssh {host} systemctl restart understudy@{id}'
    STATUS='ssh {host} cd understudy "&&" .venv/bin/python server.py status --json'

Exit code 0: all were restarted and are level; 1: refused or given up, why stands in the last line.

Read next: docs/operations.md.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

if __name__ == "__main__":
    import bootstrap

    bootstrap.ensure(bootstrap.PACKAGES)

from doors import DOORS
from operators import ask, read_answer, stop_replicas
from settings import SURVIVOR, Settings, SettingsError, load

LOOK_S = 0.1  # seconds between two looks
PATIENCE_S = 30.0  # seconds in which the others may become level before one is stopped
BACK_S = 120.0  # seconds a replica may take to come back and be level
ASKING_S = 20.0  # seconds a command that asks may take

Row = dict[str, Any]


class GivenUp(Exception):
    """Nothing more was touched; the text says why."""


class Rolling:
    """One round through the cluster."""

    def __init__(self, settings: Settings, config: str, base: str, say: Callable[[str], None]) -> None:
        self.settings, self.config, self.base, self.say = settings, config, base, say
        self.restart = self.status = ""  # commands, where replicas have hosts of their own
        self.patience = PATIENCE_S
        self.seen = 0  # the newest commit of the look before

    # --- looking --------------------------------------------------------------------------------------------------------------------------

    def look(self) -> dict[int, Row]:
        """What every replica that answers says of itself; `level`: it has all that was committed at the look before."""
        rows = {r.id: row for r in self.settings.replicas if (row := self._ask(r.id))}
        primary = max((row for row in rows.values() if row["serving"]), key=lambda row: row["view"], default=None)
        members = primary["members"] if primary else []
        for i, row in rows.items():
            is_in = i in members and row["status"] == "normal" and primary is not None and row["view"] == primary["view"]
            row["level"] = is_in and row["applied"] >= self.seen
            row["leads"] = row is primary
        self.seen = max((row["commit"] for row in rows.values()), default=0)
        return rows

    def _ask(self, replica: int) -> Row | None:
        if not self.status:
            return ask(self.base, replica, {"verb": "status"})
        done = self._run(self.status, replica, ASKING_S)
        report = read_answer(done.stdout) if done is not None else None
        rows = report.get("replicas", []) if report else []
        return next((row for row in rows if row.get("id") == replica and "pid" in row), None)

    def _run(self, command: str, replica: int, seconds: float) -> subprocess.CompletedProcess[bytes] | None:
        host = self.settings.replica(replica).peer.host
        words = [word.format(id=replica, host=host) for word in shlex.split(command)]
        try:
            return subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return None

    def wait_level(self, wanted: Callable[[dict[int, Row]], bool], what: str) -> dict[int, Row]:
        """Look until it is so."""
        deadline = time.monotonic() + BACK_S
        while True:
            rows = self.look()
            if wanted(rows):
                return rows
            if time.monotonic() > deadline:
                raise GivenUp(f"{what} did not happen within {BACK_S:.0f} s; see `server.py status` and the logs")
            time.sleep(LOOK_S)

    # --- doing ----------------------------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Every replica once. Raises GivenUp."""
        left = {r.id for r in self.settings.replicas}
        missing = left - self.look().keys()
        if missing:
            self.say(f"replica {', '.join(map(str, sorted(missing)))} does not run, and is left out")
            left -= missing
        while left:
            rows = self.look()
            backups = [i for i in sorted(left) if i in rows and not rows[i]["leads"]]
            # Who leads now has been chosen by those that went before; a replica is restarted once.
            replica = backups[0] if backups else min(left)
            self._require_copies(replica)
            self._restart(replica)
            left.discard(replica)
        self.say("all replicas have been restarted and are level")

    def _require_copies(self, replica: int) -> None:
        """Those that stay must hold everything, and be enough to go on."""
        is_survivor = self.settings.policy == SURVIVOR
        enough = 1 if is_survivor else len(self.settings.replicas) // 2 + 1
        deadline = time.monotonic() + self.patience
        while True:
            level = [i for i, row in self.look().items() if row["level"] and i != replica]
            if len(level) >= enough:
                return
            if time.monotonic() > deadline:
                word = "the last copy" if is_survivor else "the majority"
                raise GivenUp(
                    f"refused: without replica {replica} {word} would be gone: only {len(level)} other"
                    f" {'is' if len(level) == 1 else 'are'} level, and {enough} must stay"
                )
            time.sleep(LOOK_S)

    def _restart(self, replica: int) -> None:
        before = self._ask(replica)
        word = "primary, hands over" if before and before["serving"] else "backup"
        self.say(f"replica {replica} ({word}) is restarted")
        began = time.monotonic()
        if self.restart:
            done = self._run(self.restart, replica, BACK_S)
            if done is None or done.returncode:
                error = done.stderr.decode(errors="replace").strip() if done else "it could not be run, or did not end"
                raise GivenUp(f"the command that restarts replica {replica} failed: {error}")
        else:
            if before is not None and stop_replicas(self.settings, self.base, [replica]):
                raise GivenUp(f"replica {replica} did not stop")
            self._start_here(replica)
        pid = before["pid"] if before else 0
        self.wait_level(lambda rows: replica in rows and rows[replica]["level"] and rows[replica]["pid"] != pid, f"the return of {replica}")
        self.say(f"replica {replica} is back and level after {time.monotonic() - began:.1f} s")

    def _start_here(self, replica: int) -> None:
        """In a session of its own, so that it outlives this script and its terminal."""
        server = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "server.py")
        command = [sys.executable, server, "--replica", str(replica), "--config", self.config, "--data", self.base]
        with open(os.path.join(self.base, f"replica-{replica}", "log", "restart.out"), "ab") as output:
            subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Restart a cluster one replica at a time, the primary last.")
    parser.add_argument("--config", default="cluster.yaml", metavar="PATH", help="the cluster's description (default: cluster.yaml)")
    parser.add_argument("--data", default="data", metavar="DIR", help="where the replicas of this host keep their state (default: data/)")
    parser.add_argument("--restart", default=os.environ.get("RESTART", ""), metavar="COMMAND", help="how a replica is restarted")
    parser.add_argument("--status", default=os.environ.get("STATUS", ""), metavar="COMMAND", help="how it is asked: prints status --json")
    parser.add_argument("--patience", type=float, default=PATIENCE_S, metavar="S", help="how long the others may take to be level")
    arguments = parser.parse_args()
    try:
        settings = load(arguments.config, DOORS)
        base = os.path.abspath(arguments.data)
        rolling = Rolling(settings, arguments.config, base, lambda text: print(text, flush=True))
        rolling.restart, rolling.status, rolling.patience = arguments.restart, arguments.status, arguments.patience
        rolling.run()
    except (GivenUp, SettingsError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
