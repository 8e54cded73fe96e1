"""A seeded upstream, written as a tree of static files that nginx serves on loopback (nginx.py).

The tree speaks as PyPI does: ``/simple/`` and ``/simple/<name>/`` as JSON (compact, keys sorted, a
``_last-serial`` for each project) and as HTML, ``/pypi/<name>/json`` in the legacy form that bandersnatch
reads, ``/packages/`` under the blake2b-256 of the content, ``.metadata`` beside each wheel. What it holds is
drawn by corpus.py. It is written once for each set of parameters and kept in a cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.corpus import Contents, Distribution, Project, draw_names, draw_projects, draw_serial
from benchmarks.served import Served, legacy_json, root_html, root_json, simple_html, simple_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

SHAPE_VERSION = 3  # of this file, corpus.py and served.py: a change of what they write makes a new tree


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
    scheme: str = "http"

    @property
    def address(self) -> str:
        """The upstream's address, as a mirror's ``master``."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def serial_map(self) -> Path:
        """One ``<project> <serial>;`` a line, for nginx's map."""
        return self.tree.parent / "serials.map"

    @property
    def url_list(self) -> Path:
        """One ``<path> <name in a flat directory>`` a line: pages, files and metadata files."""
        return self.tree.parent / "urls.txt"


class Corpus(NamedTuple):
    """What an upstream is to hold."""

    key: str  # tells it from all others of this SHAPE_VERSION
    draw: Callable[[], Iterable[Project]]
    seed: int
    has_bodies: bool = True  # else there are pages alone, in JSON: for runs that ask for no file


def prepare_upstream(cache: Path, *, projects: int, seed: int, port: int) -> Upstream:
    """The upstream of so many projects, written unless the cache holds it."""
    return prepare(cache, Corpus(f"{projects}-{seed}", lambda: draw_projects(projects, seed), seed), port)


def prepare(cache: Path, corpus: Corpus, port: int) -> Upstream:
    """The upstream of this corpus, written unless the cache holds it."""
    home = cache / f"upstream-{SHAPE_VERSION}-{corpus.key}-{port}"
    facts = home / "facts.json"
    if not facts.exists():
        partial = home.with_name(home.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(home, ignore_errors=True)
        counts = _write_upstream(partial, corpus, port)
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
        (home / "web/root.json").write_bytes(root_json(listed, last_serial))
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


def _write_upstream(home: Path, corpus: Corpus, port: int) -> dict[str, int]:
    web = home / "web"
    for folder in ("simple", "pypi", "packages"):
        (web / folder).mkdir(parents=True)
    contents = Contents(corpus.seed)
    counts = dict.fromkeys(("files", "file_bytes", "metadata_files", "metadata_bytes"), 0)
    listed: list[list[Any]] = []
    address = f"http://127.0.0.1:{port}"
    with (home / "urls.txt").open("w") as urls, (home / "serials.map").open("w") as serials:
        for project in corpus.draw():
            normal = project.normal
            listed.append([project.name, project.serial])
            serials.write(f"{normal} {project.serial};\n")
            if not corpus.has_bodies:
                imagined = [_imagine_file(each) for each in project.distributions]
                (web / f"simple/{normal}.json").write_bytes(simple_json(project, imagined, address))
                continue
            written = [_write_file(web, contents, project, each, counts) for each in project.distributions]
            (web / f"simple/{normal}.json").write_bytes(simple_json(project, written, address))
            (web / f"simple/{normal}.html").write_bytes(simple_html(project, written, address))
            (web / f"pypi/{normal}.json").write_bytes(legacy_json(project, written, address))
            urls.write(f"/simple/{normal}/ {normal}\n")
            for each in written:
                urls.write(f"{each.path} {each.distribution.filename}\n")
                if each.metadata_hash:
                    urls.write(f"{each.path}.metadata {each.distribution.filename}.metadata\n")
    last_serial = max(serial for _, serial in listed)
    (web / "root.json").write_bytes(root_json(listed, last_serial))
    (web / "root.html").write_bytes(root_html(listed, last_serial))
    return counts | {"projects": len(listed), "last_serial": last_serial}


def _imagine_file(distribution: Distribution) -> Served:
    """A file that a page lists and nobody asks for: it has a digest, and no content."""
    blake2b = hashlib.blake2b(distribution.filename.encode(), digest_size=32).hexdigest()
    path = f"/packages/{blake2b[:2]}/{blake2b[2:4]}/{blake2b[4:]}/{distribution.filename}"
    digest = hashlib.sha256(distribution.filename.encode()).hexdigest()
    return Served(distribution, path, {"sha256": digest}, distribution.size, digest if distribution.wheel else None)


def _write_file(
    web: Path, contents: Contents, project: Project, distribution: Distribution, counts: dict[str, int]
) -> Served:
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
    return Served(distribution, path, hashes, len(body), metadata_hash)
