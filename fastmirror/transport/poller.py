"""Waiting for sockets: epoll, or poll where there is none. `selectors` would cost a tenth of a small transfer."""

from __future__ import annotations

import math
import select

READ = 1  # POLLIN and EPOLLIN
WRITE = 4  # POLLOUT and EPOLLOUT


class EpollPoller:
    """One loop's sockets, with epoll."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self.register = self._epoll.register
        self.modify = self._epoll.modify
        self.unregister = self._epoll.unregister
        self.wait = self._epoll.poll  # (seconds) -> [(descriptor, events)]
        self.close = self._epoll.close


class PollPoller:
    """One loop's sockets, with poll."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self.register = self._poll.register
        self.modify = self._poll.modify
        self.unregister = self._poll.unregister

    def wait(self, timeout_s: float) -> list[tuple[int, int]]:
        """Wait at most so long; (descriptor, events) for each that is ready."""
        return self._poll.poll(math.ceil(timeout_s * 1000))

    def close(self) -> None:
        """There is nothing to let go of."""


def open_poller() -> EpollPoller | PollPoller:
    """The better one that this system has."""
    return EpollPoller() if hasattr(select, "epoll") else PollPoller()
