"""The other transport, over requests, where libcurl is not to be had: a few threads that only move bytes."""

from __future__ import annotations

import io
import logging
import math
import queue
import selectors
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

import requests
import requests.adapters
import urllib3
from requests.auth import HTTPBasicAuth

from fastmirror import __version__
from fastmirror.bell import Bell
from fastmirror.transport import (
    HEADERS_READ,
    LEAST_BYTES_PER_SECOND,
    MAX_REDIRECTS,
    Reply,
    Request,
    ca_bundle,
    is_retryable_status,
    origin,
)
from fastmirror.transport.proxies import is_exempt
from fastmirror.transport.rate import Rate
from fastmirror.transport.redirects import redirect_refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from fastmirror.settings import UpstreamSettings
    from fastmirror.transport import Sink

_LOG = logging.getLogger(__name__)
_CHUNK = 64 << 10
_GZIP = 31  # zlib's wbits for it
_THREADS = 32
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class _Unredirected(requests.Session):
    """Follows no redirect, nor reads its body to say where it leads, as requests does even if it is not to follow."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Leave redirects to us."""


class Session:
    """Blocking GETs, bounded like those of the hot lane. One per thread at a time."""

    def __init__(self, settings: UpstreamSettings, connections: int = 4) -> None:
        self._settings = settings
        self._longest_s = settings.longest_transfer_s or math.inf
        self._authorised = origin(settings.master)
        self._session = _Unredirected()
        self._session.trust_env = False
        self._session.headers.clear()
        self._session.headers["User-Agent"] = f"fastmirror/{__version__} (requests/{requests.__version__})"
        self._session.verify = ca_bundle(settings.ca_bundle) or True
        adapter = requests.adapters.HTTPAdapter(pool_connections=4, pool_maxsize=connections)
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)
        self._proxies: dict[str, dict[str, str]] = {}

    def get(
        self,
        request: Request,
        is_cancelled: Callable[[], bool] = lambda: False,
        wait: Callable[[], None] = lambda: None,
    ) -> Reply:
        """Do one GET whole; never raises for what the network does.

        `is_cancelled` is asked between chunks; `wait` is called when the sink does not take a chunk, and
        returns when it is to be offered again.
        """
        try:
            return self._get(request, is_cancelled, wait)
        except (requests.TooManyRedirects, ValueError) as error:  # of these are all malformed addresses
            return _failure(request, str(error), retryable=False)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            return _failure(request, f"{type(error).__name__}: {error}", retryable=True)

    def close(self) -> None:
        """Close every connection."""
        self._session.close()

    def _get(self, request: Request, is_cancelled: Callable[[], bool], wait: Callable[[], None]) -> Reply:
        url = request.url
        deadline = time.monotonic() + self._longest_s
        for _ in range(MAX_REDIRECTS + 1):
            response = self._send(url, request)
            target = response.headers.get("location")
            if response.status_code not in _REDIRECTS or not target:
                with response:
                    return _take(request, response, self._settings.timeout_s, deadline, is_cancelled, wait)
            response.close()
            if not request.is_page and (refusal := redirect_refusal(url, target, self._settings.file_hosts)):
                return _failure(request, refusal, retryable=False)
            target = urljoin(url, target)
            if not target.startswith("https:" if url.startswith("https:") else ("http:", "https:")):
                return _failure(request, "redirected to another protocol", retryable=False)
            url = target
        return _failure(request, "redirected too often", retryable=False)

    def _send(self, url: str, request: Request) -> requests.Response:
        headers: dict[str, str | bytes | None] = {"Accept-Encoding": "gzip" if request.compressed else "identity"}
        headers |= {name: value.strip() for name, _, value in (line.partition(":") for line in request.headers)}
        auth = None
        if self._settings.credentials and origin(url) == self._authorised:
            user, password = self._settings.credentials
            auth = HTTPBasicAuth(user.encode(), password.encode())  # of text it would take Latin-1
        return self._session.get(
            url,
            headers=headers,
            stream=True,
            timeout=min(self._settings.timeout_s, self._longest_s),  # of one read; the deadline is looked at between
            allow_redirects=False,
            proxies=self._proxies_for(url),
            auth=auth,
        )

    def _proxies_for(self, url: str) -> dict[str, str]:
        host = origin(url)
        found = self._proxies.get(host)
        if found is None:
            proxy = self._settings.proxy
            if proxy is None or is_exempt(urlsplit(url).hostname or "", self._settings.no_proxy):
                found = {}
            else:
                found = {"http": proxy, "https": proxy}
            self._proxies[host] = found
        return found


def _failure(request: Request, reason: str, *, retryable: bool) -> Reply:
    return Reply(request.token, 0, {}, b"", reason, retryable)


def _take(
    request: Request,
    response: requests.Response,
    window_s: float,
    deadline: float,
    is_cancelled: Callable[[], bool],
    wait: Callable[[], None],
) -> Reply:
    status = response.status_code
    headers = {name: response.headers[name] for name in HEADERS_READ if name in response.headers}
    sink = request.sink if 200 <= status < 300 else None
    body = io.BytesIO()  # what it holds can be had without a copy
    size, moved, since = 0, 0, time.monotonic()
    refusal = sink.begin(status, headers) if sink is not None else None
    if refusal:
        return Reply(request.token, status, headers, b"", refusal, retryable=False)
    for chunk in _pieces(response, unpack=request.compressed):
        size += len(chunk)
        moved += len(chunk)
        if size > request.limit:
            error = f"larger than allowed ({request.limit} bytes)"
            return Reply(request.token, status, headers, b"", error, retryable=False)
        if is_cancelled():
            return Reply(request.token, status, headers, b"", "cancelled", retryable=False)
        if sink is not None:
            while not sink.feed(chunk):
                wait()
                if is_cancelled():
                    return Reply(request.token, status, headers, b"", "cancelled", retryable=False)
                since, moved = time.monotonic(), 0
        elif request.sink is None:
            body.write(chunk)
        now = time.monotonic()
        if now >= deadline:
            return Reply(request.token, status, headers, b"", "took longer than global-timeout", retryable=True)
        if now - since >= window_s:
            if moved < LEAST_BYTES_PER_SECOND * window_s:
                error = f"stalled: {moved} bytes in {window_s:g} s"
                return Reply(request.token, status, headers, b"", error, retryable=True)
            since, moved = now, 0
    return Reply(request.token, status, headers, body.getvalue(), "", is_retryable_status(status))


def _pieces(response: requests.Response, *, unpack: bool) -> Iterator[bytes]:
    """The body as it comes, one read of the socket at a time: a body that only drips is noticed.

    A piece is empty where what came tells nothing yet. Unpacked ones are bounded too.
    """
    encoding = response.headers.get("content-encoding", "").strip().lower() if unpack else ""
    unpacker = zlib.decompressobj(_GZIP) if encoding in {"gzip", "x-gzip"} else None
    is_begun = False
    while packed := response.raw.read1(_CHUNK, decode_content=False):
        is_begun = True
        if unpacker is None:
            yield packed
            continue
        try:
            while packed:
                yield unpacker.decompress(packed, _CHUNK)
                packed = unpacker.unconsumed_tail
        except zlib.error as error:
            raise urllib3.exceptions.DecodeError(str(error)) from error
    if is_begun and unpacker is not None and not unpacker.eof:
        raise urllib3.exceptions.DecodeError("gzip ended too early")


class _Flight:
    """One transfer on its thread."""

    def __init__(self) -> None:
        self.cancelled = False
        self.resumed = threading.Event()
        self.ended = threading.Event()

    def wait(self) -> None:
        """Wait until the sink's owner resumes, or cancels."""
        self.resumed.wait()
        self.resumed.clear()


class _Paced:
    """A sink that takes its bytes at the rate allowed."""

    def __init__(self, sink: Sink, rate: Rate) -> None:
        self._sink = sink
        self._rate = rate

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self._sink.size

    def begin(self, status: int, headers: Mapping[str, str]) -> str | None:
        """Pass on."""
        return self._sink.begin(status, headers)

    def feed(self, chunk: bytes) -> bool:
        """Pass on, after the pause that the rate asks for."""
        while wait := self._rate.wait_s():
            time.sleep(wait)
        taken = self._sink.feed(chunk)
        if taken:
            self._rate.spend(len(chunk))
        return taken


class SessionTransport:
    """A Transport over requests and threads; see fastmirror.transport.Transport for what is promised."""

    def __init__(self, settings: UpstreamSettings, connections: int) -> None:
        self._session = Session(settings, min(connections, _THREADS))
        self._threads = ThreadPoolExecutor(min(connections, _THREADS), thread_name_prefix="transfer")
        self._flights: dict[int, _Flight] = {}
        self._done: queue.SimpleQueue[tuple[_Flight, Reply]] = queue.SimpleQueue()
        self._selector = selectors.DefaultSelector()
        self._bell = Bell()
        self._selector.register(self._bell, selectors.EVENT_READ, self._bell.silence)
        self._rate: Rate | None = None

    def start(self, request: Request) -> None:
        """Begin a transfer; its Reply comes out of a later poll."""
        flight = self._flights[request.token] = _Flight()
        self._threads.submit(self._fly, request, flight)

    def poll(self, timeout_s: float) -> list[Reply]:
        """Wait at most so long for something to happen, and return the transfers that ended."""
        wait = timeout_s if self._done.empty() else 0.0
        for key, _ in self._selector.select(wait):
            key.data()
        replies = []
        while not self._done.empty():
            flight, reply = self._done.get()
            if self._flights.get(reply.token) is flight:
                del self._flights[reply.token]
                replies.append(reply)
        return replies

    def resume(self, token: int) -> None:
        """Go on with a transfer whose sink did not take a chunk."""
        flight = self._flights.get(token)
        if flight is not None:
            flight.resumed.set()

    def cancel(self, token: int) -> None:
        """End a transfer without a Reply; returns when its thread has let go of the sink."""
        flight = self._flights.pop(token, None)
        if flight is not None:
            flight.cancelled = True
            flight.resumed.set()
            flight.ended.wait()

    def watch(self, descriptor: int, ready: Callable[[], None] | None) -> None:
        """Call `ready` from `poll` whenever the descriptor can be read; None ends the watch."""
        if ready is None:
            self._selector.unregister(descriptor)
        else:
            self._selector.register(descriptor, selectors.EVENT_READ, ready)

    def wake(self) -> None:
        """Make a poll that waits return."""
        self._bell.ring()

    def limit_rate(self, bytes_per_second: float | None) -> None:
        """Let this transport's files together bring so much at most."""
        self._rate = Rate(bytes_per_second) if bytes_per_second else None

    def close(self) -> None:
        """End all transfers and connections."""
        for token in list(self._flights):
            self.cancel(token)
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._session.close()
        self._selector.close()
        self._bell.close()

    def _get(self, request: Request, flight: _Flight) -> Reply:
        try:
            return self._session.get(request, lambda: flight.cancelled, flight.wait)
        except Exception as error:  # noqa: BLE001 - a reply that never came would hang the run
            _LOG.exception("%s: this is a bug", request.url)
            return _failure(request, f"bug: {type(error).__name__}: {error}", retryable=False)

    def _fly(self, request: Request, flight: _Flight) -> None:
        try:
            if not flight.cancelled:
                if request.sink is not None and self._rate is not None and not request.is_page:
                    request = request._replace(sink=_Paced(request.sink, self._rate))
                self._done.put((flight, self._get(request, flight)))
                self.wake()
        finally:
            flight.ended.set()
