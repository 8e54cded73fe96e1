"""What leaves the mirror, and what stays because another page names it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from fastmirror.filetree import FileTree
from fastmirror.layout import Layout, PageFormat, Tree, page_paths
from fastmirror.model import Outcome, StoredFile
from fastmirror.names import NormalizedName
from fastmirror.packing import pack_files
from fastmirror.removal import Leaving, free_disputed, retract, unlink_doomed
from fastmirror.schema import RecordedJob
from fastmirror.state import State

if TYPE_CHECKING:
    from collections.abc import Iterator

A, B, C = (NormalizedName(name) for name in "abc")
NOW = 1_700_000_000.0
LIMIT = 1000
FILE = StoredFile("packages/0ef/shared-1.0.whl", 7, "ab" * 32, 0.0, "cd" * 32)
METADATA = f"{FILE.path}.metadata"


class Place(NamedTuple):
    """A mirror without upstream."""

    storage: FileTree
    state: State

    def put(self, path: str) -> None:
        assert self.storage.place(self.storage.write_staged(b"content"), path)

    def holds(self, path: str) -> bool:
        return self.storage.size(path) is not None

    def record(self, name: NormalizedName, *files: StoredFile, shared: tuple[str, ...] = ()) -> None:
        outcome = Outcome(name, "published", page_digest="p", files=pack_files(files), shared=shared)
        with self.state.transaction():
            self.state.record([(outcome, RecordedJob(False, False, 0, None))], NOW, 1)

    def drop(self, name: NormalizedName, *paths: str, since: float = NOW) -> None:
        with self.state.transaction():
            self.state.doom([Outcome(name, "published", dropped=paths)], since)

    def unlink(self, moment: float = NOW, limit: int = LIMIT) -> int:
        return unlink_doomed(self.state, self.storage, moment, limit)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    storage = FileTree(str(tmp_path), None, durable=False)
    storage.prepare()
    storage.open_desk()
    place = Place(storage, State(str(tmp_path / ".fastmirror" / "state.sqlite")))
    place.put(FILE.path)
    place.put(METADATA)
    yield place
    place.state.close()
    storage.close()


def test_a_dropped_file_is_unlinked_with_its_core_metadata_when_its_grace_is_over(place):
    place.record(A)
    place.drop(A, FILE.path, METADATA)
    assert place.unlink(NOW - 1) == 0
    assert place.holds(FILE.path)
    assert place.unlink() == 0
    assert not place.holds(FILE.path)
    assert not place.holds(METADATA)
    assert place.state.totals().doomed == 0


def test_a_file_that_its_project_lists_again_is_spared(place):
    place.drop(A, FILE.path, METADATA)
    place.record(A, FILE)
    place.unlink()
    assert place.holds(FILE.path)
    assert place.holds(METADATA)
    assert place.state.totals().doomed == 0


def test_a_file_that_another_project_found_in_place_is_spared_with_its_core_metadata(place):
    place.record(A)
    place.record(B, FILE, shared=(FILE.path,))
    place.drop(A, FILE.path, METADATA)
    place.unlink()
    assert place.holds(FILE.path)
    assert place.holds(METADATA)


def test_a_file_of_three_projects_stays_until_the_last_one_drops_it(place):
    place.record(C, FILE)
    for name in (A, B):
        place.record(name, FILE, shared=(FILE.path,))
    for name in (A, C):
        place.record(name)
        place.drop(name, FILE.path, METADATA)
        place.unlink()
        assert place.holds(FILE.path)
        assert place.holds(METADATA)
    place.record(B)
    place.drop(B, FILE.path, METADATA)
    place.unlink()
    assert not place.holds(FILE.path)
    assert not place.holds(METADATA)


def test_core_metadata_that_is_no_longer_offered_goes_and_its_file_stays(place):
    place.record(A, FILE._replace(metadata=None))
    place.drop(A, METADATA)
    place.unlink()
    assert place.holds(FILE.path)
    assert not place.holds(METADATA)


def test_more_than_the_guard_allows_is_held_back_whole(place):
    place.drop(A, FILE.path, METADATA)
    assert place.unlink(limit=1) == 2
    assert place.holds(FILE.path)
    assert place.state.totals().doomed == 2


def test_a_doomed_file_that_is_gone_already_is_no_error(place):
    place.drop(A, "packages/fff/gone.whl")
    place.unlink()
    assert place.state.totals().doomed == 0


def test_a_retracted_project_leaves_the_index_then_its_page_and_its_files_wait(place):
    tree = Tree(Layout.FLAT, hash_index=False)
    pages = [path for kind in (PageFormat.HTML, PageFormat.JSON) for path in page_paths(tree, A, kind)]
    for path in pages:
        place.put(path)
    place.record(A, FILE)
    place.record(B)
    seen = []

    def write_index() -> None:
        seen.append(([name for name, _ in place.state.listed()], [place.holds(path) for path in pages]))

    retract([Leaving(A, "gone upstream", hide=False)], place.state, place.storage, tree, NOW, write_index)
    assert seen == [([B], [True, True, True])]
    assert not any(map(place.holds, pages))
    assert not (Path(place.storage.web) / "simple/a").exists()
    assert place.holds(FILE.path)
    assert dict(place.state.every_serial()) == {B: None}
    place.unlink()
    assert not place.holds(FILE.path)


def test_a_disputed_name_is_freed_only_if_no_project_names_what_holds_it(place):
    place.record(A, FILE)
    place.put("packages/0ef/orphan.whl")
    freed = free_disputed({FILE.path, METADATA, "packages/0ef/orphan.whl"}, place.state, place.storage)
    assert freed == {"packages/0ef/orphan.whl"}
    assert place.holds(FILE.path)
    assert place.holds(METADATA)


def test_core_metadata_that_no_row_covers_gives_up_its_name(place):
    """Else a changed core metadata file could never take its place."""
    place.record(A, FILE._replace(metadata=None))
    assert free_disputed({METADATA}, place.state, place.storage) == {METADATA}


def test_nothing_disputed_frees_nothing(place):
    assert free_disputed(set(), place.state, place.storage) == set()
