"""From values to paths below ``web/``: where a page, an index and a file lie. Every path is contained.

``flat`` is bandersnatch's tree, file for file. ``hashed`` has no directory per project and none per file:
pages lie in 256 buckets, which stock nginx computes with ``split_clients``; files in 4,096 directories.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    from fastmirror.names import NormalizedName


class Layout(StrEnum):
    """How the tree is laid out on disk."""

    FLAT = "flat"
    HASHED = "hashed"


class PageFormat(StrEnum):
    """One serialisation of a page: the ending of its file."""

    HTML = "html"
    V1_HTML = "v1_html"
    JSON = "v1_json"


class Tree(NamedTuple):
    """The shape of one mirror's tree."""

    layout: Layout
    hash_index: bool  # flat only: simple/<first character>/<project>/


class FilePaths(NamedTuple):
    """Where a file belongs, and where it goes if another file has that name already."""

    path: str
    long_path: str


_MASK = 0xFFFFFFFF
_MULTIPLIER = 0x5BD1E995

# nginx's split_clients with 255 parts of 0.39 % and a rest: the upper bound of each part's hashes.
BUCKET_SHARE = "0.39%"
BUCKET_NAMES = tuple(f"{i:02x}" for i in range(256))
_THRESHOLDS = [_MASK * (39 * (i + 1)) // 10_000 for i in range(255)]


def murmurhash2(data: bytes) -> int:
    """32-bit MurmurHash2 with the seed that nginx uses (0 xor length)."""
    length = len(data)
    digest = length
    blocks = length & ~3
    for i in range(0, blocks, 4):
        word = int.from_bytes(data[i : i + 4], "little") * _MULTIPLIER & _MASK
        word = (word ^ word >> 24) * _MULTIPLIER & _MASK
        digest = (digest * _MULTIPLIER & _MASK) ^ word
    if blocks != length:
        digest = (digest ^ int.from_bytes(data[blocks:], "little")) * _MULTIPLIER & _MASK
    digest = (digest ^ digest >> 13) * _MULTIPLIER & _MASK
    return digest ^ digest >> 15


@lru_cache(maxsize=8)  # each of a project's pages asks for it
def bucket(name: str) -> str:
    """The bucket of a project's pages: the part of nginx's ``split_clients`` that its name falls into.

    A hash falls into the first part whose threshold is above it.
    """
    return BUCKET_NAMES[bisect_right(_THRESHOLDS, murmurhash2(name.encode()))]


def page_path(tree: Tree, name: NormalizedName, page_format: PageFormat) -> str:
    """Path of a project's page below ``web/``."""
    if tree.layout is Layout.HASHED:
        return f"simple/{bucket(name)}/{name}.{page_format}"
    if tree.hash_index:
        return f"simple/{name[0]}/{name}/index.{page_format}"
    return f"simple/{name}/index.{page_format}"


def page_paths(tree: Tree, name: NormalizedName, page_format: PageFormat) -> tuple[str, ...]:
    """The names of one page below ``web/``: in the flat layout the HTML page has two, and is one file."""
    path = page_path(tree, name, page_format)
    if page_format is PageFormat.HTML and tree.layout is Layout.FLAT:
        return path, page_path(tree, name, PageFormat.V1_HTML)
    return (path,)


def versions_path(tree: Tree, name: NormalizedName) -> str:
    """Directory below ``web/`` of the earlier states of a project's pages; in the flat layout."""
    return f"{page_path(tree, name, PageFormat.HTML).rpartition('/')[0]}/versions"


def document_paths(tree: Tree, name: NormalizedName) -> tuple[str, ...]:
    """The names below ``web/`` of a project's legacy JSON document: in the flat layout two, of one file."""
    if tree.layout is Layout.HASHED:
        return (f"json/{bucket(name)}/{name}",)
    return f"json/{name}", f"pypi/{name}/json"


def index_path(page_format: PageFormat) -> str:
    """Path of the root index below ``web/``."""
    return f"simple/index.{page_format}"


_PYPI_SHAPE = re.compile(
    r"https?://[^/?#]+/(?:[^?#]*/)??packages/([0-9a-f]{2})/([0-9a-f]{2})/([0-9a-f]{60})/([^/?#]+)(?:[?#]|\Z)", re.ASCII
)

BLAKE2B_256 = "blake2b_256"  # as PyPI names it; hashlib has it as BLAKE2b of 32 bytes


def digest_in_path(url: str, filename: str) -> str:
    """The BLAKE2b-256 of a file's content, which PyPI makes its path of; "" where the path is of another shape."""
    match = _PYPI_SHAPE.match(url)
    return "".join(match.groups()[:3]) if match and filename in (match[4], unquote(match[4])) else ""


_HASHED_SHAPE = re.compile(r"https?://[^/?#]+/(?:[^?#]*/)?packages/([0-9a-f]{3})/([^/?#]+)(?:[?#]|\Z)", re.ASCII)


def file_paths(layout: Layout, url: str, filename: str, digest: str) -> FilePaths:
    """Paths of a distribution file below ``web/``.

    ``filename`` has passed unsafe_filename and ``digest`` is hexadecimal, at least 64 digits. The digits in
    the path are those of the upstream's own path where it has PyPI's shape (a hash of the content) and ends
    in the file's name; else those of the digest, so that nothing of the URL reaches the disk unchecked. The three
    digits of a mirror in the hashed layout are kept: PyPI's path leads to the file in a mirror of that too.
    """
    match = _PYPI_SHAPE.match(url)
    if match and (match[4] == filename or unquote(match[4]) == filename):
        first, second, rest, _ = match.groups()
    else:
        first, second, rest = digest[:2], digest[2:4], digest[4:64]
    long_path = f"packages/{first}/{second}/{rest}/{filename}"
    if layout is Layout.FLAT:
        return FilePaths(long_path, long_path)
    digits = f"{first}{second[0]}"
    if not match and (hashed := _HASHED_SHAPE.match(url)) and unquote(hashed[2]) == filename:
        digits = hashed[1]
    return FilePaths(f"packages/{digits}/{filename}", long_path)


_UNSAFE = re.compile(r"[\x00-\x1f\x7f/\\]")
METADATA_SUFFIX = ".metadata"
_NAME_BYTES = 255


def unsafe_filename(filename: object) -> str | None:
    """Why this cannot be the name of a distribution file in the tree; None if it can."""
    if not isinstance(filename, str) or not filename:
        return "not a file name"
    if _UNSAFE.search(filename):
        return "file name with a separator or a control character"
    if filename[0] == ".":
        return "file name that begins with a dot"
    if filename.endswith(METADATA_SUFFIX):
        return "file name that is kept for core metadata"
    if not filename.isascii():
        try:
            encoded = filename.encode()
        except UnicodeEncodeError:
            return "file name that is no text"
        if len(encoded) > _NAME_BYTES:
            return "file name of more than 255 bytes"
    elif len(filename) > _NAME_BYTES:
        return "file name of more than 255 bytes"
    return None


def metadata_path(path: str) -> str | None:
    """Path of the core metadata file beside a file; None if no file system could hold its name."""
    filename = path.rpartition("/")[2]
    if len(filename.encode()) + len(METADATA_SUFFIX) > _NAME_BYTES:
        return None
    return path + METADATA_SUFFIX


_PLAIN = re.compile(r"[A-Za-z0-9/._~-]*", re.ASCII)


def url_path(path: str) -> str:
    """A path below ``web/`` as it stands in a URL."""
    return path if _PLAIN.fullmatch(path) else quote(path)
