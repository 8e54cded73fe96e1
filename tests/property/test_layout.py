from __future__ import annotations

import posixpath
import re
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmirror.layout import (
    BUCKET_NAMES,
    Layout,
    PageFormat,
    Tree,
    bucket,
    file_paths,
    index_path,
    metadata_path,
    murmurhash2,
    page_path,
    page_paths,
    unsafe_filename,
    url_path,
)
from fastmirror.names import NormalizedName
from tests.property.strategies import sha256s, texts

names = st.from_regex(r"[a-z0-9]{1,9}(-[a-z0-9]{1,5}){0,3}", fullmatch=True).map(NormalizedName)
trees = st.sampled_from([Tree(Layout.FLAT, False), Tree(Layout.FLAT, True), Tree(Layout.HASHED, False)])
layouts = st.sampled_from(Layout)
_parts = st.sampled_from(["..", ".", "packages", "%2e%2e", "%2f", "0e", "f1", "e" * 60, "", "\\", "a.whl", "\x00"])
hostile_filenames = st.lists(_parts | texts, max_size=3).map("".join)
filenames = (hostile_filenames | st.sampled_from(["a.whl", "a b.whl"])).filter(lambda name: not unsafe_filename(name))
hostile_urls = st.builds(
    "{}{}".format,
    st.sampled_from(["https://files.example/", "http://a/b/", "file:///", "/", "", "https://[", "https://h/packages/"]),
    st.lists(_parts | texts, max_size=6).map("/".join),
)

FLAT_FILE = re.compile(r"packages/[0-9a-f]{2}/[0-9a-f]{2}/[0-9a-f]{60}/[^/]+", re.DOTALL)
HASHED_FILE = re.compile(r"packages/[0-9a-f]{3}/[^/]+", re.DOTALL)


@pytest.mark.case(40)
@given(layouts, hostile_urls, filenames, sha256s | st.text("0123456789abcdef", min_size=96, max_size=128))
def test_no_url_and_no_file_name_lead_out_of_packages(layout, url, filename, digest):
    path, long_path = file_paths(layout, url, filename, digest)
    assert (FLAT_FILE if layout is Layout.FLAT else HASHED_FILE).fullmatch(path)
    assert FLAT_FILE.fullmatch(long_path)
    for one in (path, long_path):
        assert posixpath.normpath(one) == one
        assert posixpath.basename(one) == filename
        assert len(filename.encode()) <= 255
    if layout is Layout.FLAT:
        assert path == long_path


@pytest.mark.case(39)
@given(hostile_filenames | texts)
def test_a_file_name_that_is_taken_is_one_part_of_a_path_and_can_be_stored(filename):
    if unsafe_filename(filename) is None:
        assert posixpath.normpath(f"packages/0ef/{filename}") == f"packages/0ef/{filename}"
        assert filename not in {"", ".", ".."}
        assert "\0" not in filename
        assert len(filename.encode()) <= 255
        assert metadata_path(f"packages/0ef/{filename}") in {None, f"packages/0ef/{filename}.metadata"}


@given(filenames, filenames)
def test_core_metadata_never_takes_the_place_of_a_file(one, other):
    assert metadata_path(f"packages/0ef/{one}") != f"packages/0ef/{other}"


@given(sha256s, filenames)
def test_the_two_layouts_agree_on_the_long_path(digest, filename):
    flat, hashed = (file_paths(layout, "https://files.example/x", filename, digest) for layout in Layout)
    assert flat.long_path == hashed.long_path
    assert hashed.path.split("/")[1] == digest[:3]


@given(trees, names, names, st.sampled_from(PageFormat), st.sampled_from(PageFormat))
def test_two_pages_never_share_a_path(tree, one, other, one_format, other_format):
    paths = page_path(tree, one, one_format), page_path(tree, other, other_format)
    assert (paths[0] == paths[1]) == ((one, one_format) == (other, other_format))
    assert index_path(one_format) not in paths


@given(trees, names, st.sampled_from(PageFormat))
def test_a_page_stays_below_simple(tree, name, page_format):
    for path in page_paths(tree, name, page_format):
        assert posixpath.normpath(path) == path
        assert path.startswith("simple/")
        assert len(posixpath.basename(path)) <= 255


@given(st.binary(max_size=40))
def test_a_hash_has_32_bits(data):
    assert 0 <= murmurhash2(data) < 1 << 32


@given(names)
def test_a_bucket_is_the_part_of_split_clients_that_the_hash_falls_into(name):
    """As nginx's documentation has it: hashes up to the sum of the shares so far, the rest in the last part."""
    share = murmurhash2(name.encode()) / 0xFFFFFFFF
    number = BUCKET_NAMES.index(bucket(name))
    assert number * 0.0039 - 1e-8 <= share <= ((number + 1) * 0.0039 + 1e-8 if number < 255 else 1)


@given(texts)
def test_a_quoted_path_reads_back_and_has_nothing_that_html_or_a_url_would_read(text):
    quoted = url_path(f"packages/{text}")
    assert unquote(quoted) == f"packages/{text}"
    assert urlsplit(f"http://h/{quoted}").path == f"/{quoted}"
    assert not set(quoted) & set("<>&\"'# ?\n")
