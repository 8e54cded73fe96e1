from __future__ import annotations

import re
from typing import Any
from urllib.parse import urljoin

import orjson
import pytest
from pypi_simple import IndexPage, ProjectPage

from fastmirror.errors import PageError
from fastmirror.legacy import complete, read_document
from fastmirror.model import File, Page
from fastmirror.names import NormalizedName
from fastmirror.simple import (
    Entry,
    parse_html_page,
    parse_json_page,
    render_html,
    render_index_html,
    render_index_json,
    render_json,
    versions_of,
)
from fastmirror.simple_html import parse_html_index

SIX = NormalizedName("six")
PAGE_URL = "https://index.example/simple/six/"
HOST = "https://files.example"
SHA = "ab" * 32
OTHER = "cd" * 32
DEEP = 400  # levels: orjson reads them and does not write them


def entry(**keys: Any) -> dict[str, Any]:
    """An entry that can be mirrored; a key given as ... is left out, ``_`` in a name stands for ``-``."""
    sound = {"filename": "six-1.0.tar.gz", "url": f"{HOST}/p/six-1.0.tar.gz", "hashes": {"sha256": SHA}, "size": 5}
    given = sound | {key.replace("_", "-"): value for key, value in keys.items()}
    return {key: value for key, value in given.items() if value is not ...}


def json_page(*files: object, accept_unhashed: bool = False, **keys: Any) -> Page:
    document = {"meta": {"api-version": "1.4"}, "name": "six", "files": files} | {
        key.replace("_", "-"): value for key, value in keys.items()
    }
    document = {key: value for key, value in document.items() if value is not ...}
    return parse_json_page(orjson.dumps(document), SIX, PAGE_URL, accept_unhashed=accept_unhashed)


def html_page(markup: str, accept_unhashed: bool = False) -> Page:
    body = f"<!DOCTYPE html><html><body>{markup}</body></html>".encode()
    return parse_html_page(body, SIX, PAGE_URL, accept_unhashed=accept_unhashed)


def file_of(page: Page) -> File:
    assert page.refused == []
    (file,) = page.files
    return file


def refusal(**keys: Any) -> str:
    """Why an entry with these keys is refused."""
    page = json_page(entry(**keys))
    assert page.files == []
    ((_, reason),) = page.refused
    return reason


def listed(file: File, **stored: Any) -> Entry:
    facts: dict[str, Any] = {"url": f"../../packages/0ef/{file.filename}", "sha256": SHA, "size": 5, "metadata": None}
    return Entry(file, **(facts | stored))


def rendered(page: Page, **stored: Any) -> dict[str, Any]:
    """The one file of a page as rendered in JSON."""
    (file,) = orjson.loads(render_json(page, SIX, None, [listed(file_of(page), **stored)]))["files"]
    return dict(file)


def line_of(page: Page, **stored: Any) -> str:
    """The one file of a page as rendered in HTML."""
    (line,) = re.findall("<a .*", render_html(page, SIX, None, [listed(file_of(page), **stored)]).decode())
    return str(line)


# Pages in JSON --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "invalid JSON"),
        (b'{"name": "six", "files": [}', "invalid JSON"),
        (b"<html>", "invalid JSON"),
        (b"\xff\xfe", "invalid JSON"),
        (b"[" * 5000, "invalid JSON"),
        (b"[1]", "not a JSON object: a list"),
        (b"null", "not a JSON object: nothing"),
        (b'{"files": []}', r"page without a proper name \(name\): nothing"),
        (b'{"name": "../six", "files": []}', r"proper name \(name\): '../six'"),
        (b'{"name": ["six"], "files": []}', "proper name"),
        (b'{"name": "seven", "files": []}', r"page of another project \(name\): 'seven'"),
        (b'{"name": "six"}', "page without a list of files"),
        (b'{"name": "six", "files": {}}', "page without a list of files"),
        (b'{"name": "six", "files": [], "meta": []}', "meta that is no object"),
        (b'{"name": "six", "files": [], "meta": {"api-version": "2.0"}}', "unknown major api-version '2.0'"),
        (b'{"name": "six", "files": [], "meta": {"api-version": "10.0"}}', "unknown major api-version '10.0'"),
        (b'{"name": "six", "files": [], "meta": {"api-version": [1]}}', "unknown major api-version a list"),
    ],
)
def test_a_page_that_cannot_be_used_is_a_page_error(body: bytes, reason: str) -> None:
    with pytest.raises(PageError, match=reason):
        parse_json_page(body, SIX, PAGE_URL, accept_unhashed=False)


@pytest.mark.parametrize("meta", [..., None, {}, {"api-version": "1"}, {"api-version": "1.99"}, {"api-version": 1.1}])
def test_a_minor_version_and_none_are_accepted(meta: object) -> None:
    assert json_page(entry(), meta=meta).files


@pytest.mark.parametrize("name", ["six", "Six", "SIX"])
def test_the_name_is_compared_normalised(name: str) -> None:
    assert json_page(name=name).name == "six"


@pytest.mark.parametrize(
    ("raw", "serial"),
    [
        *((5, 5), ("5", 5), (0, 0), (..., None), (None, None), (-1, None), (True, None), (1.5, None), ("", None)),
        *(("x", None), ("\u0665", None), ("9" * 30, None), (2**63, None), ("9223372036854775807", 2**63 - 1)),
    ],
)
def test_the_serial_is_a_number_or_digits(raw: object, serial: int | None) -> None:
    meta = {"api-version": "1.4"} | ({} if raw is ... else {"_last-serial": raw})
    assert json_page(meta=meta).serial == serial


@pytest.mark.parametrize(
    ("keys", "status"),
    [
        ({}, "active"),
        ({"project_status": {"status": "quarantined"}}, "quarantined"),
        ({"project_status": {}}, "active"),
        ({"project_status": "archived"}, "active"),
        ({"meta": {"project-status": {"status": "archived"}}}, "archived"),
    ],
)
def test_the_status_is_active_unless_the_page_says_otherwise(keys: dict[str, Any], status: str) -> None:
    page = json_page(**keys)
    assert page.status == status
    assert page.keys.get("project-status", {}).get("status", "active") == status


def test_unknown_keys_are_passed_on() -> None:
    page = json_page(entry(x_new={"a": [1, None]}), versions=["1.0"], namespaces=None, alternate_locations=[])
    document = orjson.loads(render_json(page, SIX, 7, [listed(file_of(page))]))
    assert document["versions"] == ["1.0"]
    assert document["namespaces"] is None
    assert document["alternate-locations"] == []
    assert document["files"][0]["x-new"] == {"a": [1, None]}
    assert document["meta"] == {"api-version": "1.4", "_last-serial": 7}


def test_versions_that_are_none_are_made_from_file_names() -> None:
    page = json_page(entry(), versions=["1.0", 2])
    assert orjson.loads(render_json(page, SIX, None, [listed(file_of(page))]))["versions"] == ["1.0"]


# Entries --------------------------------------------------------------------------------------------------


def test_a_refused_entry_leaves_the_rest_standing() -> None:
    page = json_page(7, entry(filename="../six"), entry(), entry(url="x" * 9000), entry(filename=None))
    assert [file.filename for file in page.files] == ["six-1.0.tar.gz"]
    assert [name for name, _ in page.refused] == ["?", "../six", "six-1.0.tar.gz", "?"]


@pytest.mark.case(25)
def test_the_first_of_two_entries_with_one_name_stands() -> None:
    page = json_page(entry(), entry(hashes={"sha256": OTHER}))
    assert [file.digest for file in page.files] == [SHA]
    assert page.refused == [("six-1.0.tar.gz", "listed twice")]


def test_a_refused_name_is_printable_and_bounded() -> None:
    page = json_page(entry(filename="\x1b[2J\n"), entry(filename="a" * 100_000))
    assert [name for name, _ in page.refused] == ["\\x1b[2J\\n", "a" * 255]


@pytest.mark.case(40)
@pytest.mark.parametrize(
    ("url", "reason"),
    [
        (..., "url that is none: nothing"),
        ("", "url that is none: ''"),
        (5, "url that is none: 5"),
        ("ftp://files.example/a", "not http or https"),
        ("javascript:alert(1)", "not http or https"),
        ("file:///etc/passwd", "not http or https"),
        ("https://[", "without a proper host"),
        ("//[", "cannot be resolved"),
        ("https:///a", "without a proper host"),
        ("https://?a/b", "without a proper host"),
        ("https://files.example", "without a proper host or path"),
        ("https://files.example:port/a", "without a proper host"),
        ("https://files.ex%61mple/a", "without a proper host"),
        ("https://fïles.example/a", "without a proper host"),
        ("https://user:secret@files.example/a", "user or a password"),
        ("https://@files.example/a", "user or a password"),
        ("//user@files.example/a", "user or a password"),
        ("https://files.example/a b", "space or a control character"),
        ("https://files.example/a\n", "space or a control character"),
        ("https://files.example/\x00", "space or a control character"),
        ("https://files.example/\x9b", "space or a control character"),
        ("https://files.example/a\\b", "without a proper host or path"),
        ("https://files.example/../a", "leaves its place"),
        ("https://files.example/./a", "leaves its place"),
        ("https://files.example/a/..", "leaves its place"),
        ("https://files.example/%2e%2e/a", "leaves its place"),
        ("https://files.example/.%2E/a", "leaves its place"),
        ("https://files.example/a%2fb", "leaves its place"),
        ("https://files.example/a%2F..%2Fb", "leaves its place"),
        ("https://files.example/a%5cb", "leaves its place"),
        ("https://files.example/a%00", "leaves its place"),
        ("https://files.example/a%0d%0ab", "leaves its place"),
        ("../../%2e%2e/a", "leaves its place"),
        ("https://files.example/" + "a" * 8192, "more than 8192"),
        ("https://files.example/" + "ä" * 4000, "more than 8192"),
    ],
)
def test_an_unsafe_url_is_refused(url: object, reason: str) -> None:
    assert reason in refusal(url=url)


@pytest.mark.case(24)
@pytest.mark.parametrize(
    ("url", "absolute"),
    [
        ("https://files.example/a/six.whl", "https://files.example/a/six.whl"),
        ("HTTP://Files.Example:8080/six.whl?x=/../y", "HTTP://Files.Example:8080/six.whl?x=/../y"),
        ("https://[::1]:80/six.whl", "https://[::1]:80/six.whl"),
        ("https://files.example/six%2B1.whl", "https://files.example/six%2B1.whl"),
        ("https://files.example/a/.hidden/six.whl", "https://files.example/a/.hidden/six.whl"),
        ("https://files.example/six.whl#sha256=00", "https://files.example/six.whl"),
        ("https://files.example/sïx.whl", "https://files.example/s%C3%AFx.whl"),
        ("../../packages/a/six.whl", "https://index.example/packages/a/six.whl"),
        ("../../../../six.whl", "https://index.example/six.whl"),
        ("six.whl", "https://index.example/simple/six/six.whl"),
        ("/p/six.whl", "https://index.example/p/six.whl"),
        ("//files.example/six.whl", "https://files.example/six.whl"),
        ("../../a/../b/six.whl", "https://index.example/b/six.whl"),
    ],
)
def test_a_url_becomes_absolute_and_ascii(url: str, absolute: str) -> None:
    assert file_of(json_page(entry(url=url))).url == absolute


@pytest.mark.parametrize(
    ("hashes", "reason"),
    [
        (..., "no sha256"),
        ({}, "no sha256"),
        (None, "no sha256"),
        ({"md5": "0" * 32}, "no sha256"),
        ({"sha512": "0" * 128}, "no sha256"),
        ({"sha256": "0" * 63}, "sha256 that is none"),
        ({"sha256": "0" * 64 + "\n"}, "sha256 that is none"),
        ({"sha256": "g" * 64}, "sha256 that is none"),
        ({"sha256": ["0" * 64]}, "sha256 that is none"),
    ],
)
def test_a_file_without_a_sound_sha256_is_refused(hashes: object, reason: str) -> None:
    assert reason in refusal(hashes=hashes)


def test_a_digest_is_lower_case() -> None:
    assert file_of(json_page(entry(hashes={"sha256": SHA.upper()}))).digest == SHA


def test_other_strong_digests_are_taken_where_accepted_the_best_first() -> None:
    hashes = {"md5": "0" * 32, "blake2b": "1" * 128, "sha384": "A" * 96, "sha512": "2" * 127}
    file = file_of(json_page(entry(hashes=hashes), accept_unhashed=True))
    assert (file.algorithm, file.digest) == ("sha384", "a" * 96)
    weak = json_page(entry(hashes={"md5": "0" * 32, "sha1": "0" * 40}), accept_unhashed=True)
    assert weak.refused == [("six-1.0.tar.gz", "no sha256")]


@pytest.mark.parametrize("size", [-1, True, 1.0, "5", [], 2**63, 2**64])
def test_a_size_that_is_none_is_refused(size: object) -> None:
    if size == 2**64:
        body = b'{"name":"six","files":[{"filename":"a.zip","url":"a.zip","hashes":{"sha256":"%s"},"size":%d}]}'
        page = parse_json_page(body % (SHA.encode(), 2**64), SIX, PAGE_URL, accept_unhashed=False)
        assert "size that is no number of bytes" in page.refused[0][1]
    else:
        assert "size that is no number of bytes" in refusal(size=size)


@pytest.mark.parametrize("size", [..., None])
def test_a_size_may_be_unknown(size: object) -> None:
    file = file_of(json_page(entry(size=size)))
    assert file.size is None
    assert "size" not in file.keys


def test_optional_keys_of_a_wrong_type_are_dropped_and_the_file_stands() -> None:
    wrong = {"requires_python": 3, "yanked": 1, "upload_time": 5, "core_metadata": "yes", "provenance": {}}
    assert set(file_of(json_page(entry(**wrong))).keys) == {"filename", "url", "hashes", "size"}


@pytest.mark.case(26, 28)
def test_an_empty_reason_means_yanked_and_an_empty_upload_time_none() -> None:
    keys = file_of(json_page(entry(yanked="", upload_time=""))).keys
    assert keys["yanked"] is True
    assert "upload-time" not in keys


@pytest.mark.parametrize(
    ("keys", "metadata"),
    [
        ({}, None),
        ({"core_metadata": None}, None),
        ({"core_metadata": False}, None),
        ({"core_metadata": True}, ""),
        ({"core_metadata": {}}, ""),
        ({"core_metadata": {"sha512": "00"}}, ""),
        ({"core_metadata": {"sha256": OTHER.upper()}}, OTHER),
        ({"core_metadata": {"sha256": "none"}}, None),
        ({"dist_info_metadata": True}, ""),
        ({"data_dist_info_metadata": {"sha256": OTHER}}, OTHER),
        ({"core_metadata": False, "dist_info_metadata": True}, None),
        ({"core_metadata": "wrong", "dist_info_metadata": True}, ""),
    ],
)
def test_core_metadata_is_read_under_its_three_names(keys: dict[str, Any], metadata: str | None) -> None:
    assert file_of(json_page(entry(**keys))).metadata == metadata


# Pages in HTML --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "anchor",
    [
        f'<a href="six-1.0.zip#sha256={SHA}">',
        f"<A HREF='six-1.0.zip#sha256={SHA}'>",
        f"<a href=six-1.0.zip#sha256={SHA}>",
        f'<a\n  rel="x"\thref = " six-1.0.zip#sha256={SHA} "\n>',
        f'<a class hreF="six-1.0.zip#egg=six&amp;SHA256={SHA.upper()}"/>',
        f'<a href="six-1&#46;0.zip#sha256={SHA}" href="other.zip">',
        f'<a title="a > b" href="six%2D1.0.zip#sha256={SHA}">',
        f'<a href="https://index.example/simple/six/six-1.0.zip#sha256={SHA}">',
        f'<a href="../six/six-1.0.zip#md5=00&sha256={SHA}">',
        f'<!-- <a href="x"> --><!--><a href="six-1.0.zip#sha256={SHA}">',
        f'<script>"<a href=\'x.zip\'>"</script ><a href="six-1.0.zip#sha256={SHA}">',
    ],
)
def test_a_link_is_read_however_it_is_written(anchor: str) -> None:
    file = file_of(html_page(anchor + "label</a>"))
    assert (file.filename, file.algorithm, file.digest, file.size) == ("six-1.0.zip", "sha256", SHA, None)
    assert file.url.replace("%2D", "-") == "https://index.example/simple/six/six-1.0.zip"


def test_attributes_of_a_link_become_the_keys_of_the_json_form() -> None:
    file = file_of(
        html_page(
            f'<a href="six.whl#sha256={SHA}" data-requires-python="&gt;=3.8,&lt;4" data-yanked="a &quot;b&quot;"'
            f' data-dist-info-metadata="sha256={OTHER}" data-provenance="https://x/?a=1&section=2" data-gpg-sig="true">'
        )
    )
    assert file.keys == {
        "filename": "six.whl",
        "url": "six.whl",
        "hashes": {"sha256": SHA},
        "requires-python": ">=3.8,<4",
        "yanked": 'a "b"',
        "core-metadata": {"sha256": OTHER},
        "provenance": "https://x/?a=1&section=2",
        "gpg-sig": True,
    }
    assert file.metadata == OTHER


@pytest.mark.parametrize(
    ("attribute", "yanked"), [("", False), ("data-yanked", True), ('data-yanked=""', True), ("data-yanked=x", "x")]
)
def test_a_yanked_link_needs_no_reason(attribute: str, yanked: object) -> None:
    assert file_of(html_page(f'<a href="a.zip#sha256={SHA}" {attribute}>')).keys["yanked"] == yanked


@pytest.mark.parametrize(
    ("attribute", "metadata"),
    [
        ("data-core-metadata=true", ""),
        (f"data-core-metadata=sha256={OTHER} data-dist-info-metadata=true", OTHER),
        ("data-core-metadata=sha256=00", None),
        ("data-core-metadata=false", None),
        ("data-core-metadata", None),
    ],
)
def test_core_metadata_of_a_link(attribute: str, metadata: str | None) -> None:
    assert file_of(html_page(f'<a href="a.zip#sha256={SHA}" {attribute}>')).metadata == metadata


def test_links_are_relative_to_the_base() -> None:
    link = f'<a href="six.whl#sha256={SHA}">'
    assert (
        file_of(html_page(f'<base href="/files/"><base href="/x/">{link}')).url == "https://index.example/files/six.whl"
    )
    assert file_of(html_page(f'{link}<base target="_blank">')).url == "https://index.example/simple/six/six.whl"
    for base in ("http://[", "x" * 9000):
        with pytest.raises(PageError, match="invalid base"):
            html_page(f'<base href="{base}">{link}')


def test_links_without_a_hash_are_refused_and_links_to_directories_are_no_files() -> None:
    page = html_page(
        '<a href="../">up</a><a name="top"><a href="#top"></a><a href="?C=M">by date</a><a href="six.zip">six'
    )
    assert page.files == []
    assert page.refused == [("six.zip", "no sha256")]


def test_another_digest_of_a_link_is_taken_where_accepted() -> None:
    page = html_page(f'<a href="a.zip#sha512={"0" * 128}">', accept_unhashed=True)
    assert file_of(page).algorithm == "sha512"


def test_version_status_and_serial_of_an_html_page() -> None:
    page = html_page(
        '<meta content="1.4" name="pypi:repository-version"><META name="pypi:project-status" content="archived">'
        '<meta name="pypi:project-status-reason" content="no &lt;time&gt;"><!--SERIAL 17-->'
    )
    assert (page.serial, page.status) == (17, "archived")
    assert page.keys == {"project-status": {"status": "archived", "reason": "no <time>"}}
    with pytest.raises(PageError, match=re.escape("unknown major api-version '2.0'")):
        html_page('<meta name="pypi:repository-version" content="2.0">')


@pytest.mark.parametrize("body", [b"", b"not found", b"\x89PNG", b'{"name": "six"}', b' ["<a href=x>"]', b"<p>error"])
def test_what_is_no_html_page_is_a_page_error(body: bytes) -> None:
    with pytest.raises(PageError, match="no link in the page"):
        parse_html_page(body, SIX, PAGE_URL, accept_unhashed=False)
    with pytest.raises(PageError, match="no link in the page"):
        parse_html_index(body, PAGE_URL)


@pytest.mark.parametrize("body", [b"<!DOCTYPE html><html></html>", b"\xef\xbb\xbf\n<HTML>", b"<!-- x --><html>"])
def test_an_empty_page_is_a_page(body: bytes) -> None:
    page = parse_html_page(body, SIX, PAGE_URL, accept_unhashed=False)
    assert (page.files, page.refused, page.status, page.serial) == ([], [], "active", None)


@pytest.mark.parametrize("end", ["<!-- ", '<a href="', "<a href='x", "<a ", "<script>", "<"])
def test_what_is_not_ended_ends_the_document(end: str) -> None:
    body = f'<a href="a.zip#sha256={SHA}">a</a>{end}<a href=b.zip#sha256={OTHER} '.encode()
    page = parse_html_page(body, SIX, PAGE_URL, accept_unhashed=False)
    assert [file.filename for file in page.files] == ["a.zip"]


def test_thousands_of_digits_are_no_number() -> None:
    digits = "1" * 10_000
    page = html_page(f'<a href="a.zip#sha256={SHA}" data-yanked="&#{digits};&#x{digits};"><!--SERIAL {digits}-->')
    assert file_of(page).keys["yanked"].endswith(digits[7:] + ";")
    assert page.serial is None


def test_the_root_index_in_html_gives_the_last_segment_of_each_link() -> None:
    body = b'<html><a href="/simple/six/">Six</a><a href="foo">Foo</a><a href="https://x/simple/b%61r/#x">bar</a>'
    assert parse_html_index(body, PAGE_URL) == ["six", "foo", "bar"]


# Completing a page ----------------------------------------------------------------------------------------


def test_versions_are_told_by_wheels_and_source_distributions() -> None:
    names = ["six-1.10.tar.gz", "six-1.9-py2.py3-none-any.whl", "six-1.9.0.zip", "six-1.9-1-py3-none-any.whl"]
    names += [
        "six-2.0rc1.zip",
        "six-1!1+local.tar.gz",
        "six-1.0.exe",
        "six.tar.gz",
        "1.0.zip",
        "six-x.zip",
        "six-3.whl",
    ]
    files = [File(name, "", "sha256", SHA, None, None, {}) for name in names]
    assert versions_of(files) == ["1.9", "1.10", "2.0rc1", "1!1+local"]


def legacy(*files: object, **keys: Any) -> bytes:
    return orjson.dumps({"info": {"name": "Six"}, "last_serial": 9, "releases": {"1.0": files}, "urls": []} | keys)


def with_legacy(page: Page, document: bytes) -> Page:
    return complete(page, read_document(document, SIX))


LEGACY_FILE = {
    "filename": "six.zip",
    "digests": {"sha256": SHA.upper(), "md5": "00"},
    "size": 77,
    "upload_time_iso_8601": "2026-01-02T03:04:05.000006Z",
    "requires_python": ">=3",
    "yanked": True,
    "yanked_reason": "broken",
    "core-metadata": {"sha256": OTHER},
}


def test_the_legacy_document_completes_what_html_does_not_say() -> None:
    page = html_page(f'<a href="six.zip#sha256={SHA}" data-yanked><a href="b.zip#sha256={OTHER}">')
    first, second = (completed := with_legacy(page, legacy(LEGACY_FILE))).files
    assert completed.serial == 9
    assert (first.size, first.metadata) == (77, OTHER)
    assert first.keys == {
        "filename": "six.zip",
        "url": "six.zip",
        "hashes": {"sha256": SHA},
        "size": 77,
        "upload-time": "2026-01-02T03:04:05.000006Z",
        "requires-python": ">=3",
        "yanked": "broken",
        "core-metadata": {"sha256": OTHER},
    }
    assert second == page.files[1]


def test_the_legacy_document_overwrites_nothing() -> None:
    said = entry(filename="six.zip", requires_python=">=2", yanked=False, core_metadata=False, upload_time="2020Z")
    page = json_page(said, meta={"_last-serial": 5})
    assert with_legacy(page, legacy(LEGACY_FILE)) == page


def test_the_legacy_document_counts_only_where_name_and_sha256_agree() -> None:
    page = html_page(f'<a href="six.zip#sha256={OTHER}"><a href="other.zip#sha256={SHA}">')
    assert with_legacy(page, legacy(LEGACY_FILE, None, {}, {"digests": []})).files == page.files


def test_files_of_the_newest_release_are_read_too() -> None:
    page = html_page(f'<a href="six.zip#sha256={SHA}">')
    assert file_of(with_legacy(page, legacy(releases={}, urls=[LEGACY_FILE]))).size == 77
    offered = file_of(with_legacy(page, legacy(LEGACY_FILE | {"core-metadata": True})))
    assert (offered.metadata, offered.keys["core-metadata"]) == ("", True)


@pytest.mark.parametrize(
    "document",
    [
        *(b"{", b"[]", b'{"message": "Not Found"}', legacy(releases=[]), legacy(releases={"1": {}}), legacy(urls=5)),
        *(legacy(info={"name": "seven"}), legacy(info={"name": 5})),
    ],
)
def test_a_malformed_legacy_document_is_a_page_error(document: bytes) -> None:
    with pytest.raises(PageError):
        with_legacy(html_page(""), document)


# Rendering ------------------------------------------------------------------------------------------------


def test_what_is_stored_stands_in_for_what_upstream_said() -> None:
    page = json_page(entry(size=9, hashes={"md5": "00", "sha256": SHA.upper()}, core_metadata={"sha256": OTHER}))
    assert rendered(page, url="../../p/a%20b", size=5) == {
        "filename": "six-1.0.tar.gz",
        "url": "../../p/a%20b",
        "hashes": {"md5": "00", "sha256": SHA},
        "size": 5,
        "yanked": False,
        "core-metadata": False,
    }
    assert rendered(page, metadata=OTHER)["core-metadata"] == {"sha256": OTHER}


def test_the_aliases_of_core_metadata_and_empty_upload_times_are_never_written() -> None:
    offered = {"sha256": OTHER}
    page = json_page(entry(data_dist_info_metadata=offered, dist_info_metadata=offered, upload_time=""))
    keys = rendered(page, metadata=OTHER)
    assert not {"data-dist-info-metadata", "dist-info-metadata", "upload-time"} & set(keys)
    assert keys["core-metadata"] == offered


@pytest.mark.case(26)
def test_the_reason_of_a_yank_survives() -> None:
    page = json_page(entry(yanked='why <b>"&"\n'))
    assert rendered(page)["yanked"] == 'why <b>"&"\n'
    assert 'data-yanked="why &lt;b&gt;&quot;&amp;&quot;&#10;"' in line_of(page)
    assert ' data-yanked=""' in line_of(json_page(entry(yanked=True)))
    assert "data-yanked" not in line_of(json_page(entry(yanked=False)))


def test_a_file_without_sha256_upstream_gets_ours() -> None:
    page = json_page(entry(hashes={"sha512": "0" * 128}), accept_unhashed=True)
    assert rendered(page, sha256=OTHER)["hashes"] == {"sha512": "0" * 128, "sha256": OTHER}


def test_a_page_nested_too_deeply_to_be_written_is_a_page_error() -> None:
    body = b'{"name":"six","files":[],"x":%s}' % (b"[" * DEEP + b"]" * DEEP)
    page = parse_json_page(body, SIX, PAGE_URL, accept_unhashed=False)
    with pytest.raises(PageError, match="cannot be written as JSON"):
        render_json(page, SIX, None, [])


def test_rendering_leaves_upstreams_words_as_they_were() -> None:
    page = json_page(entry(data_dist_info_metadata=True), versions=["1.0"])
    before = orjson.dumps([page.keys, page.files[0].keys])
    render_json(page, SIX, 1, [listed(page.files[0])])
    render_html(page, SIX, 1, [listed(page.files[0])])
    assert orjson.dumps([page.keys, page.files[0].keys]) == before


def test_the_html_page_is_laid_out_as_pypi_does() -> None:
    page = json_page(
        entry(requires_python=">=3", provenance="https://x/?a&b"),
        project_status={"status": "archived", "reason": "<done>"},
    )
    assert render_html(page, SIX, 12, [listed(page.files[0], metadata=OTHER)]).decode() == (
        "<!DOCTYPE html>\n"
        "<html>\n"
        "  <head>\n"
        '    <meta name="pypi:repository-version" content="1.4">\n'
        '    <meta name="pypi:project-status" content="archived">\n'
        '    <meta name="pypi:project-status-reason" content="&lt;done&gt;">\n'
        "    <title>Links for six</title>\n"
        "  </head>\n"
        "  <body>\n"
        "    <h1>Links for six</h1>\n"
        f'    <a href="../../packages/0ef/six-1.0.tar.gz#sha256={SHA}" data-requires-python="&gt;=3"'
        f' data-core-metadata="sha256={OTHER}" data-dist-info-metadata="sha256={OTHER}"'
        ' data-provenance="https://x/?a&amp;b">six-1.0.tar.gz</a><br />\n'
        "  </body>\n"
        "</html>\n"
        "<!--SERIAL 12-->"
    )


def test_an_html_page_without_a_serial_says_none() -> None:
    assert b"SERIAL" not in render_html(json_page(), SIX, None, [])


def test_both_forms_pass_another_clients_parser() -> None:
    offered = {"sha256": OTHER}
    page = json_page(
        entry(requires_python=">=3.8,<4", upload_time="2026-01-02T03:04:05Z", core_metadata=offered, yanked="why"),
        entry(filename="six-1.1-py3-none-any.whl", provenance="https://x/p"),
        project_status={"status": "archived"},
        versions=["1.0", "1.1"],
    )
    entries = [listed(page.files[0], metadata=OTHER), listed(page.files[1])]
    json = ProjectPage.from_json_data(orjson.loads(render_json(page, SIX, 3, entries)), PAGE_URL)
    html = ProjectPage.from_html("six", render_html(page, SIX, 3, entries), PAGE_URL)
    assert (json.repository_version, html.repository_version) == ("1.4", "1.4")
    assert json.versions == ["1.0", "1.1"]
    assert json.packages[0].size == 5
    assert [package.version for package in json.packages] == ["1.0", "1.1"]
    for read in (json, html):
        assert read.project == "six"
        assert read.status == "archived"
        first, second = read.packages
        assert first.url == urljoin(PAGE_URL, "../../packages/0ef/six-1.0.tar.gz")
        assert first.digests == {"sha256": SHA}
        assert (first.requires_python, first.yanked_reason) == (">=3.8,<4", "why")
        assert (first.has_metadata, first.metadata_digests) == (True, offered)
        assert (second.is_yanked, second.has_metadata or False) == (False, False)
        assert second.provenance_url == "https://x/p"


# The root index -------------------------------------------------------------------------------------------


def test_the_root_index_has_pypis_own_form() -> None:
    projects = [(NormalizedName("a"), 1), (NormalizedName("b"), None)]
    assert b"".join(render_index_json(projects, 5)) == (
        b'{"meta":{"_changes":1,"_last-serial":5,"api-version":"1.4"},"projects":[{"_last-serial":1,"name":"a"},{"name":"b"}]}\n'
    )
    assert b"".join(render_index_json([], None)) == (b'{"meta":{"_changes":1,"api-version":"1.4"},"projects":[]}\n')


def test_the_root_index_comes_in_chunks_and_passes_another_clients_parser() -> None:
    projects = [(NormalizedName(f"p{i}"), i) for i in range(10_000)]
    names = [name for name, _ in projects]
    chunks = [*render_index_json(iter(projects), 9)]
    assert max(map(len, chunks)) < sum(map(len, chunks)) / 2
    assert IndexPage.from_json_data(orjson.loads(b"".join(chunks))).projects == names
    html = b"".join(render_index_html(iter(names)))
    assert IndexPage.from_html(html).projects == names
    assert b'    <a href="p7/">p7</a><br />\n' in html
