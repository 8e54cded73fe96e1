"""Power is lost: what was not flushed is gone, or full of zeros; of what was, nothing is lost.

Points in all parts of a run are in test_kill_points.py; here are those that once went wrong.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.crashes.crash import Crash, Grounds
from tests.crashes.power import ALL
from tests.crashes.promises import broken_promises, unfinished_business
from tests.published import page_file

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.case(47)
CONTENTS = "contents, not names"
AT_THE_END = {"when": "after", "what": "last-modified", "number": 1, "way": "group"}


@pytest.fixture
def grounds(tmp_path) -> Iterator[Grounds]:
    (tmp_path / "grounds").mkdir()
    grounds = Grounds(tmp_path / "grounds")
    yield grounds
    grounds.close()


@pytest.fixture
def first(tmp_path, grounds) -> Crash:
    """A first run that is to be cut off."""
    return crash(tmp_path, grounds, "first", "hashed")


def crash(tmp_path, grounds: Grounds, run: str, layout: str) -> Crash:
    home = tmp_path / "home"
    home.mkdir()
    return Crash(home, grounds[run, layout], layout)


def test_without_flushes_what_the_state_says_may_be_lost(first: Crash) -> None:
    """So it would be told if one were forgotten."""
    first.mirror.settings["durability"] = "off"
    first.cut_off(**AT_THE_END)
    assert broken_promises(first.mirror) == []
    first.lose_power(ALL)
    assert any("a row names" in problem or "not there" in problem for problem in lost(first))


def lost(crash: Crash) -> list[str]:
    try:
        return broken_promises(crash.mirror)
    except FileNotFoundError as error:  # a page that a row speaks of
        return [f"not there: {error.filename}"]


@pytest.mark.parametrize("run", ["first", "update"])
def test_what_is_recorded_is_durable_the_moment_it_is(tmp_path, grounds, run) -> None:
    cut_off = crash(tmp_path, grounds, run, "hashed")
    steps = cut_off.ground.steps
    published = len(steps) - steps[::-1].index("page")
    cut_off.cut_off(when="after", what="commit", number=1 + steps[:published].count("commit"), way="group")
    cut_off.lose_power(ALL)
    assert broken_promises(cut_off.mirror) == []
    assert unfinished_business(cut_off.mirror, cut_off.ground.upstream) == []


def test_what_tells_others_of_a_run_is_whole_though_the_power_goes_as_it_ends(first: Crash) -> None:
    first.cut_off(**AT_THE_END)
    first.lose_power(CONTENTS)
    assert (first.mirror.directory / "status").read_text() == str(first.ground.upstream.serial)
    assert (first.mirror.directory / "generation").read_text() == "5"
    assert (first.mirror.web / "last-modified").read_text().endswith("\n")


@pytest.mark.parametrize("seed", range(3))
def test_a_removal_is_seen_though_the_root_index_of_the_run_before_was_not_flushed(first: Crash, seed: int) -> None:
    first.cut_off(**AT_THE_END)
    first.lose_power(CONTENTS, seed)
    upstream = first.ground.upstream
    upstream.remove_project("large-0")
    result = first.mirror.run()
    assert result.status == 0, result
    assert not page_file(first.mirror, "large-0").exists()


@pytest.mark.parametrize("layout", ["hashed", "flat"])
def test_what_is_left_of_a_file_that_was_not_flushed_gives_way_and_is_fetched_once(tmp_path, grounds, layout) -> None:
    cut_off = crash(tmp_path, grounds, "first", layout)
    cut_off.cut_off(when="before", what="flush", number=1, way="group")
    cut_off.lose_power(CONTENTS)
    assert unfinished_business(cut_off.mirror, cut_off.ground.upstream) == []


def test_what_was_unlinked_does_not_come_back_for_good(tmp_path, grounds) -> None:
    cut_off = crash(tmp_path, grounds, "update", "hashed")
    cut_off.cut_off(when="before", what="flush", number=cut_off.ground.count("flush"), way="group")
    assert "unlinked file" in cut_off.steps()
    cut_off.lose_power(ALL)
    assert unfinished_business(cut_off.mirror, cut_off.ground.upstream) == []


def test_a_state_that_is_torn_anywhere_is_an_earlier_one(first: Crash, tmp_path) -> None:
    first.cut_off(**AT_THE_END)
    state = first.mirror.directory / ".fastmirror/state.sqlite"
    written = state.with_name("state.sqlite-wal").read_bytes()
    shutil.copy(state, tmp_path / "state")
    assert len(written) > 20_000
    for cut in range(0, len(written), len(written) // 40 + 1):
        shutil.copy(tmp_path / "state", state)
        state.with_name("state.sqlite-shm").unlink(missing_ok=True)
        state.with_name("state.sqlite-wal").write_bytes(written[:cut] + bytes(len(written) - cut))
        assert broken_promises(first.mirror) == []
    result = first.mirror.run()
    assert result.status == 0, result
