"""Every place in the program that writes, syncs, renames, links or opens meets ENOSPC, EIO and short writes, one at a time.

What it is not: errors come singly and at known places here; `tests/simulator` throws them in among everything else.

A story of a few simulated seconds (first start, requests, snapshots, deaths, a join by log, a join by snapshot, a stop) is run once without
errors, which counts the call sites. Then it is run again for each site and error, with the checks of the simulator looking on; it ends with
a power cut, so that an acknowledgement that a failed sync stood behind would be found missing, and then everybody must be answered.

Read next: `tests/simulator/checks.py`.
"""

from __future__ import annotations

import errno
import os
import random
import sys
import unittest
from collections.abc import Callable
from typing import Any, NamedTuple

from replication import NORMAL, READ_ONLY
from server import Server
from tests.simulator import mix as mixes
from tests.simulator.checks import Checks
from tests.simulator.disk import SimDirectory, SimDisk, SimFile
from tests.simulator.guests import SimGuest
from tests.simulator.world import BASE, Process, Violation, World

SIZES = {"segment": 12 << 10, "chunk": 512, "messages": 7, "catch_up": 600, "window": 64}
# What the kernel may say; `short`: a part is written, then ENOSPC.
ERRORS: dict[str, tuple[str, ...]] = {
    "open": ("EIO", "ENOSPC"),
    "open_dir": ("EIO",),
    "pwrite": ("EIO", "ENOSPC", "short"),
    "sync": ("EIO", "ENOSPC"),
    "sync_dir": ("EIO",),
    "truncate": ("EIO", "ENOSPC"),
    "allocate": ("ENOSPC",),
    "rename": ("EIO", "ENOSPC"),
    "link": ("EIO", "ENOSPC"),
    "unlink": ("EIO",),
    "symlink": ("EIO", "ENOSPC"),
    "mkdir": ("EIO", "ENOSPC"),
    "remove_tree": ("EIO",),
}
VICTIMS = (0, 1, 2)  # which replica's disk fails
STORY_S = 6.0
ANSWER_S, WHOLE_S = 12.0, 90.0

Site = tuple[str, str]


class Plan(NamedTuple):
    """The nth call of this site, at this replica, fails."""

    site: Site
    error: str
    replica: int
    nth: int

    def __str__(self) -> str:
        return f"{self.error} at call {self.nth} of {self.site[0]} in {self.site[1]}, replica {self.replica}"


class Story:
    """One run. `counts`: calls by replica, call and site."""

    def __init__(self, plan: Plan | None = None, *, trace: bool = False) -> None:
        self.plan = plan
        dice = random.Random(4)
        mix = mixes.draw(dice)
        settings = type(mix.settings)(name="simulated", replicas=mix.settings.replicas, snapshot_quiet_ms=100, snapshot_every_s=1)
        calm: dict[str, Any] = {"loss": 0.0, "repeat": 0.0, "overtake": 0.0, "net_jitter": 0.0, "undrained": 0.0}
        some: dict[str, Any] = {
            "net_delay": 0.0005,
            "sync_time": 0.0005,
            "snapshot_time": 0.01,
            "think": 0.02,
            "window": 2,
            "patience": 0.4,
        }
        mix = mix._replace(settings=settings, sizes=SIZES, settles_at_once=True, **calm, **some)
        self.world = World(4, mix, dice, trace=trace)
        self.world.checks = self.checks = Checks(self.world)
        self.world.disk_fault = self.on_disk
        self.counts: dict[tuple[int, Site], int] = {}
        self.struck: Process | None = None
        self.synced = 0  # how far its log was synced when a sync of it failed
        self.resting: set[int] = set()
        self.guests: list[SimGuest] = []

    # --- the error ------------------------------------------------------------------------------------------------------------------------

    def on_disk(self, process: Process, call: str, path: str) -> OSError | None:
        """Asked before each call of a replica's disk: which site is it, and is it its turn?"""
        frame = sys._getframe(4)
        error = self.meet(process, process.disk, (call, frame.f_code.co_qualname), path)
        if error is not None and call == "sync":
            self.lose(process, sys._getframe(3).f_locals["fd"])
        return error

    def on_worker(self, process: Process, call: str, site: str, path: str) -> OSError | None:
        return self.meet(process, process.worker, (call, f"{WORKER}{site}"), path)

    def meet(self, process: Process, disk: SimDisk, site: Site, path: str) -> OSError | None:
        disk.short_write = 0.0
        key = (process.id, site)
        self.counts[key] = self.counts.get(key, 0) + 1
        plan = self.plan
        if plan is None or (plan.replica, plan.site) != key or plan.nth != self.counts[key]:
            return None
        self.struck = process
        self.checks.spoiled[process.id] = self.world.now
        self.world.say(f"** {plan} ({path})")
        if plan.error == "short":
            disk.short_write = 1.0
            return None
        return OSError(getattr(errno, plan.error), plan.error, path)

    def lose(self, process: Process, fd: int) -> None:
        """A failed sync: the kernel counts the pages as clean, and nobody knows what is on the disk."""
        file = process.disk.open_files[fd][0]
        assert isinstance(file, SimFile)
        file.fail_sync(self.world.dice)
        journal = self.world.files.find(f"{BASE}/replica-{process.id}/journal")
        # By the file, not by the path it was opened with: a segment was `spare.tmp` once.
        if isinstance(journal, SimDirectory) and any(name.endswith(".seg") and entry is file for name, entry in journal.entries.items()):
            process.sync_failed = True
            self.synced = synced_at(process)

    def start(self, replica: int) -> None:
        """Start it unless it runs; its worker's disk is watched, too."""
        self.world.start(replica)
        process = self.world.processes[replica]
        if process.alive:
            process.worker.fault = lambda call, site, path: self.on_worker(process, call, site, path)

    # --- the story ------------------------------------------------------------------------------------------------------------------------

    def release_all(self) -> None:
        """Nothing is held up any more."""
        for pair in sorted(self.world.blocked):
            self.world.release(*pair)

    def tell(self) -> None:
        """Raises Violation when a promise is broken."""
        world = self.world
        for replica in range(3):
            world.push(0.01 * replica, None, self.start, replica)
        self.guests = self.checks.guests = [SimGuest(world, self.checks, f"g{i}", 100) for i in range(2)]
        steps: tuple[tuple[float, Callable[[], Any]], ...] = (
            (1.2, lambda: self.kill(2)),
            (1.7, lambda: self.world.blocked.update(((0, 1), (0, 2)))),  # what it appends now nobody else has: it must be cut later
            (1.8, lambda: self.kill(0)),
            (1.81, self.release_all),
            (2.6, lambda: self.empty(1)),
            (4.0, lambda: self.stop(2)),
        )
        for when, step in steps:
            world.push(when, None, step)
        world.push(0.5, None, self.tend)
        world.run(STORY_S)
        for guest in self.guests:
            guest.todo = 0
        self.cut_power()
        if not world.run(world.now + ANSWER_S, lambda: all(g.is_done for g in self.guests)):
            raise Violation(f"not answered: {[list(g.under_way.values())[:2] for g in self.guests]} {self.states()}")
        if not world.run(world.now + WHOLE_S, self.is_whole):
            raise Violation(f"the replicas do not come together: {self.states()}")
        self.checks.at_end()
        if self.struck is not None and self.struck.sync_failed and synced_at(self.struck) > self.synced:
            raise Violation(f"counts op {synced_at(self.struck)} as synced after a sync that failed at op {self.synced}")

    def tend(self) -> None:
        """Whatever ends is started again."""
        for replica in range(3):
            process = self.world.processes.get(replica)
            if replica not in self.resting and (process is None or not process.alive):
                self.start(replica)
        self.world.push(self.world.now + 0.4, None, self.tend)

    def kill(self, replica: int) -> None:
        self.world.processes[replica].die("kill -9")

    def empty(self, replica: int) -> None:
        """Its directory is lost, unless another disk is in trouble already."""
        if set(self.checks.spoiled) - {replica}:
            return
        base = self.world.files.find(BASE)
        assert isinstance(base, SimDirectory)
        self.kill(replica)
        self.checks.spoiled[replica] = self.world.now
        base.entries.pop(f"replica-{replica}", None)

    def stop(self, replica: int) -> None:
        process = self.world.processes[replica]
        if process.alive and hasattr(process.server, "replica"):
            self.world.push(self.world.now, process, lambda: process.server.stop(everybody=False))

    def cut_power(self) -> None:
        """For all but a replica that holds in memory what no disk would take: its cluster has lost two disks by then."""
        if any(p.alive and p.server.replica.status == READ_ONLY for p in self.world.processes.values()):
            return
        self.world.say("** power cut")
        for process in self.world.living():
            process.die("power cut")
        self.world.files.crash()

    def is_whole(self) -> bool:
        view, op = self.checks.view, self.checks.spec.op
        if view is None or len(view.members) < 3 or len(self.world.living()) < 3:
            return False
        return all(p.server.replica.status == NORMAL and p.server.replica.applied == op for p in self.world.living())

    def states(self) -> list[str]:
        return [str(getattr(p.server, "replica", "no replica")) for _, p in sorted(self.world.processes.items())]


WORKER = "worker: "
# Where an acknowledgement stands behind the call: tried at more moments.
WEIGHTY: tuple[Site, ...] = (("pwrite", "Journal.append"), ("sync", "Journal._sync"), ("sync", "save"), ("sync_dir", "Journal._sync_dir"))


def synced_at(process: Process) -> int:
    """How far its log counts as synced."""
    return process.server.replica.synced if hasattr(process.server, "replica") else 0


class Case(unittest.TestCase):
    def setUp(self) -> None:
        mixes.shrink(SIZES)
        self.addCleanup(mixes.restore)


class EverySite(Case):
    counts: dict[tuple[int, Site], int]

    def setUp(self) -> None:
        super().setUp()
        story = Story()
        story.tell()
        self.counts = story.counts

    def test_the_story_visits_the_sites(self) -> None:
        """A site that is not visited is not tested: the story must lead through all that writes."""
        sites = {site for _, site in self.counts}
        for call, name in (
            *(("pwrite", "Journal.append"), ("sync", "Journal._sync"), ("pwrite", "save"), ("link", "Register.propose")),
            *(("pwrite", "Journal.cut"), ("rename", "Spare.become"), ("rename", "install")),
            *(("sync", "Receiver._write"), ("pwrite", "ReplicaLock.write")),
            *(("pwrite", f"{WORKER}Sheet.write"), ("link", f"{WORKER}Folder.end_messages")),
        ):
            self.assertIn((call, name), sites)

    def test_each_error_at_each_site(self) -> None:
        """Nothing acknowledged is lost, nothing unsynced is acknowledged, and the others go on."""
        failed = []
        for plan in sample(plans(self.counts)):
            story = Story(plan)
            try:
                story.tell()
            except Violation as error:
                failed.append(f"{plan}: {error}")
            if story.struck is None:
                failed.append(f"{plan}: did not happen")
        self.assertEqual(failed, [])


def plans(counts: dict[tuple[int, Site], int]) -> list[Plan]:
    """Which errors, where: for each site and error one replica's first call and another's middle one, in turn; more for weighty sites."""
    made = []
    by_site: dict[Site, dict[int, int]] = {}
    for (replica, site), count in counts.items():
        if site[0] in ERRORS:
            by_site.setdefault(site, {})[replica] = count
    for turn, (site, calls) in enumerate(sorted(by_site.items())):
        for step, error in enumerate(ERRORS[site[0]]):
            victims = sorted(calls)
            first, other = victims[(turn + step) % len(victims)], victims[(turn + step + 1) % len(victims)]
            made.append(Plan(site, error, first, 1))
            if calls[other] > 1:
                made.append(Plan(site, error, other, (calls[other] + 1) // 2))
            if site in WEIGHTY:
                made += [Plan(site, error, i, n) for i in victims for n in range(2, calls[i], max(1, calls[i] // 6))]
    return made


def sample(every: list[Plan]) -> list[Plan]:
    """One error for each site and some of the rest; with DISK_ERRORS=all, all of them."""
    if os.environ.get("DISK_ERRORS") == "all":
        return every
    first = {plan.site: plan for plan in reversed(every)}
    return [plan for number, plan in enumerate(every) if first[plan.site] is plan or number % 5 == 0]


class LastSurvivor(Case):
    """Two of three are dead, and then the disk of the third takes no more."""

    def setUp(self) -> None:
        super().setUp()
        self.story = Story(trace=True)
        self.world = self.story.world
        self.errors = 0
        for replica in range(3):
            self.story.start(replica)
        self.guest = SimGuest(self.world, self.story.checks, "g0", 0)
        self.other = SimGuest(self.world, self.story.checks, "g1", 0)
        self.story.checks.guests = self.story.guests = [self.guest, self.other]
        self.ask("1|g0")
        self.other.ask("2")
        self.story.kill(1)
        self.story.kill(2)
        self.ask("3|g0|before")
        self.server = self.world.processes[0].server
        self.assertEqual(self.story.checks.view.replicas if self.story.checks.view else (), (0,))

    def ask(self, line: str, *, seconds: float = 3.0) -> bool:
        """One request; whether it was answered."""
        self.guest.ask(line)
        return self.world.run(self.world.now + seconds, lambda: self.guest.is_done)

    def fail_with(self, number: int, *calls: str) -> None:
        """From now on these calls fail at its journal and superblock."""

        def fault(call: str, site: str, path: str) -> OSError | None:
            if call not in calls or "/replica-0/" not in path or "cluster" in path:
                return None
            self.errors += "/journal/" in path
            if call == "sync":
                self.story.lose(self.world.processes[0], sys._getframe(2).f_locals["fd"])
            return OSError(number, errno.errorcode[number], path)

        self.story.checks.spoiled[0] = self.world.now
        self.world.processes[0].disk.fault = fault

    def assert_read_only(self) -> None:
        """It says so, it answers questions, and it takes nothing new."""
        self.assertEqual(self.server.replica.status, READ_ONLY)
        self.assertEqual(self.server.on_operator({"verb": "status"})["status"], READ_ONLY)
        self.assertTrue(any("read_only: the disk of replica 0" in line for line in self.world.story))
        refused = len(self.story.checks.refused)
        for line, fate in (("2", "answered"), ("1|g1", "refused")):
            self.other.ask(line)
            self.assertTrue(self.world.run(self.world.now + 3, lambda: self.other.is_done), f"{line} was not {fate}")
        self.assertEqual(len(self.story.checks.refused), refused + 1)
        self.assertNotIn("g1", self.server.state.accounts)

    def test_a_sync_that_fails_is_never_acknowledged(self) -> None:
        self.fail_with(errno.EIO, "sync")
        self.assertFalse(self.ask("3|g0|in flight"), "acknowledged what no disk holds")
        self.assertEqual(self.errors, 1, "a sync of the journal was tried again after one that failed")
        self.assert_read_only()
        self.world.run(self.world.now + 25)
        self.assertEqual(self.server.replica.status, READ_ONLY)
        self.assertFalse(self.guest.is_done)

    def test_a_write_that_fails_is_never_acknowledged(self) -> None:
        self.fail_with(errno.EIO, "pwrite")
        self.assertFalse(self.ask("3|g0|in flight"))
        self.assert_read_only()

    def test_it_hands_over_to_a_replica_whose_disk_works(self) -> None:
        self.fail_with(errno.EIO, "sync")
        self.assertFalse(self.ask("3|g0|in flight"))
        self.assert_read_only()
        self.story.start(1)
        self.assertTrue(self.world.run(self.world.now + 20, lambda: self.guest.is_done), "nobody took over")
        view = self.story.checks.view
        self.assertEqual(view.replicas if view else (), (1,))

    def test_a_full_disk_is_read_only_until_there_is_room(self) -> None:
        self.fail_with(errno.ENOSPC, "pwrite", "allocate", "symlink")
        self.assertFalse(self.ask("3|g0|in flight"))
        self.assert_read_only()
        self.assertTrue(any("is full" in line for line in self.world.story))
        self.world.processes[0].disk.fault = None
        self.assertTrue(self.world.run(self.world.now + 15, lambda: self.guest.is_done), "there was room again")
        self.assertEqual(self.server.replica.status, NORMAL)
        self.assertTrue(self.ask("3|g0|after"))

    def test_what_a_failed_sync_left_in_the_page_cache_is_written_again_before_it_counts(self) -> None:
        """The last member cannot distrust its disk. Killed and started again it reads a batch that no disk holds, and a sync of it succeeds."""
        for seed in range(8):
            with self.subTest(seed=seed):
                self.setUp()
                self.world.dice.seed(seed)
                self.fail_with(errno.EIO, "sync")
                self.assertFalse(self.ask("3|g0|in flight"))
                self.world.processes[0].die("kill -9")
                self.world.disk_fault = lambda process, call, path: None
                self.story.start(0)
                self.assertTrue(self.world.run(self.world.now + 5, lambda: self.guest.is_done), str(self.story.states()))
                self.world.processes[0].die("power cut")
                self.world.files.crash()
                self.story.start(0)
                self.assertTrue(self.ask("3|g0|after"), str(self.story.states()))

    def test_after_a_power_cut_nothing_acknowledged_is_missing(self) -> None:
        self.assertTrue(self.ask("3|g0|kept"))
        self.fail_with(errno.EIO, "sync")
        self.assertFalse(self.ask("3|g0|in flight"))
        self.world.processes[0].die("power cut")
        self.world.files.crash()
        self.story.start(0)
        self.story.start(1)
        self.story.start(2)
        self.assertTrue(self.world.run(self.world.now + 30, self.story.is_whole), str(self.story.states()))
        self.assertTrue(self.world.run(self.world.now + 10, lambda: self.guest.is_done))
        texts = [message[4] for message in self.server_now().state.accounts["g0"].mailbox]
        shown = [text for texts in self.story.checks.shown.values() for text in texts]
        for text in ("before", "kept"):
            self.assertIn(text, texts + shown)

    def test_a_superblock_that_cannot_be_written_once_costs_the_last_one_no_trust(self) -> None:
        """All die, one comes back and begins a view alone: nobody else may ever restart the cluster."""
        self.story.kill(0)

        def fault(process: Process, call: str, path: str) -> OSError | None:
            self.story.checks.look_at_register()
            view = self.story.checks.view
            if call != "sync" or not path.endswith("/superblock") or view is None or not view.reason.startswith("restart"):
                return None
            self.errors += 1
            self.story.lose(process, sys._getframe(3).f_locals["fd"])
            return OSError(errno.EIO, "EIO", path)

        self.world.disk_fault = fault
        self.story.checks.spoiled[0] = self.world.now
        self.story.start(0)
        self.assertTrue(self.world.run(self.world.now + 5, lambda: not self.world.processes[0].alive))
        self.assertEqual(self.errors, 1, "a file that could not be synced was written again")
        self.world.disk_fault = self.story.on_disk
        self.story.start(0)
        self.assertTrue(self.ask("3|g0|after", seconds=5), str(self.story.states()))
        self.assertEqual(self.server_now().storage.damage, "")

    def server_now(self) -> Server:
        return self.world.processes[0].server


class RegisterTrouble(Case):
    """Something is wrong with data/cluster while three replicas serve."""

    def setUp(self) -> None:
        super().setUp()
        self.story = Story(trace=True)
        self.world = self.story.world
        for replica in range(3):
            self.story.start(replica)
        self.guest = SimGuest(self.world, self.story.checks, "g0", 0)
        self.story.checks.guests = self.story.guests = [self.guest]
        self.assertTrue(self.ask("1|g0"))

    def ask(self, line: str, *, seconds: float = 4.0) -> bool:
        self.guest.ask(line)
        return self.world.run(self.world.now + seconds, lambda: self.guest.is_done)

    def base(self) -> SimDirectory:
        base = self.world.files.find(BASE)
        assert isinstance(base, SimDirectory)
        return base

    def test_47_no_view_is_decided_in_a_directory_that_took_the_place_of_the_register(self) -> None:
        own = self.base().entries["cluster"]
        other = self.base().entries["cluster"] = SimDirectory(self.world.files.new_inode())
        self.story.kill(2)
        self.world.run(self.world.now + 3)
        self.assertEqual([name for name in other.entries if name.startswith("view-")], [])
        self.assertEqual(len(self.world.living()), 2)
        self.assertIn("no view can be decided, tries again in 1 s: data/cluster was moved or deleted", "\n".join(self.world.story))
        self.base().entries["cluster"] = own
        self.assertTrue(self.ask("3|g0|after"))
        view = self.story.checks.view
        self.assertEqual(view.replicas if view else (), (0, 1))

    def test_33_a_view_that_cannot_be_read_decides_nothing_and_ends_nobody(self) -> None:
        self.assertTrue(self.ask("3|g0|before"))
        cluster = self.base().entries["cluster"]
        assert isinstance(cluster, SimDirectory)
        rotten = SimFile(self.world.files.new_inode())
        rotten.write(b"USV1 and nothing that fits", 0)
        cluster.entries["view-0000000002"] = rotten
        self.story.kill(2)
        self.world.run(self.world.now + 3)
        self.assertEqual(len(self.world.living()), 2)
        self.assertIn("the register cannot be read", "\n".join(self.world.story))
        del cluster.entries["view-0000000002"]
        self.assertTrue(self.ask("3|g0|after"))


if __name__ == "__main__":
    unittest.main()
