"""A run's jobs: out to the workers, their outcomes to the publisher, while disk, clock and signals are watched."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, NamedTuple

from fastmirror.docket import Budget
from fastmirror.emptied import Emptied
from fastmirror.errors import ClusterError, Interrupted, SettingsError, StorageError
from fastmirror.hidden import holds_hidden, take_hidden
from fastmirror.model import Outcome, ProjectJob
from fastmirror.planner import in_chunks
from fastmirror.pool import Pool
from fastmirror.publisher import Done, Publisher
from fastmirror.removal import are_too_many
from fastmirror.schema import RecordedJob
from fastmirror.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Mapping

    from fastmirror.docket import Crew
    from fastmirror.model import Demand
    from fastmirror.names import NormalizedName
    from fastmirror.pages import Context
    from fastmirror.progress import Progress
    from fastmirror.settings import Settings
    from fastmirror.state import State
    from fastmirror.storage import Storage
    from fastmirror.summary import Counts
    from fastmirror.wanted import Wanted

_LOG = logging.getLogger(__name__)
CHUNK = 256  # projects looked up in the state at a time
_SPACE_CHECK_S = 2.0
_HOUR_S = 3600.0
_WORKERS_LEAST = 2  # for a single project too: its files are shared among them


class Terms(NamedTuple):
    """What holds for all jobs of a run."""

    settings: Settings
    chosen: Wanted
    force: bool
    check_id: int  # of the --force-check under way
    deadline: float | None  # of the monotonic clock; nothing is begun after it
    check: bool = False  # look at what is at rest first
    dry_run: bool = False  # record nothing


class Execution:
    """Does a run's jobs. `do` returns when all are recorded."""

    def __init__(
        self, terms: Terms, state: State, storage: Storage, lock: int, counts: Counts, progress: Progress
    ) -> None:
        self._terms = terms
        self._state = state
        self._storage = storage
        self._lock = lock
        self._counts = counts
        self._progress = progress
        self._pool: Crew | None = None
        self._swept: Container[NormalizedName] = ()
        self._publisher = Publisher(storage, state, terms.check_id, self._wake, self._unpublished)
        self._signal = 0
        self.stopped = ""  # why nothing more is begun, by stop-on-error
        self._storage_failure = ""
        self._gone: list[Done] = []
        settings = terms.settings
        self.emptied = Emptied(
            storage, state, counts, settings.pages, lambda count: are_too_many(count, settings.guard, state)
        )
        self._disputed: dict[NormalizedName, tuple[str, ...]] = {}
        self.dialect = ""  # of the first page that came
        self._space_checked = 0.0
        self._hour_begun = time.monotonic()
        self.demands: Mapping[NormalizedName, Demand] = {}  # where dependencies are mirrored
        self.every_hour: Callable[[], None] = lambda: None
        self.supervisor = Supervisor()

    def open(self, most: int | None) -> None:
        """Start the workers, if they are not there; `most` projects are to be done, None: many.

        It is done before the plan is made: a forked worker has no part in the memory that a plan takes.
        """
        if self._pool is not None:
            return
        pool = self._terms.settings.pool
        budget = Budget(pool.index_transfers, pool.file_transfers, pool.max_rate)
        if pool.executor == "dask":
            self._pool = _cluster(self._terms.settings, budget, self._storage)
        else:
            processes = pool.processes if most is None else min(pool.processes, max(most, _WORKERS_LEAST))
            self._pool = Pool(budget, processes, self._lock)
        self._pool.start()
        _LOG.info("at most %d pages and %d files in flight", pool.index_transfers, pool.file_transfers)

    def brief(self, context: Context) -> None:
        """Tell the workers what all jobs share."""
        if self._pool is not None:
            self._pool.brief(context)

    def interrupt(self, number: int) -> None:
        """A signal came: end in order. May be called by a signal handler."""
        self._signal = number
        self._wake()

    def do(self, update: dict[NormalizedName, int | None], swept: Container[NormalizedName] = ()) -> None:
        """Have the workers do these projects, and record them; of `swept` nothing says that they have changed.

        Raises Interrupted, StorageError or ClusterError when what was answered is recorded, but not all was answered.
        """
        pool = self._pool
        self._swept = swept
        self._counts.planned += len(update)
        if pool is None or not update:
            return
        self._progress.plan(self._counts.planned)
        try:
            answered = pool.run(self._jobs(update), len(update), self._take, self._tick)
        except ClusterError:
            self.emptied.give_up()
            self._publisher.finish()
            raise
        if not answered:
            self.emptied.give_up()
        self._publisher.finish()
        if not answered:
            if self._storage_failure:
                raise StorageError(self._storage_failure)
            if self._signal:
                raise Interrupted(self._signal)
            pool.close()  # out of time, or stopped: what is pending is for the next run
            self._pool = None

    def take_gone(self) -> list[Done]:
        """The projects that upstream answered 404 for, since the last call."""
        gone, self._gone = self._gone, []
        return gone

    def publish_emptied(self) -> None:
        """Publish the projects without a file that the guard has not held back."""
        for done in self.emptied.release():
            self._publisher.add(done)
        self._publisher.finish()

    def take_disputed(self) -> dict[NormalizedName, tuple[str, ...]]:
        """The projects that found other bytes under their files' names, with those paths, since the last call."""
        disputed, self._disputed = self._disputed, {}
        return disputed

    def close(self) -> None:
        """End the publisher, which wakes the pool, and then the workers."""
        self._publisher.close()
        if self._pool is not None:
            self._pool.close()

    def _jobs(self, update: dict[NormalizedName, int | None]) -> Iterator[ProjectJob]:
        terms = self._terms
        wanted = terms.chosen.own
        reveals = not terms.dry_run and holds_hidden(self._state)
        for names in in_chunks(update, CHUNK):
            known = self._state.known(names)
            hidden = take_hidden(self._state, names) if reveals else {}
            for name in names:
                held = known.get(name)
                force = terms.force or (held is not None and held.outcome == "damaged")
                swept = name in self._swept
                job = ProjectJob(name, update[name], held, name in wanted, force, check=terms.check, sweep=swept)
                job = job._replace(demand=self.demands.get(name))
                yield job._replace(hidden=hidden[name]) if name in hidden else job

    def _take(self, job: ProjectJob, outcome: Outcome) -> None:
        if job.held is not None:  # until here another worker might have had to read it
            for path in job.held.staged:
                self._storage.discard(path)
        if outcome.storage_failure:
            self._storage_failure = outcome.reason
            return
        if job.sweep:
            self._counts.swept += 1
            if outcome.status in {"unchanged", "failed"}:
                self._leave(job, outcome)
                return
            self._counts.swept_changed += outcome.status != "gone"
        self._counts.take(outcome)
        is_bad = outcome.status in {"failed", "partial", "damaged"}
        checked = outcome.checked
        if checked is not None:
            self._counts.checks.take(outcome.name, checked, mends=not self._terms.dry_run)
        if checked is not None and self._terms.check:
            self._progress.advance(1, checked.files, checked.bytes, int(is_bad))
        else:
            self._progress.advance(1, outcome.fetched_files, outcome.fetched_bytes, int(is_bad))
        if self._terms.dry_run:
            return
        if is_bad:
            self._progress.fail(outcome.name, outcome.status, outcome.reason)
        if is_bad or outcome.status == "stale":
            _LOG.info("%s: %s: %s", outcome.name, outcome.status, outcome.reason)
        if is_bad and not outcome.disputed:  # which may be mended in this run
            self._stop_on_error(outcome)
        self.dialect = self.dialect or outcome.dialect
        if outcome.disputed:
            self._disputed[outcome.name] = outcome.disputed
        # A new serial may mend what failed before it.
        tries = job.known.tries if job.known and job.known.expected == job.serial else 0
        chosen = self._terms.chosen
        by_command = chosen.by_command and outcome.name in chosen.own
        self._settle(job, Done(outcome, RecordedJob(by_command, job.force or job.check, tries, job.serial)))

    def _settle(self, job: ProjectJob, done: Done) -> None:
        """Whether it goes is known when more is done; what does not go is published."""
        if done.outcome.status in {"gone", "denied"}:
            self._gone.append(done)
        elif not self.emptied.take(job.known, done):
            self._publisher.add(done)

    def _leave(self, job: ProjectJob, outcome: Outcome) -> None:
        """A sweep found no change, or nothing out: the project stays as it is, and nobody has failed."""
        self._counts.leave(outcome)
        self._progress.advance(1, outcome.fetched_files, outcome.fetched_bytes, 0)
        if outcome.status == "failed":
            _LOG.info("%s: left as it is by the sweep: %s", outcome.name, outcome.reason)
        elif job.known is not None and outcome.etag != job.known.etag:
            self._publisher.add(Done(outcome, RecordedJob(wanted=False, forced=False, tries=0, expected=None)))

    def _unpublished(self, outcome: Outcome, failed: Outcome) -> None:
        self._counts.take_back(outcome.name, outcome.status)
        if outcome.checked is not None:
            self._counts.checks.take_back(outcome.name, outcome.checked)
        self._counts.take(failed)
        self._progress.advance(0, 0, 0, 1)
        self._progress.fail(failed.name, failed.status, failed.reason)
        _LOG.warning("%s: %s", failed.name, failed.reason)
        self._stop_on_error(failed)

    def _stop_on_error(self, outcome: Outcome) -> None:
        if self._terms.settings.run.stop_on_error and not self.stopped:
            self.stopped = f"stopped at the first error (stop-on-error): {outcome.name} is {outcome.status}"

    def _tick(self) -> bool:
        """Between answers: publish what is due, watch the disk and the clock; whether to go on."""
        self._publisher.advance(hurry=False)
        if self._pool is not None and not self._terms.check:
            self._progress.load(self._pool.load())
        if self.supervisor.is_due() and self._pool is not None and self._pool.was_heard():
            counts = self._counts
            said = f"{counts.answered:,} of {counts.planned:,} projects, {len(counts.failures):,} of them not whole"
            self.supervisor.work(said)
        now = time.monotonic()
        if now - self._space_checked > _SPACE_CHECK_S and not self._terms.dry_run:
            self._space_checked = now
            free, least = self._storage.free_bytes(), self._terms.settings.storage.min_free
            if free < least:
                self._storage_failure = f"only {free} bytes are free, fewer than min-free = {least}"
        if now - self._hour_begun > _HOUR_S:
            self._hour_begun = now
            self.every_hour()
        return not (self._signal or self._storage_failure or self.stopped or self._is_out_of_time())

    def _is_out_of_time(self) -> bool:
        deadline = self._terms.deadline
        return deadline is not None and time.monotonic() > deadline

    def _wake(self) -> None:
        if self._pool is not None:
            self._pool.wake()


def _cluster(settings: Settings, budget: Budget, storage: Storage) -> Crew:
    try:
        from fastmirror.cluster import Cluster
    except ModuleNotFoundError as error:
        hint = "pip install 'fastmirror[dask]'"
        raise SettingsError(f"executor = dask: {error.name} is not installed (hint: {hint})") from error
    return Cluster(settings, budget, storage)
