"""The campaign: real servers, real clients, every fault there is, for as long as wanted; then the audit.

What it is not: it replays nothing. A find is explained from the story and the logs that it leaves behind; the simulator is where it becomes
a seed.

    python scripts/campaign.py --minutes 9 --json one.json      a campaign; what it counted and measured goes into a file
    python scripts/campaign.py --minutes 6 --hosts 3            replicas on hosts of their own, under policy majority: cut off, gone, slow
    python scripts/campaign.py --minutes 6 --hosts 3 --tls      the same with TLS between them and at their doors
    python scripts/campaign.py --add one.json two.json          what several counted and measured together

Faults are listed in `tests/system/faults.py`, those of hosts in `tests/system/partitions.py`; each kind comes once before dice choose among
them. At the end: acknowledged = shown once, in order; every replica's CSV files are equal, hold what was acknowledged, once, and nothing
stands before what was acknowledged before it was sent. At the ledger each answer must be the balance that follows from all answers before
it. Ctrl-C ends a campaign as a find does: with what everybody was doing.

Exit code 0: nothing lost, doubled, reordered or invented, and nobody had to be waited for in vain. As root the campaign can also fill a
disk; where it cannot, it says so and leaves that out.

Read next: `tests/system/faults.py`, `tests/system/talk.py` (the audit), `docs/testing.md` (figures).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import sys
import time
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

if __name__ == "__main__":
    import bootstrap

    bootstrap.ensure(bootstrap.PACKAGES)


from client import NoAnswer
from tests.system import partitions
from tests.system.apart import ApartCluster
from tests.system.campaign import KILLED, Campaign, Draw
from tests.system.cluster import Cluster, TooLate
from tests.system.faults import SHARES, Faults
from tests.system.figures import Figures, share
from tests.system.partitions import Partitions
from tests.system.small_disk import NoSmallDisk, SmallDisk
from tests.system.talk import audit, leave

SNAPSHOT_EVERY_S = 2  # under load as well: so that snapshots, and rejoining by them, are hit by faults
ROOM = 1 << 30  # bytes of the disk that can be full
PROGRESS_S = 5.0  # seconds between two lines of progress


async def show_progress(campaign: Campaign, seconds: float) -> None:
    """A line now and then."""
    while True:
        await asyncio.sleep(PROGRESS_S)
        figures, told = campaign.figures, sum(len(t.acked_at) for t in campaign.everybody)
        gaps = figures.times.get(partitions.GONE if campaign.cluster.is_apart else KILLED, [0.0])
        print(
            f"{time.monotonic() - campaign.began:6.0f} of {seconds:.0f} s: {sum(figures.rounds.values())} rounds,"
            f" {figures.injected['kill -9']} kills, {figures.injected['pauses']} pauses, {told} acknowledged,"
            f" gap p50 {share(gaps, 50):.0f} ms, worst {max(gaps):.0f} ms",
            flush=True,
        )


async def run(campaign: Campaign, draw: Draw, seconds: float) -> None:
    """Faults and talk, to the last answer."""
    progress = asyncio.create_task(show_progress(campaign, seconds))
    try:
        await campaign.run(seconds, draw)
    finally:
        progress.cancel()
        leave(campaign.everybody)
        for teller in campaign.tellers:
            teller.client.stop("the campaign is over")


def small_disk(cluster: Cluster, replica: int) -> SmallDisk | None:
    """A disk that can be full, where this machine lets us have one."""
    try:
        return SmallDisk(os.path.join(cluster.base, f"replica-{replica}"), ROOM)
    except NoSmallDisk as error:
        print(f"no disk can be filled here: {error}", flush=True)
        return None


def one_campaign(arguments: argparse.Namespace) -> Figures:
    """A cluster from its first start to the audit."""
    seed = arguments.seed if arguments.seed is not None else random.randrange(1 << 32)
    dice = random.Random(seed)
    knobs: dict[str, Any] = {"keep": True, "snapshot_every_s": SNAPSHOT_EVERY_S}
    apart = ApartCluster(replicas=arguments.hosts, is_secured=arguments.tls, **knobs) if arguments.hosts else None
    cluster = apart or Cluster(**knobs)
    print(f"seed {seed}, files and logs in {cluster.where}", flush=True)
    campaign = Campaign(cluster, dice, people=arguments.people, pace=arguments.pace_ms / 1000)
    campaign.is_told_aloud = arguments.story
    figures = campaign.figures
    figures.seeds.append(seed)
    small_at = dice.choice(cluster.ids)
    small = None if apart else small_disk(cluster, small_at)
    faults = Partitions(campaign, apart) if apart else Faults(campaign, small, small_at)
    kinds = {kind: fault for kind, fault in faults.kinds.items() if not arguments.only or kind in arguments.only}
    try:
        asyncio.run(run(campaign, Draw(dice, kinds, {**SHARES, **partitions.SHARES}), arguments.minutes * 60))
        campaign.judge()
    except (TooLate, AssertionError, NoAnswer, KeyboardInterrupt) as error:
        figures.failed.append(f"{str(error) or 'interrupted'}\n{campaign.tell_all()}\n{audit(campaign.everybody)}")
    finally:
        cluster.keep = arguments.keep or not figures.is_clean
        cluster.kill(*cluster.running())
        if small is not None and not cluster.keep:
            small.end()
        elif small is not None:
            print(f"{small.path} is a disk of its own: umount it when you have seen it", flush=True)
        cluster.end()
    return figures


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Real servers, real clients, real faults; ends with an audit.")
    parser.add_argument("--minutes", type=float, default=1.0, help="how long faults are injected (default: 1)")
    parser.add_argument("--seed", type=int, default=None, help="of the dice that choose faults; times are never the same")
    parser.add_argument("--people", type=int, default=6, help="talking clients (default: 6)")
    parser.add_argument("--pace-ms", type=float, default=8.0, help="pause of each between two messages (default: 8)")
    parser.add_argument(
        "--only", action="append", default=[], metavar="KIND", choices=[*SHARES, *partitions.SHARES], help="this kind only; may be repeated"
    )
    parser.add_argument("--hosts", type=int, choices=(3, 5), help="that many hosts, each with one replica, in network namespaces (root)")
    parser.add_argument("--tls", action="store_true", help="with --hosts: replicas prove with certificates who they are, doors speak TLS")
    parser.add_argument("--story", action="store_true", help="print every fault and what was measured")
    parser.add_argument("--keep", action="store_true", help="leave files and logs behind also when all is well")
    parser.add_argument("--json", metavar="FILE", help="write what was counted and measured into this file")
    parser.add_argument("--add", nargs="+", metavar="FILE", help="run nothing: add such files up and print the sums")
    arguments = parser.parse_args()
    if arguments.add:
        figures = Figures()
        for path in arguments.add:
            figures.add(Figures.read(path))
    else:
        figures = one_campaign(arguments)
    if arguments.json:
        figures.write(arguments.json)
    print(f"\n{figures}", flush=True)
    return 0 if figures.is_clean else 1


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
