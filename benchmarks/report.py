"""What a benchmark says: the machine's facts, the table for a person, the numbers for a file."""

from __future__ import annotations

import os
import platform
import re
import statistics
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from benchmarks.measure import Measured

REPOSITORY = Path(__file__).parent.parent
FIGURES = "  wall s   min-max s   CPU s   user system  peak MB  x wall  x CPU"


class Run(NamedTuple):
    """One measured run of one step; memory in bytes."""

    wall_s: float
    user_s: float
    system_s: float
    tree_memory: int
    process_memory: int
    upstream_cpu_s: float  # what nginx used meanwhile, on the same cores
    exit_status: int
    lacks: str  # what the mirror then lacked; "" if it was complete

    @classmethod
    def of(cls, measured: Measured, upstream_cpu_s: float, lacks: str) -> Run:
        """What was measured, and what came of it."""
        return cls(
            measured.wall_s,
            measured.user_s,
            measured.system_s,
            measured.tree_memory,
            measured.process_memory,
            upstream_cpu_s,
            measured.exit_status,
            lacks,
        )

    @property
    def cpu_s(self) -> float:
        """User and system together."""
        return self.user_s + self.system_s

    @property
    def failed(self) -> bool:
        """Whether its figures count for nothing."""
        return self.exit_status != 0 or self.lacks != ""


class Row(NamedTuple):
    """All runs of one step of one tool."""

    step: str
    tool: str
    variant: str
    runs: list[Run]

    @property
    def name(self) -> str:
        """The tool, and how it went about the step."""
        return f"{self.tool}, {self.variant}" if self.variant else self.tool

    @property
    def sound(self) -> bool:
        """Whether every run ended well with a complete mirror."""
        return bool(self.runs) and not any(run.failed for run in self.runs)

    @property
    def wall_s(self) -> float:
        """The median."""
        return statistics.median(run.wall_s for run in self.runs)

    @property
    def cpu_s(self) -> float:
        """The median of user and system time together."""
        return statistics.median(run.cpu_s for run in self.runs)

    @property
    def tree_memory(self) -> int:
        """Of all processes together, the largest of all runs, in bytes."""
        return max(run.tree_memory for run in self.runs)

    @property
    def process_memory(self) -> int:
        """Of the largest process of all runs, in bytes."""
        return max(run.process_memory for run in self.runs)


def machine_facts(directory: Path) -> dict[str, str | int | float]:
    """What the figures depend on; no name and no path of this machine."""
    processor = Path("/proc/cpuinfo").read_text()
    cpu = re.search(r"model name\s*: (.*)", processor)
    memory = re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())
    return {
        "cpu": cpu[1] if cpu else platform.machine(),
        "sha_instructions": re.search(r"^(?:flags|Features)\s*:.*\b(?:sha_ni|sha2)\b", processor, re.MULTILINE)
        is not None,
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": int(memory[1]) * 1024 if memory else 0,
        "kernel": f"{platform.system()} {platform.release()}",
        "file_system": file_system(directory),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "nginx": _output(["nginx", "-v"]).rpartition("/")[2],
        "load_at_start": round(os.getloadavg()[0], 2),
    }


def file_system(directory: Path) -> str:
    """The type of the file system that holds a directory, and its mount options."""
    best, answer = -1, "unknown"
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mount, kind, options, *_ = line.split()
        if directory.resolve().is_relative_to(mount) and len(mount) >= best:
            best, answer = len(mount), f"{kind} ({options})"
    return answer


def commit() -> str:
    """The commit of this checkout, short; with "+" if files differ from it."""
    short = _output(["git", "-C", str(REPOSITORY), "rev-parse", "--short", "HEAD"])
    changed = _output(["git", "-C", str(REPOSITORY), "status", "--porcelain", "--", "fastmirror", "pyproject.toml"])
    return f"{short or 'unknown'}{'+' if changed else ''}"


def _output(command: list[str]) -> str:
    search = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    try:
        answer = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=True,
            env=os.environ | {"PATH": search},
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return answer.stdout.strip()


def table(rows: list[Row]) -> str:
    """The rows as text, by step; ratios are against the first sound fastmirror row of the same step."""
    step_width = 2 + max((len(row.step) for row in rows), default=4)
    tool_width = 2 + max((len(row.name) for row in rows), default=4)
    lines = [
        f"{'step':<{step_width}}{'tool':<{tool_width}}{FIGURES}",
    ]
    for step in dict.fromkeys(row.step for row in rows):
        base = _base(rows, step)
        lines += [
            f"{step:<{step_width}}{row.name:<{tool_width}}{_figures(row, base)}" for row in rows if row.step == step
        ]
    return "\n".join(lines)


def _base(rows: list[Row], step: str) -> Row | None:
    """What the others of its step are compared with."""
    return next((row for row in rows if row.step == step and row.tool.startswith("fastmirror") and row.sound), None)


def _figures(row: Row, base: Row | None) -> str:
    if not row.sound:
        return f"  FAILED: {_failure(row)}"
    walls = [run.wall_s for run in row.runs]
    user_s, system_s = (statistics.median(values) for values in zip(*(run[1:3] for run in row.runs), strict=True))
    spread = f"{min(walls):.2f}-{max(walls):.2f}"
    ratios = f"{row.wall_s / base.wall_s:8.1f}{row.cpu_s / base.cpu_s:7.1f}" if base else f"{'-':>8}{'-':>7}"
    times = f"{row.wall_s:8.2f}{spread:>12}{row.cpu_s:8.2f}{user_s:7.2f}{system_s:7.2f}"
    return f"{times}{row.tree_memory / 1e6:9.0f}{ratios}"


def _failure(row: Row) -> str:
    run = next((run for run in row.runs if run.failed), None)
    if run is None:
        return "not run"
    return f"exit status {run.exit_status}{'; ' if run.lacks else ''}{run.lacks}"


def numbers(rows: list[Row]) -> list[dict[str, object]]:
    """The rows for a result file: every run, the medians of the sound ones, and how many times the first's they are."""
    return [
        {
            "step": row.step,
            "tool": row.tool,
            "variant": row.variant,
            "sound": row.sound,
            "median": {"wall_s": round(row.wall_s, 3), "cpu_s": round(row.cpu_s, 3)} if row.sound else None,
            "times": _times(row, _base(rows, row.step)),
            "runs": [
                {key: round(value, 3) if isinstance(value, float) else value for key, value in run._asdict().items()}
                for run in row.runs
            ],
        }
        for row in rows
    ]


def _times(row: Row, base: Row | None) -> dict[str, float] | None:
    if base is None or not row.sound:
        return None
    return {"wall": round(row.wall_s / base.wall_s, 2), "cpu": round(row.cpu_s / base.cpu_s, 2)}


def say(line: str) -> None:
    """Talk to the person who waits, on standard error."""
    print(line, file=sys.stderr, flush=True)
