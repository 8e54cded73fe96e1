"""A changed selection acts on what is there already, in the next run, without any change upstream."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import pytest

from tests.conftest import end_group
from tests.fakes import faults
from tests.processes import group_lives, until
from tests.published import filenames, page_file, root, stamps, stored, succeed, written
from tests.tree import check_tree

if TYPE_CHECKING:
    from collections.abc import Collection

    from tests.conftest import Mirror
    from tests.fakes.index import FakeIndex

AT_ONCE = {"delete-grace": "0"}
MANY = [f"name-{number}" for number in range(501)]  # too many to be asked for one by one


def fill(index: FakeIndex, *names: str) -> None:
    for name in names:
        index.add_file(name, f"{name}-1.0-py3-none-any.whl", metadata=b"Metadata-Version: 2.1\n")


def allow(mirror: Mirror, *names: str) -> None:
    mirror.settings |= {"plugins.enabled": "allowlist_project", "allowlist.packages": "\n".join(names)}


def block(mirror: Mirror, *names: str) -> None:
    mirror.settings |= {"plugins.enabled": "blocklist_project", "blocklist.packages": "\n".join(names)}


def allow_all(mirror: Mirror) -> None:
    for key in ("plugins.enabled", "allowlist.packages", "blocklist.packages"):
        mirror.settings.pop(key, None)


def assert_holds(mirror: Mirror, index: FakeIndex, names: Collection[str]) -> None:
    assert set(root(mirror)["projects"]) == set(names)
    assert check_tree(mirror.web, "hashed", index, absent=set(index.projects()) - set(names)) == []


def assert_idle(mirror: Mirror, index: FakeIndex, asked: list[str]) -> None:
    """One more run asks for this alone, and writes nothing."""
    before = stamps(mirror.web)
    index.clear_requests()
    succeed(mirror.run(set=AT_ONCE))
    assert sorted(index.paths()) == asked
    assert written(before, stamps(mirror.web)) == set()


@pytest.mark.case(54)
def test_a_project_newly_blocked_is_removed_without_being_asked_for_and_comes_back_when_it_is_not(
    mirror: Mirror, index: FakeIndex
) -> None:
    fill(index, "a", "b", "c")
    succeed(mirror.run())
    block(mirror, "b")
    index.clear_requests()
    succeed(mirror.run(set=AT_ONCE))
    assert index.paths() == ["/simple/"]
    assert_holds(mirror, index, ["a", "c"])
    assert not page_file(mirror, "b").exists()
    assert not [name for name in stored(mirror) if name.startswith("b-")]
    assert_idle(mirror, index, ["/simple/"])
    block(mirror, "c")
    index.clear_requests()
    succeed(mirror.run(set=AT_ONCE))
    assert index.paths("/simple/") == ["/simple/", "/simple/b/"]
    assert all("/b-1.0" in path for path in index.paths("/packages/"))
    assert_holds(mirror, index, ["a", "b"])
    assert_idle(mirror, index, ["/simple/"])


@pytest.mark.case(54)
def test_a_short_allowlist_takes_up_what_it_names_anew_and_drops_what_it_names_no_more(
    mirror: Mirror, index: FakeIndex
) -> None:
    fill(index, "a", "b", "c")
    allow(mirror, "a", "b")
    succeed(mirror.run())
    allow(mirror, "b", "c")
    index.clear_requests()
    succeed(mirror.run(set=AT_ONCE))
    assert sorted(index.paths("/simple/")) == ["/simple/b/", "/simple/c/"]
    assert all("/c-1.0" in path for path in index.paths("/packages/"))
    assert_holds(mirror, index, ["b", "c"])
    assert_idle(mirror, index, ["/simple/b/", "/simple/c/"])


@pytest.mark.case(54)
def test_a_long_allowlist_takes_up_what_it_names_anew_and_drops_what_it_names_no_more(
    mirror: Mirror, index: FakeIndex
) -> None:
    fill(index, "a", "b", "c")
    allow(mirror, "a", "b", *MANY)
    succeed(mirror.run())
    allow(mirror, "b", "c", *MANY)
    index.clear_requests()
    succeed(mirror.run(set=AT_ONCE))
    assert index.paths("/simple/") == ["/simple/", "/simple/c/"]
    assert all("/c-1.0" in path for path in index.paths("/packages/"))
    assert_holds(mirror, index, ["b", "c"])
    assert_idle(mirror, index, ["/simple/"])


@pytest.mark.case(54)
def test_from_all_to_a_short_allowlist_and_back_only_what_is_missing_is_fetched(
    mirror: Mirror, index: FakeIndex
) -> None:
    """Upstream's root index is the same all the time, and was applied for all."""
    fill(index, "a", "b", "c")
    succeed(mirror.run())
    allow(mirror, "b")
    index.clear_requests()
    succeed(mirror.run(set=AT_ONCE))
    assert index.paths() == ["/simple/b/"]
    assert_holds(mirror, index, ["b"])
    allow_all(mirror)
    index.clear_requests()
    succeed(mirror.run())
    assert sorted(index.paths("/simple/")) == ["/simple/", "/simple/a/", "/simple/c/"]
    assert not [path for path in index.paths("/packages/") if "/b-1.0" in path]
    assert_holds(mirror, index, ["a", "b", "c"])


@pytest.mark.parametrize("choose", [allow, block])
def test_what_was_asked_for_by_name_survives_and_is_kept_up_to_date(
    choose: object, mirror: Mirror, index: FakeIndex
) -> None:
    fill(index, "a", "b", "c")
    succeed(mirror.run())
    succeed(mirror.run("c", command="sync"))
    (allow(mirror, "a") if choose is allow else block(mirror, "b", "c"))
    succeed(mirror.run(set=AT_ONCE))
    assert_holds(mirror, index, ["a", "c"])
    index.add_file("c", "c-2.0.tar.gz")
    succeed(mirror.run(set=AT_ONCE))
    assert "c-2.0.tar.gz" in filenames(mirror, "c")
    assert_holds(mirror, index, ["a", "c"])


def test_a_narrowed_run_leaves_what_is_denied_to_the_next_whole_one(mirror: Mirror, index: FakeIndex) -> None:
    fill(index, "a", "b", "c")
    succeed(mirror.run())
    block(mirror, "b")
    succeed(mirror.run("a", command="sync", set=AT_ONCE))
    assert_holds(mirror, index, ["a", "b", "c"])
    succeed(mirror.run(set=AT_ONCE))
    assert_holds(mirror, index, ["a", "c"])


def test_plan_says_what_is_no_longer_selected_first_and_changes_nothing(mirror: Mirror, index: FakeIndex) -> None:
    fill(index, "a", "b", "c")
    succeed(mirror.run())
    index.remove_project("a")
    block(mirror, "c")
    before = stamps(mirror.web)
    planned = json.loads(mirror.run("--json", command="plan").stdout)
    assert (planned["remove"], planned["denied"], planned["held"]) == (["c", "a"], ["c"], False)
    lines = mirror.run(command="plan").stdout.splitlines()
    start = lines.index("to remove: 2 projects")
    assert lines[start + 1 : start + 3] == ["  no longer selected: c", "  no longer listed: a"]
    held = mirror.run(command="plan", set={"max-removals": "1"}).stdout
    assert "to remove: 2 projects, which the deletion guard would hold back" in held
    assert written(before, stamps(mirror.web)) == set()
    allow(mirror, "b")
    planned = json.loads(mirror.run("--json", command="plan").stdout)
    assert (planned["denied"], planned["names"]) == (["a", "c"], ["b"])


@pytest.mark.case(54)
@pytest.mark.parametrize("short", [False, True])
def test_the_guard_holds_back_what_is_no_longer_selected_and_fetches_what_is_new(
    short: bool, mirror: Mirror, index: FakeIndex
) -> None:
    names = [f"p{number:02d}" for number in range(23)]
    fill(index, *names, "new")
    block(mirror, "new")
    succeed(mirror.run())
    allow(mirror, names[0], "new", *([] if short else MANY))
    for _ in range(2):
        done = mirror.run(set=AT_ONCE)
        assert done.status == 4
        assert "held back by the deletion guard: 22 projects (hint: --set max-removals=22)" in done.stdout
        assert_holds(mirror, index, [*names, "new"]) if not short else None
        assert set(root(mirror)["projects"]) == {*names, "new"}
    if short:  # what the list names and upstream has not would be a failure
        allow(mirror, names[0], "new")
    succeed(mirror.run(set={**AT_ONCE, "max-removals": "22"}))
    assert_holds(mirror, index, [names[0], "new"])


def test_removals_of_both_kinds_are_counted_together(mirror: Mirror, index: FakeIndex) -> None:
    names = [f"p{number:02d}" for number in range(30)]
    fill(index, *names)
    succeed(mirror.run())
    for name in names[:11]:
        index.remove_project(name)
    block(mirror, *names[11:21])
    done = mirror.run(set=AT_ONCE)
    assert done.status == 4
    assert set(root(mirror)["projects"]) == set(names)
    succeed(mirror.run(set={**AT_ONCE, "max-removals": "21"}))
    assert_holds(mirror, index, names[21:])


def test_a_selection_taken_back_after_a_run_that_was_cut_off_is_whole_again(mirror: Mirror, index: FakeIndex) -> None:
    names = [f"p{number:02d}" for number in range(10)]
    fill(index, *names)
    succeed(mirror.run())
    block(mirror, *names[:9])
    process = mirror.start(set=AT_ONCE)
    until(lambda: len(list(root(mirror)["projects"])) == 1 or process.poll() is not None, "the root index is out")
    end_group(process, signal.SIGKILL)
    process.communicate()
    until(lambda: not group_lives(process.pid), "all processes of the run are gone")
    assert check_tree(mirror.web, "hashed", settled=False) == []
    allow_all(mirror)
    succeed(mirror.run(set=AT_ONCE))
    succeed(mirror.run(set=AT_ONCE))
    assert_holds(mirror, index, names)


def test_a_selection_taken_back_after_an_unfinished_run_is_whole_again(mirror: Mirror, index: FakeIndex) -> None:
    """The root index of before is still upstream's, but not all of it is held any more."""
    fill(index, "a", "b", "c")
    block(mirror, "c")
    succeed(mirror.run())
    block(mirror, "a")
    index.fault("/simple/c/", faults.status(403))
    mirror.run(set=AT_ONCE)
    index.clear_faults()
    block(mirror, "c")
    succeed(mirror.run(set=AT_ONCE))
    assert_holds(mirror, index, ["a", "b"])


def test_a_changed_form_of_pages_asks_for_every_project_once_and_no_file(mirror: Mirror, index: FakeIndex) -> None:
    fill(index, "a", "b")
    succeed(mirror.run())
    mirror.settings["root_uri"] = "https://files.example"
    index.clear_requests()
    succeed(mirror.run())
    assert sorted(index.paths()) == ["/simple/", "/simple/a/", "/simple/b/"]
    assert index.paths("/packages/") == []
    index.clear_requests()
    succeed(mirror.run())
    assert index.paths() == ["/simple/"]


def test_settings_taken_back_after_an_unfinished_run_leave_no_page_in_the_other_form(
    mirror: Mirror, index: FakeIndex
) -> None:
    fill(index, "a", "b")
    succeed(mirror.run())
    index.fault("/simple/b/", faults.status(403))
    assert mirror.run("--max-time", "0", set={"root_uri": "https://files.example"}).status == 1
    assert mirror.run("a", command="sync", set={"root_uri": "https://files.example"}).status == 0
    index.clear_faults()
    succeed(mirror.run("--retry-failed"))
    assert check_tree(mirror.web, "hashed", index) == []


# Filters of versions, files and metadata ------------------------------------------------------------------


def platforms(index: FakeIndex) -> None:
    for version in ("1.0", "2.0", "2.1rc1"):
        index.add_file("Foo.Bar", f"foo_bar-{version}.tar.gz")
        index.add_file("Foo.Bar", f"foo_bar-{version}-cp311-cp311-win_amd64.whl")
    index.add_file("six", "six-1.0.tar.gz")


@pytest.mark.case(54)
@pytest.mark.parametrize(
    ("settings", "left"),
    [
        (
            {"plugins.enabled": "exclude_platform", "blocklist.platforms": "windows"},
            ["foo_bar-1.0.tar.gz", "foo_bar-2.0.tar.gz", "foo_bar-2.1rc1.tar.gz"],
        ),
        (
            {"plugins.enabled": "prerelease_release\nexclude_platform", "blocklist.platforms": "win"},
            ["foo_bar-1.0.tar.gz", "foo_bar-2.0.tar.gz"],
        ),
        (
            {"plugins.enabled": "blocklist_release", "blocklist.packages": "foo-bar<2\nfoo_bar==2.1rc1"},
            ["foo_bar-2.0-cp311-cp311-win_amd64.whl", "foo_bar-2.0.tar.gz"],
        ),
        (
            {"plugins.enabled": "latest_release", "latest_release.keep": "1"},
            ["foo_bar-2.0-cp311-cp311-win_amd64.whl", "foo_bar-2.0.tar.gz"],
        ),
    ],
)
def test_a_filter_of_versions_or_files_acts_at_once_and_back_again(mirror: Mirror, index: FakeIndex, settings, left):
    platforms(index)
    succeed(mirror.run())
    everything = filenames(mirror, "foo-bar")
    index.clear_requests()
    mirror.settings |= settings
    succeed(mirror.run(set=AT_ONCE))
    assert filenames(mirror, "foo-bar") == left
    assert index.paths("/packages/") == []
    assert stored(mirror) == {*left, "six-1.0.tar.gz"}
    assert_idle(mirror, index, ["/simple/"])
    for key in settings:
        del mirror.settings[key]
    index.clear_requests()
    succeed(mirror.run())
    assert filenames(mirror, "foo-bar") == everything
    assert len(index.paths("/packages/")) == len(everything) - len(left)


def test_only_the_projects_that_a_changed_line_touches_are_planned_anew(mirror: Mirror, index: FakeIndex):
    platforms(index)
    mirror.settings |= {"plugins.enabled": "blocklist_release", "blocklist.packages": "six==9"}
    succeed(mirror.run())
    index.clear_requests()
    mirror.settings["blocklist.packages"] = "six==9\nfoo-bar==1.0"
    succeed(mirror.run())
    assert index.paths("/simple/?") == []
    assert [path for path in index.paths("/simple/") if path != "/simple/"] == ["/simple/foo-bar/"]


@pytest.mark.case(54)
def test_a_project_that_a_metadata_filter_denies_goes_and_comes_back(mirror: Mirror, index: FakeIndex):
    index.add_file("six", "six-1.0.tar.gz", content=b"x" * 5000)
    index.add_file("idna", "idna-1.0.tar.gz")
    succeed(mirror.run())
    mirror.settings |= {"plugins.enabled": "size_project_metadata", "size_project_metadata.max_package_size": "1k"}
    succeed(mirror.run(set=AT_ONCE))
    assert_holds(mirror, index, {"idna"})
    assert_idle(mirror, index, ["/simple/"])
    mirror.settings["size_project_metadata.max_package_size"] = "1M"
    succeed(mirror.run())
    assert_holds(mirror, index, {"six", "idna"})
