"""Where the two programs differ on purpose, and the comparison that takes nothing else."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from tests.parity.trees import Facts


class _Word:
    def __init__(self, word: str) -> None:
        self._word = word

    def __repr__(self) -> str:
        return self._word


ABSENT = _Word("absent")
ANY = _Word("anything")  # but absent


class Difference(NamedTuple):
    """Facts that are to differ, and how: values are compared, called with the value, or one of the two words."""

    where: str  # a glob of keys
    theirs: Any  # bandersnatch's
    ours: Any
    why: str

    def explains(self, key: str, theirs: Any, ours: Any) -> bool:
        """Whether this is the difference that was found."""
        return fnmatchcase(key, self.where) and _fits(self.theirs, theirs) and _fits(self.ours, ours)


def _fits(wanted: Any, found: Any) -> bool:
    if wanted is ANY:
        return found is not ABSENT
    if isinstance(wanted, _Word):
        return found is wanted
    if callable(wanted):
        return found is not ABSENT and bool(wanted(found))
    return found is not ABSENT and bool(wanted == found and isinstance(found, type(wanted)))


def _is(kind: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kind)


EVERYWHERE = (
    Difference("simple/*.v1_json/api-version", "1.1", "1.4", "our pages say what is in them"),
    Difference("simple/*.html/api-version", "1.0", "1.4", "our pages say what is in them"),
    Difference("simple/index.v1_json/serial", _is(int), _is(int), "theirs is the serial of the run before"),
    Difference("simple/index.v1_json/*/_last-serial", ABSENT, _is(int), "without it a mirror cannot be mirrored"),
    Difference("simple/*/index.v1_json/serial's type", "str", "int", "a serial is a number, as PyPI has it"),
    Difference("simple/*/index.v1_json/project-status", ABSENT, _is(dict), "what upstream says is passed on (PEP 792)"),
    Difference("simple/*/index.v1_json/*/provenance", ABSENT, ANY, "what upstream says is passed on (PEP 740)"),
    Difference("simple/*/index.html/*/data-provenance", ABSENT, ANY, "what upstream says is passed on (PEP 740)"),
    Difference("simple/*/index.v1_json/*/yanked", True, _is(str), "the reason for yanking is kept (PEP 592)"),
    Difference("simple/*/index.v1_json/*/requires-python", None, ABSENT, "null and no key are the same"),
    Difference("simple/*/index.html/*/data-requires-python", "", ABSENT, "an empty requirement and none are the same"),
    Difference("mirrored-files*.deleted/", ABSENT, "list", "theirs lists no removals"),
    Difference("last-modified/mode", "600", "644", "a web server may read it"),
    Difference("changes/*", ABSENT, ANY, "mirrors of ours read what has changed"),
    Difference("mirrored-files*changes/*", ABSENT, "listed", "mirrors of ours read what has changed"),
    Difference("status/*", ABSENT, ANY, "the status page has a directory of its own"),
)
# What bandersnatch before version 8 did not have.
BEFORE_8 = (
    Difference("packages/*.metadata/", ABSENT, ANY, "core metadata came with version 8"),
    Difference("mirrored-files*.metadata/", ABSENT, "listed", "core metadata came with version 8"),
    Difference("simple/*/index.v1_json/*/core-metadata", ABSENT, ANY, "core metadata came with version 8"),
    Difference("simple/*/index.html/*/data-*-metadata", ABSENT, ANY, "core metadata came with version 8"),
)


def unexplained(
    theirs: Facts, ours: Facts, expected: Collection[Difference], usual: Collection[Difference] = EVERYWHERE
) -> list[str]:
    """Facts that differ and should not, and differences that were expected and are not there.

    The usual ones need not be there.
    """
    found: list[str] = []
    seen: list[Difference] = []
    for key in sorted(theirs.keys() | ours.keys()):
        one, other = theirs.get(key, ABSENT), ours.get(key, ABSENT)
        if (one == other and type(one) is type(other)) or _lacks_its_holder(key, theirs, ours):
            continue
        fitting = [difference for difference in (*expected, *usual) if difference.explains(key, one, other)]
        seen += fitting[:1]
        if not fitting:
            found.append(f"{key}: bandersnatch {_short(one)}, fastmirror {_short(other)}")
    found += [f"not found: {one.where}: {one.why}" for one in expected if not any(one is other for other in seen)]
    return found


def _lacks_its_holder(key: str, theirs: Facts, ours: Facts) -> bool:
    """Whether this is told of something that one side has not got at all, which is a difference by itself."""
    holders = (key[:end] for end in range(1, len(key)) if key[end - 1] == "/")
    return any((holder in theirs) != (holder in ours) for holder in holders)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 200 else f"{text[:200]}…"
