"""The sweep: what changes without a new serial is found by asking for a part of the mirror in each run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from fastmirror.layout import PageFormat
from tests.fakes import faults
from tests.fakes.pages import JSON_TYPE
from tests.published import filenames, last_run, page, page_file, problems, root, stamps, stored, succeed, written

if TYPE_CHECKING:
    from tests.conftest import Mirror, Result
    from tests.fakes.index import FakeIndex

METADATA = b"Metadata-Version: 2.1\n"
NAMES = ("a", "b", "c", "d", "e")


@pytest.fixture
def swept(mirror: Mirror, index: FakeIndex) -> Mirror:
    """A mirror whose runs sweep all of it, where they sweep at all."""
    mirror.settings["sweep"] = "100%"
    fill(index)
    return mirror


def fill(index: FakeIndex) -> None:
    for name in (*NAMES, "news"):
        index.add_file(name, f"{name}-1.0.tar.gz")


def run_with_news(mirror: Mirror, index: FakeIndex, *arguments: str, **options: Any) -> tuple[Result, list[str]]:
    """A run for which the root index is another: one project, "news", has a new serial.

    Returns its result and the names of the other projects that were asked for.
    """
    index.touch("news")
    index.clear_requests()
    result = mirror.run(*arguments, **options)
    asked = [path.split("/")[2] for path in index.paths("/simple/")]
    return result, sorted(name for name in asked if name not in ("", "news"))


# What it finds


@pytest.mark.case(17)
@pytest.mark.parametrize("layout", ["hashed", "flat"])
def test_a_project_archived_without_a_new_serial_is_told_so_in_json_and_html(
    layout: str, swept: Mirror, index: FakeIndex
) -> None:
    swept.settings["layout"] = layout
    succeed(swept.run())
    index.archive("b", "moved <elsewhere>")
    before = stamps(swept.web)
    done, asked = run_with_news(swept, index)
    succeed(done)
    assert asked == list(NAMES)
    assert page(swept, "b")["project-status"] == {"status": "archived", "reason": "moved <elsewhere>"}
    html = page_file(swept, "b", PageFormat.HTML).read_text()
    assert '<meta name="pypi:project-status" content="archived">' in html
    assert problems(swept, index) == []
    assert not [path for path in written(before, stamps(swept.web)) if "packages" in path]
    statuses = {record.path: record.status for record in index.requests if record.path != "/simple/news/"}
    assert [path for path, status in statuses.items() if status == 200] == ["/simple/", "/simple/b/"]
    assert done.stdout.splitlines()[:2] == [
        "projects: 2 updated, 0 removed, 0 failed",
        "swept: 5 projects, 1 changed",
    ]
    run = last_run(swept)
    assert (run["swept"], run["swept_changed"], run["swept_unread"], run["unchanged"]) == (5, 1, 0, 0)


@pytest.mark.case(37)
def test_core_metadata_that_is_offered_later_under_the_same_serial_is_fetched(swept: Mirror, index: FakeIndex) -> None:
    file = index.add_file("wheel", "wheel-1.0-py3-none-any.whl", metadata=METADATA)
    index.fault("/simple/wheel/", faults.alter_files(core_metadata=False, data_dist_info_metadata=False))
    succeed(swept.run())
    assert page(swept, "wheel")["files"][0]["core-metadata"] is False
    index.clear_faults()
    succeed(run_with_news(swept, index)[0])
    assert index.paths("/packages/") == [f"{file.path}.metadata"]
    assert problems(swept, index) == []


def test_a_page_with_another_etag_and_the_same_content_is_asked_for_with_that_one_next_time(
    swept: Mirror, index: FakeIndex
) -> None:
    index.fault("/simple/b/", faults.header("ETag", '"old"'))
    succeed(swept.run())
    index.clear_faults()
    before = stamps(swept.web)
    statuses = []
    for _ in range(2):
        succeed(run_with_news(swept, index)[0])
        statuses += [record.status for record in index.requests if record.path == "/simple/b/"]
    assert statuses == [200, 304]
    assert page_file(swept, "b").relative_to(swept.web).as_posix() not in written(before, stamps(swept.web))


def test_a_sweep_that_finds_no_change_writes_nothing(swept: Mirror, index: FakeIndex) -> None:
    swept.settings |= {"plugins.enabled": "blocklist_project", "blocklist.packages": "news"}
    succeed(swept.run())
    before = stamps(swept.web)
    done, asked = run_with_news(swept, index)
    succeed(done)
    assert asked == list(NAMES)
    assert {record.status for record in index.requests if record.path != "/simple/"} == {304}
    assert written(before, stamps(swept.web)) == set()
    assert index.paths("/simple/news/") == []


# Whose turn it is


def test_a_round_takes_every_project_once_by_name_and_begins_anew(swept: Mirror, index: FakeIndex) -> None:
    swept.settings["sweep"] = "2"
    succeed(swept.run())
    turns = []
    for _ in range(4):
        done, asked = run_with_news(swept, index)
        succeed(done)
        turns.append(asked)
        assert index.paths("/simple/news/") == ["/simple/news/"]
    assert turns == [["a", "b"], ["c", "d"], ["e"], ["a", "b"]]


def test_a_run_that_is_out_of_time_costs_nobody_a_turn(swept: Mirror, index: FakeIndex) -> None:
    swept.settings["sweep"] = "3"
    succeed(swept.run())
    done, asked = run_with_news(swept, index, "--max-time", "0")
    assert (done.status, asked) == (1, [])
    assert run_with_news(swept, index)[1] == ["a", "b", "c"]


def test_plan_says_how_many_are_swept(swept: Mirror, index: FakeIndex) -> None:
    succeed(swept.run())
    index.touch("news")
    planned = swept.run("--json", command="plan")
    assert (json.loads(planned.stdout)["update"], json.loads(planned.stdout)["sweep"]) == (1, 5)
    assert "to sweep: 5 projects, for what changes without a serial" in swept.run("--dry-run").stdout
    succeed(swept.run())
    assert last_run(swept)["swept"] == 5


# When there is none


def no_sweep_asked(swept: Mirror, index: FakeIndex, *arguments: str, **options: Any) -> list[str]:
    done, asked = run_with_news(swept, index, *arguments, **options)
    succeed(done)
    assert "swept" not in done.stdout
    return asked


def test_a_run_without_any_change_asks_for_the_root_index_alone(swept: Mirror, index: FakeIndex) -> None:
    succeed(swept.run())
    index.clear_requests()
    succeed(swept.run())
    assert [(record.path, record.status) for record in index.requests] == [("/simple/", 304)]
    index.fault("/simple/", faults.no_header("ETag"))
    run_with_news(swept, index)
    index.clear_requests()
    succeed(swept.run())
    assert [(record.path, record.status) for record in index.requests] == [("/simple/", 200)]


def test_runs_of_named_projects_and_forced_checks_do_not_sweep(swept: Mirror, index: FakeIndex) -> None:
    succeed(swept.run())
    assert no_sweep_asked(swept, index, "--project", "a") == ["a"]
    assert no_sweep_asked(swept, index, "a", command="sync") == ["a"]
    assert no_sweep_asked(swept, index, "--force-check") == list(NAMES)
    allowed = {"plugins.enabled": "allowlist_project", "allowlist.packages": "a\nb\nnews"}
    assert no_sweep_asked(swept, index, set={**allowed, "max-removals": "9"}) == ["a", "b"]


@pytest.mark.parametrize("sweep", ["0", "0%", ""])
def test_a_small_mirror_is_not_swept_by_default_nor_any_that_says_so(
    sweep: str, swept: Mirror, index: FakeIndex
) -> None:
    swept.settings["sweep"] = sweep
    succeed(swept.run())
    assert no_sweep_asked(swept, index) == []


def test_an_upstream_without_serials_is_asked_for_everything_anyway(swept: Mirror, index: FakeIndex) -> None:
    index.dialect = "json-no-serials"
    succeed(swept.run())
    index.archive("b")
    index.add_file("news", "news-2.0.tar.gz")
    assert no_sweep_asked(swept, index) == list(NAMES)
    assert problems(swept, index) == []


# What goes wrong


def test_pages_that_a_sweep_cannot_use_leave_their_projects_as_they_are(swept: Mirror, index: FakeIndex) -> None:
    index.add_file("c", "c-2.0.tar.gz")
    succeed(swept.run())
    index.fault("/simple/a/", faults.status(403))
    index.fault("/simple/b/", faults.html_instead())
    index.fault("/simple/c/", faults.stale())
    index.fault("/simple/d/", faults.body(b"{", JSON_TYPE))
    before = stamps(swept.web)
    done, asked = run_with_news(swept, index)
    succeed(done)
    assert asked == list(NAMES)  # each once: nobody waits for a page that is not owed
    assert done.stdout.splitlines()[1] == "swept: 5 projects, 0 changed, 4 not read"
    assert swept.status()["failing"] == 0
    assert all(
        "news" in path or path.startswith(("simple/index", "changes/")) for path in written(before, stamps(swept.web))
    )
    log = (swept.directory / ".fastmirror/log/fastmirror.log").read_text()
    assert "c: left as it is by the sweep: stale page: serial" in log
    assert "a: left as it is by the sweep: page: HTTP status 403" in log
    index.clear_faults()
    assert problems(swept, index) == []


def test_an_upstream_that_answers_for_no_page_is_unusable_whether_there_was_a_sweep_or_not(
    swept: Mirror, index: FakeIndex
) -> None:
    succeed(swept.run())
    index.fault("/simple/?*", faults.hang_up())
    done, asked = run_with_news(swept, index)
    assert done.status == 5
    assert set(asked) == set(NAMES)
    index.clear_faults()
    succeed(swept.run())
    assert problems(swept, index) == []


def test_a_changed_page_whose_file_cannot_be_had_is_as_bad_as_in_any_update(swept: Mirror, index: FakeIndex) -> None:
    file = index.add_file("wheel", "wheel-1.0-py3-none-any.whl", metadata=METADATA)
    hidden = index.fault("/simple/wheel/", faults.alter_files(core_metadata=False, data_dist_info_metadata=False))
    succeed(swept.run())
    hidden.times = 0
    index.fault(f"{file.path}.metadata", faults.status(404))
    done, _ = run_with_news(swept, index)
    assert done.status == 1
    assert swept.failures() == {"wheel": f"{file.filename}.metadata: HTTP status 404"}
    index.clear_faults()
    succeed(swept.run())
    assert problems(swept, index) == []


def test_a_swept_page_that_is_not_there_is_removed_when_it_was_not_there_twice_under_the_guard(
    swept: Mirror, index: FakeIndex
) -> None:
    at_once = {"delete-grace": "0"}
    succeed(swept.run())
    index.fault("/simple/b/", faults.status(404))
    done, _ = run_with_news(swept, index, set=at_once)
    assert done.status == 1
    assert "  b: page: HTTP status 404, though the root index lists it" in done.stdout
    assert filenames(swept, "b") == ["b-1.0.tar.gz"]
    assert run_with_news(swept, index, set={**at_once, "max-removals": "0"})[0].status == 4
    assert "b-1.0.tar.gz" in stored(swept)
    succeed(run_with_news(swept, index, set=at_once)[0])
    assert "b" not in root(swept)["projects"]
    assert problems(swept, index, absent=["b"]) == []
