"""The jobs of a run, whoever does them: those to come, those that are out, pieces on their way, whom to blame.

A crew takes jobs from here and brings their answers back. What somebody took and never answered is given out
again alone, so that only a job that was alone when its worker died is blamed for it.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple, Protocol

from fastmirror.model import (
    Answer,
    Brought,
    Checked,
    Damage,
    FilesJob,
    FilesOutcome,
    Job,
    Load,
    Outcome,
    ProjectJob,
    Share,
    Split,
)
from fastmirror.worker import Assembly

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from fastmirror.pages import Context

_LOG = logging.getLogger(__name__)
Key = tuple[str, int]
_DEATHS = 2
_WINDOW_LEAST = 64
BATCH_JOBS = 64  # projects in a batch for a worker far away
_PROJECTS_AHEAD = 3  # such batches with it
_PIECES_AHEAD = 32
RECOVERY_S = 5.0
_HOLD_LEAST_S = 0.5  # by which a wait is longer than the one under way, for the workers to be told


class Crew(Protocol):
    """Who does a run's jobs: processes of this machine (pool.py), or of a cluster (cluster.py)."""

    def start(self) -> None:
        """Make ready for the briefing. Raises MirrorError where nobody can be had."""

    def brief(self, context: Context) -> None:
        """Tell the workers what all jobs share; before the first job."""

    def load(self) -> Load:
        """What all workers have in hand, by their last word."""

    def was_heard(self) -> bool:
        """Whether a worker has said anything since this was asked last."""

    def wake(self) -> None:
        """Let a run that waits look again; from any thread."""

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

    def close(self) -> None:
        """End the workers, or let go of them."""


def key_of(job: Job) -> Key:
    """What tells a job from all others that are out."""
    return (job.name, job.piece) if isinstance(job, FilesJob) else (job.name, -1)


def key_of_answer(answer: Answer) -> Key:
    """The key of the job that this answers."""
    if isinstance(answer, FilesOutcome):
        return answer.name, answer.piece
    return (answer.job.name if isinstance(answer, Split) else answer.name), -1


class Docket:
    """The jobs of one `run` of a crew."""

    def __init__(self, jobs: Iterator[ProjectJob], total: int, take: Callable[[ProjectJob, Outcome], None]) -> None:
        self._source = jobs
        self._left = total
        self._take = take
        self._is_exhausted = False
        self._out: dict[Key, Job] = {}  # with somebody, or waiting to be with somebody again
        self._urgent: deque[Job] = deque()  # pieces, and projects whose pieces are back
        self._splits: dict[str, Assembly] = {}
        self._suspects: deque[list[Job]] = deque()
        self._deaths: dict[Key, int] = {}

    @property
    def is_done(self) -> bool:
        """Whether every job is answered."""
        return self._is_exhausted and not self._out and not self._splits

    @property
    def has_more(self) -> bool:
        """Whether there is something that nobody has been given yet, beside suspects."""
        return bool(self._urgent) or not self._is_exhausted

    @property
    def has_suspects(self) -> bool:
        """Whether jobs wait that each want a worker for themselves."""
        return bool(self._suspects)

    def next_suspects(self) -> list[Job]:
        """Jobs for a worker that has nothing else, and gets nothing else until they are answered."""
        return self._suspects.popleft()

    def batch(self, pieces: int, projects: int, hands: int, most: int = BATCH_JOBS) -> list[Job]:
        """What goes next to one of `hands` workers far away, which has so many batches of either kind; perhaps nothing.

        Projects go out many at once, and a piece goes alone: it may be a single large file, so that a worker has many
        of them, or most of its transfers would have nothing to do (benchmarks/scale.py).
        """
        if pieces < _PIECES_AHEAD and (batch := self.pieces(1, hands)):
            return batch
        return self.fresh(most, hands) if projects < _PROJECTS_AHEAD else []

    def pieces(self, room: int, hands: int) -> list[Job]:
        """Up to `room` jobs of projects that are under way, for one of `hands` workers: its fair part of them."""
        fair = -(-len(self._urgent) // hands)
        return [self._urgent.popleft() for _ in range(min(room, fair))]

    def fresh(self, room: int, hands: int) -> list[Job]:
        """Up to `room` jobs that nobody has been given yet: no more than a fair part of what is left."""
        batch: list[Job] = []
        fair = max(1, -(-self._left // (2 * hands)))
        while not self._is_exhausted and len(batch) < min(room, fair):
            job = next(self._source, None)
            if job is None:
                self._is_exhausted = True
            else:
                self._out[key_of(job)] = job
                self._left -= 1
                batch.append(job)
        return batch

    def take_back(self, jobs: Iterable[Job]) -> None:
        """Nobody is at these any more, and nobody is to blame."""
        self._urgent.extend(job for job in jobs if self.is_out(job))

    def is_out(self, job: Job) -> bool:
        """Whether an answer to this very job is still awaited."""
        return self._out.get(key_of(job)) is job

    def settle(self, job: Job, answer: Answer) -> bool:
        """Take the answer to a job; False if somebody else's came before, and this one counts for nothing."""
        if not self.is_out(job):
            return False
        del self._out[key_of(job)]
        if isinstance(answer, FilesOutcome):
            self._take_piece(answer)
        elif isinstance(answer, Split):
            self._splits[answer.job.name] = Assembly(answer)
            for piece in answer.pieces:
                self._put_out(piece)
        elif isinstance(job, ProjectJob):
            self._take(job, answer)
        return True

    def bury(self, batches: Iterable[Iterable[Job]], cause: str, *, together: bool = False) -> None:
        """Who had all of these is gone: they are suspects, each job for itself, or once more each batch `together`."""
        lost = [[job for job in batch if self.is_out(job)] for batch in batches]
        if sum(map(len, lost)) == 1:
            ((job,),) = filter(None, lost)
            self._deaths[key_of(job)] = self._deaths.get(key_of(job), 0) + 1
            if self._deaths[key_of(job)] >= _DEATHS:
                self._give_up(job, f"its worker died {_DEATHS} times ({cause})")
                return
        for batch in lost:
            self._suspects.extend([batch] if together and batch else ([job] for job in batch))

    def _put_out(self, job: Job) -> None:
        self._out[key_of(job)] = job
        self._urgent.append(job)

    def _take_piece(self, answer: FilesOutcome) -> None:
        job = self._splits[answer.name].add(answer)
        if job is not None:
            del self._splits[answer.name]
            self._out[key_of(job)] = job
            self._urgent.appendleft(job)

    def _give_up(self, job: Job, reason: str) -> None:
        if isinstance(job, FilesJob):
            failures = tuple((want.filename, reason) for want in job.wants)
            unread = tuple(Damage(file.path, "unreadable", file.size) for file in job.check)
            brought = Brought(failures=failures, checked=Checked(damage=unread) if unread else None)
            self.settle(job, FilesOutcome(job.name, job.piece, brought))
        else:
            self.settle(job, Outcome(job.name, "failed", reason))


class Budget(NamedTuple):
    """Transfers in flight and bytes per second, for the whole program."""

    index_transfers: int
    file_transfers: int
    bytes_per_second: float | None

    @property
    def most_workers(self) -> int:
        """So many can each have a transfer of either kind."""
        return min(self.index_transfers, self.file_transfers)

    def window(self, workers: int) -> int:
        """How many jobs each of so many workers has in hand, where giving them more costs next to nothing."""
        return max(_WINDOW_LEAST, 4 * self.index_transfers // workers)


class Purse:
    """The budget as it is lent: lowered while upstream asks for less."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self._scale = 1.0  # of the budget
        self._lowered_at = self._raised_at = 0.0
        self._held_until = 0.0

    def share_of(self, workers: int) -> Share:
        """What each of so many workers may have."""
        budget = self.budget
        return Share(
            max(1, int(budget.index_transfers * self._scale) // workers),
            max(1, int(budget.file_transfers * self._scale) // workers),
            budget.bytes_per_second / workers if budget.bytes_per_second else None,
            0.0,
        )

    def shares(self, limits: Sequence[int | None]) -> list[Share]:
        """What each worker may have, where some are limited: transfers of either kind at most; None: they are not."""
        budget, rate = self.budget, self.budget.bytes_per_second
        index_parts = divided(int(budget.index_transfers * self._scale), limits)
        file_parts = divided(int(budget.file_transfers * self._scale), limits)
        each = rate / len(limits) if rate and limits else None
        return [Share(*parts, each, 0.0) for parts in zip(index_parts, file_parts, strict=True)]

    def recover(self) -> None:
        """Raise it again, step by step, where upstream has not asked for less in a while."""
        now = time.monotonic()
        if self._scale < 1.0 and now - max(self._lowered_at, self._raised_at, self._held_until) > RECOVERY_S:
            self._scale = min(1.0, self._scale * 1.5)
            self._raised_at = now

    def lower(self, wait_s: float) -> float:
        """Upstream asks for less: halved, once a second at the most.

        Returns the seconds in which nothing is to be asked for; 0 if that is no news.
        """
        now = time.monotonic()
        if now - self._lowered_at >= 1.0:
            self._lowered_at = now
            self._scale = max(self._scale / 2, 1 / max(self.budget.index_transfers, 1))
            _LOG.info("upstream asks for less: %d %% of the transfers from now on", self._scale * 100)
        if now + wait_s <= self._held_until + _HOLD_LEAST_S:
            return 0.0
        self._held_until = now + wait_s
        _LOG.info("upstream asks to wait: nothing is asked for in %.0f s", wait_s)
        return wait_s


def divided(total: int, limits: Sequence[int | None]) -> list[int]:
    """A total in as many parts as there are limits, as even as these let them be; each is at least 1."""
    parts = [0] * len(limits)
    in_order = sorted(range(len(limits)), key=lambda i: total if limits[i] is None else limits[i] or 0)
    for count, i in enumerate(in_order):
        even = total // (len(limits) - count)
        limit = limits[i]
        parts[i] = max(1, even if limit is None else min(even, limit))
        total -= parts[i]
    return parts
