"""What a run has done: counted while it goes on, and summed up when it ends."""

from __future__ import annotations

from heapq import heappush, heapreplace
from typing import TYPE_CHECKING, NamedTuple, get_args

from fastmirror.masking import clean
from fastmirror.model import Status

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fastmirror.model import Checked, Outcome

FAILURES_TOLD = 50
SLOWEST_TOLD = 10


class Failure(NamedTuple):
    """A project that was not mirrored whole."""

    name: str
    reason: str
    next_try: float | None  # epoch seconds


class Slow(NamedTuple):
    """One of the projects that took a run the longest."""

    seconds: float  # from the beginning of its job to its end, whatever else went on meanwhile
    name: str
    bytes: int  # fetched


class Gap(NamedTuple):
    """Something that dependencies lack, or that is not known of them."""

    name: str  # of the project that lacks it, or is lacking
    reason: str


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
    swept: int = 0  # asked for though nothing said that they had changed; what had not is counted nowhere else
    swept_changed: int = 0
    swept_unread: int = 0  # left as they are: their pages could not be had, or were older
    slowest: tuple[Slow, ...] = ()  # the slowest first
    gaps: tuple[Gap, ...] = ()  # in the dependencies, where they are mirrored too


def gap_lines(gaps: Sequence[Gap], most: int = 20) -> list[str]:
    """What a person is told of them."""
    if not gaps:
        return []
    lines = [f"  {clean(gap.name)}: {clean(gap.reason)}" for gap in gaps[:most]]
    more = [f"  … and {len(gaps) - most:,} more"] if len(gaps) > most else []
    return ["dependencies: not all that may be required is here, or known:", *lines, *more]


class FoundDamage(NamedTuple):
    """Something damaged that was found at rest."""

    name: str  # the project's
    path: str  # below web/
    what: str  # missing, corrupt, unreadable
    size: int  # bytes that the state names; 0 where it does not say
    mended: bool


class Verification(NamedTuple):
    """What a verification found, and what became of it."""

    projects: int  # looked at
    files: int  # read, with core metadata files
    bytes: int  # of those
    by_kind: dict[str, int]  # damage: missing, corrupt, unreadable
    mended: int
    unmended: int
    found: tuple[FoundDamage, ...]  # the first of the damage
    fetched_files: int
    fetched_bytes: int
    failures: tuple[Failure, ...]  # the first of them
    failed: int  # projects that are not whole
    pending: int  # projects not yet looked at
    left: int  # projects that the budget leaves to the next verification
    root_index: tuple[str, ...]  # paths below web/ of its forms that were not what the state says
    unowned: int  # files, pages and documents that no project of the state owns
    unowned_bytes: int
    unowned_paths: tuple[str, ...]  # the first of them
    removed: int  # of those
    held: int  # of those, by the deletion guard
    refusal: str  # why nothing is removed; "" if it may be
    notes: tuple[str, ...]  # what could not be looked at
    dry_run: bool
    seconds: float
    exit_status: int
    error: str  # why it ended early; "" if it did not


class Checks:
    """What was found at rest so far."""

    def __init__(self) -> None:
        self.projects = 0
        self.files = 0
        self.bytes = 0
        self.by_kind = dict.fromkeys(("missing", "corrupt", "unreadable"), 0)
        self.mended = 0
        self.unmended = 0
        self.found: list[FoundDamage] = []

    def take(self, name: str, checked: Checked, *, mends: bool) -> None:
        """Count what was found of one project; `mends`: what is not named as unmended is mended."""
        self.projects += 1
        self.files += checked.files
        self.bytes += checked.bytes
        unmended = set(checked.unmended)
        for damage in checked.damage:
            is_mended = mends and damage.path not in unmended
            self.by_kind[damage.what] += 1
            self.mended += is_mended
            self.unmended += not is_mended
            if len(self.found) < FAILURES_TOLD:
                self.found.append(FoundDamage(name, damage.path, damage.what, damage.size, is_mended))

    def take_back(self, name: str, checked: Checked) -> None:
        """Nothing of this project is mended after all."""
        count = len(checked.damage) - len(checked.unmended)
        self.mended -= count
        self.unmended += count
        self.found = [found._replace(mended=False) if found.name == name else found for found in self.found]


class Counts:
    """What a run has done so far."""

    def __init__(self) -> None:
        self.by_status = dict.fromkeys(get_args(Status), 0)
        self.planned = 0
        self.answered = 0
        self.removed = 0
        self.files = 0
        self.bytes = 0
        self.held_removals = 0
        self.held_files = 0
        self.emptied = 0  # projects that were left without a file, and are published so
        self.held_emptied = 0  # of the removals held
        self.failures: dict[str, str] = {}
        self.checks = Checks()
        self.unreachable = 0  # of the failures: upstream did not answer at all
        self.swept = 0
        self.swept_changed = 0
        self.swept_unread = 0
        self._slowest: list[Slow] = []  # a heap

    def take(self, outcome: Outcome) -> None:
        """Count one project's outcome."""
        self.answered += 1
        self.files += outcome.fetched_files
        self.bytes += outcome.fetched_bytes
        self.by_status[outcome.status] += 1
        if outcome.status in {"failed", "partial", "damaged"}:
            self.failures[outcome.name] = outcome.reason
        self.unreachable += outcome.unreachable
        slow = Slow(outcome.seconds, outcome.name, outcome.fetched_bytes)
        if len(self._slowest) < SLOWEST_TOLD:
            heappush(self._slowest, slow)
        elif slow > self._slowest[0]:
            heapreplace(self._slowest, slow)

    def leave(self, outcome: Outcome) -> None:
        """Count a project that a sweep leaves as it is."""
        self.answered += 1
        self.files += outcome.fetched_files
        self.bytes += outcome.fetched_bytes
        self.swept_unread += outcome.status == "failed"

    def take_back(self, name: str, status: str) -> None:
        """What was said of a project does not hold: it is to be counted again."""
        self.answered -= 1
        self.by_status[status] -= 1
        self.failures.pop(name, None)

    def hold_emptied(self, name: str, status: str) -> None:
        """A project that was to be left without a file stays as it is."""
        self.take_back(name, status)
        self.answered += 1
        self.held_removals += 1
        self.held_emptied += 1

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
            unchanged=sum(self.by_status[status] for status in ("unchanged", "skipped", "stale")),
            removed=self.removed,
            partial=self.by_status["partial"],
            failed=self.by_status["failed"] + self.by_status["damaged"],
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
            swept=self.swept,
            swept_changed=self.swept_changed,
            swept_unread=self.swept_unread,
            slowest=tuple(sorted(self._slowest, reverse=True)),
        )
