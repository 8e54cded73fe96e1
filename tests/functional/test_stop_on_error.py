"""stop-on-error: the run ends in order at the first project that fails, and loses nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.fakes import faults
from tests.processes import until
from tests.tree import check_tree

if TYPE_CHECKING:
    from tests.conftest import Mirror
    from tests.fakes.index import FakeIndex

OTHERS = 5


@pytest.mark.parametrize("transport", ["curl", "requests"])
@pytest.mark.parametrize(("glob", "became"), [("/simple/bad/", "failed"), ("*/bad-1.0.tar.gz", "partial")])
def test_the_run_ends_at_the_first_error_and_the_next_one_does_the_rest(
    mirror: Mirror, index: FakeIndex, transport: str, glob: str, became: str
) -> None:
    mirror.settings |= {"transport": transport, "stop-on-error": "true", "timeout": "60", "durability": "off"}
    for project in ("bad", "good", *(f"held-{number}" for number in range(OTHERS))):
        index.add_file(project, f"{project}-1.0.tar.gz")
    index.fault(glob, faults.status(403), times=1)
    held, bad = index.gate("/simple/held-*"), index.gate("/simple/bad/")
    process = mirror.start()
    until(lambda: list(mirror.web.rglob("good.v1_json")), "the good project's page is published")
    bad.open()
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (1, "")
    last = stdout.splitlines()[-1]
    assert last == (
        f"not complete: 1 {became}, {OTHERS} not yet done, stopped at the first error (stop-on-error): bad is {became}"
    )
    status = mirror.status()
    assert (status["projects"], status["last_run"]["pending"]) == (1 + (became == "partial"), OTHERS)
    held.open()
    assert mirror.run("--retry-failed").status == 0
    assert check_tree(mirror.web, "hashed", index) == []
    assert len(index.paths("/simple/good/")) == 1


def test_without_it_one_bad_project_holds_up_nothing(mirror: Mirror, index: FakeIndex) -> None:
    for project in ("bad", "good"):
        index.add_file(project, f"{project}-1.0.tar.gz")
    index.fault("/simple/bad/", faults.status(403))
    result = mirror.run()
    assert result.status == 1
    assert result.stdout.splitlines()[-1] == "not complete: 1 failed"
