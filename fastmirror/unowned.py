"""What lies below web/ and belongs to no project that the state holds."""

from __future__ import annotations

import logging
import os
from array import array
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

import xxhash

from fastmirror.errors import InvalidName, StorageError
from fastmirror.layout import Layout, PageFormat
from fastmirror.names import normalize
from fastmirror.packing import paths_of, unpack_files

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastmirror.layout import Tree
    from fastmirror.names import NormalizedName
    from fastmirror.state import State
    from fastmirror.storage import Storage

_LOG = logging.getLogger(__name__)
_PACKAGES = "packages/"
_SUFFIXES = tuple(f".{page_format}" for page_format in PageFormat)


class Unowned(NamedTuple):
    """Paths below web/, with their sizes in bytes."""

    pages: list[tuple[str, int]]  # and documents
    files: list[tuple[str, int]]
    torn: int  # projects whose files the state cannot tell: any file may be theirs, and none is named here


def find_unowned(state: State, storage: Storage, tree: Tree, spared_since: float) -> Unowned:
    """Compare the tree with the state; files doomed after `spared_since` (epoch seconds) are left to their grace.

    What cannot be read is not named. The state's paths are kept as 64-bit digests, 8 bytes each, by the first
    two digits of their directory: a collision spares a file.
    """
    owned, torn = _owned(state, spared_since)
    held = {name for name, _ in state.every_serial()}
    pages = [(path, size) for path, size in _pages(storage.web) if not _is_held(_owner(path, tree), held)]
    files: list[tuple[str, int]] = []
    if not torn:
        by_part: dict[str, list[str]] = defaultdict(list)
        for entry in _entries(f"{storage.web}/packages"):
            by_part[entry.name[:2]].append(entry.name)
        for part in sorted(by_part):
            known = set(owned.get(part, ()))
            for name in by_part[part]:
                for path, size in _walk(storage.web, _PACKAGES + name):
                    if xxhash.xxh3_64_intdigest(os.fsencode(path)) not in known:
                        files.append((path, size))
    return Unowned(pages, files, torn)


def _owned(state: State, spared_since: float) -> tuple[dict[str, array[int]], int]:
    owned: dict[str, array[int]] = defaultdict(lambda: array("Q"))
    torn = 0

    def own(path: str) -> None:
        owned[path[len(_PACKAGES) : len(_PACKAGES) + 2]].append(xxhash.xxh3_64_intdigest(os.fsencode(path)))

    for name, packed in state.every_files():
        try:
            files = unpack_files(packed)
        except StorageError as error:
            _LOG.warning("%s: %s", name, error)
            torn += 1
            continue
        for path in paths_of(files):
            own(path)
    for path in state.doomed_after(spared_since):
        own(path)
    return owned, torn


def _pages(web: str) -> Iterator[tuple[str, int]]:
    for part in ("simple", "json", "pypi"):
        for entry in _entries(f"{web}/{part}"):
            path = f"{part}/{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(web, path)
            elif part == "json":
                yield path, entry.stat(follow_symlinks=False).st_size


def _owner(path: str, tree: Tree) -> str:
    """The project whose page or document this is; "" if it is none of a project's."""
    part, *rest = path.split("/")
    if part == "json":
        return rest[-1] if len(rest) == 1 + (tree.layout is Layout.HASHED) else ""
    if part == "pypi":
        return rest[0] if rest[1:] == ["json"] else ""
    if tree.layout is Layout.HASHED:
        suffix = next((suffix for suffix in _SUFFIXES if rest[-1].endswith(suffix)), "")
        return rest[-1].removesuffix(suffix) if suffix and len(rest) == 2 else ""
    name, *below = rest[1:] if tree.hash_index else rest
    is_page = below[-1:] != [] and below[-1].startswith("index") and below[:-1] in ([], ["versions"])
    return name if is_page else ""


def _is_held(owner: str, held: set[NormalizedName]) -> bool:
    """What is none of a project's is left alone, as what is held is."""
    try:
        return not owner or normalize(owner) in held
    except InvalidName:
        return True


def _walk(web: str, path: str) -> Iterator[tuple[str, int]]:
    """Files below a path below web/, and the path itself if it is one; links are not followed, nor named."""
    full = f"{web}/{path}"
    if not os.path.isdir(full):
        if os.path.isfile(full) and not os.path.islink(full):
            yield path, os.stat(full).st_size
        return
    if os.path.islink(full):
        return
    for entry in _entries(full):
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(web, f"{path}/{entry.name}")
        elif entry.is_file(follow_symlinks=False):
            yield f"{path}/{entry.name}", entry.stat(follow_symlinks=False).st_size


def _entries(directory: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except FileNotFoundError:
        return []
    except OSError as error:
        _LOG.warning("%s cannot be read, and is left alone: %s", directory, error)
        return []
