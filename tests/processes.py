"""What a started command consists of, seen from outside: its workers, who holds a connection, who holds the lock."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

_LONGEST_S = 30.0
_LOOK_S = 0.01


def until(condition: Callable[[], object], what: str, longest_s: float = _LONGEST_S) -> None:
    """Look again and again until something is so; TimeoutError if it never is."""
    deadline = time.monotonic() + longest_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {longest_s} s: {what}")
        time.sleep(_LOOK_S)


def workers_of(parent: int) -> list[int]:
    """Process ids of a run's workers that live, the oldest first."""
    return sorted(pid for pid in _processes() if _is_worker(pid, parent))


def _processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]


def _is_worker(pid: int, parent: int) -> bool:
    try:
        state, its_parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
        helper = b"resource_tracker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return int(its_parent) == parent and state not in "ZX" and not helper


def lives(pid: int) -> bool:
    """Whether a process is there, and is not merely waiting to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def group_lives(group: int) -> bool:
    """Whether any process of a process group lives."""
    for pid in _processes():
        with contextlib.suppress(ProcessLookupError):
            if os.getpgid(pid) == group and lives(pid):
                return True
    return False


def memory_kb(pid: int, *, peak: bool) -> int:
    """Resident memory of a process: the most that it ever had, or what it has now; 0 if it is gone."""
    return _told(pid, "VmHWM" if peak else "VmRSS")


def threads_of(pid: int) -> int:
    """How many threads a process has; 0 if it is gone."""
    return _told(pid, "Threads")


def descriptors_of(pid: int) -> int:
    """How many file descriptors a process has open; 0 if it is gone."""
    with contextlib.suppress(OSError):
        return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    return 0


def _told(pid: int, key: str) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1])
    return 0


def owner_of(port: int, among: list[int]) -> int:
    """Which of these processes has the TCP connection with this local port; 0 if none has it any more."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    sockets = {f"socket:[{row[9]}]" for row in rows if int(row[1].rpartition(":")[2], 16) == port}
    for pid in among:
        if sockets & _descriptors(pid):
            return pid
    return 0


def _descriptors(pid: int) -> set[str]:
    """What a process has open; some of it may be closed meanwhile, and the process gone."""
    found = set()
    with contextlib.suppress(OSError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                found.add(os.readlink(descriptor))
    return found


def is_locked(directory: Path) -> bool:
    """Whether some process holds the mirror."""
    with (directory / ".lock").open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def address_of(server: subprocess.Popen[str]) -> str:
    """Where a `fastmirror serve` that is just being started listens, as it tells."""
    assert server.stdout is not None
    told = re.fullmatch(r"pip install --index-url (http://.+)/simple/ PROJECT\n", server.stdout.readline())
    if told is None:
        raise AssertionError(server.communicate()[1])
    return told[1]


def answer_of(server: subprocess.Popen[str], path: str) -> str:
    """What a `fastmirror serve` that is just being started answers."""
    with urllib.request.urlopen(f"{address_of(server)}{path}", timeout=_LONGEST_S) as answer:
        text: str = answer.read().decode()
        return text
