"""Who is given which jobs, whose answer counts, and who is blamed for a death; how a budget is divided."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fastmirror.docket import Budget, Docket, Purse, divided
from fastmirror.model import Brought, FilesJob, FilesOutcome, Held, Outcome, ProjectJob, Split
from fastmirror.names import NormalizedName

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastmirror.model import Job


def project(name: str) -> ProjectJob:
    return ProjectJob(NormalizedName(name), 1, None, wanted=False, force=False)


class Taken(list[tuple[str, str, str]]):
    """The outcomes that were taken: name, status, reason."""

    def take(self, job: ProjectJob, outcome: Outcome) -> None:
        assert job.name == outcome.name
        self.append((outcome.name, outcome.status, outcome.reason))


def docket_of(taken: Taken, *names: str) -> Docket:
    return Docket(map(project, names), len(names), taken.take)


def done(job: Job) -> Outcome:
    return Outcome(job.name, "published")


def test_the_first_answer_to_a_job_counts_and_a_later_one_does_not() -> None:
    taken = Taken()
    docket = docket_of(taken, "six")
    (job,) = docket.fresh(9, 1)
    assert docket.settle(job, done(job))
    assert not docket.settle(job, Outcome(job.name, "failed"))
    assert docket.fresh(9, 1) == []
    assert docket.is_done
    assert [status for _, status, _ in taken] == ["published"]


def test_a_late_answer_is_none_to_the_job_that_publishes_what_pieces_brought() -> None:
    taken = Taken()
    docket = docket_of(taken, "six")
    (job,) = docket.fresh(9, 1)
    split = Split(project("six"), Held("page", "", "", "", (), Brought()), (FilesJob(job.name, 0, ()),))
    assert docket.settle(job, split)
    (piece,) = docket.pieces(9, 1)
    assert docket.settle(piece, FilesOutcome(job.name, 0, Brought()))
    (publishing,) = docket.pieces(9, 1)
    assert not docket.settle(job, split)
    assert not docket.settle(job, done(job))
    assert docket.settle(publishing, done(publishing))
    assert len(taken) == 1


def test_a_worker_far_away_has_few_batches_of_projects_and_many_pieces_beside_them() -> None:
    docket = docket_of(Taken(), "large", *(f"project-{i}" for i in range(1000)))
    projects, (job, *_) = 1, docket.batch(0, 0, 1)
    while docket.batch(0, projects, 1):
        projects += 1
    pieces = tuple(FilesJob(job.name, i, ()) for i in range(40))
    docket.settle(job, Split(project("large"), Held("page", "", "", "", (), Brought()), pieces))
    given = 0
    while batch := docket.batch(given, projects, 1):
        assert len(batch) == 1
        given += 1
    assert (projects, given) == (3, 32)
    assert [len(docket.batch(given - 1, projects, 1)), len(docket.batch(given, projects - 1, 1))] == [1, 64]


def test_only_a_job_that_was_alone_when_its_worker_died_is_blamed() -> None:
    taken = Taken()
    docket = docket_of(taken, "bad", "good")
    bad, good = (docket.fresh(1, 1)[0] for _ in range(2))
    docket.bury([[bad], [good]], "signal 9", together=True)
    assert docket.next_suspects() == [bad]
    docket.bury([[bad]], "signal 9")
    assert taken == []
    assert docket.next_suspects() == [good]
    assert docket.settle(good, done(good))
    assert docket.next_suspects() == [bad]
    docket.bury([[bad]], "signal 9")
    assert not docket.has_suspects
    assert taken[1:] == [("bad", "failed", "its worker died 2 times (signal 9)")]


def test_a_batch_whose_worker_died_is_given_out_once_more_as_a_whole_and_then_job_by_job() -> None:
    docket = docket_of(Taken(), "one", "two", "three", "four")
    batch = docket.fresh(2, 1)
    docket.bury([batch], "gone", together=True)
    assert docket.next_suspects() == batch
    docket.bury([batch], "gone")
    assert [docket.next_suspects(), docket.next_suspects()] == [[job] for job in batch]


@pytest.mark.parametrize(
    ("total", "limits", "parts"),
    [
        (12, [None, None, None], [4, 4, 4]),
        (12, [None, 1, None], [5, 1, 6]),
        (12, [2, 2], [2, 2]),
        (2, [None, None, None], [1, 1, 1]),
        (7, [], []),
    ],
)
def test_a_budget_is_divided_as_evenly_as_limits_let_it(total: int, limits: Sequence[int | None], parts: list[int]):
    assert sorted(divided(total, limits)) == sorted(parts)
    assert all(limit is None or part <= limit for part, limit in zip(divided(total, limits), limits, strict=True))


def test_what_upstream_asks_for_lowers_every_share_once_a_second() -> None:
    purse = Purse(Budget(16, 64, 100.0))
    assert purse.lower(3.0) == 3.0
    assert purse.lower(3.0) == 0.0
    assert purse.shares([None, None])[0][:3] == (4, 16, 50.0)
