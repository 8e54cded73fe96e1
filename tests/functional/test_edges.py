"""Odd circumstances that must not make a run lie, hang, or serve what it should not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.fakes import faults

if TYPE_CHECKING:
    from tests.conftest import Mirror
    from tests.fakes.index import FakeIndex

BLOCKING = {"plugins.enabled": "blocklist_project", "blocklist.packages": "evil"}


def furnish(index: FakeIndex, *names: str) -> None:
    for name in names:
        index.add_file(name, f"{name}-1.0.tar.gz")


def test_a_failed_project_that_is_blocked_afterwards_is_not_tried_again(mirror: Mirror, index: FakeIndex) -> None:
    furnish(index, "six", "evil")
    rule = index.fault("/simple/evil/", faults.status(403))
    assert mirror.run().status == 1
    index.clear_requests()
    assert rule.hits
    mirror.run(set=BLOCKING)
    assert index.paths("/simple/evil/") == []


def test_plan_counts_files_for_a_mirror_that_does_not_exist_yet(mirror: Mirror, index: FakeIndex) -> None:
    furnish(index, "six", "idna")
    result = mirror.run("--files", "--json", command="plan")
    assert result.status == 0, result.stderr
    assert json.loads(result.stdout)["files"] == 2
    assert not mirror.web.exists()


def test_a_plan_that_could_not_read_a_page_says_so(mirror: Mirror, index: FakeIndex) -> None:
    furnish(index, "six", "idna")
    index.fault("/simple/six/", faults.status(403))
    result = mirror.run("--files", command="plan")
    assert (result.status, "1 page could not be read" in result.stdout) == (1, True)


def test_quarantine_hides_a_project_of_an_html_upstream_too(mirror: Mirror, index: FakeIndex) -> None:
    index.dialect = "html"
    furnish(index, "six", "bad")
    assert mirror.run().status == 0
    index.quarantine("bad")
    assert mirror.run().status == 0
    assert "bad-1.0.tar.gz" not in {path.name for path in mirror.web.rglob("*")}


def test_an_upstream_that_is_down_leaves_a_mirror_by_name_untouched_and_is_exit_5(
    mirror: Mirror, index: FakeIndex
) -> None:
    furnish(index, "six")
    index.close()
    result = mirror.run("--project", "six")
    assert result.status == 5
    assert "upstream does not answer" in result.stderr
    assert [path for path in mirror.web.rglob("*") if path.is_file()] == []


def test_a_legacy_api_that_is_forbidden_is_none(mirror: Mirror, index: FakeIndex) -> None:
    index.dialect = "html"
    furnish(index, "six")
    index.fault("/pypi/*", faults.status(403))
    assert mirror.run().status == 0
