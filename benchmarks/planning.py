"""What a run costs before it touches any project, at the size of PyPI: 886,000 projects by default.

The upstream is a root index alone. No page is fetched: a mirror of one project is made by fastmirror itself, and its
row in the state is repeated for all the others, so that everything is recorded as published. Called by
``scripts/bench planning``. bandersnatch is given a ``status`` that says the same.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.corpus import draw_names, draw_serial
from benchmarks.nginx import Server, serve
from benchmarks.peers import Bandersnatch
from benchmarks.report import Row, commit, machine_facts, numbers, say, table
from benchmarks.room import CACHE
from benchmarks.stage import take_run
from benchmarks.upstream import Upstream, prepare_index, prepare_upstream
from fastmirror.model import Outcome
from fastmirror.names import NormalizedName
from fastmirror.schema import RecordedJob
from fastmirror.state import State

if TYPE_CHECKING:
    from collections.abc import Iterator

RESULTS = Path(__file__).parent / "results"
EVERYTHING_NEW = "plan, empty mirror"
FIRST_SIGHT = "mirror, another index that lists the same"
NO_CHANGE = "mirror, no change"
CHANGED = "plan, {:,} changed"
CONFIGURATION = """\
[mirror]
directory = {directory}
master = {master}
allow-non-https = true
min-free = 0
layout = hashed
"""
NOTHING = "projects: 0 updated, 0 removed, 0 failed"


class Case(NamedTuple):
    """One thing to measure."""

    step: str
    tool: str
    command: list[str]
    answer: str  # what its output must hold


def main() -> None:
    """Prepare, measure, print, record, clean up."""
    parser = argparse.ArgumentParser(prog="scripts/bench planning", description="plan a run at the size of PyPI")
    parser.add_argument("--projects", type=int, default=886_000)
    parser.add_argument("--changed", type=int, default=5_000, help="projects with a new serial (default: 5000)")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--port", type=int, default=18080)
    parser.add_argument("--tools", default="fastmirror,bandersnatch", help="(default: %(default)s)")
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/planning-<date>-<commit>.json")
    given = parser.parse_args()
    cache: Path = given.cache.resolve()
    cache.mkdir(parents=True, exist_ok=True)
    facts = machine_facts(cache)
    say("preparing the indexes")
    same, other = (
        prepare_index(cache, projects=given.projects, seed=given.seed, port=given.port, changed=changed)
        for changed in (0, given.changed)
    )
    home = Path(tempfile.mkdtemp(prefix="planning-", dir=cache))
    try:
        rows = _measure_all(given, cache, home, same, other)
        print(table(rows))
        today, revision = f"{datetime.now(UTC):%Y-%m-%d}", commit()
        out = given.out or RESULTS / f"planning-{today}-{revision.rstrip('+')}.json"
        out.parent.mkdir(parents=True, exist_ok=True)
        document = {
            "date": today,
            "commit": revision,
            "projects": same.projects,
            "index_bytes": (same.tree / "root.json").stat().st_size,
            "changed": given.changed,
            "machine": facts,
            "results": numbers(rows),
        }
        out.write_text(json.dumps(document, indent=2) + "\n")
        say(f"written: {out.name}")
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _measure_all(given: argparse.Namespace, cache: Path, home: Path, same: Upstream, other: Upstream) -> list[Row]:
    rows: list[Row] = []
    tools = given.tools.split(",")
    before: list[Case] = []
    after: list[Case] = []
    if "fastmirror" in tools:
        filled = home / "filled"
        say("recording every project in a state")
        fill_state(filled, prepare_upstream(cache, projects=1, seed=given.seed, port=given.port), given)
        everything = f"to update: {same.projects:,} project"
        before.append(Case(EVERYTHING_NEW, "fastmirror", _fastmirror("plan", home / "empty", same), everything))
        # The upstream has no pages to sweep.
        first_sight = _fastmirror("mirror", filled, same, "--set", "sweep=0")
        before.append(Case(FIRST_SIGHT, "fastmirror", first_sight, NOTHING))
        before.append(Case(NO_CHANGE, "fastmirror", _fastmirror("mirror", filled, same), NOTHING))
        changed = f"to update: {given.changed:,} project"
        after.append(Case(CHANGED.format(given.changed), "fastmirror", _fastmirror("plan", filled, other), changed))
    if "bandersnatch" in tools:
        directory = home / "bandersnatch"
        directory.mkdir()
        (directory / "generation").write_text("5")
        (directory / "status").write_text(str(same.last_serial))
        peer = Bandersnatch(cache)
        before.append(Case(NO_CHANGE, peer.label, peer.steps(same, directory)[1].command, ""))
    for upstream, cases in ((same, before), (other, after)):
        if cases:
            with serve(upstream) as server:
                rows += [_measure_case(case, given.runs, home, server) for case in cases]
    return sorted(rows, key=lambda row: [EVERYTHING_NEW, FIRST_SIGHT, NO_CHANGE, row.step].index(row.step))


def _measure_case(case: Case, runs: int, home: Path, server: Server) -> Row:
    row = Row(case.step, case.tool, "", [])
    log = home / "output"

    def lacks() -> str:
        output = log.read_text(errors="replace")
        return "" if case.answer in output else f"another answer: {output[-300:]!r}"

    # An index is seen for the first time once.
    for _ in range(1 if case.step == FIRST_SIGHT else runs):
        row.runs.append(take_run(case.command, log, server, lacks))
    return row


def _fastmirror(command: str, directory: Path, upstream: Upstream, *more: str) -> list[str]:
    configuration = directory.with_name(f"{directory.name}.conf")
    configuration.write_text(CONFIGURATION.format(directory=directory, master=upstream.address))
    return [sys.executable, "-m", "fastmirror", "--config", str(configuration), command, *more]


def fill_state(directory: Path, one: Upstream, given: argparse.Namespace) -> None:
    """Mirror an upstream of one project, then record all others as if they had been published likewise."""
    with serve(one):
        subprocess.run(_fastmirror("mirror", directory, one), check=True, stdout=sys.stderr)
    state = State(str(directory / ".fastmirror/state.sqlite"))
    [(name, _)] = state.every_serial()
    known = state.known([name])[name]

    def outcomes() -> Iterator[tuple[Outcome, RecordedJob]]:
        for normal, _ in draw_names(given.projects, given.seed):
            yield (
                Outcome(
                    NormalizedName(normal),
                    "published",
                    serial=draw_serial(normal, given.seed),
                    etag=known.etag,
                    upstream_digest=known.upstream_digest,
                    page_digest=known.page_digest,
                    settings_digest=known.settings_digest,
                    files=known.files,
                ),
                RecordedJob(wanted=False, forced=False, tries=0, expected=None),
            )

    with state.transaction():
        state.record(outcomes(), time.time(), 1)
    state.close()


if __name__ == "__main__":
    main()
