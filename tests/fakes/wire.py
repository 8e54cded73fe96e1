"""A small HTTP/1.1 server over raw sockets, which can also answer as no server should.

One thread per connection, keep-alive. What to say is an Answer; how it is sent (framing, pace, where it
breaks off) is part of it, so that a fault is a change to an Answer.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, BinaryIO, Literal
from urllib.parse import unquote

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

Side = Literal["index", "files"]
_LONGEST_HOLD_S = 120.0
_RESET = struct.pack("ii", 1, 0)  # linger on, for no time: close() sends RST
_PHRASES = {int(status): status.phrase for status in HTTPStatus}


class Gate:
    """Holds requests until the test lets them go."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._arrived = 0
        self._open = False

    def wait(self, count: int = 1, timeout_s: float = 30.0) -> None:
        """Wait until ``count`` requests in all have come to the gate; TimeoutError if they do not."""
        with self._condition:
            if not self._condition.wait_for(lambda: self._arrived >= count, timeout_s):
                raise TimeoutError(f"{self._arrived} of {count} requests came to the gate in {timeout_s} s")

    def open(self) -> None:
        """Let go what is held, and whatever comes later."""
        with self._condition:
            self._open = True
            self._condition.notify_all()

    def arrive(self) -> None:
        """The server's side: count one request, and hold it while the gate is shut, at most two minutes."""
        with self._condition:
            self._arrived += 1
            self._condition.notify_all()
            self._condition.wait_for(lambda: self._open, _LONGEST_HOLD_S)


@dataclass(slots=True)
class Record:
    """One request as it came, and what was answered."""

    side: Side
    method: str
    target: str  # as in the request line
    path: str  # without query, percent-escapes as sent
    query: str
    headers: dict[str, str]  # names in lower case
    proxied: bool  # the request line held a whole URL
    status: int = 0  # 0: nothing was answered
    sent: int = 0  # bytes of body handed to the socket
    port: int = 0  # the client's
    crowd: int = 0  # requests of this server that were in flight when it came, itself among them
    came: float = field(default_factory=time.monotonic)  # when, in seconds of the monotonic clock

    @property
    def decoded_path(self) -> str:
        """The path with its percent-escapes decoded."""
        return unquote(self.path) if "%" in self.path else self.path


@dataclass(slots=True)
class Answer:
    """What to answer, and how to send it."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    framing: Literal["length", "chunked", "close"] = "length"
    declared: int | None = None  # the length to claim, if not the true one
    mute: bool = False  # send nothing at all, not even a status line
    stop_at: int | None = None  # bytes of body after which to break off
    reset: bool = False  # break off with RST, not FIN
    piece: int | None = None  # bytes of body per send
    pause_s: float = 0.0  # between pieces
    gate: Gate | None = None
    hold_at: int | None = None  # bytes of body sent before the gate; None: not even the status line

    def head(self, *, keep_alive: bool) -> bytes:
        """Status line and headers."""
        lines = [f"HTTP/1.1 {self.status} {_PHRASES.get(self.status, 'Unknown')}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        if self.status != HTTPStatus.NOT_MODIFIED:
            if self.framing == "chunked":
                lines.append("Transfer-Encoding: chunked")
            elif self.framing == "length":
                lines.append(f"Content-Length: {len(self.body) if self.declared is None else self.declared}")
        if not keep_alive:
            lines.append("Connection: close")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class Server:
    """One listening socket on loopback; ``answer`` is called in the thread of each connection."""

    def __init__(
        self, answer: Callable[[Record], Answer], side: Side, port: int = 0, tls: ssl.SSLContext | None = None
    ) -> None:
        self._answer = answer
        self._tls = tls
        self._side: Side = side
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._connections: dict[threading.Thread, socket.socket] = {}
        self._in_flight = 0
        self._listener = socket.create_server(("127.0.0.1", port), backlog=1024)
        self.port: int = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, name=f"fake {side}", daemon=True)
        self._acceptor.start()

    @property
    def url(self) -> str:
        """Scheme, host and port, without a trailing slash."""
        return f"{'http' if self._tls is None else 'https'}://127.0.0.1:{self.port}"

    def close(self) -> None:
        """End every connection and every thread."""
        self._closing.set()
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()  # wakes accept()
        self._acceptor.join(5)
        self._listener.close()
        with self._lock:
            connections = list(self._connections.items())
        for _, connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread, _ in connections:
            thread.join(5)

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            if self._closing.is_set():
                connection.close()
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            with self._lock:
                self._connections[thread] = connection
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with contextlib.suppress(OSError):
                connection = self._secured(connection)
                port = connection.getpeername()[1]
                with connection.makefile("rb") as stream:
                    while (record := _read_request(stream, self._side)) is not None:
                        record.port = port
                        with self._counted(record):
                            if not self._reply(connection, record, self._answer(record)):
                                break
        finally:
            connection.close()
            with self._lock:
                self._connections.pop(threading.current_thread(), None)

    @contextlib.contextmanager
    def _counted(self, record: Record) -> Iterator[None]:
        with self._lock:
            self._in_flight += 1
            record.crowd = self._in_flight
        try:
            yield
        finally:
            with self._lock:
                self._in_flight -= 1

    def _secured(self, connection: socket.socket) -> socket.socket:
        if self._tls is None:
            return connection
        secured = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        with self._lock:
            self._connections[threading.current_thread()] = secured
        return secured

    def _reply(self, connection: socket.socket, record: Record, answer: Answer) -> bool:
        """Send an answer; whether the connection stays."""
        if answer.gate is not None and answer.hold_at is None:
            answer.gate.arrive()
        body = b"" if record.method == "HEAD" or answer.status == HTTPStatus.NOT_MODIFIED else answer.body
        cut = len(body) if answer.stop_at is None else min(answer.stop_at, len(body))
        whole = cut == len(body) and answer.stop_at is None and not answer.mute and not answer.reset
        keep_alive = answer.framing != "close" and record.headers.get("connection", "").lower() != "close"
        if not answer.mute:
            record.status = answer.status
            head = answer.head(keep_alive=keep_alive)
            for piece in self._pieces(head, body[:cut], answer, record):
                connection.sendall(piece)
            if whole and answer.framing == "chunked" and record.method != "HEAD":
                connection.sendall(b"0\r\n\r\n")
        if answer.reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        return keep_alive and whole and not self._closing.is_set()

    def _pieces(self, head: bytes, body: bytes, answer: Answer, record: Record) -> Iterator[bytes]:
        """The bytes to send, one ``send`` each; counts them, pauses and holds on the way."""

        def framed(part: bytes) -> bytes:
            record.sent += len(part)
            if answer.framing == "chunked" and part:
                return b"%x\r\n%b\r\n" % (len(part), part)
            return part

        held = answer.hold_at if answer.gate is not None else None
        if held is None and answer.piece is None:
            yield head + framed(body) if len(body) < 1 << 16 else head
            if len(body) >= 1 << 16:
                yield framed(body)
            return
        yield head
        if held is not None and answer.gate is not None:
            yield framed(body[:held])
            answer.gate.arrive()
            body = body[held:]
        size = answer.piece or max(len(body), 1)
        for start in range(0, len(body), size):
            if start and answer.pause_s and self._closing.wait(answer.pause_s):
                return
            yield framed(body[start : start + size])


def _read_request(stream: BinaryIO, side: Side) -> Record | None:
    """Read one request with its body; None at the end of the connection, or if it is no request."""
    words = stream.readline(1 << 16).split()
    if len(words) != 3:
        return None
    headers: dict[str, str] = {}
    while (line := stream.readline(1 << 16)) not in {b"\r\n", b"\n", b""}:
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    if headers.get("content-length", "").isdecimal():
        stream.read(int(headers["content-length"]))
    method, target = words[0].decode("latin-1"), words[1].decode("latin-1")
    scheme, separator, rest = target.partition("://")
    proxied = bool(separator) and scheme in {"http", "https"}
    origin_form = "/" + rest.partition("/")[2] if proxied else target
    path, _, query = origin_form.partition("?")
    return Record(side, method, target, path, query, headers, proxied)
