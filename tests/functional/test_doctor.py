"""The doctor says what is well, and what keeps a mirror from working."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT
from tests.fakes import faults
from tests.published import stamps, succeed

if TYPE_CHECKING:
    from tests.conftest import Mirror
    from tests.fakes.index import FakeIndex


@pytest.fixture(autouse=True)
def _one_project(index: FakeIndex) -> None:
    index.add_file("pip", "pip-1.0.tar.gz")


def examined(mirror: Mirror, status: int) -> dict[str, str]:
    """What the doctor said of each thing."""
    result = mirror.run(command="doctor", set={"master": mirror.master})
    assert (result.status, result.stderr) == (status, "")
    return {line[6:].partition(": ")[0]: line for line in result.stdout.splitlines()}


def test_a_mirror_that_works_is_well_and_is_left_as_it_is(mirror: Mirror, index: FakeIndex) -> None:
    succeed(mirror.run())
    before = stamps(mirror.web)
    index.clear_requests()
    found = examined(mirror, 0)
    assert {"python", "transport", "open files", "directory", "space", "lock", "mirror", "upstream"} <= found.keys()
    assert all(line.startswith("ok ") for line in found.values())
    assert "in JSON, with serials" in found["upstream"]
    assert "1 projects, 1 files" in found["mirror"]
    assert index.paths() == ["/simple/pip/"]
    assert stamps(mirror.web) == before
    assert not list(mirror.directory.glob(".fastmirror-doctor-*"))


def test_what_is_not_there_yet_is_well_where_the_first_run_can_make_it(mirror: Mirror) -> None:
    found = examined(mirror, 0)
    assert found["directory"].startswith("ok ")
    assert "not there yet, the first run makes it" in found["directory"]


def test_what_is_not_there_and_cannot_be_made_is_told(mirror: Mirror) -> None:
    mirror.directory = Path("/proc/self/mirror")
    assert examined(mirror, 1)["directory"].startswith("mend ")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (faults.status(503), "HTTP status 503"),
        (faults.body(b"{}", "application/vnd.pypi.simple.v1+json"), "no page of pip"),
    ],
)
def test_an_upstream_that_does_not_work_is_named(
    mirror: Mirror, index: FakeIndex, fault: faults.Fault, said: str
) -> None:
    succeed(mirror.run())
    index.fault("/simple/pip/", fault)
    assert said in examined(mirror, 1)["upstream"]


def test_too_little_space_and_a_state_that_cannot_be_read_are_told(mirror: Mirror) -> None:
    succeed(mirror.run())
    mirror.settings["min-free"] = "100000T"
    (mirror.directory / ".fastmirror/state.sqlite").write_bytes(b"no database " * 100)
    found = examined(mirror, 1)
    assert "a smaller min-free" in found["space"]
    assert "anew, from the tree" in found["mirror"]


def test_failing_projects_and_a_run_that_failed_are_told(mirror: Mirror, index: FakeIndex) -> None:
    index.add_file("six", "six-1.0.tar.gz")
    index.fault("/simple/six/", faults.status(500))
    assert mirror.run().status == 1
    found = examined(mirror, 1)
    assert "exit status 1" in found["last run"]
    assert "1 projects" in found["failing"]


def test_fewer_open_files_than_transfers_need_are_told(mirror: Mirror) -> None:
    words = [sys.executable, "-m", "fastmirror", "doctor", "--directory", str(mirror.directory)]
    words += ["--set", f"master={mirror.master}", "--set", "allow-non-https=true"]
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    result = subprocess.run(
        words,
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (100, most)),
    )
    assert "mend  open files: 100 allowed" in result.stdout


def test_a_held_lock_is_told_and_is_no_failure(mirror: Mirror, index: FakeIndex) -> None:
    succeed(mirror.run())
    index.add_file("pip", "pip-2.0.tar.gz")
    gate = index.gate("/packages/*/pip-2.0.tar.gz")
    run = mirror.start()
    gate.wait()
    found = examined(mirror, 1)
    assert f"held by process {run.pid}" in found["lock"]
    gate.open()
    run.communicate()
