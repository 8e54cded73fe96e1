"""Plain functions that narrow what is mirrored."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastmirror.names import NormalizedName
    from fastmirror.settings import FilterSettings


def project_filter(settings: FilterSettings) -> Callable[[NormalizedName], bool] | None:
    """Return whether a project is to be mirrored, as a function of its name; None if every one is."""
    allow, block = settings.allow, settings.block
    if allow is None and not block:
        return None
    if allow is None:
        return lambda name: name not in block
    return lambda name: name in allow and name not in block
