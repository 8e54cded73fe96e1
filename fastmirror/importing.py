"""A bundle that `export` made elsewhere, applied to this mirror: all of it is checked first, or nothing changes."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import xxhash

from fastmirror import signing
from fastmirror.adoption import parse_published, path_below_web, read_row, stored_file
from fastmirror.bundle import (
    LAST_MODIFIED,
    Entry,
    Header,
    Kind,
    copy_hashed,
    kind_of,
    object_path,
    open_manifest,
    open_plain,
    read_manifest,
    signature_path,
)
from fastmirror.changes import note_removed, note_written
from fastmirror.errors import PageError, SettingsError, StorageError, UpstreamError
from fastmirror.history import begin_run, end_run
from fastmirror.holding import hold_mirror
from fastmirror.lastserial import show_serial
from fastmirror.layout import Layout, PageFormat, Tree, index_path, page_path
from fastmirror.names import NormalizedName
from fastmirror.packing import paths_of, unpack_files
from fastmirror.pages import published_paths
from fastmirror.planner import in_chunks
from fastmirror.rootindex import write_feed, write_local_json
from fastmirror.run import Parts, open_parts
from fastmirror.schema import RecordedJob
from fastmirror.storage import Digest
from fastmirror.unowned import owner

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastmirror.progress import Progress
    from fastmirror.settings import Settings
    from fastmirror.storage import Storage

_LOG = logging.getLogger(__name__)
_AT_ONCE = 500
_ROW = RecordedJob(wanted=False, forced=False, tries=0, expected=None)


class Imported(NamedTuple):
    """A bundle that was applied."""

    number: int
    projects: int  # whose pages have changed
    written: int  # paths
    removed: int  # paths
    bytes: int
    signer: str  # who has signed it; "" if nobody was asked for


class _Staged(NamedTuple):
    """A path whose content has been checked, and waits in staging."""

    entry: Entry
    staged: str


def import_bundle(
    settings: Settings,
    directory: str,
    allowed_signers: str | None,
    progress: Progress,
    *,
    ended: Callable[[Storage], None],
) -> Imported:
    """Apply a bundle. Raises UpstreamError, with nothing changed, if it is not whole or not the next one.

    Cut off while its files take their places, readers still see whole pages; import it again. The state's
    rows are made from the pages, so that status, verify and export work here as where it was made.
    `ended` is called when it is applied, while the mirror is still held.
    """
    signer = ""
    if allowed_signers is not None:
        with open_manifest(directory) as manifest:
            signer = signing.require_signature(manifest, signature_path(directory), allowed_signers)
    header, entries = read_manifest(directory)
    with hold_mirror(settings.storage) as hold:
        parts = open_parts(settings, hold)
        has_changed = False
        try:
            last = _require_next(parts, header)
            work = _Import(parts, header, entries, directory, progress)
            work.check()
            has_changed = True
            done = work.apply(last)
            ended(parts.storage)
            return done._replace(signer=signer)
        finally:
            hold.keep(parts.state, has_changed=has_changed)
            parts.storage.close()
            parts.state.close()


def _require_next(parts: Parts, header: Header) -> int:
    """Raise unless the bundle can follow what is here: a tree of its shape, as its mirror had it before.

    Returns the number of what is here; the same one may be applied again.
    """
    state, chosen = parts.state, parts.settings.storage.layout
    is_new = state.get("layout") is None and parts.storage.is_empty()
    tree = Tree(Layout(header.layout), header.hash_index)
    if (is_new and chosen not in (None, tree.layout)) or (not is_new and parts.tree != tree):
        raise SettingsError(f"the bundle is of a tree with layout = {_shape(tree)}, this is {_shape(parts.tree)}")
    mirror, last = state.get("imported_from"), int(state.get("imported") or 0)
    if mirror is None and state.get("mirror_id") == header.mirror:  # a copy of the mirror that made it
        mirror, last = header.mirror, int(state.get("next_export") or 1) - 1
    if not is_new and mirror != header.mirror:
        raise UpstreamError("bundle: is of another mirror than what is here")
    if header.since > last:
        raise UpstreamError(f"bundle: number {header.number} follows number {header.since}, and here is number {last}")
    if header.number < last:
        raise UpstreamError(f"bundle: number {header.number} is older than number {last}, which is here")
    return last


def _shape(tree: Tree) -> str:
    return f"{tree.layout}{' and hash-index' if tree.hash_index else ''}"


class _Import:
    """One import under way."""

    def __init__(self, parts: Parts, header: Header, entries: list[Entry], directory: str, progress: Progress) -> None:
        self._progress = progress
        self._settings, self._storage, self._state = parts.settings, parts.storage, parts.state
        self._tree = Tree(Layout(header.layout), header.hash_index)
        self._header = header
        self._directory = directory
        self._kept = [entry for entry in entries if not entry.is_gone]
        self._gone = sorted((entry.path for entry in entries if entry.is_gone), key=lambda path: -kind_of(path))
        pages = (entry.path for entry in entries if kind_of(entry.path) is Kind.PAGE)
        self._names = sorted({NormalizedName(name) for name in (owner(path, self._tree) for path in pages) if name})
        self._bytes = sum(entry.size for entry in self._kept)
        self._staged: dict[Kind, list[_Staged]] = {kind: [] for kind in Kind}
        self._left: list[str] = []
        self._started = time.time()

    def check(self) -> None:
        """Bring it into staging. Raises UpstreamError or StorageError if it cannot be used: then nothing stays."""
        free = self._storage.free_bytes() - self._settings.storage.min_free
        if self._bytes > free:
            raise StorageError(f"the bundle needs {self._bytes} bytes, and {max(free, 0)} may be used (min-free)")
        self._progress.plan(len(self._kept), "paths")
        try:
            self._stage()
            self._left = self._left_behind()
            self._require_whole()
        except BaseException:
            self._discard()
            raise

    def apply(self, last: int) -> Imported:
        """What was checked: placed, removed, recorded; `last` is the number of what is here until it is."""
        header = self._header
        self._progress.begin("putting all into place")
        with self._state.transaction():
            shape = {"layout": str(self._tree.layout), "hash_index": "1" if self._tree.hash_index else None}
            self._state.put({"clean": "0", "imported_from": header.mirror, "imported": str(last)} | shape)
        for kind in Kind:
            self._place(self._staged[kind])
        self._remove(self._left)
        self._record()
        if self._settings.pages.legacy_json:
            show_serial(self._storage.own, self._state.greatest_serial())
        if self._settings.pages.local_json:
            write_local_json(self._state, self._storage, self._state.greatest_serial())
        write_feed(self._state, self._storage, self._settings.pages.formats)
        imported = Imported(header.number, len(self._names), len(self._kept), len(self._left), self._bytes, "")
        run = begin_run(self._state, self._started)
        told = {"updated": imported.projects, "files": imported.written, "bytes": imported.bytes}
        end_run(self._state, run, time.time(), 0, told | {"seconds": time.time() - self._started})
        with self._state.transaction():
            self._state.put({"clean": "1", "imported": str(header.number)})
        _LOG.info("bundle %d, since %d, is applied: %s", header.number, header.since, self._directory)
        return imported

    def _discard(self) -> None:
        """Leave nothing in staging."""
        for staged in self._staged.values():
            for _, path in staged:
                self._storage.discard(path)

    def _stage(self) -> None:
        """Copy every content into staging, checked by its digest. Raises UpstreamError at the first that is not so."""
        before: _Staged | None = None
        for entry in self._kept:
            kind = kind_of(entry.path)
            is_second_name = kind is not Kind.FILE and entry.sha256 and before and before.entry.sha256 == entry.sha256
            path = self._storage.link_staged(before.staged) if before and is_second_name else self._fresh(entry.path)
            before = _Staged(entry, path)
            self._staged[kind].append(before)
            if entry.link:
                Path(path).symlink_to(entry.link)
            elif not is_second_name:
                self._copy(entry, path)
            self._progress.advance(1, 0, entry.size, 0)

    def _fresh(self, path: str) -> str:
        """Where in staging what belongs under this path is to wait: on its file system."""
        if path == LAST_MODIFIED:
            return self._storage.stage_fact(f"web/{path}", "")
        return self._storage.new_staged() if kind_of(path) is Kind.FILE else self._storage.new_staged_page()

    def _copy(self, entry: Entry, path: str) -> None:
        where = object_path(self._directory, entry.sha256)
        try:
            source = open_plain(where)
        except (FileNotFoundError, NotADirectoryError):
            raise UpstreamError(f"bundle: a file is missing: {where} (for {entry.path})") from None
        with source:
            is_whole = os.fstat(source.fileno()).st_size == entry.size
            if is_whole:
                with open(path, "wb") as target:
                    is_whole = copy_hashed(source, target, entry.size) == (entry.sha256, entry.size)
        if not is_whole:
            raise UpstreamError(f"bundle: a file is cut off or altered: {where} (for {entry.path})")
        if entry.mtime_ns:
            os.utime(path, ns=(entry.mtime_ns, entry.mtime_ns))

    def _place(self, staged: list[_Staged]) -> None:
        """Give paths their content, all of it durable before anything that follows."""
        for some in in_chunks(staged, _AT_ONCE):
            with self._state.transaction():
                note_written(self._state, (entry.path for entry, _ in some))
        self._storage.flush()
        for entry, path in staged:
            is_there = kind_of(entry.path) is Kind.FILE and self._storage.digest(entry.path) == Digest(
                entry.sha256, entry.size
            )
            if is_there:
                self._storage.discard(path)
            else:
                self._storage.place(path, entry.path, replace=True)
        self._storage.flush()

    def _require_whole(self) -> None:
        """Raise UpstreamError unless every file that a page to be published names is staged, or at rest and to stay."""
        pages = {page.entry.path: page for page in self._staged[Kind.PAGE]}
        files = {file.entry.path: file.entry for file in self._staged[Kind.FILE]}
        left = set(self._left)
        for name in self._names:
            json_body, html_body = (
                self._body(pages, page_path(self._tree, name, kind)) for kind in (PageFormat.JSON, PageFormat.HTML)
            )
            if json_body is None and html_body is None:
                continue
            try:
                page = parse_published(name, json_body, html_body)
            except PageError as error:
                raise UpstreamError(f"bundle: the page of {name} cannot be used: {error}") from error
            for file in page.files:
                path = path_below_web(file)
                entry = files.get(path)
                if entry is not None:
                    is_there = entry.sha256 == file.digest and file.size in (None, entry.size)
                else:
                    is_there = path not in left and stored_file(self._storage, file) is not None
                if not is_there and urlsplit(file.url).netloc == "mirror.invalid":
                    raise UpstreamError(f"bundle: the page of {name} names a file that is not here: {file.filename}")

    def _body(self, pages: dict[str, _Staged], path: str) -> bytes | None:
        """The bytes of a staged page, or of what a staged link leads to; None if the bundle does not carry it."""
        found = pages.get(path)
        if found is not None and found.entry.link:
            target = f"{path.rpartition('/')[0]}/{found.entry.link}"
            found = pages.get(target)
            at_rest = self._storage.read(target) if found is None and target not in self._left else None
            if at_rest is not None:
                return at_rest
            if found is None or found.entry.link:
                raise UpstreamError(f"bundle: a page leads to what is not here: {path}")
        if found is None:
            return None
        with open(found.staged, "rb") as stream:
            return stream.read()

    def _left_behind(self) -> list[str]:
        """Paths that are to go: pages first, then files; with a bundle of everything also what it does not carry."""
        if self._header.since:
            return self._gone
        carried = {entry.path for entry in self._kept}
        held = dict(self._state.every_files())
        gone = [name for name in held if name not in set(self._names)]
        pages = [path for name in gone for path in published_paths(self._storage, self._tree, name)]
        files = [path for packed in held.values() for path in paths_of(unpack_files(packed))]
        self._names = sorted({*self._names, *gone})
        return [path for path in (*pages, *files) if path not in carried]

    def _record(self) -> None:
        """Make the rows of the projects whose pages have changed."""
        for some in in_chunks(self._names, _AT_ONCE):
            with self._state.transaction():
                for name in some:
                    row = read_row(self._storage, self._tree, name, None)
                    if row is None:
                        self._state.forget(name)
                    else:
                        self._state.record([(row, _ROW)], self._header.created, 0)
        with self._state.transaction():
            for kind, key in ((PageFormat.JSON, "index_json"), (PageFormat.HTML, "index_html")):
                body = self._storage.read(index_path(kind))
                self._state.put({key: xxhash.xxh3_128_hexdigest(body) if body is not None else None})

    def _remove(self, paths: list[str]) -> None:
        for some in in_chunks(paths, _AT_ONCE):
            with self._state.transaction():
                note_removed(self._state, some)
        for path in paths:
            self._storage.remove(path)
        self._storage.flush()
