"""Pages of the state are overwritten, as by bit rot: one run says so and ends with 6, the next one makes it anew."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.published import problems, root, stamps, stored, succeed, written
from tests.rot import PAGE, overwrite, root_pages

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Mirror, Result
    from tests.fakes.index import FakeIndex

_LEAF = 0x0A  # of a table without rowid, or of an index
WHAT_COMES_NEXT = "the next run makes it anew from the tree"


def last_leaves(path: Path) -> list[int]:
    """Pages that the first look at the state does not come by: those with the last project's row."""
    indexes = root_pages(path, "size", "verified")
    body = path.read_bytes()
    pages = (body[start : start + PAGE] for start in range(0, len(body), PAGE))
    with_it = [number for number, page in enumerate(pages, 1) if page[0] == _LEAF and b"zzz-last" in page]
    return [number for number in with_it if number not in indexes]


def damage(mirror: Mirror, *tables: str) -> None:
    overwrite(state_of(mirror), root_pages(state_of(mirror), *tables))


def state_of(mirror: Mirror) -> Path:
    return mirror.directory / ".fastmirror/state.sqlite"


def kept_aside(mirror: Mirror) -> list[Path]:
    return [path for path in state_of(mirror).parent.glob("state.sqlite.damaged-*") if path.name[-1].isdigit()]


def is_marked(mirror: Mirror) -> bool:
    return state_of(mirror).with_name("state.sqlite.damaged").exists()


def assert_says_damaged(result: Result) -> None:
    said = result.stdout + result.stderr
    assert result.status == 6, result
    assert "state is damaged (" in said
    assert WHAT_COMES_NEXT in said
    assert "Traceback" not in said
    assert "bug" not in said


def assert_whole(mirror: Mirror, index: FakeIndex) -> None:
    """Nothing of the damage is left, and the state says of the tree what there is."""
    assert not is_marked(mirror)
    assert len(kept_aside(mirror)) == 1
    with closing(sqlite3.connect(state_of(mirror))) as state:
        assert state.execute("pragma integrity_check").fetchall() == [("ok",)]
    verified = mirror.run(command="verify")
    succeed(verified)
    assert verified.stdout.endswith("\nwell\n")
    succeed(mirror.run())
    assert problems(mirror, index) == []
    assert index.paths("/packages/") == []
    assert mirror.status()["complete"]


@pytest.fixture
def filled(mirror: Mirror, index: FakeIndex) -> Mirror:
    """A mirror whose state has pages that not every run reads."""
    index.fill(40, files=1)
    for number in range(120):
        index.add_file("a-large-one", f"a-large-one-{number}.0.tar.gz", content=b"%d" % number)
    index.add_file("zzz-last", "zzz-last-1.0.tar.gz")
    succeed(mirror.run())
    succeed(mirror.run())
    index.clear_requests()
    return mirror


PLACES = {
    "the files": ("stored",),
    "the runs": ("run",),
    "what is doomed": ("doomed",),
    "what is hidden": ("hidden",),
    "what is missing": ("missing",),
    "several": ("stored", "doomed", "hidden", "shared", "change"),
}


@pytest.mark.parametrize("layout", ["hashed", "flat"])
@pytest.mark.parametrize("place", [*PLACES, "the last project"])
def test_a_run_that_meets_damage_says_what_comes_next_and_the_next_run_makes_the_state_anew(
    mirror: Mirror, request: pytest.FixtureRequest, index: FakeIndex, place: str, layout: str
) -> None:
    mirror.settings["layout"] = layout
    request.getfixturevalue("filled")
    if place in PLACES:
        damage(mirror, *PLACES[place])
    else:
        pages = last_leaves(state_of(mirror))
        assert pages
        overwrite(state_of(mirror), pages)
    before, held = stamps(mirror.web), stored(mirror)
    assert_says_damaged(mirror.run("--force-check"))
    assert is_marked(mirror)
    index.clear_requests()
    result = mirror.run()
    assert result.status == 0, result
    assert f"it is kept as {kept_aside(mirror)[0]}, and made anew from the tree" in result.stderr
    assert "taken over: 42 projects, 139 files" in result.stderr
    assert index.paths() == ["/simple/"]
    index_and_feed = ("simple/index.", "changes/")
    assert [path for path in written(before, stamps(mirror.web)) if not path.startswith(index_and_feed)] == []
    assert stored(mirror) == held
    assert_whole(mirror, index)


def test_verify_meets_damage_and_the_next_verify_makes_the_state_anew(filled: Mirror, index: FakeIndex) -> None:
    damage(filled, "stored")
    assert_says_damaged(filled.run(command="verify"))
    result = filled.run(command="verify")
    assert result.status == 0, result
    assert "taken over: 42 projects, 139 files" in result.stderr
    assert result.stdout.endswith("\nwell\n")
    assert_whole(filled, index)


def test_delete_meets_damage_and_the_next_delete_makes_the_state_anew_and_deletes_that_project_alone(
    filled: Mirror, index: FakeIndex
) -> None:
    damage(filled, "stored")
    assert_says_damaged(filled.run("zzz-last", command="delete"))
    before = root(filled)["projects"]
    result = filled.run("zzz-last", command="delete")
    assert result.status == 0, result
    assert "deleted: 1 project" in result.stdout
    assert root(filled)["projects"] == {name: before[name] for name in before if name != "zzz-last"}
    succeed(filled.run())
    assert index.paths("/packages/") == []
    assert problems(filled, index, absent={"zzz-last"}) == []


def test_what_was_deleted_by_command_stays_away_when_the_state_is_made_anew(filled: Mirror, index: FakeIndex) -> None:
    assert filled.run("zzz-last", command="delete").status == 0
    damage(filled, "stored")
    assert_says_damaged(filled.run("--force-check"))
    assert filled.run().status == 0
    succeed(filled.run())
    assert index.paths("/packages/") == []
    assert problems(filled, index, absent={"zzz-last"}) == []


def test_a_marked_state_is_told_by_status_and_doctor(filled: Mirror) -> None:
    damage(filled, "stored")
    assert_says_damaged(filled.run("--force-check"))
    result = filled.run(command="status")
    assert result.status == 1
    assert "state: a run found it damaged" in result.stdout
    status = filled.status()
    assert (status["state_damaged"], status["complete"]) == (True, False)
    result = filled.run(command="doctor", set={"master": filled.master})
    assert result.status == 1
    assert f"mend  state: {state_of(filled)}: a run found it damaged (hint: {WHAT_COMES_NEXT})" in result.stdout
    assert filled.run().status == 0
    assert filled.status()["state_damaged"] is False
    assert "ok    state: whole" in filled.run(command="doctor", set={"master": filled.master}).stdout


def test_damage_that_no_run_has_met_is_found_by_the_doctor_who_says_how_to_have_it_made_anew(
    filled: Mirror, index: FakeIndex
) -> None:
    damage(filled, "stored")
    result = filled.run(command="doctor", set={"master": filled.master})
    assert result.status == 1
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("mend  state: ")]
    mark = state_of(filled).with_name("state.sqlite.damaged")
    assert f"(hint: touch {mark}, and the next run makes it anew from the tree)" in line
    assert not mark.exists()
    mark.touch()
    index.clear_requests()
    assert filled.run().status == 0
    assert index.paths() == ["/simple/"]
    assert_whole(filled, index)


def test_who_only_looks_marks_nothing(filled: Mirror) -> None:
    damage(filled, "stored", "doomed")
    for command in (("status",), ("verify", "--dry-run")):
        result = filled.run(*command[1:], command=command[0])
        assert (result.status, "fastmirror doctor" in result.stdout + result.stderr) == (6, True), result
    assert not is_marked(filled)
    assert kept_aside(filled) == []


def test_a_mark_without_a_state_is_dropped_and_nothing_is_moved_aside(filled: Mirror, index: FakeIndex) -> None:
    """As a run leaves it that is killed between the two, or a hand that took the state away."""
    root_pages(state_of(filled))
    state_of(filled).unlink()
    state_of(filled).with_name("state.sqlite.damaged").touch()
    result = filled.run()
    assert result.status == 0
    assert "taken over: 42 projects" in result.stderr
    assert (is_marked(filled), kept_aside(filled)) == (False, [])
    assert index.paths() == ["/simple/"]
    succeed(filled.run())


def test_damage_that_only_the_status_page_meets_is_mended_by_the_next_run(filled: Mirror, index: FakeIndex) -> None:
    filled.settings["status-page"] = "true"
    assert filled.run().status == 0
    damage(filled, "verified")
    result = filled.run()
    assert result.status == 0
    assert "the next run makes its state anew" in result.stderr
    assert filled.run().status == 0
    page = json.loads((filled.web / "status/status.json").read_text())
    assert page["projects"] == 42
    assert_whole(filled, index)
