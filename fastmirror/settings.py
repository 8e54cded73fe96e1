"""The settings: bandersnatch's configuration file and fastmirror's own keys, once, into frozen types."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote

import xxhash

from fastmirror import ini
from fastmirror.errors import SettingsError
from fastmirror.layout import Layout, PageFormat

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastmirror.names import NormalizedName

DEFAULT_MASTER = "https://pypi.org"

DEFAULT_CONFIGURATION = f"""\
# Configuration of fastmirror. First set `directory`; then see what a run would do: fastmirror plan
# Lines that begin with # or ; are not in force: # explains, ; is an example to take up.

[mirror]
# Where the mirror is kept. All of PyPI takes tens of terabytes: see [plugins] for a part of it.
directory = /srv/pypi
# What is mirrored. Another index may need credentials: https://user:password@host, or `netrc`.
master = {DEFAULT_MASTER}
# hashed: the faster one; `fastmirror nginx` prints what serves it. flat: bandersnatch's tree. The first run fixes it.
layout = hashed
# How much is asked for at once: 1 to 10. It sets index-transfers (times 4) and file-transfers (times 16).
workers = 3

# Bytes per second for the whole program.
; max-rate = 50M
# Fetch nothing more once so little space is left.
; min-free = 20G
# A run that would remove more projects than this removes none.
; max-removals = 100
# The way out, where there is no other: http, https, socks4, socks5 or socks5h.
; proxy = http://proxy.example:3128

# A part of PyPI: only these projects (allowlist), or all but these (blocklist), one a line.
; [plugins]
; enabled =
;     allowlist_project
;     blocklist_project
; [allowlist]
; packages =
;     requests
;     urllib3
; [blocklist]
; packages =
;     example-project
"""


@dataclass(frozen=True, slots=True)
class UpstreamSettings:
    """Whom to ask, and how."""

    master: str  # address of the index, without credentials and trailing slash
    proxy: str | None = field(repr=False)  # may hold credentials
    ca_bundle: str | None  # absolute path
    timeout_s: float  # for a connection, and for a silence
    netrc: str | None  # absolute path
    unhashed: Literal["refuse", "accept"]  # files without a sha256
    credentials: tuple[str, str] | None = field(repr=False)  # (user, password) for master alone
    allow_non_https: bool


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """How much at once; the transfers are totals for the whole program."""

    processes: int
    index_transfers: int  # pages in flight
    file_transfers: int  # files in flight
    max_rate: int | None  # bytes per second; None: no limit
    transport: Literal["curl", "requests"]


@dataclass(frozen=True, slots=True)
class PageSettings:
    """What is published of a page."""

    formats: tuple[PageFormat, ...]
    root_uri: str | None  # put before PyPI's own path, without trailing slash; None: relative links
    core_metadata: bool


@dataclass(frozen=True, slots=True)
class StorageSettings:
    """Where, and how it is kept."""

    directory: str  # absolute path
    layout: Layout | None  # None: not chosen
    hash_index: bool  # for the flat layout only: whoever chooses the layout checks it against this
    staging: str | None  # absolute path; None: within the directory
    durability: bool
    min_free: int  # bytes
    delete_grace_s: float


@dataclass(frozen=True, slots=True)
class GuardSettings:
    """How much one run may remove; None: the default rule."""

    max_removals: int | None  # projects; by default max(20, 1 %)
    max_removed_files: int | None  # files; by default max(1,000, 1 %)


@dataclass(frozen=True, slots=True)
class FilterSettings:
    """Which projects are mirrored."""

    allow: frozenset[NormalizedName] | None  # None: all
    block: frozenset[NormalizedName]


@dataclass(frozen=True, slots=True)
class LogSettings:
    """Rotation of the log file."""

    max_bytes: int
    keep: int  # older files


@dataclass(frozen=True, slots=True)
class Settings:
    """All of them: each stage receives the branch that it needs."""

    upstream: UpstreamSettings
    pool: PoolSettings
    pages: PageSettings
    storage: StorageSettings
    guard: GuardSettings
    filters: FilterSettings
    log: LogSettings
    warnings: tuple[str, ...]  # what was ignored, each with its line
    from_file: bool  # whether there was a configuration file


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SUPPORTED = _words("""
    allow-non-https ca-bundle core-metadata delete-grace directory durability file-transfers hash-index index-transfers
    layout log-keep log-max-size master max-rate max-removals max-removed-files min-free netrc processes proxy root_uri
    simple-format staging timeout transport unhashed workers
""")
# bandersnatch's keys that nothing acts on, with their defaults there.
_IGNORED_KEYS = _words("""
    api-method= cleanup=false cleanup_todo=false compare-method=hash delete-packages= delete_missing_packages=false
    diff-append-epoch=false diff-file= digest_name=sha256 download-mirror= download-mirror-no-fallback=false
    global-timeout=1800 json=false keep-index-versions=0 keep_index_versions=0 log-config= packages= release-files=true
    stop-on-error=false storage-backend=filesystem storage-filesystem-manage-permissions=true verifiers=3
""")
_IGNORED = dict(sorted(pair.split("=") for pair in _IGNORED_KEYS))
_INDISPENSABLE = {  # whose neglect would do harm: what is expected of them
    "release-files": "true: a mirror without files is not supported by this version",
    "storage-backend": "filesystem: no other is supported by this version",
}
_FILTERS = ("allowlist_project", "blocklist_project")
_UNSUPPORTED_FILTERS = _words("""
    all allowlist_release blocklist_release exclude_platform latest_release prerelease_release project_requirements
    project_requirements_pinned regex_project regex_project_metadata regex_release regex_release_file_metadata
    size_project_metadata version_range_release_file_metadata versions_count_project_metadata
""")
# The sections of those, in which any key will do.
_UNSUPPORTED_SECTIONS = _words("""
    filter_prerelease filter_regex latest_release regex_project_metadata regex_release_file_metadata s3
    size_project_metadata version_range_release_file_metadata versions_count_project_metadata
""")
_VOCABULARY: ini.Vocabulary = {
    "mirror": _SUPPORTED | frozenset(_IGNORED),
    "plugins": _words("enabled"),
    "allowlist": _words("packages requirements requirements_path"),
    "blocklist": _words("packages platforms"),
    **dict.fromkeys(_UNSUPPORTED_SECTIONS),
}
_FORMATS = {
    "ALL": (PageFormat.HTML, PageFormat.V1_HTML, PageFormat.JSON),
    "HTML": (PageFormat.HTML, PageFormat.V1_HTML),
    "JSON": (PageFormat.JSON,),
}


def parse_settings(
    text: str | None, *, source: str = "settings", overrides: Mapping[str, str] = MappingProxyType({}), cores: int = 1
) -> Settings:
    """Parse a configuration file's text, `source` being its name in messages; None: there is no file.

    Overrides win over the file and are taken literally: ``{"workers": "5"}`` is a key of ``[mirror]``,
    ``{"allowlist.packages": "six"}`` one of another section. `cores` is the default number of processes.
    Raises SettingsError with file, line and accepted values; what is merely ignored is in `warnings`.
    """
    config = ini.read_ini(text or "", source)
    warnings = config.unknown(_VOCABULARY)
    for name, value in overrides.items():
        config.override(name, value, _VOCABULARY)
    storage = _storage(config)
    warnings += _ignored(config, storage.layout)
    formats = config.read("mirror", "simple-format", ini.choice(*_FORMATS), "ALL")
    return Settings(
        upstream=_upstream(config),
        pool=_pool(config, cores),
        pages=PageSettings(
            formats=_FORMATS[formats],
            root_uri=config.read("mirror", "root_uri", ini.optional(_root_uri), None),
            core_metadata=config.read("mirror", "core-metadata", ini.boolean, True),
        ),
        storage=storage,
        guard=GuardSettings(
            max_removals=config.read("mirror", "max-removals", ini.whole(0), None),
            max_removed_files=config.read("mirror", "max-removed-files", ini.whole(0), None),
        ),
        filters=_filters(config, warnings),
        log=LogSettings(
            max_bytes=config.read("mirror", "log-max-size", ini.size, 64 << 20),
            keep=config.read("mirror", "log-keep", ini.whole(0, 1000), 5),
        ),
        warnings=tuple(warnings),
        from_file=text is not None,
    )


def fingerprint(settings: Settings, renderer_version: int) -> str:
    """Digest of what shapes a page and the files on it; which projects are mirrored has no part in it."""
    pages = settings.pages
    shape: list[object] = [pages.formats, pages.root_uri, pages.core_metadata, settings.upstream.unhashed]
    shape += [settings.storage.hash_index, renderer_version]
    return xxhash.xxh3_128_hexdigest(json.dumps(shape).encode())


def _ignored(config: ini.Ini, layout: Layout | None) -> list[str]:
    warnings = []
    for key, default in _IGNORED.items():
        entry = config.get("mirror", key)
        if entry is None or entry.value.lower() in ("", default):
            continue
        if default in ("true", "false") and ini.boolean(entry) == (default == "true"):
            continue
        if key in _INDISPENSABLE:
            raise entry.refused(_INDISPENSABLE[key])
        if layout is Layout.HASHED and key in {"keep-index-versions", "keep_index_versions"}:
            raise entry.refused("0 with layout = hashed")
        warnings.append(f"{entry.where()}: not supported by this version, ignored")
    return warnings


def _upstream(config: ini.Ini) -> UpstreamSettings:
    allow_non_https = config.read("mirror", "allow-non-https", ini.boolean, False)
    master, credentials = DEFAULT_MASTER, None
    if entry := config.get("mirror", "master"):
        address = ini.url("http", "https")(entry)
        if address.scheme == "http" and entry.is_override:  # typed, hence meant, unless the contrary is typed too
            stated = config.get("mirror", "allow-non-https")
            allow_non_https |= stated is None or not stated.is_override
        if address.scheme == "http" and not allow_non_https:
            raise entry.refused("an https address (hint: allow-non-https = true)")
        userinfo, _, host = address.netloc.rpartition("@")
        master = address._replace(netloc=host).geturl().rstrip("/")
        user, _, password = userinfo.partition(":")
        credentials = (unquote(user), unquote(password)) if userinfo else None
    proxy = ini.url("http", "https", "socks4", "socks5", "socks5h")
    return UpstreamSettings(
        master=master,
        proxy=config.read("mirror", "proxy", ini.optional(lambda entry: proxy(entry).geturl()), None),
        ca_bundle=config.read("mirror", "ca-bundle", ini.optional(ini.path), None),
        timeout_s=config.read("mirror", "timeout", ini.seconds, 10.0),
        netrc=config.read("mirror", "netrc", ini.optional(ini.path), None),
        unhashed=config.read("mirror", "unhashed", ini.choice("refuse", "accept"), "refuse"),
        credentials=credentials,
        allow_non_https=allow_non_https,
    )


def _pool(config: ini.Ini, cores: int) -> PoolSettings:
    workers = config.read("mirror", "workers", ini.whole(1, 10), 3)
    return PoolSettings(
        processes=config.read("mirror", "processes", ini.whole(1, 256), min(max(cores, 1), 256)),
        index_transfers=config.read("mirror", "index-transfers", ini.whole(1, 256), min(4 * workers, 16)),
        file_transfers=config.read("mirror", "file-transfers", ini.whole(1, 1024), min(16 * workers, 256)),
        max_rate=config.read("mirror", "max-rate", ini.optional(ini.size), None) or None,
        transport=config.read("mirror", "transport", ini.choice("curl", "requests"), "curl"),
    )


def _storage(config: ini.Ini) -> StorageSettings:
    directory = config.get("mirror", "directory")
    if directory is None:
        raise SettingsError(f"{config.source}: [mirror] directory: not set (hint: --directory /srv/pypi)")
    layout = config.read("mirror", "layout", ini.optional(ini.choice(*Layout)), None)
    hash_index = config.read("mirror", "hash-index", ini.boolean, False)
    if layout is Layout.HASHED and hash_index and (entry := config.get("mirror", "hash-index")):
        raise entry.refused("false with layout = hashed (hint: layout = flat)")
    return StorageSettings(
        directory=ini.path(directory),
        layout=layout,
        hash_index=hash_index,
        staging=config.read("mirror", "staging", ini.optional(ini.path), None),
        durability=config.read("mirror", "durability", ini.boolean, True),
        min_free=config.read("mirror", "min-free", ini.size, 1 << 30),
        delete_grace_s=config.read("mirror", "delete-grace", ini.duration, 3600.0),
    )


def _root_uri(entry: ini.Entry) -> str:
    address = ini.url("http", "https")(entry)
    if "@" in address.netloc:
        raise entry.refused("an address without user and password: every page shows it")
    return address.geturl().rstrip("/")


def _filters(config: ini.Ini, warnings: list[str]) -> FilterSettings:
    enabled: dict[str, str] = config.read("plugins", "enabled", lambda entry: _enabled(entry, warnings), {})
    allowing, blocking = (name in enabled for name in _FILTERS)
    empty: list[ini.Listed] = []
    allow = config.read("allowlist", "packages", ini.requirements, empty) if allowing else empty
    block = config.read("blocklist", "packages", ini.requirements, empty) if blocking else empty
    if allowing and not allow:
        warnings.append(f"{enabled[_FILTERS[0]]}: [allowlist] packages is empty: every project is mirrored")
    if not allowing and (entry := config.get("allowlist", "packages")) and entry.value:
        warnings.append(f"{entry.where()}: without effect: allowlist_project is not enabled in [plugins]")
    for listed in block:
        if not listed.is_bare:
            reason = "blocklist_release is not supported by this version"
            warnings.append(f"{listed.where}: {listed.name}: more than a name, ignored: {reason}")
    return FilterSettings(
        allow=frozenset(listed.name for listed in allow) or None,
        block=frozenset(listed.name for listed in block if listed.is_bare),
    )


def _enabled(entry: ini.Entry, warnings: list[str]) -> dict[str, str]:
    """Names of plugins, with the place where each is enabled."""
    enabled = {line.text: entry.where(line) for line in entry.lines if line.text}
    for line in entry.lines:
        if line.text in _UNSUPPORTED_FILTERS:
            raise entry.refused(f"{' or '.join(_FILTERS)}: filter not supported by this version", line)
        if line.text and line.text not in _FILTERS:
            hint = ini.nearest(line.text, _FILTERS)
            warnings.append(f"{entry.where(line)}: {ini.quoted(line.text)}: unknown plugin, ignored{hint}")
    return enabled
