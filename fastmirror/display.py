"""How a person or a script sees a run: a calm bar on a terminal, a plain line now and then elsewhere, events."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, NoReturn

from fastmirror.masking import clean
from fastmirror.progress import Course, human_bytes, human_time, three_digits

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

    from tqdm import tqdm

    from fastmirror.progress import Progress

_REDRAW_S = 0.5  # no more often than this
_MAX_COLUMNS = 120
_UNKNOWN_COLUMNS = 80
_BAR_COLUMNS = 10  # of what is not text: the share done, a bar of a few characters
_FAILURES_TOLD = 10  # as they come; the closing summary has more
_EVENT_S = 1.0


def open_progress(stream: TextIO, *, interval_s: float = 30.0, clock: Callable[[], float] = time.monotonic) -> Progress:
    """A bar if the stream is a terminal, else a plain line at most every interval_s seconds."""
    return _Bar(stream, clock) if stream.isatty() else _Lines(stream, interval_s, clock)


def open_events(
    emit: Callable[[dict[str, Any]], None], stream: TextIO, *, clock: Callable[[], float] = time.monotonic
) -> Progress:
    """Events for a script, each a dictionary with the key `event`; notes go to the stream as plain lines."""
    return _Events(emit, stream, clock)


class _Lines(Course):
    """A plain line every so often: for logs, pipes and cron."""

    def __init__(self, stream: TextIO, interval_s: float, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self._stream = stream
        self._interval_s = interval_s
        self._last, self._last_bytes = self._started, 0

    def begin(self, what: str) -> None:
        pass

    def fail(self, name: str, status: str, reason: str) -> None:
        pass

    def plan(self, projects: int, what: str = "projects") -> None:
        if not self._planned:
            self._last = self._clock()
        super().plan(projects, what)

    def _show(self, now: float) -> None:
        if self._planned and now - self._last >= self._interval_s:
            self.note(self._line(now))
            self._last, self._last_bytes = now, self._all_bytes

    def _line(self, now: float) -> str:
        rate = max(0, self._all_bytes - self._last_bytes) / max(now - self._last, 1e-9)
        parts = [
            f"fastmirror: {self._projects:,} of {self._planned:,} {self._what}",
            *([f"{self._all_files:,} files"] if self._what == "projects" else []),
            f"{human_bytes(rate)}/s",
            f"{self._failed:,} failed",
        ]
        left_s = self._left_s(now)
        if left_s is not None:
            parts.append(f"about {human_time(left_s)} left")
        return ", ".join(parts)

    def note(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()

    def close(self) -> None:
        pass


class _Bar(Course):
    """tqdm's bar, redrawn only when told something and only every half second: no thread, as workers are forked."""

    def __init__(self, stream: TextIO, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self._stream = stream
        self._bar: tqdm[NoReturn] | None = None
        self._doing = ""
        self._told = 0

    def begin(self, what: str) -> None:
        self._doing = what
        self._draw(self._clock())

    def plan(self, projects: int, what: str = "projects") -> None:
        super().plan(projects, what)
        if projects:
            self._draw(self._clock())

    def fail(self, name: str, status: str, reason: str) -> None:
        self._told += 1
        if self._told <= _FAILURES_TOLD:
            more = " (more in the summary)" if self._told == _FAILURES_TOLD else ""
            self.note(clean(f"{name}: {status}: {reason}{more}"))

    def _show(self, now: float) -> None:
        if self._bar is not None and now - self._seen[-1][0] >= _REDRAW_S:
            self._draw(now)

    def _draw(self, now: float) -> None:
        if self._bar is None:
            self._bar = _open_bar(self._stream)
        columns = self._bar.ncols = _columns(self._stream)
        is_counted = self._planned > 0 and not (self._doing and self._projects >= self._planned)
        self._bar.bar_format = "{percentage:3.0f}%|{bar}| {desc}" if is_counted else "{desc}"
        self._bar.total = max(self._planned, self._projects, 1)
        self._bar.desc = self._text(now, columns) if is_counted else f"{self._doing} …"[: max(columns, 0)]
        if not self._bar.update(self._projects - self._bar.n):
            self._bar.refresh()

    def _text(self, now: float, columns: int) -> str:
        """As much as there is room for; what matters most is left out last."""
        from tqdm import tqdm

        left_s, load = self._left_s(now), self._load
        shown = {
            "projects": f"{_short_count(self._projects)}/{_short_count(self._planned)} {self._what}",
            "files": f"{_short_count(self._all_files)} files" if self._what == "projects" else "",
            "rate": f"{human_bytes(self._rate(now))}/s",
            "open": f"{load.pages}+{load.files} in flight" if load.pages or load.files else "",
            "failed": f"{_short_count(self._failed)} failed" if self._failed else "",
            "left": f"{tqdm.format_interval(left_s)} left" if left_s is not None else "",
        }
        for spared in ("", "open", "files", "rate", "left"):
            shown.pop(spared, None)
            text = ", ".join(filter(None, shown.values()))
            if len(text) + _BAR_COLUMNS <= columns:
                break
        return text

    def note(self, text: str) -> None:
        if self._bar is None:
            self._stream.write(text + "\n")
        else:
            self._bar.write(text, file=self._stream)
        self._stream.flush()

    def close(self) -> None:
        if self._bar is not None:
            self._doing = ""
            if self._planned:
                self._draw(self._clock())
            else:
                self._bar.leave = False
            self._bar.close()
            self._bar = None


def _open_bar(stream: TextIO) -> tqdm[NoReturn]:
    import threading

    from tqdm import tqdm

    # Before the first bar: no monitor thread, and no lock shared between processes, which Python would keep
    # a helper process for. Workers are forked while the bar stands, and do not draw.
    tqdm.monitor_interval = 0
    tqdm.set_lock(threading.RLock())
    # The first drawing is ours; and there is one line for it, also where the terminal does not say how high it is.
    return tqdm(total=1, file=stream, delay=1e-9, mininterval=0, miniters=1, nrows=2, bar_format="{desc}")


def _short_count(count: int) -> str:
    """A count in at most six characters: 99,999, then 123k, 1.23M."""
    if count < 99_999.5:
        return f"{count:,}"
    return f"{count / 1000:.0f}k" if count < 999_500 else f"{three_digits(count / 1_000_000)}M"


def _columns(stream: TextIO) -> int:
    """The width to draw in: one column is left free, where some terminals would begin a new line."""
    try:
        columns = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        columns = 0
    return min(columns or _UNKNOWN_COLUMNS, _MAX_COLUMNS) - 1


class _Events(Course):
    """A dictionary for everything that is told, and one a second for how far it has come."""

    def __init__(self, emit: Callable[[dict[str, Any]], None], stream: TextIO, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self._emit = emit
        self._stream = stream
        self._emitted = self._started

    def begin(self, what: str) -> None:
        self._emit({"event": "begin", "what": what})

    def plan(self, projects: int, what: str = "projects") -> None:
        super().plan(projects, what)
        self._emit({"event": "plan", what: projects})

    def fail(self, name: str, status: str, reason: str) -> None:
        self._emit({"event": status, "project": name, "reason": clean(reason)})

    def _show(self, now: float) -> None:
        if now - self._emitted >= _EVENT_S:
            self._emitted = now
            self._tell(now)

    def _tell(self, now: float) -> None:
        left_s = self._left_s(now)
        self._emit(
            {
                "event": "progress",
                "projects": self._projects,
                "planned": self._planned,
                "files": self._all_files,
                "bytes": self._all_bytes,
                "failed": self._failed,
                "bytes_per_second": round(self._rate(now)),
                "pages_in_flight": self._load.pages,
                "files_in_flight": self._load.files,
                "seconds_left": None if left_s is None else round(left_s, 1),
            }
        )

    def note(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()

    def close(self) -> None:
        if self._planned:
            self._tell(self._clock())
            self._planned = 0
