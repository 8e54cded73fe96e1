"""Questions about a mirror that change nothing: what a run would do, how it stands, what its tree is."""

from __future__ import annotations

import logging
import os
import time
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from fastmirror.backend import open_storage
from fastmirror.closure import Closure
from fastmirror.damage import is_marked
from fastmirror.discovery import Discovery
from fastmirror.errors import MirrorError, SettingsError, StorageError
from fastmirror.execution import CHUNK
from fastmirror.filters import Filters
from fastmirror.history import past_runs
from fastmirror.mirror import LAST_MODIFIED
from fastmirror.model import LeftOut, ProjectJob
from fastmirror.pages import Context
from fastmirror.planner import in_chunks
from fastmirror.removal import is_held_back
from fastmirror.settings import Settings, fingerprint
from fastmirror.simple import RENDERER_VERSION
from fastmirror.state import State
from fastmirror.summary import FAILURES_TOLD, Failure, Gap
from fastmirror.transport.control import ControlLane
from fastmirror.tree import settle_tree, state_path
from fastmirror.upstream import with_netrc
from fastmirror.wanted import wanted
from fastmirror.worker import run_inline

if TYPE_CHECKING:
    from fastmirror.layout import Tree
    from fastmirror.mirror import RunOptions
    from fastmirror.names import NormalizedName
    from fastmirror.progress import Progress
    from fastmirror.storage import Storage

_LOG = logging.getLogger(__name__)
LARGEST_TOLD = 10


class PlannedRun(NamedTuple):
    """What a run would do."""

    update: int
    names: tuple[str, ...]  # of the updates
    remove: tuple[str, ...]  # those no longer selected first
    held: bool  # the deletion guard would hold the removals
    retry: int  # of the updates: earlier failures
    files: int | None  # to fetch, where they were asked for
    bytes: int | None
    complete: bool  # upstream's list was read
    failed: int = 0  # pages that could not be read, where files were asked for
    denied: tuple[str, ...] = ()  # of the removals: no longer selected
    sweep: int = 0  # asked for beside these, though nothing says that they have changed
    left_out: tuple[LeftOut, ...] = ()  # of the pages read: by each filter itself, and by all together
    gaps: tuple[Gap, ...] = ()  # in the dependencies, as far as they are known


class Large(NamedTuple):
    """One of the projects that take the most room."""

    name: str
    files: int
    bytes: int


class MirrorStatus(NamedTuple):
    """How a mirror stands."""

    directory: str
    layout: str
    projects: int
    files: int
    bytes: int
    serial: int | None
    last_run: dict[str, Any] | None  # started, finished (ISO 8601, UTC), exit_status, and the run's summary
    failures: tuple[Failure, ...]
    failing: int
    doomed: int  # files that no page names, not yet unlinked
    clean: bool  # the last run ended in order
    hidden: int = 0  # files kept, though not under web/
    kept: int = 0  # projects served though upstream removed them
    unwanted: int = 0  # projects that were deleted by command, and are not mirrored
    as_of: str | None = None  # when the last whole run began that finished (ISO 8601, UTC): as fresh as that it is
    lag_s: float | None = None  # seconds since then
    oldest_verified: str | None = None  # the longest time ago that a project's files were hashed where they lie
    never_verified: int = 0  # projects whose files were not, since they were fetched
    missing: int = 0  # projects that should have a page, and have none
    missing_files: int = 0  # of the others, that could not be had
    missing_bytes: int = 0  # of these files, where upstream says
    upstream_serial: int | None = None  # the last that a run has seen
    largest: tuple[Large, ...] = ()
    history_damaged: bool = False  # some of the runs are told without their figures, or not at all
    state_damaged: bool = False  # a run found the state damaged, and the next one makes it anew
    past: tuple[dict[str, Any], ...] = ()  # the runs that are remembered, the last one first; as past_runs tells them


def _open_state(settings: Settings) -> State | None:
    path = state_path(settings.storage.directory)
    return State(path, read_only=True) if os.path.exists(path) else None


def plan_run(settings: Settings, options: RunOptions, *, with_files: bool, progress: Progress) -> PlannedRun:
    """Say what a run would do; nothing is written, and only pages are fetched, and those only `with_files`."""
    settings = replace(settings, upstream=with_netrc(settings.upstream))
    state = _open_state(settings)
    storage = open_storage(settings.storage)
    try:
        tree = settle_tree(settings, state, storage)
        digest = fingerprint(settings, RENDERER_VERSION)
        filters = Filters(settings.filters)
        closure = Closure(settings.filters, filters, state, options.projects, digest)
        chosen = wanted(filters, options.projects, state, closure)
        discovery = Discovery(settings, filters, state, ControlLane(settings), storage.own, closure)
        trust_cache = state is not None and state.get("clean") == "1"
        root = discovery.fetch_root(trust_cache=trust_cache) if chosen.needs_root else None
        check_id = None
        if options.force_check:
            check_id = int((state.get("force_check_run") if state is not None else None) or 0)
        found = discovery.plan(
            chosen, root, trust_cache=trust_cache, check_id=check_id, retry_failed=options.retry_failed
        )
        cost = None
        if with_files:
            dialect = root.dialect if root is not None else discovery.dialect()
            context = Context(
                settings, dialect, tree, digest, clean=True, debug=options.debug, plan_only=True, moment=time.time()
            )
            cost = _cost(context, found.update, closure, state, progress)
        held = state is not None and is_held_back(found, settings, state)
        names, denied = tuple(sorted(found.update)), tuple(sorted(found.denied))
        remove = (*denied, *sorted(found.remove))
        complete = chosen.needs_root
        sweep = len(found.sweep.projects)
        planned = PlannedRun(
            *(len(names), names, remove, held, found.retries, None, None, complete),
            denied=denied,
            sweep=sweep,
            gaps=tuple(closure.gaps()),
        )
        return planned if cost is None else planned._replace(**cost._asdict())
    finally:
        if state is not None:
            state.close()


class _Cost(NamedTuple):
    """What the pages of the updates say, as in PlannedRun."""

    files: int
    bytes: int
    failed: int
    left_out: tuple[LeftOut, ...]


def _cost(
    context: Context,
    update: dict[NormalizedName, int | None],
    closure: Closure,
    state: State | None,
    progress: Progress,
) -> _Cost:
    progress.plan(len(update))
    files = size = failed = 0
    left_out: dict[str, LeftOut] = {}
    for names in in_chunks(update, CHUNK):
        # All of each page counts, not only what is new: what filters leave out is told of the whole.
        held = state.known(names) if state else {}
        known = {name: one._replace(etag="", upstream_digest="") for name, one in held.items()}
        demands = closure.demands
        jobs = [
            ProjectJob(name, update[name], known.get(name), wanted=False, force=False, demand=demands.get(name))
            for name in names
        ]
        for outcome in run_inline(context, jobs):
            files += outcome.fetched_files
            size += outcome.fetched_bytes
            failed += outcome.status == "failed"
            for one in outcome.left_out:
                before = left_out.get(one.filter, LeftOut(one.filter, 0, 0))
                left_out[one.filter] = LeftOut(one.filter, before.files + one.files, before.bytes + one.bytes)
            progress.advance(1, outcome.fetched_files, outcome.fetched_bytes, int(outcome.status == "failed"))
    return _Cost(files, size, failed, tuple(sorted(left_out.values())))


def read_status(settings: Settings) -> MirrorStatus:
    """Say how complete and how fresh the mirror is."""
    state = _open_state(settings)
    storage = open_storage(settings.storage)
    tree = settle_tree(settings, state, storage)
    directory = settings.storage.directory
    if state is None:
        return MirrorStatus(directory, str(tree.layout), 0, 0, 0, None, None, (), 0, 0, clean=False)
    try:
        totals = state.totals()
        past = past_runs(state)
        last_run = (
            past.runs[0] | {key: _iso(past.runs[0][key]) for key in ("started", "finished")} if past.runs else None
        )
        seen = (run.get("serial") for run in past.runs)
        serial = state.get("root_serial")
        as_of = _last_modified(storage)
        return MirrorStatus(
            directory,
            str(tree.layout),
            totals.projects,
            totals.files,
            totals.bytes,
            int(serial) if serial else state.greatest_serial(),
            last_run,
            tuple(Failure(failing.name, failing.reason, failing.next_try) for failing in state.failing(FAILURES_TOLD)),
            totals.failing,
            totals.doomed,
            state.get("clean") == "1",
            totals.hidden,
            totals.kept,
            len(state.select("select name from unwanted")),
            _iso(as_of),
            None if as_of is None else max(0.0, time.time() - as_of),
            _iso(state.oldest_verification()),
            totals.unverified,
            totals.missing,
            totals.missing_files,
            totals.missing_bytes,
            next((serial for serial in seen if isinstance(serial, int)), None),
            tuple(Large(*row) for row in state.largest(LARGEST_TOLD)),
            past.damaged,
            is_marked(state_path(directory)),
            tuple(past.runs),
        )
    finally:
        state.close()


def open_tree(settings: Settings) -> Tree:
    """The tree of an existing mirror."""
    state = _open_state(settings)
    try:
        storage = open_storage(settings.storage)
        return settle_tree(settings, state, storage)
    finally:
        if state is not None:
            state.close()


def published_serial(settings: Settings, name: NormalizedName) -> int | None:
    """The serial of what is published of a project; None where the state does not know it, or cannot be asked."""
    try:
        state = _open_state(settings)
        if state is None:
            return None
        with closing(state):
            return state.serials((name,)).get(name)
    except MirrorError:
        return None


def check_settings(settings: Settings) -> None:
    """Raises SettingsError for what cannot be used here: a file that cannot be read, a tree that was made otherwise."""
    named = {
        "ca-bundle": settings.upstream.ca_bundle,
        "netrc": settings.upstream.netrc,
        "log-config": settings.log.config,
    }
    for key, path in named.items():
        if path is not None and not os.access(path, os.R_OK):
            raise SettingsError(f"[mirror] {key}: {path!r}: expected a file that can be read")
    open_tree(settings)


def _last_modified(storage: Storage) -> float | None:
    """What ``web/last-modified`` says, in seconds since the epoch; None if it says nothing, or cannot be read."""
    try:
        text = (storage.read("last-modified") or b"").decode("ascii", "replace").strip()
    except StorageError as error:
        _LOG.warning("how fresh the mirror is cannot be read: %s", error)
        return None
    try:
        return datetime.strptime(text, LAST_MODIFIED).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def _iso(moment: float | None) -> str | None:
    return None if moment is None else datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")
