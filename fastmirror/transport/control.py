"""The control lane: what is asked for once a run, one GET at a time, by the transport that the settings name."""

from __future__ import annotations

import signal
import threading
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fastmirror.settings import Settings
    from fastmirror.transport import Reply, Request, Transport

_TICK_S = 0.2


def open_transport(settings: Settings, connections: int) -> Transport:
    """The transport that the settings name, with room for so many transfers."""
    if settings.pool.transport == "requests":
        from fastmirror.transport.session import SessionTransport

        return SessionTransport(settings.upstream, connections)
    from fastmirror.transport.curl import CurlTransport

    return CurlTransport(settings.upstream, connections)


class ControlLane:
    """Blocking GETs. Each has a connection of its own: one that was kept would be the forked workers' as well."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def get(self, request: Request) -> Reply:
        """Do one GET whole, of a request without a sink; never raises for what the network does."""
        if self._settings.pool.transport == "requests":
            from fastmirror.transport.session import Session

            with closing(Session(self._settings.upstream)) as session:
                return session.get(request)
        with closing(open_transport(self._settings, 1)) as transport, _signals_in_between() as deliver:
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
