"""What a campaign counted and measured: written down, added up, printed.

What it is not: it injects nothing and judges nobody; `campaign.py` fills it in, the verdict comes from `talk.py`.

    rounds      of each kind of fault
    injected    how often something was really done: each killed process is a kill, each SIGSTOP a pause
    audit       acknowledged, delivered, and what must be nothing
    times       milliseconds, every single one, so that reports can be added up without losing the distribution

Read next: `campaign.py`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any, Self

from tests.system.talk import Verdict

MINORITY = "accepted by a minority"
PAID = ("payments", "balances that differ")
AUDITED = ("acknowledged", "delivered", "lost", "doubled", "reordered", "invented", "unknown")
BROKEN = ("lost", "doubled", "reordered", "invented", "files that differ", "balances that differ", MINORITY)
WIDTH = 84  # columns of what a figure is about


class Figures:
    """One campaign's, or those of several together."""

    def __init__(self) -> None:
        self.seeds: list[int] = []
        self.seconds = 0.0
        self.failed: list[str] = []  # what ended a campaign early
        self.rounds: Counter[str] = Counter()
        self.injected: Counter[str] = Counter()
        self.audit: Counter[str] = Counter()
        self.times: dict[str, list[float]] = {}

    def took(self, what: str, seconds: Iterable[float]) -> None:
        """Note how long something lasted."""
        self.times.setdefault(what, []).extend(round(s * 1000, 2) for s in seconds)

    def judged(self, verdict: Verdict, different: list[str]) -> None:
        """Note the audit."""
        self.audit.update({name: part if isinstance(part := getattr(verdict, name), int) else len(part) for name in AUDITED})
        self.audit["files that differ"] += len(different)

    @property
    def is_clean(self) -> bool:
        """Whether every promise was kept, and every campaign came to its audit."""
        return not self.failed and self.audit["acknowledged"] > 0 and not any(self.audit[name] for name in BROKEN)

    def add(self, other: Figures) -> None:
        """Those of another campaign."""
        self.seeds += other.seeds
        self.seconds += other.seconds
        self.failed += other.failed
        for mine, theirs in ((self.rounds, other.rounds), (self.injected, other.injected), (self.audit, other.audit)):
            mine.update(theirs)
        for what, times in other.times.items():
            self.times.setdefault(what, []).extend(times)

    def write(self, path: str) -> None:
        """As JSON."""
        with open(path, "w", encoding="utf-8") as file:
            json.dump(vars(self), file, indent=1)
            file.write("\n")

    @classmethod
    def read(cls, path: str) -> Self:
        """What `write` wrote. Raises OSError, ValueError, KeyError."""
        with open(path, encoding="utf-8") as file:
            written: dict[str, Any] = json.load(file)
        self = cls()
        self.seeds, self.seconds, self.failed, self.times = (written[name] for name in ("seeds", "seconds", "failed", "times"))
        self.rounds, self.injected, self.audit = (Counter(written[name]) for name in ("rounds", "injected", "audit"))
        return self

    def __str__(self) -> str:
        lines = [f"campaigns {len(self.seeds)}, minutes {self.seconds / 60:.1f}, seeds {', '.join(map(str, self.seeds))}"]
        lines += [
            "",
            f"faults in {sum(self.rounds.values())} rounds: {', '.join(f'{kind} {n}' for kind, n in sorted(self.rounds.items()))}",
        ]
        lines += [f"  {what:{WIDTH}}{count:>8}" for what, count in sorted(self.injected.items())]
        if self.times:
            lines += ["", f"milliseconds{'':{WIDTH - 10}}{'times':>8}{'p50':>8}{'p99':>8}{'max':>8}"]
        for what, times in self.times.items():
            lines.append(f"  {what:{WIDTH}}{len(times):>8}" + "".join(f"{share(times, part):>8.1f}" for part in (50, 99, 100)))
        lines += ["", ", ".join(f"{name} {self.audit[name]}" for name in (*AUDITED, "files that differ", MINORITY, *PAID))]
        lines += [f"FOUND: {words}" for words in self.failed]
        return "\n".join(lines)


def share(times: list[float], part: int) -> float:
    """The time that so many percent did not exceed."""
    in_order = sorted(times)
    return in_order[max(0, -(-len(in_order) * part // 100) - 1)]
