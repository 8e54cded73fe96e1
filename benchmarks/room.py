"""Where a benchmark writes: fresh directories, all deleted at the very end.

On ext4 the allocator shuns inodes that were deleted in the last minutes, which multiplies the CPU of whatever
creates files then. So every run writes into a fresh directory, all of them are deleted at the very end, and
the next benchmark waits until that is five minutes ago.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.report import file_system, say

if TYPE_CHECKING:
    from collections.abc import Iterator

CACHE = Path(tempfile.gettempdir()) / "fastmirror-bench"
SETTLE_S = 300


@contextmanager
def room(cache: Path, *, keep: bool = False) -> Iterator[Path]:
    """A directory for the mirrors of one benchmark, when the last one's deletions are old enough."""
    stamp = cache / "deleted"
    if stamp.exists() and file_system(cache).startswith("ext"):
        left = SETTLE_S - (time.time() - stamp.stat().st_mtime)
        if left > 0:
            say(f"waiting {left:.0f} s: ext4 shuns the inodes that the last benchmark deleted")
            time.sleep(left)
    mirrors = Path(tempfile.mkdtemp(prefix="mirrors-", dir=cache))
    try:
        yield mirrors
    finally:
        if keep:
            say(f"kept: {mirrors}")
        else:
            say("deleting the mirrors")
            shutil.rmtree(mirrors, ignore_errors=True)
            os.sync()
            stamp.touch()
