"""Planted bugs in what a replica keeps: journal, superblock, snapshots, and what it believes of them when it starts.

Read next: `guests.py`.
"""

from __future__ import annotations

from tests.planted import Edit, planted

CORE, POLICY, JOURNAL, SEGMENTS, STORAGE, SUPERBLOCK = (
    "replication.py",
    "survivor.py",
    "journal.py",
    "segments.py",
    "storage.py",
    "superblock.py",
)
SNAPSHOTS, WORKER, UPKEEP, TRANSFER, TABLES = (
    "snapshots.py",
    "snapshot_worker.py",
    "upkeep.py",
    "transfer.py",
    "tables.py",
)

BUGS = (
    planted(
        "ack_before_fsync",
        "2.5.2: a batch is synced before it is acknowledged",
        Edit(
            JOURNAL,
            "            self._require_sound()\n            self._sync(self._fd)\n            self._dirty = False\n",
            "            self._require_sound()\n            self._dirty = False\n",
        ),
    ),
    planted(
        "failed_sync_tried_again",
        "2.9: a sync that failed is never tried again on that file",
        Edit(
            JOURNAL,
            """        try:
            self._disk.sync(fd)
        except OSError as error:
            self._fail(error)
""",
            """        try:
            self._disk.sync(fd)
        except OSError:
            self._disk.sync(fd)
""",
        ),
    ),
    planted(
        "failed_disk_trusted",
        "2.9: after a failed sync the disk is suspect, and its log is fetched anew",
        Edit(POLICY, "                r.leave_process(why, suspect=True)\n", "                r.leave_process(why)\n"),
    ),
    planted(
        "journal_believed_unsynced",
        "S4: what stands in the journal at start is synced before it counts",
        Edit(
            JOURNAL,
            """            if self._segments:
                # A process that was killed may have left a batch that no disk holds yet. If a sync of it had failed, the kernel takes its
                # pages for clean, and the next sync lies: so it is written again before it counts.
                if self.last is not None and self._last_at:
                    disk.pwrite(self._fd, self.last.image, self._last_at)
                self._sync(self._fd)
                disk.sync_dir(path)
""",
            "",
        ),
    ),
    planted(
        "last_batch_not_written_again",
        "S4: where a sync may have failed before the start, the last batch is written again: the next sync alone would lie",
        Edit(JOURNAL, "                    disk.pwrite(self._fd, self.last.image, self._last_at)\n", "                    pass\n"),
    ),
    planted(
        "rot_below_the_snapshot_is_the_end",
        "2.9: who is asked for a log that has rotted below its snapshot offers the snapshot",
        Edit(UPKEEP, "            if request.op >= self.storage.snapshot_op:\n", "            if request.op >= 0:\n"),
    ),
    planted(
        "segment_name_not_synced",
        "2.9: a segment's name is durable before a batch in it is acknowledged",
        Edit(
            JOURNAL,
            "        self._fd, self._size, self._end, self._last_at = segment.fd, size, SECTOR, 0\n        self._sync_dir()\n",
            "        self._fd, self._size, self._end, self._last_at = segment.fd, size, SECTOR, 0\n",
        ),
    ),
    planted(
        "directories_not_synced",
        "S4: the directories are durable before the first ack",
        Edit(
            STORAGE,
            """        for path in (os.path.dirname(self.base) or ".", self.base, self.path):
            self.disk.sync_dir(path)
""",
            "",
        ),
    ),
    planted(
        "torn_tail_taken_for_rot",
        "2.9, tail rule: a batch with an all-zero sector was never synced, and is cut",
        Edit(
            SEGMENTS,
            '        return TORN\n    return f"the batch behind op',
            '        return "a torn batch"\n    return f"the batch behind op',
        ),
    ),
    planted(
        "torn_tail_not_cut",
        "2.9: what stands behind the end of the log is zeroed before the next batch is written",
        Edit(
            JOURNAL,
            "            self._stale = found != ENDS\n",
            "            self._stale = False\n",
        ),
    ),
    planted(
        "rot_cut_as_torn",
        "2.9, tail rule: a batch that was wholly written and does not check may be acked rot, and is not cut",
        Edit(
            SEGMENTS,
            '    return f"the batch behind op {op} is damaged, though all of it was written"\n',
            "    return TORN\n",
        ),
    ),
    planted(
        "durable_op_ignored",
        "H12: a journal that ends below the durable op of its lock file is not intact",
        Edit(JOURNAL, "        if damage is None and self.head_op < durable_op:\n", "        if damage is None and self.head_op < 0:\n"),
    ),
    planted(
        "durable_op_not_lowered",
        "L10: a deliberate cut first writes the lower durable op",
        Edit(
            STORAGE,
            "        self.lock.write(self.inc, self.journal.parent_op, sync=True)\n        self.journal.cut()\n",
            "        self.journal.cut()\n",
        ),
    ),
    planted(
        "durable_op_of_a_distrusted_log",
        "H12: while a disk is not trusted its lock file keeps the durable op that says so",
        Edit(
            STORAGE,
            "        if not self.damage:\n            self.lock.write(self.inc, op, sync=sync)\n",
            "        self.lock.write(self.inc, op, sync=sync)\n",
        ),
        Edit(STORAGE, "hint if self.damage else self.journal.head_op, sync=True)", "self.journal.head_op, sync=True)"),
    ),
    planted(
        "cuts_two",
        "S2: nothing but the last batch is ever cut",
        Edit(
            CORE,
            "        self.head_op, self.head_hash, self.last = self.parent_op, self.parent_hash, None\n",
            """        self.applied = self.commit = min(self.applied, self.parent_op - 1)
        self.head_op, self.head_hash, self.last = self.parent_op, self.parent_hash, None
""",
        ),
    ),
    planted(
        "superblock_in_one_slot",
        "2.9: the superblock has two slots, written one after the other",
        Edit(
            SUPERBLOCK,
            """        disk.pwrite(fd, slot, seq % SLOTS * SLOT_BYTES)
        disk.sync(fd)
        disk.pwrite(fd, slot, (seq + 1) % SLOTS * SLOT_BYTES)
""",
            """        disk.pwrite(fd, slot, 0)
        disk.sync(fd)
""",
        ),
    ),
    planted(
        "superblock_not_synced",
        "2.9: the superblock is synced before what it says is acted on",
        Edit(
            SUPERBLOCK,
            "        disk.pwrite(fd, slot, seq % SLOTS * SLOT_BYTES)\n        disk.sync(fd)\n",
            "        disk.pwrite(fd, slot, seq % SLOTS * SLOT_BYTES)\n",
        ),
    ),
    planted(
        "mark_in_one_slot",
        "2.9: that a disk is not trusted stands in both slots, synced, before what speaks against it goes",
        Edit(SUPERBLOCK, "        if superblock.suspect:\n", "        if superblock.suspect and not superblock.replicas:\n"),
    ),
    planted(
        "superblock_older_slot",
        "2.9: of two slots the newer one counts",
        Edit(SUPERBLOCK, "    return slots[max(slots)]\n", "    return slots[min(slots)]\n"),
    ),
    planted(
        "begun_anew_unmarked",
        "2.9: a log that is fetched anew is suspect until it is whole",
        Edit(STORAGE, "        self.save(suspect=True, snapshot_op=0,", "        self.save(suspect=False, snapshot_op=0,"),
    ),
    planted(
        "snapshot_of_uncommitted",
        "H9: a snapshot holds only what is committed",
        Edit(UPKEEP, "        op = replica.applied\n        if (\n", "        op = replica.head_op\n        if (\n"),
    ),
    planted(
        "snapshot_of_another_generation",
        "H9: a snapshot is put in place only if the journal it was made from is still this one",
        Edit(UPKEEP, "is_late = generation != self.storage.journal.generation or ", "is_late = "),
        redundant="a journal begins anew with a snapshot that is never below the log it replaces; one of that log is not above it",
    ),
    planted(
        "older_snapshot_put_in_place",
        "H9: the same, and it is below the one that the log goes on from by now",
        Edit(
            UPKEEP,
            "is_late = generation != self.storage.journal.generation or self._adds_nothing(op, rewrites=self.is_rotten)",
            "is_late = False",
        ),
    ),
    planted(
        "sessions_not_in_snapshot",
        "2.10: the session table is part of the state, and of its snapshots",
        Edit(TABLES, '"sessions": _session_rows,', '"sessions": lambda state: iter(()),'),
    ),
    planted(
        "replies_not_in_snapshot",
        "2.10: stored replies are part of the session table",
        Edit(TABLES, "numbers = str(s.last), str(s.low), ", "numbers = str(s.last), str(s.last), "),
        Edit(TABLES, "*numbers, replies, ", '*numbers, "[]" if replies else "", '),
    ),
    planted(
        "snapshot_not_synced",
        "2.9: a snapshot's files are synced before it gets its name",
        Edit(WORKER, "    def finish(self) -> Part:\n        self.disk.sync(self.fd)\n", "    def finish(self) -> Part:\n"),
    ),
    planted(
        "snapshot_not_verified",
        "invariant 17: a snapshot loads to its own digest, or it is not believed",
        Edit(SNAPSHOTS, "            if sha.hexdigest() != part.sha256:\n", "            if sha.hexdigest() == part.sha256[1:]:\n"),
    ),
    planted(
        "journal_dropped_above_older_snapshot",
        "2.9: the journal is kept down to the older of two snapshots",
        Edit(SNAPSHOTS, "    return int(kept[-1]) if len(kept) >= keep else 0\n", "    return int(kept[0]) if kept else 0\n"),
    ),
    planted(
        "journal_dropped_before_superblock",
        "A11: one write of the superblock makes a fetched snapshot the beginning of the log",
        Edit(
            STORAGE,
            """        self.save(suspect=suspect, snapshot_op=op, snapshot_hash=tip, snapshot_name=name, journal_generation=generation)
        self.journal.drop_old()
""",
            """        self.journal.drop_old()
        self.save(suspect=suspect, snapshot_op=op, snapshot_hash=tip, snapshot_name=name, journal_generation=generation)
""",
        ),
    ),
    planted(
        "snapshot_in_place_unnamed",
        "2.9: the superblock names a snapshot before the journal below it goes",
        Edit(
            STORAGE,
            """        self.save(snapshot_op=op, snapshot_hash=tip, snapshot_name=name)
        self.journal.drop_below(snapshots.prune(self.disk, self.snapshots_path, pinned))
""",
            """        self.journal.drop_below(snapshots.prune(self.disk, self.snapshots_path, pinned))
""",
        ),
    ),
    planted(
        "fetched_in_an_older_view",
        "H2: a transfer is dropped when the register moves on",
        Edit(UPKEEP, "            if receiver.generation != self.replica.generation:\n", "            if receiver.generation < 0:\n"),
        Edit(
            CORE,
            "        if event.generation != self.generation or self.writing or self._is_below(event.op):\n",
            "        if self.status != LEARNER or self.writing or self._is_below(event.op):\n",
        ),
        Edit(UPKEEP, "receiver is not None and sender in (self.replica.primary, self.replica.source):", "receiver is not None:"),
        redundant="a snapshot holds only what is committed (H9), so it is right in every view; below its own log nobody takes one",
    ),
    planted(
        "answer_of_an_older_generation",
        "H7: an answer of the disk counts only in the generation in which it was asked for",
        Edit(
            CORE,
            """        if event.generation != self.generation:
            return self.proceed()
        assert self.synced""",
            """        assert self.synced""",
        ),
        redundant="a new view waits for all disk orders of the old one, so nothing was cut when the late answer comes",
    ),
    planted(
        "packet_before_the_old_views_disk",
        "H7: a packet of a new view leaves after all disk orders of the old one have returned",
        Edit(
            CORE,
            "        if self.writing or self.status == HALTED:\n            return\n        if self.goal:\n",
            "        if self.status == HALTED:\n            return\n        if self.goal:\n",
        ),
    ),
)
