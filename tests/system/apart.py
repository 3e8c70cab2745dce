"""A cluster whose replicas have hosts of their own, in network namespaces, under policy `majority`; and who is on the wrong side of a cut.

What it is not: it makes no namespace (`spaces.py`). All hosts keep what they have under one directory, each in its own `replica-N`: nothing
of it but the secret is read by two of them, and a test can look at all.

    ApartCluster    as `Cluster`, its processes in namespaces, its doors and peers at 10.x.y.N
    Prober          keeps asking a replica to store something, while it is on the side that must not

Read next: `test_apart.py`, `partitions.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import subprocess
import time
from typing import Any

import credentials
from tests.system.cluster import Cluster, Proof, rotated
from tests.system.spaces import Spaces

PROBE_S = 1.0  # seconds a replica may take to refuse or to say nothing, until it is asked anew
OPEN, CLOSED = "{require_password: false}", "{require_password: true}"
PORTS_FROM = 6000  # each host has all ports to itself


class ApartCluster(Cluster):
    """Three hosts, or five. `is_secured`: TLS on links and at doors. As a context it ends the processes and removes the namespaces."""

    is_apart = True

    def __init__(self, *, replicas: int = 3, keep: bool = False, is_secured: bool = False, **knobs: Any) -> None:
        self.spaces = Spaces(replicas)
        words: dict[str, Any] = {"tls": "certs"} if is_secured else {"allow_plaintext": "true"}
        try:
            super().__init__(replicas=replicas, keep=keep, accounts=CLOSED if is_secured else OPEN, **words, **knobs)
            if is_secured:
                made = self.run("make-certs")
                assert made.returncode == 0, made.stderr
                self.proof = Proof(credentials.of_client(os.path.join(self.where, "certs", credentials.CA)), "|secret of everybody")
        except BaseException:
            self.spaces.close()
            raise

    def _write_config(self, knobs: dict[str, object], accounts: str) -> None:
        ports = {door: PORTS_FROM + place for place, door in enumerate(self.doors)}
        hosts = [self.spaces.address(i) for i in self.ids]
        self.addresses = {door: [(host, port) for host in hosts] for door, port in ports.items()}
        lines = [
            "cluster:",
            "  name: scratch",
            *(f"  {key}: {value}" for key, value in knobs.items()),
            f"accounts: {accounts}",
            "replicas:",
        ]
        words = ", ".join(f"{door}: {port}" for door, port in ports.items())
        lines += [f'  - {{id: {i}, peer: "{host}:7661", doors: {{{words}}}}}' for i, host in zip(self.ids, hosts, strict=True)]
        with open(self.config, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")

    def start(self, *replicas: int) -> None:
        """Each on its host."""
        for i in replicas or self.ids:
            with open(self.output(i), "ab") as output:
                self.processes[i] = subprocess.Popen(
                    [*self.spaces.inside(i), *self.command("--replica", str(i))],
                    cwd=self.where,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                )

    def end(self) -> None:
        try:
            super().end()
        finally:
            self.spaces.close()

    def rotated(self, door: str, by: int) -> list[Any]:
        """Where this door is, beginning at another host."""
        return rotated(self.addresses[door], by)

    def others(self, *replicas: int) -> tuple[int, ...]:
        """All replicas but these."""
        return tuple(i for i in self.ids if i not in replicas)


class Prober:
    """Asks one replica, again and again, to make an account nobody has; to store it takes a majority. `accepted` must stay empty."""

    def __init__(self, cluster: ApartCluster, replica: int) -> None:
        self.address: tuple[str, int] = cluster.addresses["pipe"][replica]
        self.proof, self.replica, self.asked, self.unheard = cluster.proof, replica, 0, 0
        self.accepted: list[str] = []
        self.names = itertools.count()

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            name = f"q{self.replica}x{time.monotonic_ns()}"
            try:
                async with asyncio.timeout(PROBE_S):
                    await self._ask(name)
            except (OSError, TimeoutError, asyncio.IncompleteReadError):
                self.unheard += 1
                await asyncio.sleep(0.02)

    async def _ask(self, name: str) -> None:
        reader, writer = await asyncio.open_connection(*self.address, ssl=self.proof.tls)
        try:
            await reader.readuntil(b"\n")
            writer.write(f"1|{name}{self.proof.password}\n".encode())
            self.asked += 1
            if b"Success" in await reader.readuntil(b"\n"):
                self.accepted.append(name)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
