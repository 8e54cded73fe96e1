"""diff-file: what runs wrote and removed, whatever became of the runs."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.conftest import end_group
from tests.processes import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Mirror
    from tests.fakes.index import FakeIndex


@pytest.fixture
def diff(mirror: Mirror, index: FakeIndex) -> Path:
    index.add_file("six", "six-1.0-py3-none-any.whl", metadata=b"Metadata-Version: 2.1\n")
    index.add_file("idna", "idna-1.0.tar.gz")
    path = mirror.home / "lists/diff"
    mirror.settings |= {"diff-file": str(path), "delete-grace": "0"}
    return path


def lines(path: Path) -> set[str]:
    return set(path.read_text().splitlines())


def held(mirror: Mirror) -> set[str]:
    return {str(path) for path in mirror.web.rglob("*") if path.is_file() and path.name != "last-modified"}


def test_the_first_run_lists_everything_and_a_run_without_changes_nothing(mirror: Mirror, diff: Path):
    assert mirror.run().status == 0
    assert lines(diff) == held(mirror)
    assert lines(diff.with_name("diff.deleted")) == set()
    assert mirror.run().status == 0
    assert lines(diff) == set()


def test_removals_stand_in_a_list_of_their_own(mirror: Mirror, index: FakeIndex, diff: Path):
    mirror.run()
    before = held(mirror)
    index.remove_project("six")
    assert mirror.run().status == 0
    assert lines(diff.with_name("diff.deleted")) == before - held(mirror)
    others = {path for path in lines(diff) if "/changes/" not in path}
    assert {path.rpartition("/")[2] for path in others} <= {"index.html", "index.v1_html", "index.v1_json"}


def test_what_a_killed_run_published_is_listed_by_the_next_that_ends(mirror: Mirror, index: FakeIndex, diff: Path):
    index.fill(30, files=1)
    gate = index.gate("/simple/x-*", skip=1)
    process = mirror.start(set={"processes": "1"})
    gate.wait(1)
    end_group(process, signal.SIGTERM)
    index.release()
    process.communicate()
    first = lines(diff)
    gate = index.gate("/packages/*", skip=3)
    process = mirror.start()
    gate.wait(1)
    end_group(process, signal.SIGKILL)
    index.release()
    process.communicate()
    assert mirror.run().status == 0
    listed = first | lines(diff)
    assert {path for path in held(mirror) if "/packages/" not in path} <= listed
    assert {path for path in listed if path.endswith((".whl", ".gz", ".html"))} <= held(mirror)


def test_what_an_interrupted_run_published_is_listed_again_by_the_one_that_finishes(
    mirror: Mirror, index: FakeIndex, diff: Path
):
    gate = index.gate("/simple/idna/")
    process = mirror.start(set={"processes": "1", "timeout": "60"})
    gate.wait(1)
    until(lambda: list((mirror.web / "packages").rglob("six-*.metadata")), "six is stored")
    end_group(process, signal.SIGTERM)
    index.release()
    process.communicate()
    assert process.returncode == 143
    assert diff.exists()
    assert mirror.run().status == 0
    assert lines(diff) == held(mirror)
    assert mirror.run().status == 0
    assert lines(diff) == set()


def test_what_a_verification_repairs_and_removes_is_listed_by_the_next_run(
    mirror: Mirror, index: FakeIndex, diff: Path
):
    mirror.run()
    (wheel,) = (mirror.web / "packages").rglob("six-*.whl")
    wheel.write_bytes(b"torn")
    stray = mirror.web / "packages/000/stray.tar.gz"
    stray.parent.mkdir(parents=True, exist_ok=True)
    stray.write_bytes(b"nobody's")
    assert mirror.run("--delete", command="verify").status == 0
    assert not stray.exists()
    assert mirror.run().status == 0
    assert lines(diff) == {str(wheel)}
    assert lines(diff.with_name("diff.deleted")) == {str(stray)}


def test_what_quarantine_hides_is_listed_as_removed_and_as_written_when_it_comes_back(
    mirror: Mirror, index: FakeIndex, diff: Path
):
    mirror.run()
    files = {str(path) for path in (mirror.web / "packages").rglob("six-*")}
    index.quarantine("six")
    assert mirror.run().status == 0
    assert lines(diff.with_name("diff.deleted")) == files
    index.clear_quarantine("six")
    assert mirror.run().status == 0
    assert files <= lines(diff)


def test_pages_in_a_form_that_is_not_asked_for_any_more_are_listed_as_removed(mirror: Mirror, diff: Path):
    mirror.run()
    before = held(mirror)
    assert mirror.run(set={"simple-format": "JSON"}).status == 0
    assert lines(diff.with_name("diff.deleted")) == before - held(mirror)
    assert mirror.run(set={"simple-format": "JSON"}).status == 0
    assert lines(diff.with_name("diff.deleted")) == set()


def test_a_list_that_cannot_be_written_is_a_storage_failure_and_nothing_of_it_is_lost(mirror: Mirror, diff: Path):
    diff.parent.write_text("in the way")
    result = mirror.run()
    assert result.status == 6
    assert "diff-file: " in result.stdout
    diff.parent.unlink()
    assert mirror.run().status == 0
    assert lines(diff) == held(mirror)


def test_neither_is_one_that_a_deletion_cannot_write(mirror: Mirror, diff: Path):
    mirror.run()
    before = held(mirror)
    shutil.rmtree(diff.parent)
    diff.parent.write_text("in the way")
    result = mirror.run("six", command="delete")
    assert result.status == 6
    assert "diff-file: " in result.stderr
    diff.parent.unlink()
    assert mirror.run().status == 0
    assert lines(diff.with_name("diff.deleted")) == before - held(mirror)


def test_a_directory_gets_a_list_of_bandersnatchs_name_and_an_epoch_where_asked(mirror: Mirror, diff: Path):
    diff.mkdir(parents=True)
    mirror.run(set={"diff-append-epoch": "true"})
    names = sorted(path.name for path in diff.iterdir())
    assert [re.sub(r"-[0-9]+(\.deleted)?$", "", name) for name in names] == ["mirrored-files"] * 2


@pytest.mark.parametrize(
    ("value", "path"), [("{{mirror_directory}}/list", "mirror/list"), ("{{mirror_nothing}}/x", "mirror/mirrored-files")]
)
def test_another_setting_may_be_referred_to_in_a_file(mirror: Mirror, index: FakeIndex, diff: Path, value, path):
    text = f"[mirror]\ndirectory = {mirror.directory}\nmaster = {index.url}\nallow-non-https = true\nmin-free = 0\n"
    (mirror.home / "conf").write_text(f"{text}diff-file = {value}\n")

    words = [sys.executable, "-m", "fastmirror", "-c", str(mirror.home / "conf"), "mirror"]
    subprocess.run(words, check=True, capture_output=True)
    assert (mirror.home / path).read_text()
