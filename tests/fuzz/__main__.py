"""Fuzzes the readers of what others wrote, coverage-guided (atheris), for as long as it is told. Outside CI.

    scripts/environment .venv-test --group dev --group fuzz
    python -m tests.fuzz --minutes 5 --out tests/results/fuzz.md

Each target runs in a process of its own; what broke a promise is shown with the bytes that did it. Exits 1 then.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from tests.fuzz.targets import TARGETS, words_of, write_seeds

_MEMORY_MB = 2048
_INPUT_S = 20  # no input may take so long
_SHOWN = 4000


class Fuzzed(NamedTuple):
    """What came of one target."""

    name: str
    seconds: int
    runs: int
    coverage: int  # edges
    found: str  # the failure; "" if there was none


def _number(pattern: str, text: str) -> int:
    found = re.findall(pattern, text)
    return int(found[-1]) if found else 0


def fuzz(name: str, seconds: int) -> Fuzzed:
    """Fuzz one target for so long, or until it fails."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as home:
        corpus, words, broken = (Path(home, part) for part in ("corpus", "words", "broken"))
        corpus.mkdir()
        write_seeds(TARGETS[name], corpus)
        words.write_text(words_of(TARGETS[name]))
        options = [f"-max_total_time={seconds}", f"-dict={words}", f"-exact_artifact_path={broken}", "-max_len=20000"]
        options += [f"-rss_limit_mb={_MEMORY_MB}", f"-timeout={_INPUT_S}", "-print_final_stats=1", str(corpus)]
        command = [sys.executable, "-m", "tests.fuzz.one", name, *options]
        ended = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        told = ended.stdout + ended.stderr
        found = ""
        if ended.returncode:
            print(told[-_SHOWN:], broken.read_bytes() if broken.exists() else "", sep="\n", flush=True)
            found = " ".join(re.findall(r"Uncaught Python exception: ===\s+(.+)", told)) or "a failure"
    return Fuzzed(
        name, _number(r"in (\d+) second", told) or seconds, _number(r"number_of_executed_units: (\d+)", told),
        _number(r"cov: (\d+)", told), found,
    )  # fmt: skip


def _table(results: list[Fuzzed], command: str) -> str:
    rows = [(one.name, one.seconds, f"{one.runs:,}", one.coverage, one.found or "nothing") for one in results]
    lines = [
        "# Fuzzing",
        "",
        f"`{command}`, {datetime.now(UTC):%Y-%m-%d}, CPython {sys.version.split()[0]}:",
        "",
        "| target | seconds | inputs | edges | found |",
        "|---|---|---|---|---|",
        *(f"| {' | '.join(str(cell) for cell in row)} |" for row in rows),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Fuzz the targets one after the other, print what was found, write the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--minutes", type=float, default=5, help="for each target")
    parser.add_argument("--target", action="append", choices=tuple(TARGETS), help="only this one; may be repeated")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    results: list[Fuzzed] = []
    for name in given.target or TARGETS:
        results.append(fuzz(name, max(int(given.minutes * 60), 1)))
        print(*results[-1], flush=True)
    table = _table(results, " ".join(["python -m tests.fuzz", *sys.argv[1:]]))
    print(table)
    if given.out:
        given.out.write_text(table)
    sys.exit(any(one.found for one in results))


if __name__ == "__main__":
    main()
