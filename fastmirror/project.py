"""One project's way, from its page upstream to its pages in staging. Runs in a worker's loop."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fastmirror.errors import MirrorError, is_storage_failure
from fastmirror.model import Brought, FilesJob, Held, Outcome, ProjectJob, Split, StoredFile, Want
from fastmirror.packing import pack_files, unpack_files
from fastmirror.pages import Context, retired_pages, stage_pages
from fastmirror.planner import in_pieces, needs_pieces, plan_project
from fastmirror.reading import LegacyApi, PageReader, Reading, Source, read_page
from fastmirror.upstream import Dialect

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from fastmirror.fetcher import Fetcher
    from fastmirror.lanes import Lanes
    from fastmirror.model import ProjectPlan
    from fastmirror.sink import SideThread
    from fastmirror.storage import Storage

_LOG = logging.getLogger(__name__)
_REASON_LENGTH = 500


class Bench(NamedTuple):
    """What a worker works with."""

    context: Context
    lanes: Lanes
    storage: Storage
    side: SideThread
    fetcher: Fetcher
    legacy: LegacyApi


class ProjectTask:
    """A ProjectJob under way; it answers once, and never raises."""

    def __init__(self, job: ProjectJob, bench: Bench, answer: Callable[[Outcome | Split], None]) -> None:
        self._job = job
        self._bench = bench
        self._context = bench.context
        self._answer = answer
        self._brought = Brought()
        self._keep: list[StoredFile] = []
        packed = job.known.files if job.known is not None else b""
        self._stored = {file.path: file for file in unpack_files(packed)}
        self._awaited = 0
        self._damaged: Collection[str] = ()

    def start(self) -> None:
        """Begin; the answer comes from a later poll, or at once."""
        self._guarded(self._read if self._job.held is None else self._resume)

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except MirrorError as error:
            self._fail(str(error))
        except OSError as error:
            self._fail(f"storage: {error}", storage_failure=is_storage_failure(error))
        except Exception as error:  # noqa: BLE001 - one project's trouble is never another's
            _LOG.exception("%s: this is a bug", self._job.name)
            self._fail(f"bug: {type(error).__name__}: {error}")

    def _read(self) -> None:
        reader = PageReader(self._job, self._context, self._bench.lanes, self._bench.legacy, self._guarded)
        reader.start(self._take_page, self._take_answer)

    def _take_answer(self, outcome: Outcome) -> None:
        """There is no page to work with."""
        known = self._job.known
        if outcome.status == "gone" and known is not None and known.page_digest:
            outcome = outcome._replace(dropped=tuple(_paths(self._stored.values())))
        elif outcome.status == "gone" and self._job.wanted:
            outcome = Outcome(self._job.name, "failed", "upstream has no such project")
        self._answer(outcome)

    def _take_page(self, reading: Reading) -> None:
        is_empty = not reading.page.files and reading.page.status != "quarantined"
        if reading.source.dialect is Dialect.HTML and is_empty and self._stored:
            self._fail("no hashed link on the page of a project that had files")
        elif self._job.force and self._stored:
            damaged: set[str] = set()
            self._bench.side.submit(
                lambda: damaged.update(self._find_damage()),
                lambda: self._guarded(lambda: self._fetch_files(reading, damaged)),
            )
        else:
            self._fetch_files(reading, frozenset())

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

    def _plan(self, reading: Reading, stored: Mapping[str, StoredFile], damaged: Collection[str]) -> ProjectPlan:
        return plan_project(
            reading.page,
            stored,
            layout=self._context.tree.layout,
            core_metadata=self._context.settings.pages.core_metadata,
            unpromised=reading.unpromised,
            damaged=damaged,
        )

    def _fetch_files(self, reading: Reading, damaged: Collection[str]) -> None:
        self._damaged = damaged
        plan = self._plan(reading, self._stored, damaged)
        self._keep = plan.keep
        if self._context.plan_only:
            sizes = [want.size or 0 for want in plan.fetch if want.stored is None]
            self._answer(Outcome(self._job.name, "published", fetched_files=len(sizes), fetched_bytes=sum(sizes)))
        elif needs_pieces(plan.fetch):
            self._hand_out(reading.source, plan.fetch, damaged)
        elif plan.fetch:
            self._awaited = len(plan.fetch)
            for want in plan.fetch:
                self._bench.fetcher.fetch(
                    want, lambda brought: self._guarded(lambda: self._take_file(reading, brought))
                )
        else:
            self._finish(reading)

    def _hand_out(self, source: Source, wants: list[Want], damaged: Collection[str]) -> None:
        storage = self._bench.storage
        page = storage.write_staged(source.body)
        legacy = storage.write_staged(source.legacy) if source.legacy else ""
        held = Held(page, legacy, source.etag, source.dialect, tuple(damaged), Brought())
        pieces = (FilesJob(self._job.name, i, piece) for i, piece in enumerate(in_pieces(wants)))
        self._answer(Split(self._job, held, tuple(pieces)))

    def _resume(self) -> None:
        """All pieces are back: plan anew, with what they brought; what they did not bring is not to be had."""
        held = self._job.held
        if held is None:
            return
        legacy = Path(held.legacy).read_bytes() if held.legacy else b""
        source = Source(Path(held.page).read_bytes(), legacy, held.etag, Dialect(held.dialect))
        reading = read_page(self._job, self._context, source)
        self._brought = held.brought
        fresh = {file.path: file for file in held.brought.stored}
        mended = {path for file in held.brought.stored for path in (file.path, f"{file.path}.metadata")}
        self._damaged = set(held.damaged) - mended
        plan = self._plan(reading, self._stored | fresh, self._damaged)
        without_metadata = [want.stored._replace(metadata=None) for want in plan.fetch if want.stored is not None]
        self._keep = [file for file in [*plan.keep, *without_metadata] if file.path not in fresh]
        self._finish(reading)
        for path in filter(None, (held.page, held.legacy)):
            os.unlink(path)

    def _take_file(self, reading: Reading, brought: Brought) -> None:
        self._brought = self._brought.joined(brought)
        self._awaited -= 1
        if self._awaited == 0:
            self._finish(reading)

    def _finish(self, reading: Reading) -> None:
        page, brought, context, known = reading.page, self._brought, self._context, self._job.known
        if brought.storage_failure:
            self._fail(brought.failures[-1][1], storage_failure=True)
            return
        left_out = {filename for filename, _ in (*page.refused, *brought.failures)}
        at_rest = [*self._keep, *brought.stored]
        listed = {_filename(file): file for file in at_rest}
        trusted = context.clean and not self._job.force and known is not None and known.outcome != "failed"
        pages, page_digest = stage_pages(context, self._bench.storage, page, listed, known, trusted=trusted)
        has_other_forms = known is not None and known.settings_digest != context.settings_digest
        # A stored good copy of what cannot be had any more stays on the disk, though off the page.
        left_out -= listed.keys()
        at_rest += [
            file for file in self._stored.values() if _filename(file) in left_out and file.path not in self._damaged
        ]
        reasons = [f"{filename}: {reason}" for filename, reason in (*page.refused, *brought.failures)]
        if reading.trouble:
            reasons.append(reading.trouble)
        before = _paths(self._stored.values())
        self._answer(
            Outcome(
                self._job.name,
                "partial" if reasons else "published",
                _summary(reasons),
                page.serial,
                reading.source.etag,
                reading.source.digest(),
                page_digest,
                context.settings_digest,
                pack_files(at_rest),
                len(at_rest),
                sum(file.size for file in at_rest),
                pages,
                tuple(before - _paths(at_rest)) if before else (),
                page.status == "quarantined",
                brought.shared,
                brought.disputed,
                brought.fetched_files,
                brought.fetched_bytes,
                dialect=reading.source.dialect,
                retired=retired_pages(context, page) if has_other_forms else (),
            )
        )

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
