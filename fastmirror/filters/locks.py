"""Files that a lock names, each held to its sha256: ``uv.lock``, ``pylock.toml`` (PEP 751), ``--hash`` of pip's."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlsplit

from packaging.specifiers import SpecifierSet

from fastmirror.filters.versions import parsed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from fastmirror.model import File

_SHA256 = re.compile(r"[0-9a-f]{64}")
_HASH = re.compile(r"--hash[=\s]\s*(?P<algorithm>\w+):(?P<digest>\w+)")


class Locked(NamedTuple):
    """One file."""

    filename: str  # "" for any file with this digest
    sha256: str  # lower-case hex; "" if the lock states none


class Lock(NamedTuple):
    """What one entry of a list admits of a project."""

    specifier: str
    files: tuple[Locked, ...]  # only these; none: any file of these versions
    where: str  # file and line


class Locks:
    """All that is admitted of one project."""

    def __init__(self, locks: Sequence[Lock]) -> None:
        self._locks = locks
        self._files = {file for lock in locks for file in lock.files}
        self._free = [SpecifierSet(lock.specifier) for lock in locks if not lock.files]

    @property
    def identity(self) -> tuple[object, ...]:
        """What a change of calls for a new plan."""
        return tuple((lock.specifier, lock.files) for lock in self._locks)

    def admit(self, file: File, version: str) -> bool:
        """Whether a file, of this version, is one of those."""
        sha256 = file.digest if file.algorithm == "sha256" else "unknown"
        if not self._files.isdisjoint({Locked(file.filename, sha256), Locked("", sha256), Locked(file.filename, "")}):
            return True
        known = parsed(version)
        return known is not None and any(specifiers.contains(known, prereleases=True) for specifiers in self._free)

    def refusals(self, files: Iterable[File]) -> list[tuple[str, str]]:
        """What a lock names, and upstream has not, or has otherwise: (file name or specifier, reason)."""
        digests = {file.filename: file.digest for file in files}
        found: list[tuple[str, str]] = []
        for lock in self._locks:
            if lock.files and not any(file.filename for file in lock.files):
                if not {file.sha256 for file in lock.files} & set(digests.values()):
                    found.append((lock.specifier, f"no file upstream has a sha256 that {lock.where} names"))
                continue
            for file in lock.files:
                digest = digests.get(file.filename)
                if digest is None:
                    found.append((file.filename, f"{lock.where} names it, and upstream does not list it"))
                elif file.sha256 and digest != file.sha256:
                    reason = f"its sha256 upstream is {digest}, and {file.sha256} in {lock.where}"
                    found.append((file.filename, reason))
        return found


def files_of_options(options: str) -> tuple[tuple[Locked, ...], bool]:
    """The files that ``--hash`` options of a requirement admit; and whether there are hashes that cannot be held to."""
    found = [(match["algorithm"].lower(), match["digest"].lower()) for match in _HASH.finditer(options)]
    known = [digest for algorithm, digest in found if algorithm == "sha256" and _SHA256.fullmatch(digest)]
    return tuple(Locked("", digest) for digest in known), len(known) < len(found)


def files_of_package(package: Mapping[str, Any]) -> Iterator[Locked]:
    """The files that a package of a lock file names. Raises ValueError for one without a name."""
    entries = [*_dicts(package.get("wheels")), *_dicts([package.get("sdist")])]
    for entry in entries:
        place = entry.get("url") or entry.get("path")
        name = entry.get("name") or (posixpath.basename(unquote(urlsplit(str(place)).path)) if place else "")
        if not isinstance(name, str) or not name:
            raise ValueError("a file without a name")
        hashes = entry.get("hashes")
        stated = (
            hashes.get("sha256") if isinstance(hashes, dict) else str(entry.get("hash", "")).partition("sha256:")[2]
        )
        sha256 = str(stated or "").lower()
        yield Locked(name, sha256 if _SHA256.fullmatch(sha256) else "")


def _dicts(value: object) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
