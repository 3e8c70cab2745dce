"""F: what clients notice when the primary is killed while everybody talks.

What it is not: a load that fills the machine, nor what is noticed of a primary that hangs instead of dying (a second and more). Clients
with the production's protocol and failover (`client.py`), one message outstanding each, on all three ports.

Read next: `tests/system/talk.py`.
"""

from __future__ import annotations

import array
import asyncio
import time

from tests.bench.load import Times, times_of
from tests.system.cluster import Cluster
from tests.system.talk import Talker, audit, finish, leave

PEOPLE = 8
TALK_S = 0.5  # seconds of talk before a kill
SETTLE_S = 1.0  # seconds after it in which the gap is looked for


class Failover(list[float]):
    """Gaps in seconds, each of one client at one kill; `verdict`: what the audit said."""

    verdict = ""

    def times(self) -> Times:
        """Their distribution."""
        return times_of(array.array("d", self))


def measure_failover(cluster: Cluster, kills: int) -> Failover:
    """Kill the primary so often, wait until the cluster is whole again each time."""
    return asyncio.run(_measure(cluster, kills))


async def _measure(cluster: Cluster, kills: int) -> Failover:
    loop = asyncio.get_running_loop()
    gaps, ending = Failover(), asyncio.Event()
    # Each knows the ports in another order: guests of the primary and of backups.
    talkers = [Talker(f"f{i}", [*cluster.pipes[i % 3 :], *cluster.pipes[: i % 3]]) for i in range(PEOPLE)]
    for talker in talkers:
        await talker.enter()
    names = [t.name for t in talkers]
    talking = [asyncio.create_task(t.talk([n for n in names if n != t.name], ending)) for t in talkers]
    for _ in range(kills):
        primary = await loop.run_in_executor(None, cluster.wait_members)
        await asyncio.sleep(TALK_S)
        moment = time.monotonic()
        cluster.processes[primary].kill()
        await asyncio.sleep(SETTLE_S)
        gaps += [gap for t in talkers if (gap := t.gap_after(moment, time.monotonic())) is not None]
        cluster.kill(primary)
        cluster.start(primary)
    await loop.run_in_executor(None, cluster.wait_members)
    await finish(talkers, talking, ending)
    verdict = audit(talkers)
    gaps.verdict = str(verdict)
    leave(talkers)
    assert verdict.is_clean, verdict
    return gaps
