"""Runs again and again at an interval, in some hours of the day: ``mirror --every 5m --hours 22-6``."""

from __future__ import annotations

import logging
import random
import re
import select
import signal
import time
from typing import TYPE_CHECKING

from fastmirror import ini
from fastmirror.bell import Bell
from fastmirror.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastmirror.supervisor import Supervisor

_LOG = logging.getLogger(__name__)
_ENDING = frozenset({signal.SIGINT, signal.SIGTERM})
_HOURS = re.compile(r"([0-9]|1[0-9]|2[0-3])(?:-([0-9]|1[0-9]|2[0-3]))?")
_LOOK_S = 30.0  # how often the hour is looked at
_JITTER = 0.05  # of the interval: mirrors that were started together do not ask together
_SETTINGS, _BUG, _SIGNALLED = 2, 70, 128


def parse_duration(option: str, text: str) -> float:
    """Seconds, more than 0, from 300, 90s, 5m, 1h or 1d."""
    entry = _entry(option, text)
    seconds = ini.duration(entry)
    if not seconds:
        raise entry.refused("more than 0")
    return seconds


def parse_size(option: str, text: str) -> int:
    """Bytes, from 500k, 10M or 1G."""
    return ini.size(_entry(option, text))


def _entry(option: str, text: str) -> ini.Entry:
    """What an option is given, as if it stood in a file."""
    return ini.Entry(option, "", "", (ini.Line(0, text),))


def parse_hours(text: str) -> frozenset[int]:
    """Hours of the day, from ``7`` or ``22-6``: both ends belong to it, and midnight may lie between them."""
    match = _HOURS.fullmatch(text)
    if match is None:
        raise SettingsError(f"--hours: {text!r}: expected an hour or two, from 0 to 23: 7 or 22-6")
    first, last = int(match[1]), int(match[2] or match[1])
    return frozenset((first + hour) % 24 for hour in range((last - first) % 24 + 1))


class _Signals:
    """SIGINT and SIGTERM between rounds: noted, and waited for, whichever thread they reach."""

    def __init__(self) -> None:
        self.came = False
        self._bell = Bell()

    def __enter__(self) -> _Signals:
        self._kept = {number: signal.signal(number, self._note) for number in _ENDING}
        self._wakeup = signal.set_wakeup_fd(self._bell.ringing_fileno(), warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._kept.items():
            signal.signal(number, handler)
        self._bell.close()

    def _note(self, _number: int, _frame: object) -> None:
        self.came = True

    def wait(self, seconds: float, supervisor: Supervisor, said: str) -> bool:
        """Wait so long, or until a signal comes; whether one came. The supervisor hears `said` meanwhile."""
        deadline = time.monotonic() + seconds
        while not self.came and (left := deadline - time.monotonic()) > 0:
            supervisor.work(said)
            select.select([self._bell], [], [], min(left, supervisor.period_s))
            self._bell.silence()
        return self.came


def run_every(
    interval_s: float, hours: frozenset[int] | None, one_round: Callable[[], int], supervisor: Supervisor
) -> int:
    """Do a round, and another one when the interval since its start is over, until a signal comes.

    Returns the exit status: 0 if the signal came between two rounds, the round's own if it came within one,
    and that of the first round if it is 2 or 70: what cannot work at all is not tried again. Every other
    status is logged, and the next round may fare better.
    """
    is_first, said = True, "waiting for the hours to run in"
    supervisor.tell("READY=1")
    with _Signals() as signals:
        while True:
            begun = time.monotonic()
            if hours is None or time.localtime().tm_hour in hours:
                status = one_round()
                if status > _SIGNALLED or (is_first and status in (_SETTINGS, _BUG)):
                    return status
                is_first = False
                _LOG.log(logging.WARNING if status else logging.INFO, "a round ended with exit status %d", status)
                pause = interval_s * (1 + random.uniform(0, _JITTER))  # noqa: S311 - spreads load, hides nothing
                said = f"the last run ended with exit status {status}"
            else:
                pause = _LOOK_S
            if signals.wait(begun + pause - time.monotonic(), supervisor, said):
                supervisor.tell("STOPPING=1")
                return 0
