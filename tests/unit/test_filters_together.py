"""Filters on odd and on large pages, in company, and those that third parties bring."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import pytest

from fastmirror.errors import PageError, SettingsError
from fastmirror.filters import Filters, Listing
from fastmirror.filters.metadata import RangeRule, is_in_range
from fastmirror.filters.versions import Versions, parsed
from fastmirror.model import File
from fastmirror.names import NormalizedName
from fastmirror.settings_file import parse_settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from fastmirror.settings import Settings

SIX = NormalizedName("six")


def settings(plugins: str, text: str = "", **overrides: str) -> Settings:
    enabled = "".join(f"\n  {line.strip()}" for line in plugins.splitlines())
    whole = f"[mirror]\ndirectory = /srv/pypi\n[plugins]\nenabled ={enabled}\n{text}"
    return parse_settings(whole, source="FILE", overrides=overrides)


def filters(plugins: str, text: str = "") -> Filters:
    return Filters(pickle.loads(pickle.dumps(settings(plugins, text).filters)))


def file(filename: str, **keys: Any) -> File:
    keys = {key.replace("_", "-"): value for key, value in keys.items()}
    return File(filename, f"https://files.example/{filename}", "sha256", "0" * 64, 1, None, keys)


def page(*files: File, versions: Sequence[str] | None = None, document: Any = None) -> Listing:
    return Listing(SIX, files, versions, document)


def left(by: Filters, listing: Listing) -> tuple[list[str], list[str] | None]:
    """The files and the versions that are left."""
    narrowed = by.narrow(listing)
    assert narrowed is not None
    return [one.filename for one in narrowed.files], None if narrowed.versions is None else list(narrowed.versions)


# In company


def test_the_newest_are_counted_among_versions_that_file_filters_leave():
    by = filters("latest_release\nexclude_platform", "[latest_release]\nkeep = 1\n[blocklist]\nplatforms = py2")
    listing = page(file("six-1.0.zip"), file("six-2.0-py2-none-any.whl"), versions=["0.1", "1.0", "2.0", "3.0"])
    assert left(by, listing) == (["six-1.0.zip"], ["1.0"])


def test_the_newest_are_counted_whatever_other_release_filters_leave():
    by = filters("latest_release\nregex_release", "[latest_release]\nkeep = 2\n[filter_regex]\nreleases = 3")
    listing = page(*(file(f"six-{number}.zip") for number in (1, 2, 3)), versions=["1", "2", "3"])
    assert left(by, listing) == (["six-2.zip"], ["2"])


def test_by_time_a_fraction_of_a_second_counts():
    by = filters("latest_release", "[latest_release]\nkeep = 1\nsort_by = time")
    one = file("six-1.0a1.zip", upload_time="2026-01-01T12:00:00.5Z")
    other = file("six-1.1a1.zip", upload_time="2026-01-01T12:00:00Z", yanked="oops")
    assert left(by, page(one, other)) == (["six-1.0a1.zip"], None)


def test_comments_end_lines_in_every_list():
    text = "[filter_regex]\nreleases =\n  2  # both\n  3 # of them\n[blocklist]\nplatforms = py2 # old"
    by = filters("regex_release  # some\n# none\nexclude_platform", text)
    listing = page(*(file(f"six-{number}.zip") for number in (1, 2, 3)), file("six-4-py2-none-any.whl"))
    assert left(by, listing)[0] == ["six-1.zip"]
    name = "version_range_release_file_metadata"
    by = filters(name, f"[{name}]\nrelease_file.requires_python =\n  3.7 # old\n  3.8")
    assert left(by, page(file("six-1.zip", requires_python=">=3.9"), file("six-2.zip", requires_python="<3.8")))[0] == [
        "six-2.zip"
    ]


def test_a_future_python_is_a_platform_too():
    assert left(
        filters("exclude_platform", "[blocklist]\nplatforms = py3.15"),
        page(file("six-1-cp315-cp315-musllinux_1_2_x86_64.whl"), file("six-1-cp31-none-any.whl")),
    )[0] == ["six-1-cp31-none-any.whl"]


@pytest.mark.parametrize(
    "name", ["regex_project_metadata", "regex_release_file_metadata", "version_range_release_file_metadata"]
)
def test_a_condition_without_patterns_would_leave_nothing_and_is_refused(name):
    with pytest.raises(SettingsError, match=rf"^FILE:8: \[{name}\] info\.license: '': expected at least one"):
        settings(name, f"[{name}]\n# why\ninfo.license =\n")


# Odd and large pages


def test_a_version_of_thousands_of_digits_is_none():
    assert parsed("9" * 5000) is None
    by = filters("latest_release\nprerelease_release", "[latest_release]\nkeep = 1")
    assert left(by, page(file("six-1.zip"), versions=["1", "9" * 5000])) == (["six-1.zip"], ["1"])


def test_the_longest_of_the_listed_versions_that_a_name_begins_with_is_its_files():
    versions = Versions(SIX, ["1.0", "1.0-x", "1.0-x.2", "1"])
    names = ("six-1.0-x-py2.7.egg", "six-1.0-x.2-py2.7.egg", "six-1.0-y-py2.7.egg", "six-1.0-x.2.win32.exe")
    assert [versions.of(name).version for name in names] == ["1.0-x", "1.0-x.2", "1.0", "1.0-x.2"]


def test_files_of_one_release_are_found_in_the_document_wherever_they_stand():
    name = "regex_release_file_metadata"
    by = filters(name, f"[{name}]\nnot-null:release_file.comment_text = yes")
    entries = [{"filename": "six-1.zip", "comment_text": "no"}, {"filename": "six-1.whl", "comment_text": "yes"}]
    document = {"releases": {"1": [None, {}, *entries], "2": None}}
    assert left(by, page(file("six-1.zip"), file("six-1.whl"), document=document))[0] == ["six-1.whl"]


def test_a_range_holds_for_every_file_that_says_the_same():
    rule = RangeRule(("release_file", "requires_python"), True, ("3.7",))
    facts = [{"release_file": {"requires_python": text}} for text in (">=3.6", ">=3.8", ">=3.6", "junk")]
    assert [is_in_range(rule, one) for one in facts] == [True, False, True, True]


@pytest.mark.parametrize("text", [">=" + "9" * 5000, "==1!" + "9" * 5000 + ".*", ">=3" + ",>=3" * 500_000])
def test_a_specifier_that_no_parser_takes_is_none(text):
    rule = RangeRule(("release_file", "requires_python"), True, ("2.7",))
    assert is_in_range(rule, {"release_file": {"requires_python": text}})


# Of third parties

SOURCE = '''
def first(section):
    """Keep versions that begin with what the section says."""
    def narrow(listing):
        return listing._replace(files=[one for one in listing.files if one.filename.startswith(section["prefix"])])
    narrow.needs_document = "document" in section
    return narrow

def adding(section):
    return lambda listing: listing._replace(files=[*listing.files, listing.files[0]._replace(filename="evil.zip")])

def denying(section):
    return lambda listing: None if listing.name == "six" else listing

def failing(section):
    return lambda listing: 1 // 0

def broken(section):
    raise LookupError("no such thing")

def nothing(section):
    return None
'''


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A distribution that brings filters."""
    (tmp_path / "strange_filters.py").write_text(SOURCE)
    facts = tmp_path / "strange_filters-1.2.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: strange-filters\nVersion: 1.2\n")
    names = ("first", "adding", "denying", "failing", "broken", "nothing")
    points = [f"{name} = strange_filters:{name}" for name in names] + ["absent = strange_filters:absent"]
    (facts / "entry_points.txt").write_text("\n".join(["[fastmirror.filters]", *points]))
    monkeypatch.syspath_prepend(str(tmp_path))
    return facts


PAGE = page(file("six-1.0.zip"), file("six-1.1.zip"), file("six-2.0.zip"), versions=["1.0", "1.1", "2.0"])


@pytest.mark.usefixtures("installed")
def test_a_third_partys_filter_narrows_once_it_is_enabled():
    section = "[first]\nprefix = six-1\n"
    assert settings("first", section).warnings == ()
    assert left(filters("first", section), PAGE) == (["six-1.0.zip", "six-1.1.zip"], ["1.0", "1.1"])
    assert not filters("first", section).needs_document
    assert filters("first", section + "document = yes").needs_document
    by = filters("prerelease_release", section)
    assert by.narrow(PAGE) is not None
    assert left(by, PAGE)[0] == [one.filename for one in PAGE.files]


@pytest.mark.usefixtures("installed")
def test_a_third_partys_section_may_be_set_on_the_command_line():
    given = settings("", **{"plugins.enabled": "first", "first.prefix": "six-2"})
    assert left(Filters(given.filters), PAGE)[0] == ["six-2.0.zip"]


@pytest.mark.usefixtures("installed")
def test_filters_of_third_parties_add_no_files_and_all_of_them_must_keep_one():
    section = "[first]\nprefix = six-1\n"
    for order in ("first\nadding", "adding\nfirst"):
        assert left(filters(order, section), PAGE)[0] == ["six-1.0.zip", "six-1.1.zip"]
    assert filters("first\ndenying", section).narrow(PAGE) is None


@pytest.mark.usefixtures("installed")
def test_a_third_partys_filter_that_fails_fails_the_project_alone():
    with pytest.raises(PageError, match=r"^filter failing failed: ZeroDivisionError: "):
        filters("failing").narrow(PAGE)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("name", ["broken", "nothing", "absent"])
def test_a_third_partys_filter_that_cannot_be_loaded_is_an_error_of_the_settings(name):
    with pytest.raises(SettingsError, match=f"'{name}' \\(strange_filters:{name}\\): "):
        settings(name)
    assert settings("").warnings == ()


def test_the_digest_covers_a_third_partys_name_release_and_section(installed: Path):
    def digests(section: Mapping[str, str], plugins: str = "first") -> tuple[str, str]:
        by = filters(plugins, "[first]\nprefix = x\n" + "".join(f"{key} = {text}\n" for key, text in section.items()))
        return by.digest(SIX), by.narrowing

    seen = {digests({}), digests({"level": "3"}), digests({"level": "4"}), digests({}, "first\nadding")}
    metadata = installed / "METADATA"
    metadata.write_text(metadata.read_text().replace("1.2", "1.3"))
    newer = installed.rename(installed.with_name("strange_filters-1.3.dist-info"))
    assert newer.exists()
    seen.add(digests({}))
    assert len(seen) == 5


def test_all_enables_what_third_parties_bring_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "lone_filter.py").write_text("def make(section):\n    return lambda listing: None\n")
    facts = tmp_path / "lone_filter-1.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: lone-filter\nVersion: 1\n")
    (facts / "entry_points.txt").write_text("[fastmirror.filters]\nlone = lone_filter:make\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    whole = "[mirror]\ndirectory = /srv/pypi\n[plugins]\nenabled = all\n[lone]\nkey = value\n"
    given = parse_settings(whole, source="FILE", allow_empty=True)
    assert [plugin.name for plugin in given.filters.plugins] == ["lone"]
    assert not any("[lone]" in warning for warning in given.warnings)
    assert Filters(given.filters).narrow(PAGE) is None
