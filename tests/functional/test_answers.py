"""Answers that are unusual and yet right: they are taken for what they say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.fakes import faults
from tests.published import Watch, filenames, last_run, page, page_file, problems, root, stored, succeed

if TYPE_CHECKING:
    from tests.conftest import Mirror
    from tests.fakes.faults import Fault
    from tests.fakes.index import FakeIndex

METADATA = b"Metadata-Version: 2.1\n"


def log_of(mirror: Mirror) -> str:
    return (mirror.directory / ".fastmirror/log/fastmirror.log").read_text()


# Root indexes


FORMS: dict[str, tuple[Fault, ...]] = {
    "plain": (faults.plain(),),
    "gzip": (faults.plain(), faults.encoded()),
    "chunked": (faults.chunked(7),),
    "chunked plain": (faults.plain(), faults.chunked(100)),
    "until the connection ends": (faults.no_length(),),
}


@pytest.mark.case(11)
@pytest.mark.parametrize("transport", ["curl", "requests"])
@pytest.mark.parametrize("form", FORMS)
def test_a_root_index_is_the_same_in_whatever_form_it_is_sent(
    mirror: Mirror, index: FakeIndex, transport: str, form: str
) -> None:
    index.fill(20)
    rule = index.fault("/simple/", *FORMS[form])
    succeed(mirror.run(set={"transport": transport}))
    assert rule.hits == 1
    assert problems(mirror, index) == []


@pytest.mark.case(10)
def test_a_root_index_whose_own_serial_is_below_a_projects_is_taken(mirror: Mirror, index: FakeIndex) -> None:
    index.fill(3)

    def lower(document: dict[str, Any]) -> None:
        document["meta"]["_last-serial"] = 1

    index.fault("/simple/", faults.alter(lower))
    succeed(mirror.run())
    assert problems(mirror, index) == []
    assert root(mirror)["serial"] == index.serial
    index.clear_requests()
    succeed(mirror.run())
    assert index.paths() == ["/simple/"]


# Pages


@pytest.mark.case(20)
@pytest.mark.parametrize("value", [None, "1", "soon", ""])
def test_a_pages_serial_is_that_of_its_body_whatever_its_header_says(
    mirror: Mirror, index: FakeIndex, value: str | None
) -> None:
    index.add_file("six", "six-1.0.tar.gz")
    index.fault("/simple/*", faults.header("X-PyPI-Last-Serial", value))
    succeed(mirror.run())
    assert index.paths("/simple/six/") == ["/simple/six/"]
    assert page(mirror, "six")["meta"]["_last-serial"] == index.serial


@pytest.mark.case(23)
def test_a_page_that_lists_nothing_any_more_is_followed_logged_and_taken_back_without_a_transfer(
    mirror: Mirror, index: FakeIndex
) -> None:
    """As upstream once sent by mistake: within their grace the files are still there."""
    index.add_file("six", "six-1.0-py3-none-any.whl", metadata=METADATA)
    index.add_file("six", "six-1.0.tar.gz")
    succeed(mirror.run())
    files = stored(mirror)
    index.touch("six")
    index.fault("/simple/six/", faults.alter(lambda document: {**document, "files": [], "versions": []}))
    succeed(mirror.run())
    assert filenames(mirror, "six") == []
    assert stored(mirror) == files
    assert "six: its page lists no file any more, 2 are at rest" in log_of(mirror)
    index.clear_faults()
    index.clear_requests()
    index.touch("six")
    succeed(mirror.run())
    assert index.paths("/packages/") == []
    assert problems(mirror, index) == []


@pytest.mark.case(23)
def test_pages_that_list_nothing_any_more_unlink_no_more_files_than_the_guard_allows(
    mirror: Mirror, index: FakeIndex
) -> None:
    for number in range(4):
        index.add_file(f"p{number}", f"p{number}-1.0.tar.gz")
    succeed(mirror.run())
    files = stored(mirror)
    for number in range(4):
        index.touch(f"p{number}")
    index.fault("/simple/?*", faults.alter(lambda document: {**document, "files": [], "versions": []}))
    assert mirror.run(set={"delete-grace": "0", "max-removed-files": "3"}).status == 4
    assert stored(mirror) == files


@pytest.mark.case(30)
def test_of_a_project_with_thousands_of_files_each_page_is_written_once(mirror: Mirror, index: FakeIndex) -> None:
    count = 1000
    for number in range(count):
        index.add_file("nightly", f"nightly-1.{number}.tar.gz")
    index.add_file("six", "six-1.0.tar.gz")
    mirror.settings["simple-format"] = "ALL"
    succeed(mirror.run("--project", "six"))
    page_path = page_file(mirror, "nightly")
    page_path.parent.mkdir(parents=True, exist_ok=True)
    watch = Watch([page_path.parent])
    succeed(mirror.run())
    events = [(what, name) for what, name in watch.events() if name.startswith("nightly")]
    watch.close()
    assert sorted(events) == [("put", "nightly.html"), ("put", "nightly.v1_json")]
    assert last_run(mirror)["files"] == count
    assert problems(mirror, index) == []
