"""What a project's files at rest require, by their core metadata; which requirements of others they leave open."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from packaging.specifiers import SpecifierSet

from fastmirror.filters.environments import can_install
from fastmirror.filters.versions import Versions, parsed
from fastmirror.layout import METADATA_SUFFIX
from fastmirror.model import Needs
from fastmirror.packing import pack_needs
from fastmirror.wheel import core_metadata

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from fastmirror.filters.environments import Target
    from fastmirror.model import Demand, Page, StoredFile
    from fastmirror.pages import Context
    from fastmirror.storage import Storage

_TROUBLES_MOST = 20  # told of one project
_NEEDS_MOST = 20_000  # of one project, in all its versions


class _Installable(NamedTuple):
    """A file at rest, and the environments that it is for."""

    at_rest: StoredFile
    targets: frozenset[Target]

    @property
    def filename(self) -> str:
        return self.at_rest.path.rpartition("/")[2]

    @property
    def is_wheel(self) -> bool:
        return self.at_rest.path.endswith(".whl")


def needs_at_rest(
    context: Context, storage: Storage, page: Page, listed: Mapping[str, StoredFile], demand: Demand | None
) -> bytes | None:
    """What the files that a page lists, and that are at rest, require; packed. None where that does not matter.

    `listed` maps file names to files at rest. Raises OSError.
    """
    targets, limit = context.settings.filters.dependencies_for, context.settings.upstream.limits.metadata
    if not targets:
        return None
    from fastmirror.dependencies import Joining  # takes its time, and few ask for it

    versions = Versions(page.name, page.keys.get("versions"))
    found: dict[str, list[_Installable]] = {}
    for file in page.files:
        distribution = versions.of(file.filename)
        fitting = frozenset(target for target in targets if can_install(file, distribution, target))
        if fitting and (at_rest := listed.get(file.filename)) is not None:
            found.setdefault(distribution.version, []).append(_Installable(at_rest, fitting))
    joining = Joining()
    for version, files in found.items():
        for needs in _of_version(storage, version, files, limit):
            joining.add(needs)
        if len(joining) > _NEEDS_MOST:
            joining.add(Needs(troubles=(f"more than {_NEEDS_MOST} requirements: those of some versions do not count",)))
            break
    joining.add(Needs(troubles=_open_ends(found, demand)))
    needs = joining.needs()
    troubles, more = needs.troubles[:_TROUBLES_MOST], len(needs.troubles) - _TROUBLES_MOST
    return pack_needs(needs._replace(troubles=(*troubles, f"and {more} more") if more > 0 else troubles))


def _of_version(storage: Storage, version: str, files: Sequence[_Installable], limit: int) -> Iterator[Needs]:
    """What one version requires: by its wheels, also where it has only a source distribution."""
    from fastmirror.dependencies import read_needs

    wheels = [file for file in files if file.is_wheel]
    served = _targets_of(wheels)
    elsewhere = _targets_of(files) - served
    known: frozenset[Target] = frozenset()
    read: set[tuple[str, frozenset[Target]]] = set()
    for file in [*wheels, *(file for file in files if not file.is_wheel)]:
        targets = file.targets | elsewhere if file.is_wheel else file.targets - known
        identity = file.at_rest.metadata or file.at_rest.sha256, targets
        if not targets or identity in read:
            continue
        if (metadata := _core_metadata(storage, file, limit)) is not None:
            read.add(identity)
            known |= targets
            yield read_needs(metadata, sorted(targets))
    unknown = [file.filename for file in files if not file.targets <= known]
    lacking = (f"{version}: what it requires is not known, {name} has no core metadata" for name in unknown)
    yield Needs(troubles=tuple(lacking))


def _targets_of(files: Iterable[_Installable]) -> frozenset[Target]:
    return frozenset(target for file in files for target in file.targets)


def _core_metadata(storage: Storage, file: _Installable, limit: int) -> bytes | None:
    at_rest = file.at_rest
    if at_rest.metadata:
        return storage.read(at_rest.path + METADATA_SUFFIX)
    if not file.is_wheel:
        return None
    descriptor = storage.open_file(at_rest.path)
    try:
        return core_metadata(descriptor, at_rest.size, limit)
    finally:
        os.close(descriptor)


def _open_ends(found: Mapping[str, Sequence[_Installable]], demand: Demand | None) -> tuple[str, ...]:
    """The requirements that no version here satisfies where they are made."""
    troubles: list[str] = []
    by_target: dict[str, list[str]] = {}
    for name, files in found.items():
        if parsed(name) is not None:
            for target in _targets_of(files):
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
