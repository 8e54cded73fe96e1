"""Runs that bring a mirror up to date: what is published, what is asked for, and what is left untouched."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING

import pytest

from fastmirror.layout import PageFormat
from tests.fakes import faults
from tests.fakes.oddities import REASON, fill_with_oddities
from tests.published import filenames, last_run, page, page_file, problems, root, stamps, stored, succeed, written

if TYPE_CHECKING:
    from tests.conftest import Mirror
    from tests.fakes.index import FakeIndex

TREES = {
    "hashed": {"layout": "hashed"},
    "flat": {"layout": "flat"},
    "hash-index": {"layout": "flat", "hash-index": "true"},
}


@pytest.fixture(params=TREES)
def each_tree(request: pytest.FixtureRequest, mirror: Mirror) -> Mirror:
    mirror.settings.update(TREES[request.param])
    return mirror


def run_again(mirror: Mirror, index: FakeIndex, *arguments: str) -> tuple[list[str], set[str]]:
    """Run once more: (paths asked for, files written)."""
    index.clear_requests()
    before = stamps(mirror.web)
    succeed(mirror.run(*arguments))
    return sorted(index.paths()), written(before, stamps(mirror.web))


# A whole mirror


@pytest.mark.case(26, 27, 28, 29, 39)
def test_a_first_run_publishes_all_that_upstream_lists_in_every_tree(each_tree: Mirror, index: FakeIndex) -> None:
    fill_with_oddities(index)
    succeed(each_tree.run())
    assert problems(each_tree, index) == []


@pytest.mark.case(1)
def test_a_run_with_nothing_to_do_asks_for_the_root_index_alone_and_writes_nothing(
    each_tree: Mirror, index: FakeIndex
) -> None:
    fill_with_oddities(index)
    succeed(each_tree.run())
    asked, changed = run_again(each_tree, index)
    assert (asked, changed) == (["/simple/"], set())
    assert index.requests[0].headers["if-none-match"]
    assert index.requests[0].status == 304


@pytest.mark.case(1)
def test_without_an_etag_the_same_root_index_is_still_nothing_to_do(mirror: Mirror, index: FakeIndex) -> None:
    index.fill(10)
    index.fault("/simple/*", faults.no_header("ETag"))
    succeed(mirror.run())
    assert run_again(mirror, index) == (["/simple/"], set())
    assert "if-none-match" not in index.requests[0].headers


@pytest.mark.case(2)
def test_one_changed_project_is_one_page_and_its_new_files(each_tree: Mirror, index: FakeIndex) -> None:
    index.fill(60)
    succeed(each_tree.run())
    name = next(iter(index.projects()))
    new = index.add_file(name, f"{name.replace('-', '_')}-9.0-py3-none-any.whl", metadata=b"Metadata-Version: 2.1\n")
    asked, changed = run_again(each_tree, index)
    assert asked == sorted(["/simple/", f"/simple/{name}/", new.path, f"{new.path}.metadata"])
    pages = {path for path in changed if path.startswith("simple/")}
    formats = {"html", "v1_json"} if each_tree.settings["layout"] == "hashed" else {"html", "v1_html", "v1_json"}
    roots = {f"simple/index.{kind}" for kind in ("v1_json", "html", "v1_html")}
    own = {page_file(each_tree, name, PageFormat(kind)).relative_to(each_tree.web).as_posix() for kind in formats}
    assert own <= pages <= own | roots
    files = {path for path in changed - pages if not path.startswith("changes/")}
    assert {path.rpartition("/")[2] for path in files} == {new.filename, f"{new.filename}.metadata"}
    assert problems(each_tree, index) == []


def test_pages_without_a_wheel_are_asked_for_once(mirror: Mirror, index: FakeIndex) -> None:
    for name in ("six", "idna"):
        index.add_file(name, f"{name}-1.0.tar.gz")
    succeed(mirror.run())
    index.add_file("six", "six-2.0.tar.gz")
    asked, _ = run_again(mirror, index)
    assert [path for path in asked if path.startswith("/simple/")] == ["/simple/", "/simple/six/"]


def test_a_new_and_a_changed_project_come_in_one_run(mirror: Mirror, index: FakeIndex) -> None:
    index.fill(5)
    succeed(mirror.run())
    index.add_file("new", "new-1.0.tar.gz")
    index.set_yanked("new", "new-1.0", REASON)
    succeed(mirror.run())
    assert problems(mirror, index) == []
    assert page(mirror, "new")["files"][0]["yanked"] == REASON


@pytest.mark.case(22)
def test_a_new_serial_alone_touches_no_file(mirror: Mirror, index: FakeIndex) -> None:
    index.add_file("six", "six-1.0-py3-none-any.whl", metadata=b"Metadata-Version: 2.1\n")
    succeed(mirror.run())
    files = [path for path in (mirror.web / "packages").rglob("*") if path.is_file()]
    for path in files:
        os.utime(path, (0, path.stat().st_mtime))  # so old that any reading would renew it
    serial = index.touch("six")
    asked, changed = run_again(mirror, index)
    assert asked == ["/simple/", "/simple/six/"]
    assert not [path for path in changed if path.startswith("packages/")]
    assert {path.stat().st_atime for path in files} == {0.0}
    assert root(mirror) == {"serial": serial, "projects": {"six": serial}}
    assert problems(mirror, index) == []


@pytest.mark.case(3)
def test_a_serial_that_goes_down_is_a_change(mirror: Mirror, index: FakeIndex) -> None:
    index.add_file("six", "six-1.0-py3-none-any.whl")
    index.add_file("idna", "idna-1.0.tar.gz")
    succeed(mirror.run())
    index.set_serial("six", 7)
    asked, _ = run_again(mirror, index)
    assert asked == ["/simple/", "/simple/six/"]
    assert page(mirror, "six")["meta"]["_last-serial"] == 7
    assert root(mirror)["projects"]["six"] == 7
    assert run_again(mirror, index) == (["/simple/"], set())


@pytest.mark.case(21)
def test_a_page_newer_than_the_root_index_is_published_with_its_own_serial(mirror: Mirror, index: FakeIndex) -> None:
    index.add_file("six", "six-1.0.tar.gz")
    then = index.serial
    index.add_file("six", "six-2.0.tar.gz")
    index.fault("/simple/", faults.stale(then), times=1)
    succeed(mirror.run())
    assert page(mirror, "six")["meta"]["_last-serial"] == then + 1
    assert root(mirror)["projects"] == {"six": then + 1}
    assert run_again(mirror, index)[0] == ["/simple/"]
    assert problems(mirror, index) == []


@pytest.mark.case(25)
def test_names_of_files_that_other_projects_have_are_shared_or_go_aside(mirror: Mirror, index: FakeIndex) -> None:
    fill_with_oddities(index)
    succeed(mirror.run())
    urls = {name: page(mirror, name)["files"][0]["url"] for name in ("same-a", "same-b", "shared-a", "shared-b")}
    assert urls["shared-a"] == urls["shared-b"]
    assert urls["same-a"] != urls["same-b"]
    assert sorted(url.count("/") for url in (urls["same-a"], urls["same-b"])) in ([4, 4], [4, 6])


@pytest.mark.case(28)
def test_every_key_that_upstream_gave_is_passed_on(mirror: Mirror, index: FakeIndex) -> None:
    fill_with_oddities(index)
    index.fault("/simple/vendored/", faults.alter(lambda document: document | {"x-page": [1, {"deep": None}]}))
    succeed(mirror.run())
    document = page(mirror, "vendored")
    assert document["x-page"] == [1, {"deep": None}]
    assert document["versions"] == ["1.0"]
    (entry,) = document["files"]
    assert entry["x-vendor"] == {"deep": [1, None, "ü"]}
    assert "gpg-sig" not in entry  # signatures are not mirrored
    assert "upload-time" not in next(one for one in page(mirror, "old")["files"] if one["filename"].endswith(".bz2"))
    assert page(mirror, "archived")["project-status"] == {"status": "archived", "reason": "moved <elsewhere> & away"}


def test_a_projects_status_changes_with_its_page(mirror: Mirror, index: FakeIndex) -> None:
    index.add_file("six", "six-1.0.tar.gz")
    succeed(mirror.run())
    index.archive("six", "done")
    index.touch("six")
    succeed(mirror.run())
    assert page(mirror, "six")["project-status"] == {"status": "archived", "reason": "done"}
    assert problems(mirror, index) == []


# What stands beside the pages


def test_a_finished_run_leaves_its_serial_its_generation_and_its_time(mirror: Mirror, index: FakeIndex) -> None:
    index.fill(3)
    succeed(mirror.run())
    assert (mirror.directory / "status").read_text() == str(index.serial)
    assert (mirror.directory / "generation").read_text() == "5"
    stamp = mirror.web / "last-modified"
    assert re.fullmatch(r"\d{8}T\d\d:\d\d:\d\d\n", stamp.read_text())
    assert stamp.stat().st_mode & 0o777 == 0o644
    assert not (mirror.directory / "todo").exists()


def test_the_root_index_says_serials_in_json_and_has_both_forms(each_tree: Mirror, index: FakeIndex) -> None:
    index.fill(3)
    succeed(each_tree.run())
    assert root(each_tree) == {
        "serial": index.serial,
        "projects": {name: state.serial for name, state in index.projects().items()},
    }
    html = each_tree.web / "simple/index.html"
    assert html.samefile(each_tree.web / "simple/index.v1_html")
    assert all(f'<a href="{name}/">{name}</a>' in html.read_text() for name in index.projects())


@pytest.mark.parametrize("tree", ["flat", "hash-index"])
def test_the_two_names_of_an_html_page_are_one_file_also_after_a_change(
    tree: str, mirror: Mirror, index: FakeIndex
) -> None:
    mirror.settings.update(TREES[tree])
    index.add_file("six", "six-1.0.tar.gz")
    for _ in range(2):
        succeed(mirror.run())
        html, v1_html = (page_file(mirror, "six", kind) for kind in (PageFormat.HTML, PageFormat.V1_HTML))
        assert html.samefile(v1_html)
        assert html.stat().st_nlink == 2
        index.add_file("six", "six-2.0.tar.gz")


def test_a_page_that_would_be_the_same_is_not_written_again(mirror: Mirror, index: FakeIndex) -> None:
    index.dialect = "json-no-serials"
    for number in range(5):
        index.add_file(f"p{number}", f"p{number}-1.0-py3-none-any.whl", metadata=b"Metadata-Version: 2.1\n")
    succeed(mirror.run())
    index.relative_urls = True  # other bytes upstream, and the same page here
    asked, changed = run_again(mirror, index)
    assert len(asked) == 6
    assert {record.status for record in index.requests if record.path != "/simple/"} == {200}
    assert changed == set()


# Changed settings


@pytest.mark.parametrize(
    ("first", "then"),
    [({"simple-format": "JSON"}, {"simple-format": "ALL"}), ({"simple-format": "ALL"}, {"simple-format": "JSON"})],
)
def test_another_format_renders_every_page_anew_and_fetches_no_file(
    first: dict[str, str], then: dict[str, str], each_tree: Mirror, index: FakeIndex
) -> None:
    fill_with_oddities(index)
    forms = {"JSON": ["json"], "ALL": ["html", "json"]}
    each_tree.settings.update(first)
    succeed(each_tree.run())
    assert problems(each_tree, index, formats=forms[first["simple-format"]]) == []
    each_tree.settings.update(then)
    asked, changed = run_again(each_tree, index)
    assert not [path for path in asked if path.startswith("/packages/")]
    assert not [path for path in changed if path.startswith("packages/")]
    assert problems(each_tree, index, formats=forms[then["simple-format"]]) == []
    assert run_again(each_tree, index) == (["/simple/"], set())


def test_core_metadata_is_taken_off_and_put_back_without_fetching_the_files(mirror: Mirror, index: FakeIndex) -> None:
    index.add_file("six", "six-1.0-py3-none-any.whl", metadata=b"Metadata-Version: 2.1\n")
    index.add_file("six", "six-1.0.tar.gz")
    mirror.settings["delete-grace"] = "0"
    succeed(mirror.run())
    mirror.settings["core-metadata"] = "false"
    asked, _ = run_again(mirror, index)
    assert asked == ["/simple/", "/simple/six/"]
    assert [entry["core-metadata"] for entry in page(mirror, "six")["files"]] == [False, False]
    assert stored(mirror) == {"six-1.0-py3-none-any.whl", "six-1.0.tar.gz"}
    del mirror.settings["core-metadata"]
    asked, _ = run_again(mirror, index)
    assert [path.rpartition("/")[2] for path in asked if path.startswith("/packages/")] == [
        "six-1.0-py3-none-any.whl.metadata"
    ]
    assert problems(mirror, index) == []


def test_a_root_uri_gives_absolute_urls_on_every_page(mirror: Mirror, index: FakeIndex) -> None:
    file = index.add_file("six", "six-1.0+local-py3-none-any.whl")
    succeed(mirror.run())
    mirror.settings["root_uri"] = "https://files.example/base/"
    asked, _ = run_again(mirror, index)
    assert asked == ["/simple/", "/simple/six/"]
    url = f"https://files.example/base{file.path}"
    assert page(mirror, "six")["files"][0]["url"] == url
    assert f'"{url}#sha256=' in page_file(mirror, "six", PageFormat.HTML).read_text()


# Large projects, and time


@pytest.mark.case(30)
def test_the_files_of_a_large_project_are_shared_by_the_workers(mirror: Mirror, index: FakeIndex) -> None:
    for number in range(150):
        index.add_file("large", f"large-{number}.tar.gz")
    process = mirror.start()
    assert process.wait(60) == 0
    assert problems(mirror, index) == []
    assert len(index.paths("/packages/")) == 150
    assert index.paths("/simple/large/") == ["/simple/large/"] * len(index.paths("/simple/large/"))
    desks = {path.name.partition("-")[0] for path in (mirror.directory / ".fastmirror/staging").iterdir()}
    workers = desks - {"partial", f"{process.pid:x}"}
    assert len(workers) == 2
    assert run_again(mirror, index) == (["/simple/"], set())


def test_a_large_project_that_grows_fetches_only_what_is_new(mirror: Mirror, index: FakeIndex) -> None:
    for number in range(70):
        index.add_file("large", f"large-{number}-py3-none-any.whl", metadata=b"Metadata-Version: 2.1\n")
    succeed(mirror.run())
    new = [index.add_file("large", f"large-1.{number}.tar.gz").path for number in range(70)]
    asked, _ = run_again(mirror, index)
    assert asked == sorted(["/simple/", "/simple/large/", *new])
    assert problems(mirror, index) == []


def test_a_run_out_of_time_says_what_is_not_done_and_the_next_one_does_it(mirror: Mirror, index: FakeIndex) -> None:
    index.fill(10)
    done = mirror.run("--max-time", "0")
    assert done.status == 1
    assert done.stdout.splitlines()[-1] == "not complete: 10 not yet done"
    assert stored(mirror) == set()
    assert not (mirror.directory / "status").exists()
    succeed(mirror.run("--max-time", "600"))
    assert problems(mirror, index) == []
    assert (mirror.directory / "status").read_text() == str(index.serial)


# What a run would do


def plan(mirror: Mirror, *arguments: str) -> dict[str, object]:
    result = mirror.run("--json", *arguments, command="plan")
    succeed(result)
    found: dict[str, object] = json.loads(result.stdout)
    return found


def test_what_plan_says_is_what_a_run_then_does(mirror: Mirror, index: FakeIndex) -> None:
    fill_with_oddities(index)
    first = plan(mirror, "--files")
    assert not mirror.directory.exists()
    assert sorted(first["names"]) == sorted(index.projects())  # type: ignore[call-overload]
    succeed(mirror.run())
    assert last_run(mirror)["updated"] == first["update"] == len(index.projects())

    index.add_file("archived", "archived-2.0.tar.gz", content=b"ten bytes.")
    index.touch("empty")
    index.remove_project("vendored")
    before = stamps(mirror.directory)
    then = plan(mirror, "--files")
    assert (then["names"], then["remove"]) == (["archived", "empty"], ["vendored"])
    assert (then["files"], then["bytes"], then["held"]) == (1, 10, False)
    text = mirror.run("--dry-run")
    assert text.stdout == mirror.run(command="plan").stdout
    assert text.stdout.startswith("to update: 2 projects\n  archived empty\nto remove: 1 project\n  vendored\n")
    assert {path for path in written(before, stamps(mirror.directory)) if not path.startswith(".")} == set()
    succeed(mirror.run())
    done = last_run(mirror)
    assert (done["updated"], done["removed"], done["files"], done["bytes"]) == (2, 1, 1, 10)
    assert plan(mirror, "--files") | {"complete": True} == {
        "update": 0, "names": [], "remove": [], "held": False, "retry": 0, "files": 0, "bytes": 0, "complete": True,
        "failed": 0, "denied": [], "sweep": 0, "gaps": [], "left_out": [],
    }  # fmt: skip


def test_plan_counts_the_files_that_status_counts_once_they_are_held(mirror: Mirror, index: FakeIndex) -> None:
    index.add_file("six", "six-1.0-py3-none-any.whl", metadata=b"Metadata-Version: 2.1\n")
    index.add_file("six", "six-1.0.tar.gz")
    planned = plan(mirror, "--files")
    succeed(mirror.run())
    held = json.loads(mirror.run("--json", command="status").stdout)
    assert (planned["files"], planned["bytes"]) == (held["files"], held["bytes"])
    mirror.settings["core-metadata"] = "false"
    succeed(mirror.run())
    del mirror.settings["core-metadata"]
    index.touch("six")  # its core metadata alone is to be fetched
    planned = plan(mirror, "--files")
    assert (planned["update"], planned["files"], planned["bytes"]) == (1, 0, 0)


def test_plan_knows_that_changed_settings_render_every_page_anew(mirror: Mirror, index: FakeIndex) -> None:
    index.fill(4)
    succeed(mirror.run())
    mirror.settings["simple-format"] = "JSON"
    planned = plan(mirror, "--files")
    assert (planned["update"], planned["files"]) == (4, 0)
    succeed(mirror.run())
    assert last_run(mirror)["updated"] == 4


def test_plan_fetches_no_page_unless_it_is_asked_for_files(mirror: Mirror, index: FakeIndex) -> None:
    index.fill(3)
    plan(mirror)
    assert index.paths() == ["/simple/"]


# Named projects


def names_of(asked: list[str]) -> set[str]:
    return {path.split("/")[2] for path in asked if path.startswith("/simple/")}


def test_named_projects_are_asked_for_one_by_one_and_never_by_the_root_index(
    each_tree: Mirror, index: FakeIndex
) -> None:
    fill_with_oddities(index)
    succeed(each_tree.run("--project", "Whole.Project", "--project", "same_a"))
    assert names_of(index.paths()) == {"whole-project", "same-a"}
    others = set(index.projects()) - {"whole-project", "same-a"}
    assert problems(each_tree, index, absent=others) == []
    assert set(root(each_tree)["projects"]) == {"whole-project", "same-a"}
    assert not (each_tree.directory / "status").exists()


def test_a_mirror_of_named_projects_alone_is_complete_and_not_unfinished(mirror: Mirror, index: FakeIndex) -> None:
    for name in ("six", "idna"):
        index.add_file(name, f"{name}-1.0.tar.gz")
    named = ["--project=six", "--project=idna"]
    succeed(mirror.run(*named))
    told = mirror.run(command="status")
    assert (told.status, "unfinished" in told.stdout) == (0, False)
    succeed(mirror.run(*named))
    assert (last_run(mirror)["unchanged"], last_run(mirror)["updated"]) == (2, 0)


def test_an_allowlist_of_names_is_asked_for_one_by_one(mirror: Mirror, index: FakeIndex) -> None:
    index.fill(8)
    names = sorted(index.projects())
    mirror.settings |= {"plugins.enabled": "allowlist_project", "allowlist.packages": "\n".join(names[:3])}
    succeed(mirror.run())
    assert names_of(index.paths()) == set(names[:3])
    assert problems(mirror, index, absent=names[3:]) == []
    asked, changed = run_again(mirror, index)
    assert (asked, changed) == ([f"/simple/{name}/" for name in names[:3]], set())
    assert {record.status for record in index.requests} == {304}


def test_sync_touches_what_it_names_and_the_root_index_lists_all(mirror: Mirror, index: FakeIndex) -> None:
    index.fill(6)
    succeed(mirror.run())
    first, second, *_ = sorted(index.projects())
    for name in (first, second):
        index.add_file(name, f"{name}-9.0.tar.gz")
    index.clear_requests()
    before = stamps(mirror.web)
    result = mirror.run(first, command="sync")
    succeed(result)
    assert names_of(index.paths()) == {first}
    changed = written(before, stamps(mirror.web))
    pages = {path for path in changed if not path.startswith(("packages/", "simple/index.", "changes/"))}
    assert pages == {page_file(mirror, first, form).relative_to(mirror.web).as_posix() for form in ("html", "v1_json")}  # type: ignore[arg-type]
    assert set(root(mirror)["projects"]) == set(index.projects())
    assert filenames(mirror, first)[-1] == f"{first}-9.0.tar.gz"
    succeed(mirror.run())
    assert problems(mirror, index) == []


def test_sync_of_what_is_up_to_date_writes_nothing(mirror: Mirror, index: FakeIndex) -> None:
    index.fill(3)
    succeed(mirror.run())
    name = next(iter(index.projects()))
    before = stamps(mirror.web)
    index.clear_requests()
    succeed(mirror.run(name, command="sync"))
    assert [(record.path, record.status) for record in index.requests] == [(f"/simple/{name}/", 304)]
    assert written(before, stamps(mirror.web)) == set()


@pytest.mark.parametrize("command", ["mirror", "sync"])
def test_a_name_that_upstream_does_not_know_is_told_and_exit_1(command: str, mirror: Mirror, index: FakeIndex) -> None:
    index.add_file("six", "six-1.0.tar.gz")
    names = ["six", "nosuch"] if command == "sync" else ["--project", "six", "--project", "nosuch"]
    done = mirror.run(*names, command=command)
    assert done.status == 1
    assert re.search(r"^  nosuch: upstream has no such project", done.stdout, re.MULTILINE)
    assert "/simple/" not in index.paths()
    assert list(root(mirror)["projects"]) == ["six"]
    assert problems(mirror, index) == []


def test_what_was_brought_by_name_is_kept_up_to_date_by_whole_runs(mirror: Mirror, index: FakeIndex) -> None:
    index.fill(4)
    name = next(iter(index.projects()))
    succeed(mirror.run(name, command="sync"))
    index.add_file(name, f"{name}-9.0.tar.gz")
    succeed(mirror.run())
    assert problems(mirror, index) == []
    assert run_again(mirror, index) == (["/simple/"], set())
