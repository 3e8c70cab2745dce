"""What the replication core hears (events) and what it orders (effects).

What it is not: it decides nothing. Events are in the past tense, effects in the imperative. Those of every batch stand in `steps.py`.

Every order to the disk (Persist, Cut, SaveLogView, SaveView, InstallSnapshot) carries the generation in which it was given and is
answered at most once, in order, by the event its docstring names: on a full disk when there is room, after another error never.

Read next: `replication.py`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from packets import GetState, Member, SnapshotOffer, View
from steps import Applied as Applied
from steps import Apply as Apply
from steps import Persist as Persist
from steps import Persisted as Persisted
from steps import Received as Received
from steps import Send as Send
from steps import Submitted as Submitted

Event = Any  # one of the first group below
Effect = Any  # one of the second group


class Step(msgspec.Struct, frozen=True, gc=False):
    """What goes into `Replica.step` or comes out of it."""


# --- events: what happened; more in `steps.py` --------------------------------------------------------------------------------------------


class Idled(Step, frozen=True):
    """No command is waiting: tell the backups about the commit now."""


class CutDone(Step, frozen=True):
    """The last batch is gone from the disk."""

    generation: int


class Saved(Step, frozen=True):
    """The superblock holds this log_view."""

    generation: int
    log_view: int


class ViewSaved(Step, frozen=True):
    """The superblock holds this view."""

    generation: int
    view: int


class LogRead(Step, frozen=True):
    """What follows the log end that a GetState named: `images` after (base_op, base_hash), or None where it is not kept here.

    `reaches_head`: they end where the order said. `oldest_op`: first op still in the journal.
    """

    asker: Member
    request: GetState
    base_op: int
    base_hash: bytes
    images: bytes | None
    reaches_head: bool
    oldest_op: int


class Fetched(Step, frozen=True):
    """The snapshot that was offered lies here, whole and verified."""

    generation: int
    op: int
    hash: bytes


class Installed(Step, frozen=True):
    """The state and the log now begin at this snapshot; the next batch's time is not below `time`."""

    generation: int
    op: int
    hash: bytes
    digest: int
    time: int


class Linked(Step, frozen=True):
    """An authenticated link to this member is up."""

    member: Member


class Unlinked(Step, frozen=True):
    """The link to this member is gone."""

    member: Member


class LockProbed(Step, frozen=True):
    """The incarnation that holds the replica's lock; None: nobody holds it."""

    replica: int
    inc: int | None


class RegisterRead(Step, frozen=True):
    """The register's last view; None: there is none yet."""

    view: View | None


class Proposed(Step, frozen=True):
    """The answer to Propose. `view`: the register's last view now, ours or another's; None: nothing happened, and `why`."""

    view: View | None
    why: str = ""


class HealthChecked(Step, frozen=True):
    """Whether this process synced its superblock in time."""

    healthy: bool


class Evaluated(Step, frozen=True):
    """Queries were evaluated; their answers wait under this number until the guard has been looked at."""

    number: int


class DiskFailed(Step, frozen=True):
    """A write or sync of the log failed; `full`: for want of room, before anything was written, so that it is tried again."""

    generation: int
    reason: str
    full: bool


class RoomLooked(Step, frozen=True):
    """Whether more would fit on this disk; looked at each second while the replica is not in the view."""

    has_room: bool


class SnapshotRead(Step, frozen=True):
    """The newest snapshot was read again, long after it was written; `damage`: what is wrong with it, empty when nothing is."""

    damage: str


class SnapshotDiffered(Step, frozen=True):
    """A snapshot of this op, made by replaying the log, has another digest than the state in this process had."""

    op: int


class StopAsked(Step, frozen=True):
    """The operator wants this replica, or with `everybody` all of them, to stop."""

    everybody: bool


class Ticked(Step, frozen=True):
    """Time has passed."""


# --- effects: what must be done; more in `steps.py` ---------------------------------------------------------------------------------------


class Cut(Step, frozen=True):
    """Drop the last batch, the lower durable op written first; then CutDone."""

    generation: int


class SaveLogView(Step, frozen=True):
    """Write view and log_view into the superblock and sync; then Saved."""

    generation: int
    view: int
    log_view: int


class SaveView(Step, frozen=True):
    """Write the view into the superblock and sync, before anything is said in it; then ViewSaved. Policy `majority`.

    `began`: and that nobody had ever stored anything when this disk promised its first view.
    """

    generation: int
    view: int
    began: bool


class Remember(Step, frozen=True):
    """Write down that this incarnation was met. Not answered. Policy `majority`."""

    member: Member


class ReadLog(Step, frozen=True):
    """Look up what follows in the journal, nothing above the batch that ends in (until, tip); then LogRead."""

    asker: Member
    request: GetState
    limit: int
    until: int
    tip: bytes


class OfferSnapshot(Step, frozen=True):
    """Send this replica a SnapshotOffer of the newest complete snapshot."""

    replica: int


class FetchSnapshot(Step, frozen=True):
    """Fetch the offered snapshot from this replica; then Fetched."""

    generation: int
    replica: int
    offer: SnapshotOffer


class InstallSnapshot(Step, frozen=True):
    """Make the fetched snapshot the beginning of state and log by one write of the superblock; then Installed."""

    generation: int
    op: int
    hash: bytes


class ProbeLock(Step, frozen=True):
    """Ask who holds this replica's lock; then LockProbed."""

    replica: int


class ReadRegister(Step, frozen=True):
    """Read the register; then RegisterRead. `told`: a view that somebody acts in already, so it is durable."""

    told: int = 0


class Propose(Step, frozen=True):
    """Try to make this the register's next view; then Proposed."""

    view: View


class CheckHealth(Step, frozen=True):
    """Sync the superblock against the clock; then HealthChecked."""


class CheckGuard(Step, frozen=True):
    """Look whether the register still ends at this view; then give the answers that wait under this number. Policy `survivor`."""

    number: int


class Confirm(Step, frozen=True):
    """Give the answers that wait under this number or a lower one: a majority has confirmed the view since. Policy `majority`."""

    number: int


class Exit(Step, frozen=True):
    """The process must end; `suspect`: mark this disk as not to be trusted first. The next incarnation is above `inc`.

    `forced`: an operator has decided this view without this replica's log, which the next incarnation sets aside.
    """

    reason: str
    suspect: bool
    inc: int = 0
    forced: int = 0


class Trace(Step, frozen=True):
    """A line for people: what was done and why."""

    text: str
