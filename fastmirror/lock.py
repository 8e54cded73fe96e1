"""One run at a time: flock on `<directory>/.lock`, bandersnatch's own, so that the two exclude each other."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from fastmirror.errors import MirrorLocked

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def hold_lock(directory: str) -> Iterator[int]:
    """Hold the mirror for one run; yields the descriptor, which workers inherit.

    The mirror is free when the last process that has the descriptor is gone, and not before. Raises
    MirrorLocked, with the holder's process id and start time, at once.
    """
    os.makedirs(directory, exist_ok=True)
    descriptor = os.open(os.path.join(directory, ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip()
            raise MirrorLocked(directory, holder or "another program") from None
        os.ftruncate(descriptor, 0)
        since = datetime.now(UTC).isoformat(timespec="seconds")
        os.pwrite(descriptor, f"process {os.getpid()}, since {since}\n".encode(), 0)
        try:
            yield descriptor
        finally:
            with suppress(OSError):
                os.ftruncate(descriptor, 0)  # or whoever holds it next, as bandersnatch may, is taken for this run
    finally:
        os.close(descriptor)
