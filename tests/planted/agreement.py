"""Planted bugs in running a view: batches, acknowledgements, commits, and how a new view's log begins.

Read next: `views.py`.
"""

from __future__ import annotations

from tests.planted import Edit, planted

CORE, POLICY, SERVER = "replication.py", "survivor.py", "server.py"

NO_LOG_VIEW = Edit(  # a rule of both policies
    CORE,
    """            if self.log_view < self.view:
                return self.order(SaveLogView(self.generation, self.view, self.view))
            return self._join_view()
""",
    """            self.log_view = self.view
            return self._join_view()
""",
)

BUGS = (
    planted(
        "ack_before_log_view",
        "2.9: log_view is durable before the first PrepareOk of a view",
        NO_LOG_VIEW,
    ),
    planted(
        "ack_old_view",
        "2.5.2: never an ack for an older view than the one adopted",
        Edit(
            CORE,
            """        if packet.view < self.view and kind not in OF_ANY_VIEW:
""",
            """        if packet.view < self.view and kind is Prepare and self.synced == self.head_op:
            batch = Batch.decode(packet.image)
            if batch.hash == self.head_hash:
                return self.emit(Send((sender.replica,), PrepareOk(packet.view, batch.op, batch.hash)))
        if packet.view < self.view and kind not in OF_ANY_VIEW:
""",
        ),
    ),
    planted(
        "ack_below_log_view",
        "2.5.2: a backup takes a batch only if its log is the view's log (log_view == view)",
        Edit(
            CORE,
            """        if self.log_view != self.view or not (self.status == NORMAL or self.policy.is_joining()):
            return self.ignore(packet, "my log is not the view's log yet")
        try:
""",
            """        try:
""",
        ),
        Edit(
            CORE,
            """        elif self.log_view == self.view and (self.status == NORMAL or self.policy.is_joining()):
            self.send_ok()
""",
            """        else:
            self.send_ok()
""",
        ),
        Edit(
            CORE,
            "        assert self.synced == self.head_op and self.log_view == self.view and self.primary is not None,",
            "        assert self.primary is not None,",
        ),
    ),
    planted(
        "apply_before_commit",
        "2.5.4: a backup applies a batch when it knows it to be committed, not when it has it",
        Edit(CORE, "        known = min(op, self.head_op)\n", "        known = self.head_op\n"),
    ),
    planted(
        "commit_beyond_head",
        "H6: commit is never above what stands in this log",
        Edit(CORE, "        known = min(op, self.head_op)\n", "        known = op\n"),
        redundant="a commit needs the ack of whoever hears of it, so it is never ahead of its log",
    ),
    planted(
        "majority_commits",
        "2.2: a batch commits when every member has it synced, not most of them",
        Edit(
            POLICY,
            "        return acks >= self._needed",
            "        return 2 * len(acks & self._needed) > len(self._needed)",
        ),
    ),
    planted(
        "commit_without_own_sync",
        "2.5.3: the primary's own sync is one of those that a commit needs",
        Edit(
            POLICY,
            "        return acks >= self._needed",
            "        return {*acks, self.replica.me.replica} >= self._needed",
        ),
    ),
    planted(
        "acks_of_the_batch_before",
        "2.5.3: acks are counted for one batch, and begin anew with the next",
        Edit(CORE, "        self.acks.clear()\n        self.send_in_flight()\n", "        self.send_in_flight()\n"),
    ),
    planted(
        "acks_of_the_view_before",
        "2.5.3: an ack counts in the view in which it was given",
        Edit(CORE, "        self.acks.clear()\n        self.installed.clear()\n", "        self.installed.clear()\n"),
    ),
    planted(
        "ack_of_an_older_op",
        "2.5.3: an ack counts for the op it names",
        Edit(
            CORE,
            """        if packet.op != self.head_op:
            return self.ignore(packet, "an older op")
""",
            "",
        ),
    ),
    planted(
        "ack_of_another_incarnation",
        "2.1: a member is replica and incarnation; one that starts again is another",
        Edit(
            POLICY,
            "(sender in self.last.members or sender == self.joint)",
            "(sender.replica in self.last.replicas or sender == self.joint)",
        ),
        redundant="H1: a learner acknowledges nothing while its id stands in the view, and later only in joint mode, by its own name",
    ),
    planted(
        "own_snapshot_not_compared",
        "L12: a replica whose digest is not that of its own snapshot ends its process, the primary, too",
        Edit(
            CORE,
            '        self.leave_process(f"my state differs from what the log leads',
            '        self.trace(f"my state differs from what the log leads',
        ),
    ),
    planted(
        "digest_of_the_wrong_op",
        "L12: a digest is compared at the op to which it belongs",
        Edit(
            CORE,
            "        self.learn_commit(packet.commit, packet.applied, packet.digest)\n",
            "        self.learn_commit(packet.commit, packet.commit, packet.digest)\n",
        ),
    ),
    planted(
        "batch_ahead_of_a_new_view",
        "H11: no batch leaves in a view before the one that names its members, and in which what is unanswered is asked again",
        Edit(SERVER, "self.replica.can_prepare and not self._has_new_role():\n", "self.replica.can_prepare:\n"),
    ),
    planted(
        "two_in_flight",
        "S2: the next batch is formed when the last one is committed",
        Edit(CORE, "        return self.in_flight is None and self.status == NORMAL and", "        return self.status == NORMAL and"),
    ),
    planted(
        "serves_early",
        "A7: a new primary answers when all batches of earlier views are applied",
        Edit(CORE, "and self.applied == self.commit >= self.start_op\n", "and self.applied == self.commit\n"),
    ),
    planted(
        "last_batch_dropped_by_new_primary",
        "S3: the new primary goes on from its own log, the last batch included",
        Edit(
            CORE,
            """        self.start_op = self.head_op
        if self.last is not None and self.commit < self.head_op:
""",
            """        if self.last is not None and self.commit < self.head_op:
            return self.cut_last("it is not known to be committed")
        self.start_op = self.head_op
        if self.last is not None and self.commit < self.head_op:
""",
        ),
    ),
    planted(
        "last_batch_taken_for_committed",
        "S2: after a restart all but the last batch is committed, and not that one",
        Edit(
            CORE,
            "        self.commit = self.applied = start.parent_op if start.last else start.head_op\n",
            "        self.applied = start.parent_op if start.last else start.head_op\n        self.commit = start.head_op\n",
        ),
    ),
    planted(
        "surplus_kept",
        "2.6.4: a member whose last batch is not the new primary's cuts it before it acknowledges",
        Edit(
            CORE,
            """        if may_cut and self.parent_hash in (packet.hash, packet.parent_hash):
            return self.cut_last("the new primary does not have it")
""",
            """        if self.last is not None and self.parent_hash == packet.hash:
            if self.log_view < self.view:
                return self.order(SaveLogView(self.generation, self.view, self.view))
            self.start_view = None
            self.enter_view()
            return self.emit(Send((self.primary.replica,), PrepareOk(self.view, packet.op, packet.hash)))  # type: ignore[union-attr]
        if may_cut and self.parent_hash in (packet.hash, packet.parent_hash):
            return self.cut_last("the new primary does not have it")
""",
        ),
    ),
    planted(
        "parent_not_applied_at_install",
        "2.5.4: whoever takes StartView's last batch applies the one before it",
        Edit(
            CORE,
            """            self._extend(batch)
            self._apply_followed(before)
            return self.order(Persist(self.generation, (batch,)))
        # What was taken""",
            """            self._extend(batch)
            return self.order(Persist(self.generation, (batch,)))
        # What was taken""",
        ),
    ),
    planted(
        "start_view_once",
        "2.11: StartView and Prepare are repeated until they are answered",
        Edit(CORE, "            self.tell_commit(self.round)\n            self._repeat()\n", "            self.tell_commit(self.round)\n"),
    ),
    planted(
        "time_goes_back",
        "2.1: a batch's time is above that of the batch before, whatever the wall clock says",
        Edit(CORE, "        time = max(self.time, event.time)\n", "        time = event.time\n"),
    ),
    planted(
        "time_forgotten_at_a_snapshot",
        "2.1: a log that ends at its snapshot knows the time of its last batch, too",
        Edit(
            CORE,
            "start.last.time + start.last.count if start.last else start.time\n",
            "start.last.time + start.last.count if start.last else 0\n",
        ),
        Edit(
            CORE,
            "        self.last, self.digest, self.digest_op, self.time = None, event.digest, event.op, event.time\n",
            "        self.last, self.digest, self.digest_op, self.time = None, event.digest, event.op, 0\n",
        ),
    ),
    planted(
        "digest_ignored",
        "L12: a backup whose digest is not the primary's ends its process and is built anew",
        Edit(
            CORE,
            "        if op == self.digest_op and digest != self.digest and not self.is_primary:\n",
            "        if op == self.digest_op and digest != self.digest and not self.is_primary and op < 0:\n",
        ),
    ),
    planted(
        "hash_chain_not_followed",
        "2.5.2: a backup takes only the batch that follows its own last one by hash",
        Edit(
            CORE,
            "        elif batch.prev_hash == self.head_hash and batch.first_op == self.head_op + 1 and not self.writing:\n",
            "        elif batch.first_op == self.head_op + 1 and not self.writing:\n",
        ),
        redundant="who takes a Prepare has the view's log (log_view == view), which is the primary's, so it always follows",
    ),
    planted(
        "batch_hash_not_checked",
        "2.9: a batch is believed when its hash is right",
        Edit(
            "batches.py",
            "        if digest(header, body) != hash:\n",
            "        if len(image) < 0:\n",
        ),
    ),
    planted(
        "no_read_guard",
        "H7: a query is answered only while no newer view exists",
        Edit("registrar.py", "        if self.storage.register.is_last(view):\n", "        if view >= 0:\n"),
    ),
    planted(
        "query_answered_by_a_backup",
        "A5: a backup never answers a query from its own state",
        Edit(
            SERVER,
            """        elif replica.status == NORMAL and replica.primary is not None:
            self._forward(replica.primary.replica)
""",
            """        elif replica.status == NORMAL and replica.primary is not None:
            if desk.queries and self.storage.register.is_last(replica.view):
                for ticket, (guest, query) in list(desk.queries.items()):
                    desk.answer(ticket, desk.evaluate(guest.session, query.command))
            self._forward(replica.primary.replica)
""",
        ),
    ),
)
