"""Links that somebody has put below ``web/``: nothing outside the mirror is changed through them, or published."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.published import at_rest, page_file, problems, stamps, succeed

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Mirror
    from tests.fakes.index import FakeIndex

NAMES = ("linked-file", "linked-files", "linked-page", "linked-pages")
AT_ONCE = {"delete-grace": 0}


def wheel(name: str, version: str = "1.0") -> str:
    return f"{name.replace('-', '_')}-{version}-py3-none-any.whl"


def put_outside(path: Path, outside: Path) -> None:
    """Let a link stand for it, to where it is now."""
    shutil.move(path, outside / path.name)
    path.symlink_to(outside / path.name)


@pytest.fixture
def planted(each_layout: Mirror, index: FakeIndex, tmp_path: Path) -> Path:
    """A whole mirror of which a file, a page, a directory of each and the root index are links; returns where to."""
    for name in (*NAMES, "plain"):
        index.add_file(name, wheel(name), metadata=b"Name: x\n")
    succeed(each_layout.run())
    outside = tmp_path / "outside"
    outside.mkdir()
    put_outside(at_rest(each_layout, wheel("linked-file")), outside)
    put_outside(at_rest(each_layout, wheel("linked-files")).parent, outside)
    put_outside(page_file(each_layout, "linked-page"), outside)
    put_outside(page_file(each_layout, "linked-pages").parent, outside)
    put_outside(each_layout.web / "simple/index.v1_json", outside)
    return outside


def links(mirror: Mirror) -> list[str]:
    return [path.relative_to(mirror.web).as_posix() for path in mirror.web.rglob("*") if path.is_symlink()]


def mend(mirror: Mirror, index: FakeIndex) -> None:
    """What verify removes the links of is mirrored again."""
    result = mirror.run("--delete", command="verify", set=AT_ONCE)
    assert result.status == 1
    assert links(mirror) == []
    succeed(mirror.run("--retry-failed", set=AT_ONCE))
    assert problems(mirror, index) == []


def test_nothing_is_written_or_removed_through_a_link(each_layout: Mirror, index: FakeIndex, planted: Path) -> None:
    before = stamps(planted)
    for name in NAMES:
        index.add_file(name, wheel(name, "2.0"), metadata=b"Name: x\n")
        index.remove_file(name, wheel(name))
    assert each_layout.run(set=AT_ONCE).status == 1
    assert "a link, which is not followed" in each_layout.failures()["linked-pages"]
    mend(each_layout, index)
    assert stamps(planted) == before


def test_what_is_behind_a_link_is_not_taken_for_stored(each_layout: Mirror, index: FakeIndex, planted: Path) -> None:
    before = stamps(planted)
    assert each_layout.run("--force-check").status == 1
    assert set(each_layout.failures()) == {"linked-files", "linked-pages"}
    assert not at_rest(each_layout, wheel("linked-file")).is_symlink()
    assert not page_file(each_layout, "linked-page").is_symlink()
    mend(each_layout, index)
    assert stamps(planted) == before


def test_a_project_is_deleted_without_what_its_links_lead_to(
    each_layout: Mirror, index: FakeIndex, planted: Path
) -> None:
    before = stamps(planted)
    succeed(each_layout.run(*NAMES, command="delete"))
    assert each_layout.run("--delete", command="verify").status == 0
    assert links(each_layout) == []
    assert problems(each_layout, index, absent=NAMES) == []
    assert stamps(planted) == before


def test_a_file_that_is_a_link_is_not_exported(mirror: Mirror, index: FakeIndex, tmp_path: Path) -> None:
    index.add_file("six", wheel("six"))
    succeed(mirror.run())
    put_outside(at_rest(mirror, wheel("six")), tmp_path)
    result = mirror.run(str(tmp_path / "bundle"), command="export")
    assert result.status == 1
    assert "missing, though the state names it" in result.stderr
