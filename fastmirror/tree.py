"""Which tree a mirror has: as recorded, as found, as chosen."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING

from fastmirror.errors import SettingsError
from fastmirror.layout import Layout, Tree
from fastmirror.staging import OWN_DIRECTORY

if TYPE_CHECKING:
    from fastmirror.settings import Settings
    from fastmirror.state import State
    from fastmirror.storage import Storage

_BUCKET = re.compile(r"[0-9a-f]{2}")
_LOOKED_AT = 2000  # directories in web/simple


def state_path(directory: str) -> str:
    """Where a mirror's state lies."""
    return os.path.join(directory, OWN_DIRECTORY, "state.sqlite")


def settle_tree(settings: Settings, state: State | None, storage: Storage) -> Tree:
    """The layout recorded in the state, else the existing tree's, else the setting's.

    Without any of them: flat where there is a configuration file, as bandersnatch has it, else hashed.
    Raises SettingsError where the setting contradicts the record.
    """
    chosen = settings.storage.layout
    recorded = state.get("layout") if state is not None else None
    found = Layout(recorded) if recorded else existing_layout(storage)
    if recorded and state is not None and (place := state.get("whereabouts")) != storage.whereabouts:
        raise SettingsError(
            f"[mirror] storage-backend: this directory's state is of a tree in {place or 'its web/'},"
            f" not in {storage.whereabouts or 'that'} (hint: another directory)"
        )
    if chosen is not None and found is not None and chosen is not found:
        raise SettingsError(
            f"[mirror] layout = {chosen}: this mirror's tree is {found}"
            " (hint: remove the key, or choose another directory)"
        )
    layout = found or chosen or (Layout.FLAT if settings.from_file else Layout.HASHED)
    hash_index = settings.storage.hash_index
    if recorded and state is not None and hash_index != bool(state.get("hash_index")):
        raise SettingsError(f"[mirror] hash-index = {str(hash_index).lower()}: this mirror's tree was made otherwise")
    if hash_index and layout is Layout.HASHED:
        raise SettingsError("[mirror] hash-index = true: is for layout = flat, and this tree is hashed")
    if settings.pages.keep_versions and layout is Layout.HASHED:
        raise SettingsError("[mirror] keep_index_versions: is for layout = flat, and this tree is hashed")
    return Tree(layout, hash_index)


def existing_layout(storage: Storage) -> Layout | None:
    """The layout of a tree that no state speaks of; None if there are no pages. In an object store it is flat."""
    if storage.is_remote:
        return Layout.FLAT
    with suppress(FileNotFoundError):
        for directory in islice(storage.directories("simple"), _LOOKED_AT):
            names = storage.names(f"simple/{directory}")
            if _BUCKET.fullmatch(directory) and any(name.endswith((".html", ".v1_json")) for name in names):
                pages = [name for name in names if name.startswith("index.")]
                if not pages:
                    return Layout.HASHED
            if names:
                return Layout.FLAT
    return None
