"""Transfers that go wrong, over both transports: what is tried again, resumed, given up and named."""

from __future__ import annotations

import gzip
import random
import re
import signal
import ssl
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.conftest import Mirror, Result, each_in_one_process, end_group
from tests.fakes import faults
from tests.fakes.index import FakeIndex
from tests.tree import check_tree

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import Recorder
    from tests.fakes.catalogue import FakeFile
    from tests.fakes.faults import Fault
    from tests.fakes.wire import Record

TRANSPORTS = ("curl", "requests")
METADATA = b"Metadata-Version: 2.1\nName: some\nVersion: 1.0\n"
CHUNK_BYTES = 1 << 16  # what a broken connection may cost at most


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest, mirror: Mirror) -> str:
    mirror.settings["transport"] = request.param
    return str(request.param)


@contextmanager
def scenario(transport: str, home: Path) -> Iterator[tuple[Mirror, FakeIndex]]:
    """A mirror for all tests of one run; its upstream has the files on another host."""
    with FakeIndex(file_host=True) as index:
        mirror = Mirror(home, index.url)
        mirror.settings["transport"] = transport
        yield mirror, index
        mirror.close()


def requests_for(index: FakeIndex, path: str) -> list[Record]:
    return [record for record in index.requests if record.decoded_path == path]


# What is over by a later try ------------------------------------------------------------------------------


class Trouble(NamedTuple):
    """What goes wrong with one project's page, file or core metadata file, and what it comes to."""

    where: str
    fault: Fault | None  # None: hangs
    times: int | None = 1  # requests that it spoils; None: all
    requests: int | None = 2  # that it takes, of the path in question; None: any number
    reason: str = ""  # which is given for it in the end


OVERCOME = {
    "page-answers-500": Trouble("page", faults.status(500), 2, 3),
    "page-answers-408": Trouble("page", faults.status(408)),
    "page-answers-503-retry-after": Trouble("page", faults.status(503, retry_after=1)),
    "page-answers-429-retry-after-date": Trouble("page", faults.status(429, "Wed, 21 Oct 2015 07:28:00 GMT")),
    "page-answers-429-retry-after-nonsense": Trouble("page", faults.status(429, "soon")),
    "page-is-reset": Trouble("page", faults.reset()),
    "page-is-reset-midway": Trouble("page", faults.reset(after=100)),
    "page-is-not-answered": Trouble("page", faults.hang_up()),
    "page-is-truncated": Trouble("page", faults.truncate(0.5)),
    "page-is-redirected-within-limits": Trouble("page", faults.redirect("."), 4, 5),
    "file-answers-500": Trouble("file", faults.status(500), 2, 3),
    "file-answers-502": Trouble("file", faults.status(502)),
    "file-answers-503": Trouble("file", faults.status(503)),
    "file-answers-429-retry-after": Trouble("file", faults.status(429, retry_after=1)),
    "file-is-reset": Trouble("file", faults.reset()),
    "file-is-reset-midway": Trouble("file", faults.reset(after=20_000)),
    "file-is-not-answered": Trouble("file", faults.hang_up()),
    "file-is-truncated": Trouble("file", faults.truncate(0.5), 3, 4),
    "file-is-redirected-within-limits": Trouble("file", faults.redirect("?again"), 4, 5),
    "file-is-empty-and-cut": Trouble("file", faults.truncate(0.00001)),
    "file-is-short": Trouble("file", faults.body(b"short")),
    "metadata-answers-500": Trouble("metadata", faults.status(500)),
    "metadata-is-truncated": Trouble("metadata", faults.truncate(0.5)),
}
HARMLESS = {
    "page-is-chunked": Trouble("page", faults.chunked(7), None, 1),
    "page-ends-with-the-connection": Trouble("page", faults.no_length(), None, 1),
    "page-comes-in-drops": Trouble("page", faults.drip(500, 0.01), None, 1),
    "file-is-chunked": Trouble("file", faults.chunked(4096), None, 1),
    "file-ends-with-the-connection": Trouble("file", faults.no_length(), None, 1),
    "file-comes-in-drops": Trouble("file", faults.drip(10_000, 0.01), None, 1),
    "file-calls-itself-gzip": Trouble("file", faults.header("Content-Encoding", "gzip"), None, 1),
    "file-calls-itself-br": Trouble("file", faults.header("Content-Encoding", "br"), None, 1),
    "metadata-calls-itself-gzip": Trouble("metadata", faults.header("Content-Encoding", "gzip"), None, 1),
}


def add(index: FakeIndex, project: str, trouble: Trouble | None) -> str:
    """A project of a file, a wheel and its core metadata, one of them in trouble: the path of that one."""
    content = gzip.compress(random.Random(project).randbytes(50_000), 1, mtime=0)
    file = index.add_file(project, f"{project}-1.0.tar.gz", content=content)
    metadata = gzip.compress(METADATA, mtime=0) if project == "metadata-calls-itself-gzip" else METADATA
    wheel = index.add_file(project, f"{project.replace('-', '_')}-1.0-py3-none-any.whl", metadata=metadata)
    paths = {"page": f"/simple/{project}/", "file": file.path, "metadata": f"{wheel.path}.metadata"}
    if trouble is None:
        return ""
    if trouble.fault is None:
        index.gate(paths[trouble.where], at=0.5 if trouble.where == "page" else None)
    else:
        index.fault(paths[trouble.where], trouble.fault, times=trouble.times)
    return paths[trouble.where]


class Scene(NamedTuple):
    """One run over an upstream with every trouble of a list, one project each."""

    mirror: Mirror
    upstream: FakeIndex
    result: Result
    paths: dict[str, str]
    reasons: dict[str, str]  # of the projects that failed, as status gives them


@pytest.fixture(scope="module", params=each_in_one_process("overcome", TRANSPORTS))
def overcome(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scenario(request.param, tmp_path_factory.mktemp("home")) as (mirror, index):
        add(index, "well", None)
        paths = {project: add(index, project, trouble) for project, trouble in (OVERCOME | HARMLESS).items()}
        index.fault("/simple/", faults.chunked())
        yield Scene(mirror, index, mirror.run(), paths, mirror.failures())


@pytest.mark.case(35, 41, 43)
def test_a_run_through_passing_troubles_mirrors_everything_and_reports_no_failure(overcome: Scene) -> None:
    assert (overcome.result.status, overcome.result.stderr) == (0, "")
    assert check_tree(overcome.mirror.web, "hashed", overcome.upstream) == []


@pytest.mark.case(35, 41, 43)
@pytest.mark.parametrize("project", [*OVERCOME, *HARMLESS])
def test_what_fails_is_asked_for_again_and_only_as_often_as_needed(
    overcome: Scene, project: str, record_property: Recorder
) -> None:
    asked = len(requests_for(overcome.upstream, overcome.paths[project]))
    assert asked == (OVERCOME | HARMLESS)[project].requests
    record_property("fault", f"transfer, {project}: mirrored by request {asked}")


# What no try overcomes ------------------------------------------------------------------------------------

TRIES = 4
REDIRECTS = 4
FATAL = {
    "page-always-500": Trouble("page", faults.status(500), None, TRIES, "page: HTTP status 500"),
    "page-always-reset": Trouble("page", faults.reset(), None, None, "page: .+"),
    "page-hangs": Trouble("page", None, None, TRIES, "page: .*(stalled|timed out)"),
    "page-redirects-for-ever": Trouble("page", faults.redirect_loop(), None, REDIRECTS + 1, "page: .*redirect"),
    "page-leads-to-a-file": Trouble("page", faults.redirect("file:///etc/hostname"), None, 1, "another protocol"),
    "page-leads-to-ftp": Trouble("page", faults.redirect("ftp://127.0.0.1/"), None, 1, "another protocol"),
    "page-is-a-gzip-bomb": Trouble("page", faults.gzip_bomb(320 << 20), None, 1, "page: larger than allowed"),
    "file-always-502": Trouble("file", faults.status(502), None, TRIES, "HTTP status 502"),
    "file-always-truncated": Trouble("file", faults.truncate(0.5), None, TRIES, "1.0.tar.gz: .+"),
    "file-hangs": Trouble("file", None, None, TRIES, "(stalled|timed out)"),
    "file-redirects-for-ever": Trouble("file", faults.redirect_loop(), None, REDIRECTS + 1, "redirect"),
    "file-leads-to-a-file": Trouble("file", faults.redirect("file:///etc/hostname"), None, 1, "another protocol"),
    "file-leads-to-no-address": Trouble("file", faults.redirect("http://[::"), None, None, "1.0.tar.gz: .+"),
    "file-is-too-long": Trouble("file", faults.extra(), None, 1, "larger than allowed|wrong size"),
    "file-is-too-long-unannounced": Trouble("file", faults.no_length(b"more"), None, 1, "larger than allowed"),
    "file-is-endless": Trouble("file", faults.body(bytes(1 << 20)), None, 1, "larger than allowed"),
    "file-has-other-bytes": Trouble("file", faults.wrong_content(), None, None, "wrong sha256"),
    "file-is-gone": Trouble("file", faults.status(410), None, 1, "HTTP status 410"),
    "file-has-no-host": Trouble("file", faults.status(200), None, 0, "1.0.tar.gz: .*(refused|connect)"),
}


@pytest.fixture(scope="module", params=each_in_one_process("fatal", TRANSPORTS))
def fatal(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scenario(request.param, tmp_path_factory.mktemp("home")) as (mirror, index):
        add(index, "well", None)
        paths = {project: add(index, project, trouble) for project, trouble in FATAL.items()}
        index.set_file("file-has-no-host", "file-has-no-host-1.0.tar", keys={"url": "http://127.0.0.1:1/packages/x"})
        result = mirror.run(set={"timeout": "1"})
        yield Scene(mirror, index, result, paths, mirror.failures())


@pytest.mark.case(34, 41, 42)
def test_a_run_through_lasting_troubles_leaves_out_what_is_bad_and_brings_the_rest(fatal: Scene) -> None:
    assert fatal.result.status == 1
    absent = {project if trouble.where == "page" else f"{project}-1.0.tar.gz" for project, trouble in FATAL.items()}
    assert check_tree(fatal.mirror.web, "hashed", fatal.upstream, absent=absent) == []


@pytest.mark.case(34, 41)
@pytest.mark.parametrize("project", FATAL)
def test_what_fails_for_good_is_named_with_its_reason(fatal: Scene, project: str, record_property: Recorder) -> None:
    assert re.search(FATAL[project].reason, fatal.reasons[project])
    record_property("fault", f"transfer, {project}: left out, the rest published: {fatal.reasons[project]}")


@pytest.mark.case(34, 41)
@pytest.mark.parametrize("project", FATAL)
def test_what_fails_for_good_is_tried_a_few_times_and_what_is_refused_once(fatal: Scene, project: str) -> None:
    if FATAL[project].requests is not None:
        assert len(requests_for(fatal.upstream, fatal.paths[project])) == FATAL[project].requests


@pytest.mark.case(36)
@pytest.mark.usefixtures("transport")
def test_core_metadata_of_no_sane_size_is_not_taken(mirror: Mirror, index: FakeIndex) -> None:
    huge = b"Metadata-Version: 2.1\n" + bytes(11 << 20)
    index.add_file("six", "six-1.0-py3-none-any.whl", metadata=huge)
    assert mirror.run().status == 1
    assert "six-1.0-py3-none-any.whl.metadata: larger than allowed" in mirror.failures()["six"]
    (wheel,) = mirror.web.rglob("six-1.0*")
    assert wheel.suffix == ".whl"


# What is too large to begin anew ---------------------------------------------------------------------------

BIG = random.Random(1).randbytes(5 << 20)


@pytest.fixture
def big(index: FakeIndex) -> FakeFile:
    return index.add_file("big", "big-1.0.tar.gz", content=BIG)


def partials(mirror: Mirror) -> Path:
    return mirror.directory / ".fastmirror" / "staging" / "partial"


def partial_of(mirror: Mirror, file: FakeFile) -> Path:
    return partials(mirror) / file.sha256


def plant(mirror: Mirror, file: FakeFile, content: bytes) -> None:
    """Put down what an earlier run might have left of a file."""
    path = partial_of(mirror, file)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)


def until(happened: Callable[[], bool], timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def kill(process: subprocess.Popen[str]) -> None:
    """End a command and its workers at once; they are gone when this returns, for they hold its streams."""
    end_group(process, signal.SIGKILL)
    process.communicate()


def assert_mirrored(mirror: Mirror, index: FakeIndex) -> None:
    assert check_tree(mirror.web, "hashed", index) == []
    assert list(partials(mirror).iterdir()) == []


def assert_resumed(first: Record, second: Record, file: FakeFile) -> None:
    """The second try asks for the rest alone."""
    assert "range" not in first.headers
    start = int(second.headers["range"].removeprefix("bytes=").removesuffix("-"))
    assert 0 <= first.sent - start <= CHUNK_BYTES
    assert (second.status, second.sent) == (206, file.size - start)


@pytest.mark.case(33)
@pytest.mark.usefixtures("transport")
def test_a_large_file_goes_on_where_its_connection_broke(mirror: Mirror, index: FakeIndex, big: FakeFile) -> None:
    index.fault(big.path, faults.truncate(0.6), times=1)
    assert mirror.run().status == 0
    first, second = requests_for(index, big.path)
    assert_resumed(first, second, big)
    assert_mirrored(mirror, index)


@pytest.mark.case(33)
@pytest.mark.usefixtures("transport")
def test_a_large_file_goes_on_in_the_run_after_one_that_was_killed(
    mirror: Mirror, index: FakeIndex, big: FakeFile
) -> None:
    gate = index.gate(big.path, at=0.6, times=1)
    process = mirror.start()
    gate.wait()
    until(lambda: partial_of(mirror, big).exists() and partial_of(mirror, big).stat().st_size >= 1 << 20)
    kill(process)
    gate.open()
    held = partial_of(mirror, big).stat().st_size
    assert mirror.run().status == 0
    _, second = requests_for(index, big.path)
    assert (second.headers["range"], second.status, second.sent) == (f"bytes={held}-", 206, big.size - held)
    assert_mirrored(mirror, index)


@pytest.mark.case(33)
@pytest.mark.usefixtures("transport")
def test_a_large_file_goes_on_in_the_run_after_one_that_failed(mirror: Mirror, index: FakeIndex, big: FakeFile) -> None:
    index.fault(big.path, faults.truncate(0.6), times=1)
    index.fault(big.path, faults.status(403), times=1, skip=1)
    assert mirror.run().status == 1
    assert check_tree(mirror.web, "hashed", index, absent={big.filename}) == []
    assert mirror.run().status == 0
    first, refused, second = requests_for(index, big.path)
    assert refused.status == 403
    assert_resumed(first, second, big)
    assert_mirrored(mirror, index)


@pytest.mark.case(33)
@pytest.mark.usefixtures("transport")
def test_a_server_that_knows_no_ranges_sends_the_whole_again(mirror: Mirror, index: FakeIndex, big: FakeFile) -> None:
    index.fault(big.path, faults.truncate(0.6), times=1)
    index.fault(big.path, faults.no_range())
    assert mirror.run().status == 0
    _, second = requests_for(index, big.path)
    assert (second.status, second.sent) == (200, big.size)
    assert_mirrored(mirror, index)


@pytest.mark.case(33)
@pytest.mark.usefixtures("transport")
def test_a_partial_that_is_whole_is_not_fetched_again(mirror: Mirror, index: FakeIndex, big: FakeFile) -> None:
    """As a run leaves it that ends between a large file's last byte and its final name."""
    plant(mirror, big, BIG)
    assert mirror.run().status == 0
    (record,) = requests_for(index, big.path)
    assert (record.status, record.sent) == (416, 0)
    assert_mirrored(mirror, index)


REFUSED_RANGES = {
    "another-range": (BIG[: 2 << 20], faults.wrong_content_range(), 206),
    "a-range-without-bounds": (BIG[: 2 << 20], faults.header("Content-Range", None), 206),
    "a-nonsensical-range": (BIG[: 2 << 20], faults.header("Content-Range", "bytes all/some"), 206),
    "no-range-there": (BIG + b"more than there is", None, 416),
    "corrupt-bytes": (bytes(2 << 20), None, 206),
    "corrupt-bytes-to-the-end": (bytes(5 << 20), None, 416),
    "another-size": (BIG[: 2 << 20], faults.extra(), 206),
}


@pytest.mark.case(33)
@pytest.mark.usefixtures("transport")
@pytest.mark.parametrize("case", REFUSED_RANGES)
def test_a_partial_that_leads_nowhere_is_fetched_once_more_from_the_start(
    mirror: Mirror, index: FakeIndex, big: FakeFile, case: str, record_property: Recorder
) -> None:
    record_property("fault", f"resumed transfer, {case}: fetched once more from the first byte")
    content, fault, status = REFUSED_RANGES[case]
    plant(mirror, big, content)
    if fault is not None:
        index.fault(big.path, fault, times=1)
    assert mirror.run().status == 0
    first, second = requests_for(index, big.path)
    assert (first.headers["range"], first.status) == (f"bytes={len(content)}-", status)
    assert ("range" in second.headers, second.status, second.sent) == (False, 200, big.size)
    assert_mirrored(mirror, index)


@pytest.mark.case(32)
@pytest.mark.usefixtures("transport")
def test_bad_bytes_of_a_large_file_leave_no_partial_for_the_next_run(
    mirror: Mirror, index: FakeIndex, big: FakeFile
) -> None:
    index.fault(big.path, faults.wrong_content(), times=1)
    assert mirror.run().status == 1
    assert list(partials(mirror).iterdir()) == []
    assert mirror.run().status == 0
    assert ["range" in record.headers for record in requests_for(index, big.path)] == [False, False]
    assert_mirrored(mirror, index)


# Stalls, ways and limits -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("transport")
@pytest.mark.parametrize("where", ["page", "file"])
def test_a_transfer_that_only_drips_is_ended_and_begun_anew(mirror: Mirror, index: FakeIndex, where: str) -> None:
    index.add_file("first", "first-1.0-py3-none-any.whl", metadata=METADATA)
    dripping = index.add_file("slow", "slow-1.0.tar.gz", content=BIG[:5000])
    path = dripping.path if where == "file" else "/simple/slow/"
    index.fault(path, faults.drip(1, 0.05), times=1)
    assert mirror.run(set={"timeout": "1"}, timeout_s=20).status == 0
    assert len(requests_for(index, path)) == 2
    assert check_tree(mirror.web, "hashed", index) == []


@pytest.mark.usefixtures("transport")
def test_within_a_rate_every_file_arrives_whole(mirror: Mirror, index: FakeIndex) -> None:
    for number in range(4):
        index.add_file(f"some-{number}", f"some_{number}-1.0.tar.gz", content=BIG[number << 19 : (number + 1) << 19])
    assert mirror.run(set={"max-rate": "2M", "timeout": "1"}).status == 0
    assert check_tree(mirror.web, "hashed", index) == []


@pytest.mark.usefixtures("transport")
def test_with_a_proxy_nothing_goes_another_way(mirror: Mirror, index: FakeIndex) -> None:
    index.add_file("six", "six-1.0-py3-none-any.whl", metadata=METADATA)
    proxy = index.url.replace("//", "//me:hunter2@")
    result = mirror.run(set={"proxy": proxy, "master": "http://index.invalid"})
    assert (result.status, result.stderr) == (0, "")
    assert check_tree(mirror.web, "hashed", index) == []
    assert {record.proxied for record in index.requests} == {True}
    assert {record.headers.get("proxy-authorization") for record in index.requests} == {"Basic bWU6aHVudGVyMg=="}
    log = (mirror.directory / ".fastmirror" / "log" / "fastmirror.log").read_text()
    assert "hunter2" not in result.stdout + result.stderr + log


@pytest.mark.case(41)
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_credentials_go_to_the_index_and_to_no_other_host(tmp_path: Path, transport: str) -> None:
    with scenario(transport, tmp_path) as (mirror, index):
        index.credentials = ("me", "hunter2")
        mirror.master = index.url.replace("//", "//me:hunter2@")
        index.add_file("six", "six-1.0-py3-none-any.whl", metadata=METADATA)
        index.add_file("led-away", "led_away-1.0.tar.gz", keys={"url": f"{index.url}/away"})
        index.fault("/away", faults.redirect(f"{index.file_host}/elsewhere"))
        assert mirror.run().status == 1  # there is nothing elsewhere
        asked = {(record.side, "authorization" in record.headers) for record in index.requests}
        assert asked == {("index", True), ("files", False)}
        assert "/elsewhere" in index.paths()


@pytest.mark.case(41)
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_nothing_leads_from_https_to_http(
    tmp_path: Path, index: FakeIndex, transport: str, certificate: tuple[Path, Path]
) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*certificate)
    with FakeIndex(tls=tls) as secure:
        for project in ("page", "file", "well"):
            secure.add_file(project, f"{project}-1.0.tar.gz")
            index.add_file(project, f"{project}-1.0.tar.gz")
        secure.fault("/simple/page/", faults.redirect(f"{index.url}/simple/page/"))
        secure.fault("/packages/*/file-1.0.tar.gz", faults.redirect(f"{index.url}/packages/file-1.0.tar.gz"))
        mirror = Mirror(tmp_path, secure.url)
        assert mirror.run(set={"transport": transport, "ca-bundle": certificate[0]}).status == 1
        assert sorted(mirror.failures()) == ["file", "page"]
        assert all("redirected to another protocol" in reason for reason in mirror.failures().values())
        assert check_tree(mirror.web, "hashed", secure, absent={"file-1.0.tar.gz", "page"}) == []
        mirror.close()
    assert index.requests == []


# Throttling ------------------------------------------------------------------------------------------------


@pytest.mark.case(43)
@pytest.mark.usefixtures("transport")
def test_an_upstream_that_asks_for_less_gets_it_and_nothing_fails(mirror: Mirror, index: FakeIndex) -> None:
    index.add_file("first", "first-1.0-py3-none-any.whl", metadata=METADATA)
    index.fill(150, seed=3, files=1)
    index.fault("/simple/?*", faults.throttle(0.4, seed=1, retry_after=None, most=TRIES - 1), times=50, skip=20)
    index.fault("/packages/*", faults.throttle(0.4, seed=2, retry_after=1, most=TRIES - 1), times=50, skip=20)
    assert mirror.run().status == 0
    assert check_tree(mirror.web, "hashed", index) == []
    refused = sum(record.status == 429 for record in index.requests)
    assert refused > 20
    served = {record.path for record in index.requests}
    assert len(index.requests) == len(served) + refused
