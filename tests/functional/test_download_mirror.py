"""Files from download mirrors: asked first, the quickest first, never trusted more than upstream, nor in its stead."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.conftest import Mirror, each_in_one_process
from tests.fakes import faults
from tests.fakes.index import FakeIndex
from tests.tree import check_tree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Recorder
    from tests.fakes.catalogue import FakeFile
    from tests.fakes.faults import Fault

TRANSPORTS = ("curl", "requests")
METADATA = b"Metadata-Version: 2.1\nName: some\nVersion: 1.0\n"
BIG = random.Random(1).randbytes(5 << 20)
WHEEL = "six-1.0-py3-none-any.whl"


@pytest.fixture
def other() -> Iterator[FakeIndex]:
    """A server that has files too."""
    with FakeIndex() as other:
        yield other


@pytest.fixture(params=TRANSPORTS)
def mirrored(request: pytest.FixtureRequest, mirror: Mirror, other: FakeIndex) -> Mirror:
    """The command, with that server as its download mirror."""
    mirror.settings |= {"transport": request.param, "download-mirror": f"{other.url}/"}
    return mirror


def add(project: str, filename: str, *servers: FakeIndex, content: bytes | None = None) -> FakeFile:
    """The same file on each of these servers, under the same path."""
    for server in servers:
        metadata = METADATA if filename.endswith(".whl") else None
        file = server.add_file(
            project, filename, content=content, metadata=metadata, upload_time="2024-01-02T03:04:05Z"
        )
    return file


def log_of(mirror: Mirror) -> str:
    return (mirror.directory / ".fastmirror" / "log" / "fastmirror.log").read_text()


def test_files_and_core_metadata_come_from_the_mirror_and_pages_from_upstream(
    mirrored: Mirror, index: FakeIndex, other: FakeIndex
) -> None:
    file = add("six", WHEEL, index, other)
    assert mirrored.run().status == 0
    assert check_tree(mirrored.web, "hashed", index) == []
    assert index.paths("/packages/") == []
    assert set(other.paths()) == {file.path, f"{file.path}.metadata"}


def test_mirrors_are_asked_in_their_order_and_upstream_last(
    mirrored: Mirror, index: FakeIndex, other: FakeIndex
) -> None:
    add("first", "first-1.0.tar.gz", index, other)
    with FakeIndex() as second:
        add("second", "second-1.0.tar.gz", index, second)
        add("upstream", "upstream-1.0.tar.gz", index)
        addresses = f"{other.url}\n{second.url}/"
        assert mirrored.run(set={"download-mirror": addresses}).status == 0
        asked = [[path.rpartition("/")[2].partition("-")[0] for path in server.paths("/packages/")]
                 for server in (other, second, index)]  # fmt: skip
    assert [set(names) for names in asked] == [{"first", "second", "upstream"}, {"second", "upstream"}, {"upstream"}]
    assert check_tree(mirrored.web, "hashed", index) == []


ONE_AT_A_TIME = {"processes": "1", "index-transfers": "1", "file-transfers": "1"}
SLOW = faults.drip(200, pause_s=0.1)


def fill(count: int, *servers: FakeIndex) -> None:
    for number in range(count):
        add(f"some-{number}", f"some_{number}-1.0.tar.gz", *servers, content=BIG[number : number + 500])


def test_the_quicker_mirror_is_asked_for_most_files_whatever_their_order(
    mirror: Mirror, index: FakeIndex, other: FakeIndex
) -> None:
    with FakeIndex() as second:
        fill(60, index, other, second)
        other.fault("*", SLOW)
        set_ = {"download-mirror": f"{other.url} {second.url}"} | ONE_AT_A_TIME
        assert mirror.run(set=set_).status == 0
        assert len(second.requests) > 2 * len(other.requests)
    assert len(other.requests) > 7  # it was asked now and then, and not only before the other was known
    assert index.paths("/packages/") == []
    assert check_tree(mirror.web, "hashed", index) == []


def test_a_mirror_that_has_become_slow_is_left_for_the_other(
    mirror: Mirror, index: FakeIndex, other: FakeIndex
) -> None:
    with FakeIndex() as second:
        fill(80, index, other, second)
        other.fault("*", SLOW, skip=20)
        set_ = {"download-mirror": f"{other.url} {second.url}"} | ONE_AT_A_TIME
        assert mirror.run(set=set_).status == 0
        assert len(other.requests) - 20 < len(second.requests) / 2
    assert check_tree(mirror.web, "hashed", index) == []


# What a mirror may do wrong -------------------------------------------------------------------------------

WRONG: dict[str, Fault] = {
    "absent": faults.status(404),
    "forbidden": faults.status(403),
    "failing": faults.status(500),
    "of-other-bytes": faults.wrong_content(),
    "too-short": faults.body(b"short"),
    "too-long": faults.extra(),
    "cut-off": faults.truncate(0.5),
    "a-web-page": faults.html_instead(),
    "leading-astray": faults.redirect("ftp://127.0.0.1/"),
}


class Scene(NamedTuple):
    """One run with a mirror that does everything wrong, a project each; a small and a large file."""

    mirror: Mirror
    upstream: FakeIndex
    files: dict[str, FakeFile]


@pytest.fixture(scope="module", params=each_in_one_process("mirrors", TRANSPORTS))
def scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with FakeIndex() as index, FakeIndex() as other:
        mirror = Mirror(tmp_path_factory.mktemp("home"), index.url)
        mirror.settings |= {"transport": request.param, "download-mirror": other.url}
        files = {}
        for name, fault in WRONG.items():
            for size, content in (("small", BIG[:9000]), ("large", BIG)):
                filename = f"{size}-{name}-1.0.tar.gz"
                files[f"{size}-{name}"] = add(name, filename, index, other, content=filename.encode() + content)
                other.fault(f"*/{filename}", fault)
        assert mirror.run().status == 0
        yield Scene(mirror, index, files)
        mirror.close()


@pytest.mark.case(32, 44)
def test_whatever_a_mirror_answers_the_tree_is_upstreams(scene: Scene) -> None:
    assert check_tree(scene.mirror.web, "hashed", scene.upstream) == []
    assert list((scene.mirror.directory / ".fastmirror" / "staging" / "partial").iterdir()) == []


@pytest.mark.case(32, 44)
@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("size", ["small", "large"])
def test_a_file_that_a_mirror_has_not_or_spoils_comes_from_upstream(
    scene: Scene, size: str, name: str, record_property: Recorder
) -> None:
    record_property("fault", f"download mirror, {name}, {size} file: taken from upstream")
    path = scene.files[f"{size}-{name}"].path
    ranges = ["range" in record.headers for record in scene.upstream.requests if record.path == path]
    assert ranges == [size == "large" and name == "cut-off"]  # what was spoilt is not gone on with


def test_a_partial_of_a_mirrors_is_gone_on_with_by_upstream(
    mirrored: Mirror, index: FakeIndex, other: FakeIndex
) -> None:
    file = add("big", "big-1.0.tar.gz", index, other, content=BIG)
    other.fault(file.path, faults.truncate(0.6), times=1)
    other.fault(file.path, faults.status(404), skip=1)
    assert mirrored.run().status == 0
    (record,) = [record for record in index.requests if record.path == file.path]
    assert (record.status, record.sent < 0.5 * file.size) == (206, True)
    assert check_tree(mirrored.web, "hashed", index) == []


@pytest.mark.case(44)
def test_a_partial_of_other_bytes_is_found_out_and_fetched_anew(
    mirrored: Mirror, index: FakeIndex, other: FakeIndex
) -> None:
    file = add("big", "big-1.0.tar.gz", index, other, content=BIG)
    other.fault(file.path, faults.wrong_content(), faults.truncate(0.6), times=1)
    other.fault(file.path, faults.status(404), skip=1)
    assert mirrored.run().status == 0
    resumed, anew = [record for record in index.requests if record.path == file.path]
    assert ("range" in resumed.headers, "range" in anew.headers, anew.sent) == (True, False, file.size)
    assert check_tree(mirrored.web, "hashed", index) == []


# No fallback, credentials, and a mirror that is of no use --------------------------------------------------


def test_without_fallback_only_mirrors_are_asked_for_files(
    mirrored: Mirror, index: FakeIndex, other: FakeIndex
) -> None:
    add("six", WHEEL, index, other)
    add("lacking", "lacking-1.0.tar.gz", index)
    assert mirrored.run(set={"download-mirror-no-fallback": "true"}).status == 1
    host = other.url.removeprefix("http://")
    assert mirrored.failures() == {"lacking": f"lacking-1.0.tar.gz: {host}: HTTP status 404"}
    assert index.paths("/packages/") == []
    assert check_tree(mirrored.web, "hashed", index, absent={"lacking-1.0.tar.gz"}) == []


def test_a_file_that_nobody_has_is_named_with_every_reason(
    mirrored: Mirror, index: FakeIndex, other: FakeIndex
) -> None:
    file = add("six", "six-1.0.tar.gz", index, other)
    other.fault(file.path, faults.status(410))
    index.fault(file.path, faults.status(403))
    assert mirrored.run().status == 1
    hosts = [server.url.removeprefix("http://") for server in (other, index)]
    assert mirrored.failures()["six"] == (f"six-1.0.tar.gz: {hosts[0]}: HTTP status 410; {hosts[1]}: HTTP status 403")


def test_credentials_of_the_index_are_not_shown_to_a_mirror_nor_a_mirrors_to_the_index(
    mirrored: Mirror, index: FakeIndex, other: FakeIndex
) -> None:
    index.credentials, other.credentials = ("me", "hunter2"), ("you", "swordfish")
    mirrored.master = index.url.replace("//", "//me:hunter2@")
    add("six", WHEEL, index, other)
    add("lacking", "lacking-1.0.tar.gz", index)
    assert mirrored.run(set={"download-mirror": other.url.replace("//", "//you:swordfish@")}).status == 0
    assert {record.headers["authorization"] for record in index.requests} == {"Basic bWU6aHVudGVyMg=="}
    assert {record.headers["authorization"] for record in other.requests} == {"Basic eW91OnN3b3JkZmlzaA=="}
    assert "hunter2" not in log_of(mirrored)
    assert "swordfish" not in log_of(mirrored)


def test_a_mirror_that_only_fails_is_given_up_and_said_so_once(
    mirrored: Mirror, index: FakeIndex, other: FakeIndex
) -> None:
    count = 80
    for number in range(count):
        add(f"some-{number}", f"some_{number}-1.0.tar.gz", index, other)
    other.fault("*", faults.wrong_content())
    assert mirrored.run(set={"processes": "1", "index-transfers": "1", "file-transfers": "1"}).status == 0
    assert 20 <= len(other.requests) < count
    assert log_of(mirrored).count("download mirror not asked any more") == 1
    assert check_tree(mirrored.web, "hashed", index) == []


def test_a_mirror_over_http_is_refused_unless_allowed(mirror: Mirror) -> None:
    mirror.master = "https://index.invalid"
    result = mirror.run(set={"allow-non-https": "false", "download-mirror": "http://m.example"})
    assert result.status == 2
    assert "download-mirror: 'http://m.example': expected an https address" in result.stderr
