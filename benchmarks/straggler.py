"""One project of very many files beside many small projects: does it end last, and alone?"""

from __future__ import annotations

import os
import statistics
from typing import TYPE_CHECKING

from benchmarks.corpus import draw_alike, draw_projects
from benchmarks.nginx import serve
from benchmarks.stage import Result, Setting, first_sync, run_in_turn
from benchmarks.upstream import Corpus, Upstream, prepare, warm

if TYPE_CHECKING:
    from benchmarks.corpus import Project
    from benchmarks.report import Row

FILES, FILE_BYTES, SMALL = 30_000, 2_000, 1_000
CORES = len(os.sched_getaffinity(0))


def measure_straggler(setting: Setting) -> Result:
    """The wall time of both together against the sum of the two alone, and against the CPU that they take."""
    seed = setting.seed
    huge = draw_alike("nightly-builds", files=FILES, size=FILE_BYTES)
    rows = [
        _mirror(setting, step, key, projects)
        for step, key, projects in (
            ("one project of 30,000 files", f"huge-{FILES}-{seed}", [huge]),
            ("1,000 projects", f"small-{SMALL}-{seed}", [*draw_projects(SMALL, seed)]),
            (
                "both",
                f"both-{FILES}-{SMALL}-{seed}",
                sorted([huge, *draw_projects(SMALL, seed)], key=lambda project: project.normal),
            ),
        )
    ]
    alone, small, both = rows
    ideal_s = sum(_busy_s(row) for row in (alone, small)) / CORES
    figures = {
        "times the sum of the two alone": both.wall_s / (alone.wall_s + small.wall_s),
        "times their CPU, upstream's included, on all cores": both.wall_s / ideal_s,
        "share of the cores that was used, upstream included": _busy_s(both) / (CORES * both.wall_s),
    }
    return Result(rows, figures)


def _busy_s(row: Row) -> float:
    """CPU of a run, with what the upstream used on the same cores."""
    return row.cpu_s + statistics.median(run.upstream_cpu_s for run in row.runs)


def _mirror(setting: Setting, step: str, key: str, projects: list[Project]) -> Row:
    upstream: Upstream = prepare(setting.cache, Corpus(key, lambda: projects, setting.seed), setting.port)
    warm(upstream)
    with serve(upstream) as server:
        (row,) = run_in_turn(step, [first_sync(upstream)], setting, server)
    return row
