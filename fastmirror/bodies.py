"""One body on its way into staging: asked for at one source or several, and checked."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from fastmirror.errors import is_storage_failure
from fastmirror.lanes import Lane, Lanes, failure_reason
from fastmirror.sink import FileSink, Goal, SideThread
from fastmirror.sources import Sources, place
from fastmirror.transport import Reply, Request

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastmirror.storage import Storage

_PLAIN = ("Accept-Encoding: identity",)
_ABSENT = frozenset({403, 404, 410})


class Desk(NamedTuple):
    """What a fetch works with."""

    lanes: Lanes
    storage: Storage
    side: SideThread


class Arrival(NamedTuple):
    """How one body ended."""

    staged: str  # path in staging; "" if it failed
    sha256: str
    size: int
    reason: str  # why it failed
    storage_failure: bool = False
    is_absent: bool = False  # upstream says that there is none
    descriptor: int = -1  # of what was staged, open while it is being placed


class BodyFetch:
    """One body on its way into staging, checked against its goal; `done` is called in the loop.

    What was resumed and went wrong is fetched once more from the first byte, and so is a body that ended too
    early without saying so.
    """

    __slots__ = ("_desk", "_done", "_goal", "_is_last", "_sink")

    def __init__(self, goal: Goal, desk: Desk, done: Callable[[Arrival], None]) -> None:
        self._goal = goal
        self._desk = desk
        self._done = done
        self._sink: FileSink | None = None
        self._is_last = False

    def start(self) -> None:
        """Ask for it."""
        self._desk.lanes.get(Lane.FILE, self._request, self._ended, self._broken)

    def _request(self, token: int) -> Request:
        desk = self._desk
        sink = self._sink = FileSink(self._goal, desk.storage, desk.side, lambda: desk.lanes.transport.resume(token))
        headers = (*_PLAIN, f"Range: bytes={sink.resumed_at}-") if sink.resumed_at else _PLAIN
        return Request(token, self._goal.url, headers, self._goal.limit, compressed=False, sink=sink)

    def _ended(self, reply: Reply) -> None:
        sink = self._sink
        if sink is None:  # it was not asked for, or not again: upstream refuses everything
            self._done(Arrival("", "", 0, failure_reason(reply)))
        elif sink.is_other_range:
            self._start_over()
        elif reply.status == 416 and sink.resumed_at:  # all of it may have come before
            sink.resume()
            sink.finish(self._finished)
        elif reply.error or not 200 <= reply.status < 300:
            arrival = Arrival("", "", sink.size, failure_reason(reply), is_absent=reply.status in _ABSENT)
            is_wrong = 200 <= reply.status < 300 and not reply.retryable  # more than there should be
            sink.break_off(lambda: self._done(arrival), keep=not is_wrong)
        else:
            sink.finish(self._finished)

    def _finished(self) -> None:
        sink = self._sink
        if sink is None:
            return
        arrival = checked(self._goal, sink)
        is_short = self._goal.size is not None and sink.size < self._goal.size
        if arrival.staged or arrival.storage_failure or self._is_last or not (sink.resumed_at or is_short):
            self._done(arrival)  # which gives it its final name
            sink.close()
        else:
            self._start_over()

    def _start_over(self) -> None:
        self._is_last = True
        self.start()

    def _broken(self) -> None:
        if self._sink is not None:
            self._sink.break_off(lambda: None)
            self._sink = None


class _TimedFetch(BodyFetch):
    """The same from an address that is chosen when its turn comes, and with a clock that begins then."""

    __slots__ = ("_begun", "_choose")

    def __init__(self, goal: Goal, desk: Desk, choose: Callable[[], str], done: Callable[[Arrival], None]) -> None:
        super().__init__(goal, desk, done)
        self._choose = choose
        self._begun = 0.0

    def _request(self, token: int) -> Request:
        if not self._begun:
            self._begun = time.monotonic()
            self._goal = self._goal._replace(url=self._choose())
        return super()._request(token)

    def seconds(self) -> float:
        """How long it has taken so far."""
        return time.monotonic() - self._begun if self._begun else 0.0

    def came(self) -> int:
        """Bytes that came, without those of an earlier try."""
        return self._sink.size - self._sink.resumed_at if self._sink is not None else 0


class MirroredFetch:
    """One body, asked for at one source after the other until one has it; `done` is called in the loop."""

    def __init__(self, goal: Goal, desk: Desk, sources: Sources, done: Callable[[Arrival], None]) -> None:
        self._goal = goal
        self._desk = desk
        self._sources = sources
        self._done = done
        self._source, *self._later = sources.of(goal.url)
        self._reasons: list[str] = []

    def start(self) -> None:
        """Ask the next source; what an earlier one brought of a large body is gone on with."""
        source = self._source
        refusal = "" if source.mirror else self._sources.refusal(source.url)
        if refusal:
            self._take(Arrival("", "", 0, refusal))
        else:
            fetch = _TimedFetch(self._goal, self._desk, self._choose, lambda arrival: self._measure(fetch, arrival))
            fetch.start()

    def _choose(self) -> str:
        """The address to ask; of the first one it is decided now, by what became known while this waited."""
        if not self._reasons:
            first, *later = self._sources.at_once(self._goal.url, self._goal.size)
            if first.mirror or not self._sources.refusal(first.url):
                self._source, self._later = first, later
        return self._source.url

    def _measure(self, fetch: _TimedFetch, arrival: Arrival) -> None:
        came = fetch.came() if arrival.staged else -1
        absent, reason = arrival.is_absent, arrival.reason
        self._sources.note(self._source, came=came, seconds=fetch.seconds(), absent=absent, reason=reason)
        self._take(arrival)

    def _take(self, arrival: Arrival) -> None:
        if arrival.staged or arrival.storage_failure:
            self._done(arrival)
            return
        self._reasons.append(f"{place(self._source)}: {arrival.reason}")
        if self._later:
            self._source = self._later.pop(0)
            self.start()
        else:
            self._done(arrival._replace(reason="; ".join(self._reasons)))


def checked(goal: Goal, sink: FileSink) -> Arrival:
    """What came of a body that is whole: what differs from its goal is discarded."""
    if sink.error is not None:
        sink.discard()
        return Arrival("", "", sink.size, f"storage: {sink.error}", is_storage_failure(sink.error))
    digests = sink.hexdigests()
    reason = ""
    if goal.size is not None and sink.size != goal.size:
        reason = f"wrong size: {sink.size} bytes, expected {goal.size}"
    elif goal.digest and digests[-1] != goal.digest:
        reason = f"wrong {goal.algorithm}: {digests[-1]}, expected {goal.digest}"
    if reason:
        sink.discard()
        return Arrival("", "", sink.size, reason)
    return Arrival(sink.path, digests[0], sink.size, "", descriptor=sink.descriptor)
