"""The root index, written from the state: streamed, so that a million projects need no memory. Its change feed.

With ``local-json`` the same list stands as shadowmire reads it: ``local.json``, of each project its serial, and
``local.db.serial``, the serial that all of it has reached.
"""

from __future__ import annotations

import logging
import os
import re
from itertools import pairwise, starmap
from typing import TYPE_CHECKING

import xxhash

from fastmirror.changes import at_rest, note_for_diff, note_removed, note_written
from fastmirror.errors import is_storage_failure
from fastmirror.feed import (
    BEGINNING_BYTES,
    CHANGES_MOST,
    HEAD_PATH,
    STATES_MOST,
    STEP_PATHS,
    beginning_of,
    render_head,
    render_step,
    step_path,
)
from fastmirror.layout import PageFormat, index_path
from fastmirror.simple import render_index_html, render_index_json, render_local_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fastmirror.settings import PageSettings
    from fastmirror.state import State
    from fastmirror.storage import Storage

_LOG = logging.getLogger(__name__)


_LOCAL = ("local.json", "local.db.serial")


def root_paths(pages: PageSettings) -> tuple[str, ...]:
    """Paths of all that lists the projects."""
    return (*map(index_path, pages.formats), *(_LOCAL if pages.local_json else ()))


def write_root_index(
    state: State, storage: Storage, formats: Iterable[PageFormat], serial: int | None, *, local: bool = False
) -> bool:
    """Write the root index in these formats; whether it was another than the one in place. `local`: shadowmire's too.

    The HTML form is one file with two names. A form whose bytes would be the same is not renamed into place.
    """
    formats = set(formats)
    changed = False
    others = [*map(index_path, set(PageFormat) - formats), *(() if local else _LOCAL)]
    retired = list(at_rest(storage, others))
    if retired:
        with state.transaction():
            note_removed(state, retired)
    for path in retired:
        changed |= storage.remove(path)
    if PageFormat.JSON in formats:
        body = render_index_json(state.listed(), serial)
        changed |= _write(state, storage, body, "json", (index_path(PageFormat.JSON),))
    if PageFormat.HTML in formats:
        body = render_index_html(name for name, _ in state.listed())
        changed |= _write(state, storage, body, "html", (index_path(PageFormat.HTML), index_path(PageFormat.V1_HTML)))
    return (local and write_local_json(state, storage, serial)) or changed


def write_local_json(state: State, storage: Storage, serial: int | None) -> bool:
    """Write what shadowmire reads; whether it was another than the one in place."""
    changed = _write(state, storage, render_local_json(state.listed()), "local", _LOCAL[:1])
    if serial is not None:
        changed |= _write(state, storage, iter((f"{serial}\n".encode(),)), "local_serial", _LOCAL[1:])
    return changed


_MOVED = """
select moved.name, serial, coalesce(listed, 0) from moved left join project using (name) order by moved.name limit ?
"""


def write_feed(state: State, storage: Storage, formats: Iterable[PageFormat]) -> None:
    """Bring the change feed to the root index in place, after all of that is durable.

    A run does not fail for what stands in the feed's way: it is warned of, and readers read the whole root index.
    """
    try:
        _go_on_with_feed(state, storage, formats)
    except OSError as error:
        if is_storage_failure(error):
            raise
        _LOG.warning("change feed: cannot be written: %s", error)


def _go_on_with_feed(state: State, storage: Storage, formats: Iterable[PageFormat]) -> None:
    """It begins anew, with a single state, where it cannot go on."""
    digest = state.get("index_json") if PageFormat.JSON in formats else None
    before = [earlier for (earlier,) in state.select("select digest from feed order by number")]
    there = _feed_paths(storage)
    if (before[-1:] == [digest] and HEAD_PATH in there) or (digest is None and not there):
        return
    told: dict[str, str] = {}
    moved = state.select(_MOVED, (CHANGES_MOST + 1,))
    states = [digest] if digest is not None else []
    if before and states and digest not in before and len(moved) <= CHANGES_MOST:
        entries = [(name, serial) for name, serial, listed in moved if listed]
        removed = [name for name, _, listed in moved if not listed]
        told[step_path(before[-1], states[0])] = render_step(_index_beginning(storage), entries, removed)
        states = [*before, *states][-STATES_MOST:]
    kept = set(starmap(step_path, pairwise(states)))
    if states:
        told[HEAD_PATH] = render_head(states)
        kept.add(HEAD_PATH)
    retired = [path for path in there if path not in kept]
    with state.transaction():
        note_for_diff(state, told, retired)
    staged = [(storage.stage_fact(f"web/{path}", text), f"web/{path}") for path, text in told.items()]
    storage.flush()
    for where, path in staged:  # the head last
        storage.put_fact(where, path)
    storage.remove_all(retired)
    with state.transaction():
        state.change("delete from moved", [()])
        state.change("delete from feed", [()])
        state.change("insert into feed values (?, ?)", enumerate(states))


def _index_beginning(storage: Storage) -> bytes:
    return beginning_of(storage.read(index_path(PageFormat.JSON), BEGINNING_BYTES) or b"")


def _feed_paths(storage: Storage) -> list[str]:
    """What there is of a feed."""
    paths = [f"changes/{name}" for name in storage.names("changes")]
    return [path for path in paths if path == HEAD_PATH or re.fullmatch(STEP_PATHS, path)]


def damaged_index(state: State, storage: Storage, formats: Iterable[PageFormat]) -> tuple[str, ...]:
    """Paths of the root index that do not hold what was last written there."""
    damaged = []
    for page_format in formats:
        path = index_path(page_format)
        digest = state.get("index_json" if page_format is PageFormat.JSON else "index_html")
        try:
            body = storage.read(path)
        except OSError:
            body = None
        if body is None or (digest and xxhash.xxh3_128_hexdigest(body) != digest):
            damaged.append(path)
    return tuple(damaged)


def _write(state: State, storage: Storage, body: Iterator[bytes], kind: str, paths: tuple[str, ...]) -> bool:
    staged = storage.new_staged_page()
    digest = xxhash.xxh3_128()
    with open(staged, "wb") as stream:
        for chunk in body:
            digest.update(chunk)
            stream.write(chunk)
    key = f"index_{kind}"
    if state.get(key) == digest.hexdigest() and all(storage.size(path) == os.stat(staged).st_size for path in paths):
        storage.discard(staged)
        return False
    names = [staged, *(storage.link_staged(staged) for _ in paths[1:])]
    with state.transaction():
        note_written(state, paths)
    storage.flush()
    for name, path in zip(names, paths, strict=True):
        storage.publish(name, path)
    with state.transaction():
        state.put({key: digest.hexdigest()})
    return True
