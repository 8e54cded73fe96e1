"""Where a redirect of a file may lead, where `file-hosts` says which hosts files come from."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Collection

# Only what no two readers of addresses can take for different hosts.
_ABSOLUTE = re.compile(r"https?://([a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?/", re.IGNORECASE | re.ASCII)
_WITHIN_HOST = re.compile(r"/(?![/\\])|\.\.?/|[?#]")


def redirect_refusal(url: str, location: str, hosts: Collection[str]) -> str:
    """Why the redirect of a file at this URL is not followed; "" if it is.

    It may lead to another place on its host, or to one of these. Empty `hosts` are any.
    """
    if not hosts or _WITHIN_HOST.match(location):
        return ""
    absolute = _ABSOLUTE.match(location)
    host = absolute[1].lower().strip("[]") if absolute else ""
    if host and (host in hosts or host == urlsplit(url).hostname):
        return ""
    return f"redirected to a host that is not among file-hosts: {host or location[:120]}"
