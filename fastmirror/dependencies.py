"""What projects require of each other, as core metadata says, and what that comes to for some of them. Pure.

The closure of some projects is all that an installer may ask for when it installs them into the stated environments:
what any version of theirs that is mirrored requires there (PEP 508), and so on. It errs on the side of too much.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from packaging.markers import UndefinedComparison, UndefinedEnvironmentName
from packaging.metadata import parse_email
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from fastmirror.errors import InvalidName
from fastmirror.filters.environments import marker_environments
from fastmirror.model import Demand, Need, Needs
from fastmirror.names import normalize

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from packaging.markers import Marker

    from fastmirror.filters.environments import Target
    from fastmirror.names import NormalizedName

_SPECIFIERS_MOST = 1000  # of one project
_BLANK_LINE = re.compile(rb"\r?\n\r?\n")
_HEADERS_MOST = 1 << 20  # bytes
_REQUIREMENTS_MOST = 2000  # of one file
_LONGEST_REQUIREMENT = 20_000  # characters
# Of all markers of one file together, as often as each is evaluated: what a marker costs grows with its length.
_EVALUATED_MOST = 3_000_000  # characters
_QUOTED = re.compile(r"""["']([^"']*)["']""")
# What only the machine itself could tell.
_UNKNOWABLE = re.compile(r"platform_(?:release|version)")


def read_needs(metadata: bytes, targets: Sequence[Target]) -> Needs:
    """What a file with this core metadata requires in these environments, as far as markers can tell.

    What cannot be understood is in the troubles; a marker that cannot be evaluated counts as true.
    """
    headers = _BLANK_LINE.split(metadata, maxsplit=1)[0]
    if len(headers) > _HEADERS_MOST:
        return Needs((), (f"core metadata with {len(headers)} bytes of headers is not read",))
    raw, _ = parse_email(headers + b"\n\n")
    lines = raw.get("requires_dist", [])
    reading = _Reading({canonicalize_name(name) for name in raw.get("provides_extra", [])}, targets)
    for line in lines[:_REQUIREMENTS_MOST]:
        reading.take(line)
    if len(lines) > _REQUIREMENTS_MOST:
        reading.doubt(f"{len(lines)} requirements, of which {_REQUIREMENTS_MOST} count")
    return reading.joining.needs()


class _Reading:
    """The requirements of one file, read one by one."""

    def __init__(self, extras: Collection[str], targets: Sequence[Target]) -> None:
        self._extras = extras
        self._targets = targets
        self._evaluated = 0  # characters of markers
        self.joining = Joining()

    def doubt(self, trouble: str) -> None:
        self.joining.add(Needs(troubles=(trouble,)))

    def take(self, line: str) -> None:
        try:
            if len(line) > _LONGEST_REQUIREMENT:
                raise InvalidRequirement
            requirement = Requirement(line)
            for specifier in requirement.specifier:
                specifier.contains("0")  # reads its version: of digits Python reads some thousands, no more
            self._take(requirement, normalize(requirement.name))
        except (InvalidRequirement, InvalidName, RecursionError, ValueError):
            self.doubt(f"requirement that cannot be understood: {line[:120]!r}")

    def _take(self, requirement: Requirement, name: NormalizedName) -> None:
        """Once for each extra that asks for it."""
        if requirement.url:
            self.doubt(f"{name}: from elsewhere than an index, not mirrored")
            return
        marker = str(requirement.marker or "")
        named = {canonicalize_name(text) for text in _QUOTED.findall(marker)} & set(self._extras)
        wanted = tuple(sorted(canonicalize_name(extra) for extra in requirement.extras))
        always = self._where(requirement, marker, "")
        for extra in ("", *sorted(named)):
            if labels := self._where(requirement, marker, extra) - always if extra else always:
                need = Need(extra, name, wanted, str(requirement.specifier), tuple(sorted(labels)))
                self.joining.add(Needs((need,)))

    def _where(self, requirement: Requirement, marker: str, extra: str) -> set[str]:
        """The targets where a marker holds in some release of their Python."""
        if requirement.marker is None:
            return {str(target) for target in self._targets}
        try:
            return {
                str(target)
                for target in self._targets
                if any(
                    self._holds(requirement.marker, marker, {**known, "extra": extra})
                    for known in marker_environments(target)
                )
            }
        except (UndefinedComparison, UndefinedEnvironmentName):
            self.doubt(f"{requirement.name}: marker that cannot be evaluated, taken as true: {marker[:120]}")
            return {str(target) for target in self._targets}

    def _holds(self, marker: Marker, text: str, environment: dict[str, str]) -> bool:
        self._evaluated += len(text)
        if self._evaluated > _EVALUATED_MOST or _UNKNOWABLE.search(text):
            raise UndefinedEnvironmentName
        return marker.evaluate(environment)


class Joining:
    """Requirements put together: each once, with every environment in which some file has it."""

    def __init__(self) -> None:
        self._targets: dict[tuple[str, NormalizedName, tuple[str, ...], str], set[str]] = {}
        self._troubles: dict[str, None] = {}  # in order

    def __len__(self) -> int:
        return len(self._targets)

    def add(self, needs: Needs) -> None:
        """Take these in."""
        for need in needs.requires:
            self._targets.setdefault(need[:4], set()).update(need.targets)
        self._troubles.update(dict.fromkeys(needs.troubles))

    def needs(self) -> Needs:
        """All of them, in order."""
        requires = (Need(*key, targets=tuple(sorted(found))) for key, found in sorted(self._targets.items()))
        return Needs(tuple(requires), tuple(self._troubles))


def closure(
    roots: Mapping[NormalizedName, Collection[str]],
    needs: Mapping[NormalizedName, Iterable[Need]],
    targets: Iterable[str],
) -> dict[NormalizedName, Demand]:
    """The roots, given with their extras, and all that they require: what is demanded of each."""
    demanded: dict[NormalizedName, dict[str, set[str]]] = {name: {} for name in roots}
    seen: set[tuple[NormalizedName, str, str]] = set()
    labels = list(targets)
    todo = [(name, extra, label) for name in roots for extra in ("", *roots[name]) for label in labels]
    while todo:
        node = todo.pop()
        if node in seen:
            continue
        seen.add(node)
        name, extra, label = node
        for need in needs.get(name, ()):
            if need.extra == extra and label in need.targets:
                demanded.setdefault(need.name, {}).setdefault(need.specifier, set()).add(label)
                todo += [(need.name, wanted, label) for wanted in ("", *need.extras)]
    return {name: Demand(name in roots, tuple(_specifiers(found))) for name, found in demanded.items()}


def _specifiers(found: Mapping[str, Collection[str]]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each with its environments, in order; of very many, one that every version satisfies stands for all."""
    if len(found) > _SPECIFIERS_MOST:
        yield "", tuple(sorted({target for targets in found.values() for target in targets}))
        return
    for text in sorted(found):
        yield text, tuple(sorted(found[text]))
