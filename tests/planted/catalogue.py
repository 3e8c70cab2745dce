"""All planted bugs by name.

Read next: `agreement.py`.
"""

from __future__ import annotations

from tests.planted import Mutation, agreement, disks, guests, views, voters

MUTATIONS: dict[str, Mutation] = {m.name: m for m in (*agreement.BUGS, *views.BUGS, *disks.BUGS, *guests.BUGS, *voters.BUGS)}
