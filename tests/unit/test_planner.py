from __future__ import annotations

from typing import Any

import pytest

from fastmirror.layout import Layout, file_paths
from fastmirror.model import File, Page, StoredFile, Want
from fastmirror.names import NormalizedName
from fastmirror.planner import (
    PIECE_BYTES,
    PIECE_FILES,
    in_pieces,
    is_over_limit,
    needs_pieces,
    plan_project,
    plan_sync,
    retry_delay_s,
    upload_timestamp,
)

A, B, C = map(NormalizedName, "abc")
SHA, OTHER, META = "ab" * 32, "cd" * 32, "ef" * 32
DAY_S = 24 * 3600


def listed(filename: str = "six-1.0.whl", digest: str = SHA, metadata: str | None = None, **keys: Any) -> File:
    return File(filename, f"https://files.example/{filename}", "sha256", digest, 5, metadata, keys)


def page(*files: File) -> Page:
    return Page(NormalizedName("six"), 7, "active", list(files), [], {})


def stored(file: File, *, sha256: str = "", metadata: str | None = None, long: bool = False) -> StoredFile:
    paths = file_paths(Layout.HASHED, file.url, file.filename, file.digest)
    return StoredFile(paths.long_path if long else paths.path, 5, sha256 or file.digest, 0.0, metadata)


def plan(wanted: Page, *at_rest: StoredFile, core_metadata: bool = True, damaged: tuple[str, ...] = ()) -> Any:
    files = {file.path: file for file in at_rest}
    return plan_project(wanted, files, layout=Layout.HASHED, core_metadata=core_metadata, damaged=damaged)


# Which projects


def test_new_changed_and_older_serials_are_updates():
    """An older one too: a mirror that was set up with another upstream follows the one it has now."""
    plan = plan_sync({A: 1, B: 5, C: 3}, [(B, 4), (C, 9)])
    assert plan.update == {A: 1, B: 5, C: 3}
    assert plan.remove == []


def test_an_equal_serial_is_no_update():
    assert plan_sync({A: 1}, [(A, 1)]) == ({}, [])


def test_without_serials_every_project_is_asked_for():
    assert plan_sync({A: None, B: None}, [(A, None), (B, 3)]).update == {A: None, B: None}


def test_a_project_that_is_held_without_a_serial_is_an_update():
    """It failed at its first try, or came from an upstream without serials."""
    assert plan_sync({A: 1}, [(A, None)]).update == {A: 1}


def test_what_is_no_longer_listed_is_to_be_removed():
    assert plan_sync({A: 1}, [(A, 1), (B, 2), (C, None)]).remove == [B, C]


@pytest.mark.parametrize(
    ("count", "total", "chosen", "over"),
    [
        (20, 0, None, False),
        (20, 10, None, False),
        (21, 10, None, True),
        (21, 2_000, None, True),
        (21, 2_100, None, False),
        (8_000, 800_000, None, False),
        (8_001, 800_000, None, True),
        (0, 100, 0, False),
        (1, 800_000, 0, True),
        (5_000, 10, 5_000, False),
        (5_001, 10, 5_000, True),
    ],
)
def test_the_guard_lets_through_one_per_cent_or_what_the_operator_chose(count, total, chosen, over):
    assert is_over_limit(count, least=20, chosen=chosen, total=lambda: total) is over


@pytest.mark.parametrize(("count", "chosen"), [(20, None), (21, 20), (3, 20)])
def test_the_guard_counts_the_mirror_only_where_it_matters(count, chosen):
    def total() -> int:
        raise AssertionError("counted")

    is_over_limit(count, least=20, chosen=chosen, total=total)


# When a failed project is tried again


def test_the_next_run_tries_a_failed_project_at_once():
    assert retry_delay_s(0) == retry_delay_s(1) == 0


def test_later_runs_try_it_less_and_less_often_but_once_a_day():
    delays = [retry_delay_s(failures) for failures in (2, 3, 4, 8, 9, 50, 10**9)]
    assert delays == [900, 1800, 3600, 57_600, DAY_S, DAY_S, DAY_S]


# Upload times


@pytest.mark.parametrize(
    ("text", "timestamp"),
    [
        ("2024-01-02T03:04:05.678901Z", 1704164645.678901),
        ("2024-01-02T03:04:05Z", 1704164645.0),
        ("2024-01-02T03:04:05", 1704164645.0),
        ("2024-01-02T05:04:05+02:00", 1704164645.0),
        ("1970-01-01T00:00:00Z", 0.0),
    ],
)
def test_an_upload_time_is_read_in_utc(text, timestamp):
    assert upload_timestamp(listed(**{"upload-time": text})) == timestamp


@pytest.mark.parametrize("value", ["", "yesterday", "2024-13-45T00:00:00Z", "9" * 5000, None, 5, [], {}])
def test_what_is_no_upload_time_counts_as_unknown(value):
    assert upload_timestamp(listed(**{"upload-time": value})) == 0.0


def test_no_upload_time_counts_as_unknown():
    assert upload_timestamp(listed()) == 0.0


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"])
def test_the_ends_of_the_calendar_are_no_error(text):
    assert isinstance(upload_timestamp(listed(**{"upload-time": text})), float)


# Which files


def test_a_file_that_is_not_at_rest_is_fetched():
    file = listed(metadata=META, **{"upload-time": "2024-01-02T03:04:05Z"})
    paths = file_paths(Layout.HASHED, file.url, file.filename, file.digest)
    (want,) = plan(page(file)).fetch
    assert want == Want(
        file.filename, file.url, paths.path, paths.long_path, "sha256", SHA, 5, 1704164645.0, META, None, repair=False
    )


def test_a_file_at_rest_stays():
    at_rest = stored(listed(metadata=META), metadata=META)
    assert plan(page(listed(metadata=META)), at_rest) == ([], [at_rest], [])


def test_a_file_at_rest_under_its_long_path_stays():
    at_rest = stored(listed(), long=True)
    assert plan(page(listed()), at_rest) == ([], [at_rest], [])


def test_a_file_that_is_no_longer_listed_is_dropped():
    at_rest = stored(listed())
    assert plan(page(), at_rest) == ([], [], [at_rest])


def test_a_file_of_that_name_with_other_bytes_is_fetched_and_does_not_count_as_damaged():
    """The old one may be another project's; the newcomer goes to the long path while it stands."""
    (want,) = plan(page(listed()), stored(listed(), sha256=OTHER)).fetch
    assert want.stored is None
    assert not want.repair


def test_a_damaged_file_is_fetched_and_may_be_replaced():
    at_rest = stored(listed())
    fetch, keep, drop = plan(page(listed()), at_rest, damaged=(at_rest.path,))
    assert [(want.path, want.repair) for want in fetch] == [(at_rest.path, True)]
    assert (keep, drop) == ([], [])


def test_a_repair_of_the_long_path_leaves_the_short_one_alone():
    """Another project's file has that name, or this one would not be under its long path."""
    at_rest = stored(listed(), long=True)
    (want,) = plan(page(listed()), at_rest, damaged=(at_rest.path,)).fetch
    assert (want.path, want.repair) == (at_rest.path, True)


def test_missing_core_metadata_is_fetched_without_its_file():
    at_rest = stored(listed())
    fetch, keep, drop = plan(page(listed(metadata=META)), at_rest)
    assert [(want.stored, want.repair) for want in fetch] == [(at_rest, False)]
    assert (keep, drop) == ([], [])


def test_core_metadata_with_another_digest_is_fetched():
    at_rest = stored(listed(), metadata=OTHER)
    (want,) = plan(page(listed(metadata=META)), at_rest).fetch
    assert (want.stored, want.metadata) == (at_rest, META)


def test_core_metadata_that_is_offered_without_a_digest_is_fetched_once():
    offered = listed(metadata="")
    assert len(plan(page(offered), stored(offered)).fetch) == 1
    assert plan(page(offered), stored(offered, metadata=META)).fetch == []


def test_damaged_core_metadata_is_fetched_and_may_be_replaced():
    at_rest = stored(listed(), metadata=META)
    (want,) = plan(page(listed(metadata=META)), at_rest, damaged=(f"{at_rest.path}.metadata",)).fetch
    assert (want.stored, want.repair) == (at_rest, True)


@pytest.mark.parametrize("offered", [META, "", None])
def test_core_metadata_is_let_go_where_the_operator_wants_none(offered):
    at_rest = stored(listed(), metadata=META)
    kept = at_rest._replace(metadata=None)
    assert plan(page(listed(metadata=offered)), at_rest, core_metadata=False) == ([], [kept], [])


def test_core_metadata_whose_name_no_file_system_could_hold_is_not_asked_for_again():
    file = listed("x" * 250 + ".whl", metadata=META)
    at_rest = stored(file)
    assert plan(page(file), at_rest) == ([], [at_rest], [])


def test_a_file_with_another_digest_than_sha256_stays_under_its_path():
    """Only its own digest could say more, and that is checked when it is fetched."""
    file = listed()._replace(algorithm="blake2b", digest="12" * 64)
    at_rest = stored(file, sha256=OTHER)
    assert plan(page(file), at_rest) == ([], [at_rest], [])


# In pieces


def want(size: int | None, number: int = 0) -> Want:
    return Want(f"{number}.whl", "", f"p/{number}", f"l/{number}", "sha256", SHA, size, 0.0, None, None, repair=False)


@pytest.mark.parametrize(
    ("sizes", "needed"),
    [
        ([], False),
        ([1] * PIECE_FILES, False),
        ([1] * (PIECE_FILES + 1), True),
        ([PIECE_BYTES], False),
        ([PIECE_BYTES, 1], True),
        ([None] * PIECE_FILES, False),
        ([None] * (PIECE_FILES + 1), True),
    ],
)
def test_a_plan_is_shared_among_workers_above_64_files_or_256_mib(sizes, needed):
    assert needs_pieces([want(size) for size in sizes]) is needed


def test_large_files_come_first_and_each_has_a_piece_of_its_own_if_it_needs_one():
    large = PIECE_BYTES + 1
    sizes = [[want.size for want in piece] for piece in in_pieces([want(1), want(large), want(None), want(large)])]
    assert sizes == [[large], [large], [1, None]]


def test_no_files_make_no_pieces():
    assert list(in_pieces([])) == []
