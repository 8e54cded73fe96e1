"""verify: everything at rest is read, what is damaged is mended from upstream, and nothing is lost by it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.fakes import faults
from tests.published import page_file, stamps, stored
from tests.tree import check_tree

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Mirror
    from tests.fakes.index import FakeIndex


@pytest.fixture(params=["hashed", "flat"])
def filled(mirror: Mirror, index: FakeIndex, request: pytest.FixtureRequest) -> Mirror:
    for name in ("six", "idna", "foo"):
        index.add_file(name, f"{name}-1.0.tar.gz")
        index.add_file(name, f"{name}-1.0-py3-none-any.whl", metadata=b"Metadata-Version: 2.1\n")
    mirror.settings["layout"] = request.param
    assert mirror.run().status == 0
    index.clear_requests()
    return mirror


def at_rest(mirror: Mirror, filename: str) -> Path:
    (path,) = (mirror.web / "packages").rglob(filename)
    return path


def damage(mirror: Mirror) -> None:
    """One of each kind, with sizes and times kept where they can be."""
    for filename in ("six-1.0.tar.gz", "idna-1.0-py3-none-any.whl.metadata"):
        path = at_rest(mirror, filename)
        facts = path.stat()
        path.write_bytes(b"\0" * facts.st_size)
        os.utime(path, ns=(facts.st_mtime_ns, facts.st_mtime_ns))
    at_rest(mirror, "foo-1.0.tar.gz").unlink()
    page_file(mirror, "foo").write_bytes(b"{}")
    (mirror.web / "simple/index.html").write_text("nothing")


def check(mirror: Mirror, index: FakeIndex) -> list[str]:
    return check_tree(mirror.web, mirror.settings["layout"], index)  # type: ignore[arg-type]


def test_a_sound_mirror_is_read_without_a_request(filled: Mirror, index: FakeIndex):
    before = stamps(filled.web)
    result = filled.run(command="verify")
    assert (result.status, result.stdout.splitlines()[-1]) == (0, "well")
    assert "checked: 3 projects, 9 files" in result.stdout
    assert index.paths() == []
    assert stamps(filled.web) == before


def test_what_is_damaged_is_mended_from_upstream(filled: Mirror, index: FakeIndex):
    damage(filled)
    result = filled.run(command="verify")
    assert (result.status, result.stdout.splitlines()[-1]) == (0, "well again")
    assert check(filled, index) == []
    assert filled.run(command="verify").stdout.splitlines()[-1] == "well"


def test_a_dry_run_says_what_is_damaged_and_touches_nothing(filled: Mirror, index: FakeIndex):
    damage(filled)
    before = stamps(filled.web)
    result = filled.run("--dry-run", command="verify")
    assert result.status == 1
    for name in ("six-1.0.tar.gz", "foo-1.0.tar.gz", "idna-1.0-py3-none-any.whl.metadata"):
        assert name in result.stdout
    assert index.paths() == []
    assert stamps(filled.web) == before


def test_what_upstream_cannot_give_is_named_and_the_rest_is_mended(filled: Mirror, index: FakeIndex):
    damage(filled)
    index.fault("/packages/*six-1.0.tar.gz", faults.status(404))
    result = filled.run(command="verify")
    assert result.status == 1
    assert "six-1.0.tar.gz" in result.stdout
    assert check_tree(filled.web, filled.settings["layout"], index, absent={"six-1.0.tar.gz"}, leftovers=True) == []  # type: ignore[arg-type]
    index.clear_faults()
    assert filled.run("--retry-failed").status == 0
    problems = check_tree(filled.web, filled.settings["layout"], index, leftovers=True)  # type: ignore[arg-type]
    assert problems == []


def test_what_no_project_owns_goes_with_delete_alone(filled: Mirror, index: FakeIndex):
    stray = filled.web / "packages/ab"
    stray.mkdir(exist_ok=True)
    (stray / "stray.whl").write_bytes(b"x")
    assert filled.run(command="verify").status == 0
    assert "stray.whl" in stored(filled)
    assert filled.run("--delete", "--dry-run", command="verify").status == 0
    assert "stray.whl" in stored(filled)
    assert filled.run("--delete", command="verify").status == 0
    assert check(filled, index) == []


def test_so_much_that_no_project_owns_is_held_back_by_the_guard(filled: Mirror):
    (filled.web / "packages/ab").mkdir(exist_ok=True)
    for number in range(3):
        (filled.web / f"packages/ab/stray-{number}").write_bytes(b"x")
    result = filled.run("--delete", command="verify", set={"max-removed-files": "2"})
    assert result.status == 4
    assert "--set max-removed-files=3" in result.stdout
    assert len(list((filled.web / "packages/ab").glob("stray-*"))) == 3


def test_without_a_mirror_there_is_nothing_to_verify(mirror: Mirror):
    assert mirror.run(command="verify").status == 2
