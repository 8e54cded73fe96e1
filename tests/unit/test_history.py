"""What is remembered of the runs, and for how long."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fastmirror.history import RECENT_RUNS, RUNS_KEPT, Past, begin_run, end_run, past_runs
from fastmirror.state import State

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW = 1_700_000_000.0
DAY_S = 86_400.0


@pytest.fixture
def state() -> Iterator[State]:
    state = State(":memory:")
    yield state
    state.close()


def add(state: State, times: list[float]) -> None:
    """Runs that began then, the last of them within begin_run."""
    with state.transaction():
        state.change("insert into run (started, finished) values (?, ?)", [(time, time + 1) for time in times[:-1]])
    begin_run(state, times[-1])


def test_a_run_is_told_with_its_figures_the_last_one_first(state):
    first = begin_run(state, NOW)
    end_run(state, first, NOW + 5, 1, {"failed": 3})
    assert begin_run(state, NOW + 60) > first
    assert past_runs(state).runs == [
        {"started": NOW + 60, "finished": None, "exit_status": None},
        {"started": NOW, "finished": NOW + 5, "exit_status": 1, "failed": 3},
    ]


def test_there_are_never_more_runs_than_are_kept_and_their_numbers_go_on(state):
    add(state, [NOW + number * DAY_S for number in range(RUNS_KEPT + 20)])
    assert state.select("select count(*), max(id) from run") == [(RUNS_KEPT, RUNS_KEPT + 20)]


def test_of_a_day_that_is_no_longer_recent_the_last_run_is_kept(state):
    hours = [NOW + number * 3600 for number in range(240)]
    for time in [*hours, *[hours[-1] + 60] * RECENT_RUNS]:
        begin_run(state, time)
    old = [run["started"] for run in reversed(past_runs(state).runs) if run["started"] <= hours[-1]]
    assert old == [
        max(hour for hour in hours if hour // DAY_S == day) for day in sorted({hour // DAY_S for hour in hours})
    ]


@pytest.mark.parametrize("summary", ["{", "[]", "7", "", b"\xff", 5, '{"failed": ', '{"failed": "3"}', '{"error": 3}'])
def test_a_run_whose_figures_are_damaged_is_told_without_them(state, summary):
    run = begin_run(state, NOW)
    end_run(state, run, NOW + 5, 0, {"failed": 3})
    begin_run(state, NOW + 60)
    state.change("update run set summary = ? where id = ?", [(summary, run)])
    assert past_runs(state) == Past(
        [
            {"started": NOW + 60, "finished": None, "exit_status": None},
            {"started": NOW, "finished": NOW + 5, "exit_status": 0},
        ],
        damaged=True,
    )


@pytest.mark.parametrize(
    ("column", "value"),
    [("started", "soon"), ("finished", "soon"), ("exit_status", "soon"), ("started", 1e300), ("finished", -1)],
)
def test_a_run_of_which_nobody_can_tell_when_it_was_or_how_it_ended_is_left_out(state, column, value):
    run = begin_run(state, NOW)
    end_run(state, run, NOW + 5, 0, {})
    state.change(f"update run set {column} = ? where id = ?", [(value, run)])
    assert past_runs(state) == Past([], damaged=True)
