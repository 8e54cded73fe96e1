"""Projects that want the same names, readers beside a run, and a check of everything that is stored."""

from __future__ import annotations

import hashlib
import json
import re
import signal
import sqlite3
import threading
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote

import pytest

from tests.conftest import end_group
from tests.fakes import faults
from tests.processes import group_lives, until
from tests.published import spoil
from tests.tree import check_tree

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Mirror
    from tests.fakes.index import FakeIndex

Layout = Literal["flat", "hashed"]
both_layouts = pytest.mark.parametrize("layout", ["flat", "hashed"])
WHEEL = "shared-1.0-py3-none-any.whl"
SDIST = "shared-1.0.tar.gz"
UPLOADED = "2024-02-29T12:00:00.000001Z"
REST = "0123456789" * 6


@pytest.fixture
def mirror(mirror: Mirror) -> Mirror:
    """Two workers with much patience, and what no page names is unlinked at once."""
    mirror.settings |= {"timeout": "60", "delete-grace": "0"}
    return mirror


def run(mirror: Mirror, layout: Layout, *arguments: str) -> None:
    result = mirror.run(*arguments, set={"layout": layout})
    assert (result.status, result.stderr) == (0, ""), result


def page(mirror: Mirror, project: str) -> Path:
    """A project's JSON page, in either layout."""
    (found,) = [
        *mirror.web.glob(f"simple/??/{project}.v1_json"),
        *mirror.web.glob(f"simple/{project}/index.v1_json"),
    ]
    return found


def targets(mirror: Mirror, project: str) -> dict[str, Path]:
    """Where a page's links lead, by file name."""
    document = json.loads(page(mirror, project).read_bytes())
    return {entry["filename"]: mirror.web / unquote(entry["url"])[len("../../") :] for entry in document["files"]}


def asked(index: FakeIndex) -> set[str]:
    return {path.rpartition("/")[2] for path in index.paths() if "/packages/" in path}


# One name, the same bytes


def share(index: FakeIndex, *projects: str) -> None:
    for project in projects:
        index.add_file(project, WHEEL, content=b"the same", metadata=b"Name: shared\n", upload_time=UPLOADED)
        index.add_file(project, f"{project}-1.0.tar.gz")


@both_layouts
def test_two_projects_that_list_the_same_file_in_two_workers_at_once_share_it(mirror, index, layout) -> None:
    share(index, "alpha", "beta")
    gate = index.gate(f"/packages/*/{WHEEL}")
    process = mirror.start(set={"layout": layout})
    gate.wait(2)
    gate.open()
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert check_tree(mirror.web, layout, index) == []
    assert targets(mirror, "alpha")[WHEEL] == targets(mirror, "beta")[WHEEL]


@both_layouts
@pytest.mark.parametrize("order", [("alpha", "beta", "gamma"), ("gamma", "alpha", "beta")])
def test_a_shared_file_stays_until_the_last_project_drops_it(mirror, index, layout, order) -> None:
    share(index, "alpha")
    run(mirror, layout)
    share(index, "beta", "gamma")
    index.clear_requests()
    run(mirror, layout)
    assert WHEEL not in asked(index)
    shared = targets(mirror, "alpha")[WHEEL]
    for project in order:
        assert shared.exists()
        index.remove_file(project, WHEEL, keep_content=True)
        run(mirror, layout)
        assert check_tree(mirror.web, layout, index) == []
    assert not shared.exists()
    assert not shared.with_name(f"{WHEEL}.metadata").exists()


@both_layouts
def test_a_shared_file_stays_when_the_project_that_brought_it_is_removed(mirror, index, layout) -> None:
    share(index, "alpha")
    run(mirror, layout)
    share(index, "beta")
    run(mirror, layout)
    index.remove_project("alpha", keep_content=True)
    run(mirror, layout)
    assert check_tree(mirror.web, layout, index) == []
    assert targets(mirror, "beta")[WHEEL].read_bytes() == b"the same"


def test_a_file_that_one_project_drops_while_another_takes_it_up_stays(mirror, index) -> None:
    share(index, "alpha")
    share(index, "beta")
    index.remove_file("beta", WHEEL, keep_content=True)
    run(mirror, "hashed")
    index.remove_file("alpha", WHEEL, keep_content=True)
    index.add_file("beta", WHEEL, content=b"the same", metadata=b"Name: shared\n", upload_time=UPLOADED)
    run(mirror, "hashed")
    assert check_tree(mirror.web, "hashed", index) == []


def test_a_file_that_comes_back_within_its_grace_stays_when_that_is_over(mirror, index) -> None:
    share(index, "alpha")
    run(mirror, "hashed")
    index.remove_file("alpha", WHEEL, keep_content=True)
    assert mirror.run(set={"delete-grace": "3600"}).status == 0
    share(index, "beta")
    index.clear_requests()
    assert mirror.run(set={"delete-grace": "3600"}).status == 0
    assert WHEEL not in asked(index)
    run(mirror, "hashed")
    assert check_tree(mirror.web, "hashed", index) == []


# One name, other bytes


def collide(index: FakeIndex, project: str, content: bytes, layout: Layout) -> None:
    """A file that has the name of another project's, and other bytes; in the flat layout, its whole path too."""
    index.add_file(project, f"{project}-1.0.tar.gz")
    if layout == "hashed":
        digit = {"alpha": "0", "beta": "1"}[project]
        index.add_file(project, SDIST, content=content, path=f"/packages/ab/c{digit}/{REST}/{SDIST}")
        return
    path = f"/{project}/packages/ab/c0/{REST}/{SDIST}"
    index.add_file(project, SDIST, content=content, path=path, keys={"url": f"{index.url}{path}"})
    index.fault(path, faults.body(content))


@pytest.mark.case(25)
def test_in_the_hashed_layout_the_newcomer_goes_to_its_long_path(mirror, index) -> None:
    collide(index, "alpha", b"first", "hashed")
    run(mirror, "hashed")
    collide(index, "beta", b"other", "hashed")
    run(mirror, "hashed")
    assert check_tree(mirror.web, "hashed", index) == []
    assert targets(mirror, "alpha")[SDIST] == mirror.web / f"packages/abc/{SDIST}"
    assert targets(mirror, "beta")[SDIST] == mirror.web / f"packages/ab/c1/{REST}/{SDIST}"
    index.clear_requests()
    run(mirror, "hashed", "--force-check")
    assert asked(index) == set()
    index.remove_file("alpha", SDIST)
    run(mirror, "hashed")
    assert check_tree(mirror.web, "hashed", index) == []


@pytest.mark.case(25)
def test_in_the_flat_layout_the_newcomer_is_refused_and_the_first_stays(mirror, index) -> None:
    collide(index, "alpha", b"first", "flat")
    run(mirror, "flat")
    collide(index, "beta", b"other", "flat")
    result = mirror.run(set={"layout": "flat"})
    assert result.status == 1, result
    assert "beta" in result.stdout
    assert SDIST in result.stdout
    assert check_tree(mirror.web, "flat") == []
    assert targets(mirror, "alpha")[SDIST].read_bytes() == b"first"
    assert set(targets(mirror, "beta")) == {"beta-1.0.tar.gz"}
    index.remove_file("alpha", SDIST)
    run(mirror, "flat", "--retry-failed")
    run(mirror, "flat", "--retry-failed")
    assert check_tree(mirror.web, "flat", index) == []


@pytest.mark.case(25)
@both_layouts
def test_of_two_other_files_that_come_at_once_under_one_name_each_page_has_its_own(mirror, index, layout) -> None:
    collide(index, "alpha", b"first", layout)
    collide(index, "beta", b"other", layout)
    gate = index.gate(f"*/packages/*/{SDIST}")
    process = mirror.start(set={"layout": layout})
    gate.wait(2)
    gate.open()
    stdout, stderr = process.communicate(timeout=60)
    assert check_tree(mirror.web, layout) == []
    has_it = [SDIST in targets(mirror, project) for project in ("alpha", "beta")]
    if layout == "hashed":
        assert (process.returncode, has_it) == (0, [True, True]), stderr
        assert check_tree(mirror.web, layout, index) == []
    else:
        assert (process.returncode, sorted(has_it)) == (1, [False, True]), stderr
        assert SDIST in stdout


# A wrong file under a final name that no row names


@both_layouts
@pytest.mark.parametrize("moment", ["first run", "in order", "after a crash"])
def test_a_wrong_file_under_a_final_name_is_no_obstacle(mirror, index, layout, moment) -> None:
    if moment != "first run":
        index.add_file("other", "other-1.0.tar.gz")
        run(mirror, layout)
    if moment == "after a crash":
        index.touch("other")
        gate = index.gate("/simple/other/")
        process = mirror.start(set={"layout": layout})
        gate.wait()
        end_group(process, signal.SIGKILL)
        process.communicate()
        until(lambda: not group_lives(process.pid), "the run is gone")
        gate.open()
    for project, wrong in (("empty", b""), ("alike", b"C" * 40), ("long", b"much longer than it should be" * 9)):
        index.add_file(project, f"{project}-1.0.tar.gz", content=b"c" * 40)
        index.add_file(project, f"{project}-1.0-py3-none-any.whl", metadata=b"c" * 40)
        state = index.project(project)
        assert state is not None
        for file in state.files:
            _, packages, first, second, rest, name = file.path.split("/")
            directory = f"{first}{second[0]}" if layout == "hashed" else f"{first}/{second}/{rest}"
            stray = mirror.web / packages / directory / (name if name.endswith(".gz") else f"{name}.metadata")
            stray.parent.mkdir(parents=True, exist_ok=True)
            stray.write_bytes(wrong)
    run(mirror, layout)
    assert check_tree(mirror.web, layout, index, leftovers=layout == "hashed") == []
    index.clear_requests()
    run(mirror, layout)
    assert index.paths() == ["/simple/"]


# Readers


class Reader(threading.Thread):
    """Reads pages as they stand, and follows every link of them."""

    def __init__(self, web: Path) -> None:
        super().__init__(daemon=True)
        self.web = web
        self.problems: list[str] = []
        self.pages: set[bytes] = set()  # digests of the pages that were read
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.is_set():
            for path in sorted((self.web / "simple").rglob("*")):
                if path.parent.name == "simple" or not path.is_file():
                    continue
                try:
                    self._read(path)
                except Exception as error:  # noqa: BLE001 - whatever it is, a reader has met it
                    self.problems.append(f"{path}: {type(error).__name__}: {error}")

    def _read(self, path: Path) -> None:
        content = path.read_bytes()
        self.pages.add(hashlib.sha256(content).digest())
        if path.name.endswith("v1_json"):
            links = [(entry["url"], entry["hashes"]["sha256"]) for entry in json.loads(content)["files"]]
        else:
            assert b"</html>" in content
            links = re.findall(r'href="([^"#]+)#sha256=([0-9a-f]{64})"', content.decode())
            assert len(links) == content.count(b"<a ")
        for url, sha256 in links:
            target = self.web / unquote(url)[len("../../") :]
            assert hashlib.sha256(target.read_bytes()).hexdigest() == sha256, url

    def end(self) -> list[str]:
        self._ended.set()
        self.join(30)
        return self.problems


@pytest.mark.case(51)
@both_layouts
def test_readers_see_only_whole_pages_whose_links_lead_to_the_right_files(mirror, index, layout) -> None:
    mirror.settings["delete-grace"] = "3600"
    for number in range(10):
        for minor in range(4):
            index.add_file(f"project-{number}", f"project_{number}-1.{minor}.tar.gz")
    run(mirror, layout)
    reader = Reader(mirror.web)
    reader.start()
    for turn in range(4):
        for number in range(10):
            index.remove_file(f"project-{number}", f"project_{number}-1.{turn}.tar.gz")
            index.add_file(f"project-{number}", f"project_{number}-2.{turn}.tar.gz")
        index.add_file(f"new-{turn}", f"new_{turn}-1.tar.gz")
        run(mirror, layout)
    assert reader.end() == []
    assert len(reader.pages) > 40, "the reader saw pages of several runs"
    assert check_tree(mirror.web, layout, index, leftovers=True) == []


# Force-check


def some_projects(index: FakeIndex, count: int) -> None:
    for number in range(count):
        for minor in range(2):
            name = f"project_{number}-1.{minor}-py3-none-any.whl"
            index.add_file(f"project-{number}", name, content=b"%d" % number * 900, metadata=b"Name: %d\n" % number)


@pytest.mark.case(31)
@both_layouts
def test_a_forced_check_finds_and_repairs_what_is_damaged_and_fetches_nothing_else(mirror, index, layout) -> None:
    some_projects(index, 7)
    run(mirror, layout)
    wheel = "project_{}-1.0-py3-none-any.whl".format
    places = {number: targets(mirror, f"project-{number}")[wheel(number)] for number in range(7)}
    spoil(places[0])
    places[1].write_bytes(b"short")
    places[2].unlink()
    spoil(places[3].with_name(f"{wheel(3)}.metadata"))
    places[4].with_name(f"{wheel(4)}.metadata").unlink()
    spoil(page(mirror, "project-5"))
    page(mirror, "project-6").with_suffix(".html").unlink()
    inode = page(mirror, "project-6").stat().st_ino
    assert check_tree(mirror.web, layout) != []
    index.clear_requests()
    run(mirror, layout, "--force-check")
    assert check_tree(mirror.web, layout, index) == []
    damaged = {wheel(0), wheel(1), wheel(2), f"{wheel(3)}.metadata", f"{wheel(4)}.metadata"}
    repaired_with_them = {f"{wheel(number)}.metadata" for number in (0, 1, 2)}
    assert damaged <= asked(index) <= damaged | repaired_with_them
    assert page(mirror, "project-6").stat().st_ino == inode, "a page that was right was written again"
    index.clear_requests()
    run(mirror, layout)
    assert index.paths() == ["/simple/"]


def checked(mirror: Mirror) -> int:
    """Projects that the forced check under way has seen, and that are recorded."""
    state = sqlite3.connect(f"file:{mirror.directory}/.fastmirror/state.sqlite?mode=ro", uri=True)
    try:
        return int(state.execute("select count(*) from project where checked_run is not null").fetchone()[0])
    finally:
        state.close()


def checked_pages(index: FakeIndex) -> set[str]:
    return {path for path in index.paths("/simple/") if path != "/simple/"}


def test_a_forced_check_that_is_killed_goes_on_where_it_was(mirror, index) -> None:
    some_projects(index, 12)
    run(mirror, "hashed")
    every = {f"/simple/project-{number}/" for number in range(12)}
    index.clear_requests()

    gate = index.gate("/simple/project-[0-5]/")
    process = mirror.start("--force-check")
    gate.wait(6)
    until(lambda: checked(mirror) == 6, "the others are recorded")
    end_group(process, signal.SIGKILL)
    process.communicate()
    until(lambda: not group_lives(process.pid), "the run is gone")
    gate.open()
    index.clear_faults()
    index.clear_requests()

    gate = index.gate("/simple/project-[0-2]/")
    process = mirror.start("--force-check")
    gate.wait(3)
    until(lambda: checked(mirror) == 9, "three more are recorded")
    process.terminate()
    process.communicate(timeout=10)
    assert process.returncode == 143
    assert checked_pages(index) == {f"/simple/project-{number}/" for number in range(6)}
    gate.open()
    index.clear_faults()
    index.clear_requests()

    spoil(targets(mirror, "project-1")["project_1-1.0-py3-none-any.whl"])
    run(mirror, "hashed", "--force-check")
    assert checked_pages(index) == {f"/simple/project-{number}/" for number in range(3)}
    assert check_tree(mirror.web, "hashed", index) == []
    index.clear_requests()
    run(mirror, "hashed", "--force-check")
    assert checked_pages(index) == every, "the next check begins anew"


def test_a_forced_check_of_one_project_leaves_the_next_one_of_all_nothing_to_skip(mirror, index) -> None:
    some_projects(index, 3)
    run(mirror, "hashed")
    run(mirror, "hashed", "--force-check", "--project", "project-1")
    for number in range(3):
        spoil(targets(mirror, f"project-{number}")[f"project_{number}-1.1-py3-none-any.whl"])
    run(mirror, "hashed", "--force-check")
    assert check_tree(mirror.web, "hashed", index) == []


def test_a_forced_check_of_one_project_leaves_one_of_all_that_was_cut_off_where_it_was(mirror, index) -> None:
    some_projects(index, 4)
    run(mirror, "hashed")
    gate = index.gate("/simple/project-[23]/")
    process = mirror.start("--force-check")
    gate.wait(2)
    until(lambda: checked(mirror) == 2, "the others are recorded")
    process.terminate()
    process.communicate(timeout=10)
    gate.open()
    index.clear_faults()
    spoil(targets(mirror, "project-0")["project_0-1.1-py3-none-any.whl"])
    run(mirror, "hashed", "--force-check", "--project", "project-0")
    assert check_tree(mirror.web, "hashed", index) == [], "what is asked for by name is checked, seen or not"
    index.clear_requests()
    run(mirror, "hashed", "--force-check")
    assert checked_pages(index) == {"/simple/project-2/", "/simple/project-3/"}


@pytest.mark.parametrize("narrow", [("sync", "project-1"), ("mirror", "--max-time", "0")])
def test_pages_of_another_form_are_made_for_all_though_a_narrowed_run_came_between(mirror, index, narrow) -> None:
    some_projects(index, 3)
    mirror.settings["simple-format"] = "JSON"
    run(mirror, "hashed")
    mirror.settings["simple-format"] = "ALL"
    command, *arguments = narrow
    assert mirror.run(*arguments, command=command).status in {0, 1}
    run(mirror, "hashed")
    assert check_tree(mirror.web, "hashed", index) == []


def test_pages_of_another_form_are_made_for_all_though_the_first_run_was_cut_off(mirror, index) -> None:
    some_projects(index, 3)
    gate = index.gate("/simple/project-2/")
    process = mirror.start(set={"simple-format": "JSON"})
    gate.wait()
    until(lambda: len(list((mirror.web / "packages").rglob("*.whl*"))) == 8, "the others are there")
    process.terminate()
    process.communicate(timeout=10)
    assert process.returncode == 143
    gate.open()
    run(mirror, "hashed")
    assert check_tree(mirror.web, "hashed", index) == []
