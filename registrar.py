"""What the replicas of one host share, as the core of one of them asks for it: the register of views, and the locks of the others.

What it is not: it decides no view (`survivor.py`) and holds no file (`register.py`, `disk.py`). Under `majority` nobody asks it anything:
every replica has a directory of its own there.

    ReadRegister   RegisterRead, if there is a newer view than the core was told of
    Propose        Proposed
    CheckGuard     the answers that wait for the guard, or RegisterRead of the view that is newer
    ProbeLock      LockProbed

Invariants:
- A directory that was moved or removed is not proposed in, and answers nothing that needs the guard. Under `majority` it has no say.
- After an error of the register that leaves open what happened, this incarnation ends.

Read next: `register.py`, `survivor.py`.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from disk import ReplicaLock
from events import CheckGuard, Event, Exit, LockProbed, ProbeLock, Propose, Proposed, ReadRegister, RegisterRead
from host import Host
from register import RegisterDamaged
from storage import Storage

MOVED = "data/cluster was moved or deleted: this replica answers nothing that needs it; put it back, or stop the cluster"
LOCK_MOVED = "data/cluster was moved or deleted: until this replica is started again, nothing keeps a second process from its directory"


class Registrar:
    """One replica's. `is_shared`: the directory decides views. `feed` gives the core an event, `report` tells the operator of trouble,
    `leave` ends this incarnation.
    """

    def __init__(
        self,
        host: Host,
        storage: Storage,
        *,
        is_shared: bool,
        feed: Callable[[Event], None],
        report: Callable[[str], None],
        leave: Callable[[Exit], None],
    ) -> None:
        self.host, self.storage, self.is_shared = host, storage, is_shared
        self.feed, self.report, self.leave = feed, report, leave
        self.told = 0  # the newest view that the core was told of
        self.is_there = True

    def look(self) -> bool:
        """Whether the directory is back where it was. Raises OSError."""
        # A moved directory stays readable through its descriptor for ever, and its guard would pass for ever.
        is_same, was_there = self.storage.register.is_path_same(), self.is_there
        self.is_there = is_same or not self.is_shared
        if not is_same:
            self.report(MOVED if self.is_shared else LOCK_MOVED)
        return self.is_there and not was_there

    def read(self, order: ReadRegister) -> None:
        try:
            view = self.storage.register.last(order.told)
        except RegisterDamaged as error:
            return self.report(f"the register cannot be read: {error}")
        except OSError as error:
            return self.leave(Exit(f"the register failed: {error}", suspect=False))
        if view is not None and view.number > self.told:
            self.told = view.number
            self.feed(RegisterRead(view))

    def propose(self, order: Propose) -> None:
        proposed = msgspec.structs.replace(order.view, time=self.host.wall())
        if not self.storage.register.is_path_same():
            # What is made under that name now is another register, which the others may not see.
            return self.feed(Proposed(None, MOVED))
        try:
            view = self.storage.propose(proposed)
        except RegisterDamaged as error:
            return self.feed(Proposed(None, f"the register cannot be read: {error}"))
        except OSError as error:
            return self.leave(Exit(f"the register failed: {error}", suspect=False))
        self.feed(Proposed(view, "" if view else "the disk of the register is full"))

    def check_guard(self, order: CheckGuard, view: int, confirm: Callable[[CheckGuard], None]) -> None:
        """Whether no view after this one exists."""
        if self.storage.register.is_last(view):
            return confirm(order)
        self.feed(RegisterRead(self.storage.register.last()))  # the new view has them asked again

    def probe_lock(self, order: ProbeLock) -> None:
        try:
            holder = ReplicaLock.probe(self.storage.disk, self.storage.cluster_path, order.replica)
        except OSError as error:
            # It proves nothing, and is asked again soon.
            return self.report(f"the lock of replica {order.replica} cannot be looked at: {error}")
        self.feed(LockProbed(order.replica, holder))

    def holds_lock(self, replica: int, inc: int) -> bool:
        """Whether this incarnation holds its replica's lock: without that, no link. On another host there is none to look at."""
        if not self.is_shared:
            return True
        try:
            return ReplicaLock.probe(self.storage.disk, self.storage.cluster_path, replica) == inc
        except OSError as error:
            self.report(f"the lock of replica {replica} cannot be looked at: {error}")
            return False
