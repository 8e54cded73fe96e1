"""mirror --every: intervals, hours, and how a loop of runs ends."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from fastmirror.errors import SettingsError
from fastmirror.interval import parse_duration, parse_hours, run_every
from fastmirror.supervisor import Supervisor


@pytest.mark.parametrize(("text", "hours"), [("7", {7}), ("0-2", {0, 1, 2}), ("22-1", {22, 23, 0, 1}), ("5-5", {5})])
def test_hours_hold_both_ends_and_may_pass_midnight(text, hours):
    assert parse_hours(text) == hours


@pytest.mark.parametrize("text", ["24", "-1", "1-24", "a", "", "1-2-3", "07"])
def test_hours_that_are_none_are_refused(text):
    with pytest.raises(SettingsError, match=r"--hours: .*: expected an hour or two, from 0 to 23"):
        parse_hours(text)


def test_an_interval_has_a_unit_or_is_in_seconds():
    assert (parse_duration("--every", "90"), parse_duration("--every", "5m"), parse_duration("--every", "1h")) == (
        90,
        300,
        3600,
    )
    for text in ("often", "0", "0s", ""):
        with pytest.raises(SettingsError, match=f"--every: '{text}': expected"):
            parse_duration("--every", text)


@pytest.mark.parametrize("status", [2, 70])
def test_what_cannot_work_at_all_is_not_tried_again(status):
    assert run_every(3600, None, lambda: status, Supervisor()) == status


@pytest.mark.parametrize("status", [130, 143])
def test_a_signal_within_a_round_ends_the_loop_with_its_status(status):
    assert run_every(3600, None, lambda: status, Supervisor()) == status


def test_after_a_failed_round_comes_another_one():
    statuses = [5, 2, 3, 1, 143]
    assert run_every(0.001, None, lambda: statuses.pop(0), Supervisor()) == 143
    assert statuses == []


def test_a_signal_between_two_rounds_ends_the_loop_in_order():
    def one_round() -> int:
        signal.raise_signal(signal.SIGTERM)
        return 0

    assert run_every(3600, None, one_round, Supervisor()) == 0


def test_a_signal_that_another_thread_gets_ends_the_wait():
    others = []

    def one_round() -> int:
        thread = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM))
        others.append(thread)
        thread.start()
        return 0

    assert run_every(3600, None, one_round, Supervisor()) == 0
    others[0].join()


def test_outside_its_hours_nothing_is_done():
    def one_round() -> int:
        raise AssertionError

    thread = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM))
    thread.start()
    assert run_every(3600, frozenset(), one_round, Supervisor()) == 0
    thread.join()
