"""Groups of projects on their way to being published: flush, rename the pages, flush, commit the rows.

Only the parent does this, so no worker that outlives it publishes anything. While one group is flushed in a
thread the next one gathers.
"""

from __future__ import annotations

import time
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, NamedTuple

from fastmirror.changes import note_group
from fastmirror.errors import is_storage_failure
from fastmirror.model import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from concurrent.futures import Future

    from fastmirror.schema import RecordedJob
    from fastmirror.state import State
    from fastmirror.storage import Storage

_GROUP_PROJECTS = 512
_GROUP_S = 2.0
_REMOTE_THREADS = 32  # projects at once whose pages are sent


class Done(NamedTuple):
    """An outcome and what the parent knows of its job."""

    outcome: Outcome
    job: RecordedJob


class Publisher:
    """Takes outcomes, and makes them durable, visible and recorded, in this order."""

    def __init__(
        self,
        storage: Storage,
        state: State,
        check_id: int,
        wake: Callable[[], None],
        refused: Callable[[Outcome, Outcome], None],
    ) -> None:
        self._storage = storage
        self._state = state
        self._check_id = check_id
        self._wake = wake
        self._refused = refused
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="publish")
        self._waiting: list[Done] = []
        self._since = 0.0
        self._group: list[Done] = []
        self._flight: Future[dict[str, str]] | None = None

    def add(self, done: Done) -> None:
        """Take an outcome whose files are in place and whose pages are staged."""
        if not self._waiting:
            self._since = time.monotonic()
        self._waiting.append(done)

    @property
    def is_idle(self) -> bool:
        """Whether all that was added is recorded."""
        return not self._waiting and self._flight is None

    def advance(self, *, hurry: bool) -> None:
        """Record the group whose pages are out, and send the next one if it is due, or `hurry`.

        Raises StorageError or OSError if the disk refused: nothing of that group is recorded.
        """
        if self._flight is not None and self._flight.done():
            flight, self._flight = self._flight, None
            group, self._group = self._group, []
            unpublished = flight.result()
            group = [self._judged(done, unpublished) for done in group]
            with self._state.transaction():
                self._state.record(group, time.time(), self._check_id)
        if self._flight is None and self._waiting and (hurry or self._is_due()):
            self._group, self._waiting = self._waiting, []
            outcomes = [done.outcome for done in self._group]
            if self._state.notes.are_wanted or any(
                outcome.dropped or outcome.hidden or outcome.disputed for outcome in outcomes
            ):
                with self._state.transaction():
                    note_group(self._state, self._storage, outcomes)
                    self._state.doom(outcomes, time.time())
            self._flight = self._thread.submit(self._publish, self._group)
            self._flight.add_done_callback(lambda _: self._wake())

    def finish(self) -> None:
        """Record everything that was added."""
        while not self.is_idle:
            if self._flight is not None:
                self._flight.exception()  # waits; advance raises it
            self.advance(hurry=True)

    def close(self) -> None:
        """End the thread; what is not recorded is not."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _is_due(self) -> bool:
        return len(self._waiting) >= _GROUP_PROJECTS or time.monotonic() - self._since >= _GROUP_S

    def _judged(self, done: Done, unpublished: Mapping[str, str]) -> Done:
        """A project whose page could not be put into place has failed; `refused` is told of it."""
        reason = unpublished.get(done.outcome.name)
        if reason is None:
            return done
        failed = Outcome(done.outcome.name, "failed", reason)
        self._refused(done.outcome, failed)
        return done._replace(outcome=failed)

    def _publish(self, group: Sequence[Done]) -> dict[str, str]:
        """In the thread: returns the projects whose pages could not be put into place, with the reasons."""
        outcomes = [done.outcome for done in group]
        if not any(o.pages or o.fetched_files or o.shared or o.retired for o in outcomes):
            return {}
        self._storage.flush()
        reasons = zip(outcomes, self._put_all(outcomes), strict=True)
        unpublished: dict[str, str] = {outcome.name: reason for outcome, reason in reasons if reason}
        if any(outcome.pages or outcome.retired for outcome in outcomes):
            self._storage.flush()
        return unpublished

    def _put_all(self, outcomes: Sequence[Outcome]) -> Iterable[str]:
        """Put each one's pages into place; returns when all were tried. See _put_into_place.

        After a failure that is the storage's none is begun: each would be tried for as long.
        """
        if not self._storage.is_remote:
            return map(self._put_into_place, outcomes)
        with ThreadPoolExecutor(_REMOTE_THREADS, thread_name_prefix="pages") as threads:
            tried = [threads.submit(self._put_into_place, outcome) for outcome in outcomes]
            ended = wait(tried, return_when=FIRST_EXCEPTION)
            for each in ended.not_done:
                each.cancel()
        for each in ended.done:
            each.result()  # raises what failed first
        return [each.result() for each in tried]

    def _put_into_place(self, outcome: Outcome) -> str:
        """Returns why it could not be done, or "". Raises OSError or StorageError where no other would fare better."""
        try:
            for page in outcome.pages:
                for staged, final in zip(page.staged, page.final, strict=True):
                    self._storage.publish(staged, final)
            for path in outcome.retired:
                self._storage.remove(path)
        except OSError as error:
            if is_storage_failure(error):
                raise
            return f"storage: page: {error}"
        return ""
