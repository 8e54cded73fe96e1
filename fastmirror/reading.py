"""One project's page, read: asked for, asked again while it is stale, completed by the legacy API, narrowed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from fastmirror import legacy, simple
from fastmirror.errors import PageError
from fastmirror.filters import Filters, Listing
from fastmirror.gathering import Body, Gathering
from fastmirror.lanes import Lane, Lanes, failure_reason
from fastmirror.model import File, Outcome, Page, ProjectJob
from fastmirror.simple_entry import METADATA_KEYS
from fastmirror.transport import Reply, Request
from fastmirror.upstream import Dialect, accept, dialect_of, etag_of, legacy_url, project_url
from fastmirror.weight import page_weight

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fastmirror.fetcher import Fetcher
    from fastmirror.hands import Hands
    from fastmirror.legacy_names import LegacyNames
    from fastmirror.model import Demand, Known
    from fastmirror.pages import Context
    from fastmirror.sink import SideThread
    from fastmirror.storage import Storage

_STALE_WAITS_S = (1.0, 2.0, 4.0)
_BELIEVED_TRIES = 9  # as failures are spaced, more than a day
# A page of fewer bytes is light whatever is in it.
_LIGHT_BYTES = 64 << 10
# A heavier page is read again when its files are there.
_HELD_WEIGHT = 2 << 20
# An upstream whose legacy API has nothing for so many projects, and something for none, is not asked any more.
_LEGACY_MISSES = 20


class LegacyApi:
    """Whether the upstream's legacy API is worth asking; one for all of a worker's jobs."""

    def __init__(self) -> None:
        self._misses = 0
        self._hits = 0

    @property
    def is_worth_asking(self) -> bool:
        """Whether it answered at all, or was asked but a few times."""
        return self._hits > 0 or self._misses < _LEGACY_MISSES

    def note(self, *, answered: bool) -> None:
        """It was asked."""
        self._hits += answered
        self._misses += not answered


class Bench(NamedTuple):
    """What a worker works with."""

    context: Context
    lanes: Lanes
    storage: Storage
    side: SideThread
    fetcher: Fetcher
    legacy: LegacyApi
    filters: Filters
    legacy_names: LegacyNames | None  # None: they stay as they are
    hands: Hands | None = None  # for what waits for a remote storage; None: it is here


class Source(NamedTuple):
    """What upstream answered, as it came: enough to read the page again, later or elsewhere."""

    body: Body
    legacy: Body  # the legacy JSON document; empty if there is none
    etag: str
    dialect: Dialect

    def digest(self) -> str:
        """Of the page."""
        return self.body.digest()

    @property
    def weight(self) -> int:
        """Bytes of memory that it takes, at most, while it is worked on."""
        page = page_weight(self.body.pieces(), html=self.dialect is Dialect.HTML)
        return page + page_weight(self.legacy.pieces(), html=False)

    @property
    def is_heavy(self) -> bool:
        """Whether it takes so much memory that many like it cannot be held while their files are on the way."""
        return self.body.size + self.legacy.size > _LIGHT_BYTES and self.weight > _HELD_WEIGHT


class Reading(NamedTuple):
    """A page that can be worked with."""

    page: Page
    source: Source
    trouble: str  # what keeps it from being whole, "" if nothing does
    unpromised: frozenset[str] = frozenset()  # files whose core metadata only the legacy API offers
    document: Mapping[str, Any] | None = None  # of the legacy API, parsed, if there is one that can be used
    demand: Demand | None = None  # what other projects require of it
    due: float | None = None  # epoch seconds when time alone lets in a file that filters hold back


def read_page(job: ProjectJob, context: Context, source: Source) -> Reading:
    """Parse what upstream answered. Raises PageError if it is no page of this project, or more than may be held."""
    most = context.settings.upstream.limits.page_memory
    if source.body.size + source.legacy.size > _LIGHT_BYTES and source.weight > most:
        raise PageError(f"page: takes more memory than allowed ({most} bytes, hint: max-page-memory)")
    upstream, pages = context.settings.upstream, context.settings.pages
    url = project_url(upstream.master, job.name)
    parse = simple.parse_html_page if source.dialect is Dialect.HTML else simple.parse_json_page
    # What is not stored is not hashed either: there is no sha256 to state but upstream's.
    page = parse(
        source.body.read(), job.name, url, accept_unhashed=upstream.unhashed == "accept" and pages.release_files
    )
    reading = Reading(page, source, _staleness(page, job.serial), demand=job.demand)
    if not source.legacy.size:
        return reading
    try:
        document = legacy.read_document(source.legacy.read(), job.name)
    except PageError as error:
        return reading._replace(trouble=f"legacy JSON: {error}")
    if not _leaves_out(reading, pages.digest_name):
        return reading._replace(document=document)
    completed = legacy.complete(page, document, pages.digest_name)
    offered = {file.filename for file in page.files if file.metadata is not None}
    unpromised = frozenset(file.filename for file in completed.files if file.metadata is not None) - offered
    return Reading(completed, source, _staleness(completed, job.serial), unpromised, document, job.demand)


def narrowed(reading: Reading, filters: Filters) -> Reading | None:
    """What the filters leave of a page; None if they leave nothing of the project.

    An entry that cannot be mirrored is no failure where they would not have it in any case.
    """
    page = reading.page
    listing = listing_of(reading)
    kept = filters.narrow(listing)
    lacking = filters.refusals(listing)
    if kept is None or (kept is listing and not lacking):
        return reading if kept is not None else None
    keys = {key: value for key, value in page.keys.items() if key != "versions"}
    if kept.versions is not None:
        keys["versions"] = list(kept.versions)
    refused = page.refused
    if refused:
        unread = [File(name, "", "sha256", "", None, None, {"filename": name}) for name, _ in refused]
        again = filters.narrow(listing._replace(files=[*page.files, *unread]))
        names = {file.filename for file in again.files} if again is not None else set()
        refused = [(name, reason) for name, reason in refused if name in names]
    narrow = page._replace(files=list(kept.files), refused=[*refused, *lacking], keys=keys)
    return reading._replace(page=narrow, due=filters.due(listing))


def listing_of(reading: Reading) -> Listing:
    """A page as filters see it."""
    page = reading.page
    return Listing(page.name, page.files, page.keys.get("versions"), reading.document, reading.demand)


def _staleness(page: Page, expected: int | None) -> str:
    """How a page is older than the serial that the root index gives; empty if it is not."""
    if expected is None or page.serial is None or page.serial >= expected:
        return ""
    return f"stale page: serial {page.serial}, expected {expected}"


class PageReader:
    """Reads one project's page; ends by calling `done`, or `answer` if that is all there is to say."""

    def __init__(
        self,
        job: ProjectJob,
        bench: Bench,
        settings_digest: str,
        guarded: Callable[[Callable[[], None]], None],
    ) -> None:
        self._job = job
        self._context = bench.context
        self._lanes = bench.lanes
        self._legacy = bench.legacy
        self._open_file = bench.storage.open_unnamed
        self._settings_digest = settings_digest  # of this project's row, were it recorded now
        self._guarded = guarded
        self._filters_by_document = bench.filters.needs_document
        self._needs_document = self._filters_by_document or bench.context.settings.pages.legacy_json
        self._stale_tries = 0

    def start(self, done: Callable[[Reading], None], answer: Callable[[Outcome], None]) -> None:
        """Ask; `done` and `answer` are called, and errors raised, within `guarded`."""
        self._done = done
        self._answer = answer
        self._ask()

    def _ask(self) -> None:
        url = project_url(self._context.settings.upstream.master, self._job.name)
        headers = [f"Accept: {accept(self._context.dialect)}"]
        known = self._job.known
        if known is not None and known.etag and self._is_current():
            headers.append(f"If-None-Match: {known.etag}")
        self._get(url, tuple(headers), self._take_page)

    def _get(self, url: str, headers: tuple[str, ...], take: Callable[[Reply, Gathering], None]) -> None:
        limit = self._context.settings.upstream.limits.page
        # A cache keeps a page packed and as it is apart: one may be stale for long while the other is not.
        packed = self._stale_tries % 2 == 0
        gathering = Gathering(self._open_file)

        def request(token: int) -> Request:
            nonlocal gathering
            gathering = Gathering(self._open_file)
            return Request(token, url, headers, limit, compressed=packed, sink=gathering, is_page=True)

        self._lanes.get(Lane.INDEX, request, lambda reply: self._guarded(lambda: take(reply, gathering)))

    def _is_current(self) -> bool:
        """Whether what is published would still be right if upstream's page were the same."""
        job, known = self._job, self._job.known
        return (
            known is not None
            and not (job.force or job.check)
            and known.outcome == "published"
            and known.settings_digest == self._settings_digest
            and bool(known.page_digest)
            and (job.serial is None or job.serial == known.serial)
            and self._context.clean
        )

    def _take_page(self, reply: Reply, gathering: Gathering) -> None:
        name, known = self._job.name, self._job.known
        if reply.error or reply.status not in (200, 304, 404):
            reason = f"page: {failure_reason(reply)}"
            self._answer(Outcome(name, "failed", reason, unreachable=not reply.status))
        elif reply.status == 404:
            self._answer(Outcome(name, "gone"))
        elif reply.status == 304 and known is not None:
            self._answer(Outcome(name, "unchanged", serial=known.serial, etag=known.etag))
        else:
            self._take_body(reply, gathering.body())

    def _take_body(self, reply: Reply, body: Body) -> None:
        dialect = dialect_of(reply, self._context.dialect)
        if dialect is None:
            raise PageError(f"page: not in this upstream's format: {reply.headers.get('content-type', '')!r:.80}")
        source = Source(body, Body(), etag_of(reply), dialect)
        known = self._job.known
        if known is not None and self._is_current() and source.digest() == known.upstream_digest:
            outcome = Outcome(self._job.name, "unchanged", serial=known.serial, etag=source.etag, dialect=dialect)
            self._answer(outcome)
            return
        reading = read_page(self._job, self._context, source)
        if self._is_stale(reading):
            return
        leaves_out = self._legacy.is_worth_asking and _leaves_out(reading, self._context.settings.pages.digest_name)
        if self._needs_document or leaves_out:
            self._ask_legacy(source)
        else:
            self._done(reading)

    def _is_stale(self, reading: Reading) -> bool:
        """Ask again for a page older than the root index says, some times; then take what is news to us."""
        known = self._job.known
        reason = _staleness(reading.page, self._job.serial)
        if not reason:
            return False
        is_news = known is None or _is_news(reading, known)
        if known is not None and not is_news and not self._job.sweep and _is_believed(known, self._job.serial):
            self._answer(Outcome(self._job.name, "stale", reason))
            return True
        if self._stale_tries < len(_STALE_WAITS_S) and not self._job.sweep:
            self._lanes.after(_STALE_WAITS_S[self._stale_tries], lambda: self._guarded(self._ask))
            self._stale_tries += 1
            return True
        if not is_news:
            raise PageError(reason)
        return False

    def _ask_legacy(self, source: Source) -> None:
        """Ask for the document; the page is read again with it: many are not held while they wait."""
        url = legacy_url(self._context.settings.upstream.master, self._job.name)
        self._get(url, ("Accept: application/json",), lambda *answer: self._take_legacy(source, *answer))

    def _take_legacy(self, source: Source, reply: Reply, gathering: Gathering) -> None:
        is_refused = self._needs_document and reply.status not in (200, 404, 410)
        if reply.error or reply.retryable or is_refused:
            reading = read_page(self._job, self._context, source)
            self._end(reading._replace(trouble=f"legacy JSON: {failure_reason(reply)}"))
            return
        self._legacy.note(answered=reply.status == 200)
        if reply.status != 200:
            self._done(read_page(self._job, self._context, source))
            return
        reading = read_page(self._job, self._context, source._replace(legacy=gathering.body()))
        if not self._needs_document:
            self._done(reading)
        elif reading.document is None:
            self._end(reading)
        elif not (reason := _document_staleness(reading)):
            self._done(reading)
        elif self._stale_tries < len(_STALE_WAITS_S):
            wait_s = _STALE_WAITS_S[self._stale_tries]
            self._stale_tries += 1
            self._lanes.after(wait_s, lambda: self._guarded(lambda: self._ask_legacy(source)))
        else:
            self._done(reading._replace(trouble=reading.trouble or reason))

    def _end(self, reading: Reading) -> None:
        """Go on without a document that there may be, unless a filter would decide without it."""
        if self._filters_by_document:
            raise PageError(reading.trouble)
        self._done(reading)


def _is_news(reading: Reading, known: Known) -> bool:
    """Whether a page is newer than what is held, or another under the same serial: an index may count wrongly."""
    serial, held = reading.page.serial or 0, known.serial or -1
    return serial > held or (serial == held and reading.source.digest() != known.upstream_digest)


def _is_believed(known: Known, expected: int | None) -> bool:
    """Whether a page that is published has stayed older than this serial for so long that nothing newer may exist."""
    return bool(known.page_digest) and known.tries >= _BELIEVED_TRIES and known.expected == expected


def _document_staleness(reading: Reading) -> str:
    """How the legacy JSON document is older than the page; empty if it is not."""
    serial = legacy.serial_of(reading.document or {})
    if serial is None or reading.page.serial is None or serial >= reading.page.serial:
        return ""
    return f"stale legacy JSON: serial {serial}, expected {reading.page.serial}"


def _leaves_out(reading: Reading, digest_name: str) -> bool:
    """Whether a page says less than the legacy API may.

    All HTML does, and JSON without a word of core metadata, or without the digest that pages are to state.
    """
    page = reading.page
    if reading.source.dialect is Dialect.HTML:
        return bool(page.files)
    if digest_name != "sha256" and any(digest_name not in file.keys["hashes"] for file in page.files):
        return True
    wheels = [file for file in page.files if file.filename.endswith(".whl")]
    return bool(wheels) and not any(key in file.keys for file in wheels for key in METADATA_KEYS)
