"""A first sync by three dask workers, one killed, one stopped in the middle: is its tree the one of a single machine?

Every name below ``web/`` is compared, but for ``last-modified``, with its bytes, and that of a package with its time;
what is met by readers before the end is for the tests to look at. ``python -m benchmarks.survival``
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.equality import sha256_of
from benchmarks.nginx import serve
from benchmarks.peers import Fastmirror
from benchmarks.report import commit, say
from benchmarks.room import CACHE, room
from benchmarks.upstream import prepare_upstream, warm
from tests.dask import Dask
from tests.processes import until

if TYPE_CHECKING:
    from benchmarks.upstream import Upstream

WORKERS = 3
LONGEST_S = 1800.0


class Survival(NamedTuple):
    """How a run went that lost two of its workers."""

    exit_status: int
    wall_s: float
    projects_before: int  # published when they were struck
    told: list[str]  # on standard error


def at_rest(web: Path) -> dict[str, tuple[str, int]]:
    """What readers can see: sha256 and, of packages, the time in nanoseconds, by path."""
    found = {}
    for path in web.rglob("*"):
        name = path.relative_to(web).as_posix()
        if path.is_file() and name != "last-modified":
            found[name] = (sha256_of(path), path.stat().st_mtime_ns if name.startswith("packages/") else 0)
    return found


def published(web: Path) -> int:
    """Projects that have a page."""
    return sum(1 for _ in web.glob("simple/??/*.v1_json"))


def lose_two(upstream: Upstream, directory: Path, dask: Dask) -> Survival:
    """A first sync; when a third of the projects has pages, one worker is killed and one is stopped for good."""
    command = Fastmirror("hashed").command(
        "mirror", upstream, directory, executor="dask", scheduler=dask.scheduler, status_page="false"
    )
    begun = time.monotonic()
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    web = directory / "web"
    until(lambda: run.poll() is not None or published(web) >= upstream.projects // 3, "a third is there", LONGEST_S)
    before = published(web)
    killed, stopped, *_ = dask.workers
    killed.kill()
    stopped.send_signal(signal.SIGSTOP)
    _, told = run.communicate(timeout=LONGEST_S)
    return Survival(run.returncode, time.monotonic() - begun, before, told.splitlines())


def main() -> None:
    """Run both, compare, print one JSON object; exit status 1 unless the trees are equal."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.survival", description=__doc__)
    parser.add_argument("--projects", type=int, default=3000)
    parser.add_argument("--port", type=int, default=18080, help="of the upstream on loopback")
    parser.add_argument("--cache", type=Path, default=CACHE, help="keeps the upstream")
    given = parser.parse_args()
    upstream = prepare_upstream(given.cache.resolve(), projects=given.projects, seed=1, port=given.port)
    warm(upstream)
    with serve(upstream), room(given.cache.resolve()) as mirrors:
        single, many, home = mirrors / "single", mirrors / "many", mirrors / "dask"
        home.mkdir()
        subprocess.run(
            Fastmirror("hashed").command("mirror", upstream, single, status_page="false"),
            check=True,
            capture_output=True,
        )
        say("one machine's is there")
        dask = Dask(home)
        try:
            dask.add(WORKERS)
            survival = lose_two(upstream, many, dask)
        finally:
            dask.close()
        one, other = at_rest(single / "web"), at_rest(many / "web")
    different = sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
    figures = survival._replace(wall_s=round(survival.wall_s, 1))._asdict()
    print(json.dumps({"commit": commit(), **figures, "compared": len(one), "different": different[:10]}, indent=2))
    if survival.exit_status or different:
        sys.exit(f"exit status {survival.exit_status}, {len(different)} names differ")


if __name__ == "__main__":
    main()
