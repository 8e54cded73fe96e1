"""What may keep a mirror from working: the machine, the storage, the mirror itself, the upstream, looked at in turn."""

from __future__ import annotations

import os
import platform
import resource
import shlex
import tempfile
from contextlib import closing, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from fastmirror.backend import open_storage
from fastmirror.damage import is_marked, mark_path
from fastmirror.errors import MirrorError, MirrorLocked, PageError, SettingsError, StateDamaged
from fastmirror.inquiry import read_status
from fastmirror.lanes import failure_reason
from fastmirror.lock import hold_lock
from fastmirror.masking import clean
from fastmirror.names import NormalizedName
from fastmirror.simple import ACCEPT_ANY, parse_html_page, parse_json_page
from fastmirror.state import State
from fastmirror.transport import Request
from fastmirror.transport.control import ControlLane
from fastmirror.tree import state_path
from fastmirror.upstream import is_json, project_url, with_netrc

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastmirror.settings import S3Settings, Settings, StorageSettings

_DESCRIPTORS_BESIDE = 64  # of a worker, beside those of its transfers
_INODES_LEAST = 100_000
_LONGEST_NAME = 255  # bytes
_ASKED_FOR = NormalizedName("pip")  # a project that an index of Python packages has, or answers 404 for


class Finding(NamedTuple):
    """One thing that was looked at."""

    what: str
    said: str
    is_well: bool = True
    hint: str = ""  # what would mend it


def finding_text(finding: Finding) -> str:
    """One thing that the doctor looked at, and what would mend it."""
    hint = f" (hint: {clean(finding.hint)})" if finding.hint else ""
    return f"{'ok' if finding.is_well else 'mend':<5} {finding.what}: {clean(finding.said)}{hint}"


def _place(directory: str) -> Finding:
    """Whether a directory that is not there yet can be made."""
    above = os.path.dirname(directory)
    while not os.path.lexists(above):
        above = os.path.dirname(above)
    if os.access(above, os.W_OK | os.X_OK):
        return Finding("directory", f"{directory}: not there yet, the first run makes it")
    return Finding("directory", f"{directory}: not there", False, f"{above} is not writable for this user: make it")


def examine(settings: Settings) -> Iterator[Finding]:
    """Look at everything, one after the other; changes nothing that stays. Upstream is asked for one page."""
    yield _interpreter()
    yield _transport(settings)
    yield _open_files(settings)
    directory = settings.storage.directory
    if not os.path.lexists(directory):
        yield _place(directory)
    elif not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        yield Finding("directory", f"{directory}: not writable for this user", False, "run as its owner, or chown it")
    else:
        yield Finding("directory", directory)
        yield from _file_system(settings)
        if settings.storage.s3 is not None:
            yield _object_store(settings.storage)
            yield from _lease(settings.storage.s3)
        yield from _mirror(settings)
    yield _upstream(settings)


def _interpreter() -> Finding:
    return Finding("python", f"{platform.python_implementation()} {platform.python_version()}")


def _transport(settings: Settings) -> Finding:
    if settings.pool.transport == "requests":
        return Finding("transport", "requests, as set: slower than libcurl")
    try:
        from fastmirror.transport.curl import USER_AGENT
    except ImportError as error:
        return Finding(
            "transport", f"pycurl cannot be used: {error}", False, "transport = requests, or reinstall pycurl"
        )
    return Finding("transport", USER_AGENT)


def _open_files(settings: Settings) -> Finding:
    pool = settings.pool
    # Each transfer has a connection, and a file that it writes; one worker may have all of them.
    needed = 2 * (pool.index_transfers + pool.file_transfers) + _DESCRIPTORS_BESIDE
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    said = f"{most:,} allowed, {needed:,} needed at most"
    if most != resource.RLIM_INFINITY and most < needed:
        return Finding("open files", said, False, f"ulimit -n {needed}, or smaller file-transfers")
    return Finding("open files", said)


def _file_system(settings: Settings) -> Iterator[Finding]:
    directory, least = settings.storage.directory, settings.storage.min_free
    facts = os.statvfs(directory)
    free = facts.f_bavail * facts.f_frsize
    said = f"{free / 2**30:,.1f} GiB free, {least / 2**30:,.1f} to be left (min-free)"
    yield Finding("space", said, free > least, "" if free > least else "free some, or a smaller min-free")
    if facts.f_files and facts.f_favail < _INODES_LEAST:
        yield Finding("inodes", f"{facts.f_favail:,} free", False, "a file system with more of them")
    with tempfile.TemporaryDirectory(prefix=".fastmirror-doctor-", dir=directory) as probe:
        for what, attempt, hint in (
            ("hard links", _link, "works without, but copies pages that have two names"),
            ("long names", _long_name, "files with long names will fail"),
            ("names in both cases", _case, "files whose names differ in case alone will be refused"),
        ):
            try:
                attempt(probe)
            except OSError as error:
                yield Finding(what, str(error.strerror), False, hint)
            else:
                yield Finding(what, "yes")
    with suppress(FileNotFoundError):
        try:
            open_storage(settings.storage).open_desk()
        except SettingsError as error:
            yield Finding("staging", str(error), False, "see there")


def _object_store(storage: StorageSettings) -> Finding:
    try:
        tree = open_storage(storage)
        is_empty = tree.is_empty()
        said = f"{tree.whereabouts} answers, {'and has no tree yet' if is_empty else 'and has a tree'}"
    except MirrorError as error:
        return Finding("object store", str(error), False, "see there")
    return Finding("object store", said)


def _lease(settings: S3Settings) -> Iterator[Finding]:
    """Whether the store can keep two machines apart, and who holds the mirror now."""
    from fastmirror.lease import conditions_refused, holder
    from fastmirror.objects import Bucket

    if not settings.lease:
        yield Finding("lease", "none, as set: no other machine may write here")
        return
    bucket = Bucket(settings)
    try:
        refusal = conditions_refused(bucket)
        yield Finding("lease", refusal or f"held by {holder(bucket)}", not refusal)
    except MirrorError as error:
        yield Finding("lease", str(error), False, "see there")
    finally:
        bucket.close()


def _touch(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))


def _link(probe: str) -> None:
    _touch(f"{probe}/one")
    os.link(f"{probe}/one", f"{probe}/two")


def _long_name(probe: str) -> None:
    _touch(f"{probe}/{'n' * _LONGEST_NAME}")


def _case(probe: str) -> None:
    _touch(f"{probe}/case")
    _touch(f"{probe}/CASE")


def _mirror(settings: Settings) -> Iterator[Finding]:
    directory = settings.storage.directory
    if not os.path.exists(state_path(directory)):
        yield Finding("mirror", "no run has begun here")
        return
    try:
        with hold_lock(directory):
            pass
        yield Finding("lock", "free")
    except MirrorLocked as error:
        yield Finding("lock", f"held by {error.args[1]}: what is said below may be of the middle of its run")
    yield _state(state_path(directory))
    try:
        status = read_status(settings)
    except MirrorError as error:
        yield Finding("mirror", str(error), False, "mirror makes a damaged state anew, from the tree")
        return
    yield Finding("mirror", f"{status.projects:,} projects, {status.files:,} files, {status.layout} layout")
    if not status.clean:
        yield Finding("last run", "cut off, or going on now", False, "fastmirror mirror")
    elif status.last_run is not None and status.last_run["exit_status"]:
        yield Finding("last run", f"exit status {status.last_run['exit_status']}", False, "fastmirror status; the log")
    if status.failing:
        yield Finding("failing", f"{status.failing:,} projects", False, "fastmirror status says why")


def _state(path: str) -> Finding:
    """All pages of the state are read; what a run found damaged is believed to be, as no check sees everything."""
    if is_marked(path):
        return Finding("state", f"{path}: a run found it damaged", False, "the next run makes it anew from the tree")
    try:
        with closing(State(path, read_only=True)) as state:
            [(said,), *_] = state.select("pragma quick_check(1)")
    except StateDamaged as error:
        said = str(error.__cause__)
    except MirrorError as error:
        return Finding("state", str(error), False)
    if said == "ok":
        return Finding("state", "whole")
    hint = f"touch {shlex.quote(mark_path(path))}, and the next run makes it anew from the tree"
    return Finding("state", f"{path}: damaged: {said}", False, hint)


def _upstream(settings: Settings) -> Finding:
    upstream = with_netrc(settings.upstream)
    url = project_url(upstream.master, _ASKED_FOR)
    request = Request(0, url, (f"Accept: {ACCEPT_ANY}",), upstream.limits.page, compressed=True, sink=None)
    reply = ControlLane(replace(settings, upstream=upstream)).get(request)
    if reply.status == 404:
        return Finding("upstream", f"{upstream.master} answers, and has no {_ASKED_FOR}")
    if reply.error or reply.status != 200:
        said = f"{upstream.master}: {failure_reason(reply)}"
        return Finding("upstream", said, False, "master, proxy, ca-bundle; is it reachable from here?")
    parse = parse_json_page if is_json(reply) else parse_html_page
    try:
        page = parse(reply.body, _ASKED_FOR, url, accept_unhashed=True)
    except PageError as error:
        return Finding("upstream", f"{upstream.master}: no page of {_ASKED_FOR}: {error}", False, "another master")
    form = "JSON" if is_json(reply) else "HTML"
    serials = "without serials" if page.serial is None else "with serials"
    return Finding("upstream", f"{upstream.master} answers in {form}, {serials}")
