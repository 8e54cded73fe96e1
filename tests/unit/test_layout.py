from __future__ import annotations

from collections import Counter

import pytest

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

SIX = NormalizedName("six")
FLAT = Tree(Layout.FLAT, hash_index=False)
FLAT_BY_LETTER = Tree(Layout.FLAT, hash_index=True)
HASHED = Tree(Layout.HASHED, hash_index=False)
DIGEST = "0123456789abcdef" * 4
WHEEL = "six-1.0-py3-none-any.whl"
TAIL = "e" * 60


# Values of Austin Appleby's MurmurHash2 with seed 0, from its C source.
@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"", 0x00000000),
        (b"a", 0x92685F5E),
        (b"ab", 0x1AA14063),
        (b"abc", 0x13577C9B),
        (b"six", 0xCF0F2327),
        (b"pip1", 0x9FE6FD61),
        (b"requests", 0xB1A4F627),
        (b"charset-normalizer", 0x52F5A2FB),
        (b"\xff\xfe\xfd\xfc\xfb\xfa\xf9", 0xF56E298F),
    ],
)
def test_murmurhash2_gives_the_reference_values(data, value):
    assert murmurhash2(data) == value


@pytest.mark.parametrize(("name", "part"), [("six", "cf"), ("pip", "e4"), ("requests", "b1"), ("0", "42")])
def test_a_bucket_never_changes(name, part):
    """A mirror's pages would be lost if it did."""
    assert bucket(name) == part


def test_names_spread_over_all_buckets_evenly():
    sizes = Counter(bucket(f"package-{number}") for number in range(25_600))
    assert set(sizes) == set(BUCKET_NAMES)
    assert min(sizes.values()) > 50
    assert max(sizes.values()) < 200


# Pages


@pytest.mark.parametrize(
    ("tree", "page_format", "path"),
    [
        (FLAT, PageFormat.HTML, "simple/six/index.html"),
        (FLAT, PageFormat.V1_HTML, "simple/six/index.v1_html"),
        (FLAT, PageFormat.JSON, "simple/six/index.v1_json"),
        (FLAT_BY_LETTER, PageFormat.HTML, "simple/s/six/index.html"),
        (FLAT_BY_LETTER, PageFormat.JSON, "simple/s/six/index.v1_json"),
        (HASHED, PageFormat.HTML, "simple/cf/six.html"),
        (HASHED, PageFormat.JSON, "simple/cf/six.v1_json"),
    ],
)
def test_a_page_lies_where_its_layout_says(tree, page_format, path):
    assert page_path(tree, SIX, page_format) == path


@pytest.mark.parametrize("tree", [FLAT, FLAT_BY_LETTER])
def test_the_flat_html_page_has_two_names(tree):
    assert page_paths(tree, SIX, PageFormat.HTML) == (
        page_path(tree, SIX, PageFormat.HTML),
        page_path(tree, SIX, PageFormat.V1_HTML),
    )


@pytest.mark.parametrize(
    ("tree", "page_format"), [(FLAT, PageFormat.JSON), (HASHED, PageFormat.JSON), (HASHED, PageFormat.HTML)]
)
def test_every_other_page_has_one_name(tree, page_format):
    assert page_paths(tree, SIX, page_format) == (page_path(tree, SIX, page_format),)


def test_the_page_of_a_project_that_is_called_index_is_like_any_other():
    name = NormalizedName("index")
    assert page_paths(HASHED, name, PageFormat.HTML) == (page_path(HASHED, name, PageFormat.HTML),)


@pytest.mark.parametrize("name", ["index", "index-html", "00", "ff"])
def test_a_project_named_like_a_part_of_the_tree_takes_no_place_but_its_own(name):
    taken = {index_path(page_format) for page_format in PageFormat}
    for tree in (FLAT, FLAT_BY_LETTER, HASHED):
        paths = {page_path(tree, NormalizedName(name), page_format) for page_format in PageFormat}
        assert len(paths) == len(PageFormat)
        assert not paths & taken


@pytest.mark.parametrize(("page_format", "ending"), [("HTML", "html"), ("V1_HTML", "v1_html"), ("JSON", "v1_json")])
def test_the_root_index_lies_at_the_top(page_format, ending):
    assert index_path(PageFormat[page_format]) == f"simple/index.{ending}"


# Files


@pytest.mark.parametrize(
    "url",
    [
        f"https://files.example/packages/0e/f1/{TAIL}/{WHEEL}",
        f"http://127.0.0.1:8000/packages/0e/f1/{TAIL}/{WHEEL}",
        f"https://mirror.example/pypi/web/packages/0e/f1/{TAIL}/{WHEEL}",
        f"https://files.example/packages/0e/f1/{TAIL}/six%2D1.0-py3-none-any.whl",
        f"https://files.example/packages/0e/f1/{TAIL}/{WHEEL}?token=1",
        f"https://files.example/packages/0e/f1/{TAIL}/{WHEEL}#sha256={DIGEST}",
    ],
)
def test_a_path_of_pypis_shape_is_kept(url):
    long_path = f"packages/0e/f1/{TAIL}/{WHEEL}"
    assert file_paths(Layout.FLAT, url, WHEEL, DIGEST) == (long_path, long_path)
    assert file_paths(Layout.HASHED, url, WHEEL, DIGEST) == (f"packages/0ef/{WHEEL}", long_path)


@pytest.mark.case(40)
@pytest.mark.parametrize(
    "url",
    [
        f"https://files.example/{WHEEL}",
        f"https://files.example/packages/{WHEEL}",
        f"https://files.example/packages/0e/f1/{TAIL}/other-1.0.whl",
        f"https://files.example/packages/0E/F1/{TAIL.upper()}/{WHEEL}",
        f"https://files.example/packages/0e/f1/{TAIL[:-1]}/{WHEEL}",
        f"https://files.example/packages/0e/f1/{TAIL}e/{WHEEL}",
        f"https://files.example/packages/../f1/{TAIL}/{WHEEL}",
        f"https://files.example/packages/0e/f1/{TAIL}/{WHEEL}/more",
        f"https://files.example/packages/0e/f1/{TAIL}/..%2F{WHEEL}",
        f"https://files.example/x?/packages/0e/f1/{TAIL}/{WHEEL}",
        f"https://files.example/x#/packages/0e/f1/{TAIL}/{WHEEL}",
        f"file:///packages/0e/f1/{TAIL}/{WHEEL}",
        "",
    ],
)
def test_any_other_url_has_no_part_in_the_path(url):
    long_path = f"packages/01/23/{DIGEST[4:64]}/{WHEEL}"
    assert file_paths(Layout.FLAT, url, WHEEL, DIGEST) == (long_path, long_path)
    assert file_paths(Layout.HASHED, url, WHEEL, DIGEST) == (f"packages/012/{WHEEL}", long_path)


def test_the_digits_of_a_mirror_in_the_hashed_layout_are_kept():
    paths = file_paths(Layout.HASHED, f"https://mirror.example/pypi/packages/0ef/{WHEEL}", WHEEL, DIGEST)
    assert paths == (f"packages/0ef/{WHEEL}", f"packages/01/23/{DIGEST[4:64]}/{WHEEL}")


def test_a_longer_digest_gives_a_path_of_the_same_shape():
    paths = file_paths(Layout.HASHED, "", WHEEL, "ab" * 64)
    assert paths == (f"packages/aba/{WHEEL}", f"packages/ab/ab/{'ab' * 30}/{WHEEL}")


@pytest.mark.case(39)
@pytest.mark.parametrize(
    "filename",
    [
        WHEEL,
        "six-1.0.tar.gz",
        "a",
        "-",
        "~",
        "a..b",
        "a b.zip",
        "naïve-1.0.zip",
        "x" * 255,
        "é" * 127,
        "six-1.0.metadata.zip",
        "metadata",
        "%2e%2e",
    ],
)
def test_a_file_name_that_a_tree_can_hold_is_taken(filename):
    assert unsafe_filename(filename) is None


@pytest.mark.parametrize(
    ("filename", "reason"),
    [
        ("", "not a file name"),
        (None, "not a file name"),
        (6, "not a file name"),
        (b"six.whl", "not a file name"),
        ("a/b", "separator"),
        ("/a", "separator"),
        ("a/", "separator"),
        ("../a", "separator"),
        ("a\\b", "separator"),
        ("a\x00b", "control character"),
        ("a\nb", "control character"),
        ("a\x1b[0m", "control character"),
        ("a\x7f", "control character"),
        (".", "dot"),
        ("..", "dot"),
        (".htaccess", "dot"),
        ("six-1.0.whl.metadata", "core metadata"),
        (".metadata", "dot"),
        ("x" * 256, "255 bytes"),
        ("é" * 128, "255 bytes"),
        ("a\ud800", "no text"),
    ],
)
def test_a_file_name_that_could_do_harm_is_refused_with_its_reason(filename, reason):
    assert reason in (unsafe_filename(filename) or "")


def test_core_metadata_lies_beside_its_file():
    assert metadata_path(f"packages/0ef/{WHEEL}") == f"packages/0ef/{WHEEL}.metadata"


@pytest.mark.parametrize(("letter", "most"), [("x", 246), ("é", 123)])
def test_core_metadata_has_no_path_where_its_name_would_be_too_long(letter, most):
    assert metadata_path(f"packages/0ef/{letter * most}") is not None
    assert metadata_path(f"packages/0ef/{letter * (most + 1)}") is None


@pytest.mark.parametrize(
    ("path", "url"),
    [
        ("packages/0ef/six-1.0_a~b.whl", "packages/0ef/six-1.0_a~b.whl"),
        ("packages/0ef/a b.zip", "packages/0ef/a%20b.zip"),
        ("packages/0ef/a#b?c%d.zip", "packages/0ef/a%23b%3Fc%25d.zip"),
        ("packages/0ef/é.zip", "packages/0ef/%C3%A9.zip"),
        ('packages/0ef/"<&>.zip', "packages/0ef/%22%3C%26%3E.zip"),
    ],
)
def test_a_path_is_quoted_for_its_url(path, url):
    assert url_path(path) == url
