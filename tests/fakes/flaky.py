"""A server on loopback that hands requests on to another one, and does to some of them what networks and stores do."""

from __future__ import annotations

import http.client
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

_SLOW_DOWN = (
    b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)
_FIRST_KEY = re.compile(b"<Key>([^<]*)</Key>")
_SPARED = {"spare": b"SlowDown", "keep": b"AccessDenied"}


class Fault(NamedTuple):
    """What is done to requests of which this is a part: of ``METHOD path?query``."""

    matching: str
    kind: str  # "throttle", "cut" (within the body), "lose" (the answer), "alter" (a byte of the body),
    # "spare" (the first of the keys that a POST removes, for the moment), "keep" (it, for good)
    times: int = 1


class Flaky:
    """Hands on to 127.0.0.1:`port` what none of its `faults` concerns; `seen` lists all requests."""

    def __init__(self, port: int) -> None:
        self.faults: list[Fault] = []
        self.seen: list[str] = []
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self, port))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def url(self) -> str:
        """Its root, without a final slash."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def take(self, request: str) -> str:
        """What is to be done to this request; "" if nothing."""
        with self._lock:
            self.seen.append(request)
            for position, fault in enumerate(self.faults):
                if fault.matching in request and fault.times:
                    self.faults[position] = fault._replace(times=fault.times - 1)
                    return fault.kind
        return ""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _spared(body: bytes, kind: str) -> tuple[bytes, bytes]:
    """(a request that removes objects without its first key, what is said of that one)."""
    first = _FIRST_KEY.search(body) if kind in _SPARED else None
    if first is None:
        return body, b""
    error = b"<Error><Key>%s</Key><Code>%s</Code></Error>" % (first[1], _SPARED[kind])
    return body.replace(first[1], b"-" * len(first[1])), b"<DeleteResult>%s</DeleteResult>" % error


def _handler(flaky: Flaky, port: int) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except ConnectionError:
                self.close_connection = True

        def do_PUT(self) -> None:
            kind = flaky.take(f"{self.command} {self.path}")
            length = int(self.headers.get("Content-Length", "0"))
            if kind == "cut":
                self.rfile.read(length // 2)
                self.close_connection = True
                return
            body = self.rfile.read(length)
            if kind == "throttle":
                self._answer(503, [("Content-Type", "application/xml")], _SLOW_DOWN)
                return
            if kind == "alter":
                body = bytes([body[0] ^ 1]) + body[1:]
            body, said = _spared(body, kind)
            status, headers, answered = self._hand_on(body)
            if kind == "lose":
                self.close_connection = True
                return
            self._answer(status, headers, said or answered)

        do_GET = do_HEAD = do_POST = do_DELETE = do_PUT  # noqa: N815

        def _hand_on(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            try:
                connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    connection.putheader(name, value)
                connection.endheaders(body)
                response = connection.getresponse()
                return response.status, response.getheaders(), response.read()
            finally:
                connection.close()

        def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
            self.send_response_only(status)
            for name, value in headers:
                if name.lower() not in {"transfer-encoding", "connection", "content-length"}:
                    self.send_header(name, value)
            stated = dict(headers).get("Content-Length", "0") if self.command == "HEAD" else str(len(body))
            self.send_header("Content-Length", stated)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """`seen` is the log."""

    return Handler
