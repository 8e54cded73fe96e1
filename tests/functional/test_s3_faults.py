"""Mirrors in an object store when things go wrong: what is damaged, killed, throttled, gone, or another's."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fastmirror.errors import SettingsError, StorageError
from fastmirror.model import Outcome, StagedPage
from fastmirror.names import NormalizedName
from fastmirror.objects import Bucket
from fastmirror.objecttree import ObjectTree
from fastmirror.publisher import Done, Publisher
from fastmirror.s3 import S3
from fastmirror.s3_bodies import Section
from fastmirror.schema import RecordedJob
from fastmirror.settings_file import parse_settings
from fastmirror.state import State
from fastmirror.tree import state_path
from tests.bucket import bind
from tests.conftest import end_group
from tests.fakes.flaky import Fault, Flaky
from tests.nginx import free_port
from tests.processes import group_lives, until
from tests.published import succeed
from tests.rot import overwrite, root_pages

if TYPE_CHECKING:
    import subprocess

    from tests.bucket import Published
    from tests.conftest import Mirror
    from tests.fakes.index import FakeIndex
    from tests.object_store import ObjectStore


def files(published: Published) -> list[str]:
    return sorted(path for path in published.tags() if path.startswith("packages/"))


def kill(process: subprocess.Popen[str]) -> None:
    """End the parent and all its workers at one blow, and see them gone."""
    end_group(process, signal.SIGKILL)
    assert process.wait(10) == -signal.SIGKILL
    until(lambda: not group_lives(process.pid), "all processes of the run are gone")
    process.communicate()


# Verification


@pytest.mark.parametrize("command", [("verify",), ("mirror", "--force-check")])
def test_what_is_as_it_should_be_is_verified_without_reading_a_page_or_a_file(
    mirror: Mirror, index: FakeIndex, moto_store: ObjectStore, command: tuple[str, ...]
) -> None:
    index.fill(2)
    with Flaky(moto_store.port) as flaky:
        published = bind(mirror, moto_store, flaky.url)
        succeed(mirror.run())
        before = published.tags()
        flaky.seen.clear()
        index.clear_requests()
        name, *arguments = command
        assert mirror.run(*arguments, command=name).status == 0
        asked = [request.partition("?") for request in flaky.seen if "/web/" in request]
        read = {place.rpartition("/web/")[2] for place, _, query in asked if place.startswith("GET ") and not query}
        heads = {place.rpartition("/web/")[2] for place, _, _ in asked if place.startswith("HEAD ")}
    assert {path for path in read if path.count("/") > 1} == set()
    assert {path for path in before if path.count("/") > 1} - heads == set()
    assert index.paths("/packages/") == []
    assert {path for path, tag in published.tags().items() if before.get(path) != tag} <= {"last-modified"}


def test_what_is_missing_or_another_is_mended(
    mirror: Mirror, index: FakeIndex, moto_store: ObjectStore, tmp_path: Path
) -> None:
    index.fill(2)
    published = bind(mirror, moto_store)
    succeed(mirror.run())
    missing, changed, *_ = files(published)
    published.delete(missing)
    published.put(changed, b"other bytes")
    name = next(iter(index.projects()))
    published.put(f"simple/{name}/index.html", b"another's page")
    assert mirror.run("--dry-run", command="verify").status == 1
    assert mirror.run(command="verify").status == 0
    assert published.problems(index, tmp_path / "copy") == []


def test_a_file_stored_without_its_sha256_is_read_once_and_believed(
    mirror: Mirror, index: FakeIndex, moto_store: ObjectStore
) -> None:
    index.fill(2)
    published = bind(mirror, moto_store)
    succeed(mirror.run())
    (path, *_) = files(published)
    published.put(path, published.bodies()[path])
    index.clear_requests()
    assert mirror.run(command="verify").status == 0
    assert index.paths("/packages/") == []


def test_what_no_project_owns_is_found_by_listing(mirror: Mirror, index: FakeIndex, moto_store: ObjectStore) -> None:
    index.fill(2)
    published = bind(mirror, moto_store)
    succeed(mirror.run())
    before = set(published.tags())
    strange = {"packages/00/00/" + "0" * 60 + "/old-1.0.tar.gz", "simple/old/index.html"}
    for path in strange:
        published.put(path, b"old")
    assert mirror.run("--delete", command="verify").status == 0
    assert set(published.tags()) == before


# Kills and failures


@pytest.mark.parametrize("moment", ["/packages/", "/simple/"])
def test_a_run_killed_while_it_stores_leaves_whole_pages_and_the_next_one_ends_it(
    mirror: Mirror, index: FakeIndex, moto_store: ObjectStore, tmp_path: Path, moment: str
) -> None:
    index.fill(12)
    with Flaky(moto_store.port) as flaky:
        published = bind(mirror, moto_store, flaky.url)
        process = mirror.start()
        part = f"PUT /packages/{published.prefix}/web{moment}"
        until(lambda: sum(part in seen for seen in [*flaky.seen]) > 5, f"some are stored in {moment}")
        kill(process)
        assert published.problems(None, tmp_path / "killed", settled=False) == []
        there = files(published)
        index.clear_requests()
        succeed(mirror.run())
    assert published.problems(index, tmp_path / "copy") == []
    asked = {path.removeprefix("/") for path in index.paths("/packages/")}
    assert asked & {path for path in there if not path.endswith(".metadata")} == set()


def test_a_store_that_asks_for_less_is_asked_again(
    mirror: Mirror, index: FakeIndex, moto_store: ObjectStore, tmp_path: Path
) -> None:
    index.fill(4)
    with Flaky(moto_store.port) as flaky:
        published = bind(mirror, moto_store, flaky.url)
        flaky.faults += [Fault("/web/packages/", "throttle", 4), Fault("/web/simple/", "throttle", 4)]
        flaky.faults += [Fault("PUT /", "lose", 3), Fault("PUT /", "cut", 3)]
        succeed(mirror.run())
        assert not any(fault.times for fault in flaky.faults)
    assert published.problems(index, tmp_path / "copy") == []


def test_a_store_that_is_gone_ends_the_run_and_nothing_is_half_published(
    mirror: Mirror, index: FakeIndex, moto_store: ObjectStore, tmp_path: Path
) -> None:
    index.fill(10)
    published = bind(mirror, moto_store)
    mirror.settings["s3.max_attempts"] = "1"
    with Flaky(moto_store.port) as flaky:
        mirror.settings["s3.endpoint_url"] = flaky.url
        flaky.faults.append(Fault("PUT /", "pass", 15))
        flaky.faults.append(Fault("PUT /", "throttle", 10_000))
        result = mirror.run()
    assert result.status == 6
    assert "object store: PUT s3://packages/" in result.stdout
    assert "503 SlowDown" in result.stdout
    assert published.problems(None, tmp_path / "failed", settled=False) == []
    mirror.settings["s3.endpoint_url"] = moto_store.url
    succeed(mirror.run())
    assert published.problems(index, tmp_path / "copy") == []


def test_of_a_group_of_pages_none_is_begun_after_the_store_has_failed(moto_store: ObjectStore, tmp_path: Path) -> None:
    """Each that is begun is tried as often, with waits in between."""
    storage = parse_settings(None, overrides={"directory": str(tmp_path), "layout": "flat"}).storage
    with Flaky(moto_store.port) as flaky:
        tree = ObjectTree(storage, moto_store.settings(tmp_path.name, endpoint=flaky.url, attempts=3))
        tree.prepare()
        tree.publish(tree.write_staged(b"page"), "simple/first/index.html")
        state = State(str(tmp_path / "state.sqlite"))
        publisher = Publisher(tree, state, 1, lambda: None, lambda *_: None)
        for number in range(512):
            page = StagedPage((tree.write_staged(b"page"),), (f"simple/p-{number}/index.html",))
            outcome = Outcome(NormalizedName(f"p-{number}"), "published", serial=5, page_digest="p", pages=(page,))
            publisher.add(Done(outcome, RecordedJob(False, False, 0, None)))
        flaky.faults.append(Fault("PUT /", "throttle", 10_000))
        with pytest.raises(StorageError, match="503"):
            publisher.finish()
        publisher.close()
        begun = {request for request in flaky.seen if "/web/simple/p-" in request and request.startswith("PUT ")}
        assert len(begun) < 256, len(begun)
        assert not state.has_projects()
        state.close()
        tree.close()


def test_a_file_that_cannot_be_read_while_it_is_sent_is_told_without_a_traceback(
    moto_store: ObjectStore, capfd: pytest.CaptureFixture[str]
) -> None:
    client = S3(moto_store.settings("unread"))
    with pytest.raises(OSError, match="Input/output error"):
        client.send("PUT", "unread/file", body=Section("/proc/self/mem", 0, 10), sha256="0" * 64)
    client.close()
    assert capfd.readouterr() == ("", "")


def test_a_store_that_is_not_there_or_not_ours_is_named_in_one_line(
    mirror: Mirror, index: FakeIndex, moto_store: ObjectStore
) -> None:
    index.fill(1)
    bind(mirror, moto_store)
    result = mirror.run(set={"s3.bucket": "nobodys"})
    assert result.status == 6
    assert "there is no such bucket" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert index.requests == []


def test_how_the_mirror_stands_is_told_without_the_store(
    mirror: Mirror, index: FakeIndex, moto_store: ObjectStore
) -> None:
    index.fill(2)
    bind(mirror, moto_store)
    succeed(mirror.run())
    whole = mirror.status()
    bind(mirror, moto_store, f"http://127.0.0.1:{free_port()}")
    mirror.settings["s3.max_attempts"] = "1"
    assert mirror.run().status == 6
    alone = mirror.status()
    assert (alone["files"], alone["serial"], alone["as_of"]) == (whole["files"], whole["serial"], None)


# Names and states


def test_a_name_that_other_bytes_have_is_freed_and_given_to_its_file(
    mirror: Mirror, index: FakeIndex, each_store: ObjectStore, tmp_path: Path
) -> None:
    index.fill(2)
    published = bind(mirror, each_store)
    (project, *_) = index.projects().values()
    name = project.files[0].path.lstrip("/")
    published.put(name, b"another's bytes")
    succeed(mirror.run())
    assert published.problems(index, tmp_path / "copy") == []


def test_a_quarantined_project_is_not_in_the_bucket_and_comes_back_without_a_fetch(
    mirror: Mirror, index: FakeIndex, moto_store: ObjectStore, tmp_path: Path
) -> None:
    index.fill(1)
    name = "six"
    index.add_file(name, "six-1.0-py3-none-any.whl", metadata=b"Name: six\n")
    published = bind(mirror, moto_store)
    succeed(mirror.run())
    held = [path for path in files(published) if "/six-" in path]
    assert len(held) == 2
    index.quarantine(name)
    succeed(mirror.run())
    assert not set(held) & set(published.tags())
    index.clear_quarantine(name)
    index.clear_requests()
    succeed(mirror.run())
    assert index.paths("/packages/") == []
    assert published.problems(index, tmp_path / "copy") == []


def test_a_lost_state_is_made_anew_from_the_bucket(
    mirror: Mirror, index: FakeIndex, moto_store: ObjectStore, tmp_path: Path
) -> None:
    index.fill(3)
    published = bind(mirror, moto_store)
    succeed(mirror.run())
    shutil.rmtree(mirror.directory)
    published.lose_state()
    index.clear_requests()
    result = mirror.run()
    assert (result.status, "taken over: 3 projects" in result.stderr) == (0, True)
    assert index.paths("/packages/") == []
    assert published.problems(index, tmp_path / "copy") == []


@pytest.mark.parametrize("lost", ["the copies", "the copies and the lease"])
def test_a_damaged_state_that_no_copy_replaces_is_moved_aside_and_made_anew(
    mirror: Mirror, index: FakeIndex, moto_store: ObjectStore, tmp_path: Path, lost: str
) -> None:
    index.fill(3)
    published = bind(mirror, moto_store)
    succeed(mirror.run())
    if lost == "the copies":
        bucket = Bucket(moto_store.settings(published.prefix))
        bucket.delete([item.key for item in bucket.list(".fastmirror/state/")])
    else:
        published.lose_state()
    path = Path(state_path(str(mirror.directory)))
    path.write_bytes(b"no database" * 1000)
    result = mirror.run()
    assert (result.status, "taken over: 3 projects" in result.stderr) == (0, True), result
    assert len(list(path.parent.glob("state.sqlite.damaged-*"))) == 1
    assert published.problems(index, tmp_path / "copy") == []


@pytest.mark.parametrize("has_copy", [True, False])
def test_after_a_run_that_met_a_damaged_state_the_stores_copy_is_taken_or_the_state_made_anew(
    mirror: Mirror, index: FakeIndex, moto_store: ObjectStore, tmp_path: Path, has_copy: bool
) -> None:
    index.fill(3)
    published = bind(mirror, moto_store)
    succeed(mirror.run())
    bucket = Bucket(moto_store.settings(published.prefix))
    copies = [item.key for item in bucket.list(".fastmirror/state/")]
    path = Path(state_path(str(mirror.directory)))
    overwrite(path, root_pages(path, "stored"))
    met = mirror.run("--force-check")
    assert met.status == 6, met
    assert "the next run makes it anew" in met.stdout + met.stderr
    assert [item.key for item in bucket.list(".fastmirror/state/")] == copies
    if not has_copy:
        bucket.delete(copies)
    index.clear_requests()
    result = mirror.run()
    assert (result.status, "taken over: 3 projects" in result.stderr) == (0, not has_copy), result
    assert not path.with_name("state.sqlite.damaged").exists()
    assert index.paths("/packages/") == []
    succeed(mirror.run("--force-check"))
    assert index.paths("/packages/") == []
    succeed(mirror.run(command="verify"))
    assert published.problems(index, tmp_path / "copy") == []


def test_a_copy_of_the_state_that_the_disk_does_not_take_is_told_beside_the_run_s_report(
    mirror: Mirror, index: FakeIndex, moto_store: ObjectStore, tmp_path: Path
) -> None:
    index.add_file("six", "six-1.0.tar.gz")
    published = bind(mirror, moto_store)
    succeed(mirror.run())
    obstacle = Path(state_path(str(mirror.directory))).with_name("state-copy.gz")
    obstacle.mkdir()
    index.add_file("six", "six-2.0.tar.gz")
    result = mirror.run()
    assert (result.status, result.stderr.count("\n")) == (0, 1), result
    assert "the state is not in the store: " in result.stderr
    assert "projects: 1 updated, 0 removed, 0 failed" in result.stdout
    obstacle.rmdir()
    succeed(mirror.run())
    assert published.problems(index, tmp_path / "copy") == []


def test_a_directory_whose_state_is_of_another_tree_is_refused(
    mirror: Mirror, index: FakeIndex, moto_store: ObjectStore
) -> None:
    index.fill(1)
    succeed(mirror.run(set={"layout": "flat"}))
    bind(mirror, moto_store)
    result = mirror.run()
    assert result.status == 2
    assert "this directory's state is of a tree in its web/, not in s3://packages/" in result.stderr


# What a bucket cannot do


@pytest.mark.parametrize(
    ("key", "value"),
    [("layout", "hashed"), ("hash-index", "true"), ("keep_index_versions", "3"), ("cleanup", "true")],
)
def test_a_setting_that_a_bucket_cannot_follow_is_refused(key: str, value: str) -> None:
    chosen = {"directory": "/srv/pypi", "storage-backend": "s3", "s3.bucket": "packages", key: value}
    with pytest.raises(SettingsError, match=rf"--set {key}: '{value}': expected .*\(storage-backend = s3\)"):
        parse_settings(None, overrides=chosen)


@pytest.mark.parametrize(("command", "arguments"), [("serve", ()), ("nginx", ()), ("export", ("bundle",))])
def test_a_command_for_trees_of_files_says_so(mirror: Mirror, command: str, arguments: tuple[str, ...]) -> None:
    mirror.settings |= {"storage-backend": "s3", "s3.bucket": "packages"}
    result = mirror.run(*arguments, command=command)
    assert result.status == 2
    assert "object store" in result.stderr


def test_the_doctor_looks_at_the_bucket(mirror: Mirror, index: FakeIndex, moto_store: ObjectStore) -> None:
    index.fill(1)
    published = bind(mirror, moto_store)
    succeed(mirror.run())
    assert f"ok    object store: s3://packages/{published.prefix} answers" in mirror.run(command="doctor").stdout
    told = mirror.run(command="doctor", set={"s3.bucket": "nobodys"})
    assert told.status == 1
    assert "mend  object store: object store: GET s3://nobodys/: 404 NoSuchBucket" in told.stdout


def test_a_list_of_what_was_written_names_objects(
    mirror: Mirror, index: FakeIndex, moto_store: ObjectStore, tmp_path: Path
) -> None:
    index.fill(2)
    published = bind(mirror, moto_store)
    succeed(mirror.run(set={"diff-file": str(tmp_path / "written")}))
    listed = set((tmp_path / "written").read_text().splitlines())
    base = f"s3://packages/{published.prefix}/web/"
    assert {path.removeprefix(base) for path in listed} == set(published.tags()) - {"last-modified"}
