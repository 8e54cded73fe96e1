"""Bytes over HTTP, bounded: one interface, two implementations.

``curl`` is the hot lane: libcurl's multi interface in one event loop. ``session`` does the same with requests
and a few threads, where pycurl has no wheel. Both start transfers, report those that ended, and cancel.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_REDIRECTS = 4
# The response headers that anybody reads, in lower case; a Reply holds no others.
HEADERS_READ = frozenset({"content-type", "content-range", "etag", "retry-after"})
# A transfer has to bring this many bytes per second of each window of the `timeout` setting.
LEAST_BYTES_PER_SECOND = 64


class Sink(Protocol):
    """Where a file's body goes. Called from one thread at a time."""

    def begin(self, status: int, headers: Mapping[str, str]) -> str | None:
        """Called once, before the first byte of a 2xx body; a reason refuses the body.

        The headers are those of HEADERS_READ, and may be left out where the status is 200, but for a page's.
        """

    @property
    def size(self) -> int:
        """Bytes so far."""

    def feed(self, chunk: bytes) -> bool:
        """Take a chunk. False: it was not taken, and the transfer waits until its sink's owner resumes it."""


class Request(NamedTuple):
    """One GET."""

    token: int  # the caller's own, comes back in the Reply
    url: str
    headers: tuple[str, ...]  # "Name: value", without User-Agent
    limit: int  # bytes of body at most, counted decoded; more is an error
    compressed: bool  # offer gzip; the body arrives decoded
    sink: Sink | None  # None: the body is gathered in memory
    is_page: bool = False  # else it is a file, if there is a sink: within the rate


class Reply(NamedTuple):
    """How one GET ended."""

    token: int
    status: int  # of the last response; 0 if there was none
    headers: Mapping[str, str]  # those of HEADERS_READ, of the last response
    body: bytes  # where no sink took it
    error: str  # "" if the whole body arrived
    retryable: bool  # another try may fare better


class Transport(Protocol):
    """Transfers in flight. Not thread-safe: one owner calls all methods, except `wake`."""

    def start(self, request: Request) -> None:
        """Begin a transfer; its Reply comes out of a later poll."""

    def poll(self, timeout_s: float) -> list[Reply]:
        """Move bytes, wait at most so long for something to happen, and return the transfers that ended."""

    def resume(self, token: int) -> None:
        """Go on with a transfer whose sink did not take a chunk."""

    def cancel(self, token: int) -> None:
        """End a transfer without a Reply."""

    def watch(self, descriptor: int, ready: Callable[[], None] | None) -> None:
        """Call `ready` from `poll` whenever the descriptor can be read; None ends the watch."""

    def wake(self) -> None:
        """Make a poll that waits return; the one method that other threads may call."""

    def limit_rate(self, bytes_per_second: float | None) -> None:
        """Let this transport's transfers together bring so much at most."""

    def close(self) -> None:
        """End all transfers and connections."""


def is_retryable_status(status: int) -> bool:
    """Whether a response of this status may be better next time: 408, 429 and 5xx."""
    return status in (408, 429) or status >= 500


def origin(url: str) -> str:
    """Scheme, host and port of a URL, without userinfo, in lower case."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}".lower()


def ca_bundle(chosen: str | None) -> str | None:
    """The certificates to trust: the operator's choice, else the system's; None leaves it to the library.

    The system's are where OpenSSL looks, SSL_CERT_FILE included, or where the large distributions keep them.
    """
    if chosen:
        return chosen
    candidates = (
        ssl.get_default_verify_paths().cafile,
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
    )
    return next((path for path in candidates if path and Path(path).is_file()), None)
