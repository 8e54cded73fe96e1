"""A sweep takes every project in its turn, and only those that no other rule asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fastmirror.model import Outcome
from fastmirror.names import NormalizedName
from fastmirror.packing import pack_files
from fastmirror.schema import RecordedJob
from fastmirror.settings import Portion
from fastmirror.state import State
from fastmirror.sweep import CURSOR, plan_sweep

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fastmirror.model import Status

WHOLE = "acegikmoqs"
ALL = Portion(0, 100.0)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    state = State(str(tmp_path / "state.sqlite"))
    record(state, WHOLE)
    yield state
    state.close()


def record(state: State, names: str, status: Status = "published", page_digest: str = "p") -> None:
    """Each letter is a project."""
    with state.transaction():
        for name in names:
            outcome = Outcome(
                NormalizedName(name), status, serial=5, etag='"e"', page_digest=page_digest, files=pack_files(())
            )
            state.record([(outcome, RecordedJob(wanted=False, forced=False, tries=0, expected=5))], 0.0, 1)


def sweep(state: State, chosen: Portion | None, leave: str = "") -> str:
    """One run's: the names, put together."""
    found = plan_sweep(state, chosen, leave)
    state.put({CURSOR: found.last})
    assert set(found.projects.values()) <= {5}
    return "".join(found.projects)


def test_one_sweep_goes_on_where_the_last_one_ended_and_begins_anew_at_the_end(state: State) -> None:
    assert [sweep(state, Portion(4, 0.0)) for _ in range(5)] == ["aceg", "ikmo", "qsac", "egik", "moqs"]


def test_a_share_takes_every_project_once_in_a_round(state: State) -> None:
    assert "".join(sweep(state, Portion(0, 20.0)) for _ in range(5)) == WHOLE
    assert sweep(state, ALL) == WHOLE


def test_nothing_is_swept_where_the_share_is_nothing_or_nothing_is_held(state: State, tmp_path: Path) -> None:
    assert sweep(state, Portion(0, 0.0)) == sweep(state, Portion(0, 0.0)) == sweep(state, None) == ""
    empty = State(str(tmp_path / "empty.sqlite"))
    assert plan_sweep(empty, ALL, ()) == ({}, "")
    empty.close()


def test_what_the_run_asks_for_anyway_has_had_its_turn(state: State) -> None:
    assert [sweep(state, Portion(4, 0.0), leave="ei") for _ in range(3)] == ["acg", "kmo", "qsac"]


def test_projects_that_come_and_go_disturb_no_ones_turn(state: State) -> None:
    assert sweep(state, Portion(3, 0.0)) == "ace"
    with state.transaction():
        state.forget("e")
    record(state, "bf")
    assert [sweep(state, Portion(3, 0.0)) for _ in range(3)] == ["fgi", "kmo", "qsa"]
    assert sweep(state, Portion(3, 0.0)) == "bcf"


def test_what_fails_is_gone_or_has_no_page_is_not_swept(state: State) -> None:
    record(state, "c", "partial")
    record(state, "g", "skipped", page_digest="")
    with state.transaction():
        state.record([(Outcome(NormalizedName("i"), "failed", "?"), RecordedJob(False, False, 0, 6))], 0.0, 1)
        state.change("update project set outcome = 'gone' where name = ?", [("k",)])
        state.unlist(["m"])
    assert sweep(state, ALL) == "aeoqs"
