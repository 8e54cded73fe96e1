"""The filters: what each keeps of a project, as bandersnatch's of the same name does, and where ours is mended."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmirror.errors import SettingsError
from fastmirror.filters import Filters, Listing
from fastmirror.filters.requirements import Files
from fastmirror.filters.versions import Versions
from fastmirror.filters.vocabulary import NAMES
from fastmirror.model import File
from fastmirror.names import NormalizedName
from fastmirror.settings_file import parse_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

FOO = NormalizedName("foo-bar")
RANGE = "version_range_release_file_metadata"


def filters(
    enabled: str, *lines: str, files: Mapping[str, bytes] | None = None, allow_empty: bool = False
) -> tuple[Filters, tuple[str, ...]]:
    """The filters of a configuration, as a worker gets them, and the warnings."""
    contents = files or {}

    def read(path: str) -> bytes:
        if path not in contents:
            raise FileNotFoundError(2, "No such file or directory", path)
        return contents[path]

    text = "\n".join(["[mirror]", "directory = /srv/pypi", "[plugins]", f"enabled = {enabled.split()[0]}"])
    text += "".join(f"\n    {name}" for name in enabled.split()[1:]) + "\n" + "\n".join(lines)
    found = Files(read, lambda pattern: sorted(path for path in contents if path.startswith(pattern.rstrip("*"))))
    settings = parse_settings(text, source="FILE", files=found, allow_empty=allow_empty)
    return Filters(pickle.loads(pickle.dumps(settings.filters))), settings.warnings


def file(filename: str, **keys: Any) -> File:
    keys = {key.replace("_", "-"): value for key, value in keys.items()}
    return File(filename, f"https://files.example/{filename}", "sha256", "0" * 64, keys.get("size"), None, keys)


def releases(*versions: str, **keys: Any) -> Listing:
    return Listing(FOO, [file(f"foo_bar-{version}.tar.gz", **keys) for version in versions], versions)


def kept(narrowing: Filters, listing: Listing) -> list[str] | None:
    """The files that stay, as versions of their source distributions or by name."""
    narrowed = narrowing.narrow(listing)
    if narrowed is None:
        return None
    return [one.filename.removeprefix("foo_bar-").removesuffix(".tar.gz") for one in narrowed.files]


# Versions of files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("filename", "version", "packagetype"),
    [
        ("foo_bar-1.0-py3-none-any.whl", "1.0", "bdist_wheel"),
        ("foo_bar-1.0-1-py3-none-any.whl", "1.0", "bdist_wheel"),
        ("foo_bar-1.0a1+cu_118-py3-none-any.whl", "1.0a1+cu.118", "bdist_wheel"),
        ("foo-bar-1.0.tar.gz", "1.0", "sdist"),
        ("Foo.Bar-1.0.zip", "1.0", "sdist"),
        ("foo-bar-1.0-beta-2.tar.bz2", "1.0-beta-2", "sdist"),
        ("foo-bar-final-cut.tgz", "final-cut", "sdist"),
        ("foo_bar-1.0-py2.7.egg", "1.0", "bdist_egg"),
        ("foo_bar-1.0-py2.7-win32.egg", "1.0", "bdist_egg"),
        ("foo-bar-1.0.win32-py2.7.exe", "1.0", "bdist_wininst"),
        ("foo-bar-1.0.win-amd64.msi", "1.0", "bdist_msi"),
        ("foo-bar-1.0-1.noarch.rpm", "1.0", "bdist_rpm"),
        ("foo-bar-1.0.linux-x86_64.tar.gz", "1.0", "bdist_dumb"),
        ("foo-bar-1.0.macosx-10.9-x86_64.dmg", "1.0", "bdist_dmg"),
        ("other-1.0.tar.gz", "", "sdist"),
    ],
)
@pytest.mark.parametrize("listed", [True, False])
def test_a_files_name_tells_its_version_and_its_kind(filename, version, packagetype, listed):
    known = ("1.0", "1.0a1+cu.118", "1.0-beta-2", "final-cut", "1") if listed else None
    told = Versions(FOO, known).of(filename)
    assert told.packagetype == packagetype
    if listed or version[:1].isdigit():
        assert told.version.replace("-cu-", "+cu.") == version or not listed


def test_a_version_is_spelt_as_the_page_spells_it():
    assert Versions(FOO, ["1.0.0", "1.1-rc1"]).of("foo_bar-1.0-py3-none-any.whl").version == "1.0.0"
    assert Versions(FOO, ["1.0.0", "1.1-rc1"]).of("foo_bar-1.1rc1-py3-none-any.whl").version == "1.1-rc1"


# Projects -------------------------------------------------------------------------------------------------


def test_an_allowlist_keeps_its_projects_whatever_their_specifiers():
    narrowing, _ = filters("allowlist_project", "[allowlist]", "packages =", "    Foo.Bar>=1.0", "    ptr # why")
    assert set(narrowing.names or ()) == {"foo-bar", "ptr"}
    assert narrowing.keeps(FOO)
    assert not narrowing.keeps(NormalizedName("six"))
    assert narrowing.digest(FOO) == ""


def test_a_blocklist_drops_bare_names_alone():
    narrowing, _ = filters("blocklist_project", "[blocklist]", "packages =", "    Foo_Bar", "    six>=0")
    assert not narrowing.keeps(FOO)
    assert narrowing.keeps(NormalizedName("six"))


def test_a_pattern_drops_projects_by_either_spelling_from_the_beginning():
    narrowing, _ = filters("regex_project", "[filter_regex]", "packages =", "    .+-nightly(-|$)", "    Py")
    assert narrowing.selects
    assert not narrowing.keeps(NormalizedName("tf-nightly"))
    assert not narrowing.keeps(NormalizedName("pyx"), "PyX")
    assert narrowing.keeps(NormalizedName("pyx"), "pyX")


def test_requirement_files_are_an_allowlist_of_projects():
    lines = ["[allowlist]", "requirements_path = /req", "requirements =", "    a.txt # of one", "    b*"]
    files = {"/req/a.txt": b"Foo.Bar==1.0\n", "/req/b1.txt": b"six\n", "/req/b2.txt": b"idna\n"}
    narrowing, _ = filters("project_requirements", *lines, files=files)
    assert set(narrowing.names or ()) == {"foo-bar", "six", "idna"}


def test_both_lists_together_keep_what_is_in_both():
    lines = ["[allowlist]", "packages =", "    six", "    idna", "requirements = r.txt"]
    narrowing, _ = filters("allowlist_project project_requirements", *lines, files={"r.txt": b"idna\nfoo"})
    assert set(narrowing.names or ()) == {"idna"}


# Versions -------------------------------------------------------------------------------------------------


def test_allowed_versions_stay_and_all_of_an_unlisted_project_go():
    narrowing, _ = filters("allowlist_release", "[allowlist]", "packages =", "    foo-bar>=1.0,<2", "    foo-bar==0.1")
    assert kept(narrowing, releases("0.1", "0.5", "1.0", "1.5rc1", "2.0", "odd")) == ["0.1", "1.0", "1.5rc1"]
    other = releases("1.0")._replace(name=NormalizedName("six"))
    assert kept(narrowing, other) == []


@pytest.mark.case(29)
def test_blocked_versions_go_and_what_is_no_version_stays():
    narrowing, _ = filters("blocklist_release", "[blocklist]", "packages =", "    foo-bar<1", "    six")
    assert kept(narrowing, releases("0.1", "1.0", "odd")) == ["1.0", "odd"]
    six = Listing(NormalizedName("six"), [file("six-1.0.tar.gz")], ["1.0"])
    assert kept(narrowing, six) == []


def test_pinned_requirements_decide_alone():
    lines = ["[allowlist]", "requirements = r.txt", "[latest_release]", "keep = 1"]
    files = {"r.txt": b"foo-bar==1.0 --hash=sha256:00 \\\n  --hash=sha256:11\nsix\n"}
    narrowing, _ = filters("project_requirements_pinned latest_release", *lines, files=files)
    assert kept(narrowing, releases("1.0", "2.0")) == ["1.0"]
    six = Listing(NormalizedName("six"), [file("six-1.0.tar.gz"), file("six-2.0.tar.gz")], ["1.0", "2.0"])
    assert kept(narrowing, six) == ["six-2.0"]
    assert kept(narrowing, six._replace(name=NormalizedName("idna"))) == []


def test_patterns_drop_versions_from_the_beginning():
    narrowing, _ = filters("regex_release", "[filter_regex]", "releases =", r"    .+\.post\d", "    2")
    assert kept(narrowing, releases("1.0", "1.0.post1", "2.0", "1.2")) == ["1.0", "1.2"]


PRERELEASES = ["1.0a", "1.0c1", "1.0-beta.1", "1.0b1.post2", "1.0rc1", "1.0.dev3", "odd-rc1", "odd-alpha2"]


def test_prereleases_are_those_of_pep_440_and_of_bandersnatchs_patterns():
    narrowing, _ = filters("prerelease_release")
    assert kept(narrowing, releases("1.0", "1.0.post1", "odd", *PRERELEASES)) == ["1.0", "1.0.post1", "odd"]


def test_the_list_of_prerelease_packages_matches_normalised_names():
    narrowing, _ = filters("prerelease_release", "[filter_prerelease]", "packages =", "    Foo.Bar")
    assert kept(narrowing, releases("1.0", "1.1rc1")) == ["1.0"]
    assert narrowing.digest(NormalizedName("six")) == ""


@pytest.mark.parametrize(
    ("keep", "versions", "expected"),
    [
        (1, ["1.0", "2.0"], ["2.0"]),
        (2, ["1.10", "1.9", "1.2"], ["1.10", "1.9"]),
        (1, ["1.0", "2.0rc1"], ["1.0"]),  # PyPI shows 1.0, and it takes the last place
        (3, ["1.0", "odd"], ["1.0"]),
        (1, ["odd"], ["odd"]),
        (9, ["1.0", "2.0"], ["1.0", "2.0"]),
    ],
)
def test_the_latest_versions_stay_and_always_the_one_that_pypi_shows(keep, versions, expected):
    narrowing, _ = filters("latest_release", "[latest_release]", f"keep = {keep}")
    assert kept(narrowing, releases(*versions)) == expected


def test_the_latest_versions_may_be_told_by_time():
    times = {"1.0": "2024-03-01T00:00:00Z", "2.0": "2024-01-01T00:00:00Z", "0.9": "2024-02-01T00:00:00Z"}
    files = [file(f"foo_bar-{version}.tar.gz", upload_time=time) for version, time in times.items()]
    narrowing, _ = filters("latest_release", "[latest_release]", "keep = 2", "sort_by = time")
    assert kept(narrowing, Listing(FOO, files, list(times))) == ["1.0", "2.0"]  # 2.0 is shown by PyPI


@pytest.mark.case(29)
def test_versions_that_lost_their_files_leave_the_page():
    narrowing, _ = filters("latest_release", "[latest_release]", "keep = 1")
    narrowed = narrowing.narrow(releases("1.0", "2.0"))
    assert narrowed is not None
    assert narrowed.versions == ["2.0"]


# Files ----------------------------------------------------------------------------------------------------

PLATFORM_FILES = [
    "foo_bar-1.0.tar.gz", "foo-bar-win32-1.0.tar.gz", "foo_bar-1.0-py3-none-any.whl",
    "foo_bar-1.0-cp39-cp39-win_amd64.whl", "foo_bar-1.0-cp39-cp39-macosx_10_9_x86_64.whl",
    "foo_bar-1.0-cp39-cp39-manylinux2014_x86_64.whl", "foo_bar-1.0-cp310-cp310-musllinux_1_1_x86_64.whl",
    "foo_bar-1.0-py2.7.egg", "foo-bar-1.0.win32.exe", "foo-bar-1.0-1.noarch.rpm", "foo_bar-1.0-py2.py3-none-any.whl",
]  # fmt: skip


@pytest.mark.parametrize(
    ("tags", "dropped"),
    [
        ("windows", {3, 8}),
        ("Win", {3, 8}),
        ("macos", {4}),
        ("linux", {5, 6, 9}),
        ("musllinux", {6}),
        ("py3.9", {3, 4, 5}),
        ("py3.1", set()),
        ("py2", {7, 10}),  # as in bandersnatch
        ("py2.7", {7}),
        ("py3.15 any", set()),
    ],
)
def test_platforms_are_told_from_names_and_source_distributions_stay(tags, dropped):
    narrowing, _ = filters("exclude_platform", "[blocklist]", f"platforms = {tags}")
    listing = Listing(FOO, [file(name) for name in PLATFORM_FILES], ["1.0"])
    narrowed = narrowing.narrow(listing)
    assert narrowed is not None
    gone = {place for place, one in enumerate(listing.files) if one not in narrowed.files}
    assert gone == dropped


def test_an_unknown_platform_is_warned_of():
    _, warnings = filters("exclude_platform", "[blocklist]", "platforms = windowss")
    assert warnings == (
        "FILE:6: [blocklist] platforms: 'windowss': unknown platform, ignored (did you mean 'windows'?)",
    )


def test_a_range_of_versions_keeps_files_for_them():
    lines = ["[version_range_release_file_metadata]", "any:release_file.requires_python =", "    3.6", "    3.7"]
    narrowing, _ = filters("version_range_release_file_metadata", *lines)
    assert not narrowing.needs_document
    wanted = [">=3.6", "<3.7", None, "", "no specifier at all"]
    files = [file(f"foo_bar-{place}.tar.gz", requires_python=text) for place, text in enumerate([*wanted, ">=3.8"])]
    assert kept(narrowing, Listing(FOO, files, None)) == ["0", "1", "2", "3", "4"]


def test_not_null_drops_files_that_say_nothing():
    lines = ["[version_range_release_file_metadata]", "not-null:release_file.requires_python = 3.6"]
    narrowing, _ = filters("version_range_release_file_metadata", *lines)
    files = [file("foo_bar-1.tar.gz"), file("foo_bar-2.tar.gz", requires_python=">=3")]
    assert kept(narrowing, Listing(FOO, files, None)) == ["2"]


def test_a_files_metadata_is_matched_by_patterns():
    lines = ["[regex_release_file_metadata]", "any:release_file.packagetype =", "    sdist", "    bdist_wheel"]
    narrowing, _ = filters("regex_release_file_metadata", *lines)
    files = [file(name) for name in PLATFORM_FILES]
    narrowed = narrowing.narrow(Listing(FOO, files, ["1.0"]))
    assert narrowed is not None
    assert [files.index(one) for one in files if one not in narrowed.files] == [7, 8, 9]


# Metadata of projects -------------------------------------------------------------------------------------

DOCUMENT: dict[str, Any] = {
    "info": {"name": "foo-bar", "classifiers": ["Topic :: A", "Topic :: B"], "license": None, "yanked": False},
    "releases": {"1.0": [], "2.0": []},
}


@pytest.mark.parametrize(
    ("key", "patterns", "stays"),
    [
        ("info.classifiers", ["Topic :: B"], True),
        ("info.classifiers", ["B"], False),  # from the beginning
        ("info.classifiers", ["Topic :: X", "Topic :: A"], True),
        ("all:info.classifiers", ["Topic :: X", "Topic :: A"], False),
        ("all:info.classifiers", ["Topic :: B", "Topic :: A"], True),
        ("none:info.classifiers", ["Topic :: X"], True),
        ("none:info.classifiers", ["Topic :: A"], False),
        ("info.license", ["MIT"], True),
        ("not-null:info.license", ["MIT"], False),
        ("none:info.license", ["MIT"], False),  # as in bandersnatch
        ("info.no.such", ["x"], True),
        ("info.yanked", ["False"], True),  # what is no text is matched as text
    ],
)
def test_a_projects_metadata_is_matched_by_patterns(key, patterns, stays):
    lines = ["[regex_project_metadata]", f"{key} =", *(f"    {pattern}" for pattern in patterns)]
    narrowing, _ = filters("regex_project_metadata", *lines)
    assert narrowing.needs_document
    assert (narrowing.narrow(releases("1.0")._replace(document=DOCUMENT)) is not None) is stays


def test_search_matches_anywhere():
    lines = ["[regex_project_metadata]", "search = true", "info.classifiers = B"]
    narrowing, _ = filters("regex_project_metadata", *lines)
    assert narrowing.narrow(releases("1.0")._replace(document=DOCUMENT)) is not None


@pytest.mark.parametrize(("largest", "stays"), [("2k", True), ("1 KB", False), ("2000", True), ("1999", False)])
def test_a_project_that_is_too_large_goes_unless_it_is_allowlisted(largest, stays):
    section = ["[size_project_metadata]", f"max_package_size = {largest}"]
    narrowing, _ = filters("size_project_metadata", *section)
    assert not narrowing.needs_document
    assert (kept(narrowing, releases("1.0", "2.0", size=1000)) is not None) is stays
    exempting, _ = filters("size_project_metadata", *section, "[allowlist]", "packages = Foo_Bar")
    assert kept(exempting, releases("1.0", "2.0", size=1000)) == ["1.0", "2.0"]


@pytest.mark.parametrize(("fewest", "most", "stays"), [(0, 2, True), (3, 0, False), (0, 1, False), (2, 2, True)])
def test_versions_are_counted(fewest, most, stays):
    lines = ["[versions_count_project_metadata]", f"min_versions = {fewest}", f"max_versions = {most}"]
    narrowing, _ = filters("versions_count_project_metadata", *lines)
    assert (kept(narrowing, releases("1.0")._replace(document=DOCUMENT)) is not None) is stays


# What is refused, and what is warned of -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["allowlist_release", "project_requirements_pinned", "all"])
def test_filters_that_would_leave_nothing_are_refused(name):
    with pytest.raises(SettingsError, match=r"FILE:4: \[plugins\] enabled: .* nothing would be left"):
        filters(name)
    narrowing, _ = filters(name, allow_empty=True)
    assert kept(narrowing, releases("1.0")) == []


@pytest.mark.parametrize(
    ("enabled", "lines", "said"),
    [
        ("regex_project", ["[filter_regex]", "packages =", "    a", "    (b"], r"FILE:8: .*'\(b': expected a regular"),
        ("regex_release", ["[filter_regex]", "releases = *"], r"FILE:6: .*'\*': expected a regular expression"),
        ("blocklist_release", ["[blocklist]", "packages =", "    six >"], "FILE:7: .*'six >': expected a requirement"),
        ("regex_project_metadata", ["[regex_project_metadata]", "info.x = ("], "FILE:6: .*expected a regular"),
        (
            "version_range_release_file_metadata",
            ["[version_range_release_file_metadata]", "x = y"],
            "FILE:6: .*a version",
        ),
        ("project_requirements", ["[allowlist]", "requirements = no.txt"], "FILE:6: .*cannot read 'no.txt'"),
    ],
)
def test_what_cannot_be_used_is_named_with_its_line(enabled, lines, said):
    with pytest.raises(SettingsError, match=said):
        filters(enabled, *lines)


@pytest.mark.parametrize(
    ("enabled", "lines"),
    [
        ("latest_release", []),
        ("latest_release", ["[latest_release]", "keep = some"]),
        ("size_project_metadata", []),
        ("size_project_metadata", ["[size_project_metadata]", "max_package_size = huge"]),
        ("versions_count_project_metadata", ["[versions_count_project_metadata]", "min_versions=3", "max_versions=2"]),
        ("exclude_platform", []),
        ("regex_project_metadata", []),
        ("allowlist_project", []),
    ],
)
def test_a_filter_without_what_it_needs_is_warned_of_and_keeps_everything(enabled, lines):
    narrowing, warnings = filters(enabled, *lines)
    assert len(warnings) == 1
    assert narrowing.digest(FOO) == ""
    assert narrowing.keeps(FOO)


# Laws -----------------------------------------------------------------------------------------------------

EVERYTHING = """
[allowlist]
packages =
    foo-bar>=0.2
[blocklist]
packages =
    foo-bar==1.0
platforms = windows py2.7
[filter_prerelease]
packages = foo-bar
[filter_regex]
releases = .+post
[latest_release]
keep = 3
[size_project_metadata]
max_package_size = 1G
[version_range_release_file_metadata]
any:release_file.requires_python = 3.9
[regex_release_file_metadata]
none:release_file.filename = .*bad
[regex_project_metadata]
match-null:info.license = MIT
""".splitlines()
ALL_BUT_FILES = [name for name in NAMES if not name.startswith("project_requirements")]

versions = st.sampled_from(["0.1", "0.2", "1.0", "1.0.post1", "1.1rc1", "2.0", "odd", "", "1.0-x"])
endings = st.sampled_from([".tar.gz", "-py3-none-any.whl", "-cp39-cp39-win_amd64.whl", ".exe", "-bad.zip", ""])
values = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.lists(st.text(max_size=3)))
entries = st.builds(
    lambda version, ending, requires: file(f"foo_bar-{version}{ending}", requires_python=requires),
    versions,
    endings,
    values,
)
documents = st.one_of(st.none(), st.dictionaries(st.sampled_from(["info", "releases", "urls"]), values))
listings = st.builds(
    Listing,
    st.just(FOO),
    st.lists(entries, max_size=8),
    st.one_of(st.none(), st.lists(versions, unique=True)),
    documents,
)


@pytest.mark.case(29)
@given(listings, st.lists(st.sampled_from(ALL_BUT_FILES), min_size=1, unique=True))
def test_filters_never_raise_never_add_and_change_nothing_the_second_time(listing: Listing, enabled: list[str]):
    narrowing, _ = filters(" ".join(enabled), *EVERYTHING)
    narrowed = narrowing.narrow(listing)
    if narrowed is not None:
        assert [one for one in listing.files if one in narrowed.files] == list(narrowed.files)
        assert narrowed.versions is None or set(narrowed.versions) <= set(listing.versions or ())


@given(listings, st.permutations(ALL_BUT_FILES))
def test_the_order_of_filters_does_not_matter(listing: Listing, enabled: list[str]):
    assert filters(" ".join(enabled), *EVERYTHING)[0].narrow(listing) == filters(
        " ".join(sorted(enabled)), *EVERYTHING
    )[0].narrow(listing)


def test_a_changed_line_changes_the_digest_of_its_own_project_alone():
    before, _ = filters("allowlist_release", "[allowlist]", "packages =", "    foo-bar>=1", "    six")
    after, _ = filters("allowlist_release", "[allowlist]", "packages =", "    foo-bar>=2", "    six")
    assert before.digest(FOO) != after.digest(FOO)
    assert before.digest(NormalizedName("six")) == after.digest(NormalizedName("six"))
    assert before.narrowing != after.narrowing


def test_without_filters_nothing_is_narrowed():
    narrowing, _ = filters("blocklist_project", "[blocklist]", "packages = six")
    listing = releases("1.0")
    assert narrowing.narrow(listing) is listing
    assert (narrowing.narrowing, narrowing.shape("base", FOO)) == ("", "base")


DIGITS = "9" * 5000  # more than Python reads


def test_a_file_that_requires_a_version_of_thousands_of_digits_passes_as_one_that_requires_nonsense() -> None:
    narrowing, _ = filters(RANGE, f"[{RANGE}]", "any:release_file.requires_python = 3.12")
    assert kept(narrowing, releases("1.0", requires_python=f">={DIGITS}")) == ["1.0"]


def test_a_number_of_releases_of_thousands_of_digits_is_none() -> None:
    _, warnings = filters("latest_release", "[latest_release]", f"keep = {DIGITS}")
    assert "[latest_release] keep is no number of releases" in warnings[0]


def test_a_pattern_with_a_count_of_thousands_of_digits_is_refused() -> None:
    with pytest.raises(SettingsError, match="expected a regular expression"):
        filters("regex_project", "[filter_regex]", f"packages = a{{{DIGITS}}}")
