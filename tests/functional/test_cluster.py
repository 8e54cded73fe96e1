"""A run whose work is done by the workers of a real dask cluster: the same tree, whoever dies, stops or is refused."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import fastmirror
from tests.bucket import bind
from tests.conftest import Mirror, end_group
from tests.dask import Dask
from tests.fakes import faults
from tests.fakes.index import FakeIndex
from tests.fakes.proxies import HttpProxy
from tests.hosts import GATEWAY, hosts
from tests.processes import group_lives, owner_of, until
from tests.published import at_rest, problems, spoil, succeed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fakes.wire import Record

PAGES, FILES = 6, 12
HERE = {"executor": "local", "scheduler": ""}  # the work is done by this machine
pytestmark = pytest.mark.xdist_group("cluster")


@pytest.fixture(scope="module")
def dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dask]:
    """A scheduler and three workers; a test may leave two of them."""
    dask = Dask(tmp_path_factory.mktemp("dask"))
    try:
        dask.add(3)
        yield dask
    finally:
        dask.close()


@pytest.fixture(scope="module")
def _empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dask]:
    dask = Dask(tmp_path_factory.mktemp("empty"))
    yield dask
    dask.close()


@pytest.fixture
def empty(_empty: Dask) -> Iterator[Dask]:
    """A scheduler without workers."""
    yield _empty
    _empty.end(_empty.workers)


@pytest.fixture
def mirror(mirror: Mirror, dask: Dask) -> Mirror:
    """Its work is done by the cluster."""
    mirror.settings |= {
        "executor": "dask", "scheduler": dask.scheduler, "index-transfers": str(PAGES), "file-transfers": str(FILES),
    }  # fmt: skip
    return mirror


def tree(web: Path) -> dict[str, bytes]:
    """All that readers can see, but for what says when."""
    files = {path.relative_to(web).as_posix(): path for path in web.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if name != "last-modified"}


def single(mirror: Mirror, index: FakeIndex) -> dict[str, bytes]:
    """The tree that one machine makes of the same upstream."""
    home = mirror.home / "single"
    home.mkdir()
    other = Mirror(home, index.url)
    succeed(other.run())
    return tree(other.web)


def holder(dask: Dask, record: Record) -> subprocess.Popen[bytes]:
    """The worker that has asked for this."""
    pid = owner_of(record.port, [worker.pid for worker in dask.workers])
    return next(worker for worker in dask.workers if worker.pid == pid)


def test_three_workers_make_the_tree_that_one_machine_makes_and_keep_the_whole_budget(mirror, index) -> None:
    index.fill(90, files=3)
    index.fault("/simple/?*", faults.status(429, retry_after=0), times=2, skip=40)
    pages = index.gate("/simple/?*")
    run = mirror.start()
    pages.wait(PAGES)
    pages.open()
    stdout, stderr = run.communicate(timeout=60)
    assert (run.returncode, stderr) == (0, ""), stdout
    assert max(record.crowd for record in index.requests) <= PAGES + FILES
    first = [record.path for record in index.requests[: PAGES + 1]]
    assert all(path.startswith("/simple/") for path in first), "no page was let go before all workers had asked"
    assert problems(mirror, index) == []
    assert tree(mirror.web) == single(mirror, index)
    log = (mirror.directory / ".fastmirror/log/fastmirror.log").read_text()
    assert len(set(re.findall(r"(tcp://\S+) takes part", log))) == 3
    assert "upstream asks for less" in log


def test_a_forced_check_and_verify_find_and_mend_what_is_damaged(mirror, index) -> None:
    index.fill(20, files=3)
    succeed(mirror.run(set=HERE))
    whole = tree(mirror.web)
    names = [Path(name).name for name in whole if name.startswith("packages/") and not name.endswith(".metadata")]
    spoil(at_rest(mirror, names[0]))
    succeed(mirror.run("--force-check"))
    assert tree(mirror.web) == whole
    spoil(at_rest(mirror, names[1]))
    found = mirror.run(command="verify")
    assert (found.status, found.stderr) == (0, ""), found
    assert tree(mirror.web) == whole


def test_projects_emptied_in_bulk_are_held_back_and_let_through_by_max_removals(mirror, index) -> None:
    names = [f"p{number}" for number in range(25)]
    for name in names:
        index.add_file(name, f"{name}-1.0.tar.gz")
    succeed(mirror.run())
    whole = {name: body for name, body in tree(mirror.web).items() if name.startswith(("simple/p", "packages/"))}
    for name in names:
        index.remove_file(name, f"{name}-1.0.tar.gz")
    assert mirror.run(set={"delete-grace": "0"}).status == 4
    assert whole.items() <= tree(mirror.web).items()
    succeed(mirror.run(set={"delete-grace": "0", "max-removals": "25"}))
    assert not [name for name in tree(mirror.web) if name.startswith("packages/")]


def test_one_worker_is_killed_and_one_stopped_in_the_middle_and_the_tree_is_the_same(mirror, index, dask) -> None:
    index.fill(400, files=1)
    gate = index.gate("/simple/?*", skip=20)
    run = mirror.start()
    gate.wait(PAGES)
    held = [record for record in index.requests if record.path.startswith("/simple/") and not record.status]
    killed, stopped, *_ = {worker.pid: worker for worker in (holder(dask, record) for record in held)}.values()
    killed.kill()
    stopped.send_signal(signal.SIGSTOP)
    gate.open()
    stdout, stderr = run.communicate(timeout=90)
    stopped.send_signal(signal.SIGCONT)
    assert run.returncode == 0, (stdout, stderr)
    assert "is gone" in stderr
    silent = re.findall(r"(tcp://\S+) is silent", stderr)
    assert silent, stderr
    assert len(silent) == len(set(silent)), "named again for each batch"
    assert problems(mirror, index) == []
    assert tree(mirror.web) == single(mirror, index)
    index.clear_requests()
    succeed(mirror.run())
    assert index.paths() == ["/simple/"]


def test_a_run_that_is_told_to_end_takes_what_is_done_and_the_next_goes_on(mirror, index) -> None:
    index.fill(30, files=2)
    gate = index.gate("/simple/?*", skip=20)
    run = mirror.start()
    gate.wait()
    run.terminate()
    _, stderr = run.communicate(timeout=30)
    assert run.returncode == 128 + signal.SIGTERM, stderr
    gate.open()
    index.clear_faults()
    index.clear_requests()
    succeed(mirror.run(set=HERE))
    assert 0 < len(index.paths("/simple/?"[:-1])) - 1 < 30
    assert problems(mirror, index) == []


def test_workers_of_a_run_that_was_killed_publish_nothing_and_leave_it(mirror, index) -> None:
    index.fill(30, files=2)
    gate = index.gate("/simple/?*")
    run = mirror.start()
    gate.wait(PAGES)
    end_group(run, signal.SIGKILL)
    run.communicate()
    until(lambda: not group_lives(run.pid), "the run is gone")
    gate.open()
    until(lambda: len(index.paths("/packages/")) > 5, "its workers go on for a moment")
    assert not list(mirror.web.glob("simple/??/*")), "a page without a parent"
    succeed(mirror.run())
    assert problems(mirror, index) == []


def test_a_scheduler_that_goes_ends_the_run_in_order_and_the_next_goes_on(mirror, index, tmp_path) -> None:
    index.fill(30, files=2)
    dask = Dask(tmp_path)
    try:
        dask.add(1)
        gate = index.gate("/simple/?*", skip=20)
        run = mirror.start(set={"scheduler": dask.scheduler})
        gate.wait()
    finally:
        dask.close()
    stdout, stderr = run.communicate(timeout=60)
    assert run.returncode == 5, (stdout, stderr)
    assert f"the scheduler {dask.scheduler} is gone" in stdout + stderr
    gate.open()
    succeed(mirror.run(set=HERE))
    assert problems(mirror, index) == []


def test_a_host_goes_its_own_ways_and_is_held_to_its_own_limit(mirror, index, empty) -> None:
    index.fill(20, files=2)
    with FakeIndex() as near, HttpProxy() as proxy:
        near.fill(20, files=2)
        near.fault("/packages/*", faults.drip(200, 0.05))  # two at a time would be in flight together
        ways = {"http_proxy": proxy.url(), "FASTMIRROR_DOWNLOAD_MIRROR": near.url, "FASTMIRROR_MAX_TRANSFERS": "1"}
        empty.add(2, environment=ways)
        succeed(mirror.run(set={"scheduler": empty.scheduler}))
        assert len(proxy.hosts) > 20
        assert near.paths("/packages/")
        together = sum(record.crowd > 1 for record in near.requests)
        assert together < 3, "more than one whose last byte has just gone out, and that is still counted"
    assert problems(mirror, index) == []


def test_workers_on_hosts_with_addresses_of_their_own_do_the_work_each_by_its_own_way(mirror, index, tmp_path) -> None:
    index.fill(30, files=2)
    with ExitStack() as stack:
        try:
            two = stack.enter_context(hosts(2))
        except OSError as error:
            pytest.skip(f"network namespaces cannot be made here: {error}")
        proxies = [stack.enter_context(HttpProxy(address=GATEWAY)) for _ in two]
        dask = Dask(tmp_path, GATEWAY)
        stack.callback(dask.close)
        for (_, there), proxy in zip(two, proxies, strict=True):
            dask.add(environment={"http_proxy": proxy.url()}, through=there)
        gate = index.gate("/simple/?*")
        run = mirror.start(set={"scheduler": dask.scheduler})
        gate.wait(PAGES)
        assert [len(proxy.hosts) for proxy in proxies] == [PAGES // 2] * 2
        gate.open()
        stdout, stderr = run.communicate(timeout=60)
        assert (run.returncode, stderr) == (0, ""), stdout
    log = (mirror.directory / ".fastmirror/log/fastmirror.log").read_text()
    assert sorted(re.findall(r"tcp://([0-9.]+):\d+ takes part", log)) == [address for address, _ in two]
    assert problems(mirror, index) == []


def test_a_tree_in_a_bucket_is_made_by_workers_that_share_the_local_directory(
    mirror, index, moto_store, tmp_path
) -> None:
    index.fill(20, files=2)
    published = bind(mirror, moto_store)
    succeed(mirror.run())
    assert published.problems(index, tmp_path / "copy") == []


# Who cannot take part


def test_workers_of_another_version_or_without_the_directory_are_refused_by_name(
    mirror, index, empty, tmp_path
) -> None:
    index.fill(3)
    mirror.directory.mkdir()
    shutil.copytree(Path(fastmirror.__file__).parent, tmp_path / "old/fastmirror")
    text = Path(fastmirror.__file__).read_text().replace(fastmirror.__version__, "0.0.1")
    (tmp_path / "old/fastmirror/__init__.py").write_text(text)
    empty.add(environment={"PYTHONPATH": str(tmp_path / "old")})
    elsewhere = ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs none {mirror.directory} && exec "$@"', "sh"]
    can_be_elsewhere = subprocess.run([*elsewhere, "true"], capture_output=True).returncode == 0
    if can_be_elsewhere:
        empty.add(through=elsewhere)
    result = mirror.run(set={"scheduler": empty.scheduler})
    assert result.status == 5
    assert f"it has fastmirror 0.0.1, and the run is {fastmirror.__version__}" in result.stderr
    assert not can_be_elsewhere or "it does not see the mirror's directory" in result.stderr
    assert f"no worker of {empty.scheduler} can take part" in result.stdout + result.stderr


def test_without_workers_a_run_says_so_waits_a_while_and_ends(mirror, index, empty) -> None:
    index.fill(3)
    result = mirror.run(set={"scheduler": empty.scheduler, "timeout": "1"})
    assert result.status == 5
    assert "waiting for one" in result.stderr
    assert f"no worker of {empty.scheduler} is there" in result.stdout + result.stderr
    assert not list(mirror.web.glob("simple/??/*"))


def test_without_a_scheduler_a_run_ends_with_one_line(mirror, index) -> None:
    index.fill(3)
    result = mirror.run(set={"scheduler": "tcp://127.0.0.1:1", "timeout": "1"})
    assert result.status == 5
    assert "no dask scheduler answers at tcp://127.0.0.1:1" in result.stdout + result.stderr
    assert "Traceback" not in result.stderr


def test_a_tls_setting_that_cannot_be_used_ends_the_run_with_one_line(mirror, index) -> None:
    index.fill(3)
    mirror.environment["DASK_DISTRIBUTED__COMM__TLS__MIN_VERSION"] = "9.9"
    result = mirror.run(set={"scheduler": "tls://127.0.0.1:1", "timeout": "1"})
    assert result.status == 5
    assert re.search(r"tls://127.0.0.1:1 \(.*min-version", result.stdout + result.stderr), result
    assert "Traceback" not in result.stderr


def test_where_dask_is_not_installed_the_command_that_installs_it_is_named(mirror, index, tmp_path) -> None:
    index.fill(3)
    (tmp_path / "distributed.py").write_text("raise ModuleNotFoundError(name='distributed')")
    mirror.environment["PYTHONPATH"] = f"{tmp_path}:{Path(fastmirror.__file__).parents[1]}"
    result = mirror.run()
    assert result.status == 2
    assert "pip install 'fastmirror[dask]'" in result.stderr
