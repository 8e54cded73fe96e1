"""Plain functions that narrow what is mirrored: projects by their names, then what each project's page lists.

Every filter is bandersnatch's, by its name. Their order does not matter: filters of projects see the page as
upstream has it, filters of versions what the filters of files leave, those of third parties what all others
leave; none sees what another of its kind left.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import xxhash

from fastmirror.filters import metadata, platforms, releases
from fastmirror.filters.listing import Listing
from fastmirror.filters.versions import Versions, by_version

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from fastmirror.filters.metadata import PatternRule, RangeRule
    from fastmirror.filters.plugins import Plugin
    from fastmirror.filters.releases import Latest
    from fastmirror.model import File
    from fastmirror.names import NormalizedName

    Specifiers = tuple[tuple[NormalizedName, tuple[str, ...]], ...]  # of each project


__all__ = ["FilterSettings", "Filters", "Listing"]


@dataclass(frozen=True, slots=True)
class FilterSettings:
    """Which projects, versions and files are mirrored; None stands for a filter that is not enabled."""

    allow: frozenset[NormalizedName] | None = None  # the only projects
    block: frozenset[NormalizedName] = frozenset()
    project_patterns: tuple[str, ...] = ()  # projects that go
    release_patterns: tuple[str, ...] = ()  # versions that go
    allow_releases: Specifiers | None = None
    pinned_releases: Specifiers | None = None
    block_releases: Specifiers = ()
    final_only: frozenset[NormalizedName] | None = None  # of these projects no pre-releases; empty: of any
    latest: Latest | None = None
    platforms: tuple[str, ...] = ()
    largest_project: int | None = None  # bytes of all its files
    fewest_versions: int = 0
    most_versions: int = 0  # 0: any number
    exempt: frozenset[NormalizedName] = frozenset()  # from the three before
    project_rules: tuple[PatternRule, ...] = ()
    file_rules: tuple[PatternRule, ...] = ()
    file_ranges: tuple[RangeRule, ...] = ()
    plugins: tuple[Plugin, ...] = ()


class Filters:
    """The filters of one mirror, ready for use; every process builds its own."""

    def __init__(self, settings: FilterSettings) -> None:
        self._settings = settings
        self._project_patterns = [re.compile(pattern) for pattern in settings.project_patterns]
        self._release_patterns = [re.compile(pattern) for pattern in settings.release_patterns]
        self._excluded = platforms.excluded(settings.platforms)
        self._project_rules = [(rule, _compiled(rule)) for rule in settings.project_rules]
        self._file_rules = [(rule, _compiled(rule)) for rule in settings.file_rules]
        self._allow_releases = None if settings.allow_releases is None else dict(settings.allow_releases)
        self._pinned_releases = None if settings.pinned_releases is None else dict(settings.pinned_releases)
        self._block_releases = dict(settings.block_releases)
        self._plugins = [(plugin, plugin.load()) for plugin in settings.plugins]
        self._narrows_files = bool(any(self._excluded) or settings.file_rules or settings.file_ranges)
        paths = [rule.path for rule in (*settings.project_rules, *settings.file_rules)]
        paths += [rule.path for rule in settings.file_ranges]
        counts = bool(settings.fewest_versions or settings.most_versions)
        self._has_bounds = counts or settings.largest_project is not None
        # Whether `narrow` wants the legacy JSON document.
        self.needs_document = (
            counts
            or any(metadata.needs_document(path) for path in paths)
            or any(plugin.needs_document for plugin in settings.plugins)
        )
        self.names = (  # that can pass; None: any
            None if settings.allow is None else frozenset(name for name in settings.allow if self.keeps(name))
        )
        # Whether `keeps` goes by names as upstream writes them.
        self.needs_display = bool(settings.project_patterns)
        self.selection = _digest(sorted(settings.allow or ()), sorted(settings.block), settings.project_patterns)
        common = [
            *(settings.release_patterns, settings.latest, settings.platforms, settings.largest_project),
            *(settings.fewest_versions, settings.most_versions),
            *(settings.project_rules, settings.file_rules, settings.file_ranges),
            [plugin.identity for plugin in settings.plugins],
        ]
        self._common = _digest(*common) if any(common) else ""
        lists = (settings.allow_releases, settings.pinned_releases, settings.block_releases or None)
        by_name = (*lists, settings.final_only, settings.exempt if self._has_bounds else None)
        is_narrow = bool(self._common) or any(part is not None for part in by_name)
        # Digest of everything that `narrow` goes by; empty if it leaves all as it is.
        self.narrowing = (
            _digest(self._common, *lists, *(sorted(part or ()) for part in by_name[3:])) if is_narrow else ""
        )

    @property
    def selects(self) -> bool:
        """Whether `keeps` turns any project away."""
        return self._settings.allow is not None or bool(self._settings.block) or bool(self._project_patterns)

    def keeps(self, name: NormalizedName, display: str = "") -> bool:
        """Whether a project is mirrored; `display` is its name as upstream writes it, where that is known."""
        settings = self._settings
        if name in settings.block or not (settings.allow is None or name in settings.allow):
            return False
        return not any(pattern.match(name) or pattern.match(display or name) for pattern in self._project_patterns)

    def narrow(self, listing: Listing) -> Listing | None:
        """What is mirrored of a project; None if nothing of it is, not even its page."""
        if not self.digest(listing.name):
            return listing
        if not self._keeps_metadata(listing):
            return None
        versions = Versions(listing.name, listing.versions)
        files = listing.files
        if self._narrows_files:
            document = listing.document or {}
            entries = _entries(document) if self.needs_document else {}
            files = [file for file in files if self._keeps_file(file, versions, entries, document.get("info"))]
        kept = self._kept_versions(listing.name, by_version(versions, files, listing.versions))
        if kept is not None:
            files = [file for file in files if versions.of(file.filename).version in kept]
        narrowed = listing
        if len(files) != len(listing.files) or kept is not None:
            narrowed = listing._replace(files=files, versions=_left(listing, versions, files, kept))
        if not self._plugins:
            return narrowed
        for plugin, function in self._plugins:
            names = plugin.kept(function, narrowed)
            if names is None:
                return None
            files = [file for file in files if file.filename in names]
        if len(files) == len(narrowed.files):
            return narrowed
        return narrowed._replace(files=files, versions=_left(narrowed, versions, files, None))

    def digest(self, name: NormalizedName) -> str:
        """Digest of all that `narrow` goes by for this project; empty if it leaves the project as it is."""
        settings = self._settings
        own: list[object] = []
        if self._allow_releases is not None:
            own.append(("allowed", self._allow_releases.get(name)))
        if self._pinned_releases is not None:
            own.append(("pinned", self._pinned_releases.get(name)))
        if name in self._block_releases:
            own.append(("blocked", self._block_releases[name]))
        if self._drops_prereleases(name):
            own.append("final")
        if self._has_bounds and name in settings.exempt:
            own.append("exempt")
        return _own_digest(self._common, tuple(own)) if own else self._common

    def shape(self, base: str, name: NormalizedName) -> str:
        """The settings digest of a project's row: of what shapes every page, and of what narrows this one."""
        return _joined(base, self.digest(name))

    def shape_of_all(self, base: str) -> str:
        """The same of the whole mirror: another one if any project's is another."""
        return _joined(base, self.narrowing)

    def _drops_prereleases(self, name: NormalizedName) -> bool:
        final_only = self._settings.final_only
        return final_only is not None and (not final_only or name in final_only)

    def _keeps_metadata(self, listing: Listing) -> bool:
        settings, document = self._settings, listing.document or {}
        if listing.name not in settings.exempt:
            if (
                settings.largest_project is not None
                and sum(f.size or 0 for f in listing.files) > settings.largest_project
            ):
                return False
            known = document.get("releases")
            count = len(known) if isinstance(known, dict) else len(listing.versions or ())
            if count < settings.fewest_versions or 0 < settings.most_versions < count:
                return False
        return all(metadata.matches(rule, patterns, document) for rule, patterns in self._project_rules)

    def _keeps_file(
        self, file: File, versions: Versions, entries: Mapping[str, Mapping[str, Any]], info: object
    ) -> bool:
        distribution = versions.of(file.filename)
        if platforms.is_excluded(file.filename, distribution, self._excluded):
            return False
        if not self._file_rules and not self._settings.file_ranges:
            return True
        facts = metadata.file_facts(file, distribution, entries.get(file.filename, {})) | {"info": info}
        return all(metadata.matches(rule, patterns, facts) for rule, patterns in self._file_rules) and all(
            metadata.is_in_range(rule, facts) for rule in self._settings.file_ranges
        )

    def _kept_versions(self, name: NormalizedName, known: dict[str, list[File]]) -> set[str] | None:
        """The versions that every filter of versions keeps; None if there is no such filter."""
        settings = self._settings
        pinned = (self._pinned_releases or {}).get(name, ())
        if any(pinned):  # then nothing else has a say
            return releases.listed(pinned)(known)
        keeps: list[Callable[[dict[str, list[File]]], set[str]]] = []
        if self._pinned_releases is not None:
            keeps.append(releases.listed(pinned))
        if self._allow_releases is not None:
            keeps.append(releases.listed(self._allow_releases.get(name, ())))
        if (blocked := self._block_releases.get(name)) is not None:
            keeps.append(releases.unlisted(blocked))
        if self._release_patterns:
            keeps.append(releases.unmatched(self._release_patterns))
        if self._drops_prereleases(name):
            keeps.append(releases.final)
        if settings.latest is not None:
            keeps.append(releases.latest(settings.latest))
        return set.intersection(*(keep(known) for keep in keeps)) if keeps else None


def _compiled(rule: PatternRule) -> list[re.Pattern[str]]:
    return [re.compile(pattern) for pattern in rule.patterns]


def _joined(base: str, narrowing: str) -> str:
    return f"{base}-{narrowing}" if narrowing else base


def _digest(*parts: object) -> str:
    return xxhash.xxh3_128_hexdigest(json.dumps(parts, default=list).encode())


@lru_cache(maxsize=1024)  # most projects are listed nowhere: all alike
def _own_digest(common: str, own: tuple[object, ...]) -> str:
    return _digest(common, own)


def _entries(document: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The files' own entries in the legacy document, by their names."""
    known = document.get("releases")
    listed = known.values() if isinstance(known, dict) else ()
    entries = [entry for files in listed if isinstance(files, list) for entry in files if isinstance(entry, dict)]
    return {filename: entry for entry in entries if isinstance(filename := entry.get("filename"), str)}


def _left(listing: Listing, versions: Versions, files: Sequence[File], kept: set[str] | None) -> Sequence[str] | None:
    """The versions that still have files, and those that had none and that no filter drops."""
    if listing.versions is None:
        return None
    had = {versions.of(file.filename).version for file in listing.files}
    have = {versions.of(file.filename).version for file in files}
    return [name for name in listing.versions if name in have or (name not in had and (kept is None or name in kept))]
