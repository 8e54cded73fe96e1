"""What the two programs mirror: small upstreams, each with what the filters and options can get hold of."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.fakes.index import FakeIndex

METADATA = b"Metadata-Version: 2.1\nName: demo\nSummary: gr\xc3\xbc\xc3\x9fe\n"
REASON = 'broken <on> "purpose" & m\u00fcde'


ODD_NAMES = (
    "odd-1.0+local.7.tar.gz",
    "odd-1!2.0.tar.gz",
    "odd name-3.0.tar.gz",
    "\u00f6dd-4.0.tar.gz",
    "odd%20name%41-5.0.tar.gz",
    "odd-2004d-final-beta.tar.gz",
    "~odd-(1)[2]{3}-8.0.tar.gz",
)


def varied(index: FakeIndex) -> None:
    """Every attribute of a file, odd names of projects and files, one file in two projects."""
    plain(index)
    for filename in ODD_NAMES:
        index.add_file("odd", filename)


def plain(index: FakeIndex) -> None:
    """`varied` without odd names of files."""
    add = index.add_file
    wheel = "demo_pkg_one-{}-py3-none-any.whl".format
    add("Demo_Pkg.One", wheel("1.0"), metadata=METADATA, requires_python=">=3.8,<4")
    add("Demo_Pkg.One", wheel("1.1"), metadata=b"", provenance={"version": 1})
    add("Demo_Pkg.One", "demo_pkg_one-1.0.tar.gz", yanked=REASON)
    add("Demo_Pkg.One", "demo_pkg_one-1.1.tar.gz", yanked=True, requires_python="!=3.9.*")
    add("Demo_Pkg.One", "demo_pkg_one-3.0.tar.gz", content=b"", requires_python="")
    add("zope.interface", "zope.interface-7.0.tar.gz")
    add("A", "a-0.1.zip")
    add("a-1", "a_1-0.1.zip")
    for name in ("shared-a", "shared-b"):
        add(name, "shared-1.0-py3-none-any.whl", metadata=METADATA, upload_time="2024-05-06T07:08:09.101112Z")


def grow(index: FakeIndex) -> None:
    """What may happen to `plain` between two runs."""
    index.add_file("Demo_Pkg.One", "demo_pkg_one-4.0-py3-none-any.whl", metadata=METADATA)
    index.set_yanked("shared-a", "shared-1.0", "late")
    index.add_file("late", "late-1.0.tar.gz")
    index.touch("A")


FINAL = ("0.9", "1.0", "1.9", "1.10", "2.0", "2.0.post1")
PRERELEASES = ("2.0a1", "2.0b2", "2.0rc1", "2.0.dev3", "2.1b1.post2", "3.0rc1")
VERSIONS = (*FINAL, *PRERELEASES)


def releases(index: FakeIndex) -> None:
    """Versions of every kind; upload times run against the order of versions in `reversed`."""
    for version in VERSIONS:
        index.add_file("Sorted", f"sorted-{version}.tar.gz")
        index.add_file("Sorted", f"sorted-{version}-py3-none-any.whl")
        index.add_file("DuckDB", f"duckdb-{version}.tar.gz")
    first = datetime(2024, 1, 1, tzinfo=UTC)
    for number, version in enumerate(VERSIONS):
        moment = first - timedelta(days=number, microseconds=number)
        index.add_file("reversed", f"reversed-{version}.tar.gz", upload_time=moment.isoformat().replace("+00:00", "Z"))
    for version in ("1!0.1", "1.0+local.1", "1.0", "9.9"):
        index.add_file("epochs", f"epochs-{version}.tar.gz")
    index.add_file("one", "one-1.0.tar.gz")
    for name in ("Sorted", "DuckDB", "reversed"):
        index.set_info(name, version="2.0.post1")
    index.set_info("epochs", version="1!0.1")


def unparsable(index: FakeIndex) -> None:
    """Versions that are not PEP 440's, beside others."""
    for version in ("2004d", "1.0", "1.1", "1.2"):
        index.add_file("old", f"old-{version}.tar.gz")
    for version in ("1x", "2y"):
        index.add_file("older", f"older-{version}.tar.gz")
    index.set_info("old", version="1.2")


_WHEELS = (
    "cp27-cp27mu-manylinux1_x86_64",
    "cp36-cp36m-manylinux1_i686",
    "cp39-cp39-manylinux2014_aarch64",
    "cp310-cp310-manylinux_2_17_x86_64.manylinux2014_x86_64",
    "cp313-cp313-manylinux_2_28_x86_64",
    "cp314-cp314-musllinux_1_2_x86_64",
    "cp39-cp39-linux_armv7l",
    "cp39-cp39-win32",
    "cp39-cp39-win_amd64",
    "cp312-cp312-win_arm64",
    "cp39-cp39-macosx_10_9_x86_64",
    "cp312-cp312-macosx_11_0_arm64",
    "cp39-cp39-freebsd_13_amd64",
    "pp39-pypy39_pp73-manylinux1_x86_64",
    "cp38-abi3-any",
    "py2-none-any",
    "py3-none-any",
    "py2.py3-none-any",
)


def platforms(index: FakeIndex) -> None:
    """Files for many platforms, in every form that a distribution had."""
    for tags in _WHEELS:
        index.add_file("Tags", f"tags-1.0-{tags}.whl")
    for filename in (
        "tags-1.0.tar.gz",
        "tags-1.0.win32-py2.7.exe",
        "tags-1.0.win-amd64-py3.9.exe",
        "tags-1.0.win32-py3.9.msi",
        "tags-1.0-py2.7.egg",
        "tags-1.0-py3.9-macosx-10.9-x86_64.egg",
        "tags-1.0-1.rpm",
        "tags-1.0.dmg",
        "tags-1.0.linux-x86_64.tar.gz",
    ):
        index.add_file("Tags", filename, version="1.0")
    index.add_file("darwin", "darwin-1.0.tar.gz")
    index.add_file("darwin", "darwin-1.0-py3-none-any.whl")
    index.add_file("win32-tools", "win32_tools-1.0.tar.gz")


def emptied(index: FakeIndex) -> None:
    """A project whose newest version has files for one platform alone."""
    for filename in (
        "demo-0.9.zip",
        "demo-1.0.zip",
        "demo-1.1-py3-none-any.whl",
        "demo-2.0a1-cp311-cp311-win_amd64.whl",
    ):
        index.add_file("demo", filename)
    index.set_info("demo", version="1.1")


def described(index: FakeIndex) -> None:
    """Projects that differ in what the legacy API says of them, in size and in number of versions."""
    index.add_file("small", "small-1.0.tar.gz", content=b"s" * 100, requires_python=">=3.6")
    index.add_file("large", "large-1.0.tar.gz", content=b"l" * 3000, requires_python=">=2.7")
    index.add_file("large", "large-1.1.tar.gz", content=b"m" * 3000, requires_python=">=3.10")
    index.add_file("Exempt.One", "exempt_one-1.0.tar.gz", content=b"e" * 9000, requires_python="==3.6.*")
    for number in range(6):
        index.add_file("many", f"many-1.{number}.tar.gz", content=bytes([number]) * 10)
    index.set_info(
        "small", classifiers=["Topic :: Games", "Programming Language :: Python :: 3"], keywords="fun, small"
    )
    index.set_info("large", classifiers=["Topic :: Science"], keywords="", license="GPLv3")
    index.set_info("Exempt.One", classifiers=[], keywords=None, license="MIT", summary="an exemption")
    index.set_info("many", classifiers=["Topic :: Games :: Board"], license=None, keywords="not fun")
