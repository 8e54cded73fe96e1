"""One mirror in a bucket, and the real command on two machines: two directories that share nothing else."""

from __future__ import annotations

import signal
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest

from fastmirror.errors import StorageError
from fastmirror.lease import LeaseLost
from fastmirror.objecttree import ObjectTree
from fastmirror.settings_file import parse_settings
from tests.bucket import bind
from tests.conftest import Mirror, end_group
from tests.fakes.flaky import Fault, Flaky
from tests.processes import until
from tests.published import succeed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.bucket import Published
    from tests.fakes.index import FakeIndex
    from tests.object_store import ObjectStore


@pytest.fixture
def other(mirror: Mirror, index: FakeIndex, tmp_path: Path) -> Iterator[Mirror]:
    """The command on another machine, with the same upstream."""
    home = tmp_path / "other"
    home.mkdir()
    other = Mirror(home, index.url)
    yield other
    other.close()


def three_projects(index: FakeIndex) -> None:
    for name in ("six", "idna", "certifi"):
        index.add_file(name, f"{name}-1.0.tar.gz")


def in_one_bucket(mirror: Mirror, other: Mirror, index: FakeIndex, store: ObjectStore) -> Published:
    """Two machines of one mirror, and three projects to mirror."""
    three_projects(index)
    bind(other, store)
    return bind(mirror, store)


@contextmanager
def killed_at(mirror: Mirror, index: FakeIndex, path: str) -> Iterator[None]:
    """A run that waits for what is asked for there, and is killed with its workers in the end."""
    mirror.settings["timeout"] = "60"
    gate = index.gate(path)
    run = mirror.start()
    gate.wait()
    yield
    end_group(run, signal.SIGKILL)
    run.wait()
    gate.open()


@contextmanager
def flaky_tree(store: ObjectStore, home: Path) -> Iterator[tuple[Flaky, ObjectTree]]:
    """A tree in the store, and what stands between them."""
    settings = parse_settings(None, overrides={"directory": str(home), "layout": "flat"}).storage
    with (
        Flaky(store.port) as flaky,
        closing(ObjectTree(settings, store.settings(prefix=home.name, endpoint=flaky.url))) as tree,
    ):
        yield flaky, tree


def pages_asked_for(index: FakeIndex) -> list[str]:
    return [path for path in index.paths("/simple/") if path != "/simple/"]


def test_of_two_machines_at_once_one_is_refused_and_told_who_is_at_it(
    mirror: Mirror, other: Mirror, index: FakeIndex, moto_store: ObjectStore, tmp_path: Path
) -> None:
    published = in_one_bucket(mirror, other, index, moto_store)
    mirror.settings["timeout"] = other.settings["timeout"] = "60"
    gate = index.gate("/simple/six/")
    first = mirror.start()
    gate.wait()
    refused = other.run()
    assert (refused.status, "simple/index.html" in published.tags()) == (3, False)
    assert f"another run holds s3://packages/{published.prefix}: process {first.pid} on " in refused.stderr
    told = other.run("--set", f"master={index.url}", command="doctor")
    assert f"lease: held by process {first.pid} on " in told.stdout
    gate.open()
    assert first.communicate(timeout=60)[1] == ""
    assert first.returncode == 0
    assert published.problems(index, tmp_path / "copy") == []
    succeed(other.run())


def test_another_machine_goes_on_where_the_first_one_ended(
    mirror: Mirror, other: Mirror, index: FakeIndex, moto_store: ObjectStore, tmp_path: Path
) -> None:
    published = in_one_bucket(mirror, other, index, moto_store)
    succeed(mirror.run())
    index.add_file("six", "six-2.0.tar.gz")
    index.clear_requests()
    succeed(other.run())
    assert pages_asked_for(index) == ["/simple/six/"]
    assert len(index.paths("/packages/")) == 1
    assert published.problems(index, tmp_path / "copy") == []
    index.clear_requests()
    succeed(mirror.run())
    assert pages_asked_for(index) == []
    assert mirror.status()["projects"] == other.status()["projects"] == 3


def test_a_machine_that_has_never_run_verifies_and_deletes(
    mirror: Mirror, other: Mirror, index: FakeIndex, moto_store: ObjectStore
) -> None:
    published = in_one_bucket(mirror, other, index, moto_store)
    succeed(mirror.run())
    assert other.run(command="verify").status == 0
    assert other.run("six", command="delete").status == 0
    assert not [path for path in published.tags() if "six" in path]
    index.clear_requests()
    succeed(mirror.run())
    assert pages_asked_for(index) == []


def test_the_doctor_names_a_store_that_cannot_keep_machines_apart(
    mirror: Mirror, index: FakeIndex, rclone_store: ObjectStore
) -> None:
    three_projects(index)
    bind(mirror, rclone_store)
    succeed(mirror.run())
    arguments = ("--set", f"master={index.url}", "--set", "s3.lease=true")
    told = mirror.run(*arguments, command="doctor")
    assert told.status == 1
    assert "mend  lease: object store: it does not honour conditional writes" in told.stdout
    refused = mirror.run("--set", "s3.lease=true")
    assert (refused.status, refused.stderr.count("\n")) == (6, 1)
    assert "does not honour conditional writes" in refused.stderr


def test_who_has_lost_the_mirror_puts_and_removes_nothing_more(moto_store: ObjectStore, tmp_path: Path) -> None:
    settings = parse_settings(None, overrides={"directory": str(tmp_path), "layout": "flat"}).storage
    tree = ObjectTree(settings, moto_store.settings(prefix=tmp_path.name))
    tree.prepare()
    page, file = tmp_path / "page", tmp_path / "file"
    page.write_bytes(b"page")
    file.write_bytes(b"file")

    def lost() -> None:
        raise LeaseLost("another has it")

    tree.publish(str(page), "simple/six/index.html")
    page.write_bytes(b"newer")
    tree.guard(lost)
    for attempt in (
        lambda: tree.publish(str(page), "simple/six/index.html"),
        lambda: tree.remove("simple/six/index.html"),
        lambda: tree.remove_all(["simple/six/index.html"]),
        tree.flush,
    ):
        with pytest.raises(StorageError):
            attempt()
    assert tree.read("simple/six/index.html") == b"page"


@pytest.mark.parametrize("deed", ["publish", "place", "remove", "remove_all"])
def test_what_the_store_refused_once_is_not_tried_again_when_the_mirror_is_lost(
    moto_store: ObjectStore, tmp_path: Path, deed: str
) -> None:
    pages = [f"simple/p-{number}/index.html" for number in range(2)]
    staged = tmp_path / "page"
    staged.write_bytes(b"page")
    changes = ("PUT ", "POST ", "DELETE ")
    with flaky_tree(moto_store, tmp_path) as (flaky, tree):
        tree.prepare()
        tree.publish(str(staged), pages[0])
        staged.write_bytes(b"newer")
        flaky.seen.clear()
        flaky.faults += [Fault(change, "throttle", 1000) for change in changes]

        def check() -> None:
            if any(request.startswith(changes) for request in [*flaky.seen]):
                raise LeaseLost("another has it")

        tree.guard(check)
        deeds = {
            "publish": lambda: tree.publish(str(staged), pages[0]),
            "place": lambda: tree.place(str(staged), pages[0], replace=True),
            "remove": lambda: tree.remove(pages[0]),
            "remove_all": lambda: tree.remove_all(pages),
        }
        with pytest.raises(LeaseLost):
            deeds[deed]()
        assert len([request for request in flaky.seen if request.startswith(changes)]) == 1


def test_who_has_lost_the_mirror_does_not_ask_the_store_for_the_page_it_would_replace(
    moto_store: ObjectStore, tmp_path: Path
) -> None:
    page = tmp_path / "page"
    page.write_bytes(b"page")

    def lost() -> None:
        raise LeaseLost("another has it")

    with flaky_tree(moto_store, tmp_path) as (flaky, tree):
        tree.guard(lost)
        with pytest.raises(LeaseLost):
            tree.publish(str(page), "simple/six/index.html")
        assert flaky.seen == []


def test_of_thousands_that_are_removed_none_go_after_the_mirror_is_lost(
    moto_store: ObjectStore, tmp_path: Path
) -> None:
    with flaky_tree(moto_store, tmp_path) as (flaky, tree):

        def check() -> None:
            if flaky.seen:
                raise LeaseLost("another has it")

        tree.guard(check)
        with pytest.raises(LeaseLost):
            tree.remove_all(f"simple/p-{number}/index.html" for number in range(1001))
        assert len(flaky.seen) == 1


def test_another_machine_mends_what_a_killed_run_left(
    mirror: Mirror, other: Mirror, index: FakeIndex, rclone_store: ObjectStore, tmp_path: Path
) -> None:
    published = in_one_bucket(mirror, other, index, rclone_store)
    succeed(mirror.run())
    index.add_file("six", "six-2.0.tar.gz")
    index.add_file("idna", "idna-2.0.tar.gz")
    with killed_at(mirror, index, "/packages/*six-2.0*"):
        pass
    succeed(other.run())
    assert published.problems(index, tmp_path / "copy") == []
    succeed(mirror.run())


def test_what_a_killed_run_brought_and_upstream_has_removed_since_goes_by_verify_delete_on_another_machine(
    mirror: Mirror, other: Mirror, index: FakeIndex, rclone_store: ObjectStore, tmp_path: Path
) -> None:
    """The state that the other machine begins with has no row of it: the README says so."""
    published = in_one_bucket(mirror, other, index, rclone_store)
    succeed(mirror.run())
    index.add_file("brought", "brought-1.0.tar.gz")
    index.add_file("six", "six-2.0.tar.gz")
    index.add_file("idna", "idna-2.0.tar.gz")
    with killed_at(mirror, index, "/packages/*idna-2.0*"):
        until(lambda: "simple/brought/index.html" in published.tags(), "a page is published")
        until(lambda: b"six-2.0" in published.bodies()["simple/six/index.html"], "another is published")
    index.remove_project("brought")
    index.remove_file("six", "six-2.0.tar.gz")
    assert other.run("--delete", command="verify").status == 4
    succeed(other.run())
    left = {path.rpartition("/")[2] for path in published.tags()} & {"six-2.0.tar.gz", "brought-1.0.tar.gz"}
    assert ("simple/brought/index.html" in published.tags(), len(left)) == (True, 2)
    assert b"six-2.0" not in published.bodies()["simple/six/index.html"]
    assert other.run("--delete", command="verify").status == 0
    assert not [path for path in published.tags() if "brought" in path or "six-2.0" in path]
    assert published.problems(index, tmp_path / "copy") == []
