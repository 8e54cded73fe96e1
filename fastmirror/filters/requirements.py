"""Lists of requirements as they exist in the field: requirements files, ``uv.lock``, ``pylock.toml``. Pure.

Of a requirements file (pip's documentation, "Requirements File Format") the names and the specifiers count;
``-r`` adds another file, ``-c`` narrows what is named; markers are read over; addresses and paths are skipped
with a warning. Files are read by a function that is handed in.
"""

from __future__ import annotations

import codecs
import posixpath
import re
import tomllib
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from fastmirror.errors import InvalidName, SettingsError
from fastmirror.filters.locks import Lock, files_of_options, files_of_package
from fastmirror.names import normalize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from fastmirror.filters.filter_settings import Specifiers
    from fastmirror.filters.locks import Locked
    from fastmirror.names import NormalizedName


class Listed(NamedTuple):
    """One requirement of a list."""

    name: NormalizedName
    specifier: str  # "" if every version will do
    is_bare: bool  # a name and nothing else
    where: str  # file and line
    extras: tuple[str, ...] = ()  # in no order
    files: tuple[Locked, ...] = ()  # only these; none: any


class Files(NamedTuple):
    """How requirement files are found and read."""

    read: Callable[[str], bytes]  # raises OSError
    expand: Callable[[str], list[str]]  # a path with ``*`` to the paths that it means


def _no_file(path: str) -> bytes:
    raise FileNotFoundError(2, "no files here", path)


NO_FILES = Files(_no_file, lambda path: [path])

_COMMENT = re.compile(r"(?:^|\s+)#.*")
_OPTION = re.compile(r"\s+--?[a-zA-Z].*")
_INCLUDE = re.compile(r"(?:-r|--requirement|-c|--constraint)(?:\s*=\s*|\s+|(?<=^-[rc]))(?P<path>\S.*)")
_ADDRESS = re.compile(
    r"[A-Za-z][A-Za-z0-9+.-]*://|[A-Za-z]+\+|(?:(?!-)[^\s;@]*/|\.{1,2}(?:\[|\Z))|.*\.(?:whl|zip|tar\.gz)\Z|-e\b|--editable\b"
)
_CODING = re.compile(rb"^[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_PYLOCK = re.compile(r"pylock(?:\.[^.]+)?\.toml")


def parse_requirement(text: str, where: str) -> Listed:
    """One requirement. Raises SettingsError, with the place, for what is none."""
    with suppress(InvalidName):  # most are bare names, and thirty times as fast to tell
        return Listed(normalize(text), "", True, where)
    try:
        requirement = Requirement(text)
        name = normalize(requirement.name)
        for specifier in requirement.specifier:
            specifier.contains("0")  # reads its version: of digits Python reads some thousands, no more
    except (InvalidRequirement, InvalidName, RecursionError, ValueError):
        raise SettingsError(f"{where}: {text[:120]!r}: expected a requirement, such as six or six>=1.16") from None
    return Listed(name, str(requirement.specifier), requirement.name == text, where, tuple(requirement.extras))


def without_comment(line: str) -> str:
    """A line without its comment, stripped."""
    return _COMMENT.sub("", line).strip() if "#" in line else line.strip()


def read_requirements(path: str, files: Files, where: str, warnings: list[str]) -> list[Listed]:
    """All that a file requires, with what it includes; `where` says who names it.

    Raises SettingsError for a file that cannot be read and for a line that is no requirement.
    """
    reader = _Reader(files, warnings)
    reader.take(path, where, is_constraint=False)
    return reader.narrowed()


class _Reader:
    def __init__(self, files: Files, warnings: list[str]) -> None:
        self._files = files
        self._warnings = warnings
        self._seen: set[tuple[str, bool]] = set()
        self._listed: list[Listed] = []
        self._constraints: dict[NormalizedName, str] = {}

    def take(self, path: str, where: str, *, is_constraint: bool) -> None:
        path = posixpath.normpath(path)
        if (path, is_constraint) in self._seen:
            return
        self._seen.add((path, is_constraint))
        try:
            content = self._files.read(path)
        except (OSError, ValueError) as error:  # no path holds a NUL
            reason = error.strerror if isinstance(error, OSError) else error
            raise SettingsError(f"{where}: cannot read {path!r}: {reason}") from error
        filename = posixpath.basename(path)
        if filename == "uv.lock" or _PYLOCK.fullmatch(filename):
            found: Iterator[Listed] = self._locked(content, path, "package" if filename == "uv.lock" else "packages")
        else:
            found = self._lines(content, path, is_constraint)
        for listed in found:
            if is_constraint:
                joined = [text for text in (self._constraints.get(listed.name), listed.specifier) if text]
                self._constraints[listed.name] = ",".join(joined)
            else:
                self._listed.append(listed)

    def narrowed(self) -> list[Listed]:
        """What is required, each within its constraints."""
        return [self._constrained(listed) for listed in self._listed]

    def _constrained(self, listed: Listed) -> Listed:
        texts = [text for text in (listed.specifier, self._constraints.get(listed.name)) if text]
        return listed._replace(specifier=",".join(texts))

    def _lines(self, content: bytes, path: str, is_constraint: bool) -> Iterator[Listed]:
        for number, line in _logical_lines(decode(content)):
            where = f"{path}:{number}"
            text = without_comment(line)
            if include := _INCLUDE.fullmatch(text):
                named = include["path"].strip("\"'")
                if _ADDRESS.match(named) and "://" in named:
                    self._warnings.append(f"{where}: {text[:120]!r}: an address, skipped")
                    continue
                target = posixpath.join(posixpath.dirname(path), named)
                self.take(target, where, is_constraint=is_constraint or text.startswith(("-c", "--constraint")))
            elif _ADDRESS.match(text) or " @ " in text:
                self._warnings.append(f"{where}: {text[:120]!r}: an address or a path, skipped")
            elif text and not text.startswith("-"):
                requirement = _OPTION.sub("", text).strip()
                files, has_others = files_of_options(text[len(requirement) :])
                if has_others:
                    self._warnings.append(f"{where}: {requirement[:120]!r}: hashes other than sha256 are not held to")
                yield parse_requirement(requirement, where)._replace(files=files)

    def _locked(self, content: bytes, path: str, key: str) -> Iterator[Listed]:
        try:
            text = content.decode("utf-8-sig")
            document: dict[str, Any] = tomllib.loads(text)
        except (ValueError, RecursionError) as error:  # no TOML, no UTF-8, or a number of thousands of digits
            line = re.search(r"at line (\d+)", str(error))
            raise SettingsError(f"{path}:{line[1] if line else 1}: not a lock file: {error!s:.120}") from error
        packages = document.get(key)
        if not isinstance(packages, list):
            raise SettingsError(f"{path}:1: not a lock file: no list of packages ({key})")
        for package in packages:
            if not isinstance(package, dict) or not isinstance(package.get("name"), str):
                raise SettingsError(f"{path}:1: {key}: a package without a name")
            name, version, source = package["name"], package.get("version"), package.get("source")
            where = f"{path}:{_line_of(name, text)}"
            is_local = isinstance(source, dict) and "registry" not in source
            if is_local or package.keys() & {"vcs", "directory", "archive"}:
                if source not in ({"editable": "."}, {"virtual": "."}):  # which is the locked project itself
                    self._warnings.append(f"{where}: {name[:120]!r}: from elsewhere than an index, skipped")
            else:
                yield self._held(
                    parse_requirement(f"{name}=={version}" if isinstance(version, str) else name, where), package
                )

    def _held(self, listed: Listed, package: dict[str, Any]) -> Listed:
        """What is locked, held to the files that the package names."""
        try:
            files = tuple(files_of_package(package))
        except ValueError as error:
            raise SettingsError(f"{listed.where}: {listed.name}: {error!s:.120}") from error
        if not all(file.sha256 for file in files):
            self._warnings.append(f"{listed.where}: {listed.name}: a file without sha256 is held to its name alone")
        return listed._replace(files=files)


def _line_of(name: str, text: str) -> int:
    place = max(text.find(f'name = "{name}"'), 0)
    return text.count("\n", 0, place) + 1


def decode(content: bytes) -> str:
    """The text of a requirements file: by its byte order mark, its coding line (PEP 263), UTF-8, else Latin-1."""
    for mark, encoding in _BOMS:
        if content.startswith(mark):
            return content[len(mark) :].decode(encoding, "replace")
    for line in content.split(b"\n", 2)[:2]:
        if match := _CODING.match(line):
            try:
                return content.decode(match[1].decode("ascii"))
            except (LookupError, ValueError):
                break
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their numbers, those that end in a backslash joined with the next."""
    joined, begun = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        begun = begun or number
        if line.rstrip().endswith("\\") and not line.lstrip().startswith("#"):
            joined += line.rstrip()[:-1] + " "
            continue
        yield begun, joined + line
        joined, begun = "", 0
    if joined:
        yield begun, joined


def by_name(listed: Iterable[Listed]) -> Specifiers:
    """The specifiers of each project, by its name."""
    found: dict[NormalizedName, list[str]] = {}
    for one in listed:
        found.setdefault(one.name, []).append(one.specifier)
    return tuple((name, tuple(dict.fromkeys(specifiers))) for name, specifiers in sorted(found.items()))


def extras_by_name(listed: Iterable[Listed]) -> tuple[tuple[NormalizedName, tuple[str, ...]], ...]:
    """The extras that are asked for, project by project."""
    found: dict[NormalizedName, set[str]] = {}
    for one in listed:
        if one.extras:
            found.setdefault(one.name, set()).update(canonicalize_name(extra) for extra in one.extras)
    return tuple((name, tuple(sorted(extras))) for name, extras in sorted(found.items()))


def locks_by_name(listed: Iterable[Listed]) -> tuple[tuple[NormalizedName, tuple[Lock, ...]], ...]:
    """What is admitted of each project of which some files are named one by one."""
    found: dict[NormalizedName, dict[Lock, None]] = {}
    for one in listed:
        found.setdefault(one.name, {})[Lock(one.specifier, one.files, one.where)] = None
    return tuple((name, tuple(locks)) for name, locks in sorted(found.items()) if any(lock.files for lock in locks))
