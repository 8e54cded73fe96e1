"""What leaves the mirror: removed upstream, or no longer selected. The root index first, then the page, then the disk.

A project that upstream answers 404 for has left if the root index does not list it either, or if a run before
had the same answer for it; with a page published it is retracted, under the guard, as `removed-projects` says.
Without one it is only counted, asked for once more by the next run, and then when its serial changes. Where the
root index gives no serials, and where it is not fetched, a 404 is believed at once. What is no longer selected
is not asked for, and always deleted, under the same guard.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, NamedTuple

from fastmirror.changes import at_rest, note_removed
from fastmirror.hidden import discard_hidden, settle_hidden, unsettled
from fastmirror.layout import METADATA_SUFFIX
from fastmirror.model import Outcome
from fastmirror.packing import paths_of, unpack_files
from fastmirror.pages import published_paths
from fastmirror.planner import in_chunks, is_over_limit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from fastmirror.discovery import Found
    from fastmirror.emptied import Emptied
    from fastmirror.layout import Tree
    from fastmirror.names import NormalizedName
    from fastmirror.publisher import Done
    from fastmirror.settings import GuardSettings, Settings
    from fastmirror.state import State
    from fastmirror.storage import Storage
    from fastmirror.summary import Counts

_LOG = logging.getLogger(__name__)
_PROJECTS_AT_ONCE = 500
_REMOVALS_LEAST = 20
REMOVED_FILES_LEAST = 1000
_MISSING = "page: HTTP status 404, though the root index lists it (removed if the next try finds the same)"
_GONE = "gone upstream"
_KEEP = """
update project set outcome = 'gone', reason = ?, tries = 0, next_try = null, expected = null
where name = ? and reason <> ?
"""
_AWAIT = """
insert into project (name, etag, upstream_digest, page_digest, settings_digest, file_count, byte_count,
    outcome, reason, tries, next_try, expected, wanted_by, listed)
values (?, '', '', '', '', 0, 0, 'gone', ?, 1, ?, ?, '', 0)
on conflict (name) do update set outcome = 'gone', reason = excluded.reason, next_try = excluded.next_try,
    expected = excluded.expected
"""


def are_too_many(count: int, guard: GuardSettings, state: State | None) -> bool:
    """Whether the deletion guard holds back so many removals of projects."""
    return is_over_limit(
        count,
        least=_REMOVALS_LEAST,
        chosen=guard.max_removals,
        total=lambda: state.count_published() if state is not None else 0,
    )


def is_held_back(found: Found, settings: Settings, state: State) -> bool:
    """Whether the guard keeps a run from all removals, even from asking for what is no longer listed.

    An upstream without serials is asked for every project anyway: there, what it says is gone is counted.
    Projects that are hidden already do not count, nor does what is kept though upstream removed it.
    """
    is_asked_freely = found.serial is None or settings.storage.removed_projects == "keep"
    names = found.denied if is_asked_freely else [*found.denied, *found.remove]
    return are_too_many(state.count_listed(names), settings.guard, state)


class Leaving(NamedTuple):
    """A project on its way out."""

    name: NormalizedName
    reason: str
    hide: bool  # its files are kept, though not under web/


class Removals:
    """The removals of one run."""

    def __init__(
        self,
        settings: Settings,
        state: State,
        storage: Storage,
        tree: Tree,
        counts: Counts,
        write_index: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._state = state
        self._storage = storage
        self._tree = tree
        self._counts = counts
        self._write_index = write_index

    def take(self, gone: Sequence[Done], denied: Sequence[NormalizedName], emptied: Emptied, check_id: int) -> None:
        """Retract what upstream says is gone, and what is no longer selected.

        Or hold it back, under the guard, and with it the projects that are left without a file.
        """
        if not gone and not denied and not emptied.count:
            return
        state, counts, how = self._state, self._counts, self._settings.storage.removed_projects
        left_out = [done for done in gone if done.outcome.status == "denied"]
        gone = [done for done in gone if done.outcome.status == "gone"]
        rows = {done.outcome.name: _page_and_reason(state, done.outcome.name) for done in gone}
        doubted = [done for done in gone if done.job.expected is not None and _is_first(rows[done.outcome.name])]
        self._await([done for done in doubted if not rows[done.outcome.name][0]])
        self._doubt([done for done in doubted if rows[done.outcome.name][0]], check_id)
        for done in doubted:
            del rows[done.outcome.name]
        published = [name for name, (page_digest, _) in rows.items() if page_digest]
        shown = [name for name in denied if _page_and_reason(state, name)[0]]
        leaving = [Leaving(name, "no longer selected", hide=False) for name in shown]
        leaving += [Leaving(done.outcome.name, "left out by filters", hide=False) for done in left_out]
        with state.transaction():
            for name in {*rows, *denied}.difference(published, shown):
                state.forget(name)
            if how == "keep":
                state.change(_KEEP, [(_GONE, name, _GONE) for name in published])
        if how != "keep":
            leaving += [Leaving(name, _GONE, hide=how == "hide") for name in published]
        going = counts.removed + counts.emptied + emptied.count + state.count_listed(x.name for x in leaving)
        if are_too_many(going, self._settings.guard, state):
            counts.held_removals += len(leaving)
            emptied.hold()
        elif leaving:
            retract(leaving, state, self._storage, self._tree, time.time(), self._write_index)
            counts.removed += len(leaving)
            counts.by_status["gone"] -= len(leaving) - len(shown) - len(left_out)
            self._skip(left_out, check_id)

    def _skip(self, left_out: Sequence[Done], check_id: int) -> None:
        """Keep in mind that filters leave nothing of these, so that they are asked for when something changes."""
        skipped = [done._replace(outcome=done.outcome._replace(status="skipped")) for done in left_out]
        with self._state.transaction():
            self._state.record(skipped, time.time(), check_id)

    def _await(self, late: Sequence[Done]) -> None:
        with self._state.transaction():
            self._state.change(_AWAIT, [(done.outcome.name, _MISSING, time.time(), done.job.expected) for done in late])

    def _doubt(self, doubted: Sequence[Done], check_id: int) -> None:
        failed = [done._replace(outcome=Outcome(done.outcome.name, "failed", _MISSING)) for done in doubted]
        for done in failed:
            self._counts.take_back(done.outcome.name, "gone")
            self._counts.take(done.outcome)
            _LOG.info("%s: %s", done.outcome.name, _MISSING)
        with self._state.transaction():
            self._state.record(failed, time.time(), check_id)


def _page_and_reason(state: State, name: str) -> tuple[str, str]:
    """Digest of the pages published, empty if none is, and what was wrong last."""
    rows = state.select("select page_digest, reason from project where name = ?", (name,))
    return rows[0] if rows else ("", "")


def _is_first(row: tuple[str, str]) -> bool:
    """Whether it is the first time that a project which upstream lists was not there."""
    return row[1] not in (_MISSING, _GONE)


def retract(
    leaving: Sequence[Leaving],
    state: State,
    storage: Storage,
    tree: Tree,
    now: float,
    write_index: Callable[[], None],
) -> None:
    """Take projects out of the mirror; their files are doomed, and unlinked when their grace is over, or hidden."""
    with state.transaction():
        state.unlist(project.name for project in leaving)
    write_index()
    storage.flush()
    for some in in_chunks(leaving, _PROJECTS_AT_ONCE):
        known = state.known([project.name for project in some])
        outcomes = [
            Outcome(
                project.name,
                "gone",
                dropped=tuple(paths_of(unpack_files(known[project.name].files))),
                hidden=project.hide,
            )
            for project in some
            if project.name in known
        ]
        pages = [path for project in some for path in published_paths(storage, tree, project.name)]
        with state.transaction():
            state.doom(outcomes, now)
            note_removed(state, at_rest(storage, pages))
        for project in some:
            _LOG.info("%s: %s, removed", project.name, project.reason)
        storage.remove_all(pages)
        storage.flush()
        with state.transaction():
            for project in some:
                state.forget(project.name)
        discard_hidden(state, storage, [project.name for project in some if not project.hide])


def settle(state: State, storage: Storage, *, clean: bool) -> None:
    """Move what is to be hidden out of ``web/``, unless some project names it too."""
    if found := unsettled(state, clean=clean):
        named = _named(state, found)
        with state.transaction():
            note_removed(state, at_rest(storage, {path for path, _ in found} - named))
        settle_hidden(state, storage, found, named)


def _named(state: State, found: Iterable[tuple[str, str]]) -> set[str]:
    """Those of these files that a project names; given with the project that dropped each, or "" to ask all."""
    paths = {path for path, _ in found}
    owners = sorted({project for _, project in found if project})
    anybodys = {path for path, project in found if not project}
    named = state.named(anybodys) if anybodys else set()
    for some in in_chunks(owners, _PROJECTS_AT_ONCE):
        named |= state.named(paths, by=some)
    shared = state.shared_paths({path.removesuffix(METADATA_SUFFIX) for path in paths - named})
    if shared:
        named |= state.named(shared | {path + METADATA_SUFFIX for path in shared})
    return named


def unlink_doomed(state: State, storage: Storage, moment: float, chosen_limit: int | None) -> int:
    """Unlink the files that no page has named since before this moment; returns how many the guard held back.

    A file that some project names again, or names too, is spared.
    """
    due = state.doomed_before(moment)
    if is_over_limit(len(due), least=REMOVED_FILES_LEAST, chosen=chosen_limit, total=lambda: state.totals().files):
        return len(due)
    if due:
        unlink_unnamed(due, state, storage)
    return 0


def unlink_unnamed(due: Sequence[tuple[str, str]], state: State, storage: Storage) -> None:
    """Unlink those of these files, each with the project that dropped it, that no project names."""
    paths = {path for path, _ in due}
    unnamed = paths - _named(state, due)
    with state.transaction():
        note_removed(state, at_rest(storage, unnamed))
    unlinked = storage.remove_all(sorted(unnamed))
    for path in unlinked:
        _LOG.info("%s: unlinked", path)
    if unlinked:
        storage.flush()  # or a loss of power brings back what nobody knows of any more
    with state.transaction():
        state.spare(paths)
        state.unshare(unnamed)


def free_disputed(disputed: set[str], state: State, storage: Storage) -> set[str]:
    """Unlink files that hold a name which another file wants, and that no project names; returns which.

    Such files are left by a crash, or were there before the mirror.
    """
    if not disputed:
        return set()
    unnamed = disputed - state.named(disputed)
    with state.transaction():
        note_removed(state, at_rest(storage, unnamed))
    freed = set(storage.remove_all(unnamed))
    with state.transaction():
        state.spare(freed)  # what comes to stand there is not what was doomed
    return freed
