"""A project's stored files as one value of the state."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import orjson

from fastmirror.errors import StorageError
from fastmirror.layout import METADATA_SUFFIX
from fastmirror.model import Need, Needs, StoredFile
from fastmirror.names import NormalizedName

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_MEMORY_LEVEL = 4  # of zlib: tables of a size that most projects fill; to clear larger ones costs more than to pack


def pack_files(files: Sequence[StoredFile]) -> bytes:
    """Stored files as one value of the state; empty where there are none, as in a mirror of pages alone."""
    if not files:
        return b""
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


def pack_needs(needs: Needs) -> bytes:
    """What a project's files require as one value of the state."""
    return zlib.compress(orjson.dumps([[tuple(need) for need in needs.requires], needs.troubles]), 1)


def unpack_needs(packed: bytes) -> Needs:
    """The requirements in one value of the state. Raises StorageError if it cannot be read."""
    try:
        requires, troubles = orjson.loads(zlib.decompress(packed))
        return Needs(
            tuple(
                Need(extra, NormalizedName(name), tuple(extras), specifier, tuple(targets))
                for extra, name, extras, specifier, targets in requires
            ),
            tuple(troubles),
        )
    except (zlib.error, ValueError, TypeError) as error:
        raise StorageError(f"what a project requires cannot be read from the state: {error}") from error


def paths_of(files: Iterable[StoredFile]) -> Iterator[str]:
    """Paths below ``web/`` of these files and of their core metadata files."""
    for file in files:
        yield file.path
        if file.metadata:
            yield file.path + METADATA_SUFFIX
