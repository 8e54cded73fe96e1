"""Being woken: how old the mirror is, and the metrics that a monitoring system reads."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from fastmirror.state import State
from tests.conftest import ROOT
from tests.fakes import faults
from tests.processes import answer_of
from tests.published import succeed

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Mirror
    from tests.fakes.index import FakeIndex


@pytest.fixture(autouse=True)
def _two_projects(index: FakeIndex) -> None:
    for name in ("six", "idna"):
        index.add_file(name, f"{name}-1.0.tar.gz")


def lag_status(mirror: Mirror, *arguments: str) -> tuple[int, str]:
    told = mirror.run(*arguments, command="status")
    return told.status, next(line for line in told.stdout.splitlines() if line.startswith("fresh: "))


def make_older(mirror: Mirror, hours: float) -> None:
    moment = datetime.now(UTC) - timedelta(hours=hours)
    (mirror.web / "last-modified").write_text(f"{moment:%Y%m%dT%H:%M:%S}\n")


def metrics_in(text: str) -> dict[str, float]:
    return {
        sample.name + "".join(f":{value}" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_mirror_older_than_max_lag_is_not_well(mirror: Mirror) -> None:
    succeed(mirror.run())
    assert lag_status(mirror, "--max-lag", "1h")[0] == 0
    make_older(mirror, hours=3)
    status, line = lag_status(mirror, "--max-lag", "2h")
    assert (status, "3 h" in line) == (1, True)
    assert lag_status(mirror, "--max-lag", "4h")[0] == 0
    assert lag_status(mirror)[0] == 0


def test_a_mirror_without_a_whole_run_has_no_age_that_would_do(mirror: Mirror) -> None:
    succeed(mirror.run("--project=six"))
    assert lag_status(mirror) == (0, "fresh: no whole run has finished yet")
    assert lag_status(mirror, "--max-lag", "1d")[0] == 1
    (mirror.web / "last-modified").write_bytes(b"\xff soon\n")
    assert lag_status(mirror, "--max-lag", "1d")[0] == 1


def test_a_lag_that_is_no_duration_is_a_settings_error(mirror: Mirror) -> None:
    told = mirror.run("--max-lag", "soon", command="status")
    assert (told.status, "--max-lag" in told.stderr) == (2, True)


def test_each_run_writes_the_metrics_in_one_step_and_so_does_one_that_failed(
    mirror: Mirror, index: FakeIndex, tmp_path: Path
) -> None:
    path = tmp_path / "collector/fastmirror.prom"
    path.parent.mkdir()
    mirror.settings["metrics-file"] = str(path)
    succeed(mirror.run())
    found = metrics_in(path.read_text())
    assert found["fastmirror_projects"] == 2
    assert found["fastmirror_last_run_projects:updated"] == 2
    assert found["fastmirror_last_run_exit_status"] == 0
    assert found["fastmirror_serial"] == index.serial
    assert found["fastmirror_as_of_timestamp_seconds"] <= found["fastmirror_last_run_finished_timestamp_seconds"]
    index.fault("/simple/", faults.status(500))
    assert mirror.run().status == 5
    assert metrics_in(path.read_text())["fastmirror_last_run_exit_status"] == 5
    assert list(path.parent.iterdir()) == [path]


def test_metrics_that_cannot_be_written_are_told_and_no_failure(mirror: Mirror, tmp_path: Path) -> None:
    mirror.settings["metrics-file"] = str(tmp_path / "nowhere/fastmirror.prom")
    told = mirror.run()
    assert told.status == 0
    assert "metrics cannot be written" in told.stderr


def test_each_run_reports_itself_as_json_and_so_does_one_that_failed(
    mirror: Mirror, index: FakeIndex, tmp_path: Path
) -> None:
    path = tmp_path / "reports/run.json"
    path.parent.mkdir()
    mirror.settings["report-file"] = str(path)
    broken = index.add_file("pip", "pip-1.0.tar.gz", content=bytes(1234)).path
    index.fault(broken, faults.status(404))
    assert mirror.run().status == 1
    report, status = json.loads(path.read_text()), mirror.status()
    assert {**report, "lag_s": 0} == {**status, "lag_s": 0}
    assert (report["missing_files"], report["missing_bytes"], report["missing"]) == (1, 1234, 0)
    assert (report["last_run"]["partial"], report["failures"][0]["name"]) == (1, "pip")
    assert {slow["name"] for slow in report["last_run"]["slowest"]} == {"six", "idna", "pip"}
    assert all(0 < slow["seconds"] < report["last_run"]["seconds"] for slow in report["last_run"]["slowest"])
    assert {large["name"]: large["files"] for large in report["largest"]} == {"six": 1, "idna": 1, "pip": 0}
    index.fault("/simple/", faults.status(500))
    assert mirror.run().status == 5
    failed = json.loads(path.read_text())
    assert (failed["last_run"]["exit_status"], failed["complete"]) == (5, False)
    assert (failed["serial"], failed["upstream_serial"]) == (index.serial, index.serial)
    assert list(path.parent.iterdir()) == [path]


def test_the_history_adds_up_what_runs_fetched_and_says_what_was_held_after_each(
    mirror: Mirror, index: FakeIndex
) -> None:
    succeed(mirror.run())
    first = mirror.status()["last_run"]
    assert (first["stored_projects"], first["stored_files"], first["fetched_so_far"]) == (2, 2, first["bytes"])
    index.add_file("pip", "pip-1.0.tar.gz")
    succeed(mirror.run())
    second = mirror.status()["last_run"]
    assert (second["stored_projects"], second["stored_bytes"]) == (3, first["bytes"] + second["bytes"])
    assert second["fetched_so_far"] == first["bytes"] + second["bytes"]
    assert second["reached_serial"] == second["serial"] == index.serial


def test_a_run_whose_record_is_damaged_keeps_nobody_from_the_status_nor_the_next_run(mirror: Mirror) -> None:
    succeed(mirror.run())
    state = State(str(mirror.directory / ".fastmirror/state.sqlite"))
    with state.transaction():
        state.change("update run set summary = ?", [("{torn",)])
    state.close()
    status = mirror.status()
    assert (status["last_run"]["exit_status"], status["history_damaged"], status["files"]) == (0, True, 2)
    succeed(mirror.run())


def test_the_small_server_answers_the_same_metrics(mirror: Mirror) -> None:
    succeed(mirror.run())
    server = mirror.start("--port", "0", command="serve")
    assert metrics_in(answer_of(server, "/metrics"))["fastmirror_files"] == 2


def test_every_metric_that_an_alert_names_is_there(mirror: Mirror, tmp_path: Path) -> None:
    path = tmp_path / "fastmirror.prom"
    mirror.settings["metrics-file"] = str(path)
    succeed(mirror.run())
    alerts = yaml.safe_load((ROOT / "scripts/deploy/alerts.yml").read_text())
    rules = [rule for group in alerts["groups"] for rule in group["rules"]]
    named = {name for rule in rules for name in re.findall(r"fastmirror_\w+", rule["expr"])}
    given = {name.partition(":")[0] for name in metrics_in(path.read_text())}
    assert named
    assert named <= given
