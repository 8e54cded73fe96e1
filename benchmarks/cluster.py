"""What a project costs more where a dask cluster does the work: scheduler and workers on the same machine.

The time that scheduler and workers take to start is not counted, that of the command, which imports dask, is.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.measure import cpu_s_of
from benchmarks.nginx import serve
from benchmarks.stage import Result, Setting, first_sync, run_in_turn
from benchmarks.upstream import prepare_upstream, warm
from tests.dask import Dask

if TYPE_CHECKING:
    from benchmarks.report import Row

PROJECTS, WORKERS = 3_000, 2


def measure_cluster(setting: Setting) -> Result:
    """CPU of first syncs by worker processes of the command's own, and by as many dask workers."""
    upstream = prepare_upstream(setting.cache, projects=PROJECTS, seed=setting.seed, port=setting.port)
    warm(upstream)
    with serve(upstream) as server, tempfile.TemporaryDirectory() as home:
        (local,) = run_in_turn(
            "first sync", [first_sync(upstream, "local workers", processes=WORKERS)], setting, server
        )
        dask = Dask(Path(home))
        try:
            dask.add(WORKERS)
            before = cpu_s_of(dask.processes())
            contender = first_sync(upstream, "dask workers", executor="dask", scheduler=dask.scheduler)
            (cluster,) = run_in_turn("first sync", [contender], setting, server)
            beside = (cpu_s_of(dask.processes()) - before) / setting.runs
        finally:
            dask.close()
    local_s, cluster_s = _mean_s(local), _mean_s(cluster) + beside
    figures = {
        "CPU s with local workers": local_s,
        "CPU s with dask workers, scheduler and all": cluster_s,
        "CPU ms more for each project": (cluster_s - local_s) / PROJECTS * 1000,
        "times the wall time": cluster.wall_s / local.wall_s,
    }
    return Result([local, cluster], figures)


def _mean_s(row: Row) -> float:
    return statistics.fmean(run.cpu_s for run in row.runs)
