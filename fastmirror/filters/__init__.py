"""Plain functions that narrow what is mirrored: projects by their names, then what each project's page lists.

bandersnatch's filters have its names; our own are upload_time, environments, yanked and advisories. Their order
does not matter: filters of projects see the page as upstream has it, filters of versions what the filters of
files leave, those of third parties what all others leave; none sees what another of its kind left.
"""

from __future__ import annotations

import json
import math
import re
from functools import lru_cache
from typing import TYPE_CHECKING

import xxhash

from fastmirror.filters import metadata, platforms, releases
from fastmirror.filters.filter_settings import FilterSettings
from fastmirror.filters.listing import Listing
from fastmirror.filters.locks import Locks
from fastmirror.filters.versions import Versions, by_version, parsed
from fastmirror.model import LeftOut

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastmirror.filters.metadata import PatternRule
    from fastmirror.filters.releases import Keep
    from fastmirror.model import Demand, File
    from fastmirror.names import NormalizedName

    Judge = Callable[[File], bool]  # whether a file stays


__all__ = ["FilterSettings", "Filters", "Listing"]


class Filters:
    """The filters of one mirror, ready for use; every process builds its own."""

    def __init__(self, settings: FilterSettings, moment: float = math.inf) -> None:
        """`moment` is that of the run, in seconds since the epoch: what is held back until later goes by it."""
        self._settings = settings
        self._moment = moment
        self._project_patterns = [re.compile(pattern) for pattern in settings.project_patterns]
        self._release_patterns = [re.compile(pattern) for pattern in settings.release_patterns]
        self._excluded = platforms.excluded(settings.platforms)
        self._project_rules = [(rule, _compiled(rule)) for rule in settings.project_rules]
        self._file_rules = [(rule, _compiled(rule)) for rule in settings.file_rules]
        self._allow_releases = None if settings.allow_releases is None else dict(settings.allow_releases)
        self._pinned_releases = None if settings.pinned_releases is None else dict(settings.pinned_releases)
        self._block_releases = dict(settings.block_releases)
        self._advisories = dict(settings.advisories)
        self._locks = {name: Locks(locks) for name, locks in settings.locks}
        self._plugins = [(plugin, plugin.load()) for plugin in settings.plugins]
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
        common: list[object] = [
            *(settings.release_patterns, settings.latest, settings.platforms, settings.largest_project),
            *(settings.fewest_versions, settings.most_versions),
            *(settings.project_rules, settings.file_rules, settings.file_ranges),
            [plugin.identity for plugin in settings.plugins],
        ]
        # What is not in use has no part in a digest: those of a mirror without it stay as they are.
        ours = (settings.uploads, settings.environments, settings.drop_yanked, settings.dependencies_for)
        common += [ours] if any(ours) else []
        self._common = _digest(*common) if any(common) else ""
        lists = (settings.allow_releases, settings.pinned_releases, settings.block_releases or None)
        by_name = (*lists, settings.final_only, settings.exempt if self._has_bounds else None)
        locked = [(name, locks.identity) for name, locks in self._locks.items()]
        advised = [part for part in (settings.advisories, locked) if part]
        is_narrow = bool(self._common or advised) or any(part is not None for part in by_name)
        # Digest of everything that `narrow` goes by; empty if it leaves all as it is.
        self.narrowing = (
            _digest(self._common, *lists, *(sorted(part or ()) for part in by_name[3:]), *advised) if is_narrow else ""
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

    def bars(self, name: NormalizedName) -> bool:
        """Whether a project is kept away even if others require it."""
        return name in self._settings.block or any(pattern.match(name) for pattern in self._project_patterns)

    def narrow(self, listing: Listing) -> Listing | None:
        """What is mirrored of a project; None if nothing of it is, not even its page."""
        if not self.digest(listing.name, listing.demand):
            return listing
        if not self._keeps_metadata(listing):
            return None
        versions = Versions(listing.name, listing.versions)
        files = listing.files
        if judges := self._file_judges(listing, versions):
            files = [file for file in files if all(keeps(file) for _, keeps in judges)]
        kept: set[str] | None = None
        if judges_of_versions := self._version_judges(listing, versions):
            known = by_version(versions, files, listing.versions)
            kept = set.intersection(*(keep(known) for _, keep in judges_of_versions))
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

    def due(self, listing: Listing) -> float | None:
        """When time alone lets in the next file that is held back, in seconds since the epoch; None: never."""
        uploads = self._settings.uploads
        if uploads is None or uploads.cool_down_s is None:
            return None
        times = (uploads.due(file, self._moment) for file in listing.files)
        return min((due for due in times if due is not None), default=None)

    def refusals(self, listing: Listing) -> list[tuple[str, str]]:
        """What is to be had of a project, and upstream has not, or has otherwise: (file name, reason)."""
        locks = self._locks.get(listing.name)
        return locks.refusals(listing.files) if locks is not None else []

    def left_out(self, listing: Listing) -> list[LeftOut]:
        """What each filter leaves out by itself, those of versions of what the filters of files leave; then all."""
        versions, files = Versions(listing.name, listing.versions), listing.files
        judges = self._file_judges(listing, versions)
        found = [_sum(name, [file for file in files if not keeps(file)]) for name, keeps in judges]
        left = [file for file in files if all(keeps(file) for _, keeps in judges)]
        known = by_version(versions, left, listing.versions)
        for name, keep in self._version_judges(listing, versions):
            kept = keep(known)
            found.append(_sum(name, [file for file in left if versions.of(file.filename).version not in kept]))
        narrowed = self.narrow(listing)
        names = {file.filename for file in narrowed.files} if narrowed is not None else set()
        found.append(_sum("", [file for file in files if file.filename not in names]))
        return [one for one in found if one.files]

    def digest(self, name: NormalizedName, demand: Demand | None = None) -> str:
        """Digest of all that `narrow` goes by for this project; empty if it leaves the project as it is."""
        settings = self._settings
        own: list[object] = []
        if self._allow_releases is not None:
            own.append(("allowed", self._allow_releases.get(name)))
        if self._pinned_releases is not None:
            own.append(("pinned", self._pinned_releases.get(name)))
        if name in self._locks:
            own.append(("locked", self._locks[name].identity))
        if name in self._block_releases:
            own.append(("blocked", self._block_releases[name]))
        if demand is not None and (not demand.is_root or self._own_version_judges(name)):
            own.append(("demanded", demand))
        if name in self._advisories:
            own.append(("advised", self._advisories[name]))
        if self._drops_prereleases(name):
            own.append("final")
        if self._has_bounds and name in settings.exempt:
            own.append("exempt")
        return _own_digest(self._common, tuple(own)) if own else self._common

    def shape(self, base: str, name: NormalizedName, demand: Demand | None = None) -> str:
        """The settings digest of a project's row: of what shapes every page, and of what narrows this one."""
        return _joined(base, self.digest(name, demand))

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

    def _file_judges(self, listing: Listing, versions: Versions) -> list[tuple[str, Judge]]:
        """The filters of files, by their names."""
        settings = self._settings
        judges: list[tuple[str, Judge]] = []
        if any(self._excluded):
            judges.append(("exclude_platform", lambda file: not self._is_excluded(file, versions)))
        if settings.file_rules or settings.file_ranges:
            facts = metadata.facts_of(listing, versions, with_document=self.needs_document)
        if settings.file_rules:
            rules = self._file_rules
            judges.append(
                (
                    "regex_release_file_metadata",
                    lambda file: all(metadata.matches(rule, patterns, facts(file)) for rule, patterns in rules),
                )
            )
        if ranges := settings.file_ranges:
            judges.append(
                (
                    "version_range_release_file_metadata",
                    lambda file: all(metadata.is_in_range(rule, facts(file)) for rule in ranges),
                )
            )
        if (locks := self._locks.get(listing.name)) is not None:
            judges.append(
                (
                    "project_requirements_pinned",
                    lambda file: locks.admit(file, versions.of(file.filename).version),
                )
            )
        if (uploads := settings.uploads) is not None:
            judges.append(("upload_time", lambda file: uploads.keeps(file, self._moment)))
        if settings.environments is not None:
            names = settings.environments.kept(listing.files, versions)
            judges.append(("environments", lambda file: file.filename in names))
        if settings.drop_yanked:
            pins = [*(self._pinned_releases or {}).get(listing.name, ())]
            pins += (self._allow_releases or {}).get(listing.name, ())
            pinned = releases.pinned(pins)
            judges.append(
                (
                    "yanked",
                    lambda file: not releases.is_yanked(file) or parsed(versions.of(file.filename).version) in pinned,
                )
            )
        return judges

    def _is_excluded(self, file: File, versions: Versions) -> bool:
        return platforms.is_excluded(file.filename, versions.of(file.filename), self._excluded)

    def _version_judges(self, listing: Listing, versions: Versions) -> list[tuple[str, Keep]]:
        """The filters of versions, by their names; what others require of a project widens those that choose."""
        settings, demand = self._settings, listing.demand
        own = self._own_version_judges(listing.name)
        if demand is None:
            return own
        barring = self._barring_judges(listing.name)
        keep = settings.latest.keep if settings.latest is not None else None
        others = [bars for _, bars in barring]
        needed = releases.demanded(demand, settings.dependencies_for, versions, keep, others)
        if demand.is_root:
            return [(name, releases.either(keep, needed)) for name, keep in own]
        return [*barring, ("with-dependencies", needed)]

    def _own_version_judges(self, name: NormalizedName) -> list[tuple[str, Keep]]:
        settings = self._settings
        pinned = (self._pinned_releases or {}).get(name, ())
        judges: list[tuple[str, Keep]] = []
        if self._pinned_releases is not None:
            judges.append(("project_requirements_pinned", releases.listed(pinned)))
        if any(pinned):  # then only what is known to be bad has a say
            return judges + [judge for judge in self._barring_judges(name) if judge[0] == "advisories"]
        if self._allow_releases is not None:
            judges.append(("allowlist_release", releases.listed(self._allow_releases.get(name, ()))))
        judges += self._barring_judges(name)
        if settings.latest is not None:
            judges.append(("latest_release", releases.latest(settings.latest)))
        return judges

    def _barring_judges(self, name: NormalizedName) -> list[tuple[str, Keep]]:
        """The filters of versions that bar some, whoever requires them."""
        judges: list[tuple[str, Keep]] = []
        if (advised := self._advisories.get(name)) is not None:
            judges.append(("advisories", releases.unlisted(advised)))
        if (blocked := self._block_releases.get(name)) is not None:
            judges.append(("blocklist_release", releases.unlisted(blocked)))
        if self._release_patterns:
            judges.append(("regex_release", releases.unmatched(self._release_patterns)))
        if self._drops_prereleases(name):
            judges.append(("prerelease_release", releases.final))
        return judges


def _compiled(rule: PatternRule) -> list[re.Pattern[str]]:
    return [re.compile(pattern) for pattern in rule.patterns]


def _joined(base: str, narrowing: str) -> str:
    return f"{base}-{narrowing}" if narrowing else base


def _digest(*parts: object) -> str:
    return xxhash.xxh3_128_hexdigest(json.dumps(parts, default=list).encode())


@lru_cache(maxsize=1024)  # most projects are listed nowhere: all alike
def _own_digest(common: str, own: tuple[object, ...]) -> str:
    return _digest(common, own)


def _sum(name: str, files: Sequence[File]) -> LeftOut:
    return LeftOut(name, len(files), sum(file.size or 0 for file in files))


def _left(listing: Listing, versions: Versions, files: Sequence[File], kept: set[str] | None) -> Sequence[str] | None:
    """The versions that still have files, and those that had none and that no filter drops."""
    if listing.versions is None:
        return None
    had = {versions.of(file.filename).version for file in listing.files}
    have = {versions.of(file.filename).version for file in files}
    return [name for name in listing.versions if name in have or (name not in had and (kept is None or name in kept))]
