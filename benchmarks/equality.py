"""Hold a whole mirror against the synthetic upstream that it was made from: every page, file and attribute.

    python -m benchmarks.equality UPSTREAM MIRROR

UPSTREAM is the tree that ``scripts/bench`` keeps in its cache (the directory that holds ``simple/`` and
``packages/``), MIRROR a mirror's directory. Prints what differs; exits 1 if anything does.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urljoin, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

_COMPARED = ("size", "upload-time", "requires-python", "yanked", "core-metadata", "provenance", "hashes")
_LINK = re.compile(r'<a href="([^"#]+)#sha256=([0-9a-f]{64})"[^>]*>([^<]+)</a>')


def pages(web: Path) -> dict[str, tuple[Path, Path]]:
    """Project -> its pages in JSON and HTML, in either layout."""
    found = (web / "simple").glob("*/*.v1_json")
    return {json.loads(path.read_bytes())["name"]: (path, path.with_suffix(".html")) for path in found}


def differences(upstream: Path, mirror: Path) -> Iterator[str]:
    """What is not as upstream has it."""
    web = mirror / "web"
    mirrored = pages(web)
    expected = {path.stem: path for path in (upstream / "simple").glob("*.json")}
    yield from (f"{name}: missing" for name in sorted(expected.keys() - mirrored.keys()))
    yield from (f"{name}: not upstream's" for name in sorted(mirrored.keys() - expected.keys()))
    named: set[Path] = set()
    for name in sorted(expected.keys() & mirrored.keys()):
        theirs = json.loads(expected[name].read_bytes())
        json_page, html_page = mirrored[name]
        ours = json.loads(json_page.read_bytes())
        if ours["meta"]["_last-serial"] != theirs["meta"]["_last-serial"] or ours["versions"] != theirs["versions"]:
            yield f"{name}: serial or versions"
        yield from _files(web, json_page, theirs["files"], ours["files"], named)
        links = {label: (url, sha256) for url, sha256, label in _LINK.findall(html_page.read_text())}
        if links != {file["filename"]: (file["url"], file["hashes"]["sha256"]) for file in ours["files"]}:
            yield f"{name}: the HTML page lists other files than the JSON page"
    stray = {path for path in (web / "packages").rglob("*") if path.is_file()} - named
    yield from (f"{path}: no page names it" for path in sorted(stray))


def _files(
    web: Path, page: Path, theirs: list[dict[str, Any]], ours: list[dict[str, Any]], named: set[Path]
) -> Iterator[str]:
    if [file["filename"] for file in theirs] != [file["filename"] for file in ours]:
        yield f"{page}: other files, or in another order"
        return
    base = f"http://mirror/{page.relative_to(web).parent.as_posix()}/"
    for their, our in zip(theirs, ours, strict=True):
        path = web / unquote(urlsplit(urljoin(base, our["url"])).path).lstrip("/")
        named.add(path)
        yield from (f"{path}: {key}: {our.get(key)!r}" for key in _COMPARED if our.get(key) != their.get(key))
        status = path.stat()
        if abs(status.st_mtime - datetime.fromisoformat(their["upload-time"]).timestamp()) > 1e-5:
            yield f"{path}: time"
        if status.st_size != their["size"] or sha256_of(path) != their["hashes"]["sha256"]:
            yield f"{path}: size or sha256"
        if their["core-metadata"]:
            metadata = path.with_name(f"{path.name}.metadata")
            named.add(metadata)
            if sha256_of(metadata) != their["core-metadata"]["sha256"]:
                yield f"{metadata}: sha256"


def sha256_of(path: Path) -> str:
    """In hex digits; by the standard library alone, as the program's own hashing is what is checked."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> None:
    """Compare, print, exit."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.equality", description="compare a mirror with its upstream"
    )
    parser.add_argument("upstream", type=Path)
    parser.add_argument("mirror", type=Path)
    given = parser.parse_args()
    found = list(differences(given.upstream, given.mirror))
    print(*found[:50], sep="\n")
    print(f"{len(pages(given.mirror / 'web'))} projects compared, {len(found)} differences")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
