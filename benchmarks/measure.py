"""Run one command and measure its whole process tree. Standard library only; Linux.

``measure`` starts this file as a helper, a process of its own for each run, so that runs do not mix. The
helper is the subreaper of the tree: whatever the command leaves behind becomes its child, is waited for, and
is counted.

CPU       RUSAGE_CHILDREN of the helper after the last process has ended: all that was waited for
wall      from the start until the last process of the tree has ended
memory    the kernel's own maximum for the largest single process; for the tree, the largest sum of
          proportional set sizes (shared pages counted once) of a sample taken every 100 ms, and at least
          the largest process
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

SAMPLE_S = 0.1
PR_SET_CHILD_SUBREAPER = 36


class Measured(NamedTuple):
    """What one run took."""

    exit_status: int  # negative: ended by that signal
    wall_s: float
    user_s: float
    system_s: float
    tree_memory: int  # bytes
    process_memory: int  # bytes, the largest process

    @property
    def cpu_s(self) -> float:
        """User and system together."""
        return self.user_s + self.system_s


def measure(command: list[str], *, log: Path, timeout_s: float = 3600.0) -> Measured:
    """Run a command to its end and measure it; output goes to ``log``; killed after ``timeout_s``."""
    helper = [sys.executable, __file__, "--log", str(log), "--timeout", str(timeout_s), "--", *command]
    answer = subprocess.run(helper, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True)
    return Measured(*json.loads(answer.stdout))


def children(pid: int) -> list[int]:
    """The living children of a process, started by any of its threads."""
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - sampled often
            with open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as file:
                found.extend(map(int, file.read().split()))
    except OSError:
        pass  # it ended meanwhile
    return found


def descendants(pid: int) -> list[int]:
    """All living processes below a process."""
    found = children(pid)
    for each in found:
        found.extend(children(each))
    return found


def cpu_s_of(pids: Iterable[int]) -> float:
    """CPU time that living processes have used so far, user and system."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _proportional_bytes(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            for line in file:
                if line.startswith("Pss:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass  # it ended meanwhile
    return 0


class _Sampler(threading.Thread):
    """Watches the tree below this process: its memory, and its time limit."""

    def __init__(self, timeout_s: float) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self.ended = threading.Event()
        self._deadline = time.monotonic() + timeout_s

    def run(self) -> None:
        while not self.ended.wait(SAMPLE_S):
            processes = descendants(os.getpid())
            self.peak = max(self.peak, sum(map(_proportional_bytes, processes)))
            if time.monotonic() > self._deadline:
                for each in processes:
                    os.kill(each, signal.SIGKILL)


def _run(command: list[str], log: Path, timeout_s: float) -> Measured:
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot become a subreaper")
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    redirect = [(os.POSIX_SPAWN_DUP2, output, 1), (os.POSIX_SPAWN_DUP2, output, 2)]
    sampler = _Sampler(timeout_s)
    sampler.start()
    started = time.monotonic()
    leader = os.posix_spawnp(command[0], command, os.environ, file_actions=redirect, setsid=True)
    exit_status = 0
    while True:
        try:
            pid, status = os.waitpid(-1, 0)
        except ChildProcessError:
            break
        if pid == leader:
            exit_status = os.waitstatus_to_exitcode(status)
    wall_s = time.monotonic() - started
    sampler.ended.set()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    largest = used.ru_maxrss * 1024
    return Measured(exit_status, wall_s, used.ru_utime, used.ru_stime, max(sampler.peak, largest), largest)


def main() -> None:
    """The helper: one line of JSON on standard output."""
    parser = argparse.ArgumentParser(description="run one command and measure its process tree")
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--timeout", type=float, default=3600.0)
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    print(json.dumps(_run(arguments.command, arguments.log, arguments.timeout)))


if __name__ == "__main__":
    main()
