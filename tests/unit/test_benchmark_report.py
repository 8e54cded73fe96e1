"""What a benchmark reports: ratios of sound runs of one step, and nothing for a run that failed."""

from __future__ import annotations

from benchmarks.report import Row, Run, numbers, table


def run_of(wall_s: float, cpu_s: float, *, exit_status: int = 0, lacks: str = "") -> Run:
    return Run(wall_s, cpu_s, 0.0, 10_000_000, 10_000_000, 0.0, exit_status, lacks)


OURS = Row("first sync", "fastmirror (hashed)", "", [run_of(2.0, 3.0), run_of(1.0, 2.0), run_of(9.0, 9.0)])
PEER = Row("first sync", "bandersnatch", "", [run_of(20.0, 15.0)])


def test_a_peer_is_told_in_times_of_fastmirror_s_median_in_the_same_step():
    other = Row("no change", "fastmirror (hashed)", "", [run_of(1.0, 1.0)])
    medians, times = zip(*((row["median"], row["times"]) for row in numbers([other, OURS, PEER])), strict=True)
    assert medians[1] == {"wall_s": 2.0, "cpu_s": 3.0}
    assert times == ({"wall": 1.0, "cpu": 1.0}, {"wall": 1.0, "cpu": 1.0}, {"wall": 10.0, "cpu": 5.0})
    assert table([other, OURS, PEER]).splitlines()[-1].split()[-2:] == ["10.0", "5.0"]


def test_a_run_that_failed_or_left_the_mirror_incomplete_has_no_figures():
    failed = Row("first sync", "bandersnatch", "", [run_of(0.1, 0.1, exit_status=1), run_of(20.0, 15.0)])
    incomplete = Row("first sync", "curl", "", [run_of(0.1, 0.1, lacks="3 of 4 files")])
    for row, reason in ((failed, "FAILED: exit status 1"), (incomplete, "FAILED: exit status 0; 3 of 4 files")):
        assert reason in table([OURS, row])
        assert [told["median"] for told in numbers([OURS, row])][1] is None
        assert [told["times"] for told in numbers([OURS, row])][1] is None


def test_where_fastmirror_failed_nothing_is_compared_with_it():
    failed = OURS._replace(runs=[run_of(0.1, 0.1, exit_status=1)])
    assert [told["times"] for told in numbers([failed, PEER])] == [None, None]
