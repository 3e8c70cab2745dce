"""An operator makes a cluster larger: a replica's disk, which belonged to a cluster of n replicas, from now on belongs to one of more.

What it is not: it adds nothing to a log and decides no view. The new replicas begin with empty disks, as one that was replaced does.

    server.py grow --replica N     once for each replica that there was, while none runs; `cluster.yaml` lists the new ones already

Why it cannot lose or fork anything, also if a disk is forgotten (docs/decisions/0013-a-cluster-that-grows.md):
- A replica starts only with a `cluster.yaml` that lists as many replicas as its disk says, and links only with those that have the same.
- Under `majority` a new one counts for nothing until it has the log of a primary. So the first view of the larger cluster is decided by
  old disks that have all been changed, as many as a majority of the larger number; every majority of the smaller one has one of those,
  and what was not changed is too little to go on by itself. Hence the bound: a majority of the new number must be there among the old.
- Under `survivor` the register decides, and it is the same before and after.

Invariants:
- The number never falls: a disk that went back could meet others that did not, and be a majority with them.

Read next: `last_resort.py`, which looks, refuses, asks and writes down.
"""

from __future__ import annotations

from msgspec.structs import replace

import superblock
from last_resort import LastResort, Refused, names
from settings import SURVIVOR
from superblock import Superblock


class Growing(LastResort):
    """One command, as its base is."""

    def grow(self) -> None:
        """Let this replica's disk belong to a cluster of as many replicas as `cluster.yaml` lists. Raises Refused, OSError."""
        self._look()
        sb = self._require_disk()
        before, now = sb.replicas, len(self.ids)
        is_alone = self.settings.policy == SURVIVOR
        needed = f"all of {names(range(before))}" if self.enough == before else f"{self.enough} of {names(range(before))}"
        whole = "any member of the last view was changed and is started" if is_alone else f"{needed} were changed and are started"
        words = [
            f"From now on this disk belongs to a cluster of {now} replicas, not of {before}, and never again to a smaller one:",
            f"  nothing is lost; the larger cluster begins when {whole}",
            f"  replica {names(range(before, now))} are new: start them with nothing in their places",
        ]
        self._decide("grow", sb.view, words)
        superblock.save(self.disk, self._path(self.id, "superblock"), replace(sb, replicas=now))
        self.say(f"done: replica {self.id} is one of {now}. Do the same with the others that there were, before any is started")

    def _require_disk(self) -> Superblock:
        """What stands there, if it may be changed."""
        found, now = self.chosen, len(self.ids)
        sb = found.superblock
        if sb is None or found.doubt:
            raise Refused(
                f"the disk of replica {self.id} is not whole: {found.doubt}. With the old list in cluster.yaml the others make it whole;"
                " a new replica needs nothing but an empty place"
            )
        if sb.replicas >= now:
            raise Refused(
                f"the disk of replica {self.id} belongs to a cluster of {sb.replicas} replicas, and cluster.yaml lists {now}:"
                + (" there is nothing to do" if sb.replicas == now else " it can become larger, not smaller")
            )
        if sb.policy not in ("", self.settings.policy):
            raise Refused(f"the disk of replica {self.id} was begun under policy {sb.policy}, and cluster.yaml leads to another")
        if self.settings.policy != SURVIVOR and self.enough > sb.replicas:
            raise Refused(
                f"{sb.replicas} replicas are no majority of {now}, and the new ones have nothing to vote with:"
                f" at most {2 * sb.replicas - 1} at a time"
            )
        return sb
