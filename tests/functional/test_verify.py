"""What is at rest is held against the state, repaired where it is damaged, and never deleted on a bad word."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import stat
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from fastmirror.layout import PageFormat
from tests.fakes import faults
from tests.processes import until
from tests.published import at_rest, filenames, page_file, problems, root, spoil, stamps, stored, succeed, written

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Mirror, Result
    from tests.fakes.index import FakeIndex

METADATA = b"Metadata-Version: 2.1\n"
NAMES = ("six", "idna", "attrs")
WHEEL = "six-1.0-py3-none-any.whl"


@pytest.fixture(params=["hashed", "flat"])
def each_layout(request: pytest.FixtureRequest, filled: Mirror) -> Mirror:
    return filled


@pytest.fixture
def filled(request: pytest.FixtureRequest, mirror: Mirror, index: FakeIndex) -> Mirror:
    """A mirror of three projects, whole."""
    if "each_layout" in request.fixturenames:
        mirror.settings["layout"] = request.getfixturevalue("request").node.callspec.params["each_layout"]
    for name in NAMES:
        index.add_file(name, f"{name}-1.0-py3-none-any.whl", metadata=METADATA)
        index.add_file(name, f"{name}-1.0.tar.gz")
    result = mirror.run()
    assert (result.status, result.stderr) == (0, "")
    index.clear_requests()
    return mirror


def verify(mirror: Mirror, *arguments: str, **more: Any) -> Result:
    return mirror.run(*arguments, command="verify", **more)


def change_state(mirror: Mirror, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(mirror.directory / ".fastmirror/state.sqlite", isolation_level=None)) as state:
        assert state.execute(statement, values).rowcount > 0


def read_state(mirror: Mirror, query: str) -> list[Any]:
    with closing(sqlite3.connect(mirror.directory / ".fastmirror/state.sqlite")) as state:
        return state.execute(query).fetchall()


def unclean(mirror: Mirror) -> bool:
    return read_state(mirror, "select value from meta where key = 'clean'") == [("0",)]


# What is well


def test_a_whole_mirror_is_read_without_a_request_or_a_change(each_layout: Mirror, index: FakeIndex) -> None:
    before = stamps(each_layout.web)
    result = verify(each_layout)
    assert (result.status, result.stderr) == (0, "")
    first, last = result.stdout.splitlines()
    assert first.startswith("checked: 3 projects, 9 files, ")
    assert last == "well"
    assert index.paths() == []
    assert stamps(each_layout.web) == before
    assert not unclean(each_layout)


def test_status_and_serial_are_as_before_a_verification(filled: Mirror, index: FakeIndex) -> None:
    passing = ("lag_s", "oldest_verified", "never_verified")
    before = filled.status()
    assert verify(filled).status == 0
    after = filled.status()
    assert {key for key in before if before[key] != after[key]} <= set(passing)
    assert (filled.directory / "status").read_text() == str(index.serial)


def test_a_budget_of_bytes_looks_at_what_was_not_verified_for_longest_and_goes_on_there(filled: Mirror) -> None:
    looked_at: list[set[str]] = [verified(filled)]
    while len(looked_at[-1]) < 3:
        result = verify(filled, "--budget-bytes", "1")
        assert (result.status, result.stdout.splitlines()[-1]) == (0, "well")
        left = re.findall(r"left to the next verification: (\d) project", result.stdout)
        assert left == ["2"]
        looked_at.append(verified(filled))
    assert [len(names) for names in looked_at] == [0, 1, 2, 3]
    ((oldest, _),) = read_state(filled, "select min(verified_at), max(verified_at) from project")
    change_state(filled, "update project set verified_at = ? where name = 'six'", oldest - 10)
    spoil(at_rest(filled, "six-1.0.tar.gz"))
    assert "six-1.0.tar.gz is corrupt" in verify(filled, "--budget-bytes", "1").stdout
    assert filled.status()["never_verified"] == 0


def test_a_budget_of_time_that_is_over_leaves_the_rest_and_is_no_failure(filled: Mirror) -> None:
    result = verify(filled, "--budget", "0.000001s")
    assert result.status == 0
    assert "left to the next verification: 3 projects" in result.stdout


@pytest.mark.parametrize(
    ("option", "expected"), [("--budget", "a duration such as 90s"), ("--budget-bytes", "a size such as 500k")]
)
def test_a_budget_that_cannot_be_read_is_refused(filled: Mirror, option: str, expected: str) -> None:
    result = verify(filled, option, "much")
    assert (result.status, expected in result.stderr) == (2, True)


def test_without_a_state_there_is_nothing_to_verify(mirror: Mirror) -> None:
    (mirror.web / "simple").mkdir(parents=True)
    result = verify(mirror)
    assert result.status == 2
    assert "no state" in result.stderr
    assert not (mirror.directory / ".fastmirror/state.sqlite").exists()


# What is damaged


@pytest.mark.case(31)
def test_a_bit_that_turned_in_a_file_is_found_and_repaired(each_layout: Mirror, index: FakeIndex) -> None:
    file = at_rest(each_layout, "six-1.0.tar.gz")
    good = file.read_bytes()
    spoil(file)
    result = verify(each_layout)
    assert result.status == 0
    assert file.read_bytes() == good
    assert "damaged: 1 corrupt: 1 repaired" in result.stdout
    assert result.stdout.splitlines()[-1] == "well again"
    assert [path.rpartition("/")[2] for path in index.paths("/packages/")] == ["six-1.0.tar.gz"]
    assert problems(each_layout, index) == []


def test_a_bit_that_turned_in_a_core_metadata_file_is_found_and_repaired(each_layout: Mirror, index: FakeIndex) -> None:
    spoil(at_rest(each_layout, f"{WHEEL}.metadata"))
    assert verify(each_layout).status == 0
    assert at_rest(each_layout, f"{WHEEL}.metadata").read_bytes() == METADATA
    assert [path.rpartition("/")[2] for path in index.paths("/packages/")] == [f"{WHEEL}.metadata"]
    assert problems(each_layout, index) == []


@pytest.mark.parametrize("page_format", list(PageFormat))
@pytest.mark.parametrize("harm", ["rot", "loss"])
def test_a_page_that_is_damaged_or_missing_is_made_anew(
    each_layout: Mirror, index: FakeIndex, page_format: PageFormat, harm: str
) -> None:
    page = page_file(each_layout, "six", page_format)
    if not page.exists():
        assert (each_layout.settings["layout"], page_format) == ("hashed", PageFormat.V1_HTML)
        return
    good = page.read_bytes()
    if harm == "loss":
        page.unlink()
    else:
        spoil(page)
    result = verify(each_layout)
    assert result.status == 0
    assert "repaired" in result.stdout
    assert page.read_bytes() == good
    assert index.paths("/simple/") == ["/simple/six/"]
    assert index.paths("/packages/") == []
    assert problems(each_layout, index) == []


def test_a_missing_file_is_fetched_again(each_layout: Mirror, index: FakeIndex) -> None:
    at_rest(each_layout, WHEEL).unlink()
    at_rest(each_layout, "idna-1.0-py3-none-any.whl.metadata").unlink()
    result = verify(each_layout)
    assert result.status == 0
    assert "damaged: 2 missing: 2 repaired" in result.stdout
    assert problems(each_layout, index) == []


def test_a_root_index_that_is_not_what_was_written_is_written_anew(filled: Mirror, index: FakeIndex) -> None:
    path = filled.web / "simple/index.v1_json"
    good = path.read_bytes()
    spoil(path)
    (filled.web / "simple/index.html").unlink()
    looked = verify(filled, "--dry-run")
    assert looked.status == 1
    assert "root index: is to be written anew: simple/index.html, simple/index.v1_json\n" in looked.stdout
    result = verify(filled)
    assert result.status == 0
    assert path.read_bytes() == good
    assert problems(filled, index) == []


def test_a_large_project_is_checked_in_pieces_and_repaired(mirror: Mirror, index: FakeIndex) -> None:
    for number in range(70):
        index.add_file("large", f"large-1.{number}.tar.gz")
    assert mirror.run().status == 0
    change_sizes(mirror)
    for number in range(70):
        spoil(at_rest(mirror, f"large-1.{number}.tar.gz"))
    result = verify(mirror)
    assert result.status == 0
    assert "checked: 1 project, 70 files, " in result.stdout
    assert "damaged: 70 corrupt: 70 repaired" in result.stdout
    assert problems(mirror, index) == []


def change_sizes(mirror: Mirror) -> None:
    """Have the state say that each file is as large as to be cut into pieces: sizes are not compared, digests are."""
    from fastmirror.packing import pack_files, unpack_files

    ((packed,),) = read_state(mirror, "select files from stored")
    files = [file._replace(size=100 << 20) for file in unpack_files(packed)]
    change_state(mirror, "update stored set files = ?", pack_files(files))


def test_damage_at_an_upstream_without_serials_is_repaired(mirror: Mirror, index: FakeIndex) -> None:
    index.dialect = "html"
    index.add_file("six", "six-1.0.tar.gz")
    assert mirror.run().status == 0
    spoil(at_rest(mirror, "six-1.0.tar.gz"))
    page_file(mirror, "six", PageFormat.HTML).unlink()
    assert verify(mirror).status == 0
    assert problems(mirror, index) == []


@pytest.mark.case(31)
def test_compare_method_stat_reads_no_file_and_sees_another_size(filled: Mirror, index: FakeIndex) -> None:
    filled.settings["compare-method"] = "stat"
    spoil(at_rest(filled, "six-1.0.tar.gz"))
    assert "well" in verify(filled).stdout.splitlines()
    at_rest(filled, "six-1.0.tar.gz").write_bytes(b"short")
    assert "1 repaired" in verify(filled).stdout
    assert problems(filled, index) == []


# What cannot be repaired


def test_an_upstream_that_is_down_leaves_everything_as_it_is_and_says_what_is_damaged(
    filled: Mirror, index: FakeIndex
) -> None:
    spoil(at_rest(filled, "six-1.0.tar.gz"))
    page_file(filled, "idna").unlink()
    before = stamps(filled.web)
    index.fault("/*", faults.status(404))
    result = verify(filled, "--delete")
    assert result.status == 1
    assert "2 not repaired" in result.stdout
    assert "six-1.0.tar.gz is corrupt" in result.stdout
    assert "upstream has no such project" in result.stdout
    assert written(before, stamps(filled.web)) == set()
    assert set(filled.failures()) == {"six", "idna"}


def test_damage_that_was_not_repaired_is_repaired_by_the_next_mirror_run(filled: Mirror, index: FakeIndex) -> None:
    spoil(at_rest(filled, "six-1.0.tar.gz"))
    index.fault("/simple/six/", faults.status(404), times=2)
    assert verify(filled).status == 1
    assert filled.run("--retry-failed").status == 1  # fails again, and is remembered still
    assert filled.run("--retry-failed").status == 0
    assert problems(filled, index) == []


def test_a_damaged_file_that_upstream_does_not_give_leaves_the_page(filled: Mirror, index: FakeIndex) -> None:
    spoil(at_rest(filled, "six-1.0.tar.gz"))
    index.fault("/packages/*/six-1.0.tar.gz", faults.status(404))
    result = verify(filled)
    assert result.status == 1
    assert "1 not repaired" in result.stdout
    assert filenames(filled, "six") == [WHEEL]
    index.clear_faults()
    assert filled.run("--retry-failed").status == 0
    assert problems(filled, index, leftovers=True) == []


def test_what_cannot_be_read_is_never_deleted(filled: Mirror, index: FakeIndex) -> None:
    paths = [at_rest(filled, name) for name in ("six-1.0.tar.gz", "idna-1.0-py3-none-any.whl.metadata")]
    for path in paths:
        path.unlink()
        os.mknod(path, stat.S_IFSOCK | 0o644)  # reading it fails
    at_once = {"delete-grace": 0}
    index.fault("/packages/*/six-1.0.tar.gz", faults.status(404))
    index.fault("/packages/*.whl.metadata", faults.status(404))
    for _ in range(2):
        result = verify(filled, "--delete", set=at_once)
        assert result.status == 1
        assert "damaged: 2 unreadable: 2 not repaired" in result.stdout
        assert filenames(filled, "six") == [WHEEL]
        assert filled.run("--retry-failed", set=at_once).status == 1
        assert filenames(filled, "six") == [WHEEL]
        assert all(path.is_socket() for path in paths)
    index.clear_faults()
    assert filled.run("--retry-failed").status == 0
    assert problems(filled, index) == []


def test_a_torn_row_is_made_anew_from_what_is_stored(filled: Mirror, index: FakeIndex) -> None:
    before = stored(filled)
    change_state(filled, "update stored set files = ? where project = 'six'", b"torn")
    result = verify(filled, "--delete", set={"delete-grace": 0})
    assert result.status == 0
    assert index.paths("/packages/") == []
    assert stored(filled) == before
    assert problems(filled, index) == []
    assert "well" in verify(filled).stdout.splitlines()


def test_a_torn_row_that_cannot_be_made_anew_keeps_every_file(filled: Mirror, index: FakeIndex) -> None:
    before = stored(filled)
    change_state(filled, "update stored set files = ? where project = 'six'", b"torn")
    stray = filled.web / "packages/000/stray.whl"
    stray.parent.mkdir(parents=True, exist_ok=True)
    stray.write_bytes(b"x")
    index.fault("/simple/six/", faults.status(404))
    result = verify(filled, "--delete", set={"delete-grace": 0})
    assert result.status == 4
    assert "nothing is removed: the state cannot tell the files of 1 project" in result.stdout
    assert stored(filled) == before | {"stray.whl"}


# What nobody owns


def litter(mirror: Mirror) -> dict[str, Path]:
    """Files, a page and documents that no project of the state owns."""
    flat = mirror.settings.get("layout") == "flat"
    found = {
        "file": "packages/ab/cd/" + "e" * 60 + "/old-1.0.tar.gz" if flat else "packages/abc/old-1.0.tar.gz",
        "page": "simple/old/index.html" if flat else "simple/00/old.html",
        "document": "json/old" if flat else "json/00/old",
        "legacy": "pypi/old/json",
    }
    for path in found.values():
        (mirror.web / path).parent.mkdir(parents=True, exist_ok=True)
        (mirror.web / path).write_bytes(b"x" * 100)
    return {kind: mirror.web / path for kind, path in found.items()}


def test_what_nobody_owns_is_told_and_goes_only_with_delete(each_layout: Mirror, index: FakeIndex) -> None:
    paths = litter(each_layout)
    before = stamps(each_layout.web)
    result = verify(each_layout)
    assert result.status == 0
    assert "owned by no project: 4 files, 400 B (hint: --delete)" in result.stdout
    assert written(before, stamps(each_layout.web)) == set()
    result = verify(each_layout, "--delete")
    assert result.status == 0
    assert "owned by no project: 4 files, 400 B, removed" in result.stdout
    assert not any(path.exists() for path in paths.values())
    assert problems(each_layout, index) == []


def test_a_page_of_a_held_project_and_what_is_no_projects_stay(filled: Mirror, index: FakeIndex) -> None:
    own = filled.web / "robots.txt"
    note = filled.web / "simple/notes.txt"
    own.write_text("x")
    note.write_text("x")
    assert verify(filled, "--delete").status == 0
    assert own.exists()
    assert note.exists()


def test_files_in_their_grace_are_left_to_it(filled: Mirror, index: FakeIndex) -> None:
    index.remove_file("six", "six-1.0.tar.gz")
    assert filled.run().status == 0
    assert verify(filled, "--delete").status == 0
    assert "six-1.0.tar.gz" in stored(filled)
    assert verify(filled, "--delete", set={"delete-grace": 0}).status == 0
    assert "six-1.0.tar.gz" not in stored(filled)


def test_a_file_that_two_projects_name_stays_while_one_does(mirror: Mirror, index: FakeIndex) -> None:
    content = b"the same"
    index.add_file("six", "shared-1.0.tar.gz", content=content)
    index.add_file("idna", "shared-1.0.tar.gz", content=content)
    assert mirror.run().status == 0
    spoil(at_rest(mirror, "shared-1.0.tar.gz"))
    assert verify(mirror, "--delete").status == 0
    assert at_rest(mirror, "shared-1.0.tar.gz").read_bytes() == content
    index.remove_project("six", keep_content=True)
    assert mirror.run(set={"delete-grace": 0}).status == 0
    assert verify(mirror, "--delete", set={"delete-grace": 0}).status == 0
    assert at_rest(mirror, "shared-1.0.tar.gz").read_bytes() == content


def test_more_than_the_guard_allows_is_held_back_and_says_with_which_option_to_go_on(
    filled: Mirror, index: FakeIndex
) -> None:
    paths = litter(filled)
    result = verify(filled, "--delete", set={"max-removed-files": 3})
    assert result.status == 4
    assert "held back by the deletion guard (hint: --set max-removed-files=4)" in result.stdout
    assert all(path.exists() for path in paths.values())
    assert verify(filled, "--delete", set={"max-removed-files": 4}).status == 0
    assert not any(path.exists() for path in paths.values())


def test_nothing_is_removed_when_the_state_holds_nothing_or_the_last_run_was_cut_off(
    filled: Mirror, index: FakeIndex
) -> None:
    paths = litter(filled)
    change_state(filled, "update meta set value = '0' where key = 'clean'")
    result = verify(filled, "--delete")
    assert result.status == 4
    assert "nothing is removed: the last run was cut off" in result.stdout
    change_state(filled, "update meta set value = '1' where key = 'clean'")
    change_state(filled, "delete from stored")
    change_state(filled, "delete from project")
    before = stored(filled)
    result = verify(filled, "--delete")
    assert result.status == 4
    assert "nothing is removed: the state holds no project" in result.stdout
    assert stored(filled) == before
    assert all(path.exists() for path in paths.values())


# Only looking


def test_a_dry_run_changes_nothing_asks_for_nothing_and_says_what_would_be_done(
    each_layout: Mirror, index: FakeIndex
) -> None:
    litter(each_layout)
    spoil(at_rest(each_layout, "six-1.0.tar.gz"))
    at_rest(each_layout, WHEEL).unlink()
    state = each_layout.directory / ".fastmirror/state.sqlite"
    rows = read_state(each_layout, "select * from project")
    before = stamps(each_layout.web)
    result = verify(each_layout, "--dry-run", "--delete", "--json-update")
    assert result.status == 1
    assert "damaged: 1 missing, 1 corrupt: 2 to repair" in result.stdout
    assert "six-1.0.tar.gz is corrupt, 26 B" in result.stdout
    assert "owned by no project: 4 files, 400 B, to remove" in result.stdout
    assert index.paths() == []
    assert stamps(each_layout.web) == before
    assert read_state(each_layout, "select * from project") == rows
    assert not unclean(each_layout)
    assert state.exists()


def test_a_dry_run_looks_at_a_mirror_that_hides_what_is_quarantined(filled: Mirror, index: FakeIndex) -> None:
    name = min(index.projects())
    index.quarantine(name)
    succeed(filled.run())
    assert list((filled.directory / ".fastmirror/hidden").rglob("*.*"))
    assert verify(filled, "--dry-run").status == 0


def test_a_dry_run_needs_no_free_space(filled: Mirror) -> None:
    full = {"min-free": "999999G"}
    assert verify(filled, "--dry-run", set=full).status == 0
    assert verify(filled, set=full).status == 6


# Documents


def test_json_update_asks_for_every_page_and_fetches_no_stored_file(filled: Mirror, index: FakeIndex) -> None:
    result = verify(filled, "--json-update")
    assert result.status == 0
    assert sorted(path for path in index.paths("/simple/")) == [f"/simple/{name}/" for name in sorted(NAMES)]
    assert index.paths("/packages/") == []
    assert problems(filled, index) == []


# Interruption


def test_a_verification_that_is_interrupted_records_what_it_verified(mirror: Mirror, index: FakeIndex) -> None:
    mirror.settings["timeout"] = "60"
    for name in NAMES:
        index.add_file(name, f"{name}-1.0.tar.gz")
    assert mirror.run().status == 0
    for name in NAMES:
        spoil(at_rest(mirror, f"{name}-1.0.tar.gz"))
    gate = index.gate("/packages/*/six-1.0.tar.gz")
    process = mirror.start(command="verify")
    gate.wait(1)
    until(lambda: verified(mirror) >= {"idna", "attrs"}, "the others are mended and recorded")
    process.send_signal(signal.SIGTERM)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 143, stderr
    assert "1 projects not looked at" in stdout
    gate.open()
    assert not unclean(mirror)
    assert verify(mirror).status == 0
    assert problems(mirror, index) == []


def verified(mirror: Mirror) -> set[str]:
    return {name for (name,) in read_state(mirror, "select name from project where verified_at is not null")}


def test_a_project_that_upstream_has_removed_is_left_to_the_mirror(filled: Mirror, index: FakeIndex) -> None:
    spoil(at_rest(filled, "six-1.0.tar.gz"))
    index.remove_project("six")
    assert verify(filled, "--delete").status == 1
    assert "six" in root(filled)["projects"]
    assert "six-1.0.tar.gz" in stored(filled)
    assert filled.run(set={"delete-grace": 0}).status == 0
    assert "six" not in root(filled)["projects"]


def test_the_number_of_workers_is_chosen_by_option_or_key(filled: Mirror, index: FakeIndex) -> None:
    assert verify(filled, "--workers", "1").status == 0
    assert verify(filled, set={"verifiers": 3}).status == 0
    refused = verify(filled, "--workers", "-1")
    assert refused.status == 2
