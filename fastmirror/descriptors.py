"""Plain work on descriptors and directories, below everything that knows what a mirror is."""

from __future__ import annotations

import hashlib
import os
import threading
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

_CHUNKS_AT_ONCE = 1024  # IOV_MAX of Linux
_READ_BYTES = 1 << 17  # what is read stays in the processor's cache until it is hashed


class Hash(Protocol):
    """A digest in the making."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Take more bytes."""


def make_directory(path: str) -> None:
    """As os.makedirs, which looks for each parent first; here most parents are there, and most leaves are not."""
    try:
        os.mkdir(path)
    except FileExistsError:
        return  # another process was first
    except FileNotFoundError:
        make_directory(path.rpartition("/")[0] or "/")
        make_directory(path)


def free_bytes(path: str) -> int:
    """Bytes that may still be written on the file system of this path."""
    facts = os.statvfs(path)
    return facts.f_bavail * facts.f_frsize


def names_in(path: str) -> list[str]:
    """The names in a directory; none where there is no directory."""
    try:
        with os.scandir(path) as entries:
            return [entry.name for entry in entries]
    except (FileNotFoundError, NotADirectoryError):
        return []


def stamp_ns(mtime: float) -> int:
    """A time in seconds since the epoch as a file is given it: nanoseconds, of whole microseconds."""
    return round(mtime * 1e6) * 1000


def write_all(descriptor: int, data: bytes) -> None:
    """Write every byte; the kernel may take fewer at a time than it is given."""
    written = os.write(descriptor, data)
    while written < len(data):
        written += os.write(descriptor, data[written:])


def write_chunks(descriptor: int, chunks: Sequence[bytes]) -> None:
    """As write_all, one after the other; in one call and without a copy where there are not too many for that."""
    if len(chunks) > _CHUNKS_AT_ONCE:
        write_all(descriptor, b"".join(chunks))
        return
    written = os.writev(descriptor, chunks)
    if written < sum(map(len, chunks)):
        write_all(descriptor, b"".join(chunks)[written:])


class _Own(threading.local):
    """Each thread's buffer: to make one for a small file would cost as much as to hash it."""

    def __init__(self) -> None:
        self.buffer = bytearray(_READ_BYTES)


_own = _Own()


def hash_descriptor(descriptor: int, digests: Sequence[Hash]) -> int:
    """Feed an open file, from where it stands to its end, to these digests; return its bytes."""
    size = 0
    buffer = _own.buffer
    view = memoryview(buffer)
    while count := os.readv(descriptor, [buffer]):
        for digest in digests:
            digest.update(view[:count])
        size += count
    return size


def sha256_of(path: str) -> str:
    """The sha256 of a file's bytes, in hex digits."""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as stream:
        hash_descriptor(stream.fileno(), [digest])
    return digest.hexdigest()
