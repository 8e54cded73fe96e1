"""Compare fastmirror with its peers, and with itself at another commit: a first sync, a run without a change, a
check of everything. See scripts/bench.
"""

from __future__ import annotations

import argparse
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from benchmarks.chart import chart
from benchmarks.nginx import Server, serve
from benchmarks.peers import Bandersnatch, Curl, Fastmirror, Peer, Step, check_out
from benchmarks.report import Row, Run, commit, machine_facts, numbers, say, table
from benchmarks.room import CACHE, room
from benchmarks.stage import take_run
from benchmarks.upstream import Upstream, prepare_upstream, warm

RESULTS = Path(__file__).parent / "results"
TOOLS = ("fastmirror", "bandersnatch", "curl")
BUSY_LOAD = 0.7


class Options(NamedTuple):
    """What was asked for."""

    projects: int
    layout: str
    runs: int
    tools: list[str]
    seed: int
    port: int
    cache: Path
    out: Path | None
    keep: bool
    compare: str | None


def parse_options() -> Options:
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description="compare fastmirror with its peers on loopback")
    parser.add_argument("--projects", type=int, default=3000, help="of the synthetic upstream (default: 3000)")
    parser.add_argument("--layout", choices=("hashed", "flat", "both"), default="both", help="of fastmirror")
    parser.add_argument("--runs", type=int, default=3, help="of each tool; medians are shown (default: 3)")
    parser.add_argument("--tools", default=",".join(TOOLS), help="comma-separated (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the synthetic upstream")
    parser.add_argument("--port", type=int, default=18080, help="of the upstream on loopback; its file URLs name it")
    parser.add_argument(
        "--cache",
        type=Path,
        default=CACHE,
        help="keeps the upstream and the peers; the mirrors are written here too (default: %(default)s)",
    )
    parser.add_argument("--out", type=Path, help="result file (default: benchmarks/results/<date>-<commit>.json)")
    parser.add_argument("--compare", metavar="REV", help="also fastmirror as it was at this commit")
    parser.add_argument("--keep", action="store_true", help="leave the mirrors and their logs where they are")
    given = parser.parse_args()
    tools = given.tools.split(",")
    for tool in tools:
        if tool not in TOOLS:
            parser.error(f"unknown tool: {tool!r} (hint: {', '.join(TOOLS)})")
    return Options(
        given.projects,
        given.layout,
        given.runs,
        tools,
        given.seed,
        given.port,
        given.cache.resolve(),
        given.out,
        given.keep,
        given.compare,
    )


def choose_peers(options: Options) -> list[Peer]:
    """The programs to be compared, each ready to run (and its bytecode compiled)."""
    peers: list[Peer] = []
    if "fastmirror" in options.tools:
        layouts = ("hashed", "flat") if options.layout == "both" else (options.layout,)
        peers += [Fastmirror(layout) for layout in layouts]
        if options.compare:
            earlier = check_out(options.compare, options.cache)
            peers += [Fastmirror(layout, earlier, f"@{options.compare}") for layout in layouts]
    if "bandersnatch" in options.tools:
        peers.append(Bandersnatch(options.cache))
    if "curl" in options.tools:
        peers.append(Curl())
    return peers


def run_all(options: Options, upstream: Upstream, peers: list[Peer], mirrors: Path, server: Server) -> list[Row]:
    """Every step of every peer, as often as asked; the peers take turns, in an order that rotates."""
    rows: dict[tuple[str, str, str], Row] = {}
    for number in range(options.runs):
        turn = number % len(peers)
        for peer in peers[turn:] + peers[:turn]:
            directory = mirrors / f"{number}-{peers.index(peer)}"
            for step in peer.steps(upstream, directory):
                run = run_step(step, peer, upstream, directory, server)
                key = (step.name, peer.label, step.variant)
                rows.setdefault(key, Row(*key, [])).runs.append(run)
                say(f"  {number + 1}/{options.runs} {_told(peer, step, run)}")
                if run.failed:
                    say(_last_lines(_log(directory)))
                    break
    order = {
        (step, peer.label): place for place, (step, peer) in enumerate((s, p) for s in _names(rows) for p in peers)
    }
    return sorted(rows.values(), key=lambda row: order[row.step, row.tool])


def _told(peer: Peer, step: Step, run: Run) -> str:
    name = f"{peer.label} {step.variant}".strip()
    outcome = f"FAILED (exit status {run.exit_status}) {run.lacks}" if run.failed else "complete"
    return f"{step.name}: {name}: {run.wall_s:.2f} s, CPU {run.cpu_s:.2f}: {outcome}"


def _names(rows: dict[tuple[str, str, str], Row]) -> list[str]:
    return list(dict.fromkeys(step for step, _, _ in rows))


def run_step(step: Step, peer: Peer, upstream: Upstream, directory: Path, server: Server) -> Run:
    """Measure one step of a peer."""

    def lacks() -> str:
        return peer.lacks(upstream, directory) if directory.exists() else "no mirror"

    return take_run(step.command, _log(directory), server, lacks)


def _log(directory: Path) -> Path:
    return directory.with_name(f"{directory.name}.log")


def _last_lines(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()[-8:] if log.exists() else []
    return "\n".join(f"      {line[:200]}" for line in lines)


def write_results(options: Options, upstream: Upstream, peers: list[Peer], rows: list[Row], facts: object) -> Path:
    """The numbers as JSON and the picture as SVG beside it; returns the path of the JSON file."""
    today, revision = f"{datetime.now(UTC):%Y-%m-%d}", commit()
    out = options.out or RESULTS / f"{today}-{revision.rstrip('+')}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    counts = {key: value for key, value in upstream._asdict().items() if isinstance(value, int)}
    document = {
        "date": today,
        "commit": revision,
        "upstream": counts | {"seed": options.seed},
        "runs": options.runs,
        "machine": facts,
        "tools": {peer.label: peer.version for peer in peers},
        "results": numbers(rows),
    }
    out.write_text(json.dumps(document, indent=2) + "\n")
    megabytes = (upstream.file_bytes + upstream.metadata_bytes) / 1e6
    note = (
        f"{upstream.projects:,} projects, {upstream.files:,} files and {upstream.metadata_files:,} metadata files,"
        f" {megabytes:.0f} MB, nginx on loopback; median of {options.runs}; seconds, shorter is better"
    )
    out.with_suffix(".svg").write_text(chart(rows, "Wall time (upper bar) and CPU time (lower bar)", note))
    return out


def main() -> None:
    """Prepare, measure, print, record, clean up."""
    options = parse_options()
    options.cache.mkdir(parents=True, exist_ok=True)
    say("preparing the upstream and the peers")
    upstream = prepare_upstream(options.cache, projects=options.projects, seed=options.seed, port=options.port)
    peers = choose_peers(options)
    with room(options.cache, keep=options.keep) as mirrors:
        facts = machine_facts(options.cache)
        if os.getloadavg()[0] > BUSY_LOAD:
            say(f"the machine is busy: its load is {os.getloadavg()[0]:.1f}, so wall times will be too long")
        warm(upstream)
        with serve(upstream) as server:
            rows = run_all(options, upstream, peers, mirrors, server)
        print(table(rows))
        say(f"written: {write_results(options, upstream, peers, rows, facts).name} and its picture")


if __name__ == "__main__":
    main()
