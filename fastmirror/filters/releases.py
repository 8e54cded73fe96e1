"""Filters of versions: each says which of a project's versions stay."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, NamedTuple

from packaging.specifiers import SpecifierSet

from fastmirror.filters.environments import can_install
from fastmirror.filters.versions import parsed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from packaging.version import Version

    from fastmirror.filters.environments import Target
    from fastmirror.filters.versions import Versions
    from fastmirror.model import Demand, File

    Releases = Mapping[str, Sequence[File]]
    Keep = Callable[[Releases], set[str]]  # the versions that stay


class Latest(NamedTuple):
    """How many of the newest versions stay, and what newest means."""

    keep: int
    sort_by: Literal["version", "time"]


def listed(specifiers: Sequence[str]) -> Keep:
    """Only versions that one of these specifiers contains, pre-releases too; what is no version goes."""
    sets = [SpecifierSet(text) for text in specifiers]

    def keep(releases: Releases) -> set[str]:
        return {name for name in releases if (version := parsed(name)) is not None and _contains(sets, version)}

    return keep


def unlisted(specifiers: Sequence[str]) -> Keep:
    """All but the versions that one of these specifiers contains, pre-releases too; what is no version stays."""
    sets = [SpecifierSet(text) for text in specifiers]

    def keep(releases: Releases) -> set[str]:
        return {name for name in releases if (version := parsed(name)) is None or not _contains(sets, version)}

    return keep


def pinned(specifiers: Sequence[str]) -> set[Version]:
    """The versions that these specifiers name one by one, with ``==`` or ``===`` (PEP 592)."""
    named = (part for text in specifiers for part in SpecifierSet(text) if part.operator in ("==", "==="))
    return {version for part in named if (version := parsed(part.version)) is not None}


def demanded(
    demand: Demand, targets: Sequence[Target], versions: Versions, keep: int | None, others: Sequence[Keep]
) -> Keep:
    """Of each requirement, the newest so many versions that an installer would take for it; None: all of them.

    That is in each environment where it is required: what others leave of what can be installed there, no
    pre-release if there is a final one, nothing yanked but what ``==`` names.
    """

    def keeps(releases: Releases) -> set[str]:
        left = set.intersection(set(releases), *(other(releases) for other in others))
        needed: set[Version] = set()
        for target in targets:
            specifiers = [text for text, labels in demand.specifiers if str(target) in labels]
            candidates = _installable({name: releases[name] for name in left}, versions, target) if specifiers else {}
            for text in specifiers:
                exact = pinned([text])
                sound = [version for version, is_sound in candidates.items() if is_sound or version in exact]
                needed.update(sorted(SpecifierSet(text).filter(sound), reverse=True)[:keep])
        return {name for name in left if parsed(name) in needed}

    return keeps


def either(one: Keep, other: Keep) -> Keep:
    """What one of the two keeps."""
    return lambda releases: one(releases) | other(releases)


def _installable(releases: Releases, versions: Versions, target: Target) -> dict[Version, bool]:
    """The versions that can be installed somewhere; whether some file for it is not yanked."""
    found: dict[Version, bool] = {}
    for name, files in releases.items():
        fitting = [file for file in files if can_install(file, versions.of(file.filename), target)]
        if fitting and (version := parsed(name)) is not None:
            found[version] = found.get(version, False) or not all(map(is_yanked, fitting))
    return found


def is_yanked(file: File) -> bool:
    """Whether upstream has withdrawn a file (PEP 592)."""
    return bool(file.keys.get("yanked"))


def _contains(sets: Sequence[SpecifierSet], version: Version) -> bool:
    return any(specifiers.contains(version, prereleases=True) for specifiers in sets)


def unmatched(patterns: Sequence[re.Pattern[str]]) -> Keep:
    """All but the versions whose text one of these patterns matches from its beginning."""
    return lambda releases: {name for name in releases if not any(pattern.match(name) for pattern in patterns)}


_PRERELEASES = re.compile(r".+(?:rc\d+|a(?:lpha)?\d+|b(?:eta)?\d+|dev\d+)$")


def final(releases: Releases) -> set[str]:
    """All but pre-releases: those of PEP 440, and what ends like one (rc1, a1, alpha1, b1, beta1, dev1)."""
    return {
        name
        for name in releases
        if not ((version := parsed(name)) is not None and version.is_prerelease) and not _PRERELEASES.match(name)
    }


def latest(how: Latest) -> Keep:
    """The newest so many, by version or by the time of their first file, and always the one that PyPI shows.

    A version without files does not count, and goes. By version, what is no version of PEP 440 goes; by time, a
    version without times is the oldest.
    """

    def keep(known: Releases) -> set[str]:
        releases = {name: files for name, files in known.items() if files}
        if how.sort_by == "time":
            if how.keep > len(releases):
                return set(releases)
            names = sorted(releases, key=lambda name: _first_upload(releases[name]), reverse=True)[: how.keep]
        else:
            pairs = [(version, name) for name in releases if (version := parsed(name)) is not None]
            names = [name for _, name in sorted(pairs, reverse=True)[: how.keep]]
        shown = shown_version(releases)
        if shown is not None and shown not in names:
            names[how.keep - 1 :] = [shown]
        return set(names)

    return keep


def _first_upload(files: Sequence[File]) -> str:
    times = [time for file in files if type(time := file.keys.get("upload-time")) is str]
    return min((time.rstrip("Z") for time in times), default="")  # so that 12:00:00.5Z comes after 12:00:00Z


def shown_version(releases: Releases) -> str | None:
    """The version that PyPI shows as a project's own: not yanked, then final, then the greatest; None of none.

    Versions that are none of PEP 440 come before all others, in the page's order.
    """
    best: tuple[tuple[object, ...], str] | None = None
    for place, (name, files) in enumerate(releases.items()):
        version = parsed(name)
        is_sound = not files or not all(map(is_yanked, files))
        if version is None:
            rank: tuple[object, ...] = (is_sound, False, place)
        else:
            rank = (is_sound, True, not version.is_prerelease, version)
        if best is None or rank > best[0]:
            best = rank, name
    return best[1] if best else None
