"""Runs are cut off at hundreds of steps, in every way: nothing is lost, nothing half-done is seen, the next goes on.

A quick share of the points is in every run of the tests; ``--kill-points 320`` takes more of them.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.crashes.crash import Crash, Grounds
from tests.crashes.points import QUICK, Point, points
from tests.crashes.promises import broken_promises, unfinished_business
from tests.processes import is_locked

if TYPE_CHECKING:
    from collections.abc import Iterator

_KILLED = {-signal.SIGKILL}
_ENDS = {  # exit statuses of a run that this was done to; before there is anything to drain, of any program
    "group": _KILLED,
    "power loss": _KILLED,
    "parent": _KILLED,
    "worker": {0},
    "SIGTERM": {143, -signal.SIGTERM, 0},
    "SIGINT": {130, -signal.SIGINT, 0},
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "point" in metafunc.fixturenames:
        chosen = points(metafunc.config.getoption("--kill-points") or QUICK)
        metafunc.parametrize("point", [pytest.param(point, marks=_on_its_ground(point)) for point in chosen], ids=str)


def _on_its_ground(point: Point) -> pytest.MarkDecorator:
    """With pytest-xdist, one process makes a ground and cuts off all runs on it."""
    return pytest.mark.xdist_group(f"ground-{point.run}-{point.layout}")


@pytest.fixture(scope="module")
def grounds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grounds]:
    grounds = Grounds(tmp_path_factory.mktemp("grounds"))
    yield grounds
    grounds.close()


@pytest.mark.case(46)
@pytest.mark.case(47)
def test_nothing_is_lost_at_any_point_and_the_next_run_goes_on(
    point: Point, grounds: Grounds, tmp_path, record_property
) -> None:
    ground = grounds[point.run, point.layout]
    crash = Crash(tmp_path, ground, point.layout)
    way, _, loss = point.way.partition(": ")
    number = 1 + round(point.share * (ground.count(point.what) - 1))
    result = crash.cut_off(when=point.when, what=point.what, number=number, way="group" if loss else way)
    steps = crash.steps()
    is_struck = "struck" in steps
    record_property("kill", str(point) if is_struck else f"{point}: not reached")
    assert result.status in (_ENDS[way] if is_struck else {0}), result
    assert not is_locked(crash.mirror.directory)
    if way == "parent" and is_struck:
        published_by_orphans = {"page", "root index", "commit"}.intersection(steps[steps.index("struck") :])
        assert not published_by_orphans
    if loss:
        crash.lose_power(loss, point.seed)
    assert "\n".join(broken_promises(crash.mirror)) == ""
    assert "\n".join(unfinished_business(crash.mirror, ground.upstream)) == ""
