from __future__ import annotations

import pytest

from fastmirror.errors import InvalidName
from fastmirror.names import normalize


@pytest.mark.parametrize(
    ("raw", "normal"),
    [
        ("six", "six"),
        ("Six", "six"),
        ("Flask.Admin", "flask-admin"),
        ("zope.interface", "zope-interface"),
        ("a_b", "a-b"),
        ("A-._b", "a-b"),
        ("a--b", "a-b"),
        ("friendly-._.-bard", "friendly-bard"),
        ("0", "0"),
        ("2to3", "2to3"),
        ("x" * 240, "x" * 240),
    ],
)
def test_a_valid_name_gets_the_form_of_the_name_normalisation_specification(raw, normal):
    assert normalize(raw) == normal


@pytest.mark.parametrize(
    "raw",
    [
        *("", " ", "six ", " six", "six\n", "\nsix", "six\x00", "a b", "a\tb"),
        *("-six", "six-", ".six", "six.", "_six", "six_", "-", ".", "..", "_", "...", "-._"),
        *("../six", "a/b", "a/../b", "/six", "a\\b", "a%2fb", "a?b", "a#b", "a:b", "~a", "a@b", "a+b", "a,b", "<a>"),
        *(
            "s\u0131x",
            "\u017fix",
            "\u212aelvin",
            "six\u0301",
            "na\u00efve",
            "\uff53\uff49\uff58",
            "\u0663",
            "six\u200b",
            "\ud800",
        ),
        "x" * 241,
        "x" * 1_000_000,
        "." * 1_000_000,
        *(None, 6, 6.0, True, b"six", ["six"], {"name": "six"}, ("six",)),
    ],
    ids=lambda raw: ascii(raw)[:30],
)
def test_anything_else_is_refused_and_quoted(raw):
    with pytest.raises(InvalidName) as caught:
        normalize(raw)
    assert caught.value.args == (raw,)
    assert repr(raw)[:20] in str(caught.value)
