"""Planted bugs under policy `majority`: votes, the log that a new view goes on from, disks that have forgotten, queries.

Read next: `hunt.py`.
"""

from __future__ import annotations

from functools import partial

from tests.planted import Edit
from tests.planted import planted as planted_anywhere
from tests.planted.agreement import NO_LOG_VIEW

CORE, POLICY = "replication.py", "majority.py"
planted = partial(planted_anywhere, policy="majority")

BUGS = (
    planted(
        "commits_by_less_than_a_majority",
        "2.2: a batch is committed when a majority has it synced",
        Edit(POLICY, "in acks and len(acks) >= self.enough\n", "in acks and len(acks) >= self.enough - 1\n"),
    ),
    planted(
        "own_vote_counts_twice",
        "2.6: nobody takes a view that a majority has not asked for",
        Edit(POLICY, "        wishes = [(self.wish, self.wished_at), *(", "        wishes = [*[(self.wish, self.wished_at)] * 2, *("),
    ),
    planted(
        "old_wishes_count",
        "2.6: a wish for a view counts while it is meant, and from the incarnation that is linked",
        Edit(
            POLICY,
            "        wishes = [(self.wish, self.wished_at), *((p.wish, p.wished_at) for p in self.peers.values() if p.linked)]\n"
            "        if sum(wish == view and now - at < VOTE_LIFE for wish, at in wishes) >= self.enough:\n",
            "        wishes = [(self.wish, self.wished_at), *((p.wish, p.wished_at) for p in self.peers.values())]\n"
            "        if sum(wish >= view - 1 and now - at < 1e9 for wish, at in wishes) >= self.enough:\n",
        ),
    ),
    planted(
        "view_not_written_down",
        "2.9: a view is on the disk before anything is said in it",
        Edit(
            POLICY,
            "            self.moving, self.reason = view, why\n            r.order(SaveView(r.generation, view, self.is_new))\n",
            "            self.reason = why\n            self._adopt(view, why)\n",
        ),
    ),
    planted(
        "acknowledges_before_log_view",
        "2.9: log_view is on the disk before the first ack of a view",
        NO_LOG_VIEW,
    ),
    planted(
        "goes_on_from_its_own_log",
        "2.6: a new view goes on from the best log of a majority",
        Edit(POLICY, "        if 1 + len(logs) < self.enough:\n            return False\n", "        logs.clear()\n"),
    ),
    planted(
        "best_log_by_length",
        "2.6: of two logs the one of the later view is the better, however short",
        Edit(
            POLICY,
            "        best = max(logs, key=lambda i: (logs[i].log_view, logs[i].op), default=r.me.replica)\n",
            "        best = max(logs, key=lambda i: logs[i].op, default=r.me.replica)\n",
        ),
        Edit(
            POLICY,
            "        if theirs is None or (r.log_view, r.head_op) >= (theirs.log_view, theirs.op) or",
            "        if theirs is None or r.head_op >= theirs.op or",
        ),
    ),
    planted(
        "primary_resumes_its_view",
        "2.8: a primary that starts again never goes on in its old view",
        Edit(
            POLICY,
            """        if self.starting == r.view:
            return True
        if not self.is_eligible() or r.view == self.found:""",
            """        if self.starting == r.view:
            return True
        if r.view == self.found == r.log_view and self.is_eligible():
            self.starting = r.view
            return True
        if not self.is_eligible():""",
        ),
        Edit(
            POLICY,
            """            if r.view == self.found:
                return f"{r.me.replica} leads view {r.view} and starts again"
""",
            "",
        ),
    ),
    planted(
        "forgetful_disk_votes",
        "2.8: whose disk is not trusted neither votes nor acknowledges",
        Edit(
            POLICY,
            "        return not (r.damage or r.empty) or self.is_new\n",
            "        return True\n",
        ),
    ),
    planted(
        "recovery_asks_one_too_few",
        "2.8: who has lost its disk asks all others, since any of them may know of a later view",
        Edit(
            POLICY,
            "        if missing:\n            self.waiting",
            "        if len(missing) > len(self.others) - self.enough + 1:\n            self.waiting",
        ),
        Edit(
            POLICY,
            "        is_enough = sum(a.eligible for a in answers.values()) > len(r.replicas) - self.enough\n",
            "        is_enough = any(a.eligible for a in answers.values())\n",
        ),
    ),
    planted(
        "reads_without_a_round",
        "2.5.5: a query is answered after a majority has said that it knows no newer view",
        Edit(
            POLICY,
            "        r.tell_commit(r.round)\n        self._confirm()\n",
            "        r.tell_commit(r.round)\n        r.emit(Confirm(event.number))\n",
        ),
    ),
    planted(
        "round_of_before",
        "L16: that is asked after the query was evaluated, never before",
        Edit(
            POLICY, "        r = self.replica\n        r.round += 1\n        self.rounds", "        r = self.replica\n        self.rounds"
        ),
    ),
    planted(
        "cuts_what_it_fetched",
        "2.6.4: what was fetched from a primary in its view is newer than its StartView, and is not cut for it",
        Edit(CORE, " and self.commit < self.head_op and self.taken_view != self.view\n", " and self.commit < self.head_op\n"),
    ),
    planted(
        "log_of_an_older_view_counts",
        "2.6: the logs among which a view chooses were told for this view",
        Edit(POLICY, " if p.linked and p.log is not None and p.log.view == r.view}\n", " if p.linked and p.log is not None}\n"),
    ),
    planted(
        "older_incarnation_not_told",
        "2.8: an emptied disk whose clock is behind learns from the others which incarnation they have met",
        Edit(POLICY, "        if packet.inc > r.me.inc:\n", "        if packet.inc < 0:\n"),
    ),
    planted(
        "cuts_for_a_longer_log",
        "2.6.4: a last batch is cut only where the primary's log parts from mine just before it; else what it lacks is fetched",
        Edit(CORE, "        if may_cut and self.parent_hash in (packet.hash, packet.parent_hash):\n", "        if may_cut:\n"),
    ),
    planted(
        "committed_and_never_applied",
        "2.5.4: a new primary applies what it was told of before its own disk had it",
        Edit(CORE, "        self.apply_ready()  # what it was told of before its own disk had it: nobody tells a primary\n", ""),
    ),
    planted(
        "last_of_several_applied",
        "docs/replication.md, 8: of batches that came together all but the last are committed",
        Edit(
            CORE,
            "        self.order(Persist(self.generation, tuple(batches)))\n",
            "        self.order(Persist(self.generation, tuple(batches)))\n        self._apply_followed(self.last)\n",
        ),
    ),
    planted(
        "queries_of_a_dead_one_answered",
        "queries: who begins again within its view numbers them anew, so what was asked before is forgotten with its link",
        Edit("server.py", "        self.queries.forget(replica)\n", ""),
    ),
)
