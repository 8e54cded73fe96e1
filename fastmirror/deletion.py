"""Projects leave the mirror by the operator's word: root index, pages, files, at once; and they stay away."""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING, NamedTuple

from fastmirror.adoption import adopt
from fastmirror.changes import write_diff
from fastmirror.errors import SettingsError
from fastmirror.holding import hold_mirror
from fastmirror.packing import paths_of, unpack_files
from fastmirror.pages import published_paths
from fastmirror.removal import Leaving, retract, unlink_unnamed
from fastmirror.rootindex import write_feed, write_root_index
from fastmirror.run import Parts, open_parts
from fastmirror.supervisor import Supervisor
from fastmirror.tree import state_path

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fastmirror.model import Known
    from fastmirror.names import NormalizedName
    from fastmirror.settings import Settings

_LOG = logging.getLogger(__name__)
_UNWANT = "insert or ignore into unwanted values (?, ?)"


class Deletion(NamedTuple):
    """What was deleted, or would be."""

    held: tuple[str, ...]  # projects
    absent: tuple[str, ...]  # projects that were not there; they are unwanted from now on all the same
    paths: tuple[str, ...]  # below web/
    bytes: int
    dry_run: bool


def delete_projects(settings: Settings, names: Sequence[NormalizedName], *, dry_run: bool) -> Deletion:
    """Delete these projects. They stay away until ``sync`` or ``--project`` asks for them again.

    Killed, the next run finds what is left to remove. Files that another project names too stay.
    """
    if settings.storage.s3 is None:
        _require_state(settings)
    with hold_mirror(settings.storage) as hold:
        _require_state(settings)
        parts = open_parts(settings, hold, writes=not dry_run)
        try:
            if not dry_run:
                adopt(parts.state, parts.storage, parts.tree, settings.pool.processes, 0, Supervisor())
            known = parts.state.known(names)
            deletion = _look(parts, names, known, dry_run)
            if not dry_run:
                _delete(parts, names, known)
                _LOG.info("deleted by command: %s", ", ".join(deletion.held) or "nothing")
            return deletion
        finally:
            hold.keep(parts.state, has_changed=not dry_run)
            parts.storage.close()
            parts.state.close()


def _require_state(settings: Settings) -> None:
    directory = settings.storage.directory
    if not os.path.exists(state_path(directory)):
        raise SettingsError(f"there is no state that says what projects hold: {directory!r} (hint: mirror)")


def _look(
    parts: Parts, names: Sequence[NormalizedName], known: Mapping[NormalizedName, Known], dry_run: bool
) -> Deletion:
    paths: list[str] = []
    size = 0
    for name in names:
        files = unpack_files(known[name].files) if name in known else []
        for path in [*published_paths(parts.storage, parts.tree, name), *paths_of(files)]:
            found = parts.storage.size(path)
            if found is not None:
                paths.append(path)
                size += found
    return Deletion(
        tuple(name for name in names if name in known),
        tuple(name for name in names if name not in known),
        tuple(paths),
        size,
        dry_run,
    )


def _delete(parts: Parts, names: Sequence[NormalizedName], known: Mapping[NormalizedName, Known]) -> None:
    state, storage, started = parts.state, parts.storage, time.time()
    files = [(path, name) for name in known for path in paths_of(unpack_files(known[name].files))]
    with state.transaction():
        state.put({"clean": "0"})
        state.change(_UNWANT, [(name, started) for name in names])

    def write_index() -> None:
        serial = int(state.get("root_serial") or 0) or state.greatest_serial()
        pages = parts.settings.pages
        write_root_index(state, storage, pages.formats, serial, local=pages.local_json)

    leaving = [Leaving(name, "deleted by command", hide=False) for name in known]
    retract(leaving, state, storage, parts.tree, started, write_index)
    unlink_unnamed(files, state, storage)
    write_feed(state, storage, parts.settings.pages.formats)
    storage.flush()
    write_diff(state, storage, parts.settings.run, started, finished=True)
    if parts.clean:
        with state.transaction():
            state.put({"clean": "1"})
