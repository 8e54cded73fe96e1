"""A mirror's state is found in the bucket by whichever machine comes next."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from fastmirror.holding import Hold, Leased, hold_mirror
from fastmirror.objects import Bucket
from fastmirror.settings_file import parse_settings
from fastmirror.state import State
from fastmirror.tree import state_path
from tests.fakes.flaky import Fault, Flaky
from tests.object_store import rclone_server
from tests.processes import until, workers_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fastmirror.settings import StorageSettings
    from tests.object_store import ObjectStore


class Machine:
    """One of several with the same bucket, and a directory of its own."""

    def __init__(self, store: ObjectStore, home: Path, prefix: str, *, lease: bool = True) -> None:
        settings = parse_settings(None, overrides={"directory": str(home)}).storage
        self.settings: StorageSettings = replace(settings, s3=store.settings(prefix=prefix, lease=lease))
        self.path = state_path(str(home))

    def run(self, fact: str | None = None, *, clean: bool = True) -> dict[str, str | None]:
        """One run, which may change something; what it found of earlier ones."""
        with hold_mirror(self.settings) as hold:
            return self._work(hold, fact, clean=clean)

    def is_cut_off(self, fact: str, *, keeps: bool = False) -> None:
        """A run that records something, and then ends as a killed one does: if it `keeps`, at its very end."""
        with _cut_off(self.settings) as hold:
            self._work(hold, fact, clean=keeps, keeps=keeps)

    def _work(self, hold: Hold, fact: str | None, *, clean: bool, keeps: bool = True) -> dict[str, str | None]:
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        state = State(self.path)
        try:
            found = {"fact": state.get("fact"), "clean": state.get("clean")}
            if fact is not None:
                with state.transaction():
                    state.put({"fact": fact, "clean": "1" if clean else "0"})
            if keeps:
                hold.keep(state, has_changed=fact is not None)
            return found
        finally:
            state.close()


@contextmanager
def _cut_off(settings: StorageSettings) -> Iterator[Hold]:
    assert settings.s3 is not None
    os.makedirs(settings.directory, exist_ok=True)
    descriptor = os.open(os.path.join(settings.directory, ".lock"), os.O_RDWR | os.O_CREAT)
    hold = Leased(descriptor, settings.s3, settings.directory)
    hold.begin()
    yield hold
    hold.close()
    os.close(descriptor)


@pytest.fixture
def machines(moto_store: ObjectStore, tmp_path: Path) -> tuple[Machine, Machine]:
    one, two = (Machine(moto_store, tmp_path / name, tmp_path.name) for name in ("one", "two"))
    return one, two


def test_another_machine_goes_on_where_the_last_one_ended(machines: tuple[Machine, Machine]) -> None:
    one, two = machines
    one.run("first")
    assert two.run("second") == {"fact": "first", "clean": "1"}
    assert one.run() == {"fact": "second", "clean": "1"}


def test_where_nothing_has_changed_no_copy_is_made(
    machines: tuple[Machine, Machine], moto_store: ObjectStore, tmp_path: Path
) -> None:
    one, two = machines
    one.run("first")
    bucket = Bucket(moto_store.settings(prefix=tmp_path.name))
    before = list(bucket.list(".fastmirror/state/"))
    one.run()
    assert len(before) == 1
    assert list(bucket.list(".fastmirror/state/")) == before
    assert two.run() == {"fact": "first", "clean": "1"}


def test_old_copies_go_when_there_are_two_newer_ones(
    machines: tuple[Machine, Machine], moto_store: ObjectStore, tmp_path: Path
) -> None:
    for number in range(4):
        machines[number % 2].run(str(number))
    assert len(list(Bucket(moto_store.settings(prefix=tmp_path.name)).list(".fastmirror/state/"))) == 2


def test_after_a_run_that_was_cut_off_its_own_machine_keeps_its_rows_and_does_not_trust_them(
    machines: tuple[Machine, Machine],
) -> None:
    one, two = machines
    one.run("first")
    one.is_cut_off("second")
    assert one.run() == {"fact": "second", "clean": "0"}
    one.run("third")
    assert two.run() == {"fact": "third", "clean": "1"}


def test_after_a_run_that_was_cut_off_another_machine_does_not_trust_the_copy(
    rclone_store: ObjectStore, tmp_path: Path
) -> None:
    one, two = (Machine(rclone_store, tmp_path / name, tmp_path.name, lease=False) for name in ("one", "two"))
    one.run("first")
    one.is_cut_off("second")
    assert two.run("third") == {"fact": "first", "clean": "0"}
    assert one.run() == {"fact": "third", "clean": "1"}


def test_a_run_that_is_killed_before_the_lease_names_its_copy_is_not_undone_by_the_older_one(
    machines: tuple[Machine, Machine],
) -> None:
    one, two = machines
    one.run("first")
    one.is_cut_off("second", keeps=True)
    assert one.run() == {"fact": "second", "clean": "0"}
    one.run("third")
    assert two.run("fourth") == {"fact": "third", "clean": "1"}
    assert one.run() == {"fact": "fourth", "clean": "1"}


def test_who_loses_the_lease_while_a_copy_is_put_tries_no_further(
    moto_store: ObjectStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Flaky(moto_store.port) as flaky, ThreadPoolExecutor(1) as thread:
        one = Machine(moto_store, tmp_path / "one", tmp_path.name)
        one.settings = replace(
            one.settings, s3=moto_store.settings(prefix=tmp_path.name, endpoint=flaky.url, attempts=7)
        )
        before = set(workers_of(os.getpid()))

        def lose() -> None:
            until(lambda: any("/.fastmirror/state/" in request for request in [*flaky.seen]), "a copy is sent")
            (keeper,) = set(workers_of(os.getpid())) - before
            os.kill(keeper, signal.SIGKILL)

        flaky.faults = [Fault("/.fastmirror/state/", "throttle", times=1000)]
        lost = thread.submit(lose)
        one.run("first")
        lost.result()
    assert "the state is not in the store: the lease of " in caplog.text
    assert "503" not in caplog.text


def test_a_run_that_mends_what_was_cut_off_leaves_a_copy_even_if_it_changed_nothing(
    machines: tuple[Machine, Machine],
) -> None:
    one, two = machines
    one.run("first")
    one.is_cut_off("second")
    state = State(one.path)
    with hold_mirror(one.settings) as hold:
        with state.transaction():
            state.put({"clean": "1"})
        hold.keep(state, has_changed=False)
    state.close()
    assert two.run() == {"fact": "second", "clean": "1"}


def test_a_copy_that_is_gone_is_not_made_up_for(
    machines: tuple[Machine, Machine], moto_store: ObjectStore, tmp_path: Path
) -> None:
    one, two = machines
    two.run("first")
    one.run("second")
    bucket = Bucket(moto_store.settings(prefix=tmp_path.name))
    bucket.delete([found.key for found in bucket.list(".fastmirror/state/")])
    assert two.run() == {"fact": "first", "clean": "0"}


def test_a_copy_that_was_changed_is_not_taken(tmp_path: Path) -> None:
    with rclone_server(tmp_path / "server") as store:
        one, two = (Machine(store, tmp_path / name, "prefix", lease=False) for name in ("one", "two"))
        one.run("first")
        (copy,) = store.home.glob("store/packages/prefix/.fastmirror/state/*")
        copy.write_bytes(copy.read_bytes()[:-1] + b"?")
        assert two.run() == {"fact": None, "clean": None}
