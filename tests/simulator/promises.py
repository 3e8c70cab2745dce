"""What a replica has promised by its acknowledgements, and whether it keeps it: in its view, in its memory, and on its disk.

What it is not: it does not look at what is committed by whom (`invariants.py`); it only remembers what was said.

    an ack            is counted in the view in which it was sent, and for the batch it names; no commit without those of enough
    a log             does not get shorter in a view below what was acknowledged in it
    a learner         takes in a view only what its primary's log holds
    a new view        nothing is said in it while an order of the one before is still on its way to the disk
    a trusted disk    holds, at each start, what its replica ever acknowledged and what was committed with that

Read next: `invariants.py`.
"""

from __future__ import annotations

from typing import Any

from packets import GetState, Prepare, PrepareOk, StartView
from replication import LEARNER, NORMAL
from tests.simulator.world import Process, Violation

SETTLED_FIRST = (StartView, Prepare, PrepareOk, GetState)  # what nobody says of a view before its disk is done with the one before
Tip = tuple[int, bytes]


class Promises:
    """Of all replicas, through all their lives."""

    def __init__(self) -> None:
        self.sent: dict[int, dict[int, Tip]] = {}  # replica -> view -> the newest batch it has acknowledged there
        self.newest: dict[int, Tip] = {}  # replica -> the newest batch it has acknowledged at all
        self.kept: dict[int, tuple[Process, int, int]] = {}  # replica -> who acknowledged last, in which view, up to which op

    def acknowledges(self, process: Process, packet: PrepareOk) -> None:
        tip = packet.op, packet.hash
        self.sent.setdefault(process.id, {})[packet.view] = tip
        self.newest[process.id] = tip
        who, view, op = self.kept.get(process.id, (None, 0, 0))
        self.kept[process.id] = process, packet.view, max(packet.op, op if (who, view) == (process, packet.view) else 0)

    def speaks(self, process: Process, packet: Any) -> None:
        """A packet of this view is about to leave."""
        r = process.server.replica
        is_new = type(packet) in SETTLED_FIRST and packet.view == r.view
        if is_new and process.orders and min(process.orders) < r.generation:
            raise Violation(
                f"replica {process.id} sends {type(packet).__name__} of view {packet.view} while its disk is busy for an older one"
            )

    def counted(self, process: Process, r: Any) -> None:
        """Whom a primary counts has acknowledged this very batch in this very view."""
        if not r.is_primary or r.status != NORMAL:
            return
        for replica in r.acks:
            said = self.sent.get(replica, {}).get(r.view)
            if replica != process.id and said != (r.head_op, r.head_hash):
                told = f"which has said there: op {said[0]}" if said else "which has said nothing there"
                raise Violation(f"replica {process.id} counts an ack of {replica} for op {r.head_op} in view {r.view}, {told}")

    def commits(self, process: Process, enough: int) -> None:
        """A primary commits its last batch: so many of the others have acknowledged it in this view (or all of its members)."""
        r, policy = process.server.replica, process.server.policy
        if not r.is_primary or r.status != NORMAL or r.last is None or r.last.op != r.commit:
            return
        others = {m.replica for m in policy.members()} - {process.id} if enough < 0 else self.sent.keys() - {process.id}
        said = {i for i in others if self.sent.get(i, {}).get(r.view) == (r.head_op, r.head_hash)}
        if (said != others) if enough < 0 else len(said) < enough:
            raise Violation(f"replica {process.id} commits op {r.commit} in view {r.view}, which only {sorted(said)} acknowledged there")

    def shortened(self, process: Process, r: Any) -> None:
        """The log has another end than before."""
        who, view, op = self.kept.get(process.id, (None, 0, 0))
        if who is process and view == r.view and r.head_op < op:
            raise Violation(f"replica {process.id} shortens its log to op {r.head_op} in view {view}, in which it acknowledged op {op}")

    def grown(self, process: Process, r: Any) -> None:
        """The log is longer than before."""
        primary = process.world.processes.get(r.primary.replica) if r.primary is not None else None
        if r.status != LEARNER or primary is None or not primary.alive or not hasattr(primary.server, "replica"):
            return
        theirs = primary.server.replica
        if theirs.me != r.primary or theirs.view != r.view:
            return
        held = {theirs.head_op: theirs.head_hash, theirs.parent_op: theirs.parent_hash}  # it may have sent more than its disk took
        with primary.disk.unnoticed():
            known = held.get(r.head_op) or primary.server.storage.journal.hash_at(r.head_op)
        if theirs.head_op < r.head_op or known not in (r.head_hash, None):
            raise Violation(
                f"learner {process.id} takes op {r.head_op} in view {r.view}, whose primary's log ends at op {theirs.head_op} and lacks it"
            )

    def remembers(self, process: Process, commit: int, tips: dict[int, bytes]) -> None:
        """It starts, and trusts its disk."""
        r, (op, tip) = process.server.replica, self.newest.get(process.id, (0, b""))
        if r.damage or r.empty or op > commit or tips.get(op) != tip:
            return
        if r.head_op < op:
            raise Violation(
                f"replica {process.id} trusts a disk that ends at op {r.head_op}, and has acknowledged op {op}, a committed one"
            )
