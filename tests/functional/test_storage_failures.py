"""A disk that is full, read-only or damaged: the run says so and ends with 6, the tree stays whole, the next goes on.

The mirrors of these tests are file systems of their own: small ones in memory. Mounting them takes the rights of
root, or of a name space of one's own: ``unshare --user --map-root-user --mount scripts/test``.
"""

from __future__ import annotations

import errno
import os
import random
import sqlite3
import subprocess
from typing import TYPE_CHECKING

import pytest

from fastmirror.layout import bucket
from tests.processes import until
from tests.published import stored
from tests.tree import check_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import Mirror, Result
    from tests.fakes.index import FakeIndex

    Disk = Callable[[str], None]

ENDS_WITHIN_S = 10


@pytest.fixture
def disk(mirror: Mirror) -> Iterator[Disk]:
    """Make the mirror's directory a small file system, or change it: takes mount's options."""
    directory = str(mirror.directory)

    def mount(options: str) -> None:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", directory]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.fail(f"cannot mount: {done.stderr.strip()} (hint: {__doc__})")

    mirror.directory.mkdir()
    mount("size=64m")
    try:
        yield lambda options: mount(f"remount,{options}")
    finally:
        mirror.close()
        subprocess.run(["umount", "--lazy", directory], check=True)


def assert_told_full(result: Result) -> None:
    """The disk refuses a file, or the state's own writing: whichever comes first."""
    assert_told(result)
    assert "No space left on device" in result.stderr + result.stdout or "disk is full" in result.stderr + result.stdout


def assert_told(result: Result, *words: str) -> None:
    """The run ended because of the storage, and says so to a person."""
    assert result.status == 6, result
    said = result.stdout + result.stderr
    assert "Traceback" not in said
    assert "bug" not in said
    for word in words:
        assert word in said


def finish(mirror: Mirror, index: FakeIndex) -> None:
    """With the disk in order again the next run does the rest, and nothing that was done."""
    done = stored(mirror)
    index.clear_requests()
    result = mirror.run()
    assert (result.status, result.stderr) == (0, ""), result
    assert check_tree(mirror.web, "hashed", index) == []
    assert not done & {path.rpartition("/")[2] for path in index.paths("/packages/")}


# Full


def heavy_projects(index: FakeIndex) -> None:
    chance = random.Random(5)
    for number in range(30):
        name = f"project_{number:02d}-1.0-py3-none-any.whl"
        index.add_file(f"project-{number:02d}", name, content=chance.randbytes(200_000), metadata=b"Name: x\n")


@pytest.mark.case(48)
def test_a_full_disk_ends_the_run_with_a_whole_tree_and_the_next_one_goes_on(mirror, index, disk) -> None:
    heavy_projects(index)
    disk("size=3m")
    told = mirror.run()
    assert_told_full(told)
    assert_told(told, "not complete")
    assert check_tree(mirror.web, "hashed", settled=False) == []
    assert 0 < len(stored(mirror)) < 60
    assert_told_full(mirror.run())
    assert check_tree(mirror.web, "hashed", settled=False) == []
    disk("size=64m")
    finish(mirror, index)


@pytest.mark.case(48)
def test_a_disk_that_fills_while_large_files_are_written_ends_the_run_with_a_whole_tree(mirror, index, disk) -> None:
    chance = random.Random(6)
    for number in range(3):
        index.add_file(f"large-{number}", f"large_{number}-1.tar.gz", content=chance.randbytes(4 << 20))
    index.add_file("small", "small-1.tar.gz")
    disk("size=6m")
    assert_told_full(mirror.run())
    assert check_tree(mirror.web, "hashed", settled=False) == []
    disk("size=64m")
    finish(mirror, index)


@pytest.mark.case(48)
def test_an_update_that_does_not_fit_leaves_the_mirror_as_it_was(mirror, index, disk) -> None:
    heavy_projects(index)
    assert mirror.run().status == 0
    for number in range(30):
        index.add_file(f"project-{number:02d}", f"project_{number:02d}-2.0.tar.gz", content=b"%d" % number * 300_000)
    disk("size=9m")
    assert_told_full(mirror.run())
    assert check_tree(mirror.web, "hashed", settled=False) == []
    disk("size=64m")
    finish(mirror, index)


@pytest.mark.parametrize("free", [0, 40_000])
def test_a_run_that_finds_a_full_disk_says_so(mirror, index, disk, free) -> None:
    heavy_projects(index)
    assert mirror.run().status == 0
    index.add_file("project-00", "project_00-2.0.tar.gz", content=b"x" * 100_000)
    filler = mirror.directory / "filler"
    fill(filler, free)
    assert_told(mirror.run())
    assert check_tree(mirror.web, "hashed", settled=False) == []
    filler.unlink()
    finish(mirror, index)


def fill(filler: Path, free: int) -> None:
    """Leave only so many bytes."""
    with filler.open("wb", buffering=0) as stream:
        try:
            while True:
                stream.write(bytes(1 << 16))
        except OSError as error:
            assert error.errno == errno.ENOSPC  # noqa: PT017 - how much can be written is not known before
        stream.truncate(filler.stat().st_size - free)


@pytest.mark.case(48)
def test_a_disk_without_inodes_is_full_too(mirror, index, disk) -> None:
    heavy_projects(index)
    disk("nr_inodes=60")
    assert_told_full(mirror.run())
    assert check_tree(mirror.web, "hashed", settled=False) == []
    disk("nr_inodes=10000")
    finish(mirror, index)


# min-free


def test_nothing_is_fetched_where_less_than_min_free_is_left(mirror, index, disk) -> None:
    heavy_projects(index)
    result = mirror.run(set={"min-free": "100M"})
    assert_told(result, "min-free", "not complete")
    assert stored(mirror) == set()
    assert index.paths("/packages/") == []
    finish(mirror, index)


def test_a_run_stops_fetching_when_the_space_falls_below_min_free(mirror, index, disk) -> None:
    heavy_projects(index)
    mirror.settings["timeout"] = "60"
    gate = index.gate("/packages/*/project_29-1.0-py3-none-any.whl")
    process = mirror.start(set={"min-free": "20M"})
    gate.wait()
    until(lambda: len(stored(mirror)) == 58, "the other files are there")
    (mirror.directory / "filler").write_bytes(bytes(45 << 20))
    stdout, stderr = process.communicate(timeout=ENDS_WITHIN_S)
    assert process.returncode == 6, stderr
    assert "min-free" in stdout
    assert check_tree(mirror.web, "hashed", settled=False) == []
    gate.open()
    (mirror.directory / "filler").unlink()
    finish(mirror, index)


# Read-only


@pytest.mark.case(48)
def test_a_read_only_mirror_is_told_and_nothing_is_fetched(mirror, index, disk) -> None:
    heavy_projects(index)
    assert mirror.run().status == 0
    index.add_file("project-00", "project_00-2.0.tar.gz")
    disk("ro")
    index.clear_requests()
    assert_told(mirror.run(), "Read-only file system")
    assert index.paths("/packages/") == []
    assert check_tree(mirror.web, "hashed", settled=False) == []
    disk("rw")
    finish(mirror, index)


@pytest.mark.parametrize("name", ["a #1?", "100%25"])
def test_the_state_of_a_mirror_is_found_whatever_its_directory_is_called(mirror, index, name) -> None:
    three_projects(index)
    mirror.directory = mirror.home / name
    assert mirror.run().status == 0
    status = mirror.run(command="status")
    assert (status.status, status.stderr) == (0, ""), status
    assert "3 projects" in status.stdout


def test_a_read_only_mirror_still_says_how_it_stands_and_what_a_run_would_do(mirror, index, disk) -> None:
    heavy_projects(index)
    assert mirror.run().status == 0
    index.touch("project-00")
    disk("ro")
    status = mirror.run(command="status")
    assert (status.status, status.stderr) == (0, ""), status
    assert "30 projects" in status.stdout
    plan = mirror.run(command="plan")
    assert (plan.status, plan.stderr) == (0, ""), plan
    assert "project-00" in plan.stdout


# Something else where it should not be


def three_projects(index: FakeIndex) -> None:
    for name in ("alpha", "beta", "gamma"):
        index.add_file(name, f"{name}-1.0-py3-none-any.whl", metadata=f"Name: {name}\n".encode())


def short_directory(index: FakeIndex, project: str) -> str:
    """Where the hashed layout has a project's file."""
    state = index.project(project)
    assert state is not None
    _, _, first, second, *_ = state.files[0].path.split("/")
    return f"packages/{first}{second[0]}"


def with_obstacle(mirror: Mirror, path: str, kind: str) -> Path:
    obstacle = mirror.web / path
    obstacle.parent.mkdir(parents=True)
    if kind == "directory":
        obstacle.mkdir()
    elif kind == "file":
        obstacle.write_text("in the way")
    else:
        obstacle.symlink_to("nowhere")
    return obstacle


@pytest.mark.parametrize("kind", ["file", "link"])
@pytest.mark.parametrize("place", ["files", "pages"])
def test_what_stands_where_a_directory_should_be_is_no_more_than_one_project_s_trouble(
    mirror, index, place, kind
) -> None:
    three_projects(index)
    path = short_directory(index, "beta") if place == "files" else f"simple/{bucket('beta')}"
    assert_only_beta_suffers(mirror, index, with_obstacle(mirror, path, kind))


def test_a_directory_where_a_page_should_be_is_no_more_than_one_project_s_trouble(mirror, index) -> None:
    three_projects(index)
    obstacle = with_obstacle(mirror, f"simple/{bucket('beta')}/beta.html", "directory")
    assert_only_beta_suffers(mirror, index, obstacle)


def assert_only_beta_suffers(mirror: Mirror, index: FakeIndex, obstacle: Path) -> None:
    result = mirror.run()
    assert result.status in {1, 6}, result
    assert "Traceback" not in result.stdout + result.stderr
    assert "bug" not in result.stdout + result.stderr
    assert "beta" in result.stdout + result.stderr
    obstacle.rmdir() if obstacle.is_dir() else obstacle.unlink()
    assert check_tree(mirror.web, "hashed", settled=False) == []
    if result.status == 1:
        simple = mirror.web / "simple"
        assert all((simple / bucket(name) / f"{name}.v1_json").exists() for name in ("alpha", "gamma"))
    result = mirror.run("--retry-failed")
    assert result.status == 0, result
    assert check_tree(mirror.web, "hashed", index) == []


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_what_has_a_file_s_name_and_is_not_that_file_is_not_in_the_way(mirror, index, kind) -> None:
    """The file goes to its long path, where it is as good; what no project names goes, and a directory stays."""
    three_projects(index)
    path = f"{short_directory(index, 'beta')}/beta-1.0-py3-none-any.whl"
    obstacle = with_obstacle(mirror, path, kind)
    result = mirror.run()
    assert result.status == 0, result
    assert os.path.lexists(obstacle) == (kind == "directory")
    if kind == "directory":
        obstacle.rmdir()
    assert check_tree(mirror.web, "hashed", index) == []


# Damaged


def garbage(path: Path) -> None:
    path.write_bytes(random.Random(7).randbytes(path.stat().st_size))


def no_more_than_a_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def garbage_behind_the_schema(path: Path) -> None:
    content = path.read_bytes()
    page = 4096
    path.write_bytes(content[:page] + random.Random(8).randbytes(len(content) - page))


def another_database(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as other:
        other.execute("create table meta (something text)")
    other.close()


def of_a_later_version(path: Path) -> None:
    with sqlite3.connect(path) as state:
        state.execute("update meta set value = '99' where key = 'schema'")
    state.close()


@pytest.mark.parametrize(
    "damage",
    [garbage, no_more_than_a_header, garbage_behind_the_schema, another_database, of_a_later_version],
    ids=lambda damage: damage.__name__,
)
def test_a_state_that_cannot_be_read_is_named_and_nothing_is_changed(mirror, index, damage) -> None:
    three_projects(index)
    assert mirror.run().status == 0
    index.add_file("alpha", "alpha-2.0.tar.gz")
    state = mirror.directory / ".fastmirror" / "state.sqlite"
    damage(state)
    content = {path: path.read_bytes() for path in mirror.web.rglob("*") if path.is_file()}
    is_readable = damage in (another_database, of_a_later_version)  # what is not, a run makes anew: test_adoption
    for command in ("plan", "status", *(("mirror",) if is_readable else ())):
        result = mirror.run(command=command)
        assert_told(result, str(state))
        assert result.stdout == ""
    assert {path: path.read_bytes() for path in mirror.web.rglob("*") if path.is_file()} == content


@pytest.mark.parametrize("content", [None, b"", b"garbage", b'{"meta": {'])
def test_a_damaged_copy_of_the_root_index_is_fetched_anew(mirror, index, content) -> None:
    three_projects(index)
    assert mirror.run().status == 0
    own = mirror.directory / ".fastmirror"
    kept = [path for path in own.iterdir() if path.is_file() and path.name.startswith("root")]
    assert kept
    for path in kept:
        path.unlink() if content is None else path.write_bytes(content)
    index.add_file("alpha", "alpha-2.0.tar.gz")
    index.remove_project("gamma")
    mirror.settings["delete-grace"] = "0"
    result = mirror.run()
    assert (result.status, result.stderr) == (0, ""), result
    assert check_tree(mirror.web, "hashed", index) == []


def test_a_state_that_is_held_by_another_program_is_named(mirror, index) -> None:
    three_projects(index)
    assert mirror.run().status == 0
    index.add_file("alpha", "alpha-2.0.tar.gz")
    state = mirror.directory / ".fastmirror" / "state.sqlite"
    other = sqlite3.connect(state, isolation_level=None)
    try:
        other.execute("begin immediate")
        assert_told(mirror.run(), "locked", str(state))
    finally:
        other.close()
    assert mirror.run().status == 0
    assert check_tree(mirror.web, "hashed", index) == []
