"""Which version a distribution file belongs to, told from its name: the simple API does not say."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from packaging.version import InvalidVersion, Version

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fastmirror.model import File
    from fastmirror.names import NormalizedName

_SOURCES = (".tar.gz", ".zip", ".tar.bz2", ".tgz", ".tar.xz", ".tar.Z", ".tar")
_TYPES = {
    ".whl": "bdist_wheel",
    ".egg": "bdist_egg",
    ".exe": "bdist_wininst",
    ".msi": "bdist_msi",
    ".rpm": "bdist_rpm",
    ".dmg": "bdist_dmg",
    ".deb": "bdist_dumb",
}
_ENDINGS = (*_TYPES, *_SOURCES)
_SEPARATOR = re.compile(r"[-_.]")
_SEPARATORS = re.compile(r"[-_.]+")
# What follows the version in the names of built distributions: a Python, a platform, a release of the package.
_BUILT_FOR = re.compile(
    r"[.-](?:py\d|win|linux|macosx|freebsd|cygwin|solaris|mingw|noarch|\d+\.(?:noarch|src|x86|i\d86)).*"
)
_WHEEL_DASHES = (4, 5)


class Distribution(NamedTuple):
    """What a file's name tells."""

    version: str  # as the page spells it, where it does; "" if the name tells none
    packagetype: str  # as PyPI's legacy API names it


class Versions:
    """The versions of one project, as its page lists them; tells which of them a file belongs to."""

    def __init__(self, project: NormalizedName, listed: Iterable[str] | None) -> None:
        self._project = project
        self._listed = tuple(listed or ())
        self._spellings = dict.fromkeys(self._listed)
        self._by_version: dict[Version, str] | None = None
        self._told: dict[str, Distribution] = {}

    def of(self, filename: str) -> Distribution:
        """The version and the kind of a file."""
        told = self._told.get(filename)
        if told is None:
            told = self._told[filename] = self._tell(filename)
        return told

    def _tell(self, filename: str) -> Distribution:
        ending = next((end for end in _ENDINGS if filename.endswith(end)), "")
        stem = filename.removesuffix(ending)
        if ending == ".whl":
            text = stem.split("-", 2)[1] if stem.count("-") in _WHEEL_DASHES else ""
            return Distribution(self._spelt(text.replace("_", "-")), "bdist_wheel")
        rest = self._after_name(stem)
        version = self._spelt(rest)
        if ending in _TYPES:
            return Distribution(version if version in self._spellings else self._begun(rest), _TYPES[ending])
        if not rest or version in self._spellings or parsed(rest) is not None:
            return Distribution(version, "sdist")
        version = self._begun(rest)
        is_built = _BUILT_FOR.fullmatch(rest[len(version) :]) is not None
        return Distribution(version, "bdist_dumb" if is_built else "sdist")

    def _after_name(self, stem: str) -> str:
        at = stem.find("-")
        while at >= 0:
            if _SEPARATORS.sub("-", stem[:at]).lower() == self._project:
                return stem[at + 1 :]
            at = stem.find("-", at + 1)
        return ""

    def _spelt(self, text: str) -> str:
        """The page's spelling of a version."""
        if text in self._spellings or not self._listed:
            return text
        version = parsed(text)
        if version is None:
            return text
        if self._by_version is None:
            self._by_version = {known: name for name in self._listed if (known := parsed(name)) is not None}
        return self._by_version.get(version, text)

    def _begun(self, rest: str) -> str:
        """The longest listed version that this begins with; else what stands before a platform or a Python."""
        ends = [match.start() for match in _SEPARATOR.finditer(rest)]
        for end in reversed(ends):
            if rest[:end] in self._spellings:
                return rest[:end]
        built = _BUILT_FOR.search(rest)
        return self._spelt(rest[: built.start()] if built else rest)


_LONGEST_VERSION = 255  # characters: what a file's name can hold


def parsed(text: str) -> Version | None:
    """A version of PEP 440; None for what is none."""
    return short_version(text) if len(text) <= _LONGEST_VERSION else None


@lru_cache(maxsize=16_384)
def short_version(text: str) -> Version | None:
    """As parsed, for a text of no more than a file's name can hold: many are held."""
    try:
        return Version(text)
    except InvalidVersion:
        return None


def by_version(versions: Versions, files: Iterable[File], listed: Sequence[str] | None) -> dict[str, list[File]]:
    """The files of each version, the page's own versions first; files that tell none are under ""."""
    releases: dict[str, list[File]] = {name: [] for name in listed or ()}
    for file in files:
        releases.setdefault(versions.of(file.filename).version, []).append(file)
    return releases
