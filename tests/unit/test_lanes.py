from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmirror import lanes as lanes_module
from fastmirror.lanes import RETRY_AFTER_LONGEST_S, Lane, Lanes, failure_reason
from fastmirror.transport import Reply, Request, Transport, is_retryable_status

if TYPE_CHECKING:
    from collections.abc import Callable

TRIES = 4
FOREVER_S = 1e6
ROUNDING_S = 1e-6


class World(Transport):
    """What lanes stand on: an upstream that answers when the test says so, and a clock that only waiting moves.

    It is ``time`` to the lanes, and their transport.
    """

    def __init__(self) -> None:
        self.now = 1000.0
        self.started: list[Request] = []
        self.flying: dict[int, Request] = {}
        self._ready: list[Reply] = []

    def monotonic(self) -> float:
        return self.now

    def start(self, request: Request) -> None:
        assert request.token not in self.flying
        self.started.append(request)
        self.flying[request.token] = request

    def poll(self, timeout_s: float) -> list[Reply]:
        assert timeout_s >= 0
        ready, self._ready = self._ready, []
        if not ready:
            self.now += timeout_s
        return ready

    def resume(self, token: int) -> None: ...
    def cancel(self, token: int) -> None: ...
    def watch(self, descriptor: int, ready: Callable[[], None] | None) -> None: ...
    def wake(self) -> None: ...
    def limit_rate(self, bytes_per_second: float | None) -> None: ...
    def close(self) -> None: ...

    def answer(self, url: str, status: int = 200, *, error: str = "", retryable: bool | None = None, **headers: str):
        """End the oldest transfer of this URL."""
        token = next(token for token, request in self.flying.items() if request.url == url)
        del self.flying[token]
        again = is_retryable_status(status) if retryable is None else retryable
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._ready.append(Reply(token, status, named, b"", error, again))

    def urls(self) -> list[str]:
        return [request.url for request in self.flying.values()]


class Desk:
    """Asks, and keeps what came of it."""

    def __init__(self, world: World, tries: int = TRIES) -> None:
        self.world = world
        self.lanes = Lanes(world, tries)
        self.done: dict[str, Reply] = {}
        self.broken: list[str] = []

    def get(self, url: str, lane: Lane = Lane.INDEX) -> None:
        def make(token: int) -> Request:
            return Request(token, url, (), 100, compressed=True, sink=None)

        def done(reply: Reply) -> None:
            assert url not in self.done
            self.done[url] = reply

        self.lanes.get(lane, make, done, lambda: self.broken.append(url))

    def settle(self, status: int = 200, **facts: Any) -> float:
        """Answer the transfer in flight; return the seconds until the next try was begun."""
        (url,) = self.world.urls()
        self.world.answer(url, status, **facts)
        self.lanes.poll(0)
        since = self.world.now
        while not self.world.flying and url not in self.done:
            self.lanes.poll(FOREVER_S)
        return self.world.now - since


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    monkeypatch.setattr(lanes_module, "time", world)
    return world


@pytest.fixture
def desk(world: World) -> Desk:
    return Desk(world)


# Budgets


def test_a_lane_begins_as_many_transfers_as_its_budget_has(world, desk):
    desk.lanes.set_budget(2, 3)
    for number in range(5):
        desk.get(f"page {number}", Lane.INDEX)
        desk.get(f"file {number}", Lane.FILE)
    assert sorted(world.urls()) == ["file 0", "file 1", "file 2", "page 0", "page 1"]
    assert sum(desk.lanes.in_flight) == 5


def test_what_waits_begins_in_its_order_as_transfers_end(world, desk):
    for number in range(3):
        desk.get(f"page {number}")
    for number in range(3):
        assert world.urls() == [f"page {number}"]
        world.answer(f"page {number}")
        desk.lanes.poll(0)
    assert list(desk.done) == ["page 0", "page 1", "page 2"]
    assert sum(desk.lanes.in_flight) == 0


def test_a_full_lane_does_not_hold_up_the_other(world, desk):
    desk.get("file 0", Lane.FILE)
    desk.get("file 1", Lane.FILE)
    desk.get("page 0", Lane.INDEX)
    assert world.urls() == ["file 0", "page 0"]


def test_a_raised_budget_is_used_at_once_and_a_lowered_one_ends_nothing(world, desk):
    for number in range(5):
        desk.get(f"page {number}")
    desk.lanes.set_budget(4, 1)
    assert len(world.flying) == 4
    desk.lanes.set_budget(1, 1)
    for number in range(3):
        world.answer(f"page {number}")
    desk.lanes.poll(0)
    assert world.urls() == ["page 3"]
    world.answer("page 3")
    desk.lanes.poll(0)
    assert world.urls() == ["page 4"]


def test_nothing_begins_without_a_budget(world, desk):
    desk.lanes.set_budget(0, 0)
    desk.get("page")
    desk.lanes.poll(FOREVER_S)
    assert world.started == []
    desk.lanes.set_budget(1, 0)
    assert world.urls() == ["page"]


def test_free_transfers_are_those_that_nobody_waits_for(world, desk):
    desk.lanes.set_budget(3, 1)
    assert desk.lanes.free_index_transfers() == 3
    desk.get("file", Lane.FILE)
    assert desk.lanes.free_index_transfers() == 3
    for number in range(4):
        desk.get(f"page {number}")
    assert desk.lanes.free_index_transfers() == -1


_steps = st.one_of(
    st.tuples(st.just("get"), st.sampled_from(Lane)),
    st.tuples(st.just("budget"), st.tuples(st.integers(0, 4), st.integers(0, 4))),
    st.tuples(st.just("answer"), st.tuples(st.integers(0, 9), st.sampled_from([200, 404, 429, 500, 503]))),
    st.tuples(st.just("wait"), st.sampled_from([0, 0.1, 1, 100])),
    st.tuples(st.just("hold"), st.sampled_from([0.5, 5])),
)


class Watchful(World):
    """Checks every start against the budget and the hold."""

    def __init__(self) -> None:
        super().__init__()
        self.budget = {"INDEX": 1, "FILE": 1}
        self.held_until = 0.0

    def start(self, request: Request) -> None:
        super().start(request)
        lane = request.url.partition(" ")[0]
        assert sum(url.startswith(lane) for url in self.urls()) <= self.budget[lane]
        assert self.now >= self.held_until


@given(st.lists(_steps, max_size=60))
def test_no_transfer_ever_begins_above_the_budget_and_every_one_ends_once(steps):
    world = Watchful()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lanes_module, "time", world)
        desk, asked = Desk(world), 0
        for kind, value in steps:
            if kind == "get":
                asked += 1
                desk.get(f"{value.name} {asked}", value)
            elif kind == "budget":
                world.budget = dict(zip(("INDEX", "FILE"), value, strict=True))
                desk.lanes.set_budget(*value)
            elif kind == "answer" and world.flying:
                world.answer(world.urls()[value[0] % len(world.flying)], value[1])
            elif kind == "wait":
                desk.lanes.poll(value)
            elif kind == "hold":
                world.held_until = max(world.held_until, world.now + value)
                desk.lanes.hold(value)
        world.budget = {"INDEX": 2, "FILE": 2}
        desk.lanes.set_budget(2, 2)
        for _ in range(20 * asked):
            for url in world.urls():
                world.answer(url)
            desk.lanes.poll(FOREVER_S)
        assert len(desk.done) == asked
        assert sum(desk.lanes.in_flight) == 0
        assert len(world.started) == asked + len(desk.broken)


# Tries


@pytest.mark.parametrize("facts", [{"status": 503}, {"status": 0, "error": "connection reset", "retryable": True}])
def test_a_transient_failure_is_tried_again_and_the_last_reply_counts(world, desk, facts):
    desk.get("page")
    for _ in range(TRIES):
        assert "page" not in desk.done
        desk.settle(**facts)
    assert desk.done["page"].status == facts["status"]
    assert len(world.started) == TRIES
    assert desk.broken == ["page"] * (TRIES - 1)


def test_each_try_is_a_request_of_its_own(world, desk):
    desk.get("page")
    for _ in range(TRIES):
        desk.settle(500)
    assert len({request.token for request in world.started}) == TRIES


def test_a_success_after_failures_is_the_reply(world, desk):
    desk.get("page")
    desk.settle(500)
    desk.settle(200)
    assert desk.done["page"].status == 200
    assert desk.broken == ["page"]


@pytest.mark.parametrize(
    "facts", [{"status": 200}, {"status": 304}, {"status": 404}, {"status": 200, "error": "too large"}]
)
def test_what_another_try_would_not_mend_is_final(world, desk, facts):
    desk.get("page")
    assert desk.settle(**facts) == 0
    assert "page" in desk.done
    assert desk.broken == []


def test_what_waits_for_its_next_try_holds_no_place(world, desk):
    desk.get("page")
    desk.get("another")
    world.answer("page", 500)
    desk.lanes.poll(0)
    assert world.urls() == ["another"]


def test_waits_between_tries_double_with_jitter(world):
    desk = Desk(world, tries=12)
    desk.get("page")
    waits = [desk.settle(500) for _ in range(11)]
    for number, wait in enumerate(waits):
        mean = min(0.5 * 2**number, 30.0)
        assert mean / 2 - ROUNDING_S <= wait <= mean * 3 / 2 + ROUNDING_S
    assert len(set(waits)) == len(waits)


# Retry-After


def in_seconds(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_in_seconds_is_honoured_and_reported(world, desk, status):
    desk.get("page")
    assert desk.settle(status, retry_after="120") == pytest.approx(120)
    assert desk.lanes.throttled_s == 120


def test_retry_after_as_a_date_is_honoured(world, desk):
    desk.get("page")
    assert 100 < desk.settle(503, retry_after=in_seconds(120)) <= 120


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        (" 7 ", 7),
        ("100000", RETRY_AFTER_LONGEST_S),
        ("9" * 500, RETRY_AFTER_LONGEST_S),
        ("Fri, 31 Dec 9999 23:59:59 GMT", RETRY_AFTER_LONGEST_S),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0),
        ("Sun, 06 Nov 1994 08:49:37 -0000", 0),
        ("-5", 0),
        ("1.5", 0),
        ("1e3", 0),
        ("inf", 0),
        ("nan", 0),
        ("soon", 0),
        ("", 0),
        ("\u00b2", 0),
        ("Fri, 99 Foo 9999 99:99:99 GMT", 0),
    ],
)
def test_whatever_retry_after_says_the_wait_is_bounded(world, desk, text, seconds):
    desk.get("page")
    wait = desk.settle(429, retry_after=text)
    assert desk.lanes.throttled_s == seconds
    assert max(seconds, 0.25) - ROUNDING_S <= wait <= max(seconds, 0.75) + ROUNDING_S


def test_only_a_request_for_less_is_reported(world, desk):
    desk.get("page")
    assert desk.settle(500, retry_after="120") < 1
    desk.settle(404, retry_after="120")
    assert desk.lanes.throttled_s is None


def test_a_final_request_for_less_is_reported_too(world):
    desk = Desk(world, tries=1)
    desk.get("page")
    desk.settle(429, retry_after="60")
    assert desk.done["page"].status == 429
    assert desk.lanes.throttled_s == 60


def test_the_longest_wait_asked_for_is_reported_until_its_owner_has_seen_it(world, desk):
    desk.lanes.set_budget(3, 1)
    for number, seconds in enumerate(("5", "60", "")):
        desk.get(f"page {number}")
        world.answer(f"page {number}", 429, retry_after=seconds)
    desk.lanes.poll(0)
    assert desk.lanes.throttled_s == 60
    desk.lanes.throttled_s = None
    desk.get("page 3")
    world.answer("page 3", 503)
    desk.lanes.poll(0)
    assert desk.lanes.throttled_s == 0


# Holding back


def test_nothing_begins_while_held_and_what_is_in_flight_goes_on(world, desk):
    desk.lanes.set_budget(2, 2)
    desk.get("page")
    desk.lanes.hold(10)
    desk.get("another")
    desk.get("file", Lane.FILE)
    world.answer("page")
    desk.lanes.poll(0)
    assert "page" in desk.done
    desk.lanes.poll(9)
    assert world.urls() == []
    desk.lanes.poll(FOREVER_S)
    assert world.urls() == ["another", "file"]
    assert world.now == pytest.approx(1010)


@pytest.mark.parametrize("seconds", [(10, 30), (30, 10)])
def test_the_longer_of_two_holds_counts(world, desk, seconds):
    for one in seconds:
        desk.lanes.hold(one)
    desk.get("page")
    for _ in seconds:
        desk.lanes.poll(FOREVER_S)
        if world.flying:
            break
    assert world.urls() == ["page"]
    assert world.now == pytest.approx(1030)


# An upstream in trouble


def refuse_all(world: World, desk: Desk, **facts: Any) -> None:
    """Answer what is in flight with a refusal, and wait for what happens next."""
    for url in world.urls():
        world.answer(url, **({"status": 503} | facts))
    desk.lanes.poll(0)
    if not world.flying:
        desk.lanes.poll(FOREVER_S)


def give_up(world: World, desk: Desk, **facts: Any) -> None:
    """Ask for a thousand pages, and serve none."""
    desk.lanes.set_budget(16, 1)
    for number in range(1000):
        desk.get(f"page {number}")
    while len(desk.done) < 1000:
        refuse_all(world, desk, **facts)


@pytest.mark.parametrize("facts", [{"status": 503}, {"status": 0, "error": "connection reset", "retryable": True}])
def test_an_upstream_that_serves_nothing_is_asked_less_and_less_and_given_up_after_a_minute(world, desk, facts):
    give_up(world, desk, **facts)
    assert {reply.status for reply in desk.done.values()} == {facts["status"]}
    assert 30 < world.now - 1000 < 150
    assert len(world.started) <= 2 * 16


def test_an_upstream_that_was_given_up_is_tried_again_later_and_serves_all_from_then_on(world, desk):
    give_up(world, desk)
    world.now += 60
    desk.get("trial")
    world.answer("trial", 503)
    desk.lanes.poll(0)
    desk.get("too early")
    desk.lanes.poll(0)
    assert desk.done["too early"].status == 503
    assert "too early" not in {request.url for request in world.started}
    world.now += 60
    desk.lanes.poll(0)
    assert world.urls() == ["trial"]
    world.answer("trial", 404)
    desk.lanes.poll(0)
    assert desk.done["trial"].status == 404
    for number in range(3):
        desk.get(f"late {number}")
    assert world.urls() == ["late 0", "late 1", "late 2"]


def test_an_outage_of_some_seconds_fails_nothing(world, desk):
    desk.lanes.set_budget(16, 1)
    for number in range(100):
        desk.get(f"page {number}")
    while world.now < 1020:
        refuse_all(world, desk)
    while len(desk.done) < 100:
        for url in world.urls():
            world.answer(url)
        desk.lanes.poll(FOREVER_S)
    assert {reply.status for reply in desk.done.values()} == {200}


def test_what_fails_again_and_again_while_others_are_served_holds_up_nothing(world, desk):
    desk.lanes.set_budget(2, 1)
    bad = [f"page {number}" for number in range(0, 40, 2)]
    for number in range(40):
        desk.get(f"page {number}")
    while len(desk.done) < 40:
        for url in world.urls():
            world.answer(url, 500 if url in bad else 200)
        desk.lanes.poll(FOREVER_S)
    assert [url for url, reply in desk.done.items() if reply.status == 200] == [f"page {n}" for n in range(1, 40, 2)]
    assert len(world.started) == 20 + 20 * TRIES
    assert world.now - 1000 < 3 * (0.5 + 1 + 2)


def test_the_lanes_are_judged_apart(world, desk):
    desk.lanes.set_budget(10, 10)
    for number in range(10):
        desk.get(f"file {number}", Lane.FILE)
        world.answer(f"file {number}", 503)
    desk.lanes.poll(0)
    desk.get("page")
    desk.get("file", Lane.FILE)
    assert world.urls() == ["page"]


# Timers


def test_timers_ring_in_the_order_of_their_time_and_not_before(world, desk):
    rung: list[tuple[str, float]] = []
    for name, seconds in (("c", 30), ("a", 10), ("b", 20), ("a too", 10)):
        desk.lanes.after(seconds, lambda name=name: rung.append((name, world.now - 1000)))
    for _ in range(3):
        desk.lanes.poll(FOREVER_S)
    assert rung == [("a", 10), ("a too", 10), ("b", 20), ("c", 30)]


def test_a_poll_waits_no_longer_than_to_the_next_timer_nor_than_it_may(world, desk):
    desk.lanes.after(10, lambda: None)
    desk.lanes.poll(4)
    assert world.now == 1004
    desk.lanes.poll(FOREVER_S)
    assert world.now == pytest.approx(1010)


def test_a_timer_rings_though_replies_keep_coming(world, desk):
    rung = []
    desk.lanes.after(10, lambda: rung.append(world.now))
    desk.get("page")
    world.now += 11
    world.answer("page")
    desk.lanes.poll(0)
    assert rung == [1011]


def test_a_timer_that_sets_a_timer_leaves_it_to_a_later_poll(world, desk):
    """Else one that is set again and again would keep the poll from returning."""
    rung = []

    def ring() -> None:
        rung.append(world.now)
        if len(rung) < 3:
            desk.lanes.after(0, ring)

    desk.lanes.after(0, ring)
    assert rung == []
    for count in (1, 2, 3):
        desk.lanes.poll(0)
        assert len(rung) == count


# Words


@pytest.mark.parametrize(
    ("status", "error", "reason"),
    [(404, "", "HTTP status 404"), (200, "too large", "too large"), (0, "connection reset", "connection reset")],
)
def test_a_failure_has_a_reason(status, error, reason):
    assert failure_reason(Reply(1, status, {}, b"", error, retryable=False)) == reason
