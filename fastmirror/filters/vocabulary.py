"""The names of the filters, of their sections and of the keys in these."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastmirror.filters import advisories, environments, uploads
from fastmirror.filters.requirements import without_comment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastmirror import ini

NAMES = (
    *("allowlist_project", "blocklist_project", "project_requirements", "regex_project"),
    *("allowlist_release", "blocklist_release", "project_requirements_pinned", "regex_release"),
    *("prerelease_release", "latest_release", "exclude_platform"),
    *("size_project_metadata", "versions_count_project_metadata", "regex_project_metadata"),
    *("regex_release_file_metadata", "version_range_release_file_metadata"),
)
# Not among bandersnatch's, so that `all` does not stand for them either.
OWN_NAMES = ("upload_time", "environments", "yanked", "advisories")
# Sections and their keys; None: any key is a path.
SECTIONS: dict[str, frozenset[str] | None] = {
    "plugins": frozenset({"enabled"}),
    "allowlist": frozenset({"packages", "requirements", "requirements_path"}),
    "blocklist": frozenset({"packages", "platforms"}),
    "filter_prerelease": frozenset({"packages"}),
    "filter_regex": frozenset({"packages", "releases"}),
    "latest_release": frozenset({"keep", "sort_by"}),
    "size_project_metadata": frozenset({"max_package_size"}),
    "versions_count_project_metadata": frozenset({"min_versions", "max_versions"}),
    "regex_project_metadata": None,
    "regex_release_file_metadata": None,
    "version_range_release_file_metadata": None,
    "upload_time": uploads.KEYS,
    "environments": environments.KEYS,
    "advisories": advisories.KEYS,
}


def own_sections(config: ini.Ini, overrides: Mapping[str, str]) -> ini.Vocabulary:
    """The sections of third parties' filters: named as they are, with any keys."""
    entry = config.get("plugins", "enabled")
    text = overrides.get("plugins.enabled", entry.value if entry is not None else "")
    named = {without_comment(line) for line in text.splitlines()}
    if "all" in named:
        named |= set(installed_plugins())
    return dict.fromkeys(named - {"", "all", "mirror", *SECTIONS})


def installed_plugins() -> list[str]:
    """The names of third parties' filters."""
    from fastmirror.filters.plugins import installed  # what looks for installed packages takes its time

    return installed()
