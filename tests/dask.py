"""A real dask cluster of this machine: a scheduler and workers, each a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.processes import until

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_START_S = 60.0
# What looks at itself many times a second costs more than the work of a test.
_CALM = {
    "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",
    "DASK_DISTRIBUTED__ADMIN__SYSTEM_MONITOR__INTERVAL": "10s",
    "DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL": "1s",
}


class Dask:
    """A scheduler; `add` brings workers. All are ended by `close`."""

    def __init__(self, home: Path, address: str = "127.0.0.1") -> None:
        self.home = home
        self.workers: list[subprocess.Popen[bytes]] = []
        self._scheduler = self._start("scheduler", ["--host", address, "--port", "0"])
        self.scheduler = self._said("scheduler", r"Scheduler at:\s+(tcp://\S+)")

    def add(
        self,
        count: int = 1,
        *,
        environment: Mapping[str, str] | None = None,
        through: Sequence[str] = (),
        options: Sequence[str] = (),
    ) -> list[subprocess.Popen[bytes]]:
        """Start so many workers, and wait until the scheduler has them. `through`: a command that starts each."""
        names = [f"worker-{len(self.workers) + number}" for number in range(count)]
        arguments = [self.scheduler, "--nthreads", "1", "--no-nanny", *options]
        added = [self._start("worker", arguments, name, environment, through) for name in names]
        self.workers += added
        for name in names:
            self._said(name, r"Registered to:\s+(\S+)")
        return added

    def _start(
        self,
        kind: str,
        arguments: Sequence[str],
        name: str = "",
        environment: Mapping[str, str] | None = None,
        through: Sequence[str] = (),
    ) -> subprocess.Popen[bytes]:
        kept = {key: os.environ[key] for key in ("PATH", "TMPDIR") if key in os.environ}
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", *arguments, "--no-dashboard"]
        with (self.home / f"{name or kind}.log").open("wb") as log:
            return subprocess.Popen(
                [*through, *command],
                cwd=self.home,
                env={**kept, **_CALM, "HOME": str(self.home), "PYTHONPATH": _ROOT, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _said(self, name: str, pattern: str) -> str:
        log = self.home / f"{name}.log"
        until(lambda: re.search(pattern, log.read_text()), f"{name} is there", _START_S)
        found = re.search(pattern, log.read_text())
        assert found is not None
        return found[1]

    def processes(self) -> list[int]:
        """Process ids of the scheduler and its workers."""
        return [process.pid for process in (self._scheduler, *self.workers)]

    def end(self, processes: Sequence[subprocess.Popen[bytes]]) -> None:
        """End some of them, what is stopped too."""
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def close(self) -> None:
        """End everything."""
        self.end([*self.workers, self._scheduler])
