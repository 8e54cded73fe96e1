"""The control lane: what is asked for once a run, one GET at a time, by the transport that the settings name."""

from __future__ import annotations

import math
import signal
import threading
import time
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fastmirror.settings import Settings
    from fastmirror.transport import Reply, Request, Transport

_TICK_S = 0.2
# For one request: a root index that drips would hold the mirror's lock for weeks.
_LONGEST_S, _SHORTEST_S = 3600.0, 60.0


def open_transport(settings: Settings, connections: int) -> Transport:
    """The transport that the settings name, with room for so many transfers."""
    if settings.pool.transport == "requests":
        from fastmirror.transport.session import SessionTransport

        return SessionTransport(settings.upstream, connections)
    from fastmirror.transport.curl import CurlTransport

    return CurlTransport(settings.upstream, connections)


class ControlLane:
    """Blocking GETs. Each has a connection of its own: one that was kept would be the forked workers' as well."""

    def __init__(self, settings: Settings, deadline: float | None = None) -> None:
        """After `deadline`, of the monotonic clock, nothing is waited for any longer than _SHORTEST_S."""
        self._settings = settings
        self._deadline = math.inf if deadline is None else deadline

    @property
    def left_s(self) -> float:
        """How long one request may take from now on."""
        return min(_LONGEST_S, max(_SHORTEST_S, self._deadline - time.monotonic()))

    def get(self, request: Request) -> Reply:
        """Do one GET whole, of a request without a sink; never raises for what the network does."""
        upstream = self._settings.upstream
        upstream = replace(upstream, longest_transfer_s=min(self.left_s, upstream.longest_transfer_s or math.inf))
        settings = replace(self._settings, upstream=upstream)
        if settings.pool.transport == "requests":
            from fastmirror.transport.session import Session

            with closing(Session(upstream)) as session:
                return session.get(request)
        with closing(open_transport(settings, 1)) as transport, _signals_in_between() as deliver:
            transport.start(request)
            while not (replies := transport.poll(_TICK_S)):
                deliver()
        return replies[0]


@contextmanager
def _signals_in_between() -> Iterator[Callable[[], None]]:
    """Have SIGINT and SIGTERM act when the function that this yields is called: a handler that raises within one of
    libcurl's callbacks ends the transfer, and nothing else.
    """
    came: list[int] = []
    kept = {}
    if threading.current_thread() is threading.main_thread():
        kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, _frame: object) -> None:
        came.append(number)

    def listen() -> None:
        for number, handler in kept.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, note)

    def restore() -> None:
        for number, handler in kept.items():
            signal.signal(number, handler)

    def deliver() -> None:
        if came:
            restore()
            while came:
                signal.raise_signal(came.pop())
            listen()

    listen()
    try:
        yield deliver
    finally:
        restore()
    deliver()
