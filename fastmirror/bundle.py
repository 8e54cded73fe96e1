"""A bundle: what has changed in a mirror, as a directory that can be carried to another machine.

::

    manifest          a JSON document a line: the header, each path, and last the sha256 of all lines before it
    manifest.sig      a signature of the manifest, where one was asked for
    objects/ab/ab12…  each content once, named by its sha256: no name of a file meets the carrier's file system

The manifest takes its name when everything else is there, so that a bundle without one is unfinished; until then
it is ``manifest.new``.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from enum import IntEnum
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, Self

import orjson

from fastmirror.errors import UpstreamError
from fastmirror.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MANIFEST = "manifest"
_FORMAT = "fastmirror bundle 1"
_LONGEST_LINE = 1 << 16
_CHUNK = 1 << 20
_NO_FILE = frozenset({errno.ELOOP, errno.ENXIO})  # what open(2) says of a link, and of a socket
_COMPONENT = re.compile(r"(?!\.{1,2}\Z)[^\x00-\x1f\x7f/]{1,255}")
_LINK = re.compile(r"versions/(?!\.{1,2}\Z)[^\x00-\x1f\x7f/]{1,255}")
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_PARTS = frozenset({"packages", "simple", "json", "pypi"})
LAST_MODIFIED = "last-modified"


class Kind(IntEnum):
    """When a path is put into place, or removed: files before pages, pages before the root index."""

    FILE = 0
    PAGE = 1
    INDEX = 2


class Header(NamedTuple):
    """Which bundle this is."""

    mirror: str  # that made it
    number: int
    since: int  # the bundle that it follows; 0: it carries everything
    layout: str
    hash_index: bool
    created: float  # epoch seconds


class Entry(NamedTuple):
    """One path below ``web/``, and what it holds now."""

    path: str
    sha256: str = ""  # "" if it is a link, or gone
    size: int = 0
    mtime_ns: int = 0  # of files; pages have that of their import
    link: str = ""  # where a symbolic link leads

    @property
    def is_gone(self) -> bool:
        """Whether there is nothing any more under this path."""
        return not self.sha256 and not self.link


def kind_of(path: str) -> Kind:
    """When a path below ``web/`` has its turn."""
    if path.startswith("packages/"):
        return Kind.FILE
    return Kind.INDEX if path == LAST_MODIFIED or path.startswith("simple/index.") else Kind.PAGE


def object_path(directory: str, sha256: str) -> str:
    """Where a bundle keeps the content with this digest."""
    return f"{directory}/objects/{sha256[:2]}/{sha256}"


class ManifestWriter:
    """Writes a bundle's manifest; at the end of the block it is whole, unless that raised, but has no name yet."""

    def __init__(self, directory: str, header: Header) -> None:
        self._directory = directory
        self.path = os.path.join(directory, f"{MANIFEST}.new")
        self._stream = open(self.path, "wb")  # noqa: SIM115 - closed at the end of the block
        self._digest = hashlib.sha256()
        self._entries = 0
        self._put({"format": _FORMAT} | header._asdict())

    def __enter__(self) -> Self:
        return self

    def add(self, entry: Entry) -> None:
        """Note one path."""
        self._put({key: value for key, value in entry._asdict().items() if value})
        self._entries += 1

    def __exit__(self, kind: object, *_: object) -> None:
        with self._stream as stream:
            if kind is not None:
                return
            stream.write(orjson.dumps({"entries": self._entries, "sha256": self._digest.hexdigest()}) + b"\n")
            stream.flush()
            os.fsync(stream.fileno())

    def publish(self) -> None:
        """Give the manifest its name: from now on this is a bundle."""
        os.replace(self.path, os.path.join(self._directory, MANIFEST))
        os.sync()

    def _put(self, document: Mapping[str, object]) -> None:
        line = orjson.dumps(document) + b"\n"
        self._digest.update(line)
        self._stream.write(line)


def read_header(directory: str) -> Header:
    """Which bundle a directory holds. Raises UpstreamError if it holds none."""
    with open_manifest(directory) as stream:
        return _header(_document(stream.readline(_LONGEST_LINE)))


def read_manifest(directory: str) -> tuple[Header, list[Entry]]:
    """A bundle's header and paths, with nothing believed that is not whole and contained. Raises UpstreamError."""
    with open_manifest(directory) as stream:
        line = stream.readline(_LONGEST_LINE)
        header = _header(_document(line))
        digest = hashlib.sha256(line)
        entries: list[Entry] = []
        for document, line in _documents(stream):
            if "entries" in document:
                is_whole = document == {"entries": len(entries), "sha256": digest.hexdigest()}
                if not is_whole or stream.read(1):
                    break
                return header, entries
            digest.update(line)
            entries.append(_entry(document))
    raise UpstreamError(f"bundle: its manifest is cut off or altered: {os.path.join(directory, MANIFEST)!r}")


def open_plain(path: str) -> BinaryIO:
    """A file of a bundle, open for reading. Raises UpstreamError if it is a link, or anything else that is no file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno not in _NO_FILE:
            raise
    else:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return open(descriptor, "rb")
        os.close(descriptor)
    raise UpstreamError(f"bundle: is no plain file: {path!r}")


def copy_hashed(source: BinaryIO, target: BinaryIO, most: int) -> tuple[str, int]:
    """Copy what is left of a stream, or so many bytes of it; sha256 and bytes of what was copied."""
    digest, size = hashlib.sha256(), 0
    while chunk := source.read(min(_CHUNK, most - size)):
        digest.update(chunk)
        target.write(chunk)
        size += len(chunk)
    return digest.hexdigest(), size


def signature_path(directory: str) -> str:
    """Where a bundle keeps the signature of its manifest."""
    return os.path.join(directory, f"{MANIFEST}.sig")


def open_manifest(directory: str) -> BinaryIO:
    """A bundle's manifest, open for reading. Raises UpstreamError if there is none."""
    try:
        return open_plain(os.path.join(directory, MANIFEST))
    except (FileNotFoundError, NotADirectoryError):
        raise UpstreamError(f"bundle: there is none, or it is not finished (no manifest): {directory!r}") from None


def _documents(stream: BinaryIO) -> Iterator[tuple[dict[str, object], bytes]]:
    while line := stream.readline(_LONGEST_LINE):
        yield _document(line), line


def _document(line: bytes) -> dict[str, object]:
    try:
        document = orjson.loads(line)
    except orjson.JSONDecodeError:
        document = None
    if type(document) is not dict or not line.endswith(b"\n"):
        raise UpstreamError(f"bundle: its manifest is cut off or altered: a line is no JSON object: {line!r:.120}")
    return document


def _header(document: dict[str, object]) -> Header:
    if document.pop("format", None) != _FORMAT:
        raise UpstreamError(f"bundle: its manifest is of another format, not {_FORMAT!r}")
    try:
        header = Header(**document)  # type: ignore[arg-type]
    except TypeError as error:
        raise UpstreamError(f"bundle: its manifest's header cannot be used: {error}") from error
    expected = (str, int, int, str, bool, float)
    if any(type(value) is not kind for value, kind in zip(header, expected, strict=True)):
        raise UpstreamError("bundle: its manifest's header cannot be used: a value is of another type")
    if header.layout not in tuple(Layout):
        raise UpstreamError(f"bundle: its manifest's header cannot be used: layout {header.layout!r:.40}")
    return header


def _entry(document: dict[str, object]) -> Entry:
    """An entry that can be believed to be contained; what it holds is still to be checked."""
    try:
        entry = Entry(**document)  # type: ignore[arg-type]
    except TypeError as error:
        raise UpstreamError(f"bundle: an entry of its manifest cannot be used: {error}") from error
    expected = (str, str, int, int, str)
    if any(type(value) is not kind for value, kind in zip(entry, expected, strict=True)) or entry.size < 0:
        raise UpstreamError(f"bundle: an entry of its manifest cannot be used: {document!r:.200}")
    first, *rest = entry.path.split("/")
    is_known = entry.path == LAST_MODIFIED or (first in _PARTS and bool(rest))
    is_contained = is_known and all(map(_COMPONENT.fullmatch, rest))
    is_sound = not entry.sha256 or (_SHA256.fullmatch(entry.sha256) and not entry.link)
    is_link_sound = not entry.link or (first == "simple" and _LINK.fullmatch(entry.link))
    if not (is_contained and is_sound and is_link_sound):
        raise UpstreamError(f"bundle: a path of its manifest is refused: {entry.path!r:.300}")
    return entry
