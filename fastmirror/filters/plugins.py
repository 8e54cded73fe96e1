"""Filters of third parties: entry points of the group ``fastmirror.filters``, each a factory of one function.

    def factory(section: Mapping[str, str]) -> Callable[[Listing], Listing | None]

It is called once in every process with the section of the configuration that has the filter's name, and the
function that it returns for each project: what is to be mirrored of it, or None for nothing. Files that it
adds are ignored; if it fails, the project fails and stays as it is. A function with a true attribute
``needs_document`` gets the legacy JSON document.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, NamedTuple

from fastmirror.errors import PageError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastmirror.filters.listing import Listing

GROUP = "fastmirror.filters"


class Plugin(NamedTuple):
    """One filter of a third party, by what can be sent to another process."""

    name: str
    target: str  # "module:attribute"
    version: str  # of the distribution that brings it
    section: tuple[tuple[str, str], ...]
    needs_document: bool = False

    @property
    def identity(self) -> tuple[object, ...]:
        """What a change of calls for a new plan."""
        return self.name, self.target, self.version, self.section

    def load(self) -> Callable[[Listing], Listing | None]:
        """The filter. Raises SettingsError if it cannot be made."""
        point = EntryPoint(self.name, self.target, GROUP)
        try:
            narrow: Callable[[Listing], Listing | None] = point.load()(dict(self.section))
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise SettingsError(f"[plugins] enabled: {self.name!r} ({self.target}): {reason}") from error
        if not callable(narrow):
            raise SettingsError(f"[plugins] enabled: {self.name!r} ({self.target}): its factory made no function")
        return narrow

    def kept(self, narrow: Callable[[Listing], Listing | None], listing: Listing) -> set[str] | None:
        """Names of the files that the loaded filter keeps; None if it denies the project. Raises PageError."""
        try:
            left = narrow(listing)
            return None if left is None else {file.filename for file in left.files}
        except Exception as error:
            raise PageError(f"filter {self.name} failed: {type(error).__name__}: {error}") from error


def installed() -> list[str]:
    """The names of all filters of third parties that are installed."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def find(name: str, section: tuple[tuple[str, str], ...]) -> Plugin | None:
    """The filter of this name that is installed, tried once; None if there is none."""
    for point in entry_points(group=GROUP, name=name):
        version = point.dist.version if point.dist is not None else ""
        plugin = Plugin(name, point.value, version, section)
        return plugin._replace(needs_document=bool(getattr(plugin.load(), "needs_document", False)))
    return None
