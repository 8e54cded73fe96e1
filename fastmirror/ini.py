"""The configuration file as bandersnatch reads it: every value keeps its line, and is typed when asked for.

The rules: ``=`` is the only delimiter; names of sections and keys are case-sensitive; a comment is a whole
line that begins with ``#`` or ``;``; deeper indentation continues a value; ``%%`` stands for ``%``, and
``%(key)s`` for another key of the section or of ``[DEFAULT]``. Any other ``%`` stands for itself.

Everything here raises SettingsError and nothing else. What a message quotes is free of credentials.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, TypeVar
from urllib.parse import SplitResult, urlsplit

from fastmirror.effective import Effective, excerpt, in_order, spelt
from fastmirror.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    Vocabulary = Mapping[str, frozenset[str] | None]  # section -> its keys; None: any key

T = TypeVar("T")
Name = TypeVar("Name", bound=str)

_DEFAULT = "DEFAULT"
_NEWLINE = re.compile(r"\r\n|\r|\n")
_HEADER = re.compile(r"\[(.+)\]")
_REFERENCE = re.compile(r"%(?:%|\(([^)]+)\)s)")
_DEEPEST_REFERENCE = 10  # as in configparser
_BEFORE_AT = re.compile(r"\A([A-Za-z][A-Za-z0-9+.-]*://)?.*@", re.DOTALL)
_QUERY = re.compile(r"(?<=\?).*", re.DOTALL)
_QUOTED_LENGTH = 120


def quoted(value: str) -> str:
    """The value as a message shows it: short, and without what stands before an ``@`` or after a ``?``."""
    return repr(_QUERY.sub("***", _BEFORE_AT.sub(r"\1***@", value))[:_QUOTED_LENGTH])


@lru_cache(maxsize=256)  # each line of a list is under the same names
def shown(name: str) -> str:
    """A section's or a key's name as a message shows it."""
    return quoted(name)[1:-1]


def nearest(value: str, names: Iterable[str]) -> str:
    """A hint at the most similar name, to put behind a message; empty if none is similar."""
    by_lower = {name.lower(): name for name in names}
    matches = get_close_matches(value[:_QUOTED_LENGTH].lower(), by_lower, n=1)
    return f" (did you mean '{by_lower[matches[0]]}'?)" if matches else ""


class Line(NamedTuple):
    """One line of a value."""

    number: int  # in the file, from 1; 0 on the command line
    text: str  # without the white space around it


@dataclass(frozen=True, slots=True)
class Entry:
    """One key with its value, and where it stands."""

    source: str  # the file, or "--set KEY"
    section: str
    key: str
    lines: tuple[Line, ...]  # at least one; the first is the key's own

    @property
    def value(self) -> str:
        """The whole value, its lines joined by newlines."""
        return "\n".join(line.text for line in self.lines).strip()

    @property
    def is_override(self) -> bool:
        """Whether it comes from the command line."""
        return not self.lines[0].number

    @property
    def origin(self) -> str:
        """Who set it: "FILE:12" or "--set KEY"."""
        return self.source if self.is_override else f"{self.source}:{self.lines[0].number}"

    def where(self, line: Line | None = None) -> str:
        """Where the value, or one line of it, stands: "FILE:12: [mirror] workers"."""
        number = (line or self.lines[0]).number
        if self.is_override:
            return self.source
        return f"{self.source}:{number}: [{shown(self.section)}] {shown(self.key)}"

    def refused(self, expected: str, line: Line | None = None) -> SettingsError:
        """The error for a value, or for one line of it, that is not what was expected."""
        value = self.value if line is None else line.text
        return SettingsError(f"{self.where(line)}: {quoted(value)}: expected {expected}")


class Ini:
    """Sections, keys and values of one configuration, with the overrides of the command line."""

    def __init__(self, source: str, sections: dict[str, int], entries: Iterable[Entry]) -> None:
        self.source = source  # names the file in messages
        self.sections = sections  # section -> its line
        self._entries = {(entry.section, entry.key): entry for entry in entries}
        self._asked: dict[tuple[str, str], Effective] = {}

    def get(self, section: str, key: str) -> Entry | None:
        """The value with its references resolved; None if neither the section nor [DEFAULT] has it."""
        entry = self._find(section, key)
        if entry is None:
            self._asked.setdefault((section, key), Effective(section, key, "", "default"))
            return None
        if any("%" in line.text for line in entry.lines):
            entry = Entry(entry.source, entry.section, entry.key, tuple(self._resolved(entry, section, 0)))
        self._asked[section, key] = Effective(section, key, excerpt(entry.value), entry.origin)
        return entry

    def decided(self, section: str, key: str, value: str, origin: str) -> None:
        """A setting that the configuration leaves open was decided elsewhere."""
        self._asked[section, key] = Effective(section, key, excerpt(value), origin)

    def entries(self, section: str) -> list[Entry]:
        """Every key of a section, with its references resolved; without those of [DEFAULT]."""
        found = [self.get(section, key) for home, key in self._entries if home == section]
        return [entry for entry in found if entry is not None]

    def read(self, section: str, key: str, convert: Callable[[Entry], T], default: T) -> T:
        """The value as `convert` makes it; the default if it is absent."""
        entry = self.get(section, key)
        if entry is not None:
            return convert(entry)
        self._asked[section, key] = Effective(section, key, spelt(default), "default")
        return default

    def effective(self) -> tuple[Effective, ...]:
        """Every setting that was asked for; then, without its value, which may be a secret, what was not."""
        rest = [entry for name, entry in self._entries.items() if name not in self._asked and name[0] != _DEFAULT]
        unused = (Effective(entry.section, entry.key, "", entry.origin, is_used=False) for entry in rest)
        return (*in_order(self._asked.values()), *unused)

    def override(self, name: str, value: str, vocabulary: Vocabulary) -> None:
        """Set a value by name: `key` of the vocabulary's first section, or `section.key`.

        It is taken literally. An unknown name is an error.
        """
        home = next(iter(vocabulary))
        section, dot, key = name.partition(".")
        if not dot:
            section, key = home, name
        if section not in vocabulary:
            raise SettingsError(f"--set {shown(name)}: unknown section{nearest(section, vocabulary)}")
        keys = vocabulary[section]
        if keys is not None and key not in keys:
            raise SettingsError(f"--set {shown(name)}: unknown key of [{section}]{nearest(key, keys)}")
        lines = tuple(Line(0, part.strip()) for part in _NEWLINE.split(value))
        self._entries[section, key] = Entry(f"--set {shown(name)}", section, key, lines)

    def unknown(self, vocabulary: Vocabulary) -> list[str]:
        """A warning for each section and each key of the file that the vocabulary lacks."""
        found = []
        for section, number in self.sections.items():
            if section not in vocabulary and section != _DEFAULT:
                hint = nearest(section, vocabulary)
                found.append((number, f"{self.source}:{number}: [{shown(section)}]: unknown section, ignored{hint}"))
        for entry in self._entries.values():
            keys = vocabulary.get(entry.section)
            if keys is not None and entry.key not in keys:
                hint = nearest(entry.key, keys)
                found.append((entry.lines[0].number, f"{entry.where()}: unknown key, ignored{hint}"))
        return [warning for _, warning in sorted(found)]

    def _find(self, section: str, key: str) -> Entry | None:
        return self._entries.get((section, key)) or self._entries.get((_DEFAULT, key))

    def _resolved(self, entry: Entry, section: str, depth: int) -> list[Line]:
        resolved = []
        for line in entry.lines:
            text = line.text
            if line.number:  # the command line is taken literally

                def referred(match: re.Match[str], line: Line = line) -> str:
                    return "%" if match[1] is None else self._referred(entry, line, section, match[1], depth)

                text = _REFERENCE.sub(referred, text)
            resolved += [Line(line.number, part) for part in text.split("\n")]
        return resolved

    def _referred(self, entry: Entry, line: Line, section: str, key: str, depth: int) -> str:
        other = self._find(section, key)
        if other is None:
            raise SettingsError(f"{entry.where(line)}: refers to {quoted(key)}, which is not set")
        if depth >= _DEEPEST_REFERENCE:
            raise SettingsError(f"{entry.where(line)}: refers to {quoted(key)}, too deep or in a circle")
        return "\n".join(part.text for part in self._resolved(other, section, depth + 1))


def read_ini(text: str, source: str) -> Ini:
    """Read a configuration file's text; `source` names it in messages.

    Raises SettingsError, with the line, for what is neither section, key nor continuation, and for a section
    or a key that is given twice.
    """
    sections: dict[str, int] = {}
    values: dict[tuple[str, str], list[Line]] = {}
    section = ""
    value: list[Line] | None = None  # the value that an indented line continues
    margin = 0
    for number, line in enumerate(_NEWLINE.split(text.removeprefix("\ufeff")), 1):
        stripped = line.strip()
        if stripped.startswith(("#", ";")):
            continue
        indent = len(line) - len(line.lstrip())
        if value is not None and (not stripped or indent > margin):
            value.append(Line(number, stripped))
            continue
        if not stripped:
            continue
        margin = indent
        if header := _HEADER.match(stripped):
            section, value = header[1], None
            first_line = sections.setdefault(section, number)
            if first_line != number and section != _DEFAULT:
                raise SettingsError(f"{source}:{number}: [{shown(section)}]: given twice, first in line {first_line}")
            continue
        key, delimiter, first = (part.strip() for part in stripped.partition("="))
        if not section:
            raise SettingsError(f"{source}:{number}: {quoted(stripped)}: expected a [section] first")
        if not delimiter or not key:
            raise SettingsError(f"{source}:{number}: {quoted(stripped)}: expected [section] or key = value")
        if same := values.get((section, key)):
            where = Entry(source, section, key, (Line(number, first),)).where()
            raise SettingsError(f"{where}: given twice, first in line {same[0].number}")
        value = values[section, key] = [Line(number, first)]
    return Ini(source, sections, (Entry(source, *name, tuple(lines)) for name, lines in values.items()))


# What turns an entry into a value. Each raises SettingsError with the accepted values.

_BOOLEANS = dict.fromkeys(("1", "yes", "true", "on"), True)
_BOOLEANS |= dict.fromkeys(("0", "no", "false", "off"), False)


def boolean(entry: Entry) -> bool:
    """1, yes, true, on, 0, no, false or off, in any case."""
    value = _BOOLEANS.get(entry.value.lower())
    if value is None:
        raise entry.refused(f"one of {', '.join(_BOOLEANS)}{nearest(entry.value, _BOOLEANS)}")
    return value


def whole(least: int, most: int | None = None) -> Callable[[Entry], int]:
    """A whole number within bounds."""

    def convert(entry: Entry) -> int:
        try:
            value = int(entry.value)
        except ValueError:
            value = least - 1
        if value < least or (most is not None and value > most):
            bounds = f"from {least} to {most}" if most is not None else f"of at least {least}"
            raise entry.refused(f"a whole number {bounds}")
        return value

    return convert


def choice(*names: Name) -> Callable[[Entry], Name]:
    """One of these names, in any case; as it is spelt here."""
    by_lower = {name.lower(): name for name in names}

    def convert(entry: Entry) -> Name:
        name = by_lower.get(entry.value.lower())
        if name is None:
            raise entry.refused(f"one of {', '.join(names)}{nearest(entry.value, names)}")
        return name

    return convert


def seconds(entry: Entry) -> float:
    """Seconds, more than 0."""
    try:
        value = float(entry.value)
    except ValueError:
        value = math.nan
    if not (value > 0 and math.isfinite(value)):
        raise entry.refused("a number of seconds above 0")
    return value


_MEASURE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s*([a-z]*)", re.ASCII | re.IGNORECASE)
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_BYTES = {unit + end: 1024**n for n, unit in enumerate(("", "k", "m", "g", "t")) for end in ("", "b", "ib")}


def _measure(entry: Entry, units: Mapping[str, int], expected: str) -> float:
    match = _MEASURE.fullmatch(entry.value)
    if match is None or match[2].lower() not in units:
        raise entry.refused(expected)
    return float(match[1]) * units[match[2].lower()]


def duration(entry: Entry) -> float:
    """Seconds, from a number of them or with a unit: 90s, 15m, 1h, 2d."""
    return _measure(entry, _SECONDS, "seconds, or a duration such as 90s, 15m, 1h or 2d")


def size(entry: Entry) -> int:
    """Bytes, from a number of them or with a binary unit: 500k, 10M, 1G."""
    return int(_measure(entry, _BYTES, "a size such as 500k, 10M or 1G"))


_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SPACE = re.compile(r"[\s\x00-\x1f\x7f\\]")


def path(entry: Entry) -> str:
    """An absolute path."""
    if _CONTROL.search(entry.value) or not entry.value.startswith("/"):
        raise entry.refused("an absolute path")
    return re.sub("/+", "/", entry.value).rstrip("/") or "/"


def url(*schemes: str) -> Callable[[Entry], SplitResult]:
    """An address of one of these schemes, with a host, without query and fragment."""

    expected = " or ".join(f"{name}://HOST" for name in schemes)

    def convert(entry: Entry) -> SplitResult:
        try:
            address = urlsplit(entry.value)
            usable = address.scheme in schemes and bool(address.hostname) and address.port != 0
        except ValueError:
            usable = False
        # An @ in the path: a password with a slash, which would pass for a host and a path.
        if not usable or address.query or address.fragment or "@" in address.path or _SPACE.search(entry.value):
            raise entry.refused(f"{expected}, without query, / and @ of a password written as %2F and %40")
        return address

    return convert


def optional(convert: Callable[[Entry], T]) -> Callable[[Entry], T | None]:
    """What `convert` makes of a value; None if it is empty."""
    return lambda entry: convert(entry) if entry.value else None
