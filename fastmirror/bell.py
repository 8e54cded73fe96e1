"""A bell: wakes a loop that waits, from any thread."""

from __future__ import annotations

import socket


class Bell:
    """Ring it from anywhere; the loop waits for its descriptor, and silences it."""

    def __init__(self) -> None:
        self._loop_end, self._ringing_end = socket.socketpair()
        self._loop_end.setblocking(False)
        self._ringing_end.setblocking(False)

    def fileno(self) -> int:
        """The descriptor to wait for: it can be read once the bell was rung."""
        return self._loop_end.fileno()

    def ringing_fileno(self) -> int:
        """The descriptor that rings it when a byte is written to it, as a signal handler may."""
        return self._ringing_end.fileno()

    def ring(self) -> None:
        """Wake the loop."""
        try:
            self._ringing_end.send(b"\0")
        except BlockingIOError:
            return  # it rings already

    def silence(self) -> None:
        """Let the loop wait again."""
        try:
            while self._loop_end.recv(4096):
                pass
        except BlockingIOError:
            return

    def close(self) -> None:
        """Close both ends."""
        self._loop_end.close()
        self._ringing_end.close()
