"""Which tree a mirror has: as recorded, as found, as chosen."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from fastmirror.errors import SettingsError
from fastmirror.layout import Layout, Tree
from fastmirror.staging import OWN_DIRECTORY

if TYPE_CHECKING:
    from fastmirror.settings import Settings
    from fastmirror.state import State
    from fastmirror.storage import Storage

_BUCKET = re.compile(r"[0-9a-f]{2}")
_PAGE_IN_BUCKET = re.compile(r"(?!index\.).*\.(?:html|v1_json)")
_LOOKED_AT = 2000  # directories in web/simple
_PROJECTS_LOOKED_AT = 100  # of one first character


class Found(NamedTuple):
    """What is known of a tree that is there."""

    layout: Layout | None = None  # None: there are no pages
    hash_index: bool | None = None  # None: nothing says so


def state_path(directory: str) -> str:
    """Where a mirror's state lies."""
    return os.path.join(directory, OWN_DIRECTORY, "state.sqlite")


def settle_tree(settings: Settings, state: State | None, storage: Storage) -> Tree:
    """The tree recorded in the state, else the existing one, else what the settings say.

    Without any of them: flat where there is a configuration file, as bandersnatch has it, else hashed.
    Raises SettingsError where a setting contradicts what is there.
    """
    chosen = settings.storage.layout
    recorded = state.get("layout") if state is not None else None
    if recorded and state is not None:
        found = Found(Layout(recorded), bool(state.get("hash_index")))
    else:
        found = existing_tree(storage)
    if recorded and state is not None and (place := state.get("whereabouts")) != storage.whereabouts:
        raise SettingsError(
            f"[mirror] storage-backend: this directory's state is of a tree in {place or 'its web/'},"
            f" not in {storage.whereabouts or 'that'} (hint: another directory)"
        )
    if chosen is not None and found.layout is not None and chosen is not found.layout:
        raise SettingsError(
            f"[mirror] layout = {chosen}: this mirror's tree is {found.layout}"
            " (hint: remove the key, or choose another directory)"
        )
    layout = found.layout or chosen or (Layout.FLAT if settings.from_file else Layout.HASHED)
    hash_index = settings.storage.hash_index
    if found.hash_index not in (None, hash_index):
        raise SettingsError(
            f"[mirror] hash-index = {_word(hash_index)}: this mirror's tree was made otherwise"
            f" (hint: hash-index = {_word(found.hash_index)}, or choose another directory)"
        )
    if hash_index and layout is Layout.HASHED:
        raise SettingsError("[mirror] hash-index = true: is for layout = flat, and this tree is hashed")
    if settings.pages.keep_versions and layout is Layout.HASHED:
        raise SettingsError("[mirror] keep_index_versions: is for layout = flat, and this tree is hashed")
    return Tree(layout, hash_index)


def _word(value: object) -> str:
    return str(value).lower()


def existing_tree(storage: Storage) -> Found:
    """What shows of a tree that no state speaks of. In an object store it is flat."""
    if storage.is_remote:
        return Found(Layout.FLAT, hash_index=False)
    found = Found()
    with suppress(FileNotFoundError):
        for directory in islice(storage.directories("simple"), _LOOKED_AT):
            names = storage.names(f"simple/{directory}")
            if _BUCKET.fullmatch(directory) and any(map(_PAGE_IN_BUCKET.fullmatch, names)):
                return Found(Layout.HASHED)
            if _has_page(names):
                return Found(Layout.FLAT, hash_index=False)
            if names:
                found = Found(Layout.FLAT)
            if len(directory) == 1 and _has_projects(storage, directory, names):
                return Found(Layout.FLAT, hash_index=True)
    return found


def _has_page(names: list[str]) -> bool:
    return any(name.startswith("index.") for name in names)


def _has_projects(storage: Storage, initial: str, names: list[str]) -> bool:
    """Whether a directory is one of projects with this first character; a project may have that alone as its name."""
    projects = islice((name for name in names if name.startswith(initial)), _PROJECTS_LOOKED_AT)
    return any(_has_page(storage.names(f"simple/{initial}/{name}")) for name in projects)
