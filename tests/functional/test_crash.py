"""Killed with SIGKILL at any moment, whole or in part: what is published stays whole, and the next run goes on."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Literal

import pytest

from tests.conftest import end_group
from tests.fakes.faults import Fault
from tests.processes import group_lives, is_locked, lives, owner_of, until, workers_of
from tests.published import page_file, stored
from tests.tree import check_tree

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from tests.conftest import Mirror, Result
    from tests.fakes.index import FakeIndex
    from tests.fakes.wire import Answer, Gate, Record

Layout = Literal["flat", "hashed"]
MEBIBYTE = 1 << 20


@pytest.fixture
def mirror(mirror: Mirror) -> Mirror:
    """With so much patience that what a gate holds is not asked for again."""
    mirror.settings["timeout"] = "60"
    return mirror


def pages(mirror: Mirror) -> set[str]:
    """The projects' pages that stand under their final names."""
    found = {path.relative_to(mirror.web / "simple").as_posix() for path in (mirror.web / "simple").rglob("*.*")}
    return {name for name in found if "/" in name}


def staged(mirror: Mirror) -> set[Path]:
    """Files in staging."""
    return {path for path in (mirror.directory / ".fastmirror" / "staging").rglob("*") if path.is_file()}


def asked_files(index: FakeIndex) -> set[str]:
    """Names of the files asked for since the requests were cleared."""
    return {path.rpartition("/")[2] for path in index.paths("/packages/")}


def kill(process: subprocess.Popen[str]) -> None:
    """End the parent and all its workers at one blow, and see them gone."""
    end_group(process, signal.SIGKILL)
    assert process.wait(10) == -signal.SIGKILL
    until(lambda: not group_lives(process.pid), "all processes of the run are gone")
    process.communicate()


def assert_whole(mirror: Mirror, layout: Layout = "hashed") -> None:
    assert check_tree(mirror.web, layout, settled=False) == []


def finish(mirror: Mirror, index: FakeIndex, layout: Layout = "hashed", *, leftovers: bool = False) -> Result:
    """The next run: it does all that is left, and nothing that was done."""
    done, swept = stored(mirror), staged(mirror) - set((mirror.directory / ".fastmirror/staging/partial").iterdir())
    index.clear_requests()
    result = mirror.run(set={"layout": layout})
    assert (result.status, result.stderr) == (0, ""), result
    assert check_tree(mirror.web, layout, index, leftovers=leftovers) == []
    assert asked_files(index) & done == set()
    assert len(index.paths("/packages/")) == len(asked_files(index)), "a file was asked for twice"
    assert staged(mirror) & swept == set()
    assert staged(mirror) == set()
    return result


def come_to(gate: Gate, process: subprocess.Popen[str]) -> None:
    """Wait until a request is held at the gate; the run must not end before."""
    while process.poll() is None:
        try:
            return gate.wait(timeout_s=0.05)
        except TimeoutError:
            continue
    pytest.fail(f"the run ended before it was to be killed\n{process.communicate()}")


# Chosen points


def small_index(index: FakeIndex) -> None:
    index.add_project("empty")
    for number in range(12):
        name = f"project-{number:02d}"
        for minor in range(3):
            index.add_file(name, f"project_{number:02d}-1.{minor}-py3-none-any.whl", metadata=b"Name: %d\n" % minor)


@pytest.mark.case(46)
def test_a_run_killed_while_a_page_is_fetched_leaves_whole_pages_and_is_taken_up(mirror, index) -> None:
    small_index(index)
    gate = index.gate("/simple/project-07/")
    process = mirror.start()
    come_to(gate, process)
    until(lambda: len(stored(mirror)) == 2 * 3 * 11, "the other projects' files are there")
    kill(process)
    gate.open()
    assert_whole(mirror)
    assert not any("project-07" in page for page in pages(mirror))
    finish(mirror, index)
    assert len(asked_files(index)) == 2 * 3


@pytest.mark.case(46)
@pytest.mark.parametrize("layout", ["flat", "hashed"])
def test_a_run_killed_while_a_file_is_fetched_goes_on_where_the_file_broke_off(mirror, index, layout) -> None:
    content = random.Random(1).randbytes(4 * MEBIBYTE)
    index.add_file("large", "large-1.0.tar.gz", content=content)
    index.add_file("small", "small-1.0.tar.gz", content=b"s" * 1000)
    large = index.gate("/packages/*/large-1.0.tar.gz", at=0.75, times=1)
    small = index.gate("/packages/*/small-1.0.tar.gz", at=500, times=1)
    process = mirror.start(set={"layout": layout})
    come_to(large, process)
    come_to(small, process)
    partials = mirror.directory / ".fastmirror/staging/partial"
    until(lambda: any(path.stat().st_size >= 2 * MEBIBYTE for path in partials.iterdir()), "two buffers are written")
    kill(process)
    index.release()
    assert_whole(mirror, layout)
    assert stored(mirror) == set()
    finish(mirror, index, layout)
    record = next(record for record in index.requests if record.path.endswith("large-1.0.tar.gz"))
    assert (record.status, record.sent < 2.1 * MEBIBYTE) == (206, True)


@pytest.mark.case(46)
def test_a_run_killed_between_the_files_of_a_project_fetches_only_the_others(mirror, index) -> None:
    for minor in range(4):
        index.add_file("six", f"six-1.{minor}.tar.gz")
    gate = index.gate("/packages/*/six-1.2.tar.gz")
    process = mirror.start()
    come_to(gate, process)
    until(lambda: len(stored(mirror)) == 3, "the other files are there")
    kill(process)
    gate.open()
    assert_whole(mirror)
    assert pages(mirror) == set()
    finish(mirror, index)
    assert asked_files(index) == {"six-1.2.tar.gz"}


@pytest.mark.case(46)
@pytest.mark.parametrize("layout", ["flat", "hashed"])
def test_a_run_killed_between_files_and_pages_fetches_no_file_again(mirror, index, layout) -> None:
    small_index(index)
    index.add_project("slow")
    gate = index.gate("/simple/slow/")  # keeps the group open
    process = mirror.start(set={"layout": layout})
    come_to(gate, process)
    until(lambda: len(stored(mirror)) == 2 * 3 * 12, "all files are there")
    assert pages(mirror) == set()
    kill(process)
    gate.open()
    assert_whole(mirror, layout)
    finish(mirror, index, layout)
    assert asked_files(index) == set()


@pytest.mark.case(46)
@pytest.mark.parametrize("published", [1, 5, 13])
def test_a_run_killed_while_pages_are_published_leaves_whole_pages_and_fetches_no_file_again(
    mirror, index, published
) -> None:
    small_index(index)
    process = mirror.start(set={"layout": "flat"})
    until(lambda: len(pages(mirror)) >= 3 * published, f"{published} pages are out")
    kill(process)
    assert_whole(mirror, "flat")
    finish(mirror, index, "flat")
    assert asked_files(index) == set()


@pytest.mark.case(46)
def test_an_update_killed_while_pages_are_replaced_never_leaves_a_page_without_its_files(mirror, index) -> None:
    small_index(index)
    mirror.settings["delete-grace"] = "0"
    assert mirror.run().status == 0
    for number in range(12):
        index.remove_file(f"project-{number:02d}", f"project_{number:02d}-1.0-py3-none-any.whl")
        index.add_file(f"project-{number:02d}", f"project_{number:02d}-2.0.tar.gz")
    before = {path: (mirror.web / "simple" / path).stat().st_ino for path in pages(mirror)}
    process = mirror.start()
    until(
        lambda: any((mirror.web / "simple" / path).stat().st_ino != inode for path, inode in before.items()),
        "a page is replaced",
    )
    kill(process)
    assert_whole(mirror)
    finish(mirror, index, leftovers=True)
    assert mirror.run().status == 0  # in order again: what no page names is unlinked
    assert check_tree(mirror.web, "hashed", index) == []


# Any moment


@pytest.mark.case(46)
def test_a_run_killed_before_the_root_index_is_written_leaves_it_to_the_next_one(mirror, index) -> None:
    """The rows are recorded, so nothing else is left to do."""
    index.add_file("six", "six-1.0.tar.gz")
    assert mirror.run().status == 0
    indexes = {path: path.read_bytes() for path in (mirror.web / "simple").glob("index.*")}
    index.add_file("idna", "idna-1.0.tar.gz")
    assert mirror.run().status == 0
    for path, content in indexes.items():
        path.unlink()
        path.write_bytes(content)
    (mirror.web / "simple/index.v1_html").unlink()
    (mirror.web / "simple/index.v1_html").hardlink_to(mirror.web / "simple/index.html")
    with sqlite3.connect(mirror.directory / ".fastmirror/state.sqlite") as state:
        state.execute("update meta set value = '0' where key = 'clean'")
        state.execute("delete from meta where key in ('index_json', 'index_html')")
    state.close()
    finish(mirror, index)


def kill_at_request(mirror: Mirror, index: FakeIndex, number: int, layout: Layout) -> None:
    """Start a run, and kill it when so many requests have come."""
    gate = index.gate("*", skip=number - 1, times=1)
    process = mirror.start(set={"layout": layout})
    come_to(gate, process)
    kill(process)
    gate.open()
    index.clear_faults()


@pytest.mark.case(46)
@pytest.mark.parametrize("seed", range(3))
def test_a_first_run_killed_at_five_random_moments_converges(mirror, index, seed) -> None:
    layout: Layout = ("hashed", "flat")[seed % 2]
    chance = random.Random(seed)
    index.fill(40, seed=seed)
    every = {name for state in index.projects().values() for file in state.files for name in names(file)}
    for _ in range(5):
        kill_at_request(mirror, index, chance.randrange(1, 40 + len(every - stored(mirror))), layout)
        assert_whole(mirror, layout)
        assert stored(mirror) <= every
    finish(mirror, index, layout)


@pytest.mark.case(46)
@pytest.mark.parametrize("seed", range(3, 5))
def test_a_mirror_whose_updates_are_killed_at_five_random_moments_converges(mirror, index, seed) -> None:
    layout: Layout = ("hashed", "flat")[seed % 2]
    chance = random.Random(seed)
    mirror.settings["delete-grace"] = "0"
    index.fill(20, seed=seed)
    assert mirror.run(set={"layout": layout}).status == 0
    for turn in range(5):
        change_some(index, chance, turn)
        kill_at_request(mirror, index, chance.randrange(1, 10), layout)
        assert_whole(mirror, layout)
    finish(mirror, index, layout, leftovers=True)


def names(file) -> set[str]:
    return {file.filename} | ({f"{file.filename}.metadata"} if file.metadata is not None else set())


def change_some(index: FakeIndex, chance: random.Random, turn: int) -> None:
    """New files in five projects, a file less in some of them, one project less, one more."""
    for name in chance.sample(sorted(index.projects()), 5):
        state = index.projects()[name]
        if state.files and chance.random() < 0.5:
            index.remove_file(name, chance.choice(state.files).filename)
        index.add_file(name, f"{name.replace('-', '_')}-2.{turn}.tar.gz", content=chance.randbytes(500))
    index.remove_project(chance.choice(sorted(index.projects())))
    index.add_file(f"new-{turn}", f"new_{turn}-1.tar.gz")


# One worker


@pytest.mark.case(50)
def test_the_run_goes_on_when_a_worker_is_killed_and_ends_as_if_nothing_had_been(mirror, index) -> None:
    small_index(index)
    gate = index.gate("/simple/project-0[1-6]/")
    process = mirror.start()
    gate.wait(6)
    first, second = workers_of(process.pid)
    os.kill(first, signal.SIGKILL)
    until(lambda: len(set(workers_of(process.pid)) - {first, second}) == 1, "another worker takes its place")
    gate.open()
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert "a worker died (signal 9)" in stderr
    assert check_tree(mirror.web, "hashed", index) == []
    assert mirror.run().status == 0
    assert staged(mirror) == set()


@pytest.mark.case(50)
def test_all_workers_may_be_killed_at_once(mirror, index) -> None:
    small_index(index)
    gate = index.gate("/simple/project-0[1-9]/")
    process = mirror.start(set={"processes": 3})
    gate.wait(9)
    killed = workers_of(process.pid)
    assert len(killed) == 3
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    until(lambda: not set(killed) & set(workers_of(process.pid)), "the workers are gone")
    gate.open()
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert check_tree(mirror.web, "hashed", index) == []


class Killer:
    """Kills, at requests for something, the worker that sent it; and keeps who it was."""

    def __init__(self, index: FakeIndex, glob: str, most: int = 100) -> None:
        self.parent = 0
        self.victims: list[int] = []
        self._most = most
        index.fault(glob, Fault(spoil=self._strike))

    def _strike(self, _: Answer, record: Record) -> None:
        until(lambda: self.parent, "the run's process id is known")
        victim = owner_of(record.port, workers_of(self.parent))
        if victim and len(self.victims) < self._most:
            self.victims.append(victim)
            os.kill(victim, signal.SIGKILL)
            until(lambda: not lives(victim), "the worker is gone")


@pytest.mark.case(50)
def test_a_project_that_kills_its_worker_every_time_fails_after_two_deaths_and_the_others_are_done(
    mirror, index
) -> None:
    small_index(index)
    mirror.settings["processes"] = "2"
    killer = Killer(index, "/packages/*/project_05-1.1-py3-none-any.whl")
    process = mirror.start()
    killer.parent = process.pid
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 1, stderr
    assert "project-05" in stdout
    assert "worker died 2 times (signal 9)" in stdout
    assert stdout.count("worker died") == 1
    assert 2 <= len(killer.victims) <= 3
    assert len(set(killer.victims)) == len(killer.victims)
    assert check_tree(mirror.web, "hashed", index, absent={"project-05"}, leftovers=True) == []
    index.clear_faults()
    finish(mirror, index)


def test_a_file_of_a_large_project_that_kills_its_worker_is_left_out_alone(mirror, index) -> None:
    for number in range(70):
        index.add_file("large", f"large-1.{number}.tar.gz")
    index.add_file("small", "small-1.0.tar.gz")
    killer = Killer(index, "/packages/*/large-1.7.tar.gz")
    process = mirror.start()
    killer.parent = process.pid
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 1, stderr
    assert "large-1.7.tar.gz" in stdout
    assert "worker died 2 times" in stdout
    assert_whole(mirror)
    assert any("small" in page for page in pages(mirror))
    index.clear_faults()
    finish(mirror, index)


@pytest.mark.case(50)
def test_two_projects_of_which_each_killed_its_worker_once_are_both_done(mirror, index) -> None:
    small_index(index)
    killers = [Killer(index, f"/simple/project-0{number}/", most=1) for number in (2, 9)]
    process = mirror.start()
    for killer in killers:
        killer.parent = process.pid
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert [len(killer.victims) for killer in killers] == [1, 1]
    assert check_tree(mirror.web, "hashed", index) == []


# Twice


@pytest.mark.case(47)
def test_what_a_loss_of_power_left_of_a_file_goes_though_the_next_run_is_cut_off_too(mirror, index) -> None:
    """The row of a project that made do with the long name is there, and what holds the short one is not freed yet."""
    mirror.settings["delete-grace"] = "0"
    wheel = "torn-1.0-py3-none-any.whl"
    index.add_file("torn", wheel)
    gate = index.gate("/packages/*")
    process = mirror.start()
    gate.wait()
    kill(process)
    gate.open()
    _, _, first, second, *_ = index.projects()["torn"].files[0].path.split("/")
    left = mirror.web / f"packages/{first}{second[0]}/{wheel}"
    left.parent.mkdir()
    left.write_bytes(b"")
    index.add_file("other", "other-1.0-py3-none-any.whl")
    gate = index.gate("/simple/other/")
    process = mirror.start()
    gate.wait()
    until(lambda: page_file(mirror, "torn").exists(), "its page is out")
    until(lambda: mirror.status()["projects"] == 1, "it is recorded")
    kill(process)
    gate.open()
    assert left.read_bytes() == b""
    finish(mirror, index, leftovers=True)
    finish(mirror, index)  # the first that finds rows and pages in order
    assert not left.exists()


# The parent alone


@pytest.mark.case(46)
def test_workers_whose_parent_is_killed_end_by_themselves_and_publish_nothing(mirror, index) -> None:
    small_index(index)
    gate = index.gate("/simple/project-0[12]/")
    process = mirror.start()
    gate.wait(2)
    until(lambda: len(stored(mirror)) == 2 * 3 * 10, "the other projects' files are there")
    before = pages(mirror)
    workers = workers_of(process.pid)
    assert len(workers) == 2
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait(10) == -signal.SIGKILL
    gate.open()
    until(lambda: not any(map(lives, workers)), "the workers have ended")
    assert pages(mirror) == before
    assert_whole(mirror)
    finish(mirror, index)


@pytest.mark.case(49)
def test_the_mirror_is_free_only_when_the_last_process_of_a_dead_run_is_gone(mirror, index) -> None:
    small_index(index)
    gate = index.gate("/simple/project-0[1-9]/")
    process = mirror.start()
    gate.wait(9)
    workers = workers_of(process.pid)
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait(10) == -signal.SIGKILL
    refused = mirror.run()
    assert refused.status == 3
    assert f"process {process.pid}, since 20" in refused.stderr
    os.kill(workers[0], signal.SIGKILL)
    until(lambda: not lives(workers[0]), "the first worker is gone")
    assert is_locked(mirror.directory)
    gate.open()
    os.kill(workers[1], signal.SIGCONT)
    until(lambda: not lives(workers[1]), "the last worker has ended by itself")
    assert not is_locked(mirror.directory)
    assert pages(mirror) == set()
    assert_whole(mirror)
    finish(mirror, index)


@pytest.mark.parametrize("way", ["forked", "spawned"])
def test_a_replaced_worker_holds_the_mirror_too_and_ends_with_its_parent(mirror, index, way) -> None:
    small_index(index)
    gate = index.gate("/simple/project-0[1-9]/")
    process = mirror.start(set={"processes": 1})
    gate.wait(9)
    if way == "spawned":  # as it must be once the parent has a thread that publishes
        until(lambda: pages(mirror), "the first pages are out")
    (first,) = workers_of(process.pid)
    os.kill(first, signal.SIGKILL)
    gate.wait(10)  # by the worker that takes its place
    (second,) = workers_of(process.pid)
    os.kill(second, signal.SIGSTOP)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait(10) == -signal.SIGKILL
    assert is_locked(mirror.directory)
    gate.open()
    os.kill(second, signal.SIGCONT)
    until(lambda: not lives(second), "it has ended by itself")
    assert not is_locked(mirror.directory)
    finish(mirror, index)


# --force-check goes on where it was


def test_a_forced_check_that_is_killed_goes_on_where_it_was(mirror: Mirror, index: FakeIndex) -> None:
    names = [f"project-{number:02}" for number in range(10)]
    for name in names:
        index.add_file(name, f"{name.replace('-', '_')}-1.0.tar.gz")
    assert mirror.run().status == 0
    index.clear_requests()
    gate = index.gate("/simple/project-0[6-9]/")
    process = mirror.start("--force-check")
    gate.wait(4)
    until(lambda: len(checked(mirror)) == 6, "six projects are checked and recorded")
    kill(process)
    gate.open()
    done = checked(mirror)
    index.clear_requests()
    result = mirror.run("--force-check")
    assert result.status == 0
    asked = {path.split("/")[2] for path in index.paths("/simple/") if path != "/simple/"}
    assert asked == set(names) - done
    index.clear_requests()
    assert mirror.run("--force-check").status == 0  # a new check: all again
    assert {path.split("/")[2] for path in index.paths("/simple/") if path != "/simple/"} == set(names)


def test_a_forced_check_goes_on_at_an_upstream_without_serials_too(mirror: Mirror, index: FakeIndex) -> None:
    index.dialect = "html"
    for number in range(4):
        index.add_file(f"project-{number}", f"project_{number}-1.0.tar.gz")
    assert mirror.run().status == 0
    gate = index.gate("/simple/project-3/")
    process = mirror.start("--force-check")
    gate.wait(1)
    until(lambda: len(checked(mirror)) == 3, "three projects are checked and recorded")
    kill(process)
    gate.open()
    index.clear_requests()
    assert mirror.run("--force-check").status == 0
    assert {path for path in index.paths("/simple/") if path != "/simple/"} == {"/simple/project-3/"}


def checked(mirror: Mirror) -> set[str]:
    query = "select name from project where checked_run = (select value from meta where key = 'force_check_run')"
    with closing(sqlite3.connect(mirror.directory / ".fastmirror/state.sqlite")) as state:
        return {name for (name,) in state.execute(query)}
