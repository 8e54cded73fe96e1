"""Filters by what the metadata says: of a whole project, or of one file. Values come from PyPI's legacy JSON.

A key is a dotted path, with tags before it: ``not-null:any:info.classifiers``. ``any``, ``all`` or ``none`` of
the patterns have to match; ``match-null`` (which holds unless the other is said) and ``not-null`` decide
where there is no value. A list has several values, each matched as text.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from packaging.specifiers import SpecifierSet
from packaging.version import Version

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Mapping, Sequence

    from fastmirror.filters.listing import Listing
    from fastmirror.filters.versions import Distribution, Versions
    from fastmirror.model import File


class PatternRule(NamedTuple):
    """One key of regex_project_metadata or regex_release_file_metadata."""

    path: tuple[str, ...]
    mode: Literal["any", "all", "none"]
    nulls_match: bool
    patterns: tuple[str, ...]
    anywhere: bool  # search, instead of matching from the beginning


class RangeRule(NamedTuple):
    """One key of version_range_release_file_metadata."""

    path: tuple[str, ...]
    nulls_match: bool
    versions: tuple[str, ...]


# Of a file, what the simple API says too, so that no legacy document is needed for it.
_SIMPLE_KEYS = frozenset({"filename", "size", "requires_python", "url", "upload_time_iso_8601", "packagetype"})


def needs_document(path: Sequence[str]) -> bool:
    """Whether a path leads to what only the legacy document says."""
    return not (path[:1] == ("release_file",) and path[1:2] and path[1] in _SIMPLE_KEYS) and tuple(path) != ("release",)


def file_facts(file: File, distribution: Distribution, legacy: Mapping[str, Any]) -> dict[str, Any]:
    """One file as filters see it; `legacy` is its own entry in the legacy document, if there is one."""
    simple = {
        "filename": file.filename,
        "size": file.size,
        "requires_python": file.keys.get("requires-python"),
        "url": file.url,
        "upload_time_iso_8601": file.keys.get("upload-time"),
        "packagetype": distribution.packagetype,
    }
    return {"release": distribution.version, "release_file": {**simple, **legacy}}


def facts_of(listing: Listing, versions: Versions, *, with_document: bool) -> Callable[[File], dict[str, Any]]:
    """What the metadata says of each file."""
    document = listing.document or {}
    entries = _entries(document) if with_document else {}

    def facts(file: File) -> dict[str, Any]:
        told = file_facts(file, versions.of(file.filename), entries.get(file.filename, {}))
        return told | {"info": document.get("info")}

    return facts


def _entries(document: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The files' own entries in the legacy document, by their names."""
    known = document.get("releases")
    listed = known.values() if isinstance(known, dict) else ()
    entries = [entry for files in listed if isinstance(files, list) for entry in files if isinstance(entry, dict)]
    return {filename: entry for entry in entries if isinstance(filename := entry.get("filename"), str)}


def values_at(facts: Mapping[str, Any], path: Sequence[str]) -> list[str]:
    """The values at a path; empty where it leads nowhere."""
    node: Any = facts
    for part in path:
        node = node.get(part) if isinstance(node, dict) else None
    if node is None:
        return []
    return [str(value) for value in node] if isinstance(node, list) else [str(node)]


def matches(rule: PatternRule, compiled: Sequence[re.Pattern[str]], facts: Mapping[str, Any]) -> bool:
    """Whether these facts pass a rule; `compiled` are its patterns."""
    values = values_at(facts, rule.path)
    found = [
        any((pattern.search if rule.anywhere else pattern.match)(value) is not None for value in values)
        for pattern in compiled
    ]
    if rule.mode == "none":  # as bandersnatch has it: where there is no value, none fails
        return bool(values) and not any(found)
    if not values and rule.nulls_match:
        return bool(compiled) or rule.mode == "all"
    return all(found) if rule.mode == "all" else any(found)


def is_in_range(rule: RangeRule, facts: Mapping[str, Any]) -> bool:
    """Whether one of the rule's versions satisfies the specifier at its path; what is no specifier passes."""
    values = values_at(facts, rule.path)
    text = values[0] if values else ""
    if not text:
        return rule.nulls_match
    return len(text) > _LONGEST_SPECIFIER or _contains_any(text, rule.versions)


_LONGEST_SPECIFIER = 1000  # characters


@lru_cache(maxsize=4096)  # thousands of files say the same
def _contains_any(text: str, versions: tuple[str, ...]) -> bool:
    try:
        specifiers = SpecifierSet(text)
        return any(specifiers.contains(Version(version), prereleases=True) for version in versions)
    except ValueError:  # no specifier, or one with thousands of digits
        return True
