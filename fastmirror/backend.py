"""Which storage the settings ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastmirror.filetree import FileTree

if TYPE_CHECKING:
    from fastmirror.settings import StorageSettings
    from fastmirror.storage import Storage


def open_storage(settings: StorageSettings) -> Storage:
    """The tree of these settings, for this process."""
    if settings.s3 is None:
        return FileTree.of(settings)
    from fastmirror.objecttree import ObjectTree

    return ObjectTree(settings, settings.s3)
