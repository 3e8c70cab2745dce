"""A rolling restart under load, and a backup that is taken under load and put back."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from typing import Any

from operators import ask
from tests.system.cluster import ROOT, Cluster
from tests.system.stage import SystemTest

SCRIPT = os.path.join(ROOT, "scripts", "rolling_restart.py")


class Stranger:
    """A replica's process that somebody else has started; what `Cluster` asks of one."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.fd = os.pidfd_open(pid)
        self.returncode: int | None = None

    def poll(self) -> int | None:
        try:
            with open(f"/proc/{self.pid}/stat", encoding="utf-8", errors="replace") as file:
                return None if file.read().rpartition(")")[2].split()[0] not in "ZX" else 0
        except OSError:
            return 0

    def send_signal(self, number: int) -> None:
        signal.pidfd_send_signal(self.fd, number)

    def kill(self) -> None:
        if self.poll() is None:
            self.send_signal(signal.SIGKILL)

    def wait(self) -> None:
        while self.poll() is None:
            time.sleep(0.005)


class RollingTest(SystemTest):
    def rolls(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The script, to its end; whoever it has started is known from here on."""
        done = subprocess.run(
            [sys.executable, SCRIPT, "--config", self.cluster.config, "--data", self.cluster.base, *arguments],
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        for i, process in list(self.cluster.processes.items()):
            row = ask(self.cluster.base, i, {"verb": "status"})
            if row is not None and row["pid"] != process.pid:
                process.poll()
                stranger: Any = Stranger(row["pid"])
                self.cluster.processes[i] = stranger
        self.assertNotIn("Traceback", done.stderr, done.stderr)
        return done

    async def test_every_replica_once_and_no_request_fails(self) -> None:
        await self.start()
        before = {i: s["pid"] for i, s in self.cluster.statuses().items()}
        await self.begin_talk("ann", "bob", "cid")
        done = await self.aside(self.rolls)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        lines = [line for line in done.stdout.splitlines() if "is restarted" in line]
        self.assertEqual(["hands over" in line for line in lines], [False, False, True])
        after = {i: s["pid"] for i, s in self.cluster.statuses().items()}
        self.assertEqual([i for i in before if before[i] == after[i]], [])
        await self.more_talk()
        await self.end_talk()
        self.assertEqual([t.troubles for t in self.talkers if t.troubles], [])

    async def test_the_last_copy_is_left_alone(self) -> None:
        primary = await self.start()
        others = [i for i in self.cluster.ids if i != primary]
        await self.aside(self.cluster.kill, *others)
        await self.aside(self.cluster.wait_members, primary)
        done = await self.aside(self.rolls, "--patience", "1")
        self.assertEqual(done.returncode, 1)
        self.assertIn("the last copy would be gone", done.stderr)
        self.assertEqual(await self.aside(self.cluster.wait_serving), primary)

    async def test_a_backup_taken_under_load_is_put_back(self) -> None:
        """One replica is stopped and copied while the others go on; from the copy a cluster begins that holds all up to there."""
        primary = await self.start()
        await self.begin_talk("ann", "bob")
        copied = next(i for i in self.cluster.ids if i != primary)
        told = {(t.name, whom, n) for t in self.talkers for whom, n in t.told_at}
        await self.aside(self.cluster.run, "stop", "--replica", str(copied))
        kept, base = os.path.join(self.cluster.where, "kept"), self.cluster.base
        for name in ("cluster", f"replica-{copied}"):
            shutil.copytree(os.path.join(base, name), os.path.join(kept, name), symlinks=True, ignore=shutil.ignore_patterns("*.sock"))
        self.cluster.start(copied)
        await self.more_talk()
        await self.end_talk()
        after = self.cluster.history(primary)
        self.cluster.kill_all()
        os.rename(base, base + "-lost")
        os.rename(kept, base)
        done = await self.aside(self.cluster.run, "force-new-view", "--replica", str(copied), "--cluster", "scratch")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.cluster.start()
        await self.aside(self.cluster.wait_members)
        await self.aside(self.cluster.wait_level)
        self.assertEqual(self.cluster.differences(), [])
        restored = self.cluster.history(copied)
        self.assertEqual(restored, after[: len(restored)])
        self.assertLess(len(restored), len(after))
        there = {(sender, whom, int(text.split()[1])) for sender, whom, text in restored}
        self.assertEqual(told - there, set())

    async def test_with_a_command_for_each_host(self) -> None:
        """As over ssh: one command restarts, another one asks. Here both are on this host."""
        self.cluster.end()
        self.begin(Cluster(policy="majority"))
        self.addCleanup(self.cluster.end)
        self.cluster.start()
        await self.aside(self.cluster.wait_members)
        await self.begin_talk("ann", "bob")
        server = shlex.join(self.cluster.command())
        restart = (
            f"bash -c {shlex.quote(f'{server} stop --replica {{id}}; exec setsid {server} --replica {{id}} </dev/null >/dev/null 2>&1 &')}"
        )
        status = shlex.join(self.cluster.command("status", "--json"))
        done = await self.aside(self.rolls, "--patience", "60", "--status", status, "--restart", restart)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        await self.more_talk()
        await self.end_talk()
