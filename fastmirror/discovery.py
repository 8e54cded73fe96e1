"""What a run has to do: what upstream lists against what the state holds. The control lane, once a run."""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING, NamedTuple

import xxhash

from fastmirror import simple
from fastmirror.errors import PageError, UpstreamError
from fastmirror.filters import project_filter
from fastmirror.planner import plan_sync
from fastmirror.simple_entry import METADATA_KEYS
from fastmirror.transport import Reply, Request
from fastmirror.upstream import (
    PAGE_LIMIT,
    Dialect,
    Tongue,
    dialect_of,
    is_json,
    legacy_url,
    load_root,
    project_url,
    read_root,
    require_usable,
    root_change,
    root_request,
    save_root,
)

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from fastmirror.names import NormalizedName
    from fastmirror.settings import Settings
    from fastmirror.state import State
    from fastmirror.transport.session import Session

_LOG = logging.getLogger(__name__)
# Up to so many projects that are known by name are asked for one by one; the root index is not fetched.
ASKED_ONE_BY_ONE = 500
_TRIES = 4
_BACKOFF_S = 1.0
_PROBES = 5


class Wanted(NamedTuple):
    """What the operator chose to mirror."""

    names: frozenset[NormalizedName] | None  # known by name; None: whatever upstream lists
    by_command: bool  # named on the command line: nothing else is touched

    @property
    def needs_root(self) -> bool:
        """Whether the root index has to be asked for."""
        return self.names is None or len(self.names) > ASKED_ONE_BY_ONE


class Root(NamedTuple):
    """The upstream's root index as it came."""

    reply: Reply
    digest: str  # of the body; of the one applied last if there is no other
    is_new: bool  # other than the one that was applied last


class Found(NamedTuple):
    """What a run has to do."""

    update: dict[NormalizedName, int | None]  # project -> serial to reach, None: whatever upstream has
    remove: list[NormalizedName]  # published, and no longer listed
    serial: int | None  # of the root index; None where there is none
    retries: int  # of the updates: earlier failures

    def narrowed_to(self, names: Container[NormalizedName]) -> Found:
        """Touch only these; nothing else is removed either."""
        return self._replace(update={name: serial for name, serial in self.update.items() if name in names}, remove=[])


def wanted(settings: Settings, projects: Iterable[NormalizedName]) -> Wanted:
    """The names given on the command line, else those of an allowlist, else all."""
    chosen = frozenset(projects)
    if chosen:
        return Wanted(chosen, by_command=True)
    allow = settings.filters.allow
    return Wanted(None if allow is None else allow - settings.filters.block, by_command=False)


class Discovery:
    """The questions that a run asks before it knows what to do."""

    def __init__(
        self, settings: Settings, state: State | None, session: Session, own: str, settings_digest: str
    ) -> None:
        self._settings = settings
        self._master = settings.upstream.master
        self._state = state
        self._session = session
        self._cache = os.path.join(own, "root-index")
        # The root index that was applied last counts only for the same selection and the same pages.
        selection = f"{settings_digest} {sorted(settings.filters.allow or ())} {sorted(settings.filters.block)}"
        self._selection = xxhash.xxh3_128_hexdigest(selection.encode())

    def fetch_root(self, *, trust_cache: bool) -> Root:
        """Ask for the root index. Raises UpstreamError if it cannot be had."""
        applied = self._applied() if trust_cache else {}
        tongue = self._tongue()
        request = root_request(self._master, tongue.dialect if tongue else None, applied.get("root_etag", ""))
        reply = self._get(request)
        require_usable(reply, "root index")
        if reply.status == 304:
            return Root(reply, applied.get("root_digest", ""), is_new=False)
        digest = xxhash.xxh3_128_hexdigest(reply.body)
        return Root(reply, digest, is_new=digest != applied.get("root_digest"))

    def plan_root(self, root: Root, *, trust_cache: bool) -> tuple[Found, Dialect]:
        """Compare what upstream lists with what the state holds."""
        tongue = self._tongue()
        if not root.is_new:
            serial = self._state.get("root_serial") if self._state else None
            if tongue is not None and tongue.dialect is Dialect.SERIALS:
                return Found({}, [], int(serial) if serial else None, 0), tongue.dialect
            return self._plan_whole(root, load_root(self._cache))
        old = load_root(self._cache) if trust_cache and self._applied() and is_json(root.reply) else b""
        change = root_change(old, root.reply.body) if old else None
        if change is None or change.serial is None or self._state is None:
            return self._plan_whole(root, root.reply.body)
        _log_skipped(change.skipped)
        keep = project_filter(self._settings.filters)
        changed = {name: serial for name, serial in change.changed.items() if keep is None or keep(name)}
        published = self._state.serials([*changed, *change.removed])
        plan = plan_sync(changed, [(name, serial) for name, serial in published.items() if name in changed])
        remove = [name for name in change.removed if name in published]
        return Found(plan.update, remove, change.serial, 0), Dialect.SERIALS

    def _plan_whole(self, root: Root, body: bytes) -> tuple[Found, Dialect]:
        reply = root.reply._replace(body=body)
        if root.reply.status == 304:
            kind = simple.JSON_TYPE if body[:80].lstrip().startswith(b"{") else simple.HTML_TYPE
            reply = reply._replace(headers={"content-type": kind})
        index = read_root(reply, f"{self._master}/simple/")
        _log_skipped(index.skipped)
        dialect = dialect_of(reply, index)
        keep = project_filter(self._settings.filters)
        listed = index.projects
        if keep is not None:
            listed = {name: serial for name, serial in listed.items() if keep(name)}
        plan = plan_sync(listed, self._state.every_serial() if self._state else ())
        remove = plan.remove if keep is None else [name for name in plan.remove if name not in index.projects]
        return Found(plan.update, remove, index.serial, 0), dialect

    def plan_names(self, names: Iterable[NormalizedName]) -> Found:
        """Ask for each of these, whatever upstream's serials are."""
        return Found(dict.fromkeys(sorted(names)), [], None, 0)

    def with_retries(self, found: Found, chosen: Wanted, *, retry_failed: bool) -> Found:
        """Add the failed projects whose time has come, and leave out those whose time has not.

        A new serial is tried at once, and so is what was named on the command line.
        """
        if self._state is None or chosen.by_command:
            return found
        now = None if retry_failed else time.time()
        due = self._state.due(now)
        if chosen.names is not None:
            due = {name: serial for name, serial in due.items() if name in chosen.names}
        update = found.update
        waiting = {} if retry_failed else self._state.due(None)
        later = {
            name
            for name, expected in waiting.items()
            if name in update and name not in due and update[name] in (None, expected)
        }
        if later:
            update = {name: serial for name, serial in update.items() if name not in later}
        again = {name: serial for name, serial in due.items() if name not in update}
        return found._replace(update=update | again, retries=len(due))

    def settle_tongue(self, dialect: Dialect | None, names: Iterable[NormalizedName]) -> tuple[Tongue, bool]:
        """How this upstream speaks: (tongue, whether it is settled for good)."""
        known = self._tongue()
        if known is not None:
            return known, True
        for name, _ in zip(names, range(_PROBES), strict=False):
            accept = dialect.accept if dialect else simple.ACCEPT_ANY
            url = project_url(self._master, name)
            request = Request(0, url, (f"Accept: {accept}",), PAGE_LIMIT, compressed=True, sink=None)
            reply = self._get(request, tries=_TRIES if dialect is None else 1)
            if reply.error and dialect is None:
                raise UpstreamError(f"page of {name} cannot be read: {reply.error}")
            if reply.error or reply.status != 200:
                continue
            tongue = self._tongue_of(dialect, name, url, reply)
            if tongue is not None:
                return tongue, True
        return Tongue(dialect or Dialect.JSON, completed=False), False

    def applied(self, root: Root, serial: int | None) -> dict[str, str | None]:
        """Keep a root index that has been applied in full; returns the facts to commit with it."""
        if root.reply.status == 200:
            save_root(self._cache, root.reply.body)
        return {
            "root_digest": root.digest,
            "root_etag": root.reply.headers.get("etag", "") or None,
            "root_serial": str(serial) if serial else None,
            "root_selection": self._selection,
        }

    def _applied(self) -> dict[str, str]:
        state = self._state
        if state is None or state.get("root_selection") != self._selection or not os.path.exists(self._cache):
            return {}
        return {key: state.get(key) or "" for key in ("root_etag", "root_digest")}

    def _tongue(self) -> Tongue | None:
        text = self._state.get("tongue") if self._state else None
        return Tongue.from_text(text) if text else None

    def _tongue_of(self, dialect: Dialect | None, name: NormalizedName, url: str, reply: Reply) -> Tongue | None:
        """What a page tells of its upstream; None if it has nothing to tell by."""
        if dialect is not None and is_json(reply) is (dialect is Dialect.HTML):
            return None
        parse = simple.parse_json_page if is_json(reply) else simple.parse_html_page
        try:
            page = parse(reply.body, name, url, accept_unhashed=True)
        except PageError as error:
            _LOG.warning("%s: %s", name, error)
            return None
        if not is_json(reply):
            dialect = Dialect.HTML
        elif dialect is None:
            dialect = Dialect.SERIALS if page.serial is not None else Dialect.JSON
        wheels = [file for file in page.files if file.filename.endswith(".whl")]
        if not page.files or (dialect is not Dialect.HTML and not wheels):
            return None
        says = any(key in file.keys for file in wheels for key in METADATA_KEYS)
        if says and dialect is not Dialect.HTML:
            return Tongue(dialect, completed=False)
        request = Request(0, legacy_url(self._master, name), (), PAGE_LIMIT, compressed=True, sink=None)
        legacy = self._get(request)
        if legacy.retryable:
            return None
        if legacy.status != 200 or legacy.error:
            return Tongue(dialect, completed=False)
        try:
            simple.with_legacy(page, legacy.body)
        except PageError:
            return Tongue(dialect, completed=False)
        return Tongue(dialect, completed=True)

    def _get(self, request: Request, tries: int = _TRIES) -> Reply:
        for attempt in range(tries):
            reply = self._session.get(request)
            if not reply.retryable or attempt == tries - 1:
                break
            _LOG.info("%s: %s, trying again", request.url, reply.error or f"HTTP status {reply.status}")
            time.sleep(_BACKOFF_S * 2**attempt)
        return reply


def _log_skipped(skipped: list[str]) -> None:
    for reason in skipped[:20]:
        _LOG.warning("root index: %s", reason)
    if len(skipped) > 20:
        _LOG.warning("root index: and %d more entries left out", len(skipped) - 20)
