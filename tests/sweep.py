"""Every damage to every file of a wreck: each is read by the program's own reader of that file; each finding is also lived through.

What it is not: it makes no files and judges no start (`wreck.py`); the command line is `scripts/corruption_sweep.py`.

A start takes ten milliseconds, and there are 1.6 million places. But all that a start learns of a file is what its reader says:

    file                    reader, run for every place
    journal segment         Journal.open on it and what follows it, from the op before it
    superblock, register    superblock.load, Register.last
    manifest, tables        read_manifest, verified
    lock                    ReplicaLock

So damages of which the reader says the same are one **finding**. The first of each finding, and every `trial`th damage after it, is tried
in a whole start, which must come to the same outcome; the first of each is also repaired beside two healthy replicas.

Read next: `wreck.py`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import superblock
from disk import ReplicaLock
from journal import Journal
from register import Register, RegisterDamaged
from segments import open_segments
from snapshots import MANIFEST, SnapshotDamaged, read_manifest, verified
from tests.ram_disk import RamDisk
from tests.wreck import DURABLE, FLIP, GONE, SECOND, WIPE, WIPE_BUSY, Damage, Unsound, Wreck

TRIAL = 211  # damages of the same finding between two whole starts
NUMBERS = re.compile(r"[0-9]+|'[^']*'|`[^`]*`")


class Row(NamedTuple):
    """What one kind of damage to one file came to. `findings`: outcome and number of damages by what the reader says."""

    kind: str
    path: str
    tried: int
    started: int
    repaired: int
    outcomes: Counter[str]
    findings: dict[str, tuple[str, int]]
    examples: dict[str, str]
    wrong: list[str]


class Sweep:
    """The readers, on files in memory of which one is spoiled at a time."""

    def __init__(self, wreck: Wreck) -> None:
        self.wreck = wreck
        self.whole = {path: bytes(wreck.files.file(path).content) for path in wreck.paths()}
        self.disk = RamDisk(self.whole)
        self.segments = [path for path in self.whole if path.endswith(".seg")]
        self.heads = open_segments(self.disk, self.segments)[0]
        self.manifests = {
            path.rpartition("/")[0]: read_manifest(self.disk, path.rpartition("/")[0], "simulated")
            for path in self.whole
            if path.endswith(MANIFEST)
        }
        self.sound = {path: self.said(path, self.durable(FLIP)) for path in self.whole}

    def durable(self, kind: str) -> int:
        """What the lock file says, as `Wreck.alone` has it: the head, the second snapshot, or a second's work less than the head."""
        index = {FLIP: SECOND, WIPE_BUSY: DURABLE}.get(kind, -1)
        return self.wreck.batches[index].op

    # --- one place ------------------------------------------------------------------------------------------------------------------------

    def finding(self, damage: Damage) -> str | None:
        """What the reader says of it; None: it changes nothing."""
        kind, path, at = damage
        content = self.disk.files[path]
        if kind == FLIP:
            content[at // 8] ^= 1 << at % 8
            try:
                return self.said(path, self.durable(kind))
            finally:
                content[at // 8] ^= 1 << at % 8
        spoiled = b"" if kind == GONE else self.whole[path][:at]
        if kind in (WIPE, WIPE_BUSY):
            spoiled = spoiled.ljust(len(content), b"\0")
        later = [other for other in self.segments if other > path] if kind in (WIPE, WIPE_BUSY) else []
        if spoiled == self.whole[path] and not later:
            return None
        for other in later:
            del self.disk.files[other]
        self.disk.files[path] = bytearray(spoiled)
        if kind == GONE:
            del self.disk.files[path]
        try:
            return self.said(path, self.durable(kind))
        finally:
            self.disk.files.update({name: bytearray(self.whole[name]) for name in (path, *later)})

    def said(self, path: str, durable_op: int) -> str:
        """The words of the program's reader of this file, made comparable."""
        folder, _, name = path.rpartition("/")
        try:
            if name.endswith(".seg"):
                return self._journal(path, durable_op)
            if name == "superblock":
                return self._superblock(path)
            if name.startswith("view-"):
                return self._register(folder)
            if name.endswith(".lock"):
                return self._lock(path)
            if name == MANIFEST:
                read_manifest(self.disk, folder, "simulated")
            else:
                for _ in verified(self.disk, folder, name, self.manifests[folder].files[name]):
                    pass
        except SnapshotDamaged as error:
            return NUMBERS.sub("#", str(error))
        return ""

    def _journal(self, path: str, durable_op: int) -> str:
        """The log from the beginning of this segment on. Where it is damaged stays in the words: another batch is another finding."""
        nth = self.segments.index(path)
        head = self.heads[nth]
        earlier = {other: self.disk.files.pop(other) for other in self.segments[:nth]}
        try:
            journal = Journal.open(self.disk, path.rpartition("/")[0], 0, head.first_op - 1, head.prev_hash, durable_op, salvage=True)
            torn = " and something torn behind it" if journal._stale else ""
            journal.close()
            return journal.damage or f"ends at op {journal.head_op}{torn}"
        finally:
            self.disk.files.update(earlier)

    def _superblock(self, path: str) -> str:
        said: list[str] = []
        try:
            found = superblock.load(self.disk, path, said.append)
        except superblock.SuperblockDamaged as error:
            said.append(str(error))
            found = None
        # A slot's number stays: damage to the newer one is another thing than to the older.
        return f"{re.sub('is [0-9]+ bytes', 'is # bytes', '; '.join(said))}: {found}"

    def _register(self, folder: str) -> str:
        try:
            register = Register(self.disk, folder, "simulated")
            view = register.last()
            return f"{'; '.join(register.complaints)}: {view}"
        except RegisterDamaged as error:
            return str(error)

    def _lock(self, path: str) -> str:
        fd = self.disk.open(path, create=True)
        lock = ReplicaLock(self.disk, fd, 1)
        self.disk.close(fd)
        return "rotten" if lock.rotten else str(lock.before)

    # --- all of them ----------------------------------------------------------------------------------------------------------------------

    def row(self, kind: str, path: str, places: Iterable[int], trial: int = TRIAL, *, repair: bool = True) -> Row:
        """These places of one file."""
        row = Row(kind, path, 0, 0, 0, Counter(), {}, {}, [])
        tried = started = repaired = 0
        for at in places:
            damage = Damage(kind, path, at)
            finding = self.finding(damage)
            if finding is None:
                continue
            tried += 1
            outcome, count = row.findings.get(finding, ("", 0))
            try:
                if count % trial == 0:
                    outcome = self._live_through(damage, finding, outcome, row)
                    started += 1
                if not count and repair and "/view-" not in path:  # nobody repairs the register: it is the one copy of who is in the view
                    self.wreck.together(damage)
                    repaired += 1
            except Unsound as error:
                row.wrong.append(str(error))
                outcome = outcome or "WRONG"
            row.findings[finding] = outcome, count + 1
            row.outcomes[outcome] += 1
        return row._replace(tried=tried, started=started, repaired=repaired)

    def _live_through(self, damage: Damage, finding: str, outcome: str, row: Row) -> str:
        verdict = self.wreck.alone(damage, thorough=not outcome)
        if verdict is None:
            raise Unsound(f"{damage}: changes nothing for a start, and for the reader {finding!r}")
        if outcome not in ("", verdict.outcome):
            raise Unsound(f"{damage}: {verdict.outcome} ({verdict.words}); others of which the reader says {finding!r}: {outcome}")
        if finding == self.sound[damage.path] and damage.kind == FLIP:
            raise Unsound(f"{damage}: its reader notices nothing: {finding!r}")
        row.examples.setdefault(verdict.outcome, verdict.words)
        return verdict.outcome
