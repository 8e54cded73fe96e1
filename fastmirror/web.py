"""What lies below ``web/``, as it is found there: read, measured, hashed.

A section of the tree (``web/simple``, ``web/packages``) may be a link to another disk. Below it no link is followed:
what is behind one is not there, so that nothing outside the mirror is taken for a part of it, or changed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from typing import NamedTuple

from fastmirror.descriptors import hash_descriptor

_LINK = "a link, which is not followed (hint: verify --delete removes it)"
_SHARED_DEPTH = 2  # packages/aa/bb; what is below is one file's
_BESIDE = re.compile(r"(?:versions/)?[^./][^/]*")


class Digest(NamedTuple):
    """What a file at rest holds."""

    sha256: str
    size: int  # bytes


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
        self._require_directory(path.rpartition("/")[0])
        return self._in_web(path)

    def read(self, path: str) -> bytes | None:
        """The bytes below ``web/``; None if there are none."""
        try:
            with open(self._shown(path), "rb") as stream:
                return stream.read()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def size(self, path: str) -> int | None:
        """Size in bytes of a file below ``web/``; None if there is no such file."""
        try:
            return os.lstat(self._shown(path)).st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def facts(self, path: str) -> os.stat_result | None:
        """What the system says of a file below ``web/``; None if there is none, or a link in its place."""
        try:
            return os.lstat(self.contained(path))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def digest(self, path: str) -> Digest | None:
        """Hash a file below ``web/``; None if there is none, or a link in its place."""
        try:
            descriptor = os.open(self.contained(path), os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            digest = hashlib.sha256()
            size = hash_descriptor(descriptor, [digest])
            return Digest(digest.hexdigest(), size)
        finally:
            os.close(descriptor)

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
