"""The operator's last resorts on simulated disks: what they refuse, what they write, and what comes back afterwards."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import random
import unittest
from collections.abc import Callable, Iterator
from unittest import mock

from batches import NO_HASH, Batch
from commands import system_run
from disk import Ballast
from evidence import examine, shown, stamp
from growing import Growing
from last_resort import LastResort, Refused
from packets import Member, View
from policy import ERA
from register import Register
from settings import Address, Settings, parse
from storage import Storage
from superblock import Superblock
from tests.simulator.disk import Entry, SimDirectory, SimDisk, SimFile, SimFiles
from tests.simulator.faults import clone

BASE, NAME, WALL = "data", "dormitory", 1_700_000_000_000_000
LINES = """
cluster: {{name: dormitory, policy: {policy}}}
replicas:
  - {{id: 0, peer: "127.0.0.1:7661", doors: {{pipe: 6666}}}}
  - {{id: 1, peer: "127.0.0.1:7662", doors: {{pipe: 6667}}}}
  - {{id: 2, peer: "127.0.0.1:7663", doors: {{pipe: 6668}}}}
"""


def settings_of(policy: str) -> Settings:
    return parse(LINES.format(policy=policy).encode(), "cluster.yaml")


def chain(count: int, view: int, fork: str = "", shared: int = 0) -> list[Batch]:
    """Batches of one command each; from `shared` on they are those of another history."""
    batches: list[Batch] = []
    for op in range(1, count + 1):
        body = system_run(f"members|0.{op}{fork if op > shared else ''}")
        prev = batches[-1].hash if batches else NO_HASH
        batches.append(Batch(first_op=op, count=1, view=view, time=WALL + op, prev_hash=prev, body=body))
    return batches


def contents(entry: Entry | None, path: str = "") -> dict[str, bytes]:
    """Every file below, byte for byte."""
    if isinstance(entry, SimDirectory):
        found = {f"{path}/": b""}
        for name, inner in entry.entries.items():
            found.update(contents(inner, f"{path}/{name}"))
        return found
    return {path: bytes(entry.content)} if isinstance(entry, SimFile) else {}


class LastResortTest(unittest.TestCase):
    policy = "survivor"

    def setUp(self) -> None:
        # Zeros that are compared and copied again and again prove nothing.
        self.enterContext(mock.patch.multiple("journal", SEGMENT_BYTES=64 << 10, FIRST_BYTES=32 << 10))
        self.enterContext(mock.patch.object(Ballast.__init__, "__defaults__", (64 << 10,)))
        self.files = SimFiles(random.Random(3))
        self.disk = SimDisk(random.Random(5), self.files)
        self.settings = settings_of(self.policy)
        self.said: list[str] = []
        self.listening: set[int] = set()
        self.incs = [0, 0, 0]

    def open(self, replica: int) -> Storage:
        """This replica's next incarnation, as a start does it."""
        storage = Storage(SimDisk(random.Random(4), self.files), BASE, replica, NAME, self.said.append)
        blank = Superblock(cluster="", replica=replica, replicas=3, config_hash="c", format_nonce=b"nonce678", inc=0)
        storage.open(blank, WALL)
        self.incs[replica] = storage.inc
        return storage

    def end(self, storage: Storage) -> None:
        disk = storage.disk
        assert isinstance(disk, SimDisk)
        disk.kill()

    def live(self, replica: int, batches: list[Batch], view: int) -> None:
        """It stored these, as the log of this view, and died."""
        storage = self.open(replica)
        storage.append([b for b in batches if b.op > storage.journal.head_op])
        storage.save_log_view(view, view)
        storage.note_durable(batches[-1].op, sync=True)
        self.end(storage)

    def decide(self, number: int, *members: int, op: int = 0, tip: bytes = NO_HASH) -> None:
        """The register's next view; without the time, this is what the policy writes."""
        register = Register(self.disk, f"{BASE}/cluster", NAME)
        last = register.last()
        there = tuple(Member(i, self.incs[i]) for i in members)
        register.propose(View(NAME, number, there[0], there, op, tip, "a test", 0, False, last.chain_hash() if last else NO_HASH))
        register.close()

    def resort(self, replica: int, *, name: str = NAME, disk: SimDisk | None = None) -> Growing:
        """As `server.py` makes one, whichever command it is for."""
        ports = {r.peer: r.id for r in self.settings.replicas}

        def reaches(address: Address) -> bool:
            return ports[address] in self.listening

        return Growing(
            disk or SimDisk(random.Random(6), self.files),
            self.settings,
            BASE,
            replica,
            confirm=lambda: name,
            say=self.said.append,
            wall=lambda: WALL,
            reaches=reaches,
        )

    def carry_out(self, replica: int, command: Callable[[Growing], None], name: str = NAME) -> None:
        last = self.resort(replica, name=name)
        try:
            command(last)
        finally:
            last.release()

    def force(self, replica: int, *copies: int, name: str = NAME) -> None:
        self.carry_out(replica, lambda last: last.force_new_view(copies), name)

    def truncate(self, replica: int) -> None:
        self.carry_out(replica, LastResort.truncate_corrupt_tail)

    def stopped(self, kinds: tuple[str, ...], copies: tuple[int, ...], least: int) -> Iterator[bool]:
        """From the same files again and again: the disk fails at an ever later call, then the power. Yields whether all was done."""
        whole, calls, ended = clone(self.files.find(BASE)), 0, False
        while not ended:
            calls += 2
            root, _ = self.files.parent(BASE)
            root.entries[BASE] = clone(whole)
            self.files.changes.clear()
            disk = SimDisk(random.Random(calls), self.files)
            disk.fault = after(calls, kinds)
            last = self.resort(2, disk=disk)
            with contextlib.suppress(OSError):
                last.force_new_view(copies)
                ended = True
            disk.kill()
            self.files.crash()
            yield ended
        self.assertGreater(calls, least)

    def refuses(self, words: str, act: Callable[[], None]) -> None:
        """It says this, and not a byte is another one afterwards."""
        before = contents(self.files.find(BASE))
        with self.assertRaisesRegex(Refused, words):
            act()
        self.assertEqual(contents(self.files.find(BASE)), before)

    def lose(self, *replicas: int) -> dict[int, Entry]:
        """Their disks are not here any more; returned for those that come back."""
        base = self.files.find(BASE)
        assert isinstance(base, SimDirectory)
        return {i: base.entries.pop(f"replica-{i}") for i in replicas}

    def come_back(self, replica: int, entry: Entry) -> None:
        base = self.files.find(BASE)
        assert isinstance(base, SimDirectory)
        base.entries[f"replica-{replica}"] = clone(entry)

    def decisions(self) -> list[list[str]]:
        text = bytes(self.files.file(f"{BASE}/cluster/decisions.csv").content).decode()
        return list(csv.reader(io.StringIO(text)))

    def rot(self, replica: int, op: int) -> None:
        """A bit of the body of this batch, which has a sector of its own, is another one."""
        name = next(n for n in self.disk.listdir(f"{BASE}/replica-{replica}/journal") if n.endswith(".seg"))
        self.files.flip(f"{BASE}/replica-{replica}/journal/{name}", (512 * op + 60) * 8)

    def shows(self, words: str) -> None:
        self.assertIn(words, "\n".join(self.said))


class SurvivorTest(LastResortTest):
    """Views 1 {0, 1, 2} to op 5, then view 2 {0, 1} to op 9; replica 2 was voted out."""

    def setUp(self) -> None:
        super().setUp()
        self.log = chain(9, 1)
        for i in range(3):
            self.live(i, self.log[:5], 1)
        self.decide(1, 0, 1, 2, op=5, tip=self.log[4].hash)
        for i in (0, 1):
            self.live(i, self.log, 2)
        self.decide(2, 0, 1, op=6, tip=self.log[5].hash)

    def last(self) -> View:
        register = Register(self.disk, f"{BASE}/cluster", NAME)
        view = register.last()
        register.close()
        assert view is not None
        return view

    def test_it_goes_on_from_the_one_that_is_left(self) -> None:
        self.lose(0, 1)
        self.force(2)
        view = self.last()
        self.assertEqual((view.number, view.forced, view.replicas, view.op, view.hash), (3, 3, (2,), 5, self.log[4].hash))
        for words in ("after op 5", "replica 0 has held op 9: ops 6 to 9 may be lost", "ops 6 to 6 were acknowledged before that view"):
            self.shows(words)
        self.shows("nothing is known here of what replica 0, 1 acknowledged")
        self.shows("its last batch, ops 5 to 5, may never have been acknowledged")
        self.assertNotIn("without this disk", "\n".join(self.said))
        columns, row = self.decisions()
        self.assertEqual(columns[2:7], ["command", "cluster", "replica", "view", "op"])
        self.assertEqual(row[2:7], ["force-new-view", NAME, "2", "3", "5"])
        self.assertIn("ops 6 to 9 may be lost", row[7])
        storage = self.open(2)
        self.assertEqual((storage.damage, storage.journal.head_op, storage.superblock.forced), ("", 5, 3))
        self.assertGreaterEqual(storage.inc, view.primary.inc)

    def test_who_comes_back_sets_its_log_aside(self) -> None:
        lost = self.lose(0, 1)
        self.force(2)
        self.come_back(0, lost[0])
        self.lose(2)
        self.refuses("that is not the cluster's name", lambda: self.force(0, name=""))
        self.shows("in a view that an operator forced without this disk")
        storage = self.open(0)
        self.assertIn("view 3 was forced by an operator", storage.damage)
        self.assertEqual((storage.journal.head_op, storage.superblock.log_view, storage.superblock.suspect), (0, 0, True))
        kept = examine(self.disk, f"{BASE}/replica-0/given-up-3/..", 0, NAME, None)
        self.assertFalse(kept.op)
        self.assertIn("journal", self.disk.listdir(f"{BASE}/replica-0/given-up-3"))
        self.end(storage)
        again = self.open(0)
        self.assertTrue(again.damage, "nobody has given it the log yet")
        again.append(self.log[:5])
        self.end(again)
        half = self.open(0)
        self.assertEqual(half.superblock.forced, 3)
        self.assertEqual(self.disk.listdir(f"{BASE}/replica-0").count("given-up-3"), 1)
        half.append([b for b in self.log[:5] if b.op > half.journal.head_op])
        half.save_log_view(4, 4)
        self.end(half)
        self.assertEqual((done := self.open(0)).damage, "")
        self.assertEqual(done.journal.head_op, 5)

    def test_a_power_cut_while_it_is_set_aside(self) -> None:
        lost = self.lose(0, 1)
        self.force(2)
        for calls in range(1, 40, 3):
            with self.subTest(calls=calls):
                self.come_back(0, lost[0])
                self.files.changes.clear()
                disk = SimDisk(random.Random(calls), self.files)
                storage = Storage(disk, BASE, 0, NAME, self.said.append)
                disk.fault = after(calls, ("pwrite", "sync", "rename", "mkdir", "sync_dir", "unlink", "open"))
                blank = Superblock(cluster="", replica=0, replicas=3, config_hash="c", format_nonce=b"nonce678", inc=0)
                with contextlib.suppress(OSError):
                    storage.open(blank, WALL)
                disk.kill()
                self.files.crash()
                storage = self.open(0)
                self.assertTrue(storage.damage)
                self.assertEqual(storage.journal.head_op, 0, "its log counts no more")
                self.end(storage)
                self.assertIn("journal", self.disk.listdir(f"{BASE}/replica-0/given-up-3"))

    def test_a_wrong_name(self) -> None:
        self.lose(0, 1)
        self.refuses("that is not the cluster's name", lambda: self.force(2, name="kitchen"))
        self.refuses("that is not the cluster's name", lambda: self.force(2, name=""))

    def test_while_a_replica_runs(self) -> None:
        for runs in range(3):
            storage = self.open(runs)
            self.refuses(f"replica {runs} runs", lambda: self.force(2))
            self.refuses(f"replica {runs} runs", lambda: self.truncate(2))
            self.end(storage)

    def test_while_a_member_of_the_last_view_is_whole(self) -> None:
        self.refuses("there is no need: .* when replica 0, 1 is started", lambda: self.force(0))
        self.refuses("replica 0 holds more than replica 2", lambda: self.force(2))
        self.lose(0)
        self.refuses("replica 1 holds more than replica 2", lambda: self.force(2))

    def test_a_member_whose_disk_lies_does_not_stand_in_the_way(self) -> None:
        """Its log was cut short by a disk that lies, and looks whole; another one that was not in the view holds more."""
        self.lose(0, 1)
        self.live(0, self.log[:7], 2)
        self.live(1, self.log, 2)
        self.decide(3, 0, op=6, tip=self.log[5].hash)
        self.force(1)
        self.assertEqual((self.last().number, self.last().op), (4, 9))

    def test_one_that_holds_nothing(self) -> None:
        self.lose(0, 1, 2)
        self.refuses("replica 2 holds nothing to go on from", lambda: self.force(2))
        self.end(self.open(2))
        self.refuses("holds nothing to go on from", lambda: self.force(2))

    def test_no_cluster_there(self) -> None:
        last = LastResort(
            SimDisk(random.Random(1), SimFiles(random.Random(2))),
            self.settings,
            "elsewhere",
            0,
            confirm=str,
            say=self.said.append,
            wall=lambda: WALL,
            reaches=lambda address: False,
        )
        with self.assertRaisesRegex(Refused, "there is no cluster in elsewhere"):
            last.force_new_view(())
        last.release()

    def test_a_disk_of_another_cluster(self) -> None:
        storage = self.open(1)
        storage.save(cluster="kitchen")
        self.end(storage)
        self.refuses("the place of replica 1 belongs to replica 1 of the cluster 'kitchen'", lambda: self.force(2))

    def test_a_disk_of_another_replica(self) -> None:
        storage = self.open(1)
        storage.save(replica=0)
        self.end(storage)
        self.refuses("the place of replica 1 belongs to replica 0 of the cluster 'dormitory'", lambda: self.force(2))

    def test_copies_are_for_the_other_policy(self) -> None:
        self.lose(0, 1)
        self.refuses("copies are for policy majority", lambda: self.force(2, 0))

    def test_a_disk_that_was_marked(self) -> None:
        """A sync failed on it, and nobody else is left."""
        self.lose(1, 2)
        storage = self.open(0)
        storage.save(suspect=True)
        self.end(storage)
        self.force(0)
        self.shows("an earlier write failed on this disk")
        again = self.open(0)
        self.assertEqual((again.damage, again.journal.head_op), ("", 9))

    def test_a_superblock_that_is_lost(self) -> None:
        self.lose(1, 2)
        for bit in (0, 4096 * 8):
            self.files.flip(f"{BASE}/replica-0/superblock", bit)
        self.force(0)
        again = self.open(0)
        self.assertEqual((again.damage, again.journal.head_op), ("", 9))
        self.end(again)

    def test_a_superblock_that_was_made_for_a_lost_one(self) -> None:
        self.lose(1, 2)
        for bit in (0, 4096 * 8):
            self.files.flip(f"{BASE}/replica-0/superblock", bit)
        self.end(self.open(0))
        self.force(0)
        again = self.open(0)
        self.assertEqual((again.damage, again.journal.head_op), ("", 9))

    def test_the_register_is_lost_and_so_is_a_disk(self) -> None:
        self.lose(2)
        for name in self.disk.listdir(f"{BASE}/cluster"):
            if name.startswith("view-"):
                self.disk.unlink(f"{BASE}/cluster/{name}")
        self.force(0)
        self.assertEqual((self.last().number, self.last().replicas), (3, (0,)))

    def test_the_register_is_lost_and_all_are_whole(self) -> None:
        for name in self.disk.listdir(f"{BASE}/cluster"):
            if name.startswith("view-"):
                self.disk.unlink(f"{BASE}/cluster/{name}")
        self.refuses("when replica all of 0, 1, 2 is started", lambda: self.force(0))

    def test_the_register_cannot_be_read(self) -> None:
        self.files.flip(f"{BASE}/cluster/view-0000000002", 100)
        self.refuses("is damaged: .* Move all view-\\* files out of data/cluster", lambda: self.force(0))

    def test_the_register_is_older_than_the_replicas(self) -> None:
        self.disk.unlink(f"{BASE}/cluster/view-0000000002")
        self.refuses("replica 0, 1 has worked in a later view than the register knows", lambda: self.force(0))

    def test_a_crash_at_any_write_leaves_it_undone_or_done(self) -> None:
        """Whatever was reached, the same command can be given again, and then it is done."""
        self.lose(0, 1)
        for ended in self.stopped(("pwrite", "sync", "sync_dir", "link", "rename", "open"), (), least=10):
            if not ended:
                with contextlib.suppress(Refused):  # it was done, all but the last word of it
                    self.force(2)
            storage = self.open(2)
            self.assertEqual((storage.damage, storage.journal.head_op), ("", 5))
            self.assertEqual((self.last().replicas, self.last().forced > 2), ((2,), True))
            self.end(storage)


class TailTest(LastResortTest):
    """One replica of three is left; the last batch of its log has rotted."""

    def setUp(self) -> None:
        super().setUp()
        self.log = chain(9, 1)
        for i in range(3):
            self.live(i, self.log, 1)
        self.decide(1, 0, 1, 2)
        self.rot(0, 9)

    def test_to_cut_it_is_not_to_believe_it(self) -> None:
        self.lose(1, 2)
        self.refuses("cannot be read to its end: .*, first: server.py truncate-corrupt-tail --replica 0", lambda: self.force(0))
        before = bytes(self.files.file(self.segment()).content)
        self.truncate(0)
        self.shows("at op 8, this may be lost")
        self.shows("replica 0 has held op 9: ops 9 to 9 may be lost")
        kept = next(name for name in self.disk.listdir(f"{BASE}/replica-0") if name.startswith("cut-"))
        copied = self.disk.listdir(f"{BASE}/replica-0/{kept}")[0]
        self.assertEqual(bytes(self.files.file(f"{BASE}/replica-0/{kept}/{copied}").content), before)
        found = examine(self.disk, BASE, 0, NAME, None)
        self.assertEqual((found.op, found.tail), (8, ""))
        self.assertIn("an earlier write failed on this disk", found.doubt)
        self.refuses("can be read to its end, op 8: there is nothing to cut", lambda: self.truncate(0))
        self.force(0)
        storage = self.open(0)
        self.assertEqual((storage.damage, storage.journal.head_op), ("", 8))
        self.assertEqual([row[2] for row in self.decisions()[1:]], ["truncate-corrupt-tail", "force-new-view"])

    def segment(self) -> str:
        path = f"{BASE}/replica-0/journal"
        return f"{path}/{next(n for n in self.disk.listdir(path) if n.endswith('.seg'))}"

    def test_in_the_middle(self) -> None:
        self.lose(1, 2)
        self.rot(0, 4)
        self.truncate(0)
        self.force(0)
        storage = self.open(0)
        self.assertEqual((storage.damage, storage.journal.head_op), ("", 3))

    def test_not_while_another_is_whole(self) -> None:
        self.refuses("the disk of replica 1, 2 is whole", lambda: self.truncate(0))
        self.refuses("the log of replica 1 can be read to its end, op 9", lambda: self.truncate(1))

    def test_a_log_without_a_beginning(self) -> None:
        self.lose(1, 2)
        self.disk.unlink(self.segment())
        self.truncate(0)
        self.refuses("can be read to its end, op 0", lambda: self.truncate(0))


class MajorityTest(LastResortTest):
    policy = "majority"

    def setUp(self) -> None:
        super().setUp()
        self.log = chain(9, 3)
        for i in range(3):
            self.live(i, self.log, 3)

    def test_as_many_copies_as_a_majority_needs(self) -> None:
        self.lose(0, 1)
        self.force(2, 0)
        era = WALL // 10**6 * ERA
        for i in (0, 2):
            storage = self.open(i)
            sb = storage.superblock
            self.assertEqual((storage.damage, storage.journal.head_op, storage.journal.head_hash), ("", 9, self.log[-1].hash))
            self.assertEqual((sb.replica, sb.view, sb.log_view, sb.forced), (i, era + 2, era + 2, era + 2))
            self.assertGreater(dict(sb.met)[2 - i], WALL)
            self.assertNotIn(i, dict(sb.met))
            self.end(storage)
        self.assertEqual(self.decisions()[1][5], str(era + 2))
        self.shows("in a view that an operator forced without this disk, if there is one")

    def test_a_later_era_outranks_one_that_a_clock_put_into_the_future(self) -> None:
        ahead = (WALL // 10**6 + 1000) * ERA + 7
        self.live(2, self.log, ahead)
        self.lose(0, 1)
        self.force(2, 1)
        self.assertEqual(self.open(2).superblock.view, (WALL // 10**6 + 1001) * ERA + 2)

    def test_while_something_listens_where_another_should_be(self) -> None:
        self.lose(0, 1)
        self.listening = {1}
        self.refuses("something listens at 127.0.0.1:7662, where replica 1 lives", lambda: self.force(2, 0))
        self.refuses("something listens at 127.0.0.1:7662", lambda: self.truncate(2))

    def test_a_majority_of_whole_disks(self) -> None:
        self.lose(0)
        self.refuses("there is no need: replica 1, 2 are whole and a majority", lambda: self.force(2, 0))

    def test_copies(self) -> None:
        self.lose(0, 1)
        for copies in ((), (0, 1), (2,), (0, 0), (7,)):
            self.refuses("nothing goes on without 2 of 3 replicas: say with --copy which 1", lambda c=copies: self.force(2, *c))  # type: ignore[misc]
        storage = self.open(1)
        storage.append(self.log[:2])
        self.end(storage)
        self.refuses("data/replica-1 is not empty: move it aside", lambda: self.force(2, 1))

    def test_a_crash_at_any_write_loses_nothing(self) -> None:
        self.lose(0, 1)
        for ended in self.stopped(("pwrite", "sync", "sync_dir", "rename", "open"), (0,), least=15):
            if not ended:
                self.lose(*([0] if self.disk.exists(f"{BASE}/replica-0") else []))
                self.force(2, 0)
            for i in (0, 2):
                storage = self.open(i)
                self.assertEqual((storage.damage, storage.journal.head_op, storage.superblock.view // ERA > 0), ("", 9, True))
                self.end(storage)


class WordsTest(unittest.TestCase):
    def test_a_view_of_an_era_is_shown_with_its_second(self) -> None:
        self.assertEqual(shown(17), "17")
        self.assertEqual(shown(1_700_000_000 * ERA + 17), f"17 of {stamp(WALL)}")


def after(calls: int, kinds: tuple[str, ...]) -> Callable[[str, str, str], OSError | None]:
    """The disk fails at the nth such call, and at all that follow."""
    left = [calls]

    def fault(call: str, site: str, path: str) -> OSError | None:
        if call not in kinds:
            return None
        left[0] -= 1
        return OSError(errno.EIO, "failed", path) if left[0] <= 0 else None

    return fault


if __name__ == "__main__":
    unittest.main()
