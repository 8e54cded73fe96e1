"""One stage of the work at a time, measured alone: ``scripts/bench stages [NAME…]``.

Each stage is a function of its own file that makes its upstream, runs what it compares, and returns the rows of
its table and the figures that follow from them. What a peer leaves out is said in its row's name.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import cluster, growth, http2, large, pages, straggler
from benchmarks.report import commit, machine_facts, numbers, say, table
from benchmarks.room import CACHE, room
from benchmarks.stage import Result, Setting

if TYPE_CHECKING:
    from collections.abc import Callable

RESULTS = Path(__file__).parent / "results"
STAGES: dict[str, Callable[[Setting], Result]] = {
    "pages": pages.measure_pages,
    "latency": pages.measure_latency,
    "http2": http2.measure_http2,
    "large": large.measure_large_files,
    "growth": growth.measure_growth,
    "straggler": straggler.measure_straggler,
    "cluster": cluster.measure_cluster,  # needs fastmirror[dask]
}


def main() -> None:
    """Measure the chosen stages, print and record each."""
    parser = argparse.ArgumentParser(prog="scripts/bench stages", description="measure single stages of the work")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(STAGES)} (default: all)")
    parser.add_argument("--runs", type=int, default=3, help="of each tool; medians are shown (default: 3)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--port", type=int, default=18081, help="of the upstreams on loopback (default: %(default)s)")
    parser.add_argument("--cache", type=Path, default=CACHE, help="keeps the upstreams; mirrors are written here too")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/stages-<date>-<commit>.json")
    given = parser.parse_args()
    if unknown := set(given.names) - STAGES.keys():
        parser.error(f"no such stage: {', '.join(sorted(unknown))} (hint: {', '.join(STAGES)})")
    cache: Path = given.cache.resolve()
    cache.mkdir(parents=True, exist_ok=True)
    today, revision = f"{datetime.now(UTC):%Y-%m-%d}", commit()
    out = given.out or RESULTS / f"stages-{today}-{revision.rstrip('+')}.json"
    found: dict[str, object] = json.loads(out.read_text()) if out.exists() else {}  # stages may be measured one by one
    found |= {"date": today, "commit": revision, "machine": machine_facts(cache), "seed": given.seed}
    with room(cache) as mirrors:
        for name in given.names or STAGES:
            say(f"{name}: the machine's load is {os.getloadavg()[0]:.1f}")
            place = mirrors / name
            place.mkdir()
            result = STAGES[name](Setting(cache, place, given.runs, given.seed, given.port))
            print(table(result.rows))
            for figure, value in result.figures.items():
                print(f"  {figure}: {value:,.4g}")
            sys.stdout.flush()
            tools = {"fastmirror": revision, **result.tools}
            figures, results = result.figures, numbers(result.rows)
            found[name] = {"runs": given.runs, "tools": tools, "figures": figures, "results": results}
            out.write_text(json.dumps(found, indent=2) + "\n")
            if result.picture:
                out.with_name(f"{out.stem}-{name}.svg").write_text(result.picture)
    say(f"written: {out.name}")


if __name__ == "__main__":
    main()
