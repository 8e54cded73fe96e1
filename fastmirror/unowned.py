"""What lies below web/ and belongs to no project that the state holds."""

from __future__ import annotations

import logging
import os
from array import array
from collections import defaultdict
from itertools import groupby
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

    links: list[tuple[str, int]]  # to elsewhere, whoever's name they have: nothing is published through one
    pages: list[tuple[str, int]]  # and documents
    files: list[tuple[str, int]]
    torn: int  # projects whose files the state cannot tell: any file may be theirs, and none is named here

    @property
    def everything(self) -> list[tuple[str, int]]:
        """All of them."""
        return [*self.links, *self.pages, *self.files]


def find_unowned(state: State, storage: Storage, tree: Tree, spared_since: float) -> Unowned:
    """Compare the tree with the state; files doomed after `spared_since` (epoch seconds) are left to their grace.

    What cannot be read is not named. The state's paths are kept as 64-bit digests, 8 bytes each, by the first
    two digits of their directory: a collision spares a file.
    """
    owned, torn = _owned(state, spared_since)
    held = {name for name, _ in state.every_serial()}
    links: list[tuple[str, int]] = []
    pages = [(path, size) for path, size in _pages(storage, links) if not _is_held(owner(path, tree), held)]
    files: list[tuple[str, int]] = []
    if not torn:
        for part, found in groupby(storage.walk("packages", links), key=lambda file: _part(file[0])):
            known = set(owned.get(part, ()))
            files += [file for file in found if xxhash.xxh3_64_intdigest(os.fsencode(file[0])) not in known]
    return Unowned(links, pages, files, torn)


def _owned(state: State, spared_since: float) -> tuple[dict[str, array[int]], int]:
    owned: dict[str, array[int]] = defaultdict(lambda: array("Q"))
    torn = 0

    def own(path: str) -> None:
        owned[_part(path)].append(xxhash.xxh3_64_intdigest(os.fsencode(path)))

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


def _part(path: str) -> str:
    return path[len(_PACKAGES) : len(_PACKAGES) + 2]


def _pages(storage: Storage, links: list[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    for part in ("simple", "json", "pypi"):
        for path, size in storage.walk(part, links):
            if part == "json" or path.count("/") > 1:
                yield path, size


def owner(path: str, tree: Tree) -> str:
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
