"""A mirror is held by one run: on its machine by a lock, and among machines, where they share a bucket, by a lease."""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fastmirror.damage import is_marked
from fastmirror.errors import StorageError
from fastmirror.lock import hold_lock
from fastmirror.tree import state_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastmirror.settings import S3Settings, StorageSettings
    from fastmirror.state import State

_LOG = logging.getLogger(__name__)


class Hold:
    """A mirror in the file system, held by this run."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor  # of the local lock, which workers inherit

    def check(self) -> None:
        """Raises StorageError if the mirror is not held any more. To be called before each thing that shows."""

    def keep(self, state: State, *, has_changed: bool) -> None:
        """The run is over, and this is its state: others are to find it."""


class Leased(Hold):
    """A mirror in a bucket, held by this run."""

    def __init__(self, descriptor: int, settings: S3Settings, directory: str) -> None:
        from fastmirror.lease import Lease
        from fastmirror.objects import Bucket

        super().__init__(descriptor)
        self._path = state_path(directory)
        self._bucket = Bucket(settings)
        self._lease = Lease(settings, descriptor)
        self.check = self._lease.check  # type: ignore[method-assign] # asked before each page
        self._bucket.guard(self.check)

    def begin(self) -> None:
        """Raises MirrorLocked if another holds it, StorageError if the store refuses or cannot keep machines apart."""
        from fastmirror.statecopy import take_state

        self._bucket.check()
        self._left = self._lease.take()
        self._copy, self._clean = self._left.copy, self._left.clean
        take_state(self._bucket, self._left, self._path)

    def keep(self, state: State, *, has_changed: bool) -> None:
        """Put a copy of the state into the store, if it has changed; what cannot be put there is told in the log."""
        from fastmirror.statecopy import forget_others, put_state

        if is_marked(self._path):
            _LOG.warning("the state is not in the store: it is damaged (%s)", self._path)
            return
        try:
            is_clean = state.get("clean") == "1"
            if has_changed or (is_clean and not self._clean):
                self._clean = False
                self.check()
                self._copy = put_state(self._bucket, state, self._left.copy, os.path.dirname(self._path))
                forget_others(self._bucket, self._copy, self._left.copy)
            self._clean = is_clean
        except (StorageError, OSError) as error:  # the disk may have no room for the copy
            _LOG.warning("the state is not in the store: %s", error)

    def end(self) -> None:
        """Leave it to the next run."""
        try:
            self._lease.release(self._copy, clean=self._clean and not is_marked(self._path))
        except StorageError as error:
            _LOG.warning("%s", error)

    def close(self) -> None:
        """End the connections, and the process that renews the lease."""
        self._lease.close()
        self._bucket.close()


@contextmanager
def hold_mirror(settings: StorageSettings) -> Iterator[Hold]:
    """Hold the mirror for one run. Raises MirrorLocked, with who holds it, at once.

    Where the tree is in a bucket, the local state is then the one of the last run, whichever machine did it.
    """
    with hold_lock(settings.directory) as descriptor:
        if settings.s3 is None:
            yield Hold(descriptor)
            return
        hold = Leased(descriptor, settings.s3, settings.directory)
        try:
            hold.begin()
            try:
                yield hold
            finally:
                hold.end()
        finally:
            hold.close()
