"""Every place in the program that writes, syncs, renames, links or opens meets ENOSPC, EIO and short writes, one at a time.

What it is not: errors come singly and at known places here; `tests/simulator` throws them in among everything else.

The stories of `tests/disk_stories.py` are run once without errors, which counts the calls of each site; the sites are those of the syntax
trees, so a new one that no story leads to fails here. Then they are run again for each site and error, with the checks of the simulator
looking on. `python -m tests.prove_disk_errors --sites` prints the list.

Read next: `tests/disk_stories.py`, `tests/simulator/checks.py`.
"""

from __future__ import annotations

import ast
import errno
import functools
import os
import sys
import tempfile
import unittest
from unittest import mock

from handshake import SECRET_SIZE, SecretRefused, load_secret
from replication import NORMAL, READ_ONLY
from server import Server
from survivor import Survivor
from tests.disk_stories import ERRORS, SITES, SIZES, UNVISITED, WEIGHTY, WORKER, Plan, Site, Story, Trouble, functions_of
from tests.simulator import mix as mixes
from tests.simulator.disk import SimDirectory, SimFile
from tests.simulator.guests import SimGuest
from tests.simulator.world import BASE, Process, Violation
from tests.test_house_rules import PRODUCT, TREES

STORIES: tuple[type[Story], ...] = (Story, Trouble)


class Case(unittest.TestCase):
    def setUp(self) -> None:
        mixes.shrink(SIZES)
        self.addCleanup(mixes.restore)


@functools.cache
def counted() -> dict[type[Story], dict[tuple[int, Site], int]]:
    """Calls by story, replica and site."""
    counts = {}
    for kind in STORIES:
        with kind.sizes():
            story = kind()
            story.tell()
        counts[kind] = {key: count for key, count in story.counts.items() if key[1][0] in ERRORS}
    return counts


class EverySite(Case):
    counts: dict[type[Story], dict[tuple[int, Site], int]]

    def setUp(self) -> None:
        super().setUp()
        self.counts = counted()

    def test_the_stories_visit_every_site_of_the_syntax_trees(self) -> None:
        """A site that is not visited is not tested: the stories must lead through all that may fail."""
        visited = {(call, name.removeprefix(WORKER)) for counts in self.counts.values() for _, (call, name) in counts}
        self.assertEqual(set(SITES.values()) - visited, set(UNVISITED))
        self.assertGreater(len(visited), 80)

    def test_a_learner_that_finds_most_files_at_home_is_there_soon(self) -> None:
        """It reads some forty of them; a look at one in each tick was so slow that the transfer began again and again."""
        with Trouble.sizes():
            story = Trouble(trace=True)
            story.tell()
        came = [float(line.split()[0]) for line in story.world.story if " 1: installed the snapshot" in line]
        self.assertTrue(any(6.9 < when < 7.2 for when in came), f"lost its superblock at 6.8 s, installed at {came}")

    def test_each_error_at_each_site(self) -> None:
        """Nothing acknowledged is lost, nothing unsynced is acknowledged, and the others go on."""
        failed = []
        for kind, plan in sample(plans(self.counts)):
            with kind.sizes():
                story = kind(plan)
                try:
                    story.tell()
                except Violation as error:
                    failed.append(f"{kind.__name__}, {plan}: {error}")
            if story.struck is None:
                failed.append(f"{kind.__name__}, {plan}: did not happen")
        self.assertEqual(failed, [])


# Functions that reach files without `Disk`, and why none of them can break a promise.
WITHOUT_DISK = {
    "handshake.load_secret": "the cluster's secret, once; see the next test",
    "handshake._read_secret": "reads it",
    "snapshot_worker.Worker.run": "a pipe to its server",
    "host.LoopHost.start_admin": "a socket; a replica that cannot make it does not start",
    "host.short_path": "a name for it",
    "links.Links.start": "another socket; the others dial the port of a replica that cannot make it",
    "logbook.start_log": "the log for people; a replica that cannot have one does not start",
    "logbook._fill": "/dev/null, where a standard descriptor is closed",
    "compiled.name_of": "the program's own sources, read",
    **dict.fromkeys(
        ("admin.owner_of", "admin._listening_inode", "handshake.boot_id", "operators._is_alive", "operators._is_ours", "disk.file_system"),
        "the kernel's files, read",
    ),
    "credentials._read": "certificates, read once; a replica that cannot read them does not start",
    **dict.fromkeys(("certificates.make", "certificates._load_ca", "certificates._write"), "`make-certs`, which runs beside the replicas"),
    "marked_yaml.read_file": "cluster.yaml, read",
    **dict.fromkeys(("memory.history", "memory.claim", "memory._free_files"), "a client's files; without them it remembers nothing"),
    **dict.fromkeys(("memory.Memory.save", "memory.Memory.remove"), "the same"),
    "terminal.hush": "the terminal",
}
FILE_CALLS = {
    *("open", "fdopen", "write", "pwrite", "fsync", "fdatasync", "ftruncate", "rename", "replace", "link", "unlink", "remove", "mkdir"),
    *("makedirs", "symlink", "rmtree", "posix_fallocate", "chmod", "mkstemp"),
}


class WithoutDisk(unittest.TestCase):
    """What does not go through `Disk` cannot be made to fail by a story: it is named one by one."""

    def test_nobody_else_reaches_files(self) -> None:
        found = set()
        for module, path in PRODUCT.items():
            for name, function in functions_of(TREES[path]):
                for step in ast.walk(function):
                    called = ast.unparse(step.func) if isinstance(step, ast.Call) else ""
                    place, _, call = called.rpartition(".")
                    is_file = place in ("os", "shutil", "tempfile") and call in FILE_CALLS
                    if (is_file or called in ("open", "LogFile")) and not name.startswith("OsDisk."):
                        found.add(f"{module}.{name}")
        self.assertEqual(found, set(WITHOUT_DISK))

    def test_a_secret_is_whole_or_not_there(self) -> None:
        for call in ("open", "fdopen", "fsync", "link", "unlink"):
            for number in (errno.ENOSPC, errno.EIO):
                with self.subTest(call, error=errno.errorcode[number]), tempfile.TemporaryDirectory() as place:
                    with (
                        mock.patch(f"handshake.os.{call}", side_effect=OSError(number, "planted")),
                        self.assertRaises((OSError, SecretRefused)),
                    ):
                        load_secret(f"{place}/secret")
                    self.assertEqual(len(load_secret(f"{place}/secret")), SECRET_SIZE)

    def test_a_secret_that_was_written_short_is_not_taken(self) -> None:
        with tempfile.TemporaryDirectory() as place:
            with open(f"{place}/secret", "wb") as file:
                os.chmod(file.fileno(), 0o600)
                file.write(b"ab" * (SECRET_SIZE - 1))
            with self.assertRaisesRegex(SecretRefused, "does not hold 64 hexadecimal digits"):
                load_secret(f"{place}/secret")


Told = tuple[type[Story], Plan]


def plans(counts: dict[type[Story], dict[tuple[int, Site], int]]) -> list[Told]:
    """Which errors, where: for each site and error one replica's first call and another's middle one; more for weighty sites."""
    made: list[Told] = []
    for kind, counted in counts.items():
        by_site: dict[Site, dict[int, int]] = {}
        for (replica, site), count in counted.items():
            by_site.setdefault(site, {})[replica] = count
        for turn, (site, calls) in enumerate(sorted(by_site.items())):
            for step, error in enumerate(ERRORS[site[0]]):
                victims = sorted(calls)
                first, other = victims[(turn + step) % len(victims)], victims[(turn + step + 1) % len(victims)]
                made.append((kind, Plan(site, error, first, 1)))
                if calls[other] > 1:
                    made.append((kind, Plan(site, error, other, (calls[other] + 1) // 2)))
                if site in WEIGHTY:
                    made += [(kind, Plan(site, error, i, n)) for i in victims for n in range(2, calls[i], max(1, calls[i] // 6))]
    return made


def sample(every: list[Told]) -> list[Told]:
    """One error for each site and some of the rest; with DISK_ERRORS=all, all of them, with DISK_ERRORS=2/8 the second of eight parts."""
    wanted = os.environ.get("DISK_ERRORS", "")
    if wanted:
        part, of = (1, 1) if wanted == "all" else map(int, wanted.split("/"))
        assert 1 <= part <= of, f"DISK_ERRORS={wanted}: there is no such part"
        return every[part - 1 :: of]
    first = {plan.site: (kind, plan) for kind, plan in reversed(every)}
    return [told for number, told in enumerate(every) if first[told[1].site] == told or number % 9 == 0]


def show_sites() -> None:
    """The list of sites: which errors they get, how often the stories call them, how many runs that makes."""
    mixes.shrink(SIZES)
    counts = counted()
    made = plans(counts)
    print("| call | where | calls in the stories | errors | runs |\n| --- | --- | --- | --- | --- |")
    for call, name in sorted({site for kind in counts.values() for _, site in kind} | set(UNVISITED)):
        calls = sum(count for kind in counts.values() for (_, site), count in kind.items() if site == (call, name))
        runs = sum(plan.site == (call, name) for _, plan in made)
        print(f"| {call} | {name} | {calls or UNVISITED[call, name]} | {', '.join(ERRORS[call])} | {runs} |")
    print(f"\n{len(made)} runs")


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

    def test_it_hands_over_though_the_first_that_came_died_in_the_middle(self) -> None:
        self.fail_with(errno.EIO, "sync")
        self.assertFalse(self.ask("3|g0|in flight"))
        self.story.start(1)
        late = self.world.now + 5
        policy = self.server.policy
        assert isinstance(policy, Survivor)
        while policy.joint is None and self.world.now < late:
            self.world.run(self.world.now + 0.0005)
        self.assertIsNotNone(policy.joint)
        self.story.kill(1)
        self.story.start(1)
        self.assertTrue(self.world.run(self.world.now + 20, lambda: self.guest.is_done), f"nobody took over: {self.story.states()}")

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
        """The last member cannot distrust its disk. Started again it reads a batch that no disk holds, and a sync of it succeeds."""
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


class OneDisk(Case):
    """All three replicas on one file system, which has no room left."""

    def setUp(self) -> None:
        super().setUp()
        self.story = Story(trace=True)
        self.world = self.story.world
        self.is_full, self.in_place = False, True

        def fault(process: Process, call: str, path: str) -> OSError | None:
            is_kept = path.endswith(".seg") or "/superblock" in path or "/cluster/proposal-" in path
            if self.is_full and call in ("pwrite", "allocate", "symlink") and "lock" not in path and not (self.in_place and is_kept):
                return OSError(errno.ENOSPC, "ENOSPC", path)
            return None

        self.world.disk_fault = fault
        for replica in range(3):
            self.story.start(replica)
        self.guests = [SimGuest(self.world, self.story.checks, f"g{i}", 0) for i in range(2)]
        self.story.checks.guests = self.story.guests = self.guests
        self.assertTrue(self.ask("1|g0"))
        self.world.run(self.world.now + 1)
        for process in self.world.processes.values():
            self.story.checks.touched.add(process.id)

    def ask(self, line: str, *, guest: int = 0, seconds: float = 4.0) -> bool:
        self.guests[guest].ask(line)
        return self.world.run(self.world.now + seconds, lambda: self.guests[guest].is_done)

    def fill(self) -> None:
        """Until the segment that is there takes no more."""
        self.is_full = True
        for n in range(30):
            if not self.ask(f"3|g0|{n} {'x' * 1500}", seconds=0.5):
                return
        self.fail("it is never full")

    def states(self) -> list[str]:
        return sorted(p.server.replica.status for p in self.world.living() if hasattr(p.server, "replica"))

    def assert_answers_on(self) -> None:
        """Nobody has died; one answers reads, refuses changes and says so, the others say for what they wait."""
        alone = lambda: self.states() == ["learner", "learner", READ_ONLY]  # noqa: E731
        self.assertTrue(self.world.run(self.world.now + 3, alone), str(self.story.states()))
        refused = len(self.story.checks.refused)
        self.assertTrue(self.ask("2", guest=1))
        self.assertTrue(self.ask("1|g1", guest=1))
        self.assertEqual(len(self.story.checks.refused), refused + 1)
        for process in self.world.living():
            row = process.server.on_operator({"verb": "status"})
            words = row["trouble"] if row["status"] == READ_ONLY else row["waiting"]
            self.assertIn("is full", words)

    def assert_heals(self) -> None:
        self.is_full = False
        self.assertTrue(self.world.run(self.world.now + 10, self.story.is_whole), str(self.story.states()))
        self.assertTrue(self.world.run(self.world.now + 3, lambda: all(g.is_done for g in self.guests)))
        self.assertTrue(self.ask("3|g0|after"))
        self.assertTrue(self.world.run(self.world.now + 3, self.story.is_whole))
        self.story.checks.at_end()

    def test_the_cluster_answers_on_and_is_whole_again_by_itself(self) -> None:
        lives = list(self.world.processes.values())
        self.fill()
        self.assert_answers_on()
        self.world.run(self.world.now + 60)
        self.assert_answers_on()
        self.assertEqual(self.world.living(), lives)
        self.assert_heals()
        self.assertEqual(self.world.living(), lives, "nobody had to be started again")

    def test_the_primary_dies_on_it(self) -> None:
        self.fill()
        self.story.kill(0)
        self.story.start(0)
        self.assertTrue(self.world.run(self.world.now + 3, lambda: READ_ONLY in self.states()), str(self.story.states()))
        self.assert_heals()

    def test_where_nothing_at_all_can_be_written_all_wait_and_heal(self) -> None:
        """Not even in place, as on a file system that copies on writing."""
        self.in_place = False
        self.is_full = True
        self.assertFalse(self.ask("3|g0|in flight", seconds=20))
        self.assertEqual(len(self.world.living()), 3)
        self.assert_heals()

    def test_all_die_and_are_started_on_it(self) -> None:
        self.fill()
        for replica in range(3):
            self.story.kill(replica)
        for replica in range(3):
            self.story.start(replica)
        self.assertTrue(self.world.run(self.world.now + 6, lambda: READ_ONLY in self.states()), str(self.story.states()))
        self.assertEqual(len(self.world.living()), 3)
        self.assert_heals()

    def test_a_view_that_needs_more_room_takes_that_of_the_ballast(self) -> None:
        self.world.run(self.world.now + 1)
        self.story.kill(2)
        self.assertTrue(self.ask("3|g0|before"))
        server = self.world.processes[0].server
        self.assertFalse(server.storage.ballast._was_released)
        self.lacking = True

        def fault(process: Process, call: str, path: str) -> OSError | None:
            if call == "unlink" and path.endswith("ballast"):
                self.lacking = False
            return OSError(errno.ENOSPC, "ENOSPC", path) if "proposal" in path and self.lacking else None

        self.world.disk_fault = fault
        self.story.kill(1)
        self.assertTrue(self.ask("3|g0|between"))
        self.assertFalse(self.lacking, "the ballast's room was given back")
        self.story.start(1)
        self.story.start(2)
        self.assertTrue(self.world.run(self.world.now + 10, self.story.is_whole))
        self.world.run(self.world.now + 2)
        self.assertTrue(self.world.files.find(f"{BASE}/replica-0/ballast"), "and is kept again, now that all are there")


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
    show_sites() if "--sites" in sys.argv else unittest.main()
