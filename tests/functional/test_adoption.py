"""A tree that no state speaks of is taken over: no stored file is fetched again, no unchanged project asked for."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
from contextlib import closing
from itertools import count
from typing import TYPE_CHECKING

import pytest

from fastmirror.layout import bucket
from tests.conftest import end_group
from tests.published import page_file, root, stamps, stored, written
from tests.tree import check_tree

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Mirror
    from tests.fakes.index import FakeIndex


def fill(index: FakeIndex) -> None:
    for name in ("six", "idna", "foo"):
        index.add_file(name, f"{name}-1.0.tar.gz")
        index.add_file(name, f"{name}-1.0-py3-none-any.whl", metadata=b"Metadata-Version: 2.1\n", yanked="broken")


def forget(mirror: Mirror) -> None:
    shutil.rmtree(mirror.directory / ".fastmirror")


def as_bandersnatch_has_it(mirror: Mirror) -> None:
    """Rewrite a flat tree's pages as bandersnatch 8 writes them, and take our own files away."""
    forget(mirror)
    for path in (mirror.web / "simple").glob("*/index.v1_json"):
        page = json.loads(path.read_bytes())
        files = [
            {key: file[key] for key in ("filename", "hashes", "size", "upload-time", "url", "core-metadata")}
            | {"requires-python": "", "yanked": bool(file["yanked"])}
            for file in page["files"]
        ]
        meta = {"api-version": "1.1", "_last-serial": str(page["meta"]["_last-serial"])}
        path.write_text(json.dumps({"files": files, "meta": meta, "name": page["name"], "versions": page["versions"]}))
    index = mirror.web / "simple/index.v1_json"
    names = [{"name": project["name"]} for project in json.loads(index.read_bytes())["projects"]]
    index.write_text(json.dumps({"meta": {"_last-serial": 0, "api-version": "1.1"}, "projects": names}))
    for path in (mirror.web / "simple").glob("*/index.html"):
        twin = path.with_name("index.v1_html")
        twin.unlink()
        shutil.copy(path, twin)


@pytest.fixture
def taken(mirror: Mirror, index: FakeIndex) -> Mirror:
    """A mirror whose tree looks as if bandersnatch had made it."""
    fill(index)
    mirror.settings["layout"] = "flat"
    assert mirror.run().status == 0
    as_bandersnatch_has_it(mirror)
    index.clear_requests()
    return mirror


def pages(web: Path) -> set[str]:
    return {path.relative_to(web).as_posix() for path in (web / "simple").glob("*/index.*")}


@pytest.mark.case(31, 52)
def test_bandersnatchs_tree_is_taken_over_without_asking_for_anything_in_it(taken: Mirror, index: FakeIndex):
    before = stamps(taken.web)
    result = taken.run()
    assert result.status == 0
    assert "taken over: 3 projects, 6 files" in result.stderr
    assert index.paths() == ["/simple/"]
    index_and_feed = ("simple/index.", "changes/")
    assert [path for path in written(before, stamps(taken.web)) if not path.startswith(index_and_feed)] == []
    assert root(taken)["projects"] == {name: state.serial for name, state in index.projects().items()}
    status = taken.status()
    assert (status["projects"], status["files"], status["complete"]) == (3, 6, True)


def test_a_project_that_changes_after_a_takeover_gets_a_page_of_ours_and_only_its_new_file(taken, index):
    index.add_file("six", "six-2.0.tar.gz")
    assert taken.run().status == 0
    assert len(index.paths("/packages/")) == 1
    assert json.loads(page_file(taken, "six").read_bytes())["meta"]["api-version"] == "1.4"
    assert taken.run("--force-check").status == 0
    assert len(index.paths("/packages/")) == 1
    problems = check_tree(taken.web, "flat", index)
    assert [problem for problem in problems if "are two files" not in problem] == []  # same bytes: not rewritten


@pytest.mark.parametrize("layout", ["hashed", "flat"])
def test_a_lost_state_is_made_anew_from_our_own_tree(mirror: Mirror, index: FakeIndex, layout: str):
    fill(index)
    mirror.settings["layout"] = layout
    mirror.run()
    forget(mirror)
    index.clear_requests()
    assert mirror.run().status == 0
    assert index.paths() == ["/simple/"]
    assert check_tree(mirror.web, layout, index) == []  # type: ignore[arg-type]


def test_a_damaged_state_is_kept_aside_said_and_made_anew(mirror: Mirror, index: FakeIndex):
    fill(index)
    mirror.run()
    state = mirror.directory / ".fastmirror/state.sqlite"
    state.write_bytes(b"no database " * 1000)
    index.clear_requests()
    result = mirror.run()
    assert result.status == 0
    assert "state is damaged" in result.stderr
    assert len(list(state.parent.glob("state.sqlite.damaged-*"))) == 1
    assert index.paths() == ["/simple/"]
    assert check_tree(mirror.web, "hashed", index) == []


def test_a_page_that_cannot_be_read_is_planned_anew_and_nothing_is_deleted(taken: Mirror, index: FakeIndex):
    page_file(taken, "six").write_bytes(b'{"files": [{')
    before = stored(taken)
    result = taken.run()
    assert result.status == 0
    assert "six: its page cannot be used" in result.stderr
    assert index.paths() == ["/simple/", "/simple/six/"]
    assert stored(taken) == before
    assert len(json.loads(page_file(taken, "six").read_bytes())["files"]) == 2


@pytest.mark.case(52)
def test_a_file_that_is_missing_or_cut_is_fetched_in_the_same_run(taken: Mirror, index: FakeIndex):
    (path,) = (taken.web / "packages").rglob("six-1.0.tar.gz")
    path.unlink()
    (path,) = (taken.web / "packages").rglob("foo-1.0.tar.gz")
    path.write_bytes(b"x")
    path.unlink()
    assert taken.run().status == 0
    assert sorted(path.rpartition("/")[2] for path in index.paths("/packages/")) == ["foo-1.0.tar.gz", "six-1.0.tar.gz"]


@pytest.mark.case(52)
@pytest.mark.parametrize("name", ["status", "todo", "generation"])
@pytest.mark.parametrize("content", [b"", b"\xff\x00garbage", b"99999999999999999999\nsix 3\n"])
def test_bandersnatchs_own_notes_may_be_anything(taken: Mirror, index: FakeIndex, name: str, content: bytes):
    (taken.directory / name).write_bytes(content)
    assert taken.run().status == 0
    assert index.paths() == ["/simple/"]
    assert (taken.directory / "status").read_text() == str(index.serial)
    assert (taken.directory / "generation").read_text() == "5"
    assert not (taken.directory / "todo").exists()


@pytest.mark.case(52)
def test_a_takeover_that_is_killed_begins_again(mirror: Mirror, index: FakeIndex):
    index.fill(300, files=1)
    mirror.settings["layout"] = "flat"
    mirror.run()
    forget(mirror)
    process = mirror.start()
    assert process.stderr is not None
    process.stderr.readline()  # that it takes over
    end_group(process, signal.SIGKILL)
    process.communicate()
    index.clear_requests()
    assert mirror.run().status == 0
    assert index.paths("/packages/") == []
    assert check_tree(mirror.web, "flat", index) == []


def as_shadowmire_has_it(mirror: Mirror, index: FakeIndex) -> None:
    """Its directories at the top, no serial in any page, the serials in local.db."""
    for path in (mirror.web / "simple").glob("*/index.v1_json"):
        page = json.loads(path.read_bytes())
        del page["meta"]["_last-serial"]
        path.write_text(json.dumps(page))
    for part in ("simple", "packages"):
        (mirror.web / part).rename(mirror.directory / part)
    shutil.rmtree(mirror.web)
    with closing(sqlite3.connect(mirror.directory / "local.db")) as database:
        database.execute("create table local (key text primary key, serial integer, file_serial integer)")
        rows = [(name, state.serial, state.serial) for name, state in index.projects().items()]
        database.executemany("insert into local values (?, ?, ?)", rows)
        database.commit()


def test_shadowmires_tree_is_moved_and_taken_over_with_the_serials_of_its_database(taken: Mirror, index: FakeIndex):
    as_shadowmire_has_it(taken, index)
    result = taken.run()
    assert result.status == 0
    assert "taken over: 3 projects, 6 files" in result.stderr
    assert index.paths() == ["/simple/"]
    assert not (taken.directory / "simple").exists()


def test_a_damaged_local_db_is_said_and_the_projects_are_planned_anew_without_a_transfer(taken, index):
    as_shadowmire_has_it(taken, index)
    (taken.directory / "local.db").write_bytes(b"no database " * 500)
    result = taken.run()
    assert result.status == 0
    assert "local.db cannot be read" in result.stderr
    assert index.paths("/packages/") == []
    assert len(index.paths("/simple/")) == 4


@pytest.mark.parametrize("names", [("x", "six", "sax", "foo"), ("x",)], ids=["several", "one-character-alone"])
@pytest.mark.parametrize("made_with", ["true", "false"])
def test_a_tree_without_a_state_says_by_itself_whether_it_has_a_hash_index(
    mirror: Mirror, index: FakeIndex, made_with: str, names: tuple[str, ...]
):
    for name in names:
        index.add_file(name, f"{name}-1.0.tar.gz")
    otherwise = {"true": "false", "false": "true"}[made_with]
    mirror.settings |= {"layout": "flat", "hash-index": made_with}
    assert mirror.run().status == 0
    forget(mirror)
    index.clear_requests()
    before = stamps(mirror.web)
    for command in ("mirror", "plan", "status"):
        result = mirror.run(command=command, set={"hash-index": otherwise})
        assert (result.status, result.stdout) == (2, "")
        assert f"hash-index = {otherwise}: this mirror's tree was made otherwise" in result.stderr
        assert f"(hint: hash-index = {made_with}," in result.stderr
    assert stamps(mirror.web) == before
    result = mirror.run()
    assert result.status == 0
    assert f"taken over: {len(names)} projects" in result.stderr
    assert index.paths() == ["/simple/"]
    assert check_tree(mirror.web, "flat", index, hash_index=made_with == "true") == []


def test_earlier_states_of_a_one_character_projects_pages_are_no_hash_index(mirror: Mirror, index: FakeIndex):
    index.add_file("v", "v-1.0.tar.gz")
    mirror.settings |= {"layout": "flat", "keep_index_versions": "2"}
    assert mirror.run().status == 0
    forget(mirror)
    for page in (mirror.web / "simple/v").glob("index.*"):
        page.unlink()
    assert mirror.run().status == 0


def test_a_project_called_index_does_not_make_a_hashed_tree_a_flat_one(mirror: Mirror, index: FakeIndex):
    neighbour = next(name for name in (f"n{number}" for number in count()) if bucket(name) == bucket("index"))
    for name in ("index", neighbour):
        index.add_file(name, f"{name}-1.0.tar.gz")
    assert mirror.run().status == 0
    forget(mirror)
    result = mirror.run()
    assert result.status == 0
    assert "taken over: 2 projects" in result.stderr
    assert check_tree(mirror.web, "hashed", index) == []
