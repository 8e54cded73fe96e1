"""What runs have written and removed below ``web/``, for those who carry a mirror on: ``diff-file``.

Noted in the state with the rows that it belongs to, so that nothing is lost with a run that is cut off: the
next one that ends lists it too. Nothing is noted unless a ``diff-file`` is set.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fastmirror.descriptors import write_all
from fastmirror.packing import paths_of, unpack_files

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fastmirror.model import Outcome
    from fastmirror.settings import RunSettings
    from fastmirror.state import State
    from fastmirror.storage import Storage

_NOTE = "insert or replace into change values (?, ?)"
_DEFAULT_NAME = "mirrored-files"


def note_written(state: State, paths: Iterable[str]) -> None:
    """These have been put below ``web/``; within a transaction."""
    if state.keeps_changes:
        state.change(_NOTE, [(path, 0) for path in paths])


def note_removed(state: State, paths: Iterable[str]) -> None:
    """These are gone from below ``web/``; within a transaction."""
    if state.keeps_changes:
        state.change(_NOTE, [(path, 1) for path in paths])


def note_group(state: State, outcomes: Sequence[Outcome]) -> None:
    """These projects are published; within the transaction that records them, and before it does."""
    if not state.keeps_changes:
        return
    known = state.known([outcome.name for outcome in outcomes])
    for outcome in outcomes:
        before = known.get(outcome.name)
        held = set(paths_of(unpack_files(before.files))) if before is not None else set()
        if outcome.files is not None:
            note_written(state, (path for path in paths_of(unpack_files(outcome.files)) if path not in held))
        note_written(state, (path for page in outcome.pages for path in page.final))
        note_removed(state, outcome.retired)


def write_diff(state: State, storage: Storage, settings: RunSettings, started: float) -> None:
    """Put the lists into place, of what was written and of what was removed, and begin anew.

    Absolute paths, one a line, the last without an end, as bandersnatch writes them; removals stand in a file
    of their own, ``<diff-file>.deleted``.
    """
    if settings.diff_file is None:
        return
    path = settings.diff_file
    if os.path.isdir(path):
        path = os.path.join(path, _DEFAULT_NAME)
    if settings.diff_with_epoch:
        path += f"-{int(started)}"
    os.makedirs(os.path.dirname(path), exist_ok=True)
    for removed, name in ((0, path), (1, f"{path}.deleted")):
        rows = state.select("select path from change where removed = ? order by path", (removed,))
        _put(name, "\n".join(f"{storage.web}/{found}" for (found,) in rows).encode())
    with state.transaction():
        state.change("delete from change where removed in (?, 1)", [(0,)])


def _put(path: str, content: bytes) -> None:
    descriptor = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        write_all(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(f"{path}.new", path)
