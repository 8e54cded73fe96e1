"""The fake index keeps PyPI's manners, and lies only when told to."""

from __future__ import annotations

import argparse
import contextlib
import gzip
import hashlib
import http.client
import json
import re
import subprocess
import sys
import zlib
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from tests.fakes import faults
from tests.fakes.by_hand import EPILOG, KINDS, fault_argument
from tests.fakes.index import FakeIndex
from tests.fakes.pages import HTML_TYPE, HTML_V1_TYPE, JSON_TYPE

if TYPE_CHECKING:
    from collections.abc import Iterator

SIX = "six-1.0-py3-none-any.whl"


@pytest.fixture
def index() -> Iterator[FakeIndex]:
    with FakeIndex(file_host=True) as index:
        index.add_file("six", SIX, metadata=b"Metadata-Version: 2.1\n", provenance={"version": 1})
        index.add_project("Foo.Bar")
        yield index


class Reply:
    def __init__(self, response: http.client.HTTPResponse, content: bytes) -> None:
        self.status, self.headers, self.content = response.status, response.headers, content

    @property
    def document(self) -> Any:
        return json.loads(self.content)


def get(base: str, path: str, *, method: str = "GET", accept: str = JSON_TYPE, **headers: str) -> Reply:
    connection = http.client.HTTPConnection(urlsplit(base).netloc, timeout=10)
    try:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, headers={"Accept": accept, **sent})
        response = connection.getresponse()
        return Reply(response, response.read())
    finally:
        connection.close()


def test_root_index_is_sorted_by_normalised_name_and_carries_serials(index: FakeIndex) -> None:
    reply = get(index.url, "/simple/")
    assert reply.document["projects"] == [
        {"_last-serial": index.serial, "name": "Foo.Bar"},
        {"_last-serial": index.serial - 1, "name": "six"},
    ]
    assert reply.document["meta"] == {"_last-serial": index.serial, "api-version": "1.4"}
    assert reply.headers["X-PyPI-Last-Serial"] == str(index.serial)


@pytest.mark.parametrize(
    ("accept", "answered"),
    [
        (JSON_TYPE, JSON_TYPE),
        (f"{JSON_TYPE}, {HTML_V1_TYPE};q=0.2, text/html;q=0.01", JSON_TYPE),
        (HTML_V1_TYPE, HTML_V1_TYPE),
        ("*/*", HTML_TYPE),
        ("image/png", HTML_TYPE),
    ],
)
def test_format_follows_accept(index: FakeIndex, accept: str, answered: str) -> None:
    for path in ("/simple/", "/simple/six/"):
        assert get(index.url, path, accept=accept).headers.get_content_type() == answered


def test_unchanged_pages_answer_304_until_a_change(index: FakeIndex) -> None:
    for path in ("/simple/", "/simple/six/", "/pypi/six/json"):
        etag = get(index.url, path).headers["ETag"]
        assert get(index.url, path, If_None_Match=etag).status == 304
        index.touch("six")
        assert get(index.url, path, If_None_Match=etag).status == 200


def test_pages_are_packed_when_asked(index: FakeIndex) -> None:
    packed, plain = (get(index.url, "/simple/six/", Accept_Encoding=way) for way in ("gzip", "identity"))
    assert gzip.decompress(packed.content) == plain.content
    assert packed.headers["ETag"] != plain.headers["ETag"]


@pytest.mark.parametrize(
    ("path", "target"),
    [("/simple", "/simple/"), ("/simple/six", "/simple/six/"), ("/simple/Foo.Bar/", "/simple/foo-bar/")],
)
def test_other_spellings_are_redirected(index: FakeIndex, path: str, target: str) -> None:
    reply = get(index.url, path)
    assert (reply.status, reply.headers["Location"]) == (301, target)


def test_file_and_metadata_are_what_the_page_says(index: FakeIndex) -> None:
    entry = get(index.url, "/simple/six/").document["files"][0]
    host, path = entry["url"].split("/packages/")
    assert host == index.file_host != index.url
    content = get(host, f"/packages/{path}").content
    assert hashlib.sha256(content).hexdigest() == entry["hashes"]["sha256"]
    assert len(content) == entry["size"]
    assert path.split("/")[:3] == _split(hashlib.blake2b(content, digest_size=32).hexdigest())
    metadata = get(host, f"/packages/{path}.metadata").content
    assert hashlib.sha256(metadata).hexdigest() == entry["core-metadata"]["sha256"]
    assert get(index.url, entry["provenance"].removeprefix(index.url)).document == {"version": 1}


def _split(digest: str) -> list[str]:
    return [digest[:2], digest[2:4], digest[4:]]


def test_parts_of_files_are_served(index: FakeIndex) -> None:
    file = index.add_file("six", "six-1.1.tar.gz", content=b"0123456789")
    part = get(index.file_host, file.path, Range="bytes=4-")
    assert (part.status, part.content, part.headers["Content-Range"]) == (206, b"456789", "bytes 4-9/10")
    assert get(index.file_host, file.path, Range="bytes=2-3").content == b"23"
    assert get(index.file_host, file.path, Range="bytes=10-").status == 416
    index.fault(file.path, faults.no_range(), times=1)
    assert get(index.file_host, file.path, Range="bytes=4-").status == 200
    index.fault(file.path, faults.wrong_content_range(), times=1)
    assert get(index.file_host, file.path, Range="bytes=4-").headers["Content-Range"] == "bytes 5-10/10"


def test_changes_bump_serials_as_on_pypi(index: FakeIndex) -> None:
    before = index.serial
    index.archive("six")
    assert index.serial == before
    assert get(index.url, "/simple/six/").document["project-status"] == {"status": "archived"}
    index.set_yanked("six", SIX, "broken")
    assert index.serial == before + 1
    index.quarantine("six")
    page = get(index.url, "/simple/six/").document
    assert (page["project-status"]["status"], page["files"]) == ("quarantined", [])
    assert page["meta"]["_last-serial"] == before + 2
    assert "six" not in index.projects()
    index.clear_quarantine("six")
    assert get(index.url, "/simple/six/").document["files"][0]["yanked"] == "broken"
    index.remove_project("six")
    assert get(index.url, "/simple/six/").status == 404


def test_legacy_api_answers_only_for_projects_with_files(index: FakeIndex) -> None:
    document = get(index.url, "/pypi/Six/json").document
    assert document["last_serial"] == index.serial - 1
    assert [file["filename"] for file in document["releases"]["1.0"]] == [SIX]
    assert get(index.url, "/pypi/foo-bar/json").status == 404
    index.legacy = False
    assert get(index.url, "/pypi/six/json").status == 404


def test_dialects_without_serials_say_none(index: FakeIndex) -> None:
    index.dialect = "json-no-serials"
    for path in ("/simple/", "/simple/six/"):
        reply = get(index.url, path)
        assert b"_last-serial" not in reply.content
        assert "X-PyPI-Last-Serial" not in reply.headers
    index.dialect = "html"
    reply = get(index.url, "/simple/six/")
    assert reply.headers.get_content_type() == HTML_TYPE
    assert b"SERIAL" not in reply.content
    assert f"/{SIX}#sha256=".encode() in reply.content


def test_stale_page_is_the_one_before_the_last_change(index: FakeIndex) -> None:
    fresh = get(index.url, "/simple/six/").document
    index.add_file("six", "six-2.0.tar.gz")
    index.fault("/simple/six/", faults.stale(), times=1)
    assert get(index.url, "/simple/six/").document == fresh
    assert get(index.url, "/simple/six/").document["versions"] == ["1.0", "2.0"]


def test_faults_count_their_requests(index: FakeIndex) -> None:
    rule = index.fault("/simple/?*", faults.status(503, retry_after=2), times=2, skip=1)
    statuses = [get(index.url, "/simple/six/").status for _ in range(4)]
    assert (statuses, rule.hits) == ([200, 503, 503, 200], 2)
    assert get(index.url, "/simple/").status == 200


def test_faults_may_harm_one_of_the_forms_that_caches_keep_apart(index: FakeIndex) -> None:
    for packed, statuses in ((True, [503, 200]), (False, [200, 503])):
        index.fault("/simple/six/", faults.status(503), packed=packed)
        replies = [get(index.url, "/simple/six/", Accept_Encoding=form) for form in ("gzip", "identity")]
        assert [reply.status for reply in replies] == statuses
        index.clear_faults()


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (faults.reset(), ConnectionResetError),
        (faults.hang_up(), http.client.RemoteDisconnected),
        (faults.truncate(0.5), http.client.IncompleteRead),
        (faults.reset(after=4), (ConnectionResetError, http.client.IncompleteRead)),
    ],
)
def test_connections_break(index: FakeIndex, fault: faults.Fault, error: type[Exception]) -> None:
    index.fault("/simple/six/", fault)
    with pytest.raises(error):
        get(index.url, "/simple/six/")


def test_bodies_lie(index: FakeIndex) -> None:
    file = index.add_file("six", "six-1.2.tar.gz", content=b"0123456789")
    spoilt = {}
    for fault in (faults.wrong_content(), faults.no_length(b"+"), faults.extra(b"-"), faults.drip(3, 0.001)):
        index.fault(file.path, fault, times=1)
        spoilt[fault] = get(index.file_host, file.path)
    wrong, no_length, extra, drip = spoilt.values()
    assert wrong.content != b"0123456789"
    assert len(wrong.content) == 10
    assert (no_length.content, no_length.headers["Content-Length"]) == (b"0123456789+", None)
    assert extra.content == b"0123456789-"
    assert drip.content == b"0123456789"


def test_pages_lie_in_both_formats(index: FakeIndex) -> None:
    index.fault("/simple/six/", faults.alter_files(url="/packages/../../etc/passwd", core_metadata=True))
    entry = get(index.url, "/simple/six/").document["files"][0]
    assert (entry["url"], entry["core-metadata"]) == ("/packages/../../etc/passwd", True)
    assert b'data-core-metadata="true"' in get(index.url, "/simple/six/", accept="text/html").content


def test_gzip_bomb_is_small_and_true(index: FakeIndex) -> None:
    index.fault("/simple/", faults.gzip_bomb(64 << 20))
    content = get(index.url, "/simple/").content
    assert len(content) < 1 << 20
    assert zlib.decompress(content, 31) == bytes(64 << 20)


def test_gate_holds_a_request_in_its_middle(index: FakeIndex) -> None:
    file = index.add_file("six", "six-1.3.tar.gz", content=bytes(1000))
    gate = index.gate(file.path, at=0.5)
    connection = http.client.HTTPConnection(urlsplit(index.file_host).netloc, timeout=10)
    connection.request("GET", file.path)
    response = connection.getresponse()
    gate.wait(1)
    assert (len(response.read(500)), index.requests[-1].sent) == (500, 500)
    gate.open()
    assert len(response.read()) == 500
    connection.close()


def test_requests_are_recorded_in_order(index: FakeIndex) -> None:
    get(index.url, "/simple/?format=x", User_Agent="me")
    get(index.url, "/simple/none/")
    first, second = index.requests
    assert (first.path, first.query, first.headers["user-agent"], first.status) == ("/simple/", "format=x", "me", 200)
    assert (second.status, index.paths("/simple/")) == (404, ["/simple/", "/simple/none/"])
    index.clear_requests()
    assert index.requests == []


def test_credentials_are_asked_for_by_the_index_alone(index: FakeIndex) -> None:
    index.credentials = ("me", "secret")
    file = index.add_file("six", "six-1.4.tar.gz")
    assert get(index.url, "/simple/").status == 401
    assert get(index.url, "/simple/", Authorization="Basic bWU6c2VjcmV0").status == 200
    assert get(index.file_host, file.path).status == 200


def test_index_is_started_by_hand() -> None:
    command = [sys.executable, "-m", "tests.fakes.index", "--projects", "3", "--fault", "/simple/=status:500"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert get(process.stdout.readline().strip(), "/simple/").status == 500
        finally:
            process.kill()


@pytest.mark.parametrize("kind", KINDS)
def test_every_fault_can_be_told_by_hand_and_is_explained(index: FakeIndex, kind: str) -> None:
    glob, fault = fault_argument(f"/simple/*={kind}")
    rule = index.fault(glob, fault)
    for path in ("/simple/", "/simple/six/"):
        with contextlib.suppress(OSError, http.client.HTTPException):
            get(index.url, path)
    assert rule.hits == 2
    assert re.search(rf"^  {kind} +\S", EPILOG, re.MULTILINE)


def test_a_root_index_shrinks_to_its_first_projects_by_hand(index: FakeIndex) -> None:
    index.fault(*fault_argument("/simple/=first-projects:1"))
    assert [entry["name"] for entry in get(index.url, "/simple/").document["projects"]] == ["Foo.Bar"]


def test_a_fault_that_is_none_is_refused_with_those_that_are() -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"not GLOB=KIND.*status, throttle, reset"):
        fault_argument("/simple/=unkind")
