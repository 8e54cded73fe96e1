"""A seeded upstream, written as a tree of static files that nginx serves on loopback (nginx.py).

The tree speaks as PyPI does: ``/simple/`` and ``/simple/<name>/`` as JSON (compact, keys sorted, a
``_last-serial`` for each project) and as HTML, ``/pypi/<name>/json`` in the legacy form that bandersnatch
reads, ``/packages/`` under the blake2b-256 of the content, ``.metadata`` beside each wheel. What it holds is
drawn by corpus.py. It is written once for each set of parameters and kept in a cache.
"""

from __future__ import annotations

import hashlib
import html
import json
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.corpus import (
    Contents,
    Distribution,
    Project,
    draw_names,
    draw_project,
    draw_serial,
    normal_name,
)

SHAPE_VERSION = 3  # of this file and corpus.py: a change of what they write makes a new tree
API_VERSION = "1.4"


class Upstream(NamedTuple):
    """One upstream at rest, and what a complete mirror of it holds."""

    tree: Path  # what nginx serves
    port: int  # file URLs are absolute, so it is part of the tree
    projects: int
    files: int
    file_bytes: int
    metadata_files: int
    metadata_bytes: int
    last_serial: int

    @property
    def address(self) -> str:
        """The upstream's address, as a mirror's ``master``."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def serial_map(self) -> Path:
        """One ``<project> <serial>;`` a line, for nginx's map."""
        return self.tree.parent / "serials.map"

    @property
    def url_list(self) -> Path:
        """One ``<path> <name in a flat directory>`` a line: pages, files and metadata files."""
        return self.tree.parent / "urls.txt"


def prepare_upstream(cache: Path, *, projects: int, seed: int, port: int) -> Upstream:
    """The upstream of these parameters, written unless the cache holds it."""
    home = cache / f"upstream-{SHAPE_VERSION}-{projects}-{seed}-{port}"
    facts = home / "facts.json"
    if not facts.exists():
        partial = home.with_name(home.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(home, ignore_errors=True)
        counts = _write_upstream(partial, projects=projects, seed=seed, port=port)
        (partial / "facts.json").write_text(json.dumps(counts))
        partial.rename(home)
    return Upstream(home / "web", port, **json.loads(facts.read_text()))


def prepare_index(cache: Path, *, projects: int, seed: int, port: int, changed: int = 0) -> Upstream:
    """A root index only, for planning; ``changed`` projects have a serial above all others."""
    home = cache / f"index-{SHAPE_VERSION}-{projects}-{seed}-{port}-{changed}"
    if not (home / "facts.json").exists():
        shutil.rmtree(home, ignore_errors=True)
        (home / "web").mkdir(parents=True)
        listed: list[list[Any]] = [[name, draw_serial(normal, seed)] for normal, name in draw_names(projects, seed)]
        last_serial = max(serial for _, serial in listed)
        for position, entry in enumerate(listed[:: max(1, projects // max(1, changed))][:changed], 1):
            entry[1] = last_serial + position
        last_serial += changed
        (home / "serials.map").write_text("")
        (home / "web/root.json").write_bytes(_root_json(listed, last_serial))
        counts = {"projects": projects, "last_serial": last_serial}
        zeros = dict.fromkeys(("files", "file_bytes", "metadata_files", "metadata_bytes"), 0)
        (home / "facts.json").write_text(json.dumps(counts | zeros))
    return Upstream(home / "web", port, **json.loads((home / "facts.json").read_text()))


def warm(upstream: Upstream) -> None:
    """Read every file once, so that no run pays for the disk of the upstream."""
    for folder, _, names in os.walk(upstream.tree):
        for name in names:
            with open(os.path.join(folder, name), "rb", buffering=0) as file:
                while file.read(1 << 20):
                    pass


class _Written(NamedTuple):
    """One file as it is served."""

    distribution: Distribution
    path: str  # from the root, percent-free
    hashes: dict[str, str]
    size: int  # bytes
    metadata_hash: str | None


def _write_upstream(home: Path, *, projects: int, seed: int, port: int) -> dict[str, int]:
    web = home / "web"
    for folder in ("simple", "pypi", "packages"):
        (web / folder).mkdir(parents=True)
    contents = Contents(seed)
    counts = dict.fromkeys(("files", "file_bytes", "metadata_files", "metadata_bytes"), 0)
    listed: list[list[Any]] = []
    address = f"http://127.0.0.1:{port}"
    with (home / "urls.txt").open("w") as urls, (home / "serials.map").open("w") as serials:
        for normal, name in draw_names(projects, seed):
            project = draw_project(name, normal, seed)
            written = [_write_file(web, contents, project, each, counts) for each in project.distributions]
            (web / f"simple/{normal}.json").write_bytes(_simple_json(project, written, address))
            (web / f"simple/{normal}.html").write_bytes(_simple_html(project, written, address))
            (web / f"pypi/{normal}.json").write_bytes(_legacy_json(project, written, address))
            listed.append([name, project.serial])
            serials.write(f"{normal} {project.serial};\n")
            urls.write(f"/simple/{normal}/ {normal}\n")
            for each in written:
                urls.write(f"{each.path} {each.distribution.filename}\n")
                if each.metadata_hash:
                    urls.write(f"{each.path}.metadata {each.distribution.filename}.metadata\n")
    last_serial = max(serial for _, serial in listed)
    (web / "root.json").write_bytes(_root_json(listed, last_serial))
    (web / "root.html").write_bytes(_root_html(listed, last_serial))
    return counts | {"projects": projects, "last_serial": last_serial}


def _write_file(
    web: Path, contents: Contents, project: Project, distribution: Distribution, counts: dict[str, int]
) -> _Written:
    metadata = contents.metadata(project, distribution) if distribution.wheel else b""
    body = contents.wheel(distribution, metadata) if distribution.wheel else contents.distribution(distribution)
    blake2b = hashlib.blake2b(body, digest_size=32).hexdigest()
    path = f"/packages/{blake2b[:2]}/{blake2b[2:4]}/{blake2b[4:]}/{distribution.filename}"
    target = Path(f"{web}{path}")
    target.parent.mkdir(parents=True)
    target.write_bytes(body)
    counts["files"] += 1
    counts["file_bytes"] += len(body)
    metadata_hash = None
    if distribution.wheel:
        Path(f"{target}.metadata").write_bytes(metadata)
        metadata_hash = hashlib.sha256(metadata).hexdigest()
        counts["metadata_files"] += 1
        counts["metadata_bytes"] += len(metadata)
    hashes = {
        "blake2b_256": blake2b,
        "md5": hashlib.md5(body, usedforsecurity=False).hexdigest(),
        "sha256": hashlib.sha256(body).hexdigest(),
    }
    return _Written(distribution, path, hashes, len(body), metadata_hash)


def _compact(value: object) -> bytes:
    """JSON as PyPI writes it: compact, keys sorted, UTF-8, a newline at the end."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def _time(distribution: Distribution) -> str:
    seconds, microseconds = divmod(distribution.uploaded_us, 1_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{microseconds:06d}Z"


def _core_metadata(written: _Written) -> dict[str, str] | bool:
    return {"sha256": written.metadata_hash} if written.metadata_hash else False


def _root_json(listed: list[list[Any]], last_serial: int) -> bytes:
    projects = [{"_last-serial": serial, "name": name} for name, serial in listed]
    return _compact({"meta": {"_last-serial": last_serial, "api-version": API_VERSION}, "projects": projects})


def _simple_json(project: Project, written: list[_Written], address: str) -> bytes:
    files = [
        {
            "core-metadata": _core_metadata(each),
            "data-dist-info-metadata": _core_metadata(each),
            "filename": each.distribution.filename,
            "hashes": {"sha256": each.hashes["sha256"]},
            "provenance": None,
            "requires-python": each.distribution.requires_python,
            "size": each.size,
            "upload-time": _time(each.distribution),
            "url": address + each.path,
            "yanked": "broken" if each.distribution.yanked else False,
        }
        for each in written
    ]
    return _compact(
        {
            "alternate-locations": [],
            "files": files,
            "meta": {"_last-serial": project.serial, "api-version": API_VERSION},
            "name": project.normal,
            "project-status": {"status": "active"},
            "versions": list(dict.fromkeys(each.distribution.version for each in written)),
        }
    )


def _legacy_json(project: Project, written: list[_Written], address: str) -> bytes:
    releases: dict[str, list[dict[str, Any]]] = {}
    for each in written:
        file = each.distribution
        entry = {
            "comment_text": None,
            "core-metadata": _core_metadata(each),
            "digests": each.hashes,
            "downloads": -1,
            "filename": file.filename,
            "has_sig": False,
            "md5_digest": each.hashes["md5"],
            "packagetype": "bdist_wheel" if file.wheel else "sdist",
            "python_version": "py3" if file.wheel else "source",
            "requires_python": file.requires_python,
            "size": each.size,
            "upload_time": _time(file)[:19],
            "upload_time_iso_8601": _time(file),
            "url": address + each.path,
            "yanked": file.yanked,
            "yanked_reason": "broken" if file.yanked else None,
        }
        releases.setdefault(file.version, []).append(entry)
    newest = project.distributions[-1]
    info: dict[str, Any] = {
        "author": "",
        "classifiers": [],
        "description": project.description,
        "downloads": {"last_day": -1, "last_month": -1, "last_week": -1},
        "name": project.name,
        "requires_dist": None,
        "requires_python": newest.requires_python,
        "summary": "a synthetic project",
        "version": newest.version,
        "yanked": False,
        "yanked_reason": None,
    }
    urls = releases[newest.version]
    return _compact(
        {
            "info": info,
            "last_serial": project.serial,
            "releases": releases,
            "urls": urls,
            "vulnerabilities": [],
        }
    )


def _html(title: str, links: list[str], serial: int) -> bytes:
    lines = [
        "<!DOCTYPE html>",
        "<html>",
        "  <head>",
        '    <meta name="pypi:repository-version" content="1.4">',
        f"    <title>{title}</title>",
        "  </head>",
        "  <body>",
        *links,
        "  </body>",
        "</html>",
        f"<!--SERIAL {serial}-->",
    ]
    return "\n".join(lines).encode()


def _root_html(listed: list[list[Any]], last_serial: int) -> bytes:
    links = [f'    <a href="/simple/{normal_name(name)}/">{html.escape(name)}</a>' for name, _ in listed]
    return _html("Simple index", links, last_serial)


def _simple_html(project: Project, written: list[_Written], address: str) -> bytes:
    links = []
    for each in written:
        file = each.distribution
        attributes = ""
        if file.requires_python:
            attributes += f' data-requires-python="{html.escape(file.requires_python)}"'
        if each.metadata_hash:
            attributes += f' data-dist-info-metadata="sha256={each.metadata_hash}"'
            attributes += f' data-core-metadata="sha256={each.metadata_hash}"'
        if file.yanked:
            attributes += ' data-yanked="broken"'
        href = f"{address}{each.path}#sha256={each.hashes['sha256']}"
        links.append(f'<a href="{href}"{attributes}>{file.filename}</a><br />')
    return _html(f"Links for {project.normal}", links, project.serial)
