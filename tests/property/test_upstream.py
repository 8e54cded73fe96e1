from __future__ import annotations

import contextlib
import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmirror.errors import PageError
from fastmirror.upstream import RootIndex, parse_json_root, root_change
from tests.property.strategies import json_values, texts

# What the seams between entries look like, where they are none.
SEAMS = ["},{", "]}", '"projects":[', '},{"name":"b","_last-serial":9},{', '"}]}', "}"]
NAMES = ["a", "b", "c-d", "e", "f"]
SPELLINGS = {"a": ["a", "A"], "b": ["b", "B"], "c-d": ["c-d", "C_d", "c.D"], "e": ["e"], "f": ["f"]}

hostile_texts = st.lists(st.sampled_from(SEAMS) | texts, max_size=3).map("".join)
hostile_values = st.recursive(
    hostile_texts | st.none() | st.integers(0, 9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "x"]) | hostile_texts, inner, max_size=3)
    ),
    max_leaves=6,
)
hostile_entries = st.fixed_dictionaries(
    {},
    optional={
        "_last-serial": st.integers(-1, 5) | st.sampled_from(["7", 2**64 - 1, "x", None]),
        "name": st.sampled_from([*NAMES, "C.D", "../a"]) | hostile_values,
        "x": hostile_values,
    },
)
metas = st.fixed_dictionaries(
    {}, optional={"api-version": st.just("1.4"), "_last-serial": st.integers(1, 99), "x": hostile_values}
)


def compact(document: Any) -> bytes:
    """PyPI's form."""
    return orjson.dumps(document)


@pytest.fixture(autouse=True, scope="module")
def small_pieces():
    """Cut after every entry, so that small indexes have seams."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fastmirror.upstream._CHUNK_BYTES", 1)
        yield


@given(metas, st.lists(hostile_entries | hostile_values, max_size=6), st.randoms())
def test_every_form_of_an_index_says_the_same(meta, entries, chance):
    document = {"meta": meta, "projects": entries}
    others = list({"meta": meta, "x": "},{", "projects": entries, "y": [{}]}.items())
    chance.shuffle(others)
    index = parse_json_root(compact(document))
    forms = [
        json.dumps(document, indent=1).encode(),
        json.dumps(document).encode("utf-8"),
        json.dumps(document, separators=(",", ":")).encode(),
        compact(document) + b"\n",
        compact(dict(others)),
        compact(dict(reversed(document.items()))),
    ]
    for form in forms:
        assert parse_json_root(form) == index


@given(st.binary(max_size=60) | json_values.map(lambda value: json.dumps(value).encode()))
def test_whatever_comes_is_an_index_or_a_page_error(body):
    with contextlib.suppress(PageError):
        assert isinstance(parse_json_root(body), RootIndex)


@given(st.lists(st.sampled_from([*SEAMS, '{"projects":[', '{"name":"a"}', ",", '{"name":"', " "]), max_size=12))
def test_seams_where_none_belong_never_invent_a_project(parts):
    body = "".join(parts).encode()
    try:
        found = parse_json_root(body).projects
    except PageError:
        return
    listed = orjson.loads(body)["projects"]
    assert found.keys() <= {str(entry["name"]) for entry in listed if isinstance(entry, dict) and "name" in entry}


@st.composite
def indexes(draw: st.DrawFn, extras: st.SearchStrategy[Any] | None = None) -> bytes:
    """An index in PyPI's form, each project listed once, in any order and spelling."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    entries = []
    for name in names:
        entry: dict[str, Any] = {
            "_last-serial": draw(st.integers(1, 3)),
            "name": draw(st.sampled_from(SPELLINGS[name])),
        }
        if extras is not None and draw(st.booleans()):
            entry["x"] = draw(extras)
        entries.append(entry)
    return compact({"meta": {"_last-serial": draw(st.integers(3, 5)), "api-version": "1.4"}, "projects": entries})


def check_change(old: bytes, new: bytes) -> None:
    change = root_change(old, new)
    assert change is not None
    before, after = parse_json_root(old).projects, parse_json_root(new).projects
    assert change.changed.items() <= after.items()
    assert {name for name, serial in after.items() if before.get(name) != serial} <= change.changed.keys()
    assert sorted(change.removed) == sorted(before.keys() - after.keys())
    assert change.serial == parse_json_root(new).serial
    assert change.skipped == []


@given(indexes(), indexes())
def test_a_change_is_the_difference_of_the_whole_indexes(old, new):
    check_change(old, new)


@given(indexes(), indexes())
def test_an_unchanged_entry_is_no_change(old, new):
    change = root_change(old, new)
    assert change is not None
    entries = [{entry["name"]: entry for entry in orjson.loads(body)["projects"]} for body in (old, new)]
    same = {
        name.lower().replace("_", "-").replace(".", "-")
        for name, entry in entries[0].items()
        if entries[1].get(name) == entry
    }
    assert not same & change.changed.keys()


@given(indexes(hostile_values), indexes(hostile_values))
def test_hostile_entries_take_the_whole_of_both_or_change_nothing_else(old, new):
    if root_change(old, new) is not None:
        check_change(old, new)


@given(indexes(hostile_texts), indexes())
def test_a_text_that_looks_like_a_seam_is_never_split(old, new):
    for one, other in ((old, new), (new, old), (old, old)):
        if root_change(one, other) is not None:
            check_change(one, other)
