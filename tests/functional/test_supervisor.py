"""What systemd is told, over a real datagram socket: when it is ready, what it does, and that work goes on."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fastmirror.channel import Channel
from fastmirror.docket import Budget
from fastmirror.model import Report
from fastmirror.pool import Pool, _Worker
from fastmirror.supervisor import Supervisor
from tests.fakes import faults
from tests.fakes.wire import Gate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Mirror
    from tests.fakes.index import FakeIndex


class Manager:
    """A service manager's end of the socket."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(30)
        self._socket.bind(address.replace("@", "\0", 1) if address.startswith("@") else address)

    def __enter__(self) -> Manager:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def hear(self, part: str) -> str:
        """The next message that has this in it."""
        while part not in (message := self._socket.recv(4096).decode()):
            pass
        return message


@pytest.fixture
def manager(mirror: Mirror) -> Iterator[Manager]:
    with tempfile.TemporaryDirectory() as home:  # short: a socket's path has 108 bytes at the most
        address = str(Path(home) / "notify")
        mirror.environment |= {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "2000000"}
        with Manager(address) as manager:
            yield manager


def test_a_mirror_that_stays_says_that_it_is_ready_how_its_runs_ended_and_that_it_stops(
    mirror: Mirror, index: FakeIndex, manager: Manager
):
    index.add_file("six", "six-1.0.tar.gz")
    process = mirror.start("--every", "1h")
    assert manager.hear("READY") == "READY=1"
    told, *again = [manager.hear("the last run ended with exit status 0") for _ in range(3)]
    assert told == "STATUS=the last run ended with exit status 0"
    assert set(again) == {f"{told}\nWATCHDOG=1"}  # while it waits for the next
    process.send_signal(signal.SIGTERM)
    manager.hear("STOPPING=1")
    assert process.wait(30) == 0


def test_while_a_transfer_waits_the_watchdog_hears_that_its_worker_is_at_work(
    mirror: Mirror, index: FakeIndex, manager: Manager
):
    index.add_file("six", "six-1.0.tar.gz")
    gate = Gate()
    index.fault("/simple/six/", faults.hold(gate))
    process = mirror.start(set={"timeout": "30"})
    manager.hear("READY=1")
    gate.wait()
    assert manager.hear("0 of 1 projects").endswith("WATCHDOG=1")
    gate.open()
    manager.hear("the last run ended with exit status 0")
    assert process.wait(30) == 0


def test_a_worker_that_has_said_nothing_since_is_not_at_work():
    ours, theirs = socket.socketpair()
    pool, worker = Pool(Budget(1, 1, None), 1, 0), Channel(theirs)
    seen = _Worker(multiprocessing.Process(), Channel(ours))
    assert not pool.was_heard()
    worker.send(Report((), None))
    worker.flush()
    pool._receive(seen)
    assert [pool.was_heard(), pool.was_heard()] == [True, False]
    for end in (worker, seen.channel):
        end.close()
    pool.close()


def test_an_address_of_the_abstract_kind_is_reached():
    address = f"@fastmirror-{os.getpid()}"
    with Manager(address) as manager:
        Supervisor(address).tell("READY=1")
        assert manager.hear("READY") == "READY=1"


def test_without_a_manager_and_with_one_that_is_gone_nothing_is_said_and_nothing_fails(tmp_path):
    assert not Supervisor.of({}).is_due()
    Supervisor.of({}).work("on")
    Supervisor(str(tmp_path / "gone")).work("on")


@pytest.mark.parametrize(
    ("environment", "period_s"),
    [
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "4000000"}, 1.0),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "4000000", "WATCHDOG_PID": "1"}, 5.0),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "soon"}, 5.0),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "600000000"}, 5.0),
    ],
)
def test_the_watchdog_hears_four_times_in_its_time_if_it_watches_this_process(environment, period_s):
    assert Supervisor.of(environment).period_s == period_s
