"""What one seed draws: sizes, delays, and how often what goes wrong (swarm testing: no two seeds mix alike).

What it is not: it does nothing; `world.py` and `faults.py` read it.

Sizes that are constants of the program are made small here, so that a run of a few hundred requests crosses every boundary: segments,
chunks of a transfer, message files, catch-up pieces. They are put back by `restore`.

Read next: `world.py`.
"""

from __future__ import annotations

import random
from typing import Any, NamedTuple

import msgspec

import batches
import connection
import journal
import majority
import replication
import segments
import server
import snapshots
import state
import storage
import survivor
import transfer
from settings import Address, Settings
from settings import Replica as ReplicaSettings

FAULTS = (
    "kill",
    "kill at an effect",
    "kill two",
    "kill all",
    "power cut",
    "power cut at an effect",
    "pause",
    "slow clock",
    "second start",
    "cut link",
    "cut guest",
    "slow network",
    "partition",
    "one-way partition",
    "isolation",
    "slow disk",
    "failing sync",
    "failing write",
    "failing read",
    "full disk",
    "empty directory",
    "old directory",
    "bit flip",
    "wrong sector",
    "stop",
    "stop all",
    "clock jump",
    "register full",
    "wrong memory",
)


# A seed draws its faults from one of these: what must come together to do harm comes together often.
THEMES = {
    "anything": FAULTS,
    "disks": (
        *("kill all", "kill at an effect", "power cut", "power cut at an effect", "failing sync", "failing write", "failing read"),
        *("full disk", "empty directory", "old directory", "bit flip", "wrong sector", "register full", "stop all"),
    ),
    "processes": (
        *("kill", "kill two", "kill all", "pause", "slow disk", "stop", "stop all", "clock jump", "slow clock", "wrong memory"),
        "second start",
    ),
    "wires": ("kill", "kill two", "pause", "cut link", "cut guest", "slow network", "partition", "one-way partition", "isolation", "stop"),
}
TOLD = 0.55  # share of the seeds that begin with a story (`stories.py`); what a story needs of sizes and settings it is given
STORIES: dict[str, dict[str, Any]] = {
    "asked while it stood still": {},
    "harm and death of all": {},
    "an old directory": {},
    "the register is lost": {},
    "torn at the end": {},
    "only in the page cache": {},
    "rot in the newest snapshot": {"segment": 20 << 10, "often": 1},
    "late state of an older view": {},
    "a learner needs a snapshot": {"segment": 20 << 10, "chunk": 4096, "catch_up": 600, "often": 1, "slowly": 1},
    "fetched by halves": {"catch_up": 600},
    "rot below the snapshot": {"catch_up": 600, "often": 1},
    "no link when it begins": {},
    "cut and killed": {},
    "an old word": {},
    "the last disk": {},
    "a late acknowledgement": {},
    "an answer lost on its way": {},
}


RUSH_EVERY, RUSH_AT = 20, 10  # which seeds are rushes: their number modulo the first
RUSH_WINDOWS = (16, 32, 64)  # requests that a guest has under way there


FIVE_EVERY, FIVE_AT = 25, 23  # which seeds have five replicas, if they have no story: those are made for three


class Mix(NamedTuple):
    """See the module's page. Times are seconds."""

    guests: int
    requests: int  # of all guests together
    window: int  # requests a guest has under way
    think: float  # between two requests of a guest
    settles_at_once: bool  # production: an order to the disk is answered before the next effect
    sync_time: float
    net_delay: float
    net_jitter: float
    loss: float  # packets of the core that are lost, repeated, overtaken; 0: as TCP
    repeat: float
    overtake: float
    fault_gap: float  # mean time between two faults
    paced: bool  # whether a number of answers brings the next fault sooner, so that it strikes in the middle of the load
    fault_count: int  # at least
    theme: str
    faults: tuple[str, ...]  # what may go wrong in this seed
    patience: float  # a guest that hears nothing for so long tries the next port
    undrained: float  # chance that a guest's socket is not drained
    snapshot_time: float
    wall_skew: bool
    sizes: dict[str, int]
    settings: Settings
    story: str

    @property
    def rushes(self) -> bool:
        """Whether guests ask without a thought, many requests at once."""
        return self.window >= RUSH_WINDOWS[0]

    @property
    def leisure(self) -> float:
        """Seconds between two requests of a guest that mostly reads."""
        return 0.002 if self.rushes else 0.15

    @property
    def ahead(self) -> int:
        """Requests that may be waiting to be asked: when nothing is answered for long, more of them prove nothing."""
        return max(120, 2 * self.requests // self.fault_count)


def draw(dice: random.Random) -> Mix:
    """The mix of one seed."""
    return draw_from(dice, THEMES, STORIES, make_settings(dice))


def draw_from(dice: random.Random, themes: dict[str, tuple[str, ...]], stories: dict[str, dict[str, Any]], settings: Settings) -> Mix:
    """The same under whatever policy."""
    story = dice.choice(sorted(stories)) if dice.random() < TOLD else ""
    wants = stories.get(story, {})
    if "often" in wants:
        often = {"snapshot_quiet_ms": 100, "snapshot_every_s": 1, "snapshot_every_bytes": 8 << 10}
        settings = msgspec.structs.replace(settings, **often)
    theme = dice.choice(("anything", *themes))
    few = dice.sample(themes[theme], dice.randint(2, min(8, len(themes[theme]))))
    datagrams = dice.random() < (0.6 if theme == "wires" else 0.2)
    sizes = {
        "segment": dice.choice((20, 32, 64)) << 10,
        "chunk": dice.choice((512, 4096, 256 << 10)),
        "messages": dice.choice((7, 40, 50_000)),
        "catch_up": dice.choice((600, 4096, 1 << 20)),
        "window": dice.choice((16, 64, 1024)),
    }
    sizes |= {name: value for name, value in wants.items() if name in sizes}
    return Mix(
        guests=dice.randint(2, 6),
        requests=dice.randint(205, 360),
        window=dice.choice((1, 2, 4, 8)),
        think=dice.choice((0.0, 0.005, 0.02, 0.06)),
        settles_at_once=dice.random() < 0.5 and "answers_late" not in wants,
        sync_time=dice.choice((0.0002, 0.001, 0.01)),
        net_delay=dice.choice((0.0001, 0.0005, 0.003)),
        net_jitter=dice.choice((0.0, 0.0005, 0.01)),
        loss=dice.choice((0.0, 0.02, 0.1)) if datagrams else 0.0,
        repeat=dice.choice((0.0, 0.02, 0.1)) if datagrams else 0.0,
        overtake=dice.choice((0.0, 0.05, 0.3)) if datagrams else 0.0,
        fault_gap=dice.choice((0.2, 0.4, 0.8, 2.0)),
        paced=dice.random() < 0.6,
        fault_count=dice.randint(10, 16),
        theme=theme,
        faults=tuple(sorted(few)),
        patience=dice.choice((0.4, 0.4, 1.0, 2.0)),
        undrained=dice.choice((0.0, 0.0, 0.3)),
        snapshot_time=dice.choice((0.005, 0.05, 0.5)) if "slowly" not in wants else 0.5,
        wall_skew=dice.random() < 0.3,
        sizes=sizes,
        settings=settings,
        story=story,
    )


def rushed(seed: int, mix: Mix) -> Mix:
    """Some seeds are a rush: full windows, batches of many commands, and several times as many requests. All else is as it was drawn."""
    if seed % RUSH_EVERY != RUSH_AT:
        return mix
    dice = random.Random(seed)
    sizes = {**mix.sizes, "window": max(mix.sizes["window"], RUSH_WINDOWS[-1]), "messages": max(mix.sizes["messages"], 40)}
    return mix._replace(requests=dice.randint(1200, 2000), window=dice.choice(RUSH_WINDOWS), think=0.0, sizes=sizes)


def crowded(seed: int, mix: Mix) -> Mix:
    """Some seeds of one host have five replicas, of which four may die. All else is as it was drawn."""
    if seed % FIVE_EVERY != FIVE_AT or mix.story:
        return mix
    return mix._replace(settings=msgspec.structs.replace(mix.settings, replicas=_replicas(5)))


def _replicas(count: int) -> tuple[ReplicaSettings, ...]:
    return tuple(ReplicaSettings(i, Address("127.0.0.1", 7661 + i), {"pipe": (6666 + i,)}) for i in range(count))


def make_settings(dice: random.Random) -> Settings:
    """Three replicas on one host."""
    return Settings(
        name="simulated",
        replicas=_replicas(3),
        heartbeat_ms=dice.choice((50, 50, 100)),
        snapshot_quiet_ms=dice.choice((100, 300, 2000)),
        snapshot_every_s=dice.choice((1, 3, 60)),
        snapshot_every_bytes=dice.choice((8 << 10, 64 << 10, 1 << 26)),
    )


def _places(sizes: dict[str, int]) -> list[tuple[Any, str, Any]]:
    image_max = batches.HEADER_SIZE + (8 << 10) + batches.TRAILER_SIZE
    return [
        (segments, "IMAGE_MAX", image_max),
        (journal, "SEGMENT_BYTES", sizes["segment"]),
        (journal, "FIRST_BYTES", sizes["segment"] // 2),
        (journal, "SLICE_BYTES", 4 << 10),
        (segments, "MARK_BYTES", 2 << 10),
        (segments, "ZEROS", bytes(16 << 10)),
        (journal, "ZEROS", bytes(16 << 10)),
        (server, "BATCH_MAX", 8 << 10),
        (server, "FORWARD_MAX", 4 << 10),
        (transfer, "CHUNK", sizes["chunk"]),
        (storage, "BALLAST_BYTES", 64 << 10),
        (storage, "ROOM_BYTES", 16 << 10),
        (snapshots, "MESSAGES_PER_FILE", sizes["messages"]),
        (survivor, "CATCH_UP_BYTES", sizes["catch_up"]),
        (majority, "CATCH_UP_BYTES", sizes["catch_up"]),
        (replication, "CATCH_UP_BYTES", sizes["catch_up"]),
        (state, "WINDOW", sizes["window"]),
        (connection, "WINDOW", sizes["window"]),
    ]


def shrink(sizes: dict[str, int]) -> None:
    """Make the program's sizes those of this seed."""
    for module, name, value in _places(sizes):
        _before.setdefault((module, name), getattr(module, name))
        setattr(module, name, value)


def restore() -> None:
    """Put the program's own sizes back."""
    for (module, name), value in _before.items():
        setattr(module, name, value)
    _before.clear()


_before: dict[tuple[Any, str], Any] = {}
