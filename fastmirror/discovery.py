"""What a run has to do: what upstream lists against what the state holds. The control lane, once a run."""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING, NamedTuple

import xxhash

from fastmirror.errors import UpstreamError
from fastmirror.following import facts_of_whole, follow
from fastmirror.lanes import failure_reason, retry_after_s
from fastmirror.planner import plan_sync
from fastmirror.schema import COME_DUE
from fastmirror.sweep import Sweep, plan_sweep
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
    settled_dialect,
)
from fastmirror.weight import index_weight

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence

    from fastmirror.closure import Closure
    from fastmirror.filters import Filters
    from fastmirror.names import NormalizedName
    from fastmirror.settings import Settings
    from fastmirror.state import State
    from fastmirror.transport import Reply, Request
    from fastmirror.transport.control import ControlLane
    from fastmirror.wanted import Wanted

_LOG = logging.getLogger(__name__)
_TRIES = 4
_BACKOFF_S = 1.0
_LIGHT_BYTES = 1 << 20  # of a root index that is not worth weighing
# What never had a page, or has none upstream any more, has no shape to change.
_SHAPES = """
select name, serial, settings_digest from project
where outcome <> 'gone' and not (outcome = 'failed' and settings_digest = '')
"""


class Root(NamedTuple):
    """The upstream's root index as it came."""

    reply: Reply
    dialect: Dialect
    digest: str  # of the body; of the one applied last if there is no other
    is_new: bool  # other than the one that was applied last
    is_whole: bool = True  # as upstream has it; not made from what its feed says has changed


class Found(NamedTuple):
    """What a run has to do."""

    update: dict[NormalizedName, int | None]  # project -> serial to reach, None: whatever upstream has
    remove: list[NormalizedName]  # published, and no longer listed
    serial: int | None  # of the root index; None where there is none
    retries: int  # of the updates: earlier failures
    denied: Sequence[NormalizedName] = ()  # held, and no longer selected
    sweep: Sweep = Sweep({}, "")  # asked for beside all this

    def narrowed_to(self, names: Container[NormalizedName]) -> Found:
        """Touch only these; nothing else is removed either."""
        update = {name: serial for name, serial in self.update.items() if name in names}
        return self._replace(update=update, remove=[], denied=())

    @property
    def asked(self) -> int:
        """How many projects upstream is asked for."""
        return len(self.update) + len(self.remove) + len(self.sweep.projects)

    @property
    def touched(self) -> set[NormalizedName]:
        """Every project that the run does something about, but for the sweep."""
        return {*self.update, *self.remove, *self.denied}


class Discovery:
    """The questions that a run asks before it knows what to do."""

    def __init__(
        self,
        settings: Settings,
        filters: Filters,
        state: State | None,
        control: ControlLane,
        own: str,
        closure: Closure,
    ) -> None:
        """`own` is the directory that is ours."""
        self._master = settings.upstream.master
        self._root_limit = settings.upstream.limits.root_index
        self._root_memory = settings.upstream.limits.root_memory
        self._sweep = settings.run.sweep
        self._state = state
        self._control = control
        self._cache = os.path.join(own, "root-index")
        self._filters = filters
        self._closure = closure
        self.shape = filters.shape_of_all(closure.base)
        # What was applied last counts only for the same selection.
        self.selection = f"{filters.selection}-{settings.storage.removed_projects}{'-closed' * bool(closure)}"
        self._unwanted = {name for (name,) in state.select("select name from unwanted")} if state is not None else set()
        self._survivors = state.wanted_by_name() if filters.selects and state is not None else set()
        self._survivors |= closure.dependencies
        self._displays: dict[NormalizedName, str] | None = {} if filters.needs_display else None

    def dialect(self) -> Dialect | None:
        """How this upstream speaks, if that is settled."""
        return settled_dialect(self._state, self._master)

    def fetch_root(self, *, trust_cache: bool) -> Root:
        """Ask for the root index. Raises UpstreamError if it cannot be had."""
        applied = self._applied() if trust_cache else {}
        settled = self.dialect()
        followed = follow(self._control.get, self._master, self._cache, applied)
        is_whole = followed is None
        request = root_request(self._master, settled, applied.get("root_etag", ""), self._root_limit)
        reply = followed or self._get(request)
        require_usable(reply, "root index")
        if reply.status == 304:
            return Root(reply, settled or Dialect.JSON, applied.get("root_digest", ""), is_new=False, is_whole=is_whole)
        dialect = dialect_of(reply, settled)
        if dialect is None:
            kind = reply.headers.get("content-type", "")
            raise UpstreamError(f"root index is not in this upstream's format: {kind!r:.80}, expected {settled}")
        digest = xxhash.xxh3_128_hexdigest(reply.body)
        return Root(reply, dialect, digest, is_new=digest != applied.get("root_digest"), is_whole=is_whole)

    def plan(
        self, chosen: Wanted, root: Root | None, *, trust_cache: bool, check_id: int | None, retry_failed: bool
    ) -> Found:
        """All that a run has to do about the chosen projects; `root` is None where they need none.

        `check_id` is that of the --force-check under way, if there is one.
        """
        found = self._plan_names(chosen) if root is None else self._plan_root(root, trust_cache=trust_cache)
        if root is not None and chosen.by_command:
            found = found.narrowed_to(chosen.names or frozenset())
        if check_id is not None:
            found = self._with_everything(found, chosen, check_id=check_id)
        found = self._with_unwanted(self._with_come_due(self._with_reshaped(found, chosen), chosen), chosen)
        found = self._with_retries(self._with_required(found, chosen), chosen, retry_failed=retry_failed)
        may_sweep = root is not None and root.is_new and trust_cache and check_id is None and not chosen.by_command
        return self._with_sweep(found) if may_sweep else found

    def _plan_root(self, root: Root, *, trust_cache: bool) -> Found:
        """Compare what upstream lists with what the state holds."""
        if not root.is_new:
            serial = self._state.get("root_serial") if self._state else None
            if serial:
                return Found({}, [], int(serial), 0)
            return self._plan_whole(root.dialect, load_root(self._cache))
        old = load_root(self._cache) if trust_cache and self._applied() and root.dialect is Dialect.JSON else b""
        change = root_change(old, root.reply.body, self._displays, memory=self._root_memory) if old else None
        if change is None or change.serial is None or self._state is None:
            return self._plan_whole(root.dialect, root.reply.body)
        _log_skipped(change.skipped)
        changed = self._kept(change.changed)
        published = self._state.serials([*change.changed, *change.removed])
        plan = plan_sync(changed, [(name, serial) for name, serial in published.items() if name in changed])
        remove = [name for name in change.removed if name in published]
        denied = [name for name in change.changed if name in published and name not in changed]
        return Found(plan.update, remove, change.serial, 0, denied)

    def _plan_whole(self, dialect: Dialect, body: bytes) -> Found:
        if len(body) > _LIGHT_BYTES and index_weight(body, html=dialect is Dialect.HTML) > self._root_memory:
            raise UpstreamError(
                f"root index takes more memory than allowed ({self._root_memory} bytes, hint: max-root-memory)"
            )
        index = read_root(body, dialect, f"{self._master}/simple/", self._displays)
        _log_skipped(index.skipped)
        if index.serial is None:
            _LOG.info("root index: without serials, so every project is asked for, by its ETag where it has one")
        plan = plan_sync(self._kept(index.projects), self._state.every_serial() if self._state else ())
        denied = {name for name in plan.remove if name in index.projects or not self._selects(name)}
        remove = [name for name in plan.remove if name not in denied]
        return Found(plan.update, remove, index.serial, 0, sorted(denied))

    def _with_everything(self, found: Found, chosen: Wanted, *, check_id: int) -> Found:
        """Add every project that is held, for a forced check; `check_id` leaves out what it has seen already."""
        if self._state is None:
            return found
        if chosen.by_command:
            names = [name for name, _ in self._state.every_serial()]
        else:
            names = self._state.unchecked(check_id)
            found = self._without_checked(found, names)
        if chosen.names is not None:
            names = [name for name in names if name in chosen.names]
        serials = self._state.serials(names) if found.serial is not None else {}
        leave = found.touched
        return found._replace(update=found.update | {name: serials.get(name) for name in names if name not in leave})

    def _without_checked(self, found: Found, unchecked: Iterable[NormalizedName]) -> Found:
        """Where upstream knows no serials it lists every project as changed: those that a check has seen can wait."""
        if self._state is None or found.serial is not None:
            return found
        checked = {name for name, _ in self._state.every_serial()}.difference(unchecked)
        return found._replace(update={name: serial for name, serial in found.update.items() if name not in checked})

    def _with_unwanted(self, found: Found, chosen: Wanted) -> Found:
        """Deny what was deleted by command and is held all the same: that deletion was cut off."""
        if self._state is None or not self._unwanted or chosen.by_command:
            return found
        left = self._state.serials(self._unwanted - found.touched)
        return found._replace(denied=[*found.denied, *left])

    def _with_reshaped(self, found: Found, chosen: Wanted) -> Found:
        """Add the projects that are held in another shape than the settings and filters now give them."""
        if self._state is None or self._state.get("settings") in (None, self.shape):
            return found
        leave, closure = found.touched, self._closure
        reshaped = {
            name: serial if found.serial is not None else None
            for name, serial, digest in self._state.select(_SHAPES)
            if digest != closure.shape(name) and name not in leave and (chosen.names is None or name in chosen.names)
        }
        return found._replace(update=found.update | reshaped)

    def _with_come_due(self, found: Found, chosen: Wanted) -> Found:
        """Add the projects that have files which filters held back until now."""
        if self._state is None:
            return found
        leave = found.touched
        due = {
            name: serial if found.serial is not None else None
            for name, serial in self._state.select(COME_DUE)
            if name not in leave and (chosen.names is None or name in chosen.names)
        }
        return found._replace(update=found.update | due)

    def _with_required(self, found: Found, chosen: Wanted) -> Found:
        """Where dependencies are mirrored: add what is not held as it is required, deny what nothing requires."""
        closure = self._closure
        if not closure:
            return found
        leave = found.touched
        missing = closure.missing()
        more = {name: serial for name, serial in missing.items() if name not in leave}
        # What is not read yet may require anything.
        denied = [] if chosen.by_command or missing else closure.surplus()
        return found._replace(update=found.update | more, denied=denied)

    def _selects(self, name: NormalizedName) -> bool:
        filters = self._filters
        if name in self._unwanted:
            return False
        if not filters.selects or name in self._survivors:
            return True
        return filters.keeps(name, self._displays.get(name, "") if self._displays is not None else "")

    def _kept(self, projects: dict[NormalizedName, int | None]) -> dict[NormalizedName, int | None]:
        if not self._filters.selects and not self._unwanted:
            return projects
        return {name: serial for name, serial in projects.items() if self._selects(name)}

    def _plan_names(self, chosen: Wanted) -> Found:
        """Ask for each of these, whatever upstream's serials are."""
        names = (chosen.names or frozenset()) - self._unwanted
        denied: list[NormalizedName] = []
        if self._state is not None and not chosen.by_command and self._state.get("selection") != self.selection:
            denied = [name for name, _ in self._state.every_serial() if name not in names]
        return Found(dict.fromkeys(sorted(names)), [], None, 0, denied)

    def _with_retries(self, found: Found, chosen: Wanted, *, retry_failed: bool) -> Found:
        """Add the failed projects whose time has come, and leave out those whose time has not.

        A new serial is tried at once, and so is what was named on the command line.
        """
        if self._state is None or chosen.by_command:
            return found
        now = None if retry_failed else time.time()
        due = self._state.due(now)
        due = self._kept(due)
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
        leave = found.touched if due else set()
        again = {name: serial for name, serial in due.items() if name not in leave}
        return found._replace(update=update | again, retries=len(due))

    def _with_sweep(self, found: Found) -> Found:
        """Add the next part of the mirror, where serials leave it unasked."""
        if self._state is None or found.serial is None:
            return found
        return found._replace(sweep=plan_sweep(self._state, self._sweep, found.touched))

    def applied(self, root: Root, serial: int | None) -> dict[str, str | None]:
        """Keep a root index that has been applied in full; returns the facts to commit with it."""
        facts = facts_of_whole(root.reply, self._state) if root.is_whole else {}
        if not root.is_new:
            return facts
        if root.reply.status == 200:
            save_root(self._cache, root.reply.body)
        return facts | {
            "root_digest": root.digest,
            "root_etag": etag_of(root.reply) or None,
            "root_serial": str(serial) if serial else None,
            "root_selection": self.selection,
        }

    def _applied(self) -> dict[str, str]:
        state = self._state
        if state is None or not os.path.exists(self._cache):
            return {}
        is_another = state.get("master") not in (None, self._master)
        if is_another or any(state.get(key) != self.selection for key in ("root_selection", "selection")):
            return {}
        return {key: state.get(key) or "" for key in ("root_etag", "root_digest", "root_read")}

    def _get(self, request: Request) -> Reply:
        for attempt in range(_TRIES):
            reply = self._control.get(request)
            if not reply.retryable or attempt == _TRIES - 1:
                break
            wait_s = min(max(_BACKOFF_S * 2**attempt, retry_after_s(reply)), self._control.left_s)
            _LOG.info("%s: %s, trying again in %.0f s", request.url, failure_reason(reply), wait_s)
            time.sleep(wait_s)
        return reply


def _log_skipped(skipped: list[str]) -> None:
    for reason in skipped[:20]:
        _LOG.warning("root index: %s", reason)
    if len(skipped) > 20:
        _LOG.warning("root index: and %d more entries left out", len(skipped) - 20)
