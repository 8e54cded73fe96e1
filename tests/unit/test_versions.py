"""Earlier states of pages, old names and comparison, where the real command would take long to lead there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fastmirror.comparison import holds
from fastmirror.filetree import FileTree
from fastmirror.layout import Layout, PageFormat, Tree, document_paths
from fastmirror.legacy_names import LegacyNames
from fastmirror.names import NormalizedName
from fastmirror.pages import published_paths
from fastmirror.settings import fingerprint
from fastmirror.settings_file import parse_settings
from fastmirror.versions import outdated, stage_state, state_shown

SIX = NormalizedName("six")
FLAT = Tree(Layout.FLAT, hash_index=False)
HASHED = Tree(Layout.HASHED, hash_index=False)


@pytest.fixture
def storage(tmp_path: Path) -> FileTree:
    storage = FileTree(str(tmp_path), None, durable=False)
    storage.prepare()
    storage.close()
    return storage


def test_the_state_shown_outlives_older_and_newer_ones(storage: FileTree) -> None:
    versions = Path(storage.web, "simple/six/versions")
    versions.mkdir(parents=True)
    names = [f"index_{serial}_20{year}-01-01T000000.000000Z" for serial, year in ((7, 20), (6, 21), (5, 99))]
    for name in names:
        (versions / f"{name}.html").touch()
    assert [Path(path).stem for path in outdated(storage, FLAT, SIX, 1, names[0])] == names[1:]
    assert [Path(path).stem for path in outdated(storage, FLAT, SIX, 2, names[0])] == [names[1]]


def test_links_are_put_into_place_after_what_they_lead_to(storage: FileTree) -> None:
    staged, state = stage_state(storage, FLAT, SIX, None, {PageFormat.HTML: b"a", PageFormat.JSON: b"b"})
    paths = [final for page in staged for final in page.final]
    assert state.startswith("index_0_")
    assert [path.startswith("simple/six/versions/") for path in paths] == [True] * 3 + [False] * 3


@pytest.mark.parametrize("target", ["/etc/passwd", "versions/missing.html", "../../six", "versions/index_1_2020Z.html"])
def test_a_link_that_is_not_ours_shows_no_state(storage: FileTree, target: str) -> None:
    page = Path(storage.web, "simple/six/index.html")
    page.parent.mkdir(parents=True)
    page.symlink_to(target)
    assert state_shown(storage, "simple/six/index.html") is None


def test_old_names_that_lead_to_the_projects_own_directory_are_left(storage: FileTree) -> None:
    """As on a file system that does not tell Six from six: one directory with two names."""
    own = Path(storage.web, "simple/six")
    own.mkdir()
    (own / "index.html").touch()
    old = Path(storage.web, "simple/Six")
    old.mkdir()
    (old / "index.html").touch()
    assert LegacyNames(storage.web, FLAT).pages(SIX) == ["simple/Six/index.html"]
    names = LegacyNames(storage.web, FLAT)
    names.pages(SIX)
    (old / "index.html").unlink()
    old.rmdir()
    old.symlink_to("six")
    assert names.pages(SIX) == []


def test_a_hashed_tree_has_no_old_names(storage: FileTree) -> None:
    Path(storage.web, "simple/AB").mkdir()
    assert LegacyNames(storage.web, HASHED).pages(NormalizedName("ab")) == []


def test_a_document_lies_where_it_is_served_from() -> None:
    assert document_paths(FLAT, SIX) == ("json/six", "pypi/six/json")
    assert document_paths(HASHED, SIX)[0].split("/")[::2] == ["json", "six"]


def test_a_projects_published_paths_are_pages_documents_and_states(storage: FileTree) -> None:
    versions = Path(storage.web, "simple/six/versions")
    versions.mkdir(parents=True)
    (versions / "index_7_2020-01-01T000000.000000Z.html").touch()
    paths = list(published_paths(storage, FLAT, SIX))
    assert paths == [
        *(f"simple/six/index.{kind}" for kind in ("v1_json", "html", "v1_html")),
        *("json/six", "pypi/six/json", "simple/six/versions/index_7_2020-01-01T000000.000000Z.html"),
    ]
    assert len(list(published_paths(storage, HASHED, SIX))) == 3


@pytest.mark.parametrize("mtime", [0.0, 1704067200.000001, 1704067200.123457, 4102444800.999999])
def test_a_time_that_was_once_a_float_still_agrees(storage: FileTree, mtime: float) -> None:
    path = Path(storage.web, "packages/x")
    path.write_bytes(b"other")
    os.utime(path, (mtime, mtime))  # as bandersnatch sets it
    assert holds(storage, "stat", "packages/x", "ab" * 32, 5, mtime) is bool(mtime)
    assert not holds(storage, "stat", "packages/x", "ab" * 32, 6, mtime)
    assert not holds(storage, "stat", "packages/x", "ab" * 32, None, mtime)
    assert not holds(storage, "hash", "packages/x", "ab" * 32, 5, mtime)
    assert not holds(storage, "stat", "packages/y", "ab" * 32, 5, mtime)


@pytest.mark.parametrize(
    "setting", [("json", "true"), ("release-files", "false"), ("digest_name", "md5"), ("keep_index_versions", "3")]
)
def test_what_shapes_a_publication_is_in_the_fingerprint_only_where_it_is_chosen(setting: tuple[str, str]) -> None:
    usual = {"directory": "/m", "root_uri": "https://files.example"}
    stated = {"json": "false", "release-files": "true", "digest_name": "sha256", "keep_index_versions": "0"}
    digest = fingerprint(parse_settings(None, overrides=usual), 1)
    assert fingerprint(parse_settings(None, overrides=usual | stated), 1) == digest
    assert fingerprint(parse_settings(None, overrides=usual | dict([setting])), 1) != digest
