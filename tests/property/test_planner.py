from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmirror.layout import Layout, file_paths, metadata_path
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
    sweep_size,
    upload_timestamp,
)
from fastmirror.settings import Portion
from tests.property.strategies import json_values

if TYPE_CHECKING:
    from collections.abc import Iterable

# Few of each, so that what is listed and what is at rest meet often.
NAMES = [NormalizedName(name) for name in ("a", "b", "c", "d", "e")]
FILENAMES = ["a-1.whl", "b-1.tar.gz", "c-1.zip", "x" * 250 + ".whl"]
SHAS = ["0" * 64, "1" * 64, "ab" * 32]
METAS = ["e" * 64, "f" * 64]

serials = st.none() | st.integers(0, 3)
sync_sides = st.dictionaries(st.sampled_from(NAMES), serials)
layouts = st.sampled_from(Layout)


@st.composite
def files(draw: st.DrawFn) -> File:
    filename, digest = draw(st.sampled_from(FILENAMES)), draw(st.sampled_from(SHAS))
    url = draw(
        st.sampled_from(
            [
                f"https://files.example/{filename}",
                f"https://files.example/packages/00/00/{'0' * 60}/{filename}",
                f"https://files.example/packages/ff/ff/{'f' * 60}/{filename}",
            ]
        )
    )
    algorithm = draw(st.sampled_from(["sha256", "sha256", "sha3_256"]))
    return File(filename, url, algorithm, digest, 5, draw(st.sampled_from([None, "", *METAS])), {})


pages = st.lists(files(), max_size=4, unique_by=lambda file: file.filename).map(
    lambda listed: Page(NormalizedName("a"), 1, "active", listed, [], {})
)


@st.composite
def stores(draw: st.DrawFn, layout: Layout, listed: list[File]) -> dict[str, StoredFile]:
    """What lies there: of these files or others, in the right place or the long one, with or without metadata."""
    at_rest = {}
    for file in draw(st.lists(st.sampled_from(listed) | files() if listed else files(), max_size=4)):
        path = draw(st.sampled_from(file_paths(layout, file.url, file.filename, file.digest)))
        metadata = draw(st.sampled_from([None, *METAS]))
        at_rest[path] = StoredFile(path, 5, draw(st.sampled_from([file.digest, *SHAS])), 0.0, metadata)
    return at_rest


@st.composite
def situations(draw: st.DrawFn) -> tuple[Page, dict[str, StoredFile], dict[str, Any]]:
    layout, page = draw(layouts), draw(pages)
    at_rest = draw(stores(layout, page.files))
    paths = [path for file in at_rest.values() for path in (file.path, f"{file.path}.metadata")]
    damaged = draw(st.sets(st.sampled_from(paths))) if paths else set()
    options = {"layout": layout, "core_metadata": draw(st.booleans()), "damaged": damaged}
    return page, at_rest, options


def brought(want: Want, taken: Iterable[str] = ()) -> StoredFile:
    """What a fetch that goes well leaves at rest: under the long path if other bytes have the first."""
    metadata = want.metadata or (METAS[0] if want.metadata == "" else None)
    if want.stored is not None:
        return want.stored._replace(metadata=metadata)
    path = want.long_path if want.path in taken and not want.repair else want.path
    sha256 = want.digest if want.algorithm == "sha256" else SHAS[0]
    return StoredFile(path, 5, sha256, want.mtime, metadata if metadata_path(path) else None)


# Which projects


@given(sync_sides, sync_sides)
def test_planning_leads_to_what_upstream_lists(upstream, published):
    plan = plan_sync(upstream, published.items())
    after = {name: serial for name, serial in (published | plan.update).items() if name not in plan.remove}
    assert after == upstream


@given(sync_sides, sync_sides)
def test_nothing_is_both_updated_and_removed_or_named_in_vain(upstream, published):
    plan = plan_sync(upstream, published.items())
    assert plan.update.keys() <= upstream.keys()
    assert set(plan.remove) == published.keys() - upstream.keys()
    assert all(serial is None or published.get(name, -1) != serial for name, serial in plan.update.items())


@given(st.dictionaries(st.sampled_from(NAMES), st.integers(0, 3)), sync_sides)
def test_planning_a_sync_after_success_is_empty(upstream, published):
    plan = plan_sync(upstream, published.items())
    after = {name: serial for name, serial in (published | plan.update).items() if name not in plan.remove}
    assert plan_sync(upstream, after.items()) == ({}, [])


@given(st.integers(0, 10**6), st.integers(0, 10**4), st.none() | st.integers(0, 10**6), st.integers(0, 10**8))
def test_the_guard_holds_more_back_where_it_holds_back_fewer_and_less_on_a_larger_mirror(count, least, chosen, total):
    def is_over(count: int, total: int = total) -> bool:
        return is_over_limit(count, least=least, chosen=chosen, total=lambda: total)

    assert is_over(count) <= is_over(count + 1)
    assert is_over(count, total + 100) <= is_over(count)
    if chosen is None:
        assert not is_over(least)
        assert is_over(max(least, total // 100) + 1)
        assert not is_over(max(least, total // 100))
    else:
        assert is_over(count) == (count > chosen)


# As the configuration takes them: six decimals of a per cent.
millionths = st.integers(0, 100 * 10**6)
portions = st.builds(Portion, st.integers(0, 10**9), millionths.map(lambda parts: parts / 10**6))


@given(st.integers(0, 10**7), st.none() | portions)
def test_a_sweep_takes_in_no_more_than_is_held(held, chosen):
    assert 0 <= sweep_size(held, chosen) <= held


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_sweep_of_a_number_of_projects_takes_in_as_many(held, count):
    assert sweep_size(held, Portion(count, 0.0)) == min(held, count)


@given(st.integers(0, 10**7), millionths)
def test_a_sweep_of_a_share_is_rounded_up_so_that_its_rounds_leave_nobody_out(held, parts):
    size = sweep_size(held, Portion(0, parts / 10**6))
    assert size * 10**8 >= held * parts - 100  # a millionth of a project is nothing
    assert (size - 1) * 10**8 < held * parts


@given(st.integers(0, 10**7))
def test_by_default_a_thousandth_is_swept_of_mirrors_of_more_than_10_000_projects(held):
    assert sweep_size(held, None) == (0 if held <= 10_000 else -(-held // 1000))


@given(st.integers(0, 10**12))
def test_a_retry_waits_no_less_than_the_one_before_and_a_day_at_most(failures):
    assert 0 <= retry_delay_s(failures) <= retry_delay_s(failures + 1) <= 24 * 3600


@pytest.mark.case(28)
@given(json_values | st.datetimes().map(str) | st.text("0123456789T:+-. Z", max_size=30))
def test_any_upload_time_is_a_number(value):
    assert isinstance(upload_timestamp(File("", "", "sha256", "", None, None, {"upload-time": value})), float)


# Which files


@given(situations())
def test_published_and_fetched_without_dropped_is_wanted(situation):
    page, at_rest, options = situation
    plan = plan_project(page, at_rest, **options)
    names = [want.filename for want in plan.fetch] + [file.path.rpartition("/")[2] for file in plan.keep]
    assert sorted(names) == sorted(file.filename for file in page.files)
    for file in page.files:
        paths = file_paths(options["layout"], file.url, file.filename, file.digest)
        for kept in plan.keep:
            if kept.path in paths:
                assert kept.path not in options["damaged"]
                assert file.algorithm != "sha256" or kept.sha256 == file.digest


@given(situations())
def test_what_is_dropped_was_at_rest_and_is_neither_kept_nor_aimed_at(situation):
    page, at_rest, options = situation
    plan = plan_project(page, at_rest, **options)
    aims = {path for want in plan.fetch for path in (want.path, want.long_path)}
    kept = {file.path for file in plan.keep}
    assert all(at_rest[file.path] == file for file in plan.drop)
    assert not {file.path for file in plan.drop} & (aims | kept)
    assert at_rest.keys() <= {file.path for file in plan.drop} | aims | kept


@given(situations())
def test_only_damage_may_be_replaced(situation):
    page, at_rest, options = situation
    for want in plan_project(page, at_rest, **options).fetch:
        if want.repair:
            assert {want.path, want.long_path, f"{want.path}.metadata", f"{want.long_path}.metadata"} & (
                options["damaged"]
            )


@given(situations())
def test_a_repair_replaces_the_damaged_path_and_no_other(situation):
    """The path that a repair is given is the one whose bytes are known to be damaged, not its sibling."""
    page, at_rest, options = situation
    for want in plan_project(page, at_rest, **options).fetch:
        if want.repair:
            target = want.path if want.stored is None else f"{want.stored.path}.metadata"
            assert target in options["damaged"]


@given(situations())
def test_planning_a_project_after_success_is_empty(situation):
    page, at_rest, options = situation
    plan = plan_project(page, at_rest, **options)
    after = {file.path: file for file in [*plan.keep, *(brought(want, at_rest) for want in plan.fetch)]}
    again = plan_project(page, after, layout=options["layout"], core_metadata=options["core_metadata"])
    assert again.fetch == []
    assert again.drop == []
    assert sorted(again.keep) == sorted(after.values(), key=lambda file: file.path)


@given(situations())
def test_without_core_metadata_nothing_of_it_is_kept_or_fetched(situation):
    page, at_rest, options = situation
    plan = plan_project(page, at_rest, **(options | {"core_metadata": False}))
    assert all(file.metadata is None for file in plan.keep)
    assert all(want.metadata is None and want.stored is None for want in plan.fetch)


# In pieces

_sizes = st.none() | st.integers(0, 4096) | st.integers(PIECE_BYTES // 4, 2 * PIECE_BYTES)


@given(st.lists(_sizes, max_size=300))
def test_pieces_hold_every_file_once_and_keep_to_the_limits(sizes):
    wants = [
        Want(str(i), "", str(i), str(i), "sha256", "", size, 0.0, None, None, repair=False)
        for i, size in enumerate(sizes)
    ]
    pieces = list(in_pieces(wants))
    assert sorted(want.filename for piece in pieces for want in piece) == sorted(want.filename for want in wants)
    assert all(pieces)
    for piece in pieces:
        assert len(piece) <= PIECE_FILES
        assert len(piece) == 1 or sum(want.size or 0 for want in piece) <= PIECE_BYTES
        assert len(piece) == 1 or not needs_pieces(piece)
    flat = [want.size or 0 for piece in pieces for want in piece]
    assert flat == sorted(flat, reverse=True)
