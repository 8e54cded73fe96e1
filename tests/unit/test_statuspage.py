"""The status page: what it says, and that nothing which came from elsewhere can be more than text in it."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastmirror.inquiry import Large
from fastmirror.statuspage import Place, page_json, status_page
from fastmirror.summary import Failure
from fastmirror.trends import trends
from tests.unit.test_reports import LAST_RUN, a_status

NOW = 1_700_000_000.0
PLACE = Place("https://pypi.example.com", "https://mirror.example.com")
RUN: dict[str, Any] = {
    "started": NOW - 60,
    "finished": NOW - 30,
    "exit_status": 1,
    "seconds": 30.0,
    "updated": 3,
    "removed": 0,
    "failed": 1,
    "files": 5,
    "bytes": 6000,
    "stored_bytes": 6_000_000,
    "fetched_so_far": 6000,
    "slowest": [{"name": "six", "seconds": 12.5, "bytes": 5000}],
}
VOID = {"meta", "path", "rect", "br", "link"}


class Page(HTMLParser):
    """A page's elements and texts; every element that was opened is closed in its turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip() and self._open[-1] != "style":
            self.texts.append(data.strip())

    @property
    def text(self) -> str:
        return "\n".join(self.texts)


def shape(page: Page) -> list[tuple[str, list[str]]]:
    """Its elements, with the names of their attributes."""
    return [(tag, sorted(attributes)) for tag, attributes in page.elements]


def page_of(place: Place = PLACE, **changed: Any) -> Page:
    return Page(text_of(place, **changed))


def text_of(place: Place = PLACE, **changed: Any) -> str:
    status = a_status(**changed)
    return status_page(status, trends(status.past, NOW), place, NOW)


def facts_of(**changed: Any) -> dict[str, Any]:
    status = a_status(**changed)
    facts: dict[str, Any] = json.loads(page_json(status, trends(status.past, NOW), NOW))
    return facts


def with_words(word: str) -> Page:
    """A page on which everything that others may choose is this word."""
    run = RUN | {"error": word, "slowest": [{"name": word, "seconds": 1.0, "bytes": 1}]}
    return page_of(
        Place("https://pypi.example.com", "https://mirror.example.com"),
        failing=2,
        failures=(Failure(word, word, NOW), Failure("six", word, None)),
        largest=(Large(word, 1, 1),),
        last_run=LAST_RUN | {"exit_status": 6, "error": word},
        past=(run, RUN | {"started": NOW - 200, "finished": NOW - 100}),
    )


HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style></title><h1>",
    "' onload='x",
    "{verdict} {0} %s $x",
    "&lt;b&gt; &amp;",
    "]]>--><!--",
)


@pytest.mark.parametrize("word", HOSTILE)
def test_a_hostile_name_or_reason_is_text_and_reads_as_it_is(word):
    page = with_words(word)
    assert shape(page) == shape(with_words("word"))
    assert page.texts.count(word) == 5  # twice a reason, and once the name of a failing, a slow and a large project


@given(st.text(min_size=1))
def test_whatever_a_reason_says_the_page_has_the_same_elements(word):
    assert shape(with_words(word)) == shape(with_words("word"))


def test_no_credential_and_no_control_character_reaches_the_page():
    page = with_words("https://user:secret@host/ \x1b[2J\u202e")
    assert "secret" not in page.text
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f\u202e]", page.text)
    facts = facts_of(last_run=LAST_RUN | {"error": "https://user:secret@host/"})
    assert facts["last_run"]["error"] == "https://***@host/"


def test_the_pages_policy_lets_in_its_own_style_and_nothing_else():
    text = text_of()
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    digest = b64encode(sha256(style.encode()).digest()).decode()
    page = Page(text)
    (policy,) = [
        attributes["content"]
        for tag, attributes in page.elements
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy == f"default-src 'none'; base-uri 'none'; form-action 'none'; style-src 'sha256-{digest}'"
    assert not {"script", "link", "img", "iframe", "object", "form"} & {tag for tag, _ in page.elements}
    assert not [name for _, attributes in page.elements for name in attributes if name in ("style", "src")]
    assert "url(" not in style
    assert "@import" not in style


def test_a_whole_mirror_is_called_complete_and_a_mirror_without_a_run_is_not():
    assert "Complete" in page_of(last_run=LAST_RUN | {"exit_status": 0}, failing=0).texts
    assert "Nothing mirrored yet" in page_of(last_run=None).texts


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (5, "upstream unusable"),
        (6, "storage failed"),
        (4, "removals held back"),
        (70, "failed (70)"),
        ("9", "failed (9)"),
    ],
)
def test_a_run_that_did_not_do_all_is_called_by_its_end_with_its_reason(status, said):
    page = page_of(last_run=LAST_RUN | {"exit_status": status, "error": "no room"}, failing=0)
    assert f"Last run: {said}" in page.texts
    assert "It says: no room" in page.text


def test_failures_are_told_with_reason_and_next_try_and_how_many_more_there_are():
    failures = tuple(Failure(f"project-{number}", "page: HTTP status 500", NOW) for number in range(50))
    page = page_of(failing=1234, failures=failures)
    assert "1,234 projects not whole" in page.texts
    assert page.texts.count("page: HTTP status 500") == 20
    assert "… and 1,214 more." in page.texts
    assert "2023-11-14 22:13" in page.texts


def test_what_is_missing_and_how_far_behind_the_mirror_is_are_told():
    page = page_of(serial=1000, upstream_serial=3000, lag_s=7200.0, missing=2, missing_files=3, missing_bytes=4000)
    assert {"2,000 behind upstream", "2 h behind, when this was written"} <= set(page.texts)
    assert {"2 missing", "3 files missing, 4.00 kB"} <= set(page.texts)


def test_a_damaged_history_is_told_and_the_rest_goes_on():
    page = page_of(history_damaged=True, past=())
    assert "The history is damaged" in page.text
    assert "Use this mirror" in page.texts


JUNK = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers(), max_size=2)
FIGURES = (
    "seconds",
    "updated",
    "removed",
    "failed",
    "files",
    "bytes",
    "stored_bytes",
    "fetched_so_far",
    "slowest",
    "error",
)
MOMENTS = st.floats(min_value=0, max_value=4e9)


@given(
    st.lists(
        st.builds(
            lambda figures, started, finished: {**figures, "started": started, "finished": finished, "exit_status": 0},
            st.dictionaries(st.sampled_from(FIGURES), JUNK),
            MOMENTS,
            st.none() | MOMENTS,
        ),
        max_size=4,
    )
)
@example([{"bytes": 1, "seconds": 1e-320, "started": 0.0, "finished": 1.0, "exit_status": 0}])
def test_no_history_whatever_its_figures_keeps_the_page_from_being_written(past):
    page_of(past=tuple(past))
    facts_of(past=tuple(past))


def test_the_configuration_for_installers_names_the_public_address_and_trusts_a_host_without_tls():
    page = page_of()
    assert "pip config set global.index-url https://mirror.example.com/simple/" in page.texts
    assert 'url = "https://mirror.example.com/simple/"' in page.text
    plain = page_of(Place("https://pypi.example.com", "http://10.0.0.1:8080"))
    assert "pip config set global.trusted-host 10.0.0.1:8080" in plain.text
    assert "ADDRESS is what" in page_of(Place("https://pypi.example.com", None)).text


def test_the_page_has_one_heading_of_the_first_rank_none_left_out_and_every_table_its_scopes():
    page = with_words("word")
    ranks = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert (ranks[0], ranks.count(1)) == (1, 1)
    assert all(later - earlier <= 1 for earlier, later in pairwise(ranks))
    scopes = [attributes.get("scope") for tag, attributes in page.elements if tag == "th"]
    assert set(scopes) == {"col", "row"}
    assert ("html", {"lang": "en"}) in page.elements
    assert all(attributes.get("aria-label") for tag, attributes in page.elements if tag == "svg")


def test_the_json_beside_the_page_has_its_figures_and_not_the_mirrors_directory():
    facts = facts_of(past=(RUN,), failing=1, failures=(Failure("six", "no", NOW),))
    assert "directory" not in facts
    assert facts["failures"] == [{"name": "six", "reason": "no", "next_try": "2023-11-14T22:13:20Z"}]
    assert facts["runs"][0]["finished"] == "2023-11-14T22:12:50Z"
    assert facts["trends"]["stored_bytes"] == [{"at": "2023-11-14T22:12:50Z", "value": 6_000_000}]
    assert facts["trends"]["bytes_per_second"][0]["value"] == 200
