"""One verification: everything at rest against the state, repaired from upstream where it is damaged."""

from __future__ import annotations

import logging
import os
import time
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from fastmirror.adoption import adopt
from fastmirror.changes import note_removed
from fastmirror.closure import Closure
from fastmirror.errors import SettingsError
from fastmirror.execution import Terms
from fastmirror.filters import Filters
from fastmirror.holding import hold_mirror
from fastmirror.planner import is_over_limit
from fastmirror.removal import REMOVED_FILES_LEAST
from fastmirror.rootindex import damaged_index
from fastmirror.run import Run, open_parts
from fastmirror.summary import FAILURES_TOLD, Counts, Failure, Verification
from fastmirror.supervisor import Supervisor
from fastmirror.tree import state_path
from fastmirror.unowned import Unowned, find_unowned
from fastmirror.upstream import settled_dialect, with_netrc
from fastmirror.wanted import Wanted

if TYPE_CHECKING:
    from fastmirror.holding import Hold
    from fastmirror.names import NormalizedName
    from fastmirror.progress import Progress
    from fastmirror.settings import PoolSettings, Settings

_LOG = logging.getLogger(__name__)
_LONGEST_UNVERIFIED_FIRST = """
select name, serial, byte_count from project where page_digest <> '' or file_count order by verified_at, name
"""


class VerifyOptions(NamedTuple):
    """What one verification is asked for beside the settings."""

    delete: bool = False  # remove what no project owns
    dry_run: bool = False  # only look, and say what would be done
    json_update: bool = False  # plan every project anew, with its documents
    workers: int = 0  # processes; 0: as the settings say
    budget_s: float | None = None  # begin nothing after so many seconds
    budget_bytes: int | None = None  # look at projects of so many bytes, and one that passes it
    debug: bool = False

    @property
    def is_partial(self) -> bool:
        """Whether the rest is left to the next one."""
        return self.budget_s is not None or self.budget_bytes is not None


def verify_mirror(settings: Settings, options: VerifyOptions, progress: Progress) -> Verification:
    """Do one verification. Raises MirrorError for what prevents it; what it finds is in the Verification."""
    if settings.storage.s3 is None:
        _require_state(settings)
    settings = replace(settings, upstream=with_netrc(settings.upstream), pool=_pool(settings, options))
    with ExitStack() as stack:
        hold = stack.enter_context(hold_mirror(settings.storage))
        _require_state(settings)
        verification = stack.enter_context(_Verification(settings, options, progress, hold))
        return verification.go()


def _require_state(settings: Settings) -> None:
    directory = settings.storage.directory
    if not os.path.exists(state_path(directory)):
        raise SettingsError(f"there is no state that says what is to be verified: {directory!r} (hint: mirror)")


def _pool(settings: Settings, options: VerifyOptions) -> PoolSettings:
    """Processes read; only repairs are requests, so that the budgets of those do not bound the processes."""
    pool = settings.pool
    processes = options.workers or settings.run.verifiers or pool.processes
    if options.json_update:
        return replace(pool, processes=processes)
    return replace(
        pool,
        processes=processes,
        index_transfers=max(pool.index_transfers, processes),
        file_transfers=max(pool.file_transfers, processes),
    )


class _Verification(Run):
    """A verification's steps in the order in which they happen."""

    def __init__(self, settings: Settings, options: VerifyOptions, progress: Progress, hold: Hold) -> None:
        parts = open_parts(settings, hold, writes=not options.dry_run)
        self._options = options
        terms = Terms(
            settings,
            Wanted(None, by_command=False),
            force=options.json_update and not options.dry_run,
            check_id=int(parts.state.get("force_check_run") or 0),
            deadline=None if options.budget_s is None else time.monotonic() + options.budget_s,
            check=True,
            dry_run=options.dry_run,
        )
        super().__init__(parts, terms, progress, Counts())
        self._terms = terms
        self._left = 0  # projects that the budget leaves to the next verification
        self._serial = max(int(parts.state.get("root_serial") or 0), parts.state.greatest_serial() or 0) or None
        self._index: tuple[str, ...] = ()
        self._unowned = Unowned([], [], [], 0)
        self._removed = 0
        self._held = 0
        self._refusal = ""
        self._notes: list[str] = []

    def go(self) -> Verification:
        """The whole of it."""
        _LOG.info("verification begins: %s", self._settings.storage.directory)
        with self._signals():
            status, error = self._cut_short(self._verify)
            if self._marked and not self._options.dry_run and (not status or self._is_cut_short):
                self._wind_up()
            verification = self._sum_up(status, error)
        told = verification._replace(found=(), failures=(), unowned_paths=())
        _LOG.info("verification ends after %.1f s: %s", verification.seconds, told._asdict())
        return verification

    def _verify(self) -> None:
        if not self._options.dry_run:
            processes = self._settings.pool.processes
            adopt(self._state, self._storage, self._tree, processes, self._terms.check_id, Supervisor())
        projects = self._within_budget(self._state.select(_LONGEST_UNVERIFIED_FIRST))
        filters = Filters(self._settings.filters)
        shape = filters.shape_of_all(self._settings_digest)
        closure = Closure(self._settings.filters, filters, self._state, (), self._settings_digest)
        self._execution.demands = closure.demands
        if self._state.get("settings") not in (None, shape):
            self._notes.append("pages were not compared: the settings that shape them have changed (hint: mirror)")
        self._execution.open(len(projects))
        self._begin()
        dialect = settled_dialect(self._state, self._settings.upstream.master)
        context = self._context(dialect, debug=self._options.debug, plan_only=self._options.dry_run)
        self._execution.brief(context)
        self._execution.do(projects)
        self._execution.publish_emptied()
        if not self._options.dry_run:
            self._free_disputed(projects)
            self._execution.publish_emptied()
        if held := self._counts.held_removals:
            lost = f"lost all their files upstream: held back by the deletion guard (hint: --set max-removals={held})"
            self._notes.append(f"{held:,} projects {lost}")
        self._compare_index()
        if self._options.is_partial:
            self._left += self._counts.pending
        if not self._options.is_partial or self._options.delete:
            self._sweep(bool(projects))

    def _within_budget(self, rows: list[tuple[NormalizedName, int | None, int]]) -> dict[NormalizedName, int | None]:
        """The projects to look at, with their serials."""
        most = self._options.budget_bytes
        projects: dict[NormalizedName, int | None] = {}
        size = 0
        for name, serial, byte_count in rows:
            if most is not None and size >= most:
                break
            projects[name] = serial
            size += byte_count
        self._left = len(rows) - len(projects)
        return projects

    def _begin(self) -> None:
        if self._options.dry_run:
            self._marked = True  # there are workers to drain, and nothing else
        else:
            self._mark_unclean({})

    def _compare_index(self) -> None:
        self._index = damaged_index(self._state, self._storage, self._settings.pages.formats)
        for path in self._index:
            _LOG.warning("%s is not what was written there", path)
        if self._index and not self._options.dry_run:
            with self._state.transaction():
                self._state.put({"index_json": None, "index_html": None})
            self._write_index()

    def _sweep(self, holds_any: bool) -> None:
        """Find what no project owns, and remove it where that is asked for."""
        moment = time.time() - self._settings.storage.delete_grace_s
        self._unowned = unowned = find_unowned(self._state, self._storage, self._tree, moment)
        everything = unowned.everything
        if not holds_any:
            self._refusal = "the state holds no project (hint: mirror)"
        elif not self._clean:
            self._refusal = "the last run was cut off, and what it brought may not be recorded yet (hint: mirror)"
        elif unowned.torn:
            self._refusal = f"the state cannot tell the files of {unowned.torn} projects"
        if not everything and not unowned.torn:
            self._refusal = ""
        if not self._options.delete or self._refusal:
            return
        if is_over_limit(
            len(everything),
            least=REMOVED_FILES_LEAST,
            chosen=self._settings.guard.max_removed_files,
            total=lambda: self._state.totals().files,
        ):
            self._held = len(everything)
        elif not self._options.dry_run:
            self._remove([*unowned.links, *unowned.pages])
            self._storage.flush()  # no page outlives its files
            self._remove(unowned.files)

    def _remove(self, paths: list[tuple[str, int]]) -> None:
        with self._state.transaction():
            note_removed(self._state, (path for path, _ in paths))
        for path in self._storage.remove_all(path for path, _ in paths):
            _LOG.info("%s: no project owns it, removed", path)
            self._removed += 1

    def _wind_up(self) -> None:
        """What is mended is in the root index and durable, and the rows are as good as they were."""
        if self._counts.by_status["intact"] < self._counts.answered:
            self._serial = max(self._serial or 0, self._state.greatest_serial() or 0) or None
            self._write_index()
        self._storage.flush()
        self._trust_rows_again()

    def _sum_up(self, status: int, error: str) -> Verification:
        counts, checks, unowned = self._counts, self._counts.checks, self._unowned
        everything = unowned.everything
        failures = {} if self._options.dry_run else counts.failures
        is_refused = counts.held_removals or (self._options.delete and (self._held or self._refusal))
        pending = 0 if self._options.is_partial else counts.pending
        is_damaged = checks.unmended or failures or pending or (self._options.dry_run and self._index)
        due = {failing.name: failing.next_try for failing in self._state.failing(FAILURES_TOLD)}
        told = list(failures.items())[:FAILURES_TOLD]
        return Verification(
            projects=checks.projects,
            files=checks.files,
            bytes=checks.bytes,
            by_kind=checks.by_kind,
            mended=checks.mended,
            unmended=checks.unmended,
            found=tuple(checks.found),
            fetched_files=counts.files,
            fetched_bytes=counts.bytes,
            failures=tuple(Failure(name, reason, due.get(name)) for name, reason in told),
            failed=len(failures),
            pending=pending,
            left=self._left,
            root_index=self._index,
            unowned=len(everything),
            unowned_bytes=sum(size for _, size in everything),
            unowned_paths=tuple(path for path, _ in everything[:FAILURES_TOLD]),
            removed=self._removed,
            held=self._held,
            refusal=self._refusal,
            notes=tuple(self._notes),
            dry_run=self._options.dry_run,
            seconds=time.time() - self._started,
            exit_status=status or (4 if is_refused else 1 if is_damaged else 0),
            error=error,
        )
