"""Pages older than the root index says: asked for again, in both forms that caches keep, then left for a later run."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.fakes import faults
from tests.published import filenames, problems, root, stamps, succeed, written

if TYPE_CHECKING:
    from tests.conftest import Mirror
    from tests.fakes.index import FakeIndex

STALE = ("held", "nearer", "new")


def forms_asked(index: FakeIndex, project: str) -> list[str]:
    """In which forms a project's page was asked for, in order."""
    asked = [record for record in index.requests if record.path == f"/simple/{project}/"]
    return ["packed" if "gzip" in record.headers.get("accept-encoding", "") else "plain" for record in asked]


@pytest.mark.case(18)
def test_a_page_that_is_stale_once_is_asked_for_again(mirror: Mirror, index: FakeIndex) -> None:
    index.add_file("six", "six-1.0.tar.gz")
    index.add_file("six", "six-2.0.tar.gz")
    index.fault("/simple/six/", faults.stale(), times=1)
    succeed(mirror.run())
    assert index.paths("/simple/six/") == ["/simple/six/"] * 2
    assert problems(mirror, index) == []


@pytest.mark.case(18)
@pytest.mark.parametrize("transport", ["curl", "requests"])
def test_a_page_that_stays_stale_in_a_caches_packed_form_is_had_in_the_other(
    transport: str, mirror: Mirror, index: FakeIndex
) -> None:
    mirror.settings["transport"] = transport
    index.add_file("six", "six-1.0.tar.gz")
    index.add_file("six", "six-2.0.tar.gz")
    index.fault("/simple/six/", faults.stale(), packed=True)
    succeed(mirror.run())
    assert forms_asked(index, "six") == ["packed", "plain"]
    assert problems(mirror, index) == []


@pytest.mark.case(19)
def test_pages_that_stay_stale_fail_their_projects_and_no_other_until_they_are_fresh(
    mirror: Mirror, index: FakeIndex
) -> None:
    mirror.settings |= {"processes": "1", "index-transfers": "1"}
    for project in ("held", "nearer"):
        index.add_file(project, f"{project}-1.0.tar.gz")
    succeed(mirror.run())
    before = stamps(mirror.web)
    index.add_file("held", "held-2.0.tar.gz")  # its page stays as it was
    index.add_file("nearer", "nearer-2.0.tar.gz")  # its page comes nearer
    index.add_file("nearer", "nearer-3.0.tar.gz")
    index.add_file("new", "new-1.0.tar.gz")  # its page is there, and not the newest
    index.add_file("new", "new-2.0.tar.gz")
    index.add_file("well", "well-1.0.tar.gz")
    for project in STALE:
        index.fault(f"/simple/{project}/", faults.stale())
    index.clear_requests()
    assert mirror.run().status == 1
    assert sorted(mirror.failures()) == sorted(STALE)
    assert all("stale page: serial" in reason for reason in mirror.failures().values())
    for project in STALE:
        assert forms_asked(index, project) == ["packed", "plain", "packed", "plain"]
    asked = index.paths("/simple/")
    assert asked.index("/simple/well/") < max(number for number, path in enumerate(asked) if path == "/simple/held/")

    assert not [path for path in written(before, stamps(mirror.web)) if "held" in path]
    assert filenames(mirror, "nearer") == ["nearer-1.0.tar.gz", "nearer-2.0.tar.gz"]
    assert filenames(mirror, "new") == ["new-1.0.tar.gz"]
    assert root(mirror)["projects"]["well"] == index.projects()["well"].serial
    assert (mirror.directory / "status").read_text() == str(index.serial)
    index.clear_faults()
    index.touch("held")
    succeed(mirror.run())
    assert problems(mirror, index) == []


@pytest.mark.case(19)
def test_a_page_that_never_gets_the_serial_of_the_root_index_is_published_when_it_says_something_new(
    mirror: Mirror, index: FakeIndex
) -> None:
    """PyPI's serials have been off by one, for good: nothing newer would ever come."""
    index.add_file("six", "six-1.0.tar.gz")
    succeed(mirror.run())
    held = index.serial
    index.add_file("six", "six-2.0.tar.gz")
    index.fault("/simple/six/", faults.alter(lambda document: document["meta"].update({"_last-serial": held})))
    assert mirror.run().status == 1
    assert mirror.failures() == {"six": f"stale page: serial {held}, expected {held + 1}"}
    assert filenames(mirror, "six") == ["six-1.0.tar.gz", "six-2.0.tar.gz"]
    assert root(mirror) == {"serial": held + 1, "projects": {"six": held}}
    index.clear_faults()
    succeed(mirror.run())
    assert problems(mirror, index) == []


def change_state(mirror: Mirror, statement: str) -> None:
    with closing(sqlite3.connect(mirror.directory / ".fastmirror/state.sqlite", isolation_level=None)) as state:
        assert state.execute(statement).rowcount > 0


@pytest.mark.case(19)
def test_a_page_that_was_stale_for_more_than_a_day_is_believed_until_there_is_another_serial(
    mirror: Mirror, index: FakeIndex
) -> None:
    index.add_file("six", "six-1.0.tar.gz")
    succeed(mirror.run())
    index.add_file("six", "six-2.0.tar.gz")
    index.fault("/simple/six/", faults.stale())
    assert mirror.run().status == 1
    change_state(mirror, "update project set tries = 9")  # as after so many tries, less and less often
    succeed(mirror.run("--retry-failed"))
    assert mirror.failures() == {}
    assert filenames(mirror, "six") == ["six-1.0.tar.gz"]
    index.clear_requests()
    succeed(mirror.run())
    assert index.paths("/simple/six/") == []
    index.clear_faults()
    succeed(mirror.run("--retry-failed"))
    assert problems(mirror, index) == []


def test_a_new_serial_begins_the_tries_of_a_failed_project_anew(mirror: Mirror, index: FakeIndex) -> None:
    index.add_file("six", "six-1.0.tar.gz")
    index.fault("/simple/six/", faults.status(403))
    assert mirror.run().status == 1
    change_state(mirror, "update project set tries = 20")
    index.touch("six")
    assert mirror.run().status == 1
    index.clear_faults()
    succeed(mirror.run())
    assert problems(mirror, index) == []
