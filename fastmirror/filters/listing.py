"""A project's page as filters see it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fastmirror.model import Demand, File
    from fastmirror.names import NormalizedName


class Listing(NamedTuple):
    """What a project's page lists, as filters see it."""

    name: NormalizedName
    files: Sequence[File]
    versions: Sequence[str] | None  # that the page gives, where it does
    document: Mapping[str, Any] | None = None  # the legacy JSON document, where a filter needs it
    demand: Demand | None = None  # what other projects require of it, where dependencies are mirrored
