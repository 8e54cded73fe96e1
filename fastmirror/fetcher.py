"""One file on its way: fetched, checked, and given its final name; then its core metadata file."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

from fastmirror.errors import is_storage_failure
from fastmirror.lanes import Lane, Lanes, failure_reason
from fastmirror.layout import metadata_path
from fastmirror.model import Brought, StoredFile, Want
from fastmirror.sink import FileSink, Goal, SideThread
from fastmirror.storage import Digest, Storage
from fastmirror.transport import Reply, Request
from fastmirror.upstream import METADATA_LIMIT, UNSIZED_FILE_LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable


class Arrival(NamedTuple):
    """How one body ended."""

    staged: str  # path in staging; "" if it failed
    sha256: str
    size: int
    reason: str  # why it failed
    storage_failure: bool = False


def fetch_body(goal: Goal, lanes: Lanes, storage: Storage, side: SideThread, done: Callable[[Arrival], None]) -> None:
    """Fetch one body into staging and check it against its goal; `done` is called in the loop."""
    sinks: list[FileSink] = []

    def make(token: int) -> Request:
        sink = FileSink(goal, storage, side, lambda: lanes.transport.resume(token))
        sinks.append(sink)
        headers: tuple[str, ...] = ("Accept-Encoding: identity",)
        if sink.resumed_at:
            headers += (f"Range: bytes={sink.resumed_at}-",)
        return Request(token, goal.url, headers, goal.limit, compressed=False, sink=sink)

    def ended(reply: Reply) -> None:
        sink = sinks[-1]
        if reply.status == 416 and sink.resumed_at:
            sink.discard()
            fetch_body(goal, lanes, storage, side, done)
        elif reply.error or not 200 <= reply.status < 300:
            reason = failure_reason(reply)
            sink.break_off(lambda: done(Arrival("", "", sink.size, reason)))
        else:
            sink.finish(lambda: finished(sink))

    def finished(sink: FileSink) -> None:
        arrival = _checked(goal, sink)
        if sink.resumed_at and not arrival.staged and not arrival.storage_failure:
            fetch_body(goal, lanes, storage, side, done)  # once more, from the first byte
        else:
            done(arrival)

    def broken() -> None:
        sinks[-1].break_off(lambda: None)

    lanes.get(Lane.FILE, make, ended, broken)


def _checked(goal: Goal, sink: FileSink) -> Arrival:
    if sink.error is not None:
        sink.discard()
        return Arrival("", "", sink.size, f"storage: {sink.error}", is_storage_failure(sink.error))
    digests = sink.hexdigests()
    reason = ""
    if goal.size is not None and sink.size != goal.size:
        reason = f"wrong size: {sink.size} bytes, expected {goal.size}"
    elif goal.digest and digests[-1] != goal.digest:
        reason = f"wrong {goal.algorithm}: {digests[-1]}, expected {goal.digest}"
    if reason:
        sink.discard()
        return Arrival("", "", sink.size, reason)
    return Arrival(sink.path, digests[0], sink.size, "")


class Placement(NamedTuple):
    """Where a checked body went."""

    path: str  # below web/; "" if nowhere
    shared: bool  # it was there already


def place_file(storage: Storage, arrival: Arrival, paths: tuple[str, ...], *, repair: bool) -> Placement:
    """Give a staged file the first of these names that is free, or that holds the same bytes already."""
    if repair:
        storage.place(arrival.staged, paths[0], replace=True)
        return Placement(paths[0], shared=False)
    for path in paths:
        if storage.place(arrival.staged, path):
            return Placement(path, shared=False)
        if storage.size(path) == arrival.size and storage.digest(path) == Digest(arrival.sha256, arrival.size):
            storage.discard(arrival.staged)
            return Placement(path, shared=True)
    storage.discard(arrival.staged)
    return Placement("", shared=False)


class Fetcher:
    """Brings wanted files to rest. Everything is called back in the loop."""

    def __init__(self, lanes: Lanes, storage: Storage, side: SideThread) -> None:
        self._lanes = lanes
        self._storage = storage
        self._side = side

    def fetch(self, want: Want, done: Callable[[Brought], None]) -> None:
        """Bring one file, and its core metadata file where upstream offers one."""
        if want.stored is not None:
            self._fetch_metadata(want, want.stored, Brought(), done)
            return
        self._look_for(want, lambda found: self._fetch_unless(want, found, done))

    def _fetch_unless(self, want: Want, found: StoredFile | None, done: Callable[[Brought], None]) -> None:
        if found is not None:
            self._fetch_metadata(want, found, Brought(shared=(found.path,)), done)
            return
        goal = Goal(
            want.url, want.algorithm, want.digest, want.size,
            UNSIZED_FILE_LIMIT if want.size is None else want.size, want.mtime,
        )  # fmt: skip
        fetch_body(goal, self._lanes, self._storage, self._side, lambda arrival: self._arrived(want, arrival, done))

    def _arrived(self, want: Want, arrival: Arrival, done: Callable[[Brought], None]) -> None:
        if not arrival.staged:
            done(_failed(want, arrival))
            return
        paths = (want.path,) if want.path == want.long_path else (want.path, want.long_path)
        try:
            placement = place_file(self._storage, arrival, paths, repair=want.repair)
        except OSError as error:
            done(_failed(want, arrival._replace(reason=f"storage: {error}", storage_failure=is_storage_failure(error))))
            return
        if not placement.path:
            failure = (want.filename, "its name is taken by another file")
            done(Brought(failures=(failure,), disputed=paths, fetched_files=1, fetched_bytes=arrival.size))
            return
        stored = StoredFile(placement.path, arrival.size, arrival.sha256, want.mtime, None)
        shared = (placement.path,) if placement.shared else ()
        self._fetch_metadata(want, stored, Brought(shared=shared, fetched_files=1, fetched_bytes=arrival.size), done)

    def _fetch_metadata(self, want: Want, stored: StoredFile, so_far: Brought, done: Callable[[Brought], None]) -> None:
        path = metadata_path(stored.path)
        if want.metadata is None or path is None:
            done(so_far._replace(stored=(stored._replace(metadata=None),)))
            return
        at_rest = None if want.repair and want.stored is not None else self._storage.digest(path)
        if at_rest is not None and want.metadata == at_rest.sha256:
            done(so_far._replace(stored=(stored._replace(metadata=at_rest.sha256),)))
            return
        goal = Goal(f"{want.url}.metadata", "sha256", want.metadata, None, METADATA_LIMIT, want.mtime)

        def arrived(arrival: Arrival) -> None:
            done(so_far.joined(self._metadata_arrived(want, stored, arrival, path)))

        fetch_body(goal, self._lanes, self._storage, self._side, arrived)

    def _metadata_arrived(self, want: Want, stored: StoredFile, arrival: Arrival, path: str) -> Brought:
        """The file is published in any case; its core metadata is offered only if it is stored and verified."""
        without = stored._replace(metadata=None)
        if arrival.staged:
            try:
                placement = place_file(self._storage, arrival, (path,), repair=want.repair)
            except OSError as error:
                arrival = arrival._replace(reason=f"storage: {error}", storage_failure=is_storage_failure(error))
            else:
                if placement.path:
                    stored = stored._replace(metadata=arrival.sha256)
                    return Brought(stored=(stored,), fetched_files=1, fetched_bytes=arrival.size)
                failure = (f"{want.filename}.metadata", "its name is taken by another file")
                return Brought(stored=(without,), failures=(failure,), disputed=(path,))
        failed = _failed(want, arrival)
        failure = (f"{want.filename}.metadata", failed.failures[0][1])
        return failed._replace(stored=(without,), failures=(failure,))

    def _look_for(self, want: Want, then: Callable[[StoredFile | None], None]) -> None:
        """Find a file that is at rest though no row covers it, as after a crash: trusted once it is hashed."""
        candidates = () if want.repair or want.algorithm != "sha256" else dict.fromkeys((want.path, want.long_path))
        sizes = {
            path: size
            for path in candidates
            if (size := self._storage.size(path)) is not None and want.size in (None, size)
        }
        if not sizes:
            then(None)
            return
        found: list[StoredFile] = []

        def hash_each() -> None:
            for path, size in sizes.items():
                with contextlib.suppress(OSError):
                    if self._storage.digest(path) == Digest(want.digest, size):
                        found.append(StoredFile(path, size, want.digest, want.mtime, None))
                        return

        self._side.submit(hash_each, lambda: then(found[0] if found else None))


def _failed(want: Want, arrival: Arrival) -> Brought:
    return Brought(
        failures=((want.filename, arrival.reason),),
        fetched_bytes=arrival.size,
        storage_failure=arrival.storage_failure,
    )
