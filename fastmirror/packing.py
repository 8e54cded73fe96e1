"""A project's stored files as one value of the state."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import orjson

from fastmirror.errors import StorageError
from fastmirror.layout import METADATA_SUFFIX
from fastmirror.model import StoredFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_MEMORY_LEVEL = 4  # of zlib: tables of a size that most projects fill; to clear larger ones costs more than to pack


def pack_files(files: Sequence[StoredFile]) -> bytes:
    """Stored files as one value of the state."""
    compressor = zlib.compressobj(1, memLevel=_MEMORY_LEVEL)
    return compressor.compress(orjson.dumps([tuple(file) for file in files])) + compressor.flush()


def unpack_files(packed: bytes) -> list[StoredFile]:
    """The stored files in one value of the state. Raises StorageError if it cannot be read."""
    if not packed:
        return []
    try:
        return [StoredFile(*fields) for fields in orjson.loads(zlib.decompress(packed))]
    except (zlib.error, ValueError, TypeError) as error:
        raise StorageError(f"a project's files cannot be read from the state: {error}") from error


def paths_of(files: Iterable[StoredFile]) -> Iterator[str]:
    """Paths below ``web/`` of these files and of their core metadata files."""
    for file in files:
        yield file.path
        if file.metadata:
            yield file.path + METADATA_SUFFIX
