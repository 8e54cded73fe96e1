"""What a mirror of a mirror asks for when some projects have changed: 500 of 100,000 by default.

Both states are filled without pages; the first mirror is behind the nginx that `fastmirror nginx` configures, and the
second one plans: it reads what a run reads before it comes to the pages. Bytes are those of nginx's access log, as
they went over the wire, without headers. ``python -m benchmarks.feed``
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.corpus import draw_names, draw_serial
from benchmarks.report import commit
from fastmirror.filetree import FileTree
from fastmirror.layout import Layout, PageFormat, Tree
from fastmirror.model import Outcome
from fastmirror.names import NormalizedName
from fastmirror.nginx import nginx_configuration
from fastmirror.packing import pack_files
from fastmirror.rootindex import write_feed, write_root_index
from fastmirror.schema import RecordedJob
from fastmirror.state import State
from tests.nginx import free_port, running_nginx

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.nginx import Nginx

JOB = RecordedJob(wanted=False, forced=False, tries=0, expected=None)


class Asked(NamedTuple):
    """What a command of the second mirror came to."""

    requests: int
    bytes: int
    wall_s: float
    answer: str


def record(directory: Path, serials: Mapping[str, int], *, publish: bool) -> None:
    """Record projects as published with these serials; with `publish` the root index and its feed follow."""
    storage = FileTree(str(directory), None, durable=False)
    with closing(storage):
        storage.prepare()
        with closing(State(f"{storage.own}/state.sqlite")) as state:
            with state.transaction():
                files = pack_files(())
                outcomes = (
                    Outcome(NormalizedName(name), "published", serial=serial, page_digest="p", files=files)
                    for name, serial in serials.items()
                )
                state.record(((outcome, JOB) for outcome in outcomes), time.time(), 1)
                state.put({"clean": "1", "layout": "hashed", "dialect": "json"})
            if publish:
                formats = frozenset(PageFormat)
                write_root_index(state, storage, formats, max(serials.values()))
                write_feed(state, storage, formats)


def ask(command: str, directory: Path, nginx: Nginx, *more: str) -> Asked:
    """Run a command of the second mirror; nginx's log says what it asked for."""
    before = len(nginx.log_lines())
    words = [sys.executable, "-m", "fastmirror", command, "--directory", str(directory), "--master", nginx.url]
    words += ["--set", "allow-non-https=true", "--set", "sweep=0", "--set", "min-free=0", *more]
    begun = time.monotonic()
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    wall_s = time.monotonic() - begun
    lines = nginx.log_lines(before + 1)[before:]
    return Asked(len(lines), sum(int(line.split('"')[2].split()[1]) for line in lines), wall_s, done.stdout)


def main() -> None:
    """Measure, and print one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.feed", description=__doc__)
    parser.add_argument("--projects", type=int, default=100_000)
    parser.add_argument("--changed", type=int, default=500)
    given = parser.parse_args()
    names = [normal for normal, _ in draw_names(given.projects, 1)]
    serials = {name: draw_serial(name, 1) for name in names}
    chance = random.Random(1)
    news = {name: chance.randrange(40_000_000, 41_000_000) for name in chance.sample(names, given.changed)}
    with tempfile.TemporaryDirectory() as home:
        first, second = Path(home, "first"), Path(home, "second")
        record(first, serials, publish=True)
        record(second, serials, publish=False)
        port = free_port()
        text = nginx_configuration(str(first), Tree(Layout.HASHED, hash_index=False), listen=f"127.0.0.1:{port}")
        logs = first / ".fastmirror/nginx"
        logs.mkdir()
        with running_nginx(text, Path(home, "nginx"), port, logs / "access.log") as nginx:
            whole = ask("mirror", second, nginx)
            same = ask("plan", second, nginx, "--json")
            record(first, news, publish=True)
            changed = ask("plan", second, nginx, "--json")
    if json.loads(changed.answer)["update"] != given.changed:
        sys.exit(f"the second mirror found other changes: {changed.answer}")
    told = {"first sight": whole, "no change": same, "changes": changed}
    figures = {what: asked._replace(wall_s=round(asked.wall_s, 2))._asdict() for what, asked in told.items()}
    for figure in figures.values():
        del figure["answer"]
    print(json.dumps({"commit": commit(), **vars(given), **figures}, indent=2))


if __name__ == "__main__":
    main()
