"""One whole run: what upstream lists against what is held, the jobs, the removals, the root index, the record."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from fastmirror.discovery import Discovery, Found, Root, wanted
from fastmirror.errors import MirrorError, UpstreamError
from fastmirror.execution import Terms
from fastmirror.layout import index_path
from fastmirror.lock import hold_lock
from fastmirror.removal import are_too_many, is_held_back, retract, unlink_doomed
from fastmirror.run import Run, open_parts
from fastmirror.summary import FAILURES_TOLD, Counts, Summary
from fastmirror.transport.session import Session
from fastmirror.upstream import with_netrc

if TYPE_CHECKING:
    from fastmirror.names import NormalizedName
    from fastmirror.progress import Progress
    from fastmirror.settings import Settings

_LOG = logging.getLogger(__name__)


class RunOptions(NamedTuple):
    """What one run is asked for beside the settings."""

    projects: tuple[NormalizedName, ...] = ()  # only these
    force_check: bool = False  # plan every project anew and verify every file
    retry_failed: bool = False  # try failed projects again now, however long they were to wait
    max_time_s: float | None = None  # begin nothing after so many seconds
    dry_run: bool = False
    skip_root: bool = False  # leave the root index as it is
    debug: bool = False


def run_mirror(settings: Settings, options: RunOptions, progress: Progress) -> Summary:
    """Do one run. Raises MirrorError for what prevents it; what happens on the way is in the Summary."""
    settings = replace(settings, upstream=with_netrc(settings.upstream))
    with ExitStack() as stack:
        lock = stack.enter_context(hold_lock(settings.storage.directory))
        run = stack.enter_context(_Run(settings, options, progress, lock))
        return run.go()


class _Run(Run):
    """A run's steps in the order in which they happen."""

    def __init__(self, settings: Settings, options: RunOptions, progress: Progress, lock: int) -> None:
        parts = open_parts(settings, lock)
        begun = time.time()
        self._options = options
        self._session = Session(settings.upstream)
        self._chosen = wanted(settings, options.projects)
        self._run_id = parts.state.begin_run(begun)
        self._check_id = int(parts.state.get("force_check_run") or self._run_id)
        terms = Terms(
            settings, self._chosen, options.force_check, self._check_id,
            None if options.max_time_s is None else begun + options.max_time_s,
        )  # fmt: skip
        super().__init__(parts, terms, progress, Counts())

    def __enter__(self) -> _Run:
        return self

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self._session.close()

    def go(self) -> Summary:
        """The whole run."""
        _LOG.info("run %d begins: %s", self._run_id, self._settings.storage.directory)
        with self._signals():
            try:
                status, error = self._cut_short(self._sync)
            except MirrorError as failure:
                self._end(failure.exit_status, str(failure))
                raise
            return self._end(status or self._exit_status(), error)

    def _sync(self) -> None:
        """Raises Interrupted or StorageError when what is done is recorded, but not all was done."""
        options, chosen = self._options, self._chosen
        trust_cache = self._clean and not options.force_check and self._state.get("settings") == self._settings_digest
        discovery = Discovery(self._settings, self._state, self._session, self._storage.own, self._settings_digest)
        root, found = None, None
        if chosen.needs_root:
            root = discovery.fetch_root(trust_cache=trust_cache)
            if root.is_new:
                self._execution.open(len(chosen.names) if chosen.names else None)
            found = discovery.plan_root(root, trust_cache=trust_cache)
        if found is None:
            found = discovery.plan_names(chosen.names or ())
        elif chosen.by_command:
            found = found.narrowed_to(chosen.names or frozenset())
        if options.force_check or self._state.get("settings") not in (None, self._settings_digest):
            found = discovery.with_everything(found, chosen, check_id=self._check_id if options.force_check else None)
        found = discovery.with_retries(found, chosen, retry_failed=options.retry_failed)
        self._serial = found.serial
        if found.update or found.remove:
            self._execution.open(len(found.update) + len(found.remove))
            dialect = root.dialect if root is not None else discovery.dialect()
            is_check = options.force_check and not chosen.by_command
            self._mark_unclean({"force_check_run": str(self._check_id)} if is_check else {})
            self._execution.brief(self._context(dialect, debug=options.debug))
            self._remove(found)
            self._update(found.update)
            self._require_answers()
        self._conclude(discovery, root, found)

    def _require_answers(self) -> None:
        """Raises UpstreamError if the upstream did not answer for any project."""
        counts = self._counts
        if counts.unreachable and counts.unreachable == counts.answered:
            self._trust_rows_again()
            raise UpstreamError(f"upstream does not answer: {next(iter(counts.failures.values()))}")

    def _remove(self, found: Found) -> None:
        """Ask once for what is no longer listed; what upstream says is gone leaves the mirror, under the guard."""
        if not found.remove:
            return
        if is_held_back(found, self._settings.guard, self._state):
            self._counts.held_removals = len(found.remove)
            return
        self._execution.do(dict.fromkeys(found.remove))
        self._retract_gone()

    def _update(self, update: dict[NormalizedName, int | None]) -> None:
        self._execution.do(update)
        self._retract_gone()
        self._free_disputed(update)

    def _retract_gone(self) -> None:
        gone = self._execution.take_gone()
        known = self._state.serials(outcome.name for outcome in gone)
        held = [outcome for outcome in gone if outcome.name in known]
        if are_too_many(len(held), self._settings.guard, self._state):
            self._counts.held_removals += len(held)
            return
        if held:
            retract(held, self._state, self._storage, self._tree, time.time(), self._write_index)
            self._counts.removed += len(held)
            self._counts.by_status["gone"] -= len(held)

    def _write_index(self) -> None:
        if not self._options.skip_root:
            super()._write_index()

    def _conclude(self, discovery: Discovery, root: Root | None, found: Found) -> None:
        formats = self._settings.pages.formats
        if self._marked or any(self._storage.size(index_path(page_format)) is None for page_format in formats):
            self._write_index()
        self._unlink_doomed()
        self._storage.flush()
        facts: dict[str, str | None] = {}
        dialect = root.dialect if root is not None else discovery.dialect() or self._execution.dialect
        if dialect:
            facts["dialect"] = dialect
        all_asked = not self._counts.pending and not self._chosen.by_command
        if all_asked:
            facts["settings"] = self._settings_digest
        if all_asked or self._clean:
            facts["clean"] = "1"
        is_whole = all_asked and not self._counts.held_removals
        if self._options.force_check and is_whole:
            facts["force_check_run"] = None
        if root is not None and is_whole and root.is_new:
            facts |= discovery.applied(root, found.serial)
        with self._state.transaction():
            self._state.put(facts)
        self._storage.keep_fact("generation", "5")
        if found.serial is not None and is_whole:
            self._storage.keep_fact("status", str(found.serial))
        if self._chosen.by_command:
            return
        stamp = datetime.fromtimestamp(self._started, UTC).strftime("%Y%m%dT%H:%M:%S\n")
        self._storage.publish_fact("last-modified", stamp)

    def _unlink_doomed(self) -> None:
        most = self._settings.guard.max_removed_files
        # After a run that was cut off, pages may name what rows do not: only what is hidden goes at once.
        moment = time.time() - self._settings.storage.delete_grace_s if self._clean else 0.0
        self._counts.held_files = unlink_doomed(self._state, self._storage, moment, most)

    def _wind_up(self) -> None:
        """After an interruption: what is recorded is in the root index, and the next run may trust the rows."""
        if self._marked:
            if self._counts.answered or self._serial is not None:
                self._write_index()
            self._storage.flush()
            self._trust_rows_again()

    def _exit_status(self) -> int:
        counts = self._counts
        if counts.held_removals or counts.held_files:
            return 4
        failing = 0 if self._chosen.by_command else self._state.count_failing()
        return 1 if counts.failures or failing or self._counts.pending else 0

    def _end(self, exit_status: int, error: str) -> Summary:
        counts, seconds = self._counts, time.time() - self._started
        if exit_status > 128:
            self._wind_up()
        due = {failing.name: failing.next_try for failing in self._state.failing(FAILURES_TOLD)}
        summary = counts.sum_up(seconds, exit_status, error, self._serial, due)
        kept = summary._asdict()
        kept.pop("failures")
        with self._state.transaction():
            self._state.end_run(self._run_id, time.time(), exit_status, kept)
        _LOG.info("run %d ends with exit status %d after %.1f s: %s", self._run_id, exit_status, seconds, kept)
        return summary
