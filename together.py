"""What one read of a link has brought, when it is more than one packet: whoever is behind takes many batches with one sync.

What it is not: it reads nothing (`links.py`), and stores nothing (`replication.py`, which looks whether batches follow each other).

    read     Prepare 7 · Commit 7 · Prepare 8 · Commit 8 · Prepare 9
    given    Prepare 7 8 9 · Commit 7 · Commit 8

A primary sends the next batch when the one before is committed. So where all are needed for that, or a replica is as fast as the others, no
read brings two.

Read next: `replication.py`.
"""

from __future__ import annotations

import msgspec

from packets import AnyPacket, Commit, Prepare


def gather(packets: list[AnyPacket]) -> list[AnyPacket]:
    """The same packets, but that batches of one view become one `Prepare`; a `Commit` between them says no more than the next one does."""
    given, run, heard = list[AnyPacket](), list[Prepare](), list[AnyPacket]()
    for packet in packets:
        if type(packet) is Prepare and (not run or packet.view == run[-1].view):
            if not run or packet.image != run[-1].image:  # it was sent again meanwhile
                run.append(packet)
        elif type(packet) is Commit and run:
            heard.append(packet)
        else:
            given += [*_as_one(run), *heard, packet]
            run, heard = [], []
    return [*given, *_as_one(run), *heard]


def _as_one(run: list[Prepare]) -> list[Prepare]:
    return [msgspec.structs.replace(run[-1], image=b"".join(p.image for p in run))] if len(run) > 1 else run
