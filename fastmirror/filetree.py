"""A tree in directories: final names by rename from staging, which is on the same file system.

A file's final name is created without replacing; a page's name is replaced in one step. Nothing is written or
removed through a link (``web.py``).
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import sys
from typing import TYPE_CHECKING

from fastmirror.descriptors import free_bytes, make_directory
from fastmirror.errors import SettingsError, StorageError
from fastmirror.staging import WITHOUT_LINKS
from fastmirror.storage import Storage
from fastmirror.web import Web

if TYPE_CHECKING:
    from fastmirror.settings import StorageSettings

_RENAME_NOREPLACE = 1
_AT_FDCWD = -100
_AS_NAMES = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()  # as os.fsencode, which costs three times that
_UNSUPPORTED = frozenset({errno.ENOSYS, errno.EINVAL, errno.ENOTSUP})


class FileTree(Web, Storage):
    """A mirror's tree below ``web/`` of its directory, and the staging area beside it."""

    def __init__(self, directory: str, staging: str | None, *, durable: bool, sets_modes: bool = True) -> None:
        Storage.__init__(self, directory, staging, sets_modes=sets_modes)
        Web.__init__(self, os.path.join(directory, "web"))
        self._durable = durable
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._can_rename_exclusively = hasattr(self._libc, "renameat2")
        self._flushed: list[int] = []

    @classmethod
    def of(cls, settings: StorageSettings) -> FileTree:
        """The tree of these settings."""
        return cls(
            settings.directory,
            settings.staging,
            durable=settings.durability,
            sets_modes=settings.manage_permissions,
        )

    @property
    def whereabouts(self) -> None:
        """It is in the mirror's directory."""
        return

    def prepare(self) -> None:
        """Make the directories, once a run, under the lock; staging is swept, and partials kept some days.

        Raises SettingsError where no staging is on the file system of the tree.
        """
        for path in (self._in_web("simple"), self._in_web("packages"), self.own, *self._areas):
            os.makedirs(path, exist_ok=True)
        self.open_desk()
        os.makedirs(self._partials(), exist_ok=True)
        self._sweep()
        self.prepare_flush()

    def prepare_flush(self) -> None:
        """Hold what `flush` flushes open, until `close`."""
        devices: dict[int, int] = {}
        for path in (self.web, self._in_web("simple"), self._in_web("packages"), self.own):
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            if devices.setdefault(os.fstat(descriptor).st_dev, descriptor) != descriptor:
                os.close(descriptor)
        self._flushed = list(devices.values())

    def close(self) -> None:
        """Close the descriptors that flush uses."""
        for descriptor in self._flushed:
            os.close(descriptor)
        self._flushed = []

    def place(self, staged: str, path: str, *, replace: bool = False, sha256: str = "") -> bool:  # noqa: ARG002
        """Give a staged file its final name below ``web/``; False if that name is taken, and it stays staged."""
        final = self.final(path)
        try:
            return self._rename(staged, final, replace=replace)
        except FileNotFoundError:
            make_directory(final.rpartition("/")[0])
            return self._rename(staged, final, replace=replace)

    def remove(self, path: str) -> bool:
        """Remove a file or page below ``web/`` and the directories that it leaves empty; False if there was none."""
        try:
            os.unlink(self.final(path))
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return False
        self.prune(path)
        return True

    def prune(self, path: str) -> None:
        """Remove the directories below ``web/`` that the loss of this file left empty."""
        parent = os.path.dirname(path)
        while parent.count("/") >= 1:
            try:
                os.rmdir(self._in_web(parent))
            except OSError:
                break
            parent = os.path.dirname(parent)

    def take_out(self, path: str, kept: str) -> bool:
        """Move a file from below ``web/`` to a path beside it; False if there is none."""
        try:
            os.replace(self.contained(path), kept)
        except (FileNotFoundError, NotADirectoryError):
            return False
        self.prune(path)
        return True

    def flush(self) -> None:
        """Make all that was written and renamed before durable. Raises StorageError if the disk could not.

        One syncfs per file system, not one fsync per file; ``sync`` where there is no syncfs.
        """
        if not self._durable:
            return
        if not hasattr(self._libc, "syncfs"):
            os.sync()
            return
        for descriptor in self._flushed:
            if self._libc.syncfs(descriptor) != 0:
                code = ctypes.get_errno()
                raise StorageError(f"flush failed: {os.strerror(code)}")

    def is_empty(self) -> bool:
        """Whether there is neither a page nor a file."""
        for part in ("simple", "packages"):
            with os.scandir(self._in_web(part)) as entries:
                if next(entries, None) is not None:
                    return False
        return True

    def free_bytes(self) -> int:
        """Bytes that may still be written where the tree is."""
        return free_bytes(self._in_web("packages"))

    def _rename(self, staged: str, final: str, *, replace: bool) -> bool:
        if replace:
            os.replace(staged, final)
            return True
        if self._can_rename_exclusively:
            old, new = staged.encode(*_AS_NAMES), final.encode(*_AS_NAMES)
            if self._libc.renameat2(_AT_FDCWD, old, _AT_FDCWD, new, _RENAME_NOREPLACE) == 0:
                return True
            code = ctypes.get_errno()
            if code == errno.EEXIST:
                return False
            if code not in _UNSUPPORTED:
                raise OSError(code, os.strerror(code), final)
            self._can_rename_exclusively = False
        try:
            os.link(staged, final)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in WITHOUT_LINKS:
                raise
            return self._rename_alone(staged, final)
        os.unlink(staged)
        return True

    def _rename_alone(self, staged: str, final: str) -> bool:
        """Rename without replacing where the file system has neither way: one process of the run at a time."""
        descriptor = os.open(os.path.join(self.own, "renaming.lock"), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.path.lexists(final):
                return False
            os.rename(staged, final)
            return True
        finally:
            os.close(descriptor)

    def _area_for(self, part: str) -> str:
        """The staging on the file system of this part of the tree: from there a rename is one step."""
        path = self._in_web(part).rstrip("/")
        device = os.stat(path).st_dev
        for area in self._areas:
            if os.stat(area).st_dev == device:
                return area
        beside = os.path.dirname(os.path.realpath(path))
        above = os.path.dirname(beside)
        if beside == os.path.realpath(self.web) and os.stat(above).st_dev == device:
            beside = above  # out of what is published
        raise SettingsError(
            f"staging is on another file system than {path} (hint: add to [mirror]: staging = {beside})"
        )
