"""exclude_platform: files for platforms and Pythons that nobody here has, told from their names.

The lists are bandersnatch's. A source distribution always stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastmirror.filters.versions import Distribution

_WINDOWS = (".win32", "-win32", "win_amd64", "win-amd64", "win_arm64", "win-arm64")
_LINUX = (
    *("linux-i686", "linux-x86_64", "linux_armv7l", "linux_armv6l"),
    *("manylinux1_i686", "manylinux1_x86_64", "manylinux2010_i686", "manylinux2010_x86_64"),
    *(f"manylinux2014_{machine}" for machine in ("x86_64", "i686", "aarch64", "armv7l", "ppc64", "ppc64le", "s390x")),
    *("-manylinux_", "musllinux"),
)
_SYSTEMS = {
    "windows": (_WINDOWS, ("bdist_msi", "bdist_wininst")),
    "macos": (("macosx_", "macosx-"), ("bdist_dmg",)),
    "freebsd": ((".freebsd", "-freebsd"), ()),
    "linux": (_LINUX, ("bdist_rpm",)),
}
_SYSTEMS |= {"win": _SYSTEMS["windows"], "macosx": _SYSTEMS["macos"]}
_PYTHONS = ("py2", *(f"py2.{minor}" for minor in range(4, 8)), "py3", *(f"py3.{minor}" for minor in range(40)))
KNOWN = (*_SYSTEMS, *_PYTHONS, *_WINDOWS, *_LINUX)


class Excluded(NamedTuple):
    """What is excluded: files with one of these in their names, and of these kinds."""

    parts: tuple[str, ...]
    packagetypes: tuple[str, ...]


def excluded(tags: Iterable[str]) -> Excluded:
    """What these tags, in any case, exclude; those that are not KNOWN exclude nothing."""
    parts: list[str] = []
    kinds: list[str] = []
    for tag in (tag.lower() for tag in tags):
        if tag in _SYSTEMS:
            parts += _SYSTEMS[tag][0]
            kinds += _SYSTEMS[tag][1]
        elif tag in _PYTHONS:
            parts += _python_parts(tag)
        elif tag in KNOWN:
            parts.append(tag)
    return Excluded(tuple(dict.fromkeys(parts)), tuple(dict.fromkeys(kinds)))


def _python_parts(tag: str) -> list[str]:
    dotted = tag.removeprefix("py")
    interpreters = [f"-{interpreter}{dotted.replace('.', '')}-" for interpreter in ("cp", "pp", "ip", "jy")]
    return [*interpreters, f"-py{dotted}-", f"-py{dotted}."]


def is_excluded(filename: str, distribution: Distribution, what: Excluded) -> bool:
    """Whether a file goes."""
    if distribution.packagetype == "sdist":
        return False
    return distribution.packagetype in what.packagetypes or any(part in filename for part in what.parts)
