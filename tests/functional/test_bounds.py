"""What bounds a transfer: its size, its time, the hosts that files come from, and the wait that upstream asks for."""

from __future__ import annotations

import random
import ssl
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from fastmirror.closure import Closure
from fastmirror.discovery import Discovery
from fastmirror.errors import SettingsError
from fastmirror.filetree import FileTree
from fastmirror.filters import Filters
from fastmirror.layout import Layout, Tree
from fastmirror.model import ProjectJob
from fastmirror.names import NormalizedName
from fastmirror.pages import Context
from fastmirror.settings_file import parse_settings
from fastmirror.transport.control import ControlLane
from fastmirror.upstream import Dialect, root_request
from fastmirror.worker import run_inline
from tests.fakes import faults
from tests.fakes.index import FakeIndex
from tests.published import stamps
from tests.tree import check_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import Mirror

WHEEL = "six-1.0-py3-none-any.whl"
BIG = random.Random(1).randbytes(5 << 20)


@pytest.fixture(params=("curl", "requests"))
def transport(request: pytest.FixtureRequest, mirror: Mirror) -> str:
    mirror.settings["transport"] = request.param
    return str(request.param)


# Size -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("transport")
@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("max-page-size", "page: larger than allowed (100 bytes)"),
        ("max-metadata-size", f"{WHEEL}.metadata: larger than allowed (100 bytes)"),
        ("max-file-size", f"{WHEEL}: larger than allowed (100 bytes)"),
    ],
)
def test_a_body_over_its_limit_is_refused_and_within_it_taken(
    mirror: Mirror, index: FakeIndex, key: str, reason: str
) -> None:
    index.add_file("six", WHEEL, content=BIG[:101], metadata=BIG[:101], keys={"size": None})
    assert mirror.run(set={key: "100"}).status == 1
    assert mirror.failures() == {"six": reason}
    assert mirror.run("--retry-failed", set={key: "10k"}).status == 0
    assert check_tree(mirror.web, "hashed", index) == []


def test_a_root_index_over_its_limit_is_no_root_index(mirror: Mirror, index: FakeIndex) -> None:
    index.add_file("six", WHEEL)
    result = mirror.run(set={"max-root-size": "50"})
    assert result.status == 5
    assert "root index cannot be read: larger than allowed (50 bytes)" in result.stderr


@pytest.mark.parametrize("kind", ["lists", "names", "links"])
def test_a_root_index_that_would_take_too_much_memory_is_no_root_index(
    mirror: Mirror, index: FakeIndex, kind: str
) -> None:
    index.dialect = "html" if kind == "links" else "json"
    index.add_file("six", WHEEL)
    assert mirror.run().status == 0
    body = {
        "lists": b'{"projects":[' + b",".join([b"[]"] * 400_000) + b"]}",
        "names": b'{"projects":[' + b",".join(b'{"name":"a%d"}' % number for number in range(100_000)) + b"]}",
        "links": b"<!DOCTYPE html>" + b"".join(b'<a href="a%d/">' % number for number in range(80_000)),
    }[kind]
    assert len(body) > 1 << 20
    index.fault(
        "/simple/", faults.body(body, "text/html" if kind == "links" else "application/vnd.pypi.simple.v1+json")
    )
    before = stamps(mirror.web)
    result = mirror.run(set={"max-root-memory": "16M"})
    assert result.status == 5
    assert "root index takes more memory than allowed (16777216 bytes, hint: max-root-memory)" in result.stderr
    assert stamps(mirror.web) == before


@pytest.mark.parametrize("key", [f"max-{what}" for what in ("page-size", "root-size", "root-memory", "file-size")])
def test_a_limit_of_nothing_is_refused(key: str) -> None:
    with pytest.raises(SettingsError, match=rf"FILE:3: \[mirror\] {key}: '0': expected a size above 0"):
        parse_settings(f"[mirror]\ndirectory = /srv/pypi\n{key} = 0\n", source="FILE")


# Time -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("transport")
def test_a_file_that_takes_too_long_is_gone_on_with_by_the_next_try(mirror: Mirror, index: FakeIndex) -> None:
    file = index.add_file("big", "big-1.0.tar.gz", content=BIG)
    index.gate(file.path, at=0.6, times=1)
    assert mirror.run(set={"timeout": "60", "global-timeout": "2"}).status == 0
    _, second = [record for record in index.requests if record.path == file.path]
    assert (second.status, second.sent < 0.5 * file.size) == (206, True)
    assert check_tree(mirror.web, "hashed", index) == []


@pytest.mark.usefixtures("transport")
def test_a_page_that_takes_too_long_is_asked_for_again(mirror: Mirror, index: FakeIndex) -> None:
    index.add_file("six", WHEEL)
    index.fault("/simple/six/", faults.drip(20, 0.5), times=1)
    assert mirror.run(set={"timeout": "60", "global-timeout": "1"}).status == 0
    assert index.paths("/simple/six/") == ["/simple/six/"] * 2


@pytest.mark.parametrize(
    ("value", "seconds"), [("", None), ("0", None), ("0.0", None), ("1800", 1800.0), ("2.5", 2.5), ("5h", 18000.0)]
)
def test_global_timeout_is_none_unless_it_is_more_than_0(value: str, seconds: float | None) -> None:
    settings = parse_settings(f"[mirror]\ndirectory = /srv/pypi\nglobal-timeout = {value}\n")
    assert settings.upstream.longest_transfer_s == seconds


def test_a_root_index_is_asked_for_again_when_upstream_says(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path, index: FakeIndex
) -> None:
    caplog.set_level("INFO", "fastmirror.discovery")
    waits: list[float] = []
    monkeypatch.setattr("fastmirror.discovery.time.sleep", waits.append)
    index.add_file("six", WHEEL)
    index.fault("/simple/", faults.status(503, retry_after=7), times=1)
    index.fault("/simple/", faults.status(503, retry_after=100_000), times=1, skip=1)
    index.fault("/simple/", faults.status(500, retry_after=7), times=1, skip=2)
    settings = parse_settings(None, overrides={"directory": str(tmp_path), "master": index.url})
    control = ControlLane(settings)
    filters = Filters(settings.filters)
    closure = Closure(settings.filters, filters, None, (), "")
    root = Discovery(settings, filters, None, control, str(tmp_path), closure).fetch_root(trust_cache=False)
    assert (root.reply.status, waits) == (200, [7.0, 300.0, 4.0])
    told = [record.getMessage().partition(": ")[2] for record in caplog.records]
    assert told[:2] == [f"HTTP status 503, trying again in {seconds} s" for seconds in (7, 300)]


@pytest.mark.parametrize("transport", ["curl", "requests"])
def test_a_root_index_that_drips_is_not_waited_for_beyond_the_time_of_the_run(
    transport: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, index: FakeIndex
) -> None:
    monkeypatch.setattr("fastmirror.transport.control._SHORTEST_S", 0.5)
    index.add_file("six", WHEEL)
    index.fault("/simple/", faults.drip(1, 0.2))
    overrides = {"directory": str(tmp_path), "master": index.url, "allow-non-https": "true", "transport": transport}
    settings = parse_settings(None, overrides=overrides)
    reply = ControlLane(settings, time.monotonic()).get(root_request(index.url, None, "", 1 << 20))
    assert (reply.error != "", reply.retryable) == (True, True)


def test_one_request_of_the_control_lane_may_take_an_hour_and_a_minute_where_the_run_s_time_is_over() -> None:
    settings = parse_settings(None, overrides={"directory": "/srv/pypi"})
    assert ControlLane(settings).left_s == 3600
    assert ControlLane(settings, time.monotonic() - 10).left_s == 60
    assert 590 < ControlLane(settings, time.monotonic() + 600).left_s <= 600


# Hosts ----------------------------------------------------------------------------------------------------


@pytest.mark.case(40, 41)
@pytest.mark.usefixtures("transport")
def test_files_come_from_no_other_hosts_than_those_that_are_set(mirror: Mirror, index: FakeIndex) -> None:
    index.add_file("six", WHEEL, metadata=b"Metadata-Version: 2.1\n")
    assert mirror.run(set={"file-hosts": "files.example ::1"}).status == 1
    assert mirror.failures() == {"six": f"{WHEEL}: host refused, not among file-hosts: 127.0.0.1"}
    assert index.paths("/packages/") == []
    assert mirror.run("--retry-failed", set={"file-hosts": "files.example 127.0.0.1"}).status == 0
    assert check_tree(mirror.web, "hashed", index) == []


@pytest.mark.case(41)
@pytest.mark.usefixtures("transport")
@pytest.mark.parametrize(
    ("location", "status"),
    [
        ("http://localhost:{port}{path}", 1),
        ("//localhost:{port}{path}", 1),
        ("http:localhost:{port}{path}", 1),
        ("http://127.0.0.1@localhost:{port}{path}", 1),
        ("http://127.0.0.1\\@localhost:{port}{path}", 1),
        ("/\\localhost:{port}{path}", 1),
        ("HTTP://127.0.0.1:{port}{path}", 0),
        ("{path}", 0),
        ("?again", 0),
    ],
)
def test_no_redirect_of_a_file_leads_to_other_hosts_than_those_that_are_set(
    mirror: Mirror, index: FakeIndex, location: str, status: int, record_property: Callable[[str, object], None]
) -> None:
    file = index.add_file("six", WHEEL)
    place = location.format(port=index.url.rpartition(":")[2], path=file.path)
    index.fault(file.path, faults.redirect(place), times=1)
    assert mirror.run(set={"file-hosts": "127.0.0.1"}).status == status
    assert len(index.paths("/packages/")) == (2 if status == 0 else 1)
    if status:
        assert "redirected to a host that is not among file-hosts: " in mirror.failures()["six"]
    record_property("fault", f"file-hosts, a file redirected to {location}: {'refused' if status else 'followed'}")


def test_a_redirect_may_lead_to_another_host_that_is_set(mirror: Mirror, index: FakeIndex) -> None:
    file = index.add_file("six", WHEEL)
    index.fault(file.path, faults.redirect(f"{index.url.replace('127.0.0.1', 'localhost')}{file.path}"), times=1)
    assert mirror.run(set={"file-hosts": "127.0.0.1 localhost"}).status == 0


@pytest.mark.parametrize("value", ["https://files.example", "files.example:80", "a/b", "*"])
def test_what_is_no_host_is_refused(value: str) -> None:
    with pytest.raises(SettingsError, match=r"file-hosts: .* expected names of hosts, without scheme and port"):
        parse_settings(f"[mirror]\ndirectory = /srv/pypi\nfile-hosts = {value}\n")


@pytest.mark.case(41)
@pytest.mark.parametrize("transport", ["curl", "requests"])
@pytest.mark.parametrize(("mirrors", "taken"), [("", False), ("download-mirror", True)])
def test_an_http_file_of_an_https_index_is_not_asked_for_unless_a_mirror_has_it(
    tmp_path: Path, index: FakeIndex, transport: str, mirrors: str, taken: bool
) -> None:
    index.add_file("six", WHEEL)
    overrides = {"directory": str(tmp_path), "master": index.url, "transport": transport, "min-free": "0"}
    settings = parse_settings(None, overrides=overrides | ({mirrors: index.url} if mirrors else {}))
    strict = replace(settings, upstream=replace(settings.upstream, allow_non_https=False))
    storage = FileTree(str(tmp_path), None, durable=False)
    storage.prepare()
    tree = Tree(Layout.HASHED, hash_index=False)
    context = Context(strict, Dialect.JSON, tree, "s", clean=True, debug=False, plan_only=False)
    job = ProjectJob(NormalizedName("six"), None, None, wanted=False, force=False)
    (outcome,) = run_inline(context, [job])
    expected = (
        ("published", "") if taken else ("partial", f"{WHEEL}: http address refused (hint: allow-non-https = true)")
    )
    assert (outcome.status, outcome.reason) == expected
    assert bool(index.paths("/packages/")) is taken


# TLS ------------------------------------------------------------------------------------------------------


@pytest.fixture
def secure(certificate: tuple[Path, Path], mirror: Mirror) -> Iterator[FakeIndex]:
    """An upstream over TLS, whose certificate the mirror does not know yet."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*certificate)
    with FakeIndex(tls=tls) as index:
        mirror.master = index.url
        mirror.settings["allow-non-https"] = "false"
        yield index


@pytest.mark.usefixtures("transport")
def test_a_certificate_that_nobody_vouches_for_is_refused_until_it_is_in_the_bundle(
    mirror: Mirror, secure: FakeIndex, certificate: tuple[Path, Path], record_property: Callable[[str, object], None]
) -> None:
    secure.add_file("six", WHEEL, metadata=b"Metadata-Version: 2.1\n")
    refused = mirror.run("--project", "six")
    assert (refused.status, secure.paths()) == (5, [])
    assert "certificate" in refused.stderr
    assert mirror.run("--project", "six", set={"ca-bundle": certificate[0]}).status == 0
    assert check_tree(mirror.web, "hashed", secure) == []
    record_property("fault", "an upstream with an unknown certificate: exit 5, nothing asked; taken with ca-bundle")
