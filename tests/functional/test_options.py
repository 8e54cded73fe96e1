"""Options that shape a project's publication, through the real command: what is on disk, and what is asked for."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from fastmirror.layout import PageFormat, bucket
from tests.fakes import faults
from tests.fakes.oddities import fill_with_oddities
from tests.functional.test_serving import SERVERS
from tests.published import at_rest, filenames, page, page_file, root, spoil, stamps, stored, succeed, tree_of, written
from tests.tree import check_tree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Mirror
    from tests.fakes.index import FakeIndex

WHEEL = "six-1.0-py3-none-any.whl"
METADATA = b"Metadata-Version: 2.1\nName: six\nVersion: 1.0\n"
FILE_HOST = "https://files.example"
STATE = re.compile(r"index_(\d+)_\d{4}-\d\d-\d\dT\d{6}\.\d{6}Z\.(?:html|v1_html|v1_json)")


def documents(mirror: Mirror, name: str) -> list[Path]:
    if mirror.settings["layout"] == "hashed":
        return [mirror.web / "json" / bucket(name) / name]
    return [mirror.web / "json" / name, mirror.web / "pypi" / name / "json"]


def changed_by(mirror: Mirror, *arguments: str, **options: Any) -> set[str]:
    before = stamps(mirror.web)
    succeed(mirror.run(*arguments, **options))
    return written(before, stamps(mirror.web))


# json


def legacy_of(index: FakeIndex, name: str) -> dict[str, Any]:
    """What upstream answers."""
    import urllib.request

    with urllib.request.urlopen(f"{index.url}/pypi/{name}/json") as reply:
        document: dict[str, Any] = json.load(reply)
        return document


def test_json_saves_each_projects_document_as_bandersnatch_does(each_layout: Mirror, index: FakeIndex) -> None:
    index.add_file("Six", WHEEL, metadata=METADATA, requires_python=">=3", yanked="kaputt: ß \x7f \U0001f600")
    index.add_file("idna", "idna-1.0.tar.gz")
    succeed(each_layout.run(set={"json": "true"}))
    for name in ("six", "idna"):
        saved = json.dumps(legacy_of(index, name), indent=4, sort_keys=True).encode()
        paths = documents(each_layout, name)
        assert [path.read_bytes() for path in paths] == [saved] * len(paths)
        assert len({path.stat().st_ino for path in paths}) == 1
        assert paths[0].stat().st_mode & 0o777 == 0o644


def test_json_of_a_whole_mirror_is_asked_for_once_and_written_once(each_layout: Mirror, index: FakeIndex) -> None:
    fill_with_oddities(index)
    each_layout.settings["json"] = "true"
    succeed(each_layout.run())
    assert check_tree(each_layout.web, each_layout.settings["layout"], index) == []  # type: ignore[arg-type]
    asked = index.paths("/pypi/")
    assert sorted(asked) == sorted({f"/pypi/{name}/json" for name in index.projects()})
    assert changed_by(each_layout) == set()
    assert changed_by(each_layout, "--force-check") == set()


def test_one_changed_project_is_one_new_document(mirror: Mirror, index: FakeIndex) -> None:
    for name in ("six", "idna"):
        index.add_file(name, f"{name}-1.0.tar.gz")
    mirror.settings |= {"json": "true", "layout": "flat"}
    succeed(mirror.run())
    index.add_file("six", "six-2.0.tar.gz")
    index.clear_requests()
    changed = changed_by(mirror)
    assert index.paths("/pypi/") == ["/pypi/six/json"]
    others = {path for path in changed if not path.startswith(("simple/", "packages/", "changes/"))}
    assert others == {"json/six", "pypi/six/json"}
    assert set(json.loads(documents(mirror, "six")[0].read_bytes())["releases"]) == {"1.0", "2.0"}


def test_without_the_option_no_document_is_asked_for(mirror: Mirror, index: FakeIndex) -> None:
    index.add_file("six", WHEEL, metadata=METADATA)
    succeed(mirror.run())
    assert index.paths("/pypi/") == []
    assert not (mirror.web / "json").exists()


def test_json_switched_on_fetches_the_documents_in_the_next_run_and_off_removes_them(
    each_layout: Mirror, index: FakeIndex
) -> None:
    for name in ("six", "idna"):
        index.add_file(name, f"{name}-1.0.tar.gz")
    succeed(each_layout.run())
    pages = stamps(each_layout.web / "simple")
    succeed(each_layout.run(set={"json": "true"}))
    assert all(path.exists() for name in ("six", "idna") for path in documents(each_layout, name))
    assert stamps(each_layout.web / "simple") == pages
    succeed(each_layout.run())
    assert not any(path.exists() for name in ("six", "idna") for path in documents(each_layout, name))
    assert check_tree(each_layout.web, each_layout.settings["layout"], index) == []  # type: ignore[arg-type]


def test_a_removed_projects_document_goes_with_it(each_layout: Mirror, index: FakeIndex) -> None:
    index.add_file("six", "six-1.0.tar.gz")
    index.add_file("idna", "idna-1.0.tar.gz")
    each_layout.settings["json"] = "true"
    succeed(each_layout.run())
    index.remove_project("six")
    succeed(each_layout.run())
    assert not any(
        path.exists() or (path.parent.name == "six" and path.parent.exists()) for path in documents(each_layout, "six")
    )
    assert documents(each_layout, "idna")[0].exists()


def test_a_project_without_a_document_is_published_and_an_old_one_goes(each_layout: Mirror, index: FakeIndex) -> None:
    index.add_project("empty")
    index.add_file("six", "six-1.0.tar.gz")
    each_layout.settings["json"] = "true"
    succeed(each_layout.run())
    assert set(root(each_layout)["projects"]) == {"empty", "six"}
    assert not documents(each_layout, "empty")[0].exists()
    index.remove_file("six", "six-1.0.tar.gz")
    succeed(each_layout.run())
    assert not any(path.exists() for path in documents(each_layout, "six"))
    assert filenames(each_layout, "six") == []


def test_a_document_that_cannot_be_had_is_told_and_the_old_one_stays(each_layout: Mirror, index: FakeIndex) -> None:
    index.add_file("six", "six-1.0.tar.gz")
    each_layout.settings["json"] = "true"
    succeed(each_layout.run())
    old = documents(each_layout, "six")[0].read_bytes()
    index.add_file("six", "six-2.0.tar.gz")
    index.fault("/pypi/six/json", faults.status(403))
    assert each_layout.run().status == 1
    assert each_layout.failures() == {"six": "legacy JSON: HTTP status 403"}
    assert filenames(each_layout, "six") == ["six-1.0.tar.gz", "six-2.0.tar.gz"]
    assert documents(each_layout, "six")[0].read_bytes() == old
    index.clear_faults()
    succeed(each_layout.run())
    assert documents(each_layout, "six")[0].read_bytes() != old


def test_a_document_of_another_project_is_not_saved(mirror: Mirror, index: FakeIndex) -> None:
    index.add_file("six", "six-1.0.tar.gz")
    index.fault("/pypi/six/json", faults.alter(lambda document: {**document, "info": {"name": "seven"}}))
    mirror.settings |= {"json": "true", "layout": "flat"}
    assert mirror.run().status == 1
    assert "page of another project" in mirror.failures()["six"]
    assert filenames(mirror, "six") == ["six-1.0.tar.gz"]
    assert not documents(mirror, "six")[0].exists()


def test_a_stale_document_is_asked_for_again(mirror: Mirror, index: FakeIndex) -> None:
    index.add_file("six", "six-1.0.tar.gz")
    index.add_file("six", "six-2.0.tar.gz")
    index.fault("/pypi/six/json", faults.stale(), times=1)
    mirror.settings |= {"json": "true", "layout": "flat"}
    succeed(mirror.run())
    assert index.paths("/pypi/") == ["/pypi/six/json"] * 2
    assert set(json.loads(documents(mirror, "six")[0].read_bytes())["releases"]) == {"1.0", "2.0"}


def test_a_project_that_is_fetched_in_pieces_has_its_document_too(mirror: Mirror, index: FakeIndex) -> None:
    for number in range(80):
        index.add_file("six", f"six-1.{number}.tar.gz")
    mirror.settings |= {"json": "true", "layout": "flat"}
    succeed(mirror.run())
    assert len(json.loads(documents(mirror, "six")[0].read_bytes())["releases"]) == 80
    assert len(filenames(mirror, "six")) == 80


def test_what_kept_a_project_in_pieces_from_being_whole_is_not_forgotten(mirror: Mirror, index: FakeIndex) -> None:
    for number in range(80):
        index.add_file("six", f"six-1.{number}.tar.gz")
    index.fault("/pypi/six/json", faults.status(403))
    assert mirror.run(set={"json": "true"}).status == 1
    assert mirror.failures() == {"six": "legacy JSON: HTTP status 403"}


# release-files = false


NO_FILES = {"release-files": "false", "root_uri": FILE_HOST}


def test_without_release_files_pages_list_what_upstream_has_and_nothing_is_stored(
    each_layout: Mirror, index: FakeIndex
) -> None:
    wheel = index.add_file("six", WHEEL, metadata=METADATA)
    sdist = index.add_file("six", "six-1.0.tar.gz", keys={"size": None})
    index.set_file("six", "six-1.0.tar", keys={"size": None, "core-metadata": True})
    succeed(each_layout.run(set=NO_FILES))
    assert index.paths("/packages/") == []
    assert stored(each_layout) == set()
    first, second = page(each_layout, "six")["files"]
    assert first["url"] == FILE_HOST + wheel.path
    assert (first["hashes"], first["size"]) == ({"sha256": wheel.sha256}, wheel.size)
    assert first["core-metadata"] == {"sha256": wheel.metadata_sha256}
    assert (second["url"], second["core-metadata"], "size" in second) == (FILE_HOST + sdist.path, True, False)
    html = page_file(each_layout, "six", PageFormat.HTML).read_text()
    assert f'<a href="{FILE_HOST}{wheel.path}#sha256={wheel.sha256}"' in html
    assert html.count("data-core-metadata=") == 2
    assert 'data-core-metadata="true" data-dist-info-metadata="true"' in html
    assert changed_by(each_layout, set=NO_FILES) == set()


def test_without_release_files_core_metadata_is_offered_only_if_it_is_asked_for(
    mirror: Mirror, index: FakeIndex
) -> None:
    index.add_file("six", WHEEL, metadata=METADATA)
    succeed(mirror.run(set=NO_FILES | {"core-metadata": "false"}))
    assert page(mirror, "six")["files"][0]["core-metadata"] is False


def test_release_files_switched_on_are_fetched_and_switched_off_are_removed(
    each_layout: Mirror, index: FakeIndex
) -> None:
    index.add_file("six", WHEEL, metadata=METADATA)
    each_layout.settings["delete-grace"] = "0"
    succeed(each_layout.run(set=NO_FILES))
    succeed(each_layout.run())
    assert stored(each_layout) == {WHEEL, f"{WHEEL}.metadata"}
    assert check_tree(each_layout.web, each_layout.settings["layout"], index) == []  # type: ignore[arg-type]
    succeed(each_layout.run(set=NO_FILES))
    assert stored(each_layout) == set()
    assert filenames(each_layout, "six") == [WHEEL]
    assert each_layout.status()["files"] == 0


def test_without_release_files_a_file_without_a_sha256_is_told_and_left_out(mirror: Mirror, index: FakeIndex) -> None:
    index.add_file("six", WHEEL)
    index.add_file("six", "six-1.0.tar.gz", keys={"hashes": {"sha512": "ab" * 64}})
    assert mirror.run(set=NO_FILES | {"unhashed": "accept"}).status == 1
    assert filenames(mirror, "six") == [WHEEL]
    assert mirror.failures() == {"six": "six-1.0.tar.gz: no sha256"}


def test_without_release_files_no_copy_of_a_refused_file_stays(mirror: Mirror, index: FakeIndex) -> None:
    index.add_file("six", WHEEL)
    mirror.settings["delete-grace"] = "0"
    succeed(mirror.run())
    index.set_file("six", WHEEL, keys={"hashes": {}})
    assert mirror.run(set=NO_FILES).status == 1
    assert stored(mirror) == set()


# root_uri


def test_a_root_uri_leads_to_the_stored_file_where_upstream_gives_another_digest(
    mirror: Mirror, index: FakeIndex
) -> None:
    content = b"content"
    sha512 = hashlib.sha512(content).hexdigest()
    hashes = {"hashes": {"sha512": sha512}}
    index.add_file("six", "six-1.0.tar.gz", content=content, path="/packages/other/six-1.0.tar.gz", keys=hashes)
    succeed(mirror.run(set={"unhashed": "accept", "root_uri": FILE_HOST}))
    url = page(mirror, "six")["files"][0]["url"]
    assert url == f"{FILE_HOST}/packages/{sha512[:2]}/{sha512[2:4]}/{sha512[4:64]}/six-1.0.tar.gz"
    assert (mirror.web / "packages" / sha512[:3] / "six-1.0.tar.gz").exists()


# digest_name


def test_a_further_digest_stands_beside_sha256(mirror: Mirror, index: FakeIndex) -> None:
    file = index.add_file("six", WHEEL, metadata=METADATA)
    succeed(mirror.run())
    assert index.paths("/pypi/") == []
    succeed(mirror.run(set={"digest_name": "md5"}))
    md5 = hashlib.md5(file.content).hexdigest()
    assert page(mirror, "six")["files"][0]["hashes"] == {"md5": md5, "sha256": file.sha256}
    html = page_file(mirror, "six", PageFormat.HTML).read_text()
    assert f"#sha256={file.sha256}" in html
    assert md5 not in html


def test_a_digest_that_upstream_does_not_give_is_not_missed(mirror: Mirror, index: FakeIndex) -> None:
    file = index.add_file("six", WHEEL, metadata=METADATA)
    succeed(mirror.run(set={"digest_name": "sha3_512"}))
    assert page(mirror, "six")["files"][0]["hashes"] == {"sha256": file.sha256}


# keep_index_versions


VERSIONS = {"layout": "flat", "keep_index_versions": "2"}


@pytest.fixture(params=["false", "true"])
def versioned(request: pytest.FixtureRequest, mirror: Mirror) -> Mirror:
    mirror.settings |= VERSIONS
    if request.param == "true":
        mirror.settings["hash-index"] = "true"
    return mirror


def home_of(mirror: Mirror, name: str) -> Path:
    return page_file(mirror, name).parent


def serials_kept(mirror: Mirror, name: str) -> dict[str, set[int]]:
    kept: dict[str, set[int]] = {}
    for path in (home_of(mirror, name) / "versions").iterdir():
        match = STATE.fullmatch(path.name)
        assert match, path.name
        kept.setdefault(path.suffix, set()).add(int(match[1]))
    return kept


def test_pages_are_relative_links_to_their_newest_state(versioned: Mirror, index: FakeIndex) -> None:
    index.add_file("six", "six-1.0.tar.gz")
    succeed(versioned.run())
    home = home_of(versioned, "six")
    for kind in PageFormat:
        target = (home / f"index.{kind}").readlink()
        assert (str(target.parent), target.suffix) == ("versions", f".{kind}")
    moved = versioned.home / "elsewhere"
    shutil.copytree(versioned.web, moved, symlinks=True)
    shutil.rmtree(versioned.web)
    path = home.relative_to(versioned.web) / "index.v1_json"
    assert json.loads((moved / path).read_bytes())["files"][0]["filename"] == "six-1.0.tar.gz"


def test_so_many_states_are_kept_by_their_time_and_all_forms_of_each(versioned: Mirror, index: FakeIndex) -> None:
    index.add_file("six", "six-1.0.tar.gz")
    serials = [999, 1000, 10, 11]  # by name 999 is the newest
    for serial in serials:
        index.set_serial("six", serial)
        succeed(versioned.run())
        assert page(versioned, "six")["meta"]["_last-serial"] == serial
    assert serials_kept(versioned, "six") == {f".{kind}": {10, 11} for kind in PageFormat}
    assert changed_by(versioned) == set()
    assert changed_by(versioned, "--force-check") == set()


def test_fewer_states_to_keep_are_fewer_in_the_next_run(versioned: Mirror, index: FakeIndex) -> None:
    for number in range(2):
        index.add_file("six", f"six-{number}.tar.gz")
        succeed(versioned.run())
    shown = (home_of(versioned, "six") / "index.html").readlink()
    succeed(versioned.run(set={"keep_index_versions": "1"}))
    assert (home_of(versioned, "six") / "index.html").readlink() == shown
    assert serials_kept(versioned, "six") == {f".{kind}": {index.serial} for kind in PageFormat}


def test_states_of_another_writer_are_counted_by_their_time(versioned: Mirror, index: FakeIndex) -> None:
    index.add_file("six", "six-1.0.tar.gz")
    succeed(versioned.run())
    versions = home_of(versioned, "six") / "versions"
    for name in ("index_99999_2020-01-01T000000.000001Z", "index_99998_2020-01-01T000000Z"):
        (versions / f"{name}.html").write_text("old")
    (versions / "notes.txt").write_text("an operator's own")
    index.add_file("six", "six-2.0.tar.gz")
    succeed(versioned.run())
    (versions / "notes.txt").unlink()
    assert serials_kept(versioned, "six") == {f".{kind}": {index.serial - 1, index.serial} for kind in PageFormat}


def test_versions_switched_on_and_off_leave_whole_pages(mirror: Mirror, index: FakeIndex) -> None:
    mirror.settings["layout"] = "flat"
    index.add_file("six", "six-1.0.tar.gz")
    succeed(mirror.run())
    succeed(mirror.run(set=VERSIONS))
    assert (home_of(mirror, "six") / "index.html").is_symlink()
    succeed(mirror.run())
    assert sorted(path.name for path in home_of(mirror, "six").iterdir()) == [
        f"index.{kind}" for kind in sorted(PageFormat)
    ]
    assert check_tree(mirror.web, "flat", index) == []


def test_a_link_that_leaves_the_tree_is_replaced(versioned: Mirror, index: FakeIndex) -> None:
    index.add_file("six", "six-1.0.tar.gz")
    succeed(versioned.run())
    shown = home_of(versioned, "six") / "index.html"
    absolute = shown.resolve()
    shown.unlink()
    shown.symlink_to(absolute)
    succeed(versioned.run("--force-check"))
    assert str(shown.readlink()).startswith("versions/index_")


def test_a_removed_projects_states_go_with_it(versioned: Mirror, index: FakeIndex) -> None:
    for name in ("six", "idna"):
        index.add_file(name, f"{name}-1.0.tar.gz")
    succeed(versioned.run())
    index.remove_project("six")
    succeed(versioned.run())
    assert not home_of(versioned, "six").exists()
    assert home_of(versioned, "idna").exists()


def test_no_earlier_state_shows_what_is_quarantined(versioned: Mirror, index: FakeIndex) -> None:
    index.add_file("idna", "idna-1.0.tar.gz")
    for number in range(2):
        index.add_file("six", f"six-{number}.tar.gz")
        succeed(versioned.run())
    index.quarantine("six")
    succeed(versioned.run())
    assert serials_kept(versioned, "six") == {f".{kind}": {index.serial} for kind in PageFormat}


@pytest.mark.parametrize("kind", SERVERS)
def test_versioned_pages_and_documents_are_served(
    versioned: Mirror, index: FakeIndex, tmp_path: Path, kind: str
) -> None:
    index.add_file("six", "six-1.0.tar.gz")
    succeed(versioned.run(set={"json": "true"}))
    with SERVERS[kind](versioned.directory, tree_of(versioned), tmp_path) as server:
        shown = server.ask("/simple/six/", Accept="application/vnd.pypi.simple.v1+json")
        assert json.loads(shown.body)["files"][0]["filename"] == "six-1.0.tar.gz"
        for url in ("/json/six", "/pypi/six/json"):
            assert json.loads(server.ask(url).body)["info"]["name"] == "six"


@pytest.mark.parametrize("kind", SERVERS)
def test_documents_of_a_hashed_tree_are_served(mirror: Mirror, index: FakeIndex, tmp_path: Path, kind: str) -> None:
    index.add_file("six", "six-1.0.tar.gz")
    succeed(mirror.run(set={"json": "true"}))
    with SERVERS[kind](mirror.directory, tree_of(mirror), tmp_path) as server:
        for url in ("/json/six", "/pypi/six/json"):
            assert json.loads(server.ask(url).body)["info"]["name"] == "six"


def test_versions_of_a_hashed_tree_are_refused(mirror: Mirror, index: FakeIndex) -> None:
    index.add_file("six", "six-1.0.tar.gz")
    succeed(mirror.run())
    result = mirror.run(set={"keep_index_versions": "2"})
    assert (result.status, "keep_index_versions" in result.stderr) == (2, True)


# cleanup


@pytest.mark.case(52)
def test_cleanup_removes_directories_of_names_that_are_not_normalised(mirror: Mirror, index: FakeIndex) -> None:
    mirror.settings["layout"] = "flat"
    index.add_file("Zope.Interface", "zope.interface-1.0.tar.gz")
    index.add_file("six", "six-1.0.tar.gz")
    succeed(mirror.run())
    simple = mirror.web / "simple"
    for name in ("Zope.Interface", "zope.interface", "SIX"):
        (simple / name).mkdir()
        (simple / name / "index.html").write_text("old")
    (simple / "SIX" / "notes.txt").write_text("an operator's own")
    (simple / "Zope_Interface").symlink_to("zope-interface")
    for name in ("Zope.Interface", "six"):
        index.touch(name)
    succeed(mirror.run())
    assert (simple / "Zope.Interface/index.html").exists()
    for name in ("Zope.Interface", "six"):
        index.touch(name)
    succeed(mirror.run(set={"cleanup": "true"}))
    left = sorted(path.name for path in simple.iterdir() if not path.name.startswith("index."))
    assert left == ["SIX", "Zope_Interface", "six", "zope-interface"]
    assert [path.name for path in (simple / "SIX").iterdir()] == ["notes.txt"]
    (simple / "Zope_Interface").unlink()
    shutil.rmtree(simple / "SIX")
    assert check_tree(mirror.web, "flat", index) == []


def test_cleanup_knows_the_first_letters_of_a_hash_index(mirror: Mirror, index: FakeIndex) -> None:
    mirror.settings |= {"layout": "flat", "hash-index": "true", "cleanup": "true"}
    index.add_file("Django", "django-1.0.tar.gz")
    old = mirror.web / "simple/D/Django"
    old.mkdir(parents=True)
    (old / "index.html").write_text("old")
    succeed(mirror.run())
    assert not (mirror.web / "simple/D").exists()
    assert check_tree(mirror.web, "flat", index, hash_index=True) == []


# storage-filesystem-manage-permissions


@pytest.fixture
def narrow_umask() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


def modes(mirror: Mirror) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {"files": set(), "directories": set()}
    for path in mirror.web.rglob("*"):
        found["directories" if path.is_dir() else "files"].add(path.stat().st_mode & 0o777)
    return found


@pytest.mark.usefixtures("narrow_umask")
@pytest.mark.parametrize(("manages", "file_mode", "mode"), [("true", 0o644, 0o755), ("false", 0o640, 0o750)])
def test_modes_are_ours_or_the_umasks(
    mirror: Mirror, index: FakeIndex, manages: str, file_mode: int, mode: int
) -> None:
    wheel = index.add_file("six", WHEEL, content=b"x" * (3 << 20), metadata=METADATA)
    settings = {"storage-filesystem-manage-permissions": manages, "json": "true", "layout": "flat"}
    succeed(mirror.run(set=settings))
    directories = modes(mirror)["directories"]
    assert modes(mirror)["files"] == {file_mode}
    assert mode in directories
    (path,) = (mirror.web / "packages").rglob(WHEEL)
    for below in (mirror.web / "packages").iterdir():
        shutil.rmtree(below)
    assert mirror.run(command="verify", set=settings).status == 0  # which fetches it again
    assert modes(mirror) == {"files": {file_mode}, "directories": directories}
    assert wheel.mtime is not None
    assert abs(path.stat().st_mtime - wheel.mtime) < 1e-5


# compare-method


@pytest.mark.parametrize(("method", "fetched"), [("hash", 1), ("stat", 0)])
def test_a_forced_check_goes_by_bytes_or_by_size_and_time(
    mirror: Mirror, index: FakeIndex, method: str, fetched: int
) -> None:
    index.add_file("six", WHEEL, metadata=METADATA)
    succeed(mirror.run())
    spoil(at_rest(mirror, WHEEL))
    index.clear_requests()
    succeed(mirror.run("--force-check", set={"compare-method": method}))
    assert len(index.paths("/packages/")) == fetched


def test_by_stat_a_file_of_another_time_is_hashed_and_given_its_time(mirror: Mirror, index: FakeIndex) -> None:
    wheel = index.add_file("six", WHEEL, metadata=METADATA)
    sdist = index.add_file("six", "six-1.0.tar.gz")
    succeed(mirror.run())
    path, spoilt = at_rest(mirror, WHEEL), at_rest(mirror, sdist.filename)
    spoil(spoilt)
    os.utime(path, (0, 0))
    os.utime(spoilt, (0, 0))
    index.clear_requests()
    succeed(mirror.run("--force-check", set={"compare-method": "stat"}))
    assert index.paths("/packages/") == [sdist.path]
    assert wheel.mtime is not None
    assert abs(path.stat().st_mtime - wheel.mtime) < 1e-5


@pytest.mark.case(31)
@pytest.mark.parametrize("method", ["hash", "stat"])
def test_a_file_that_no_row_covers_is_taken_without_a_transfer(mirror: Mirror, index: FakeIndex, method: str) -> None:
    index.add_file("six", WHEEL, metadata=METADATA)
    succeed(mirror.run())
    shutil.rmtree(mirror.directory / ".fastmirror")
    if method == "stat":
        spoil(at_rest(mirror, WHEEL))
    index.clear_requests()
    mirror.run(set={"compare-method": method, "layout": "hashed"})
    assert [path for path in index.paths("/packages/") if not path.endswith(".metadata")] == []
    assert filenames(mirror, "six") == [WHEEL]
