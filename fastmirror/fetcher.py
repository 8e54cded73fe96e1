"""One file on its way: fetched, checked, and given its final name; then its core metadata file."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, NamedTuple

from fastmirror.bodies import Arrival, BodyFetch, Desk, MirroredFetch, checked
from fastmirror.comparison import Method, holds
from fastmirror.errors import StorageError, is_storage_failure
from fastmirror.layout import METADATA_SUFFIX, metadata_path
from fastmirror.model import Brought, StoredFile, Want
from fastmirror.sink import BUFFER_BYTES, FileSink, Goal
from fastmirror.sources import Sources
from fastmirror.storage import Digest
from fastmirror.wheel import core_metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from fastmirror.settings import UpstreamSettings
    from fastmirror.storage import Storage

_LOG = logging.getLogger(__name__)
_TAKEN = "its name is taken by another file"


class Tally:
    """What has been planned, and what has come of it."""

    def __init__(self) -> None:
        self.read = 0  # projects
        self.wanted_bytes = 0
        self.done_files = 0
        self.done_bytes = 0

    def expect(self, wants: Iterable[Want]) -> None:
        """One more project is planned, and these are the files that it wants."""
        self.read += 1
        self.wanted_bytes += sum(want.size or 0 for want in wants if want.stored is None)


class Placement(NamedTuple):
    """Where a checked body went."""

    path: str  # below web/; "" if nowhere
    shared: bool  # it was there already


def place_file(storage: Storage, arrival: Arrival, paths: tuple[str, ...], *, repair: bool) -> Placement:
    """Give a staged file the first of these names that is free, or that holds the same bytes already."""
    if repair:
        storage.place(arrival.staged, paths[0], replace=True, sha256=arrival.sha256)
        return Placement(paths[0], shared=False)
    for path in paths:
        if storage.place(arrival.staged, path, sha256=arrival.sha256):
            return Placement(path, shared=False)
        if storage.size(path) == arrival.size and storage.digest(path) == Digest(arrival.sha256, arrival.size):
            storage.discard(arrival.staged)
            return Placement(path, shared=True)
    storage.discard(arrival.staged)
    return Placement("", shared=False)


class Fetcher:
    """Brings wanted files to rest. Everything is called back in the loop."""

    def __init__(
        self,
        desk: Desk,
        settings: UpstreamSettings,
        *,
        fresh: bool = False,
        clean: bool = True,
        compare: Method = "hash",
    ) -> None:
        self._sources = Sources(settings)
        self._limits = settings.limits
        self._clean = clean  # what is at rest came to be there in order
        self._fresh = fresh  # there is nothing at rest that no row covers
        self._compare: Method = compare
        self._desk = desk
        self._storage = desk.storage
        self.tally = Tally()

    def fetch(self, want: Want, done: Callable[[Brought], None]) -> None:
        """Bring one file, and its core metadata file where upstream offers one."""
        stored = want.stored
        if stored is not None:
            self._safely(want, done, lambda: self._fetch_metadata(want, stored, Brought(), done))
        else:

            def found(at_rest: StoredFile | None, taken: tuple[str, ...]) -> None:
                self._safely(want, done, lambda: self._fetch_unless(want, at_rest, taken, done))

            self._safely(want, done, lambda: self._look_for(want, found))

    def _safely(self, want: Want, done: Callable[[Brought], None], step: Callable[[], None]) -> None:
        """One file's trouble is never another's: whatever a step raises is this file's failure."""
        try:
            step()
        except (OSError, StorageError) as error:
            done(_failed(want, Arrival("", "", 0, f"storage: {error}", is_storage_failure(error))))
        except Exception as error:  # noqa: BLE001 - one file's trouble is never another's
            _LOG.exception("%s: this is a bug", want.filename)
            done(_failed(want, Arrival("", "", 0, f"bug: {type(error).__name__}: {error}")))

    def _fetch_unless(
        self, want: Want, found: StoredFile | None, taken: tuple[str, ...], done: Callable[[Brought], None]
    ) -> None:
        if found is not None:
            self._fetch_metadata(want, found, Brought(shared=(found.path,)), done)
            return
        if want.long_path in taken:  # it would be fetched in vain
            done(Brought(failures=((want.filename, _TAKEN),), disputed=taken))
            return
        self._storage.final(want.path)
        goal = Goal(
            want.url, want.algorithm, want.digest, want.size,
            self._limits.unsized_file if want.size is None else want.size, want.mtime,
        )  # fmt: skip

        def arrived(arrival: Arrival) -> None:
            self._safely(want, done, lambda: self._arrived(want, arrival, done))

        self._fetch_body(goal, arrived)

    def _fetch_body(self, goal: Goal, arrived: Callable[[Arrival], None]) -> None:
        if not self._sources.are_plain:
            MirroredFetch(goal, self._desk, self._sources, arrived).start()
        elif refusal := self._sources.refusal(goal.url):
            arrived(Arrival("", "", 0, refusal))
        else:
            BodyFetch(goal, self._desk, arrived).start()

    def _arrived(self, want: Want, arrival: Arrival, done: Callable[[Brought], None]) -> None:
        self.tally.done_files += 1
        self.tally.done_bytes += arrival.size
        if not arrival.staged:
            done(_failed(want, arrival))
            return
        paths = (want.path,) if want.path == want.long_path else (want.path, want.long_path)
        try:
            placement = place_file(self._storage, arrival, paths, repair=want.repair)
        except (OSError, StorageError) as error:
            done(_failed(want, arrival._replace(reason=f"storage: {error}", storage_failure=is_storage_failure(error))))
            return
        if not placement.path:
            failure = (want.filename, _TAKEN)
            done(Brought(failures=(failure,), disputed=paths, fetched_files=1, fetched_bytes=arrival.size))
            return
        stored = StoredFile(placement.path, arrival.size, arrival.sha256, want.mtime, None)
        shared = (placement.path,) if placement.shared else ()
        # What holds the first name is another project's, or nobody's, as after a loss of power: the parent knows.
        beside = () if placement.path == want.path else (want.path, f"{want.path}{METADATA_SUFFIX}")
        so_far = Brought(shared=shared, disputed=beside, fetched_files=1, fetched_bytes=arrival.size)
        self._fetch_metadata(want, stored, so_far, done, arrival.descriptor)

    def _fetch_metadata(
        self, want: Want, stored: StoredFile, so_far: Brought, done: Callable[[Brought], None], wheel: int = -1
    ) -> None:
        """Bring the core metadata file; `wheel` is the file's descriptor where it is open anyway."""
        path = metadata_path(stored.path)
        if want.metadata is None or path is None:
            done(so_far._replace(stored=(stored._replace(metadata=None),)))
            return
        # It never comes before its file: beside one that was just placed there is none, but after a loss of power.
        may_be_there = so_far.shared or (want.stored is None) is want.repair or not self._clean
        at_rest = self._storage.digest(path) if may_be_there else None
        if at_rest is not None and want.metadata == at_rest.sha256:
            done(so_far._replace(stored=(stored._replace(metadata=at_rest.sha256),)))
            return
        if at_rest is not None and want.metadata and not want.repair:  # it would be fetched in vain
            without = stored._replace(metadata=None)
            failure = (f"{want.filename}{METADATA_SUFFIX}", _TAKEN)
            done(so_far.joined(Brought(stored=(without,), failures=(failure,), disputed=(path,))))
            return
        if wheel >= 0 and want.metadata and (within := self._read_from_wheel(wheel, stored.size, want)) is not None:
            done(so_far.joined(self._metadata_arrived(want, stored, within, path, fetched_files=0)))
            return
        goal = Goal(f"{want.url}.metadata", "sha256", want.metadata, None, self._limits.metadata, want.mtime)

        def arrived(arrival: Arrival) -> None:
            self._safely(want, done, lambda: done(so_far.joined(self._metadata_arrived(want, stored, arrival, path))))

        self._fetch_body(goal, arrived)

    def _read_from_wheel(self, wheel: int, size: int, want: Want) -> Arrival | None:
        """The core metadata as the wheel itself has it, staged; None unless it is what upstream offers."""
        body = core_metadata(wheel, size, BUFFER_BYTES)
        if body is None or want.metadata is None:
            return None
        goal = Goal("", "sha256", want.metadata, len(body), BUFFER_BYTES, want.mtime)
        sink = FileSink(goal, self._storage, self._desk.side, lambda: None)
        sink.feed(body)
        sink.finish(lambda: None)
        arrival = checked(goal, sink)
        sink.close()
        return arrival if arrival.staged or arrival.storage_failure else None

    def _metadata_arrived(
        self, want: Want, stored: StoredFile, arrival: Arrival, path: str, *, fetched_files: int = 1
    ) -> Brought:
        """The file is published in any case; its core metadata is offered only if it is stored and verified."""
        without = stored if stored.metadata is None else stored._replace(metadata=None)
        if arrival.staged:
            try:
                placement = place_file(self._storage, arrival, (path,), repair=want.repair)
            except (OSError, StorageError) as error:
                arrival = arrival._replace(reason=f"storage: {error}", storage_failure=is_storage_failure(error))
            else:
                if placement.path:
                    stored = StoredFile(stored.path, stored.size, stored.sha256, stored.mtime, arrival.sha256)
                    fetched_bytes = arrival.size if fetched_files else 0
                    return Brought(stored=(stored,), fetched_files=fetched_files, fetched_bytes=fetched_bytes)
                failure = (f"{want.filename}.metadata", _TAKEN)
                return Brought(stored=(without,), failures=(failure,), disputed=(path,))
        if arrival.is_absent and not want.is_promised:
            return Brought(stored=(without,))
        failed = _failed(want, arrival)
        failure = (f"{want.filename}.metadata", failed.failures[0][1])
        return failed._replace(stored=(without,), failures=(failure,))

    def _look_for(self, want: Want, then: Callable[[StoredFile | None, tuple[str, ...]], None]) -> None:
        """Find a file that is at rest though no row covers it, as after a crash: trusted once it is checked.

        `then` is told too which of its names are taken by other bytes.
        """
        if self._fresh or want.repair or want.algorithm != "sha256":
            then(None, ())
            return
        both = dict.fromkeys((want.path, want.long_path))
        sizes = {path: size for path in both if (size := self._storage.size(path)) is not None}
        if want.path not in sizes:
            then(None, ())
            return
        found: list[StoredFile] = []
        taken: list[str] = []

        # Without a stated size there is nothing to compare one with.
        method = self._compare if want.size is not None else "hash"

        def check_each() -> None:
            for path, size in sizes.items():
                with contextlib.suppress(OSError):
                    if want.size in (None, size) and holds(self._storage, method, path, want.digest, size, want.mtime):
                        found.append(StoredFile(path, size, want.digest, want.mtime, None))
                        return
                    taken.append(path)
            with contextlib.suppress(OSError):
                taken.extend(self._foreign_metadata(want))

        self._check(check_each, lambda: then(found[0] if found else None, tuple(taken)))

    def _check(self, check_each: Callable[[], None], then: Callable[[], None]) -> None:
        self._desk.side.submit(check_each, then)

    def _foreign_metadata(self, want: Want) -> Iterator[str]:
        """The name of its core metadata file, where other bytes hold it."""
        path = metadata_path(want.path) if want.metadata else None
        at_rest = self._storage.digest(path) if path else None
        if path and at_rest is not None and at_rest.sha256 != want.metadata:
            yield path


def _failed(want: Want, arrival: Arrival) -> Brought:
    return Brought(
        failures=((want.filename, arrival.reason),),
        fetched_bytes=arrival.size,
        storage_failure=arrival.storage_failure,
    )
