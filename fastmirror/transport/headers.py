"""Response headers, as libcurl hands them on: raw lines."""

from __future__ import annotations

import re

from fastmirror.transport import HEADERS_READ

_STATUS = re.compile(rb"[0-9]{3}")
_PLAIN_SUCCESS: tuple[int, dict[str, str]] = (200, {})
_HEADERS_READ = {name.encode(): name for name in HEADERS_READ}


def parse_headers(lines: list[bytes]) -> tuple[int, dict[str, str]]:
    """Status and HEADERS_READ of the last response in these raw header lines."""
    status = 0
    headers: dict[str, str] = {}
    for line in lines:
        if line[:5] == b"HTTP/":
            fields = line.split(None, 2)
            status = int(fields[1]) if len(fields) > 1 and _STATUS.fullmatch(fields[1]) else 0
            headers = {}
        else:
            name, _, value = line.partition(b":")
            key = _HEADERS_READ.get(name.lower())
            if key is not None:
                headers[key] = value.strip().decode("latin-1")
    return status, headers


def read_response(lines: list[bytes], *, briefly: bool) -> tuple[int, dict[str, str]]:
    """As parse_headers; `briefly`, the headers of a plain 200 are left out, which saves reading them."""
    is_plain = briefly and lines[0].split(None, 2)[1:2] == [b"200"] and b"".join(lines).count(b"HTTP/") == 1
    return _PLAIN_SUCCESS if is_plain else parse_headers(lines)
