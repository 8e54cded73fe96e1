"""Progress of a run, for a person: a calm bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import os
import time
from collections import deque
from typing import TYPE_CHECKING, NoReturn, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

    from tqdm import tqdm

_REDRAW_S = 0.5  # no more often than this
_RATE_REDRAWS = 20  # the rate shown is that of as many redraws
_MAX_COLUMNS = 100
_UNKNOWN_COLUMNS = 80


class Progress(Protocol):
    """What a run tells a person while it goes on. Called by the parent process only, from one thread."""

    def plan(self, projects: int) -> None:
        """So many projects are planned in all; may be called again with a larger number."""

    def advance(self, projects: int, files: int, size: int, failed: int) -> None:
        """So many more are done: projects, files and bytes fetched, projects that failed among the first."""

    def note(self, text: str) -> None:
        """Show one line, below everything before it; also after close."""

    def close(self) -> None:
        """Take the bar away. May be called twice."""


def open_progress(stream: TextIO, *, interval_s: float = 30.0, clock: Callable[[], float] = time.monotonic) -> Progress:
    """A bar if the stream is a terminal, else a plain line at most every interval_s seconds."""
    return _Bar(stream, clock) if stream.isatty() else _Lines(stream, interval_s, clock)


def human_bytes(size: float) -> str:
    """A number of bytes for a person, in powers of 1,000: 999 B, 1.23 kB, 12.3 MB, 123 GB."""
    if size < 999.5:
        return f"{size:.0f} B"
    for unit in ("kB", "MB", "GB", "TB"):
        size /= 1000
        if size < 999.5:
            return f"{_three_digits(size)} {unit}"
    return f"{size / 1000:,.3g} PB"


def _three_digits(number: float) -> str:
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


class _Lines:
    """A plain line every so often: for logs, pipes and cron."""

    def __init__(self, stream: TextIO, interval_s: float, clock: Callable[[], float]) -> None:
        self._stream = stream
        self._interval_s = interval_s
        self._clock = clock
        self._started = self._last = clock()
        self._last_bytes = 0
        self._planned = self._projects = self._files = self._bytes = self._failed = 0

    def plan(self, projects: int) -> None:
        if not self._planned:
            self._started = self._last = self._clock()
        self._planned = projects

    def advance(self, projects: int, files: int, size: int, failed: int) -> None:
        self._projects += projects
        self._files += files
        self._bytes += size
        self._failed += failed
        now = self._clock()
        if now - self._last >= self._interval_s:
            self.note(self._line(now))
            self._last, self._last_bytes = now, self._bytes

    def _line(self, now: float) -> str:
        rate = (self._bytes - self._last_bytes) / max(now - self._last, 1e-9)
        parts = [
            f"fastmirror: {self._projects:,} of {self._planned:,} projects",
            f"{self._files:,} files",
            f"{human_bytes(rate)}/s",
            f"{self._failed:,} failed",
        ]
        if 0 < self._projects < self._planned:
            left = (now - self._started) / self._projects * (self._planned - self._projects)
            parts.append(f"about {human_time(left)} left")
        return ", ".join(parts)

    def note(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()

    def close(self) -> None:
        pass


class _Bar:
    """tqdm's bar, redrawn only from advance and only every half second: no thread, as workers are forked."""

    def __init__(self, stream: TextIO, clock: Callable[[], float]) -> None:
        self._stream = stream
        self._clock = clock
        self._bar: tqdm[NoReturn] | None = None
        self._planned = self._projects = self._files = self._bytes = self._failed = 0
        self._drawn: deque[tuple[float, int]] = deque([(clock(), 0)], maxlen=_RATE_REDRAWS)

    def plan(self, projects: int) -> None:
        self._planned = projects
        if projects:
            self._draw(self._clock())

    def advance(self, projects: int, files: int, size: int, failed: int) -> None:
        self._projects += projects
        self._files += files
        self._bytes += size
        self._failed += failed
        now = self._clock()
        if self._bar is not None and now - self._drawn[-1][0] >= _REDRAW_S:
            self._draw(now)

    def _draw(self, now: float) -> None:
        text = self._text(now)
        if self._bar is None:
            self._bar = _open_bar(self._stream)
        self._bar.ncols = _columns(self._stream)
        self._bar.total = max(self._planned, self._projects)
        self._bar.desc = text
        if not self._bar.update(self._projects - self._bar.n):
            self._bar.refresh()

    def _text(self, now: float) -> str:
        since, before = self._drawn[0]
        self._drawn.append((now, self._bytes))
        rate = (self._bytes - before) / max(now - since, _REDRAW_S)
        text = (
            f"{_short_count(self._projects)}/{_short_count(self._planned)} projects,"
            f" {_short_count(self._files)} files, {human_bytes(rate)}/s"
        )
        return f"{text}, {_short_count(self._failed)} failed" if self._failed else text

    def note(self, text: str) -> None:
        if self._bar is None:
            self._stream.write(text + "\n")
        else:
            self._bar.write(text, file=self._stream)
        self._stream.flush()

    def close(self) -> None:
        if self._bar is not None:
            self._draw(self._clock())
            self._bar.close()
            self._bar = None


def _open_bar(stream: TextIO) -> tqdm[NoReturn]:
    import threading

    from tqdm import tqdm

    # Before the first bar: no monitor thread, and no lock shared between processes, which Python would keep
    # a helper process for. Workers are forked while the bar stands, and do not draw.
    tqdm.monitor_interval = 0
    tqdm.set_lock(threading.RLock())
    return tqdm(
        total=1,
        file=stream,
        delay=1e-9,  # the first drawing is ours
        mininterval=0,
        miniters=1,
        smoothing=0.1,
        bar_format="{percentage:3.0f}%|{bar}| {desc}, {remaining} left",
    )


def _short_count(count: int) -> str:
    """A count in at most six characters: 99,999, then 123k, 1.23M."""
    if count < 99_999.5:
        return f"{count:,}"
    return f"{count / 1000:.0f}k" if count < 999_500 else f"{_three_digits(count / 1_000_000)}M"


def _columns(stream: TextIO) -> int:
    """The width to draw in: one column is left free, where some terminals would begin a new line."""
    try:
        columns = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        columns = 0
    return min(columns or _UNKNOWN_COLUMNS, _MAX_COLUMNS) - 1
