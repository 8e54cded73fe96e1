from __future__ import annotations

import select
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fastmirror.channel import Channel
from fastmirror.model import FilesJob, Jobs, Outcome, Report, Share, StagedPage, Want
from fastmirror.names import NormalizedName

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
DEADLINE_S = 30.0
# Below, at and above what one read takes, and more than any socket holds.
SIZES = [0, 1, 100, 65_536, 262_143, 262_144, 262_145, 1_000_000, 20_000_000]

# Sends back what it gets, reading and writing as each becomes possible, until the other end is gone.
ECHO = """
import select, socket, sys
from fastmirror.channel import Channel
channel = Channel(socket.socket(fileno=int(sys.argv[1])))
while channel.is_open:
    select.select([channel], [channel] if channel.wants_to_write else [], [])
    for value in channel.receive():
        channel.send(value)
    channel.flush()
"""


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


@contextmanager
def child(code: str) -> Iterator[tuple[Channel, subprocess.Popen[bytes]]]:
    """A process at the other end of a channel."""
    ours, theirs = socket.socketpair()
    descriptor = theirs.fileno()
    command = [sys.executable, "-W", "error", "-c", code, str(descriptor)]
    with theirs:
        process = subprocess.Popen(command, pass_fds=[descriptor], cwd=ROOT)
    channel = Channel(ours)
    try:
        yield channel, process
    finally:
        channel.close()
        process.wait(timeout=DEADLINE_S)


def gather(channel: Channel, count: int) -> list[Any]:
    """Go on sending and receiving until so many values have arrived and all is sent."""
    values: list[Any] = []
    deadline = time.monotonic() + DEADLINE_S
    while channel.is_open and (len(values) < count or channel.wants_to_write):
        wanted = [channel] if channel.wants_to_write else []
        assert any(select.select([channel], wanted, [], max(0.0, deadline - time.monotonic())))
        values += channel.receive()
        channel.flush()
    return values


def wire(value: object) -> bytes:
    """What a value is between the ends."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        Channel(ours).send(value)
        return theirs.recv(1 << 20)


def test_values_of_many_sizes_pass_in_both_directions_at_once():
    """All are sent before the first is read: neither side may wait for the other."""
    values = [bytes([number]) * size for number, size in enumerate(SIZES)]
    with child(ECHO) as (channel, _):
        for value in values:
            channel.send(value)
        assert channel.wants_to_write
        assert gather(channel, len(values)) == values
        assert not channel.wants_to_write


def test_many_small_values_keep_their_order():
    with child(ECHO) as (channel, _):
        for number in range(20_000):
            channel.send(number)
        assert gather(channel, 20_000) == list(range(20_000))


def test_the_values_of_the_model_arrive_as_they_were():
    want = Want("six.whl", "https://h/six.whl", "p", "l", "sha256", "ab", None, 0.0, None, None, repair=False)
    page = StagedPage(("staged",), ("simple/six/index.html",))
    outcome = Outcome(NormalizedName("six"), "published", files=b"packed", pages=(page,))
    values = [
        Jobs((FilesJob(NormalizedName("six"), 0, (want,)),)),
        Share(12, 48, None, 0.0),
        Report((outcome,), 1.5),
        None,
        ValueError("errors too"),
    ]
    with child(ECHO) as (channel, _):
        for value in values:
            channel.send(value)
        arrived = gather(channel, len(values))
    assert arrived[:-1] == values[:-1]
    assert [type(value) for value in arrived] == [type(value) for value in values]


def test_a_value_arrives_when_its_last_byte_has(ends):
    ours, theirs = ends
    channel = Channel(ours)
    data = wire("value") + wire(["another", "value"])
    values = []
    for position in range(len(data)):
        theirs.send(data[position : position + 1])
        values += [(position, value) for value in channel.receive()]
    assert values == [(len(wire("value")) - 1, "value"), (len(data) - 1, ["another", "value"])]


@pytest.mark.parametrize("cut", [1, 7, 8, 9, 20])
def test_what_arrives_in_two_parts_is_put_together(ends, cut):
    ours, theirs = ends
    channel = Channel(ours)
    data = wire("first") + wire("second")
    theirs.send(data[:cut])
    values = channel.receive()
    theirs.send(data[cut:])
    assert values + channel.receive() == ["first", "second"]


def test_nothing_to_receive_is_no_end(ends):
    channel = Channel(ends[0])
    assert channel.receive() == []
    assert channel.is_open


def test_what_the_socket_does_not_take_is_kept_and_sent_later(ends):
    ours, theirs = ends
    channel, other = Channel(ours), Channel(theirs)
    value = b"x" * 5_000_000
    channel.send(value)
    channel.send("after it")
    assert channel.wants_to_write
    values: list[Any] = []
    while len(values) < 2:
        values += other.receive()
        channel.flush()
    assert values == [value, "after it"]
    assert not channel.wants_to_write


def test_the_end_is_seen_after_the_last_value(ends):
    ours, theirs = ends
    channel, other = Channel(ours), Channel(theirs)
    other.send("last")
    other.close()
    assert channel.receive() == ["last"]
    assert channel.receive() == []
    assert not channel.is_open


def test_half_a_value_before_the_end_is_none(ends):
    ours, theirs = ends
    channel = Channel(ours)
    theirs.send(wire("value") + wire("half of this")[:-1])
    theirs.close()
    values = channel.receive()
    while channel.is_open:
        values += channel.receive()
    assert values == ["value"]


def test_sending_to_an_end_that_is_gone_is_no_error(ends):
    ours, theirs = ends
    channel = Channel(ours)
    channel.send("unread")
    theirs.close()
    channel.send(b"x" * 5_000_000)
    assert not channel.is_open
    assert not channel.wants_to_write
    channel.send("more")
    channel.flush()
    channel.drain()


def test_waiting_returns_what_has_arrived(ends):
    ours, theirs = ends
    channel = Channel(ours)
    other = Channel(theirs)
    other.send(1)
    other.send(2)
    assert channel.wait() == [1, 2]


def test_waiting_goes_on_until_a_value_is_whole():
    code = (
        "import socket, sys\n"
        "end = socket.socket(fileno=int(sys.argv[1]))\n"
        "data = end.recv(1000)\n"
        "for byte in data: end.send(bytes([byte]))\n"
    )
    with child(code) as (channel, _):
        channel.send("a value that comes byte by byte")
        assert channel.wait() == ["a value that comes byte by byte"]


def test_waiting_ends_empty_when_the_other_end_is_gone(ends):
    ours, theirs = ends
    channel = Channel(ours)
    theirs.close()
    assert channel.wait() == []
    assert not channel.is_open


def test_waiting_ends_empty_when_the_other_end_is_gone_with_something_unread(ends):
    """The system then reports a reset and no end."""
    ours, theirs = ends
    channel = Channel(ours)
    channel.send("unread")
    theirs.close()
    assert channel.wait() == []
    assert not channel.is_open


def test_a_process_that_is_killed_ends_its_channel():
    with child("import signal; signal.pause()") as (channel, process):
        process.kill()
        assert channel.wait() == []
        assert not channel.is_open


def test_draining_hands_all_over_before_the_process_ends():
    code = (
        "import os, socket, sys\n"
        "from fastmirror.channel import Channel\n"
        "channel = Channel(socket.socket(fileno=int(sys.argv[1])))\n"
        "channel.wait()\n"
        "channel.send(b'x' * 5_000_000)\n"
        "channel.send('last')\n"
        "channel.drain()\n"
        "os._exit(0)\n"
    )
    with child(code) as (channel, _):
        channel.send("begin")
        assert gather(channel, 2) == [b"x" * 5_000_000, "last"]


def test_a_closed_channel_is_not_open(ends):
    channel = Channel(ends[0])
    channel.close()
    assert not channel.is_open
    assert not channel.wants_to_write
