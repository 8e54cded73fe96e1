"""Root indexes that cannot be used, entries that cannot be taken, settings that cannot be followed."""

from __future__ import annotations

import json
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import ROOT, Mirror
from tests.fakes import faults
from tests.fakes.index import FakeIndex
from tests.fakes.pages import HTML_TYPE, JSON_TYPE, render_json
from tests.tree import check_tree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Recorder
    from tests.fakes.pages import Dialect


METADATA = b"Metadata-Version: 2.1\nName: some\nVersion: 1.0\n"


def furnish(index: FakeIndex) -> None:
    index.add_file("six", "six-1.0-py3-none-any.whl", metadata=METADATA)
    index.add_file("foo", "foo-1.0.tar.gz")
    index.add_file("bar", "bar-1.0.tar.gz")


def tree_of(mirror: Mirror) -> dict[str, tuple[int, int]]:
    """Inode and time of every published file, and of the facts beside them."""
    paths = [*mirror.web.rglob("*"), mirror.directory / "status", mirror.directory / "generation"]
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in paths if path.is_file()}


def rows_of(mirror: Mirror) -> list[list[tuple[Any, ...]]]:
    """What the state says of the mirror; of runs it says more with each."""
    with closing(sqlite3.connect(mirror.directory / ".fastmirror" / "state.sqlite")) as state:
        return [list(state.execute(f"select * from {table}")) for table in ("meta", "project", "stored", "doomed")]


# Root indexes that cannot be used --------------------------------------------------------------------------

PORTAL = b'<!DOCTYPE html><html><body><a href="/login/">login</a> <a href="/six/">six</a></body></html>'
UNUSABLE_ROOTS = {
    "not-found": faults.status(404),
    "forbidden": faults.status(403),
    "no-content": faults.status(204),
    "empty": faults.body(b"", JSON_TYPE),
    "empty-list": faults.body(b'{"meta":{"_last-serial":9999,"api-version":"1.4"},"projects":[]}', JSON_TYPE),
    "only-invalid-names": faults.body(b'{"meta":{},"projects":[{"name":"../six"},null]}', JSON_TYPE),
    "friendly-page": faults.html_instead(),
    "portal-with-links": faults.body(PORTAL, HTML_TYPE),
    "portal-as-json": faults.body(PORTAL, JSON_TYPE),
    "json-as-html": faults.header("Content-Type", HTML_TYPE),
    "cut-in-an-entry": faults.body(b'{"meta":{"api-version":"1.4"},"projects":[{"name":"six"},{"na', JSON_TYPE),
    "cut-after-an-entry": faults.body(b'{"meta":{"api-version":"1.4"},"projects":[{"name":"six"}', JSON_TYPE),
    "a-list": faults.body(b'[{"name":"six"}]', JSON_TYPE),
    "null": faults.body(b"null", JSON_TYPE),
    "projects-missing": faults.body(b'{"meta":{"api-version":"1.4"}}', JSON_TYPE),
    "projects-null": faults.body(b'{"meta":{"api-version":"1.4"},"projects":null}', JSON_TYPE),
    "projects-object": faults.body(b'{"meta":{"api-version":"1.4"},"projects":{"six":1}}', JSON_TYPE),
    "utf-16": faults.body('{"projects":[{"name":"six"}]}'.encode("utf-16"), JSON_TYPE),
    "version-2": faults.body(b'{"meta":{"api-version":"2.0"},"projects":[{"name":"six"}]}', JSON_TYPE),
    "version-2-spaced": faults.body(b'{"meta": {"api-version": "2.0"}, "projects": [{"name": "six"}]}', JSON_TYPE),
    "redirects-for-ever": faults.redirect_loop(),
    "leads-to-a-file": faults.redirect("file:///etc/hostname"),
    "leads-to-no-address": faults.redirect("http://[::"),
    "gzip-bomb": faults.gzip_bomb(),
}


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Mirror, FakeIndex]]:
    """A mirror that is up to date, and an upstream that has news; no test changes either."""
    with FakeIndex() as index:
        furnish(index)
        mirror = Mirror(tmp_path_factory.mktemp("home"), index.url)
        assert mirror.run().status == 0
        index.add_file("foo", "foo-2.0.tar.gz")
        index.remove_project("bar")
        yield mirror, index
        mirror.close()


@pytest.mark.case(7, 9, 11)
@pytest.mark.parametrize("case", UNUSABLE_ROOTS)
def test_a_root_index_that_cannot_be_used_is_exit_5_and_changes_nothing(
    settled: tuple[Mirror, FakeIndex], case: str, record_property: Recorder
) -> None:
    mirror, index = settled
    before = tree_of(mirror), rows_of(mirror)
    rule = index.fault("/simple/", UNUSABLE_ROOTS[case])
    index.clear_requests()
    result = mirror.run()
    index.clear_faults()
    assert (result.status, result.stdout) == (5, "")
    assert result.stderr.startswith("fastmirror: error: root index ")
    assert result.stderr.count("\n") == 1
    said = result.stderr.removeprefix("fastmirror: error: ").strip()
    record_property("fault", f"root index, {case}: exit 5, nothing changed: {said}")
    assert rule.hits >= 1
    assert set(index.paths()) == {"/simple/"}
    assert (tree_of(mirror), rows_of(mirror)) == before


@pytest.mark.case(4, 7)
@pytest.mark.parametrize("case", ["empty-list", "friendly-page", "cut-in-an-entry", "version-2"])
def test_at_first_contact_such_a_root_index_publishes_nothing(mirror: Mirror, index: FakeIndex, case: str) -> None:
    furnish(index)
    index.fault("/simple/", UNUSABLE_ROOTS[case])
    assert mirror.run().status == 5
    assert [path for path in mirror.web.rglob("*") if path.is_file()] == []
    assert not (mirror.directory / "status").exists()
    index.clear_faults()
    assert mirror.run().status == 0
    assert check_tree(mirror.web, "hashed", index) == []


PASSING_ROOTS = {
    "500": faults.status(500),
    "429": faults.status(429, retry_after=1),
    "reset": faults.reset(),
    "truncated": faults.truncate(0.5),
    "not-gzip": faults.header("Content-Encoding", "gzip"),
}


@pytest.mark.case(7)
def test_a_root_index_that_stays_out_of_reach_is_asked_for_some_times_and_exit_5(
    settled: tuple[Mirror, FakeIndex], tmp_path: Path, record_property: Recorder
) -> None:
    mirror, _ = settled
    with ExitStack() as stack, socket.create_server(("127.0.0.1", 0)) as nobody:
        mirrors: dict[str, tuple[Mirror, FakeIndex | None]] = {}
        for case, fault in PASSING_ROOTS.items():
            index = stack.enter_context(FakeIndex())
            furnish(index)
            index.touch("six")  # else there is nothing to send
            index.fault("/simple/", *((faults.body(b"{}"), fault) if case == "not-gzip" else (fault,)))
            mirrors[case] = copy_of(mirror, tmp_path / case, index.url), index
        mirrors["unreachable"] = copy_of(mirror, tmp_path / "unreachable", "http://127.0.0.1:1"), None
        mirrors["silent"] = copy_of(mirror, tmp_path / "silent", f"http://127.0.0.1:{nobody.getsockname()[1]}"), None
        before = {case: (tree_of(one), rows_of(one)) for case, (one, _) in mirrors.items()}
        started = {case: one.start(set={"timeout": "1"}) for case, (one, _) in mirrors.items()}  # they wait as one
        for case, process in started.items():
            one, upstream = mirrors[case]
            stdout, stderr = process.communicate(timeout=60)
            assert (case, process.returncode, stdout) == (case, 5, "")
            assert stderr.startswith("fastmirror: error: root index cannot be read: ")
            assert upstream is None or upstream.paths() == ["/simple/"] * 4
            assert (tree_of(one), rows_of(one)) == before[case]
            record_property("fault", f"root index, always {case}: asked for four times, exit 5, nothing changed")


def copy_of(mirror: Mirror, home: Path, master: str) -> Mirror:
    shutil.copytree(mirror.home, home, symlinks=True)
    return Mirror(home, master)


def test_a_root_index_that_fails_once_is_asked_for_again(mirror: Mirror, index: FakeIndex) -> None:
    furnish(index)
    index.fault("/simple/", faults.status(503), times=1)
    assert mirror.run().status == 0
    assert check_tree(mirror.web, "hashed", index) == []


def test_plan_says_the_same_and_exits_5(settled: tuple[Mirror, FakeIndex]) -> None:
    mirror, index = settled
    index.fault("/simple/", UNUSABLE_ROOTS["cut-in-an-entry"])
    result = mirror.run(command="plan")
    index.clear_faults()
    assert (result.status, result.stdout) == (5, "")
    assert result.stderr.startswith("fastmirror: error: root index cannot be used: ")


# Entries that cannot be taken ------------------------------------------------------------------------------

ODD_ENTRIES: list[Any] = [
    None,
    5,
    "six",
    [],
    [{"name": "listed"}],
    {},
    {"_last-serial": 5},
    {"name": None},
    {"name": 5},
    {"name": ["six"]},
    *({"name": name, "_last-serial": 7} for name in ("", ".", "..", "-x", "x-", "../x", "a/b", "a\\b", "a\0b", "nö")),
    *({"name": name, "_last-serial": 7} for name in ("x" * 300, " six", "six\n", "%2e%2e", "/etc/passwd", "a b")),
]


def written(document: dict[str, Any], form: str) -> bytes:
    return render_json(document) if form == "as PyPI writes" else json.dumps(document, indent=1).encode()


@pytest.mark.case(6)
@pytest.mark.parametrize("form", ["as PyPI writes", "as others write"])
def test_odd_entries_of_the_root_index_are_left_out_and_logged_and_all_others_mirrored(
    mirror: Mirror, index: FakeIndex, form: str, record_property: Recorder
) -> None:
    record_property("fault", f"root index, {len(ODD_ENTRIES)} odd entries: left out and logged, all others mirrored")
    furnish(index)
    names = [{"name": name, "_last-serial": state.serial} for name, state in index.projects().items()]
    document = {"meta": {"_last-serial": index.serial, "api-version": "1.9"}, "projects": [*ODD_ENTRIES, *names]}
    index.fault("/simple/", faults.body(written(document, form), JSON_TYPE))
    result = mirror.run()
    assert result.status == 0
    assert check_tree(mirror.web, "hashed", index) == []
    assert sorted(path.name for path in mirror.home.iterdir()) == ["mirror"]
    log = (mirror.directory / ".fastmirror/log/fastmirror.log").read_text()
    assert log.count("root index: entry without a valid name: ") == 20
    assert f"root index: and {len(ODD_ENTRIES) - 20} more entries left out" in log
    assert {path.split("/")[2] for path in index.paths("/simple/")} == {"", "six", "foo", "bar"}


@pytest.mark.case(5)
@pytest.mark.parametrize(("dialect", "label"), [("json", "foo_bar"), ("html", "foo-bar")])
def test_two_names_of_one_project_are_one_and_logged(
    mirror: Mirror, index: FakeIndex, dialect: Dialect, label: str
) -> None:
    index.dialect = dialect
    index.add_file("Foo.Bar", "foo_bar-1.0-py3-none-any.whl", metadata=METADATA)

    def repeat(document: dict[str, Any]) -> None:
        document["projects"].append({**document["projects"][0], "name": "foo_bar"})

    index.fault("/simple/", faults.alter(repeat))
    assert mirror.run().status == 0
    assert check_tree(mirror.web, "hashed", index) == []
    log = (mirror.directory / ".fastmirror/log/fastmirror.log").read_text()
    assert f"root index: name listed twice: '{label}'" in log


ABSURD_SERIALS: list[Any] = [2**63, 2**64 - 1, 2**64, -5, 0, 1.5, True, None, "", "soon", "9" * 30, "9" * 5000, [1], {}]


@pytest.mark.parametrize("form", ["as PyPI writes", "as others write"])
def test_absurd_serials_harm_nobody(mirror: Mirror, index: FakeIndex, form: str) -> None:
    furnish(index)
    listed: list[Any] = [{"name": name, "_last-serial": state.serial} for name, state in index.projects().items()]
    for number, serial in enumerate(ABSURD_SERIALS):
        listed.append({"name": f"absurd-{number}", "_last-serial": serial})
        index.fault(f"/simple/absurd-{number}/", faults.status(403))
    document = {"meta": {"_last-serial": 2**64 - 1, "api-version": "1.4"}, "projects": listed}
    index.fault("/simple/", faults.body(written(document, form), JSON_TYPE))
    result = mirror.run()
    assert (result.status, result.stderr) == (1, "")
    assert sorted(mirror.failures()) == sorted(f"absurd-{number}" for number in range(len(ABSURD_SERIALS)))
    index.clear_faults()
    assert mirror.run().status in {0, 1}
    assert check_tree(mirror.web, "hashed", index) == []


# Settings that cannot be followed --------------------------------------------------------------------------


def fastmirror(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fastmirror", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )


BAD_SETTINGS = {
    "workers = many": "'many': expected a whole number",
    "workers = 11": "'11': expected a whole number from 1 to 10",
    "layout = nested": "'nested': expected one of flat, hashed",
    "transport = pigeon": "'pigeon': expected one of curl, requests",
    "unhashed = maybe": "'maybe': expected one of refuse, accept",
    "simple-format = XML": "'XML': expected one of ALL, HTML, JSON",
    "durability = perhaps": "'perhaps': expected one of",
    "timeout = -1": "'-1': expected a number of seconds above 0",
    "min-free = plenty": "'plenty': expected",
    "delete-grace = soon": "'soon': expected seconds, or a duration such as",
    "staging = here": "'here': expected an absolute path",
    "proxy = 127.0.0.1": "'127.0.0.1': expected",
    "master = http://index.invalid": "expected an https address (hint: allow-non-https = true)",
    "layout = hashed\nhash-index = true": "'true': expected false with layout = hashed",
    "[plugins]\nenabled = allowlist_release": "nothing would be left of the mirror",
}


@pytest.mark.parametrize("lines", BAD_SETTINGS)
def test_a_bad_setting_is_exit_2_with_its_line_and_what_is_accepted(tmp_path: Path, lines: str) -> None:
    conf, directory = tmp_path / "fastmirror.conf", tmp_path / "mirror"
    conf.write_text(f"[mirror]\ndirectory = {directory}\n{lines}\n")
    done = fastmirror("-c", conf, "mirror")
    assert (done.returncode, done.stdout) == (2, "")
    line = 3 + lines.count("\n")
    assert done.stderr.startswith(f"fastmirror: error: {conf}:{line}: [")
    assert BAD_SETTINGS[lines] in done.stderr
    assert not directory.exists()


def test_what_no_version_knows_is_a_warning_and_the_run_goes_on(mirror: Mirror, index: FakeIndex) -> None:
    furnish(index)
    conf = mirror.home / "fastmirror.conf"
    conf.write_text(
        f"[mirror]\ndirectory = {mirror.directory}\nmaster = {index.url}\nallow-non-https = true\nmin-free = 0\n"
        "layout = hashed\ntime-out = 5\n[statistics]\nkeep = yes\n[plugins]\nenabled = no_such_plugin\n"
    )
    done = fastmirror("-c", conf, "mirror")
    assert done.returncode == 0
    warnings = done.stderr.splitlines()
    assert [line.startswith("fastmirror: warning: ") for line in warnings] == [True] * 3
    assert f"{conf}:7: [mirror] time-out" in done.stderr
    assert "timeout" in done.stderr  # the nearest right name
    assert "statistics" in done.stderr
    assert "no_such_plugin" in done.stderr
    assert check_tree(mirror.web, "hashed", index) == []


@pytest.mark.parametrize(
    ("first", "then", "said"),
    [
        ({"layout": "hashed"}, {"layout": "flat"}, "layout = flat: this mirror's tree is hashed"),
        ({"layout": "flat"}, {"layout": "hashed"}, "layout = hashed: this mirror's tree is flat"),
        ({"layout": "flat"}, {"hash-index": "true"}, "hash-index = true: "),
    ],
)
def test_a_layout_that_contradicts_the_tree_is_exit_2_and_changes_nothing(
    mirror: Mirror, index: FakeIndex, first: dict[str, str], then: dict[str, str], said: str
) -> None:
    furnish(index)
    assert mirror.run(set=first).status == 0
    index.touch("six")
    before = tree_of(mirror), rows_of(mirror)
    result = mirror.run(set=then)
    assert (result.status, result.stdout) == (2, "")
    assert said in result.stderr
    assert (tree_of(mirror), rows_of(mirror)) == before


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    """A directory on another file system than the tests' own."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as path:
        assert Path(path).stat().st_dev != tmp_path.stat().st_dev
        yield Path(path)


@pytest.mark.parametrize("moved", ["web", "web/packages", "web/simple"])
def test_a_tree_on_another_disk_than_staging_is_exit_2_with_the_line_that_mends_it(
    mirror: Mirror, index: FakeIndex, other_disk: Path, moved: str
) -> None:
    furnish(index)
    place = mirror.directory / moved
    place.parent.mkdir(parents=True)
    (other_disk / place.name).mkdir()
    place.symlink_to(other_disk / place.name)
    refused = mirror.run()
    assert (refused.status, refused.stdout) == (2, "")
    assert [path for path in mirror.web.rglob("*") if path.is_file()] == []
    _, _, hint = refused.stderr.partition("(hint: add to [mirror]: staging = ")
    staging = hint.rstrip(")\n")
    assert staging.startswith(str(other_disk))
    assert mirror.run(set={"staging": staging}).status == 0
    bring_back(place)
    assert check_tree(mirror.web, "hashed", index) == []


def bring_back(place: Path) -> None:
    """Let a directory stand where a link to it stood, with the hard links that were in it."""
    target = place.resolve()
    place.unlink()
    subprocess.run(["cp", "-a", str(target), str(place)], check=True)
