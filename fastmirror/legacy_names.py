"""Directories that old mirrors made for names that are not normalised (cleanup = true): found once, emptied."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from fastmirror.descriptors import names_in
from fastmirror.errors import InvalidName
from fastmirror.layout import Layout, PageFormat, Tree, page_path
from fastmirror.names import NormalizedName, normalize

if TYPE_CHECKING:
    from collections.abc import Iterator


_PAGE = re.compile(r"index\.(?:html|v1_html|v1_json)|versions/index_[^/]+\.(?:html|v1_html|v1_json)")


class LegacyNames:
    """The directories under ``web/simple`` whose names are not normalised, by project."""

    def __init__(self, web: str, tree: Tree) -> None:
        self._web = web
        self._tree = tree
        self._found: dict[NormalizedName, list[str]] | None = None

    def pages(self, name: NormalizedName) -> list[str]:
        """Paths below ``web/`` of the pages that stand under other spellings of this name.

        Where a file system does not tell upper from lower case, the project's own directory may have such a name.
        """
        if self._found is None:
            self._found = self._look()
        own = os.path.dirname(page_path(self._tree, name, PageFormat.HTML))
        return [
            path
            for directory in self._found.get(name, ())
            if not _is_same(f"{self._web}/{directory}", f"{self._web}/{own}")
            for path in self._pages_in(directory)
        ]

    def _look(self) -> dict[NormalizedName, list[str]]:
        found: dict[NormalizedName, list[str]] = {}
        if self._tree.layout is Layout.HASHED:
            return found
        parents = ["simple"]
        if self._tree.hash_index:
            parents = [f"simple/{entry}" for entry in _directories(f"{self._web}/simple") if len(entry) == 1]
        for parent in parents:
            for entry in _directories(f"{self._web}/{parent}"):
                try:
                    name = normalize(entry)
                except InvalidName:
                    continue
                if name != entry or (self._tree.hash_index and parent != f"simple/{name[0]}"):
                    found.setdefault(name, []).append(f"{parent}/{entry}")
        return found

    def _pages_in(self, directory: str) -> Iterator[str]:
        for below in ("", "versions/"):
            names = sorted(below + name for name in names_in(f"{self._web}/{directory}/{below}"))
            yield from (f"{directory}/{name}" for name in names if _PAGE.fullmatch(name))


def _directories(path: str) -> list[str]:
    with os.scandir(path) as entries:
        return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]


def _is_same(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except FileNotFoundError:
        return False
