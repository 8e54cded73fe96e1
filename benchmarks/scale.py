"""The whole of PyPI by 1 to 64 hosts, on paper: how long a first sync takes, and what keeps more hosts from helping.

The hosts, lines and upstreams are imagined, the costs are measured (benchmarks/results), the schedule is the program's
own: see simulation.py and whole.py. ``scripts/bench scale``
"""

from __future__ import annotations

import argparse
import json
import math
import time
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from benchmarks.chart import curves
from benchmarks.report import commit, say
from benchmarks.simulation import Costs, Course, Simulation, World
from benchmarks.whole import BYTES, FILES, PROJECTS, Whole, draw_whole

RESULTS = Path(__file__).parent / "results"
HOSTS = (1, 2, 4, 8, 16, 32, 64)
MANY = 16  # hosts, from which on a larger sample is needed, as they have more in hand
HELPS = 1.25  # times as fast with twice the hosts: with less they have stopped helping
GIGABIT = 1e9 / 8

# A first sync of 3,000 projects, 17,262 files and 442 MB took 5.1 CPU s (2026-11-22-145cc20), 20,000 pages alone 11.1
# (stages-2026-11-28-e96277a): 0.55 ms a page. Writing and hashing a MB takes 1.7 ms, TLS 1.2 more (both measured with
# SHA instructions); what is left are 0.16 ms a file. The parent: 60 us a page renamed, two of them, 20 for the row, and
# of two flushes of 50 ms for each 512 projects its part.
MEASURED = Costs(project=0.55e-3, file=0.16e-3, byte=2.9e-9, recorded=0.34e-3)
BASE = World(
    hosts=1, processes=4, line=GIGABIT, latency_s=0.03, connection=8e6, index_transfers=256, file_transfers=1024,
    costs=MEASURED,
)  # fmt: skip


class Case(NamedTuple):
    """One kind of surroundings."""

    name: str
    world: World


CASES = (
    Case("1 Gbit/s for each host, nothing else in the way", BASE),
    Case("10 Gbit/s for each host, nothing else in the way", BASE._replace(line=10 * GIGABIT)),
    Case("10 Gbit/s, the default budget (workers = 3: 12 pages, 48 files)",
         BASE._replace(line=10 * GIGABIT, index_transfers=12, file_transfers=48)),
    Case("10 Gbit/s, 64 connections for each client address",
         BASE._replace(line=10 * GIGABIT, connections=64)),
    Case("10 Gbit/s, 64 connections, and all hosts behind one address",
         BASE._replace(line=10 * GIGABIT, connections=64, is_one_address=True)),
    Case("10 Gbit/s, upstream gives 20 Gbit/s to all together",
         BASE._replace(line=10 * GIGABIT, upstream=20 * GIGABIT)),
    Case("10 Gbit/s, upstream answers 50 pages a second",
         BASE._replace(line=10 * GIGABIT, upstream_pages=50)),
    Case("10 Gbit/s, one store that takes 1 GB and 2,000 objects a second",
         BASE._replace(line=10 * GIGABIT, store=1e9, store_objects=2000)),
)  # fmt: skip


class Point(NamedTuple):
    """One case with so many hosts."""

    hosts: int
    hours: float
    limit: str  # that was used the most
    use: float  # the part of it


def simulate(world: World, whole: Whole) -> Point:
    """One run; of a sample all is multiplied.

    So are its beginning and its end, which do not grow with PyPI: what comes out errs on the long side.
    """
    course = Simulation(world, whole).run()
    limit, use = bound(course)
    return Point(world.hosts, course.seconds / whole.share / 3600, limit, use)


def bound(course: Course) -> tuple[str, float]:
    """What held it up, and the part of it that was used.

    Where no limit was used for three quarters, either the last jobs took long, while most workers had nothing to do, or
    workers had too little at once to use what they have.
    """
    limit = max(course.use, key=lambda name: course.use[name])
    use = course.use[limit]
    if use >= 0.75:
        return limit, use
    end = 1 - course.given_out_s / course.seconds
    return (f"the last jobs, after {limit}", use) if end > 0.25 else (f"jobs in hand, then {limit}", use)


def stops_at(points: list[Point]) -> Point:
    """The point from which on twice the hosts are not worth it; the last one if they always are."""
    for point, twice in pairwise(points):
        if point.hours / twice.hours < HELPS:
            return point
    return points[-1]


def verdict(points: list[Point]) -> str:
    """The same, for a person."""
    point = stops_at(points)
    if point is points[-1]:
        return f"still helps at {point.hosts}"
    beyond = points[points.index(point) + 1]
    return f"stops at {point.hosts}: {beyond.limit}"


def table(cases: dict[str, list[Point]]) -> str:
    """Hours for each case and number of hosts, in Markdown."""
    hosts = [point.hosts for point in next(iter(cases.values()))]
    lines = [f"| hosts | {' | '.join(map(str, hosts))} | another host |", "|" + "---|" * (len(hosts) + 2)]
    for name, points in cases.items():
        lines.append(f"| {name} | {' | '.join(_hours(point.hours) for point in points)} | {verdict(points)} |")
    return "\n".join(lines)


def _hours(hours: float) -> str:
    return f"{hours:.0f} h" if hours >= 10 else f"{hours:.1f} h"


def main() -> None:
    """Simulate every case with every number of hosts; print the table, keep result and chart."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=0.05, help="of all projects that are simulated (0.05)")
    parser.add_argument("--larger", type=float, default=0.15, help=f"the same for {MANY} hosts and more (0.15)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--hosts", type=int, nargs="+", default=HOSTS)
    options = parser.parse_args()
    begun = time.monotonic()
    few, many = (draw_whole(share, options.seed) for share in (options.share, options.larger))
    for whole in (few, many):
        say(f"{len(whole.projects):,} of {PROJECTS:,} projects with {whole.files:,} files, {whole.bytes / 1e12:.2f} TB")
    cases = {}
    for case in CASES:
        worlds = (case.world._replace(hosts=hosts) for hosts in options.hosts)
        points = [simulate(world, few if world.hosts < MANY else many) for world in worlds]
        cases[case.name] = points
        say(f"{case.name}: {', '.join(f'{p.hosts}: {_hours(p.hours)} ({p.limit} {p.use:.0%})' for p in points)}")
    say(f"simulated in {time.monotonic() - begun:.0f} s\n")
    say(table(cases))
    keep(cases, (few, many), options.seed)


def keep(cases: dict[str, list[Point]], samples: tuple[Whole, ...], seed: int) -> None:
    """Write the result with its assumptions, and its chart, into benchmarks/results."""
    name = f"scale-{datetime.now(UTC):%Y-%m-%d}-{commit()}"
    worlds = {case.name: case.world._asdict() | {"costs": case.world.costs._asdict()} for case in CASES}
    result = {
        "projects": PROJECTS, "files": FILES, "bytes": BYTES, "seed": seed,
        "samples": [{"share": sample.share, "files": sample.files, "bytes": sample.bytes} for sample in samples],
        "worlds": _without_infinity(worlds),
        "points": {name: [point._asdict() for point in points] for name, points in cases.items()},
    }  # fmt: skip
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    series = {name: {point.hosts: point.hours for point in points} for name, points in cases.items()}
    picture = curves(series, "A first sync of all of PyPI, simulated: 60 TB, 20 million files", "hosts", "h")
    (RESULTS / f"{name}.svg").write_text(picture)
    say(f"benchmarks/results/{name}.json, .svg")


def _without_infinity(worlds: dict[str, dict[str, object]]) -> dict[str, dict[str, object]]:
    return {
        name: {key: None if value == math.inf else value for key, value in world.items()}
        for name, world in worlds.items()
    }


if __name__ == "__main__":
    main()
