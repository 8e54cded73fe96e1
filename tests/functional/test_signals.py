"""SIGTERM, SIGINT and the lock: a run ends in order and soon, and only one holds the mirror at a time."""

from __future__ import annotations

import fcntl
import json
import os
import random
import re
import signal
from typing import TYPE_CHECKING

import pytest

from tests.conftest import Result, end_group
from tests.fakes import faults
from tests.processes import group_lives, is_locked, until, workers_of
from tests.published import stored
from tests.tree import check_tree

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from tests.conftest import Mirror
    from tests.fakes.index import FakeIndex

IN_ORDER_S = 10
STATUS = {signal.SIGTERM: 143, signal.SIGINT: 130}
both_signals = pytest.mark.parametrize("number", STATUS, ids=lambda number: number.name)


@pytest.fixture
def mirror(mirror: Mirror) -> Mirror:
    """With so much patience that what a gate holds is not asked for again."""
    mirror.settings["timeout"] = "60"
    return mirror


def some_projects(index: FakeIndex, count: int = 8) -> None:
    for number in range(count):
        for minor in range(2):
            index.add_file(f"project-{number}", f"project_{number}-1.{minor}-py3-none-any.whl", metadata=b"Name: x\n")


def listed(mirror: Mirror) -> set[str]:
    """What the root index lists."""
    document = json.loads((mirror.web / "simple/index.v1_json").read_bytes())
    return {project["name"] for project in document["projects"]}


def tree(directory: Path) -> dict[Path, tuple[int, int, int]]:
    """Every file below, with what tells whether it was written or replaced."""
    files = {path: path.stat() for path in directory.rglob("*") if path.is_file()}
    return {path: (status.st_ino, status.st_size, status.st_mtime_ns) for path, status in files.items()}


def ended(process: subprocess.Popen[str]) -> Result:
    """A signalled run ends within the time that it has for that, and none of its workers outlives it."""
    stdout, stderr = process.communicate(timeout=IN_ORDER_S)
    assert not group_lives(process.pid)
    return Result(process.returncode, stdout, stderr)


# Drained and recorded


@pytest.mark.case(53)
@both_signals
def test_a_signal_ends_a_run_in_order_though_its_upstream_hangs(mirror, index, number) -> None:
    some_projects(index)
    index.gate("/simple/project-3/")
    index.gate("/packages/*/project_5-1.1*.whl", at=10)
    process = mirror.start()
    held = {"project_5-1.1-py3-none-any.whl", "project_5-1.1-py3-none-any.whl.metadata"}
    until(lambda: len(stored(mirror)) >= 4 * 7 - len(held), "all but what hangs is there")
    end_group(process, number)  # as a terminal does: to the workers too
    result = ended(process)
    assert result.status == STATUS[number], result
    assert re.search(r"^projects: [1-6] updated", result.stdout, re.MULTILINE)
    assert re.search(rf"^not complete: [2-7] not yet done, .*signal {int(number)}", result.stdout, re.MULTILINE)
    assert "Traceback" not in result.stderr
    assert check_tree(mirror.web, "hashed") == []
    done, published = stored(mirror), listed(mirror)
    assert published
    assert published.isdisjoint({"project-3", "project-5"})
    index.release()
    index.clear_requests()
    assert mirror.run().status == 0
    assert not {f"/simple/{name}/" for name in published} & set(index.paths())
    assert not done & {path.rpartition("/")[2] for path in index.paths("/packages/")}
    assert check_tree(mirror.web, "hashed", index) == []


@pytest.mark.case(53)
@both_signals
def test_a_signal_ends_a_run_whose_transfers_trickle_and_the_next_one_goes_on_with_them(mirror, index, number) -> None:
    """Each would take hours; none is waited for, and what came of the large one is not asked for again."""
    # Room for all of them in one worker, and time: or what is quick waits behind them.
    mirror.settings |= {"file-transfers": "200", "timeout": "60"}
    some_projects(index)
    content = random.Random(number).randbytes(4 << 20)
    large = index.add_file("large", "large-1.0.tar.gz", content=content)
    for minor in range(40):
        index.add_file("slow", f"slow-1.{minor}.tar.gz", content=content[:2000])
    index.fault("/packages/*/slow-1.*", faults.drip(1, 5))
    index.fault("/packages/*/large-1.0.tar.gz", faults.drip(1 << 16, 0.3))  # long enough never to be whole before
    process = mirror.start()
    partial = mirror.directory / ".fastmirror/staging/partial" / large.sha256
    until(lambda: len(stored(mirror)) == 4 * 8, "all that is quick is there")
    until(lambda: partial.exists() and partial.stat().st_size >= 1 << 20, "a part of the large file is written")
    process.send_signal(number)
    result = ended(process)
    assert result.status == STATUS[number], result
    assert listed(mirror) == {f"project-{number}" for number in range(8)}
    assert check_tree(mirror.web, "hashed") == []
    index.clear_faults()
    index.clear_requests()
    assert mirror.run().status == 0
    asked = {path.rpartition("/")[2] for path in index.paths("/packages/")}
    assert asked == {"large-1.0.tar.gz", *(f"slow-1.{minor}.tar.gz" for minor in range(40))}
    (record,) = (record for record in index.requests if record.path.endswith("large-1.0.tar.gz"))
    assert record.status == 206
    assert check_tree(mirror.web, "hashed", index) == []


def test_a_signal_to_the_parent_alone_suffices_and_a_second_one_does_no_harm(mirror, index) -> None:
    some_projects(index)
    index.gate("/simple/project-3/")
    process = mirror.start()
    until(lambda: len(stored(mirror)) == 4 * 7, "all but what hangs is there")
    process.terminate()
    process.send_signal(signal.SIGINT)
    result = ended(process)
    assert result.status in {130, 143}
    assert "not complete" in result.stdout
    assert "Traceback" not in result.stderr
    assert check_tree(mirror.web, "hashed") == []
    assert listed(mirror)


@pytest.mark.case(53)
def test_an_interrupted_update_keeps_what_was_there_and_the_root_index_says_what_is(mirror, index) -> None:
    some_projects(index)
    assert mirror.run().status == 0
    old = {name: state.serial for name, state in index.projects().items()}
    for number in range(8):
        index.add_file(f"project-{number}", f"project_{number}-2.0.tar.gz")
    gate = index.gate("/packages/*/project_6-2.0.tar.gz")
    process = mirror.start()
    gate.wait()
    until(lambda: len(stored(mirror)) == 4 * 8 + 7, "all but what hangs is there")
    process.terminate()
    assert ended(process).status == 143
    assert check_tree(mirror.web, "hashed", leftovers=True) == []
    document = json.loads((mirror.web / "simple/index.v1_json").read_bytes())
    serials = {project["name"]: project["_last-serial"] for project in document["projects"]}
    assert set(serials) == set(old)
    assert serials["project-6"] == old["project-6"]
    assert any(serials[name] != old[name] for name in old)


def test_what_an_interrupted_first_run_did_can_be_read_off_its_status(mirror, index) -> None:
    some_projects(index)
    index.gate("/simple/project-3/")
    process = mirror.start()
    until(lambda: len(stored(mirror)) == 4 * 7, "all but what hangs is there")
    process.terminate()
    assert ended(process).status == 143
    status = json.loads(mirror.run("--json", command="status").stdout)
    assert status["last_run"]["exit_status"] == 143
    assert status["projects"] == len(listed(mirror))
    assert not (mirror.directory / "status").exists()  # the serial of a finished run only


# Before there is anything to drain


@both_signals
def test_a_signal_while_the_root_index_is_fetched_ends_the_run_at_once_with_nothing_changed(
    mirror, index, number
) -> None:
    some_projects(index)
    assert mirror.run().status == 0
    index.touch("project-1")
    before = tree(mirror.web), (mirror.directory / "status").read_text()
    gate = index.gate("/simple/")
    process = mirror.start()
    gate.wait()
    process.send_signal(number)
    result = ended(process)
    assert result.status == STATUS[number], result
    assert "Traceback" not in result.stderr
    assert (tree(mirror.web), (mirror.directory / "status").read_text()) == before
    assert not is_locked(mirror.directory)
    index.release()
    index.clear_requests()
    assert mirror.run().status == 0
    assert index.paths() == ["/simple/", "/simple/project-1/"]


@both_signals
def test_a_signal_while_the_first_pages_hang_leaves_a_whole_tree_without_projects(mirror, index, number) -> None:
    some_projects(index)
    gate = index.gate("/simple/?*")
    process = mirror.start()
    gate.wait()
    process.send_signal(number)
    assert ended(process).status == STATUS[number]
    assert check_tree(mirror.web, "hashed") == []
    assert not list(mirror.web.glob("simple/*/*"))


@pytest.mark.case(53)
def test_a_signal_ends_a_run_that_waits_for_an_upstream_that_asked_for_patience(mirror, index) -> None:
    some_projects(index)
    index.fault("/packages/*", faults.status(503, 120))
    process = mirror.start()
    until(lambda: index.paths("/packages/"), "a file is asked for")
    process.terminate()
    assert ended(process).status == 143
    assert check_tree(mirror.web, "hashed") == []


# The lock


@pytest.mark.case(49)
def test_a_second_run_is_refused_at_once_and_told_who_holds_the_mirror_since_when(mirror, index) -> None:
    some_projects(index)
    gate = index.gate("/simple/project-3/")
    process = mirror.start()
    gate.wait()
    for arguments in ([], ["--force-check"], ["--project", "project-1"]):
        refused = mirror.run(*arguments)
        assert (refused.status, refused.stdout) == (3, "")
        assert re.search(rf"process {process.pid}, since 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d", refused.stderr)
        assert "Traceback" not in refused.stderr
    assert mirror.run("project-1", command="sync").status == 3
    assert index.paths().count("/simple/") == 1, "a refused run asked for something"
    gate.open()
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert check_tree(mirror.web, "hashed", index) == []


@pytest.mark.case(49)
@pytest.mark.parametrize("before", ["never mirrored", "mirrored"])
def test_a_mirror_held_by_another_program_is_left_alone(mirror, index, before) -> None:
    """As bandersnatch holds it: an exclusive flock on the same file, whose content is its own."""
    some_projects(index)
    if before == "mirrored":
        assert mirror.run().status == 0
    mirror.directory.mkdir(exist_ok=True)
    index.clear_requests()
    with (mirror.directory / ".lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = mirror.run()
        assert (refused.status, refused.stdout) == (3, "")
        assert "another program" in refused.stderr
        assert index.requests == []
    assert mirror.run().status == 0
    assert check_tree(mirror.web, "hashed", index) == []


def test_another_program_cannot_take_the_mirror_while_a_run_is_under_way(mirror, index) -> None:
    some_projects(index)
    gate = index.gate("/simple/project-3/")
    process = mirror.start()
    gate.wait()
    assert is_locked(mirror.directory)
    gate.open()
    process.communicate(timeout=60)
    assert not is_locked(mirror.directory)


def test_plan_and_status_answer_while_a_run_holds_the_mirror(mirror, index) -> None:
    some_projects(index)
    assert mirror.run().status == 0
    for number in range(8):
        index.add_file(f"project-{number}", f"project_{number}-2.0.tar.gz")
    gate = index.gate("/packages/*/project_3-2.0.tar.gz", times=1)
    process = mirror.start()
    gate.wait()
    plan = mirror.run("--json", command="plan")
    assert plan.status == 0, plan
    assert "project-3" in json.loads(plan.stdout)["names"]
    files = mirror.run("--files", "--json", command="plan")
    assert files.status == 0, files
    assert json.loads(files.stdout)["files"] >= 1
    status = mirror.run("--json", command="status")
    assert status.status in {0, 1}, status
    told = json.loads(status.stdout)
    assert (told["projects"], told["clean"]) == (8, False)
    assert len(workers_of(process.pid)) == 2
    gate.open()
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert check_tree(mirror.web, "hashed", index) == []


@pytest.mark.case(49)
def test_the_lock_file_of_a_dead_run_is_no_obstacle(mirror, index) -> None:
    some_projects(index)
    mirror.directory.mkdir()
    lock = mirror.directory / ".lock"
    lock.write_text(f"process {os.getpid()}, since 2020-01-01T00:00:00+00:00, and much more of it\n")
    assert mirror.run().status == 0
    assert "2020" not in lock.read_text()
    assert check_tree(mirror.web, "hashed", index) == []
