"""A limit on bytes per second, shared by transfers."""

from __future__ import annotations

import threading
import time

# So many seconds' worth of bytes may come in one go.
_BURST_S = 0.25


class Rate:
    """Bytes that may still come, refilled by the clock. Threads may share one."""

    def __init__(self, bytes_per_second: float) -> None:
        self._bytes_per_second = bytes_per_second
        self._balance = bytes_per_second * _BURST_S
        self._at = time.monotonic()
        self._lock = threading.Lock()

    def spend(self, size: int) -> None:
        """So many bytes came."""
        with self._lock:
            self._balance -= size

    def wait_s(self) -> float:
        """Seconds until more may come; 0 if it may now."""
        with self._lock:
            now = time.monotonic()
            earned = (now - self._at) * self._bytes_per_second
            self._balance = min(self._balance + earned, self._bytes_per_second * _BURST_S)
            self._at = now
            return max(0.0, -self._balance / self._bytes_per_second)
