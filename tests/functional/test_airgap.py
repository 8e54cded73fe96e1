"""export and import: a mirror is carried to where no network is, whole or not at all."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import stat
import subprocess
from typing import TYPE_CHECKING

import pytest

from fastmirror.bundle import read_header
from fastmirror.display import open_progress
from fastmirror.errors import UpstreamError
from fastmirror.importing import import_bundle
from fastmirror.layout import PageFormat
from fastmirror.settings_file import parse_settings
from tests.conftest import Mirror, Result
from tests.crashes.probed import JOURNAL
from tests.processes import until
from tests.published import at_rest, page_file, problems, root, spoil, stamps, stored, succeed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.fakes.index import FakeIndex

METADATA = b"Metadata-Version: 2.1\n"
LAYOUTS = {
    "hashed": {"layout": "hashed", "json": "true"},
    "flat": {"layout": "flat", "json": "true"},
    "flat, with versions": {"layout": "flat", "keep_index_versions": "2"},
    "flat, with hash-index": {"layout": "flat", "hash-index": "true"},
}


@pytest.fixture
def near(mirror: Mirror, index: FakeIndex) -> Mirror:
    """A mirror of three projects, with a network."""
    for name in ("six", "idna", "attrs"):
        index.add_file(name, f"{name}-1.0-py3-none-any.whl", metadata=METADATA)
    mirror.settings["delete-grace"] = "0"
    assert mirror.run().status == 0
    return mirror


@pytest.fixture
def far(tmp_path: Path, mirror: Mirror) -> Iterator[Mirror]:
    """Where it is carried to; nothing there yet, and no upstream."""
    home = tmp_path / "far"
    home.mkdir()
    far = Mirror(home, "http://127.0.0.1:1")
    far.settings = mirror.settings
    yield far
    far.close()


def export(near: Mirror, name: str = "bundle", *arguments: str) -> Path:
    """A bundle beside the mirror."""
    bundle = near.home / name
    result = near.run(str(bundle), *arguments, command="export")
    succeed(result)
    return bundle


def apply(far: Mirror, bundle: Path, *arguments: str) -> Result:
    return far.run(str(bundle), *arguments, command="import")


def contents(mirror: Mirror) -> dict[str, tuple[bytes | str, int]]:
    """Everything below web/ that mirrors have in common: bytes or link, and of files their times."""
    found: dict[str, tuple[bytes | str, int]] = {}
    for path in mirror.web.rglob("*"):
        name = path.relative_to(mirror.web).as_posix()
        if name.startswith(("status", "changes/")):
            continue
        if path.is_symlink():
            found[name] = os.readlink(path), 0
        elif path.is_file():
            found[name] = path.read_bytes(), path.stat().st_mtime_ns if name.startswith("packages/") else 0
    return found


def change(index: FakeIndex) -> None:
    """Something of every kind: new, other, yanked, dropped, removed, quarantined."""
    index.add_file("new", "new-1.0-py3-none-any.whl", metadata=METADATA)
    index.add_file("six", "six-2.0.tar.gz")
    index.set_yanked("six", "six-1.0-py3-none-any.whl", "broken")
    index.remove_project("attrs")
    index.quarantine("idna")


@pytest.mark.parametrize("settings", LAYOUTS.values(), ids=LAYOUTS)
def test_the_trees_are_equal_after_everything_and_after_what_changed(
    mirror: Mirror, index: FakeIndex, far: Mirror, settings: dict[str, str]
):
    mirror.settings |= settings
    for name in ("six", "idna", "attrs"):
        index.add_file(name, f"{name}-1.0-py3-none-any.whl", metadata=METADATA)
    mirror.settings["delete-grace"] = "0"
    mirror.run()
    succeed(apply(far, export(mirror, "all")))
    assert contents(far) == contents(mirror)
    change(index)
    assert mirror.run().status == 0
    bundle = export(mirror, "changes", "--since", "1")
    succeed(apply(far, bundle))
    assert contents(far) == contents(mirror)
    carried = (bundle / "manifest").read_text()
    assert "six-2.0.tar.gz" in carried
    assert 'six-1.0-py3-none-any.whl",' not in carried  # it is there already


def test_the_far_side_is_a_mirror_of_its_own(near: Mirror, far: Mirror):
    apply(far, export(near))
    assert problems(far, None) == []
    assert far.status()["complete"] is True
    assert far.status()["files"] == near.status()["files"] == 3
    spoil(at_rest(far, "six-1.0-py3-none-any.whl"))
    assert "six-1.0-py3-none-any.whl" in far.run("--dry-run", command="verify").stdout


def test_a_chain_of_bundles_may_be_named_by_the_last_one(near: Mirror, index: FakeIndex, far: Mirror):
    first = export(near, "1")
    index.add_file("six", "six-2.0.tar.gz")
    near.run()
    second = export(near, "2", "--since", str(first))
    index.add_file("six", "six-3.0.tar.gz")
    near.run()
    third = export(near, "3", "--since", str(second))
    assert {"six-3.0.tar.gz"} == {name for name in ("six-2.0.tar.gz", "six-3.0.tar.gz") if carries(third, name)}
    assert not carries(second, "six-3.0.tar.gz")


def carries(bundle: Path, filename: str) -> bool:
    return f'/{filename}"' in (bundle / "manifest").read_text()


def test_a_bundle_that_is_not_the_next_one_is_refused_and_says_which_is_missing(
    near: Mirror, index: FakeIndex, far: Mirror
):
    apply(far, export(near, "1"))
    for number in ("2", "3"):
        index.add_file("six", f"six-{number}.0.tar.gz")
        near.run()
        export(near, number, "--since", str(int(number) - 1))
    before = stamps(far.web)
    result = apply(far, near.home / "3")
    assert result.status == 5
    assert "number 3 follows number 2, and here is number 1" in result.stderr
    assert stamps(far.web) == before


def test_an_older_bundle_is_refused_and_says_which_is_here(near: Mirror, index: FakeIndex, far: Mirror):
    everything = export(near, "1")
    for number in ("2", "3"):
        index.add_file("six", f"six-{number}.0.tar.gz")
        near.run()
        export(near, number, "--since", str(int(number) - 1))
    for bundle in (everything, near.home / "2", near.home / "3"):
        succeed(apply(far, bundle))
    before = stamps(far.web)
    for bundle in (everything, near.home / "2"):
        result = apply(far, bundle)
        assert (result.status, f"number {bundle.name} is older than number 3" in result.stderr) == (5, True)
        assert stamps(far.web) == before
    succeed(apply(far, near.home / "3"))
    assert contents(far) == contents(near)


def test_a_bundle_of_everything_takes_the_place_of_what_is_there(near: Mirror, index: FakeIndex, far: Mirror):
    apply(far, export(near, "1"))
    change(index)
    near.run()
    succeed(apply(far, export(near, "all")))
    assert contents(far) == contents(near)


@pytest.mark.parametrize("harm", ["cut", "altered", "missing"])
def test_a_bundle_with_one_bad_file_is_refused_with_its_name_and_nothing_changes(
    near: Mirror, index: FakeIndex, far: Mirror, harm: str
):
    apply(far, export(near, "1"))
    change(index)
    near.run()
    bundle = export(near, "2", "--since", "1")
    before = stamps(far.web)
    settings = parse_settings(None, overrides={"directory": str(far.directory), "min-free": "0"})
    for path in sorted(path for path in bundle.rglob("*") if path.is_file() and path.stat().st_size):
        kept = path.read_bytes()
        if harm == "cut":
            path.write_bytes(kept[:-1])
        elif harm == "altered":
            spoil(path)
        else:
            path.unlink()
        with pytest.raises(UpstreamError, match=path.name):
            import_bundle(settings, str(bundle), None, open_progress(io.StringIO()), ended=lambda _: None)
        assert stamps(far.web) == before
        path.write_bytes(kept)
    succeed(apply(far, bundle))
    assert contents(far) == contents(near)


@pytest.mark.parametrize("harm", ["longer", "pipe", "link", "directory", "socket"])
def test_what_is_not_the_file_that_the_manifest_says_is_not_read(near: Mirror, far: Mirror, harm: str):
    bundle = export(near)
    path = next(path for path in bundle.glob("objects/*/*") if path.read_bytes() == METADATA)
    path.unlink()
    if harm == "longer":
        path.touch()
        os.truncate(path, 1 << 30)
        far.through = ["prlimit", f"--fsize={1 << 24}"]
    elif harm == "pipe":
        os.mkfifo(path)
    elif harm == "link":
        path.with_name("elsewhere").write_bytes(METADATA)
        path.symlink_to("elsewhere")
    elif harm == "directory":
        path.mkdir()
    else:
        os.mknod(path, stat.S_IFSOCK | 0o600)
    result = apply(far, bundle)
    assert (result.status, path.name in result.stderr) == (5, True)
    assert staged(far) == []


def staged(mirror: Mirror) -> list[Path]:
    """What waits in staging."""
    return [path for path in (mirror.directory / ".fastmirror/staging").rglob("*") if not path.is_dir()]


@pytest.mark.parametrize("name", ["manifest", "manifest.sig"])
def test_a_pipe_in_the_place_of_the_manifest_or_its_signature_is_not_waited_for(
    near: Mirror, far: Mirror, keys: Callable[[str], tuple[Path, Path]], name: str
):
    key, allowed = keys("ours")
    bundle = export(near, "1", "--sign-key", str(key))
    (bundle / name).unlink()
    os.mkfifo(bundle / name)
    assert far.run(str(bundle), "--allowed-signers", str(allowed), command="import", timeout_s=20).status == 5


def lose(bundle: Path, filename: str) -> None:
    """Take a file out of a bundle, and out of its manifest, which is whole without it."""
    lines = (bundle / "manifest").read_bytes().splitlines(keepends=True)
    lines = [line for line in lines if f'/{filename}"'.encode() not in line]
    end = {"entries": len(lines) - 2, "sha256": hashlib.sha256(b"".join(lines[:-1])).hexdigest()}
    (bundle / "manifest").write_bytes(b"".join(lines[:-1]) + json.dumps(end).encode() + b"\n")


@pytest.mark.parametrize(
    ("since", "filename"),
    [(["--since", "1"], "six-2.0.tar.gz"), ([], "six-2.0.tar.gz"), ([], "six-1.0-py3-none-any.whl")],
    ids=["not carried", "not carried with everything", "at rest, but to go, as everything is carried"],
)
def test_a_page_without_one_of_its_files_is_refused_and_nothing_changes(
    near: Mirror, index: FakeIndex, far: Mirror, since: list[str], filename: str
):
    apply(far, export(near, "1"))
    index.add_file("six", "six-2.0.tar.gz")
    index.add_file("new", "new-1.0-py3-none-any.whl", metadata=METADATA)
    near.run()
    bundle = export(near, "2", *since)
    manifest = (bundle / "manifest").read_bytes()
    lose(bundle, filename)
    before = stamps(far.web)
    result = apply(far, bundle)
    assert result.status == 5
    assert f"the page of six names a file that is not here: {filename}" in result.stderr
    assert stamps(far.web) == before
    assert staged(far) == []
    export(far, "of what is here")  # it would be refused if it were cut off
    (bundle / "manifest").write_bytes(manifest)
    succeed(apply(far, bundle))
    assert contents(far) == contents(near)


def test_a_page_that_leads_nowhere_is_refused_and_nothing_changes(mirror: Mirror, index: FakeIndex, far: Mirror):
    mirror.settings |= LAYOUTS["flat, with versions"]
    index.add_file("six", "six-1.0-py3-none-any.whl")
    mirror.run()
    bundle = export(mirror)
    page = page_file(mirror, "six", PageFormat.HTML)
    assert page.is_symlink()
    lose(bundle, os.readlink(page))
    result = apply(far, bundle)
    assert (result.status, "simple/six/index.html" in result.stderr) == (5, True)
    assert not page_file(far, "six", PageFormat.HTML).is_symlink()


def test_an_export_that_was_cut_off_is_no_bundle_and_can_be_done_again(near: Mirror, index: FakeIndex, far: Mirror):
    index.add_file("large", "large-1.0.tar.gz", content=b"large" * 8_000_000)
    near.run()
    bundle = near.home / "bundle"
    process = near.start(str(bundle), command="export")
    until(lambda: list(bundle.glob("objects/*/*.new")), "the large file is being copied")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    result = apply(far, bundle)
    assert (result.status, "not finished" in result.stderr) == (5, True)
    succeed(apply(far, export(near)))
    assert contents(far) == contents(near)


def test_what_a_killed_export_was_to_carry_is_carried_by_the_next(near: Mirror, index: FakeIndex, far: Mirror):
    apply(far, export(near, "1"))
    index.add_file("large", "large-1.0.tar.gz", content=b"large" * 8_000_000)
    near.run()
    process = near.start(str(near.home / "2"), "--since", "1", command="export")
    until(lambda: list((near.home / "2").glob("objects/*/*.new")), "the large file is being copied")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    index.add_file("six", "six-2.0.tar.gz")
    near.run()
    succeed(apply(far, export(near, "2", "--since", "1")))
    assert contents(far) == contents(near)


def kill_among_files(far: Mirror, bundle: Path) -> None:
    """Import a bundle, and kill that when a file has its place."""
    before = len(stored(far))
    process = far.start(str(bundle), command="import")
    until(lambda: len(stored(far)) > before, "a file has its place")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_an_import_killed_among_its_files_shows_whole_pages_and_can_be_done_again(
    near: Mirror, index: FakeIndex, far: Mirror
):
    apply(far, export(near, "1"))
    index.fill(40, files=2)
    index.remove_project("attrs")
    near.run()
    bundle = export(near, "2", "--since", "1")
    kill_among_files(far, bundle)
    assert problems(far, None, settled=False, leftovers=True) == []
    succeed(apply(far, bundle))
    assert contents(far) == contents(near)


def test_no_two_bundles_have_one_number_wherever_an_export_is_killed(
    near: Mirror, index: FakeIndex, far: Mirror, tmp_path: Path
):
    apply(far, export(near, "1"))
    index.add_file("six", "six-2.0.tar.gz")
    near.run()
    steps = killed_export(near, tmp_path / "whole", {})
    for when, what in (("before", "commit"), ("after", "commit"), ("before", "own"), ("after", "own")):
        point = {"when": when, "what": what, "number": steps.count(what), "way": "group"}
        assert "struck" in killed_export(near, tmp_path / f"{when}-{what}", point)
    index.add_file("six", "six-3.0.tar.gz")
    near.run()
    last = export(near, "last", "--since", "1")
    found = [read_header(str(path.parent)).number for path in near.home.rglob("manifest")]
    assert sorted(found) == sorted(set(found))
    assert read_header(str(last)).number == max(found)
    succeed(apply(far, last))
    assert contents(far) == contents(near)


def killed_export(near: Mirror, journal: Path, point: dict[str, object]) -> list[str]:
    """What changed since bundle 1, exported into the mirror's directory, where steps are seen; those that it took."""
    journal.mkdir()
    (journal / "point").write_text(json.dumps(point))
    (journal / "directory").write_text(str(near.directory))
    near.environment[JOURNAL], near.module = str(journal), "tests.crashes.probed"
    near.run(str(near.directory / journal.name), "--since", "1", command="export")
    near.module = "fastmirror"
    return [json.loads(line)["what"] for line in (journal / "journal").read_text().splitlines()]


def test_an_export_that_cannot_be_signed_leaves_no_bundle_and_uses_up_no_number(
    near: Mirror, far: Mirror, tmp_path: Path
):
    key = tmp_path / "key"
    key.write_text("not a key\n")
    key.chmod(0o600)
    result = near.run(str(near.home / "bundle"), "--sign-key", str(key), command="export")
    assert (result.status, str(key) in result.stderr) == (2, True)
    assert not (near.home / "bundle/manifest").exists()
    bundle = export(near)
    assert read_header(str(bundle)).number == 1
    succeed(apply(far, bundle))


def test_an_unsigned_bundle_keeps_no_signature_of_another_try(near: Mirror):
    (near.home / "bundle").mkdir()
    (near.home / "bundle/manifest.sig").write_text("of another manifest")
    assert not (export(near) / "manifest.sig").exists()


def test_an_import_killed_on_a_copy_of_the_whole_mirror_can_be_done_again(near: Mirror, index: FakeIndex, far: Mirror):
    export(near, "1")
    shutil.copytree(near.directory, far.directory, symlinks=True)
    index.fill(40, files=2)
    near.run()
    bundle = export(near, "2", "--since", "1")
    kill_among_files(far, bundle)
    succeed(apply(far, bundle))
    assert contents(far) == contents(near)


@pytest.mark.parametrize("place", ["file", "file/below", "link", "/proc", "/proc/nope", "objects"])
def test_where_no_bundle_can_be_written_is_named(near: Mirror, place: str):
    (near.home / "file").touch()
    (near.home / "link").symlink_to("nowhere/at/all")
    (near.home / "objects").mkdir()
    (near.home / "objects/objects").touch()
    result = near.run(str(near.home / place), command="export")
    assert (result.status, str(near.home / place) in result.stderr) == (2, True)


@pytest.mark.parametrize("place", ["mirror/web", "mirror/web/bundle", "way/bundle", "disk/bundle"])
def test_a_bundle_within_what_is_served_is_refused(near: Mirror, place: str):
    (near.web / "packages").rename(near.home / "disk")
    (near.web / "packages").symlink_to(near.home / "disk")
    (near.home / "way").symlink_to(near.web)
    before = stamps(near.web)
    result = near.run(str(near.home / place), command="export")
    assert (result.status, str(near.home / place) in result.stderr) == (2, True)
    assert stamps(near.web) == before
    assert not (near.home / place / "manifest").exists()


def test_a_content_that_was_cut_short_with_an_export_is_written_again(near: Mirror, far: Mirror):
    bundle = export(near)
    (bundle / "manifest").unlink()
    for path in bundle.glob("objects/*/*"):
        os.truncate(path, 0)
    succeed(apply(far, export(near)))
    assert contents(far) == contents(near)


def test_damage_at_rest_is_not_exported(near: Mirror):
    spoil(at_rest(near, "six-1.0-py3-none-any.whl"))
    result = near.run(str(near.home / "bundle"), command="export")
    assert result.status == 1
    assert "six-1.0-py3-none-any.whl" in result.stderr
    assert not (near.home / "bundle/manifest").exists()


def test_a_bundle_of_another_mirror_or_layout_is_refused(near: Mirror, far: Mirror, tmp_path: Path, index: FakeIndex):
    other = Mirror(tmp_path / "other", index.url)
    other.home.mkdir()
    other.settings = {**near.settings, "layout": "flat"}
    other.run()
    bundle = export(other)
    apply(far, export(near))
    before = stamps(far.web)
    result = apply(far, bundle)
    assert (result.status, "layout = flat" in result.stderr) == (2, True)
    assert stamps(far.web) == before
    same = Mirror(tmp_path / "same", index.url)
    same.home.mkdir()
    same.settings = near.settings
    same.run()
    result = apply(far, export(same))
    assert (result.status, "another mirror" in result.stderr) == (5, True)
    assert stamps(far.web) == before


def test_a_copy_of_the_whole_mirror_goes_on_with_bundles(near: Mirror, index: FakeIndex, far: Mirror):
    export(near, "1")
    shutil.copytree(near.directory, far.directory, symlinks=True)
    index.add_file("six", "six-2.0.tar.gz")
    near.run()
    succeed(apply(far, export(near, "2", "--since", "1")))
    assert contents(far) == contents(near)
    assert set(root(far)["projects"]) == {"six", "idna", "attrs"}


@pytest.mark.parametrize("since", ["0", "2", "99", "no-such-directory"])
def test_a_bundle_that_never_was_cannot_be_gone_on_from(near: Mirror, since: str):
    export(near, "1")
    result = near.run(str(near.home / "2"), "--since", since, command="export")
    assert result.status == 2
    assert "--since" in result.stderr


@pytest.fixture
def keys(tmp_path: Path) -> Callable[[str], tuple[Path, Path]]:
    """Makes a key, and the file that allows it as a signer."""

    def make(name: str) -> tuple[Path, Path]:
        key, allowed = tmp_path / name, tmp_path / f"{name}.allowed"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        public = " ".join((tmp_path / f"{name}.pub").read_text().split()[:2])
        allowed.write_text(f'{name}@example.org namespaces="fastmirror" {public}\n')
        return key, allowed

    return make


def test_only_what_an_allowed_signer_has_signed_is_imported(
    near: Mirror, far: Mirror, keys: Callable[[str], tuple[Path, Path]]
):
    key, allowed = keys("ours")
    _, others = keys("theirs")
    signed, unsigned = export(near, "1", "--sign-key", str(key)), export(near, "2")
    for bundle, by in ((signed, others), (unsigned, allowed)):
        result = apply(far, bundle, "--allowed-signers", str(by))
        assert (result.status, "not signed by any of" in result.stderr) == (5, True)
    spoil(signed / "manifest")
    assert apply(far, signed, "--allowed-signers", str(allowed)).status == 5
    spoil(signed / "manifest")  # the same bit turns back
    result = apply(far, signed, "--allowed-signers", str(allowed))
    succeed(result)
    assert "signed by ours@example.org" in result.stdout


def test_a_key_that_cannot_sign_is_named(near: Mirror):
    result = near.run(str(near.home / "1"), "--sign-key", "/nonexistent/key", command="export")
    assert (result.status, "/nonexistent/key" in result.stderr) == (2, True)
    assert not (near.home / "1").exists()
