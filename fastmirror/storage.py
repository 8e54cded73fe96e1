"""Bytes at rest: staging, final names, flush, removal.

Nothing is written under ``web/`` but by a rename from staging, which is on the same file system. A file's
final name is created without replacing; a page's name is replaced in one step. Nothing is written or
removed through a link (``web.py``).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
import tempfile
import time
from typing import TYPE_CHECKING, BinaryIO

from fastmirror.descriptors import make_directory, write_all
from fastmirror.errors import SettingsError, StorageError
from fastmirror.web import Web

if TYPE_CHECKING:
    from fastmirror.settings import StorageSettings

OWN_DIRECTORY = ".fastmirror"
_PARTIALS = "partial"
_PARTIALS_KEPT_S = 5 * 24 * 3600.0
_RENAME_NOREPLACE = 1
_AT_FDCWD = -100
_UNSUPPORTED = frozenset({errno.ENOSYS, errno.EINVAL, errno.ENOTSUP})
_WITHOUT_LINKS = _UNSUPPORTED | {errno.EPERM, errno.EMLINK}


class Storage(Web):
    """A mirror's tree and the staging area beside it. Every process opens its own."""

    def __init__(self, directory: str, staging: str | None, *, durable: bool, sets_modes: bool = True) -> None:
        super().__init__(os.path.join(directory, "web"))
        self.own = os.path.join(directory, OWN_DIRECTORY)
        # What is ours alone, and may be swept: never the very directory that the operator names.
        self._areas = [os.path.join(self.own, "staging")]
        if staging:
            self._areas.insert(0, os.path.join(staging, f"{OWN_DIRECTORY}-staging"))
        self._web_area = self._page_area = self._file_area = self._areas[0]
        self._durable = durable
        self._sets_modes = sets_modes  # else they are left to the umask and to default ACLs
        self.file_mode = 0o644 if sets_modes else 0o666
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._can_rename_exclusively = hasattr(self._libc, "renameat2")
        self._desks: dict[str, str] = {}
        self._staged = 0
        self._unnamed_area: str | None = None  # the system's own, where nothing is to be written here
        self._flushed: list[int] = []

    @classmethod
    def of(cls, settings: StorageSettings) -> Storage:
        """The tree of these settings."""
        return cls(
            settings.directory,
            settings.staging,
            durable=settings.durability,
            sets_modes=settings.manage_permissions,
        )

    def prepare(self) -> None:
        """Make the directories, once a run, under the lock; staging is swept, and partials kept some days.

        Raises SettingsError where no staging is on the file system of the tree.
        """
        for path in (self._in_web("simple"), self._in_web("packages"), self.own, *self._areas):
            os.makedirs(path, exist_ok=True)
        self.open_desk()
        os.makedirs(self._partials(), exist_ok=True)
        self._sweep()
        devices: dict[int, int] = {}
        for path in (self.web, self._in_web("simple"), self._in_web("packages"), self.own):
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            if devices.setdefault(os.fstat(descriptor).st_dev, descriptor) != descriptor:
                os.close(descriptor)
        self._flushed = list(devices.values())

    def open_desk(self) -> None:
        """Write as this process from now, in its own corners of staging; with modes 0644 and 0755, if it sets them."""
        if self._sets_modes:
            os.umask(0o022)
        self._desks = {}
        self._staged = 0
        self._web_area = self._area_for("")
        self._page_area = self._area_for("simple")
        self._file_area = self._area_for("packages")
        self._unnamed_area = self._page_area

    def close(self) -> None:
        """Close the descriptors that flush uses."""
        for descriptor in self._flushed:
            os.close(descriptor)
        self._flushed = []

    def new_staged(self) -> str:
        """A fresh path in staging, for a file."""
        return self._fresh(self._file_area)

    def new_staged_page(self) -> str:
        """A fresh path in staging, for a page or an index."""
        return self._fresh(self._page_area)

    def _fresh(self, area: str) -> str:
        desk = self._desks.get(area)
        if desk is None:
            desk = self._desks[area] = tempfile.mkdtemp(prefix=f"{os.getpid():x}-", dir=area)
        self._staged += 1
        return f"{desk}/{self._staged:x}"

    def write_staged(self, data: bytes) -> str:
        """Write a page to staging and return its path."""
        path = self.new_staged_page()
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, self.file_mode)
        try:
            write_all(descriptor, data)
        finally:
            os.close(descriptor)
        return path

    def open_unnamed(self) -> BinaryIO:
        """A new file in staging that nobody else sees, and that is gone when it is closed, or its process is."""
        return tempfile.TemporaryFile(dir=self._unnamed_area)

    def link_staged(self, staged: str) -> str:
        """Give a staged page a second name in staging; a copy where the file system has no hard links."""
        path = self.new_staged_page()
        try:
            os.link(staged, path)
        except OSError as error:
            if error.errno not in _WITHOUT_LINKS:
                raise
            shutil.copyfile(staged, path)
        return path

    def place(self, staged: str, path: str, *, replace: bool = False) -> bool:
        """Give a staged file its final name below ``web/``; False if that name is taken, and it stays staged."""
        final = self.final(path)
        try:
            return self._rename(staged, final, replace=replace)
        except FileNotFoundError:
            make_directory(final.rpartition("/")[0])
            return self._rename(staged, final, replace=replace)

    def publish(self, staged: str, path: str) -> None:
        """Let a staged page take the place of the one below ``web/``, if there is one."""
        self.place(staged, path, replace=True)

    def discard(self, staged: str) -> None:
        """Remove something from staging, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(staged)

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

    def stage_fact(self, path: str, text: str) -> str:
        """Write a small file that belongs into the mirror's directory, on its file system; returns where it is."""
        staged = self._fresh(self._web_area) if path.startswith("web/") else f"{self._in_directory(path)}.new"
        with open(staged, "w", encoding="utf-8") as stream:
            stream.write(text)
        return staged

    def put_fact(self, staged: str, path: str) -> None:
        """Put a small file into the mirror's directory, in one step; whole after a loss of power if it was flushed."""
        final = self._in_directory(path)
        make_directory(os.path.dirname(final))
        os.replace(staged, final)

    def partial(self, digest: str) -> str:
        """Where the beginning of a file with this digest is kept between tries."""
        return os.path.join(self._partials(), digest)

    def open_partial(self, digest: str, *, create: bool = False) -> tuple[int, int]:
        """Open a partial for this process alone: (descriptor, bytes that it holds).

        The descriptor is -1 where there is none, or where another process is at it. With `create` it is made,
        and emptied.
        """
        try:
            flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
            descriptor = os.open(self.partial(digest), flags, self.file_mode)
        except FileNotFoundError:
            return -1, 0
        size = 0
        with contextlib.suppress(BlockingIOError, FileNotFoundError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever had it before may have placed it meanwhile: then it is a published file, and not ours.
            if os.path.samestat(os.fstat(descriptor), os.stat(self.partial(digest))):
                if create:
                    os.ftruncate(descriptor, 0)
                    return descriptor, 0
                size = os.fstat(descriptor).st_size
        if not size:
            os.close(descriptor)
            return -1, 0
        return descriptor, size

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
        facts = os.statvfs(self._in_web("packages"))
        return facts.f_bavail * facts.f_frsize

    def hidden(self, path: str) -> str:
        """Where a file that belongs below ``web/`` is kept out of it, on the same file system."""
        area = os.path.dirname(self._file_area)
        return os.path.join(area, "hidden" if area == self.own else f"{OWN_DIRECTORY}-hidden", path)

    def _in_directory(self, path: str) -> str:
        return os.path.join(os.path.dirname(self.web), path)

    def _partials(self) -> str:
        return os.path.join(self._file_area, _PARTIALS)

    def _rename(self, staged: str, final: str, *, replace: bool) -> bool:
        if replace:
            os.replace(staged, final)
            return True
        if self._can_rename_exclusively:
            old, new = os.fsencode(staged), os.fsencode(final)
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
            if error.errno not in _WITHOUT_LINKS:
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

    def _sweep(self) -> None:
        for area in self._areas:
            for entry in os.scandir(area):
                if entry.path == self._partials():
                    continue
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path)
                else:
                    os.unlink(entry.path)
        now = time.time()
        for entry in os.scandir(self._partials()):
            if abs(now - entry.stat(follow_symlinks=False).st_mtime) > _PARTIALS_KEPT_S:  # also of a clock ahead
                os.unlink(entry.path)
