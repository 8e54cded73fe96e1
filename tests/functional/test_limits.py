"""What the system does not give: file descriptors, permissions, features of the file system. Nothing is lost by it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from fastmirror.layout import bucket
from tests.published import problems, succeed
from tests.tree import check_tree

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Mirror, Result
    from tests.fakes.index import FakeIndex

    Record = Callable[[str, object], None]


def furnish(index: FakeIndex) -> None:
    for number in range(20):
        index.add_file(f"project-{number}", f"project_{number}-1.0-py3-none-any.whl", metadata=b"Name: x\n")


def told(result: Result) -> str:
    said = result.stdout + result.stderr
    assert "bug" not in said
    assert "Traceback" not in said
    return said


@pytest.mark.case(48)
@pytest.mark.parametrize("descriptors", [16, 24])
def test_a_run_with_too_few_descriptors_ends_with_6_and_the_next_does_all(
    mirror: Mirror, index: FakeIndex, descriptors: int, record_property: Record
) -> None:
    furnish(index)
    mirror.through = ["prlimit", f"--nofile={descriptors}:{descriptors}"]
    result = mirror.run()
    assert "Too many open files" in told(result)
    assert result.status == 6
    mirror.through = []
    succeed(mirror.run())
    assert problems(mirror, index) == []
    record_property("fault", f"{descriptors} file descriptors: exit 6, the next run does all")


@pytest.fixture
def by_modes(mirror: Mirror) -> Mirror:
    """The command heeds the modes of directories, also where root runs the tests."""
    if os.geteuid() == 0:
        mirror.through = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    return mirror


@pytest.mark.case(48)
def test_one_directory_without_permission_fails_its_own_projects_alone(
    by_modes: Mirror, index: FakeIndex, record_property: Record
) -> None:
    furnish(index)
    shut = by_modes.web / "simple" / bucket("project-3")
    shut.mkdir(parents=True)
    shut.chmod(0o555)
    result = by_modes.run()
    assert result.status == 1
    assert "Permission denied" in told(result)
    assert set(by_modes.failures()) == {name for name in index.projects() if bucket(name) == shut.name}
    shut.chmod(0o755)
    succeed(by_modes.run("--retry-failed"))
    assert problems(by_modes, index) == []
    record_property("fault", "one directory of pages without permission: exit 1, its projects alone fail")


@pytest.mark.case(48)
@pytest.mark.parametrize("path", [".", ".fastmirror"])
def test_a_mirror_without_permission_is_exit_6_and_says_where(
    by_modes: Mirror, index: FakeIndex, path: str, record_property: Record
) -> None:
    furnish(index)
    shut = by_modes.directory / path
    shut.mkdir(parents=True)
    shut.chmod(0o555)
    result = by_modes.run()
    assert result.status == 6
    assert f"(Permission denied): '{by_modes.directory}" in told(result)
    shut.chmod(0o755)
    succeed(by_modes.run())
    assert problems(by_modes, index) == []
    record_property("fault", f"no permission to write in {path}: exit 6, named; nothing is fetched")


@pytest.mark.case(39)
@pytest.mark.parametrize("layout", ["hashed", "flat"])
def test_names_of_255_bytes_are_stored_and_longer_ones_refused(
    mirror: Mirror, index: FakeIndex, layout: str, record_property: Record
) -> None:
    mirror.settings["layout"] = layout
    longest = "x-1.0" + "é" * 121 + "abcd.zip"
    assert len(longest.encode()) == 255
    index.add_file("longest", longest)
    assert mirror.run().status == 0
    assert problems(mirror, index) == []
    index.add_file("longest", f"a{longest}")
    assert mirror.run().status == 1
    assert "file name of more than 255 bytes" in mirror.failures()["longest"]
    assert problems(mirror, index, absent={f"a{longest}"}) == []
    record_property("fault", f"a file name of 255 bytes, and one of 256 ({layout}): stored; refused")


def refusing(mirror: Mirror, *refusals: str) -> None:
    mirror.through = [sys.executable, "-m", "tests.refusals", *refusals, "--"]


@pytest.mark.case(48)
@pytest.mark.parametrize(
    ("refused", "said"),
    [("writev=EDQUOT", "Disk quota exceeded"), ("pwrite64:1000=EDQUOT", "hint: is a quota used up?")],
    ids=["file", "state"],
)
def test_a_quota_that_is_used_up_ends_the_run_with_6_and_the_next_does_the_rest(
    mirror: Mirror, index: FakeIndex, refused: str, said: str, record_property: Record
) -> None:
    furnish(index)
    succeed(mirror.run())
    index.add_file("project-1", "project_1-2.0.tar.gz", content=b"large" * 40_000)
    index.add_file("project-2", "project_2-2.0.tar.gz", content=b"small")
    refusing(mirror, refused)
    result = mirror.run()
    assert said in told(result)
    assert result.status == 6
    assert check_tree(mirror.web, "hashed", settled=False) == []
    mirror.through = []
    succeed(mirror.run())
    assert problems(mirror, index) == []
    record_property("fault", f"a used-up quota ({refused}): exit 6, the tree stays whole, the next run does the rest")


NEITHER = ("renameat2=EINVAL", "link=EPERM", "linkat=EPERM")


def test_a_file_system_without_links_and_exclusive_renames_holds_a_mirror(
    each_layout: Mirror, index: FakeIndex, record_property: Record
) -> None:
    furnish(index)
    refusing(each_layout, *NEITHER)
    succeed(each_layout.run())
    index.add_file("project-1", "project_1-2.0.tar.gz")
    index.remove_project("project-2")
    succeed(each_layout.run(set={"delete-grace": 0}))
    found = problems(each_layout, index)
    assert [problem for problem in found if not problem.endswith("are two files")] == []
    record_property("fault", "no hard links, no exclusive renames: all is mirrored, under a lock")


def test_without_exclusive_renames_a_name_that_is_taken_is_not_replaced(mirror: Mirror, index: FakeIndex) -> None:
    """Two files of one name that the hashed layout has in one directory."""
    wheel = "shared-1.0.tar.gz"
    for number in range(2):
        path = f"/packages/ab/c{number}/{'d' * 60}/{wheel}"
        index.add_file(f"project-{number}", wheel, content=b"content %d" % number, path=path)
    refusing(mirror, *NEITHER)
    succeed(mirror.run(set={"simple-format": "JSON"}))
    assert problems(mirror, index, formats=("json",)) == []
    assert len(list((mirror.web / "packages").rglob(wheel))) == 2
