"""How the cost of a project grows with the number of projects: first syncs of pages alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.chart import curve
from benchmarks.pages import mirror_pages, prepare_pages
from benchmarks.stage import Result, Setting

if TYPE_CHECKING:
    from benchmarks.report import Row

SIZES = (2_000, 10_000, 40_000, 100_000)


def measure_growth(setting: Setting) -> Result:
    """CPU per project of mirrors of different sizes, and by how much the largest's is more than the smallest's.

    What a run of one project takes, its start, is left out: it would flatter the larger ones.
    """
    start = mirror_pages("pages, 1 project", prepare_pages(setting, 1), setting)
    rows: list[Row] = [start]
    cost_us: dict[int, float] = {}
    for projects in SIZES:
        row = mirror_pages(f"pages, {projects:,} projects", prepare_pages(setting, projects), setting)
        rows.append(row)
        cost_us[projects] = 1e6 * (row.cpu_s - start.cpu_s) / projects
    figures = {f"CPU microseconds per project, {projects:,} projects": cost for projects, cost in cost_us.items()}
    figures["times the CPU per project, largest against smallest"] = cost_us[SIZES[-1]] / cost_us[SIZES[0]]
    return Result(rows, figures, curve(cost_us, "CPU per project by size of the mirror", "projects", "µs"))
