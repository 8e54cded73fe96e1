"""One project's way, from its page upstream to its pages in staging. Runs in a worker's loop."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fastmirror.checking import REASON_LENGTH, check_files, check_pages, in_short, judged, told, with_unreadable
from fastmirror.errors import MirrorError, StorageError, is_storage_failure
from fastmirror.gathering import Body
from fastmirror.hidden import reveal
from fastmirror.layout import document_paths
from fastmirror.looking import look_at
from fastmirror.model import (
    Brought,
    Checked,
    Damage,
    FilesJob,
    Held,
    Outcome,
    ProjectJob,
    ProjectPlan,
    Split,
    StoredFile,
    Want,
)
from fastmirror.needs import needs_at_rest
from fastmirror.packing import pack_files, paths_of, unpack_files
from fastmirror.pages import retired_paths, stage_pages
from fastmirror.planner import PIECE_BYTES, in_pieces, needs_pieces, plan_project
from fastmirror.reading import PageReader, Reading, Source, listing_of, narrowed, read_page
from fastmirror.upstream import Dialect

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from fastmirror.model import Known, LeftOut, Status
    from fastmirror.reading import Bench

_LOG = logging.getLogger(__name__)
# So much is checked within the loop: less than it costs to hand it to the side thread and back.
_CHECKED_INLINE_BYTES = 1 << 19


class ProjectTask:
    """A ProjectJob under way; it answers once, and never raises."""

    def __init__(self, job: ProjectJob, bench: Bench, answer: Callable[[Outcome | Split], None]) -> None:
        self._job = job
        self._bench = bench
        self._context = bench.context
        self._settings_digest = bench.filters.shape(bench.context.settings_digest, job.name, job.demand)
        self._pass_on = answer
        self._brought = Brought()
        self._keep: list[StoredFile] = []
        self._stored: dict[str, StoredFile] = {}
        self._parts: list[Brought] = []  # what came of each file, until all are here
        self._damaged: Collection[str] = ()
        self._checked: Checked | None = job.held.checked if job.held is not None else None
        self._left_out: tuple[LeftOut, ...] = ()
        self._is_filtered_out = False

    def start(self) -> None:
        """Begin; the answer comes from a later poll, or at once."""
        self._guarded(self._begin)

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except StorageError as error:
            self._fail(str(error), storage_failure=True)
        except MirrorError as error:
            self._fail(str(error))
        except OSError as error:
            self._fail(f"storage: {error}", storage_failure=is_storage_failure(error))
        except Exception as error:  # noqa: BLE001 - one project's trouble is never another's
            _LOG.exception("%s: this is a bug", self._job.name)
            self._fail(f"bug: {type(error).__name__}: {error}")

    def _begin(self) -> None:
        job = self._job
        torn = Checked()
        try:
            self._stored = {file.path: file for file in unpack_files(job.known.files)} if job.known else {}
        except StorageError as error:  # what is at rest is found again, by its digest
            _LOG.warning("%s: %s", job.name, error)
            torn = Checked(damage=(Damage(f"what the state says of {job.name}", "unreadable", 0),))
        if job.held is not None and job.held.page:
            self._resume()
        elif job.held is not None:
            self._take_check(job.held.brought.checked or Checked())
        elif job.check:
            self._check(torn)
        else:
            self._read()

    def _check(self, torn: Checked) -> None:
        """Look at what is at rest, here, in the side thread, or in pieces handed to any worker."""
        files = list(self._stored.values())
        size = sum(file.size for file in files)
        if self._bench.hands is not None:
            self._look_beside(lambda found: self._take_whole_check(found.joined(torn)), self._check_pages)
        elif size > PIECE_BYTES and len(files) > 1:
            pieces = (FilesJob(self._job.name, i, (), piece) for i, piece in enumerate(in_pieces(files)))
            self._pass_on(Split(self._job, Held("", "", "", "", (), Brought()), tuple(pieces)))
        elif size <= _CHECKED_INLINE_BYTES:
            found = check_files(self._bench.storage, files, compare=self._context.compare)
            self._take_check(found.joined(torn))
        else:
            self._look_beside(lambda found: self._take_check(found.joined(torn)))

    def _look_beside(self, then: Callable[[Checked], None], more: Callable[[], Checked] | None = None) -> None:
        files = list(self._stored.values())
        look_at(self._bench, files, lambda found: self._guarded(lambda: then(found())), more)

    def _check_pages(self) -> Checked:
        name, known = self._job.name, self._job.known
        if known is None:
            return Checked()
        return Checked(damage=check_pages(self._context, self._bench.storage, name, known, self._settings_digest))

    def _take_check(self, checked: Checked) -> None:
        self._take_whole_check(checked.joined(self._check_pages()))

    def _take_whole_check(self, checked: Checked) -> None:
        job = self._job
        self._note(checked)
        if self._context.plan_only:
            status: Status = "damaged" if checked.damage else "intact"
            self._pass_on(Outcome(job.name, status, told(checked), checked=checked))
        elif checked.damage or job.force:
            self._read()
        else:
            self._answer(Outcome(job.name, "intact"))

    def _note(self, checked: Checked) -> None:
        self._checked = checked
        for damage in checked.damage:
            _LOG.warning("%s: %s is %s", self._job.name, damage.path, damage.what)

    def _answer(self, outcome: Outcome, failed: Collection[str] = ()) -> None:
        outcome = outcome if self._checked is None else judged(outcome, self._checked, failed)
        self._pass_on(outcome._replace(left_out=self._left_out) if self._left_out else outcome)

    def _read(self) -> None:
        reader = PageReader(self._job, self._bench, self._settings_digest, self._guarded)
        reader.start(self._take_page, self._take_answer)

    def _take_answer(self, outcome: Outcome) -> None:
        """There is no page to work with."""
        known = self._job.known
        if outcome.status == "gone" and known is not None and known.page_digest:
            outcome = outcome._replace(dropped=tuple(paths_of(self._stored.values())))
        elif outcome.status == "gone" and self._job.wanted:
            outcome = Outcome(self._job.name, "failed", "upstream has no such project")
        self._answer(outcome)

    def _take_page(self, reading: Reading) -> None:
        if self._job.hidden and reading.page.status != "quarantined" and not self._context.plan_only:
            reveal(self._bench.storage, self._job.hidden)
        is_empty = not reading.page.files and reading.page.status != "quarantined"
        if reading.source.dialect is Dialect.HTML and is_empty and self._stored:
            self._fail("no hashed link on the page of a project that had files")
            return
        if is_empty and self._stored:
            _LOG.info("%s: its page lists no file any more, %d are at rest", self._job.name, len(self._stored))
        if self._context.plan_only and not self._job.check:
            self._left_out = tuple(self._bench.filters.left_out(listing_of(reading)))
        kept = narrowed(reading, self._bench.filters)
        if kept is None:
            self._leave_out(reading)
            return
        self._is_filtered_out = bool(reading.page.files) and not kept.page.files
        reading = kept
        if self._checked is not None:
            self._fetch_files(reading, _damaged(self._checked))
        elif self._job.force and self._stored and self._context.settings.pages.release_files:

            def checked(found: Checked) -> None:
                self._note(found)
                self._fetch_files(reading, _damaged(found))

            self._look_beside(checked)
        else:
            self._fetch_files(reading, frozenset())

    def _leave_out(self, reading: Reading) -> None:
        """Filters leave nothing of the project: it goes as if upstream had removed it, or never comes."""
        known, source = self._job.known, reading.source
        self._answer(
            Outcome(
                self._job.name,
                "denied" if known is not None and known.page_digest else "skipped",
                serial=reading.page.serial,
                etag=source.etag,
                upstream_digest=source.digest(),
                settings_digest=self._settings_digest,
                dialect=source.dialect,
            )
        )

    def _plan(self, reading: Reading, stored: Mapping[str, StoredFile], damaged: Collection[str]) -> ProjectPlan:
        if not self._context.settings.pages.release_files:
            return ProjectPlan([], [], [])
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
        self._bench.fetcher.tally.expect(plan.fetch)
        if self._context.plan_only:
            sizes = [want.size or 0 for want in plan.fetch if want.stored is None]
            self._answer(Outcome(self._job.name, "published", fetched_files=len(sizes), fetched_bytes=sum(sizes)))
        elif needs_pieces(plan.fetch) or (plan.fetch and reading.source.is_heavy):
            self._hand_out(reading, plan.fetch, damaged)
        elif plan.fetch:
            take = partial(self._take_file, reading, len(plan.fetch))
            for want in plan.fetch:
                self._bench.fetcher.fetch(want, take)
        else:
            self._finish(reading)

    def _hand_out(self, reading: Reading, wants: list[Want], damaged: Collection[str]) -> None:
        storage, source = self._bench.storage, reading.source
        page = storage.write_staged(source.body.read())
        legacy = storage.write_staged(source.legacy.read()) if source.legacy.size else ""
        held = Held(
            page, legacy, source.etag, source.dialect, tuple(damaged), Brought(), reading.trouble, self._checked
        )
        pieces = (FilesJob(self._job.name, i, piece) for i, piece in enumerate(in_pieces(wants)))
        self._pass_on(Split(self._job, held, tuple(pieces)))

    def _resume(self) -> None:
        """All pieces are back: plan anew, with what they brought; what they did not bring is not to be had."""
        held = self._job.held
        if held is None:
            return
        page, legacy = (Body(Path(path).read_bytes() if path else b"") for path in (held.page, held.legacy))
        source = Source(page, legacy, held.etag, Dialect(held.dialect))
        reading = narrowed(read_page(self._job, self._context, source), self._bench.filters)
        if reading is None:  # a filter that is not of one mind
            self._fail("filters left out what they had let pass")
            return
        reading = reading._replace(trouble=reading.trouble or held.trouble)
        self._brought = held.brought
        fresh = {file.path: file for file in held.brought.stored}
        mended = {path for file in held.brought.stored for path in (file.path, f"{file.path}.metadata")}
        self._damaged = set(held.damaged) - mended
        plan = self._plan(reading, self._stored | fresh, self._damaged)
        without_metadata = [want.stored._replace(metadata=None) for want in plan.fetch if want.stored is not None]
        self._keep = [file for file in [*plan.keep, *without_metadata] if file.path not in fresh]
        self._finish(reading)

    def _take_file(self, reading: Reading, wanted: int, brought: Brought) -> None:
        self._parts.append(brought)
        if len(self._parts) == wanted:
            self._brought = self._brought.joined(*self._parts)
            self._guarded(lambda: self._finish(reading))

    def _finish(self, reading: Reading) -> None:
        page, brought, context, known = reading.page, self._brought, self._context, self._job.known
        if brought.storage_failure:
            self._fail(brought.failures[-1][1], storage_failure=True)
            return
        failed = {filename for filename, _ in (*page.refused, *brought.failures)}
        at_rest = [*self._keep, *brought.stored]
        listed = {_filename(file): file for file in at_rest}
        is_told = known is not None and known.outcome not in {"failed", "damaged"}
        trusted = context.clean and is_told and self._checked is None and not self._job.force
        staged = stage_pages(
            context, self._bench.storage, page, listed, known, trusted=trusted, legacy=reading.document
        )
        # A stored good copy of what cannot be had any more stays on the disk, though off the page.
        left_out = failed - listed.keys()
        if left_out and context.settings.pages.release_files:
            at_rest += [
                file for file in self._stored.values() if _filename(file) in left_out and file.path not in self._damaged
            ]
        if self._checked is not None and self._checked.damage:
            at_rest = with_unreadable(at_rest, self._stored.values(), self._checked, failed)
        reasons = [f"{filename}: {reason}" for filename, reason in (*page.refused, *brought.failures)]
        if reading.trouble:
            reasons.append(reading.trouble)
        before = set(paths_of(self._stored.values()))
        self._answer(
            Outcome(
                self._job.name,
                "partial" if reasons else "published",
                in_short(reasons),
                page.serial,
                reading.source.etag,
                reading.source.digest(),
                staged.digest,
                self._settings_digest,
                pack_files(at_rest),
                len(at_rest),
                sum(file.size for file in at_rest),
                staged.pages,
                tuple(before - set(paths_of(at_rest))) if before else (),
                page.status == "quarantined",
                brought.shared,
                brought.disputed,
                brought.fetched_files,
                brought.fetched_bytes,
                dialect=reading.source.dialect,
                retired=(*staged.outdated, *self._retired(reading, known)),
                due=reading.due,
                needs=needs_at_rest(context, self._bench.storage, page, listed, self._job.demand),
                filtered_out=self._is_filtered_out,
                missing_files=len(left_out),
                missing_bytes=sum(file.size or 0 for file in page.files if file.filename in left_out),
            ),
            failed,
        )

    def _retired(self, reading: Reading, known: Known | None) -> list[str]:
        """Paths below ``web/`` of what the pages leave behind: other forms, a document that is no more, old names."""
        context, bench, name = self._context, self._bench, self._job.name
        retired: list[str] = []
        if known is not None and known.settings_digest != self._settings_digest:
            retired += retired_paths(context, bench.storage, name)
        if context.settings.pages.legacy_json and reading.document is None and not reading.trouble:
            retired += document_paths(context.tree, name)
        if bench.legacy_names is not None:
            retired += bench.legacy_names.pages(name)
        return retired

    def _fail(self, reason: str, *, storage_failure: bool = False) -> None:
        failed = Outcome(self._job.name, "failed", reason[:REASON_LENGTH], storage_failure=storage_failure)
        brought = self._brought
        self._answer(failed._replace(fetched_files=brought.fetched_files, fetched_bytes=brought.fetched_bytes))


def _damaged(checked: Checked) -> set[str]:
    return {damage.path for damage in checked.damage}


def _filename(file: StoredFile) -> str:
    return file.path.rpartition("/")[2]
