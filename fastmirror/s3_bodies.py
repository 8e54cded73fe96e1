"""Bodies on their way to and from an object store: what fails of a local file is told by it, not to libcurl."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import pycurl

if TYPE_CHECKING:
    import hashlib

_PIECE = 1 << 20  # bytes that are read from a file at once


class Section(NamedTuple):
    """A part of a file, to be sent as a body."""

    path: str
    start: int
    size: int  # bytes

    def hashed_with(self, *sums: hashlib._Hash) -> bytes:
        """Add its bytes to each of these sums; returns the first one's digest."""
        left = self.size
        with open(self.path, "rb") as file:
            file.seek(self.start)
            while left and (piece := file.read(min(_PIECE, left))):
                for each in sums:
                    each.update(piece)
                left -= len(piece)
        return sums[0].digest()


class Received:
    """Takes a body: that of a good answer into a file, if one is given, from its beginning; any other as chunks."""

    def __init__(self, into: BinaryIO | None, lines: list[bytes]) -> None:
        """`lines` are those of the answer's headers, as far as they have come."""
        self.chunks: list[bytes] = []
        self.failure: OSError | None = None  # of the file
        self._into = into
        self._lines = lines
        if into is not None:
            into.seek(0)
            into.truncate()

    def write(self, chunk: bytes) -> int:
        """How many bytes were taken; libcurl gives up where that is not all."""
        if self._into is None or not self._is_good():
            self.chunks.append(chunk)
            return len(chunk)
        try:
            return self._into.write(chunk)
        except OSError as error:  # libcurl would print its traceback, and say no more than that it failed
            self.failure = error
            return 0

    def _is_good(self) -> bool:
        status = next(line for line in reversed(self._lines) if line[:5] == b"HTTP/").split(None, 2)[1]
        return status[:1] == b"2"


class Sent:
    """Gives a section of a file. Raises OSError if it cannot be opened."""

    def __init__(self, section: Section) -> None:
        self.failure: OSError | None = None  # of the file
        self._file = open(section.path, "rb", buffering=0)  # noqa: SIM115
        self._section = section
        self._position = 0  # within the section

    def give_to(self, handle: pycurl.Curl) -> None:
        """Make it the body of this request."""
        handle.setopt(pycurl.UPLOAD, 1)
        handle.setopt(pycurl.INFILESIZE_LARGE, self._section.size)
        handle.setopt(pycurl.UPLOAD_BUFFERSIZE, _PIECE)
        handle.setopt(pycurl.READFUNCTION, self._read)
        handle.setopt(pycurl.SEEKFUNCTION, self._seek)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _read(self, size: int) -> bytes | int:
        start, left = self._section.start + self._position, self._section.size - self._position
        try:
            data = os.pread(self._file.fileno(), min(size, left), start)
        except OSError as error:  # as in Received
            self.failure = error
            return pycurl.READFUNC_ABORT
        self._position += len(data)
        return data

    def _seek(self, offset: int, _origin: int) -> int:
        self._position = offset
        return pycurl.SEEKFUNC_OK
