"""A project's pages: rendered from what upstream lists and what is stored, and staged."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import xxhash

from fastmirror import simple
from fastmirror.layout import PageFormat, Tree, file_paths, page_paths, url_path
from fastmirror.model import Known, Page, StagedPage, StoredFile

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastmirror.settings import Settings
    from fastmirror.storage import Storage
    from fastmirror.upstream import Dialect


class Context(NamedTuple):
    """What every job of a run shares; crosses to the workers once."""

    settings: Settings
    dialect: Dialect | None  # of the upstream; None: not settled yet
    tree: Tree
    settings_digest: str
    clean: bool  # the last run ended in order: rows tell the truth about pages
    debug: bool  # log in detail
    plan_only: bool  # say what would be fetched; fetch and publish nothing
    fresh: bool = False  # no file was at rest when the run began: none is looked for


def stage_pages(
    context: Context,
    storage: Storage,
    page: Page,
    stored: Mapping[str, StoredFile],
    known: Known | None,
    *,
    trusted: bool,
) -> tuple[tuple[StagedPage, ...], str]:
    """Render the formats that the settings ask for into staging; returns them and the digest of their content.

    `stored` maps file names to files at rest: nothing else is listed. Nothing is staged that is published
    already, by the word of the state where it is `trusted`, else by its bytes.
    """
    formats = context.settings.pages.formats
    entries = _entries(context, page, stored)
    bodies: dict[PageFormat, bytes] = {}
    if PageFormat.JSON in formats:
        bodies[PageFormat.JSON] = simple.render_json(page, page.name, page.serial, entries)
    if PageFormat.HTML in formats:
        bodies[PageFormat.HTML] = simple.render_html(page, page.name, page.serial, entries)
    digest = xxhash.xxh3_128_hexdigest(b"\0".join(bodies.values()))
    if trusted and known is not None and digest == known.page_digest:
        return (), digest
    may_stand = known is not None or not context.clean
    staged = []
    for page_format, body in bodies.items():
        finals = page_paths(context.tree, page.name, page_format)
        if not (may_stand and all(_stands(storage, path, body) for path in finals)):
            first = storage.write_staged(body)
            staged.append(StagedPage((first, *(storage.link_staged(first) for _ in finals[1:])), finals))
    return tuple(staged), digest


def _stands(storage: Storage, path: str, body: bytes) -> bool:
    try:
        return storage.read(path) == body
    except OSError:  # it cannot be read, but perhaps be replaced
        return False


def _entries(context: Context, page: Page, stored: Mapping[str, StoredFile]) -> list[simple.Entry]:
    root_uri, layout = context.settings.pages.root_uri, context.tree.layout
    entries = []
    for file in page.files:
        at_rest = stored.get(file.filename)
        if at_rest is None:
            continue
        if root_uri:
            long_path = file_paths(layout, file.url, file.filename, at_rest.sha256).long_path
            url = f"{root_uri}/{url_path(long_path)}"
        else:
            url = f"../../{url_path(at_rest.path)}"
        entries.append(simple.Entry(file, url, at_rest.sha256, at_rest.size, at_rest.metadata))
    return entries


def retired_pages(context: Context, page: Page) -> tuple[str, ...]:
    """Paths of the project's pages in the forms that the settings do not ask for."""
    formats = context.settings.pages.formats
    return tuple(
        path
        for page_format in (PageFormat.JSON, PageFormat.HTML)
        if page_format not in formats
        for path in page_paths(context.tree, page.name, page_format)
    )
