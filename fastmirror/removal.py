"""What upstream removed leaves the mirror: the root index first, then the page, then the disk."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from fastmirror.layout import METADATA_SUFFIX, PageFormat, Tree, page_paths
from fastmirror.planner import is_over_limit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastmirror.discovery import Found
    from fastmirror.model import Outcome
    from fastmirror.settings import GuardSettings
    from fastmirror.state import State
    from fastmirror.storage import Storage

_LOG = logging.getLogger(__name__)
_PROJECTS_AT_ONCE = 500
_REMOVALS_LEAST = 20
REMOVED_FILES_LEAST = 1000


def are_too_many(count: int, guard: GuardSettings, state: State | None) -> bool:
    """Whether the deletion guard holds back so many removals of projects."""
    return is_over_limit(
        count,
        least=_REMOVALS_LEAST,
        chosen=guard.max_removals,
        total=lambda: state.totals().projects if state is not None else 0,
    )


def is_held_back(found: Found, guard: GuardSettings, state: State) -> bool:
    """Whether the guard keeps a run even from asking for what is no longer listed.

    An upstream without serials is asked for every project anyway: there, what it says is gone is counted.
    Projects that are hidden already do not count.
    """
    if found.serial is None:
        return False
    return are_too_many(state.count_listed(found.remove), guard, state)


def retract(
    gone: Sequence[Outcome], state: State, storage: Storage, tree: Tree, now: float, write_index: Callable[[], None]
) -> None:
    """Take projects out of the mirror; their files are doomed, and unlinked when their grace is over."""
    with state.transaction():
        state.unlist(outcome.name for outcome in gone)
        state.doom(gone, now)
    write_index()
    storage.flush()
    for outcome in gone:
        _LOG.info("%s: gone upstream, removed", outcome.name)
        for page_format in (PageFormat.JSON, PageFormat.HTML):
            for path in page_paths(tree, outcome.name, page_format):
                storage.remove(path)
    storage.flush()
    with state.transaction():
        for outcome in gone:
            state.forget(outcome.name)


def unlink_doomed(state: State, storage: Storage, moment: float, chosen_limit: int | None) -> int:
    """Unlink the files that no page has named since before this moment; returns how many the guard held back.

    A file that some project names again, or names too, is spared.
    """
    due = state.doomed_before(moment)
    if is_over_limit(len(due), least=REMOVED_FILES_LEAST, chosen=chosen_limit, total=lambda: state.totals().files):
        return len(due)
    if not due:
        return 0
    paths = {path for path, _ in due}
    owners = sorted({project for _, project in due})
    named: set[str] = set()
    for start in range(0, len(owners), _PROJECTS_AT_ONCE):
        named |= state.named(paths, by=owners[start : start + _PROJECTS_AT_ONCE])
    shared = state.shared_paths({path.removesuffix(METADATA_SUFFIX) for path in paths - named})
    if shared:
        named |= state.named(shared | {path + METADATA_SUFFIX for path in shared})
    unnamed = paths - named
    for path in sorted(unnamed):
        if storage.remove(path):
            _LOG.info("%s: unlinked", path)
    with state.transaction():
        state.spare(paths)
        state.unshare(unnamed)
    return 0


def free_disputed(disputed: set[str], state: State, storage: Storage) -> set[str]:
    """Unlink files that hold a name which another file wants, and that no project names; returns which.

    Such files are left by a crash, or were there before the mirror.
    """
    if not disputed:
        return set()
    freed = {path for path in disputed - state.named(disputed) if storage.remove(path)}
    with state.transaction():
        state.spare(freed)  # what comes to stand there is not what was doomed
    return freed
