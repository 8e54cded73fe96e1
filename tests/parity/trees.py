"""What a mirror's directory says, as one flat mapping of facts, so that two programs' trees compare by meaning.

A key that ends in a slash says that something is there: ``packages/…/six-1.0.tar.gz/`` a stored file (its value is
its sha256), ``simple/six/index.html/`` a page, ``simple/six/index.html/six-1.0.tar.gz/`` a file that it lists. What
is told of it stands below. What has no meaning is read away: the order of links and versions, white space,
percent-escapes, the time in the name of a page's kept version.
"""

from __future__ import annotations

import hashlib
import json
import re
import stat
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urljoin

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Facts = dict[str, Any]

_PAGE = re.compile(r"(?P<base>simple/(?:[^/]/)?[^/]+/)index\.(?P<kind>html|v1_json)")
_ROOT = re.compile(r"simple/index\.(?P<kind>html|v1_json)")
_KEPT = re.compile(r"(?P<serial>versions/index_\d+)_[^/]*\.(?P<kind>html|v1_html|v1_json)$")
_EPOCH = re.compile(r"-\d{10}")
_BESIDE = ("generation", "status", "todo", "mirrored-files")


def read_facts(directory: Path) -> Facts:
    """Everything that the directory says to whoever reads or serves it; programs' own state is left out."""
    facts: Facts = dict(_read_web(directory / "web"))
    for path in directory.iterdir():
        if path.name.startswith(_BESIDE):
            name, content = _EPOCH.sub("-EPOCH", path.name), path.read_text().strip()
            if name.startswith("mirrored-files"):
                lines = (line.removeprefix(f"{directory}/") for line in content.splitlines())
                facts |= {f"{name}/": "list", **{f"{name}/{line}/": "listed" for line in lines}}
            else:
                facts[name] = content
    return facts


def _read_web(web: Path) -> Iterator[tuple[str, Any]]:
    for path in web.rglob("*"):
        name, status = path.relative_to(web).as_posix(), path.lstat()
        if stat.S_ISDIR(status.st_mode):
            continue
        key = _KEPT.sub(r"\g<serial>.\g<kind>", name)
        if path.is_symlink():
            yield f"{key}/", "absolute link" if path.readlink().is_absolute() else "relative link"
        elif name.startswith("packages/"):
            yield f"{key}/", hashlib.sha256(path.read_bytes()).hexdigest()
            yield f"{key}/mtime", round(status.st_mtime, 5)
        else:
            yield f"{key}/", "file"
        yield f"{key}/mode", f"{path.stat().st_mode & 0o777:o}"
        yield from ((f"{key}/{fact}", value) for fact, value in _read_file(path, name))


def _read_file(path: Path, name: str) -> Iterator[tuple[str, Any]]:
    if match := _ROOT.fullmatch(name):
        yield from _root_json(path) if match["kind"] == "v1_json" else _root_html(path)
    elif match := _PAGE.fullmatch(name):
        yield from (_page_json if match["kind"] == "v1_json" else _page_html)(path, f"/{match['base']}")
    elif name.endswith("index.v1_html"):
        yield "as index.html", path.read_bytes() == path.with_name("index.html").read_bytes()
    elif name.startswith(("json/", "pypi/")):
        yield "document", _parsed(path.read_bytes())


def _root_json(path: Path) -> Iterator[tuple[str, Any]]:
    document = json.loads(path.read_bytes())
    yield "serial", document["meta"].get("_last-serial")
    yield "api-version", document["meta"]["api-version"]
    for entry in document["projects"]:
        yield f"{entry['name']}/", "listed"
        yield from ((f"{entry['name']}/{key}", value) for key, value in entry.items() if key != "name")


def _root_html(path: Path) -> Iterator[tuple[str, Any]]:
    page = _Links(path.read_text())
    yield "api-version", page.version
    for text, attributes in page.links:
        yield f"{text}/", "listed"
        yield f"{text}/href", attributes["href"]


def _page_json(path: Path, base: str) -> Iterator[tuple[str, Any]]:
    document = json.loads(path.read_bytes())
    serial = document["meta"]["_last-serial"]
    yield "serial", int(serial)
    yield "serial's type", type(serial).__name__
    yield "api-version", document["meta"]["api-version"]
    yield from ((f"version {version}/", "listed") for version in document.get("versions", ()))
    yield from ((key, document[key]) for key in document.keys() - {"meta", "versions", "files"})
    for entry in document["files"]:
        yield f"{entry['filename']}/", "listed"
        hashes = {f"hash {name}": digest for name, digest in entry["hashes"].items()}
        facts = {**entry, **hashes, "url": _target(base, entry["url"])}
        for key in facts.keys() - {"filename", "hashes"}:
            yield f"{entry['filename']}/{key}", facts[key]


def _page_html(path: Path, base: str) -> Iterator[tuple[str, Any]]:
    text = path.read_text()
    page = _Links(text)
    trailer = re.search(r"<!--SERIAL (\d+)-->\s*\Z", text)
    yield "serial", trailer and int(trailer[1])
    yield "api-version", page.version
    for filename, attributes in page.links:
        url, _, digest = attributes.pop("href").partition("#")
        yield f"{filename}/", "listed"
        for key, value in {**attributes, "url": _target(base, url), "digest": digest}.items():
            yield f"{filename}/{key}", value


def _parsed(document: bytes) -> Any:
    try:
        return json.loads(document)
    except ValueError:
        return "unreadable"


def _target(base: str, url: str) -> str:
    return unquote(urljoin(base, url))


class _Links(HTMLParser):
    """The anchors of a page: text and attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[tuple[str, dict[str, str]]] = []
        self.version: str | None = None
        self._open: dict[str, str] | None = None
        self._text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        if tag == "a":
            self._open, self._text = attributes, ""
        elif tag == "meta" and attributes.get("name") == "pypi:repository-version":
            self.version = attributes["content"]

    def handle_data(self, data: str) -> None:
        self._text += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "a" and self._open is not None:
            self.links.append((self._text, self._open))
            self._open = None
