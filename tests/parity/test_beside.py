"""The same configuration, through both programs against the same upstream, keeps the same files, pages and serial."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote

import pytest

from tests.parity.filters import FILTERS
from tests.parity.options import OPTIONS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.parity.beside import Beside, Case

_SHOWN = 25


@pytest.mark.parametrize("case", [*OPTIONS, *FILTERS], ids=lambda case: case.name)
def test_both_keep_the_same_but_for_what_differs_on_purpose(case: Case, beside: Callable[[Case], Beside]) -> None:
    both = beside(case)
    for step in case.steps:
        both.run(step)
    problems = both.unexplained(*case.differences)
    assert not problems, "\n".join([*problems[:_SHOWN], f"{len(problems)} in all", both.report()])
    if case in FILTERS:
        assert _leaves_out_something(both) != case.keeps_all


def _leaves_out_something(both: Beside) -> bool:
    files = [file for project in both.index.projects().values() for file in project.files]
    return any(f"{unquote(file.path)[1:]}/" not in both.theirs.facts for file in files)
