"""The tables of what was tried tell what the tests told, and no conformance case is without a word."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cases import CASES, UNSHOWN

ROOT = Path(__file__).parents[1]
TOLD = """
import pytest


@pytest.mark.case(1, 2)
@pytest.mark.parametrize("number", [1, pytest.param(2, marks=pytest.mark.case(3))])
def test_marked(number, record_property):
    record_property("fault", f"status 50{number}: asked for again | of <{7:032x}> at 127.0.0.1:40001")


def test_told(record_property):
    record_property("case", 4)
    for point in ("after the flush", "after the flush", "before the rename"):
        record_property("kill", point)
    raise ValueError


@pytest.fixture
def broken():
    yield
    raise ValueError


@pytest.mark.case(5)
def test_not_ended_well(broken):
    pass
"""


def run_pytest(*arguments: str | Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("PYTEST_XDIST_WORKER", None)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-q"]
    subprocess.run([*command, *map(str, arguments)], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, check=False)


def rows(path: Path) -> list[list[str]]:
    lines = [line for line in path.read_text().splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines[2:]]


@pytest.mark.parametrize("processes", ["0", "2"])
def test_tables_tell_what_each_test_tried_and_how_it_ended(tmp_path: Path, processes: str) -> None:
    (tmp_path / "test_it.py").write_text(TOLD)
    run_pytest(
        "-p", "tests.tables", "-c", "/dev/null", "--rootdir", tmp_path, "-n", processes, "--tables", tmp_path, tmp_path
    )
    cases = {row[0]: row[2:] for row in rows(tmp_path / "cases.md")}
    assert cases["1"] == cases["2"] == ["test_it.py::test_marked", "2 passed"]
    assert cases["3"] == ["test_it.py::test_marked", "1 passed"]
    assert cases["4"] == ["test_it.py::test_told", "1 failed"]
    assert cases["5"] == ["test_it.py::test_not_ended_well", "1 failed"]
    assert cases["6"][-1] == "no test"
    assert rows(tmp_path / "faults.md") == [
        [
            f"status 50{number}",
            "asked for again \\| of &lt;00000000…> at 127.0.0.1:…",
            "test_it.py::test_marked",
            "1 passed",
        ]
        for number in (1, 2)
    ]
    told, total = rows(tmp_path / "kills.md")
    assert told == ["test_it.py::test_told", "3", "1", "after the flush (2)<br>before the rename"]
    assert total[:3] == ["all", "3", "1"]


def test_every_case_has_a_test_or_a_reason(tmp_path: Path) -> None:
    marked = [path for path in (ROOT / "tests").rglob("test_*.py") if "mark.case(" in path.read_text()]
    run_pytest("--collect-only", "-m", "case", "--tables", tmp_path, *marked)
    assert not (tmp_path / "kills.md").exists()  # nothing was run
    outcomes = {int(number): outcome for number, _, _, outcome in rows(tmp_path / "cases.md")}
    assert outcomes.keys() == CASES.keys()
    assert [number for number, outcome in outcomes.items() if outcome == "no test"] == []
    assert [number for number in UNSHOWN if outcomes[number] != "not shown"] == []
