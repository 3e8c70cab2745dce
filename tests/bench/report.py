"""What was measured, as a table, as JSON, as a picture; and the ratios that were promised.

What it is not: it holds no figure of its own. A ratio whose two sides were not measured in this run is said to be unknown.

    ratio    of two systems in the same round; then the median of the rounds. Ours is taken at the first door of `TEXTS` that was asked for:
             at the others a message is other work than it is elsewhere
    target   `Target`: a ratio, and what it should be

Read next: `scripts/bench.py`.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TextIO

import msgspec

from tests.bench.failover import Failover
from tests.bench.load import Result, Times

OWN = "understudy"
TEXTS = ("numbered", "pipe", "framed")
Key = tuple[str, str, str]  # system, dialect, workload


class Target(NamedTuple):
    """`figure` of our `workload` against the same of another: at least (or, of times, at most) `bound`; without one it is only told."""

    workload: str
    figure: str  # per_second, p50, shown
    system: str
    their_workload: str
    bound: float | None
    dialect: str = ""  # of ours; empty: the first of `TEXTS` that there is
    their_dialect: str = ""  # empty: their first


TARGETS = (
    Target("W1", "per_second", "redis", "W1", 1.0),
    Target("W1", "per_second", "etcd", "W1", 2.5),
    Target("W1", "per_second", "bare", "W1", 0.75),
    Target("W2", "per_second", "redis", "W2", 1.1),
    Target("W2", "p50", "bare", "W2", 1.25),
    Target("W3", "per_second", "nats", "W3", 1.0),
    Target("W3", "per_second", "etcd", "W3", 2.5),
    Target("W3", "per_second", "bare", "W3", 0.5),
    Target("W3", "per_second", "redis", "W3", None),
    Target("W3", "per_second", "redis", "W3", None, their_dialect="onewait"),
    *(Target(workload, "per_second", "echo", workload, 0.5, "grpc") for workload in ("W1", "W2", "W3")),
    Target("D", "shown", OWN, "W1", 1.5),
    Target("w1", "per_second", OWN, "W1", 0.6),
    Target("w2", "per_second", OWN, "W2", 0.6),
    Target("w3", "per_second", OWN, "W3", 0.6),
)
FAILOVER_MS = 25.0
PICK: dict[str, Callable[[Result], float]] = {
    "per_second": lambda result: result.per_second,
    "p50": lambda result: result.times.p50,
    "shown": lambda result: result.shown.p50,
}


class Figures:
    """Everything that was measured in one run."""

    def __init__(self) -> None:
        self.asked: dict[str, Any] = {}  # the command line
        self.settings: dict[str, str] = {}
        self.rounds: dict[Key, dict[int, Result | str]] = {}
        self.failover: Failover | None = None

    def note(self, number: int, system: str, dialect: str, workload: str, result: Result | str) -> None:
        """One measurement, or why there is none."""
        self.rounds.setdefault((system, dialect, workload), {})[number] = result

    def troubles(self) -> list[str]:
        """What could not be measured."""
        return [f"{key}: {result}" for key, rounds in self.rounds.items() for result in rounds.values() if isinstance(result, str)]

    def results(self, key: Key) -> dict[int, Result]:
        """Of the rounds in which there is one."""
        return {number: result for number, result in self.rounds.get(key, {}).items() if isinstance(result, Result)}

    def median(self, key: Key, pick: Callable[[Result], float]) -> float:
        """Of the rounds."""
        found = [pick(result) for result in self.results(key).values()]
        return statistics.median(found) if found else float("nan")

    def ours(self, workload: str, dialect: str = "") -> Key | None:
        """What is compared of ours, if it was asked for. Where that failed there is nothing to compare: another door is other work."""
        return next((key for door in ((dialect,) if dialect else TEXTS) if (key := (OWN, door, workload)) in self.rounds), None)

    def theirs(self, system: str, workload: str) -> list[Key]:
        """Each way in which this was asked of another system."""
        return [key for key in self.rounds if key[0] == system and key[2] == workload]

    def pair(self, target: Target) -> tuple[Key, Key] | None:
        """The two sides of a ratio, if both were asked for in this run."""
        ours = self.ours(target.workload, target.dialect)
        if ours is None:
            return None
        if target.system == OWN:
            others = [(OWN, ours[1], target.their_workload)]
        else:
            others = [key for key in self.theirs(target.system, target.their_workload) if target.their_dialect in ("", key[1])]
        return (ours, others[0]) if others else None

    def ratio(self, target: Target) -> float | None:
        """Ours over theirs, the median of the rounds; None: one of them was not measured in this run."""
        pair = self.pair(target)
        if pair is None:
            return None
        pick = PICK[target.figure]
        other = PICK["p50"] if target.figure == "shown" else pick
        mine, others = map(self.results, pair)
        found = [pick(mine[n]) / other(others[n]) for n in mine.keys() & others.keys() if other(others[n])]
        return statistics.median(found) if found else None

    def targets(self) -> Iterator[tuple[str, str, bool | None]]:
        """Words, value, whether it is met (None: unknown)."""
        for t in TARGETS:
            value, is_time = self.ratio(t), t.figure != "per_second"
            what = {"per_second": "messages a second", "p50": "p50", "shown": "display p50"}[t.figure]
            whom = f"{t.their_workload} on the primary" if t.system == OWN else t.their_dialect or t.system
            pair = self.pair(t)
            door = pair[0][1] if pair and pair[0][1] != TEXTS[0] else t.dialect
            bound = f"{'at most' if is_time else 'at least'} {t.bound:g} × {whom}" if t.bound is not None else f"of {whom}'s"
            words = f"{f'{door} ' if door else ''}{t.workload} {what}, {bound}"
            if value is None:
                yield words, "not measured in this run", None
            else:
                is_met = None if t.bound is None else value <= t.bound if is_time else value >= t.bound
                yield words, f"{value:.2f}", is_met
        median = self.failover.times().p50 if self.failover else None
        words = f"F median, at most {FAILOVER_MS:g} ms"
        if median is None:
            yield words, "not measured in this run", None
        else:
            yield words, f"{median:.1f} ms", median <= FAILOVER_MS


def show(figures: Figures) -> str:
    """The tables, for people."""
    out = ["", *(f"{name:10}  {words}" for name, words in figures.settings.items()), ""]
    heads = f"{'msg/s':>9} {'p50 ms':>8} {'p99':>8} {'p99.9':>8} {'B out':>6} {'B in':>6}"
    out.append(f"{'system':10} {'dialect':9} {'load':4} {heads}   µs of processor a message")
    for key in sorted(figures.rounds, key=lambda key: (key[2].upper(), key[2], key[0] != OWN)):
        out.append(row(figures, key) if figures.results(key) else f"{key[0]:10} {key[1]:9} {key[2]:4} {'no figure':>9}")
        out += beside(figures, key)
    if figures.failover:
        times = figures.failover.times()
        out.append(f"F: {times.count} gaps, median {times.p50:.1f} ms, p99 {times.p99:.1f} ms, worst {times.worst:.1f} ms")
        out.append(f"   {figures.failover.verdict}")
    out += ["", "target"]
    marks = {True: "met", False: "MISSED", None: ""}
    out += [f"  {words:55} {value:>24}  {marks[met]}" for words, value, met in figures.targets()]
    out += [f"  {trouble[:300]}" for trouble in figures.troubles()]
    return "\n".join(out)


def row(figures: Figures, key: Key) -> str:
    """One line of the table."""
    results = figures.results(key).values()
    per_second = figures.median(key, PICK["per_second"])
    times = [statistics.median(getattr(r.times, name) for r in results) for name in ("p50", "p99", "p999")]
    went, came = statistics.median(r.bytes_out for r in results), statistics.median(r.bytes_in for r in results)
    used = " + ".join(f"{statistics.median(each):.1f}" for each in zip(*(r.processor for r in results), strict=True))
    own = statistics.median(r.own_processor for r in results)
    figure = f"{per_second:9.0f} {times[0]:8.3f} {times[1]:8.3f} {times[2]:8.3f} {went:6.0f} {came:6.0f}"
    return f"{key[0]:10} {key[1]:9} {key[2]:4} {figure}   {used} (load {own:.1f})"


def beside(figures: Figures, key: Key) -> list[str]:
    """Lines below a row: what else was measured at the same time."""
    picks: dict[str, Callable[[Result], Times]] = {
        "shown": lambda r: r.shown,
        "lists": lambda r: r.lists,
        "mailboxes": lambda r: r.mailboxes,
    }
    out = []
    for name, pick in picks.items():
        if any(pick(result).count for result in figures.results(key).values()):
            p50, p99 = figures.median(key, lambda r: pick(r).p50), figures.median(key, lambda r: pick(r).p99)  # noqa: B023
            out.append(f"{'':26}{name}: p50 {p50:.3f} ms, p99 {p99:.3f} ms")
    return out


def write_json(figures: Figures, file: TextIO) -> None:
    """Every round of everything."""
    rounds = [
        {"system": key[0], "dialect": key[1], "workload": key[2], "round": number, "result": result}
        for key, results in figures.rounds.items()
        for number, result in results.items()
    ]
    everything: dict[str, Any] = {"asked": figures.asked, "settings": figures.settings, "rounds": rounds}
    if figures.failover:
        everything["failover_ms"] = [round(gap * 1e3, 3) for gap in figures.failover]
        everything["failover_audit"] = figures.failover.verdict
    everything["targets"] = [{"target": words, "value": value, "met": met} for words, value, met in figures.targets()]
    file.write(msgspec.json.format(msgspec.json.encode(everything), indent=1).decode() + "\n")


COLOURS = {"understudy": "#2a6f97", "bare": "#a9a9a9", "redis": "#c1443c", "etcd": "#e0a030", "nats": "#5a9367"}


def write_plot(figures: Figures, file: TextIO) -> None:
    """Bars: messages a second of W1, W2 and W3, each panel with its own scale."""
    panels = [w for w in ("W1", "W2", "W3") if any(key[2] == w for key in figures.rounds)]
    width, height, top = 250, 210, 40
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width * len(panels)} {height + 70}"',
        ' font-family="sans-serif" font-size="11">',
        '<text x="8" y="16" font-size="13">Messages a second, acknowledged; measured in turn on one machine</text>',
    ]
    for place, workload in enumerate(panels):
        keys = [key for name in COLOURS for key in (figures.theirs(name, workload) if name != OWN else [figures.ours(workload)]) if key]
        keys = [key for key in keys if figures.results(key)]
        values = [figures.median(key, PICK["per_second"]) for key in keys]
        most, step = max(values, default=1.0), (width - 30) / max(1, len(keys))
        out.append(f'<text x="{place * width + 12}" y="{top - 6}">{workload}</text>')
        for at, (key, value) in enumerate(zip(keys, values, strict=True)):
            bar, x = value / most * (height - top - 20), place * width + 12 + at * step
            box = f'x="{x:.0f}" y="{height - bar:.0f}" width="{step * 0.8:.0f}" height="{bar:.0f}"'
            out.append(f'<rect {box} fill="{COLOURS.get(key[0], "#777")}"/>')
            out.append(f'<text x="{x:.0f}" y="{height - bar - 4:.0f}" font-size="9">{value:,.0f}</text>')
            out.append(f'<text x="{x:.0f}" y="{height + 14}" font-size="9">{key[1] if key[1] == "onewait" else key[0]}</text>')
    out.append("</svg>")
    file.write("\n".join(out) + "\n")
