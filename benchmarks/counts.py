"""What a first sync takes, in counts that a busy machine does not change: instructions and system calls.

All processes are counted, under valgrind's callgrind and under strace. What a run of one project takes, the start, is
subtracted, and the rest is shared out among the requests, of pages and of files: a file of a wheel stands for its core
metadata too, which is read out of it. callgrind's processor has no SHA instructions, so sha256 weighs as on such
machines. ``python -m benchmarks.counts``
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.nginx import serve
from benchmarks.peers import Fastmirror
from benchmarks.report import commit, machine_facts, say
from benchmarks.room import CACHE
from benchmarks.upstream import Upstream, prepare_upstream, warm

RESULTS = Path(__file__).parent / "results"
PORT = 18090  # the slow commands are not to take an idle connection for a dead one: their upstream is small
TIMEOUT_S = 600
LIBRARY = re.compile(r"(?:.*/)?(lib[a-z]+|[^/.-]+)")


def instructions(trace: Path) -> Counter[str]:
    """Instructions by library, in one of callgrind's files; what a call costs its caller is not counted twice."""
    libraries: dict[str, str] = {}
    counts: Counter[str] = Counter()
    current, is_call = "", False
    with trace.open(errors="replace") as lines:
        for line in lines:
            key, equals, value = line.rstrip("\n").partition("=")
            if equals and key in {"ob", "cob"}:
                number, _, name = value.partition(" ")
                if name and (match := LIBRARY.match(name)):
                    libraries[number] = match[1]
                current = libraries.get(number, "other") if key == "ob" else current
            elif key == "calls":
                is_call = True
            elif line[0] in "0123456789+-*":
                counts[current] += 0 if is_call else int(line.split()[1])
                is_call = False
    return counts


def system_calls(trace: Path) -> Counter[str]:
    """Calls by name, in a table of strace's."""
    rows = (line.split() for line in trace.read_text().splitlines())
    return Counter({row[-1]: int(row[3]) for row in rows if len(row) >= 5 and row[3].isdigit() and row[-1] != "total"})


def count(upstream: Upstream, home: Path) -> tuple[Counter[str], Counter[str]]:
    """Instructions and system calls of a first sync.

    A forked process's count begins with its parent's: sums are of use once those of another run are taken from them.
    """
    home.mkdir()
    found = []
    for tool in (
        ["valgrind", "-q", "--tool=callgrind", f"--callgrind-out-file={home}/trace.%p"],
        ["strace", "-f", "-c", "-o", str(home / "calls")],
    ):
        say(f"{tool[0]}: {upstream.projects:,} projects")
        command = Fastmirror("hashed").command("mirror", upstream, home / tool[0], timeout=TIMEOUT_S)
        at = command.index(sys.executable)
        subprocess.run([*command[:at], *tool, *command[at:]], check=True, stdout=subprocess.DEVNULL)
        found.append(Fastmirror("hashed").lacks(upstream, home / tool[0]))
    if any(found):
        raise RuntimeError(f"not complete: {' '.join(found)}")
    total: Counter[str] = sum((instructions(trace) for trace in home.glob("trace.*")), Counter())
    return total, system_calls(home / "calls")


def main() -> None:
    """Count, print and record."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.counts", description=__doc__)
    parser.add_argument("--projects", type=int, default=300, help="of the synthetic upstream (default: 300)")
    parser.add_argument("--cache", type=Path, default=CACHE, help="keeps the upstreams; mirrors are written here too")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/counts-<date>-<commit>.json")
    given = parser.parse_args()
    cache: Path = given.cache.resolve()
    home = Path(tempfile.mkdtemp(prefix="counts-", dir=cache))
    counted: list[tuple[Counter[str], Counter[str]]] = []
    try:
        for projects in (1, given.projects):
            upstream = prepare_upstream(cache, projects=projects, seed=1, port=PORT)
            warm(upstream)
            with serve(upstream):
                counted.append(count(upstream, home / str(projects)))
    finally:
        shutil.rmtree(home)
    requests = upstream.projects + upstream.files
    (first_instructions, first_calls), (all_instructions, all_calls) = counted
    document = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "commit": commit(),
        "machine": machine_facts(cache),
        "requests": {"pages": upstream.projects, "files": upstream.files, "metadata": upstream.metadata_files},
        "thousand instructions a request": _shared(all_instructions, first_instructions, requests * 1e3),
        "system calls a request": _shared(all_calls, first_calls, requests),
    }
    out = given.out or RESULTS / f"counts-{document['date']}-{commit().rstrip('+')}.json"
    text = json.dumps(document, indent=2) + "\n"
    out.write_text(text)
    print(text, end="")


def _shared(counts: Counter[str], start: Counter[str], among: float) -> dict[str, float]:
    """The largest shares first, and the sum."""
    net = Counter({name: number - start[name] for name, number in counts.items()})
    shares = {name: round(number / among, 2) for name, number in net.most_common() if number / among >= 0.01}
    return {"all": round(net.total() / among, 2), **shares}


if __name__ == "__main__":
    main()
