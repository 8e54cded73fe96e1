"""A lease in a bucket keeps two machines apart, on a real server that honours conditions."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest

from fastmirror.errors import MirrorLocked, StorageError
from fastmirror.lease import LEASE_KEY, OWN, Copy, Lease, LeaseLost, conditions_refused
from fastmirror.objects import Bucket
from tests.conftest import ROOT
from tests.fakes.flaky import Fault, Flaky
from tests.processes import until, workers_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fastmirror.settings import S3Settings
    from tests.object_store import ObjectStore

QUICK_S = 1.5
_HOLDER = """
import os, sys
from fastmirror.lease import Lease
from fastmirror.settings import S3Settings
lease = Lease({settings}, os.open(sys.argv[1], os.O_RDWR | os.O_CREAT), {term_s})
lease.take()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def settings(moto_store: ObjectStore, tmp_path: Path) -> S3Settings:
    return moto_store.settings(prefix=tmp_path.name)


@contextmanager
def machine(settings: S3Settings, home: Path, term_s: float = QUICK_S) -> Iterator[Lease]:
    """What one machine has: a directory with its lock, which it holds."""
    home.mkdir(exist_ok=True)
    descriptor = os.open(home / ".lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with closing(Lease(settings, descriptor, term_s)) as lease:
            yield lease
    finally:
        os.close(descriptor)


@contextmanager
def killed_holder(settings: S3Settings, home: Path) -> Iterator[None]:
    """A process takes the lease, and is killed while it holds it."""
    home.mkdir(exist_ok=True)
    shown = repr(settings).replace("verify_concurrency", f"credentials={settings.credentials!r}, verify_concurrency")
    program = _HOLDER.format(settings=shown, term_s=QUICK_S)
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(home / ".lock")],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
        yield


def test_a_second_machine_is_refused_at_once_and_told_who_holds_it(settings: S3Settings, tmp_path: Path) -> None:
    with machine(settings, tmp_path / "one") as one, machine(settings, tmp_path / "two") as two:
        one.take()
        with pytest.raises(MirrorLocked) as caught:
            two.take()
        assert str(caught.value).startswith(
            f"another run holds s3://packages/{tmp_path.name}: process {os.getpid()} on "
        )
        one.check()


def test_what_is_given_back_is_taken_with_what_was_left_in_it(settings: S3Settings, tmp_path: Path) -> None:
    copy = Copy(3, "token", "ab" * 32)
    with machine(settings, tmp_path / "one") as one:
        assert one.take().clean
        one.release(copy, clean=True)
    with machine(settings, tmp_path / "two") as two:
        left = two.take()
        assert (left.holder, left.copy, left.clean) == ("", copy, True)


def test_it_is_renewed_as_long_as_it_is_held(settings: S3Settings, tmp_path: Path) -> None:
    bucket = Bucket(settings)
    with machine(settings, tmp_path / "one") as one, machine(settings, tmp_path / "two") as two:
        one.take()
        until(lambda: json.loads(bucket.get(LEASE_KEY) or b"")["renewal"] >= 4, "renewed four times")
        one.check()
        with pytest.raises(MirrorLocked):
            two.take()
        one.release(Copy(), clean=True)
        assert two.take().clean


def test_another_machine_takes_over_what_a_killed_run_held_when_it_has_expired(
    settings: S3Settings, tmp_path: Path
) -> None:
    with killed_holder(settings, tmp_path / "one"), machine(settings, tmp_path / "two") as two:
        left = []

        def is_taken() -> bool:
            try:
                left.append(two.take())
            except MirrorLocked:
                return False
            return True

        assert not is_taken()
        until(is_taken, "the lease has expired")
        assert not left[0].clean


def test_the_same_directory_need_not_wait_for_a_killed_run_of_its_own(settings: S3Settings, tmp_path: Path) -> None:
    with killed_holder(settings, tmp_path / "one"), machine(settings, tmp_path / "one") as one:
        assert not one.take().clean


def test_a_run_whose_lease_another_has_taken_publishes_nothing_more(settings: S3Settings, tmp_path: Path) -> None:
    with machine(settings, tmp_path / "one") as one:
        one.take()
        Bucket(settings).put(LEASE_KEY, b"{}", headers=OWN)
        until(lambda: _is_lost(one), "the lease is lost")
        with pytest.raises(LeaseLost, match="another has taken it"):
            one.release(Copy(), clean=True)
    with machine(settings, tmp_path / "two") as two:
        assert not two.take().clean


def test_a_run_that_cannot_renew_its_lease_stops_before_others_may_take_it(
    moto_store: ObjectStore, tmp_path: Path
) -> None:
    with Flaky(moto_store.port) as flaky:
        settings = moto_store.settings(prefix=tmp_path.name, endpoint=flaky.url)
        with machine(settings, tmp_path / "one") as one, machine(settings, tmp_path / "two") as two:
            one.take()
            flaky.faults = [Fault(f"PUT /packages/{tmp_path.name}/.fastmirror/lease", "cut", times=1000)]
            until(lambda: _is_lost(one), "the lease is lost")
            flaky.faults = []
            with pytest.raises(MirrorLocked):
                two.take()
            with pytest.raises(LeaseLost, match="could not be renewed in time"):
                one.check()


def test_a_renewal_whose_answer_is_lost_is_no_loss(moto_store: ObjectStore, tmp_path: Path) -> None:
    with Flaky(moto_store.port) as flaky:
        settings = moto_store.settings(prefix=tmp_path.name, endpoint=flaky.url)
        with machine(settings, tmp_path / "one") as one:
            one.take()
            flaky.faults = [Fault("PUT", "lose", times=3)]
            bucket = Bucket(moto_store.settings(prefix=tmp_path.name))
            until(lambda: json.loads(bucket.get(LEASE_KEY) or b"")["renewal"] >= 3, "renewed")
            one.release(Copy(), clean=True)


def test_without_the_process_that_renews_it_it_counts_as_lost(settings: S3Settings, tmp_path: Path) -> None:
    with machine(settings, tmp_path / "one") as one:
        before = set(workers_of(os.getpid()))
        one.take()
        (keeper,) = set(workers_of(os.getpid())) - before
        os.kill(keeper, signal.SIGKILL)
        until(lambda: _is_lost(one), "the lease is lost")


def test_a_store_without_conditions_is_found_out_and_named(rclone_store: ObjectStore, tmp_path: Path) -> None:
    settings = rclone_store.settings(prefix=tmp_path.name)
    with machine(settings, tmp_path / "one") as one, pytest.raises(StorageError, match=r"\[s3\] lease = false"):
        one.take()
    assert [found.key for found in Bucket(settings).list("")] == []


def test_without_a_lease_such_a_store_still_carries_what_the_last_run_left(
    rclone_store: ObjectStore, tmp_path: Path
) -> None:
    settings = rclone_store.settings(prefix=tmp_path.name, lease=False)
    with machine(settings, tmp_path / "one") as one:
        one.take()
        one.check()
        one.release(Copy(1, "token", ""), clean=True)
    with machine(settings, tmp_path / "two") as two:
        assert two.take().copy.token == "token"
    with machine(settings, tmp_path / "three") as three:
        assert not three.take().clean


def test_a_store_with_conditions_passes(moto_store: ObjectStore, tmp_path: Path) -> None:
    bucket = Bucket(moto_store.settings(prefix=tmp_path.name))
    assert conditions_refused(bucket) == ""
    assert list(bucket.list("")) == []


def _is_lost(lease: Lease) -> bool:
    try:
        lease.check()
    except LeaseLost:
        return True
    return False
