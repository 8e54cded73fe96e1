"""One whole run: what upstream lists against what is held, the jobs, the removals, the root index, the record."""

from __future__ import annotations

import logging
import os
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from fastmirror.adoption import adopt
from fastmirror.changes import write_diff
from fastmirror.closure import Closure
from fastmirror.discovery import Discovery, Found, Root
from fastmirror.errors import MirrorError, StorageError, UpstreamError
from fastmirror.execution import Terms
from fastmirror.filters import Filters
from fastmirror.history import begin_run, end_run, past_runs
from fastmirror.holding import hold_mirror
from fastmirror.removal import Removals, is_held_back, settle, unlink_doomed
from fastmirror.rootindex import root_paths, write_feed
from fastmirror.run import Run, open_parts
from fastmirror.summary import FAILURES_TOLD, Counts, Summary
from fastmirror.sweep import CURSOR
from fastmirror.transport.control import ControlLane
from fastmirror.upstream import with_netrc
from fastmirror.wanted import wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence

    from fastmirror.holding import Hold
    from fastmirror.names import NormalizedName
    from fastmirror.progress import Progress
    from fastmirror.settings import Settings
    from fastmirror.storage import Storage
    from fastmirror.supervisor import Supervisor

_LOG = logging.getLogger(__name__)
LAST_MODIFIED = "%Y%m%dT%H:%M:%S"  # what ``web/last-modified`` holds, as bandersnatch writes it
_ROUNDS_MOST = 50  # of dependencies in one run; what is left then is for the next
_FINISHED = frozenset({0, 1, 4})  # exit statuses of runs that did all that they had to do, or could


class RunOptions(NamedTuple):
    """What one run is asked for beside the settings."""

    projects: tuple[NormalizedName, ...] = ()  # only these
    force_check: bool = False  # plan every project anew and verify every file
    retry_failed: bool = False  # try failed projects again now, however long they were to wait
    max_time_s: float | None = None  # begin nothing after so many seconds
    dry_run: bool = False
    skip_root: bool = False  # leave the root index as it is
    debug: bool = False


def run_mirror(
    settings: Settings,
    options: RunOptions,
    progress: Progress,
    supervisor: Supervisor,
    ended: Callable[[Storage], None],
) -> Summary:
    """Do one run. Raises MirrorError for what prevents it; what happens on the way is in the Summary.

    `ended` is called when it is recorded how the run ended, in whatever way, while the mirror is still held.
    """
    settings = replace(settings, upstream=with_netrc(settings.upstream))
    with ExitStack() as stack:
        hold = stack.enter_context(hold_mirror(settings.storage))
        run = stack.enter_context(_Run(settings, options, progress, supervisor, hold))
        try:
            return run.go()
        finally:
            ended(run.storage)


class _Run(Run):
    """A run's steps in the order in which they happen."""

    def __init__(
        self, settings: Settings, options: RunOptions, progress: Progress, supervisor: Supervisor, hold: Hold
    ) -> None:
        parts = open_parts(settings, hold)
        begun = time.time()
        self._options = options
        self._filters = Filters(settings.filters)
        if options.projects:  # asked for again, they are wanted again
            with parts.state.transaction():
                parts.state.change("delete from unwanted where name = ?", [(name,) for name in options.projects])
        self._closure = Closure(settings.filters, self._filters, parts.state, options.projects, parts.settings_digest)
        self._grew = False  # by dependencies that were not known when the run began
        self._chosen = wanted(self._filters, options.projects, parts.state, self._closure)
        self._run_id = begin_run(parts.state, begun)
        self._check_id = int(parts.state.get("force_check_run") or self._run_id)
        deadline = None if options.max_time_s is None else time.monotonic() + options.max_time_s
        self._control = ControlLane(settings, deadline)
        terms = Terms(settings, self._chosen, options.force_check, self._check_id, deadline)
        super().__init__(parts, terms, progress, Counts())
        self._execution.supervisor = supervisor
        self._removals = Removals(settings, self._state, self._storage, self._tree, self._counts, self._write_index)

    @property
    def storage(self) -> Storage:
        """The mirror's tree."""
        return self._storage

    def go(self) -> Summary:
        """The whole run."""
        _LOG.info("run %d begins: %s", self._run_id, self._settings.storage.directory)
        with self._signals():
            try:
                status, error = self._cut_short(self._sync)
            except MirrorError as failure:
                self._end(failure.exit_status, str(failure))
                raise
            return self._end(status or self._exit_status(), error or self._execution.stopped)

    def _sync(self) -> None:
        """Raises Interrupted or StorageError when what is done is recorded, but not all was done."""
        options, chosen = self._options, self._chosen
        processes, supervisor = self._settings.pool.processes, self._execution.supervisor
        adopt(self._state, self._storage, self._tree, processes, self._check_id, supervisor)
        supervisor.work("asking upstream what there is")
        trust_cache = self._clean and not options.force_check
        discovery = Discovery(
            self._settings, self._filters, self._state, self._control, self._storage.own, self._closure
        )
        self._progress.begin("asking upstream what there is")
        root = discovery.fetch_root(trust_cache=trust_cache) if chosen.needs_root else None
        if root is not None and root.is_new:
            self._execution.open(len(chosen.names) if chosen.names else None)
        check_id = self._check_id if options.force_check else None
        self._progress.begin("planning")
        found = discovery.plan(
            chosen, root, trust_cache=trust_cache, check_id=check_id, retry_failed=options.retry_failed
        )
        self._serial = found.serial
        settle(self._state, self._storage, clean=self._clean)
        if found.asked or found.denied:
            if found.asked:
                self._execution.open(found.asked)
            dialect = root.dialect if root is not None else discovery.dialect()
            self._mark_unclean(self._begun(discovery))
            self._execution.brief(self._context(dialect, debug=options.debug))
            # What nothing requires any more is known when all is done.
            self._remove(found._replace(denied=()) if self._closure else found)
            self._update(found)
            self._require_answers()
            self._complete_closure(found)
        self._conclude(discovery, root, found)

    def _require_answers(self) -> None:
        """Raises UpstreamError if the upstream did not answer for any project."""
        counts = self._counts
        if counts.unreachable and counts.unreachable == counts.answered - counts.swept_unread:
            self._trust_rows_again()
            raise UpstreamError(f"upstream does not answer: {next(iter(counts.failures.values()))}")

    def _begun(self, discovery: Discovery) -> dict[str, str | None]:
        """What the state is to say while this run is under way."""
        facts: dict[str, str | None] = {}
        settings = self._state.get("settings")
        if settings != discovery.shape:
            # Either all that will be held is made with these, or some of it is from now on.
            facts["settings"] = discovery.shape if settings is None else "changing"
        if self._state.get("selection") != discovery.selection and not self._chosen.by_command:
            facts["selection"] = None
        if self._options.force_check and not self._chosen.by_command:
            facts["force_check_run"] = str(self._check_id)
        return facts

    def _remove(self, found: Found) -> None:
        """Ask once for what is no longer listed; what is gone or not selected leaves the mirror, under the guard."""
        if not found.remove and not found.denied:
            return
        if is_held_back(found, self._settings, self._state):
            self._counts.held_removals = len(found.remove) + len(found.denied)
            return
        self._execution.do(dict.fromkeys(found.remove))
        self._settle(found.denied)

    def _complete_closure(self, found: Found) -> None:
        """Do what is required by what came, until nothing new comes up; then let go of what nothing requires."""
        closure, counts = self._closure, self._counts
        if not closure:
            return
        closure.tried(found.update)
        closure.refresh()
        for _ in range(_ROUNDS_MOST):
            more = closure.missing()
            if not more or counts.pending:
                break
            self._grew = True
            self._execution.demands = closure.demands
            self._do(more)
            closure.tried(more)
            closure.refresh()
        is_whole = not (counts.pending or closure.missing() or closure.is_failing)
        if is_whole and not self._chosen.by_command:
            self._settle(closure.surplus())

    def _update(self, found: Found) -> None:
        update = found.update | found.sweep.projects
        self._execution.demands = self._closure.demands
        self._do(update, swept=found.sweep.projects)

    def _do(self, update: dict[NormalizedName, int | None], swept: Container[NormalizedName] = ()) -> None:
        self._execution.do(update, swept=swept)
        self._settle()
        self._free_disputed(update)
        self._settle()

    def _settle(self, denied: Sequence[NormalizedName] = ()) -> None:
        """What upstream says is gone, or has left without a file, and what is denied: all of it goes, or none."""
        execution = self._execution
        self._removals.take(execution.take_gone(), denied, execution.emptied, self._check_id)
        execution.publish_emptied()

    def _write_index(self) -> None:
        if not self._options.skip_root:
            super()._write_index()

    def _conclude(self, discovery: Discovery, root: Root | None, found: Found) -> None:
        formats = self._settings.pages.formats
        self._show_serial()
        # After a run that was cut off the index may be behind the rows, though nothing is left to do.
        has_changed = self._marked and (found.touched or self._counts.swept_changed)
        if (
            has_changed
            or not self._clean
            or any(self._storage.size(path) is None for path in root_paths(self._settings.pages))
        ):
            self._progress.begin("writing the root index")
            self._write_index()
        self._progress.begin("finishing")
        self._unlink_doomed()
        write_feed(self._state, self._storage, formats)
        facts: dict[str, str | None] = {}
        dialect = root.dialect if root is not None else discovery.dialect() or self._execution.dialect
        if dialect:
            facts |= {"dialect": dialect, "master": self._settings.upstream.master}
        all_asked = not self._counts.pending and not self._chosen.by_command
        all_done = all_asked and not self._counts.held_emptied  # else the next run asks for those again
        if all_done:
            facts["settings"] = discovery.shape
        if all_asked or self._clean:
            facts["clean"] = "1"
        is_whole = all_asked and not self._counts.held_removals
        if self._options.force_check and is_whole:
            facts["force_check_run"] = None
        if all_done and found.sweep.last:
            facts[CURSOR] = found.sweep.last
        if is_whole:
            facts["selection"] = discovery.selection
        # What came as a dependency was asked for without a serial to reach: the next run compares it.
        if root is not None and is_whole and not self._grew:
            facts |= discovery.applied(root, found.serial)
        told = self._stage_facts(found.serial if root is not None else self._state.greatest_serial(), is_whole=is_whole)
        self._storage.flush()
        with self._state.transaction():
            self._state.put(facts)
        for staged, path in told:
            self._storage.put_fact(staged, path)
        if is_whole:  # what bandersnatch left to do is done
            with suppress(FileNotFoundError):
                os.unlink(os.path.join(self._settings.storage.directory, "todo"))

    def _stage_facts(self, serial: int | None, *, is_whole: bool) -> list[tuple[str, str]]:
        """What is told to others in files of its own, written before the last flush and put into place after it."""
        told = {"generation": "5"}
        if serial is not None and is_whole:
            told["status"] = str(serial)
        if not self._chosen.by_command:
            stamp = datetime.fromtimestamp(self._started, UTC).strftime(LAST_MODIFIED)
            told["web/last-modified"] = f"{stamp}\n"
        return [(self._storage.stage_fact(path, text), path) for path, text in told.items()]

    def _unlink_doomed(self) -> None:
        settle(self._state, self._storage, clean=self._clean)
        most = self._settings.guard.max_removed_files
        # After a run that was cut off, pages may name what rows do not: only what is hidden goes at once.
        moment = time.time() - self._settings.storage.delete_grace_s if self._clean else 0.0
        self._counts.held_files = unlink_doomed(self._state, self._storage, moment, most)

    def _wind_up(self) -> None:
        """Cut short in order: what is recorded is in the root index, and the next run may trust the rows."""
        if self._marked:
            if self._counts.answered or self._serial is not None:
                self._write_index()
            settle(self._state, self._storage, clean=self._clean)
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
        if self._is_cut_short:
            self._wind_up()
        try:
            write_diff(self._state, self._storage, self._settings.run, self._started, finished=exit_status in _FINISHED)
        except StorageError as failure:
            exit_status, error = failure.exit_status, str(failure)
        due = {failing.name: failing.next_try for failing in self._state.failing(FAILURES_TOLD)}
        summary = counts.sum_up(seconds, exit_status, error, self._serial, due)
        summary = summary._replace(gaps=tuple(self._closure.gaps()))
        kept = summary._asdict()
        kept["gaps"] = [gap._asdict() for gap in summary.gaps[:FAILURES_TOLD]]
        for told_once in ("failures", "slowest"):
            kept.pop(told_once)
        try:
            end_run(self._state, self._run_id, time.time(), exit_status, kept | self._standing(summary))
        except StorageError as failure:  # the disk is full: what was done is told, though it is not remembered
            summary = summary._replace(exit_status=failure.exit_status, error=error or str(failure))
        _LOG.info("run %d ends with exit status %d after %.1f s: %s", self._run_id, summary.exit_status, seconds, kept)
        return summary

    def _standing(self, summary: Summary) -> dict[str, Any]:
        """What the history keeps of a run beside what it did: how the mirror stands after it."""
        totals, serial = self._state.totals(), self._state.get("root_serial")
        earlier = (run.get("fetched_so_far") for run in past_runs(self._state, 50).runs)
        return {
            "slowest": [slow._asdict() for slow in summary.slowest],
            "stored_projects": totals.projects,
            "stored_files": totals.files,
            "stored_bytes": totals.bytes,
            "reached_serial": int(serial) if serial else None,
            # Summed up, so that what was fetched meanwhile can be told from any two runs that are kept.
            "fetched_so_far": summary.bytes + next((sum_ for sum_ in earlier if isinstance(sum_, int)), 0),
        }
