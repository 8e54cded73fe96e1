"""What a page or a root index takes in memory, estimated from its bytes, before any of it is parsed.

A page of three-byte values takes fifty times its size, one of real files six times. The weights are upper
bounds, measured with pages of one kind of thing only: of a million empty objects, of links without a name, of
one text, also where one character beyond the first plane makes every other one take four bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

# Bytes for each of these.
_JSON = {b",": 100, b":": 50, b"{": 150, b"[": 100}
_HTML = {b"<a": 800, b"<A": 800, b"&": 50}
_HTML_INDEX = {b"<a": 300, b"<A": 300, b"&": 50}
# HTML that is written has six characters for each of these, and is held three times while it is made.
_ESCAPED = (b"'", b'"', b"&", b"<", b">")
_ESCAPED_IN_JSON = (b"'", b'\\"', b"&", b"<", b">")
# Bytes for a byte of the body, and for one that is escaped: in ASCII, and where some character is not.
_ASCII = (3, 20)
_WIDE = (10, 90)


def index_weight(body: bytes, *, html: bool) -> int:
    """Bytes of memory that a root index takes at most while it is parsed."""
    weights = _HTML_INDEX if html else _JSON
    of_byte, _ = _ASCII if body.isascii() else _WIDE
    return sum(body.count(mark) * weight for mark, weight in weights.items()) + len(body) * of_byte


def page_weight(pieces: Iterable[bytes], *, html: bool) -> int:
    """Bytes of memory that a page takes at most, by its body, which comes in pieces."""
    weights, escaped = (_HTML, _ESCAPED) if html else (_JSON, _ESCAPED_IN_JSON)
    size = marks = escapes = 0
    is_ascii = True
    for piece in pieces:
        size += len(piece)
        marks += sum(piece.count(mark) * weight for mark, weight in weights.items())
        escapes += sum(map(piece.count, escaped))
        is_ascii = is_ascii and piece.isascii()
    of_byte, of_escape = _ASCII if is_ascii else _WIDE
    return marks + size * of_byte + escapes * of_escape
