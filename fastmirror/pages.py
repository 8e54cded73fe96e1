"""A project's pages: rendered from what upstream lists and what is stored, and staged."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import xxhash

from fastmirror import simple
from fastmirror.layout import Layout, PageFormat, Tree, document_paths, file_paths, page_paths, url_path
from fastmirror.legacy import saved
from fastmirror.model import StagedPage
from fastmirror.versions import outdated, stage_state, state_paths, state_shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from fastmirror.comparison import Method
    from fastmirror.model import File, Known, Page, StoredFile
    from fastmirror.names import NormalizedName
    from fastmirror.settings import PageSettings, Settings
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
    fresh: bool = False  # no file and no page was at rest when the run began: none is looked for
    moment: float = math.inf  # of the run, epoch seconds: filters hold back until later what goes by it

    @property
    def compare(self) -> Method:
        """How what is at rest is checked; where nothing is to be changed, not even a time, always by its hash."""
        return "hash" if self.plan_only else self.settings.storage.compare


class Staged(NamedTuple):
    """A project's pages on their way."""

    pages: tuple[StagedPage, ...]
    digest: str  # of the content of all that is published of the project
    outdated: tuple[str, ...] = ()  # paths below web/ that these pages take the place of


def stage_pages(
    context: Context,
    storage: Storage,
    page: Page,
    stored: Mapping[str, StoredFile],
    known: Known | None,
    *,
    trusted: bool,
    legacy: Mapping[str, Any] | None = None,
) -> Staged:
    """Render the formats that the settings ask for into staging, and with them the legacy JSON document, if asked for.

    `stored` maps file names to files at rest: nothing else is listed, where files are mirrored. Nothing is
    staged that is published already, by the word of the state where it is `trusted`, else by its bytes.
    """
    formats, keep = context.settings.pages.formats, context.settings.pages.keep_versions
    document = b""
    if legacy is not None and context.settings.pages.legacy_json:
        document = saved(legacy, context.settings.upstream.limits.page_memory)
    entries = _entries(context, page, stored)
    bodies: dict[PageFormat, bytes] = {}
    if PageFormat.JSON in formats:
        bodies[PageFormat.JSON] = simple.render_json(page, page.name, page.serial, entries)
    if PageFormat.HTML in formats:
        bodies[PageFormat.HTML] = simple.render_html(page, page.name, page.serial, entries)
    digest = content_digest(map(storage.mark, bodies.values()), storage.mark(document) if document else b"", keep)
    if trusted and known is not None and digest == known.page_digest:
        return Staged((), digest)
    may_stand = known is not None or not (context.clean or context.fresh)
    staged: list[StagedPage] = []
    superseded: list[str] = []
    if keep:
        state, superseded = _new_state(context, storage, page, bodies)
        staged += state
    else:
        for page_format, body in bodies.items():
            finals = page_paths(context.tree, page.name, page_format)
            if not (may_stand and all(storage.stands(path, body) for path in finals)):
                staged.append(_staged(storage, body, finals))
    if document:
        finals = document_paths(context.tree, page.name)
        if not (may_stand and all(storage.stands(path, document) for path in finals)):
            staged.append(_staged(storage, document, finals))
    return Staged(tuple(staged), digest, tuple(superseded))


def content_digest(marks: Iterable[bytes], document: bytes, keep: int) -> str:
    """Digest of what is published of a project: its pages, its document, and how many states of them are kept.

    Pages and document are given by their marks in the storage.
    """
    content = [*marks]
    if document:
        content.append(document)
    if keep:
        content.append(b"%d versions" % keep)
    return xxhash.xxh3_128_hexdigest(b"\0".join(content))


def _staged(storage: Storage, body: bytes, finals: tuple[str, ...]) -> StagedPage:
    first = storage.write_staged(body)
    return StagedPage((first, *(storage.link_staged(first) for _ in finals[1:])), finals)


def _new_state(
    context: Context, storage: Storage, page: Page, bodies: Mapping[PageFormat, bytes]
) -> tuple[tuple[StagedPage, ...], list[str]]:
    """Stage a new state of the pages, unless the one that is shown has these bytes; also what is now too old."""
    tree, keep = context.tree, context.settings.pages.keep_versions
    if page.status == "quarantined":
        keep = 1  # what is hidden is not shown by an earlier state either
    paths = {path: body for kind, body in bodies.items() for path in page_paths(tree, page.name, kind)}
    shown = {state_shown(storage, path) for path in paths}
    state = shown.pop() if len(shown) == 1 else None
    if state is not None and all(storage.read(path) == body for path, body in paths.items()):
        return (), outdated(storage, tree, page.name, keep, state)
    staged, state = stage_state(storage, tree, page.name, page.serial, bodies)
    return staged, outdated(storage, tree, page.name, keep, state)


def _entries(context: Context, page: Page, stored: Mapping[str, StoredFile]) -> list[simple.Entry]:
    pages, layout = context.settings.pages, context.tree.layout
    if not pages.release_files:
        return [_unstored(file, pages) for file in page.files]
    entries = []
    for file in page.files:
        at_rest = stored.get(file.filename)
        if at_rest is None:
            continue
        if pages.root_uri:
            long_path = file_paths(layout, file.url, file.filename, file.digest).long_path
            url = f"{pages.root_uri}/{url_path(long_path)}"
        else:
            url = f"../../{url_path(at_rest.path)}"
        entries.append(simple.Entry(file, url, at_rest.sha256, at_rest.size, at_rest.metadata))
    return entries


def _unstored(file: File, pages: PageSettings) -> simple.Entry:
    """A file as upstream lists it, at its own path below the root URI."""
    path = file.url.partition("?")[0].split("/", 3)[3]
    return simple.Entry(
        file, f"{pages.root_uri}/{path}", file.digest, file.size, file.metadata if pages.core_metadata else None
    )


def retired_paths(context: Context, storage: Storage, name: NormalizedName) -> list[str]:
    """Paths below ``web/`` of what may be published of a project in forms that the settings do not ask for."""
    pages, tree = context.settings.pages, context.tree
    retired = [
        path
        for page_format in (PageFormat.JSON, PageFormat.HTML)
        if page_format not in pages.formats
        for path in page_paths(tree, name, page_format)
    ]
    if not pages.legacy_json:
        retired += document_paths(tree, name)
    if not pages.keep_versions and tree.layout is Layout.FLAT:
        retired += state_paths(storage, tree, name)
    return retired


def published_paths(storage: Storage, tree: Tree, name: NormalizedName) -> Iterator[str]:
    """Every path below ``web/`` that may be published of a project, but for its files: pages first."""
    for page_format in (PageFormat.JSON, PageFormat.HTML):
        yield from page_paths(tree, name, page_format)
    yield from document_paths(tree, name)
    if tree.layout is Layout.FLAT:
        yield from state_paths(storage, tree, name)
