"""One suite of conformance for both servers, over every shape of tree: nginx as configured, and the small one."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

import pytest
import uvicorn

from fastmirror.errors import SettingsError
from fastmirror.layout import Layout, PageFormat, Tree, bucket, index_path, page_path, url_path
from fastmirror.names import NormalizedName
from fastmirror.serving import application, nginx_configuration, serve
from tests.nginx import around, free_port, running_nginx

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HASHED = Tree(Layout.HASHED, hash_index=False)
FLAT = Tree(Layout.FLAT, hash_index=False)
HASH_INDEX = Tree(Layout.FLAT, hash_index=True)
TREES = {"hashed": HASHED, "flat": FLAT, "hash-index": HASH_INDEX}

JSON = "application/vnd.pypi.simple.v1+json"
V1_HTML = "application/vnd.pypi.simple.v1+html"
PIP = f"{JSON}, {V1_HTML}; q=0.1, text/html; q=0.01"
UV = f"{JSON}, {V1_HTML};q=0.2, text/html;q=0.01"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
HTML_TYPE = "text/html; charset=utf-8"
V1_HTML_TYPE = f"{V1_HTML}; charset=utf-8"

PROJECTS = [NormalizedName(name) for name in ("six", "zope-interface", "3f", "a", "0", "x" * 200)]
HTML_ONLY = NormalizedName("html-only")
JSON_ONLY = NormalizedName("json-only")
HEX60 = "0123456789abcdef" * 3 + "0123456789ab"
ODD_NAMES = [
    "six-1.0+local.1.tar.gz",
    "epoch-1!2.0.tar.gz",
    "with space.zip",
    "ünïcode-1.zip",
    "per%cent%41.zip",
    "a&b=c?d#e;f.zip",
    "quote\"d'$project.zip",
    "~tilde-(1)[2]{3}.exe",
]
WHEEL = "six-1.0-py3-none-any.whl"
WHEEL_BYTES = random.Random(6).randbytes(300_000)
SECRET = b"not to be seen"
STEP = f"changes/{'0' * 32}-{'f' * 32}.json"


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def vary(self) -> set[str]:
        return {v.strip().lower() for v in ", ".join(self.headers.get_all("vary") or []).split(",")}


class Server(NamedTuple):
    port: int
    tree: Tree
    directory: Path

    def ask(self, url: str, method: str = "GET", **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        with closing(connection):
            connection.request(method, url, headers={name.replace("_", "-"): value for name, value in headers.items()})
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())

    def file_url(self, filename: str, *, pypi: bool = False) -> str:
        return "/" + quote(stored_path(self.tree, filename, pypi=pypi))


def stored_path(tree: Tree, filename: str, *, pypi: bool = False) -> str:
    if tree.layout is Layout.HASHED and not pypi:
        return f"packages/0ef/{filename}"
    return f"packages/0e/f1/{HEX60}/{filename}"


def page_text(name: str, page_format: PageFormat) -> bytes:
    if page_format is PageFormat.JSON:
        return json.dumps({"name": name, "padding": "p" * 2000}).encode()
    return f"<!DOCTYPE html><title>Links for {name} ü</title>{'p' * 2000}".encode()


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def build(directory: Path, tree: Tree) -> None:
    """A small mirror of its shape, with secrets where no server may look."""
    web = directory / "web"
    hashed = tree.layout is Layout.HASHED
    for page_format in PageFormat:
        write(web / index_path(page_format), page_text("", page_format))
        if hashed and page_format is PageFormat.V1_HTML:
            continue
        names = list(PROJECTS)
        if page_format is not PageFormat.JSON:
            names.append(HTML_ONLY)
        else:
            names.append(JSON_ONLY)
        for name in names:
            write(web / page_path(tree, name, page_format), page_text(name, page_format))
    for filename in ODD_NAMES:
        write(web / stored_path(tree, filename), filename.encode())
    write(web / stored_path(tree, WHEEL), WHEEL_BYTES)
    write(web / stored_path(tree, WHEEL + ".metadata"), b"Metadata-Version: 2.1\nName: six\n" * 100)
    write(web / "packages/aa/bb" / HEX60 / "taken-1.0.zip", b"the second of its name")
    if hashed:
        write(web / "packages/aab/taken-1.0.zip", b"the first of its name")
    write(web / (f"json/{bucket('six')}/six" if hashed else "json/six"), b'{"info": {"name": "six"}}')
    write(web / "last-modified", b"20261122T12:00:00\n")
    write(web / "changes/head.json", b'{"version":1}')
    write(web / STEP, b'{"removed":[]}')
    write(web / "status/mirror.json", b"{}")
    write(web / "status/index.html", b"<!doctype html>")
    for secret in (
        "secret",
        ".fastmirror/state.sqlite",
        "web/secret",
        "web/.secret",
        "web/simple/secret",
        "web/simple/.secret",
        "web/simple/six/.secret",
        "web/packages/.secret",
        "web/packages/0ef/.secret",
        "web/local-stats/secret",
        "web/changes/secret.json",
        "web2/secret",
    ):
        write(directory / secret, SECRET)


@contextmanager
def nginx_server(directory: Path, tree: Tree, home: Path) -> Iterator[Server]:
    port = free_port()
    state = directory / ".fastmirror" / "nginx"
    state.mkdir(parents=True, exist_ok=True)
    text = nginx_configuration(str(directory), tree, listen=f"127.0.0.1:{port}")
    with running_nginx(text, home, port, state / "access.log"):
        yield Server(port, tree, directory)


@contextmanager
def small_server(directory: Path, tree: Tree, home: Path) -> Iterator[Server]:
    config = uvicorn.Config(application(str(directory), tree), log_level="warning", lifespan="off")
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield Server(listener.getsockname()[1], tree, directory)
        finally:
            server.should_exit = True
            thread.join()


SERVERS = {"nginx": nginx_server, "small": small_server}


@pytest.fixture(scope="module", params=[f"{kind}-{shape}" for kind in SERVERS for shape in TREES])
def server(request, tmp_path_factory) -> Iterator[Server]:
    kind, _, shape = request.param.partition("-")
    directory = tmp_path_factory.mktemp("mirror")
    build(directory, TREES[shape])
    with SERVERS[kind](directory, TREES[shape], tmp_path_factory.mktemp("home")) as running:
        yield running


ACCEPTED = [
    (None, PageFormat.HTML, HTML_TYPE),
    ("*/*", PageFormat.HTML, HTML_TYPE),
    ("text/html", PageFormat.HTML, HTML_TYPE),
    (BROWSER, PageFormat.HTML, HTML_TYPE),
    ("application/json", PageFormat.HTML, HTML_TYPE),
    ("application/vnd.pypi.simple.v2+json", PageFormat.HTML, HTML_TYPE),
    (f"x{JSON}, {JSON}x", PageFormat.HTML, HTML_TYPE),
    (PIP, PageFormat.JSON, JSON),
    (UV, PageFormat.JSON, JSON),
    (JSON, PageFormat.JSON, JSON),
    (JSON.upper(), PageFormat.JSON, JSON),
    ("application/vnd.pypi.simple.latest+json", PageFormat.JSON, JSON),
    (f"text/html, {JSON}", PageFormat.JSON, JSON),
    (f"{JSON} ; q=1.000 , text/html;q=0.1", PageFormat.JSON, JSON),
    (f"text/html; q=0.01,{JSON};q=0.5", PageFormat.JSON, JSON),
    (f"text/html, {JSON};q=0.5", PageFormat.HTML, HTML_TYPE),
    (f"{JSON};q=0", PageFormat.HTML, HTML_TYPE),
    (f"{JSON};q=0.0, {V1_HTML}; q=0.3", PageFormat.V1_HTML, V1_HTML_TYPE),
    (V1_HTML, PageFormat.V1_HTML, V1_HTML_TYPE),
    (f"{V1_HTML}, text/html;q=0.1", PageFormat.V1_HTML, V1_HTML_TYPE),
    ("application/vnd.pypi.simple.latest+html", PageFormat.V1_HTML, V1_HTML_TYPE),
]


@pytest.mark.case(55)
@pytest.mark.parametrize(("accept", "page_format", "content_type"), ACCEPTED)
def test_accept_chooses_the_serialisation(server, accept, page_format, content_type):
    headers = {} if accept is None else {"Accept": accept}
    for name in ("", *PROJECTS):
        answer = server.ask(f"/simple/{name}/" if name else "/simple/", **headers)
        assert answer.status == 200
        assert answer.headers["content-type"] == content_type
        assert answer.body == page_text(name, page_format)
        assert "accept" in answer.vary()
        assert answer.headers["cache-control"] == "public, max-age=600"
        assert answer.headers["etag"]
        assert answer.headers["last-modified"]


def test_a_page_in_json_has_a_url_of_its_own(server):
    for name in PROJECTS:
        answer = server.ask(f"/simple/{name}/index.v1_json", Accept="text/html")
        assert (answer.status, answer.headers["content-type"]) == (200, JSON)
        assert answer.body == page_text(name, PageFormat.JSON)
    assert server.ask(f"/simple/{HTML_ONLY}/index.v1_json").status == 404


def test_a_serialisation_that_is_not_kept_gives_way_to_one_that_is(server):
    answer = server.ask(f"/simple/{HTML_ONLY}/", Accept=PIP)
    assert (answer.status, answer.headers["content-type"]) == (200, V1_HTML_TYPE)
    for accept in (V1_HTML, "text/html"):
        answer = server.ask(f"/simple/{JSON_ONLY}/", Accept=accept)
        assert (answer.status, answer.headers["content-type"]) == (200, JSON)
        assert answer.body == page_text(JSON_ONLY, PageFormat.JSON)


@pytest.mark.parametrize("url", ["/simple", "/simple/six", "/simple/3f", "/simple/not-here"])
def test_a_page_without_its_slash_is_moved_to_a_path(server, url):
    answer = server.ask(url)
    assert answer.status == 301
    assert answer.headers["location"] == url + "/"


@pytest.mark.parametrize(
    "url",
    [
        "/",
        "/simple/not-here/",
        "/simple/Six/",
        "/simple/zope.interface/",
        "/simple/zope_interface/",
        "/simple/six/index.html",
        "/simple/index.html",
        "/simple/index.v1_json",
        "/simple/s/six/",
        f"/simple/{bucket('six')}/six.html",
        f"/simple/{bucket('six')}/six.v1_json",
        f"/simple/{bucket('six')}/six/",
        f"/simple/{bucket('six')}/",
        f"/json/{bucket('six')}/six",
        "/simple/six/%0a",
        "/simple/six%00/",
        "/simple/six/../six/index.html",
        "/packages/",
        "/packages",
        "/packages/0ef/",
        "/packages/0ef",
        "/packages/0ef/not-here.whl",
        f"/packages/0e/f1/{HEX60}/",
        f"/packages/0e/f1/{HEX60}/not-here.whl",
        f"/packages/0e/f1/{HEX60}/{WHEEL}/",
        f"/packages/{WHEEL}",
        "/packages/" + "n" * 300,
        f"/simple/{'n' * 300}/",
        "/json/not-here",
        "/json/",
        "/pypi/not-here/json",
        "/pypi/six",
        "/pypi/six/json/",
        "/status/none",
        "/secret",
        "/.secret",
        "/simple/secret",
        "/simple/.secret",
        "/simple/six/.secret",
        "/packages/.secret",
        "/packages/0ef/.secret",
        "/packages/%2esecret",
        "/local-stats/secret",
        "/favicon.ico",
    ],
)
def test_nothing_else_is_served(server, url):
    answer = server.ask(url, Accept=PIP)
    expected = (301, 404) if url == "/simple/secret" else (400, 404)
    assert answer.status in expected
    assert answer.status != 400 or "%00" in url
    assert SECRET not in answer.body


@pytest.mark.parametrize("start", ["/", "/simple/", "/simple/six/", "/packages/", "/packages/0ef/", "/status/"])
@pytest.mark.parametrize(
    "up",
    ["../", "..%2f", "%2e%2e/", "%2e%2e%2f", ".%2E/", "..%5c", "%5c..%5c", "..\\", "%252e%252e%252f", "..%c0%af",
     "..;/", "./../", "//../", "..%00/", "%2e%2e%2f%2e%2e/"],
)  # fmt: skip
def test_no_way_up_leads_to_a_file_outside(server, start, up):
    for repeats in (1, 2, 3, 12):
        for target in ("secret", ".secret", "web2/secret", ".fastmirror/state.sqlite", "etc/passwd"):
            answer = server.ask(f"{start}{up * repeats}{target}")
            assert answer.status in {301, 400, 404}
            assert SECRET not in answer.body
            assert b"root:" not in answer.body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"])
def test_only_get_and_head_are_allowed(server, method):
    for url in ("/simple/", "/simple/six/", "/simple", server.file_url(WHEEL), "/nowhere"):
        answer = server.ask(url, method)
        assert answer.status == 405
        assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}


@pytest.mark.case(55)
def test_head_has_the_headers_of_get_and_no_body(server):
    for url in ("/simple/", "/simple/six/", server.file_url(WHEEL), "/json/six"):
        got = server.ask(url, Accept=PIP)
        asked = server.ask(url, "HEAD", Accept=PIP)
        assert (asked.status, asked.body) == (200, b"")
        for header in ("content-type", "content-length", "etag", "last-modified", "cache-control", "vary"):
            assert asked.headers[header] == got.headers[header], header
        assert int(got.headers["content-length"]) == len(got.body)
    assert server.ask("/simple/not-here/", "HEAD").status == 404


@pytest.mark.parametrize("pypi", [False, True])
def test_a_file_is_served_with_its_bytes_for_ever(server, pypi):
    answer = server.ask(server.file_url(WHEEL, pypi=pypi))
    assert (answer.status, answer.body) == (200, WHEEL_BYTES)
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["accept-ranges"] == "bytes"
    assert "vary" not in answer.headers


@pytest.mark.parametrize("pypi", [False, True])
def test_core_metadata_is_never_re_encoded(server, pypi):
    answer = server.ask(server.file_url(WHEEL + ".metadata", pypi=pypi), Accept_Encoding="gzip, br")
    assert answer.status == 200
    assert "content-encoding" not in answer.headers
    assert answer.body.startswith(b"Metadata-Version: 2.1\n")


@pytest.mark.case(39, 55)
@pytest.mark.parametrize("filename", ODD_NAMES)
def test_odd_file_names_are_found_as_pages_link_them(server, filename):
    for pypi in (False, True):
        answer = server.ask("/" + url_path(stored_path(server.tree, filename, pypi=pypi)))
        assert (answer.status, answer.body) == (200, filename.encode())


def test_the_literal_long_path_comes_before_the_short_one(server):
    answer = server.ask(f"/packages/aa/bb/{HEX60}/taken-1.0.zip")
    assert answer.body == b"the second of its name"
    if server.tree.layout is Layout.HASHED:
        assert server.ask("/packages/aab/taken-1.0.zip").body == b"the first of its name"


@pytest.mark.case(55)
@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [("0-0", 0, 1), ("100-199", 100, 200), ("299999-", 299_999, 300_000), ("-10", 299_990, 300_000)],
)
def test_a_range_is_answered_with_those_bytes(server, asked, start, end):
    for pypi in (False, True):
        answer = server.ask(server.file_url(WHEEL, pypi=pypi), Range=f"bytes={asked}")
        assert (answer.status, answer.body) == (206, WHEEL_BYTES[start:end])
        assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/300000"
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"


def test_a_range_beyond_the_end_is_refused(server):
    answer = server.ask(server.file_url(WHEEL), Range="bytes=300000-")
    assert answer.status == 416
    assert answer.headers["content-range"] == "bytes */300000"


def test_if_range_with_another_tag_brings_the_whole_file(server):
    url = server.file_url(WHEEL)
    tag = server.ask(url, "HEAD").headers["etag"]
    assert server.ask(url, Range="bytes=5-9", If_Range=tag).body == WHEEL_BYTES[5:10]
    assert server.ask(url, Range="bytes=5-9", If_Range='"another"').body == WHEEL_BYTES


@pytest.mark.parametrize("accept", [PIP, V1_HTML, "text/html"])
def test_an_unchanged_answer_is_304_with_its_caching_headers(server, accept):
    for url in ("/simple/", "/simple/six/", server.file_url(WHEEL)):
        first = server.ask(url, Accept=accept)
        by_tag = server.ask(url, Accept=accept, If_None_Match=first.headers["etag"])
        by_time = server.ask(url, Accept=accept, If_Modified_Since=first.headers["last-modified"])
        for answer in (by_tag, by_time):
            assert (answer.status, answer.body) == (304, b"")
            assert answer.headers["cache-control"] == first.headers["cache-control"]
            assert answer.vary() == first.vary()
        assert server.ask(url, Accept=accept, If_None_Match='"another"').status == 200


def test_both_urls_of_the_json_api_are_answered(server):
    for url in ("/json/six", "/pypi/six/json"):
        answer = server.ask(url)
        assert (answer.status, answer.body) == (200, b'{"info": {"name": "six"}}')
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["cache-control"] == "public, max-age=600"


def test_freshness_is_served_uncached(server):
    answer = server.ask("/last-modified")
    assert (answer.status, answer.body) == (200, b"20261122T12:00:00\n")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    answer = server.ask("/status/mirror.json")
    assert (answer.body, answer.headers["content-type"]) == (b"{}", "application/json")
    assert answer.headers["cache-control"] == "no-cache"


def test_of_the_change_feed_the_head_is_kept_for_a_minute_and_a_step_for_good(server):
    for url, body, cache in (
        ("/changes/head.json", b'{"version":1}', "public, max-age=60"),
        (f"/{STEP}", b'{"removed":[]}', "public, max-age=31536000, immutable"),
    ):
        answer = server.ask(url)
        assert (answer.status, answer.body, answer.headers["cache-control"]) == (200, body, cache)
        assert answer.headers["content-type"] == "application/json"
    for url in ("/changes", "/changes/", "/changes/secret.json", f"/{STEP}/", f"/{STEP.replace('0', '1', 1)}"):
        assert server.ask(url).status == 404


def test_the_status_page_is_served_uncached_under_the_name_of_its_directory(server):
    answer = server.ask("/status/")
    assert (answer.status, answer.body) == (200, b"<!doctype html>")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    moved = server.ask("/status")
    assert (moved.status, moved.headers["location"]) == (301, "/status/")


@pytest.mark.parametrize("kind", SERVERS)
@pytest.mark.parametrize("shape", TREES)
def test_a_replaced_page_is_seen_at_once(kind, shape, tmp_path):
    tree, six = TREES[shape], PROJECTS[0]
    build(tmp_path, tree)
    page = tmp_path / "web" / page_path(tree, six, PageFormat.JSON)
    with SERVERS[kind](tmp_path, tree, tmp_path / "home") as running:
        tag = running.ask("/simple/six/", Accept=PIP).headers["etag"]
        for i in range(20):
            content = b"{}" + b" " * i
            write(tmp_path / "staged", content)
            os.replace(tmp_path / "staged", page)
            answer = running.ask("/simple/six/", Accept=PIP, If_None_Match=tag)
            assert (answer.status, answer.body) == (200, content)
            tag = answer.headers["etag"]
        page.unlink()
        (tmp_path / "web" / page_path(tree, six, PageFormat.HTML)).unlink()
        (tmp_path / "web" / page_path(tree, six, PageFormat.V1_HTML)).unlink(missing_ok=True)
        assert running.ask("/simple/six/", Accept=PIP).status == 404


@pytest.mark.parametrize(
    "name",
    ["with space", "quo'te", 'dou"ble', "semi;colon", "{brace}", "back\\slash", "hash # x", "ünïcode", "%41", "@{x}"],
)
def test_any_directory_that_nginx_can_be_told_is_served(name, tmp_path):
    directory = tmp_path / name
    build(directory, HASHED)
    for start in (nginx_server, small_server):
        with start(directory, HASHED, tmp_path / "home") as running:
            assert running.ask("/simple/six/").body == page_text("six", PageFormat.HTML)
            assert running.ask(running.file_url(WHEEL, pypi=True)).body == WHEEL_BYTES


def test_the_documented_command_line_starts_nginx_and_quits_it(tmp_path):
    build(tmp_path, FLAT)
    port = free_port()
    text = nginx_configuration(str(tmp_path), FLAT, listen=f"127.0.0.1:{port}")
    configuration = tmp_path / "mirror.conf"
    configuration.write_text(text)
    documented = [line[1:].strip() for line in text.splitlines() if line.startswith("#     ")]
    assert documented[0].startswith("mkdir -p ")
    subprocess.run(documented[0], shell=True, check=True)
    executable = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    assert executable, "nginx is not installed"
    nginx = [executable, "-c", str(configuration)]
    checked = subprocess.run([*nginx, "-t"], check=True, capture_output=True, text=True)
    assert "[warn]" not in checked.stderr
    # The listening socket is open when the command returns.
    subprocess.run(nginx, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        assert Server(port, FLAT, tmp_path).ask("/nowhere").status == 404
    finally:
        subprocess.run([*nginx, "-s", "stop"], check=True, capture_output=True)


@pytest.mark.case(55)
def test_pages_are_compressed_and_vary_by_encoding_under_nginx(tmp_path):
    build(tmp_path, HASHED)
    with nginx_server(tmp_path, HASHED, tmp_path / "home") as running:
        for accept in (PIP, V1_HTML, "text/html"):
            for url in ("/simple/", "/simple/six/"):
                plain = running.ask(url, Accept=accept)
                packed = running.ask(url, Accept=accept, Accept_Encoding="gzip")
                assert packed.headers["content-encoding"] == "gzip"
                assert gzip.decompress(packed.body) == plain.body
                assert plain.vary() == packed.vary() == {"accept", "accept-encoding"}
                again = running.ask(url, Accept=accept, Accept_Encoding="gzip", If_None_Match=packed.headers["etag"])
                assert again.status == 304


def test_nginx_computes_the_same_bucket_for_every_name(tmp_path):
    names = random.Random(2000)
    alphabet = "abcdefghijklmnopqrstuvwxyz0123456789"
    projects = {
        "-".join("".join(names.choices(alphabet, k=names.randint(1, 12))) for _ in range(names.choice([1, 1, 2, 3])))
        for _ in range(2_000)
    }
    projects |= {"n" * length for length in range(1, 241)}
    port = free_port()
    printed = nginx_configuration(str(tmp_path), HASHED)
    block = printed[printed.index("split_clients") : printed.rindex("}")]
    location = 'location ~ "^/(?P<project>.+)\\z" { return 200 $bucket; }'
    text = around(f"{block}\nserver {{ listen 127.0.0.1:{port}; keepalive_requests 10000; {location} }}", tmp_path)
    computed = {}
    with running_nginx(text, tmp_path, port) as nginx:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
            for name in projects:
                connection.request("GET", f"/{name}")
                computed[name] = connection.getresponse().read().decode()
        assert len(nginx.log_lines(at_least=len(projects))) >= len(projects)
    assert computed == {name: bucket(name) for name in projects}


def test_the_small_server_follows_no_link_out_of_its_section(tmp_path):
    build(tmp_path, FLAT)
    web = tmp_path / "web"
    (web / "packages/out.zip").symlink_to(tmp_path / "secret")
    (web / "packages/up").symlink_to(tmp_path)
    (web / "simple/linked").symlink_to(tmp_path / "web2")
    (web / "packages/across.zip").symlink_to(web / "secret")
    (web / "packages/within.zip").symlink_to(web / stored_path(FLAT, WHEEL))
    (web / "packages/loop.zip").symlink_to("loop.zip")
    (web / "packages/gone.zip").symlink_to("nowhere")
    os.mkfifo(web / "packages/pipe.zip")
    write(tmp_path / "web2" / "index.html", SECRET)
    with small_server(tmp_path, FLAT, tmp_path / "home") as running:
        for url in ("/packages/out.zip", "/packages/up/secret", "/packages/across.zip", "/packages/loop.zip",
                    "/packages/gone.zip", "/packages/pipe.zip", "/simple/linked/"):  # fmt: skip
            assert running.ask(url).status == 404, url
        assert running.ask("/packages/within.zip").body == WHEEL_BYTES


def test_a_section_may_itself_be_a_link_to_another_disk(tmp_path):
    build(tmp_path, FLAT)
    (tmp_path / "web/packages").rename(tmp_path / "other-disk")
    (tmp_path / "web/packages").symlink_to(tmp_path / "other-disk")
    for start in (nginx_server, small_server):
        with start(tmp_path, FLAT, tmp_path / "home") as running:
            assert running.ask(running.file_url(WHEEL)).body == WHEEL_BYTES


def test_serve_answers_silently_until_it_is_terminated(tmp_path):
    build(tmp_path, HASHED)
    code = (
        "import sys; from fastmirror.layout import Layout, Tree; from fastmirror.serving import serve\n"
        "serve(sys.argv[1], Tree(Layout.HASHED, False), '127.0.0.1', 0, lambda port: print(port, flush=True))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=os.getcwd(),
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        answer = Server(port, HASHED, tmp_path).ask("/simple/six/", Accept=UV)
        assert answer.body == page_text("six", PageFormat.JSON)
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=30) == (b"", b"")
    finally:
        process.kill()
        process.wait()


def test_serve_says_so_when_the_port_is_taken(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"cannot listen on '127.0.0.1', port {port}"):
            serve(str(tmp_path), FLAT, "127.0.0.1", port, lambda _: None)
