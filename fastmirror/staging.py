"""The local side of every storage: where bytes wait under names of nobody else's until they are checked.

Partials outlive their run; all else is swept when the next one begins, under the lock.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
import time
from itertools import count
from typing import BinaryIO

from fastmirror.descriptors import free_bytes, write_all

OWN_DIRECTORY = ".fastmirror"
WITHOUT_LINKS = frozenset({errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM, errno.EMLINK})
_PARTIALS = "partial"
_PARTIALS_KEPT_S = 5 * 24 * 3600.0


class Staging:
    """A staging area within the mirror's directory, or where the operator says. Every process opens its own."""

    def __init__(self, directory: str, staging: str | None, *, sets_modes: bool = True) -> None:
        self.own = os.path.join(directory, OWN_DIRECTORY)
        # What is ours alone, and may be swept: never the very directory that the operator names.
        self._areas = [os.path.join(self.own, "staging")]
        if staging:
            self._areas.insert(0, os.path.join(staging, f"{OWN_DIRECTORY}-staging"))
        self._web_area = self._page_area = self._file_area = self._areas[0]
        self._sets_modes = sets_modes  # else they are left to the umask and to default ACLs
        self.file_mode = 0o644 if sets_modes else 0o666
        self._desks: dict[str, str] = {}
        self._numbers = count(1)
        self._unnamed_area: str | None = None  # the system's own, where nothing is to be written here

    def open_desk(self) -> None:
        """Write as this process from now, in its own corners of staging; with modes 0644 and 0755, if it sets them."""
        if self._sets_modes:
            os.umask(0o022)
        self._desks = {}
        self._numbers = count(1)
        self._web_area = self._area_for("")
        self._page_area = self._area_for("simple")
        self._file_area = self._area_for("packages")
        self._unnamed_area = self._page_area

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
        return f"{desk}/{next(self._numbers):x}"

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
            if error.errno not in WITHOUT_LINKS:
                raise
            shutil.copyfile(staged, path)
        return path

    def discard(self, staged: str) -> None:
        """Remove something from staging, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(staged)

    def stage_fact(self, path: str, text: str) -> str:
        """Write a small file that belongs into the mirror's directory, on its file system; returns where it is."""
        staged = self._fresh(self._web_area) if path.startswith("web/") else f"{self._in_directory(path)}.new"
        with open(staged, "w", encoding="utf-8") as stream:
            stream.write(text)
        return staged

    def partial(self, digest: str) -> str:
        """Where the beginning of a file with this digest is kept between tries."""
        return os.path.join(self._partials(), digest)

    def claim(self, staged: str) -> str:
        """Take something out of reach of other transfers, which may go on with a partial; returns where it is now."""
        if os.path.dirname(staged) != self._partials():
            return staged
        path = self.new_staged()
        os.rename(staged, path)
        return path

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

    def hidden(self, path: str) -> str:
        """Where a file that belongs below ``web/`` is kept out of it, on the same file system."""
        area = os.path.dirname(self._file_area)
        return os.path.join(area, "hidden" if area == self.own else f"{OWN_DIRECTORY}-hidden", path)

    def _in_directory(self, path: str) -> str:
        return os.path.join(os.path.dirname(self.own), path)

    def _partials(self) -> str:
        return os.path.join(self._file_area, _PARTIALS)

    def _area_for(self, part: str) -> str:  # noqa: ARG002 - a tree may lie on several file systems
        """The staging for this part of the tree, "" for its top."""
        return self._areas[0]

    def _sweep(self) -> None:
        for area in self._areas:
            for entry in os.scandir(area):
                if entry.path == self._partials():
                    continue
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)  # of a run that was killed, a host may still be at it
                else:
                    os.unlink(entry.path)
        now = time.time()
        for entry in os.scandir(self._partials()):
            if abs(now - entry.stat(follow_symlinks=False).st_mtime) > _PARTIALS_KEPT_S:  # also of a clock ahead
                os.unlink(entry.path)

    def make_room(self, least: int) -> None:
        """Drop partials, the oldest first, until so many bytes are free where they lie."""
        oldest_first = sorted(
            os.scandir(self._partials()), key=lambda entry: entry.stat(follow_symlinks=False).st_mtime
        )
        for entry in oldest_first:
            if free_bytes(self._partials()) >= least:
                break
            os.unlink(entry.path)
