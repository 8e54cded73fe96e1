"""The configuration that makes nginx serve a mirror's tree."""

from __future__ import annotations

import re
import shlex
from ipaddress import IPv6Address
from typing import TYPE_CHECKING

from fastmirror.errors import SettingsError
from fastmirror.feed import STEP_PATHS
from fastmirror.lastserial import ROOT as SERIAL_ROOT
from fastmirror.layout import BUCKET_NAMES, BUCKET_SHARE, Layout
from fastmirror.nginx_text import (
    DOCUMENT,
    DOCUMENT_WITH_SERIAL,
    FLAT_LOCATIONS,
    HASHED_LOCATIONS,
    NGINX,
    SERIAL_MAP,
)

if TYPE_CHECKING:
    from fastmirror.layout import Tree

# What a URL may hold, in words that Python's and nginx's regular expressions share.
PROJECT = "(?P<project>[a-z0-9]+(?:-[a-z0-9]+)*)"
PYPI_PATH = "packages/(?P<aa>[0-9a-f]{2})/(?P<b>[0-9a-f])[0-9a-f]/[0-9a-f]{60}/(?P<filename>[^/]+)"

PAGE_CACHE = "public, max-age=600"
FILE_CACHE = "public, max-age=31536000, immutable"
HEAD_CACHE = "public, max-age=60"


# The parts of an Accept header, as regular expressions.
_ACCEPT = {
    "json_type": r"(?:^|,)\s*application/vnd\.pypi\.simple\.(?:v1|latest)\+json\s*",
    "v1_html_type": r"(?:^|,)\s*application/vnd\.pypi\.simple\.(?:v1|latest)\+html\s*",
    "html_type": r"(?:^|,)\s*text/html\s*",
    "full_weight": r"(?:;\s*q\s*=\s*1(?:\.0*)?\s*)?(?:,|\z)",
    "some_weight": r";\s*q\s*=\s*0\.0*[1-9]",
}


def _buckets() -> str:
    """The block that computes a project's bucket, as layout.bucket does."""
    shares = [f"{BUCKET_SHARE} {name};" for name in BUCKET_NAMES[:-1]] + [f"* {BUCKET_NAMES[-1]};"]
    lines = [" ".join(shares[i : i + 8]) for i in range(0, len(shares), 8)]
    return "\n".join(
        [
            "",
            "    # Pages lie in 256 directories, by a hash of the project's name. The mirror computes the same one:",
            "    # any change here hides pages.",
            '    split_clients "$project" $bucket {',
            *(f"        {line}" for line in lines),
            "    }",
            "",
        ]
    )


def nginx_configuration(
    directory: str,
    tree: Tree,
    *,
    listen: str = "127.0.0.1:8080",
    root_uri: str | None = None,
    for_bandersnatch: bool = False,
) -> str:
    """A whole nginx configuration that serves the mirror in ``directory`` (absolute).

    ``listen`` is HOST:PORT, [IPv6]:PORT or PORT. With ``root_uri`` pages name files below that URI, which is
    only remarked. ``for_bandersnatch`` adds a serial to each document.
    Raises SettingsError for a directory that nginx cannot be told and for another ``listen``.
    """
    quoted = _quoted_directory(directory)
    hashed = tree.layout is Layout.HASHED
    holes = {
        **_ACCEPT,
        "directory": directory,
        "directory_text": quoted,
        "home": f"{quoted}/.fastmirror/nginx",
        "shell_home": shlex.quote(f"{directory.rstrip('/')}/.fastmirror/nginx"),
        "tree": f"{tree.layout}{' (hash-index)' if tree.hash_index else ''}",
        "root_uri": "",
        "listen": _checked_listen(listen),
        "page_cache": PAGE_CACHE,
        "file_cache": FILE_CACHE,
        "head_cache": HEAD_CACHE,
        "step": STEP_PATHS,
        "project": PROJECT,
        "pypi_path": PYPI_PATH,
        "json_file": "/json/$bucket/$project" if hashed else "/json/$project",
        "initial": "(?=(?P<initial>.))" if tree.hash_index else "",
        "page_directory": "$initial/$project" if tree.hash_index else "$project",
        "buckets": _buckets() if hashed else "",
        "serial_root": SERIAL_ROOT,
        "serial_map": SERIAL_MAP if for_bandersnatch else "",
    }
    holes["document"] = (DOCUMENT_WITH_SERIAL if for_bandersnatch else DOCUMENT).substitute(holes)
    if root_uri:
        holes["root_uri"] = (
            f"#\n# Pages name files below {root_uri!r}, at PyPI's own paths; so has this server those it has.\n"
        )
    locations = HASHED_LOCATIONS if hashed else FLAT_LOCATIONS
    return NGINX.substitute(holes, layout_locations=locations.substitute(holes))


_UNQUOTABLE = re.compile(r"[\x00-\x1f\x7f$\ud800-\udfff]")


def _quoted_directory(directory: str) -> str:
    """The directory as it stands between double quotes in nginx's configuration."""
    if not directory.startswith("/"):
        raise SettingsError(f"invalid directory (not absolute): {directory!r} (hint: give the path from the root)")
    if _UNQUOTABLE.search(directory):
        raise SettingsError(
            f"invalid directory (nginx cannot be told of $, control characters or broken text): {directory!r}"
            " (hint: give nginx another path to it, by a link or a bind mount)"
        )
    return directory.rstrip("/").replace("\\", "\\\\").replace('"', '\\"')


def _checked_listen(listen: str) -> str:
    """The address as nginx takes it."""
    host, colon, port = listen.rpartition(":")
    valid = re.fullmatch(r"[0-9]{1,5}", port, re.ASCII) is not None and 0 < int(port) < 65536
    if valid and host.startswith("[") and host.endswith("]"):
        try:
            IPv6Address(host[1:-1])
        except ValueError:
            valid = False
    elif valid and colon:
        valid = re.fullmatch(r"\*|[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?", host, re.ASCII) is not None
    if not valid:
        raise SettingsError(
            f"invalid listen address: {listen!r} (hint: HOST:PORT, [IPV6]:PORT or PORT, as in 127.0.0.1:8080)"
        )
    return listen
