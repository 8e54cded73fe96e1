"""A state that was found damaged is marked by a file beside it, and the next run that holds the mirror moves it aside.

The mark is believed: a check of the whole state takes long, and sees neither an index that lacks a row nor values
that are not what was written. It goes with the state that it speaks of.
"""

from __future__ import annotations

import contextlib
import os
import time


def mark_path(path: str) -> str:
    """Where the mark of a state lies."""
    return f"{path}.damaged"


def is_marked(path: str) -> bool:
    """Whether a state was found damaged, and is to be made anew."""
    return os.path.exists(mark_path(path))


def mark(path: str, reason: str) -> None:
    """Note that a state is damaged, if the disk allows it. To be called by who holds the mirror."""
    with contextlib.suppress(OSError), open(mark_path(path), "w", encoding="utf-8") as stream:
        stream.write(f"{reason}\n")
        stream.flush()
        os.fsync(stream.fileno())


def told(path: str, reason: str, *, is_held: bool) -> str:
    """What is said of a state that was just found damaged; whoever holds the mirror marks it."""
    if is_held:
        mark(path, reason)
    what_next = "the next run makes it anew from the tree" if is_marked(path) else "hint: fastmirror doctor"
    return f"state is damaged ({path}): {reason} ({what_next})"


def unmark(path: str) -> None:
    """The state that was found damaged lies here no more."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(mark_path(path))


def move_aside(path: str) -> str:
    """Move a damaged state aside, and return where it is kept; nobody who writes may have it open.

    Cut off, it is done again. What others read of it meanwhile they go on reading.
    """
    aside = f"{path}.damaged-{int(time.time())}"
    for ending in ("-wal", "-shm", ""):
        with contextlib.suppress(FileNotFoundError):
            os.replace(path + ending, aside + ending)
    unmark(path)
    return aside
