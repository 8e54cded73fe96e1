"""A tree that no state speaks of, as bandersnatch leaves one or a lost state: its rows are made from its pages.

Each project's own page says its serial and its files; a file counts if it is there with the size that the page
states. Nothing is fetched, hashed or deleted: whoever made the tree has verified it, and ``--force-check`` or
``verify`` hash it all. The pages stay as they are until their projects change. What cannot be read is planned
anew, as if it were not there.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote, urlsplit

import xxhash

from fastmirror import simple
from fastmirror.damage import is_marked, move_aside, unmark
from fastmirror.errors import InvalidName, PageError, StateDamaged, StorageError
from fastmirror.layout import Layout, PageFormat, Tree, metadata_path, page_path
from fastmirror.model import Outcome, StoredFile
from fastmirror.names import NormalizedName, normalize
from fastmirror.packing import pack_files
from fastmirror.planner import in_chunks
from fastmirror.processes import in_stripes
from fastmirror.schema import RecordedJob
from fastmirror.shadowmire import read_serials
from fastmirror.state import State

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from fastmirror.model import File, Page
    from fastmirror.storage import Storage
    from fastmirror.supervisor import Supervisor

_LOG = logging.getLogger(__name__)
ADOPTED = "adopted"  # the settings digest of a row whose pages another program, or another state, has made
_BATCH = 200
_REMOTE_THREADS = 32
_BASE = "http://mirror.invalid/simple"


class Adopted(NamedTuple):
    """What was taken over."""

    projects: int = 0
    files: int = 0
    bytes: int = 0
    unreadable: int = 0  # projects whose pages cannot be used


def open_state(path: str) -> State:
    """Open a held mirror's state. A damaged one, or one that was found so, is moved aside, to be made anew."""
    if not is_marked(path):
        with contextlib.suppress(StateDamaged):
            return _open_readable(path)
    unwanted: list[tuple[str, float]] = []
    if os.path.exists(path):
        unwanted = _unwanted(path)
        _LOG.warning("state is damaged (%s); it is kept as %s, and made anew from the tree", path, move_aside(path))
    unmark(path)
    state = State(path)
    with state.transaction():
        state.change("insert or ignore into unwanted values (?, ?)", unwanted)
    return state


def _unwanted(path: str) -> list[tuple[str, float]]:
    """What a damaged state still says of projects that were deleted by command, as no page tells of them."""
    try:
        with contextlib.closing(State(path, read_only=True)) as state:
            return state.select("select name, since from unwanted")
    except StorageError:
        _LOG.warning("what was deleted by command cannot be read from it: it comes back unless it is deleted again")
        return []


def _open_readable(path: str) -> State:
    state = State(path)
    try:
        state.has_projects()
    except StateDamaged:
        state.close()
        raise
    return state


def adopt(
    state: State, storage: Storage, tree: Tree, processes: int, check_id: int, supervisor: Supervisor
) -> Adopted | None:
    """Make the rows of a tree that has none, on so many processes; None if there is nothing to take over.

    Killed, the next run begins it again. To be called before there is any thread.
    """
    # What a run of ours left behind that was cut off is hashed before it is trusted, and so not taken over.
    is_ours = state.has_projects() or state.get("clean") is not None
    if state.get("adopting") is None and (is_ours or not any(_projects(storage, tree))):
        return None
    _LOG.warning("taking over the tree in %s: its state is made from its pages", storage.shown_as("").rstrip("/"))
    with state.transaction():
        state.put({"adopting": "1"})
    serials = read_serials(os.path.dirname(storage.own))
    total = Adopted()
    now = time.time()
    for batch in in_stripes(lambda stripe, stripes: _read_stripe(storage, tree, serials, stripe, stripes), processes):
        found = [item for item in batch if isinstance(item, Outcome)]
        with state.transaction():
            state.record([(outcome, RecordedJob(False, False, 0, None)) for outcome in found], now, check_id)
        total = Adopted(
            total.projects + len(found),
            total.files + sum(outcome.file_count for outcome in found),
            total.bytes + sum(outcome.byte_count for outcome in found),
            total.unreadable + len(batch) - len(found),
        )
        if supervisor.is_due():
            supervisor.work(f"taking over the tree: {total.projects:,} projects")
    with state.transaction():
        state.put({"adopting": None, "layout": str(tree.layout), "hash_index": "1" if tree.hash_index else None})
        state.put({"whereabouts": storage.whereabouts})
    _LOG.warning(
        "taken over: %d projects, %d files, %d bytes; %d projects are planned anew, as their pages cannot be read",
        *total,
    )
    return total


def _projects(storage: Storage, tree: Tree) -> Iterator[NormalizedName]:
    """The projects that have pages; names that are not normalised are another program's leftovers."""
    for raw in _raw_names(storage, tree):
        try:
            if normalize(raw) == raw:
                yield NormalizedName(raw)
        except InvalidName:
            continue


def _raw_names(storage: Storage, tree: Tree) -> Iterator[str]:
    if tree.layout is Layout.HASHED:
        for bucket in sorted(storage.directories("simple")):
            names = storage.names(f"simple/{bucket}")
            yield from dict.fromkeys(name.rpartition(".")[0] for name in names if name.endswith((".v1_json", ".html")))
    elif tree.hash_index:
        for initial in sorted(storage.directories("simple")):
            yield from storage.directories(f"simple/{initial}")
    else:
        yield from storage.directories("simple")


def _read_stripe(
    storage: Storage, tree: Tree, serials: Mapping[NormalizedName, int], stripe: int, stripes: int
) -> Iterator[list[Outcome | str]]:
    """In a process of its own: the rows of one part of the projects; the name where a page cannot be used."""
    names = islice(_projects(storage, tree), stripe, None, stripes)

    def read(name: NormalizedName) -> Outcome | str | None:
        try:
            return read_row(storage, tree, name, serials.get(name))
        except (PageError, OSError) as error:
            _LOG.warning("%s: its page cannot be used, it is planned anew: %s", name, error)
            return name

    with ThreadPoolExecutor(_REMOTE_THREADS) if storage.is_remote else nullcontext() as threads:
        for some in in_chunks(names, _BATCH):
            found = map(read, some) if threads is None else threads.map(read, some)
            yield [row for row in found if row is not None]


def read_row(storage: Storage, tree: Tree, name: NormalizedName, noted: int | None) -> Outcome | None:
    """A project's row from its page; None if there is none. `noted` is its serial where the page says none."""
    json_body = storage.read(page_path(tree, name, PageFormat.JSON))
    html_body = storage.read(page_path(tree, name, PageFormat.HTML))
    if json_body is None and html_body is None:
        return None
    page = parse_published(name, json_body, html_body)
    files = [stored for file in page.files if (stored := stored_file(storage, file)) is not None]
    return _row_of(page, files, json_body, html_body, noted)


def parse_published(name: NormalizedName, json_body: bytes | None, html_body: bytes | None) -> Page:
    """A published page, read: the JSON one before the HTML one. Raises PageError."""
    url = f"{_BASE}/{name}/"
    if json_body is not None:
        return simple.parse_json_page(json_body, name, url, accept_unhashed=False)
    return simple.parse_html_page(html_body or b"", name, url, accept_unhashed=False)


def _row_of(
    page: Page, files: list[StoredFile], json_body: bytes | None, html_body: bytes | None, noted: int | None
) -> Outcome:
    """What a state is to say of a project whose pages another program, or another state, has made."""
    is_whole = len(files) == len(page.files) and not page.refused
    serial = page.serial if page.serial is not None else noted
    digest = xxhash.xxh3_128_hexdigest(b"\0".join(body for body in (json_body, html_body) if body is not None))
    return Outcome(
        page.name,
        "published",
        serial=serial if is_whole else None,  # what lacks a file is planned anew
        page_digest=digest,
        settings_digest=ADOPTED,
        files=pack_files(files),
        file_count=len(files),
        byte_count=sum(file.size for file in files),
        hidden=page.status == "quarantined",
    )


def path_below_web(file: File) -> str:
    """Where a published page says that this file of it lies."""
    return unquote(urlsplit(file.url).path).lstrip("/")


def stored_file(storage: Storage, file: File) -> StoredFile | None:
    """A file of a published page, if it is there with the size that the page states."""
    path = path_below_web(file)
    if not path.startswith("packages/") or ".." in path.split("/") or file.algorithm != "sha256":
        return None
    facts = storage.facts(path)
    if facts is None or file.size not in (None, facts.size):
        return None
    beside = metadata_path(path)
    has_metadata = bool(file.metadata) and beside is not None and storage.size(beside) is not None
    return StoredFile(path, facts.size, file.digest, facts.mtime_ns / 1e9, file.metadata if has_metadata else None)
