"""What the service manager that started this process is told: systemd's notifications, as sd_notify(3) has them.

One datagram a message, of lines ``NAME=value``. The watchdog hears that work goes on, not that a process is
there: while a run has jobs out, only if a worker has said something since.
"""

from __future__ import annotations

import logging
import math
import os
import socket
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

_LOG = logging.getLogger(__name__)
_STATUS_S = 5.0  # the status is renewed no more often than this
_SEND_S = 1.0
_WITHIN = 4  # parts of the watchdog's time, in one of which it hears something


class Supervisor:
    """The service manager, or nobody: then nothing is due, and nothing is sent."""

    def __init__(self, address: str = "", watchdog_s: float = math.inf) -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self.period_s = min(_STATUS_S, watchdog_s / _WITHIN) if address else math.inf
        self._told = -math.inf

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Self:
        """Whoever the environment names."""
        watched = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        microseconds = environment.get("WATCHDOG_USEC", "") if watched else ""
        watchdog_s = int(microseconds) / 1e6 if microseconds.isdecimal() and int(microseconds) else math.inf
        return cls(environment.get("NOTIFY_SOCKET", ""), watchdog_s)

    def is_due(self) -> bool:
        """Whether it is time that it hears again that work goes on."""
        return self._address != "" and time.monotonic() - self._told >= self.period_s

    def work(self, said: str) -> None:
        """Work goes on, and what is done now."""
        self.tell(f"STATUS={said}", "WATCHDOG=1")

    def tell(self, *lines: str) -> None:
        """Send one message. That nobody hears it is no failure."""
        if not self._address:
            return
        self._told = time.monotonic()
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.settimeout(_SEND_S)
                sender.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            _LOG.debug("the service manager cannot be told: %s", error)
