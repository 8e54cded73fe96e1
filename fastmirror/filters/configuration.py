"""The filters' sections of the configuration file, into FilterSettings."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING, TypeVar

from fastmirror import ini
from fastmirror.errors import InvalidName, SettingsError
from fastmirror.filters import FilterSettings, environments, platforms, uploads
from fastmirror.filters.advisories import read_advisories
from fastmirror.filters.metadata import PatternRule, RangeRule
from fastmirror.filters.releases import Latest
from fastmirror.filters.requirements import (
    Files,
    Listed,
    by_name,
    extras_by_name,
    locks_by_name,
    parse_requirement,
    read_requirements,
    without_comment,
)
from fastmirror.filters.versions import parsed
from fastmirror.filters.vocabulary import NAMES, OWN_NAMES, installed_plugins
from fastmirror.names import normalize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from fastmirror.filters.filter_settings import Specifiers
    from fastmirror.filters.plugins import Plugin
    from fastmirror.names import NormalizedName

T = TypeVar("T")
_BUILT_IN = (*NAMES, *OWN_NAMES)
_SEARCH = "search"
_COUNT = re.compile(r"\d{1,9}")


def read_filters(config: ini.Ini, warnings: list[str], files: Files, *, allow_empty: bool) -> FilterSettings:
    """The filters that are enabled.

    What is merely without effect is added to `warnings`. Raises SettingsError, with file and line, for what
    cannot be used, and for filters that would leave nothing of the whole mirror, unless `allow_empty`.
    """
    reading = _Reading(config, warnings, files, allow_empty)
    return reading.settings()


class _Reading:
    def __init__(self, config: ini.Ini, warnings: list[str], files: Files, allow_empty: bool) -> None:
        self._config = config
        self._warnings = warnings
        self._files = files
        self._allow_empty = allow_empty
        self._enabled, self._plugins = self._read_enabled()

    def settings(self) -> FilterSettings:
        allowed = self._listed("allowlist", "packages")
        blocked = self._listed("blocklist", "packages")
        uses_files = self._is_on("project_requirements") or self._is_on("project_requirements_pinned")
        required = self._required() if uses_files else []
        self._warn_of_idle(allowed, blocked)
        fewest, most = self._versions_count()
        return FilterSettings(
            allow=self._allow(allowed, required),
            block=frozenset(one.name for one in blocked if one.is_bare)
            if self._is_on("blocklist_project")
            else frozenset(),
            project_patterns=self._patterns("filter_regex", "packages") if self._is_on("regex_project") else (),
            release_patterns=self._patterns("filter_regex", "releases") if self._is_on("regex_release") else (),
            allow_releases=self._only("allowlist_release", allowed, "[allowlist] packages"),
            pinned_releases=self._only("project_requirements_pinned", required, "[allowlist] requirements"),
            locks=locks_by_name(required) if self._is_on("project_requirements_pinned") else (),
            block_releases=by_name(blocked) if self._is_on("blocklist_release") else (),
            final_only=self._final_only(),
            latest=self._latest(),
            platforms=self._platforms(),
            largest_project=self._largest(),
            fewest_versions=fewest,
            most_versions=most,
            exempt=frozenset(one.name for one in allowed),
            project_rules=self._pattern_rules("regex_project_metadata"),
            file_rules=self._pattern_rules("regex_release_file_metadata"),
            file_ranges=self._range_rules(),
            uploads=self._section("upload_time", uploads.read, "[upload_time] sets no bound"),
            environments=self._section("environments", environments.read, "[environments] targets is not set"),
            drop_yanked=self._is_on("yanked"),
            advisories=self._advisories(),
            dependencies_for=environments.dependencies_for(self._config),
            extras=extras_by_name([*(allowed if self._is_on("allowlist_project") else ()), *required]),
            plugins=self._plugins,
        )

    def _is_on(self, name: str) -> bool:
        return name in self._enabled

    def _read_enabled(self) -> tuple[dict[str, str], tuple[Plugin, ...]]:
        """Names of filters, with the place where each is enabled; and those of third parties."""
        entry = self._config.get("plugins", "enabled")
        named = {line.text: entry.where(line) for line in _lines(entry)} if entry is not None else {}
        enabled = {name: where for name, where in named.items() if name in _BUILT_IN}
        if where := named.pop("all", None):
            enabled |= dict.fromkeys(NAMES, where)
            named = {**dict.fromkeys(installed_plugins(), where), **named}
        plugins = []
        for name, where in named.items():
            if name in _BUILT_IN:
                continue
            from fastmirror.filters.plugins import find  # what looks for installed packages takes its time

            plugin = find(name, tuple((key.key, key.value) for key in self._config.entries(name)))
            if plugin is None:
                self._warnings.append(
                    f"{where}: {ini.quoted(name)}: unknown plugin, ignored{ini.nearest(name, _BUILT_IN)}"
                )
            else:
                plugins.append(plugin)
        return enabled, tuple(plugins)

    def _listed(self, section: str, key: str) -> list[Listed]:
        entry = self._config.get(section, key)
        if entry is None:
            return []
        return [parse_requirement(line.text, entry.where(line)) for line in _lines(entry)]

    def _required(self) -> list[Listed]:
        """What the requirement files list."""
        home = self._config.read("allowlist", "requirements_path", lambda given: given.value, "")
        return self._read_files("allowlist", "requirements", home, read_requirements)

    def _advisories(self) -> Specifiers:
        if not self._is_on("advisories"):
            return ()
        if self._config.get("advisories", "files") is None:
            self._idle("advisories", "[advisories] files is not set")
        return by_name(self._read_files("advisories", "files", "", read_advisories))

    def _read_files(
        self, section: str, key: str, home: str, read: Callable[[str, Files, str, list[str]], list[Listed]]
    ) -> list[Listed]:
        """What all files list that a key names, from their home."""
        entry = self._config.get(section, key)
        if entry is None:
            return []
        found: list[Listed] = []
        for line in _lines(entry):
            path = posixpath.join(home, line.text)
            for one in self._files.expand(path) if "*" in path else [path]:
                found += read(one, self._files, entry.where(line), self._warnings)
        return found

    def _section(self, name: str, read: Callable[[ini.Ini], T | None], why: str) -> T | None:
        """What a filter's section says; None if the filter is not enabled, or has nothing to go by."""
        if not self._is_on(name):
            return None
        found = read(self._config)
        if found is None:
            self._idle(name, why)
        return found

    def _allow(self, allowed: list[Listed], required: list[Listed]) -> frozenset[NormalizedName] | None:
        allow: frozenset[NormalizedName] | None = None
        for name, found, what in (
            ("allowlist_project", allowed, "[allowlist] packages is"),
            ("project_requirements", required, "[allowlist] requirements are"),
        ):
            if not self._is_on(name):
                continue
            if not found:
                self._warnings.append(f"{self._enabled[name]}: {what} empty: every project is mirrored")
                continue
            names = frozenset(one.name for one in found)
            allow = names if allow is None else allow & names
        if allow is not None and not allow and not self._allow_empty:
            raise SettingsError(
                f"{self._enabled['project_requirements']}: no project is in both lists: nothing would be left"
            )
        return allow

    def _only(self, name: str, listed: list[Listed], what: str) -> Specifiers | None:
        if not self._is_on(name):
            return None
        if not listed and not self._allow_empty:
            raise SettingsError(
                f"{self._enabled[name]}: {name} without {what}: nothing would be left of the mirror"
                " (hint: name some, or take it out of [plugins]; --allow-empty if it is meant)"
            )
        return by_name(listed)

    def _patterns(self, section: str, key: str) -> tuple[str, ...]:
        entry = self._config.get(section, key)
        return () if entry is None else tuple(_pattern(entry, line) for line in _lines(entry))

    def _final_only(self) -> frozenset[NormalizedName] | None:
        if not self._is_on("prerelease_release"):
            return None
        entry = self._config.get("filter_prerelease", "packages")
        return frozenset() if entry is None else frozenset(_names(entry))

    def _latest(self) -> Latest | None:
        if not self._is_on("latest_release"):
            return None
        entry = self._config.get("latest_release", "keep")
        keep = int(entry.value) if entry is not None and _COUNT.fullmatch(entry.value) else 0
        if entry is None or not keep:
            self._idle("latest_release", "[latest_release] keep is no number of releases")
            return None
        sort = self._config.get("latest_release", "sort_by")
        by_time = sort is not None and sort.value == "time"
        if sort is not None and sort.value not in ("time", "version"):
            self._warnings.append(f"{sort.where()}: {ini.quoted(sort.value)}: expected version or time; by version")
        return Latest(keep, "time" if by_time else "version")

    def _platforms(self) -> tuple[str, ...]:
        if not self._is_on("exclude_platform"):
            return ()
        entry = self._config.get("blocklist", "platforms")
        if entry is None:
            self._idle("exclude_platform", "[blocklist] platforms is not set")
            return ()
        tags = [(tag, line) for line in _lines(entry) for tag in line.text.split()]
        for tag, line in tags:
            if tag.lower() not in platforms.KNOWN:
                hint = ini.nearest(tag, platforms.KNOWN)
                self._warnings.append(f"{entry.where(line)}: {ini.quoted(tag)}: unknown platform, ignored{hint}")
        return tuple(dict.fromkeys(tag.lower() for tag, _ in tags))

    def _largest(self) -> int | None:
        if not self._is_on("size_project_metadata"):
            return None
        entry = self._config.get("size_project_metadata", "max_package_size")
        try:
            largest = ini.size(entry) if entry is not None else 0
        except SettingsError as error:
            self._warnings.append(f"{error}; size_project_metadata is without effect")
            return None
        if not largest:
            self._idle("size_project_metadata", "[size_project_metadata] max_package_size is not set")
        return largest or None

    def _versions_count(self) -> tuple[int, int]:
        section = "versions_count_project_metadata"
        if not self._is_on(section):
            return 0, 0
        try:
            fewest, most = (
                self._config.read(section, key, ini.whole(0), 0) for key in ("min_versions", "max_versions")
            )
        except SettingsError as error:
            self._warnings.append(f"{error}; {section} is without effect")
            return 0, 0
        if 0 < most < fewest:
            self._idle(section, "min_versions is greater than max_versions")
            return 0, 0
        return fewest, most

    def _pattern_rules(self, section: str) -> tuple[PatternRule, ...]:
        if not self._is_on(section):
            return ()
        anywhere = self._config.read(section, _SEARCH, ini.boolean, False)
        rules = []
        for key in self._config.entries(section):
            if key.key == _SEARCH:
                continue
            *tags, path = key.key.split(":")
            mode = next((tag for tag in reversed(tags) if tag in ("any", "all", "none")), "any")
            patterns = tuple(_pattern(key, line) for line in key.lines if line.text)
            if not patterns:
                raise key.refused("at least one regular expression: without one, nothing would be kept")
            rules.append(PatternRule(tuple(path.split(".")), mode, _nulls_match(tags), patterns, anywhere))  # type: ignore[arg-type]
        if not rules:
            self._idle(section, f"[{section}] has no keys")
        return tuple(rules)

    def _range_rules(self) -> tuple[RangeRule, ...]:
        section = "version_range_release_file_metadata"
        if not self._is_on(section):
            return ()
        rules = []
        for key in self._config.entries(section):
            *tags, path = key.key.split(":")
            lines = list(_lines(key))
            for line in lines:
                if parsed(line.text) is None:
                    raise key.refused("a version, such as 3.11", line)
            if not lines:
                raise key.refused("at least one version: without one, nothing would be kept")
            rules.append(RangeRule(tuple(path.split(".")), _nulls_match(tags), tuple(line.text for line in lines)))
        if not rules:
            self._idle(section, f"[{section}] has no keys")
        return tuple(rules)

    def _idle(self, name: str, why: str) -> None:
        self._warnings.append(f"{self._enabled[name]}: {name} is without effect: {why}")

    def _warn_of_idle(self, allowed: list[Listed], blocked: list[Listed]) -> None:
        """Lists that nothing looks at."""
        allows = {"allowlist_project", "allowlist_release", "size_project_metadata", "versions_count_project_metadata"}
        if allowed and not allows & self._enabled.keys():
            self._warnings.append(f"{allowed[0].where}: without effect: allowlist_project is not enabled in [plugins]")
        if not self._is_on("blocklist_release") and self._is_on("blocklist_project"):
            for one in blocked:
                if not one.is_bare:
                    reason = "blocklist_release is not enabled in [plugins]"
                    self._warnings.append(f"{one.where}: {one.name}: more than a name, ignored: {reason}")


def _lines(entry: ini.Entry) -> Iterator[ini.Line]:
    """The lines that say something, without their comments."""
    for line in entry.lines:
        if text := without_comment(line.text):
            yield line if text == line.text else line._replace(text=text)


def _names(entry: ini.Entry) -> Iterator[NormalizedName]:
    for line in _lines(entry):
        try:
            yield normalize(line.text)
        except InvalidName:
            raise entry.refused("a project's name", line) from None


def _pattern(entry: ini.Entry, line: ini.Line) -> str:
    try:
        re.compile(line.text)
    except (re.error, RecursionError, OverflowError, ValueError) as error:
        raise entry.refused(f"a regular expression ({error})", line) from None
    return line.text


def _nulls_match(tags: Iterable[str]) -> bool:
    told = [tag for tag in tags if tag in ("match-null", "not-null")]
    return not told or told[-1] == "match-null"
