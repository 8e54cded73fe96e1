"""One program's tree, taken over by the other and given back: no file is transferred again."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.fakes import faults
from tests.parity.beside import Case, Step
from tests.parity.differences import ANY, Difference
from tests.parity.upstreams import grow, varied

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.parity.beside import Bandersnatch, Beside, Side

VARIANTS = [
    pytest.param("", id="defaults"),
    pytest.param("json = true", id="json"),
    pytest.param("hash-index = true", id="hash-index"),
    pytest.param("keep_index_versions = 3", id="keep_index_versions"),
    pytest.param("compare-method = stat", id="stat"),
]
LINKS = (Difference("simple/*/index.*/", ANY, "relative link", "the links hold wherever the tree is mounted"),)
NEW_FILES = ["demo_pkg_one-4.0-py3-none-any.whl", "late-1.0.tar.gz"]


def transferred(side: Side) -> list[str]:
    """Names of the files that the last run asked for, core metadata among them."""
    return sorted(path.rpartition("/")[2] for path in side.requests[-1] if path.startswith("/packages/"))


def give(giver: Side, taker: Side, home: Path) -> None:
    """The other goes on with a copy of the one's directory."""
    shutil.rmtree(home / taker.name, ignore_errors=True)
    shutil.copytree(home / giver.name, home / taker.name, symlinks=True)


@pytest.mark.case(52)
@pytest.mark.parametrize("options", VARIANTS)
def test_a_tree_of_bandersnatch_is_taken_over_and_given_back_without_a_transfer(
    beside: Callable[[Case], Beside], tmp_path: Path, options: str
) -> None:
    both = beside(Case("there and back", varied, options))
    theirs, ours = both.theirs, both.ours
    theirs.run(both.index, "mirror")
    give(theirs, ours, tmp_path)
    assert ours.run(both.index, "mirror").status == 0
    assert transferred(ours) == []
    assert not both.unexplained()

    both.run(Step(upstream=grow))
    assert ours.results[-1].status == 0
    assert [name for name in transferred(ours) if not name.endswith(".metadata")] == NEW_FILES
    links = LINKS if "keep_index_versions" in options else ()
    assert not both.unexplained(*links, results=False)

    give(ours, theirs, tmp_path)
    for command in (("mirror",), ("mirror", "--force-check")):
        assert theirs.run(both.index, *command).status == 0
        assert transferred(theirs) == []
        assert theirs.facts["status"] == str(both.index.serial)
    assert not both.unexplained(*links, results=False)


def test_bandersnatch_goes_on_in_a_tree_that_fastmirror_made(
    beside: Callable[[Case], Beside], bandersnatch: Bandersnatch, tmp_path: Path
) -> None:
    both = beside(Case("ours first", varied, "json = true"))
    theirs, ours = both.theirs, both.ours
    ours.run(both.index, "mirror")
    mine = ours.facts
    give(ours, theirs, tmp_path)

    assert theirs.run(both.index, "mirror").status == 0
    assert transferred(theirs) == []
    grow(both.index)
    assert theirs.run(both.index, "mirror").status == 0
    assert [name for name in transferred(theirs) if not name.endswith(".metadata")] == NEW_FILES
    give(theirs, ours, tmp_path)

    assert ours.run(both.index, "mirror").status == 0
    missing = [] if bandersnatch.major >= 8 else ["demo_pkg_one-4.0-py3-none-any.whl.metadata"]
    assert transferred(ours) == missing
    assert mine.keys() <= ours.facts.keys() | {"exit status/0"}


@pytest.mark.case(52)
def test_a_frozen_tree_is_taken_over_with_what_it_lacks(beside: Callable[[Case], Beside], tmp_path: Path) -> None:
    """Its `todo` says what is missing, its `status` is absent; only what is missing is fetched."""
    both = beside(Case("frozen", varied))
    theirs, ours = both.theirs, both.ours
    both.index.fault("/packages/*/zope.interface-7.0.tar.gz", faults.wrong_content())
    theirs.run(both.index, "mirror")
    assert "todo" in theirs.facts
    both.index.clear_faults()
    give(theirs, ours, tmp_path)

    assert ours.run(both.index, "mirror").status == 0
    assert transferred(ours) == ["zope.interface-7.0.tar.gz"]
    assert "todo" not in ours.facts
    assert ours.facts["status"] == str(both.index.serial)
