"""What the runs that are remembered come to over time. The history may be damaged: what is no number counts as none."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_DAY_S = 86_400
_DAYS = 30
_POINTS = 120
_RATES = 40


class Trend(NamedTuple):
    """One figure over time, the oldest first: (epoch seconds, value)."""

    points: tuple[tuple[float, float], ...]

    @property
    def most(self) -> float:
        """The greatest value; 0 if there is none."""
        return max((value for _, value in self.points), default=0.0)


class Trends(NamedTuple):
    """How a mirror has changed."""

    size: Trend  # bytes held after each run, thinned out
    fetched: Trend  # bytes fetched on each of the last 30 days, UTC; up to the first that is remembered
    rate: Trend  # bytes per second of the last runs that fetched something
    growth: float | None  # bytes a day, from the first of `size` to the last; None if that is less than a day


def trends(runs: Sequence[Mapping[str, Any]], now: float) -> Trends:
    """What these runs, the last one first, say; `now` in epoch seconds."""
    ended = [run for run in reversed(runs) if number(run, "finished")]
    size = [(run["finished"], number(run, "stored_bytes")) for run in ended if "stored_bytes" in run]
    busy = [run for run in ended if number(run, "bytes") and number(run, "seconds")]
    rate = [(run["finished"], number(run, "bytes") / number(run, "seconds")) for run in busy[-_RATES:]]
    return Trends(Trend(_thinned(size)), Trend(_by_day(ended, now)), Trend(tuple(rate)), _growth(size))


def number(run: Mapping[str, Any], key: str) -> float:
    """One of a run's figures; 0 where it has none, or something else."""
    value = run.get(key)
    return value if isinstance(value, int | float) and 0 < value < 1e18 and isfinite(value) else 0


def _thinned(points: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """At most so many, evenly, the last one among them."""
    step = -(-len(points) // _POINTS) or 1
    return tuple(reversed(points[::-1][::step]))


def _by_day(runs: Sequence[Mapping[str, Any]], now: float) -> tuple[tuple[float, float], ...]:
    """What was fetched on each day, also by runs that are no longer remembered: sums so far tell."""
    today = int(now // _DAY_S)
    by_day: dict[int, float] = {}
    before: float | None = None
    for run in runs:
        if "fetched_so_far" not in run:
            continue
        day, so_far = int(run["finished"] // _DAY_S), number(run, "fetched_so_far")
        meanwhile = number(run, "bytes") if before is None or so_far < before else so_far - before
        by_day[day] = by_day.get(day, 0.0) + meanwhile
        before = so_far
    first = max(min(by_day, default=today), today - _DAYS + 1)
    return tuple((float(day * _DAY_S), by_day.get(day, 0.0)) for day in range(first, today + 1))


def _growth(size: Sequence[tuple[float, float]]) -> float | None:
    if not size or size[-1][0] - size[0][0] < _DAY_S:
        return None
    return (size[-1][1] - size[0][1]) / (size[-1][0] - size[0][0]) * _DAY_S
