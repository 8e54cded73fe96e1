"""One project's way in this process, from a real index to staged pages, over both transports."""

from __future__ import annotations

import hashlib
import json
import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

import pytest
from pypi_simple import ProjectPage

from fastmirror.filetree import FileTree
from fastmirror.layout import Layout, Tree
from fastmirror.model import FilesOutcome, Known, Outcome, ProjectJob, Share, Split, StoredFile
from fastmirror.names import NormalizedName
from fastmirror.packing import pack_files, unpack_files
from fastmirror.pages import Context
from fastmirror.planner import PIECE_BYTES
from fastmirror.settings_file import parse_settings
from fastmirror.upstream import Dialect
from fastmirror.worker import Assembly, Workshop, run_inline
from tests.fakes import faults

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fastmirror.model import Answer, Job
    from tests.fakes.index import FakeIndex

SIX = NormalizedName("six")
WHEEL = "six-1.0-py3-none-any.whl"
METADATA = b"Metadata-Version: 2.1\nName: six\nVersion: 1.0\n"


class Bench:
    """A mirror's directory, and what a worker knows."""

    def __init__(self, directory: Path, index: FakeIndex, transport: str) -> None:
        overrides = {
            "directory": str(directory),
            "master": index.url,
            "allow-non-https": "true",
            "timeout": "5",
            "transport": transport,
        }
        self.storage = FileTree(str(directory), None, durable=False)
        self.storage.prepare()
        self.context = Context(
            settings=parse_settings(None, overrides=overrides),
            dialect=Dialect.JSON,
            tree=Tree(Layout.HASHED, hash_index=False),
            settings_digest="s",
            clean=True,
            debug=False,
            plan_only=False,
        )

    def sync(self, *names: str, **fields: Any) -> dict[str, Outcome]:
        """Bring projects up to date; what became of each."""
        jobs = [job(name, **fields) for name in names or ("six",)]
        outcomes = run_inline(self.context, jobs)
        assert len(outcomes) == len(jobs)
        return {outcome.name: outcome for outcome in outcomes}

    def one(self, name: str = "six", **fields: Any) -> Outcome:
        """The same for one project."""
        return self.sync(name, **fields)[name]

    @property
    def published(self) -> dict[str, bytes]:
        """Every file below web/."""
        web = Path(self.storage.web)
        return {path.relative_to(web).as_posix(): path.read_bytes() for path in web.rglob("*") if path.is_file()}


@pytest.fixture(params=["curl", "requests"])
def bench(request: pytest.FixtureRequest, tmp_path: Path, index: FakeIndex) -> Iterator[Bench]:
    bench = Bench(tmp_path / "mirror", index, request.param)
    yield bench
    bench.storage.close()


def job(name: str = "six", **fields: Any) -> ProjectJob:
    facts: dict[str, Any] = {"serial": None, "known": None, "wanted": False, "force": False}
    return ProjectJob(NormalizedName(name), **(facts | fields))


def known(outcome: Outcome) -> Known:
    """What the state would hold after this outcome."""
    assert outcome.files is not None
    return Known(
        outcome.serial,
        outcome.etag,
        outcome.upstream_digest,
        outcome.page_digest,
        outcome.settings_digest,
        outcome.files,
        outcome.status,
        0,
    )


def staged(outcome: Outcome) -> dict[str, bytes]:
    """The staged pages by the paths that they are for."""
    return {
        final: Path(path).read_bytes()
        for page in outcome.pages
        for path, final in zip(page.staged, page.final, strict=True)
    }


def test_a_project_comes_to_rest_with_its_files_and_its_pages_are_staged(bench, index):
    file = index.add_file("six", WHEEL, metadata=METADATA, requires_python=">=3.8")
    outcome = bench.one()
    assert (outcome.status, outcome.reason, outcome.serial) == ("published", "", index.serial)
    (stored,) = unpack_files(outcome.files or b"")
    assert (stored.size, stored.sha256, stored.metadata) == (file.size, file.sha256, file.metadata_sha256)
    assert stored.mtime == pytest.approx(file.mtime, abs=1e-5)
    assert bench.published == {stored.path: file.content, f"{stored.path}.metadata": METADATA}
    assert (outcome.file_count, outcome.byte_count) == (1, file.size)
    assert (outcome.fetched_files, outcome.fetched_bytes) == (2, file.size + len(METADATA))
    assert set(staged(outcome)) == {"simple/cf/six.html", "simple/cf/six.v1_json"}


def test_the_staged_pages_name_the_files_at_rest(bench, index):
    index.add_file("six", WHEEL, metadata=METADATA)
    index.add_file("six", "six-1.0.tar.gz", yanked="broken")
    pages = staged(bench.one())
    listed = ProjectPage.from_json_data(json.loads(pages["simple/cf/six.v1_json"])).packages
    marked_up = ProjectPage.from_html("six", pages["simple/cf/six.html"].decode()).packages
    for packages in (listed, marked_up):
        assert {package.filename for package in packages} == {WHEEL, "six-1.0.tar.gz"}
        for package in packages:
            path = urljoin("http://mirror/simple/six/", package.url).partition("#")[0].removeprefix("http://mirror/")
            content = bench.published[path]
            assert package.digests == {"sha256": hashlib.sha256(content).hexdigest()}
            assert package.yanked_reason == ("broken" if package.filename.endswith(".gz") else None)
            assert bool(package.has_metadata) == (package.filename == WHEEL)


def test_nothing_is_published_before_the_parent_does(bench, index):
    index.add_file("six", WHEEL)
    bench.one()
    assert not [path for path in bench.published if path.startswith("simple/")]


def test_many_projects_each_get_an_outcome(bench, index):
    index.fill(30, seed=7)
    names = list(index.projects())
    outcomes = bench.sync(*names)
    assert set(outcomes) == set(names)
    assert {outcome.status for outcome in outcomes.values()} == {"published"}
    assert sum(outcome.file_count for outcome in outcomes.values()) == sum(
        len(project.files) for project in index.projects().values()
    )


def test_no_job_gives_no_outcome(bench):
    assert run_inline(bench.context, []) == []


def test_a_large_project_is_done_in_pieces_and_published_once(bench, index):
    for number in range(150):
        index.add_file("six", f"six-1.{number}.tar.gz")
    outcome = bench.one()
    assert (outcome.status, outcome.file_count, outcome.fetched_files) == ("published", 150, 150)
    assert len(json.loads(staged(outcome)["simple/cf/six.v1_json"])["files"]) == 150
    assert len(index.paths("/simple/six/")) == 1
    left = {path for path in Path(bench.storage.own, "staging").rglob("*") if path.is_file()}
    assert left == {Path(path) for page in outcome.pages for path in page.staged}


def test_the_last_job_of_a_large_project_can_be_done_again_by_another_worker(bench, index):
    """As where the first one dies with its answer."""
    for number in range(150):
        index.add_file("six", f"six-1.{number}.tar.gz")
    with closing(Workshop(bench.context)) as workshop:
        workshop.set_share(Share(4, 4, None, 0.0))
        (split,) = answers(workshop, [job()])
        assert isinstance(split, Split)
        assembly = Assembly(split)
        brought = [piece for piece in answers(workshop, split.pieces) if isinstance(piece, FilesOutcome)]
        last = next(filter(None, map(assembly.add, brought)))
        for _ in range(2):
            (outcome,) = answers(workshop, [last])
            assert isinstance(outcome, Outcome)
            assert (outcome.status, outcome.file_count) == ("published", 150)


def answers(workshop: Workshop, jobs: Sequence[Job]) -> list[Answer]:
    """All answers to these jobs."""
    workshop.accept(jobs)
    found: list[Answer] = []
    while len(found) < len(jobs):
        found += workshop.poll(1.0)
    return found


def test_a_bad_file_in_a_large_project_is_left_out_alone(bench, index):
    for number in range(100):
        index.add_file("six", f"six-1.{number}.tar.gz")
    index.fault("/packages/*/six-1.7.tar.gz", faults.wrong_content())
    outcome = bench.one()
    assert (outcome.status, outcome.file_count) == ("partial", 99)
    assert "six-1.7.tar.gz: wrong sha256" in outcome.reason


def test_a_project_of_which_nothing_is_known_anew_is_unchanged(bench, index):
    index.add_file("six", WHEEL)
    first = bench.one(serial=index.serial)
    index.clear_requests()
    outcome = bench.one(serial=index.serial, known=known(first))
    assert (outcome.status, outcome.serial, outcome.pages) == ("unchanged", index.serial, ())
    assert index.paths() == ["/simple/six/"]


def test_a_new_file_is_fetched_and_the_others_stay(bench, index):
    index.add_file("six", WHEEL)
    first = bench.one()
    index.add_file("six", "six-2.0.tar.gz")
    index.clear_requests()
    outcome = bench.one(serial=index.serial, known=known(first))
    assert (outcome.status, outcome.file_count, outcome.fetched_files) == ("published", 2, 1)
    assert [path.rpartition("/")[2] for path in index.paths("/packages/")] == ["six-2.0.tar.gz"]


def test_a_file_that_is_no_longer_listed_is_dropped_and_left_for_the_parent(bench, index):
    index.add_file("six", WHEEL, metadata=METADATA)
    index.add_file("six", "six-2.0.tar.gz")
    first = bench.one()
    index.remove_file("six", WHEEL)
    outcome = bench.one(known=known(first))
    (path,) = (path for path in bench.published if path.endswith(".whl"))
    assert set(outcome.dropped) == {path, f"{path}.metadata"}
    assert outcome.file_count == 1


def test_a_forced_job_hashes_what_is_stored_and_mends_it(bench, index):
    file = index.add_file("six", WHEEL, metadata=METADATA)
    first = bench.one()
    (stored,) = unpack_files(first.files or b"")
    Path(bench.storage.web, stored.path).write_bytes(b"x" * file.size)
    outcome = bench.one(known=known(first), force=True)
    assert (outcome.status, outcome.fetched_files) == ("published", 1)
    assert bench.published == {stored.path: file.content, f"{stored.path}.metadata": METADATA}


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (faults.wrong_content(), "wrong sha256"),
        (faults.status(404), "HTTP status 404"),
        (faults.status(403), "HTTP status 403"),
    ],
    ids=["wrong content", "404", "403"],
)
def test_a_bad_file_is_left_out_with_its_reason_and_the_rest_is_published(bench, index, fault, reason):
    index.add_file("six", WHEEL)
    good = index.add_file("six", "six-1.0.tar.gz")
    index.fault(f"/packages/*/{WHEEL}", fault)
    outcome = bench.one()
    assert outcome.status == "partial"
    assert WHEEL in outcome.reason
    assert reason in outcome.reason
    assert list(bench.published.values()) == [good.content]
    assert WHEEL not in staged(outcome)["simple/cf/six.html"].decode()


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (faults.body(b"{"), "invalid JSON"),
        (faults.alter(lambda page: page | {"name": "other"}), "other"),
        (faults.alter(lambda page: page | {"files": {}}), "files"),
        (faults.html_instead(), "not in this upstream's format"),
    ],
    ids=["invalid JSON", "wrong name", "files no list", "HTML"],
)
def test_a_bad_page_fails_its_project_and_no_other(bench, index, fault, reason):
    index.add_file("six", WHEEL)
    index.add_file("pip", "pip-1.0.tar.gz")
    index.fault("/simple/six/", fault)
    outcomes = bench.sync("six", "pip")
    assert outcomes["six"].status == "failed"
    assert reason in outcomes["six"].reason
    assert outcomes["six"].pages == ()
    assert outcomes["pip"].status == "published"


@pytest.mark.parametrize(("wanted", "status"), [(False, "gone"), (True, "failed")])
def test_a_project_that_upstream_does_not_have_is_gone_or_a_failure_where_it_was_asked_for(bench, wanted, status):
    assert bench.one("nothing-here", wanted=wanted).status == status


def test_a_project_that_is_gone_drops_all_that_was_stored(bench, index):
    index.add_file("six", WHEEL, metadata=METADATA)
    first = bench.one()
    index.remove_project("six")
    outcome = bench.one(known=known(first))
    assert outcome.status == "gone"
    assert set(outcome.dropped) == set(bench.published)


def test_a_project_without_files_has_pages(bench, index):
    index.add_project("six")
    outcome = bench.one()
    assert (outcome.status, outcome.file_count) == ("published", 0)
    assert json.loads(staged(outcome)["simple/cf/six.v1_json"])["files"] == []


def test_a_plan_fetches_no_file_and_stages_nothing(bench, index):
    file = index.add_file("six", WHEEL)
    bench.context = bench.context._replace(plan_only=True)
    outcome = bench.one()
    assert (outcome.fetched_files, outcome.fetched_bytes, outcome.pages) == (1, file.size, ())
    assert bench.published == {}
    assert index.paths("/packages/") == []


def test_two_projects_that_list_one_file_share_it(bench, index):
    content = b"one and the same"
    index.add_file("six", "shared-1.0.tar.gz", content=content)
    index.add_file("pip", "shared-1.0.tar.gz", content=content)
    outcomes = bench.sync("six", "pip")
    assert [outcome.status for outcome in outcomes.values()] == ["published"] * 2
    assert list(bench.published.values()) == [content]
    assert any(outcome.shared for outcome in outcomes.values())


def test_a_large_file_that_two_projects_list_is_whole(bench, index):
    """Both are fetched at once, into one partial or beside it."""
    content = bytes(range(256)) * 20_000
    names = [f"p-{number}" for number in range(8)]
    for name in names:
        index.add_file(name, "shared-1.0.tar.gz", content=content)
    outcomes = bench.sync(*names)
    assert {name: outcome.reason for name, outcome in outcomes.items()} == dict.fromkeys(names, "")
    assert set(bench.published.values()) == {content}


def test_two_projects_whose_files_have_one_name_both_keep_theirs(bench, index):
    """In the hashed layout the second one goes to its long path."""
    paths: dict[str, bytes] = {}
    for name, content in (("six", b"of six"), ("pip", b"of pip")):
        path = f"/packages/0e/f{len(paths)}/{'e' * 60}/same-1.0.tar.gz"
        paths[name] = index.add_file(name, "same-1.0.tar.gz", content=content, path=path).content
    outcomes = bench.sync("six", "pip")
    for name, content in paths.items():
        (stored,) = unpack_files(outcomes[name].files or b"")
        assert bench.published[stored.path] == content


@pytest.mark.parametrize("size", [10, 3_000_000])
@pytest.mark.parametrize("where", ["web/packages", ".fastmirror/staging"])
def test_a_disk_that_refuses_is_an_outcome_and_no_error(bench, index, where, size):
    """What stands where a directory should be stands in for a disk that does not do what it is told."""
    index.add_file("six", WHEEL, content=b"x" * size)
    directory = Path(bench.storage.web).parent / where
    shutil.rmtree(directory)
    directory.write_bytes(b"")
    outcome = bench.one()
    assert outcome.status in {"partial", "failed"}
    assert "storage: " in outcome.reason
    assert bench.published.keys() <= {"packages"}


@pytest.mark.parametrize("size", [5, PIECE_BYTES], ids=["whole", "in pieces"])
def test_a_check_that_is_to_change_nothing_gives_no_file_its_time(tmp_path: Path, index: FakeIndex, size: int) -> None:
    bench = Bench(tmp_path, index, "curl")
    storage = replace(bench.context.settings.storage, compare="stat")
    context = bench.context._replace(settings=replace(bench.context.settings, storage=storage), plan_only=True)
    files = []
    for name, length in (("six-1.0.tar.gz", 5), ("six-2.0.tar.gz", size)):
        path = Path(bench.storage.web, "packages", name)
        with path.open("wb") as stream:
            stream.truncate(length)
        with path.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        files.append(StoredFile(f"packages/{name}", length, sha256, 1e9, None))
    before = {path: path.stat().st_mtime_ns for path in Path(bench.storage.web, "packages").iterdir()}
    row = Known(1, "", "", "", "", pack_files(files), "published", 0)
    (outcome,) = run_inline(context, [job(known=row, check=True)])
    assert (outcome.status, outcome.reason) == ("intact", "")
    assert {path: path.stat().st_mtime_ns for path in before} == before
    bench.storage.close()
