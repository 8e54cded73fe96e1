"""The checker of published trees accepts a good one, and says what is wrong with a bad one."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from fastmirror.layout import bucket
from tests.fakes.pages import (
    Origin,
    project_document,
    render_json,
    render_project_html,
    render_root_html,
    root_document,
)
from tests.tree import check_tree

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fakes.catalogue import FakeFile
    from tests.fakes.index import FakeIndex

Layout = Literal["flat", "hashed"]


@pytest.fixture(params=["flat", "hashed"])
def layout(request):
    return request.param


@pytest.fixture
def web(tmp_path: Path, index: FakeIndex, layout: Layout) -> Path:
    index.add_file("six", "six-1.0-py3-none-any.whl", metadata=b"Name: six\n", requires_python=">=3.8,<4")
    index.add_file("six", "six-1.0+local.tar.gz", yanked='say "why" <b>', provenance={"version": 1})
    index.add_project("Empty.One")
    index.add_file("old", "old-1.tar.gz")
    index.archive("old")
    return publish(index, tmp_path / "web", layout)


def publish(index: FakeIndex, web: Path, layout: Layout) -> Path:
    """The tree that a mirror of this index should have."""

    def write(path: str, content: bytes) -> Path:
        target = web / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        target.chmod(0o644)
        return target

    listed = index.projects()
    for name, state in listed.items():
        document = project_document(state, Origin("", "", relative=True), serials=True)
        for file, entry in zip(state.files, document["files"], strict=True):
            del entry["data-dist-info-metadata"]
            entry["provenance"] = index.origin().provenance_url(name, file)
            path = file.path[1:] if layout == "flat" else f"packages/{file.sha256[:3]}/{Path(file.path).name}"
            entry["url"] = f"../../{path}"
            store(write, file, path.replace("%2B", "+"))
        stem = f"simple/{name}/index" if layout == "flat" else f"simple/{bucket(name)}/{name}"
        html = write(f"{stem}.html", render_project_html(document))
        if layout == "flat":
            html.with_suffix(".v1_html").hardlink_to(html)
        write(f"{stem}.v1_json", render_json(document))
    root = root_document(listed, index.serial)
    for entry in root["projects"]:
        entry["name"] = entry["name"].lower().replace(".", "-")
    html = write("simple/index.html", render_root_html(root))
    html.with_suffix(".v1_html").hardlink_to(html)
    write("simple/index.v1_json", render_json(root))
    return web


def store(write: Callable[[str, bytes], Path], file: FakeFile, path: str) -> None:
    assert file.mtime is not None
    os.utime(write(path, file.content), (file.mtime, file.mtime))
    if file.metadata is not None:
        write(f"{path}.metadata", file.metadata)


def test_good_tree_has_no_problems(web: Path, layout: Layout, index: FakeIndex) -> None:
    assert check_tree(web, layout) == []
    assert check_tree(web, layout, index) == []


def page(web: Path, name: str, kind: str) -> Path:
    return next(path for path in web.rglob(f"*.{kind}") if name in {path.stem, path.parent.name})


def one(web: Path, pattern: str) -> Path:
    return next(web.rglob(pattern))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda web: one(web, "six*.whl").unlink(), "a file that is not there"),
        (lambda web: one(web, "*.metadata").unlink(), "a file that is not there"),
        (lambda web: one(web, "six*.whl").write_bytes(b"x"), "of another sha256"),
        (lambda web: one(web, "six*.whl").chmod(0o600), "mode 600"),
        (lambda web: (web / "simple/.tmp123").touch(0o644), "has no place"),
        (lambda web: (web / "packages/six.part").touch(0o644), "has no place"),
        (lambda web: page(web, "six", "v1_json").write_bytes(b"{"), "does not parse"),
        (lambda web: page(web, "six", "html").write_text("<html>"), "is not whole"),
        (lambda web: page(web, "empty-one", "v1_json").unlink(), "has the forms"),
        (lambda web: (web / "simple/index.html").write_text("<html></html>"), "does not list"),
        (lambda web: shutil.copy(web / "simple/index.html", web / "copy"), "has no place"),
        (lambda web: replace(page(web, "six", "v1_json"), b">=3.8", b">=3.9"), "pages disagree"),
        (lambda web: replace(page(web, "six", "v1_json"), b"../../packages", b"../../../packages/.."), "outside"),
        (lambda web: relink(web / "simple/index.v1_html"), "are two files"),
    ],
)
def test_broken_tree_is_told(web: Path, layout: Layout, spoil: Callable[[Path], object], said: str) -> None:
    spoil(web)
    assert said in "\n".join(check_tree(web, layout))


def replace(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))


def relink(path: Path) -> None:
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda index: index.add_file("six", "six-2.0.tar.gz"), "six-2.0.tar.gz"),
        (lambda index: index.add_project("new"), "projects without a page: ['new']"),
        (lambda index: index.remove_project("old"), "old: a page that should not be there"),
        (lambda index: index.remove_file("six", "six-1.0-py3-none-any.whl"), "six (html): files"),
        (lambda index: index.quarantine("six"), "six: a page that should not be there"),
        (lambda index: index.set_yanked("six", "six-1.0-py3"), "yanked=None"),
        (lambda index: index.archive("six"), "status: active, not archived"),
        (lambda index: index.touch("six"), "serial: 100"),
        (lambda index: index.set_file("old", "old-1", upload_time="2020-01-01T00:00:00Z"), "mtime"),
    ],
)
def test_difference_from_upstream_is_told(
    web: Path, layout: Layout, index: FakeIndex, change: Callable[[FakeIndex], object], said: str
) -> None:
    change(index)
    assert said in "\n".join(check_tree(web, layout, index))


def test_what_no_page_names_is_told_unless_allowed(web: Path, layout: Layout, index: FakeIndex) -> None:
    stray = one(web, "six*.whl").with_name("stray-1.tar.gz")
    stray.touch(0o644)
    assert check_tree(web, layout, index, leftovers=True) == []
    assert "files that no page names" in "\n".join(check_tree(web, layout, index))


def test_absent_files_must_be_absent(web: Path, layout: Layout, index: FakeIndex) -> None:
    assert "files" in "\n".join(check_tree(web, layout, index, absent={"old-1.tar.gz"}))
    index.add_file("old", "old-2.tar.gz")
    index.set_serial("old", index.serial - 1)
    assert check_tree(web, layout, index, absent={"old-2.tar.gz"}) == []


def test_tree_in_the_middle_of_a_run_may_lack_its_root_index(web: Path, layout: Layout) -> None:
    for path in (web / "simple").glob("index.*"):
        path.unlink()
    page(web, "six", "html").unlink()
    assert check_tree(web, layout, settled=False) == []
    one(web, "six*.whl").unlink()
    assert check_tree(web, layout, settled=False) != []
