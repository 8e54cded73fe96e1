from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import orjson
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fastmirror.errors import PageError
from fastmirror.layout import unsafe_filename
from fastmirror.legacy import complete, read_document, saved
from fastmirror.model import Page
from fastmirror.names import NormalizedName
from fastmirror.simple import (
    Entry,
    parse_html_page,
    parse_json_page,
    render_html,
    render_index_html,
    render_index_json,
    render_json,
)
from fastmirror.simple_html import parse_html_index
from tests.property.strategies import hostile_pages, html_texts, json_values, markup, pages, texts

SIX = NormalizedName("six")
PAGE_URL = "https://index.example/simple/six/"


def parse_json(body: bytes, accept_unhashed: bool = False) -> Page:
    return parse_json_page(body, SIX, PAGE_URL, accept_unhashed=accept_unhashed)


def parse_html(body: bytes, accept_unhashed: bool = False) -> Page:
    return parse_html_page(body, SIX, PAGE_URL, accept_unhashed=accept_unhashed)


def encoded(document: object) -> bytes:
    return json.dumps(document).encode()  # any number is welcome, unlike in orjson


def stored(page: Page) -> list[Entry]:
    """Every file of the page, as if all were at rest as upstream says."""
    return [
        Entry(file, f"../../packages/{i}", file.digest[:64], file.size or 0, file.metadata or None)
        for i, file in enumerate(page.files)
    ]


def outline(page: Page) -> list[tuple[Any, ...]]:
    """What both forms of a page say of each file."""
    return [
        (
            file.filename,
            file.digest,
            file.metadata or None,
            file.keys.get("requires-python") or None,
            file.keys.get("yanked", False),
            file.keys.get("provenance") or None,
        )
        for file in page.files
    ]


def check_error(error: PageError) -> None:
    assert len(str(error)) < 500


class Anchors(HTMLParser):
    """Another reader of HTML: the attributes and the text of each link, and every tag."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[tuple[dict[str, str | None], str]] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "a":
            self.links.append((dict(attrs), ""))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] == "a":
            attributes, label = self.links[-1]
            self.links[-1] = (attributes, label + data)


def links(body: bytes) -> tuple[list[tuple[dict[str, str | None], str]], list[str]]:
    reader = Anchors()
    reader.feed(body.decode())
    reader.close()
    return reader.links, reader.tags


@given(pages())
def test_a_page_survives_rendering_as_json(document: dict[str, Any]) -> None:
    page = parse_json(encoded(document))
    assert page.refused == []
    again = parse_json(render_json(page, SIX, page.serial, stored(page)))
    assert (again.serial, again.status, again.refused) == (page.serial, page.status, [])
    assert outline(again) == outline(page)
    assert [file.size for file in again.files] == [file.size for file in page.files]
    for key in ("upload-time", "x-unknown", "requires-python"):
        assert [file.keys.get(key) for file in again.files] == [file.keys.get(key) for file in page.files]
    assert {**again.keys, **page.keys} == again.keys


@given(pages())
def test_a_page_survives_rendering_as_html(document: dict[str, Any]) -> None:
    page = parse_json(encoded(document))
    body = render_html(page, SIX, page.serial, stored(page))
    again = parse_html(body)
    assert (again.serial, again.status, again.refused) == (page.serial, page.status, [])
    # The name in the link is the stored path's; the label is only for people.
    assert [row[1:] for row in outline(again)] == [row[1:] for row in outline(page)]
    assert again.keys.get("project-status", {}).get("status") == page.keys.get("project-status", {}).get("status")


@given(pages())
def test_rendering_twice_gives_the_same_bytes(document: dict[str, Any]) -> None:
    page = parse_json(encoded(document))
    for render in (render_json, render_html):
        assert render(page, SIX, 5, stored(page)) == render(page, SIX, 5, stored(page))


@pytest.mark.case(26, 27)
@given(pages())
def test_what_upstream_wrote_stays_within_its_attribute(document: dict[str, Any]) -> None:
    page = parse_json(encoded(document))
    entries = stored(page)
    found, tags = links(render_html(page, SIX, 7, entries))
    assert len(found) == len(entries) == tags.count("a")
    assert set(tags) <= {"html", "head", "meta", "title", "body", "h1", "a", "br"}
    for (attributes, label), entry in zip(found, entries, strict=True):
        keys = entry.file.keys
        yanked = keys.get("yanked", False)
        expected = {
            "href": f"{entry.url}#sha256={entry.sha256}",
            "data-requires-python": keys.get("requires-python") or None,
            "data-yanked": "" if yanked is True else yanked or None,
            "data-provenance": keys.get("provenance") or None,
            "data-core-metadata": f"sha256={entry.metadata}" if entry.metadata else None,
            "data-dist-info-metadata": f"sha256={entry.metadata}" if entry.metadata else None,
        }
        assert label == entry.file.filename
        assert attributes == {key: value for key, value in expected.items() if value is not None}


@given(st.binary() | markup.map(str.encode), st.booleans())
def test_no_bytes_raise_anything_but_a_page_error(body: bytes, accept_unhashed: bool) -> None:
    for parse in (parse_json, parse_html):
        try:
            parse(body, accept_unhashed)
        except PageError as error:
            check_error(error)


@given(hostile_pages | json_values, st.booleans())
def test_no_json_value_raises_anything_but_a_page_error(document: Any, accept_unhashed: bool) -> None:
    try:
        page = parse_json(encoded(document), accept_unhashed)
    except PageError as error:
        check_error(error)
        return
    listed = document["files"]
    assert len(page.files) + len(page.refused) == len(listed)
    render_json(page, SIX, page.serial, stored(page))
    render_html(page, SIX, page.serial, stored(page))


@given(json_values | st.fixed_dictionaries({"releases": json_values}, optional={"urls": json_values}))
def test_no_legacy_document_raises_anything_but_a_page_error(document: Any) -> None:
    page = Page(SIX, None, "active", [], [], {})
    try:
        read = read_document(encoded(document), SIX)
        complete(page, read, "md5")
        saved(read, 1 << 24)
    except PageError as error:
        check_error(error)


@pytest.mark.case(40)
@given(hostile_pages, st.booleans())
def test_what_is_accepted_is_safe_to_fetch_and_to_store(document: dict[str, Any], accept_unhashed: bool) -> None:
    try:
        page = parse_json(encoded(document), accept_unhashed)
    except PageError:
        return
    assert len({file.filename for file in page.files}) == len(page.files)
    for file in page.files:
        assert unsafe_filename(file.filename) is None
        parts = urlsplit(file.url)
        assert parts.scheme in {"http", "https"}
        assert parts.hostname
        assert parts.username is parts.password is None
        assert file.url.isascii()
        assert not {".", ".."} & set(unquote(parts.path).replace("\\", "/").split("/"))
        assert len(file.digest) >= 64
        assert int(file.digest, 16) >= 0


@given(hostile_pages)
def test_what_is_refused_is_never_rendered(document: dict[str, Any]) -> None:
    try:
        page = parse_json(encoded(document))
    except PageError:
        return
    accepted = {file.filename for file in page.files}
    rendered = orjson.loads(render_json(page, SIX, None, stored(page)))["files"]
    assert {entry["filename"] for entry in rendered} == accepted
    assert len(links(render_html(page, SIX, None, stored(page)))[0]) == len(accepted)


@given(markup)
def test_what_html_pages_list_is_safe_too(text: str) -> None:
    try:
        page = parse_html(text.encode())
    except PageError:
        return
    for file in page.files:
        assert unsafe_filename(file.filename) is None
        assert urlsplit(file.url).scheme in {"http", "https"}
        assert len(file.digest) == 64


@pytest.mark.case(24)
@given(
    st.from_regex(r"(\.\./){0,4}[A-Za-z0-9._~%/+-]{1,20}", fullmatch=True),
    st.sampled_from([PAGE_URL, "https://index.example", "http://index.example:8080/a/b", "https://h.example/x?y=/z"]),
)
def test_a_relative_url_is_resolved_as_the_standard_has_it(url: str, page_url: str) -> None:
    document = {"name": "six", "files": [{"filename": "six-1.zip", "url": url, "hashes": {"sha256": "0" * 64}}]}
    page = parse_json_page(encoded(document), SIX, page_url, accept_unhashed=False)
    assert [file.url for file in page.files] in ([], [urljoin(page_url, url)])


@given(st.dictionaries(st.sampled_from(["href", "data-yanked", "data-requires-python"]), html_texts, min_size=1))
def test_attributes_are_read_as_another_parser_reads_them(attributes: dict[str, str]) -> None:
    assume("data-yanked" in attributes)
    quoted = "".join(
        f" {key}='{value}'" if '"' in value else f' {key.upper()} = "{value}"'
        for key, value in attributes.items()
        if key != "href" and not {"&", "'"} & set(value)
    )
    body = f'<!doctype html><a href="six-1.zip#sha256={"0" * 64}"{quoted}>six</a>'.encode()
    (theirs, _), *_ = links(body)[0]
    (file,) = parse_html(body).files
    yanked = theirs.get("data-yanked")
    assert file.keys["yanked"] == (False if yanked is None else yanked or True)
    assert file.keys.get("requires-python") == (theirs.get("data-requires-python") or None)


_names = st.from_regex(r"[a-z0-9]+(-[a-z0-9]+){0,3}", fullmatch=True).map(NormalizedName)


@given(st.dictionaries(_names, st.none() | st.integers(0, 2**63)), st.none() | st.integers(0, 2**63))
def test_the_root_index_lists_every_project_in_both_forms(
    projects: dict[NormalizedName, int | None], serial: int | None
) -> None:
    document = orjson.loads(b"".join(render_index_json(projects.items(), serial)))
    assert {entry["name"]: entry.get("_last-serial") for entry in document["projects"]} == projects
    assert document["meta"].get("_last-serial") == serial
    assert parse_html_index(b"".join(render_index_html(projects)), PAGE_URL) == list(projects)


@pytest.mark.parametrize("opening", ["[", '{"a":'])
@given(st.integers(1, 5000), texts)
def test_depth_is_refused_and_not_followed(opening: str, depth: int, text: str) -> None:
    with pytest.raises(PageError):
        parse_json((opening * depth + text).encode())
