"""A page's body on its way in: in memory while it is small, else in a file without a name.

So what a worker holds of the bodies in flight is bounded, whatever their number and size; a large one is read
into memory when it is its turn, and only if it is no more than may be worked on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

import xxhash

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_IN_MEMORY_BYTES = 1 << 20
_PIECE_BYTES = 1 << 20


class Body:
    """A whole body, wherever it is."""

    def __init__(self, held: bytes = b"", spooled: BinaryIO | None = None) -> None:
        self._held = held
        self._spooled = spooled
        self.size = len(held)  # bytes

    def __del__(self) -> None:
        """With the last that knows of it, its file goes too."""
        if self._spooled is not None:
            self._spooled.close()

    def extend(self, chunks: list[bytes]) -> None:
        """Add to a large one. Raises OSError."""
        if self._spooled is not None:
            self._spooled.writelines(chunks)
            self._spooled.flush()
            self.size += sum(map(len, chunks))

    def read(self) -> bytes:
        """All of it; of a large one a copy, for the caller to let go of."""
        if self._spooled is None:
            return self._held
        self._spooled.seek(0)
        return self._spooled.read()

    def pieces(self) -> Iterator[bytes]:
        """All of it, in pieces of bounded size."""
        if self._spooled is None:
            yield self._held
            return
        self._spooled.seek(0)
        while piece := self._spooled.read(_PIECE_BYTES):
            yield piece

    def digest(self) -> str:
        """A digest of its bytes, to know it by."""
        digest = xxhash.xxh3_128()
        for piece in self.pieces():
            digest.update(piece)
        return digest.hexdigest()


class Gathering:
    """The sink of one try. A disk that refuses is told by `body`, not to libcurl."""

    def __init__(self, open_file: Callable[[], BinaryIO]) -> None:
        self._open_file = open_file
        self._chunks: list[bytes] = []
        self._gathered = 0  # bytes of these
        self._large: Body | None = None
        self._error: OSError | None = None

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self._gathered + (self._large.size if self._large is not None else 0)

    def begin(self, status: int, headers: Mapping[str, str]) -> str | None:
        """Any body will do."""

    def feed(self, chunk: bytes) -> bool:
        """Take it."""
        self._chunks.append(chunk)
        self._gathered += len(chunk)
        if self._gathered > _IN_MEMORY_BYTES:
            self._spool()
        return True

    def body(self) -> Body:
        """What came, once it is whole. Raises OSError if it could not be kept."""
        if self._large is not None:
            self._spool()
        if self._error is not None:
            raise self._error
        if self._large is not None:
            return self._large
        return Body(self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks))

    def _spool(self) -> None:
        chunks, self._chunks, self._gathered = self._chunks, [], 0
        if self._error is not None:
            return
        try:
            if self._large is None:
                self._large = Body(spooled=self._open_file())
            self._large.extend(chunks)
        except OSError as error:
            self._error = error
