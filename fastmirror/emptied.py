"""Projects that upstream leaves without a file: few are published as they are, many are held back by the guard.

In a run that does fewer projects than the guard lets go each is published as it comes. In a larger one they are set
aside until it is known how many there are; once they are too many they are only counted, and stay as they were.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastmirror.model import Known, Outcome
    from fastmirror.publisher import Done
    from fastmirror.settings import PageSettings
    from fastmirror.state import State
    from fastmirror.storage import Storage
    from fastmirror.summary import Counts

_LOG = logging.getLogger(__name__)


class Emptied:
    """The emptied projects of one run that are not published yet."""

    def __init__(
        self,
        storage: Storage,
        state: State,
        counts: Counts,
        pages: PageSettings,
        are_too_many: Callable[[int], bool],
    ) -> None:
        self._storage = storage
        self._state = state
        self._mirrors_files = pages.release_files
        self._counts = counts
        self._are_too_many = are_too_many
        self._waiting: list[Done] = []
        self._is_over = False

    @property
    def count(self) -> int:
        """How many are set aside, or held back."""
        return len(self._waiting) + self._counts.held_emptied

    def take(self, known: Known | None, done: Done) -> bool:
        """Whether it was taken; what leaves a project something, or may be published whatever comes, is not."""
        counts = self._counts
        if not self._is_one(known, done.outcome):
            return False
        if not self._is_over and not self._are_too_many(counts.removed + counts.planned):
            counts.emptied += 1
            return False
        self._waiting.append(done)
        if self._is_over or self._are_too_many(counts.removed + counts.emptied + len(self._waiting)):
            self.hold()
        return True

    def _is_one(self, known: Known | None, outcome: Outcome) -> bool:
        """Whether upstream takes the project's last files, or its name from the root index: no setting does that."""
        if outcome.status not in {"published", "partial"}:
            return False
        if outcome.hidden and self._state.count_listed([outcome.name]):
            return True
        is_by_filters = outcome.filtered_out and known is not None and known.settings_digest != outcome.settings_digest
        return bool(self._mirrors_files and outcome.dropped and not outcome.file_count and not is_by_filters)

    def hold(self) -> None:
        """They are too many, and so are those to come: their pages, rows and files stay as they are."""
        if not self._waiting:
            return
        if not self._is_over:
            _LOG.warning("too many projects have lost all their files upstream: they stay as they are")
        self._is_over = True
        for done in self._discarded():
            self._counts.hold_emptied(done.outcome.name, done.outcome.status)

    def give_up(self) -> None:
        """The run is cut off: those that are set aside are not done."""
        for done in self._discarded():
            self._counts.take_back(done.outcome.name, done.outcome.status)

    def release(self) -> list[Done]:
        """Those that are set aside, to be published."""
        waiting, self._waiting = self._waiting, []
        self._counts.emptied += len(waiting)
        return waiting

    def _discarded(self) -> list[Done]:
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            if done.outcome.checked is not None:
                self._counts.checks.take_back(done.outcome.name, done.outcome.checked)
            for page in done.outcome.pages:
                for staged in page.staged:
                    self._storage.discard(staged)
        return waiting
