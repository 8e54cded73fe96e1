"""bandersnatch in an environment of its own: version 8 with a Python 3.12 or newer, else 6.8 with the running one.

It is installed from the package index once and kept in a cache. The benchmarks and the parity tests use it.
"""

from __future__ import annotations

import fcntl
import re
import shutil
import subprocess
import sys
from pathlib import Path


def install_bandersnatch(cache: Path) -> Path:
    """The program; installed unless the cache holds it, by one process at a time.

    Raises subprocess.CalledProcessError, with what was said in its ``stderr``, if it cannot be had.
    """
    python = _newest_python()
    wanted = "bandersnatch[uvloop]>=8,<9" if python else "bandersnatch>=6.8,<7"
    home = cache / ("bandersnatch-8" if python else "bandersnatch-6")
    whole = home / "whole"  # made last: without it, an installation was cut short
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not whole.exists():
            shutil.rmtree(home, ignore_errors=True)
            _run([python or sys.executable, "-m", "venv", str(home)])
            pip = [str(home / "bin/pip"), "--quiet", "--disable-pip-version-check", "--retries", "2"]
            _run([*pip, "install", wanted])
            whole.touch()
    return home / "bin/bandersnatch"


def program_output(command: list[str]) -> str:
    """What a program says, stripped; "" if it cannot be run or fails."""
    try:
        return _run(command).strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def bandersnatch_version(program: Path) -> str:
    """The version, "" if the program does not run."""
    return program_output([str(program), "--version"]).replace("bandersnatch", "").strip()


def _newest_python() -> str | None:
    """A Python that bandersnatch 8 runs on (3.12 or newer), the oldest of them; None if none is found."""
    found = [str(path) for path in Path.home().glob(".pyenv/versions/3.*/bin/python3")]
    found += filter(None, (shutil.which(f"python3.{minor}") for minor in range(12, 20)))
    versions = []
    for program in (*found, sys.executable):
        match = re.fullmatch(r"Python 3\.(\d+)\.\S+", program_output([program, "--version"]))
        if match and int(match[1]) >= 12:
            versions.append((int(match[1]), program))
    return min(versions)[1] if versions else None


def _run(command: list[str]) -> str:
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True).stdout
