"""One first sync by many hosts, simulated: jobs as the program hands them out, work as water through pipes.

What is real: the docket that hands out jobs and pieces, what a worker is given at once (of one host as by pool.py, of
more as by cluster.py), and how the budget of transfers is divided. What is simulated: the clock, and the work.
Whatever a job needs of something limited (a line, a core, connections, upstream) it takes from there in the order in
which jobs are given out, at its rate; it is done when the last of these has let it through, and not before its longest
file could come over one connection. So nothing is ever faster than the limits allow, and what a limit leaves unused
while a worker has nothing to do is lost.
"""

from __future__ import annotations

import heapq
import math
from typing import TYPE_CHECKING, NamedTuple

from fastmirror.docket import Budget, Docket, Purse
from fastmirror.model import Brought, FilesJob, FilesOutcome, Held, Outcome, ProjectJob, Split
from fastmirror.names import NormalizedName
from fastmirror.planner import plan_sync

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.whole import Piece, Project, Whole
    from fastmirror.model import Answer, Job

_HELD = Held("", "", "", "", (), Brought())


class Costs(NamedTuple):
    """Processor time, in seconds."""

    project: float  # its page read, planned and rendered
    file: float
    byte: float
    recorded: float  # of the one parent, for each project: its pages renamed, its row written


class World(NamedTuple):
    """Hosts, what is between them and upstream, and where they write. Rates are a second; inf: no limit."""

    hosts: int
    processes: int  # worker processes of each host, a core each
    line: float  # bytes, of each host
    latency_s: float  # from a request to the first byte of its answer
    connection: float  # bytes, of each connection
    index_transfers: int  # in flight, of the whole program
    file_transfers: int  # likewise
    connections: float = math.inf  # for files, that upstream grants each client address
    is_one_address: bool = False  # that all hosts share; the budget is set to what is granted
    upstream: float = math.inf  # bytes, of all together
    upstream_pages: float = math.inf  # requests for pages, of all together
    store: float = math.inf  # bytes, of all together
    store_objects: float = math.inf  # files and pages made, of all together
    costs: Costs = Costs(0.0, 0.0, 0.0, 0.0)


class Flow:
    """Something limited: what is taken of it comes at its rate, in turn."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.taken = 0.0
        self.until = 0.0

    def take(self, now: float, amount: float) -> float:
        """When so much will have come."""
        self.taken += amount
        self.until = max(self.until, now) + amount / self.rate
        return self.until


class Member:
    """A worker process."""

    def __init__(self, line: Flow, pages: float, files: float) -> None:
        self.line = line
        self.core = Flow(1.0)
        self.pages = Flow(pages)  # seconds of connections
        self.files = Flow(files)
        self.pieces = self.others = 0  # in hand: jobs of a pool's worker, batches of a cluster's


class Course(NamedTuple):
    """How it went."""

    seconds: float
    given_out_s: float  # when the last jobs were handed out
    use: dict[str, float]  # of each limit, the part of all it could have given


class Simulation:
    """One run."""

    def __init__(self, world: World, whole: Whole) -> None:
        self._world = world
        self._projects: dict[str, Project] = {project.name: project for project in whole.projects}
        self._upstream, self._upstream_pages = Flow(world.upstream), Flow(world.upstream_pages)
        self._store, self._store_objects = Flow(world.store), Flow(world.store_objects)
        self._parent = Flow(1.0)
        self._lines = [Flow(world.line) for _ in range(world.hosts)]
        self._members = self._hire()
        self._docket = Docket(self._jobs(), len(self._projects), self._record)
        self._now = 0.0
        self._given_out_s = 0.0
        self._given = 0
        self._returns: list[tuple[float, int, Member, list[Job]]] = []

    def run(self) -> Course:
        """To its end."""
        for member in self._members:
            self._top_up(member)
        while self._returns:
            self._now, _, member, jobs = heapq.heappop(self._returns)
            self._count(member, jobs, -1)
            answers = [(job, self._answer(job)) for job in jobs]
            for job, answer in answers:
                self._docket.settle(job, answer)
            self._top_up(member)
            if any(isinstance(answer, Split) for _, answer in answers):  # there is more for everybody
                for other in self._members:
                    self._top_up(other)
        if not self._docket.is_done:
            raise RuntimeError("jobs are left, and nobody has them")
        seconds = max(self._now, self._parent.until)
        return Course(
            seconds,
            self._given_out_s,
            {name: spent / seconds if seconds else 0.0 for name, spent in self._spent().items()},
        )

    def _hire(self) -> list[Member]:
        """The budget's own division among workers; no more of them than it has transfers for."""
        world = self._world
        granted = world.connections * (1 if world.is_one_address else world.hosts)
        budget = Budget(world.index_transfers, int(min(world.file_transfers, granted)), None)
        self._window = budget.window(min(world.processes, budget.most_workers))
        count = min(world.hosts * world.processes, budget.most_workers)
        share = Purse(budget).share_of(count)
        lines = (self._lines[i % world.hosts] for i in range(count))
        return [Member(line, share.index_transfers, share.file_transfers) for line in lines]

    def _jobs(self) -> Iterator[ProjectJob]:
        plan = plan_sync({NormalizedName(name): 1 for name in self._projects}, ())
        for name, serial in plan.update.items():
            yield ProjectJob(name, serial, None, wanted=False, force=False)

    def _top_up(self, member: Member) -> None:
        docket, hands = self._docket, len(self._members)
        if self._world.hosts > 1:
            while jobs := docket.batch(member.pieces, member.others, hands):
                self._give(member, jobs)
        elif (in_hand := member.pieces + member.others) <= self._window // 2:
            pieces = docket.pieces(self._window - in_hand, hands)
            for job in [*pieces, *docket.fresh(self._window - in_hand - len(pieces), hands)]:
                self._give(member, [job])

    def _give(self, member: Member, jobs: list[Job]) -> None:
        """They come back together."""
        self._count(member, jobs, 1)
        self._given += 1
        self._given_out_s = self._now
        done = max(self._work(member, job) for job in jobs)
        heapq.heappush(self._returns, (done, self._given, member, jobs))

    def _count(self, member: Member, jobs: list[Job], change: int) -> None:
        if isinstance(jobs[0], FilesJob):
            member.pieces += change
        else:
            member.others += change

    def _answer(self, job: Job) -> Answer:
        if isinstance(job, FilesJob):
            return FilesOutcome(job.name, job.piece, Brought())
        project = self._projects[job.name]
        if project.is_split and job.held is None:
            return Split(job, _HELD, tuple(FilesJob(job.name, i, ()) for i in range(len(project.pieces))))
        return Outcome(job.name, "published")

    def _record(self, _job: ProjectJob, _outcome: Outcome) -> None:
        self._parent.take(self._now, self._world.costs.recorded)

    def _work(self, member: Member, job: Job) -> float:
        """When a worker that is given this now will have done it."""
        world, now = self._world, self._now
        project = self._projects[job.name]
        if isinstance(job, FilesJob):
            return self._fetch(member, project.pieces[job.piece], now)
        pages = self._store_objects.take(now, 2.0)
        if job.held is not None:
            return max(pages, member.core.take(now, world.costs.project))
        page = max(now + world.latency_s, member.pages.take(now, world.latency_s))
        page = max(page, self._upstream_pages.take(now, 1.0), member.core.take(now, world.costs.project))
        if project.is_split or not project.pieces:
            return page
        return max(page, pages, self._fetch(member, project.pieces[0], now))

    def _fetch(self, member: Member, piece: Piece, now: float) -> float:
        world, costs = self._world, self._world.costs
        alone = world.latency_s + piece.largest / world.connection
        taken = piece.files * world.latency_s + piece.bytes / world.connection
        return max(
            now + alone,
            member.files.take(now, taken),
            member.core.take(now, piece.files * costs.file + piece.bytes * costs.byte),
            member.line.take(now, piece.bytes),
            self._upstream.take(now, piece.bytes),
            self._store.take(now, piece.bytes),
            self._store_objects.take(now, float(piece.files)),
        )

    def _spent(self) -> dict[str, float]:
        """Seconds for which each limit would have been at work, had it worked without a pause."""
        members, world = self._members, self._world
        pages = sum(member.pages.taken for member in members) / sum(member.pages.rate for member in members)
        files = sum(member.files.taken for member in members) / sum(member.files.rate for member in members)
        return {
            "line": sum(line.taken / line.rate for line in self._lines) / world.hosts,
            "processors": sum(member.core.taken for member in members) / len(members),
            "connections for pages": pages,
            "connections for files": files,
            "upstream": self._upstream.taken / world.upstream,
            "upstream's pages": self._upstream_pages.taken / world.upstream_pages,
            "store": self._store.taken / world.store,
            "store's objects": self._store_objects.taken / world.store_objects,
            "recording": self._parent.taken,
        }
