"""Reports say what was done and what was not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fastmirror import reports
from fastmirror.inquiry import MirrorStatus, PlannedRun
from fastmirror.model import LeftOut
from fastmirror.summary import Failure, Gap, Summary

LAST_RUN = {
    "started": "2026-10-31T12:00:00Z",
    "finished": "2026-10-31T12:03:20Z",
    "exit_status": 0,
    "updated": 1_234,
    "removed": 1,
    "failed": 0,
    "files": 5_678,
    "bytes": 9_000_000_000,
    "seconds": 200.0,
}


def a_summary(**changed: Any) -> Summary:
    plain = Summary(
        updated=1_234,
        unchanged=0,
        removed=1,
        partial=0,
        failed=0,
        gone=0,
        pending=0,
        failures=(),
        files=5_678,
        bytes=9_000_000_000,
        seconds=200.0,
        held_removals=0,
        held_files=0,
        exit_status=0,
        error="",
        serial=31_234_567,
    )
    return plain._replace(**changed)


def a_plan(**changed: Any) -> PlannedRun:
    plain = PlannedRun(
        update=2, names=("a", "b"), remove=(), held=False, retry=0, files=None, bytes=None, complete=True
    )
    return plain._replace(**changed)


def a_status(**changed: Any) -> MirrorStatus:
    plain = MirrorStatus(
        directory="/srv/pypi",
        layout="hashed",
        projects=12_345,
        files=67_890,
        bytes=1_234_567_890,
        serial=31_234_567,
        last_run=dict(LAST_RUN),
        failures=(),
        failing=0,
        doomed=0,
        clean=True,
    )
    return plain._replace(**changed)


def failures(count: int) -> tuple[Failure, ...]:
    return tuple(Failure(f"project-{i}", "404 Not Found", 0.0) for i in range(count))


def test_a_run_without_trouble_ends_with_complete_and_the_serial() -> None:
    assert reports.summary_text(a_summary()).splitlines() == [
        "projects: 1,234 updated, 1 removed, 0 failed",
        "fetched: 5,678 files, 9.00 GB in 3 min 20 s (6.2 projects/s, 45.0 MB/s)",
        "complete, serial 31234567",
    ]


def test_a_run_that_found_nothing_to_do_says_so_in_the_same_lines() -> None:
    text = reports.summary_text(a_summary(updated=0, removed=0, files=0, bytes=0, seconds=0.0, serial=None))
    assert text.splitlines() == [
        "projects: 0 updated, 0 removed, 0 failed",
        "fetched: 0 files, 0 B in 0.0 s",
        "complete",
    ]


def test_every_kind_of_shortfall_is_named_in_the_last_line() -> None:
    summary = a_summary(
        unchanged=5,
        partial=2,
        failed=3,
        gone=4,
        pending=1_000,
        held_removals=30,
        held_files=1,
        exit_status=6,
        error="no space left: '/srv/pypi'",
    )
    lines = reports.summary_text(summary).splitlines()
    assert lines[0] == "projects: 1,234 updated, 5 unchanged, 1 removed, 2 partial, 3 failed, 4 gone upstream"
    assert lines[-2] == (
        "held back by the deletion guard: 30 projects, 1 file (hint: --set max-removals=30 --set max-removed-files=1)"
    )
    assert lines[-1] == (
        "not complete: 3 failed, 2 partial, 1,000 not yet done, removals held back, no space left: '/srv/pypi'"
    )


@pytest.mark.parametrize(("unread", "end"), [(0, ""), (2, ", 2 not read")])
def test_a_sweep_is_told_apart_from_what_was_known_to_have_changed(unread: int, end: str) -> None:
    text = reports.summary_text(a_summary(swept=1_000, swept_changed=3, swept_unread=unread))
    assert text.splitlines()[1] == f"swept: 1,000 projects, 3 changed{end}"


def test_a_run_with_a_bad_exit_status_never_says_complete() -> None:
    assert reports.summary_text(a_summary(exit_status=5)).endswith("\nnot complete: exit status 5")


@pytest.mark.parametrize(("listed", "failed", "more"), [(10, 10, None), (11, 11, 1), (50, 60_000, 59_990)])
def test_ten_failures_are_told_and_the_others_counted(listed: int, failed: int, more: int | None) -> None:
    lines = reports.summary_text(a_summary(failed=failed, failures=failures(listed), exit_status=1)).splitlines()
    told = [line for line in lines if line.startswith("  ")]
    assert told[0] == "  project-0: 404 Not Found (next try 1970-01-01T00:00:00Z)"
    assert told[10:] == ([] if more is None else [f"  … and {more:,} more: fastmirror status"])


def test_a_reason_from_upstream_is_one_line_without_credentials() -> None:
    odd = Failure("six", "https://me:hunter2@host/six\n\x1b[31mcomplete", None)
    text = reports.summary_text(a_summary(failed=1, failures=(odd,), exit_status=1, error="at //u:hunter2@host"))
    assert "  six: https://***@host/six\\n\\x1b[31mcomplete\n" in text
    status = a_status(failing=1, failures=(odd,))
    assert "hunter2" not in text + reports.status_text(status) + reports.status_json(status)


def test_a_plan_names_some_projects_and_counts_the_others() -> None:
    names = tuple(f"p{i}" for i in range(12))
    plan = a_plan(update=3_000, names=names, remove=("old",), held=True, retry=7, files=45_678, bytes=1_234_567)
    assert reports.plan_text(plan).splitlines() == [
        "to update: 3,000 projects, of them 7 after a failure",
        "  p0 p1 p2 p3 p4 p5 p6 p7 p8 p9 … and 2,990 more",
        "to remove: 1 project, which the deletion guard would hold back",
        "  old",
        "to fetch: 45,678 files, 1.23 MB",
    ]


def test_a_plan_without_work_says_so() -> None:
    text = reports.plan_text(a_plan(update=0, names=()))
    assert text.splitlines() == ["to update: 0 projects", "to remove: 0 projects", "nothing to do"]


def test_a_plan_of_a_sweep_alone_is_some_work() -> None:
    assert reports.plan_text(a_plan(update=0, names=(), sweep=1)).splitlines() == [
        "to update: 0 projects",
        "to remove: 0 projects",
        "to sweep: 1 project, for what changes without a serial",
    ]


def test_a_plan_of_named_projects_does_not_claim_to_know_the_rest() -> None:
    text = reports.plan_text(a_plan(update=0, names=(), complete=False))
    assert "list of projects was not read" in text
    assert "nothing to do" not in text


def test_a_plan_as_json_has_the_fields_by_name() -> None:
    assert json.loads(reports.plan_json(a_plan(remove=("old",)))) == {
        "update": 2,
        "names": ["a", "b"],
        "remove": ["old"],
        "held": False,
        "retry": 0,
        "files": None,
        "bytes": None,
        "complete": True,
        "failed": 0,
        "denied": [],
        "sweep": 0,
        "left_out": [],
        "gaps": [],
    }


def test_a_plan_tells_what_each_filter_leaves_out_and_what_all_of_them_do() -> None:
    left_out = (LeftOut("", 3, 5_000_000), LeftOut("latest_release", 3, 5_000_000), LeftOut("yanked", 1, 1_000))
    text = reports.plan_text(a_plan(files=1, bytes=1000, left_out=left_out))
    assert text.splitlines()[-3:] == [
        "filters leave out of these projects: 3 files, 5.00 MB",
        "  latest_release by itself: 3 files, 5.00 MB",
        "  yanked by itself: 1 file, 1.00 kB",
    ]
    assert json.loads(reports.plan_json(a_plan(left_out=left_out)))["left_out"][2] == {
        "filter": "yanked",
        "files": 1,
        "bytes": 1000,
    }


def test_a_status_tells_how_complete_and_how_fresh() -> None:
    status = a_status(doomed=3, as_of="2026-10-31T12:00:00+00:00", lag_s=7500.0)
    assert reports.status_text(status).splitlines() == [
        "mirror: /srv/pypi (hashed layout)",
        "holds: 12,345 projects, 67,890 files, 1.23 GB",
        "serial: 31234567",
        "fresh: as upstream was at 2026-10-31T12:00:00+00:00, 2 h 5 min ago",
        (
            "last run: 2026-10-31T12:00:00Z to 2026-10-31T12:03:20Z, exit status 0:"
            " 1,234 updated, 1 removed, 0 failed; 5,678 files, 9.00 GB in 3 min 20 s"
        ),
        "to unlink: 3 files, when their grace is over",
        "verified: 0 projects not since they were fetched",
        "failing: 0 projects",
    ]


def test_a_status_tells_all_failures_it_has_and_counts_the_others() -> None:
    lines = reports.status_text(a_status(failing=70, failures=failures(50))).splitlines()
    assert lines[-52] == "failing: 70 projects"
    assert lines[-1] == "  … and 20 more"


def test_a_status_tells_that_dependencies_have_gaps() -> None:
    last_run = {**LAST_RUN, "gaps": [{"name": "a", "reason": "upstream has no such project, required by b"}]}
    text = reports.status_text(a_status(last_run=last_run))
    assert "dependencies: 1 gap in what may be required (hint: plan names them)" in text.splitlines()
    assert "dependencies" not in reports.status_text(a_status(last_run={**LAST_RUN, "gaps": []}))


def test_a_summary_and_a_plan_name_the_gaps_and_count_what_is_too_much() -> None:
    gaps = tuple(Gap(f"p{number}", "not\nmirrored yet") for number in range(22))
    for text in (reports.plan_text(a_plan(gaps=gaps)), reports.summary_text(a_summary(gaps=gaps))):
        assert "  p0: not\\nmirrored yet\n" in text
        assert text.count("mirrored yet") == 20
        assert "  … and 2 more\n" in text + "\n"


def test_a_status_before_the_first_run_says_so() -> None:
    text = reports.status_text(a_status(last_run=None, serial=None))
    assert "serial: none yet\nfresh: no whole run has finished yet\nlast run: none yet\n" in text


def test_a_run_that_was_cut_off_is_told() -> None:
    cut_off = {"started": "2026-10-31T12:00:00Z", "finished": None, "exit_status": None}
    text = reports.status_text(a_status(last_run=cut_off, clean=False))
    assert "last run: began 2026-10-31T12:00:00Z, not finished\nunfinished: " in text


@pytest.mark.parametrize(
    ("changed", "complete"),
    [
        ({}, True),
        ({"doomed": 5}, True),
        ({"failing": 1}, False),
        ({"clean": False}, False),
        ({"last_run": None}, False),
        ({"last_run": LAST_RUN | {"exit_status": 4}}, False),
        ({"last_run": LAST_RUN | {"exit_status": None, "finished": None}}, False),
    ],
)
def test_a_mirror_is_complete_only_if_its_last_run_left_nothing(changed: dict[str, Any], complete: bool) -> None:
    status = a_status(**changed)
    assert reports.is_complete(status) is complete
    assert json.loads(reports.status_json(status))["complete"] is complete


def test_a_status_says_what_is_missing_and_that_the_history_is_damaged() -> None:
    assert "missing: " not in reports.status_text(a_status())
    text = reports.status_text(a_status(missing=1, missing_files=2, missing_bytes=50, history_damaged=True))
    assert "\nmissing: 1 project, 2 files, 50 B\n" in text
    assert "\nhistory: damaged: " in text
    assert "\nmissing: 1,000 projects\n" in reports.status_text(a_status(missing=1000))


def test_a_status_as_json_has_the_fields_by_name_and_times_in_utc() -> None:
    found = json.loads(reports.status_json(a_status(failing=1, failures=(Failure("six", "timed out", 1e9),))))
    assert found["failures"] == [{"name": "six", "reason": "timed out", "next_try": "2001-09-09T01:46:40Z"}]
    assert set(found) == {*MirrorStatus._fields, "complete"} - {"past"}
    assert found["last_run"] == LAST_RUN
