"""Proxies on loopback, one over HTTP and one over SOCKS, which remember what went through them."""

from __future__ import annotations

import contextlib
import http.client
import socket
import socketserver
import threading
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, ClassVar, Self
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

_LONGEST_S = 30.0
_OF_ONE_HOP = {"connection", "proxy-connection", "proxy-authorization", "keep-alive", "transfer-encoding"}


class Proxy(socketserver.ThreadingTCPServer):
    """What both have in common; serves from its creation until it is closed."""

    daemon_threads = True
    scheme: ClassVar[str]

    def __init__(
        self, handler: type[socketserver.BaseRequestHandler], routes: Mapping[str, int], address: str = "127.0.0.1"
    ) -> None:
        super().__init__((address, 0), handler)
        self.address = address
        self.routes = routes  # host -> port on loopback; any other host is asked as it was named
        self.hosts: list[str] = []  # that were asked for, as they were named
        self.credentials: set[str] = set()  # that were shown
        self.ports: set[int] = set()  # of its own connections to what was asked for
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join(5)

    def url(self, scheme: str | None = None, userinfo: str = "") -> str:
        """Its address, with a user and a password if they are given."""
        host, port = self.address, self.server_address[1]
        return f"{scheme or self.scheme}://{userinfo}{'@' if userinfo else ''}{host}:{port}"

    def connect(self, host: str, port: int) -> socket.socket:
        """A connection to what was asked for."""
        self.hosts.append(host)
        target = ("127.0.0.1", self.routes[host]) if host in self.routes else (host, port)
        connection = socket.create_connection(target, timeout=_LONGEST_S)
        self.ports.add(connection.getsockname()[1])
        return connection


class HttpProxy(Proxy):
    """Forwards GETs of whole URLs."""

    scheme = "http"

    def __init__(self, routes: Mapping[str, int] | None = None, address: str = "127.0.0.1") -> None:
        super().__init__(_Forwarding, routes or {}, address)


class SocksProxy(Proxy):
    """SOCKS 4, 4a and 5, and of 5 also with a user and a password."""

    scheme = "socks5h"

    def __init__(self, routes: Mapping[str, int] | None = None) -> None:
        super().__init__(_Tunnelling, routes or {})


class _Forwarding(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HttpProxy

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        self.server.credentials.add(self.headers.get("Proxy-Authorization", ""))
        connection = http.client.HTTPConnection(address.hostname or "", address.port or 80)
        try:
            connection.sock = self.server.connect(address.hostname or "", address.port or 80)
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _OF_ONE_HOP}
            connection.request("GET", address.path or "/", headers=headers)
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException):
            self.send_error(502)
            return
        finally:
            connection.close()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in _OF_ONE_HOP | {"content-length", "date", "server"}:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Say nothing."""


class _Tunnelling(socketserver.StreamRequestHandler):
    server: SocksProxy

    def handle(self) -> None:
        with contextlib.suppress(OSError, IndexError):
            version = self.rfile.read(1)[0]
            host, port = self._asked_by_5() if version == 5 else self._asked_by_4()
            with self.server.connect(host, port) as target:
                nowhere = bytes(6)
                self.wfile.write(b"\x05\x00\x00\x01" + nowhere if version == 5 else b"\x00\x5a" + nowhere)
                there = threading.Thread(target=self._to, args=(target,), daemon=True)
                there.start()
                while data := target.recv(1 << 16):
                    self.wfile.write(data)
                with contextlib.suppress(OSError):
                    self.connection.shutdown(socket.SHUT_RDWR)
                there.join()

    def _to(self, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := self.rfile.read1(1 << 16):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def _asked_by_5(self) -> tuple[str, int]:
        methods = self.rfile.read(self.rfile.read(1)[0])
        self.wfile.write(b"\x05\x02" if 2 in methods else b"\x05\x00")
        if 2 in methods:
            self.rfile.read(1)
            user, password = (self.rfile.read(self.rfile.read(1)[0]).decode() for _ in range(2))
            self.server.credentials.add(f"{user}:{password}")
            self.wfile.write(b"\x01\x00")
        kind = self.rfile.read(4)[3]
        if kind == 3:
            host = self.rfile.read(self.rfile.read(1)[0]).decode()
        else:
            family, size = (socket.AF_INET, 4) if kind == 1 else (socket.AF_INET6, 16)
            host = socket.inet_ntop(family, self.rfile.read(size))
        return host, int.from_bytes(self.rfile.read(2))

    def _asked_by_4(self) -> tuple[str, int]:
        self.rfile.read(1)
        port, address = int.from_bytes(self.rfile.read(2)), self.rfile.read(4)
        self._text()
        is_named = address[:3] == bytes(3) and address[3]
        return (self._text() if is_named else socket.inet_ntoa(address)), port

    def _text(self) -> str:
        text = b""
        while (byte := self.rfile.read(1)) not in {b"\0", b""}:
            text += byte
        return text.decode()
