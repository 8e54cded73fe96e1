"""Filters at work on pages: what a project's page keeps, and what becomes of a project of which nothing is left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fastmirror.filetree import FileTree
from fastmirror.filters import Filters, FilterSettings, Listing
from fastmirror.layout import Layout, Tree
from fastmirror.model import Demand, Known, Outcome, ProjectJob, Share
from fastmirror.names import NormalizedName
from fastmirror.pages import Context
from fastmirror.schema import RecordedJob
from fastmirror.settings_file import parse_settings
from fastmirror.state import State
from fastmirror.upstream import Dialect
from fastmirror.worker import Assembly, Workshop
from tests.fakes import faults

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.fakes.index import FakeIndex

SIX = NormalizedName("six")


class Chosen(Filters):
    """A filter by versions and by the document, as a third party would write it."""

    def __init__(
        self,
        versions: set[str] | None = None,
        wants: Callable[[Mapping[str, Any] | None], bool] | None = None,
    ) -> None:
        super().__init__(FilterSettings())
        self._versions = versions
        self._wants = wants
        self.needs_document = wants is not None
        self.seen: list[Listing] = []

    def narrow(self, listing: Listing) -> Listing | None:
        self.seen.append(listing)
        if self._wants is not None and not self._wants(listing.document):
            return None
        chosen = self._versions
        if chosen is None:
            return listing
        return listing._replace(
            files=[file for file in listing.files if file.filename.split("-")[1].removesuffix(".tar.gz") in chosen],
            versions=None
            if listing.versions is None
            else [version for version in listing.versions if version in chosen],
        )

    def digest(self, name: NormalizedName, demand: Demand | None = None) -> str:
        return f"{name} {self._versions} {self._wants is not None}"


class Bench:
    """A worker over a directory and an upstream, with these filters."""

    def __init__(self, directory: Path, index: FakeIndex) -> None:
        overrides = {"directory": str(directory), "master": index.url, "allow-non-https": "true", "timeout": "5"}
        storage = FileTree(str(directory), None, durable=False)
        storage.prepare()
        storage.close()
        settings = parse_settings(None, overrides=overrides)
        self.context = Context(
            settings, Dialect.JSON, Tree(Layout.HASHED, hash_index=False), "s", clean=True, debug=False, plan_only=False
        )

    def one(self, filters: Filters, known: Known | None = None, **fields: Any) -> Outcome:
        workshop = Workshop(self.context)
        workshop._bench = workshop._bench._replace(filters=filters)
        workshop.set_share(Share(4, 16, None, 0.0))
        assembly: Assembly | None = None
        outcome: Outcome | None = None
        facts = {"serial": None, "wanted": False, "force": False} | fields
        try:
            workshop.accept([ProjectJob(SIX, known=known, **facts)])
            while workshop.unanswered:
                for answer in workshop.poll(5.0):
                    if isinstance(answer, Outcome):
                        outcome = answer
                    elif assembly is None:
                        assembly = Assembly(answer)  # type: ignore[arg-type]
                        workshop.accept(answer.pieces)  # type: ignore[union-attr]
                    elif job := assembly.add(answer):  # type: ignore[arg-type]
                        workshop.accept([job])
        finally:
            workshop.close()
        assert outcome is not None
        return outcome


@pytest.fixture
def bench(tmp_path: Path, index: FakeIndex) -> Bench:
    for minor in (0, 1, 2):
        index.add_file("six", f"six-1.{minor}.tar.gz")
    return Bench(tmp_path / "mirror", index)


def known(outcome: Outcome) -> Known:
    return Known(
        outcome.serial, outcome.etag, outcome.upstream_digest, outcome.page_digest, outcome.settings_digest,
        outcome.files or b"", outcome.status, 0,
    )  # fmt: skip


def document(outcome: Outcome) -> dict[str, Any]:
    staged = {final: path for page in outcome.pages for path, final in zip(page.staged, page.final, strict=True)}
    (path,) = (path for final, path in staged.items() if final.endswith(".v1_json"))
    page: dict[str, Any] = json.loads(Path(path).read_bytes())
    return page


def listed(outcome: Outcome) -> list[str]:
    return [entry["filename"] for entry in document(outcome)["files"]]


def test_a_page_keeps_the_files_and_versions_that_filters_let_pass(bench: Bench, index: FakeIndex) -> None:
    outcome = bench.one(Chosen({"1.1"}))
    assert outcome.status == "published"
    assert (listed(outcome), document(outcome)["versions"]) == (["six-1.1.tar.gz"], ["1.1"])
    assert [path.rpartition("/")[2] for path in index.paths("/packages/")] == ["six-1.1.tar.gz"]


def test_the_row_says_what_narrowed_it_and_another_filter_plans_the_page_anew(bench: Bench, index: FakeIndex) -> None:
    two = bench.one(Chosen({"1.0", "1.1"}))
    assert two.settings_digest == Chosen({"1.0", "1.1"}).shape("s", SIX) != "s"
    again = bench.one(Chosen({"1.0", "1.1"}), known(two))
    assert (again.status, index.requests[-1].status) == ("unchanged", 304)
    one = bench.one(Chosen({"1.1"}), known(two))
    assert (one.status, listed(one)) == ("published", ["six-1.1.tar.gz"])
    assert [path.rpartition("/")[2] for path in one.dropped] == ["six-1.0.tar.gz"]
    assert len(index.paths("/packages/")) == 2


def test_an_entry_that_filters_would_not_have_is_no_failure_if_it_cannot_be_mirrored(
    bench: Bench, index: FakeIndex
) -> None:
    index.set_file("six", "six-1.0", keys={"hashes": {}})
    assert bench.one(Chosen({"1.1", "1.2"})).status == "published"
    assert bench.one(Chosen({"1.0"})).status == "partial"


def test_a_project_of_which_nothing_is_left_is_skipped_and_recorded(bench: Bench, index: FakeIndex) -> None:
    state = index.project("six")
    assert state is not None
    outcome = bench.one(Chosen(wants=lambda _: False))
    assert (outcome.status, outcome.serial, outcome.pages) == ("skipped", state.serial, ())
    assert outcome.settings_digest == Chosen(wants=lambda _: False).shape("s", SIX)
    assert index.paths("/packages/") == []


def test_a_skipped_project_is_known_by_its_serial_but_neither_listed_nor_failing(bench: Bench, tmp_path: Path) -> None:
    outcome = bench.one(Chosen(wants=lambda _: False))
    state = State(str(tmp_path / "state.sqlite"))
    with state.transaction():
        state.record([(outcome, RecordedJob(wanted=False, forced=False, tries=2, expected=None))], 1.0, 1)
    assert list(state.every_serial()) == [(SIX, outcome.serial)]
    assert (list(state.listed()), state.count_failing(), state.totals().projects) == ([], 0, 0)
    held = state.known([SIX])[SIX]
    state.close()
    assert bench.one(Chosen(wants=lambda _: False), held).status == "skipped"
    assert bench.one(Chosen(wants=lambda _: True), held).status == "published"


def test_one_that_was_published_is_to_go(bench: Bench) -> None:
    before = bench.one(Chosen())
    outcome = bench.one(Chosen(wants=lambda _: False), known(before))
    assert outcome.status == "denied"


def test_a_filter_that_needs_the_document_gets_it_in_the_same_pass(bench: Bench, index: FakeIndex) -> None:
    filters = Chosen(wants=lambda document: document is not None and document["info"]["name"] == "six")
    assert bench.one(filters).status == "published"
    assert index.paths("/pypi/") == ["/pypi/six/json"]
    assert [listing.document is None for listing in filters.seen] == [False]


def test_without_a_filter_that_needs_it_no_document_is_asked_for(bench: Bench, index: FakeIndex) -> None:
    assert bench.one(Chosen({"1.0"})).status == "published"
    assert index.paths("/pypi/") == []


def test_a_project_without_a_document_is_narrowed_without_one(bench: Bench, index: FakeIndex) -> None:
    index.legacy = False
    assert bench.one(Chosen(wants=lambda document: document is None)).status == "published"


@pytest.mark.parametrize("fault", [faults.status(403), faults.body(b"{")])
def test_no_filter_decides_without_a_document_that_could_not_be_read(
    bench: Bench, index: FakeIndex, fault: faults.Fault
) -> None:
    before = bench.one(Chosen())
    index.fault("/pypi/six/json", fault)
    outcome = bench.one(Chosen(wants=lambda _: False), known(before))
    assert outcome.status == "failed"
    assert outcome.reason.startswith("legacy JSON: ")


def test_a_project_fetched_in_pieces_is_narrowed_when_they_are_back(bench: Bench, index: FakeIndex) -> None:
    for minor in range(3, 80):
        index.add_file("six", f"six-1.{minor}.tar.gz")
    outcome = bench.one(Chosen({f"1.{minor}" for minor in range(70)}))
    assert (outcome.status, len(listed(outcome)), outcome.fetched_files) == ("published", 70, 70)


def test_an_html_page_of_which_filters_leave_no_file_is_no_failure(bench: Bench, index: FakeIndex) -> None:
    index.dialect = "html"
    bench.context = bench.context._replace(dialect=Dialect.HTML)
    before = bench.one(Chosen())
    outcome = bench.one(Chosen(set()), known(before))
    assert (outcome.status, listed(outcome), len(outcome.dropped)) == ("published", [], 3)
