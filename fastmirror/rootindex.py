"""The root index, written from the state: streamed, so that a million projects need no memory."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import xxhash

from fastmirror.changes import at_rest, note_removed, note_written
from fastmirror.layout import PageFormat, index_path
from fastmirror.simple import render_index_html, render_index_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fastmirror.state import State
    from fastmirror.storage import Storage


def write_root_index(state: State, storage: Storage, formats: Iterable[PageFormat], serial: int | None) -> bool:
    """Write the root index in these formats; whether it was another than the one in place.

    The HTML form is one file with two names. A form whose bytes would be the same is not renamed into place.
    """
    formats = set(formats)
    changed = False
    retired = list(at_rest(storage, map(index_path, set(PageFormat) - formats)))
    if retired:
        with state.transaction():
            note_removed(state, retired)
    for path in retired:
        changed |= storage.remove(path)
    if PageFormat.JSON in formats:
        body = render_index_json(state.listed(), serial)
        changed |= _write(state, storage, body, "json", (PageFormat.JSON,))
    if PageFormat.HTML in formats:
        body = render_index_html(name for name, _ in state.listed())
        changed |= _write(state, storage, body, "html", (PageFormat.HTML, PageFormat.V1_HTML))
    return changed


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


def _write(state: State, storage: Storage, body: Iterator[bytes], kind: str, formats: tuple[PageFormat, ...]) -> bool:
    staged = storage.new_staged_page()
    digest = xxhash.xxh3_128()
    with open(staged, "wb") as stream:
        for chunk in body:
            digest.update(chunk)
            stream.write(chunk)
    paths = [index_path(page_format) for page_format in formats]
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
