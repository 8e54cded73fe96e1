"""Work that waits for another machine, several pieces at once beside the loop; what follows is called in the loop."""

from __future__ import annotations

import queue
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_WAITING_MOST = 2  # pieces of work for each thread, before no more is begun that will make some


class Hands:
    """So many threads. One owner, which calls `settle` in its loop."""

    def __init__(self, wake: Callable[[], None], threads: int) -> None:
        self._wake = wake
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="storage")
        self._most = threads * (1 + _WAITING_MOST)
        self._under_way = 0
        self._for_loop: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._for_room: deque[Callable[[], None]] = deque()

    def submit(self, work: Callable[[], None], then: Callable[[], None]) -> None:
        """Do `work` in a thread, and call `then` in the loop. `work` never raises. To be called in the loop."""
        self._under_way += 1

        def ended() -> None:
            self._under_way -= 1
            then()

        def run() -> None:
            work()
            self.in_loop(ended)

        self._threads.submit(run)

    def in_loop(self, step: Callable[[], None]) -> None:
        """Call this in the loop, soon. May be called by any thread."""
        self._for_loop.put(step)
        self._wake()

    def when_room(self, begin: Callable[[], None]) -> None:
        """Call what will make more work: at once, or when less is waiting. To be called in the loop."""
        if self._under_way < self._most:
            begin()
        else:
            self._for_room.append(begin)

    def settle(self) -> None:
        """Call what is to be called; in the loop."""
        while not self._for_loop.empty():
            self._for_loop.get()()
        while self._for_room and self._under_way < self._most:
            self._for_room.popleft()()

    def close(self) -> None:
        """End the threads when what they are at is done; what waits is dropped."""
        self._threads.shutdown(cancel_futures=True)
