"""Cases for the options of [mirror], and for the commands."""

from __future__ import annotations

import os
from glob import escape
from typing import TYPE_CHECKING
from urllib.parse import quote

from tests.fakes import faults
from tests.parity.beside import Case, Step
from tests.parity.differences import ABSENT, ANY, Difference
from tests.parity.upstreams import ODD_NAMES, grow, plain, varied

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fakes.index import FakeIndex

_MORE = Step(upstream=grow)
_LOGGING = """\
[loggers]
keys = root
[handlers]
keys = file
[formatters]
keys =
[handler_file]
class = FileHandler
args = ("their.log",)
[logger_root]
level = INFO
handlers = file
"""


def _damage(directory: Path) -> None:
    """Other bytes of the same length and time."""
    for path in (directory / "web/packages").rglob("zope.interface-7.0.tar.gz"):
        status = path.stat()
        path.write_bytes(b"x" * status.st_size)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _damage_and_stray(directory: Path) -> None:
    """And a file that no project owns."""
    _damage(directory)
    stray = directory / "web/packages/00/11" / ("2" * 60) / "stray-1.0.tar.gz"
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"stray")


def _truncate_a_document(directory: Path) -> None:
    for path in (directory / "web/json/zope-interface", directory / "web/pypi/zope-interface/json"):
        path.write_bytes(path.read_bytes()[:-20])


def _make_legacy_pages(directory: Path) -> None:
    """As bandersnatch before 4.0 named them."""
    for name in ("Demo_Pkg.One", "demo-pkg.one", "zope.interface"):
        path = directory / "web/simple" / name / "index.html"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("old")


def _touch(*names: str) -> Step:
    def touch(index: FakeIndex) -> None:
        for name in names:
            index.touch(name)

    return Step(upstream=touch)


def _spoil_a_file(index: FakeIndex) -> None:
    index.fault("/packages/*/zope.interface-7.0.tar.gz", faults.wrong_content())


def _spoilt(index: FakeIndex) -> None:
    plain(index)
    _spoil_a_file(index)


def _remove(index: FakeIndex) -> None:
    index.remove_file("Demo_Pkg.One", "demo_pkg_one-1.0.tar.gz", keep_content=True)


_HONEST = "an exit status of 0 says that all was done"
_FROZEN = "one bad project holds up nothing else: bandersnatch does nothing but its `todo` while there is one"
_PARTIAL = "the page has what there is; the project is tried again"
_LEFT = "nothing half-written lies under web/"
_REFRESHED = "what is asked for anew is published as a whole: pages too"
_ESCAPES = "bandersnatch's verify takes a URL's path as it is, fetches the file again, and deletes the good one"
_UNREADABLE = "nothing is deleted for what cannot be read; it is repaired"
_TODO = Difference("todo", "None", ABSENT, "theirs is of no use to its next run, which deletes it")

OPTIONS = (
    Case("the defaults, then changes upstream", varied, steps=(Step(), _MORE)),
    Case("json", varied, "json = true", steps=(Step(), _MORE)),
    Case("hash-index", varied, "hash-index = true\njson = true", steps=(Step(), _MORE)),
    Case("simple-format HTML", varied, "simple-format = html"),
    Case("simple-format JSON", varied, "simple-format = JSON"),
    Case("root_uri", varied, "root_uri = https://files.example"),
    Case("release-files off", varied, "release-files = false\njson = true", steps=(Step(), _MORE)),
    Case(
        "release-files off, with an address of files",
        varied,
        "release-files = false\nroot_uri = https://files.example",
    ),
    Case(
        "core-metadata off",
        varied,
        "core-metadata = false",
        since=8,
        differences=(
            Difference(
                "simple/*/index.v1_json/*/core-metadata", ABSENT, False, "false and no key are the same (PEP 714)"
            ),
        ),
    ),
    Case(
        "digest_name",
        varied,
        "digest_name = md5",
        differences=(
            Difference("simple/*/index.html/*/digest", ANY, ANY, "another digest is added, and never replaces sha256"),
            Difference("simple/*/index.v1_json/*/hash sha256", ABSENT, ANY, "as above"),
        ),
    ),
    Case(
        "keep_index_versions",
        varied,
        "keep_index_versions = 2",
        steps=(Step(), _MORE, _touch("A", "odd"), _touch("A")),
        differences=(
            Difference(
                "simple/*/index.*/", "absolute link", "relative link", "the links hold wherever the tree is mounted"
            ),
        ),
    ),
    Case(
        "keep-index-versions",
        plain,
        "keep-index-versions = 2",
        differences=(
            Difference(
                "simple/*/index.*/", "file", "relative link", "bandersnatch's defaults have this spelling, and it"
            ),
            Difference("simple/*/versions/*/", ABSENT, "file", "reads the other; we read both"),
        ),
    ),
    Case(
        "compare-method stat",
        varied,
        "compare-method = stat",
        steps=(Step(), Step(tree=_damage), _touch("zope.interface")),
    ),
    Case(
        "compare-method hash",
        varied,
        "compare-method = hash",
        steps=(Step(), Step(tree=_damage), _touch("zope.interface")),
        differences=(
            Difference(
                "packages/*/zope.interface-7.0.tar.gz/",
                ANY,
                ANY,
                "theirs hashes a file whenever its project changes; ours trusts its record until it is verified",
            ),
        ),
    ),
    Case("force-check", varied, steps=(Step(), Step(("mirror", "--force-check"), tree=_damage))),
    Case("diff-file", varied, "diff-file = {home}/mirror/mirrored-files", steps=(Step(), _MORE)),
    Case(
        "diff-file by reference, with the time",
        varied,
        "diff-file = {{mirror_directory}}/mirrored-files\ndiff-append-epoch = true",
    ),
    Case("cleanup", varied, "cleanup = true", steps=(Step(tree=_make_legacy_pages),)),
    Case("download-mirror", varied, "download-mirror = {mirror}/", second=varied),
    Case("download-mirror that lacks files", varied, "download-mirror = {mirror}", second=plain),
    Case(
        "download-mirror that lacks files, without another way",
        varied,
        "download-mirror = {mirror}\ndownload-mirror-no-fallback = true",
        second=plain,
        differences=(
            Difference("exit status/0", 0, 1, _HONEST),
            Difference("last-modified/", ABSENT, "file", _FROZEN),
            Difference("status", ABSENT, "1017", _FROZEN),
            Difference("todo", "1017\nodd 1017", ABSENT, _FROZEN),
            Difference("simple/odd/index.*/", ABSENT, "file", _PARTIAL),
            Difference("simple/index.*/odd/", ABSENT, "listed", _PARTIAL),
        ),
    ),
    Case(
        "download-mirror with other bytes",
        plain,
        "download-mirror = {mirror}",
        second=_spoilt,
        differences=(Difference("packages/*/.zope.interface-7.0.tar.gz.*/", ANY, ABSENT, _LEFT),),
    ),
    Case(
        "one file of other bytes, then changes",
        plain,
        steps=(Step(upstream=_spoil_a_file), _MORE),
        differences=(
            Difference("exit status/?", 0, 1, _HONEST),
            Difference("last-modified/", ABSENT, "file", _FROZEN),
            Difference("status", ABSENT, "1014", _FROZEN),
            Difference("todo", "1010\nzope.interface 1006", ABSENT, _FROZEN),
            Difference("packages/*/.zope.interface-7.0.tar.gz.*/", ANY, ABSENT, _LEFT),
            Difference("simple/zope-interface/index.*/", ABSENT, "file", _PARTIAL),
            Difference("simple/index.*/zope-interface/", ABSENT, "listed", _PARTIAL),
            Difference("packages/*/late-1.0.tar.gz/", ABSENT, ANY, _FROZEN),
            Difference("simple/late/index.*/", ABSENT, "file", _FROZEN),
            Difference("simple/index.*/late/", ABSENT, "listed", _FROZEN),
            Difference("packages/*/demo_pkg_one-4.0-py3-none-any.whl*/", ABSENT, ANY, _FROZEN),
            Difference("simple/demo-pkg-one/index.*/demo_pkg_one-4.0-py3-none-any.whl/", ABSENT, "listed", _FROZEN),
            Difference("simple/demo-pkg-one/index.v1_json/version 4.0/", ABSENT, "listed", _FROZEN),
            Difference("simple/demo-pkg-one/index.*/serial", 1005, 1011, _FROZEN),
            Difference("simple/shared-a/index.*/shared-1.0-py3-none-any.whl/*yanked", ANY, "late", _FROZEN),
            Difference("simple/shared-a/index.html/*/data-yanked", ABSENT, "late", _FROZEN),
            Difference("simple/shared-a/index.*/serial", 1009, 1012, _FROZEN),
            Difference("simple/a/index.*/serial", 1007, 1014, _FROZEN),
        ),
    ),
    Case(
        "options that leave no trace",
        varied,
        "timeout = 20\nglobal-timeout = 300.5\nlog-config = {home}/log.conf\nverifiers = 4\ncompare-method = stat\n"
        "storage-backend = filesystem\nstorage-filesystem-manage-permissions = false\ncleanup_todo = true\n"
        "delete_missing_packages = true\ndelete-packages = true\ndownload-mirror-no-fallback = false\nproxy =\n"
        "stop-on-error = true",
        files={"log.conf": _LOGGING},
    ),
    Case("sync", varied, steps=(Step(("sync", "Demo_Pkg.One", "A")),), differences=(_TODO,)),
    Case(
        "sync without the root index",
        varied,
        steps=(Step(), Step(("sync", "--skip-simple-root", "late"), upstream=grow)),
        differences=(_TODO,),
    ),
    Case("verify", plain, "json = true", steps=(Step(), Step(("verify",), tree=_damage)), https=True, since=8),
    Case(
        "verify --delete",
        plain,
        "json = true",
        since=8,
        steps=(Step(), Step(upstream=_remove), Step(("verify", "--delete"), tree=_damage_and_stray)),
        https=True,
        differences=(
            Difference(
                "packages/*/demo_pkg_one-1.0.tar.gz/",
                ABSENT,
                ANY,
                "readers of the last page have an hour: delete-grace",
            ),
        ),
    ),
    Case(
        "verify --delete with odd names",
        varied,
        "json = true",
        steps=(Step(), Step(("verify", "--delete"))),
        https=True,
        differences=tuple(
            Difference(f"packages/*/{glob}/", theirs, ours, _ESCAPES)
            for names, theirs, ours in ((ODD_NAMES, ABSENT, ANY), (map(quote, ODD_NAMES), ANY, ABSENT))
            for glob in (escape(name) for name in names if quote(name) != name or "%" in name)
        ),
    ),
    Case(
        "verify --delete with an unreadable document",
        plain,
        "json = true",
        steps=(Step(), Step(("verify", "--delete"), tree=_truncate_a_document)),
        https=True,
        differences=(
            Difference("packages/*/zope.interface-7.0.tar.gz/", ABSENT, ANY, _UNREADABLE),
            Difference("*/zope-interface*/document", "unreadable", ANY, _UNREADABLE),
        ),
    ),
    Case(
        "verify --dry-run",
        plain,
        "json = true",
        since=8,
        steps=(Step(), Step(("verify", "--dry-run", "--delete"), tree=_damage)),
        https=True,
        differences=(Difference("exit status/1", 0, 1, _HONEST),),
    ),
    Case(
        "verify --json-update",
        plain,
        "json = true",
        since=8,
        steps=(Step(), Step(("verify", "--json-update", "--workers", "2"), upstream=grow)),
        https=True,
        differences=(
            Difference("simple/a/index.*/serial", 1007, 1014, _REFRESHED),
            Difference("simple/demo-pkg-one/index.*/serial", 1005, 1011, _REFRESHED),
            Difference("simple/demo-pkg-one/index.*/demo_pkg_one-4.0-py3-none-any.whl/", ABSENT, "listed", _REFRESHED),
            Difference("simple/demo-pkg-one/index.v1_json/version 4.0/", ABSENT, "listed", _REFRESHED),
            Difference("simple/shared-a/index.*/serial", 1009, 1012, _REFRESHED),
            Difference("simple/shared-a/index.*/shared-1.0-py3-none-any.whl/*yanked", ANY, "late", _REFRESHED),
            Difference("simple/shared-a/index.html/*/data-yanked", ABSENT, "late", _REFRESHED),
            Difference("pypi/*/json/document", ANY, ANY, "theirs leaves the second copy of a document as it was"),
        ),
    ),
    Case(
        "delete",
        plain,
        "json = true",
        steps=(Step(), Step(("delete", "--workers", "2", "Demo_Pkg.One", "A"))),
        https=True,
        differences=tuple(
            Difference(f"simple/index.*/{name}/", "listed", ABSENT, "what is deleted is not listed")
            for name in ("a", "demo-pkg-one")
        ),
    ),
    Case(
        "delete --dry-run",
        plain,
        "json = true",
        steps=(Step(), Step(("delete", "--dry-run", "Demo_Pkg.One"))),
        https=True,
    ),
)
