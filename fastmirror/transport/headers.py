"""Response headers, as libcurl hands them on: raw lines."""

from __future__ import annotations

import re

from fastmirror.transport import HEADERS_READ

_PLAIN_SUCCESS: tuple[int, dict[str, str]] = (200, {})
_STATUS = re.compile(rb"HTTP/\S*[ \t]+([0-9]{3})(?!\S)")
_HEADER_READ = re.compile(
    b"^(%s):([^\r\n]*)" % b"|".join(sorted(name.encode() for name in HEADERS_READ)), re.IGNORECASE | re.MULTILINE
)


def parse_headers(lines: list[bytes]) -> tuple[int, dict[str, str]]:
    """Status and HEADERS_READ of the last response in these raw header lines."""
    every = b"".join(lines)
    last = every[every.rfind(b"\nHTTP/") + 1 :]
    status = _STATUS.match(last)
    headers = {name.lower().decode(): value.strip().decode("latin-1") for name, value in _HEADER_READ.findall(last)}
    return int(status[1]) if status else 0, headers


def read_response(lines: list[bytes], *, briefly: bool) -> tuple[int, dict[str, str]]:
    """As parse_headers; `briefly`, the headers of a plain 200 are left out, which saves reading them."""
    is_plain = briefly and lines[0].split(None, 2)[1:2] == [b"200"] and b"".join(lines).count(b"HTTP/") == 1
    return _PLAIN_SUCCESS if is_plain else parse_headers(lines)
