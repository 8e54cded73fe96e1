from __future__ import annotations

import pytest

from fastmirror.errors import SettingsError
from fastmirror.layout import BUCKET_NAMES, Layout, PageFormat, Tree, bucket, page_path
from fastmirror.names import normalize
from fastmirror.serving import Found, Moved, negotiate, nginx_configuration, resolve

HASHED = Tree(Layout.HASHED, hash_index=False)
FLAT = Tree(Layout.FLAT, hash_index=False)
HASH_INDEX = Tree(Layout.FLAT, hash_index=True)
EVERY_TREE = pytest.mark.parametrize("tree", [HASHED, FLAT, HASH_INDEX], ids=["hashed", "flat", "hash-index"])
SIX = normalize("six")
JSON = "application/vnd.pypi.simple.v1+json"
V1_HTML = "application/vnd.pypi.simple.v1+html"


def paths(tree: Tree, url_path: str, accept: str = "") -> list[str]:
    found = resolve(tree, url_path, accept)
    assert isinstance(found, Found)
    return [path for path, _ in found.candidates]


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", PageFormat.HTML),
        ("*/*", PageFormat.HTML),
        ("text/html", PageFormat.HTML),
        ("application/json", PageFormat.HTML),
        (JSON, PageFormat.JSON),
        ("application/vnd.pypi.simple.latest+json", PageFormat.JSON),
        (V1_HTML, PageFormat.V1_HTML),
        (JSON.upper(), PageFormat.JSON),
        (f"{JSON};q=0", PageFormat.HTML),
        (f"{JSON};q=0.000, {V1_HTML};q=0.001", PageFormat.V1_HTML),
        (f"text/html;q=0.9, {JSON};q=0.5", PageFormat.HTML),
        (f"text/html;q=0.5, {JSON};q=0.5", PageFormat.JSON),
        (f"{JSON};q=0.1, {V1_HTML};q=0.2, text/html;q=0.15", PageFormat.V1_HTML),
        (f"{JSON};q=nonsense, {V1_HTML};q=0.2", PageFormat.V1_HTML),
        (f"{JSON};q=nan", PageFormat.HTML),
        (f"{JSON} ; q = 1.0 , text/html", PageFormat.JSON),
        (f"{JSON};q=0, {JSON}", PageFormat.JSON),
        (",;,;;q=,", PageFormat.HTML),
    ],
)
def test_the_highest_weight_chooses_the_form_and_json_wins_ties(accept: str, chosen: PageFormat):
    assert negotiate(accept) is chosen


@EVERY_TREE
@pytest.mark.parametrize("page_format", [PageFormat.HTML, PageFormat.JSON])
def test_a_pages_first_candidate_is_where_the_layout_puts_it(tree: Tree, page_format: PageFormat):
    accept = JSON if page_format is PageFormat.JSON else "text/html"
    assert paths(tree, "/simple/six/", accept)[0] == page_path(tree, SIX, page_format)
    assert paths(tree, "/simple/", accept)[0] == f"simple/index.{page_format}"


@EVERY_TREE
def test_a_form_that_is_not_kept_gives_way_to_every_other(tree: Tree):
    found = resolve(tree, "/simple/six/", JSON)
    assert isinstance(found, Found)
    types = [content_type.partition(";")[0] for _, content_type in found.candidates]
    assert types == [JSON, V1_HTML, "text/html"]


def test_the_hashed_layout_sends_one_file_as_either_html():
    assert paths(HASHED, "/simple/six/", V1_HTML)[0] == page_path(HASHED, SIX, PageFormat.HTML)


@EVERY_TREE
@pytest.mark.parametrize("url_path", ["/simple", "/simple/six"])
def test_a_page_without_its_slash_is_moved(tree: Tree, url_path: str):
    assert resolve(tree, url_path, JSON) == Moved(url_path + "/")


@EVERY_TREE
@pytest.mark.parametrize(
    "url_path",
    [
        "",
        "/",
        "simple/six/",
        "/simple/Six/",
        "/simple/zope.interface/",
        "/simple/a--b/",
        "/simple/six/\n",
        "/simple/six/index.html",
        "/simple/index.html",
        f"/simple/{bucket('six')}/six.html",
        "/simple/../simple/",
        "/packages",
        "/packages/",
        "/packages/..",
        "/packages/../secret",
        "/packages/a/../../../secret",
        "/packages/./x",
        "/packages//x",
        "/packages/.hidden/x",
        "/packages/x/.hidden",
        "/packages/..\\..\\secret",
        "/packages/x\0",
        "/packages/x\n",
        "/status/.x",
        "/status//",
        "/json/",
        "/json/Six",
        "/json/six/",
        "/pypi/six",
        "/pypi/../json",
        "/last-modified/",
        "/secret",
    ],
)
def test_nothing_else_is_a_url_of_the_mirror(tree: Tree, url_path: str):
    assert resolve(tree, url_path, "") is None


def test_a_pypi_shaped_url_falls_back_to_the_short_path_in_the_hashed_layout():
    url_path = f"/packages/0e/f1/{'2' * 60}/six-1.0.tar.gz"
    assert paths(HASHED, url_path) == [url_path[1:], "packages/0ef/six-1.0.tar.gz"]
    assert paths(FLAT, url_path) == [url_path[1:]]


@pytest.mark.parametrize("url_path", ["/json/six", "/pypi/six/json"])
def test_both_urls_of_the_json_api_are_one_file(url_path: str):
    assert paths(HASHED, url_path) == [f"json/{bucket('six')}/six"]
    assert paths(FLAT, url_path) == paths(HASH_INDEX, url_path) == ["json/six"]


@pytest.mark.parametrize(
    "listen", ["8080", "127.0.0.1:8080", "localhost:80", "*:1", "[::1]:8080", "[::]:65535", "mirror.example:8"]
)
def test_a_good_address_is_listened_on(listen: str):
    assert f"\n        listen {listen};\n" in nginx_configuration("/srv/pypi", FLAT, listen=listen)


@pytest.mark.parametrize(
    "listen",
    ["", ":", "0", "65536", "host", ":80", "::1:80", "[::1]", "[::1:80", "[]:80", "[::z]:80", "a b:80", "a;:80",
     "a{}:80", "8080;", "8080\n", "-x:80", "٣٣", "unix:/tmp/s", "1:2:3"],
)  # fmt: skip
def test_any_other_address_is_refused(listen: str):
    with pytest.raises(SettingsError, match="invalid listen address"):
        nginx_configuration("/srv/pypi", FLAT, listen=listen)


@pytest.mark.parametrize("directory", ["relative", "", "/srv/$HOME", "/srv/a\nb", "/srv/\x7f", "/srv/\udcff"])
def test_a_directory_that_nginx_cannot_be_told_is_refused(directory: str):
    with pytest.raises(SettingsError, match="invalid directory"):
        nginx_configuration(directory, FLAT)


def test_every_bucket_has_its_share_in_the_hashed_layout_only():
    text = nginx_configuration("/srv/pypi", HASHED)
    assert all(f" {name};" in text for name in BUCKET_NAMES)
    assert "bucket" not in nginx_configuration("/srv/pypi", FLAT)


def test_no_hole_of_the_text_is_left_open():
    for tree in (HASHED, FLAT, HASH_INDEX):
        text = nginx_configuration("/srv/pypi", tree, root_uri="https://files.example")
        assert "@{" not in text
        assert "https://files.example" in text


def test_a_root_uri_never_leaves_its_comment():
    text = nginx_configuration("/srv/pypi", FLAT, root_uri="https://x.example/\nuser root;")
    assert "\nuser root;" not in text
