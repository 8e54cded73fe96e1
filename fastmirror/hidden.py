"""Files that are kept, but not under ``web/``: of projects that upstream has quarantined, or removed.

The state notes each before the page that drops it is out. A file comes back when its project's page, read
anew, is to name it again; like any file that no row covers it is hashed before a page does.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fastmirror.names import NormalizedName
    from fastmirror.state import State
    from fastmirror.storage import Storage


def hide(storage: Storage, path: str) -> bool:
    """Move a file out of ``web/``; False if it is neither there nor hidden already."""
    kept = storage.hidden(path)
    os.makedirs(os.path.dirname(kept), exist_ok=True)
    return storage.take_out(path, kept) or os.path.exists(kept)


def reveal(storage: Storage, paths: Iterable[str]) -> None:
    """Give hidden files their names below ``web/`` again, where those are free."""
    for path in paths:
        kept = storage.hidden(path)
        if os.path.exists(kept):
            storage.place(kept, path)


def holds_hidden(state: State) -> bool:
    """Whether any file is kept hidden."""
    return bool(state.select("select 1 from hidden limit 1"))


def take_hidden(state: State, names: Sequence[NormalizedName]) -> dict[str, tuple[str, ...]]:
    """The hidden files of these projects, some hundred at the most: from now on a job may reveal them."""
    marks = ",".join("?" * len(names))
    rows = state.select(f"select project, path from hidden where project in ({marks})", names)  # noqa: S608
    taken: dict[str, tuple[str, ...]] = {}
    for project, path in rows:
        taken[project] = (*taken.get(project, ()), path)
    if taken:
        with state.transaction():
            state.change("update hidden set place = 'back' where project = ?", [(name,) for name in taken])
    return taken


def unsettled(state: State, *, clean: bool) -> list[tuple[str, str]]:
    """Files that may be in the wrong place: (path, project).

    After a run that was cut off pages may name what rows do not: what a job may have revealed waits then.
    """
    return state.select("select path, project from hidden where place = 'web' or (place = 'back' and ?)", (clean,))


def settle_hidden(state: State, storage: Storage, found: Sequence[tuple[str, str]], named: set[str]) -> None:
    """Move these files out of ``web/``, but for those that a page names: they are not hidden any more."""
    settled, dropped = [], []
    for path, project in found:
        if path in named:
            storage.discard(storage.hidden(path))
            dropped.append((path, project))
        elif hide(storage, path):
            settled.append((path, project))
        else:
            dropped.append((path, project))
    storage.flush()
    with state.transaction():
        state.change("update hidden set place = 'hidden' where path = ? and project = ?", settled)
        state.change("delete from hidden where path = ? and project = ?", dropped)


def discard_hidden(state: State, storage: Storage, names: Iterable[str]) -> None:
    """Unlink what is hidden of these projects."""
    for name in names:
        for (path,) in state.select("select path from hidden where project = ?", (name,)):
            storage.discard(storage.hidden(path))
    with state.transaction():
        state.change("delete from hidden where project = ?", [(name,) for name in names])
