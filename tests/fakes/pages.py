"""What the fake index says: the Simple API in JSON and HTML, and the legacy JSON API, as PyPI writes them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any, Literal

from tests.fakes.catalogue import FakeFile, Snapshot, normalize

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

JSON_TYPE = "application/vnd.pypi.simple.v1+json"
HTML_V1_TYPE = "application/vnd.pypi.simple.v1+html"
HTML_TYPE = "text/html"
_PACKAGE_TYPES = {
    "whl": "bdist_wheel",
    "egg": "bdist_egg",
    "exe": "bdist_wininst",
    "msi": "bdist_msi",
    "dmg": "bdist_dmg",
    "rpm": "bdist_rpm",
}

Dialect = Literal["json", "json-no-serials", "html"]


@dataclass(slots=True)
class View:
    """How one request is to be seen: faults change it before the answer is made."""

    as_of: int | None = None  # a serial: answer as things were then
    previous: bool = False  # answer as things were before the project's last change
    alterations: list[Callable[[dict[str, Any]], dict[str, Any] | None]] = field(default_factory=list)
    ranges: bool = True  # honour Range

    @property
    def plain(self) -> bool:
        """Whether the page is the one that everybody sees."""
        return self.as_of is None and not self.previous and not self.alterations


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the links on a page lead."""

    index: str  # scheme, host and port of the index
    files: str  # of the files; the same unless they have a host of their own
    relative: bool

    def file_url(self, file: FakeFile) -> str:
        """As it stands on a page."""
        if self.relative and self.index == self.files:
            return "../.." + file.path
        return self.files + file.path

    def provenance_url(self, project: str, file: FakeFile) -> str | None:
        """As it stands on a page."""
        if file.provenance is None or isinstance(file.provenance, str):
            return file.provenance
        return f"{self.index}/integrity/{project}/{file.version}/{file.filename}/provenance"


def negotiate(accept: str | None) -> str:
    """The type that PyPI answers for an Accept header: one of three, text/html if none fits."""
    best, chosen = 0.0, HTML_TYPE
    for item in (accept or "").split(","):
        kind, *parameters = (part.strip() for part in item.split(";"))
        quality = next((float(part[2:]) for part in parameters if part.startswith("q=")), 1.0)
        if kind in {JSON_TYPE, HTML_V1_TYPE, HTML_TYPE, "*/*"} and quality > best:
            best, chosen = quality, HTML_TYPE if kind == "*/*" else kind
    return chosen


def root_document(listed: Mapping[str, Snapshot], serial: int | None) -> dict[str, Any]:
    """The root index; without serials if ``serial`` is None."""
    if serial is None:
        return {
            "meta": {"api-version": "1.4"},
            "projects": [{"name": state.name} for state in listed.values()],
        }
    return {
        "meta": {"_last-serial": serial, "api-version": "1.4"},
        "projects": [{"_last-serial": state.serial, "name": state.name} for state in listed.values()],
    }


def project_document(state: Snapshot, origin: Origin, *, serials: bool) -> dict[str, Any]:
    """A project's page."""
    name = normalize(state.name)
    files = [_entry(name, file, origin) for file in state.visible_files]
    status = {"status": state.status} | ({} if state.reason is None else {"reason": state.reason})
    meta: dict[str, Any] = {"_last-serial": state.serial} if serials else {}
    return {
        "files": files,
        "meta": meta | {"api-version": "1.4"},
        "name": name,
        "project-status": status,
        "versions": list(dict.fromkeys(file.version for file in state.visible_files)),
    }


def _entry(project: str, file: FakeFile, origin: Origin) -> dict[str, Any]:
    offered = {"sha256": file.metadata_sha256} if file.metadata is not None else False
    entry = {
        "core-metadata": offered,
        "data-dist-info-metadata": offered,
        "filename": file.filename,
        "hashes": {"sha256": file.sha256},
        "provenance": origin.provenance_url(project, file),
        "requires-python": file.requires_python,
        "size": file.size,
        "upload-time": file.upload_time,
        "url": origin.file_url(file),
        "yanked": file.yanked,
        **file.keys,
    }
    return {key: value for key, value in entry.items() if value is not None or key not in {"upload-time", *file.keys}}


def legacy_document(state: Snapshot, origin: Origin) -> dict[str, Any]:
    """``/pypi/<name>/json``, as far as a mirror reads it."""
    releases: dict[str, list[dict[str, Any]]] = {}
    for file in state.visible_files:
        releases.setdefault(file.version, []).append(_legacy_file(file, origin))
    newest = state.info.get("version", list(releases)[-1])
    info: dict[str, Any] = {
        "name": state.name,
        "version": newest,
        "summary": "",
        "classifiers": [],
        "requires_dist": None,
    }
    return {
        "info": info | {"requires_python": releases[newest][0]["requires_python"], "yanked": False} | dict(state.info),
        "last_serial": state.serial,
        "releases": releases,
        "urls": releases[newest],
        "vulnerabilities": [],
    }


def _legacy_file(file: FakeFile, origin: Origin) -> dict[str, Any]:
    reason = file.yanked if isinstance(file.yanked, str) else None
    return {
        "core-metadata": {"sha256": file.metadata_sha256} if file.metadata is not None else False,
        "comment_text": "",
        "digests": {
            "blake2b_256": hashlib.blake2b(file.content, digest_size=32).hexdigest(),
            "md5": hashlib.md5(file.content).hexdigest(),
            "sha256": file.sha256,
        },
        "downloads": -1,
        "filename": file.filename,
        "has_sig": False,
        "md5_digest": hashlib.md5(file.content).hexdigest(),
        "packagetype": _package_type(file.filename),
        "python_version": "source",
        "requires_python": file.requires_python,
        "size": file.size,
        "upload_time": file.upload_time and file.upload_time[:19],
        "upload_time_iso_8601": file.upload_time,
        "url": origin.files + file.path,
        "yanked": bool(file.yanked),
        "yanked_reason": reason or None,
    }


def _package_type(filename: str) -> str:
    if ".linux-" in filename or ".macosx-" in filename:
        return "bdist_dumb"
    return _PACKAGE_TYPES.get(filename.rpartition(".")[2], "sdist")


def render_json(document: Mapping[str, Any]) -> bytes:
    """PyPI's serialisation: sorted keys, compact separators, raw UTF-8, a newline at the end."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass") + b"\n"


def render_root_html(document: Mapping[str, Any]) -> bytes:
    """The root index in HTML: names only."""
    links = "\n".join(
        f'    <a href="/simple/{normalize(entry["name"])}/">{escape(entry["name"])}</a><br />'
        for entry in document["projects"]
    )
    return _html("Simple index", "", links, None)


def render_project_html(document: Mapping[str, Any]) -> bytes:
    """A project's page in HTML, made from the same document as the JSON."""
    status = document.get("project-status", {})
    marks = "".join(
        f'    <meta name="pypi:{name}" content="{escape(value)}">\n'
        for name, value in (
            ("project-status", status.get("status")),
            ("project-status-reason", status.get("reason")),
        )
        if value is not None
    )
    title = f"Links for {document['name']}"
    links = "\n".join(f"    {_anchor(entry)}<br />" for entry in document["files"])
    return _html(title, marks, f"    <h1>{escape(title)}</h1>\n{links}", document["meta"].get("_last-serial"))


def _anchor(entry: Mapping[str, Any]) -> str:
    fragment = "".join(f"#{name}={digest}" for name, digest in list(entry["hashes"].items())[:1])
    attributes = [f'href="{escape(entry["url"] + fragment)}"']
    if entry.get("requires-python"):
        attributes.append(f'data-requires-python="{escape(entry["requires-python"])}"')
    offered = entry.get("core-metadata")
    if offered:
        value = "true" if offered is True else "=".join(next(iter(offered.items())))
        attributes += [f'data-core-metadata="{value}"', f'data-dist-info-metadata="{value}"']
    if entry.get("yanked"):
        attributes.append(f'data-yanked="{"" if entry["yanked"] is True else escape(entry["yanked"])}"')
    if entry.get("provenance"):
        attributes.append(f'data-provenance="{escape(entry["provenance"])}"')
    return f"<a {' '.join(attributes)}>{escape(entry['filename'])}</a>"


def _html(title: str, marks: str, content: str, serial: int | None) -> bytes:
    trailer = "" if serial is None else f"\n<!--SERIAL {serial}-->"
    return (
        '<!DOCTYPE html>\n<html>\n  <head>\n    <meta name="pypi:repository-version" content="1.4">\n'
        f"{marks}    <title>{escape(title)}</title>\n  </head>\n  <body>\n{content}\n"
        f"  </body>\n</html>{trailer}"
    ).encode()
