"""The demo: two people talk without pause while the primary is killed, then the next one, then both come back.

What it is not: it touches no cluster of yours; it starts a scratch one on free ports and removes it.

    three replicas ── kill -9 primary ──▶ two ── kill -9 primary ──▶ one serves alone ── start both ──▶ three again ── audit

Exit code 0: nothing acknowledged was lost, nothing was shown twice or in another order, and all replicas' CSV files are equal.

Read next: `scripts/campaign.py` (the same for hours, with every fault there is).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Callable
from typing import TypeVar

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

if __name__ == "__main__":
    import bootstrap

    bootstrap.ensure(bootstrap.PACKAGES)


from tests.system.cluster import Cluster, TooLate
from tests.system.talk import Talker, audit, finish, leave

TALK_S = 1.0  # seconds of talk between two events
SETTLE_S = 2.0  # seconds after a kill in which the longest silence is looked for

T = TypeVar("T")


class Demo:
    """One run."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.began = time.monotonic()
        self.talkers = [Talker("ann", cluster.pipes), Talker("bob", cluster.pipes)]

    def say(self, words: str) -> None:
        """A line of the timeline."""
        print(f"{time.monotonic() - self.began:9.3f} s  {words}", flush=True)

    async def run(self) -> bool:
        """Whether the promise was kept."""
        cluster, talkers = self.cluster, self.talkers
        cluster.start()
        primary = await in_thread(cluster.wait_members)
        self.say(f"three replicas serve on ports {', '.join(map(str, cluster.pipes))}; replica {primary} is primary")
        for talker in talkers:
            await talker.enter()
        ending = asyncio.Event()
        talking = [asyncio.create_task(t.talk([other.name], ending)) for t, other in zip(talkers, reversed(talkers), strict=True)]
        self.say("ann and bob talk: each sends the next message as soon as the last one is acknowledged")
        await asyncio.sleep(TALK_S)
        killed = [await self.kill_primary(), await self.kill_primary()]
        self.say(f"starts replicas {killed[0]} and {killed[1]} again, on the data they had")
        cluster.start(*killed)
        primary = await in_thread(cluster.wait_members)
        self.say(f"both have caught up and are members again; replica {primary} is primary")
        await asyncio.sleep(TALK_S)
        await finish(talkers, talking, ending)
        leave(talkers)
        self.say("ann and bob are silent; compares what was acknowledged with what was shown, and with every replica's CSV files")
        return await in_thread(self.judge)

    async def kill_primary(self) -> int:
        """`kill -9`, and what the two clients noticed."""
        cluster = self.cluster
        primary = await in_thread(cluster.wait_serving)
        self.say(f"kill -9 replica {primary}, the primary, process {cluster.processes[primary].pid}")
        moment = time.monotonic()
        cluster.processes[primary].kill()
        await asyncio.sleep(SETTLE_S)
        cluster.kill(primary)
        heir = await in_thread(cluster.wait_serving)
        for talker in self.talkers:
            gap = talker.gap_after(moment, time.monotonic())
            when = f"{gap * 1000:.1f} ms after the kill" if gap is not None else "still awaited"
            self.say(f"    {talker.name}: next acknowledgement {when}, now on {talker.client.address[1] if talker.client.address else '?'}")
        members = cluster.statuses()[heir]["members"]
        self.say(f"    replica {heir} is primary; members of the view: {', '.join(map(str, members))}")
        return primary

    def judge(self) -> bool:
        """Lost, doubled; byte-equal files."""
        cluster = self.cluster
        op = cluster.wait_level()
        different = cluster.differences()
        verdict = audit(self.talkers, [cluster.history(i) for i in cluster.ids])
        self.say(f"CSV files of the three replicas at op {op}: {'; '.join(different) or 'equal byte for byte'}")
        print(f"\n{verdict}")
        return verdict.is_clean and not different


async def in_thread(work: Callable[[], T]) -> T:
    """What waits for processes must not keep the clients from talking."""
    return await asyncio.get_running_loop().run_in_executor(None, work)


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description="Kills primaries of a scratch cluster while two clients talk; ends with 0 if nothing was lost."
    )
    parser.add_argument("--keep", action="store_true", help="leave the directory of the scratch cluster behind")
    arguments = parser.parse_args()
    with Cluster(keep=arguments.keep) as cluster:
        try:
            kept = asyncio.run(Demo(cluster).run())
        except TooLate as error:
            print(f"\nFAILED: {error}", file=sys.stderr)
            kept = False
        if arguments.keep:
            print(f"data and logs: {cluster.where}")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
