"""A first sync of pages alone: no file is asked for. What a project itself costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.corpus import draw_projects
from benchmarks.nginx import serve
from benchmarks.stage import Result, Setting, first_sync, run_in_turn
from benchmarks.upstream import Corpus, Upstream, prepare, warm

if TYPE_CHECKING:
    from benchmarks.report import Row

PROJECTS = 20_000
DELAY_S = 0.030
CONNECTIONS = 100


def prepare_pages(setting: Setting, projects: int) -> Upstream:
    """An upstream of so many projects' pages, in JSON, whose files are not there."""
    key, seed = f"pages-{projects}-{setting.seed}", setting.seed
    upstream = prepare(
        setting.cache, Corpus(key, lambda: draw_projects(projects, seed), seed, has_bodies=False), setting.port
    )
    warm(upstream)
    return upstream


def mirror_pages(step: str, upstream: Upstream, setting: Setting, *, delay_s: float = 0.0, **settings: int) -> Row:
    """First syncs of these pages."""
    contender = first_sync(upstream, release_files="false", **settings)
    with serve(upstream, delay_s=delay_s) as server:
        (row,) = run_in_turn(step, [contender], setting, server)
    return row


def measure_pages(setting: Setting) -> Result:
    """20,000 projects, on loopback."""
    upstream = prepare_pages(setting, PROJECTS)
    row = mirror_pages("pages", upstream, setting)
    return Result([row], _rates(row, upstream.projects))


def measure_latency(setting: Setting) -> Result:
    """The same, where each page takes 30 ms to come, over 100 connections."""
    upstream = prepare_pages(setting, PROJECTS)
    row = mirror_pages("pages, 30 ms", upstream, setting, delay_s=DELAY_S, index_transfers=CONNECTIONS)
    bound = CONNECTIONS / DELAY_S
    return Result([row], _rates(row, upstream.projects) | {"projects per second that the latency lets through": bound})


def _rates(row: Row, projects: int) -> dict[str, float]:
    return {
        "projects per CPU second": projects / row.cpu_s,
        "projects per second": projects / row.wall_s,
        "MB of memory of the largest process": row.process_memory / 1e6,
    }
