"""A tree in an object store: final names by PUT, which is one step; all before it is local.

A path below ``web/`` is a key below ``web/`` of the bucket's prefix, as bandersnatch has it. Every object has the
headers that its readers need, and its sha256 in its metadata, which the store has held its body against: what lies
there is known by HEAD. Where it is asked for, what lies as ``<directory>/index.html`` lies as ``<directory>/`` too.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from fastmirror.descriptors import free_bytes, sha256_of
from fastmirror.feed import HEAD_PATH, STEP_PATHS
from fastmirror.nginx import FILE_CACHE, HEAD_CACHE, PAGE_CACHE
from fastmirror.objects import Bucket, ObjectHeaders
from fastmirror.s3 import unguarded
from fastmirror.storage import Digest, Facts, Storage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from fastmirror.objects import ObjectFacts
    from fastmirror.settings import S3Settings, StorageSettings

_WEB = "web/"
_INDEX = "/index.html"
_UNCACHED = "no-cache"
_TEXT, _JSON, _HTML = "text/plain; charset=utf-8", "application/json", "text/html; charset=utf-8"
_PAGE_TYPES = {
    ".html": _HTML,
    ".v1_html": "application/vnd.pypi.simple.v1+html; charset=utf-8",
    ".v1_json": "application/vnd.pypi.simple.v1+json",
}
_STEP = re.compile(STEP_PATHS)


class Shown(NamedTuple):
    """How an object is served."""

    content_type: str
    cache_control: str


def shown(path: str) -> Shown:
    """How the object of a path below ``web/`` is to be served."""
    part = path.partition("/")[0]
    if part == "simple":
        return Shown(_PAGE_TYPES.get(os.path.splitext(path)[1], _HTML), PAGE_CACHE)
    if part == "packages":
        return Shown("application/octet-stream", FILE_CACHE)
    if part in {"json", "pypi"}:
        return Shown(_JSON, PAGE_CACHE)
    if part == "changes":
        return Shown(_JSON, HEAD_CACHE if path == HEAD_PATH or not _STEP.fullmatch(path) else FILE_CACHE)
    types = {".html": _HTML, ".json": _JSON}
    return Shown(types.get(os.path.splitext(path)[1], _TEXT), _UNCACHED)


class ObjectTree(Storage):
    """A mirror's tree in a bucket, and a staging area in the mirror's own directory.

    Its methods wait for the store, and may be called by several threads at once; each raises StorageError where the
    store refuses or does not answer.
    """

    is_remote = True

    def __init__(self, settings: StorageSettings, s3: S3Settings) -> None:
        super().__init__(settings.directory, settings.staging, sets_modes=settings.manage_permissions)
        self._settings = s3
        self._bucket = Bucket(s3)
        self._opened_by = os.getpid()
        self._fence: Callable[[], None] = unguarded  # asked before anything that shows, by the bucket and by us
        self._was_empty = False  # when this run began: no page replaces one that is the same

    @property
    def whereabouts(self) -> str:
        """The bucket and its prefix."""
        return self.shown_as("").removesuffix(f"/{_WEB}")

    def guard(self, check: Callable[[], None]) -> None:
        """Ask this before anything that shows, and before each try of it."""
        self._fence = check
        self._objects().guard(check)

    def prepare(self) -> None:
        """Make the local directories, sweep staging, and ask the store whether the bucket is there."""
        for path in (self.own, *self._areas):
            os.makedirs(path, exist_ok=True)
        self.open_desk()
        os.makedirs(self._partials(), exist_ok=True)
        self._sweep()
        self._objects().check()

    def close(self) -> None:
        """End the connections."""
        self._objects().close()

    def final(self, path: str) -> str:
        """The key of a path, below the prefix."""
        return f"{_WEB}{path}"

    def shown_as(self, path: str) -> str:
        """The object's address, as the tools of object stores take it."""
        prefix = f"{self._settings.prefix}/" if self._settings.prefix else ""
        return f"s3://{self._settings.bucket}/{prefix}{_WEB}{path}"

    def read(self, path: str, most: int | None = None) -> bytes | None:
        """An object's bytes, or so many of them from the first; None if there is none."""
        return self._objects().get(self.final(path), most)

    def size(self, path: str) -> int | None:
        """Size of an object in bytes; None if there is none."""
        found = self._objects().head(self.final(path))
        return None if found is None else found.size

    def facts(self, path: str) -> Facts | None:
        """What a HEAD tells of an object; None if there is none."""
        found = self._objects().head(self.final(path))
        return None if found is None else Facts(found.size, _stamp_ns(found))

    def digest(self, path: str) -> Digest | None:
        """What the object's metadata says, which was verified when it was stored; else what its bytes say."""
        found = self._objects().head(self.final(path))
        if found is None:
            return None
        return Digest(found.sha256, found.size) if found.sha256 else super().digest(path)

    def open_file(self, path: str) -> int:
        """A descriptor of a local copy of an object, which is gone when it is closed. Raises FileNotFoundError."""
        with tempfile.NamedTemporaryFile(dir=self._unnamed_area) as copy:
            if not self._objects().get_file(self.final(path), copy.name):
                raise FileNotFoundError(path)
            return os.open(copy.name, os.O_RDONLY | os.O_CLOEXEC)

    def stamp(self, path: str, mtime_ns: int) -> None:
        """An object's metadata is not changed: it was right when the object was stored."""

    def mark(self, body: bytes) -> bytes:
        """A page goes by its sha256, which a HEAD tells."""
        return hashlib.sha256(body).hexdigest().encode()

    def mark_at(self, path: str) -> bytes | None:
        """The sha256 of a page, and of what lies under its other key if that is another; None if either is missing."""
        found = dict.fromkeys(self.digest(path) for path in self._names(path))
        return b" ".join(at_rest.sha256.encode() for at_rest in found if at_rest) if None not in found else None

    def stands(self, path: str, body: bytes) -> bool:  # noqa: ARG002 - the tree's own answer is given without asking
        """It is looked at when it is published, where others do not wait for it."""
        return False

    def names(self, directory: str) -> list[str]:
        """The first parts of the keys below a directory's."""
        below = f"{self.final(directory)}/"
        found = (item.key.removeprefix(below).partition("/")[0] for item in self._objects().list(below))
        return list(dict.fromkeys(filter(None, found)))

    def directories(self, directory: str) -> Iterator[str]:
        """The first parts of the keys below a directory's that have a second one."""
        below = f"{self.final(directory)}/"
        last = ""
        for item in self._objects().list(below):
            name, slash, _ = item.key.removeprefix(below).partition("/")
            if slash and name != last:
                last = name
                yield name

    def walk(self, part: str, links: list[tuple[str, int]]) -> Iterator[tuple[str, int]]:  # noqa: ARG002 - there are none
        """The objects of one part of the tree, with their sizes, by key."""
        for item in self._objects().list(f"{self.final(part)}/"):
            if not item.key.endswith("/"):
                yield item.key.removeprefix(_WEB), item.size

    def is_empty(self) -> bool:
        """Whether there is neither a page nor a file."""
        parts = ("simple", "packages")
        self._was_empty = all(next(self.walk(part, []), None) is None for part in parts)
        return self._was_empty

    def free_bytes(self) -> int:
        """Bytes that may still be written into staging."""
        return free_bytes(self._areas[0])

    def place(self, staged: str, path: str, *, replace: bool = False, sha256: str = "") -> bool:
        """Store a staged file as an object, which leaves staging; False if it is not to replace one that is there."""
        status = os.stat(staged)
        sha256 = sha256 or sha256_of(staged)
        is_file = path.startswith("packages/")
        headers = ObjectHeaders(*shown(path), sha256, str(status.st_mtime_ns / 1e9) if is_file else "")
        for name in self._names(path):
            key = self.final(name)
            if not self._objects().put_file(key, staged, headers=headers, sha256=sha256, only_new=not replace):
                return False
        self.discard(staged)
        return True

    def publish(self, staged: str, path: str) -> None:
        """Store a page, unless the object there has its bytes already."""
        self._fence()
        sha256 = sha256_of(staged)
        if not self._was_empty and self._stands(path, sha256):
            self.discard(staged)
        else:
            self.place(staged, path, replace=True, sha256=sha256)

    def _stands(self, path: str, sha256: str) -> bool:
        found = [self._objects().head(self.final(name)) for name in self._names(path)]
        is_type = shown(path).content_type
        return all(item is not None and item.sha256 == sha256 and item.content_type == is_type for item in found)

    def remove(self, path: str) -> bool:
        """Remove an object; the store does not say whether it was there."""
        self._objects().delete(map(self.final, self._names(path)))
        return True

    def remove_all(self, paths: Iterable[str]) -> list[str]:
        """Remove objects, a thousand a request."""
        removed = list(paths)
        self._objects().delete(self.final(name) for path in removed for name in self._names(path))
        return removed

    def take_out(self, path: str, kept: str) -> bool:
        """Move an object to a local path, which keeps its time; False if there is none."""
        copy, facts = f"{kept}.new", self.facts(path)
        if facts is None or not self._objects().get_file(self.final(path), copy):
            self.discard(copy)
            return False
        if facts.mtime_ns:
            os.utime(copy, ns=(facts.mtime_ns, facts.mtime_ns))
        descriptor = os.open(copy, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(copy, kept)
        return self.remove(path)

    def flush(self) -> None:
        """Whatever the store has acknowledged is durable; what it promises holds while the fence does."""
        self._fence()

    def put_fact(self, staged: str, path: str) -> None:
        """Put a small file into the mirror's directory, or what belongs below ``web/`` into the bucket."""
        if path.startswith(_WEB):
            self.place(staged, path.removeprefix(_WEB), replace=True)
        else:
            super().put_fact(staged, path)

    def _names(self, path: str) -> tuple[str, ...]:
        """All paths of what has this one."""
        if self._settings.slash_keys and path.endswith(_INDEX):
            return path, path.removesuffix(_INDEX) + "/"
        return (path,)

    def _objects(self) -> Bucket:
        """The bucket; anew in a process that was forked: two cannot share a connection."""
        if os.getpid() != self._opened_by:
            self._bucket, self._opened_by = Bucket(self._settings), os.getpid()
            self._bucket.guard(self._fence)
        return self._bucket


def _stamp_ns(found: ObjectFacts) -> int:
    with suppress(ValueError):
        return round(float(found.uploaded_at or 0) * 1e6) * 1000
    return 0
