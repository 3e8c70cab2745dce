"""Planted bugs in deciding a view: the register, suspicion, restarts of the cluster, learners and joint mode.

Read next: `disks.py`.
"""

from __future__ import annotations

from tests.planted import Edit, planted

CORE, POLICY, REGISTER, SERVER, STORAGE, UPKEEP = "replication.py", "survivor.py", "register.py", "server.py", "storage.py", "upkeep.py"

LISTED_AT_PRIMARY = Edit(
    POLICY,
    """        if r.is_primary and self.last is not None and sender.replica in self.last.replicas and sender not in self.last.members:
            return self.consider()
""",
    "",
)
LISTED_AT_GIVING = Edit(
    POLICY,
    """        if self.last is None or asker.replica in self.last.replicas:
            return "the sender stands in the view"
""",
    "",
)
LISTED_AT_JOIN = Edit(
    POLICY,
    "            self._propose([*last.members, sender], last.primary,",
    "            self._propose([*(m for m in last.members if m.replica != sender.replica), sender], last.primary,",
)
LISTED_AT_LEARNER = Edit(
    POLICY,
    "(packet.status == NORMAL or (packet.status == READ_ONLY and not r.lacks_room)) and r.me.replica not in self.last.replicas:\n",
    "packet.status in (NORMAL, READ_ONLY):\n",
)

BUGS = (
    planted(
        "restart_by_anybody",
        "2.7.3: only a member of the register's last view may restart the cluster",
        Edit(POLICY, "        return (at_close or stood) and r.head_op", "        return r.head_op"),
    ),
    planted(
        "restart_with_a_short_log",
        "2.7.3: who restarts the cluster has all that the register's last record names",
        Edit(POLICY, " and r.head_op >= last.op and r.log_view <= last.number\n", " and r.log_view <= last.number\n"),
        redundant="H12: the durable op in the lock file says of such a log that it lost something",
    ),
    planted(
        "restart_with_damage",
        "2.7.3: a disk that lost something does not restart the cluster",
        Edit(POLICY, "        if r.damage or last is None:\n", "        if last is None:\n"),
    ),
    planted(
        "restart_with_an_emptied_disk",
        "2.7.3: a disk that is younger than its replica's membership does not restart the cluster",
        Edit(
            POLICY,
            "        stood = any(m.replica == r.me.replica and m.inc >= r.born for m in last.members)\n",
            "        stood = r.me.replica in last.replicas\n",
        ),
    ),
    planted(
        "restart_on_an_old_word",
        "2.7.3: a peer's word that it may restart the cluster counts in the view in which it was given",
        Edit(
            POLICY,
            "        peer.eligible = packet.eligible and (self.last is None or packet.view == self.last.number)\n",
            "        peer.eligible = packet.eligible\n",
        ),
        Edit(
            POLICY,
            "            peer.heard, peer.eligible = r.now, False  # eligible by the view before\n",
            "            peer.heard = r.now\n",
        ),
    ),
    planted(
        "restart_with_the_unfit",
        "2.7.3: who restarts the cluster takes along those whose logs may begin a view, too, and nobody else",
        Edit(
            POLICY,
            "            if p.linked and p.eligible and p.status == LEARNER and",
            "            if p.linked and p.status == LEARNER and",
        ),
    ),
    planted(
        "view_names_more_than_is_committed",
        "2.3: a view's record names how far the log is committed: whoever holds that much may restart the cluster",
        Edit(
            POLICY,
            "        tip = (r.head_op, r.head_hash) if r.commit == r.head_op else (r.parent_op, r.parent_hash)\n",
            "        tip = (r.head_op, r.head_hash)\n",
        ),
    ),
    planted(
        "restart_beside_the_living",
        "2.7.2: while a member of the last view answers, nobody restarts the cluster",
        Edit(POLICY, "        if not all(self._is_gone(m) for m in last.members):\n", "        if r.now < 0:\n"),
        redundant="a living primary votes the old incarnation out at once; a restart waits a second",
    ),
    planted(
        "any_log_after_a_close",
        "L6: a closed view is continued by a log that ends exactly there",
        Edit(
            POLICY,
            "        at_close = last.closed and not r.empty and (r.head_op, r.head_hash) == (last.op, last.hash)\n",
            "        at_close = last.closed and not r.empty\n",
        ),
        Edit(POLICY, "        return (at_close or stood) and r.head_op >= last.op and", "        return (at_close or stood) and"),
    ),
    planted(
        "closed_while_in_flight",
        "L6: a stopping primary closes the view when nothing is in flight",
        Edit(
            POLICY,
            "            if r.status == NORMAL and r.in_flight is None and r.commit == r.head_op and not r.writing:\n",
            "            if r.status == NORMAL:\n",
        ),
        redundant="the batch in flight was acknowledged to nobody, and after the close nobody acknowledges it; its guests send it again",
    ),
    planted(
        "no_joint_mode",
        "H6 of the first idea: a learner's ack is required before it is registered",
        Edit(
            POLICY,
            """            self._set_joint(asker)
            self.replica.acks.discard(asker.replica)  # of an earlier incarnation, or of a log that it has shortened since
            self.joint_since = self.replica.now
            self.replica.trace(f"joint mode with {asker.replica} from op {self.replica.head_op}")
""",
            """            self._propose([*self.last.members, asker], self.last.primary, "joined")  # type: ignore[union-attr]
""",
        ),
    ),
    planted(
        "commit_without_the_learner",
        "2.6: in joint mode no batch commits without the learner's ack",
        Edit(
            POLICY,
            "acks >= self._needed",
            "acks.issuperset(m.replica for m in self.members())",
        ),
        Edit(
            CORE,
            """        if packet.op != self.head_op:
            return self.ignore(packet, "an older op")
""",
            """        if packet.op != self.head_op and sender.replica not in self.policy.last.replicas:  # type: ignore[attr-defined]
            return self.policy.on_ack(sender, packet)
        if packet.op != self.head_op:
            return self.ignore(packet, "an older op")
""",
        ),
    ),
    planted(
        "learner_writes_while_listed",
        "H1: a learner changes nothing on its disk while its id stands in the register's last view",
        LISTED_AT_PRIMARY,
        LISTED_AT_GIVING,
        LISTED_AT_LEARNER,
        LISTED_AT_JOIN,
    ),
    planted(
        "listed_learner_given_a_snapshot",
        "H1: the same, and it installs a snapshot below its own log",
        LISTED_AT_PRIMARY,
        LISTED_AT_GIVING,
        LISTED_AT_LEARNER,
        LISTED_AT_JOIN,
        Edit(
            CORE,
            "        return op <= (self.head_op if self.acked_view == self.view else self.parent_op)\n",
            "        return False\n",
        ),
        Edit(
            UPKEEP,
            "        return LogRead(effect.asker, request, *base, images, tip == effect.tip, oldest_op)\n",
            "        at_base = journal.oldest_op > request.parent_op or not self.sender.offer(self.host.now())\n"
            "        return LogRead(effect.asker, request, *base, images if at_base or tip == base[1] else None,"
            " tip == effect.tip, 1 << 60)\n",
        ),
    ),
    planted(
        "state_of_an_older_view",
        "H2: a learner takes log only from the primary of the view it has read last",
        Edit(
            CORE,
            "        if packet.view < self.view and kind not in OF_ANY_VIEW:\n",
            "        if packet.view < self.view and kind not in OF_ANY_VIEW and kind is not NewState:\n",
        ),
        Edit(
            CORE,
            "            elif sender != self.source:\n",
            "            elif sender != self.source and kind is not NewState:\n",
        ),
    ),
    planted(
        "shortens_after_ack",
        "H3: after its first ack in a view a learner never shortens its log in that view",
        Edit(
            CORE,
            """                if self.acked_view == self.view:
                    return self.leave_process("would shorten a log that it has acknowledged in this view")
""",
            "",
        ),
        Edit(
            CORE,
            "        return op <= (self.head_op if self.acked_view == self.view else self.parent_op)\n",
            "        return op <= self.parent_op\n",
        ),
        Edit(
            CORE,
            """        if self.acked_view == self.view and self.status == LEARNER:
            return self.leave_process("lacks what the primary has only as a snapshot, and may not replace a log that it has acknowledged")
""",
            "",
        ),
    ),
    planted(
        "older_snapshot_taken",
        "2.7: a learner takes no snapshot below its own log",
        Edit(
            CORE,
            "        return op <= (self.head_op if self.acked_view == self.view else self.parent_op)\n",
            "        return False\n",
        ),
    ),
    planted(
        "inc_not_raised",
        "2.1: each start of a replica is another incarnation",
        Edit(
            STORAGE,
            "        return max([self.superblock.inc or wall, hint, *known]) + 1\n",
            "        return self.superblock.inc or max([wall, hint, *known]) + 1\n",
        ),
    ),
    planted(
        "inc_from_nothing",
        "L5: a new superblock's incarnation is above every one of this replica that anybody has seen",
        Edit(STORAGE, "        return max([self.superblock.inc or wall, hint, *known]) + 1\n", "        return self.superblock.inc + 1\n"),
    ),
    planted(
        "link_repeats_nothing",
        "2.11: what was lost with a link is repeated as soon as there is the next one",
        Edit(
            POLICY,
            "            self.replica.sent_at = self.replica.view_sent_at = -math.inf",
            "            pass",
        ),
    ),
    planted(
        "joint_mode_left_open",
        "L9: a read_only primary closes joint mode, too, when the learner does not answer",
        Edit(
            POLICY,
            """        self._watch_joint()
        if r.status == READ_ONLY:
            return
""",
            """        if r.status == READ_ONLY:
            return
        self._watch_joint()
""",
        ),
    ),
    planted(
        "register_last_writer_wins",
        "S1: whoever creates a view's file first has decided",
        Edit(
            REGISTER,
            "            self._disk.link(self._proposal, self._path(view.number))\n        except FileExistsError:\n",
            "            self._disk.rename(self._proposal, self._path(view.number))\n        except FileExistsError:\n",
        ),
    ),
    planted(
        "record_written_over",
        "S1: a view's file is never changed: nothing is written into a file that may bear a view's name",
        Edit(
            REGISTER,
            "        self._write_proposal(record := _encode(view))\n        self._is_ready = False\n",
            "        self._write_proposal(record := _encode(view))\n        self._is_ready = len(record) == SECTOR\n",
        ),
    ),
    planted(
        "loser_proposes_again",
        "2.3: a view is derived from the record before it; who lost the race reads the winner's",
        Edit(
            REGISTER,
            """        if last is not None and last.number >= view.number:
            return last
""",
            """        if last is not None and last.number >= view.number:
            view = msgspec.structs.replace(view, number=last.number + 1, prev_hash=last.chain_hash())
""",
        ),
    ),
    planted(
        "register_not_synced",
        "2.3: the register's directory is synced before anybody acts on what was read",
        Edit(
            REGISTER,
            """            self._disk.sync_dir(self._fd)
            self._last = view
""",
            """            self._last = view
""",
        ),
    ),
    planted(
        "proposal_not_synced",
        "2.3: a view's record is synced before its name exists",
        Edit(
            REGISTER,
            "            self._disk.pwrite(fd, record, 0)\n            self._disk.sync(fd)\n",
            "            self._disk.pwrite(fd, record, 0)\n",
        ),
    ),
    planted(
        "votes_out_a_member_too_few",
        "2.6.1: all members with evidence against them go out, and nobody else",
        Edit(
            POLICY,
            "        staying = [m for m in last.members if m not in accused]\n",
            "        staying = [m for m in last.members if accused.get(m) != 'died']\n",
        ),
    ),
    planted(
        "silent_member_stays",
        "H3 of the first idea: a member is voted out on suspicion, without a proof of death",
        Edit(POLICY, "        if silent > r.timers.suspect:\n", "        if silent > 1e9:\n"),
    ),
    planted(
        "stale_primary_goes_on",
        "A19: every second the register is read, whatever anybody says",
        Edit(
            POLICY,
            """            self.read_at = r.now + 1.0
            r.emit(ReadRegister())
""",
            """            self.read_at = r.now + 1.0
""",
        ),
        redundant="packets, broken links and one's own accusations lead to the register as well",
    ),
    planted(
        "doors_open_outside_the_view",
        "A6: a replica that is not in the view shows nothing of its state",
        Edit(
            SERVER,
            """            self.host.close_doors()
            self.desk.close_all("this replica is not in the view: try the next port")
""",
            "            pass\n",
        ),
    ),
    planted(
        "read_only_primary_waits_for_its_disk",
        "L9: a read_only primary counts a learner as level that has all but the batch that no disk holds",
        Edit(CORE, "        at_head = self.status != READ_ONLY or self.commit == self.head_op\n", "        at_head = True\n"),
    ),
    planted(
        "read_only_primary_keeps_its_place",
        "L9: a read_only primary gives way to a learner that has everything",
        Edit(POLICY, "            if packet.op == r.commit:\n", "            if packet.op == -1:\n"),
    ),
    planted(
        "register_begun_by_the_lowest",
        "2.7: where the register was lost, who has the longest log begins it again",
        Edit(POLICY, "        if longer:  # one that", "        if longer and r.empty:  # one that"),
    ),
    planted(
        "register_begun_with_everybody",
        "2.7: where the register was lost, only those who are level with its beginner are members",
        Edit(POLICY, " for i, p in self.peers.items() if p.log == (r.view, r.head_op))]", " for i, p in self.peers.items())]"),
    ),
)
