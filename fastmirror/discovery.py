"""What a run has to do: what upstream lists against what the state holds. The control lane, once a run."""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING, NamedTuple

import xxhash

from fastmirror.errors import UpstreamError
from fastmirror.filters import Filters
from fastmirror.lanes import retry_after_s
from fastmirror.planner import plan_sync
from fastmirror.upstream import (
    Dialect,
    dialect_of,
    etag_of,
    load_root,
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
    from fastmirror.transport import Reply, Request
    from fastmirror.transport.session import Session

_LOG = logging.getLogger(__name__)
# Up to so many projects that are known by name are asked for one by one; the root index is not fetched.
ASKED_ONE_BY_ONE = 500
_TRIES = 4
_BACKOFF_S = 1.0


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
    dialect: Dialect
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
    return Wanted(Filters(settings.filters).names, by_command=False)


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
        self._filters = Filters(settings.filters)
        self._selection = f"{settings_digest}-{self._filters.selection}"

    def dialect(self) -> Dialect | None:
        """How this upstream speaks, if that is settled."""
        text = self._state.get("dialect") if self._state else None
        return Dialect(text) if text else None

    def fetch_root(self, *, trust_cache: bool) -> Root:
        """Ask for the root index. Raises UpstreamError if it cannot be had."""
        applied = self._applied() if trust_cache else {}
        settled = self.dialect()
        limit = self._settings.upstream.limits.root_index
        reply = self._get(root_request(self._master, settled, applied.get("root_etag", ""), limit))
        require_usable(reply, "root index")
        if reply.status == 304:
            return Root(reply, settled or Dialect.JSON, applied.get("root_digest", ""), is_new=False)
        dialect = dialect_of(reply, settled)
        if dialect is None:
            kind = reply.headers.get("content-type", "")
            raise UpstreamError(f"root index is not in this upstream's format: {kind!r:.80}, expected {settled}")
        digest = xxhash.xxh3_128_hexdigest(reply.body)
        return Root(reply, dialect, digest, is_new=digest != applied.get("root_digest"))

    def plan_root(self, root: Root, *, trust_cache: bool) -> Found:
        """Compare what upstream lists with what the state holds."""
        if not root.is_new:
            serial = self._state.get("root_serial") if self._state else None
            if serial:
                return Found({}, [], int(serial), 0)
            return self._plan_whole(root.dialect, load_root(self._cache))
        old = load_root(self._cache) if trust_cache and self._applied() and root.dialect is Dialect.JSON else b""
        change = root_change(old, root.reply.body) if old else None
        if change is None or change.serial is None or self._state is None:
            return self._plan_whole(root.dialect, root.reply.body)
        _log_skipped(change.skipped)
        changed = self._kept(change.changed)
        published = self._state.serials([*changed, *change.removed])
        plan = plan_sync(changed, [(name, serial) for name, serial in published.items() if name in changed])
        remove = [name for name in change.removed if name in published]
        return Found(plan.update, remove, change.serial, 0)

    def _plan_whole(self, dialect: Dialect, body: bytes) -> Found:
        index = read_root(body, dialect, f"{self._master}/simple/")
        _log_skipped(index.skipped)
        plan = plan_sync(self._kept(index.projects), self._state.every_serial() if self._state else ())
        remove = [name for name in plan.remove if name not in index.projects]
        return Found(plan.update, remove, index.serial, 0)

    def with_everything(self, found: Found, chosen: Wanted, *, check_id: int | None) -> Found:
        """Add every project that is held: for pages of another form, or a forced check.

        `check_id` is the check's, which leaves out what it has seen already; None: no check.
        """
        if self._state is None:
            return found
        if check_id is None or chosen.by_command:
            names = [name for name, _ in self._state.every_serial()]
        else:
            names = self._state.unchecked(check_id)
        if chosen.names is not None:
            names = [name for name in names if name in chosen.names]
        serials = self._state.serials(names) if found.serial is not None else {}
        leave = {*found.update, *found.remove}
        return found._replace(update=found.update | {name: serials.get(name) for name in names if name not in leave})

    def _kept(self, projects: dict[NormalizedName, int | None]) -> dict[NormalizedName, int | None]:
        if not self._filters.selects:
            return projects
        return {name: serial for name, serial in projects.items() if self._filters.keeps(name)}

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
        if self._filters.selects:
            wanted_by_name = self._state.wanted_by_name()
            due = {name: serial for name, serial in due.items() if name in wanted_by_name or self._filters.keeps(name)}
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
        again = {name: serial for name, serial in due.items() if name not in update and name not in found.remove}
        return found._replace(update=update | again, retries=len(due))

    def applied(self, root: Root, serial: int | None) -> dict[str, str | None]:
        """Keep a root index that has been applied in full; returns the facts to commit with it."""
        if root.reply.status == 200:
            save_root(self._cache, root.reply.body)
        return {
            "root_digest": root.digest,
            "root_etag": etag_of(root.reply) or None,
            "root_serial": str(serial) if serial else None,
            "root_selection": self._selection,
        }

    def _applied(self) -> dict[str, str]:
        state = self._state
        if state is None or state.get("root_selection") != self._selection or not os.path.exists(self._cache):
            return {}
        return {key: state.get(key) or "" for key in ("root_etag", "root_digest")}

    def _get(self, request: Request) -> Reply:
        for attempt in range(_TRIES):
            reply = self._session.get(request)
            if not reply.retryable or attempt == _TRIES - 1:
                break
            _LOG.info("%s: %s, trying again", request.url, reply.error or f"HTTP status {reply.status}")
            time.sleep(max(_BACKOFF_S * 2**attempt, retry_after_s(reply)))
        return reply


def _log_skipped(skipped: list[str]) -> None:
    for reason in skipped[:20]:
        _LOG.warning("root index: %s", reason)
    if len(skipped) > 20:
        _LOG.warning("root index: and %d more entries left out", len(skipped) - 20)
