"""Two lanes of transfers, each with its budget: index pages, and files. Retries, back-off, timers.

A transient failure is tried again after an exponential back-off with jitter; Retry-After is honoured, and an
upstream that asks for less is reported to the parent, which lowers everyone's share. What is refused (429, 503)
while much else is refused too is no fault of its own, and is tried more often.
"""

from __future__ import annotations

import heapq
import time
from collections import deque
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import IntEnum
from functools import partial
from typing import TYPE_CHECKING

from fastmirror.patience import MUCH, Patience, backoff_s

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastmirror.transport import Reply, Request, Sink, Transport

RETRY_AFTER_LONGEST_S = 300.0
THROTTLES = frozenset({429, 503})
_MORE_TRIES = 2  # for what is refused along with much else


class Lane(IntEnum):
    """What a transfer brings, and so which budget it uses."""

    INDEX = 0
    FILE = 1


class _Errand:
    """A request on its way to its final reply."""

    __slots__ = ("broken", "done", "is_in_trouble", "is_spared", "lane", "make", "sink", "tries")

    def __init__(
        self,
        lane: Lane,
        make: Callable[[int], Request],
        done: Callable[[Reply], None],
        broken: Callable[[], None] | None,
    ) -> None:
        self.lane = lane
        self.make = make
        self.done = done
        self.broken = broken
        self.tries = 0
        self.sink: Sink | None = None  # of the try in flight
        self.is_in_trouble = False  # its last try failed
        self.is_spared = False  # refused along with much else


class Lanes:
    """Transfers under a budget. One owner; everything happens inside `poll`."""

    def __init__(self, transport: Transport, tries: int) -> None:
        self.transport = transport
        self.throttled_s: float | None = None  # upstream asked for less: seconds to wait; the owner resets it
        self._tries = tries
        self._budget = [1, 1]  # by lane
        self._in_flight = [0, 0]
        self._waiting: tuple[deque[_Errand], deque[_Errand]] = (deque(), deque())
        self._errands: dict[int, _Errand] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._token = 0
        self._held_until = 0.0
        self._in_trouble = [0, 0]  # errands, by lane
        self._patience = (Patience(), Patience())
        self._refusals: list[Reply | None] = [None, None]  # the last of each lane

    def get(
        self,
        lane: Lane,
        make: Callable[[int], Request],
        done: Callable[[Reply], None],
        broken: Callable[[], None] | None = None,
    ) -> None:
        """Ask for something.

        `make` builds the request from its token at each try, `broken` is called after a try that another one
        may follow, `done` takes the last reply: that of another request, where upstream refuses all of them.
        """
        self._enqueue(_Errand(lane, make, done, broken))

    def set_budget(self, index_transfers: int, file_transfers: int) -> None:
        """How many transfers may be in flight; what is beyond a lowered budget ends by itself."""
        self._budget = [index_transfers, file_transfers]
        self._dispatch_all()

    def hold(self, seconds: float) -> None:
        """Begin nothing for so long."""
        self._held_until = max(self._held_until, time.monotonic() + seconds)
        self.after(seconds, self._dispatch_all)

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Call `act` from a later poll."""
        self._token += 1
        heapq.heappush(self._timers, (time.monotonic() + seconds, self._token, act))

    @property
    def in_flight(self) -> tuple[int, int]:
        """Transfers in flight, by lane."""
        return self._in_flight[Lane.INDEX], self._in_flight[Lane.FILE]

    def file_bytes_in_flight(self) -> int:
        """What has come so far of the files in flight."""
        errands = self._errands.values()
        return sum(errand.sink.size for errand in errands if errand.sink is not None and errand.lane is Lane.FILE)

    def free_index_transfers(self) -> int:
        """How many more pages could be asked for now."""
        return self._budget[Lane.INDEX] - self._in_flight[Lane.INDEX] - len(self._waiting[Lane.INDEX])

    def poll(self, timeout_s: float) -> None:
        """Move bytes; wait at most so long."""
        if self._timers:
            timeout_s = min(timeout_s, max(0.0, self._timers[0][0] - time.monotonic()))
        for reply in self.transport.poll(timeout_s):
            self._take(reply)
        now, due = time.monotonic(), []
        while self._timers and self._timers[0][0] <= now:
            due.append(heapq.heappop(self._timers)[2])
        for act in due:
            act()

    def _enqueue(self, errand: _Errand) -> None:
        self._waiting[errand.lane].append(errand)
        self._dispatch(errand.lane)

    def _dispatch_all(self) -> None:
        for lane in Lane:
            self._dispatch(lane)

    def _dispatch(self, lane: Lane) -> None:
        """Begin what waits, as far as the budget and the upstream's state allow."""
        waiting, budget, is_tested = self._waiting[lane], self._budget[lane], self._patience[lane].is_tested
        if not waiting or (self._in_flight[lane] >= budget and not is_tested) or not self._may_begin(lane):
            return
        if is_tested:
            budget = min(budget, 1)
        while waiting and self._in_flight[lane] < budget:
            errand = waiting.popleft()
            self._token += 1
            self._in_flight[lane] += 1
            self._errands[self._token] = errand
            errand.tries += 1
            request = errand.make(self._token)
            errand.sink = request.sink
            self.transport.start(request)

    def _may_begin(self, lane: Lane) -> bool:
        now, patience = time.monotonic(), self._patience[lane]
        if now < self._held_until:
            return False
        if not patience.rests(now):
            return True
        if patience.is_over:
            self._refuse_all(lane)
        return False

    def _refuse_all(self, lane: Lane) -> None:
        """Upstream refuses everything: what waits is answered as the last request was, and is not asked for."""
        waiting, refusal = self._waiting[lane], self._refusals[lane]
        while waiting and refusal is not None:
            self.after(0.0, partial(self._end, waiting.popleft(), refusal))

    def _take(self, reply: Reply) -> None:
        errand = self._errands.pop(reply.token)
        lane = errand.lane
        self._in_flight[lane] -= 1
        asked_to_wait = 0.0
        if reply.status in THROTTLES:
            asked_to_wait = retry_after_s(reply)
            self.throttled_s = max(self.throttled_s or 0.0, asked_to_wait)
        if not reply.retryable:
            self._patience[lane].served()
            self._end(errand, reply)
        else:
            self._note_refusal(errand, reply)
            if errand.tries < self._tries + (_MORE_TRIES if errand.is_spared else 0):
                if errand.broken is not None:
                    errand.broken()
                self.after(max(backoff_s(errand.tries), asked_to_wait), lambda: self._enqueue(errand))
            else:
                self._end(errand, reply)
        self._dispatch(lane)

    def _note_refusal(self, errand: _Errand, reply: Reply) -> None:
        lane, is_first = errand.lane, not errand.is_in_trouble
        self._refusals[lane] = reply
        self._in_trouble[lane] += is_first
        errand.is_in_trouble = True
        if reply.status in THROTTLES and self._in_trouble[lane] >= MUCH:
            errand.is_spared = True
        if rest_s := self._patience[lane].refused(time.monotonic(), is_first=is_first):
            self.after(rest_s, partial(self._dispatch, lane))

    def _end(self, errand: _Errand, reply: Reply) -> None:
        self._in_trouble[errand.lane] -= errand.is_in_trouble
        errand.done(reply)


def retry_after_s(reply: Reply) -> float:
    """Retry-After of a 429 or 503 in seconds, in either of its forms, within bounds; 0 if there is none."""
    if reply.status not in THROTTLES:
        return 0.0
    text = reply.headers.get("retry-after", "").strip()
    if not text:
        return 0.0
    try:
        seconds = float(text) if text.isdigit() else _seconds_until(text)
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return min(max(seconds, 0.0), RETRY_AFTER_LONGEST_S)


def _seconds_until(text: str) -> float:
    moment = parsedate_to_datetime(text)
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - datetime.now(UTC)).total_seconds()


def failure_reason(reply: Reply) -> str:
    """Why a reply is no success, for a person."""
    return reply.error or f"HTTP status {reply.status}"
