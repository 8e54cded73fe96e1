"""What a run has done: counted while it goes on, and summed up when it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastmirror.model import Outcome

FAILURES_TOLD = 50


class Failure(NamedTuple):
    """A project that was not mirrored whole."""

    name: str
    reason: str
    next_try: float | None  # epoch seconds


class Summary(NamedTuple):
    """How a run ended."""

    updated: int
    unchanged: int
    removed: int
    partial: int
    failed: int
    gone: int  # not there upstream, and not here
    pending: int  # planned and not done
    failures: tuple[Failure, ...]  # the first of them
    files: int  # fetched
    bytes: int  # fetched
    seconds: float
    held_removals: int  # projects that the deletion guard kept
    held_files: int  # files that the deletion guard kept
    exit_status: int
    error: str  # why the run ended early; "" if it did not
    serial: int | None


class Counts:
    """What a run has done so far."""

    def __init__(self) -> None:
        self.by_status = dict.fromkeys(("published", "unchanged", "skipped", "partial", "gone", "denied", "failed"), 0)
        self.planned = 0
        self.answered = 0
        self.removed = 0
        self.files = 0
        self.bytes = 0
        self.held_removals = 0
        self.held_files = 0
        self.failures: dict[str, str] = {}
        self.unreachable = 0  # of the failures: upstream did not answer at all

    def take(self, outcome: Outcome) -> None:
        """Count one project's outcome."""
        self.answered += 1
        self.files += outcome.fetched_files
        self.bytes += outcome.fetched_bytes
        self.by_status[outcome.status] += 1
        if outcome.status in {"failed", "partial"}:
            self.failures[outcome.name] = outcome.reason
        self.unreachable += outcome.unreachable

    def take_back(self, name: str, status: str) -> None:
        """What was said of a project does not hold: it is to be counted again."""
        self.answered -= 1
        self.by_status[status] -= 1
        self.failures.pop(name, None)

    @property
    def pending(self) -> int:
        """Planned and not done."""
        return self.planned - self.answered

    def sum_up(
        self, seconds: float, exit_status: int, error: str, serial: int | None, due: Mapping[str, float | None]
    ) -> Summary:
        """The run's end; `due` says when failed projects are tried again."""
        told = list(self.failures.items())[:FAILURES_TOLD]
        return Summary(
            updated=self.by_status["published"],
            unchanged=self.by_status["unchanged"] + self.by_status["skipped"],
            removed=self.removed,
            partial=self.by_status["partial"],
            failed=self.by_status["failed"],
            gone=self.by_status["gone"],
            pending=self.pending,
            failures=tuple(Failure(name, reason, due.get(name)) for name, reason in told),
            files=self.files,
            bytes=self.bytes,
            seconds=seconds,
            held_removals=self.held_removals,
            held_files=self.held_files,
            exit_status=exit_status,
            error=error,
            serial=serial,
        )
