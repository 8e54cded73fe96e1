"""The runs that there were: each one's beginning, end and figures, as many as are worth keeping.

The last 500 are kept each, of those before the last of each day, and 1,000 in all: with a run every five
minutes that is a year and more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from fastmirror.errors import StateDamaged
from fastmirror.planner import RETRY_LONGEST_S
from fastmirror.schema import SET_RIGHT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastmirror.state import State

RECENT_RUNS = 500
RUNS_KEPT = 1000
# Of the run that is recent no longer and the one before it, only the later is kept if both are of one day.
_THIN = """
delete from run where id = (select max(id) from run where id < :number - :recent)
    and cast(started / 86400 as integer) =
        (select cast(started / 86400 as integer) from run where id = :number - :recent)
"""
_CUT = "delete from run where id <= (select id from run order by id desc limit 1 offset :kept)"
_KINDS = {"error": str, "slowest": list, "gaps": list}
_NUMBERS = {int, float, type(None)}  # every other value of a summary
_LATEST = 2.5e11  # epoch seconds: no calendar goes further
_RUNS = "select started, finished, exit_status, summary from run order by id desc limit ?"


class Past(NamedTuple):
    """What is remembered of the runs, the last one first."""

    runs: list[dict[str, Any]]  # started, finished (epoch seconds or None), exit_status, and the summary's keys
    damaged: bool  # some are left out, or stand without their figures


def begin_run(state: State, now: float) -> int:
    """Note that a run began, and return its number; what is dated later is set right."""
    with state.transaction():
        for statement in SET_RIGHT:
            state.change(statement, [{"now": now, "longest_s": RETRY_LONGEST_S}])
        state.change("insert into run (started) values (?)", [(now,)])
        [(number,)] = state.select("select max(id) from run")
        state.change(_THIN, [{"number": number, "recent": RECENT_RUNS}])
        state.change(_CUT, [{"kept": RUNS_KEPT}])
        return int(number)


def end_run(state: State, number: int, now: float, exit_status: int, summary: Mapping[str, Any]) -> None:
    """Note how a run ended."""
    row = (now, exit_status, orjson.dumps(summary).decode(), number)
    with state.transaction():
        state.change("update run set finished = ?, exit_status = ?, summary = ? where id = ?", [row])


def past_runs(state: State, most: int = RUNS_KEPT) -> Past:
    """The last runs, at most so many. What cannot be read of them is left out."""
    runs: list[dict[str, Any]] = []
    damaged = False
    try:
        rows = state.select(_RUNS, (most,))
    except StateDamaged:
        return Past([], damaged=True)
    for started, finished, exit_status, summary in rows:
        figures = {} if summary is None else _figures(summary)
        damaged = damaged or figures is None
        if _is_moment(started) and (finished is None or _is_moment(finished)) and isinstance(exit_status, int | None):
            runs.append({**(figures or {}), "started": started, "finished": finished, "exit_status": exit_status})
        else:
            damaged = True
    return Past(runs, damaged)


def _is_moment(value: object) -> bool:
    return isinstance(value, float) and 0 <= value < _LATEST


def _figures(summary: object) -> dict[str, Any] | None:
    """What a summary says, each value of the kind that it was written with; None if it is damaged."""
    try:
        read = orjson.loads(summary if isinstance(summary, str | bytes) else b"")
    except orjson.JSONDecodeError:
        return None
    if not isinstance(read, dict):
        return None
    is_whole = {type(value) for key, value in read.items() if key not in _KINDS} <= _NUMBERS and all(
        isinstance(read.get(key, kind()), kind) for key, kind in _KINDS.items()
    )
    return read if is_whole else None
