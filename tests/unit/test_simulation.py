"""The simulated clock of benchmarks/scale.py keeps the laws of what it stands for."""

from __future__ import annotations

import math
import random

import pytest

from benchmarks.scale import BASE, Point, bound, stops_at
from benchmarks.simulation import Costs, Course, Simulation, World
from benchmarks.whole import BYTES, Piece, Project, Whole, draw_whole

FREE = World(
    hosts=1, processes=4, line=math.inf, latency_s=0.0, connection=math.inf, index_transfers=16, file_transfers=64
)
COSTS = Costs(project=1e-3, file=2e-4, byte=3e-9, recorded=3e-4)


@pytest.fixture(scope="module")
def whole() -> Whole:
    return draw_whole(0.001, seed=3)


def course_of(world: World, whole: Whole) -> Course:
    return Simulation(world, whole).run()


def test_what_is_drawn_is_that_share_of_all_and_the_same_for_the_same_seed(whole: Whole):
    assert whole.bytes == pytest.approx(BYTES / 1000, rel=1e-3)
    assert len(whole.projects) == 886
    assert whole == draw_whole(0.001, seed=3)
    assert whole != draw_whole(0.001, seed=4)


def test_large_projects_are_cut_as_the_planner_cuts_them(whole: Whole):
    for project in whole.projects:
        assert project.is_split or len(project.pieces) <= 1
        for piece in project.pieces:
            assert piece.files <= 64
            assert piece.bytes <= (256 << 20) or (piece.files == 1 and project.is_split)


def test_without_limits_it_takes_no_time(whole: Whole):
    assert course_of(FREE, whole).seconds == 0.0


@pytest.mark.parametrize("hosts", [1, 2])
def test_where_all_but_the_line_is_free_it_takes_the_bytes_through_the_line(hosts: int, whole: Whole):
    course = course_of(FREE._replace(hosts=hosts, line=1e9), whole)
    least = whole.bytes / (hosts * 1e9)
    if hosts == 1:
        assert course.seconds == pytest.approx(least)
    assert course.seconds >= least * (1 - 1e-9)
    assert bound(course)[0] == "line"


@pytest.mark.parametrize(
    ("limit", "seconds"),
    [({"upstream": 1e9}, lambda whole: whole.bytes / 1e9), ({"store": 5e8}, lambda whole: whole.bytes / 5e8),
     ({"upstream_pages": 10.0}, lambda whole: len(whole.projects) / 10)],
)  # fmt: skip
def test_what_limits_all_together_limits_them_however_many_they_are(limit, seconds, whole: Whole):
    for hosts in (1, 4, 16):
        assert course_of(FREE._replace(hosts=hosts, **limit), whole).seconds == pytest.approx(seconds(whole))


def test_it_is_never_faster_than_any_limit_allows(whole: Whole):
    source = random.Random(5)
    for _ in range(12):
        world = FREE._replace(
            hosts=source.choice((1, 2, 3, 8)), line=10 ** source.uniform(8, 10), latency_s=source.uniform(0, 0.2),
            connection=10 ** source.uniform(6, 8), upstream=10 ** source.uniform(8, 11),
            upstream_pages=source.uniform(10, 1000), store=10 ** source.uniform(8, 10), costs=COSTS,
            connections=source.choice((8, 64, math.inf)), is_one_address=source.random() < 0.5,
        )  # fmt: skip
        seconds = course_of(world, whole).seconds
        cores, transfers = world.hosts * world.processes, min(64.0, world.connections * world.hosts)
        largest = max(piece.largest for project in whole.projects for piece in project.pieces)
        bounds = (
            whole.bytes / (world.line * world.hosts), whole.bytes / world.upstream, whole.bytes / world.store,
            len(whole.projects) / world.upstream_pages, len(whole.projects) * COSTS.recorded,
            (whole.bytes * COSTS.byte + whole.files * COSTS.file + len(whole.projects) * COSTS.project) / cores,
            (whole.bytes / world.connection + whole.files * world.latency_s) / transfers,
            largest / world.connection,
        )  # fmt: skip
        assert seconds >= max(bounds) * (1 - 1e-9), world


def test_a_file_is_not_faster_than_its_connection():
    alone = Whole((Project("alone", (Piece(1, 8e6, 8e6),), is_split=False),), 1.0)
    assert course_of(FREE._replace(connection=8e6, latency_s=0.25), alone).seconds == pytest.approx(1.25)


def test_every_project_is_recorded_once_however_many_share_its_pieces(whole: Whole):
    course = course_of(BASE._replace(hosts=4), whole)
    recorded = course.use["recording"] * course.seconds / BASE.costs.recorded
    assert recorded == pytest.approx(len(whole.projects))


def test_where_twice_the_hosts_are_hardly_faster_they_have_stopped_helping():
    hours = {1: 10.0, 2: 5.0, 4: 4.5, 8: 4.4}
    points = [Point(hosts, hour, "line", 1.0) for hosts, hour in hours.items()]
    assert stops_at(points).hosts == 2
    assert stops_at(points[:2]).hosts == 2
