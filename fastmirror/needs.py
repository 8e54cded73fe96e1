"""What a project's files at rest require, by their core metadata; which requirements of others they leave open."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from packaging.specifiers import SpecifierSet

from fastmirror.dependencies import joined, read_needs
from fastmirror.filters.environments import can_install
from fastmirror.filters.versions import Versions, parsed
from fastmirror.layout import METADATA_SUFFIX
from fastmirror.model import Needs
from fastmirror.packing import pack_needs
from fastmirror.wheel import core_metadata

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fastmirror.filters.environments import Target
    from fastmirror.model import Demand, Page, StoredFile
    from fastmirror.pages import Context
    from fastmirror.storage import Storage

_TROUBLES_MOST = 20  # told of one project


class _Version:
    """What one version's files can tell."""

    def __init__(self) -> None:
        self.told: dict[Target, list[bytes]] = {}  # core metadata of the wheels that can be installed there
        self.untold: dict[Target, str] = {}  # where there is a file without: its name

    def add(self, filename: str, metadata: bytes | None, fitting: Sequence[Target]) -> None:
        """A file that can be installed into these environments."""
        for target in fitting:
            if metadata is None:
                self.untold.setdefault(target, filename)
            elif metadata not in (known := self.told.setdefault(target, [])):
                known.append(metadata)


def needs_at_rest(
    context: Context, storage: Storage, page: Page, listed: Mapping[str, StoredFile], demand: Demand | None
) -> bytes | None:
    """What the files that a page lists, and that are at rest, require; packed. None where that does not matter.

    `listed` maps file names to files at rest. A version is known by its wheels: where it has only a source
    distribution for an environment, they count there too. Raises OSError.
    """
    targets, limit = context.settings.filters.dependencies_for, context.settings.upstream.limits.metadata
    if not targets:
        return None
    versions = Versions(page.name, page.keys.get("versions"))
    found: dict[str, _Version] = {}
    for file in page.files:
        distribution = versions.of(file.filename)
        fitting = [target for target in targets if can_install(file, distribution, target)]
        if fitting and (at_rest := listed.get(file.filename)) is not None:
            metadata = _core_metadata(storage, at_rest, limit)
            found.setdefault(distribution.version, _Version()).add(file.filename, metadata, fitting)
    needs: list[Needs] = []
    for version, told in found.items():
        needs += _of_version(version, told)
    open_ends = _open_ends(found, demand)
    all_of_them = joined([*needs, Needs(troubles=open_ends)])
    troubles, more = all_of_them.troubles[:_TROUBLES_MOST], len(all_of_them.troubles) - _TROUBLES_MOST
    return pack_needs(all_of_them._replace(troubles=(*troubles, f"and {more} more") if more > 0 else troubles))


def _core_metadata(storage: Storage, at_rest: StoredFile, limit: int) -> bytes | None:
    if at_rest.metadata:
        return storage.read(at_rest.path + METADATA_SUFFIX)
    if not at_rest.path.endswith(".whl"):
        return None
    descriptor = os.open(storage.contained(at_rest.path), os.O_RDONLY | os.O_CLOEXEC)
    try:
        return core_metadata(descriptor, at_rest.size, limit)
    finally:
        os.close(descriptor)


def _of_version(version: str, told: _Version) -> list[Needs]:
    by_metadata: dict[bytes, list[Target]] = {}
    for target, bodies in told.told.items():
        for body in bodies:
            by_metadata.setdefault(body, []).append(target)
    untold = {target: name for target, name in told.untold.items() if target not in told.told}
    if by_metadata:
        by_metadata = {body: [*targets, *untold] for body, targets in by_metadata.items()}
        untold = {}
    needs = [read_needs(body, targets) for body, targets in by_metadata.items()]
    names = dict.fromkeys(untold.values())
    unknown = [f"{version}: what it requires is not known, {name} has no core metadata" for name in names]
    return [*needs, Needs(troubles=tuple(unknown))]


def _open_ends(found: Mapping[str, _Version], demand: Demand | None) -> tuple[str, ...]:
    """The requirements that no version here satisfies where they are made."""
    troubles: list[str] = []
    by_target: dict[str, list[str]] = {}
    for name, told in found.items():
        if parsed(name) is not None:
            for target in told.told.keys() | told.untold.keys():
                by_target.setdefault(str(target), []).append(name)
    for specifier, labels in demand.specifiers if demand is not None else ():
        satisfied = SpecifierSet(specifier)
        lacking = [
            label
            for label in labels
            if not any(satisfied.contains(name, prereleases=True) for name in by_target.get(label, ()))
        ]
        if lacking:
            what = f"no version that satisfies {specifier}" if specifier else "no version that can be installed"
            troubles.append(f"{what} for {', '.join(lacking)}")
    return tuple(troubles)
