"""Stories for disk errors: a few simulated seconds that lead through every place in the program that writes, syncs, links or opens.

What it is not: it judges nothing (`tests/simulator/checks.py`), and errors come singly and at known places (`tests/simulator` throws them
in among everything else).

    Story     first start, requests, snapshots, deaths, a join by log, a join by snapshot, a stop
    Trouble   what seldom happens: a torn tail, rot, a lost superblock, a transfer that is broken off, one that finds files at home, a full
              disk, a worker that fails, records that are trimmed

Each ends with a power cut, so that an acknowledgement that a failed sync stood behind would be found missing, and then everybody must
be answered.

Read next: `tests/prove_disk_errors.py`.
"""

from __future__ import annotations

import ast
import contextlib
import errno
import random
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NamedTuple
from unittest import mock

from batches import Batch
from commands import system_run
from disk import SECTOR
from replication import NORMAL, READ_ONLY
from segments import file_name
from tests.simulator import mix as mixes
from tests.simulator.checks import Checks
from tests.simulator.disk import SimDirectory, SimDisk, SimFile
from tests.simulator.guests import SimGuest
from tests.simulator.known import remembered
from tests.simulator.world import BASE, Process, Violation, World
from tests.test_house_rules import PRODUCT, TREES

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
    "try_lock": ("EIO",),
}
VICTIMS = (0, 1, 2)  # which replica's disk fails
ANSWER_S, WHOLE_S = 12.0, 90.0

Site = tuple[str, str]  # call, and the function that makes it, with a number where it makes several
LATE = "late"
# Sites that no story leads to, with the reason.
UNVISITED: dict[Site, str] = {
    ("mkdir", "Journal.open"): "`Storage` has made the directory",
    ("try_lock", "Worker._turn"): "the loop of the worker's own process; one that ends is started anew (tests/test_snapshot_worker.py)",
    **dict.fromkeys((("mkdir", "Supervisor._take_turn"), ("try_lock", "Supervisor._take_turn")), "no replica's (tests/test_supervisor.py)"),
    **dict.fromkeys(
        (
            *(("mkdir", f"LastResort._copy_log #{n}") for n in (1, 2)),
            *(("sync_dir", f"LastResort._copy_log #{n}") for n in (1, 2)),
            *((call, "LastResort._decide") for call in ("open", "pwrite", "sync", "sync_dir")),
            *(("open", "LastResort._copy #2"), ("pwrite", "LastResort._copy"), ("sync", "LastResort._copy")),
            *(("mkdir", "LastResort._cut_tail"), ("sync_dir", "LastResort._cut_tail #1"), ("sync_dir", "LastResort._cut_tail #2")),
            *((call, f"Storage._give_up #{n}") for call in ("mkdir", "sync_dir") for n in (1, 2)),
            ("rename", "Storage._give_up"),
        ),
        "an operator's last resort and what comes back after one: tests/test_last_resort.py stops them at every write",
    ),
}


def find_sites() -> dict[tuple[str, int], Site]:
    """Every call of a disk in the program's syntax trees that may fail, by file and line."""
    sites: dict[tuple[str, int], Site] = {}
    for path in PRODUCT.values():
        for name, function in functions_of(TREES[path]):
            found: dict[str, list[int]] = {}
            for step in ast.walk(function):
                called = step.func if isinstance(step, ast.Call) else None
                if isinstance(called, ast.Attribute) and called.attr in ERRORS and ast.unparse(called.value).endswith("disk"):
                    found.setdefault(called.attr, []).append(called.lineno)
            for call, lines in found.items():
                for number, line in enumerate(sorted(lines), 1):
                    sites[str(path), line] = call, name if len(lines) == 1 else f"{name} #{number}"
    return sites


def functions_of(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    """All functions, those inside others belong to them."""
    for step in ast.iter_child_nodes(tree):
        if isinstance(step, ast.ClassDef):
            yield from functions_of(step, f"{prefix}{step.name}.")
        elif isinstance(step, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield f"{prefix}{step.name}", step


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

    seconds = 6.0
    requests = 100  # of each guest
    think = 0.02  # seconds between two

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
            "think": self.think,
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

    @staticmethod
    def sizes() -> contextlib.AbstractContextManager[Any]:
        """What else must be small; within it the story is told."""
        return contextlib.nullcontext()

    # --- the error ------------------------------------------------------------------------------------------------------------------------

    def on_disk(self, process: Process, call: str, path: str) -> OSError | None:
        """Asked before each call of a replica's disk: which site is it, and is it its turn?"""
        frame = sys._getframe(3)
        error = self.meet(process, process.disk, self.site(call, frame), path)
        if error is not None and call == "sync":
            self.lose(process, frame.f_locals["fd"])
        return error

    def on_worker(self, process: Process, call: str, path: str) -> OSError | None:
        call, name = self.site(call, sys._getframe(3))
        return self.meet(process, process.worker, (call, f"{WORKER}{name}"), path)

    def site(self, call: str, frame: FrameType) -> Site:
        """The call of the disk, and where in the program it is made; a lock's file is opened by `try_lock`."""
        if call not in ERRORS:
            return call, ""
        outer = frame.f_back
        assert outer is not None and frame.f_code.co_qualname == f"SimDisk.{call}", frame.f_code.co_qualname
        if outer.f_code.co_qualname == "SimDisk.try_lock":
            call, outer = "try_lock", outer.f_back
            assert outer is not None
        found = SITES.get((outer.f_code.co_filename, outer.f_lineno))
        assert found is not None and found[0] == call, f"{call} at {outer.f_code.co_filename}:{outer.f_lineno} is no call that SITES knows"
        return found

    def meet(self, process: Process, disk: SimDisk, site: Site, path: str) -> OSError | None:
        disk.short_write = 0.0
        key = (process.id, site)
        self.counts[key] = self.counts.get(key, 0) + 1
        happens = self.happens(process.id, site, self.counts[key])
        plan = self.plan  # before what the story itself has in mind for the same call
        if plan is None or (plan.replica, plan.site) != key or plan.nth != self.counts[key]:
            return self.usual(disk, path, happens)
        self.struck = process
        self.checks.spoiled[process.id] = self.world.now
        self.world.say(f"** {plan} ({path})")
        if plan.error == "short":
            disk.short_write = 1.0
            return None
        return OSError(getattr(errno, plan.error), plan.error, path)

    def usual(self, disk: SimDisk, path: str, happens: str) -> OSError | None:
        """What happens at a call that no plan names."""
        if happens == LATE:
            self.do_link(disk, sys._getframe(5))
            happens = "EIO"
        return OSError(getattr(errno, happens), happens, path) if happens else None

    def do_link(self, disk: SimDisk, frame: FrameType) -> None:
        """What is said to have failed has been done."""
        fault, disk.fault = disk.fault, None
        disk.link(frame.f_locals["old"], frame.f_locals["new"])
        disk.fault = fault

    def happens(self, replica: int, site: Site, nth: int) -> str:
        """What this story has in store here, whatever the plan is: an error's name, or nothing."""
        return ""

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
            process.worker.fault = lambda call, _, path: self.on_worker(process, call, path)

    # --- the story ------------------------------------------------------------------------------------------------------------------------

    def release_all(self) -> None:
        """Nothing is held up any more."""
        for pair in sorted(self.world.blocked):
            self.world.release(*pair)

    def steps(self) -> tuple[tuple[float, Callable[[], Any]], ...]:
        """When what happens."""
        return (
            (1.2, lambda: self.kill(2)),
            (1.7, lambda: self.world.blocked.update(((0, 1), (0, 2)))),  # what it appends now nobody else has: it must be cut later
            (1.8, lambda: self.kill(0)),
            (1.81, self.release_all),
            (2.6, lambda: self.empty(1)),
            (4.0, lambda: self.stop(2)),
        )

    def tell(self) -> None:
        """Raises Violation when a promise is broken."""
        with remembered():
            self._tell()

    def _tell(self) -> None:
        world = self.world
        for replica in range(3):
            world.push(0.01 * replica, None, self.start, replica)
        self.guests = self.checks.guests = [SimGuest(world, self.checks, f"g{i}", self.requests) for i in range(2)]
        for when, step in self.steps():
            world.push(when, None, step)
        world.push(0.5, None, self.tend)
        world.run(self.seconds)
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
        if not self.may_spoil(replica):
            return
        base = self.world.files.find(BASE)
        assert isinstance(base, SimDirectory)
        base.entries.pop(f"replica-{replica}", None)

    def may_spoil(self, replica: int) -> bool:
        """Kill it, and say that its files may be spoiled; not while another disk is in trouble, or where an error kept it from starting."""
        if set(self.checks.spoiled) - {replica} or not self.runs(replica):
            return False
        self.kill(replica)
        self.checks.spoiled[replica] = self.world.now
        return True

    def runs(self, replica: int) -> bool:
        """Whether it is there, and has read its disk."""
        process = self.world.processes.get(replica)
        return process is not None and process.alive and hasattr(process.server, "replica")

    def stop(self, replica: int) -> None:
        process = self.world.processes[replica]
        if self.runs(replica):
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


class Trouble(Story):
    """What seldom happens, one thing after the other."""

    seconds = 9.6
    requests = 5000  # more than there is time for
    think = 0.04

    @staticmethod
    def sizes() -> contextlib.AbstractContextManager[Any]:
        """Records that the register keeps, and bytes that a worker writes between two syncs."""
        stack = contextlib.ExitStack()
        stack.enter_context(mock.patch("register.KEPT", 3))
        stack.enter_context(mock.patch("snapshot_worker.SYNC_EVERY", 256))
        return stack

    def __init__(self, plan: Plan | None = None, *, trace: bool = False) -> None:
        super().__init__(plan, trace=trace)
        self.due: dict[tuple[int, Site], str] = {}
        disk = SimDisk(random.Random(1), self.world.files)
        disk.mkdir(f"{BASE}/cluster")
        disk.close(disk.open(f"{BASE}/cluster/proposal-0", create=True))  # a crash between link and unlink leaves it
        self.world.files.disks.remove(disk)

    def steps(self) -> tuple[tuple[float, Callable[[], Any]], ...]:
        return (
            (0.45, lambda: self.forget(1)),  # all of the log is still there for it
            (1.2, lambda: self.rest(2)),
            (3.0, lambda: self.resting.discard(2)),
            (3.8, self.run_ahead),
            (4.6, lambda: self.tear(1)),
            (5.9, lambda: self.rot(2)),
            (6.7, lambda: self.due.update({(i, ("link", "Register.propose")): "ENOSPC" for i in range(3)})),  # there is the ballast's room
            (6.8, lambda: self.forget(1)),  # it fetches a snapshot, some of whose files it has; the first try is broken off
            (7.0, lambda: self.fail(0, ("rename", "install"), "EIO")),
            (8.4, lambda: self.fail(2, ("pwrite", "Journal.append"), "ENOSPC")),  # it leaves, and comes back when there is room
            (8.6, self.let_go),
        )

    def happens(self, replica: int, site: Site, nth: int) -> str:
        key = (replica, site)
        if key == (1, ("pwrite", "Receiver._write")) and nth == 2:
            self.world.push(self.world.now, None, self.kill, 0)
            self.world.push(self.world.now + 0.02, None, self.fail, 1, ("link", "KeptFile.link"), LATE)
        return self.due.pop(key, "")

    def fail(self, replica: int, site: Site, error: str) -> None:
        """Once, as soon as it is met."""
        self.due[replica, site] = error

    def rest(self, replica: int) -> None:
        """It dies, and stays dead for a while."""
        self.resting.add(replica)
        self.kill(replica)

    def segments(self, replica: int) -> list[SimFile]:
        """The files of its log, oldest first."""
        journal = self.world.files.find(f"{BASE}/replica-{replica}/journal")
        assert isinstance(journal, SimDirectory)
        return [file for name, file in sorted(journal.entries.items()) if name.endswith(".seg") and isinstance(file, SimFile)]

    def tear(self, replica: int) -> None:
        """It dies while it writes a batch, of which the first sector reaches the disk."""
        self.leave(replica, SECTOR)

    def run_ahead(self) -> None:
        """The primary dies when its own disk has a batch and nobody else has heard of it: it will have to cut it."""
        leading = [i for i in range(3) if self.runs(i) and self.world.processes[i].server.replica.serving]
        for replica in leading:
            self.leave(replica, 1 << 20)

    def leave(self, replica: int, size: int) -> None:
        """It dies and leaves at the end of its log what it was to write next, or so much of it."""
        if not self.runs(replica):
            return
        server = self.world.processes[replica].server
        journal, view = server.storage.journal, server.replica.view
        first_op, time, body = journal.head_op + 1, server.replica.time, system_run(f"expire|{'x' * 1200}")  # it may be committed later
        batch = Batch(first_op=first_op, count=1, view=view, time=time, prev_hash=journal.head_hash, body=body)
        at, segment = journal._end, self.segments(replica)[-1]
        is_next = not server.replica.serving or server.replica.commit == journal.head_op
        if not is_next or at + len(batch.image) > len(segment.content):
            # A primary writes nothing before the last batch is committed, and this one would begin another segment.
            self.world.push(self.world.now + 0.002, None, self.leave, replica, size)
            return
        self.kill(replica)
        image = batch.image[:size]
        segment.content[at : at + len(image)] = image

    def rot(self, replica: int) -> None:
        """A bit of its log turns over, and there is a segment behind it."""
        storage = self.world.processes[replica].server.storage
        place = storage.journal._locate(storage.snapshot_op) if self.runs(replica) else None
        if place is not None and place.at + 70 < len(self.segments(replica)[place.nth].content) and self.may_spoil(replica):
            self.segments(replica)[place.nth].content[place.at + 70] ^= 4

    def forget(self, replica: int) -> None:
        """Its superblock is all zeros."""
        if self.may_spoil(replica):
            if self.checks.view is None:
                return  # the others could not give it anything yet
            content = self.world.files.file(f"{BASE}/replica-{replica}/superblock").content
            content[:] = bytes(len(content))
            # And a crash in the middle of an installation has left a segment that nobody names.
            disk = SimDisk(random.Random(1), self.world.files)
            disk.close(disk.open(f"{BASE}/replica-{replica}/journal/{file_name(2, 1)}", create=True))
            self.world.files.disks.remove(disk)

    def let_go(self) -> None:
        """The guests have said all; then workers fail, and a snapshot cannot be put in its place."""
        for guest in self.guests:
            guest.todo = 0
        for replica in range(3):
            self.fail(replica, ("pwrite", f"{WORKER}Sheet.write"), "EIO")
            self.fail(replica, ("remove_tree", f"{WORKER}Folder.abandon"), "EIO")


SITES = find_sites()
WORKER = "worker: "
# Where an acknowledgement stands behind the call: tried at more moments.
WEIGHTY: tuple[Site, ...] = (
    ("pwrite", "Journal.append"),
    ("sync", "Journal._sync"),
    ("sync", "save #1"),
    ("sync_dir", "Journal._sync_dir"),
)
assert set(WEIGHTY) <= set(SITES.values())


def synced_at(process: Process) -> int:
    """How far its log counts as synced."""
    return process.server.replica.synced if hasattr(process.server, "replica") else 0
