"""A worker: jobs in, answers out, one event loop. The same core runs inline, in processes, or elsewhere."""

from __future__ import annotations

import gc
import logging
import math
import os
import signal
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from fastmirror import logs
from fastmirror.backend import open_storage
from fastmirror.bodies import Desk
from fastmirror.channel import Channel
from fastmirror.checking import check_files
from fastmirror.fetcher import Fetcher
from fastmirror.filetree import FileTree
from fastmirror.filters import Filters
from fastmirror.lanes import Lanes
from fastmirror.legacy_names import LegacyNames
from fastmirror.model import (
    Answer,
    Brought,
    Checked,
    Drain,
    FilesJob,
    FilesOutcome,
    Job,
    Jobs,
    Load,
    Outcome,
    ProjectJob,
    Report,
    Share,
    Split,
)
from fastmirror.project import ProjectTask
from fastmirror.reading import Bench, LegacyApi
from fastmirror.sink import SideThread
from fastmirror.transport.control import open_transport

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable

    from fastmirror.hands import Hands
    from fastmirror.pages import Context
    from fastmirror.settings import Settings
    from fastmirror.storage import Storage
    from fastmirror.transport import Transport

_LOG = logging.getLogger(__name__)
_TRIES = 4
_IDLE_S = 5.0
_FLUSH_S = 0.02
# The default thresholds cost a tenth of a worker's time: it makes many small values, and few cycles.
GC_THRESHOLDS = (50_000, 20, 20)
# Answers go back in batches: of so many, or so old, or when there is nothing left to do.
_REPORT_ANSWERS = 32
_REPORT_S = 0.1
_LOAD_S = 1.0  # what is in hand is told at least so often, while there is something


class Workshop:
    """Does jobs: takes them with `accept`, answers from `poll`. Never raises for what a job meets."""

    def __init__(self, context: Context) -> None:
        settings = context.settings
        self.storage = storage = open_storage(settings.storage)
        if not context.plan_only:
            storage.open_desk()
        pool = settings.pool
        self.transport = open_transport(settings, pool.index_transfers + pool.file_transfers)
        self.lanes = Lanes(self.transport, _TRIES)
        self._side = SideThread(self.transport.wake)
        self._hands = _open_hands(storage, settings, self.transport)
        self._bench = Bench(
            context,
            self.lanes,
            storage,
            self._side,
            _open_fetcher(Desk(self.lanes, storage, self._side), context, self._hands),
            LegacyApi(),
            Filters(settings.filters, context.moment),
            _legacy_names(context, storage),
            self._hands,
        )
        self._queue: deque[Job] = deque()
        self._answers: list[Answer] = []
        self.unanswered = 0

    def accept(self, jobs: Iterable[Job]) -> None:
        """Take jobs; files of projects that are under way come first."""
        for job in jobs:
            self.unanswered += 1
            if isinstance(job, FilesJob) or job.held is not None:
                self._queue.appendleft(job)
            else:
                self._queue.append(job)

    def set_share(self, share: Share) -> None:
        """Work within this part of the budgets from now on."""
        self.lanes.set_budget(share.index_transfers, share.file_transfers)
        self.transport.limit_rate(share.bytes_per_second)
        if share.hold_s:
            self.lanes.hold(share.hold_s)

    def poll(self, timeout_s: float) -> list[Answer]:
        """Go on with the work, wait at most so long, and return the answers that are ready."""
        self._begin_jobs()
        self.lanes.poll(0.0 if self._answers else timeout_s)
        self._side.settle()
        if self._hands is not None:
            self._hands.settle()
        self._begin_jobs()
        answers, self._answers = self._answers, []
        self.unanswered -= len(answers)
        return answers

    def load(self) -> Load:
        """What it has in hand."""
        pages, files = self.lanes.in_flight
        tally = self._bench.fetcher.tally
        done_bytes = tally.done_bytes + self.lanes.file_bytes_in_flight()
        return Load(pages, files, tally.read, tally.wanted_bytes, tally.done_files, done_bytes)

    def close(self) -> None:
        """Drop what is under way."""
        self.transport.close()
        self._side.close()
        if self._hands is not None:
            self._hands.close()

    def _begin_jobs(self) -> None:
        while self._queue and (isinstance(self._queue[0], FilesJob) or self.lanes.free_index_transfers() > 0):
            job = self._queue.popleft()
            if isinstance(job, FilesJob):
                _FilesTask(job, self._bench, self._take).start()
            else:
                begun = job.held.begun if job.held is not None else time.time()
                ProjectTask(job, self._bench, partial(self._take_project, begun)).start()

    def _take(self, answer: FilesOutcome) -> None:
        self._answers.append(answer)

    def _take_project(self, begun: float, answer: Outcome | Split) -> None:
        if isinstance(answer, Split):
            self._answers.append(answer._replace(held=answer.held._replace(begun=begun)))
        else:
            self._answers.append(answer._replace(seconds=max(0.0, time.time() - begun)))


def _open_hands(storage: Storage, settings: Settings, transport: Transport) -> Hands | None:
    """As many as this worker's part of the transfers, or of the requests of a verification; none where all is here."""
    s3 = settings.storage.s3
    if not storage.is_remote or s3 is None:
        return None
    from fastmirror.hands import Hands

    at_once = max(settings.pool.file_transfers, s3.verify_concurrency)
    return Hands(transport.wake, math.ceil(at_once / settings.pool.processes))


def _open_fetcher(desk: Desk, context: Context, hands: Hands | None) -> Fetcher:
    upstream, fresh, clean, compare = context.settings.upstream, context.fresh, context.clean, context.compare
    if hands is None:
        return Fetcher(desk, upstream, fresh=fresh, clean=clean, compare=compare)
    from fastmirror.remote import RemoteFetcher

    return RemoteFetcher(desk, upstream, hands, fresh=fresh, clean=clean, compare=compare)


def _legacy_names(context: Context, storage: Storage) -> LegacyNames | None:
    """What old mirrors left in directories, where it is to be cleaned up."""
    if not context.settings.storage.clean_legacy_names or not isinstance(storage, FileTree):
        return None
    return LegacyNames(storage.web, context.tree)


class _FilesTask:
    """A FilesJob under way."""

    def __init__(self, job: FilesJob, bench: Bench, answer: Callable[[FilesOutcome], None]) -> None:
        self._job = job
        self._bench = bench
        self._answer = answer
        self._parts: list[Brought] = []

    def start(self) -> None:
        if self._job.check:
            self._check()
            return
        for want in self._job.wants:
            try:
                self._bench.fetcher.fetch(want, self._take)
            except Exception as error:  # noqa: BLE001 - one file's trouble is never another's
                _LOG.exception("%s: this is a bug", want.filename)
                self._take(Brought(failures=((want.filename, f"bug: {type(error).__name__}: {error}"),)))

    def _check(self) -> None:
        bench, found = self._bench, [Checked()]

        def check() -> None:
            found[0] = check_files(bench.storage, self._job.check, compare=bench.context.compare)

        def answer() -> None:
            self._answer(FilesOutcome(self._job.name, self._job.piece, Brought(checked=found[0])))

        bench.side.submit(check, answer)

    def _take(self, brought: Brought) -> None:
        self._parts.append(brought)
        if len(self._parts) == len(self._job.wants):
            self._answer(FilesOutcome(self._job.name, self._job.piece, Brought().joined(*self._parts)))


class Assembly:
    """A project whose files are being fetched in pieces."""

    def __init__(self, split: Split) -> None:
        self._job = split.job
        self.held = split.held
        self._remaining = {piece.piece for piece in split.pieces}
        self._brought = split.held.brought

    def add(self, answer: FilesOutcome) -> ProjectJob | None:
        """Take what one piece brought; with the last one returns the job that publishes the project."""
        self._remaining.discard(answer.piece)
        self._brought = self._brought.joined(answer.brought)
        if self._remaining:
            return None
        return self._job._replace(held=self.held._replace(brought=self._brought))


def run_inline(context: Context, jobs: Iterable[ProjectJob]) -> list[Outcome]:
    """Do these jobs in this process, one event loop, and return their outcomes."""
    pool = context.settings.pool
    workshop = Workshop(context)
    workshop.set_share(Share(pool.index_transfers, pool.file_transfers, pool.max_rate, 0.0))
    outcomes: list[Outcome] = []
    assemblies: dict[str, Assembly] = {}
    try:
        workshop.accept(jobs)
        while workshop.unanswered:
            for answer in workshop.poll(_IDLE_S):
                if isinstance(answer, Outcome):
                    outcomes.append(answer)
                    for path in assemblies[answer.name].held.staged if answer.name in assemblies else ():
                        workshop.storage.discard(path)
                elif isinstance(answer, Split):
                    assemblies[answer.job.name] = Assembly(answer)
                    workshop.accept(answer.pieces)
                elif job := assemblies[answer.name].add(answer):
                    workshop.accept([job])
    finally:
        workshop.close()
    return outcomes


def serve(end: socket.socket) -> None:
    """A worker process: do what comes through the socket, the context first, until it ends or says so.

    Signals are the parent's to understand. When the parent is gone nothing more is begun and the process
    ends; pages are published by the parent alone, so no orphan publishes.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    channel = Channel(end)
    inbox = channel.wait()
    if not inbox or isinstance(inbox[0], Drain):
        os._exit(0)
    context: Context = inbox.pop(0)
    logs.set_up(context.settings.storage.directory, context.settings.log, debug=context.debug)
    workshop = Workshop(context)
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    workshop.transport.watch(channel.fileno(), lambda: inbox.extend(channel.receive()))
    pending: list[Answer] = []
    since = 0.0  # when the first of them came
    told = 0.0
    while channel.is_open:
        for message in inbox:
            if isinstance(message, Jobs):
                workshop.accept(message.jobs)
            elif isinstance(message, Share):
                workshop.set_share(message)
            elif isinstance(message, Drain):
                _leave(channel, pending)
        inbox.clear()
        waits = _REPORT_S if pending else _FLUSH_S if channel.wants_to_write else _IDLE_S
        answers = workshop.poll(waits)
        now = time.monotonic()
        if answers and not pending:
            since = now
        pending += answers
        throttled = workshop.lanes.throttled_s
        is_due = pending and (len(pending) >= _REPORT_ANSWERS or not workshop.unanswered or now - since >= _REPORT_S)
        if is_due or throttled is not None or (workshop.unanswered and now - told >= _LOAD_S):
            workshop.lanes.throttled_s = None
            channel.send(Report(tuple(pending), throttled, workshop.load()))
            pending, told = [], now
        channel.flush()
    os._exit(0)


def _leave(channel: Channel, pending: list[Answer]) -> None:
    """Hand over what is done, and end: transfers under way are dropped with the process."""
    if pending:
        channel.send(Report(tuple(pending), None))
    channel.drain()
    os._exit(0)
