"""How fast it is: `python scripts/bench.py [--peers] [--json FILE] [--plot FILE]`.

What it is not: a verdict on one figure. Absolute figures belong to one machine at one moment; what is compared is measured in turn, round
after round, and a ratio is the median of the ratios of the rounds. It prints no ratio against something it did not run, and no figure of a
measurement in which a request was refused or not answered, or a process ended; then its exit code is 1.

    workload   connections × outstanding                      figure
    W1         64 × 1                                         acknowledged messages a second, p50, p99, p99.9
    W2         1 × 1                                          the same
    W3         8 × 256                                        the same; of redis also with one WAIT for all that are sent together
    R          W1, while one lists accounts and one reads     the same, and times of the reads
    D          64 senders to 64 who are online                from send to display
    F          kill -9 of the primary under load              from the kill to a client's next acknowledgement
    wN         W1 … W3 with the clients at a backup           as W1 … W3

A message has 100 bytes of text (`--bytes`) and goes to one of 1,000 recipients who are not there. W1 to W3 go through each of the
`--doors`: at the ledger's a message is a payment, in the room all others read it. Each load keeps its requests outstanding without a pause
(a closed loop), warm-up and time are the same for each system, between two of them what is unwritten is written and ours makes its
snapshots. Processor time is that of a system's processes and of those they have started. p99.9 of less than a thousand messages is the
worst but one or two. Run it with `nice -n -10` on a machine that others use.

    python scripts/bench.py                                          ours beside the bare pipeline: a minute
    python scripts/bench.py --peers --rounds 5 --json figures.json   beside redis, etcd and nats too, those that are installed
    python scripts/bench.py --only understudy,redis --workloads W2   these alone
    bash scripts/environment.sh                                      before the first time, if `.venv` is not there

Read next: `tests/bench/systems.py`, docs/performance.md.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import tempfile
import time
from typing import NamedTuple

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

if __name__ == "__main__":
    import bootstrap

    bootstrap.ensure(bootstrap.PACKAGES)


from tests.bench.failover import measure_failover
from tests.bench.load import Order, Result
from tests.bench.report import Figures, show, write_json, write_plot
from tests.bench.systems import PEERS, Bare, Broken, Echo, System, Understudy, end_well, machine_words, run_load

SHAPES = {"W1": (64, 1), "W2": (1, 1), "W3": (8, 256)}
WORKLOADS = ("W1", "W2", "W3", "R", "D", "w1", "w2", "w3", "F")
LINES = ("numbered", "pipe")  # doors at which others read (R) and are shown (D) what one says
SYSTEMS: tuple[type[System], ...] = (Understudy, Bare, Echo, *PEERS)
SAID_MAX = 300  # characters of what went wrong, while others are still measured; `--json` has all of it
KINDS = {kind.name: kind for kind in SYSTEMS}


class Asked(NamedTuple):
    """The command line."""

    rounds: int
    seconds: float
    warm: float
    text_bytes: int
    kills: int
    workloads: tuple[str, ...]
    doors: tuple[str, ...]
    rests: bool = True


def order_of(asked: Asked, system: System, dialect: str, workload: str) -> Order:
    """What the load generator is to do."""
    connections, window = SHAPES.get(workload.upper(), SHAPES["W1"])
    return Order(
        dialect,
        system.port(backup=workload.islower(), dialect=dialect),
        connections=connections,
        window=window,
        text_bytes=asked.text_bytes,
        warm=asked.warm,
        seconds=asked.seconds,
        receivers=workload == "D",
        reads=workload == "R",
        pids=system.pids(),
    )


def work_of(asked: Asked, system: System) -> list[tuple[str, str]]:
    """Which dialect is measured with which workloads at this system."""
    own = isinstance(system, Understudy)
    dialects = [d for d in system.dialects if not own or d in asked.doors]
    return [
        (dialect, workload)
        for at, dialect in enumerate(dialects)
        for workload in asked.workloads
        if workload != "F" and (workload in SHAPES or (own and at == 0)) and system.takes(dialect, workload)
    ]


def turn_of(systems: list[System], number: int) -> list[System]:
    """The order of a round: it begins with another each time, and every second time it goes backwards, so that nobody is always behind
    the same one."""
    is_backwards = number % 2
    at = (number + is_backwards) % len(systems)
    turned = systems[at:] + systems[:at]
    return turned[::-1] if is_backwards else turned


def one_round(asked: Asked, systems: list[System], figures: Figures, number: int) -> None:
    """Every system in turn."""
    for system in turn_of(systems, number):
        for dialect, work in itertools.groupby(work_of(asked, system), key=lambda item: item[0]):
            workloads = [workload for _, workload in work]
            for workload in workloads:
                result: Result | str
                try:
                    result = run_load(order_of(asked, system, dialect, workload))
                    said = f"{result.per_second:9.0f}/s  p50 {result.times.p50:.3f} ms"
                    if asked.rests:
                        system.check()
                except Broken as error:
                    result = said = str(error)
                figures.note(number, system.name, dialect, workload, result)
                print(f"   round {number + 1}  {system.name:10} {dialect:9} {workload}  {said[:SAID_MAX]}", file=sys.stderr, flush=True)
            if asked.rests:
                try:
                    system.rest()  # the snapshots that one door's load leads to are not made beside the next one's
                except Broken as error:
                    for workload in workloads:
                        figures.note(number, system.name, dialect, workload, str(error))
                os.sync()  # nor is what somebody has not synced written beside another's load


def run(asked: Asked, kinds: list[type[System]], where: str) -> Figures:
    """Start everything, measure, stop everything."""
    figures = Figures()
    figures.asked = asked._asdict()
    figures.settings["machine"] = machine_words()
    systems: list[System] = []
    try:
        for kind in kinds:
            systems.append(kind(where))
            systems[-1].start()
            if asked.rests:
                systems[-1].rest()
            figures.settings[kind.name] = systems[-1].settings()
        for number in range(asked.rounds):
            one_round(asked, systems, figures, number)
        for system in systems:
            if isinstance(system, Understudy) and "F" in asked.workloads:
                try:
                    figures.failover = measure_failover(system.cluster, asked.kills)
                except AssertionError as error:
                    figures.note(0, system.name, LINES[0], "F", str(error))
    finally:
        for system in systems:
            system.end()
    return figures


def positive(words: str) -> int:
    """So many, and at least one."""
    if (number := int(words)) < 1:
        raise argparse.ArgumentTypeError(f"{words} is less than 1")
    return number


def lasting(words: str) -> float:
    """Seconds that pass."""
    if not (number := float(words)) > 0:
        raise argparse.ArgumentTypeError(f"{words} seconds are none")
    return number


def read_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=positive, default=3, help="in which each system has its turn: 3")
    parser.add_argument("--seconds", type=lasting, default=2.0, help="of each measurement, besides --warm: 2")
    parser.add_argument("--warm", type=lasting, default=0.5, help="seconds of load before the clock starts: 0.5")
    parser.add_argument(
        "--bytes", type=positive, default=100, help="of each message's text: 100; with more than 200, etcd and gRPC refuse W3"
    )
    parser.add_argument("--kills", type=positive, default=5, help="of the primary, for F: 5")
    parser.add_argument("--workloads", default="W1,W2,W3", help=f"of {','.join(WORKLOADS)}; `all`")
    parser.add_argument("--doors", default=Understudy.dialects[0], help=f"of {','.join(Understudy.dialects)}; `all`")
    parser.add_argument("--peers", action="store_true", help="also measure redis-server, etcd and nats-server, those that are installed")
    parser.add_argument("--only", default="", metavar="NAMES", help=f"measure these instead, of {','.join(KINDS)}")
    parser.add_argument("--json", metavar="FILE", help="write every round of everything there; - for standard output, without the table")
    parser.add_argument("--plot", metavar="FILE", help="write them as SVG")
    parser.add_argument("--smoke", action="store_true", help="a round of a moment: shows that it works, no figure means anything")
    return parser.parse_args()


def chosen(words: str, everything: tuple[str, ...]) -> tuple[str, ...]:
    """What a list on the command line names."""
    return everything if words == "all" else tuple(words.split(","))


def kinds_of(given: argparse.Namespace, asked: Asked) -> list[type[System]]:
    """What is to be measured. Whoever is named is measured, or nobody is; of the peers at large those that are here."""
    if given.only:
        names = given.only.split(",")
        if unknown := sorted({*names} - {*KINDS}):
            sys.exit(f"unknown: {', '.join(unknown)}")
        if absent := [name for name in names if not KINDS[name].is_installed()]:
            sys.exit(f"not installed: {', '.join(absent)}")
        return [KINDS[name] for name in dict.fromkeys(names)]
    kinds: list[type[System]] = [Understudy, Bare, *([Echo] if "grpc" in asked.doors else [])]
    for kind in PEERS if given.peers else ():
        if kind.is_installed():
            kinds.append(kind)
        else:
            print(f"-- {kind.name} is not installed: not measured", file=sys.stderr)
    return kinds


def main() -> int:
    """Entry point."""
    given = read_arguments()
    workloads, doors = chosen(given.workloads, WORKLOADS), chosen(given.doors, Understudy.dialects)
    asked = Asked(given.rounds, given.seconds, given.warm, given.bytes, given.kills, workloads, doors)
    if given.smoke:
        asked = asked._replace(rounds=1, seconds=0.1, warm=0.1, kills=1, rests=False)
    unknown = {*asked.workloads} - {*WORKLOADS} | {*asked.doors} - {*Understudy.dialects}
    if unknown:
        sys.exit(f"unknown: {', '.join(sorted(unknown))}")
    if {"R", "D"} & {*asked.workloads} and not {*LINES} & {*asked.doors}:
        sys.exit(f"R and D need one of these doors: {', '.join(LINES)}")
    kinds = kinds_of(given, asked)
    end_well()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="understudy-bench-") as where:
        try:
            figures = run(asked, kinds, where)
        except Broken as error:
            sys.exit(f"FAILED: {error}")
    if given.json == "-":
        write_json(figures, sys.stdout)
    else:
        print(show(figures))
        each = f"{asked.seconds:g} s after {asked.warm:g} s of warm-up, {asked.text_bytes} bytes of text"
        print(f"\n{asked.rounds} rounds of {each}; {time.monotonic() - began:.0f} s in all")
        if given.json:
            with open(given.json, "w", encoding="utf-8") as file:
                write_json(figures, file)
    if given.plot:
        with open(given.plot, "w", encoding="utf-8") as file:
            write_plot(figures, file)
    return 1 if figures.troubles() else 0


if __name__ == "__main__":
    sys.exit(main())
