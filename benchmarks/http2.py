"""HTTP/2 against HTTP/1.1 with kept connections, both over TLS: pages alone, on loopback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from benchmarks.nginx import serve
from benchmarks.pages import prepare_pages
from benchmarks.stage import Result, Setting, first_sync, run_in_turn

if TYPE_CHECKING:
    from benchmarks.report import Row
    from benchmarks.upstream import Upstream

PROJECTS = 5_000
DELAY_S = 0.030
VERSIONS: tuple[Literal["HTTP/1.1", "HTTP/2"], ...] = ("HTTP/1.1", "HTTP/2")


def measure_http2(setting: Setting) -> Result:
    """Pages over each version, without and with latency."""
    upstream = prepare_pages(setting, PROJECTS)
    secure = upstream._replace(scheme="https")
    rows = [row for delay_s in (0.0, DELAY_S) for row in _compared(secure, delay_s, setting)]
    figures = {
        f"times the {what} of HTTP/1.1, {rows[i].step}": value
        for i in (0, 2)
        for what, value in (
            ("CPU", rows[i + 1].cpu_s / rows[i].cpu_s),
            ("wall", rows[i + 1].wall_s / rows[i].wall_s),
        )
    }
    return Result(rows, figures)


def _compared(upstream: Upstream, delay_s: float, setting: Setting) -> list[Row]:
    """Both versions in turn: one server at a time has the port."""
    step = f"pages over TLS, {1000 * delay_s:.0f} ms"
    rows: dict[str, Row] = {}
    for _ in range(setting.runs):
        for version in VERSIONS:
            with serve(upstream, delay_s=delay_s, tls=version) as server:
                bundle = str(server.certificate)
                contender = first_sync(upstream, version, release_files="false", ca_bundle=bundle)
                (row,) = run_in_turn(step, [contender], setting._replace(runs=1), server)
            rows.setdefault(version, row._replace(runs=[])).runs.extend(row.runs)
    return list(rows.values())
