"""The configuration file, bandersnatch's and ours: every section and key, once, into the frozen settings."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from fastmirror import ini
from fastmirror.errors import SettingsError
from fastmirror.filters.configuration import read_filters
from fastmirror.filters.requirements import NO_FILES
from fastmirror.filters.vocabulary import SECTIONS, own_sections
from fastmirror.layout import Layout, PageFormat
from fastmirror.settings import (
    GuardSettings,
    LogSettings,
    PageSettings,
    PoolSettings,
    Portion,
    RunSettings,
    Settings,
    StorageSettings,
)
from fastmirror.settings_s3 import read_s3
from fastmirror.settings_upstream import DEFAULT_MASTER, read_upstream

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastmirror.filters.requirements import Files
    from fastmirror.settings import S3Settings

DEFAULT_FILE_HOST = "https://files.pythonhosted.org"

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


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SUPPORTED = _words("""
    allow-non-https ca-bundle cleanup compare-method core-metadata delete-grace diff-append-epoch diff-file
    digest_name directory download-mirror download-mirror-no-fallback durability executor file-hosts file-transfers
    global-timeout hash-index index-transfers json keep-index-versions keep_index_versions layout local-json log-config
    log-keep log-max-size master max-file-size max-metadata-size max-page-memory max-page-size max-rate max-removals
    max-removed-files max-root-memory max-root-size metrics-file min-free netrc processes proxy public-url
    release-files removed-projects report-file root_uri scheduler simple-format staging status-page stop-on-error
    storage-backend storage-filesystem-manage-permissions sweep timeout transport unhashed verifiers with-dependencies
    workers
""")
# Keys of bandersnatch's that are not needed here: what failed or is gone never holds up anything else.
_NEEDLESS = _words("api-method cleanup_todo delete_missing_packages delete-packages packages")
_VOCABULARY: ini.Vocabulary = {
    "mirror": _SUPPORTED | _NEEDLESS,
    **SECTIONS,
    "s3": None,
}
_FORMATS = {
    "ALL": (PageFormat.HTML, PageFormat.V1_HTML, PageFormat.JSON),
    "HTML": (PageFormat.HTML, PageFormat.V1_HTML),
    "JSON": (PageFormat.JSON,),
}


def parse_settings(
    text: str | None,
    *,
    source: str = "settings",
    overrides: Mapping[str, str] = MappingProxyType({}),
    environment: Mapping[str, str] = MappingProxyType({}),
    cores: int = 1,
    files: Files = NO_FILES,
    allow_empty: bool = False,
) -> Settings:
    """Parse a configuration file's text, `source` being its name in messages; None: there is no file.

    Overrides win over the file and are taken literally: ``{"workers": "5"}`` is a key of ``[mirror]``,
    ``{"allowlist.packages": "six"}`` one of another section. `environment` names a proxy where the
    file names none. `cores` is the default number of processes. `files` finds and reads
    requirement files; `allow_empty` takes filters that leave nothing of the mirror.
    Raises SettingsError with file, line and accepted values; what is merely ignored is in `warnings`.
    """
    config = ini.read_ini(text or "", source)
    vocabulary = {**_VOCABULARY, **own_sections(config, overrides)}
    warnings = config.unknown(vocabulary)
    for name, value in overrides.items():
        config.override(name, value, vocabulary)
    storage = _storage(config, environment, warnings)
    pages = _pages(config, storage.layout, warnings)
    settings = Settings(
        upstream=read_upstream(config, environment, warnings),
        pool=_pool(config, cores, warnings),
        pages=pages,
        storage=storage,
        guard=GuardSettings(
            max_removals=config.read("mirror", "max-removals", ini.whole(0), None),
            max_removed_files=config.read("mirror", "max-removed-files", ini.whole(0), None),
        ),
        filters=read_filters(config, warnings, files, allow_empty=allow_empty),
        run=_run(config, warnings),
        log=LogSettings(
            config=config.read("mirror", "log-config", ini.optional(ini.path), None),
            max_bytes=config.read("mirror", "log-max-size", ini.size, 64 << 20),
            keep=config.read("mirror", "log-keep", ini.whole(0, 1000), 5),
        ),
        warnings=tuple(warnings),
        from_file=text is not None,
    )
    if settings.filters.dependencies_for and not pages.release_files:
        raise SettingsError(f"{source}: with-dependencies needs the files: not with release-files = false")
    return replace(settings, effective=config.effective())


def _pages(config: ini.Ini, layout: Layout | None, warnings: list[str]) -> PageSettings:
    formats = config.read("mirror", "simple-format", ini.choice(*_FORMATS), "ALL")
    release_files = config.read("mirror", "release-files", ini.boolean, True)
    root_uri = config.read("mirror", "root_uri", ini.optional(_public_address), None)
    if not release_files and root_uri is None:
        root_uri = DEFAULT_FILE_HOST
        warnings.append(f"[mirror] release-files = false without root_uri: pages link to {root_uri}")
    legacy_json = config.read("mirror", "json", ini.boolean, False)
    local_json = config.read("mirror", "local-json", ini.boolean, False)
    if local_json and not legacy_json and (entry := config.get("mirror", "local-json")):
        raise entry.refused("false without json = true, as shadowmire asks for the documents")
    return PageSettings(
        formats=_FORMATS[formats],
        root_uri=root_uri,
        core_metadata=config.read("mirror", "core-metadata", ini.boolean, True),
        release_files=release_files,
        legacy_json=legacy_json,
        local_json=local_json,
        digest_name=config.read("mirror", "digest_name", ini.optional(_digest_name), None) or "sha256",
        keep_versions=_keep_versions(config, layout),
    )


def _digest_name(entry: ini.Entry) -> str:
    name = entry.value.lower()
    if name not in hashlib.algorithms_available or name.startswith("shake"):
        names = sorted(known for known in hashlib.algorithms_guaranteed if not known.startswith("shake"))
        raise entry.refused(f"one of {', '.join(names)}{ini.nearest(name, names)}")
    return name


def _keep_versions(config: ini.Ini, layout: Layout | None) -> int:
    for key in ("keep_index_versions", "keep-index-versions"):
        kept = config.read("mirror", key, ini.whole(0), 0)
        if kept and (entry := config.get("mirror", key)):
            if layout is Layout.HASHED:
                raise entry.refused("0 with layout = hashed (hint: layout = flat)")
            return kept
    return 0


_SETTING = re.compile(r"\{\{\s*([^_{}]+?)\s*_\s*([^{}]+?)\s*\}\}")


def _diff_file(config: ini.Ini, warnings: list[str]) -> str | None:
    """The path, in which ``{{section_option}}`` stands for another setting, once, as in bandersnatch."""
    entry = config.get("mirror", "diff-file")
    if entry is None or not entry.value:
        return None
    value = entry.value
    if "{{" in value:
        reference = _SETTING.search(value)
        other = config.get(reference[1], reference[2]) if reference else None
        if reference is None or other is None:
            directory = config.read("mirror", "directory", lambda given: given.value, "")
            warnings.append(f"{entry.where()}: {ini.quoted(value)}: refers to no setting: mirrored-files is written")
            value = f"{directory.rstrip('/')}/mirrored-files"
        else:
            value = value[: reference.start()] + other.value + value[reference.end() :]
    path = ini.path(ini.Entry(entry.source, entry.section, entry.key, (entry.lines[0]._replace(text=value),)))
    config.decided("mirror", "diff-file", path, entry.origin)
    return path


def _run(config: ini.Ini, warnings: list[str]) -> RunSettings:
    return RunSettings(
        stop_on_error=config.read("mirror", "stop-on-error", ini.boolean, False),
        diff_file=_diff_file(config, warnings),
        diff_with_epoch=config.read("mirror", "diff-append-epoch", ini.boolean, False),
        metrics_file=config.read("mirror", "metrics-file", ini.optional(ini.path), None),
        report_file=config.read("mirror", "report-file", ini.optional(ini.path), None),
        status_page=config.read("mirror", "status-page", ini.boolean, True),
        public_url=config.read("mirror", "public-url", ini.optional(_public_address), None),
        verifiers=config.read("mirror", "verifiers", ini.whole(0, 256), 0),
        sweep=config.read("mirror", "sweep", ini.optional(_sweep), None),
    )


_PORTION = re.compile(r"(\d{1,9})|(\d{1,3}(?:\.\d{1,6})?) ?%", re.ASCII)


def _sweep(entry: ini.Entry) -> Portion:
    """A number of projects, or a part of the mirror."""
    match = _PORTION.fullmatch(entry.value)
    if match and match[1]:
        return Portion(int(match[1]), 0.0)
    if match and (percent := float(match[2])) <= 100:
        return Portion(0, percent)
    raise entry.refused("a part of the mirror such as 0.1%, or a number of projects, 0 for none")


_SCHEDULER = re.compile(r"(?:tcp|tls|ws|wss)://[^\s/]+:\d{1,5}", re.ASCII)


def _scheduler(entry: ini.Entry) -> str:
    if not _SCHEDULER.fullmatch(entry.value):
        raise entry.refused("the address of a dask scheduler, such as tcp://10.0.0.1:8786 or tls://…")
    return entry.value


def _pool(config: ini.Ini, cores: int, warnings: list[str]) -> PoolSettings:
    executor = config.read("mirror", "executor", ini.choice("local", "dask"), "local")
    scheduler = config.read("mirror", "scheduler", ini.optional(_scheduler), None) or ""
    if executor == "dask" and not scheduler:
        raise SettingsError(f"{config.source}: executor = dask needs a scheduler (hint: scheduler = tcp://HOST:8786)")
    if scheduler and executor == "local":
        warnings.append("[mirror] scheduler: without effect but with executor = dask")
    workers = config.read("mirror", "workers", ini.whole(1, 10), 3)
    return PoolSettings(
        processes=config.read("mirror", "processes", ini.whole(1, 256), min(max(cores, 1), 256)),
        index_transfers=config.read("mirror", "index-transfers", ini.whole(1, 256), min(4 * workers, 16)),
        file_transfers=config.read("mirror", "file-transfers", ini.whole(1, 1024), min(16 * workers, 256)),
        max_rate=config.read("mirror", "max-rate", ini.optional(ini.size), None) or None,
        transport=config.read("mirror", "transport", ini.choice("curl", "requests"), "curl"),
        executor="dask" if executor == "dask" else "local",
        scheduler=scheduler,
    )


def _storage(config: ini.Ini, environment: Mapping[str, str], warnings: list[str]) -> StorageSettings:
    backend = config.read("mirror", "storage-backend", ini.choice("filesystem", "s3"), "filesystem")
    directory = config.get("mirror", "directory")
    if directory is None:
        raise SettingsError(f"{config.source}: [mirror] directory: not set (hint: --directory /srv/pypi)")
    s3, local = read_s3(config, environment, warnings) if backend == "s3" else (None, ini.path(directory))
    layout = config.read("mirror", "layout", ini.optional(ini.choice(*Layout)), None)
    hash_index = config.read("mirror", "hash-index", ini.boolean, False)
    if layout is Layout.HASHED and hash_index and (entry := config.get("mirror", "hash-index")):
        raise entry.refused("false with layout = hashed (hint: layout = flat)")
    settings = StorageSettings(
        directory=local,
        layout=layout,
        hash_index=hash_index,
        staging=config.read("mirror", "staging", ini.optional(ini.path), None),
        durability=config.read("mirror", "durability", ini.boolean, True),
        min_free=config.read("mirror", "min-free", ini.size, 1 << 30),
        delete_grace_s=config.read("mirror", "delete-grace", ini.duration, 3600.0),
        compare=config.read("mirror", "compare-method", ini.choice("hash", "stat"), "hash"),
        manage_permissions=config.read("mirror", "storage-filesystem-manage-permissions", ini.boolean, True),
        removed_projects=config.read("mirror", "removed-projects", ini.choice("delete", "hide", "keep"), "delete"),
        clean_legacy_names=config.read("mirror", "cleanup", ini.boolean, False),
    )
    return settings if s3 is None else _in_objects(config, settings, s3)


def _in_objects(config: ini.Ini, settings: StorageSettings, s3: S3Settings) -> StorageSettings:
    """As settings are for an object store, which has neither directories nor links: what it cannot do is refused."""
    refused = {
        "layout": (settings.layout is Layout.HASHED, "flat: nothing computes a page's bucket there"),
        "hash-index": (settings.hash_index, "false: nothing computes a page's directory there"),
        "cleanup": (settings.clean_legacy_names, "false: an object store has no directories"),
    }
    for key, (is_refused, expected) in refused.items():
        if is_refused and (entry := config.get("mirror", key)):
            raise entry.refused(f"{expected} (storage-backend = s3)")
    for key in ("keep_index_versions", "keep-index-versions"):
        if config.read("mirror", key, ini.whole(0), 0) and (entry := config.get("mirror", key)):
            raise entry.refused("0: an object store has no links (storage-backend = s3)")
    # One HEAD tells the sha256 as well as the time.
    return replace(settings, layout=Layout.FLAT, compare="hash", s3=s3)


def _public_address(entry: ini.Entry) -> str:
    address = ini.url("http", "https")(entry)
    if "@" in address.netloc:
        raise entry.refused("an address without user and password: every page shows it")
    return address.geturl().rstrip("/")
