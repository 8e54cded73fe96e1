"""A run at full speed against an upstream that has enough of it, and one that answers nothing for a while.

The optimum is one request for each page, file and core metadata file. What comes on top is bounded by what was in
flight when upstream began to refuse, in each worker, and by the trials that follow, one at a time.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from fastmirror.docket import RECOVERY_S
from fastmirror.filetree import FileTree
from fastmirror.layout import Layout, Tree
from fastmirror.model import ProjectJob
from fastmirror.names import NormalizedName
from fastmirror.pages import Context
from fastmirror.settings_file import parse_settings
from fastmirror.upstream import Dialect
from fastmirror.worker import run_inline
from tests.fakes import faults
from tests.published import problems, succeed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Mirror
    from tests.fakes.index import FakeIndex
    from tests.fakes.wire import Record

INDEX_TRANSFERS, FILE_TRANSFERS = 16, 32
BUDGETS = {"index-transfers": INDEX_TRANSFERS, "file-transfers": FILE_TRANSFERS}
LANES = {"pages": "/simple/?*", "files": "/packages/*"}
MIXED = (faults.status(429), faults.status(429, retry_after=1), faults.status(503))
# Refusals of one outage: all that was in flight, once more what was being sent while the first came back, and
# two workers' trials after 0.5, 1, 2 and 4 s.
REFUSED_MOST = 2 * (INDEX_TRANSFERS + FILE_TRANSFERS) + 2 * 4


def refusals(index: FakeIndex) -> list[Record]:
    return [record for record in index.requests if record.status in {0, 429, 503}]


def fill(index: FakeIndex) -> None:
    index.fill(120, seed=3, files=1)


@pytest.mark.parametrize("transport", ["curl", "requests"])
@pytest.mark.parametrize("lane", LANES)
def test_refusals_at_random_cost_a_request_each_and_nothing_else(
    mirror: Mirror, index: FakeIndex, lane: str, transport: str, record_property: Callable[[str, object], None]
) -> None:
    fill(index)
    rule = index.fault(LANES[lane], faults.overload(2.0, *MIXED, share=0.5), skip=20)
    succeed(mirror.run(set={**BUDGETS, "transport": transport}))
    assert problems(mirror, index) == []
    refused = len(refusals(index))
    assert 0 < refused < REFUSED_MOST
    assert rule.hits >= refused
    assert len(index.requests) == len(set(index.paths())) + refused
    record_property("case", 43)
    record_property("fault", f"half of the {lane} answered 429 or 503 for 2 s: all mirrored, {refused} refused")


@pytest.mark.parametrize("refusal", [faults.status(503), faults.reset()], ids=["503", "reset"])
@pytest.mark.parametrize("lane", LANES)
def test_an_outage_is_waited_for_and_not_stormed(
    mirror: Mirror,
    index: FakeIndex,
    lane: str,
    refusal: faults.Fault,
    record_property: Callable[[str, object], None],
) -> None:
    fill(index)
    index.fault(LANES[lane], faults.overload(3.0, refusal), skip=20)
    succeed(mirror.run(set=BUDGETS))
    assert problems(mirror, index) == []
    refused = len(refusals(index))
    assert 0 < refused < REFUSED_MOST
    record_property("case", 43)
    record_property("fault", f"all {lane} refused for 3 s: all mirrored, {refused} requests refused")


def test_after_a_429_no_more_than_half_of_the_requests_are_in_flight(mirror: Mirror, index: FakeIndex) -> None:
    fill(index)
    index.fault("/simple/?*", faults.drip(pause_s=0.2, piece=100))  # so that requests are in flight together, long
    index.fault("/simple/?*", faults.status(429), times=1, skip=20)
    succeed(mirror.run(set={**BUDGETS, "file-transfers": 2}))
    assert problems(mirror, index) == []
    pages = [record for record in index.requests if record.path.startswith("/simple/")]
    last = max(number for number, record in enumerate(pages) if record.status == 429)
    lowered = pages[last].came
    # What was in flight before has ended, and nothing is raised again yet.
    between = [record.crowd for record in pages if 2.0 < record.came - lowered < RECOVERY_S]
    assert max(record.crowd for record in pages[:last]) > INDEX_TRANSFERS // 2 + 2
    assert 2 < max(between) <= INDEX_TRANSFERS // 2 + 2


def test_a_wait_that_is_asked_for_by_one_page_is_kept_by_all(mirror: Mirror, index: FakeIndex) -> None:
    fill(index)
    rule = index.fault("/simple/?*", faults.status(429, retry_after=2), times=1, skip=40)
    succeed(mirror.run(set=BUDGETS))
    assert problems(mirror, index) == []
    assert rule.hits == 1
    log = (mirror.directory / ".fastmirror/log/fastmirror.log").read_text()
    assert re.search(r"upstream asks for less: 50 %", log)
    assert re.search(r"upstream asks to wait: nothing is asked for in 2 s", log)


def test_pages_in_drops_hold_up_no_more_than_the_budget_and_are_not_asked_for_again(
    mirror: Mirror, index: FakeIndex
) -> None:
    index.fill(40, seed=3, files=1)
    index.fault("/simple/?*", faults.drip(pause_s=0.05, piece=100))
    succeed(mirror.run(set=BUDGETS))
    assert problems(mirror, index) == []
    assert len(index.requests) == len(set(index.paths()))
    assert max(record.crowd for record in index.requests) <= INDEX_TRANSFERS + FILE_TRANSFERS


def test_many_projects_that_fail_for_good_are_tried_a_few_times_each_and_hold_up_no_other(
    mirror: Mirror, index: FakeIndex, record_property: Callable[[str, object], None]
) -> None:
    fill(index)
    broken = sorted(index.projects())[:12]
    for name in broken:
        index.fault(f"/simple/{name}/", faults.status(500))
    assert mirror.run(set=BUDGETS).status == 1
    assert problems(mirror, index, absent=broken) == []
    tries = [record.path for record in index.requests if record.status == 500]
    assert len(tries) <= 4 * len(broken)
    record_property("fault", f"12 of 120 projects answer 500 for ever: the rest mirrored, {len(tries)} refused")


def test_files_of_a_host_that_was_given_up_are_left_out_without_being_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, index: FakeIndex
) -> None:
    monkeypatch.setattr("fastmirror.patience._RESTS_MOST", 0)
    monkeypatch.setattr("fastmirror.patience._REST_FIRST_S", 20.0)
    monkeypatch.setattr("fastmirror.lanes.backoff_s", lambda _: 0.01)
    names = [f"a-{number}" for number in range(100)]
    for name in names:
        index.add_file(name, f"{name}-1.0.tar.gz")
    index.fault("/packages/*", faults.status(503))
    overrides = {"directory": str(tmp_path), "master": index.url, "allow-non-https": "true", "file-transfers": "10"}
    settings = parse_settings(None, overrides=overrides | {"min-free": "0"})
    FileTree.of(settings.storage).prepare()
    tree = Tree(Layout.HASHED, hash_index=False)
    context = Context(settings, Dialect.JSON, tree, "s", clean=True, debug=False, plan_only=False)
    jobs = [ProjectJob(NormalizedName(name), None, None, wanted=False, force=False) for name in names]
    outcomes = run_inline(context, jobs)
    assert {(outcome.status, outcome.reason.partition(": ")[2]) for outcome in outcomes} == {
        ("partial", "HTTP status 503")
    }
    assert len(outcomes) == 100
    assert len(index.paths("/packages/")) <= 2 * 10
