"""environments: what a stated environment can install, by tags (PEP 425, 600, 656) and Requires-Python."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple

from packaging import tags
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from fastmirror import ini
from fastmirror.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from fastmirror.filters.versions import Distribution, Versions
    from fastmirror.model import File

KEYS = frozenset({"targets", "sdists"})
_EXPECTED = "Pythons and platforms, such as cp312 manylinux_2_28_x86_64 win_amd64 macosx_14_0_arm64"
_PYTHON = re.compile(r"(?P<kind>cp|pp)3(?P<minor>\d{1,2})(?P<threaded>t?)")
_LIBC = re.compile(r"(?P<libc>manylinux|musllinux)_(?P<major>\d{1,3})_(?P<minor>\d{1,3})_(?P<machine>\w+)")
_MACOS = re.compile(r"macosx_(?P<major>\d{1,3})_(?P<minor>\d{1,3})_(?P<machine>x86_64|arm64)")
_PLAIN = re.compile(r"win32|win_amd64|win_arm64|linux_\w+")
_LEGACY = {"manylinux1": 5, "manylinux2010": 12, "manylinux2014": 17}  # minor versions of glibc 2
_LEGACY_NAMES = {minor: name for name, minor in _LEGACY.items()}
_LONGEST_SPECIFIER = 1000  # characters
_LAST_MICRO = 99  # later than any release of a Python


class Target(NamedTuple):
    """One environment that packages are installed into."""

    python: str  # "cp312", "cp313t", "pp310"
    platform: str  # "manylinux_2_28_x86_64", "macosx_14_0_arm64", "win_amd64"

    def __str__(self) -> str:
        return f"{self.python} {self.platform}"

    @property
    def version(self) -> tuple[int, int]:
        """Of Python."""
        return 3, int(self.python[3:].rstrip("t"))

    @property
    def is_cpython(self) -> bool:
        """Rather than PyPy."""
        return self.python.startswith("cp")


class Environments(NamedTuple):
    """What files are for."""

    targets: tuple[Target, ...]
    sdists: Literal["all", "needed", "none"]  # needed: where a version has no wheel for some target

    def kept(self, files: Sequence[File], versions: Versions) -> set[str]:
        """Names of those of these files that some target can install."""
        told = [(file, versions.of(file.filename)) for file in files]
        served: dict[str, set[Target]] = {}  # by version: the targets that have a wheel
        if self.sdists == "needed":
            for file, distribution in told:
                if distribution.packagetype == "bdist_wheel":
                    found = (target for target in self.targets if can_install(file, distribution, target))
                    served.setdefault(distribution.version, set()).update(found)
        return {
            file.filename
            for file, distribution in told
            if any(can_install(file, distribution, target) for target in self._served_by(distribution, served))
        }

    def _served_by(self, distribution: Distribution, served: Mapping[str, set[Target]]) -> Sequence[Target]:
        """The targets that a file of this kind is kept for."""
        if distribution.packagetype != "sdist":
            return self.targets
        if self.sdists == "none":
            return ()
        return [target for target in self.targets if target not in served.get(distribution.version, ())]


def can_install(file: File, distribution: Distribution, target: Target) -> bool:
    """Whether an installer would take this file there: a wheel by its tags, a source distribution, nothing else."""
    if distribution.packagetype == "bdist_wheel":
        if not _is_compatible(file.filename, target):
            return False
    elif distribution.packagetype != "sdist":
        return False
    requires = file.keys.get("requires-python")
    return not isinstance(requires, str) or _accepts(requires, target.version)


def marker_environments(target: Target) -> list[dict[str, str]]:
    """What markers (PEP 508) go by there, for the first release of that Python and for a last one."""
    system, os_name, machine = _machine(target.platform)
    minor = "{}.{}".format(*target.version)
    kind = "CPython" if target.is_cpython else "PyPy"
    common = {
        "os_name": os_name,
        "sys_platform": {"Linux": "linux", "Darwin": "darwin", "Windows": "win32"}[system],
        "platform_system": system,
        "platform_machine": machine,
        "platform_release": "",
        "platform_version": "",
        "platform_python_implementation": kind,
        "implementation_name": kind.lower(),
        "python_version": minor,
    }
    releases = (f"{minor}.{micro}" for micro in (0, _LAST_MICRO))
    return [{**common, "python_full_version": full, "implementation_version": full} for full in releases]


def _machine(platform: str) -> tuple[str, str, str]:
    """System, os.name and machine, as Python names them there."""
    if platform.startswith("win"):
        return "Windows", "nt", {"win32": "x86", "win_amd64": "AMD64", "win_arm64": "ARM64"}[platform]
    if mac := _MACOS.fullmatch(platform):
        return "Darwin", "posix", mac["machine"]
    libc = _LIBC.fullmatch(platform)
    return "Linux", "posix", libc["machine"] if libc else platform.removeprefix("linux_")


def _is_compatible(filename: str, target: Target) -> bool:
    parts = filename.removesuffix(".whl").rsplit("-", 3)
    if len(parts) != 4:  # name and version, Pythons, ABIs, platforms
        return False
    supported = _supported(target)
    pythons, abis, platforms = (part.split(".") for part in parts[1:])
    return any(
        f"{python}-{abi}-{platform}" in supported for python in pythons for abi in abis for platform in platforms
    )


@lru_cache(maxsize=4096)  # thousands of files say the same
def _accepts(requires: str, version: tuple[int, int]) -> bool:
    """Whether some release of this Python satisfies a Requires-Python; what is no specifier says nothing."""
    if len(requires) > _LONGEST_SPECIFIER:
        return True
    try:
        specifiers = SpecifierSet(requires)
        releases = (f"{version[0]}.{version[1]}.{micro}" for micro in (0, _LAST_MICRO))
        return any(specifiers.contains(release, prereleases=True) for release in releases)
    except (InvalidSpecifier, ValueError):
        return True


@lru_cache(maxsize=256)
def _supported(target: Target) -> frozenset[str]:
    """The tags that a target takes, as an installer there would say (PEP 425)."""
    minor = target.version[1]
    interpreter = target.python.rstrip("t")
    platforms = list(_platforms(target.platform))
    if target.is_cpython:
        abi = f"{target.python}m" if minor < 8 else target.python
        own = tags.cpython_tags(target.version, [abi], platforms)
    else:
        own = tags.generic_tags(interpreter, [f"pypy3{minor}_pp73"], platforms)
    return frozenset(str(tag) for tag in (*own, *tags.compatible_tags(target.version, interpreter, platforms)))


def _platforms(platform: str) -> Iterator[str]:
    """All platforms whose wheels run on this one."""
    if mac := _MACOS.fullmatch(platform):
        yield from tags.mac_platforms((int(mac["major"]), int(mac["minor"])), mac["machine"])
    elif libc := _LIBC.fullmatch(platform):
        for minor in range(int(libc["minor"]), -1, -1):
            yield f"{libc['libc']}_{libc['major']}_{minor}_{libc['machine']}"
            if libc["libc"] == "manylinux" and minor in _LEGACY_NAMES:
                yield f"{_LEGACY_NAMES[minor]}_{libc['machine']}"
        yield f"linux_{libc['machine']}"
    else:
        yield platform


def read(config: ini.Ini) -> Environments | None:
    """The section [environments]; None if it names no target. Raises SettingsError."""
    sdists = config.read("environments", "sdists", ini.choice("all", "needed", "none"), "all")
    entry = config.get("environments", "targets")
    if entry is None or not entry.value:
        return None
    targets: list[Target] = []
    for line in entry.lines:
        targets += _targets(entry, line)
    return Environments(tuple(dict.fromkeys(targets)), sdists)  # type: ignore[arg-type]


def dependencies_for(config: ini.Ini) -> tuple[Target, ...]:
    """The environments whose dependencies are mirrored too; none if they are not asked for. Raises SettingsError."""
    if not config.read("mirror", "with-dependencies", ini.boolean, False):
        return ()
    stated = read(config)
    if stated is None:
        raise SettingsError(
            f"{config.source}: with-dependencies without [environments] targets: whose dependencies?"
            " (hint: targets = cp312 manylinux_2_28_x86_64)"
        )
    return stated.targets


def _targets(entry: ini.Entry, line: ini.Line) -> Iterator[Target]:
    """Each Python of a line on each platform of it."""
    words = line.text.partition("#")[0].split()
    pythons = [word for word in words if _PYTHON.fullmatch(word)]
    platforms = [_spelt(word) for word in words if word not in pythons]
    if words and not (pythons and platforms and all(_is_platform(name) for name in platforms)):
        raise entry.refused(_EXPECTED, line)
    for python in pythons:
        for platform in platforms:
            yield Target(python, platform)


def _spelt(platform: str) -> str:
    """A platform by its name of today."""
    name, _, machine = platform.partition("_")
    return f"manylinux_2_{_LEGACY[name]}_{machine}" if name in _LEGACY and machine else platform


def _is_platform(name: str) -> bool:
    return any(pattern.fullmatch(name) for pattern in (_LIBC, _MACOS, _PLAIN))
