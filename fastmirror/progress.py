"""Progress of a run: what it tells while it goes on, and what follows from that."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from typing import TYPE_CHECKING, Protocol

from fastmirror.model import Load

if TYPE_CHECKING:
    from collections.abc import Callable

_RATE_SAMPLES = 20  # the rate told is that of as many drawings
_LEAST_S = 0.5  # no rate is told of less time


class Progress(Protocol):
    """What a run tells while it goes on. Called by the parent process only, from one thread."""

    def begin(self, what: str) -> None:
        """This is being done now, in a few words."""

    def plan(self, projects: int, what: str = "projects") -> None:
        """So many projects, or whatever is counted, are planned in all; may be called again with a larger number."""

    def advance(self, projects: int, files: int, size: int, failed: int) -> None:
        """So many more are done: projects, files and bytes fetched, projects that failed among the first."""

    def load(self, load: Load) -> None:
        """What the workers have in hand."""

    def fail(self, name: str, status: str, reason: str) -> None:
        """A project was not mirrored whole, or not at all."""

    def note(self, text: str) -> None:
        """Show one line, below everything before it; also after close."""

    def close(self) -> None:
        """Take the bar away. May be called twice."""


def human_bytes(size: float) -> str:
    """A number of bytes for a person, in powers of 1,000: 999 B, 1.23 kB, 12.3 MB, 123 GB."""
    if size < 999.5:
        return f"{size:.0f} B"
    for unit in ("kB", "MB", "GB", "TB"):
        size /= 1000
        if size < 999.5:
            return f"{three_digits(size)} {unit}"
    return f"{size / 1000:,.3g} PB"


def three_digits(number: float) -> str:
    """A number below a thousand: 1.23, 12.3, 123."""
    return f"{number:.2f}" if number < 9.995 else f"{number:.1f}" if number < 99.95 else f"{number:.0f}"


def human_time(seconds: float) -> str:
    """A duration for a person: 0.4 s, 12 s, 3 min 20 s, 2 h 5 min, 3 d 4 h."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for limit, step, large, small in ((3600, 60, "min", "s"), (86_400, 3600, "h", "min")):
        if whole < limit and whole >= step:
            part = whole % step // (step // 60)
            return f"{whole // step} {large} {part} {small}" if part else f"{whole // step} {large}"
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


class Course(ABC):
    """What has been told so far, and what follows from it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._started = clock()
        self._planned = self._projects = self._failed = 0
        self._files = self._bytes = 0  # of the projects that are done
        self._what = "projects"
        self._load = Load()
        self._seen: deque[tuple[float, int]] = deque([(self._started, 0)], maxlen=_RATE_SAMPLES)

    def plan(self, projects: int, what: str = "projects") -> None:
        """So many in all."""
        self._what = what
        if not self._planned:
            self._started = self._clock()
            self._seen.append((self._started, 0))
            self._seen.popleft()
        self._planned = projects

    def advance(self, projects: int, files: int, size: int, failed: int) -> None:
        """So many more are done."""
        self._projects += projects
        self._files += files
        self._bytes += size
        self._failed += failed
        self._show(self._clock())

    def load(self, load: Load) -> None:
        """What is in hand."""
        self._load = load
        self._show(self._clock())

    @abstractmethod
    def _show(self, now: float) -> None:
        """Let it be seen, where it is time."""

    @property
    def _all_files(self) -> int:
        return max(self._files, self._load.done_files)

    @property
    def _all_bytes(self) -> int:
        return max(self._bytes, self._load.done_bytes)

    def _rate(self, now: float) -> float:
        """Bytes per second of late."""
        since, before = self._seen[0]
        self._seen.append((now, self._all_bytes))
        return max(0, self._all_bytes - before) / max(now - since, _LEAST_S)

    def _left_s(self, now: float) -> float | None:
        """Seconds to the end, as things go; None if nothing can be said.

        By the bytes that are planned, and by as many for each project whose page is not read yet; by the
        projects, where these take longer.
        """
        elapsed, missing = now - self._started, self._planned - self._projects
        if missing <= 0 or elapsed <= 0 or not self._projects:
            return None
        left_s = elapsed / self._projects * missing
        load = self._load
        if load.wanted_bytes and load.done_bytes:
            known = max(self._projects, load.read)
            bytes_left = load.wanted_bytes - load.done_bytes
            bytes_left += max(0, self._planned - known) * load.wanted_bytes // known
            left_s = max(left_s, elapsed / load.done_bytes * bytes_left)
        return left_s
