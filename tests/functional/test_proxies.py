"""The way to the upstream: by the proxy that is set, else by the environment's, and the same for all that is asked."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from fastmirror.settings_file import parse_settings
from fastmirror.transport import Request, Transport
from fastmirror.transport.curl import CurlTransport
from fastmirror.transport.proxies import is_exempt
from fastmirror.transport.session import SessionTransport
from tests.fakes.proxies import HttpProxy, Proxy, SocksProxy
from tests.tree import check_tree

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from fastmirror.settings import UpstreamSettings
    from tests.conftest import Mirror
    from tests.fakes.index import FakeIndex

TRANSPORTS = ("curl", "requests")
METADATA = b"Metadata-Version: 2.1\nName: six\nVersion: 1.0\n"
NOWHERE = "http://127.0.0.1:1"


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest, mirror: Mirror, index: FakeIndex) -> str:
    mirror.settings["transport"] = request.param
    index.add_file("six", "six-1.0-py3-none-any.whl", metadata=METADATA)
    return str(request.param)


@pytest.fixture
def proxy(index: FakeIndex) -> Iterator[HttpProxy]:
    with HttpProxy({"index.invalid": port_of(index)}) as proxy:
        yield proxy


@pytest.fixture
def socks(index: FakeIndex) -> Iterator[SocksProxy]:
    with SocksProxy({"index.invalid": port_of(index)}) as socks:
        yield socks


def port_of(index: FakeIndex) -> int:
    return int(index.url.rpartition(":")[2])


def assert_all_went_by(proxy: Proxy, index: FakeIndex) -> None:
    """The root index, a page, the legacy JSON, a file and its core metadata, each from the proxy's own connections."""
    assert len(index.requests) >= 4
    assert {record.port for record in index.requests} == proxy.ports


# The proxy that is set ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("transport")
@pytest.mark.parametrize("scheme", ["http", "socks4", "socks5", "socks5h"])
def test_everything_goes_by_the_proxy_that_is_set(
    mirror: Mirror, index: FakeIndex, proxy: HttpProxy, socks: SocksProxy, scheme: str
) -> None:
    chosen: Proxy = proxy if scheme == "http" else socks
    result = mirror.run(set={"proxy": chosen.url(scheme)})
    assert (result.status, result.stderr) == (0, "")
    assert check_tree(mirror.web, "hashed", index) == []
    assert_all_went_by(chosen, index)


@pytest.mark.usefixtures("transport")
@pytest.mark.parametrize("scheme", ["http", "socks5h"])
def test_a_proxy_resolves_names_and_is_shown_credentials_that_nobody_else_sees(
    mirror: Mirror, index: FakeIndex, proxy: HttpProxy, socks: SocksProxy, scheme: str
) -> None:
    chosen: Proxy = proxy if scheme == "http" else socks
    address = chosen.url(scheme, userinfo="me:hunter%402")
    mirror.master = "http://index.invalid"
    result = mirror.run(set={"proxy": address})
    assert (result.status, result.stderr) == (0, "")
    assert_all_went_by(chosen, index)
    assert set(chosen.hosts) == {"index.invalid", "127.0.0.1"}  # the index, and the address of its files
    assert chosen.credentials == {"me:hunter@2" if scheme == "socks5h" else "Basic bWU6aHVudGVyQDI="}
    log = (mirror.directory / ".fastmirror" / "log" / "fastmirror.log").read_text()
    assert "hunter" not in result.stdout + result.stderr + log


@pytest.mark.usefixtures("transport")
@pytest.mark.parametrize("command", ["sync", "plan"])
def test_other_commands_go_by_the_proxy_too(mirror: Mirror, index: FakeIndex, proxy: HttpProxy, command: str) -> None:
    arguments = ["six"] if command == "sync" else ["--files"]
    assert mirror.run(*arguments, command=command, set={"proxy": proxy.url()}).status == 0
    assert {record.port for record in index.requests} == proxy.ports


@pytest.mark.usefixtures("transport")
def test_a_proxy_that_is_not_there_is_no_reason_to_go_without_one(mirror: Mirror, index: FakeIndex) -> None:
    result = mirror.run(set={"proxy": NOWHERE.replace("//", "//me:hunter2@")})
    assert result.status == 5
    assert index.requests == []
    assert "hunter2" not in result.stdout + result.stderr


# The environment's ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("transport")
@pytest.mark.parametrize("name", ["http_proxy", "HTTPS_PROXY", "ALL_PROXY"])
def test_the_environments_proxy_is_for_both_lanes(
    mirror: Mirror, index: FakeIndex, proxy: HttpProxy, name: str
) -> None:
    mirror.environment = {name: proxy.url(), "NO_PROXY": "other.example"}
    assert mirror.run().status == 0
    assert_all_went_by(proxy, index)


@pytest.mark.usefixtures("transport")
@pytest.mark.parametrize("exempt", ["127.0.0.1", "10.0.0.0/8, 127.0.0.0/8", "*"])
def test_what_no_proxy_names_is_reached_without_the_environments_proxy(
    mirror: Mirror, index: FakeIndex, exempt: str
) -> None:
    mirror.environment = {"HTTP_PROXY": NOWHERE, "no_proxy": exempt}
    assert mirror.run().status == 0
    assert check_tree(mirror.web, "hashed", index) == []


@pytest.mark.usefixtures("transport")
def test_the_proxy_that_is_set_wins_over_the_environment(mirror: Mirror, index: FakeIndex, proxy: HttpProxy) -> None:
    mirror.environment = {"SOCKS5_PROXY": NOWHERE, "http_proxy": NOWHERE, "NO_PROXY": "*"}
    assert mirror.run(set={"proxy": proxy.url()}).status == 0
    assert_all_went_by(proxy, index)


def upstream(environment: Mapping[str, str], **overrides: str) -> UpstreamSettings:
    overrides = {"directory": "/srv/pypi", "allow-non-https": "true"} | overrides
    return parse_settings(None, overrides=overrides, environment=environment).upstream


@pytest.mark.parametrize(
    ("environment", "chosen"),
    [
        ({}, None),
        ({"HTTP_PROXY": ""}, None),
        ({"HTTP_PROXY": "http://h:1"}, "http://h:1"),
        ({"http_proxy": "http://h:1", "HTTP_PROXY": "http://other:1"}, "http://h:1"),
        ({"ALL_PROXY": "http://a:1", "HTTP_PROXY": "http://h:1"}, "http://h:1"),
        ({"HTTP_PROXY": "http://h:1", "https_proxy": "http://s:1"}, "http://s:1"),
        ({"HTTPS_PROXY": "http://s:1", "SOCKS_PROXY": "socks5://k:1"}, "socks5://k:1"),
        ({"socks_proxy": "socks5://k:1", "SOCKS4_PROXY": "socks4://k4:1"}, "socks4://k4:1"),
        ({"SOCKS4_PROXY": "socks4://k4:1", "SOCKS5_PROXY": "socks5h://k5:1"}, "socks5h://k5:1"),
        ({"SOCKS5_PROXY": "k5:1"}, "socks5://k5:1"),
        ({"SOCKS4_PROXY": "k4:1"}, "socks4://k4:1"),
        ({"HTTPS_PROXY": "me:word@s:1"}, "http://me:word@s:1"),
        ({"FTP_PROXY": "http://f:1"}, None),
    ],
)
def test_the_environments_proxy_is_chosen_in_bandersnatchs_order(environment, chosen):
    assert upstream(environment).proxy == chosen


def test_a_proxy_of_the_environment_that_cannot_be_used_is_warned_of_and_passed_over():
    environment = {"SOCKS_PROXY": "socks://me:hunter2@k:1", "HTTP_PROXY": "http://h:1"}
    settings = parse_settings(None, overrides={"directory": "/srv/pypi"}, environment=environment)
    assert settings.upstream.proxy == "http://h:1"
    (warning,) = settings.warnings
    assert warning.startswith("environment: SOCKS_PROXY: 'socks://***@k:1': expected http://HOST or https://HOST or")
    assert "hunter2" not in repr(settings)


# No proxy, in both lanes ----------------------------------------------------------------------------------


def ask(transport: Transport, url: str) -> int:
    """The status of one GET; 0 if there was no answer."""
    transport.start(Request(1, url, (), 1 << 20, compressed=False, sink=None))
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for reply in transport.poll(1.0):
            return reply.status
    raise TimeoutError(url)


@pytest.mark.parametrize("kind", [CurlTransport, SessionTransport])
def test_without_settings_no_transport_looks_into_the_environment_by_itself(
    monkeypatch: pytest.MonkeyPatch, index: FakeIndex, kind: type[CurlTransport | SessionTransport]
) -> None:
    for name in ("http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, NOWHERE)
    transport = kind(upstream({}, master=index.url), 2)
    try:
        assert ask(transport, f"{index.url}/simple/") == 200
    finally:
        transport.close()


@pytest.mark.parametrize(
    ("host", "no_proxy", "exempt"),
    [
        ("127.0.0.1", "", False),
        ("127.0.0.1", "*", True),
        ("127.0.0.1", "*,other", False),
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.10", False),
        ("127.0.0.1", "0.0.1", False),
        ("127.0.0.1", "127.0.0.0/8", True),
        ("127.0.0.1", "10.0.0.0/8", False),
        ("127.0.0.1", "one,, two 127.0.0.1", True),
        ("localhost", "localhost", True),
        ("localhost", "LOCALHOST", True),
        ("localhost", "host", False),
        ("a.localhost", "localhost", True),
        ("a.localhost", ".localhost", True),
        ("a.localhost", "b.localhost", False),
        ("a.localhost", "a.localhost.", True),
    ],
)
def test_no_proxy_means_the_same_in_both_lanes(
    index: FakeIndex, proxy: HttpProxy, host: str, no_proxy: str, exempt: bool
) -> None:
    settings = upstream({"http_proxy": proxy.url(), "NO_PROXY": no_proxy})
    assert is_exempt(host, settings.no_proxy) is exempt
    proxy.routes = {host: port_of(index)}
    transport = CurlTransport(settings, 2)
    try:
        assert ask(transport, index.url.replace("127.0.0.1", host) + "/simple/") == 200
    finally:
        transport.close()
    assert proxy.hosts == ([] if exempt else [host])
