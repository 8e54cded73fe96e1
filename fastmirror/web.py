"""What lies below ``web/``, as it is found there: read, measured, hashed.

A section of the tree (``web/simple``, ``web/packages``) may be a link to another disk. Below it no link is followed:
what is behind one is not there, so that nothing outside the mirror is taken for a part of it, or changed.
"""

from __future__ import annotations

import errno
import logging
import os
import re
from typing import TYPE_CHECKING

from fastmirror.descriptors import names_in
from fastmirror.storage import Facts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_LOG = logging.getLogger(__name__)
_LINK = "a link, which is not followed (hint: verify --delete removes it)"
_SHARED_DEPTH = 2  # packages/aa/bb; what is below is one file's
_BESIDE = re.compile(r"(?:versions/)?[^./][^/]*")


class Web:
    """A mirror's tree."""

    def __init__(self, web: str) -> None:
        self.web = web
        self._true_directories: set[str] = set()  # of packages/, that many files share: each is looked at once

    def contained(self, path: str) -> str:
        """Where something below ``web/`` lies. Raises NotADirectoryError if a link is on the way, or is it."""
        full = self.final(path)
        if "/" in path and os.path.islink(full):
            raise _not_followed(full)
        return full

    def final(self, path: str) -> str:
        """Where a name below ``web/`` lies, whatever has it. Raises NotADirectoryError if a link is on the way."""
        directory = path.rpartition("/")[0]
        if directory not in self._true_directories:
            self._require_directory(directory)
        return f"{self.web}/{path}"

    def shown_as(self, path: str) -> str:
        """The absolute path of something below ``web/``."""
        return self._in_web(path)

    def read(self, path: str, most: int | None = None) -> bytes | None:
        """The bytes below ``web/``, or so many of them from the first; None if there are none."""
        try:
            with open(self._shown(path), "rb") as stream:
                return stream.read(most)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def size(self, path: str) -> int | None:
        """Size in bytes of a file below ``web/``; None if there is no such file."""
        try:
            return os.lstat(self._shown(path)).st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def facts(self, path: str) -> Facts | None:
        """What the system says of a file below ``web/``; None if there is none, or a link in its place."""
        try:
            status = os.lstat(self.contained(path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return Facts(status.st_size, status.st_mtime_ns)

    def open_file(self, path: str) -> int:
        """A descriptor of a file below ``web/``. Raises FileNotFoundError, or NotADirectoryError for a link."""
        return os.open(self.contained(path), os.O_RDONLY | os.O_CLOEXEC)

    def stamp(self, path: str, mtime_ns: int) -> None:
        """Give a file below ``web/`` this modification time, in nanoseconds since the epoch."""
        os.utime(self._in_web(path), ns=(mtime_ns, mtime_ns))

    def mark(self, body: bytes) -> bytes:
        """A page's bytes stand for themselves."""
        return body

    def mark_at(self, path: str) -> bytes | None:
        """The bytes of the page below ``web/``; None if there are none."""
        return self.read(path)

    def stands(self, path: str, body: bytes) -> bool:
        """Whether this is what the file below ``web/`` holds; not what a link there leads to."""
        try:
            return self.read(path) == body and not os.path.islink(self._in_web(path))
        except OSError:  # it cannot be read, but perhaps be replaced
            return False

    def names(self, directory: str) -> list[str]:
        """The names in a directory below ``web/``; none where there is no directory."""
        return names_in(self._in_web(directory))

    def directories(self, directory: str) -> Iterator[str]:
        """The names of the directories in a directory below ``web/``. Raises FileNotFoundError."""
        with os.scandir(self._in_web(directory)) as entries:
            yield from (entry.name for entry in entries if entry.is_dir())

    def walk(self, part: str, links: list[tuple[str, int]]) -> Iterator[tuple[str, int]]:
        """Files of one part of the tree, with their sizes, in their order; `links` takes links to elsewhere."""
        return self._walk(part, self._entries(part), links)

    def _walk(
        self, path: str, entries: Iterable[os.DirEntry[str]], links: list[tuple[str, int]]
    ) -> Iterator[tuple[str, int]]:
        for entry in entries:
            below = f"{path}/{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                yield from self._walk(below, self._entries(below), links)
            elif entry.is_file(follow_symlinks=False):
                yield below, entry.stat(follow_symlinks=False).st_size
            elif entry.is_symlink() and not target_beside(entry.path):
                links.append((below, entry.stat(follow_symlinks=False).st_size))

    def _entries(self, directory: str) -> list[os.DirEntry[str]]:
        full = self._in_web(directory)
        try:
            with os.scandir(full) as entries:
                return sorted(entries, key=lambda entry: entry.name)
        except FileNotFoundError:
            return []
        except OSError as error:
            _LOG.warning("%s cannot be read, and is left alone: %s", full, error)
            return []

    def _shown(self, path: str) -> str:
        """Where a page below ``web/`` lies that may be a link to one of its states."""
        full = self.final(path)
        if "/" not in path or not os.path.islink(full):
            return full
        if target := target_beside(full):
            return self.contained(f"{path.rpartition('/')[0]}/{target}")
        raise _not_followed(full)

    def _require_directory(self, path: str) -> None:
        """Raise NotADirectoryError if a link stands for this directory or one above; a section may be one."""
        parent = path.rpartition("/")[0]
        if not parent or path in self._true_directories:
            return
        self._require_directory(parent)
        if os.path.islink(full := self._in_web(path)):
            raise _not_followed(full)
        if path.startswith("packages/") and path.count("/") <= _SHARED_DEPTH:
            self._true_directories.add(path)

    def _in_web(self, path: str) -> str:
        return f"{self.web}/{path}"


def _not_followed(link: str) -> NotADirectoryError:
    return NotADirectoryError(errno.ENOTDIR, _LINK, link)


def target_beside(link: str) -> str:
    """What a link leads to, from its directory, if that is a name beside it or in ``versions`` there; else "".

    keep_index_versions makes such links, absolute ones where it is bandersnatch's.
    """
    directory = os.path.dirname(link)
    target = os.path.relpath(os.path.join(directory, os.readlink(link)), directory)
    return target if _BESIDE.fullmatch(target) else ""
