"""What a synthetic upstream says: its pages and indexes, as PyPI writes them."""

from __future__ import annotations

import html
import json
from datetime import UTC, datetime
from typing import Any, NamedTuple

from benchmarks.corpus import Distribution, Project, normal_name

API_VERSION = "1.4"


class Served(NamedTuple):
    """One file as it is served."""

    distribution: Distribution
    path: str  # from the root, percent-free
    hashes: dict[str, str]
    size: int  # bytes
    metadata_hash: str | None


def _compact(value: object) -> bytes:
    """JSON as PyPI writes it: compact, keys sorted, UTF-8, a newline at the end."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def _time(distribution: Distribution) -> str:
    seconds, microseconds = divmod(distribution.uploaded_us, 1_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{microseconds:06d}Z"


def _core_metadata(written: Served) -> dict[str, str] | bool:
    return {"sha256": written.metadata_hash} if written.metadata_hash else False


def root_json(listed: list[list[Any]], last_serial: int) -> bytes:
    projects = [{"_last-serial": serial, "name": name} for name, serial in listed]
    return _compact({"meta": {"_last-serial": last_serial, "api-version": API_VERSION}, "projects": projects})


def simple_json(project: Project, written: list[Served], address: str) -> bytes:
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


def legacy_json(project: Project, written: list[Served], address: str) -> bytes:
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


def root_html(listed: list[list[Any]], last_serial: int) -> bytes:
    links = [f'    <a href="/simple/{normal_name(name)}/">{html.escape(name)}</a>' for name, _ in listed]
    return _html("Simple index", links, last_serial)


def simple_html(project: Project, written: list[Served], address: str) -> bytes:
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
