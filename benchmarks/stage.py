"""What the stages share: where they work, how a run is taken, what they return."""

from __future__ import annotations

import os
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.measure import measure
from benchmarks.peers import Fastmirror
from benchmarks.report import Row, Run, say

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from benchmarks.nginx import Server
    from benchmarks.upstream import Upstream


class Setting(NamedTuple):
    """Where and how often a stage is measured."""

    cache: Path
    mirrors: Path  # fresh, and deleted afterwards
    runs: int
    seed: int
    port: int


class Result(NamedTuple):
    """What a stage found."""

    rows: list[Row]
    figures: dict[str, float]  # what follows from them, by its name and unit
    picture: str = ""  # SVG
    tools: Mapping[str, str] = {}  # versions of the others


class Contender(NamedTuple):
    """One way to do what a stage measures."""

    tool: str
    variant: str
    command: Callable[[Path], list[str]]  # for a directory that it may use, and that does not exist
    lacks: Callable[[Path], str]  # what is missing there afterwards; "" if nothing


def first_sync(upstream: Upstream, variant: str = "", /, **settings: str | int) -> Contender:
    """A first sync by fastmirror, in its hashed layout, with these settings."""
    peer = Fastmirror("hashed")
    return Contender(
        peer.label,
        variant,
        lambda directory: peer.command("mirror", upstream, directory, **settings),
        lambda directory: peer.lacks(upstream, directory),
    )


def take_run(command: list[str], log: Path, server: Server | None, lacks: Callable[[], str]) -> Run:
    """Measure one command, then look whether what it made is complete: what failed fast shall not look fast."""
    os.sync()  # what earlier runs wrote is not this one's to pay
    before = server.cpu_s() if server else 0.0
    measured = measure(command, log=log)
    upstream_cpu_s = server.cpu_s() - before if server else 0.0
    return Run.of(measured, upstream_cpu_s, lacks())


def run_in_turn(step: str, contenders: list[Contender], setting: Setting, server: Server | None) -> list[Row]:
    """Every contender as often as asked, in turn, each time in a fresh directory."""
    rows = [Row(step, each.tool, each.variant, []) for each in contenders]
    for number in range(setting.runs):
        for contender, row in zip(contenders, rows, strict=True):
            directory = Path(tempfile.mkdtemp(dir=setting.mirrors)) / "mirror"
            command = contender.command(directory)
            log = directory.with_name(f"{directory.name}.log")
            run = take_run(command, log, server, partial(contender.lacks, directory))
            row.runs.append(run)
            told = f"FAILED ({run.exit_status}) {run.lacks}" if run.failed else "complete"
            say(f"  {number + 1}/{setting.runs} {step}: {row.name}: {run.wall_s:.2f} s, CPU {run.cpu_s:.2f}: {told}")
    return rows
