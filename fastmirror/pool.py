"""The parent's side of the workers: batches out, answers in, budgets, deaths.

Workers are processes. Jobs go out in batches before a worker runs dry; what a dead worker left unanswered is
sent again one job at a time, so that only a job that was alone when its worker died is blamed.
"""

from __future__ import annotations

import logging
import selectors
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from fastmirror.bell import Bell
from fastmirror.channel import Channel
from fastmirror.model import (
    Answer,
    Brought,
    Checked,
    Damage,
    Drain,
    FilesJob,
    FilesOutcome,
    Job,
    Jobs,
    Load,
    Outcome,
    ProjectJob,
    Share,
    Split,
)
from fastmirror.processes import cause_of_death, reap, start_process
from fastmirror.worker import Assembly

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.process import BaseProcess

    from fastmirror.pages import Context

_LOG = logging.getLogger(__name__)
_WINDOW_LEAST = 64  # jobs with a worker
_DEATHS = 2
_TICK_S = 0.5
_DRAIN_S = 8.0
_RECOVERY_S = 5.0
_HOLD_LEAST_S = 0.5  # by which a wait is longer than the one under way, for the workers to be told


class Budget(NamedTuple):
    """Transfers in flight and bytes per second, for the whole program."""

    index_transfers: int
    file_transfers: int
    bytes_per_second: float | None


class _Worker:
    """One worker process, as its parent sees it."""

    def __init__(self, process: BaseProcess, channel: Channel) -> None:
        self.process = process
        self.channel = channel
        self.jobs: dict[tuple[str, int], Job] = {}
        self.solo = False  # does one suspected job at a time
        self.share: Share | None = None
        self.load = Load()
        self.writing = False


def _key(job: Job) -> tuple[str, int]:
    return (job.name, job.piece) if isinstance(job, FilesJob) else (job.name, -1)


class Pool:
    """Worker processes, and the jobs that are with them."""

    def __init__(self, budget: Budget, processes: int, lock: int) -> None:
        self._context: Context | None = None
        self._budget = budget
        self._lock = lock
        self._count = max(1, min(processes, budget.index_transfers, budget.file_transfers))
        self._workers: list[_Worker] = []
        self._selector = selectors.DefaultSelector()
        self._bell = Bell()
        self._selector.register(self._bell, selectors.EVENT_READ, None)
        self._urgent: deque[Job] = deque()  # pieces, and projects whose pieces are back
        self._suspects: deque[Job] = deque()
        self._deaths: dict[tuple[str, int], int] = {}
        self._splits: dict[str, Assembly] = {}
        self._scale = 1.0  # of the budget, lowered while upstream asks for less
        self._lowered_at = self._raised_at = 0.0
        self._held_until = 0.0
        self._is_draining = False
        self._asked: dict[str, ProjectJob] = {}
        self._exhausted = False
        self._left = 0
        self._buried = Load()  # what workers that are gone had done
        self._heard = False

    def start(self) -> None:
        """Start the workers; before any thread of this process, where they are forked."""
        for _ in range(self._count):
            self._start_worker()

    def brief(self, context: Context) -> None:
        """Tell the workers what all jobs share; before the first job."""
        self._context = context
        for worker in self._workers:
            worker.channel.send(context)

    def load(self) -> Load:
        """What all workers have in hand, by their last word."""
        load = self._buried
        for worker in self._workers:
            load = load.joined(worker.load)
        return load

    def was_heard(self) -> bool:
        """Whether a worker has said anything since this was asked last."""
        heard, self._heard = self._heard, False
        return heard

    def wake(self) -> None:
        """Let a run that waits look again; from any thread."""
        self._bell.ring()

    def run(
        self,
        jobs: Iterator[ProjectJob],
        total: int,
        take: Callable[[ProjectJob, Outcome], None],
        tick: Callable[[], bool],
    ) -> bool:
        """Have these jobs done, about `total` of them; whether all were answered.

        `take` gets each project's outcome. `tick` is called often and returns whether to go on; when it does
        not, what is under way is dropped, and what is answered is taken first.
        """
        self._take = take
        self._source = jobs
        self._left = total
        self._exhausted = False
        while tick():
            for worker in self._workers:
                self._top_up(worker)
            if self._exhausted and not self._asked:
                return True
            self._share_out()
            self._wait()
        self._drain()
        return False

    def close(self) -> None:
        """End the workers."""
        for worker in self._workers:
            worker.channel.close()
        deadline = time.monotonic() + _DRAIN_S
        for worker in self._workers:
            reap(worker.process, deadline)
        self._workers.clear()
        self._selector.close()
        self._bell.close()

    # Jobs out ---------------------------------------------------------------------------------------------

    def _top_up(self, worker: _Worker) -> None:
        if self._suspects and not worker.solo and not worker.jobs:
            worker.solo = True
        if worker.solo:
            if worker.jobs:
                return
            if self._suspects:
                self._send(worker, [self._suspects.popleft()])
                return
            worker.solo = False
        room = self._window() - len(worker.jobs)
        if len(worker.jobs) > self._window() // 2 or (self._suspects and worker is self._workers[-1]):
            return
        batch: list[Job] = []
        fair = -(-len(self._urgent) // len(self._workers))
        while self._urgent and len(batch) < min(room, fair):
            batch.append(self._urgent.popleft())
        fair = max(1, -(-self._left // (2 * len(self._workers))))
        while not self._exhausted and len(batch) < min(room, fair):
            job = next(self._source, None)
            if job is None:
                self._exhausted = True
            else:
                self._asked[job.name] = job
                self._left -= 1
                batch.append(job)
        if batch:
            self._send(worker, batch)

    def _window(self) -> int:
        return max(_WINDOW_LEAST, 4 * self._budget.index_transfers // len(self._workers))

    def _send(self, worker: _Worker, batch: list[Job]) -> None:
        if worker.share is None:
            self._set_share(worker, self._share_of(len(self._workers)), 0.0)
        worker.jobs.update((_key(job), job) for job in batch)
        worker.channel.send(Jobs(tuple(batch)))

    # Answers in -------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        for worker in self._workers:
            if worker.channel.wants_to_write is not worker.writing:
                worker.writing = not worker.writing
                events = selectors.EVENT_READ | (selectors.EVENT_WRITE if worker.writing else 0)
                self._selector.modify(worker.channel, events, worker)
        for key, _ in self._selector.select(_TICK_S):
            worker = key.data
            if worker is None:
                self._bell.silence()
                continue
            worker.channel.flush()
            self._receive(worker)
            if not worker.channel.is_open:
                self._bury(worker)

    def _receive(self, worker: _Worker) -> None:
        for report in worker.channel.receive():
            if report.load is not None:
                worker.load = report.load
            self._heard = True
            if report.throttled_s is not None:
                self._slow_down(report.throttled_s)
            for answer in report.answers:
                self._take_answer(worker, answer)

    def _take_answer(self, worker: _Worker, answer: Answer) -> None:
        if isinstance(answer, FilesOutcome):
            del worker.jobs[answer.name, answer.piece]
            self._take_piece(answer)
        elif isinstance(answer, Split):
            del worker.jobs[answer.job.name, -1]
            self._splits[answer.job.name] = Assembly(answer)
            self._urgent.extend(answer.pieces)
        else:
            del worker.jobs[answer.name, -1]
            self._take(self._asked.pop(answer.name), answer)

    def _take_piece(self, answer: FilesOutcome) -> None:
        job = self._splits[answer.name].add(answer)
        if job is not None:
            del self._splits[answer.name]
            self._urgent.appendleft(job)

    # Budgets ----------------------------------------------------------------------------------------------

    def _share_out(self) -> None:
        """Lend the transfers of workers that have nothing to do to those that have; recover from a slow-down."""
        now = time.monotonic()
        if self._scale < 1.0 and now - max(self._lowered_at, self._raised_at, self._held_until) > _RECOVERY_S:
            self._scale = min(1.0, self._scale * 1.5)
            self._raised_at = now
        busy = [worker for worker in self._workers if worker.jobs]
        lending = self._exhausted and not self._urgent
        share = self._share_of(len(busy) if lending and busy else len(self._workers))
        for worker in busy:
            self._set_share(worker, share, 0.0)

    def _share_of(self, workers: int) -> Share:
        budget = self._budget
        return Share(
            max(1, int(budget.index_transfers * self._scale) // workers),
            max(1, int(budget.file_transfers * self._scale) // workers),
            budget.bytes_per_second / workers if budget.bytes_per_second else None,
            0.0,
        )

    def _set_share(self, worker: _Worker, share: Share, hold_s: float) -> None:
        if worker.share != share or hold_s:
            worker.share = share
            worker.channel.send(share._replace(hold_s=hold_s))

    def _slow_down(self, wait_s: float) -> None:
        """Upstream asks for less: everyone's share is halved, once a second at the most, and all wait."""
        now = time.monotonic()
        if now - self._lowered_at >= 1.0:
            self._lowered_at = now
            self._scale = max(self._scale / 2, 1 / max(self._budget.index_transfers, 1))
            _LOG.info("upstream asks for less: %d %% of the transfers from now on", self._scale * 100)
        hold_s = wait_s if now + wait_s > self._held_until + _HOLD_LEAST_S else 0.0
        if hold_s:
            self._held_until = now + hold_s
            _LOG.info("upstream asks to wait: nothing is asked for in %.0f s", hold_s)
        for worker in self._workers:
            self._set_share(worker, self._share_of(len(self._workers)), hold_s)

    # Ends -------------------------------------------------------------------------------------------------

    def _bury(self, worker: _Worker) -> None:
        """A worker is gone: its jobs are sent again, one at a time."""
        self._forget(worker)
        if self._is_draining:
            return
        for key, job in worker.jobs.items():
            if len(worker.jobs) == 1:
                self._deaths[key] = self._deaths.get(key, 0) + 1
            if self._deaths.get(key, 0) < _DEATHS:
                self._suspects.append(job)
            else:
                self._give_up(worker, job)
        _LOG.error("a worker died (%s) with %d jobs", cause_of_death(worker.process), len(worker.jobs))
        self._start_worker()

    def _give_up(self, worker: _Worker, job: Job) -> None:
        reason = f"its worker died {_DEATHS} times ({cause_of_death(worker.process)})"
        if isinstance(job, FilesJob):
            failures = tuple((want.filename, reason) for want in job.wants)
            unread = tuple(Damage(file.path, "unreadable", file.size) for file in job.check)
            brought = Brought(failures=failures, checked=Checked(damage=unread) if unread else None)
            self._take_piece(FilesOutcome(job.name, job.piece, brought))
        else:
            self._take(self._asked.pop(job.name), Outcome(job.name, "failed", reason))

    def _forget(self, worker: _Worker) -> None:
        self._selector.unregister(worker.channel)
        worker.channel.close()
        self._workers.remove(worker)
        self._buried = self._buried.joined(worker.load._replace(pages=0, files=0))
        reap(worker.process, time.monotonic() + 1.0)

    def _drain(self) -> None:
        """Have the workers hand over what is done, and end."""
        self._is_draining = True
        deadline = time.monotonic() + _DRAIN_S
        for worker in self._workers:
            worker.channel.send(Drain())
        while self._workers and time.monotonic() < deadline:
            self._wait()

    def _start_worker(self) -> None:
        process, end = start_process(self._lock, [worker.channel.fileno() for worker in self._workers])
        worker = _Worker(process, Channel(end))
        if self._context is not None:
            worker.channel.send(self._context)
        self._workers.append(worker)
        self._selector.register(worker.channel, selectors.EVENT_READ, worker)
