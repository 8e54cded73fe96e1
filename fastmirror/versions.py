"""Earlier states of a project's pages (keep_index_versions): kept beside them, in the flat layout.

``simple/<project>/index.*`` are relative links into ``versions/``, each replaced in one step, so that a page is
never missing and the tree can be moved. All forms of a page are one state, and are kept and removed together.
"""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from fastmirror.layout import PageFormat, Tree, page_path, versions_path
from fastmirror.model import StagedPage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fastmirror.names import NormalizedName
    from fastmirror.storage import Storage

# As bandersnatch names them: by the serial, and the time without its colons.
_STATE = re.compile(r"(index_[0-9]+_([0-9T.-]+)Z)\.(?:html|v1_html|v1_json)", re.ASCII)
_DIRECTORY = "versions"


def stage_state(
    storage: Storage, tree: Tree, name: NormalizedName, serial: int | None, bodies: Mapping[PageFormat, bytes]
) -> tuple[tuple[StagedPage, ...], str]:
    """Stage a new state of these pages, and the links to it, which come last; returns them and the state's name."""
    state = f"index_{serial or 0}_{datetime.now(UTC).strftime('%Y-%m-%dT%H%M%S.%f')}Z"
    directory = versions_path(tree, name)
    files, links = [], []
    for page_format, body in bodies.items():
        kinds = [page_format] if page_format is not PageFormat.HTML else [PageFormat.HTML, PageFormat.V1_HTML]
        first = storage.write_staged(body)
        staged = (first, *(storage.link_staged(first) for _ in kinds[1:]))
        files.append(StagedPage(staged, tuple(f"{directory}/{state}.{kind}" for kind in kinds)))
        for kind in kinds:
            link = storage.new_staged_page()
            Path(link).symlink_to(f"{_DIRECTORY}/{state}.{kind}")
            links.append(StagedPage((link,), (page_path(tree, name, kind),)))
    return (*files, *links), state


def state_shown(storage: Storage, path: str) -> str | None:
    """The state that a page below ``web/`` is a link to; None if it is no link of ours, or leads nowhere."""
    try:
        full = storage.final(path)
        target = os.readlink(full)
        os.stat(full)
    except OSError:
        return None
    directory, _, filename = target.partition("/")
    match = _STATE.fullmatch(filename)
    return match[1] if match and directory == _DIRECTORY else None


def state_paths(storage: Storage, tree: Tree, name: NormalizedName) -> list[str]:
    """Paths below ``web/`` of every state that is kept, the oldest first: by their time, not by their serial."""
    directory = versions_path(tree, name)
    return [f"{directory}/{match[0]}" for match in _by_age(storage.names(directory))]


def outdated(storage: Storage, tree: Tree, name: NormalizedName, keep: int, shown: str) -> list[str]:
    """Paths below ``web/`` of the states to remove, so that with the one to be shown `keep` are left."""
    directory = versions_path(tree, name)
    older = [match for match in _by_age(storage.names(directory)) if match[1] != shown]
    states = list(dict.fromkeys(match[1] for match in older))
    removed = set(states[: max(len(states) - (keep - 1), 0)])
    return [f"{directory}/{match[0]}" for match in older if match[1] in removed]


def _by_age(filenames: Iterable[str]) -> list[re.Match[str]]:
    return sorted(filter(None, map(_STATE.fullmatch, filenames)), key=lambda match: (match[2], match[0]))
