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
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from packaging.markers import Marker

    from fastmirror.filters.environments import Target
    from fastmirror.names import NormalizedName

_REQUIREMENTS_MOST = 2000  # of one file
_QUOTED = re.compile(r"""["']([^"']*)["']""")
# What only the machine itself could tell.
_UNKNOWABLE = re.compile(r"platform_(?:release|version)")


def read_needs(metadata: bytes, targets: Sequence[Target]) -> Needs:
    """What a file with this core metadata requires in these environments, in them as far as its markers can tell.

    What cannot be understood is in the troubles; a marker that cannot be evaluated counts as true.
    """
    try:
        raw, _ = parse_email(metadata)
        lines, provided = raw.get("requires_dist", []), raw.get("provides_extra", [])
    except (ValueError, RecursionError) as error:
        return Needs((), (f"core metadata cannot be read: {error!s:.120}",))
    extras = {canonicalize_name(name) for name in provided}
    needs: list[Need] = []
    troubles: list[str] = []
    for line in lines[:_REQUIREMENTS_MOST]:
        try:
            needs += _needs(_requirement(line), extras, targets, troubles)
        except (InvalidRequirement, InvalidName, RecursionError, ValueError):
            troubles.append(f"requirement that cannot be understood: {line[:120]!r}")
    if len(lines) > _REQUIREMENTS_MOST:
        troubles.append(f"{len(lines)} requirements, of which {_REQUIREMENTS_MOST} count")
    return joined([Needs(tuple(needs), tuple(troubles))])


def joined(needs: Iterable[Needs]) -> Needs:
    """All of these together: each requirement once, with every environment in which some file has it."""
    targets: dict[tuple[str, NormalizedName, tuple[str, ...], str], set[str]] = {}
    troubles: dict[str, None] = {}
    for one in needs:
        for need in one.requires:
            targets.setdefault(need[:4], set()).update(need.targets)
        troubles.update(dict.fromkeys(one.troubles))
    return Needs(
        tuple(Need(*key, targets=tuple(sorted(found))) for key, found in sorted(targets.items())), tuple(troubles)
    )


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
    return {
        name: Demand(name in roots, tuple((text, tuple(sorted(found[text]))) for text in sorted(found)))
        for name, found in demanded.items()
    }


def _requirement(line: str) -> Requirement:
    requirement = Requirement(line)
    for specifier in requirement.specifier:
        specifier.contains("0")  # reads its version: of digits Python reads some thousands, no more
    return requirement


def _needs(
    requirement: Requirement, extras: Collection[str], targets: Sequence[Target], troubles: list[str]
) -> list[Need]:
    """One requirement, once for each extra that asks for it."""
    if requirement.url:
        troubles.append(f"{requirement.name}: from elsewhere than an index, not mirrored")
        return []
    marker = requirement.marker
    named = {canonicalize_name(text) for text in _QUOTED.findall(str(marker))} & set(extras) if marker else set()
    found: list[Need] = []
    always: set[str] = set()
    for extra in ("", *sorted(named)):
        holds = {
            str(target) for target in targets if marker is None or _holds(marker, target, extra, requirement, troubles)
        }
        always = always or holds if not extra else always
        if labels := holds if not extra else holds - always:
            wanted = tuple(sorted(canonicalize_name(name) for name in requirement.extras))
            specifier = str(requirement.specifier)
            found.append(Need(extra, normalize(requirement.name), wanted, specifier, tuple(sorted(labels))))
    return found


def _holds(marker: Marker, target: Target, extra: str, requirement: Requirement, troubles: list[str]) -> bool:
    """Whether a marker holds in some release of the target's Python."""
    try:
        if _UNKNOWABLE.search(str(marker)):
            raise UndefinedEnvironmentName
        return any(marker.evaluate({**known, "extra": extra}) for known in marker_environments(target))
    except (UndefinedComparison, UndefinedEnvironmentName):
        told = f"{requirement.name}: marker that cannot be evaluated, taken as true: {str(marker)[:120]}"
        if told not in troubles:
            troubles.append(told)
        return True
