"""Progress is calm, fits the terminal, and keeps no thread and no process."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from typing import TYPE_CHECKING

import pytest

from fastmirror.display import open_events, open_progress
from fastmirror.model import Load
from fastmirror.progress import human_bytes, human_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastmirror.progress import Progress


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def drain(descriptor: int, into: bytearray) -> None:
    while True:
        try:
            data = os.read(descriptor, 65536)
        except OSError as error:
            assert error.errno == errno.EIO, "the other end of a pty is closed"  # noqa: PT017
            return
        if not data:
            return
        into += data


def on_a_terminal(columns: int, act: Callable[[Progress, Clock], None]) -> str:
    """All that a terminal of this width is sent while `act` uses the progress."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    shown, clock = bytearray(), Clock()
    reader = threading.Thread(target=drain, args=(ours, shown))
    reader.start()
    with os.fdopen(theirs, "w", encoding="utf-8") as stream:
        act(open_progress(stream, clock=clock), clock)
    reader.join()
    os.close(ours)
    return shown.decode().replace("\r\n", "\n")


def whole_of_pypi(progress: Progress, clock: Clock) -> None:
    progress.plan(886_000)
    for _ in range(120):
        clock.now += 10
        progress.advance(7_000, 123_456, 4_567_890_123, 321)
    progress.close()


@pytest.mark.parametrize("columns", [0, 20, 40, 80, 132, 400])
def test_the_bar_stays_within_the_terminals_width(columns: int) -> None:
    shown = on_a_terminal(columns, whole_of_pypi)
    assert max(len(line) for line in re.split(r"[\r\n]", shown)) < min(columns or 80, 120)


def test_the_bar_tells_projects_files_rate_failures_and_time_left() -> None:
    shown = on_a_terminal(80, whole_of_pypi)
    assert re.search(r" 50%\|\S* *\| 441k/886k projects, 7\.78M files, 457 MB/s, 20,223 failed, 10:35 left", shown)


def test_a_narrow_terminal_is_told_what_matters_most() -> None:
    shown = on_a_terminal(44, whole_of_pypi)
    assert re.search(r" 50%\|\S* *\| 441k/886k projects, 20,223 failed", shown)
    assert "files, " not in shown.rpartition(" 50%")[2]


def test_the_bar_tells_what_is_in_flight_where_there_is_room() -> None:
    def act(progress: Progress, clock: Clock) -> None:
        progress.plan(10)
        clock.now += 1
        progress.load(Load(pages=12, files=48, read=5, wanted_bytes=10_000_000, done_files=7, done_bytes=2_000_000))
        progress.close()

    assert "0/10 projects, 7 files, 2.00 MB/s, 12+48 in flight" in on_a_terminal(120, act)
    assert "in flight" not in on_a_terminal(50, act)


def test_what_is_done_before_the_plan_is_told_and_leaves_nothing_behind() -> None:
    def act(progress: Progress, _: Clock) -> None:
        progress.begin("asking upstream what there is")
        progress.close()

    shown = on_a_terminal(80, act)
    assert "asking upstream what there is …" in shown
    assert shown.rstrip(" ").endswith("\r")
    assert "\n" not in shown


def test_failures_are_told_as_they_come_and_not_without_end() -> None:
    def act(progress: Progress, _: Clock) -> None:
        progress.plan(100)
        for i in range(50):
            progress.fail(f"p{i}", "failed", "HTTP status 500\x1b[2J")
        progress.close()

    shown = on_a_terminal(100, act)
    assert "p0: failed: HTTP status 500" in shown
    assert "\x1b[2J" not in shown
    assert "p9: failed" in shown
    assert "p10: failed" not in shown
    assert lines_of(act) == []


def test_the_time_left_follows_the_bytes_that_are_planned() -> None:
    def left(load: Load) -> str:
        def act(progress: Progress, clock: Clock) -> None:
            progress.plan(100)
            progress.load(load)
            clock.now += 30
            progress.advance(50, 0, 0, 0)

        return lines_of(act)[0].rpartition(", ")[2]

    assert left(Load()) == "about 30 s left"  # as many projects again
    # 1 MB in 30 s; 9 MB of those read are missing, and as many again of those that are not.
    assert left(Load(read=50, wanted_bytes=10_000_000, done_files=1, done_bytes=1_000_000)) == "about 9 min 30 s left"
    assert left(Load(read=100, wanted_bytes=10_000_000, done_files=1, done_bytes=1_000_000)) == "about 4 min 30 s left"


def test_failures_are_not_mentioned_while_there_are_none() -> None:
    def act(progress: Progress, clock: Clock) -> None:
        progress.plan(10)
        clock.now += 1
        progress.advance(3, 4, 5_000, 0)
        progress.close()

    shown = on_a_terminal(80, act)
    assert "3/10 projects, 4 files, 5.00 kB/s" in shown
    assert "failed" not in shown


def test_the_bar_is_drawn_at_most_twice_a_second() -> None:
    def act(progress: Progress, clock: Clock) -> None:
        progress.plan(10_000)
        for _ in range(10_000):
            clock.now += 0.001
            progress.advance(1, 1, 1, 0)
        progress.close()

    assert 18 <= on_a_terminal(80, act).count("\r") <= 25


def test_the_plan_may_grow_and_may_be_outrun() -> None:
    def act(progress: Progress, clock: Clock) -> None:
        progress.plan(2)
        progress.plan(4)
        clock.now += 1
        progress.advance(2, 0, 0, 0)
        clock.now += 1
        progress.advance(7, 0, 0, 0)
        progress.close()

    shown = on_a_terminal(80, act)
    assert " 50%" in shown
    assert "9/4 projects" in shown


def test_a_note_stands_above_the_bar_on_a_line_of_its_own() -> None:
    def act(progress: Progress, clock: Clock) -> None:
        progress.note("before")
        progress.plan(10)
        progress.note("during")
        clock.now += 1
        progress.advance(10, 0, 0, 0)
        progress.close()
        progress.close()
        progress.note("after")

    shown = on_a_terminal(80, act)
    lines = [line.rpartition("\r")[2] for line in shown.split("\n")]
    assert lines[0] == "before"
    assert "during" in lines
    assert lines[-2:] == ["after", ""]
    assert sum("100%" in line for line in lines) == 1


def test_nothing_to_do_draws_no_bar() -> None:
    def act(progress: Progress, _: Clock) -> None:
        progress.plan(0)
        progress.close()

    assert on_a_terminal(80, act) == ""


ALONE = """
import os, sys, threading
import multiprocessing as mp
mp.set_start_method("spawn")  # under which a lock between processes would need a helper process
from fastmirror.display import open_events, open_progress
progress = open_progress(sys.stderr)
progress.plan(10)
progress.advance(1, 1, 1, 0)
progress.note("note")
assert threading.active_count() == 1, threading.enumerate()
children = open(f"/proc/self/task/{os.getpid()}/children").read()
assert not children, children
print(os.fork() or "child", flush=True)
progress.close()
"""


def test_a_bar_starts_no_thread_and_no_process() -> None:
    ours, theirs = pty.openpty()
    shown = bytearray()
    reader = threading.Thread(target=drain, args=(ours, shown))
    reader.start()
    command = [sys.executable, "-W", "error", "-c", ALONE]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, text=True, timeout=60, check=False)
    finally:
        os.close(theirs)
        reader.join()
        os.close(ours)
    assert done.returncode == 0, shown.decode()
    assert "child" in done.stdout


def lines_of(act: Callable[[Progress, Clock], None]) -> list[str]:
    stream, clock = io.StringIO(), Clock()
    act(open_progress(stream, interval_s=30, clock=clock), clock)
    return stream.getvalue().splitlines()


def test_off_a_terminal_there_is_a_plain_line_every_interval() -> None:
    def act(progress: Progress, clock: Clock) -> None:
        progress.plan(1_200)
        for _ in range(100):
            clock.now += 1
            progress.advance(10, 20, 2_000_000, 0)
        progress.advance(0, 0, 0, 2)
        progress.close()

    assert lines_of(act) == [
        "fastmirror: 300 of 1,200 projects, 600 files, 2.00 MB/s, 0 failed, about 1 min 30 s left",
        "fastmirror: 600 of 1,200 projects, 1,200 files, 2.00 MB/s, 0 failed, about 1 min left",
        "fastmirror: 900 of 1,200 projects, 1,800 files, 2.00 MB/s, 0 failed, about 30 s left",
    ]


def test_a_short_run_off_a_terminal_is_silent_but_for_notes() -> None:
    def act(progress: Progress, clock: Clock) -> None:
        progress.plan(5)
        clock.now += 29
        progress.advance(5, 5, 5, 5)
        progress.note("a note")
        progress.close()

    assert lines_of(act) == ["a note"]


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (999.9, "1.00 kB"),
        (1_234, "1.23 kB"),
        (99_949, "99.9 kB"),
        (99_951, "100 kB"),
        (999_499, "999 kB"),
        (999_500, "1.00 MB"),
        (12_345_678_901, "12.3 GB"),
        (28e12, "28.0 TB"),
        (4.2e15, "4.2 PB"),
    ],
)
def test_sizes_are_told_in_three_digits(size: float, text: str) -> None:
    assert human_bytes(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (0.44, "0.4 s"),
        (9.97, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (200, "3 min 20 s"),
        (3_600, "1 h"),
        (7_530, "2 h 5 min"),
        (86_400, "1 d 0 h"),
        (273_600, "3 d 4 h"),
    ],
)
def test_durations_are_told_in_two_units(seconds: float, text: str) -> None:
    assert human_time(seconds) == text


def events_of(act: Callable[[Progress, Clock], None]) -> tuple[list[dict[str, object]], str]:
    events: list[dict[str, object]] = []
    stream, clock = io.StringIO(), Clock()
    act(open_events(events.append, stream, clock=clock), clock)
    return events, stream.getvalue()


def test_a_script_is_told_each_step_each_failure_and_once_a_second_how_far_it_is() -> None:
    def act(progress: Progress, clock: Clock) -> None:
        progress.begin("planning")
        progress.plan(10)
        for _ in range(20):
            clock.now += 0.25
            progress.load(Load(pages=2, files=3, read=4, wanted_bytes=4_000, done_files=2, done_bytes=1_000))
        progress.fail("six", "partial", "six-1.0.tar.gz: HTTP status 404")
        progress.note("fastmirror: warning: text")
        progress.advance(10, 2, 1_000, 1)
        progress.close()
        progress.close()

    events, noted = events_of(act)
    assert [event["event"] for event in events] == ["begin", "plan", *["progress"] * 5, "partial", "progress"]
    assert events[2] == {
        "event": "progress", "projects": 0, "planned": 10, "files": 2, "bytes": 1_000, "failed": 0,
        "bytes_per_second": 1_000, "pages_in_flight": 2, "files_in_flight": 3, "seconds_left": None,
    }  # fmt: skip
    assert events[-2] == {"event": "partial", "project": "six", "reason": "six-1.0.tar.gz: HTTP status 404"}
    assert (events[-1]["projects"], events[-1]["failed"], events[-1]["seconds_left"]) == (10, 1, None)
    assert noted == "fastmirror: warning: text\n"
