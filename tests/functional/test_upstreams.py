"""Every kind of upstream: with and without serials, HTML alone, other hosts, a mirror of our own."""

from __future__ import annotations

import base64
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import Mirror
from tests.fakes import faults
from tests.fakes.index import FakeIndex
from tests.fakes.oddities import fill_with_oddities
from tests.nginx import Nginx, free_port, running_nginx
from tests.published import filenames, page, page_file, problems, root, stamps, stored, succeed, written

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from tests.fakes.pages import Dialect
    from tests.fakes.wire import Record

METADATA = b"Metadata-Version: 2.1\n"
WHEEL = "six-1.0-py3-none-any.whl"
PASSWORD = "hunter2+ä"


def entry_of(mirror: Mirror, project: str, filename: str) -> dict[str, Any]:
    return next(entry for entry in page(mirror, project)["files"] if entry["filename"] == filename)


def pages_asked(index: FakeIndex) -> list[Record]:
    return [record for record in index.requests if record.path.startswith("/simple/") and record.path != "/simple/"]


@pytest.fixture
def other_host(index: FakeIndex) -> Iterator[FakeIndex]:
    """Another origin."""
    with FakeIndex() as other:
        yield other


# JSON without serials


@pytest.mark.case(4)
def test_without_serials_every_page_is_asked_for_conditionally_and_nothing_is_written(
    mirror: Mirror, index: FakeIndex
) -> None:
    index.dialect = "json-no-serials"
    fill_with_oddities(index)
    succeed(mirror.run())
    assert problems(mirror, index) == []
    assert not (mirror.directory / "status").exists()
    assert root(mirror)["serial"] is None
    log = (mirror.directory / ".fastmirror/log/fastmirror.log").read_text()
    assert "root index: without serials, so every project is asked for" in log
    before = stamps(mirror.web)
    index.clear_requests()
    succeed(mirror.run())
    assert sorted(index.paths()) == ["/simple/", *(f"/simple/{name}/" for name in sorted(index.projects()))]
    assert {record.status for record in index.requests} == {304}
    assert written(before, stamps(mirror.web)) == set()


@pytest.mark.case(4)
def test_without_serials_and_etags_the_content_says_what_changed(mirror: Mirror, index: FakeIndex) -> None:
    index.dialect = "json-no-serials"
    index.fault("/simple/*", faults.no_header("ETag"))
    index.fill(6)
    index.add_file("six", WHEEL, metadata=METADATA)
    succeed(mirror.run())
    before = stamps(mirror.web)
    index.clear_requests()
    succeed(mirror.run())
    assert {record.status for record in index.requests} == {200}
    assert written(before, stamps(mirror.web)) == set()
    index.add_file("six", "six-2.0.tar.gz")
    index.clear_requests()
    succeed(mirror.run())
    assert [path.rpartition("/")[2] for path in index.paths("/packages/")] == ["six-2.0.tar.gz"]
    changed = {path for path in written(before, stamps(mirror.web)) if path.startswith("simple/")}
    assert {path.rpartition("/")[2] for path in changed} == {"six.html", "six.v1_json"}
    assert problems(mirror, index) == []


@pytest.mark.case(4)
def test_a_project_that_is_new_or_gone_without_serials(mirror: Mirror, index: FakeIndex) -> None:
    index.dialect = "json-no-serials"
    for name in ("a", "b"):
        index.add_file(name, f"{name}-1.0.tar.gz")
    succeed(mirror.run())
    index.remove_project("a")
    index.add_file("c", "c-1.0.tar.gz")
    succeed(mirror.run(set={"delete-grace": "0"}))
    assert list(root(mirror)["projects"]) == ["b", "c"]
    assert problems(mirror, index) == []


# HTML alone


@pytest.mark.parametrize("legacy", [True, False])
def test_an_html_index_is_mirrored_with_all_that_it_and_its_legacy_json_say(
    legacy: bool, mirror: Mirror, index: FakeIndex
) -> None:
    index.dialect, index.legacy = "html", legacy
    fill_with_oddities(index, plain=True)
    succeed(mirror.run())
    assert problems(mirror, index) == []
    assert page(mirror, "whole-project")["versions"] == ["1.0", "1.1", "2.0", "3.0", "4.0"]
    large = entry_of(mirror, "whole-project", "whole_project-4.0.tar.gz")
    assert large["size"] == 3 << 20  # of what is stored: HTML says none
    serials = {name: state.serial for name, state in index.projects().items()}
    said = root(mirror)["projects"]
    assert said == {name: serials[name] if legacy and name != "empty" else None for name in serials}
    before = stamps(mirror.web)
    index.clear_requests()
    succeed(mirror.run())
    assert {record.status for record in index.requests} == {304}
    assert index.paths("/pypi/") == []
    assert written(before, stamps(mirror.web)) == set()


def test_one_changed_page_of_an_html_index_is_published(mirror: Mirror, index: FakeIndex) -> None:
    index.dialect = "html"
    for name in ("six", "idna"):
        index.add_file(name, f"{name}-1.0-py3-none-any.whl", metadata=METADATA)
    succeed(mirror.run())
    file = index.add_file("six", "six-2.0-py3-none-any.whl", metadata=METADATA, yanked="oh no")
    index.clear_requests()
    succeed(mirror.run())
    assert index.paths("/packages/") == [file.path, f"{file.path}.metadata"]
    assert index.paths("/pypi/") == ["/pypi/six/json"]
    assert page(mirror, "six")["meta"]["_last-serial"] == index.serial
    assert problems(mirror, index) == []


def test_another_upstream_may_speak_another_dialect(mirror: Mirror, index: FakeIndex, other_host: FakeIndex) -> None:
    other_host.dialect = "html"
    for upstream in (index, other_host):
        upstream.add_file("six", WHEEL, metadata=METADATA)
    other_host.add_file("idna", "idna-1.0.tar.gz")
    succeed(mirror.run())
    mirror.master = other_host.url
    succeed(mirror.run())
    assert problems(mirror, other_host) == []
    index.add_file("certifi", "certifi-1.0.tar.gz")
    mirror.master = index.url
    mirror.run(set={"max-removals": "5"})
    assert filenames(mirror, "certifi") == ["certifi-1.0.tar.gz"]


def test_metadata_that_an_html_page_leaves_out_is_completed_by_the_legacy_json(
    mirror: Mirror, index: FakeIndex
) -> None:
    index.dialect = "html"
    file = index.add_file("six", WHEEL, metadata=METADATA)
    index.add_file("six", "six-1.0.tar.gz", yanked="no <reason>")

    def strip(document: dict[str, Any]) -> None:
        for entry in document["files"]:
            entry["core-metadata"] = False
            entry["yanked"] = bool(entry["yanked"])

    index.fault("/simple/six/", faults.alter(strip))
    succeed(mirror.run())
    assert problems(mirror, index) == []
    entry = entry_of(mirror, "six", WHEEL)
    assert (entry["core-metadata"], entry["upload-time"]) == ({"sha256": file.metadata_sha256}, file.upload_time)
    assert entry_of(mirror, "six", "six-1.0.tar.gz")["yanked"] == "no <reason>"


def test_legacy_json_of_other_files_completes_nothing(mirror: Mirror, index: FakeIndex) -> None:
    index.dialect = "html"
    index.add_file("six", WHEEL)

    def falsify(document: dict[str, Any]) -> dict[str, Any]:
        for entry in [*document["urls"], *(one for listed in document["releases"].values() for one in listed)]:
            entry["digests"]["sha256"] = "0" * 64
            entry["requires_python"] = ">=99"
        return document

    index.fault("/pypi/six/json", faults.alter_json(falsify))
    succeed(mirror.run())
    entry = entry_of(mirror, "six", WHEEL)
    assert not entry.get("requires-python")
    assert "upload-time" not in entry


def test_an_empty_project_of_an_html_index_survives_a_change_of_settings(mirror: Mirror, index: FakeIndex) -> None:
    index.dialect = "html"
    index.add_project("empty")
    index.add_file("six", WHEEL)
    succeed(mirror.run())
    succeed(mirror.run(set={"root_uri": "https://files.example"}))
    assert filenames(mirror, "empty") == []


# A dialect is for good


@pytest.mark.parametrize("page_of", ["a-first", "six"])
def test_a_page_in_another_format_at_first_contact_does_not_settle_the_dialect(
    page_of: str, mirror: Mirror, index: FakeIndex
) -> None:
    portal = b'<!DOCTYPE html><a href="/login-1.0.tar.gz#sha256=%s">log in</a>' % (b"0" * 64)
    for name in ("a-first", "six"):
        index.add_file(name, f"{name}-1.0-py3-none-any.whl".replace("-f", "_f"), metadata=METADATA)
    index.fault(f"/simple/{page_of}/", faults.body(portal, "text/html"))
    assert mirror.run().status == 1
    index.clear_faults()
    succeed(mirror.run())
    assert problems(mirror, index) == []


def test_an_html_index_is_completed_though_its_first_projects_have_nothing_to_complete(
    mirror: Mirror, index: FakeIndex
) -> None:
    index.dialect = "html"
    index.add_project("a-first")
    index.add_file("six", WHEEL, metadata=METADATA)
    succeed(mirror.run())
    assert problems(mirror, index) == []


@pytest.mark.parametrize("dialect", ["json", "json-no-serials", "html"])
def test_a_first_contact_without_any_page_leaves_a_mirror_that_the_next_run_fills(
    dialect: Dialect, mirror: Mirror, index: FakeIndex
) -> None:
    index.dialect = dialect
    index.fault("/simple/?*", faults.status(403))
    index.fill(7)
    assert mirror.run().status == 1
    index.clear_faults()
    succeed(mirror.run())
    assert problems(mirror, index) == []
    succeed(mirror.run())


def test_a_page_in_another_format_fails_its_project_and_changes_nothing_else(mirror: Mirror, index: FakeIndex) -> None:
    for name in ("six", "idna"):
        index.add_file(name, f"{name}-1.0-py3-none-any.whl", metadata=METADATA)
    succeed(mirror.run())
    index.touch("six")
    index.add_file("idna", "idna-2.0.tar.gz")
    index.fault("/simple/six/", faults.html_instead())
    done = mirror.run()
    assert done.status == 1
    assert "  six: page: not in this upstream's format: 'text/html" in done.stdout
    assert filenames(mirror, "six") == [WHEEL]
    assert filenames(mirror, "idna")[-1] == "idna-2.0.tar.gz"
    index.clear_faults()
    succeed(mirror.run())
    assert problems(mirror, index) == []


# Addresses


@pytest.mark.case(24)
@pytest.mark.parametrize("dialect", ["json", "html"])
@pytest.mark.parametrize("layout", ["hashed", "flat"])
def test_relative_urls_lead_to_the_same_tree(dialect: Dialect, layout: str, mirror: Mirror, index: FakeIndex) -> None:
    index.dialect, index.relative_urls = dialect, True
    mirror.settings["layout"] = layout
    fill_with_oddities(index, plain=True)
    succeed(mirror.run())
    assert problems(mirror, index) == []


@pytest.mark.parametrize("transport", ["curl", "requests"])
def test_files_may_have_a_host_of_their_own(transport: str, tmp_path: Path) -> None:
    with FakeIndex(file_host=True) as index:
        fill_with_oddities(index)
        mirror = Mirror(tmp_path, index.url)
        mirror.settings["transport"] = transport
        succeed(mirror.run())
        assert problems(mirror, index) == []
        assert {record.side for record in index.requests if record.path.startswith("/packages/")} == {"files"}
        mirror.close()


def test_files_without_pypis_paths_are_placed_by_their_digest(mirror: Mirror, index: FakeIndex) -> None:
    file = index.add_file("six", WHEEL, metadata=METADATA, path="/packages/files/of/six/six-1.0-py3-none-any.whl")
    mirror.settings["layout"] = "flat"
    succeed(mirror.run())
    digest = file.sha256
    assert (mirror.web / "packages" / digest[:2] / digest[2:4] / digest[4:] / WHEEL).is_file()
    assert problems(mirror, index) == []


# Odd JSON


@pytest.mark.parametrize("transport", ["curl", "requests"])
def test_serials_given_as_strings_are_numbers_here(transport: str, mirror: Mirror, index: FakeIndex) -> None:
    mirror.settings["transport"] = transport
    index.fill(5)

    def as_strings(document: dict[str, Any]) -> dict[str, Any]:
        for part in [document["meta"], *document.get("projects", [])]:
            part["_last-serial"] = str(part["_last-serial"])
        return document

    index.fault("/simple/*", faults.alter(as_strings))
    succeed(mirror.run())
    assert problems(mirror, index) == []
    assert root(mirror)["serial"] == index.serial
    index.clear_requests()
    succeed(mirror.run())
    assert index.paths() == ["/simple/"]


@pytest.mark.case(9)
def test_a_newer_minor_version_with_unknown_keys_is_mirrored(mirror: Mirror, index: FakeIndex) -> None:
    index.add_file("six", WHEEL, metadata=METADATA)

    def modernise(document: dict[str, Any]) -> None:
        document["meta"] |= {"api-version": "1.9", "tracks": ["https://elsewhere.example/simple/six/"]}
        document["x-new"] = {"a": 1}
        for entry in document.get("files", []):
            entry["x-newer"] = [None, 1.5]
        for entry in document.get("projects", []):
            entry["x-newest"] = {"_last-serial": 1}

    index.fault("/simple/*", faults.alter(modernise))
    result = mirror.run()
    assert result.status == 0
    warning = "fastmirror: warning: root index: api-version 1.9 is newer than 1.4: unknown keys are passed on"
    assert result.stderr.splitlines() == [warning]
    document = page(mirror, "six")
    assert document["meta"]["api-version"] == "1.4"
    assert (document["x-new"], document["files"][0]["x-newer"]) == ({"a": 1}, [None, 1.5])
    assert problems(mirror, index) == []
    index.add_file("idna", "idna-1.0.tar.gz")
    index.clear_requests()
    assert mirror.run().stderr.splitlines() == [warning]
    assert {record.path for record in pages_asked(index)} == {"/simple/idna/"}
    assert problems(mirror, index) == []


def test_a_root_index_that_lists_odd_and_repeated_names_gives_the_rest(mirror: Mirror, index: FakeIndex) -> None:
    index.add_file("six", WHEEL)

    def spoil(document: dict[str, Any]) -> None:
        good = document["projects"][0]
        document["projects"] += [{"name": "../evil"}, {"name": ""}, {"nom": "x"}, good, {"name": None}, {"name": "-"}]

    index.fault("/simple/", faults.alter(spoil))
    done = mirror.run()
    assert done.status == 0
    assert problems(mirror, index) == []


# Another mirror of ours


@contextmanager
def served(mirror: Mirror, home: Path) -> Iterator[Nginx]:
    """What `fastmirror nginx` prints, in a real nginx."""
    port = free_port()
    printed = mirror.run("--listen", f"127.0.0.1:{port}", command="nginx")
    succeed(printed)
    state = mirror.directory / ".fastmirror/nginx"
    state.mkdir(exist_ok=True)
    with running_nginx(printed.stdout, home, port, state / "access.log") as nginx:
        yield nginx


@pytest.mark.case(55)
@pytest.mark.parametrize("layout", ["hashed", "flat"])
def test_a_mirror_of_a_mirror_is_like_the_first(layout: str, mirror: Mirror, index: FakeIndex, tmp_path: Path) -> None:
    mirror.settings["layout"] = layout
    fill_with_oddities(index)
    succeed(mirror.run())
    with served(mirror, tmp_path / "nginx") as nginx:
        home = tmp_path / "second"
        home.mkdir()
        second = Mirror(home, nginx.url)
        second.settings["layout"] = layout
        succeed(second.run())
        assert problems(second, index) == []
        assert root(second) == root(mirror)
        if layout == "flat":
            assert {path: content(second, path) for path in paths(second)} == {
                path: content(mirror, path) for path in paths(mirror)
            }
        asked = len(nginx.log_lines(at_least=1))
        before = stamps(second.web)
        succeed(second.run())
        assert [line.split('"')[1] for line in nginx.log_lines(asked + 1)[asked:]] == [
            "GET /changes/head.json HTTP/1.1"
        ]
        assert written(before, stamps(second.web)) == set()

        index.add_file("archived", "archived-2.0-py3-none-any.whl", metadata=METADATA)
        index.remove_project("vendored")
        for one in (mirror, second):
            succeed(one.run(set={"delete-grace": "0"}))
            assert problems(one, index) == []
        second.close()


def paths(mirror: Mirror) -> list[str]:
    every = (path.relative_to(mirror.web).as_posix() for path in mirror.web.rglob("*") if path.is_file())
    return sorted(path for path in every if path != "last-modified")


def content(mirror: Mirror, path: str) -> bytes:
    return (mirror.web / path).read_bytes()


# Credentials


def authorised(records: Collection[Record]) -> set[str | None]:
    return {record.headers.get("authorization") for record in records}


def kept_by(mirror: Mirror) -> bytes:
    """Every byte of the mirror's directory that is no distribution file."""
    return b"".join(
        path.read_bytes()
        for path in mirror.directory.rglob("*")
        if path.is_file() and "packages" not in path.relative_to(mirror.directory).parts
    )


@pytest.mark.parametrize("transport", ["curl", "requests"])
def test_credentials_go_to_the_index_alone_and_are_written_nowhere(transport: str, tmp_path: Path) -> None:
    with FakeIndex(file_host=True) as index:
        index.credentials = ("me@here", PASSWORD)
        index.dialect = "html"
        index.fill(4)
        index.add_file("six", WHEEL, metadata=METADATA)
        index.fault("/packages/*/six-1.0*", faults.status(403))
        index.fault("/simple/py-*", faults.status(403))
        mirror = Mirror(tmp_path, index.url.replace("//", "//me%40here:hunter2+%C3%A4@"))
        mirror.settings["transport"] = transport
        done = mirror.run()
        assert done.status == 1
        pair = base64.b64encode(f"me@here:{PASSWORD}".encode()).decode()
        assert authorised([record for record in index.requests if record.side == "index"]) == {f"Basic {pair}"}
        assert authorised([record for record in index.requests if record.side == "files"]) == {None}
        status = mirror.run("--json", command="status")
        said = (done.stdout + done.stderr + status.stdout + mirror.run(command="plan").stdout).encode()
        for secret in (b"hunter2", pair.encode()):
            assert secret not in said
            assert secret not in kept_by(mirror)
        mirror.close()


@pytest.mark.case(41)
@pytest.mark.parametrize("transport", ["curl", "requests"])
def test_a_redirect_takes_no_credentials_to_another_host(
    transport: str, mirror: Mirror, index: FakeIndex, other_host: FakeIndex
) -> None:
    mirror.settings["transport"] = transport
    for one in (index, other_host):
        one.add_file("six", WHEEL)
        one.add_file("idna", "idna-1.0-py3-none-any.whl")
    index.credentials = ("me", PASSWORD)
    mirror.master = index.url.replace("//", "//me:hunter2+%C3%A4@")
    index.fault("/simple/six/", faults.redirect(f"{other_host.url}/simple/six/"))
    index.fault("/packages/*idna*", faults.redirect(f"{other_host.url}{other_host.projects()['idna'].files[0].path}"))
    mirror.run()
    assert {record.path.split("/")[1] for record in other_host.requests} == {"simple", "packages"}
    assert authorised(other_host.requests) == {None}
    assert {WHEEL, "idna-1.0-py3-none-any.whl"} <= stored(mirror)


def test_credentials_may_come_from_a_netrc_file(mirror: Mirror, index: FakeIndex, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password hunter2\n")
    netrc.chmod(0o600)
    index.credentials = ("me", "hunter2")
    index.add_file("six", WHEEL, metadata=METADATA)
    assert mirror.run().status == 5
    succeed(mirror.run(set={"netrc": netrc}))
    assert problems(mirror, index) == []
    assert b"hunter2" not in kept_by(mirror)


def test_wrong_credentials_are_exit_5_and_change_nothing(mirror: Mirror, index: FakeIndex) -> None:
    index.add_file("six", WHEEL)
    succeed(mirror.run())
    before = stamps(mirror.web)
    index.credentials = ("me", "other")
    mirror.master = index.url.replace("//", "//me:hunter2@")
    index.add_file("six", "six-2.0.tar.gz")
    done = mirror.run()
    assert done.status == 5
    assert "401" in done.stderr
    assert "hunter2" not in done.stdout + done.stderr
    assert written(before, stamps(mirror.web)) == set()
    assert page_file(mirror, "six").exists()
    assert json.loads(mirror.run("--json", command="status").stdout)["projects"] == 1
