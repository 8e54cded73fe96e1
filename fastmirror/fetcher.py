"""One file on its way: fetched, checked, and given its final name; then its core metadata file."""

from __future__ import annotations

import contextlib
import logging
from functools import partial
from typing import TYPE_CHECKING, Any

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
    from typing import TypeAlias

    from fastmirror.settings import UpstreamSettings
    from fastmirror.storage import Storage

    Done: TypeAlias = Callable[[Brought], None]

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


def place_file(storage: Storage, arrival: Arrival, paths: tuple[str, ...], *, repair: bool) -> tuple[str, bool]:
    """Give a staged file the first of these names that is free, or that holds the same bytes already.

    Returns where it went, "" if nowhere, and whether it was there already.
    """
    if repair:
        storage.place(arrival.staged, paths[0], replace=True, sha256=arrival.sha256)
        return paths[0], False
    for path in paths:
        if storage.place(arrival.staged, path, sha256=arrival.sha256):
            return path, False
        if storage.size(path) == arrival.size and storage.digest(path) == Digest(arrival.sha256, arrival.size):
            storage.discard(arrival.staged)
            return path, True
    storage.discard(arrival.staged)
    return "", False


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

    def fetch(self, want: Want, done: Done) -> None:
        """Bring one file, and its core metadata file where upstream offers one."""
        if want.stored is not None:
            self._safely(self._fetch_metadata, want, done, want.stored, Brought())
        elif self._fresh or want.repair or want.algorithm != "sha256":
            self._safely(self._fetch_unless, want, done, None, ())
        else:
            self._safely(self._look_for, want, done)

    def _safely(self, step: Callable[..., None], want: Want, done: Done, *more: Any) -> None:  # noqa: ANN401
        """One file's trouble is never another's: whatever a step raises is this file's failure."""
        try:
            step(want, done, *more)
        except (OSError, StorageError) as error:
            done(_failed(want, Arrival("", "", 0, f"storage: {error}", is_storage_failure(error))))
        except Exception as error:  # noqa: BLE001 - one file's trouble is never another's
            _LOG.exception("%s: this is a bug", want.filename)
            done(_failed(want, Arrival("", "", 0, f"bug: {type(error).__name__}: {error}")))

    def _fetch_unless(self, want: Want, done: Done, found: StoredFile | None, taken: tuple[str, ...]) -> None:
        if found is not None:
            self._fetch_metadata(want, done, found, Brought(shared=(found.path,)))
            return
        if want.long_path in taken:  # it would be fetched in vain
            done(Brought(failures=((want.filename, _TAKEN),), disputed=taken))
            return
        self._storage.final(want.path)
        limit = self._limits.unsized_file if want.size is None else want.size
        goal = Goal(want.url, want.algorithm, want.digest, want.size, limit, want.mtime)
        self._fetch_body(goal, partial(self._safely, self._arrived, want, done))

    def _fetch_body(self, goal: Goal, arrived: Callable[[Arrival], None]) -> None:
        if not self._sources.are_plain:
            MirroredFetch(goal, self._desk, self._sources, arrived).start()
        elif refusal := self._sources.refusal(goal.url):
            arrived(Arrival("", "", 0, refusal))
        else:
            BodyFetch(goal, self._desk, arrived).start()

    def _arrived(self, want: Want, done: Done, arrival: Arrival) -> None:
        self.tally.done_files += 1
        self.tally.done_bytes += arrival.size
        if not arrival.staged:
            done(_failed(want, arrival))
            return
        paths = (want.path,) if want.path == want.long_path else (want.path, want.long_path)
        try:
            path, is_shared = place_file(self._storage, arrival, paths, repair=want.repair)
        except (OSError, StorageError) as error:
            done(_failed(want, arrival._replace(reason=f"storage: {error}", storage_failure=is_storage_failure(error))))
            return
        if not path:
            failure = (want.filename, _TAKEN)
            done(Brought(failures=(failure,), disputed=paths, fetched_files=1, fetched_bytes=arrival.size))
            return
        stored = StoredFile(path, arrival.size, arrival.sha256, want.mtime, None)
        # What holds the first name is another project's, or nobody's, as after a loss of power: the parent knows.
        beside = () if path == want.path else (want.path, f"{want.path}{METADATA_SUFFIX}")
        so_far = Brought((), (), (path,) if is_shared else (), beside, 1, arrival.size)
        self._fetch_metadata(want, done, stored, so_far, arrival.descriptor)

    def _fetch_metadata(self, want: Want, done: Done, stored: StoredFile, so_far: Brought, wheel: int = -1) -> None:
        """Bring the core metadata file; `wheel` is the file's descriptor where it is open anyway."""
        if stored.metadata is not None:
            stored = stored._replace(metadata=None)  # until one is stored and verified
        path = metadata_path(stored.path)
        if want.metadata is None or path is None:
            done(so_far.with_stored(stored))
            return
        # It never comes before its file: beside one that was just placed there is none, but after a loss of power.
        may_be_there = so_far.shared or (want.stored is None) is want.repair or not self._clean
        at_rest = self._storage.digest(path) if may_be_there else None
        if at_rest is not None and want.metadata == at_rest.sha256:
            done(so_far.with_stored(stored._replace(metadata=at_rest.sha256)))
            return
        if at_rest is not None and want.metadata and not want.repair:  # it would be fetched in vain
            failure = (f"{want.filename}{METADATA_SUFFIX}", _TAKEN)
            done(so_far.joined(Brought(stored=(stored,), failures=(failure,), disputed=(path,))))
            return
        if wheel >= 0 and want.metadata and (within := self._read_from_wheel(wheel, stored.size, want)) is not None:
            done(self._with_metadata(want, stored, so_far, path, within, is_fetched=False))
            return
        goal = Goal(f"{want.url}.metadata", "sha256", want.metadata, None, self._limits.metadata, want.mtime)
        self._fetch_body(goal, partial(self._safely, self._metadata_arrived, want, done, stored, so_far, path))

    def _metadata_arrived(
        self, want: Want, done: Done, stored: StoredFile, so_far: Brought, path: str, arrival: Arrival
    ) -> None:
        done(self._with_metadata(want, stored, so_far, path, arrival))

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

    def _with_metadata(
        self, want: Want, stored: StoredFile, so_far: Brought, path: str, arrival: Arrival, *, is_fetched: bool = True
    ) -> Brought:
        """The file is published in any case; its core metadata is offered only if it is stored and verified."""
        if arrival.staged:
            try:
                placed, _ = place_file(self._storage, arrival, (path,), repair=want.repair)
            except (OSError, StorageError) as error:
                arrival = arrival._replace(reason=f"storage: {error}", storage_failure=is_storage_failure(error))
            else:
                if placed:
                    whole = so_far.with_stored(stored._replace(metadata=arrival.sha256))
                    return whole.joined(Brought((), (), (), (), 1, arrival.size)) if is_fetched else whole
                failure = (f"{want.filename}.metadata", _TAKEN)
                return so_far.joined(Brought(stored=(stored,), failures=(failure,), disputed=(path,)))
        if arrival.is_absent and not want.is_promised:
            return so_far.with_stored(stored)
        failed = _failed(want, arrival)
        failure = (f"{want.filename}.metadata", failed.failures[0][1])
        return so_far.joined(failed._replace(stored=(stored,), failures=(failure,)))

    def _look_for(self, want: Want, done: Done) -> None:
        """Find a file that is at rest though no row covers it, as after a crash: trusted once it is checked.

        Which of its names are taken by other bytes is found out too.
        """
        both = dict.fromkeys((want.path, want.long_path))
        sizes = {path: size for path in both if (size := self._storage.size(path)) is not None}
        if want.path not in sizes:
            self._fetch_unless(want, done, None, ())
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

        def go_on() -> None:
            self._safely(self._fetch_unless, want, done, found[0] if found else None, tuple(taken))

        self._check(check_each, go_on)

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
