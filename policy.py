"""What the two modes of a cluster decide differently: the questions that `replication.py` asks, and what it tells.

What it is not: it answers nothing by itself, but for what one of the two has no reason to care about.

    question                             survivor.py (one host)                    majority.py (several hosts)
    members of a view                    as the register says                      all replicas
    primary of view v                    stays while it lives, then lowest id      replica v mod N
    committed when synced at             every member, and the joint learner       a majority, the primary among them
    who decides the next view            whoever creates its file                  a majority that asks for it
    a new primary goes on from           its own log                               the best log of a majority
    guard of a query                     the next view's file does not exist       a round answered by a majority
    who may begin anew                   one intact member of the last view        whose disk is intact; a majority of them

Read next: `replication.py`, then `survivor.py` or `majority.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

from batches import Batch
from events import Event
from packets import CommitOk, Member, Packet, PrepareOk, StartView

ERA = 10**9  # views; a view that an operator forces under `majority` is the first of its era, which nobody comes to by asking


class Timers(NamedTuple):
    """Seconds; see `cluster.yaml`."""

    heartbeat: float = 0.05
    suspect: float = 1.0
    ack: float = 2.0
    restart: float = 1.0
    join: float = 0.5


class Start(NamedTuple):
    """What a process knows when it begins: its disk, read and synced."""

    inc: int
    view: int
    log_view: int
    head_op: int
    head_hash: bytes
    parent_op: int
    parent_hash: bytes
    last: Batch | None  # batch at head; None: the head is a snapshot or nothing
    digest: int
    damage: str  # why this disk may not speak for the cluster; empty: it is intact
    time: int  # microseconds that no batch after the snapshot at head may go below, if it ends there
    born: int  # the incarnation in which it began; it knows nothing of what its replica promised before
    began: bool  # it took part in the first view of all, before anybody had stored anything


class Policy(ABC):
    """See the module's table."""

    waiting: str  # what a replica that is not in the view waits for, in words
    reason: str  # why its view was taken
    forced: int  # the newest view that an operator has decided; 0: none
    changed: int  # when the view was decided, or its first batch was formed: microseconds of the wall clock; 0: nobody here knows

    @abstractmethod
    def is_eligible(self) -> bool:
        """Whether this replica's disk may speak for the cluster."""

    @abstractmethod
    def counts(self, sender: Member) -> bool:
        """Whether an ack of this member counts."""

    @abstractmethod
    def has_enough(self, acks: set[int]) -> bool:
        """Whether a batch that these replicas have synced is committed."""

    @abstractmethod
    def receivers(self) -> tuple[int, ...]:
        """To whom the primary sends its batches."""

    @abstractmethod
    def members(self) -> tuple[Member, ...]:
        """Who is in the view, as far as this replica knows; nobody: there is no view yet. Others' guests are not there."""

    def is_joining(self) -> bool:
        """Whether this learner is being taken in: commits wait for its acks."""
        return False

    @abstractmethod
    def refuses(self, asker: Member) -> str:
        """Why this replica gives nothing of its log to who asks; empty: it does."""

    @abstractmethod
    def piece_bytes(self, asker: Member) -> int:
        """How much log it may have at a time."""

    def takes_in(self, asker: Member) -> bool:
        """Whether the log of who asked, level with this one now, may count as the view's."""
        return True

    def is_in_touch(self) -> bool:
        """Whether this primary has no reason to think that it leads nobody."""
        return True

    def reachable(self) -> int:
        """How many replicas this one can talk to, itself included, where that decides anything."""
        return 0

    def is_cut_off(self) -> bool:
        """Whether nobody can be served here until it is reached by more of the others."""
        return False

    def has_log(self) -> bool:
        """Whether this primary of a view that has not begun holds the log that the view goes on from."""
        return True

    @abstractmethod
    def on_tick(self) -> None: ...
    @abstractmethod
    def on_paused(self) -> None: ...
    @abstractmethod
    def on_event(self, event: Event) -> None: ...
    @abstractmethod
    def on_packet(self, sender: Member, packet: Packet) -> None: ...
    @abstractmethod
    def on_newer_view(self, sender: Member, packet: Packet) -> None: ...
    @abstractmethod
    def on_sign_of_life(self, sender: Member) -> None: ...
    @abstractmethod
    def on_behind(self, packet: StartView) -> None:
        """This log lacks more than the last batch of its new primary's."""

    @abstractmethod
    def on_ack(self, sender: Member, packet: PrepareOk) -> None: ...
    def on_commit_ok(self, sender: Member, packet: CommitOk) -> None:
        """A round of Commit was answered."""
        return None

    @abstractmethod
    def on_quiet(self) -> None: ...
    @abstractmethod
    def on_disk_trouble(self) -> None: ...
