"""Values between the parent and a worker: framed, never blocking, over one socket."""

from __future__ import annotations

import pickle
import socket
import struct
from collections import deque
from contextlib import suppress
from typing import Any

_HEADER = struct.Struct("!Q")
_CHUNK = 1 << 18


def packed(value: object) -> bytes:
    """A value on its way to another of this program's own processes."""
    return pickle.dumps(value, protocol=5)


def unpacked(data: bytes) -> Any:  # noqa: ANN401 - whatever was packed
    """What was packed, by another of this program's own processes."""
    return pickle.loads(data)  # noqa: S301 - from our own processes


class Channel:
    """One end of a socket that carries values. Both ends are this program's own processes."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._socket = end
        self._outgoing: deque[memoryview] = deque()
        self._incoming = bytearray()
        self.is_open = True  # False once the other end is gone

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._socket.fileno()

    def send(self, value: object) -> None:
        """Send a value, or keep what the socket does not take yet: see `wants_to_write`."""
        data = packed(value)
        self._outgoing.append(memoryview(_HEADER.pack(len(data)) + data))
        self.flush()

    @property
    def wants_to_write(self) -> bool:
        """Whether something is still to be sent, by `flush`, when the socket can be written."""
        return bool(self._outgoing) and self.is_open

    def flush(self) -> None:
        """Send what the socket takes."""
        while self._outgoing and self.is_open:
            data = self._outgoing[0]
            try:
                sent = self._socket.send(data)
            except BlockingIOError:
                return
            except OSError:
                self.is_open = False
                return
            if sent == len(data):
                self._outgoing.popleft()
            else:
                self._outgoing[0] = data[sent:]

    def drain(self) -> None:
        """Send all that is still to be sent, however long it takes."""
        self._socket.setblocking(True)
        self.flush()

    def wait(self) -> list[Any]:
        """Wait for something to arrive; empty if the other end is gone."""
        values: list[Any] = []
        while self.is_open and not values:
            self._socket.setblocking(True)
            with suppress(OSError):  # receive sees it, too
                self._socket.recv(1, socket.MSG_PEEK)
            self._socket.setblocking(False)
            values = self.receive()
        return values

    def receive(self) -> list[Any]:
        """Every whole value that has arrived; `is_open` says whether more can come."""
        while True:
            try:
                chunk = self._socket.recv(_CHUNK)
            except BlockingIOError:
                break
            except OSError:
                self.is_open = False
                break
            if not chunk:
                self.is_open = False
                break
            self._incoming += chunk
            if len(chunk) < _CHUNK:
                break
        return self._unpack()

    def close(self) -> None:
        """Close this end; the other end sees it."""
        self.is_open = False
        self._socket.close()

    def _unpack(self) -> list[Any]:
        values = []
        start, available = 0, len(self._incoming)
        while available - start >= _HEADER.size:
            (length,) = _HEADER.unpack_from(self._incoming, start)
            end = start + _HEADER.size + length
            if end > available:
                break
            values.append(pickle.loads(memoryview(self._incoming)[start + _HEADER.size : end]))  # noqa: S301 - from our own worker
            start = end
        del self._incoming[:start]
        return values
