from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from packaging.utils import canonicalize_name

from fastmirror.errors import InvalidName
from fastmirror.names import normalize
from tests.property.strategies import json_values

# The name format specification, to the letter.
SPECIFIED = re.compile(r"([A-Z0-9]|[A-Z0-9][A-Z0-9._-]*[A-Z0-9])", re.IGNORECASE | re.ASCII)
NORMAL = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*", re.ASCII)

valid_names = st.from_regex(SPECIFIED, fullmatch=True).filter(lambda name: len(name) <= 240)
near_names = st.text(st.sampled_from("aZ09._-/% \n\x00\\ſé"), max_size=8)


@given(valid_names)
def test_every_valid_name_has_the_form_that_packaging_gives_it(raw):
    assert str(normalize(raw)) == str(canonicalize_name(raw))


@given(valid_names)
def test_normalising_twice_changes_nothing(raw):
    assert normalize(normalize(raw)) == normalize(raw)


@given(valid_names)
def test_a_normal_name_is_one_plain_part_of_a_path(raw):
    assert NORMAL.fullmatch(normalize(raw))


@pytest.mark.case(6)
@given(near_names | st.text(max_size=300) | json_values)
@example("six\n")
@example("a" * 241)
def test_what_the_specification_does_not_allow_is_refused(raw):
    if isinstance(raw, str) and SPECIFIED.fullmatch(raw) and len(raw) <= 240:
        assert NORMAL.fullmatch(normalize(raw))
    else:
        with pytest.raises(InvalidName):
            normalize(raw)
