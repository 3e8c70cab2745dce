"""How many files this process may have open, and for how many connections that is enough.

What it is not: it counts nothing that is open (`doors/stream.py`, `gate.py` and gRPC do); it says where their limits have to be.

    OWN            segments of the journal, what is sent and fetched, links, listeners, worker, operators: never a guest's
    newcomers      connections whose TLS handshake is under way; an eighth of the rest at most
    calls          connections of the gRPC door, if there is one; half of what is left at most
    guests         connections of all other doors: `clients_max`, or all that is left

So an operator is answered however many guests there are.

Read next: `doorways.py`.
"""

from __future__ import annotations

import resource
from typing import NamedTuple

from settings import Settings

OWN = 160
GUESTS_MIN = 32  # below that it would start and be of no use
NEWCOMERS_MAX = 2048  # TLS handshakes under way at all doors together: each costs a descriptor and some 50 KiB
CALLS_MAX = 20_000  # connections of the gRPC door


class TooFewDescriptors(Exception):
    """This process may not open as many files as it needs itself."""


class Room(NamedTuple):
    """Connections of each kind at most."""

    guests: int
    calls: int
    newcomers: int


def raise_limit() -> int:
    """As high as it may be without asking anybody. Raises TooFewDescriptors."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if 0 <= hard < OWN + GUESTS_MIN:
        raise TooFewDescriptors(
            f"it may open {hard} files at most, and needs {OWN} for itself and {GUESTS_MIN} for guests:"
            " raise `ulimit -Hn` (LimitNOFILE in a unit)"
        )
    return hard


def room(settings: Settings, replica: int, limit: int | None = None) -> Room:
    """What there is for guests within this limit, which is the process's own if none is given."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if limit is None else limit
    has_grpc = "grpc" in settings.replica(replica).doors
    wanted = Room(settings.clients_max, CALLS_MAX if has_grpc else 0, NEWCOMERS_MAX if settings.secures_doors else 0)
    left = limit - OWN
    if limit < 0 or sum(wanted) <= left:
        return wanted
    newcomers = min(wanted.newcomers, left // 8)
    calls = min(wanted.calls, (left - newcomers) // 2)
    return Room(min(wanted.guests, left - newcomers - calls), calls, newcomers)


def warnings(settings: Settings, replica: int, limit: int) -> list[str]:
    """What an operator should know of a limit that is lower than what cluster.yaml asks for."""
    found = room(settings, replica, limit)
    if found.guests == settings.clients_max and found.calls in (0, CALLS_MAX):
        return []
    grpc = f" and {found.calls:,} at the gRPC door" if found.calls else ""
    what = f"this process may open {limit:,} files, which is enough for {found.guests:,} guests{grpc}"
    return [f"{what}; clients_max is {settings.clients_max:,}: raise `ulimit -Hn` (LimitNOFILE in a unit)"]
