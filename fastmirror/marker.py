"""A run's marker in the mirror's directory: by it a cluster's workers know that they see it, and when to end.

It is there while the run is, holds a number that grows while its parent lives, and is held with flock, so that
whoever can lock it knows that locks do not hold between the two hosts.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress

_BEAT_S = 10.0


class Marker:
    """The marker of one run; `own` is the directory of what is fastmirror's own in the mirror."""

    def __init__(self, own: str, run: str) -> None:
        self._directory = os.path.join(own, "cluster")
        self.path = os.path.join(self._directory, run)
        self._descriptor = -1
        self._beats = 0
        self._beaten_at = 0.0

    def set(self) -> None:
        """Make it. Those of runs that were killed go: what their workers still do ends by it."""
        os.makedirs(self._directory, exist_ok=True)
        for entry in os.scandir(self._directory):
            os.unlink(entry.path)
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        self.beat()

    def beat(self) -> None:
        """The parent lives; written every few seconds, however often it is called."""
        now = time.monotonic()
        if now - self._beaten_at >= _BEAT_S:
            self._beaten_at = now
            self._beats += 1
            os.pwrite(self._descriptor, b"%d\n" % self._beats, 0)
            os.fsync(self._descriptor)

    def clear(self) -> None:
        """The run is over."""
        if self._descriptor >= 0:
            with suppress(FileNotFoundError):
                os.unlink(self.path)
            os.close(self._descriptor)
            self._descriptor = -1
