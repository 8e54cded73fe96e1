"""What the filters' sections of the configuration say, in a frozen type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastmirror.filters.environments import Environments, Target
    from fastmirror.filters.locks import Lock
    from fastmirror.filters.metadata import PatternRule, RangeRule
    from fastmirror.filters.plugins import Plugin
    from fastmirror.filters.releases import Latest
    from fastmirror.filters.uploads import Uploads
    from fastmirror.names import NormalizedName

    Specifiers = tuple[tuple[NormalizedName, tuple[str, ...]], ...]  # of each project


@dataclass(frozen=True, slots=True)
class FilterSettings:
    """Which projects, versions and files are mirrored; None stands for a filter that is not enabled."""

    allow: frozenset[NormalizedName] | None = None  # the only projects
    block: frozenset[NormalizedName] = frozenset()
    project_patterns: tuple[str, ...] = ()  # projects that go
    release_patterns: tuple[str, ...] = ()  # versions that go
    allow_releases: Specifiers | None = None
    pinned_releases: Specifiers | None = None
    locks: tuple[tuple[NormalizedName, tuple[Lock, ...]], ...] = ()  # of pinned projects: files named one by one
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
    uploads: Uploads | None = None
    environments: Environments | None = None
    drop_yanked: bool = False
    advisories: Specifiers = ()  # versions that go, pinned or not
    # Dependencies are mirrored too, for these environments; with the extras that the lists ask for.
    dependencies_for: tuple[Target, ...] = ()
    extras: tuple[tuple[NormalizedName, tuple[str, ...]], ...] = ()
    plugins: tuple[Plugin, ...] = ()
