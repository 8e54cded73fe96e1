"""Bad files and bad pages: each is left out alone, named with its reason, and mended by a later run."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.conftest import Mirror, Result
from tests.fakes import faults
from tests.fakes.index import FakeIndex
from tests.fakes.pages import HTML_TYPE, JSON_TYPE
from tests.tree import check_tree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Recorder
    from tests.fakes.faults import Fault

METADATA = b"Metadata-Version: 2.1\nName: some\nVersion: 1.0\n"


def page_of(mirror: Mirror, project: str) -> dict[str, Any]:
    (path,) = (mirror.web / "simple").glob(f"*/{project}.v1_json")
    document: dict[str, Any] = json.loads(path.read_bytes())
    return document


def pages_at_rest(mirror: Mirror) -> dict[str, tuple[int, int]]:
    """Inode and time of every page: one that is written again has another."""
    paths = (mirror.web / "simple").glob("*/*")
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in paths}


def add_whole_project(index: FakeIndex) -> None:
    """A project that is whole, and stays so."""
    index.add_file("aaa", "aaa-1.0-py3-none-any.whl", metadata=METADATA)


# Bad files -------------------------------------------------------------------------------------------------

SPOILT_BODIES = {
    "other-bytes": (faults.wrong_content(), "wrong sha256: [0-9a-f]{64}, expected [0-9a-f]{64}"),
    "too-short": (faults.body(b"short"), "wrong size: 5 bytes, expected"),
    "too-long": (faults.extra(), "larger than allowed"),
    "empty": (faults.body(b""), "wrong size: 0 bytes"),
    "a-friendly-page": (faults.html_instead(), "larger than allowed|wrong size"),
    "packed-on-the-way": (faults.encoded(), "larger than allowed|wrong size|wrong sha256"),
    "not-found": (faults.status(404), "HTTP status 404"),
    "forbidden": (faults.status(403), "HTTP status 403"),
    "gone": (faults.status(410), "HTTP status 410"),
    "part-unasked": (faults.status(206, body=b"part"), "wrong size|206"),
    "no-content": (faults.status(204), "wrong size|204"),
    "not-modified": (faults.status(304), "HTTP status 304"),
}
SPOILT_ENTRIES: dict[str, tuple[dict[str, Any], str]] = {
    "size-less": ({"size": 3}, "larger than allowed|wrong size"),
    "size-more": ({"size": 3000}, r"wrong size: \d+ bytes, expected 3000"),
    "size-negative": ({"size": -1}, "size that is no number of bytes: -1"),
    "size-text": ({"size": "17"}, "size that is no number of bytes: '17'"),
    "size-fraction": ({"size": 17.5}, "size that is no number of bytes: 17.5"),
    "size-huge": ({"size": 1 << 63}, "size that is no number of bytes"),
    "hash-none": ({"hashes": {}}, "no sha256"),
    "hash-null": ({"hashes": None}, "no sha256"),
    "hash-list": ({"hashes": ["sha256"]}, "no sha256"),
    "hash-md5": ({"hashes": {"md5": "0" * 32}}, "no sha256"),
    "hash-sha512": ({"hashes": {"sha512": "0" * 128}}, "no sha256"),
    "hash-short": ({"hashes": {"sha256": "0" * 63}}, "sha256 that is none"),
    "hash-path": ({"hashes": {"sha256": "../" * 21 + "x"}}, "sha256 that is none"),
    "hash-number": ({"hashes": {"sha256": 5}}, "sha256 that is none"),
    "hash-other": ({"hashes": {"sha256": "0" * 64}}, "wrong sha256"),
    "name-null": ({"filename": None}, "not a file name"),
    "name-number": ({"filename": 5}, "not a file name"),
    "name-empty": ({"filename": ""}, "not a file name"),
    "name-dot": ({"filename": "."}, "begins with a dot"),
    "name-dots": ({"filename": ".."}, "begins with a dot"),
    "name-hidden": ({"filename": ".htaccess"}, "begins with a dot"),
    "name-upwards": ({"filename": "../../../../evil-1.0.tar.gz"}, "separator"),
    "name-absolute": ({"filename": "/evil-1.0.tar.gz"}, "separator"),
    "name-backslash": ({"filename": "..\\evil-1.0.tar.gz"}, "separator"),
    "name-nul": ({"filename": "evil-1.0.tar.gz\0"}, "control character"),
    "name-newline": ({"filename": "evil\n-1.0.tar.gz"}, "control character"),
    "name-long": ({"filename": "e" * 256}, "more than 255 bytes"),
    "name-metadata": ({"filename": "evil-1.0.whl.metadata"}, "kept for core metadata"),
    "url-null": ({"url": None}, "url that is none"),
    "url-empty": ({"url": ""}, "url that is none"),
    "url-file": ({"url": "file:///etc/hostname"}, "not http or https"),
    "url-ftp": ({"url": "ftp://127.0.0.1/evil-1.0.tar.gz"}, "not http or https"),
    "url-script": ({"url": "javascript:alert(1)"}, "not http or https"),
    "url-user": ({"url": "http://me:pw@127.0.0.1:1/packages/evil"}, "user or a password"),
    "url-no-host": ({"url": "http:///packages/evil"}, "url"),
    "url-half-host": ({"url": "http://[::1/packages/evil"}, "url"),
    "url-upwards": ({"url": "../../../../../../etc/hostname"}, "url|HTTP status 404"),
    "url-dots": ({"url": "/packages/../../etc/hostname"}, "url|HTTP status 404"),
    "url-encoded-dots": ({"url": "/packages/%2e%2e/%2e%2e/etc/hostname"}, "leaves its place|HTTP status 404"),
    "url-encoded-slashes": ({"url": "/packages/..%2f..%2fetc%2fhostname"}, "leaves its place"),
    "url-encoded-slash": ({"url": "/packages/%2Fetc%2Fhostname"}, "leaves its place"),
    "url-backslash": ({"url": "/packages\\..\\..\\evil-1.0.tar.gz"}, "url"),
    "url-encoded-backslash": ({"url": "/packages/%5c%2e%2e%5cevil-1.0.tar.gz"}, "leaves its place"),
    "url-encoded-nul": ({"url": "/packages/evil%00-1.0.tar.gz"}, "leaves its place"),
    "url-twice-encoded": ({"url": "/packages/%252e%252e%252fetc/hostname"}, "HTTP status 404"),
    "url-control": ({"url": "/packages/evil\r\nX-Header: 1"}, "control character"),
    "url-long": ({"url": "/packages/" + "x" * 9000}, "more than 8192 characters"),
    "url-number": ({"url": 5}, "url that is none"),
}
SPOILT = [*SPOILT_BODIES, *SPOILT_ENTRIES]


class Spoilt(NamedTuple):
    """A run over an upstream with every bad file, one project each, and the run after the upstream was mended."""

    result: Result
    log: str
    problems: list[str]
    around: list[str]  # what lies in and around the mirror's directory
    asked: list[str]
    mended: Result
    mended_problems: list[str]
    mended_asked: list[str]
    expected: list[str]  # what the second run had to ask for


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spoilt]:
    home = tmp_path_factory.mktemp("around") / "home"
    home.mkdir()
    with FakeIndex() as index:
        mirror = Mirror(home, index.url)
        bad = {}
        add_whole_project(index)
        for project in SPOILT:
            index.add_file(project, f"{project}-1.0.tar.gz")
            keys = SPOILT_ENTRIES.get(project, ({}, ""))[0]
            bad[project] = index.add_file(project, f"{project}-2.0.tar.gz", keys=keys)
        for project, (fault, _) in SPOILT_BODIES.items():
            index.fault(bad[project].path, fault)
        index.fault("/simple/*", faults.alter(restore_nulls))
        result = mirror.run()
        log = (mirror.directory / ".fastmirror/log/fastmirror.log").read_text()
        problems = check_tree(mirror.web, "hashed", index, absent={file.filename for file in bad.values()})
        around = sorted(path.name for folder in (home, home.parent, mirror.directory) for path in folder.iterdir())
        asked = index.paths()
        index.clear_requests()
        index.clear_faults()
        for project in SPOILT_ENTRIES:
            index.set_file(project, f"{project}-2.0", keys={})
        mended = mirror.run()
        mended_problems = check_tree(mirror.web, "hashed", index)
        expected = sorted(file.path for file in bad.values())
        yield Spoilt(result, log, problems, around, asked, mended, mended_problems, index.paths("/packages/"), expected)
        mirror.close()


def restore_nulls(document: dict[str, Any]) -> None:
    """The catalogue leaves out a key whose value is to be null; here it is given."""
    for entry in document.get("files", ()):
        for key in ("filename", "url", "hashes"):
            entry.setdefault(key, None)


@pytest.mark.case(32, 34, 38, 40, 42)
def test_bad_files_are_left_out_and_everything_else_is_published_with_exit_1(spoilt: Spoilt) -> None:
    assert (spoilt.result.status, spoilt.result.stderr) == (1, "")
    assert spoilt.problems == []
    assert f"projects: 1 updated, 0 removed, {len(SPOILT)} partial, 0 failed" in spoilt.result.stdout


@pytest.mark.case(32, 34, 38, 40, 42)
@pytest.mark.parametrize("project", SPOILT)
def test_a_bad_file_is_named_with_its_reason(spoilt: Spoilt, project: str, record_property: Recorder) -> None:
    reason = (SPOILT_BODIES | SPOILT_ENTRIES)[project][1]
    said = re.search(f" {project}: partial: (.*({reason}).*)", spoilt.log)
    assert said
    record_property("fault", f"file, {project}: left out of its page, the rest published: {said[1]}")


def test_the_summary_names_failures_and_says_where_the_others_are(spoilt: Spoilt) -> None:
    lines = spoilt.result.stdout.splitlines()
    assert len([line for line in lines if re.match(r"  [a-z0-9-]+: .+ \(next try ", line)]) == 10
    assert f"  … and {len(SPOILT) - 10} more: fastmirror status" in lines
    assert lines[-1] == f"not complete: {len(SPOILT)} partial"


@pytest.mark.case(40)
def test_nothing_is_written_outside_the_mirror(spoilt: Spoilt) -> None:
    assert spoilt.around == [".fastmirror", ".lock", "generation", "home", "mirror", "status", "web"]


@pytest.mark.case(40)
def test_what_is_refused_is_not_asked_for(spoilt: Spoilt) -> None:
    elsewhere = [path for path in spoilt.asked if not path.startswith(("/simple/", "/packages/"))]
    assert set(elsewhere) <= {"/etc/hostname"}  # of the index itself, which has none


@pytest.mark.case(32, 42)
def test_the_next_run_mends_all_and_asks_for_those_files_only(spoilt: Spoilt) -> None:
    assert (spoilt.mended.status, spoilt.mended.stderr) == (0, "")
    assert spoilt.mended_problems == []
    assert sorted(spoilt.mended_asked) == spoilt.expected


@pytest.mark.case(25)
def test_the_first_of_two_entries_with_one_name_stands(mirror: Mirror, index: FakeIndex) -> None:
    index.add_file("six", "six-1.0.tar.gz")
    other = index.add_file("other", "other-1.0.tar.gz")

    def repeat(document: dict[str, Any]) -> None:
        first = document["files"][0]
        document["files"].append({**first, "url": other.path, "hashes": {"sha256": other.sha256}})

    index.fault("/simple/six/", faults.alter(repeat))
    assert mirror.run().status == 1
    assert mirror.failures() == {"six": "six-1.0.tar.gz: listed twice"}
    assert check_tree(mirror.web, "hashed", index) == []


@pytest.mark.case(36)
@pytest.mark.parametrize("fault", [faults.status(404), faults.wrong_content()], ids=["404", "other-bytes"])
def test_core_metadata_that_is_bad_is_not_offered_and_mended_later(
    mirror: Mirror, index: FakeIndex, fault: Fault
) -> None:
    file = index.add_file("six", "six-1.0-py3-none-any.whl", metadata=METADATA)
    index.fault(f"{file.path}.metadata", fault)
    assert mirror.run().status == 1
    assert mirror.failures()["six"].startswith(f"{file.filename}.metadata: ")
    assert page_of(mirror, "six")["files"][0]["core-metadata"] is False
    assert [path.name for path in mirror.web.rglob("six-1.0*")] == [file.filename]
    assert "data-core-metadata" not in next(mirror.web.rglob("six.html")).read_text()
    index.clear_faults()
    index.clear_requests()
    assert mirror.run().status == 0
    assert check_tree(mirror.web, "hashed", index) == []
    assert index.paths("/packages/") == [f"{file.path}.metadata"]


@pytest.mark.case(36)
def test_core_metadata_offered_without_a_hash_is_offered_with_ours(mirror: Mirror, index: FakeIndex) -> None:
    keys = {"core-metadata": True, "data-dist-info-metadata": True}
    index.add_file("six", "six-1.0-py3-none-any.whl", metadata=METADATA, keys=keys)
    assert mirror.run().status == 0
    assert check_tree(mirror.web, "hashed", index) == []


@pytest.mark.case(38)
def test_with_unhashed_accept_another_strong_digest_holds_and_a_weak_or_wrong_one_does_not(
    mirror: Mirror, index: FakeIndex
) -> None:
    content = b"content"
    right, weak = hashlib.sha512(content).hexdigest(), hashlib.md5(content).hexdigest()
    for project, hashes in {"right": {"sha512": right}, "wrong": {"sha512": "0" * 128}, "weak": {"md5": weak}}.items():
        filename = f"{project}-1.0.tar.gz"  # at a path that says nothing of its content
        index.add_file(project, filename, content=content, path=f"/packages/{filename}", keys={"hashes": hashes})
    assert mirror.run().status == 1
    assert set(mirror.failures().values()) == {f"{p}-1.0.tar.gz: no sha256" for p in ("right", "wrong", "weak")}
    assert mirror.run("--retry-failed", set={"unhashed": "accept"}).status == 1
    reasons = mirror.failures()
    assert sorted(reasons) == ["weak", "wrong"]
    assert "wrong sha512" in reasons["wrong"]
    assert check_tree(mirror.web, "hashed", index, absent={"wrong-1.0.tar.gz", "weak-1.0.tar.gz"}) == []
    assert page_of(mirror, "right")["files"][0]["hashes"] == {
        "sha256": hashlib.sha256(content).hexdigest(),
        "sha512": right,
    }


@pytest.mark.case(38)
def test_with_unhashed_accept_the_digest_that_pypi_makes_its_paths_of_holds(mirror: Mirror, index: FakeIndex) -> None:
    unhashed: dict[str, Any] = {"content": b"content", "keys": {"hashes": {}}}
    index.add_file("placed", "placed-1.0.tar.gz", **unhashed)
    index.add_file(
        "elsewhere", "elsewhere-1.0.tar.gz", path=f"/packages/00/00/{'0' * 60}/elsewhere-1.0.tar.gz", **unhashed
    )
    assert mirror.run().status == 1
    assert set(mirror.failures().values()) == {f"{p}-1.0.tar.gz: no sha256" for p in ("placed", "elsewhere")}
    assert mirror.run("--retry-failed", set={"unhashed": "accept"}).status == 1
    assert mirror.failures().keys() == {"elsewhere"}
    assert "wrong blake2b_256" in mirror.failures()["elsewhere"]
    assert check_tree(mirror.web, "hashed", index, absent={"elsewhere-1.0.tar.gz"}) == []
    assert page_of(mirror, "placed")["files"][0]["hashes"] == {"sha256": hashlib.sha256(b"content").hexdigest()}


@pytest.mark.case(25)
def test_two_projects_with_a_file_of_one_name_have_both(mirror: Mirror, index: FakeIndex) -> None:
    for number, project in enumerate(("one", "two")):
        digits = f"{number}" * 60
        path = f"/packages/ab/cd/{digits}/same-1.0.tar.gz"
        index.add_file(project, "same-1.0.tar.gz", content=project.encode(), path=path)
    assert mirror.run().status == 0
    assert check_tree(mirror.web, "hashed", index) == []


@pytest.mark.case(25)
def test_no_project_touches_the_file_of_another(mirror: Mirror, index: FakeIndex) -> None:
    mirror.settings["layout"] = "flat"
    good = index.add_file("good", "same-1.0.tar.gz", content=b"good")
    assert mirror.run().status == 0
    index.add_file("evil", "same-1.0.tar.gz", content=b"evil", path=f"/packages/elsewhere{good.path}")
    assert mirror.run().status == 1
    assert mirror.failures() == {"evil": "same-1.0.tar.gz: its name is taken by another file"}
    (at_rest,) = mirror.web.rglob("same-1.0.tar.gz")
    assert at_rest.read_bytes() == b"good"
    assert len(json.loads((mirror.web / "simple/good/index.v1_json").read_bytes())["files"]) == 1


def test_a_stored_good_copy_stays_while_upstreams_goes_bad(mirror: Mirror, index: FakeIndex) -> None:
    file = index.add_file("six", "six-1.0-py3-none-any.whl", metadata=METADATA)
    assert mirror.run().status == 0
    index.fault("/packages/*", faults.status(404))
    index.touch("six")
    index.clear_requests()
    assert mirror.run().status == 0
    assert mirror.run("--force-check").status == 0
    assert index.paths("/packages/") == []
    assert check_tree(mirror.web, "hashed", index) == []
    assert file.filename in {path.name for path in mirror.web.rglob("*")}


def test_a_stored_good_copy_survives_an_entry_that_cannot_be_used_for_a_while(mirror: Mirror, index: FakeIndex) -> None:
    mirror.settings["delete-grace"] = "0"
    file = index.add_file("six", "six-1.0.tar.gz")
    assert mirror.run().status == 0
    index.set_file("six", "six-1.0", keys={"hashes": {"md5": "0" * 32}})
    assert mirror.run().status == 1
    assert mirror.run().status == 1
    index.set_file("six", "six-1.0", keys={})
    index.clear_requests()
    assert mirror.run().status == 0
    assert index.paths("/packages/") == []
    assert check_tree(mirror.web, "hashed", index) == []
    assert [path.read_bytes() for path in mirror.web.rglob("six-1.0.tar.gz")] == [file.content]


# Later tries -----------------------------------------------------------------------------------------------


def wait_of(status: dict[str, Any]) -> float:
    """Seconds from the end of the last run to the next try of the one failing project."""
    (failure,) = status["failures"]
    finished = datetime.fromisoformat(status["last_run"]["finished"])
    return (datetime.fromisoformat(failure["next_try"]) - finished).total_seconds()


def test_a_project_that_keeps_failing_is_tried_less_and_less_often(mirror: Mirror, index: FakeIndex) -> None:
    add_whole_project(index)
    file = index.add_file("six", "six-1.0.tar.gz")
    index.fault(file.path, faults.status(403))

    def asked(*options: str) -> bool:
        index.clear_requests()
        assert mirror.run(*options).status == 1
        return file.path in index.paths()

    assert asked()
    waits = [wait_of(mirror.status())]
    assert asked()  # by the very next run
    waits.append(wait_of(mirror.status()))
    assert not asked()  # the one after that waits
    assert asked("--retry-failed")
    waits.append(wait_of(mirror.status()))
    assert waits[0] < 60 < waits[1] < waits[2]
    assert not asked()
    index.touch("six")
    assert asked()  # a new serial is reason enough, and begins the waits anew
    assert asked()
    assert not asked()
    index.clear_faults()
    assert mirror.run("--retry-failed").status == 0
    assert mirror.status()["failures"] == []
    assert check_tree(mirror.web, "hashed", index) == []


# Bad pages -------------------------------------------------------------------------------------------------


def changed(**keys: Any) -> Fault:
    return faults.alter(lambda document: {**document, **{key.replace("_", "-"): value for key, value in keys.items()}})


def without(key: str) -> Fault:
    return faults.alter(lambda document: {name: value for name, value in document.items() if name != key})


BAD_PAGES = {
    "of-another": (changed(name="six"), "page of another project .*'six'"),
    "name-missing": (without("name"), "without a proper name"),
    "name-null": (changed(name=None), "without a proper name"),
    "name-upwards": (changed(name="../six"), "without a proper name"),
    "no-json": (faults.body(b"<html>", JSON_TYPE), "invalid JSON"),
    "cut-json": (faults.body(b'{"meta":{"api-version":"1.4"},"name":"cut-json","files":[{', JSON_TYPE), "invalid JSON"),
    "empty": (faults.body(b"", JSON_TYPE), "invalid JSON"),
    "utf-16": (faults.body('{"files": []}'.encode("utf-16"), JSON_TYPE), "invalid JSON"),
    "deep": (faults.body(b"[" * 100_000, JSON_TYPE), "invalid JSON"),
    "a-list": (faults.body(b"[]", JSON_TYPE), "not a JSON object"),
    "files-missing": (without("files"), "without a list of files"),
    "files-null": (changed(files=None), "without a list of files"),
    "files-object": (changed(files={"six-1.0.tar.gz": {}}), "without a list of files"),
    "meta-list": (changed(meta=[]), "meta that is no object"),
    "version-2": (changed(meta={"api-version": "2.0"}), "unknown major api-version '2.0'"),
    "version-number": (changed(meta={"api-version": 2}), "unknown major api-version"),
    "not-found": (faults.status(404), "404"),
    "forbidden": (faults.status(403), "HTTP status 403"),
    "a-friendly-page": (faults.html_instead(), "not in this upstream's format: 'text/html"),
    "html": (faults.header("Content-Type", HTML_TYPE), "not in this upstream's format: 'text/html"),
    "no-type": (faults.header("Content-Type", None), "not in this upstream's format"),
}


class BadPages(NamedTuple):
    """A run that meets every bad page, on projects that it held and that have a new file."""

    result: Result
    reasons: dict[str, str]
    before: dict[str, tuple[int, int]]
    after: dict[str, tuple[int, int]]
    problems: list[str]
    root_names: list[str]
    mended: Result
    mended_problems: list[str]


@pytest.fixture(scope="module")
def bad_pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BadPages]:
    with FakeIndex() as index:
        mirror = Mirror(tmp_path_factory.mktemp("home"), index.url)
        add_whole_project(index)
        for project in (*BAD_PAGES, "well"):
            index.add_file(project, f"{project}-1.0.tar.gz")
        assert mirror.run().status == 0
        before = pages_at_rest(mirror)
        for project in (*BAD_PAGES, "well"):
            index.add_file(project, f"{project}-2.0.tar.gz")
        for project, (fault, _) in BAD_PAGES.items():
            index.fault(f"/simple/{project}/", fault)
        result = mirror.run()
        reasons = mirror.failures()
        after = pages_at_rest(mirror)
        problems = check_tree(mirror.web, "hashed")
        root = json.loads((mirror.web / "simple/index.v1_json").read_bytes())
        index.clear_faults()
        mended = mirror.run()
        mended_problems = check_tree(mirror.web, "hashed", index)
        names = [project["name"] for project in root["projects"]]
        yield BadPages(result, reasons, before, after, problems, names, mended, mended_problems)
        mirror.close()


def test_bad_pages_fail_their_projects_alone_with_exit_1(bad_pages: BadPages) -> None:
    assert (bad_pages.result.status, bad_pages.result.stderr) == (1, "")
    assert bad_pages.problems == []
    assert bad_pages.after["well.v1_json"] != bad_pages.before["well.v1_json"]
    assert bad_pages.root_names == sorted([*BAD_PAGES, "aaa", "well"])


@pytest.mark.case(9)
@pytest.mark.parametrize("project", BAD_PAGES)
def test_a_bad_page_is_named_with_its_reason_and_the_old_one_stays(
    bad_pages: BadPages, project: str, record_property: Recorder
) -> None:
    assert re.search(BAD_PAGES[project][1], bad_pages.reasons[project])
    record_property("fault", f"page, {project}: the old one stays: {bad_pages.reasons[project]}")
    for page in (f"{project}.v1_json", f"{project}.html"):
        assert bad_pages.after[page] == bad_pages.before[page]


def test_the_run_after_bad_pages_mends_all(bad_pages: BadPages) -> None:
    assert (bad_pages.mended.status, bad_pages.mended.stderr) == (0, "")
    assert bad_pages.mended_problems == []


@pytest.mark.case(12)
def test_a_listed_project_without_a_page_is_asked_for_again_by_the_next_run(mirror: Mirror, index: FakeIndex) -> None:
    add_whole_project(index)
    index.add_file("late", "late-1.0.tar.gz")
    index.fault("/simple/late/", faults.status(404))
    assert mirror.run().status in {0, 1}
    index.clear_faults()
    assert mirror.run().status == 0
    assert check_tree(mirror.web, "hashed", index) == []


NO_LINKS = {
    "a-friendly-page": faults.html_instead(),
    "links-without-hashes": faults.alter_files(hashes={}),
    "no-links": faults.alter(lambda document: {**document, "files": []}),
}


@pytest.mark.case(23)
@pytest.mark.parametrize("case", NO_LINKS)
def test_an_html_page_without_a_hashed_link_removes_nothing(
    mirror: Mirror, index: FakeIndex, case: str, record_property: Recorder
) -> None:
    record_property("fault", f"HTML page, {case}: the old one stays, no file is removed")
    index.dialect = "html"
    add_whole_project(index)
    index.add_file("six", "six-1.0.tar.gz")
    assert mirror.run(set={"delete-grace": "0"}).status == 0
    before = pages_at_rest(mirror)
    index.fault("/simple/six/", NO_LINKS[case])
    assert mirror.run(set={"delete-grace": "0"}).status == 1
    assert "no hashed link" in mirror.failures()["six"]
    assert pages_at_rest(mirror) == before
    index.clear_faults()
    index.clear_requests()
    assert mirror.run().status == 0
    assert index.paths("/packages/") == []
    assert check_tree(mirror.web, "hashed", index) == []
