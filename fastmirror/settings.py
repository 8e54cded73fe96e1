"""The settings, in frozen types: what the operator chose, whatever file or option it came from."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

import xxhash

if TYPE_CHECKING:
    from fastmirror.effective import Effective
    from fastmirror.filters import FilterSettings
    from fastmirror.layout import Layout, PageFormat


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """How many bytes of a body are taken, counted decoded."""

    root_index: int
    page: int
    root_memory: int  # that a root index may take in a run, as estimated before it is parsed
    page_memory: int  # that one page may take in a worker, as estimated before it is parsed
    metadata: int  # of a core metadata file
    unsized_file: int  # of a file whose size upstream does not state; any other is held to its size


@dataclass(frozen=True, slots=True)
class UpstreamSettings:
    """Whom to ask, and how."""

    master: str  # address of the index, without credentials and trailing slash
    proxy: str | None = field(repr=False)  # may hold credentials
    proxy_is_chosen: bool  # by the configuration: no host's environment counts
    no_proxy: str  # hosts to reach without the proxy, with commas between; "" if the proxy is for all
    ca_bundle: str | None  # absolute path
    timeout_s: float  # for a connection, and for a silence
    netrc: str | None  # absolute path
    unhashed: Literal["refuse", "accept"]  # files without a sha256
    credentials: tuple[str, str] | None = field(repr=False)  # (user, password) for master alone
    allow_non_https: bool
    file_hosts: frozenset[str]  # that upstream's files may be fetched from, by redirects too, lower-case; empty: any
    # Asked for files before the upstream's own host; without trailing slash, perhaps with credentials.
    download_mirrors: tuple[str, ...] = field(repr=False)
    download_fallback: bool  # whether the upstream's own host is asked after them
    longest_transfer_s: float | None  # for one request with its body; None: as long as bytes come
    limits: BodyLimits


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """How much at once; the transfers are totals for the whole program."""

    processes: int
    index_transfers: int  # pages in flight
    file_transfers: int  # files in flight
    max_rate: int | None  # bytes per second; None: no limit
    transport: Literal["curl", "requests"]
    executor: Literal["local", "dask"] = "local"  # whose processes
    scheduler: str = ""  # address of the cluster's, where they are dask's


@dataclass(frozen=True, slots=True)
class PageSettings:
    """What is published of a page."""

    formats: tuple[PageFormat, ...]
    root_uri: str | None  # put before PyPI's own path, without trailing slash; None: relative links
    core_metadata: bool
    release_files: bool  # False: pages alone; they link to `root_uri`
    legacy_json: bool  # keep /json/<project> and /pypi/<project>/json
    digest_name: str  # a digest to state beside sha256, as hashlib names it; "sha256": no other
    local_json: bool  # list the projects and their serials as shadowmire does, too
    keep_versions: int  # earlier states of each page to keep; 0: none


@dataclass(frozen=True, slots=True)
class S3Settings:
    """A prefix of a bucket in an object store that speaks Amazon's S3, and how it is reached."""

    bucket: str
    prefix: str  # of every key, without a slash at its ends; "": none
    endpoint: str | None  # its address, without trailing slash; None: Amazon's, in the region
    region: str
    # (access key, secret key, session token or ""); None: they are looked for as Amazon's tools do.
    credentials: tuple[str, str, str] | None = field(repr=False)
    headers: tuple[str, ...]  # "x-amz-storage-class: …": sent with each object that is stored
    attempts: int  # at one request, with those that were throttled or lost their connection
    verify_concurrency: int  # HEAD requests in flight when the mirror is verified
    ca_bundle: str | None  # absolute path
    timeout_s: float  # for a connection; a silence may be six times as long
    slash_keys: bool = False  # what lies as <directory>/index.html lies under the key <directory>/ too
    lease: bool = True  # other machines are kept out by a lease in the bucket


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
    compare: Literal["hash", "stat"]  # how a stored file is checked where it has to be
    manage_permissions: bool  # set the modes of what is published; False: as umask and ACLs have it
    removed_projects: Literal["delete", "hide", "keep"]  # what becomes of what upstream has removed
    clean_legacy_names: bool  # remove directories of projects' names that are not normalised
    s3: S3Settings | None = None  # the bucket that the tree is in; None: it is in the directory


@dataclass(frozen=True, slots=True)
class GuardSettings:
    """How much one run may remove; None: the default rule."""

    max_removals: int | None  # projects; by default max(20, 1 %)
    max_removed_files: int | None  # files; by default max(1,000, 1 %)


class Portion(NamedTuple):
    """So many, and so many in a hundred."""

    number: int
    percent: float


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What a run does beside mirroring."""

    stop_on_error: bool  # end at the first project that fails
    diff_file: str | None  # absolute path: lists what a run wrote
    diff_with_epoch: bool  # put the run's start behind its name
    metrics_file: str | None  # absolute path: how the mirror stands after each run, for Prometheus
    report_file: str | None  # absolute path: the same as JSON, with what the run did
    status_page: bool  # whether each run writes web/status/
    public_url: str | None  # where readers reach web/, without trailing slash, for the status page
    verifiers: int  # processes of `verify`; 0: as many as `processes`
    sweep: Portion | None  # of the projects held: asked for without a new serial; None: the default rule


@dataclass(frozen=True, slots=True)
class LogSettings:
    """The log file's rotation, and what else is logged where."""

    max_bytes: int
    keep: int  # older files
    config: str | None = None  # absolute path of a file for logging.config


@dataclass(frozen=True, slots=True)
class Settings:
    """All of them: each stage receives the branch that it needs."""

    upstream: UpstreamSettings
    pool: PoolSettings
    pages: PageSettings
    storage: StorageSettings
    guard: GuardSettings
    filters: FilterSettings
    run: RunSettings
    log: LogSettings
    warnings: tuple[str, ...]  # what was ignored, each with its line
    from_file: bool  # whether there was a configuration file
    effective: tuple[Effective, ...] = field(default=(), compare=False, repr=False)  # as `fastmirror config` shows it


def fingerprint(settings: Settings, renderer_version: int) -> str:
    """Digest of what shapes a page and the files on it; which projects are mirrored has no part in it."""
    pages = settings.pages
    shape: list[object] = [pages.formats, pages.root_uri, pages.core_metadata, settings.upstream.unhashed]
    shape += [settings.storage.hash_index, renderer_version]
    further = {
        "release_files": (pages.release_files, True),
        "legacy_json": (pages.legacy_json, False),
        "digest_name": (pages.digest_name, "sha256"),
        "keep_versions": (pages.keep_versions, 0),
    }
    # Only what is set otherwise counts, so that a new setting leaves the digest of every mirror without it.
    if chosen := {key: value for key, (value, usual) in further.items() if value != usual}:
        shape.append(chosen)
    return xxhash.xxh3_128_hexdigest(json.dumps(shape).encode())
