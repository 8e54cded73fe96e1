"""Projects that upstream leaves without a file, or quarantines, in bulk: no run empties more than the guard allows."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.bucket import bind
from tests.conftest import end_group
from tests.fakes import faults
from tests.processes import group_lives, until
from tests.published import filenames, last_run, page, problems, root, spoil, stored, succeed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.conftest import Mirror
    from tests.fakes.catalogue import FakeFile
    from tests.fakes.index import FakeIndex
    from tests.object_store import ObjectStore

METADATA = b"Metadata-Version: 2.1\n"
AT_ONCE = {"delete-grace": "0"}
FILE_RULES = "regex_release_file_metadata"
NAMES = [f"p{number:02d}" for number in range(30)]
HELD = "held back by the deletion guard: 30 projects (hint: --set max-removals=30)"


class Served(NamedTuple):
    """What readers of a mirror find."""

    projects: list[str]
    pages: dict[str, list[str]]
    files: set[str]


def served(mirror: Mirror) -> Served:
    return Served(list(root(mirror)["projects"]), {name: filenames(mirror, name) for name in NAMES}, stored(mirror))


@pytest.fixture
def full(mirror: Mirror, index: FakeIndex) -> Mirror:
    """A mirror of thirty projects and another, all with a file."""
    for name in [*NAMES, "six"]:
        index.add_file(name, f"{name}-1.0-py3-none-any.whl", metadata=METADATA)
    succeed(mirror.run())
    return mirror


def empty(index: FakeIndex, names: Sequence[str] = NAMES) -> dict[str, FakeFile]:
    """Take every file off these projects' pages; returns the files."""
    files = {name: index.projects()[name].files[0] for name in names}
    for name, file in files.items():
        index.remove_file(name, file.filename, keep_content=True)
    return files


def refill(index: FakeIndex, files: dict[str, FakeFile]) -> None:
    for name, file in files.items():
        index.catalogue.add_file(name, file)


@contextmanager
def same_serials(index: FakeIndex) -> Iterator[None]:
    """What is done to the projects meanwhile bumps no serial."""
    serials = {name: index.projects()[name].serial for name in NAMES}
    yield
    for name, serial in serials.items():
        index.set_serial(name, serial)


def quarantine_listed(index: FakeIndex, *, keep_files: bool) -> None:
    """Mark all pages as quarantined though the root index lists the projects on."""

    def change(document: dict[str, Any]) -> None:
        document["project-status"] = {"status": "quarantined"}
        if not keep_files:
            document["files"] = []

    for name in NAMES:
        index.touch(name)
    index.fault("/simple/p*/", faults.alter(change))


def stays_as_it_was(mirror: Mirror, before: Served, *arguments: str, **settings: str) -> None:
    done = mirror.run(*arguments, set={**AT_ONCE, **settings})
    assert (done.status, served(mirror)) == (4, before)
    assert HELD in done.stdout
    assert done.stdout.splitlines()[-1] == "not complete: removals held back"


# In bulk


@pytest.mark.case(8)
@pytest.mark.parametrize("dialect", ["json", "json-no-serials"])
def test_projects_emptied_in_bulk_are_held_back_run_after_run_while_others_are_updated(
    dialect: Any, full: Mirror, index: FakeIndex
) -> None:
    index.dialect = dialect
    before = served(full)
    empty(index)
    index.add_file("six", "six-2.0.tar.gz")
    before.files.add("six-2.0.tar.gz")
    for _ in range(2):
        index.clear_requests()
        stays_as_it_was(full, before)
        assert set(index.paths("/simple/p")) == {f"/simple/{name}/" for name in NAMES}
        assert last_run(full)["held_removals"] == 30
    assert filenames(full, "six") == ["six-1.0-py3-none-any.whl", "six-2.0.tar.gz"]
    assert not [path for path in (full.directory / ".fastmirror").glob("staging/**/*") if path.is_file()]


@pytest.mark.case(8)
@pytest.mark.parametrize("layout", [{}, {"layout": "flat", "keep-index-versions": "3"}])
def test_projects_emptied_in_bulk_are_let_through_by_max_removals(
    layout: dict[str, str], mirror: Mirror, index: FakeIndex
) -> None:
    mirror.settings |= layout
    for name in [*NAMES, "six"]:
        index.add_file(name, f"{name}-1.0-py3-none-any.whl", metadata=METADATA)
    succeed(mirror.run())
    before = served(mirror)
    empty(index)
    index.touch("six")
    stays_as_it_was(mirror, before)
    stays_as_it_was(mirror, before, **{"max-removals": "29"})
    succeed(mirror.run(set={**AT_ONCE, "max-removals": "30"}))
    assert not any(served(mirror).pages.values())
    assert "keep-index-versions" in layout or problems(mirror, index) == []
    assert (mirror.directory / "status").read_text() == str(index.serial)


@pytest.mark.case(8)
@pytest.mark.parametrize("keep_files", [False, True])
def test_projects_quarantined_in_bulk_are_held_back(keep_files: bool, full: Mirror, index: FakeIndex) -> None:
    before = served(full)
    quarantine_listed(index, keep_files=keep_files)
    stays_as_it_was(full, before)
    assert full.status()["hidden"] == 0
    succeed(full.run(set={"max-removals": "30"}))
    assert served(full).projects == ["six"]


@pytest.mark.case(8)
def test_after_emptied_projects_were_held_back_the_next_run_follows_an_upstream_that_is_whole_again(
    full: Mirror, index: FakeIndex
) -> None:
    before = served(full)
    files = empty(index)
    stays_as_it_was(full, before)
    refill(index, files)
    index.clear_requests()
    succeed(full.run(set=AT_ONCE))
    assert index.paths("/packages/") == []
    assert served(full) == before
    assert problems(full, index) == []


@pytest.mark.case(8)
def test_what_goes_and_what_is_emptied_counts_together(full: Mirror, index: FakeIndex) -> None:
    for name in NAMES[:15]:
        index.remove_project(name)
    empty(index, NAMES[15:])
    done = full.run(set=AT_ONCE)
    assert done.status == 4
    assert "15 removed" in done.stdout
    assert "held back by the deletion guard: 15 projects (hint: --set max-removals=15)" in done.stdout
    assert list(root(full)["projects"]) == [*NAMES[15:], "six"]
    assert all(filenames(full, name) for name in NAMES[15:])
    succeed(full.run(set={**AT_ONCE, "max-removals": "15"}))
    assert problems(full, index) == []


@pytest.mark.case(8)
def test_a_sweep_that_finds_projects_emptied_in_bulk_comes_back_to_them(full: Mirror, index: FakeIndex) -> None:
    full.settings["sweep"] = "25"
    before = served(full)
    with same_serials(index):
        files = empty(index)
    for _ in range(2):
        index.touch("six")
        index.clear_requests()
        assert (full.run(set=AT_ONCE).status, served(full)) == (4, before)
        assert set(index.paths("/simple/p")) == {f"/simple/{name}/" for name in NAMES[:25]}
    with same_serials(index):
        refill(index, files)
    succeed(full.run(set=AT_ONCE))
    assert problems(full, index) == []


@pytest.mark.case(8)
def test_a_forced_check_and_verify_hold_back_too(full: Mirror, index: FakeIndex) -> None:
    before = served(full)
    empty(index)
    for _ in range(2):
        stays_as_it_was(full, before, "--force-check")
    for name in NAMES:
        spoil(next((full.web / "packages").rglob(f"{name}-*.whl")))
    found = full.run(command="verify", set=AT_ONCE)
    assert (found.status, served(full)) == (4, before)
    assert "30 projects lost all their files upstream: held back by the deletion guard" in found.stdout
    assert found.stdout.splitlines()[-1] == "not well: 30 damaged, removals held back"


@pytest.mark.case(8)
def test_pages_held_back_while_settings_change_get_their_new_form_later(full: Mirror, index: FakeIndex) -> None:
    before = served(full)
    with same_serials(index):
        files = empty(index)
    stays_as_it_was(full, before, **{"simple-format": "JSON"})
    assert all(list((full.web / "simple").rglob(f"{name}.html")) for name in NAMES)
    with same_serials(index):
        refill(index, files)
    succeed(full.run(set={"simple-format": "JSON"}))
    assert not list((full.web / "simple").rglob("p*.html"))


@pytest.mark.case(8)
def test_projects_emptied_in_bulk_are_held_back_in_a_bucket(
    mirror: Mirror, index: FakeIndex, moto_store: ObjectStore
) -> None:
    for name in NAMES:
        index.add_file(name, f"{name}-1.0.tar.gz")
    published = bind(mirror, moto_store)
    succeed(mirror.run())
    before = {path: tag for path, tag in published.tags().items() if path.startswith(("simple/p", "packages/"))}
    empty(index)
    done = mirror.run(set=AT_ONCE)
    assert (done.status, HELD in done.stdout) == (4, True)
    after = published.tags()
    assert {path: after.get(path) for path in before} == before
    succeed(mirror.run(set={**AT_ONCE, "max-removals": "30"}))
    assert not [path for path in published.tags() if path.startswith("packages/")]


# What is no matter of the guard


@pytest.mark.parametrize("others", [0, 20])
def test_twenty_emptied_projects_are_published_whatever_else_the_run_does(
    others: int, full: Mirror, index: FakeIndex
) -> None:
    for number in range(others):
        index.add_file(f"new-{number}", f"new_{number}-1.0.tar.gz")
    empty(index, NAMES[:20])
    succeed(full.run(set=AT_ONCE))
    assert not any(filenames(full, name) for name in NAMES[:20])
    assert problems(full, index) == []


def test_projects_without_files_and_those_emptied_before_do_not_count(full: Mirror, index: FakeIndex) -> None:
    for number in range(25):
        index.add_project(f"bare-{number}")
    for names in (NAMES[:15], NAMES[15:]):
        empty(index, names)
        succeed(full.run(set=AT_ONCE))
    for name in NAMES:
        index.touch(name)
    succeed(full.run("--force-check", set=AT_ONCE))
    assert problems(full, index) == []


@pytest.mark.parametrize(
    "settings",
    [
        {"release-files": "false", "root_uri": "https://files.example"},
        {"plugins.enabled": "regex_release_file_metadata", f"{FILE_RULES}.any:release_file.packagetype": "sdist"},
    ],
)
def test_settings_of_ours_that_empty_every_page_are_not_held_back(
    settings: dict[str, str], full: Mirror, index: FakeIndex
) -> None:
    succeed(full.run(set={**AT_ONCE, **settings}))
    assert stored(full) == set()


# Cut off


@pytest.mark.case(46)
@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL", "max-time"])
def test_a_run_cut_off_before_it_knows_how_many_are_emptied_leaves_them_as_they_were(
    how: str, full: Mirror, index: FakeIndex
) -> None:
    before = served(full)
    empty(index, NAMES[:15])
    for name in [*NAMES[15:], "six"]:
        index.touch(name)
    gate = index.gate("/simple/six/")
    arguments = ["--max-time", "4"] if how == "max-time" else []
    process = full.start(*arguments, set={**AT_ONCE, "timeout": "60"})
    gate.wait()
    until(lambda: full_rows(full, index) == len(NAMES) - 15, "the others are recorded")
    if how != "max-time":
        end_group(process, signal.Signals[how]) if how == "SIGKILL" else process.terminate()
    process.communicate(timeout=30)
    until(lambda: not group_lives(process.pid), "all processes of the run are gone")
    gate.open()
    assert process.returncode == {"SIGTERM": 143, "SIGKILL": -9, "max-time": 1}[how]
    assert served(full) == before
    assert problems(full, None, settled=False) == []
    index.clear_requests()
    succeed(full.run(set=AT_ONCE))
    assert {f"/simple/{name}/" for name in NAMES[:15]} <= set(index.paths())
    succeed(full.run(set=AT_ONCE))
    assert problems(full, index) == []


def full_rows(mirror: Mirror, index: FakeIndex) -> int:
    """How many of those that keep their file show the serial that upstream gives them now."""
    listed = index.projects()
    return sum(page_serial(mirror, name) == listed[name].serial for name in NAMES[15:])


def page_serial(mirror: Mirror, name: str) -> int:
    serial: int = page(mirror, name)["meta"]["_last-serial"]
    return serial
