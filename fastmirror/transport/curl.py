"""The hot lane: libcurl's multi interface in one event loop.

libcurl says which sockets to wait for and when its next time-out is due; this module waits, hands it the
events and takes the transfers that ended. The stall clock is ours, and counts only time spent in here: an
owner that was busy parsing is no reason to blame the upstream.
"""

from __future__ import annotations

import io
import math
import time
from typing import TYPE_CHECKING

import pycurl

from fastmirror import __version__
from fastmirror.bell import Bell
from fastmirror.transport import (
    LEAST_BYTES_PER_SECOND,
    MAX_REDIRECTS,
    Reply,
    Request,
    ca_bundle,
    is_retryable_status,
    origin,
)
from fastmirror.transport.headers import parse_headers, read_response
from fastmirror.transport.poller import READ, WRITE, open_poller
from fastmirror.transport.rate import Rate
from fastmirror.transport.redirects import redirect_refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastmirror.settings import UpstreamSettings
    from fastmirror.transport import Sink

USER_AGENT = f"fastmirror/{__version__} ({pycurl.version.split()[1]})"

# Endings that another try would only repeat.
_FINAL = {
    pycurl.E_UNSUPPORTED_PROTOCOL: "redirected to another protocol",
    pycurl.E_URL_MALFORMAT: "malformed URL",
    pycurl.E_TOO_MANY_REDIRECTS: "redirected too often",
}
_STALL_CHECK_S = 1.0
_NOTHING = io.BytesIO()
_EVENTS = {pycurl.POLL_IN: READ, pycurl.POLL_OUT: WRITE, pycurl.POLL_INOUT: READ | WRITE}


class _Transfer:
    """One GET in flight; its handle is used again, and what was set on it once holds."""

    __slots__ = (
        "begun", "body", "error", "free", "handle", "headers", "hosts", "lines", "paused", "rate", "request",
        "response", "since", "size", "size_then",
    )  # fmt: skip

    def __init__(self, handle: pycurl.Curl, free: list[_Transfer], hosts: frozenset[str]) -> None:
        self.handle = handle
        self.free = free  # where it waits for its next use
        self.headers: tuple[str, ...] = ()  # that are set on the handle
        self.lines: list[bytes] = []  # of the headers, as they came, of every response on the way
        handle.setopt(pycurl.WRITEFUNCTION, self.write)
        self.hosts = hosts  # that redirects may lead to; empty: any
        handle.setopt(pycurl.HEADERFUNCTION, self.take_header if hosts else self.lines.append)

    def begin(self, request: Request, clock: float, rate: Rate | None) -> None:
        """Forget the last use."""
        self.request = request
        self.lines.clear()
        # Not a list of chunks: the heap would keep the room of 40 MB of them.
        self.body = io.BytesIO() if request.sink is None else _NOTHING
        self.size = 0
        self.error = ""
        self.response: tuple[int, dict[str, str]] = (0, {})
        self.begun = False  # the sink has seen the response
        self.paused = False
        self.since = clock  # when this stall window began
        self.size_then = 0
        self.rate = rate

    def take_header(self, line: bytes) -> int | None:
        """libcurl's header callback where redirects are looked at: None for "taken", or -1 to end the transfer."""
        self.lines.append(line)
        if line[:9].lower() == b"location:" and not self.request.is_page:
            self.error = redirect_refusal(self.request.url, line[9:].strip().decode("latin-1"), self.hosts)
        return -1 if self.error else None

    def write(self, chunk: bytes) -> int | None:
        """libcurl's write callback: None for "taken", a pause, or -1 to end the transfer."""
        request = self.request
        size = self.size + len(chunk)
        if size > request.limit:
            self.error = f"larger than allowed ({request.limit} bytes)"
            return -1
        sink = request.sink
        if sink is None:
            self.body.write(chunk)
        elif self.begun or self._begin_body(sink):
            if (self.rate is not None and self.rate.wait_s()) or not sink.feed(chunk):
                self.paused = True
                return pycurl.WRITEFUNC_PAUSE
        elif self.error:
            return -1
        self.size = size
        if self.rate is not None:
            self.rate.spend(len(chunk))
        return None

    def _begin_body(self, sink: Sink) -> bool:
        """Show the response to the sink; False if the body is none that it takes."""
        if self.response[0]:  # looked at before
            return False
        status, headers = self.response = read_response(self.lines, briefly=not self.request.is_page)
        if 200 <= status < 300:
            self.begun = True
            self.error = sink.begin(status, headers) or ""
            return not self.error
        return False


class CurlTransport:
    """A Transport over pycurl; see fastmirror.transport.Transport for what its methods promise."""

    def __init__(self, settings: UpstreamSettings, connections: int) -> None:
        self._settings = settings
        self._authorised = origin(settings.master)
        self._ca_bundle = ca_bundle(settings.ca_bundle)
        self._poller = open_poller()
        self._watched: dict[int, Callable[[], None]] = {}
        self._registered: set[int] = set()
        self._deadline: float | None = None
        self._transfers: dict[int, _Transfer] = {}
        self._by_handle: dict[pycurl.Curl, _Transfer] = {}
        self._free: dict[tuple[bool, bool], list[_Transfer]] = {}
        self._clock = 0.0  # seconds spent in poll
        self._checked = 0.0
        self._rate: Rate | None = None
        self._failed: list[Reply] = []
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_MAXCONNECTS, connections)
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._on_socket)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._on_timer)
        self._bell = Bell()
        self.watch(self._bell.fileno(), self._bell.silence)

    def start(self, request: Request) -> None:
        """Begin a transfer; its Reply comes out of a later poll."""
        kind = (request.compressed, request.url[:6].lower() == "https:")
        free = self._free.setdefault(kind, [])
        transfer = free.pop() if free else _Transfer(self._new_handle(*kind), free, self._settings.file_hosts)
        transfer.begin(request, self._clock, self._rate if request.sink and not request.is_page else None)
        handle = transfer.handle
        try:
            handle.setopt(pycurl.URL, request.url)
            if request.headers != transfer.headers:
                handle.setopt(pycurl.HTTPHEADER, list(request.headers))
                transfer.headers = request.headers
            if self._settings.credentials is not None:
                self._set_credentials(handle, request.url, self._settings.credentials)
        except (pycurl.error, UnicodeError, ValueError) as error:
            free.append(transfer)
            self._failed.append(Reply(request.token, 0, {}, b"", f"malformed URL: {error}", retryable=False))
            return
        self._transfers[request.token] = self._by_handle[handle] = transfer
        self._multi.add_handle(handle)

    def poll(self, timeout_s: float) -> list[Reply]:
        """Move bytes, wait at most so long for something to happen, and return the transfers that ended."""
        begun = time.monotonic()
        wait = 0.0 if self._failed else min(timeout_s, _STALL_CHECK_S) if self._transfers else timeout_s
        if self._deadline is not None:
            wait = min(wait, max(0.0, self._deadline - begun))
        if self._rate is not None:
            wait = min(wait, self._rate.wait_s() or wait)
        acted = False
        for descriptor, events in self._poller.wait(wait):
            ready = self._watched.get(descriptor)
            if ready is not None:
                ready()
                continue
            acted = True
            # Trouble (a hang-up, an error) is for libcurl to find, by reading.
            action = pycurl.CSELECT_IN if events & ~WRITE else 0
            self._multi.socket_action(descriptor, action | (pycurl.CSELECT_OUT if events & WRITE else 0))
        now = time.monotonic()
        if self._deadline is not None and now >= self._deadline:
            self._deadline = None
            self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
            acted = True
        if self._rate is not None:
            self._go_on_within_rate(self._rate)
            acted = True
        self._clock += now - begun
        replies, self._failed = self._failed, []
        if self._clock - self._checked >= _STALL_CHECK_S:
            self._checked = self._clock
            replies += self._stalled()
        if acted:
            replies += self._ended()
        return replies

    def resume(self, token: int) -> None:
        """Go on with a transfer whose sink did not take a chunk."""
        transfer = self._transfers.get(token)
        if transfer is not None and transfer.paused:
            transfer.paused = False
            transfer.since, transfer.size_then = self._clock, transfer.size
            try:
                transfer.handle.pause(pycurl.PAUSE_CONT)
            except pycurl.error as error:  # what waited was refused in there
                self.cancel(token)
                reason = transfer.error or f"cannot be resumed: {error.args[-1]}"
                self._failed.append(Reply(token, 0, {}, b"", reason, retryable=not transfer.error))

    def cancel(self, token: int) -> None:
        """End a transfer without a Reply; its connection is closed."""
        transfer = self._transfers.pop(token, None)
        if transfer is not None:
            del self._by_handle[transfer.handle]
            self._multi.remove_handle(transfer.handle)
            transfer.handle.close()

    def watch(self, descriptor: int, ready: Callable[[], None] | None) -> None:
        """Call `ready` from `poll` whenever the descriptor can be read; None ends the watch."""
        if ready is None:
            del self._watched[descriptor]
            self._poller.unregister(descriptor)
        else:
            if descriptor not in self._watched:
                self._poller.register(descriptor, READ)
            self._watched[descriptor] = ready

    def wake(self) -> None:
        """Make a poll that waits return."""
        self._bell.ring()

    def limit_rate(self, bytes_per_second: float | None) -> None:
        """Let this transport's files together bring so much at most; for transfers begun from now on."""
        self._rate = Rate(bytes_per_second) if bytes_per_second else None

    def close(self) -> None:
        """End all transfers and connections."""
        for token in list(self._transfers):
            self.cancel(token)
        for transfers in self._free.values():
            for transfer in transfers:
                transfer.handle.close()
        self._multi.close()
        self._poller.close()
        self._bell.close()

    def _new_handle(self, compressed: bool, secure: bool) -> pycurl.Curl:
        handle = pycurl.Curl()
        handle.setopt(pycurl.USERAGENT, USER_AGENT)
        handle.setopt(pycurl.NOSIGNAL, 1)
        handle.setopt(pycurl.NOPROGRESS, 1)
        handle.setopt(pycurl.FOLLOWLOCATION, 1)
        handle.setopt(pycurl.MAXREDIRS, MAX_REDIRECTS)
        either = pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS
        handle.setopt(pycurl.PROTOCOLS, either)
        handle.setopt(pycurl.REDIR_PROTOCOLS, pycurl.PROTO_HTTPS if secure else either)
        handle.setopt(pycurl.CONNECTTIMEOUT_MS, int(self._settings.timeout_s * 1000))
        handle.setopt(pycurl.BUFFERSIZE, 256 << 10)
        handle.setopt(pycurl.TCP_KEEPALIVE, 1)
        if compressed:
            handle.setopt(pycurl.ENCODING, "gzip")
        if self._settings.longest_transfer_s is not None:
            handle.setopt(pycurl.TIMEOUT_MS, math.ceil(self._settings.longest_transfer_s * 1000))
        if self._ca_bundle:
            handle.setopt(pycurl.CAINFO, self._ca_bundle)
        self._set_proxy(handle)
        return handle

    def _set_proxy(self, handle: pycurl.Curl) -> None:
        """Said even where there is none: libcurl would look into the environment by itself."""
        proxy = self._settings.proxy or ""
        handle.setopt(pycurl.PROXY, proxy)
        handle.setopt(pycurl.NOPROXY, self._settings.no_proxy)
        if self._ca_bundle and proxy.startswith("https:"):
            handle.setopt(pycurl.PROXY_CAINFO, self._ca_bundle)

    def _set_credentials(self, handle: pycurl.Curl, url: str, credentials: tuple[str, str]) -> None:
        if origin(url) == self._authorised:
            handle.setopt(pycurl.HTTPAUTH, pycurl.HTTPAUTH_BASIC)
            handle.setopt(pycurl.USERPWD, ":".join(credentials).encode())
        else:
            handle.unsetopt(pycurl.USERPWD)

    def _on_socket(self, what: int, descriptor: int, _multi: object, _data: object) -> None:
        if what == pycurl.POLL_REMOVE:
            if descriptor in self._registered:
                self._registered.discard(descriptor)
                self._poller.unregister(descriptor)
        elif descriptor in self._registered:
            self._poller.modify(descriptor, _EVENTS[what])
        else:
            self._registered.add(descriptor)
            self._poller.register(descriptor, _EVENTS[what])

    def _on_timer(self, timeout_ms: int) -> None:
        self._deadline = None if timeout_ms < 0 else time.monotonic() + timeout_ms / 1000

    def _go_on_within_rate(self, rate: Rate) -> None:
        for token, transfer in list(self._transfers.items()):
            if rate.wait_s():
                return
            if transfer.paused and transfer.rate is not None:
                self.resume(token)

    def _ended(self) -> list[Reply]:
        replies: list[Reply] = []
        queued = 1
        while queued:
            queued, good, bad = self._multi.info_read()
            replies += [self._finish(handle, 0, "") for handle in good]
            replies += [self._finish(handle, code, message) for handle, code, message in bad]
        return replies

    def _finish(self, handle: pycurl.Curl, code: int, message: str) -> Reply:
        transfer = self._by_handle.pop(handle)
        del self._transfers[transfer.request.token]
        self._multi.remove_handle(handle)
        transfer.free.append(transfer)
        status, headers = transfer.response if transfer.begun else parse_headers(transfer.lines)
        error, retryable = "", is_retryable_status(status)
        if transfer.error:
            error, retryable = transfer.error, False
        elif code:
            error, retryable = _FINAL.get(code) or message or f"libcurl's error {code}", code not in _FINAL
        elif transfer.request.sink is not None and not transfer.begun and 200 <= status < 300:
            error = transfer.request.sink.begin(status, headers) or ""  # an empty body calls nothing
        return Reply(transfer.request.token, status, headers, transfer.body.getvalue(), error, retryable)

    def _stalled(self) -> list[Reply]:
        window = self._settings.timeout_s
        replies = []
        for token, transfer in list(self._transfers.items()):
            if transfer.paused or self._clock - transfer.since < window:
                continue
            moved = transfer.size - transfer.size_then
            if moved < LEAST_BYTES_PER_SECOND * window:
                self.cancel(token)
                reason = f"stalled: {moved} bytes in {window:g} s"
                replies.append(Reply(token, 0, {}, b"", reason, retryable=True))
            else:
                transfer.since, transfer.size_then = self._clock, transfer.size
        return replies
