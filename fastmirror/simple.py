"""The simple repository API on the wire: project pages and root indexes, read and written.

Nothing upstream says is trusted: an entry that cannot be mirrored is set aside with its reason, and the rest
of the page stands; a page that cannot be used raises PageError, and no input raises anything else. This is
the hot path: one pass per page, no parsing of what is only passed on, escaping only where there is need.
"""

from __future__ import annotations

import re
from html import escape
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson
from packaging.version import InvalidVersion, Version

from fastmirror.errors import InvalidName, PageError
from fastmirror.model import File, Page
from fastmirror.names import normalize
from fastmirror.simple_entry import MAX_INTEGER, read_entries, shown
from fastmirror.simple_html import read_html

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from fastmirror.names import NormalizedName

JSON_TYPE: Final = "application/vnd.pypi.simple.v1+json"
V1_HTML_TYPE: Final = "application/vnd.pypi.simple.v1+html"
HTML_TYPE: Final = "text/html"
ACCEPT_JSON: Final = JSON_TYPE
ACCEPT_HTML: Final = f"{V1_HTML_TYPE}, {HTML_TYPE};q=0.01"
ACCEPT_ANY: Final = f"{JSON_TYPE}, {V1_HTML_TYPE};q=0.2, {HTML_TYPE};q=0.01"

API_VERSION: Final = "1.4"  # of what is rendered, in both forms
FEED_VERSION: Final = 1  # of the change feed that stands beside a root index in JSON
RENDERER_VERSION: Final = 1  # to be raised when the same page would be rendered to other bytes


# Reading a page -------------------------------------------------------------------------------------------


def parse_json_page(body: bytes, name: NormalizedName, page_url: str, *, accept_unhashed: bool) -> Page:
    """Read a project's page in JSON (PEP 691). Raises PageError if it cannot be used.

    Relative urls are resolved against ``page_url``. ``accept_unhashed`` takes a file without a sha256 if
    another strong digest is given.
    """
    document = read_object(body)
    require_name(document.pop("name", None), name)
    return _page(document, name, page_url, accept_unhashed)


def parse_html_page(body: bytes, name: NormalizedName, page_url: str, *, accept_unhashed: bool) -> Page:
    """Read a project's page in HTML (PEP 503), like parse_json_page. It says no sizes and no versions."""
    document, base_url = read_html(body, page_url)
    return _page(document, name, base_url, accept_unhashed)


def read_object(body: bytes) -> dict[str, Any]:
    """Parse a JSON object. Raises PageError."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise PageError(f"invalid JSON: {error!s:.120}") from error
    if type(document) is not dict:
        raise PageError(f"not a JSON object: {shown(document)}")
    return document


def require_name(raw: object, name: NormalizedName) -> None:
    """Raise PageError unless a document is of this project."""
    try:
        if normalize(raw) == name:
            return
    except InvalidName as error:
        raise PageError(f"page without a proper name (name): {shown(raw)}") from error
    raise PageError(f"page of another project (name): {shown(raw)}")


def _page(document: dict[str, Any], name: NormalizedName, base_url: str, accept_unhashed: bool) -> Page:
    """Make a page of a parsed document; what is left in the document becomes the page's keys."""
    meta = document.pop("meta", None)
    if meta is None:
        meta = {}
    elif type(meta) is not dict:
        raise PageError(f"page with a meta that is no object: {shown(meta)}")
    api_version = meta.get("api-version") or "1.0"
    if (api_version if type(api_version) is str else shown(api_version)).partition(".")[0] != "1":
        raise PageError(f"unknown major api-version {shown(api_version)}")
    listed = document.pop("files", None)
    if type(listed) is not list:
        raise PageError(f"page without a list of files (files): {shown(listed)}")
    if "project-status" not in document and "project-status" in meta:
        document["project-status"] = meta["project-status"]
    files, refused = read_entries(listed, base_url, accept_unhashed)
    return Page(name, read_serial(meta.get("_last-serial")), _status(document), files, refused, _sound_keys(document))


def read_serial(raw: object) -> int | None:
    """A serial, given as a number or, as some mirrors do, as a string of digits; None if it is neither."""
    if type(raw) is str and len(raw) <= _SERIAL_DIGITS and raw.isascii() and raw.isdigit():
        raw = int(raw)
    return raw if type(raw) is int and 0 <= raw <= MAX_INTEGER else None


_SERIAL_DIGITS = len(str(MAX_INTEGER))


def _status(document: dict[str, Any]) -> str:
    given = document.get("project-status")
    status = given.get("status") if type(given) is dict else None
    if type(status) is str:
        return status
    document.pop("project-status", None)
    return "active"


def _sound_keys(document: dict[str, Any]) -> dict[str, Any]:
    versions = document.get("versions")
    if versions is not None and not (type(versions) is list and all(type(v) is str for v in versions)):
        del document["versions"]
    return document


# Versions -------------------------------------------------------------------------------------------------


def versions_of(files: Iterable[File]) -> list[str]:
    """The versions that the files' names tell, each once, in the order of versions.

    For a page that gives none. Only wheels and source distributions tell theirs. (packaging's own parsers of
    file names build every tag of a wheel, of which one hostile name can have a hundred thousand.)
    """
    versions: dict[Version, None] = {}
    for text in dict.fromkeys(_version_text(file.filename) for file in files):
        try:
            versions.setdefault(Version(text))
        except InvalidVersion:
            continue
    return [str(version) for version in sorted(versions)]


_WHEEL_DASHES = (4, 5)  # without and with a build tag


def _version_text(filename: str) -> str:
    if filename.endswith(".whl"):
        return filename.split("-", 2)[1] if filename.count("-") in _WHEEL_DASHES else ""
    for ending in (".tar.gz", ".zip"):
        if filename.endswith(ending):
            name, _, version = filename.removesuffix(ending).rpartition("-")
            return version if name else ""
    return ""


# Writing pages --------------------------------------------------------------------------------------------


class Entry(NamedTuple):
    """One file, as a page of this mirror is to list it."""

    file: File  # what upstream says of it
    url: str  # where this mirror has it, quoted, without a fragment
    sha256: str  # of what is stored
    size: int | None  # bytes, of what is stored; None if upstream does not say and nothing is stored
    metadata: str | None  # sha256 of the core metadata file beside it; "" if offered without one; None if not offered


def render_json(page: Page, name: NormalizedName, serial: int | None, entries: Sequence[Entry]) -> bytes:
    """Write a project's page in JSON. What upstream said, known or not, is passed on; what is stored is ours.

    The same arguments always give the same bytes. Raises PageError if upstream's own keys are nested too
    deeply to be written again.
    """
    files = []
    for file, url, sha256, size, metadata in entries:
        keys = {
            "yanked": False,
            **file.keys,
            "filename": file.filename,
            "url": url,
            "hashes": {**file.keys.get("hashes", {}), "sha256": sha256},
            "size": size,
            "core-metadata": {"sha256": metadata} if metadata else metadata == "",
        }
        if size is None:
            del keys["size"]
        keys.pop("dist-info-metadata", None)  # old clients misread these two
        keys.pop("data-dist-info-metadata", None)
        keys.pop("gpg-sig", None)  # signatures are not mirrored
        files.append(keys)
    meta: dict[str, Any] = {"api-version": API_VERSION}
    if serial is not None:
        meta["_last-serial"] = serial
    document = {**page.keys, "meta": meta, "name": name, "files": files}
    if "versions" not in document:
        document["versions"] = versions_of(entry.file for entry in entries)
    try:
        return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError as error:
        raise PageError(f"page that cannot be written as JSON: {error!s:.120}") from error


def render_html(page: Page, name: NormalizedName, serial: int | None, entries: Sequence[Entry]) -> bytes:
    """Write a project's page in HTML, laid out line for line as PyPI does it: fragile parsers read it."""
    head = (
        "<!DOCTYPE html>\n<html>\n  <head>\n"
        f'    <meta name="pypi:repository-version" content="{API_VERSION}">\n'
        f"{_status_lines(page)}"
        f"    <title>Links for {name}</title>\n  </head>\n  <body>\n    <h1>Links for {name}</h1>\n"
    )
    lines = [head]
    requires_python, requires_attribute = "", ""  # files in a row mostly say the same
    for file, url, sha256, _, metadata in entries:
        get = file.keys.get
        requires = get("requires-python") or ""
        if requires != requires_python:
            requires_python = requires
            requires_attribute = f' data-requires-python="{_escaped(requires)}"' if requires else ""
        attributes = requires_attribute
        if metadata:
            attributes += f' data-core-metadata="sha256={metadata}" data-dist-info-metadata="sha256={metadata}"'
        elif metadata is not None:
            attributes += ' data-core-metadata="true" data-dist-info-metadata="true"'
        if yanked := get("yanked"):
            attributes += f' data-yanked="{"" if yanked is True else _escaped(yanked)}"'
        if provenance := get("provenance"):
            attributes += f' data-provenance="{_escaped(provenance)}"'
        href = _escaped(url) if _NEEDS_ESCAPE(url) else url
        label = _escaped(file.filename) if _NEEDS_ESCAPE(file.filename) else file.filename
        lines.append(f'    <a href="{href}#sha256={sha256}"{attributes}>{label}</a><br />\n')
    lines.append("  </body>\n</html>\n")
    if serial is not None:
        lines.append(f"<!--SERIAL {serial}-->")
    return "".join(lines).encode("utf-8", "replace")


_NEEDS_ESCAPE = re.compile("[&<>\"'\n\r]").search


def _escaped(text: str) -> str:
    """Text for a quoted attribute or an element, on one line: a page has one line per file."""
    return escape(text).replace("\n", "&#10;").replace("\r", "&#13;")


def _status_lines(page: Page) -> str:
    given = page.keys.get("project-status")
    if type(given) is not dict:
        return ""
    lines = f'    <meta name="pypi:project-status" content="{_escaped(page.status)}">\n'
    reason = given.get("reason")
    if type(reason) is str and reason:
        lines += f'    <meta name="pypi:project-status-reason" content="{_escaped(reason)}">\n'
    return lines


# Writing the root index -----------------------------------------------------------------------------------

_CHUNK = 4096  # projects


def render_index_json(projects: Iterable[tuple[NormalizedName, int | None]], serial: int | None) -> Iterator[bytes]:
    """Write the root index in JSON as PyPI does, in chunks. Normalised names need no quoting."""
    last_serial = "" if serial is None else f'"_last-serial":{serial},'
    yield f'{{"meta":{{"_changes":{FEED_VERSION},{last_serial}"api-version":"{API_VERSION}"}},"projects":['.encode()
    comma = ""
    remaining = iter(projects)
    while chunk := [index_entry(name, last) for name, last in islice(remaining, _CHUNK)]:
        yield (comma + ",".join(chunk)).encode()
        comma = ","
    yield b"]}\n"


def index_entry(name: str, serial: int | None) -> str:
    """A project's entry in the root index in JSON."""
    return f'{{"name":"{name}"}}' if serial is None else f'{{"_last-serial":{serial},"name":"{name}"}}'


def render_local_json(projects: Iterable[tuple[NormalizedName, int | None]]) -> Iterator[bytes]:
    """Write the serial of each project that has one as shadowmire does, in chunks."""
    opening = "{"
    remaining = ((name, serial) for name, serial in projects if serial is not None)
    while chunk := [f'"{name}":{serial}' for name, serial in islice(remaining, _CHUNK)]:
        yield (opening + ",".join(chunk)).encode()
        opening = ","
    yield b"}\n" if opening == "," else b"{}\n"


def render_index_html(names: Iterable[NormalizedName]) -> Iterator[bytes]:
    """Write the root index in HTML, in chunks, with links relative to it."""
    yield (
        "<!DOCTYPE html>\n<html>\n  <head>\n"
        f'    <meta name="pypi:repository-version" content="{API_VERSION}">\n'
        "    <title>Simple index</title>\n  </head>\n  <body>\n"
    ).encode()
    remaining = iter(names)
    while chunk := [f'    <a href="{name}/">{name}</a><br />\n' for name in islice(remaining, _CHUNK)]:
        yield "".join(chunk).encode()
    yield b"  </body>\n</html>\n"
