"""Bytes at rest: what every storage does, whatever its final names are.

A file waits in staging, which is local. The atomic step that gives it its final name is a rename in a tree of
directories (``filetree.py``), and a PUT in an object store (``objecttree.py``). Paths are those below ``web/``.
"""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from fastmirror.descriptors import hash_descriptor, make_directory
from fastmirror.staging import Staging

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


class Digest(NamedTuple):
    """What a file at rest holds."""

    sha256: str
    size: int  # bytes


class Facts(NamedTuple):
    """What the storage says of a file without reading it."""

    size: int  # bytes
    mtime_ns: int  # when it was uploaded to the upstream, nanoseconds since the epoch; 0: not known


class Storage(Staging, ABC):
    """A mirror's tree and the staging area beside it. Every process opens its own."""

    is_remote: ClassVar[bool] = False  # its methods wait for another machine: not in a loop, and several at once

    @property
    @abstractmethod
    def whereabouts(self) -> str | None:
        """Where the tree is, for the state to remember; None: in the mirror's directory."""

    @abstractmethod
    def prepare(self) -> None:
        """Make it fit for a run, once, under the lock; staging is swept, and partials kept some days.

        Raises SettingsError where the settings cannot hold here, and StorageError where it cannot be reached.
        """

    def guard(self, check: Callable[[], None]) -> None:
        """Have it asked before anything that shows, where others can take the mirror over; it raises StorageError."""

    def prepare_flush(self) -> None:
        """Make ready for `flush`, which `prepare` does too; for a process on another host, that flushes for itself."""

    @abstractmethod
    def close(self) -> None:
        """Let go of what it has open."""

    @abstractmethod
    def final(self, path: str) -> str:
        """Where a name lies, whatever has it. Raises NotADirectoryError where nothing can be put."""

    @abstractmethod
    def shown_as(self, path: str) -> str:
        """A path as it is told to those who carry the mirror on."""

    @abstractmethod
    def read(self, path: str, most: int | None = None) -> bytes | None:
        """The bytes under a name, or so many of them from the first; None if there are none."""

    @abstractmethod
    def size(self, path: str) -> int | None:
        """Size in bytes of a file; None if there is no such file."""

    @abstractmethod
    def facts(self, path: str) -> Facts | None:
        """What the storage says of a file; None if there is none."""

    def digest(self, path: str) -> Digest | None:
        """Digest of what lies there, by reading it; None if there is no such file."""
        try:
            descriptor = self.open_file(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            digest = hashlib.sha256()
            size = hash_descriptor(descriptor, [digest])
            return Digest(digest.hexdigest(), size)
        finally:
            os.close(descriptor)

    @abstractmethod
    def open_file(self, path: str) -> int:
        """A descriptor of a file's bytes, to be read and closed. Raises FileNotFoundError."""

    @abstractmethod
    def stamp(self, path: str, mtime_ns: int) -> None:
        """Note when a file was uploaded to the upstream, nanoseconds since the epoch."""

    @abstractmethod
    def mark(self, body: bytes) -> bytes:
        """What stands for a page's bytes where pages are compared: themselves, or a digest."""

    @abstractmethod
    def mark_at(self, path: str) -> bytes | None:
        """The mark of a page at rest; None if there is none. Raises OSError where it cannot be read."""

    @abstractmethod
    def stands(self, path: str, body: bytes) -> bool:
        """Whether this is what lies there, and needs no replacing."""

    @abstractmethod
    def names(self, directory: str) -> list[str]:
        """The names in a directory, in no order; none where there is no directory."""

    @abstractmethod
    def directories(self, directory: str) -> Iterator[str]:
        """The names of the directories in a directory, in no order. Raises FileNotFoundError, or yields none."""

    @abstractmethod
    def walk(self, part: str, links: list[tuple[str, int]]) -> Iterator[tuple[str, int]]:
        """Paths and sizes in bytes of the files of one part of the tree, in their order; `links` takes what is none.

        What cannot be read is logged, and left out.
        """

    @abstractmethod
    def is_empty(self) -> bool:
        """Whether there is neither a page nor a file."""

    @abstractmethod
    def free_bytes(self) -> int:
        """Bytes that may still be written."""

    @abstractmethod
    def place(self, staged: str, path: str, *, replace: bool = False, sha256: str = "") -> bool:
        """Give a staged file its final name; False if that name is taken, and it stays staged.

        The sha256 of its bytes spares a storage that needs it from hashing them.
        """

    def publish(self, staged: str, path: str) -> None:
        """Let a staged page take the place of the one that has its name, if there is one."""
        self.place(staged, path, replace=True)

    @abstractmethod
    def remove(self, path: str) -> bool:
        """Remove a file or page; False if there was none."""

    def remove_all(self, paths: Iterable[str]) -> list[str]:
        """Remove files and pages; returns those that were there."""
        return [path for path in paths if self.remove(path)]

    @abstractmethod
    def take_out(self, path: str, kept: str) -> bool:
        """Move a file to a local path out of the tree; False if there is none."""

    @abstractmethod
    def flush(self) -> None:
        """Make all that was placed and removed before durable. Raises StorageError if it could not be."""

    def put_fact(self, staged: str, path: str) -> None:
        """Put a small file into the mirror's directory, in one step; whole after a loss of power if it was flushed."""
        final = self._in_directory(path)
        make_directory(os.path.dirname(final))
        os.replace(staged, final)
