from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmirror.damage import is_marked
from fastmirror.errors import StateDamaged, StorageError
from fastmirror.history import Past, begin_run, end_run, past_runs
from fastmirror.model import Known, Outcome, StoredFile
from fastmirror.names import NormalizedName
from fastmirror.packing import pack_files, unpack_files
from fastmirror.schema import COME_DUE, FailingProject, RecordedJob, Totals
from fastmirror.state import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIX, PIP, IDNA = NormalizedName("six"), NormalizedName("pip"), NormalizedName("idna")
NOW = 1_700_000_000.0
WHEEL = StoredFile("packages/0ef/six-1.0.whl", 7, "ab" * 32, 1_600_000_000.25, "cd" * 32)
SDIST = StoredFile("packages/0ef/six-1.0.tar.gz", 9, "ef" * 32, 0.0, None)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "state.sqlite")


@pytest.fixture
def state(path: str) -> Iterator[State]:
    state = State(path)
    yield state
    state.close()


def job(**facts: Any) -> RecordedJob:
    return RecordedJob(**({"wanted": False, "forced": False, "tries": 0, "expected": None} | facts))


def published(name: NormalizedName = SIX, *files: StoredFile, **fields: Any) -> Outcome:
    facts: dict[str, Any] = {
        "serial": 5,
        "etag": '"e"',
        "upstream_digest": "u",
        "page_digest": "p",
        "settings_digest": "s",
        "files": pack_files(files),
        "file_count": len(files),
        "byte_count": sum(file.size for file in files),
    }
    return Outcome(name, **({"status": "published"} | facts | fields))


def failed(name: NormalizedName = SIX, reason: str = "page: HTTP status 500") -> Outcome:
    return Outcome(name, "failed", reason)


def record(state: State, outcome: Outcome, now: float = NOW, check: int = 1, **facts: Any) -> None:
    with state.transaction():
        state.record([(outcome, job(**facts))], now, check)


def known(state: State, name: NormalizedName = SIX) -> Known:
    return state.known([name])[name]


# Outcomes


def test_a_new_state_holds_nothing(state):
    assert dict(state.every_serial()) == {}
    assert state.known([SIX]) == {}
    assert list(state.listed()) == []
    assert state.due(None) == {}
    assert state.totals() == Totals(0, 0, 0, 0, 0)
    assert state.greatest_serial() is None
    assert past_runs(state) == Past([], damaged=False)


def test_a_published_project_is_known_with_its_files(state):
    record(state, published(SIX, WHEEL, SDIST))
    assert known(state) == Known(5, '"e"', "u", "p", "s", pack_files([WHEEL, SDIST]), "published", 0)
    assert unpack_files(known(state).files) == [WHEEL, SDIST]
    assert dict(state.every_serial()) == {SIX: 5}
    assert list(state.listed()) == [(SIX, 5)]
    assert state.totals() == Totals(projects=1, files=2, bytes=16, failing=0, doomed=0, unverified=1)
    assert state.due(None) == {}


def test_a_published_project_without_files_of_its_own_keeps_those_it_had(state):
    """None says: as they were."""
    record(state, published(SIX, WHEEL))
    record(state, published(SIX, files=None))
    assert unpack_files(known(state).files) == [WHEEL]


def test_a_partial_project_is_published_and_tried_again(state):
    record(state, published(SIX, WHEEL, status="partial", reason="six-2.0.whl: HTTP status 404"), expected=6)
    assert known(state).outcome == "partial"
    assert list(state.listed()) == [(SIX, 5)]
    assert state.due(NOW) == {SIX: 6}
    assert state.failing(10) == [FailingProject("six", "partial", "six-2.0.whl: HTTP status 404", NOW)]


def test_a_failed_new_project_is_not_listed_and_is_tried_again(state):
    record(state, failed(), expected=6)
    assert known(state) == Known(None, "", "", "", "", b"", "failed", 1, 6)
    assert list(state.listed()) == []
    assert dict(state.every_serial()) == {SIX: None}
    assert state.due(NOW) == {SIX: 6}
    assert state.totals() == Totals(projects=0, files=0, bytes=0, failing=1, doomed=0, missing=1)


def test_a_project_with_a_file_that_has_come_due_counts_as_one_whose_page_was_not_seen(state):
    record(state, published(due=NOW))
    record(state, published(due=4e9))  # the last word counts
    assert state.known([SIX])[SIX].etag == '"e"'
    record(state, published(due=NOW))
    known = state.known([SIX])[SIX]
    assert (known.etag, known.upstream_digest, known.settings_digest) == ("", "", "s")
    assert state.select(COME_DUE) == [(SIX, 5)]
    record(state, published())
    assert state.known([SIX])[SIX].etag == '"e"'


def test_a_state_from_before_files_were_held_back_is_read_as_it_is_and_then_written(state, path):
    record(state, published())
    with state.transaction():
        state.change("drop table held_back", [()])
    for read_only in (True, False):
        again = State(path, read_only=read_only)
        assert again.known([SIX])[SIX].etag == '"e"'
        again.close()


def test_a_failed_project_keeps_all_that_was_published(state):
    record(state, published(SIX, WHEEL))
    before = known(state)
    record(state, failed(), expected=6)
    assert known(state) == before._replace(outcome="failed", tries=1, expected=6)
    assert list(state.listed()) == [(SIX, 5)]
    assert state.totals() == Totals(projects=1, files=1, bytes=7, failing=1, doomed=0, unverified=1)


def test_failures_in_a_row_are_counted_and_put_the_next_try_off(state):
    waits = []
    for tries in range(6):
        record(state, failed(), tries=tries)
        assert known(state).tries == tries + 1
        (failing,) = state.failing(1)
        assert failing.next_try is not None
        waits.append(failing.next_try - NOW)
    assert waits == [0, 900, 1800, 3600, 7200, 14400]


def test_what_is_not_due_yet_is_left_in_peace_unless_all_are_asked_for(state):
    record(state, failed(), tries=1, expected=6)
    assert state.due(NOW) == {}
    assert state.due(NOW + 899) == {}
    assert state.due(NOW + 900) == {SIX: 6}
    assert state.due(None) == {SIX: 6}


@pytest.mark.parametrize("outcome", [published(), Outcome(SIX, "unchanged", serial=5)])
def test_a_success_ends_a_row_of_failures(state, outcome):
    record(state, published())
    record(state, failed(), tries=3, expected=6)
    record(state, outcome, tries=4)
    assert (known(state).outcome, known(state).tries) == ("published", 0)
    assert state.due(None) == {}
    assert state.failing(10) == []


def test_an_unchanged_project_keeps_all_but_its_serial_and_its_etag(state):
    record(state, published(SIX, WHEEL))
    before = known(state)
    record(state, Outcome(SIX, "unchanged", serial=9, etag='"f"'))
    assert known(state) == before._replace(serial=9, etag='"f"')


def test_an_unchanged_project_without_a_serial_keeps_the_one_it_had(state):
    record(state, published())
    record(state, Outcome(SIX, "unchanged", serial=None))
    assert dict(state.every_serial()) == {SIX: 5}


def test_a_project_that_is_gone_is_forgotten_with_its_files(state):
    record(state, published(SIX, WHEEL))
    record(state, Outcome(SIX, "gone"))
    assert state.known([SIX]) == {}
    assert state.named({WHEEL.path}) == set()
    assert list(state.listed()) == []


def test_a_quarantined_project_is_held_and_not_listed(state):
    record(state, published(hidden=True))
    assert dict(state.every_serial()) == {SIX: 5}
    assert list(state.listed()) == []


def test_a_project_without_a_page_is_not_listed(state):
    record(state, published(page_digest=""))
    assert list(state.listed()) == []


def test_an_unlisted_project_is_still_held_and_no_serial_of_it_counts(state):
    record(state, published(SIX))
    record(state, published(PIP))
    with state.transaction():
        state.unlist([SIX])
    assert list(state.listed()) == [(PIP, 5)]
    assert dict(state.every_serial()) == {SIX: None, PIP: 5}


def test_a_project_wanted_by_name_stays_wanted(state):
    record(state, published(SIX), wanted=True)
    record(state, published(PIP))
    record(state, published(SIX), wanted=False)
    record(state, failed(IDNA), wanted=True)
    assert state.wanted_by_name() == {SIX, IDNA}


@pytest.mark.parametrize("outcome", [failed(), Outcome(SIX, "unchanged", serial=5), published()])
def test_a_project_that_is_held_becomes_wanted_by_name_whatever_came_of_it(state, outcome):
    record(state, published())
    record(state, outcome, wanted=True)
    assert state.wanted_by_name() == {SIX}


def test_a_forced_check_sees_each_project_once(state):
    for name in (SIX, PIP, IDNA):
        record(state, published(name))
    record(state, published(SIX), check=7, forced=True)
    record(state, failed(PIP), check=7, forced=True)
    assert state.unchecked(7) == [IDNA]
    record(state, published(SIX), check=8)
    assert state.unchecked(7) == [IDNA]
    assert sorted(state.unchecked(8)) == [IDNA, PIP, SIX]


def test_the_greatest_serial_is_that_of_the_projects(state):
    record(state, published(SIX, serial=5))
    record(state, published(PIP, serial=8))
    record(state, failed(IDNA), expected=99)
    assert state.greatest_serial() == 8


def test_serials_of_some_projects_leave_out_what_is_not_held(state):
    record(state, published(SIX))
    record(state, published(PIP, serial=None))
    assert state.serials([PIP, IDNA]) == {PIP: None}


def test_the_failing_project_that_is_tried_next_comes_first(state):
    record(state, failed(SIX), tries=3)
    record(state, failed(PIP), tries=1)
    record(state, failed(IDNA), tries=1)
    assert [failing.name for failing in state.failing(10)] == ["idna", "pip", "six"]
    assert [failing.name for failing in state.failing(1)] == ["idna"]
    assert state.count_failing() == 3


def test_ten_thousand_projects_are_listed_by_name(state):
    names = [NormalizedName(f"p-{number * 7919 % 10_000}") for number in range(10_000)]
    with state.transaction():
        state.record(((published(name, serial=i + 1), job()) for i, name in enumerate(names)), NOW, 1)
    listed = list(state.listed())
    assert [name for name, _ in listed] == sorted(names)
    assert dict(listed) == {name: i + 1 for i, name in enumerate(names)}
    assert list(state.every_serial()) == listed
    assert state.known(names[:500]).keys() == set(names[:500])


# Files


@pytest.mark.parametrize("files", [[], [WHEEL], [WHEEL, SDIST], [WHEEL._replace(path="packages/0ef/é \U0001f40d.zip")]])
def test_unpacking_is_the_inverse_of_packing(files):
    assert unpack_files(pack_files(files)) == files


def test_many_files_take_little_room():
    files = [SDIST._replace(path=f"packages/0ef/six-1.{number}.tar.gz") for number in range(2000)]
    assert unpack_files(pack_files(files)) == files
    assert len(pack_files(files)) < 100 * len(files)


def test_no_files_at_all_unpack_to_none():
    assert unpack_files(b"") == []


def test_a_file_is_named_by_the_projects_that_list_it_and_so_is_its_core_metadata(state):
    record(state, published(SIX, WHEEL))
    record(state, published(PIP, SDIST))
    paths = {WHEEL.path, f"{WHEEL.path}.metadata", SDIST.path, f"{SDIST.path}.metadata", "packages/fff/x"}
    assert state.named(paths) == {WHEEL.path, f"{WHEEL.path}.metadata", SDIST.path}
    assert state.named(paths, by=[PIP]) == {SDIST.path}
    assert state.named(paths, by=[IDNA]) == set()
    assert state.named(paths, by=[]) == set()


def test_doomed_files_wait_for_the_end_of_their_grace(state):
    with state.transaction():
        state.doom([published(dropped=(WHEEL.path,))], NOW)
    assert state.doomed_before(NOW - 1) == []
    assert state.doomed_before(NOW) == [(WHEEL.path, "six")]
    assert state.totals().doomed == 1


def test_what_quarantine_hides_is_noted_and_what_was_dropped_before_has_no_grace(state):
    with state.transaction():
        state.doom([published(dropped=("packages/0ef/six-0.9.whl",))], NOW)
        state.doom([published(dropped=(WHEEL.path,), hidden=True)], NOW)
    assert state.doomed_before(0) == [("packages/0ef/six-0.9.whl", "six")]
    assert (state.totals().doomed, state.totals().hidden) == (1, 1)


def test_a_file_that_is_doomed_again_keeps_the_earlier_time(state):
    with state.transaction():
        state.doom([published(dropped=(WHEEL.path,))], NOW)
        state.doom([published(dropped=(WHEEL.path,))], NOW + 100)
    assert state.doomed_before(NOW) == [(WHEEL.path, "six")]


def test_a_spared_file_is_no_longer_doomed_and_still_shared(state):
    record(state, published(shared=(WHEEL.path, SDIST.path)))
    with state.transaction():
        state.doom([published(dropped=(WHEEL.path, SDIST.path))], NOW)
        state.spare([WHEEL.path])
    assert state.doomed_before(NOW) == [(SDIST.path, "six")]
    assert state.shared_paths([WHEEL.path, SDIST.path]) == {WHEEL.path, SDIST.path}


def test_a_file_that_is_gone_is_no_longer_shared(state):
    record(state, published(shared=(WHEEL.path, SDIST.path)))
    with state.transaction():
        state.unshare([WHEEL.path])
    assert state.shared_paths([WHEEL.path, SDIST.path]) == {SDIST.path}


def test_a_file_that_a_project_found_in_place_is_shared(state):
    record(state, published(SIX, WHEEL))
    record(state, published(PIP, WHEEL, shared=(WHEEL.path,)))
    record(state, published(PIP, WHEEL, shared=(WHEEL.path,)))
    assert state.shared_paths([WHEEL.path, SDIST.path]) == {WHEEL.path}


# Facts and runs


def test_a_fact_is_kept_replaced_and_forgotten(state):
    state.put({"layout": "flat", "clean": "0"})
    state.put({"clean": "1"})
    assert (state.get("layout"), state.get("clean"), state.get("tongue")) == ("flat", "1", None)
    state.put({"clean": None, "never": None})
    assert state.get("clean") is None


# Sums

WORDS = st.sampled_from(["six", "pip", "idna"]).map(NormalizedName)
STEPS = st.one_of(
    st.tuples(st.just("published"), WORDS, st.sampled_from([(), (WHEEL,), (WHEEL, SDIST)]), st.booleans()),
    st.tuples(st.sampled_from(["failed", "unchanged", "gone", "intact"]), WORDS, st.just(()), st.booleans()),
    st.tuples(st.sampled_from(["unlist", "forget", "kept"]), WORDS, st.just(()), st.booleans()),
)


def take_step(state: State, what: str, name: NormalizedName, files: tuple[StoredFile, ...], *, forced: bool) -> None:
    if what in {"unlist", "forget", "kept"}:
        with state.transaction():
            if what == "unlist":
                state.unlist([name])
            elif what == "forget":
                state.forget(name)
            else:
                state.change("update project set outcome = 'gone' where name = ?", [(name,)])
    else:
        outcome = published(name, *files) if what == "published" else Outcome(name, what)  # type: ignore[arg-type]
        record(state, outcome, forced=forced)


@given(st.lists(STEPS, max_size=12))
def test_the_totals_are_the_sums_over_all_projects_whatever_came_of_them(steps):
    state = State(":memory:")
    for what, name, files, forced in steps:
        take_step(state, what, name, files, forced=forced)
    [summed] = state.select(
        "select count(nullif(page_digest, '')), coalesce(sum(file_count), 0), coalesce(sum(byte_count), 0),"
        " count(*) filter (where outcome = 'gone' and page_digest <> ''),"
        " count(*) filter (where verified_at is null and page_digest <> '') from project"
    )
    totals = state.totals()
    assert (totals.projects, totals.files, totals.bytes, totals.kept, totals.unverified) == summed
    state.close()


def test_an_earlier_state_is_summed_up_by_the_run_that_opens_it_and_by_every_reader_before(state, path):
    record(state, published(SIX, WHEEL, SDIST))
    for leaving in ("trigger total_insert", "trigger total_update", "trigger total_delete", "table total"):
        state.change(f"drop {leaving}", [()])
    for leaving in ("index verified", "index size", "table missing"):
        state.change(f"drop {leaving}", [()])
    record_row = "insert into project select 'pip', 1, etag, '', 'p', '', 3, 30, outcome, '', 0, null, null, null,"
    state.change(f"{record_row} null, '', 1 from project where name = 'six'", [()])
    state.close()
    for read_only in (True, False, True):
        state = State(path, read_only=read_only)
        assert state.totals() == Totals(projects=2, files=5, bytes=46, failing=0, doomed=0, unverified=2)
        assert [name for name, *_ in state.largest(2)] == ["pip", "six"]
        state.close()
    state = State(path)
    record(state, published(PIP, WHEEL))
    assert (state.totals().files, state.totals().bytes) == (3, 23)
    state.close()


def test_no_count_goes_through_all_projects(state):
    asked: list[str] = []
    state._db.set_trace_callback(asked.append)
    state.totals()
    state.largest(10)
    state.oldest_verification()
    state._db.set_trace_callback(None)
    assert len(asked) == 7
    for query in asked:
        plan = state.select(f"explain query plan {query}")
        assert not [row for row in plan if row[-1] == "SCAN project"], query


def test_what_cools_down_is_looked_for_among_the_few_that_do(state):
    plan = state.select(f"explain query plan {COME_DUE}")
    assert not [row for row in plan if row[-1].startswith("SCAN project")], plan


def test_the_largest_projects_come_first(state):
    record(state, published(SIX, WHEEL))
    record(state, published(PIP, WHEEL, SDIST))
    record(state, published(IDNA))
    assert state.largest(2) == [("pip", 2, 16), ("six", 1, 7)]


def test_what_is_missing_counts_until_it_is_there_and_so_does_a_project_without_a_page(state):
    record(state, published(SIX, WHEEL, status="partial", missing_files=2, missing_bytes=50))
    record(state, failed(PIP))
    assert (state.totals().missing, state.totals().missing_files, state.totals().missing_bytes) == (1, 2, 50)
    record(state, failed(SIX))
    assert (state.totals().missing, state.totals().missing_files) == (1, 2)
    record(state, published(SIX, WHEEL, SDIST))
    record(state, Outcome(PIP, "gone"))
    assert (state.totals().missing, state.totals().missing_files, state.totals().missing_bytes) == (0, 0, 0)


def test_the_oldest_verification_is_that_of_a_project_that_is_served(state):
    assert state.oldest_verification() is None
    record(state, published(SIX, WHEEL), NOW, forced=True)
    record(state, published(PIP, WHEEL), NOW - 100, forced=True)
    record(state, published(IDNA), NOW + 50, forced=True)
    assert state.oldest_verification() == NOW - 100
    record(state, published(PIP, page_digest=""), NOW - 100)
    assert state.oldest_verification() == NOW


# Durability, and readers


def test_what_was_committed_is_there_after_reopening(path):
    state = State(path)
    record(state, published(SIX, WHEEL))
    state.close()
    state = State(path)
    assert unpack_files(known(state).files) == [WHEEL]
    state.close()


def test_a_transaction_that_fails_leaves_no_trace(state):
    record(state, published(SIX, WHEEL))

    def interrupted() -> Iterator[tuple[Outcome, RecordedJob]]:
        yield published(SIX, SDIST, serial=9), job()
        yield published(PIP), job()
        state.doom([published(dropped=(WHEEL.path,))], NOW)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), state.transaction():
        state.record(interrupted(), NOW, 1)
    assert dict(state.every_serial()) == {SIX: 5}
    assert unpack_files(known(state).files) == [WHEEL]
    assert state.totals().doomed == 0
    record(state, published(PIP))
    assert dict(state.every_serial()) == {SIX: 5, PIP: 5}


def test_a_reader_sees_what_is_committed_while_a_run_writes(state, path):
    record(state, published(SIX))
    reader = State(path, read_only=True)
    with state.transaction():
        state.record([(published(PIP), job())], NOW, 1)
        assert dict(reader.every_serial()) == {SIX: 5}
        assert reader.totals().projects == 1
    assert dict(reader.every_serial()) == {SIX: 5, PIP: 5}
    reader.close()


def test_a_reader_keeps_nobody_from_writing(state, path):
    record(state, published(SIX))
    record(state, published(PIP))
    reader = State(path, read_only=True)
    listed = reader.listed()
    next(listed)
    record(state, published(IDNA))
    assert [name for name, _ in listed] == [SIX]  # as it was when reading began
    reader.close()


def test_a_reader_cannot_write(state, path):
    reader = State(path, read_only=True)
    with pytest.raises(StorageError, match="readonly"), reader.transaction():
        reader.forget(SIX)
    with pytest.raises(StorageError, match="readonly"):
        reader.put({"clean": "1"})
    reader.close()


@pytest.mark.parametrize("name", ["a b", "a?mode=rwc", "a#b", "a%20b", "é", "a;b&c=d", "a:b"])
def test_a_state_is_read_whatever_its_directory_is_called(tmp_path, name):
    directory = tmp_path / name
    directory.mkdir()
    path = str(directory / "state.sqlite")
    state = State(path)
    record(state, published(SIX))
    state.close()
    reader = State(path, read_only=True)
    assert dict(reader.every_serial()) == {SIX: 5}
    reader.close()
    assert {entry.name for entry in tmp_path.iterdir()} == {name}


# Trouble


def test_a_state_of_another_version_is_refused(state, path):
    state.put({"schema": "999"})
    for read_only in (False, True):
        with pytest.raises(StorageError, match=r"another version.*'999', expected 1"):
            State(path, read_only=read_only)


@pytest.mark.parametrize("read_only", [False, True])
def test_a_file_that_is_no_state_is_an_error_of_the_storage_that_names_it(path, read_only):
    Path(path).write_bytes(b"this is no database at all, and too long to be an empty one" * 100)
    with pytest.raises(StorageError, match="state is damaged") as caught:
        State(path, read_only=read_only)
    assert path in str(caught.value)


def test_a_state_whose_pages_are_damaged_is_an_error_of_the_storage(path):
    state = State(path)
    with state.transaction():
        state.record(((published(NormalizedName(f"p-{i}"), WHEEL), job()) for i in range(2000)), NOW, 1)
    state.close()
    size = Path(path).stat().st_size
    with open(path, "r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))
    with pytest.raises(StorageError, match="state is damaged"):
        list(State(path).every_serial())


def garbage_behind_the_schema(path):
    size = Path(path).stat().st_size
    with open(path, "r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))


def test_a_damaged_state_is_marked_by_who_writes_and_not_by_who_reads(path):
    State(path).close()
    garbage_behind_the_schema(path)
    with pytest.raises(StateDamaged, match="hint: fastmirror doctor"):
        State(path, read_only=True)
    assert not is_marked(path)
    with pytest.raises(StateDamaged, match="the next run makes it anew from the tree"):
        State(path)
    assert is_marked(path)


def test_text_that_is_none_is_damage(state, path):
    state._db.execute("insert into meta values ('fact', cast(x'ff' as text))")
    with pytest.raises(StateDamaged, match="UTF-8"):
        state.get("fact")
    assert is_marked(path)


def test_there_is_nothing_to_read_where_no_state_is(path):
    with pytest.raises(StorageError, match="state cannot be used"):
        State(path, read_only=True)
    assert not Path(path).exists()


def test_an_empty_file_is_a_state_in_the_making_for_a_run_and_none_for_a_reader(path):
    Path(path).touch()
    with pytest.raises(StorageError, match="state is empty"):
        State(path, read_only=True)
    state = State(path)
    assert dict(state.every_serial()) == {}
    state.close()


def test_a_full_disk_is_an_error_of_the_storage_and_leaves_no_trace(state, path):
    """A limit on the database's pages stands in for the disk; to SQLite both are the same."""
    record(state, published(SIX, WHEEL))
    state._db.execute("pragma max_page_count = 40")
    many = [(published(NormalizedName(f"p-{i}"), SDIST, etag="e" * 1000), job()) for i in range(1000)]
    with pytest.raises(StorageError, match="database or disk is full") as caught, state.transaction():
        state.record(many, NOW, 1)
    assert path in str(caught.value)
    assert dict(state.every_serial()) == {SIX: 5}
    state._db.execute("pragma max_page_count = 1000000")
    record(state, published(PIP))
    assert dict(state.every_serial()) == {SIX: 5, PIP: 5}


USES: dict[str, Callable[[State], object]] = {
    "get": lambda state: state.get("clean"),
    "put": lambda state: state.put({"clean": "1"}),
    "forget a fact": lambda state: state.put({"clean": None}),
    "known": lambda state: state.known([SIX]),
    "every serial": lambda state: list(state.every_serial()),
    "count failing": lambda state: state.count_failing(),
    "serials of some": lambda state: state.serials([SIX]),
    "listed": lambda state: list(state.listed()),
    "due": lambda state: state.due(None),
    "unchecked": lambda state: state.unchecked(1),
    "wanted by name": lambda state: state.wanted_by_name(),
    "record": lambda state: record(state, published()),
    "doomed before": lambda state: state.doomed_before(NOW),
    "shared paths": lambda state: state.shared_paths(["packages/0ef/x"]),
    "named": lambda state: state.named({"packages/0ef/x"}),
    "greatest serial": lambda state: state.greatest_serial(),
    "totals": lambda state: state.totals(),
    "failing": lambda state: state.failing(1),
    "begin run": lambda state: begin_run(state, NOW),
    "end run": lambda state: end_run(state, 1, NOW, 0, {}),
    "last run": lambda state: past_runs(state),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_whatever_is_asked_of_a_state_that_lost_its_tables_it_is_an_error_of_the_storage(state, path, use):
    other = sqlite3.connect(path)
    for table in ("meta", "project", "stored", "doomed", "shared", "run"):
        other.execute(f"drop table {table}")
    other.commit()
    other.close()
    with pytest.raises(StorageError, match="state cannot be used"):
        use(state)


# A clock that jumps


def test_a_failure_dated_by_a_clock_that_was_ahead_is_tried_again_no_later_than_any_other(state):
    record(state, failed(), now=NOW + 10 * 365 * 86400, tries=5)
    record(state, failed(PIP), now=NOW, tries=5)
    assert state.due(NOW) == {}
    begin_run(state, NOW)
    assert set(state.due(NOW)) == {SIX}


def test_a_file_doomed_by_a_clock_that_was_ahead_has_its_grace_from_the_next_run_on(state):
    with state.transaction():
        record_dropped = published(dropped=(WHEEL.path,))
        state.doom([record_dropped], NOW + 10 * 365 * 86400)
    begin_run(state, NOW)
    assert state.doomed_before(NOW - 1) == []
    assert state.doomed_before(NOW) == [(WHEEL.path, SIX)]
