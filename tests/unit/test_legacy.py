"""The legacy JSON API's document: what is saved of it, and the further digest that it states."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmirror.errors import PageError
from fastmirror.legacy import complete, read_document, saved, serial_of
from fastmirror.names import NormalizedName
from fastmirror.simple import parse_json_page

if TYPE_CHECKING:
    from fastmirror.model import Page

SIX = NormalizedName("six")
MOST = 10 << 20
SHA = "ab" * 32
MD5 = "0123456789ABCDEF" * 2


def page(**hashes: str) -> Page:
    entry = {"filename": "six-1.0.tar.gz", "url": "https://files.example/six-1.0.tar.gz", "hashes": hashes, "size": 5}
    body = json.dumps({"name": "six", "files": [entry]}).encode()
    return parse_json_page(body, SIX, "https://index.example/simple/six/", accept_unhashed=False)


def document(**digests: Any) -> dict[str, Any]:
    listed = {"filename": "six-1.0.tar.gz", "digests": {"sha256": SHA, **digests}}
    return read_document(json.dumps({"urls": [listed], "last_serial": 7}).encode(), SIX)


def as_bandersnatch(body: bytes) -> bytes:
    return json.dumps(json.loads(body), indent=4, sort_keys=True).encode()


_TEXTS = st.text(st.characters(codec="utf-8")) | st.sampled_from(
    ["  1.5,", "a\n  b", '1e5"', "\x7f", "\u2028", "é", "\U0001f600", "\\u00e9", "\x1b", '{\n    "x": 1.0', "", " "]
)
_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXTS, inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(_TEXTS, _VALUES, max_size=5), st.booleans())
def test_a_document_is_saved_byte_for_byte_as_bandersnatch_does(values: dict[str, Any], in_ascii: bool) -> None:
    body = json.dumps(values | {"urls": [], "info": {}}, ensure_ascii=in_ascii).encode()
    assert saved(read_document(body, SIX), MOST) == as_bandersnatch(body)


@pytest.mark.parametrize("value", [1e16, 1e-7, 1.0, 0.1, -2.5e300, 123456789012345680.0, 2**64 - 1, 2**63, -(2**63)])
def test_numbers_are_saved_as_python_writes_them(value: float) -> None:
    body = json.dumps({"urls": [], "x": value, "y": [value]}).encode()
    assert saved(read_document(body, SIX), MOST) == as_bandersnatch(body)


def test_a_document_too_deep_to_be_written_is_a_page_error() -> None:
    body = b'{"urls": [], "x": ' + b"[" * 1000 + b"]" * 1000 + b"}"
    with pytest.raises(PageError, match="cannot be written"):
        saved(read_document(body, SIX), MOST)


def test_a_document_that_grows_out_of_bounds_by_its_indentation_is_a_page_error() -> None:
    body = b'{"urls": [], "x": ' + b"[" * 900 + b"1" + b",1" * 100_000 + b"]" * 900 + b"}"
    with pytest.raises(PageError, match="takes more than allowed"):
        saved(read_document(body, SIX), MOST)


def test_a_named_digest_is_added_beside_sha256() -> None:
    completed = complete(page(sha256=SHA), document(md5=MD5), "md5")
    assert completed.files[0].keys["hashes"] == {"sha256": SHA, "md5": MD5.lower()}


def test_a_digest_that_is_none_is_not_added() -> None:
    for wrong in ({}, {"md5": "no hex"}, {"md5": 5}, {"md5": "ab" * 65}):
        assert complete(page(sha256=SHA), document(**wrong), "md5").files[0].keys["hashes"] == {"sha256": SHA}


def test_the_pages_own_digest_is_kept() -> None:
    said = {"sha256": SHA, "md5": "00" * 16}
    assert complete(page(**said), document(md5=MD5), "md5").files[0].keys["hashes"] == said


def test_without_a_name_no_digest_is_added() -> None:
    assert complete(page(sha256=SHA), document(md5=MD5)).files[0].keys["hashes"] == {"sha256": SHA}


def test_the_serial_is_the_documents_last() -> None:
    assert serial_of(document()) == 7
