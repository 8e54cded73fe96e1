"""Reads a whole published tree as a consumer does, with pypi_simple and json, and says what is wrong with it."""

from __future__ import annotations

import hashlib
import json
import re
import stat
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import unquote, urljoin, urlsplit

from pypi_simple import IndexPage, ProjectPage

from fastmirror.layout import bucket

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection, Iterable
    from pathlib import Path

    from tests.fakes.catalogue import FakeFile, Snapshot
    from tests.fakes.index import FakeIndex

_BASE = "http://mirror.invalid/"
_NAME = r"(?P<name>[a-z0-9]+(?:-[a-z0-9]+)*)"
_FILENAME = r"[^./][^/]*"
_LONG_PATH = rf"packages/[0-9a-f]{{2}}/[0-9a-f]{{2}}/[0-9a-f]{{60}}/{_FILENAME}"
_ROOT = re.compile(r"simple/index\.(?P<kind>html|v1_html|v1_json)")
_BESIDE = re.compile(
    rf"last-modified|changes/(?:head|[0-9a-f]{{32}}-[0-9a-f]{{32}})\.json|status/(?:index\.html|status\.json)|json/(?:[0-9a-f]{{2}}/)?{_NAME}|pypi/[a-z0-9-]+/json"
)
_PAGES = {
    "flat": re.compile(rf"simple/{_NAME}/index\.(?P<kind>html|v1_html|v1_json)"),
    "flat, hash-index": re.compile(rf"simple/(?P<first>[a-z0-9])/{_NAME}/index\.(?P<kind>html|v1_html|v1_json)"),
    "hashed": re.compile(rf"simple/(?P<bucket>[0-9a-f]{{2}})/{_NAME}\.(?P<kind>html|v1_json)"),
}
_FILES = {
    "flat": re.compile(_LONG_PATH),
    "hashed": re.compile(rf"packages/[0-9a-f]{{3}}/{_FILENAME}|{_LONG_PATH}"),
}
_MTIME_TOLERANCE_S = 1e-5


class Listed(NamedTuple):
    """One file as one page lists it, in terms that both formats share."""

    filename: str
    path: str  # below web/
    sha256: str | None
    metadata: str | None  # sha256
    requires_python: str | None
    yanked: str | None  # the reason, "" without one; None if it is not yanked
    provenance: str | None


class Page(NamedTuple):
    """One page, read."""

    files: tuple[Listed, ...]
    status: str
    serial: int | None
    document: dict[str, Any]  # JSON only


def check_tree(
    web: Path,
    layout: Literal["flat", "hashed"],
    index: FakeIndex | None = None,
    *,
    hash_index: bool = False,
    formats: Collection[str] = ("html", "json"),
    settled: bool = True,
    leftovers: bool = False,
    absent: Collection[str] = (),
) -> list[str]:
    """Problems of the tree below ``web``; an empty list if there is none.

    With an ``index``, the tree must hold what the index lists and nothing else; ``absent`` names projects and
    files of it that must be missing, ``leftovers`` lets files stay that no page names any more.
    ``settled=False`` is for a tree in the middle of a run, or after a kill: pages that the root index does not
    list yet, and twins of which one is newer, are no problem then. That pages name only good files always holds.
    """
    checker = _Checker(web, "flat, hash-index" if hash_index else layout, layout, set(formats), settled)
    checker.walk()
    checker.read_pages()
    checker.check_root()
    if index is not None:
        checker.compare(index, set(absent), leftovers=leftovers)
    return checker.problems


class _Checker:
    def __init__(self, web: Path, shape: str, layout: str, formats: set[str], settled: bool) -> None:
        self.web, self.shape, self.layout, self.formats, self.settled = web, shape, layout, formats, settled
        self.problems: list[str] = []
        self.stats: dict[str, os.stat_result] = {}  # of every file, by path below web/
        self.pages: dict[str, dict[str, Page]] = {}  # by project and kind
        self.page_paths: dict[str, dict[str, str]] = {}  # by project and kind
        self.digests: dict[str, str] = {}  # sha256 of the files read, by path
        self.named: set[str] = set()  # paths that some page names

    def say(self, problem: str) -> None:
        self.problems.append(problem)

    def walk(self) -> None:
        """Every name below web/ has one of the known shapes, and a reader may read it."""
        for path in sorted(self.web.rglob("*")):
            name, status = path.relative_to(self.web).as_posix(), path.lstat()
            if stat.S_ISDIR(status.st_mode):
                if status.st_mode & 0o055 != 0o055 or path.name.startswith("."):
                    self.say(f"{name}/: a directory with mode {status.st_mode & 0o777:o}")
                continue
            self.stats[name] = status
            if not stat.S_ISREG(status.st_mode):
                self.say(f"{name}: not a regular file")
            elif status.st_mode & 0o777 != 0o644:
                self.say(f"{name}: mode {status.st_mode & 0o777:o}")
            self._place(name)

    def _place(self, name: str) -> None:
        page = _PAGES[self.shape].fullmatch(name)
        if page and not _ROOT.fullmatch(name):
            place = page.groupdict()
            project = place["name"]
            if place.get("bucket") not in {None, bucket(project)} or place.get("first") not in {None, project[0]}:
                self.say(f"{name}: a page in the wrong place")
            self.page_paths.setdefault(project, {})[place["kind"]] = name
        elif not any(shape.fullmatch(name) for shape in (_ROOT, _BESIDE, _FILES[self.layout])):
            self.say(f"{name}: a name that has no place in the tree")

    def _kinds(self, *, root: bool) -> set[str]:
        html = {"html", "v1_html"} if root or self.layout == "flat" else {"html"}
        return (html if "html" in self.formats else set()) | ({"v1_json"} if "json" in self.formats else set())

    def _check_kinds(self, what: str, paths: dict[str, str], *, root: bool) -> None:
        if not self.settled:
            return
        if set(paths) != self._kinds(root=root):
            self.say(f"{what}: has the forms {sorted(paths)}, not {sorted(self._kinds(root=root))}")
        if {"html", "v1_html"} <= set(paths):
            inodes = {(self.stats[paths[kind]].st_dev, self.stats[paths[kind]].st_ino) for kind in ("html", "v1_html")}
            if len(inodes) != 1:
                self.say(f"{what}: index.html and index.v1_html are two files")

    def read_pages(self) -> None:
        """Every page parses, its links lead to the files that it describes, and both formats agree."""
        for project, paths in self.page_paths.items():
            self._check_kinds(project, paths, root=False)
            pages = self.pages[project] = {}
            for kind, path in paths.items():
                page = self._guarded(self._read_json if kind == "v1_json" else self._read_html, path, project)
                if page is None:
                    continue
                pages[kind] = page
                for listed in page.files:
                    self._check_link(path, listed)
            if self.settled:
                self._check_agreement(project, pages)

    def _guarded(self, read: Callable[..., Any], path: str, *project: str) -> Any:
        """Whatever a parser raises is a problem of the page."""
        try:
            return read(path, *project)
        except Exception as error:  # noqa: BLE001 - a consumer's parser may raise anything
            self.say(f"{path}: does not parse: {type(error).__name__}: {error}")
            return None

    def _read_json(self, path: str, project: str) -> Page:
        document = json.loads((self.web / path).read_bytes())
        parsed = ProjectPage.from_json_data(document, f"{_BASE}simple/{project}/")
        serial = document["meta"].get("_last-serial")
        if parsed.repository_version != "1.4" or document["name"] != project or not isinstance(serial, int | None):
            self.say(f"{path}: begins wrongly: {document['meta']} {document['name']!r}")
        files = []
        for entry in document["files"]:
            offered = entry.get("core-metadata")
            listed = Listed(
                filename=entry["filename"],
                path=self._target(path, urljoin(f"{_BASE}simple/{project}/", entry["url"])),
                sha256=entry["hashes"].get("sha256"),
                metadata=offered["sha256"] if offered else None,
                requires_python=entry.get("requires-python") or None,
                yanked=_reason(entry.get("yanked", False)),
                provenance=entry.get("provenance"),
            )
            files.append(listed)
            at_rest = self.stats.get(listed.path)
            if at_rest is not None and entry.get("size") != at_rest.st_size:
                self.say(f"{path}: {listed.filename} has {at_rest.st_size} bytes, not {entry.get('size')}")
            if "dist-info-metadata" in entry or entry.get("upload-time", "absent") in {"", None}:
                self.say(f"{path}: {listed.filename} has a key that no page should have")
        return Page(tuple(files), parsed.status.value if parsed.status else "active", serial, document)

    def _read_html(self, path: str, project: str) -> Page:
        content = (self.web / path).read_text(encoding="utf-8")
        parsed = ProjectPage.from_html(project, content, f"{_BASE}simple/{project}/")
        if parsed.repository_version != "1.4" or "</html>" not in content:
            self.say(f"{path}: is not whole, or of version {parsed.repository_version}")
        trailer = re.search(r"</html>\s*<!--SERIAL (\d+)-->\s*\Z", content)
        files = tuple(
            Listed(
                filename=package.filename,
                path=self._target(path, package.url),
                sha256=package.digests.get("sha256"),
                metadata=(package.metadata_digests or {}).get("sha256", "") if package.has_metadata else None,
                requires_python=package.requires_python,
                yanked=package.yanked_reason if package.is_yanked else None,
                provenance=package.provenance_url,
            )
            for package in parsed.packages
        )
        return Page(files, parsed.status.value if parsed.status else "active", trailer and int(trailer[1]), {})

    def _target(self, page: str, url: str) -> str:
        parts = urlsplit(url)
        path = unquote(parts.path)[1:]
        if not url.startswith(f"{_BASE}packages/") or not _FILES[self.layout].fullmatch(path):
            self.say(f"{page}: links outside the tree: {url!r}")
        return path

    def _check_link(self, page: str, listed: Listed) -> None:
        wanted = [(listed.path, listed.sha256)]
        if listed.metadata is not None:
            wanted.append((f"{listed.path}.metadata", listed.metadata))
        for path, sha256 in wanted:
            self.named.add(path)
            if path not in self.stats:
                self.say(f"{page}: names a file that is not there: {path}")
            elif self._digest(path) != sha256:
                self.say(f"{page}: names a file of another sha256: {path}")
        if listed.path.rpartition("/")[2] != listed.filename:
            self.say(f"{page}: {listed.filename!r} links to {listed.path}")

    def _digest(self, path: str) -> str:
        if path not in self.digests:
            with (self.web / path).open("rb") as stream:
                self.digests[path] = hashlib.file_digest(stream, "sha256").hexdigest()
        return self.digests[path]

    def _check_agreement(self, project: str, pages: dict[str, Page]) -> None:
        first, *others = pages.values() or [None]
        for other in others:
            if first is not None and other is not None and first[:3] != other[:3]:
                self.say(f"{project}: its pages disagree: {first[:3]} {other[:3]}")
        names = [listed.filename for listed in first.files] if first is not None else []
        if len(set(names)) != len(names):
            self.say(f"{project}: lists a file twice")

    def check_root(self) -> None:
        """The root index lists exactly the projects that have pages; a quarantined one may be left out."""
        paths = {match["kind"]: path for path in self.stats if (match := _ROOT.fullmatch(path))}
        if self.settled or paths:
            self._check_kinds("root index", paths, root=True)
        hidden = {name for name, pages in self.pages.items() if any(p.status == "quarantined" for p in pages.values())}
        for kind, path in paths.items():
            names = self._guarded(self._read_json_root if kind == "v1_json" else self._read_html_root, path)
            if names is None:
                continue
            if names != sorted(set(names)):
                self.say(f"{path}: is not sorted, or lists a project twice")
            if lacking := set(names) - set(self.page_paths):
                self.say(f"{path}: lists projects without a page: {sorted(lacking)}")
            if self.settled and (unlisted := set(self.page_paths) - hidden - set(names)):
                self.say(f"{path}: does not list {sorted(unlisted)}")

    def _read_json_root(self, path: str) -> list[str]:
        document = json.loads((self.web / path).read_bytes())
        parsed = IndexPage.from_json_data(document)
        if parsed.repository_version != "1.4" or not isinstance(document["meta"].get("_last-serial"), int | None):
            self.say(f"{path}: begins wrongly: {document['meta']}")
        for entry in document["projects"]:
            page = self.pages.get(entry["name"], {}).get("v1_json")
            if self.settled and page is not None and entry.get("_last-serial") != page.serial:
                self.say(f"{path}: {entry['name']} has serial {entry.get('_last-serial')}, its page {page.serial}")
        return parsed.projects

    def _read_html_root(self, path: str) -> list[str]:
        content = (self.web / path).read_text(encoding="utf-8")
        links = re.findall(r'<a href="(?:/simple/)?([^"/]+)/">([^<]*)</a>', content)
        parsed = IndexPage.from_html(content)
        if parsed.repository_version != "1.4" or "</html>" not in content:
            self.say(f"{path}: is not whole, or of version {parsed.repository_version}")
        if [text for _, text in links] != parsed.projects or any(href != text for href, text in links):
            self.say(f"{path}: has links that do not lead to their projects")
        return parsed.projects

    def compare(self, index: FakeIndex, absent: set[str], *, leftovers: bool) -> None:
        """Everything that the index lists is there as it should be, and nothing else."""
        expected = {name: state for name, state in index.projects().items() if name not in absent}
        if lacking := set(expected) - set(self.page_paths):
            self.say(f"projects without a page: {sorted(lacking)}")
        for project in sorted(set(self.page_paths) - set(expected)):
            state = index.project(project)
            statuses = {page.status for page in self.pages[project].values()}
            if project in absent or state is None or state.listed or statuses != {"quarantined"}:
                self.say(f"{project}: a page that should not be there")
            else:
                expected[project] = state
        for project in sorted(set(expected) & set(self.pages)):
            self._compare_project(index, expected[project], project, absent)
        if not leftovers and (unnamed := {p for p in self.stats if p.startswith("packages/")} - self.named):
            self.say(f"files that no page names: {sorted(unnamed)}")

    def _compare_project(self, index: FakeIndex, state: Snapshot, project: str, absent: set[str]) -> None:
        expected = {file.filename: file for file in state.visible_files if file.filename not in absent}
        for kind, page in self.pages[project].items():
            self._same(f"{project} ({kind}): files", sorted(one.filename for one in page.files), sorted(expected))
            self._same(f"{project} ({kind}): status", page.status, state.status)
            if index.dialect == "json":
                self._same(f"{project} ({kind}): serial", page.serial, state.serial)
            for listed in page.files:
                if listed.filename in expected:
                    self._compare_file(index, expected[listed.filename], listed, project)
            if page.document and not absent:
                self._compare_document(index, expected.values(), page.document, project)

    def _compare_file(self, index: FakeIndex, file: FakeFile, listed: Listed, project: str) -> None:
        right = listed._replace(
            sha256=file.sha256,
            metadata=file.metadata_sha256,
            requires_python=file.requires_python or None,
            yanked=_reason(file.yanked),
            provenance=index.origin().provenance_url(project, file),
        )
        self._same(f"{project}: {file.filename}", listed, right)
        at_rest = self.stats.get(listed.path)
        if at_rest is None or file.mtime is None or not _tells_times(index):
            return
        if abs(at_rest.st_mtime - file.mtime) > _MTIME_TOLERANCE_S:
            self.say(f"{listed.path}: mtime {at_rest.st_mtime}, uploaded {file.mtime}")

    def _compare_document(
        self, index: FakeIndex, files: Iterable[FakeFile], document: dict[str, Any], project: str
    ) -> None:
        times = {entry["filename"]: entry.get("upload-time") for entry in document["files"]}
        right = {file.filename: file.upload_time if _tells_times(index) else None for file in files}
        self._same(f"{project}: upload times", times, right)
        self._same(f"{project}: versions", set(document.get("versions", ())), {file.version for file in files})

    def _same(self, what: str, found: object, right: object) -> None:
        if found != right:
            self.say(f"{what}: {found}, not {right}")


def _reason(yanked: bool | str) -> str | None:
    return yanked if isinstance(yanked, str) else "" if yanked else None


def _tells_times(index: FakeIndex) -> bool:
    return index.dialect != "html" or index.legacy
