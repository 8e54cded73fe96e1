"""How a file at rest is checked where no row vouches for it (compare-method)."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Literal

from fastmirror.descriptors import stamp_ns

if TYPE_CHECKING:
    from fastmirror.storage import Storage

Method = Literal["hash", "stat"]
# What is left of a time in microseconds once it was a float, here or in bandersnatch.
_TOLERANCE_NS = 2_000


def holds(storage: Storage, method: Method, path: str, sha256: str, size: int | None, mtime: float) -> bool:
    """Whether the file below ``web/`` has this sha256, and this size where one is given.

    By `stat`, a stated size and modification time (seconds since the epoch) suffice; where they do not agree
    the file is hashed, and given the time if it is the right one.
    """
    stamp = stamp_ns(mtime)
    if method == "stat" and size is not None and stamp > 0:
        status = storage.facts(path)
        if status is None:
            return False
        if status.size == size and abs(status.mtime_ns - stamp) <= _TOLERANCE_NS:
            return True
    at_rest = storage.digest(path)
    if at_rest is None or at_rest.sha256 != sha256 or size not in (None, at_rest.size):
        return False
    if method == "stat" and stamp > 0:
        with contextlib.suppress(OSError):  # another's file: it is hashed the next time too
            storage.stamp(path, stamp)
    return True
