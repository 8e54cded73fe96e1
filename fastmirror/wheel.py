"""A wheel's core metadata, read out of the wheel itself.

The file that an index offers beside a wheel (PEP 658) is ``*.dist-info/METADATA`` from within it, byte for
byte. Where the wheel's own has the sha256 that upstream states, nothing needs to be asked for: one request
in three is saved. The digest decides, so nothing here has to be believed.
"""

from __future__ import annotations

import os
import re
import struct
import zlib

_TAIL_BYTES = 64 << 10
_DIRECTORY_MOST = 8 << 20  # bytes of a central directory: some 80,000 entries
_END = struct.Struct("<4s4H2LH")  # end of central directory record (PKWARE's APPNOTE, 4.3.16)
_LOCAL = struct.Struct("<26x2H")  # what follows a local file header: lengths of its name and its extra field
_EXTRA_MOST = 256  # bytes of a local header's extra field; longer ones are not met with
_STORED, _DEFLATED = 0, 8
# A central directory header (4.3.12) of a METADATA at the top, with its name; and its fields that are read:
# method, packed and unpacked size, length of the name, offset of the local header.
_ENTRY = re.compile(rb"PK\x01\x02.{42}([^/\x00]{1,250}\.dist-info/METADATA)", re.DOTALL)
_FIELDS = struct.Struct("<10xH8x2LH12xL")


def core_metadata(descriptor: int, size: int, limit: int) -> bytes | None:
    """The METADATA of an open wheel of so many bytes, of at most `limit` bytes; None where it cannot be told."""
    try:
        start = max(0, size - _TAIL_BYTES)
        tail = os.pread(descriptor, size - start, start)
        at = tail.rfind(b"PK\x05\x06")
        if at < 0:
            return None
        _, _, _, _, _, length, offset, _ = _END.unpack_from(tail, at)
        if length > _DIRECTORY_MOST or offset + length > size:
            return None
        directory = tail[offset - start :][:length] if offset >= start else os.pread(descriptor, length, offset)
        return _content(descriptor, directory, limit)
    except (OSError, struct.error, zlib.error):
        return None


def _content(descriptor: int, directory: bytes, limit: int) -> bytes | None:
    entry = _ENTRY.search(directory)
    if entry is None:
        return None
    method, packed, unpacked, name_length, offset = _FIELDS.unpack_from(directory, entry.start())
    if name_length != len(entry[1]) or packed > limit or unpacked > limit:
        return None
    span = os.pread(descriptor, _LOCAL.size + name_length + packed + _EXTRA_MOST, offset)
    begin = _LOCAL.size + sum(_LOCAL.unpack_from(span))
    data = span[begin : begin + packed]
    if len(data) != packed:
        return None
    if method == _STORED:
        return data
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, limit) if method == _DEFLATED else None
