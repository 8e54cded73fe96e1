"""What upstream removes, hides or replaces leaves the mirror: in order, once, and under the guard."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import pytest

from tests.conftest import end_group
from tests.fakes import faults
from tests.processes import group_lives, until
from tests.published import (
    Watch,
    filenames,
    last_run,
    page,
    page_file,
    problems,
    root,
    stamps,
    stored,
    succeed,
    written,
)
from tests.tree import check_tree

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from tests.conftest import Mirror
    from tests.fakes.index import FakeIndex
    from tests.fakes.pages import Dialect

METADATA = b"Metadata-Version: 2.1\n"
AT_ONCE = {"delete-grace": "0"}


def fill(index: FakeIndex, *names: str) -> None:
    for name in names:
        index.add_file(name, f"{name}-1.0-py3-none-any.whl", metadata=METADATA)


def leave_out(*names: str) -> Callable[[dict[str, Any]], None]:
    """Take projects out of the root index though their pages are there."""

    def change(document: dict[str, Any]) -> None:
        document["projects"] = [entry for entry in document["projects"] if entry["name"] not in names]
        if "_last-serial" in document["meta"]:
            document["meta"]["_last-serial"] += 1

    return change


def kept_aside(mirror: Mirror) -> set[str]:
    """Names of the files that are hidden."""
    return {path.name for path in (mirror.directory / ".fastmirror/hidden").rglob("*") if path.is_file()}


# Projects that are gone


@pytest.mark.case(13)
@pytest.mark.parametrize("dialect", ["json", "json-no-serials", "html"])
def test_a_project_that_is_gone_is_asked_for_once_and_leaves_with_its_files(
    dialect: Dialect, mirror: Mirror, index: FakeIndex
) -> None:
    index.dialect = dialect
    fill(index, "gone", "six", "idna")
    succeed(mirror.run())
    index.remove_project("gone")
    index.clear_requests()
    succeed(mirror.run(set=AT_ONCE))
    assert index.paths("/simple/gone/") == ["/simple/gone/"]
    assert list(root(mirror)["projects"]) == ["idna", "six"]
    assert not page_file(mirror, "gone").exists()
    assert "gone-1.0-py3-none-any.whl" not in stored(mirror)
    assert problems(mirror, index) == []
    assert last_run(mirror)["removed"] == 1
    index.clear_requests()
    succeed(mirror.run())
    assert index.paths("/simple/gone/") == []


@pytest.mark.case(45)
def test_a_gone_projects_directory_goes_with_its_pages(mirror: Mirror, index: FakeIndex) -> None:
    mirror.settings["layout"] = "flat"
    fill(index, "gone", "six")
    succeed(mirror.run())
    index.remove_project("gone")
    succeed(mirror.run(set=AT_ONCE))
    assert not (mirror.web / "simple/gone").exists()
    assert not [path for path in mirror.web.rglob("*") if path.is_dir() and not any(path.iterdir())]


@pytest.mark.case(45)
def test_files_that_no_page_names_stay_until_their_grace_is_over(mirror: Mirror, index: FakeIndex) -> None:
    fill(index, "gone", "six")
    succeed(mirror.run())
    index.remove_project("gone")
    index.set_file("six", "six-1.0", metadata=None)
    succeed(mirror.run())
    kept = {"gone-1.0-py3-none-any.whl", "gone-1.0-py3-none-any.whl.metadata", "six-1.0-py3-none-any.whl.metadata"}
    assert not page_file(mirror, "gone").exists()
    assert stored(mirror) == kept | {"six-1.0-py3-none-any.whl"}
    assert json.loads(mirror.run("--json", command="status").stdout)["doomed"] == 3
    succeed(mirror.run(set=AT_ONCE))
    assert stored(mirror) == {"six-1.0-py3-none-any.whl"}
    assert problems(mirror, index) == []


@pytest.mark.case(13)
def test_a_reader_sees_the_root_index_change_before_the_page_goes_and_the_page_before_the_files(
    each_layout: Mirror, index: FakeIndex
) -> None:
    fill(index, "gone", "six")
    succeed(each_layout.run())
    wheel = next((each_layout.web / "packages").rglob("gone-1.0-py3-none-any.whl"))
    pages = page_file(each_layout, "gone")
    watch = Watch([each_layout.web / "simple", pages.parent, wheel.parent])
    index.remove_project("gone")
    succeed(each_layout.run(set=AT_ONCE))
    events = [event for event in watch.events() if event[1] != "gone"]  # its directory
    watch.close()
    first_removal = next(number for number, (what, _) in enumerate(events) if what == "gone")
    assert {("put", "index.v1_json"), ("put", "index.html"), ("put", "index.v1_html")} <= set(events[:first_removal])
    order = [name for what, name in events if what == "gone"]
    assert order.index(pages.name) < order.index(wheel.name)
    assert set(order[-2:]) == {wheel.name, f"{wheel.name}.metadata"}


@pytest.mark.case(45)
def test_a_page_loses_a_file_before_the_disk_does(mirror: Mirror, index: FakeIndex) -> None:
    fill(index, "six")
    index.add_file("six", "six-2.0.tar.gz")
    succeed(mirror.run())
    page_path = page_file(mirror, "six")
    wheel = next((mirror.web / "packages").rglob("six-1.0-py3-none-any.whl"))
    watch = Watch([page_path.parent, wheel.parent])
    index.remove_file("six", wheel.name)
    succeed(mirror.run(set=AT_ONCE))
    events = watch.events()
    watch.close()
    puts = [number for number, (what, _) in enumerate(events) if what == "put"]
    removals = [number for number, (what, _) in enumerate(events) if what == "gone"]
    assert {events[number][1] for number in puts} == {"six.html", "six.v1_json"}
    assert max(puts) < min(removals)
    assert problems(mirror, index) == []


def test_a_project_that_upstream_only_forgot_to_list_is_kept_and_asked_for_once(
    mirror: Mirror, index: FakeIndex
) -> None:
    fill(index, "hidden", "six")
    succeed(mirror.run())
    index.fault("/simple/", faults.alter(leave_out("hidden")))
    index.clear_requests()
    succeed(mirror.run(set=AT_ONCE))
    assert index.paths() == ["/simple/", "/simple/hidden/"]
    assert list(root(mirror)["projects"]) == ["hidden", "six"]
    assert problems(mirror, index) == []
    index.clear_requests()
    succeed(mirror.run())
    assert index.paths() == ["/simple/"]


def test_an_unlisted_project_whose_page_cannot_be_had_is_kept_until_upstream_says_404(
    mirror: Mirror, index: FakeIndex
) -> None:
    fill(index, "gone", "six")
    succeed(mirror.run())
    index.remove_project("gone")
    index.fault("/simple/gone/", faults.status(403), times=1)
    done = mirror.run(set=AT_ONCE)
    assert done.status == 1
    assert "  gone: page: HTTP status 403" in done.stdout
    assert filenames(mirror, "gone") == ["gone-1.0-py3-none-any.whl"]
    assert "gone" in root(mirror)["projects"]
    succeed(mirror.run(set=AT_ONCE))
    assert problems(mirror, index) == []


def test_a_project_that_comes_back_is_published_again(mirror: Mirror, index: FakeIndex) -> None:
    fill(index, "six", "idna")
    succeed(mirror.run())
    (file,) = index.projects()["six"].files
    index.remove_project("six")
    succeed(mirror.run())
    index.catalogue.add_file("six", file)
    index.clear_requests()
    succeed(mirror.run())
    assert index.paths("/packages/") == []  # its grace was not over
    succeed(mirror.run(set=AT_ONCE))
    assert problems(mirror, index) == []
    index.remove_project("six")
    succeed(mirror.run(set=AT_ONCE))
    index.catalogue.add_file("six", file)
    succeed(mirror.run(set=AT_ONCE))
    assert problems(mirror, index) == []


@pytest.mark.case(7)
@pytest.mark.parametrize("body", [b'{"meta":{"api-version":"1.4"},"projects":[]}', b"{", b"[]", b""])
def test_an_empty_or_broken_root_index_removes_nothing(body: bytes, mirror: Mirror, index: FakeIndex) -> None:
    fill(index, "six")
    succeed(mirror.run())
    index.fault("/simple/", faults.body(body), faults.header("ETag", '"other"'))
    index.add_project("bump")
    done = mirror.run(set={**AT_ONCE, "max-removals": "100"})
    assert done.status == 5
    index.clear_faults()
    assert problems(mirror, index, absent=["bump"]) == []


# Quarantine


@pytest.mark.case(14)
@pytest.mark.parametrize("dialect", ["json", "json-no-serials"])
def test_a_quarantined_project_is_hidden_at_once_and_its_files_are_kept(
    dialect: Dialect, mirror: Mirror, index: FakeIndex
) -> None:
    index.dialect = dialect
    fill(index, "bad", "six")
    succeed(mirror.run())
    index.quarantine("bad", "malware <here>")
    succeed(mirror.run())
    assert list(root(mirror)["projects"]) == ["six"]
    document = page(mirror, "bad")
    assert document["files"] == []
    assert document["project-status"] == {"status": "quarantined", "reason": "malware <here>"}
    assert not [name for name in stored(mirror) if name.startswith("bad")]
    assert kept_aside(mirror) == {"bad-1.0-py3-none-any.whl", "bad-1.0-py3-none-any.whl.metadata"}
    assert mirror.status()["hidden"] == 2
    assert problems(mirror, index) == []


@pytest.mark.case(15)
@pytest.mark.parametrize("dialect", ["json", "json-no-serials"])
def test_a_cleared_quarantine_brings_the_project_back_without_a_transfer(
    dialect: Dialect, each_layout: Mirror, index: FakeIndex
) -> None:
    mirror, index.dialect = each_layout, dialect
    fill(index, "bad", "six")
    succeed(mirror.run())
    index.quarantine("bad")
    succeed(mirror.run())
    before = stamps(mirror.web)
    index.clear_requests()
    succeed(mirror.run())
    assert index.paths("/packages/") == []
    assert dialect != "json" or index.paths() == ["/simple/"]
    assert written(before, stamps(mirror.web)) == set()
    index.clear_quarantine("bad")
    succeed(mirror.run())
    assert index.paths("/packages/") == []
    assert kept_aside(mirror) == set()
    assert mirror.status()["hidden"] == 0
    assert list(root(mirror)["projects"]) == ["bad", "six"]
    assert filenames(mirror, "bad") == ["bad-1.0-py3-none-any.whl"]
    assert problems(mirror, index) == []


@pytest.mark.case(15)
def test_the_only_project_of_a_mirror_comes_back_from_quarantine_without_a_transfer(
    mirror: Mirror, index: FakeIndex
) -> None:
    """Nothing is under web/packages then, and yet not everything is to be fetched."""
    fill(index, "bad")
    index.add_project("empty")
    succeed(mirror.run())
    index.quarantine("bad")
    succeed(mirror.run())
    assert stored(mirror) == set()
    index.clear_quarantine("bad")
    index.clear_requests()
    succeed(mirror.run())
    assert index.paths("/packages/") == []
    assert problems(mirror, index) == []


@pytest.mark.case(14)
@pytest.mark.parametrize("allowed", [False, True])
def test_while_a_quarantine_lasts_no_run_shows_a_file(allowed: bool, mirror: Mirror, index: FakeIndex) -> None:
    """Also where the project is asked for in every run."""
    if allowed:
        mirror.settings |= {"plugins.enabled": "allowlist_project", "allowlist.packages": "bad\nsix"}
    fill(index, "bad", "six")
    succeed(mirror.run())
    place = next((mirror.web / "packages").rglob("bad-1.0-py3-none-any.whl"))
    index.quarantine("bad")
    succeed(mirror.run())
    place.parent.mkdir(parents=True, exist_ok=True)
    watch = Watch([place.parent])
    succeed(mirror.run("--force-check"))
    (place.parent / "end").touch()
    (place.parent / "end").unlink()
    assert watch.events() == [("gone", "end")]
    watch.close()
    assert kept_aside(mirror) == {place.name, f"{place.name}.metadata"}


@pytest.mark.case(15)
def test_a_hidden_file_that_rotted_is_fetched_again(each_layout: Mirror, index: FakeIndex) -> None:
    fill(index, "bad", "six")
    succeed(each_layout.run())
    index.quarantine("bad")
    succeed(each_layout.run())
    for path in (each_layout.directory / ".fastmirror/hidden").rglob("bad*"):
        if path.is_file():
            path.write_bytes(b"x" * path.stat().st_size)
    index.clear_quarantine("bad")
    each_layout.run()
    succeed(each_layout.run("--retry-failed", set=AT_ONCE))
    assert problems(each_layout, index, leftovers=True) == []


def test_a_quarantined_projects_shared_file_stays_for_the_other(each_layout: Mirror, index: FakeIndex) -> None:
    for name in ("bad", "good"):
        index.add_file(
            name, "shared-1.0-py3-none-any.whl", metadata=METADATA, upload_time="2024-05-06T07:08:09.101112Z"
        )
    succeed(each_layout.run())
    index.quarantine("bad")
    succeed(each_layout.run())
    assert problems(each_layout, index) == []
    assert kept_aside(each_layout) == set()


def test_what_a_project_dropped_before_its_quarantine_goes_at_once(mirror: Mirror, index: FakeIndex) -> None:
    fill(index, "bad", "six")
    index.add_file("bad", "bad-2.0.tar.gz")
    succeed(mirror.run())
    index.remove_file("bad", "bad-2.0.tar.gz")
    succeed(mirror.run())
    assert "bad-2.0.tar.gz" in stored(mirror)
    index.quarantine("bad")
    succeed(mirror.run())
    assert not [name for name in stored(mirror) if name.startswith("bad")]
    assert kept_aside(mirror) == {"bad-1.0-py3-none-any.whl", "bad-1.0-py3-none-any.whl.metadata"}


@pytest.mark.case(16)
def test_a_quarantined_release_leaves_its_page_and_comes_back_within_its_grace(
    mirror: Mirror, index: FakeIndex
) -> None:
    fill(index, "six")
    file = index.add_file("six", "six-2.0-py3-none-any.whl", metadata=METADATA)
    succeed(mirror.run())
    index.remove_file("six", file.filename, keep_content=True)
    succeed(mirror.run())
    assert filenames(mirror, "six") == ["six-1.0-py3-none-any.whl"]
    index.catalogue.add_file("six", file)
    index.clear_requests()
    succeed(mirror.run())
    assert filenames(mirror, "six") == ["six-1.0-py3-none-any.whl", "six-2.0-py3-none-any.whl"]
    assert index.paths("/packages/") == []


@pytest.mark.case(46)
@pytest.mark.parametrize("cleared", [False, True])
def test_a_run_killed_while_it_hides_leaves_whole_pages_and_the_next_one_goes_on(
    cleared: bool, mirror: Mirror, index: FakeIndex
) -> None:
    names = [f"p{number}" for number in range(8)]
    fill(index, *names, "six")
    succeed(mirror.run())
    for name in names:
        index.quarantine(name)
    if cleared:
        succeed(mirror.run())
        for name in names:
            index.clear_quarantine(name)
    process = mirror.start()
    until(lambda: bool(kept_aside(mirror)) is not cleared or process.poll() is not None, "files are on their way")
    end_group(process, signal.SIGKILL)
    process.communicate()
    until(lambda: not group_lives(process.pid), "all processes of the run are gone")
    assert check_tree(mirror.web, "hashed", settled=False) == []
    if cleared:
        index.clear_requests()
    succeed(mirror.run())
    succeed(mirror.run())
    assert problems(mirror, index) == []
    assert len(kept_aside(mirror)) == (0 if cleared else 16)
    assert not cleared or index.paths("/packages/") == []


def test_a_run_killed_between_the_page_of_a_quarantine_and_its_files_hides_them_in_the_next(
    mirror: Mirror, index: FakeIndex
) -> None:
    fill(index, "bad", "six")
    index.add_project("slow")
    succeed(mirror.run())
    index.quarantine("bad")
    index.touch("slow")
    gate = index.gate("/simple/slow/")
    process = mirror.start(set={"timeout": "60"})
    gate.wait()
    until(lambda: not filenames(mirror, "bad"), "the page is out")
    end_group(process, signal.SIGKILL)
    process.communicate()
    until(lambda: not group_lives(process.pid), "all processes of the run are gone")
    gate.open()
    assert check_tree(mirror.web, "hashed", settled=False) == []
    assert "bad-1.0-py3-none-any.whl" in stored(mirror)
    succeed(mirror.run())
    assert problems(mirror, index) == []
    assert "bad-1.0-py3-none-any.whl" in kept_aside(mirror)


# removed-projects


@pytest.mark.case(13)
def test_hide_keeps_what_upstream_removed_aside_and_brings_it_back_without_a_transfer(
    each_layout: Mirror, index: FakeIndex
) -> None:
    each_layout.settings["removed-projects"] = "hide"
    fill(index, "gone", "six")
    succeed(each_layout.run())
    (file,) = index.projects()["gone"].files
    index.remove_project("gone")
    succeed(each_layout.run())
    assert problems(each_layout, index) == []
    assert kept_aside(each_layout) == {file.filename, f"{file.filename}.metadata"}
    assert last_run(each_layout)["removed"] == 1
    index.catalogue.add_file("gone", file)
    index.clear_requests()
    succeed(each_layout.run())
    assert index.paths("/packages/") == []
    assert problems(each_layout, index) == []


@pytest.mark.case(13)
def test_keep_serves_what_upstream_removed_asks_once_and_says_so(mirror: Mirror, index: FakeIndex) -> None:
    mirror.settings |= {"removed-projects": "keep", "max-removals": "0"}
    fill(index, "gone", "six")
    succeed(mirror.run())
    index.remove_project("gone")
    index.clear_requests()
    succeed(mirror.run(set=AT_ONCE))
    assert index.paths() == ["/simple/", "/simple/gone/"]
    assert list(root(mirror)["projects"]) == ["gone", "six"]
    assert filenames(mirror, "gone") == ["gone-1.0-py3-none-any.whl"]
    assert mirror.status()["kept"] == 1
    assert "kept: 1 project that upstream removed" in mirror.run(command="status").stdout
    index.clear_requests()
    succeed(mirror.run())
    assert index.paths() == ["/simple/"]
    mirror.settings |= {"removed-projects": "delete", "max-removals": "1"}
    succeed(mirror.run(set=AT_ONCE))
    assert problems(mirror, index) == []


def test_a_quarantined_project_that_is_removed_at_last_takes_its_hidden_files_along(
    mirror: Mirror, index: FakeIndex
) -> None:
    index.dialect = "json-no-serials"
    fill(index, "bad", "six")
    succeed(mirror.run())
    index.quarantine("bad")
    succeed(mirror.run())
    index.remove_project("bad")
    succeed(mirror.run(set=AT_ONCE))
    assert kept_aside(mirror) == set()
    assert problems(mirror, index) == []


# Listed, and not there


@pytest.mark.case(12)
def test_a_listed_project_without_a_page_is_gone_upstream_asked_for_once_more_and_when_its_serial_changes(
    mirror: Mirror, index: FakeIndex
) -> None:
    fill(index, "ghost", "six")
    index.fault("/simple/ghost/", faults.status(404))
    done = mirror.run()
    succeed(done)
    assert "1 gone upstream" in done.stdout
    assert (mirror.directory / "status").read_text() == str(index.serial)
    assert mirror.status()["failing"] == mirror.status()["kept"] == 0
    for asked in (["/simple/ghost/"], []):
        index.touch("six")
        index.clear_requests()
        succeed(mirror.run())
        assert index.paths("/simple/ghost/") == asked
    index.clear_faults()
    index.touch("ghost")
    succeed(mirror.run())
    assert problems(mirror, index) == []


@pytest.mark.case(12)
def test_a_listed_project_that_was_published_is_removed_when_it_was_not_there_twice(
    mirror: Mirror, index: FakeIndex
) -> None:
    fill(index, "ghost", "six")
    succeed(mirror.run())
    index.touch("ghost")
    index.fault("/simple/ghost/", faults.status(404))
    done = mirror.run(set=AT_ONCE)
    assert done.status == 1
    assert "  ghost: page: HTTP status 404, though the root index lists it" in done.stdout
    assert filenames(mirror, "ghost") == ["ghost-1.0-py3-none-any.whl"]
    done = mirror.run(set={**AT_ONCE, "max-removals": "0"})
    assert done.status == 4
    assert "held back by the deletion guard: 1 project (hint: --set max-removals=1)" in done.stdout
    succeed(mirror.run(set=AT_ONCE))
    assert list(root(mirror)["projects"]) == ["six"]
    assert problems(mirror, index, absent=["ghost"]) == []


@pytest.mark.case(12)
def test_a_listed_project_that_was_not_there_once_is_mirrored_when_it_is_back(mirror: Mirror, index: FakeIndex) -> None:
    fill(index, "ghost", "six")
    succeed(mirror.run())
    index.touch("ghost")
    index.fault("/simple/ghost/", faults.status(404), times=1)
    assert mirror.run(set=AT_ONCE).status == 1
    succeed(mirror.run(set=AT_ONCE))
    assert problems(mirror, index) == []


def test_a_project_quarantined_from_the_first_is_not_listed(mirror: Mirror, index: FakeIndex) -> None:
    fill(index, "bad", "six")
    index.quarantine("bad")
    succeed(mirror.run("bad", "six", command="sync"))
    assert list(root(mirror)["projects"]) == ["six"]
    assert stored(mirror) == {"six-1.0-py3-none-any.whl", "six-1.0-py3-none-any.whl.metadata"}


# Files


@pytest.mark.case(45)
def test_a_removed_file_leaves_its_page_at_once_and_the_disk_later(each_layout: Mirror, index: FakeIndex) -> None:
    fill(index, "six")
    index.add_file("six", "six-2.0.tar.gz")
    succeed(each_layout.run())
    index.remove_file("six", "six-2.0.tar.gz")
    succeed(each_layout.run())
    assert filenames(each_layout, "six") == ["six-1.0-py3-none-any.whl"]
    assert "six-2.0.tar.gz" in stored(each_layout)
    succeed(each_layout.run(set=AT_ONCE))
    assert "six-2.0.tar.gz" not in stored(each_layout)
    assert problems(each_layout, index) == []


def test_a_file_that_comes_back_within_its_grace_is_spared(mirror: Mirror, index: FakeIndex) -> None:
    fill(index, "six")
    file = index.add_file("six", "six-2.0-py3-none-any.whl", metadata=METADATA)
    succeed(mirror.run())
    index.remove_file("six", file.filename)
    succeed(mirror.run())
    index.catalogue.add_file("six", file)
    index.clear_requests()
    succeed(mirror.run())
    assert index.paths("/packages/") == []
    succeed(mirror.run(set=AT_ONCE))
    assert problems(mirror, index) == []


def test_a_file_replaced_under_its_name_is_published_anew_each_time(each_layout: Mirror, index: FakeIndex) -> None:
    fill(index, "six", "idna")
    succeed(each_layout.run())
    for content in (b"second", b"third", b"fourth"):
        index.add_file("six", "six-1.0-py3-none-any.whl", content=content, metadata=METADATA + content)
        succeed(each_layout.run(set=AT_ONCE))
        assert problems(each_layout, index) == []


def test_a_name_freed_by_one_project_may_be_taken_by_another(each_layout: Mirror, index: FakeIndex) -> None:
    index.add_file("first", "tool-1.0.tar.gz", content=b"of the first")
    fill(index, "six")
    succeed(each_layout.run())
    index.remove_project("first")
    index.add_file("second", "tool-1.0.tar.gz", content=b"of the second")
    succeed(each_layout.run())
    assert problems(each_layout, index, leftovers=True) == []
    succeed(each_layout.run(set=AT_ONCE))
    assert problems(each_layout, index) == []


@pytest.mark.case(45)
def test_a_shared_file_and_its_metadata_stay_while_a_project_names_them(each_layout: Mirror, index: FakeIndex) -> None:
    for name in ("a", "b", "c"):
        index.add_file(
            name, "shared-1.0-py3-none-any.whl", metadata=METADATA, upload_time="2024-05-06T07:08:09.101112Z"
        )
    succeed(each_layout.run())
    for name in ("a", "b"):
        index.remove_project(name, keep_content=True)
        succeed(each_layout.run(set=AT_ONCE))
        assert problems(each_layout, index) == []
    index.remove_project("c")
    fill(index, "six")
    succeed(each_layout.run(set=AT_ONCE))
    assert problems(each_layout, index) == []


@pytest.mark.case(23)
def test_an_html_page_without_a_link_fails_and_removes_nothing(mirror: Mirror, index: FakeIndex) -> None:
    index.dialect = "html"
    fill(index, "six", "idna")
    succeed(mirror.run())
    index.fault("/simple/six/", faults.html_instead())
    done = mirror.run(set=AT_ONCE)
    assert done.status == 1
    assert "  six: no hashed link on the page of a project that had files" in done.stdout
    assert problems(mirror, index) == []


# The guard


@pytest.mark.case(8)
def test_more_removals_than_the_guard_allows_remove_none_and_updates_still_run(
    mirror: Mirror, index: FakeIndex
) -> None:
    names = [f"p{number}" for number in range(25)]
    fill(index, *names)
    succeed(mirror.run())
    before = set(stored(mirror))
    for name in names[:21]:
        index.remove_project(name)
    index.add_file(names[-1], f"{names[-1]}-2.0.tar.gz")
    planned = json.loads(mirror.run("--json", command="plan").stdout)
    assert (planned["held"], planned["remove"]) == (True, sorted(names[:21]))
    for _ in range(2):
        index.clear_requests()
        done = mirror.run(set=AT_ONCE)
        assert done.status == 4
        assert "held back by the deletion guard: 21 projects" in done.stdout
        assert done.stdout.splitlines()[-1] == "not complete: removals held back"
        assert not [path for path in index.paths("/simple/") if path.removesuffix("/")[8:] in names[:21]]
        assert set(root(mirror)["projects"]) == set(names)
        assert stored(mirror) == before | {f"{names[-1]}-2.0.tar.gz"}
        assert filenames(mirror, names[-1])[-1] == f"{names[-1]}-2.0.tar.gz"
    assert mirror.run(set={**AT_ONCE, "max-removals": "20"}).status == 4
    succeed(mirror.run(set={**AT_ONCE, "max-removals": "21"}))
    assert problems(mirror, index) == []
    assert (mirror.directory / "status").read_text() == str(index.serial)


def test_twenty_removals_pass_the_guard_of_a_small_mirror(mirror: Mirror, index: FakeIndex) -> None:
    names = [f"p{number}" for number in range(22)]
    fill(index, *names)
    succeed(mirror.run())
    for name in names[:20]:
        index.remove_project(name)
    succeed(mirror.run(set=AT_ONCE))
    assert problems(mirror, index) == []


def test_named_projects_that_are_gone_are_removed_under_the_guard(mirror: Mirror, index: FakeIndex) -> None:
    fill(index, "a", "b", "six")
    succeed(mirror.run())
    for name in ("a", "b"):
        index.remove_project(name)
    done = mirror.run("a", "b", "six", command="sync", set={**AT_ONCE, "max-removals": "1"})
    assert done.status == 4
    assert list(root(mirror)["projects"]) == ["a", "b", "six"]
    assert filenames(mirror, "a") == ["a-1.0-py3-none-any.whl"]
    succeed(mirror.run("a", "b", "six", command="sync", set=AT_ONCE))
    assert problems(mirror, index) == []


def test_more_files_than_the_guard_allows_are_hidden_but_not_unlinked(mirror: Mirror, index: FakeIndex) -> None:
    fill(index, "six")
    for number in range(3):
        index.add_file("six", f"six-2.{number}.tar.gz")
    succeed(mirror.run())
    for number in range(3):
        index.remove_file("six", f"six-2.{number}.tar.gz")
    for _ in range(2):
        done = mirror.run(set={**AT_ONCE, "max-removed-files": "2"})
        assert done.status == 4
        assert "held back by the deletion guard: 3 files" in done.stdout
        assert filenames(mirror, "six") == ["six-1.0-py3-none-any.whl"]
        assert len(stored(mirror)) == 5
    succeed(mirror.run(set={**AT_ONCE, "max-removed-files": "3"}))
    assert problems(mirror, index) == []


def test_projects_that_upstream_hides_or_only_forgot_to_list_do_not_fill_up_the_guard(
    mirror: Mirror, index: FakeIndex
) -> None:
    index.dialect = "json-no-serials"
    names = [f"p{number:02d}" for number in range(24)]
    fill(index, *names)
    succeed(mirror.run())
    for group in (names[:12], names[12:22]):
        for name in group:
            index.quarantine(name)
        succeed(mirror.run())
        assert problems(mirror, index) == []
    index.remove_project(names[22])
    succeed(mirror.run(set=AT_ONCE))
    assert list(root(mirror)["projects"]) == [names[23]]


# Narrowed runs


@pytest.mark.parametrize("arguments", [("sync", "six"), ("mirror", "--project", "six")])
def test_a_narrowed_run_removes_nothing_else(arguments: tuple[str, ...], mirror: Mirror, index: FakeIndex) -> None:
    fill(index, "gone", "six")
    succeed(mirror.run())
    index.remove_project("gone")
    index.add_file("six", "six-2.0.tar.gz")
    command, *rest = arguments
    succeed(mirror.run(*rest, command=command, set=AT_ONCE))
    assert list(root(mirror)["projects"]) == ["gone", "six"]
    assert filenames(mirror, "gone") == ["gone-1.0-py3-none-any.whl"]
    assert "gone-1.0-py3-none-any.whl" in stored(mirror)
    assert index.paths("/simple/gone/") == ["/simple/gone/"] * (len(index.paths("/simple/gone/")))
    succeed(mirror.run(set=AT_ONCE))
    assert problems(mirror, index) == []


def test_an_allowlist_of_names_removes_what_upstream_removed_and_what_it_does_not_name(
    mirror: Mirror, index: FakeIndex
) -> None:
    fill(index, "a", "b", "c")
    succeed(mirror.run())
    index.remove_project("a")
    mirror.settings |= {"plugins.enabled": "allowlist_project", "allowlist.packages": "a\nb"}
    succeed(mirror.run(set=AT_ONCE))
    assert list(root(mirror)["projects"]) == ["b"]
    assert problems(mirror, index, absent=["c"]) == []
