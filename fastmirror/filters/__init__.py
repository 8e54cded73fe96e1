"""Plain functions that narrow what is mirrored: projects by their names, then what each project's page lists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import xxhash

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fastmirror.model import File
    from fastmirror.names import NormalizedName


@dataclass(frozen=True, slots=True)
class FilterSettings:
    """Which projects, versions and files are mirrored."""

    allow: frozenset[NormalizedName] | None = None  # None: all
    block: frozenset[NormalizedName] = frozenset()


class Listing(NamedTuple):
    """What a project's page lists, as filters see it."""

    name: NormalizedName
    files: Sequence[File]
    versions: Sequence[str] | None  # that the page gives, where it does
    document: Mapping[str, Any] | None = None  # the legacy JSON document, where a filter needs it


class Filters:
    """The filters of one mirror, ready for use; every process builds its own."""

    def __init__(self, settings: FilterSettings) -> None:
        self._settings = settings
        self.names = None if settings.allow is None else settings.allow - settings.block  # that can pass; None: any
        self.needs_document = False  # whether `narrow` wants the legacy JSON document
        self.needs_display = False  # whether `keeps` goes by names as upstream writes them
        selection = f"{sorted(settings.allow or ())} {sorted(settings.block)}"
        self.selection = xxhash.xxh3_128_hexdigest(selection.encode())  # digest of what `keeps` goes by
        self.narrowing = ""  # digest of everything that `narrow` goes by; empty if it leaves all as it is

    @property
    def selects(self) -> bool:
        """Whether `keeps` turns any project away."""
        return self._settings.allow is not None or bool(self._settings.block)

    def keeps(self, name: NormalizedName, display: str = "") -> bool:
        """Whether a project is mirrored; `display` is its name as upstream writes it, where that is known."""
        allow = self._settings.allow
        return (allow is None or name in allow) and name not in self._settings.block

    def narrow(self, listing: Listing) -> Listing | None:
        """What is mirrored of a project; None if nothing of it is, not even its page."""
        return listing

    def digest(self, name: NormalizedName) -> str:
        """Digest of all that `narrow` goes by for this project; empty if it leaves the project as it is."""
        return ""

    def shape(self, base: str, name: NormalizedName) -> str:
        """The settings digest of a project's row: of what shapes every page, and of what narrows this one."""
        narrowing = self.digest(name)
        return f"{base}-{narrowing}" if narrowing else base
