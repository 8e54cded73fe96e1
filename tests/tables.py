"""Tables of what the tests tried, written by the tests themselves: ``pytest --tables DIR``.

cases.md     the conformance cases (tests/cases.py), the tests that bear their numbers, and the outcome:
             ``@pytest.mark.case(18)``, or ``record_property("case", 18)`` where it is known at run time alone
faults.md    ``record_property("fault", "what was tried: what came of it")``
kills.md     ``record_property("kill", "at which point it was killed")``, once for each

Properties travel with the reports, so that it is all the same with pytest-xdist.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.cases import CASES, UNSHOWN

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pytest

_CHANCE = re.compile(r"(\b[0-9a-f]{8})[0-9a-f]{24,}|(\b127\.0\.0\.1:|\bport=)\d{4,}")  # digests and ports of a run
_MOST_POINTS = 40  # told one by one; of more, numbers are left out to tell their kinds


@dataclass
class Told:
    """What one test tried, and how it ended."""

    outcome: str = "not run"
    properties: list[tuple[str, object]] = field(default_factory=list)

    def values(self, name: str) -> list[str]:
        """What it recorded under a name."""
        return [str(value) for key, value in self.properties if key == name]


class Tables:
    """Gathers what each test tells, and writes the tables at the end."""

    def __init__(self, folder: Path, arguments: Iterable[str]) -> None:
        self._folder = folder
        self._command = f"python -m pytest {shlex.join(arguments)}"
        self._told: dict[str, Told] = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """A test that is only collected is told as well."""
        self._told.update({item.nodeid: Told(properties=item.user_properties) for item in session.items})

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Each test has up to three; what fails in any of them has failed."""
        told = self._told.setdefault(report.nodeid, Told())
        told.properties = report.user_properties
        if report.when == "call" or not report.passed:
            told.outcome = "failed" if "failed" in {told.outcome, report.outcome} else report.outcome

    def pytest_sessionfinish(self) -> None:
        """Write those that something was told for."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for name, title, rows in (
            ("cases", ("case", "", "shown by", "outcome"), list(self._cases())),
            ("faults", ("fault", "what came of it", "shown by", "outcome"), list(self._faults())),
            ("kills", ("killed by", "points", "tests failed", "points, and how often"), list(self._kills())),
        ):
            if not rows:
                continue
            lines = [f"Made by `{self._command}`.", "", *table(title, rows)]
            (self._folder / f"{name}.md").write_text("\n".join(lines) + "\n")

    def _cases(self) -> Iterator[tuple[object, ...]]:
        for number, text in CASES.items():
            shown = {nodeid: told for nodeid, told in self._told.items() if str(number) in told.values("case")}
            by = "<br>".join(dict.fromkeys(_function(nodeid) for nodeid in sorted(shown)))
            outcome = outcomes(told.outcome for told in shown.values())
            yield (
                number,
                text,
                by or UNSHOWN.get(number, ""),
                outcome or ("not shown" if number in UNSHOWN else "no test"),
            )

    def _faults(self) -> Iterator[tuple[object, ...]]:
        tried: dict[tuple[str, str], list[str]] = {}
        for nodeid, told in sorted(self._told.items()):
            for text in told.values("fault"):
                tried.setdefault((text, _function(nodeid)), []).append(told.outcome)
        for (text, by), each in tried.items():
            fault, _, came = _CHANCE.sub(r"\1\2…", text).replace("<", "&lt;").partition(": ")
            yield fault, came, by, outcomes(each)

    def _kills(self) -> Iterator[tuple[object, ...]]:
        by_test: dict[str, list[Told]] = {}
        for nodeid, told in sorted(self._told.items()):
            if told.values("kill"):
                by_test.setdefault(_function(nodeid), []).append(told)
        for test, each in by_test.items():
            points = [point for told in each for point in told.values("kill")]
            failed = sum(told.outcome == "failed" for told in each)
            yield test, len(points), failed, "<br>".join(_kinds(points))
        killed = [told for each in by_test.values() for told in each]
        if killed:
            points_of_all = sum(len(told.values("kill")) for told in killed)
            yield "all", points_of_all, sum(told.outcome == "failed" for told in killed), ""


def table(title: Iterable[object], rows: Iterable[Iterable[object]]) -> list[str]:
    """Lines of Markdown."""
    head = list(title)
    return [_line(head), _line(["---"] * len(head)), *map(_line, rows)]


def outcomes(each: Iterable[str]) -> str:
    """``passed``, or each with its number."""
    counted = Counter(each)
    return ", ".join(f"{number} {outcome}" for outcome, number in sorted(counted.items()))


def _line(cells: Iterable[object]) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _function(nodeid: str) -> str:
    return nodeid.partition("[")[0].removeprefix("tests/")


def _kinds(points: list[str]) -> list[str]:
    counted = Counter(points)
    if len(counted) > _MOST_POINTS:
        counted = Counter(re.sub(r"\d+", "n", point) for point in points)
    return [f"{point} ({number})" if number > 1 else point for point, number in sorted(counted.items())]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Off unless asked for."""
    parser.addoption("--tables", type=Path, metavar="DIR", help="write tables of what the tests tried into DIR")


def pytest_configure(config: pytest.Config) -> None:
    """Only one process writes: not the workers of xdist."""
    config.addinivalue_line("markers", "case(number, …): the conformance cases that this test shows")
    folder: Path | None = config.getoption("--tables")
    if folder is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Tables(folder, config.invocation_params.args), "tables")


def pytest_collection_modifyitems(items: list[Any]) -> None:
    """A mark is told as if the test recorded it."""
    for item in items:
        numbers = dict.fromkeys(number for mark in item.iter_markers("case") for number in mark.args)
        item.user_properties.extend(("case", number) for number in numbers)
