"""Each reader of what others wrote, on samples with pieces taken out and put in: it refuses, or what it takes is sound.

The same targets that `python -m tests.fuzz` hunts for minutes.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS, splice
from tests.property.strategies import edits


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_takes_its_samples(name: str):
    for sample in TARGETS[name].samples:
        TARGETS[name].check(sample)


@pytest.mark.parametrize("name", TARGETS)
@given(edits=edits, raw=st.binary(max_size=8), which=st.integers(0, 9))
def test_a_spoilt_sample_is_refused_or_sound(name: str, edits: list[tuple[int, int, int]], raw: bytes, which: int):
    target = TARGETS[name]
    words = [raw, *(word.encode() for word in target.words)]
    sample = target.samples[which % len(target.samples)]
    target.check(splice(sample, [(where, gone, words[word % len(words)]) for where, gone, word in edits]))
