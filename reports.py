"""What a replica says of itself: to guests, who need another port, and to operators, who want to know how it is.

What it is not: it asks no other replica (`operators.py` puts the answers of all together), and it names no guest and no text.

    describe    `cluster` in the numbered mode: who is primary, which ports the same door has
    status      `server.py status`: one row

Read next: `operators.py`.
"""

from __future__ import annotations

import os
from typing import Any

import compiled
from host import VERSION
from replication import LEARNER, LIVE, NORMAL, READ_ONLY, Replica
from settings import Address, Settings
from storage import Storage


def describe(settings: Settings, replica: Replica, door: str) -> dict[str, Any]:
    """What a guest at this door may know of the cluster."""
    members = {m.replica for m in replica.policy.members()}
    primary = replica.primary.replica if replica.primary else None
    return {
        "cluster": settings.name,
        "policy": settings.policy,
        "survives": settings.survives(),
        "view": replica.view,
        "primary": primary,
        "self": replica.me.replica,
        "replicas": [
            {
                "id": r.id,
                "role": "primary" if r.id == primary else "backup" if r.id in members else "down",
                "ports": [str(Address(r.reached_at, port)) for port in r.doors.get(door, ())],
            }
            for r in settings.replicas
        ],
    }


def status(settings: Settings, replica: Replica, storage: Storage, *, uptime: float, connections: int, trouble: str) -> dict[str, Any]:
    """What an operator wants to know of this replica; no names, no texts."""
    policy = replica.policy
    role = ("primary" if replica.is_primary else "backup") if replica.status in LIVE else LEARNER
    return {
        "id": replica.me.replica,
        "role": role,
        "status": replica.status,
        "view": replica.view,
        "op": replica.head_op,
        "commit": replica.commit,
        "applied": replica.applied,
        "snapshot": storage.snapshot_op,
        "pid": os.getpid(),
        "uptime": round(uptime, 1),
        "connections": connections,
        "serving": replica.serving,
        "primary": replica.primary.replica if replica.primary else None,
        "is_served": replica.status == NORMAL and policy.is_in_touch() and replica.primary in policy.members(),
        "policy": settings.policy,
        "members": [m.replica for m in policy.members()],
        "reason": policy.reason,
        "changed": policy.changed,
        "forced": max(policy.forced, storage.superblock.forced),
        "waiting": waiting(replica) if replica.status == LEARNER else "",
        "trouble": cut_off(replica) or read_only(replica) or trouble or replica.damage,
        "version": VERSION,
        "form": compiled.form(),
    }


def reached(replica: Replica) -> tuple[int, int]:
    """How many of how many replicas this one reaches, where those are too few for anybody to be served here; else zeros."""
    return (replica.policy.reachable(), len(replica.replicas)) if replica.policy.is_cut_off() else (0, 0)


def waiting(replica: Replica) -> str:
    """What a replica outside the view waits for."""
    lacking = replica.trouble or "nothing more fits on this disk"
    return f"for room: {lacking}" if replica.is_full or (replica.lacks_room and replica.primary is not None) else replica.policy.waiting


def read_only(replica: Replica) -> str:
    """What is wrong with the disk of a replica in the view, and that nothing new is taken if it is the last one."""
    if replica.status == READ_ONLY:
        return f"read_only, which means that reads are answered and nothing new is taken: {replica.trouble}"
    return replica.trouble if replica.status in LIVE else ""


def cut_off(replica: Replica) -> str:
    """The same in words; empty: it reaches enough."""
    count, of = reached(replica)
    return f"this side of the network is cut off: {count} of {of} replicas reachable" if of else ""
