"""One project's way, from its page upstream to its pages in staging. Runs in a worker's loop."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import xxhash

from fastmirror import simple
from fastmirror.errors import MirrorError, PageError, is_storage_failure
from fastmirror.lanes import Lane, Lanes, failure_reason
from fastmirror.model import (
    Brought,
    FilesJob,
    Held,
    Known,
    Outcome,
    Page,
    ProjectJob,
    Split,
    StoredFile,
    Want,
)
from fastmirror.pages import Context, stage_pages
from fastmirror.planner import in_pieces, needs_pieces, plan_project
from fastmirror.state import pack_files, unpack_files
from fastmirror.transport import Request
from fastmirror.upstream import PAGE_LIMIT, Dialect, is_json, legacy_url, project_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fastmirror.fetcher import Fetcher
    from fastmirror.sink import SideThread
    from fastmirror.storage import Storage
    from fastmirror.transport import Reply

_LOG = logging.getLogger(__name__)
_STALE_WAITS_S = (1.0, 2.0, 4.0)
_REASON_LENGTH = 500


class Bench(NamedTuple):
    """What a worker works with."""

    context: Context
    lanes: Lanes
    storage: Storage
    side: SideThread
    fetcher: Fetcher


class ProjectTask:
    """A ProjectJob under way; it answers once, and never raises."""

    def __init__(self, job: ProjectJob, bench: Bench, answer: Callable[[Outcome | Split], None]) -> None:
        self._job = job
        self._bench = bench
        self._context = bench.context
        self._answer = answer
        self._known: Known | None = job.known
        self._etag = ""
        self._page_body = b""
        self._legacy_body = b""
        self._legacy_failure = ""
        self._brought = Brought()
        self._keep: list[StoredFile] = []
        packed = job.known.files if job.known is not None else b""
        self._stored = {file.path: file for file in unpack_files(packed)}
        self._awaited = 0
        self._stale_tries = 0

    def start(self) -> None:
        """Begin; the answer comes from a later poll, or at once."""
        self._guarded(self._resume if self._job.held is not None else self._ask)

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except PageError as error:
            self._fail(str(error))
        except OSError as error:
            self._fail(f"storage: {error}", storage_failure=is_storage_failure(error))
        except MirrorError as error:
            self._fail(str(error))
        except Exception as error:  # noqa: BLE001 - one project's trouble is never another's
            _LOG.exception("%s: this is a bug", self._job.name)
            self._fail(f"bug: {type(error).__name__}: {error}")

    def _ask(self) -> None:
        url = project_url(self._context.settings.upstream.master, self._job.name)
        headers = [f"Accept: {self._context.tongue.dialect.accept}"]
        if self._is_current() and self._known is not None and self._known.etag:
            headers.append(f"If-None-Match: {self._known.etag}")
        fixed = tuple(headers)
        self._bench.lanes.get(
            Lane.INDEX,
            lambda token: Request(token, url, fixed, PAGE_LIMIT, compressed=True, sink=None),
            lambda reply: self._guarded(lambda: self._take_page(reply)),
        )

    def _is_current(self) -> bool:
        """Whether what is published would still be right if upstream's page were the same."""
        known = self._known
        return (
            known is not None
            and not self._job.force
            and known.outcome == "published"
            and known.settings_digest == self._context.settings_digest
            and bool(known.page_digest)
            and (self._job.serial is None or self._job.serial == known.serial)
            and self._context.clean
        )

    def _take_page(self, reply: Reply) -> None:
        if reply.error:
            self._fail(f"page: {reply.error}")
        elif reply.status == 404:
            self._gone()
        elif reply.status == 304 and self._known is not None:
            self._unchanged(self._known.serial, self._known.etag)
        elif reply.status != 200:
            self._fail(f"page: {failure_reason(reply)}")
        elif is_json(reply) is (self._context.tongue.dialect is Dialect.HTML):
            self._fail(f"page: not in this upstream's format: {reply.headers.get('content-type', '')!r:.80}")
        else:
            self._etag = reply.headers.get("etag", "")
            self._page_body = reply.body
            if self._is_current() and self._known is not None and self._digest() == self._known.upstream_digest:
                self._unchanged(self._known.serial, self._etag)
            elif self._context.tongue.completed:
                self._ask_legacy()
            else:
                self._plan()

    def _ask_legacy(self) -> None:
        url = legacy_url(self._context.settings.upstream.master, self._job.name)
        self._bench.lanes.get(
            Lane.INDEX,
            lambda token: Request(token, url, ("Accept: application/json",), PAGE_LIMIT, compressed=True, sink=None),
            lambda reply: self._guarded(lambda: self._take_legacy(reply)),
        )

    def _take_legacy(self, reply: Reply) -> None:
        if not reply.error and reply.status == 200:
            self._legacy_body = reply.body
        elif reply.error or reply.status != 404:
            self._legacy_failure = f"legacy JSON: {failure_reason(reply)}"
        self._plan()

    def _digest(self) -> str:
        return xxhash.xxh3_128_hexdigest(self._page_body)

    def _parse(self) -> Page:
        upstream = self._context.settings.upstream
        url = project_url(upstream.master, self._job.name)
        is_html = self._context.tongue.dialect is Dialect.HTML
        parse = simple.parse_html_page if is_html else simple.parse_json_page
        page = parse(self._page_body, self._job.name, url, accept_unhashed=upstream.unhashed == "accept")
        if self._legacy_body:
            try:
                page = simple.with_legacy(page, self._legacy_body)
            except PageError as error:
                self._legacy_failure = f"legacy JSON: {error}"
        if is_html and not page.files and self._known is not None and unpack_files(self._known.files):
            raise PageError("no hashed link on the page of a project that had files")
        return page

    def _plan(self) -> None:
        page = self._parse()
        if self._is_stale(page):
            return
        if self._job.force and self._stored:
            damaged: set[str] = set()
            self._bench.side.submit(
                lambda: damaged.update(self._find_damage()),
                lambda: self._guarded(lambda: self._plan_files(page, damaged)),
            )
        else:
            self._plan_files(page, set())

    def _is_stale(self, page: Page) -> bool:
        """Ask again for a page older than the root index says, some times; then take what is newer than ours."""
        expected = self._job.serial
        if expected is None or page.serial is None or page.serial >= expected:
            return False
        if self._stale_tries < len(_STALE_WAITS_S):
            self._bench.lanes.after(_STALE_WAITS_S[self._stale_tries], lambda: self._guarded(self._ask))
            self._stale_tries += 1
            return True
        if self._known is not None and self._known.serial is not None and page.serial <= self._known.serial:
            raise PageError(f"stale page: serial {page.serial}, expected {expected}")
        return False

    def _find_damage(self) -> Iterable[str]:
        """In the side thread: the paths whose bytes are not those that the state names."""
        for file in self._stored.values():
            try:
                at_rest = self._bench.storage.digest(file.path)
                if at_rest is None or at_rest.sha256 != file.sha256:
                    yield file.path
                if file.metadata:
                    at_rest = self._bench.storage.digest(f"{file.path}.metadata")
                    if at_rest is None or at_rest.sha256 != file.metadata:
                        yield f"{file.path}.metadata"
            except OSError as error:
                _LOG.warning("%s cannot be read: %s", file.path, error)
                yield file.path

    def _plan_files(self, page: Page, damaged: set[str]) -> None:
        plan = plan_project(
            page,
            self._stored,
            layout=self._context.tree.layout,
            core_metadata=self._context.settings.pages.core_metadata,
            damaged=damaged,
        )
        self._keep = plan.keep
        if self._context.plan_only:
            sizes = [want.size or 0 for want in plan.fetch if want.stored is None]
            self._answer(Outcome(self._job.name, "published", fetched_files=len(sizes), fetched_bytes=sum(sizes)))
        elif needs_pieces(plan.fetch):
            self._hand_out(plan.fetch)
        elif plan.fetch:
            self._awaited = len(plan.fetch)
            for want in plan.fetch:
                self._bench.fetcher.fetch(want, lambda brought: self._guarded(lambda: self._take_file(page, brought)))
        else:
            self._finish(page)

    def _hand_out(self, wants: list[Want]) -> None:
        storage = self._bench.storage
        legacy = storage.write_staged(self._legacy_body) if self._legacy_body else ""
        held = Held(storage.write_staged(self._page_body), legacy, self._etag, Brought())
        pieces = (FilesJob(self._job.name, i, piece) for i, piece in enumerate(in_pieces(wants)))
        self._answer(Split(self._job, held, tuple(pieces)))

    def _resume(self) -> None:
        """All pieces are back: plan anew, with what they brought."""
        held = self._job.held
        if held is None:
            return
        self._page_body = Path(held.page).read_bytes()
        self._legacy_body = Path(held.legacy).read_bytes() if held.legacy else b""
        self._etag = held.etag
        self._brought = held.brought
        page = self._parse()
        fresh = {file.path: file for file in held.brought.stored}
        plan = plan_project(
            page,
            self._stored | fresh,
            layout=self._context.tree.layout,
            core_metadata=self._context.settings.pages.core_metadata,
        )
        without_metadata = [want.stored for want in plan.fetch if want.stored is not None]
        self._keep = [file for file in [*plan.keep, *without_metadata] if file.path not in fresh]
        self._finish(page)
        for path in filter(None, (held.page, held.legacy)):
            os.unlink(path)

    def _take_file(self, page: Page, brought: Brought) -> None:
        self._brought = self._brought.joined(brought)
        self._awaited -= 1
        if self._awaited == 0:
            self._finish(page)

    def _finish(self, page: Page) -> None:
        if self._brought.storage_failure:
            self._fail(self._brought.failures[-1][1], storage_failure=True)
            return
        left_out = {filename for filename, _ in page.refused}
        at_rest = [*self._keep, *self._brought.stored]
        listed = {_filename(file): file for file in at_rest}
        # A stored copy of an entry that cannot be used any more stays on the disk, though off the page.
        unlisted = [file for file in self._stored.values() if _filename(file) in left_out - listed.keys()]
        trusted = self._context.clean and not self._job.force
        pages, page_digest = stage_pages(self._context, self._bench.storage, page, listed, self._known, trusted=trusted)
        at_rest += unlisted
        reasons = [f"{filename}: {reason}" for filename, reason in (*page.refused, *self._brought.failures)]
        if self._legacy_failure:
            reasons.append(self._legacy_failure)
        before = _paths(self._stored.values())
        self._answer(
            Outcome(
                self._job.name,
                "partial" if reasons else "published",
                _summary(reasons),
                page.serial,
                self._etag,
                self._digest(),
                page_digest,
                self._context.settings_digest,
                pack_files(at_rest),
                len(at_rest),
                sum(file.size for file in at_rest),
                pages,
                tuple(before - _paths(at_rest)) if before else (),
                page.status == "quarantined",
                self._brought.shared,
                self._brought.disputed,
                self._brought.fetched_files,
                self._brought.fetched_bytes,
            )
        )

    def _gone(self) -> None:
        if self._known is None or not self._known.page_digest:
            if self._job.wanted:
                self._fail("upstream has no such project")
            else:
                self._answer(Outcome(self._job.name, "gone"))
            return
        self._answer(Outcome(self._job.name, "gone", dropped=tuple(_paths(self._stored.values()))))

    def _unchanged(self, serial: int | None, etag: str) -> None:
        self._answer(Outcome(self._job.name, "unchanged", serial=serial, etag=etag))

    def _fail(self, reason: str, *, storage_failure: bool = False) -> None:
        self._answer(
            Outcome(
                self._job.name,
                "failed",
                reason[:_REASON_LENGTH],
                fetched_files=self._brought.fetched_files,
                fetched_bytes=self._brought.fetched_bytes,
                storage_failure=storage_failure,
            )
        )


def _filename(file: StoredFile) -> str:
    return file.path.rpartition("/")[2]


def _paths(files: Iterable[StoredFile]) -> set[str]:
    paths = set()
    for file in files:
        paths.add(file.path)
        if file.metadata:
            paths.add(f"{file.path}.metadata")
    return paths


def _summary(reasons: list[str]) -> str:
    more = [f"and {len(reasons) - 5} more"] if len(reasons) > 5 else []
    return "; ".join([*reasons[:5], *more])[:_REASON_LENGTH]
