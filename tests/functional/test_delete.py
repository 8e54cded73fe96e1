"""delete: a project leaves at once, and stays away until it is asked for by name."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.published import root, stamps, stored
from tests.tree import check_tree

if TYPE_CHECKING:
    from tests.conftest import Mirror
    from tests.fakes.index import FakeIndex


@pytest.fixture
def filled(mirror: Mirror, index: FakeIndex) -> Mirror:
    for name in ("six", "idna"):
        index.add_file(name, f"{name}-1.0-py3-none-any.whl", metadata=b"Metadata-Version: 2.1\n")
    mirror.settings["json"] = "true"
    assert mirror.run().status == 0
    return mirror


@pytest.mark.parametrize("layout", ["hashed", "flat"])
def test_a_deleted_project_leaves_nothing_behind_at_once(mirror: Mirror, index: FakeIndex, layout: str):
    mirror.settings["layout"] = layout
    for name in ("six", "idna"):
        index.add_file(name, f"{name}-1.0.tar.gz")
    mirror.run()
    result = mirror.run("Six", command="delete")
    assert (result.status, result.stderr) == (0, "")
    assert result.stdout.startswith("deleted: 1 project, ")
    assert check_tree(mirror.web, layout, index, absent={"six"}) == []  # type: ignore[arg-type]


def test_a_deleted_project_stays_away_until_it_is_asked_for(filled: Mirror, index: FakeIndex):
    filled.run("six", command="delete")
    index.add_file("six", "six-2.0.tar.gz")
    assert filled.run().status == 0
    assert filled.run("--force-check").status == 0
    assert set(root(filled)["projects"]) == {"idna"}
    assert filled.run("six", command="sync").status == 0
    assert set(root(filled)["projects"]) == {"idna", "six"}
    index.add_file("six", "six-3.0.tar.gz")
    assert filled.run().status == 0
    assert "six-3.0.tar.gz" in stored(filled)


def test_a_dry_run_names_what_would_go_and_changes_nothing(filled: Mirror):
    before = stamps(filled.web)
    result = filled.run("six", "--dry-run", command="delete")
    assert result.status == 0
    for part in ("six-1.0-py3-none-any.whl", "six-1.0-py3-none-any.whl.metadata", "six.html", "six.v1_json"):
        assert part in result.stdout
    assert "would be deleted: 1 project, 5 files" in result.stdout
    assert stamps(filled.web) == before
    assert filled.run().status == 0
    assert set(root(filled)["projects"]) == {"idna", "six"}


def test_a_project_that_is_not_there_is_unwanted_all_the_same(filled: Mirror, index: FakeIndex):
    result = filled.run("later", command="delete")
    assert result.status == 0
    assert "not in the mirror: later" in result.stdout
    index.add_file("later", "later-1.0.tar.gz")
    assert filled.run().status == 0
    assert "later" not in root(filled)["projects"]


def test_a_file_that_another_project_names_too_stays(mirror: Mirror, index: FakeIndex):
    file = index.add_file("six", "shared-1.0.tar.gz")
    index.add_file("idna", "shared-1.0.tar.gz", content=file.content, upload_time=file.upload_time)
    mirror.run()
    assert mirror.run("six", command="delete").status == 0
    assert stored(mirror) == {"shared-1.0.tar.gz"}
    assert check_tree(mirror.web, "hashed", index, absent={"six"}) == []


def test_without_a_mirror_or_a_name_there_is_nothing_to_delete(mirror: Mirror):
    assert mirror.run("six", command="delete").status == 2
    assert mirror.run(command="delete").status == 2


def test_a_deletion_that_was_cut_off_is_ended_by_the_next_run(filled: Mirror, index: FakeIndex):
    with closing(sqlite3.connect(filled.directory / ".fastmirror/state.sqlite")) as state:
        state.execute("insert into unwanted values ('six', 0)")  # what a deletion does first
        state.commit()
    assert filled.status()["unwanted"] == 1
    assert filled.run(set={"delete-grace": "0"}).status == 0
    assert set(root(filled)["projects"]) == {"idna"}
    assert check_tree(filled.web, "hashed", index, absent={"six"}) == []
