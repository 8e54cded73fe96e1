"""What runs have written and removed below ``web/``, for those who carry a mirror on: ``diff-file`` and ``export``.

Noted in the state before it is done, so that nothing is lost with a run that is cut off. The list for a
``diff-file`` begins anew with each run that finishes. The journal, begun by the first export, keeps for each
path the number of the export that is to carry it next. Nothing is noted unless one of the two is wanted.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fastmirror.errors import SettingsError, StorageError
from fastmirror.packing import paths_of, unpack_files
from fastmirror.schema import JOURNAL

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from fastmirror.model import Outcome
    from fastmirror.settings import RunSettings
    from fastmirror.state import State
    from fastmirror.storage import Storage

_NOTE = "insert or replace into change values (?, ?)"
_ENTER = "insert or replace into journal values (?, ?)"
_EXPORTS_KEPT = 100  # an export may go back to so many before it
_DEFAULT_NAME = "mirrored-files"
_AT_ONCE = 10_000


def note_written(state: State, paths: Iterable[str]) -> None:
    """These have been put below ``web/``, or are about to be; within a transaction."""
    if state.notes.are_wanted:
        _note(state, list(paths), removed=0)


def note_removed(state: State, paths: Iterable[str]) -> None:
    """These are about to go from below ``web/``; within a transaction."""
    if state.notes.are_wanted:
        _note(state, list(paths), removed=1)


def note_for_diff(state: State, written: Iterable[str], removed: Iterable[str]) -> None:
    """These are about to be put below ``web/``, and to go, and are no part of an export; within a transaction."""
    if state.notes.diff:
        state.change(_NOTE, [(path, 0) for path in written])
        state.change(_NOTE, [(path, 1) for path in removed])


def _note(state: State, paths: Sequence[str], *, removed: int) -> None:
    if state.notes.diff:
        state.change(_NOTE, [(path, removed) for path in paths])
    if state.notes.export is not None:
        state.change(_ENTER, [(path, state.notes.export) for path in paths])


def next_export(state: State) -> int | None:
    """The number that the next export will have; None if there was none yet, and no journal is kept."""
    number = state.get("next_export")
    return int(number) if number else None


def begin_journal(state: State, number: int) -> None:
    """What changes from now on is for the export of this number; within a transaction."""
    state.change(JOURNAL, [()])
    state.change("delete from journal where number <= ?", [(number - _EXPORTS_KEPT,)])
    state.put({"next_export": str(number)})
    state.notes = state.notes._replace(export=number)


def changed_since(state: State, export: int) -> list[str]:
    """Paths below ``web/`` of what was written or removed after this export. Raises SettingsError if none can say."""
    upcoming = next_export(state)
    if upcoming is None or not max(0, upcoming - _EXPORTS_KEPT) < export < upcoming:
        raise SettingsError(
            f"--since {export}: nothing is known of such an export (hint: without --since, all is exported)"
        )
    return [path for (path,) in state.select("select path from journal where number > ? order by path", (export,))]


def at_rest(storage: Storage, paths: Iterable[str]) -> Iterator[str]:
    """Those of these paths that stand below ``web/``; looked at one by one, as they are asked for."""
    return (path for path in paths if storage.size(path) is not None)


def note_group(state: State, storage: Storage, outcomes: Sequence[Outcome]) -> None:
    """These projects' files are in place, and their pages are about to be; within a transaction."""
    if not state.notes.are_wanted:
        return
    known = state.known([outcome.name for outcome in outcomes])
    for outcome in outcomes:
        before = known.get(outcome.name)
        held = set(paths_of(unpack_files(before.files))) if before is not None else set()
        if outcome.checked is not None:  # what was damaged and is not any more has been written again
            held.difference_update(damage.path for damage in outcome.checked.damage)
            held.update(outcome.checked.unmended)
        if outcome.files is not None:
            note_written(state, (path for path in paths_of(unpack_files(outcome.files)) if path not in held))
        note_written(state, (path for page in outcome.pages for path in page.final))
        note_removed(state, at_rest(storage, outcome.retired))


def write_diff(state: State, storage: Storage, settings: RunSettings, started: float, *, finished: bool) -> None:
    """Put the lists into place, of what was written and of what was removed; where the run has finished, begin anew.

    Absolute paths, one a line, the last without an end, as bandersnatch writes them; removals stand in a file
    of their own, ``<diff-file>.deleted``. Raises StorageError if they cannot be written: then the next run lists all.
    """
    if settings.diff_file is None:
        return
    path = settings.diff_file
    if os.path.isdir(path):
        path = os.path.join(path, _DEFAULT_NAME)
    if settings.diff_with_epoch:
        path += f"-{int(started)}"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        for removed, name in ((0, path), (1, f"{path}.deleted")):
            _put(name, map(storage.shown_as, _noted(state, removed)))
        _flush_directory(os.path.dirname(path))
    except OSError as error:
        raise StorageError(f"diff-file: {error}") from error
    if finished:
        with state.transaction():
            state.change("delete from change", [()])


def _noted(state: State, removed: int) -> Iterator[str]:
    last = ""
    query = "select path from change where removed = ? and path > ? order by path limit ?"
    while rows := state.select(query, (removed, last, _AT_ONCE)):
        for (last,) in rows:
            yield last


def _put(path: str, lines: Iterable[str]) -> None:
    with open(f"{path}.new", "w", encoding="utf-8", errors="surrogateescape") as stream:
        separator = ""
        for line in lines:
            stream.write(separator + line)
            separator = "\n"
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(f"{path}.new", path)


def _flush_directory(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
