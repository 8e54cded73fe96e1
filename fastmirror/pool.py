"""The parent's side of the worker processes of this machine: batches out, answers in, shares, deaths.

Jobs go out in batches before a worker runs dry; which ones, and who is blamed for a death: see docket.py.
"""

from __future__ import annotations

import logging
import selectors
import time
from typing import TYPE_CHECKING

from fastmirror.bell import Bell
from fastmirror.channel import Channel
from fastmirror.docket import Budget, Docket, Key, Purse, key_of, key_of_answer
from fastmirror.model import Drain, Job, Jobs, Load, Outcome, ProjectJob, Share
from fastmirror.processes import cause_of_death, reap, start_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.process import BaseProcess

    from fastmirror.pages import Context

_LOG = logging.getLogger(__name__)
_TICK_S = 0.5
_DRAIN_S = 8.0


class _Worker:
    """One worker process, as its parent sees it."""

    def __init__(self, process: BaseProcess, channel: Channel) -> None:
        self.process = process
        self.channel = channel
        self.jobs: dict[Key, Job] = {}
        self.solo = False  # does one suspected job at a time
        self.share: Share | None = None
        self.load = Load()
        self.writing = False


class Pool:
    """Worker processes, and the jobs that are with them."""

    def __init__(self, budget: Budget, processes: int, lock: int) -> None:
        self._context: Context | None = None
        self._purse = Purse(budget)
        self._lock = lock
        self._count = max(1, min(processes, budget.most_workers))
        self._workers: list[_Worker] = []
        self._selector = selectors.DefaultSelector()
        self._bell = Bell()
        self._selector.register(self._bell, selectors.EVENT_READ, None)
        self._is_draining = False
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
        return self._buried.joined(*(worker.load for worker in self._workers))

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
        self._docket = Docket(jobs, total, take)
        while tick():
            for worker in self._workers:
                self._top_up(worker)
            if self._docket.is_done:
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
        docket = self._docket
        if docket.has_suspects and not worker.solo and not worker.jobs:
            worker.solo = True
        if worker.solo:
            if worker.jobs:
                return
            if docket.has_suspects:
                self._send(worker, docket.next_suspects())
                return
            worker.solo = False
        room = self._window() - len(worker.jobs)
        if len(worker.jobs) > self._window() // 2 or (docket.has_suspects and worker is self._workers[-1]):
            return
        batch = docket.pieces(room, len(self._workers))
        batch += docket.fresh(room - len(batch), len(self._workers))
        if batch:
            self._send(worker, batch)

    def _window(self) -> int:
        return self._purse.budget.window(len(self._workers))

    def _send(self, worker: _Worker, batch: list[Job]) -> None:
        if worker.share is None:
            self._set_share(worker, self._purse.share_of(len(self._workers)), 0.0)
        worker.jobs.update((key_of(job), job) for job in batch)
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
                self._docket.settle(worker.jobs.pop(key_of_answer(answer)), answer)

    # Budgets ----------------------------------------------------------------------------------------------

    def _share_out(self) -> None:
        """Lend the transfers of workers that have nothing to do to those that have; recover from a slow-down."""
        self._purse.recover()
        busy = [worker for worker in self._workers if worker.jobs]
        share = self._purse.share_of(len(self._workers) if self._docket.has_more or not busy else len(busy))
        for worker in busy:
            self._set_share(worker, share, 0.0)

    def _set_share(self, worker: _Worker, share: Share, hold_s: float) -> None:
        if worker.share != share or hold_s:
            worker.share = share
            worker.channel.send(share._replace(hold_s=hold_s))

    def _slow_down(self, wait_s: float) -> None:
        """Upstream asks for less: everyone's share is halved, and all wait."""
        hold_s = self._purse.lower(wait_s)
        for worker in self._workers:
            self._set_share(worker, self._purse.share_of(len(self._workers)), hold_s)

    # Ends -------------------------------------------------------------------------------------------------

    def _bury(self, worker: _Worker) -> None:
        """A worker is gone: its jobs are sent again, one at a time."""
        self._forget(worker)
        if self._is_draining:
            return
        cause = cause_of_death(worker.process)
        self._docket.bury([worker.jobs.values()], cause)
        _LOG.error("a worker died (%s) with %d jobs", cause, len(worker.jobs))
        self._start_worker()

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
