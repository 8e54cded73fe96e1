"""What the runs come to over time, and how it is drawn."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmirror.charts import bars, ceiling
from fastmirror.trends import Trend, trends

DAY_S = 86_400
NOW = 20_000 * DAY_S + 1000.0


def run(days_ago: float, **figures: float) -> dict[str, float]:
    return {"started": NOW - days_ago * DAY_S - 1, "finished": NOW - days_ago * DAY_S, **figures}


def test_what_was_fetched_on_a_day_is_told_though_not_all_of_its_runs_are_remembered():
    runs = [
        run(0, bytes=5, fetched_so_far=1005),
        run(1, bytes=0, fetched_so_far=1000),  # after runs that fetched 600, and are forgotten
        run(3, bytes=400, fetched_so_far=400),
    ]
    assert [value for _, value in trends(runs, NOW).fetched.points] == [400, 0, 600, 5]


def test_a_state_that_was_lost_begins_the_sum_anew_and_loses_nothing_of_the_chart():
    runs = [run(0, bytes=7, fetched_so_far=7), run(1, bytes=400, fetched_so_far=400)]
    assert [value for _, value in trends(runs, NOW).fetched.points] == [400, 7]


def test_days_before_the_last_thirty_are_not_drawn():
    drawn = trends([run(0, fetched_so_far=9), run(45, fetched_so_far=5)], NOW).fetched.points
    assert (len(drawn), drawn[-1]) == (30, (20_000 * DAY_S, 4))


@pytest.mark.parametrize(
    ("runs", "growth"),
    [
        ([run(0, stored_bytes=30), run(10, stored_bytes=10)], 2),
        ([run(0, stored_bytes=30), run(0.5, stored_bytes=10)], None),
        ([], None),
    ],
)
def test_growth_is_that_of_a_day_and_unknown_before_there_is_one(runs, growth):
    assert trends(runs, NOW).growth == growth


def test_the_rate_is_that_of_the_runs_that_fetched():
    runs = [run(0, bytes=0, seconds=9), run(1, bytes=100, seconds=4), run(2, bytes=100, seconds=0)]
    assert [value for _, value in trends(runs, NOW).rate.points] == [25]


def test_a_long_history_is_thinned_out_and_its_end_kept():
    drawn = trends([run(number, stored_bytes=5000 - number) for number in range(1000)], NOW).size.points
    assert (len(drawn) <= 120, drawn[-1]) == (True, (NOW, 5000))
    assert list(drawn) == sorted(drawn)


@pytest.mark.parametrize("count", [1, 2, 7, 40])
def test_bars_stand_apart_within_the_drawing_the_first_and_the_last_as_far_from_its_ends(count):
    drawn = bars(Trend(tuple((float(number), 5.0) for number in range(count))), "t", "", str, str)
    spans = [(float(x), float(x) + float(width)) for x, width in re.findall(r'x="([\d.]+)" .*?width="([\d.]+)"', drawn)]
    assert len(spans) == count
    assert spans[0][0] == pytest.approx(600 - spans[-1][1], abs=0.2)
    assert spans[0][0] > 0
    assert all(before[1] < after[0] for before, after in pairwise(spans))


@given(st.floats(min_value=0, max_value=1e18))
def test_a_scale_ends_at_a_round_number_not_below_and_not_far_above(most):
    assert most <= ceiling(most) <= max(1.34 * most, 1)


@pytest.mark.parametrize(("most", "top"), [(0, 1), (1, 1), (99, 100), (103, 120), (210, 250), (3.2e12, 4e12)])
def test_a_scale_ends_at_a_round_number(most, top):
    assert ceiling(most) == top
